"""The bundle: written as a reproducible tar.gz, read strictly from a tar.gz or its unpacked folder.

Written: ustar, pax for long and Unicode paths only; wheels lie in stored gzip members, text in deflated ones.
Read: nothing but regular files that the manifest names, each with the size and the hash that it names.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import re
import stat
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, NamedTuple

from offlinepack import documents
from offlinepack.errors import (
    BundleError,
    ComputerError,
    Finding,
    IntegrityError,
    OfflinepackError,
    SelectionError,
    Text,
    UsageError,
    error,
    text,
)
from offlinepack.ontarget import manifest as layout
from offlinepack.ontarget.manifest import File, Manifest, Target
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.store import StoredFile

Content = bytes | Path | Iterable[bytes]
_TIME = 315532800
"""1980-01-01: of every member; older than that is no time on FAT, and tar warns of 1970"""
_MOST = (8 << 30) - 1
"""bytes that a ustar header can name"""
_CHUNK = 16 * 65535
_LONGEST_PAX, _LONGEST_SIGNATURE, _LONGEST_END = 4096, 64 << 10, 10240
_STORED, _DEFLATED = ("wheel", "sdist", "tool"), ("code", "document")


@dataclass(frozen=True)
class Member:
    """One file of a bundle that is to be written."""

    file: File
    """what the manifest says of it"""
    content: Content
    """its bytes, or the file on disk that has them"""


class StoredFileDamaged(IntegrityError):
    """A file on disk is no longer what its hash says."""

    def __init__(self, file: File, *findings: Finding) -> None:
        super().__init__(*findings)
        self.file = file
        """what the manifest says of it"""


class Part(NamedTuple):
    """One file of a written bundle: the archive itself, or a part of it."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A bundle that lies whole on the disk, with its `.sha256` beside it."""

    path: Path
    """the tar.gz; where it was split, the name that its parts begin with"""
    size: int
    """bytes, of all parts"""
    sha256: str
    """of the whole tar.gz"""
    parts: tuple[Part, ...]
    """the file itself, or .001, .002 ..."""


# ------------------------------------------------------------------------------------------------------ writing


def assemble(
    name: str,
    version: str | None,
    targets: Sequence[Target],
    stored: Iterable[StoredFile],
    *,
    sequence: int | None = None,
    install_to: str | None = None,
    extra: Mapping[str, bytes | Path] | None = None,
    urls: Mapping[str, str] | None = None,
) -> tuple[Manifest, tuple[Member, ...]]:
    """Bundle format 1 whole: the manifest, and each of its files with where its bytes are, in the archive's order.

    In `targets`, `file` of a distribution or tool is a bare file name; its folder is set here. `stored` holds them all.
    `extra`: path in the bundle -> bytes or file, for files/, bytecode/, provenance/, sbom.cdx.json, rehearsal.json.
    `urls`: file name -> its address on the public index; whatever else is an address stays out.
    Raises SelectionError where two files want one name, UsageError for a path or size that no bundle can hold.
    """
    kept: dict[str, StoredFile] = {}
    for one in stored:
        if kept.setdefault(one.name, one).sha256 != one.sha256:
            raise SelectionError(
                error(
                    "same-name-other-bytes",
                    one.name,
                    "Two different files are both called {subject}: sha256 {first} and {second}.",
                    "Make one bundle for each target ({{target}} in the name of -o).",
                    first=kept[one.name].sha256,
                    second=one.sha256,
                )
            )
    installed = {one.file for target in targets for one in target.install}
    places = {one: f"{layout.WHEELS if one.endswith('.whl') else layout.SDISTS}/{one}" for one in installed}
    places |= {one.file: f"{layout.TOOLS}/{one.file}" for t in targets for one in t.tools if one.file not in places}
    placed = tuple(
        target._replace(
            install=tuple(one._replace(file=places[one.file]) for one in target.install),
            tools=tuple(one._replace(file=places[one.file]) for one in target.tools),
        )
        for target in targets
    )
    kinds = {layout.WHEELS: "wheel", layout.SDISTS: "sdist", layout.TOOLS: "tool"}
    members = [
        Member(File(place, kept[one].size, kept[one].sha256, kinds[place.partition("/")[0]], True), kept[one].path)
        for one, place in places.items()
    ]
    members += [_member(path, content) for path, content in (*_code(), *(extra or {}).items())]
    files = {member.file.path: member.file for member in members}
    addresses = {places[one]: url for one, url in (urls or {}).items() if one in places}
    draft = Manifest(layout.FORMAT, name, version, sequence, install_to, placed, tuple(files.values()))
    members += [_member(path, data) for path, data in documents.write(draft, addresses).items()]
    members.append(_member(layout.SUMS, layout.sums(member.file for member in members)))
    members.sort(key=lambda member: member.file.path)
    refused = [
        error(
            "cannot-be-packed",
            one.path,
            "{subject} cannot lie in a bundle: {why}.",
            "Rename it, cut it, or leave it out.",
            why=why,
        )
        for one in (member.file for member in members)
        if (why := layout.bad_path(one.path) or (text("it is larger than 8 GiB") if one.size > _MOST else ""))
    ]
    if refused:
        raise UsageError(*refused)
    whole = draft._replace(files=tuple(member.file for member in members))
    return layout.read(layout.write(whole)), tuple(members)


def _member(path: str, content: bytes | Path) -> Member:
    folder = path.partition("/")[0]
    kind = {layout.FILES: "included", layout.BYTECODE: "bytecode", layout.ONTARGET: "code"}.get(folder, "document")
    kind = "code" if path in (layout.INSTALL_PY, layout.INSTALL_SH, layout.INSTALL_CMD) else kind
    if isinstance(content, bytes):
        return Member(File(path, len(content), hashlib.sha256(content).hexdigest(), kind, True), content)
    try:
        return Member(File(path, *layout.hash_file(content), kind, True), content)
    except OSError as failed:
        raise _unreadable(content, failed) from failed


def _code() -> Iterator[tuple[str, bytes]]:
    """The target side, byte for byte as it is installed here; its starters lie at the top of the bundle."""
    for one in resources.files("offlinepack.ontarget").iterdir():
        if one.name in (layout.INSTALL_PY, layout.INSTALL_SH, layout.INSTALL_CMD):
            yield one.name, one.read_bytes()
        elif one.name.endswith((".py", ".json")):
            yield f"{layout.ONTARGET}/{one.name}", one.read_bytes()


def write(
    path: Path,
    manifest: Manifest,
    members: Iterable[Member],
    signatures: Sequence[bytes] = (),
    split: int | None = None,
) -> Archive:
    """Write the bundle to `path`, all of it or nothing, and `<path>.sha256` beside it.

    `members` come in the manifest's order. Raises StoredFileDamaged where a file on disk is not what it was, and
    ComputerError: no space, no permission, no such folder. `split`: bytes of a part; they are `<path>.001` and so on.
    """
    data = layout.write(manifest)
    with _Output(path, split) as output:
        packer = _Packer(output, manifest.folder)
        packer.add(File(layout.MANIFEST, len(data), hashlib.sha256(data).hexdigest(), "document", True), data)
        for name, signature in zip(layout.SIGNATURES, signatures, strict=False):
            packer.add(File(name, len(signature), hashlib.sha256(signature).hexdigest(), "document", True), signature)
        for member, file in zip(members, (one for one in manifest.files if one.carried), strict=True):
            if member.file != file:
                raise ValueError(f"{member.file.path} stands where the manifest has {file.path}")
            packer.add(file, member.content)
        packer.close()
    return output.archive


def _header(path: str, size: int, mode: int) -> bytes:
    """POSIX ustar: one block, and where that cannot hold the path a pax header in front of it."""
    try:
        name, prefix = path.encode("ascii"), b""
        if len(name) > 100:
            cut = name.rfind(b"/", 0, 156)
            prefix, name = name[: max(cut, 0)], name[cut + 1 :]
    except UnicodeEncodeError:
        name = b"?" * 101
    if len(name) <= 100:
        return _block(name, prefix, size, mode, b"0")
    record = f" path={path}\n".encode()
    length = next(n for n in range(len(record), len(record) + 6) if len(str(n)) + len(record) == n)
    record = b"%d%s" % (length, record)
    short = b"pax/" + hashlib.sha256(path.encode()).hexdigest()[:16].encode()
    head = _block(short, b"", length, 0o644, b"x")
    return head + record + bytes(-length % 512) + _block(short, b"", size, mode, b"0")


def _block(name: bytes, prefix: bytes, size: int, mode: int, kind: bytes) -> bytes:
    numbers = b"%07o\0" % mode + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, _TIME)
    rest = kind + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0") + bytes(12)
    name = name.ljust(100, b"\0")
    return name + numbers + b"%06o\0 " % sum(name + numbers + b" " * 8 + rest) + rest


class _Packer:
    """Tar members into gzip members: text deflated, many in one; what is compressed already stored, each in its own."""

    gzip_head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: no name, no time, unknown system

    def __init__(self, output: _Output, folder: str) -> None:
        self._put, self._folder = output.put, folder
        self._deflate, self._crc, self._size = zlib.compressobj(9, zlib.DEFLATED, -15), 0, 0

    def add(self, file: File, content: Content) -> None:
        chunks = iter(_chunks(content))
        first = next(chunks, b"")
        deflate = file.kind in _DEFLATED or (file.kind not in _STORED and _compressible(first))
        mode = 0o755 if file.path in (layout.INSTALL_PY, layout.INSTALL_SH) else 0o644
        head = _header(f"{self._folder}/{file.path}", file.size, mode)
        put = self._text if deflate else self._store
        if not deflate:
            self._finish()
            self._put(self.gzip_head)
        put(head)
        digest, size = hashlib.sha256(), 0
        while first:
            digest.update(first)
            size += len(first)
            put(first)
            first = next(chunks, b"") if size <= file.size else b""
        if (size, digest.hexdigest()) != (file.size, file.sha256):
            raise StoredFileDamaged(
                file,
                error(
                    "stored-file-damaged",
                    content if isinstance(content, Path) else file.path,
                    "{subject} is not what it was when its hash was checked: sha256 {expected} then, {found} now.",
                    "Remove it and run the same command again; look after this disk.",
                    expected=file.sha256,
                    found=digest.hexdigest(),
                ),
            )
        put(bytes(-size % 512))
        if not deflate:
            self._trailer(b"\1\0\0\xff\xff")

    def close(self) -> None:
        self._text(bytes(1024))
        self._finish()

    def _text(self, data: bytes) -> None:
        if not self._size:
            self._put(self.gzip_head)
        self._count(data)
        self._put(self._deflate.compress(data))

    def _store(self, data: bytes) -> None:
        """RFC 1951, 3.2.4: blocks of at most 65535 bytes, each behind its length and the complement of that."""
        self._count(data)
        view = memoryview(data)
        for at in range(0, len(view), 65535):
            block = view[at : at + 65535]
            self._put(struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF))
            self._put(block)

    def _count(self, data: bytes) -> None:
        self._crc, self._size = zlib.crc32(data, self._crc), self._size + len(data)

    def _finish(self) -> None:
        if self._size:
            self._trailer(self._deflate.flush())
            self._deflate = zlib.compressobj(9, zlib.DEFLATED, -15)

    def _trailer(self, last: bytes) -> None:
        self._put(last + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        self._crc, self._size = 0, 0


def _compressible(start: bytes) -> bool:
    return len(zlib.compress(start[: 1 << 16], 1)) < 0.9 * len(start[: 1 << 16])


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except OSError as failed:
        raise _unreadable(path, failed) from failed


def _unreadable(path: Path, failed: OSError) -> OfflinepackError:
    kind = IntegrityError if isinstance(failed, FileNotFoundError) else ComputerError
    return kind(
        error(
            "file-unreadable",
            path,
            "{subject} cannot be read: {reason}.",
            "Run the same command again.",
            reason=_reason(failed),
        )
    )


def _reason(failed: OSError) -> str:
    return os.strerror(failed.errno) if failed.errno else str(failed)


class _Output:
    """The file that is written, or its parts: hashed and written in its own thread, named only when it is whole."""

    def __init__(self, path: Path, split: int | None) -> None:
        self._path, self._split = path, split
        self._batch: list[bytes | memoryview] = []
        self._waiting = 0
        self._queue: queue.Queue[list[bytes | memoryview] | None] = queue.Queue(4)
        self._thread = threading.Thread(target=self._work, name="bundle", daemon=True)
        self._failed: BaseException | None = None
        self._whole, self._written = hashlib.sha256(), 0
        self._file: BinaryIO | None = None
        self._parts: list[Part] = []
        self._part, self._room = hashlib.sha256(), 0

    def __enter__(self) -> _Output:
        if self._path.is_dir():
            raise ComputerError(
                error("output-is-folder", self._path, "{subject} is a folder.", "Give -o the name of a file in it.")
            )
        try:
            self._open()
        except OSError as failed:
            raise self._unwritable(failed) from failed
        self._thread.start()
        return self

    def put(self, data: bytes | memoryview) -> None:
        """Take these bytes; they may be written later."""
        self._batch.append(data)
        self._waiting += len(data)
        if self._waiting >= _CHUNK:
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
            raise self._unwritable(failed) from failed
        finally:
            if self._file:
                self._file.close()
            for number in range(1, len(self._parts) + 2):
                with suppress(OSError):
                    self._beside(number).unlink()
            with suppress(OSError):
                self._sums(".part").unlink()

    def _check(self) -> None:
        if isinstance(self._failed, OSError):
            raise self._unwritable(self._failed)
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
            if self._split:
                self._part.update(piece)
            assert self._file
            count = self._file.write(piece)
            self._room -= count
            view = view[count:]

    def _final(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number:03}") if self._split else self._path

    def _beside(self, number: int) -> Path:
        final = self._final(number)
        return final.with_name(final.name + ".part")

    def _sums(self, end: str = "") -> Path:
        return self._path.with_name(self._path.name + ".sha256" + end)

    def _open(self) -> None:
        part = self._beside(len(self._parts) + 1)
        with suppress(FileNotFoundError):
            part.unlink()
        self._file = part.open("xb", buffering=0)
        self._part, self._room = hashlib.sha256(), self._split or 1 << 62

    def _shut(self) -> None:
        """This part is whole: on the disk, not merely on its way there."""
        assert self._file
        os.fsync(self._file.fileno())
        number, size = len(self._parts) + 1, self._file.tell()
        if os.fstat(self._file.fileno()).st_ino != self._beside(number).stat().st_ino:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))  # another run took the place
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
            old.unlink()  # a part of what this name held before
            number += 1
        if hasattr(os, "O_DIRECTORY"):
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        self.archive = Archive(self._path, self._written, self._whole.hexdigest(), tuple(self._parts))

    def _unwritable(self, failed: OSError) -> ComputerError:
        subject = self._path
        if failed.errno in (errno.ENOSPC, errno.EDQUOT):
            found = error(
                "disk-full",
                subject,
                "The disk is full: {subject} was not written.",
                "Free space there, or name another place with -o.",
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
                "Make it, or name another place with -o.",
                folder=subject.parent,
            )
        else:
            found = error(
                "not-writable",
                subject,
                "{subject} cannot be written: {reason}.",
                "Name another place with -o.",
                reason=_reason(failed),
            )
        return ComputerError(found)


# ------------------------------------------------------------------------------------------------------ reading

_AGAIN = "Copy it again from where it was made."


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`: a tar.gz, the first of its parts (.001), or its unpacked folder.

    Only the manifest and the signatures are read, strictly; the rest is checked when it is unpacked or verified.
    BundleError: this is none, or a newer one. IntegrityError: it is damaged, or not as a bundle is made.
    """
    if not path.exists():
        raise BundleError(
            error("no-such-bundle", path, "There is no {subject}.", "Name the bundle's tar.gz or its unpacked folder.")
        )
    try:
        if path.is_dir():
            data, signatures = _first_of_folder(path)
        else:
            with _Tar(path) as tar:
                data, signatures = tar.first()
    except OSError as failed:
        raise ComputerError(
            error("file-unreadable", path, "{subject} cannot be read: {reason}.", reason=_reason(failed))
        ) from failed
    return Bundle(path, layout.read(data), data, signatures)


def manifest_of(path: Path) -> Manifest:
    """The manifest of a bundle, of its folder, or of a manifest.json that lies alone."""
    if path.is_file() and path.suffix == ".json":
        with path.open("rb") as source:
            return layout.read(source.read(layout.MOST_BYTES + 1))
    return open_bundle(path).manifest


@dataclass(frozen=True)
class Bundle:
    """A bundle on the disk whose manifest was read; its files are checked whenever they are."""

    path: Path
    manifest: Manifest
    data: bytes = field(repr=False)
    """manifest.json as it is: what a signature signs"""
    signatures: Mapping[str, bytes] = field(repr=False)
    """those inside: name -> bytes"""

    def members(self) -> Iterator[Member]:
        """Every file, once, in the bundle's order. Use each one's content before the next is asked for.

        Content raises IntegrityError at its end where it is not what the manifest says. So does the iterator, for what
        is missing, added, out of place, damaged or cut short.
        """
        if self.path.is_dir():
            yield from _members_of_folder(self)
            return
        with _Tar(self.path) as tar:
            if tar.first(self.manifest.folder) != (self.data, self.signatures):
                raise _unsound(self.path, text("it changed while it was read"))
            yield from tar.members(self.manifest)

    def unpack(self, folder: Path, target: Target | None = None) -> Iterator[File]:
        """Write the bundle's files into `folder`, which must not exist yet; each is given back when it is there.

        With `target`, files that only other targets install are checked and not written.
        """
        others = {one.path for each in self.manifest.targets for one in self.manifest.files_of(each)}
        others -= {one.path for one in self.manifest.files_of(target)} if target else others
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

        def place(path: str, chunks: Iterable[bytes]) -> None:
            there = folder / path
            there.parent.mkdir(exist_ok=True, parents=True)
            mode = 0o755 if path in (layout.INSTALL_PY, layout.INSTALL_SH) else 0o644
            with os.fdopen(os.open(there, flags, mode), "wb", buffering=0) as file:
                for chunk in chunks:
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]

        try:
            folder.mkdir()
            place(layout.MANIFEST, [self.data])
            for name, signature in self.signatures.items():
                place(name, [signature])
            for member in self.members():
                chunks = _chunks(member.content)
                if member.file.path in others:
                    for _ in chunks:
                        pass
                else:
                    place(member.file.path, chunks)
                yield member.file
        except OSError as failed:
            raise ComputerError(
                error(
                    "not-unpacked",
                    self.path,
                    "{subject} could not be unpacked into {folder}: {reason}.",
                    folder=folder,
                    reason=_reason(failed),
                )
            ) from failed

    def verify(self) -> Iterator[File | Finding]:
        """Check everything: bytes, framing, wheels, documents for other tools. Gives what is found, and each file done.

        Nothing is written but one wheel at a time, to a temporary file.
        """
        with tempfile.NamedTemporaryFile(prefix="offlinepack-", buffering=0, delete=os.name != "nt") as spool:
            try:
                for member in self.members():
                    try:
                        yield from self._verified(member, spool)
                    except IntegrityError as found:
                        yield from found.findings
                    yield member.file
            except (IntegrityError, BundleError) as found:
                yield from found.findings

    def _verified(self, member: Member, spool: IO[bytes]) -> Iterator[Finding]:
        file = member.file
        name = file.path.rpartition("/")[2]
        if file.kind in ("wheel", "tool") and name.endswith(".whl"):
            spool.seek(0)
            spool.truncate()
            for chunk in _chunks(member.content):
                spool.write(chunk)
            yield from read_wheel(spool.name, name).notes
        elif documents.serves_other_tools(file.path):
            yield from documents.check(file.path, b"".join(_chunks(member.content)), self.manifest)
        else:
            for _ in _chunks(member.content):
                pass


def _chunks(content: Content) -> Iterable[bytes]:
    return [content] if isinstance(content, bytes) else _read(content) if isinstance(content, Path) else content


def _unsound(subject: object, why: Text, code: str = "archive-unsound") -> IntegrityError:
    return IntegrityError(error(code, subject, "{subject}: {why}.", _AGAIN, why=why))


def _wrong(file: File, size: int, digest: str) -> IntegrityError:
    """This file is not the one that the manifest names."""
    if size != file.size:
        return _unsound(
            file.path,
            text("it has {found} bytes, the manifest says {expected}", found=size, expected=file.size),
            "size-mismatch",
        )
    return _unsound(
        file.path,
        text("its sha256 is {found}, the manifest says {expected}", found=digest, expected=file.sha256),
        "hash-mismatch",
    )


def _checked(file: File, chunks: Iterable[bytes]) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if size > file.size:
            break
        yield chunk
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        raise _wrong(file, size, digest.hexdigest())


def _missing(paths: Iterable[str]) -> IntegrityError:
    return IntegrityError(
        *[error("file-missing", one, "{subject} is missing from the bundle.", _AGAIN) for one in sorted(paths)[:20]]
    )


# a folder: nothing but folders and regular files, and of these the ones that the manifest names


def _first_of_folder(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    if not (folder / layout.MANIFEST).exists():
        raise BundleError(
            error(
                "not-a-bundle",
                folder,
                "{subject} is no bundle: it has no manifest.json.",
                "Name the folder that install.py lies in.",
            )
        )
    data = _small(folder / layout.MANIFEST, layout.MOST_BYTES)
    paths = {one: folder / one for one in layout.SIGNATURES if os.path.lexists(folder / one)}
    return data, {one: _small(path, _LONGEST_SIGNATURE) for one, path in paths.items()}


def _small(path: Path, most: int) -> bytes:
    with _regular(path) as source:
        data = source.read(most + 1)
    if len(data) > most:
        raise _unsound(path, text("it is larger than such a file can be"))
    return data


def _regular(path: Path) -> BinaryIO:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    if not stat.S_ISREG(path.lstat().st_mode):
        raise _unsound(path, text("it is no regular file"))
    return os.fdopen(os.open(path, flags), "rb")


def _members_of_folder(bundle: Bundle) -> Iterator[Member]:
    listed = {one.path: one for one in bundle.manifest.files if one.carried}
    known = {layout.MANIFEST, *bundle.signatures, *listed}
    parents = {path[:at] for path in known for at, sign in enumerate(path) if sign == "/"}
    found: set[str] = set()
    bad: list[Finding] = []
    waiting = [""]
    while waiting:
        here = waiting.pop()
        for one in os.scandir(bundle.path / here):
            path = here + one.name
            if one.is_dir(follow_symlinks=False) and path in parents:
                waiting.append(path + "/")
            elif path not in known:
                bad.append(
                    error(
                        "file-added",
                        path,
                        "{subject} does not belong to the bundle.",
                        "Take it out, or unpack the bundle again.",
                    )
                )
            elif not one.is_file(follow_symlinks=False):
                bad.extend(_unsound(path, text("it is no regular file")).findings)
            else:
                found.add(path)
    bad.extend(_missing(known - found).findings if known - found else ())
    if bad:
        raise IntegrityError(*bad[:50])
    for file in listed.values():
        with _regular(bundle.path / file.path) as source:
            yield Member(file, _checked(file, iter(partial(source.read, _CHUNK), b"")))


# an archive


class _Tar:
    """The regular members of a tar.gz, in turn. IntegrityError wherever it is not as a bundle's archive is made."""

    def __init__(self, path: Path) -> None:
        self._path, self._parts = path, _parts_of(path)
        self._file = self._parts.pop(0).open("rb", buffering=0)
        self._raw = self._file.read(_CHUNK)
        if self._raw[:3] != b"\x1f\x8b\x08":
            self._file.close()
            raise self._none()
        self._gzip: zlib._Decompress | None = None
        self._pending = False
        self._gzips, self._bytes = 0, 0
        self._here, self._at = b"", 0
        self._name, self._folder = "", ""
        self._ahead: tuple[str, int] | None = None

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _none(self) -> BundleError:
        if not self._raw:
            return BundleError(error("empty-file", self._path, "{subject} is empty.", _AGAIN))
        return BundleError(
            error(
                "not-a-bundle",
                self._path,
                "{subject} is no bundle.",
                "Name the bundle's tar.gz or its unpacked folder.",
            )
        )

    def _cut(self) -> IntegrityError:
        return IntegrityError(
            error(
                "truncated",
                self._path,
                "{subject} is cut short: it ends in the middle.",
                "Copy it again; compare its size with the original's.",
            )
        )

    def _next_raw(self) -> bytes:
        while True:
            data = self._file.read(_CHUNK)
            if data or not self._parts:
                return data
            self._file.close()
            self._file = self._parts.pop(0).open("rb", buffering=0)

    def _inflate(self) -> bytes:
        """The next bytes of the tar, at most a chunk; none where the last gzip member ends and the file with it."""
        while True:
            if not self._gzip:
                self._raw = self._raw or self._next_raw()
                if not self._raw:
                    return b""
                self._gzip, self._gzips = zlib.decompressobj(31), self._gzips + 1
                if self._gzips > 4096 + (self._bytes >> 12):
                    raise _unsound(self._path, text("it is cut into far too many gzip members"))
            if not self._raw and not self._pending:
                self._raw = self._next_raw()
                if not self._raw:
                    raise self._cut()
            try:
                data = self._gzip.decompress(self._raw, _CHUNK)
            except zlib.error as why:
                raise _unsound(self._path, text("its compressed bytes are damaged"), "archive-damaged") from why
            self._bytes += len(data)
            self._pending = len(data) == _CHUNK and not self._gzip.eof
            self._raw = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail
            if self._gzip.eof:
                self._gzip = None
            if data:
                return data

    def _some(self, most: int) -> bytes:
        """At least one byte, at most so many; the archive is cut short where there is none."""
        if self._at == len(self._here):
            self._here, self._at = self._inflate(), 0
            if not self._here:
                raise self._cut()
        found = self._here[self._at : self._at + most] if self._at or most < len(self._here) else self._here
        self._at += len(found)
        return found

    def _take(self, count: int) -> bytes:
        found = []
        while count:
            found.append(self._some(count))
            count -= len(found[-1])
        return b"".join(found)

    def _content(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            chunk = self._some(left)
            left -= len(chunk)
            yield chunk
        if any(self._take(-size % 512)):
            raise self._odd(text("there are other bytes than zeros behind a member"))

    def _odd(self, why: Text) -> IntegrityError:
        return _unsound(self._name or self._path, why)

    def _next(self) -> tuple[str, int] | None:
        """Name and size of the next member; None at the end, behind which nothing lies."""
        block = self._take(512)
        if not any(block):
            self._end()
            return None
        kind, name, size = self._parsed(block)
        if kind == b"x":
            if size > _LONGEST_PAX:
                raise self._odd(text("a name is longer than any that a bundle holds"))
            record = b"".join(self._content(size))
            length, _, rest = record.partition(b" ")
            if not re.fullmatch(rb"[1-9][0-9]{0,4}", length) or int(length) != size or not rest.startswith(b"path="):
                raise self._odd(text("an extended header says something else than one path"))
            if rest[-1:] != b"\n" or {"..", "."} & set(name.split("/")) or name.startswith("/"):
                raise self._odd(text("an extended header is not well made"))
            kind, short, size = self._parsed(self._take(512))
            if {"..", "."} & set(short.split("/")) or short.startswith("/"):
                raise self._odd(text("it has a second name that leads elsewhere"))
            try:
                name = rest[5:-1].decode()
            except UnicodeDecodeError as why:
                raise self._odd(text("a name is not UTF-8")) from why
        self._name = name
        if kind != b"0":
            raise self._odd(_KINDS.get(kind, text("it is no regular file")))
        return name, size

    def _parsed(self, block: bytes) -> tuple[bytes, str, int]:
        """POSIX ustar header: type, name, size; its checksum is right and nothing in it is hidden."""
        self._name = block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
        if block[257:265] != b"ustar\x0000":
            raise self._odd(text("it is not in the form of a bundle's archive (ustar)"))
        numbers = {at: block[at : at + length] for at, length in _NUMBERS.items()}
        if not all(re.fullmatch(rb" *[0-7]+[ \0]*", one) for one in numbers.values()):
            raise self._odd(text("its header holds numbers that no bundle has"))
        found = {at: int(one.strip(b" \0"), 8) for at, one in numbers.items()}
        if found[148] != sum(block[:148]) + sum(block[156:]) + 8 * 32:
            raise self._odd(text("the checksum of its header is wrong"))
        if found[100] > 0o777:
            raise self._odd(text("it would run with the rights of another user (setuid, setgid)"))
        fields = [block[:100], block[345:500]]
        names = [one.rstrip(b"\0") for one in fields]
        idle = block[157:257] + block[500:] + block[329:345].replace(b"0", b"").replace(b" ", b"")
        if any(idle) or any(b"\0" in one for one in names):
            raise self._odd(text("its header says more than a name and a size"))
        try:
            name = "/".join(one.decode("ascii") for one in reversed(names) if one)
        except UnicodeDecodeError as why:
            raise self._odd(text("a name is not UTF-8")) from why
        return block[156:157], name, found[124]

    def _end(self) -> None:
        """Two blocks of zeros; some tools fill up to their record with more of them."""
        self._name = ""
        left = _LONGEST_END
        if any(self._take(512)):
            raise self._odd(text("there is a block of zeros in the middle"))
        while data := self._inflate() if self._at == len(self._here) else self._some(_CHUNK):
            left -= len(data)
            if left < 0 or any(data):
                raise self._odd(text("something follows behind the end of the archive"))
            self._here, self._at = b"", 0

    def first(self, folder: str | None = None) -> tuple[bytes, dict[str, bytes]]:
        """manifest.json and the signatures, which stand at the beginning."""
        try:
            found = self._next()
        except IntegrityError as why:
            if self._gzips == 1 and not self._bytes:
                raise
            raise BundleError(*why.findings) from why
        if not found or not re.fullmatch(r"[^/]+/manifest\.json", found[0]):
            raise BundleError(
                error(
                    "not-a-bundle",
                    self._path,
                    "{subject} is no bundle.",
                    "Name the bundle's tar.gz or its unpacked folder.",
                )
            )
        self._folder = found[0].partition("/")[0]
        if found[1] > layout.MOST_BYTES:
            raise self._odd(text("it is larger than such a file can be"))
        data = b"".join(self._content(found[1]))
        signatures = {}
        self._ahead = self._next()
        while self._ahead and (name := self._ahead[0].removeprefix(self._folder + "/")) in layout.SIGNATURES:
            if name in signatures or self._ahead[1] > _LONGEST_SIGNATURE:
                raise self._odd(text("it is no signature, or it stands there twice"))
            signatures[name] = b"".join(self._content(self._ahead[1]))
            self._ahead = self._next()
        return data, signatures

    def members(self, manifest: Manifest) -> Iterator[Member]:
        """What follows: each file that the manifest names, once, and nothing else."""
        listed = {one.path: one for one in manifest.files if one.carried}
        waiting = dict(listed)
        if self._folder != manifest.folder:
            raise self._odd(text("the folder at the top is not called {name}", name=manifest.folder))
        while self._ahead:
            name, size = self._ahead
            top, _, path = name.partition("/")
            file = waiting.pop(path, None) if top == self._folder else None
            if not file:
                if path in listed:
                    raise self._odd(text("it stands there twice"))
                if name != f"{self._folder}/{path}" or layout.bad_path(path):
                    raise self._odd(text("its name leads out of the bundle, or is none that a bundle can hold"))
                raise self._odd(text("the manifest does not know it"))
            if size != file.size:
                raise _wrong(file, size, "")
            content = _checked(file, self._content(size))
            yield Member(file, content)
            for _ in content:
                pass
            self._ahead = self._next()
        if waiting:
            raise _missing(waiting)


_NUMBERS = {100: 8, 108: 8, 116: 8, 124: 12, 136: 12, 148: 8}
"""mode, owner, group, size, time, checksum: offset and length"""
_KINDS = {
    b"1": text("it is a hard link"),
    b"2": text("it is a symbolic link"),
    b"3": text("it is a device"),
    b"4": text("it is a device"),
    b"5": text("it is a folder, which no bundle lists"),
    b"6": text("it is a pipe"),
}


def _parts_of(path: Path) -> list[Path]:
    """The file itself; of a bundle that was cut, all parts in order: `.001` and those that follow."""
    if not path.name.endswith(".001"):
        return [path]
    found, number = [path], 2
    while (part := path.with_name(f"{path.name[:-4]}.{number:03}")).exists():
        found.append(part)
        number += 1
    return found
