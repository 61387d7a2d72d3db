"""Compute where the files of a wheel are installed, and find files that overwrite the environment or each other."""

import re
from typing import Any, Dict, Iterable, Iterator, List, Set, Tuple

from .errors import Finding, error, note
from .paths import find_windows_problem, fold_path
from .wheel_model import CheckedWheel, WheelMember

_WRITES_OVER = "{subject} would write over {members} of {other}."
_NOT_ON_WINDOWS = "{subject}: {member} is no name for a file on Windows."
_LEAVE_ONE_OUT = "Leave one of the two out (--exclude), or take versions that do not share files."
_TAKE_OTHER_FILE = "Take another file or version of this project for that target, or leave it out (--exclude)."

_INTERPRETER_FILES = re.compile(
    r"(?:pythonw?|pypyw?|activate|activate_this|deactivate)[0-9.]*t?"
    r"(?:\.(?:exe|py|bat|cmd|com|ps1|csh|fish|nu|xsh|sh|dll|_pth))?\Z|pyvenv\.cfg\Z|pybuilddir\.txt\Z"
)

_PIP_COMMANDS = re.compile(r"pip[0-9.]*(?:-script\.py|\.exe|\.bat|\.cmd|\.com)?\Z")
_SITE_PACKAGES = re.compile(r"lib(?:64)?/(?:(?:python|pypy)[0-9.]+t?/)?site-packages/")
_HEADERS = re.compile(r"include/site/python[0-9.]+t?/")
_ROOT_PATHS = re.compile(r"(?:bin|scripts|include|lib(?:64)?(?:/(?:python|pypy)[0-9.]+t?)?(?:/site-packages)?)\Z")
_BYTECODE_PATH = re.compile(r"(.*/)__pycache__/([^/.]+)\.[^/]*\.pyc\Z")


def iter_destinations(wheel, system="linux"):  # type: (CheckedWheel, str) -> Iterator[Tuple[str, str, str]]
    """Yield each file and script: its place (site/..., bin/..., root/..., include/...), its name, its content."""
    for member in wheel.members:
        path, content = member.path, member.digest or wheel.name
        if member.scheme == "scripts" and is_replaced_script(wheel, member):
            continue
        site, headers = None, None
        if member.scheme == "data":
            site, headers = _SITE_PACKAGES.match(path.lower()), _HEADERS.match(path.lower())
        if site or member.scheme.endswith("lib"):
            yield "site/" + path[site.end() if site else 0 :], member.name, content
        elif headers:
            yield "include/" + path[headers.end() :], member.name, content
        elif member.scheme == "data":
            top, _, rest = path.partition("/")
            yield "bin/" + rest if rest and top.lower() in ("bin", "scripts") else "root/" + path, member.name, content
        else:
            yield ("bin/" if member.scheme == "scripts" else "include/%s/" % wheel.name) + path, member.name, content
    for command, reference, _ in wheel.scripts:
        name = re.sub(r"\.pyw?\Z", "", command) + ".exe" if system == "windows" else command
        yield "bin/" + name, "%s = %s" % (command, reference), reference


def is_replaced_script(wheel, member):  # type: (CheckedWheel, WheelMember) -> bool
    """Check whether setuptools wrote this script for an entry point; installers write their own instead."""
    name = re.sub(r"(?i)(\.exe|-script\.py|\.pya)\Z", "", member.path.rpartition("/")[2])
    return any(name == command for command, _, _ in wheel.scripts)


def overwrites_environment(place, wheel):  # type: (str, CheckedWheel) -> bool
    """Check whether a file at this place would replace a part of the environment or another distribution's record."""
    kind, _, path = place.lower().partition("/")
    top = path.partition("/")[0]
    if kind == "bin":
        return bool(_INTERPRETER_FILES.match(top) or (_PIP_COMMANDS.match(top) and wheel.name != "pip"))
    if kind == "site":
        record = top.endswith((".dist-info", ".egg-info", ".egg-link")) and "/" in path
        return (record and top != wheel.dist_info.lower()) or (wheel.name != "pip" and top in ("pip", "pip.py"))
    return kind == "root" and (top == "pyvenv.cfg" or bool(_ROOT_PATHS.match(path)))


def compute_path_keys(wheel):  # type: (CheckedWheel) -> Tuple[List[int], List[int], bool]
    """Return numbers of files and of folders, disjoint if two wheels cannot clash, and whether Windows forbids a name.
    """
    files, folders, strange = set(), set(), False  # type: Set[int], Set[int], bool
    for system in ("linux", "windows") if wheel.scripts else ("linux",):
        for place, _, _ in iter_destinations(wheel, system):
            key, strange = fold_path(place), strange or bool(find_windows_problem(place))
            files.update((hash(key), hash(get_source_path(key))))
            while "/" in key:
                key = key.rpartition("/")[0]
                if hash(key) in folders:
                    break
                folders.add(hash(key))
    return sorted(files), sorted(folders), strange


def get_source_path(place):  # type: (str) -> str
    """Return the source file that a bytecode file replaces; for other files, the path itself."""
    cached = _BYTECODE_PATH.match(place)
    return cached.group(1) + cached.group(2) + ".py" if cached else place


def find_clashes(wheels, system="linux"):  # type: (Iterable[CheckedWheel], str) -> List[Finding]
    """Return a note for equal files of two wheels, an error for other clashes and for names that Windows forbids.

    A clash is also a file that another wheel has as a folder, and bytecode of another wheel's source.
    """
    first, folders = {}, {}  # type: Dict[str, Tuple[CheckedWheel, str, str]], Dict[str, CheckedWheel]
    shared, clashes = {}, []  # type: Dict[Tuple[bool, str, str], List[str]], List[Finding]
    cached = []  # type: List[Tuple[str, CheckedWheel]]
    for wheel in wheels:
        for place, member, content in iter_destinations(wheel, system):
            key = place if system == "linux" else fold_path(place)
            other, before, _ = first.setdefault(key, (wheel, content, member))
            if other is not wheel:
                shared.setdefault((before == content, wheel.filename, other.filename), []).append(member)
            if key.endswith(".pyc") and get_source_path(key) != key:
                cached.append((get_source_path(key), wheel))
            parent = key.rpartition("/")[0]
            while parent and parent not in folders:
                folders[parent] = wheel
                parent = parent.rpartition("/")[0]
            if system == "windows" and find_windows_problem(place):
                clashes.append(error("wheel-name", wheel.filename, _NOT_ON_WINDOWS, _TAKE_OTHER_FILE, member=member))
    over = [(first[key], folders[key]) for key in sorted(set(first).intersection(folders))]
    over += [(first[key], wheel) for key, wheel in cached if key in first]
    for (other, _, member), wheel in over:
        if other is not wheel:
            shared.setdefault((False, wheel.filename, other.filename), []).append(member)
    for (same, name, other_name), members in shared.items():
        facts = {"other": other_name, "members": members[:3] + ["..."][: len(members) > 3]}  # type: Dict[str, Any]
        if same:
            clashes.append(note("wheel-shares", name, "{subject} and {other} bring the same {members}.", **facts))
        else:
            clashes.append(error("wheel-clash", name, _WRITES_OVER, _LEAVE_ONE_OUT, **facts))
    return clashes[:50]
