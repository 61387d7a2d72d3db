"""What people hold in their hands, carried over: environments that run here, projects that are not ours."""

from __future__ import annotations

import json
import shutil
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from offlinepack.index.settings import read_settings
from offlinepack.net.client import open_client
from offlinepack.net.download import DownloadQueue
from offlinepack.net.model import DownloadRequest
from offlinepack.requirements.uv_export import find_uv, make_uv_environment
from offlinepack.store import Store
from tests.support.making import make_sdist

from .conftest import KEPT, Machine, offlinepack, run


def carried(folder: Path, *arguments: object) -> tuple[Path, str]:
    """Packed here: the unpacked bundle as it is carried, and what was said on the way."""
    (place := folder / "carried").mkdir()
    done = offlinepack("build", *arguments, "-o", place / "bundle.tar.gz")
    run(["tar", "-xzf", place / "bundle.tar.gz", "-C", place])
    (manifest,) = place.glob("*/manifest.json")
    return manifest.parent, done.stderr


def installed(bundle: Path) -> dict[str, str]:
    (target,) = json.loads((bundle / "manifest.json").read_text())["targets"]
    return {one["name"]: one["version"] for one in target["install"]}


def runs(bundle: Path, program: str, machine: Machine) -> str:
    """Install a bundle on a target machine by its own install.py and return the output of a program."""
    target, binds = machine, {bundle: "/media/bundle:ro"}
    bare = target("python3", "-c", "import pip", binds=binds, expect=None)
    assert bare.returncode, "this root is to have no pip"
    target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    return target("/srv/app/venv/bin/python", "-c", program, binds=binds).stdout


def as_conda_writes(prefix: Path, python: str) -> None:
    """Record the contents of a prefix as conda does: conda-meta, INSTALLER and the folder of the build.

    conda is not available everywhere; these files have the form of those in its environments.
    """
    (place,) = prefix.glob("lib/python*/site-packages")
    meta = prefix / "conda-meta"
    meta.mkdir()
    (meta / "history").write_text("==> 2025-03-02 11:20:45 <==\n# cmd: conda create -n app python=3.11 flask pyyaml\n")
    short = python.replace(".", "")

    def record(name: str, version: str, build: str, files: list[str]) -> None:
        record = {"name": name, "version": version, "build": build, "channel": "defaults", "subdir": "linux-64"}
        record |= {"build_number": 0, "depends": [], "files": files, "fn": f"{name}-{version}-{build}.conda"}
        (meta / f"{name}-{version}-{build}.json").write_text(json.dumps(record))

    for name, version in (("openssl", "3.0.15"), ("libffi", "3.4.4"), ("python", f"{python}.11")):
        record(name, version, "h5eee18b_0", [])
    (prefix / "pyvenv.cfg").unlink()
    for info in sorted(place.glob("*.dist-info")):
        name, version = info.name.removesuffix(".dist-info").split("-")
        (info / "INSTALLER").write_text("conda\n")
        (info / "REQUESTED").unlink(missing_ok=True)
        built = f"file:///croot/{name.lower()}_1697546145316/work"
        (info / "direct_url.json").write_text(json.dumps({"dir_info": {}, "url": built}))
        files = [str(one.relative_to(prefix)) for one in info.iterdir()]
        record(name.lower(), version, f"py{short}h06a4308_0", files)


def kept(name: str, version: str, kind: str) -> Path:
    """A file of a release on the index, fetched once."""
    place = KEPT / "releases"
    how = ("--no-binary", name) if kind == "sdist" else ()
    done = offlinepack("lock", f"{name}=={version}", "--no-deps", *how, "--target", "debian12")
    (package,) = tomllib.loads(done.stdout)["packages"]
    found = package["sdist"] if kind == "sdist" else package["wheels"][0]
    wanted = DownloadRequest(found["url"], found["url"].rsplit("/", 1)[1], found["hashes"]["sha256"])
    with Store.open(KEPT / "cache") as store, open_client(read_settings()) as client:
        (stored,) = DownloadQueue(store, client).fetch_files([wanted])
        place.mkdir(parents=True, exist_ok=True)
        return stored.link_into(place)


# ---------------------------------------------------------------------------------------------- environments


def environment(folder: Path, python: str, conda: bool) -> Path:
    """As people have it: from the index, from a source, and a project of this machine in editable form."""
    mine = make_sdist(
        folder / "mine",
        "mine",
        "1.5",
        requires=["click"],
        files={"mine/__init__.py": "import click\nanswer = 42\n"},
        unpacked=True,
    )
    place = folder / "env"
    run([python, "-m", "venv", place])
    install = [find_uv(), "pip", "install", "-q", "--python", place / "bin" / "python"]
    run([*install, "flask==3.0.3", "pyyaml==6.0.2", "docopt==0.6.2"], env=uv_environment(folder))
    if conda:
        as_conda_writes(place, "3.11")
    run([*install, "--no-deps", "--prefix", place, "-e", mine], env=uv_environment(folder))
    return place


RUN = "import flask, yaml, docopt, mine; from yaml import CSafeLoader; print(mine.answer, yaml.__version__, docopt.__version__)"


@pytest.mark.xdist_group("debian")
@pytest.mark.parametrize("kind", [pytest.param("venv", marks=pytest.mark.slow), "conda"])
def test_an_environment_runs_on_a_bare_debian(
    kind: str, tmp_path: Path, pythons: dict[str, str], root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    place = environment(tmp_path, pythons["3.11"], conda=kind == "conda")
    bundle, said = carried(tmp_path, "--venv", place, "--target", "debian12", "--name", "app")
    pins = installed(bundle)
    assert {"flask": "3.0.3", "pyyaml": "6.0.2", "docopt": "0.6.2", "mine": "1.5"}.items() <= pins.items()
    assert {"pip", "setuptools", "openssl", "python"}.isdisjoint(pins)
    assert "mine is a project on this machine (editable): a wheel is built from" in said
    if kind == "conda":
        assert "What conda or the system put into env from folders of its own is taken from the index" in said
        assert "flask==3.0.3" in said.split("in the same versions:")[1]
    for text in (one.read_text("utf-8") for one in bundle.glob("*.t*") if one.suffix in (".txt", ".toml")):
        assert "croot" not in text and str(tmp_path) not in text
    assert runs(bundle, RUN, machine("--root", root("bookworm"), kept=True)) == "42 6.0.2 0.6.2\n"


@pytest.mark.slow
@pytest.mark.xdist_group("debian")
def test_a_windows_environment_runs_on_a_bare_debian(
    tmp_path: Path, root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    """Pack an environment with the layout of Windows for Linux, which needs uvloop and does not need colorama."""
    place = tmp_path / "env"
    (place / "Scripts").mkdir(parents=True)
    (place / "pyvenv.cfg").write_text("home = C:\\Python311\nversion = 3.11.9\n")
    there = ["--target", place / "Lib/site-packages", "--python-platform", "windows", "--python-version", "3.11"]
    run([find_uv(), "pip", "install", "-q", *there, "uvicorn[standard]==0.34.0"], env=uv_environment(tmp_path))
    assert list(place.glob("Lib/site-packages/colorama-*")) and not list(place.glob("Lib/site-packages/uvloop*"))
    bundle, _ = carried(tmp_path, "--venv", place, "--target", "debian12", "--name", "app")
    pins = installed(bundle)
    assert pins["uvicorn"] == "0.34.0" and "uvloop" in pins and "colorama" not in pins
    program = "import uvicorn, uvloop, httptools, watchfiles; print(uvicorn.__version__)"
    assert runs(bundle, program, machine("--root", root("bookworm"), kept=True)) == "0.34.0\n"


# ---------------------------------------------------------------------------------------- projects of others


def project(folder: Path) -> Path:
    """A project that is not ours, as its sdist has it: a dynamic version, extras, groups, a workspace's uv.lock."""
    with tarfile.open(kept("mcp", "1.12.4", "sdist")) as packed:
        packed.extractall(folder, filter="data")
    return folder / "mcp-1.12.4"


def exported(place: Path, folder: Path, *extras: str) -> Path:
    """Its lock as uv gives it to others: pylock.toml for every machine, with forks."""
    command = [find_uv(), "export", "--frozen", "--offline", "-q", "--no-editable", "--no-default-groups"]
    command += [part for one in extras for part in ("--extra", one)]
    command += ["--format", "pylock.toml", "-o", str(place / "pylock.toml")]
    run(command, cwd=place, env=uv_environment(folder))
    return place / "pylock.toml"


def uv_environment(folder: Path) -> dict[str, str]:
    return {**make_uv_environment(), "UV_CACHE_DIR": str(folder / "uv-cache"), "UV_SYSTEM_CERTS": "1"}


PROGRAM = "import mcp.server.fastmcp, importlib.metadata as m; print(m.version('mcp'))"


@pytest.mark.xdist_group("debian")
@pytest.mark.parametrize(
    "kind",
    [
        "project",
        pytest.param("uv.lock", marks=pytest.mark.slow),
        pytest.param("pylock.toml", marks=pytest.mark.slow),
        pytest.param("its-own-wheel", marks=pytest.mark.slow),
    ],
)
def test_a_project_of_others_keeps_its_pins_on_a_bare_debian(
    kind: str, tmp_path: Path, root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    place = project(tmp_path)
    pylock = exported(place, tmp_path, "cli")
    locked = {one["name"]: one.get("version") for one in tomllib.loads(pylock.read_text("utf-8"))["packages"]}
    if kind == "pylock.toml":
        what: tuple[object, ...] = ("-r", pylock)
    else:
        pylock.unlink()
        what = ("-r", place / "uv.lock") if kind == "uv.lock" else ("--project", place)
        what = (*what, "--extra", "cli")
    if kind == "its-own-wheel":
        wheel = kept("mcp", "1.12.4", "wheel")
        (tmp_path / "dist").mkdir()
        shutil.copy(wheel, tmp_path / "dist")
        what = (*what, "-f", tmp_path / "dist")
    bundle, said = carried(tmp_path, *what, "--locked", "--target", "debian12")
    pins = installed(bundle)
    assert pins.pop("mcp") == "1.12.4"
    assert pins == {name: locked[name] for name in pins} and {"typer", "python-dotenv"} <= set(pins)
    assert {"pywin32", "websockets", "pytest"}.isdisjoint(pins)
    assert ("building mcp" in said) == (kind != "its-own-wheel")
    if kind == "its-own-wheel":
        assert (bundle / "wheels" / wheel.name).read_bytes() == wheel.read_bytes()
    target = machine("--root", root("bookworm"), kept=True)
    assert runs(bundle, PROGRAM, target) == "1.12.4\n"
    assert target("/srv/app/venv/bin/mcp", "version").stdout == "MCP version 1.12.4\n"


@pytest.mark.slow
def test_a_project_of_others_for_other_machines(tmp_path: Path) -> None:
    """The pins of one universal lock, on each machine with what it alone needs; a group that the project has."""
    place = project(tmp_path)
    targets = ("--target", "windows:3.12", "--target", "cp310-musllinux_1_2_aarch64", "--target", "macos14:3.13")
    done = offlinepack("build", "--project", place, "--locked", "--group", "dev", *targets, "--dry-run", "--json")
    each = {one["name"]: {pin["name"] for pin in one["packages"]} for one in json.loads(done.stdout)["targets"]}
    assert {name: "pywin32" in pins for name, pins in each.items()} == {name: "windows" in name for name in each}
    assert all({"pytest", "trio", "mcp"} <= pins for pins in each.values())
    assert {name: "exceptiongroup" in pins for name, pins in each.items()} == {name: "310" in name for name in each}
