"""Will it install, and run, over there? A Bundle and a target of it -> Verdict, before it crosses the gap.

static.py lets pip resolve from the bundle alone, seeing the target, and places every wheel in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from offlinepack.errors import Finding, Text

SCHEMA = 1


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
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """distribution -> its importable top-level names"""
    not_checked: tuple[Text, ...] = ()
    """what the verdict says nothing about"""

    @property
    def says(self) -> str:
        """`fails`, `runs`, `installs`, or `unknown`; never more than was seen."""
        if self.installs is False or self.runs is False:
            return "fails"
        return "runs" if self.runs else "installs" if self.installs else "unknown"

    def to_json(self) -> dict[str, Any]:
        """No times: the same bundle gives the same words."""
        return {
            "target": self.target,
            "tag": self.tag,
            "verdict": self.says,
            "installs": self.installs,
            "runs": self.runs,
            "findings": [one.to_json() for one in self.findings],
            "modules": {name: list(modules) for name, modules in sorted(self.modules.items())},
            "not_checked": [one.say() for one in self.not_checked],
        }


def document(verdicts: Iterable[Verdict]) -> bytes:
    """rehearsal.json."""
    found = {"schema": SCHEMA, "targets": [one.to_json() for one in verdicts]}
    return (json.dumps(found, indent=1, sort_keys=True) + "\n").encode("ascii")
