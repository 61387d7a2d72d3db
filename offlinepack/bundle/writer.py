"""Assemble and write a bundle: manifest, members, documents, sums and the target side."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from offlinepack.bundle.archive import MAX_FILE_SIZE, ArchiveWriter
from offlinepack.bundle.documents import make_documents
from offlinepack.bundle.layout import EXECUTABLE_FILES, INSTALL_CMD, INSTALL_SH, Member, get_kind, make_member
from offlinepack.bundle.volumes import Archive, VolumeWriter
from offlinepack.errors import Finding, IntegrityError, SelectionError, Text, UsageError, error, make_read_error, text
from offlinepack.ontarget.manifest import (
    FORMAT,
    INSTALL_PY,
    MANIFEST,
    ONTARGET,
    SDISTS,
    SIGNATURES,
    SUMS,
    TOOLS,
    WHEELS,
    File,
    Manifest,
    TargetPlan,
    format_sums,
    hash_file,
    parse_manifest,
    serialize_manifest,
)
from offlinepack.ontarget.paths import find_path_problem, fold_path
from offlinepack.store import StoredFile

_MAX_UNPACKED_SIZE, _MAX_RATIO = 512 << 20, 100
"""An archive may unpack to this many bytes, and beyond that to this many times its own size."""

_COMPRESSED_KINDS = {"wheel": True, "sdist": True, "tool": True, "bytecode": True, "code": False, "document": False}
"""Kind of file -> whether it is compressed already; files of other kinds are examined."""


class StoredFileDamagedError(IntegrityError):
    """A file on disk that differs from its stored hash."""

    def __init__(self, member: Member, sha256: str) -> None:
        super().__init__(
            error(
                "stored-file-damaged",
                member.content if isinstance(member.content, Path) else member.file.path,
                "{subject} is not what it was when its hash was checked: sha256 {expected} then, {found} now.",
                "Remove it and run the same command again; look after this disk.",
                expected=member.file.sha256,
                found=sha256,
            )
        )
        self.file = member.file
        """The expected file."""


def assemble_bundle(
    name: str,
    version: str | None,
    targets: Sequence[TargetPlan],
    stored: Iterable[StoredFile],
    *,
    sequence: int | None = None,
    install_to: str | None = None,
    extra: Mapping[str, bytes | Path] | None = None,
    urls: Mapping[str, str] | None = None,
    describe: Callable[[Manifest], Mapping[str, bytes]] | None = None,
) -> tuple[Manifest, tuple[Member, ...]]:
    """Assemble bundle format 1: the manifest and its files with the source of their bytes, in the order of the
    archive.

    In `targets`, `file` of a distribution or tool is a bare file name; its folder is set here. `stored` holds all of
    them. `extra`: path in the bundle -> bytes or file, for files/, bytecode/, provenance/, sbom.cdx.json,
    rehearsal.json. `urls`: file name -> its address on the public index; other addresses are left out. `describe`
    makes documents of the manifest, which are added like `extra`. Raises SelectionError if two files have one name,
    UsageError for a path or size that no bundle can hold.
    """
    by_name: dict[str, StoredFile] = {}
    for file in stored:
        if by_name.setdefault(file.name, file).sha256 != file.sha256:
            raise SelectionError(
                error(
                    "same-name-other-bytes",
                    file.name,
                    "Two different files are both called {subject}: sha256 {first} and {second}.",
                    "Make one bundle for each target: {target} in the name of -o.",
                    first=by_name[file.name].sha256,
                    second=file.sha256,
                )
            )
    installed = {distribution.file for target in targets for distribution in target.install}
    places = {name: f"{WHEELS if name.endswith('.whl') else SDISTS}/{name}" for name in installed}
    tools = {tool.file for target in targets for tool in target.tools} - installed
    places |= {name: f"{TOOLS if name.endswith('.whl') else SDISTS}/{name}" for name in tools}
    placed = tuple(
        target._replace(
            install=tuple(distribution._replace(file=places[distribution.file]) for distribution in target.install),
            tools=tuple(tool._replace(file=places[tool.file]) for tool in target.tools),
        )
        for target in targets
    )
    members = [
        _make_wheel_member(path, by_name[name])
        if name.endswith(".whl")
        else Member(File(path, by_name[name].size, by_name[name].sha256, "sdist"), by_name[name].path)
        for name, path in places.items()
    ]
    members += [make_member(path, content) for path, content in (extra or {}).items()]
    addresses = {places[name]: url for name, url in (urls or {}).items() if name in places}
    draft = Manifest(FORMAT, name, version, sequence, install_to, placed, ())
    if describe:
        files = sorted((member.file for member in members), key=lambda file: file.path)
        members += [make_member(path, data) for path, data in describe(draft._replace(files=tuple(files))).items()]
    return complete_bundle(draft, members, addresses)


def _make_wheel_member(path: str, wheel: StoredFile) -> Member:
    member = Member(File(path, wheel.size, wheel.sha256, get_kind(path) or "", "0" * 64), wheel.path)
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            (record,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
            record_sha256 = hashlib.sha256(archive.read(record)).hexdigest()
    except (zipfile.BadZipFile, zlib.error, ValueError) as failure:  # its content was checked when it was stored
        raise StoredFileDamagedError(member, hash_file(wheel.path)[1]) from failure
    except OSError as failure:
        raise make_read_error(wheel.path, failure) from failure
    return Member(member.file._replace(record_sha256=record_sha256), wheel.path)


def complete_bundle(
    draft: Manifest, members: list[Member], urls: Mapping[str, str]
) -> tuple[Manifest, tuple[Member, ...]]:
    """Add the target side, the documents and the checksums to a manifest without files (`urls`: path -> address)."""
    listed = draft._replace(files=tuple(member.file for member in members))
    members += [make_member(path, data) for path, data in (*_read_target_side(), *make_documents(listed, urls).items())]
    members.append(make_member(SUMS, format_sums(member.file for member in members)))
    members.sort(key=lambda member: member.file.path)
    if refused := list(_find_unpackable_files([member.file for member in members])):
        raise UsageError(*refused)
    whole = draft._replace(files=tuple(member.file for member in members))
    return parse_manifest(serialize_manifest(whole)), tuple(members)


def _find_unpackable_files(files: Sequence[File]) -> Iterator[Finding]:
    """Yield a finding for each file with an invalid path or size, and for paths that differ only in case."""
    names: dict[str, str] = {}
    for file in files:
        reason: Text | str = find_path_problem(file.path)
        if file.size > MAX_FILE_SIZE:
            reason = text("it is larger than 8 GiB")
        if (other := names.setdefault(fold_path(file.path), file.path)) != file.path:
            reason = text("{other} has the same name where case is ignored", other=other)
        if reason:
            yield error(
                "cannot-be-packed",
                file.path,
                "{subject} cannot lie in a bundle: {why}.",
                "Rename it, cut it, or leave it out.",
                why=reason,
            )


def _read_target_side() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the target side byte for byte; its entry points lie at the top of the bundle."""
    for resource in resources.files("offlinepack.ontarget").iterdir():
        if resource.name in (INSTALL_PY, INSTALL_SH, INSTALL_CMD):
            yield resource.name, resource.read_bytes()
        elif resource.name.endswith((".py", ".json")):
            yield f"{ONTARGET}/{resource.name}", resource.read_bytes()


def write_bundle(
    path: Path,
    manifest: Manifest,
    members: Iterable[Member],
    signatures: Mapping[str, bytes] | Sequence[bytes] = (),
    split: int | None = None,
) -> Archive:
    """Write the bundle to `path`, completely or not at all, with its `.sha256` file.

    `members` have the order of the manifest. `split`: bytes of a part (`<path>.001` and so on). Raises
    StoredFileDamagedError if a file on disk differs from its hash, ComputerError if the disk is full or not writable.
    """
    signed = signatures if isinstance(signatures, Mapping) else dict(zip(SIGNATURES, signatures, strict=False))
    with VolumeWriter(path, split) as output:
        writer = ArchiveWriter(output.put)

        def add(name: str, content: bytes) -> None:
            writer.add_file(f"{manifest.folder}/{name}", len(content), 0o644, [content], packed=False)

        add(MANIFEST, serialize_manifest(manifest))
        for name in sorted(signed, key=SIGNATURES.index):
            add(name, signed[name])
        for member, file in zip(members, manifest.files, strict=True):
            if member.file != file:
                raise ValueError(f"{member.file.path} stands where the manifest has {file.path}")
            name, mode = f"{manifest.folder}/{file.path}", 0o755 if file.path in EXECUTABLE_FILES else 0o644
            written = writer.add_file(name, file.size, mode, member.read_chunks(), _COMPRESSED_KINDS.get(file.kind))
            if written != (file.size, file.sha256):
                raise StoredFileDamagedError(member, written[1])
        writer.close()
        if is_bomb(manifest, output.size):
            raise UsageError(_make_bomb_finding(manifest))
    return output.archive


def compute_unpacked_size(manifest: Manifest) -> int:
    """Return the size in bytes of all files in the archive."""
    return sum(file.size for file in manifest.files)


def is_bomb(manifest: Manifest, packed: int) -> bool:
    """Check whether an archive of `packed` bytes would unpack to more than a reader accepts."""
    return compute_unpacked_size(manifest) > _MAX_UNPACKED_SIZE + _MAX_RATIO * packed


def _make_bomb_finding(manifest: Manifest) -> Finding:
    largest = max(manifest.files, key=lambda file: file.size)
    return error(
        "too-hollow",
        largest.path,
        "{subject} is nearly all the same byte: every reader would take the packed bundle for a bomb, and refuse it.",
        "Compress that file yourself before you include it.",
    )
