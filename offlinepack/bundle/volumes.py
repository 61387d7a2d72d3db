"""Write and read an archive as one file or as split parts; a file is written completely or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import re
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from offlinepack.errors import BundleError, ComputerError, Finding, IntegrityError, UsageError, error, make_write_error
from offlinepack.ontarget.manifest import hash_file

CHUNK_SIZE = 16 * 65535
"""The number of bytes that are read, hashed and written at once."""

COPY_AGAIN = "Copy it again from where it was made."


class Part(NamedTuple):
    """One file of an archive on disk."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A complete bundle on disk with its `.sha256` file."""

    path: Path
    """The path of the tar.gz, or the common name of its parts."""
    size: int
    """The size of all parts in bytes."""
    sha256: str
    """The hash of the whole tar.gz."""
    parts: tuple[Part, ...]
    """The file itself, or .001, .002 ..."""


def check_output_path(path: Path) -> None:
    """Check early that a file can be created at this path; raise ComputerError if not."""
    if path.is_dir():
        raise ComputerError(
            error("output-is-folder", path, "{subject} is a folder.", "Give -o the name of a file in it.")
        )
    if not path.parent.is_dir():
        raise make_write_error(path, FileNotFoundError(errno.ENOENT, ""))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise make_write_error(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


class VolumeWriter:
    """Write a file in a thread, compute its hash, and give it its name when it is complete."""

    def __init__(self, path: Path, split: int | None = None) -> None:
        self._path, self._part_size = path, split
        self.size = 0
        """The number of bytes written."""
        self._batch: list[bytes | memoryview] = []
        self._pending_bytes = 0
        self._queue: queue.Queue[list[bytes | memoryview] | None] = queue.Queue(4)
        self._thread = threading.Thread(target=self._write_batches, name="bundle", daemon=True)
        self._failure: BaseException | None = None
        self._archive_hash, self._archive_size = hashlib.sha256(), 0
        self._file: BinaryIO | None = None
        self._parts: list[Part] = []
        self._part_hash, self._part_space = hashlib.sha256(), 0

    def __enter__(self) -> VolumeWriter:
        check_output_path(self._path)
        try:
            self._open_part()
            self._thread.start()
        except BaseException as failure:  # Ctrl-C can come as soon as the file exists
            self._remove_temporary_files()
            if isinstance(failure, OSError):
                raise make_write_error(self._path, failure) from failure
            raise
        return self

    def put(self, data: bytes | memoryview) -> None:
        """Queue these bytes for writing."""
        self.size += len(data)
        self._batch.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= CHUNK_SIZE:
            self._queue.put(self._batch)
            self._batch, self._pending_bytes = [], 0
            self._raise_failure()

    def __exit__(self, kind: type[BaseException] | None, raised: object, trace: TracebackType | None) -> None:
        self._queue.put(self._batch if kind is None else [])
        self._queue.put(None)
        try:
            self._thread.join()
            if kind is None:
                self._raise_failure()
                self._commit()
        except OSError as failure:
            raise make_write_error(self._path, failure) from failure
        finally:
            self._remove_temporary_files()

    def _remove_temporary_files(self) -> None:
        """Remove the files that have no final name yet."""
        if self._file:
            self._file.close()
        for number in range(1, len(self._parts) + 2):
            with suppress(OSError):
                self._make_temporary_path(number).unlink()
        with suppress(OSError):
            self._make_sums_path(".part").unlink()

    def _raise_failure(self) -> None:
        if isinstance(self._failure, OSError):
            raise make_write_error(self._path, self._failure)
        if self._failure:
            raise self._failure

    def _write_batches(self) -> None:
        while (batch := self._queue.get()) is not None:
            if not self._failure:
                try:
                    self._write(b"".join(batch))
                except BaseException as failure:
                    self._failure = failure

    def _write(self, data: bytes) -> None:
        self._archive_hash.update(data)
        self._archive_size += len(data)
        view = memoryview(data)
        while view:
            if not self._part_space:
                self._finish_part()
                self._open_part()
            piece = view[: self._part_space]
            assert self._file
            count = self._file.write(piece)
            if self._part_size:
                self._part_hash.update(piece[:count])
            self._part_space -= count
            view = view[count:]

    def _make_final_path(self, number: int) -> Path:
        return make_part_path(self._path, number) if self._part_size else self._path

    def _make_temporary_path(self, number: int) -> Path:
        final = self._make_final_path(number)
        return final.with_name(final.name + ".part")

    def _make_sums_path(self, end: str = "") -> Path:
        return self._path.with_name(self._path.name + ".sha256" + end)

    def _open_part(self) -> None:
        number = len(self._parts) + 1
        if number > 999:
            raise UsageError(
                error(
                    "parts-too-small",
                    self._path,
                    "{subject} would be more than 999 parts.",
                    "Give --split a larger size.",
                )
            )
        part = self._make_temporary_path(number)
        with suppress(FileNotFoundError):
            part.unlink()
        self._file = part.open("xb", buffering=0)
        self._part_hash, self._part_space = hashlib.sha256(), self._part_size or 1 << 62

    def _finish_part(self) -> None:
        """Finish a part: its bytes are on the disk before it is renamed."""
        assert self._file
        os.fsync(self._file.fileno())
        number, size = len(self._parts) + 1, self._file.tell()
        if not os.path.samestat(os.fstat(self._file.fileno()), self._make_temporary_path(number).stat()):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))  # another run writes to the same name
        self._file.close()
        self._file = None
        self._parts.append(
            Part(
                self._make_final_path(number),
                size,
                (self._part_hash if self._part_size else self._archive_hash).hexdigest(),
            )
        )

    def _commit(self) -> None:
        self._finish_part()
        lines = "".join(f"{part.sha256}  {part.path.name}\n" for part in self._parts)
        self._make_sums_path(".part").write_bytes(lines.encode())
        for number, part in enumerate(self._parts, 1):
            self._make_temporary_path(number).replace(part.path)
        self._make_sums_path(".part").replace(self._make_sums_path())
        number = len(self._parts) + 1
        while self._part_size and (old := self._make_final_path(number)).exists():
            old.unlink()  # a part of an earlier file with this name
            number += 1
        if hasattr(os, "O_DIRECTORY"):
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        self.archive = Archive(self._path, self._archive_size, self._archive_hash.hexdigest(), tuple(self._parts))


class VolumeReader:
    """Read a file, or all its parts in order."""

    def __init__(self, path: Path) -> None:
        self._next_parts = _find_parts(path)
        self._parts = tuple(self._next_parts)
        self.base_path = self._parts[0].with_suffix("") if re.search(r"\.[0-9]{3}$", self._parts[0].name) else path
        """The name without a part number."""
        self.part_size = None if self.base_path == self._parts[0] else self._parts[0].stat().st_size
        """The size of a part in bytes, or None for a file that is not split."""
        self.size = sum(part.stat().st_size for part in self._parts)
        """The size of all parts in bytes."""
        self._open_next()

    def read(self, most: int = CHUNK_SIZE) -> bytes:
        """Return at most `most` bytes; empty at the end of the last part."""
        while True:
            data = self._file.read(most)
            if data or not self._next_parts:
                return data
            self._file.close()
            self._open_next()

    def close(self) -> None:
        """Close the current part."""
        self._file.close()

    def _open_next(self) -> None:
        self.current_path = self._next_parts.pop(0)
        """The path of the part that is read."""
        if not stat.S_ISREG(self.current_path.stat().st_mode):
            raise BundleError(error("not-a-file", self.current_path, "{subject} is no regular file.", COPY_AGAIN))
        self._file = self.current_path.open("rb", buffering=0)

    def find_damaged_parts(self) -> list[Finding]:
        """Return a finding for each part of a damaged archive whose hash differs from its `.sha256` file."""
        if self.part_size is None:
            return []
        sums = _read_sums(self.base_path.with_name(self.base_path.name + ".sha256"))
        sums_by_part = [(part, sums.get(part.name)) for part in self._parts]
        return [
            error(
                "part-differs", part, "{subject} is not the part that was written: damaged, or another one.", COPY_AGAIN
            )
            for part, expected in sums_by_part
            if expected and hash_file(part)[1] != expected
        ]


def make_part_path(path: Path, number: int) -> Path:
    """Return the path of a part; `cat NAME.*` joins the parts in order."""
    return path.with_name(f"{path.name}.{number:03}")


def _find_parts(path: Path) -> list[Path]:
    """Return the file itself, or all its parts in order; raise IntegrityError for a missing part."""
    cut = re.fullmatch(r"(.+)\.[0-9]{3}", path.name)
    if path.exists() and not cut:
        return [path]
    base = path.with_name(cut[1]) if cut else path
    present = {part.name for part in base.parent.glob("*.[0-9][0-9][0-9]") if part.stem == base.name}
    if not present:
        return [path]
    expected = {name for name in _read_sums(base.with_name(base.name + ".sha256")) if name.startswith(base.name + ".")}
    last = max(int(name[-3:]) for name in (present | expected if expected else present))
    parts = [make_part_path(base, number) for number in range(1, last + 1)]
    missing = [part for part in parts if part.name not in present]
    if missing:
        raise IntegrityError(
            *[
                error("part-missing", part, "The part {subject} is missing.", "Copy all parts into one folder.")
                for part in missing
            ]
        )
    return parts


def _read_sums(path: Path) -> dict[str, str]:
    """Read a file in the form of `sha256sum` (name -> sha256); return an empty mapping if it does not exist."""
    try:
        with path.open("rb") as source:
            lines = source.read(1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    matches = (re.fullmatch(r"([0-9a-f]{64}) [ *](.+\.[0-9]{3})", line) for line in lines)
    return {match[2]: match[1] for match in matches if match}
