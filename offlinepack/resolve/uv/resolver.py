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

from offlinepack.errors import BuildError, FetchError, Finding, ResolutionError, SelectionError, SourceError, error
from offlinepack.requirements.model import RequirementLine, Requirements
from offlinepack.requirements.uv_export import TIMEOUT_EXIT_CODE
from offlinepack.resolve.backtracking import MAX_ROUNDS, BacktrackState
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
    """A lock for one target that uv knows; all unknown projects and all gaps at once, else the first conflict."""
    seen = find_nearest_target(target)
    if seen is None:
        raise ResolutionError(_report_unsupported_target(target))
    rounds, before = BacktrackState(), None
    indexes = indexes.evaluate_sources(target.evaluate)
    requirements = resolve_names(requirements, indexes, means)
    run = _exclude_other_pythons(UvInvocation(requirements, target, seen, indexes, means))
    patience: float | None = SDIST_TIMEOUT
    for _ in range(MAX_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # where sources are read uv may read those of all older releases, for want of a source that it may not take
            done = run(Path(folder), rounds, patience if rounds.allow_sdist else None)
            if done.returncode == TIMEOUT_EXIT_CODE:
                sources = _find_avoided_projects((), done.stderr, run, rounds)
                patience = SDIST_TIMEOUT if sources else None
                rounds.allow_sdist |= sources
                continue
            if done.returncode == 0 and not rounds.findings:
                made = read_resolved_lock(Path(folder) / "pylock.toml", target.name)
                asked = {one.name for one in requirements.requirements} | rounds.projects_with_index
                if late := {one.name for one in made.packages if one.name in indexes.sources} - asked:
                    rounds.projects_with_index |= late
                    continue
                above = _find_lost_extras(done.stderr, run, rounds)
                sources = _find_avoided_projects([one.name for one in made.packages], done.stderr, run, rounds)
                if above or sources:
                    # what is to be read of sources may fail where wheels alone would do
                    before = before if above else before or (made, done.stderr)
                    rounds.lower_bounds |= above
                    rounds.allow_sdist |= sources
                    continue
                made = _minimize_sdists(made, run, rounds, Path(folder))
                _check_uv_coverage(run, find_rejected_versions(made, done.stderr))
                return _add_remarks(made, done.stderr, run)
        if done.returncode == 0 or not handle_uv_failure(done.stderr, run, rounds):
            break
    if before is not None and FetchError not in rounds.error_types:
        return _add_remarks(*before, run)
    _check_uv_coverage(run, [one.subject for one in rounds.findings])
    findings = sorted(rounds.findings, key=lambda one: (one.code, one.subject))
    # what has no solution at all outweighs what merely has no file
    for kind in (FetchError, BuildError, SourceError, ResolutionError, SelectionError):
        if kind in rounds.error_types:
            raise kind(*findings)
    raise ResolutionError(*findings)


def _exclude_other_pythons(run: UvInvocation) -> UvInvocation:
    """Of a project of which a release was for another Python all such releases, else each would take a round."""
    wanted, target = run.requirements, run.target
    bounds = []
    for name in {one.name for one in wanted.constraints if one.name and one.required_by == one.name}:
        admitted: dict[Version, bool] = {}
        for one in list_index_files(name, run):
            if one.version and target:
                admitted[one.version] = admitted.get(one.version, False) or one.supports_python(
                    target.python_full_version
                )
        lines = [f"{name}!={version}" for version, fits in admitted.items() if not fits]
        bounds += [RequirementLine(line, "", Requirement(line), required_by=name) for line in lines]
    return replace(run, requirements=replace(wanted, constraints=(*wanted.constraints, *bounds)))


def find_nearest_target(target: Target) -> Target | None:
    """The target as uv knows it: itself, or with the newest glibc that uv has a name for; else None."""
    if target.get_uv_platform() is not None:
        return target
    levels = [f"2.{minor}" for minor in range(17, 100)]
    known = [
        one for one in levels if target.facts.libc == "glibc" and target.with_libc(one).get_uv_platform() is not None
    ]
    level = target.facts.libc_version
    # a level between two known ones is not lowered: too many wheels lie there
    if level in levels and known and levels.index(level) > levels.index(known[-1]):
        return target.with_libc(known[-1])
    return None


def _report_unsupported_target(target: Target) -> Finding:
    return error(
        "uv-does-not-know",
        target.name,
        "uv cannot resolve for {subject}.",
        "Use --resolver pip, or leave --resolver out.",
    )


def _check_uv_coverage(run: UvInvocation, names: Iterable[str]) -> None:
    """ResolutionError where the target takes a wheel of one of these projects that uv's nearest level does not."""
    if run.target is None or run.uv_target is None or run.uv_target is run.target:
        return
    for name in names:
        for one in list_index_files(name, run):
            if (
                one.is_wheel
                and run.target.rank_wheel(one.filename) is not None
                and run.uv_target.rank_wheel(one.filename) is None
            ):
                raise ResolutionError(_report_unsupported_target(run.target))


def resolve_names(requirements: Requirements, indexes: Indexes, means: ResolverContext) -> Requirements:
    """The same with a name for each address or folder that had none; uv asks its build for the metadata."""
    if all(one.requirement for one in requirements.requirements):
        return requirements

    def name_of(one: RequirementLine) -> RequirementLine:
        alone = Requirements(requirements=(one,), no_deps=True)
        rounds = BacktrackState()
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            run = UvInvocation(alone, None, None, indexes, means)
            done = run(Path(folder), rounds)
            if done.returncode:
                handle_uv_failure(done.stderr, run, rounds)
                raise next(iter(rounds.error_types))(*rounds.findings)
            (package,) = read_resolved_lock(Path(folder) / "pylock.toml", one.redacted_line).packages
        return one.with_name(package.name)

    return replace(
        requirements, requirements=tuple(one if one.requirement else name_of(one) for one in requirements.requirements)
    )


def _find_lost_extras(said: str, run: UvInvocation, rounds: BacktrackState) -> dict[str, str]:
    """Project -> a version without an extra that newer ones have: going back to it would silently install less."""
    lost: dict[str, str] = {}
    for name, version, extra in _UNKNOWN_EXTRA_PATTERN.findall(flatten_text(strip_log(said))):
        line = f"{name}[{extra}]>{version}"
        asked = [one for one in run.requirements.requirements if one.name == name and not one.url]
        alone = replace(run.requirements, requirements=(RequirementLine(line, "", Requirement(line)), *asked))
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # whatever its form: sources of all projects
            done = replace(run, requirements=alone, target=None)(Path(folder), replace(rounds, lower_bounds={}))
        told = flatten_text(strip_log(done.stderr))
        # without a solution: whether it is for the sake of what the extra brings
        brings = re.search(rf"\b{name}\[{re.escape(extra)}\]\S* depends on (?!{name}\b)", told)
        found = "No solution found" not in told and not any(
            one[0] == name for one in _UNKNOWN_EXTRA_PATTERN.findall(told)
        )
        if found or brings:
            lost[name] = version
    return lost


def _find_avoided_projects(taken: Iterable[str], said: str, run: UvInvocation, rounds: BacktrackState) -> set[str]:
    """Projects without any wheel for whose sake uv went back to an older release of what needs them."""
    names = {canonicalize_name(name) for name, _ in REJECTED_PATTERN.findall(said)} - set(taken) - rounds.allow_sdist
    if run.target is None:
        return set()
    return {name for name in names if _has_only_sdists(name, run) and allows_sdist(name, run)}


def _has_only_sdists(name: str, run: UvInvocation) -> bool:
    """Whether the project has sources, and no release of it a wheel for the target."""
    files = list_index_files(name, run)
    return not _filter_fitting_wheels(files, run) and any(not one.is_wheel for one in files)


def _minimize_sdists(made: Pylock, run: UvInvocation, rounds: BacktrackState, folder: Path) -> Pylock:
    """Of several projects whose sources were allowed on the way, only those that the solution cannot do without."""
    pinned = {
        one.name for one in run.requirements.requirements if one.requirement and "==" in str(one.requirement.specifier)
    }
    if len(rounds.allow_sdist) < 2:
        return made
    for name in sorted(rounds.allow_sdist - pinned):
        if _has_only_sdists(name, run):  # an older release of what needs it is no better way
            continue
        (folder / "pylock.toml").unlink(missing_ok=True)  # else uv prefers what stands there
        if run(folder, replace(rounds, allow_sdist=rounds.allow_sdist - {name})).returncode == 0:
            rounds.allow_sdist.discard(name)
            made = read_resolved_lock(folder / "pylock.toml", run.target_name)
    return made


def _add_remarks(made: Pylock, said: str, run: UvInvocation) -> Pylock:
    """The lock, with [packages.tool.offlinepack] on what selection says to the user.

    `yanked`: withdrawn, with the reason; `newer-without-wheel`: a newer release that wheels-first passed over;
    `newer-needs`: a newer release, and what it needs of which nothing fits.
    """
    withdrawn = {
        (canonicalize_name(name), version): reason or "" for name, version, reason in YANKED_PATTERN.findall(said)
    }
    newer, needs = _find_newer_without_wheel(made, said, run), _find_held_back(made, said, run)

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

    return replace(made, packages=[marked(one) for one in made.packages])


def _redact_package_urls(package: Package, indexes: Indexes) -> Package:
    """Addresses as people may see them; the client of this run knows the whole ones."""
    changed: dict[str, Any] = {}
    for name in ("archive", "sdist"):
        if (one := getattr(package, name)) is not None and one.url:
            changed[name] = replace(one, url=indexes.hide_secrets(one.url))
    if package.wheels:
        changed["wheels"] = [
            replace(one, url=indexes.hide_secrets(one.url)) if one.url else one for one in package.wheels
        ]
    return replace(package, **changed)


def _find_held_back(made: Pylock, said: str, run: UvInvocation) -> dict[str, list[Any]]:
    """Project -> the newest release that uv's log says it left again, and what that needs of which no file fits."""
    taken = {str(one.name): one.version for one in made.packages}
    barren = {canonicalize_name(name) for name, _ in REJECTED_PATTERN.findall(said)} - set(taken)
    barren = {
        name for name in barren if (files := list_index_files(name, run)) and not _filter_fitting_wheels(files, run)
    }
    left: dict[str, Version] = {}
    for written, _, version in CANDIDATE_PATTERN.findall(said) if barren else ():
        with contextlib.suppress(InvalidVersion):
            own, other = taken.get(name := str(canonicalize_name(written))), Version(version)
            if own is not None and other > left.get(name, own):
                left[name] = other
    found = {}
    for name, newest in left.items():
        line = f"{name}=={newest}"
        alone = replace(run.requirements, requirements=(RequirementLine(line, "", Requirement(line)),))
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            done = replace(run, requirements=alone, context=replace(run.context, offline=True))(
                Path(folder), BacktrackState()
            )
        lacking = {
            canonicalize_name(one) for one, _ in NO_WHEEL_PATTERN.findall(flatten_text(strip_log(done.stderr)))
        } & barren
        if done.returncode and lacking:
            found[name] = [str(newest), sorted(lacking)]
    return found


def _filter_fitting_wheels(files: Iterable[IndexFile], run: UvInvocation) -> list[IndexFile]:
    return [one for one in files if one.is_wheel and run.target and run.target.rank_wheel(one.filename) is not None]


def _find_newer_without_wheel(made: Pylock, said: str, run: UvInvocation) -> dict[str, str]:
    """Project -> the newest release that the target holds down for want of a wheel.

    uv's log tells which releases it refused, and uv, asked for those alone, why: no wheel, or another Python.
    """
    refused = find_rejected_versions(made, said)
    suspects = [one for one in made.packages if one.name in refused]

    def newest(package: Package) -> str | None:
        line = f"{package.name}>{package.version}"
        alone = replace(
            run.requirements, requirements=(RequirementLine(line, "", Requirement(line)),), constraints=(), no_deps=True
        )
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # what it has just read is in its cache
            done = replace(run, requirements=alone, context=replace(run.context, offline=True))(
                Path(folder), BacktrackState()
            )
        flat = flatten_text(strip_log(done.stderr))
        without = {
            version
            for name, bounds in NO_WHEEL_PATTERN.findall(flat)
            for version in refused[package.name]
            if name == package.name and SpecifierSet(bounds.rstrip(", ")).contains(version, prereleases=True)
        }
        # uv says the same of what was withdrawn, and of what is for another Python
        files = list_index_files(package.name, run) if without and run.target else []
        # some projects have thousands of files: no more names are parsed than may be meant
        files = [one for one in files if any(f"-{version}" in one.filename for version in without)] or files
        without &= {
            one.version
            for one in files
            if not one.is_yanked and run.target and one.supports_python(run.target.python_full_version)
        }
        return str(max(without)) if without else None

    if not suspects:
        return {}
    with ThreadPoolExecutor(4) as pool:
        found = zip(suspects, pool.map(newest, suspects), strict=True)
    return {package.name: version for package, version in found if version}
