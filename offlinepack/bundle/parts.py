"""One file on the disk, or the parts that it was cut into: written whole or not at all, read as one."""

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

from offlinepack.errors import BundleError, ComputerError, Finding, IntegrityError, OfflinepackError, UsageError, error
from offlinepack.ontarget.manifest import hash_file

CHUNK = 16 * 65535
"""bytes that are read, hashed and written at once"""
AGAIN = "Copy it again from where it was made."


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


def check_place(path: Path) -> None:
    """Before much is done for it: a file can be made there. ComputerError where not."""
    if path.is_dir():
        raise ComputerError(
            error("output-is-folder", path, "{subject} is a folder.", "Give -o the name of a file in it.")
        )
    if not path.parent.is_dir():
        raise unwritable(path, FileNotFoundError(errno.ENOENT, ""))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


class Output:
    """The file that is written: hashed and written in a thread of its own, given its name when it is whole."""

    def __init__(self, path: Path, split: int | None = None) -> None:
        self._path, self._split = path, split
        self.size = 0
        """bytes that were put"""
        self._batch: list[bytes | memoryview] = []
        self._waiting = 0
        self._queue: queue.Queue[list[bytes | memoryview] | None] = queue.Queue(4)
        self._thread = threading.Thread(target=self._work, name="bundle", daemon=True)
        self._failed: BaseException | None = None
        self._whole, self._written = hashlib.sha256(), 0
        self._file: BinaryIO | None = None
        self._parts: list[Part] = []
        self._part, self._room = hashlib.sha256(), 0

    def __enter__(self) -> Output:
        check_place(self._path)
        try:
            self._open()
            self._thread.start()
        except BaseException as failed:  # Ctrl-C may come as soon as there is a file
            self._remove()
            if isinstance(failed, OSError):
                raise unwritable(self._path, failed) from failed
            raise
        return self

    def put(self, data: bytes | memoryview) -> None:
        """Take these bytes; they are written later."""
        self.size += len(data)
        self._batch.append(data)
        self._waiting += len(data)
        if self._waiting >= CHUNK:
            self._queue.put(self._batch)
            self._batch, self._waiting = [], 0
            self._check()

    def __exit__(self, kind: type[BaseException] | None, raised: object, trace: TracebackType | None) -> None:
        self._queue.put(self._batch if kind is None else [])
        self._queue.put(None)
        try:
            self._thread.join()
            if kind is None:
                self._check()
                self._commit()
        except OSError as failed:
            raise unwritable(self._path, failed) from failed
        finally:
            self._remove()

    def _remove(self) -> None:
        """What has not got its name."""
        if self._file:
            self._file.close()
        for number in range(1, len(self._parts) + 2):
            with suppress(OSError):
                self._beside(number).unlink()
        with suppress(OSError):
            self._sums(".part").unlink()

    def _check(self) -> None:
        if isinstance(self._failed, OSError):
            raise unwritable(self._path, self._failed)
        if self._failed:
            raise self._failed

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            if not self._failed:
                try:
                    self._write(b"".join(batch))
                except BaseException as failed:
                    self._failed = failed

    def _write(self, data: bytes) -> None:
        self._whole.update(data)
        self._written += len(data)
        view = memoryview(data)
        while view:
            if not self._room:
                self._shut()
                self._open()
            piece = view[: self._room]
            assert self._file
            count = self._file.write(piece)
            if self._split:
                self._part.update(piece[:count])
            self._room -= count
            view = view[count:]

    def _final(self, number: int) -> Path:
        return part_of(self._path, number) if self._split else self._path

    def _beside(self, number: int) -> Path:
        final = self._final(number)
        return final.with_name(final.name + ".part")

    def _sums(self, end: str = "") -> Path:
        return self._path.with_name(self._path.name + ".sha256" + end)

    def _open(self) -> None:
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
        part = self._beside(number)
        with suppress(FileNotFoundError):
            part.unlink()
        self._file = part.open("xb", buffering=0)
        self._part, self._room = hashlib.sha256(), self._split or 1 << 62

    def _shut(self) -> None:
        """This part is whole: on the disk, not merely on its way there."""
        assert self._file
        os.fsync(self._file.fileno())
        number, size = len(self._parts) + 1, self._file.tell()
        if not os.path.samestat(os.fstat(self._file.fileno()), self._beside(number).stat()):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))  # another run writes to the same name
        self._file.close()
        self._file = None
        self._parts.append(Part(self._final(number), size, (self._part if self._split else self._whole).hexdigest()))

    def _commit(self) -> None:
        self._shut()
        lines = "".join(f"{part.sha256}  {part.path.name}\n" for part in self._parts)
        self._sums(".part").write_bytes(lines.encode())
        for number, part in enumerate(self._parts, 1):
            self._beside(number).replace(part.path)
        self._sums(".part").replace(self._sums())
        number = len(self._parts) + 1
        while self._split and (old := self._final(number)).exists():
            old.unlink()  # a part of what had this name before
            number += 1
        if hasattr(os, "O_DIRECTORY"):
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        self.archive = Archive(self._path, self._written, self._whole.hexdigest(), tuple(self._parts))


class Input:
    """The file that is read; of one that was cut, all parts in turn."""

    def __init__(self, path: Path) -> None:
        self._waiting = _parts(path)
        self._all = tuple(self._waiting)
        self.base = self._all[0].with_suffix("") if re.search(r"\.[0-9]{3}$", self._all[0].name) else path
        """the name without the number of a part"""
        self.size_of_parts = None if self.base == self._all[0] else self._all[0].stat().st_size
        """bytes; None where it was not cut"""
        self.size = sum(one.stat().st_size for one in self._all)
        """bytes of all parts"""
        self._next()

    def read(self, most: int = CHUNK) -> bytes:
        """At most so many bytes; none at the end of the last part."""
        while True:
            data = self._file.read(most)
            if data or not self._waiting:
                return data
            self._file.close()
            self._next()

    def close(self) -> None:
        """Let go of it."""
        self._file.close()

    def _next(self) -> None:
        self.here = self._waiting.pop(0)
        """the file that is being read"""
        if not stat.S_ISREG(self.here.stat().st_mode):
            raise BundleError(error("not-a-file", self.here, "{subject} is no regular file.", AGAIN))
        self._file = self.here.open("rb", buffering=0)

    def blame(self) -> list[Finding]:
        """Of a cut file that turned out to be damaged: the parts that are not what the `.sha256` beside them says."""
        if self.size_of_parts is None:
            return []
        sums = _sums(self.base.with_name(self.base.name + ".sha256"))
        found = [(part, sums.get(part.name)) for part in self._all]
        return [
            error("part-differs", part, "{subject} is not the part that was written: damaged, or another one.", AGAIN)
            for part, expected in found
            if expected and hash_file(part)[1] != expected
        ]


def part_of(path: Path, number: int) -> Path:
    """The name of a part; `cat NAME.*` joins them in order."""
    return path.with_name(f"{path.name}.{number:03}")


def _parts(path: Path) -> list[Path]:
    """The file itself, or all parts of it in order; IntegrityError where one is missing."""
    cut = re.fullmatch(r"(.+)\.[0-9]{3}", path.name)
    if path.exists() and not cut:
        return [path]
    base = path.with_name(cut[1]) if cut else path
    there = {one.name for one in base.parent.glob("*.[0-9][0-9][0-9]") if one.stem == base.name}
    if not there:
        return [path]
    wanted = {name for name in _sums(base.with_name(base.name + ".sha256")) if name.startswith(base.name + ".")}
    last = max(int(name[-3:]) for name in (there | wanted if wanted else there))
    parts = [part_of(base, number) for number in range(1, last + 1)]
    missing = [one for one in parts if one.name not in there]
    if missing:
        raise IntegrityError(
            *[
                error("part-missing", one, "The part {subject} is missing.", "Copy all parts into one folder.")
                for one in missing
            ]
        )
    return parts


def _sums(path: Path) -> dict[str, str]:
    """What a file in the form of `sha256sum` says: name -> sha256; nothing where there is none."""
    try:
        with path.open("rb") as source:
            lines = source.read(1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found = (re.fullmatch(r"([0-9a-f]{64}) [ *](.+\.[0-9]{3})", line) for line in lines)
    return {one[2]: one[1] for one in found if one}


def reason(failed: OSError) -> str:
    """The system's word for what went wrong."""
    return os.strerror(failed.errno) if failed.errno else str(failed)


def unreadable(path: Path, failed: OSError) -> OfflinepackError:
    """A file that was there when it was last looked at cannot be read now."""
    kind = IntegrityError if isinstance(failed, FileNotFoundError) else ComputerError
    return kind(error("file-unreadable", path, "{subject} cannot be read: {reason}.", reason=reason(failed)))


def unwritable(subject: Path, failed: OSError) -> ComputerError:
    """Why this file could not be written."""
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        found = error(
            "disk-full",
            subject,
            "The disk is full: {subject} was not written.",
            "Free space there, or name another place.",
        )
    elif failed.errno == errno.EFBIG:
        found = error(
            "file-system-limit",
            subject,
            "The file system takes no file as large as {subject}.",
            "Write it in parts: --split 3900M.",
        )
    elif failed.errno in (errno.ENOENT, errno.ENOTDIR):
        found = error(
            "no-such-folder",
            subject,
            "{subject} cannot be written: there is no folder {folder}.",
            "Make it, or name another place.",
            folder=subject.parent,
        )
    else:
        found = error(
            "not-writable",
            subject,
            "{subject} cannot be written: {reason}.",
            "Name another place.",
            reason=reason(failed),
        )
    return ComputerError(found)
