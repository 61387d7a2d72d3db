"""What `build` takes when it is told nothing: the first of a list of places, and a sentence on what was passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinepack import sources
from offlinepack.errors import SourceError, Text, error, text
from offlinepack.sources import NO_WHEELS, OwnWheels, Requirements, freeze, locks, pyproject

_FILES = ("pylock.toml", "uv.lock", "requirements.txt")


@dataclass(frozen=True)
class Discovered:
    """What was taken, and what else was there."""

    requirements: Requirements
    said: Text
    """the first line of the run: what was taken, what was passed over"""
    environment: Path | None = None
    """the frozen environment, whose interpreter is the default target"""


def discover(
    folder: Path,
    variables: Mapping[str, str],
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    exclude: Sequence[str] = (),
    locked: bool = False,
    own: OwnWheels = NO_WHEELS,
) -> Discovered:
    """The requirements of this folder, else of the active environment; SourceError with the list of places.

    `variables` are the shell's: the environment that offlinepack runs from is not active merely for that.
    """
    there, foreign = _own_files(folder), locks.foreign_in(folder)
    passed = places(folder, variables)[1:]
    if there:
        taken = folder / there[0]
        if there[0] == "pyproject.toml":
            requirements = sources.read_project(folder, extras=extras, groups=groups, own=own)
        else:
            requirements = sources.read(taken, extras=extras, groups=groups, locked=locked, own=own)
        return Discovered(requirements, _said(there[0], passed))
    if foreign:
        locks.refuse_foreign(folder / foreign[0])
    for name, environment in _active(variables):
        found = sources.read_environment(environment, exclude=exclude)
        return Discovered(found, _said(f"{name} ({environment})", passed), environment)
    raise SourceError(
        error(
            "nothing-found",
            folder.name or str(folder),
            "There is nothing to pack: no {files} here, and no active environment (VIRTUAL_ENV, CONDA_PREFIX).",
            "Name requirements, a file with -r, --project or --venv.",
            files=[*_FILES, text("pyproject.toml with [project]")],
        )
    )


def _said(taken: str, passed: Sequence[str]) -> Text:
    if passed:
        return text("packing {taken}; passed over: {passed}", taken=taken, passed=list(passed))
    return text("packing {taken}", taken=taken)


def places(folder: Path, variables: Mapping[str, str]) -> list[str]:
    """All that could be packed from here, as people call it, what is taken first at the front."""
    environments = [f"{name} ({environment})" for name, environment in _active(variables)]
    return [*_own_files(folder), *locks.foreign_in(folder), *environments]


def _own_files(folder: Path) -> list[str]:
    there = [name for name in _FILES if (folder / name).is_file()]
    return [*there, "pyproject.toml"] if pyproject.has_project(folder) else there


def _active(variables: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The active environments, each with the variable that names it; conda's base never."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        path = Path(variables.get(name) or "/nowhere")
        if variables.get(name) and freeze.is_environment(path) and not freeze.is_conda_base(path):
            yield name, path
