"""The program uv: where it is, and an environment in which nothing of the machine's settings leaks in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from offlinepack.errors import ResolutionError, error

# Index settings of these are read by Indexes and handed on; the rest belongs to other work on this machine.
_NOT_PASSED = ("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "MACOSX_DEPLOYMENT_TARGET", "RUST_LOG", "NO_COLOR")


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
    arguments: Sequence[str], folder: Path, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """uv with these arguments, in `folder`, with `more` variables; what it says comes back, whatever its exit code."""
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
    )
