"""install.py of bundles made by hand, run as a person runs it: real interpreters, real pip, no network, real faults."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.bundle.writer import write_bundle
from offlinepack.errors import Text
from offlinepack.launcher import run_installer
from offlinepack.ontarget.generations import EnvironmentLocation, lock_environment
from offlinepack.ontarget.manifest import Need
from tests.support.handmade import facts, make_bundle
from tests.support.making import make_wheel

from .conftest import pip_wheel

MAIN = {"console_scripts": {"app": "app:main"}}


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        assert self.out.startswith('{\n "schema": 1,')
        return json.loads(self.out)


def start(bundle: Path, *words: object, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(bundle / "install.py"), *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **variables})


def install(bundle: Path, *words: object, expect: int | None = 0, **variables: str) -> Done:
    child = start(bundle, *words, **variables)
    out, err = child.communicate(timeout=300)
    assert "Traceback" not in err.replace("    Traceback", "")
    assert expect is None or child.returncode == expect, err
    return Done(child.returncode, out, err)


def read_output(*command: object) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture
def bundle(tmp_path: Path, wheels: Path) -> Callable[..., Path]:
    """app of a version with stone, which it needs; more wheels, other facts."""

    def make(version: str = "1.0", *more: Path, **changed: Any) -> Path:
        stone = make_wheel(wheels, "stone", "1.0", entry_points={"console_scripts": {"stone": "stone:main"}})
        app = make_wheel(wheels, "app", version, requires=["stone"], entry_points=MAIN)
        changed.setdefault("requested", ["app"])
        return make_bundle(tmp_path / "media", [stone, app, *more], pip=pip_wheel(), version=version, **changed)

    return make


def files_below(folder: Path) -> dict[str, str]:
    return {str(one.relative_to(folder)): one.read_text("latin-1") for one in folder.rglob("*") if one.is_file()}


def site(venv: Path) -> Path:
    return next((venv / "lib").glob("python3*/site-packages"))


# -------------------------------------------------------------------------------------------------------- the journey


@pytest.mark.parametrize("engine", ["pip", "fast"])
def test_install_again_upgrade_rollback(bundle: Callable[..., Path], tmp_path: Path, engine: str) -> None:
    one, two, venv = bundle("1.0", sequence=1), bundle("2.0", sequence=2), tmp_path / "srv" / "venv"
    before = files_below(one)
    first = install(one, "--venv", venv, "--engine", engine, "--json")
    assert first.err.splitlines()[0] == f"Installing notes-1.0 into {venv}."
    assert first.json["changed"] and first.json["ok"] and first.json["exit_code"] == 0
    assert [(row["name"], row["state"]) for row in first.json["distributions"] if row["name"] != "pip"] == [
        ("stone", "installed"),
        ("app", "installed"),
    ]
    assert read_output(venv / "bin" / "app") == "app 1.0"
    assert files_below(one) == before, "nothing is written into the bundle"
    assert sorted(os.listdir(tmp_path / "srv")) == ["venv", "venv.d"], "nothing lies beside the two"
    kept = {"lock", "logs", "offlinepack.pyz", "reports", "state.json", "work", first.json["generation"]}
    assert set(os.listdir(f"{venv}.d")) == kept
    assert os.listdir(f"{venv}.d/work") == []
    requested = {one.parent.name for one in site(venv).glob("*/REQUESTED")}
    assert requested == {"app-1.0.dist-info"}
    assert not list(site(venv).glob("*/direct_url.json"))

    again = install(one, "--venv", venv, "--engine", engine, "--json")
    assert again.json["changed"] is False and again.json["exit_code"] == 0

    second = install(two, "--venv", venv, "--engine", engine, "--json")
    engines = {row["name"]: row["engine"] for row in second.json["distributions"]}
    assert engines == {"pip": "linked", "stone": "linked", "app": engine}
    assert read_output(venv / "bin" / "app") == "app 2.0" and read_output(venv / "bin" / "stone") == "stone 1.0"
    assert second.json["generation"] in read_output("head", "-1", venv / "bin" / "stone")

    refused = install(one, "--venv", venv, expect=13)
    assert "--allow-downgrade" in refused.err and read_output(venv / "bin" / "app") == "app 2.0"

    subprocess.run(second.json["rollback"], shell=True, check=True, capture_output=True)
    assert read_output(venv / "bin" / "app") == "app 1.0"
    back = install(one, "--rollback", "--venv", venv)
    assert "from notes 1.0 to notes 2.0" in back.out
    listed = install(one, "--rollback", "--list", "--venv", venv).out
    assert "notes 1.0" in listed and "notes 2.0" in listed and "current" in listed
    install(one, "--venv", venv, "--allow-downgrade", "-q")
    assert read_output(venv / "bin" / "app") == "app 1.0"
    assert install(one, "--venv", venv, "--json").json["changed"] is False, "what is current is not refused"


def test_what_was_damaged_is_found_and_repaired(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one, two, venv = bundle("1.0"), bundle("2.0"), tmp_path / "venv"
    install(one, "--venv", venv)
    (site(venv) / "stone" / "__init__.py").write_text("broken")
    inspected = install(one, "--inspect", "--venv", venv, "--json").json
    assert list(inspected["altered"]) == ["stone"]
    done = install(one, "--venv", venv, "--json")
    repaired = done.json
    assert "Altered since: stone" in done.err and list(repaired["altered"]) == ["stone"]
    assert [row["name"] for row in repaired["distributions"] if row["attempts"]] == ["stone"] and repaired["changed"]
    assert read_output(venv / "bin" / "stone") == "stone 1.0"
    (venv / "bin" / "python").unlink()
    assert install(one, "--venv", venv, "--json").json["changed"]
    assert read_output(venv / "bin" / "stone") == "stone 1.0"
    # an edited file is not carried over into the next release, and not gone back to
    (site(venv) / "stone" / "__init__.py").write_text("broken")
    engines = {row["name"]: row["engine"] for row in install(two, "--venv", venv, "--json").json["distributions"]}
    assert engines["stone"] != "linked" and read_output(venv / "bin" / "stone") == "stone 1.0"
    refused = install(two, "--rollback", "--venv", venv, expect=7)
    assert "stone" in refused.err and read_output(venv / "bin" / "app") == "app 2.0"
    kept = [json.loads(path.read_text()) for path in sorted(Path(f"{venv}.d/reports").iterdir())]
    assert [one["command"] for one in kept] == ["install"] * 4 + ["rollback"], "each run has a report of its own"
    assert kept[-1]["exit_code"] == 7


@pytest.mark.parametrize("engine", ["fast", "pip"])
def test_what_the_environment_itself_lost_is_made_again(
    bundle: Callable[..., Path], tmp_path: Path, engine: str
) -> None:
    one, venv = bundle("1.0"), tmp_path / "venv"
    install(one, "--venv", venv)
    for lost in ("bin/activate", "bin/python3", "bin/python", "pyvenv.cfg"):
        (venv / lost).unlink()
        state = install(one, "--venv", venv, "--inspect", "--json").json
        assert str(venv.resolve() / lost) in state["altered"]["python"]
        assert install(one, "--venv", venv, "--json").json["changed"], lost
        assert (venv / lost).exists()
    # without it, the environment's interpreter would place what it gets among the system's own packages
    (venv / "pyvenv.cfg").unlink()
    (venv / "bin" / "stone").unlink()
    install(one, "--venv", venv, "--engine", engine)
    assert (venv / "bin" / "stone").exists()
    assert not install(one, "--venv", venv, "--inspect", "--json").json["altered"]


def test_the_program_beside_knows_its_environment(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one, two, venv = bundle("1.0"), bundle("2.0"), tmp_path / "venv"
    install(one, "--venv", venv)
    install(two, "--venv", venv)
    shutil.rmtree(tmp_path / "media")
    program = (sys.executable, f"{venv}.d/offlinepack.pyz")
    first = read_output(*program, "rollback", "--list").splitlines()
    assert [" current" in one for one in sorted(first, key=lambda one: "1.0" in one)] == [True, False]
    assert "from notes 2.0 to notes 1.0" in read_output(*program, "rollback")
    assert read_output(venv / "bin" / "app") == "app 1.0"
    assert f"{venv}: notes 1.0, since" in read_output(*program, "inspect")
    former = next(line.split()[0] for line in first if "2.0" in line)
    python = Path(f"{venv}.d", former, "bin", "python")
    python.rename(python.with_name("gone"))
    refused = subprocess.run([*program, "rollback", "--to", former], capture_output=True, text=True)
    assert refused.returncode == 7 and "python is not as it was" in refused.stderr
    python.with_name("gone").rename(python)
    assert "to notes 2.0" in read_output(*program, "rollback", "--to", former)


def test_force_installs_again(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one, venv = bundle(), tmp_path / "venv"
    install(one, "--venv", venv)
    forced = install(one, "--venv", venv, "--force", "--json").json
    assert forced["changed"] and {row["name"] for row in forced["distributions"]} == {"pip", "stone", "app"}
    assert read_output(venv / "bin" / "app") == "app 1.0"


def test_without_a_word_about_engines_the_fast_one_installs(bundle: Callable[..., Path], tmp_path: Path) -> None:
    for at, words in enumerate([(), ("--engine", "auto")]):
        rows = install(bundle(), "--venv", tmp_path / str(at), *words, "--json").json["distributions"]
        assert {row["engine"] for row in rows} == {"fast"}


def test_a_dry_run_writes_nothing(bundle: Callable[..., Path], tmp_path: Path) -> None:
    done = install(bundle(), "--venv", tmp_path / "deep" / "venv", "--dry-run", "--json")
    assert done.json["changed"] is False and not (tmp_path / "deep").exists()


# --------------------------------------------------------------------------------------------------------- the places


def test_a_packed_bundle_is_unpacked_among_what_belongs_to_the_environment(
    bundle: Callable[..., Path], tmp_path: Path
) -> None:
    path = packed(bundle())
    venv, seen = tmp_path / "not yet" / "venv", set()

    def watch(_: Text, steps: Iterable[Any], *_more: Any) -> Iterator[Any]:
        for step in steps:
            seen.update(str(one.relative_to(tmp_path)) for one in tmp_path.glob("[!m]*/*/*"))
            yield step

    done = run_installer(path, ["--dry-run", "--venv", str(venv)], watch=watch, capture=True)
    assert done.returncode == 0, done.stderr
    assert seen == {"not yet/venv.d/work"}
    assert os.listdir(tmp_path) == ["media"]


def packed(folder: Path) -> Path:
    """The tar.gz of a bundle's folder."""
    opened = open_bundle(folder)
    path = folder.parent / f"{folder.name}.tar.gz"
    write_bundle(path, opened.manifest, opened.read_members())
    return path


def refused(archive: Path, place: Path, *words: object, expect: int) -> Any:
    """The program's report of a packed bundle that it does not even unpack."""
    before = place.stat().st_mtime_ns
    command = [sys.executable, "-m", "offlinepack", "install", archive, "--venv", place / "venv", "--report"]
    report = archive.parent / "report.json"
    command += [report, "--json", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == expect and "Traceback" not in done.stderr, done.stderr
    assert not os.listdir(place) and place.stat().st_mtime_ns == before, "nothing was ever written there"
    document = json.loads(report.read_text())
    assert done.stdout.startswith('{\n "schema": 1,') and json.loads(done.stdout) == document
    assert (expect == 2 or document["venv"] == str(place / "venv")) and "error: " in done.stderr
    assert document["exit_code"] == expect and not document["changed"] and all(one["sentence"] for one in document["findings"])
    return {one["code"]: one for one in document["findings"]}


def test_a_packed_bundle_for_another_machine_is_not_unpacked(bundle: Callable[..., Path], tmp_path: Path) -> None:
    place = tmp_path / "srv"
    place.mkdir()
    found = refused(packed(bundle(target={"machine": "s390x"})), place, expect=10)
    assert {"nothing-fits", "does-not-fit"} <= set(found)
    need = Need("libnowhere.so.7", (), ("app",), "apt install libnowhere7")
    assert "library-missing" in refused(packed(bundle(needs=[need])), place, expect=10)
    archive = packed(bundle())
    assert "no-such-target" in refused(archive, place, "--target", "debian99", expect=2)
    assert "no-python" in refused(archive, place, "--python", "/bin/true", expect=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_packed_bundle_that_is_too_large_for_the_disk_is_not_unpacked(
    bundle: Callable[..., Path], tmp_path: Path, wheels: Path
) -> None:
    place = tmp_path / "srv"
    place.mkdir()
    small = make_wheel(wheels, "small", files={"small.txt": "as good as nothing, packed\n" * (1 << 20)})
    large = make_wheel(wheels, "large", size=30 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=36m", "tmpfs", place], check=True)
    try:
        for one in (small, large):
            found = refused(packed(bundle("1.0", one)), place, expect=12)
            assert list(found) == ["disk-full"] and found["disk-full"]["subject"] == str(place)
    finally:
        subprocess.run(["umount", place], check=True)


def test_default_places(bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, there = bundle(), bundle(name="there", install_to=str(tmp_path / "there"))
    says = "Installing {} into {}."
    assert says.format("notes-1.0", tmp_path / ".venv") in install(here, "--dry-run").err
    assert says.format("there-1.0", tmp_path / "there") in install(there, "--dry-run", VIRTUAL_ENV="/active").err
    assert says.format("notes-1.0", "/active") in install(here, "--dry-run", VIRTUAL_ENV="/active").err
    place = tmp_path / "app"
    install(here, "--venv", place)
    generation = os.path.realpath(place)
    assert "nothing to do" in install(here, VIRTUAL_ENV=generation).out


def test_an_environment_made_by_somebody_else_is_served_in_place(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one, two, venv = bundle("1.0"), bundle("2.0"), tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    done = install(one, "--venv", venv)
    assert "in place" in done.err.splitlines()[0]
    assert venv.is_dir() and not venv.is_symlink() and read_output(venv / "bin" / "app") == "app 1.0"
    assert read_output(venv / "bin" / "pip", "--version").startswith("pip ")
    assert "nothing to do" in install(one, "--venv", venv).out
    install(two, "--venv", venv)
    assert read_output(venv / "bin" / "app") == "app 2.0" and len(list(site(venv).glob("app-*.dist-info"))) == 1
    assert install(two, "--rollback", "--venv", venv, expect=2).err


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_with_something_else_in_it(bundle: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "venv"
    path.write_text("mine") if kind == "file" else (path / "mine").mkdir(parents=True)
    assert str(path) in install(bundle(), "--venv", path, expect=12).err
    assert sorted(os.listdir(tmp_path)) == ["media", "venv"]


def test_never_inside_the_bundle_and_a_target_is_no_place(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one = bundle()
    assert "inside the bundle" in install(one, "--venv", one / "venv", expect=2).err
    assert "--venv" in install(one, "--target", tmp_path / "venv", expect=2).err
    install(one, "--target", "here", "--venv", tmp_path / "v", "--dry-run")
    assert "cp3" in install(one, "--target", "debian99", expect=2).err


def test_a_place_that_cannot_be_written(bundle: Callable[..., Path], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o500)
    root = os.geteuid() == 0
    if root:  # who may write everywhere but on what is mounted read-only
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=900m", "tmpfs", theirs], check=True)
    try:
        done = install(bundle(), "--venv", theirs / "venv", expect=12)
        assert "cannot be written" in done.err and "--venv" in done.err
    finally:
        if root:
            subprocess.run(["umount", theirs], check=True)


# ------------------------------------------------------------------------------------------------------ which machine


def test_no_target_fits(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one = bundle(target={"machine": "s390x"})
    done = install(one, "--venv", tmp_path / "venv", expect=10)
    assert "s390x" in done.err and sys.executable.split("/")[-1][:6] in done.err
    assert not (tmp_path / "venv.d").exists()


def test_a_python_that_is_named_and_does_not_fit(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one = bundle(target={"python": "3.5"})
    assert "3.5" in install(one, "--venv", tmp_path / "venv", "--python", sys.executable, expect=10).err
    assert "no Python" in install(bundle(), "--venv", tmp_path / "venv", "--python", "/bin/true", expect=10).err


def test_another_python_is_looked_for(bundle: Callable[..., Path], tmp_path: Path) -> None:
    names = [f"python3.{minor}" for minor in range(10, 15) if minor != sys.version_info[1]]
    folders = [*os.environ["PATH"].split(":"), *map(str, Path(sys.base_prefix).parent.glob("3*/bin"))]
    others = [found for name in names for folder in folders if (found := shutil.which(name, path=folder))]
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    runs = (subprocess.run([one, "-I", "-c", asked], capture_output=True, text=True, check=False) for one in others)
    version, other = next(((one.stdout.strip(), one.args[0]) for one in runs if one.returncode == 0), ("", ""))
    if not version:
        pytest.skip("this machine has one Python only")
    path = f"{Path(other).parent}:{os.environ['PATH']}"
    done = install(bundle(target={"python": version}), "--venv", tmp_path / "venv", PATH=path)
    assert read_output(tmp_path / "venv" / "bin" / "python", "-c", asked) == version
    assert f"with Python {version}" in done.err


def test_a_library_that_is_not_there(bundle: Callable[..., Path], tmp_path: Path) -> None:
    needs = [
        Need("libc.so.6", ("GLIBC_2.2.5",) if facts().machine == "x86_64" else (), ("stone",), None),
        Need("libnobody.so.7", (), ("stone",), "apt install libnobody7"),
    ]
    done = install(bundle(needs=needs), "--venv", tmp_path / "venv", expect=10)
    assert "libnobody.so.7" in done.err and "apt install libnobody7" in done.err and "libc.so.6" not in done.err
    assert not (tmp_path / "venv.d").exists()


# ----------------------------------------------------------------------------------------------------------- isolation


def test_nothing_of_the_machine_s_settings_leaks_in(bundle: Callable[..., Path], tmp_path: Path) -> None:
    poison = tmp_path / "poison"
    poison.mkdir()
    (poison / "json.py").write_text("raise SystemExit('poisoned')")
    (poison / "pip.conf").write_text(
        "[global]\nuser = true\nrequire-virtualenv = true\nindex-url = http://127.0.0.1:9/\n"
    )
    home = tmp_path / "home"
    for name in (".config/pip/pip.conf", ".pip/pip.conf"):
        (home / name).parent.mkdir(parents=True)
        shutil.copy(poison / "pip.conf", home / name)
    one = bundle()
    (one.parent / "json.py").write_text("raise SystemExit('poisoned')")
    install(
        *(one, "--venv", tmp_path / "venv", "--engine", "pip"),
        PIP_CONFIG_FILE=str(poison / "pip.conf"), PIP_TARGET=str(tmp_path / "stolen"), PIP_USER="1", PIP_NO_DEPS="0",
        PYTHONPATH=str(poison), PYTHONSTARTUP=str(poison / "json.py"), HOME=str(home),
        PYTHONDONTWRITEBYTECODE="1", PIP_NO_COMPILE="1", PIP_LOG=str(tmp_path / "log"), TMPDIR="/nowhere",
    )  # fmt: skip
    assert read_output(tmp_path / "venv" / "bin" / "app") == "app 1.0"
    assert not (tmp_path / "stolen").exists() and not (tmp_path / "log").exists()
    assert list(site(tmp_path / "venv").glob("app/__pycache__/*.pyc")), "compiled all the same"


def test_without_bytecode(bundle: Callable[..., Path], tmp_path: Path) -> None:
    install(bundle(), "--venv", tmp_path / "venv", "--no-compile")
    assert not list((tmp_path / "venv.d").rglob("*.pyc"))


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_modes_follow_the_umask(bundle: Callable[..., Path], tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        done = install(bundle(), "--venv", tmp_path / "venv")
    finally:
        os.umask(old)
    assert stat.S_IMODE((site(tmp_path / "venv") / "app" / "__init__.py").stat().st_mode) == 0o666 & ~mask
    assert ("The umask is 077" in done.err) is (mask == 0o077)


def test_names_outside_ascii_where_the_locale_knows_none(
    bundle: Callable[..., Path], tmp_path: Path, wheels: Path
) -> None:
    files = {"slate/__init__.py": "", "slate/\u77f3\u677f.txt": "x"}
    one = bundle("1.0", make_wheel(wheels, "slate", "1.0", files=files))
    install(one, "--venv", tmp_path / "venv", LC_ALL="C", LANG="C")
    assert os.fsencode(site(tmp_path / "venv") / "slate" / "\u77f3\u677f.txt").endswith(b".txt")
    assert (site(tmp_path / "venv") / "slate" / "\u77f3\u677f.txt").exists()


# -------------------------------------------------------------------------------------------------------------- faults


def test_one_that_pip_refuses(bundle: Callable[..., Path], tmp_path: Path, wheels: Path) -> None:
    old, venv = bundle("1.0"), tmp_path / "venv"
    install(old, "--venv", venv)
    bad = make_wheel(wheels, "bad", "1.0", requires_python=">=9")
    new = bundle("2.0", bad)
    failed = install(new, "--venv", venv, "--engine", "pip", "--json", expect=11)
    rows = {row["name"]: row for row in failed.json["distributions"]}
    assert (
        rows["bad"]["state"] == "failed"
        and rows["bad"]["attempts"] >= 2
        and "requires a different Python" in rows["bad"]["reason"]
    )
    assert rows["app"]["state"] == "installed" and failed.json["changed"] is False
    assert "    ERROR: Package 'bad' requires a different Python" in failed.err
    assert read_output(venv / "bin" / "app") == "app 1.0", "nothing changed"
    again = install(new, "--venv", venv, "--engine", "pip", expect=11)
    assert "Going on" in again.err and "bad 1.0" in again.out and "FAILED, attempts: " in again.out
    kept = install(new, "--venv", venv, "--engine", "pip", "--keep-going", "--report", tmp_path / "r.json", expect=11)
    assert "bad" in kept.err and read_output(venv / "bin" / "app") == "app 2.0"
    assert json.loads((tmp_path / "r.json").read_text())["changed"] is True
    assert "bad" in install(new, "--venv", venv, "--engine", "pip", expect=11).err, "it is not forgotten"


def test_what_does_not_fit_together(bundle: Callable[..., Path], tmp_path: Path, wheels: Path) -> None:
    lonely = make_wheel(wheels, "lonely", "1.0", requires=["nobody>=2"])
    done = install(bundle("1.0", lonely), "--venv", tmp_path / "venv", expect=11)
    assert "pip check" in done.err and "    lonely 1.0 requires nobody" in done.err
    assert not (tmp_path / "venv").exists()
    install(bundle("1.0", lonely), "--venv", tmp_path / "venv", "--keep-going", expect=11)
    assert "not whole" in install(bundle("1.0", lonely), "--venv", tmp_path / "venv", "--inspect").out
    for again in ((), ("--keep-going",)):
        done = install(bundle("1.0", lonely), "--venv", tmp_path / "venv", *again, expect=11)
        assert "pip check" in done.err, "it is not forgotten"


def test_an_altered_bundle(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one = bundle()
    path = one / "wheels" / "stone-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:-10] + b"0123456789")
    assert "stone-1.0-py3-none-any.whl" in install(one, "--venv", tmp_path / "venv", expect=7).err
    assert not (tmp_path / "venv.d").exists()
    assert install(one, "--verify", expect=7).code == 7


def test_a_whole_bundle(bundle: Callable[..., Path]) -> None:
    done = install(bundle(), "--verify")
    assert "complete and unaltered since packing; who packed it was not checked" in done.out


def test_a_key_that_did_not_sign(bundle: Callable[..., Path], tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEl7ZCwPtkbAb7VZGx4ugtyJ2kXqvzKyYsTLpgpXPXHl someone\n")
    assert "signature" in install(bundle(), "--venv", tmp_path / "v", "--verify-key", key, expect=7).err
    assert "--verify-key" in install(bundle(), "--venv", tmp_path / "v", "--require-signature", expect=2).err


def test_two_at_once(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one, place = bundle(), EnvironmentLocation(str(tmp_path / "venv"), False)
    with lock_environment(place):
        done = install(one, "--venv", place.venv, expect=12)
    assert f"process {os.getpid()}" in done.err
    install(one, "--venv", place.venv)


def test_a_signal_leaves_nothing_behind(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one, two, venv = bundle("1.0"), bundle("2.0"), tmp_path / "venv"
    install(one, "--venv", venv)
    before = sorted(os.listdir(f"{venv}.d"))
    child = start(two, "--venv", venv, "--engine", "pip")
    while len(os.listdir(f"{venv}.d")) == len(before) and child.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Nothing was changed" in err and "Traceback" not in err
    assert sorted(os.listdir(f"{venv}.d")) == before and os.listdir(f"{venv}.d/work") == []
    assert read_output(venv / "bin" / "app") == "app 1.0"


def test_a_kill_and_the_same_command_again(bundle: Callable[..., Path], tmp_path: Path) -> None:
    one, two, venv = bundle("1.0"), bundle("2.0"), tmp_path / "venv"
    install(one, "--venv", venv)
    child = start(two, "--venv", venv, "--engine", "pip")
    while not Path(f"{venv}.d/journal.json").exists() and child.poll() is None:
        time.sleep(0.02)
    time.sleep(1)
    child.kill()
    child.communicate()
    assert read_output(venv / "bin" / "app") in ("app 1.0", "app 2.0")
    install(two, "--venv", venv, "--engine", "pip")
    assert read_output(venv / "bin" / "app") == "app 2.0" and not Path(f"{venv}.d/journal.json").exists()


def test_processes_of_the_release_before_are_named_and_keep_their_files(
    bundle: Callable[..., Path], tmp_path: Path
) -> None:
    one, two, three, venv = bundle("1.0"), bundle("2.0"), bundle("3.0"), tmp_path / "venv"
    first = install(one, "--venv", venv, "--json").json["generation"]
    service = subprocess.Popen([f"{os.path.realpath(venv)}/bin/python", "-c", "import time; time.sleep(300)"])
    try:
        done = install(two, "--venv", venv)
        assert f"Process {service.pid} (python" in done.out
        still = rf"Process {service.pid} \(python[0-9.]*\) still runs notes 1\.0"
        assert re.search(still, install(three, "--venv", venv).out)
        assert Path(f"{venv}.d/{first}").exists(), "a live process uses it"
        assert first in install(three, "--rollback", "--list", "--venv", venv).out
    finally:
        service.kill()
        service.wait()
    install(one, "--venv", venv, "-q")
    left = [one for one in os.listdir(f"{venv}.d") if len(one) == 12]
    assert len(left) == 2


def test_chinese(bundle: Callable[..., Path], tmp_path: Path) -> None:
    done = install(bundle(), "--venv", tmp_path / "venv", "--dry-run", LC_ALL="zh_CN.UTF-8", PYTHONIOENCODING="utf-8")
    assert "正在将 notes-1.0 安装到" in done.err and "检查全部通过" in done.out
