"""Query a build backend for the metadata of a wheel and for the build requirements of an sdist.

A backend may answer differently on another machine. Therefore it runs with only the programs of its environment on
PATH: it then lists programs that it would find on the build host among its requirements.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build import BuildBackendException, BuildException
from packaging.utils import canonicalize_name

from offlinepack.errors import BuildError, Finding, error
from offlinepack.interpreters.host import Interpreter, find_build_interpreters
from offlinepack.pip_shim.static_metadata import is_metadata_static
from offlinepack.sdist.environment import BuildEnvironment, open_build_environment
from offlinepack.sdist.failures import get_last_lines
from offlinepack.store import StoredFile

if TYPE_CHECKING:
    from offlinepack.sdist.environment import BuildConfig
    from offlinepack.targets.model import Target


_QUERY_VERSION = 1
"""number to increase when the query changes, so that cached answers are not used"""


@dataclass(frozen=True)
class SdistMetadata:
    """Sdist with the metadata and the build requirements that its backend reports."""

    file: StoredFile
    metadata: str
    """METADATA of the wheel that is built from the sdist"""
    build_requirements: tuple[str, ...]
    """build requirements (PEP 508)"""


def query_metadata(
    source: StoredFile | Path, target: Target, workshop: BuildConfig, name: str, subdirectory: str = ""
) -> SdistMetadata:
    """Query the backend of an sdist or of a project folder, from which an sdist is built.

    Raises BuildError if the backend fails.
    """
    interpreter = next(find_build_interpreters(target, workshop.pythons, workshop.root))
    facts = [
        _QUERY_VERSION,
        interpreter.target.tag,
        target.facts.os,
        subdirectory,
        sorted(workshop.config_settings.items()),
    ]
    kind = "described-" + hashlib.sha256(json.dumps([*facts, workshop.build_constraints]).encode()).hexdigest()[:16]
    cached = workshop.store.get_cached(source.sha256, kind) if isinstance(source, StoredFile) else None
    if isinstance(source, StoredFile) and cached:
        return SdistMetadata(source, cached["metadata"], tuple(cached["requires"]))
    report = _report_unknown_requirements
    with _open_environment(source, interpreter, target, workshop, name, subdirectory, report) as (folder, bench):
        requires = bench.list_requirements(folder, workshop.config_settings)
        metadata = _read_static_metadata(folder) or bench.prepare_metadata(folder, workshop.config_settings)
        file = source if isinstance(source, StoredFile) else workshop.store.add_file(bench.build_sdist(folder))
    workshop.store.set_cached(file.sha256, kind, {"metadata": metadata, "requires": requires})
    return SdistMetadata(file, metadata, tuple(requires))


def prepare_wheel_metadata(folder: Path, target: Target, workshop: BuildConfig) -> str:
    """Return METADATA of the wheel of a project folder (PEP 517); raise BuildError if the backend fails."""
    interpreter = next(find_build_interpreters(target, workshop.pythons, workshop.root))
    name, report = folder.resolve().name, _report_unknown_version
    with _open_environment(folder, interpreter, target, workshop, name, "", report) as (place, bench):
        bench.list_requirements(place, workshop.config_settings)
        return bench.prepare_metadata(place, workshop.config_settings)


@contextlib.contextmanager
def _open_environment(
    source: StoredFile | Path,
    interpreter: Interpreter,
    target: Target,
    workshop: BuildConfig,
    name: str,
    subdirectory: str,
    unknown: Callable[[str, Target, Path, str], Finding],
) -> Iterator[tuple[Path, BuildEnvironment]]:
    """Open a build environment for queries; translate failures to BuildError with the finding of `unknown`."""
    log = workshop.log_dir / f"{canonicalize_name(name)}-asked-for-{target.tag}.log"
    key = source.sha256 if isinstance(source, StoredFile) else str(source.resolve())
    with open_build_environment(source, key, interpreter, workshop, name, subdirectory, log) as (folder, bench):
        try:
            yield folder, bench
        except (BuildException, BuildBackendException, subprocess.SubprocessError, OSError) as failure:
            bench.log.flush()
            raise BuildError(unknown(name, target, log, _read_log_end(log, failure))) from failure


def _read_static_metadata(folder: Path) -> str | None:
    """Return PKG-INFO of an unpacked sdist if every wheel built from it has the same dependencies."""
    try:
        metadata, project = (folder / "PKG-INFO").read_bytes(), folder / "pyproject.toml"
        return (
            metadata.decode()
            if is_metadata_static(metadata, project.read_bytes() if project.exists() else b"")
            else None
        )
    except (OSError, UnicodeDecodeError):
        return None


def _read_log_end(log: Path, failure: Exception) -> str:
    output = log.read_text("utf-8", "replace")
    inner = failure.exception if isinstance(failure, BuildBackendException) else failure
    if not isinstance(inner, subprocess.CalledProcessError):
        output += f"\n{inner or failure}\n"
    return get_last_lines(output)


def _report_unknown_requirements(name: str, target: Target, log: Path, output: str) -> Finding:
    return error(
        "build-closure-unknown",
        name,
        "{subject} cannot be carried as a source for {target}: its backend could not say here what its build takes.",
        "Build it here (--sdist build, --root DIR), or ask for a version with a wheel. The whole log is {path}.",
        log=output,
        target=target.name,
        path=str(log),
    )


def _report_unknown_version(name: str, target: Target, log: Path, output: str) -> Finding:
    return error(
        "version-unknown",
        name,
        "The version of the project {subject} is known only to its build, and that could not say it here.",
        "Mend its build, or write the version into pyproject.toml. The whole log is {path}.",
        log=output,
        path=str(log),
    )
