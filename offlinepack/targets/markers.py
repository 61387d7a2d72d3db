"""Evaluate environment markers (PEP 508) of which some values are unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.markers import Marker

from offlinepack.errors import SelectionError, error

MARKER_NAMES = (
    "implementation_name", "implementation_version", "os_name", "platform_machine", "platform_python_implementation",
    "platform_release", "platform_system", "platform_version", "python_full_version", "python_version", "sys_platform",
)  # fmt: skip


class UnknownMarkerError(SelectionError):
    """Marker whose value depends on a variable that is unknown for the target."""

    def __init__(self, marker: str, names: Sequence[str], target: str) -> None:
        super().__init__(
            error(
                "marker-unknown",
                target,
                "Whether `{marker}` holds depends on {names}, which is not known of {subject}.",
                "Run what `offlinepack probe --script` prints on that machine and give its output as --target FILE.",
                marker=marker,
                names=list(names),
            )
        )
        self.marker, self.names, self.target = marker, tuple(names), target


def evaluate_with_unknown(marker: str, environment: Mapping[str, Any], unknown: Sequence[str]) -> bool | None:
    """Evaluate a marker in three-valued (Kleene) logic; None if its value depends on an unknown variable."""
    tokens = re.findall(r"\"[^\"]*\"|'[^']*'|[()]|[^\s()\"']+", marker)

    def evaluate_or() -> bool | None:
        answers = [evaluate_and()]
        while tokens[:1] == ["or"]:
            del tokens[0]
            answers.append(evaluate_and())
        return True if True in answers else None if None in answers else False

    def evaluate_and() -> bool | None:
        answers = [evaluate_comparison()]
        while tokens[:1] == ["and"]:
            del tokens[0]
            answers.append(evaluate_comparison())
        return False if False in answers else None if None in answers else True

    def evaluate_comparison() -> bool | None:
        if tokens[0] == "(":
            del tokens[0]
            answer = evaluate_or()
            del tokens[0]
            return answer
        end = next((at for at, token in enumerate(tokens) if token in ("and", "or", ")")), len(tokens))
        words, tokens[:end] = tokens[:end], []
        bare = " ".join(word for word in words if word[0] not in "\"'")
        if any(re.search(rf"\b{name}\b", bare) for name in unknown):
            return None
        return Marker(" ".join(words)).evaluate(environment, context="requirement")

    return evaluate_or()
