"""Replace parts of pip, and check that a replacement took effect."""

from __future__ import annotations

import importlib
import sys
from typing import Any


class PatchError(Exception):
    """Part of pip that is missing or does not behave as expected."""


def expect(actual: object, expected: object, where: str) -> None:
    """Raise PatchError if the two values differ; `where` names the part of pip."""
    if actual != expected:
        raise PatchError(f"{where}: {actual!r} instead of {expected!r}")


def import_pip_module(name: str) -> Any:
    """Import a module of pip by its name below `pip`, such as "_internal.index.collector"."""
    return importlib.import_module(f"pip.{name}")


def replace_everywhere(name: str, original: Any, other: Any) -> None:
    """Replace `original` with `other` in every imported module of pip that has it under this name."""
    for module in [module for key, module in sys.modules.items() if key.startswith("pip.")]:
        if getattr(module, "__dict__", {}).get(name) is original:
            setattr(module, name, other)
