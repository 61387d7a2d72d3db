"""Skip releases that no solution can contain, so that pip's search ends sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

UnsatisfiedRequirement = tuple[Any, Any]
"""a requirement of pip's that nothing can satisfy, and the candidate that has it (None: asked for)"""

PREFETCH_COUNT = 8
"""releases whose metadata are asked for once a newer one is dead, or was left"""


class DeadEnds:
    """Identifier ("name" or "name[extra]") -> version -> why it is dead."""

    def __init__(self, excluded: Sequence[str]) -> None:
        self.excluded_projects = excluded
        self.dead_releases: dict[str, dict[Any, list[UnsatisfiedRequirement]]] = {}
        self.direct_projects: set[str] = set()
        """projects that come from an address: what an index has of them tells nothing"""
        self._first_versions: dict[str, Any] = {}
        self._prefetched_versions: dict[str, Any] = {}
        self._pending_releases: set[tuple[str, Any]] = set()
        self.follow_dependencies = True
        """dependencies count: no --no-deps"""
        self.invalid_metadata_error: type[Exception] = ValueError

    def replace_search(self, prefetch: Callable[..., None]) -> None:
        """Keep dead releases from pip; `prefetch(factory, name, files)` is told what will be looked at next."""
        from offlinepack.pip_shim.patching import import_pip_module

        factory_class = import_pip_module("_internal.resolution.resolvelib.factory").Factory
        provider_class = import_pip_module("_internal.resolution.resolvelib.provider").PipProvider
        self.invalid_metadata_error = import_pip_module("_internal.exceptions").MetadataInvalid
        find, depend = factory_class.find_candidates, provider_class.get_dependencies

        def find_candidates(factory: Any, identifier: str, *rest: Any, **named: Any) -> Any:
            found = find(factory, identifier, *rest, **named)
            dead = self._get_dead_releases(identifier)
            if any(dead) and hasattr(found, "_get_infos"):
                infos = found._get_infos
                found._get_infos = lambda: (one for one in infos() if not any(one[0] in each for each in dead))
            return found

        def get_dependencies(provider: Any, candidate: Any) -> Any:
            needed, self.follow_dependencies = list(depend(provider, candidate)), not provider._ignore_dependencies
            name, version = candidate.project_name, candidate.version
            goes_back = version < self._first_versions.setdefault(name, version)
            dead = self._record_if_dead(provider._factory, provider._constraints, candidate, needed)
            if (dead or goes_back) and version <= self._prefetched_versions.get(name, version):
                files = [one for one in provider._factory._finder.find_all_candidates(name) if one.version < version]
                ahead = sorted({one.version for one in files}, reverse=True)[:PREFETCH_COUNT]
                self._prefetched_versions[name] = ahead[-1] if ahead else version
                prefetch(provider._factory, name, [one for one in files if one.version in ahead])
            return needed

        factory_class.find_candidates, provider_class.get_dependencies = find_candidates, get_dependencies

    def find_unsatisfied(self, factory: Any, constraints: Any, wanted: Any, by: Any) -> list[UnsatisfiedRequirement]:
        """Why nothing can satisfy this requirement, by the newest release that it admits; nothing: something may."""
        explicit, asked = wanted.get_candidate_lookup()
        name = wanted.project_name
        if explicit is not None:
            if _is_direct(explicit) and name not in self.direct_projects:
                self.direct_projects.add(name)
                self.dead_releases.clear()
            return self.dead_releases.get(explicit.name, {}).get(explicit.version, [])
        if _is_python_requirement(wanted):  # another than the target's
            return [(wanted, by)]
        if name in self.direct_projects or asked.link is not None:
            return []
        specifier = asked.specifier
        if name in constraints:
            if constraints[name].links:
                return []
            specifier &= constraints[name].specifier
        finder = factory._finder
        evaluator = finder.make_candidate_evaluator(name, specifier=specifier)
        admitted = evaluator.get_applicable_candidates(finder.find_all_candidates(name))
        if not admitted:
            return [(wanted, by)]
        dead = self._get_dead_releases(wanted.name)
        alive = [one for one in admitted if not any(one.version in each for each in dead)]
        # of what was withdrawn pip may look at nothing
        if not all(one.link.is_yanked for one in alive) or any(
            self._is_alive(factory, constraints, wanted, asked, one) for one in {one.version for one in alive}
        ):
            return []

        def why(version: Any) -> list[UnsatisfiedRequirement]:
            return _remove_duplicates(leaf for each in dead for leaf in each.get(version, []))

        # a release for another Python is as good as none
        by_files = [one for one in admitted if not all(_is_python_requirement(each) for each, _ in why(one.version))]
        newest = max(by_files or admitted, key=lambda one: (not one.link.is_yanked, one.version)).version
        return why(newest) + ([] if by_files else [(wanted, by)])

    def filter_unsatisfiable(
        self, factory: Any, leaves: Iterable[UnsatisfiedRequirement]
    ) -> list[UnsatisfiedRequirement]:
        """Of these the projects without any file: that says more than that of one release among many there is none."""
        named = [one for one in leaves if not _is_python_requirement(one[0])]
        return [one for one in named if not factory._finder.find_all_candidates(one[0].project_name)]

    def find_held_back(
        self, name: str, version: Any, specifiers: Iterable[Any]
    ) -> tuple[str, list[UnsatisfiedRequirement]] | None:
        """The newest release above this one that is dead though it is admitted, and why."""
        specifiers = list(specifiers)
        dead = {
            one: why
            for identifier, known in self.dead_releases.items()
            for one, why in known.items()
            if identifier.partition("[")[0] == name and one > version and not one.is_prerelease
            if all(each.contains(one, prereleases=True) for each in specifiers)
        }
        return (str(max(dead)), dead[max(dead)]) if dead else None

    def _get_dead_releases(self, identifier: str) -> list[dict[Any, list[UnsatisfiedRequirement]]]:
        """What is known of a project, and of it with an extra."""
        return [self.dead_releases.setdefault(one, {}) for one in {identifier, identifier.partition("[")[0]}]

    def _is_alive(self, factory: Any, constraints: Any, wanted: Any, asked: Any, version: Any) -> bool:
        """A release that pip has not looked at: whether it is dead too; one that is being asked about may live."""
        if (wanted.name, version) in self._pending_releases:
            return True
        self._pending_releases.add((wanted.name, version))
        finder = factory._finder
        files = [one for one in finder.find_all_candidates(wanted.project_name) if one.version == version]
        best = finder.make_candidate_evaluator(wanted.project_name).compute_best_candidate(files).best_candidate
        try:
            candidate = best and factory._make_candidate_from_link(
                best.link, extras=frozenset(asked.extras), template=asked, name=wanted.project_name, version=version
            )
        except self.invalid_metadata_error:  # which pip passes over
            return False
        if candidate is None:
            return True
        needed = [
            one
            for one in candidate.iter_dependencies(self.follow_dependencies)
            if one is not None and one.project_name not in self.excluded_projects
        ]
        lives = not self._record_if_dead(factory, constraints, candidate, needed)
        self._pending_releases.discard((wanted.name, version))
        return lives

    def _record_if_dead(self, factory: Any, constraints: Any, candidate: Any, needed: Iterable[Any]) -> bool:
        """Whether the candidate, which needs this, is dead."""
        if _is_direct(candidate):
            return False
        leaves = _remove_duplicates(
            leaf for one in needed for leaf in self.find_unsatisfied(factory, constraints, one, candidate)
        )
        if leaves:
            self.dead_releases.setdefault(candidate.name, {})[candidate.version] = leaves
        return bool(leaves)


def _is_python_requirement(wanted: Any) -> bool:
    return bool(wanted.get_candidate_lookup() == (None, None))


def _is_direct(candidate: Any) -> bool:
    asked = candidate.get_install_requirement() or getattr(candidate, "base", candidate).get_install_requirement()
    return asked is not None and bool(asked.is_direct)


def _remove_duplicates(leaves: Iterable[UnsatisfiedRequirement]) -> list[UnsatisfiedRequirement]:
    """One of each requirement and release."""
    return list({(str(wanted), str(by)): (wanted, by) for wanted, by in leaves}.values())
