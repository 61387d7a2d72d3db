"""Build offlinepack.pyz, the target side as one file. The same code gives the same bytes.

Standard: the format of zipapp. Members are stored uncompressed, so the bytes do not depend on zlib.
"""

import io
import zipfile
from typing import Mapping

from .manifest import INSTALL_PY, ONTARGET

ZIPAPP_NAME = "offlinepack.pyz"
_SHEBANG = b"#!/usr/bin/env python3\n"


def build_zipapp(code):  # type: (Mapping[str, bytes]) -> bytes
    """The file's bytes, from the target side's files by name; install.py is what starts."""
    out = io.BytesIO(_SHEBANG)
    with zipfile.ZipFile(out, "a") as archive:
        for name in sorted(code):
            inside = zipfile.ZipInfo("__main__.py" if name == INSTALL_PY else "%s/%s" % (ONTARGET, name))
            inside.create_system, inside.external_attr = 3, 0o644 << 16
            archive.writestr(inside, code[name])
    return out.getvalue()


def is_code_file(name):  # type: (str) -> bool
    """Whether a file of ontarget/ belongs to it."""
    return name.endswith((".py", ".json"))
