"""Check that the modules of commands and plugins exist."""

from __future__ import annotations

from collections.abc import Collection

from offlinepack.errors import Finding, warning
from offlinepack.wheels.report import WheelReport


def check_entry_points(wheels: Collection[WheelReport]) -> list[Finding]:
    """Return warnings for commands and plugins whose module does not exist."""
    modules = frozenset().union(*(wheel.modules for wheel in wheels))
    return [
        warning(
            "entry-point-dangles",
            wheel.filename,
            "{subject}: its entry point {name} names the module {module}, which is not there.",
            "It will not work; the rest may. Ask its makers.",
            name=name,
            module=module,
        )
        for wheel in wheels
        for name, module, bare in wheel.entry_points
        if module not in modules and not (bare and module.rpartition(".")[0] in modules)
    ]
