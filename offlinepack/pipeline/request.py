"""The request of a build: requirements, targets, indexes, options and the name of the bundle."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from offlinepack.errors import UsageError, error
from offlinepack.index.model import Indexes
from offlinepack.net.client import Client, open_client
from offlinepack.net.model import DEFAULT_JOBS, DEFAULT_RETRIES, DEFAULT_TIMEOUT
from offlinepack.report.policy import PolicyCheck
from offlinepack.requirements.installed import find_environment_python
from offlinepack.requirements.model import Requirements
from offlinepack.resolve.context import ResolverContext, RunCache
from offlinepack.targets.model import Target
from offlinepack.targets.parse import get_running_target, probe_interpreter


def find_default_target(environment: Path | None) -> Target:
    """Return the target of this machine; conda and virtualenv keep their interpreter in the environment."""
    place = environment or next(
        (Path(os.environ[variable]) for variable in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(variable)), None
    )
    python = find_environment_python(place) if place else None
    return (probe_interpreter(python) if python else get_running_target()).generic()


@dataclass(frozen=True)
class IncludedFile:
    """One file."""

    path: str
    """in the bundle"""
    file: Path
    destination: str | None
    """below the environment"""


@dataclass(frozen=True)
class BundleName:
    """What a bundle is called, and what it says of itself."""

    name: str = "app"
    version: str | None = None
    sequence: int | None = None
    install_to: str | None = None

    @property
    def archive_name(self) -> str:
        """The bundle's file where nobody names one."""
        return f"{self.name}-{self.version}-offline.tar.gz" if self.version else f"{self.name}-offline.tar.gz"

    def complete(self, requirements: Requirements) -> BundleName:
        """Complete the name with that of the inputs; `app` if they have none."""
        name = (
            re.sub(r"[-_.\s]+", "-", self.name).strip("-").lower() if self.name else requirements.identity.name or "app"
        )
        if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
            raise UsageError(
                error(
                    "bad-name",
                    "--name",
                    "{subject} {name} is no name for a bundle.",
                    "Use letters, digits and hyphens.",
                    name=self.name,
                )
            )
        version = self.version or (requirements.identity.version if name == requirements.identity.name else None)
        if version and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.!+_-]{0,126}[A-Za-z0-9])?", version):
            raise UsageError(
                error(
                    "bad-version",
                    "--app-version",
                    "{subject} {version} cannot be part of a file name.",
                    "Use letters, digits, dots and hyphens.",
                    version=version,
                )
            )
        return dataclasses.replace(self, name=name, version=version)


@dataclass(frozen=True)
class BuildOptions:
    """How to lock, fetch and build; the same for every target."""

    resolver: str = "auto"
    sdist_mode: str = "build"
    """what becomes of sources: built here, or carried along (include) for the target to build"""
    jobs: int = DEFAULT_JOBS
    """downloads at a time"""
    retries: int | None = None
    timeout: float | None = None
    """seconds that a server may keep silent; None, as for retries: what pip's settings say, else 15"""
    offline: bool = False
    cache_dir: Path | None = None
    """where the store and the resolvers keep what they fetched; None: nothing is kept"""
    build_pythons: tuple[str, ...] = ()
    """interpreters that sources are built with, before those that are found"""
    build_root: Path | None = None
    """a root file system of the target to build in"""
    build_constraints: tuple[Path, ...] = ()
    config_settings: Mapping[str, str | list[str]] = field(default_factory=dict)
    run_cache: RunCache = field(default_factory=RunCache, compare=False)

    def make_context(self, indexes: Indexes) -> ResolverContext:
        """Make the context of the resolvers: timeouts of the command line, otherwise of pip's settings, otherwise the
        defaults.
        """
        retries = indexes.retries if self.retries is None else self.retries
        return ResolverContext(
            self.offline,
            self.cache_dir,
            DEFAULT_RETRIES if retries is None else retries,
            self.timeout or indexes.timeout or DEFAULT_TIMEOUT,
            Path(self.build_pythons[0]) if self.build_pythons else None,
            self.run_cache,
            lambda target: self.run_cache.get_or_compute(("builds", target.tag), lambda: self._can_build(target)),
        )

    def open_client(self, indexes: Indexes) -> Client:
        """Open the HTTP client of a run."""
        return open_client(indexes, retries=self.retries, timeout=self.timeout, offline=self.offline)

    def _can_build(self, target: Target) -> bool:
        """Check whether the sdist of a project with extension modules can be built for a target."""
        if self.sdist_mode == "include":
            return True
        from offlinepack.interpreters.host import (
            has_matching_interpreter,  # what builds is loaded where something is built
        )

        return has_matching_interpreter(target, self.build_pythons, self.build_root)


@dataclass(frozen=True)
class BuildRequest:
    """All that a bundle is made from."""

    requirements: Requirements
    targets: tuple[Target, ...]
    indexes: Indexes
    options: BuildOptions = field(default_factory=BuildOptions)
    bundle_name: BundleName = field(default_factory=BundleName)
    includes: tuple[IncludedFile, ...] = ()
    bytecode: bool = False
    """compiled code goes with the bundle, for each target whose Python is here"""
    signing_key: Path | None = None
    """the key that signs the manifest"""
    part_size: int | None = None
    """bytes of a part"""
    rehearse: bool = False
    """the static rehearsal comes before the bundle has its name; its verdict goes in"""
    policy: PolicyCheck | None = None
    """what the bundle has to keep to; else there is none"""
    lowers_minimum_libc: bool = False
    """the target is this machine's own: its libc floor is what the chosen files need, not what it has"""
    lock_dir: Path | None = None
    """where the lock of each target is kept, and taken from as long as the same is asked"""
