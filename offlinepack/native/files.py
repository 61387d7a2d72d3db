"""Binaries out of a zip, or from disk: found by their first bytes, read with no more than a buffer in memory."""

from __future__ import annotations

import mmap
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from offlinepack.native import macho, pe
from offlinepack.native.binary import Binary, installed
from offlinepack.native.elf import read
from offlinepack.ontarget.archive import ZipEntry
from offlinepack.ontarget.wheel_model import WheelMember

try:  # twice as fast; where there is no such wheel, Python's own serves
    from isal.isal_zlib import decompressobj, error
except ImportError:
    from zlib import decompressobj, error  # type: ignore[assignment,unused-ignore]


Packed = ZipEntry | WheelMember
"""where a file's bytes lie in its wheel"""

IN_MEMORY = 16 << 20
"""bytes of a binary that are held in memory; a larger one goes through a temporary file"""

_BLOCK = 1 << 18

_MOST_TURNS = 16
"""so often what went by may be asked for again; a sound file needs two or three"""

NO_BINARY = re.compile(
    r"\.(py|pyi|pyc|pyx|pxd|txt|md|rst|json|toml|ya?ml|cfg|ini|html?|css|js|mjs|map|ts|svg|png|jpe?g|gif|ico|woff2?|ttf|otf"
    r"|h|hpp|hh|c|cc|cpp|f|f90|cu|cuh|csv|tsv|npy|npz|xml|xsd|po|mo|pot|ipynb|cmake|pc|sh|gz|xz|bz2|zip|typed|a|lib)\Z"
    r"|\.dist-info/|/(LICENSE|NOTICE|AUTHORS|METADATA|RECORD|WHEEL)[^/]*\Z",
    re.I,
)

_MAGIC = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")

_DAMAGED = (struct.error, ValueError, IndexError, OverflowError)


class Unpacked:
    """A member's bytes at any place, like a `bytes` that is sliced, with little more in memory than the slice.

    Deflate has no index: what went by is unpacked again from the beginning. ValueError where that is asked for too
    often, and where the packed bytes are damaged.
    """

    def __init__(self, source: BinaryIO, entry: Packed) -> None:
        self._source, self._entry, self._turns = source, entry, 0
        self._kept: list[bytes] = []
        self._at = self._end = 0
        self._begin()

    def __getitem__(self, where: slice) -> bytes:
        start, stop = where.start or 0, self._entry.size if where.stop is None else min(where.stop, self._entry.size)
        if start < 0 or stop <= start:
            return b""
        if start < self._at:
            self._turns += 1
            if self._turns > _MOST_TURNS:
                raise ValueError("its parts point at each other")
            self._begin()
        while self._end < stop and (block := self._next()):
            if self._kept and self._end <= start:
                self._kept, self._at = [self._kept[-1]], self._end - len(self._kept[-1])
            self._kept.append(block)
            self._end += len(block)
        if len(self._kept) > 1:
            self._kept = [b"".join(self._kept)]
        return self._kept[0][start - self._at : stop - self._at] if self._kept else b""

    def blocks(self) -> Iterator[bytes]:
        """All of it from the beginning, in pieces."""
        self._begin()
        while block := self._next():
            yield block

    def _begin(self) -> None:
        self._inflate, self._rest = decompressobj(-15), b""
        self._place, self._left = self._entry.offset, self._entry.packed_size
        self._at, self._end, self._more = 0, 0, False
        self._kept = []

    def _next(self) -> bytes:
        while self._rest or self._left or self._more:
            if not self._rest and not self._more:
                self._source.seek(self._place)
                self._rest = self._source.read(min(self._left, _BLOCK))
                if not self._rest:
                    break
                self._place, self._left = self._place + len(self._rest), self._left - len(self._rest)
            block, self._rest = self._inflated() if self._entry.is_deflated else (self._rest, b"")
            if block:
                return block
        return b""

    def _inflated(self) -> tuple[bytes, bytes]:
        """The next unpacked bytes, at most a block of them, and what is left of the packed ones."""
        try:
            block = self._inflate.decompress(self._rest, _BLOCK)
        except error as damaged:  # type: ignore[misc,unused-ignore]
            raise ValueError("its packed bytes are damaged") from damaged
        # a block that is full may not have been all: there may be more inside, though every packed byte was taken
        self._more = len(block) == _BLOCK and not self._inflate.eof
        if self._inflate.eof:
            self._left = 0
        return block, b"" if self._inflate.eof else self._inflate.unconsumed_tail


def read_member(source: BinaryIO, entry: Packed) -> tuple[Binary, ...]:
    """What this member of the wheel in `source` wants; nothing where it is no binary, or a damaged one."""
    data = Unpacked(source, entry)
    try:
        head = data[0:64]
        if head[:4] == b"\x7fELF":
            return (read(installed(entry.name), data),)
        return _whole(installed(entry.name), data, entry.size) if head.startswith(_MAGIC) else ()
    except _DAMAGED:
        return ()


def read_file(path: Path) -> Binary | None:
    """The same of a file on disk, of one architecture; None where it is no binary."""
    with path.open("rb") as file:
        if not file.read(64).startswith(_MAGIC):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            try:
                return next(iter(_any(path.name, mapped)), None)
            except _DAMAGED:
                return None


def _whole(path: str, data: Unpacked, size: int) -> tuple[Binary, ...]:
    if size <= IN_MEMORY:
        return tuple(_any(path, b"".join(data.blocks())))
    with tempfile.TemporaryFile() as file:
        for block in data.blocks():
            file.write(block)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return tuple(_any(path, mapped))


def _any(path: str, data: Any) -> Iterator[Binary]:
    kind = bytes(data[:4])
    if kind == b"\x7fELF":
        yield read(path, data)
    elif kind[:2] == b"MZ":
        yield pe.read(path, data)
    else:
        yield from macho.read(path, data)


def undefined(wheel: Path, version: str) -> list[tuple[str, str]]:
    """(file, symbol) for each symbol of this version, GLIBC_2.34, that the wheel's binaries want of others."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    found = []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                if stream.read(4) != b"\x7fELF":
                    continue
            with tempfile.TemporaryFile() as file:
                file.write(archive.read(member))
                file.seek(0)
                try:
                    found += [(member.filename, symbol) for symbol in _symbols_of(ELFFile(file), version)]
                except (ELFError, AttributeError):  # damaged, or without the sections that hold the names
                    continue
    return found


def _symbols_of(binary: Any, version: str) -> Iterator[str]:
    table, names = binary.get_section_by_name(".gnu.version"), binary.get_section_by_name(".dynsym")
    wanted = {
        auxiliary.entry["vna_other"]
        for _, auxiliaries in binary.get_section_by_name(".gnu.version_r").iter_versions()
        for auxiliary in auxiliaries
        if auxiliary.name == version
    }
    for at in range(table.num_symbols()) if wanted else ():
        if table.get_symbol(at).entry["ndx"] in wanted:
            yield names.get_symbol(at).name
