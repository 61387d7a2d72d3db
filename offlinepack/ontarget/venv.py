"""Create and repair a virtual environment at its final path, without ensurepip."""

import os
from typing import Any, Callable, Dict, Iterable, List, Mapping, Tuple

from .distributions import find_altered_distributions, find_site_packages
from .errors import Finding, InstallError, error, note
from .files import hash_small_file, remove_path

SYSCONFIG_PTH = "offlinepack-sysconfig.pth"
"""Debian's Python without distutils: pip is told to ask sysconfig, at every start of the environment's interpreter"""

_SYSCONFIG_LINE = "import sysconfig; sysconfig._PIP_USE_SYSCONFIG = True\n"


def get_interpreter(root):  # type: (str) -> str
    """The interpreter of a virtual environment."""
    if os.name == "nt":
        return os.path.join(root, "Scripts", "python.exe")
    return os.path.join(root, "bin", "python")


def needs_sysconfig(facts):  # type: (Mapping[str, Any]) -> bool
    """pip on 3.7 to 3.9 asks distutils where things go unless it is told otherwise; Debian packs that separately."""
    return facts["python"].split(".")[:2] in (["3", "7"], ["3", "8"], ["3", "9"]) and not facts["has"]["distutils"]


def lacks_distutils(facts):  # type: (Mapping[str, Any]) -> bool
    """No pip runs on such a Python: 3.6 as Debian packs it, without distutils."""
    return facts["python"].split(".")[:2] == ["3", "6"] and not facts["has"]["distutils"]


def hash_contents(root, paths):  # type: (str, Iterable[str]) -> Dict[str, str]
    """Of these relative paths those that are there: sha256 of a file, where a link leads, '' of a folder."""
    digests = {}  # type: Dict[str, str]
    for file in paths:
        path = os.path.join(root, file)
        if os.path.lexists(path):
            digests[file] = os.readlink(path) if os.path.islink(path) else hash_small_file(path)
    return digests


def find_lost_files(root, base):  # type: (str, Mapping[str, str]) -> List[str]
    """What is gone or differs of the environment itself; `base`: contents() of it when it was made, {} where not known.

    Without pyvenv.cfg its interpreter is the system's own: nobody may install with it then.
    """
    digests = hash_contents(root, base)
    altered = [os.path.join(root, path) for path in sorted(base) if digests.get(path) != base[path]]
    needed = [get_interpreter(root), os.path.join(root, "pyvenv.cfg")]
    return altered + [library for library in needed if library not in altered and not os.path.exists(library)]


def find_alterations(root, record):  # type: (str, Mapping[str, Any]) -> Dict[str, List[str]]
    """Of a generation, by its record in state.json: each distribution, and `python`, itself, that is not whole."""
    bad = find_altered_distributions(root, record["distributions"], record["records"])
    missing = find_lost_files(root, record.get("base", {}))
    return dict(bad, python=missing) if missing else bad


def repair_venv(root, base, facts, run):
    # type: (str, Mapping[str, str], Mapping[str, Any], Callable[[str, List[str]], Tuple[int, str, str]]) -> List[Finding]
    """What is lost of the environment itself is made again; what it holds stays."""
    missing = find_lost_files(root, base)
    for path in missing:
        if os.path.islink(path) or not os.path.isdir(path):
            remove_path(path)
    return create_venv(root, facts, run) if missing else []


def create_venv(root, facts, run):
    # type: (str, Mapping[str, Any], Callable[[str, List[str]], Tuple[int, str, str]]) -> List[Finding]
    """Make the virtual environment of the interpreter that `facts` describe; what should be known of it.

    `run` starts a program: name of its log, command -> exit code, path of the log, its end.
    """
    findings = []  # type: List[Finding]
    code, log, words = run("venv", [facts["executable"], "-I", "-m", "venv", "--without-pip", root])
    if code == 0 and needs_sysconfig(facts):
        path = os.path.join(find_site_packages(root)[0], SYSCONFIG_PTH)
        with open(path, "w") as out:
            out.write(_SYSCONFIG_LINE)
        findings.append(note(
            "no-distutils", path,
            "This Python has no distutils; {subject} tells pip to ask sysconfig instead, at every start."))
    if code == 0:
        code, log, words = run("python", [get_interpreter(root), "-I", "-c", "import sysconfig, zlib"])
    if code:
        raise InstallError(error(
            "no-environment", root, "{python} could not make a virtual environment at {subject}; the whole log: {file}",
            "Choose another Python with --python.", words, python=facts["executable"], file=log))
    return findings
