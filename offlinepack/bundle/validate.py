"""Validate the content of a bundle: kinds, sums, documents for other tools, and every wheel."""

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

from offlinepack.bundle.document_schema import check_schema, has_schema
from offlinepack.bundle.documents import check_document
from offlinepack.bundle.layout import get_kind, is_read_by_other_tools
from offlinepack.errors import Finding, IntegrityError, error
from offlinepack.ontarget.manifest import SUMS, File, Manifest, format_sums
from offlinepack.ontarget.verify import (
    PathKeys,
    UnpackBudget,
    check_folder,
    check_plans,
    check_record,
    must_be_wheel,
    pack_path_keys,
)
from offlinepack.ontarget.wheel import check_contents, read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel

if TYPE_CHECKING:
    from offlinepack.bundle.layout import Member


_DO_NOT_INSTALL = "Do not install from this bundle; ask who made it."


def find_misplaced_files(manifest: Manifest) -> Iterator[Finding]:
    """Yield a finding for each file that a bundle cannot hold at its path."""
    for file in manifest.files:
        if get_kind(file.path) != file.kind:
            yield error(
                "file-misplaced",
                file.path,
                "{subject} ({kind}) is nothing that a bundle holds at this place.",
                _DO_NOT_INSTALL,
                kind=file.kind,
            )


def validate_folder(path: Path, manifest: Manifest, read: Callable[[File], bytes]) -> Iterator[File | Finding]:
    """Check an unpacked bundle; yield each checked file and each finding."""
    sound = set()
    for checked in check_folder(path, manifest, contents=True):
        yield from checked.findings
        if checked.file:
            yield checked.file
            if not any(finding.level == "error" for finding in checked.findings):
                sound.add(checked.file.path)
    yield from validate_documents(manifest, read, sound)


def validate_documents(
    manifest: Manifest, read: Callable[[File], bytes], sound: Collection[str] | None = None
) -> Iterator[Finding]:
    """Compare the documents for other tools with the manifest (only those in `sound`, if given)."""
    for file in manifest.files:
        if sound is None or file.path in sound:
            try:
                if is_read_by_other_tools(file.path):
                    yield from check_document(file.path, read(file), manifest)
                elif has_schema(file.path, manifest):
                    yield from check_schema(file, partial(read, file), manifest)
            except IntegrityError as failure:
                yield from failure.findings
            except FileNotFoundError:
                pass  # check_folder has reported it


def validate_archive(manifest: Manifest, members: Iterator[Member]) -> Iterator[File | Finding]:
    """Check the members of an archive; yield each checked file and each finding."""
    sums = hashlib.sha256(format_sums(manifest.files)).hexdigest()
    if not any(file.path == SUMS and file.sha256 == sums for file in manifest.files):
        yield error("sums-differ", SUMS, "{subject} does not list what the manifest lists.", _DO_NOT_INSTALL)
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder, ThreadPoolExecutor(2) as pool:
        wheels = _WheelValidator(Path(folder), pool, UnpackBudget(manifest))
        try:
            for member in members:
                try:
                    if must_be_wheel(member.file):
                        yield from wheels.submit(member)
                    elif is_read_by_other_tools(member.file.path):
                        yield from check_document(member.file.path, member.read(), manifest)
                    elif has_schema(member.file.path, manifest):
                        yield from check_schema(member.file, member.read, manifest)
                    else:
                        member.verify()
                except IntegrityError as failure:
                    yield from failure.findings
                yield member.file
        except IntegrityError as failure:
            yield from failure.findings
        yield from wheels.finish(manifest)


class _WheelValidator:
    """Unpack each wheel of an archive in a thread, then compare it with the plan and the other wheels."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor, bound: UnpackBudget) -> None:
        self._folder, self._pool, self._budget = folder, pool, bound
        self._pending: deque[tuple[str, Path, Future[tuple[CheckedWheel | None, list[Finding]]]]] = deque()
        self._sound_paths: dict[str, Path] = {}
        self._identities: dict[str, tuple[str, str]] = {}
        self._path_keys: dict[str, PathKeys] = {}

    def submit(self, member: Member) -> Iterator[Finding]:
        """Start the check of a wheel; yield findings about earlier ones."""
        while len(self._pending) > 2:
            yield from self._collect()
        path = member.write_file(self._folder)
        self._pending.append(
            (member.file.path, path, self._pool.submit(_validate_wheel, path, member.file, self._budget))
        )

    def _collect(self) -> Iterator[Finding]:
        name, path, future = self._pending.popleft()
        wheel, findings = future.result()
        path.unlink()
        if wheel:
            # on disk, not in memory: a bundle can have many targets
            self._sound_paths[name] = self._folder / str(len(self._sound_paths))
            self._sound_paths[name].write_bytes(pickle.dumps(wheel._replace(metadata=b"")))
            self._identities[name], self._path_keys[name] = (wheel.name, wheel.version), pack_path_keys(wheel)
        yield from findings

    def finish(self, manifest: Manifest) -> Iterator[Finding]:
        """Yield the remaining findings: names that differ from the plan, files that two distributions contain."""
        while self._pending:
            yield from self._collect()
        yield from check_plans(
            manifest, self._identities, self._path_keys, lambda path: pickle.loads(self._sound_paths[path].read_bytes())
        )


def _validate_wheel(path: Path, file: File, budget: UnpackBudget) -> tuple[CheckedWheel | None, list[Finding]]:
    try:
        wheel = read_wheel(path)
    except IntegrityError as failure:
        return None, list(failure.findings)
    return wheel, [*wheel.notes, *check_record(file, wheel), *(budget.admit(wheel) or check_contents(wheel))]
