"""The strict reader: legal oddities are taken, and what was read is what pip would read. Hostile ones: integration/test_hostile_wheel.py."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offlinepack.ontarget.destinations import find_clashes
from offlinepack.ontarget.errors import IntegrityError
from offlinepack.ontarget.wheel import check_contents, read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel, is_same_version
from tests.support.making import make_wheel, sha256_of


def rewrite(path: Path, change: Callable[[zipfile.ZipInfo, bytes], None] | None = None, **settings: int) -> Path:
    """The same members again, as another writer would store them."""
    with zipfile.ZipFile(path) as archive:
        members = [(one, archive.read(one)) for one in archive.infolist()]
    with zipfile.ZipFile(path, "w", **settings) as archive:  # type: ignore[arg-type]
        for entry, content in members:
            if change:
                change(entry, content)
            archive.writestr(entry, content)
    return path


def test_what_is_read(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        "Stone.Bridge",
        "1.0+local.1",
        tag="cp39.cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64",
        data={"scripts/run": "#!python\n", "headers/a.h": "", "data/etc/x.conf": "1"},
        entry_points={
            "console_scripts": {"stone": "stone_bridge:main [fast]"},
            "gui_scripts": {"gstone": "stone_bridge.ui:Main.run"},
        },
        executable=["stone_bridge/__init__.py"],
    )
    wheel = read_wheel(path, sha256=sha256_of(path))
    assert (wheel.name, wheel.version, wheel.dist_info) == (
        "stone-bridge",
        "1.0+local.1",
        "stone_bridge-1.0+local.1.dist-info",
    )
    assert len(wheel.tags) == 4 and wheel.tags[0] == "cp39-abi3-manylinux_2_17_x86_64"
    assert wheel.scripts == (("stone", "stone_bridge:main [fast]", False), ("gstone", "stone_bridge.ui:Main.run", True))
    placed = {(one.scheme, one.path): one for one in wheel.members}
    assert {
        ("scripts", "run"),
        ("headers", "a.h"),
        ("data", "etc/x.conf"),
        ("platlib", "stone_bridge/__init__.py"),
    } <= set(placed)
    assert placed["platlib", "stone_bridge/__init__.py"].is_executable and not placed["headers", "a.h"].is_executable
    assert b"Name: Stone.Bridge" in wheel.metadata
    assert check_contents(wheel) == []


def descriptors(entry: zipfile.ZipInfo, content: bytes) -> None:
    entry.flag_bits |= 8


class Unseekable:
    """zipfile writes data descriptors where it cannot go back."""

    def __init__(self, path: Path) -> None:
        self.out = path.open("wb")

    def write(self, data: bytes) -> int:
        return self.out.write(data)

    def flush(self) -> None:
        self.out.flush()


def test_data_descriptors(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "stone", size=3000)
    with zipfile.ZipFile(path) as archive:
        members = [(one, archive.read(one)) for one in archive.infolist()]
    stream = Unseekable(path)
    with zipfile.ZipFile(stream, "w") as archive:  # type: ignore[call-overload]
        for entry, content in members:
            archive.writestr(entry, content)
    stream.out.close()
    assert path.read_bytes().count(b"PK\x07\x08") == len(members)
    assert check_contents(read_wheel(path)) == []
    bare = path.read_bytes().replace(b"PK\x07\x08", b"")  # the signature is optional; the offsets move
    offsets, cut = [], 0
    for at in range(len(bare)):
        if bare[at : at + 4] == b"PK\x03\x04":
            offsets.append(at)
    start = bare.index(b"PK\x01\x02")
    body, at = bytearray(bare), start
    for offset in offsets:
        struct.pack_into("<I", body, at + 42, offset)
        at += 46 + sum(struct.unpack_from("<3H", body, at + 28))
    struct.pack_into("<I", body, len(body) - 6, start)
    del cut
    path.write_bytes(bytes(body))
    assert check_contents(read_wheel(path)) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_stored_folders_utf8_and_signatures(tmp_path: Path, method: int) -> None:
    path = make_wheel(tmp_path, "stone", files={"stone/数据.txt": "石", "stone/empty": "", 'stone/a b,c".txt': "x"})

    def stored(entry: zipfile.ZipInfo, _: bytes) -> None:
        entry.compress_type = method

    rewrite(path, stored)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("stone/"), b"")
        archive.writestr(zipfile.ZipInfo("stone/only/"), b"")
        archive.writestr("stone-1.0.dist-info/RECORD.jws", b"{}")
        archive.writestr("stone-1.0.dist-info/RECORD.p7s", b"p7")
    wheel = read_wheel(path)
    assert check_contents(wheel) == []
    assert {one.path for one in wheel.members} >= {"stone/数据.txt", "stone/empty", 'stone/a b,c".txt'}
    assert not any(one.path.endswith("/") for one in wheel.members)


def test_a_record_that_lists_folders(tmp_path: Path) -> None:
    """Some wheels have it so, and pip takes them; what is no folder of theirs is another matter."""
    empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    files = {"stone/a/b.py": "", "stone/__init__.py": ""}
    path = make_wheel(
        tmp_path, "stone", files=files, record=lambda rows: [["stone/", empty, "0"], ["stone/a/", "", ""], *rows]
    )
    assert check_contents(read_wheel(path)) == []
    for bad in ("moss/", "../", "/", "", "stone/__init__.py/", "stone/b/", "stone/a//", "./stone/", "stone/../stone/"):
        path = make_wheel(tmp_path, "stone", files=files, record=lambda rows, bad=bad: [[bad, "", ""], *rows])  # type: ignore[misc]
        with pytest.raises(IntegrityError, match="RECORD lists"):
            read_wheel(path)


def test_zip64_in_local_headers_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_wheel(tmp_path, "stone", size=2000)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 50)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    rewrite(path)
    assert b"PK\x06\x06" in path.read_bytes()
    assert check_contents(read_wheel(path)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.0", "1.0.0"),
        ("1.0-beta.1", "1.0b1"),
        ("v2024.01.02", "2024.1.2"),
        ("1.0.post1", "1.0-1"),
        ("1.0+ubuntu-1", "1.0+ubuntu.1"),
        ("1!2.0rc1.dev3", "1!2c1dev3"),
        ("1.0_1", "1.0.post1"),
        ("not-a-version", "not_a_version"),
    ],
)
def test_versions_are_compared_as_pep_440_does(one: str, other: str) -> None:
    assert is_same_version(one, other)
    assert not is_same_version(one, other + ".99" if "+" in other else other + "+x")


def test_record_may_repeat_a_row_lack_sizes_and_use_stronger_hashes(tmp_path: Path) -> None:
    import base64
    import hashlib

    digest = base64.urlsafe_b64encode(hashlib.sha512(b"x").digest()).rstrip(b"=").decode()

    def odd(rows: list[list[str]]) -> list[list[str]]:
        rows = [[name, f"sha512={digest}", ""] if name == "stone/x" else [name, kind, ""] for name, kind, _ in rows]
        return [*rows, rows[0]]

    path = make_wheel(tmp_path, "stone", files={"stone/__init__.py": "", "stone/x": "x"}, record=odd)
    assert check_contents(read_wheel(path)) == []


def test_record_of_a_wheel_for_windows_may_have_backslashes(tmp_path: Path) -> None:
    def odd(rows: list[list[str]]) -> list[list[str]]:
        return [[name.replace("/", "\\"), *rest] for name, *rest in rows]

    files = {"stone/__init__.py": "", "stone/grain/x.py": "x = 1\n"}
    wheel = read_wheel(make_wheel(tmp_path, "stone", tag="cp39-cp39-win_amd64", files=files, record=odd))
    assert b"stone\\grain\\x.py" in wheel.record and check_contents(wheel) == []
    assert all(one.digest for one in wheel.members if not one.name.endswith("/RECORD"))
    with pytest.raises(IntegrityError):
        read_wheel(make_wheel(tmp_path, "stone", files=files, record=odd))
    both = make_wheel(tmp_path / "both", "stone", tag="cp39-cp39-win_amd64", record=lambda rows: [*rows, *odd(rows)])
    with pytest.raises(IntegrityError):
        read_wheel(both)


def test_metadata_in_its_body_is_not_a_header(tmp_path: Path) -> None:
    wheel = read_wheel(
        make_wheel(
            tmp_path,
            "stone",
            dist_info={
                "METADATA": "Metadata-Version: 2.1\r\nname: stone\r\nVERSION:1.0\r\n\r\nName: moss\nVersion: 9\n"
            },
        )
    )
    assert (wheel.name, wheel.version) == ("stone", "1.0")


def test_pip_may_write_pip(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path,
        "pip",
        files={"pip/__init__.py": ""},
        entry_points={"console_scripts": {"pip": "pip:main", "pip3.11": "pip:main"}},
    )
    assert read_wheel(path).name == "pip"


def test_commands_that_merely_look_like_the_interpreter(tmp_path: Path) -> None:
    names = [
        "activate-global-python-argcomplete",
        "python-config-x",
        "pipx",
        "pip-compile",
        "ipython3",
        "pythonic",
        "py.test",
    ]
    path = make_wheel(tmp_path, "stone", entry_points={"console_scripts": dict.fromkeys(names, "stone:main")})
    assert len(read_wheel(path).scripts) == len(names)


def test_a_pth_is_named(tmp_path: Path) -> None:
    wheel = read_wheel(make_wheel(tmp_path, "stone", files={"stone.pth": "import sys", "stone/x.pth": ""}))
    assert [one.render() for one in wheel.notes] == [
        "stone-1.0-py3-none-any.whl: stone.pth runs at every start of Python."
    ]


def two(tmp_path: Path, mine: dict[str, str], theirs: dict[str, str], **more: object) -> list[CheckedWheel]:
    return [
        read_wheel(make_wheel(tmp_path, "stone", files=mine)),
        read_wheel(make_wheel(tmp_path, "moss", files=theirs, **more)),  # type: ignore[arg-type]
    ]


def levels(wheels: list[CheckedWheel], system: str = "linux") -> list[str]:
    return [one.level for one in find_clashes(wheels, system)]


def test_two_distributions_in_one_place(tmp_path: Path) -> None:
    assert levels(two(tmp_path, {"shared/__init__.py": ""}, {"shared/__init__.py": ""})) == ["note"]
    assert levels(two(tmp_path, {"shared/__init__.py": ""}, {"shared/__init__.py": "x"})) == ["error"]
    assert levels(two(tmp_path, {"a.py": ""}, {"A.py": ""})) == []
    assert levels(two(tmp_path, {"a.py": ""}, {"A.py": "x"}), "windows") == ["error"]
    assert levels(two(tmp_path, {"a.py": ""}, {}, data={"data/lib/python3.11/site-packages/a.py": "x"})) == ["error"]
    assert levels(two(tmp_path, {"a.py": ""}, {}, data={"purelib/a.py": "x"})) == ["error"]
    assert levels(two(tmp_path, {"a.py": ""}, {}, data={"headers/a.py": "x"})) == []


def test_two_distributions_with_one_command(tmp_path: Path) -> None:
    def command(name: str, reference: str) -> CheckedWheel:
        return read_wheel(make_wheel(tmp_path, name, entry_points={"console_scripts": {"run": reference}}))

    assert levels([command("stone", "a:b"), command("moss", "a:c")]) == ["error"]
    assert levels([command("stone", "a:b"), command("moss", "a:b")]) == ["note"]


def test_bytes_that_change_while_they_are_read(tmp_path: Path) -> None:
    """Not only the hash has to be right: what was read has to be of the bytes that were hashed."""
    from offlinepack.ontarget.archive import ZipArchive

    path = make_wheel(
        tmp_path, "stone", dist_info={"METADATA": "Metadata-Version: 2.1\nName: stone\nVersion: 1.0\n\nxxxx"}
    )
    good = path.read_bytes()
    with path.open("rb", buffering=0) as source:
        reading = ZipArchive(source)
        reading.read_entries(lambda *_: None)
        assert reading.compute_sha256() == sha256_of(path)
        reading.checked_ranges[0] = (reading.checked_ranges[0][0], b"x" + reading.checked_ranges[0][1][1:])
        assert reading.compute_sha256() == ""
    with pytest.raises(IntegrityError) as caught:
        read_wheel(path, sha256="0" * 64)
    assert [one.code for one in caught.value.findings] == ["wheel-hash"]
    assert path.read_bytes() == good


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_noticed_and_never_more_than_a_finding(tmp_path: Path, data: st.DataObject) -> None:
    path = make_wheel(tmp_path / "good", "stone", entry_points={"console_scripts": {"stone": "stone:main"}})
    good = path.read_bytes()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(bad) - 1))
        bad[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    damaged = tmp_path / path.name
    damaged.write_bytes(bytes(bad))
    try:
        wheel = read_wheel(damaged)
    except IntegrityError as found:
        assert found.findings and all(one.render() for one in found.findings)
    else:
        check_contents(wheel)
    if bytes(bad) != good:
        with pytest.raises(IntegrityError):
            read_wheel(damaged, sha256=sha256_of(path))
