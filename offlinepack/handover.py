"""The bundle is handed to the target side: its own install.py, the one that is installed here, started as a program."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from offlinepack import bundle, signing
from offlinepack.errors import MachineError, OfflinepackError, error, text
from offlinepack.ontarget import admission, command, environment, preflight, report
from offlinepack.ontarget.by_pip import UNPACKED
from offlinepack.supply import Watch, unwatched

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def run(
    arguments: Sequence[str], python: str | None = None, folder: Path | None = None, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run install.py with an interpreter of this machine: with `capture` what it prints is kept, else it is shown."""
    # --bundle tells install.py that the code beside it is trusted; a rollback looks at no bundle
    place = ["--bundle", str(folder or "")]
    with resources.as_file(resources.files("offlinepack.ontarget")) as code:
        words = [python or sys.executable, "-I", "-B", str(code / "install.py"), *place, *arguments]
        pipe = subprocess.PIPE if capture else None
        try:
            with subprocess.Popen(words, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace") as there:
                out, err = there.communicate()
            return subprocess.CompletedProcess(words, there.returncode, out, err)
        except OSError as refused:
            raise MachineError(
                error(
                    "no-such-python",
                    words[0],
                    "{subject} cannot be started: {words}.",
                    "Name a Python with --python.",
                    words=refused.strerror,
                )
            ) from refused


def install(
    path: Path,
    arguments: Sequence[str],
    *,
    python: str | None = None,
    keys: Sequence[str] = (),
    signature: str | None = None,
    watch: Watch = unwatched,
    capture: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Install the bundle at `path` (tar.gz, first part or folder); `arguments` are install.py's.

    Who signed, whether it fits and whether there is room is asked before anything is unpacked; the target side asks
    again of what lies there then.
    """
    words = list(arguments)
    opened = bundle.open_bundle(path)
    beside = signing.beside(path)
    if not signature and beside.is_file():
        words += ["--signature", str(beside)]
    signing.who_signed(opened, keys, signature)
    if path.is_dir():
        opened.check_plan()
        return run(words, python, path, capture)
    options = command.options_of(words, str(path))
    voice = report.Voice(-9, options.json, options.lang)
    try:
        place = _foreseen(opened, options, voice)
    except OfflinepackError as refused:
        if capture:
            raise
        # in the words, the JSON and the report of the target side, which is not started
        voice.facts["command"], voice.loudness = "install", options.verbose - options.quiet
        voice.findings(refused.findings)
        return subprocess.CompletedProcess(words, voice.close(refused.exit_code, options.report))
    with _unpacked(place) as folder:
        total = float(sum(one.size for one in opened.manifest.files))
        what = text("unpacking {path} for {venv}", path=path, venv=place.venv)
        for _ in watch(what, opened.unpack(folder), total, lambda one: one.size):
            pass
        bundle.open_bundle(folder).check_plan()
        return run(words, python, folder, capture)


def _foreseen(opened: bundle.Bundle, options: Any, voice: report.Voice) -> environment.Place:
    """Where it goes; an error where this machine cannot take it, as far as that is known before it is unpacked."""
    work = admission.intended(options, opened.manifest, voice)
    files, target = opened.manifest.files, opened.manifest.files_of(work.target)
    wheels = {one.path: one.size for one in target if one.path.endswith(".whl")}
    unpacked, written = sum(one.size for one in files), sum(one.size for one in target)
    # what wheels hold is asked only where that might be too much
    roomy = shutil.disk_usage(preflight.nearest(work.place.beside)).free > unpacked + 20 * written
    sizes = [] if roomy else opened.listings(wheels)
    room = preflight.room(sizes, written - sum(wheels.values()), not options.no_compile)
    room = room._replace(spare=room.spare + unpacked, entries=room.entries + len(files))
    admission.admitted(work, room)
    return work.place


@contextlib.contextmanager
def _unpacked(place: environment.Place) -> Iterator[Path]:
    """A folder that is not there yet, in work/ of the environment; gone when the block ends, with all that it took.

    Until then the folder above is locked: another run, or the next one after a kill, sees whether it is in use.
    """
    work = Path(place.path("work"))
    made = [one for one in (work, *work.parents) if not one.exists()]
    work.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=UNPACKED, dir=work, ignore_cleanup_errors=True) as folder:
            handle = os.open(folder, os.O_RDONLY) if fcntl else -1
            try:
                if fcntl:
                    fcntl.flock(handle, fcntl.LOCK_EX)
                yield Path(folder) / "bundle"
            finally:
                if fcntl:
                    os.close(handle)
    finally:
        if not Path(place.path("lock")).exists():  # refused before anything else was written
            for one in made:
                with contextlib.suppress(OSError):
                    one.rmdir()
