"""One run of `uv pip compile`: its arguments, its environment, what it leaves behind.

What uv's command line does not say of itself, and is settled here: it fetches a Python unless one is named and
downloads are forbidden; X.Y is X.Y.0; macOS has version 13 unless MACOSX_DEPLOYMENT_TARGET says otherwise; a lock
must be called pylock.toml; it reads uv.toml, pyproject.toml and UV_* of wherever it stands.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.pylock import Pylock, PylockValidationError

from offlinepack.errors import Finding, OfflinepackError, ResolutionError, error
from offlinepack.lockers.means import LASTING, Means
from offlinepack.sources import Requirements, uv_program, without_secrets

if TYPE_CHECKING:
    from offlinepack.indexes import Indexes, IndexFile
    from offlinepack.targets import Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
"""a project, as uv writes it"""
MOST_ROUNDS = 60
"""after so many unknown projects and gaps the rest is left for the next run"""


@dataclass
class Rounds:
    """What is passed from one run of uv to the next."""

    allowed: set[str] = field(default_factory=set)
    """projects whose sources may be used, beyond those of --no-binary"""
    excluded: set[str] = field(default_factory=set)
    """projects that were found wrong; the next run does without them and finds the next"""
    above: dict[str, str] = field(default_factory=dict)
    """project -> the version that lacks an extra which newer ones have"""
    sourced: set[str] = field(default_factory=set)
    """projects that came along and that have an index of their own: uv heeds that for what is named"""
    findings: list[Finding] = field(default_factory=list)
    kinds: set[type[OfflinepackError]] = field(default_factory=set)


@dataclass(frozen=True)
class Run:
    """One `uv pip compile` and all that does not change between two of them."""

    requirements: Requirements
    target: Target | None
    """None: the machine that this runs on, and builds of all sources"""
    seen: Target | None
    """the target as uv knows it"""
    indexes: Indexes
    means: Means

    @property
    def where(self) -> str:
        """The target's name for sentences."""
        return self.target.name if self.target else "this machine"

    def __call__(self, folder: Path, rounds: Rounds, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run uv in this folder, where its pylock.toml then lies; its words are in `stderr`."""
        arguments, index_environment = self.indexes.uv_arguments()
        wanted = self.requirements
        command = [
            *("pip", "compile", "--format", "pylock.toml", "-o", "pylock.toml"),
            *("--color", "never", "--no-progress", "--no-python-downloads", "--no-header"),
            *("--python", str(self.means.python or sys.executable)),
            *(_seen_from(self.seen) if self.seen else []),
            *_with_lasting_answers(arguments, folder),
            *(_formats(wanted, rounds.allowed) if self.target else []),
            *("--cache-dir", str(self.means.cache("uv"))),
            *(["--offline"] if self.means.offline else []),
            *(["--no-deps"] if wanted.no_deps else []),
            *(["--prerelease", "allow"] if wanted.pre else []),
            *(["--exclude-newer", wanted.uploaded_prior_to] if wanted.uploaded_prior_to else []),
        ]
        lines = [one.line for one in wanted.asked if one.name not in rounds.excluded]
        (folder / "requirements.in").write_text("".join(f"{one}\n" for one in lines), "utf-8")
        if project := self.indexes.uv_project([*lines, *sorted(rounds.sourced)]):
            (folder / "pyproject.toml").write_text(project, "utf-8")
            command.append("pyproject.toml")
        bounds = [one.line for one in wanted.constraints]
        bounds += [f"{name}>{version}" for name, version in sorted(rounds.above.items())]
        if bounds:
            constraints = "".join(f"{one}\n" for one in bounds)
            (folder / "constraints.txt").write_text(constraints, "utf-8")
            command += ["--constraints", "constraints.txt"]
        if rounds.excluded:
            (folder / "excludes.txt").write_text("".join(f"{one}\n" for one in sorted(rounds.excluded)), "utf-8")
            command += ["--excludes", "excludes.txt"]
        command.append("requirements.in")
        environment = dict(index_environment)
        # which releases it passes over stands nowhere else
        environment["RUST_LOG"] = "uv_resolver::candidate_selector=trace"
        environment["UV_HTTP_TIMEOUT"] = str(max(1, round(self.means.timeout)))
        environment["UV_HTTP_RETRIES"] = str(self.means.retries)
        if self.target and self.target.facts.macos_version:
            environment["MACOSX_DEPLOYMENT_TARGET"] = self.target.facts.macos_version
        turn = self.means.pages.read(self.means.cache("uv"), {one.name or one.line for one in wanted.asked})
        with contextlib.nullcontext(True) if self.means.offline else turn as alone:
            # each connection looks the host's name up, and many a resolver drops what comes in a burst; 24 are as quick
            # as uv's own 50, and what those after the first still lack is little
            environment["UV_CONCURRENT_DOWNLOADS"] = "24" if alone else "2"
            return uv_program.run(command, folder, environment, timeout)


def _with_lasting_answers(arguments: list[str], folder: Path) -> list[str]:
    """The same indexes by a file of settings: only there can be said how long what they answer counts.

    What lies at a file's address stays the same; its pages do for one run (`means.Pages`). Many a mirror says nothing
    of it, and uv then asks for each page, and builds each source, again in each round.
    """
    kept: list[str] = []
    tables: list[str] = []
    rest = iter(arguments)
    for one in rest:
        if one in ("--index", "--default-index"):
            name, _, url = next(rest).partition("=")
            tables += ["[[index]]", f"name = {json.dumps(name)}", f"url = {json.dumps(url)}"]
            tables += ["default = true"] if one == "--default-index" else []
            tables += [f'cache-control = {{ api = "max-age={LASTING}", files = "max-age=365000000, immutable" }}']
        elif one != "--no-config":
            kept.append(one)
    (folder / "uv.toml").write_text("\n".join([*tables, ""]), "utf-8")
    return ["--config-file", "uv.toml", *kept]


def _seen_from(target: Target) -> list[str]:
    return [
        *("--python-version", target.environment["python_full_version"]),
        *("--python-platform", str(target.uv_platform())),
    ]


def _formats(wanted: Requirements, allowed: Iterable[str]) -> list[str]:
    """Wheels first: sources only where --no-binary or an earlier round says so."""
    if ":all:" in wanted.no_binary:
        names = ["--no-binary", ":all:"]
        for name in wanted.only_binary:
            names += ["--only-binary", name]
        return names
    names = ["--only-binary", ":all:"]
    direct = {one.name for one in wanted.asked if one.name and one.url and not one.url.endswith(".whl")}
    for name in sorted({*wanted.no_binary, *allowed, *direct}):
        names += ["--no-binary", name]
    return names


def read_lock(path: Path, subject: str) -> Pylock:
    """The lock that uv wrote; ResolutionError where it is none."""
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


def files_of(name: str, run: Run) -> list[IndexFile]:
    """What an index has of a project; nothing where it cannot be asked."""
    from offlinepack import fetch, indexes

    means = run.means

    def ask() -> list[IndexFile]:
        with fetch.open_client(run.indexes, retries=1, timeout=means.timeout, offline=means.offline) as client:
            return indexes.project_files(name, run.indexes, client)

    try:
        return means.pages.once(("files", name, *map(str, run.indexes.of(name))), ask)
    except OfflinepackError:
        return []


def may_be_source(name: str, run: Run) -> bool:
    """Whether the source of a project may be taken, and can become a wheel for the target."""
    wanted = run.requirements
    if not wanted.allows_source(name):
        return False
    if name in wanted.no_binary or run.target is None or run.means.builds(run.target):
        return True
    return not any(one.is_compiled(run.target.facts.os) for one in files_of(name, run))


def words(said: str) -> str:
    """What uv says to people, without its log."""
    return "\n".join(line for line in said.splitlines() if not line.startswith(("TRACE ", "DEBUG ")))


def flat_words(said: str) -> str:
    """On one line, and without the markers that uv writes behind names: numpy{python_full_version >= '3.12'}."""
    return re.sub(r"\{[^{}]*\}", "", re.sub(r"\s+", " ", said))


def end_of(said: str) -> str:
    """The end of uv's words, without what no reader needs."""
    kept = [line for line in said.splitlines() if line.strip() and not line.startswith(("warning:", "hint: Wheels"))]
    return without_secrets("\n".join(kept[-20:]))
