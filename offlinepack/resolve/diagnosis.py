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
    return [one for one in gaps if one.code != "no-wheel-of-version"] or list(gaps)


def find_offered_versions(
    files: Iterable[IndexFile], wanted: Iterable[Version], target: Target
) -> tuple[list[str], str | None]:
    """The versions with a wheel for the target next to the newest that is wanted, above and below; and, where none has
    one, of all wheels the one that misses by least."""
    named = [(one.version, one) for one in files if one.is_wheel and one.version]
    final = [each for each in named if not each[0].is_prerelease and not each[1].is_yanked] or named
    fitting = {
        version
        for version, one in final
        if target.rank_wheel(one.filename) is not None and one.supports_python(target.python_full_version)
    }
    asked = max(wanted, default=max((version for version, _ in final), default=Version("0")))
    above = sorted(one for one in fitting if one > asked)[:1]
    below = sorted(one for one in fitting if one <= asked)[-2 if not above else -1 :]
    newest_first = [one.filename for _, one in sorted(final, key=lambda each: each[0], reverse=True)]
    return [str(one) for one in (*reversed(below), *above)], None if fitting else target.find_nearest(newest_first)


def shorten_releases(releases: Iterable[str]) -> list[str]:
    """Who asked, as people say it: a project whose releases all do once, by its name."""
    projects: dict[str, set[str]] = {}
    for one in releases:
        projects.setdefault(re.split(r"[\[=<>!~, ]", one)[0], set()).add(one)
    return sorted({name if len(known) > 3 else one for name, known in projects.items() for one in known})


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


def report_not_on_index(one: RequirementLine) -> Finding:
    return error(
        "not-on-an-index",
        one.name,
        "{line} is installed in the environment, and no index has it.",
        "Name the index or folder that has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
        line=one.redacted_line,
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
