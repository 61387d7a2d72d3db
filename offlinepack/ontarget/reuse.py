"""Reuse unchanged distributions of the former generation: compare them with RECORD, then clone or link their files.

Hard links are safe because both engines replace files and never write into them.
"""

import csv
import hashlib
import io
import os
import shutil
from typing import Dict, Iterator, List, Mapping, Tuple

from .distributions import check_distribution, find_dist_infos, read_record, resolve_record_path, run_in_processes
from .files import read_bytes
from .unpack import format_record_hash
from .venv import get_interpreter

_FICLONE = 0x40049409  # Linux: ioctl FICLONE


def reuse_distributions(old, new, versions, records):
    # type: (str, str, Mapping[str, str], Mapping[str, str]) -> Iterator[Tuple[str, str]]
    """Yield the name of each distribution, with '' when its files are shared from `old` to `new`, or why not."""
    sharing = _FileSharing(os.path.realpath(old), os.path.realpath(new), records)
    return run_in_processes(lambda name: sharing.share_distribution(name, versions[name]), sorted(versions))


class _FileSharing:
    """Shares files of one generation with the next."""

    def __init__(self, old, new, records):  # type: (str, str, Mapping[str, str]) -> None
        self.old_root, self.new_root, self.records, self.dist_infos = old, new, records, find_dist_infos(old)
        self.scripts_dir = os.path.dirname(get_interpreter(old))
        self.can_clone = True

    def share_distribution(self, name, version):  # type: (str, str) -> str
        """Share every file of one distribution, RECORD last; on failure remove them and return the reason."""
        bad = check_distribution(name, version, self.dist_infos.get(name, []), self.records)
        if bad:
            return bad[0]
        info, new_files, changed = self.dist_infos[name][0], [], {}  # type: str, List[str], Dict[str, List[str]]
        record = os.path.join(info, "RECORD")
        try:
            for path in [path for path, _ in read_record(info) if path != record] + [record]:
                new_files.append(self._prepare_target(path))
                if os.path.dirname(path) == self.scripts_dir:
                    changed[path] = self._rewrite_script(path, new_files[-1])
                elif path == record and changed:
                    self._rewrite_record(record, new_files[-1], changed)
                else:
                    self._share_file(path, new_files[-1])
        except (OSError, ValueError) as failure:
            for path in new_files:
                if os.path.lexists(path):
                    os.unlink(path)
            return str(failure)
        return ""

    def _rewrite_record(self, record, target, changed):  # type: (str, str, Mapping[str, List[str]]) -> None
        with open(record, encoding="utf-8", newline="") as source:
            rows = [row for row in csv.reader(source) if row]
        site, out = os.path.dirname(os.path.dirname(record)), io.StringIO()
        csv.writer(out).writerows(row[:1] + changed.get(resolve_record_path(site, row[0]), row[1:]) for row in rows)
        with open(target, "x", encoding="utf-8", newline="") as whole:
            whole.write(out.getvalue())

    def _prepare_target(self, path):  # type: (str) -> str
        """Return the path of a file in the new generation and create its folder."""
        if not path.startswith(self.old_root + os.sep):
            raise ValueError(path)
        target = self.new_root + path[len(self.old_root) :]
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return target

    def _share_file(self, path, target):  # type: (str, str) -> None
        if self.can_clone:
            try:
                import fcntl
                with open(path, "rb") as source, open(target, "xb") as out:
                    fcntl.ioctl(out.fileno(), _FICLONE, source.fileno())
                shutil.copystat(path, target)
                return
            except (ImportError, OSError):
                self.can_clone = False
                if os.path.lexists(target):
                    os.unlink(target)
        os.link(path, target)

    def _rewrite_script(self, path, target):  # type: (str, str) -> List[str]
        """Copy a script with the interpreter of the new generation in its first lines; return hash and size."""
        lines = read_bytes(path).split(b"\n", 2)
        old, new = os.fsencode(self.old_root) + os.fsencode(os.sep), os.fsencode(self.new_root) + os.fsencode(os.sep)
        data = b"\n".join([line.replace(old, new) for line in lines[:2]] + lines[2:])
        with open(target, "xb") as out:
            out.write(data)
        shutil.copymode(path, target)
        return [format_record_hash(hashlib.sha256(data)), str(len(data))]
