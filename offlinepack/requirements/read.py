"""Read requirements from arguments, files, projects, locks and virtual environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offlinepack.errors import Finding, SourceError, error
from offlinepack.requirements.lockfiles import read_pylock
from offlinepack.requirements.model import NO_PROJECT_WHEELS, PageFetcher, ProjectWheels, RequirementLine, Requirements
from offlinepack.requirements.uv_export import read_uv_lock


def parse_arguments(arguments: Sequence[str]) -> Requirements:
    """Parse the requirements of the command line; raise SourceError with all invalid ones."""
    from offlinepack.requirements.requirements_txt import parse_line

    lines: list[RequirementLine] = []
    findings: list[Finding] = []
    for number, argument in enumerate(arguments, 1):
        try:
            lines.append(parse_line(argument, f"argument {number}"))
        except SourceError as bad:
            findings.extend(bad.findings)
    if findings:
        raise SourceError(*findings)
    return Requirements(requirements=tuple(lines))


def read_requirements_file(
    path: Path,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    locked: bool = False,
    project_wheels: ProjectWheels = NO_PROJECT_WHEELS,
    page: PageFetcher | None = None,
) -> Requirements:
    """Read a file of -r in the format that its name says; raise SourceError with all its errors.

    `extras` and `groups` apply to a project or lock, for which `project_wheels` may be used; `locked` uses a lock as
    it is.
    """
    from offlinepack.requirements.lockfiles import is_lock, refuse_foreign
    from offlinepack.requirements.pyproject import read_pyproject
    from offlinepack.requirements.requirements_txt import read_requirements_txt

    refuse_foreign(path)
    if is_lock(path):
        return read_lock(path, extras=extras, groups=groups, locked=locked, project_wheels=project_wheels)
    if path.name == "pyproject.toml":
        return read_pyproject(path.parent, extras=extras, groups=groups, project_wheels=project_wheels)
    return read_requirements_txt(path, page=page)


def read_constraints(path: Path, page: PageFetcher | None = None) -> Requirements:
    """Read a constraints file (-c)."""
    from offlinepack.requirements.requirements_txt import read_requirements_txt

    return read_requirements_txt(path, constraint=True, page=page)


def read_project(
    folder: Path,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    locked: bool = False,
    project_wheels: ProjectWheels = NO_PROJECT_WHEELS,
) -> Requirements:
    """Read the project of --project with its extras and groups, from its lock if it has one.

    uv.lock is always used; pylock.toml, which may be for one machine, only with `locked`.
    """
    from offlinepack.requirements.pyproject import read_pyproject

    lock = find_project_lock(folder, locked)
    given_lock = (
        read_lock(lock, extras=extras, groups=groups, locked=locked, project_wheels=project_wheels) if lock else None
    )
    if given_lock and lock and lock.name == "uv.lock":  # uv knows of the project itself
        return given_lock
    project = read_pyproject(folder, extras=extras, groups=groups, project_wheels=project_wheels)
    return given_lock + project if given_lock else project


def find_project_lock(folder: Path, locked: bool) -> Path | None:
    """Return the lock in a project's folder that is used for it, or None."""
    names = ("pylock.toml", "uv.lock") if locked else ("uv.lock",)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_environment(folder: Path, *, exclude: Sequence[str] = ()) -> Requirements:
    """Freeze the virtual environment or conda prefix of --venv."""
    from offlinepack.requirements.environment import freeze_environment

    return freeze_environment(folder, exclude=exclude)


def read_lock(
    path: Path,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    locked: bool = False,
    project_wheels: ProjectWheels = NO_PROJECT_WHEELS,
) -> Requirements:
    """Read the packages of a lock with absolute paths; raise SourceError, or ResolutionError with `locked`.

    uv.lock names the folder of its project; a wheel of that release in `project_wheels` is used instead.
    """
    if not path.is_file():
        raise SourceError(error("no-such-file", path, "There is no file {file}.", "Correct the path.", file=path))
    if path.name == "uv.lock":
        return read_uv_lock(path, extras, groups, locked, project_wheels)
    return read_pylock(path, extras, groups, locked)
