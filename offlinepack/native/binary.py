"""Model one native binary of a wheel, and compute the path at which it will be installed."""

from __future__ import annotations

import posixpath
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SITE_PACKAGES = "lib/python/site-packages"
"""folder of the modules of a wheel below the environment; its X.Y does not matter for paths between files"""

EXTENSION_PATTERN = re.compile(r"([^/.]+)(\.cpython-[^/]*|\.pypy[^/]*|\.abi3|\.abi3t|\.cp3[^/]*)?\.(so|pyd)\Z")
"""file name of an extension module on any system; the first group is the name of the module"""


@dataclass(frozen=True)
class Binary:
    """An ELF, PE or Mach-O file of a wheel; of a universal file, the part of one architecture."""

    path: str
    """path below the environment: lib/python/site-packages/..., bin/..."""
    system: str
    """system of the format: linux, windows or macos"""
    machine: str
    """machine as in wheel tags; '' if no tag exists for it"""
    soname: str
    needed_libraries: tuple[str, ...]
    symbol_versions: tuple[tuple[str, tuple[str, ...]], ...]
    """soname -> symbol versions that are needed of it: ("libc.so.6", ("GLIBC_2.17", "GLIBC_2.34"))"""
    search_paths: tuple[str, ...]
    """unexpanded RPATH or RUNPATH"""
    is_extension: bool
    """extension module: Python loads it by name, with everything that it needs"""
    is_program: bool
    is_always_loaded: bool
    """certainly loaded: a module that is imported with a top-level one, or a program in bin"""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the store caches."""
        return {
            "path": self.path,
            "system": self.system,
            "machine": self.machine,
            "soname": self.soname,
            "needed": list(self.needed_libraries),
            "versions": [[soname, list(symbols)] for soname, symbols in self.symbol_versions],
            "search": list(self.search_paths),
            "module": self.is_extension,
            "program": self.is_program,
            "starts": self.is_always_loaded,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Binary:
        """Read what `to_json` wrote."""
        return cls(
            path=stored["path"],
            system=stored["system"],
            machine=stored["machine"],
            soname=stored["soname"],
            needed_libraries=tuple(stored["needed"]),
            symbol_versions=tuple((soname, tuple(symbols)) for soname, symbols in stored["versions"]),
            search_paths=tuple(stored["search"]),
            is_extension=stored["module"],
            is_program=stored["program"],
            is_always_loaded=stored["starts"],
        )


def get_installed_path(member: str) -> str:
    """Return the path of an installed member, `.data` folders by their scheme (binary distribution format)."""
    top, _, rest = member.partition("/")
    if top.endswith(".data"):
        key, _, inner = rest.partition("/")
        folder = {
            "scripts": "bin",
            "data": "",
            "headers": "include",
            "purelib": SITE_PACKAGES,
            "platlib": SITE_PACKAGES,
        }.get(key, SITE_PACKAGES)
        return posixpath.normpath(posixpath.join(folder, inner))
    return posixpath.normpath(posixpath.join(SITE_PACKAGES, member))


def unpack_struct(form: str, data: Any, at: int) -> tuple[Any, ...]:
    """Unpack a struct at an offset of anything that supports slices; raise struct.error if the data ends before."""
    return struct.unpack(form, data[at : at + struct.calcsize(form)])
