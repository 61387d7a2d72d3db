"""Explain why a wheel does not fit a target."""

from __future__ import annotations

from typing import NamedTuple

from offlinepack.errors import Text


class Mismatch(NamedTuple):
    """Reason why a wheel tag does not fit a target, and how far it is from fitting."""

    distance: tuple[int, ...]
    """sort key: the smaller, the nearer"""
    reason: Text
    """predicate for a sentence whose subject is the wheel"""
