"""Which target and which Python; what would stop an installation, all at once and before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from offlinepack.ontarget import preflight
from offlinepack.ontarget.errors import MachineError, UsageError
from offlinepack.ontarget.files import format_size
from offlinepack.ontarget.generations import EnvironmentLocation
from offlinepack.ontarget.manifest import Facts, Manifest, Need, TargetPlan
from offlinepack.ontarget.preflight import MACHINE_CODES, SPARE_BYTES, DiskUsage, estimate_disk_usage, run_preflight
from offlinepack.ontarget.target_selection import filter_targets, find_mismatches, get_base_executable, select_target

LINUX = Facts("cpython", "3.11", False, "linux", "x86_64", "glibc", "2.28", None)
MACHINE: dict[str, Any] = {
    "implementation": "cpython", "python": "3.11.4", "free_threaded": False, "os": "linux", "machine": "x86_64", "bits": 64,
    "libc": "glibc", "libc_version": "2.31", "macos_version": None, "executable": "/usr/bin/python3.11", "prefix": "/usr",
    "base_prefix": "/usr", "has": {"venv": True, "ensurepip": False, "distutils": True, "pip": False},
}  # fmt: skip


def target(
    facts: Facts = LINUX, name: str = "debian12", tag: str = "cp311-manylinux_2_28_x86_64", least: str = "3.11"
) -> TargetPlan:
    return TargetPlan(name, tag, facts, least, None, None, (), (), ())


def machine(**changed: Any) -> dict[str, Any]:
    return {**MACHINE, **changed}


# ------------------------------------------------------------------------------------------------------------- match


@pytest.mark.parametrize(
    ("wanted", "here", "words"),
    [
        ({}, {}, []),
        ({}, {"python": "3.11.0"}, []),
        ({}, {"python": "3.12.1"}, ["it needs Python 3.11, this is Python 3.12"]),
        ({"python": "3.1"}, {}, ["it needs Python 3.1, this is Python 3.11"]),
        ({}, {"implementation": "pypy"}, ["it needs CPython, this is PyPy"]),
        ({}, {"free_threaded": True}, ["it needs not free-threaded, this is free-threaded"]),
        ({}, {"machine": "aarch64"}, ["it needs x86_64, this is aarch64"]),
        ({}, {"machine": "i686"}, ["it needs x86_64, this is i686"]),
        ({}, {"libc": "musl", "libc_version": "1.2"}, ["it needs glibc, this is musl"]),
        ({}, {"libc": None, "libc_version": None}, ["it needs glibc, this is ?"]),
        ({}, {"libc_version": "2.28"}, []),
        ({}, {"libc_version": "2.3"}, ["it needs glibc 2.28 or newer, this is 2.3"]),
        ({}, {"libc_version": "2.27"}, ["it needs glibc 2.28 or newer, this is 2.27"]),
        (
            {"os": "macos", "machine": "arm64", "libc": None, "libc_version": None, "macos_version": "11.0"},
            {"os": "macos", "machine": "arm64", "libc": None, "libc_version": None, "macos_version": "10.15"},
            ["it needs macOS 11.0 or newer, this is 10.15"],
        ),
        (
            {"os": "macos", "machine": "arm64", "libc": None, "libc_version": None, "macos_version": "11.0"},
            {"os": "macos", "machine": "arm64", "libc": None, "libc_version": None, "macos_version": "14.2"},
            [],
        ),
        (
            {"os": "windows", "machine": "amd64", "libc": None, "libc_version": None},
            {},
            ["it needs Windows, this is Linux", "it needs amd64, this is x86_64"],
        ),
    ],
)
def test_what_fits(wanted: dict[str, Any], here: dict[str, Any], words: list[str]) -> None:
    assert [str(one) for one in find_mismatches(target(LINUX._replace(**wanted)), machine(**here))] == words


def test_the_patch_release_that_a_file_needs() -> None:
    (why,) = find_mismatches(target(least="3.11.5"), machine())
    assert str(why) == "it needs Python 3.11.5 or newer, this is 3.11.4"


def manifest(*targets: TargetPlan) -> Manifest:
    return Manifest(1, "notes", "1.0", None, None, targets, ())


def test_a_target_is_asked_for_by_tag_or_by_name() -> None:
    old = target(LINUX._replace(libc_version="2.17"), "rhel7", "cp311-manylinux_2_17_x86_64")
    both = manifest(target(), old)
    assert filter_targets(both, None) == [target(), old]
    assert filter_targets(both, "rhel7") == filter_targets(both, old.tag) == [old]
    with pytest.raises(UsageError) as caught:
        filter_targets(both, "/srv/app/venv")
    assert "--venv" in caught.value.findings[0].render()
    with pytest.raises(UsageError) as caught:
        filter_targets(both, "debian13")
    assert "cp311-manylinux_2_17_x86_64" in caught.value.findings[0].render()


def test_the_first_target_that_fits_the_first_python_that_fits() -> None:
    new, old = target(LINUX._replace(libc_version="2.36")), target(LINUX._replace(libc_version="2.17"), tag="cp311-old")
    chosen = select_target([new, old], iter([machine(python="3.9.2"), machine()]))
    assert chosen.target == old and chosen.facts["python"] == "3.11.4"


def test_without_a_fitting_target_all_findings_are_reported() -> None:
    found: Iterator[dict[str, Any]] = iter([machine(python="3.9.2"), machine(machine="aarch64", executable="/opt/p")])
    with pytest.raises(MachineError) as caught:
        select_target([target()], found)
    assert caught.value.exit_code == 10
    said = [one.render() for one in caught.value.findings]
    assert "CPython 3.11" in said[0] and "cp311-manylinux_2_28_x86_64" in said[0]
    assert "3.9.2" in said[1] and "/opt/p" in said[2]


def test_a_virtual_environment_s_interpreter_is_that_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3.11").touch()
    inside = machine(prefix="/srv/venv.d/0123456789ab", base_prefix=str(tmp_path), executable="/srv/venv/bin/python")
    assert get_base_executable(inside) == str(tmp_path / "bin" / "python3.11")
    (tmp_path / "python3").symlink_to("bin/python3.11")
    assert get_base_executable(machine(executable=str(tmp_path / "python3"))) == str(tmp_path / "bin" / "python3.11")


# --------------------------------------------------------------------------------------------------------- preflight


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing to say of itself."""
    monkeypatch.setattr(preflight, "read_system_file", lambda _: b"")
    monkeypatch.setattr(os, "umask", lambda _: 0o22)


SMALL = DiskUsage(1 << 20, 1 << 20, 100, 40, SPARE_BYTES)


def codes(
    place: EnvironmentLocation, room: DiskUsage = SMALL, needs: tuple[Need, ...] = (), **changed: Any
) -> dict[str, str]:
    return {one.code: one.render() for one in run_preflight(place, room, machine(**changed), needs)}


@pytest.mark.usefixtures("quiet")
def test_nothing_to_say(tmp_path: Path) -> None:
    assert codes(EnvironmentLocation(str(tmp_path / "a" / "b" / "venv"), False)) == {}


def disk(monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    values = {"f_bavail": 10**6, "f_frsize": 4096, "f_files": 10**6, "f_favail": 10**6, "f_flag": 0, **changed}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**values))


@pytest.mark.usefixtures("quiet")
def test_a_full_disk_is_reported_with_all_other_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, f_bavail=1000, f_favail=50, f_flag=8)
    found = codes(EnvironmentLocation(str(tmp_path / "venv"), False), has={**MACHINE["has"], "venv": False})
    assert set(found) == {"disk-full", "no-inodes", "noexec", "no-venv"}
    assert " MB free" in found["disk-full"] and " MB of bytecode" in found["disk-full"]
    assert "python3.11-venv" in found["no-venv"]


@pytest.mark.usefixtures("quiet")
def test_nothing_is_measured_where_nothing_will_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, f_bavail=0)
    assert codes(EnvironmentLocation(str(tmp_path / "venv"), False), room=DiskUsage(0, 0, 0, 0, 0)) == {}


@pytest.mark.usefixtures("quiet")
def test_a_file_system_that_does_not_count_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, f_files=0, f_favail=0)
    assert codes(EnvironmentLocation(str(tmp_path / "venv"), False)) == {}


@pytest.mark.usefixtures("quiet")
def test_a_place_that_cannot_be_written_and_one_that_could(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path / "theirs")
    monkeypatch.setattr(os, "access", lambda path, _: "mine" in str(path))
    found = codes(EnvironmentLocation(str(tmp_path / "theirs" / "venv"), False))
    assert str(tmp_path / "theirs") in found["not-writable"]
    assert f"--venv {tmp_path}/mine/venv" in found["not-writable"]


def test_what_the_system_is_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/self/mounts": f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path}/us\\040b vfat rw 0 0\n",
        "/sys/fs/selinux/enforce": "1",
    }
    (tmp_path / "us b").mkdir()
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path in (*texts, "/run/fapolicyd") or exists(path))
    monkeypatch.setattr(preflight, "read_system_file", lambda path: texts.get(path, "").encode())
    monkeypatch.setattr(os, "umask", lambda _: 0o77)
    found = codes(EnvironmentLocation(str(tmp_path / "us b" / "venv"), False))
    assert set(found) == {"fat", "selinux", "fapolicyd", "umask"}
    assert "vfat" in found["fat"]
    assert f"restorecon -R {tmp_path}/us b/venv" in found["selinux"]
    assert "fapolicyd-cli" in found["fapolicyd"]
    assert "077" in found["umask"]
    assert "fat" not in codes(EnvironmentLocation(str(tmp_path / "venv"), False)), "the next folder is another disk"


@pytest.mark.usefixtures("quiet")
def test_shared_libraries_and_their_symbol_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libstdc++.so.6.0.25"
    library.write_bytes(b"\0GLIBCXX_3.4.25\0CXXABI_1.3\0")
    monkeypatch.setattr(preflight, "find_libraries", lambda _: {"libstdc++.so.6": str(library)})
    monkeypatch.setattr(preflight, "_find_loadable", lambda _, names: [one for one in names if one == "libmine.so"])
    needs = (Need("libstdc++.so.6", ("GLIBCXX_3.4.25",), ("stone",), None), Need("libmine.so", (), ("stone",), None))
    assert codes(EnvironmentLocation(str(tmp_path / "venv"), False), needs=needs) == {}
    needs = (
        Need("libGL.so.1", (), ("opencv-python", "vtk"), "apt install libgl1"),
        Need("libstdc++.so.6", ("GLIBCXX_3.4.25", "GLIBCXX_3.4.2", "GLIBCXX_3.4.29"), ("stone",), None),
    )
    found = codes(EnvironmentLocation(str(tmp_path / "venv"), False), needs=needs)
    assert set(found) == {"library-missing", "symbol-missing"} <= set(MACHINE_CODES)
    assert "libGL.so.1" in found["library-missing"] and "opencv-python, vtk" in found["library-missing"]
    assert found["library-missing"].endswith("apt install libgl1")
    assert "GLIBCXX_3.4.2, GLIBCXX_3.4.29" in found["symbol-missing"]


def test_sizes_are_those_of_the_unpacked_files() -> None:
    wheels = [[("a/x.py", 1), ("a/b/y.so", 5000), ("a/b/z.py", 4096)]]
    room = estimate_disk_usage(wheels, 0, True)
    assert room == DiskUsage(4096 * 4, 4096 * 2, 5 + 4, len("a/b/z.py") + 25, SPARE_BYTES)
    assert estimate_disk_usage(wheels, 0, False) == DiskUsage(4096 * 4, 0, 3 + 2, 8, SPARE_BYTES)
    assert estimate_disk_usage([], 1000, True).file_bytes == 8000


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (999, "999 B"), (16 << 20, "16.8 MB"), (168 << 20, "176 MB"), (2.5e9, "2.5 GB")])
def test_sizes_in_words(count: float, words: str) -> None:
    assert format_size(count) == words
