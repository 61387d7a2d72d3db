"""A bundle's folder against its manifest: everything that is wrong with it, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offlinepack.ontarget.errors import BundleError, Finding
from offlinepack.ontarget.manifest import Manifest, hash_file, serialize_manifest
from offlinepack.ontarget.verify import check_folder, read_folder_manifest
from tests.support.making import make_wheel

from ..support.bundles import DEBIAN, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "app-1.0/wheels", "stone")
    make_wheel(tmp_path / "app-1.0/wheels", "moss", size=5000)
    make_wheel(tmp_path / "app-1.0/tools", "pip", files={"pip/__init__.py": ""})
    return write_folder(tmp_path / "app-1.0")


def findings(folder: Path, contents: bool = False) -> list[Finding]:
    return [one for checked in check_folder(folder, read_folder_manifest(folder), contents) for one in checked.findings]


def codes(folder: Path, contents: bool = False) -> list[tuple[str, str]]:
    return sorted((one.code, one.subject) for one in findings(folder, contents))


def test_a_sound_bundle(folder: Path) -> None:
    (folder / "manifest.json.sig").write_text("a signature is no part of the list")
    checked = list(check_folder(folder, read_folder_manifest(folder), contents=True))
    assert [one.findings for one in checked] == [()] * 6
    assert sorted(one.wheel.name for one in checked if one.wheel) == ["moss", "pip", "stone"]
    assert checked[-1].file is None


def test_everything_at_once(folder: Path) -> None:
    stone = folder / "wheels/stone-1.0-py3-none-any.whl"
    altered = bytearray(stone.read_bytes())
    altered[60] ^= 1
    stone.write_bytes(altered)
    moss = folder / "wheels/moss-1.0-py3-none-any.whl"
    moss.write_bytes(moss.read_bytes()[:-1])
    (folder / "README.txt").unlink()
    (folder / "wheels/evil-1.0-py3-none-any.whl").write_text("")
    (folder / "ontarget/__pycache__").mkdir(parents=True)
    (folder / "tools/link.whl").symlink_to("/etc/passwd")
    assert codes(folder) == [
        ("file-missing", "README.txt"),
        ("not-listed", "ontarget"),
        ("not-listed", "tools/link.whl"),
        ("not-listed", "wheels/evil-1.0-py3-none-any.whl"),
        ("wheel-hash", "stone-1.0-py3-none-any.whl"),
        ("wrong-size", "wheels/moss-1.0-py3-none-any.whl"),
    ]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_listed_file_that_is_no_file(folder: Path, tmp_path: Path, kind: str) -> None:
    readme = folder / "README.txt"
    readme.rename(tmp_path / "kept")
    if kind == "link":
        readme.symlink_to(tmp_path / "kept")
    elif kind == "fifo":
        os.mkfifo(readme)
    else:
        readme.mkdir()
    assert {one[0] for one in codes(folder)} <= {"not-a-file", "file-missing"} and codes(folder)


def test_a_name_outside(folder: Path, tmp_path: Path) -> None:
    os.link(folder / "README.txt", tmp_path / "outside")
    found = findings(folder)
    assert [(one.level, one.code, one.subject) for one in found] == [("warning", "hard-link", "README.txt")]
    (tmp_path / "outside").unlink()
    os.link(folder / "README.txt", folder / "manifest.json.sig")
    assert findings(folder) == []


def test_no_bundle(tmp_path: Path) -> None:
    for prepare in (lambda: None, lambda: (tmp_path / "manifest.json").mkdir()):
        prepare()
        with pytest.raises(BundleError) as caught:
            read_folder_manifest(tmp_path)
        assert caught.value.exit_code == 9
    (tmp_path / "manifest.json").rmdir()
    (tmp_path / "manifest.json").symlink_to("/dev/zero")
    with pytest.raises(BundleError):
        read_folder_manifest(tmp_path)


def test_sums_that_list_something_else(folder: Path) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes().replace(b"README.txt", b"README.TXT"))

    def relist(manifest: Manifest) -> Manifest:
        return manifest._replace(
            files=tuple(
                one._replace(size=hash_file(sums)[0], sha256=hash_file(sums)[1]) if one.path == "SHA256SUMS" else one
                for one in manifest.files
            )
        )

    (folder / "manifest.json").write_bytes(serialize_manifest(relist(read_folder_manifest(folder))))
    assert codes(folder) == [("sums-differ", "SHA256SUMS")]


def test_a_wheel_that_is_not_the_planned_one(tmp_path: Path) -> None:
    def rename(manifest: Manifest) -> Manifest:
        target = manifest.targets[0]
        install = tuple(one._replace(name="granite") for one in target.install)
        return manifest._replace(targets=(target._replace(install=install),))

    make_wheel(tmp_path / "wheels", "stone")
    found = findings(write_folder(tmp_path, change=rename))
    assert [one.render() for one in found] == [
        "wheels/stone-1.0-py3-none-any.whl holds stone, 1.0; the manifest plans it as granite, 1.0. "
        "Copy the bundle again from where it was made."
    ]


@pytest.mark.parametrize(("system", "level"), [("linux", None), ("windows", "error")])
def test_clashes_as_the_target_sees_them(tmp_path: Path, system: str, level: str | None) -> None:
    make_wheel(tmp_path / "wheels", "stone", files={"a/b.py": ""})
    make_wheel(tmp_path / "wheels", "moss", files={"A/b.py": "x"})
    facts = (
        DEBIAN if system == "linux" else DEBIAN._replace(os="windows", machine="amd64", libc=None, libc_version=None)
    )
    found = findings(write_folder(tmp_path, facts=facts))
    assert [one.level for one in found] == ([level] if level else [])


def test_contents_are_looked_at_when_asked(tmp_path: Path) -> None:
    def lie(rows: list[list[str]]) -> list[list[str]]:
        return [[name, "sha256=" + "A" * 43 if name == "stone/x" else digest, size] for name, digest, size in rows]

    make_wheel(tmp_path / "wheels", "stone", files={"stone/x": "x"}, record=lie)
    write_folder(tmp_path)
    assert codes(tmp_path) == []
    assert codes(tmp_path, contents=True) == [("wheel-contents", "stone-1.0-py3-none-any.whl")]
