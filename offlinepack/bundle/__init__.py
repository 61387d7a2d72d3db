"""The bundle: written as a reproducible tar.gz, read strictly from a tar.gz or its unpacked folder; merged.

Nothing is read but regular files that the manifest names, each with the size and the hash that it names. What the
files are called and what the manifest says is ontarget/manifest.py's part; the archive's form is archive.py's.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from offlinepack.errors import (
    BundleError,
    Finding,
    IntegrityError,
    SelectionError,
    Text,
    UsageError,
    error,
    text,
)
from offlinepack.ontarget import manifest as layout
from offlinepack.ontarget.manifest import File, Manifest, Target
from offlinepack.ontarget.wheel import Wheel, read_wheel
from offlinepack.store import StoredFile

from . import documents
from .archive import LARGEST, Reader, Writer, not_a_bundle, unsound
from .checking import is_wheel, kind_of, verified
from .parts import AGAIN, CHUNK, Archive, Input, Output, Part, unreadable, unwritable

__all__ = [
    "Archive",
    "Bundle",
    "Content",
    "Member",
    "Part",
    "StoredFileDamaged",
    "assemble",
    "manifest_of",
    "open_bundle",
    "write",
]

Content = bytes | Path | Iterable[bytes]
_EXECUTABLE = (layout.INSTALL_PY, layout.INSTALL_SH)
_LONGEST_SIGNATURE = 64 << 10
_SHOWN = 50
"""findings of one kind that are told"""
_PACKED = {"wheel": True, "sdist": True, "tool": True, "code": False, "document": False}
"""kind -> whether it is compressed already; the others are looked at"""


@dataclass(frozen=True)
class Member:
    """One file of a bundle: of one that is to be written, or of one that is read."""

    file: File
    """what the manifest says of it"""
    content: Content
    """its bytes, or the file on disk that has them"""

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        if isinstance(self.content, Path):
            return _read(self.content)
        return iter([self.content] if isinstance(self.content, bytes) else self.content)

    def read(self) -> bytes:
        """The bytes, all of them."""
        return b"".join(self.chunks())

    def exhaust(self) -> None:
        """Read it to its end, which is where it is checked."""
        for _ in self.chunks():
            pass

    def place(self, folder: Path) -> Path:
        """Write it below `folder`: never over another file, never through a link."""
        try:
            return _place(folder, self.file.path, self.chunks())
        except OSError as failed:
            raise unwritable(folder / self.file.path, failed) from failed


class StoredFileDamaged(IntegrityError):
    """A file on disk is no longer what its hash says."""

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
        """what it should be"""


# ------------------------------------------------------------------------------------------------------ writing


def assemble(
    name: str,
    version: str | None,
    targets: Sequence[Target],
    stored: Iterable[StoredFile],
    *,
    sequence: int | None = None,
    install_to: str | None = None,
    extra: Mapping[str, bytes | Path] | None = None,
    urls: Mapping[str, str] | None = None,
) -> tuple[Manifest, tuple[Member, ...]]:
    """Bundle format 1 whole: the manifest, and each of its files with where its bytes are, in the archive's order.

    In `targets`, `file` of a distribution or tool is a bare file name; its folder is set here. `stored` holds them all.
    `extra`: path in the bundle -> bytes or file, for files/, bytecode/, provenance/, sbom.cdx.json, rehearsal.json.
    `urls`: file name -> its address on the public index; whatever else is an address stays out.
    Raises SelectionError where two files want one name, UsageError for a path or size that no bundle can hold.
    """
    kept: dict[str, StoredFile] = {}
    for one in stored:
        if kept.setdefault(one.name, one).sha256 != one.sha256:
            raise SelectionError(
                error(
                    "same-name-other-bytes",
                    one.name,
                    "Two different files are both called {subject}: sha256 {first} and {second}.",
                    "Make one bundle for each target: {target} in the name of -o.",
                    first=kept[one.name].sha256,
                    second=one.sha256,
                )
            )
    installed = {one.file for target in targets for one in target.install}
    places = {one: f"{layout.WHEELS if one.endswith('.whl') else layout.SDISTS}/{one}" for one in installed}
    places |= {one.file: f"{layout.TOOLS}/{one.file}" for t in targets for one in t.tools if one.file not in places}
    placed = tuple(
        target._replace(
            install=tuple(one._replace(file=places[one.file]) for one in target.install),
            tools=tuple(one._replace(file=places[one.file]) for one in target.tools),
        )
        for target in targets
    )
    members = [
        Member(File(place, kept[one].size, kept[one].sha256, kind_of(place) or "", True), kept[one].path)
        for one, place in places.items()
    ]
    members += [_member(path, content) for path, content in (*_code(), *(extra or {}).items())]
    files = {member.file.path: member.file for member in members}
    addresses = {places[one]: url for one, url in (urls or {}).items() if one in places}
    draft = Manifest(layout.FORMAT, name, version, sequence, install_to, placed, tuple(files.values()))
    members += [_member(path, data) for path, data in documents.write(draft, addresses).items()]
    members.append(_member(layout.SUMS, layout.sums(member.file for member in members)))
    members.sort(key=lambda member: member.file.path)
    if refused := list(_refused([member.file for member in members])):
        raise UsageError(*refused)
    whole = draft._replace(files=tuple(member.file for member in members))
    return layout.read(layout.write(whole)), tuple(members)


def _refused(files: Sequence[File]) -> Iterator[Finding]:
    """What no bundle can hold: such a name, two names that differ by case only, such a size."""
    names: dict[str, str] = {}
    for one in files:
        why: Text | str = layout.bad_path(one.path)
        if one.size > LARGEST:
            why = text("it is larger than 8 GiB")
        if (other := names.setdefault(layout.folded(one.path), one.path)) != one.path:
            why = text("{other} has the same name where case is ignored", other=other)
        if why:
            yield error(
                "cannot-be-packed",
                one.path,
                "{subject} cannot lie in a bundle: {why}.",
                "Rename it, cut it, or leave it out.",
                why=why,
            )


def _member(path: str, content: bytes | Path) -> Member:
    kind = kind_of(path)
    if not kind:
        raise ValueError(f"{path} is no place in a bundle")
    if isinstance(content, bytes):
        return Member(File(path, len(content), hashlib.sha256(content).hexdigest(), kind, True), content)
    try:
        return Member(File(path, *layout.hash_file(content), kind, True), content)
    except OSError as failed:
        raise unreadable(content, failed) from failed


def _code() -> Iterator[tuple[str, bytes]]:
    """The target side, byte for byte as it is installed here; its starters lie at the top of the bundle."""
    for one in resources.files("offlinepack.ontarget").iterdir():
        if one.name in (layout.INSTALL_PY, layout.INSTALL_SH, layout.INSTALL_CMD):
            yield one.name, one.read_bytes()
        elif one.name.endswith((".py", ".json")):
            yield f"{layout.ONTARGET}/{one.name}", one.read_bytes()


def write(
    path: Path,
    manifest: Manifest,
    members: Iterable[Member],
    signatures: Mapping[str, bytes] | Sequence[bytes] = (),
    split: int | None = None,
) -> Archive:
    """Write the bundle to `path`, all of it or nothing, and `<path>.sha256` beside it.

    `members` come in the manifest's order. Raises StoredFileDamaged where a file on disk is not what it was, and
    ComputerError: no space, no permission, no such folder. `split`: bytes of a part; they are `<path>.001` and so on.
    """
    signed = signatures if isinstance(signatures, Mapping) else dict(zip(layout.SIGNATURES, signatures, strict=False))
    with Output(path, split) as output:
        writer = Writer(output.put)

        def add(name: str, content: bytes) -> None:
            writer.add(f"{manifest.folder}/{name}", len(content), 0o644, [content], packed=False)

        add(layout.MANIFEST, layout.write(manifest))
        for name in sorted(signed, key=layout.SIGNATURES.index):
            add(name, signed[name])
        for member, file in zip(members, (one for one in manifest.files if one.carried), strict=True):
            if member.file != file:
                raise ValueError(f"{member.file.path} stands where the manifest has {file.path}")
            name, mode = f"{manifest.folder}/{file.path}", 0o755 if file.path in _EXECUTABLE else 0o644
            found = writer.add(name, file.size, mode, member.chunks(), _PACKED.get(file.kind))
            if found != (file.size, file.sha256):
                raise StoredFileDamaged(member, found[1])
        writer.close()
    return output.archive


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except OSError as failed:
        raise unreadable(path, failed) from failed


# ------------------------------------------------------------------------------------------------------ reading


def open_bundle(path: Path) -> Bundle:
    """The bundle at `path`: a tar.gz, the parts that it was cut into (any of them, or their common name), its folder.

    Only the manifest and the signatures are read, strictly; the rest is checked when it is unpacked or verified.
    BundleError: this is none, or a newer one. IntegrityError: it is damaged, or not as a bundle is made.
    """
    try:
        if path.is_dir():
            data, signatures = _first_of_folder(path)
        else:
            with _reading(path) as reader:
                _, data, signatures, _ = _first(reader, path)
    except FileNotFoundError as failed:
        advice = "Name the bundle's tar.gz or its unpacked folder."
        raise BundleError(error("no-such-bundle", path, "There is no {subject}.", advice)) from failed
    except OSError as failed:
        raise unreadable(path, failed) from failed
    return Bundle(path, layout.read(data), data, signatures)


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
                _place(folder, name, [content])
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

    def read(self, file: File) -> bytes:
        """The bytes of one small file."""
        if not self.path.is_dir():
            return next(member.read() for member in self.members() if member.file == file)
        with _regular(self.path / file.path) as source:
            return b"".join(_checked(file, iter([source.read(file.size + 1)])))

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


def _place(folder: Path, path: str, chunks: Iterable[bytes]) -> Path:
    there = folder / path
    there.parent.mkdir(exist_ok=True, parents=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(there, flags, 0o755 if path in _EXECUTABLE else 0o644), "wb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
    return there


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
    known = {layout.MANIFEST, *bundle.signatures, *listed}
    parents = {path[:at] for path in known for at, sign in enumerate(path) if sign == "/"}
    found: set[str] = set()
    bad: list[Finding] = []
    waiting = [""]
    while waiting:
        here = waiting.pop()
        for one in sorted(os.scandir(bundle.path / here), key=lambda one: one.name):
            path = here + one.name
            if path not in known and path not in parents:
                path = unicodedata.normalize("NFC", path)  # some file systems change the form
            if one.is_dir(follow_symlinks=False) and path in parents:
                waiting.append(path + "/")
            elif path in known and one.is_file(follow_symlinks=False):
                found.add(path)
            elif path in known or path in parents:
                bad += unsound(path, _NO_FILE, "not-a-file").findings
            else:
                advice = "Take it out, or unpack the bundle again."
                bad.append(error("not-listed", path, "{subject} does not belong to the bundle.", advice))
    bad += _missing(known - found - {one.subject for one in bad})
    if bad:
        raise IntegrityError(*bad[:_SHOWN])
    for file in listed.values():
        with _regular(bundle.path / file.path) as source:
            yield Member(file, _checked(file, iter(partial(source.read, CHUNK), b"")))
