"""Requirements of a run, with file and line, and the policies that apply to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from offlinepack.errors import Finding
from offlinepack.index.model import IndexOptions, merge_unique
from offlinepack.net.urls import redact_text
from offlinepack.requirements.policy import ResolutionPolicy

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


def applies_to(line: RequirementLine, target: Target) -> bool:
    """Check whether the marker of a requirement holds for a target."""
    return target.evaluate(line.requirement.marker if line.requirement else None)


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
    has_hash_option: bool = False
    """given with --hash, not only in an address"""
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
        """Return the line with its name, once it is known: name[extras] @ address ; marker."""
        _, semicolon, marker = self.line.partition(" ; ")
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        line = f"{name}{extras} @ {self.url}{semicolon}{marker}"
        return replace(self, line=line, requirement=Requirement(line))

    def __str__(self) -> str:
        return self.redacted_line

    def __repr__(self) -> str:
        return f"Asked({self.redacted_line!r}, {self.origin!r})"


class ProjectIdentity(NamedTuple):
    """The name and version of a project; None if it states none."""

    name: str | None = None
    version: str | None = None


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
    identity: ProjectIdentity = ProjectIdentity()
    """the project that the bundle is named after"""
    is_locked: bool = False
    """the given lock is used as it is, or not at all"""
    excluded_projects: frozenset[str] = frozenset()
    """projects that are never installed: virtual projects and exclude-dependencies of uv"""
    overrides: tuple[RequirementLine, ...] = ()
    """requirements that replace all others on their projects: override-dependencies of uv"""
    requires_python: str = ""
    """Requires-Python of the project"""
    policy: ResolutionPolicy = ResolutionPolicy()
    index_options: IndexOptions = IndexOptions()
    notes: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.identity.name is None and self._has_single_name:
            object.__setattr__(self, "identity", ProjectIdentity(self.requirements[0].name))

    def __add__(self, other: Requirements) -> Requirements:
        """Combine two sets of requirements; of single values the second one wins."""
        named = [side.identity for side in (self, other) if side.identity.name and not side._has_single_name]
        return Requirements(
            requirements=merge_unique(self.requirements, other.requirements),
            constraints=merge_unique(self.constraints, other.constraints),
            pylocks=merge_unique(self.pylocks, other.pylocks),
            extras=merge_unique(self.extras, other.extras),
            groups=self.groups if other.groups is None else merge_unique(self.groups or (), other.groups),
            # two applications: the name of neither
            identity=named[0] if len({identity.name for identity in named}) == 1 else ProjectIdentity(),
            is_locked=self.is_locked or other.is_locked,
            excluded_projects=self.excluded_projects | other.excluded_projects,
            overrides=merge_unique(self.overrides, other.overrides),
            requires_python=",".join(filter(None, (self.requires_python, other.requires_python))),
            policy=self.policy + other.policy,
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
            and self.identity in (ProjectIdentity(), ProjectIdentity(self.requirements[0].name))
            and not self.requirements[0].origin.startswith("pyproject.toml")
        )

    def override(self, requires: Iterable[Requirement]) -> Iterator[Requirement]:
        """Yield the dependencies of a distribution with the overrides in place of what they replace."""
        overridden: set[str | None] = {line.name for line in self.overrides}
        replaced = set[str]()
        for requirement in requires:
            name = canonicalize_name(requirement.name)
            if name not in overridden:
                yield requirement
            elif name not in replaced:
                replaced.add(name)
                yield from (line.requirement for line in self.overrides if line.name == name and line.requirement)

    def with_requirements(self, *more: RequirementLine) -> Requirements:
        """Return the requirements with further lines."""
        return replace(self, requirements=self.requirements + more)
