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
    pip_facts = answer.facts
    raised, reason = set(pip_facts.get("raised", ())), pip_facts.get("why", "")
    if "marker" in pip_facts:
        unknown = {"platform_release", "platform_version", "implementation_version"} - set(run.target.environment)
        raise UnknownMarkerError(
            pip_facts["marker"], sorted(name for name in unknown if name in pip_facts["marker"]), run.target.name
        )
    if "index" in pip_facts or raised & _NETWORK_EXCEPTIONS:
        return rounds.add_findings(FetchError, *_diagnose_index(pip_facts, answer, run))
    if "unread" in pip_facts:
        filename = pip_facts["unread"].rpartition("/")[2].removesuffix(".metadata")
        name = canonicalize_name(parse_project_name(filename) or filename)
        rounds.add_findings(FetchError, report_not_in_store(name, _find_dependents(name, (), run)))
        is_retry_useful = name not in rounds.excluded_projects and any(
            line.name == name for line in run.requirements.requirements
        )
        rounds.excluded_projects.add(name)
        return is_retry_useful
    if "barren" in pip_facts:
        facts = {"specifier": "", "constraint": "", "wanted": "", "files": 0, "why": ""}
        first = not rounds.findings
        is_retry_useful = _diagnose_causes(
            [
                {"project": name, "by": by, **facts}
                for name, asking in pip_facts["barren"].items()
                for by in asking or [""]
            ],
            answer,
            run,
            rounds,
        )
        if first and "after" in pip_facts:
            rounds.findings.append(_report_search_end(sorted(pip_facts["barren"]), pip_facts["after"], run))
        return is_retry_useful
    if raised & {"HashErrors", "HashError", "HashMismatch"}:
        return rounds.add_findings(IntegrityError, _report_hash_mismatch(answer, run))
    if "UnsupportedWheel" in raised:
        return rounds.add_findings(SelectionError, _report_foreign_wheel(reason, run))
    if raised & {"DistributionNotFound", "UnsupportedPythonVersion"} and pip_facts.get("causes"):
        return _diagnose_causes(pip_facts["causes"], answer, run, rounds)
    return rounds.add_findings(*_diagnose_sdist(answer, raised, reason, run))


def _diagnose_causes(
    causes: Iterable[Mapping[str, Any]], answer: PipOutput, run: PipInvocation, rounds: PipBacktrackState
) -> bool:
    """Requirements that pip could not bring together: what the indexes have of their projects tells why."""
    causes = list(causes)
    if failed := next((cause["why"] for cause in causes if cause["why"]), ""):
        return rounds.add_findings(*_diagnose_sdist(answer, set(), failed, run))
    findings_by_error: dict[type[OfflinepackError], list[Finding]] = {}
    names: set[str] = set()
    allowed: set[str] = set()
    for name in sorted({cause["project"] for cause in causes} - rounds.excluded_projects):
        own_causes = [cause for cause in causes if cause["project"] == name]
        if name == _PYTHON_PROJECT:
            for cause in own_causes:
                needing = canonicalize_name(cause["by"].partition(" ")[0].partition("[")[0])
                findings_by_error.setdefault(SelectionError, []).append(
                    _report_wrong_python(needing, cause["specifier"], causes, run)
                )
                names.add(needing)
            continue
        if run.context.offline and not run.indexes.no_index:  # the pages that were kept are pip's, and may be old
            if not all(cause["files"] for cause in own_causes):
                findings_by_error.setdefault(FetchError, []).append(
                    report_not_in_store(name, _find_dependents(name, causes, run))
                )
                names.add(name)
            continue
        try:
            every = run.list_files(name)
        except FetchError as failure:
            return rounds.add_findings(FetchError, *failure.findings)
        together, ways = _split_alternatives(own_causes)
        files = _filter_files(every, together, run)
        if source := files.find_sdist_project(run, rounds):
            allowed.add(source)
            continue
        bad = files.find_problem(name, together, _find_dependents(name, own_causes, run), answer, run)
        if bad := bad or _diagnose_alternatives(name, ways, every, answer, run):
            findings_by_error.setdefault(bad[0], []).append(bad[1])
            names.add(name)
    if allowed:
        rounds.allow_sdist |= allowed
        return True
    if not findings_by_error:
        return rounds.add_findings(ResolutionError, _report_conflict(causes, answer, run))
    if gaps := findings_by_error.get(SelectionError):
        findings_by_error[SelectionError] = keep_hardest(gaps)
        names -= {finding.subject for finding in gaps if finding not in findings_by_error[SelectionError]}
    for kind, findings in findings_by_error.items():
        rounds.add_findings(kind, *findings)
    rounds.excluded_projects |= names
    return True


_CauseList = list[Mapping[str, Any]]


def _split_alternatives(causes: _CauseList) -> tuple[_CauseList, list[_CauseList]]:
    """What all hold together; and of each project of which several releases ask, what one or the other asks."""
    by: dict[str, _CauseList] = {}
    for cause in causes:
        by.setdefault(re.split(r"[\[ ]", cause["by"])[0], []).append(cause)
    ways = [group for project, group in by.items() if project and len(group) > 1]
    return [cause for cause in causes if not any(cause in group for group in ways)], ways


def _diagnose_alternatives(
    name: str, ways: list[_CauseList], files: list[IndexFile], answer: PipOutput, run: PipInvocation
) -> _ClassifiedFinding | None:
    """What is wrong with a project where each release that asks for it asks for what cannot be taken."""
    for group in ways:
        by = _find_dependents(name, group, run)
        wrong = [_filter_files(files, [cause], run).find_problem(name, [cause], by, answer, run) for cause in group]
        if None not in wrong:
            # that a file is missing says more than that one of many pins is of a release that never was
            return max(filter(None, wrong), key=lambda problem: problem[0] is SelectionError)
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
        sdists = [file for file in self.compatible_files if not file.is_wheel]
        if not sdists or self.list_fitting_wheels(run) or not run.requirements.allows_source(name := sdists[0].project):
            return None
        if not run.context.can_build(run.target) and any(
            file.is_compiled(run.target.facts.os) for file in self.known_files
        ):
            return None
        return name if name not in rounds.allow_sdist and name not in run.requirements.no_binary else None

    def list_fitting_wheels(self, run: PipInvocation) -> list[IndexFile]:
        """The wheels that may be taken."""
        return [
            file
            for file in self.compatible_files
            if file.is_wheel
            and run.requirements.allows_wheel(file.project)
            and run.target.rank_wheel(file.filename) is not None
        ]

    def find_problem(
        self, name: str, causes: _CauseList, by: list[str], answer: PipOutput, run: PipInvocation
    ) -> _ClassifiedFinding | None:
        """What is wrong with this project by itself; None: a version could be taken, were it not for others."""
        lines = (*run.requirements.requirements, *run.requirements.constraints)
        frozen = [line for line in lines if line.name == name and line.is_frozen]
        versions = sorted(
            {file.version for file in self.known_files if file.version and not file.is_yanked}, reverse=True
        )
        specifiers = [cause["specifier"] for cause in causes]
        absent = [
            specifier for specifier in specifiers if not any(SpecifierSet(specifier).filter(versions, prereleases=True))
        ]
        if frozen and (not self.known_files or absent):
            return SourceError, report_not_on_index(frozen[0])
        if not self.known_files:
            return ResolutionError, report_unknown_project(name, by)
        if not self.matching_files and absent:
            return ResolutionError, report_no_such_version(
                name, absent[0], [str(version) for version in versions[:5]], by
            )
        if not self.matching_files or self.list_fitting_wheels(run):
            return None
        if not self.early_files:
            return ResolutionError, _report_too_new(by, answer, run)
        if not self.compatible_files:
            newest = max(self.early_files, key=lambda file: file.version or Version("0"))
            return SelectionError, _report_wrong_python(name, newest.requires_python or "?", (), run, by)
        return SelectionError, _report_missing_file(name, by, self, answer, run)


def _filter_files(
    files: Iterable[IndexFile], causes: Iterable[Mapping[str, Any]], run: PipInvocation
) -> _CandidateFiles:
    specifier = SpecifierSet(
        ",".join(part for cause in causes for part in (cause["specifier"], cause["constraint"]) if part)
    )
    every = tuple(file for file in files if file.version is not None)
    pinned = any(clause.operator in ("==", "===") and "*" not in clause.version for clause in specifier)
    live = [file for file in every if pinned or not file.is_yanked]
    versions = set(
        specifier.filter({file.version for file in live if file.version}, prereleases=run.requirements.pre or None)
    )
    selected = tuple(file for file in live if file.version in versions)
    before = run.requirements.uploaded_prior_to
    limit = datetime.fromisoformat(before.replace("Z", "+00:00")) if before else None
    early = tuple(
        file
        for file in selected
        if limit is None or file.index is None or (file.upload_datetime and file.upload_datetime < limit)
    )
    compatible = tuple(file for file in early if file.supports_python(run.target.python_full_version))
    return _CandidateFiles(every, selected, early, compatible)


def _find_dependents(name: str, causes: Iterable[Mapping[str, Any]], run: PipInvocation) -> list[str]:
    """Who asked for a project: lines of the user with their place, else the releases that need it."""
    lines = [line for line in run.requirements.requirements if line.name == name]
    if lines:
        return [
            line.origin if line.redacted_line == line.name else f"{line.origin} ({line.redacted_line})"
            for line in lines
        ]
    needing = {cause["by"].replace(" ", "==") for cause in causes if cause["by"] and cause["project"] == name}
    return shorten_releases(needing) or ["?"]


def _diagnose_index(facts: Mapping[str, Any], answer: PipOutput, run: PipInvocation) -> list[Finding]:
    """What is wrong with the way to an index; our own client asks again: it knows where it looked for a password."""
    url = facts.get("index", {}).get("url", "")
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
            log=answer.get_last_lines() or redact_text(facts.get("index", {}).get("why", "")),
        )
    ]


def _diagnose_sdist(answer: PipOutput, raised: set[str], reason: str, run: PipInvocation) -> _ClassifiedFinding:
    """Sources and addresses whose metadata could not be had; else what nobody foresaw."""
    subject = _find_direct_subject(reason + answer.stderr, run)
    if "FileNotFoundError" in raised or "404 Client Error" in reason or "does not exist" in answer.stderr:
        return BuildError, error(
            "nothing-there",
            subject,
            "There is nothing at {subject}.",
            "Correct the path or the address.",
            log=answer.get_last_lines(3),
        )
    if re.search(r"\b(git|hg|svn|bzr) (clone|fetch|checkout|rev-parse|ls-remote|submodule)\b", reason + answer.stderr):
        return BuildError, error(
            "no-checkout",
            subject,
            "{subject} could not be fetched with git.",
            "Check the address, the branch, tag or commit, and your access to it.",
            log=answer.get_last_lines(),
        )
    if other := re.search(
        r"(?i)inconsistent name: expected '([^']+)', but metadata has '([^']+)'", reason + answer.stderr
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
    direct = [line for line in run.requirements.requirements if line.url]
    lines = [line for line in direct if (line.name or "") == name] or [
        line for line in direct if str(line.url) in words
    ]
    if not lines and not name and len(direct) == 1:
        lines = direct
    return lines[0].redacted_line if lines else name or run.target.name


def _report_foreign_wheel(reason: str, run: PipInvocation) -> Finding:
    """An address of a wheel for another machine."""
    filename = reason.partition(" ")[0]
    return error(
        "no-wheel",
        next(
            (line.name for line in run.requirements.requirements if line.name and filename in (line.url or "")),
            filename,
        ),
        "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
        "Choose a target that it fits, or another project.",
        by=[line.origin for line in run.requirements.requirements if filename in (line.url or "")],
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
    name: str, specifier: str, causes: Iterable[Mapping[str, Any]], run: PipInvocation, by: list[str] | None = None
) -> Finding:
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=by or _find_dependents(name, causes, run),
        wanted=specifier,
        target=run.target.name,
        python=run.target.environment["python_full_version"],
    )


def _report_missing_file(
    name: str, by: list[str], files: _CandidateFiles, answer: PipOutput, run: PipInvocation
) -> Finding:
    """A project of which no version that may be taken has a file for the target: why, and what there is."""
    versions, nearest = find_offered_versions(
        files.known_files, {file.version for file in files.matching_files if file.version}, run.target
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
    sourced = any(not file.is_wheel for file in files.compatible_files)
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
    needing = {cause["by"]: re.split(r"[\[ ]", cause["by"])[0] for cause in causes if cause["by"]}
    names = {cause["project"] for cause in causes} | {
        canonicalize_name(requirement) for requirement in needing.values()
    }
    lines: Iterable[RequirementLine] = (*run.requirements.requirements, *run.requirements.constraints)
    origins = [f"{line.redacted_line} ({line.origin})" for line in lines if line.name in names]
    # the version only where another release of the same project wants something else
    shown = {by: name if list(needing.values()).count(name) == 1 else by for by, name in needing.items()}
    needs = sorted({f"{shown[cause['by']]} needs {cause['wanted']}" for cause in causes if cause["by"]})
    if needs:
        return error(
            "conflict",
            run.target.name,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=answer.get_last_lines(),
            asked=origins,
            needs=needs,
        )
    return error(
        "no-version",
        run.target.name,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=answer.get_last_lines(),
        asked=origins,
    )
