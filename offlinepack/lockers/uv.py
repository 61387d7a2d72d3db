"""A lock by uv: wheels first, sources only for the projects that need one, and failures in our sentences.

uv ignores the upper bound of Requires-Python, and reads one wheel's metadata for all of a release; the closure finds
that, and the next round asks otherwise.
"""

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
from offlinepack.lockers.means import Means
from offlinepack.lockers.uv_failures import NO_WHEEL, learn
from offlinepack.lockers.uv_run import (
    MOST_ROUNDS,
    NAME,
    Rounds,
    Run,
    files_of,
    flat_words,
    may_be_source,
    read_lock,
    words,
)
from offlinepack.sources import Asked, Requirements
from offlinepack.sources.uv_program import GIVEN_UP

if TYPE_CHECKING:
    from offlinepack.indexes import Indexes, IndexFile
    from offlinepack.targets import Target

PATIENCE = 15.0
"""seconds that uv may read sources before we look for what it lacks"""
_CANDIDATE = re.compile(
    rf"^TRACE Found candidate for package ({NAME}) with range (.*) after \d+ steps: (\S+) version", re.M
)
_INCOMPATIBLE = re.compile(rf"^TRACE Returning incompatible candidate for package ({NAME}) with range (.*) after", re.M)
_NO_EXTRA = re.compile(rf"The package `({NAME})==([^`]+)` does not have an extra named `([^`]+)`")
_YANKED = re.compile(rf"^warning: `({NAME})(?:\[[^\]]*\])?==([^`]+)` is yanked(?: \(reason: \"(.*)\"\))?", re.M)


def lock(
    requirements: Requirements,
    target: Target,
    indexes: Indexes,
    means: Means,
) -> Pylock:
    """A lock for one target that uv knows; all unknown projects and all gaps at once, else the first conflict."""
    seen = nearest(target)
    if seen is None:
        raise ResolutionError(_does_not_know(target))
    rounds, before = Rounds(), None
    indexes = indexes.for_target(target.evaluate)
    requirements = named(requirements, indexes, means)
    run = _without_other_pythons(Run(requirements, target, seen, indexes, means))
    patience: float | None = PATIENCE
    for _ in range(MOST_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # where sources are read uv may read those of all older releases, for want of a source that it may not take
            done = run(Path(folder), rounds, patience if rounds.allowed else None)
            if done.returncode == GIVEN_UP:
                sources = _avoided((), done.stderr, run, rounds)
                patience = PATIENCE if sources else None
                rounds.allowed |= sources
                continue
            if done.returncode == 0 and not rounds.findings:
                made = read_lock(Path(folder) / "pylock.toml", target.name)
                asked = {one.name for one in requirements.asked} | rounds.sourced
                if late := {one.name for one in made.packages if one.name in indexes.sources} - asked:
                    rounds.sourced |= late
                    continue
                above = _lost_extras(done.stderr, run, rounds)
                sources = _avoided([one.name for one in made.packages], done.stderr, run, rounds)
                if above or sources:
                    # what is to be read of sources may fail where wheels alone would do
                    before = before if above else before or (made, done.stderr)
                    rounds.above |= above
                    rounds.allowed |= sources
                    continue
                made = _least_sources(made, run, rounds, Path(folder))
                _only_what_uv_sees(run, _refused(made, done.stderr))
                return _with_remarks(made, done.stderr, run)
        if done.returncode == 0 or not learn(done.stderr, run, rounds):
            break
    if before is not None and FetchError not in rounds.kinds:
        return _with_remarks(*before, run)
    _only_what_uv_sees(run, [one.subject for one in rounds.findings])
    findings = sorted(rounds.findings, key=lambda one: (one.code, one.subject))
    # what has no solution at all outweighs what merely has no file
    for kind in (FetchError, BuildError, SourceError, ResolutionError, SelectionError):
        if kind in rounds.kinds:
            raise kind(*findings)
    raise ResolutionError(*findings)


def _without_other_pythons(run: Run) -> Run:
    """Of a project of which a release was for another Python all such releases, else each would take a round."""
    wanted, target = run.requirements, run.target
    bounds = []
    for name in {one.name for one in wanted.constraints if one.name and one.needed_by == one.name}:
        admitted: dict[Version, bool] = {}
        for one in files_of(name, run):
            if one.version and target:
                admitted[one.version] = admitted.get(one.version, False) or one.admits(target.python_full)
        lines = [f"{name}!={version}" for version, fits in admitted.items() if not fits]
        bounds += [Asked(line, "", Requirement(line), needed_by=name) for line in lines]
    return replace(run, requirements=replace(wanted, constraints=(*wanted.constraints, *bounds)))


def nearest(target: Target) -> Target | None:
    """The target as uv knows it: itself, or with the newest glibc that uv has a name for; else None."""
    if target.uv_platform() is not None:
        return target
    levels = [f"2.{minor}" for minor in range(17, 100)]
    known = [one for one in levels if target.facts.libc == "glibc" and target.with_libc(one).uv_platform() is not None]
    level = target.facts.libc_version
    # a level between two known ones is not lowered: too many wheels lie there
    if level in levels and known and levels.index(level) > levels.index(known[-1]):
        return target.with_libc(known[-1])
    return None


def _does_not_know(target: Target) -> Finding:
    return error(
        "uv-does-not-know",
        target.name,
        "uv cannot resolve for {subject}.",
        "Use --resolver pip, or leave --resolver out.",
    )


def _only_what_uv_sees(run: Run, names: Iterable[str]) -> None:
    """ResolutionError where the target takes a wheel of one of these projects that uv's nearest level does not."""
    if run.target is None or run.seen is None or run.seen is run.target:
        return
    for name in names:
        for one in files_of(name, run):
            if one.is_wheel and run.target.accepts(one.filename) is not None and run.seen.accepts(one.filename) is None:
                raise ResolutionError(_does_not_know(run.target))


def named(requirements: Requirements, indexes: Indexes, means: Means) -> Requirements:
    """The same with a name for each address or folder that had none; uv asks its build for the metadata."""
    if all(one.requirement for one in requirements.asked):
        return requirements

    def name_of(one: Asked) -> Asked:
        alone = Requirements(asked=(one,), no_deps=True)
        rounds = Rounds()
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            run = Run(alone, None, None, indexes, means)
            done = run(Path(folder), rounds)
            if done.returncode:
                learn(done.stderr, run, rounds)
                raise next(iter(rounds.kinds))(*rounds.findings)
            (package,) = read_lock(Path(folder) / "pylock.toml", one.shown).packages
        return one.with_name(package.name)

    return replace(requirements, asked=tuple(one if one.requirement else name_of(one) for one in requirements.asked))


def _lost_extras(said: str, run: Run, rounds: Rounds) -> dict[str, str]:
    """Project -> a version without an extra that newer ones have: going back to it would silently install less."""
    lost: dict[str, str] = {}
    for name, version, extra in _NO_EXTRA.findall(flat_words(words(said))):
        line = f"{name}[{extra}]>{version}"
        asked = [one for one in run.requirements.asked if one.name == name and not one.url]
        alone = replace(run.requirements, asked=(Asked(line, "", Requirement(line)), *asked))
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # whatever its form: sources of all projects
            done = replace(run, requirements=alone, target=None)(Path(folder), replace(rounds, above={}))
        told = flat_words(words(done.stderr))
        # without a solution: whether it is for the sake of what the extra brings
        brings = re.search(rf"\b{name}\[{re.escape(extra)}\]\S* depends on (?!{name}\b)", told)
        found = "No solution found" not in told and not any(one[0] == name for one in _NO_EXTRA.findall(told))
        if found or brings:
            lost[name] = version
    return lost


def _avoided(taken: Iterable[str], said: str, run: Run, rounds: Rounds) -> set[str]:
    """Projects without any wheel for whose sake uv went back to an older release of what needs them."""
    names = {canonicalize_name(name) for name, _ in _INCOMPATIBLE.findall(said)} - set(taken) - rounds.allowed
    if run.target is None:
        return set()
    return {name for name in names if _source_only(name, run) and may_be_source(name, run)}


def _source_only(name: str, run: Run) -> bool:
    """Whether the project has sources, and no release of it a wheel for the target."""
    files = files_of(name, run)
    return not _fitting(files, run) and any(not one.is_wheel for one in files)


def _least_sources(made: Pylock, run: Run, rounds: Rounds, folder: Path) -> Pylock:
    """Of several projects whose sources were allowed on the way, only those that the solution cannot do without."""
    pinned = {one.name for one in run.requirements.asked if one.requirement and "==" in str(one.requirement.specifier)}
    if len(rounds.allowed) < 2:
        return made
    for name in sorted(rounds.allowed - pinned):
        if _source_only(name, run):  # an older release of what needs it is no better way
            continue
        (folder / "pylock.toml").unlink(missing_ok=True)  # else uv prefers what stands there
        if run(folder, replace(rounds, allowed=rounds.allowed - {name})).returncode == 0:
            rounds.allowed.discard(name)
            made = read_lock(folder / "pylock.toml", run.where)
    return made


def _with_remarks(made: Pylock, said: str, run: Run) -> Pylock:
    """The lock, with [packages.tool.offlinepack] on what selection says to the user.

    `yanked`: withdrawn, with the reason; `newer-without-wheel`: a newer release that wheels-first passed over;
    `newer-needs`: a newer release, and what it needs of which nothing fits.
    """
    withdrawn = {(canonicalize_name(name), version): reason or "" for name, version, reason in _YANKED.findall(said)}
    newer, needs = _passed_over(made, said, run), _held_down(made, said, run)

    def marked(package: Package) -> Package:
        remarks = {}
        package = _without_secrets(package, run.indexes)
        if (key := (package.name, str(package.version))) in withdrawn:
            remarks["yanked"] = withdrawn[key]
        if package.name in newer:
            remarks["newer-without-wheel"] = newer[package.name]
        if package.name in needs:
            remarks["newer-needs"] = needs[package.name]
        return replace(package, tool={**(package.tool or {}), "offlinepack": remarks}) if remarks else package

    return replace(made, packages=[marked(one) for one in made.packages])


def _without_secrets(package: Package, indexes: Indexes) -> Package:
    """Addresses as people may see them; the client of this run knows the whole ones."""
    changed: dict[str, Any] = {}
    for name in ("archive", "sdist"):
        if (one := getattr(package, name)) is not None and one.url:
            changed[name] = replace(one, url=indexes.remember(one.url))
    if package.wheels:
        changed["wheels"] = [replace(one, url=indexes.remember(one.url)) if one.url else one for one in package.wheels]
    return replace(package, **changed)


def _refused(made: Pylock, said: str) -> dict[str, set[Version]]:
    """Project -> releases newer than the one in the lock that uv's log says have no file it could take."""
    tried = {(name, bounds): version for name, bounds, version in _CANDIDATE.findall(said)}
    taken = {one.name: one.version for one in made.packages if one.version}
    refused: dict[str, set[Version]] = {}
    for key in _INCOMPATIBLE.findall(said):
        with contextlib.suppress(KeyError, InvalidVersion):
            if (version := Version(tried[key])) > taken[canonicalize_name(key[0])]:
                refused.setdefault(key[0], set()).add(version)
    return refused


def _held_down(made: Pylock, said: str, run: Run) -> dict[str, list[Any]]:
    """Project -> the newest release that uv's log says it left again, and what that needs of which no file fits."""
    taken = {str(one.name): one.version for one in made.packages}
    barren = {canonicalize_name(name) for name, _ in _INCOMPATIBLE.findall(said)} - set(taken)
    barren = {name for name in barren if (files := files_of(name, run)) and not _fitting(files, run)}
    left: dict[str, Version] = {}
    for written, _, version in _CANDIDATE.findall(said) if barren else ():
        with contextlib.suppress(InvalidVersion):
            own, other = taken.get(name := str(canonicalize_name(written))), Version(version)
            if own is not None and other > left.get(name, own):
                left[name] = other
    found = {}
    for name, newest in left.items():
        line = f"{name}=={newest}"
        alone = replace(run.requirements, asked=(Asked(line, "", Requirement(line)),))
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            done = replace(run, requirements=alone, means=replace(run.means, offline=True))(Path(folder), Rounds())
        lacking = {canonicalize_name(one) for one, _ in NO_WHEEL.findall(flat_words(words(done.stderr)))} & barren
        if done.returncode and lacking:
            found[name] = [str(newest), sorted(lacking)]
    return found


def _fitting(files: Iterable[IndexFile], run: Run) -> list[IndexFile]:
    return [one for one in files if one.is_wheel and run.target and run.target.accepts(one.filename) is not None]


def _passed_over(made: Pylock, said: str, run: Run) -> dict[str, str]:
    """Project -> the newest release that the target holds down for want of a wheel.

    uv's log tells which releases it refused, and uv, asked for those alone, why: no wheel, or another Python.
    """
    refused = _refused(made, said)
    suspects = [one for one in made.packages if one.name in refused]

    def newest(package: Package) -> str | None:
        line = f"{package.name}>{package.version}"
        alone = replace(run.requirements, asked=(Asked(line, "", Requirement(line)),), constraints=(), no_deps=True)
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # what it has just read is in its cache
            done = replace(run, requirements=alone, means=replace(run.means, offline=True))(Path(folder), Rounds())
        flat = flat_words(words(done.stderr))
        without = {
            version
            for name, bounds in NO_WHEEL.findall(flat)
            for version in refused[package.name]
            if name == package.name and SpecifierSet(bounds.rstrip(", ")).contains(version, prereleases=True)
        }
        # uv says the same of what was withdrawn, and of what is for another Python
        files = files_of(package.name, run) if without and run.target else []
        # some projects have thousands of files: no more names are parsed than may be meant
        files = [one for one in files if any(f"-{version}" in one.filename for version in without)] or files
        without &= {
            one.version for one in files if not one.yanked and run.target and one.admits(run.target.python_full)
        }
        return str(max(without)) if without else None

    if not suspects:
        return {}
    with ThreadPoolExecutor(4) as pool:
        found = zip(suspects, pool.map(newest, suspects), strict=True)
    return {package.name: version for package, version in found if version}
