"""All that would stop an installation here, found before anything is written: rights, disk, system, libraries."""

import mmap
import os
import re
import subprocess
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from . import interpreter, seed
from .environment import Place
from .errors import Finding, error, note, text
from .manifest import Need

MACHINE = ("library-missing", "symbol-missing", "no-venv", "no-distutils")
"""codes of findings that another machine, or another Python, would not have; the rest is this computer's state"""
_FAT = ("vfat", "exfat", "msdos")
SPARE = 16 << 20
"""bytes for the virtual environment itself, temporary files, logs and reports"""
_BLOCK = 4096
_LOAD = """\
import ctypes, sys
for one in sys.argv[1:]:
    try:
        ctypes.CDLL(one)
        print(one)
    except OSError:
        pass
"""


class Room(NamedTuple):
    """What the unpacked files of a target take on a disk."""

    files: int  # bytes, each file rounded up to a block
    bytecode: int
    entries: int  # files and folders
    longest: int  # characters of the longest path below site-packages
    spare: int  # bytes for whatever else will lie there


def room(wheels, sdists, compiled):  # type: (Iterable[Iterable[Tuple[str, int]]], int, bool) -> Room
    """What wheels with these files unpack to, bytecode as large as its source; for so many bytes of sdists a guess."""
    files, bytecode, count, longest, folders = 8 * sdists, 0, 0, 0, set()  # type: int, int, int, int, Set[str]
    for wheel in wheels:
        for path, size in wheel:
            size = (size + _BLOCK - 1) // _BLOCK * _BLOCK
            count, files, longest = count + 1, files + size, max(longest, len(path))
            folders.add(path.rpartition("/")[0])
            if compiled and path.endswith(".py"):
                count, bytecode, longest = count + 1, bytecode + size, max(longest, len(path) + 25)
    return Room(files, bytecode, count + len(folders) * (2 if compiled else 1), longest, SPARE)


def check(place, wanted, facts, needs, engine="auto"):
    # type: (Place, Room, Mapping[str, Any], Sequence[Need], str) -> List[Finding]
    """Every finding at once. `wanted`: what will be written."""
    findings = rights(place) + _system(place) + _disk(place, wanted) + _libraries(needs, facts)
    if engine == "pip" and seed.lacks_distutils(facts):
        findings.append(error(
            "no-distutils", facts["executable"], "{subject} has no distutils, without which its pip cannot run.",
            "Install python3-distutils, or take --engine fast."))
    if not place.foreign and not facts["has"]["venv"]:
        package = "python%s-venv" % ".".join(facts["python"].split(".")[:2])
        findings.append(error(
            "no-venv", facts["executable"], "{subject} has no module venv.",
            "Install the package that brings it ({package} on Debian and Ubuntu), or name another one with --python.",
            package=package))
    return findings


def nearest(path):  # type: (str) -> str
    """The nearest folder above, or the path itself, that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def rights(place):  # type: (Place) -> List[Finding]
    """Where this user may not write, and a place where that could be."""
    found = []
    folders = [nearest(place.beside), nearest(os.path.dirname(place.venv))] + [place.venv] * place.foreign
    for path in dict.fromkeys(folders):
        if os.access(path, os.W_OK | os.X_OK):
            continue
        named = os.path.basename(place.venv)
        others = [os.path.join(os.path.expanduser("~"), named), os.path.join(os.getcwd(), named)]
        could = [one for one in others if not os.path.lexists(one) and os.access(os.path.dirname(one), os.W_OK)]
        advice = text("Run this as a user who may write there, or choose another place with --venv.")
        if could:
            advice = text(
                "Run this as a user who may write there, or choose a place that can be: --venv {venv}", venv=could[0])
        found.append(error("not-writable", path, "{subject} cannot be written by this user.", "{do}", do=advice))
    return found


def _system(place):  # type: (Place) -> List[Finding]
    found, standing = [], nearest(place.beside)
    kind = _mounted(standing)
    if kind in _FAT:
        found.append(error(
            "fat", standing, "{subject} lies on a {kind} file system, which knows no links and no rights.",
            _PLACE, kind=kind))
    if hasattr(os, "statvfs") and os.statvfs(standing).f_flag & getattr(os, "ST_NOEXEC", 8):
        found.append(error("noexec", standing, "Nothing may be executed at {subject}: it is mounted noexec.", _PLACE))
    if os.path.exists("/sys/fs/selinux/enforce") and _read("/sys/fs/selinux/enforce").strip() == "1":
        found.append(note(
            "selinux", place.venv, "SELinux is enforcing.", "If a service is refused: restorecon -R {venv} {beside}",
            venv=place.venv, beside=place.beside))
    if os.path.exists("/run/fapolicyd") or os.path.exists("/var/run/fapolicyd.pid"):
        found.append(note(
            "fapolicyd", place.venv, "fapolicyd decides which programs may run here.",
            "Let it trust the new files: fapolicyd-cli --file add {beside}/ && fapolicyd-cli --update",
            beside=place.beside))
    if os.name != "nt":
        mask = os.umask(0o77)
        os.umask(mask)
        if mask & 0o55:
            found.append(note(
                "umask", place.venv,
                "The umask is {mask}: other users, a service's among them, will not be able to read {subject}.",
                "For them: umask 022 before this command; what is there already: chmod -R go+rX {beside}",
                mask="%03o" % mask, beside=place.beside))
    return found


_PLACE = "Choose another place with --venv."


def _mounted(path):  # type: (str) -> str
    """The type of the file system that a folder lies on; '' where that is not known."""
    best, kind, path = "", "", os.path.realpath(path)
    for line in _read("/proc/self/mounts").splitlines():
        point, found = (line.split(" ") + ["", ""])[1:3]
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), point)
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, found
    return kind


def _read(path):  # type: (str) -> str
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read()
    except OSError:
        return ""


def _disk(place, wanted):  # type: (Place, Room) -> List[Finding]
    found, standing = [], nearest(place.beside)
    need = wanted.files + wanted.bytecode + wanted.spare
    if os.name == "nt":
        import shutil

        free, nodes = shutil.disk_usage(standing).free, 0
        deepest = len(place.beside) + len("\\0123456789ab\\Lib\\site-packages\\") + wanted.longest
        if deepest > 259 and not _long_paths():
            found.append(error(
                "path-too-long", place.venv,
                "The longest path below {subject} would have {deepest} characters; Windows allows 259 here.",
                "Choose a shorter place with --venv, or allow long paths.", deepest=deepest))
    else:
        disk = os.statvfs(standing)
        free, nodes = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else 0
    if free < need:
        parts = {"files": size(wanted.files), "compiled": size(wanted.bytecode), "spare": size(wanted.spare)}  # type: Dict[str, Any]
        found.append(error(
            "disk-full", standing,
            "{subject} has {free} free; {need} are needed: {files} of files, {compiled} of bytecode, {spare} besides.",
            "Make room, or choose another place with --venv.", free=size(free), need=size(need), **parts))
    if nodes and nodes < wanted.entries:
        found.append(error(
            "no-inodes", standing, "{subject} has room for {nodes} more files; {count} are needed (inodes, df -i).",
            "Make room, or choose another place with --venv.", nodes=nodes, count=wanted.entries))
    return found


def size(count):  # type: (float) -> str
    """Bytes as people read them, in units of 1000."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return "%.0f %s" % (count, unit)
        count /= 1000.0
    return "%.1f GB" % count


def _long_paths():  # type: () -> bool
    try:
        import winreg

        key = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem")  # type: ignore[attr-defined,unused-ignore]
        return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False


def _libraries(needs, facts):  # type: (Sequence[Need], Mapping[str, Any]) -> List[Finding]
    """Shared libraries that the system has to bring, as the loader sees them, and the symbol versions in them."""
    found, known = [], interpreter._libraries(dict(facts)) if needs else {}
    loaded = _loads(facts["executable"], [one.soname for one in needs if one.soname not in known])
    for need in needs:
        advice = need.help or text("Install the package of this system that brings it.")
        if need.soname not in known and need.soname not in loaded:
            found.append(error(
                "library-missing", need.soname,
                "{subject} is missing on this machine; {wanted_by} cannot work without it.",
                "{do}", wanted_by=need.wanted_by, do=advice))
        elif need.symbols and need.soname in known:
            with open(known[need.soname], "rb") as source:
                data = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            lacking = [one for one in need.symbols if data.find(one.encode("utf-8") + b"\0") < 0]
            data.close()
            if lacking:
                facts_of = {"lacking": lacking, "wanted_by": need.wanted_by, "do": advice}  # type: Dict[str, Any]
                found.append(error(
                    "symbol-missing", need.soname,
                    "{subject} on this machine is too old: it lacks {lacking}, which {wanted_by} need.",
                    "{do}", **facts_of))
    return found


def _loads(python, sonames):  # type: (str, Sequence[str]) -> List[str]
    """Those that this Python can load, wherever it has them from."""
    if not sonames:
        return []
    command = [python, "-I", "-c", _LOAD] + list(sonames)
    try:
        told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.decode("utf-8", "replace").split()
