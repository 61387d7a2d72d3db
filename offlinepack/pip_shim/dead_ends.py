"""Record the releases that no solution can contain, to explain conflicts and older versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from offlinepack.pip_shim.patching import import_pip_module

UnsatisfiedRequirement = tuple[Any, Any]
"""requirement of pip that nothing can satisfy, and the candidate that has it (None: requested by the user)"""


class DeadEnds:
    """Releases that no solution can contain, with the unsatisfiable requirements that make them dead."""

    def __init__(self, excluded: Sequence[str]) -> None:
        self.excluded_projects = excluded
        self.dead_releases: dict[str, dict[Any, list[UnsatisfiedRequirement]]] = {}
        """identifier ("name" or "name[extra]") -> version -> reason"""
        self.direct_projects: set[str] = set()
        """projects required by a direct URL: what an index has of them does not matter"""
        self._pending_releases: set[tuple[str, Any]] = set()
        self.follow_dependencies = True
        """whether dependencies are resolved (false with --no-deps)"""
        self.invalid_metadata_error: type[Exception] = ValueError

    def replace_dependencies(self) -> None:
        """Record each release that is dead when pip asks for its dependencies."""
        provider_class = import_pip_module("_internal.resolution.resolvelib.provider").PipProvider
        self.invalid_metadata_error = import_pip_module("_internal.exceptions").MetadataInvalid
        depend = provider_class.get_dependencies

        def get_dependencies(provider: Any, candidate: Any) -> Any:
            needed, self.follow_dependencies = list(depend(provider, candidate)), not provider._ignore_dependencies
            self._record_if_dead(provider._factory, provider._constraints, candidate, needed)
            return needed

        provider_class.get_dependencies = get_dependencies

    def is_dead(self, candidate: Any) -> bool:
        """Tell whether a candidate is recorded as dead."""
        return candidate.version in self.dead_releases.get(candidate.name, {})

    def get_dead_releases(self, identifier: str) -> list[dict[Any, list[UnsatisfiedRequirement]]]:
        """Return the dead releases of a project without and with its extra."""
        return [self.dead_releases.setdefault(name, {}) for name in {identifier, identifier.partition("[")[0]}]

    def find_unsatisfied(
        self, factory: Any, constraints: Any, requirement: Any, by: Any
    ) -> list[UnsatisfiedRequirement]:
        """Return why nothing can satisfy a requirement, judged by the newest admitted release; empty if satisfiable."""
        explicit, install_requirement = requirement.get_candidate_lookup()
        name = requirement.project_name
        if explicit is not None:
            if _is_direct(explicit) and name not in self.direct_projects:
                self.direct_projects.add(name)
                self.dead_releases.clear()
            return self.dead_releases.get(explicit.name, {}).get(explicit.version, [])
        if _is_python_requirement(requirement):  # requires a Python other than the target's
            return [(requirement, by)]
        if name in self.direct_projects or install_requirement.link is not None:
            return []
        specifier = install_requirement.specifier
        if name in constraints:
            if constraints[name].links:
                return []
            specifier &= constraints[name].specifier
        finder = factory._finder
        evaluator = finder.make_candidate_evaluator(name, specifier=specifier)
        admitted = evaluator.get_applicable_candidates(finder.find_all_candidates(name))
        if not admitted:
            return [(requirement, by)]
        dead = self.get_dead_releases(requirement.name)
        alive = [candidate for candidate in admitted if not any(candidate.version in versions for versions in dead)]
        # pip may never examine yanked releases, so they are examined by _is_alive
        if not all(candidate.link.is_yanked for candidate in alive) or any(
            self._is_alive(factory, constraints, requirement, install_requirement, version)
            for version in {version.version for version in alive}
        ):
            return []

        def reason(version: Any) -> list[UnsatisfiedRequirement]:
            return _remove_duplicates(leaf for leaves in dead for leaf in leaves.get(version, []))

        # releases for another Python count as missing
        by_files = [
            candidate
            for candidate in admitted
            if not all(_is_python_requirement(leaf) for leaf, _ in reason(candidate.version))
        ]
        newest = max(by_files or admitted, key=lambda file: (not file.link.is_yanked, file.version)).version
        return reason(newest) + ([] if by_files else [(requirement, by)])

    def filter_unsatisfiable(
        self, factory: Any, leaves: Iterable[UnsatisfiedRequirement]
    ) -> list[UnsatisfiedRequirement]:
        """Return the requirements of projects without any file: they explain more than one missing release of many."""
        named = [leaf for leaf in leaves if not _is_python_requirement(leaf[0])]
        return [pair for pair in named if not factory._finder.find_all_candidates(pair[0].project_name)]

    def find_held_back(
        self, name: str, version: Any, specifiers: Iterable[Any]
    ) -> tuple[str, list[UnsatisfiedRequirement]] | None:
        """Return the newest admitted release above `version` that is dead, and the reason."""
        specifiers = list(specifiers)
        dead = {
            release: reason
            for identifier, releases in self.dead_releases.items()
            for release, reason in releases.items()
            if identifier.partition("[")[0] == name and release > version and not release.is_prerelease
            if all(specifier.contains(release, prereleases=True) for specifier in specifiers)
        }
        return (str(max(dead)), dead[max(dead)]) if dead else None

    def _is_alive(
        self, factory: Any, constraints: Any, requirement: Any, install_requirement: Any, version: Any
    ) -> bool:
        """Tell whether a release that pip has not examined may be part of a solution; assume so during recursion."""
        if (requirement.name, version) in self._pending_releases:
            return True
        self._pending_releases.add((requirement.name, version))
        finder = factory._finder
        files = [
            candidate
            for candidate in finder.find_all_candidates(requirement.project_name)
            if candidate.version == version
        ]
        best = finder.make_candidate_evaluator(requirement.project_name).compute_best_candidate(files).best_candidate
        try:
            candidate = best and factory._make_candidate_from_link(
                best.link,
                extras=frozenset(install_requirement.extras),
                template=install_requirement,
                name=requirement.project_name,
                version=version,
            )
        except self.invalid_metadata_error:  # pip ignores such releases
            return False
        if candidate is None:
            return True
        needed = [
            dependency
            for dependency in candidate.iter_dependencies(self.follow_dependencies)
            if dependency is not None and dependency.project_name not in self.excluded_projects
        ]
        lives = not self._record_if_dead(factory, constraints, candidate, needed)
        self._pending_releases.discard((requirement.name, version))
        return lives

    def _record_if_dead(self, factory: Any, constraints: Any, candidate: Any, needed: Iterable[Any]) -> bool:
        """Record a candidate as dead if one of its requirements cannot be satisfied, and tell whether it is."""
        if _is_direct(candidate):
            return False
        leaves = _remove_duplicates(
            leaf for library in needed for leaf in self.find_unsatisfied(factory, constraints, library, candidate)
        )
        if leaves:
            self.dead_releases.setdefault(candidate.name, {})[candidate.version] = leaves
        return bool(leaves)


def _is_python_requirement(requirement: Any) -> bool:
    return bool(requirement.get_candidate_lookup() == (None, None))


def _is_direct(candidate: Any) -> bool:
    install_requirement = (
        candidate.get_install_requirement() or getattr(candidate, "base", candidate).get_install_requirement()
    )
    return install_requirement is not None and bool(install_requirement.is_direct)


def _remove_duplicates(leaves: Iterable[UnsatisfiedRequirement]) -> list[UnsatisfiedRequirement]:
    """Keep the first of each pair of requirement and release."""
    return list({(str(requirement), str(by)): (requirement, by) for requirement, by in leaves}.values())
