"""build and lock as typed: what comes out, and for each way it can fail the exit code and the sentence."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.making import ServedIndex, free_port, make_wheel, serve_index

from .conftest import Ran

Run = Callable[..., Ran]
LINUX = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")


def leavings() -> set[str]:
    return set(os.listdir())


def manifest_of(bundle: Path) -> dict:  # type: ignore[type-arg]
    with tarfile.open(bundle) as tar:
        first = tar.next()
        assert first is not None and first.name.endswith("/manifest.json"), "the manifest is the first member"
        source = tar.extractfile(first)
        assert source is not None
        return json.load(source)  # type: ignore[no-any-return]


def test_a_bundle_holds_the_whole_format(index: ServedIndex, offlinepack: Run) -> None:
    done = offlinepack("build", "stone", *LINUX)
    assert done.code == 0, done.err
    bundle = Path("stone-offline.tar.gz")
    assert leavings() == {"stone-offline.tar.gz", "stone-offline.tar.gz.sha256"}
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert Path("stone-offline.tar.gz.sha256").read_text() == f"{digest}  stone-offline.tar.gz\n"
    assert digest in done.out and "python3 stone/install.py" in done.out
    found = manifest_of(bundle)
    (target,) = found["targets"]
    assert target["tag"] == "cp311-manylinux_2_28_x86_64"
    assert [one["name"] for one in target["install"]] == ["pebble", "stone"], "what is needed comes first"
    assert [one["requested"] for one in target["install"]] == [False, True]
    assert target["install"][1]["requires"] == ["pebble"]
    assert [one["name"] for one in target["tools"]] == ["pip"]
    with tarfile.open(bundle) as tar:
        names = {one.name.removeprefix("stone/") for one in tar}
        assert all(one.isreg() and (one.uid, one.gid, one.uname) == (0, 0, "") for one in tar)
    assert {
        "manifest.json",
        "SHA256SUMS",
        "README.txt",
        "README.zh.txt",
        "install.py",
        "install.sh",
        "install.cmd",
    } <= names
    assert {"pylock.cp311-manylinux_2_28_x86_64.toml", "requirements.cp311-manylinux_2_28_x86_64.txt"} <= names
    assert "wheels/stone-1.0-py3-none-any.whl" in names and "ontarget/manifest.py" in names
    assert names == {one["path"] for one in found["files"]} | {"manifest.json"}
    # the name of a private index is not disclosed to the target machine
    with tarfile.open(bundle) as tar:
        for one in tar:
            source = tar.extractfile(one)
            assert (source is not None and str(index.port).encode() not in source.read()) or one.name.endswith(".whl")


def test_the_same_input_gives_the_same_bytes(
    index: ServedIndex, offlinepack: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offlinepack("build", "stone", *LINUX, "-o", "one.tar.gz").code == 0
    old = os.umask(0o077)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    try:
        assert offlinepack("build", "stone", *LINUX, "-o", "two.tar.gz", "--offline").code == 0
    finally:
        os.umask(old)
    assert Path("one.tar.gz").read_bytes() == Path("two.tar.gz").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="another user by unshare")
def test_another_user_on_another_day_in_another_place_gets_the_same_bytes(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    (there := tmp_path / "other home" / "work").mkdir(parents=True)
    Path("notes.txt").write_text("read me\n")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    every = [*LINUX, "--python-version", python, "--target", "windows:3.12"]
    only = "boulder; sys_platform == 'linux' and python_version == '3.11'"
    assert offlinepack("lock", "stone", only, *every, "-d", "locks").code == 0
    what = [part for one in sorted(os.listdir("locks")) for part in ("-r", f"locks/{one}")]
    what += [*every, "--locked", "--include", "notes.txt=share/notes.txt", "--name", "notes", "--bytecode"]
    done = offlinepack("build", *what, "--rehearse", "-o", "one.tar.gz")
    assert done.code == 0, done.err
    for one in ("locks", "notes.txt"):
        subprocess.run(["cp", "-r", one, there], check=True)
    subprocess.run(["cp", "-r", tmp_path / "cache", tmp_path / "other home" / "cache"], check=True)
    later = (
        "import sys, time; real = time.time; time.time = lambda: real() + 400 * 86400\n"
        "time.time_ns = lambda: int(time.time() * 1e9); gm, local = time.gmtime, time.localtime\n"
        "time.gmtime = lambda at=None: gm(time.time() if at is None else at)\n"
        "time.localtime = lambda at=None: local(time.time() if at is None else at)\n"
        "from offlinepack.cli.main import main; main(sys.argv[1:])"
    )
    other = {"HOME": str(there.parent), "USER": "stone", "LOGNAME": "stone", "TZ": "Pacific/Auckland", "LC_ALL": "C"}
    other.update(LANG="zh_CN.UTF-8", PYTHONHASHSEED="7", OFFLINEPACK_CACHE_DIR=str(there.parent / "cache"))
    user = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    command = ["sh", "-c", 'umask 077; exec "$@"', "sh", sys.executable, "-c", later, "build", *what, "--rehearse"]
    run = subprocess.run(
        [*user, *command, "--offline", "-o", "two.tar.gz"],
        cwd=there,
        env={**os.environ, **other},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert Path("one.tar.gz").read_bytes() == (there / "two.tar.gz").read_bytes()


def test_the_default_target_is_this_python_with_the_floor_of_its_files(index: ServedIndex, offlinepack: Run) -> None:
    done = offlinepack("build", "stone", "--json")
    assert done.code == 0, done.err
    (target,) = done.json["targets"]
    assert target["tag"].endswith(("manylinux_2_17_x86_64", "manylinux_2_5_x86_64")) or not target["tag"].endswith(
        "_x86_64"
    )
    assert done.json["schema"] == 1 and done.json["ok"] is True
    assert done.json["sha256"] == hashlib.sha256(Path(done.json["bundle"]).read_bytes()).hexdigest()


def test_markers_are_the_targets_not_the_hosts(index: ServedIndex, offlinepack: Run) -> None:
    names = {}
    for target in ("windows:3.11", "debian12"):
        done = offlinepack("build", "granite", "--target", target, "--json", "-o", "b.tar.gz")
        assert done.code == 0, done.err
        names[target] = sorted(one["name"] for one in done.json["targets"][0]["packages"])
    assert names == {"windows:3.11": ["granite", "gravel"], "debian12": ["granite"]}


def test_dry_run_tells_sizes_and_writes_nothing(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    index.pep658 = True
    done = offlinepack("build", "stone", *LINUX, "--dry-run", "--json")
    assert done.code == 0, done.err
    assert not leavings()
    sizes = {one["name"]: one["size"] for one in done.json["files"]}
    assert sizes["stone-1.0-py3-none-any.whl"] == (tmp_path / "wheels" / "stone-1.0-py3-none-any.whl").stat().st_size
    assert done.json["size"] == sum(sizes.values())
    assert index.count("stone-1.0-py3-none-any.whl") <= 1, "at most its size was asked for"


def test_name_version_and_output_are_filled_in(index: ServedIndex, offlinepack: Run) -> None:
    done = offlinepack(
        "build", "stone", *LINUX, "--name", "My App", "--app-version", "1.2", "-o", "{name}_{version}_{target}.tar.gz"
    )
    assert done.code == 0, done.err
    assert "my-app_1.2_cp311-manylinux_2_28_x86_64.tar.gz" in leavings()
    assert manifest_of(Path("my-app_1.2_cp311-manylinux_2_28_x86_64.tar.gz"))["name"] == "my-app"
    assert offlinepack("build", "stone", *LINUX, "--app-version", "1.2").code == 0
    assert "stone-1.2-offline.tar.gz" in leavings()
    assert offlinepack("build", "stone", "pebble", *LINUX).code == 0
    assert "app-offline.tar.gz" in leavings()


def test_target_of_a_command_that_reads_a_bundle(index: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "stone", "--target", "debian12", "--target", "windows:3.12").code == 0
    for name in ("windows:3.12", "cp312-win_amd64"):
        (shown,) = offlinepack("inspect", "stone-offline.tar.gz", "--target", name, "--json").json["targets"]
        assert shown["tag"] == "cp312-win_amd64"
    for command in ("inspect", "rehearse", "install"):
        place = offlinepack(command, "stone-offline.tar.gz", "--target", "./here")
        assert place.code == 2 and "The place is --venv" in place.err
        other = offlinepack(command, "stone-offline.tar.gz", "--target", "rhel8")
        assert other.code == 2 and "windows:3.12 (cp312-win_amd64)" in other.err


def test_with_target_in_the_name_there_is_a_bundle_for_each_target(index: ServedIndex, offlinepack: Run) -> None:
    asked = ("boulder", "--target", "debian12", "--target", "rhel8:3.11", "--app-version", "1.2")
    done = offlinepack("build", *asked, "-o", "{name}-{version}-{target}.tar.gz", "--split", "1M", "--json")
    assert done.code == 0, done.err
    bundles = [Path(one["bundle"]) for one in done.json["bundles"]]
    assert [one.name for one in bundles] == [
        "boulder-1.2-cp311-manylinux_2_36_x86_64.tar.gz",
        "boulder-1.2-cp311-manylinux_2_28_x86_64.tar.gz",
    ]
    assert leavings() == {f"{one}{end}" for one in bundles for end in (".001", ".002", ".sha256")}, (
        "pip's wheel is larger than one part"
    )
    for one in bundles:
        assert subprocess.run(["sha256sum", "-c", f"{one}.sha256"], capture_output=True, check=False).returncode == 0
        assert offlinepack("verify", f"{one}.001").code == 0
    # a part of the other bundle, as long as the right one
    second = Path(f"{bundles[0]}.002")
    second.write_bytes(Path(f"{bundles[1]}.002").read_bytes())
    done = offlinepack("install", f"{bundles[0]}.001", "--venv", "there")
    assert done.code == 7 and second.name in done.err, done.err
    second.unlink()
    done = offlinepack("install", f"{bundles[0]}.001", "--venv", "there")
    assert done.code == 7 and second.name in done.err, done.err
    assert not Path("there").exists() and not Path("there.d").exists()


def test_lock_writes_a_pylock_and_nothing_else(index: ServedIndex, offlinepack: Run) -> None:
    from packaging.pylock import Pylock

    assert offlinepack("lock", "stone", *LINUX, "-o", "pylock.toml").code == 0
    assert leavings() == {"pylock.toml"}
    lock = Pylock.from_dict(tomllib.loads(Path("pylock.toml").read_text()))
    assert [one.name for one in lock.packages] == ["pebble", "stone"]
    assert offlinepack("lock", "stone", "--target", "debian12", "--target", "windows:3.12", "-d", "locks").code == 0
    assert sorted(os.listdir("locks")) == ["pylock.cp311-manylinux_2_36_x86_64.toml", "pylock.cp312-win_amd64.toml"]


def test_the_locks_of_several_targets_make_one_bundle(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    """Each target follows its own lock, with the pip of then; neither a new release nor a new pip changes a byte."""
    both = ("--target", "debian12", "--target", "windows:3.12")
    assert offlinepack("lock", "stone", *both, "-d", "locks").code == 0
    given = [part for name in sorted(os.listdir("locks")) for part in ("-r", f"locks/{name}")]
    assert offlinepack("build", "stone", *both, *given, "--locked", "-o", "a.tar.gz").code == 0
    index.add(make_wheel(tmp_path / "wheels", "pebble", "1.1"))
    index.add(make_wheel(tmp_path / "wheels", "pip", "99"))
    assert offlinepack("build", "stone", *both, *given, "--locked", "-o", "b.tar.gz").code == 0
    assert Path("a.tar.gz").read_bytes() == Path("b.tar.gz").read_bytes()
    done = offlinepack("build", *given, "--target", "rhel8:3.9")
    assert (done.code, done.err.count("The lock is for Python")) == (5, 2)
    Path("pylock.toml").write_bytes(Path(given[1]).read_bytes().replace(b"_36_", b"_99_"))
    done = offlinepack("build", "-r", "pylock.toml", *given, "--target", "debian11:3.11")
    assert (done.code, "2 of the locks" in done.err) == (3, True), done.err


def test_a_kept_lock_holds_until_something_else_is_asked(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    def packed(*more: str) -> tuple[str, bool]:
        done = offlinepack("build", "stone", *LINUX, *more, "--json")
        assert done.code == 0, done.err
        return done.json["sha256"], "lock-kept" in [one["code"] for one in done.json["findings"]]

    first = packed()
    assert packed("--lock-dir", "locks") == first
    index.add(make_wheel(tmp_path / "wheels", "pebble", "1.1"))
    assert packed("--lock-dir", "locks") == (first[0], True)
    newer = packed()
    assert newer[0] != first[0]
    assert packed("--lock-dir", "locks", "--pre") == newer
    (lock,) = Path("locks").iterdir()
    lock.write_text("not TOML")
    assert packed("--lock-dir", "locks") == newer
    assert 'version = "1.1"' in lock.read_text()
    del index.files["pebble-1.1-py3-none-any.whl"]
    done = offlinepack("build", "stone", *LINUX, "--lock-dir", "locks", "--no-cache")
    assert done.code == 6 and "remove locks" in done.err, "the advice says how to lock again"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 3, "nothing"),
        (("no-such-thing",), 4, "no-such-thing"),
        (("stone", "slate"), 4, "pebble"),
        (("stone==9",), 4, "stone"),
        (("stone ==",), 3, "argument 1"),
        (("stone", "--platform", "solaris_11_sparc", "--python-version", "3.11"), 2, "solaris"),
        (("stone", "--target", "debain12"), 2, "debian12"),
        (("stone", "--retries", "many"), 2, "retries"),
        (("stone", "--frobnicate"), 2, "--frobnicate"),
        (("-r", "missing.txt"), 3, "missing.txt"),
        (("stone", "-o", "no/such/folder/b.tar.gz"), 12, "no/such/folder"),
    ],
)
def test_what_can_be_wrong_has_its_code_and_sentence(
    arguments: tuple[str, ...], code: int, words: str, index: ServedIndex, offlinepack: Run
) -> None:
    done = offlinepack("build", *arguments)
    assert (done.code, words.lower() in done.err.lower()) == (code, True), done.err
    assert not leavings()
    answer = offlinepack("build", *arguments, "--json")
    if code != 2:
        assert answer.json["exit_code"] == code and answer.json["ok"] is False
        assert all({"code", "subject", "sentence", "advice", "level"} <= set(one) for one in answer.json["findings"])


def test_an_unwritable_folder_is_reported_before_any_request(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    for place, words in ((tmp_path / "no" / "{name}.tar.gz", "no folder"), (tmp_path, "is a folder")):
        done = offlinepack("build", "stone", "-o", place)
        assert done.code == 12 and words in done.err
    assert not index.requests


def test_every_bad_line_is_named_with_file_and_line(index: ServedIndex, offlinepack: Run) -> None:
    Path("requirements.txt").write_text("stone\nstone @@ 3\n# fine\n-r other.txt\n")
    Path("other.txt").write_text("\n\n=broken=\n")
    done = offlinepack("build", "-r", "requirements.txt")
    assert done.code == 3
    assert "requirements.txt:2" in done.err and "other.txt:3" in done.err
    assert leavings() == {"requirements.txt", "other.txt"}


def test_all_gaps_stand_in_one_list(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "wheels", "cliff", "1.0", tag="cp311-cp311-macosx_11_0_arm64"))
    done = offlinepack("build", "boulder", "cliff", "--target", "windows:3.11")
    assert done.code == 5, done.err
    assert "boulder" in done.err and "cliff" in done.err and "windows" in done.err
    assert not leavings()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 401}, 6),
        ({"status": 403}, 6),
        ({"status": 500}, 6),
        ({"body": b"<html><h1>Welcome to our hotel network</h1></html>", "status": 200}, 4),
        ({"hang": 30}, 6),
    ],
    ids=["401", "403", "500", "garbage", "silence"],
)
def test_an_index_that_misbehaves(fault: dict, code: int, index: ServedIndex, offlinepack: Run) -> None:  # type: ignore[type-arg]
    index.fault("stone", **fault)
    done = offlinepack("build", "stone", *LINUX, "--retries", "1", "--timeout", "1")
    assert done.code in (code, 6), done.err
    assert "stone" in done.err
    assert not leavings()


def test_files_of_one_target_come_while_another_is_being_locked(index: ServedIndex, offlinepack: Run) -> None:
    index.fault("late", status=404, hang=2)
    both = ("--platform", "manylinux_2_28_x86_64", "--platform", "win_amd64", "--python-version", "3.11")
    done = offlinepack("build", "stone", "late; sys_platform == 'win32'", *both)
    assert done.code == 4 and "late" in done.err
    sha256 = index.files["stone-1.0-py3-none-any.whl"].sha256
    assert (Path(os.environ["OFFLINEPACK_CACHE_DIR"]) / "store" / "files" / sha256[:2] / sha256).is_file()
    assert leavings() == set()


def test_an_index_that_does_not_answer_at_all(offlinepack: Run) -> None:
    done = offlinepack(
        "build", "stone", *LINUX, "-i", f"http://127.0.0.1:{free_port()}/simple/", "--retries", "0", "--timeout", "2"
    )
    assert done.code == 6, done.err
    assert not leavings()


def test_a_missing_and_an_altered_file_are_both_reported(index: ServedIndex, offlinepack: Run) -> None:
    index.pep658 = True
    index.fault("pebble-1.0-py3-none-any.whl", status=404)
    done = offlinepack("build", "stone", *LINUX, "--retries", "0")
    assert done.code == 6 and "pebble-1.0-py3-none-any.whl" in done.err
    index.faults.clear()
    index.fault("pebble-1.0-py3-none-any.whl", corrupt=True)
    done = offlinepack("build", "stone", *LINUX, "--retries", "0")
    assert done.code == 7 and "pebble-1.0-py3-none-any.whl" in done.err
    assert not leavings()


def test_a_disk_that_fills_while_packing_leaves_nothing(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.fail("a small file system is mounted for this: root is needed") if os.environ.get(
            "OFFLINEPACK_NO_SKIPS"
        ) else pytest.skip("a small file system is mounted for this: root is needed")
    index.add(make_wheel(tmp_path / "wheels", "heavy", "1.0", size=3_000_000))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        done = offlinepack("build", "heavy", *LINUX, "-o", small / "b.tar.gz")
        assert done.code == 12, done.err
        assert str(small / "b.tar.gz") in done.err
        assert not os.listdir(small)
    finally:
        subprocess.run(["umount", small], check=True)


def test_secrets_of_the_index_go_nowhere(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    index.auth = ("reader", "s3cr3t-token")
    done = offlinepack("build", "stone", *LINUX, "-i", index.with_credentials("reader", "s3cr3t-token"), "-v", "-v")
    assert done.code == 0, done.err
    assert "s3cr3t-token" not in done.out + done.err
    with tarfile.open("stone-offline.tar.gz") as tar:
        for one in tar:
            source = tar.extractfile(one)
            assert source is not None and b"s3cr3t-token" not in source.read()
    wrong = offlinepack("build", "stone", *LINUX, "-i", index.with_credentials("reader", "wr0ng-token"), "--no-cache")
    assert wrong.code == 6 and "wr0ng-token" not in wrong.err + wrong.out


def test_settings_come_from_the_file_and_from_the_environment(
    index: ServedIndex, offlinepack: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pyproject.toml").write_text(
        '[tool.offlinepack]\nrequirements = ["stone"]\ntargets = ["debian12"]\nname = "quarry"\n'
    )
    assert offlinepack("build").code == 0
    assert "quarry-offline.tar.gz" in leavings()
    monkeypatch.setenv("OFFLINEPACK_APP_VERSION", "7")
    assert offlinepack("build").code == 0
    assert "quarry-7-offline.tar.gz" in leavings()
    Path("pyproject.toml").write_text('[tool.offlinepack]\nnaem = "quarry"\n')
    done = offlinepack("build", "stone")
    assert done.code == 3 and "pyproject.toml:2" in done.err and "name" in done.err


def test_chinese_where_it_is_asked_for(index: ServedIndex, offlinepack: Run) -> None:
    done = offlinepack("build", "no-such-thing", *LINUX, "--lang", "zh")
    assert done.code == 4
    assert any("\u4e00" <= one <= "\u9fff" for one in done.err)


def test_included_files_lie_in_the_bundle_and_are_placed_where_it_was_said(
    index: ServedIndex, offlinepack: Run
) -> None:
    Path("static").mkdir()
    Path("static/a.css").write_text("body {}")
    Path("notes.conf").write_text("[app]")
    run = Path("run.sh")
    run.write_text("#!/bin/sh\n")
    run.chmod(0o755)
    asked = ("--include", "static=share/static", "--include", "run.sh=bin/run", "--include", "notes.conf")
    done = offlinepack("build", "stone", "--app-version", "1.2", *asked)
    assert done.code == 0, done.err
    listed = manifest_of(Path("stone-1.2-offline.tar.gz"))
    assert {"files/static/a.css", "files/run.sh", "files/notes.conf"} == {
        one["path"] for one in listed["files"] if one["kind"] == "included"
    }
    assert offlinepack("install", "stone-1.2-offline.tar.gz", "--venv", "there").code == 0
    assert Path("there/share/static/a.css").read_text() == "body {}"
    assert os.access("there/bin/run", os.X_OK) and not Path("there/notes.conf").exists()
    assert subprocess.run(["there/bin/stone"], capture_output=True, text=True, check=True).stdout == "stone 1.0\n"


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (("nowhere",), 2, "nowhere"),
        (("notes.conf=../up",), 2, "../up"),
        (("notes.conf=/etc/x",), 2, "/etc/x"),
        (("notes.conf=a", "other.conf=a"), 2, "other.conf"),
        (("notes.conf=pyvenv.cfg",), 7, "pyvenv.cfg"),
        (("notes.conf=bin/python3",), 7, "bin/python3"),
    ],
)
def test_what_may_not_be_included(
    asked: tuple[str, ...], code: int, words: str, index: ServedIndex, offlinepack: Run
) -> None:
    Path("notes.conf").write_text("x")
    Path("other.conf").write_text("y")
    before = leavings()
    done = offlinepack("build", "stone", *LINUX, *(part for one in asked for part in ("--include", one)))
    assert (done.code, words in done.err) == (code, True), done.err
    assert leavings() == before


def test_a_bundle_in_parts_and_a_signed_one(index: ServedIndex, offlinepack: Run) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"], check=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "other"], check=True)
    done = offlinepack("build", "stone", *LINUX, "--sign", "key", "--split", "1M")
    assert done.code == 0, done.err
    assert "cat stone-offline.tar.gz.[0-9]* | tar -xz" in done.out
    assert Path("stone-offline.tar.gz.002").exists() and not Path("stone-offline.tar.gz").exists()
    good = offlinepack("verify", "stone-offline.tar.gz.001", "--verify-key", "key.pub", "--json")
    assert good.code == 0 and good.json["signed_by"]
    assert offlinepack("verify", "stone-offline.tar.gz.001", "--verify-key", "other.pub").code == 7
    assert offlinepack("sign", "stone-offline.tar.gz", "--key", "other").code == 0
    both = ("--verify-key", "key.pub", "--verify-key", "other.pub")
    assert offlinepack("verify", "stone-offline.tar.gz", *both).code == 0
    assert "who packed it was not checked" in offlinepack("verify", "stone-offline.tar.gz").out
    Path("stone-offline.tar.gz.002").unlink()
    gone = offlinepack("verify", "stone-offline.tar.gz.001")
    assert gone.code in (7, 9) and ".002" in gone.err


def test_two_bundles_are_compared_and_joined(index: ServedIndex, offlinepack: Run) -> None:
    for target in ("debian12", "windows:3.12"):
        assert offlinepack("build", "stone", "--target", target, "-o", f"{target[:3]}.tar.gz").code == 0
    assert offlinepack("merge", "deb.tar.gz", "win.tar.gz", "-o", "both.tar.gz").code == 0
    assert offlinepack("merge", "win.tar.gz", "deb.tar.gz", "-o", "turned.tar.gz").code == 0
    both = ("--target", "debian12", "--target", "windows:3.12")
    assert offlinepack("build", "stone", *both, "-o", "once.tar.gz").code == 0
    one, two, three = (Path(f"{name}.tar.gz").read_bytes() for name in ("both", "turned", "once"))
    assert one == two == three, "joined, in whatever order, it is what one build makes"
    assert len(manifest_of(Path("both.tar.gz"))["targets"]) == 2
    assert offlinepack("verify", "both.tar.gz").code == 0
    assert "0 of 2 changed" in offlinepack("diff", "deb.tar.gz", "deb.tar.gz").out
    rehearsed = offlinepack("rehearse", "both.tar.gz", "--json")
    assert rehearsed.code == 0, rehearsed.err
    assert [one["verdict"] for one in rehearsed.json["targets"]] == ["installs", "installs"]


def test_a_store_file_that_its_disk_altered_is_fetched_again(index: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "stone", *LINUX).code == 0
    first = Path("stone-offline.tar.gz").read_bytes()
    wheel = index.files["pebble-1.0-py3-none-any.whl"].path.read_bytes()
    digest = hashlib.sha256(wheel).hexdigest()
    (kept,) = Path(os.environ["OFFLINEPACK_CACHE_DIR"]).rglob(digest)
    status, damaged = kept.stat(), bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    kept.write_bytes(damaged)
    os.utime(kept, ns=(status.st_atime_ns, status.st_mtime_ns))
    offline = offlinepack("build", "stone", *LINUX, "--offline")
    assert offline.code == 6 and "pebble" in offline.err and "not in the store" in offline.err
    for asked in ("boulder", "boulder==1.0"):
        unread = offlinepack("build", asked, *LINUX, "--offline")
        assert unread.code == 6 and "--offline forbids" in unread.err
    kept.write_bytes(damaged)
    os.utime(kept, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = offlinepack("build", "stone", *LINUX)
    assert again.code == 0 and "were damaged; they were fetched again" in again.err
    assert Path("stone-offline.tar.gz").read_bytes() == first
    assert "damaged" not in offlinepack("build", "stone", *LINUX).err


@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_indexes_and_sources_of_the_settings(
    resolver: str, index: ServedIndex, offlinepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit index serves the project whose source it is, and no other; a path is beside the settings."""
    monkeypatch.delenv("OFFLINEPACK_INDEX_URL")
    make_wheel(tmp_path / "theirs", "pebble", "2.0")
    make_wheel(tmp_path / "theirs", "stone", "9.0")
    with serve_index(tmp_path / "other", sorted((tmp_path / "theirs").iterdir())) as other:
        project = Path("project")
        project.mkdir()
        (project / "offlinepack.toml").write_text(
            'requirements = ["stone"]\n'
            f'[[index]]\nname = "ours"\nurl = "{index.url}"\ndefault = true\n'
            f'[[index]]\nname = "theirs"\nurl = "{other.url}"\nexplicit = true\n'
            '[sources]\npebble = "theirs"\n'
        )
        done = offlinepack(
            "lock", "--config", "project/offlinepack.toml", *LINUX, "-o", "pylock.toml", "--resolver", resolver
        )
        assert done.code == 0, done.err
        found = {one["name"]: one["version"] for one in tomllib.loads(Path("pylock.toml").read_text())["packages"]}
        assert found == {"stone": "1.0", "pebble": "2.0"}
    (project / "offlinepack.toml").write_text('requirements = ["stone"]\nindex = "https://a.example"\nsources = []\n')
    done = offlinepack("lock", "--config", "project/offlinepack.toml", *LINUX)
    assert done.code == 3 and "offlinepack.toml:2" in done.err and "offlinepack.toml:3" in done.err


def test_what_merging_indexes_would_take_is_said_only_where_it_could(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "theirs", "pebble", "2.0")
    make_wheel(tmp_path / "theirs", "slate", "2.0")
    with serve_index(tmp_path / "other", sorted((tmp_path / "theirs").iterdir())) as other:
        more = ("--extra-index-url", other.url, *LINUX)
        done = offlinepack("build", "stone", *more)
        assert done.code == 0 and "pebble 1.0 is from the first index that has it" in done.err
        assert "would take 2.0" in done.err
        Path("constraints.txt").write_text("pebble<2\n")
        assert "first index" not in offlinepack("build", "stone", *more, "-c", "constraints.txt").err
        assert "first index" not in offlinepack("build", "stone", "pebble==1.0", *more).err
        index.add(make_wheel(tmp_path / "wheels", "basalt", "1.0", requires=["pebble<2"]))
        assert "first index" not in offlinepack("build", "basalt", *more).err


def test_a_mirror_without_a_pip_for_the_target_is_reported(offlinepack: Run, tmp_path: Path) -> None:
    wheels = [
        make_wheel(tmp_path / "wheels", "stone", "1.0"),
        make_wheel(tmp_path / "wheels", "pip", "30.0", requires_python=">=3.9"),
    ]
    with serve_index(tmp_path, wheels) as index:
        done = offlinepack("build", "stone", "-i", index.url, "--target", "cp37-manylinux_2_17_x86_64")
        assert done.code == 5, done.err
        assert "a pip that Python 3.7 admits" in done.err and "--find-links DIR" in done.err
        assert "argument 1" not in done.err
    with serve_index(tmp_path / "other", wheels[:1]) as index:
        done = offlinepack("build", "no-such-thing", "-i", index.url, *LINUX)
        assert done.code == 4 and "no-such-thing" in done.err and "a pip that Python 3.11 admits" in done.err


def test_versions_that_differ_between_targets(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "more", "boulder", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64"))
    index.add(make_wheel(tmp_path / "more", "boulder", "2.0", tag="cp312-cp312-manylinux_2_28_x86_64"))
    names = ["cp311-manylinux_2_17_x86_64", "cp311-manylinux_2_28_x86_64", "cp312-manylinux_2_34_x86_64"]
    built = offlinepack("build", "boulder", *(part for name in names for part in ("--target", name)))
    assert built.code == 0, built.err
    assert f"  boulder: 1.0 for {names[0]}, 2.0 elsewhere" in built.out
    assert f"boulder 1.0 was taken for {names[0]}; 2.0 has no wheel that fits there" in built.err
