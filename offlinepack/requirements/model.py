"""Requirements of a run, with file and line, and the policies that apply to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from offlinepack.errors import Finding
from offlinepack.index.model import IndexOptions, merge_unique
from offlinepack.net.urls import redact_text

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


def applies_to(line: RequirementLine, target: Target) -> bool:
    marker = line.requirement.marker if line.requirement else None
    return marker is None or target.evaluate(marker)


PageFetcher = Callable[[str], bytes]
"""what stands at an address; given by the caller, since nothing here speaks HTTP"""


@dataclass(frozen=True)
class ProjectWheels:
    """Where a project's own wheels may lie, ready to be taken instead of its folder."""

    find_links: Sequence[str] = field(default=(), repr=False)
    """folders; addresses are passed over"""
    find_version: Callable[[Path], str | None] | None = None
    """asks a project's build for the version that only it knows; given by the caller, since nothing here builds"""


NO_PROJECT_WHEELS = ProjectWheels()


@dataclass(frozen=True, repr=False)
class RequirementLine:
    """One requirement or constraint, and where it stands."""

    line: str
    """as a resolver reads it: PEP 508, or an address with extras where only a build tells the name; may hold secrets"""
    origin: str
    """requirements.txt:3, argument 2, venv …"""
    requirement: Requirement | None = None
    """None where the name is not known before the thing is built"""
    hashes: tuple[str, ...] = ()
    """algorithm:hex digits; any of them will do"""
    is_editable: bool = False
    """asked for with -e; it goes into the bundle as a wheel like any other"""
    config_settings: tuple[tuple[str, str], ...] = ()
    required_by: str | None = None
    """of what a lock missed and nobody asked for: the distribution whose own metadata want it"""
    is_requested: bool = True
    """asked for by a person; not so what merely stood in a frozen environment"""
    is_frozen: bool = False
    """it stood in an environment; whether an index has it is not known"""

    @property
    def name(self) -> NormalizedName | None:
        """The normalised project name (PEP 503)."""
        return canonicalize_name(self.requirement.name) if self.requirement else None

    @property
    def url(self) -> str | None:
        """The address or file:// path that is asked for directly; it may hold a secret."""
        if self.requirement:
            return self.requirement.url
        return re.sub(r"\[[^\]]*\]$", "", self.line.split(" ; ")[0].strip())

    @property
    def extras(self) -> frozenset[str]:
        """The extras that are asked for, normalised."""
        if self.requirement:
            return frozenset(canonicalize_name(extra) for extra in self.requirement.extras)
        match = re.search(r"\[([^\]]*)\]$", self.line.split(" ; ")[0].strip())
        return frozenset(canonicalize_name(part) for part in match[1].split(",")) if match else frozenset()

    @property
    def redacted_line(self) -> str:
        """The line for people: no user name, password or query string of an address."""
        return redact_text(self.line)

    def with_name(self, name: str) -> RequirementLine:
        """The same, once the name is known: name[extras] @ address ; marker."""
        _, semicolon, marker = self.line.partition(" ; ")
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        line = f"{name}{extras} @ {self.url}{semicolon}{marker}"
        return replace(self, line=line, requirement=Requirement(line))

    def __str__(self) -> str:
        return self.redacted_line

    def __repr__(self) -> str:
        return f"Asked({self.redacted_line!r}, {self.origin!r})"


@dataclass(frozen=True)
class Requirements:
    """What was asked: requirements and constraints with file and line, and the policies that go with them."""

    requirements: tuple[RequirementLine, ...] = ()
    constraints: tuple[RequirementLine, ...] = ()
    pylocks: tuple[Pylock, ...] = ()
    """the locks that were given, each for other targets; their pins are kept"""
    extras: tuple[str, ...] = ()
    """extras of the given lock"""
    groups: tuple[str, ...] | None = None
    """dependency groups of the given lock; None: its own default"""
    name: str | None = None
    """a name for the bundle"""
    version: str | None = None
    is_locked: bool = False
    """the given lock is used as it is, or not at all"""
    no_deps: bool = False
    pre: bool = False
    require_hashes: bool = False
    only_binary: tuple[str, ...] = ()
    """normalised names, or :all:"""
    no_binary: tuple[str, ...] = ()
    uploaded_prior_to: str | None = None
    """only what was uploaded before this time (RFC 3339); a bare date is the beginning of that day, UTC"""
    index_options: IndexOptions = IndexOptions()
    notes: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        # uv takes a bare date for the end of that day, pip for its beginning in the local zone
        if self.name is None and self._has_single_name:
            object.__setattr__(self, "name", self.requirements[0].name)
        if self.uploaded_prior_to and re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.uploaded_prior_to):
            object.__setattr__(self, "uploaded_prior_to", f"{self.uploaded_prior_to}T00:00:00Z")

    def __add__(self, other: Requirements) -> Requirements:
        """Both together; what the second says of a single value wins, of policies the stricter."""
        named = [side for side in (self, other) if side.name and not side._has_single_name]
        name = named[0] if len({side.name for side in named}) == 1 else None  # two applications: the name of neither
        before, theirs = self.uploaded_prior_to, other.uploaded_prior_to
        return Requirements(
            requirements=merge_unique(self.requirements, other.requirements),
            constraints=merge_unique(self.constraints, other.constraints),
            pylocks=merge_unique(self.pylocks, other.pylocks),
            extras=merge_unique(self.extras, other.extras),
            groups=self.groups if other.groups is None else merge_unique(self.groups or (), other.groups),
            name=name.name if name else None,
            version=name.version if name else None,
            is_locked=self.is_locked or other.is_locked,
            no_deps=self.no_deps or other.no_deps,
            pre=self.pre or other.pre,
            require_hashes=self.require_hashes or other.require_hashes,
            only_binary=merge_unique(self.only_binary, other.only_binary),
            no_binary=merge_unique(self.no_binary, other.no_binary),
            uploaded_prior_to=before if theirs is None else theirs,
            index_options=self.index_options + other.index_options,
            notes=merge_unique(self.notes, other.notes),
        )

    @property
    def _has_single_name(self) -> bool:
        """A single requirement by name gives the bundle its name, as long as nothing else is asked for."""
        return (
            len(self.requirements) == 1
            and not self.pylocks
            and not self.requirements[0].is_frozen
            and self.name in (None, self.requirements[0].name)
            and self.version is None
            and not self.requirements[0].origin.startswith("pyproject.toml")
        )

    def allows_source(self, name: str) -> bool:
        """Whether an sdist of this project may be used; a project's own line wins over :all:, as with pip."""
        if name in self.only_binary:
            return False
        return name in self.no_binary or ":all:" not in self.only_binary

    def allows_wheel(self, name: str) -> bool:
        """Whether a ready-made wheel of this project may be used."""
        if name in self.no_binary:
            return False
        return name in self.only_binary or ":all:" not in self.no_binary

    def with_requirements(self, *more: RequirementLine) -> Requirements:
        """The same, with more asked for."""
        return replace(self, requirements=self.requirements + more)
