"""Resolve requirements with uv: wheels first, sdists only for the projects that need one."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Package, Pylock
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import FetchError, Finding, ResolutionError, error
from offlinepack.requirements.model import RequirementLine, Requirements
from offlinepack.requirements.policy import ResolutionPolicy
from offlinepack.requirements.uv_export import TIMEOUT_EXIT_CODE
from offlinepack.resolve.backtracking import MAX_ROUNDS, BacktrackState, minimize_sdists
from offlinepack.resolve.context import ResolverContext
from offlinepack.resolve.uv.command import UvInvocation, allows_sdist, list_index_files, read_resolved_lock
from offlinepack.resolve.uv.errors import handle_uv_failure
from offlinepack.resolve.uv.trace import (
    CANDIDATE_PATTERN,
    NO_WHEEL_PATTERN,
    PROJECT_PATTERN,
    REJECTED_PATTERN,
    YANKED_PATTERN,
    find_rejected_versions,
    flatten_text,
    strip_log,
)

if TYPE_CHECKING:
    from offlinepack.index.model import Indexes, IndexFile
    from offlinepack.targets.model import Target


SDIST_TIMEOUT = 15.0
"""seconds that uv may read sources before we look for what it lacks"""

_UNKNOWN_EXTRA_PATTERN = re.compile(
    rf"The package `({PROJECT_PATTERN})==([^`]+)` does not have an extra named `([^`]+)`"
)


def resolve_with_uv(requirements: Requirements, target: Target, indexes: Indexes, means: ResolverContext) -> Pylock:
    """Resolve for one target that uv knows; raise one error with all unknown projects and missing files."""
    nearest = find_nearest_target(target)
    if nearest is None:
        raise ResolutionError(_report_unsupported_target(target))
    rounds, before = BacktrackState(excluded_projects=set(requirements.excluded_projects)), None
    indexes = indexes.evaluate_sources(target.evaluate)
    requirements = resolve_names(requirements, indexes, means)
    run = _exclude_other_pythons(UvInvocation(requirements, target, nearest, indexes, means))
    patience: float | None = SDIST_TIMEOUT
    for _ in range(MAX_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # where sources are read uv may read those of all older releases, for want of a source that it may not take
            process = run(Path(folder), rounds, patience if rounds.allow_sdist else None)
            if process.returncode == TIMEOUT_EXIT_CODE:
                sources = _find_avoided_projects((), process.stderr, run, rounds)
                patience = SDIST_TIMEOUT if sources else None
                rounds.allow_sdist |= sources
                continue
            if process.returncode == 0 and not rounds.findings:
                pylock = read_resolved_lock(Path(folder) / "pylock.toml", target.name)
                requested_names = {line.name for line in requirements.requirements} | rounds.projects_with_index
                if (
                    late := {package.name for package in pylock.packages if package.name in indexes.sources}
                    - requested_names
                ):
                    rounds.projects_with_index |= late
                    continue
                lower_bounds = _find_lost_extras(process.stderr, run, rounds)
                sources = _find_avoided_projects(
                    [package.name for package in pylock.packages], process.stderr, run, rounds
                )
                if lower_bounds or sources:
                    # what is to be read of sources may fail where wheels alone would do
                    before = before if lower_bounds else before or (pylock, process.stderr)
                    rounds.lower_bounds |= lower_bounds
                    rounds.allow_sdist |= sources
                    continue
                pylock = _minimize_sdists(pylock, run, rounds, Path(folder))
                _check_uv_coverage(run, find_rejected_versions(pylock, process.stderr))
                return _add_remarks(pylock, process.stderr, run)
        if process.returncode == 0 or not handle_uv_failure(process.stderr, run, rounds):
            break
    if before is not None and FetchError not in rounds.error_types:
        return _add_remarks(*before, run)
    _check_uv_coverage(run, [finding.subject for finding in rounds.findings])
    raise rounds.make_error()


def _exclude_other_pythons(run: UvInvocation) -> UvInvocation:
    """Exclude all releases for other Pythons of a project once one was found, because each would take a round."""
    requirements, target = run.requirements, run.target
    bounds = []
    for name in {line.name for line in requirements.constraints if line.name and line.required_by == line.name}:
        admitted: dict[Version, bool] = {}
        for file in list_index_files(name, run):
            if file.version and target:
                admitted[file.version] = admitted.get(file.version, False) or file.supports_python(
                    target.python_full_version
                )
        lines = [f"{name}!={version}" for version, fits in admitted.items() if not fits]
        bounds += [RequirementLine(line, "", Requirement(line), required_by=name) for line in lines]
    return replace(run, requirements=replace(requirements, constraints=(*requirements.constraints, *bounds)))


def find_nearest_target(target: Target) -> Target | None:
    """Return the target as uv knows it: itself, or with the newest glibc that uv has a name for; None otherwise."""
    if target.get_uv_platform() is not None:
        return target
    levels = [f"2.{minor}" for minor in range(17, 100)]
    known_levels = [
        level
        for level in levels
        if target.facts.libc == "glibc" and target.with_libc(level).get_uv_platform() is not None
    ]
    level = target.facts.libc_version
    # a level between two known ones is not lowered: too many wheels lie there
    if level in levels and known_levels and levels.index(level) > levels.index(known_levels[-1]):
        return target.with_libc(known_levels[-1])
    return None


def _report_unsupported_target(target: Target) -> Finding:
    return error(
        "uv-does-not-know",
        target.name,
        "uv cannot resolve for {subject}.",
        "Use --resolver pip, or leave --resolver out.",
    )


def _check_uv_coverage(run: UvInvocation, names: Iterable[str]) -> None:
    """Raise ResolutionError if the target accepts a wheel of one of these projects that uv's nearest level does not."""
    if run.target is None or run.uv_target is None or run.uv_target is run.target:
        return
    for name in names:
        for file in list_index_files(name, run):
            if (
                file.is_wheel
                and run.target.rank_wheel(file.filename) is not None
                and run.uv_target.rank_wheel(file.filename) is None
            ):
                raise ResolutionError(_report_unsupported_target(run.target))


def resolve_names(requirements: Requirements, indexes: Indexes, means: ResolverContext) -> Requirements:
    """Complete addresses and folders with their names, which uv reads from their metadata."""
    if all(line.requirement for line in requirements.requirements):
        return requirements

    def name_of(line: RequirementLine) -> RequirementLine:
        alone = Requirements(requirements=(line,), policy=ResolutionPolicy(no_deps=True))
        rounds = BacktrackState()
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            run = UvInvocation(alone, None, None, indexes, means)
            process = run(Path(folder), rounds)
            if process.returncode:
                handle_uv_failure(process.stderr, run, rounds)
                raise rounds.make_error()
            (package,) = read_resolved_lock(Path(folder) / "pylock.toml", line.redacted_line).packages
        return line.with_name(package.name)

    return replace(
        requirements,
        requirements=tuple(line if line.requirement else name_of(line) for line in requirements.requirements),
    )


def _find_lost_extras(output: str, run: UvInvocation, rounds: BacktrackState) -> dict[str, str]:
    """Find projects whose older version lacks an extra of newer ones: going back to it would install less."""
    lost: dict[str, str] = {}
    for name, version, extra in _UNKNOWN_EXTRA_PATTERN.findall(flatten_text(strip_log(output))):
        line = f"{name}[{extra}]>{version}"
        requested = [line for line in run.requirements.requirements if line.name == name and not line.url]
        alone = replace(run.requirements, requirements=(RequirementLine(line, "", Requirement(line)), *requested))
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # whatever its form: sources of all projects
            process = replace(run, requirements=alone, target=None)(Path(folder), replace(rounds, lower_bounds={}))
        message = flatten_text(strip_log(process.stderr))
        # without a solution: whether it is for the sake of what the extra brings
        brings = re.search(rf"\b{name}\[{re.escape(extra)}\]\S* depends on (?!{name}\b)", message)
        has_solution = "No solution found" not in message and not any(
            groups[0] == name for groups in _UNKNOWN_EXTRA_PATTERN.findall(message)
        )
        if has_solution or brings:
            lost[name] = version
    return lost


def _find_avoided_projects(
    selected_names: Iterable[str], output: str, run: UvInvocation, rounds: BacktrackState
) -> set[str]:
    """Find projects without any wheel because of which uv went back to an older release of a dependent."""
    names = (
        {canonicalize_name(name) for name, _ in REJECTED_PATTERN.findall(output)}
        - set(selected_names)
        - rounds.allow_sdist
    )
    if run.target is None:
        return set()
    return {name for name in names if _has_only_sdists(name, run) and allows_sdist(name, run)}


def _has_only_sdists(name: str, run: UvInvocation) -> bool:
    """Check whether a project has sdists, and no release with a wheel for the target."""
    files = list_index_files(name, run)
    return not _filter_fitting_wheels(files, run) and any(not file.is_wheel for file in files)


def _minimize_sdists(pylock: Pylock, run: UvInvocation, rounds: BacktrackState, folder: Path) -> Pylock:
    """Keep, of several projects whose sdists were allowed, only those that the solution needs."""
    if len(rounds.allow_sdist) < 2:
        return pylock
    pinned = {
        line.name
        for line in run.requirements.requirements
        if line.requirement and "==" in str(line.requirement.specifier)
    }

    def attempt(state: BacktrackState) -> Pylock | None:
        (folder / "pylock.toml").unlink(missing_ok=True)  # otherwise uv prefers its versions
        return (
            read_resolved_lock(folder / "pylock.toml", run.target_name) if run(folder, state).returncode == 0 else None
        )

    # where no release has a wheel, an older release of what needs it is no better
    names = [name for name in sorted(rounds.allow_sdist - pinned) if not _has_only_sdists(name, run)]
    return minimize_sdists(pylock, rounds, names, attempt)


def _add_remarks(pylock: Pylock, output: str, run: UvInvocation) -> Pylock:
    """Add [packages.tool.offlinepack] with what selection reports to the user.

    `yanked`: the reason; `newer-without-wheel`: a newer release without a wheel; `newer-needs`: a newer release whose
    dependency has no file.
    """
    withdrawn = {
        (canonicalize_name(name), version): reason or "" for name, version, reason in YANKED_PATTERN.findall(output)
    }
    newer, needs = _find_newer_without_wheel(pylock, output, run), _find_held_back(pylock, output, run)

    def marked(package: Package) -> Package:
        remarks = {}
        package = _redact_package_urls(package, run.indexes)
        if (key := (package.name, str(package.version))) in withdrawn:
            remarks["yanked"] = withdrawn[key]
        if package.name in newer:
            remarks["newer-without-wheel"] = newer[package.name]
        if package.name in needs:
            remarks["newer-needs"] = needs[package.name]
        return replace(package, tool={**(package.tool or {}), "offlinepack": remarks}) if remarks else package

    return replace(pylock, packages=[marked(package) for package in pylock.packages])


def _redact_package_urls(package: Package, indexes: Indexes) -> Package:
    """Redact the addresses of a package; the client of this run keeps the whole ones."""
    changed: dict[str, Any] = {}
    for name in ("archive", "sdist"):
        if (file := getattr(package, name)) is not None and file.url:
            changed[name] = replace(file, url=indexes.hide_secrets(file.url))
    if package.wheels:
        changed["wheels"] = [
            replace(wheel, url=indexes.hide_secrets(wheel.url)) if wheel.url else wheel for wheel in package.wheels
        ]
    return replace(package, **changed)


def _find_held_back(pylock: Pylock, output: str, run: UvInvocation) -> dict[str, list[Any]]:
    """Find the newest release that uv's log says it gave up, and its dependency without a file."""
    selected = {str(package.name): package.version for package in pylock.packages}
    barren = {canonicalize_name(name) for name, _ in REJECTED_PATTERN.findall(output)} - set(selected)
    barren = {
        name for name in barren if (files := list_index_files(name, run)) and not _filter_fitting_wheels(files, run)
    }
    newest_seen: dict[str, Version] = {}
    for written, _, version in CANDIDATE_PATTERN.findall(output) if barren else ():
        with contextlib.suppress(InvalidVersion):
            selected_version, other = selected.get(name := str(canonicalize_name(written))), Version(version)
            if selected_version is not None and other > newest_seen.get(name, selected_version):
                newest_seen[name] = other
    held_back = {}
    for name, newest in newest_seen.items():
        line = f"{name}=={newest}"
        alone = replace(run.requirements, requirements=(RequirementLine(line, "", Requirement(line)),))
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            process = replace(run, requirements=alone, context=replace(run.context, offline=True))(
                Path(folder), BacktrackState()
            )
        lacking = {
            canonicalize_name(name) for name, _ in NO_WHEEL_PATTERN.findall(flatten_text(strip_log(process.stderr)))
        } & barren
        if process.returncode and lacking:
            held_back[name] = [str(newest), sorted(lacking)]
    return held_back


def _filter_fitting_wheels(files: Iterable[IndexFile], run: UvInvocation) -> list[IndexFile]:
    return [file for file in files if file.is_wheel and run.target and run.target.rank_wheel(file.filename) is not None]


def _find_newer_without_wheel(pylock: Pylock, output: str, run: UvInvocation) -> dict[str, str]:
    """Find the newest release that the target excludes because it has no wheel.

    uv's log names the releases that it refused; uv, run for those alone, tells why.
    """
    refused = find_rejected_versions(pylock, output)
    suspects = [package for package in pylock.packages if package.name in refused]

    def newest(package: Package) -> str | None:
        line = f"{package.name}>{package.version}"
        alone = replace(
            run.requirements,
            requirements=(RequirementLine(line, "", Requirement(line)),),
            constraints=(),
            policy=replace(run.requirements.policy, no_deps=True),
        )
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # what it has just read is in its cache
            process = replace(run, requirements=alone, context=replace(run.context, offline=True))(
                Path(folder), BacktrackState()
            )
        flat = flatten_text(strip_log(process.stderr))
        without = {
            version
            for name, bounds in NO_WHEEL_PATTERN.findall(flat)
            for version in refused[package.name]
            if name == package.name and SpecifierSet(bounds.rstrip(", ")).contains(version, prereleases=True)
        }
        # uv says the same of what was withdrawn, and of what is for another Python
        files = list_index_files(package.name, run) if without and run.target else []
        # some projects have thousands of files: no more names are parsed than may be meant
        files = [file for file in files if any(f"-{version}" in file.filename for version in without)] or files
        without &= {
            file.version
            for file in files
            if not file.is_yanked and run.target and file.supports_python(run.target.python_full_version)
        }
        return str(max(without)) if without else None

    if not suspects:
        return {}
    with ThreadPoolExecutor(4) as pool:
        newest_versions = zip(suspects, pool.map(newest, suspects), strict=True)
    return {package.name: version for package, version in newest_versions if version}
