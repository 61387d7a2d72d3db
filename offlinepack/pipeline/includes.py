"""Parse --include, and make a wheel of the files that are installed below the environment.

As a wheel they are listed in RECORD, every installer places them, and no file of a distribution is overwritten.
"""

from __future__ import annotations

import dataclasses
import itertools
import stat
import tempfile
from collections.abc import Iterator, Sequence
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
from offlinepack.wheels.writer import WheelFile, make_dist_info, write_wheel


def parse_includes(specs: Sequence[str]) -> tuple[IncludedFile, ...]:
    """Parse PATH[=DEST] of each --include, folders as their files; raise UsageError with all mistakes."""
    included_files: list[IncludedFile] = []
    findings: list[Finding] = []
    for spec in specs:
        source, equals, folder = spec.partition("=")
        path = Path(source)
        if not path.exists():
            findings.append(error("no-such-file", source, "There is no {subject} to include.", "Mend --include."))
            continue
        for file, inner in _list_files(path):
            destination = "/".join(part for part in (folder.rstrip("/"), inner) if part) if equals else None
            bundle_path = f"{FILES}/" + "/".join(part for part in (path.resolve().name, inner) if part)
            for goal in (bundle_path, destination):
                if goal is not None and (problem := find_path_problem(goal)):
                    findings.append(
                        error(
                            "bad-include",
                            spec,
                            "--include {subject}: {path} is {why}.",
                            "Name another place.",
                            path=goal,
                            why=problem,
                        )
                    )
            included_files.append(IncludedFile(bundle_path, file, destination))
    owners: dict[str, IncludedFile] = {}
    for included in included_files:
        for key in [included.path, *([f"= {included.destination}"] if included.destination else [])]:
            owner = owners.setdefault(fold_path(key), included)
            if owner is not included:
                findings.append(
                    error(
                        "included-twice",
                        included.file,
                        "--include puts {subject} where {other} goes already.",
                        "Give one of them another DEST, or another name.",
                        other=owner.file,
                    )
                )
    if findings:
        raise UsageError(*findings)
    return tuple(included_files)


def _list_files(path: Path) -> Iterator[tuple[Path, str]]:
    """List the files of a folder with their relative paths, sorted; a single file as itself."""
    if path.is_file():
        yield path, ""
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        if file.is_file() and "__pycache__" not in file.parts:
            yield file, file.relative_to(path).as_posix()


def write_included_wheel(name: str, version: str, included: Sequence[IncludedFile], out: Path) -> Path:
    """Write a wheel into `out` that installs these files below the environment; the same files give the same bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = [
        WheelFile(
            f"{stem}.data/data/{file.destination}",
            file.file,
            is_executable=bool(file.file.stat().st_mode & stat.S_IXUSR),
        )
        for file in included
    ]
    tag = "py3-none-any"
    return write_wheel(out / f"{stem}-{tag}.whl", [*files, *make_dist_info(name, version, tag)])


def add_included_files(
    target_files: Sequence[TargetFiles], request: BuildRequest, store: Store
) -> Sequence[TargetFiles]:
    """Add a wheel with the files that are installed below the environment to the distributions of every target."""
    installed_files = [included for included in request.includes if included.destination]
    if not installed_files:
        return target_files
    names = {file.name for files in target_files for file in files.files}
    name = next(name for name in _generate_names(f"{request.bundle_name.name}-files") if name not in names)
    version = request.bundle_name.version if _is_version(request.bundle_name.version) else "0"
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as work:
        wheel = store.add_file(write_included_wheel(name, str(version), installed_files, Path(work)))
    origin = {"name": name, "sha256": wheel.sha256, "origin": "--include"}
    prepared_file = PreparedFile(canonicalize_name(name), wheel, None, origin)
    report = inspect_wheel(wheel, store)
    (requirement,) = parse_arguments([f"{name}=={version}"]).requirements
    return [
        dataclasses.replace(
            files,
            files=[*files.files, prepared_file],
            requirements=files.requirements.with_requirements(requirement),
            reports={**files.reports, wheel.name: report},
        )
        for files in target_files
    ]


def _generate_names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _is_version(version: str | None) -> bool:
    try:
        return version is not None and str(Version(version)) == version
    except InvalidVersion:
        return False
