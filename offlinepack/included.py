"""What --include names: files that lie in the bundle's files/, and those that are also placed below the environment.

What is placed travels as a wheel of data files, so that whoever installs the bundle (we, pip or uv) places it, RECORD
knows it, and nothing is written over a distribution's file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinepack.errors import Finding, UsageError, error
from offlinepack.ontarget.manifest import FILES, bad_path, folded


@dataclass(frozen=True)
class Included:
    """One file."""

    path: str
    """in the bundle"""
    file: Path
    placed: str | None
    """below the environment"""


def read(specs: Sequence[str]) -> tuple[Included, ...]:
    """PATH[=DEST] of each --include, folders as their files; UsageError with all that is wrong."""
    found: list[Included] = []
    findings: list[Finding] = []
    for spec in specs:
        source, equals, place = spec.partition("=")
        path = Path(source)
        if not path.exists():
            findings.append(error("no-such-file", source, "There is no {subject} to include.", "Mend --include."))
            continue
        for file, inner in _files(path):
            placed = "/".join(part for part in (place.rstrip("/"), inner) if part) if equals else None
            here = f"{FILES}/" + "/".join(part for part in (path.resolve().name, inner) if part)
            for goal in (here, placed):
                if goal is not None and (why := bad_path(goal)):
                    findings.append(
                        error(
                            "bad-include",
                            spec,
                            "--include {subject}: {path} is {why}.",
                            "Name another place.",
                            path=goal,
                            why=why,
                        )
                    )
            found.append(Included(here, file, placed))
    taken: dict[str, Included] = {}
    for one in found:
        for key in [one.path, *([f"= {one.placed}"] if one.placed else [])]:
            other = taken.setdefault(folded(key), one)
            if other is not one:
                findings.append(
                    error(
                        "included-twice",
                        one.file,
                        "--include puts {subject} where {other} goes already.",
                        "Give one of them another DEST, or another name.",
                        other=other.file,
                    )
                )
    if findings:
        raise UsageError(*findings)
    return tuple(found)


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """The files of a folder with their place in it, sorted; a file alone as itself."""
    if path.is_file():
        yield path, ""
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        if file.is_file() and "__pycache__" not in file.parts:
            yield file, file.relative_to(path).as_posix()


def wheel(name: str, version: str, included: Sequence[Included], out: Path) -> Path:
    """A wheel in the folder `out` that places these files below the environment; the same files give the same bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    members: dict[str, tuple[bytes, bool]] = {}
    for one in included:
        executable = bool(one.file.stat().st_mode & stat.S_IXUSR)
        members[f"{stem}.data/data/{one.placed}"] = (one.file.read_bytes(), executable)
    info = f"{stem}.dist-info"
    members[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        False,
    )
    members[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: offlinepack\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        False,
    )
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, (content, _) in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([f"{info}/RECORD", "", ""])
    members[f"{info}/RECORD"] = (record.getvalue().encode(), False)
    place = out / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, (content, executable) in members.items():
            entry = zipfile.ZipInfo(path)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(entry, content)
    return place
