"""Check permissions, disk space, system and libraries of the target machine before anything is written."""

import mmap
import os
import re
import shutil
import subprocess
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from .errors import Finding, error, note, text
from .files import format_size, read_system_file
from .generations import EnvironmentLocation
from .interpreter import find_libraries
from .manifest import Need
from .venv import lacks_distutils

# codes of findings about the machine or its Python; the others are about the state of this computer
MACHINE_CODES = ("library-missing", "symbol-missing", "no-venv", "no-distutils")
SPARE_BYTES = 16 << 20  # bytes for the virtual environment itself, temporary files, logs and reports
_BLOCK_SIZE = 4096
_CHOOSE_LOCATION = "Choose another place with --venv."
_MAKE_ROOM = "Make room, or choose another place with --venv."
_NO_DISTUTILS = "{subject} has no distutils, without which its pip cannot run."
_INSTALL_DISTUTILS = "Install python3-distutils, or take --engine fast."
_NO_VENV_ADVICE = (
    "Install the package that brings it ({package} on Debian and Ubuntu), or name another one with --python.")
_FAT = "{subject} lies on a {kind} file system, which knows no links and no rights."
_NOEXEC = "Nothing may be executed at {subject}: it is mounted noexec."
_LIBRARY_MISSING = "{subject} is missing on this machine; {wanted_by} cannot work without it."
_TOO_OLD = "{subject} on this machine is too old: it lacks {lacking}, which {wanted_by} need."
_LOAD_SCRIPT = """\
import ctypes, sys
for soname in sys.argv[1:]:
    try:
        print(ctypes.CDLL(soname)._name)
    except OSError:
        pass
"""


class DiskUsage(NamedTuple):
    """The disk space that the unpacked files of a target need."""
    file_bytes: int  # each file rounded up to a block
    bytecode_bytes: int
    entry_count: int  # files and folders
    longest_path: int  # characters below site-packages
    spare_bytes: int  # for other files


def estimate_disk_usage(wheels, sdists, compiled):  # type: (Iterable[Iterable[Tuple[str, int]]], int, bool) -> DiskUsage
    """Estimate the disk space for wheels with these paths and sizes, their bytecode, and this size of sdists."""
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
    """Return every finding about this machine and its Python."""
    findings = [*_check_permissions(place), *_check_system(place), *_check_disk(place, disk_usage)]
    findings += _check_libraries(needs, facts)
    if engine == "pip" and lacks_distutils(facts):
        findings.append(error("no-distutils", facts["executable"], _NO_DISTUTILS, _INSTALL_DISTUTILS))
    if not place.is_foreign and not facts["has"]["venv"]:
        package = "python%s-venv" % ".".join(facts["python"].split(".")[:2])
        findings.append(error(
            "no-venv", facts["executable"], "{subject} has no module venv.", _NO_VENV_ADVICE, package=package))
    return findings


def find_existing_parent(path):  # type: (str) -> str
    """Return the path itself or its nearest parent that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _check_permissions(place):  # type: (EnvironmentLocation) -> Iterator[Finding]
    """Yield each folder where this user may not write, and suggest another place."""
    folders = [find_existing_parent(place.generations_dir), find_existing_parent(os.path.dirname(place.venv))]
    for path in dict.fromkeys(folders + [place.venv] * place.is_foreign):
        if os.access(path, os.W_OK | os.X_OK):
            continue
        parents = [parent for parent in (os.path.expanduser("~"), os.getcwd()) if os.access(parent, os.W_OK)]
        candidates = [os.path.join(parent, os.path.basename(place.venv)) for parent in parents]
        could = [candidate for candidate in candidates if not os.path.lexists(candidate)]
        advice = text("Run this as a user who may write there, or choose another place with --venv.")
        if could:
            advice = text(
                "Run this as a user who may write there, or choose a place that can be: --venv {venv}", venv=could[0])
        yield error("not-writable", path, "{subject} cannot be written by this user.", "{do}", do=advice)


def _check_system(place):  # type: (EnvironmentLocation) -> Iterator[Finding]
    folder, generations = find_existing_parent(place.generations_dir), place.generations_dir
    kind = _find_file_system_type(folder)
    if kind in ("vfat", "exfat", "msdos"):
        yield error("fat", folder, _FAT, _CHOOSE_LOCATION, kind=kind)
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 8):
        yield error("noexec", folder, _NOEXEC, _CHOOSE_LOCATION)
    if read_system_file("/sys/fs/selinux/enforce").strip() == b"1":
        yield note(
            "selinux", place.venv, "SELinux is enforcing.", "If a service is refused: restorecon -R {venv} {beside}",
            venv=place.venv, beside=generations)
    if os.path.exists("/run/fapolicyd") or os.path.exists("/var/run/fapolicyd.pid"):
        yield note(
            "fapolicyd", place.venv, "fapolicyd decides which programs may run here.",
            "Let it trust the new files: fapolicyd-cli --file add {beside}/ && fapolicyd-cli --update",
            beside=generations)
    mask = os.umask(0o77)
    os.umask(mask)
    if os.name != "nt" and mask & 0o55:
        yield note(
            "umask", place.venv,
            "The umask is {mask}: other users, a service's among them, will not be able to read {subject}.",
            "For them: umask 022 before this command; what is there already: chmod -R go+rX {beside}",
            mask="%03o" % mask, beside=generations)


def _find_file_system_type(path):  # type: (str) -> str
    """Return the type of a folder's file system, or '' if it is unknown."""
    best, kind, path = "", "", os.path.realpath(path)
    for line in read_system_file("/proc/self/mounts").decode("utf-8", "replace").splitlines():
        point, mount_type = (line.split(" ") + ["", ""])[1:3]
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), point)
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, mount_type
    return kind


def _check_disk(place, disk_usage):  # type: (EnvironmentLocation, DiskUsage) -> Iterator[Finding]
    folder = find_existing_parent(place.generations_dir)
    need = disk_usage.file_bytes + disk_usage.bytecode_bytes + disk_usage.spare_bytes
    if os.name == "nt":
        free, nodes = shutil.disk_usage(folder).free, 0
        deepest = len(place.generations_dir) + len("\\0123456789ab\\Lib\\site-packages\\") + disk_usage.longest_path
        if deepest > 259 and not _allows_long_paths():
            yield error(
                "path-too-long", place.venv,
                "The longest path below {subject} would have {deepest} characters; Windows allows 259 here.",
                "Choose a shorter place with --venv, or allow long paths.", deepest=deepest)
    else:
        disk = os.statvfs(folder)
        free, nodes = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else 0
    if free < need:
        yield error(
            "disk-full", folder,
            "{subject} has {free} free; {need} are needed: {files} of files, {compiled} of bytecode, {spare} besides.",
            _MAKE_ROOM, free=format_size(free), need=format_size(need), files=format_size(disk_usage.file_bytes),
            compiled=format_size(disk_usage.bytecode_bytes), spare=format_size(disk_usage.spare_bytes))
    if nodes and nodes < disk_usage.entry_count:
        yield error(
            "no-inodes", folder, "{subject} has room for {nodes} more files; {count} are needed (inodes, df -i).",
            _MAKE_ROOM, nodes=nodes, count=disk_usage.entry_count)


def _allows_long_paths():  # type: () -> bool
    try:
        import winreg
        registry = winreg  # type: Any
        key = registry.OpenKey(registry.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem")
        return bool(registry.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def _check_libraries(needs, facts):  # type: (Sequence[Need], Mapping[str, Any]) -> Iterator[Finding]
    """Yield the shared libraries and symbol versions that the system does not provide."""
    libraries = find_libraries(dict(facts)) if needs else {}
    loaded = _find_loadable(facts["executable"], [need.soname for need in needs if need.soname not in libraries])
    for need in needs:
        advice = need.help or text("Install the package of this system that brings it.")
        texts = {"wanted_by": need.wanted_by, "do": advice}  # type: Dict[str, Any]
        if need.soname not in libraries and need.soname not in loaded:
            yield error("library-missing", need.soname, _LIBRARY_MISSING, "{do}", **texts)
        elif need.symbols and need.soname in libraries:
            with open(libraries[need.soname], "rb") as source:
                data = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            lacking = [symbol for symbol in need.symbols if data.find(symbol.encode("utf-8") + b"\0") < 0]
            data.close()
            if lacking:
                yield error("symbol-missing", need.soname, _TOO_OLD, "{do}", lacking=lacking, **texts)


def _find_loadable(python, sonames):  # type: (str, Sequence[str]) -> List[str]
    """Return the libraries that this Python can load from any folder."""
    if not sonames:
        return []
    command = [python, "-I", "-c", _LOAD_SCRIPT] + list(sonames)
    try:
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return process.stdout.decode("utf-8", "replace").split()
