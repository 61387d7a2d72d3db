"""Find the input of a build without arguments, and list the inputs that are skipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinepack.errors import SourceError, Text, error, text
from offlinepack.requirements.installed import is_conda_base, is_environment
from offlinepack.requirements.lockfiles import find_foreign_files, refuse_foreign
from offlinepack.requirements.model import NO_PROJECT_WHEELS, ProjectWheels, Requirements
from offlinepack.requirements.pyproject import has_project
from offlinepack.requirements.read import read_environment, read_project, read_requirements_file

_FILE_NAMES = ("pylock.toml", "uv.lock", "requirements.txt")


@dataclass(frozen=True)
class DiscoveredInputs:
    """What was taken, and what else was there."""

    requirements: Requirements
    summary: Text
    """the first line of the run: what was taken, what was passed over"""
    environment: Path | None = None
    """the frozen environment, whose interpreter is the default target"""


def find_inputs(
    folder: Path,
    variables: Mapping[str, str],
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    exclude: Sequence[str] = (),
    locked: bool = False,
    project_wheels: ProjectWheels = NO_PROJECT_WHEELS,
) -> DiscoveredInputs:
    """Find the requirements of a folder, otherwise of the active environment; raise SourceError with the places
    searched.

    `variables` are those of the shell: the environment that offlinepack runs from is not active merely for that.
    """
    names, foreign = _find_files(folder), find_foreign_files(folder)
    passed = list_inputs(folder, variables)[1:]
    if names:
        source = folder / names[0]
        if names[0] == "pyproject.toml":
            requirements = read_project(folder, extras=extras, groups=groups, project_wheels=project_wheels)
        else:
            requirements = read_requirements_file(
                source, extras=extras, groups=groups, locked=locked, project_wheels=project_wheels
            )
        return DiscoveredInputs(requirements, _make_summary(names[0], passed))
    if foreign:
        refuse_foreign(folder / foreign[0])
    for name, environment in _find_active_environments(variables):
        environment_requirements = read_environment(environment, exclude=exclude)
        return DiscoveredInputs(environment_requirements, _make_summary(f"{name} ({environment})", passed), environment)
    raise SourceError(
        error(
            "nothing-found",
            folder.name or str(folder),
            "There is nothing to pack: no {files} here, and no active environment (VIRTUAL_ENV, CONDA_PREFIX).",
            "Name requirements, a file with -r, --project or --venv.",
            files=[*_FILE_NAMES, text("pyproject.toml with [project]")],
        )
    )


def _make_summary(source: str, passed: Sequence[str]) -> Text:
    if passed:
        return text("packing {taken}; passed over: {passed}", taken=source, passed=list(passed))
    return text("packing {taken}", taken=source)


def list_inputs(folder: Path, variables: Mapping[str, str]) -> list[str]:
    """List the inputs that a folder and the active environment offer, the preferred one first."""
    environments = [f"{name} ({environment})" for name, environment in _find_active_environments(variables)]
    return [*_find_files(folder), *find_foreign_files(folder), *environments]


def _find_files(folder: Path) -> list[str]:
    names = [name for name in _FILE_NAMES if (folder / name).is_file()]
    return [*names, "pyproject.toml"] if has_project(folder) else names


def _find_active_environments(variables: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield the active environments with the variable that names each; never the base environment of conda."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        path = Path(variables.get(name) or "/nowhere")
        if variables.get(name) and is_environment(path) and not is_conda_base(path):
            yield name, path
