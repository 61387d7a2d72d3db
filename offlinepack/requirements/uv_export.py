"""Run the program uv, and read uv.lock with `uv export`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.pylock import PackageWheel, Pylock
from packaging.version import Version

from offlinepack.errors import Finding, ResolutionError, SourceError, error, warning
from offlinepack.ontarget.manifest import hash_file
from offlinepack.requirements.lockfiles import parse_pylock, resolve_paths
from offlinepack.requirements.model import ProjectIdentity, ProjectWheels, Requirements
from offlinepack.requirements.pyproject import (
    check_names,
    find_release,
    is_packaged,
    read_dependencies,
    read_requires_python,
)
from offlinepack.requirements.uv_sources import find_local_projects
from offlinepack.sandbox import clean_environment


def _replace_with_wheels(pylock: Pylock, project: ProjectIdentity, wheels: Sequence[Path]) -> Pylock:
    """Replace the folder of the project by the wheels of its release, if there are any."""
    if not wheels or not project.version:
        return pylock
    ready = [PackageWheel(path=str(wheel), name=wheel.name, hashes={"sha256": hash_file(wheel)[1]}) for wheel in wheels]
    version = Version(project.version)
    packages = [
        replace(package, directory=None, version=version, wheels=ready)
        if package.directory is not None and package.name == project.name
        else package
        for package in pylock.packages
    ]
    return replace(pylock, packages=packages)


def read_uv_lock(
    path: Path, extras: Sequence[str], groups: Sequence[str], locked: bool, project_wheels: ProjectWheels
) -> Requirements:
    """Read uv.lock through `uv export`, checked against its project."""
    folder = path.parent.resolve()
    check_names(folder, extras, groups)
    fits = _export_lock(folder, extras, groups, "--locked")
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
        frozen = _export_lock(folder, extras, groups, "--frozen")
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
    identity, wheels = find_release(folder, project_wheels)
    dependencies = read_dependencies(folder, extras, groups) if not is_packaged(folder) else ()
    return Requirements(
        requirements=dependencies,
        pylocks=(_replace_with_wheels(resolve_paths(fits, folder), identity, wheels),),
        identity=identity,
        requires_python=read_requires_python(folder),
        excluded_projects=frozenset(local.name for local in find_local_projects(folder) if local.is_virtual),
        is_locked=locked,
        notes=tuple(notes),
    )


def _export_lock(folder: Path, extras: Sequence[str], groups: Sequence[str], lock_option: str) -> Pylock | str:
    """Export uv.lock as a pylock, or return uv's message; without network, and without writing to the project."""
    # printed, its paths are relative to the project; in a file, to that file
    arguments = [
        *("export", lock_option, "--offline", "--format", "pylock.toml", "--quiet"),
        *("--no-default-groups", "--no-editable", "--no-header", "--color", "never", "--python", sys.executable),
        *(part for extra in extras for part in ("--extra", extra)),
        *(part for group in groups for part in ("--group", group)),
    ]
    process = run_uv(arguments, folder)
    return parse_pylock(folder / "uv.lock", process.stdout) if process.returncode == 0 else process.stderr.strip()


TIMEOUT_EXIT_CODE = 124
"""the exit code of a uv that took too long"""


def find_uv() -> str:
    """Return the path of the uv that is installed with offlinepack; raise ResolutionError if it is missing."""
    import uv

    try:
        return os.fspath(uv.find_uv_bin())
    except FileNotFoundError as bad:
        raise ResolutionError(
            error("no-uv", "uv", "The program uv is not there.", "Install offlinepack again, or use --resolver pip.")
        ) from bad


def make_uv_environment() -> dict[str, str]:
    """Return the environment of uv: no settings of uv, pip, Python or an active environment."""
    environment = clean_environment()  # index settings of uv are read by index.settings and passed as arguments
    for name in ("MACOSX_DEPLOYMENT_TARGET", "RUST_LOG", "NO_COLOR"):
        environment.pop(name, None)
    return {**environment, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}


def run_uv(
    arguments: Sequence[str], folder: Path, more: Mapping[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run uv in `folder` with further variables; return its output, whatever its exit code.

    After `timeout` seconds it is killed: TIMEOUT_EXIT_CODE, and the output so far.
    """
    try:
        return subprocess.run(
            [find_uv(), *arguments],
            cwd=folder,
            env={**make_uv_environment(), **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as late:
        output = late.stderr or b""
        return subprocess.CompletedProcess(
            late.cmd, TIMEOUT_EXIT_CODE, "", output if isinstance(output, str) else output.decode("utf-8", "replace")
        )
