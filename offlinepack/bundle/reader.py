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
from offlinepack.ontarget.verify import get_listed_path, is_parent_folder
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel


def _find_problems(bundle: Bundle) -> Iterator[File | Finding]:
    """Each file when it is done, and whatever is found."""
    try:
        check_embedded_signatures(bundle.manifest_bytes, list(bundle.signatures.items()))
    except IntegrityError as found:
        yield from found.findings
    yield from find_misplaced_files(bundle.manifest)
    if bundle.path.is_dir():
        yield from validate_folder(bundle.path, bundle.manifest, bundle.read_file)
    else:
        yield from validate_archive(bundle.manifest, bundle.read_members())


_MAX_SIGNATURE_SIZE = 64 << 10

_MAX_DIRECTORY_SIZE = 8 << 20
"""bytes of a wheel's end that its list of files is looked for in"""

_DATA_FOLDER = re.compile(r"\A[^/]+\.data/[^/]+/")

_MAX_FINDINGS = 50
"""findings of one kind that are told"""


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`: a tar.gz, the parts that it was cut into (any of them, or their common name), its folder.

    Only the manifest and the signatures are read, strictly; the rest is checked when it is unpacked or verified.
    BundleError: this is none, or a newer one. IntegrityError: it is damaged, or not as a bundle is made.
    """
    packed = None
    try:
        if path.is_dir():
            data, signatures = _read_folder_head(path)
        else:
            with _open_archive(path) as reader:
                _, data, signatures, _ = _read_head(reader, path)
                packed = reader.size
    except FileNotFoundError as failed:
        raise BundleError(
            error("no-such-bundle", path, "There is no {subject}.", "Name the bundle's tar.gz or its unpacked folder.")
        ) from failed
    except OSError as failed:
        raise make_read_error(path, failed) from failed
    manifest = parse_manifest(data)
    if packed is not None and is_bomb(manifest, packed):
        size = compute_unpacked_size(manifest)
        why = text("its {packed} bytes would unpack to {size}: no honest bundle does", packed=packed, size=size)
        raise make_archive_error(path, why, "archive-bomb")
    return Bundle(path, manifest, data, signatures)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a bundle, of its folder, or of a manifest.json that lies alone."""
    if path.suffix != ".json" or path.is_dir():
        return open_bundle(path).manifest
    try:
        return parse_manifest(_read_small_file(path, MAX_MANIFEST_SIZE))
    except OSError as failed:
        raise make_read_error(path, failed) from failed


@dataclass(frozen=True)
class Bundle:
    """A bundle on the disk whose manifest was read; its files are checked whenever they are read."""

    path: Path
    manifest: Manifest
    manifest_bytes: bytes = field(repr=False)
    """manifest.json as it is: what a signature signs"""
    signatures: Mapping[str, bytes] = field(repr=False)
    """those inside: name -> bytes"""

    def read_members(self) -> Iterator[Member]:
        """Every file once. Use each one's content before the next is asked for.

        Content raises IntegrityError at its end where it is not what the manifest says. So does the iterator, for what
        is missing, added, damaged or cut short.
        """
        try:
            yield from _read_folder_members(self) if self.path.is_dir() else _read_archive_members(self)
        except OSError as failed:
            raise make_read_error(self.path, failed) from failed

    def unpack(self, folder: Path, target: TargetPlan | None = None) -> Iterator[File]:
        """Write the bundle's files into `folder`, which must not exist yet; each is given back when it is there.

        With `target`, files that only other targets install are checked and not written.
        """
        others = {one.path for each in self.manifest.targets for one in self.manifest.list_files(each)}
        others -= {one.path for one in self.manifest.list_files(target)} if target else others
        try:
            folder.mkdir()
            for name, content in {MANIFEST: self.manifest_bytes, **self.signatures}.items():
                write_file(folder, name, [content])
        except OSError as failed:
            raise make_write_error(folder, failed) from failed
        for member in self.read_members():
            if member.file.path in others:
                member.verify()
            else:
                member.write_file(folder)
            yield member.file

    def read_wheels(self, wanted: Collection[str] | None = None) -> Iterator[tuple[File, CheckedWheel]]:
        """The wheels (those at the paths `wanted`), strictly read. The file at Wheel.path is there until the next one.

        Raises IntegrityError where one is not sound.
        """
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            for member in self.read_members():
                if is_wheel(member.file) and (wanted is None or member.file.path in wanted):
                    path = member.write_file(Path(folder))
                    yield member.file, read_wheel(path)
                    path.unlink()

    def list_wheel_files(self, wanted: Collection[str]) -> Iterator[list[tuple[str, int]]]:
        """Of each of these wheels the files and their sizes, as its own list says; nothing is written."""
        for member in self.read_members():
            if member.file.path in wanted:
                tail = bytearray()
                for chunk in member.read_chunks():
                    tail += chunk
                    if len(tail) > 2 * _MAX_DIRECTORY_SIZE:
                        del tail[:-_MAX_DIRECTORY_SIZE]
                # a wheel without a list that can be read is told of when it is checked
                with suppress(zipfile.BadZipFile, ValueError), zipfile.ZipFile(io.BytesIO(tail)) as archive:
                    yield [(_DATA_FOLDER.sub("", one.filename), one.file_size) for one in archive.infolist()]

    def embed_signature(self, signature: bytes) -> None:
        """Put a second signature in, and change nothing else; UsageError where there is one."""
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
            except OSError as failed:
                raise make_write_error(self.path / name, failed) from failed
        else:
            with closing(VolumeReader(self.path)) as source:
                base, split = source.base_path, source.part_size
            write_bundle(base, self.manifest, self.read_members(), {**self.signatures, name: signature}, split)

    def read_file(self, file: File) -> bytes:
        """The bytes of one small file."""
        if not self.path.is_dir():
            return next(member.read() for member in self.read_members() if member.file == file)
        with _open_regular_file(self.path / file.path) as source:
            return b"".join(_verify_chunks(file, iter([source.read(file.size + 1)])))

    def check(self) -> list[Finding]:
        """All that `verify` finds odd; IntegrityError where anything is wrong."""
        return raise_on_errors(IntegrityError, [one for one in self.verify() if isinstance(one, Finding)])

    def check_documents(self) -> None:
        """IntegrityError: the files for other tools do not say what the manifest says, or one is out of its place."""
        raise_on_errors(
            IntegrityError, [*find_misplaced_files(self.manifest), *validate_documents(self.manifest, self.read_file)]
        )

    def verify(self) -> Iterator[File | Finding]:
        """Check everything, wheels to their last member. Gives each file that is done, and what was found wrong or odd.

        Nothing is written but, of an archive, a few wheels at a time to a temporary folder.
        """
        told: set[str] = set()
        for one in _find_problems(self):
            if isinstance(one, File):
                yield one
            elif repr(one) not in told:
                told.add(repr(one))
                yield one


def _verify_chunks(file: File, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes; IntegrityError at the end where they are not what the manifest says."""
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
        why = text(
            "its sha256 is {found}, the manifest says {expected}", found=digest.hexdigest(), expected=file.sha256
        )
        raise make_archive_error(file.path, why, "hash-mismatch")


def _make_size_error(file: File, size: int) -> IntegrityError:
    why = text("it has {found} bytes, the manifest says {expected}", found=size, expected=file.size)
    return make_archive_error(file.path, why, "wrong-size")


def _make_missing_findings(paths: Iterable[str]) -> list[Finding]:
    return [
        error("file-missing", one, "{subject} is missing from the bundle.", COPY_AGAIN)
        for one in sorted(paths)[:_MAX_FINDINGS]
    ]


def _read_head(reader: ArchiveReader, path: Path) -> tuple[str, bytes, dict[str, bytes], tuple[str, int] | None]:
    """The folder at the top, manifest.json and the signatures, which stand at the beginning; then what comes next."""
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
    """The archive; where it is damaged and was cut into parts, it is said which of them are not the ones written."""
    with closing(VolumeReader(path)) as source:
        try:
            yield ArchiveReader(source)
        except IntegrityError as found:
            raise IntegrityError(*found.findings, *source.find_damaged_parts()) from found


def _read_archive_members(bundle: Bundle) -> Iterator[Member]:
    with _open_archive(bundle.path) as reader:
        folder, data, signatures, ahead = _read_head(reader, bundle.path)
        if (data, signatures) != (bundle.manifest_bytes, bundle.signatures):
            raise make_archive_error(bundle.path, text("it changed while it was read"))
        if folder != bundle.manifest.folder:
            raise make_archive_error(
                folder, text("the folder at the top should be called {name}", name=bundle.manifest.folder)
            )
        listed = {f"{folder}/{one.path}": one for one in bundle.manifest.files if one.carried}
        waiting = dict(listed)
        while ahead:
            name, size = ahead
            file = waiting.pop(name, None)
            if not file:
                again = name in listed or name.partition("/")[2] in (MANIFEST, *signatures)
                why = text("it stands there a second time") if again else text("the manifest does not know it")
                raise make_archive_error(name, why, "file-twice" if again else "not-listed")
            if size != file.size:
                raise _make_size_error(file, size)
            member = Member(file, _verify_chunks(file, reader.read_content(size)))
            yield member
            member.verify()
            ahead = reader.read_header()
        if waiting:
            raise IntegrityError(*_make_missing_findings(one.path for one in waiting.values()))


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
    paths = {one: folder / one for one in SIGNATURES if os.path.lexists(folder / one)}
    return _read_small_file(folder / MANIFEST, MAX_MANIFEST_SIZE), {
        one: _read_small_file(path, _MAX_SIGNATURE_SIZE) for one, path in paths.items()
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
    listed = {one.path: one for one in bundle.manifest.files if one.carried}
    known, ordered = {MANIFEST, *bundle.signatures, *listed}, sorted(listed)
    found: set[str] = set()
    bad: list[Finding] = []
    waiting = [""]
    while waiting:
        here = waiting.pop()
        for one in sorted(os.scandir(bundle.path / here), key=lambda one: one.name):
            path = here + one.name
            if path not in known and not is_parent_folder(ordered, path):
                path = get_listed_path(str(bundle.path), path)
            if one.is_dir(follow_symlinks=False) and is_parent_folder(ordered, path):
                waiting.append(path + "/")
            elif path in known and one.is_file(follow_symlinks=False):
                found.add(path)
            elif path in known or is_parent_folder(ordered, path):
                bad += make_archive_error(path, _SPECIAL_FILE, "not-a-file").findings
            else:
                bad.append(
                    error(
                        "not-listed",
                        path,
                        "{subject} does not belong to the bundle.",
                        "Take it out, or unpack the bundle again.",
                    )
                )
    bad += _make_missing_findings(known - found - {one.subject for one in bad})
    if bad:
        raise IntegrityError(*bad[:_MAX_FINDINGS])
    for file in listed.values():
        with _open_regular_file(bundle.path / file.path) as source:
            yield Member(file, _verify_chunks(file, iter(partial(source.read, CHUNK_SIZE), b"")))
