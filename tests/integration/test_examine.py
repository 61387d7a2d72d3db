"""Wheels are looked at ahead, in processes, while others are still on their way."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from offlinepack import examine
from offlinepack.examine import _READER, Ahead, examined
from offlinepack.native import SCAN
from offlinepack.store import Store, StoredFile

from ..making import make_wheel


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(examine, "_WORTH_A_PROCESS", 0)
    return Store(tmp_path / "store")


def look_at(files: Sequence[StoredFile], store: Store) -> None:
    with Ahead(store) as ahead:
        for one in files:
            ahead.look(one)
        ahead.finish()


def test_at_the_end_the_store_knows_them(store: Store, tmp_path: Path) -> None:
    files = [store.take(make_wheel(tmp_path, name)) for name in ("stone", "lichen", "moss")]
    look_at(files, store)
    for one in files:
        assert store.fact(one.sha256, "wheel", _READER)[0] == one.name
        assert store.fact(one.sha256, "native", SCAN) is not None


def test_what_is_told_of_twice_is_looked_at_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_WORTH_A_PROCESS", 1 << 30)
    file = store.take(make_wheel(tmp_path, "stone"))
    ahead = Ahead(store)
    ahead.look(file)
    ahead.look(file)
    assert ahead._waiting.qsize() == 1


def test_nothing_depends_on_the_processes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine.sys, "executable", str(tmp_path / "no-python"))
    broken = make_wheel(tmp_path, "stone")
    broken.write_bytes(b"no wheel")
    files = [store.take(broken), store.take(make_wheel(tmp_path, "lichen"))]
    look_at(files, store)
    assert examined(files[1], store).header.startswith("Metadata-Version")


def test_who_no_longer_wants_the_files_does_not_wait_for_all(store: Store, tmp_path: Path) -> None:
    files = [store.take(make_wheel(tmp_path, f"stone{number}")) for number in range(30)]
    with Ahead(store) as ahead:
        for one in files:
            ahead.look(one)
    known = [one for one in files if store.fact(one.sha256, "wheel", _READER)]
    assert len(known) < len(files)
