"""Binaries out of a zip, or from disk: found by their first bytes, read with no more than a buffer in memory."""

from __future__ import annotations

import mmap
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from offlinepack.native import elf, macho, pe
from offlinepack.native.binary import Binary, installed

IN_MEMORY = 16 << 20
"""bytes of a binary that are held in memory; a larger one goes through a temporary file"""
NO_BINARY = re.compile(
    r"\.(py|pyi|pyc|pyx|pxd|txt|md|rst|json|toml|ya?ml|cfg|ini|html?|css|js|mjs|map|ts|svg|png|jpe?g|gif|ico|woff2?|ttf|otf"
    r"|h|hpp|hh|c|cc|cpp|f|f90|cu|cuh|csv|tsv|npy|npz|xml|xsd|po|mo|pot|ipynb|cmake|pc|sh|gz|xz|bz2|zip|typed|a|lib)\Z"
    r"|\.dist-info/|/(LICENSE|NOTICE|AUTHORS|METADATA|RECORD|WHEEL)[^/]*\Z",
    re.I,
)
_MAGIC = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")
_DAMAGED = (struct.error, ValueError, IndexError, OverflowError)


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[Binary, ...]:
    """What this member wants; nothing where it is no binary, or a damaged one."""
    with archive.open(member) as stream:
        head = stream.read(64)
        if not head.startswith(_MAGIC):
            return ()
        head += stream.read(64 << 10)
        try:
            return _parsed(installed(member.filename), head, stream, member.file_size)
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


def _parsed(path: str, head: bytes, stream: IO[bytes], size: int) -> tuple[Binary, ...]:
    # of an ELF file, what the loader maps is all: debug sections stay compressed
    end = min(elf.end_of_segments(head), size) if head[:4] == b"\x7fELF" else size
    if end <= IN_MEMORY:
        return tuple(_any(path, head + stream.read(max(end - len(head), 0))))
    with tempfile.TemporaryFile() as file:
        file.write(head)
        while file.tell() < end and (block := stream.read(1 << 20)):
            file.write(block)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return tuple(_any(path, mapped))


def _any(path: str, data: Any) -> Iterator[Binary]:
    kind = bytes(data[:4])
    if kind == b"\x7fELF":
        yield elf.read(path, data)
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
