"""Write and check the documents of a bundle: README, hashed requirements and PEP 751 locks.

A document for other tools must say exactly what the target plan in the manifest says. The target side never reads it.
"""

from __future__ import annotations

import json
import re
import string
import tomllib
import urllib.parse
from collections.abc import Mapping
from importlib import resources
from typing import Any

from offlinepack.bundle.layout import README, README_ZH, make_pylock_name, make_requirements_name
from offlinepack.errors import Finding, IntegrityError, Text, error, text
from offlinepack.ontarget.errors import ENGLISH, Messages
from offlinepack.ontarget.manifest import SDISTS, Facts, File, Manifest, TargetPlan
from offlinepack.targets.model import Target

_PLATFORM_MACHINES = {
    "i686": ("i386", "i586", "i686", "x86_64"),
    "armv6l": ("armv6l", "armv7l", "armv8l", "aarch64"),
    "armv7l": ("armv7l", "armv8l", "aarch64"),
    "amd64": ("AMD64", "ARM64"),
    "x86": ("AMD64", "ARM64", "x86"),
    ("windows", "arm64"): ("ARM64",),
}
"""Values of platform_machine, which names the kernel or processor: a 32-bit Python can run on a 64-bit kernel."""

_SYS_PLATFORMS = {"linux": "linux", "macos": "darwin", "windows": "win32"}


def make_documents(manifest: Manifest, urls: Mapping[str, str]) -> dict[str, bytes]:
    """Return the documents of a bundle (path -> bytes).

    `manifest` lists wheels and sdists; `urls` maps a path to its public address.
    """
    files = {file.path: file for file in manifest.files}
    written = {
        README: _format_readme(manifest, "en", ENGLISH).encode(),
        README_ZH: b"\xef\xbb\xbf" + _format_readme(manifest, "zh", _load_chinese()).encode(),
    }
    written = {name: data.replace(b"\n", b"\r\n") for name, data in written.items()}
    for target in manifest.targets:
        written[make_requirements_name(target.tag)] = format_requirements(target, files).encode("ascii")
        written[make_pylock_name(target.tag)] = _format_toml(make_pylock(target, files, urls)).encode()
    return written


def format_requirements(target: TargetPlan, files: Mapping[str, File]) -> str:
    """Format pins with hashes for `pip install --no-index --find-links wheels -r`."""
    return "".join((f"# {target.tag}: {_format_pip_command(target)}\n", *_format_pins(target, files)))


def _format_pins(target: TargetPlan, files: Mapping[str, File]) -> list[str]:
    listed = sorted(target.install)
    return [
        f"{distribution.name}=={distribution.version} --hash=sha256:{files[distribution.file].sha256}\n"
        for distribution in listed
    ]


def _format_pip_command(target: TargetPlan) -> str:
    # tools/ holds the build requirements of the sdists
    has_sdists = any(distribution.file.startswith(SDISTS) for distribution in target.install)
    sources = " --find-links sdists --find-links tools" if has_sdists else ""
    return f"pip install --no-index --find-links wheels{sources} -r {make_requirements_name(target.tag)}"


def make_pylock(target: TargetPlan, files: Mapping[str, File], urls: Mapping[str, str]) -> dict[str, Any]:
    """Make the lock of one target (PEP 751), without markers: each package with its one file, its path and public
    URL.
    """
    packages = []
    for distribution in sorted(target.install):
        package: dict[str, Any] = {"name": distribution.name, "version": distribution.version}
        if distribution.requires:
            package["dependencies"] = [{"name": name} for name in sorted(distribution.requires)]
        name = distribution.file.rpartition("/")[2]
        entry: dict[str, Any] = {"name": name}
        if is_public_url(urls.get(distribution.file, ""), name):
            entry["url"] = urls[distribution.file]
        entry |= {
            "path": distribution.file,
            "size": files[distribution.file].size,
            "hashes": {"sha256": files[distribution.file].sha256},
        }
        package |= {"wheels": [entry]} if name.endswith(".whl") else {"sdist": entry}
        packages.append(package)
    major, minor = target.facts.python.split(".")[:2]
    return {
        "lock-version": "1.0",
        "environments": [_format_environment(target.facts)],
        "requires-python": f">={target.python_min},<{major}.{int(minor) + 1}",
        "created-by": "offlinepack",
        "packages": packages,
    }


def _format_environment(facts: Facts) -> str:
    machines = (
        _PLATFORM_MACHINES.get((facts.os, facts.machine)) or _PLATFORM_MACHINES.get(facts.machine) or (facts.machine,)
    )
    condition = " or ".join(f"platform_machine == '{machine}'" for machine in machines)
    condition = f"({condition})" if len(machines) > 1 else condition
    platform = _SYS_PLATFORMS[facts.os]
    return f"implementation_name == '{facts.implementation}' and sys_platform == '{platform}' and {condition}"


def is_public_url(url: str, name: str) -> bool:
    """Check whether a URL holds only the public address of this file: no account, query, port or fragment."""
    plain = re.fullmatch(r"https://[a-z0-9.-]+/[A-Za-z0-9._~%!$&'()*+,=:/-]+", url)
    return bool(plain) and urllib.parse.unquote(url.rpartition("/")[2]) == name


def _format_toml(lock: Mapping[str, Any]) -> str:
    """Format a lock as TOML; its strings have no control characters, so JSON strings are TOML strings."""

    def value(member: Any) -> str:
        if isinstance(member, dict):
            return "{" + ", ".join(f"{key} = {value(inner)}" for key, inner in member.items()) + "}"
        if isinstance(member, list):
            return "[" + ", ".join(value(inner) for inner in member) + "]"
        return json.dumps(member, ensure_ascii=False)

    lines = [f"{key} = {value(member)}" for key, member in lock.items() if key != "packages"]
    if not lock["packages"]:
        lines.append("packages = []")
    for package in lock["packages"]:
        lines += ["", "[[packages]]", *(f"{key} = {value(member)}" for key, member in package.items())]
    return "\n".join(lines) + "\n"


def check_document(path: str, data: bytes, manifest: Manifest) -> list[Finding]:
    """Compare a pylock or requirements file with the target plan in the manifest."""
    files = {file.path: file for file in manifest.files}
    for target in manifest.targets:
        if path == make_requirements_name(target.tag):
            return _check_requirements(path, data, _format_pins(target, files))
        if path == make_pylock_name(target.tag):
            return _check_pylock(path, data, target, files)
    return [_make_difference_finding(path, text("no target of this bundle has such a file"))]


def _make_difference_finding(path: str, difference: Text) -> Finding:
    return error(
        "plan-differs",
        path,
        "{subject} says something else than the manifest: {what}.",
        "Do not install from this bundle, with whatever tool; ask who made it.",
        what=difference,
    )


def _check_requirements(path: str, data: bytes, pins: list[str]) -> list[Finding]:
    # pip takes the encoding from a comment (PEP 263), so such a comment is part of the content
    lines = data.decode("latin-1").splitlines(keepends=True)
    pins_found = [line for line in lines if not re.fullmatch(r"#[ -\[\]-~]*\n", line) or "coding" in line]
    return _compare_lines(path, [*pins_found], pins)


def _compare_lines(path: str, lines: list[str], planned: list[str]) -> list[Finding]:
    more = [line for line in lines if line not in planned][:5]
    less = [line for line in planned if line not in lines][:5]
    findings = [_make_difference_finding(path, text("{line} stands there", line=line.strip()[:200])) for line in more]
    findings += [_make_difference_finding(path, text("{line} is not there", line=line.strip()[:200])) for line in less]
    if not findings and lines != planned:
        findings.append(_make_difference_finding(path, text("a line stands there twice, or not in order")))
    return findings


def _check_pylock(path: str, data: bytes, target: TargetPlan, files: Mapping[str, File]) -> list[Finding]:
    if len(data) > 4096 * (len(target.install) + 1) + sum(len(name) for d in target.install for name in d.requires) * 4:
        return [_make_difference_finding(path, text("it is far too long"))]
    if any(
        part.count(b".") > 40 for part in data.split(b"=")
    ):  # a key with a thousand dots makes the TOML parser very slow
        return [_make_difference_finding(path, text("it is not in its one form"))]
    try:
        return _compare_pylock(path, tomllib.loads(data.decode()), target, files)
    except (ValueError, RecursionError):
        return [_make_difference_finding(path, text("it is not TOML"))]


def _compare_pylock(
    path: str, document: dict[str, Any], target: TargetPlan, files: Mapping[str, File]
) -> list[Finding]:
    urls = {}
    listed = document.get("packages")
    for package in listed if isinstance(listed, list) else []:
        package = package if isinstance(package, dict) else {}
        wheels = package.get("wheels")
        entry = wheels[0] if isinstance(wheels, list) and wheels else package.get("sdist")
        if isinstance(entry, dict) and isinstance(entry.get("url"), str) and isinstance(entry.get("path"), str):
            urls[entry["path"]] = entry["url"]
    planned = make_pylock(target, files, urls)
    if _format_canonical(document) == _format_canonical(planned):
        return []
    if not isinstance(listed, list):
        return [_make_difference_finding(path, text("it lists no packages"))]
    findings = _compare_lines(
        path,
        [_format_canonical(package) for package in listed],
        [_format_canonical(package) for package in planned["packages"]],
    )
    rest = {**document, "packages": []}, {**planned, "packages": []}
    if rest[0] != rest[1]:
        keys = sorted(key for key in {*document, *planned} if rest[0].get(key) != rest[1].get(key))
        findings.append(_make_difference_finding(path, text("{keys} differs", keys=keys)))
    return findings or [_make_difference_finding(path, text("it is not in its one form"))]


def read_public_urls(locks: Mapping[str, bytes], manifest: Manifest) -> dict[str, str]:
    """Read the public address of each wheel and sdist from pylock files (path -> bytes).

    Raises IntegrityError if a lock differs from the manifest.
    """
    findings = [finding for path, data in locks.items() for finding in check_document(path, data, manifest)]
    if findings:
        raise IntegrityError(*findings)
    packages = [package for data in locks.values() for package in tomllib.loads(data.decode())["packages"]]
    files = [file for package in packages for file in (*package.get("wheels", ()), package.get("sdist", {}))]
    return {file["path"]: file["url"] for file in files if "url" in file}


def _format_canonical(package: Any) -> str:
    # JSON keeps 1, 1.0 and true apart; == does not
    return json.dumps(package, sort_keys=True, default=repr)


def _load_chinese() -> Messages:
    table = resources.files("offlinepack") / "messages.zh.json"
    messages: dict[str, str] = json.loads(table.read_text("utf-8")) if table.is_file() else {}
    return messages


_DEFAULT_LOCATION = text("to the virtual environment that is active, else to .venv in the working directory")


def _format_readme(manifest: Manifest, language: str, words: Messages) -> str:
    template = (resources.files("offlinepack.bundle") / f"readme.{language}.txt").read_text("utf-8")
    title = f"{manifest.name} {manifest.version}" if manifest.version else manifest.name
    systems = {target.facts.os for target in manifest.targets}
    commands = []
    if systems - {"windows"}:
        commands += ["python3 install.py --venv DIR", "sh install.sh --venv DIR"]
    if "windows" in systems:
        commands += ["install.cmd --venv DIR", "py install.py --venv DIR"]
    place = text("to {place}", place=manifest.install_to) if manifest.install_to else _DEFAULT_LOCATION
    hand = [_format_pip_command(target) for target in manifest.targets]
    hand += [f"uv pip sync --offline {make_pylock_name(target.tag)}" for target in manifest.targets]
    return string.Template(template).substitute(
        title=title,
        rule="=" * max(len(title) + 2, 20),
        name=manifest.name,
        of_version=f" {manifest.version}" if manifest.version else "",
        targets="\n".join(_describe_target(target, words) for target in manifest.targets),
        install="\n".join(f"       {command}" for command in commands),
        default=place.render(words),
        bin="DIR\\Scripts" if systems == {"windows"} else "DIR/bin",
        by_hand="\n".join(f"       {command}" for command in hand),
    )


def _describe_target(target: TargetPlan, words: Messages) -> str:
    machine = Target(target.name, target.facts).description.render(words)
    more = text(
        "asked for as {name}; Python {python} or newer; {count} distributions",
        name=target.name,
        python=target.python_min,
        count=len(target.install),
    ).render(words)
    return f"   - {machine}\n     ({more})"
