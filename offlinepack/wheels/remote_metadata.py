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
"""bytes that are read from a server without range requests"""


def read_all(wheels: Iterable[PackageWheel], client: Client, folder: Path) -> dict[str, WheelMetadata]:
    """Return file name -> METADATA of the wheels that are readable; cache it in `folder`, where pip reads it."""
    cache, session = ReadCache(str(folder)), _ClientSession(client)

    def read(wheel: PackageWheel) -> WheelMetadata | None:
        key = wheel.hashes.get("sha256", "")
        content = cache.get("metadata", key)
        if content is None:
            # a server without ranges, or a damaged wheel, which the build reports later
            with contextlib.suppress(OfflinepackError, ValueError, OSError, KeyError, TypeError):
                content = (
                    read_wheel_metadata(io.BytesIO(Path(wheel.path).read_bytes()))
                    if wheel.path
                    else session.read_metadata(wheel)
                )
        if content is None:
            return None
        cache.put("metadata", key, content)
        return parse_metadata(content)

    unique_wheels = list({wheel.filename: wheel for wheel in wheels}.values())
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        pairs = zip(unique_wheels, pool.map(read, unique_wheels), strict=True)
        return {wheel.filename: metadata for wheel, metadata in pairs if metadata is not None}


class _ClientSession:
    """A client with the interface of requests, as `read_metadata_by_ranges` expects it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def read_metadata(self, wheel: PackageWheel) -> bytes | None:
        link = SimpleNamespace(url_without_fragment=(wheel.url or "").partition("#")[0])
        with contextlib.suppress(OfflinepackError, ValueError):
            return read_metadata_by_ranges(self, link)
        response = self.get(f"{link.url_without_fragment}.metadata", {})
        return response.content if response.status_code == 200 else None

    def get(self, url: str, headers: Mapping[str, str], stream: bool = True) -> Any:
        with self.client.open_response(url, url.rpartition("/")[2], headers) as (response, _):
            is_small = (
                response.status == 206
                or int(response.headers.get("Content-Length", MAX_UNRANGED_BYTES + 1)) <= MAX_UNRANGED_BYTES
            )
            content = response.read() if is_small else b""
            return SimpleNamespace(status_code=response.status, headers=response.headers, content=content, close=bool)
