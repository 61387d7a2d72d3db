"""Optional patches of pip that only save time: page filter, prefetch, and hidden dead releases.

Without them pip finds the same solution later. OFFLINEPACK_PIP_SPEEDUPS=0 switches them off (patching-pip.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from offlinepack.pip_shim.patching import import_pip_module

if TYPE_CHECKING:
    from offlinepack.pip_shim.dead_ends import DeadEnds
    from offlinepack.pip_shim.index_patches import IndexPatches

MAX_THREADS = 8

PREFETCH_COUNT = 8
"""number of older releases whose metadata is prefetched after a newer one was dead or was abandoned"""


class Speedups:
    """Patches on top of those of the index and of the dead ends, in the order of its methods."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MAX_THREADS)
        self._candidates: dict[str, Future[Any]] = {}
        self._metadata: dict[str, Future[Any]] = {}
        self._first_versions: dict[str, Any] = {}
        self._prefetched_versions: dict[str, Any] = {}
        self._fetch_metadata: Any = None

    def filter_pages(self, reading: IndexPatches) -> None:
        """Remove unfitting files from pages before pip makes links of them: most files of a big project do not fit."""
        reading.drops_unfitting_files = True

    def prefetch_dependencies(self) -> None:
        """Read the pages and the best metadata of all dependencies at once, before pip examines them one by one."""
        finder_class = import_pip_module("_internal.index.package_finder").PackageFinder
        preparer_class = import_pip_module("_internal.operations.prepare").RequirementPreparer
        factory_class = import_pip_module("_internal.resolution.resolvelib.factory").Factory
        provider_class = import_pip_module("_internal.resolution.resolvelib.provider").PipProvider
        search, fetch = finder_class.find_all_candidates, preparer_class._fetch_metadata_only
        collect, depend = factory_class.collect_root_requirements, provider_class.get_dependencies
        self._fetch_metadata = fetch

        def read_project(factory: Any, name: str, specifier: Any) -> Any:
            files = search(factory._finder, name)
            evaluator = factory._finder.make_candidate_evaluator(name, specifier=specifier)
            self._prefetch_metadata(factory, name, evaluator.compute_best_candidate(files).best_candidate)
            return files

        def prefetch(factory: Any, requirements: Iterable[Any]) -> None:
            for line in requirements:
                name, install_requirement = line.project_name, line.get_candidate_lookup()[1]
                if (
                    install_requirement is not None
                    and install_requirement.link is None
                    and name not in self._candidates
                ):
                    self._candidates[name] = self._pool.submit(
                        read_project, factory, name, install_requirement.specifier
                    )

        def find_all_candidates(finder: Any, name: str) -> Any:
            return self._candidates[name].result() if name in self._candidates else search(finder, name)

        def fetch_metadata_only(preparer: Any, requirement: Any) -> Any:
            if requirement.link.url in self._metadata:
                return self._metadata[requirement.link.url].result()
            return fetch(preparer, requirement)

        def collect_root_requirements(factory: Any, *rest: Any, **named: Any) -> Any:
            collected = collect(factory, *rest, **named)
            prefetch(factory, collected.requirements)
            return collected

        def get_dependencies(provider: Any, candidate: Any) -> Any:
            needed = depend(provider, candidate)
            prefetch(provider._factory, needed)
            return needed

        finder_class.find_all_candidates = find_all_candidates
        preparer_class._fetch_metadata_only = fetch_metadata_only
        factory_class.collect_root_requirements = collect_root_requirements
        provider_class.get_dependencies = get_dependencies

    def hide_dead_releases(self, dead_ends: DeadEnds) -> None:
        """Hide dead releases from pip, and prefetch the metadata of the next older releases."""
        factory_class = import_pip_module("_internal.resolution.resolvelib.factory").Factory
        provider_class = import_pip_module("_internal.resolution.resolvelib.provider").PipProvider
        find, depend = factory_class.find_candidates, provider_class.get_dependencies

        def find_candidates(factory: Any, identifier: str, *rest: Any, **named: Any) -> Any:
            candidates = find(factory, identifier, *rest, **named)
            dead = dead_ends.get_dead_releases(identifier)
            if any(dead) and hasattr(candidates, "_get_infos"):
                infos = candidates._get_infos
                candidates._get_infos = lambda: (
                    info for info in infos() if not any(info[0] in versions for versions in dead)
                )
            return candidates

        def get_dependencies(provider: Any, candidate: Any) -> Any:
            needed = depend(provider, candidate)
            name, version = candidate.project_name, candidate.version
            is_older = version < self._first_versions.setdefault(name, version)
            if (is_older or dead_ends.is_dead(candidate)) and version <= self._prefetched_versions.get(name, version):
                files = [file for file in provider._factory._finder.find_all_candidates(name) if file.version < version]
                versions = sorted({file.version for file in files}, reverse=True)[:PREFETCH_COUNT]
                self._prefetched_versions[name] = versions[-1] if versions else version
                self._prefetch_releases(provider._factory, name, files, versions)
            return needed

        factory_class.find_candidates, provider_class.get_dependencies = find_candidates, get_dependencies

    def _prefetch_releases(self, factory: Any, name: str, files: Sequence[Any], versions: Iterable[Any]) -> None:
        """Prefetch the metadata of the best file of each of these versions."""
        evaluator = factory._finder.make_candidate_evaluator(name)
        for version in versions:
            matching = [file for file in files if file.version == version]
            self._prefetch_metadata(factory, name, evaluator.compute_best_candidate(matching).best_candidate)

    def _prefetch_metadata(self, factory: Any, name: str, best: Any) -> None:
        """Prefetch the metadata of the best candidate of a project, if there is one and it is a wheel."""
        if best is None or not best.link.is_wheel or best.link.url in self._metadata:
            return
        requirement = import_pip_module("_vendor.packaging.requirements").Requirement(f"{name}=={best.version}")
        install_requirement = import_pip_module("_internal.req.req_install").InstallRequirement(
            requirement, None, link=best.link
        )
        self._metadata[best.link.url] = self._pool.submit(self._fetch_metadata, factory.preparer, install_requirement)
