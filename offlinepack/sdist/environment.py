"""Run the build backend of a project in an isolated virtual environment (PEP 517)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyproject_hooks
from build import BuildBackendException, ProjectBuilder
from packaging.utils import canonicalize_name

from offlinepack.interpreters.host import Interpreter
from offlinepack.sandbox import DEFAULT_PATH
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target


@dataclass(frozen=True)
class BuildConfig:
    """Where and how sources are built; the same for all of them."""

    store: Store
    provide: RequirementProvider
    """what builds require: locked, fetched, and built where need be"""
    log_dir: Path
    """folder of the logs, one for each project and target"""
    pythons: tuple[str, ...] = ()
    """interpreters that are tried first (--build-python); in the root, where there is one"""
    root: Path | None = None
    """a root file system of the target to build in, without a network"""
    config_settings: Mapping[str, str | list[str]] = field(default_factory=dict)
    build_constraints: tuple[str, ...] = ()
    """what `provide` was told; another text means another wheel"""


RequirementProvider = Callable[[Sequence[str], Target], Sequence[StoredFile]]
"""requirements (PEP 508) and the build interpreter as a target -> wheels of them and of all that they need"""


class BuildEnvironment:
    """One build: an environment of its own, the hooks of the project's backend, everything said in the log."""

    def __init__(
        self,
        interpreter: Interpreter,
        work: Path,
        log: IO[bytes],
        environment: Mapping[str, str],
        provide: RequirementProvider,
    ) -> None:
        self.interpreter, self.work_dir, self.log, self.provide = interpreter, work, log, provide
        self.venv_dir = work / "env"
        programs = str(self.venv_dir / ("Scripts" if os.name == "nt" else "bin"))
        search_path = DEFAULT_PATH if interpreter.root else os.environ.get("PATH", os.defpath)
        self.variables = {**environment, "PATH": os.pathsep.join([programs, search_path])}
        self.installed_distributions: list[str] = []
        """names and versions of what the build required"""

    def build_wheel(self, folder: Path, settings: Mapping[str, str | list[str]]) -> Path:
        """Make the environment, ask the backend what else it requires, build."""
        self._prepare(folder, settings)
        with _suppress_warnings():
            return Path(self._open_project(folder).build("wheel", self.work_dir / "made", settings))

    def list_requirements(self, folder: Path, settings: Mapping[str, str | list[str]]) -> list[str]:
        """All that its build requires; as said with no program in reach, where its backend can do without."""
        search_path, programs = self.variables["PATH"], self.variables["PATH"].split(os.pathsep)[0]
        self.variables["PATH"] = programs
        try:
            required = self._prepare(folder, settings)
        except BuildBackendException:
            self.variables["PATH"] = search_path
            required = self._prepare(folder, settings)
        self.variables["PATH"] = search_path
        return required

    def prepare_metadata(self, folder: Path, settings: Mapping[str, str | list[str]]) -> str:
        """METADATA of the wheel, from an environment that is prepared."""
        with _suppress_warnings():
            metadata = self._open_project(folder).prepare("wheel", self.work_dir / "made", settings)
            place = metadata or self._open_project(folder).metadata_path(self.work_dir / "made")
        return (Path(place) / "METADATA").read_text("utf-8")

    def build_sdist(self, folder: Path) -> Path:
        """The project's folder as an sdist, from an environment that is prepared."""
        with _suppress_warnings():
            project = self._open_project(folder)
            if more := sorted(project.get_requires_for_build("sdist")):
                self._install([*sorted(project.build_system_requires), *more])
            return Path(project.build("sdist", self.work_dir / "made"))

    @property
    def _python(self) -> str:
        return str(self.venv_dir / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))

    def _open_project(self, folder: Path) -> ProjectBuilder:
        return ProjectBuilder(folder, python_executable=self._python, runner=self._run_hook)

    def _prepare(self, folder: Path, settings: Mapping[str, str | list[str]]) -> list[str]:
        """Make the environment with all that the build requires; these requirements."""
        if not self.venv_dir.exists():
            self._run([self.interpreter.path, "-I", "-m", "venv", "--without-pip", str(self.venv_dir)])
        with _suppress_warnings():
            project = self._open_project(folder)
            required = sorted(project.build_system_requires)
            self._install(required)
            more = sorted(project.get_requires_for_build("wheel", settings) - set(required))
            if more:
                self._install([*required, *more])
        return [*required, *more]

    def _install(self, requirements: Sequence[str]) -> None:
        """By the newest pip that the interpreter admits, from its own wheel; from files alone."""
        files = self.provide(["pip", *requirements], self.interpreter.target)
        place = self.work_dir / "wheels"
        place.mkdir(exist_ok=True)
        paths: dict[str, Path] = {canonicalize_name(file.name.split("-")[0]): file.link_into(place) for file in files}
        missing = [
            path
            for name, path in sorted(paths.items())
            if name != "pip" or "pip" in map(_parse_project_name, requirements)
        ]
        self.installed_distributions = sorted("-".join(path.name.split("-")[:2]) for path in missing)
        if not missing:
            return
        # sysconfig._PIP_USE_SYSCONFIG: Debian's 3.7 to 3.9 come without distutils, which pip would ask for the folders.
        start = (
            "import runpy, sys, sysconfig; sysconfig._PIP_USE_SYSCONFIG = True; sys.path.insert(0, sys.argv.pop(1)); "
        )
        start += "runpy.run_module('pip', run_name='__main__', alter_sys=True)"
        options = ["--isolated", "install", "--no-index", "--no-deps", "--no-compile", "--quiet"]
        options += ["--disable-pip-version-check", "--no-warn-script-location", "--ignore-installed"]
        self._run([self._python, "-I", "-c", start, str(paths["pip"]), *options, *map(str, missing)])

    def _run(self, command: Sequence[str], folder: Path | None = None) -> None:
        process = self.interpreter.run(
            command, folder=folder or self.work_dir, output=self.log, environment=self.variables
        )
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, list(command))

    def _run_hook(
        self, cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
    ) -> None:
        """What pyproject_hooks calls: [python, its script, name of the hook, folder for in- and output]."""
        self.log.write(f"offlinepack: {cmd[2]}\n".encode())
        self.log.flush()
        hook_folder = self.work_dir / "tmp" / "hook"
        shutil.rmtree(hook_folder, ignore_errors=True)
        shutil.copytree(cmd[3], hook_folder)
        script = Path(pyproject_hooks.__file__).parent / "_in_process" / "_in_process.py"
        shutil.copy(script, self.work_dir / "tmp" / script.name)
        self.variables |= extra_environ or {}
        self._run(
            [cmd[0], str(self.work_dir / "tmp" / script.name), cmd[2], str(hook_folder)], Path(cwd or self.work_dir)
        )
        shutil.copytree(hook_folder, cmd[3], dirs_exist_ok=True)


@contextlib.contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Without the backend's warnings: they are in the log already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _parse_project_name(requirement: str) -> str:
    return canonicalize_name(re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0])
