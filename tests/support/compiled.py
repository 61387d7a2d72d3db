"""Sdists with an extension module."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.making import make_sdist

compiles = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("gcc") or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="needs gcc and the header files of Python on Linux",
)


MODULE = """
#include <Python.h>
%s
static struct PyModuleDef stone = {PyModuleDef_HEAD_INIT, "stone", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_stone(void) { %s return PyModule_Create(&stone); }
"""


def extension(folder: Path, before: str = "", inside: str = "", options: str = "") -> Path:
    """An sdist with one extension module, stone."""
    setup = f"from setuptools import Extension, setup\nsetup(ext_modules=[Extension('stone', ['stone.c']{options})])\n"
    files = {"stone.c": MODULE % (before, inside), "setup.py": setup}
    return make_sdist(folder, "stone", backend="setuptools", files=files)
