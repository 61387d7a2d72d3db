"""Read ELF, the binary format of Linux: needed libraries, symbol versions and search paths.

The few structures are parsed directly because a set of 300 wheels contains 1,500 such files: this takes 0.5 ms for
each, pyelftools 5 ms. A test compares the two. pyelftools is used where speed does not matter (names of symbols).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

from offlinepack.native.binary import EXTENSION_PATTERN, Binary, unpack_struct

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

_MAX_VERSIONS = 10_000
"""maximum of entries in the table of needed symbol versions; the largest known has some hundred"""

_MAX_STRING_BYTES = 64 << 20
"""maximum of bytes of names"""

# System V gABI, chapters 4 (headers) and 5 (program header, dynamic section); symbol versions: LSB, chapter 10.7.
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3

_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29

_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF


def _read_segments(data: Any, order: str, wide: bool) -> Iterator[tuple[int, int, int, int]]:
    """Return (type, offset, address, size in the file) of each program header."""
    head = bytes(data[0:64])
    start, size, count = (
        (*struct.unpack_from(order + "Q", head, 32), *struct.unpack_from(order + "HH", head, 54))
        if wide
        else (*struct.unpack_from(order + "I", head, 28), *struct.unpack_from(order + "HH", head, 42))
    )
    for at in range(start, start + size * count, size):
        if wide:
            kind, _, offset, address, _, length = unpack_struct(order + "IIQQQQ", data, at)
        else:
            kind, offset, address, _, length = unpack_struct(order + "IIIII", data, at)
        yield kind, offset, address, length


def read_elf(path: str, data: Any) -> Binary:
    """Read an ELF file (System V ABI); `data` returns slices. Raises struct.error, ValueError or IndexError if
    damaged.
    """
    order, wide = "<" if bytes(data[5:6]) == b"\1" else ">", bytes(data[4:5]) == b"\2"
    (machine,) = unpack_struct(order + "H", data, 18)
    segments = list(_read_segments(data, order, wide))
    loads = [(address, offset, length) for kind, offset, address, length in segments if kind == _PT_LOAD]

    def place(address: int) -> int:
        """Return the file offset of an address of the image."""
        for start, offset, length in loads:
            if start <= address < start + length:
                return offset + address - start
        raise ValueError(address)

    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    tags: list[tuple[int, int]] = []
    for kind, offset, _, length in segments:
        if kind == _PT_DYNAMIC:
            table = bytes(data[offset : offset + min(length, _MAX_VERSIONS * entry.size)])
            for tag, value in entry.iter_unpack(table[: len(table) // entry.size * entry.size]):
                if tag == 0 or len(tags) > _MAX_VERSIONS:
                    break
                tags.append((tag, value))
    first = dict(reversed(tags))
    program = any(kind == _PT_INTERP for kind, *_ in segments)
    kind_of_machine = _MACHINES.get((machine, 64 if wide else 32, order), "")
    if _DT_STRTAB not in first:  # statically linked: no needs
        return Binary(path, "linux", kind_of_machine, "", (), (), (), False, program, False)
    begin = place(first[_DT_STRTAB])
    strings = bytes(data[begin : begin + min(first.get(_DT_STRSZ, 0), _MAX_STRING_BYTES)])

    def string(at: int) -> str:
        return strings[at : strings.index(b"\0", at, at + 4096)].decode()

    versions: dict[str, list[str]] = {}
    at, remaining = place(first[_DT_VERNEED]) if first.get(_DT_VERNEED) else 0, _MAX_VERSIONS
    for _ in range(first.get(_DT_VERNEEDNUM, 0)):
        _, count, file, auxiliary, following = unpack_struct(order + "HHIII", data, at)
        auxiliary_at, remaining = at + auxiliary, remaining - count - 1
        if remaining < 0:
            raise ValueError("more versions than a file has")
        for _ in range(count):
            _, _, _, name, further = unpack_struct(order + "IHHII", data, auxiliary_at)
            versions.setdefault(string(file), []).append(string(name))
            auxiliary_at += further
        at += following
    named = EXTENSION_PATTERN.search(path)
    module = bool(named and re.search(rb"\bPyInit(U?)_" + re.escape(named[1].encode()) + rb"\0", strings))
    return Binary(
        path=path,
        system="linux",
        machine=kind_of_machine,
        soname=string(first[_DT_SONAME]) if _DT_SONAME in first else "",
        needed_libraries=tuple(string(value) for tag, value in tags if tag == _DT_NEEDED),
        symbol_versions=tuple((name, tuple(sorted(set(symbols)))) for name, symbols in sorted(versions.items())),
        search_paths=tuple(
            part for tag, value in tags if tag in (_DT_RPATH, _DT_RUNPATH) for part in string(value).split(":") if part
        ),
        is_extension=module,
        is_program=program,
        is_always_loaded=program and path.startswith(("bin/", "libexec/")),
    )
