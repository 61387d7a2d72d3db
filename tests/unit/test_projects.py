"""Projects, locks of other tools, and what is taken where nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from offlinepack.errors import SourceError
from offlinepack.requirements.discover import find_inputs
from offlinepack.requirements.model import ProjectWheels, Requirements
from offlinepack.requirements.pyproject import is_packaged
from offlinepack.requirements.read import read_project, read_requirements_file

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "My_App"
version = "1.2.0"
dependencies = ["flask>=3", "click ; python_version >= '3.8'"]
[project.optional-dependencies]
web = ["gunicorn"]
all = ["my-app[web,big_db]"]
big-db = ["psycopg[binary]"]
[dependency-groups]
test = ["pytest", {include-group = "lint"}]
lint = ["ruff>=0.6"]
circle = [{include-group = "circle"}]
"""
VIRTUAL = PROJECT.partition("[project]")[1] + PROJECT.partition("[project]")[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "app"
    path.mkdir()
    return path


def project(folder: Path, text: str = PROJECT) -> Path:
    (folder / "pyproject.toml").write_text(text, "utf-8")
    return folder


def lines(found: Requirements) -> list[str]:
    return [one.line for one in found.requirements]


def codes(run: object) -> list[str]:
    with pytest.raises(SourceError) as caught:
        run()  # type: ignore[operator]
    return [f"{one.code} {one.subject}" for one in caught.value.findings]


def test_the_project_itself_is_asked_for(folder: Path) -> None:
    found = read_project(project(folder))
    assert lines(found) == [f"my-app @ {folder.as_uri()}"]
    assert (found.identity.name, found.identity.version) == ("my-app", "1.2.0")


def test_extras_and_groups(folder: Path) -> None:
    found = read_project(project(folder), extras=["Web", "all"], groups=["test"])
    assert lines(found) == [f"my-app[all,web] @ {folder.as_uri()}", "pytest", "ruff>=0.6"]
    assert found.requirements[1].origin == "pyproject.toml [dependency-groups] test"


def test_a_wheel_of_the_same_version_is_taken(folder: Path, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "my_app-1.1.0-py3-none-any.whl").touch()
    assert lines(read_project(project(folder), project_wheels=ProjectWheels([str(dist)]))) == [
        f"my-app @ {folder.as_uri()}"
    ]
    (dist / "my_app-1.2.0-py3-none-any.whl").touch()
    for place in (str(dist), dist.as_uri()):
        found = read_project(
            project(folder), extras=["web"], project_wheels=ProjectWheels([place, "https://host.example/"])
        )
        assert lines(found) == ["my-app[web]==1.2.0"]


def test_a_version_that_only_the_build_knows_is_asked_for_where_a_wheel_lies_ready(
    folder: Path, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def version_of(place: Path) -> str:
        asked.append(place)
        return "1.2"

    own = ProjectWheels([str(tmp_path)], version_of)
    project(folder, PROJECT.replace('version = "1.2.0"', 'dynamic = ["version"]'))
    (tmp_path / "other-1.2-py3-none-any.whl").touch()
    assert lines(read_project(folder, project_wheels=own)) == [f"my-app @ {folder.as_uri()}"]
    assert not asked
    (tmp_path / "my_app-1.1-py3-none-any.whl").touch()
    found = read_project(folder, project_wheels=own)
    assert (lines(found), found.identity.version) == ([f"my-app @ {folder.as_uri()}"], "1.2")
    (tmp_path / "my_app-1.2-py3-none-any.whl").touch()
    found = read_project(folder, project_wheels=own)
    assert (lines(found), found.identity.version) == (["my-app==1.2"], "1.2")
    assert asked == [folder, folder]


def test_a_project_that_is_no_package(folder: Path) -> None:
    found = read_project(project(folder, VIRTUAL), extras=["all"], groups=["lint"])
    assert lines(found) == ["flask>=3", 'click ; python_version >= "3.8"', "psycopg[binary]", "gunicorn", "ruff>=0.6"]
    assert [one.code for one in found.notes] == ["not-packaged"]
    assert found.identity.name == "my-app"


def test_uv_s_word_on_being_a_package(folder: Path) -> None:
    assert is_packaged(project(folder))
    assert not is_packaged(project(folder, PROJECT + "[tool.uv]\npackage = false\n"))


def test_a_project_with_setup_py_only(folder: Path) -> None:
    (folder / "setup.py").write_text("")
    found = read_project(folder, extras=["x"])
    assert lines(found) == [f"{folder.as_uri()}[x]"]
    assert found.requirements[0].requirement is None and found.identity.name is None


def test_unknown_extras_and_groups_all_at_once(folder: Path) -> None:
    project(folder)
    assert codes(lambda: read_project(folder, extras=["wbe"], groups=["tset", "circle"])) == [
        "no-such-extra wbe",
        "no-such-group tset",
        "bad-group pyproject.toml [dependency-groups] circle",
    ]


def test_no_project(folder: Path) -> None:
    assert codes(lambda: read_project(folder)) == [f"no-project {folder}"]


def test_a_pyproject_that_is_no_toml(folder: Path) -> None:
    project(folder, "[project\n")
    assert codes(lambda: read_project(folder)) == [f"bad-toml {folder / 'pyproject.toml'}"]


def test_a_version_that_the_build_computes(folder: Path) -> None:
    text = PROJECT.replace('version = "1.2.0"', 'dynamic = ["version"]')
    found = read_project(project(folder, text))
    assert (found.identity.name, found.identity.version) == ("my-app", None)


def test_dependencies_that_only_a_build_knows(folder: Path) -> None:
    text = '[project]\nname = "x"\nversion = "1"\ndynamic = ["dependencies"]\n'
    assert codes(lambda: read_project(project(folder, text))) == ["dynamic-dependencies app"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("poetry.lock", "poetry export"),
        ("pdm.lock", "pdm export"),
        ("Pipfile.lock", "pipenv requirements"),
        ("Pipfile", "pipenv lock"),
        ("environment.yml", "--venv"),
        ("pixi.lock", "--venv"),
    ],
)
def test_other_tools_have_an_export(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text("")
    with pytest.raises(SourceError) as caught:
        read_requirements_file(folder / name)
    assert says in caught.value.findings[0].render()
    with pytest.raises(SourceError) as caught:
        find_inputs(folder, {})
    assert says in caught.value.findings[0].render()


LOCK = """
lock-version = "1.0"
created-by = "test"
extras = ["fire"]
dependency-groups = ["dev"]
[[packages]]
name = "stone"
version = "1.0"
wheels = [{path = "wheels/stone-1.0-py3-none-any.whl", hashes = {sha256 = "00"}}]
[[packages]]
name = "mine"
directory = {path = "."}
"""


def test_a_lock(folder: Path) -> None:
    (folder / "pylock.prod.toml").write_text(LOCK)
    found = read_requirements_file(folder / "pylock.prod.toml", extras=["Fire"], groups=["dev"])
    ((first, second),) = (one.packages for one in found.pylocks)
    assert first.wheels and second.directory
    assert first.wheels[0].path == str(folder / "wheels/stone-1.0-py3-none-any.whl")
    assert second.directory.path == str(folder)
    assert (found.extras, found.groups) == (("fire",), ("dev",))
    assert read_requirements_file(folder / "pylock.prod.toml").groups is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad-lock"),
        ("lock-version = '1.0'\n[[packages]]\n", "bad-lock"),
        ("= nothing", "bad-lock"),
        (LOCK.replace('"1.0"', '"2.0"', 1), "lock-too-new"),
    ],
)
def test_a_lock_that_is_none(folder: Path, text: str, code: str) -> None:
    (folder / "pylock.toml").write_text(text)
    assert codes(lambda: read_requirements_file(folder / "pylock.toml")) == [f"{code} {folder / 'pylock.toml'}"]


def test_a_lock_without_that_extra(folder: Path) -> None:
    (folder / "pylock.toml").write_text(LOCK)
    with pytest.raises(SourceError) as caught:
        read_requirements_file(folder / "pylock.toml", extras=["fyre"], groups=["dve"])
    assert "--extra fyre, --group dve" in caught.value.findings[0].render()


# -------------------------------------------------------------------------------------- nothing was said


def environment(path: Path) -> Path:
    info = path / "lib/python3.11/site-packages/flask-3.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flask\nVersion: 3.0\n")
    (path / "pyvenv.cfg").write_text("version = 3.11.1\n")
    return path


def said(folder: Path, active: dict[str, str] | None = None) -> str:
    return str(find_inputs(folder, active or {}).summary)


def test_the_order_line_by_line(folder: Path, tmp_path: Path) -> None:
    active = {"VIRTUAL_ENV": str(environment(tmp_path / "env"))}
    shown = f"VIRTUAL_ENV ({tmp_path / 'env'})"
    found = find_inputs(folder, active)
    assert str(found.summary) == f"packing {shown}"
    assert (lines(found.requirements), found.environment) == (["flask==3.0"], tmp_path / "env")
    project(folder)
    assert said(folder, active) == f"packing pyproject.toml; passed over: {shown}"
    (folder / "requirements.txt").write_text("stone\n")
    assert said(folder, active) == f"packing requirements.txt; passed over: pyproject.toml, {shown}"
    (folder / "pylock.toml").write_text(LOCK)
    assert said(folder) == "packing pylock.toml; passed over: requirements.txt, pyproject.toml"
    (folder / "poetry.lock").write_text("")
    assert said(folder) == "packing pylock.toml; passed over: requirements.txt, pyproject.toml, poetry.lock"


def test_a_pyproject_of_tools_only_is_none(folder: Path) -> None:
    project(folder, "[tool.ruff]\nline-length = 100\n")
    assert codes(lambda: find_inputs(folder, {})) == ["nothing-found app"]


def test_nothing_at_all_lists_the_places(folder: Path) -> None:
    with pytest.raises(SourceError) as caught:
        find_inputs(folder, {"VIRTUAL_ENV": "/nowhere", "CONDA_PREFIX": ""})
    sentence = caught.value.findings[0].render()
    for place in ("pylock.toml", "uv.lock", "requirements.txt", "pyproject.toml with [project]", "VIRTUAL_ENV"):
        assert place in sentence


def test_conda_s_base_is_never_taken(folder: Path, tmp_path: Path) -> None:
    base = environment(tmp_path / "miniconda3")
    (base / "conda-meta").mkdir()
    (base / "conda-meta/conda-24.1.0-0.json").write_text("{}")
    assert codes(lambda: find_inputs(folder, {"CONDA_PREFIX": str(base)})) == ["nothing-found app"]
    env = environment(tmp_path / "envs" / "app")
    (env / "conda-meta").mkdir()
    assert said(folder, {"CONDA_PREFIX": str(env)}) == f"packing CONDA_PREFIX ({env})"


def test_the_project_s_extras_are_handed_on(folder: Path) -> None:
    project(folder)
    found = find_inputs(folder, {}, extras=["web"], groups=["lint"])
    assert lines(found.requirements) == [f"my-app[web] @ {folder.as_uri()}", "ruff>=0.6"]
