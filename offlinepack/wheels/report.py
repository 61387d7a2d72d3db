"""Report on a wheel: its metadata, contents, modules and entry points."""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from offlinepack.errors import Finding, IntegrityError, error
from offlinepack.ontarget.archive import ArchiveError, unpack_entry
from offlinepack.ontarget.destinations import get_source_path, iter_destinations
from offlinepack.ontarget.paths import find_windows_problem, fold_path
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel, WheelMember
from offlinepack.wheels.contents import WheelContents, collect_contents
from offlinepack.wheels.metadata import WheelMetadata, parse_metadata, split_header

_MODULE_PATTERN = re.compile(r"(.+?)(?:\.(?:cpython-[\w-]+|pypy[\w-]+|cp\d+t?-\w+|abi3t?))?\.(?:py|pyc|so|pyd)\Z")


class EntryPoint(NamedTuple):
    """An entry point of a wheel: a command or a plugin."""

    name: str
    module: str
    is_module_only: bool
    """without an attribute; the last part of the module may be one, as in fsspec: package.Class"""


ANY_ROOT = "*"
"""path root of a wheel that has to be compared with every other wheel"""


@dataclass(frozen=True)
class WheelReport:
    """Report on a valid wheel; parts that are not cached are read from the file on first use."""

    path: Path
    filename: str
    metadata_header: str
    """METADATA without the description"""
    sha256: str = ""
    """'' for a wheel that is not in the store"""
    notes: tuple[Finding, ...] = ()

    @classmethod
    def from_wheel(cls, wheel: CheckedWheel, sha256: str = "") -> WheelReport:
        """Make the report on a wheel that was just read."""
        header = split_header(wheel.metadata).decode("utf-8", "replace")
        return cls(Path(wheel.path), wheel.filename, header, sha256, wheel.notes).with_parts(checked_wheel=wheel)

    def with_parts(self, **parts: object) -> WheelReport:
        """Return a copy whose cached properties have these values; the others are computed on first use."""
        report = replace(self)
        vars(report).update(parts)
        return report

    @cached_property
    def checked_wheel(self) -> CheckedWheel:
        """The wheel as the strict reader returns it."""
        return read_wheel(self.path, filename=self.filename)

    @cached_property
    def metadata(self) -> WheelMetadata:
        """The parsed METADATA."""
        return parse_metadata(self.metadata_header)

    @cached_property
    def contents(self) -> WheelContents:
        """The license, names, commands, native files and SBOMs."""
        return collect_contents(self.checked_wheel)

    @cached_property
    def path_roots(self) -> tuple[str, ...]:
        """The first two parts of every installed path, sorted; wheels without a common one cannot clash."""
        roots = set()
        for system in ("linux", "windows") if self.checked_wheel.scripts else ("linux",):
            for place, _, _ in iter_destinations(self.checked_wheel, system):
                roots |= {"/".join(path.split("/", 2)[:2]) for path in {place, get_source_path(place)}}
                if find_windows_problem(place):
                    roots.add(ANY_ROOT)
        return tuple(sorted({fold_path(root) for root in roots}))

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The paths of the files below site-packages."""
        return tuple(place[5:] for place, _, _ in iter_destinations(self.checked_wheel) if place.startswith("site/"))

    @cached_property
    def _module_sets(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """The modules, the packages among them, and the folders that may be namespace packages."""
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
        """The dotted names that can be imported, with their parent packages."""
        modules, _, folders = self._module_sets
        return modules | folders

    @cached_property
    def top_level_modules(self) -> tuple[str, ...]:
        """The outermost modules that are not namespace packages: google.protobuf, not google."""
        modules, packages, _ = self._module_sets
        return tuple(sorted(module for module in modules if packages.isdisjoint(list_parent_packages(module)[:-1])))

    @cached_property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        """The commands, and the plugins in modules of this wheel; none of the standard library."""
        folders = {place.partition("/")[0] for place in self.paths}
        scripts = [(name, reference.partition(":")[0].strip()) for name, reference, _ in self.checked_wheel.scripts]
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
        for member in self.checked_wheel.members:
            if member.name == f"{self.checked_wheel.dist_info}/entry_points.txt":
                parser.read_string(self._read_text(member))
        for group in parser.sections():
            if group not in ("console_scripts", "gui_scripts"):
                for name, reference in parser.items(group):
                    module = re.split(r"[:\[]", reference)[0].strip()
                    yield EntryPoint(f"{group}: {name}", module, ":" not in reference)

    def _read_text(self, member: WheelMember) -> str:
        try:
            with Path(self.path).open("rb") as source:
                return b"".join(unpack_entry(source, member)).decode("utf-8", "replace")
        except ArchiveError as failure:
            raise IntegrityError(
                error("no-archive", self.filename, "{subject}: {why}.", why=failure.args[1])
            ) from failure


def read_wheel_report(path: Path) -> WheelReport:
    """Read a wheel and report on it; raise IntegrityError with every reason if it is invalid."""
    return WheelReport.from_wheel(read_wheel(path))


def list_parent_packages(module: str) -> list[str]:
    """List a module name and its parent packages: a, a.b, a.b.c."""
    parts = module.split(".") if module else []
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
