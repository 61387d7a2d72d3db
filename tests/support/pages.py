"""The documentation's pages as tests see them: fenced blocks, where each is typed, and this side's shell for them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parents[2]
PAGES = HERE / "docs" / "pages"
FENCE = re.compile(r"^```(\w+)(?: title=\"(\w+)\")?\n(.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (title, code) of each shell block of a page; the title `here` or `there` names the machine."""
    found = FENCE.findall(page.read_text("utf-8"))
    return [(where, code) for kind, where, code in found if kind == "sh" and where]


def code(page: Path, kind: str) -> str:
    """The first block of this kind: yaml, toml ..."""
    return next(code for one, _, code in FENCE.findall(page.read_text("utf-8")) if one == kind)


class Here:
    """A folder on this side, in which `offlinepack` is this checkout and `python3` the interpreter of the tests."""

    def __init__(self, folder: Path, cache: Path, **variables: str) -> None:
        self.folder = folder / "here"
        self.folder.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "offlinepack").write_text(f'#!/bin/sh\nexec {sys.executable} -m offlinepack "$@"\n')
        (programs / "offlinepack").chmod(0o755)
        (programs / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
        own = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(HERE), "OFFLINEPACK_CACHE_DIR": str(cache)}
        self.environment: Mapping[str, str] = {**os.environ, **own, **variables}

    def __call__(self, script: str) -> str:
        """Run it, stopped at its first failing line; what it printed."""
        command = ["bash", "-euc", script]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, script + done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout
