"""Prepare the selected files of a run: download wheels, and build or describe sdists."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.pylock import PackageArchive, PackageDirectory, PackageVcs, Pylock
from packaging.utils import NormalizedName
from packaging.version import Version

from offlinepack.errors import Finding, OfflinepackError, SourceError, error, note, text
from offlinepack.index.model import Indexes
from offlinepack.net.client import Client
from offlinepack.net.download import DownloadQueue
from offlinepack.net.model import DownloadRequest
from offlinepack.net.urls import redact_url
from offlinepack.pipeline.concurrency import collect_results, run_in_order
from offlinepack.pipeline.request import BuildOptions
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.requirements.model import ProjectIdentity, ProjectWheels, Requirements
from offlinepack.requirements.read import parse_arguments, read_constraints
from offlinepack.resolve.choose import resolve
from offlinepack.selection import SelectedFile, Selection, select_files
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target
from offlinepack.targets.parse import get_running_target, probe_interpreter
from offlinepack.wheels.metadata import parse_metadata
from offlinepack.wheels.pool import InspectionPool

if TYPE_CHECKING:
    from offlinepack.sdist.environment import BuildConfig


FIRST_SETUPTOOLS_WITH_BDIST_WHEEL = Version("70.1")
"""first setuptools that builds wheels without the project wheel"""


def fetch_page(url: str, indexes: Indexes, options: BuildOptions) -> bytes:
    """Fetch a requirements file by URL. Raises SourceError if there is none."""
    with options.open_client(indexes) as client:
        page = client.fetch_page(url)
    if page is None:
        raise SourceError(
            error(
                "no-such-page", redact_url(url), "There is nothing at {subject}.", "Mend the address, or give a file."
            )
        )
    return page.text.encode()


def make_own_wheels(indexes: Indexes, options: BuildOptions) -> ProjectWheels:
    """Return where wheels of a local project may lie, and a function that asks its build backend for its version."""

    def read_version(folder: Path) -> str | None:
        with Store.open(options.cache_dir) as store, open_provider(store, indexes, options) as provider:
            return provider.read_project_version(folder)

    return ProjectWheels(indexes.find_links, read_version)


@dataclass(frozen=True)
class PreparedFile:
    """A distribution of one target whose file is in the store."""

    name: NormalizedName
    file: StoredFile
    selected_file: SelectedFile | None
    """None if the wheel was made from included files"""
    origin: Mapping[str, str] | None = None
    """what a wheel was built from, for the manifest"""
    findings: tuple[Finding, ...] = ()
    metadata: str | None = None
    """METADATA of the wheel that the target machine will build from an sdist; None for a wheel"""
    build_requirements: tuple[PreparedFile, ...] = ()
    """distributions that the target machine needs to build it"""


def make_download_requests(files: Iterable[SelectedFile]) -> list[DownloadRequest]:
    """Return one request for each distinct file, sorted by name; local folders and commits are no files."""
    distinct_files = {(file.filename, file.sha256 or ""): file for file in files if file.filename}
    return [
        DownloadRequest(
            file.url or Path(file.path or "").absolute().as_uri(), file.filename, file.sha256, file.size, file.hashes
        )
        for _, file in sorted(distinct_files.items())
    ]


@contextlib.contextmanager
def open_provider(
    store: Store, indexes: Indexes, options: BuildOptions, progress: ProgressCallback = no_progress
) -> Iterator[DistributionProvider]:
    """Open the provider of a run; all downloads and inspections have ended when it closes."""
    with InspectionPool(store) as pool, options.open_client(indexes) as client:
        downloads = DownloadQueue(store, client, options.jobs, pool.submit)
        yield DistributionProvider(store, client, downloads, pool, indexes, options, progress)


@dataclass(frozen=True)
class DistributionProvider:
    """Downloads and builds the distributions of one run."""

    store: Store
    client: Client
    downloads: DownloadQueue
    inspection_pool: InspectionPool
    indexes: Indexes
    options: BuildOptions
    progress: ProgressCallback = no_progress

    def prefetch(self, selection: Selection) -> None:
        """Start to download the files of a selection; `prepare` reports what fails."""
        self.downloads.prefetch(make_download_requests(selection.files))

    def prepare(self, selections: Sequence[Selection]) -> list[list[PreparedFile]]:
        """Return the distributions of each selection; raise one error with all that cannot be downloaded or built."""
        stored_files = self._fetch([file for selection in selections for file in selection.files])
        builds = [(selection.target, file) for selection in selections for file in selection.files if not file.is_wheel]
        built_files = self._build(builds, stored_files) if builds else {}
        return [
            [
                built_files.get((selection.target.tag, file.name))
                or PreparedFile(file.name, stored_files[file.filename], file)
                for file in selection.files
            ]
            for selection in selections
        ]

    def _fetch(self, files: Iterable[SelectedFile]) -> dict[str, StoredFile]:
        """Download files; return them by file name once every wheel among them was inspected."""
        requests = make_download_requests(files)
        sizes = [request.size for request in requests if request.size is not None]
        total = float(sum(sizes)) if len(sizes) == len(requests) else None
        label = text("fetching {count} files", count=len(requests))
        stored_files = {}
        for stored_file in self.progress(label, self.downloads.fetch_files(requests), total, lambda file: file.size):
            self.inspection_pool.submit(stored_file)
            stored_files[stored_file.name] = stored_file
        self.inspection_pool.finish()
        return stored_files

    # --------------------------------------------------------------------------------------------------------- sdists

    def _build(
        self, builds: Sequence[tuple[Target, SelectedFile]], stored_files: Mapping[str, StoredFile]
    ) -> dict[tuple[str, NormalizedName], PreparedFile]:
        """Build, or describe, each sdist for each target, one after the other: a build may use every core itself."""
        pure_wheels: list[PreparedFile] = []

        def build(target: Target, file: SelectedFile) -> PreparedFile:
            for wheel in pure_wheels:  # a pure wheel serves the targets that follow
                if (
                    wheel.selected_file
                    and wheel.selected_file.file == file.file
                    and target.rank_wheel(wheel.file.name) is not None
                ):
                    return wheel
            prepare = self._prepare_sdist if self.options.sdist_mode == "include" else self._build_wheel
            prepared_file = prepare(file, target, stored_files)
            if prepared_file.file.name.endswith("-none-any.whl"):
                pure_wheels.append(prepared_file)
            return prepared_file

        label = text("building {names}", names=sorted({file.name for _, file in builds}))
        jobs: list[Callable[[], PreparedFile]] = [partial(build, target, file) for target, file in builds]
        results: Iterable[PreparedFile | OfflinepackError] = self.progress(label, run_in_order(jobs), len(builds))
        return {
            (target.tag, prepared_file.name): prepared_file
            for (target, _), prepared_file in zip(builds, collect_results(results), strict=True)
        }

    def _build_wheel(self, file: SelectedFile, target: Target, stored_files: Mapping[str, StoredFile]) -> PreparedFile:
        """Build the wheel of an sdist, folder or commit on the build host."""
        from offlinepack.sdist.build import build_wheel  # start-up time: few builds have sdists

        config = self._make_build_config()
        with _open_source(file, stored_files) as (source, subdirectory, commit):
            if isinstance(file.file, PackageVcs):
                origin = {"name": file.name, "vcs": "git", "commit": commit}
            else:
                origin = {"name": file.name, "vcs": "folder"}
            if isinstance(source, Path):
                built = build_wheel(source, target, config, name=file.name, subdirectory=subdirectory, origin=origin)
            else:
                built = build_wheel(source, target, config, subdirectory=subdirectory)
        return PreparedFile(file.name, built.wheel, file, dict(built.built_from), built.findings)

    def _prepare_sdist(
        self, file: SelectedFile, target: Target, stored_files: Mapping[str, StoredFile]
    ) -> PreparedFile:
        """Prepare an sdist that the target machine builds, with everything that its build needs there."""
        # start-up time: few builds have sdists
        from offlinepack.sdist.environment import forbid_circles
        from offlinepack.sdist.metadata import query_metadata

        config = self._make_build_config()
        with _open_source(file, stored_files) as (source, subdirectory, _):
            # the folder inside an archive is looked for when it is built
            within = subdirectory if isinstance(source, Path) else ""
            sdist = query_metadata(source, target, config, file.name, within)
        with forbid_circles(sdist.file.sha256, file.name):
            requirements = self._parse_build_requirements(sdist.build_requirements)
            pylock = self._lock(requirements, target, "auto")
            if any(
                package.name == "setuptools" and package.version and package.version < FIRST_SETUPTOOLS_WITH_BDIST_WHEEL
                for package in pylock.packages
            ):
                requirements = self._parse_build_requirements([*sdist.build_requirements, "wheel"])
                pylock = self._lock(requirements, target, "auto")
            (build_files,) = replace(self, progress=no_progress).prepare([select_files(pylock, target, requirements)])
        build_requirements = {
            needed_file.file.name: needed_file
            for build_file in build_files
            for needed_file in (build_file, *build_file.build_requirements)
        }
        finding = note(
            "built-there",
            file.name,
            "{subject} goes to {target} as its source and is built there; a compiler and Python's header files are "
            "needed there if it has extension modules.",
            target=target.name,
        )
        return PreparedFile(
            file.name,
            sdist.file,
            file,
            findings=(finding,),
            metadata=sdist.metadata,
            build_requirements=tuple(build_file for _, build_file in sorted(build_requirements.items())),
        )

    def read_project_version(self, folder: Path) -> str | None:
        """Ask the build backend of a project folder for the version of its wheel (PEP 517)."""
        from offlinepack.sdist.metadata import prepare_wheel_metadata  # start-up time: few builds have sdists

        python = self.options.build_pythons[0] if self.options.build_pythons and not self.options.build_root else None
        target = probe_interpreter(python) if python else get_running_target()
        metadata = prepare_wheel_metadata(folder, target, replace(self._make_build_config(), root=None))
        return parse_metadata(metadata).raw.get("version")

    def _make_build_config(self) -> BuildConfig:
        from offlinepack.sdist.environment import BuildConfig  # start-up time: few builds have sdists

        # build requirements are always built on the build host
        host_options = replace(self.options, sdist_mode="build", resolver="auto")
        provider = replace(self, options=host_options, progress=no_progress)
        return BuildConfig(
            self.store,
            provider.provide_build_requirements,
            (self.options.cache_dir or Path(tempfile.gettempdir()) / "offlinepack") / "logs",
            pythons=self.options.build_pythons,
            root=self.options.build_root,
            config_settings=self.options.config_settings,
            build_constraints=tuple(path.read_text("utf-8") for path in self.options.build_constraints),
        )

    def provide_build_requirements(self, requirements: Sequence[str], target: Target) -> list[StoredFile]:
        """Lock, select and prepare build requirements like any others."""
        build_requirements = self._parse_build_requirements(requirements)
        pylock = self._lock(build_requirements, target, self.options.resolver)
        (files,) = self.prepare([select_files(pylock, target, build_requirements)])
        return [file.file for file in files]

    def _parse_build_requirements(self, requirements: Sequence[str]) -> Requirements:
        build_requirements = replace(parse_arguments(requirements), identity=ProjectIdentity())
        for path in self.options.build_constraints:
            build_requirements = build_requirements + read_constraints(path)
        return build_requirements

    def _lock(self, requirements: Requirements, target: Target, resolver: str) -> Pylock:
        return resolve(requirements, target, self.indexes, self.options.make_context(self.indexes), resolver)


@contextlib.contextmanager
def _open_source(
    file: SelectedFile, stored_files: Mapping[str, StoredFile]
) -> Iterator[tuple[StoredFile | Path, str, str]]:
    """Yield the source of a build: the stored sdist or a folder, the subdirectory of the project in it, the commit."""
    if isinstance(file.file, PackageVcs):
        from offlinepack.sdist.source import clone_repository  # start-up time: few builds have sdists

        with tempfile.TemporaryDirectory(prefix="offlinepack-", ignore_cleanup_errors=True) as work:
            folder = Path(work) / "checkout"
            revision = file.file.commit_id or file.file.requested_revision
            commit = clone_repository(file.file.url or str(file.file.path), revision, folder)
            yield folder, file.file.subdirectory or "", commit
    elif isinstance(file.file, PackageDirectory):
        yield Path(file.file.path), file.file.subdirectory or "", ""
    else:
        subdirectory = file.file.subdirectory or "" if isinstance(file.file, PackageArchive) else ""
        yield stored_files[file.filename], subdirectory, ""


def add_build_requirements(tools: Sequence[PreparedFile], files: Iterable[PreparedFile]) -> list[PreparedFile]:
    """Return the tools and the build requirements of the files, each once, pip first."""
    distinct_files = {
        file.file.name: file for file in (*tools, *(need for file in files for need in file.build_requirements))
    }
    return sorted(distinct_files.values(), key=lambda file: (file.name != "pip", file.file.name))
