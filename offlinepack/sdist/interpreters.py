"""Interpreters that sources can be built with: those of this host, as virtualenv finds them, or those of a root."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from python_discovery import iter_interpreters

from offlinepack.errors import BuildError, UsageError, error
from offlinepack.ontarget import interpreter
from offlinepack.ontarget.manifest import Facts
from offlinepack.roots import Bind, run
from offlinepack.targets import Target, from_facts, of_interpreter, running

# What belongs to the Python that runs this, to pip's, uv's and our own settings, or to an active environment.
_FOREIGN = re.compile(
    r"(PIP|PYTHON|UV|VIRTUALENV|CONDA|OFFLINEPACK|__PYVENV|PIPENV|POETRY|PDM|HATCH|TOX|NOX|PYENV)_?|VIRTUAL_ENV"
)

_SYSTEM = ("os", "machine", "libc")

_PASSED_INTO_ROOTS = re.compile(r"(\w*FLAGS|CC|CXX|FC|AR|LD|MAKE|UWSGI_PROFILE\w*|CMAKE_\w+|[A-Z]+_CONFIG)\Z")


@dataclass(frozen=True)
class Interpreter:
    """A Python to build with, and where it lies."""

    path: str
    """in the root, where it is one of a root"""
    target: Target
    """the kind of machine that its wheels are for"""
    root: Path | None = None

    def run(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        output: IO[bytes] | int = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run this command where the interpreter lies, in `folder`, which it may write."""
        extra = dict(environment or {})
        if self.root is None:
            environment = {**_clean(os.environ), **extra}
            return subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        passed = {name: value for name, value in os.environ.items() if _PASSED_INTO_ROOTS.fullmatch(name)}
        top = next(one for one in (folder, *folder.parents) if one.name.startswith("offlinepack-"))
        binds = [Bind(top, str(top), True)]
        return run(
            self.root, command, binds=binds, environment={**passed, **extra}, folder=str(folder), output=output
        )


def find(target: Target, named: Sequence[str], root: Path | None) -> Iterator[Interpreter]:
    """Interpreters in order of preference: those that make wheels for this target, then others for pure ones.

    `named` (--build-python) come first; with a root its own interpreters, and no others.
    """
    found = _of_root(root, tuple(named)) if root else _of_host(target, named)
    others = []
    for one in found:
        if makes(one.target.facts, target.facts):
            yield one
        else:
            others.append(one)
    yield from others


def any_makes(target: Target, named: Sequence[str], root: Path | None) -> bool:
    """Whether an interpreter is here (or in the root) that makes platform wheels for this target."""
    here = running().facts
    if not named and root is None and any(getattr(here, one) != getattr(target.facts, one) for one in _SYSTEM):
        return False
    return any(makes(one.target.facts, target.facts) for one in find(target, named, root))


def makes(own: Facts, wanted: Facts) -> bool:
    """Whether an interpreter with these facts makes platform wheels for a target with those."""
    same = ("implementation", "free_threaded", *_SYSTEM)
    return _short(own.python) == _short(wanted.python) and all(
        getattr(own, one) == getattr(wanted, one) for one in same
    )


def _short(python: str) -> list[str]:
    return python.split(".")[:2]


def _of_host(target: Target, named: Sequence[str]) -> Iterator[Interpreter]:
    facts = target.facts
    version = ".".join(_short(facts.python))
    spec = f"{facts.implementation}{version}{'t' if facts.free_threaded else ''}"
    seen: set[str] = set()
    for path in (*named, *_proposed(spec, version)):
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        try:
            yield Interpreter(path, _target_of(path))
        except UsageError:
            if path in named:
                raise


def _proposed(spec: str, version: str) -> Iterator[str]:
    for one in iter_interpreters(spec):
        if one.system_executable or one.executable:
            yield str(one.system_executable or one.executable)
    versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    if versions.is_dir():
        yield from sorted((str(one / "bin" / "python") for one in versions.glob(f"{version}.*")), reverse=True)
    yield sys.executable


@cache
def _target_of(path: str) -> Target:
    return of_interpreter(path)


@cache
def _of_root(root: Path, named: tuple[str, ...]) -> tuple[Interpreter, ...]:
    """Those in the usual places of a root file system, asked one by one."""
    folders = ("usr/local/bin", "usr/bin", "opt/python/bin")
    places = [
        f"/{folder}/{one.name}"
        for folder in folders
        for one in sorted((root / folder).glob("python3*"))
        if re.fullmatch(r"python3(\.\d+t?)?", one.name)
    ]
    found: dict[str, Interpreter] = {}
    script = Path(interpreter.__file__)
    for path in named or places:
        binds = [Bind(script, "/run/offlinepack/interpreter.py")]
        done = run(root, [path, "-I", "-B", "/run/offlinepack/interpreter.py", "--facts"], binds=binds)
        if done.returncode == 0:
            told = json.loads(done.stdout)
            markers: dict[str, Any] = told.get("marker_environment", {})
            for key in ("platform_release", "platform_version"):
                markers.pop(key, None)
            found.setdefault(told["python"], Interpreter(path, from_facts(told), root))
    if not found:
        raise BuildError(
            error(
                "root-without-python",
                root,
                "No Python was found in {subject}.",
                "Install python3, its header files and a compiler in it: python3-dev and gcc on Debian.",
            )
        )
    return tuple(found.values())


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not _FOREIGN.match(name)}
