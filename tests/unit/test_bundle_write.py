"""Writing a bundle: the same bytes, whole or not at all, readable by other people's tools."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from offlinepack import bundle
from offlinepack.bundle import writer
from offlinepack.bundle.reader import open_bundle
from offlinepack.bundle.volumes import VolumeWriter
from offlinepack.bundle.writer import StoredFileDamagedError, assemble_bundle, write_bundle
from offlinepack.errors import ComputerError, IntegrityError, SelectionError, UsageError
from offlinepack.ontarget.manifest import SIGNATURES, Distribution, File, parse_manifest, serialize_manifest

from ..support.bundles import WINDOWS, make_bundle, some_wheels, stored, target_of
from ..support.making import make_wheel


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, Path]:
    return some_wheels(tmp_path / "store")


def listing(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return archive.getmembers()


def test_the_manifest_comes_first_and_names_every_file(tmp_path: Path) -> None:
    path, manifest = make_bundle(tmp_path)
    names = [one.name for one in listing(path)]
    assert names[0] == "notes-1.2/manifest.json"
    assert names[1:] == [f"notes-1.2/{one.path}" for one in manifest.files]
    assert parse_manifest(gzip.decompress(path.read_bytes())[512 : 512 + listing(path)[0].size]) == manifest
    top = {one.path for one in manifest.files if "/" not in one.path}
    tag = manifest.targets[0].tag
    assert {"SHA256SUMS", "README.txt", "README.zh.txt", f"pylock.{tag}.toml", f"requirements.{tag}.txt"} <= top


def test_the_target_side_is_there_byte_for_byte(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)
    house = Path(bundle.__file__).parents[1] / "ontarget"
    with tarfile.open(path) as archive:
        for one in house.glob("*.py"):
            name = one.name if one.name == "install.py" else f"ontarget/{one.name}"
            member = archive.extractfile(f"notes-1.2/{name}")
            assert member is not None
            assert member.read() == one.read_bytes()


def test_every_member_has_the_same_owner_and_time(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, extra={"files/配置.txt": b"x" * 5000})
    for one in listing(path):
        assert (one.uid, one.gid, one.uname, one.gname, one.mtime) == (0, 0, "", "", 315532800)
        assert one.isreg()
        executable = one.name.endswith(("/install.py", "/install.sh")) and one.name.count("/") == 1
        assert one.mode == (0o755 if executable else 0o644)


def test_the_same_bytes_from_another_place_and_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        first, _ = make_bundle(tmp_path / "a")
    finally:
        os.umask(before)
    second, _ = make_bundle(tmp_path / "somewhere" / "else")
    assert first.read_bytes() == second.read_bytes()


def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    path, manifest = make_bundle(tmp_path)
    beside = path.with_name(path.name + ".sha256")
    assert beside.read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    with tarfile.open(path) as archive:
        lines = archive.extractfile("notes-1.2/SHA256SUMS").read().decode().splitlines()  # type: ignore[union-attr]
    assert {line[66:] for line in lines} == {one.path for one in manifest.files} - {"SHA256SUMS"}


def test_wheels_are_stored_and_text_is_deflated(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "stone", size=200_000)
    data = wheel.read_bytes()
    path, _ = make_bundle(
        tmp_path, stored=[stored(wheel), *map(stored, list(some_wheels(tmp_path / "s").values())[1:])]
    )
    packed = path.read_bytes()
    assert data[1000:60_000] in packed, "a wheel lies there as it is"
    assert (Path(bundle.__file__).parents[1] / "ontarget" / "manifest.py").read_bytes()[:300] not in packed


def test_a_tool_that_is_installed_too_lies_with_the_wheels(tmp_path: Path, wheels: dict[str, Path]) -> None:
    target = target_of(wheels)
    pip = Distribution("pip", "26.0", wheels["pip"].name, (), True, None)
    manifest, members = assemble_bundle(
        "notes", "1.2", [target._replace(install=(*target.install, pip))], map(stored, wheels.values())
    )
    (tool,) = manifest.targets[0].tools
    assert tool.file == f"wheels/{wheels['pip'].name}"
    assert [one.file.kind for one in members if "pip-26" in one.file.path] == ["wheel"]


def test_a_file_of_two_targets_is_there_once(tmp_path: Path, wheels: dict[str, Path]) -> None:
    targets = [target_of(wheels), target_of(wheels, WINDOWS, name="windows")]
    manifest, _ = assemble_bundle("notes", None, targets, map(stored, wheels.values()))
    assert [one.path for one in manifest.files if one.path.endswith(".whl")] == sorted(
        [f"tools/{wheels['pip'].name}", f"wheels/{wheels['moss'].name}", f"wheels/{wheels['stone'].name}"]
    )
    assert manifest.folder == "notes"
    assert {f"pylock.{one.tag}.toml" for one in targets} <= {one.path for one in manifest.files}


def test_two_files_of_one_name_are_refused(tmp_path: Path, wheels: dict[str, Path]) -> None:
    other = make_wheel(tmp_path / "other", "moss", "2.0", files={"moss/other.py": ""})
    with pytest.raises(SelectionError, match=r"moss-2\.0-py3-none-any\.whl"):
        assemble_bundle("notes", "1.2", [target_of(wheels)], [stored(other), *map(stored, wheels.values())])


@pytest.mark.parametrize(
    "path", ["files/../x", "files/a:b", "files/con.txt", "files/a\\b", "files/x ", "files/a\nb", "files/" + "n" * 300]
)
def test_names_that_no_bundle_can_hold_are_refused(path: str, tmp_path: Path, wheels: dict[str, Path]) -> None:
    with pytest.raises(UsageError) as raised:
        assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()), extra={path: b""})
    assert raised.value.findings[0].subject == path


def test_names_that_differ_by_case_only_are_refused(wheels: dict[str, Path]) -> None:
    extra = {"files/Logo.png": b"1", "files/logo.png": b"2"}
    with pytest.raises(UsageError, match=r"Logo\.png"):
        assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()), extra=extra)


def test_a_file_beyond_8_gib_is_refused(wheels: dict[str, Path]) -> None:
    files = [stored(one) for one in wheels.values()]
    files[0] = type(files[0])(files[0].name, files[0].path, 8 << 30, files[0].sha256)
    with pytest.raises(UsageError, match="8 GiB"):
        assemble_bundle("notes", "1.2", [target_of(wheels)], files)


@pytest.mark.parametrize("length", [60, 95, 96, 99, 100, 101, 140, 180])
def test_long_names_come_out_as_they_went_in(length: int, tmp_path: Path) -> None:
    names = [
        "files/" + "d" * (length // 2) + "/" + "f" * (length - length // 2),
        "files/" + "n" * length,
        "files/" + "名" * (length // 3),
    ]
    path, _ = make_bundle(tmp_path, extra={name: name.encode() for name in names})
    with tarfile.open(path) as archive:
        for name in names:
            assert archive.extractfile(f"notes-1.2/{name}").read() == name.encode()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "size", [0, 1, 511, 512, 513, 65535 - 512, 65535, 65536, 16 * 65535, 16 * 65535 + 1, 3_000_000]
)
@pytest.mark.parametrize("content", ["noise", "text"])
def test_every_size_comes_out_as_it_went_in(size: int, content: str, tmp_path: Path) -> None:
    data = hashlib.shake_256(b"x").digest(size) if content == "noise" else (b"hello\n" * (size // 6 + 1))[:size]
    (tmp_path / "included").write_bytes(data)
    path, _ = make_bundle(tmp_path, extra={"files/a.bin": tmp_path / "included"})
    with tarfile.open(path) as archive:
        assert archive.extractfile("notes-1.2/files/a.bin").read() == data  # type: ignore[union-attr]
    unpacked = {one.file.path: b"".join(one.content) for one in open_bundle(path).read_members()}  # type: ignore[arg-type]
    assert unpacked["files/a.bin"] == data


def test_what_every_reader_would_take_for_a_bomb_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_MAX_UNPACKED_SIZE", 1 << 20)
    (tmp_path / "disk.img").write_bytes(bytes(40 << 20))
    with pytest.raises(UsageError, match="nearly all the same byte") as raised:
        make_bundle(tmp_path, path=tmp_path / "b.tar.gz", extra={"files/disk.img": tmp_path / "disk.img"})
    assert raised.value.findings[0].subject == "files/disk.img"
    assert left_over(tmp_path) == ["disk.img"]
    path, _ = make_bundle(tmp_path)
    with path.open("ab"), pytest.raises(IntegrityError, match="no honest bundle"):
        monkeypatch.setattr(writer, "_MAX_UNPACKED_SIZE", 0)
        monkeypatch.setattr(writer, "_MAX_RATIO", 1)
        open_bundle(path)


def left_over(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.is_file())


def test_a_damaged_file_of_the_store_is_named_and_nothing_is_left(tmp_path: Path, wheels: dict[str, Path]) -> None:
    manifest, members = assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()))
    data = bytearray(wheels["moss"].read_bytes())
    data[100] ^= 1
    wheels["moss"].write_bytes(data)
    with pytest.raises(StoredFileDamagedError, match="moss-2") as raised:
        write_bundle(tmp_path / "b.tar.gz", manifest, members)
    assert raised.value.file.path == f"wheels/{wheels['moss'].name}"
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_file_that_grew_or_shrank_is_named(change: bytes, tmp_path: Path, wheels: dict[str, Path]) -> None:
    manifest, members = assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()))
    wheels["moss"].write_bytes(wheels["moss"].read_bytes() + change if change else b"")
    with pytest.raises(StoredFileDamagedError, match="moss-2"):
        write_bundle(tmp_path / "b.tar.gz", manifest, members)
    assert left_over(tmp_path) == []


def test_a_file_that_vanished_is_named(tmp_path: Path, wheels: dict[str, Path]) -> None:
    manifest, members = assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()))
    wheels["moss"].unlink()
    with pytest.raises(IntegrityError, match="moss-2"):
        write_bundle(tmp_path / "b.tar.gz", manifest, members)
    assert left_over(tmp_path) == []


def test_the_former_bundle_stays_until_the_new_one_is_whole(tmp_path: Path, wheels: dict[str, Path]) -> None:
    path, _ = make_bundle(tmp_path)
    before = path.read_bytes(), path.with_name(path.name + ".sha256").read_bytes()
    manifest, members = assemble_bundle("notes", "1.3", [target_of(wheels)], map(stored, wheels.values()))
    wheels["stone"].write_bytes(b"something else")
    with pytest.raises(IntegrityError):
        write_bundle(path, manifest, members)
    assert (path.read_bytes(), path.with_name(path.name + ".sha256").read_bytes()) == before


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    path.write_bytes(b"old")
    (tmp_path / "b.tar.gz.part").write_bytes(b"what a killed run left")
    make_bundle(tmp_path, path=path)
    assert open_bundle(path).manifest.name == "notes"
    assert left_over(tmp_path) == ["b.tar.gz", "b.tar.gz.sha256"]


def test_a_missing_folder_is_this_computers_fault(tmp_path: Path) -> None:
    with pytest.raises(ComputerError, match="no folder") as raised:
        make_bundle(tmp_path, path=tmp_path / "not" / "there" / "b.tar.gz")
    assert raised.value.exit_code == 12


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(ComputerError, match="is a folder"):
        make_bundle(tmp_path, path=tmp_path / "b")


@pytest.mark.skipif(os.name == "nt", reason="no such rights here")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    # root may write everywhere but there
    closed = Path("/sys") if os.geteuid() == 0 else tmp_path / "closed"
    with pytest.raises(ComputerError, match="cannot be written"):
        make_bundle(tmp_path, path=closed / "b.tar.gz")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EFBIG, "file system takes no file"),
        (errno.EACCES, "Permission"),
    ],
)
def test_what_the_system_refuses_while_writing(
    number: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VolumeWriter, "_write", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(ComputerError, match=sentence) as raised:
        make_bundle(tmp_path)
    assert raised.value.exit_code == 12
    assert left_over(tmp_path) == []


def test_a_failure_halfway_through_a_large_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = VolumeWriter._write, iter(range(100))

    def fail(self: Any, data: bytes) -> None:
        if next(count) == 3:
            raise OSError(errno.ENOSPC, "full")
        real(self, data)

    monkeypatch.setattr(VolumeWriter, "_write", fail)
    (tmp_path / "large").write_bytes(os.urandom(12_000_000))
    with pytest.raises(ComputerError, match="disk is full"):
        make_bundle(tmp_path, extra={"files/large": tmp_path / "large"})
    assert left_over(tmp_path) == ["large"]


def test_an_interruption_leaves_nothing(tmp_path: Path, wheels: dict[str, Path]) -> None:
    manifest, members = assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()))

    def interrupted() -> Any:
        yield from members[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "b.tar.gz", manifest, interrupted())
    assert left_over(tmp_path) == []


def test_two_runs_to_one_name_do_not_mix(tmp_path: Path, wheels: dict[str, Path]) -> None:
    manifest, members = assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()))
    path = tmp_path / "b.tar.gz"

    def overtaken() -> Any:
        yield from members[:3]
        write_bundle(path, manifest, members)
        yield from members[3:]

    with pytest.raises(ComputerError):
        write_bundle(path, manifest, overtaken())
    assert not [one for one in open_bundle(path).verify() if not isinstance(one, File)]
    assert left_over(tmp_path) == ["b.tar.gz", "b.tar.gz.sha256"]


def test_parts_join_to_the_whole(tmp_path: Path) -> None:
    whole, manifest = make_bundle(tmp_path / "whole")
    path, _ = make_bundle(tmp_path / "cut", split=20_000)
    names = sorted(one for one in left_over(path.parent) if not one.endswith(".sha256"))
    assert names == [f"{path.name}.{number:03}" for number in range(1, len(names) + 1)]
    assert len(names) > 2
    assert b"".join((path.parent / one).read_bytes() for one in names) == whole.read_bytes()
    assert all((path.parent / one).stat().st_size == 20_000 for one in names[:-1])
    lines = path.with_name(path.name + ".sha256").read_text().splitlines()
    assert lines == [f"{hashlib.sha256((path.parent / one).read_bytes()).hexdigest()}  {one}" for one in names]
    for name in (path.name, path.name + ".001", path.name + ".002"):
        opened = open_bundle(path.parent / name)
        assert opened.manifest == manifest
        assert not [one for one in opened.verify() if not isinstance(one, File)]


def test_parts_of_a_former_bundle_go_away(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, split=10_000)
    many = len(left_over(tmp_path))
    make_bundle(tmp_path, split=30_000)
    assert len(left_over(tmp_path)) < many
    assert not [one for one in open_bundle(path).verify() if not isinstance(one, File)]


def test_signatures_follow_the_manifest(tmp_path: Path) -> None:
    path, manifest = make_bundle(tmp_path, signatures=[b"one", b"two"])
    assert [one.name for one in listing(path)][:3] == [f"notes-1.2/{one}" for one in ("manifest.json", *SIGNATURES)]
    opened = open_bundle(path)
    assert opened.signatures == {"manifest.json.sig": b"one", "manifest.json.2.sig": b"two"}
    assert serialize_manifest(manifest) == opened.manifest_bytes


def test_members_out_of_order_are_a_bug(tmp_path: Path, wheels: dict[str, Path]) -> None:
    manifest, members = assemble_bundle("notes", "1.2", [target_of(wheels)], map(stored, wheels.values()))
    with pytest.raises(ValueError, match="stands where"):
        write_bundle(tmp_path / "b.tar.gz", manifest, reversed(members))
    with pytest.raises(ValueError, match="longer"):
        write_bundle(tmp_path / "b.tar.gz", manifest, members[:-1])
    assert left_over(tmp_path) == []
