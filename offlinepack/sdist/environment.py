"""Run the build backend of a project in an isolated virtual environment (PEP 517)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyproject_hooks
from build import BuildBackendException, ProjectBuilder
from packaging.utils import canonicalize_name

from offlinepack.errors import BuildError, error
from offlinepack.interpreters.host import Interpreter
from offlinepack.sandbox import DEFAULT_PATH
from offlinepack.sdist.source import open_work_folder, unpack_source
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target

_ACTIVE_BUILDS: ContextVar[tuple[str, ...]] = ContextVar("keys of the sources that are being built", default=())


@dataclass(frozen=True)
class BuildConfig:
    """Settings that all builds of a run share."""

    store: Store
    provide: RequirementProvider
    """provider of build requirements, which locks, fetches and builds them"""
    log_dir: Path
    """folder of the logs, one for each project and target"""
    pythons: tuple[str, ...] = ()
    """interpreters to try first (--build-python), inside `root` if that is set"""
    root: Path | None = None
    """root file system of the target, in which builds run without a network"""
    config_settings: Mapping[str, str | list[str]] = field(default_factory=dict)
    """settings for the build backend (PEP 517)"""
    build_constraints: tuple[str, ...] = ()
    """constraints that `provide` applies; part of the cache key of wheels"""


RequirementProvider = Callable[[Sequence[str], Target], Sequence[StoredFile]]
"""function of requirements (PEP 508) and the build interpreter's target that returns their wheels with dependencies"""


class BuildEnvironment:
    """Isolated environment of one build, which runs the hooks of the build backend and logs their output."""

    def __init__(
        self,
        interpreter: Interpreter,
        work: Path,
        log: IO[bytes],
        environment: Mapping[str, str],
        provide: RequirementProvider,
    ) -> None:
        self.interpreter, self.work_dir, self.log, self.provide = interpreter, work, log, provide
        self.environment = environment
        self.venv_dir = work / "env"
        programs = str(self.venv_dir / ("Scripts" if os.name == "nt" else "bin"))
        search_path = DEFAULT_PATH if interpreter.root else os.environ.get("PATH", os.defpath)
        self.variables = {**environment, "PATH": os.pathsep.join([programs, search_path])}
        self.installed_distributions: list[str] = []
        """names and versions of the installed build requirements"""

    def build_wheel(self, folder: Path, settings: Mapping[str, str | list[str]]) -> Path:
        """Create the environment, install all build requirements and build the wheel."""
        self._prepare(folder, settings)
        with _suppress_warnings():
            return Path(self._open_project(folder).build("wheel", self.work_dir / "made", settings))

    def list_requirements(self, folder: Path, settings: Mapping[str, str | list[str]]) -> list[str]:
        """Return all build requirements, reported by the backend without programs on PATH if it can run so."""
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
        """Return METADATA of the wheel; the environment must be prepared."""
        with _suppress_warnings():
            metadata = self._open_project(folder).prepare("wheel", self.work_dir / "made", settings)
            place = metadata or self._open_project(folder).metadata_path(self.work_dir / "made")
        return (Path(place) / "METADATA").read_text("utf-8")

    def build_sdist(self, folder: Path) -> Path:
        """Build an sdist of the project folder; the environment must be prepared."""
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
        """Create the environment, install all build requirements and return them."""
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
        """Install requirements from files, with the newest pip that supports the interpreter, run from its wheel."""
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
        # sysconfig._PIP_USE_SYSCONFIG: Debian's 3.7 to 3.9 lack distutils, from which pip would read the folders.
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
        """Run a hook for pyproject_hooks; `cmd`: [python, script, name of the hook, folder for input and output]."""
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
def forbid_circles(key: str, name: str) -> Iterator[None]:
    """Mark a source as being built; raise BuildError if that is so already, because its build requires itself."""
    if key in _ACTIVE_BUILDS.get():
        raise BuildError(
            error(
                "build-circle",
                name,
                "{subject} needs itself to be built.",
                "Allow a ready-made wheel of it: no --no-binary for this project.",
            )
        )
    token = _ACTIVE_BUILDS.set((*_ACTIVE_BUILDS.get(), key))
    try:
        yield
    finally:
        _ACTIVE_BUILDS.reset(token)


@contextlib.contextmanager
def open_build_environment(
    source: StoredFile | Path,
    key: str,
    interpreter: Interpreter,
    config: BuildConfig,
    name: str,
    subdirectory: str,
    log: Path,
) -> Iterator[tuple[Path, BuildEnvironment]]:
    """Unpack a source into a work folder; yield the folder of the project and an environment that writes this log.

    `key` identifies the source: builds with the same key run at the same path.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open_work_folder(key) as work, log.open("wb") as written:
        folder, stamp = unpack_source(source, work, name)
        environment = {
            "SOURCE_DATE_EPOCH": str(stamp),
            "PYTHONHASHSEED": "0",
            "TMPDIR": str(work / "tmp"),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        yield (
            folder / subdirectory if subdirectory else folder,
            BuildEnvironment(interpreter, work, written, environment, config.provide),
        )


@contextlib.contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Suppress the warnings of the build frontend: they are in the log already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _parse_project_name(requirement: str) -> str:
    return canonicalize_name(re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0])
