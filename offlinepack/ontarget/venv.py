"""Create and repair a virtual environment at its final path, without ensurepip."""

import os
import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, Tuple

from .distributions import find_altered_distributions, find_site_packages
from .errors import Finding, InstallError, Text, error, note, text
from .files import hash_small_file, remove_path

_SYSCONFIG_PTH = "offlinepack-sysconfig.pth"  # for Debian's Python without distutils
_NO_DISTUTILS = "This Python has no distutils; {subject} tells pip to ask sysconfig instead, at every start."
_Run = Callable[[str, List[str]], Tuple[int, str, str]]
_SYSCONFIG_LINE = "import sysconfig; sysconfig._PIP_USE_SYSCONFIG = True\n"


def get_interpreter(root):  # type: (str) -> str
    """Return the path of the interpreter of a virtual environment."""
    return os.path.join(root, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


def lacks_distutils(facts):  # type: (Mapping[str, Any]) -> bool
    """Check for Debian's Python 3.6 without distutils, on which no pip runs."""
    return facts["python"].startswith("3.6.") and not facts["has"]["distutils"]


def hash_contents(root, paths):  # type: (str, Iterable[str]) -> Dict[str, str]
    """Return the contents of the existing relative paths: sha256 of a file, target of a link, '' for a folder."""
    digests = {}  # type: Dict[str, str]
    for name in paths:
        path = os.path.join(root, name)
        if os.path.lexists(path):
            digests[name] = os.readlink(path) if os.path.islink(path) else hash_small_file(path)
    return digests


def find_lost_files(root, base):  # type: (str, Mapping[str, str]) -> List[str]
    """Return the lost and altered files of the environment itself; `base`: its hash_contents, or {} if unknown."""
    digests = hash_contents(root, base)
    altered = [os.path.join(root, path) for path in sorted(base) if digests.get(path) != base[path]]
    needed = [get_interpreter(root), os.path.join(root, "pyvenv.cfg")]  # without it pip would install into the system
    return altered + [library for library in needed if library not in altered and not os.path.exists(library)]


def find_alterations(root, record):  # type: (str, Mapping[str, Any]) -> Dict[str, List[str]]
    """Return the altered files of each distribution of a generation and, as `python`, of the environment itself."""
    bad = find_altered_distributions(root, record["distributions"], record["records"])
    missing = find_lost_files(root, record.get("base", {}))
    return dict(bad, python=missing) if missing else bad


def describe_alterations(bad):  # type: (Mapping[str, List[str]]) -> List[Text]
    """Return a line for each altered distribution."""
    return [text("Altered since: {name}: {files}", name=name, files=bad[name][:5]) for name in sorted(bad)]


def repair_venv(root, base, facts, run):  # type: (str, Mapping[str, str], Mapping[str, Any], _Run) -> List[Finding]
    """Make lost parts of the environment itself again; installed distributions stay."""
    missing = find_lost_files(root, base)
    for path in missing:
        if os.path.islink(path) or not os.path.isdir(path):
            remove_path(path)
    return create_venv(root, facts, run) if missing else []


def create_venv(root, facts, run):  # type: (str, Mapping[str, Any], _Run) -> List[Finding]
    """Make the virtual environment of the interpreter with these facts; `run` is ProgramRunner.run."""
    findings = []  # type: List[Finding]
    code, log, words = run("venv", [facts["executable"], "-I", "-m", "venv", "--without-pip", root])
    if code == 0 and re.match(r"3\.[789]\.", facts["python"]) and not facts["has"]["distutils"]:
        path = os.path.join(find_site_packages(root)[0], _SYSCONFIG_PTH)
        with open(path, "w") as out:
            out.write(_SYSCONFIG_LINE)
        findings.append(note("no-distutils", path, _NO_DISTUTILS))
    if code == 0:
        code, log, words = run("python", [get_interpreter(root), "-I", "-c", "import sysconfig, zlib"])
    if code:
        raise InstallError(error(
            "no-environment", root, "{python} could not make a virtual environment at {subject}; the whole log: {file}",
            "Choose another Python with --python.", words, python=facts["executable"], file=log))
    return findings
