"""Read the METADATA of a wheel from a file, or by range requests from a server."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import zipfile
import zlib
from typing import Any

_METADATA_PATTERN = re.compile(r"[^/]+\.dist-info/METADATA")

IDENTITY_HEADERS = {"Accept-Encoding": "identity"}


def read_metadata_by_ranges(session: Any, link: Any) -> bytes | None:
    """Read METADATA of a wheel by range requests: its last bytes hold the directory, and mostly METADATA too."""

    def part(byte_range: str) -> tuple[bytes, int]:
        headers = {**IDENTITY_HEADERS, "Range": f"bytes={byte_range}"}
        with contextlib.closing(session.get(link.url_without_fragment, headers=headers, stream=True)) as answer:
            if answer.status_code == 206:
                # RFC 9110, 14.4: Content-Range: bytes first-last/complete
                return answer.content, int(answer.headers["Content-Range"].split()[1].partition("-")[0])
            length, count = int(answer.headers["Content-Length"]), int(byte_range.removeprefix("-"))
            if length <= count:
                return answer.content, 0
        # some servers know no ranges from the end; those that know none at all end in an exception
        return part(f"{length - count}-") if byte_range.startswith("-") else (b"", int(""))

    for count in (1 << 16, 1 << 22):
        content, before = part(f"-{count}")
        with contextlib.suppress(zipfile.BadZipFile):
            wheel = zipfile.ZipFile(io.BytesIO(content))
            [member] = [entry for entry in wheel.infolist() if _METADATA_PATTERN.fullmatch(entry.filename)]
            # zipfile counts from the first byte that it was given
            if member.header_offset >= 0:
                return wheel.read(member)
            at = member.header_offset + before
            content, _ = part(f"{at}-{at + member.compress_size + 4096}")
            begin = 30 + sum(struct.unpack("<HH", content[26:30]))
            data = content[begin : begin + member.compress_size]
            return zlib.decompress(data, -15) if member.compress_type == zipfile.ZIP_DEFLATED else data
    return None


def read_wheel_metadata(file: Any) -> bytes:
    """Read METADATA of an open wheel and close it."""
    with file, zipfile.ZipFile(file) as wheel:
        [name] = [name for name in wheel.namelist() if _METADATA_PATTERN.fullmatch(name)]
        return wheel.read(name)
