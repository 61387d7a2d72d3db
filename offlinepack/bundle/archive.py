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

try:  # ten times as fast; where there is no such wheel, Python's own serves
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32


FILE_TIME = 315532800
"""1980-01-01: of every file; older than that is no time on FAT, and tar warns of 1970"""

MAX_FILE_SIZE = (8 << 30) - 1
"""bytes that a ustar header can tell"""

_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: no name, no time, unknown system

_MAX_PAX_SIZE, _MAX_END_SIZE = 4096, 10240


def make_archive_error(subject: object, why: Text, code: str = "archive-unsound") -> IntegrityError:
    """What it is about is not as a bundle is made."""
    return IntegrityError(error(code, subject, "{subject}: {why}.", COPY_AGAIN, why=why))


class ArchiveWriter:
    """Files, as tar members in gzip members, handed to `put`."""

    def __init__(self, put: Callable[[bytes | memoryview], None]) -> None:
        self._put = put
        self._compressor, self._crc, self._size = zlib.compressobj(6, zlib.DEFLATED, -15), 0, 0

    def add_file(
        self, name: str, size: int, mode: int, chunks: Iterable[bytes], packed: bool | None
    ) -> tuple[int, str]:
        """Append a file of `size` bytes; gives how many there were and their sha256.

        `packed`: it is compressed already. None: look at its beginning. Nothing beyond `size` is asked for.
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
        digest, found = hashlib.sha256(), 0
        for chunk in chain([first], chunks):
            digest.update(chunk)
            found += len(chunk)
            put(chunk)
            if found > size:
                break
        put(bytes(-size % 512))
        if packed:
            self._write_trailer(b"\1\0\0\xff\xff")  # a last, empty block
        return found, digest.hexdigest()

    def close(self) -> None:
        """POSIX: the end is two blocks of zeros."""
        self._write_deflated(bytes(1024))
        self._finish_member()

    def _write_deflated(self, data: bytes) -> None:
        if not self._size:
            self._put(_GZIP_HEADER)
        self._update_checksum(data)
        self._put(self._compressor.compress(data))

    def _write_stored(self, data: bytes) -> None:
        """RFC 1951, 3.2.4: blocks of at most 65535 bytes, each behind its length and the complement of that."""
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
    """The same bytes, each piece but the last of CHUNK: an archive does not tell in what pieces they came."""
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
    """POSIX ustar: one block, and where that cannot hold the path a pax header in front of it."""
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
"""offset and length in the header"""

_REFUSED_TYPES = {
    b"1": text("it is a hard link"),
    b"2": text("it is a symbolic link"),
    b"3": text("it is a device"),
    b"4": text("it is a device"),
    b"5": text("it is a folder, which no bundle lists"),
    b"6": text("it is a pipe"),
}


class ArchiveReader:
    """The regular files of an archive, in turn. IntegrityError wherever it is not as a bundle's archive is made."""

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
        """Bytes of the archive as it lies there."""
        return self._source.size

    def read_header(self) -> tuple[str, int] | None:
        """Name and size of the next file (read its content before the next one); None at the end of the archive."""
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
        """The bytes of the file that `next` told."""
        left = size
        while left:
            chunk = self._read_some(left)
            left -= len(chunk)
            yield chunk
        if any(self._read_exactly(-size % 512)):
            raise self._make_error(text("other bytes than zeros lie behind it"))

    def _read_pax_path(self, size: int) -> str:
        """POSIX: "%d %s=%s\\n", <length>, <keyword>, <value>; of keywords only path."""
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
        except UnicodeDecodeError as why:
            raise self._make_error(text("its name is not UTF-8")) from why

    def _parse_header(self, block: bytes) -> tuple[bytes, str, int]:
        """POSIX ustar header: type, name, size. Its checksum is right, and nothing else is said in it."""
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
        names = [one.rstrip(b"\0") for one in (block[345:500], block[:100])]
        others = block[265:329] + block[329:345].replace(b"0", b"").replace(b" ", b"") + block[500:]
        if block[156:157] in b"0x":
            others += block[157:257]
        if any(others) or any(b"\0" in one for one in names):
            raise self._make_error(text("its header says more than a name and a size"))
        name = "/".join(self._decode_name(one) for one in names if one)
        if name.startswith("/") or ".." in re.split(r"[/\\]", name):
            raise self._make_error(text("its name leads out of the bundle"))
        return block[156:157], name, numbers["size"]

    def _check_end(self) -> None:
        """Two blocks of zeros; some tools fill up to their record with more of them."""
        self._name = ""
        if any(self._read_exactly(512)):
            raise self._make_error(text("a block of zeros stands in the middle"))
        left = _MAX_END_SIZE
        rest = self._data[self._position :] or self._inflate()
        while rest:
            left -= len(rest)
            if left < 0 or any(rest):
                raise self._make_error(text("something follows behind the end of the archive"))
            rest = self._inflate()

    def _make_error(self, why: Text) -> IntegrityError:
        return make_archive_error(self._name or self._source.current_path, why)

    def _read_exactly(self, count: int) -> bytes:
        found = []
        while count:
            found.append(self._read_some(count))
            count -= len(found[-1])
        return b"".join(found)

    def _read_some(self, most: int) -> bytes:
        """At least one byte, at most so many; the archive is cut short where there is none."""
        if self._position == len(self._data):
            self._data, self._position = self._inflate(), 0
            if not self._data:
                raise self._make_truncated_error()
        found = (
            self._data[self._position : self._position + most]
            if self._position or most < len(self._data)
            else self._data
        )
        self._position += len(found)
        return found

    def _inflate(self) -> bytes:
        """The next bytes of the tar, at most a chunk; none where the last gzip member ends and the file with it."""
        while True:
            if not self._decompressor:
                self._compressed = self._compressed or self._source.read()
                if not self._compressed:
                    return b""
                self._decompressor, self._gzip_count = zlib.decompressobj(31), self._gzip_count + 1
                if self._gzip_count > 4096 + (self._unpacked_size >> 9):  # ours hold a block or more
                    raise make_archive_error(
                        self._source.current_path, text("it is cut into far too many gzip members")
                    )
            if not self._compressed and not self._has_pending_output:
                self._compressed = self._source.read()
                if not self._compressed:
                    raise self._make_truncated_error()
            try:
                data = self._decompressor.decompress(self._compressed, CHUNK_SIZE)
            except zlib.error as why:
                raise make_archive_error(
                    self._source.current_path, text("its compressed bytes are damaged"), "archive-damaged"
                ) from why
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
    """This is something else."""
    return BundleError(
        error("not-a-bundle", path, "{subject} is no bundle.", "Name the bundle's tar.gz or its unpacked folder.")
    )
