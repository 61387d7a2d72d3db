"""A virtual environment in its final place, without ensurepip: what pip, or the fast engine, then fills."""

import os
from typing import Any, Callable, Dict, List, Mapping, Tuple

from . import installed
from .errors import InstallError, error

SYSCONFIG = "offlinepack-sysconfig.pth"
"""Debian's Python without distutils: pip is told to ask sysconfig, at every start of the environment's interpreter"""
_LINE = "import sysconfig; sysconfig._PIP_USE_SYSCONFIG = True\n"


def interpreter(root):  # type: (str) -> str
    """The interpreter of a virtual environment."""
    if os.name == "nt":
        return os.path.join(root, "Scripts", "python.exe")
    return os.path.join(root, "bin", "python")


def needs_sysconfig(facts):  # type: (Mapping[str, Any]) -> bool
    """pip from 3.7 to 3.9 asks distutils where things go unless it is told otherwise; Debian keeps that in a package."""
    return facts["python"].split(".")[:2] in (["3", "7"], ["3", "8"], ["3", "9"]) and not facts["has"]["distutils"]


def create(root, facts, run):
    # type: (str, Dict[str, Any], Callable[[str, List[str]], Tuple[int, str, str]]) -> None
    """Make the virtual environment of the interpreter that `facts` describe. `run`: log's name, command -> exit code, log, its end."""
    code, log, words = run("venv", [facts["executable"], "-I", "-m", "venv", "--without-pip", root])
    if code == 0 and needs_sysconfig(facts):
        with open(os.path.join(installed.sites(root)[0], SYSCONFIG), "w") as out:
            out.write(_LINE)
    if code == 0:
        code, log, words = run("python", [interpreter(root), "-I", "-c", "import sysconfig, zlib"])
    if code:
        raise InstallError(
            error(
                "no-environment",
                root,
                "{python} could not make a virtual environment at {subject}.",
                "Its words stand in {file}; another Python is chosen with --python.",
                log=words,
                python=facts["executable"],
                file=log,
            )
        )
