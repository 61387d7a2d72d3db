"""The fast engine beside its oracles, over hundreds of real wheels: pip on the oldest, a middle and the newest Python; the
PyPA's `installer`. While nothing but what is named here differs, `--engine auto` may mean the fast one."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.trees import anywhere, by_pip, differences, make_environment, placed, tree
from .conftest import KEPT, alone, run

Find = Callable[[str], Path]
pytestmark = [pytest.mark.network, pytest.mark.slow]

# Applications of many kinds; with all that they need some 350 wheels.
WANTED = [
    "aiohttp",
    "ansible-core",
    "black",
    "boto3",
    "buildbot[bundle]",
    "celery[redis]",
    "conan",
    "cryptography",
    "cython",
    "dask[complete]",
    "django<6",
    "fabric",
    "fastapi[all]",
    "flask",
    "grpcio-tools",
    "gunicorn",
    "httpx[http2]",
    "hypothesis",
    "installer",
    "jupyterlab",
    "locust",
    "lxml",
    "mkdocs-material",
    "mypy",
    "nox",
    "numba",
    "pandas",
    "paramiko",
    "pillow",
    "poetry",
    "psycopg[binary]",
    "pyinstaller",
    "pylint",
    "scrapy",
    "sphinx",
    "sqlalchemy[asyncio]",
    "streamlit",
    "tox",
    "trio",
    "twine",
    "zope.component",
    "zope.interface",
]
PIPS = {"3.6": "21.3.1", "3.9": "25.0.1", "newest": ""}
MOST = 8 << 20  # bytes of a wheel: what is larger is more of the same


@pytest.fixture(scope="session")
def wheels() -> list[Path]:
    folder = KEPT / "wheels"
    with alone("wheels"):
        if not (folder / "complete").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "wanted.in").write_text("\n".join(WANTED))
            pins = folder / "pins.txt"
            run(
                [
                    sys.executable,
                    "-m",
                    "uv",
                    "pip",
                    "compile",
                    "-q",
                    "--only-binary",
                    ":all:",
                    folder / "wanted.in",
                    "-o",
                    pins,
                    "--no-annotate",
                ]
            )
            run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "-q",
                    "--no-deps",
                    "--only-binary",
                    ":all:",
                    "-d",
                    folder,
                    "-r",
                    pins,
                ]
            )
            for version in filter(None, PIPS.values()):
                run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"pip=={version}"])
            run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "pip"])
            (folder / "complete").touch()
    return sorted(one for one in folder.glob("*.whl") if one.stat().st_size < MOST and not one.name.startswith("pip-"))


def pip_of(version: str) -> Path:
    found = list((KEPT / "wheels").glob(f"pip-{PIPS[version] or '*'}-*.whl"))
    return max(found, key=lambda one: [int(part) for part in re.findall(r"\d+", one.name)])


@pytest.fixture
def interpreter(pythons: dict[str, str]) -> Callable[[str], Path]:
    def find(version: str) -> Path:
        known = [one for one in pythons if one.startswith("3.")]
        newest = max(known, key=lambda one: int(one.partition(".")[2]))
        if version not in (*known, "newest"):
            pytest.skip(f"no Python {version} here")
        return Path(pythons[newest if version == "newest" else version])

    return find


# Bytecode is the same where the code is: marshal writes references as they happen to be counted.
COMPARE = """
import marshal, os, sys
one, other, head = sys.argv[1], sys.argv[2], 12 if sys.version_info < (3, 7) else 16
for folder, _, names in os.walk(one):
    for name in names:
        if name.endswith(".pyc"):
            path = os.path.join(folder, name)
            theirs = os.path.join(other, os.path.relpath(path, one))
            mine = open(path, "rb").read()
            if marshal.loads(mine[head:]) != marshal.loads(open(theirs, "rb").read()[head:]):
                print(path)
"""


@pytest.mark.parametrize("version", list(PIPS))
def test_pips_tree(tmp_path: Path, wheels: list[Path], interpreter: Find, version: str) -> None:
    assert len(wheels) >= 200
    python, pip, root = interpreter(version), pip_of(version), tmp_path / "env"
    (tmp_path / "wheels").mkdir()
    named = [anywhere(one, tmp_path / "wheels") for one in [*wheels, pip]]
    by_pip(make_environment(python, root), pip, named)
    theirs = tree(root)
    root.rename(tmp_path / "pip")
    assert placed(make_environment(python, root), pip, named) == []
    mine = tree(root)
    if version == "3.6":
        believe_files(mine, theirs, root)
    assert list(differences(mine, theirs)) == []
    assert run([python, "-c", COMPARE, root, tmp_path / "pip"]).stdout == ""


def believe_files(mine: dict[str, tuple[object, ...]], theirs: dict[str, tuple[object, ...]], root: Path) -> None:
    """pip 21.3.1 leaves in RECORD the hash that a script had before its first line was written anew; ours is the file's."""
    for name in [one for one in mine if one.endswith(".dist-info/RECORD")]:
        rows, old = set(mine[name][-1]), set(theirs[name][-1])  # type: ignore[call-overload]
        for row in rows - old:
            path = (root / name).parent.parent / row[0]
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            assert row[1:] == (f"sha256={digest}", str(path.stat().st_size)) and path.read_bytes().startswith(b"#!")
        if {row[0] for row in rows} == {row[0] for row in old}:
            theirs[name] = mine[name]


INSTALL = """
import os, sys, sysconfig
sys.path.insert(0, sys.argv[1])
from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile
for wheel in sys.argv[2:]:
    paths = sysconfig.get_paths()
    name = os.path.basename(wheel).split("-")[0].lower().replace("_", "-").replace(".", "-")
    paths["headers"] = os.path.join(sys.prefix, "include", "site", "python%d.%d" % sys.version_info[:2], name)
    with WheelFile.open(wheel) as source:
        install(source, SchemeDictionaryDestination(paths, sys.executable, "posix"), {"INSTALLER": b"pip\\n"})
"""


def test_installers_tree(tmp_path: Path, wheels: list[Path], interpreter: Find) -> None:
    """The second oracle knows no bytecode, and has its own text for scripts: all else has to be the same."""
    python, root = interpreter("newest"), tmp_path / "env"
    (tmp_path / "wheels").mkdir()
    named = [anywhere(one, tmp_path / "wheels") for one in wheels]
    library = next(one for one in wheels if one.name.startswith("installer-"))
    run([make_environment(python, root), "-I", "-B", "-c", INSTALL, library, *named])
    theirs = tree(root)
    root.rename(tmp_path / "installer")
    assert placed(make_environment(python, root), pip_of("newest"), named, "--no-compile") == []
    mine = tree(root)
    assert compared_names(mine) == compared_names(theirs)
    odd = [one for one in differences(plain(mine), plain(theirs)) if not one.startswith("bin/")]
    assert odd == []


def compared_names(found: dict[str, tuple[object, ...]]) -> set[str]:
    return {name for name in found if not name.endswith("/REQUESTED")}


def plain(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    return {name: one for name, one in found.items() if Path(name).name not in ("REQUESTED", "RECORD")}


def test_what_was_placed_runs(tmp_path: Path, wheels: list[Path], interpreter: Find) -> None:
    python, root = interpreter("newest"), tmp_path / "env"
    (tmp_path / "wheels").mkdir()
    pure = [one for one in wheels if one.name.endswith("-none-any.whl")]
    assert placed(make_environment(python, root), pip_of("newest"), [*pure, pip_of("newest")]) == []
    for command in (["pip", "--version"], ["flask", "--version"], ["sphinx-build", "--version"]):
        done = subprocess.run([root / "bin" / command[0], *command[1:]], capture_output=True, text=True)
        assert done.returncode == 0 or "ModuleNotFoundError" in done.stderr, done.stderr
