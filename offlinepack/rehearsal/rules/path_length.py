"""Check that Windows can hold the longest path of a target plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from offlinepack.errors import Finding, error, warning
from offlinepack.ontarget.manifest import Manifest, TargetPlan
from offlinepack.wheels.report import WheelReport

MAX_PATH_LENGTH = 259
"""characters of a path on Windows without long paths"""

MIN_FOLDER_LENGTH = 60
"""characters that the folder of an environment usually needs; fewer cause a warning"""


def check_path_length(plan: TargetPlan, manifest: Manifest, wheels: Iterable[WheelReport]) -> list[Finding]:
    """Return a finding if a path is too long for Windows below install-to, or nearly too long anywhere."""
    if plan.facts.os != "windows":
        return []
    # as preflight counts: <folder>.d\<12 digits>\Lib\site-packages\<path>; bytecode adds 25 characters
    lengths = [
        (len(name) + (25 if name.endswith(".py") else 0), report.filename, name)
        for report in wheels
        for name in report.paths
    ]
    if not lengths:
        return []
    longest, filename, path = max(lengths, key=lambda entry: (entry[0], entry[2]))
    max_folder_length = MAX_PATH_LENGTH - longest - len(r".d\0123456789ab\Lib\site-packages\\") + 1
    facts: dict[str, Any] = {"file": path, "target": plan.name, "most": max_folder_length}
    if manifest.install_to and len(manifest.install_to) > max_folder_length:
        return [
            error(
                "path-too-long",
                filename,
                "{subject}: {file} lies too deep for {place} on {target}; at most {most} characters are left for that.",
                "Pack it for a shorter place (--install-to), or enable long paths in Windows.",
                place=manifest.install_to,
                **facts,
            )
        ]
    if max_folder_length >= MIN_FOLDER_LENGTH:
        return []
    return [
        warning(
            "path-long",
            filename,
            "{subject}: {file} lies so deep that on {target} an environment's path may have only {most} characters.",
            "Install it near the root of a drive, or enable long paths in Windows.",
            **facts,
        )
    ]
