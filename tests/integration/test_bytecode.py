"""`build --bytecode`: compiled code that travels with the bundle, by real interpreters; taken there as it is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from offlinepack.wheels.bytecode import compile_wheel
from tests.support.making import ServedIndex, make_wheel

from .conftest import Ran

Run = Callable[..., Ran]
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CURIOUS = """\
KINDS = {"a", "b", "c", "d", "e"}
def kind(one):
    return one in {None, "x", "y", ...} or one in {1, 2.5, "z", b"q"}
"""


def bundle(offlinepack: Run, name: str, *more: str) -> tuple[dict[str, bytes], list[str]]:
    done = offlinepack("build", "stone", "--bytecode", "-o", f"{name}.tar.gz", "--json", *more)
    assert done.code == 0, done.err
    with tarfile.open(f"{name}.tar.gz") as tar:
        members = {one.name.partition("/")[2]: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    return members, [one["code"] for one in done.json["findings"]]


def test_each_target_whose_python_is_here(
    index: ServedIndex, offlinepack: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, missing = f"debian12:{TAG[2]}.{TAG[3:]}", ("--platform", "win_amd64", "--python-version", "3.99")
    members, findings = bundle(offlinepack, "one", "--target", own, "--target", f"windows:{TAG[2]}.{TAG[3:]}")
    codes = sorted(one for one in members if one.startswith("bytecode/"))
    assert [one.split("-")[0] for one in codes] == [f"bytecode/{TAG}/{one}" for one in ("pebble", "pip", "stone")]
    assert not findings
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("OFFLINEPACK_CACHE_DIR", "another")
    again, _ = bundle(offlinepack, "two", "--target", own, "--target", f"windows:{TAG[2]}.{TAG[3:]}")
    assert again == members, "the same bytes on another day, in another store"
    _, finding_codes = bundle(offlinepack, "three", *missing)
    assert finding_codes == ["no-python-for-bytecode"]
    assert offlinepack("verify", "one.tar.gz").code == 0


def test_the_target_machine_compiles_nothing(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    members, _ = bundle(offlinepack, "one")
    assert offlinepack("install", "one.tar.gz", "--venv", tmp_path / "venv").code == 0
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python3*/site-packages"))
    program = "import pkgutil, importlib\nfor one in pkgutil.iter_modules([%r]): importlib.import_module(one.name)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([python, "-v", "-c", program % str(site)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if str(site.resolve()) in line or str(site) in line]
    assert any("stone/__pycache__" in line and "matches" in line for line in ours)
    assert not [line for line in ours if "wrote" in line or line.startswith("# code object from /")], "taken as it is"
    with zipfile.ZipFile(io.BytesIO(members[f"bytecode/{TAG}/stone-1.0-py3-none-any.whl"])) as packed:
        (placed,) = site.glob("stone/__pycache__/__init__.*.pyc")
        assert placed.read_bytes()[16:] == packed.read("stone/__init__.pyc")[16:]
    (site / "stone" / "__init__.py").write_text("VERSION = 'edited'\n")
    process = subprocess.run([python, "-c", "import stone; print(stone.VERSION)"], capture_output=True, text=True)
    assert process.stdout == "edited\n"
    inspected = offlinepack("inspect", tmp_path / "venv", "--json")
    assert list(inspected.json["altered"]) == ["stone"]


def interpreters() -> list[str]:
    found = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.*/bin/python"))
    return [sys.executable, *map(str, found)]


@pytest.mark.parametrize("python", interpreters(), ids=lambda one: one.split("/")[-3])
def test_every_run_of_a_python_gives_the_same_bytes(tmp_path: Path, python: str) -> None:
    """Also where sets of constants hash by address: those are left to the target before 3.11."""
    files = {"stone/__init__.py": "x = 1\n", "stone/curious.py": CURIOUS, "stone/b\u00fcro.py": "y = 1\n"}
    wheel = make_wheel(tmp_path, "stone", "1.0", files={**files, "stone/broken.py": "def"})
    made = [compile_wheel(wheel, python, tmp_path / str(at) / wheel.name) for at in range(4)]
    assert len({one.read_bytes() for one in made if one}) == 1
    with zipfile.ZipFile(made[0]) as archive:  # type: ignore[arg-type]
        names = {one for one in archive.namelist() if one.endswith(".pyc")}
    version = json.loads(subprocess.check_output([python, "-c", "import sys; print(list(sys.version_info[:2]))"]))
    assert names == {
        "stone/__init__.pyc",
        "stone/b\u00fcro.pyc",
        *(["stone/curious.pyc"] if version >= [3, 11] else []),
    }


def test_a_wheel_without_python_has_none(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "data", "1.0", files={"data/x.txt": "x"})
    with zipfile.ZipFile(wheel) as archive:
        assert not [one for one in archive.namelist() if one.endswith(".py")]
    assert compile_wheel(wheel, sys.executable, tmp_path / "out" / wheel.name) is None
