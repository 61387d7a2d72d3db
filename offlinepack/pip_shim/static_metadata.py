"""Read the metadata that files state without a build, and cache it between runs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tarfile
import threading
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from offlinepack.net.remote_zip import IDENTITY_HEADERS, read_metadata_by_ranges, read_wheel_metadata

MAX_SDIST_SIZE = 64 << 20
"""bytes of an sdist; pip downloads larger ones itself"""


class ReadCache:
    """Cache folder of pages and metadata, which several runs can use at once."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the cached content of this key, or None."""
        path = self._path(kind, key)
        return path.read_bytes() if path and path.exists() else None

    def put(self, kind: str, key: str, content: bytes) -> None:
        """Cache content under this key."""
        if path := self._path(kind, key):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
            temporary.write_bytes(content)
            temporary.replace(path)

    def _path(self, kind: str, key: str) -> Path | None:
        return Path(self.folder, kind, hashlib.sha256(key.encode()).hexdigest()) if self.folder and key else None


def read_static_metadata(session: Any, link: Any) -> bytes | None:
    """Return METADATA of a wheel or static PKG-INFO of an sdist; None if pip has to determine the metadata itself."""
    with contextlib.suppress(Exception):
        if link.is_wheel:
            return (
                read_wheel_metadata(Path(link.file_path).open("rb"))
                if link.is_file
                else read_metadata_by_ranges(session, link)
            )
        if link.is_file:
            return _read_sdist_metadata(Path(link.file_path).read_bytes())
        with contextlib.closing(
            session.get(link.url_without_fragment, headers=IDENTITY_HEADERS, stream=True)
        ) as answer:
            if answer.status_code == 200 and int(answer.headers.get("Content-Length", 0)) < MAX_SDIST_SIZE:
                content = answer.content
                if link.hash_name != "sha256" or hashlib.sha256(content).hexdigest() == link.hash:
                    return _read_sdist_metadata(content)
    return None


def _read_sdist_metadata(content: bytes) -> bytes | None:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        contents = {}
        for member in archive.getmembers():
            if re.fullmatch(r"[^/]+/(PKG-INFO|pyproject\.toml)", member.name) and (file := archive.extractfile(member)):
                contents[member.name.partition("/")[2]] = file.read()
    metadata = contents["PKG-INFO"]
    return metadata if is_metadata_static(metadata, contents.get("pyproject.toml", b"")) else None


def is_metadata_static(metadata: bytes, project: bytes) -> bool:
    """Tell whether every wheel built from an sdist has the dependencies of its PKG-INFO.

    `metadata` is the PKG-INFO and `project` the pyproject.toml.
    """
    # pyproject.toml: a field of [project] that is not listed as dynamic must not be changed by a build backend
    table = _parse_toml(project).get("project")
    if isinstance(table, dict) and not {"dependencies", "optional-dependencies", "requires-python"} & set(
        table.get("dynamic", ())
    ):
        return True
    # Core metadata 2.2: a field that an sdist's PKG-INFO does not call Dynamic is the same in every wheel built from it
    headers = BytesHeaderParser().parsebytes(metadata)
    dynamic = {field.strip().lower() for field in headers.get_all("Dynamic", [])}
    version = tuple(int(part) for part in headers.get("Metadata-Version", "1.0").split(".")[:2])
    return version >= (2, 2) and not dynamic & {"requires-dist", "requires-python", "provides-extra"}


def _parse_toml(content: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return dict(tomllib.loads(content.decode()))
    except ValueError:
        return {}
