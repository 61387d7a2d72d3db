"""What binaries want: the ELF reader, what is inside the set, what is certain, what the target's system has to bring."""

from __future__ import annotations

import hashlib
import re
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offlinepack.errors import IntegrityError
from offlinepack.native import files
from offlinepack.native.files import EntryReader, read_binary_file
from offlinepack.native.imports import _list_imports
from offlinepack.native.needs import Needs, _load_libraries, find_install_command, find_needs, read_wheel_binaries
from offlinepack.ontarget.archive import ZipArchive
from offlinepack.store import Store, StoredFile
from offlinepack.targets.catalogue import load_catalogue
from offlinepack.targets.model import Target
from offlinepack.targets.parse import combine_targets, make_target_from_facts
from tests.support.extensions import (
    AARCH64,
    EXTENSION,
    I386,
    S390X,
    X86_64,
    make_elf,
    make_macho,
    make_pe,
    make_universal,
    module,
)

from ..support.making import make_wheel


@pytest.fixture
def target() -> Target:
    return combine_targets(names=["debian12"])[0]


class Shelf:
    """Wheels of a test, as needs() takes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels: dict[str, StoredFile] = {}

    def put(
        self,
        name: str,
        files: Mapping[str, str | bytes],
        tag: str = "cp311-cp311-manylinux_2_17_x86_64",
        **named: object,
    ) -> None:
        path = make_wheel(self.folder, name, tag=tag, files=files, **named)  # type: ignore[arg-type]
        self.wheels[name] = StoredFile(
            path.name, path, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "wheels")


@pytest.mark.parametrize("machine, name", [(X86_64, "x86_64"), (AARCH64, "aarch64"), (I386, "i686"), (S390X, "s390x")])
def test_an_elf_file_says_what_it_wants(tmp_path: Path, machine: tuple[int, int, str], name: str) -> None:
    path = tmp_path / "libstone.so"
    data = make_elf(
        ["libc.so.6", "libpq.so.5"],
        soname="libstone.so.1",
        versions={"libc.so.6": ["GLIBC_2.17", "GLIBC_2.34"], "libpq.so.5": ["PQ_1"]},
        search="$ORIGIN/../stone.libs:/opt/lib",
        machine=machine,
    )
    path.write_bytes(data)
    found = read_binary_file(path)
    assert found is not None
    assert found.machine == name
    assert found.soname == "libstone.so.1"
    assert found.needed_libraries == ("libc.so.6", "libpq.so.5")
    assert found.symbol_versions == (("libc.so.6", ("GLIBC_2.17", "GLIBC_2.34")), ("libpq.so.5", ("PQ_1",)))
    assert found.search_paths == ("$ORIGIN/../stone.libs", "/opt/lib")


def _real_libraries() -> list[Path]:
    folders = [
        Path(sys.base_prefix, "lib"),
        *Path("/usr/lib").glob("*-linux-gnu"),
        *Path(sys.base_prefix, "lib").glob("python*/lib-dynload"),
    ]
    return [one for folder in folders for one in sorted(folder.glob("*.so*"))[:12] if one.is_file()]


@pytest.mark.skipif(sys.platform != "linux", reason="the libraries of a Linux system are compared")
def test_the_reader_says_what_pyelftools_says() -> None:
    compared = 0
    for path in _real_libraries():
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
            other = ELFFile(file)
            dynamic = [
                tag
                for segment in other.iter_segments()
                if isinstance(segment, DynamicSegment)
                for tag in segment.iter_tags()
            ]
            section = other.get_section_by_name(".gnu.version_r")
            versions = {
                library.name: tuple(sorted({one.name for one in wanted}))
                for library, wanted in (section.iter_versions() if section else ())
            }
        ours = read_binary_file(path)
        assert ours is not None
        assert ours.needed_libraries == tuple(tag.needed for tag in dynamic if tag.entry.d_tag == "DT_NEEDED"), path
        assert ours.soname == next((tag.soname for tag in dynamic if tag.entry.d_tag == "DT_SONAME"), ""), path
        assert dict(ours.symbol_versions) == versions, path
        compared += 1
    assert compared > 10


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(4, 700), value=st.binary(min_size=1, max_size=8), cut=st.integers(0, 400))
def test_a_damaged_file_is_passed_over(tmp_path: Path, at: int, value: bytes, cut: int) -> None:
    whole = bytearray(make_elf(["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.17"]}, soname="x", search="$ORIGIN"))
    whole[at : at + len(value)] = value
    path = tmp_path / "damaged.so"
    path.write_bytes(bytes(whole[: max(len(whole) - cut, 8)]))
    read_binary_file(path)  # says something or nothing, and ends


def test_a_table_without_an_end_is_left(tmp_path: Path) -> None:
    data = bytearray(make_elf(["libc.so.6"], versions={"libc.so.6": ["GLIBC_2.17"]}))
    at = data.index(struct.pack("<q", 0x6FFFFFFF))
    data[at + 8 : at + 16] = struct.pack("<Q", 1 << 60)
    path = tmp_path / "endless.so"
    path.write_bytes(data)
    assert read_binary_file(path) is None


def test_what_the_set_and_the_c_library_bring_is_no_need(shelf: Shelf, target: Target) -> None:
    shelf.put(
        "stone",
        {
            "stone/__init__.py": "from stone import _stone\n",
            f"stone/_stone.{EXTENSION}": module(
                "_stone",
                "libc.so.6",
                "ld-linux-x86-64.so.2",
                "libinner-1a2b.so.1",
                "libfar.so.2",
                search="$ORIGIN/../stone.libs:$ORIGIN/../far/lib",
            ),
            "stone.libs/libinner-1a2b.so.1": make_elf(["libc.so.6"], soname="libinner-1a2b.so.1"),
        },
    )
    shelf.put("far", {"far/lib/libfar.so.2": make_elf(soname="libfar.so.2")}, tag="py3-none-manylinux_2_17_x86_64")
    found = find_needs(shelf.wheels, target)
    assert (found.needs, found.findings) == ((), ())


def test_what_remains_is_a_need_with_the_newest_symbols_and_the_package(shelf: Shelf, target: Target) -> None:
    wanted = {
        "libstdc++.so.6": ["GLIBCXX_3.4", "GLIBCXX_3.4.21", "GLIBCXX_3.4.9", "CXXABI_1.3"],
        "libc.so.6": ["GLIBC_2.14"],
    }
    shelf.put(
        "stone", {f"stone.{EXTENSION}": module("stone", "libGL.so.1", "libstdc++.so.6", "libc.so.6", versions=wanted)}
    )
    found = find_needs(shelf.wheels, target)
    assert [(one.soname, one.symbols, one.wanted_by, one.help) for one in found.needs] == [
        ("libGL.so.1", (), ("stone",), "apt install libgl1"),
        ("libstdc++.so.6", ("CXXABI_1.3", "GLIBCXX_3.4.21"), ("stone",), "apt install libstdc++6"),
    ]
    assert found.glibc_version == "2.14"
    # every server has the C++ runtime; libGL is worth a word
    assert [one.render() for one in found.findings] == [
        "stone needs libGL.so.1 of the target's own system. Install it there: apt install libgl1"
    ]


def test_a_library_of_a_library_is_a_need_too(shelf: Shelf, target: Target) -> None:
    shelf.put(
        "stone",
        {
            f"stone.{EXTENSION}": module("stone", "libinner.so.1", search="$ORIGIN/stone.libs"),
            "stone.libs/libinner.so.1": make_elf(["libodbc.so.2"]),
        },
    )
    assert [one.soname for one in find_needs(shelf.wheels, target).needs] == ["libodbc.so.2"]


INIT = {
    "at the margin": "from stone import _part\n",
    "by its module": "import stone._part\n",
    "relative": "from . import _part\n",
    "in brackets": "from . import (\n    other,  # why not\n    _part,\n)\n",
    "else": "if SETUP:\n    pass\nelse:\n    from . import _part\n",
    "raised again": "try:\n    from . import _part\nexcept ImportError as error:\n    raise ImportError('no') from error\n",
    "nested": "if SETUP:\n    pass\nelse:\n    try:\n        from . import _part\n    except ImportError:\n        raise\n",
}
NOT_AT_ONCE = {
    "never": "__version__ = '1'\n",
    "in a function": "def part():\n    from . import _part\n",
    "optional": "try:\n    from . import _part\nexcept ImportError:\n    _part = None\n",
    "on another system": "import sys\nif sys.platform == 'win32':\n    from . import _part\n",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import _part\n",
    "suppressed": "with contextlib.suppress(ImportError):\n    from . import _part\n",
    "in words": '"""How to use it::\n\n    from stone import _part\n"""\n',
}


@pytest.mark.parametrize(
    "text, certain",
    [(one, True) for one in INIT.values()] + [(one, False) for one in NOT_AT_ONCE.values()],
    ids=[*INIT, *NOT_AT_ONCE],
)
def test_a_need_is_what_an_import_certainly_loads(shelf: Shelf, target: Target, text: str, certain: bool) -> None:
    shelf.put(
        "stone",
        {"stone/__init__.py": text, "stone/other.py": "", f"stone/_part.{EXTENSION}": module("_part", "libtbb.so.12")},
    )
    found = find_needs(shelf.wheels, target)
    assert [one.soname for one in found.needs] == (["libtbb.so.12"] if certain else [])
    assert [one.code for one in found.findings] == (["library-needed"] if certain else ["library-optional"])


def test_modules_that_load_their_binary_in_their_own_way(shelf: Shelf, target: Target) -> None:
    shelf.put(
        "cv2",
        {
            "cv2/__init__.py": "import importlib\n\ndef bootstrap(): ...\n",
            "cv2/cv2.abi3.so": module("cv2", "libGL.so.1"),
        },
    )
    shelf.put(
        "light",
        {
            "light/__init__.py": "from .base import lib\n",
            "light/base.py": "import ctypes\n",
            "light/lib_light.so": make_elf(["libgomp.so.1"]),
        },
        tag="py3-none-manylinux_2_17_x86_64",
    )
    shelf.put(
        "plugins",
        {"plugins/__init__.py": "", "plugins/sql/libpg.so": make_elf(["libpq.so.5"])},
        tag="py3-none-manylinux_2_17_x86_64",
    )
    found = find_needs(shelf.wheels, target)
    assert [one.soname for one in found.needs] == ["libGL.so.1", "libgomp.so.1"]
    assert [one.subject for one in found.findings if one.code == "library-optional"] == ["plugins"]


def test_programs_are_started(shelf: Shelf, target: Target) -> None:
    program = make_elf(["libpython3.11.so.1.0"], program=True)
    shelf.put("uwsgi", {"uwsgidecorators.py": ""}, data={"scripts/uwsgi": program})
    shelf.put("moved", {"moved.py": ""}, data={"data/libexec/moved": program})
    shelf.put("carried", {"carried/__init__.py": "", "carried/bin/tool": make_elf(["libfoo.so.1"], program=True)})
    found = find_needs(shelf.wheels, target)
    assert [(one.soname, one.wanted_by, one.help) for one in found.needs] == [
        ("libpython3.11.so.1.0", ("moved", "uwsgi"), "apt install libpython3.11")
    ]


def test_files_for_other_machines_are_data(shelf: Shelf, target: Target) -> None:
    shelf.put("stone", {"stone/__init__.py": "", f"stone.{EXTENSION}": module("stone", "libfoo.so.1", machine=AARCH64)})
    assert find_needs(shelf.wheels, target).needs == ()
    arm = combine_targets(names=["debian12-aarch64"])[0]
    assert [one.soname for one in find_needs(shelf.wheels, arm).needs] == ["libfoo.so.1"]


def test_files_for_other_systems_are_data(shelf: Shelf, target: Target) -> None:
    attach = make_macho(["/opt/x/libfoo.dylib"], system=(15, 0), machine=0x01000007)
    shelf.put("stone", {"stone/__init__.py": "", "stone/attach.dylib": attach}, tag="py3-none-any")
    assert find_needs(shelf.wheels, target) == Needs((), (), "")
    mac = combine_targets(names=["macos14-x86_64:3.11"])[0]
    assert [(one.level, one.code) for one in find_needs(shelf.wheels, mac).findings] == [
        ("note", "macos-too-old"),
        ("note", "library-optional"),
    ]


def test_of_two_dlls_of_one_name_the_complete_one_counts(shelf: Shelf) -> None:
    files = {
        "stone/__init__.py": "from . import _part\n",
        "stone/_part.cp311-win_amd64.pyd": make_pe(["inner.dll"]),
        "stone/inner.dll": make_pe(["outer.dll"]),
        "stone.libs/inner.dll": make_pe(["outer-0123.dll"]),
        "stone.libs/outer-0123.dll": make_pe(["kernel32.dll"]),
    }
    shelf.put("stone", files, tag="cp311-cp311-win_amd64")
    assert find_needs(shelf.wheels, combine_targets(names=["windows:3.11"])[0]).needs == ()


def test_pure_wheels_have_no_needs(shelf: Shelf) -> None:
    shelf.put("stone", {"stone.py": ""}, tag="py3-none-any")
    for name in ("windows:3.11", "macos14:3.11", "debian12"):
        assert find_needs(shelf.wheels, combine_targets(names=[name])[0]) == Needs((), (), "")


def test_a_windows_wheel_needs_the_runtime_that_python_does_not_bring(shelf: Shelf) -> None:
    imports = [
        "KERNEL32.dll",
        "api-ms-win-crt-runtime-l1-1-0.dll",
        "VCRUNTIME140.dll",
        "python311.dll",
        "MSVCP140.dll",
        "inner.dll",
    ]
    files = {
        "stone/__init__.py": "from . import _part\n",
        "stone/_part.cp311-win_amd64.pyd": make_pe(imports),
        "stone/Inner.dll": make_pe([]),
    }
    shelf.put("stone", {**files, "stone/t32.exe": make_pe(["nothing.dll"], machine=0x14C)}, tag="cp311-cp311-win_amd64")
    found = find_needs(shelf.wheels, combine_targets(names=["windows:3.11"])[0])
    assert [(one.soname, one.wanted_by, one.help) for one in found.needs] == [
        ("msvcp140.dll", ("stone",), "Microsoft Visual C++ Redistributable, version 14 (vc_redist)")
    ]


def test_a_mac_wheel_needs_what_another_package_manager_brings(shelf: Shelf) -> None:
    needed = [
        "/usr/lib/libSystem.B.dylib",
        "@loader_path/.dylibs/libinner.dylib",
        "/opt/homebrew/opt/libomp/lib/libomp.dylib",
    ]
    both = make_universal((0x01000007, make_macho([])), (0x0100000C, make_macho(needed, system=(12, 0))))
    files = {
        "stone/__init__.py": "import stone._part\n",
        "stone/_part.cpython-311-darwin.so": both,
        "stone/.dylibs/libinner.dylib": make_macho(needed[:1]),
    }
    shelf.put("stone", files, tag="cp311-cp311-macosx_11_0_universal2")
    found = find_needs(shelf.wheels, combine_targets(names=["macos11:3.11"])[0])
    assert [(one.soname, one.help) for one in found.needs] == [
        ("/opt/homebrew/opt/libomp/lib/libomp.dylib", "brew install libomp")
    ]
    assert [one.code for one in found.findings] == ["macos-too-old", "library-needed"]
    assert find_needs(shelf.wheels, combine_targets(names=["macos14-x86_64:3.11"])[0]).needs == ()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(2, 1200), value=st.binary(min_size=1, max_size=8), mac=st.booleans())
def test_damaged_files_of_other_systems_are_passed_over(tmp_path: Path, at: int, value: bytes, mac: bool) -> None:
    whole = bytearray(
        make_macho(["/usr/lib/libSystem.B.dylib", "@rpath/x"]) if mac else make_pe(["kernel32.dll", "x.dll"])
    )
    at %= len(whole)
    whole[at : at + len(value)] = value
    path = tmp_path / "damaged"
    path.write_bytes(bytes(whole))
    read_binary_file(path)


def test_the_probe_knows_what_is_there(shelf: Shelf, target: Target) -> None:
    versions = {"libstdc++.so.6": ["GLIBCXX_3.4.30"]}
    shelf.put("stone", {f"stone.{EXTENSION}": module("stone", "libodbc.so.2", "libstdc++.so.6", versions=versions)})
    probed = replace(
        target, probe_output={"sonames": ["libodbc.so.2", "libstdc++.so.6"], "symbols": {"GLIBCXX": "3.4.30"}}
    )
    assert find_needs(shelf.wheels, probed).findings == ()
    older = replace(target, probe_output={"sonames": ["libstdc++.so.6"], "symbols": {"GLIBCXX": "3.4.25"}})
    assert [(one.level, one.render()) for one in find_needs(shelf.wheels, older).findings] == [
        ("error", "stone needs libodbc.so.2, which debian12 lacks. Install it there: apt install libodbc2"),
        (
            "error",
            "stone needs GLIBCXX_3.4.30 of libstdc++.so.6, and the one of debian12 is older. Install it there: apt install libstdc++6",
        ),
    ]


@pytest.mark.parametrize("text, level", [("from . import _part\n", "error"), ("", "warning")])
def test_a_newer_c_library_than_the_target_has(shelf: Shelf, text: str, level: str) -> None:
    files = {
        "stone/__init__.py": text,
        f"stone/_part.{EXTENSION}": module("_part", "libc.so.6", versions={"libc.so.6": ["GLIBC_2.34"]}),
    }
    shelf.put("stone", files)
    old = combine_targets(names=["rhel8:3.11"])[0]
    found = find_needs(shelf.wheels, old).findings
    assert [(one.level, one.render()) for one in found] == [
        (
            level,
            f"stone: stone/_part.{EXTENSION} needs GLIBC_2.34, and rhel8:3.11 has glibc 2.28. "
            "Take an older version of stone, one that was made for older systems.",
        )
    ]


@pytest.mark.parametrize(
    "name, soname, help",
    [
        ("debian12", "libGL.so.1", "apt install libgl1"),
        ("ubuntu22.04", "libpq.so.5", "apt install libpq5"),
        ("debian11", "libodbc.so.2", "apt install libodbc1"),
        ("debian11", "libssl.so.3", None),
        ("debian13", "libmpi.so.40", "apt install libopenmpi40"),
        ("rhel8:3.11", "libssl.so.1.1", "dnf install openssl-libs"),
        ("rhel8:3.11", "libssl.so.3", "dnf install 'libssl.so.3()(64bit)'"),
        ("alpine3.20:3.12", "libGL.so.1", "apk add mesa-gl"),
        ("uos20:3.9", "libpython3.9.so.1.0", "apt install libpython3.9"),
        ("rhel9", "libGL.so.1", "dnf install mesa-libGL"),
        ("rocky8:3.11", "libmagic.so.1", "dnf install file-libs"),
        ("rhel7:3.9", "libodbc.so.2", "yum install unixODBC"),
        ("rhel9", "libunheardof.so.4", "dnf install 'libunheardof.so.4()(64bit)'"),
        ("kylin10:3.9", "libGL.so.1", "dnf install 'libGL.so.1()(64bit)'"),
        ("sles15:3.11", "libxml2.so.2", "zypper install 'libxml2.so.2()(64bit)'"),
        ("alpine3.20:3.12", "libpq.so.5", "apk add so:libpq.so.5"),
        ("cp311-manylinux_2_28_x86_64", "libGL.so.1", "apt install libgl1, or dnf install mesa-libGL"),
        ("cp311-musllinux_1_2_x86_64", "libffi.so.8", "apk add so:libffi.so.8"),
        ("debian12", "libunheardof.so.4", None),
    ],
)
def test_the_command_that_brings_a_library(name: str, soname: str, help: str | None) -> None:
    assert find_install_command(soname, combine_targets(names=[name])[0]) == help


def test_a_probed_machine_gets_its_own_install_command() -> None:
    facts = {**combine_targets(names=["rhel9:3.11"])[0].facts._asdict(), "spoken": "rhel9:3.11"}
    assert find_install_command("libGL.so.1", make_target_from_facts(facts)) == "dnf install mesa-libGL"


def test_the_table_of_libraries_is_well_formed() -> None:
    table = _load_libraries()
    assert len(table["library"]) >= 60
    kinds = {kind for one in table["managers"].values() for kind in one["packages"]}
    for soname, packages in table["library"].items():
        assert set(packages) <= kinds and any(packages.values()), soname
        assert all(name == name.strip() for name in packages.values()), soname
    for entry in load_catalogue():
        if entry.os == "linux":
            assert any(re.match(one["systems"], entry.name) for one in table["managers"].values()), entry.name


def test_a_wheel_is_looked_at_once(shelf: Shelf, target: Target, tmp_path: Path) -> None:
    shelf.put(
        "stone",
        {f"stone.{EXTENSION}": module("stone", "libpq.so.5", versions={"libpq.so.5": ["PQ_2"]}, search="$ORIGIN")},
    )
    store = Store(tmp_path / "store")
    first = find_needs(shelf.wheels, target, store)
    shelf.wheels["stone"].path.unlink()
    assert find_needs(shelf.wheels, target, store) == first


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_a_binary_is_read_a_window_at_a_time(
    shelf: Shelf, target: Target, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(files, "_BLOCK_SIZE", block)
    shelf.put("stone", {f"stone.{EXTENSION}": module("stone", "libpq.so.5")})
    assert [one.soname for one in find_needs(shelf.wheels, target).needs] == ["libpq.so.5"]


def test_any_slice_of_a_member_is_what_it_is_of_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BLOCK_SIZE", 100)
    content = b"".join(hashlib.sha256(b"%d" % one).digest() for one in range(100))
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", content)
    with path.open("rb") as source:
        entry = ZipArchive(source).read_entries(lambda *_: None)["data"]
        data = EntryReader(source, entry)
        for start, stop in [(0, 64), (3000, 3200), (10, 2000), (3199, 9999), (5000, 6000), (7, 7)]:
            assert data[start:stop] == content[start:stop]
        with pytest.raises(ValueError):
            for _ in range(100):
                assert data[3000:3100] + data[:10]
        assert EntryReader(source, entry)[0:] == content


def test_statements_are_read_in_linear_time() -> None:
    text = b"try:\n" + b"    \n" * 20000 + b"x = 1\n"
    assert list(_list_imports(text, "stone")) == []
    assert list(_list_imports(b"if x:\n" * 2000, "stone")) == []


def test_a_wheel_that_is_no_archive_is_an_error_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "stone-1.0-cp311-cp311-linux_x86_64.whl"
    path.write_bytes(b"no")
    with pytest.raises(IntegrityError):
        read_wheel_binaries(path)
