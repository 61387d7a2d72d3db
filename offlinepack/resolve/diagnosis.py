"""Explain why a resolver found no lock: unknown projects, missing files, versions that conflict.

Each function words one finding code. The resolvers pass the facts that they read from pip or uv and from the indexes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from offlinepack.errors import FetchError, Finding, error
from offlinepack.net.urls import get_local_path, redact_text
from offlinepack.requirements.model import RequirementLine, Requirements

if TYPE_CHECKING:
    from offlinepack.index.model import Indexes, IndexFile
    from offlinepack.resolve.context import ResolverContext
    from offlinepack.targets.model import Target


def keep_missing_projects(findings: Sequence[Finding]) -> list[Finding]:
    """Keep the findings about projects without any file; if there are none, return all findings.

    The others may be old versions that a resolver tried instead. The next attempt, which excludes these projects,
    shows which of them lack a file too.
    """
    return [finding for finding in findings if finding.code != "no-wheel-of-version"] or list(findings)


def ask_indexes(names: Iterable[str], indexes: Indexes, context: ResolverContext) -> list[Finding]:
    """Ask the indexes again with our own client, which knows where it looked for a password; return its errors."""
    # a resolver that succeeds does not load the network code
    from offlinepack.index.simple_api import check_indexes
    from offlinepack.net.client import open_client

    try:
        with open_client(indexes, retries=0, timeout=context.timeout) as client:
            check_indexes(dict.fromkeys(names), indexes, client)
            for link in indexes.find_links:
                if get_local_path(link) is None:
                    client.fetch_page(link)
    except FetchError as failure:
        return list(failure.findings)
    return []


def can_use_sdist(
    name: str,
    requirements: Requirements,
    target: Target | None,
    context: ResolverContext,
    list_files: Callable[[], Iterable[IndexFile]],
) -> bool:
    """Check whether the sdist of a project may be used and can become a wheel for the target."""
    format_control = requirements.policy.format_control
    if not format_control.allows_source(name):
        return False
    if name in format_control.no_binary or target is None or context.can_build(target):
        return True
    return not any(file.is_compiled(target.facts.os) for file in list_files())


def find_offered_versions(
    files: Iterable[IndexFile], requested_versions: Iterable[Version], target: Target
) -> tuple[list[str], str | None]:
    """Find the versions with a wheel for the target next to the newest requested one, older and newer.

    If there are none, return the wheel that misses the target by least.
    """
    versioned = [(file.version, file) for file in files if file.is_wheel and file.version]
    final = [pair for pair in versioned if not pair[0].is_prerelease and not pair[1].is_yanked] or versioned
    fitting = {
        version
        for version, file in final
        if target.rank_wheel(file.filename) is not None and file.supports_python(target.python_full_version)
    }
    requested = max(requested_versions, default=max((version for version, _ in final), default=Version("0")))
    newer = sorted(version for version in fitting if version > requested)[:1]
    older = sorted(version for version in fitting if version <= requested)[-2 if not newer else -1 :]
    newest_first = [file.filename for _, file in sorted(final, key=lambda pair: pair[0], reverse=True)]
    offered = [str(version) for version in (*reversed(older), *newer)]
    return offered, None if fitting else target.find_nearest(newest_first)


def find_dependents(name: str, requirements: Requirements, releases: Iterable[str]) -> list[str]:
    """Return the requirement lines that name a project, otherwise the releases that need it."""
    origins = [
        line.origin if line.redacted_line == line.name else f"{line.origin} ({line.redacted_line})"
        for line in requirements.requirements
        if line.name == name
    ]
    return origins or _shorten_releases(releases) or ["?"]


def _shorten_releases(releases: Iterable[str]) -> list[str]:
    """List releases; name a project with more than three releases only once."""
    projects: dict[str, set[str]] = {}
    for release in releases:
        projects.setdefault(re.split(r"[\[=<>!~, ]", release)[0], set()).add(release)
    return sorted(
        {name if len(releases) > 3 else release for name, releases in projects.items() for release in releases}
    )


def list_origins(requirements: Requirements, names: Collection[str]) -> list[str]:
    """Return the requirements and constraints on these projects with file and line."""
    lines: Iterable[RequirementLine] = (*requirements.requirements, *requirements.constraints)
    return [f"{line.redacted_line} ({line.origin})" for line in lines if line.name and line.name in names]


def report_broken_index(address: str, log: str) -> Finding:
    """Report an index that could not be read."""
    return error(
        "index-broken",
        redact_text(address),
        "{subject} could not be read.",
        "Try again later, or check the address of the index.",
        log=log,
    )


def report_not_in_store(name: str, by: list[str]) -> Finding:
    """Report a project that was never read and must not be asked for (--offline)."""
    return error(
        "not-in-the-store",
        name,
        "{subject}, asked for by {by}, has not been read before, and --offline forbids to ask an index.",
        "Run once without --offline.",
        by=by,
    )


def report_unknown_project(name: str, by: list[str]) -> Finding:
    """Report a project that no index has."""
    return error(
        "unknown-project",
        name,
        "No index has a project {subject}, asked for by {by}.",
        "Look for a spelling mistake, or name the index that has it with --extra-index-url.",
        by=by,
    )


def report_not_on_index(line: RequirementLine) -> Finding:
    """Report a project of a frozen environment that no index has."""
    return error(
        "not-on-an-index",
        line.name,
        "{line} is installed in the environment, and no index has it.",
        "Name the index or folder that has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
        line=line.redacted_line,
    )


def report_no_such_version(name: str, specifier: str, files: Iterable[IndexFile], by: list[str]) -> Finding:
    """Report a version that no index has, with the five newest that exist."""
    versions = sorted({file.version for file in files if file.version and not file.is_yanked}, reverse=True)
    return error(
        "no-such-version",
        name,
        "No index has {subject}{pin}, asked for by {by}; the newest that there are: {versions}.",
        "Ask for a version that exists.",
        pin=specifier,
        by=by,
        versions=[str(version) for version in versions[:5]] or "-",
    )


def report_wrong_python(name: str, by: list[str], specifier: str, target: Target) -> Finding:
    """Report a project whose Requires-Python excludes the Python of the target."""
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=by,
        wanted=specifier,
        target=target.name,
        python=target.python_full_version,
    )


def report_no_wheel(name: str, by: list[str], target: Target, nearest: str, has_sdist: bool) -> Finding:
    """Report a project without a wheel for the target, and the wheel that misses it by least."""
    return error(
        "no-wheel",
        name,
        "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
        "Have its source built: there, by --sdist include, or here, by the target's own Python (--build-python PY, "
        "--root DIR)."
        if has_sdist
        else "Choose a target that it fits, or another project.",
        by=by,
        target=target.name,
        nearest=nearest,
        why=target.explain_mismatch(nearest) or "",
    )


def report_missing_file(
    name: str,
    by: list[str],
    requirements: Requirements,
    target: Target,
    files: Iterable[IndexFile],
    accepted_versions: Iterable[Version],
    has_sdist: bool,
    log: str,
) -> Finding:
    """Report a project of which no accepted version has a file for the target; say what the indexes offer."""
    versions, nearest = find_offered_versions(files, accepted_versions, target)
    facts: dict[str, Any] = {"by": by, "target": target.name}
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
    is_forbidden = not requirements.policy.format_control.allows_source(name)
    if nearest and not (has_sdist and is_forbidden):
        return report_no_wheel(name, by, target, nearest, has_sdist)
    if is_forbidden:
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
        log=log,
        **facts,
    )


def report_missing_address(subject: str, log: str = "") -> Finding:
    """Report a path or an address of a requirement where nothing is."""
    return error(
        "nothing-there", subject, "There is nothing at {subject}.", "Correct the path or the address.", log=log
    )


def report_failed_checkout(subject: str, log: str) -> Finding:
    """Report a requirement from version control that could not be fetched."""
    return error(
        "no-checkout",
        subject,
        "{subject} could not be fetched with git.",
        "Check the address, the branch, tag or commit, and your access to it.",
        log=log,
    )


def report_other_name(subject: str, name: str, expected: str) -> Finding:
    """Report a project whose metadata has another name than the requirement."""
    return error(
        "other-name",
        subject,
        "{subject}: the project there is called {name}, not {given}.",
        "Ask for it under its own name.",
        name=name,
        given=expected,
    )


def report_failed_metadata_build(subject: str, log: str) -> Finding:
    """Report an sdist whose metadata could not be built."""
    return error(
        "metadata-build-failed",
        subject,
        "{subject} has to be built to know what it needs, and that failed.",
        "The words below say what its build misses. A version with a wheel needs no build.",
        log=log,
    )


def report_too_new(subject: str, requirements: Requirements, by: list[str], log: str) -> Finding:
    """Report that --uploaded-prior-to excludes every file."""
    return error(
        "all-too-new",
        subject,
        "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
        "Choose a later date. An index that gives no upload times cannot be used with a date.",
        log=log,
        date=requirements.policy.uploaded_prior_to,
        asked=by,
    )


def report_conflict(subject: str, origins: list[str], needs: Sequence[object], log: str) -> Finding:
    """Report requirements that exclude each other, or one that no version satisfies."""
    if needs:
        return error(
            "conflict",
            subject,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=log,
            asked=origins,
            needs=needs,
        )
    return error(
        "no-version",
        subject,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=log,
        asked=origins,
    )
