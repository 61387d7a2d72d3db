"""What is found out about a wheel once for its bytes: read strictly, its metadata, its places, its native code.

The store keeps it as facts. While files arrive, processes of our own find it out ahead; what they do not get done is
done when it is asked for, so that nothing depends on them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from offlinepack.errors import Finding, OfflinepackError
from offlinepack.evidence.look import kept_of
from offlinepack.native import scan
from offlinepack.ontarget.destinations import find_clashes, get_source_path, iter_destinations
from offlinepack.ontarget.paths import find_windows_problem, fold_path
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel
from offlinepack.store import Store, StoredFile

if TYPE_CHECKING:
    from offlinepack.wheels.metadata import WheelMetadata


_READER = 3
"""changes when the strict reader finds something else in the same bytes"""

_WORTH_A_PROCESS = 16 << 20
"""bytes of unknown wheels for which processes are started; fewer are read sooner than those run"""

_ANYWHERE = "*"
"""among the roots of a wheel that has to be looked at whatever lies beside it"""


@dataclass(frozen=True)
class Examined:
    """A wheel that the strict reader took."""

    file: StoredFile
    header: str
    """METADATA without the description"""
    roots: tuple[str, ...]
    """the first two parts of every path that it writes; wheels without one in common cannot clash"""
    notes: tuple[Finding, ...] = ()

    @cached_property
    def metadata(self) -> WheelMetadata:
        """What its METADATA says of what has to stand beside it."""
        from offlinepack.wheels.metadata import parse_metadata

        return parse_metadata(self.header)

    @cached_property
    def read(self) -> CheckedWheel:
        """The wheel as the strict reader sees it."""
        return read_wheel(self.file.path, filename=self.file.name)


def examined(file: StoredFile, store: Store) -> Examined:
    """What is known of this wheel; IntegrityError with every reason where it is none.

    What was sound and unremarkable once is so for ever: the store remembers it, and its native code with it.
    """
    kept = store.fact(file.sha256, "wheel", _READER)
    if isinstance(kept, list) and kept[:1] == [file.name]:
        return Examined(file, kept[1], tuple(kept[2]))
    read = read_wheel(file.path, filename=file.name)
    header = re.split(b"\r?\n\r?\n", read.metadata, maxsplit=1)[0].decode("utf-8", "replace")
    found = Examined(file, header, tuple(sorted(_roots(read))), read.notes)
    kept_of(read, file, store)
    scan(file, store, {one.name: one for one in read.members})
    if not read.notes:
        store.keep_fact(file.sha256, "wheel", [file.name, header, found.roots], _READER)
    return found


def _roots(read: CheckedWheel) -> set[str]:
    roots = set()
    for system in ("linux", "windows") if read.scripts else ("linux",):
        for place, _, _ in iter_destinations(read, system):
            roots |= {"/".join(one.split("/", 2)[:2]) for one in {place, get_source_path(place)}}
            if find_windows_problem(place):
                roots.add(_ANYWHERE)
    return {fold_path(one) for one in roots}


def clashes(of: Sequence[Examined], system: str, store: Store) -> list[Finding]:
    """Paths that two of these wheels both write, as `system` compares names; the store remembers a set without any."""
    names = "\n".join([system, *sorted(f"{one.file.name} {one.file.sha256}" for one in of)])
    key = hashlib.sha256(names.encode()).hexdigest()
    if store.fact(key, "apart", _READER):
        return []
    seen: dict[str, int] = {}
    for one in of:
        for root in one.roots:
            seen[root] = seen.get(root, 0) + 1
    close = [one for one in of if any(root == _ANYWHERE or seen[root] > 1 for root in one.roots)]
    found = find_clashes([one.read for one in sorted(close, key=lambda one: one.file.name)], system)
    if not found:
        store.keep_fact(key, "apart", True, _READER)
    return found


class Ahead:
    """Looks at wheels as they arrive, in processes; when it ended, the store knows more about them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = threading.Lock()
        self._waiting: queue.SimpleQueue[StoredFile | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._seen: set[str] = set()
        """sha256"""
        self._unknown = 0
        """bytes of the wheels that nobody has looked at"""

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(queue.Empty):
            while self._waiting.get_nowait():
                pass
        self.finish()

    def look(self, file: StoredFile) -> None:
        """Have this file looked at, where it is a wheel that is not known; once, however often it is told of."""
        with self._turn:
            if file.sha256 in self._seen or not file.name.endswith(".whl"):
                return
            self._seen.add(file.sha256)
        if self._store.fact(file.sha256, "wheel", _READER) is not None:
            return
        with self._turn:
            self._unknown += file.size
            self._waiting.put(file)
            if self._unknown > _WORTH_A_PROCESS and not self._threads:
                feed = functools.partial(self._feed, self._waiting)
                self._threads = [threading.Thread(target=feed, daemon=True) for _ in range(_cores())]
                for thread in self._threads:
                    thread.start()

    def finish(self) -> None:
        """Return when all that came was looked at."""
        with self._turn:
            threads, waiting = self._threads, self._waiting
            self._threads, self._waiting, self._unknown = [], queue.SimpleQueue(), 0
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()

    def _feed(self, waiting: queue.SimpleQueue[StoredFile | None]) -> None:
        """One process that gets a file at a time until there is none; where it fails, the files are left for later."""
        start = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import offlinepack.examine as e; e.serve()"
        command = [sys.executable, "-I", "-c", start, json.dumps(sys.path)]
        with (
            suppress(OSError),
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process,
        ):
            assert process.stdin and process.stdout
            while (file := waiting.get()) is not None:
                job = [str(self._store.path), file.name, str(file.path), file.size, file.sha256]
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.flush()
                if not process.stdout.readline():
                    return


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 4)


def serve() -> None:
    """The process: a line of JSON for each file on stdin, an empty line on stdout when it was looked at."""
    for line in sys.stdin.buffer:
        folder, name, path, size, sha256 = json.loads(line)
        file, store = StoredFile(name, Path(path), size, sha256), Store(Path(folder))
        with suppress(OfflinepackError):  # it is told where it matters
            examined(file, store)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
