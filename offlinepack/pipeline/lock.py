"""Lock the requirements of a request for each target, and select the files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w
from packaging.pylock import Pylock

from offlinepack.errors import Finding, ResolutionError, SelectionError, error, note, text
from offlinepack.net.download import query_sizes
from offlinepack.net.urls import redact_url
from offlinepack.pipeline.concurrency import run_concurrently
from offlinepack.pipeline.provider import lock_requirements, make_download_requests, name_requirements, open_run_client
from offlinepack.pipeline.request import BuildRequest
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.saved_lock import (
    compute_fingerprint,
    find_saved_lock,
    make_document,
    read_target_tag,
    read_tools_lock,
)
from offlinepack.selection import SelectedFile, Selection, select_files
from offlinepack.store import Store
from offlinepack.targets.model import Target


@dataclass(frozen=True)
class TargetLock:
    """One target's part before anything is fetched: what was locked, which files were chosen."""

    target: Target
    pylock: Pylock
    selection: Selection
    tools: Selection
    requirements: Requirements
    """what was locked: the request's, with what earlier rounds found out"""
    tools_lock: Pylock
    fingerprint: str = ""
    """of what was asked, where the lock is kept"""

    @property
    def selected_files(self) -> tuple[SelectedFile, ...]:
        """All files of this target, tools first."""
        return (*self.tools.files, *self.selection.files)


def lock_targets(
    request: BuildRequest, watch: ProgressCallback = no_progress, chosen: Callable[[Selection], None] = lambda _: None
) -> tuple[TargetLock, ...]:
    """Lock and select for every target, side by side; all conflicts and gaps of all targets at once.

    `chosen` is told of each target's selection as soon as there is one, in no order and in other threads.
    """
    tools, asked = _make_tool_requirements(), name_requirements(request.requirements, request.indexes, request.options)
    marks = [_make_fingerprint(asked, one, request) for one in request.targets]
    wanted = [
        (one, _apply_saved_lock(asked, one, mark, request)) for one, mark in zip(request.targets, marks, strict=True)
    ]
    # pip is for every machine alike: one lock of it serves all targets of a Python
    pythons = {(one.facts.implementation, one.python_full_version): (one, tools) for one in request.targets}
    for one, each in wanted:
        held = [found for own in each.pylocks if read_target_tag(own) == one.tag and (found := read_tools_lock(own))]
        if held:
            pythons[one.facts.implementation, one.python_full_version] = (
                one,
                dataclasses.replace(tools, pylocks=(held[0],)),
            )
    jobs = [functools.partial(lock_target, each, one, request, chosen) for one, each in wanted]
    jobs += [functools.partial(_lock_tools, each, one, request) for one, each in pythons.values()]
    solved = run_concurrently(
        jobs, text("resolving for {targets}", targets=[one.name for one in request.targets]), watch
    )
    request.options.run_cache.clear()
    own = {python: made for python, (made, _) in zip(pythons, solved[len(request.targets) :], strict=True)}
    plans = []
    for at, (one, each) in enumerate(wanted):
        (made, selection), its = solved[at], own[one.facts.implementation, one.python_full_version]
        plans.append(TargetLock(one, made, selection, select_files(its, one, tools), each, its, marks[at]))
    return tuple(plans)


def lock_target(
    asked: Requirements, target: Target, request: BuildRequest, chosen: Callable[[Selection], None] = lambda _: None
) -> tuple[Pylock, Selection]:
    """What was locked for a target, and the files of it that the target takes."""
    made = lock_requirements(asked, target, request.indexes, request.options)
    selection = select_files(made, target, asked)
    if not selection.files:
        raise SelectionError(report_empty_target(target))
    chosen(selection)
    return made, selection


def _make_tool_requirements() -> Requirements:
    """What installs the rest: the newest pip that the target's Python admits, found like any other requirement."""
    (pip,) = parse_arguments(["pip"]).requirements
    asked = (dataclasses.replace(pip, origin="the bundle itself"),)
    return Requirements(requirements=asked, no_deps=True, only_binary=(":all:",), name=None)


def _lock_tools(tools: Requirements, target: Target, request: BuildRequest) -> tuple[Pylock, Selection]:
    """The same of the tools; that an index has none of them is told as that, since nobody asked for them."""
    try:
        return lock_target(tools, target, request)
    except (ResolutionError, SelectionError) as failure:
        places = [redact_url(str(one)) for one in (*request.indexes.select_indexes("pip"), *request.indexes.find_links)]
        raise type(failure)(
            error(
                "no-pip",
                target.name,
                "For {subject} a bundle carries a pip that Python {python} admits, and {places} has none.",
                "Put that wheel of pip there, or into a folder of yours: --find-links DIR.",
                log="\n".join(one.render() for one in failure.findings),
                python=target.facts.python,
                places=places or [text("no place at all (--no-index)")],
            )
        ) from failure


def report_empty_target(target: Target) -> Finding:
    return error(
        "target-empty",
        target.name,
        "Nothing of what was asked for is needed on {subject}: every requirement's marker excludes it.",
        "Drop that target, or mend the markers.",
    )


def _make_fingerprint(asked: Requirements, target: Target, request: BuildRequest) -> str:
    """What tells whether a kept lock still is of what is asked; '' where none is kept, or somebody gave one."""
    if request.lock_dir is None or asked.pylocks:
        return ""
    return compute_fingerprint(asked, target, request.indexes, request.options.resolver)


def _apply_saved_lock(asked: Requirements, target: Target, mark: str, request: BuildRequest) -> Requirements:
    found = find_saved_lock(request.lock_dir, target, mark) if request.lock_dir and mark else None
    if found is None:
        return asked
    told = note(
        "lock-kept",
        target.name,
        "The lock of {subject} that a former run kept is of just what is asked: its versions are packed again.",
        "To have newer ones, remove {path}.",
        path=request.lock_dir,
    )
    return dataclasses.replace(asked, pylocks=(found,), notes=(*asked.notes, told))


def format_lock(plan: TargetLock) -> str:
    """The target's pylock.toml (PEP 751); addresses without accounts and query strings."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: redact_url(one) if key == "url" else clean(one) for key, one in value.items()}
        return [clean(one) for one in value] if isinstance(value, (list, tuple)) else value

    return tomli_w.dumps(clean(make_document(plan.pylock, plan.target, plan.tools_lock, plan.fingerprint)))


def find_file_sizes(plans: Sequence[TargetLock], request: BuildRequest) -> dict[str, int | None]:
    """File name -> bytes, of all that would be fetched; the index is asked where the lock does not say."""
    with Store.open(request.options.cache_dir) as store, open_run_client(request.indexes, request.options) as client:
        return query_sizes(make_download_requests(one for plan in plans for one in plan.selected_files), store, client)
