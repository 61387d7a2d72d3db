"""--sdist include: sources go along with all that their builds take, and are built on the other side, offline."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.compiled import compiles, extension
from tests.support.making import ServedIndex, make_sdist, make_wheel, serve_index

from .conftest import Ran, pip_wheel


def setuptools_wheel() -> Path:
    spec = importlib.util.find_spec("virtualenv")
    assert spec and spec.origin
    return max((Path(spec.origin).parent / "seed" / "wheels" / "embed").glob("setuptools-*.whl"))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedIndex]:
    """pebble (pure, its build takes a chisel that has its own needs), stone (an extension), loop (takes itself)."""
    folder = tmp_path / "files"
    files = [
        pip_wheel(),
        setuptools_wheel(),
        make_sdist(folder, "pebble", build_requires=["chisel"], requires=["sand"]),
        make_sdist(folder, "chisel", requires=["handle"]),
        make_wheel(folder, "handle", "2.0"),
        make_wheel(folder, "sand", "3.0"),
        make_sdist(folder, "loop", build_requires=["loop"]),
        make_sdist(folder, "sphinx", backend="setuptools", fails="no riddle was given"),
        extension(folder),
    ]
    with serve_index(tmp_path, files) as served:
        monkeypatch.setenv("OFFLINEPACK_INDEX_URL", served.url)
        yield served


def unpacked(bundle: Path) -> Path:
    with tarfile.open(bundle) as archive:
        archive.extractall(bundle.parent, filter="data")
        return bundle.parent / archive.getnames()[0].split("/")[0]


def test_a_pure_source_is_built_there(sources: ServedIndex, offlinepack: Callable[..., Ran], tmp_path: Path) -> None:
    built = offlinepack("build", "pebble", "--sdist", "include", "-o", tmp_path / "b.tar.gz")
    assert built.code == 0, built.err
    folder = unpacked(tmp_path / "b.tar.gz")
    plan = json.loads((folder / "manifest.json").read_text())["targets"][0]
    assert [(one["name"], one["file"]) for one in plan["install"]] == [
        ("sand", "wheels/sand-3.0-py3-none-any.whl"),
        ("pebble", "sdists/pebble-1.0.tar.gz"),
    ]
    assert [one["name"] for one in plan["tools"]] == ["pip", "chisel", "handle"]
    assert {one.name for one in (folder / "tools").iterdir()} >= {"handle-2.0-py3-none-any.whl"}
    assert sorted(one.name for one in (folder / "sdists").iterdir()) == ["chisel-1.0.tar.gz", "pebble-1.0.tar.gz"]
    assert "built there" in built.err
    assert offlinepack("verify", tmp_path / "b.tar.gz").code == 0
    done = offlinepack("install", tmp_path / "b.tar.gz", "--venv", tmp_path / "venv", "--python", sys.executable)
    assert done.code == 0, done.err
    python = tmp_path / "venv" / "bin" / "python"
    said = subprocess.run(
        [python, "-c", "import pebble, sand; print(pebble.__version__)"], check=True, capture_output=True, text=True
    )
    assert said.stdout == "1.0\n"
    listed = json.loads(
        subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True).stdout
    )
    assert {one["name"] for one in listed} == {"pip", "pebble", "sand"}  # what builds take is not installed


@compiles
def test_an_extension_is_built_there(sources: ServedIndex, offlinepack: Callable[..., Ran], tmp_path: Path) -> None:
    built = offlinepack("build", "stone", "--sdist", "include", "-o", tmp_path / "b.tar.gz")
    assert built.code == 0, built.err
    done = offlinepack("install", tmp_path / "b.tar.gz", "--venv", tmp_path / "venv", "--python", sys.executable)
    assert done.code == 0, done.err
    subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", "import stone"], check=True)


def test_pip_alone_builds_it_too(sources: ServedIndex, offlinepack: Callable[..., Ran], tmp_path: Path) -> None:
    assert offlinepack("build", "pebble", "--sdist", "include", "-o", tmp_path / "b.tar.gz").code == 0
    folder = unpacked(tmp_path / "b.tar.gz")
    listed = next(folder.glob("requirements.*.txt"))
    command = listed.read_text().splitlines()[0].partition(": pip ")[2].split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    subprocess.run(
        [sys.executable, "-m", "pip", *command, "--target", tmp_path / "there"],
        cwd=folder,
        env={**environment, "PIP_CONFIG_FILE": os.devnull},
        check=True,
    )
    assert (tmp_path / "there" / "pebble" / "__init__.py").exists()


@pytest.mark.parametrize(("name", "said"), [("loop", "needs itself to be built"), ("sphinx", "could not say")])
def test_where_the_closure_cannot_be_known(
    name: str, said: str, sources: ServedIndex, offlinepack: Callable[..., Ran], tmp_path: Path
) -> None:
    done = offlinepack("build", name, "--sdist", "include", "-o", tmp_path / "b.tar.gz")
    assert done.code == 8, done.err
    assert said in done.err
    assert not (tmp_path / "b.tar.gz").exists()
