"""Check that the modules of commands and plugins exist."""

from __future__ import annotations

from collections.abc import Collection

from offlinepack.errors import Finding, warning
from offlinepack.wheels.report import WheelModules


def check_entry_points(wheels: Collection[WheelModules]) -> list[Finding]:
    """Commands, and other entry points into the distribution itself, whose module is not there."""
    every = frozenset().union(*(one.modules for one in wheels))
    return [
        warning(
            "entry-point-dangles",
            one.wheel.filename,
            "{subject}: its entry point {name} names the module {module}, which is not there.",
            "It will not work; the rest may. Ask its makers.",
            name=name,
            module=module,
        )
        for one in wheels
        for name, module, bare in one.entry_points
        if module not in every and not (bare and module.rpartition(".")[0] in every)
    ]
