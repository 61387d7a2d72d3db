"""Turn the messages of a uv that found no lock into findings."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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
from offlinepack.resolve.backtracking import MAX_ROUNDS, BacktrackState
from offlinepack.resolve.diagnosis import (
    ask_indexes,
    find_dependents,
    keep_missing_projects,
    list_origins,
    report_broken_index,
    report_conflict,
    report_failed_checkout,
    report_failed_metadata_build,
    report_missing_address,
    report_missing_file,
    report_no_such_version,
    report_not_in_store,
    report_not_on_index,
    report_other_name,
    report_too_new,
    report_unknown_project,
    report_wrong_python,
)
from offlinepack.resolve.uv.command import UvInvocation, allows_sdist, list_index_files
from offlinepack.resolve.uv.trace import NO_WHEEL_PATTERN, PROJECT_PATTERN, flatten_text, shorten_output, strip_log
from offlinepack.targets.parse import get_running_target

if TYPE_CHECKING:
    from offlinepack.index.model import IndexFile
    from offlinepack.targets.model import Target


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
    """Turn one failure into findings or into an allowance; return whether another attempt can find more."""
    output = strip_log(output)
    flat = flatten_text(output)
    if findings := _diagnose_index(flat, output, run):
        rounds.add_findings(FetchError, *findings)
        return False
    if sources := _find_allowed_sdists(_SDIST_DISABLED_PATTERN, flat, run) - rounds.allow_sdist:
        rounds.allow_sdist |= sources
        return True
    if finding := _diagnose_build(flat, output):
        rounds.add_findings(BuildError, finding)
        return False
    if sources := _find_allowed_sdists(_NEEDS_SDIST_PATTERN, flat, run) - rounds.allow_sdist:
        rounds.allow_sdist |= sources
        return True
    unknown = {canonicalize_name(name) for name in _UNKNOWN_PROJECT_PATTERN.findall(flat)} - rounds.excluded_projects
    without = {canonicalize_name(name) for name, _ in NO_WHEEL_PATTERN.findall(flat)}
    requested_names = {line.name for line in run.requirements.requirements}
    pins = {canonicalize_name(name): pin for name, pin in _NO_VERSION_PATTERN.findall(flat)}
    # where it is a pin by one of several releases that lead nowhere the others say more
    pins = {name: pin for name, pin in pins.items() if name not in without or name in requested_names}
    # offline: an index may have a project that was never read from it
    offline = _has_unavailable_indexes(run)
    if offline:
        unread = {canonicalize_name(name) for name in _NOT_CACHED_PATTERN.findall(flat)}
        unknown |= (unread | set(pins)) - rounds.excluded_projects
    if not offline and any(_is_frozen(name, run) for name in {*unknown, *pins}):
        rounds.add_findings(SourceError, *_find_projects_not_on_index(run))
        return False
    if unknown:
        report = report_not_in_store if offline else report_unknown_project
        for name in sorted(unknown):
            rounds.add_findings(
                FetchError if offline else ResolutionError, report(name, _find_dependents(name, flat, run))
            )
        rounds.excluded_projects |= unknown
        return True
    if new := set(pins) - rounds.excluded_projects:
        for name in sorted(new):
            by = _find_dependents(name, flat, run)
            finding = report_no_such_version(name, pins[name], list_index_files(name, run), by)
            rounds.add_findings(ResolutionError, finding)
        rounds.excluded_projects |= new
        return True
    pythons = {canonicalize_name(name): specifier for name, _, specifier in _PYTHON_DEPENDENCY_PATTERN.findall(flat)}
    if not pythons and "does not satisfy" in flat:
        pythons = _find_wrong_pythons(flat, run)
    if new := set(pythons) - rounds.excluded_projects:
        for name in sorted(new):
            by, specifier = _find_dependents(name, flat, run), pythons[name].rstrip(",")
            rounds.add_findings(SelectionError, report_wrong_python(name, by, specifier, _get_target(run)))
        rounds.excluded_projects |= new
        return True
    if new := without - rounds.excluded_projects:
        missing_files = keep_missing_projects([_report_missing_file(name, flat, output, run) for name in sorted(new)])
        rounds.add_findings(SelectionError, *missing_files)
        rounds.excluded_projects |= {finding.subject for finding in missing_files}
        return True
    rounds.add_findings(ResolutionError, _report_conflict(flat, output, run))
    return False


def _get_target(run: UvInvocation) -> Target:
    return run.target or get_running_target()


def _find_allowed_sdists(pattern: re.Pattern[str], flat: str, run: UvInvocation) -> set[str]:
    """Find the projects that uv names and whose sdists may be used."""
    names = {canonicalize_name(name) for name in pattern.findall(flat)}
    return {name for name in names if _is_direct(name, run) or allows_sdist(name, run)}


def _has_unavailable_indexes(run: UvInvocation) -> bool:
    """Check whether there are indexes that --offline forbids to ask."""
    return run.context.offline and not run.indexes.no_index


def _is_direct(name: str, run: UvInvocation) -> bool:
    return any(line.url for line in run.requirements.requirements if line.name in (None, canonicalize_name(name)))


def _diagnose_index(flat: str, output: str, run: UvInvocation) -> list[Finding]:
    """Explain why an index could not be read."""
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
    if not run.context.offline and (findings := ask_indexes(names, run.indexes, run.context)):
        return findings
    if not hard:
        return []
    return [report_broken_index(addresses[0], shorten_output(output))]


def _diagnose_build(flat: str, output: str) -> Finding | None:
    """Explain why the metadata of an sdist could not be read: a failed build, or an address with nothing behind it."""
    if match := re.search(r"Distribution not found at: (\S+)", flat):
        return report_missing_address(redact_text(match[1]))
    match = re.search(r"Failed to (?:download and build|build|prepare|get metadata for|download) `([^`]+)`", flat)
    if not match:
        return None
    subject, log = redact_text(match[1]), shorten_output(output)
    if other := re.search(r"metadata name `([^`]+)` does not match given name `([^`]+)`", flat):
        return report_other_name(subject, other[1], other[2])
    if "Git operation failed" in flat:
        return report_failed_checkout(subject, log)
    return report_failed_metadata_build(subject, log)


def _find_dependents(name: str, flat: str, run: UvInvocation) -> list[str]:
    """Return the requirement lines that name a project, otherwise the releases that need it."""
    needs = _DEPENDENCY_PATTERN.findall(flat)
    releases = [f"{by}{versions}".strip(", ") for by, versions, needed, _ in needs if canonicalize_name(needed) == name]
    return find_dependents(name, run.requirements, releases)


def _is_frozen(name: str, run: UvInvocation) -> bool:
    return any(
        line.is_frozen for line in (*run.requirements.requirements, *run.requirements.constraints) if line.name == name
    )


def _find_projects_not_on_index(run: UvInvocation) -> list[Finding]:
    """Find all projects of a frozen environment that no index has; those without a file for the target do not count."""
    lines = tuple(line for line in (*run.requirements.requirements, *run.requirements.constraints) if line.is_frozen)
    policy = replace(run.requirements.policy, no_deps=True)
    alone = replace(run, requirements=replace(run.requirements, requirements=lines, constraints=(), policy=policy))
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
    return [report_not_on_index(line) for line in lines if line.name in absent]


def _report_missing_file(name: NormalizedName, flat: str, output: str, run: UvInvocation) -> Finding:
    files, target = list_index_files(name, run), _get_target(run)
    return report_missing_file(
        name,
        _find_dependents(name, flat, run),
        run.requirements,
        target,
        files,
        _find_accepted_versions(name, files, flat, run),
        any(not file.is_wheel and file.supports_python(target.python_full_version) for file in files),
        shorten_output(output),
    )


def _find_accepted_versions(name: str, files: Iterable[IndexFile], flat: str, run: UvInvocation) -> set[Version]:
    """Find the versions that the requirements accept, otherwise those that one of its dependents accepts."""
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
    """Find requested projects that exclude the target's Python, with the Requires-Python of their newest file."""
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
    """Report versions that exclude each other, as far as uv's output names them."""
    subject, log = run.target_name, shorten_output(output)
    if "No solution found" not in flat:
        return error(
            "resolver-failed",
            subject,
            "uv found no versions for {subject}, for a reason that offlinepack does not know.",
            "The words below are uv's. --resolver pip may say more.",
            log=log,
        )
    origins = list_origins(run.requirements, set(re.findall(PROJECT_PATTERN, flat.lower())))
    if run.requirements.policy.uploaded_prior_to and "exclude-newer" in flat:
        return report_too_new(subject, run.requirements, origins, log)
    pairs = {
        (f"{by}{versions.rstrip(', ')}", f"{dependency}{specifier.rstrip(', ')}")
        for by, versions, dependency, specifier in _DEPENDENCY_PATTERN.findall(flat)
    }
    needs = [text("{by} needs {wanted}", by=by, wanted=specifier) for by, specifier in sorted(pairs)]
    return report_conflict(subject, origins, needs, log)
