"""Build a wheel for a target from an sdist or a project folder (PEP 517).

The interpreter belongs to the build host or to a root file system of the target. The build requirements are locked and
fetched first, so a build reads no index. The store caches each wheel.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build import BuildBackendException, BuildException
from packaging.utils import InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from offlinepack.errors import BuildError, Finding, SelectionError, error, text
from offlinepack.interpreters.host import Interpreter, can_build_for, find_build_interpreters
from offlinepack.native.files import find_undefined_symbols
from offlinepack.native.needs import read_wheel_binaries
from offlinepack.sdist.environment import BuildConfig, forbid_circles, open_build_environment
from offlinepack.sdist.failures import explain_failure, get_last_lines
from offlinepack.sdist.repair import repair_wheel
from offlinepack.store import StoredFile
from offlinepack.targets.model import Target

_BUILD_VERSION = 1
"""number to increase when builds give other wheels than before, so that cached wheels are built again"""


@dataclass(frozen=True)
class BuiltWheel:
    """Wheel from a build or from the cache of earlier builds."""

    wheel: StoredFile
    built_from: Mapping[str, str]
    """field `built_from` of the manifest: name and sha256 of the source, python, platform, requires"""
    log: Path
    """path of the build log; the file may be missing if the wheel was cached"""
    grafted_libraries: tuple[str, ...] = ()
    """shared libraries of the build system that were copied into the wheel"""
    findings: tuple[Finding, ...] = ()


def build_wheel(
    source: StoredFile | Path,
    target: Target,
    workshop: BuildConfig,
    *,
    name: str = "",
    subdirectory: str = "",
    origin: Mapping[str, str] | None = None,
) -> BuiltWheel:
    """Build the wheel of an sdist in the store or of a project folder for this target, or return the cached one.

    `name` is the subject of findings; `origin` is added to `built_from`. Only the wheel and the log are kept.
    Raises SelectionError if no interpreter can build for the target, BuildError if the build fails or its wheel does
    not fit.
    """
    name = name or source.name
    key = source.sha256 if isinstance(source, StoredFile) else (origin or {}).get("commit") or str(source.resolve())
    with forbid_circles(key, name):
        return _build_or_reuse(source, key, target, workshop, name, subdirectory, dict(origin or {}))


def _build_or_reuse(
    source: StoredFile | Path,
    key: str,
    target: Target,
    workshop: BuildConfig,
    name: str,
    subdirectory: str,
    origin: dict[str, str],
) -> BuiltWheel:
    log = workshop.log_dir / f"{re.sub(r'[^A-Za-z0-9._+-]', '_', name)}-{target.tag}.log"
    if isinstance(source, StoredFile):
        origin = {"name": source.name, "sha256": source.sha256, **origin}
        cached = _load_built_wheel(source, target, workshop, subdirectory, log)
        if cached:
            return cached
    interpreter = next(find_build_interpreters(target, workshop.pythons, workshop.root), None)
    if interpreter is None:
        raise SelectionError(_report_no_interpreter(name, target, workshop))
    fits = can_build_for(interpreter.target.facts, target.facts)
    with open_build_environment(source, key, interpreter, workshop, name, subdirectory, log) as (folder, bench):
        try:
            wheel = bench.build_wheel(folder, workshop.config_settings)
        except (BuildException, BuildBackendException, subprocess.SubprocessError, OSError) as failure:
            bench.log.flush()
            raise BuildError(_report_failure(name, target, interpreter, log, failure, fits)) from failure
        repaired = repair_wheel(wheel, target, interpreter, bench.work_dir, {**os.environ, **bench.environment})
        bench.log.flush()
        _check_wheel(name, repaired.wheel, target, interpreter, fits, workshop)
        stored = workshop.store.add_file(repaired.wheel)
    origin |= {
        "python": f"{interpreter.target.facts.implementation} {interpreter.target.facts.python}",
        "platform": interpreter.target.platform_tag,
        "requires": _join_shortened(bench.installed_distributions),
    }
    if isinstance(source, StoredFile):
        _save_built_wheel(source, target, workshop, subdirectory, stored, origin, repaired.grafted_libraries)
    return BuiltWheel(stored, origin, log, repaired.grafted_libraries, repaired.findings)


def _join_shortened(names: Sequence[str]) -> str:
    """Join names into a text of the manifest, which has at most 500 characters."""
    joined = ", ".join(names) or "-"
    return joined if len(joined) <= 500 else joined[:497] + "..."


def _check_wheel(
    name: str, wheel: Path, target: Target, built_by: Interpreter, fits: bool, workshop: BuildConfig
) -> None:
    """Check that the tags and the C library symbols of a built wheel fit the target; raise BuildError otherwise."""
    try:
        platforms = {tag.platform for tag in parse_wheel_filename(wheel.name)[3]}
    except InvalidWheelFilename:
        raise BuildError(
            error("wheel-misnamed", name, "{subject} built a file called {file}, which is no wheel.", file=wheel.name)
        ) from None
    if platforms != {"any"} and not _is_same_system(built_by.target, target):
        raise SelectionError(_report_no_interpreter(name, target, workshop))
    too_new = _find_too_new_symbols(wheel, target)
    if target.rank_wheel(wheel.name) is not None and not too_new:
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
        raise SelectionError(_report_no_interpreter(name, target, workshop))
    raise BuildError(
        error(
            "built-unfit",
            name,
            "{subject} was built into {file}, which {target} does not take: it {reason}.",
            "Build it inside the target's own system: --root DIR names a root file system of it.",
            file=wheel.name,
            target=target.name,
            reason=target.explain_mismatch(wheel.name),
        )
    )


def _is_same_system(target: Target, other: Target) -> bool:
    return all(getattr(target.facts, key) == getattr(other.facts, key) for key in ("os", "machine", "libc"))


def _find_too_new_symbols(wheel: Path, target: Target) -> list[tuple[str, str]]:
    """Return (file, symbol@GLIBC_2.34) for each symbol that needs a newer glibc than that of the target."""
    if target.facts.libc != "glibc":
        return []
    has = tuple(int(part) for part in (target.facts.libc_version or "0").split("."))
    levels = {
        version
        for binary in read_wheel_binaries(wheel).binaries
        for _, versions in binary.symbol_versions
        for version in versions
        if re.fullmatch(r"GLIBC_\d+(\.\d+)+", version) and tuple(map(int, version[6:].split("."))) > has
    }
    ordered = sorted(levels, key=lambda level: tuple(map(int, level[6:].split("."))), reverse=True)
    return [(file, f"{symbol}@{level}") for level in ordered for file, symbol in find_undefined_symbols(wheel, level)]


def _report_no_interpreter(name: str, target: Target, workshop: BuildConfig) -> Finding:
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


def _report_failure(name: str, target: Target, by: Interpreter, log: Path, failure: Exception, fits: bool) -> Finding:
    output = log.read_text("utf-8", "replace")
    inner = failure.exception if isinstance(failure, BuildBackendException) else failure
    if not isinstance(inner, subprocess.CalledProcessError):  # messages of the build frontend are not in the log
        output += f"\n{inner or failure}\n"
        with log.open("a", encoding="utf-8") as written:
            written.write(f"\n{inner or failure}\n")
    reason = explain_failure(output, ".".join(target.facts.python.split(".")[:2]), by.root or Path("/"))
    project = parse_sdist_filename(name)[0] if name.endswith((".tar.gz", ".zip")) else name.partition(" ")[0]
    if not fits:  # installing what the build lacks would not help
        return error(
            "build-failed-elsewhere",
            name,
            "{subject} has no wheel for {target}, and its source could not be built on {here}; what has extension "
            "modules can be built for {target} only by its own Python.",
            "Name one with --build-python PY, or a root file system of the target with --root DIR; --sdist include "
            "leaves the building to the target, --only-binary {project} looks for releases that do without it. "
            "The whole log is {path}.",
            log=get_last_lines(output),
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
        log=get_last_lines(output),
        target=target.name,
        reason=reason,
        project=project,
        path=str(log),
    )


def _hash_options(workshop: BuildConfig, subdirectory: str) -> str:
    facts = [
        sorted(workshop.config_settings.items()),
        workshop.build_constraints,
        subdirectory,
        str(workshop.root or ""),
    ]
    return hashlib.sha256(json.dumps([_BUILD_VERSION, *facts]).encode()).hexdigest()[:16]


def _get_cache_kinds(target: Target, workshop: BuildConfig, subdirectory: str) -> tuple[str, str]:
    """Return the cache kinds of a build: that of pure wheels for all targets, and that of this target."""
    options = _hash_options(workshop, subdirectory)
    return f"built-any-{options}", f"built-{target.tag}-{options}"


def _load_built_wheel(
    source: StoredFile, target: Target, workshop: BuildConfig, subdirectory: str, log: Path
) -> BuiltWheel | None:
    for kind in _get_cache_kinds(target, workshop, subdirectory):
        fact: dict[str, Any] | None = workshop.store.get_cached(source.sha256, kind)
        wheel = workshop.store.get(fact["sha256"], fact["name"]) if fact else None
        if fact and wheel and target.rank_wheel(wheel.name) is not None:
            return BuiltWheel(wheel, fact["origin"], log, tuple(fact["grafted"]))
    return None


def _save_built_wheel(
    source: StoredFile,
    target: Target,
    workshop: BuildConfig,
    subdirectory: str,
    wheel: StoredFile,
    origin: Mapping[str, str],
    grafted: Sequence[str],
) -> None:
    pure, own_kind = _get_cache_kinds(target, workshop, subdirectory)
    fact = {"sha256": wheel.sha256, "name": wheel.name, "origin": dict(origin), "grafted": list(grafted)}
    kind = pure if wheel.name.endswith("-none-any.whl") else own_kind
    workshop.store.set_cached(source.sha256, kind, fact)
