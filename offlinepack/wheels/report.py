"""Model the report on a wheel: metadata, top-level modules and entry points."""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from offlinepack.errors import Finding, IntegrityError, error
from offlinepack.ontarget.archive import ArchiveError, unpack_entry
from offlinepack.ontarget.destinations import iter_destinations
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel, WheelMember
from offlinepack.store import StoredFile

if TYPE_CHECKING:
    from offlinepack.wheels.metadata import WheelMetadata


@dataclass(frozen=True)
class WheelReport:
    """A wheel that the strict reader took."""

    file: StoredFile
    metadata_header: str
    """METADATA without the description"""
    path_roots: tuple[str, ...]
    """the first two parts of every path that it writes; wheels without one in common cannot clash"""
    notes: tuple[Finding, ...] = ()

    @cached_property
    def metadata(self) -> WheelMetadata:
        """What its METADATA says of what has to stand beside it."""
        from offlinepack.wheels.metadata import parse_metadata

        return parse_metadata(self.metadata_header)

    @cached_property
    def checked_wheel(self) -> CheckedWheel:
        """The wheel as the strict reader sees it."""
        return read_wheel(self.file.path, filename=self.file.name)


_MODULE_PATTERN = re.compile(r"(.+?)(?:\.(?:cpython-[\w-]+|pypy[\w-]+|cp\d+t?-\w+|abi3t?))?\.(?:py|pyc|so|pyd)\Z")


class EntryPoint(NamedTuple):
    """What a command, or a plugin's host, will import."""

    name: str
    module: str
    is_module_only: bool
    """no attribute is named, so that the last part may be one: fsspec takes package.Class"""


@dataclass(frozen=True)
class WheelModules:
    """A wheel that the strict reader took, and its metadata; what may be wrong in that is passed over."""

    wheel: CheckedWheel
    requires_python: SpecifierSet
    requirements: tuple[Requirement, ...]
    extras: tuple[str, ...]

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Where its files lie below site-packages."""
        return tuple(place[5:] for place, _, _ in iter_destinations(self.wheel) if place.startswith("site/"))

    @cached_property
    def _module_sets(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Modules, those of them that are packages, and folders that may be packages without saying so."""
        modules, packages, folders = set[str](), set[str](), dict[str, bool]()
        for place in self.paths:
            parent, _, name = place.rpartition("/")
            if parent not in folders:
                parts = parent.split("/") if parent else []
                folders[parent] = "__pycache__" not in parts and all(part.isidentifier() for part in parts)
            if not folders[parent] or not (match := _MODULE_PATTERN.match(name)) or not match[1].isidentifier():
                continue
            package = parent.replace("/", ".")
            if match[1] == "__init__":
                packages.add(package)
            modules.add(package if match[1] == "__init__" else f"{package}.{match[1]}".lstrip("."))
        within = {
            package
            for parent, named in folders.items()
            if named
            for package in list_parent_packages(parent.replace("/", "."))
        }
        return frozenset(modules - {""}), frozenset(packages), frozenset(within)

    @cached_property
    def modules(self) -> frozenset[str]:
        """All that can be imported, dotted, with the packages that it lies in."""
        modules, _, folders = self._module_sets
        return modules | folders

    @cached_property
    def top_level_modules(self) -> tuple[str, ...]:
        """The outermost that are no mere folders: google.protobuf, not google."""
        modules, packages, _ = self._module_sets
        return tuple(sorted(module for module in modules if packages.isdisjoint(list_parent_packages(module)[:-1])))

    @cached_property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        """Its commands, and what else it names in itself; nothing of the standard library."""
        folders = {place.partition("/")[0] for place in self.paths}
        scripts = [(name, reference.partition(":")[0].strip()) for name, reference, _ in self.wheel.scripts]
        commands = [EntryPoint(name, module, False) for name, module in scripts]
        plugins = [plugin for plugin in self._list_plugins() if plugin.module.partition(".")[0] in folders]
        return tuple(
            entry_point
            for entry_point in (*commands, *plugins)
            if entry_point.module.partition(".")[0] not in sys.stdlib_module_names
        )

    def _list_plugins(self) -> Iterator[EntryPoint]:
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        for member in self.wheel.members:
            if member.name == f"{self.wheel.dist_info}/entry_points.txt":
                parser.read_string(self._read_text(member))
        for group in parser.sections():
            if group not in ("console_scripts", "gui_scripts"):
                for name, reference in parser.items(group):
                    module = re.split(r"[:\[]", reference)[0].strip()
                    yield EntryPoint(f"{group}: {name}", module, ":" not in reference)

    def _read_text(self, member: WheelMember) -> str:
        try:
            with Path(self.wheel.path).open("rb") as source:
                return b"".join(unpack_entry(source, member)).decode("utf-8", "replace")
        except ArchiveError as failure:
            raise IntegrityError(
                error("no-archive", self.wheel.filename, "{subject}: {why}.", why=failure.args[1])
            ) from failure


def read_wheel_modules(path: Path) -> WheelModules:
    """Read a wheel; IntegrityError with every reason where it is none."""
    wheel = read_wheel(path)
    raw = parse_email(re.split(b"\r?\n\r?\n", wheel.metadata, maxsplit=1)[0])[0]
    return WheelModules(
        wheel, _parse_requires_python(raw), tuple(_parse_requirements(raw)), tuple(raw.get("provides_extra", []))
    )


def _parse_requires_python(raw: RawMetadata) -> SpecifierSet:
    try:
        return SpecifierSet(raw.get("requires_python", ""))
    except InvalidSpecifier:
        return SpecifierSet()


def _parse_requirements(raw: RawMetadata) -> Iterator[Requirement]:
    for line in raw.get("requires_dist", []):
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue


def list_parent_packages(module: str) -> list[str]:
    """List a module name and its parent packages: a, a.b, a.b.c."""
    parts = module.split(".") if module else []
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
