"""Sources and what becomes of them, as far as no build runs: logs explained, archives unpacked, interpreters compared."""

from __future__ import annotations

import fcntl
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from offlinepack.errors import SourceError
from offlinepack.interpreters.host import can_build_for
from offlinepack.ontarget.manifest import Facts
from offlinepack.sandbox import clean_environment
from offlinepack.sdist.failures import _find_packages, _load_table, explain_failure, get_last_lines
from offlinepack.sdist.repair import _pack_wheel
from offlinepack.sdist.source import open_work_folder, unpack_source
from offlinepack.store import StoredFile

from ..support.making import make_sdist, sha256_of


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root of a system with apt."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/apt").touch()
    return tmp_path


@pytest.mark.parametrize(
    "log, said",
    [
        ("stone.c:1:10: fatal error: Python.h: No such file or directory", "the header file Python.h is missing: apt install python3.11-dev"),
        ("x.c:3:10: fatal error: 'openssl/ssl.h' file not found", "the header file openssl/ssl.h is missing: apt install libssl-dev"),
        ("fatal error: libxml2/libxml/xpath.h: No such file or directory", "the header file libxml2/libxml/xpath.h is missing: apt install libxml2-dev libxslt1-dev"),
        ("fatal error: unheard/of.h: No such file or directory", "the header file unheard/of.h is missing"),
        ("error: command 'gcc' failed: No such file or directory", "the C compiler is missing: apt install build-essential"),
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory: 'x86_64-linux-gnu-gcc'", "the C compiler is missing: apt install build-essential"),
        ("/bin/sh: 1: gcc: not found", "the C compiler is missing: apt install build-essential"),
        ("[Errno 2] No such file or directory: 'gcc'", "the C compiler is missing: apt install build-essential"),
        ("gcc: fatal error: cannot execute 'cc1plus': execvp: No such file", "the C++ compiler is missing: apt install build-essential"),
        ("Error: pg_config executable not found.", "pg_config is missing: apt install libpq-dev"),
        ("Exception: Can not find valid pkg-config name.", "mysql_config is missing: apt install default-libmysqlclient-dev pkg-config"),
        ("Error: Please make sure the libxml2 and libxslt development packages are installed.", "xslt-config is missing: apt install libxml2-dev libxslt1-dev"),
        ("error: can't find Rust compiler", "cargo, Rust's package manager, is missing: apt install cargo"),
        ("/usr/bin/ld: cannot find -lpq: No such file or directory", "the library libpq is missing: apt install libpq-dev"),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "it wants to download something while it is built, and could not"),
        ("ModuleNotFoundError: No module named 'numpy'", "its build needs the module numpy and does not say so"),
        ("something else", "None"),
    ],
)  # fmt: skip
def test_a_log_says_what_would_help(log: str, said: str, system: Path) -> None:
    assert str(explain_failure(f"running\n{log}\nerror", "3.11", system)) == said


@pytest.mark.parametrize(
    "release, command",
    [
        ("ID=fedora", "dnf install libpq-devel"),
        ('ID_LIKE="suse opensuse"', "zypper install libpq-devel"),
        ("ID=alpine", "apk add postgresql-dev"),
    ],
)
def test_the_command_is_that_of_the_system(tmp_path: Path, release: str, command: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(release)
    assert str(explain_failure("pg_config: not found", "3.11", tmp_path)).endswith(": " + command)


def test_the_tables_are_well_formed() -> None:
    table = _load_table()
    for program in table["program"]:
        assert {"name", "pattern"} < set(program) and set(program) <= {"name", "pattern", "apt", "rpm", "apk"}
    for name, packages in table["header"].items():
        assert packages and set(packages) <= {"apt", "rpm", "apk"}, name
    for header in table["library"].values():
        assert _find_packages(header), header


def test_the_end_of_a_log_is_short() -> None:
    log = "\n".join(f"line {number}" for number in range(1000)) + "\n\n" + "x" * 5000 + "\r\n"
    lines = get_last_lines(log).splitlines()
    assert len(lines) == 20
    assert max(map(len, lines)) == 300


@pytest.mark.parametrize(
    "change, same",
    [
        ({}, True),
        ({"python": "3.11.9"}, True),
        ({"libc_version": "2.17"}, True),
        ({"python": "3.12"}, False),
        ({"free_threaded": True}, False),
        ({"machine": "aarch64"}, False),
        ({"libc": "musl"}, False),
        ({"implementation": "pypy"}, False),
        ({"os": "windows"}, False),
    ],
)
def test_which_interpreter_makes_wheels_for_a_target(change: dict[str, object], same: bool) -> None:
    wanted = Facts("cpython", "3.11", False, "linux", "x86_64", "glibc", "2.36", None)
    assert can_build_for(wanted._replace(**change), wanted) is same  # type: ignore[arg-type]


def test_a_build_sees_nothing_of_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "PATH": "/bin",
        "CFLAGS": "-O2",
        "PIP_INDEX_URL": "x",
        "PYTHONPATH": "x",
        "VIRTUAL_ENV": "x",
        "UV_INDEX": "x",
        "OFFLINEPACK_JOBS": "1",
        "HOME": "/h",
    }
    monkeypatch.setattr("os.environ", given)
    assert set(clean_environment()) == {"PATH", "CFLAGS", "HOME"}


def stored(path: Path) -> StoredFile:
    return StoredFile(path.name, path, path.stat().st_size, sha256_of(path))


def test_an_sdist_is_unpacked_with_its_time(tmp_path: Path) -> None:
    path = make_sdist(tmp_path, "stone")
    (tmp_path / "work").mkdir()
    folder, stamp = unpack_source(stored(path), tmp_path / "work", "stone")
    assert folder.name == "stone-1.0" and (folder / "pyproject.toml").is_file()
    assert stamp == 315532800


def test_a_zip_is_an_sdist_too(tmp_path: Path) -> None:
    path = tmp_path / "stone-1.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stone-1.0/setup.py", "")
    (tmp_path / "work").mkdir()
    folder, _ = unpack_source(stored(path), tmp_path / "work", "stone")
    assert (folder / "setup.py").is_file()


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "stone-1.0/../../escaped"])
def test_an_sdist_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "stone-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"no"))
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    try:
        unpack_source(stored(path), work, "stone")
    except SourceError as refused:
        assert refused.findings[0].code == "sdist-unreadable"
    assert not [one for one in tmp_path.rglob("escaped") if work not in one.parents]


def test_what_is_no_archive_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "stone-1.0.tar.gz"
    path.write_bytes(b"<html>")
    (tmp_path / "work").mkdir()
    with pytest.raises(SourceError) as caught:
        unpack_source(stored(path), tmp_path / "work", "stone-1.0.tar.gz")
    assert caught.value.exit_code == 3
    assert "stone-1.0.tar.gz is not a readable source distribution" in caught.value.findings[0].render()


def test_of_a_project_the_sources_alone_are_copied(tmp_path: Path) -> None:
    project = make_sdist(tmp_path / "project", "stone", unpacked=True)
    for path in (
        ".venv/bin/python",
        "own/pyvenv.cfg",
        "own/lib/x.py",
        "stone/__pycache__/x.pyc",
        "build/lib/stone/old.py",
        "build/notes.txt",
        "node_modules/x",
    ):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).touch()
    os.mkfifo(project / "pipe")
    before = sorted(project.rglob("*"))
    (tmp_path / "work").mkdir()
    folder, _ = unpack_source(project, tmp_path / "work", "stone")
    copied = {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()}
    assert copied == {"PKG-INFO", "backend/in_tree.py", "build/notes.txt", "pyproject.toml", "stone/__init__.py"}
    assert sorted(project.rglob("*")) == before


def test_the_place_of_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usual = tmp_path / "offlinepack-2d711642b726"  # of "x"
    (usual / "left" / "by").mkdir(parents=True)
    (usual / "left").chmod(0o500)
    with open_work_folder("x") as first:
        assert first == usual and [one.name for one in first.iterdir()] == ["tmp"]
        with open_work_folder("x") as second:  # the same source at the same time
            assert second != first
        assert (first / "tmp").is_dir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    usual.symlink_to(elsewhere)
    with open_work_folder("x") as third:
        assert third != usual
    assert sorted(one.name for one in tmp_path.iterdir()) == ["elsewhere", usual.name]
    assert not list(elsewhere.iterdir())


def test_a_place_that_another_process_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usual = tmp_path / "offlinepack-2d711642b726"
    (usual / "theirs").mkdir(parents=True)
    held = os.open(usual, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with open_work_folder("x") as work:
        assert work != usual
    assert (usual / "theirs").is_dir()
    os.close(held)


def test_a_packed_wheel_is_the_same_each_time(tmp_path: Path) -> None:
    made = []
    for number, mask in ((1, 0o022), (2, 0o077)):
        tree = tmp_path / f"tree{number}"
        before = os.umask(mask)
        for name in (
            "stone-1.0.dist-info/METADATA",
            "stone-1.0.dist-info/RECORD",
            "stone/b.py",
            "stone/a.py",
            "stone-1.0.data/scripts/run",
        ):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(name)
        (tree / "stone-1.0.data/scripts/run").chmod(0o755)
        os.umask(before)
        wheel = tmp_path / str(number) / "stone-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        _pack_wheel(tree, wheel, {"SOURCE_DATE_EPOCH": "0"})
        made.append(wheel.read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "1" / "stone-1.0-py3-none-any.whl") as archive:
        assert archive.namelist()[-1] == "stone-1.0.dist-info/RECORD"
        assert {one.external_attr >> 16 for one in archive.infolist() if one.filename.endswith("run")} == {0o100755}
        record = archive.read("stone-1.0.dist-info/RECORD").decode().splitlines()
    assert len(record) == 5 and record[-1] == "stone-1.0.dist-info/RECORD,,"
