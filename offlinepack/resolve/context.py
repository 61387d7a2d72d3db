"""Settings of the resolvers of one run, and the answers of indexes that they share."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


T = TypeVar("T")

PAGE_LIFETIME = 120
"""seconds for which a page of an index that was read counts as what the index has"""


class RunCache:
    """Within a run an index is asked once: the first resolver asks, those after it take the pages that it has read.

    Else each of twenty targets asks for the same hundred pages, and a release that comes between two of them splits
    the bundle. uv keeps a page for as long as it was told when it read it, and then not even --refresh asks again: so
    a run begins by dropping what earlier ones have read within LASTING seconds.
    """

    def __init__(self) -> None:
        self._resolver_lock = threading.Lock()
        self._read_projects: set[str] = set()
        self._answers: dict[Hashable, tuple[threading.Lock, list[Any]]] = {}

    def get_or_compute(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Return the first result of `ask` for a key in this run; errors are not cached."""
        lock, answers = self._answers.setdefault(key, (threading.Lock(), []))
        with lock:
            if not answers:
                answers.append(ask())
            answer: T = answers[0]
            return answer

    def has_answer(self, key: Hashable) -> bool:
        """Check whether get_or_compute has a result for a key."""
        return bool(self._answers.get(key, (None, []))[1])

    def get_temporary_folder(self) -> Path:
        """Return a folder that the targets of a run share, removed with this object."""

        def make() -> Path:
            folder = tempfile.mkdtemp(prefix="offlinepack-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            return Path(folder)

        return self.get_or_compute("folder", make)

    def clear(self) -> None:
        """Clear the results: of some projects they are thousands of files."""
        self._answers.clear()

    @contextlib.contextmanager
    def reserve_projects(self, cache: Path, names: Set[str]) -> Iterator[bool]:
        """Reserve projects while one resolver runs; yield True to the first one that asks for one of them.

        That resolver runs alone.
        """
        self._resolver_lock.acquire()
        if names <= self._read_projects:
            self._resolver_lock.release()
            yield False
            return
        try:
            if not self._read_projects:
                _remove_recent_pages(cache)
            yield True
            self._read_projects |= names
        finally:
            self._resolver_lock.release()


def _remove_recent_pages(cache: Path) -> None:
    begun = time.time()
    for page in cache.glob("simple-*/**/*.rkyv"):
        with contextlib.suppress(FileNotFoundError):  # another run drops them too
            if page.stat().st_mtime > begun - PAGE_LIFETIME:
                page.unlink()


@dataclass(frozen=True)
class ResolverContext:
    """The same for every target of a run."""

    offline: bool = False
    """nothing is asked of a network: what earlier runs have read must do"""
    cache_dir: Path | None = None
    """where the resolvers keep what they have read; None: nothing is kept"""
    retries: int = 5
    timeout: float = 15.0
    """seconds that a server may keep silent"""
    python: Path | None = None
    """the interpreter that reads the metadata of sources; None: the one that this runs in"""
    run_cache: RunCache = field(default_factory=RunCache, compare=False)
    can_build: Callable[[Target], bool] = field(default=lambda _: True, compare=False)
    """whether sources with extension modules can become wheels for a target; where not, only pure ones are taken"""

    def get_cache_folder(self, name: str) -> Path:
        """Return the cache folder of a resolver; without a cache, a folder that exists as long as the run."""
        return (self.cache_dir or self.run_cache.get_temporary_folder()) / name
