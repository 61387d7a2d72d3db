"""Lock the requirements of a request for each target, and select the files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import tomli_w
from packaging.pylock import PackageWheel, Pylock

from offlinepack.errors import Finding, ResolutionError, SelectionError, error, note, raise_on_errors, text
from offlinepack.net.download import query_sizes
from offlinepack.net.urls import redact_url
from offlinepack.pipeline.concurrency import run_concurrently
from offlinepack.pipeline.provider import make_download_requests
from offlinepack.pipeline.request import BuildRequest
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.policy import FormatControl, ResolutionPolicy
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.choose import complete_names, resolve
from offlinepack.resolve.dependencies import check_closure, next_requirements
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
from offlinepack.wheels.metadata import WheelMetadata

MAX_ROUNDS = 5
"""rounds in which a target is locked again because its files contradict the index"""


@dataclass(frozen=True)
class TargetLock:
    """The lock of one target and the files that were selected; nothing is fetched yet."""

    target: Target
    pylock: Pylock
    selection: Selection
    tools: Selection
    requirements: Requirements
    """what was locked: the requirements of the request and those that earlier rounds added"""
    tools_lock: Pylock
    fingerprint: str = ""
    """of the input, if the lock is saved"""

    @property
    def selected_files(self) -> tuple[SelectedFile, ...]:
        """All files of this target, tools first."""
        return (*self.tools.files, *self.selection.files)


def lock_targets(
    request: BuildRequest,
    progress: ProgressCallback = no_progress,
    on_selection: Callable[[Selection], None] = lambda _: None,
) -> tuple[TargetLock, ...]:
    """Lock and select for every target concurrently; raise one error with the problems of all targets.

    `on_selection` is called with the selection of each target as soon as it exists, in any order, in other threads.
    """
    options = request.options
    requirements = complete_names(request.requirements, request.indexes, options.make_context(request.indexes))
    fingerprints = [_make_fingerprint(requirements, target, request) for target in request.targets]
    inputs = [
        _apply_saved_lock(requirements, target, fingerprint, request)
        for target, fingerprint in zip(request.targets, fingerprints, strict=True)
    ]
    # pip does not depend on the machine: all targets with the same Python share one lock of it
    tools = _make_tool_requirements()
    tool_inputs = {
        (target.facts.implementation, target.python_full_version): (target, tools) for target in request.targets
    }
    for target, target_input in zip(request.targets, inputs, strict=True):
        saved = [
            tools_lock
            for pylock in target_input.pylocks
            if read_target_tag(pylock) == target.tag and (tools_lock := read_tools_lock(pylock))
        ]
        if saved:
            tool_inputs[_python_of(target)] = target, dataclasses.replace(tools, pylocks=(saved[0],))
    jobs = [
        functools.partial(lock_target, target_input, target, request, on_selection)
        for target, target_input in zip(request.targets, inputs, strict=True)
    ]
    jobs += [functools.partial(_lock_tools, tool_input, target, request) for target, tool_input in tool_inputs.values()]
    label = text("resolving for {targets}", targets=[target.name for target in request.targets])
    results = run_concurrently(jobs, label, progress)
    options.run_cache.clear()
    tool_locks = {key: pylock for key, (pylock, _) in zip(tool_inputs, results[len(request.targets) :], strict=True)}
    locks = []
    for number, target in enumerate(request.targets):
        pylock, selection = results[number]
        tools_lock = tool_locks[_python_of(target)]
        tool_selection = select_files(tools_lock, target, tools)
        locks.append(
            TargetLock(target, pylock, selection, tool_selection, inputs[number], tools_lock, fingerprints[number])
        )
    return tuple(locks)


def lock_target(
    requirements: Requirements,
    target: Target,
    request: BuildRequest,
    on_selection: Callable[[Selection], None] = lambda _: None,
) -> tuple[Pylock, Selection]:
    """Lock requirements for one target and select the files. Raises SelectionError if the target needs none."""
    options = request.options
    pylock = resolve(requirements, target, request.indexes, options.make_context(request.indexes), options.resolver)
    selection = select_files(pylock, target, requirements)
    if not selection.files:
        raise SelectionError(report_empty_target(target))
    on_selection(selection)
    return pylock, selection


def _python_of(target: Target) -> tuple[str, str]:
    return target.facts.implementation, target.python_full_version


def _make_tool_requirements() -> Requirements:
    """Return the requirement of the newest pip that the Python of a target supports."""
    (pip,) = parse_arguments(["pip"]).requirements
    pip = dataclasses.replace(pip, origin="the bundle itself")
    return Requirements(
        requirements=(pip,),
        policy=ResolutionPolicy(no_deps=True, format_control=FormatControl((("only-binary", ":all:"),))),
    )


def _lock_tools(tools: Requirements, target: Target, request: BuildRequest) -> tuple[Pylock, Selection]:
    """Lock the tools for one target; explain that every bundle needs pip if an index has none."""
    try:
        return lock_target(tools, target, request)
    except (ResolutionError, SelectionError) as failure:
        sources = (*request.indexes.select_indexes("pip"), *request.indexes.find_links)
        raise type(failure)(
            error(
                "no-pip",
                target.name,
                "For {subject} a bundle carries a pip that Python {python} admits, and {places} has none.",
                "Put that wheel of pip there, or into a folder of yours: --find-links DIR.",
                log="\n".join(finding.render() for finding in failure.findings),
                python=target.facts.python,
                places=[redact_url(str(source)) for source in sources] or [text("no place at all (--no-index)")],
            )
        ) from failure


def report_empty_target(target: Target) -> Finding:
    """Report that the markers of all requirements exclude a target."""
    return error(
        "target-empty",
        target.name,
        "Nothing of what was asked for is needed on {subject}: every requirement's marker excludes it.",
        "Drop that target, or mend the markers.",
    )


# ------------------------------------------------------------------------------------------------------- saved locks


def _make_fingerprint(requirements: Requirements, target: Target, request: BuildRequest) -> str:
    """Return the fingerprint of the input, or '' if no lock is saved or the user gave a lock."""
    if request.lock_dir is None or requirements.pylocks:
        return ""
    return compute_fingerprint(requirements, target, request.indexes, request.options.resolver)


def _apply_saved_lock(
    requirements: Requirements, target: Target, fingerprint: str, request: BuildRequest
) -> Requirements:
    """Add the lock that an earlier run saved for the same input, with a note."""
    pylock = find_saved_lock(request.lock_dir, target, fingerprint) if request.lock_dir and fingerprint else None
    if pylock is None:
        return requirements
    lock_note = note(
        "lock-kept",
        target.name,
        "The lock of {subject} that a former run kept is of just what is asked: its versions are packed again.",
        "To have newer ones, remove {path}.",
        path=request.lock_dir,
    )
    return dataclasses.replace(requirements, pylocks=(pylock,), notes=(*requirements.notes, lock_note))


def format_lock(lock: TargetLock) -> str:
    """Return the pylock.toml of a target (PEP 751), with URLs without credentials and query strings."""

    def redact(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: redact_url(entry) if key == "url" else redact(entry) for key, entry in value.items()}
        return [redact(entry) for entry in value] if isinstance(value, (list, tuple)) else value

    return tomli_w.dumps(redact(make_document(lock.pylock, lock.target, lock.tools_lock, lock.fingerprint)))


def find_file_sizes(locks: Sequence[TargetLock], request: BuildRequest) -> dict[str, int | None]:
    """Return the size in bytes of each file to fetch, by name; the index is asked if the lock does not say."""
    files = [file for lock in locks for file in lock.selected_files]
    with Store.open(request.options.cache_dir) as store, request.options.open_client(request.indexes) as client:
        return query_sizes(make_download_requests(files), store, client)


# ---------------------------------------------------------------------------------------------------- the closing loop


class HasMetadata(Protocol):
    """The files of one target whose metadata was read."""

    @property
    def metadata(self) -> Sequence[WheelMetadata]:
        """The metadata of all files; empty if too little is known to check them."""


M = TypeVar("M", bound=HasMetadata)


def close_locks(
    locks: Sequence[TargetLock],
    read_files: Callable[[Sequence[TargetLock]], Sequence[M]],
    request: BuildRequest,
    progress: ProgressCallback,
) -> tuple[tuple[TargetLock, ...], Sequence[M]]:
    """Lock again while the metadata of the selected files contradicts the index; return the locks and their files."""
    locks = tuple(locks)
    files = read_files(locks)
    for _ in range(MAX_ROUNDS):
        new_inputs: dict[int, Requirements] = {}
        for number, (lock, target_files) in enumerate(zip(locks, files, strict=True)):
            if target_files.metadata:
                closure = check_closure(target_files.metadata, lock.requirements, lock.target)
                if (requirements := next_requirements(lock.requirements, closure)) is not None:
                    new_inputs[number] = requirements
        if not new_inputs:
            break
        locks = _relock_targets(locks, new_inputs, request, progress)
        files = read_files(locks)
    return locks, files


def _relock_targets(
    locks: Sequence[TargetLock],
    new_inputs: Mapping[int, Requirements],
    request: BuildRequest,
    progress: ProgressCallback,
) -> tuple[TargetLock, ...]:
    """Lock the numbered targets again with their new requirements."""
    jobs = [
        functools.partial(lock_target, requirements, locks[number].target, request)
        for number, requirements in new_inputs.items()
    ]
    label = text("resolving again for {targets}", targets=[locks[number].target.name for number in new_inputs])
    new_locks = list(locks)
    for number, (pylock, selection) in zip(new_inputs, run_concurrently(jobs, label, progress), strict=True):
        new_locks[number] = dataclasses.replace(
            locks[number], pylock=pylock, selection=selection, requirements=new_inputs[number]
        )
    return tuple(new_locks)


@dataclass(frozen=True)
class _RemoteMetadata:
    """The metadata of the selected files of one target, read without downloading them."""

    metadata: Sequence[WheelMetadata]
    is_complete: bool
    """whether the metadata of every file could be read"""


def lock_and_close(request: BuildRequest, progress: ProgressCallback = no_progress) -> tuple[TargetLock, ...]:
    """Lock for every target as a build does, by the metadata of the wheels, without downloading them.

    Raises SelectionError with the dependencies that no selected file provides. What the build of an sdist will need is
    unknown before it is built.
    """
    from offlinepack.wheels.remote_metadata import read_all  # start-up time: a build does not need it

    locks = lock_targets(request, progress)
    options = request.options
    if options.offline:
        return locks
    cache_folder = options.make_context(request.indexes).get_cache_folder("read")
    with options.open_client(request.indexes) as client:

        def read_metadata(locks: Sequence[TargetLock]) -> list[_RemoteMetadata]:
            files = [file.file for lock in locks for file in lock.selection.files]
            metadata = read_all([file for file in files if isinstance(file, PackageWheel)], client, cache_folder)
            return [_collect_metadata(lock, metadata) for lock in locks]

        locks, files = close_locks(locks, read_metadata, request, progress)
    closures = [
        check_closure(target_files.metadata, lock.requirements, lock.target)
        for lock, target_files in zip(locks, files, strict=True)
    ]
    raise_on_errors(
        SelectionError,
        [
            finding
            for closure, target_files in zip(closures, files, strict=True)
            if target_files.metadata
            for finding in closure.findings
        ],
    )
    return tuple(
        _drop_packages(closure.unneeded_names, lock) if target_files.is_complete else lock
        for lock, closure, target_files in zip(locks, closures, files, strict=True)
    )


def _collect_metadata(lock: TargetLock, metadata: Mapping[str, WheelMetadata]) -> _RemoteMetadata:
    """Collect the metadata of one target; a file that could not be read counts as one without dependencies."""
    files = lock.selection.files
    if any(file.version is None for file in files):
        return _RemoteMetadata((), False)
    known_metadata = [
        metadata.get(file.filename) or WheelMetadata(file.name, file.version)
        for file in files
        if file.version is not None
    ]
    return _RemoteMetadata(known_metadata, all(file.filename in metadata for file in files))


def _drop_packages(names: Iterable[str], lock: TargetLock) -> TargetLock:
    names = set(names)
    packages = [package for package in lock.pylock.packages if package.name not in names]
    files = tuple(file for file in lock.selection.files if file.name not in names)
    return dataclasses.replace(
        lock,
        pylock=dataclasses.replace(lock.pylock, packages=packages),
        selection=dataclasses.replace(lock.selection, files=files),
    )
