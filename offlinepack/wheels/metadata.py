"""Parse METADATA and PKG-INFO (core metadata) into WheelMetadata."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class WheelMetadata:
    """The METADATA of a distribution; its dependencies as values, all fields as text."""

    name: NormalizedName
    version: Version
    requires: tuple[Requirement, ...] = ()
    requires_python: SpecifierSet | None = None
    extras: frozenset[str] = frozenset()
    unreadable_fields: tuple[str, ...] = ()
    """known fields whose value cannot be parsed, with name and value"""
    raw: RawMetadata = field(default_factory=RawMetadata, compare=False, repr=False)
    """all fields as text"""


def split_header(metadata: bytes) -> bytes:
    """Return METADATA without the description."""
    return re.split(b"\r?\n\r?\n", metadata, maxsplit=1)[0]


def parse_metadata(content: bytes | str) -> WheelMetadata:
    """Parse METADATA or PKG-INFO; dependencies that cannot be parsed are listed in `unreadable_fields`."""
    raw, _ = parse_email(split_header(content) if isinstance(content, bytes) else content)
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
        raw,
    )


def _parse_version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
