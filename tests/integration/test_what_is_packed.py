"""What `build` packs, as a user has it in hand: each rule of the order line by line, locks, projects, settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offlinepack.requirements.uv_export import find_uv, make_uv_environment
from tests.support.making import ServedIndex, make_sdist, make_wheel

from .conftest import Ran, pip_wheel

Run = Callable[..., Ran]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
LINUX = ("--platform", "manylinux_2_28_x86_64", "--python-version", PYTHON)


@pytest.fixture(autouse=True)
def nothing_active(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


def put(place: Path, name: str, version: str, **origin: Any) -> None:
    info = place / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py3-none-any\n")
    if origin:
        (info / "direct_url.json").write_text(json.dumps(origin))


def environment(folder: Path, *, conda: bool = False) -> Path:
    put(folder / f"lib/python{PYTHON}/site-packages", "pebble", "1.0")
    if conda:
        (folder / "conda-meta").mkdir()
        (folder / "conda-meta" / f"python-{PYTHON}.1-h1.json").write_text("{}")
    else:
        (folder / "pyvenv.cfg").write_text(f"version = {PYTHON}.0\n")
    return folder


def uv_locked(folder: Path, index: ServedIndex, cache: Path) -> None:
    command = [find_uv(), "lock", "--quiet", "--default-index", index.url, "--python", sys.executable]
    subprocess.run(command, cwd=folder, check=True, env={**make_uv_environment(), "UV_CACHE_DIR": str(cache)})


PROJECT = '[project]\nname = "quarry"\nversion = "3.1"\nrequires-python = ">=3.9"\ndependencies = ["stone"]\n'


@pytest.fixture
def everything(index: ServedIndex, offlinepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that could be packed from one folder, and an active environment of each kind."""
    Path("pyproject.toml").write_text(PROJECT)
    uv_locked(Path(), index, tmp_path / "uv-cache")
    Path("requirements.txt").write_text("stone\n")
    assert offlinepack("lock", "stone", *LINUX, "-o", "pylock.toml").code == 0
    monkeypatch.setenv("VIRTUAL_ENV", str(environment(tmp_path / "venv")))
    monkeypatch.setenv("CONDA_PREFIX", str(environment(tmp_path / "conda", conda=True)))


def test_the_order_line_by_line(everything: None, offlinepack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    venv, conda = os.environ["VIRTUAL_ENV"], os.environ["CONDA_PREFIX"]

    def first(*arguments: str) -> str:
        done = offlinepack("build", *LINUX, "--dry-run", *arguments)
        assert done.code == 0, done.err
        return done.err.splitlines()[0]

    rest = [
        "pylock.toml",
        "uv.lock",
        "requirements.txt",
        "pyproject.toml",
        f"VIRTUAL_ENV ({venv})",
        f"CONDA_PREFIX ({conda})",
    ]
    Path("offlinepack.toml").write_text('requirements = ["granite"]\n')
    assert first() == f"packing granite, named by [tool.offlinepack]; passed over: {', '.join(rest)}"
    assert first("pebble") == "packing pebble"
    Path("offlinepack.toml").write_text('requirement-files = ["requirements.txt"]\n')
    assert first().startswith("packing requirements.txt, named by [tool.offlinepack]; passed over: pylock.toml, uv")
    Path("offlinepack.toml").write_text('name = "names-no-source"\n')
    while len(rest) > 2:
        assert first() == f"packing {rest[0]}; passed over: {', '.join(rest[1:])}"
        Path(rest.pop(0)).unlink()
    assert first() == f"packing VIRTUAL_ENV ({venv}); passed over: CONDA_PREFIX ({conda})"
    monkeypatch.delenv("VIRTUAL_ENV")
    assert first() == f"packing CONDA_PREFIX ({conda})"
    (Path(conda) / "conda-meta" / "conda-24.1.0-py311.json").write_text("{}")
    done = offlinepack("build", *LINUX)
    assert done.code == 3
    for place in ("pylock.toml", "uv.lock", "requirements.txt", "pyproject.toml with [project]", "VIRTUAL_ENV"):
        assert place in done.err


@pytest.mark.parametrize(
    ("taken", "name"),
    [
        ("pylock.toml", "app"),
        ("uv.lock", "quarry-3.1"),
        ("requirements.txt", "stone"),
        ("pyproject.toml", "quarry-3.1"),
    ],
)
def test_the_name_is_of_what_is_packed(taken: str, name: str, everything: None, offlinepack: Run) -> None:
    order = ["pylock.toml", "uv.lock", "requirements.txt", "pyproject.toml"]
    for one in order[: order.index(taken)]:
        Path(one).unlink()
    done = offlinepack("build", *LINUX, "--json")
    assert done.code == 0, done.err
    assert done.json["folder"] == name and Path(f"{name}-offline.tar.gz").exists()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("poetry.lock", "poetry export --output requirements.txt"),
        ("pdm.lock", "pdm export --output requirements.txt"),
        ("Pipfile.lock", "pipenv requirements --hash > requirements.txt"),
        ("environment.yml", 'offlinepack build --venv "$CONDA_PREFIX"'),
    ],
)
def test_the_lock_of_another_tool(name: str, command: str, offlinepack: Run) -> None:
    Path(name).write_text("")
    for arguments in (("-r", name), ()):
        done = offlinepack("build", *arguments)
        assert done.code == 3 and command in done.err


def test_a_packaged_project_with_its_uv_lock_for_two_systems(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    """The project itself is built once, a pure wheel for both; the pins are the lock's though newer ones came."""
    make_sdist(Path("deep/er"), "quarry", "4.0", requires=["stone", "granite"], unpacked=True)
    uv_locked(Path("deep/er"), index, tmp_path / "uv-cache")
    index.add(make_wheel(tmp_path / "later", "stone", "2.0"))
    done = offlinepack("build", "-r", "deep/er/uv.lock", *LINUX, "--platform", "win_amd64", "--locked", "--json")
    assert done.code == 0, done.err
    linux, windows = ({one["name"]: one["version"] for one in target["packages"]} for target in done.json["targets"])
    assert linux == {"granite": "2.0", "pebble": "1.0", "quarry": "4.0", "stone": "1.0"}
    assert windows == {**linux, "gravel": "3.0"}
    assert done.json["folder"] == "quarry-4.0"
    text = Path("deep/er/pyproject.toml").read_text()
    Path("deep/er/pyproject.toml").write_text(text.replace('"granite"', '"granite", "boulder"'))
    done = offlinepack("build", "-r", "deep/er/uv.lock", *LINUX, "--locked")
    assert done.code == 4 and "does not fit pyproject.toml any more" in done.err


@pytest.mark.parametrize("version", ["static", "dynamic"])
@pytest.mark.parametrize(
    "source", [("--project", "project"), ("-r", "project/pyproject.toml"), ("-r", "project/uv.lock")]
)
def test_the_project_s_own_wheel_from_find_links(
    source: tuple[str, str], version: str, index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    """As a maintainer's CI has it: the wheel that was released goes in, byte for byte; nothing is built."""
    make_sdist(Path("project"), "quarry", "4.0", requires=["stone"], unpacked=True)
    if version == "dynamic":
        text = Path("project/pyproject.toml").read_text()
        Path("project/pyproject.toml").write_text(text.replace("version = '4.0'", 'dynamic = ["version"]'))
    wheel = make_wheel(tmp_path / "dist", "quarry", "4.0", requires=["stone"])
    make_wheel(tmp_path / "dist", "quarry", "5.0")
    uv_locked(Path("project"), index, tmp_path / "uv-cache")
    # the index has this release too, in other bytes
    index.add(make_wheel(tmp_path / "elsewhere", "quarry", "4.0", requires=["stone", "granite"]))
    done = offlinepack("build", *source, *LINUX, "-f", wheel.parent, "--json")
    assert done.code == 0, done.err
    assert "building" not in done.err
    with tarfile.open(done.json["bundle"]) as bundle:
        member = bundle.extractfile(f"quarry-4.0/wheels/{wheel.name}")
        assert member is not None and member.read() == wheel.read_bytes()


def test_a_project_of_another_version_than_the_wheel_that_lies_ready(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    """The version is that of the project's build; a build that fails is reported."""
    make_sdist(Path("project"), "quarry", "4.0", requires=["stone"], unpacked=True)
    text = Path("project/pyproject.toml").read_text()
    Path("project/pyproject.toml").write_text(text.replace("version = '4.0'", 'dynamic = ["version"]'))
    wheel = make_wheel(tmp_path / "dist", "quarry", "5.0", requires=["stone"])
    done = offlinepack("build", "--project", "project", *LINUX, "-f", wheel.parent, "--json")
    assert done.code == 0, done.err
    assert done.json["folder"] == "quarry-4.0" and "building quarry" in done.err
    Path("project/backend/in_tree.py").write_text("raise SystemExit('no tag was found')")
    done = offlinepack("build", "--project", "project", *LINUX, "-f", wheel.parent)
    assert done.code == 8
    assert (
        "The version of the project project is known only to its build" in done.err and "no tag was found" in done.err
    )


def test_extras_and_groups_of_a_project(index: ServedIndex, offlinepack: Run) -> None:
    Path("pyproject.toml").write_text(
        PROJECT
        + '[project.optional-dependencies]\nweb = ["granite"]\n'
        + '[dependency-groups]\ntest = ["gravel"]\ndev = [{include-group = "test"}, "boulder"]\n'
    )

    def packed(*arguments: str) -> list[str]:
        done = offlinepack("build", *LINUX, "--dry-run", "--json", *arguments)
        assert done.code == 0, done.err
        return [one["name"] for one in done.json["targets"][0]["packages"]]

    index.add(make_wheel(Path("more"), "boulder", "1.1"))
    assert packed() == ["pebble", "stone"]
    assert packed("--extra", "web", "--group", "dev") == ["boulder", "granite", "gravel", "pebble", "stone"]
    wrong = offlinepack("build", *LINUX, "--extra", "wbe", "--group", "dve")
    assert wrong.code == 3 and "wbe" in wrong.err and "dve" in wrong.err and "web" in wrong.err and "test" in wrong.err


def test_a_lock_may_be_tried_without_writing(index: ServedIndex, offlinepack: Run) -> None:
    done = offlinepack("lock", "stone", *LINUX, "--dry-run", "-o", "pylock.toml")
    assert done.code == 0 and "2 distributions" in done.out and not Path("pylock.toml").exists()


def test_a_given_pylock_is_kept_and_completed(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    assert offlinepack("lock", "granite", *LINUX, "-o", "pylock.toml").code == 0
    index.add(make_wheel(tmp_path / "later", "granite", "3.0"))
    windows = ("--platform", "win_amd64", "--python-version", PYTHON)
    text = Path("pylock.toml").read_text()
    Path("pylock.toml").write_text(re.sub(r"environments = \[.*?\n\]\n", "", text, flags=re.S))
    assert "environments" not in tomllib.loads(Path("pylock.toml").read_text())
    done = offlinepack("build", "-r", "pylock.toml", *windows, "--json")
    assert done.code == 0, done.err
    found = {one["name"]: one["version"] for one in done.json["targets"][0]["packages"]}
    assert found == {"granite": "2.0", "gravel": "3.0"}
    done = offlinepack("build", "-r", "pylock.toml", *windows, "--locked")
    assert done.code == 4, done.err


@pytest.mark.parametrize("how", [("--config", "project/pyproject.toml"), ("--project", "project")])
def test_paths_in_the_settings_are_beside_them(
    how: tuple[str, str], index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    make_wheel(Path("project/wheels"), "basalt", "1.0")
    Path("project/data").mkdir()
    Path("project/data/a.txt").write_text("a")
    Path("project/constraints.txt").write_text("basalt<2\n")
    Path("project/pyproject.toml").write_text(
        '[project]\nname = "quarry"\nversion = "1"\ndependencies = ["basalt"]\n'
        '[tool.offlinepack]\nproject = "."\nfind-links = ["wheels"]\nincludes = ["data=share/data"]\n'
        'constraints = ["constraints.txt"]\ninstall-to = "/srv/quarry"\nsequence = 7\n'
    )
    done = offlinepack("build", *how, *LINUX, "--json")
    assert done.code == 0, done.err
    assert [one["name"] for one in done.json["targets"][0]["packages"]] == ["basalt", "quarry-files"]
    with tarfile.open(done.json["bundle"]) as bundle:
        member = bundle.extractfile("quarry-1/manifest.json")
        assert member is not None
        listed = json.load(member)
    assert (listed["install_to"], listed["sequence"]) == ("/srv/quarry", 7)
    assert "files/data/a.txt" in {one["path"] for one in listed["files"]}


def test_every_option_by_its_variable(index: ServedIndex, offlinepack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("notes.conf").write_text("[app]")
    for name, value in {
        "NAME": "from-env", "APP_VERSION": "2", "SEQUENCE": "8", "INSTALL_TO": "/srv/env", "INCLUDE": "notes.conf",
        "PLATFORM": "manylinux_2_28_x86_64 win_amd64", "PYTHON_VERSION": PYTHON,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"OFFLINEPACK_{name}", value)
    done = offlinepack("build", "stone", "--json")
    assert done.code == 0, done.err
    assert (done.json["folder"], len(done.json["targets"])) == ("from-env-2", 2)
    done = offlinepack("build", "stone", "--json", "--name", "flag", "--app-version", "3")
    assert done.json["folder"] == "flag-3"


def test_locked_without_a_lock_resolves_nothing(index: ServedIndex, offlinepack: Run) -> None:
    done = offlinepack("build", "stone", *LINUX, "--locked")
    assert done.code == 4 and "no lock was given or found" in done.err


def test_locked_takes_the_lock_of_a_project_while_it_fits(index: ServedIndex, offlinepack: Run) -> None:
    file = Path("pyproject.toml")
    file.write_text('[project]\nname = "quarry"\nversion = "1"\ndependencies = ["stone"]\n')
    assert offlinepack("lock", "stone", *LINUX, "-o", "pylock.toml").code == 0
    fits = offlinepack("build", "--project", ".", *LINUX, "--locked")
    assert fits.code == 0 and Path("quarry-1-offline.tar.gz").exists(), fits.err
    file.write_text(file.read_text().replace('"stone"', '"stone", "moss"'))
    stale = offlinepack("build", "--project", ".", *LINUX, "--locked")
    assert stale.code == 4 and "moss" in stale.err, stale.err


def test_a_project_keeps_to_its_uv_lock_and_says_so(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    make_sdist(Path("project"), "quarry", "4.0", requires=["stone"], extras={"web": ["granite"]}, unpacked=True)
    uv_locked(Path("project"), index, tmp_path / "uv-cache")
    index.add(make_wheel(tmp_path / "later", "stone", "2.0"))

    def packed(*arguments: str) -> dict[str, str]:
        done = offlinepack("build", *arguments, *LINUX, "--dry-run", "--json")
        assert done.code == 0, done.err
        first.append(done.err.splitlines()[0])
        return {one["name"]: one["version"] for one in done.json["targets"][0]["packages"]}

    first: list[str] = []
    pins = packed("--project", "project", "--extra", "web")
    assert set(pins) == {"quarry", "stone", "pebble", "granite"} and pins["stone"] == "1.0"
    assert first == ["packing --project project (uv.lock)"]
    assert packed("-r", "project/pyproject.toml")["stone"] == "2.0"
    wrong = offlinepack("build", "--project", "project", "--extra", "wbe", "--group", "dve", *LINUX)
    assert wrong.code == 3 and "no extra wbe; it has: web" in wrong.err and "no dependency group dve" in wrong.err


def test_all_files_that_are_missing_are_named(offlinepack: Run) -> None:
    done = offlinepack("build", "-r", "one.txt", "-r", "two.txt")
    assert done.code == 3 and "one.txt" in done.err and "two.txt" in done.err


@pytest.mark.parametrize("date", ["yesterday", "2026-13-01", "20260101"])
def test_a_date_that_cannot_be_read_is_no_missing_limit(offlinepack: Run, date: str) -> None:
    done = offlinepack("build", "stone", "--uploaded-prior-to", date)
    assert done.code == 2 and "is no date" in done.err


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("asked", ["pebble==1.0", "pebble<1.5", "pebble==9.9", "gravel"])
def test_offline_what_was_never_read_is_the_store_s_lack(
    asked: str, resolver: str, index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    """Both lockers say the same: that an index may have it is not known here."""
    index.add(make_wheel(tmp_path / "later", "pebble", "2.0"))
    assert offlinepack("lock", "pebble", *LINUX, "--resolver", resolver).code == 0
    assert offlinepack("lock", "pebble", *LINUX, "--resolver", resolver, "--offline").code == 0
    done = offlinepack("lock", asked, *LINUX, "--resolver", resolver, "--offline")
    assert done.code == 6, done.err
    name = re.split("[=<]", asked)[0]
    assert f"error: {name}, asked for by argument 1" in done.err
    assert "has not been read before, and --offline forbids" in done.err and done.err.count("error:") == 1, done.err


@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_offline_a_folder_of_files_is_all_there_is(resolver: str, offlinepack: Run, tmp_path: Path) -> None:
    place = make_wheel(tmp_path / "links", "pebble", "2.0").parent

    def said(asked: str) -> str:
        how = ("--resolver", resolver, "--offline", "--no-index", "-f", place)
        done = offlinepack("lock", asked, *LINUX, *how)
        assert done.code == 4, done.err
        return done.err

    assert "a bundle carries a pip that Python" in said("pebble")
    shutil.copy(pip_wheel(), place)
    assert "No index has pebble==9.9" in said("pebble==9.9")
    assert "pebble<2" in said("pebble<2")
    assert "No index has a project gravel" in said("gravel")


@pytest.mark.parametrize("command", [("build",), ("build", "--dry-run"), ("lock",)])
def test_nothing_is_never_a_success(command: tuple[str, ...], index: ServedIndex, offlinepack: Run) -> None:
    Path("empty.txt").write_text("# nothing yet\n--no-binary gravel\n")
    done = offlinepack(*command, "-r", "empty.txt", *LINUX)
    assert done.code == 3 and "asks for nothing" in done.err, done.err
    done = offlinepack(*command, "gravel; sys_platform == 'win32'", *LINUX)
    assert done.code == 5 and "every requirement's marker excludes it" in done.err, done.err
