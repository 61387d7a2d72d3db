"""A bundle may be large: memory does not grow with its files, checks take no longer for many than for few."""

from __future__ import annotations

import copy
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import BundleError, UsageError
from offlinepack.ontarget.manifest import File, parse_manifest

from ..support.bundles import make_bundle


def test_peak_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        for _ in range(60):
            large.write(os.urandom(1 << 20))
    tracemalloc.start()
    try:
        path, _ = make_bundle(tmp_path, extra={"files/large": tmp_path / "large"})
        for member in open_bundle(path).read_members():
            for _ in member.content:
                pass
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_thousands_of_small_files_are_no_attack(tmp_path: Path) -> None:
    extra = {f"files/{number}.bin": os.urandom(20) for number in range(5000)}
    path, _ = make_bundle(tmp_path, extra=extra)
    assert [checked for checked in open_bundle(path).verify() if not isinstance(checked, File)] == []


def test_more_than_999_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="999"):
        make_bundle(tmp_path, split=10)
    assert [path for path in tmp_path.iterdir() if path.name != "wheels-of-the-bundle"] == []


def test_a_manifest_with_thousands_of_entries_is_checked_quickly(tmp_path: Path) -> None:
    """Checks that would be slow for many are as good as hidden attacks."""

    def document(path: str) -> dict[str, Any]:
        return {"path": path, "size": 5, "sha256": "0" * 64, "kind": "document"}

    def written(manifest: dict[str, Any]) -> bytes:
        manifest["files"].sort(key=lambda file: file["path"])
        return (json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode()

    path, _ = make_bundle(tmp_path)
    manifest = json.loads(open_bundle(path).manifest_bytes)
    distribution = manifest["targets"][0]["install"][0]
    names = [f"d{number}" for number in range(3000)]
    manifest["targets"][0]["install"] += [{**distribution, "name": name, "requires": names[-3:]} for name in names]
    manifest["files"] += [document(f"wheels/x{number:06}") for number in range(30_000)]
    twice = copy.deepcopy(manifest)
    twice["files"] += [document(f"wheels/X{number:06}") for number in range(30_000)]
    began = time.process_time()
    parse_manifest(written(manifest))
    with pytest.raises(BundleError, match="each path once"):
        parse_manifest(written(twice))
    assert time.process_time() - began < 20
