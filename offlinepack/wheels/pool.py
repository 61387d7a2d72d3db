"""Inspect wheels in worker processes while other files are still being downloaded.

The pool only fills the store's cache. A wheel that it did not inspect is inspected on demand.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from offlinepack.errors import OfflinepackError
from offlinepack.store import Store, StoredFile
from offlinepack.wheels.inspect import READER_VERSION, inspect_wheel

_MIN_POOL_BYTES = 16 << 20
"""bytes of wheels without a cached report from which on starting processes saves time"""


class InspectionPool:
    """A pool of processes that inspects wheels as they arrive and fills the cache of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[StoredFile | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._submitted_hashes: set[str] = set()
        """SHA-256 of the submitted files"""
        self._pending_bytes = 0
        """bytes of the wheels that are not inspected yet"""

    def __enter__(self) -> InspectionPool:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(queue.Empty):
            while self._queue.get_nowait():
                pass
        self.finish()

    def submit(self, file: StoredFile) -> None:
        """Queue a file for inspection once, if it is a wheel without a cached report."""
        with self._lock:
            if file.sha256 in self._submitted_hashes or not file.name.endswith(".whl"):
                return
            self._submitted_hashes.add(file.sha256)
        if self._store.get_cached(file.sha256, "wheel", READER_VERSION) is not None:
            return
        with self._lock:
            self._pending_bytes += file.size
            self._queue.put(file)
            if self._pending_bytes > _MIN_POOL_BYTES and not self._threads:
                target = functools.partial(self._run_process, self._queue)
                self._threads = [threading.Thread(target=target, daemon=True) for _ in range(_count_workers())]
                for thread in self._threads:
                    thread.start()

    def finish(self) -> None:
        """Wait until all queued wheels are inspected."""
        with self._lock:
            threads, files = self._threads, self._queue
            self._threads, self._queue, self._pending_bytes = [], queue.SimpleQueue(), 0
        for _ in threads:
            files.put(None)
        for thread in threads:
            thread.join()

    def _run_process(self, files: queue.SimpleQueue[StoredFile | None]) -> None:
        """Feed files to one process until the queue ends; if it fails, the files are inspected on demand."""
        code = "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        code += "from offlinepack.wheels.pool import serve_inspections; serve_inspections()"
        command = [sys.executable, "-I", "-c", code, json.dumps(sys.path)]
        with (
            suppress(OSError),
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process,
        ):
            assert process.stdin and process.stdout
            while (file := files.get()) is not None:
                fields = [str(self._store.path), file.name, str(file.path), file.size, file.sha256]
                process.stdin.write(json.dumps(fields).encode() + b"\n")
                process.stdin.flush()
                if not process.stdout.readline():
                    return


def _count_workers() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 4)


def serve_inspections() -> None:
    """Inspect the files that stdin names, one JSON line each; answer with an empty line on stdout."""
    for line in sys.stdin.buffer:
        folder, name, path, size, sha256 = json.loads(line)
        file, store = StoredFile(name, Path(path), size, sha256), Store(Path(folder))
        with suppress(OfflinepackError):  # reported when the wheel is used
            inspect_wheel(file, store)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
