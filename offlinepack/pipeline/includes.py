"""Parse --include, and make a wheel of the files that are installed below the environment.

As a wheel they are listed in RECORD, every installer places them, and no file of a distribution is overwritten.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import itertools
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.bundle.layout import FILES
from offlinepack.errors import Finding, UsageError, error
from offlinepack.ontarget.paths import find_path_problem, fold_path
from offlinepack.pipeline.plan import TargetFiles
from offlinepack.pipeline.provider import PreparedFile
from offlinepack.pipeline.request import BuildRequest, IncludedFile
from offlinepack.requirements.read import parse_arguments
from offlinepack.store import Store
from offlinepack.wheels.inspect import inspect_wheel
from offlinepack.wheels.report import WheelReport


def parse_includes(specs: Sequence[str]) -> tuple[IncludedFile, ...]:
    """PATH[=DEST] of each --include, folders as their files; UsageError with all that is wrong."""
    found: list[IncludedFile] = []
    findings: list[Finding] = []
    for spec in specs:
        source, equals, place = spec.partition("=")
        path = Path(source)
        if not path.exists():
            findings.append(error("no-such-file", source, "There is no {subject} to include.", "Mend --include."))
            continue
        for file, inner in _list_files(path):
            placed = "/".join(part for part in (place.rstrip("/"), inner) if part) if equals else None
            here = f"{FILES}/" + "/".join(part for part in (path.resolve().name, inner) if part)
            for goal in (here, placed):
                if goal is not None and (why := find_path_problem(goal)):
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
            found.append(IncludedFile(here, file, placed))
    taken: dict[str, IncludedFile] = {}
    for one in found:
        for key in [one.path, *([f"= {one.destination}"] if one.destination else [])]:
            other = taken.setdefault(fold_path(key), one)
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


def _list_files(path: Path) -> Iterator[tuple[Path, str]]:
    """The files of a folder with their place in it, sorted; a file alone as itself."""
    if path.is_file():
        yield path, ""
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        if file.is_file() and "__pycache__" not in file.parts:
            yield file, file.relative_to(path).as_posix()


def write_included_wheel(name: str, version: str, included: Sequence[IncludedFile], out: Path) -> Path:
    """A wheel in the folder `out` that places these files below the environment; the same files give the same bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    members: dict[str, tuple[bytes, bool]] = {}
    for one in included:
        executable = bool(one.file.stat().st_mode & stat.S_IXUSR)
        members[f"{stem}.data/data/{one.destination}"] = (one.file.read_bytes(), executable)
    info = f"{stem}.dist-info"
    members[f"{info}/METADATA"] = (f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(), False)
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


def add_included_files(
    parts: Sequence[TargetFiles], read: Mapping[str, WheelReport], request: BuildRequest, store: Store
) -> tuple[list[TargetFiles], dict[str, WheelReport]]:
    """The files of --include that go below the environment, as one more distribution of every target."""
    taken = {one.name for part in parts for one in part.files}
    name = next(one for one in _generate_names(f"{request.bundle_name.name}-files") if one not in taken)
    version = request.bundle_name.version if _is_version(request.bundle_name.version) else "0"
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as work:
        placed = [one for one in request.includes if one.destination]
        file = store.add_file(write_included_wheel(name, str(version), placed, Path(work)))
    made = PreparedFile(
        canonicalize_name(name), file, None, {"name": name, "sha256": file.sha256, "origin": "--include"}
    )
    (asked,) = parse_arguments([f"{name}=={version}"]).requirements
    more = [
        dataclasses.replace(part, files=[*part.files, made], requirements=part.requirements.with_requirements(asked))
        for part in parts
    ]
    return more, {**read, file.name: inspect_wheel(file, store)}


def _generate_names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _is_version(version: str | None) -> bool:
    try:
        return version is not None and str(Version(version)) == version
    except InvalidVersion:
        return False
