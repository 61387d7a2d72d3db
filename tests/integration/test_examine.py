"""Wheels are looked at ahead, in processes, while others are still on their way."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from offlinepack.native.needs import SCAN_VERSION
from offlinepack.store import Store, StoredFile
from offlinepack.wheels import pool
from offlinepack.wheels.inspect import READER_VERSION, inspect_wheel
from offlinepack.wheels.pool import InspectionPool

from ..support.making import make_wheel


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(pool, "_MIN_POOL_BYTES", 0)
    return Store(tmp_path / "store")


def look_at(files: Sequence[StoredFile], store: Store) -> None:
    with InspectionPool(store) as ahead:
        for one in files:
            ahead.submit(one)
        ahead.finish()


def test_at_the_end_the_store_knows_them(store: Store, tmp_path: Path) -> None:
    files = [store.add_file(make_wheel(tmp_path, name)) for name in ("stone", "lichen", "moss")]
    look_at(files, store)
    for one in files:
        assert store.get_cached(one.sha256, "wheel", READER_VERSION)[0] == one.name
        assert store.get_cached(one.sha256, "native", SCAN_VERSION) is not None


def test_a_file_that_is_submitted_twice_is_inspected_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_MIN_POOL_BYTES", 1 << 30)
    file = store.add_file(make_wheel(tmp_path, "stone"))
    ahead = InspectionPool(store)
    ahead.submit(file)
    ahead.submit(file)
    assert ahead._queue.qsize() == 1


def test_nothing_depends_on_the_processes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.sys, "executable", str(tmp_path / "no-python"))
    broken = make_wheel(tmp_path, "stone")
    broken.write_bytes(b"no wheel")
    files = [store.add_file(broken), store.add_file(make_wheel(tmp_path, "lichen"))]
    look_at(files, store)
    assert inspect_wheel(files[1], store).metadata_header.startswith("Metadata-Version")


def test_who_no_longer_wants_the_files_does_not_wait_for_all(store: Store, tmp_path: Path) -> None:
    files = [store.add_file(make_wheel(tmp_path, f"stone{number}")) for number in range(30)]
    with InspectionPool(store) as ahead:
        for one in files:
            ahead.submit(one)
    known = [one for one in files if store.get_cached(one.sha256, "wheel", READER_VERSION)]
    assert len(known) < len(files)
