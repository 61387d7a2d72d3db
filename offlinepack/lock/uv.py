"""A lock by `uv pip compile`: wheels first, sources only for the projects that need one, and failures in our sentences.

What uv's command line does not say of itself, and is settled here: it fetches a Python unless one is named and
downloads are forbidden; X.Y is X.Y.0; macOS has version 13 unless MACOSX_DEPLOYMENT_TARGET says otherwise; a lock
must be called pylock.toml; it reads uv.toml, pyproject.toml and UV_* of wherever it stands; it ignores the upper
bound of Requires-Python (closure finds that, and the release is excluded in the next round); a date for
--exclude-newer means the end of that day.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Package, Pylock, PylockValidationError
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import (
    BuildError,
    FetchError,
    Finding,
    OfflinepackError,
    ResolutionError,
    SelectionError,
    SourceError,
    error,
    text,
)
from offlinepack.sources import Asked, Requirements, uv_program, without_secrets

if TYPE_CHECKING:
    from offlinepack.indexes import Indexes, IndexFile
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
_NO_VERSION = re.compile(rf"there is no version of ({_NAME})(?:\[[^\]]*\])?(===?[^\s,]+)")
_NEEDS_SOURCE = re.compile(r"hint: Wheels are required for `([^`]+)`")
_FORBIDDEN = re.compile(r"Building source distributions for `([^`]+)` is disabled")
_NEEDS = re.compile(
    rf"(?:all versions of )?\b({_NAME})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) depends? on "
    rf"({_NAME})(?:\[[^\]]*\])?((?:(?:==|>=|<=|>|<|!=|~=)[^\s,]+(?:,\s*)?)*)"
)
_NEEDS_PYTHON = re.compile(
    rf"(?:all versions of )?\b({_NAME})((?:(?:==|>=|<=|>|<|!=)[^\s,]+(?:,\s*)?)*) depends? on "
    r"Python((?:[<>=!~]+[^\s,]+,?)+)"
)
_CANDIDATE = re.compile(
    rf"^TRACE Found candidate for package ({_NAME}) with range (.*) after \d+ steps: (\S+) version", re.M
)
_INCOMPATIBLE = re.compile(
    rf"^TRACE Returning incompatible candidate for package ({_NAME}) with range (.*) after", re.M
)
_YANKED = re.compile(rf"^warning: `({_NAME})(?:\[[^\]]*\])?==([^`]+)` is yanked(?: \(reason: \"(.*)\"\))?", re.M)


@dataclass
class _Rounds:
    """What is passed from one run of uv to the next."""

    allowed: set[str] = field(default_factory=set)
    """projects whose sources may be used, beyond those of --no-binary"""
    excluded: set[str] = field(default_factory=set)
    """projects that were found wrong; the next run does without them and finds the next"""
    sourced: set[str] = field(default_factory=set)
    """projects that came along and that have an index of their own: uv heeds that for what is named"""
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
    seen = nearest(target)
    if seen is None:
        raise ResolutionError(_does_not_know(target))
    rounds = _Rounds()
    indexes = indexes.for_target(target.evaluate)
    requirements = named(
        requirements, indexes, offline=offline, cache_dir=cache_dir, retries=retries, timeout=timeout, python=python
    )
    with _cache(cache_dir) as cache:
        here = python or Path(sys.executable)
        run = _Run(requirements, target, seen, indexes, offline, cache, retries, timeout, here)
        for _ in range(MOST_ROUNDS):
            with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
                done = run(Path(folder), rounds)
                if done.returncode == 0 and not rounds.findings:
                    made = _read(Path(folder) / "pylock.toml", target.name)
                    asked = {one.name for one in requirements.asked} | rounds.sourced
                    if late := {one.name for one in made.packages if one.name in indexes.sources} - asked:
                        rounds.sourced |= late
                        continue
                    made = _least_sources(made, run, rounds, Path(folder))
                    _only_what_uv_sees(run, _refused(made, done.stderr))
                    return _with_remarks(made, done.stderr, run)
            if done.returncode == 0 or not _learn(done.stderr, run, rounds):
                break
    _only_what_uv_sees(run, [one.subject for one in rounds.findings])
    findings = sorted(rounds.findings, key=lambda one: (one.code, one.subject))
    # what has no solution at all outweighs what merely has no file
    for kind in (FetchError, BuildError, SourceError, ResolutionError, SelectionError):
        if kind in rounds.kinds:
            raise kind(*findings)
    raise ResolutionError(*findings)


def nearest(target: Target) -> Target | None:
    """The target as uv knows it: itself, or with the newest glibc that uv has a name for; else None."""
    if target.uv_platform() is not None:
        return target
    levels = [f"2.{minor}" for minor in range(17, 100)]
    known = [one for one in levels if target.facts.libc == "glibc" and target.with_libc(one).uv_platform() is not None]
    level = target.facts.libc_version
    # a level between two known ones is not lowered: too many wheels lie there
    if level in levels and known and levels.index(level) > levels.index(known[-1]):
        return target.with_libc(known[-1])
    return None


def _does_not_know(target: Target) -> Finding:
    return error(
        "uv-does-not-know",
        target.name,
        "uv cannot resolve for {subject}.",
        "Use --resolver pip, or leave --resolver out.",
    )


def _only_what_uv_sees(run: _Run, names: Iterable[str]) -> None:
    """ResolutionError where the target takes a wheel of one of these projects that uv's nearest level does not."""
    if run.target is None or run.seen is None or run.seen is run.target:
        return
    for name in names:
        for one in _files(name, run):
            if one.is_wheel and run.target.accepts(one.filename) is not None and run.seen.accepts(one.filename) is None:
                raise ResolutionError(_does_not_know(run.target))


def named(
    requirements: Requirements,
    indexes: Indexes,
    *,
    offline: bool = False,
    cache_dir: Path | None = None,
    retries: int = 5,
    timeout: float = 15.0,
    python: Path | None = None,
) -> Requirements:
    """The same with a name for each address or folder that had none; uv asks its build for the metadata."""
    if all(one.requirement for one in requirements.asked):
        return requirements

    def name_of(one: Asked) -> Asked:
        alone = Requirements(asked=(one,), no_deps=True)
        here, rounds = python or Path(sys.executable), _Rounds()
        with _cache(cache_dir) as cache, tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            run = _Run(alone, None, None, indexes, offline, cache, retries, timeout, here)
            done = run(Path(folder), rounds)
            if done.returncode:
                _learn(done.stderr, run, rounds)
                raise next(iter(rounds.kinds))(*rounds.findings)
            (package,) = _read(Path(folder) / "pylock.toml", one.shown).packages
        return one.with_name(package.name)

    return replace(requirements, asked=tuple(one if one.requirement else name_of(one) for one in requirements.asked))


@contextlib.contextmanager
def _cache(cache_dir: Path | None) -> Iterator[Path]:
    """uv's own folder below the one for caches; where none is wanted, one that lasts as long as the rounds."""
    if cache_dir is not None:
        yield cache_dir / "uv"
    else:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            yield Path(folder)


@dataclass(frozen=True)
class _Run:
    """One `uv pip compile` and all that does not change between two of them."""

    requirements: Requirements
    target: Target | None
    """None: the machine that this runs on, and builds of all sources"""
    seen: Target | None
    """the target as uv knows it"""
    indexes: Indexes
    offline: bool
    cache: Path
    """what one round has read the next need not read again"""
    retries: int
    timeout: float
    python: Path

    @property
    def where(self) -> str:
        """The target's name for sentences."""
        return self.target.name if self.target else "this machine"

    def __call__(self, folder: Path, rounds: _Rounds) -> subprocess.CompletedProcess[str]:
        arguments, index_environment = self.indexes.uv_arguments()
        wanted = self.requirements
        command = [
            *(uv_program.find(), "pip", "compile", "--format", "pylock.toml", "-o", "pylock.toml"),
            *("--color", "never", "--no-progress", "--no-python-downloads", "--no-header"),
            *("--python", str(self.python)),
            *(_seen_from(self.seen) if self.seen else []),
            *_with_lasting_files(arguments, folder),
            *(_formats(wanted, rounds.allowed) if self.target else []),
            *("--cache-dir", str(self.cache)),
            *(["--offline"] if self.offline else []),
            *(["--no-deps"] if wanted.no_deps else []),
            *(["--prerelease", "allow"] if wanted.pre else []),
            *(["--exclude-newer", wanted.uploaded_prior_to] if wanted.uploaded_prior_to else []),
        ]
        lines = [one.line for one in wanted.asked if one.name not in rounds.excluded]
        (folder / "requirements.in").write_text("".join(f"{one}\n" for one in lines), "utf-8")
        if project := self.indexes.uv_project([*lines, *sorted(rounds.sourced)]):
            (folder / "pyproject.toml").write_text(project, "utf-8")
            command.append("pyproject.toml")
        if wanted.constraints:
            constraints = "".join(f"{one.line}\n" for one in wanted.constraints)
            (folder / "constraints.txt").write_text(constraints, "utf-8")
            command += ["--constraints", "constraints.txt"]
        if rounds.excluded:
            (folder / "excludes.txt").write_text("".join(f"{one}\n" for one in sorted(rounds.excluded)), "utf-8")
            command += ["--excludes", "excludes.txt"]
        command.append("requirements.in")
        environment = {**uv_program.environment(), **index_environment}
        # which releases it passes over stands nowhere else
        environment["RUST_LOG"] = "uv_resolver::candidate_selector=trace"
        environment.update(UV_HTTP_TIMEOUT=str(max(1, round(self.timeout))), UV_HTTP_RETRIES=str(self.retries))
        if self.target and self.target.facts.macos_version:
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


def _with_lasting_files(arguments: list[str], folder: Path) -> list[str]:
    """The same indexes by a file of settings: only there can be said that what lies at a file's address stays the same.

    Many a mirror says nothing of how long its answers last, and uv then builds each source again in each round.
    """
    kept: list[str] = []
    tables: list[str] = []
    rest = iter(arguments)
    for one in rest:
        if one in ("--index", "--default-index"):
            name, _, url = next(rest).partition("=")
            tables += ["[[index]]", f"name = {json.dumps(name)}", f"url = {json.dumps(url)}"]
            tables += ["default = true"] if one == "--default-index" else []
            tables += ['cache-control = { files = "max-age=365000000, immutable" }']
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


def _read(path: Path, subject: str) -> Pylock:
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


def _least_sources(made: Pylock, run: _Run, rounds: _Rounds, folder: Path) -> Pylock:
    """Of several projects whose sources were allowed on the way, only those that the solution cannot do without."""
    pinned = {one.name for one in run.requirements.asked if one.requirement and "==" in str(one.requirement.specifier)}
    if len(rounds.allowed) < 2:
        return made
    for name in sorted(rounds.allowed - pinned):
        (folder / "pylock.toml").unlink(missing_ok=True)  # else uv prefers what stands there
        if run(folder, replace(rounds, allowed=rounds.allowed - {name})).returncode == 0:
            rounds.allowed.discard(name)
            made = _read(folder / "pylock.toml", run.where)
    return made


def _with_remarks(made: Pylock, said: str, run: _Run) -> Pylock:
    """The lock, with [packages.tool.offlinepack] on what selection says to the user.

    `yanked`: withdrawn, with the reason; `newer-without-wheel`: a newer release that wheels-first passed over.
    """
    withdrawn = {(canonicalize_name(name), version): reason or "" for name, version, reason in _YANKED.findall(said)}
    newer = _passed_over(made, said, run)

    def marked(package: Package) -> Package:
        remarks = {}
        package = _without_secrets(package, run.indexes)
        if (key := (package.name, str(package.version))) in withdrawn:
            remarks["yanked"] = withdrawn[key]
        if package.name in newer:
            remarks["newer-without-wheel"] = newer[package.name]
        return replace(package, tool={**(package.tool or {}), "offlinepack": remarks}) if remarks else package

    return replace(made, packages=[marked(one) for one in made.packages])


def _without_secrets(package: Package, indexes: Indexes) -> Package:
    """Addresses as people may see them; the client of this run knows the whole ones."""
    changed: dict[str, Any] = {}
    for name in ("archive", "sdist"):
        if (one := getattr(package, name)) is not None and one.url:
            changed[name] = replace(one, url=indexes.remember(one.url))
    if package.wheels:
        changed["wheels"] = [replace(one, url=indexes.remember(one.url)) if one.url else one for one in package.wheels]
    return replace(package, **changed)


def _refused(made: Pylock, said: str) -> dict[str, set[Version]]:
    """Project -> releases newer than the one in the lock that uv's log says have no file it could take."""
    tried = {(name, bounds): version for name, bounds, version in _CANDIDATE.findall(said)}
    taken = {one.name: one.version for one in made.packages if one.version}
    refused: dict[str, set[Version]] = {}
    for key in _INCOMPATIBLE.findall(said):
        with contextlib.suppress(KeyError, InvalidVersion):
            if (version := Version(tried[key])) > taken[canonicalize_name(key[0])]:
                refused.setdefault(key[0], set()).add(version)
    return refused


def _passed_over(made: Pylock, said: str, run: _Run) -> dict[str, str]:
    """Project -> the newest release that the target holds down for want of a wheel.

    uv's log tells which releases it refused, and uv, asked for those alone, why: no wheel, or another Python.
    """
    refused = _refused(made, said)
    suspects = [one for one in made.packages if one.name in refused]

    def newest(package: Package) -> str | None:
        line = f"{package.name}>{package.version}"
        alone = replace(run.requirements, asked=(Asked(line, "", Requirement(line)),), constraints=(), no_deps=True)
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            # what it has just read is in its cache
            done = replace(run, requirements=alone, offline=True)(Path(folder), _Rounds())
        flat = _flat(_words(done.stderr))
        without = {
            version
            for name, bounds in _NO_WHEEL.findall(flat)
            for version in refused[package.name]
            if name == package.name and SpecifierSet(bounds.rstrip(", ")).contains(version, prereleases=True)
        }
        return str(max(without)) if without else None

    if not suspects:
        return {}
    with ThreadPoolExecutor(4) as pool:
        found = zip(suspects, pool.map(newest, suspects), strict=True)
    return {package.name: version for package, version in found if version}


def _files(name: str, run: _Run) -> list[IndexFile]:
    """What an index has of a project; nothing where it cannot be asked."""
    from offlinepack import fetch, indexes

    try:
        with fetch.open_client(run.indexes, retries=1, timeout=run.timeout, offline=run.offline) as client:
            return indexes.project_files(name, run.indexes, client)
    except OfflinepackError:
        return []


# ------------------------------------------------------------------------------------------------- failures


def _learn(said: str, run: _Run, rounds: _Rounds) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    said = _words(said)
    flat = _flat(said)
    if findings := _about_index(flat, said, run):
        rounds.kinds.add(FetchError)
        rounds.findings += findings
        return False
    if (
        sources := {
            canonicalize_name(name)
            for name in _FORBIDDEN.findall(flat)
            if run.requirements.allows_source(canonicalize_name(name)) or _is_direct(name, run)
        }
        - rounds.allowed
    ):
        rounds.allowed |= sources
        return True
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
    pins = {canonicalize_name(name): pin for name, pin in _NO_VERSION.findall(flat)}
    absent = {**dict.fromkeys(unknown, ""), **pins}
    if any(_is_frozen(name, run) for name in absent):
        rounds.findings += _not_on_an_index(run)
        rounds.kinds.add(SourceError)
        return False
    if unknown:
        rounds.findings += [_unknown(name, flat, run) for name in sorted(unknown)]
        rounds.kinds.add(FetchError if run.offline else ResolutionError)
        rounds.excluded |= unknown
        return True
    if set(pins) - rounds.excluded:
        rounds.findings += [_no_version(name, pins[name], flat, run) for name in sorted(set(pins) - rounds.excluded)]
        rounds.kinds.add(ResolutionError)
        rounds.excluded |= set(pins)
        return True
    pythons = {canonicalize_name(name): wanted for name, _, wanted in _NEEDS_PYTHON.findall(flat)}
    if set(pythons) - rounds.excluded:
        for name in sorted(set(pythons) - rounds.excluded):
            rounds.findings.append(_wrong_python(name, pythons[name].rstrip(","), flat, run))
        rounds.kinds.add(SelectionError)
        rounds.excluded |= set(pythons)
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


def _is_direct(name: str, run: _Run) -> bool:
    return any(one.url for one in run.requirements.asked if one.name in (None, canonicalize_name(name)))


def _words(said: str) -> str:
    """What uv says to people, without its log."""
    return "\n".join(line for line in said.splitlines() if not line.startswith(("TRACE ", "DEBUG ")))


def _flat(said: str) -> str:
    """On one line, and without the markers that uv writes behind names: numpy{python_full_version >= '3.12'}."""
    return re.sub(r"\{[^{}]*\}", "", re.sub(r"\s+", " ", said))


def _log(said: str) -> str:
    """The end of uv's words, without what no reader needs."""
    kept = [line for line in said.splitlines() if line.strip() and not line.startswith(("warning:", "hint: Wheels"))]
    return without_secrets("\n".join(kept[-20:]))


def _about_index(flat: str, said: str, run: _Run) -> list[Finding]:
    """What is wrong with the way to an index; our own client asks again: it knows where it looked for a password."""
    if found := re.search(r"Failed to read `--find-links` (?:directory|URL|file): (\S+)", flat):
        return [
            error(
                "find-links-unreadable",
                without_secrets(found[1]),
                "{subject}, given with --find-links, cannot be read.",
                "Correct the path or the address.",
                log=_log(said),
            )
        ]
    addresses = re.findall(r"(?:Failed to (?:fetch|download)[^`:]*[:`]? ?`?|for `|for url \()(https?://[^\s`)]+)", flat)
    hard = bool(addresses and re.search(r"Failed to (fetch|download)|Unsupported `Content-Type`|for url", flat))
    if not hard and not re.search(r"could not be queried|returned a 40\d|no versions of", flat):
        return []
    names = [canonicalize_name(one) for one in _UNKNOWN.findall(flat)]
    names += [canonicalize_name(one) for one in re.findall(rf"no versions of ({_NAME})", flat)]
    names += [canonicalize_name(one.rstrip("/").rpartition("/")[2]) for one in addresses if one.endswith("/")]
    if not run.offline:
        from offlinepack import fetch, indexes

        try:
            with fetch.open_client(run.indexes, retries=0, timeout=run.timeout) as client:
                indexes.check(dict.fromkeys(names), run.indexes, client)
        except FetchError as failure:
            return list(failure.findings)
    if not hard:
        return []
    return [
        error(
            "index-broken",
            without_secrets(addresses[0]),
            "{subject} could not be read.",
            "Try again later, or check the address of the index.",
            log=_log(said),
        )
    ]


def _about_build(flat: str, said: str) -> Finding | None:
    """Sources whose metadata could not be had: a build that failed, an address or a path with nothing behind it."""
    if found := re.search(r"Distribution not found at: (\S+)", flat):
        return error(
            "nothing-there",
            without_secrets(found[1]),
            "There is nothing at {subject}.",
            "Correct the path or the address.",
        )
    found = re.search(r"Failed to (?:download and build|build|prepare|get metadata for|download) `([^`]+)`", flat)
    if not found:
        return None
    if other := re.search(r"metadata name `([^`]+)` does not match given name `([^`]+)`", flat):
        return error(
            "other-name",
            without_secrets(found[1]),
            "{subject}: the project there is called {name}, not {given}.",
            "Ask for it under its own name.",
            name=other[1],
            given=other[2],
        )
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
    mine = [_place(one) for one in run.requirements.asked if one.name == name]
    if mine:
        return mine
    return sorted(
        {
            f"{by}{versions}".strip(", ")
            for by, versions, its, _ in _NEEDS.findall(flat)
            if canonicalize_name(its) == name
        }
    )


def _place(one: Asked) -> str:
    return one.origin if one.shown == one.name else f"{one.origin} ({one.shown})"


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


def _is_frozen(name: str, run: _Run) -> bool:
    return any(one.frozen for one in (*run.requirements.asked, *run.requirements.constraints) if one.name == name)


def _not_on_an_index(run: _Run) -> list[Finding]:
    """All that stands in a frozen environment and on no index; what merely has no file for the target is not meant."""
    lines = tuple(one for one in (*run.requirements.asked, *run.requirements.constraints) if one.frozen)
    alone = replace(run, requirements=replace(run.requirements, asked=lines, constraints=(), no_deps=True))
    rounds, absent = _Rounds(), set[str]()
    for _ in range(MOST_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            done = alone(Path(folder), rounds)
        flat = _flat(_words(done.stderr))
        missing = {*_UNKNOWN.findall(flat), *(name for name, _ in _NO_VERSION.findall(flat))}
        others = {found[0] for one in (_NO_WHEEL, _NEEDS_PYTHON) for found in one.findall(flat)}
        if done.returncode == 0 or not (missing | others) - rounds.excluded:
            break
        absent |= missing
        rounds.excluded |= missing | others
    return [
        error(
            "not-on-an-index",
            one.name,
            "{line} is installed in the environment, and no index has it.",
            "Name what has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
            line=one.shown,
        )
        for one in lines
        if one.name in absent
    ]


def _no_version(name: str, pin: str, flat: str, run: _Run) -> Finding:
    there = sorted({one.version for one in _files(name, run) if one.version and not one.yanked}, reverse=True)
    return error(
        "no-such-version",
        name,
        "No index has {subject}{pin}, asked for by {by}; the newest that there are: {versions}.",
        "Ask for a version that exists.",
        pin=pin,
        by=_wanted_by(name, flat, run) or ["?"],
        versions=[str(one) for one in there[:5]] or "-",
    )


def _gap(name: str, flat: str, said: str, run: _Run) -> Finding:
    """A project of which no version that may be taken has a file for the target: why, and what there is."""
    by = _wanted_by(name, flat, run) or ["?"]
    facts: dict[str, Any] = {"by": by, "target": run.where}
    versions, nearest = _offered(name, run)
    if nearest and run.target:
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


def _wrong_python(name: str, wanted: str, flat: str, run: _Run) -> Finding:
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=_wanted_by(name, flat, run) or ["?"],
        wanted=wanted,
        target=run.where,
        python=run.target.environment["python_full_version"] if run.target else "",
    )


def _offered(name: str, run: _Run) -> tuple[list[str], str | None]:
    """The newest versions of a project with a wheel for the target, and else the nearest wheel there is."""
    if run.target is None:
        return [], None
    wheels = [(one.version, one.filename) for one in _files(name, run) if one.is_wheel and one.version]
    fitting = {version for version, filename in wheels if run.target.accepts(filename) is not None}
    final = [one for one in wheels if not one[0].is_prerelease] or wheels
    latest = [filename for version, filename in final if version == max(final)[0]]
    return [str(one) for one in sorted(fitting, reverse=True)[:5]], run.target.nearest(latest)


def _conflict(flat: str, said: str, run: _Run) -> Finding:
    """Versions that exclude each other: who asked for what, as far as uv's words tell."""
    words = set(re.findall(_NAME, flat.lower()))
    mine = [
        f"{one.shown} ({one.origin})"
        for one in (*run.requirements.asked, *run.requirements.constraints)
        if one.name in words
    ]
    pairs = {
        (f"{by}{versions.rstrip(', ')}", f"{its}{wanted.rstrip(', ')}")
        for by, versions, its, wanted in _NEEDS.findall(flat)
    }
    needs = [text("{by} needs {wanted}", by=by, wanted=wanted) for by, wanted in sorted(pairs)]
    if "No solution found" not in flat:
        return error(
            "resolver-failed",
            run.where,
            "uv found no versions for {subject}, for a reason that offlinepack does not know.",
            "The words below are uv's. --resolver pip may say more.",
            log=_log(said),
        )
    if run.requirements.uploaded_prior_to and "exclude-newer" in flat:
        return error(
            "all-too-new",
            run.where,
            "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
            "Choose a later date. An index that gives no upload times cannot be used with a date.",
            log=_log(said),
            date=run.requirements.uploaded_prior_to,
            asked=mine,
        )
    if needs:
        return error(
            "conflict",
            run.where,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=_log(said),
            asked=mine,
            needs=needs,
        )
    return error(
        "no-version",
        run.where,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=_log(said),
        asked=mine,
    )
