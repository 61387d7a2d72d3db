"""Inspect the distributions in a virtual environment and compare their files with RECORD."""

import base64
import csv
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from .files import hash_small_file

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_BLOCK_SIZE = 1 << 20
_IS_ASCII_FILE_SYSTEM = os.name != "nt" and sys.getfilesystemencoding().lower() not in ("utf-8", "utf8")  # 3.6 in the C locale


def normalize_name(name):  # type: (str) -> str
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_site_packages(root):  # type: (str) -> List[str]
    """The site-packages of a virtual environment, resolved; two where purelib and platlib differ."""
    folders = [os.path.join(root, "Lib", "site-packages"), os.path.join(root, "site-packages")]
    for lib in ("lib", "lib64"):
        if os.path.isdir(os.path.join(root, lib)):
            names = sorted(os.listdir(os.path.join(root, lib)))
            folders += [os.path.join(root, lib, name, "site-packages") for name in names if name.startswith("py")]
    real = [os.path.realpath(folder) for folder in folders if os.path.isdir(folder)]
    return [folder for at, folder in enumerate(real) if folder not in real[:at]]


def find_dist_infos(root):  # type: (str) -> Dict[str, List[str]]
    """Normalised name -> its .dist-info folders; more than one where something went wrong."""
    dist_infos = {}  # type: Dict[str, List[str]]
    for site in find_site_packages(root):
        for name in sorted(os.listdir(site)):
            if name.endswith(".dist-info"):
                dist_infos.setdefault(normalize_name(name.rsplit("-", 2)[0]), []).append(os.path.join(site, name))
    return dist_infos


def read_record(info):  # type: (str) -> List[Tuple[str, str]]
    """What RECORD of a .dist-info folder lists, but folders: absolute path and hash, '' where it has none."""
    try:
        with open(os.path.join(info, "RECORD"), encoding="utf-8", newline="") as source:
            lines = [row for row in csv.reader(source) if row]
    except (OSError, ValueError, csv.Error):
        return []
    site = os.path.dirname(info)
    return [(resolve_record_path(site, row[0]), row[1] if len(row) > 1 else "") for row in lines if row[0][-1:] != "/"]


def resolve_record_path(site, name):  # type: (str, str) -> str
    """Where RECORD's name means, absolute."""
    if _IS_ASCII_FILE_SYSTEM:
        name = os.fsdecode(name.encode("utf-8"))
    if name.startswith((".", "/")) or os.name == "nt":
        return os.path.normpath(os.path.join(site, name))
    return site + "/" + name


def find_altered_distributions(root, versions, records=None, hashes=True):
    # type: (str, Mapping[str, str], Optional[Mapping[str, str]], bool) -> Dict[str, List[str]]
    """Of these distributions (normalised name -> version) those that are not whole, with what is missing or differs.

    `records`: sha256 of each RECORD as it was when it was installed, where that is known. Without `hashes` one is whole
    when an installer has finished it.
    """
    dist_infos = find_dist_infos(root)

    def look(name):  # type: (str) -> List[str]
        return check_distribution(name, versions[name], dist_infos.get(name, []), records, hashes)

    checked = run_in_processes(look, sorted(versions)) if hashes else ((name, look(name)) for name in versions)
    return {name: bad for name, bad in checked if bad}


def run_in_processes(work, names):  # type: (Callable[[str], Any], List[str]) -> Iterator[Tuple[str, Any]]
    """Each name and what `work` makes of it (JSON must be able to carry that), by two processes for each core: while
    one waits for the disk, the other works."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    count = min(2 * cores, 16, len(names) // 8)
    if count < 2 or not hasattr(os, "fork"):
        for name in names:
            yield name, work(name)
        return
    children = []  # type: List[Tuple[int, int]]
    try:
        for number in range(count):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    with open(write, "w") as out:
                        json.dump([(name, work(name)) for name in names[number::count]], out)
                finally:
                    os._exit(0)
            os.close(write)
            children.append((child, read))
        for _, read in children:
            with open(read, closefd=False) as pipe:
                for name, outcome in json.load(pipe):
                    yield name, outcome
    except ValueError:
        raise OSError(errno.ECHILD, "a process of this installation was ended")
    finally:
        for child, read in children:
            os.close(read)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def check_distribution(name, version, infos, records, hashes=True):
    # type: (str, str, List[str], Optional[Mapping[str, str]], bool) -> List[str]
    """What is missing or differs of one distribution that has these .dist-info folders."""
    fits = [info for info in infos if _normalize_version(info[: -len(".dist-info")].rpartition("-")[2]) == _normalize_version(version)]
    listed = read_record(fits[0]) if len(infos) == 1 and fits else []
    # pip first unpacks the wheel's own RECORD; the one that it writes last lists INSTALLER
    if not listed or os.path.join(fits[0], "INSTALLER") not in [path for path, _ in listed]:
        return [name]
    record = os.path.join(fits[0], "RECORD")
    bad = [path for path, digest in listed if digest and hashes and not _matches_record(path, digest)]
    return bad + ([record] if records and hash_small_file(record) != records.get(name, "") else [])


def _normalize_version(version):  # type: (str) -> str
    return re.sub(r"[-_.+]+", ".", version.lower())


def _matches_record(path, expected):  # type: (str, str) -> bool
    """RECORD: the hash is the algorithm's name, =, and the urlsafe base64 digest without padding."""
    kind, _, value = expected.partition("=")
    try:
        digest = hashlib.sha256() if kind == "sha256" else hashlib.new(kind)
        handle = os.open(path, _READ_FLAGS)
        try:
            block = os.read(handle, _BLOCK_SIZE)
            digest.update(block)
            while len(block) == _BLOCK_SIZE:
                block = os.read(handle, _BLOCK_SIZE)
                digest.update(block)
        finally:
            os.close(handle)
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=") == value.encode("utf-8")


def discard_distributions(root, names):  # type: (str, Iterable[str]) -> None
    """Forget distributions that are not whole, so that they are installed again."""
    dist_infos = find_dist_infos(root)
    for info in [info for name in names for info in dist_infos.get(name, [])]:
        shutil.rmtree(info)


def remove_unowned_files(root, base):  # type: (str, Iterable[str]) -> None
    """Remove what an interrupted run left: all that neither a RECORD nor `base` (relative paths) lists."""
    root = os.path.realpath(root)
    owned = [path for infos in find_dist_infos(root).values() for info in infos for path, _ in read_record(info)]
    keep = set(base) | {os.path.relpath(path, root) for path in owned}
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            if os.path.relpath(os.path.join(folder, name), root) not in keep:
                os.unlink(os.path.join(folder, name))
        if folder != root and os.path.relpath(folder, root) not in keep and not os.listdir(folder):
            os.rmdir(folder)


def mark_requested(root, requested):  # type: (str, Mapping[str, bool]) -> None
    """REQUESTED stands with the distributions that were asked for, and nowhere else; RECORD says the same."""
    for name, infos in find_dist_infos(root).items():
        if name not in requested:
            continue
        path, record = os.path.join(infos[0], "REQUESTED"), os.path.join(infos[0], "RECORD")
        row = "%s/REQUESTED" % os.path.basename(infos[0])
        if os.path.exists(path) == requested[name] or not os.path.exists(record):
            continue
        with open(record, encoding="utf-8", newline="") as source:
            lines = [line for line in source.read().splitlines(True) if line.split(",")[0] != row]
        if requested[name]:
            open(path, "wb").close()
            ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
            lines.append("%s,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0%s" % (row, ending))
        with open(record + ".new", "w", encoding="utf-8", newline="") as out:
            out.writelines(sorted(lines))
        os.replace(record + ".new", record)
        if not requested[name]:
            os.unlink(path)
