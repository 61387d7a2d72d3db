"""Explain why a resolver found no lock: unknown projects, missing files, versions that conflict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from packaging.version import Version

from offlinepack.errors import Finding, error
from offlinepack.requirements.model import RequirementLine

if TYPE_CHECKING:
    from offlinepack.index.model import IndexFile
    from offlinepack.targets.model import Target


def keep_hardest(gaps: Sequence[Finding]) -> list[Finding]:
    """Those of which no version has a file; where there are such a resolver came to the others on old ways round them.

    Once these are excluded the next round tells which of the others are gaps indeed.
    """
    return [finding for finding in gaps if finding.code != "no-wheel-of-version"] or list(gaps)


def find_offered_versions(
    files: Iterable[IndexFile], requested_versions: Iterable[Version], target: Target
) -> tuple[list[str], str | None]:
    """The versions with a wheel for the target next to the newest that is wanted, above and below; and, where none has
    one, of all wheels the one that misses by least."""
    named = [(file.version, file) for file in files if file.is_wheel and file.version]
    final = [pair for pair in named if not pair[0].is_prerelease and not pair[1].is_yanked] or named
    fitting = {
        version
        for version, file in final
        if target.rank_wheel(file.filename) is not None and file.supports_python(target.python_full_version)
    }
    requested = max(requested_versions, default=max((version for version, _ in final), default=Version("0")))
    newer = sorted(version for version in fitting if version > requested)[:1]
    older = sorted(version for version in fitting if version <= requested)[-2 if not newer else -1 :]
    newest_first = [file.filename for _, file in sorted(final, key=lambda pair: pair[0], reverse=True)]
    return [str(version) for version in (*reversed(older), *newer)], None if fitting else target.find_nearest(
        newest_first
    )


def shorten_releases(releases: Iterable[str]) -> list[str]:
    """Who asked, as people say it: a project whose releases all do once, by its name."""
    projects: dict[str, set[str]] = {}
    for release in releases:
        projects.setdefault(re.split(r"[\[=<>!~, ]", release)[0], set()).add(release)
    return sorted(
        {name if len(releases) > 3 else release for name, releases in projects.items() for release in releases}
    )


def report_not_in_store(name: str, by: list[str]) -> Finding:
    return error(
        "not-in-the-store",
        name,
        "{subject}, asked for by {by}, has not been read before, and --offline forbids to ask an index.",
        "Run once without --offline.",
        by=by,
    )


def report_unknown_project(name: str, by: list[str]) -> Finding:
    return error(
        "unknown-project",
        name,
        "No index has a project {subject}, asked for by {by}.",
        "Look for a spelling mistake, or name the index that has it with --extra-index-url.",
        by=by,
    )


def report_not_on_index(line: RequirementLine) -> Finding:
    return error(
        "not-on-an-index",
        line.name,
        "{line} is installed in the environment, and no index has it.",
        "Name the index or folder that has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
        line=line.redacted_line,
    )


def report_no_such_version(name: str, specifier: str, versions: list[str], by: list[str]) -> Finding:
    return error(
        "no-such-version",
        name,
        "No index has {subject}{pin}, asked for by {by}; the newest that there are: {versions}.",
        "Ask for a version that exists.",
        pin=specifier,
        by=by,
        versions=versions or "-",
    )
