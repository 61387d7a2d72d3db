"""Where an environment lies on disk: <venv> is a link to a generation <venv>.d/<id>, and what stands beside it there.

A generation is a virtual environment that is built in its final place and never moved. Nobody is led to it before its
last file is on disk; then the link is replaced in one step. The link alone says which generation is the current one.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import threading
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from .errors import ComputerError, Finding, error, note
from .manifest import Manifest, Target

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

_ID = re.compile(r"[0-9a-f]{12}\Z")
_PATIENCE = 20
"""tenths of a second to wait for the lock: a killed run's last child may still be dying"""


class Place(NamedTuple):
    """One environment: the path that people name, and whether offlinepack made what stands there."""

    venv: str  # absolute
    foreign: bool  # a virtual environment that offlinepack did not make: it is served in place

    @property
    def beside(self):  # type: () -> str
        """The folder of the generations and of all that offlinepack keeps for this environment."""
        return self.venv + ".d"

    def path(self, *names):  # type: (str) -> str
        """A path in the folder beside."""
        return os.path.join(self.beside, *names)

    def root(self, generation):  # type: (str) -> str
        """The folder that is, or will be, the virtual environment itself."""
        return self.venv if self.foreign else self.path(generation)

    @property
    def current(self):  # type: () -> Optional[str]
        """The generation that the link leads to; of a foreign environment, what state.json says."""
        if self.foreign:
            found = read_json(self.path("state.json")).get("current")
            return found if isinstance(found, str) else None
        leads = os.path.realpath(self.venv) if is_link(self.venv) else ""
        return os.path.basename(leads) if os.path.dirname(leads) == os.path.realpath(self.beside) else None


def locate(path):  # type: (str) -> Place
    """The place that a path means; a path that is a generation, or leads to one, means that generation's link."""
    venv = os.path.abspath(os.path.expanduser(path))
    if Place(venv, False).current or not os.path.lexists(venv):
        return Place(venv, False)
    parent, name = os.path.split(os.path.realpath(venv))
    if _ID.match(name) and parent.endswith(".d") and os.path.isfile(os.path.join(parent, "state.json")):
        return Place(parent[:-2], False)
    if os.path.isfile(os.path.join(venv, "pyvenv.cfg")):
        return Place(venv, True)
    if is_link(venv) and os.path.dirname(os.path.realpath(venv)) == os.path.realpath(venv + ".d"):
        return Place(venv, False)  # its generation is gone
    if os.path.isdir(venv) and not is_link(venv) and not os.listdir(venv):
        return Place(venv, False)
    kind = "folder-not-empty" if os.path.isdir(venv) else "not-a-folder"
    raise ComputerError(error(
        kind, venv, "{subject} exists and is no virtual environment.",
        "Name another place with --venv, or move it away."))


def is_link(path):  # type: (str) -> bool
    """A symbolic link, or a junction on Windows."""
    if os.path.islink(path):
        return True
    return os.name == "nt" and os.path.isdir(path) and bool(getattr(os.lstat(path), "st_file_attributes", 0) & 0x400)


def identify(manifest, target, python, options):  # type: (Manifest, Target, str, Mapping[str, Any]) -> str
    """12 hex digits of the digest of what is installed, so that the same command finds the same folder again."""
    hashes = {one.path: one.sha256 for one in manifest.files}
    what = [[one.name, one.version, hashes[one.file], one.requested] for one in target.install]
    tools = [[one.name, one.version, hashes[one.file]] for one in target.tools]
    plain = json.dumps([what, tools, target.facts.implementation, python, dict(options)], sort_keys=True)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@contextlib.contextmanager
def hold(place):  # type: (Place) -> Iterator[int]
    """The lock of this place, as an open file: programs that inherit it hold it too. ComputerError names who has it."""
    os.makedirs(place.beside, exist_ok=True)
    handle = os.open(place.path("lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        for left in range(_PATIENCE, -1, -1):
            try:
                if fcntl:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                else:
                    os.lseek(handle, 1 << 20, os.SEEK_SET)
                    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
                break
            except OSError as refused:
                if refused.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                    raise
                if not left:
                    raise ComputerError(_held(place, handle))
                time.sleep(0.1)
        os.lseek(handle, 0, os.SEEK_SET)
        os.ftruncate(handle, 0)
        os.write(handle, b"%d\n" % os.getpid())
        yield handle
    finally:
        os.close(handle)


def in_use(folder):  # type: (str) -> bool
    """Whether a live process holds this folder itself, as `offlinepack install` does with what it has unpacked."""
    if not fcntl:
        return True  # not known: who made it removes it
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _held(place, handle):  # type: (Place, int) -> Finding
    os.lseek(handle, 0, os.SEEK_SET)
    return error(
        "locked", place.venv, "Another run of offlinepack works on {subject}: process {pid}.",
        "Wait until it has ended; nothing was changed by this run.",
        pid=os.read(handle, 20).decode("ascii", "replace").strip() or "?")


def read_bytes(path):  # type: (str) -> bytes
    """A whole small file."""
    with open(path, "rb") as source:
        return source.read()


def read_json(path):  # type: (str) -> Dict[str, Any]
    """An object that write_json wrote; empty where there is none. A file that is not whole is an error."""
    try:
        with open(path, encoding="utf-8") as source:
            found = json.load(source)
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ComputerError(error(
            "state-unreadable", path, "{subject} is not as offlinepack wrote it.", "Restore it, or move it away."))
    return found


def write_json(path, value):  # type: (str, Any) -> None
    """Whole or not at all, and on disk when this returns."""
    beside = path + ".new"
    try:
        with open(beside, "w", encoding="utf-8") as out:
            json.dump(value, out, indent=1)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, path)
    except BaseException:
        remove(beside)
        raise


def read_state(place):  # type: (Place) -> Dict[str, Any]
    """state.json: current, former, sequences, a record of each generation; put right where the link says otherwise."""
    state = {"schema": 1, "current": None, "former": None, "sequences": {}, "generations": {}}  # type: Dict[str, Any]
    state.update(read_json(place.path("state.json")))
    current = place.current
    if current != state["current"]:
        state["former"], state["current"] = state["current"] or state["former"], current
    return state


def remove(path):  # type: (str) -> None
    """A file, link or whole folder is gone afterwards; what is not there is no error."""
    if os.path.isdir(path) and not is_link(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        (os.rmdir if os.name == "nt" and os.path.isdir(path) else os.unlink)(path)


def sync(folder):  # type: (str) -> None
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
def writing_back(folder):  # type: (str) -> Iterator[None]
    """While the block runs, what it writes goes to the disk already; the last sync is short then."""
    over, failures = threading.Event(), []  # type: threading.Event, List[OSError]

    def work():  # type: () -> None
        while not over.wait(1.0) and not failures:
            try:
                sync(folder)
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


def switch(place, generation):  # type: (Place, str) -> None
    """Lead people to this generation; its files must be on disk already."""
    fresh = place.path("link")
    remove(fresh)
    if os.path.isdir(place.venv) and not is_link(place.venv):
        os.rmdir(place.venv)
    if os.name == "nt":  # a junction cannot be replaced in one step
        import _winapi

        _winapi.CreateJunction(place.path(generation), fresh)  # type: ignore[attr-defined,unused-ignore]
        remove(place.venv)
        os.rename(fresh, place.venv)
        return
    os.symlink(os.path.join(os.path.basename(place.beside), generation), fresh)
    os.replace(fresh, place.venv)


def users(place):  # type: (Place) -> List[Tuple[int, str, Set[str]]]
    """Live processes that use this environment: id, name, the generations that their program, files or folder show."""
    pattern = b"(?:%s)/([0-9a-f]{12})(?=[/\\s\0]|$)" % b"|".join(
        re.escape(os.fsencode(one)) for one in {place.beside, os.path.realpath(place.beside)}
    )
    found = []
    for pid in sorted((int(one) for one in (os.listdir("/proc") if os.path.isdir("/proc") else []) if one.isdigit())):
        seen = [_proc(pid, "cmdline"), _proc(pid, "maps")]
        for link in ("exe", "cwd"):
            with contextlib.suppress(OSError):
                seen.append(os.fsencode(os.readlink("/proc/%d/%s" % (pid, link))))
        shown = {one.decode("ascii") for one in re.findall(pattern, b"\n".join(seen))}
        if pid not in (os.getpid(), os.getppid()) and (shown or seen[0].startswith(os.fsencode(place.venv) + b"/")):
            found.append((pid, _proc(pid, "comm").decode("utf-8", "replace").strip(), shown))
    return found


def _proc(pid, name):  # type: (int, str) -> bytes
    try:
        return read_bytes("/proc/%d/%s" % (pid, name))
    except OSError:
        return b""


def prune(place, keep):  # type: (Place, Iterable[Optional[str]]) -> List[Finding]
    """Remove every generation but these and those that a live process uses; what could not be removed is a note."""
    used = {one for _, _, shown in users(place) for one in shown}
    found = []
    for name in sorted(os.listdir(place.beside)):
        if _ID.match(name) and name not in keep and name not in used:
            try:
                remove(place.path(name))
            except OSError as refused:
                found.append(note(
                    "not-pruned", place.path(name), "{subject} could not be removed: {reason}.",
                    reason=refused.strerror))
    return found
