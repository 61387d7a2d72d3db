"""The archive's form: tar in gzip members, written in one way and read strictly.

Written: ustar, with a pax header only where a path is too long or not ASCII; owner 0:0, no names, one fixed time. What
is compressed already lies in gzip members of stored blocks, one for each file; text is deflated, many files in one.
Read: regular files one after the other, and nothing before, between or behind them.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from offlinepack.errors import BundleError, IntegrityError, Text, error, text

from .parts import AGAIN, CHUNK, Input

try:  # ten times as fast; where there is no such wheel, Python's own serves
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

TIME = 315532800
"""1980-01-01: of every file; older than that is no time on FAT, and tar warns of 1970"""
LARGEST = (8 << 30) - 1
"""bytes that a ustar header can tell"""
_GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: no name, no time, unknown system
_LONGEST_PAX, _LONGEST_END = 4096, 10240


def unsound(subject: object, why: Text, code: str = "archive-unsound") -> IntegrityError:
    """What it is about is not as a bundle is made."""
    return IntegrityError(error(code, subject, "{subject}: {why}.", AGAIN, why=why))


class Writer:
    """Files, as tar members in gzip members, handed to `put`."""

    def __init__(self, put: Callable[[bytes | memoryview], None]) -> None:
        self._put = put
        self._deflate, self._crc, self._size = zlib.compressobj(6, zlib.DEFLATED, -15), 0, 0

    def add(self, name: str, size: int, mode: int, chunks: Iterable[bytes], packed: bool | None) -> tuple[int, str]:
        """Append a file of `size` bytes; gives how many there were and their sha256.

        `packed`: it is compressed already. None: look at its beginning. Nothing beyond `size` is asked for.
        """
        chunks = _even(chunks)
        first = next(chunks, b"")
        if packed is None:
            packed = len(zlib.compress(first[: 1 << 16], 1)) > 0.9 * len(first[: 1 << 16])
        if packed:
            self._finish()
            self._put(_GZIP)
        put = self._stored if packed else self._deflated
        put(_header(name, size, mode))
        digest, found = hashlib.sha256(), 0
        for chunk in chain([first], chunks):
            digest.update(chunk)
            found += len(chunk)
            put(chunk)
            if found > size:
                break
        put(bytes(-size % 512))
        if packed:
            self._trailer(b"\1\0\0\xff\xff")  # a last, empty block
        return found, digest.hexdigest()

    def close(self) -> None:
        """POSIX: the end is two blocks of zeros."""
        self._deflated(bytes(1024))
        self._finish()

    def _deflated(self, data: bytes) -> None:
        if not self._size:
            self._put(_GZIP)
        self._count(data)
        self._put(self._deflate.compress(data))

    def _stored(self, data: bytes) -> None:
        """RFC 1951, 3.2.4: blocks of at most 65535 bytes, each behind its length and the complement of that."""
        self._count(data)
        view = memoryview(data)
        for at in range(0, len(view), 65535):
            block = view[at : at + 65535]
            self._put(struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF))
            self._put(block)

    def _count(self, data: bytes) -> None:
        self._crc, self._size = crc32(data, self._crc), self._size + len(data)

    def _finish(self) -> None:
        if self._size:
            self._trailer(self._deflate.flush())
            self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15)

    def _trailer(self, last: bytes) -> None:
        self._put(last + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        self._crc, self._size = 0, 0


def _even(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, each piece but the last of CHUNK: an archive does not tell in what pieces they came."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        while size + len(chunk) >= CHUNK:
            cut = CHUNK - size
            yield b"".join([*waiting, chunk[:cut]]) if waiting else chunk[:cut]
            waiting, size, chunk = [], 0, chunk[cut:]
        if chunk:
            waiting.append(chunk)
            size += len(chunk)
    if waiting:
        yield b"".join(waiting)


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
    numbers = b"%07o\0" % mode + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, TIME)
    rest = kind + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0") + bytes(12)
    name = name.ljust(100, b"\0")
    return name + numbers + b"%06o\0 " % sum(name + numbers + b" " * 8 + rest) + rest


_NUMBERS = {"mode": (100, 8), "owner": (108, 8), "group": (116, 8), "size": (124, 12), "time": (136, 12)}
"""offset and length in the header"""
_KINDS = {
    b"1": text("it is a hard link"),
    b"2": text("it is a symbolic link"),
    b"3": text("it is a device"),
    b"4": text("it is a device"),
    b"5": text("it is a folder, which no bundle lists"),
    b"6": text("it is a pipe"),
}


class Reader:
    """The regular files of an archive, in turn. IntegrityError wherever it is not as a bundle's archive is made."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self._raw = source.read(CHUNK)
        if not self._raw:
            raise BundleError(error("empty-file", source.here, "{subject} is empty.", AGAIN))
        if self._raw[:3] != b"\x1f\x8b\x08":
            raise not_a_bundle(source.here)
        self._gzip: zlib._Decompress | None = None
        self._pending, self._gzips, self._bytes = False, 0, 0
        self._data, self._at = b"", 0
        self._name = ""

    @property
    def size(self) -> int:
        """Bytes of the archive as it lies there."""
        return self._source.size

    def next(self) -> tuple[str, int] | None:
        """Name and size of the next file (read its content before the next one); None at the end of the archive."""
        began = self._bytes == 0
        block = self._take(512)
        if began and block[257:263] != b"ustar\0":
            raise not_a_bundle(self._source.here)
        if not any(block):
            self._end()
            return None
        kind, name, size = self._parsed(block)
        if kind == b"x":
            long = self._path(size)
            kind, _, size = self._parsed(self._take(512))
            self._name = name = long
        if not name:
            raise self._odd(text("a file in it has no name"))
        if kind != b"0":
            raise self._odd(_KINDS.get(kind, text("it is no regular file")))
        return name, size

    def content(self, size: int) -> Iterator[bytes]:
        """The bytes of the file that `next` told."""
        left = size
        while left:
            chunk = self._some(left)
            left -= len(chunk)
            yield chunk
        if any(self._take(-size % 512)):
            raise self._odd(text("other bytes than zeros lie behind it"))

    def _path(self, size: int) -> str:
        """POSIX: "%d %s=%s\\n", <length>, <keyword>, <value>; of keywords only path."""
        if size > _LONGEST_PAX:
            raise self._odd(text("its name is longer than any that a bundle holds"))
        record = b"".join(self.content(size))
        length, _, rest = record.partition(b" ")
        if not re.fullmatch(rb"[1-9][0-9]{0,4}", length) or int(length) != size or rest[:5] + rest[-1:] != b"path=\n":
            raise self._odd(text("an extended header says something else than one path"))
        return self._decoded(rest[5:-1])

    def _decoded(self, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError as why:
            raise self._odd(text("its name is not UTF-8")) from why

    def _parsed(self, block: bytes) -> tuple[bytes, str, int]:
        """POSIX ustar header: type, name, size. Its checksum is right, and nothing else is said in it."""
        self._name = block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
        if block[257:265] != b"ustar\x0000":
            raise self._odd(text("its header is not in the form of a bundle's archive (ustar)"))
        if block[148:156] != b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32):
            raise self._odd(text("the checksum of its header is wrong"))
        numbers = {}
        for key, (at, length) in _NUMBERS.items():
            if not re.fullmatch(rb" *[0-7]+[ \0]*", block[at : at + length]):
                raise self._odd(text("its header has a number that no bundle has ({key})", key=key))
            numbers[key] = int(block[at : at + length].strip(b" \0"), 8)
        if numbers["mode"] > 0o777:
            raise self._odd(text("it would run with the rights of another user (setuid, setgid)"))
        names = [one.rstrip(b"\0") for one in (block[345:500], block[:100])]
        others = block[265:329] + block[329:345].replace(b"0", b"").replace(b" ", b"") + block[500:]
        if block[156:157] in b"0x":
            others += block[157:257]
        if any(others) or any(b"\0" in one for one in names):
            raise self._odd(text("its header says more than a name and a size"))
        name = "/".join(self._decoded(one) for one in names if one)
        if name.startswith("/") or ".." in re.split(r"[/\\]", name):
            raise self._odd(text("its name leads out of the bundle"))
        return block[156:157], name, numbers["size"]

    def _end(self) -> None:
        """Two blocks of zeros; some tools fill up to their record with more of them."""
        self._name = ""
        if any(self._take(512)):
            raise self._odd(text("a block of zeros stands in the middle"))
        left = _LONGEST_END
        rest = self._data[self._at :] or self._inflate()
        while rest:
            left -= len(rest)
            if left < 0 or any(rest):
                raise self._odd(text("something follows behind the end of the archive"))
            rest = self._inflate()

    def _odd(self, why: Text) -> IntegrityError:
        return unsound(self._name or self._source.here, why)

    def _take(self, count: int) -> bytes:
        found = []
        while count:
            found.append(self._some(count))
            count -= len(found[-1])
        return b"".join(found)

    def _some(self, most: int) -> bytes:
        """At least one byte, at most so many; the archive is cut short where there is none."""
        if self._at == len(self._data):
            self._data, self._at = self._inflate(), 0
            if not self._data:
                raise self._cut()
        found = self._data[self._at : self._at + most] if self._at or most < len(self._data) else self._data
        self._at += len(found)
        return found

    def _inflate(self) -> bytes:
        """The next bytes of the tar, at most a chunk; none where the last gzip member ends and the file with it."""
        while True:
            if not self._gzip:
                self._raw = self._raw or self._source.read()
                if not self._raw:
                    return b""
                self._gzip, self._gzips = zlib.decompressobj(31), self._gzips + 1
                if self._gzips > 4096 + (self._bytes >> 9):  # ours hold a block or more
                    raise unsound(self._source.here, text("it is cut into far too many gzip members"))
            if not self._raw and not self._pending:
                self._raw = self._source.read()
                if not self._raw:
                    raise self._cut()
            try:
                data = self._gzip.decompress(self._raw, CHUNK)
            except zlib.error as why:
                raise unsound(self._source.here, text("its compressed bytes are damaged"), "archive-damaged") from why
            self._bytes += len(data)
            self._pending = len(data) == CHUNK and not self._gzip.eof
            self._raw = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail
            if self._gzip.eof:
                self._gzip = None
            if data:
                return data

    def _cut(self) -> IntegrityError:
        return IntegrityError(
            error(
                "truncated",
                self._source.here,
                "{subject} is cut short: it ends in the middle.",
                "Copy it again; compare its size with the original's.",
            )
        )


def not_a_bundle(path: object) -> BundleError:
    """This is something else."""
    return BundleError(
        error("not-a-bundle", path, "{subject} is no bundle.", "Name the bundle's tar.gz or its unpacked folder.")
    )
