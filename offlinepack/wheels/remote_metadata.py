"""Read the METADATA of wheels by range requests, without downloading the files."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from packaging.pylock import PackageWheel

from offlinepack.errors import FetchError, Finding, OfflinepackError
from offlinepack.net.client import Client, translate_network_errors
from offlinepack.net.remote_zip import read_metadata_by_ranges, read_wheel_metadata
from offlinepack.pip_shim.static_metadata import ReadCache
from offlinepack.wheels.metadata import WheelMetadata, parse_metadata

MAX_THREADS = 8

MAX_UNRANGED_BYTES = 1 << 16
"""bytes that are read from a server without range requests"""


def read_all(wheels: Iterable[PackageWheel], client: Client, folder: Path) -> dict[str, WheelMetadata]:
    """Return file name -> METADATA of the wheels that are readable; cache it in `folder`, where pip reads it.

    Raises FetchError with every file that its server does not give.
    """
    cache, session = ReadCache(str(folder)), _ClientSession(client)
    findings: list[Finding] = []

    def read(wheel: PackageWheel) -> WheelMetadata | None:
        key = wheel.hashes.get("sha256", "")
        content = cache.get("metadata", key)
        if content is None:
            # a server without ranges, or a damaged wheel, which the build reports later
            with contextlib.suppress(ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile):
                try:
                    content = (
                        read_wheel_metadata(io.BytesIO(Path(wheel.path).read_bytes()))
                        if wheel.path
                        else session.read_metadata(wheel)
                    )
                except FetchError as failure:
                    if not client.is_offline:
                        findings.extend(failure.findings)
        if content is None:
            return None
        cache.put("metadata", key, content)
        return parse_metadata(content)

    unique_wheels = list({wheel.filename: wheel for wheel in wheels}.values())
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        pairs = zip(unique_wheels, pool.map(read, unique_wheels), strict=True)
        read_metadata = {wheel.filename: metadata for wheel, metadata in pairs if metadata is not None}
    if findings:
        raise FetchError(*sorted(findings, key=lambda finding: (finding.subject, finding.code)))
    return read_metadata


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
        name = unquote(url.rpartition("/")[2])

        def ask() -> Any:
            with self.client.open_response(url, name, headers) as (response, _):
                length = int(response.headers.get("Content-Length", MAX_UNRANGED_BYTES + 1))
                is_small = response.status == 206 or length <= MAX_UNRANGED_BYTES
                with translate_network_errors(name, url, self.client):
                    content = response.read() if is_small else b""
                status, fields = response.status, response.headers
                return SimpleNamespace(status_code=status, headers=fields, content=content, close=bool)

        return self.client.retry(url, name, ask)
