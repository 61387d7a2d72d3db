"""Bundles that were made for different targets become one; a second signature is put in and changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle.merge import merge_bundles
from offlinepack.bundle.reader import open_bundle
from offlinepack.bundle.writer import write_bundle
from offlinepack.errors import Finding, IntegrityError, UsageError
from offlinepack.ontarget.manifest import Distribution, Facts

from ..support.bundles import DEBIAN, WINDOWS, Parts, gz, make_bundle, some_wheels, stored, taken_apart, target_of
from ..support.making import make_wheel

RHEL = Facts("cpython", "3.11", False, "linux", "x86_64", "glibc", "2.28", None)


def verified(path: Path) -> list[Finding]:
    return [one for one in open_bundle(path).verify() if isinstance(one, Finding)]


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, Path]:
    return some_wheels(tmp_path / "w")


def made(folder: Path, wheels: dict[str, Path], *targets: Any, **named: Any) -> Path:
    return make_bundle(folder, targets=targets, stored=map(stored, wheels.values()), **named)[0]


def joined(place: Path, *paths: Path) -> Path:
    write_bundle(place / "all.tar.gz", *merge_bundles([open_bundle(one) for one in paths]))
    return place / "all.tar.gz"


def test_two_targets_become_one_bundle(tmp_path: Path, wheels: dict[str, Path]) -> None:
    url = {"stone-1.0-py3-none-any.whl": "https://files.example/x/stone-1.0-py3-none-any.whl"}
    debian, windows = target_of(wheels), target_of(wheels, WINDOWS, name="windows")
    one = made(tmp_path / "a", wheels, debian, urls=url, extra={"files/a.txt": b"a", "files/both.txt": b"c"})
    two = made(tmp_path / "b", wheels, windows, extra={"files/b.txt": b"b", "files/both.txt": b"c"})
    both = made(
        tmp_path / "c",
        wheels,
        debian,
        windows,
        extra={"files/a.txt": b"a", "files/b.txt": b"b", "files/both.txt": b"c"},
        urls=url,
    )
    path = joined(tmp_path, one, two)
    assert verified(path) == []
    again, at_once = taken_apart(path), taken_apart(both)
    names = {target["tag"] for target in again.manifest["targets"]}
    assert names == {debian.tag, windows.tag}
    assert {key for key in again.files if again.files[key] != at_once.files.get(key)} <= {
        "README.txt",
        "README.zh.txt",
        "SHA256SUMS",
    } | {f"pylock.{windows.tag}.toml"}


def test_one_is_as_it_was(tmp_path: Path, wheels: dict[str, Path]) -> None:
    one = made(tmp_path / "a", wheels, target_of(wheels), extra={"files/a.txt": b"a"})
    assert joined(tmp_path, one).read_bytes() == one.read_bytes()
    assert joined(tmp_path, one, one).read_bytes() == one.read_bytes()


def test_the_most_demanding_target_stands_first(tmp_path: Path, wheels: dict[str, Path]) -> None:
    low = target_of(wheels, RHEL, tag="cp311-manylinux_2_28_x86_64", name="rhel8")
    one, two = made(tmp_path / "a", wheels, low), made(tmp_path / "b", wheels, target_of(wheels, DEBIAN))
    names = [one.name for one in open_bundle(joined(tmp_path, one, two)).manifest.targets]
    assert names == ["debian12", "rhel8"]


def test_folders_can_be_joined(tmp_path: Path, wheels: dict[str, Path]) -> None:
    one = taken_apart(made(tmp_path / "a", wheels, target_of(wheels))).unpacked(tmp_path / "one")
    two = made(tmp_path / "b", wheels, target_of(wheels, WINDOWS, name="windows"), split=30_000)
    assert verified(joined(tmp_path, one, two)) == []


def test_a_tool_that_another_installs_lies_with_the_wheels(tmp_path: Path, wheels: dict[str, Path]) -> None:
    windows = target_of(wheels, WINDOWS, name="windows")
    pip = Distribution("pip", "26.0", wheels["pip"].name, (), True, None)
    one = made(tmp_path / "a", wheels, target_of(wheels))
    two = made(tmp_path / "b", wheels, windows._replace(install=(*windows.install, pip)))
    manifest = open_bundle(joined(tmp_path, one, two)).manifest
    assert {tool.file for target in manifest.targets for tool in target.tools} == {f"wheels/{wheels['pip'].name}"}
    assert not [file for file in manifest.files if file.path.startswith("tools/")]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": "1.3"}, "version"),
        ({"name": "other"}, "name"),
        ({"sequence": 5}, "sequence"),
        ({"install_to": "/srv/x"}, "install_to"),
    ],
)
def test_what_is_called_otherwise_does_not_belong(
    change: dict[str, Any], word: str, tmp_path: Path, wheels: dict[str, Path]
) -> None:
    one = made(tmp_path / "a", wheels, target_of(wheels))
    two = made(tmp_path / "b", wheels, target_of(wheels, WINDOWS, name="windows"), **change)
    with pytest.raises(UsageError, match=word):
        joined(tmp_path, one, two)
    assert not (tmp_path / "all.tar.gz").exists()


def test_other_bytes_under_one_name_do_not_belong(tmp_path: Path, wheels: dict[str, Path]) -> None:
    one = made(tmp_path / "a", wheels, target_of(wheels))
    other = {**wheels, "moss": make_wheel(tmp_path / "x", "moss", "2.0", files={"moss/other.py": ""})}
    two = made(tmp_path / "b", other, target_of(other, WINDOWS, name="windows"))
    with pytest.raises(UsageError, match=r"moss-2\.0"):
        joined(tmp_path, one, two)


def test_another_plan_for_the_same_target_does_not_belong(tmp_path: Path, wheels: dict[str, Path]) -> None:
    one = made(tmp_path / "a", wheels, target_of(wheels))
    two = made(tmp_path / "b", wheels, target_of(wheels)._replace(python_min="3.11.4"))
    with pytest.raises(UsageError, match="another plan"):
        joined(tmp_path, one, two)


def test_a_damaged_one_is_not_joined(tmp_path: Path, wheels: dict[str, Path]) -> None:
    one = made(tmp_path / "a", wheels, target_of(wheels))
    bad = taken_apart(one)
    path = next(name for name in bad.files if "moss" in name)
    bad.files[path] = bad.files[path].replace(b"moss", b"mosS", 1)
    (tmp_path / "bad.tar.gz").write_bytes(gz(bad.tar()))
    with pytest.raises(IntegrityError, match="moss"):
        joined(tmp_path, tmp_path / "bad.tar.gz")
    assert not (tmp_path / "all.tar.gz").exists()


def test_another_order_is_reported(tmp_path: Path, wheels: dict[str, Path]) -> None:
    good = taken_apart(made(tmp_path / "a", wheels, target_of(wheels)))
    turned = Parts(good.folder, good.manifest, dict(reversed(good.files.items())))
    (tmp_path / "turned.tar.gz").write_bytes(gz(turned.tar()))
    assert verified(tmp_path / "turned.tar.gz") == []
    with pytest.raises(IntegrityError, match="usual order"):
        joined(tmp_path, tmp_path / "turned.tar.gz")


# ---------------------------------------------------------------------------------------------- a second signature


def test_a_second_signature_changes_nothing_else(tmp_path: Path) -> None:
    path, manifest = make_bundle(tmp_path, signatures=[b"one"])
    open_bundle(path).embed_signature(b"two")
    assert open_bundle(path).signatures == {"manifest.json.sig": b"one", "manifest.json.2.sig": b"two"}
    expected, _ = make_bundle(tmp_path / "x", signatures=[b"one", b"two"])
    assert path.read_bytes() == expected.read_bytes()
    assert (
        path.with_name(path.name + ".sha256").read_text() == expected.with_name(expected.name + ".sha256").read_text()
    )
    assert open_bundle(path).manifest == manifest


def test_a_second_signature_of_a_folder(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, signatures=[b"one"])
    folder = tmp_path / "there"
    list(open_bundle(path).unpack(folder))
    open_bundle(folder).embed_signature(b"two")
    assert (folder / "manifest.json.2.sig").read_bytes() == b"two"
    assert {one.code for one in verified(folder)} == {"bad-signature"}, "these two are none"


def test_a_second_signature_of_parts(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, split=25_000)
    open_bundle(path).embed_signature(b"two")
    assert path.with_name(path.name + ".001").stat().st_size == 25_000
    assert not path.exists()
    assert set(open_bundle(path).signatures) == {"manifest.json.2.sig"}
    assert {one.code for one in verified(path)} == {"bad-signature"}, "this is none"


def test_a_bundle_has_at_most_two_signatures(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, signatures=[b"one", b"two"])
    before = path.read_bytes()
    with pytest.raises(UsageError, match="two signatures"):
        open_bundle(path).embed_signature(b"three")
    assert path.read_bytes() == before


def test_a_damaged_bundle_takes_no_signature(tmp_path: Path) -> None:
    good = taken_apart(make_bundle(tmp_path)[0])
    good.files["README.txt"] = good.files["README.txt"].swapcase()
    path = tmp_path / "bad.tar.gz"
    path.write_bytes(gz(good.tar()))
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match="README"):
        open_bundle(path).embed_signature(b"two")
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.glob("bad*")) == ["bad.tar.gz"]
