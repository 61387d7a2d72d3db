"""Read the messages of uv and the trace of the versions that it tried."""

from __future__ import annotations

import contextlib
import re

from packaging.pylock import Pylock
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.net.urls import redact_text


def find_rejected_versions(pylock: Pylock, output: str) -> dict[str, set[Version]]:
    """Find releases newer than the locked one that have no usable file, according to uv's log."""
    tried = {(name, bounds): version for name, bounds, version in CANDIDATE_PATTERN.findall(output)}
    selected = {package.name: package.version for package in pylock.packages if package.version}
    refused: dict[str, set[Version]] = {}
    for key in REJECTED_PATTERN.findall(output):
        with contextlib.suppress(KeyError, InvalidVersion):
            if (version := Version(tried[key])) > selected[canonicalize_name(key[0])]:
                refused.setdefault(key[0], set()).add(version)
    return refused


PROJECT_PATTERN = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
"""a project, as uv writes it"""

CANDIDATE_PATTERN = re.compile(
    rf"^TRACE Found candidate for package ({PROJECT_PATTERN}) with range (.*) after \d+ steps: (\S+) version", re.M
)

REJECTED_PATTERN = re.compile(
    rf"^TRACE Returning incompatible candidate for package ({PROJECT_PATTERN}) with range (.*) after", re.M
)

YANKED_PATTERN = re.compile(
    rf"^warning: `({PROJECT_PATTERN})(?:\[[^\]]*\])?==([^`]+)` is yanked(?: \(reason: \"(.*)\"\))?", re.M
)

NO_WHEEL_PATTERN = re.compile(
    rf"(?:all versions of )?\b({PROJECT_PATTERN})((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) ha(?:s|ve) no "
    r"(?:usable wheels|wheels with a matching|available wheels|wheels (?:are|is) available|compatible wheels)"
)


def strip_log(output: str) -> str:
    """Return uv's messages without its log."""
    return "\n".join(line for line in output.splitlines() if not line.startswith(("TRACE ", "DEBUG ")))


def flatten_text(output: str) -> str:
    """Join a message into one line without the markers behind names: numpy{python_full_version >= '3.12'}."""
    return re.sub(r"\{[^{}]*\}", "", re.sub(r"\s+", " ", output))


def shorten_output(output: str) -> str:
    """Return the end of uv's messages without lines that do not help."""
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith(("warning:", "hint: Wheels"))]
    return redact_text("\n".join(lines[-20:]))
