"""Explain why a wheel does not fit a target."""

from __future__ import annotations

from typing import NamedTuple

from offlinepack.errors import Text


class Mismatch(NamedTuple):
    distance: tuple[int, ...]  # the smaller, the nearer
    reason: Text
