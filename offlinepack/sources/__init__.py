"""What a user hands us, as one value: Requirements. One file in this folder for each format that it may come in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from offlinepack.errors import Finding, SourceError

Page = Callable[[str], bytes]
"""what stands at an address; given by the caller, since nothing here speaks HTTP"""


@dataclass(frozen=True)
class OwnWheels:
    """Where a project's own wheels may lie, ready to be taken instead of its folder."""

    find_links: Sequence[str] = field(default=(), repr=False)
    """folders; addresses are passed over"""
    version_of: Callable[[Path], str | None] | None = None
    """asks a project's build for the version that only it knows; given by the caller, since nothing here builds"""


NO_WHEELS = OwnWheels()


@dataclass(frozen=True, repr=False)
class Asked:
    """One requirement or constraint, and where it stands."""

    line: str
    """as a resolver reads it: PEP 508, or an address with extras where only a build tells the name; may hold secrets"""
    origin: str
    """requirements.txt:3, argument 2, venv …"""
    requirement: Requirement | None = None
    """None where the name is not known before the thing is built"""
    hashes: tuple[str, ...] = ()
    """algorithm:hex digits; any of them will do"""
    editable: bool = False
    """asked for with -e; it goes into the bundle as a wheel like any other"""
    config_settings: tuple[tuple[str, str], ...] = ()
    needed_by: str | None = None
    """of what a lock missed and nobody asked for: the distribution whose own metadata want it"""
    requested: bool = True
    """asked for by a person; not so what merely stood in a frozen environment"""
    frozen: bool = False
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
        found = re.search(r"\[([^\]]*)\]$", self.line.split(" ; ")[0].strip())
        return frozenset(canonicalize_name(one) for one in found[1].split(",")) if found else frozenset()

    @property
    def shown(self) -> str:
        """The line for people: no user name, password or query string of an address."""
        return without_secrets(self.line)

    def with_name(self, name: str) -> Asked:
        """The same, once the name is known: name[extras] @ address ; marker."""
        _, semicolon, marker = self.line.partition(" ; ")
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        line = f"{name}{extras} @ {self.url}{semicolon}{marker}"
        return replace(self, line=line, requirement=Requirement(line))

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"Asked({self.shown!r}, {self.origin!r})"


@dataclass(frozen=True)
class IndexOptions:
    """Options about indexes that stood in a requirements file; addresses may hold secrets."""

    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()

    def __add__(self, other: IndexOptions) -> IndexOptions:
        return IndexOptions(
            other.index_url or self.index_url,
            _joined(self.extra_index_urls, other.extra_index_urls),
            _joined(self.find_links, other.find_links),
            self.no_index or other.no_index,
            _joined(self.trusted_hosts, other.trusted_hosts),
        )


@dataclass(frozen=True)
class Requirements:
    """What was asked: requirements and constraints with file and line, and the policies that go with them."""

    asked: tuple[Asked, ...] = ()
    constraints: tuple[Asked, ...] = ()
    pylocks: tuple[Pylock, ...] = ()
    """the locks that were given, each for other targets; their pins are kept"""
    extras: tuple[str, ...] = ()
    """extras of the given lock"""
    groups: tuple[str, ...] | None = None
    """dependency groups of the given lock; None: its own default"""
    name: str | None = None
    """a name for the bundle"""
    version: str | None = None
    locked: bool = False
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
        if self.name is None and self._single:
            object.__setattr__(self, "name", self.asked[0].name)
        if self.uploaded_prior_to and re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.uploaded_prior_to):
            object.__setattr__(self, "uploaded_prior_to", f"{self.uploaded_prior_to}T00:00:00Z")

    def __add__(self, other: Requirements) -> Requirements:
        """Both together; what the second says of a single value wins, of policies the stricter."""
        named = [side for side in (self, other) if side.name and not side._single]
        one = named[0] if len({side.name for side in named}) == 1 else None  # two applications: the name of neither
        before, its = self.uploaded_prior_to, other.uploaded_prior_to
        return Requirements(
            asked=_joined(self.asked, other.asked),
            constraints=_joined(self.constraints, other.constraints),
            pylocks=_joined(self.pylocks, other.pylocks),
            extras=_joined(self.extras, other.extras),
            groups=self.groups if other.groups is None else _joined(self.groups or (), other.groups),
            name=one.name if one else None,
            version=one.version if one else None,
            locked=self.locked or other.locked,
            no_deps=self.no_deps or other.no_deps,
            pre=self.pre or other.pre,
            require_hashes=self.require_hashes or other.require_hashes,
            only_binary=_joined(self.only_binary, other.only_binary),
            no_binary=_joined(self.no_binary, other.no_binary),
            uploaded_prior_to=before if its is None else its,
            index_options=self.index_options + other.index_options,
            notes=_joined(self.notes, other.notes),
        )

    @property
    def _single(self) -> bool:
        """A single requirement by name gives the bundle its name, as long as nothing else is asked for."""
        return (
            len(self.asked) == 1
            and not self.pylocks
            and not self.asked[0].frozen
            and self.name in (None, self.asked[0].name)
            and self.version is None
            and not self.asked[0].origin.startswith("pyproject.toml")
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

    def asking(self, *more: Asked) -> Requirements:
        """The same, with more asked for."""
        return replace(self, asked=self.asked + more)


def _joined(first: tuple, second: tuple) -> tuple:  # type: ignore[type-arg]
    return first + tuple(one for one in second if one not in first)


def from_arguments(arguments: Sequence[str]) -> Requirements:
    """The requirements typed on the command line; SourceError with all that cannot be read."""
    from offlinepack.sources import requirements_txt

    asked: list[Asked] = []
    findings: list[Finding] = []
    for number, argument in enumerate(arguments, 1):
        try:
            asked.append(requirements_txt.parse_line(argument, f"argument {number}"))
        except SourceError as bad:
            findings.extend(bad.findings)
    if findings:
        raise SourceError(*findings)
    return Requirements(asked=tuple(asked))


def read(
    path: Path,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    locked: bool = False,
    own: OwnWheels = NO_WHEELS,
    page: Page | None = None,
) -> Requirements:
    """The file behind -r, in the format that its name says; SourceError with all that is wrong in it.

    `extras` and `groups` are for a project or a lock, whose `own` wheels are taken; `locked` keeps to a lock.
    """
    from offlinepack.sources import locks, pyproject, requirements_txt

    locks.refuse_foreign(path)
    if locks.is_lock(path):
        return locks.read(path, extras=extras, groups=groups, locked=locked, own=own)
    if path.name == "pyproject.toml":
        return pyproject.read(path.parent, extras=extras, groups=groups, own=own)
    return requirements_txt.read(path, page=page)


def read_constraints(path: Path, page: Page | None = None) -> Requirements:
    """The file behind -c."""
    from offlinepack.sources import requirements_txt

    return requirements_txt.read(path, constraint=True, page=page)


def read_project(
    folder: Path,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    locked: bool = False,
    own: OwnWheels = NO_WHEELS,
) -> Requirements:
    """The project behind --project: itself, what it depends on, these extras and dependency groups; as it locked them.

    uv.lock is the project's own and is kept to; pylock.toml, which may be for one machine, with `locked`.
    """
    from offlinepack.sources import locks, pyproject

    lock = lock_of(folder, locked)
    found = locks.read(lock, extras=extras, groups=groups, locked=locked, own=own) if lock else None
    if found and lock and lock.name == "uv.lock":  # uv knows of the project itself
        return found
    project = pyproject.read(folder, extras=extras, groups=groups, own=own)
    return found + project if found else project


def lock_of(folder: Path, locked: bool) -> Path | None:
    """The lock in a project's folder that its pins are taken from."""
    names = ("pylock.toml", "uv.lock") if locked else ("uv.lock",)
    return next((folder / one for one in names if (folder / one).is_file()), None)


def read_environment(folder: Path, *, exclude: Sequence[str] = ()) -> Requirements:
    """The virtual environment (or conda prefix) behind --venv, frozen."""
    from offlinepack.sources import freeze

    return freeze.read(folder, exclude=exclude)


def without_secrets(text: str) -> str:
    """The text with the user, password and query string of each address in it left out."""
    text = re.sub(r"(?<=://)[^/@\s]*@(?=[^/\s])", "", text)
    return re.sub(r"(://[^\s?#]*)\?[^\s#]*", r"\1", text)
