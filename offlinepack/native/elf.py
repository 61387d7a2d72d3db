"""ELF: what one file wants of others, read from the zip with no more than a buffer in memory.

The few structures are read here because a set of 300 wheels holds 1,500 such files: this takes 0.5 ms for each,
pyelftools 5 ms. A test compares the two. Where speed does not matter (which symbol?) pyelftools reads.
"""

from __future__ import annotations

import contextlib
import mmap
import posixpath
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SITE = "lib/python/site-packages"
"""where a wheel's modules lie below the environment; the X.Y in it does not matter for paths between files"""
_IN_MEMORY = 16 << 20
"""bytes of a binary that are held in memory; a larger one goes through a temporary file"""
NO_BINARY = re.compile(
    r"\.(py|pyi|pyc|pyx|pxd|txt|md|rst|json|toml|ya?ml|cfg|ini|html?|css|js|mjs|map|ts|svg|png|jpe?g|gif|ico|woff2?|ttf|otf"
    r"|h|hpp|hh|c|cc|cpp|f|f90|cu|cuh|csv|tsv|npy|npz|xml|xsd|po|mo|pot|ipynb|cmake|pc|sh|gz|xz|bz2|zip|typed|a|lib)\Z"
    r"|\.dist-info/|/(LICENSE|NOTICE|AUTHORS|METADATA|RECORD|WHEEL)[^/]*\Z",
    re.I,
)
EXTENSION = re.compile(r"([^/.]+)(\.cpython-[^/]*|\.pypy[^/]*|\.abi3|\.abi3t)?\.so\Z")
# e_machine of the System V ABI, with the class (32 or 64 bits) and byte order, as wheel tags name it
_MACHINES = {
    (62, 64, "<"): "x86_64",
    (3, 32, "<"): "i686",
    (183, 64, "<"): "aarch64",
    (40, 32, "<"): "armv7l",
    (21, 64, "<"): "ppc64le",
    (22, 64, ">"): "s390x",
    (243, 64, "<"): "riscv64",
    (258, 64, "<"): "loongarch64",
}


_MOST_VERSIONS = 10_000
"""entries in the table of wanted symbol versions; the largest known has some hundred"""
_DAMAGED = (struct.error, ValueError, IndexError, OverflowError)


@dataclass(frozen=True)
class Binary:
    """One ELF file of a wheel."""

    path: str
    """where it lies below the environment: lib/python/site-packages/..., bin/..."""
    machine: str
    """as in wheel tags; '' where no wheel has a tag for it"""
    soname: str
    needed: tuple[str, ...]
    versions: tuple[tuple[str, tuple[str, ...]], ...]
    """soname -> symbol versions that are wanted of it: ("libc.so.6", ("GLIBC_2.17", "GLIBC_2.34"))"""
    search: tuple[str, ...]
    """RPATH or RUNPATH, as they stand"""
    module: bool
    """an extension module: Python loads it by name, with all that it needs"""
    program: bool
    starts: bool
    """loaded for certain: a module that is imported with a top-level one, a program in bin"""


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Binary | None:
    """What this member wants; None where it is no ELF file, or a damaged one."""
    with archive.open(member) as stream:
        head = stream.read(64)
        if head[:4] != b"\x7fELF":
            return None
        head += stream.read(64 << 10)
        try:
            end = min(_end_of_segments(head), member.file_size)
            if end <= _IN_MEMORY:
                return _elf(member.filename, head + stream.read(max(end - len(head), 0)))
            with tempfile.TemporaryFile() as file:
                file.write(head)
                while file.tell() < end and (block := stream.read(1 << 20)):
                    file.write(block)
                file.flush()
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    return _elf(member.filename, mapped)
        except _DAMAGED:
            return None


def read_file(path: Path) -> Binary | None:
    """The same of a file on disk."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF" or path.stat().st_size < 64:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, contextlib.suppress(*_DAMAGED):
            return _elf(path.name, mapped)
    return None


# System V gABI, chapters 4 (headers) and 5 (program header, dynamic section); symbol versions: LSB, chapter 10.7.
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF


def _segments(data: Any) -> Iterator[tuple[int, int, int, int]]:
    """(type, offset, address, size in the file) of each program header."""
    order, wide = "<" if data[5] == 1 else ">", data[4] == 2
    start, size, count = (
        (*struct.unpack_from(order + "Q", data, 32), *struct.unpack_from(order + "HH", data, 54))
        if wide
        else (*struct.unpack_from(order + "I", data, 28), *struct.unpack_from(order + "HH", data, 42))
    )
    for at in range(start, start + size * count, size):
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(order + "IIQQQQ", data, at)
        else:
            kind, offset, address, _, length = struct.unpack_from(order + "IIIII", data, at)
        yield kind, offset, address, length


def _end_of_segments(head: bytes) -> int:
    return max((offset + length for _, offset, _, length in _segments(head)), default=0)


def _elf(member: str, data: Any) -> Binary | None:
    order, wide = "<" if data[5] == 1 else ">", data[4] == 2
    (machine,) = struct.unpack_from(order + "H", data, 18)
    segments = list(_segments(data))
    loads = [(address, offset, length) for kind, offset, address, length in segments if kind == _PT_LOAD]

    def place(address: int) -> int:
        """Where in the file an address of the image lies."""
        for start, offset, length in loads:
            if start <= address < start + length:
                return offset + address - start
        raise ValueError(address)

    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    tags: list[tuple[int, int]] = []
    for kind, offset, _, length in segments:
        if kind == _PT_DYNAMIC:
            for at in range(offset, offset + length, entry.size):
                tag, value = entry.unpack_from(data, at)
                if tag == 0 or len(tags) > _MOST_VERSIONS:
                    break
                tags.append((tag, value))
    first = dict(reversed(tags))
    program = any(kind == _PT_INTERP for kind, *_ in segments)
    path, kind_of_machine = installed(member), _MACHINES.get((machine, 64 if wide else 32, order), "")
    if _DT_STRTAB not in first:  # statically linked: it wants nothing
        return Binary(path, kind_of_machine, "", (), (), (), False, program, False)
    begin = place(first[_DT_STRTAB])
    strings = bytes(data[begin : begin + first.get(_DT_STRSZ, 0)])

    def string(at: int) -> str:
        return strings[at : strings.index(b"\0", at, at + 4096)].decode()

    versions: dict[str, list[str]] = {}
    at, left = place(first[_DT_VERNEED]) if first.get(_DT_VERNEED) else 0, _MOST_VERSIONS
    for _ in range(first.get(_DT_VERNEEDNUM, 0)):
        _, count, file, auxiliary, following = struct.unpack_from(order + "HHIII", data, at)
        beside, left = at + auxiliary, left - count - 1
        if left < 0:
            raise ValueError("more versions than a file has")
        for _ in range(count):
            _, _, _, name, further = struct.unpack_from(order + "IHHII", data, beside)
            versions.setdefault(string(file), []).append(string(name))
            beside += further
        at += following
    named = EXTENSION.search(path)
    module = bool(named and re.search(rb"\bPyInit(U?)_" + re.escape(named[1].encode()) + rb"\0", strings))
    return Binary(
        path=path,
        machine=kind_of_machine,
        soname=string(first[_DT_SONAME]) if _DT_SONAME in first else "",
        needed=tuple(string(value) for tag, value in tags if tag == _DT_NEEDED),
        versions=tuple((name, tuple(sorted(set(wanted)))) for name, wanted in sorted(versions.items())),
        search=tuple(
            part for tag, value in tags if tag in (_DT_RPATH, _DT_RUNPATH) for part in string(value).split(":") if part
        ),
        module=module,
        program=program,
        starts=program and path.startswith(("bin/", "libexec/")),
    )


def installed(member: str) -> str:
    """Binary distribution format: where the installer puts a member, `.data` folders by their scheme key."""
    top, _, rest = member.partition("/")
    if top.endswith(".data"):
        key, _, below = rest.partition("/")
        folder = {"scripts": "bin", "data": "", "headers": "include", "purelib": SITE, "platlib": SITE}.get(key, SITE)
        return posixpath.normpath(posixpath.join(folder, below))
    return posixpath.normpath(posixpath.join(SITE, member))


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
