"""Ctrl-C, or a polite request to end: what was begun is cleared away, whatever threads and programs still do."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEARD = 0.5
"""seconds that other programs have to end by themselves: a terminal's Ctrl-C went to them too"""
UNWOUND = 3.0
"""seconds that the main thread has, after that, to remove what it was writing; one that waits for a server is left"""
PATIENCE = 15.0
"""seconds that an installation has, after that, to clear away what it began"""


class Orderly:
    """One run that may be interrupted. Its temporary files, and those of programs that it starts, lie in one folder."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.ended = threading.Event()

    def workplace(self) -> None:
        """From now on temporary files go to a folder of this run."""
        self.folder = tempfile.mkdtemp(prefix="offlinepack-")
        tempfile.tempdir = os.environ["TMPDIR"] = self.folder

    def heard(self, *_: Any) -> None:
        """The handler: unwind what the main thread does, and wait for nothing else for long."""
        for name in SIGNALS:
            signal.signal(name, signal.SIG_IGN)
        threading.Thread(target=self._see_to_it, daemon=True).start()
        raise KeyboardInterrupt

    def _see_to_it(self) -> None:
        """What ends by itself may; resolvers and builds are ended, and whatever is started in their place."""
        self.ended.wait(HEARD)
        told = descendants()
        for one in told:
            _send(one, signal.SIGINT)
        begun = time.monotonic()
        while not self.ended.wait(0.1) and (running := descendants()):
            late = time.monotonic() - begun
            if late > PATIENCE:
                break
            for one in running:
                if one not in told or (late > HEARD and not _installs(one)):
                    _send(one, KILL)
        if not self.ended.wait(UNWOUND):
            for one in descendants():
                _send(one, KILL)
            self.clear()
            os._exit(130)

    def clear(self) -> None:
        """Remove the folder."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
SIGNALS = [getattr(signal, one) for one in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, one)]


@contextlib.contextmanager
def orderly() -> Iterator[Orderly]:
    """A run whose interruption leaves nothing behind."""
    run = Orderly()
    for name in SIGNALS:
        # nohup is heeded; a script's `&` ignores Ctrl-C too, but whoever sends one means it
        if name == signal.SIGINT or signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, run.heard)
    try:
        yield run
    finally:
        run.ended.set()
        run.clear()


def _send(process: int, what: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(process, what)


def _installs(process: int) -> bool:
    """Whether it is the target side."""
    try:
        return b"/ontarget/install.py\0" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def descendants() -> set[int]:
    """The programs that we started and those that they started; none where the system does not list them in /proc."""
    parents: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for one in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                fields = one.read_bytes().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    parents[int(one.parent.name)] = int(fields[1])
    found, more = set[int](), {os.getpid()}
    while more:
        more = {child for child, parent in parents.items() if parent in more and child not in found}
        found |= more
    return found
