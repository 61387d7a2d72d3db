"""Prepare the selected files of a run: download wheels, and build or describe sdists."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.metadata import parse_email
from packaging.pylock import PackageArchive, PackageDirectory, PackageVcs, Pylock
from packaging.utils import NormalizedName
from packaging.version import Version

from offlinepack.errors import BuildError, Finding, OfflinepackError, SourceError, error, note, text
from offlinepack.index.model import Indexes
from offlinepack.net.client import Client, open_client
from offlinepack.net.download import DownloadQueue
from offlinepack.net.model import DownloadRequest
from offlinepack.net.urls import redact_url
from offlinepack.pipeline.concurrency import capture_error, collect_results
from offlinepack.pipeline.request import BuildOptions
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.requirements.model import ProjectWheels, Requirements
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.choose import complete_names, resolve
from offlinepack.selection import SelectedFile, Selection, select_files
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target
from offlinepack.targets.parse import get_running_target, probe_interpreter
from offlinepack.wheels.pool import InspectionPool

if TYPE_CHECKING:
    from offlinepack.sdist.environment import BuildConfig


def fetch_page(url: str, indexes: Indexes, how: BuildOptions) -> bytes:
    """What stands at an address: a requirements file that another one names."""
    with open_run_client(indexes, how) as client:
        found = client.fetch_page(url)
    if found is None:
        raise SourceError(
            error(
                "no-such-page", redact_url(url), "There is nothing at {subject}.", "Mend the address, or give a file."
            )
        )
    return found.text.encode()


def make_own_wheels(indexes: Indexes, how: BuildOptions) -> ProjectWheels:
    """Where wheels of a project that is packed may lie, and who tells a version that only its build knows."""

    def version_of(folder: Path) -> str | None:
        with Store.open(how.cache_dir) as store, open_provider(store, indexes, how) as source:
            return source.read_project_version(folder)

    return ProjectWheels(indexes.find_links, version_of)


_FIRST_SETUPTOOLS_WITH_BDIST_WHEEL = Version("70.1")
"""the first setuptools that makes wheels without the project wheel"""


@dataclass(frozen=True)
class PreparedFile:
    """One distribution as a file that is here."""

    name: NormalizedName
    file: StoredFile
    selected_file: SelectedFile | None
    """None: made here from files of this machine"""
    origin: Mapping[str, str] | None = None
    findings: tuple[Finding, ...] = ()
    metadata: str | None = None
    """of a source that the target builds: METADATA of the wheel to come"""
    build_requirements: tuple[PreparedFile, ...] = ()
    """of such a source: all that its build takes there"""


def lock_requirements(requirements: Requirements, target: Target, indexes: Indexes, how: BuildOptions) -> Pylock:
    """The lock of these requirements for one target."""
    return resolve(requirements, target, indexes, how.make_context(indexes), how.resolver)


def name_requirements(requirements: Requirements, indexes: Indexes, how: BuildOptions) -> Requirements:
    """The same, with the names of addresses and folders that had none."""
    return complete_names(requirements, indexes, how.make_context(indexes))


def open_run_client(indexes: Indexes, how: BuildOptions) -> Client:
    """The client of a run."""
    return open_client(indexes, retries=how.retries, timeout=how.timeout, offline=how.offline)


def make_download_requests(chosen: Iterable[SelectedFile]) -> list[DownloadRequest]:
    """What is to be fetched, each file once, in the order of names. A folder and a commit are no files."""
    files = {(one.filename, one.sha256 or ""): one for one in chosen if one.filename}
    return [
        DownloadRequest(
            one.url or Path(one.path or "").absolute().as_uri(), one.filename, one.sha256, one.size, one.hashes
        )
        for _, one in sorted(files.items())
    ]


@contextlib.contextmanager
def open_provider(
    store: Store, indexes: Indexes, how: BuildOptions, watch: ProgressCallback = no_progress
) -> Iterator[DistributionProvider]:
    """The supply of a run; at the end nothing of it is under way."""
    with InspectionPool(store) as ahead, open_run_client(indexes, how) as opened:
        downloads = DownloadQueue(store, opened, how.jobs, ahead.submit)
        yield DistributionProvider(store, opened, downloads, ahead, indexes, how, watch)


@dataclass(frozen=True)
class DistributionProvider:
    """Where files come from in one run."""

    store: Store
    client: Client
    downloads: DownloadQueue
    inspection_pool: InspectionPool
    indexes: Indexes
    options: BuildOptions
    progress: ProgressCallback = no_progress
    parent_digests: tuple[str, ...] = ()
    """sources whose build requirements these are"""

    def prefetch(self, selection: Selection) -> None:
        """Its files are on their way from now on; what fails is told by `files`."""
        self.downloads.prefetch(make_download_requests(selection.files))

    def prepare(self, selections: Sequence[Selection]) -> list[list[PreparedFile]]:
        """For each selection its distributions as wheels; what cannot be fetched or built is told all at once."""
        every = [one for each in selections for one in each.files]
        listed = make_download_requests(every)
        sizes = [one.size for one in listed if one.size is not None]
        total = float(sum(sizes)) if len(sizes) == len(listed) else None
        what = text("fetching {count} files", count=len(listed))
        kept = {one.name: one for one in self.progress(what, self._fetch_files(listed), total, lambda one: one.size)}
        building = [(each.target, one) for each in selections for one in each.files if not one.is_wheel]
        if building:
            names = sorted({one.name for _, one in building})
            results = self.progress(
                text("building {names}", names=names), self._run_builds(building, kept), len(building)
            )
            built = {
                (target.tag, made.name): made
                for (target, _), made in zip(building, collect_results(results), strict=True)
            }
        else:
            built = {}
        return [
            [
                built.get((each.target.tag, one.name)) or PreparedFile(one.name, kept[one.filename], one)
                for one in each.files
            ]
            for each in selections
        ]

    def _fetch_files(self, listed: Iterable[DownloadRequest]) -> Iterator[StoredFile]:
        for one in self.downloads.fetch_files(listed):
            self.inspection_pool.submit(one)
            yield one
        self.inspection_pool.finish()

    def _run_builds(
        self, building: Sequence[tuple[Target, SelectedFile]], kept: Mapping[str, StoredFile]
    ) -> Iterator[PreparedFile | OfflinepackError]:
        # one after the other: a build may use every core itself, and a pure wheel serves the targets that follow
        pure: list[tuple[SelectedFile, PreparedFile]] = []
        for target, one in building:
            supply = self._prepare_sdist if self.options.sdist_mode == "include" else self._build_wheel
            for before, made in pure:
                if before.file == one.file and target.rank_wheel(made.file.name) is not None:
                    yield made
                    break
            else:
                done = capture_error(lambda target=target, one=one, supply=supply: supply(one, target, kept))  # type: ignore[misc]
                if isinstance(done, PreparedFile) and done.file.name.endswith("-none-any.whl"):
                    pure.append((one, done))
                yield done

    def _make_build_config(self) -> BuildConfig:
        from offlinepack.sdist.environment import BuildConfig  # what builds is loaded where something is built

        # what a build, or a backend that is asked, takes here is built here
        here = replace(self, options=replace(self.options, sdist_mode="build", resolver="auto"), progress=no_progress)
        return BuildConfig(
            self.store,
            here._provide_build_requirements,
            (self.options.cache_dir or Path(tempfile.gettempdir()) / "offlinepack") / "logs",
            pythons=self.options.build_pythons,
            root=self.options.build_root,
            config_settings=self.options.config_settings,
            build_constraints=tuple(path.read_text("utf-8") for path in self.options.build_constraints),
        )

    def _build_wheel(self, one: SelectedFile, target: Target, kept: Mapping[str, StoredFile]) -> PreparedFile:
        from offlinepack.sdist.build import build_wheel
        from offlinepack.sdist.source import clone_repository

        shop = self._make_build_config()
        if isinstance(one.file, PackageVcs):
            with tempfile.TemporaryDirectory(prefix="offlinepack-", ignore_cleanup_errors=True) as work:
                folder = Path(work) / "checkout"
                revision = one.file.commit_id or one.file.requested_revision
                commit = clone_repository(one.file.url or str(one.file.path), revision, folder)
                origin = {"name": one.name, "vcs": "git", "commit": commit}
                built = build_wheel(
                    folder, target, shop, name=one.name, subdirectory=one.file.subdirectory or "", origin=origin
                )
        elif isinstance(one.file, PackageDirectory):
            built = build_wheel(
                Path(one.file.path),
                target,
                shop,
                name=one.name,
                subdirectory=one.file.subdirectory or "",
                origin={"name": one.name, "vcs": "folder"},
            )
        else:
            within = one.file.subdirectory or "" if isinstance(one.file, PackageArchive) else ""
            built = build_wheel(kept[one.filename], target, shop, subdirectory=within)
        return PreparedFile(one.name, built.wheel, one, dict(built.built_from), built.findings)

    def read_project_version(self, folder: Path) -> str | None:
        """The version of a project's folder, as its backend says when a wheel is to be made (PEP 517)."""
        from offlinepack.sdist.metadata import prepare_wheel_metadata  # what builds is loaded where something is built

        python = self.options.build_pythons[0] if self.options.build_pythons and not self.options.build_root else None
        target = probe_interpreter(python) if python else get_running_target()
        metadata = prepare_wheel_metadata(folder, target, replace(self._make_build_config(), root=None))
        return parse_email(metadata)[0].get("version")

    def _prepare_sdist(self, one: SelectedFile, target: Target, kept: Mapping[str, StoredFile]) -> PreparedFile:
        """The source, and for the target all that its build takes: wheels, and sources with what theirs take."""
        from offlinepack.sdist.metadata import query_metadata
        from offlinepack.sdist.source import clone_repository

        shop = self._make_build_config()
        if isinstance(one.file, PackageVcs):
            with tempfile.TemporaryDirectory(prefix="offlinepack-", ignore_cleanup_errors=True) as work:
                folder = Path(work) / "checkout"
                revision = one.file.commit_id or one.file.requested_revision
                clone_repository(one.file.url or str(one.file.path), revision, folder)
                said = query_metadata(folder, target, shop, one.name, one.file.subdirectory or "")
        elif isinstance(one.file, PackageDirectory):
            said = query_metadata(Path(one.file.path), target, shop, one.name, one.file.subdirectory or "")
        else:
            said = query_metadata(kept[one.filename], target, shop, one.name)
        if said.file.sha256 in self.parent_digests:
            raise BuildError(
                error(
                    "build-circle",
                    one.name,
                    "{subject} needs itself to be built.",
                    "Allow a ready-made wheel of it: no --no-binary for this project.",
                )
            )
        how = replace(self.options, resolver="auto")
        asked = self._parse_build_requirements(said.build_requirements)
        made = lock_requirements(asked, target, self.indexes, how)
        if any(
            one.name == "setuptools" and one.version and one.version < _FIRST_SETUPTOOLS_WITH_BDIST_WHEEL
            for one in made.packages
        ):
            asked = self._parse_build_requirements([*said.build_requirements, "wheel"])
            made = lock_requirements(asked, target, self.indexes, how)
        inner = replace(self, progress=no_progress, parent_digests=(*self.parent_digests, said.file.sha256))
        (files,) = inner.prepare([select_files(made, target, asked)])
        builders = {each.file.name: each for file in files for each in (file, *file.build_requirements)}
        built_there = note(
            "built-there",
            one.name,
            "{subject} goes to {target} as its source and is built there; a compiler and Python's header files are "
            "needed there if it has extension modules.",
            target=target.name,
        )
        return PreparedFile(
            one.name,
            said.file,
            one,
            findings=(built_there,),
            metadata=said.metadata,
            build_requirements=tuple(one for _, one in sorted(builders.items())),
        )

    def _parse_build_requirements(self, requirements: Sequence[str]) -> Requirements:
        asked = replace(parse_arguments(requirements), name=None)
        for path in self.options.build_constraints:
            from offlinepack.requirements.read import read_constraints

            asked = asked + read_constraints(path)
        return asked

    def _provide_build_requirements(self, requirements: Sequence[str], target: Target) -> list[StoredFile]:
        """Build requirements are requirements: locked, selected, fetched, and built where need be."""
        asked = self._parse_build_requirements(requirements)
        made = lock_requirements(asked, target, self.indexes, self.options)
        (files,) = self.prepare([select_files(made, target, asked)])
        return [one.file for one in files]


def add_build_requirements(tools: Sequence[PreparedFile], files: Iterable[PreparedFile]) -> list[PreparedFile]:
    """The tools, pip first, and what the builds of these files take, each once."""
    known = {one.file.name: one for one in (*tools, *(each for one in files for each in one.build_requirements))}
    return sorted(known.values(), key=lambda one: (one.name != "pip", one.file.name))
