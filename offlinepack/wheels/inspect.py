"""Inspect a wheel once and cache the result in the store by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from offlinepack.errors import Finding
from offlinepack.native.needs import scan_wheel
from offlinepack.ontarget.destinations import find_clashes
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.store import Store, StoredFile
from offlinepack.wheels.contents import WheelContents
from offlinepack.wheels.report import ANY_ROOT, WheelReport

_CONTENTS_VERSION = 1
"""number to increase when `collect_contents` returns something else for the same wheel"""

READER_VERSION = 3
"""number to increase when the strict reader returns something else for the same wheel"""


def inspect_wheel(file: StoredFile, store: Store) -> WheelReport:
    """Inspect a wheel; raise IntegrityError with every reason if it is invalid.

    The result is cached in the store, together with the scan of its native code.
    """
    cached = store.get_cached(file.sha256, "wheel", READER_VERSION)
    cached_contents = store.get_cached(file.sha256, "look", _CONTENTS_VERSION)
    if isinstance(cached, list) and cached[:1] == [file.name] and cached_contents:
        header, roots = cached[1], tuple(cached[2])
        contents = WheelContents.from_json(cached_contents)
        return WheelReport(file.path, file.name, header, file.sha256).with_parts(path_roots=roots, contents=contents)
    wheel = read_wheel(file.path, filename=file.name)
    report = WheelReport.from_wheel(wheel, file.sha256)
    store.set_cached(file.sha256, "look", report.contents.to_json(), _CONTENTS_VERSION)
    scan_wheel(file, store, {member.name: member for member in wheel.members})
    if not wheel.notes:
        store.set_cached(file.sha256, "wheel", [file.name, report.metadata_header, report.path_roots], READER_VERSION)
    # without the list of members, which is long
    return report.with_parts(path_roots=report.path_roots, contents=report.contents)


def find_file_clashes(reports: Sequence[WheelReport], system: str, store: Store) -> list[Finding]:
    """Find paths that two of these wheels write, as `system` compares names; a set without any is cached."""
    names = "\n".join([system, *sorted(f"{report.filename} {report.sha256}" for report in reports)])
    key = hashlib.sha256(names.encode()).hexdigest()
    if store.get_cached(key, "apart", READER_VERSION):
        return []
    count: dict[str, int] = {}
    for report in reports:
        for root in report.path_roots:
            count[root] = count.get(root, 0) + 1
    close = [report for report in reports if any(root == ANY_ROOT or count[root] > 1 for root in report.path_roots)]
    clashes = find_clashes(
        [report.checked_wheel for report in sorted(close, key=lambda report: report.filename)], system
    )
    if not clashes:
        store.set_cached(key, "apart", True, READER_VERSION)
    return clashes
