"""offlinepack.pyz: the target side as one file, carried once, then trusted for every later bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from offlinepack.cli.main import run_command_line
from tests.support.handmade import make_bundle
from tests.support.making import make_wheel

from .conftest import pip_wheel

MAIN = {"console_scripts": {"app": "app:main"}}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "trusted" / "offlinepack.pyz"
    assert run_command_line(["standalone", "-o", str(path)]) == 0
    return path


def bundle(folder: Path, version: str) -> Path:
    wheels = folder / "wheels"
    app = make_wheel(wheels, "app", version, entry_points=MAIN)
    return make_bundle(folder / "media", [app], pip=pip_wheel(), version=version, requested=["app"])


def run(program: Path, *words: object, expect: int = 0) -> str:
    done = subprocess.run([sys.executable, program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_same_code_gives_the_same_bytes(program: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    assert run_command_line(["standalone", "-o", str(again)]) == 0
    assert again.read_bytes() == program.read_bytes()
    assert os.access(program, os.X_OK)


def test_install_verify_inspect_rollback_probe(program: Path, tmp_path: Path) -> None:
    one, two, venv = bundle(tmp_path, "1.0"), bundle(tmp_path, "2.0"), tmp_path / "srv" / "venv"
    assert "who packed it was not checked (--verify-key FILE)" in run(program, "verify", one)
    assert "app 1.0" in run(program, "inspect", one)
    run(program, "install", one, "--venv", venv)
    assert (tmp_path / "srv" / "venv.d" / "offlinepack.pyz").read_bytes() == program.read_bytes()
    assert "notes 1.0" in run(program, "inspect", "--venv", venv)
    assert "notes 1.0" in run(program, "inspect", venv)
    run(program, "install", two, "--venv", venv)
    assert "notes 2.0" in run(program, "inspect", venv)
    assert "notes 1.0" in run(program, "rollback", "--venv", venv)
    assert "notes 1.0" in run(program, "inspect", venv)
    assert json.loads(run(program, "probe").partition("ask for")[0])["implementation"]


def test_a_bundle_by_hand_and_one_by_offlinepack_leave_the_same_program(tmp_path: Path, program: Path) -> None:
    one = bundle(tmp_path, "1.0")
    for name, command in (("a", [one / "install.py"]), ("b", ["-m", "offlinepack", "install", one])):
        subprocess.run(
            [sys.executable, *map(str, command), "--venv", str(tmp_path / name)], check=True, capture_output=True
        )
        assert (tmp_path / f"{name}.d" / "offlinepack.pyz").read_bytes() == program.read_bytes()


def test_the_bundles_own_code_is_not_run(program: Path, tmp_path: Path) -> None:
    one = bundle(tmp_path, "1.0")
    for name in ("install.py", "ontarget/command.py", "ontarget/verify.py"):
        (one / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    said = run(program, "install", one, "--venv", tmp_path / "venv", expect=7)
    assert "ontarget/command.py" in said and "install.py" in said
    assert not (tmp_path / "ran").exists() and not (tmp_path / "venv").exists() and not (tmp_path / "venv.d").exists()


def test_what_is_no_bundle(program: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    packed = tmp_path / "notes.tar.gz"
    packed.write_bytes(b"\x1f\x8b\x08")
    for word in ("install", "verify", "inspect"):
        run(program, word, tmp_path / "folder", expect=9)
        assert "tar xzf" in run(program, word, packed, expect=9)
        run(program, word, tmp_path / "nowhere", expect=9)
    run(program, "install", expect=2)


def test_the_folder_of_a_venv_that_is_somebody_elses(program: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "own")], check=True)
    assert "installed nothing" in run(program, "inspect", tmp_path / "own", expect=2)
    shutil.rmtree(tmp_path / "own")


def test_a_bundle_stays_one_whatever_was_planted_in_it(program: Path, tmp_path: Path) -> None:
    """pyvenv.cfg, or a folder with .d behind the same name, which an environment would have."""
    one = bundle(tmp_path, "1.0")
    (one.with_name(f"{one.name}.d")).mkdir()
    assert "app 1.0" in run(program, "inspect", one)
    assert run_command_line(["inspect", str(one)]) == 0
    (one / "pyvenv.cfg").write_text("home = /usr/bin\n")
    assert "pyvenv.cfg is not part of this bundle" in run(program, "inspect", one, expect=7)
    assert run_command_line(["inspect", str(one)]) == 7
