"""Compile the modules of a wheel for one Python version on the build host.

The result is a second wheel with .pyc files. The times and sizes in their headers are zero; the target side writes the
real ones when it installs the files. The same wheel and interpreter give the same bytes. Modules that cannot be
compiled reproducibly are left to the target side.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from offlinepack.errors import BuildError, Finding, error, note
from offlinepack.interpreters.host import Interpreter, find_build_interpreters
from offlinepack.ontarget.manifest import make_bytecode_path
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target
from offlinepack.wheels.writer import WheelFile, make_dist_info, write_wheel

# Runs in the interpreter of the target version. The modules are only compiled, never imported or run.
_COMPILE_SCRIPT = """\
import sys
del sys.path[0]
import importlib.util, marshal, os, types, warnings, zipfile
warnings.simplefilter("ignore")
head = importlib.util.MAGIC_NUMBER + bytes(8 if sys.version_info < (3, 7) else 12)

def is_unordered(value, in_frozenset=False):
    # before 3.11 marshal writes a frozenset in the order of its hashes, and these hash by their address
    if isinstance(value, types.CodeType):
        return in_frozenset or any(is_unordered(constant) for constant in value.co_consts)
    if isinstance(value, (tuple, frozenset)):
        return any(is_unordered(element, in_frozenset or isinstance(value, frozenset)) for element in value)
    return in_frozenset and value in (None, Ellipsis)

with zipfile.ZipFile(sys.argv[1]) as archive:
    for name in sorted(path for path in archive.namelist() if path.endswith(".py") and ".dist-info/" not in path):
        try:
            code = compile(archive.read(name), name, "exec", 0, True)
        except Exception:
            continue
        if sys.version_info < (3, 11) and is_unordered(code):
            continue
        path = os.path.join(os.fsencode(sys.argv[2]), *(name + "c").encode("utf-8").split(b"/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(head + marshal.dumps(code))
"""

_FORMAT_VERSION = 1
"""number to increase when the same wheel and interpreter give another file"""


def compile_bytecode(
    wheels_by_target: Iterable[tuple[Target, Sequence[StoredFile]]], store: Store, interpreters: Sequence[str] = ()
) -> tuple[dict[str, Path], list[Finding]]:
    """Return the compiled files by their path in the bundle, and a note for each Python that the host lacks.

    `interpreters` are tried before those that are found on the host. The store caches the results.
    """
    files: dict[str, Path] = {}
    jobs: dict[str, tuple[StoredFile, Interpreter]] = {}
    findings: list[Finding] = []
    for target, wheels in wheels_by_target:
        python = next(
            (
                interpreter
                for interpreter in find_build_interpreters(target, interpreters, None)
                if _shares_bytecode(interpreter.target, target)
            ),
            None,
        )
        if python is None:
            findings.append(
                note(
                    "no-python-for-bytecode",
                    target.name,
                    "This host has no {python}: bytecode for {subject} is made there, while installing.",
                    "Install it, or name it with --build-python.",
                    python=f"{target.facts.implementation} {_get_minor_version(target)}",
                )
            )
            continue
        for wheel in wheels:
            jobs.setdefault(make_bytecode_path(target.tag, wheel.name), (wheel, python))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        compiled = pool.map(lambda job: _compile_cached(job[0], job[1], store), jobs.values())
        files.update((path, file) for path, file in zip(jobs, compiled, strict=True) if file is not None)
    return files, findings


def _shares_bytecode(build: Target, target: Target) -> bool:
    """Return whether one Python can read the bytecode of the other; system and machine do not matter."""
    fields = ("implementation", "free_threaded")
    has_same_fields = all(getattr(build.facts, field) == getattr(target.facts, field) for field in fields)
    return has_same_fields and _get_minor_version(build) == _get_minor_version(target)


def _get_minor_version(target: Target) -> str:
    return ".".join(target.facts.python.split(".")[:2])


def _compile_cached(wheel: StoredFile, python: Interpreter, store: Store) -> Path | None:
    """Return the bytecode of a wheel from the store, otherwise compile it; None if it has no modules."""
    facts = python.target.facts
    kind = f"bytecode-{facts.implementation}-{facts.python}{'t' if facts.free_threaded else ''}"
    cached_sha256 = store.get_cached(wheel.sha256, kind, _FORMAT_VERSION)
    if cached_sha256 == "":
        return None
    stored = store.get(cached_sha256, wheel.name) if isinstance(cached_sha256, str) else None
    if stored is None:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as work:
            compiled = compile_wheel(wheel.path, python.path, Path(work) / wheel.name)
            stored = store.add_file(compiled) if compiled else None
        store.set_cached(wheel.sha256, kind, stored.sha256 if stored else "", _FORMAT_VERSION)
    return stored.path if stored else None


def compile_wheel(wheel: Path, python: Path | str, output: Path) -> Path | None:
    """Compile the modules of a wheel into `output`, a wheel of the same name; None if it has no modules.

    Raises BuildError if the interpreter cannot run.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as work:
        process = subprocess.run(
            [str(python), "-s", "-S", "-B", "-c", _COMPILE_SCRIPT, str(wheel), work],
            env=_make_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if process.returncode:
            raise BuildError(
                error(
                    "not-compiled",
                    output.name,
                    "{python} could not compile {subject}.",
                    "Leave --bytecode out, or name another interpreter with --build-python.",
                    log=process.stderr[-2000:],
                    python=python,
                )
            )
        name, version = output.name.split("-")[:2]
        modules = [WheelFile(path.relative_to(work).as_posix(), path) for path in Path(work).rglob("*.pyc")]
        return write_wheel(output, sorted([*modules, *make_dist_info(name, version)])) if modules else None


def _make_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables that make an interpreter start the same way each time: marshal depends on other live objects."""
    allowed = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    return {**{name: value for name, value in environment.items() if name.upper() in allowed}, **fixed}
