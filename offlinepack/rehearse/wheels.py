"""What one wheel says of itself, read once however many targets take it."""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from offlinepack.errors import IntegrityError, error
from offlinepack.ontarget.archive import ArchiveError, unpack_entry
from offlinepack.ontarget.destinations import iter_destinations
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel, WheelMember

_MODULE = re.compile(r"(.+?)(?:\.(?:cpython-[\w-]+|pypy[\w-]+|cp\d+t?-\w+|abi3t?))?\.(?:py|pyc|so|pyd)\Z")


class EntryPoint(NamedTuple):
    """What a command, or a plugin's host, will import."""

    name: str
    module: str
    bare: bool
    """no attribute is named, so that the last part may be one: fsspec takes package.Class"""


@dataclass(frozen=True)
class Known:
    """A wheel that the strict reader took, and its metadata; what may be wrong in that is passed over."""

    wheel: CheckedWheel
    python: SpecifierSet
    requires: tuple[Requirement, ...]
    extras: tuple[str, ...]

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Where its files lie below site-packages."""
        return tuple(place[5:] for place, _, _ in iter_destinations(self.wheel) if place.startswith("site/"))

    @cached_property
    def _modules(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Modules, those of them that are packages, and folders that may be packages without saying so."""
        modules, packages, folders = set[str](), set[str](), dict[str, bool]()
        for place in self.places:
            parent, _, name = place.rpartition("/")
            if parent not in folders:
                parts = parent.split("/") if parent else []
                folders[parent] = "__pycache__" not in parts and all(part.isidentifier() for part in parts)
            if not folders[parent] or not (found := _MODULE.match(name)) or not found[1].isidentifier():
                continue
            package = parent.replace("/", ".")
            if found[1] == "__init__":
                packages.add(package)
            modules.add(package if found[1] == "__init__" else f"{package}.{found[1]}".lstrip("."))
        within = {one for parent, named in folders.items() if named for one in above(parent.replace("/", "."))}
        return frozenset(modules - {""}), frozenset(packages), frozenset(within)

    @cached_property
    def modules(self) -> frozenset[str]:
        """All that can be imported, dotted, with the packages that it lies in."""
        modules, _, folders = self._modules
        return modules | folders

    @cached_property
    def top(self) -> tuple[str, ...]:
        """The outermost that are no mere folders: google.protobuf, not google."""
        modules, packages, _ = self._modules
        return tuple(sorted(one for one in modules if packages.isdisjoint(above(one)[:-1])))

    @cached_property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        """Its commands, and what else it names in itself; nothing of the standard library."""
        own = {place.partition("/")[0] for place in self.places}
        scripts = [(name, reference.partition(":")[0].strip()) for name, reference, _ in self.wheel.scripts]
        commands = [EntryPoint(name, module, False) for name, module in scripts]
        plugins = [one for one in self._plugins() if one.module.partition(".")[0] in own]
        return tuple(
            one for one in (*commands, *plugins) if one.module.partition(".")[0] not in sys.stdlib_module_names
        )

    def _plugins(self) -> Iterator[EntryPoint]:
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        for member in self.wheel.members:
            if member.name == f"{self.wheel.dist_info}/entry_points.txt":
                parser.read_string(self._text(member))
        for group in parser.sections():
            if group not in ("console_scripts", "gui_scripts"):
                for name, reference in parser.items(group):
                    module = re.split(r"[:\[]", reference)[0].strip()
                    yield EntryPoint(f"{group}: {name}", module, ":" not in reference)

    def _text(self, member: WheelMember) -> str:
        try:
            with Path(self.wheel.path).open("rb") as source:
                return b"".join(unpack_entry(source, member)).decode("utf-8", "replace")
        except ArchiveError as why:
            raise IntegrityError(
                error("no-archive", self.wheel.filename, "{subject}: {why}.", why=why.args[1])
            ) from why


def know(path: Path) -> Known:
    """Read a wheel; IntegrityError with every reason where it is none."""
    wheel = read_wheel(path)
    raw = parse_email(re.split(b"\r?\n\r?\n", wheel.metadata, maxsplit=1)[0])[0]
    return Known(wheel, _python(raw), tuple(_requirements(raw)), tuple(raw.get("provides_extra", [])))


def _python(raw: RawMetadata) -> SpecifierSet:
    try:
        return SpecifierSet(raw.get("requires_python", ""))
    except InvalidSpecifier:
        return SpecifierSet()


def _requirements(raw: RawMetadata) -> Iterator[Requirement]:
    for line in raw.get("requires_dist", []):
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue


def above(module: str) -> list[str]:
    """a, a.b, a.b.c of a.b.c."""
    parts = module.split(".") if module else []
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
