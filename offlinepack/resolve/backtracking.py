"""State that a resolver passes from one attempt to the next, and the severity of its failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from offlinepack.errors import (
    BuildError,
    FetchError,
    Finding,
    IntegrityError,
    OfflinepackError,
    ResolutionError,
    SelectionError,
    SourceError,
)

T = TypeVar("T")

MAX_ROUNDS = 60
"""attempts of one resolution; further unknown projects and missing files are left for the next run"""

SEVERITY: tuple[type[OfflinepackError], ...] = (
    IntegrityError,
    SourceError,
    FetchError,
    BuildError,
    ResolutionError,
    SelectionError,
)
"""Error types by severity: a resolution that failed for several reasons raises the first of them."""


@dataclass
class BacktrackState:
    """What the attempts so far found out; the next attempt starts from it."""

    allow_sdist: set[str] = field(default_factory=set)
    """projects whose sdists may be used, besides those of --no-binary"""
    excluded_projects: set[str] = field(default_factory=set)
    """projects with an error; the next attempt leaves them out to find the next error"""
    sdist_fallback: bool = True
    """whether a project without any wheel may be used as an sdist at once (pip only)"""
    lower_bounds: dict[str, str] = field(default_factory=dict)
    """project -> its version without an extra that newer versions have"""
    projects_with_index: set[str] = field(default_factory=set)
    """dependencies with an index of their own: uv applies such an index only to projects that are named (uv only)"""
    findings: list[Finding] = field(default_factory=list)
    error_types: set[type[OfflinepackError]] = field(default_factory=set)

    def add_findings(self, kind: type[OfflinepackError], *findings: Finding) -> None:
        """Record errors of one kind."""
        self.error_types.add(kind)
        self.findings += findings

    def make_error(self) -> OfflinepackError:
        """Return one error with all findings, of the most severe type."""
        findings = sorted(self.findings, key=lambda finding: (finding.code, finding.subject))
        kind = min(self.error_types, key=SEVERITY.index, default=ResolutionError)
        return kind(*findings)


def minimize_sdists(
    solution: T, state: BacktrackState, names: Iterable[str], attempt: Callable[[BacktrackState], T | None]
) -> T:
    """Forbid the sdists of each of these projects again if `attempt` finds a solution without them."""
    for name in names:
        smaller = attempt(replace(state, allow_sdist=state.allow_sdist - {name}))
        if smaller is not None:
            state.allow_sdist.discard(name)
            solution = smaller
    return solution
