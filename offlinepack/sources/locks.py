"""Locks that were made elsewhere: pylock.toml as it stands, uv.lock by `uv export`; for others the way to one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from packaging.pylock import Package, PackageWheel, Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import canonicalize_name
from packaging.version import Version

from offlinepack.errors import Finding, ResolutionError, SourceError, error, warning
from offlinepack.ontarget.manifest import hash_file
from offlinepack.sources import NO_WHEELS, OwnWheels, Requirements, pyproject, uv_program

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# File name -> the command that turns it into something that can be read, and the file that then results.
_FOREIGN = {
    "poetry.lock": ("poetry export --output requirements.txt", "requirements.txt"),
    "pdm.lock": ("pdm export --output requirements.txt", "requirements.txt"),
    "Pipfile.lock": ("pipenv requirements --hash > requirements.txt", "requirements.txt"),
    "Pipfile": ("pipenv lock && pipenv requirements --hash > requirements.txt", "requirements.txt"),
}
_CONDA = ("environment.yml", "environment.yaml", "conda-lock.yml", "pixi.lock", "pixi.toml")


def is_lock(path: Path) -> bool:
    """Whether the name is one of PEP 751's or uv.lock."""
    return path.name in ("pylock.toml", "uv.lock") or (path.name.startswith("pylock.") and path.suffix == ".toml")


def refuse_foreign(path: Path) -> None:
    """SourceError with the export command, where the file belongs to a tool whose format is its own."""
    if path.name in _FOREIGN:
        command, result = _FOREIGN[path.name]
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
    if path.name in _CONDA:
        raise SourceError(
            error(
                "conda-file",
                path.name,
                "{subject} describes a conda environment, which is more than Python packages.",
                'Make the environment, then pack what is in it: offlinepack build --venv "$CONDA_PREFIX".',
            )
        )


def foreign_in(folder: Path) -> list[str]:
    """The names of such files in a folder."""
    return [name for name in (*_FOREIGN, *_CONDA) if (folder / name).is_file()]


def read(
    path: Path,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    locked: bool = False,
    own: OwnWheels = NO_WHEELS,
) -> Requirements:
    """A lock's packages with their pins, paths made absolute; SourceError, or ResolutionError with `locked`.

    uv.lock names its project's folder; where `own` has a wheel of that release, it is taken.
    """
    if not path.is_file():
        raise SourceError(error("no-such-file", path, "There is no file {file}.", "Correct the path.", file=path))
    if path.name == "uv.lock":
        return _read_uv_lock(path, extras, groups, locked, own)
    return _read_pylock(path, extras, groups, locked)


def _read_pylock(path: Path, extras: Sequence[str], groups: Sequence[str], locked: bool) -> Requirements:
    pylock = _parsed(path)
    unknown = [f"--extra {one}" for one in extras if canonicalize_name(one) not in (pylock.extras or ())]
    unknown += [f"--group {one}" for one in groups if one not in (pylock.dependency_groups or ())]
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
        pylocks=(_absolute(pylock, path.parent),),
        extras=tuple(canonicalize_name(one) for one in extras),
        groups=tuple(groups) or None,
        locked=locked,
    )


def _parsed(path: Path, content: str | None = None) -> Pylock:
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
            reason=bad.strerror or str(bad),
        )
    raise SourceError(finding)


def _absolute(pylock: Pylock, folder: Path) -> Pylock:
    """Paths in a lock are relative to it; for us they stand for themselves."""

    def moved(package: Package) -> Package:
        changed = {}
        for name in ("vcs", "directory", "archive", "sdist"):
            one = getattr(package, name)
            if one is not None and one.path is not None:
                changed[name] = replace(one, path=str((folder / one.path).resolve()))
        if package.wheels:
            changed["wheels"] = [
                replace(one, path=str((folder / one.path).resolve())) if one.path else one for one in package.wheels
            ]
        return replace(package, **changed) if changed else package

    return replace(pylock, packages=[moved(one) for one in pylock.packages])


def _with_wheels(pylock: Pylock, project: pyproject.Label, wheels: Sequence[Path]) -> Pylock:
    """The project's own release as the wheels that are there, instead of its folder."""
    if not wheels or not project.version:
        return pylock
    ready = [PackageWheel(path=str(one), name=one.name, hashes={"sha256": hash_file(one)[1]}) for one in wheels]
    version = Version(project.version)
    packages = [
        replace(one, directory=None, version=version, wheels=ready)
        if one.directory is not None and one.name == project.name
        else one
        for one in pylock.packages
    ]
    return replace(pylock, packages=packages)


def _read_uv_lock(
    path: Path, extras: Sequence[str], groups: Sequence[str], locked: bool, own: OwnWheels
) -> Requirements:
    folder = path.parent.resolve()
    pyproject.check_names(folder, extras, groups)
    fits = _export(folder, extras, groups, "--locked")
    notes: list[Finding] = []
    if isinstance(fits, str):
        if locked:
            raise ResolutionError(
                error(
                    "lock-does-not-fit",
                    path,
                    "{subject} does not fit pyproject.toml any more, and --locked forbids to change it.",
                    "Run `uv lock`, look at what changed, and pack again.",
                    log=fits,
                )
            )
        frozen = _export(folder, extras, groups, "--frozen")
        if isinstance(frozen, str):
            raise SourceError(
                error(
                    "uv-export-failed",
                    path,
                    "uv cannot read {subject}.",
                    "Run `uv lock` with the uv that made it, or a newer one.",
                    log=frozen,
                )
            )
        notes.append(
            warning(
                "lock-does-not-fit",
                path,
                "{subject} does not fit pyproject.toml any more: its pins are kept, what is missing is resolved in.",
                "Run `uv lock` to have it all pinned; --locked makes this an error.",
            )
        )
        fits = frozen
    found, wheels = pyproject.release(folder, own)
    asked = pyproject.own_requirements(folder, extras, groups) if not pyproject.is_packaged(folder) else ()
    return Requirements(
        asked=asked,
        pylocks=(_with_wheels(_absolute(fits, folder), found, wheels),),
        name=found.name,
        version=found.version,
        locked=locked,
        notes=tuple(notes),
    )


def _export(folder: Path, extras: Sequence[str], groups: Sequence[str], how: str) -> Pylock | str:
    """uv.lock as PEP 751 has it, or uv's words; nothing is asked of a network, nothing is written to the project."""
    # printed, its paths are relative to the project; in a file, to that file
    arguments = [
        *("export", how, "--offline", "--format", "pylock.toml", "--quiet"),
        *("--no-default-groups", "--no-editable", "--no-header", "--color", "never", "--python", sys.executable),
        *(part for one in extras for part in ("--extra", one)),
        *(part for one in groups for part in ("--group", one)),
    ]
    done = uv_program.run(arguments, folder)
    return _parsed(folder / "uv.lock", done.stdout) if done.returncode == 0 else done.stderr.strip()
