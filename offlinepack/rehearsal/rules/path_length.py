"""Check that Windows can hold the longest path of a target plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from offlinepack.errors import Finding, error, warning
from offlinepack.ontarget.manifest import Manifest, TargetPlan
from offlinepack.wheels.report import WheelModules

MAX_PATH_LENGTH = 259
"""Windows, without its long paths: characters of a path"""

MIN_FOLDER_LENGTH = 60
"""characters that the folder of an environment may well have; where less is left, a warning says so"""


def check_path_length(planned: TargetPlan, manifest: Manifest, wheels: Iterable[WheelModules]) -> list[Finding]:
    """Paths that Windows cannot hold, below the place that the bundle names, or anywhere."""
    if planned.facts.os != "windows":
        return []
    # as preflight counts: <place>.d\<12 digits>\Lib\site-packages\<path>; bytecode adds 25 characters
    lengths = [
        (len(place) + (25 if place.endswith(".py") else 0), one.wheel, place) for one in wheels for place in one.paths
    ]
    if not lengths:
        return []
    longest, wheel, place = max(lengths, key=lambda one: (one[0], one[2]))
    left = MAX_PATH_LENGTH - longest - len(r".d\0123456789ab\Lib\site-packages\\") + 1
    facts: dict[str, Any] = {"file": place, "target": planned.name, "most": left}
    if manifest.install_to and len(manifest.install_to) > left:
        return [
            error(
                "path-too-long",
                wheel.filename,
                "{subject}: {file} lies too deep for {place} on {target}; at most {most} characters are left for that.",
                "Pack it for a shorter place (--install-to), or enable long paths in Windows.",
                place=manifest.install_to,
                **facts,
            )
        ]
    if left >= MIN_FOLDER_LENGTH:
        return []
    return [
        warning(
            "path-long",
            wheel.filename,
            "{subject}: {file} lies so deep that on {target} an environment's path may have only {most} characters.",
            "Install it near the root of a drive, or enable long paths in Windows.",
            **facts,
        )
    ]
