"""The installer killed, starved and contradicted: a small choice of what scripts/faults does in full."""

from __future__ import annotations

import os
import sys

import pytest

from .conftest import HERE, LAB, run

FAULTS = LAB.parent / "faults"


@pytest.mark.skipif(not FAULTS.exists(), reason=f"no fault injectors at {FAULTS}")
@pytest.mark.parametrize(
    "words",
    [
        ("upgrade", "enospc", "order", "--runs", "2", "--engine", "fast"),
        ("nth", "--runs", "1", "--calls", "rename", "--engine", "fast"),
        pytest.param(("fresh", "upgrade", "--runs", "2", "--engine", "pip"), marks=pytest.mark.slow),
    ],
    ids=lambda words: "-".join(words[:1]),
)
def test_nothing_goes_wrong(words: tuple[str, ...]) -> None:
    environment = {**os.environ, "OFFLINEPACK_FAULTS": str(FAULTS)}
    process = run([sys.executable, HERE / "scripts" / "faults", *words], env=environment)
    assert " 0 wrong" in process.stdout or "0 files not synced" in process.stdout
