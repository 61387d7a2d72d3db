"""Binaries that need no compiler: ELF, PE and Mach-O files as far as a reader of native dependencies looks."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

EXTENSION = "cpython-311-x86_64-linux-gnu.so"

X86_64, AARCH64, I386, S390X = (62, 64, "<"), (183, 64, "<"), (3, 32, "<"), (22, 64, ">")


def make_elf(
    needed: Sequence[str] = (),
    *,
    soname: str = "",
    versions: Mapping[str, Sequence[str]] | None = None,
    search: str = "",
    symbols: Sequence[str] = (),
    program: bool = False,
    machine: tuple[int, int, str] = X86_64,
) -> bytes:
    """A shared library, or a program, as far as a reader of its dynamic section can tell; one segment holds it all."""
    number, bits, order = machine
    wide = bits == 64
    strings = bytearray(b"\0")

    def string(value: str) -> int:
        at = len(strings)
        strings.extend(value.encode() + b"\0")
        return at

    tags = [(1, string(one)) for one in needed]
    tags += [(14, string(soname))] if soname else []
    tags += [(29, string(search))] if search else []
    for one in symbols:
        string(one)
    verneed = bytearray()
    for at, (library, wanted) in enumerate(sorted((versions or {}).items()), 1):
        last = at == len(versions or {})
        verneed += struct.pack(
            order + "HHIII", 1, len(wanted), string(library), 16, 0 if last else 16 + 16 * len(wanted)
        )
        for count, version in enumerate(wanted, 1):
            verneed += struct.pack(order + "IHHII", 0, 0, 2, string(version), 0 if count == len(wanted) else 16)
    header, entry = (64, 56) if wide else (52, 32)
    count = 3 if program else 2
    base = header + entry * count
    dynamic_at = base + len(strings) + len(verneed)
    place = 0x10000  # addresses and offsets differ, as in real files
    tags += [(5, place + base), (10, len(strings))]
    tags += [(0x6FFFFFFE, place + base + len(strings)), (0x6FFFFFFF, len(versions or {}))] if versions else []
    dynamic = b"".join(struct.pack(order + ("qQ" if wide else "iI"), *one) for one in [*tags, (0, 0)])
    end = dynamic_at + len(dynamic)
    segments = [(1, 0, place, end), (2, dynamic_at, place + dynamic_at, len(dynamic))] + [(3, 0, place, 1)] * program
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    head = struct.pack(order + "HHI", 3, number, 1)
    head += struct.pack(order + ("QQQ" if wide else "III"), 0, header, 0)
    head += struct.pack(order + "IHHHHHH", 0, header, entry, count, 64 if wide else 40, 0, 0)
    table = b"".join(
        struct.pack(order + "IIQQQQQQ", kind, 4, offset, address, address, size, size, 8)
        if wide
        else struct.pack(order + "IIIIIIII", kind, offset, address, address, size, size, 4, 4)
        for kind, offset, address, size in segments
    )
    return ident + head + table + bytes(strings) + bytes(verneed) + dynamic


def make_pe(imports: Sequence[str], *, machine: int = 0x8664, program: bool = False) -> bytes:
    """A DLL of one section, as far as a reader of its import directory can tell."""
    base, directory = 0x400, 20 * (len(imports) + 1)
    names = bytearray()
    rows = b""
    for one in imports:
        rows += struct.pack("<IIIII", 0, 0, 0, 0x1000 + directory + len(names), 0x2000)
        names += one.encode() + b"\0"
    body = rows + bytes(20) + bytes(names)
    head = bytearray(b"MZ" + bytes(base - 2))
    head[0x3C:0x40] = struct.pack("<I", 0x80)
    coff = struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, 112 + 16 * 8, 0x2 if program else 0x2002)
    optional = struct.pack("<H", 0x20B) + bytes(106) + struct.pack("<I", 16) + bytes(8)
    optional += struct.pack("<II", 0x1000, directory) + bytes(14 * 8)
    section = b".idata\0\0" + struct.pack("<IIII", len(body), 0x1000, len(body), base) + bytes(16)
    whole = b"PE\0\0" + coff + optional + section
    head[0x80 : 0x80 + len(whole)] = whole
    return bytes(head) + body


def make_macho(needed: Sequence[str], *, system: tuple[int, int] = (11, 0), machine: int = 0x0100000C) -> bytes:
    """A dynamic library for one architecture."""
    commands = [struct.pack("<IIIIII", 0x32, 24, 1, system[0] << 16 | system[1] << 8, 0, 0)]
    for one in needed:
        name = one.encode() + b"\0"
        name += bytes(-len(name) % 8)
        commands.append(struct.pack("<IIIIII", 0xC, 24 + len(name), 24, 0, 0, 0) + name)
    body = b"".join(commands)
    return struct.pack("<IIIIIIII", 0xFEEDFACF, machine, 0, 6, len(commands), len(body), 0, 0) + body


def make_universal(*parts: tuple[int, bytes]) -> bytes:
    """Several of them in one file."""
    at, table, body = 4096, b"", b""
    for machine, part in parts:
        table += struct.pack(">IIIII", machine, 0, at + len(body), len(part), 12)
        body += part
    head = b"\xca\xfe\xba\xbe" + struct.pack(">I", len(parts)) + table
    return head + bytes(at - len(head)) + body


def module(name: str, *needed: str, **named: object) -> bytes:
    """An extension module for CPython."""
    return make_elf(needed, symbols=[f"PyInit_{name}"], **named)  # type: ignore[arg-type]
