"""Turn the messages of a uv that found no lock into findings."""

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
from offlinepack.net.urls import redact_text
from offlinepack.requirements.model import RequirementLine
from offlinepack.resolve.backtracking import MAX_ROUNDS, BacktrackState
from offlinepack.resolve.diagnosis import find_offered_versions, keep_hardest, shorten_releases
from offlinepack.resolve.uv.command import UvInvocation, allows_sdist, list_index_files
from offlinepack.resolve.uv.trace import NO_WHEEL_PATTERN, PROJECT_PATTERN, flatten_text, shorten_output, strip_log

if TYPE_CHECKING:
    from offlinepack.index.model import IndexFile


_UNKNOWN_PROJECT_PATTERN = re.compile(
    rf"\b({PROJECT_PATTERN}) was not found in the (?:package registry|provided package locations|cache)"
)

_NO_VERSION_PATTERN = re.compile(rf"there is no version of ({PROJECT_PATTERN})(?:\[[^\]]*\])?(===?[^\s,]+)")

_NOT_CACHED_PATTERN = re.compile(rf"\b({PROJECT_PATTERN})(?:[=<>!~]\S+)? needs? to be downloaded from a registry")

_NEEDS_SDIST_PATTERN = re.compile(r"hint: Wheels are required for `([^`]+)`")

_SDIST_DISABLED_PATTERN = re.compile(r"Building source distributions for `([^`]+)` is disabled")

_DEPENDENCY_PATTERN = re.compile(
    rf"(?:all versions of )?\b({PROJECT_PATTERN})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) depends? on "
    rf"({PROJECT_PATTERN})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=|~=)[^\s,]+(?:,\s*)?)*)"
)

_PYTHON_DEPENDENCY_PATTERN = re.compile(
    rf"(?:all versions of )?\b({PROJECT_PATTERN})((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) depends? on "
    r"Python((?:[<>=!~]+[^\s,]+,?)+)"
)


def handle_uv_failure(said: str, run: UvInvocation, rounds: BacktrackState) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    said = strip_log(said)
    flat = flatten_text(said)
    if findings := _diagnose_index(flat, said, run):
        rounds.error_types.add(FetchError)
        rounds.findings += findings
        return False
    if (
        sources := {
            canonicalize_name(name)
            for name in _SDIST_DISABLED_PATTERN.findall(flat)
            if allows_sdist(canonicalize_name(name), run) or _is_direct(name, run)
        }
        - rounds.allow_sdist
    ):
        rounds.allow_sdist |= sources
        return True
    if finding := _diagnose_build(flat, said):
        rounds.error_types.add(BuildError)
        rounds.findings.append(finding)
        return False
    if (
        sources := {
            canonicalize_name(name)
            for name in _NEEDS_SDIST_PATTERN.findall(flat)
            if allows_sdist(canonicalize_name(name), run)
        }
        - rounds.allow_sdist
    ):
        rounds.allow_sdist |= sources
        return True
    unknown = {canonicalize_name(name) for name in _UNKNOWN_PROJECT_PATTERN.findall(flat)} - rounds.excluded_projects
    without = {canonicalize_name(name): versions for name, versions in NO_WHEEL_PATTERN.findall(flat)}
    asked = {one.name for one in run.requirements.requirements}
    pins = {canonicalize_name(name): pin for name, pin in _NO_VERSION_PATTERN.findall(flat)}
    # where it is a pin by one of several releases that lead nowhere the others say more
    pins = {name: pin for name, pin in pins.items() if name not in without or name in asked}
    if _has_unavailable_indexes(run):  # what was never read is no proof that an index lacks it
        unread = {canonicalize_name(name) for name in _NOT_CACHED_PATTERN.findall(flat)}
        unknown |= (unread | set(pins)) - rounds.excluded_projects
    absent = {**dict.fromkeys(unknown, ""), **pins}
    if any(_is_frozen(name, run) for name in absent):
        rounds.findings += _find_projects_not_on_index(run)
        rounds.error_types.add(SourceError)
        return False
    if unknown:
        rounds.findings += [_report_unknown_project(name, flat, run) for name in sorted(unknown)]
        rounds.error_types.add(FetchError if _has_unavailable_indexes(run) else ResolutionError)
        rounds.excluded_projects |= unknown
        return True
    if set(pins) - rounds.excluded_projects:
        rounds.findings += [
            _report_no_such_version(name, pins[name], flat, run)
            for name in sorted(set(pins) - rounds.excluded_projects)
        ]
        rounds.error_types.add(ResolutionError)
        rounds.excluded_projects |= set(pins)
        return True
    pythons = {canonicalize_name(name): wanted for name, _, wanted in _PYTHON_DEPENDENCY_PATTERN.findall(flat)}
    if not pythons and "does not satisfy" in flat:
        pythons = _find_wrong_pythons(flat, run)
    if set(pythons) - rounds.excluded_projects:
        for name in sorted(set(pythons) - rounds.excluded_projects):
            rounds.findings.append(_report_wrong_python(name, pythons[name].rstrip(","), flat, run))
        rounds.error_types.add(SelectionError)
        rounds.excluded_projects |= set(pythons)
        return True
    if set(without) - rounds.excluded_projects:
        gaps = keep_hardest(
            [_report_missing_file(name, flat, said, run) for name in sorted(set(without) - rounds.excluded_projects)]
        )
        rounds.findings += gaps
        rounds.error_types.add(SelectionError)
        rounds.excluded_projects |= {one.subject for one in gaps}
        return True
    rounds.error_types.add(ResolutionError)
    rounds.findings.append(_report_conflict(flat, said, run))
    return False


def _has_unavailable_indexes(run: UvInvocation) -> bool:
    """Whether there are indexes that may not be asked."""
    return run.context.offline and not run.indexes.no_index


def _is_direct(name: str, run: UvInvocation) -> bool:
    return any(one.url for one in run.requirements.requirements if one.name in (None, canonicalize_name(name)))


def _diagnose_index(flat: str, said: str, run: UvInvocation) -> list[Finding]:
    """What is wrong with the way to an index; our own client asks again: it knows where it looked for a password."""
    if found := re.search(r"Failed to read `--find-links` (?:directory|URL|file): (\S+)", flat):
        return [
            error(
                "find-links-unreadable",
                redact_text(found[1]),
                "{subject}, given with --find-links, cannot be read.",
                "Correct the path or the address.",
                log=shorten_output(said),
            )
        ]
    addresses = re.findall(r"(?:Failed to (?:fetch|download)[^`:]*[:`]? ?`?|for `|for url \()(https?://[^\s`)]+)", flat)
    hard = bool(addresses and re.search(r"Failed to (fetch|download)|Unsupported `Content-Type`|for url", flat))
    if not hard and not re.search(r"could not be queried|returned a 40\d|no versions of", flat):
        return []
    names = [canonicalize_name(one) for one in _UNKNOWN_PROJECT_PATTERN.findall(flat)]
    names += [canonicalize_name(one) for one in re.findall(rf"no versions of ({PROJECT_PATTERN})", flat)]
    names += [canonicalize_name(one.rstrip("/").rpartition("/")[2]) for one in addresses if one.endswith("/")]
    if not run.context.offline:
        from offlinepack.index.simple_api import check_indexes
        from offlinepack.net.client import open_client

        try:
            with open_client(run.indexes, retries=0, timeout=run.context.timeout) as client:
                check_indexes(dict.fromkeys(names), run.indexes, client)
        except FetchError as failure:
            return list(failure.findings)
    if not hard:
        return []
    return [
        error(
            "index-broken",
            redact_text(addresses[0]),
            "{subject} could not be read.",
            "Try again later, or check the address of the index.",
            log=shorten_output(said),
        )
    ]


def _diagnose_build(flat: str, said: str) -> Finding | None:
    """Sources whose metadata could not be had: a build that failed, an address or a path with nothing behind it."""
    if found := re.search(r"Distribution not found at: (\S+)", flat):
        return error(
            "nothing-there", redact_text(found[1]), "There is nothing at {subject}.", "Correct the path or the address."
        )
    found = re.search(r"Failed to (?:download and build|build|prepare|get metadata for|download) `([^`]+)`", flat)
    if not found:
        return None
    if other := re.search(r"metadata name `([^`]+)` does not match given name `([^`]+)`", flat):
        return error(
            "other-name",
            redact_text(found[1]),
            "{subject}: the project there is called {name}, not {given}.",
            "Ask for it under its own name.",
            name=other[1],
            given=other[2],
        )
    if "Git operation failed" in flat:
        return error(
            "no-checkout",
            redact_text(found[1]),
            "{subject} could not be fetched with git.",
            "Check the address, the branch, tag or commit, and your access to it.",
            log=shorten_output(said),
        )
    return error(
        "metadata-build-failed",
        redact_text(found[1]),
        "{subject} has to be built to know what it needs, and that failed.",
        "The words below say what its build misses. A version with a wheel needs no build.",
        log=shorten_output(said),
    )


def _find_dependents(name: str, flat: str, run: UvInvocation) -> list[str]:
    """Who asked for a project: lines of the user with their place, else the releases whose metadata name it."""
    mine = [_format_origin(one) for one in run.requirements.requirements if one.name == name]
    if mine:
        return mine
    needs = _DEPENDENCY_PATTERN.findall(flat)
    return shorten_releases(
        f"{by}{versions}".strip(", ") for by, versions, its, _ in needs if canonicalize_name(its) == name
    )


def _format_origin(one: RequirementLine) -> str:
    return one.origin if one.redacted_line == one.name else f"{one.origin} ({one.redacted_line})"


def _report_unknown_project(name: str, flat: str, run: UvInvocation) -> Finding:
    by = _find_dependents(name, flat, run) or ["?"]
    if _has_unavailable_indexes(run):
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


def _is_frozen(name: str, run: UvInvocation) -> bool:
    return any(
        one.is_frozen for one in (*run.requirements.requirements, *run.requirements.constraints) if one.name == name
    )


def _find_projects_not_on_index(run: UvInvocation) -> list[Finding]:
    """All that stands in a frozen environment and on no index; what merely has no file for the target is not meant."""
    lines = tuple(one for one in (*run.requirements.requirements, *run.requirements.constraints) if one.is_frozen)
    alone = replace(run, requirements=replace(run.requirements, requirements=lines, constraints=(), no_deps=True))
    rounds, absent = BacktrackState(), set[str]()
    for _ in range(MAX_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            done = alone(Path(folder), rounds)
        flat = flatten_text(strip_log(done.stderr))
        missing = {*_UNKNOWN_PROJECT_PATTERN.findall(flat), *(name for name, _ in _NO_VERSION_PATTERN.findall(flat))}
        others = {found[0] for one in (NO_WHEEL_PATTERN, _PYTHON_DEPENDENCY_PATTERN) for found in one.findall(flat)}
        if done.returncode == 0 or not (missing | others) - rounds.excluded_projects:
            break
        absent |= missing
        rounds.excluded_projects |= missing | others
    return [
        error(
            "not-on-an-index",
            one.name,
            "{line} is installed in the environment, and no index has it.",
            "Name what has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
            line=one.redacted_line,
        )
        for one in lines
        if one.name in absent
    ]


def _report_no_such_version(name: str, pin: str, flat: str, run: UvInvocation) -> Finding:
    there = sorted(
        {one.version for one in list_index_files(name, run) if one.version and not one.is_yanked}, reverse=True
    )
    return error(
        "no-such-version",
        name,
        "No index has {subject}{pin}, asked for by {by}; the newest that there are: {versions}.",
        "Ask for a version that exists.",
        pin=pin,
        by=_find_dependents(name, flat, run) or ["?"],
        versions=[str(one) for one in there[:5]] or "-",
    )


def _report_missing_file(name: str, flat: str, said: str, run: UvInvocation) -> Finding:
    """A project of which no version that may be taken has a file for the target: why, and what there is."""
    by = _find_dependents(name, flat, run) or ["?"]
    facts: dict[str, Any] = {"by": by, "target": run.target_name}
    files = list_index_files(name, run)
    versions, nearest = (
        find_offered_versions(files, _find_accepted_versions(name, files, flat, run), run.target)
        if run.target
        else ([], None)
    )
    if nearest and run.target:
        facts.update(nearest=nearest, why=run.target.explain_mismatch(nearest) or "")
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
    sourced, forbidden = _has_sdist(name, run), not run.requirements.allows_source(canonicalize_name(name))
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
        log=shorten_output(said),
        **facts,
    )


def _has_sdist(name: str, run: UvInvocation) -> bool:
    here = run.target.python_full_version if run.target else ""
    return any(not one.is_wheel and one.supports_python(here) for one in list_index_files(name, run))


def _report_wrong_python(name: str, wanted: str, flat: str, run: UvInvocation) -> Finding:
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=_find_dependents(name, flat, run) or ["?"],
        wanted=wanted,
        target=run.target_name,
        python=run.target.environment["python_full_version"] if run.target else "",
    )


def _find_accepted_versions(name: str, files: Iterable[IndexFile], flat: str, run: UvInvocation) -> set[Version]:
    """The versions that the user asks for; where it is not the user, those that one or the other release needs."""
    lines = [*run.requirements.requirements, *run.requirements.constraints]
    asked = [one.requirement.specifier for one in lines if one.requirement and one.name == name]
    ways = [SpecifierSet(",".join(map(str, asked)))]
    if not any(one.name == name for one in run.requirements.requirements):
        needs = [wanted for _, _, its, wanted in _DEPENDENCY_PATTERN.findall(flat) if canonicalize_name(its) == name]
        ways = [SpecifierSet(one.strip(", ")) for one in needs] or ways
    versions = {one.version for one in files if one.version and not one.is_yanked}
    return {version for way in ways for version in way.filter(versions)}


def _find_wrong_pythons(flat: str, run: UvInvocation) -> dict[NormalizedName, str]:
    """What was asked for and is only for other Pythons -> what its newest wants; where uv does not say which it is."""
    found = {}
    for name in {one.name for one in run.requirements.requirements if one.name and not one.url}:
        files = list_index_files(name, run)
        wanted = _find_accepted_versions(name, files, flat, run)
        mine = [one for one in files if one.version in wanted and not one.is_yanked]
        if mine and run.target and not any(one.supports_python(run.target.python_full_version) for one in mine):
            newest = max(mine, key=lambda one: one.version or Version("0"))
            found[name] = newest.requires_python or "?"
    return found


def _report_conflict(flat: str, said: str, run: UvInvocation) -> Finding:
    """Versions that exclude each other: who asked for what, as far as uv's words tell."""
    words = set(re.findall(PROJECT_PATTERN, flat.lower()))
    mine = [
        f"{one.redacted_line} ({one.origin})"
        for one in (*run.requirements.requirements, *run.requirements.constraints)
        if one.name in words
    ]
    pairs = {
        (f"{by}{versions.rstrip(', ')}", f"{its}{wanted.rstrip(', ')}")
        for by, versions, its, wanted in _DEPENDENCY_PATTERN.findall(flat)
    }
    needs = [text("{by} needs {wanted}", by=by, wanted=wanted) for by, wanted in sorted(pairs)]
    if "No solution found" not in flat:
        return error(
            "resolver-failed",
            run.target_name,
            "uv found no versions for {subject}, for a reason that offlinepack does not know.",
            "The words below are uv's. --resolver pip may say more.",
            log=shorten_output(said),
        )
    if run.requirements.uploaded_prior_to and "exclude-newer" in flat:
        return error(
            "all-too-new",
            run.target_name,
            "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
            "Choose a later date. An index that gives no upload times cannot be used with a date.",
            log=shorten_output(said),
            date=run.requirements.uploaded_prior_to,
            asked=mine,
        )
    if needs:
        return error(
            "conflict",
            run.target_name,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=shorten_output(said),
            asked=mine,
            needs=needs,
        )
    return error(
        "no-version",
        run.target_name,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=shorten_output(said),
        asked=mine,
    )
