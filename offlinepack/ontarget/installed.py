"""What is installed in a virtual environment: each distribution and its files, compared with its RECORD."""

import base64
import csv
import hashlib
import os
import re
import shutil
from typing import Dict, Iterable, List, Mapping, Optional, Tuple


def listing(root):  # type: (str) -> List[str]
    """Every file, link and folder below, as relative paths."""
    found = []
    for folder, folders, files in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, name), root) for name in folders + files]
    return sorted(found)


def normalised(name):  # type: (str) -> str
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sites(root):  # type: (str) -> List[str]
    """The site-packages of a virtual environment, resolved; two where purelib and platlib differ."""
    found = [os.path.join(root, "Lib", "site-packages"), os.path.join(root, "site-packages")]
    for lib in ("lib", "lib64"):
        if os.path.isdir(os.path.join(root, lib)):
            names = sorted(os.listdir(os.path.join(root, lib)))
            found += [os.path.join(root, lib, name, "site-packages") for name in names if name.startswith("py")]
    real = [os.path.realpath(one) for one in found if os.path.isdir(one)]
    return [one for at, one in enumerate(real) if one not in real[:at]]


def dist_infos(root):  # type: (str) -> Dict[str, List[str]]
    """Normalised name -> its .dist-info folders; more than one where something went wrong."""
    found = {}  # type: Dict[str, List[str]]
    for site in sites(root):
        for name in sorted(os.listdir(site)):
            if name.endswith(".dist-info"):
                found.setdefault(normalised(name.rsplit("-", 2)[0]), []).append(os.path.join(site, name))
    return found


def rows(info):  # type: (str) -> List[Tuple[str, str]]
    """What RECORD of a .dist-info folder lists: absolute path and hash, '' where it has none."""
    try:
        with open(os.path.join(info, "RECORD"), encoding="utf-8", newline="") as source:
            lines = [row for row in csv.reader(source) if row]
    except (OSError, ValueError, csv.Error):
        return []
    site = os.path.dirname(info)
    return [(os.path.normpath(os.path.join(site, row[0])), row[1] if len(row) > 1 else "") for row in lines]


def altered(root, versions, records=None):
    # type: (str, Mapping[str, str], Optional[Mapping[str, str]]) -> Dict[str, List[str]]
    """Of these distributions (normalised name -> version) those that are not whole, with what is missing or differs.

    `records`: sha256 of each RECORD as it was when it was installed, where that is known.
    """
    here, found = dist_infos(root), {}
    for name, version in versions.items():
        infos = here.get(name, [])
        fits = [one for one in infos if _plain(one[: -len(".dist-info")].rpartition("-")[2]) == _plain(version)]
        listed = rows(fits[0]) if len(infos) == 1 and fits else []
        # pip first unpacks the wheel's own RECORD; the one that it writes last lists INSTALLER
        if listed and os.path.join(fits[0], "INSTALLER") not in [path for path, _ in listed]:
            listed = []
        bad = [path for path, wanted in listed if wanted and not _same(path, wanted)]
        record = os.path.join(fits[0], "RECORD") if listed else name
        if not listed or (records and name in records and sha256(record) != records[name]):
            bad.append(record)
        if bad:
            found[name] = bad
    return found


def _plain(version):  # type: (str) -> str
    return re.sub(r"[-_.+]+", ".", version.lower())


def sha256(path):  # type: (str) -> str
    """Hex digest of a small file; '' where it cannot be read."""
    try:
        with open(path, "rb") as source:
            return hashlib.sha256(source.read()).hexdigest()
    except OSError:
        return ""


def _same(path, wanted):  # type: (str, str) -> bool
    """RECORD: the hash is the algorithm's name, =, and the urlsafe base64 digest without padding."""
    kind, _, value = wanted.partition("=")
    try:
        digest = hashlib.new(kind)
        with open(path, "rb", buffering=0) as source:
            for block in iter(lambda: source.read(1 << 20), b""):
                digest.update(block)
    except (OSError, ValueError):
        return False
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii") == value


def discard(root, names):  # type: (str, Iterable[str]) -> None
    """Forget distributions that are not whole, so that they are installed again."""
    here = dist_infos(root)
    for info in [one for name in names for one in here.get(name, [])]:
        shutil.rmtree(info)


def sweep(root, base):  # type: (str, Iterable[str]) -> None
    """Remove what an interrupted run left: all that neither a RECORD nor `base` (relative paths) lists."""
    root = os.path.realpath(root)
    owned = [path for infos in dist_infos(root).values() for one in infos for path, _ in rows(one)]
    keep = set(base) | {os.path.relpath(path, root) for path in owned}
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files + [one for one in folders if os.path.islink(os.path.join(folder, one))]:
            if os.path.relpath(os.path.join(folder, name), root) not in keep:
                os.unlink(os.path.join(folder, name))
        if folder != root and os.path.relpath(folder, root) not in keep and not os.listdir(folder):
            os.rmdir(folder)


def mark(root, requested):  # type: (str, Mapping[str, bool]) -> None
    """REQUESTED stands with the distributions that were asked for, and nowhere else; RECORD says the same."""
    for name, infos in dist_infos(root).items():
        if name not in requested:
            continue
        path, record = os.path.join(infos[0], "REQUESTED"), os.path.join(infos[0], "RECORD")
        row = "%s/REQUESTED" % os.path.basename(infos[0])
        if os.path.exists(path) == requested[name] or not os.path.exists(record):
            continue
        with open(record, encoding="utf-8", newline="") as source:
            lines = [one for one in source.read().splitlines(True) if one.split(",")[0] != row]
        if requested[name]:
            open(path, "wb").close()
            ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
            lines.append("%s,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0%s" % (row, ending))
        with open(record + ".new", "w", encoding="utf-8", newline="") as out:
            out.writelines(sorted(lines))
        os.replace(record + ".new", record)
        if not requested[name]:
            os.unlink(path)
