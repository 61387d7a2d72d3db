"""Evaluate and combine environment markers (PEP 508); some values of a target may be unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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


def combine_markers(*markers: Marker | str | None) -> Marker | None:
    """Combine markers with `and`; None if there are none. Raises InvalidMarker."""
    parts = [Marker(marker) if isinstance(marker, str) else marker for marker in markers if marker]
    return Marker(" and ".join(f"({part})" for part in parts)) if parts else None


def evaluate_marker(
    marker: Marker | str | None,
    environment: Mapping[str, str],
    target: str,
    extras: Iterable[str] = (),
    groups: Iterable[str] = (),
) -> bool:
    """Evaluate a marker for a target's environment with these extras and groups; True without a marker.

    Raises UnknownMarkerError if the value depends on a variable that the environment lacks.
    """
    if marker is None:
        return True
    parsed, extra_names = Marker(marker) if isinstance(marker, str) else marker, frozenset(extras)
    written = str(parsed)
    unknown = [name for name in MARKER_NAMES if name not in environment and name in written]
    answers: list[bool | None] = []
    for extra in sorted(extra_names) or [""]:
        # packaging accepts collections as values of these variables (PEP 751)
        values: dict[str, Any] = {**environment, "extra": extra, "extras": extra_names}
        values["dependency_groups"] = frozenset(groups)
        if unknown:
            answers.append(_evaluate_with_unknown(written, values, unknown))
        else:
            answers.append(parsed.evaluate(values, context="requirement"))
    if None in answers and True not in answers:
        raise UnknownMarkerError(written, unknown, target)
    return True in answers


def _evaluate_with_unknown(marker: str, environment: Mapping[str, Any], unknown: Sequence[str]) -> bool | None:
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
