"""A source that the target builds itself: what its wheel will say of itself, and what its build takes there.

Both are asked of the project's backend here. A backend may answer otherwise on another machine, so it is asked with
no program in reach but its own: what it would otherwise find on this host is then among what it requires.
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
from offlinepack.pip_shim.static_metadata import is_metadata_static
from offlinepack.sdist.bench import Bench
from offlinepack.sdist.failures import last_lines
from offlinepack.sdist.interpreters import Interpreter, find
from offlinepack.sdist.source import unpacked, workplace
from offlinepack.store import StoredFile

if TYPE_CHECKING:
    from offlinepack.sdist import Workshop
    from offlinepack.targets import Target


_VERSION = 1
"""grows when something else is asked"""


@dataclass(frozen=True)
class Described:
    """A source as a file, and what its backend says."""

    file: StoredFile
    metadata: str
    """METADATA of the wheel that it becomes"""
    requires: tuple[str, ...]
    """requirements (PEP 508) of its build"""


def describe(
    source: StoredFile | Path, target: Target, workshop: Workshop, name: str, subdirectory: str = ""
) -> Described:
    """Ask the backend of an sdist, or of a project's folder, which becomes an sdist; BuildError where it cannot say."""
    interpreter = next(find(target, workshop.pythons, workshop.root))
    told = [_VERSION, interpreter.target.tag, target.facts.os, subdirectory, sorted(workshop.config_settings.items())]
    kind = "described-" + hashlib.sha256(json.dumps([*told, workshop.build_constraints]).encode()).hexdigest()[:16]
    known = workshop.store.fact(source.sha256, kind) if isinstance(source, StoredFile) else None
    if isinstance(source, StoredFile) and known:
        return Described(source, known["metadata"], tuple(known["requires"]))
    with _asking(source, interpreter, target, workshop, name, _unknown) as (top, bench):
        folder = top / subdirectory if subdirectory else top
        requires = bench.requires_of(folder, workshop.config_settings)
        metadata = _settled(folder) or bench.metadata_of(folder, workshop.config_settings)
        file = source if isinstance(source, StoredFile) else workshop.store.take(bench.sdist_of(folder))
    workshop.store.keep_fact(file.sha256, kind, {"metadata": metadata, "requires": requires})
    return Described(file, metadata, tuple(requires))


def prepared(folder: Path, target: Target, workshop: Workshop) -> str:
    """METADATA of the wheel that a project's folder becomes (PEP 517); BuildError where its backend cannot say."""
    interpreter = next(find(target, workshop.pythons, workshop.root))
    with _asking(folder, interpreter, target, workshop, folder.resolve().name, _no_metadata) as (place, bench):
        bench.requires_of(place, workshop.config_settings)
        return bench.metadata_of(place, workshop.config_settings)


@contextlib.contextmanager
def _asking(
    source: StoredFile | Path,
    interpreter: Interpreter,
    target: Target,
    workshop: Workshop,
    name: str,
    unknown: Callable[[str, Target, Path, str], Finding],
) -> Iterator[tuple[Path, Bench]]:
    """The source unpacked, and a bench to ask its backend at; where that fails, BuildError with what `unknown` says."""
    log = workshop.logs / f"{canonicalize_name(name)}-asked-for-{target.tag}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    key = source.sha256 if isinstance(source, StoredFile) else str(source.resolve())
    with workplace(key) as work, log.open("wb") as written:
        folder, stamp = unpacked(source, work, name)
        environment = {"SOURCE_DATE_EPOCH": str(stamp), "TMPDIR": str(work / "tmp"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        try:
            yield folder, Bench(interpreter, work, written, environment, workshop.provide)
        except (BuildException, BuildBackendException, subprocess.SubprocessError, OSError) as failure:
            written.flush()
            raise BuildError(unknown(name, target, log, _said(log, failure))) from failure


def _settled(folder: Path) -> str | None:
    """The sdist's own PKG-INFO, where it says of needs what every wheel of it will say."""
    try:
        told, project = (folder / "PKG-INFO").read_bytes(), folder / "pyproject.toml"
        return told.decode() if is_metadata_static(told, project.read_bytes() if project.exists() else b"") else None
    except (OSError, UnicodeDecodeError):
        return None


def _said(log: Path, failure: Exception) -> str:
    said = log.read_text("utf-8", "replace")
    inner = failure.exception if isinstance(failure, BuildBackendException) else failure
    if not isinstance(inner, subprocess.CalledProcessError):
        said += f"\n{inner or failure}\n"
    return last_lines(said)


def _unknown(name: str, target: Target, log: Path, said: str) -> Finding:
    return error(
        "build-closure-unknown",
        name,
        "{subject} cannot be carried as a source for {target}: its backend could not say here what its build takes.",
        "Build it here (--sdist build, --root DIR), or ask for a version with a wheel. The whole log is {path}.",
        log=said,
        target=target.name,
        path=str(log),
    )


def _no_metadata(name: str, target: Target, log: Path, said: str) -> Finding:
    return error(
        "version-unknown",
        name,
        "The version of the project {subject} is known only to its build, and that could not say it here.",
        "Mend its build, or write the version into pyproject.toml. The whole log is {path}.",
        log=said,
        path=str(log),
    )
