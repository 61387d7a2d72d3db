"""Turn the failures of pip's resolver into findings, with the files that the indexes have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from offlinepack.errors import (
    BuildError,
    FetchError,
    Finding,
    IntegrityError,
    OfflinepackError,
    ResolutionError,
    SelectionError,
    SourceError,
    error,
    warning,
)
from offlinepack.index.model import IndexFile, parse_project_name
from offlinepack.index.simple_api import check_indexes
from offlinepack.net.client import open_client
from offlinepack.net.urls import get_local_path, redact_text
from offlinepack.pip_shim.run import PipOutput
from offlinepack.requirements.model import RequirementLine
from offlinepack.resolve.backtracking import PipBacktrackState
from offlinepack.resolve.diagnosis import (
    find_offered_versions,
    keep_hardest,
    report_no_such_version,
    report_not_in_store,
    report_not_on_index,
    report_unknown_project,
    shorten_releases,
)
from offlinepack.resolve.pip.command import PipInvocation
from offlinepack.targets.markers import UnknownMarkerError

_PYTHON_PROJECT = "<Python from Requires-Python>"
"""what pip calls the Python that a release wants"""

_NETWORK_EXCEPTIONS = {
    "NetworkConnectionError",
    "ConnectionError",
    "HTTPError",
    "RequestException",
    "Timeout",
    "ConnectionFailedError",
}

_BUILD_EXCEPTIONS = {
    "InstallationSubprocessError",
    "MetadataGenerationFailed",
    "BuildBackendException",
    "BackendUnavailable",
}

_ClassifiedFinding = tuple[type[OfflinepackError], Finding]


def handle_pip_failure(answer: PipOutput, run: PipInvocation, rounds: PipBacktrackState) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    told = answer.facts
    raised, why = set(told.get("raised", ())), told.get("why", "")
    if "marker" in told:
        unknown = {"platform_release", "platform_version", "implementation_version"} - set(run.target.environment)
        raise UnknownMarkerError(
            told["marker"], sorted(one for one in unknown if one in told["marker"]), run.target.name
        )
    if "index" in told or raised & _NETWORK_EXCEPTIONS:
        return rounds.add_findings(FetchError, *_diagnose_index(told, answer, run))
    if "unread" in told:
        filename = told["unread"].rpartition("/")[2].removesuffix(".metadata")
        name = canonicalize_name(parse_project_name(filename) or filename)
        rounds.add_findings(FetchError, report_not_in_store(name, _find_dependents(name, (), run)))
        again = name not in rounds.excluded_projects and any(one.name == name for one in run.requirements.requirements)
        rounds.excluded_projects.add(name)
        return again
    if "barren" in told:
        facts = {"specifier": "", "constraint": "", "wanted": "", "files": 0, "why": ""}
        first = not rounds.findings
        again = _diagnose_causes(
            [{"project": name, "by": by, **facts} for name, asking in told["barren"].items() for by in asking or [""]],
            answer,
            run,
            rounds,
        )
        if first and "after" in told:
            rounds.findings.append(_report_search_end(sorted(told["barren"]), told["after"], run))
        return again
    if raised & {"HashErrors", "HashError", "HashMismatch"}:
        return rounds.add_findings(IntegrityError, _report_hash_mismatch(answer, run))
    if "UnsupportedWheel" in raised:
        return rounds.add_findings(SelectionError, _report_foreign_wheel(why, run))
    if raised & {"DistributionNotFound", "UnsupportedPythonVersion"} and told.get("causes"):
        return _diagnose_causes(told["causes"], answer, run, rounds)
    return rounds.add_findings(*_diagnose_sdist(answer, raised, why, run))


def _diagnose_causes(
    causes: Iterable[Mapping[str, Any]], answer: PipOutput, run: PipInvocation, rounds: PipBacktrackState
) -> bool:
    """Requirements that pip could not bring together: what the indexes have of their projects tells why."""
    causes = list(causes)
    if failed := next((one["why"] for one in causes if one["why"]), ""):
        return rounds.add_findings(*_diagnose_sdist(answer, set(), failed, run))
    found: dict[type[OfflinepackError], list[Finding]] = {}
    names: set[str] = set()
    allowed: set[str] = set()
    for name in sorted({one["project"] for one in causes} - rounds.excluded_projects):
        mine = [one for one in causes if one["project"] == name]
        if name == _PYTHON_PROJECT:
            for one in mine:
                needing = canonicalize_name(one["by"].partition(" ")[0].partition("[")[0])
                found.setdefault(SelectionError, []).append(
                    _report_wrong_python(needing, one["specifier"], causes, run)
                )
                names.add(needing)
            continue
        if run.context.offline and not run.indexes.no_index:  # the pages that were kept are pip's, and may be old
            if not all(one["files"] for one in mine):
                found.setdefault(FetchError, []).append(report_not_in_store(name, _find_dependents(name, causes, run)))
                names.add(name)
            continue
        try:
            every = run.list_files(name)
        except FetchError as failure:
            return rounds.add_findings(FetchError, *failure.findings)
        together, ways = _split_alternatives(mine)
        files = _filter_files(every, together, run)
        if source := files.find_sdist_project(run, rounds):
            allowed.add(source)
            continue
        bad = files.find_problem(name, together, _find_dependents(name, mine, run), answer, run)
        if bad := bad or _diagnose_alternatives(name, ways, every, answer, run):
            found.setdefault(bad[0], []).append(bad[1])
            names.add(name)
    if allowed:
        rounds.allow_sdist |= allowed
        return True
    if not found:
        return rounds.add_findings(ResolutionError, _report_conflict(causes, answer, run))
    if gaps := found.get(SelectionError):
        found[SelectionError] = keep_hardest(gaps)
        names -= {one.subject for one in gaps if one not in found[SelectionError]}
    for kind, findings in found.items():
        rounds.add_findings(kind, *findings)
    rounds.excluded_projects |= names
    return True


_CauseList = list[Mapping[str, Any]]


def _split_alternatives(causes: _CauseList) -> tuple[_CauseList, list[_CauseList]]:
    """What all hold together; and of each project of which several releases ask, what one or the other asks."""
    by: dict[str, _CauseList] = {}
    for one in causes:
        by.setdefault(re.split(r"[\[ ]", one["by"])[0], []).append(one)
    ways = [each for project, each in by.items() if project and len(each) > 1]
    return [one for one in causes if not any(one in each for each in ways)], ways


def _diagnose_alternatives(
    name: str, ways: list[_CauseList], files: list[IndexFile], answer: PipOutput, run: PipInvocation
) -> _ClassifiedFinding | None:
    """What is wrong with a project where each release that asks for it asks for what cannot be taken."""
    for each in ways:
        by = _find_dependents(name, each, run)
        wrong = [_filter_files(files, [one], run).find_problem(name, [one], by, answer, run) for one in each]
        if None not in wrong:
            # that a file is missing says more than that one of many pins is of a release that never was
            return max(filter(None, wrong), key=lambda one: one[0] is SelectionError)
    return None


@dataclass(frozen=True)
class _CandidateFiles:
    """What the indexes have of a project, and of that what all who asked for it would take."""

    known_files: tuple[IndexFile, ...]
    matching_files: tuple[IndexFile, ...]
    """of a version that every specifier admits"""
    early_files: tuple[IndexFile, ...]
    """of those: uploaded early enough"""
    compatible_files: tuple[IndexFile, ...]
    """of those: for the target's Python, by what the index says"""

    def find_sdist_project(self, run: PipInvocation, rounds: PipBacktrackState) -> str | None:
        """The project's name, where only its sources can help, and nothing forbids them."""
        sdists = [one for one in self.compatible_files if not one.is_wheel]
        if not sdists or self.list_fitting_wheels(run) or not run.requirements.allows_source(name := sdists[0].project):
            return None
        if not run.context.can_build(run.target) and any(
            one.is_compiled(run.target.facts.os) for one in self.known_files
        ):
            return None
        return name if name not in rounds.allow_sdist and name not in run.requirements.no_binary else None

    def list_fitting_wheels(self, run: PipInvocation) -> list[IndexFile]:
        """The wheels that may be taken."""
        return [
            one
            for one in self.compatible_files
            if one.is_wheel
            and run.requirements.allows_wheel(one.project)
            and run.target.rank_wheel(one.filename) is not None
        ]

    def find_problem(
        self, name: str, causes: _CauseList, by: list[str], answer: PipOutput, run: PipInvocation
    ) -> _ClassifiedFinding | None:
        """What is wrong with this project by itself; None: a version could be taken, were it not for others."""
        lines = (*run.requirements.requirements, *run.requirements.constraints)
        frozen = [one for one in lines if one.name == name and one.is_frozen]
        versions = sorted({one.version for one in self.known_files if one.version and not one.is_yanked}, reverse=True)
        specifiers = [one["specifier"] for one in causes]
        absent = [one for one in specifiers if not any(SpecifierSet(one).filter(versions, prereleases=True))]
        if frozen and (not self.known_files or absent):
            return SourceError, report_not_on_index(frozen[0])
        if not self.known_files:
            return ResolutionError, report_unknown_project(name, by)
        if not self.matching_files and absent:
            return ResolutionError, report_no_such_version(name, absent[0], [str(one) for one in versions[:5]], by)
        if not self.matching_files or self.list_fitting_wheels(run):
            return None
        if not self.early_files:
            return ResolutionError, _report_too_new(by, answer, run)
        if not self.compatible_files:
            newest = max(self.early_files, key=lambda one: one.version or Version("0"))
            return SelectionError, _report_wrong_python(name, newest.requires_python or "?", (), run, by)
        return SelectionError, _report_missing_file(name, by, self, answer, run)


def _filter_files(
    files: Iterable[IndexFile], causes: Iterable[Mapping[str, Any]], run: PipInvocation
) -> _CandidateFiles:
    specifier = SpecifierSet(",".join(part for one in causes for part in (one["specifier"], one["constraint"]) if part))
    every = tuple(one for one in files if one.version is not None)
    pinned = any(one.operator in ("==", "===") and "*" not in one.version for one in specifier)
    live = [one for one in every if pinned or not one.is_yanked]
    versions = set(
        specifier.filter({one.version for one in live if one.version}, prereleases=run.requirements.pre or None)
    )
    wanted = tuple(one for one in live if one.version in versions)
    before = run.requirements.uploaded_prior_to
    limit = datetime.fromisoformat(before.replace("Z", "+00:00")) if before else None
    early = tuple(
        one
        for one in wanted
        if limit is None or one.index is None or (one.upload_datetime and one.upload_datetime < limit)
    )
    here = tuple(one for one in early if one.supports_python(run.target.python_full_version))
    return _CandidateFiles(every, wanted, early, here)


def _find_dependents(name: str, causes: Iterable[Mapping[str, Any]], run: PipInvocation) -> list[str]:
    """Who asked for a project: lines of the user with their place, else the releases that need it."""
    mine = [one for one in run.requirements.requirements if one.name == name]
    if mine:
        return [one.origin if one.redacted_line == one.name else f"{one.origin} ({one.redacted_line})" for one in mine]
    needing = {one["by"].replace(" ", "==") for one in causes if one["by"] and one["project"] == name}
    return shorten_releases(needing) or ["?"]


def _diagnose_index(told: Mapping[str, Any], answer: PipOutput, run: PipInvocation) -> list[Finding]:
    """What is wrong with the way to an index; our own client asks again: it knows where it looked for a password."""
    url = told.get("index", {}).get("url", "")
    try:
        with open_client(run.indexes, retries=0, timeout=run.context.timeout) as client:
            check_indexes([canonicalize_name(url.rstrip("/").rpartition("/")[2])] if url else [], run.indexes, client)
            for link in run.indexes.find_links:
                if get_local_path(link) is None:
                    client.fetch_page(link)
    except FetchError as failure:
        return list(failure.findings)
    return [
        error(
            "index-broken",
            redact_text(url or run.target.name),
            "{subject} could not be read.",
            "Try again later, or check the address of the index.",
            log=answer.get_last_lines() or redact_text(told.get("index", {}).get("why", "")),
        )
    ]


def _diagnose_sdist(answer: PipOutput, raised: set[str], why: str, run: PipInvocation) -> _ClassifiedFinding:
    """Sources and addresses whose metadata could not be had; else what nobody foresaw."""
    subject = _find_direct_subject(why + answer.stderr, run)
    if "FileNotFoundError" in raised or "404 Client Error" in why or "does not exist" in answer.stderr:
        return BuildError, error(
            "nothing-there",
            subject,
            "There is nothing at {subject}.",
            "Correct the path or the address.",
            log=answer.get_last_lines(3),
        )
    if re.search(r"\b(git|hg|svn|bzr) (clone|fetch|checkout|rev-parse|ls-remote|submodule)\b", why + answer.stderr):
        return BuildError, error(
            "no-checkout",
            subject,
            "{subject} could not be fetched with git.",
            "Check the address, the branch, tag or commit, and your access to it.",
            log=answer.get_last_lines(),
        )
    if other := re.search(
        r"(?i)inconsistent name: expected '([^']+)', but metadata has '([^']+)'", why + answer.stderr
    ):
        return BuildError, error(
            "other-name",
            subject,
            "{subject}: the project there is called {name}, not {given}.",
            "Ask for it under its own name.",
            name=other[2],
            given=other[1],
        )
    if raised & _BUILD_EXCEPTIONS or "subprocess-exited-with-error" in answer.stderr:
        return BuildError, error(
            "metadata-build-failed",
            subject,
            "{subject} has to be built to know what it needs, and that failed.",
            "The words below say what its build misses. A version with a wheel needs no build.",
            log=answer.get_last_lines(),
        )
    return ResolutionError, error(
        "resolver-failed",
        run.target.name,
        "pip found no versions for {subject}, for a reason that offlinepack does not know.",
        "The words below are pip's. --resolver uv may say more.",
        log=answer.get_last_lines(),
    )


def _find_direct_subject(words: str, run: PipInvocation) -> str:
    """What the words are about: a line that was asked for directly, else a name that they quote."""
    quoted = re.search(r"Failed to (?:build|prepare) '([^']+)'|Could not install requirement (\S+)", words)
    name = canonicalize_name((quoted[1] or quoted[2]).partition("==")[0]) if quoted else ""
    direct = [one for one in run.requirements.requirements if one.url]
    mine = [one for one in direct if (one.name or "") == name] or [one for one in direct if str(one.url) in words]
    if not mine and not name and len(direct) == 1:
        mine = direct
    return mine[0].redacted_line if mine else name or run.target.name


def _report_foreign_wheel(why: str, run: PipInvocation) -> Finding:
    """An address of a wheel for another machine."""
    filename = why.partition(" ")[0]
    return error(
        "no-wheel",
        next((one.name for one in run.requirements.requirements if one.name and filename in (one.url or "")), filename),
        "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
        "Choose a target that it fits, or another project.",
        by=[one.origin for one in run.requirements.requirements if filename in (one.url or "")],
        target=run.target.name,
        nearest=filename,
        why=run.target.explain_mismatch(filename) or "",
    )


def _report_hash_mismatch(answer: PipOutput, run: PipInvocation) -> Finding:
    return error(
        "hash-mismatch",
        run.target.name,
        "For {subject} a file has another hash than the one that is asked for or that its index gives.",
        "If the file is right, correct the hash; if it was changed on its way, find out by whom.",
        log=answer.get_last_lines(),
    )


def _report_search_end(names: list[str], seconds: float, run: PipInvocation) -> Finding:
    return warning(
        "search-ended",
        run.target.name,
        "For {subject} older releases that do without {names} were looked for during {seconds} seconds and then no "
        "more: there may be some.",
        "Name the versions that you would take, or have the sources of {names} built.",
        names=names,
        seconds=f"{seconds:.0f}",
    )


def _report_too_new(by: list[str], answer: PipOutput, run: PipInvocation) -> Finding:
    return error(
        "all-too-new",
        run.target.name,
        "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
        "Choose a later date. An index that gives no upload times cannot be used with a date.",
        log=answer.get_last_lines(),
        date=run.requirements.uploaded_prior_to,
        asked=by,
    )


def _report_wrong_python(
    name: str, wanted: str, causes: Iterable[Mapping[str, Any]], run: PipInvocation, by: list[str] | None = None
) -> Finding:
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=by or _find_dependents(name, causes, run),
        wanted=wanted,
        target=run.target.name,
        python=run.target.environment["python_full_version"],
    )


def _report_missing_file(
    name: str, by: list[str], files: _CandidateFiles, answer: PipOutput, run: PipInvocation
) -> Finding:
    """A project of which no version that may be taken has a file for the target: why, and what there is."""
    versions, nearest = find_offered_versions(
        files.known_files, {one.version for one in files.matching_files if one.version}, run.target
    )
    facts: dict[str, Any] = {"by": by, "target": run.target.name}
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
    sourced = any(not one.is_wheel for one in files.compatible_files)
    forbidden = not run.requirements.allows_source(name)
    if nearest and not (sourced and forbidden):
        return error(
            "no-wheel",
            name,
            "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
            "Have its source built: there, by --sdist include, or here, by the target's own Python (--build-python PY, "
            "--root DIR)."
            if sourced
            else "Choose a target that it fits, or another project.",
            nearest=nearest,
            why=run.target.explain_mismatch(nearest) or "",
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
        log=answer.get_last_lines(),
        **facts,
    )


def _report_conflict(causes: Iterable[Mapping[str, Any]], answer: PipOutput, run: PipInvocation) -> Finding:
    """Versions that exclude each other: who asked for what."""
    causes = list(causes)
    needing = {one["by"]: re.split(r"[\[ ]", one["by"])[0] for one in causes if one["by"]}
    names = {one["project"] for one in causes} | {canonicalize_name(one) for one in needing.values()}
    lines: Iterable[RequirementLine] = (*run.requirements.requirements, *run.requirements.constraints)
    mine = [f"{one.redacted_line} ({one.origin})" for one in lines if one.name in names]
    # the version only where another release of the same project wants something else
    shown = {by: name if list(needing.values()).count(name) == 1 else by for by, name in needing.items()}
    needs = sorted({f"{shown[one['by']]} needs {one['wanted']}" for one in causes if one["by"]})
    if needs:
        return error(
            "conflict",
            run.target.name,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=answer.get_last_lines(),
            asked=mine,
            needs=needs,
        )
    return error(
        "no-version",
        run.target.name,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=answer.get_last_lines(),
        asked=mine,
    )
