"""Unpack members of checked wheels in a worker process of the fast engine: hash, write and compile them."""

import base64
import gc
import hashlib
import importlib.util
import marshal
import os
import pickle
import struct
import sys
import warnings
from typing import Any, Dict, List, Optional, Tuple

from .archive import ArchiveError, ZipEntry, unpack_entry

_IS_POSIX = os.name == "posix"
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_UMASK = os.umask(0)
os.umask(_UMASK)
_MAGIC = importlib.util.MAGIC_NUMBER + (b"" if sys.version_info < (3, 7) else bytes(4))  # 4 of flags: PEP 552


def run_worker(alone):  # type: (bool) -> None
    """Answer tasks from stdin until it ends. `alone`: compile without imports, as pip 26.3 and newer do."""
    warnings.simplefilter("ignore")
    if alone:  # a source in a rare encoding stays uncompiled, as with pip
        __import__("encodings.ascii"), __import__("encodings.cp437"), __import__("encodings.latin_1")
        sys.meta_path[:] = []
    gc.disable()
    parent = os.getppid()
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_run_task(parent, *task), sys.stdout.buffer, 4)
        sys.stdout.buffer.flush()


def _run_task(parent, wheel, bytecode, members):
    # type: (int, str, Optional[str], List[Tuple[Any, ...]]) -> Tuple[Any, ...]
    """Return template and facts of the error or None, the rewritten members, and the members that do not compile."""
    rewritten, uncompiled, path = {}, [], wheel  # type: Dict[int, Tuple[str, int]], List[int], str
    try:
        with open(wheel, "rb", buffering=0) as source, open(bytecode or wheel, "rb", buffering=0) as carried:
            for number, (path, entry, digest, shebang, name, ready) in enumerate(members):
                if os.getppid() != parent:  # the installation was killed, and another may have begun
                    os._exit(1)
                blocks = unpack_entry(source, ZipEntry(*entry), digest)
                data, mtime, changed = _write_member(path, blocks, entry[-1], shebang, bool(name))
                if changed:
                    rewritten[number] = changed
                code = b"".join(unpack_entry(carried, ZipEntry(*ready[0]), ready[1])) if ready else b""
                if name and not _write_bytecode(name, data, mtime, code):
                    uncompiled.append(number)
    except ArchiveError as failure:
        return (failure.args[1].template, dict(failure.args[1].facts, unsound=failure.args[0])), rewritten, uncompiled
    except OSError as failure:
        return ("{file}: {why}", {"file": path, "why": failure.strerror or str(failure)}), rewritten, uncompiled
    return None, rewritten, uncompiled


def _write_member(path, blocks, executable, shebang, keep):
    # type: (str, Any, bool, bytes, bool) -> Tuple[bytes, float, Any]
    """Write a file; return its bytes if `keep`, its time, and hash and size if its first line was changed."""
    chunks, changed, size = [], None, 0  # type: List[bytes], Any, int
    with os.fdopen(create_file(path, executable), "wb") as out:
        for block in blocks:
            if shebang and block.startswith(b"#!python"):
                # binary distribution format: a script that starts with b'#!python' gets the path of the interpreter
                block, changed = shebang + block.partition(b"\n")[2], hashlib.sha256()
            shebang, size = b"", size + len(block)
            if changed:
                changed.update(block)
            if keep:
                chunks.append(block)
            out.write(block)
        out.flush()
        mtime = os.fstat(out.fileno()).st_mtime if keep else 0.0
    return b"".join(chunks), mtime, (format_record_hash(changed), size) if changed else None


def _write_bytecode(path, data, mtime, ready):  # type: (str, bytes, float, bytes) -> bool
    """Write bytecode as py_compile does, or `ready` bytecode with time and size of this source."""
    if ready[: len(_MAGIC)] == _MAGIC:
        code = ready[len(_MAGIC) + 8 :]
    else:
        try:
            code = marshal.dumps(compile(data, path, "exec", 0, True))
        except Exception:  # pip ignores it too
            return False
    with os.fdopen(create_file(importlib.util.cache_from_source(path)), "wb") as out:
        out.write(_MAGIC + struct.pack("<2I", int(mtime) & 0xFFFFFFFF, len(data) & 0xFFFFFFFF) + code)
    return True


def create_file(path, executable=False):  # type: (str, bool) -> int
    """Open a new file for writing, with the mode that pip gives; replace an old one."""
    name = path.encode("utf-8", "surrogateescape") if _IS_POSIX else path  # type: Any  # also in the C locale
    for last in (False, False, True):
        try:
            handle = os.open(name, _CREATE_FLAGS, 0o777 if executable else 0o666)
            break
        except FileNotFoundError:
            if last:
                raise
            os.makedirs(os.path.dirname(name), exist_ok=True)
        except FileExistsError:
            if last:
                raise
            os.unlink(name)
    if executable and _UMASK & 0o111 and _IS_POSIX:
        os.fchmod(handle, 0o777 & ~_UMASK | 0o111)
    return handle


def format_record_hash(digest):  # type: (Any) -> str
    """Return a hash in the form of RECORD."""
    return "sha256=" + base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii")
