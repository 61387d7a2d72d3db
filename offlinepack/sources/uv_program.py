"""The program uv: where it is, and an environment in which nothing of the machine's settings leaks in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from offlinepack.errors import ResolutionError, error

# Index settings of these are read by Indexes and handed on; the rest belongs to other work on this machine.
_NOT_PASSED = ("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "MACOSX_DEPLOYMENT_TARGET", "RUST_LOG", "NO_COLOR")

GIVEN_UP = 124
"""the exit code of a uv that took too long"""


def find() -> str:
    """The uv that was installed with offlinepack; ResolutionError where it is missing."""
    import uv

    try:
        return os.fspath(uv.find_uv_bin())
    except FileNotFoundError as bad:
        raise ResolutionError(
            error("no-uv", "uv", "The program uv is not there.", "Install offlinepack again, or use --resolver pip.")
        ) from bad


def environment() -> dict[str, str]:
    """The caller's variables without settings of uv, pip, Python or an active environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED)}
    return {**kept, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}


def run(
    arguments: Sequence[str], folder: Path, more: Mapping[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """uv with these arguments, in `folder`, with `more` variables; what it says comes back, whatever its exit code.

    After `timeout` seconds it is ended: GIVEN_UP, and what it had said.
    """
    try:
        return subprocess.run(
            [find(), *arguments],
            cwd=folder,
            env={**environment(), **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stderr or b""
        return subprocess.CompletedProcess(
            late.cmd, GIVEN_UP, "", said if isinstance(said, str) else said.decode("utf-8", "replace")
        )
