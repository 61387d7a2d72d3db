"""Report target plans that need a newer patch release of Python than a target may have."""

from __future__ import annotations

from collections.abc import Mapping

from offlinepack.errors import Finding, note
from offlinepack.ontarget.manifest import TargetPlan
from offlinepack.wheels.report import WheelReport


def check_python_patch(plan: TargetPlan, wheels: Mapping[str, WheelReport]) -> list[Finding]:
    """Return a note if the plan needs a newer patch release than X.Y.0 and the target names none."""
    if plan.facts.python.count(".") > 1 or plan.python_min.count(".") < 2:
        return []
    first_release = f"{plan.facts.python}.0"
    specifiers = {name: wheel.metadata.requires_python for name, wheel in wheels.items()}
    names = [name for name, specifier in specifiers.items() if specifier and not specifier.contains(first_release)]
    return [
        note(
            "python-patch",
            ", ".join(names) or plan.name,
            "{subject}: Python {wanted} or newer is wanted; an older {minor} will be refused.",
            "If {target} has an older one, name it: --python-version {minor}.Z, or its probe's file.",
            wanted=plan.python_min,
            minor=plan.facts.python,
            target=plan.name,
        )
    ]
