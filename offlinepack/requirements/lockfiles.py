"""Read pylock.toml files (PEP 751), and name the export command for locks of other tools."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from packaging.pylock import Package, Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import canonicalize_name

from offlinepack.errors import SourceError, error
from offlinepack.ontarget.errors import explain_os_error
from offlinepack.requirements.model import Requirements

# File name -> the command that turns it into something that can be read, and the file that then results.
_FOREIGN_LOCKS = {
    "poetry.lock": ("poetry export --output requirements.txt", "requirements.txt"),
    "pdm.lock": ("pdm export --output requirements.txt", "requirements.txt"),
    "Pipfile.lock": ("pipenv requirements --hash > requirements.txt", "requirements.txt"),
    "Pipfile": ("pipenv lock && pipenv requirements --hash > requirements.txt", "requirements.txt"),
}

_CONDA_FILES = ("environment.yml", "environment.yaml", "conda-lock.yml", "pixi.lock", "pixi.toml")


def is_lock(path: Path) -> bool:
    """Check whether a file has the name of a lock: pylock.toml, pylock.*.toml or uv.lock."""
    return path.name in ("pylock.toml", "uv.lock") or (path.name.startswith("pylock.") and path.suffix == ".toml")


def refuse_foreign(path: Path) -> None:
    """Raise SourceError with the export command for the file of a tool whose format only it reads."""
    if path.name in _FOREIGN_LOCKS:
        command, result = _FOREIGN_LOCKS[path.name]
        raise SourceError(
            error(
                "foreign-lock",
                path.name,
                "{subject} is in a format that only its own tool reads.",
                "Run `{command}` beside it, then offlinepack build -r {result}.",
                command=command,
                result=result,
            )
        )
    if path.name in _CONDA_FILES:
        raise SourceError(
            error(
                "conda-file",
                path.name,
                "{subject} describes a conda environment, which is more than Python packages.",
                'Make the environment, then pack what is in it: offlinepack build --venv "$CONDA_PREFIX".',
            )
        )


def find_foreign_files(folder: Path) -> list[str]:
    """Return the names of files in a folder whose format only their own tool reads."""
    return [name for name in (*_FOREIGN_LOCKS, *_CONDA_FILES) if (folder / name).is_file()]


def read_pylock(path: Path, extras: Sequence[str], groups: Sequence[str], locked: bool) -> Requirements:
    """Read a pylock file (PEP 751) with the extras and groups that are requested of it."""
    pylock = parse_pylock(path)
    unknown = [f"--extra {extra}" for extra in extras if canonicalize_name(extra) not in (pylock.extras or ())]
    unknown += [f"--group {group}" for group in groups if group not in (pylock.dependency_groups or ())]
    if unknown:
        raise SourceError(
            error(
                "not-in-lock",
                path,
                "{subject} has nothing for {asked}; it knows extras: {extras}; groups: {groups}.",
                "Make the lock with them, or leave them out.",
                asked=unknown,
                extras=list(pylock.extras or ()) or "-",
                groups=list(pylock.dependency_groups or ()) or "-",
            )
        )
    return Requirements(
        pylocks=(resolve_paths(pylock, path.parent),),
        extras=tuple(canonicalize_name(extra) for extra in extras),
        groups=tuple(groups) or None,
        is_locked=locked,
    )


def parse_pylock(path: Path, content: str | None = None) -> Pylock:
    """Parse a pylock file (PEP 751); raise SourceError if it is invalid."""
    try:
        return Pylock.from_dict(tomllib.loads(path.read_text("utf-8") if content is None else content))
    except PylockUnsupportedVersionError as bad:
        finding = error(
            "lock-too-new",
            path,
            "{subject} is a lock of a version that is not known here.",
            "Use a newer offlinepack.",
            log=str(bad),
        )
    except (ValueError, PylockValidationError) as bad:
        finding = error(
            "bad-lock",
            path,
            "{subject} is no lock as PEP 751 defines it.",
            "Make it again with the tool that wrote it.",
            log=str(bad),
        )
    except OSError as bad:
        finding = error(
            "unreadable",
            path,
            "{file} cannot be read: {reason}.",
            "Give your account the right to read it.",
            file=path,
            reason=explain_os_error(bad),
        )
    raise SourceError(finding)


def resolve_paths(pylock: Pylock, folder: Path) -> Pylock:
    """Make the paths in a lock, which are relative to it, absolute."""

    def moved(package: Package) -> Package:
        changed = {}
        for name in ("vcs", "directory", "archive", "sdist"):
            entry = getattr(package, name)
            if entry is not None and entry.path is not None:
                changed[name] = replace(entry, path=str((folder / entry.path).resolve()))
        if package.wheels:
            changed["wheels"] = [
                replace(wheel, path=str((folder / wheel.path).resolve())) if wheel.path else wheel
                for wheel in package.wheels
            ]
        return replace(package, **changed) if changed else package

    return replace(pylock, packages=[moved(package) for package in pylock.packages])
