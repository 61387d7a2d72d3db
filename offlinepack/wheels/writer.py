"""Write a wheel with METADATA, WHEEL and RECORD; the same files give the same bytes."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

_BLOCK_SIZE = 1 << 20

_EARLIEST_ZIP_TIME = 315532800
"""seconds since 1970 of the first time that a zip archive can hold, 1980-01-01"""

_RECORD_PATTERN = re.compile(r"[^/]+\.dist-info/RECORD\Z")


class WheelFile(NamedTuple):
    """A file to write into a wheel."""

    path: str
    """path in the archive"""
    content: bytes | Path
    is_executable: bool = False


def make_dist_info(name: str, version: str, tag: str = "") -> list[WheelFile]:
    """Make METADATA, WHEEL and a RECORD that `write_wheel` fills in; `tag` is the tag of the wheel, if it needs one."""
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = ["Wheel-Version: 1.0", "Root-Is-Purelib: true"]
    if tag:
        lines = [lines[0], "Generator: offlinepack", lines[1], f"Tag: {tag}"]
    return [
        WheelFile(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()),
        WheelFile(f"{folder}/WHEEL", "\n".join([*lines, ""]).encode()),
        WheelFile(f"{folder}/RECORD", b""),
    ]


def write_wheel(path: Path, files: Sequence[WheelFile], seconds: int = 0) -> Path:
    """Write files in this order as a wheel, with a new RECORD; `seconds` since 1970 is the time of every file."""
    # RECORD: every file has size and hash, except RECORD itself
    rows = [(file.path, *_hash_content(file)) for file in files if not _RECORD_PATTERN.match(file.path)]
    record_path = next(file.path for file in files if _RECORD_PATTERN.match(file.path))
    record = io.StringIO()
    csv.writer(record, lineterminator="\n").writerows([*rows, (record_path, "", "")])
    stamp = time.gmtime(max(seconds, _EARLIEST_ZIP_TIME))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.path, stamp)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (0o100755 if file.is_executable else 0o100644) << 16
            content = record.getvalue().encode() if file.path == record_path else file.content
            with _open_content(content) as source, archive.open(entry, "w") as member:
                shutil.copyfileobj(source, member, _BLOCK_SIZE)
    return path


def _open_content(content: bytes | Path) -> BinaryIO:
    return content.open("rb") if isinstance(content, Path) else io.BytesIO(content)


def _hash_content(file: WheelFile) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with _open_content(file.content) as source:
        while block := source.read(_BLOCK_SIZE):
            digest.update(block)
            size += len(block)
    return "sha256=" + base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode(), size
