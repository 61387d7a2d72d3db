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
    """Return the contents of a stored wheel, from the cache of the store if it has them."""
    cached = store.get_cached(file.sha256, "look", _CONTENTS_VERSION) if store else None
    return (
        WheelContents.from_json(cached)
        if cached
        else _save_contents(read_wheel(file.path, filename=file.name), file, store)
    )


def _save_contents(wheel: CheckedWheel, file: StoredFile, store: Store | None) -> WheelContents:
    """Collect the contents of a wheel that was just read, and cache them."""
    contents = collect_contents(wheel)
    if store:
        store.set_cached(file.sha256, "look", contents.to_json(), _CONTENTS_VERSION)
    return contents


READER_VERSION = 3
"""changes when the strict reader finds something else in the same bytes"""

_ANY_ROOT = "*"
"""among the roots of a wheel that has to be looked at whatever lies beside it"""


def inspect_wheel(file: StoredFile, store: Store) -> WheelReport:
    """Inspect a wheel; raise IntegrityError with every reason if it is invalid.

    The result is cached in the store, together with the scan of its native code.
    """
    cached = store.get_cached(file.sha256, "wheel", READER_VERSION)
    if isinstance(cached, list) and cached[:1] == [file.name]:
        return WheelReport(file, cached[1], tuple(cached[2]))
    read = read_wheel(file.path, filename=file.name)
    header = re.split(b"\r?\n\r?\n", read.metadata, maxsplit=1)[0].decode("utf-8", "replace")
    report = WheelReport(file, header, tuple(sorted(_collect_roots(read))), read.notes)
    _save_contents(read, file, store)
    scan_wheel(file, store, {member.name: member for member in read.members})
    if not read.notes:
        store.set_cached(file.sha256, "wheel", [file.name, header, report.path_roots], READER_VERSION)
    return report


def _collect_roots(read: CheckedWheel) -> set[str]:
    roots = set()
    for system in ("linux", "windows") if read.scripts else ("linux",):
        for place, _, _ in iter_destinations(read, system):
            roots |= {"/".join(path.split("/", 2)[:2]) for path in {place, get_source_path(place)}}
            if find_windows_problem(place):
                roots.add(_ANY_ROOT)
    return {fold_path(root) for root in roots}


def find_file_clashes(reports: Sequence[WheelReport], system: str, store: Store) -> list[Finding]:
    """Find paths that two of these wheels write, as `system` compares names; a set without any is cached."""
    names = "\n".join([system, *sorted(f"{report.file.name} {report.file.sha256}" for report in reports)])
    key = hashlib.sha256(names.encode()).hexdigest()
    if store.get_cached(key, "apart", READER_VERSION):
        return []
    count: dict[str, int] = {}
    for report in reports:
        for root in report.path_roots:
            count[root] = count.get(root, 0) + 1
    close = [report for report in reports if any(root == _ANY_ROOT or count[root] > 1 for root in report.path_roots)]
    clashes = find_clashes(
        [report.checked_wheel for report in sorted(close, key=lambda report: report.file.name)], system
    )
    if not clashes:
        store.set_cached(key, "apart", True, READER_VERSION)
    return clashes
