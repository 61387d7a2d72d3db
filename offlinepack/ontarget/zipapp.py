"""Build offlinepack.pyz, the target side as one file. Members are uncompressed, so that its bytes are reproducible."""

import io
import os
import zipfile
from typing import Mapping

from .files import read_bytes, write_file_atomically
from .manifest import INSTALL_PY, ONTARGET

ZIPAPP_NAME = "offlinepack.pyz"
_SHEBANG = b"#!/usr/bin/env python3\n"


def build_zipapp(code):  # type: (Mapping[str, bytes]) -> bytes
    """Return the bytes of offlinepack.pyz with these files; it starts install.py."""
    out = io.BytesIO(_SHEBANG)
    with zipfile.ZipFile(out, "a") as archive:
        for name in sorted(code):
            inside = zipfile.ZipInfo("__main__.py" if name == INSTALL_PY else "%s/%s" % (ONTARGET, name))
            inside.create_system, inside.external_attr = 3, 0o644 << 16
            archive.writestr(inside, code[name])
    return out.getvalue()


def is_code_file(name):  # type: (str) -> bool
    """Check whether a file of ontarget/ belongs to offlinepack.pyz."""
    return name.endswith((".py", ".json"))


def save_zipapp(path, install_py):  # type: (str, str) -> None
    """Write this code as one file beside the environment, so that a rollback needs no bundle."""
    folder, loader = os.path.dirname(__file__), __loader__  # type: ignore[name-defined]
    if os.path.isfile(os.path.dirname(folder)):  # this code runs from such a file
        return write_file_atomically(path, read_bytes(os.path.dirname(folder)))
    names = filter(is_code_file, getattr(loader, "files", None) or os.listdir(folder))
    code = {name: loader.get_data(os.path.join(folder, name)) for name in names}
    if INSTALL_PY not in code:
        code[INSTALL_PY] = read_bytes(install_py)
    return write_file_atomically(path, build_zipapp(code))
