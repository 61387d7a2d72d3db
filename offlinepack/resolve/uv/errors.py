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


def handle_uv_failure(output: str, run: UvInvocation, rounds: BacktrackState) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    output = strip_log(output)
    flat = flatten_text(output)
    if findings := _diagnose_index(flat, output, run):
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
    if finding := _diagnose_build(flat, output):
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
    requested_names = {line.name for line in run.requirements.requirements}
    pins = {canonicalize_name(name): pin for name, pin in _NO_VERSION_PATTERN.findall(flat)}
    # where it is a pin by one of several releases that lead nowhere the others say more
    pins = {name: pin for name, pin in pins.items() if name not in without or name in requested_names}
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
    pythons = {canonicalize_name(name): specifier for name, _, specifier in _PYTHON_DEPENDENCY_PATTERN.findall(flat)}
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
            [_report_missing_file(name, flat, output, run) for name in sorted(set(without) - rounds.excluded_projects)]
        )
        rounds.findings += gaps
        rounds.error_types.add(SelectionError)
        rounds.excluded_projects |= {finding.subject for finding in gaps}
        return True
    rounds.error_types.add(ResolutionError)
    rounds.findings.append(_report_conflict(flat, output, run))
    return False


def _has_unavailable_indexes(run: UvInvocation) -> bool:
    """Whether there are indexes that may not be asked."""
    return run.context.offline and not run.indexes.no_index


def _is_direct(name: str, run: UvInvocation) -> bool:
    return any(line.url for line in run.requirements.requirements if line.name in (None, canonicalize_name(name)))


def _diagnose_index(flat: str, output: str, run: UvInvocation) -> list[Finding]:
    """What is wrong with the way to an index; our own client asks again: it knows where it looked for a password."""
    if match := re.search(r"Failed to read `--find-links` (?:directory|URL|file): (\S+)", flat):
        return [
            error(
                "find-links-unreadable",
                redact_text(match[1]),
                "{subject}, given with --find-links, cannot be read.",
                "Correct the path or the address.",
                log=shorten_output(output),
            )
        ]
    addresses = re.findall(r"(?:Failed to (?:fetch|download)[^`:]*[:`]? ?`?|for `|for url \()(https?://[^\s`)]+)", flat)
    hard = bool(addresses and re.search(r"Failed to (fetch|download)|Unsupported `Content-Type`|for url", flat))
    if not hard and not re.search(r"could not be queried|returned a 40\d|no versions of", flat):
        return []
    names = [canonicalize_name(name) for name in _UNKNOWN_PROJECT_PATTERN.findall(flat)]
    names += [canonicalize_name(name) for name in re.findall(rf"no versions of ({PROJECT_PATTERN})", flat)]
    names += [
        canonicalize_name(address.rstrip("/").rpartition("/")[2]) for address in addresses if address.endswith("/")
    ]
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
            log=shorten_output(output),
        )
    ]


def _diagnose_build(flat: str, output: str) -> Finding | None:
    """Sources whose metadata could not be had: a build that failed, an address or a path with nothing behind it."""
    if match := re.search(r"Distribution not found at: (\S+)", flat):
        return error(
            "nothing-there", redact_text(match[1]), "There is nothing at {subject}.", "Correct the path or the address."
        )
    match = re.search(r"Failed to (?:download and build|build|prepare|get metadata for|download) `([^`]+)`", flat)
    if not match:
        return None
    if other := re.search(r"metadata name `([^`]+)` does not match given name `([^`]+)`", flat):
        return error(
            "other-name",
            redact_text(match[1]),
            "{subject}: the project there is called {name}, not {given}.",
            "Ask for it under its own name.",
            name=other[1],
            given=other[2],
        )
    if "Git operation failed" in flat:
        return error(
            "no-checkout",
            redact_text(match[1]),
            "{subject} could not be fetched with git.",
            "Check the address, the branch, tag or commit, and your access to it.",
            log=shorten_output(output),
        )
    return error(
        "metadata-build-failed",
        redact_text(match[1]),
        "{subject} has to be built to know what it needs, and that failed.",
        "The words below say what its build misses. A version with a wheel needs no build.",
        log=shorten_output(output),
    )


def _find_dependents(name: str, flat: str, run: UvInvocation) -> list[str]:
    """Who asked for a project: lines of the user with their place, else the releases whose metadata name it."""
    origins = [_format_origin(line) for line in run.requirements.requirements if line.name == name]
    if origins:
        return origins
    needs = _DEPENDENCY_PATTERN.findall(flat)
    return shorten_releases(
        f"{by}{versions}".strip(", ") for by, versions, dependency, _ in needs if canonicalize_name(dependency) == name
    )


def _format_origin(line: RequirementLine) -> str:
    return line.origin if line.redacted_line == line.name else f"{line.origin} ({line.redacted_line})"


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
        line.is_frozen for line in (*run.requirements.requirements, *run.requirements.constraints) if line.name == name
    )


def _find_projects_not_on_index(run: UvInvocation) -> list[Finding]:
    """All that stands in a frozen environment and on no index; what merely has no file for the target is not meant."""
    lines = tuple(line for line in (*run.requirements.requirements, *run.requirements.constraints) if line.is_frozen)
    alone = replace(run, requirements=replace(run.requirements, requirements=lines, constraints=(), no_deps=True))
    rounds, absent = BacktrackState(), set[str]()
    for _ in range(MAX_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            process = alone(Path(folder), rounds)
        flat = flatten_text(strip_log(process.stderr))
        missing = {*_UNKNOWN_PROJECT_PATTERN.findall(flat), *(name for name, _ in _NO_VERSION_PATTERN.findall(flat))}
        named_projects = {
            groups[0] for pattern in (NO_WHEEL_PATTERN, _PYTHON_DEPENDENCY_PATTERN) for groups in pattern.findall(flat)
        }
        if process.returncode == 0 or not (missing | named_projects) - rounds.excluded_projects:
            break
        absent |= missing
        rounds.excluded_projects |= missing | named_projects
    return [
        error(
            "not-on-an-index",
            line.name,
            "{line} is installed in the environment, and no index has it.",
            "Name what has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
            line=line.redacted_line,
        )
        for line in lines
        if line.name in absent
    ]


def _report_no_such_version(name: str, pin: str, flat: str, run: UvInvocation) -> Finding:
    versions = sorted(
        {file.version for file in list_index_files(name, run) if file.version and not file.is_yanked}, reverse=True
    )
    return error(
        "no-such-version",
        name,
        "No index has {subject}{pin}, asked for by {by}; the newest that there are: {versions}.",
        "Ask for a version that exists.",
        pin=pin,
        by=_find_dependents(name, flat, run) or ["?"],
        versions=[str(version) for version in versions[:5]] or "-",
    )


def _report_missing_file(name: str, flat: str, output: str, run: UvInvocation) -> Finding:
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
        log=shorten_output(output),
        **facts,
    )


def _has_sdist(name: str, run: UvInvocation) -> bool:
    python_version = run.target.python_full_version if run.target else ""
    return any(not file.is_wheel and file.supports_python(python_version) for file in list_index_files(name, run))


def _report_wrong_python(name: str, specifier: str, flat: str, run: UvInvocation) -> Finding:
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=_find_dependents(name, flat, run) or ["?"],
        wanted=specifier,
        target=run.target_name,
        python=run.target.environment["python_full_version"] if run.target else "",
    )


def _find_accepted_versions(name: str, files: Iterable[IndexFile], flat: str, run: UvInvocation) -> set[Version]:
    """The versions that the user asks for; where it is not the user, those that one or the other release needs."""
    lines = [*run.requirements.requirements, *run.requirements.constraints]
    specifiers = [line.requirement.specifier for line in lines if line.requirement and line.name == name]
    ways = [SpecifierSet(",".join(map(str, specifiers)))]
    if not any(line.name == name for line in run.requirements.requirements):
        needs = [
            specifier
            for _, _, dependency, specifier in _DEPENDENCY_PATTERN.findall(flat)
            if canonicalize_name(dependency) == name
        ]
        ways = [SpecifierSet(specifier.strip(", ")) for specifier in needs] or ways
    versions = {file.version for file in files if file.version and not file.is_yanked}
    return {version for way in ways for version in way.filter(versions)}


def _find_wrong_pythons(flat: str, run: UvInvocation) -> dict[NormalizedName, str]:
    """What was asked for and is only for other Pythons -> what its newest wants; where uv does not say which it is."""
    newest_files = {}
    for name in {line.name for line in run.requirements.requirements if line.name and not line.url}:
        files = list_index_files(name, run)
        versions = _find_accepted_versions(name, files, flat, run)
        matching = [file for file in files if file.version in versions and not file.is_yanked]
        if (
            matching
            and run.target
            and not any(file.supports_python(run.target.python_full_version) for file in matching)
        ):
            newest = max(matching, key=lambda file: file.version or Version("0"))
            newest_files[name] = newest.requires_python or "?"
    return newest_files


def _report_conflict(flat: str, output: str, run: UvInvocation) -> Finding:
    """Versions that exclude each other: who asked for what, as far as uv's words tell."""
    words = set(re.findall(PROJECT_PATTERN, flat.lower()))
    origins = [
        f"{line.redacted_line} ({line.origin})"
        for line in (*run.requirements.requirements, *run.requirements.constraints)
        if line.name in words
    ]
    pairs = {
        (f"{by}{versions.rstrip(', ')}", f"{dependency}{specifier.rstrip(', ')}")
        for by, versions, dependency, specifier in _DEPENDENCY_PATTERN.findall(flat)
    }
    needs = [text("{by} needs {wanted}", by=by, wanted=specifier) for by, specifier in sorted(pairs)]
    if "No solution found" not in flat:
        return error(
            "resolver-failed",
            run.target_name,
            "uv found no versions for {subject}, for a reason that offlinepack does not know.",
            "The words below are uv's. --resolver pip may say more.",
            log=shorten_output(output),
        )
    if run.requirements.uploaded_prior_to and "exclude-newer" in flat:
        return error(
            "all-too-new",
            run.target_name,
            "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
            "Choose a later date. An index that gives no upload times cannot be used with a date.",
            log=shorten_output(output),
            date=run.requirements.uploaded_prior_to,
            asked=origins,
        )
    if needs:
        return error(
            "conflict",
            run.target_name,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=shorten_output(output),
            asked=origins,
            needs=needs,
        )
    return error(
        "no-version",
        run.target_name,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=shorten_output(output),
        asked=origins,
    )
