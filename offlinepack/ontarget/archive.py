"""Read a zip archive (PKWARE's APPNOTE 6.3) strictly: every byte belongs to one member or to the directory.

Accepted: stored and deflated members, data descriptors, zip64, folders, UTF-8 names.
"""

import base64
import hashlib
import os
import re
import stat
import struct
import zlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Set, Tuple

from .errors import Text, text
from .paths import fold_path

BLOCK_SIZE = 1 << 20  # bytes in memory at once
_CENTRAL, _LOCAL = struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s5H3I2H")
_END, _ZIP64_END, _ZIP64_LOCATOR = struct.Struct("<4s4H2IH"), struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
_ALL_ONES = 0xFFFFFFFF
_MAX_SIZE, _MAX_MEMBERS = 64 << 20, 200000  # bytes and members of a directory
_MAX_RATIO = 100  # an archive may unpack to _MAX_SIZE bytes and this many times its own size
_PLAIN_NAME = re.compile(r"(?![A-Za-z]:)(?:(?!\.\.?/)[^/\\]{1,255}/)*(?!\.\.?/?\Z)[^/\\]{1,255}/?\Z")
RefuseCallback = Callable[[str, Text], None]


class ArchiveError(Exception):
    """The archive cannot be read any further: a code, a Text."""


class ZipEntry(NamedTuple):
    """One file in the archive."""
    name: str
    offset: int  # of its packed bytes
    packed_size: int  # bytes
    size: int  # bytes when unpacked
    crc: int
    is_deflated: bool  # else stored
    is_executable: bool


class ZipArchive:
    """An open archive. Bytes that are kept are compared with the bytes that are hashed at the end."""

    def __init__(self, source):  # type: (Any) -> None
        self.source, self.size = source, os.fstat(source.fileno()).st_size
        self.checked_ranges = []  # type: List[Tuple[int, bytes]]

    def read(self, count, offset):  # type: (int, int) -> bytes
        """Read up to `count` bytes at `offset`."""
        self.source.seek(offset)
        return self.source.read(count)  # type: ignore[no-any-return]

    def read_exactly(self, offset, count, keep=True):  # type: (int, int, bool) -> bytes
        """Read exactly `count` bytes at `offset`."""
        data = self.read(count, offset) if 0 <= offset <= offset + count <= self.size else b""
        if len(data) != count:
            raise ArchiveError("framing", text("it ends too early"))
        if keep:
            self.checked_ranges.append((offset, data))
        return data

    def compute_sha256(self):  # type: () -> str
        """Hash the whole file; return '' if bytes that were kept have changed."""
        digest, block, at, same = hashlib.sha256(), memoryview(bytearray(BLOCK_SIZE)), 0, True
        self.source.seek(0)
        while True:
            count = self.source.readinto(block)
            if not count:
                return digest.hexdigest() if same else ""
            digest.update(block[:count])
            for offset, data in self.checked_ranges:
                low, high = max(offset, at), min(offset + len(data), at + count)
                same = same and (low >= high or block[low - at : high - at] == data[low - offset : high - offset])
            at += count

    def read_entries(self, refuse):  # type: (RefuseCallback) -> Dict[str, ZipEntry]
        """Return the files by name. A problem of one member goes to `refuse`; one of the archive is an ArchiveError."""
        directory, start = self._read_directory()
        files, visited, folders, expected = {}, {}, set(), 0  # type: Dict[str, ZipEntry], Dict[str, str], Set[str], int
        for number, (header, raw, flags, method, crc, packed, size, mode) in enumerate(directory, 1):
            name = raw.decode("utf-8" if flags & 0x800 else "ascii", "backslashreplace")
            end = directory[number][0] if number < len(directory) else start
            data = self.read(min(30 + len(raw) + 64, end - header), header)
            if header != expected or len(data) < 30:
                raise ArchiveError("framing", text("{member}: there are bytes of no member, or of two", member=name))
            sign, _, flags2, method2, _, _, crc2, packed2, size2, n, e = _LOCAL.unpack_from(data)
            offset, expected = header + 30 + n + e, end
            if e:
                size2, packed2, _ = _widen_values(self.read_exactly(header + 30 + n, e, False), size2, packed2, 0)
            remaining, same = end - offset - packed, (crc2, packed2, size2) == (crc, packed, size)
            if flags & 8:  # APPNOTE 4.3.9: a data descriptor follows, with or without signature, of 4 or 8 bytes a size
                tail = self.read_exactly(offset + packed, min(remaining, 25), False)
                tail = tail[4:] if tail[:4] == b"PK\7\x08" and len(tail) in (16, 24) else tail
                form, most = ("<3I", _ALL_ONES) if len(tail) == 12 else ("<IQQ", -1)
                remaining = int(tail != struct.pack(form, crc, packed & most, size & most))
                same = same or (crc2, packed2, size2) == (0, 0, 0)
            if remaining or not same or (sign, flags2, method2, data[30 : 30 + n]) != (b"PK\3\4", flags, method, raw):
                refuse("framing", text("{member}: the directory and the member's header disagree", member=name))
            if flags & ~0x80E or method not in (0, 8) or (method == 0 and packed != size):
                refuse("framing", text("{member} is encrypted, or packed in a way that is not used here", member=name))
            kind, folder = stat.S_IFMT(mode), name[-1:] == "/"
            if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG) or (size if folder else mode & 0o6000):
                refuse("name", text("{member} is a link or another special file", member=name))
            if not _PLAIN_NAME.match(name) or not name.isprintable() or len(raw) > 1000:
                refuse("name", text("{member} is not a plain relative name", member=name))
            key = name.lower() if len(name) == len(raw) else fold_path(name)
            parent = key.rpartition("/")[0]
            while parent and parent not in folders:
                folders.add(parent)
                parent = parent.rpartition("/")[0]
            if not folder:
                if key in visited:
                    refuse("name", text("{member} is there twice, or as {other}", member=name, other=visited[key]))
                visited[key] = name
                executable = stat.S_ISREG(mode) and bool(mode & 0o111)
                files[name] = ZipEntry(name, offset, packed, size, crc, method == 8, executable)
        self.folders = folders  # folded like the keys
        for key in sorted(folders.intersection(visited)):
            refuse("name", text("{member} is a file and a folder at once", member=visited[key]))
        total = sum(entry.size for entry in files.values())
        if total > _MAX_SIZE + _MAX_RATIO * self.size:
            facts = {"packed": self.size, "size": total}
            raise ArchiveError("bomb", text("its {packed} bytes would unpack to {size}: no honest file does", **facts))
        return files

    def _read_directory(self):  # type: () -> Tuple[List[Tuple[Any, ...]], int]
        """Read the directory (APPNOTE 4.3.6: members without gaps from the first byte, the directory, its end)."""
        end = self.size - 22
        sign, disk, first, disk_count, count, length, start, comment = _END.unpack(self.read_exactly(end, 22))
        sound = (sign, disk, first, disk_count, comment) == (b"PK\5\6", 0, 0, count, 0)
        if end >= 76 and self.read_exactly(end - 20, 4) == b"PK\6\7":
            locator, end = _ZIP64_LOCATOR.unpack(self.read_exactly(end - 20, 20)), end - 76
            wide, most = _ZIP64_END.unpack(self.read_exactly(end, 56)), (0xFFFF, 0xFFFF, _ALL_ONES, _ALL_ONES)
            agree = all(a in (wide[6 + at], most[at]) for at, a in enumerate((disk_count, count, length, start)))
            sound = sound and agree and locator[1:] == (0, end, 1)
            sound = sound and wide[:2] + wide[4:6] == (b"PK\6\6", 44, 0, 0) and wide[6] == wide[7]
            count, length, start = wide[7:]
        if sound and count > _MAX_MEMBERS:
            raise ArchiveError("bomb", text("its directory has {number} entries: no honest file has", number=count))
        if not sound or start + length != end or length > _MAX_SIZE:
            raise ArchiveError("framing", text("it is no zip archive, or something is missing or was added at its end"))
        data, at, entries = self.read_exactly(start, length), 0, []  # type: bytes, int, List[Tuple[Any, ...]]
        try:
            while at < length:
                fields = _CENTRAL.unpack_from(data, at)
                sign, _, _, flags, method, _, _, crc, packed, size, n, e, c, disk, _, mode, header = fields
                raw, extra = data[at + 46 : at + 46 + n], data[at + 46 + n : at + 46 + n + e]
                at += 46 + n + e + c
                if e:
                    size, packed, header = _widen_values(extra, size, packed, header)
                if sign != b"PK\1\2" or disk or not n:
                    raise ValueError
                entries.append((header, raw, flags, method, crc, packed, size, mode >> 16))
            if at != length or len(entries) != count:
                raise ValueError
        except (struct.error, ValueError):
            raise ArchiveError("framing", text("its directory is damaged after {number} entries", number=len(entries)))
        return sorted(entries), start


def _widen_values(extra, *values):  # type: (bytes, int) -> List[int]
    """Replace each value that is all ones by the next 64-bit value of extra field 1 (APPNOTE 4.5.3)."""
    at, wide, result = 0, b"", []  # type: int, bytes, List[int]
    try:
        while at < len(extra):
            kind, length = struct.unpack_from("<2H", extra, at)
            at += 4 + length
            if at > len(extra) or (kind == 1 and wide) or kind == 0x7075:  # 4.6.9: a second name
                raise ValueError(kind)
            if kind == 1:
                wide = extra[at - length : at]
        for value in values:
            if value == _ALL_ONES:
                value, wide = struct.unpack("<Q", wide[:8])[0], wide[8:]
            result.append(value)
    except (struct.error, ValueError):
        raise ArchiveError("framing", text("the extra fields of a member are damaged, or give it a second name"))
    return result


def unpack_entry(source, entry, digest=""):  # type: (Any, Any, str) -> Iterator[bytes]
    """Yield an entry's bytes in blocks; raise ArchiveError if size, CRC or hash (`sha256=...`) differ at the end."""
    kind, _, expected = digest.partition("=")
    total = getattr(hashlib, kind or "sha256")()
    remaining, size, crc, inflate = entry.packed_size, 0, 0, zlib.decompressobj(-15)
    source.seek(entry.offset)
    try:
        while remaining > 0 and size <= entry.size:
            block = source.read(min(remaining, BLOCK_SIZE))
            remaining -= len(block) or remaining + 1
            while block is not None and size <= entry.size:
                data = inflate.decompress(block, BLOCK_SIZE) if entry.is_deflated else block
                block = inflate.unconsumed_tail if entry.is_deflated and len(data) == BLOCK_SIZE else None
                size, crc = size + len(data), zlib.crc32(data, crc)
                total.update(data)
                yield data
    except zlib.error:
        size = -1
    whole = (size, crc, remaining) == (entry.size, entry.crc, 0)
    whole = whole and (not entry.is_deflated or (inflate.eof and not inflate.unused_data))
    encoded = base64.urlsafe_b64encode(total.digest()).rstrip(b"=").decode("ascii")
    if not whole or (expected and expected != encoded):
        reason = text("{member}: its bytes are damaged, or not those of RECORD", member=entry.name)
        raise ArchiveError("contents", reason)
