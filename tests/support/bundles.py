"""Small bundles for tests: made by the product, and taken apart and put together again byte by byte by an attacker."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offlinepack.bundle.reader import open_bundle
from offlinepack.bundle.writer import assemble_bundle, write_bundle
from offlinepack.ontarget.manifest import (
    Distribution,
    Facts,
    File,
    Manifest,
    TargetPlan,
    Tool,
    format_sums,
    hash_file,
    serialize_manifest,
)
from offlinepack.store import StoredFile

from .making import make_wheel

DEBIAN = Facts("cpython", "3.11", False, "linux", "x86_64", "glibc", "2.36", None)
WINDOWS = Facts("cpython", "3.12", False, "windows", "amd64", None, None, None)


def stored(path: Path) -> StoredFile:
    """A file as the store would give it."""
    data = path.read_bytes()
    return StoredFile(path.name, path, len(data), hashlib.sha256(data).hexdigest())


def some_wheels(folder: Path) -> dict[str, Path]:
    """stone, which needs moss; pip, which is a tool."""
    return {
        "stone": make_wheel(
            folder, "stone", "1.0", requires=["moss"], entry_points={"console_scripts": {"stone": "stone:main"}}
        ),
        "moss": make_wheel(folder, "moss", "2.0"),
        "pip": make_wheel(folder, "pip", "26.0"),
    }


def hash_record(wheel: Path | bytes) -> str:
    """The SHA-256 of the RECORD of a wheel; of one that cannot be read, zeros."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel) if isinstance(wheel, bytes) else wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
            return hashlib.sha256(archive.read(name)).hexdigest()
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, OSError):
        return "0" * 64


def write_folder(folder: Path, *, facts: Facts = DEBIAN, change: Callable[[Manifest], Manifest] | None = None) -> Path:
    """A manifest and SHA256SUMS for what lies in the folder; each wheel in wheels/ is installed, in tools/ a tool."""
    (folder / "README.txt").write_text("read me\n")
    listed = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name = path.relative_to(folder).as_posix()
        kind = {"wheels": "wheel", "tools": "tool"}.get(name.partition("/")[0], "document")
        listed.append(File(name, *hash_file(path), kind, hash_record(path) if kind != "document" else None))
    sums = format_sums(listed)
    (folder / "SHA256SUMS").write_bytes(sums)
    listed.append(File("SHA256SUMS", len(sums), hashlib.sha256(sums).hexdigest(), "document"))
    install, tools = [], []
    for one in listed:
        name, _, version = Path(one.path).name.partition("-py3")[0].partition("-")
        if one.kind == "wheel":
            install.append(Distribution(name, version, one.path, (), True, None))
        elif one.kind == "tool":
            tools.append(Tool(name, version, one.path))
    target = TargetPlan(
        "here", "cp311-manylinux_2_36_x86_64", facts, "3.11", None, None, tuple(install), tuple(tools), ()
    )
    manifest = Manifest(1, "app", "1.0", None, None, (target,), tuple(sorted(listed)))
    (folder / "manifest.json").write_bytes(serialize_manifest(change(manifest) if change else manifest))
    return folder


def target_of(wheels: Mapping[str, Path], facts: Facts = DEBIAN, tag: str = "", name: str = "debian12") -> TargetPlan:
    """stone and moss are installed, pip is the tool."""
    install = (
        Distribution("moss", "2.0", wheels["moss"].name, (), False, None),
        Distribution("stone", "1.0", wheels["stone"].name, ("moss",), True, None),
    )
    tag = tag or ("cp311-manylinux_2_36_x86_64" if facts.os == "linux" else "cp312-win_amd64")
    return TargetPlan(
        name, tag, facts, facts.python, None, None, install, (Tool("pip", "26.0", wheels["pip"].name),), ()
    )


def make_bundle(folder: Path, *, path: Path | None = None, **changed: Any) -> tuple[Path, Manifest]:
    """A bundle `notes-1.2` of two wheels and pip, below `folder`; `changed` replaces arguments of bundle.assemble."""
    wheels = some_wheels(folder / "wheels-of-the-bundle")
    named: dict[str, Any] = {
        "name": "notes",
        "version": "1.2",
        "targets": [target_of(wheels)],
        "stored": map(stored, wheels.values()),
    }
    named.update(changed)
    split = named.pop("split", None)
    signatures = named.pop("signatures", ())
    manifest, members = assemble_bundle(**named)
    path = path or folder / "notes-1.2-offline.tar.gz"
    write_bundle(path, manifest, members, signatures, split)
    return path, manifest


# --------------------------------------------------------------------- the attacker's own tar, gzip and manifest


def header(
    name: bytes | str,
    size: int,
    *,
    kind: bytes = b"0",
    mode: bytes = b"0000644\0",
    owner: bytes = b"0000000\0",
    length: bytes | None = None,
    time: bytes = b"02263046000\0",
    link: bytes = b"",
    magic: bytes = b"ustar\00000",
    names: bytes = b"",
    device: bytes = b"0000000\0",
    prefix: bytes = b"",
    rest: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One block of 512 bytes; each field as the caller wants it, the checksum right unless it is given."""
    name = name.encode() if isinstance(name, str) else name
    fields = [
        (name, 100), (mode, 8), (owner, 8), (owner, 8), (length if length is not None else b"%011o\0" % size, 12), (time, 12),
        (b" " * 8, 8), (kind, 1), (link, 100), (magic, 8), (names, 64), (device, 8), (device, 8), (prefix, 155), (rest, 12),
    ]  # fmt: skip
    block = b"".join(value[:width].ljust(width, b"\0") for value, width in fields)
    total = b"%06o\0 " % sum(block) if checksum is None else checksum
    return block[:148] + total + block[156:]


def padded(data: bytes, filling: bytes = b"\0") -> bytes:
    return data + (filling * 512)[: -len(data) % 512]


def file(name: bytes | str, data: bytes, filling: bytes = b"\0", **fields: Any) -> bytes:
    """A whole member."""
    return header(name, len(data), **fields) + padded(data, filling)


def record(key: str, value: bytes | str) -> bytes:
    """One record of a pax header, its length right."""
    body = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return str(length).encode() + body


def pax(*records: bytes, kind: bytes = b"x", name: str = "pax/header") -> bytes:
    return file(name, b"".join(records), kind=kind)


def gz(data: bytes, level: int = 6) -> bytes:
    """One gzip member."""
    return gzip.compress(data, level, mtime=0)


def gz_of_blocks(blocks: Iterable[bytes], crc: int | None = None, size: int | None = None) -> bytes:
    """One gzip member of hand-made stored blocks."""
    body, whole = b"", b""
    for one in blocks:
        body += struct.pack("<BHH", 0, len(one), len(one) ^ 0xFFFF) + one
        whole += one
    tail = struct.pack("<II", zlib.crc32(whole) if crc is None else crc, len(whole) if size is None else size)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + b"\1\0\0\xff\xff" + tail


END = bytes(1024)


@dataclass
class Parts:
    """A sound bundle taken apart: what an attacker begins with."""

    folder: str
    manifest: dict[str, Any]
    files: dict[str, bytes]
    """path -> content, without the manifest, in the bundle's order"""
    signer: Callable[[bytes], bytes] | None = field(default=None, repr=False)
    """makes a signature of the manifest, which is put into the bundle"""

    @property
    def signatures(self) -> dict[str, bytes]:
        """Name -> bytes."""
        return {"manifest.json.sig": self.signer(self.data)} if self.signer else {}

    @property
    def data(self) -> bytes:
        """The manifest's bytes, in the canonical form."""
        return (json.dumps(self.manifest, sort_keys=True, indent=1) + "\n").encode()

    def rehashed(self) -> Parts:
        """Sums and manifest made to agree with the files again, as a hostile packer would."""
        kinds = {one["path"]: one["kind"] for one in self.manifest["files"]}
        files = dict(sorted(self.files.items()))
        lines = (
            f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items() if path != "SHA256SUMS"
        )
        files["SHA256SUMS"] = "".join(lines).encode()
        listed = [
            {
                **(
                    {"record_sha256": hash_record(data), "accepted_record": False}
                    if kinds.get(path) in ("wheel", "tool")
                    else {}
                ),
                "kind": kinds.get(path, "document"),
                "path": path,
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
            }
            for path, data in sorted(files.items())
        ]
        return Parts(self.folder, {**self.manifest, "files": listed}, dict(sorted(files.items())), self.signer)

    def first(self) -> bytes:
        """What stands at the beginning of the archive."""
        first = {"manifest.json": self.data, **self.signatures}
        return b"".join(file(f"{self.folder}/{path}", data) for path, data in first.items())

    def members(self) -> list[bytes]:
        """The manifest and each file, as tar members."""
        return [self.first(), *(file(f"{self.folder}/{path}", data) for path, data in self.files.items())]

    def tar(self, *more: bytes, end: bytes = END) -> bytes:
        return b"".join((*self.members(), *more)) + end

    def replaced(self, path: str, member: bytes) -> bytes:
        """The tar with another member in the place of this one."""
        members = [
            member if one == path else file(f"{self.folder}/{one}", data)
            for one, data in {"manifest.json": self.data, **self.signatures, **self.files}.items()
        ]
        return b"".join(members) + END

    def unpacked(self, folder: Path) -> Path:
        """Written out as a folder."""
        for path, data in {"manifest.json": self.data, **self.signatures, **self.files}.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return folder


def taken_apart(path: Path) -> Parts:
    """A bundle of the product, as an attacker sees it."""
    opened = open_bundle(path)
    files = {one.file.path: b"".join(one.content) for one in opened.read_members()}  # type: ignore[arg-type]
    return Parts(opened.manifest.folder, json.loads(opened.manifest_bytes), files)


Attack = Callable[[Parts], bytes]
