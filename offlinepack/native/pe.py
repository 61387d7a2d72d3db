"""Read PE, the binary format of Windows: the imported DLLs (Microsoft, "PE Format")."""

from __future__ import annotations

import struct
from typing import Any

from offlinepack.native.binary import EXTENSION_PATTERN, Binary

_MACHINES = {0x8664: "amd64", 0x14C: "x86", 0xAA64: "arm64"}

_MAX_IMPORTS = 5_000
"""maximum of entries in an import directory; real ones have some dozen"""


def read_pe(path: str, data: Any) -> Binary:
    """Read a PE file, names in lower case; raise struct.error or ValueError if it is damaged.

    Delayed imports are left out: a program loads them when it needs them.
    """
    (start,) = struct.unpack_from("<I", data, 0x3C)
    if bytes(data[start : start + 4]) != b"PE\0\0":
        raise ValueError("no PE signature")
    machine, sections, _, _, _, size, traits = struct.unpack_from("<HHIIIHH", data, start + 4)
    optional = start + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    directories = optional + (112 if magic == 0x20B else 96)
    (count,) = struct.unpack_from("<I", data, directories - 4)
    table = [struct.unpack_from("<IIII", data, optional + size + 40 * number + 8) for number in range(sections)]

    def place(address: int) -> int:
        """Return the file offset of a relative virtual address."""
        for length, begin, stored, offset in table:
            if begin <= address < begin + max(length, stored):
                return int(offset + address - begin)
        raise ValueError(address)

    names: list[str] = []
    address = struct.unpack_from("<I", data, directories + 8)[0] if count > 1 else 0
    at = place(address) if address else 0
    while at and len(names) < _MAX_IMPORTS:
        _, _, _, name, first = struct.unpack_from("<IIIII", data, at)
        if not name and not first:
            break
        begin = place(name)
        names.append(bytes(data[begin : begin + 260]).split(b"\0", 1)[0].decode("ascii").lower())
        at += 20
    program = not traits & 0x2000
    return Binary(
        path=path,
        system="windows",
        machine=_MACHINES.get(machine, ""),
        soname=path.rpartition("/")[2].lower(),
        needed_libraries=tuple(names),
        symbol_versions=(),
        search_paths=(),
        is_extension=not program and bool(EXTENSION_PATTERN.search(path)),
        is_program=program,
        is_always_loaded=program and path.startswith(("bin/", "libexec/")),
    )
