"""Why a build failed, from its log, and what would help on the computer where it ran."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from offlinepack.errors import Text, text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

_HEADER = re.compile(r"fatal error: ['\"]?([\w./+-]+)['\"]?(?:: No such file| file not found)")

_LIBRARY = re.compile(r"ld(?:\.\w+)?: cannot find -l([\w+-]+)")

_NETWORK = re.compile(
    r"Temporary failure in name resolution|Name or service not known|Network is unreachable|urlopen error|"
    r"Could not resolve host|failed to get `[\w-]+` as a dependency|download of .* failed|Failed to establish a new"
)

_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")

_INSTALL = {
    "apt": "apt install {}",
    "dnf": "dnf install {}",
    "yum": "yum install {}",
    "zypper": "zypper install {}",
    "apk": "apk add {}",
}

_KINDS = {"apt": "apt", "dnf": "rpm", "yum": "rpm", "zypper": "rpm", "apk": "apk"}


def explain(log: str, python: str, system: Path = Path("/")) -> Text | None:
    """What the build lacked, and the command of this system (its root folder) that brings it; None: unknown."""
    for program in _table()["program"]:
        if re.search(program["pattern"], log):
            return _missing(text("{name} is missing", name=program["name"]), program, python, system)
    header = _HEADER.search(log)
    if header:
        return _missing(
            text("the header file {name} is missing", name=header[1]), _of_header(header[1]), python, system
        )
    library = _LIBRARY.search(log)
    if library:
        packages = _of_header(_table()["library"].get(library[1], ""))
        return _missing(text("the library {name} is missing", name=f"lib{library[1]}"), packages, python, system)
    if _NETWORK.search(log):
        return text("it wants to download something while it is built, and could not")
    module = _MODULE.findall(log)
    if module:
        return text("its build needs the module {name} and does not say so", name=module[-1])
    return None


def last_lines(log: str, count: int = 20) -> str:
    """The end of a log, as much as a person reads; lines cut at 300 characters."""
    lines = [line.rstrip()[:300] for line in log.replace("\r", "\n").splitlines() if line.strip()]
    return "\n".join(lines[-count:])


def _missing(what: Text, packages: dict[str, Any], python: str, system: Path) -> Text:
    manager = _manager(system)
    package = packages.get(_KINDS.get(manager, ""))
    if not package:
        return what
    command = _INSTALL[manager].format(package.format(python=python))
    return text("{what}: {command}", what=what, command=command)


def _of_header(name: str) -> dict[str, Any]:
    headers: dict[str, dict[str, Any]] = _table()["header"]
    parts = name.split("/")
    for at in range(len(parts)):
        short = "/".join(parts[at:])
        found = headers.get(short) or headers.get(f"{parts[at]}/*" if at + 1 < len(parts) else "")
        if found:
            return found
    return {}


def _manager(system: Path) -> str:
    for name in ("apt", "dnf", "yum", "zypper", "apk"):
        if any((system / folder / name).exists() for folder in ("usr/bin", "sbin", "bin")):
            return name
    release = system / "etc/os-release"
    said = release.read_text("utf-8", "replace") if release.is_file() else ""
    for word, name in (("debian", "apt"), ("ubuntu", "apt"), ("suse", "zypper"), ("alpine", "apk"), ("rhel", "dnf")):
        if word in said:
            return name
    return "dnf" if "fedora" in said else ""


@cache
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(Path(__file__).with_name("failures.toml").read_text("utf-8"))
    return loaded
