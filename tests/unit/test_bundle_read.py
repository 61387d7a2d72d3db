"""Reading a bundle: strictly, from the archive, its parts or its folder; what a hostile packer put in is found."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle import reader
from offlinepack.bundle.reader import open_bundle, read_manifest
from offlinepack.errors import BundleError, ComputerError, Finding, IntegrityError
from offlinepack.ontarget.manifest import File

from ..corpora.hostile_bundle import link, write
from ..support.bundles import (
    END,
    WINDOWS,
    Parts,
    file,
    gz,
    make_bundle,
    pax,
    record,
    some_wheels,
    stored,
    taken_apart,
    target_of,
)
from ..support.making import make_wheel


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("packed"), extra={"files/readme/配置.txt": b"hello\n"})[0]


@pytest.fixture
def good(packed: Path) -> Parts:
    return taken_apart(packed)


@pytest.fixture
def folder(good: Parts, tmp_path: Path) -> Path:
    return good.unpacked(tmp_path / "notes-1.2")


def verified(path: Path) -> list[Finding]:
    try:
        return [one for one in open_bundle(path).verify() if not isinstance(one, File)]
    except (IntegrityError, BundleError) as refused:
        return list(refused.findings)


def archived(parts: Parts, folder: Path) -> Path:
    """The same as a tar.gz, names that ustar cannot hold in a pax header."""
    members = [parts.first()]
    for path, data in parts.files.items():
        name = f"{parts.folder}/{path}"
        long = b"" if name.isascii() and len(name) <= 100 else pax(record("path", name))
        members.append(long + file("x" if long else name, data))
    (folder / "again.tar.gz").write_bytes(gz(b"".join(members) + END))
    return folder / "again.tar.gz"


def test_archive_and_folder_say_the_same(packed: Path, folder: Path) -> None:
    archive, unpacked = open_bundle(packed), open_bundle(folder)
    assert (archive.manifest, archive.manifest_bytes, archive.signatures) == (
        unpacked.manifest,
        unpacked.manifest_bytes,
        unpacked.signatures,
    )
    read = [{m.file: b"".join(m.content) for m in one.read_members()} for one in (archive, unpacked)]  # type: ignore[arg-type]
    assert read[0] == read[1]
    assert verified(packed) == verified(folder) == []


def test_every_verified_file_is_reported(packed: Path) -> None:
    opened = open_bundle(packed)
    assert [one for one in opened.verify() if isinstance(one, File)] == list(opened.manifest.files)


@pytest.mark.parametrize("source", ["archive", "folder"])
def test_unpacking_gives_the_files_and_their_modes(source: str, packed: Path, folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    opened = open_bundle(packed if source == "archive" else folder)
    assert list(opened.unpack(there)) == list(opened.manifest.files)
    assert {str(one.relative_to(there)) for one in there.rglob("*") if one.is_file()} == {
        "manifest.json",
        *(one.path for one in opened.manifest.files),
    }
    assert (there / "install.py").stat().st_mode & 0o777 == 0o755
    assert (there / "manifest.json").stat().st_mode & 0o777 == 0o644
    assert verified(there) == []


def test_unpacking_for_one_target_leaves_out_the_others_files(tmp_path: Path) -> None:
    wheels = some_wheels(tmp_path / "w")
    other = make_wheel(tmp_path / "w", "moss", "2.0", tag="cp312-cp312-win_amd64")
    windows = target_of({**wheels, "moss": other}, WINDOWS, name="windows")
    path, manifest = make_bundle(
        tmp_path, targets=[target_of(wheels), windows], stored=map(stored, [*wheels.values(), other])
    )
    list(open_bundle(path).unpack(tmp_path / "there", manifest.targets[0]))
    assert {one.name for one in (tmp_path / "there" / "wheels").iterdir()} == {
        wheels["stone"].name,
        wheels["moss"].name,
    }


def test_nothing_is_unpacked_over_something(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ComputerError):
        list(open_bundle(packed).unpack(tmp_path / "there"))


def test_a_full_disk_while_unpacking(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reader, "write_file", full)
    with pytest.raises(ComputerError, match="disk is full"):
        list(open_bundle(packed).unpack(tmp_path / "there"))


# ------------------------------------------------------------------------------------------------------- what it is


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no"):
        open_bundle(tmp_path / "nothing.tar.gz")


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        open_bundle(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.tar.gz")
    with pytest.raises(BundleError, match="no regular file"):
        open_bundle(tmp_path / "b.tar.gz")


def test_the_manifest_alone(good: Parts, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(good.data)
    assert read_manifest(tmp_path / "manifest.json") == read_manifest(packed)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"format": 2}, "format-too-new"), ({"format": 0}, "manifest-invalid"), ({"more": 1}, "manifest-invalid")],
)
@pytest.mark.parametrize("form", ["archive", "folder"])
def test_another_format(change: dict[str, Any], code: str, form: str, good: Parts, tmp_path: Path) -> None:
    good.manifest.update(change)
    path = archived(good, tmp_path) if form == "archive" else good.unpacked(tmp_path / "f")
    assert [one.code for one in verified(path)] == [code]


# ---------------------------------------------------------------------------------------------- the unpacked folder


def pipe(folder: Path) -> None:
    (folder / "README.txt").unlink()
    os.mkfifo(folder / "README.txt")


def plug(folder: Path) -> None:
    (folder / "README.txt").unlink()
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(folder)
        try:
            one.bind("README.txt")
        finally:
            os.chdir(here)


def as_folder(folder: Path) -> None:
    (folder / "README.txt").unlink()
    (folder / "README.txt").mkdir()


def swap(folder: Path) -> None:
    one, two = folder / "README.txt", folder / "README.zh.txt"
    one.rename(folder / "x")
    two.rename(one)
    (folder / "x").rename(two)


def edit(folder: Path) -> None:
    data = (folder / "SHA256SUMS").read_bytes()
    (folder / "SHA256SUMS").write_bytes(data[:-1] + b" ")


@pytest.mark.parametrize(
    ("attack", "code", "subject"),
    [
        pytest.param(write("evil.py"), "not-listed", "evil.py", id="added"),
        pytest.param(write("wheels/evil-1.0-py3-none-any.whl"), "not-listed", "wheels/evil-1.0-py3-none-any.whl", id="added-wheel"),
        pytest.param(write("ontarget/__pycache__/errors.cpython-311.pyc"), "not-listed", "ontarget/__pycache__", id="pycache"),
        pytest.param(write("pip.conf"), "not-listed", "pip.conf", id="pip-conf"),
        pytest.param(write("sub/pyproject.toml"), "not-listed", "sub", id="added-folder"),
        pytest.param(lambda folder: (folder / "empty").mkdir(), "not-listed", "empty", id="empty-folder"),
        pytest.param(link("README.txt", "/etc/passwd"), "not-a-file", "README.txt", id="link"),
        pytest.param(link("wheels", "../moved"), "not-listed", "wheels", id="linked-folder"),
        pytest.param(link("evil", "/etc"), "not-listed", "evil", id="added-link"),
        pytest.param(link("manifest.json", "/etc/passwd"), "not-a-file", "manifest.json", id="linked-manifest"),
        pytest.param(link("manifest.json.sig", "/dev/zero"), "not-a-file", "manifest.json.sig", id="linked-signature"),
        pytest.param(pipe, "not-a-file", "README.txt", id="pipe"),
        pytest.param(plug, "not-a-file", "README.txt", id="socket"),
        pytest.param(as_folder, "not-a-file", "README.txt", id="folder-for-a-file"),
        pytest.param(lambda folder: (folder / "SHA256SUMS").unlink(), "file-missing", "SHA256SUMS", id="missing"),
        pytest.param(lambda folder: shutil.rmtree(folder / "wheels"), "file-missing", "wheels/moss", id="missing-folder"),
        pytest.param(swap, "wrong-size", "README.txt", id="swapped"),
        pytest.param(edit, "hash-mismatch", "SHA256SUMS", id="edited"),
        pytest.param(lambda folder: os.truncate(folder / "README.txt", 10), "wrong-size", "README.txt", id="cut"),
        pytest.param(lambda folder: os.truncate(folder / "README.txt", 1 << 40), "wrong-size", "README.txt", id="endless"),
        pytest.param(lambda folder: os.truncate(folder / "manifest.json", 1 << 40), "archive-unsound", "manifest.json", id="endless-manifest"),
        pytest.param(lambda folder: os.truncate(folder / "manifest.json", 100), "manifest-unreadable", "manifest.json", id="cut-manifest"),
    ],
)  # fmt: skip
def test_an_attacked_folder(
    attack: Callable[[Path], None], code: str, subject: str, folder: Path, tmp_path: Path
) -> None:
    attack(folder)
    found = verified(folder)
    assert code in {one.code for one in found}, found
    assert any(subject in one.subject for one in found if one.code == code)
    with pytest.raises((IntegrityError, BundleError)):
        list(open_bundle(folder).unpack(tmp_path / "there"))


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    for name in ("README.txt", "README.zh.txt", "install.py"):
        with (folder / name).open("ab") as one:
            one.write(b"more")
    assert {one.subject for one in verified(folder)} == {"README.txt", "README.zh.txt", "install.py"}


def test_an_edited_wheel_is_named(folder: Path) -> None:
    (wheel,) = (folder / "wheels").glob("stone*")
    data = bytearray(wheel.read_bytes())
    data[200] ^= 1
    wheel.write_bytes(data)
    assert {one.subject for one in verified(folder)} == {wheel.name}


def test_a_changed_archive_is_noticed_between_two_looks(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    shutil.copy(packed, path)
    opened = open_bundle(path)
    make_bundle(tmp_path, path=path, version="1.2.1")
    assert "changed while" in "".join(one.render() for one in opened.verify() if isinstance(one, Finding))


# --------------------------------------------------------- a hostile packer: every hash is right, the content is not


def hostile(good: Parts, change: Callable[[Parts], Any]) -> Parts:
    change(good)
    return good.rehashed()


def add(path: str, data: bytes = b"boo\n") -> Callable[[Parts], None]:
    return lambda parts: parts.files.update({path: data})


def other_wheel(parts: Parts, folder: Path, **named: Any) -> None:
    (path,) = (one for one in parts.files if "/moss" in one)
    parts.files[path] = make_wheel(folder, "moss", "2.0", **named).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "json.py",
        "setup.py",
        "pyproject.toml",
        "pylock.evil.toml",
        "pylock.toml",
        "requirements.txt",
        "requirements.cp39-win_amd64.txt",
        "pip.conf",
        "uv.toml",
        "ontarget/deep/er.py",
        "wheels/deep/evil-1.0-py3-none-any.whl",
        "other/evil.txt",
        ".netrc",
    ],
)
@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_listed_file_that_no_bundle_has(path: str, form: str, good: Parts, tmp_path: Path) -> None:
    bad = hostile(good, add(path))
    there = archived(bad, tmp_path) if form == "archive" else bad.unpacked(tmp_path / "f")
    assert path in {one.subject for one in verified(there)}


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_wheel_that_is_another_distribution(form: str, good: Parts, tmp_path: Path) -> None:
    for target in good.manifest["targets"]:
        for one in target["install"]:
            one["version"] = one["version"] + ".1"
    there = archived(good, tmp_path) if form == "archive" else good.unpacked(tmp_path / "f")
    found = [one for one in verified(there) if one.code == "wheel-other"]
    assert {one.subject for one in found} == {"wheels/moss-2.0-py3-none-any.whl", "wheels/stone-1.0-py3-none-any.whl"}


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_wheel_with_a_hostile_member(form: str, good: Parts, tmp_path: Path) -> None:
    bad = hostile(good, lambda parts: other_wheel(parts, tmp_path / "w", files={"../../evil.py": "boo"}))
    there = archived(bad, tmp_path) if form == "archive" else bad.unpacked(tmp_path / "f")
    assert any(one.subject == "moss-2.0-py3-none-any.whl" and one.level == "error" for one in verified(there))


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_two_wheels_that_write_one_file(form: str, good: Parts, tmp_path: Path) -> None:
    bad = hostile(good, lambda parts: other_wheel(parts, tmp_path / "w", files={"stone/__init__.py": "boo"}))
    there = archived(bad, tmp_path) if form == "archive" else bad.unpacked(tmp_path / "f")
    assert "wheel-clash" in {one.code for one in verified(there)}


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_wheel_whose_record_lies(form: str, good: Parts, tmp_path: Path) -> None:
    def lie(rows: list[list[str]]) -> list[list[str]]:
        return [[rows[0][0], rows[1][1], rows[0][2]], *rows[1:]]

    bad = hostile(good, lambda parts: other_wheel(parts, tmp_path / "w", record=lie))
    there = archived(bad, tmp_path) if form == "archive" else bad.unpacked(tmp_path / "f")
    assert any("moss" in one.subject and one.level == "error" for one in verified(there))


def test_a_file_that_runs_at_every_start_is_a_note(good: Parts, tmp_path: Path) -> None:
    wheels = some_wheels(tmp_path / "w")
    wheels["moss"] = make_wheel(
        tmp_path / "w", "moss", "2.0", files={"moss.pth": "import moss\n", "moss/__init__.py": ""}
    )
    path, _ = make_bundle(tmp_path, stored=map(stored, wheels.values()))
    assert [(one.level, one.subject) for one in verified(path)] == [("note", "moss-2.0-py3-none-any.whl")]


def test_a_kind_that_does_not_belong_there(good: Parts, tmp_path: Path) -> None:
    for one in good.manifest["files"]:
        if one["path"] == "install.py":
            one["kind"] = "included"
    assert [one.subject for one in verified(archived(good, tmp_path))] == ["install.py"]


# -------------------------------------------------------------------------------------------------------- in parts


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "cut", split=20_000)[0]


def parts_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(path.name + ".0*"))


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("named", ["whole", "first", "last"])
def test_a_missing_part_is_named(which: int, named: str, cut: Path) -> None:
    parts = parts_of(cut)
    parts[which].unlink()
    given = {"whole": cut, "first": parts[0], "last": parts[-1]}[named]
    with pytest.raises(IntegrityError) as raised:
        open_bundle(given)
    assert [one.subject for one in raised.value.findings] == [str(parts[which])]


def test_a_missing_part_is_named_without_the_sums(cut: Path) -> None:
    cut.with_name(cut.name + ".sha256").unlink()
    parts = parts_of(cut)
    parts[1].unlink()
    with pytest.raises(IntegrityError, match=parts[1].name):
        open_bundle(cut)


def test_a_missing_last_part_without_the_sums_is_a_cut(cut: Path) -> None:
    cut.with_name(cut.name + ".sha256").unlink()
    parts_of(cut)[-1].unlink()
    assert [one.code for one in verified(cut)] == ["truncated"]


def test_swapped_parts_are_named(cut: Path) -> None:
    parts = parts_of(cut)
    one, two = parts[1].read_bytes(), parts[2].read_bytes()
    parts[1].write_bytes(two)
    parts[2].write_bytes(one)
    found = verified(cut)
    assert {str(parts[1]), str(parts[2])} <= {one.subject for one in found if one.code == "part-differs"}


def test_a_damaged_part_is_named(cut: Path) -> None:
    part = parts_of(cut)[1]
    data = bytearray(part.read_bytes())
    data[5000] ^= 8
    part.write_bytes(data)
    assert [one.subject for one in verified(cut) if one.code == "part-differs"] == [str(part)]


def test_a_whole_file_beside_old_parts_is_taken_as_it_is(cut: Path) -> None:
    make_bundle(cut.parent / "x", path=cut, version="9")
    assert open_bundle(cut).manifest.version == "9"


def test_the_json_of_a_bundle_is_the_canonical_one(good: Parts) -> None:
    assert json.loads(good.data)["format"] == 1


RELEASED = sorted((Path(__file__).parents[2] / "fixtures" / "bundles").glob("*.tar.gz"))


def test_there_is_a_bundle_of_each_released_format() -> None:
    assert [one.name for one in RELEASED] == ["notes-1.2-format-1.tar.gz"]


@pytest.mark.parametrize("path", RELEASED, ids=lambda one: one.name)
def test_every_format_that_was_ever_released_opens(path: Path, tmp_path: Path) -> None:
    """These files are never made anew: somebody out there has them."""
    opened = open_bundle(path)
    assert (opened.manifest.name, opened.manifest.version) == ("notes", "1.2")
    assert verified(path) == []
    list(opened.unpack(tmp_path / "there"))
    assert verified(tmp_path / "there") == []


def test_a_record_that_differs_from_the_manifest_is_reported(packed: Path, tmp_path: Path) -> None:
    good = taken_apart(packed)
    wheel = next(file for file in good.manifest["files"] if file["kind"] == "wheel")
    wheel["record_sha256"] = "1" * 64
    folder = good.unpacked(tmp_path / "notes-1.2")
    for path in (archived(good, tmp_path), folder):
        assert [(finding.code, finding.subject) for finding in verified(path)] == [("record-differs", wheel["path"])]
