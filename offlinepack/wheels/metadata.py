"""Parse METADATA and PKG-INFO files into WheelMetadata."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class WheelMetadata:
    """What a distribution's own METADATA says that matters for what has to stand beside it."""

    name: NormalizedName
    version: Version
    requires: tuple[Requirement, ...] = ()
    requires_python: SpecifierSet | None = None
    extras: frozenset[str] = frozenset()
    unreadable_fields: tuple[str, ...] = ()
    """fields of today's form that no tool can read; kept to be told"""


def parse_metadata(content: bytes | str) -> WheelMetadata:
    """Parse METADATA or PKG-INFO into values; fields that cannot be read are listed in `unreadable`."""
    raw, _ = parse_email(content)
    requires, unreadable = [], []
    for line in raw.get("requires_dist", []):
        try:
            requires.append(Requirement(line))
        except InvalidRequirement:
            unreadable.append(f"Requires-Dist: {line}")
    python: SpecifierSet | None = None
    if raw.get("requires_python"):
        try:
            python = SpecifierSet(raw["requires_python"])
        except InvalidSpecifier:
            unreadable.append(f"Requires-Python: {raw['requires_python']}")
    return WheelMetadata(
        canonicalize_name(raw.get("name", "")),
        _parse_version(raw.get("version", "")),
        tuple(requires),
        python,
        frozenset(canonicalize_name(extra) for extra in raw.get("provides_extra", [])),
        tuple(unreadable),
    )


def _parse_version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
