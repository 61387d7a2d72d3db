"""Define the layout of a bundle: member names, kinds, and the member type that writer and reader share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from offlinepack.bundle.volumes import CHUNK_SIZE
from offlinepack.errors import make_read_error, make_write_error
from offlinepack.ontarget.manifest import (
    BYTECODE,
    INSTALL_PY,
    ONTARGET,
    PYTHON,
    SDISTS,
    SUMS,
    TOOLS,
    WHEELS,
    File,
    hash_file,
)


def get_kind(path: str) -> str | None:
    """Return the kind of the file at this path in a bundle, or None if no bundle has such a file."""
    folder, _, name = path.partition("/")
    if not name:
        return "document" if is_read_by_other_tools(path) else _TOP_FILE_KINDS.get(path)
    return None if "/" in name and folder not in _NESTED_FOLDERS else _FOLDER_KINDS.get(folder)


def is_wheel(file: File) -> bool:
    """Check whether a file is a wheel (of the application or a tool)."""
    return file.kind in ("wheel", "tool") and file.path.endswith(".whl")


def is_read_by_other_tools(path: str) -> bool:
    """Check whether other tools read this file as instructions."""
    return "/" not in path and path.endswith((".toml", ".txt")) and path not in (README, README_ZH)


Content = bytes | Path | Iterable[bytes]


@dataclass(frozen=True)
class Member:
    """One file of a bundle that is written or read."""

    file: File
    """The entry of the manifest."""
    content: Content
    """The bytes, or the path of the file on disk."""

    def read_chunks(self) -> Iterator[bytes]:
        """Yield the content in chunks."""
        if isinstance(self.content, Path):
            return _read_chunks(self.content)
        return iter([self.content] if isinstance(self.content, bytes) else self.content)

    def read(self) -> bytes:
        """Return the whole content."""
        return b"".join(self.read_chunks())

    def verify(self) -> None:
        """Read the content to its end, where size and hash are checked."""
        for _ in self.read_chunks():
            pass

    def write_file(self, folder: Path) -> Path:
        """Write the file below `folder`, never over another file and never through a link."""
        try:
            return write_file(folder, self.file.path, self.read_chunks())
        except OSError as failure:
            raise make_write_error(folder / self.file.path, failure) from failure


def make_member(path: str, content: bytes | Path) -> Member:
    """Make the member at this path of a bundle from bytes or a file on disk."""
    kind = get_kind(path)
    if not kind:
        raise ValueError(f"{path} is no place in a bundle")
    if isinstance(content, bytes):
        return Member(File(path, len(content), hashlib.sha256(content).hexdigest(), kind), content)
    try:
        return Member(File(path, *hash_file(content), kind), content)
    except OSError as failure:
        raise make_read_error(content, failure) from failure


def _read_chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as source:
            while chunk := source.read(CHUNK_SIZE):
                yield chunk
    except OSError as failure:
        raise make_read_error(path, failure) from failure


def write_file(folder: Path, path: str, chunks: Iterable[bytes]) -> Path:
    """Write a file below `folder`, never over another file and never through a link; raise OSError if that fails."""
    destination = folder / path
    destination.parent.mkdir(exist_ok=True, parents=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(
        os.open(destination, flags, 0o755 if path in EXECUTABLE_FILES else 0o644), "wb", buffering=0
    ) as file:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
    return destination


README, README_ZH = "README.txt", "README.zh.txt"

INSTALL_SH, INSTALL_CMD = "install.sh", "install.cmd"

EXECUTABLE_FILES = (INSTALL_PY, INSTALL_SH)

FILES, PROVENANCE = "files", "provenance"

_FOLDER_KINDS = {
    WHEELS: "wheel",
    SDISTS: "sdist",
    TOOLS: "tool",
    PYTHON: "python",
    BYTECODE: "bytecode",
    ONTARGET: "code",
    FILES: "included",
    PROVENANCE: "document",
}

_NESTED_FOLDERS = (FILES, BYTECODE, PROVENANCE)
"""The folders that may hold folders."""

SBOM, REHEARSAL = "sbom.cdx.json", "rehearsal.json"

_TOP_FILE_KINDS = {
    SUMS: "document",
    README: "document",
    README_ZH: "document",
    SBOM: "document",
    REHEARSAL: "document",
    INSTALL_PY: "code",
    INSTALL_SH: "code",
    INSTALL_CMD: "code",
}


def make_pylock_name(tag):  # type: (str) -> str
    """Return the file name of the lock of a target (PEP 751: pylock.toml or pylock.<no dots>.toml)."""
    return "pylock.%s.toml" % tag


def make_requirements_name(tag):  # type: (str) -> str
    """Return the file name of the pinned requirements of a target."""
    return "requirements.%s.txt" % tag
