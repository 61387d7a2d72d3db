"""Read the METADATA of wheels by range requests, without downloading the files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from packaging.pylock import PackageWheel

from offlinepack.errors import OfflinepackError
from offlinepack.net.client import Client
from offlinepack.net.remote_zip import read_metadata_by_ranges, read_wheel_metadata
from offlinepack.pip_shim.static_metadata import ReadCache
from offlinepack.wheels.metadata import WheelMetadata, parse_metadata

MAX_THREADS = 8

MAX_UNRANGED_BYTES = 1 << 16
"""bytes that are read of a server that knows no ranges"""


def read_all(wheels: Iterable[PackageWheel], client: Client, folder: Path) -> dict[str, WheelMetadata]:
    """File name -> what its METADATA says, of those that let it be read; kept in `folder`, where pip looks."""
    kept, session = ReadCache(str(folder)), _ClientSession(client)

    def read(wheel: PackageWheel) -> WheelMetadata | None:
        key = wheel.hashes.get("sha256", "")
        content = kept.get("metadata", key)
        if content is None:
            # a server that knows no ranges, or a wheel that no tool can read: packing it will tell
            with contextlib.suppress(OfflinepackError, ValueError, OSError, KeyError, TypeError):
                content = (
                    read_wheel_metadata(io.BytesIO(Path(wheel.path).read_bytes()))
                    if wheel.path
                    else session.read_metadata(wheel)
                )
        if content is None:
            return None
        kept.put("metadata", key, content)
        return parse_metadata(content)

    listed = list({one.filename: one for one in wheels}.values())
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        found = zip(listed, pool.map(read, listed), strict=True)
        return {wheel.filename: told for wheel, told in found if told is not None}


class _ClientSession:
    """Our client, as `at_end` takes it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def read_metadata(self, wheel: PackageWheel) -> bytes | None:
        link = SimpleNamespace(url_without_fragment=(wheel.url or "").partition("#")[0])
        with contextlib.suppress(OfflinepackError, ValueError):
            return read_metadata_by_ranges(self, link)
        beside = self.get(f"{link.url_without_fragment}.metadata", {})
        return beside.content if beside.status_code == 200 else None

    def get(self, url: str, headers: Mapping[str, str], stream: bool = True) -> Any:
        with self.client.open_response(url, url.rpartition("/")[2], headers) as (answer, _):
            small = (
                answer.status == 206
                or int(answer.headers.get("Content-Length", MAX_UNRANGED_BYTES + 1)) <= MAX_UNRANGED_BYTES
            )
            content = answer.read() if small else b""
            return SimpleNamespace(status_code=answer.status, headers=answer.headers, content=content, close=bool)
