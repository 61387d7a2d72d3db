"""Write files atomically, and describe sizes and system errors, for both sides."""

import contextlib
import hashlib
import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List

from .errors import ComputerError, error


def is_link(path):  # type: (str) -> bool
    """Check for a symbolic link, or a junction on Windows."""
    if os.path.islink(path):
        return True
    return os.name == "nt" and os.path.isdir(path) and bool(getattr(os.lstat(path), "st_file_attributes", 0) & 0x400)


def read_bytes(path):  # type: (str) -> bytes
    """Return the contents of a small file."""
    with open(path, "rb") as source:
        return source.read()


def read_system_file(path):  # type: (str) -> bytes
    """Return the contents of a file in /proc or /sys, or nothing if it cannot be read."""
    try:
        return read_bytes(path)
    except OSError:
        return b""


def read_json(path):  # type: (str) -> Dict[str, Any]
    """Return an object that write_json wrote, empty if there is no file; a damaged file is a ComputerError."""
    try:
        with open(path, encoding="utf-8") as source:
            document = json.load(source)
    except FileNotFoundError:
        return {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ComputerError(error(
            "state-unreadable", path, "{subject} is not as offlinepack wrote it.", "Restore it, or move it away."))
    return document


def write_file_atomically(path, data):  # type: (Any, bytes) -> None
    """Write a file completely, with its bytes on disk, or leave the former file as it was."""
    temporary = "%s.new" % path
    os.makedirs(os.path.dirname(temporary) or ".", exist_ok=True)
    try:
        with open(temporary, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, str(path))
    except BaseException:
        remove_path(temporary)
        raise


def write_json(path, value):  # type: (str, Any) -> None
    """Write a JSON document completely or not at all."""
    write_file_atomically(path, (json.dumps(value, indent=1) + "\n").encode("ascii"))


def remove_path(path):  # type: (str) -> None
    """Remove a file, link or whole folder if it exists."""
    if os.path.isdir(path) and not is_link(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        (os.rmdir if os.name == "nt" and os.path.isdir(path) else os.unlink)(path)


def sync_file_system(folder):  # type: (str) -> None
    """Write all data of this file system to the disk."""
    try:
        import ctypes
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, OSError, AttributeError, TypeError):
        getattr(os, "sync", lambda: None)()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(handle):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
    finally:
        os.close(handle)


@contextlib.contextmanager
def sync_in_background(folder):  # type: (str) -> Iterator[None]
    """Write to the disk every second while the block runs, so that the last sync is short."""
    over = threading.Event()

    def work():  # type: () -> None
        while not over.wait(1.0):
            sync_file_system(folder)

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(work)
        try:
            yield
        finally:
            over.set()
    worker.result()


def list_tree(root):  # type: (str) -> List[str]
    """Return the relative paths of all files, links and folders below a folder."""
    paths = [os.path.join(folder, name) for folder, folders, files in os.walk(root) for name in folders + files]
    return sorted(os.path.relpath(path, root) for path in paths)


def hash_small_file(path):  # type: (str) -> str
    """Return the sha256 of a small file, or '' if it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except OSError:
        return ""


def format_size(count):  # type: (float) -> str
    """Format a number of bytes in units of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000.0
    return "%.*f %s" % (0 if unit == "B" or count >= 100 else 1, count, unit)
