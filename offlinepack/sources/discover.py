"""What `build` takes when it is told nothing: the first of a list of places, and a sentence on what was passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinepack import sources
from offlinepack.errors import SourceError, Text, error, text
from offlinepack.sources import Requirements, freeze, locks, pyproject

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
    active: Mapping[str, str],
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    exclude: Sequence[str] = (),
    locked: bool = False,
    find_links: Sequence[str] = (),
) -> Discovered:
    """The requirements of this folder, else of the active environment; SourceError with the list of places.

    `active` holds VIRTUAL_ENV and CONDA_PREFIX as the shell has them: the environment that offlinepack runs from is not
    active merely for that.
    """
    there = [name for name in _FILES if (folder / name).is_file()]
    if pyproject.has_project(folder):
        there.append("pyproject.toml")
    environment, found = _active(active)
    foreign = locks.foreign_in(folder)
    passed = [*there[1:], *foreign, *([found] if environment and there else [])]
    if there:
        taken = folder / there[0]
        if there[0] == "pyproject.toml":
            requirements = sources.read_project(folder, extras=extras, groups=groups, find_links=find_links)
        else:
            requirements = sources.read(taken, extras=extras, groups=groups, locked=locked)
        return Discovered(requirements, _said(there[0], passed))
    if foreign:
        locks.refuse_foreign(folder / foreign[0])
    if environment is not None:
        return Discovered(
            sources.read_environment(environment, exclude=exclude), _said(found, passed), environment=environment
        )
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


def _active(active: Mapping[str, str]) -> tuple[Path | None, str]:
    """The active environment and the variable that names it; conda's base never."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if active.get(name) and freeze.is_environment(Path(active[name])):
            path = Path(active[name])
            if not freeze.is_conda_base(path):
                return path, f"{name} ({path})"
    return None, ""
