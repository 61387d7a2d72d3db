"""One binary of a wheel, whatever its format, and where it will lie."""

from __future__ import annotations

import posixpath
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SITE = "lib/python/site-packages"
"""where a wheel's modules lie below the environment; the X.Y in it does not matter for paths between files"""

EXTENSION = re.compile(r"([^/.]+)(\.cpython-[^/]*|\.pypy[^/]*|\.abi3|\.abi3t|\.cp3[^/]*)?\.(so|pyd)\Z")
"""the file name of an extension module on any system; its first group is the module's name"""


@dataclass(frozen=True)
class Binary:
    """One ELF, PE or Mach-O file of a wheel; of a universal one, one architecture's part."""

    path: str
    """where it lies below the environment: lib/python/site-packages/..., bin/..."""
    system: str
    """whose format it is: linux, windows or macos"""
    machine: str
    """as in wheel tags; '' where no wheel has a tag for it"""
    soname: str
    needed: tuple[str, ...]
    versions: tuple[tuple[str, tuple[str, ...]], ...]
    """soname -> symbol versions that are wanted of it: ("libc.so.6", ("GLIBC_2.17", "GLIBC_2.34"))"""
    search: tuple[str, ...]
    """RPATH or RUNPATH, as they stand"""
    module: bool
    """an extension module: Python loads it by name, with all that it needs"""
    program: bool
    starts: bool
    """loaded for certain: a module that is imported with a top-level one, a program in bin"""

    def to_json(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {
            "path": self.path,
            "system": self.system,
            "machine": self.machine,
            "soname": self.soname,
            "needed": list(self.needed),
            "versions": [[soname, list(symbols)] for soname, symbols in self.versions],
            "search": list(self.search),
            "module": self.module,
            "program": self.program,
            "starts": self.starts,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Binary:
        """Read what `to_json` wrote."""
        return cls(
            path=kept["path"],
            system=kept["system"],
            machine=kept["machine"],
            soname=kept["soname"],
            needed=tuple(kept["needed"]),
            versions=tuple((soname, tuple(symbols)) for soname, symbols in kept["versions"]),
            search=tuple(kept["search"]),
            module=kept["module"],
            program=kept["program"],
            starts=kept["starts"],
        )


def installed(member: str) -> str:
    """Binary distribution format: where the installer puts a member, `.data` folders by their scheme key."""
    top, _, rest = member.partition("/")
    if top.endswith(".data"):
        key, _, below = rest.partition("/")
        folder = {"scripts": "bin", "data": "", "headers": "include", "purelib": SITE, "platlib": SITE}.get(key, SITE)
        return posixpath.normpath(posixpath.join(folder, below))
    return posixpath.normpath(posixpath.join(SITE, member))


def at_place(form: str, data: Any, at: int) -> tuple[Any, ...]:
    """The struct of this form at this place of anything that gives slices; struct.error where that ends before."""
    return struct.unpack(form, data[at : at + struct.calcsize(form)])
