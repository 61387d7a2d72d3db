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
    """What one rehearsal of one target came to."""

    target: str
    """as asked for"""
    tag: str
    installs: bool | None = None
    """static: the plan is complete and its wheels can lie side by side; None: not looked at"""
    runs: bool | None = None
    """live: it was installed and its modules were imported; None: not looked at"""
    findings: tuple[Finding, ...] = ()
    forecast: tuple[Finding, ...] = ()
    """what is to be expected of such systems as a rule; this very machine was not asked"""
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """distribution -> its importable top-level names"""
    limitations: tuple[Text, ...] = ()
    """what the verdict says nothing about"""
    live_run: Mapping[str, Any] = field(default_factory=dict)
    """of a live rehearsal: where, with which Python, how the network was cut, how much was tried"""

    def format_lines(self) -> list[Text]:
        """The verdict for people: what was seen, what is a forecast, what was not looked at."""
        facts: dict[str, Any] = {"target": self.target, **self.live_run}
        if self.outcome == "runs":
            first = text(
                "{target}: runs: installed on {place} with Python {python} and without a network ({network}), "
                "{imported} modules imported.",
                **facts,
            )
            tried = [text("  {command}: exit code 0", command=one) for one in self.live_run["smoke"]]
            lines = [first, *tried]
        elif self.outcome == "installs":
            lines = [text("{target}: installs: its plan is complete and its files can lie side by side.", **facts)]
        elif self.outcome == "forecast":
            lines = [
                text("{target}: forecast: installs if its system is as stands below; its plan is complete.", **facts)
            ]
        elif self.outcome == "fails" and self.live_run:
            failed = text(
                "{target}: fails on {place} with Python {python} and without a network ({network}); "
                "{imported} modules imported.",
                **facts,
            )
            lines = [failed]
        elif self.outcome == "fails":
            lines = [text("{target}: fails.", **facts)]
        else:
            lines = [text("{target}: not known.", **facts)]
        lines += [text("  forecast: {what}", what=one) for one in self._format_forecast()]
        return lines + [text("  not checked: {what}", what=one) for one in self.limitations]

    def _format_forecast(self) -> list[Text]:
        both = "{sentence} {advice}"
        return [
            text(both if one.advice.template else "{sentence}", sentence=one.sentence, advice=one.advice)
            for one in self.forecast
        ]

    @property
    def outcome(self) -> str:
        """`fails`, `runs`, `installs`, `forecast` (it installs if the system is as a rule), or `unknown`."""
        if self.installs is False or self.runs is False:
            return "fails"
        if self.runs or not self.installs:
            return "runs" if self.runs else "unknown"
        return "forecast" if any(one.code != "library-usual" for one in self.forecast) else "installs"

    def to_json(self) -> dict[str, Any]:
        """No times: the same bundle gives the same words."""
        return {
            "target": self.target,
            "tag": self.tag,
            "verdict": self.outcome,
            "installs": self.installs,
            "runs": self.runs,
            "findings": [one.to_json() for one in self.findings],
            "forecast": [one.to_json() for one in self.forecast],
            "live": {key: value.render() if isinstance(value, Text) else value for key, value in self.live_run.items()},
            "modules": {name: list(modules) for name, modules in sorted(self.modules.items())},
            "not_checked": [one.render() for one in self.limitations],
        }


def serialize_verdicts(verdicts: Iterable[Verdict]) -> bytes:
    """rehearsal.json."""
    found = {"schema": SCHEMA_VERSION, "targets": [one.to_json() for one in verdicts]}
    return (json.dumps(found, indent=1, sort_keys=True) + "\n").encode("ascii")
