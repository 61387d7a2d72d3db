"""Patch pip for a target, check the patches and run a pip command; the program of the subprocess."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from offlinepack.pip_shim.patching import expect, import_pip_module, replace_everywhere
from offlinepack.pip_shim.resolver_patches import describe_cause, list_pins, skip_downloads

PATCHING_FAILED = 97

COMMAND_STOPPED = 98

PROGRAMS = {"pip": ("pip", []), "pip-compile": ("piptools", ["compile"])}

REQUEST_VARIABLES = {"extra", "extras", "dependency_groups"}
"""marker variables that are set by a requirement or a lock, not by the environment"""


class Script:
    """Job of this process and the facts that it reports."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.rules: dict[str, Any] = job["rules"]
        self.facts: dict[str, Any] = {}
        self.version = tuple(int(part) for part in job["environment"]["python_full_version"].split(".")[:3])

    def main(self) -> NoReturn:
        """Patch pip for the target, check each patch and run the command."""
        import runpy

        from offlinepack.pip_shim.index_patches import IndexPatches

        reading = IndexPatches(self.rules, self.job["tags"], self.version, self.stop)
        prefetch = hide_releases = _do_nothing
        if self.job["speedups"]:
            from offlinepack.pip_shim.speedups import Speedups  # optional

            speedups = Speedups()
            speedups.filter_pages(reading)
            prefetch = speedups.prefetch_dependencies
            hide_releases = partial(speedups.hide_dead_releases, reading.dead_ends)
        part, pip = "pip", "?"
        steps: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
            ("the marker environment", self.replace_markers, self.prove_markers),
            ("the list of tags", self.replace_tags, self.prove_tags),
            ("the Python version", self.replace_version, self.prove_version),
            ("the choice of formats", partial(self.replace_formats, reading.allow_sdist), self.prove_formats),
            ("the reader of pages", reading.replace_pages, reading.prove_pages),
            ("the search of indexes", reading.replace_search, reading.prove_search),
            ("the prefetch of dependencies", prefetch, _do_nothing),
            ("the reader of dependencies", reading.dead_ends.replace_dependencies, _do_nothing),
            ("the list of candidates", hide_releases, _do_nothing),
            ("the resolver", partial(self.replace_resolver, reading), _do_nothing),
        ]
        try:
            pip = str(importlib.import_module("pip").__version__)
            for name, replace, prove in steps:
                part = name
                replace()
                prove()
        except Exception as failure:
            self.stop(PATCHING_FAILED, pip=pip, part=part, reason=f"{type(failure).__name__}: {failure}")
        program, *arguments = self.job["arguments"]
        runs, first = PROGRAMS[program]
        sys.argv = [program, *first, *arguments]
        try:
            runpy.run_module(runs, run_name="__main__", alter_sys=True)
        except Exception as raised:
            # pip-compile prints tracebacks of pip's errors; pip prints their text only
            self.write_exception(raised)
            print(f"{type(raised).__name__}: {raised}", file=sys.stderr)
            sys.exit(1)
        sys.exit(0)

    def write_facts(self, **facts: Any) -> None:
        """Write facts to the file that the host process reads."""
        self.facts.update(facts)
        Path(self.job["facts_path"]).write_text(json.dumps(self.facts), "utf-8")

    def write_exception(self, raised: Exception) -> None:
        """Report the classes and the text of the exception that ended the command."""
        self.write_facts(exception_classes=[class_.__name__ for class_ in type(raised).__mro__], message=str(raised))

    def stop(self, code: int = COMMAND_STOPPED, **facts: Any) -> NoReturn:
        """End the process from any thread: pip would treat an exception as a fault of one file and continue."""
        self.write_facts(**facts)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    # -------------------------------------------------------------------------------------- target

    def replace_markers(self) -> None:
        """Evaluate markers with the values of the target; stop if a marker depends on an unknown one."""
        import_pip_module("_internal.models.installation_report")
        markers = import_pip_module("_vendor.packaging.markers")
        environment = self.job["environment"]
        replace_everywhere("default_environment", markers.default_environment, lambda: dict(environment))
        evaluate = markers.Marker.evaluate

        def settled(part: Any, value: bool) -> Any:
            # a comparison (left, operator, right) with an unknown variable is replaced by a true or a false one
            if isinstance(part, list):
                return [settled(inner, value) for inner in part]
            names = (
                {inner.value for inner in part if isinstance(inner, markers.Variable)} if type(part) is tuple else set()
            )
            if not names - set(environment) - REQUEST_VARIABLES:
                return part
            return (
                markers.Variable("os_name"),
                markers.Op("==" if value else "!="),
                markers.Value(environment["os_name"]),
            )

        def three_valued(marker: Any, *arguments: Any, **named: Any) -> bool:
            outcomes = [settled(marker._markers, value) for value in (True, False)]
            if outcomes[0] == outcomes[1]:
                return bool(evaluate(marker, *arguments, **named))
            results = set()
            for outcome in outcomes:
                other = object.__new__(markers.Marker)
                other._markers = outcome
                results.add(bool(evaluate(other, *arguments, **named)))
            if len(results) > 1:
                self.stop(marker=str(marker))
            return results.pop()

        markers.Marker.evaluate = three_valued

    def prove_markers(self) -> None:
        """Check that a marker holds for each value of the target's environment, and its negation does not."""
        line_to_requirement = import_pip_module("_internal.req.constructors").install_req_from_line
        for name, value in self.job["environment"].items():
            for sign, expected in (("==", True), ("!=", False)):
                line = f"stone ; {name} {sign} '{value}'"
                if "'" not in value:
                    expect(line_to_requirement(line).match_markers(), expected, line)
        _ = import_pip_module("_vendor.packaging.markers").Op, import_pip_module("_vendor.packaging.markers").Value

    def replace_tags(self) -> None:
        """Make pip use the target's tags, best first."""
        import_pip_module("_internal.models.target_python")
        import_pip_module("_internal.resolution.resolvelib.factory")
        tag = import_pip_module("_vendor.packaging.tags").Tag
        tags = [tag(*tag_name.split("-")) for tag_name in self.job["tags"]]
        own_tags = import_pip_module("_internal.utils.compatibility_tags").get_supported
        replace_everywhere("get_supported", own_tags, lambda *_, **__: list(tags))

    def prove_tags(self) -> None:
        """Check that both users of the tags in pip see those of the target."""
        asks = import_pip_module("_internal.models.target_python").TargetPython().get_sorted_tags
        for ask in (asks, import_pip_module("_internal.resolution.resolvelib.factory").get_supported):
            expect([str(tag) for tag in ask()], self.job["tags"], ask.__qualname__)

    def replace_version(self) -> None:
        """Make pip check Requires-Python, of index pages and of metadata, against the target's Python."""
        target_python = import_pip_module("_internal.models.target_python").TargetPython
        python_candidate = import_pip_module("_internal.resolution.resolvelib.candidates").RequiresPythonCandidate
        version, target_init, candidate_init = self.version, target_python.__init__, python_candidate.__init__

        def target(python: Any, platforms: Any = None, py_version_info: Any = None, *rest: Any, **named: Any) -> None:
            target_init(python, platforms, py_version_info or version, *rest, **named)

        def candidate(python: Any, py_version_info: Any) -> None:
            candidate_init(python, py_version_info or version)

        target_python.__init__, python_candidate.__init__ = target, candidate

    def prove_version(self) -> None:
        """Check that both users of the Python version in pip see that of the target."""
        candidates = import_pip_module("_internal.resolution.resolvelib.candidates")
        target_python = import_pip_module("_internal.models.target_python").TargetPython()
        expect(target_python.py_version_info, self.version, "TargetPython")
        expect(candidates.RequiresPythonCandidate(None).version.release, self.version, "RequiresPythonCandidate")

    def replace_formats(self, allow_sdist: set[str]) -> None:
        """Allow sdists beside wheels for these projects: pip's options cannot make exceptions from :all:."""
        control = import_pip_module("_internal.models.format_control").FormatControl
        allowed = control.get_allowed_formats

        def get_allowed_formats(formats: Any, canonical_name: str) -> Any:
            return (
                frozenset({"binary", "source"}) if canonical_name in allow_sdist else allowed(formats, canonical_name)
            )

        control.get_allowed_formats = get_allowed_formats

    def prove_formats(self) -> None:
        """Check that these projects may be wheels or sdists, and others only wheels."""
        formats = import_pip_module("_internal.models.format_control").FormatControl(set(), {":all:"})
        for name in self.rules["allow_sdist"]:
            expect(formats.get_allowed_formats(name), {"binary", "source"}, name)
        expect(formats.get_allowed_formats(""), {"binary"}, "others")

    # -------------------------------------------------------------------------------------- results

    def replace_resolver(self, reading: Any) -> None:
        """Report the solution or the conflict as facts: pip's own messages and report contain less."""
        factory = import_pip_module("_internal.resolution.resolvelib.factory").Factory
        resolver = import_pip_module("_internal.resolution.resolvelib.resolver").Resolver
        report, resolve = factory.get_installation_error, resolver.resolve

        def get_installation_error(self_: Any, conflict: Any, constraints: Any, *rest: Any, **named: Any) -> Any:
            ends = reading.dead_ends
            causes = [
                leaf
                for cause in conflict.causes
                for leaf in ends.find_unsatisfied(self_, constraints, *cause) or [tuple(cause)]
            ]
            projects_without_files = ends.filter_unsatisfiable(self_, causes)
            self.write_facts(
                allow_sdist=sorted(reading.allow_sdist),
                causes=[describe_cause(cause, self_, constraints) for cause in projects_without_files or causes],
            )
            if not projects_without_files and reading.unsatisfiable:
                self.write_facts(unsatisfiable=reading.list_unsatisfiable())
            return report(self_, conflict, constraints, *rest, **named)

        def resolve_and_report(self_: Any, *rest: Any, **named: Any) -> Any:
            try:
                resolution = resolve(self_, *rest, **named)
            except Exception as raised:
                self.write_exception(raised)
                raise
            self.write_facts(pins=list(list_pins(self_, reading)), allow_sdist=sorted(reading.allow_sdist))
            return resolution

        factory.get_installation_error, resolver.resolve = get_installation_error, resolve_and_report
        arguments = set(self.job["arguments"])
        if "--report" not in arguments and arguments & {"--dry-run", "pip-compile"}:
            import_pip_module(
                "_internal.operations.prepare"
            ).RequirementPreparer.prepare_linked_requirements_more = skip_downloads


def _do_nothing() -> None:
    """Stand for a patch that is switched off and for a check that does not exist."""
