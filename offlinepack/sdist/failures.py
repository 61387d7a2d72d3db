"""Explain from the log of a build why it failed, and which command installs what was missing."""

from __future__ import annotations

import re
import tomllib  # type: ignore[import-not-found,unused-ignore]
from functools import cache
from pathlib import Path
from typing import Any

from offlinepack.errors import Text, text

_HEADER_PATTERN = re.compile(r"fatal error: ['\"]?([\w./+-]+)['\"]?(?:: No such file| file not found)")

_LIBRARY_PATTERN = re.compile(r"ld(?:\.\w+)?: cannot find -l([\w+-]+)")

_NETWORK_PATTERN = re.compile(
    r"Temporary failure in name resolution|Name or service not known|Network is unreachable|urlopen error|"
    r"Could not resolve host|failed to get `[\w-]+` as a dependency|download of .* failed|Failed to establish a new"
)

_MODULE_PATTERN = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")

_INSTALL_COMMANDS = {
    "apt": "apt install {}",
    "dnf": "dnf install {}",
    "yum": "yum install {}",
    "zypper": "zypper install {}",
    "apk": "apk add {}",
}

_PACKAGE_KINDS = {"apt": "apt", "dnf": "rpm", "yum": "rpm", "zypper": "rpm", "apk": "apk"}


def explain_failure(log: str, python: str, system: Path = Path("/")) -> Text | None:
    """Explain what a build lacked, with the command that installs it on the system with this root; None if unknown."""
    for program in _load_table()["program"]:
        if re.search(program["pattern"], log):
            return _describe_missing(text("{name} is missing", name=program["name"]), program, python, system)
    header = _HEADER_PATTERN.search(log)
    if header:
        return _describe_missing(
            text("the header file {name} is missing", name=header[1]), _find_packages(header[1]), python, system
        )
    library = _LIBRARY_PATTERN.search(log)
    if library:
        packages = _find_packages(_load_table()["library"].get(library[1], ""))
        return _describe_missing(
            text("the library {name} is missing", name=f"lib{library[1]}"), packages, python, system
        )
    if _NETWORK_PATTERN.search(log):
        return text("it wants to download something while it is built, and could not")
    module = _MODULE_PATTERN.findall(log)
    if module:
        return text("its build needs the module {name} and does not say so", name=module[-1])
    return None


def get_last_lines(log: str, count: int = 20) -> str:
    """Return the last non-empty lines of a log, each cut at 300 characters."""
    lines = [line.rstrip()[:300] for line in log.replace("\r", "\n").splitlines() if line.strip()]
    return "\n".join(lines[-count:])


def _describe_missing(reason: Text, packages: dict[str, Any], python: str, system: Path) -> Text:
    manager = _detect_package_manager(system)
    package = packages.get(_PACKAGE_KINDS.get(manager, ""))
    if not package:
        return reason
    command = _INSTALL_COMMANDS[manager].format(package.format(python=python))
    return text("{what}: {command}", what=reason, command=command)


def _find_packages(name: str) -> dict[str, Any]:
    headers: dict[str, dict[str, Any]] = _load_table()["header"]
    parts = name.split("/")
    for at in range(len(parts)):
        short = "/".join(parts[at:])
        package = headers.get(short) or headers.get(f"{parts[at]}/*" if at + 1 < len(parts) else "")
        if package:
            return package
    return {}


def _detect_package_manager(system: Path) -> str:
    for name in ("apt", "dnf", "yum", "zypper", "apk"):
        if any((system / folder / name).exists() for folder in ("usr/bin", "sbin", "bin")):
            return name
    release = system / "etc/os-release"
    content = release.read_text("utf-8", "replace") if release.is_file() else ""
    for word, name in (("debian", "apt"), ("ubuntu", "apt"), ("suse", "zypper"), ("alpine", "apk"), ("rhel", "dnf")):
        if word in content:
            return name
    return "dnf" if "fedora" in content else ""


@cache
def _load_table() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(Path(__file__).with_name("failures.toml").read_text("utf-8"))
    return loaded
