"""An environment as requirements: cleaned, explained, and read without running anything in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import SourceError
from offlinepack.requirements.environment import _read_python_version
from offlinepack.requirements.installed import is_environment
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.read import read_environment


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An empty environment of a Linux machine; it has no interpreter, so that nothing can be run."""
    folder = tmp_path / "env"
    (folder / "lib/python3.11/site-packages").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.9\n")
    return folder


def put(
    folder: Path,
    name: str,
    version: str,
    *requires: str,
    requested: bool = False,
    origin: dict[str, Any] | None = None,
    installer: str = "pip",
    tag: str = "py3-none-any",
    extras: Sequence[str] = (),
) -> None:
    """Install: only the files that are read."""
    (place,) = list(folder.rglob("site-packages"))
    info = place / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
        *(f"Provides-Extra: {one}" for one in extras),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")
    (info / "INSTALLER").write_text(f"{installer}\n")
    if requested:
        (info / "REQUESTED").write_text("")
    if origin:
        (info / "direct_url.json").write_text(json.dumps(origin))


def asked(found: Requirements) -> list[str]:
    return [one.line for one in found.requirements]


def constraints(found: Requirements) -> list[str]:
    return [one.line for one in found.constraints]


def notes(found: Requirements) -> list[str]:
    return [f"{one.code} {one.subject}" for one in found.notes]


def test_what_was_installed_is_asked_for_and_what_came_along_is_pinned(venv: Path) -> None:
    put(venv, "Flask", "3.0.0", "werkzeug>=3", "click", requested=True)
    put(venv, "werkzeug", "3.1.0", "markupsafe")
    put(venv, "click", "8.1.0", "colorama; sys_platform == 'win32'")
    put(venv, "markupsafe", "3.0.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    found = read_environment(venv)
    assert asked(found) == ["flask==3.0.0"]
    assert constraints(found) == ["click==8.1.0", "markupsafe==3.0.0", "werkzeug==3.1.0"]
    assert found.requirements[0].is_requested and found.requirements[0].is_frozen
    assert not found.notes


def test_what_nothing_needs_is_asked_for_too_but_was_not_requested(venv: Path) -> None:
    put(venv, "celery", "5.4", "kombu", requested=True)
    put(venv, "kombu", "5.3")
    put(venv, "redis", "5.0")
    found = read_environment(venv)
    assert [(one.line, one.is_requested) for one in found.requirements] == [
        ("celery==5.4", True),
        ("redis==5.0", False),
    ]


STANDARD = ("httptools; extra == 'standard'", "colorama; sys_platform == 'win32' and extra == 'standard'")
STANDARD += (
    "uvloop; sys_platform != 'win32' and extra == 'standard'",
    "rust; extra == 'all'",
    "uvicorn[standard]; extra == 'all'",
)


def test_an_extra_is_recognised_by_what_it_brought(venv: Path) -> None:
    put(venv, "uvicorn", "0.30", "click", *STANDARD, requested=True, extras=["standard", "all"])
    put(venv, "click", "8.1")
    put(venv, "httptools", "0.6")
    put(venv, "uvloop", "0.19")
    found = read_environment(venv)
    assert asked(found) == ["uvicorn[standard]==0.30"] and found.requirements[0].is_requested
    assert constraints(found) == ["click==8.1", "httptools==0.6", "uvloop==0.19"]
    assert [one.render() for one in found.notes if one.code == "extra-recognised"] == [
        "uvicorn was installed with its extra standard, as can be told from httptools, uvloop; "
        "each target gets what that means there."
    ]


@pytest.mark.parametrize("missing", ["httptools", "uvloop"])
def test_an_extra_that_is_not_whole_was_not_asked_for(venv: Path, missing: str) -> None:
    put(venv, "uvicorn", "0.30", *STANDARD, requested=True, extras=["standard", "all"])
    (other,) = {"httptools", "uvloop"} - {missing}
    put(venv, other, "0.6")
    assert asked(read_environment(venv)) == sorted([f"{other}==0.6", "uvicorn==0.30"])


def test_what_was_requested_or_is_needed_tells_of_no_extra(venv: Path) -> None:
    put(venv, "uvicorn", "0.30", *STANDARD, requested=True, extras=["standard"])
    put(venv, "httptools", "0.6", "uvloop", requested=True)
    put(venv, "uvloop", "0.19")
    assert asked(read_environment(venv)) == ["httptools==0.6", "uvicorn==0.30"]


def test_an_extra_that_another_project_wants(venv: Path) -> None:
    put(venv, "fastapi", "0.115", "uvicorn[standard]>=0.12; extra == 'standard'", requested=True, extras=["standard"])
    put(venv, "uvicorn", "0.30", *STANDARD, extras=["standard", "all"])
    put(venv, "httptools", "0.6")
    put(venv, "uvloop", "0.19")
    found = read_environment(venv)
    assert asked(found) == ["fastapi[standard]==0.115"]
    assert constraints(found) == ["httptools==0.6", "uvicorn==0.30", "uvloop==0.19"]


def test_an_environment_that_tells_nothing_of_what_was_requested(venv: Path) -> None:
    put(venv, "flask", "3.0", "click", installer="conda")
    put(venv, "click", "8.1", installer="conda")
    found = read_environment(venv)
    assert [(one.line, one.is_requested) for one in found.requirements] == [("flask==3.0", True)]


def test_an_environment_made_from_a_whole_list_of_pins(venv: Path) -> None:
    """pip install -r of a freeze: everything was asked for, and on another system not everything is needed."""
    put(venv, "flask", "3.0", "click", "uvicorn[standard]", requested=True)
    put(venv, "click", "8.1", "colorama; sys_platform == 'win32'", requested=True)
    put(venv, "uvicorn", "0.30", *STANDARD, requested=True, extras=["standard"])
    put(venv, "httptools", "0.6", requested=True)
    put(venv, "uvloop", "0.19", requested=True)
    found = read_environment(venv)
    assert [(one.line, one.is_requested) for one in found.requirements] == [("flask==3.0", True)]
    assert constraints(found) == ["click==8.1", "httptools==0.6", "uvicorn==0.30", "uvloop==0.19"]


def test_circles_are_not_lost(venv: Path) -> None:
    put(venv, "egg", "1.0", "hen")
    put(venv, "hen", "1.0", "egg")
    found = read_environment(venv)
    assert asked(found) == ["egg==1.0"] and constraints(found) == ["hen==1.0"]


def test_a_marker_of_another_system_makes_no_need_here(venv: Path) -> None:
    """colorama, put there by hand on Linux, is not click's."""
    put(venv, "click", "8.1", "colorama; sys_platform == 'win32'")
    put(venv, "colorama", "0.4.6")
    assert asked(read_environment(venv)) == ["click==8.1", "colorama==0.4.6"]


def test_a_windows_environment(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    (folder / "Lib/site-packages").mkdir(parents=True)
    (folder / "Scripts").mkdir()
    (folder / "Scripts/python.exe").write_bytes(b"MZ")
    (folder / "pyvenv.cfg").write_text("home = C:\\Python312\nversion_info = 3.12.4.final.0\n")
    put(folder, "click", "8.1", "colorama; sys_platform == 'win32'", requested=True)
    put(folder, "colorama", "0.4.6")
    found = read_environment(folder)
    assert asked(found) == ["click==8.1"] and constraints(found) == ["colorama==0.4.6"]
    assert _read_python_version(folder) == "312"


def test_what_every_environment_has_is_left_out(venv: Path) -> None:
    put(venv, "pip", "24.0", requested=True)
    put(venv, "setuptools", "65.0")
    put(venv, "wheel", "0.43")
    put(venv, "flask", "3.0")
    assert asked(read_environment(venv)) == ["flask==3.0"]


def test_but_not_where_it_is_needed(venv: Path) -> None:
    put(venv, "setuptools", "65.0")
    put(venv, "gunicorn", "20.0", "setuptools>=3.0")
    found = read_environment(venv)
    assert asked(found) == ["gunicorn==20.0"] and constraints(found) == ["setuptools==65.0"]


def test_offlinepack_and_what_only_it_needs_is_left_out(venv: Path) -> None:
    put(venv, "offlinepack", "1.0", "click", "rich", "uv", "packaging", requested=True)
    put(venv, "click", "8.1")
    put(venv, "rich", "13.0", "pygments")
    put(venv, "pygments", "2.0")
    put(venv, "uv", "0.9")
    put(venv, "packaging", "26.0", requested=True)
    put(venv, "flask", "3.0", "click")
    found = read_environment(venv)
    assert asked(found) == ["flask==3.0", "packaging==26.0"] and constraints(found) == ["click==8.1"]
    assert notes(found) == ["ours-left-out offlinepack"]
    assert "pygments, rich, uv" in found.notes[0].render()


def test_conda_s_and_debian_s_paths_become_versions(venv: Path) -> None:
    put(venv, "numpy", "1.26.4", origin={"url": "file:///croot/numpy_1/work", "dir_info": {}}, installer="conda")
    put(
        venv,
        "six",
        "1.16.0",
        origin={"url": "file:///tmp/build/80754af9/six_1/work/six-1.16.0-py3-none-any.whl", "archive_info": {}},
        installer="conda",
    )
    put(venv, "debs", "2.0", origin={"url": "file:///build/debs-x/debs-2.0", "dir_info": {}}, installer="debian")
    found = read_environment(venv)
    assert asked(found) == ["debs==2.0", "numpy==1.26.4", "six==1.16.0"]
    assert notes(found) == [f"foreign-build {venv.name}"]
    assert "debs==2.0, numpy==1.26.4, six==1.16.0" in found.notes[0].render()


def test_a_commit_an_address_and_a_file(venv: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "stone-1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    put(venv, "mud", "0.1", origin={"url": "https://host.example/mud.git", "vcs_info": {"vcs": "git", "commit_id": "c" * 40}, "subdirectory": "py"})  # fmt: skip
    put(venv, "sand", "2.0", origin={"url": "https://host.example/sand-2.0.tar.gz?token=s3cret", "archive_info": {}})
    put(venv, "stone", "1.0", origin={"url": wheel.as_uri(), "archive_info": {}})
    put(venv, "gone", "1.0", origin={"url": "file:///nowhere/gone-1.0-py3-none-any.whl", "archive_info": {}})
    found = read_environment(venv)
    assert asked(found) == [
        "gone==1.0",
        f"mud @ git+https://host.example/mud.git@{'c' * 40}#subdirectory=py",
        "sand @ https://host.example/sand-2.0.tar.gz?token=s3cret",
        f"stone @ {wheel.as_uri()}",
    ]
    assert notes(found) == ["from-commit mud", "from-address sand", "local-file stone", f"foreign-build {venv.name}"]
    assert "s3cret" not in " ".join(one.render() for one in found.notes)


def test_local_projects_are_built_also_editable_ones(venv: Path, tmp_path: Path) -> None:
    project = tmp_path / "my project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "1"\n')
    put(venv, "mine", "1.0", "click", origin={"url": project.as_uri(), "dir_info": {"editable": True}}, requested=True)
    put(venv, "click", "8.1")
    put(venv, "lost", "1.0", origin={"url": "file:///nowhere", "dir_info": {"editable": True}})
    found = read_environment(venv)
    assert asked(found) == ["lost==1.0", f"mine @ {project.as_uri()}"]
    assert [one.is_editable for one in found.requirements] == [True, True]
    assert notes(found) == ["local-project-gone lost", "local-project mine"]
    assert "editable" in found.notes[1].render() and str(project) in found.notes[1].render()


def test_setup_py_develop(venv: Path, tmp_path: Path) -> None:
    project = tmp_path / "old"
    (project / "old.egg-info").mkdir(parents=True)
    (project / "old.egg-info/PKG-INFO").write_text("Metadata-Version: 1.0\nName: old\nVersion: 0.1\n")
    (project / "setup.py").write_text("")
    (venv / "lib/python3.11/site-packages/old.egg-link").write_text(f"{project}\n.")
    found = read_environment(venv)
    assert asked(found) == [f"old @ {project.as_uri()}"] and found.requirements[0].is_editable


def test_a_dependency_from_an_address_is_asked_for_too(venv: Path) -> None:
    """A constraint cannot say where it comes from."""
    put(venv, "app", "1.0", "mud", requested=True)
    put(
        venv,
        "mud",
        "0.1",
        origin={"url": "https://host.example/m.git", "vcs_info": {"vcs": "git", "commit_id": "c" * 40}},
    )
    found = read_environment(venv)
    assert [(one.name, one.is_requested) for one in found.requirements] == [("app", True), ("mud", False)]


def test_exclude(venv: Path) -> None:
    put(venv, "python-apt", "2.6.0", installer="debian")
    put(venv, "flask", "3.0")
    found = read_environment(venv, exclude=["python_apt", "no-such"])
    assert asked(found) == ["flask==3.0"]
    assert notes(found) == [f"exclude-unknown {venv}"]


def test_local_versions_are_kept(venv: Path) -> None:
    put(venv, "local", "1.0+cpu")
    assert asked(read_environment(venv)) == ["local==1.0+cpu"]


def test_versions_that_are_none(venv: Path) -> None:
    put(venv, "odd", "2004d")
    put(venv, "older", "1.0.foo")
    with pytest.raises(SourceError) as caught:
        read_environment(venv)
    assert [f"{one.code} {one.subject}" for one in caught.value.findings] == ["odd-version odd", "odd-version older"]


def test_broken_distributions_are_passed_over(venv: Path) -> None:
    put(venv, "flask", "3.0")
    place = venv / "lib/python3.11/site-packages"
    (place / "broken-1.0.dist-info").mkdir()
    (place / "~lask-2.0.dist-info").mkdir()
    assert asked(read_environment(venv)) == ["flask==3.0"]


def test_no_environment(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read_environment(tmp_path)
    assert [one.code for one in caught.value.findings] == ["no-environment"]


def test_an_empty_environment(venv: Path) -> None:
    put(venv, "pip", "24.0")
    with pytest.raises(SourceError) as caught:
        read_environment(venv)
    assert [one.code for one in caught.value.findings] == ["environment-empty"]


def test_conda_s_base(tmp_path: Path) -> None:
    folder = tmp_path / "miniconda3"
    (folder / "lib/python3.12/site-packages").mkdir(parents=True)
    (folder / "conda-meta").mkdir()
    (folder / "conda-meta/conda-24.1.0-py312.json").write_text("{}")
    with pytest.raises(SourceError) as caught:
        read_environment(folder)
    assert [one.code for one in caught.value.findings] == ["conda-base"]


def test_a_conda_environment_has_its_version_in_its_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "envs" / "app"
    (folder / "Lib/site-packages").mkdir(parents=True)
    (folder / "Scripts").mkdir()
    (folder / "conda-meta").mkdir()
    (folder / "conda-meta/python-3.10.14-h1.json").write_text("{}")
    assert is_environment(folder)
    assert _read_python_version(folder) == "310"
