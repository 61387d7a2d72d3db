"""Chosen files become files in the store: wheels are fetched, everything else is fetched and built, side by side."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from packaging.metadata import parse_email
from packaging.pylock import PackageArchive, PackageDirectory, PackageVcs, Pylock
from packaging.utils import NormalizedName
from packaging.version import Version

from offlinepack import examine, fetch, targets
from offlinepack.errors import BuildError, Finding, OfflinepackError, Text, error, note, text
from offlinepack.indexes import Indexes
from offlinepack.lockers import lock
from offlinepack.lockers import named as names_of
from offlinepack.lockers.means import Means, Pages
from offlinepack.selection import Chosen, Selection, select
from offlinepack.sources import Requirements, from_arguments
from offlinepack.store import Store, StoredFile
from offlinepack.targets import Target

if TYPE_CHECKING:
    from offlinepack import sdist

_RESOLVERS = 6
"""at a time: after the first, which is alone, they wait for the network more than they compute"""

T = TypeVar("T")
_OWN_WHEELS = Version("70.1")
"""the first setuptools that makes wheels without the project wheel"""


class Watch(Protocol):
    """What draws progress: gives the steps back as they come."""

    def __call__(
        self, what: Text, steps: Iterable[T], total: float | None = None, weigh: Callable[[T], float] | None = None
    ) -> Iterator[T]:
        """`steps`, unchanged."""


def unwatched(
    what: Text, steps: Iterable[T], total: float | None = None, weigh: Callable[[T], float] | None = None
) -> Iterator[T]:
    """Nobody looks."""
    return iter(steps)


@dataclass(frozen=True)
class How:
    """How to lock, fetch and build; the same for every target."""

    resolver: str = "auto"
    sdist: str = "build"
    """what becomes of sources: built here, or carried along (include) for the target to build"""
    jobs: int = fetch.JOBS
    """downloads at a time"""
    retries: int | None = None
    timeout: float | None = None
    """seconds that a server may keep silent; None, as for retries: what pip's settings say, else 15"""
    offline: bool = False
    cache_dir: Path | None = None
    """where the store and the resolvers keep what they fetched; None: nothing is kept"""
    build_pythons: tuple[str, ...] = ()
    """interpreters that sources are built with, before those that are found"""
    build_root: Path | None = None
    """a root file system of the target to build in"""
    build_constraints: tuple[Path, ...] = ()
    config_settings: Mapping[str, str | list[str]] = field(default_factory=dict)
    pages: Pages = field(default_factory=Pages, compare=False)

    def means(self, indexes: Indexes) -> Means:
        """For the resolvers: patience as the command line has it, else pip's settings, else as the client has it."""
        retries = indexes.retries if self.retries is None else self.retries
        return Means(
            self.offline,
            self.cache_dir,
            fetch.RETRIES if retries is None else retries,
            self.timeout or indexes.timeout or fetch.TIMEOUT,
            Path(self.build_pythons[0]) if self.build_pythons else None,
            self.pages,
            lambda target: self.pages.once(("builds", target.tag), lambda: self._builds(target)),
        )

    def _builds(self, target: Target) -> bool:
        """Whether the source of a project with extension modules is of any use for this target."""
        if self.sdist == "include":
            return True
        from offlinepack.sdist import interpreters  # what builds is loaded where something is built

        return interpreters.any_makes(target, self.build_pythons, self.build_root)


@dataclass(frozen=True)
class Supplied:
    """One distribution as a file that is here."""

    name: NormalizedName
    file: StoredFile
    chosen: Chosen | None
    """None: made here from files of this machine"""
    built_from: Mapping[str, str] | None = None
    findings: tuple[Finding, ...] = ()
    metadata: str | None = None
    """of a source that the target builds: METADATA of the wheel to come"""
    builders: tuple[Supplied, ...] = ()
    """of such a source: all that its build takes there"""


def locked(requirements: Requirements, target: Target, indexes: Indexes, how: How) -> Pylock:
    """The lock of these requirements for one target."""
    return lock(requirements, target, indexes, how.means(indexes), how.resolver)


def named(requirements: Requirements, indexes: Indexes, how: How) -> Requirements:
    """The same, with the names of addresses and folders that had none."""
    return names_of(requirements, indexes, how.means(indexes))


def client(indexes: Indexes, how: How) -> fetch.Client:
    """The client of a run."""
    return fetch.open_client(indexes, retries=how.retries, timeout=how.timeout, offline=how.offline)


def wanted(chosen: Iterable[Chosen]) -> list[fetch.Wanted]:
    """What is to be fetched, each file once, in the order of names. A folder and a commit are no files."""
    files = {(one.filename, one.sha256 or ""): one for one in chosen if one.filename}
    return [
        fetch.Wanted(
            one.url or Path(one.path or "").absolute().as_uri(), one.filename, one.sha256, one.size, one.hashes
        )
        for _, one in sorted(files.items())
    ]


@contextlib.contextmanager
def supplying(store: Store, indexes: Indexes, how: How, watch: Watch = unwatched) -> Iterator[Supply]:
    """The supply of a run; at the end nothing of it is under way."""
    with examine.Ahead(store) as ahead, client(indexes, how) as opened:
        downloads = fetch.Downloads(store, opened, how.jobs, ahead.look)
        yield Supply(store, opened, downloads, ahead, indexes, how, watch)


@dataclass(frozen=True)
class Supply:
    """Where files come from in one run."""

    store: Store
    client: fetch.Client
    downloads: fetch.Downloads
    ahead: examine.Ahead
    indexes: Indexes
    how: How
    watch: Watch = unwatched
    under_way: tuple[str, ...] = ()
    """sources whose build requirements these are"""

    def begin(self, selection: Selection) -> None:
        """Its files are on their way from now on; what fails is told by `files`."""
        self.downloads.begin(wanted(selection.chosen))

    def files(self, selections: Sequence[Selection]) -> list[list[Supplied]]:
        """For each selection its distributions as wheels; what cannot be fetched or built is told all at once."""
        every = [one for each in selections for one in each.chosen]
        listed = wanted(every)
        sizes = [one.size for one in listed if one.size is not None]
        total = float(sum(sizes)) if len(sizes) == len(listed) else None
        what = text("fetching {count} files", count=len(listed))
        kept = {one.name: one for one in self.watch(what, self._looked_at(listed), total, lambda one: one.size)}
        building = [(each.target, one) for each in selections for one in each.chosen if not one.is_wheel]
        if building:
            names = sorted({one.name for _, one in building})
            results = self.watch(text("building {names}", names=names), self._built(building, kept), len(building))
            built = {(target.tag, made.name): made for (target, _), made in zip(building, all_of(results), strict=True)}
        else:
            built = {}
        return [
            [
                built.get((each.target.tag, one.name)) or Supplied(one.name, kept[one.filename], one)
                for one in each.chosen
            ]
            for each in selections
        ]

    def _looked_at(self, listed: Iterable[fetch.Wanted]) -> Iterator[StoredFile]:
        for one in self.downloads.files(listed):
            self.ahead.look(one)
            yield one
        self.ahead.finish()

    def _built(
        self, building: Sequence[tuple[Target, Chosen]], kept: Mapping[str, StoredFile]
    ) -> Iterator[Supplied | OfflinepackError]:
        # one after the other: a build may use every core itself, and a pure wheel serves the targets that follow
        pure: list[tuple[Chosen, Supplied]] = []
        for target, one in building:
            supply = self._carry if self.how.sdist == "include" else self._build
            for before, made in pure:
                if before.file == one.file and target.accepts(made.file.name) is not None:
                    yield made
                    break
            else:
                done = caught(lambda target=target, one=one, supply=supply: supply(one, target, kept))  # type: ignore[misc]
                if isinstance(done, Supplied) and done.file.name.endswith("-none-any.whl"):
                    pure.append((one, done))
                yield done

    def _workshop(self) -> sdist.Workshop:
        from offlinepack import sdist  # what builds is loaded where something is built

        # what a build, or a backend that is asked, takes here is built here
        here = replace(self, how=replace(self.how, sdist="build", resolver="auto"), watch=unwatched)
        return sdist.Workshop(
            self.store,
            here._provide,
            (self.how.cache_dir or Path(tempfile.gettempdir()) / "offlinepack") / "logs",
            pythons=self.how.build_pythons,
            root=self.how.build_root,
            config_settings=self.how.config_settings,
            build_constraints=tuple(path.read_text("utf-8") for path in self.how.build_constraints),
        )

    def _build(self, one: Chosen, target: Target, kept: Mapping[str, StoredFile]) -> Supplied:
        from offlinepack import sdist  # what builds is loaded where something is built

        shop = self._workshop()
        if isinstance(one.file, PackageVcs):
            with tempfile.TemporaryDirectory(prefix="offlinepack-", ignore_cleanup_errors=True) as work:
                folder = Path(work) / "checkout"
                revision = one.file.commit_id or one.file.requested_revision
                commit = sdist.checkout(one.file.url or str(one.file.path), revision, folder)
                origin = {"name": one.name, "vcs": "git", "commit": commit}
                built = sdist.build(
                    folder, target, shop, name=one.name, subdirectory=one.file.subdirectory or "", origin=origin
                )
        elif isinstance(one.file, PackageDirectory):
            built = sdist.build(
                Path(one.file.path),
                target,
                shop,
                name=one.name,
                subdirectory=one.file.subdirectory or "",
                origin={"name": one.name, "vcs": "folder"},
            )
        else:
            within = one.file.subdirectory or "" if isinstance(one.file, PackageArchive) else ""
            built = sdist.build(kept[one.filename], target, shop, subdirectory=within)
        return Supplied(one.name, built.wheel, one, dict(built.origin), built.findings)

    def version_of(self, folder: Path) -> str | None:
        """The version of a project's folder, as its backend says when a wheel is to be made (PEP 517)."""
        from offlinepack import sdist  # what builds is loaded where something is built

        python = self.how.build_pythons[0] if self.how.build_pythons and not self.how.build_root else None
        target = targets.of_interpreter(python) if python else targets.running()
        metadata = sdist.prepared(folder, target, replace(self._workshop(), root=None))
        return parse_email(metadata)[0].get("version")

    def _carry(self, one: Chosen, target: Target, kept: Mapping[str, StoredFile]) -> Supplied:
        """The source, and for the target all that its build takes: wheels, and sources with what theirs take."""
        from offlinepack import sdist  # what builds is loaded where something is built

        shop = self._workshop()
        if isinstance(one.file, PackageVcs):
            with tempfile.TemporaryDirectory(prefix="offlinepack-", ignore_cleanup_errors=True) as work:
                folder = Path(work) / "checkout"
                revision = one.file.commit_id or one.file.requested_revision
                sdist.checkout(one.file.url or str(one.file.path), revision, folder)
                said = sdist.describe(folder, target, shop, one.name, one.file.subdirectory or "")
        elif isinstance(one.file, PackageDirectory):
            said = sdist.describe(Path(one.file.path), target, shop, one.name, one.file.subdirectory or "")
        else:
            said = sdist.describe(kept[one.filename], target, shop, one.name)
        if said.file.sha256 in self.under_way:
            raise BuildError(
                error(
                    "build-circle",
                    one.name,
                    "{subject} needs itself to be built.",
                    "Allow a ready-made wheel of it: no --no-binary for this project.",
                )
            )
        how = replace(self.how, resolver="auto")
        asked = self._asked(said.requires)
        made = locked(asked, target, self.indexes, how)
        if any(one.name == "setuptools" and one.version and one.version < _OWN_WHEELS for one in made.packages):
            asked = self._asked([*said.requires, "wheel"])
            made = locked(asked, target, self.indexes, how)
        inner = replace(self, watch=unwatched, under_way=(*self.under_way, said.file.sha256))
        (files,) = inner.files([select(made, target, asked)])
        builders = {each.file.name: each for file in files for each in (file, *file.builders)}
        built_there = note(
            "built-there",
            one.name,
            "{subject} goes to {target} as its source and is built there; a compiler and Python's header files are "
            "needed there if it has extension modules.",
            target=target.name,
        )
        return Supplied(
            one.name,
            said.file,
            one,
            findings=(built_there,),
            metadata=said.metadata,
            builders=tuple(one for _, one in sorted(builders.items())),
        )

    def _asked(self, requirements: Sequence[str]) -> Requirements:
        asked = replace(from_arguments(requirements), name=None)
        for path in self.how.build_constraints:
            from offlinepack.sources import read_constraints

            asked = asked + read_constraints(path)
        return asked

    def _provide(self, requirements: Sequence[str], target: Target) -> list[StoredFile]:
        """Build requirements are requirements: locked, selected, fetched, and built where need be."""
        asked = self._asked(requirements)
        made = locked(asked, target, self.indexes, self.how)
        (files,) = self.files([select(made, target, asked)])
        return [one.file for one in files]


def with_builders(tools: Sequence[Supplied], files: Iterable[Supplied]) -> list[Supplied]:
    """The tools, pip first, and what the builds of these files take, each once."""
    known = {one.file.name: one for one in (*tools, *(each for one in files for each in one.builders))}
    return sorted(known.values(), key=lambda one: (one.name != "pip", one.file.name))


def caught(job: Callable[[], T]) -> T | OfflinepackError:
    """The job's result, or its error as a value, so that the others go on."""
    try:
        return job()
    except OfflinepackError as failure:
        return failure


def all_of(results: Iterable[T | OfflinepackError]) -> list[T]:
    """Every result; where some failed, one error with the findings of all, under the code that comes first."""
    good: list[T] = []
    failures: list[OfflinepackError] = []
    for one in results:
        if isinstance(one, OfflinepackError):
            failures.append(one)
        else:
            good.append(one)
    if failures:
        first = min(failures, key=lambda one: one.exit_code)
        findings = {one.say(): one for failure in failures for one in failure.findings}
        # the kind that is made of findings alone
        kind = next(one for one in type(first).__mro__ if "__init__" not in vars(one) or one is OfflinepackError)
        raise kind(*findings.values())
    return good


def side_by_side(jobs: Sequence[Callable[[], T]], what: Text, watch: Watch) -> list[T]:
    """The result of each job, in order; every failure at once."""
    with ThreadPoolExecutor(min(len(jobs), _RESOLVERS)) as pool:
        return all_of(watch(what, pool.map(caught, jobs), len(jobs)))
