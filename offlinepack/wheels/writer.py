"""Write a folder as a wheel with METADATA, WHEEL and RECORD; same input, same bytes."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path


def pack_wheel(folder: Path, out: Path) -> Path | None:
    """Pack a folder as a wheel with RECORD, so that the target side reads it like any other wheel."""
    members = dict(_list_members(folder))
    if not members:
        return None
    name, version = out.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, content in sorted(members.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([f"{info}/RECORD", "", ""])
    members[f"{info}/RECORD"] = record.getvalue().encode()
    partial = out.with_name(out.name + ".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(members.items()):
            entry = zipfile.ZipInfo(path)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            archive.writestr(entry, content)
    partial.replace(out)
    return out


def _list_members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*.pyc"):
        yield path.relative_to(folder).as_posix(), path.read_bytes()
