"""Model the verdict of a rehearsal, and format it for people and as rehearsal.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from offlinepack.errors import Finding, Text, text

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Verdict:
    """The result of the rehearsal of one target."""

    target: str
    """name as requested"""
    tag: str
    installs: bool | None = None
    """static: the plan is complete and its wheels can lie side by side; None: not checked"""
    runs: bool | None = None
    """live: it was installed and its modules were imported; None: not checked"""
    findings: tuple[Finding, ...] = ()
    forecast: tuple[Finding, ...] = ()
    """expectations about systems of this kind, without facts of the machine itself"""
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """distribution -> its importable top-level names"""
    limitations: tuple[Text, ...] = ()
    """aspects that were not checked"""
    live_run: Mapping[str, Any] = field(default_factory=dict)
    """facts of a live rehearsal: location, Python, network isolation, numbers; empty without one"""

    def format_lines(self) -> list[Text]:
        """Format the verdict for people: the outcome, the forecast, and what was not checked."""
        facts: dict[str, Any] = {"target": self.target, **self.live_run}
        if self.outcome == "runs":
            headline = text(
                "{target}: runs: installed on {place} with Python {python} and without a network ({network}), "
                "{imported} modules imported.",
                **facts,
            )
            commands = [text("  {command}: exit code 0", command=command) for command in self.live_run["smoke"]]
            lines = [headline, *commands]
        elif self.outcome == "installs":
            lines = [text("{target}: installs: its plan is complete and its files can lie side by side.", **facts)]
        elif self.outcome == "forecast":
            lines = [
                text("{target}: forecast: installs if its system is as stands below; its plan is complete.", **facts)
            ]
        elif self.outcome == "fails" and self.live_run:
            headline = text(
                "{target}: fails on {place} with Python {python} and without a network ({network}); "
                "{imported} modules imported.",
                **facts,
            )
            lines = [headline]
        elif self.outcome == "fails":
            lines = [text("{target}: fails.", **facts)]
        else:
            lines = [text("{target}: not known.", **facts)]
        lines += [text("  forecast: {what}", what=finding) for finding in self._format_forecast()]
        return lines + [text("  not checked: {what}", what=limitation) for limitation in self.limitations]

    def _format_forecast(self) -> list[Text]:
        template = "{sentence} {advice}"
        return [
            text(
                template if finding.advice.template else "{sentence}", sentence=finding.sentence, advice=finding.advice
            )
            for finding in self.forecast
        ]

    @property
    def outcome(self) -> str:
        """The verdict: `fails`, `runs`, `installs`, `forecast` (installs on a usual system) or `unknown`."""
        if self.installs is False or self.runs is False:
            return "fails"
        if self.runs or not self.installs:
            return "runs" if self.runs else "unknown"
        return "forecast" if any(finding.code != "library-usual" for finding in self.forecast) else "installs"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; it holds no times, so the same bundle gives the same text."""
        return {
            "target": self.target,
            "tag": self.tag,
            "verdict": self.outcome,
            "installs": self.installs,
            "runs": self.runs,
            "findings": [finding.to_json() for finding in self.findings],
            "forecast": [finding.to_json() for finding in self.forecast],
            "live": {key: value.render() if isinstance(value, Text) else value for key, value in self.live_run.items()},
            "modules": {name: list(modules) for name, modules in sorted(self.modules.items())},
            "not_checked": [limitation.render() for limitation in self.limitations],
        }


def serialize_verdicts(verdicts: Iterable[Verdict]) -> bytes:
    """Serialize verdicts as rehearsal.json."""
    document = {"schema": SCHEMA_VERSION, "targets": [verdict.to_json() for verdict in verdicts]}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode("ascii")
