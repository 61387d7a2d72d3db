"""Where the files of wheels end up, and what they would write over: the environment itself, or one another.

Standard: the binary distribution format's schemes, as pip maps them to a virtual environment.
"""

import re
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Set, Tuple

from .errors import Finding, error, note
from .paths import bad_on_windows, folded

if TYPE_CHECKING:
    from .wheel import Member, Wheel

_ONE = "Leave one of the two out (--exclude), or take versions that do not share files."
_OTHER = "Take another file or version of this project for that target, or leave it out (--exclude)."
_INTERPRETER = re.compile(
    r"(?:pythonw?|pypyw?|activate|activate_this|deactivate)[0-9.]*t?"
    r"(?:\.(?:exe|py|bat|cmd|com|ps1|csh|fish|nu|xsh|sh|dll|_pth))?\Z|pyvenv\.cfg\Z|pybuilddir\.txt\Z"
)
_PIP = re.compile(r"pip[0-9.]*(?:-script\.py|\.exe|\.bat|\.cmd|\.com)?\Z")
_SITE = re.compile(r"lib(?:64)?/(?:(?:python|pypy)[0-9.]+t?/)?site-packages/")
_HEADERS = re.compile(r"include/site/python[0-9.]+t?/")
_ROOT = re.compile(r"(?:pyvenv\.cfg|bin|scripts|include|lib(?:64)?(?:/(?:python|pypy)[0-9.]+t?)?(?:/site-packages)?)\Z")
_CACHED = re.compile(r"(.*/)__pycache__/([^/.]+)\.[^/]*\.pyc\Z")


def landings(wheel, system="linux"):  # type: (Wheel, str) -> Iterator[Tuple[str, str, str]]
    """Where each file and script ends up: site/..., bin/..., root/..., include/...; its name; its content."""
    for one in wheel.members:
        path, content = one.path, one.digest or wheel.name
        if one.scheme == "scripts" and replaced(wheel, one):
            continue
        site, headers = None, None
        if one.scheme == "data":
            site, headers = _SITE.match(path.lower()), _HEADERS.match(path.lower())
        if site or one.scheme.endswith("lib"):
            yield "site/" + path[site.end() if site else 0 :], one.name, content
        elif headers:
            yield "include/" + path[headers.end() :], one.name, content
        elif one.scheme == "data":
            top, _, below = path.partition("/")
            yield "bin/" + below if below and top.lower() in ("bin", "scripts") else "root/" + path, one.name, content
        else:
            yield ("bin/" if one.scheme == "scripts" else "include/%s/" % wheel.name) + path, one.name, content
    for command, reference, _ in wheel.scripts:
        name = re.sub(r"\.pyw?\Z", "", command) + ".exe" if system == "windows" else command
        yield "bin/" + name, "%s = %s" % (command, reference), reference


def replaced(wheel, member):  # type: (Wheel, Member) -> bool
    """Of a script: whether setuptools once wrote it for an entry point; installers write their own instead."""
    name = re.sub(r"(?i)(\.exe|-script\.py|\.pya)\Z", "", member.path.rpartition("/")[2])
    return any(name == command for command, _, _ in wheel.scripts)


def overwrites(place, wheel):  # type: (str, Wheel) -> bool
    """Whether what lands there would be a part of the environment itself, or of another distribution's record."""
    kind, _, path = place.lower().partition("/")
    top = path.partition("/")[0]
    if kind == "bin":
        return bool(_INTERPRETER.match(top) or (_PIP.match(top) and wheel.name != "pip"))
    if kind == "site":
        foreign = top.endswith((".dist-info", ".egg-info", ".egg-link")) and top != wheel.info.lower() and "/" in path
        return foreign or (wheel.name != "pip" and top in ("pip", "pip.py"))
    return kind == "root" and (top == "pyvenv.cfg" or bool(_ROOT.match(path)))


def keys(wheel):  # type: (Wheel) -> Tuple[List[int], List[int], bool]
    """Of each file, and of each folder, a number; whether Windows lacks one of the names.

    Two wheels of which no file has a number of the other's files or folders do not clash, whatever the system.
    """
    files, folders, strange = set(), set(), False  # type: Set[int], Set[int], bool
    for system in ("linux", "windows") if wheel.scripts else ("linux",):
        for place, _, _ in landings(wheel, system):
            key, strange = folded(place), strange or bool(bad_on_windows(place))
            files.update((hash(key), hash(source_of(key))))
            while "/" in key:
                key = key.rpartition("/")[0]
                if hash(key) in folders:
                    break
                folders.add(hash(key))
    return sorted(files), sorted(folders), strange


def source_of(place):  # type: (str) -> str
    """The source that a file of bytecode would stand for; else the place itself."""
    cached = _CACHED.match(place)
    return cached.group(1) + cached.group(2) + ".py" if cached else place


def clashes(wheels, system="linux"):  # type: (Iterable[Wheel], str) -> List[Finding]
    """What two distributions both write, as `system` compares names: a note for the same bytes, else an error.

    Also a file where another has a folder, bytecode of another's source, a name that `system` has not.
    """
    first, folders = {}, {}  # type: Dict[str, Tuple[Wheel, str, str]], Dict[str, Wheel]
    shared, found, cached = {}, [], []  # type: Dict[Tuple[bool, str, str], List[str]], List[Finding], List[Tuple[str, Wheel, str]]
    for wheel in wheels:
        for place, member, content in landings(wheel, system):
            key = place if system == "linux" else folded(place)
            other, before, _ = first.setdefault(key, (wheel, content, member))
            if other is not wheel:
                shared.setdefault((before == content, wheel.filename, other.filename), []).append(member)
            if key.endswith(".pyc") and source_of(key) != key:
                cached.append((source_of(key), wheel, member))
            parent = key.rpartition("/")[0]
            while parent and parent not in folders:
                folders[parent] = wheel
                parent = parent.rpartition("/")[0]
            if system == "windows" and bad_on_windows(place):
                found.append(error(
                    "wheel-name", wheel.filename, "{subject}: {member} is no name for a file on Windows.", _OTHER,
                    member=member))
    over = [(first[key], folders[key]) for key in sorted(set(first).intersection(folders))]
    over += [(first[key], wheel) for key, wheel, _ in cached if key in first]
    for (other, _, member), wheel in over:
        if other is not wheel:
            shared.setdefault((False, wheel.filename, other.filename), []).append(member)
    for (same, name, other_name), members in shared.items():
        facts = {"other": other_name, "members": members[:3] + ["..."][: len(members) > 3]}  # type: Dict[str, Any]
        if same:
            found.append(note("wheel-shares", name, "{subject} and {other} bring the same {members}.", **facts))
        else:
            found.append(error("wheel-clash", name, "{subject} would write over {members} of {other}.", _ONE, **facts))
    return found[:50]
