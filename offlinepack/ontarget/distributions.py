"""Inspect the distributions in a virtual environment and compare their files with RECORD."""

import base64
import csv
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from .files import hash_small_file
from .wheel_model import is_same_version, normalize_name

# Python 3.6 in the C locale
_IS_ASCII_FILE_SYSTEM = os.name != "nt" and sys.getfilesystemencoding().lower() not in ("utf-8", "utf8")


def count_cores():  # type: () -> int
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_site_packages(root):  # type: (str) -> List[str]
    """Return the real site-packages of a virtual environment: two if purelib and platlib differ."""
    folders = [os.path.join(root, "Lib", "site-packages"), os.path.join(root, "site-packages")]
    for lib in ("lib", "lib64"):
        if os.path.isdir(os.path.join(root, lib)):
            names = sorted(os.listdir(os.path.join(root, lib)))
            folders += [os.path.join(root, lib, name, "site-packages") for name in names if name.startswith("py")]
    real = [os.path.realpath(folder) for folder in folders if os.path.isdir(folder)]
    return [folder for at, folder in enumerate(real) if folder not in real[:at]]


def find_dist_infos(root):  # type: (str) -> Dict[str, List[str]]
    """Return normalised name -> its .dist-info folders; several are an error."""
    dist_infos = {}  # type: Dict[str, List[str]]
    for site in find_site_packages(root):
        for name in sorted(os.listdir(site)):
            if name.endswith(".dist-info"):
                dist_infos.setdefault(normalize_name(name.rsplit("-", 2)[0]), []).append(os.path.join(site, name))
    return dist_infos


def read_record(info):  # type: (str) -> List[Tuple[str, str]]
    """Return absolute path and hash ('' if missing) of each file that the RECORD of a .dist-info folder lists."""
    try:
        with open(os.path.join(info, "RECORD"), encoding="utf-8", newline="") as source:
            lines = [row for row in csv.reader(source) if row]
    except (OSError, ValueError, csv.Error):
        return []
    site = os.path.dirname(info)
    return [(resolve_record_path(site, row[0]), row[1] if len(row) > 1 else "") for row in lines if row[0][-1:] != "/"]


def resolve_record_path(site, name):  # type: (str, str) -> str
    """Return the absolute path of a name in RECORD."""
    if _IS_ASCII_FILE_SYSTEM:
        name = os.fsdecode(name.encode("utf-8"))
    if name.startswith((".", "/")) or os.name == "nt":
        return os.path.normpath(os.path.join(site, name))
    return site + "/" + name


def find_altered_distributions(root, versions, records=None, hashes=True):
    # type: (str, Mapping[str, str], Optional[Mapping[str, str]], bool) -> Dict[str, List[str]]
    """Return missing and altered files by name, with known hashes of RECORD; without `hashes` read only RECORD."""
    dist_infos = find_dist_infos(root)

    def check(name):  # type: (str) -> List[str]
        return check_distribution(name, versions[name], dist_infos.get(name, []), records, hashes)

    checked = run_in_processes(check, sorted(versions)) if hashes else ((name, check(name)) for name in versions)
    return {name: bad for name, bad in checked if bad}


def run_in_processes(work, names):  # type: (Callable[[str], Any], List[str]) -> Iterator[Tuple[str, Any]]
    """Yield each name and the JSON value that `work` returns, from two processes a core: one may wait for the disk."""
    count = min(2 * count_cores(), 16, len(names) // 8)
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
    """Return the missing and altered files of one distribution with these .dist-info folders."""
    fits = [info for info in infos if is_same_version(info[: -len(".dist-info")].rpartition("-")[2], version)]
    listed = read_record(fits[0]) if len(infos) == 1 and fits else []
    # pip first unpacks the wheel's own RECORD; the one that it writes last lists INSTALLER
    if not listed or os.path.join(fits[0], "INSTALLER") not in [path for path, _ in listed]:
        return [name]
    record = os.path.join(fits[0], "RECORD")
    bad = [path for path, digest in listed if digest and hashes and not _matches_record(path, digest)]
    return bad + ([record] if records and hash_small_file(record) != records.get(name, "") else [])


def _matches_record(path, expected):  # type: (str, str) -> bool
    """Compare a file with RECORD: the algorithm's name, =, and the urlsafe base64 digest without padding."""
    kind, _, value = expected.partition("=")
    try:
        digest = hashlib.new(kind)
        with open(path, "rb", buffering=0) as source:
            for block in iter(lambda: source.read(1 << 20), b""):
                digest.update(block)
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=") == value.encode("utf-8")


def discard_distributions(root, names):  # type: (str, Iterable[str]) -> None
    """Remove the .dist-info folders of distributions, so that they are installed again."""
    dist_infos = find_dist_infos(root)
    for info in [info for name in names for info in dist_infos.get(name, [])]:
        shutil.rmtree(info)


def remove_unowned_files(root, base):  # type: (str, Iterable[str]) -> None
    """Remove the files that neither a RECORD nor `base` (relative paths) lists; an interrupted run leaves them."""
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
    """Create or remove REQUESTED of each distribution, and update RECORD."""
    for name, infos in find_dist_infos(root).items():
        path, record = os.path.join(infos[0], "REQUESTED"), os.path.join(infos[0], "RECORD")
        row = "%s/REQUESTED" % os.path.basename(infos[0])
        if os.path.exists(path) == requested.get(name, os.path.exists(path)) or not os.path.exists(record):
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
