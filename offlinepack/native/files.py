"""Read native binaries out of wheels and files; the first bytes show the format.

Members of a wheel are unpacked in blocks, so that a large binary does not fill the memory.
"""

from __future__ import annotations

import mmap
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from offlinepack.native.binary import Binary, get_installed_path
from offlinepack.native.elf import read_elf
from offlinepack.native.macho import read_macho
from offlinepack.native.pe import read_pe
from offlinepack.ontarget.archive import ZipEntry
from offlinepack.ontarget.wheel_model import WheelMember

try:  # twice as fast as zlib; optional, because not every platform has a wheel
    from isal.isal_zlib import decompressobj, error
except ImportError:
    from zlib import decompressobj, error  # type: ignore[assignment,unused-ignore]


PackedEntry = ZipEntry | WheelMember
"""location of the bytes of a file in a wheel"""

MAX_MEMORY_BYTES = 16 << 20
"""bytes of a binary that are held in memory; a larger one is written to a temporary file"""

_BLOCK_SIZE = 1 << 18

_MAX_RESTARTS = 16
"""maximum of restarts for bytes before the current ones; a valid file needs two or three"""

NON_BINARY_PATTERN = re.compile(
    r"\.(py|pyi|pyc|pyx|pxd|txt|md|rst|json|toml|ya?ml|cfg|ini|html?|css|js|mjs|map|ts|svg|png|jpe?g|gif|ico|woff2?|ttf|otf"
    r"|h|hpp|hh|c|cc|cpp|f|f90|cu|cuh|csv|tsv|npy|npz|xml|xsd|po|mo|pot|ipynb|cmake|pc|sh|gz|xz|bz2|zip|typed|a|lib)\Z"
    r"|\.dist-info/|/(LICENSE|NOTICE|AUTHORS|METADATA|RECORD|WHEEL)[^/]*\Z",
    re.I,
)

_MAGIC_NUMBERS = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")

_DAMAGE_ERRORS = (struct.error, ValueError, IndexError, OverflowError)


class EntryReader:
    """The bytes of a member, sliced like `bytes`, with little more in memory than the slice.

    Deflate has no index: earlier bytes are unpacked again from the beginning. Raises ValueError if that happens too
    often or if the packed bytes are damaged.
    """

    def __init__(self, source: BinaryIO, entry: PackedEntry) -> None:
        self._source, self._entry, self._restarts = source, entry, 0
        self._blocks: list[bytes] = []
        self._start = self._end = 0
        self._restart()

    def __getitem__(self, where: slice) -> bytes:
        start, stop = where.start or 0, self._entry.size if where.stop is None else min(where.stop, self._entry.size)
        if start < 0 or stop <= start:
            return b""
        if start < self._start:
            self._restarts += 1
            if self._restarts > _MAX_RESTARTS:
                raise ValueError("its parts point at each other")
            self._restart()
        while self._end < stop and (block := self._read_block()):
            if self._blocks and self._end <= start:
                self._blocks, self._start = [self._blocks[-1]], self._end - len(self._blocks[-1])
            self._blocks.append(block)
            self._end += len(block)
        if len(self._blocks) > 1:
            self._blocks = [b"".join(self._blocks)]
        return self._blocks[0][start - self._start : stop - self._start] if self._blocks else b""

    def iter_blocks(self) -> Iterator[bytes]:
        """Yield the content from the beginning in blocks."""
        self._restart()
        while block := self._read_block():
            yield block

    def _restart(self) -> None:
        self._decompressor, self._pending = decompressobj(-15), b""
        self._position, self._remaining = self._entry.offset, self._entry.packed_size
        self._start, self._end, self._has_more = 0, 0, False
        self._blocks = []

    def _read_block(self) -> bytes:
        while self._pending or self._remaining or self._has_more:
            if not self._pending and not self._has_more:
                self._source.seek(self._position)
                self._pending = self._source.read(min(self._remaining, _BLOCK_SIZE))
                if not self._pending:
                    break
                self._position, self._remaining = (
                    self._position + len(self._pending),
                    self._remaining - len(self._pending),
                )
            block, self._pending = self._inflate_block() if self._entry.is_deflated else (self._pending, b"")
            if block:
                return block
        return b""

    def _inflate_block(self) -> tuple[bytes, bytes]:
        """Return the next decompressed bytes, at most one block, and the remaining compressed bytes."""
        try:
            block = self._decompressor.decompress(self._pending, _BLOCK_SIZE)
        except error as damaged:  # type: ignore[misc,unused-ignore]
            raise ValueError("its packed bytes are damaged") from damaged
        # after a full block the decompressor may hold more, although it has consumed every packed byte
        self._has_more = len(block) == _BLOCK_SIZE and not self._decompressor.eof
        if self._decompressor.eof:
            self._remaining = 0
        return block, b"" if self._decompressor.eof else self._decompressor.unconsumed_tail


def read_entry_binaries(source: BinaryIO, entry: PackedEntry) -> tuple[Binary, ...]:
    """Read the binaries in a member of a wheel; none if it is not a binary or is damaged."""
    data = EntryReader(source, entry)
    try:
        head = data[0:64]
        if head[:4] == b"\x7fELF":
            return (read_elf(get_installed_path(entry.name), data),)
        return (
            _read_whole_entry(get_installed_path(entry.name), data, entry.size)
            if head.startswith(_MAGIC_NUMBERS)
            else ()
        )
    except _DAMAGE_ERRORS:
        return ()


def read_binary_file(path: Path) -> Binary | None:
    """Read a binary file of one architecture on disk; None if it is not a binary."""
    with path.open("rb") as file:
        if not file.read(64).startswith(_MAGIC_NUMBERS):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            try:
                return next(iter(_read_any_format(path.name, mapped)), None)
            except _DAMAGE_ERRORS:
                return None


def _read_whole_entry(path: str, data: EntryReader, size: int) -> tuple[Binary, ...]:
    if size <= MAX_MEMORY_BYTES:
        return tuple(_read_any_format(path, b"".join(data.iter_blocks())))
    with tempfile.TemporaryFile() as file:
        for block in data.iter_blocks():
            file.write(block)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return tuple(_read_any_format(path, mapped))


def _read_any_format(path: str, data: Any) -> Iterator[Binary]:
    kind = bytes(data[:4])
    if kind == b"\x7fELF":
        yield read_elf(path, data)
    elif kind[:2] == b"MZ":
        yield read_pe(path, data)
    else:
        yield from read_macho(path, data)


def find_undefined_symbols(wheel: Path, version: str) -> list[tuple[str, str]]:
    """Yield (file, symbol) for each symbol of a version (GLIBC_2.34) that the binaries need from other files."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    binaries = []
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                if stream.read(4) != b"\x7fELF":
                    continue
            with tempfile.TemporaryFile() as file:
                file.write(archive.read(member))
                file.seek(0)
                try:
                    binaries += [
                        (member.filename, symbol) for symbol in _list_undefined_symbols(ELFFile(file), version)
                    ]
                except (ELFError, AttributeError):  # damaged, or without the sections that hold the names
                    continue
    return binaries


def _list_undefined_symbols(binary: Any, version: str) -> Iterator[str]:
    table, names = binary.get_section_by_name(".gnu.version"), binary.get_section_by_name(".dynsym")
    wanted_names = {
        auxiliary.entry["vna_other"]
        for _, auxiliaries in binary.get_section_by_name(".gnu.version_r").iter_versions()
        for auxiliary in auxiliaries
        if auxiliary.name == version
    }
    for at in range(table.num_symbols()) if wanted_names else ():
        if table.get_symbol(at).entry["ndx"] in wanted_names:
            yield names.get_symbol(at).name
