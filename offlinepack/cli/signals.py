"""Handle Ctrl-C and termination signals: stop the programs that were started, and remove temporary files."""

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

PROGRAM_GRACE = 0.5
"""seconds that other programs have to end by themselves: a terminal's Ctrl-C went to them too"""

UNWIND_GRACE = 3.0
"""seconds that the main thread has, after that, to remove what it was writing; one that waits for a server is left"""

INSTALL_GRACE = 15.0
"""seconds that an installation has, after that, to clear away what it began"""


class SignalGuard:
    """Handles the interruption of a run whose temporary files all lie in one folder."""

    def __init__(self) -> None:
        self.temporary_folder: str | None = None
        self.end_event = threading.Event()

    def use_temporary_folder(self) -> None:
        """Create the folder for temporary files."""
        self.temporary_folder = tempfile.mkdtemp(prefix="offlinepack-")
        tempfile.tempdir = os.environ["TMPDIR"] = self.temporary_folder

    def handle_signal(self, *_: Any) -> None:
        """Handle a signal: raise KeyboardInterrupt in the main thread and stop started programs."""
        for name in HANDLED_SIGNALS:
            signal.signal(name, signal.SIG_IGN)
        threading.Thread(target=self._stop_programs, daemon=True).start()
        raise KeyboardInterrupt

    def _stop_programs(self) -> None:
        """Stop resolvers and builds, and the programs that they start, unless they end by themselves."""
        self.end_event.wait(PROGRAM_GRACE)
        processes = find_descendants()
        for process in processes:
            _send_signal(process, signal.SIGINT)
        begun = time.monotonic()
        while not self.end_event.wait(0.1) and (running := find_descendants()):
            late = time.monotonic() - begun
            if late > INSTALL_GRACE:
                break
            for process in running:
                if process not in processes or (late > PROGRAM_GRACE and not _is_installer(process)):
                    _send_signal(process, KILL_SIGNAL)
        if not self.end_event.wait(UNWIND_GRACE):
            for process in find_descendants():
                _send_signal(process, KILL_SIGNAL)
            self.remove_folder()
            os._exit(130)

    def remove_folder(self) -> None:
        """Remove the folder for temporary files."""
        if self.temporary_folder:
            shutil.rmtree(self.temporary_folder, ignore_errors=True)


KILL_SIGNAL = getattr(signal, "SIGKILL", signal.SIGTERM)

HANDLED_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def guard_signals() -> Iterator[SignalGuard]:
    """Guard a run so that its interruption leaves no files and no processes."""
    run = SignalGuard()
    for name in HANDLED_SIGNALS:
        # nohup is heeded; a script's `&` ignores Ctrl-C too, but whoever sends one means it
        if name == signal.SIGINT or signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, run.handle_signal)
    try:
        yield run
    finally:
        run.end_event.set()
        run.remove_folder()


def _send_signal(process: int, signal_number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(process, signal_number)


def _is_installer(process: int) -> bool:
    """Return whether a process is the target side, which handles signals itself."""
    try:
        return b"/ontarget/install.py\0" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def find_descendants() -> set[int]:
    """Return the IDs of all descendant processes; empty without /proc."""
    parents: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for stat_file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                fields = stat_file.read_bytes().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    parents[int(stat_file.parent.name)] = int(fields[1])
    descendants, more = set[int](), {os.getpid()}
    while more:
        more = {child for child, parent in parents.items() if parent in more and child not in descendants}
        descendants |= more
    return descendants
