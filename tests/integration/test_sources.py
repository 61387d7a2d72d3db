"""From what people hold in their hands to the lock of a target: environments, projects, locks made elsewhere."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock

from offlinepack.errors import OfflinepackError
from offlinepack.index.settings import read_settings
from offlinepack.requirements.model import ProjectWheels, Requirements
from offlinepack.requirements.read import parse_arguments, read_environment, read_project, read_requirements_file
from offlinepack.requirements.uv_export import find_uv, make_uv_environment
from offlinepack.resolve.choose import complete_names, resolve
from offlinepack.resolve.context import ResolverContext
from offlinepack.resolve.dependencies import Closure, check_closure, next_requirements
from offlinepack.selection import select_files
from offlinepack.targets.parse import parse_target
from offlinepack.wheels.metadata import parse_metadata
from tests.support.making import ServedIndex, make_sdist, make_wheel, serve_index

LINUX, WINDOWS = "cp311-manylinux_2_28_x86_64", "cp311-win_amd64"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ServedIndex]:
    w = tmp_path / "w"
    files = [
        make_wheel(w, "click", "8.0", requires=["colorama; sys_platform == 'win32'"]),
        make_wheel(w, "click", "8.1", requires=["colorama; sys_platform == 'win32'"]),
        make_wheel(w, "colorama", "0.3"),
        make_wheel(w, "colorama", "0.4"),
        make_wheel(w, "uvloop", "1.0", tag="cp39-abi3-manylinux_2_17_x86_64"),
        make_wheel(w, "flask", "3.0", requires=["click>=8", "uvloop; sys_platform != 'win32'"]),
        make_wheel(w, "stone", "1.0", requires_python=">=3.8"),
        make_wheel(w, "stone", "2.0", requires_python=">=3.11"),
    ]
    with serve_index(tmp_path / "served", files) as served:
        yield served


def locked(index: ServedIndex, asked: Requirements, target: str = LINUX) -> Pylock:
    indexes = read_settings(index_url=index.url)
    return resolve(asked, parse_target(target), indexes, ResolverContext(retries=0), "uv")


def names(pylock: Pylock) -> list[str]:
    return [f"{one.name}=={one.version}" for one in pylock.packages]


def failure(run: Any) -> OfflinepackError:
    with pytest.raises(OfflinepackError) as caught:
        run()
    return caught.value


def installed(place: Path, name: str, version: str, *requires: str, requested: bool = False) -> None:
    info = place / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    if requested:
        (info / "REQUESTED").write_text("")


# --------------------------------------------------------------------------------------------- environments


def test_a_windows_environment_for_linux(index: ServedIndex, tmp_path: Path) -> None:
    folder = tmp_path / "env"
    place = folder / "Lib/site-packages"
    installed(place, "flask", "3.0", "click>=8", "uvloop; sys_platform != 'win32'", requested=True)
    installed(place, "click", "8.0", "colorama; sys_platform == 'win32'")
    installed(place, "colorama", "0.3")
    (folder / "Scripts").mkdir()
    (folder / "pyvenv.cfg").write_text("version = 3.11.4\n")
    asked = read_environment(folder)
    assert names(locked(index, asked)) == ["click==8.0", "flask==3.0", "uvloop==1.0"]
    assert names(locked(index, asked, WINDOWS)) == ["click==8.0", "colorama==0.3", "flask==3.0"]
    closed = close(index, locked(index, asked), asked, LINUX)
    assert [f"{one.code} {one.subject}" for one in closed.findings] == [
        "not-in-the-environment uvloop",
        f"not-needed-there {LINUX}",
    ]
    assert "colorama" in closed.findings[1].render()


def test_a_linux_environment_for_windows(index: ServedIndex, tmp_path: Path) -> None:
    place = tmp_path / "env/lib/python3.11/site-packages"
    installed(place, "flask", "3.0", "click>=8", "uvloop; sys_platform != 'win32'", requested=True)
    installed(place, "click", "8.0", "colorama; sys_platform == 'win32'")
    installed(place, "uvloop", "1.0")
    (tmp_path / "env/pyvenv.cfg").write_text("version = 3.11.4\n")
    asked = read_environment(tmp_path / "env")
    assert names(locked(index, asked, WINDOWS)) == ["click==8.0", "colorama==0.4", "flask==3.0"]


def test_what_no_index_has_is_listed_all_at_once(index: ServedIndex, tmp_path: Path) -> None:
    place = tmp_path / "env/lib/python3.11/site-packages"
    installed(place, "python-apt", "2.6.0")
    installed(place, "click", "8.1.post3", "inhouse")
    installed(place, "inhouse", "1.0")
    installed(place, "stone", "1.0")
    (tmp_path / "env/pyvenv.cfg").write_text("version = 3.11.4\n")
    found = failure(lambda: locked(index, read_environment(tmp_path / "env")))
    assert found.exit_code == 3
    assert [(one.code, one.subject) for one in found.findings] == [
        ("not-on-an-index", "click"),
        ("not-on-an-index", "inhouse"),
        ("not-on-an-index", "python-apt"),
    ]
    left = read_environment(tmp_path / "env", exclude=["python-apt", "click", "inhouse"])
    assert names(locked(index, left)) == ["stone==1.0"]


def test_a_real_environment_is_read_with_its_own_python(index: ServedIndex, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    command = [find_uv(), "pip", "install", "--no-config", "--python", str(tmp_path / "env/bin/python")]
    command += ["--default-index", index.url, "click==8.0"]
    subprocess.run(command, check=True, env={**make_uv_environment(), "UV_CACHE_DIR": str(tmp_path / "c")})
    asked = read_environment(tmp_path / "env")
    assert [one.line for one in asked.requirements] == ["click==8.0"]
    assert names(locked(index, asked, WINDOWS)) == ["click==8.0", "colorama==0.4"]


# -------------------------------------------------------------------------------------------------- projects


def test_a_project_with_setup_py_gets_its_name(index: ServedIndex, tmp_path: Path) -> None:
    project = make_sdist(tmp_path / "old", "my-app", "4.0", requires=["click"], unpacked=True)
    text = (project / "pyproject.toml").read_text("utf-8")
    (project / "pyproject.toml").write_text(text.partition("[project]")[0])
    (project / "setup.py").write_text("")
    asked = read_project(project)
    assert asked.requirements[0].name is None
    named = complete_names(asked, read_settings(index_url=index.url), ResolverContext())
    assert named.requirements[0].line == f"my-app @ {project.as_uri()}"
    assert complete_names(named, read_settings(index_url=index.url), ResolverContext()) is named
    assert names(locked(index, asked)) == ["click==8.1", "my-app==None"]


def test_the_project_s_wheel_from_links(index: ServedIndex, tmp_path: Path) -> None:
    project = make_sdist(tmp_path / "project", "mine", "4.0", requires=["click"], unpacked=True)
    dist = tmp_path / "dist"
    make_wheel(dist, "mine", "4.0", requires=["stone"])
    asked = read_project(project, project_wheels=ProjectWheels([str(dist)]))
    indexes = read_settings(index_url=index.url, find_links=[str(dist)])
    made = resolve(asked, parse_target(LINUX), indexes, ResolverContext(), "uv")
    assert names(made) == ["mine==4.0", "stone==2.0"]


def test_a_project_for_a_python_that_it_does_not_admit(index: ServedIndex, tmp_path: Path) -> None:
    project = make_sdist(tmp_path / "project", "mine", "4.0", requires_python=">=3.12", unpacked=True)
    found = failure(lambda: locked(index, read_project(project)))
    assert (found.exit_code, [one.code for one in found.findings]) == (5, ["project-wrong-python"])


# ----------------------------------------------------------------------------------------------------- locks

LOCKED = """
[build-system]
requires = []
build-backend = "in_tree"
backend-path = ["backend"]
[project]
name = "mine"
version = "4.0"
requires-python = ">=3.9"
dependencies = ["click", "stone"]
[project.optional-dependencies]
web = ["flask"]
[dependency-groups]
dev = ["colorama<0.4"]
"""


@pytest.fixture
def uv_locked(index: ServedIndex, tmp_path: Path) -> Path:
    folder = make_sdist(tmp_path / "project", "mine", "4.0", requires=["click", "stone"], unpacked=True)
    (folder / "pyproject.toml").write_text(LOCKED)
    command = [find_uv(), "lock", "--quiet", "--default-index", index.url, "--python", sys.executable]
    subprocess.run(command, cwd=folder, check=True, env=environment(tmp_path))
    return folder


def environment(tmp_path: Path) -> dict[str, str]:
    return {**make_uv_environment(), "UV_CACHE_DIR": str(tmp_path / "uv-cache")}


def test_uv_lock_keeps_its_pins(index: ServedIndex, uv_locked: Path, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "later", "click", "9.0"))
    before = sorted(path.name for path in uv_locked.iterdir())
    asked = read_requirements_file(uv_locked / "uv.lock", extras=["web"])
    assert (*asked.identity, asked.notes) == ("mine", "4.0", ())
    assert names(locked(index, asked)) == ["click==8.1", "flask==3.0", "mine==None", "stone==2.0", "uvloop==1.0"]
    assert names(locked(index, asked, WINDOWS)) == [
        "click==8.1",
        "colorama==0.3",
        "flask==3.0",
        "mine==None",
        "stone==2.0",
    ]
    assert sorted(path.name for path in uv_locked.iterdir()) == before


def test_forks_are_settled_for_each_target(index: ServedIndex, uv_locked: Path) -> None:
    asked = read_requirements_file(uv_locked / "uv.lock")
    assert "stone==2.0" in names(locked(index, asked))
    assert "stone==1.0" in names(locked(index, asked, "cp310-manylinux_2_28_x86_64"))


def test_groups_are_left_out_unless_named(index: ServedIndex, uv_locked: Path) -> None:
    assert "colorama==0.3" not in names(locked(index, read_requirements_file(uv_locked / "uv.lock")))


def test_a_uv_lock_that_no_longer_fits(index: ServedIndex, uv_locked: Path) -> None:
    text = (uv_locked / "pyproject.toml").read_text()
    (uv_locked / "pyproject.toml").write_text(text.replace('"click", "stone"', '"click", "stone", "flask"'))
    stale = read_requirements_file(uv_locked / "uv.lock")
    assert [one.code for one in stale.notes] == ["lock-does-not-fit"]
    found = failure(lambda: read_requirements_file(uv_locked / "uv.lock", locked=True))
    assert (found.exit_code, found.findings[0].code) == (4, "lock-does-not-fit")
    assert read_requirements_file(uv_locked / "uv.lock").pylocks


def test_a_uv_lock_of_a_project_that_is_no_package(index: ServedIndex, uv_locked: Path, tmp_path: Path) -> None:
    (uv_locked / "pyproject.toml").write_text("[project]" + LOCKED.partition("[project]")[2])
    stale = read_requirements_file(uv_locked / "uv.lock")
    text = (uv_locked / "pyproject.toml").read_text()
    (uv_locked / "pyproject.toml").write_text(text.replace('"click", "stone"', '"click", "stone", "flask"'))
    stale = read_requirements_file(uv_locked / "uv.lock")
    made = locked(index, stale)
    assert [one for one in names(made) if not one.startswith("mine")] == [
        "click==8.1",
        "flask==3.0",
        "stone==2.0",
        "uvloop==1.0",
    ]


def pylock_of(made: Pylock, folder: Path, *leave_out: str) -> Path:
    """pylock.toml as another tool would have written it for one machine, without some packages."""
    kept = [one for one in made.packages if one.name not in leave_out]
    plain = replace(made, packages=kept, environments=None, requires_python=None, created_by="other").to_dict()
    path = folder / "pylock.toml"
    path.write_text(_toml(plain), "utf-8")
    return path


def _toml(plain: Any) -> str:
    lines = ['lock-version = "1.0"', f"created-by = {json.dumps(plain['created-by'])}", "packages = ["]
    return "\n".join([*lines, *(f"  {_inline(one)}," for one in plain["packages"]), "]", ""])


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


def test_a_lock_of_another_machine_is_completed_and_its_pins_kept(index: ServedIndex, tmp_path: Path) -> None:
    """Made on Linux, packed for Windows: colorama is resolved in, click stays at its older pin."""
    made = locked(index, parse_arguments(["click==8.0"]))
    asked = read_requirements_file(pylock_of(made, tmp_path))
    pylock = locked(index, asked, WINDOWS)
    assert names(pylock) == ["click==8.0"]
    closed = close(index, pylock, asked, WINDOWS)
    more = next_requirements(asked, closed)
    assert more is not None
    pylock = locked(index, more, WINDOWS)
    assert names(pylock) == ["click==8.0", "colorama==0.4"]
    closed = close(index, pylock, more, WINDOWS)
    assert [(one.name, one.is_requested) for one in closed.order] == [("colorama", False), ("click", True)]
    assert [f"{one.code} {one.subject}" for one in closed.findings] == ["added colorama"]


def test_locked_forbids_to_complete(index: ServedIndex, tmp_path: Path) -> None:
    made = locked(index, parse_arguments(["click==8.0"]))
    asked = read_requirements_file(pylock_of(made, tmp_path), locked=True)
    more = next_requirements(asked, close(index, locked(index, asked, WINDOWS), asked, WINDOWS))
    assert more is not None
    found = failure(lambda: locked(index, more, WINDOWS))
    assert (found.exit_code, [one.code for one in found.findings]) == (4, ["not-in-the-lock"])


def test_a_lock_and_a_requirement_beside_it(index: ServedIndex, tmp_path: Path) -> None:
    made = locked(index, parse_arguments(["click==8.0"]))
    asked = read_requirements_file(pylock_of(made, tmp_path)) + parse_arguments(["flask"])
    assert names(locked(index, asked)) == ["click==8.0", "flask==3.0", "uvloop==1.0"]
    against = read_requirements_file(pylock_of(made, tmp_path)) + parse_arguments(["click>=8.1"])
    found = failure(lambda: locked(index, against))
    assert (found.exit_code, [one.code for one in found.findings]) == (4, ["lock-has-another"])


def test_a_lock_for_another_python_or_environment(index: ServedIndex) -> None:
    made = locked(index, parse_arguments(["click==8.0"]))
    for target, code in ((WINDOWS, "environment"), ("cp312-manylinux_2_28_x86_64", "python")):
        found = failure(lambda target=target: locked(index, Requirements(pylocks=(made,)), target))
        assert (found.exit_code, [one.code for one in found.findings]) == (5, [f"lock-for-other-{code}"])


def close(index: ServedIndex, pylock: Pylock, asked: Requirements, target: str) -> Closure:
    chosen = select_files(pylock, parse_target(target), asked).files
    read = [parse_metadata(index.files[one.filename].metadata or b"") for one in chosen]
    return check_closure(read, asked, parse_target(target))


def test_a_lock_names_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "wheels", "stone", "1.0")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    text = 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "stone"\nversion = "1.0"\n'
    text += f'wheels = [{{path = "wheels/{wheel.name}", hashes = {{sha256 = "{digest}"}}}}]\n'
    (tmp_path / "pylock.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    asked = read_requirements_file(Path("pylock.toml"))
    made = resolve(asked, parse_target(LINUX), read_settings(index_url="http://127.0.0.1:9/"), ResolverContext())
    (chosen,) = select_files(made, parse_target(LINUX), asked).files
    assert (chosen.path, chosen.url) == (str(wheel), None)
