"""Start the target side: run the installed install.py as a program, on a bundle that was verified and unpacked."""

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

from offlinepack.bundle.reader import Bundle, open_bundle
from offlinepack.errors import MachineError, OfflinepackError, error, text
from offlinepack.ontarget.by_pip import UNPACKED_PREFIX
from offlinepack.ontarget.command import parse_options
from offlinepack.ontarget.errors import explain_os_error
from offlinepack.ontarget.generations import EnvironmentLocation
from offlinepack.ontarget.plan import check_machine, plan_install
from offlinepack.ontarget.preflight import estimate_disk_usage, find_existing_parent
from offlinepack.ontarget.report import Reporter
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.signing import get_signature_path, verify_signatures

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def run_install_script(
    arguments: Sequence[str], python: str | None = None, folder: Path | None = None, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run install.py with an interpreter of this machine: with `capture` what it prints is kept, else it is shown."""
    # --bundle tells install.py that the code beside it is trusted; a rollback looks at no bundle
    place = ["--bundle", str(folder or "")]
    with resources.as_file(resources.files("offlinepack.ontarget")) as code:
        words = [python or sys.executable, "-I", "-B", str(code / "install.py"), *place, *arguments]
        pipe = subprocess.PIPE if capture else None
        try:
            with subprocess.Popen(words, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace") as process:
                out, err = process.communicate()
            return subprocess.CompletedProcess(words, process.returncode, out, err)
        except OSError as refused:
            raise MachineError(
                error(
                    "no-such-python",
                    words[0],
                    "{subject} cannot be started: {words}.",
                    "Name a Python with --python.",
                    words=explain_os_error(refused),
                )
            ) from refused


def run_installer(
    path: Path,
    arguments: Sequence[str],
    *,
    python: str | None = None,
    keys: Sequence[str] = (),
    signature: str | None = None,
    watch: ProgressCallback = no_progress,
    capture: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Install the bundle at `path` (tar.gz, first part or folder); `arguments` are install.py's.

    Who signed, whether it fits and whether there is room is asked before anything is unpacked; the target side asks
    again of what lies there then.
    """
    words = list(arguments)
    opened = open_bundle(path)
    signature_path = get_signature_path(path)
    if not signature and signature_path.is_file():
        words += ["--signature", str(signature_path)]
    verify_signatures(opened, keys, signature)
    if path.is_dir():
        opened.check_documents()
        return run_install_script(words, python, path, capture)
    options = parse_options(words, str(path))
    voice = Reporter(-9, options.json, options.lang)
    try:
        place = _preflight(opened, options, voice)
    except OfflinepackError as refused:
        if capture:
            raise
        # in the words, the JSON and the report of the target side, which is not started
        voice.facts["command"], voice.verbosity = "install", options.verbose - options.quiet
        voice.print_findings(refused.findings)
        return subprocess.CompletedProcess(words, voice.close(refused.exit_code, options.report))
    with _create_unpack_folder(place) as folder:
        total = float(sum(file.size for file in opened.manifest.files))
        title = text("unpacking {path} for {venv}", path=path, venv=place.venv)
        for _ in watch(title, opened.unpack(folder), total, lambda file: file.size):
            pass
        open_bundle(folder).check_documents()
        return run_install_script(words, python, folder, capture)


def _preflight(opened: Bundle, options: Any, voice: Reporter) -> EnvironmentLocation:
    """Return the location, and errors if this machine cannot take the bundle, as far as that is known before
    unpacking.
    """
    work = plan_install(options, opened.manifest, voice)
    files, target = opened.manifest.files, opened.manifest.list_files(work.selection.target)
    wheels = {file.path: file.size for file in target if file.path.endswith(".whl")}
    unpacked, written = sum(file.size for file in files), sum(file.size for file in target)
    # what wheels hold is asked only where that might be too much
    roomy = shutil.disk_usage(find_existing_parent(work.location.generations_dir)).free > unpacked + 20 * written
    sizes = [] if roomy else opened.list_wheel_files(wheels)
    room = estimate_disk_usage(sizes, written - sum(wheels.values()), not options.no_compile)
    room = room._replace(spare_bytes=room.spare_bytes + unpacked, entry_count=room.entry_count + len(files))
    check_machine(work, room)
    return work.location


@contextlib.contextmanager
def _create_unpack_folder(place: EnvironmentLocation) -> Iterator[Path]:
    """Create a folder in work/ of the environment and remove it with its content when the block ends.

    The folder above is locked until then, so that another run, or the next one after a kill, sees whether it is in
    use.
    """
    work = Path(place.get_path("work"))
    new_folders = [folder for folder in (work, *work.parents) if not folder.exists()]
    work.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=UNPACKED_PREFIX, dir=work, ignore_cleanup_errors=True) as folder:
            handle = os.open(folder, os.O_RDONLY) if fcntl else -1
            try:
                if fcntl:
                    fcntl.flock(handle, fcntl.LOCK_EX)
                yield Path(folder) / "bundle"
            finally:
                if fcntl:
                    os.close(handle)
    finally:
        if not Path(place.get_path("lock")).exists():  # refused before anything else was written
            for created in new_folders:
                with contextlib.suppress(OSError):
                    created.rmdir()
