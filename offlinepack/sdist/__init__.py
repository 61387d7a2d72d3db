"""A source distribution becomes a wheel for a target: PEP 517, in isolation, with the target's own X.Y.

The interpreter is one of this host, or of a root file system of the target. What the build requires is locked and
fetched like everything else (`Workshop.provide`), so it needs no index here. A wheel is built once: the store keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from build import BuildBackendException, BuildException
from packaging.utils import InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from offlinepack.errors import BuildError, Finding, SelectionError, error, text
from offlinepack.native import read
from offlinepack.native.files import undefined
from offlinepack.sdist.bench import Bench, Provide
from offlinepack.sdist.failures import explain, last_lines
from offlinepack.sdist.graft import repair
from offlinepack.sdist.interpreters import Interpreter, find, makes
from offlinepack.sdist.source import unpacked, workplace
from offlinepack.store import Store, StoredFile
from offlinepack.targets import Target

_MADE = 1
"""grows when wheels come out otherwise than before, so that those in the store are built again"""

_UNDER_WAY: ContextVar[tuple[str, ...]] = ContextVar("sources that are being built", default=())


@dataclass(frozen=True)
class Workshop:
    """Where and how sources are built; the same for all of them."""

    store: Store
    provide: Provide
    """what builds require: locked, fetched, and built where need be"""
    logs: Path
    """folder of the logs, one for each project and target"""
    pythons: tuple[str, ...] = ()
    """interpreters that are tried first (--build-python); in the root, where there is one"""
    root: Path | None = None
    """a root file system of the target to build in, without a network"""
    config_settings: Mapping[str, str | list[str]] = field(default_factory=dict)
    build_constraints: tuple[str, ...] = ()
    """what `provide` was told; another text means another wheel"""


@dataclass(frozen=True)
class Built:
    """A wheel that was built, or found built."""

    wheel: StoredFile
    origin: Mapping[str, str]
    """for the manifest's built_from: name and sha256 of the source, python, platform, requires"""
    log: Path
    """what the build said; the file may be gone where the wheel was found built"""
    grafted: tuple[str, ...] = ()
    """libraries of the machine that built it which the wheel brings along"""
    findings: tuple[Finding, ...] = ()


def build(
    source: StoredFile | Path,
    target: Target,
    workshop: Workshop,
    *,
    name: str = "",
    subdirectory: str = "",
    origin: Mapping[str, str] | None = None,
) -> Built:
    """The wheel of an sdist (a file of the store), or of a project's folder, for this target.

    `name` is what findings call it; `origin` is added to the result's. SelectionError: nothing here can build it for
    the target. BuildError: the build failed, or its result does not fit. Nothing stays but the wheel and the log.
    """
    name = name or source.name
    key = source.sha256 if isinstance(source, StoredFile) else (origin or {}).get("commit") or str(source.resolve())
    if key in _UNDER_WAY.get():
        raise BuildError(
            error(
                "build-circle",
                name,
                "{subject} needs itself to be built.",
                "Allow a ready-made wheel of it: no --no-binary for this project.",
            )
        )
    token = _UNDER_WAY.set((*_UNDER_WAY.get(), key))
    try:
        return _build(source, target, workshop, name, subdirectory, dict(origin or {}))
    finally:
        _UNDER_WAY.reset(token)


def _build(
    source: StoredFile | Path, target: Target, workshop: Workshop, name: str, subdirectory: str, origin: dict[str, str]
) -> Built:
    log = workshop.logs / f"{re.sub(r'[^A-Za-z0-9._+-]', '_', name)}-{target.tag}.log"
    if isinstance(source, StoredFile):
        origin = {"name": source.name, "sha256": source.sha256, **origin}
        known = _known(source, target, workshop, subdirectory, log)
        if known:
            return known
    interpreter = next(find(target, workshop.pythons, workshop.root), None)
    if interpreter is None:
        raise SelectionError(_no_interpreter(name, target, workshop))
    fits = makes(interpreter.target.facts, target.facts)
    with workplace(_UNDER_WAY.get()[-1]) as work, _opened(log) as written:
        folder, stamp = unpacked(source, work, name)
        folder = folder / subdirectory if subdirectory else folder
        environment = {
            "SOURCE_DATE_EPOCH": str(stamp),
            "PYTHONHASHSEED": "0",
            "TMPDIR": str(work / "tmp"),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        bench = Bench(interpreter, work, written, environment, workshop.provide)
        try:
            wheel = bench.wheel_of(folder, workshop.config_settings)
        except (BuildException, BuildBackendException, subprocess.SubprocessError, OSError) as failure:
            written.flush()
            raise BuildError(_failed(name, target, interpreter, log, failure, fits)) from failure
        made = repair(wheel, target, interpreter, work, {**os.environ, **environment})
        written.flush()
        _check(name, made.wheel, target, interpreter, fits, workshop)
        stored = workshop.store.take(made.wheel)
    origin |= {
        "python": f"{interpreter.target.facts.implementation} {interpreter.target.facts.python}",
        "platform": interpreter.target.platform_tag,
        "requires": _shortened(bench.installed),
    }
    if isinstance(source, StoredFile):
        _keep(source, target, workshop, subdirectory, stored, origin, made.grafted)
    return Built(stored, origin, log, made.grafted, made.findings)


def _shortened(names: Sequence[str]) -> str:
    """For the manifest, whose texts are at most 500 characters long."""
    joined = ", ".join(names) or "-"
    return joined if len(joined) <= 500 else joined[:497] + "..."


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[IO[bytes]]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as written:
        yield written


def _check(name: str, wheel: Path, target: Target, built_by: Interpreter, fits: bool, workshop: Workshop) -> None:
    """The wheel fits the target: its tags, and what its binaries want of the C library."""
    try:
        platforms = {tag.platform for tag in parse_wheel_filename(wheel.name)[3]}
    except InvalidWheelFilename:
        raise BuildError(
            error("wheel-misnamed", name, "{subject} built a file called {file}, which is no wheel.", file=wheel.name)
        ) from None
    if platforms != {"any"} and not _same_system(built_by.target, target):
        raise SelectionError(_no_interpreter(name, target, workshop))
    too_new = _too_new(wheel, target)
    if target.accepts(wheel.name) is not None and not too_new:
        return
    if too_new:
        symbols = [text("{symbol} in {file}", symbol=symbol, file=file) for file, symbol in too_new[:4]]
        raise BuildError(
            error(
                "built-too-new",
                name,
                "{subject} was built here, and the wheel needs what {target} (glibc {version}) lacks: {symbols}.",
                "Build it inside the target's own system: --root DIR names a root file system of it.",
                target=target.name,
                version=target.facts.libc_version,
                symbols=symbols,
            )
        )
    if not fits:
        raise SelectionError(_no_interpreter(name, target, workshop))
    raise BuildError(
        error(
            "built-unfit",
            name,
            "{subject} was built into {file}, which {target} does not take: it {reason}.",
            "Build it inside the target's own system: --root DIR names a root file system of it.",
            file=wheel.name,
            target=target.name,
            reason=target.why_not(wheel.name),
        )
    )


def _same_system(one: Target, other: Target) -> bool:
    return all(getattr(one.facts, key) == getattr(other.facts, key) for key in ("os", "machine", "libc"))


def _too_new(wheel: Path, target: Target) -> list[tuple[str, str]]:
    """(file, symbol@GLIBC_2.34) for each level of the C library above the target's that the wheel's binaries want."""
    if target.facts.libc != "glibc":
        return []
    has = tuple(int(part) for part in (target.facts.libc_version or "0").split("."))
    levels = {
        version
        for binary in read(wheel).binaries
        for _, versions in binary.versions
        for version in versions
        if re.fullmatch(r"GLIBC_\d+(\.\d+)+", version) and tuple(map(int, version[6:].split("."))) > has
    }
    ordered = sorted(levels, key=lambda one: tuple(map(int, one[6:].split("."))), reverse=True)
    return [(file, f"{symbol}@{level}") for level in ordered for file, symbol in undefined(wheel, level)]


def _no_interpreter(name: str, target: Target, workshop: Workshop) -> Finding:
    facts = target.facts
    python = f"{'PyPy' if facts.implementation == 'pypy' else 'Python'} {facts.python}{'t' * facts.free_threaded}"
    if workshop.root:
        return error(
            "cannot-build-here",
            name,
            "{subject} has no wheel for {target}, and {root} has no {python} for {machine} to build one with.",
            "Name a root file system of the target, with that Python, its header files and a compiler.",
            target=target.name,
            root=str(workshop.root),
            python=python,
            machine=target.platform_tag,
        )
    return error(
        "cannot-build-here",
        name,
        "{subject} has no wheel for {target}, and to build one takes {python} on {machine}, which was not found here.",
        "Name one with --build-python PY, or a root file system of the target with --root DIR; "
        "--sdist include leaves the building to the target, --only-binary looks for a version with a wheel.",
        target=target.name,
        python=python,
        machine=target.platform_tag,
    )


def _failed(name: str, target: Target, by: Interpreter, log: Path, failure: Exception, fits: bool) -> Finding:
    said = log.read_text("utf-8", "replace")
    inner = failure.exception if isinstance(failure, BuildBackendException) else failure
    if not isinstance(inner, subprocess.CalledProcessError):  # the frontend's own words are not in the log
        said += f"\n{inner or failure}\n"
        with log.open("a", encoding="utf-8") as written:
            written.write(f"\n{inner or failure}\n")
    reason = explain(said, ".".join(target.facts.python.split(".")[:2]), by.root or Path("/"))
    project = parse_sdist_filename(name)[0] if name.endswith((".tar.gz", ".zip")) else name.partition(" ")[0]
    if not fits:  # what the build lacked would not help, were it here
        return error(
            "build-failed-elsewhere",
            name,
            "{subject} has no wheel for {target}, and its source could not be built on {here}; what has extension "
            "modules can be built for {target} only by its own Python.",
            "Name one with --build-python PY, or a root file system of the target with --root DIR; --sdist include "
            "leaves the building to the target, --only-binary {project} looks for releases that do without it. "
            "The whole log is {path}.",
            log=last_lines(said),
            target=target.name,
            here=by.target.platform_tag,
            project=project,
            path=str(log),
        )
    return error(
        "build-failed",
        name,
        "{subject} could not be built for {target}: {reason}."
        if reason
        else "{subject} could not be built for {target}.",
        "--only-binary {project} looks for releases that do without this build. The whole log is {path}.",
        log=last_lines(said),
        target=target.name,
        reason=reason,
        project=project,
        path=str(log),
    )


def _options(workshop: Workshop, subdirectory: str) -> str:
    told = [
        sorted(workshop.config_settings.items()),
        workshop.build_constraints,
        subdirectory,
        str(workshop.root or ""),
    ]
    return hashlib.sha256(json.dumps([_MADE, *told]).encode()).hexdigest()[:16]


def _kinds(target: Target, workshop: Workshop, subdirectory: str) -> tuple[str, str]:
    """Under which names a build is remembered: for any target, where the wheel is pure, and for this one."""
    options = _options(workshop, subdirectory)
    return f"built-any-{options}", f"built-{target.tag}-{options}"


def _known(source: StoredFile, target: Target, workshop: Workshop, subdirectory: str, log: Path) -> Built | None:
    for kind in _kinds(target, workshop, subdirectory):
        fact: dict[str, Any] | None = workshop.store.fact(source.sha256, kind)
        wheel = workshop.store.get(fact["sha256"], fact["name"]) if fact else None
        if fact and wheel and target.accepts(wheel.name) is not None:
            return Built(wheel, fact["origin"], log, tuple(fact["grafted"]))
    return None


def _keep(
    source: StoredFile,
    target: Target,
    workshop: Workshop,
    subdirectory: str,
    wheel: StoredFile,
    origin: Mapping[str, str],
    grafted: Sequence[str],
) -> None:
    pure, own = _kinds(target, workshop, subdirectory)
    fact = {"sha256": wheel.sha256, "name": wheel.name, "origin": dict(origin), "grafted": list(grafted)}
    kind = pure if wheel.name.endswith("-none-any.whl") else own
    workshop.store.keep_fact(source.sha256, kind, fact)
