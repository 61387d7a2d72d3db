"""build --rehearse: the verdict comes before the bundle has its name, and travels in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.extensions import EXTENSION, module
from tests.support.making import ServedIndex, make_wheel

from .conftest import Ran


def test_the_verdict_travels_in_the_bundle(index: ServedIndex, offlinepack: Callable[..., Ran], tmp_path: Path) -> None:
    done = offlinepack("build", "stone", "--target", "debian12", "--rehearse", "-o", tmp_path / "a.tar.gz", "--json")
    assert done.code == 0, done.err
    (verdict,) = done.json["rehearsal"]
    assert (verdict["target"], verdict["verdict"], verdict["findings"]) == ("debian12", "installs", [])
    assert verdict["modules"] == {"pebble": ["pebble"], "stone": ["stone"]}
    verdicts = offlinepack("inspect", tmp_path / "a.tar.gz", "--json").json["rehearsal"]
    assert verdicts == [verdict]
    assert (
        "  rehearsed before it was packed: installs" in offlinepack("inspect", tmp_path / "a.tar.gz").out.splitlines()
    )
    again = offlinepack("build", "stone", "--target", "debian12", "--rehearse", "-o", tmp_path / "b.tar.gz")
    assert again.code == 0 and "debian12: installs: its plan is complete" in again.out
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    assert offlinepack("verify", tmp_path / "a.tar.gz").code == 0


def test_a_bundle_that_would_fail_is_not_written(
    index: ServedIndex, offlinepack: Callable[..., Ran], tmp_path: Path
) -> None:
    name = f"_part.{EXTENSION}"
    part = module("_part", "libc.so.6", versions={"libc.so.6": ["GLIBC_2.38"]})
    files = {"flint/__init__.py": "from . import _part\n", f"flint/{name}": part}
    index.add(make_wheel(tmp_path / "more", "flint", tag="cp311-cp311-manylinux_2_17_x86_64", files=files))
    out = tmp_path / "out"
    out.mkdir()
    done = offlinepack("build", "flint", "--target", "debian12", "--rehearse", "-o", out / "a.tar.gz", "--json")
    assert done.code == 10
    found = [one["sentence"] for one in json.loads(done.out)["findings"] if one["level"] == "error"]
    assert found == [f"flint: flint/{name} needs GLIBC_2.38, and debian12 has glibc 2.36."]
    assert list(out.iterdir()) == []
    assert offlinepack("build", "flint", "--target", "debian12", "-o", out / "a.tar.gz").code == 0
