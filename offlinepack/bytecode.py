"""Bytecode made on the host: of a wheel, a second one with x.pyc in the place of x.py, for one version of Python.

Times and sizes in the headers are zero; the target writes the real ones when it places the files. No clock is read and
strings hash alike in every run, so that the same wheel and interpreter give the same bytes.
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
from pathlib import Path

from offlinepack.errors import BuildError, error
from offlinepack.ontarget.wheel import Wheel

# Runs in the interpreter that the code is for. Nothing of the wheel is imported or run: it is only compiled.
_COMPILE = """\
import sys
del sys.path[0]
import importlib.util, marshal, os, warnings, zipfile
warnings.simplefilter("ignore")
head = importlib.util.MAGIC_NUMBER + bytes(8 if sys.version_info < (3, 7) else 12)
with zipfile.ZipFile(sys.argv[1]) as archive:
    for name in sorted(one for one in archive.namelist() if one.endswith(".py")):
        try:
            code = compile(archive.read(name), name, "exec", 0, True)
        except Exception:
            continue
        path = os.path.join(sys.argv[2], *(name + "c").split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(head + marshal.dumps(code))
"""


def compile_wheel(wheel: Wheel, python: Path | str, out: Path) -> Path:
    """`out`: what this interpreter makes of the sources; what it cannot compile is left out. Else BuildError."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as work:
        done = subprocess.run(
            [str(python), "-s", "-S", "-B", "-c", _COMPILE, wheel.path, work],
            env={**kept, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise BuildError(
                error(
                    "not-compiled",
                    wheel.filename,
                    "{python} could not compile {subject}.",
                    "Leave --bytecode out, or name another interpreter with --build-python.",
                    log=done.stderr[-2000:],
                    python=python,
                )
            )
        _pack(wheel, Path(work), out)
    return out


def _pack(wheel: Wheel, folder: Path, out: Path) -> None:
    """As a wheel, so that the target's one reader of wheels reads it and RECORD has each file's hash."""
    members = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.pyc")}
    members[f"{wheel.info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {wheel.name}\nVersion: {wheel.version}\n".encode()
    )
    members[f"{wheel.info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name, content in sorted(members.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(content)])
    rows.writerow([f"{wheel.info}/RECORD", "", ""])
    members[f"{wheel.info}/RECORD"] = record.getvalue().encode()
    beside = out.with_name(out.name + ".part")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(members.items()):
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            archive.writestr(entry, content)
    beside.replace(out)
