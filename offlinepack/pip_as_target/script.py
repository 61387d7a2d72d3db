"""The other process: pip, made to see a target. started by run() and by nothing else.

`given.json`: `arguments` (the program first), `environment` and `tags` of the target, `path` to add to sys.path,
`rules` (what Rules.to_json says) and `told`, the file that this script leaves its facts in. Exit codes of its own: 97,
pip cannot be shown the target; 98, it ended the command; else they are the command's.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

BLIND = 97
STOPPED = 98
PROGRAMS = {"pip": ("pip", []), "pip-compile": ("piptools", ["compile"])}
GIVEN_ELSEWHERE = {"extra", "extras", "dependency_groups"}
"""marker variables that a requirement or a lock brings, not the environment"""


class Unexpected(Exception):
    """A part of pip is not there, or does not do what was expected."""


def expect(found: object, expected: object, where: str) -> None:
    """Unexpected where they differ."""
    if found != expected:
        raise Unexpected(f"{where}: {found!r} instead of {expected!r}")


def module(name: str) -> Any:
    """A module of pip's: "_internal.index.collector"."""
    return importlib.import_module(f"pip.{name}")


def everywhere(name: str, original: Any, other: Any) -> None:
    """Put `other` in the place of `original` in every module of pip that holds it under this name."""
    for one in [one for key, one in sys.modules.items() if key.startswith("pip.")]:
        if getattr(one, "__dict__", {}).get(name) is original:
            setattr(one, name, other)


class Script:
    """What this process was given, and what it tells."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.rules: dict[str, Any] = given["rules"]
        self.told: dict[str, Any] = {}
        self.version = tuple(int(part) for part in given["environment"]["python_full_version"].split(".")[:3])

    def main(self) -> NoReturn:
        """Show pip the target, prove it, run the command."""
        import runpy

        from offlinepack.pip_as_target.reading import Reading

        reading = Reading(self.rules, self.given["tags"], self.version, self.stop)
        part, pip = "pip", "?"
        steps: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
            ("the marker environment", self.replace_markers, self.prove_markers),
            ("the list of tags", self.replace_tags, self.prove_tags),
            ("the Python version", self.replace_version, self.prove_version),
            ("the choice of formats", lambda: self.replace_formats(reading.either), self.prove_formats),
            ("the reader of pages", reading.replace_pages, reading.prove_pages),
            ("the search of indexes", reading.replace_search, reading.prove_search),
            ("the resolver", lambda: self.watch_resolver(reading), lambda: None),
        ]
        try:
            pip = str(importlib.import_module("pip").__version__)
            for name, replace, prove in steps:
                part = name
                replace()
                prove()
        except Exception as why:
            self.stop(BLIND, pip=pip, part=part, why=f"{type(why).__name__}: {why}")
        program, *arguments = self.given["arguments"]
        runs, first = PROGRAMS[program]
        sys.argv = [program, *first, *arguments]
        try:
            runpy.run_module(runs, run_name="__main__", alter_sys=True)
        except Exception as raised:
            # pip-compile shows tracebacks of pip's errors; pip itself shows its errors
            self.tell_of(raised)
            print(f"{type(raised).__name__}: {raised}", file=sys.stderr)
            sys.exit(1)
        sys.exit(0)

    def tell(self, **facts: Any) -> None:
        """Leave facts for the process that waits."""
        self.told.update(facts)
        Path(self.given["told"]).write_text(json.dumps(self.told), "utf-8")

    def tell_of(self, raised: Exception) -> None:
        """What ended the command: the exception's classes and words."""
        self.tell(raised=[one.__name__ for one in type(raised).__mro__], why=str(raised))

    def stop(self, code: int = STOPPED, **facts: Any) -> NoReturn:
        """End the whole process here, from any thread: pip would take an exception for one file's fault and go on."""
        self.tell(**facts)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    # -------------------------------------------------------------------------------------- what the target is

    def replace_markers(self) -> None:
        """The target's values; where one is not known, a marker is an error only if its truth depends on it."""
        module("_internal.models.installation_report")
        markers = module("_vendor.packaging.markers")
        known = self.given["environment"]
        everywhere("default_environment", markers.default_environment, lambda: dict(known))
        evaluate = markers.Marker.evaluate

        def settled(part: Any, value: bool) -> Any:
            # (left, operator, right) with a variable that is not known for the target: as if it were true, or false
            if isinstance(part, list):
                return [settled(one, value) for one in part]
            names = {one.value for one in part if isinstance(one, markers.Variable)} if type(part) is tuple else set()
            if not names - set(known) - GIVEN_ELSEWHERE:
                return part
            return markers.Variable("os_name"), markers.Op("==" if value else "!="), markers.Value(known["os_name"])

        def three_valued(marker: Any, *given: Any, **named: Any) -> bool:
            both = [settled(marker._markers, value) for value in (True, False)]
            if both[0] == both[1]:
                return bool(evaluate(marker, *given, **named))
            results = set()
            for one in both:
                other = object.__new__(markers.Marker)
                other._markers = one
                results.add(bool(evaluate(other, *given, **named)))
            if len(results) > 1:
                self.stop(marker=str(marker))
            return results.pop()

        markers.Marker.evaluate = three_valued

    def prove_markers(self) -> None:
        """A requirement with each value of the environment holds, with any other it does not."""
        line_to_requirement = module("_internal.req.constructors").install_req_from_line
        for name, value in self.given["environment"].items():
            for sign, expected in (("==", True), ("!=", False)):
                line = f"stone ; {name} {sign} '{value}'"
                if "'" not in value:
                    expect(line_to_requirement(line).match_markers(), expected, line)
        _ = module("_vendor.packaging.markers").Op, module("_vendor.packaging.markers").Value

    def replace_tags(self) -> None:
        """The target's tags, best first."""
        module("_internal.models.target_python")
        module("_internal.resolution.resolvelib.factory")
        tag = module("_vendor.packaging.tags").Tag
        tags = [tag(*one.split("-")) for one in self.given["tags"]]
        own = module("_internal.utils.compatibility_tags").get_supported
        everywhere("get_supported", own, lambda *_, **__: list(tags))

    def prove_tags(self) -> None:
        """Both that ask have them."""
        asks = module("_internal.models.target_python").TargetPython().get_sorted_tags
        for ask in (asks, module("_internal.resolution.resolvelib.factory").get_supported):
            expect([str(tag) for tag in ask()], self.given["tags"], ask.__qualname__)

    def replace_version(self) -> None:
        """The target's Python, for Requires-Python of an index's files and of metadata."""
        target_python = module("_internal.models.target_python").TargetPython
        python_candidate = module("_internal.resolution.resolvelib.candidates").RequiresPythonCandidate
        version, target_init, candidate_init = self.version, target_python.__init__, python_candidate.__init__

        def target(python: Any, platforms: Any = None, py_version_info: Any = None, *rest: Any, **named: Any) -> None:
            target_init(python, platforms, py_version_info or version, *rest, **named)

        def candidate(python: Any, py_version_info: Any) -> None:
            candidate_init(python, py_version_info or version)

        target_python.__init__, python_candidate.__init__ = target, candidate

    def prove_version(self) -> None:
        """Both that ask have it."""
        candidates = module("_internal.resolution.resolvelib.candidates")
        target_python = module("_internal.models.target_python").TargetPython()
        expect(target_python.py_version_info, self.version, "TargetPython")
        expect(candidates.RequiresPythonCandidate(None).version.release, self.version, "RequiresPythonCandidate")

    def replace_formats(self, either: set[str]) -> None:
        """`either`: pip's options know only-wheels, only-sdists, and everything for everyone."""
        control = module("_internal.models.format_control").FormatControl
        allowed = control.get_allowed_formats

        def get_allowed_formats(formats: Any, canonical_name: str) -> Any:
            return frozenset({"binary", "source"}) if canonical_name in either else allowed(formats, canonical_name)

        control.get_allowed_formats = get_allowed_formats

    def prove_formats(self) -> None:
        """Each of these may come as either, others may not."""
        formats = module("_internal.models.format_control").FormatControl(set(), {":all:"})
        for name in self.rules["either"]:
            expect(formats.get_allowed_formats(name), {"binary", "source"}, name)
        expect(formats.get_allowed_formats(""), {"binary"}, "others")

    # -------------------------------------------------------------------------------------- what came of it

    def watch_resolver(self, reading: Any) -> None:
        """The solution, or what could not be brought together, as facts: pip's own words and files hold fewer."""
        factory = module("_internal.resolution.resolvelib.factory").Factory
        resolver = module("_internal.resolution.resolvelib.resolver").Resolver
        report, resolve = factory.get_installation_error, resolver.resolve

        def get_installation_error(self_: Any, conflict: Any, constraints: Any, *rest: Any, **named: Any) -> Any:
            ends = reading.dead_ends
            causes = [leaf for one in conflict.causes for leaf in ends.leaves(self_, constraints, *one) or [tuple(one)]]
            barren = ends.barren(self_, causes)
            self.tell(
                either=sorted(reading.either), causes=[_cause(one, self_, constraints) for one in barren or causes]
            )
            if not barren and reading.barren:
                self.tell(barren=reading.barren_and_askers())
            return report(self_, conflict, constraints, *rest, **named)

        def resolve_and_tell(self_: Any, *rest: Any, **named: Any) -> Any:
            try:
                done = resolve(self_, *rest, **named)
            except Exception as raised:
                self.tell_of(raised)
                raise
            self.tell(pins=list(_pins(self_, reading)), either=sorted(reading.either))
            return done

        factory.get_installation_error, resolver.resolve = get_installation_error, resolve_and_tell
        arguments = set(self.given["arguments"])
        if "--report" not in arguments and arguments & {"--dry-run", "pip-compile"}:
            module("_internal.operations.prepare").RequirementPreparer.prepare_linked_requirements_more = _fetch_nothing


_UNMADE = "UnsatisfiableRequirement"


def _cause(cause: Any, factory: Any, constraints: Any) -> dict[str, Any]:
    """One of the requirements that cannot stand together, and who has it."""
    requirement, parent = cause
    asked = requirement.get_candidate_lookup()[1]
    name = requirement.project_name
    constraint = constraints.get(name)
    specifier: Any = getattr(asked or requirement, "specifier", "")
    offered = factory._finder.find_all_candidates(name) if asked is not None else ()
    return {
        "project": name,
        "files": sum(not specifier or specifier.contains(one.version, prereleases=True) for one in offered),
        "wanted": requirement.format_for_error(),
        "specifier": str(specifier),
        "by": f"{parent.name} {parent.version}" if parent else "",
        "constraint": str(constraint.specifier) if constraint else "",
        # an address whose metadata cannot be had
        "why": str([*factory._build_failures.values(), ""][0]) if type(requirement).__name__ == _UNMADE else "",
    }


def _fetch_nothing(preparer: Any, requirements: Iterable[Any], *_: Any, **__: Any) -> None:
    """Older versions fetch every file at the end of a dry run too, although nothing is done with it."""
    describe = module("_internal.utils.direct_url_helpers").direct_url_from_link
    for one in requirements:
        if one.download_info is None and one.link is not None:
            one.download_info = describe(one.link, one.source_dir)


def _pins(resolver: Any, reading: Any) -> Iterable[dict[str, Any]]:
    """Each project of the solution, with its files that fit."""
    specifiers: dict[str, list[Any]] = {}
    for criterion in resolver._result.criteria.values():
        for information in criterion.information:
            asked = information.requirement.get_candidate_lookup()[1]
            if asked is not None:
                specifiers.setdefault(information.requirement.project_name, []).append(asked.specifier)
    for candidate in resolver._result.mapping.values():
        asked = candidate.get_install_requirement()
        if asked is None:  # an extra of another candidate, or Python
            continue
        name, version = candidate.project_name, candidate.version
        pin = {"name": name, "version": str(version), "python": str(candidate.dist.requires_python)}
        session = resolver.factory.preparer._session
        if asked.is_direct:
            direct = asked.download_info.to_dict()
            if "archive_info" in direct:  # its metadata may have been read without the rest of it
                direct["archive_info"] = {"hashes": reading.file(candidate.source_link, session)["hashes"]}
            yield {**pin, "direct": direct, "files": [], "newer": None, "held": None}
            continue
        offered = resolver.factory._finder.find_all_candidates(name)
        files = [reading.file(one.link, session) for one in offered if one.version == version]
        newer = reading.newer(name, version, {str(one.version) for one in offered}, specifiers.get(name, []))
        held, why = reading.dead_ends.held_down(name, version, specifiers.get(name, [])) or (None, [])
        lacking = sorted({one.project_name for one, _ in reading.dead_ends.barren(resolver.factory, why)})
        yield {**pin, "direct": None, "files": files, "newer": newer, "held": [held, lacking] if lacking else None}
