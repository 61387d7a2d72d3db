"""A bundle on its way to the disk: bundle format 1 whole, from wheels, a plan and the target side as it is here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from offlinepack.errors import Finding, IntegrityError, SelectionError, Text, UsageError, error, text
from offlinepack.ontarget import manifest as layout
from offlinepack.ontarget.manifest import File, Manifest, Target
from offlinepack.store import StoredFile

from . import documents
from .archive import LARGEST, Writer
from .checking import kind_of
from .parts import CHUNK, Archive, Output, unreadable, unwritable

Content = bytes | Path | Iterable[bytes]
_EXECUTABLE = (layout.INSTALL_PY, layout.INSTALL_SH)
_UNPACKED, _RATIO = 512 << 20, 100
"""an archive may unpack to so many bytes, and beyond that to so many times its own size"""
_PACKED = {"wheel": True, "sdist": True, "tool": True, "bytecode": True, "code": False, "document": False}
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
            return place(folder, self.file.path, self.chunks())
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
    describe: Callable[[Manifest], Mapping[str, bytes]] | None = None,
) -> tuple[Manifest, tuple[Member, ...]]:
    """Bundle format 1 whole: the manifest, and each of its files with where its bytes are, in the archive's order.

    In `targets`, `file` of a distribution or tool is a bare file name; its folder is set here. `stored` holds them all.
    `extra`: path in the bundle -> bytes or file, for files/, bytecode/, provenance/, sbom.cdx.json, rehearsal.json.
    `urls`: file name -> its address on the public index; whatever else is an address stays out. `describe` is given the
    manifest of these files, and what it makes of them is added like `extra`.
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
    tools = {one.file for target in targets for one in target.tools} - installed
    places |= {one: f"{layout.TOOLS if one.endswith('.whl') else layout.SDISTS}/{one}" for one in tools}
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
    members += [member_of(path, content) for path, content in (extra or {}).items()]
    addresses = {places[one]: url for one, url in (urls or {}).items() if one in places}
    draft = Manifest(layout.FORMAT, name, version, sequence, install_to, placed, ())
    if describe:
        held = sorted((one.file for one in members), key=lambda one: one.path)
        members += [member_of(path, data) for path, data in describe(draft._replace(files=tuple(held))).items()]
    return completed(draft, members, addresses)


def completed(draft: Manifest, members: list[Member], urls: Mapping[str, str]) -> tuple[Manifest, tuple[Member, ...]]:
    """With the target side, the documents and the sums; `draft` lists no files yet, `urls`: path -> address."""
    listed = draft._replace(files=tuple(member.file for member in members))
    members += [member_of(path, data) for path, data in (*_code(), *documents.write(listed, urls).items())]
    members.append(member_of(layout.SUMS, layout.sums(member.file for member in members)))
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


def member_of(path: str, content: bytes | Path) -> Member:
    """What lies at this path of a bundle, from its bytes or a file on disk."""
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
        if is_bomb(manifest, output.size):
            raise UsageError(_too_hollow(manifest))
    return output.archive


def unpacked_size(manifest: Manifest) -> int:
    """Bytes of all files that lie in the archive."""
    return sum(one.size for one in manifest.files if one.carried)


def is_bomb(manifest: Manifest, packed: int) -> bool:
    """Whether an archive of so many bytes would unpack to more than any reader takes."""
    return unpacked_size(manifest) > _UNPACKED + _RATIO * packed


def _too_hollow(manifest: Manifest) -> Finding:
    largest = max((one for one in manifest.files if one.carried), key=lambda one: one.size)
    return error(
        "too-hollow",
        largest.path,
        "{subject} is nearly all the same byte: every reader would take the packed bundle for a bomb, and refuse it.",
        "Compress that file yourself before you include it.",
    )


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except OSError as failed:
        raise unreadable(path, failed) from failed


def place(folder: Path, path: str, chunks: Iterable[bytes]) -> Path:
    """Make this file below `folder`: never over another one, never through a link. OSError where that fails."""
    there = folder / path
    there.parent.mkdir(exist_ok=True, parents=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(there, flags, 0o755 if path in _EXECUTABLE else 0o644), "wb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
    return there
