"""Write and strictly read the archive of a bundle: a tar in gzip members.

Written: ustar, with a pax header only if a path is too long or not ASCII; owner 0:0, no user names, one fixed time.
Compressed files are stored in one gzip member each; text files are deflated together.
Read: regular files one after the other, and no bytes before, between or after them.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from offlinepack.bundle.volumes import CHUNK_SIZE, COPY_AGAIN, VolumeReader
from offlinepack.errors import BundleError, IntegrityError, Text, error, text

try:  # isal is ten times as fast as zlib; without a wheel of it zlib is used
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32


FILE_TIME = 315532800
"""The fixed modification time of every file, 1980-01-01: FAT has no earlier time, and tar warns of 1970."""

MAX_FILE_SIZE = (8 << 30) - 1
"""The largest file size in bytes that a ustar header can hold."""

_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: no name, no time, unknown system

_MAX_PAX_SIZE, _MAX_END_SIZE = 4096, 10240


def make_archive_error(subject: object, reason: Text, code: str = "archive-unsound") -> IntegrityError:
    """Build the error for an archive that does not have the form of a bundle."""
    return IntegrityError(error(code, subject, "{subject}: {why}.", COPY_AGAIN, why=reason))


class ArchiveWriter:
    """Write files as tar members in gzip members and pass the bytes to `put`."""

    def __init__(self, put: Callable[[bytes | memoryview], None]) -> None:
        self._put = put
        self._compressor, self._crc, self._size = zlib.compressobj(6, zlib.DEFLATED, -15), 0, 0

    def add_file(
        self, name: str, size: int, mode: int, chunks: Iterable[bytes], packed: bool | None
    ) -> tuple[int, str]:
        """Append a file of `size` bytes; return the bytes read and their SHA-256.

        With `packed`, the content counts as compressed; None examines its first bytes. No chunk beyond `size` is
        read.
        """
        chunks = _rechunk(chunks)
        first = next(chunks, b"")
        if packed is None:
            packed = len(zlib.compress(first[: 1 << 16], 1)) > 0.9 * len(first[: 1 << 16])
        if packed:
            self._finish_member()
            self._put(_GZIP_HEADER)
        put = self._write_stored if packed else self._write_deflated
        put(_make_header(name, size, mode))
        digest, total = hashlib.sha256(), 0
        for chunk in chain([first], chunks):
            digest.update(chunk)
            total += len(chunk)
            put(chunk)
            if total > size:
                break
        put(bytes(-size % 512))
        if packed:
            self._write_trailer(b"\1\0\0\xff\xff")  # a last, empty block
        return total, digest.hexdigest()

    def close(self) -> None:
        """Write the end of the archive, two blocks of zeros (POSIX ustar)."""
        self._write_deflated(bytes(1024))
        self._finish_member()

    def _write_deflated(self, data: bytes) -> None:
        if not self._size:
            self._put(_GZIP_HEADER)
        self._update_checksum(data)
        self._put(self._compressor.compress(data))

    def _write_stored(self, data: bytes) -> None:
        """Write stored deflate blocks, up to 65535 bytes after their length and complement (RFC 1951, 3.2.4)."""
        self._update_checksum(data)
        view = memoryview(data)
        for at in range(0, len(view), 65535):
            block = view[at : at + 65535]
            self._put(struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF))
            self._put(block)

    def _update_checksum(self, data: bytes) -> None:
        self._crc, self._size = crc32(data, self._crc), self._size + len(data)

    def _finish_member(self) -> None:
        if self._size:
            self._write_trailer(self._compressor.flush())
            self._compressor = zlib.compressobj(6, zlib.DEFLATED, -15)

    def _write_trailer(self, last: bytes) -> None:
        self._put(last + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        self._crc, self._size = 0, 0


def _rechunk(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the bytes into chunks of CHUNK_SIZE, so that the archive does not depend on the chunks of its source."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        while size + len(chunk) >= CHUNK_SIZE:
            cut = CHUNK_SIZE - size
            yield b"".join([*waiting, chunk[:cut]]) if waiting else chunk[:cut]
            waiting, size, chunk = [], 0, chunk[cut:]
        if chunk:
            waiting.append(chunk)
            size += len(chunk)
    if waiting:
        yield b"".join(waiting)


def _make_header(path: str, size: int, mode: int) -> bytes:
    """Return the ustar header of a file, after a pax header if the path does not fit (POSIX)."""
    try:
        name, prefix = path.encode("ascii"), b""
        if len(name) > 100:
            cut = name.rfind(b"/", 0, 156)
            prefix, name = name[: max(cut, 0)], name[cut + 1 :]
    except UnicodeEncodeError:
        name = b"?" * 101
    if len(name) <= 100:
        return _make_block(name, prefix, size, mode, b"0")
    record = f" path={path}\n".encode()
    length = next(n for n in range(len(record), len(record) + 6) if len(str(n)) + len(record) == n)
    record = b"%d%s" % (length, record)
    short = b"pax/" + hashlib.sha256(path.encode()).hexdigest()[:16].encode()
    head = _make_block(short, b"", length, 0o644, b"x")
    return head + record + bytes(-length % 512) + _make_block(short, b"", size, mode, b"0")


def _make_block(name: bytes, prefix: bytes, size: int, mode: int, kind: bytes) -> bytes:
    numbers = b"%07o\0" % mode + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, FILE_TIME)
    rest = kind + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0") + bytes(12)
    name = name.ljust(100, b"\0")
    return name + numbers + b"%06o\0 " % sum(name + numbers + b" " * 8 + rest) + rest


_NUMBER_FIELDS = {"mode": (100, 8), "owner": (108, 8), "group": (116, 8), "size": (124, 12), "time": (136, 12)}
"""Offset and length of each field in the header."""

_REFUSED_TYPES = {
    b"1": text("it is a hard link"),
    b"2": text("it is a symbolic link"),
    b"3": text("it is a device"),
    b"4": text("it is a device"),
    b"5": text("it is a folder, which no bundle lists"),
    b"6": text("it is a pipe"),
}


class ArchiveReader:
    """Read the regular files of an archive in order.

    Raises IntegrityError if the archive does not have the form of a bundle.
    """

    def __init__(self, source: VolumeReader) -> None:
        self._source = source
        self._compressed = source.read(CHUNK_SIZE)
        if not self._compressed:
            raise BundleError(error("empty-file", source.current_path, "{subject} is empty.", COPY_AGAIN))
        if self._compressed[:3] != b"\x1f\x8b\x08":
            raise make_not_a_bundle_error(source.current_path)
        self._decompressor: zlib._Decompress | None = None
        self._has_pending_output, self._gzip_count, self._unpacked_size = False, 0, 0
        self._data, self._position = b"", 0
        self._name = ""

    @property
    def size(self) -> int:
        """The size of the archive file in bytes."""
        return self._source.size

    def read_header(self) -> tuple[str, int] | None:
        """Return name and size of the next file, or None at the end of the archive.

        Read the content of a file before the next header.
        """
        began = self._unpacked_size == 0
        block = self._read_exactly(512)
        if began and block[257:263] != b"ustar\0":
            raise make_not_a_bundle_error(self._source.current_path)
        if not any(block):
            self._check_end()
            return None
        kind, name, size = self._parse_header(block)
        if kind == b"x":
            long = self._read_pax_path(size)
            kind, _, size = self._parse_header(self._read_exactly(512))
            self._name = name = long
        if not name:
            raise self._make_error(text("a file in it has no name"))
        if kind != b"0":
            raise self._make_error(_REFUSED_TYPES.get(kind, text("it is no regular file")))
        return name, size

    def read_content(self, size: int) -> Iterator[bytes]:
        """Yield the content of the file whose header was read last."""
        remaining = size
        while remaining:
            chunk = self._read_some(remaining)
            remaining -= len(chunk)
            yield chunk
        if any(self._read_exactly(-size % 512)):
            raise self._make_error(text("other bytes than zeros lie behind it"))

    def _read_pax_path(self, size: int) -> str:
        """Return the path of a pax header: `"%d %s=%s

        ", <length>, path, <value>` (POSIX).
        """
        if size > _MAX_PAX_SIZE:
            raise self._make_error(text("its name is longer than any that a bundle holds"))
        record = b"".join(self.read_content(size))
        length, _, rest = record.partition(b" ")
        if not re.fullmatch(rb"[1-9][0-9]{0,4}", length) or int(length) != size or rest[:5] + rest[-1:] != b"path=\n":
            raise self._make_error(text("an extended header says something else than one path"))
        return self._decode_name(rest[5:-1])

    def _decode_name(self, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError as error:
            raise self._make_error(text("its name is not UTF-8")) from error

    def _parse_header(self, block: bytes) -> tuple[bytes, str, int]:
        """Parse a ustar header (POSIX) into type, name and size; raise IntegrityError if it holds anything else."""
        self._name = block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
        if block[257:265] != b"ustar\x0000":
            raise self._make_error(text("its header is not in the form of a bundle's archive (ustar)"))
        if block[148:156] != b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32):
            raise self._make_error(text("the checksum of its header is wrong"))
        numbers = {}
        for key, (at, length) in _NUMBER_FIELDS.items():
            if not re.fullmatch(rb" *[0-7]+[ \0]*", block[at : at + length]):
                raise self._make_error(text("its header has a number that no bundle has ({key})", key=key))
            numbers[key] = int(block[at : at + length].strip(b" \0"), 8)
        if numbers["mode"] > 0o777:
            raise self._make_error(text("it would run with the rights of another user (setuid, setgid)"))
        names = [field.rstrip(b"\0") for field in (block[345:500], block[:100])]
        unused = block[265:329] + block[329:345].replace(b"0", b"").replace(b" ", b"") + block[500:]
        if block[156:157] in b"0x":
            unused += block[157:257]
        if any(unused) or any(b"\0" in name for name in names):
            raise self._make_error(text("its header says more than a name and a size"))
        name = "/".join(self._decode_name(part) for part in names if part)
        if name.startswith("/") or ".." in re.split(r"[/\\]", name):
            raise self._make_error(text("its name leads out of the bundle"))
        return block[156:157], name, numbers["size"]

    def _check_end(self) -> None:
        """Check that only zeros follow; some tools fill up their last record with zeros."""
        self._name = ""
        if any(self._read_exactly(512)):
            raise self._make_error(text("a block of zeros stands in the middle"))
        remaining = _MAX_END_SIZE
        rest = self._data[self._position :] or self._inflate()
        while rest:
            remaining -= len(rest)
            if remaining < 0 or any(rest):
                raise self._make_error(text("something follows behind the end of the archive"))
            rest = self._inflate()

    def _make_error(self, reason: Text) -> IntegrityError:
        return make_archive_error(self._name or self._source.current_path, reason)

    def _read_exactly(self, count: int) -> bytes:
        chunks = []
        while count:
            chunks.append(self._read_some(count))
            count -= len(chunks[-1])
        return b"".join(chunks)

    def _read_some(self, most: int) -> bytes:
        """Return between one and `most` bytes; raise IntegrityError if the archive is cut short."""
        if self._position == len(self._data):
            self._data, self._position = self._inflate(), 0
            if not self._data:
                raise self._make_truncated_error()
        chunk = (
            self._data[self._position : self._position + most]
            if self._position or most < len(self._data)
            else self._data
        )
        self._position += len(chunk)
        return chunk

    def _inflate(self) -> bytes:
        """Return the next bytes of the tar, at most one chunk; empty at the end of the last gzip member and of the
        file.
        """
        while True:
            if not self._decompressor:
                self._compressed = self._compressed or self._source.read()
                if not self._compressed:
                    return b""
                self._decompressor, self._gzip_count = zlib.decompressobj(31), self._gzip_count + 1
                if self._gzip_count > 4096 + (
                    self._unpacked_size >> 9
                ):  # each gzip member that ArchiveWriter writes holds one block or more
                    raise make_archive_error(
                        self._source.current_path, text("it is cut into far too many gzip members")
                    )
            if not self._compressed and not self._has_pending_output:
                self._compressed = self._source.read()
                if not self._compressed:
                    raise self._make_truncated_error()
            try:
                data = self._decompressor.decompress(self._compressed, CHUNK_SIZE)
            except zlib.error as error:
                raise make_archive_error(
                    self._source.current_path, text("its compressed bytes are damaged"), "archive-damaged"
                ) from error
            self._unpacked_size += len(data)
            self._has_pending_output = len(data) == CHUNK_SIZE and not self._decompressor.eof
            self._compressed = (
                self._decompressor.unused_data if self._decompressor.eof else self._decompressor.unconsumed_tail
            )
            if self._decompressor.eof:
                self._decompressor = None
            if data:
                return data

    def _make_truncated_error(self) -> IntegrityError:
        return IntegrityError(
            error(
                "truncated",
                self._source.current_path,
                "{subject} is cut short: it ends in the middle.",
                "Copy it again; compare its size with the original's.",
            )
        )


def make_not_a_bundle_error(path: object) -> BundleError:
    """Build the error for a file that is not a bundle."""
    return BundleError(
        error("not-a-bundle", path, "{subject} is no bundle.", "Name the bundle's tar.gz or its unpacked folder.")
    )
