"""What every resolver of one run is given beside the question: how it may ask, where it keeps what it has read."""

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
    from offlinepack.targets import Target

T = TypeVar("T")

LASTING = 120
"""seconds for which a page of an index that was read counts as what the index has"""


class Pages:
    """Within a run an index is asked once: the first resolver asks, those after it take the pages that it has read.

    Else each of twenty targets asks for the same hundred pages, and a release that comes between two of them splits
    the bundle. uv keeps a page for as long as it was told when it read it, and then not even --refresh asks again: so
    a run begins by dropping what earlier ones have read within LASTING seconds.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._asked: set[str] = set()
        self._known: dict[Hashable, tuple[threading.Lock, list[Any]]] = {}

    def once(self, key: Hashable, ask: Callable[[], T]) -> T:
        """What `ask` returned the first time in this run; what it raises is not kept."""
        lock, answers = self._known.setdefault(key, (threading.Lock(), []))
        with lock:
            if not answers:
                answers.append(ask())
            answer: T = answers[0]
            return answer

    def knows(self, key: Hashable) -> bool:
        """Whether `once` has an answer."""
        return bool(self._known.get(key, (None, []))[1])

    def folder(self) -> Path:
        """Where nothing is to be kept: a place that the targets of a run share; it goes with this."""

        def make() -> Path:
            folder = tempfile.mkdtemp(prefix="offlinepack-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            return Path(folder)

        return self.once("folder", make)

    def forget(self) -> None:
        """Nothing of `once` is kept any longer: of some projects it is thousands of files."""
        self._known.clear()

    @contextlib.contextmanager
    def read(self, cache: Path, names: Set[str]) -> Iterator[bool]:
        """For the time of one resolver, whose cache this is; True for the first that asks for one of these projects.

        That one is alone.
        """
        self._turn.acquire()
        if names <= self._asked:
            self._turn.release()
            yield False
            return
        try:
            if not self._asked:
                _drop_recent(cache)
            yield True
            self._asked |= names
        finally:
            self._turn.release()


def _drop_recent(cache: Path) -> None:
    begun = time.time()
    for page in cache.glob("simple-*/**/*.rkyv"):
        with contextlib.suppress(FileNotFoundError):  # another run drops them too
            if page.stat().st_mtime > begun - LASTING:
                page.unlink()


@dataclass(frozen=True)
class Means:
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
    pages: Pages = field(default_factory=Pages, compare=False)
    builds: Callable[[Target], bool] = field(default=lambda _: True, compare=False)
    """whether sources with extension modules can become wheels for a target; where not, only pure ones are taken"""

    def cache(self, name: str) -> Path:
        """A resolver's own folder below the one for caches; where none is wanted, one for as long as the run."""
        return (self.cache_dir or self.pages.folder()) / name
