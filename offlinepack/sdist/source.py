"""Prepare the source of a build: unpack an sdist, copy a project folder or clone a repository."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from offlinepack.errors import SourceError, error
from offlinepack.net.urls import redact_url
from offlinepack.sdist.failures import get_last_lines
from offlinepack.store import StoredFile

if sys.platform != "win32":
    import fcntl

EARLIEST_TIME = 315532800
"""1980-01-01 in seconds since the epoch: the earliest time of a zip archive"""


@contextlib.contextmanager
def open_work_folder(key: str) -> Iterator[Path]:
    """Create the folder of one build and remove it afterwards.

    Builds write its path into their wheels, so it is the same for each `key` and contains no user name.
    """
    work = Path(tempfile.gettempdir()) / f"offlinepack-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    lock = _lock_folder(work)
    if lock is None:  # another build of the same source is running, or the folder belongs to another user
        work = Path(tempfile.mkdtemp(prefix="offlinepack-"))
    try:
        (work / "tmp").mkdir()
        yield work
    finally:
        shutil.rmtree(work, onerror=_remove_read_only)
        if lock:
            os.close(lock)


def _lock_folder(work: Path) -> int | None:
    """Create, lock and empty a folder and return its open descriptor; None if that is not possible."""
    if sys.platform == "win32":
        return None
    try:
        work.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_uid != os.geteuid() or not os.path.samestat(os.fstat(lock), work.lstat()):
            raise PermissionError
        for path in work.iterdir():  # files of a killed build
            shutil.rmtree(path, onerror=_remove_read_only) if path.is_dir() and not path.is_symlink() else path.unlink()
        work.chmod(0o700)
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove_read_only(remove: Callable[[str], object], path: str, _: object) -> None:
    """Remove a file from a folder that a build made read-only."""
    with contextlib.suppress(OSError):
        Path(path).parent.chmod(0o700)
        remove(path)


def unpack_source(source: StoredFile | Path, work: Path, name: str) -> tuple[Path, int]:
    """Unpack an sdist or copy a project folder; return the new folder and its time in seconds since the epoch.

    The time is that of PKG-INFO or of the last commit, and 1980 otherwise. Raises SourceError if an archive is
    unreadable.
    """
    place = work / "source"
    if isinstance(source, Path):
        shutil.copytree(source, place, symlinks=True, ignore=_find_ignored)
        return place, _get_commit_time(place)
    place.mkdir()
    try:
        if zipfile.is_zipfile(source.path):
            with zipfile.ZipFile(source.path) as archive:
                archive.extractall(place)
            stamp = EARLIEST_TIME
        else:
            with tarfile.open(source.path) as packed:
                members = packed.getmembers()
                _extract_tar(packed, place)
            top = [member for member in members if member.name.count("/") == 1 and member.name.endswith("/PKG-INFO")]
            stamp = int(max((member.mtime for member in top or members), default=EARLIEST_TIME))
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as wrong:
        raise SourceError(
            error(
                "sdist-unreadable",
                name,
                "{subject} is not a readable source distribution: {reason}.",
                "Fetch it again, or tell its maintainers.",
                reason=str(wrong),
            )
        ) from wrong
    tops = list(place.iterdir())
    return (tops[0] if len(tops) == 1 and tops[0].is_dir() else place), max(stamp, EARLIEST_TIME)


def _extract_tar(packed: tarfile.TarFile, place: Path) -> None:
    # PEP 721: sdists are unpacked with the data filter. Early releases of 3.11 lack it: only files and folders then.
    if hasattr(tarfile, "data_filter"):
        packed.extractall(place, filter="data")
        return
    for member in packed.getmembers():
        if (member.isfile() or member.isdir()) and ".." not in Path(member.name).parts and member.name[0] != "/":
            member.mode = 0o755 if member.isdir() or member.mode & 0o111 else 0o644
            packed.extract(member, place)


def _find_ignored(folder: str, names: list[str]) -> set[str]:
    """Return the names to exclude from a copy: virtual environments, caches, special files and setuptools' output."""
    path = Path(folder)
    caches = {
        "__pycache__",
        ".tox",
        ".nox",
        ".venv",
        "node_modules",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hg",
    }
    excluded = {name for name in names if name in caches or (path / name / "pyvenv.cfg").is_file()}
    if path.name == "build":
        excluded |= {name for name in names if re.match(r"(lib|temp|bdist)[.]?", name)}
    excluded |= {
        name for name in names if not stat.S_ISREG(mode := (path / name).lstat().st_mode) and _is_special_file(mode)
    }
    return excluded


def _is_special_file(mode: int) -> bool:
    return not (stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _get_commit_time(folder: Path) -> int:
    if not (folder / ".git").exists():
        return EARLIEST_TIME
    command = ["git", "-C", str(folder), "log", "-1", "--format=%ct"]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return int(process.stdout) if process.stdout.strip().isdigit() else EARLIEST_TIME


def clone_repository(url: str, revision: str | None, folder: Path) -> str:
    """Clone a git repository at a branch, tag or commit into `folder` and return the commit; raise SourceError."""

    def git(*arguments: str) -> str:
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
        process = subprocess.run(
            ["git", *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if process.returncode:
            message = process.stderr.replace(url, redact_url(url))
            raise SourceError(
                error(
                    "checkout-failed",
                    redact_url(url),
                    "{subject} could not be checked out at {revision}.",
                    "Check the address, the revision and the credentials that git has for it.",
                    log=get_last_lines(message, 8),
                    revision=revision or "HEAD",
                )
            )
        return process.stdout.strip()

    try:
        git("clone", "--quiet", "--no-checkout", "--", url, str(folder))
        git("-C", str(folder), "checkout", "--quiet", "--detach", revision or "HEAD", "--")
        git("-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive")
        return git("-C", str(folder), "rev-parse", "HEAD")
    except FileNotFoundError:
        raise SourceError(
            error("no-git", redact_url(url), "{subject} needs the program git, which is missing.", "Install git.")
        ) from None
