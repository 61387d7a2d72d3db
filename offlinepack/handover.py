"""The bundle is handed to the target side: its own install.py, the one that is installed here, started as a program."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from offlinepack import bundle, signing
from offlinepack.errors import MachineError, error, text
from offlinepack.supply import Watch, unwatched


def run(
    arguments: Sequence[str], python: str | None = None, folder: Path | None = None, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run install.py with an interpreter of this machine: with `capture` what it prints is kept, else it is shown."""
    # --bundle tells install.py that the code beside it is trusted; a rollback looks at no bundle
    place = ["--bundle", str(folder or "")]
    with resources.as_file(resources.files("offlinepack.ontarget")) as code:
        command = [python or sys.executable, "-I", "-B", str(code / "install.py"), *place, *arguments]
        pipe = subprocess.PIPE if capture else None
        try:
            with subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace") as there:
                out, err = there.communicate()
            return subprocess.CompletedProcess(command, there.returncode, out, err)
        except OSError as refused:
            raise MachineError(
                error(
                    "no-such-python",
                    command[0],
                    "{subject} cannot be started: {words}.",
                    "Name a Python with --python.",
                    words=refused.strerror,
                )
            ) from refused


def install(
    path: Path,
    arguments: Sequence[str],
    *,
    venv: str | None = None,
    python: str | None = None,
    keys: Sequence[str] = (),
    signature: str | None = None,
    watch: Watch = unwatched,
    capture: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Install the bundle at `path` (tar.gz, first part or folder); `arguments` are install.py's.

    Who signed is asked before anything is unpacked; the target side asks again of what lies there then.
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
    with _beside(venv, opened.manifest.install_to) as folder:
        total = float(sum(one.size for one in opened.manifest.files))
        for _ in watch(text("unpacking {path}", path=path), opened.unpack(folder), total, lambda one: one.size):
            pass
        bundle.open_bundle(folder).check_plan()
        return run(words, python, folder, capture)


@contextlib.contextmanager
def _beside(venv: str | None, install_to: str | None) -> Iterator[Path]:
    """A folder that is not there yet, on the disk where the environment will lie; gone when the block ends."""
    place = os.path.abspath(venv or install_to or os.environ.get("VIRTUAL_ENV") or ".venv")  # noqa: PTH100 (links stay)
    above = next(one for one in Path(place).parents if one.is_dir())
    with tempfile.TemporaryDirectory(prefix=".offlinepack-", dir=above, ignore_cleanup_errors=True) as work:
        yield Path(work) / "bundle"
