"""What uv says when it finds no lock, as findings: who asked for what, and what there is."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from offlinepack.errors import (
    BuildError,
    FetchError,
    Finding,
    ResolutionError,
    SelectionError,
    SourceError,
    error,
    text,
)
from offlinepack.lockers.closure import hardest, offered, shortened
from offlinepack.lockers.uv_run import (
    MOST_ROUNDS,
    NAME,
    Rounds,
    Run,
    end_of,
    files_of,
    flat_words,
    may_be_source,
    words,
)
from offlinepack.sources import Asked, without_secrets

if TYPE_CHECKING:
    from offlinepack.indexes import IndexFile

_UNKNOWN = re.compile(rf"\b({NAME}) was not found in the (?:package registry|provided package locations|cache)")
NO_WHEEL = re.compile(
    rf"(?:all versions of )?\b({NAME})((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) ha(?:s|ve) no "
    r"(?:usable wheels|wheels with a matching|available wheels|wheels (?:are|is) available|compatible wheels)"
)
_NO_VERSION = re.compile(rf"there is no version of ({NAME})(?:\[[^\]]*\])?(===?[^\s,]+)")
_NOT_READ = re.compile(rf"\b({NAME})(?:[=<>!~]\S+)? needs? to be downloaded from a registry")
_NEEDS_SOURCE = re.compile(r"hint: Wheels are required for `([^`]+)`")
_FORBIDDEN = re.compile(r"Building source distributions for `([^`]+)` is disabled")
_NEEDS = re.compile(
    rf"(?:all versions of )?\b({NAME})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) depends? on "
    rf"({NAME})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=|~=)[^\s,]+(?:,\s*)?)*)"
)
_NEEDS_PYTHON = re.compile(
    rf"(?:all versions of )?\b({NAME})((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) depends? on "
    r"Python((?:[<>=!~]+[^\s,]+,?)+)"
)


def learn(said: str, run: Run, rounds: Rounds) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    said = words(said)
    flat = flat_words(said)
    if findings := _about_index(flat, said, run):
        rounds.kinds.add(FetchError)
        rounds.findings += findings
        return False
    if (
        sources := {
            canonicalize_name(name)
            for name in _FORBIDDEN.findall(flat)
            if may_be_source(canonicalize_name(name), run) or _is_direct(name, run)
        }
        - rounds.allowed
    ):
        rounds.allowed |= sources
        return True
    if finding := _about_build(flat, said):
        rounds.kinds.add(BuildError)
        rounds.findings.append(finding)
        return False
    if (
        sources := {
            canonicalize_name(name)
            for name in _NEEDS_SOURCE.findall(flat)
            if may_be_source(canonicalize_name(name), run)
        }
        - rounds.allowed
    ):
        rounds.allowed |= sources
        return True
    unknown = {canonicalize_name(name) for name in _UNKNOWN.findall(flat)} - rounds.excluded
    without = {canonicalize_name(name): versions for name, versions in NO_WHEEL.findall(flat)}
    asked = {one.name for one in run.requirements.asked}
    pins = {canonicalize_name(name): pin for name, pin in _NO_VERSION.findall(flat)}
    # where it is a pin by one of several releases that lead nowhere the others say more
    pins = {name: pin for name, pin in pins.items() if name not in without or name in asked}
    if _unasked(run):  # what was never read is no proof that an index lacks it
        unread = {canonicalize_name(name) for name in _NOT_READ.findall(flat)}
        unknown |= (unread | set(pins)) - rounds.excluded
    absent = {**dict.fromkeys(unknown, ""), **pins}
    if any(_is_frozen(name, run) for name in absent):
        rounds.findings += _not_on_an_index(run)
        rounds.kinds.add(SourceError)
        return False
    if unknown:
        rounds.findings += [_unknown(name, flat, run) for name in sorted(unknown)]
        rounds.kinds.add(FetchError if _unasked(run) else ResolutionError)
        rounds.excluded |= unknown
        return True
    if set(pins) - rounds.excluded:
        rounds.findings += [_no_version(name, pins[name], flat, run) for name in sorted(set(pins) - rounds.excluded)]
        rounds.kinds.add(ResolutionError)
        rounds.excluded |= set(pins)
        return True
    pythons = {canonicalize_name(name): wanted for name, _, wanted in _NEEDS_PYTHON.findall(flat)}
    if not pythons and "does not satisfy" in flat:
        pythons = _of_other_pythons(flat, run)
    if set(pythons) - rounds.excluded:
        for name in sorted(set(pythons) - rounds.excluded):
            rounds.findings.append(_wrong_python(name, pythons[name].rstrip(","), flat, run))
        rounds.kinds.add(SelectionError)
        rounds.excluded |= set(pythons)
        return True
    if set(without) - rounds.excluded:
        gaps = hardest([_gap(name, flat, said, run) for name in sorted(set(without) - rounds.excluded)])
        rounds.findings += gaps
        rounds.kinds.add(SelectionError)
        rounds.excluded |= {one.subject for one in gaps}
        return True
    rounds.kinds.add(ResolutionError)
    rounds.findings.append(_conflict(flat, said, run))
    return False


def _unasked(run: Run) -> bool:
    """Whether there are indexes that may not be asked."""
    return run.means.offline and not run.indexes.no_index


def _is_direct(name: str, run: Run) -> bool:
    return any(one.url for one in run.requirements.asked if one.name in (None, canonicalize_name(name)))


def _about_index(flat: str, said: str, run: Run) -> list[Finding]:
    """What is wrong with the way to an index; our own client asks again: it knows where it looked for a password."""
    if found := re.search(r"Failed to read `--find-links` (?:directory|URL|file): (\S+)", flat):
        return [
            error(
                "find-links-unreadable",
                without_secrets(found[1]),
                "{subject}, given with --find-links, cannot be read.",
                "Correct the path or the address.",
                log=end_of(said),
            )
        ]
    addresses = re.findall(r"(?:Failed to (?:fetch|download)[^`:]*[:`]? ?`?|for `|for url \()(https?://[^\s`)]+)", flat)
    hard = bool(addresses and re.search(r"Failed to (fetch|download)|Unsupported `Content-Type`|for url", flat))
    if not hard and not re.search(r"could not be queried|returned a 40\d|no versions of", flat):
        return []
    names = [canonicalize_name(one) for one in _UNKNOWN.findall(flat)]
    names += [canonicalize_name(one) for one in re.findall(rf"no versions of ({NAME})", flat)]
    names += [canonicalize_name(one.rstrip("/").rpartition("/")[2]) for one in addresses if one.endswith("/")]
    if not run.means.offline:
        from offlinepack import fetch, indexes

        try:
            with fetch.open_client(run.indexes, retries=0, timeout=run.means.timeout) as client:
                indexes.check(dict.fromkeys(names), run.indexes, client)
        except FetchError as failure:
            return list(failure.findings)
    if not hard:
        return []
    return [
        error(
            "index-broken",
            without_secrets(addresses[0]),
            "{subject} could not be read.",
            "Try again later, or check the address of the index.",
            log=end_of(said),
        )
    ]


def _about_build(flat: str, said: str) -> Finding | None:
    """Sources whose metadata could not be had: a build that failed, an address or a path with nothing behind it."""
    if found := re.search(r"Distribution not found at: (\S+)", flat):
        return error(
            "nothing-there",
            without_secrets(found[1]),
            "There is nothing at {subject}.",
            "Correct the path or the address.",
        )
    found = re.search(r"Failed to (?:download and build|build|prepare|get metadata for|download) `([^`]+)`", flat)
    if not found:
        return None
    if other := re.search(r"metadata name `([^`]+)` does not match given name `([^`]+)`", flat):
        return error(
            "other-name",
            without_secrets(found[1]),
            "{subject}: the project there is called {name}, not {given}.",
            "Ask for it under its own name.",
            name=other[1],
            given=other[2],
        )
    if "Git operation failed" in flat:
        return error(
            "no-checkout",
            without_secrets(found[1]),
            "{subject} could not be fetched with git.",
            "Check the address, the branch, tag or commit, and your access to it.",
            log=end_of(said),
        )
    return error(
        "metadata-build-failed",
        without_secrets(found[1]),
        "{subject} has to be built to know what it needs, and that failed.",
        "The words below say what its build misses. A version with a wheel needs no build.",
        log=end_of(said),
    )


def _wanted_by(name: str, flat: str, run: Run) -> list[str]:
    """Who asked for a project: lines of the user with their place, else the releases whose metadata name it."""
    mine = [_place(one) for one in run.requirements.asked if one.name == name]
    if mine:
        return mine
    needs = _NEEDS.findall(flat)
    return shortened(f"{by}{versions}".strip(", ") for by, versions, its, _ in needs if canonicalize_name(its) == name)


def _place(one: Asked) -> str:
    return one.origin if one.shown == one.name else f"{one.origin} ({one.shown})"


def _unknown(name: str, flat: str, run: Run) -> Finding:
    by = _wanted_by(name, flat, run) or ["?"]
    if _unasked(run):
        return error(
            "not-in-the-store",
            name,
            "{subject}, asked for by {by}, has not been read before, and --offline forbids to ask an index.",
            "Run once without --offline.",
            by=by,
        )
    return error(
        "unknown-project",
        name,
        "No index has a project {subject}, asked for by {by}.",
        "Look for a spelling mistake, or name the index that has it with --extra-index-url.",
        by=by,
    )


def _is_frozen(name: str, run: Run) -> bool:
    return any(one.frozen for one in (*run.requirements.asked, *run.requirements.constraints) if one.name == name)


def _not_on_an_index(run: Run) -> list[Finding]:
    """All that stands in a frozen environment and on no index; what merely has no file for the target is not meant."""
    lines = tuple(one for one in (*run.requirements.asked, *run.requirements.constraints) if one.frozen)
    alone = replace(run, requirements=replace(run.requirements, asked=lines, constraints=(), no_deps=True))
    rounds, absent = Rounds(), set[str]()
    for _ in range(MOST_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            done = alone(Path(folder), rounds)
        flat = flat_words(words(done.stderr))
        missing = {*_UNKNOWN.findall(flat), *(name for name, _ in _NO_VERSION.findall(flat))}
        others = {found[0] for one in (NO_WHEEL, _NEEDS_PYTHON) for found in one.findall(flat)}
        if done.returncode == 0 or not (missing | others) - rounds.excluded:
            break
        absent |= missing
        rounds.excluded |= missing | others
    return [
        error(
            "not-on-an-index",
            one.name,
            "{line} is installed in the environment, and no index has it.",
            "Name what has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
            line=one.shown,
        )
        for one in lines
        if one.name in absent
    ]


def _no_version(name: str, pin: str, flat: str, run: Run) -> Finding:
    there = sorted({one.version for one in files_of(name, run) if one.version and not one.yanked}, reverse=True)
    return error(
        "no-such-version",
        name,
        "No index has {subject}{pin}, asked for by {by}; the newest that there are: {versions}.",
        "Ask for a version that exists.",
        pin=pin,
        by=_wanted_by(name, flat, run) or ["?"],
        versions=[str(one) for one in there[:5]] or "-",
    )


def _gap(name: str, flat: str, said: str, run: Run) -> Finding:
    """A project of which no version that may be taken has a file for the target: why, and what there is."""
    by = _wanted_by(name, flat, run) or ["?"]
    facts: dict[str, Any] = {"by": by, "target": run.where}
    files = files_of(name, run)
    versions, nearest = offered(files, _wanted(name, files, flat, run), run.target) if run.target else ([], None)
    if nearest and run.target:
        facts.update(nearest=nearest, why=run.target.why_not(nearest) or "")
    if versions:
        return error(
            "no-wheel-of-version",
            name,
            "{subject}, asked for by {by}, has no wheel for {target} in a version that may be taken; "
            "the nearest versions that have one: {versions}.",
            "Ask for one of those, or choose another target.",
            versions=versions,
            **facts,
        )
    sourced, forbidden = _has_source(name, run), not run.requirements.allows_source(canonicalize_name(name))
    if nearest and not (sourced and forbidden):
        return error(
            "no-wheel",
            name,
            "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
            "Have its source built: there, by --sdist include, or here, by the target's own Python (--build-python PY, "
            "--root DIR)."
            if sourced
            else "Choose a target that it fits, or another project.",
            **facts,
        )
    if forbidden:
        return error(
            "only-a-source",
            name,
            "{subject}, asked for by {by}, has no wheel for {target}, and --only-binary forbids its source.",
            "Take {subject} out of --only-binary.",
            **facts,
        )
    return error(
        "no-file",
        name,
        "{subject}, asked for by {by}, has no file for {target}.",
        "Ask for another version.",
        log=end_of(said),
        **facts,
    )


def _has_source(name: str, run: Run) -> bool:
    here = run.target.python_full if run.target else ""
    return any(not one.is_wheel and one.admits(here) for one in files_of(name, run))


def _wrong_python(name: str, wanted: str, flat: str, run: Run) -> Finding:
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=_wanted_by(name, flat, run) or ["?"],
        wanted=wanted,
        target=run.where,
        python=run.target.environment["python_full_version"] if run.target else "",
    )


def _wanted(name: str, files: Iterable[IndexFile], flat: str, run: Run) -> set[Version]:
    """The versions that the user asks for; where it is not the user, those that one or the other release needs."""
    lines = [*run.requirements.asked, *run.requirements.constraints]
    asked = [one.requirement.specifier for one in lines if one.requirement and one.name == name]
    ways = [SpecifierSet(",".join(map(str, asked)))]
    if not any(one.name == name for one in run.requirements.asked):
        needs = [wanted for _, _, its, wanted in _NEEDS.findall(flat) if canonicalize_name(its) == name]
        ways = [SpecifierSet(one.strip(", ")) for one in needs] or ways
    versions = {one.version for one in files if one.version and not one.yanked}
    return {version for way in ways for version in way.filter(versions)}


def _of_other_pythons(flat: str, run: Run) -> dict[NormalizedName, str]:
    """What was asked for and is only for other Pythons -> what its newest wants; where uv does not say which it is."""
    found = {}
    for name in {one.name for one in run.requirements.asked if one.name and not one.url}:
        files = files_of(name, run)
        wanted = _wanted(name, files, flat, run)
        mine = [one for one in files if one.version in wanted and not one.yanked]
        if mine and run.target and not any(one.admits(run.target.python_full) for one in mine):
            newest = max(mine, key=lambda one: one.version or Version("0"))
            found[name] = newest.requires_python or "?"
    return found


def _conflict(flat: str, said: str, run: Run) -> Finding:
    """Versions that exclude each other: who asked for what, as far as uv's words tell."""
    words = set(re.findall(NAME, flat.lower()))
    mine = [
        f"{one.shown} ({one.origin})"
        for one in (*run.requirements.asked, *run.requirements.constraints)
        if one.name in words
    ]
    pairs = {
        (f"{by}{versions.rstrip(', ')}", f"{its}{wanted.rstrip(', ')}")
        for by, versions, its, wanted in _NEEDS.findall(flat)
    }
    needs = [text("{by} needs {wanted}", by=by, wanted=wanted) for by, wanted in sorted(pairs)]
    if "No solution found" not in flat:
        return error(
            "resolver-failed",
            run.where,
            "uv found no versions for {subject}, for a reason that offlinepack does not know.",
            "The words below are uv's. --resolver pip may say more.",
            log=end_of(said),
        )
    if run.requirements.uploaded_prior_to and "exclude-newer" in flat:
        return error(
            "all-too-new",
            run.where,
            "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
            "Choose a later date. An index that gives no upload times cannot be used with a date.",
            log=end_of(said),
            date=run.requirements.uploaded_prior_to,
            asked=mine,
        )
    if needs:
        return error(
            "conflict",
            run.where,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=end_of(said),
            asked=mine,
            needs=needs,
        )
    return error(
        "no-version",
        run.where,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=end_of(said),
        asked=mine,
    )
