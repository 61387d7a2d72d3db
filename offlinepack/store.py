"""Content-addressed store of files whose hashes were verified.

    files/ab/<sha256>          a verified file; its modification time is constant, so that a change is noticed
    facts/ab/<sha256>.<kind>   a cached fact about the file, as JSON
    partial/<key>              an incomplete file; the next run resumes it

Several processes may use one store at the same time: a rename makes a file visible, and a lock gives a partial file
one owner.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import platformdirs

from offlinepack.errors import ComputerError, Finding, IntegrityError, error
from offlinepack.ontarget.errors import explain_os_error
from offlinepack.ontarget.manifest import hash_file

STORED_MTIME = 1_000_000_000
"""seconds: the time of every file in the store. A file with another one was touched, and is hashed again"""

PARTIAL_FILE_LIFETIME = 30 * 86400
"""seconds after which a partial file that nobody took up again is removed"""

BLOCK_SIZE = 1 << 18

_HASH_NAMES = {kind for kind in hashlib.algorithms_guaranteed if not kind.startswith("shake")}


@dataclass(frozen=True)
class StoredFile:
    """A file on disk whose hash was checked when it came in."""

    name: str
    """its file name; in the store it lies under its hash"""
    path: Path
    size: int
    """bytes"""
    sha256: str

    def link_into(self, folder: Path) -> Path:
        """Link the file under its own name into a folder for a program that needs it there, or copy it."""
        place = folder / self.name
        with _translate_disk_errors(place):
            place.unlink(missing_ok=True)
            try:
                os.link(self.path, place)
            except OSError:
                shutil.copyfile(self.path, place)
        return place


class Store:
    """A folder of files that are found by their sha256."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._has_removed_partials = False
        self._temporary_folder: tempfile.TemporaryDirectory[str] | None = None
        self._used_hashes: set[str] = set()
        """sha256 of the files that were found here"""

    @staticmethod
    def get_default_folder() -> Path:
        """Return the default folder of this user's store and caches (--cache-dir)."""
        return platformdirs.user_cache_path("offlinepack", appauthor=False)

    @classmethod
    def open(cls, cache_dir: Path | None, near: Path | None = None) -> Store:
        """Open the store in --cache-dir; None: a temporary one in the folder `near`, removed when its `with` block
        ends.
        """
        if cache_dir is not None:
            return cls(cache_dir / "store")
        with _translate_disk_errors(near or Path(tempfile.gettempdir())):
            folder = tempfile.TemporaryDirectory(prefix=".offlinepack-", dir=near, ignore_cleanup_errors=True)
        store = cls(Path(folder.name))
        store._temporary_folder = folder
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary_folder is not None:
            self._temporary_folder.cleanup()

    def get(self, sha256: str, name: str = "", size: int | None = None) -> StoredFile | None:
        """Return the file with this hash under a name; None if it is missing or damaged (then it is removed)."""
        path = self.get_file_path(sha256)
        with _translate_disk_errors(path):
            try:
                status = path.stat()
            except FileNotFoundError:
                return None
            sound = size is None or status.st_size == size
            if sound and status.st_mtime_ns != STORED_MTIME * 10**9:
                sound = hash_file(path)[1] == sha256.lower()
                with contextlib.suppress(OSError):
                    os.utime(path, (STORED_MTIME, STORED_MTIME))
        if not sound:
            self.discard(sha256)
            return None
        self._used_hashes.add(path.name)
        return StoredFile(name or path.name, path, status.st_size, path.name)

    def add_bytes(
        self, name: str, sha256: str | None, chunks: Iterable[bytes], hashes: Mapping[str, str] | None = None
    ) -> StoredFile:
        """Keep these bytes; IntegrityError where they have another sha256, or another of `hashes` (md5, sha512 ...)."""
        with self.open_partial(name, sha256, hashes=hashes) as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.finish()

    def add_file(
        self, path: Path, name: str = "", sha256: str | None = None, hashes: Mapping[str, str] | None = None
    ) -> StoredFile:
        """Keep a copy of a local file. OSError where that cannot be read; IntegrityError as from `put`."""
        with path.open("rb", buffering=0) as source:
            return self.add_bytes(name or path.name, sha256, iter(lambda: source.read(BLOCK_SIZE), b""), hashes)

    @contextlib.contextmanager
    def open_partial(
        self,
        name: str,
        sha256: str | None,
        *,
        resume_as: str | None = None,
        hashes: Mapping[str, str] | None = None,
        origin: str = "",
    ) -> Iterator[PartialFile]:
        """Open a partial file: write the bytes that arrive, then call `finish`.

        With `resume_as`, the bytes so far are kept, and a later call with the same key continues them, also in
        another process; while one process writes, another starts anew. `origin` is the source that a finding names,
        without secrets.
        """
        with _translate_disk_errors(self.path):
            self._remove_stale_partials()
            partial = self.path / "partial"
            partial.mkdir(parents=True, exist_ok=True)
            known_hashes = {kind: digest for kind, digest in (hashes or {}).items() if kind in _HASH_NAMES}
            incoming = PartialFile(self, name, sha256, partial, resume_as, known_hashes, origin)
        try:
            yield incoming
        finally:
            incoming.close()

    def discard(self, sha256: str) -> None:
        """Forget a file that turned out to be damaged; the next fetch brings it again."""
        path = self.get_file_path(sha256)
        with _translate_disk_errors(path):
            path.unlink(missing_ok=True)

    def revalidate(self) -> list[str]:
        """Hash all that was found here in this run; forget what is damaged, and give those hashes.

        A file's time tells of what touched it, not of a disk that fails silently.
        """
        damaged = [value for value in sorted(self._used_hashes) if self._is_damaged(self.get_file_path(value))]
        for path in damaged:
            self.discard(path)
        return damaged

    @staticmethod
    def _is_damaged(path: Path) -> bool:
        try:
            return hash_file(path)[1] != path.name
        except FileNotFoundError:
            return False
        except OSError:  # the disk does not give it back
            return True

    def get_cached(self, sha256: str, kind: str, version: int = 1) -> Any:
        """Return what was cached about a file under `kind` and `version`; None if nothing readable was."""
        try:
            return json.loads(self._get_cache_path(sha256, kind, version).read_bytes())
        except (OSError, ValueError):
            return None

    def set_cached(self, sha256: str, kind: str, value: Any, version: int = 1) -> None:
        """Keep what was found out about a file (anything JSON can say). A store that cannot be written forgets it."""
        path = self._get_cache_path(sha256, kind, version)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(value, separators=(",", ":")), "utf-8")
            temporary.replace(path)

    def get_file_path(self, sha256: str) -> Path:
        """Return the path of the file with this hash; raise ValueError for an invalid hash."""
        digest = sha256.lower()
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"not a sha256: {sha256!r}")
        return self.path / "files" / digest[:2] / digest

    def _get_cache_path(self, sha256: str, kind: str, version: int) -> Path:
        digest = self.get_file_path(sha256).name
        return self.path / "facts" / digest[:2] / f"{digest}.{kind}-{version}.json"

    def _remove_stale_partials(self) -> None:
        """Remove partial files that nobody came back for; once in a process."""
        if self._has_removed_partials:
            return
        self._has_removed_partials = True
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.path / "partial"):
                if time.time() - entry.stat().st_mtime > PARTIAL_FILE_LIFETIME:
                    Path(entry.path).unlink(missing_ok=True)


class PartialFile:
    """A file on its way into the store; made by `Store.receive`."""

    def __init__(
        self,
        store: Store,
        name: str,
        sha256: str | None,
        partial: Path,
        resume_as: str | None,
        hashes: Mapping[str, str],
        origin: str,
    ) -> None:
        self.name, self.origin = name, origin
        self.size = 0
        """bytes that are here"""
        self.is_resumed = False
        """they came in more than one piece"""
        self._store, self._expected_sha256, self._expected_hashes = store, sha256.lower() if sha256 else None, hashes
        self._digest = hashlib.sha256()
        self._buffer: list[bytes | memoryview] = []
        self._written_size = 0
        """bytes that were hashed and written"""
        self._last_flush = 0.0
        """seconds: when"""
        self._is_resumable = False
        self._file: BinaryIO | None = None
        if resume_as is not None:
            self._path = partial / resume_as
            self._file = _open_exclusively(self._path)
            self._is_resumable = self._file is not None
        if self._file is None:
            self._path = partial / secrets.token_hex(16)
            self._file = self._path.open("x+b", buffering=0)
        self._extra_digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in hashes}
        while block := self._file.read(BLOCK_SIZE):
            self._update_digests(block)
        self.size = self._written_size
        self.is_resumed = self.size > 0

    @property
    def resume_info(self) -> dict[str, Any]:
        """What `keep_note` said of the part that is here: the server's word for this very file (its ETag)."""
        if not self._is_resumable or not self.size:
            return {}
        try:
            facts = json.loads(self._path.with_suffix(".json").read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def save_resume_info(self, note: Mapping[str, Any]) -> None:
        """Keep a few words beside the partial file, for the run that takes it up."""
        if self._is_resumable:
            with contextlib.suppress(OSError):
                self._path.with_suffix(".json").write_text(json.dumps(note), "utf-8")

    def write(self, chunk: bytes | memoryview) -> None:
        """Append; ComputerError where the disk does not take it. What is small waits for more before it is written."""
        self._buffer.append(chunk)
        self.size += len(chunk)
        if self.size - self._written_size >= BLOCK_SIZE or time.monotonic() - self._last_flush > 0.5:
            self._flush()

    def _flush(self) -> None:
        """Write and hash what waits."""
        block = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
        self._buffer.clear()
        with _translate_disk_errors(self._path):
            view = memoryview(block)
            while view:
                view = view[self._open_file.write(view) :]
        self._update_digests(block)
        self._last_flush = time.monotonic()

    def restart(self) -> None:
        """Forget what is here and begin at the first byte."""
        with _translate_disk_errors(self._path):
            self._open_file.seek(0)
            self._open_file.truncate()
        self._buffer.clear()
        self.size, self._written_size, self.is_resumed, self._digest = 0, 0, False, hashlib.sha256()
        self._extra_digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in self._expected_hashes}

    @property
    def is_valid(self) -> bool:
        """What is here has the hashes that were promised."""
        return not self._find_mismatches()

    def finish(self) -> StoredFile:
        """Check the complete file and keep it; raise IntegrityError if it is not what was promised."""
        different = self._find_mismatches()
        if different:
            self.drop()
            raise IntegrityError(self._make_mismatch_finding(*different[0]))
        sha256 = self._digest.hexdigest()
        place = self._store.get_file_path(sha256)
        with _translate_disk_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            os.utime(self._path, (STORED_MTIME, STORED_MTIME))
            self._close_after(lambda: _move_file(self._path, place))
        return StoredFile(self.name, place, self.size, sha256)

    def _make_mismatch_finding(self, kind: str, expected: str, actual: str) -> Finding:
        if self.origin:
            return error(
                "hash-mismatch",
                self.name,
                "{subject} from {origin} has the {kind} {actual}, but {expected} was promised.",
                "Do not use it. The index or a proxy on the way gave another file than the one that was locked.",
                origin=self.origin,
                kind=kind,
                expected=expected,
                actual=actual,
            )
        return error(
            "hash-mismatch",
            self.name,
            "{subject} has the {kind} {actual}, but {expected} was promised.",
            "Do not use it: it is another file than the one that was locked.",
            kind=kind,
            expected=expected,
            actual=actual,
        )

    def drop(self) -> None:
        """Keep nothing of it."""
        self._close_after(lambda: None)

    def close(self) -> None:
        """Keep the part that is here for the next run, where it can be taken up; else remove it."""
        if self._file is not None:
            if self._is_resumable and self.size:
                try:
                    self._flush()
                finally:
                    self._close_file()
            else:
                self.drop()

    @property
    def _open_file(self) -> BinaryIO:
        assert self._file is not None, "it was finished or dropped"
        return self._file

    def _update_digests(self, chunk: bytes | memoryview) -> None:
        self._written_size += len(chunk)
        self._digest.update(chunk)
        for digest in self._extra_digests.values():
            digest.update(chunk)

    def _find_mismatches(self) -> list[tuple[str, str, str]]:
        self._flush()
        entries = []
        if self._expected_sha256 and self._digest.hexdigest() != self._expected_sha256:
            entries.append(("sha256", self._expected_sha256, self._digest.hexdigest()))
        for kind, expected in self._expected_hashes.items():
            actual = self._extra_digests[kind].hexdigest()
            if actual != expected.lower():
                entries.append((kind, expected, actual))
        return entries

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _close_after(self, move: Callable[[], None]) -> None:
        """Move or remove the partial file while it is still ours: the next owner must not find it half gone."""
        if sys.platform == "win32":  # an open file can be neither moved nor removed there
            self._close_file()
        try:
            move()
        finally:
            for path in (self._path, self._path.with_suffix(".json")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            self._close_file()


def _move_file(path: Path, place: Path) -> None:
    for patience in range(50, -1, -1):
        try:
            path.replace(place)
            return
        except PermissionError:
            # Windows: another process reads the same file there (then it is here), or looks at this one for a moment
            if place.exists():
                return
            if sys.platform != "win32" or not patience:
                raise
            time.sleep(0.1)


def _open_exclusively(path: Path) -> BinaryIO | None:
    """Open the file for reading and writing by this owner alone; None if another process has it.

    The lock is that of the operating system and ends with its process.
    """
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", buffering=0)
        try:
            _lock(file.fileno())
        except OSError:
            file.close()
            return None
        # Its former owner may have moved it to its final place between open and lock: then it is no longer this path.
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 62, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def _translate_disk_errors(path: Path) -> Iterator[None]:
    """Translate disk errors to ComputerError with the path."""
    try:
        yield
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            finding = error(
                "disk-full",
                path,
                "The disk is full: {subject} could not be written.",
                "Free some space there, or name another place with --cache-dir.",
            )
        elif problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            finding = error(
                "no-permission",
                path,
                "{subject} may not be written by this user.",
                "Name a place that may be written with --cache-dir, or have the rights there mended.",
            )
        else:
            finding = error(
                "disk-failed",
                path,
                "{subject} could not be read or written: {words}.",
                "Look at the disk, or name another place with --cache-dir.",
                words=explain_os_error(problem),
            )
        raise ComputerError(finding) from problem
