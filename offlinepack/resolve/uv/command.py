"""Run `uv pip compile` once, with explicit arguments and environment, and read its lock."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.pylock import Pylock, PylockValidationError

from offlinepack.errors import OfflinepackError, ResolutionError, error
from offlinepack.index.export import make_uv_arguments, make_uv_project
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.uv_export import run_uv
from offlinepack.resolve.backtracking import BacktrackState
from offlinepack.resolve.context import PAGE_LIFETIME, ResolverContext
from offlinepack.resolve.diagnosis import can_use_sdist

if TYPE_CHECKING:
    from offlinepack.index.model import Indexes, IndexFile
    from offlinepack.targets.model import Target


import tomllib


@dataclass(frozen=True)
class UvInvocation:
    """One `uv pip compile` and all that does not change between two of them."""

    requirements: Requirements
    target: Target | None
    """None: the machine that this runs on, and builds of all sources"""
    uv_target: Target | None
    """the target as uv knows it"""
    indexes: Indexes
    context: ResolverContext

    @property
    def target_name(self) -> str:
        """The target's name for sentences."""
        return self.target.name if self.target else "this machine"

    def __call__(
        self, folder: Path, rounds: BacktrackState, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run uv in this folder, where its pylock.toml then lies; its words are in `stderr`."""
        arguments, index_environment = make_uv_arguments(self.indexes)
        requirements = self.requirements
        sdists = _list_sdist_projects(requirements, rounds.allow_sdist)
        command = [
            *("pip", "compile", "--format", "pylock.toml", "-o", "pylock.toml"),
            *("--color", "never", "--no-progress", "--no-python-downloads", "--no-header"),
            *("--python", str(self.context.python or sys.executable)),
            *(_make_target_options(self.uv_target) if self.uv_target else []),
            *_write_index_settings(arguments, folder),
            *(requirements.policy.format_control.format_options(sdists) if self.target else []),
            *("--cache-dir", str(self.context.get_cache_folder("uv"))),
            *(["--offline"] if self.context.offline else []),
            *(["--no-deps"] if requirements.policy.no_deps else []),
            *(["--prerelease", "allow"] if requirements.policy.pre else []),
            *(
                ["--exclude-newer", requirements.policy.uploaded_prior_to]
                if requirements.policy.uploaded_prior_to
                else []
            ),
        ]
        lines = [line.line for line in requirements.requirements if line.name not in rounds.excluded_projects]
        (folder / "requirements.in").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        if project := make_uv_project(self.indexes, [*lines, *sorted(rounds.projects_with_index)]):
            (folder / "pyproject.toml").write_text(project, "utf-8")
            command.append("pyproject.toml")
        bounds = [line.line for line in requirements.constraints]
        bounds += [f"{name}>{version}" for name, version in sorted(rounds.lower_bounds.items())]
        if bounds:
            constraints = "".join(f"{line}\n" for line in bounds)
            (folder / "constraints.txt").write_text(constraints, "utf-8")
            command += ["--constraints", "constraints.txt"]
        if requirements.overrides:
            overrides = "".join(f"{line.line}\n" for line in requirements.overrides)
            (folder / "overrides.txt").write_text(overrides, "utf-8")
            command += ["--overrides", "overrides.txt"]
        if rounds.excluded_projects:
            (folder / "excludes.txt").write_text(
                "".join(f"{name}\n" for name in sorted(rounds.excluded_projects)), "utf-8"
            )
            command += ["--excludes", "excludes.txt"]
        command.append("requirements.in")
        environment = dict(index_environment)
        # which releases it passes over stands nowhere else
        environment["RUST_LOG"] = "uv_resolver::candidate_selector=trace"
        environment["UV_HTTP_TIMEOUT"] = str(max(1, round(self.context.timeout)))
        environment["UV_HTTP_RETRIES"] = str(self.context.retries)
        if self.target and self.target.facts.macos_version:
            environment["MACOSX_DEPLOYMENT_TARGET"] = self.target.facts.macos_version
        turn = self.context.run_cache.reserve_projects(
            self.context.get_cache_folder("uv"), {line.name or line.line for line in requirements.requirements}
        )
        with contextlib.nullcontext(True) if self.context.offline else turn as alone:
            # each connection looks the host's name up, and many a resolver drops what comes in a burst; 24 are as quick
            # as uv's own 50, and what those after the first still lack is little
            environment["UV_CONCURRENT_DOWNLOADS"] = "24" if alone else "2"
            return run_uv(command, folder, environment, timeout)


def _write_index_settings(arguments: list[str], folder: Path) -> list[str]:
    """Write the indexes into a settings file, where the lifetime of their answers can be set.

    The file at an address never changes; a page is valid for one run (RunCache). Many mirrors state no lifetime, and
    uv would then request each page and build each sdist again in each round.
    """
    remaining_options: list[str] = []
    tables: list[str] = []
    rest = iter(arguments)
    for option in rest:
        if option in ("--index", "--default-index"):
            name, _, url = next(rest).partition("=")
            tables += ["[[index]]", f"name = {json.dumps(name)}", f"url = {json.dumps(url)}"]
            tables += ["default = true"] if option == "--default-index" else []
            tables += [f'cache-control = {{ api = "max-age={PAGE_LIFETIME}", files = "max-age=365000000, immutable" }}']
        elif option != "--no-config":
            remaining_options.append(option)
    (folder / "uv.toml").write_text("\n".join([*tables, ""]), "utf-8")
    return ["--config-file", "uv.toml", *remaining_options]


def _make_target_options(target: Target) -> list[str]:
    return [
        *("--python-version", target.environment["python_full_version"]),
        *("--python-platform", str(target.get_uv_platform())),
    ]


def _list_sdist_projects(requirements: Requirements, allowed: Iterable[str]) -> set[str]:
    """Return the projects that uv may build: those of earlier attempts, and addresses other than wheels."""
    lines = requirements.requirements
    return {*allowed, *(line.name for line in lines if line.name and line.url and not line.url.endswith(".whl"))}


def read_resolved_lock(path: Path, subject: str) -> Pylock:
    """Read the lock that uv wrote; raise ResolutionError if it is invalid."""
    try:
        return Pylock.from_dict(tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError, PylockValidationError) as bad:
        raise ResolutionError(
            error(
                "lock-unreadable",
                subject,
                "uv made a lock for {subject} that cannot be read.",
                "Use --resolver pip, and report this.",
                log=str(bad),
            )
        ) from bad


def list_index_files(name: str, run: UvInvocation) -> list[IndexFile]:
    """List the files of a project on an index; none if it cannot be asked."""
    from offlinepack.index.simple_api import find_project_files
    from offlinepack.net.client import open_client

    means = run.context

    def ask() -> list[IndexFile]:
        with open_client(run.indexes, retries=1, timeout=means.timeout, offline=means.offline) as client:
            return find_project_files(name, run.indexes, client)

    try:
        return means.run_cache.get_or_compute(("files", name, *map(str, run.indexes.select_indexes(name))), ask)
    except OfflinepackError:
        return []


def allows_sdist(name: str, run: UvInvocation) -> bool:
    """Check whether the sdist of a project may be used and can become a wheel for the target."""
    return can_use_sdist(name, run.requirements, run.target, run.context, lambda: list_index_files(name, run))
