"""What a new bundle changes against an old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import IntegrityError
from offlinepack.ontarget.manifest import Distribution, Need, TargetPlan
from offlinepack.report.diff import Difference, diff_bundles

from ..support.bundles import DEBIAN, WINDOWS, gz, make_bundle, stored, taken_apart, target_of
from ..support.making import make_wheel


class Release:
    """A bundle that is put together wheel by wheel."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version = folder, version
        self.wheels: dict[str, Path] = {}
        self.versions: dict[str, str] = {}
        self.add("stone", "1.0").add("moss", "2.0").add("pip", "26.0").add("fern", "3.0").add("lichen", "4.0")

    def add(self, name: str, version: str, **named: Any) -> Release:
        self.wheels[name] = make_wheel(self.folder / name / version, name, version, **named)
        self.versions[name] = version
        return self

    def drop(self, name: str) -> Release:
        del self.wheels[name], self.versions[name]
        return self

    def target(self, facts: Any = DEBIAN, name: str = "debian12", **changed: Any) -> TargetPlan:
        base = target_of({**dict.fromkeys(("stone", "moss"), Path("x")), **self.wheels}, facts, name=name)
        install = tuple(
            Distribution(one, self.versions[one], self.wheels[one].name, (), True, None)
            for one in sorted(self.wheels)
            if one != "pip"
        )
        return base._replace(install=install, **changed)

    def packed(self, *targets: TargetPlan, **named: Any) -> Path:
        named = {
            "version": self.version,
            "targets": targets or [self.target()],
            "stored": map(stored, self.wheels.values()),
            **named,
        }
        return make_bundle(self.folder, **named)[0]


@pytest.fixture
def old(tmp_path: Path) -> Release:
    return Release(tmp_path / "old", "1.0")


@pytest.fixture
def new(tmp_path: Path) -> Release:
    return Release(tmp_path / "new", "1.1")


def lines(found: Difference) -> list[str]:
    return [str(one) for one in found.format_lines()]


def codes(found: Difference) -> list[tuple[str, str]]:
    return [(one.code, one.subject) for one in found.findings]


def test_the_first_line_sums_it_up(old: Release, new: Release) -> None:
    new.add("stone", "1.1").add("moss", "2.1").add("tree", "5.0").drop("fern")
    found = diff_bundles(old.packed(), new.packed())
    assert lines(found) == [
        "2 of 4 changed, 1 new, 1 removed; 1 byte-identical",
        "notes-1.0 is now notes-1.1",
        "  - fern 3.0",
        "  ~ moss 2.0 -> 2.1",
        "  ~ stone 1.0 -> 1.1",
        "  + tree 5.0",
    ]


def test_nothing_changed(old: Release) -> None:
    path = old.packed()
    found = diff_bundles(path, path)
    assert lines(found) == ["0 of 4 changed, 0 new, 0 removed; 4 byte-identical"]
    assert not found.findings


def test_other_bytes_under_the_same_name_are_loud(old: Release, new: Release) -> None:
    new.add("moss", "2.0", files={"moss/__init__.py": "other"})
    found = diff_bundles(old.packed(), new.packed())
    assert lines(found)[0] == "1 of 4 changed, 0 new, 0 removed; 3 byte-identical"
    assert "  ! moss 2.0: other bytes under the same version" in lines(found)
    (warned,) = (one for one in found.findings if one.code == "same-name-other-bytes")
    assert (warned.level, warned.subject) == ("warning", "wheels/moss-2.0-py3-none-any.whl")


@pytest.mark.parametrize("form", ["archives", "folders", "manifests", "one of each"])
def test_manifests_are_enough(form: str, old: Release, new: Release, tmp_path: Path) -> None:
    new.add("stone", "1.1")
    paths = [old.packed(), new.packed()]
    whole = lines(diff_bundles(*paths))
    for at, path in enumerate(paths):
        folder = tmp_path / str(at)
        if form in ("folders", "one of each"):
            list(open_bundle(path).unpack(folder))
            paths[at] = folder
        if form == "manifests" or (form == "one of each" and at):
            folder.mkdir(exist_ok=True)
            (folder / "manifest.json").write_bytes(open_bundle(path).manifest_bytes)
            paths[at] = folder / "manifest.json"
    assert lines(diff_bundles(*paths)) == whole


def test_new_native_code_commands_and_startup(old: Release, new: Release) -> None:
    new.add(
        "stone",
        "1.1",
        tag="cp311-cp311-manylinux_2_28_x86_64",
        files={"stone/_fast.cpython-311-x86_64-linux-gnu.so": "elf", "stone/__init__.py": ""},
    )
    new.add(
        "moss", "2.1", entry_points={"console_scripts": {"moss": "moss:main"}}, data={"scripts/moss-run": "#!python\n"}
    )
    new.add("fern", "3.1", files={"fern.pth": "import fern\n", "fern/__init__.py": ""})
    found = diff_bundles(old.packed(), new.packed())
    assert codes(found) == [("new-startup", "fern"), ("new-command", "moss"), ("new-native-code", "stone")]
    said = {one.subject: one.render() for one in found.findings}
    assert "fern.pth" in said["fern"]
    assert "moss, moss-run" in said["moss"]


def test_what_was_there_before_is_not_news(old: Release, new: Release) -> None:
    native = {"stone/_fast.so": "elf", "stone/__init__.py": ""}
    old.add("stone", "1.0", files=native)
    new.add("stone", "1.1", files=native)
    assert not diff_bundles(old.packed(), new.packed()).findings


def test_a_new_project_with_native_code(old: Release, new: Release) -> None:
    new.add("tree", "1.0", files={"tree/lib.so.1": "elf"})
    assert codes(diff_bundles(old.packed(), new.packed())) == [("new-native-code", "tree")]


def test_the_name_of_a_wheel_tells_of_native_code_too(old: Release, new: Release, tmp_path: Path) -> None:
    new.add("stone", "1.1", tag="cp311-cp311-manylinux_2_28_x86_64")
    (tmp_path / "manifest.json").write_bytes(open_bundle(old.packed()).manifest_bytes)
    assert codes(diff_bundles(tmp_path / "manifest.json", new.packed())) == [("new-native-code", "stone")]


def test_libraries_that_the_machine_has_to_bring(old: Release, new: Release) -> None:
    before = (Need("libz.so.1", ("ZLIB_1.2",), ("stone",), "apt install zlib1g"),)
    after = (
        Need("libGL.so.1", (), ("fern",), "apt install libgl1"),
        Need("libz.so.1", ("ZLIB_1.2", "ZLIB_1.3"), ("stone",), "apt install zlib1g"),
    )
    found = diff_bundles(old.packed(old.target(needs=before)), new.packed(new.target(needs=after)))
    assert codes(found) == [("needs-more", "libGL.so.1"), ("needs-newer", "libz.so.1")]
    assert "apt install libgl1" in found.findings[0].render()


def test_included_files(old: Release, new: Release) -> None:
    one = old.packed(extra={"files/a": b"1", "files/b": b"2", "files/same": b"4"})
    two = new.packed(extra={"files/a": b"other", "files/c": b"3", "files/same": b"4"})
    assert codes(diff_bundles(one, two)) == [
        ("included-changed", "files/a"),
        ("included-removed", "files/b"),
        ("included-new", "files/c"),
    ]


def test_several_targets(old: Release, new: Release) -> None:
    one = old.packed(old.target(), old.target(WINDOWS, "windows"))
    new.add("stone", "1.1")
    other = new.target()._replace(tag="cp311-manylinux_2_28_x86_64", name="rhel8")
    two = new.packed(new.target(), other)
    found = diff_bundles(one, two)
    assert lines(found)[0] == "1 of 4 changed, 0 new, 0 removed; 3 byte-identical"
    assert "target cp312-win_amd64 is gone" in lines(found)
    assert "target cp311-manylinux_2_28_x86_64 is new" in lines(found)
    assert lines(found).count("  ~ stone 1.0 -> 1.1") == 1


def test_a_target_whose_floor_moved_is_still_the_same(old: Release, new: Release) -> None:
    moved = new.target()._replace(tag="cp311-manylinux_2_28_x86_64")
    found = diff_bundles(old.packed(), new.packed(moved))
    assert lines(found)[0] == "0 of 4 changed, 0 new, 0 removed; 4 byte-identical"
    assert "target cp311-manylinux_2_36_x86_64 is gone" in lines(found)


def test_the_sequence(old: Release, new: Release) -> None:
    assert "sequence 1 is now 2" in lines(diff_bundles(old.packed(sequence=1), new.packed(sequence=2)))


def test_for_programs(old: Release, new: Release) -> None:
    new.add("stone", "1.1").drop("fern")
    found = diff_bundles(old.packed(), new.packed()).to_json()
    assert found["counts"] == {"changed": 1, "new": 0, "removed": 1, "same": 2, "all": 3}
    states = {one["name"]: one["state"] for one in found["targets"]["cp311-manylinux_2_36_x86_64"]}
    assert states == {"fern": "removed", "lichen": "same", "moss": "same", "stone": "changed"}
    paths = {one["path"] for one in found["files"]}
    assert {"wheels/stone-1.0-py3-none-any.whl", "wheels/stone-1.1-py3-none-any.whl"} <= paths
    assert "install.py" not in paths


def test_a_hostile_bundle_is_an_attack_here_too(old: Release, new: Release, tmp_path: Path) -> None:
    new.add("stone", "1.1", files={"../evil.py": "boo"})
    with pytest.raises(IntegrityError):
        diff_bundles(old.packed(), new.packed())
    bad = taken_apart(old.packed())
    (tmp_path / "bad.tar.gz").write_bytes(gz(bad.tar() + b"\1"))
    new.add("stone", "1.2")
    with pytest.raises(IntegrityError):
        diff_bundles(tmp_path / "bad.tar.gz", new.packed())
