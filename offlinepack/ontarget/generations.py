"""Locate, lock, switch and prune generations: <venv> is a link to one of the environments <venv>.d/<id>.

A generation is built at its final path and never moved. The link alone defines the current generation; it is replaced
in one step after the last file is on disk.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from .errors import ComputerError, Finding, error, note
from .files import is_link, read_json, read_system_file, remove_path
from .manifest import Manifest, TargetPlan

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

_GENERATION_ID = re.compile(r"[0-9a-f]{12}\Z")
_LOCK_ATTEMPTS = 20  # tenths of a second: the last child of a killed run may still be running
_NO_VENV = "{subject} exists and is no virtual environment."
_LOCKED = "Another run of offlinepack works on {subject}: process {pid}."
_WAIT = "Wait until it has ended; nothing was changed by this run."
_NOT_REMOVED = "{subject} could not be removed: {reason}."


class EnvironmentLocation(NamedTuple):
    """One environment: its path, and whether offlinepack made it."""
    venv: str  # absolute
    is_foreign: bool  # a virtual environment of another tool, into which distributions are installed in place

    @property
    def generations_dir(self):  # type: () -> str
        """Return the folder of the generations and of all other files of offlinepack."""
        return self.venv + ".d"

    def get_path(self, *names):  # type: (str) -> str
        """Return a path in the folder of the generations."""
        return os.path.join(self.generations_dir, *names)

    def get_root(self, generation):  # type: (str) -> str
        """Return the folder of the virtual environment itself."""
        return self.venv if self.is_foreign else self.get_path(generation)

    @property
    def current_generation(self):  # type: () -> Optional[str]
        """Return the generation that the link leads to; for a foreign environment, that of state.json."""
        if self.is_foreign:
            current = read_json(self.get_path("state.json")).get("current")
            return current if isinstance(current, str) else None
        parent, name = os.path.split(os.path.realpath(self.venv)) if is_link(self.venv) else ("", "")
        return name if parent == os.path.realpath(self.generations_dir) else None


def locate_environment(path):  # type: (str) -> EnvironmentLocation
    """Return the environment of a path, which may also be one of its generations, or raise ComputerError."""
    venv = os.path.abspath(os.path.expanduser(path))
    if EnvironmentLocation(venv, False).current_generation or not os.path.lexists(venv):
        return EnvironmentLocation(venv, False)
    parent, name = os.path.split(os.path.realpath(venv))
    if _GENERATION_ID.match(name) and parent.endswith(".d") and os.path.isfile(os.path.join(parent, "state.json")):
        return EnvironmentLocation(parent[:-2], False)
    if os.path.isfile(os.path.join(venv, "pyvenv.cfg")):
        return EnvironmentLocation(venv, True)
    if is_link(venv) and os.path.dirname(os.path.realpath(venv)) == os.path.realpath(venv + ".d"):
        return EnvironmentLocation(venv, False)  # the generation was removed
    if os.path.isdir(venv) and not is_link(venv) and not os.listdir(venv):
        return EnvironmentLocation(venv, False)
    kind = "folder-not-empty" if os.path.isdir(venv) else "not-a-folder"
    raise ComputerError(error(kind, venv, _NO_VENV, "Name another place with --venv, or move it away."))


def compute_generation_id(manifest, target, python, options):
    # type: (Manifest, TargetPlan, str, Mapping[str, Any]) -> str
    """Return 12 hex digits of the hash of the contents, so that the same command finds the same folder."""
    hashes = {file.path: file.sha256 for file in manifest.files}
    identity = [[step.name, step.version, hashes[step.file], step.requested] for step in target.install]
    tools = [[tool.name, tool.version, hashes[tool.file]] for tool in target.tools]
    plain = json.dumps([identity, tools, target.facts.implementation, python, dict(options)], sort_keys=True)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@contextlib.contextmanager
def lock_environment(place):  # type: (EnvironmentLocation) -> Iterator[int]
    """Hold the lock of this environment and return the open file, which programs inherit, or raise ComputerError."""
    os.makedirs(place.generations_dir, exist_ok=True)
    handle = os.open(place.get_path("lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        for attempt in range(_LOCK_ATTEMPTS, -1, -1):
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
                if not attempt:
                    os.lseek(handle, 0, os.SEEK_SET)
                    owner = os.read(handle, 20).decode("ascii", "replace").strip() or "?"
                    raise ComputerError(error("locked", place.venv, _LOCKED, _WAIT, pid=owner))
                time.sleep(0.1)
        os.lseek(handle, 0, os.SEEK_SET)
        os.ftruncate(handle, 0)
        os.write(handle, b"%d\n" % os.getpid())
        yield handle
    finally:
        os.close(handle)


def is_in_use(folder):  # type: (str) -> bool
    """Check whether a live process holds a lock on this folder, as `offlinepack install` does with unpacked bundles."""
    if not fcntl:
        return True  # unknown: the process that made it removes it
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def load_state(place):  # type: (EnvironmentLocation) -> Dict[str, Any]
    """Read state.json: current, former, sequences, a record of each generation; the link decides what is current."""
    state = {"schema": 1, "current": None, "former": None, "sequences": {}, "generations": {}}  # type: Dict[str, Any]
    state.update(read_json(place.get_path("state.json")))
    current = place.current_generation
    if current != state["current"]:
        state["former"], state["current"] = state["current"] or state["former"], current
    return state


def switch_generation(place, generation):  # type: (EnvironmentLocation, str) -> None
    """Make this generation the current one; its files must be on disk already."""
    fresh = place.get_path("link")
    remove_path(fresh)
    if os.path.isdir(place.venv) and not is_link(place.venv):
        os.rmdir(place.venv)
    if os.name == "nt":  # a junction cannot be replaced in one step
        import _winapi
        _winapi.CreateJunction(place.get_path(generation), fresh)  # type: ignore[attr-defined,unused-ignore]
        remove_path(place.venv)
        os.rename(fresh, place.venv)
        return
    os.symlink(os.path.join(os.path.basename(place.generations_dir), generation), fresh)
    os.replace(fresh, place.venv)


def find_processes(place):  # type: (EnvironmentLocation) -> List[Tuple[int, str, Set[str]]]
    """Return id, name and generations of each live process that uses this environment."""
    folders = {place.generations_dir, os.path.realpath(place.generations_dir)}
    names = b"|".join(re.escape(os.fsencode(folder)) for folder in folders)
    pattern, processes = b"(?:%s)/([0-9a-f]{12})(?=[/\\s\0]|$)" % names, []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) if os.path.isdir("/proc") else ():
        contents = [read_system_file("/proc/%d/%s" % (pid, name)) for name in ("cmdline", "maps")]
        for link in ("exe", "cwd"):
            with contextlib.suppress(OSError):
                contents.append(os.fsencode(os.readlink("/proc/%d/%s" % (pid, link))))
        shown = {match.decode("ascii") for match in re.findall(pattern, b"\n".join(contents))}
        if pid not in (os.getpid(), os.getppid()) and (shown or contents[0].startswith(os.fsencode(place.venv) + b"/")):
            processes.append((pid, read_system_file("/proc/%d/comm" % pid).decode("utf-8", "replace").strip(), shown))
    return processes


def prune_generations(place, keep):  # type: (EnvironmentLocation, Iterable[Optional[str]]) -> List[Finding]
    """Remove every generation except these and those of live processes; return a note for each failure."""
    used = {generation for _, _, shown in find_processes(place) for generation in shown}
    findings = []
    for name in sorted(os.listdir(place.generations_dir)):
        if _GENERATION_ID.match(name) and name not in keep and name not in used:
            try:
                remove_path(place.get_path(name))
            except OSError as refused:
                findings.append(note("not-pruned", place.get_path(name), _NOT_REMOVED, reason=refused.strerror))
    return findings
