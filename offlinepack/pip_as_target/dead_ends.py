"""In the script's process: releases that no solution can hold, each found out once.

A release that needs what no file can be taken of is dead, and so is one that needs only dead ones. pip learns that anew
in every branch of its search, and of branches there are as many as ways to combine everything else; with this a
search among old releases ends, and knows where it began: the projects without a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Leaf = tuple[Any, Any]
"""a requirement of pip's that nothing can satisfy, and the candidate that has it (None: asked for)"""
AHEAD = 8
"""releases whose metadata are asked for once a newer one is dead, or was left"""


class DeadEnds:
    """Identifier ("name" or "name[extra]") -> version -> why it is dead."""

    def __init__(self, excluded: Sequence[str]) -> None:
        self.excluded = excluded
        self.known: dict[str, dict[Any, list[Leaf]]] = {}
        self.direct: set[str] = set()
        """projects that come from an address: what an index has of them tells nothing"""
        self._looked_at: dict[str, Any] = {}
        self._fetched: dict[str, Any] = {}
        self._asked: set[tuple[str, Any]] = set()
        self.deep = True
        """dependencies count: no --no-deps"""
        self.invalid: type[Exception] = ValueError

    def replace(self, prefetch: Callable[..., None]) -> None:
        """Keep dead releases from pip; `prefetch(factory, name, files)` is told what will be looked at next."""
        from offlinepack.pip_as_target.script import module

        factory_class = module("_internal.resolution.resolvelib.factory").Factory
        provider_class = module("_internal.resolution.resolvelib.provider").PipProvider
        self.invalid = module("_internal.exceptions").MetadataInvalid
        find, depend = factory_class.find_candidates, provider_class.get_dependencies

        def find_candidates(factory: Any, identifier: str, *rest: Any, **named: Any) -> Any:
            found = find(factory, identifier, *rest, **named)
            dead = self._of(identifier)
            if any(dead) and hasattr(found, "_get_infos"):
                infos = found._get_infos
                found._get_infos = lambda: (one for one in infos() if not any(one[0] in each for each in dead))
            return found

        def get_dependencies(provider: Any, candidate: Any) -> Any:
            needed, self.deep = list(depend(provider, candidate)), not provider._ignore_dependencies
            name, version = candidate.project_name, candidate.version
            goes_back = version < self._looked_at.setdefault(name, version)
            dead = self._judge(provider._factory, provider._constraints, candidate, needed)
            if (dead or goes_back) and version <= self._fetched.get(name, version):
                files = [one for one in provider._factory._finder.find_all_candidates(name) if one.version < version]
                ahead = sorted({one.version for one in files}, reverse=True)[:AHEAD]
                self._fetched[name] = ahead[-1] if ahead else version
                prefetch(provider._factory, name, [one for one in files if one.version in ahead])
            return needed

        factory_class.find_candidates, provider_class.get_dependencies = find_candidates, get_dependencies

    def leaves(self, factory: Any, constraints: Any, wanted: Any, by: Any) -> list[Leaf]:
        """Why nothing can satisfy this requirement, by the newest release that it admits; nothing: something may."""
        explicit, asked = wanted.get_candidate_lookup()
        name = wanted.project_name
        if explicit is not None:
            if _is_direct(explicit) and name not in self.direct:
                self.direct.add(name)
                self.known.clear()
            return self.known.get(explicit.name, {}).get(explicit.version, [])
        if _is_python(wanted):  # another than the target's
            return [(wanted, by)]
        if name in self.direct or asked.link is not None:
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
        dead = self._of(wanted.name)
        alive = [one for one in admitted if not any(one.version in each for each in dead)]
        # of what was withdrawn pip may look at nothing
        if not all(one.link.is_yanked for one in alive) or any(
            self._lives(factory, constraints, wanted, asked, one) for one in {one.version for one in alive}
        ):
            return []

        def why(version: Any) -> list[Leaf]:
            return _distinct(leaf for each in dead for leaf in each.get(version, []))

        # a release for another Python is as good as none
        by_files = [one for one in admitted if not all(_is_python(each) for each, _ in why(one.version))]
        newest = max(by_files or admitted, key=lambda one: (not one.link.is_yanked, one.version)).version
        return why(newest) + ([] if by_files else [(wanted, by)])

    def barren(self, factory: Any, leaves: Iterable[Leaf]) -> list[Leaf]:
        """Of these the projects without any file: that says more than that of one release among many there is none."""
        named = [one for one in leaves if not _is_python(one[0])]
        return [one for one in named if not factory._finder.find_all_candidates(one[0].project_name)]

    def held_down(self, name: str, version: Any, specifiers: Iterable[Any]) -> tuple[str, list[Leaf]] | None:
        """The newest release above this one that is dead though it is admitted, and why."""
        specifiers = list(specifiers)
        dead = {
            one: why
            for identifier, known in self.known.items()
            for one, why in known.items()
            if identifier.partition("[")[0] == name and one > version and not one.is_prerelease
            if all(each.contains(one, prereleases=True) for each in specifiers)
        }
        return (str(max(dead)), dead[max(dead)]) if dead else None

    def _of(self, identifier: str) -> list[dict[Any, list[Leaf]]]:
        """What is known of a project, and of it with an extra."""
        return [self.known.setdefault(one, {}) for one in {identifier, identifier.partition("[")[0]}]

    def _lives(self, factory: Any, constraints: Any, wanted: Any, asked: Any, version: Any) -> bool:
        """A release that pip has not looked at: whether it is dead too; one that is being asked about may live."""
        if (wanted.name, version) in self._asked:
            return True
        self._asked.add((wanted.name, version))
        finder = factory._finder
        files = [one for one in finder.find_all_candidates(wanted.project_name) if one.version == version]
        best = finder.make_candidate_evaluator(wanted.project_name).compute_best_candidate(files).best_candidate
        try:
            candidate = best and factory._make_candidate_from_link(
                best.link, extras=frozenset(asked.extras), template=asked, name=wanted.project_name, version=version
            )
        except self.invalid:  # which pip passes over
            return False
        if candidate is None:
            return True
        needed = [
            one
            for one in candidate.iter_dependencies(self.deep)
            if one is not None and one.project_name not in self.excluded
        ]
        lives = not self._judge(factory, constraints, candidate, needed)
        self._asked.discard((wanted.name, version))
        return lives

    def _judge(self, factory: Any, constraints: Any, candidate: Any, needed: Iterable[Any]) -> bool:
        """Whether the candidate, which needs this, is dead."""
        if _is_direct(candidate):
            return False
        leaves = _distinct(leaf for one in needed for leaf in self.leaves(factory, constraints, one, candidate))
        if leaves:
            self.known.setdefault(candidate.name, {})[candidate.version] = leaves
        return bool(leaves)


def _is_python(wanted: Any) -> bool:
    return bool(wanted.get_candidate_lookup() == (None, None))


def _is_direct(candidate: Any) -> bool:
    asked = candidate.get_install_requirement() or getattr(candidate, "base", candidate).get_install_requirement()
    return asked is not None and bool(asked.is_direct)


def _distinct(leaves: Iterable[Leaf]) -> list[Leaf]:
    """One of each requirement and release."""
    return list({(str(wanted), str(by)): (wanted, by) for wanted, by in leaves}.values())
