"""Write files atomically, and describe sizes and system errors, for both sides."""

import contextlib
import hashlib
import json
import os
import shutil
import threading
from typing import Any, Dict, Iterator, List

from .errors import ComputerError, error


def is_link(path):  # type: (str) -> bool
    """A symbolic link, or a junction on Windows."""
    if os.path.islink(path):
        return True
    return os.name == "nt" and os.path.isdir(path) and bool(getattr(os.lstat(path), "st_file_attributes", 0) & 0x400)


def read_bytes(path):  # type: (str) -> bytes
    """A whole small file."""
    with open(path, "rb") as source:
        return source.read()


def read_json(path):  # type: (str) -> Dict[str, Any]
    """An object that write_json wrote; empty where there is none. A file that is not whole is an error."""
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
    """A file, link or whole folder is gone afterwards; what is not there is no error."""
    if os.path.isdir(path) and not is_link(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        (os.rmdir if os.name == "nt" and os.path.isdir(path) else os.unlink)(path)


def sync_file_system(folder):  # type: (str) -> None
    """All that was written to this file system is on disk."""
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
    """While the block runs, what it writes goes to the disk already; the last sync is short then."""
    over, failures = threading.Event(), []  # type: threading.Event, List[OSError]

    def work():  # type: () -> None
        while not over.wait(1.0) and not failures:
            try:
                sync_file_system(folder)
            except OSError as failed:
                failures.append(failed)  # told once, and by this one only

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    for failed in failures:
        raise failed


def list_tree(root):  # type: (str) -> List[str]
    """Every file, link and folder below, as relative paths."""
    results = []
    for folder, folders, files in os.walk(root):
        results += [os.path.relpath(os.path.join(folder, name), root) for name in folders + files]
    return sorted(results)


def hash_small_file(path):  # type: (str) -> str
    """Hex digest of a small file; '' where it cannot be read."""
    try:
        with open(path, "rb") as source:
            return hashlib.sha256(source.read()).hexdigest()
    except OSError:
        return ""


def format_size(count):  # type: (float) -> str
    """Format a number of bytes in units of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000.0
    return "%.*f %s" % (0 if unit == "B" or count >= 100 else 1, count, unit)
