"""Open a bundle: an archive, its parts or an unpacked folder.

Only regular files that the manifest names are read, each with the size and hash of the manifest.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from offlinepack.bundle.archive import ArchiveReader, make_archive_error, make_not_a_bundle_error
from offlinepack.bundle.layout import Member, is_wheel, write_file
from offlinepack.bundle.validate import find_misplaced_files, validate_archive, validate_documents, validate_folder
from offlinepack.bundle.volumes import CHUNK_SIZE, COPY_AGAIN, VolumeReader
from offlinepack.bundle.writer import compute_unpacked_size, is_bomb, write_bundle
from offlinepack.errors import (
    BundleError,
    Finding,
    IntegrityError,
    UsageError,
    error,
    make_read_error,
    make_write_error,
    raise_on_errors,
    text,
)
from offlinepack.ontarget.manifest import (
    MANIFEST,
    MAX_MANIFEST_SIZE,
    SIGNATURES,
    File,
    Manifest,
    TargetPlan,
    parse_manifest,
)
from offlinepack.ontarget.signature import check_embedded_signatures
from offlinepack.ontarget.verify import check_names
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel


def _find_problems(bundle: Bundle) -> Iterator[File | Finding]:
    """Yield each file that is checked, and each finding."""
    try:
        check_embedded_signatures(bundle.manifest_bytes, list(bundle.signatures.items()))
    except IntegrityError as failure:
        yield from failure.findings
    yield from find_misplaced_files(bundle.manifest)
    if bundle.path.is_dir():
        yield from validate_folder(bundle.path, bundle.manifest, bundle.read_file)
    else:
        yield from validate_archive(bundle.manifest, bundle.read_members())


_MAX_SIGNATURE_SIZE = 64 << 10

_MAX_DIRECTORY_SIZE = 8 << 20
"""The number of bytes at the end of a wheel that are searched for its list of files."""

_DATA_FOLDER = re.compile(r"\A[^/]+\.data/[^/]+/")

_MAX_FINDINGS = 50
"""The largest number of findings of one kind."""


def open_bundle(path: Path) -> Bundle:
    """Open a bundle: a tar.gz, its split parts (any part, or their common name) or its unpacked folder.

    Only the manifest and the signatures are read, strictly; the files are checked when they are unpacked or verified.
    Raises BundleError for another file or a newer format, IntegrityError for a damaged bundle.
    """
    packed = None
    try:
        if path.is_dir():
            data, signatures = _read_folder_head(path)
        else:
            with _open_archive(path) as reader:
                _, data, signatures, _ = _read_head(reader, path)
                packed = reader.size
    except FileNotFoundError as failure:
        raise BundleError(
            error("no-such-bundle", path, "There is no {subject}.", "Name the bundle's tar.gz or its unpacked folder.")
        ) from failure
    except OSError as failure:
        raise make_read_error(path, failure) from failure
    manifest = parse_manifest(data)
    if packed is not None and is_bomb(manifest, packed):
        size = compute_unpacked_size(manifest)
        reason = text("its {packed} bytes would unpack to {size}: no honest bundle does", packed=packed, size=size)
        raise make_archive_error(path, reason, "archive-bomb")
    return Bundle(path, manifest, data, signatures)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a bundle, of an unpacked folder, or from a single manifest.json."""
    if path.suffix != ".json" or path.is_dir():
        return open_bundle(path).manifest
    try:
        return parse_manifest(_read_small_file(path, MAX_MANIFEST_SIZE))
    except OSError as failure:
        raise make_read_error(path, failure) from failure


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest was read; its files are checked when they are read."""

    path: Path
    manifest: Manifest
    manifest_bytes: bytes = field(repr=False)
    """The bytes of manifest.json, which a signature covers."""
    signatures: Mapping[str, bytes] = field(repr=False)
    """The signatures inside the bundle: name -> bytes."""

    def read_members(self) -> Iterator[Member]:
        """Yield every file once; use the content of a member before the next one.

        The content raises IntegrityError at its end if it differs from the manifest. The iterator raises it for a
        missing, added, damaged or truncated file.
        """
        try:
            yield from _read_folder_members(self) if self.path.is_dir() else _read_archive_members(self)
        except OSError as failure:
            raise make_read_error(self.path, failure) from failure

    def unpack(self, folder: Path, target: TargetPlan | None = None) -> Iterator[File]:
        """Write the files into a new folder and yield each file that is written.

        With `target`, files that only other targets install are checked but not written.
        """
        skipped = {file.path for plan in self.manifest.targets for file in self.manifest.list_files(plan)}
        skipped -= {file.path for file in self.manifest.list_files(target)} if target else skipped
        try:
            folder.mkdir()
            for name, content in {MANIFEST: self.manifest_bytes, **self.signatures}.items():
                write_file(folder, name, [content])
        except OSError as failure:
            raise make_write_error(folder, failure) from failure
        for member in self.read_members():
            if member.file.path in skipped:
                member.verify()
            else:
                member.write_file(folder)
            yield member.file

    def read_wheels(self, paths: Collection[str] | None = None) -> Iterator[tuple[File, CheckedWheel]]:
        """Yield the wheels (those at `paths`, if given), strictly read; the file at `path` exists until the next
        wheel.

        Raises IntegrityError for an invalid wheel.
        """
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            for member in self.read_members():
                if is_wheel(member.file) and (paths is None or member.file.path in paths):
                    path = member.write_file(Path(folder))
                    yield member.file, read_wheel(path)
                    path.unlink()

    def list_wheel_files(self, paths: Collection[str]) -> Iterator[list[tuple[str, int]]]:
        """Yield the names and sizes of the files in each of these wheels, read from its directory without writing a
        file.
        """
        for member in self.read_members():
            if member.file.path in paths:
                tail = bytearray()
                for chunk in member.read_chunks():
                    tail += chunk
                    if len(tail) > 2 * _MAX_DIRECTORY_SIZE:
                        del tail[:-_MAX_DIRECTORY_SIZE]
                # verify reports a wheel without a readable directory
                with suppress(zipfile.BadZipFile, ValueError), zipfile.ZipFile(io.BytesIO(tail)) as archive:
                    yield [(_DATA_FOLDER.sub("", entry.filename), entry.file_size) for entry in archive.infolist()]

    def embed_signature(self, signature: bytes) -> None:
        """Add a second signature and change nothing else; raise UsageError if there are two."""
        name = SIGNATURES[1]
        if name in self.signatures:
            raise UsageError(
                error(
                    "signed-twice",
                    self.path,
                    "{subject} holds two signatures already.",
                    "Leave this one beside it: without --embed.",
                )
            )
        if self.path.is_dir():
            try:
                write_file(self.path, name, [signature])
            except OSError as failure:
                raise make_write_error(self.path / name, failure) from failure
        else:
            with closing(VolumeReader(self.path)) as source:
                base, split = source.base_path, source.part_size
            write_bundle(base, self.manifest, self.read_members(), {**self.signatures, name: signature}, split)

    def read_file(self, file: File) -> bytes:
        """Return the bytes of one small file."""
        if not self.path.is_dir():
            return next(member.read() for member in self.read_members() if member.file == file)
        with _open_regular_file(self.path / file.path) as source:
            return b"".join(_verify_chunks(file, iter([source.read(file.size + 1)])))

    def check(self) -> list[Finding]:
        """Return the warnings of `verify`; raise IntegrityError with its errors."""
        return raise_on_errors(IntegrityError, [outcome for outcome in self.verify() if isinstance(outcome, Finding)])

    def check_documents(self) -> None:
        """Check the documents for other tools and the place of every file; raise IntegrityError if one differs."""
        raise_on_errors(
            IntegrityError, [*find_misplaced_files(self.manifest), *validate_documents(self.manifest, self.read_file)]
        )

    def verify(self) -> Iterator[File | Finding]:
        """Check everything, wheels to their last member; yield each checked file and each finding.

        Of an archive, a few wheels at a time are written to a temporary folder.
        """
        seen_findings: set[str] = set()
        for outcome in _find_problems(self):
            if isinstance(outcome, File):
                yield outcome
            elif repr(outcome) not in seen_findings:
                seen_findings.add(repr(outcome))
                yield outcome


def _verify_chunks(file: File, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks; raise IntegrityError at the end if size or hash differ from the manifest."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > file.size:
            break
        digest.update(chunk)
        yield chunk
    if size != file.size:
        raise _make_size_error(file, size)
    if digest.hexdigest() != file.sha256:
        reason = text(
            "its sha256 is {found}, the manifest says {expected}", found=digest.hexdigest(), expected=file.sha256
        )
        raise make_archive_error(file.path, reason, "hash-mismatch")


def _make_size_error(file: File, size: int) -> IntegrityError:
    reason = text("it has {found} bytes, the manifest says {expected}", found=size, expected=file.size)
    return make_archive_error(file.path, reason, "wrong-size")


def _make_missing_findings(paths: Iterable[str]) -> list[Finding]:
    return [
        error("file-missing", path, "{subject} is missing from the bundle.", COPY_AGAIN)
        for path in sorted(paths)[:_MAX_FINDINGS]
    ]


def _read_head(reader: ArchiveReader, path: Path) -> tuple[str, bytes, dict[str, bytes], tuple[str, int] | None]:
    """Read the top folder, manifest.json and the signatures at the beginning, and the header after them."""
    ahead = reader.read_header()
    if not ahead or not re.fullmatch(r"[^/]+/manifest\.json", ahead[0]):
        raise make_not_a_bundle_error(path)
    folder = ahead[0].partition("/")[0]
    if ahead[1] > MAX_MANIFEST_SIZE:
        raise make_archive_error(ahead[0], _TOO_LARGE)
    data = b"".join(reader.read_content(ahead[1]))
    signatures: dict[str, bytes] = {}
    ahead = reader.read_header()
    while ahead and (name := ahead[0].removeprefix(folder + "/")) in SIGNATURES and name not in signatures:
        if ahead[1] > _MAX_SIGNATURE_SIZE:
            raise make_archive_error(ahead[0], _TOO_LARGE)
        signatures[name] = b"".join(reader.read_content(ahead[1]))
        ahead = reader.read_header()
    return folder, data, signatures, ahead


_TOO_LARGE = text("it is larger than such a file can be")

_SPECIAL_FILE = text("it is a link or another special file")


@contextmanager
def _open_archive(path: Path) -> Iterator[ArchiveReader]:
    """Open an archive; if it is damaged and split, the error lists the parts that differ from their checksums."""
    with closing(VolumeReader(path)) as source:
        try:
            yield ArchiveReader(source)
        except IntegrityError as failure:
            raise IntegrityError(*failure.findings, *source.find_damaged_parts()) from failure


def _read_archive_members(bundle: Bundle) -> Iterator[Member]:
    with _open_archive(bundle.path) as reader:
        folder, data, signatures, ahead = _read_head(reader, bundle.path)
        if (data, signatures) != (bundle.manifest_bytes, bundle.signatures):
            raise make_archive_error(bundle.path, text("it changed while it was read"))
        if folder != bundle.manifest.folder:
            raise make_archive_error(
                folder, text("the folder at the top should be called {name}", name=bundle.manifest.folder)
            )
        listed = {f"{folder}/{file.path}": file for file in bundle.manifest.files}
        waiting = dict(listed)
        while ahead:
            name, size = ahead
            file = waiting.pop(name, None)
            if not file:
                is_duplicate = name in listed or name.partition("/")[2] in (MANIFEST, *signatures)
                reason = (
                    text("it stands there a second time") if is_duplicate else text("the manifest does not know it")
                )
                raise make_archive_error(name, reason, "file-twice" if is_duplicate else "not-listed")
            if size != file.size:
                raise _make_size_error(file, size)
            member = Member(file, _verify_chunks(file, reader.read_content(size)))
            yield member
            member.verify()
            ahead = reader.read_header()
        if waiting:
            raise IntegrityError(*_make_missing_findings(file.path for file in waiting.values()))


def _read_folder_head(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    if not os.path.lexists(folder / MANIFEST):
        raise BundleError(
            error(
                "not-a-bundle",
                folder,
                "{subject} is no bundle: it has no manifest.json.",
                "Name the bundle's tar.gz, or the folder that install.py lies in.",
            )
        )
    paths = {name: folder / name for name in SIGNATURES if os.path.lexists(folder / name)}
    return _read_small_file(folder / MANIFEST, MAX_MANIFEST_SIZE), {
        name: _read_small_file(path, _MAX_SIGNATURE_SIZE) for name, path in paths.items()
    }


def _read_small_file(path: Path, most: int) -> bytes:
    with _open_regular_file(path) as source:
        data = source.read(most + 1)
    if len(data) > most:
        raise make_archive_error(path, _TOO_LARGE)
    return data


def _open_regular_file(path: Path) -> BinaryIO:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise make_archive_error(path, _SPECIAL_FILE, "not-a-file")
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb")


def _read_folder_members(bundle: Bundle) -> Iterator[Member]:
    raise_on_errors(IntegrityError, list(islice(check_names(str(bundle.path), bundle.manifest), _MAX_FINDINGS)))
    for file in bundle.manifest.files:
        with _open_regular_file(bundle.path / file.path) as source:
            yield Member(file, _verify_chunks(file, iter(partial(source.read, CHUNK_SIZE), b"")))
