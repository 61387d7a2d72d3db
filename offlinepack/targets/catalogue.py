"""Load the catalogue of named systems and the known releases of CPython and PyPy."""

from __future__ import annotations

import re
import tomllib  # type: ignore[import-not-found,unused-ignore]
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from offlinepack.errors import UsageError, error
from offlinepack.targets.platforms import Platform, normalize_machine


@dataclass(frozen=True)
class System:
    """Entry of the catalogue: a release of an operating system as its vendor ships it."""

    name: str
    title: str
    os: str
    machines: tuple[str, ...]
    """machines in wheel tag spelling; the first is the default"""
    libc: str | None = None
    libc_version: str | None = None
    macos_version: str | None = None
    pythons: tuple[str, ...] = ()
    """Python versions (X.Y) that the vendor offers"""
    default: str | None = None
    """default Python version (X.Y)"""
    own_python: str | None = None
    """X.Y.Z of the system's own interpreter, if it does not change during the life of the release"""
    synonyms: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """fact -> address of the document that states it"""

    def make_platform(self, machine: str) -> Platform:
        """Return the platform of this system on a machine."""
        return Platform(self.os, machine, self.libc, self.libc_version, self.macos_version)


@cache
def load_data_file(name: str) -> dict[str, Any]:
    """Load a TOML file of this package."""
    loaded: dict[str, Any] = tomllib.loads(Path(__file__).with_name(name).read_text("utf-8"))
    return loaded


@cache
def load_catalogue() -> tuple[System, ...]:
    """Load all systems of the catalogue, in the order of the data file."""
    entries: list[dict[str, Any]] = load_data_file("catalogue.toml")["system"]
    lists = ("machines", "pythons", "synonyms")
    return tuple(System(**{**entry, **{key: tuple(entry.get(key, ())) for key in lists}}) for entry in entries)


def find_newest_patch(python: str, implementation: str) -> str:
    """Return the newest known patch release X.Y.Z of X.Y, or X.Y.0 if none is known; return X.Y.Z unchanged."""
    versions = [
        version
        for version in load_data_file("pythons.toml")[implementation]["versions"]
        if version.rpartition(".")[0] == python
    ]
    return versions[0] if versions else python if python.count(".") == 2 else python + ".0"


@cache
def load_pypy_releases() -> dict[str, str]:
    """Map the Python version of each PyPy release to the version of PyPy."""
    pypy = load_data_file("pythons.toml")["pypy"]
    return dict(zip(pypy["versions"], pypy["own"], strict=True))


def find_system(written: str) -> tuple[System, str] | None:
    """Find a system by name or synonym and the machine that is written or the default; None if there is no such system.

    Raises UsageError if the system does not run on that machine.
    """
    match = re.fullmatch(r"([a-z]+)[-_]?([\d.]*)(?:-(\w+))?", written.strip().lower())
    if not match:
        return None
    family, version = load_data_file("catalogue.toml")["families"].get(match[1], match[1]), match[2]
    names = {name: system for system in load_catalogue() for name in (system.name, *system.synonyms)}
    while family + version not in names and "." in version:  # rocky8.9 counts as rhel8
        version = version.rpartition(".")[0]
    system = names.get(family + version)
    if system is None:
        return None
    machine = normalize_machine(system.os, match[3]) if match[3] else system.machines[0]
    if machine not in system.machines:
        raise UsageError(
            error(
                "unknown-machine",
                written,
                "{title} is not known on a machine called {machine}.",
                "Known are {machines}; for another one write the platform, as in cp311-manylinux_2_28_x86_64.",
                title=system.title,
                machine=match[3],
                machines=list(system.machines),
            )
        )
    return system, machine
