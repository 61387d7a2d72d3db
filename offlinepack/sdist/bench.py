"""One build: an environment of its own, the hooks of the project's backend (PEP 517), everything said in the log."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import pyproject_hooks
from build import BuildBackendException, ProjectBuilder
from packaging.utils import canonicalize_name

from offlinepack.roots import PATH
from offlinepack.sdist.interpreters import Interpreter
from offlinepack.store import StoredFile
from offlinepack.targets import Target

Provide = Callable[[Sequence[str], Target], Sequence[StoredFile]]
"""requirements (PEP 508) and the build interpreter as a target -> wheels of them and of all that they need"""


class Bench:
    """One build: an environment of its own, the hooks of the project's backend, everything said in the log."""

    def __init__(
        self, interpreter: Interpreter, work: Path, log: IO[bytes], environment: Mapping[str, str], provide: Provide
    ) -> None:
        self.interpreter, self.work, self.log, self.provide = interpreter, work, log, provide
        self.env = work / "env"
        programs = str(self.env / ("Scripts" if os.name == "nt" else "bin"))
        known = PATH if interpreter.root else os.environ.get("PATH", os.defpath)
        self.environment = {**environment, "PATH": os.pathsep.join([programs, known])}
        self.installed: list[str] = []
        """names and versions of what the build required"""

    def wheel_of(self, folder: Path, settings: Mapping[str, str | list[str]]) -> Path:
        """Make the environment, ask the backend what else it requires, build."""
        self._prepared(folder, settings)
        with _silently():
            return Path(self._project(folder).build("wheel", self.work / "made", settings))

    def requires_of(self, folder: Path, settings: Mapping[str, str | list[str]]) -> list[str]:
        """All that its build requires; as said with no program in reach, where its backend can do without."""
        known, programs = self.environment["PATH"], self.environment["PATH"].split(os.pathsep)[0]
        self.environment["PATH"] = programs
        try:
            required = self._prepared(folder, settings)
        except BuildBackendException:
            self.environment["PATH"] = known
            required = self._prepared(folder, settings)
        self.environment["PATH"] = known
        return required

    def metadata_of(self, folder: Path, settings: Mapping[str, str | list[str]]) -> str:
        """METADATA of the wheel, from an environment that is prepared."""
        with _silently():
            found = self._project(folder).prepare("wheel", self.work / "made", settings)
            place = found or self._project(folder).metadata_path(self.work / "made")
        return (Path(place) / "METADATA").read_text("utf-8")

    def sdist_of(self, folder: Path) -> Path:
        """The project's folder as an sdist, from an environment that is prepared."""
        with _silently():
            project = self._project(folder)
            if more := sorted(project.get_requires_for_build("sdist")):
                self._install([*sorted(project.build_system_requires), *more])
            return Path(project.build("sdist", self.work / "made"))

    @property
    def _python(self) -> str:
        return str(self.env / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))

    def _project(self, folder: Path) -> ProjectBuilder:
        return ProjectBuilder(folder, python_executable=self._python, runner=self._hook)

    def _prepared(self, folder: Path, settings: Mapping[str, str | list[str]]) -> list[str]:
        """Make the environment with all that the build requires; these requirements."""
        if not self.env.exists():
            self._run([self.interpreter.path, "-I", "-m", "venv", "--without-pip", str(self.env)])
        with _silently():
            project = self._project(folder)
            required = sorted(project.build_system_requires)
            self._install(required)
            more = sorted(project.get_requires_for_build("wheel", settings) - set(required))
            if more:
                self._install([*required, *more])
        return [*required, *more]

    def _install(self, requirements: Sequence[str]) -> None:
        """By the newest pip that the interpreter admits, from its own wheel; from files alone."""
        files = self.provide(["pip", *requirements], self.interpreter.target)
        place = self.work / "wheels"
        place.mkdir(exist_ok=True)
        paths: dict[str, Path] = {canonicalize_name(one.name.split("-")[0]): one.placed_in(place) for one in files}
        wanted = [
            path for name, path in sorted(paths.items()) if name != "pip" or "pip" in map(_project_name, requirements)
        ]
        self.installed = sorted("-".join(path.name.split("-")[:2]) for path in wanted)
        if not wanted:
            return
        # sysconfig._PIP_USE_SYSCONFIG: Debian's 3.7 to 3.9 come without distutils, which pip would ask for the folders.
        start = (
            "import runpy, sys, sysconfig; sysconfig._PIP_USE_SYSCONFIG = True; sys.path.insert(0, sys.argv.pop(1)); "
        )
        start += "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
        options = ["--isolated", "install", "--no-index", "--no-deps", "--no-compile", "--quiet"]
        options += ["--disable-pip-version-check", "--no-warn-script-location", "--ignore-installed"]
        self._run([self._python, "-I", "-c", start, str(paths["pip"]), *options, *map(str, wanted)])

    def _run(self, command: Sequence[str], folder: Path | None = None) -> None:
        done = self.interpreter.run(command, folder=folder or self.work, output=self.log, environment=self.environment)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, list(command))

    def _hook(self, cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
        """What pyproject_hooks calls: [python, its script, name of the hook, folder for in- and output]."""
        self.log.write(f"offlinepack: {cmd[2]}\n".encode())
        self.log.flush()
        there = self.work / "tmp" / "hook"
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(cmd[3], there)
        script = Path(pyproject_hooks.__file__).parent / "_in_process" / "_in_process.py"
        shutil.copy(script, self.work / "tmp" / script.name)
        self.environment |= extra_environ or {}
        self._run([cmd[0], str(self.work / "tmp" / script.name), cmd[2], str(there)], Path(cwd or self.work))
        shutil.copytree(there, cmd[3], dirs_exist_ok=True)


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Without the backend's warnings: they are in the log already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _project_name(requirement: str) -> str:
    return canonicalize_name(re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0])
