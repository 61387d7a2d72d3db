"""Resolve requirements with pip-compile, and convert the solution to a Pylock."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Package, PackageArchive, PackageDirectory, PackageSdist, PackageVcs, PackageWheel, Pylock
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from offlinepack.errors import BuildError, ResolutionError, error
from offlinepack.index.model import Indexes
from offlinepack.net.urls import get_local_path
from offlinepack.pip_shim.run import PipOutput
from offlinepack.requirements.model import Requirements
from offlinepack.resolve.backtracking import MAX_ROUNDS, BacktrackState, minimize_sdists
from offlinepack.resolve.context import ResolverContext
from offlinepack.resolve.pip.command import PipInvocation
from offlinepack.resolve.pip.errors import handle_pip_failure

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


def resolve_with_pip(requirements: Requirements, target: Target, indexes: Indexes, means: ResolverContext) -> Pylock:
    """Resolve for one target; raise one error with all unknown projects and missing files, otherwise the first
    conflict.

    `means.python` is ignored: pip reads the metadata of sdists with the interpreter that it runs in.
    """
    if requirements.overrides:
        raise ResolutionError(
            error(
                "overrides-need-uv",
                target.name,
                "For {subject} pip cannot replace dependencies: {overrides} of [tool.uv] override-dependencies.",
                "Use --resolver uv, or pack with a uv.lock.",
                overrides=[line.redacted_line for line in requirements.overrides],
            )
        )
    rounds = BacktrackState(excluded_projects=set(requirements.excluded_projects))
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        folder_path, ways = Path(folder), indexes.evaluate_sources(target.evaluate)
        run = PipInvocation(requirements, target, ways, folder_path, means)
        for _ in range(MAX_ROUNDS):
            begun = time.monotonic()
            answer = run(rounds)
            rounds.allow_sdist |= set(answer.facts.get("allow_sdist", ()))
            if missing_extra := answer.facts.get("missing_extra"):
                rounds.lower_bounds[missing_extra[0]] = missing_extra[1]
                continue
            if "pins" in answer.facts and not rounds.findings:
                return _make_pylock(_minimize_sdists(answer, run, rounds, time.monotonic() - begun).facts["pins"])
            if "pins" in answer.facts or not handle_pip_failure(answer, run, rounds):
                if not rounds.sdist_fallback or rounds.error_types != {BuildError}:
                    break
                rounds = BacktrackState(
                    sdist_fallback=False
                )  # where a source cannot be read, older releases may do without it
    raise rounds.make_error()


def _minimize_sdists(answer: PipOutput, run: PipInvocation, rounds: BacktrackState, seconds: float) -> PipOutput:
    """Keep, of several projects whose sdists were allowed, only those that the solution needs."""
    if len(rounds.allow_sdist) < 2:
        return answer
    used = {pin["name"] for pin in answer.facts["pins"] if not any(_is_wheel(file) for file in pin["files"])}
    names = [
        name
        for name in sorted(rounds.allow_sdist & used)
        if any(file.is_wheel and run.target.rank_wheel(file.filename) is not None for file in run.list_files(name))
    ]

    def attempt(state: BacktrackState) -> PipOutput | None:
        # a solution that takes so much longer uses old releases that nobody wants
        other = run(state, timeout=max(15.0, 2 * seconds))
        return other if "pins" in other.facts else None

    return minimize_sdists(answer, rounds, names, attempt)


def _is_wheel(file: Mapping[str, Any]) -> bool:
    return str(file["name"]).endswith(".whl")


def _make_pylock(pins: Iterable[Mapping[str, Any]]) -> Pylock:
    return Pylock(lock_version=Version("1.0"), created_by="offlinepack", packages=[_make_package(pin) for pin in pins])


def _make_package(pin: Mapping[str, Any]) -> Package:
    try:
        python = SpecifierSet(pin["python"]) if pin["python"] else None
    except InvalidSpecifier:
        python = None
    facts: dict[str, Any] = {"name": canonicalize_name(pin["name"]), "requires_python": python}
    if pin["direct"]:
        return Package(**facts, version=Version(pin["version"]), **_convert_direct_url(pin["direct"]))
    remarks: dict[str, Any] = {}
    withdrawn = {file["yanked"] for file in pin["files"]} - {None}
    if withdrawn and all(file["yanked"] is not None for file in pin["files"]):
        remarks["yanked"] = max(withdrawn)
    if pin["newer"]:
        remarks["newer-without-wheel"] = pin["newer"]
    if pin["held_back"]:
        remarks["newer-needs"] = pin["held_back"]
    wheels = [PackageWheel(**_make_file_fields(file)) for file in pin["files"] if _is_wheel(file)]
    sdists = sorted(
        (file for file in pin["files"] if not _is_wheel(file)), key=lambda file: ".tar.gz" not in file["name"]
    )
    return Package(
        **facts,
        version=Version(pin["version"]),
        wheels=wheels or None,
        sdist=PackageSdist(**_make_file_fields(sdists[0])) if sdists else None,
        tool={"offlinepack": remarks} if remarks else None,
    )


def _make_file_fields(file: Mapping[str, Any]) -> dict[str, Any]:
    place = {"path": file["path"]} if file["path"] else {"url": file["url"]}
    time = re.sub(r"\.(\d+)", lambda m: f".{m[1][:6]:0<6}", (file["uploaded"] or "").replace("Z", "+00:00"))
    hashes = {name: digest.lower() for name, digest in file["hashes"].items()}
    uploaded = datetime.fromisoformat(time) if time else None
    return {**place, "name": file["name"], "hashes": hashes, "size": file["size"], "upload_time": uploaded}


def _convert_direct_url(direct: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a direct URL of PEP 610, as pip writes it, to PEP 751."""
    subdirectory = direct.get("subdirectory")
    path = get_local_path(direct["url"])
    if vcs := direct.get("vcs_info"):
        return {
            "vcs": PackageVcs(
                type=vcs["vcs"],
                url=direct["url"],
                requested_revision=vcs.get("requested_revision"),
                commit_id=vcs["commit_id"],
                subdirectory=subdirectory,
            )
        }
    if "dir_info" in direct:
        return {"directory": PackageDirectory(path=str(path), subdirectory=subdirectory)}
    hashes = direct["archive_info"]["hashes"]
    place: dict[str, Any] = {"path": str(path)} if path else {"url": direct["url"]}
    return {"archive": PackageArchive(**place, hashes=hashes, subdirectory=subdirectory)}
