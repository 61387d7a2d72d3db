"""Two environments side by side: what one installer wrote and another did not."""

from __future__ import annotations

import csv
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from offlinepack.ontarget.fast_installer import install_wheels, query_install_paths
from offlinepack.ontarget.wheel import read_wheel


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every name with its kind, mode and bytes; of bytecode the header without time and size, RECORD as a set of rows."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        name, facts = path.relative_to(root).as_posix(), path.lstat()
        kind: tuple[Any, ...] = (oct(facts.st_mode),)
        if stat.S_ISLNK(facts.st_mode):
            kind = (str(path.readlink()),)
        elif stat.S_ISREG(facts.st_mode):
            content: Any = path.read_bytes()
            if path.suffix == ".pyc":
                content = content[: 4 if "-36." in name else 8]
            elif path.match("*.dist-info/RECORD"):
                rows = list(csv.reader(content.decode().splitlines()))
                content = sorted(tuple(row) for row in rows if not row[0].endswith("direct_url.json"))
            kind = (oct(facts.st_mode), content)
        if not name.endswith("direct_url.json"):  # pip writes it for a path; from --find-links it does not
            found[name] = kind
    return found


def differences(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]]) -> Iterator[str]:
    for name in sorted({*one, *other}):
        mine, theirs = one.get(name), other.get(name)
        if mine != theirs:
            if mine and theirs and isinstance(mine[-1], list) and isinstance(theirs[-1], list):
                rows = set(mine[-1]) ^ set(theirs[-1])
                yield f"{name}: {sorted(rows)[:4]}"
            else:
                yield f"{name}: {str(mine)[:300]} | {str(theirs)[:300]}"


def make_environment(python: Path | str, root: Path) -> Path:
    subprocess.run([str(python), "-I", "-m", "venv", "--without-pip", str(root)], check=True)
    return root / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def by_pip(python: Path, pip: Path, wheels: Iterable[Path], *more: str, umask: int = 0o022) -> None:
    """Install wheels with a pip that runs from its own wheel, as on the target machine."""
    listed = python.parents[1].with_suffix(".txt")
    listed.write_text("".join(f"{one}\n" for one in wheels))
    command = [str(python), "-I", "-B", f"{pip}/pip", "install", "--no-index", "--no-deps", "--ignore-requires-python"]
    command += ["--no-warn-script-location", "--disable-pip-version-check", "--no-cache-dir", *more, "-r", str(listed)]
    kept = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, umask=umask)
    listed.unlink()
    assert done.returncode == 0, done.stderr[-2000:]


def placed(python: Path, pip: Path, wheels: Iterable[Path], *more: str, umask: int = 0o022) -> list[str]:
    """The same by the fast engine; what it could not do."""
    before = os.umask(umask)
    try:
        read = [read_wheel(one) for one in wheels]
        requested = [one.name for one in read]
        done = install_wheels(
            read, query_install_paths(str(python)), read_wheel(pip), requested, "--no-compile" not in more
        )
        return [bad.say() for _, bad in done if bad]
    finally:
        os.umask(before)


def compared(
    root: Path, python: Path | str, pip: Path, wheels: list[Path], *more: str, umask: int = 0o022
) -> list[str]:
    """How the fast engine's tree differs from pip's at the same place."""
    by_pip(make_environment(python, root), pip, wheels, *more, umask=umask)
    theirs = tree(root)
    root.rename(root.with_name(root.name + ".pip"))
    bad = placed(make_environment(python, root), pip, wheels, *more, umask=umask)
    return bad or list(differences(tree(root), theirs))


def anywhere(wheel: Path, folder: Path) -> Path:
    """The same wheel under a name that every interpreter takes; what it holds does not matter to an installer."""
    link = folder / ("-".join(wheel.name.split("-")[:2]) + "-py3-none-any.whl")
    link.symlink_to(wheel)
    return link


PYTHON = sys.executable
