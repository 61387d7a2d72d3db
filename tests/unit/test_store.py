"""The store: one door that checks the hash, partial files that are taken up, damage that is noticed."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import ComputerError, IntegrityError
from offlinepack.ontarget import manifest
from offlinepack.store import PARTIAL_FILE_LIFETIME, STORED_MTIME, Store, StoredFile

STONE = b"stone " * 1000
SHA = hashlib.sha256(STONE).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def left(store: Store) -> list[str]:
    """What lies in the store, but for folders."""
    return sorted(str(one.relative_to(store.path)) for one in store.path.rglob("*") if one.is_file())


def test_what_was_put_is_found_by_its_hash(store: Store) -> None:
    kept = store.add_bytes("stone-1.0.whl", SHA, [STONE[:10], STONE[10:]])
    assert (kept.name, kept.size, kept.sha256, kept.path.read_bytes()) == ("stone-1.0.whl", 6000, SHA, STONE)
    assert store.get(SHA, "stone-1.0.whl") == kept
    assert store.get(SHA.upper(), "other.whl") == StoredFile("other.whl", kept.path, 6000, SHA)
    assert left(store) == [f"files/{SHA[:2]}/{SHA}"]


def test_what_is_not_there_is_none_and_makes_nothing(store: Store) -> None:
    assert store.get(SHA) is None
    assert store.get_cached(SHA, "metadata") is None
    assert not store.path.exists()


def test_without_a_promised_hash_the_file_gets_its_own(store: Store) -> None:
    assert store.add_bytes("stone-1.0.whl", None, [STONE]).sha256 == SHA


def test_another_hash_is_refused_and_nothing_stays(store: Store) -> None:
    with pytest.raises(IntegrityError) as caught:
        store.add_bytes("stone-1.0.whl", SHA, [STONE, b"and more"])
    (finding,) = caught.value.findings
    actual = hashlib.sha256(STONE + b"and more").hexdigest()
    assert (finding.code, finding.subject) == ("hash-mismatch", "stone-1.0.whl")
    assert finding.sentence.render() == f"stone-1.0.whl has the sha256 {actual}, but {SHA} was promised."
    assert caught.value.exit_code == 7
    assert left(store) == []


@pytest.mark.parametrize("kind", ["md5", "sha512", "blake2b"])
def test_other_kinds_of_hash_are_checked_too(store: Store, kind: str) -> None:
    good = hashlib.new(kind, STONE).hexdigest()
    assert store.add_bytes("stone", None, [STONE], {kind: good.upper()}).sha256 == SHA
    with pytest.raises(IntegrityError, match=kind):
        store.add_bytes("stone", SHA, [STONE], {kind: hashlib.new(kind, b"").hexdigest()})


def test_a_local_file_is_taken(store: Store, tmp_path: Path) -> None:
    (tmp_path / "stone-1.0.whl").write_bytes(STONE)
    assert store.add_file(tmp_path / "stone-1.0.whl", sha256=SHA).name == "stone-1.0.whl"
    with pytest.raises(IntegrityError):
        store.add_file(tmp_path / "stone-1.0.whl", sha256="0" * 64)


def test_a_name_that_is_no_hash_is_a_bug(store: Store) -> None:
    for bad in ("", "../../etc/passwd", SHA[:-1], SHA + "0"):
        with pytest.raises(ValueError, match="sha256"):
            store.get(bad)


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[100] ^= 1
    path.write_bytes({"cut": bytes(content[:100]), "empty": b"", "flipped": bytes(content)}[how])


@pytest.mark.parametrize("how", ["cut", "empty", "flipped"])
def test_a_damaged_file_is_noticed_and_removed(store: Store, how: str) -> None:
    damage(store.add_bytes("stone", SHA, [STONE]).path, how)
    assert store.get(SHA) is None
    assert left(store) == []
    assert store.add_bytes("stone", SHA, [STONE]).path.read_bytes() == STONE


def test_a_file_that_was_only_touched_stays(store: Store) -> None:
    kept = store.add_bytes("stone", SHA, [STONE])
    os.utime(kept.path)
    assert store.get(SHA, "stone") == kept
    assert kept.path.stat().st_mtime == STORED_MTIME


def test_a_sound_file_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_bytes("stone", SHA, [STONE])
    monkeypatch.setattr(manifest, "hash_file", lambda path: pytest.fail("it was hashed again"))
    assert store.get(SHA) is not None
    assert store.get(SHA, size=6000) is not None


def test_another_size_than_the_known_one_is_damage(store: Store) -> None:
    store.add_bytes("stone", SHA, [STONE])
    assert store.get(SHA, size=5999) is None
    assert left(store) == []


def test_what_turned_out_damaged_is_discarded(store: Store) -> None:
    store.add_bytes("stone", SHA, [STONE])
    store.discard(SHA)
    store.discard(SHA)
    assert store.get(SHA) is None


def test_a_file_under_its_own_name_for_other_tools(store: Store, tmp_path: Path) -> None:
    kept = store.add_bytes("stone-1.0.whl", SHA, [STONE])
    for _ in range(2):
        assert kept.link_into(tmp_path) == tmp_path / "stone-1.0.whl"
    assert (tmp_path / "stone-1.0.whl").read_bytes() == STONE


def test_facts_are_kept_by_hash_kind_and_version(store: Store) -> None:
    store.add_bytes("stone", SHA, [STONE])
    store.set_cached(SHA, "metadata", {"name": "stone", "requires": ["mortar"]}, version=2)
    assert store.get_cached(SHA, "metadata", 2) == {"name": "stone", "requires": ["mortar"]}
    assert store.get_cached(SHA, "metadata", 3) is None
    assert store.get_cached(SHA, "native", 2) is None
    (path,) = (store.path / "facts").rglob("*.json")
    path.write_text('{"name": ')
    assert store.get_cached(SHA, "metadata", 2) is None


# ------------------------------------------------------------------------------------------------ partial files


def test_a_partial_file_is_taken_up_by_the_next_run(tmp_path: Path) -> None:
    with (
        pytest.raises(ConnectionError),
        Store(tmp_path / "store").open_partial("stone", SHA, resume_as=SHA) as incoming,
    ):
        incoming.write(STONE[:1000])
        raise ConnectionError
    store = Store(tmp_path / "store")
    assert left(store) == [f"partial/{SHA}"]
    with store.open_partial("stone", SHA, resume_as=SHA) as incoming:
        assert (incoming.size, incoming.is_resumed, incoming.is_valid) == (1000, True, False)
        incoming.write(STONE[1000:])
        assert incoming.is_valid
        assert incoming.finish().path.read_bytes() == STONE
    assert left(store) == [f"files/{SHA[:2]}/{SHA}"]


def test_a_restart_forgets_what_was_there(store: Store) -> None:
    with store.open_partial("stone", SHA, resume_as=SHA) as incoming:
        incoming.write(b"rubbish")
    with store.open_partial("stone", SHA, resume_as=SHA) as incoming:
        incoming.restart()
        assert (incoming.size, incoming.is_resumed) == (0, False)
        incoming.write(STONE)
        incoming.finish()
    assert store.get(SHA) is not None


def test_without_a_key_nothing_is_kept(store: Store) -> None:
    with store.open_partial("stone", SHA) as incoming:
        incoming.write(STONE[:1000])
        incoming.save_resume_info({"etag": '"1"'})
    assert left(store) == []


def test_an_empty_part_is_not_kept(store: Store) -> None:
    with store.open_partial("stone", SHA, resume_as=SHA):
        pass
    assert left(store) == []


def test_the_servers_word_lies_beside_the_part(store: Store) -> None:
    with store.open_partial("stone", None, resume_as="a" * 64) as incoming:
        assert incoming.resume_info == {}
        incoming.write(STONE[:1000])
        incoming.save_resume_info({"etag": '"1"'})
    with store.open_partial("stone", None, resume_as="a" * 64) as incoming:
        assert incoming.resume_info == {"etag": '"1"'}
        incoming.write(STONE[1000:])
        incoming.finish()
    assert left(store) == [f"files/{SHA[:2]}/{SHA}"]


def test_a_part_has_one_owner_at_a_time(store: Store) -> None:
    other = Store(store.path)
    with store.open_partial("stone", SHA, resume_as=SHA) as mine:
        mine.write(STONE[:1000])
        with other.open_partial("stone", SHA, resume_as=SHA) as theirs:
            assert theirs.size == 0
            theirs.write(STONE)
            theirs.finish()
        mine.write(STONE[1000:])
        assert mine.finish().path.read_bytes() == STONE
    assert left(store) == [f"files/{SHA[:2]}/{SHA}"]


def test_parts_that_nobody_came_back_for_are_removed(store: Store) -> None:
    with store.open_partial("stone", SHA, resume_as=SHA) as incoming:
        incoming.write(STONE[:1000])
    old = time.time() - PARTIAL_FILE_LIFETIME - 1
    os.utime(store.path / "partial" / SHA, (old, old))
    with Store(store.path).open_partial("mortar", None):
        assert left(store) != [f"partial/{SHA}"]
    assert left(store) == []


# ------------------------------------------------------------------------------------------------ the computer


class Refusing:
    """A file that stops taking bytes."""

    def __init__(self, file: Any, number: int) -> None:
        self.file, self.number = file, number

    def write(self, block: bytes) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, "disk-full", "The disk is full"),
        (errno.EDQUOT, "disk-full", "The disk is full"),
        (errno.EACCES, "no-permission", "may not be written by this user"),
        (errno.EROFS, "no-permission", "may not be written by this user"),
        (errno.EIO, "disk-failed", "could not be read or written"),
    ],
)
def test_what_the_disk_refuses_is_said(store: Store, number: int, code: str, words: str) -> None:
    with pytest.raises(ComputerError) as caught, store.open_partial("stone", SHA) as incoming:
        incoming._file = Refusing(incoming._file, number)  # type: ignore[assignment]
        incoming.write(STONE)
        incoming.finish()
    assert caught.value.exit_code == 12
    assert caught.value.findings[0].code == code
    assert words in caught.value.findings[0].render()
    assert left(store) == []


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write everywhere: be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no such rights here")
def test_a_store_that_may_not_be_written(tmp_path: Path, ordinary_user: None) -> None:
    if os.geteuid() != 65534:
        (tmp_path / "store").mkdir(mode=0o500)
    store = Store(tmp_path / "store")
    with pytest.raises(ComputerError) as caught:
        store.add_bytes("stone", SHA, [STONE])
    (finding,) = caught.value.findings
    assert (finding.code, caught.value.exit_code) == ("no-permission", 12)
    assert "--cache-dir" in finding.render()
    store.set_cached(SHA, "metadata", 1)


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(ComputerError, match="could not be read or written"):
        Store(tmp_path / "store").add_bytes("stone", SHA, [STONE])


# ------------------------------------------------------------------------------------------------ which store


def test_the_store_of_a_cache_dir_and_a_temporary_one(tmp_path: Path) -> None:
    assert Store.open(tmp_path).path == tmp_path / "store"
    (tmp_path / "work").mkdir()
    with Store.open(None, near=tmp_path / "work") as store:
        store.add_bytes("stone", SHA, [STONE])
        assert store.path.is_relative_to(tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_the_default_folder_is_the_users(clean_environment: Path) -> None:
    assert Store.get_default_folder().is_relative_to(clean_environment)
