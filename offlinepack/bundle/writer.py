"""Assemble and write a bundle: manifest, members, documents, sums and the target side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path

from offlinepack.bundle.archive import MAX_FILE_SIZE, ArchiveWriter
from offlinepack.bundle.documents import make_documents
from offlinepack.bundle.layout import EXECUTABLE_FILES, INSTALL_CMD, INSTALL_SH, Member, get_kind, make_member
from offlinepack.bundle.volumes import Archive, VolumeWriter
from offlinepack.errors import Finding, IntegrityError, SelectionError, Text, UsageError, error, text
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
    parse_manifest,
    serialize_manifest,
)
from offlinepack.ontarget.paths import find_path_problem, fold_path
from offlinepack.store import StoredFile

_MAX_UNPACKED_SIZE, _MAX_RATIO = 512 << 20, 100
"""an archive may unpack to so many bytes, and beyond that to so many times its own size"""

_COMPRESSED_KINDS = {"wheel": True, "sdist": True, "tool": True, "bytecode": True, "code": False, "document": False}
"""kind -> whether it is compressed already; the others are looked at"""


class StoredFileDamagedError(IntegrityError):
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
    places = {one: f"{WHEELS if one.endswith('.whl') else SDISTS}/{one}" for one in installed}
    tools = {one.file for target in targets for one in target.tools} - installed
    places |= {one: f"{TOOLS if one.endswith('.whl') else SDISTS}/{one}" for one in tools}
    placed = tuple(
        target._replace(
            install=tuple(one._replace(file=places[one.file]) for one in target.install),
            tools=tuple(one._replace(file=places[one.file]) for one in target.tools),
        )
        for target in targets
    )
    members = [
        Member(File(place, kept[one].size, kept[one].sha256, get_kind(place) or "", True), kept[one].path)
        for one, place in places.items()
    ]
    members += [make_member(path, content) for path, content in (extra or {}).items()]
    addresses = {places[one]: url for one, url in (urls or {}).items() if one in places}
    draft = Manifest(FORMAT, name, version, sequence, install_to, placed, ())
    if describe:
        held = sorted((one.file for one in members), key=lambda one: one.path)
        members += [make_member(path, data) for path, data in describe(draft._replace(files=tuple(held))).items()]
    return complete_bundle(draft, members, addresses)


def complete_bundle(
    draft: Manifest, members: list[Member], urls: Mapping[str, str]
) -> tuple[Manifest, tuple[Member, ...]]:
    """With the target side, the documents and the sums; `draft` lists no files yet, `urls`: path -> address."""
    listed = draft._replace(files=tuple(member.file for member in members))
    members += [make_member(path, data) for path, data in (*_read_target_side(), *make_documents(listed, urls).items())]
    members.append(make_member(SUMS, format_sums(member.file for member in members)))
    members.sort(key=lambda member: member.file.path)
    if refused := list(_find_unpackable_files([member.file for member in members])):
        raise UsageError(*refused)
    whole = draft._replace(files=tuple(member.file for member in members))
    return parse_manifest(serialize_manifest(whole)), tuple(members)


def _find_unpackable_files(files: Sequence[File]) -> Iterator[Finding]:
    """What no bundle can hold: such a name, two names that differ by case only, such a size."""
    names: dict[str, str] = {}
    for one in files:
        why: Text | str = find_path_problem(one.path)
        if one.size > MAX_FILE_SIZE:
            why = text("it is larger than 8 GiB")
        if (other := names.setdefault(fold_path(one.path), one.path)) != one.path:
            why = text("{other} has the same name where case is ignored", other=other)
        if why:
            yield error(
                "cannot-be-packed",
                one.path,
                "{subject} cannot lie in a bundle: {why}.",
                "Rename it, cut it, or leave it out.",
                why=why,
            )


def _read_target_side() -> Iterator[tuple[str, bytes]]:
    """The target side, byte for byte as it is installed here; its starters lie at the top of the bundle."""
    for one in resources.files("offlinepack.ontarget").iterdir():
        if one.name in (INSTALL_PY, INSTALL_SH, INSTALL_CMD):
            yield one.name, one.read_bytes()
        elif one.name.endswith((".py", ".json")):
            yield f"{ONTARGET}/{one.name}", one.read_bytes()


def write_bundle(
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
    signed = signatures if isinstance(signatures, Mapping) else dict(zip(SIGNATURES, signatures, strict=False))
    with VolumeWriter(path, split) as output:
        writer = ArchiveWriter(output.put)

        def add(name: str, content: bytes) -> None:
            writer.add_file(f"{manifest.folder}/{name}", len(content), 0o644, [content], packed=False)

        add(MANIFEST, serialize_manifest(manifest))
        for name in sorted(signed, key=SIGNATURES.index):
            add(name, signed[name])
        for member, file in zip(members, (one for one in manifest.files if one.carried), strict=True):
            if member.file != file:
                raise ValueError(f"{member.file.path} stands where the manifest has {file.path}")
            name, mode = f"{manifest.folder}/{file.path}", 0o755 if file.path in EXECUTABLE_FILES else 0o644
            found = writer.add_file(name, file.size, mode, member.read_chunks(), _COMPRESSED_KINDS.get(file.kind))
            if found != (file.size, file.sha256):
                raise StoredFileDamagedError(member, found[1])
        writer.close()
        if is_bomb(manifest, output.size):
            raise UsageError(_make_bomb_finding(manifest))
    return output.archive


def compute_unpacked_size(manifest: Manifest) -> int:
    """Bytes of all files that lie in the archive."""
    return sum(one.size for one in manifest.files if one.carried)


def is_bomb(manifest: Manifest, packed: int) -> bool:
    """Whether an archive of so many bytes would unpack to more than any reader takes."""
    return compute_unpacked_size(manifest) > _MAX_UNPACKED_SIZE + _MAX_RATIO * packed


def _make_bomb_finding(manifest: Manifest) -> Finding:
    largest = max((one for one in manifest.files if one.carried), key=lambda one: one.size)
    return error(
        "too-hollow",
        largest.path,
        "{subject} is nearly all the same byte: every reader would take the packed bundle for a bomb, and refuse it.",
        "Compress that file yourself before you include it.",
    )
