"""Compute install order and missing dependencies of a lock from the METADATA of its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from offlinepack.errors import Finding, error, note, warning
from offlinepack.requirements.model import RequirementLine, Requirements, applies_to
from offlinepack.wheels.metadata import WheelMetadata

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


@dataclass(frozen=True)
class InstallStep:
    """One distribution in install order."""

    name: NormalizedName
    version: Version
    requires: tuple[NormalizedName, ...]
    """normalised names, sorted, markers settled for the target; only what is installed too"""
    is_requested: bool


@dataclass(frozen=True)
class MissingDependency:
    """A requirement that holds on the target and that nothing chosen fulfils."""

    requirement: Requirement
    required_by: NormalizedName | None
    """None where it was asked for itself"""
    selected_version: Version | None = None
    """the version that is there but does not fit"""


@dataclass(frozen=True)
class Closure:
    """What a target installs, and what was found on the way."""

    order: tuple[InstallStep, ...]
    """what is needed before what needs it; circles are cut at the name that comes first"""
    missing_dependencies: tuple[MissingDependency, ...]
    unneeded_names: tuple[NormalizedName, ...]
    """locked, but nothing that was asked for leads to it on this target; not in `order`"""
    incompatible_versions: tuple[tuple[NormalizedName, Version], ...]
    """chosen, but its Requires-Python does not admit the target's Python"""
    python_min: str
    """X.Y, or X.Y.Z where a Requires-Python asks for that patch release"""
    findings: tuple[Finding, ...]


def check_closure(chosen: Iterable[WheelMetadata], requirements: Requirements, target: Target) -> Closure:
    """Follow what was asked through the chosen distributions' own requirements, under the target's markers.

    With --no-deps every chosen distribution is installed, and what it misses is a warning each. A lock that was
    given without anything asked is installed whole: what nothing else needs counts as requested.
    """
    chosen_by_name = {metadata.name: metadata for metadata in chosen}
    roots = _find_roots(requirements, chosen_by_name, target)
    whole = requirements.policy.no_deps or bool(requirements.pylocks)
    reached: dict[NormalizedName, set[str]] = {}
    edges: dict[NormalizedName, set[NormalizedName]] = {}
    missing: dict[tuple[str, str], MissingDependency] = {}
    queue: list[tuple[NormalizedName, frozenset[str]]] = [
        *roots,
        *((name, frozenset[str]()) for name in sorted(chosen_by_name) if whole),
    ]
    for metadata, version in _find_unmet(requirements, chosen_by_name, target):
        missing[metadata.name, str(metadata)] = MissingDependency(metadata, None, version)
    unknown_extras: dict[tuple[str, str], NormalizedName | None] = {}
    while queue:
        name, extras = queue.pop(0)
        if name in reached and extras <= reached[name]:
            continue
        extras = extras | reached.get(name, set())
        reached[name] = set(extras)
        edges.setdefault(name, set())
        for needed in requirements.override(chosen_by_name[name].requires):
            if not target.evaluate(needed.marker, extras=sorted(extras)):
                continue
            needed_name = canonicalize_name(needed.name)
            if needed_name in requirements.excluded_projects:
                continue
            dependency = chosen_by_name.get(needed_name)
            if dependency is None:
                missing[needed_name, str(needed)] = MissingDependency(needed, name)
                continue
            if not needed.specifier.contains(dependency.version, prereleases=True):
                missing[needed_name, str(needed)] = MissingDependency(needed, name, dependency.version)
            needed_extras = frozenset(canonicalize_name(extra) for extra in needed.extras)
            for extra in needed_extras - dependency.extras:
                unknown_extras[needed_name, extra] = name
            if needed_name != name:
                edges[name].add(needed_name)
            queue.append((needed_name, needed_extras))
    for root, asked_extras in roots:
        for unknown in asked_extras - chosen_by_name[root].extras:
            unknown_extras[root, unknown] = None
    superfluous = tuple(sorted(set(chosen_by_name) - set(reached)))
    needed_by_others = {to for names in edges.values() for to in names}
    by_people = {line.name for line in requirements.requirements if line.is_requested and not line.required_by}
    requested = {name for name, _ in roots if name in by_people}
    if whole and not requested:
        requested = set(chosen_by_name) - needed_by_others
    order = tuple(
        InstallStep(name, chosen_by_name[name].version, tuple(sorted(edges[name])), name in requested)
        for name in _sort_by_dependency(edges)
    )
    python_min, unfit = _find_minimum_python(chosen_by_name, sorted(reached), target)
    findings = [
        *_report_missing(missing.values(), requirements, target),
        *_report_wrong_python(unfit, chosen_by_name, target),
        *_report_unknown_extras(unknown_extras, chosen_by_name),
        *_report_unneeded(superfluous, chosen_by_name, sorted(reached), target),
        *_report_additions(requirements, order, target),
    ]
    return Closure(order, tuple(missing.values()), superfluous, unfit, python_min, tuple(findings))


def next_requirements(requirements: Requirements, closed: Closure) -> Requirements | None:
    """Return the requirements of another round that may complete the closure; None if it is complete or cannot be.

    A resolver reads the metadata of one file of a release, and uv ignores upper bounds of Requires-Python. So the
    next round requires what the selected files themselves declare.
    """
    excluded = [_make_requirement_line(f"{name}!={version}", name) for name, version in closed.incompatible_versions]
    bounds = [
        _make_requirement_line(format_requirement(dependency.requirement), dependency.required_by)
        for dependency in closed.missing_dependencies
        if dependency.selected_version is not None
    ]
    added_lines = [
        _make_requirement_line(format_requirement(dependency.requirement), dependency.required_by)
        for dependency in closed.missing_dependencies
        if dependency.selected_version is None and dependency.required_by and not dependency.requirement.url
    ]
    if requirements.policy.no_deps:
        bounds, added_lines = [], []
    constraints = tuple(bound for bound in (*excluded, *bounds) if bound not in requirements.constraints)
    new_lines = tuple(line for line in added_lines if line not in requirements.requirements)
    if not constraints and not new_lines:
        return None
    return replace(
        requirements,
        requirements=requirements.requirements + new_lines,
        constraints=requirements.constraints + constraints,
    )


def accepts_version(
    chosen: Iterable[WheelMetadata], requirements: Requirements, target: Target, name: str, version: Version
) -> bool:
    """Check whether the other distributions and the requirements accept this version of a project too."""
    closed = check_closure(
        [replace(metadata, version=version) if metadata.name == name else metadata for metadata in chosen],
        requirements,
        target,
    )
    return not any(
        dependency.selected_version == version and canonicalize_name(dependency.requirement.name) == name
        for dependency in closed.missing_dependencies
    )


def _make_requirement_line(line: str, by: str | None) -> RequirementLine:
    return RequirementLine(line, f"needed by {by}", Requirement(line), required_by=by or "")


def _find_roots(
    requirements: Requirements, chosen_by_name: Mapping[NormalizedName, WheelMetadata], target: Target
) -> list[tuple[NormalizedName, frozenset[str]]]:
    """Return the requested projects that apply to the target with their extras, sorted by name."""
    extras_of: dict[NormalizedName, frozenset[str]] = {}
    for line in requirements.requirements:
        if line.name in chosen_by_name and line.name is not None and not line.required_by and applies_to(line, target):
            extras_of[line.name] = extras_of.get(line.name, frozenset()) | line.extras
    return sorted(extras_of.items())


def _find_unmet(
    requirements: Requirements, chosen_by_name: Mapping[NormalizedName, WheelMetadata], target: Target
) -> list[tuple[Requirement, Version | None]]:
    unmet: list[tuple[Requirement, Version | None]] = []
    for line in requirements.requirements:
        if line.requirement is None or line.name is None or not applies_to(line, target):
            continue
        if line.name in {*requirements.excluded_projects, *(override.name for override in requirements.overrides)}:
            continue
        metadata = chosen_by_name.get(line.name)
        if metadata is None or not line.requirement.specifier.contains(metadata.version, prereleases=True):
            unmet.append((line.requirement, metadata.version if metadata else None))
    return unmet


def _sort_by_dependency(edges: Mapping[NormalizedName, set[NormalizedName]]) -> list[NormalizedName]:
    """Sort distributions so that dependencies come first, otherwise by name; the order is deterministic."""
    order: list[NormalizedName] = []
    visited: set[NormalizedName] = set()
    for root in sorted(edges):
        if root in visited:
            continue
        visited.add(root)
        path = [(root, iter(sorted(edges[root])))]
        while path:
            name, rest = path[-1]
            for needed in rest:
                if needed not in visited:
                    visited.add(needed)
                    path.append((needed, iter(sorted(edges[needed]))))
                    break
            else:
                order.append(name)
                path.pop()
    return order


def _find_minimum_python(
    chosen_by_name: Mapping[NormalizedName, WheelMetadata], reached: Sequence[NormalizedName], target: Target
) -> tuple[str, tuple[tuple[NormalizedName, Version], ...]]:
    """Find the oldest patch release of Python that every Requires-Python admits, and who admits not even the newest."""
    full = target.environment["python_full_version"]
    release = Version(full).release
    series, newest = f"{release[0]}.{release[1]}", release[2] if len(release) > 2 else 0
    asking = {name: chosen_by_name[name].requires_python for name in reached}
    unfit = tuple(
        (name, chosen_by_name[name].version)
        for name, specifier in asking.items()
        if specifier is not None and not specifier.contains(full, prereleases=True)
    )
    if target.facts.python.count(".") == 2:
        return target.facts.python, unfit
    for patch in range(newest + 1):
        if all(specifier is None or specifier.contains(f"{series}.{patch}") for specifier in asking.values()):
            return series if patch == 0 else f"{series}.{patch}", unfit
    return full, unfit


def _report_wrong_python(
    unfit: Iterable[tuple[NormalizedName, Version]],
    chosen_by_name: Mapping[NormalizedName, WheelMetadata],
    target: Target,
) -> list[Finding]:
    return [
        error(
            "wrong-python",
            name,
            "{subject} {version} wants Python {wanted}; {target} has {python}.",
            "Ask for a version of {subject} that admits this Python, or drop the target.",
            version=version,
            wanted=chosen_by_name[name].requires_python,
            target=target.name,
            python=target.environment["python_full_version"],
        )
        for name, version in unfit
    ]


def _report_missing(missing: Iterable[MissingDependency], requirements: Requirements, target: Target) -> list[Finding]:
    findings = []
    for dependency in missing:
        facts: dict[str, Any] = {
            "needed": format_requirement(dependency.requirement),
            "target": target.name,
            "found": dependency.selected_version,
            "by": dependency.required_by or "",
        }
        if dependency.required_by is None and dependency.selected_version is None:
            findings.append(
                error(
                    "not-locked",
                    dependency.requirement.name,
                    "{needed} was asked for, and the lock for {target} does not have it.",
                    "Make the lock again.",
                    **facts,
                )
            )
        elif dependency.required_by is None:
            findings.append(
                error(
                    "locked-otherwise",
                    dependency.requirement.name,
                    "{needed} was asked for, and the lock for {target} has {subject} {found}.",
                    "Make the lock again, or ask for that version.",
                    **facts,
                )
            )
        elif dependency.selected_version is None:
            findings.append(
                error(
                    "missing-dependency",
                    dependency.requirement.name,
                    "{by} needs {needed} on {target}, and nothing that was chosen brings it.",
                    "Add {subject} to the requirements.",
                    **facts,
                )
            )
        else:
            findings.append(
                error(
                    "wrong-version",
                    dependency.requirement.name,
                    "{by} needs {needed} on {target}, and {subject} {found} was chosen.",
                    "Ask for a version of {subject} that {by} admits.",
                    **facts,
                )
            )
    # --no-deps: as asked, and each thing that is missing is said
    return [finding._replace(level="warning") for finding in findings] if requirements.policy.no_deps else findings


def format_requirement(requirement: Requirement) -> str:
    """Format a requirement without its marker."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def _report_unknown_extras(
    unknown: Mapping[tuple[str, str], NormalizedName | None], chosen_by_name: Mapping[NormalizedName, WheelMetadata]
) -> list[Finding]:
    return [
        warning(
            "unknown-extra",
            name,
            "{subject} {version} has no extra {extra}.",
            "Look for a spelling mistake, or for a version that has it.",
            version=chosen_by_name[NormalizedName(name)].version,
            extra=extra,
        )
        for (name, extra), asked_by in sorted(unknown.items(), key=lambda pair: pair[0])
        if asked_by is None
    ]


def _report_additions(requirements: Requirements, order: Sequence[InstallStep], target: Target) -> list[Finding]:
    """Report distributions that the target needs besides the given lines, and frozen ones that it does not need."""
    placed = {step.name: step for step in order}
    added = {line.name: line.required_by for line in requirements.requirements if line.required_by}
    findings = [
        note(
            "added",
            name,
            "{subject} {version} was added for {target}: {by} needs it there.",
            version=placed[name].version,
            target=target.name,
            by=by,
        )
        for name, by in sorted(added.items(), key=str)
        if name in placed
    ]
    frozen = {line.name for line in (*requirements.requirements, *requirements.constraints) if line.is_frozen}
    if not frozen:
        return findings
    findings += [
        note(
            "not-in-the-environment",
            name,
            "{subject} {version} is not in the environment; {target} needs it.",
            version=step.version,
            target=target.name,
        )
        for name, step in placed.items()
        if name not in frozen and name not in added
    ]
    if unneeded := sorted(
        line.name for line in requirements.constraints if line.is_frozen and line.name not in placed and line.name
    ):
        findings.append(
            note(
                "not-needed-there",
                target.name,
                "Of the environment {names} is left out: nothing needs it on {subject}.",
                names=unneeded,
            )
        )
    return findings


def _report_unneeded(
    superfluous: Sequence[NormalizedName],
    chosen_by_name: Mapping[NormalizedName, WheelMetadata],
    reached: Sequence[NormalizedName],
    target: Target,
) -> list[Finding]:
    left_out = [
        note(
            "superfluous",
            name,
            "{subject} {version} is in the lock, but nothing that was asked for needs it on {target}: it is left out.",
            version=chosen_by_name[name].version,
            target=target.name,
        )
        for name in superfluous
    ]
    unreadable = [
        warning(
            "metadata-unreadable",
            name,
            "{subject} {version} says in its metadata what no tool can read: {field}.",
            "Check by hand whether it needs something more.",
            version=chosen_by_name[name].version,
            field=field,
        )
        for name in reached
        for field in chosen_by_name[name].unreadable_fields
    ]
    return [*left_out, *unreadable]
