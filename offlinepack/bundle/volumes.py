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
"""bytes that are read, hashed and written at once"""

COPY_AGAIN = "Copy it again from where it was made."


class Part(NamedTuple):
    """A file on the disk."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A bundle that lies whole on the disk, with its `.sha256` beside it."""

    path: Path
    """the tar.gz; where it was cut, the name that its parts begin with"""
    size: int
    """bytes, of all parts"""
    sha256: str
    """of the whole tar.gz"""
    parts: tuple[Part, ...]
    """the file itself, or .001, .002 ..."""


def check_output_path(path: Path) -> None:
    """Before much is done for it: a file can be made there. ComputerError where not."""
    if path.is_dir():
        raise ComputerError(
            error("output-is-folder", path, "{subject} is a folder.", "Give -o the name of a file in it.")
        )
    if not path.parent.is_dir():
        raise make_write_error(path, FileNotFoundError(errno.ENOENT, ""))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise make_write_error(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


class VolumeWriter:
    """The file that is written: hashed and written in a thread of its own, given its name when it is whole."""

    def __init__(self, path: Path, split: int | None = None) -> None:
        self._path, self._part_size = path, split
        self.size = 0
        """bytes that were put"""
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
        except BaseException as failed:  # Ctrl-C may come as soon as there is a file
            self._remove_temporary_files()
            if isinstance(failed, OSError):
                raise make_write_error(self._path, failed) from failed
            raise
        return self

    def put(self, data: bytes | memoryview) -> None:
        """Take these bytes; they are written later."""
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
        except OSError as failed:
            raise make_write_error(self._path, failed) from failed
        finally:
            self._remove_temporary_files()

    def _remove_temporary_files(self) -> None:
        """What has not got its name."""
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
                except BaseException as failed:
                    self._failure = failed

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
        """This part is whole: on the disk, not merely on its way there."""
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
            old.unlink()  # a part of what had this name before
            number += 1
        if hasattr(os, "O_DIRECTORY"):
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        self.archive = Archive(self._path, self._archive_size, self._archive_hash.hexdigest(), tuple(self._parts))


class VolumeReader:
    """The file that is read; of one that was cut, all parts in turn."""

    def __init__(self, path: Path) -> None:
        self._next_parts = _find_parts(path)
        self._parts = tuple(self._next_parts)
        self.base_path = self._parts[0].with_suffix("") if re.search(r"\.[0-9]{3}$", self._parts[0].name) else path
        """the name without the number of a part"""
        self.part_size = None if self.base_path == self._parts[0] else self._parts[0].stat().st_size
        """bytes; None where it was not cut"""
        self.size = sum(one.stat().st_size for one in self._parts)
        """bytes of all parts"""
        self._open_next()

    def read(self, most: int = CHUNK_SIZE) -> bytes:
        """At most so many bytes; none at the end of the last part."""
        while True:
            data = self._file.read(most)
            if data or not self._next_parts:
                return data
            self._file.close()
            self._open_next()

    def close(self) -> None:
        """Let go of it."""
        self._file.close()

    def _open_next(self) -> None:
        self.current_path = self._next_parts.pop(0)
        """the file that is being read"""
        if not stat.S_ISREG(self.current_path.stat().st_mode):
            raise BundleError(error("not-a-file", self.current_path, "{subject} is no regular file.", COPY_AGAIN))
        self._file = self.current_path.open("rb", buffering=0)

    def find_damaged_parts(self) -> list[Finding]:
        """Of a cut file that turned out to be damaged: the parts that are not what the `.sha256` beside them says."""
        if self.part_size is None:
            return []
        sums = _read_sums(self.base_path.with_name(self.base_path.name + ".sha256"))
        found = [(part, sums.get(part.name)) for part in self._parts]
        return [
            error(
                "part-differs", part, "{subject} is not the part that was written: damaged, or another one.", COPY_AGAIN
            )
            for part, expected in found
            if expected and hash_file(part)[1] != expected
        ]


def make_part_path(path: Path, number: int) -> Path:
    """The name of a part; `cat NAME.*` joins them in order."""
    return path.with_name(f"{path.name}.{number:03}")


def _find_parts(path: Path) -> list[Path]:
    """The file itself, or all parts of it in order; IntegrityError where one is missing."""
    cut = re.fullmatch(r"(.+)\.[0-9]{3}", path.name)
    if path.exists() and not cut:
        return [path]
    base = path.with_name(cut[1]) if cut else path
    there = {one.name for one in base.parent.glob("*.[0-9][0-9][0-9]") if one.stem == base.name}
    if not there:
        return [path]
    wanted = {name for name in _read_sums(base.with_name(base.name + ".sha256")) if name.startswith(base.name + ".")}
    last = max(int(name[-3:]) for name in (there | wanted if wanted else there))
    parts = [make_part_path(base, number) for number in range(1, last + 1)]
    missing = [one for one in parts if one.name not in there]
    if missing:
        raise IntegrityError(
            *[
                error("part-missing", one, "The part {subject} is missing.", "Copy all parts into one folder.")
                for one in missing
            ]
        )
    return parts


def _read_sums(path: Path) -> dict[str, str]:
    """What a file in the form of `sha256sum` says: name -> sha256; nothing where there is none."""
    try:
        with path.open("rb") as source:
            lines = source.read(1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found = (re.fullmatch(r"([0-9a-f]{64}) [ *](.+\.[0-9]{3})", line) for line in lines)
    return {one[2]: one[1] for one in found if one}
