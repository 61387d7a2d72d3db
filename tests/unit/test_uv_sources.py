"""Local projects, addresses and repositories of [tool.uv.sources] never come from an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from offlinepack.errors import SourceError, UsageError
from offlinepack.requirements.pyproject import read_pyproject
from offlinepack.requirements.uv_sources import find_local_projects


def write_project(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(content, "utf-8")
    return folder


def project(name: str, *dependencies: str, more: str = "") -> str:
    return f"[project]\nname = {name!r}\nversion = '1.0'\ndependencies = {list(dependencies)!r}\n{more}\n"


def read_lines(folder: Path, **options: list[str]) -> list[str]:
    return [line.line for line in read_pyproject(folder, **options).requirements]


def test_a_path_is_followed(tmp_path: Path) -> None:
    shared = write_project(tmp_path / "shared", project("shared", "six"))
    sources = "[tool.uv.sources]\nShared = { path = '../shared', editable = true }"
    app = write_project(tmp_path / "app", project("app", "shared[x]>=1; python_version > '3'", "six", more=sources))
    assert read_lines(app) == [f'shared[x] @ {shared.as_uri()} ; python_version > "3"', "six"]


def test_a_wheel_an_address_and_a_repository_are_followed(tmp_path: Path) -> None:
    (tmp_path / "stone-1.0-py3-none-any.whl").write_bytes(b"")
    sources = (
        "[tool.uv.sources]\nstone = { path = 'stone-1.0-py3-none-any.whl' }\n"
        "pebble = { url = 'https://files.example/pebble.zip', subdirectory = 'src' }\n"
        "sand = { git = 'https://git.example/sand', tag = 'v1' }\nmoss = { index = 'company' }"
    )
    app = write_project(tmp_path, project("app", "stone", "pebble", "sand", "moss>=2", more=sources))
    assert read_lines(app) == [
        f"stone @ {(tmp_path / 'stone-1.0-py3-none-any.whl').as_uri()}",
        "pebble @ https://files.example/pebble.zip#subdirectory=src",
        "sand @ git+https://git.example/sand@v1",
        "moss>=2",
    ]


def test_a_virtual_member_gives_its_dependencies_and_is_never_looked_up(tmp_path: Path) -> None:
    workspace = "[tool.uv]\npackage = false\n[tool.uv.workspace]\nmembers = ['libs/*']\n"
    sources = "[tool.uv.sources]\ntools = { workspace = true }\ncore = { workspace = true }"
    root = write_project(tmp_path, project("root", "tools; sys_platform == 'linux'", more=workspace + sources))
    write_project(tmp_path / "libs" / "tools", project("tools", "iniconfig", "core", more="[tool.uv]\npackage = false"))
    core = write_project(tmp_path / "libs" / "core", project("core", "idna"))
    requirements = read_pyproject(root)
    assert [line.line for line in requirements.requirements] == [
        'iniconfig; sys_platform == "linux"',
        f'core @ {core.as_uri()} ; sys_platform == "linux"',
    ]
    assert requirements.excluded_projects == {"tools"}
    assert [local.name for local in find_local_projects(root)] == ["core", "tools"]


def test_a_local_project_that_only_another_one_needs_is_kept_to_its_folder(tmp_path: Path) -> None:
    deep = write_project(tmp_path / "deep", project("deep"))
    near = write_project(
        tmp_path / "near", project("near", "deep", more="[tool.uv.sources]\ndeep = { path = '../deep' }")
    )
    app = write_project(tmp_path / "app", project("app", "near", more="[tool.uv.sources]\nnear = { path = '../near' }"))
    requirements = read_pyproject(app)
    assert [line.line for line in requirements.requirements] == [f"near @ {near.as_uri()}"]
    assert [line.line for line in requirements.constraints] == [f"deep @ {deep.as_uri()}"]


@pytest.mark.parametrize(
    "source",
    ["{ path = '../nowhere' }", "{ workspace = true }", "[{ url = 'https://x.example/a.zip', marker = 'a b' }]"],
)
def test_a_source_that_cannot_be_followed_is_an_error(source: str, tmp_path: Path) -> None:
    app = write_project(tmp_path, project("app", "shared", more=f"[tool.uv.sources]\nshared = {source}"))
    with pytest.raises(SourceError) as caught:
        read_pyproject(app)
    assert [(finding.code, finding.subject) for finding in caught.value.findings] == [("source-not-followed", "shared")]


def test_settings_of_uv_are_read(tmp_path: Path) -> None:
    settings = (
        "requires-python = '>=3.11'\n[tool.uv]\nconstraint-dependencies = ['certifi<2024']\n"
        "override-dependencies = ['urllib3==1.26.18']\nexclude-dependencies = ['idna']\n"
        "conflicts = [[{ extra = 'cpu' }, { extra = 'gpu' }]]\n"
        "[project.optional-dependencies]\ncpu = []\ngpu = []"
    )
    app = write_project(tmp_path, project("app", "requests", more=settings))
    requirements = read_pyproject(app)
    assert [line.line for line in requirements.constraints] == ["certifi<2024"]
    assert [line.line for line in requirements.overrides] == ["urllib3==1.26.18"]
    assert requirements.excluded_projects == {"idna"} and requirements.requires_python == ">=3.11"
    with pytest.raises(UsageError) as caught:
        read_pyproject(app, extras=["cpu", "gpu"])
    assert caught.value.findings[0].code == "conflicting-extras"
