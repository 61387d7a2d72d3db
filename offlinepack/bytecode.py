"""Bytecode made on the host: of a wheel, a second one with x.pyc in the place of x.py, for one version of Python.

Times and sizes in the headers are zero; the target writes the real ones when it places the files. No clock is read and
strings hash alike in every run, so that the same wheel and interpreter give the same bytes. What would not come out
alike, and what this interpreter cannot compile, is left to the target.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from offlinepack.errors import BuildError, Finding, error, note
from offlinepack.ontarget.manifest import make_bytecode_path
from offlinepack.sdist.interpreters import Interpreter, find
from offlinepack.store import Store, StoredFile
from offlinepack.targets import Target

# Runs in the interpreter that the code is for. Nothing of the wheel is imported or run: it is only compiled.
_COMPILE = """\
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

_FORM = 1
"""changes when the same wheel and interpreter give another file"""


def compiled(
    wanted: Iterable[tuple[Target, Sequence[StoredFile]]], store: Store, named: Sequence[str] = ()
) -> tuple[dict[str, Path], list[Finding]]:
    """For each target and its wheels: path in the bundle -> file; a note for each Python that this host has not.

    `named`: interpreters to try before those that are found. The store keeps what was compiled once.
    """
    files: dict[str, Path] = {}
    jobs: dict[str, tuple[StoredFile, Interpreter]] = {}
    findings: list[Finding] = []
    for target, wheels in wanted:
        python = next((one for one in find(target, named, None) if _speaks(one.target, target)), None)
        if python is None:
            findings.append(
                note(
                    "no-python-for-bytecode",
                    target.name,
                    "This host has no {python}: bytecode for {subject} is made there, while installing.",
                    "Install it, or name it with --build-python.",
                    python=f"{target.facts.implementation} {_minor(target)}",
                )
            )
            continue
        for wheel in wheels:
            jobs.setdefault(make_bytecode_path(target.tag, wheel.name), (wheel, python))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = pool.map(lambda one: _kept(one[0], one[1], store), jobs.values())
        files.update((path, file) for path, file in zip(jobs, made, strict=True) if file is not None)
    return files, findings


def _speaks(own: Target, wanted: Target) -> bool:
    """Whether one Python reads the bytecode of the other: that depends on neither system nor machine."""
    same = ("implementation", "free_threaded")
    alike = all(getattr(own.facts, one) == getattr(wanted.facts, one) for one in same)
    return alike and _minor(own) == _minor(wanted)


def _minor(target: Target) -> str:
    return ".".join(target.facts.python.split(".")[:2])


def _kept(wheel: StoredFile, python: Interpreter, store: Store) -> Path | None:
    """What this interpreter makes of a wheel, from the store where it was made before; None where that is nothing."""
    facts = python.target.facts
    kind = f"bytecode-{facts.implementation}-{facts.python}{'t' if facts.free_threaded else ''}"
    known = store.fact(wheel.sha256, kind, _FORM)
    if known == "":
        return None
    found = store.get(known, wheel.name) if isinstance(known, str) else None
    if found is None:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as work:
            made = compile_wheel(wheel.path, python.path, Path(work) / wheel.name)
            found = store.take(made) if made else None
        store.keep_fact(wheel.sha256, kind, found.sha256 if found else "", _FORM)
    return found.path if found else None


def compile_wheel(wheel: Path, python: Path | str, out: Path) -> Path | None:
    """`out` (its name is the wheel's): what this interpreter makes of the sources; None where there are none.

    BuildError where it does not even start.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        done = subprocess.run(
            [str(python), "-s", "-S", "-B", "-c", _COMPILE, str(wheel), work],
            env=_settled(os.environ),
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
        return _pack(Path(work), out)


def _settled(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables in which an interpreter always starts alike: marshal's bytes tell what else was alive."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    return {**{name: value for name, value in environment.items() if name.upper() in kept}, **fixed}


def _pack(folder: Path, out: Path) -> Path | None:
    """As a wheel, so that the target's one reader of wheels reads it and RECORD has each file's hash."""
    members = dict(_members(folder))
    if not members:
        return None
    name, version = out.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, content in sorted(members.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([f"{info}/RECORD", "", ""])
    members[f"{info}/RECORD"] = record.getvalue().encode()
    beside = out.with_name(out.name + ".part")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(members.items()):
            entry = zipfile.ZipInfo(path)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            archive.writestr(entry, content)
    beside.replace(out)
    return out


def _members(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*.pyc"):
        yield path.relative_to(folder).as_posix(), path.read_bytes()
