"""Read Mach-O, the binary format of macOS: needed libraries and the minimum macOS version."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from offlinepack.native.binary import EXTENSION_PATTERN, Binary

_MACHINES = {0x0100000C: "arm64", 0x01000007: "x86_64", 7: "i686"}

_MAX_COMMANDS = 10_000

# mach-o/loader.h: LC_LOAD_DYLIB and similar commands; a weak library may be absent
_LOAD, _REEXPORT, _WEAK, _ID, _RPATH = 0xC, 0x8000001F, 0x80000018, 0xD, 0x8000001C

_VERSION_MIN_MACOSX, _BUILD_VERSION = 0x24, 0x32


def read_macho(path: str, data: Any) -> Iterator[Binary]:
    """Read a Mach-O file, of a universal file each architecture; raise struct.error or ValueError if it is damaged."""
    if bytes(data[:4]) in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"):
        wide = data[3] == 0xBF
        (count,) = struct.unpack_from(">I", data, 4)
        for number in range(min(count, 16)):
            at = 8 + number * (32 if wide else 20)
            offset = struct.unpack_from(">Q" if wide else ">I", data, at + 8)[0]
            yield _read_slice(path, data, offset)
    else:
        yield _read_slice(path, data, 0)


def _read_slice(path: str, data: Any, base: int) -> Binary:
    magic, machine, _, kind, commands = struct.unpack_from("<IIIII", data, base)
    if magic not in (0xFEEDFACF, 0xFEEDFACE):
        raise ValueError("no Mach-O file")
    at = base + (32 if magic == 0xFEEDFACF else 28)
    needed: list[str] = []
    search: list[str] = []
    install_name = system = ""
    for _ in range(min(commands, _MAX_COMMANDS)):
        command, size = struct.unpack_from("<II", data, at)
        if size < 8:
            raise ValueError("a command without a size")
        if command in (_LOAD, _REEXPORT, _ID, _RPATH):
            (begin,) = struct.unpack_from("<I", data, at + 8)
            name = bytes(data[at + begin : at + size]).split(b"\0", 1)[0].decode()
            if command == _ID:
                install_name = name
            else:
                (search if command == _RPATH else needed).append(name)
        elif command in (_VERSION_MIN_MACOSX, _BUILD_VERSION):
            (version,) = struct.unpack_from("<I", data, at + (8 if command == _VERSION_MIN_MACOSX else 12))
            system = f"{version >> 16}.{version >> 8 & 255}"
        at += size
    program = kind == 2
    return Binary(
        path=path,
        system="macos",
        machine=_MACHINES.get(machine, ""),
        soname=install_name.rpartition("/")[2],
        needed_libraries=tuple(needed),
        symbol_versions=(("macos", (f"MACOS_{system}",)),) if system else (),
        search_paths=tuple(search),
        is_extension=not program and bool(EXTENSION_PATTERN.search(path)),
        is_program=program,
        is_always_loaded=program and path.startswith(("bin/", "libexec/")),
    )
