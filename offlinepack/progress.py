"""The interface for progress: a callback that yields the steps of a stage unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from offlinepack.ontarget.errors import Text

T = TypeVar("T")


class ProgressCallback(Protocol):
    """What draws progress: gives the steps back as they come."""

    def __call__(
        self, what: Text, steps: Iterable[T], total: float | None = None, weigh: Callable[[T], float] | None = None
    ) -> Iterator[T]:
        """`steps`, unchanged."""


def no_progress(
    what: Text, steps: Iterable[T], total: float | None = None, weigh: Callable[[T], float] | None = None
) -> Iterator[T]:
    """Nobody looks."""
    return iter(steps)
