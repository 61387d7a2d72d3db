"""Check permissions, disk space, system and libraries of the target machine before anything is written."""

import mmap
import os
import re
import subprocess
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple

from .errors import Finding, error, note, text
from .files import format_size
from .generations import EnvironmentLocation
from .interpreter import find_libraries
from .manifest import Need
from .venv import lacks_distutils

MACHINE_CODES = ("library-missing", "symbol-missing", "no-venv", "no-distutils")
"""codes of findings that another machine, or another Python, would not have; the rest is this computer's state"""

_FAT_TYPES = ("vfat", "exfat", "msdos")
SPARE_BYTES = 16 << 20
"""bytes for the virtual environment itself, temporary files, logs and reports"""

_BLOCK_SIZE = 4096

_LOAD_SCRIPT = """\
import ctypes, sys
for one in sys.argv[1:]:
    try:
        ctypes.CDLL(one)
        print(one)
    except OSError:
        pass
"""


class DiskUsage(NamedTuple):
    """What the unpacked files of a target take on a disk."""

    file_bytes: int  # bytes, each file rounded up to a block
    bytecode_bytes: int
    entry_count: int  # files and folders
    longest_path: int  # characters of the longest path below site-packages
    spare_bytes: int  # bytes for whatever else will lie there


def estimate_disk_usage(wheels, sdists, compiled):  # type: (Iterable[Iterable[Tuple[str, int]]], int, bool) -> DiskUsage
    """What wheels with these files unpack to, bytecode as large as its source; for so many bytes of sdists a guess."""
    files, bytecode, count, longest, folders = 8 * sdists, 0, 0, 0, set()  # type: int, int, int, int, Set[str]
    for wheel in wheels:
        for path, size in wheel:
            size = (size + _BLOCK_SIZE - 1) // _BLOCK_SIZE * _BLOCK_SIZE
            count, files, longest = count + 1, files + size, max(longest, len(path))
            folders.add(path.rpartition("/")[0])
            if compiled and path.endswith(".py"):
                count, bytecode, longest = count + 1, bytecode + size, max(longest, len(path) + 25)
    return DiskUsage(files, bytecode, count + len(folders) * (2 if compiled else 1), longest, SPARE_BYTES)


def run_preflight(place, disk_usage, facts, needs, engine="auto"):
    # type: (EnvironmentLocation, DiskUsage, Mapping[str, Any], Sequence[Need], str) -> List[Finding]
    """Every finding at once. `wanted`: what will be written."""
    findings = check_permissions(place) + _check_system(place) + _check_disk(place, disk_usage) + _check_libraries(needs, facts)
    if engine == "pip" and lacks_distutils(facts):
        findings.append(error(
            "no-distutils", facts["executable"], "{subject} has no distutils, without which its pip cannot run.",
            "Install python3-distutils, or take --engine fast."))
    if not place.is_foreign and not facts["has"]["venv"]:
        package = "python%s-venv" % ".".join(facts["python"].split(".")[:2])
        findings.append(error(
            "no-venv", facts["executable"], "{subject} has no module venv.",
            "Install the package that brings it ({package} on Debian and Ubuntu), or name another one with --python.",
            package=package))
    return findings


def find_existing_parent(path):  # type: (str) -> str
    """The nearest folder above, or the path itself, that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def check_permissions(place):  # type: (EnvironmentLocation) -> List[Finding]
    """Where this user may not write, and a place where that could be."""
    findings = []
    folders = [find_existing_parent(place.generations_dir), find_existing_parent(os.path.dirname(place.venv))] + [place.venv] * place.is_foreign
    for path in dict.fromkeys(folders):
        if os.access(path, os.W_OK | os.X_OK):
            continue
        named = os.path.basename(place.venv)
        candidates = [os.path.join(os.path.expanduser("~"), named), os.path.join(os.getcwd(), named)]
        could = [other for other in candidates if not os.path.lexists(other) and os.access(os.path.dirname(other), os.W_OK)]
        advice = text("Run this as a user who may write there, or choose another place with --venv.")
        if could:
            advice = text(
                "Run this as a user who may write there, or choose a place that can be: --venv {venv}", venv=could[0])
        findings.append(error("not-writable", path, "{subject} cannot be written by this user.", "{do}", do=advice))
    return findings


def _check_system(place):  # type: (EnvironmentLocation) -> List[Finding]
    findings, standing = [], find_existing_parent(place.generations_dir)
    kind = _find_file_system_type(standing)
    if kind in _FAT_TYPES:
        findings.append(error(
            "fat", standing, "{subject} lies on a {kind} file system, which knows no links and no rights.",
            _CHOOSE_LOCATION, kind=kind))
    if hasattr(os, "statvfs") and os.statvfs(standing).f_flag & getattr(os, "ST_NOEXEC", 8):
        findings.append(error("noexec", standing, "Nothing may be executed at {subject}: it is mounted noexec.", _CHOOSE_LOCATION))
    if os.path.exists("/sys/fs/selinux/enforce") and _read_text("/sys/fs/selinux/enforce").strip() == "1":
        findings.append(note(
            "selinux", place.venv, "SELinux is enforcing.", "If a service is refused: restorecon -R {venv} {beside}",
            venv=place.venv, beside=place.generations_dir))
    if os.path.exists("/run/fapolicyd") or os.path.exists("/var/run/fapolicyd.pid"):
        findings.append(note(
            "fapolicyd", place.venv, "fapolicyd decides which programs may run here.",
            "Let it trust the new files: fapolicyd-cli --file add {beside}/ && fapolicyd-cli --update",
            beside=place.generations_dir))
    if os.name != "nt":
        mask = os.umask(0o77)
        os.umask(mask)
        if mask & 0o55:
            findings.append(note(
                "umask", place.venv,
                "The umask is {mask}: other users, a service's among them, will not be able to read {subject}.",
                "For them: umask 022 before this command; what is there already: chmod -R go+rX {beside}",
                mask="%03o" % mask, beside=place.generations_dir))
    return findings

_CHOOSE_LOCATION = "Choose another place with --venv."


def _find_file_system_type(path):  # type: (str) -> str
    """The type of the file system that a folder lies on; '' where that is not known."""
    best, kind, path = "", "", os.path.realpath(path)
    for line in _read_text("/proc/self/mounts").splitlines():
        point, mount_type = (line.split(" ") + ["", ""])[1:3]
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), point)
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, mount_type
    return kind


def _read_text(path):  # type: (str) -> str
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read()
    except OSError:
        return ""


def _check_disk(place, disk_usage):  # type: (EnvironmentLocation, DiskUsage) -> List[Finding]
    findings, standing = [], find_existing_parent(place.generations_dir)
    need = disk_usage.file_bytes + disk_usage.bytecode_bytes + disk_usage.spare_bytes
    if os.name == "nt":
        import shutil

        free, nodes = shutil.disk_usage(standing).free, 0
        deepest = len(place.generations_dir) + len("\\0123456789ab\\Lib\\site-packages\\") + disk_usage.longest_path
        if deepest > 259 and not _allows_long_paths():
            findings.append(error(
                "path-too-long", place.venv,
                "The longest path below {subject} would have {deepest} characters; Windows allows 259 here.",
                "Choose a shorter place with --venv, or allow long paths.", deepest=deepest))
    else:
        disk = os.statvfs(standing)
        free, nodes = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else 0
    if free < need:
        parts = {"files": format_size(disk_usage.file_bytes), "compiled": format_size(disk_usage.bytecode_bytes), "spare": format_size(disk_usage.spare_bytes)}  # type: Dict[str, Any]
        findings.append(error(
            "disk-full", standing,
            "{subject} has {free} free; {need} are needed: {files} of files, {compiled} of bytecode, {spare} besides.",
            "Make room, or choose another place with --venv.", free=format_size(free), need=format_size(need), **parts))
    if nodes and nodes < disk_usage.entry_count:
        findings.append(error(
            "no-inodes", standing, "{subject} has room for {nodes} more files; {count} are needed (inodes, df -i).",
            "Make room, or choose another place with --venv.", nodes=nodes, count=disk_usage.entry_count))
    return findings


def _allows_long_paths():  # type: () -> bool
    try:
        import winreg

        key = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem")  # type: ignore[attr-defined,unused-ignore]
        return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False


def _check_libraries(needs, facts):  # type: (Sequence[Need], Mapping[str, Any]) -> List[Finding]
    """Shared libraries that the system has to bring, as the loader sees them, and the symbol versions in them."""
    findings, libraries = [], find_libraries(dict(facts)) if needs else {}
    loaded = _find_loadable(facts["executable"], [need.soname for need in needs if need.soname not in libraries])
    for need in needs:
        advice = need.help or text("Install the package of this system that brings it.")
        if need.soname not in libraries and need.soname not in loaded:
            findings.append(error(
                "library-missing", need.soname,
                "{subject} is missing on this machine; {wanted_by} cannot work without it.",
                "{do}", wanted_by=need.wanted_by, do=advice))
        elif need.symbols and need.soname in libraries:
            with open(libraries[need.soname], "rb") as source:
                data = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            lacking = [symbol for symbol in need.symbols if data.find(symbol.encode("utf-8") + b"\0") < 0]
            data.close()
            if lacking:
                facts_of = {"lacking": lacking, "wanted_by": need.wanted_by, "do": advice}  # type: Dict[str, Any]
                findings.append(error(
                    "symbol-missing", need.soname,
                    "{subject} on this machine is too old: it lacks {lacking}, which {wanted_by} need.",
                    "{do}", **facts_of))
    return findings


def _find_loadable(python, sonames):  # type: (str, Sequence[str]) -> List[str]
    """Those that this Python can load, wherever it has them from."""
    if not sonames:
        return []
    command = [python, "-I", "-c", _LOAD_SCRIPT] + list(sonames)
    try:
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return process.stdout.decode("utf-8", "replace").split()
