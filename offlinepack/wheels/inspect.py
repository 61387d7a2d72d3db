"""Inspect a wheel once and cache the result in the store by its hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from offlinepack.errors import Finding
from offlinepack.native.needs import scan_wheel
from offlinepack.ontarget.destinations import find_clashes, get_source_path, iter_destinations
from offlinepack.ontarget.paths import find_windows_problem, fold_path
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.ontarget.wheel_model import CheckedWheel
from offlinepack.store import Store, StoredFile
from offlinepack.wheels.contents import WheelContents, collect_contents
from offlinepack.wheels.report import WheelReport

_CONTENTS_VERSION = 1
"""grows when another look finds something else in the same bytes"""


def inspect_contents(file: StoredFile, store: Store | None = None) -> WheelContents:
    """A stored wheel: from the store's facts where it was looked at before."""
    kept = store.get_cached(file.sha256, "look", _CONTENTS_VERSION) if store else None
    return (
        WheelContents.from_json(kept)
        if kept
        else _save_contents(read_wheel(file.path, filename=file.name), file, store)
    )


def _save_contents(wheel: CheckedWheel, file: StoredFile, store: Store | None) -> WheelContents:
    """The same of a wheel that was just read."""
    found = collect_contents(wheel)
    if store:
        store.set_cached(file.sha256, "look", found.to_json(), _CONTENTS_VERSION)
    return found


READER_VERSION = 3
"""changes when the strict reader finds something else in the same bytes"""

_ANY_ROOT = "*"
"""among the roots of a wheel that has to be looked at whatever lies beside it"""


def inspect_wheel(file: StoredFile, store: Store) -> WheelReport:
    """What is known of this wheel; IntegrityError with every reason where it is none.

    What was sound and unremarkable once is so for ever: the store remembers it, and its native code with it.
    """
    kept = store.get_cached(file.sha256, "wheel", READER_VERSION)
    if isinstance(kept, list) and kept[:1] == [file.name]:
        return WheelReport(file, kept[1], tuple(kept[2]))
    read = read_wheel(file.path, filename=file.name)
    header = re.split(b"\r?\n\r?\n", read.metadata, maxsplit=1)[0].decode("utf-8", "replace")
    found = WheelReport(file, header, tuple(sorted(_collect_roots(read))), read.notes)
    _save_contents(read, file, store)
    scan_wheel(file, store, {one.name: one for one in read.members})
    if not read.notes:
        store.set_cached(file.sha256, "wheel", [file.name, header, found.path_roots], READER_VERSION)
    return found


def _collect_roots(read: CheckedWheel) -> set[str]:
    roots = set()
    for system in ("linux", "windows") if read.scripts else ("linux",):
        for place, _, _ in iter_destinations(read, system):
            roots |= {"/".join(one.split("/", 2)[:2]) for one in {place, get_source_path(place)}}
            if find_windows_problem(place):
                roots.add(_ANY_ROOT)
    return {fold_path(one) for one in roots}


def find_file_clashes(of: Sequence[WheelReport], system: str, store: Store) -> list[Finding]:
    """Paths that two of these wheels both write, as `system` compares names; the store remembers a set without any."""
    names = "\n".join([system, *sorted(f"{one.file.name} {one.file.sha256}" for one in of)])
    key = hashlib.sha256(names.encode()).hexdigest()
    if store.get_cached(key, "apart", READER_VERSION):
        return []
    seen: dict[str, int] = {}
    for one in of:
        for root in one.path_roots:
            seen[root] = seen.get(root, 0) + 1
    close = [one for one in of if any(root == _ANY_ROOT or seen[root] > 1 for root in one.path_roots)]
    found = find_clashes([one.checked_wheel for one in sorted(close, key=lambda one: one.file.name)], system)
    if not found:
        store.set_cached(key, "apart", True, READER_VERSION)
    return found
