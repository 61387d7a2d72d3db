"""State that the resolvers pass from one attempt to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

from offlinepack.errors import Finding, OfflinepackError

MAX_PIP_ROUNDS = 60
"""after so many unknown projects and gaps the rest is left for the next run"""


@dataclass
class PipBacktrackState:
    """What is passed from one run of pip to the next."""

    allow_sdist: set[str] = field(default_factory=set)
    """projects whose sources may be used, beyond those of --no-binary"""
    excluded_projects: set[str] = field(default_factory=set)
    """projects that were found wrong; the next run does without them and finds the next"""
    sdist_fallback: bool = True
    """whether a project without any wheel may come as its source at once"""
    lower_bounds: dict[str, str] = field(default_factory=dict)
    """project -> the version that lacks an extra which newer ones have"""
    findings: list[Finding] = field(default_factory=list)
    error_types: set[type[OfflinepackError]] = field(default_factory=set)

    def add_findings(self, kind: type[OfflinepackError], *findings: Finding) -> bool:
        """Keep what went wrong; False, which is: no further round."""
        self.error_types.add(kind)
        self.findings += findings
        return False


MAX_ROUNDS = 60
"""after so many unknown projects and gaps the rest is left for the next run"""


@dataclass
class BacktrackState:
    """What is passed from one run of uv to the next."""

    allow_sdist: set[str] = field(default_factory=set)
    """projects whose sources may be used, beyond those of --no-binary"""
    excluded_projects: set[str] = field(default_factory=set)
    """projects that were found wrong; the next run does without them and finds the next"""
    lower_bounds: dict[str, str] = field(default_factory=dict)
    """project -> the version that lacks an extra which newer ones have"""
    projects_with_index: set[str] = field(default_factory=set)
    """projects that came along and that have an index of their own: uv heeds that for what is named"""
    findings: list[Finding] = field(default_factory=list)
    error_types: set[type[OfflinepackError]] = field(default_factory=set)
