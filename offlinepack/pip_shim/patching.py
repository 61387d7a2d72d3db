"""Replace parts of pip, and check that a replacement took effect."""

from __future__ import annotations

import importlib
import sys
from typing import Any


class PatchError(Exception):
    """A part of pip is not there, or does not do what was expected."""


def expect(actual: object, expected: object, where: str) -> None:
    """Unexpected where they differ."""
    if actual != expected:
        raise PatchError(f"{where}: {actual!r} instead of {expected!r}")


def import_pip_module(name: str) -> Any:
    """A module of pip's: "_internal.index.collector"."""
    return importlib.import_module(f"pip.{name}")


def replace_everywhere(name: str, original: Any, other: Any) -> None:
    """Put `other` in the place of `original` in every module of pip that holds it under this name."""
    for module in [module for key, module in sys.modules.items() if key.startswith("pip.")]:
        if getattr(module, "__dict__", {}).get(name) is original:
            setattr(module, name, other)
