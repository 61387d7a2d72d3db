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
from offlinepack.index.find_links import parse_project_name
from offlinepack.index.model import IndexFile
from offlinepack.net.urls import redact_text
from offlinepack.pip_shim.run import PipOutput
from offlinepack.resolve.backtracking import BacktrackState
from offlinepack.resolve.diagnosis import (
    ask_indexes,
    can_use_sdist,
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
    report_no_wheel,
    report_not_in_store,
    report_not_on_index,
    report_other_name,
    report_too_new,
    report_unknown_project,
    report_wrong_python,
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
    "FailedToPrepareCandidate",
}

_ClassifiedFinding = tuple[type[OfflinepackError], Finding]


def handle_pip_failure(answer: PipOutput, run: PipInvocation, rounds: BacktrackState) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    pip_facts = answer.facts
    raised, reason = set(pip_facts.get("exception_classes", ())), pip_facts.get("message", "")
    if "marker" in pip_facts:
        unknown = {"platform_release", "platform_version", "implementation_version"} - set(run.target.environment)
        raise UnknownMarkerError(
            pip_facts["marker"], sorted(name for name in unknown if name in pip_facts["marker"]), run.target.name
        )
    if "index" in pip_facts or raised & _NETWORK_EXCEPTIONS:
        rounds.add_findings(FetchError, *_diagnose_index(pip_facts, answer, run))
        return False
    if "unread_file" in pip_facts:
        filename = pip_facts["unread_file"].rpartition("/")[2].removesuffix(".metadata")
        name = canonicalize_name(parse_project_name(filename) or filename)
        rounds.add_findings(FetchError, report_not_in_store(name, _find_dependents(name, (), run)))
        is_retry_useful = name not in rounds.excluded_projects and any(
            line.name == name for line in run.requirements.requirements
        )
        rounds.excluded_projects.add(name)
        return is_retry_useful
    if "unsatisfiable" in pip_facts:
        facts = {"specifier": "", "constraint": "", "requirement": "", "files": 0, "reason": ""}
        first = not rounds.findings
        is_retry_useful = _diagnose_causes(
            [
                {"project": name, "dependent": by, **facts}
                for name, asking in pip_facts["unsatisfiable"].items()
                for by in asking or [""]
            ],
            answer,
            run,
            rounds,
        )
        if first and "search_seconds" in pip_facts:
            rounds.findings.append(
                _report_search_end(sorted(pip_facts["unsatisfiable"]), pip_facts["search_seconds"], run)
            )
        return is_retry_useful
    if raised & {"HashErrors", "HashError", "HashMismatch"}:
        rounds.add_findings(IntegrityError, _report_hash_mismatch(answer, run))
        return False
    if "UnsupportedWheel" in raised:
        rounds.add_findings(SelectionError, _report_foreign_wheel(reason, run))
        return False
    if raised & {"DistributionNotFound", "UnsupportedPythonVersion"} and pip_facts.get("causes"):
        return _diagnose_causes(pip_facts["causes"], answer, run, rounds)
    rounds.add_findings(*_diagnose_sdist(answer, raised, reason, run))
    return False


def _diagnose_causes(
    causes: Iterable[Mapping[str, Any]], answer: PipOutput, run: PipInvocation, rounds: BacktrackState
) -> bool:
    """Diagnose requirements that pip could not satisfy, with the files that the indexes have of their projects."""
    causes = list(causes)
    if failed := next((cause["reason"] for cause in causes if cause["reason"]), ""):
        rounds.add_findings(*_diagnose_sdist(answer, set(), failed, run))
        return False
    findings_by_error: dict[type[OfflinepackError], list[Finding]] = {}
    names: set[str] = set()
    allowed: set[str] = set()
    for name in sorted({cause["project"] for cause in causes} - rounds.excluded_projects):
        own_causes = [cause for cause in causes if cause["project"] == name]
        if name == _PYTHON_PROJECT:
            for cause in own_causes:
                needing = canonicalize_name(cause["dependent"].partition(" ")[0].partition("[")[0])
                findings_by_error.setdefault(SelectionError, []).append(
                    report_wrong_python(needing, _find_dependents(needing, causes, run), cause["specifier"], run.target)
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
            rounds.add_findings(FetchError, *failure.findings)
            return False
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
        rounds.add_findings(ResolutionError, _report_conflict(causes, answer, run))
        return False
    if missing_files := findings_by_error.get(SelectionError):
        findings_by_error[SelectionError] = keep_missing_projects(missing_files)
        names -= {finding.subject for finding in missing_files if finding not in findings_by_error[SelectionError]}
    for kind, findings in findings_by_error.items():
        rounds.add_findings(kind, *findings)
    rounds.excluded_projects |= names
    return True


_CauseList = list[Mapping[str, Any]]


def _split_alternatives(causes: _CauseList) -> tuple[_CauseList, list[_CauseList]]:
    """Split causes into those that always apply, and groups of which one release or another needs one."""
    by: dict[str, _CauseList] = {}
    for cause in causes:
        by.setdefault(re.split(r"[\[ ]", cause["dependent"])[0], []).append(cause)
    ways = [group for project, group in by.items() if project and len(group) > 1]
    return [cause for cause in causes if not any(cause in group for group in ways)], ways


def _diagnose_alternatives(
    name: str, ways: list[_CauseList], files: list[IndexFile], answer: PipOutput, run: PipInvocation
) -> _ClassifiedFinding | None:
    """Diagnose a project if every release that needs it needs a version that cannot be used."""
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

    def find_sdist_project(self, run: PipInvocation, rounds: BacktrackState) -> str | None:
        """Return the name of the project if only its sdist can help and nothing forbids it."""
        sdists = [file for file in self.compatible_files if not file.is_wheel]
        if not sdists or self.list_fitting_wheels(run):
            return None
        name = sdists[0].project
        if name in rounds.allow_sdist or name in run.requirements.policy.format_control.no_binary:
            return None
        can_use = can_use_sdist(name, run.requirements, run.target, run.context, lambda: self.known_files)
        return name if can_use else None

    def list_fitting_wheels(self, run: PipInvocation) -> list[IndexFile]:
        """List the wheels that may be used."""
        return [
            file
            for file in self.compatible_files
            if file.is_wheel
            and run.requirements.policy.format_control.allows_wheel(file.project)
            and run.target.rank_wheel(file.filename) is not None
        ]

    def find_problem(
        self, name: str, causes: _CauseList, by: list[str], answer: PipOutput, run: PipInvocation
    ) -> _ClassifiedFinding | None:
        """Explain what is wrong with this project alone; None if only the other projects exclude its versions."""
        lines = (*run.requirements.requirements, *run.requirements.constraints)
        frozen = [line for line in lines if line.name == name and line.is_frozen]
        versions = {file.version for file in self.known_files if file.version and not file.is_yanked}
        specifiers = [cause["specifier"] for cause in causes]
        absent = [
            specifier for specifier in specifiers if not any(SpecifierSet(specifier).filter(versions, prereleases=True))
        ]
        if frozen and (not self.known_files or absent):
            return SourceError, report_not_on_index(frozen[0])
        if not self.known_files:
            return ResolutionError, report_unknown_project(name, by)
        if not self.matching_files and absent:
            return ResolutionError, report_no_such_version(name, absent[0], self.known_files, by)
        if not self.matching_files or self.list_fitting_wheels(run):
            return None
        if not self.early_files:
            return ResolutionError, report_too_new(run.target.name, run.requirements, by, answer.get_last_lines())
        if not self.compatible_files:
            newest = max(self.early_files, key=lambda file: file.version or Version("0"))
            return SelectionError, report_wrong_python(name, by, newest.requires_python or "?", run.target)
        return SelectionError, report_missing_file(
            name,
            by,
            run.requirements,
            run.target,
            self.known_files,
            {file.version for file in self.matching_files if file.version},
            any(not file.is_wheel for file in self.compatible_files),
            answer.get_last_lines(),
        )


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
        specifier.filter(
            {file.version for file in live if file.version}, prereleases=run.requirements.policy.pre or None
        )
    )
    selected = tuple(file for file in live if file.version in versions)
    before = run.requirements.policy.uploaded_prior_to
    limit = datetime.fromisoformat(before.replace("Z", "+00:00")) if before else None
    early = tuple(
        file
        for file in selected
        if limit is None or file.index is None or (file.upload_datetime and file.upload_datetime < limit)
    )
    compatible = tuple(file for file in early if file.supports_python(run.target.python_full_version))
    return _CandidateFiles(every, selected, early, compatible)


def _find_dependents(name: str, causes: Iterable[Mapping[str, Any]], run: PipInvocation) -> list[str]:
    """Return the requirement lines that name a project, otherwise the releases that need it."""
    needing = {
        cause["dependent"].replace(" ", "==") for cause in causes if cause["dependent"] and cause["project"] == name
    }
    return find_dependents(name, run.requirements, needing)


def _diagnose_index(facts: Mapping[str, Any], answer: PipOutput, run: PipInvocation) -> list[Finding]:
    """Explain why an index could not be read."""
    url = facts.get("index", {}).get("url", "")
    names = [canonicalize_name(url.rstrip("/").rpartition("/")[2])] if url else []
    log = answer.get_last_lines() or redact_text(facts.get("index", {}).get("reason", ""))
    return ask_indexes(names, run.indexes, run.context) or [report_broken_index(url or run.target.name, log)]


def _diagnose_sdist(answer: PipOutput, raised: set[str], reason: str, run: PipInvocation) -> _ClassifiedFinding:
    """Explain why the metadata of an sdist or of an address could not be read; otherwise report pip's output."""
    words = reason + answer.stderr
    subject = _find_direct_subject(words, run)
    if "FileNotFoundError" in raised or "404 Client Error" in reason or "does not exist" in answer.stderr:
        return BuildError, report_missing_address(subject, answer.get_last_lines(3))
    if re.search(r"\b(git|hg|svn|bzr) (clone|fetch|checkout|rev-parse|ls-remote|submodule)\b", words):
        return BuildError, report_failed_checkout(subject, answer.get_last_lines())
    if match := re.search(r"(?i)inconsistent name: expected '([^']+)', but metadata has '([^']+)'", words):
        return BuildError, report_other_name(subject, match[2], match[1])
    if raised & _BUILD_EXCEPTIONS or "subprocess-exited-with-error" in answer.stderr:
        return BuildError, report_failed_metadata_build(subject, answer.get_last_lines())
    return ResolutionError, error(
        "resolver-failed",
        run.target.name,
        "pip found no versions for {subject}, for a reason that offlinepack does not know.",
        "The words below are pip's. --resolver uv may say more.",
        log=answer.get_last_lines(),
    )


def _find_direct_subject(words: str, run: PipInvocation) -> str:
    """Find the requirement that pip's output is about: a direct one, otherwise a quoted name."""
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
    """Report the address of a wheel for another machine."""
    filename = reason.partition(" ")[0]
    lines = [line for line in run.requirements.requirements if filename in (line.url or "")]
    name = next((line.name for line in lines if line.name), filename)
    return report_no_wheel(name, [line.origin for line in lines], run.target, filename, has_sdist=False)


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


def _report_conflict(causes: Iterable[Mapping[str, Any]], answer: PipOutput, run: PipInvocation) -> Finding:
    causes = list(causes)
    needing = {cause["dependent"]: re.split(r"[\[ ]", cause["dependent"])[0] for cause in causes if cause["dependent"]}
    names = {cause["project"] for cause in causes} | {canonicalize_name(name) for name in needing.values()}
    # the version only where another release of the same project wants something else
    shown = {by: name if list(needing.values()).count(name) == 1 else by for by, name in needing.items()}
    needs = sorted(
        {f"{shown[cause['dependent']]} needs {cause['requirement']}" for cause in causes if cause["dependent"]}
    )
    return report_conflict(run.target.name, list_origins(run.requirements, names), needs, answer.get_last_lines())
