"""Callback for progress: it yields the steps of a stage unchanged while it displays them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from offlinepack.ontarget.errors import Text

T = TypeVar("T")


class ProgressCallback(Protocol):
    """Displays the progress of a stage."""

    def __call__(
        self, label: Text, steps: Iterable[T], total: float | None = None, size_of: Callable[[T], float] | None = None
    ) -> Iterator[T]:
        """Yield `steps` unchanged; `total` is their number, or with `size_of` their size in bytes."""


def no_progress(
    label: Text, steps: Iterable[T], total: float | None = None, size_of: Callable[[T], float] | None = None
) -> Iterator[T]:
    """Yield `steps` and display nothing."""
    return iter(steps)
