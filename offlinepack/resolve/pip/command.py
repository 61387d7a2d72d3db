"""Run `pip-compile` or `pip install --dry-run` once for a target."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from offlinepack.index.export import make_pip_arguments
from offlinepack.index.model import Indexes, IndexFile
from offlinepack.index.simple_api import find_project
from offlinepack.net.client import open_client
from offlinepack.pip_shim.run import PipOutput, PipRules, run_pip
from offlinepack.requirements.model import Requirements
from offlinepack.resolve.backtracking import BacktrackState
from offlinepack.resolve.context import ResolverContext

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


@dataclass(frozen=True)
class PipInvocation:
    """One `pip-compile` and all that does not change between two of them."""

    requirements: Requirements
    target: Target
    indexes: Indexes
    folder: Path
    context: ResolverContext

    def __call__(self, rounds: BacktrackState, timeout: float | None = None) -> PipOutput:
        """Run pip-compile, or pip where dependencies are left out."""
        requirements = self.requirements
        lines = [line.line for line in requirements.requirements if line.name not in rounds.excluded_projects]
        (self.folder / "requirements.in").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        bounds = [line.line for line in requirements.constraints]
        bounds += [f"{name}>{version}" for name, version in sorted(rounds.lower_bounds.items())]
        (self.folder / "constraints.txt").write_text("".join(f"{line}\n" for line in bounds), "utf-8")
        pip = [
            *requirements.policy.format_control.format_options(()),  # pip excepts addresses and paths
            "--prefer-binary",
            "--cache-dir",
            str(self.context.get_cache_folder("pip")),
        ]
        files = ["--constraint", "constraints.txt", *(["--pre"] if requirements.policy.pre else [])]
        if requirements.policy.no_deps:  # which pip-compile does not know
            command = ["pip", "install", "--dry-run", "--ignore-installed", "--break-system-packages", "--quiet"]
            command += ["--no-deps", *pip, *files, "-r", "requirements.in"]
        else:
            command = ["pip-compile", "--quiet", "--no-config", "--allow-unsafe", "--strip-extras", "--no-annotate"]
            command += ["--no-header", "--no-emit-options", "--rebuild", "--output-file", "pins.txt"]
            command += ["--cache-dir", str(self.context.get_cache_folder("pip")), "--pip-args", shlex.join(pip), *files]
            command.append("requirements.in")
        (self.folder / "pins.txt").unlink(missing_ok=True)  # else pip-compile prefers what stands there
        arguments, environment = make_pip_arguments(self.indexes)
        environment.update(PIP_RETRIES=str(self.context.retries), PIP_DEFAULT_TIMEOUT=f"{self.context.timeout:g}")
        rules = self.make_rules(rounds)
        return run_pip(
            self.target, [*command, *arguments], environment=environment, cwd=self.folder, rules=rules, timeout=timeout
        )

    def make_rules(self, rounds: BacktrackState) -> PipRules:
        """Make the rules that pip's options cannot express."""
        ways = self.indexes
        url_of = {index.name: index.url for index in reversed(ways.indexes) if index.name}
        return PipRules(
            indexes=() if ways.no_index else tuple(index.url for index in ways.indexes if not index.is_explicit),
            sources={} if ways.no_index else {name: url_of[index] for name, index in ways.sources.items()},
            missing_codes={index.url: index.missing_statuses for index in ways.indexes if index.missing_statuses},
            allow_sdist=tuple(sorted(rounds.allow_sdist)),
            # a project without any wheel is no reason to go back to older releases of what needs it
            sdist_fallback=rounds.sdist_fallback
            and ":all:"
            not in (
                *self.requirements.policy.format_control.only_binary,
                *self.requirements.policy.format_control.no_binary,
            ),
            can_build=self.context.can_build(self.target),
            # once there is no solution only the other gaps are looked for
            search_seconds=10.0 if rounds.findings else 60.0,
            only_wheels=self.requirements.policy.format_control.only_binary,
            excluded_projects=tuple(sorted(rounds.excluded_projects)),
            uploaded_before=self.requirements.policy.uploaded_prior_to,
            offline=self.context.offline,
            cache_folder=self.context.get_cache_folder("read"),
        )

    def list_files(self, name: str) -> list[IndexFile]:
        """List the files of a project on the indexes; raise FetchError if one cannot be asked."""
        means = self.context
        with open_client(self.indexes, retries=means.retries, timeout=means.timeout, offline=means.offline) as client:
            project = find_project(name, self.indexes, client)
        return list(project.files) if project else []
