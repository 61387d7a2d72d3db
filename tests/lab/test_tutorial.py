"""The tutorial as it is printed: its blocks run here and on a bare Debian 12 without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import HERE, KEPT, Machine

BLOCK = re.compile(r"^```sh title=\"(here|there)\"\n(.*?)^```$", re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tutorial.md", "how-to/rhel8.md"])
def test_every_block_runs(
    page: str, root: Callable[..., Path], machine: Callable[..., Machine], tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "requirements.txt").write_text("click\ndataclasses; python_version < '3.7'\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "offlinepack").write_text(f'#!/bin/sh\nexec {sys.executable} -m offlinepack "$@"\n')
    (tmp_path / "bin" / "offlinepack").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(HERE),
        "OFFLINEPACK_CACHE_DIR": str(KEPT / "cache"),
    }
    target = machine("--root", root("bookworm"), kept=True)
    blocks = BLOCK.findall((HERE / "docs" / "pages" / page).read_text("utf-8"))
    assert blocks
    for where, code in blocks:
        if where == "there":
            target.shell(code, binds={here: "/media/usb:ro"})
            continue
        done = subprocess.run(
            ["bash", "-euc", code], cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, code + done.stdout[-2000:] + done.stderr[-4000:]
