"""Distributions that did not change, taken from the release before: compared with RECORD, then shared on disk.

A copy-on-write clone where the file system can, else a hard link; both engines replace files and never write into them.
"""

import base64
import csv
import hashlib
import io
import os
import shutil
from typing import Dict, Iterator, List, Mapping, Set, Tuple

from . import installed, seed

_CLONE = 0x40049409  # Linux: ioctl FICLONE


def adopt(old, new, versions, records):
    # type: (str, str, Mapping[str, str], Mapping[str, str]) -> Iterator[Tuple[str, str]]
    """Name of each distribution with '' once it is in `new` as it was in `old` (both roots), or why it is not."""
    sharing = _Sharing(os.path.realpath(old), os.path.realpath(new), records)
    return installed.spread(lambda name: sharing.take(name, versions[name]), sorted(versions))


class _Sharing:
    """From one generation to the next."""

    def __init__(self, old, new, records):  # type: (str, str, Mapping[str, str]) -> None
        self.old, self.new, self.records, self.infos = old, new, records, installed.dist_infos(old)
        self.scripts = os.path.dirname(seed.interpreter(old))
        self.folders = set()  # type: Set[str]
        self.clones = True

    def take(self, name, version):  # type: (str, str) -> str
        """Share every file of one distribution, RECORD last; '' or why it could not be, with nothing left behind."""
        bad = installed.faults(name, version, self.infos.get(name, []), self.records)
        if bad:
            return bad[0]
        info, made, changed = self.infos[name][0], [], {}  # type: str, List[str], Dict[str, List[str]]
        record = os.path.join(info, "RECORD")
        try:
            for path, _ in installed.rows(info):
                if path != record:
                    made.append(self._target(path))
                    if os.path.dirname(path) == self.scripts:
                        changed[path] = self._script(path, made[-1])
                    else:
                        self._share(path, made[-1])
            made.append(self._target(record))
            if changed:
                self._rewrite(record, made[-1], changed)
            else:
                self._share(record, made[-1])
        except (OSError, ValueError) as why:
            for path in made:
                if os.path.lexists(path):
                    os.unlink(path)
            return str(why)
        return ""

    def _rewrite(self, record, target, changed):  # type: (str, str, Mapping[str, List[str]]) -> None
        with open(record, encoding="utf-8", newline="") as source:
            rows = [row for row in csv.reader(source) if row]
        site, out = os.path.dirname(os.path.dirname(record)), io.StringIO()
        csv.writer(out).writerows(row[:1] + changed.get(installed.place(site, row[0]), row[1:]) for row in rows)
        with open(target, "x", encoding="utf-8", newline="") as whole:
            whole.write(out.getvalue())

    def _target(self, path):  # type: (str) -> str
        """Where a file of the old generation belongs in the new one; its folder is there then."""
        if not path.startswith(self.old + os.sep):
            raise ValueError(path)
        target = self.new + path[len(self.old) :]
        folder = os.path.dirname(target)
        if folder not in self.folders:
            os.makedirs(folder, exist_ok=True)
            self.folders.add(folder)
        return target

    def _share(self, path, target):  # type: (str, str) -> None
        if self.clones:
            try:
                import fcntl

                with open(path, "rb") as source, open(target, "xb") as out:
                    fcntl.ioctl(out.fileno(), _CLONE, source.fileno())
                shutil.copystat(path, target)
                return
            except (ImportError, OSError):
                self.clones = False
                if os.path.lexists(target):
                    os.unlink(target)
        os.link(path, target)

    def _script(self, path, target):  # type: (str, str) -> List[str]
        """A command names its generation's interpreter in its first lines; its hash and size in RECORD."""
        with open(path, "rb") as source:
            lines = source.read().split(b"\n", 2)
        old, new = os.fsencode(self.old) + os.fsencode(os.sep), os.fsencode(self.new) + os.fsencode(os.sep)
        data = b"\n".join([one.replace(old, new) for one in lines[:2]] + lines[2:])
        with open(target, "xb") as out:
            out.write(data)
        shutil.copymode(path, target)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
        return ["sha256=" + digest, str(len(data))]
