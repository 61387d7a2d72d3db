"""A lock by pip's resolver (pip-tools' pip-compile) with pip seeing the target: for any target at all.

Wheels first: pip is run with --only-binary :all:, and again with the sources of those projects that have no solution
without. Of several indexes the first that has a project wins. A failure comes as facts from inside pip; what the
indexes have of the projects in it tells what it is: nothing of that name, no file for the target, another Python, or
requirements that cannot stand together. pip's own words go into the log.
"""

from __future__ import annotations

import re
import shlex
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageSdist, PackageVcs, PackageWheel, Pylock
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from offlinepack import fetch, pip_as_target
from offlinepack.errors import (
    BuildError,
    FetchError,
    Finding,
    IntegrityError,
    OfflinepackError,
    ResolutionError,
    SelectionError,
    SourceError,
    error,
    warning,
)
from offlinepack.indexes import Indexes, IndexFile, check, find_project, owner_of
from offlinepack.lockers.closure import hardest, offered, shortened
from offlinepack.lockers.means import Means
from offlinepack.pip_as_target import Answer, Rules
from offlinepack.sources import Asked, Requirements, without_secrets
from offlinepack.targets import UnknownMarker

if TYPE_CHECKING:
    from offlinepack.targets import Target

MOST_ROUNDS = 60
"""after so many unknown projects and gaps the rest is left for the next run"""
_PYTHON = "<Python from Requires-Python>"
"""what pip calls the Python that a release wants"""
_NETWORK = {
    "NetworkConnectionError",
    "ConnectionError",
    "HTTPError",
    "RequestException",
    "Timeout",
    "ConnectionFailedError",
}
_BUILD = {"InstallationSubprocessError", "MetadataGenerationFailed", "BuildBackendException", "BackendUnavailable"}


def lock(
    requirements: Requirements,
    target: Target,
    indexes: Indexes,
    means: Means,
) -> Pylock:
    """A lock for one target; all unknown projects and all gaps at once, else the first conflict.

    `means.python` is not heeded: pip reads the metadata of sources with the interpreter that it runs in.
    """
    rounds = _Rounds()
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        here, ways = Path(folder), indexes.for_target(target.evaluate)
        run = _Run(requirements, target, ways, here, means)
        for _ in range(MOST_ROUNDS):
            begun = time.monotonic()
            answer = run(rounds)
            rounds.allowed |= set(answer.told.get("either", ()))
            if lacks := answer.told.get("lacks"):
                rounds.above[lacks[0]] = lacks[1]
                continue
            if "pins" in answer.told and not rounds.findings:
                return _pylock(_least_sources(answer, run, rounds, time.monotonic() - begun).told["pins"])
            if "pins" in answer.told or not _learn(answer, run, rounds):
                if not rounds.eager or rounds.kinds != {BuildError}:
                    break
                rounds = _Rounds(eager=False)  # where a source cannot be read, older releases may do without it
    findings = sorted(rounds.findings, key=lambda one: (one.code, one.subject))
    # what has no solution at all outweighs what merely has no file
    for kind in (IntegrityError, SourceError, FetchError, BuildError, ResolutionError, SelectionError):
        if kind in rounds.kinds:
            raise kind(*findings)
    raise ResolutionError(*findings)


_Wrong = tuple[type[OfflinepackError], Finding]


@dataclass
class _Rounds:
    """What is passed from one run of pip to the next."""

    allowed: set[str] = field(default_factory=set)
    """projects whose sources may be used, beyond those of --no-binary"""
    excluded: set[str] = field(default_factory=set)
    """projects that were found wrong; the next run does without them and finds the next"""
    eager: bool = True
    """whether a project without any wheel may come as its source at once"""
    above: dict[str, str] = field(default_factory=dict)
    """project -> the version that lacks an extra which newer ones have"""
    findings: list[Finding] = field(default_factory=list)
    kinds: set[type[OfflinepackError]] = field(default_factory=set)

    def add(self, kind: type[OfflinepackError], *findings: Finding) -> bool:
        """Keep what went wrong; False, which is: no further round."""
        self.kinds.add(kind)
        self.findings += findings
        return False


@dataclass(frozen=True)
class _Run:
    """One `pip-compile` and all that does not change between two of them."""

    requirements: Requirements
    target: Target
    indexes: Indexes
    folder: Path
    means: Means

    def __call__(self, rounds: _Rounds, timeout: float | None = None) -> Answer:
        wanted = self.requirements
        lines = [one.line for one in wanted.asked if one.name not in rounds.excluded]
        (self.folder / "requirements.in").write_text("".join(f"{one}\n" for one in lines), "utf-8")
        bounds = [one.line for one in wanted.constraints]
        bounds += [f"{name}>{version}" for name, version in sorted(rounds.above.items())]
        (self.folder / "constraints.txt").write_text("".join(f"{one}\n" for one in bounds), "utf-8")
        pip = [*_formats(wanted), "--prefer-binary", "--cache-dir", str(self.means.cache("pip"))]
        files = ["--constraint", "constraints.txt", *(["--pre"] if wanted.pre else [])]
        if wanted.no_deps:  # which pip-compile does not know
            command = ["pip", "install", "--dry-run", "--ignore-installed", "--break-system-packages", "--quiet"]
            command += ["--no-deps", *pip, *files, "-r", "requirements.in"]
        else:
            command = ["pip-compile", "--quiet", "--no-config", "--allow-unsafe", "--strip-extras", "--no-annotate"]
            command += ["--no-header", "--no-emit-options", "--rebuild", "--output-file", "pins.txt"]
            command += ["--cache-dir", str(self.means.cache("pip")), "--pip-args", shlex.join(pip), *files]
            command.append("requirements.in")
        (self.folder / "pins.txt").unlink(missing_ok=True)  # else pip-compile prefers what stands there
        arguments, environment = self.indexes.pip_arguments()
        environment.update(PIP_RETRIES=str(self.means.retries), PIP_DEFAULT_TIMEOUT=f"{self.means.timeout:g}")
        rules = self.rules(rounds)
        return pip_as_target.run(
            self.target, [*command, *arguments], environment=environment, cwd=self.folder, rules=rules, timeout=timeout
        )

    def rules(self, rounds: _Rounds) -> Rules:
        """What pip's options cannot say."""
        ways = self.indexes
        url_of = {one.name: one.url for one in reversed(ways.indexes) if one.name}
        return Rules(
            indexes=() if ways.no_index else tuple(one.url for one in ways.indexes if not one.explicit),
            sources={} if ways.no_index else {name: url_of[index] for name, index in ways.sources.items()},
            missing={one.url: one.missing for one in ways.indexes if one.missing},
            either=tuple(sorted(rounds.allowed)),
            # a project without any wheel is no reason to go back to older releases of what needs it
            eager=rounds.eager and ":all:" not in (*self.requirements.only_binary, *self.requirements.no_binary),
            builds=self.means.builds(self.target),
            # once there is no solution only the other gaps are looked for
            patience=10.0 if rounds.findings else 60.0,
            wheels=self.requirements.only_binary,
            excluded=tuple(sorted(rounds.excluded)),
            before=self.requirements.uploaded_prior_to,
            offline=self.means.offline,
            cache=self.means.cache("read"),
        )

    def files(self, name: str) -> list[IndexFile]:
        """What the indexes have of a project; FetchError where one cannot be asked."""
        means = self.means
        with fetch.open_client(
            self.indexes, retries=means.retries, timeout=means.timeout, offline=means.offline
        ) as client:
            found = find_project(name, self.indexes, client)
        return list(found.files) if found else []


def _formats(wanted: Requirements) -> list[str]:
    """Wheels first: sources only where --no-binary or an earlier round says so. pip excepts addresses and paths."""
    if ":all:" in wanted.no_binary:
        return ["--no-binary", ":all:", *(part for name in wanted.only_binary for part in ("--only-binary", name))]
    return ["--only-binary", ":all:", *(part for name in wanted.no_binary for part in ("--no-binary", name))]


def _least_sources(answer: Answer, run: _Run, rounds: _Rounds, seconds: float) -> Answer:
    """Of several projects whose sources were allowed on the way, only those that the solution cannot do without."""
    if len(rounds.allowed) > 1:
        used = {pin["name"] for pin in answer.told["pins"] if not any(_is_wheel(one) for one in pin["files"])}
        for name in sorted(rounds.allowed & used):
            if not any(one.is_wheel and run.target.accepts(one.filename) is not None for one in run.files(name)):
                continue
            # a way that is so much longer leads back to releases that nobody wants
            other = run(replace(rounds, allowed=rounds.allowed - {name}), timeout=max(15.0, 2 * seconds))
            if "pins" in other.told:
                rounds.allowed.discard(name)
                answer = other
    return answer


def _is_wheel(file: Mapping[str, Any]) -> bool:
    return str(file["name"]).endswith(".whl")


# ------------------------------------------------------------------------------------------------- the lock


def _pylock(pins: Iterable[Mapping[str, Any]]) -> Pylock:
    return Pylock(lock_version=Version("1.0"), created_by="offlinepack", packages=[_package(one) for one in pins])


def _package(pin: Mapping[str, Any]) -> Package:
    try:
        python = SpecifierSet(pin["python"]) if pin["python"] else None
    except InvalidSpecifier:
        python = None
    facts: dict[str, Any] = {"name": canonicalize_name(pin["name"]), "requires_python": python}
    if pin["direct"]:
        return Package(**facts, version=Version(pin["version"]), **_direct(pin["direct"]))
    remarks: dict[str, Any] = {}
    withdrawn = {one["yanked"] for one in pin["files"]} - {None}
    if withdrawn and all(one["yanked"] is not None for one in pin["files"]):
        remarks["yanked"] = max(withdrawn)
    if pin["newer"]:
        remarks["newer-without-wheel"] = pin["newer"]
    if pin["held"]:
        remarks["newer-needs"] = pin["held"]
    wheels = [PackageWheel(**_file(one)) for one in pin["files"] if _is_wheel(one)]
    sdists = sorted((one for one in pin["files"] if not _is_wheel(one)), key=lambda one: ".tar.gz" not in one["name"])
    return Package(
        **facts,
        version=Version(pin["version"]),
        wheels=wheels or None,
        sdist=PackageSdist(**_file(sdists[0])) if sdists else None,
        tool={"offlinepack": remarks} if remarks else None,
    )


def _file(one: Mapping[str, Any]) -> dict[str, Any]:
    place = {"path": one["path"]} if one["path"] else {"url": one["url"]}
    time = re.sub(r"\.(\d+)", lambda m: f".{m[1][:6]:0<6}", (one["uploaded"] or "").replace("Z", "+00:00"))
    hashes = {name: digest.lower() for name, digest in one["hashes"].items()}
    uploaded = datetime.fromisoformat(time) if time else None
    return {**place, "name": one["name"], "hashes": hashes, "size": one["size"], "upload_time": uploaded}


def _direct(direct: Mapping[str, Any]) -> dict[str, Any]:
    """PEP 610's words, as pip has them, in those of PEP 751."""
    below = direct.get("subdirectory")
    path = fetch.local_path(direct["url"])
    if vcs := direct.get("vcs_info"):
        return {
            "vcs": PackageVcs(
                type=vcs["vcs"],
                url=direct["url"],
                requested_revision=vcs.get("requested_revision"),
                commit_id=vcs["commit_id"],
                subdirectory=below,
            )
        }
    if "dir_info" in direct:
        return {"directory": PackageDirectory(path=str(path), subdirectory=below)}
    hashes = direct["archive_info"]["hashes"]
    place: dict[str, Any] = {"path": str(path)} if path else {"url": direct["url"]}
    return {"archive": PackageArchive(**place, hashes=hashes, subdirectory=below)}


# ------------------------------------------------------------------------------------------------- failures


def _learn(answer: Answer, run: _Run, rounds: _Rounds) -> bool:
    """Turn one failure into findings or into an allowance; whether another round can find more."""
    told = answer.told
    raised, why = set(told.get("raised", ())), told.get("why", "")
    if "marker" in told:
        unknown = {"platform_release", "platform_version", "implementation_version"} - set(run.target.environment)
        raise UnknownMarker(told["marker"], sorted(one for one in unknown if one in told["marker"]), run.target.name)
    if "index" in told or raised & _NETWORK:
        return rounds.add(FetchError, *_about_index(told, answer, run))
    if "unread" in told:
        filename = told["unread"].rpartition("/")[2].removesuffix(".metadata")
        name = canonicalize_name(owner_of(filename) or filename)
        rounds.add(FetchError, _not_read(name, _asked_by(name, (), run)))
        again = name not in rounds.excluded and any(one.name == name for one in run.requirements.asked)
        rounds.excluded.add(name)
        return again
    if "barren" in told:
        facts = {"specifier": "", "constraint": "", "wanted": "", "files": 0, "why": ""}
        first = not rounds.findings
        again = _about_causes(
            [{"project": name, "by": by, **facts} for name, asking in told["barren"].items() for by in asking or [""]],
            answer,
            run,
            rounds,
        )
        if first and "after" in told:
            rounds.findings.append(_search_ended(sorted(told["barren"]), told["after"], run))
        return again
    if raised & {"HashErrors", "HashError", "HashMismatch"}:
        return rounds.add(IntegrityError, _other_hash(answer, run))
    if "UnsupportedWheel" in raised:
        return rounds.add(SelectionError, _unfit(why, run))
    if raised & {"DistributionNotFound", "UnsupportedPythonVersion"} and told.get("causes"):
        return _about_causes(told["causes"], answer, run, rounds)
    return rounds.add(*_about_source(answer, raised, why, run))


def _about_causes(causes: Iterable[Mapping[str, Any]], answer: Answer, run: _Run, rounds: _Rounds) -> bool:
    """Requirements that pip could not bring together: what the indexes have of their projects tells why."""
    causes = list(causes)
    if failed := next((one["why"] for one in causes if one["why"]), ""):
        return rounds.add(*_about_source(answer, set(), failed, run))
    found: dict[type[OfflinepackError], list[Finding]] = {}
    names: set[str] = set()
    allowed: set[str] = set()
    for name in sorted({one["project"] for one in causes} - rounds.excluded):
        mine = [one for one in causes if one["project"] == name]
        if name == _PYTHON:
            for one in mine:
                needing = canonicalize_name(one["by"].partition(" ")[0].partition("[")[0])
                found.setdefault(SelectionError, []).append(_wrong_python(needing, one["specifier"], causes, run))
                names.add(needing)
            continue
        if run.means.offline and not run.indexes.no_index:  # the pages that were kept are pip's, and may be old
            if not all(one["files"] for one in mine):
                found.setdefault(FetchError, []).append(_not_read(name, _asked_by(name, causes, run)))
                names.add(name)
            continue
        try:
            every = run.files(name)
        except FetchError as failure:
            return rounds.add(FetchError, *failure.findings)
        together, ways = _alternatives(mine)
        files = _admitted(every, together, run)
        if source := files.needs_source(run, rounds):
            allowed.add(source)
            continue
        bad = files.wrong(name, together, _asked_by(name, mine, run), answer, run)
        if bad := bad or _no_way(name, ways, every, answer, run):
            found.setdefault(bad[0], []).append(bad[1])
            names.add(name)
    if allowed:
        rounds.allowed |= allowed
        return True
    if not found:
        return rounds.add(ResolutionError, _conflict(causes, answer, run))
    if gaps := found.get(SelectionError):
        found[SelectionError] = hardest(gaps)
        names -= {one.subject for one in gaps if one not in found[SelectionError]}
    for kind, findings in found.items():
        rounds.add(kind, *findings)
    rounds.excluded |= names
    return True


_Causes = list[Mapping[str, Any]]


def _alternatives(causes: _Causes) -> tuple[_Causes, list[_Causes]]:
    """What all hold together; and of each project of which several releases ask, what one or the other asks."""
    by: dict[str, _Causes] = {}
    for one in causes:
        by.setdefault(re.split(r"[\[ ]", one["by"])[0], []).append(one)
    ways = [each for project, each in by.items() if project and len(each) > 1]
    return [one for one in causes if not any(one in each for each in ways)], ways


def _no_way(name: str, ways: list[_Causes], files: list[IndexFile], answer: Answer, run: _Run) -> _Wrong | None:
    """What is wrong with a project where each release that asks for it asks for what cannot be taken."""
    for each in ways:
        by = _asked_by(name, each, run)
        wrong = [_admitted(files, [one], run).wrong(name, [one], by, answer, run) for one in each]
        if None not in wrong:
            # that a file is missing says more than that one of many pins is of a release that never was
            return max(filter(None, wrong), key=lambda one: one[0] is SelectionError)
    return None


@dataclass(frozen=True)
class _Admitted:
    """What the indexes have of a project, and of that what all who asked for it would take."""

    all: tuple[IndexFile, ...]
    wanted: tuple[IndexFile, ...]
    """of a version that every specifier admits"""
    early: tuple[IndexFile, ...]
    """of those: uploaded early enough"""
    here: tuple[IndexFile, ...]
    """of those: for the target's Python, by what the index says"""

    def needs_source(self, run: _Run, rounds: _Rounds) -> str | None:
        """The project's name, where only its sources can help, and nothing forbids them."""
        sdists = [one for one in self.here if not one.is_wheel]
        if not sdists or self.fitting(run) or not run.requirements.allows_source(name := sdists[0].project):
            return None
        if not run.means.builds(run.target) and any(one.is_compiled(run.target.facts.os) for one in self.all):
            return None
        return name if name not in rounds.allowed and name not in run.requirements.no_binary else None

    def fitting(self, run: _Run) -> list[IndexFile]:
        """The wheels that may be taken."""
        return [
            one
            for one in self.here
            if one.is_wheel
            and run.requirements.allows_wheel(one.project)
            and run.target.accepts(one.filename) is not None
        ]

    def wrong(self, name: str, causes: _Causes, by: list[str], answer: Answer, run: _Run) -> _Wrong | None:
        """What is wrong with this project by itself; None: a version could be taken, were it not for others."""
        lines = (*run.requirements.asked, *run.requirements.constraints)
        frozen = [one for one in lines if one.name == name and one.frozen]
        versions = sorted({one.version for one in self.all if one.version and not one.yanked}, reverse=True)
        specifiers = [one["specifier"] for one in causes]
        absent = [one for one in specifiers if not any(SpecifierSet(one).filter(versions, prereleases=True))]
        if frozen and (not self.all or absent):
            return SourceError, _not_on_an_index(frozen[0])
        if not self.all:
            return ResolutionError, _unknown(name, by)
        if not self.wanted and absent:
            return ResolutionError, _no_such_version(name, absent[0], [str(one) for one in versions[:5]], by)
        if not self.wanted or self.fitting(run):
            return None
        if not self.early:
            return ResolutionError, _too_new(by, answer, run)
        if not self.here:
            newest = max(self.early, key=lambda one: one.version or Version("0"))
            return SelectionError, _wrong_python(name, newest.requires_python or "?", (), run, by)
        return SelectionError, _gap(name, by, self, answer, run)


def _admitted(files: Iterable[IndexFile], causes: Iterable[Mapping[str, Any]], run: _Run) -> _Admitted:
    specifier = SpecifierSet(",".join(part for one in causes for part in (one["specifier"], one["constraint"]) if part))
    every = tuple(one for one in files if one.version is not None)
    pinned = any(one.operator in ("==", "===") and "*" not in one.version for one in specifier)
    live = [one for one in every if pinned or not one.yanked]
    versions = set(
        specifier.filter({one.version for one in live if one.version}, prereleases=run.requirements.pre or None)
    )
    wanted = tuple(one for one in live if one.version in versions)
    before = run.requirements.uploaded_prior_to
    limit = datetime.fromisoformat(before.replace("Z", "+00:00")) if before else None
    early = tuple(
        one for one in wanted if limit is None or one.index is None or (one.uploaded and one.uploaded < limit)
    )
    here = tuple(one for one in early if one.admits(run.target.python_full))
    return _Admitted(every, wanted, early, here)


def _asked_by(name: str, causes: Iterable[Mapping[str, Any]], run: _Run) -> list[str]:
    """Who asked for a project: lines of the user with their place, else the releases that need it."""
    mine = [one for one in run.requirements.asked if one.name == name]
    if mine:
        return [one.origin if one.shown == one.name else f"{one.origin} ({one.shown})" for one in mine]
    needing = {one["by"].replace(" ", "==") for one in causes if one["by"] and one["project"] == name}
    return shortened(needing) or ["?"]


def _about_index(told: Mapping[str, Any], answer: Answer, run: _Run) -> list[Finding]:
    """What is wrong with the way to an index; our own client asks again: it knows where it looked for a password."""
    url = told.get("index", {}).get("url", "")
    try:
        with fetch.open_client(run.indexes, retries=0, timeout=run.means.timeout) as client:
            check([canonicalize_name(url.rstrip("/").rpartition("/")[2])] if url else [], run.indexes, client)
            for link in run.indexes.find_links:
                if fetch.local_path(link) is None:
                    client.page(link)
    except FetchError as failure:
        return list(failure.findings)
    return [
        error(
            "index-broken",
            without_secrets(url or run.target.name),
            "{subject} could not be read.",
            "Try again later, or check the address of the index.",
            log=answer.end() or without_secrets(told.get("index", {}).get("why", "")),
        )
    ]


def _about_source(answer: Answer, raised: set[str], why: str, run: _Run) -> _Wrong:
    """Sources and addresses whose metadata could not be had; else what nobody foresaw."""
    subject = _direct_in(why + answer.stderr, run)
    if "FileNotFoundError" in raised or "404 Client Error" in why or "does not exist" in answer.stderr:
        return BuildError, error(
            "nothing-there",
            subject,
            "There is nothing at {subject}.",
            "Correct the path or the address.",
            log=answer.end(3),
        )
    if re.search(r"\b(git|hg|svn|bzr) (clone|fetch|checkout|rev-parse|ls-remote|submodule)\b", why + answer.stderr):
        return BuildError, error(
            "no-checkout",
            subject,
            "{subject} could not be fetched with git.",
            "Check the address, the branch, tag or commit, and your access to it.",
            log=answer.end(),
        )
    if other := re.search(
        r"(?i)inconsistent name: expected '([^']+)', but metadata has '([^']+)'", why + answer.stderr
    ):
        return BuildError, error(
            "other-name",
            subject,
            "{subject}: the project there is called {name}, not {given}.",
            "Ask for it under its own name.",
            name=other[2],
            given=other[1],
        )
    if raised & _BUILD or "subprocess-exited-with-error" in answer.stderr:
        return BuildError, error(
            "metadata-build-failed",
            subject,
            "{subject} has to be built to know what it needs, and that failed.",
            "The words below say what its build misses. A version with a wheel needs no build.",
            log=answer.end(),
        )
    return ResolutionError, error(
        "resolver-failed",
        run.target.name,
        "pip found no versions for {subject}, for a reason that offlinepack does not know.",
        "The words below are pip's. --resolver uv may say more.",
        log=answer.end(),
    )


def _direct_in(words: str, run: _Run) -> str:
    """What the words are about: a line that was asked for directly, else a name that they quote."""
    quoted = re.search(r"Failed to (?:build|prepare) '([^']+)'|Could not install requirement (\S+)", words)
    name = canonicalize_name((quoted[1] or quoted[2]).partition("==")[0]) if quoted else ""
    direct = [one for one in run.requirements.asked if one.url]
    mine = [one for one in direct if (one.name or "") == name] or [one for one in direct if str(one.url) in words]
    if not mine and not name and len(direct) == 1:
        mine = direct
    return mine[0].shown if mine else name or run.target.name


def _unfit(why: str, run: _Run) -> Finding:
    """An address of a wheel for another machine."""
    filename = why.partition(" ")[0]
    return error(
        "no-wheel",
        next((one.name for one in run.requirements.asked if one.name and filename in (one.url or "")), filename),
        "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
        "Choose a target that it fits, or another project.",
        by=[one.origin for one in run.requirements.asked if filename in (one.url or "")],
        target=run.target.name,
        nearest=filename,
        why=run.target.why_not(filename) or "",
    )


def _other_hash(answer: Answer, run: _Run) -> Finding:
    return error(
        "hash-mismatch",
        run.target.name,
        "For {subject} a file has another hash than the one that is asked for or that its index gives.",
        "If the file is right, correct the hash; if it was changed on its way, find out by whom.",
        log=answer.end(),
    )


def _search_ended(names: list[str], seconds: float, run: _Run) -> Finding:
    return warning(
        "search-ended",
        run.target.name,
        "For {subject} older releases that do without {names} were looked for during {seconds} seconds and then no "
        "more: there may be some.",
        "Name the versions that you would take, or have the sources of {names} built.",
        names=names,
        seconds=f"{seconds:.0f}",
    )


def _not_read(name: str, by: list[str]) -> Finding:
    return error(
        "not-in-the-store",
        name,
        "{subject}, asked for by {by}, has not been read before, and --offline forbids to ask an index.",
        "Run once without --offline.",
        by=by,
    )


def _unknown(name: str, by: list[str]) -> Finding:
    return error(
        "unknown-project",
        name,
        "No index has a project {subject}, asked for by {by}.",
        "Look for a spelling mistake, or name the index that has it with --extra-index-url.",
        by=by,
    )


def _not_on_an_index(one: Asked) -> Finding:
    return error(
        "not-on-an-index",
        one.name,
        "{line} is installed in the environment, and no index has it.",
        "Name the index or folder that has it (--extra-index-url, --find-links), or leave it out: --exclude {subject}.",
        line=one.shown,
    )


def _no_such_version(name: str, specifier: str, versions: list[str], by: list[str]) -> Finding:
    return error(
        "no-such-version",
        name,
        "No index has {subject}{pin}, asked for by {by}; the newest that there are: {versions}.",
        "Ask for a version that exists.",
        pin=specifier,
        by=by,
        versions=versions or "-",
    )


def _too_new(by: list[str], answer: Answer, run: _Run) -> Finding:
    return error(
        "all-too-new",
        run.target.name,
        "For {subject} nothing was uploaded early enough (--uploaded-prior-to {date}) that satisfies {asked}.",
        "Choose a later date. An index that gives no upload times cannot be used with a date.",
        log=answer.end(),
        date=run.requirements.uploaded_prior_to,
        asked=by,
    )


def _wrong_python(
    name: str, wanted: str, causes: Iterable[Mapping[str, Any]], run: _Run, by: list[str] | None = None
) -> Finding:
    return error(
        "wrong-python-for-version",
        name,
        "{subject}, asked for by {by}, wants Python {wanted}; {target} has {python}.",
        "Ask for a version of {subject} that admits this Python, or drop the target.",
        by=by or _asked_by(name, causes, run),
        wanted=wanted,
        target=run.target.name,
        python=run.target.environment["python_full_version"],
    )


def _gap(name: str, by: list[str], files: _Admitted, answer: Answer, run: _Run) -> Finding:
    """A project of which no version that may be taken has a file for the target: why, and what there is."""
    versions, nearest = offered(files.all, {one.version for one in files.wanted if one.version}, run.target)
    facts: dict[str, Any] = {"by": by, "target": run.target.name}
    if versions:
        return error(
            "no-wheel-of-version",
            name,
            "{subject}, asked for by {by}, has no wheel for {target} in a version that may be taken; "
            "the nearest versions that have one: {versions}.",
            "Ask for one of those, or choose another target.",
            versions=versions,
            **facts,
        )
    sourced = any(not one.is_wheel for one in files.here)
    forbidden = not run.requirements.allows_source(name)
    if nearest and not (sourced and forbidden):
        return error(
            "no-wheel",
            name,
            "{subject}, asked for by {by}, has no wheel for {target}; the nearest is {nearest}, which {why}.",
            "Have its source built: there, by --sdist include, or here, by the target's own Python (--build-python PY, "
            "--root DIR)."
            if sourced
            else "Choose a target that it fits, or another project.",
            nearest=nearest,
            why=run.target.why_not(nearest) or "",
            **facts,
        )
    if forbidden:
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
        log=answer.end(),
        **facts,
    )


def _conflict(causes: Iterable[Mapping[str, Any]], answer: Answer, run: _Run) -> Finding:
    """Versions that exclude each other: who asked for what."""
    causes = list(causes)
    needing = {one["by"]: re.split(r"[\[ ]", one["by"])[0] for one in causes if one["by"]}
    names = {one["project"] for one in causes} | {canonicalize_name(one) for one in needing.values()}
    lines: Iterable[Asked] = (*run.requirements.asked, *run.requirements.constraints)
    mine = [f"{one.shown} ({one.origin})" for one in lines if one.name in names]
    # the version only where another release of the same project wants something else
    shown = {by: name if list(needing.values()).count(name) == 1 else by for by, name in needing.items()}
    needs = sorted({f"{shown[one['by']]} needs {one['wanted']}" for one in causes if one["by"]})
    if needs:
        return error(
            "conflict",
            run.target.name,
            "For {subject} no versions satisfy all that was asked: {asked}, while {needs}.",
            "Loosen one of them; --no-deps packs what is asked and nothing else.",
            log=answer.end(),
            asked=mine,
            needs=needs,
        )
    return error(
        "no-version",
        run.target.name,
        "For {subject} there is no version that satisfies {asked}.",
        "Ask for a version that exists; --pre admits pre-releases.",
        log=answer.end(),
        asked=mine,
    )
