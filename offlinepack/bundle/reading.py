"""A bundle that lies on the disk, as tar.gz, in parts or unpacked: read strictly.

Nothing is read but regular files that the manifest names, each with the size and the hash that it names.
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

from offlinepack.errors import BundleError, Finding, IntegrityError, UsageError, error, raise_all, text
from offlinepack.ontarget import manifest as layout
from offlinepack.ontarget.manifest import File, Manifest, Target
from offlinepack.ontarget.verify import holds, known_as
from offlinepack.ontarget.wheel import Wheel, read_wheel

from .archive import Reader, not_a_bundle, unsound
from .checking import is_wheel, misplaced, of_documents, verified
from .parts import AGAIN, CHUNK, Input, unreadable, unwritable
from .writing import Member, is_bomb, place, unpacked_size, write

_LONGEST_SIGNATURE = 64 << 10
_LONGEST_LIST = 8 << 20
"""bytes of a wheel's end that its list of files is looked for in"""
_DATA = re.compile(r"\A[^/]+\.data/[^/]+/")
_SHOWN = 50
"""findings of one kind that are told"""


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`: a tar.gz, the parts that it was cut into (any of them, or their common name), its folder.

    Only the manifest and the signatures are read, strictly; the rest is checked when it is unpacked or verified.
    BundleError: this is none, or a newer one. IntegrityError: it is damaged, or not as a bundle is made.
    """
    packed = None
    try:
        if path.is_dir():
            data, signatures = _first_of_folder(path)
        else:
            with _reading(path) as reader:
                _, data, signatures, _ = _first(reader, path)
                packed = reader.size
    except FileNotFoundError as failed:
        raise BundleError(
            error("no-such-bundle", path, "There is no {subject}.", "Name the bundle's tar.gz or its unpacked folder.")
        ) from failed
    except OSError as failed:
        raise unreadable(path, failed) from failed
    manifest = layout.read(data)
    if packed is not None and is_bomb(manifest, packed):
        size = unpacked_size(manifest)
        why = text("its {packed} bytes would unpack to {size}: no honest bundle does", packed=packed, size=size)
        raise unsound(path, why, "archive-bomb")
    return Bundle(path, manifest, data, signatures)


def manifest_of(path: Path) -> Manifest:
    """The manifest of a bundle, of its folder, or of a manifest.json that lies alone."""
    if path.suffix != ".json" or path.is_dir():
        return open_bundle(path).manifest
    try:
        return layout.read(_small(path, layout.MOST_BYTES))
    except OSError as failed:
        raise unreadable(path, failed) from failed


@dataclass(frozen=True)
class Bundle:
    """A bundle on the disk whose manifest was read; its files are checked whenever they are read."""

    path: Path
    manifest: Manifest
    data: bytes = field(repr=False)
    """manifest.json as it is: what a signature signs"""
    signatures: Mapping[str, bytes] = field(repr=False)
    """those inside: name -> bytes"""

    def members(self) -> Iterator[Member]:
        """Every file once. Use each one's content before the next is asked for.

        Content raises IntegrityError at its end where it is not what the manifest says. So does the iterator, for what
        is missing, added, damaged or cut short.
        """
        try:
            yield from _of_folder(self) if self.path.is_dir() else _of_archive(self)
        except OSError as failed:
            raise unreadable(self.path, failed) from failed

    def unpack(self, folder: Path, target: Target | None = None) -> Iterator[File]:
        """Write the bundle's files into `folder`, which must not exist yet; each is given back when it is there.

        With `target`, files that only other targets install are checked and not written.
        """
        others = {one.path for each in self.manifest.targets for one in self.manifest.files_of(each)}
        others -= {one.path for one in self.manifest.files_of(target)} if target else others
        try:
            folder.mkdir()
            for name, content in {layout.MANIFEST: self.data, **self.signatures}.items():
                place(folder, name, [content])
        except OSError as failed:
            raise unwritable(folder, failed) from failed
        for member in self.members():
            if member.file.path in others:
                member.exhaust()
            else:
                member.place(folder)
            yield member.file

    def wheels(self, wanted: Collection[str] | None = None) -> Iterator[tuple[File, Wheel]]:
        """The wheels (those at the paths `wanted`), strictly read. The file at Wheel.path is there until the next one.

        Raises IntegrityError where one is not sound.
        """
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            for member in self.members():
                if is_wheel(member.file) and (wanted is None or member.file.path in wanted):
                    path = member.place(Path(folder))
                    yield member.file, read_wheel(path)
                    path.unlink()

    def listings(self, wanted: Collection[str]) -> Iterator[list[tuple[str, int]]]:
        """Of each of these wheels the files and their sizes, as its own list says; nothing is written."""
        for member in self.members():
            if member.file.path in wanted:
                tail = bytearray()
                for chunk in member.chunks():
                    tail += chunk
                    if len(tail) > 2 * _LONGEST_LIST:
                        del tail[:-_LONGEST_LIST]
                # a wheel without a list that can be read is told of when it is checked
                with suppress(zipfile.BadZipFile, ValueError), zipfile.ZipFile(io.BytesIO(tail)) as archive:
                    yield [(_DATA.sub("", one.filename), one.file_size) for one in archive.infolist()]

    def embed(self, signature: bytes) -> None:
        """Put a second signature in, and change nothing else; UsageError where there is one."""
        name = layout.SIGNATURES[1]
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
                place(self.path, name, [signature])
            except OSError as failed:
                raise unwritable(self.path / name, failed) from failed
        else:
            with closing(Input(self.path)) as source:
                base, split = source.base, source.size_of_parts
            write(base, self.manifest, self.members(), {**self.signatures, name: signature}, split)

    def read(self, file: File) -> bytes:
        """The bytes of one small file."""
        if not self.path.is_dir():
            return next(member.read() for member in self.members() if member.file == file)
        with _regular(self.path / file.path) as source:
            return b"".join(_checked(file, iter([source.read(file.size + 1)])))

    def check(self) -> list[Finding]:
        """All that `verify` finds odd; IntegrityError where anything is wrong."""
        return raise_all(IntegrityError, [one for one in self.verify() if isinstance(one, Finding)])

    def check_plan(self) -> None:
        """IntegrityError: the files for other tools do not say what the manifest says, or one is out of its place."""
        raise_all(IntegrityError, [*misplaced(self.manifest), *of_documents(self.manifest, self.read)])

    def verify(self) -> Iterator[File | Finding]:
        """Check everything, wheels to their last member. Gives each file that is done, and what was found wrong or odd.

        Nothing is written but, of an archive, a few wheels at a time to a temporary folder.
        """
        told: set[str] = set()
        for one in verified(self):
            if isinstance(one, File):
                yield one
            elif repr(one) not in told:
                told.add(repr(one))
                yield one


def _checked(file: File, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes; IntegrityError at the end where they are not what the manifest says."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > file.size:
            break
        digest.update(chunk)
        yield chunk
    if size != file.size:
        raise _wrong_size(file, size)
    if digest.hexdigest() != file.sha256:
        why = text(
            "its sha256 is {found}, the manifest says {expected}", found=digest.hexdigest(), expected=file.sha256
        )
        raise unsound(file.path, why, "hash-mismatch")


def _wrong_size(file: File, size: int) -> IntegrityError:
    why = text("it has {found} bytes, the manifest says {expected}", found=size, expected=file.size)
    return unsound(file.path, why, "wrong-size")


def _missing(paths: Iterable[str]) -> list[Finding]:
    return [
        error("file-missing", one, "{subject} is missing from the bundle.", AGAIN) for one in sorted(paths)[:_SHOWN]
    ]


# an archive


def _first(reader: Reader, path: Path) -> tuple[str, bytes, dict[str, bytes], tuple[str, int] | None]:
    """The folder at the top, manifest.json and the signatures, which stand at the beginning; then what comes next."""
    ahead = reader.next()
    if not ahead or not re.fullmatch(r"[^/]+/manifest\.json", ahead[0]):
        raise not_a_bundle(path)
    folder = ahead[0].partition("/")[0]
    if ahead[1] > layout.MOST_BYTES:
        raise unsound(ahead[0], _TOO_LARGE)
    data = b"".join(reader.content(ahead[1]))
    signatures: dict[str, bytes] = {}
    ahead = reader.next()
    while ahead and (name := ahead[0].removeprefix(folder + "/")) in layout.SIGNATURES and name not in signatures:
        if ahead[1] > _LONGEST_SIGNATURE:
            raise unsound(ahead[0], _TOO_LARGE)
        signatures[name] = b"".join(reader.content(ahead[1]))
        ahead = reader.next()
    return folder, data, signatures, ahead


_TOO_LARGE = text("it is larger than such a file can be")
_NO_FILE = text("it is a link or another special file")


@contextmanager
def _reading(path: Path) -> Iterator[Reader]:
    """The archive; where it is damaged and was cut into parts, it is said which of them are not the ones written."""
    with closing(Input(path)) as source:
        try:
            yield Reader(source)
        except IntegrityError as found:
            raise IntegrityError(*found.findings, *source.blame()) from found


def _of_archive(bundle: Bundle) -> Iterator[Member]:
    with _reading(bundle.path) as reader:
        folder, data, signatures, ahead = _first(reader, bundle.path)
        if (data, signatures) != (bundle.data, bundle.signatures):
            raise unsound(bundle.path, text("it changed while it was read"))
        if folder != bundle.manifest.folder:
            raise unsound(folder, text("the folder at the top should be called {name}", name=bundle.manifest.folder))
        listed = {f"{folder}/{one.path}": one for one in bundle.manifest.files if one.carried}
        waiting = dict(listed)
        while ahead:
            name, size = ahead
            file = waiting.pop(name, None)
            if not file:
                again = name in listed or name.partition("/")[2] in (layout.MANIFEST, *signatures)
                why = text("it stands there a second time") if again else text("the manifest does not know it")
                raise unsound(name, why, "file-twice" if again else "not-listed")
            if size != file.size:
                raise _wrong_size(file, size)
            member = Member(file, _checked(file, reader.content(size)))
            yield member
            member.exhaust()
            ahead = reader.next()
        if waiting:
            raise IntegrityError(*_missing(one.path for one in waiting.values()))


# a folder: nothing but folders and regular files, and of these the ones that the manifest names


def _first_of_folder(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    if not os.path.lexists(folder / layout.MANIFEST):
        raise BundleError(
            error(
                "not-a-bundle",
                folder,
                "{subject} is no bundle: it has no manifest.json.",
                "Name the bundle's tar.gz, or the folder that install.py lies in.",
            )
        )
    paths = {one: folder / one for one in layout.SIGNATURES if os.path.lexists(folder / one)}
    return _small(folder / layout.MANIFEST, layout.MOST_BYTES), {
        one: _small(path, _LONGEST_SIGNATURE) for one, path in paths.items()
    }


def _small(path: Path, most: int) -> bytes:
    with _regular(path) as source:
        data = source.read(most + 1)
    if len(data) > most:
        raise unsound(path, _TOO_LARGE)
    return data


def _regular(path: Path) -> BinaryIO:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise unsound(path, _NO_FILE, "not-a-file")
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb")


def _of_folder(bundle: Bundle) -> Iterator[Member]:
    listed = {one.path: one for one in bundle.manifest.files if one.carried}
    known, ordered = {layout.MANIFEST, *bundle.signatures, *listed}, sorted(listed)
    found: set[str] = set()
    bad: list[Finding] = []
    waiting = [""]
    while waiting:
        here = waiting.pop()
        for one in sorted(os.scandir(bundle.path / here), key=lambda one: one.name):
            path = here + one.name
            if path not in known and not holds(ordered, path):
                path = known_as(str(bundle.path), path)
            if one.is_dir(follow_symlinks=False) and holds(ordered, path):
                waiting.append(path + "/")
            elif path in known and one.is_file(follow_symlinks=False):
                found.add(path)
            elif path in known or holds(ordered, path):
                bad += unsound(path, _NO_FILE, "not-a-file").findings
            else:
                bad.append(
                    error(
                        "not-listed",
                        path,
                        "{subject} does not belong to the bundle.",
                        "Take it out, or unpack the bundle again.",
                    )
                )
    bad += _missing(known - found - {one.subject for one in bad})
    if bad:
        raise IntegrityError(*bad[:_SHOWN])
    for file in listed.values():
        with _regular(bundle.path / file.path) as source:
            yield Member(file, _checked(file, iter(partial(source.read, CHUNK), b"")))
