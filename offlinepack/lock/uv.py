"""A lock by `uv pip compile`: wheels first, sources only for the projects that need one, and failures in our sentences.

What uv's command line does not say of itself, and is settled here: it fetches a Python unless one is named and
downloads are forbidden; X.Y is X.Y.0; macOS has version 13 unless MACOSX_DEPLOYMENT_TARGET says otherwise; a lock
must be called pylock.toml; it reads uv.toml, pyproject.toml and UV_* of wherever it stands; it ignores the upper
bound of Requires-Python (closure finds that, and the release is excluded in the next round); a date for
--exclude-newer means the end of that day.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Package, Pylock, PylockValidationError
from packaging.utils import canonicalize_name, parse_wheel_filename

from offlinepack.errors import (
    BuildError,
    FetchError,
    Finding,
    OfflinepackError,
    ResolutionError,
    SelectionError,
    error,
)
from offlinepack.sources import Requirements, without_secrets

if TYPE_CHECKING:
    from offlinepack.indexes import Indexes
    from offlinepack.targets import Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_ROUNDS = 60
"""after so many unknown projects and gaps the rest is left for the next run"""

_NAME = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_UNKNOWN = re.compile(rf"\b({_NAME}) was not found in the (?:package registry|provided package locations|cache)")
_NO_WHEEL = re.compile(
    rf"(?:all versions of )?\b({_NAME})((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) ha(?:s|ve) no "
    r"(?:usable wheels|wheels with a matching|available wheels|wheels (?:are|is) available|compatible wheels)"
)
_NEEDS_SOURCE = re.compile(r"hint: Wheels are required for `([^`]+)`")
_NEEDS = re.compile(
    rf"(?:all versions of )?\b({_NAME})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) depends? on "
    rf"({_NAME})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=|~=)[^\s,]+(?:,\s*)?)*)"
)
_YANKED = re.compile(rf"^warning: `({_NAME})(?:\[[^\]]*\])?==([^`]+)` is yanked(?: \(reason: \"(.*)\"\))?", re.M)


@dataclass
class _Rounds:
    """What is passed from one run of uv to the next."""

    allowed: set[str] = field(default_factory=set)
    """projects whose sources may be used, beyond those of --no-binary"""
    excluded: set[str] = field(default_factory=set)
    """projects that were found wrong; the next run does without them and finds the next"""
    findings: list[Finding] = field(default_factory=list)
    kinds: set[type[OfflinepackError]] = field(default_factory=set)


def lock(
    requirements: Requirements,
    target: Target,
    indexes: Indexes,
    *,
    offline: bool = False,
    cache_dir: Path | None = None,
    retries: int = 5,
    timeout: float = 15.0,
    python: Path | None = None,
) -> Pylock:
    """A lock for one target that uv knows; all unknown projects and all gaps at once, else the first conflict."""
    if target.uv_platform() is None:
        raise ResolutionError(
            error(
                "uv-does-not-know",
                target.name,
                "uv cannot resolve for {subject}.",
                "Use --resolver pip, or leave --resolver out.",
            )
        )
    rounds = _Rounds()
    run = _Run(requirements, target, indexes, offline, cache_dir, retries, timeout, python or Path(sys.executable))
    for _ in range(MOST_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            done = run(Path(folder), rounds)
            if done.returncode == 0 and not rounds.findings:
                made = _read(Path(folder) / "pylock.toml", target)
                made = _least_sources(made, run, rounds, Path(folder))
                return _with_yanked(made, done.stderr)
        if done.returncode == 0 or not _learn(done.stderr, run, rounds):
            break
    # what has no solution at all outweighs what merely has no file
    for kind in (FetchError, BuildError, ResolutionError, SelectionError):
        if kind in rounds.kinds:
            raise kind(*rounds.findings)
    raise ResolutionError(*rounds.findings)


@dataclass(frozen=True)
class _Run:
    """One `uv pip compile` and all that does not change between two of them."""

    requirements: Requirements
    target: Target
    indexes: Indexes
    offline: bool
    cache_dir: Path | None
    retries: int
    timeout: float
    python: Path

    def __call__(self, folder: Path, rounds: _Rounds) -> subprocess.CompletedProcess[str]:
        arguments, index_environment = self.indexes.uv_arguments()
        wanted = self.requirements
        command = [
            *(find_uv(), "pip", "compile", "--no-config", "--format", "pylock.toml", "-o", "pylock.toml"),
            *("--color", "never", "--no-progress", "--no-python-downloads", "--no-header", "--no-sources"),
            *("--python", str(self.python), "--python-version", self.target.environment["python_full_version"]),
            *("--python-platform", str(self.target.uv_platform())),
            *arguments,
            *_formats(wanted, rounds.allowed),
            *(["--cache-dir", str(self.cache_dir / "uv")] if self.cache_dir else ["--no-cache"]),
            *(["--offline"] if self.offline else []),
            *(["--no-deps"] if wanted.no_deps else []),
            *(["--prerelease", "allow"] if wanted.pre else []),
            *(["--exclude-newer", wanted.uploaded_prior_to] if wanted.uploaded_prior_to else []),
        ]
        lines = [one.line for one in wanted.asked if one.name not in rounds.excluded]
        (folder / "requirements.in").write_text("".join(f"{one}\n" for one in lines), "utf-8")
        if wanted.constraints:
            constraints = "".join(f"{one.line}\n" for one in wanted.constraints)
            (folder / "constraints.txt").write_text(constraints, "utf-8")
            command += ["--constraints", "constraints.txt"]
        if rounds.excluded:
            (folder / "excludes.txt").write_text("".join(f"{one}\n" for one in sorted(rounds.excluded)), "utf-8")
            command += ["--excludes", "excludes.txt"]
        command.append("requirements.in")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED)}
        environment.update(index_environment)
        environment.update(UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1")
        environment.update(UV_HTTP_TIMEOUT=str(max(1, round(self.timeout))), UV_HTTP_RETRIES=str(self.retries))
        if self.target.facts.macos_version:
            environment["MACOSX_DEPLOYMENT_TARGET"] = self.target.facts.macos_version
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


_NOT_PASSED = ("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "MACOSX_DEPLOYMENT_TARGET", "RUST_LOG", "NO_COLOR")


def find_uv() -> str:
    """The uv that was installed with offlinepack."""
    import uv

    try:
        return os.fspath(uv.find_uv_bin())
    except FileNotFoundError as bad:
        raise ResolutionError(
            error("no-uv", "uv", "The program uv is not there.", "Install offlinepack again, or use --resolver pip.")
        ) from bad


def _formats(wanted: Requirements, allowed: Iterable[str]) -> list[str]:
    """Wheels first: sources only where --no-binary or an earlier round says so."""
    if ":all:" in wanted.no_binary:
        names = ["--no-binary", ":all:"]
        for name in wanted.only_binary:
            names += ["--only-binary", name]
        return names
    names = ["--only-binary", ":all:"]
    for name in sorted({*wanted.no_binary, *allowed}):
        names += ["--no-binary", name]
    return names


def _read(path: Path, target: Target) -> Pylock:
    try:
        return Pylock.from_dict(tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError, PylockValidationError) as bad:
        raise ResolutionError(
            error(
                "lock-unreadable",
                target.name,
                "uv made a lock for {subject} that cannot be read.",
                "Use --resolver pip, and report this.",
                log=str(bad),
            )
        ) from bad


def _least_sources(made: Pylock, run: _Run, rounds: _Rounds, folder: Path) -> Pylock:
    """Of several projects whose sources were allowed on the way, only those that the solution cannot do without."""
    if len(rounds.allowed) < 2:
        return made
    for name in sorted(rounds.allowed):
        if run(folder, replace(rounds, allowed=rounds.allowed - {name})).returncode == 0:
            rounds.allowed.discard(name)
            made = _read(folder / "pylock.toml", run.target)
    return made


def _with_yanked(made: Pylock, said: str) -> Pylock:
    """The lock, with [packages.tool.offlinepack] on what was withdrawn: selection turns it into a warning."""
    withdrawn = {(canonicalize_name(name), version): reason or "" for name, version, reason in _YANKED.findall(said)}

    def marked(package: Package) -> Package:
        key = (package.name, str(package.version))
        if key not in withdrawn:
            return package
        return replace(package, tool={**(package.tool or {}), "offlinepack": {"yanked": withdrawn[key]}})

    return replace(made, packages=[marked(one) for one in made.packages])


# ------------------------------------------------------------------------------------------------- failures


def _learn(said: str, run: _Run, rounds: _Rounds) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    flat = re.sub(r"\s+", " ", said)
    if finding := _about_index(flat, said, run):
        rounds.kinds.add(FetchError)
        rounds.findings.append(finding)
        return False
    if finding := _about_build(flat, said):
        rounds.kinds.add(BuildError)
        rounds.findings.append(finding)
        return False
    if (
        sources := {
            canonicalize_name(name)
            for name in _NEEDS_SOURCE.findall(flat)
            if run.requirements.allows_source(canonicalize_name(name))
        }
        - rounds.allowed
    ):
        rounds.allowed |= sources
        return True
    unknown = {canonicalize_name(name) for name in _UNKNOWN.findall(flat)} - rounds.excluded
    without = {canonicalize_name(name): versions for name, versions in _NO_WHEEL.findall(flat)}
    if unknown:
        for name in sorted(unknown):
            rounds.findings.append(_unknown(name, flat, run))
        rounds.kinds.add(FetchError if run.offline else ResolutionError)
        rounds.excluded |= unknown
        return True
    if set(without) - rounds.excluded:
        for name in sorted(set(without) - rounds.excluded):
            rounds.findings.append(_gap(name, flat, said, run))
        rounds.kinds.add(SelectionError)
        rounds.excluded |= set(without)
        return True
    rounds.kinds.add(ResolutionError)
    rounds.findings.append(_conflict(flat, said, run))
    return False


def _log(said: str) -> str:
    """The end of uv's words, without what no reader needs."""
    kept = [line for line in said.splitlines() if line.strip() and not line.startswith(("warning:", "hint: Wheels"))]
    return without_secrets("\n".join(kept[-20:]))


def _host(address: str) -> str:
    return without_secrets(address)


def _about_index(flat: str, said: str, run: _Run) -> Finding | None:
    """An index that does not answer as one; the address stands without its secret."""
    if found := re.search(r"\((https?://[^)\s]+)\) could not be queried due to a lack of valid authentication", flat):
        return error(
            "credentials-wanted",
            _host(found[1]),
            "The index {subject} wants a user name and password (401), and none that was found is accepted.",
            "Looked at: the address itself, .netrc, pip.conf, the keyring (with --keyring-provider).",
        )
    if found := re.search(r"\((https?://[^)\s]+)\) returned a 403", flat):
        return error(
            "access-refused",
            _host(found[1]),
            "The index {subject} refuses access (403).",
            "Ask its owner whether your account may read it.",
        )
    if found := re.search(r"Unsupported `Content-Type` \"([^\"]*)\" for `([^`]+)`", flat):
        return error(
            "no-index-page",
            _host(found[2]),
            "{subject} answers with something that is no index page ({kind}).",
            "Check the address of the index; it usually ends in /simple/. A login page of a proxy looks so too.",
            kind=found[1],
        )
    if found := re.search(r"Failed to read `--find-links` (?:directory|URL|file): (\S+)", flat):
        return error(
            "find-links-unreadable",
            _host(found[1]),
            "{subject}, given with --find-links, cannot be read.",
            "Correct the path or the address.",
            log=_log(said),
        )
    failed = re.search(r"Failed to (?:fetch|download)(?: and build)?:? [`]?(\S+?)[`]?(?:\s|$)", flat)
    if not failed or not re.match(r"https?:", failed[1]):
        failed = re.search(
            r"(?:Failed to (?:fetch|download|read metadata)[^:]*).*? for url \((https?://[^)\s]+)\)", flat
        )
    if not failed:
        return None
    address = _host(failed[1])
    if status := re.search(r"HTTP status (?:client|server) error \((\d+) ?([^)]*)\)", flat):
        return error(
            "index-status",
            address,
            "{subject} answers {status} {words}.",
            "Try again later, or check the address of the index.",
            status=status[1],
            words=status[2],
        )
    if "timed out" in flat:
        return error(
            "index-timeout",
            address,
            "{subject} did not answer within {seconds} seconds.",
            "Try again later, raise --timeout, or check the proxy.",
            seconds=f"{run.timeout:g}",
        )
    if "dns error" in flat:
        return error(
            "index-unknown-host",
            address,
            "The host of {subject} is not known to this machine's name service.",
            "Check the address of the index, the network and the proxy.",
        )
    if "certificate" in flat:
        return error(
            "index-certificate",
            address,
            "The certificate of {subject} is not trusted here.",
            "Name your organisation's CA with --cert.",
            log=_log(said),
        )
    if "Connection refused" in flat or "tcp connect error" in flat:
        return error(
            "index-unreachable",
            address,
            "Nothing answers at {subject}.",
            "Check the address of the index, the network and the proxy.",
        )
    return error(
        "index-broken",
        address,
        "{subject} could not be read.",
        "Try again later, or check the address of the index.",
        log=_log(said),
    )


def _about_build(flat: str, said: str) -> Finding | None:
    """Sources whose metadata could not be had: a build that failed, an address or a path with nothing behind it."""
    if found := re.search(r"Distribution not found at: (\S+)", flat):
        return error(
            "nothing-there", _host(found[1]), "There is nothing at {subject}.", "Correct the path or the address."
        )
    found = re.search(r"Failed to (?:download and build|build|prepare|get metadata for|download) `([^`]+)`", flat)
    if not found:
        return None
    if "Git operation failed" in flat:
        return error(
            "no-checkout",
            without_secrets(found[1]),
            "{subject} could not be fetched with git.",
            "Check the address, the branch, tag or commit, and your access to it.",
            log=_log(said),
        )
    return error(
        "metadata-build-failed",
        without_secrets(found[1]),
        "{subject} has to be built to know what it needs, and that failed.",
        "The words below say what its build misses. A version with a wheel needs no build.",
        log=_log(said),
    )


def _wanted_by(name: str, flat: str, run: _Run) -> list[str]:
    """Who asked for a project: lines of the user with their place, else the releases whose metadata name it."""
    mine = [f"{one.shown} ({one.origin})" for one in run.requirements.asked if one.name == name]
    if mine:
        return mine
    return sorted(
        {
            f"{by}{versions}".strip(", ")
            for by, versions, its, _ in _NEEDS.findall(flat)
            if canonicalize_name(its) == name
        }
    )


def _unknown(name: str, flat: str, run: _Run) -> Finding:
    by = _wanted_by(name, flat, run) or ["?"]
    if run.offline:
        return error(
            "not-in-the-store",
            name,
            "{subject}, asked for by {by}, has not been read before, and --offline forbids to ask an index.",
            "Run once without --offline.",
            by=by,
        )
    return error(
        "unknown-project",
        name,
        "No index has a project {subject}, asked for by {by}.",
        "Look for a spelling mistake, or name the index that has it with --extra-index-url.",
        by=by,
    )


def _gap(name: str, flat: str, said: str, run: _Run) -> Finding:
    """A project of which no version that may be taken has a file for the target: why, and what there is."""
    by = _wanted_by(name, flat, run) or ["?"]
    facts: dict[str, Any] = {"by": by, "target": run.target.name}
    versions, nearest = _offered(name, run)
    if nearest:
        facts.update(nearest=nearest, why=run.target.why_not(nearest) or "")
    if versions:
        return error(
            "no-wheel-of-version",
            name,
            "{subject}, asked for by {by}, has no wheel for {target} in a version that may be taken; "
            "versions that have one: {versions}.",
            "Ask for one of those, or choose another target.",
            versions=versions,
            **facts,
        )
    if nearest:
        return error(
            "no-wheel",
            name,
            "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
            "Choose a target that it fits, or another project.",
            **facts,
        )
    source = "" if run.requirements.allows_source(canonicalize_name(name)) else name
    if source:
        return error(
            "only-a-source",
            name,
            "{subject}, asked for by {by}, has no wheel for {target}, and --only-binary forbids its source.",
            "Take {subject} out of --only-binary.",
            **facts,
        )
    return error(
        "no-file",
        name,
        "{subject}, asked for by {by}, has no file for {target}.",
        "Ask for another version.",
        log=_log(said),
        **facts,
    )


def _offered(name: str, run: _Run) -> tuple[list[str], str | None]:
    """The newest versions of a project with a wheel for the target, and else the nearest wheel there is."""
    from offlinepack import fetch, indexes

    try:
        client = fetch.open_client(run.indexes, retries=1, timeout=run.timeout, offline=run.offline)
        files = indexes.project_files(name, run.indexes, client)
    except OfflinepackError:
        return [], None
    fitting, others = set(), []
    for one in files:
        try:
            _, version, _, _ = parse_wheel_filename(one.filename)
        except ValueError:
            continue
        if run.target.accepts(one.filename) is not None:
            fitting.add(version)
        else:
            others.append((version, one.filename))
    newest = [str(one) for one in sorted(fitting, reverse=True)[:5]]
    latest = [name for version, name in others if version == max(others)[0]] if others else []
    return newest, run.target.nearest(latest)


def _conflict(flat: str, said: str, run: _Run) -> Finding:
    """Versions that exclude each other: who asked for what, as far as uv's words tell."""
    words = set(re.findall(_NAME, flat.lower()))
    mine = [
        f"{one.shown} ({one.origin})"
        for one in (*run.requirements.asked, *run.requirements.constraints)
        if one.name in words
    ]
    needs = sorted(
        {
            f"{by}{versions.rstrip(', ')} needs {its}{wanted.rstrip(', ')}"
            for by, versions, its, wanted in _NEEDS.findall(flat)
        }
    )
    if "No solution found" not in flat:
        return error(
            "resolver-failed",
            run.target.name,
            "uv found no versions for {subject}, for a reason that offlinepack does not know.",
            "The words below are uv's. --resolver pip may say more.",
            log=_log(said),
        )
    if run.requirements.uploaded_prior_to and "exclude-newer" in flat:
        return error(
            "all-too-new",
            run.target.name,
            "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
            "Choose a later date. An index that gives no upload times cannot be used with a date.",
            log=_log(said),
            date=run.requirements.uploaded_prior_to,
            asked=mine,
        )
    if needs:
        return error(
            "conflict",
            run.target.name,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=_log(said),
            asked=mine,
            needs=needs,
        )
    return error(
        "no-version",
        run.target.name,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=_log(said),
        asked=mine,
    )
