"""Find interpreters of the build host, or of a root file system, that can build for a target."""

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
from offlinepack.sandbox import BindMount, clean_environment, run_in_root
from offlinepack.targets.model import Target
from offlinepack.targets.parse import get_running_target, make_target_from_facts, probe_interpreter

_SYSTEM_FACTS = ("os", "machine", "libc")

_BUILD_VARIABLES = re.compile(r"(\w*FLAGS|CC|CXX|FC|AR|LD|MAKE|UWSGI_PROFILE\w*|CMAKE_\w+|[A-Z]+_CONFIG)\Z")


@dataclass(frozen=True)
class Interpreter:
    """Python interpreter that runs builds."""

    path: str
    """path of the executable, inside `root` if that is set"""
    target: Target
    """target that its platform wheels fit"""
    root: Path | None = None
    """root file system that has the interpreter; None for the build host"""

    def run(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        output: IO[bytes] | int = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the build host or in the root file system of the interpreter; `folder` is writable."""
        extra = dict(environment or {})
        if self.root is None:
            environment = {**clean_environment(), **extra}
            return subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        passed = {name: value for name, value in os.environ.items() if _BUILD_VARIABLES.fullmatch(name)}
        top = next(parent for parent in (folder, *folder.parents) if parent.name.startswith("offlinepack-"))
        binds = [BindMount(top, str(top), True)]
        return run_in_root(
            self.root, command, binds=binds, environment={**passed, **extra}, folder=str(folder), output=output
        )


def find_build_interpreters(target: Target, named: Sequence[str], root: Path | None) -> Iterator[Interpreter]:
    """Yield interpreters in order of preference: those that build wheels for this target, then others for pure wheels.

    `named` (--build-python) come first; with a root file system only its interpreters are used.
    """
    interpreters = _find_in_root(root, tuple(named)) if root else _find_on_host(target, named)
    rejected = []
    for candidate in interpreters:
        if can_build_for(candidate.target.facts, target.facts):
            yield candidate
        else:
            rejected.append(candidate)
    yield from rejected


def has_matching_interpreter(target: Target, named: Sequence[str], root: Path | None) -> bool:
    """Tell whether the build host (or the root file system) can build platform wheels for this target."""
    host_facts = get_running_target().facts
    if (
        not named
        and root is None
        and any(getattr(host_facts, fact) != getattr(target.facts, fact) for fact in _SYSTEM_FACTS)
    ):
        return False
    return any(
        can_build_for(interpreter.target.facts, target.facts)
        for interpreter in find_build_interpreters(target, named, root)
    )


def can_build_for(facts: Facts, target_facts: Facts) -> bool:
    """Tell whether an interpreter with `facts` builds platform wheels that fit a target with `target_facts`."""
    same = ("implementation", "free_threaded", *_SYSTEM_FACTS)
    return _get_minor_version(facts.python) == _get_minor_version(target_facts.python) and all(
        getattr(facts, fact) == getattr(target_facts, fact) for fact in same
    )


def _get_minor_version(python: str) -> list[str]:
    return python.split(".")[:2]


def _find_on_host(target: Target, named: Sequence[str]) -> Iterator[Interpreter]:
    facts = target.facts
    version = ".".join(_get_minor_version(facts.python))
    spec = f"{facts.implementation}{version}{'t' if facts.free_threaded else ''}"
    visited: set[str] = set()
    for path in (*named, *_list_candidates(spec, version)):
        real = os.path.realpath(path)
        if real in visited:
            continue
        visited.add(real)
        try:
            yield Interpreter(path, _probe_cached(path))
        except UsageError:
            if path in named:
                raise


def _list_candidates(spec: str, version: str) -> Iterator[str]:
    for candidate in iter_interpreters(spec):
        if candidate.system_executable or candidate.executable:
            yield str(candidate.system_executable or candidate.executable)
    versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    if versions.is_dir():
        yield from sorted((str(path / "bin" / "python") for path in versions.glob(f"{version}.*")), reverse=True)
    yield sys.executable


@cache
def _probe_cached(path: str) -> Target:
    return probe_interpreter(path)


@cache
def _find_in_root(root: Path, named: tuple[str, ...]) -> tuple[Interpreter, ...]:
    """Probe the interpreters in the usual folders of a root file system; raise BuildError if there are none."""
    folders = ("usr/local/bin", "usr/bin", "opt/python/bin")
    places = [
        f"/{folder}/{path.name}"
        for folder in folders
        for path in sorted((root / folder).glob("python3*"))
        if re.fullmatch(r"python3(\.\d+t?)?", path.name)
    ]
    interpreters: dict[str, Interpreter] = {}
    script = Path(interpreter.__file__)
    for path in named or places:
        binds = [BindMount(script, "/run/offlinepack/interpreter.py")]
        process = run_in_root(root, [path, "-I", "-B", "/run/offlinepack/interpreter.py", "--facts"], binds=binds)
        if process.returncode == 0:
            answer = json.loads(process.stdout)
            markers: dict[str, Any] = answer.get("marker_environment", {})
            for key in ("platform_release", "platform_version"):
                markers.pop(key, None)
            interpreters.setdefault(answer["python"], Interpreter(path, make_target_from_facts(answer), root))
    if not interpreters:
        raise BuildError(
            error(
                "root-without-python",
                root,
                "No Python was found in {subject}.",
                "Install python3, its header files and a compiler in it: python3-dev and gcc on Debian.",
            )
        )
    return tuple(interpreters.values())
