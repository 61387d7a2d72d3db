"""offlinepack.pyz: the target side as one file that Python 3.6 and newer starts. The same code gives the same bytes.

Standard: zipapp's format. Nothing in it is packed, so that it can be read, and the bytes are those of any zlib.
"""

import io
import zipfile
from typing import Mapping

from .manifest import INSTALL_PY, ONTARGET

PROGRAM = "offlinepack.pyz"
_FIRST = b"#!/usr/bin/env python3\n"


def pack(code):  # type: (Mapping[str, bytes]) -> bytes
    """The file's bytes, from the target side's files by name; install.py is what starts."""
    out = io.BytesIO(_FIRST)
    with zipfile.ZipFile(out, "a") as archive:
        for name in sorted(code):
            inside = zipfile.ZipInfo("__main__.py" if name == INSTALL_PY else "%s/%s" % (ONTARGET, name))
            inside.create_system, inside.external_attr = 3, 0o644 << 16
            archive.writestr(inside, code[name])
    return out.getvalue()


def is_code(name):  # type: (str) -> bool
    """Whether a file of ontarget/ belongs to it."""
    return name.endswith((".py", ".json"))
