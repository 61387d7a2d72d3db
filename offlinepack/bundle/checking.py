"""What `verify` looks at beside the bytes: where files lie, sums, documents for other tools, wheels inside out."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from offlinepack.errors import Finding, IntegrityError, error
from offlinepack.ontarget import manifest as layout
from offlinepack.ontarget import signature
from offlinepack.ontarget.manifest import File, Manifest
from offlinepack.ontarget.verify import Bound, Places, check_folder, is_zipped, place_numbers, plans
from offlinepack.ontarget.wheel import Wheel, check_contents, read_wheel

from . import documents, stories

if TYPE_CHECKING:
    from .reading import Bundle
    from .writing import Member

_TOP = {
    layout.SUMS: "document",
    layout.README: "document",
    layout.README_ZH: "document",
    layout.SBOM: "document",
    layout.REHEARSAL: "document",
    layout.INSTALL_PY: "code",
    layout.INSTALL_SH: "code",
    layout.INSTALL_CMD: "code",
}
_FOLDERS = {
    layout.WHEELS: "wheel",
    layout.SDISTS: "sdist",
    layout.TOOLS: "tool",
    layout.BYTECODE: "bytecode",
    layout.ONTARGET: "code",
    layout.FILES: "included",
    layout.PROVENANCE: "document",
}
_DEEP = (layout.FILES, layout.BYTECODE, layout.PROVENANCE)
"""folders that may hold folders"""
_ASK = "Do not install from this bundle; ask who made it."


def kind_of(path: str) -> str | None:
    """The kind of what lies at this path in a bundle; None where nothing does."""
    folder, _, name = path.partition("/")
    if not name:
        return "document" if documents.serves_other_tools(path) else _TOP.get(path)
    return None if "/" in name and folder not in _DEEP else _FOLDERS.get(folder)


def verified(bundle: Bundle) -> Iterator[File | Finding]:
    """Each file when it is done, and whatever is found."""
    try:
        signature.own(bundle.data, list(bundle.signatures.items()))
    except IntegrityError as found:
        yield from found.findings
    yield from misplaced(bundle.manifest)
    if bundle.path.is_dir():
        yield from _of_folder(bundle.path, bundle.manifest, bundle.read)
    else:
        yield from _of_archive(bundle.manifest, bundle.members())


def misplaced(manifest: Manifest) -> Iterator[Finding]:
    """Files that a bundle does not hold, or not there."""
    for file in manifest.files:
        if kind_of(file.path) != file.kind:
            yield error(
                "file-misplaced",
                file.path,
                "{subject} ({kind}) is nothing that a bundle holds at this place.",
                _ASK,
                kind=file.kind,
            )


def _of_folder(path: Path, manifest: Manifest, read: Callable[[File], bytes]) -> Iterator[File | Finding]:
    sound = set()
    for checked in check_folder(path, manifest, contents=True):
        yield from checked.findings
        if checked.file:
            yield checked.file
            if not any(one.level == "error" for one in checked.findings):
                sound.add(checked.file.path)
    yield from of_documents(manifest, read, sound)


def of_documents(
    manifest: Manifest, read: Callable[[File], bytes], sound: Collection[str] | None = None
) -> Iterator[Finding]:
    """What the files for other tools say beside the manifest; of these paths only, where they are given."""
    for file in manifest.files:
        if sound is None or file.path in sound:
            try:
                if documents.serves_other_tools(file.path):
                    yield from documents.check(file.path, read(file), manifest)
                elif stories.is_read(file.path, manifest):
                    yield from stories.check(file, partial(read, file), manifest)
            except IntegrityError as found:
                yield from found.findings
            except FileNotFoundError:
                pass  # said already


def _of_archive(manifest: Manifest, members: Iterator[Member]) -> Iterator[File | Finding]:
    sums = hashlib.sha256(layout.sums(manifest.files)).hexdigest()
    if not any(one.path == layout.SUMS and one.sha256 == sums for one in manifest.files):
        yield error("sums-differ", layout.SUMS, "{subject} does not list what the manifest lists.", _ASK)
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder, ThreadPoolExecutor(2) as pool:
        wheels = _Wheels(Path(folder), pool, Bound(manifest))
        try:
            for member in members:
                try:
                    if is_zipped(member.file):
                        yield from wheels.take(member)
                    elif documents.serves_other_tools(member.file.path):
                        yield from documents.check(member.file.path, member.read(), manifest)
                    elif stories.is_read(member.file.path, manifest):
                        yield from stories.check(member.file, member.read, manifest)
                    else:
                        member.exhaust()
                except IntegrityError as found:
                    yield from found.findings
                yield member.file
        except IntegrityError as found:
            yield from found.findings
        yield from wheels.findings(manifest)


def is_wheel(file: File) -> bool:
    """Whether this is a wheel, to be installed or a tool."""
    return file.kind in ("wheel", "tool") and file.path.endswith(".whl")


class _Wheels:
    """The wheels of an archive: each unpacked in a thread, then compared with the plan and its peers."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor, bound: Bound) -> None:
        self._folder, self._pool, self._bound = folder, pool, bound
        self._waiting: deque[tuple[str, Path, Future[tuple[Wheel | None, list[Finding]]]]] = deque()
        self._sound: dict[str, Path] = {}
        self._named: dict[str, tuple[str, str]] = {}
        self._places: dict[str, Places] = {}

    def take(self, member: Member) -> Iterator[Finding]:
        """Begin with this one; gives what was found about former ones."""
        while len(self._waiting) > 2:
            yield from self._done()
        path = member.place(self._folder)
        self._waiting.append((member.file.path, path, self._pool.submit(_checked, path, self._bound)))

    def _done(self) -> Iterator[Finding]:
        name, path, future = self._waiting.popleft()
        wheel, findings = future.result()
        path.unlink()
        if wheel:
            # kept on disk, not in memory: a bundle may have many targets
            self._sound[name] = self._folder / str(len(self._sound))
            self._sound[name].write_bytes(pickle.dumps(wheel._replace(metadata=b"")))
            self._named[name], self._places[name] = (wheel.name, wheel.version), place_numbers(wheel)
        yield from findings

    def findings(self, manifest: Manifest) -> Iterator[Finding]:
        """What is left to be found: other names than the plan's, files that two distributions both bring."""
        while self._waiting:
            yield from self._done()
        yield from plans(manifest, self._named, self._places, lambda path: pickle.loads(self._sound[path].read_bytes()))


def _checked(path: Path, bound: Bound) -> tuple[Wheel | None, list[Finding]]:
    try:
        wheel = read_wheel(path)
    except IntegrityError as found:
        return None, list(found.findings)
    return wheel, [*wheel.notes, *(bound.admit(wheel) or check_contents(wheel))]
