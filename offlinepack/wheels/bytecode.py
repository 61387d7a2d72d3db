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
from offlinepack.wheels.writer import pack_wheel

# Runs in the interpreter that the code is for. Nothing of the wheel is imported or run: it is only compiled.
_COMPILE_SCRIPT = """\
import sys
del sys.path[0]
import importlib.util, marshal, os, types, warnings, zipfile
warnings.simplefilter("ignore")
head = importlib.util.MAGIC_NUMBER + bytes(8 if sys.version_info < (3, 7) else 12)

def unordered(one, within=False):
    # before 3.11 marshal writes a frozenset in the order of its hashes, and these hash by their address
    if isinstance(one, types.CodeType):
        return within or any(unordered(const) for const in one.co_consts)
    if isinstance(one, (tuple, frozenset)):
        return any(unordered(each, within or isinstance(one, frozenset)) for each in one)
    return within and one in (None, Ellipsis)

with zipfile.ZipFile(sys.argv[1]) as archive:
    for name in sorted(one for one in archive.namelist() if one.endswith(".py") and ".dist-info/" not in one):
        try:
            code = compile(archive.read(name), name, "exec", 0, True)
        except Exception:
            continue
        if sys.version_info < (3, 11) and unordered(code):
            continue
        path = os.path.join(os.fsencode(sys.argv[2]), *(name + "c").encode("utf-8").split(b"/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(head + marshal.dumps(code))
"""

_FORMAT_VERSION = 1
"""changes when the same wheel and interpreter give another file"""


def compile_bytecode(
    wanted: Iterable[tuple[Target, Sequence[StoredFile]]], store: Store, named: Sequence[str] = ()
) -> tuple[dict[str, Path], list[Finding]]:
    """For each target and its wheels: path in the bundle -> file; a note for each Python that this host has not.

    `named`: interpreters to try before those that are found. The store keeps what was compiled once.
    """
    files: dict[str, Path] = {}
    jobs: dict[str, tuple[StoredFile, Interpreter]] = {}
    findings: list[Finding] = []
    for target, wheels in wanted:
        python = next(
            (one for one in find_build_interpreters(target, named, None) if _shares_bytecode(one.target, target)), None
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
        made = pool.map(lambda one: _compile_cached(one[0], one[1], store), jobs.values())
        files.update((path, file) for path, file in zip(jobs, made, strict=True) if file is not None)
    return files, findings


def _shares_bytecode(own: Target, wanted: Target) -> bool:
    """Whether one Python reads the bytecode of the other: that depends on neither system nor machine."""
    same = ("implementation", "free_threaded")
    alike = all(getattr(own.facts, one) == getattr(wanted.facts, one) for one in same)
    return alike and _get_minor_version(own) == _get_minor_version(wanted)


def _get_minor_version(target: Target) -> str:
    return ".".join(target.facts.python.split(".")[:2])


def _compile_cached(wheel: StoredFile, python: Interpreter, store: Store) -> Path | None:
    """What this interpreter makes of a wheel, from the store where it was made before; None where that is nothing."""
    facts = python.target.facts
    kind = f"bytecode-{facts.implementation}-{facts.python}{'t' if facts.free_threaded else ''}"
    known = store.get_cached(wheel.sha256, kind, _FORMAT_VERSION)
    if known == "":
        return None
    found = store.get(known, wheel.name) if isinstance(known, str) else None
    if found is None:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as work:
            made = compile_wheel(wheel.path, python.path, Path(work) / wheel.name)
            found = store.add_file(made) if made else None
        store.set_cached(wheel.sha256, kind, found.sha256 if found else "", _FORMAT_VERSION)
    return found.path if found else None


def compile_wheel(wheel: Path, python: Path | str, out: Path) -> Path | None:
    """`out` (its name is the wheel's): what this interpreter makes of the sources; None where there are none.

    BuildError where it does not even start.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        done = subprocess.run(
            [str(python), "-s", "-S", "-B", "-c", _COMPILE_SCRIPT, str(wheel), work],
            env=_make_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise BuildError(
                error(
                    "not-compiled",
                    out.name,
                    "{python} could not compile {subject}.",
                    "Leave --bytecode out, or name another interpreter with --build-python.",
                    log=done.stderr[-2000:],
                    python=python,
                )
            )
        return pack_wheel(Path(work), out)


def _make_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables in which an interpreter always starts alike: marshal's bytes tell what else was alive."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    return {**{name: value for name, value in environment.items() if name.upper() in kept}, **fixed}
