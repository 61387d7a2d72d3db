"""Report target plans that need a newer patch release of Python than a target may have."""

from __future__ import annotations

from collections.abc import Mapping

from offlinepack.errors import Finding, note
from offlinepack.ontarget.manifest import TargetPlan
from offlinepack.wheels.report import WheelModules


def check_python_patch(planned: TargetPlan, wheels: Mapping[str, WheelModules]) -> list[Finding]:
    """Where only the newer patch releases of the target's Python will do, and any was asked for."""
    if planned.facts.python.count(".") > 1 or planned.python_min.count(".") < 2:
        return []
    first = f"{planned.facts.python}.0"
    names = [name for name, wheel in wheels.items() if not wheel.requires_python.contains(first)]
    return [
        note(
            "python-patch",
            ", ".join(names) or planned.name,
            "{subject}: Python {wanted} or newer is wanted; an older {minor} will be refused.",
            "If {target} has an older one, name it: --python-version {minor}.Z, or its probe's file.",
            wanted=planned.python_min,
            minor=planned.facts.python,
            target=planned.name,
        )
    ]
