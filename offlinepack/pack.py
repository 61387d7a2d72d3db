"""The story of one bundle: lock for each target, select, fetch, settle the closure, write. lock() is its first half."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import tomli_w
from packaging.pylock import Pylock

from offlinepack import bundle, fetch
from offlinepack.errors import (
    Finding,
    IntegrityError,
    OfflinepackError,
    SelectionError,
    SourceError,
    Text,
    error,
    raise_all,
    text,
)
from offlinepack.indexes import Indexes, is_public
from offlinepack.lock import closure
from offlinepack.lock import lock as lock_one
from offlinepack.ontarget import manifest
from offlinepack.ontarget import wheel as wheels
from offlinepack.selection import Chosen, Selection, select
from offlinepack.sources import Requirements, from_arguments
from offlinepack.store import Store, StoredFile
from offlinepack.targets import Target

T = TypeVar("T")


class Watch(Protocol):
    """What draws progress: gives the steps back as they come."""

    def __call__(
        self, what: Text, steps: Iterable[T], total: float | None = None, weigh: Callable[[T], float] | None = None
    ) -> Iterator[T]:
        """`steps`, unchanged."""


def unwatched(
    what: Text, steps: Iterable[T], total: float | None = None, weigh: Callable[[T], float] | None = None
) -> Iterator[T]:
    """Nobody looks."""
    return iter(steps)


@dataclass(frozen=True)
class Label:
    """What a bundle is called, and what it says of itself."""

    name: str = "app"
    version: str | None = None
    sequence: int | None = None
    install_to: str | None = None


@dataclass(frozen=True)
class How:
    """How to lock and fetch; the same for every target."""

    resolver: str = "auto"
    jobs: int = 16
    retries: int = 5
    timeout: float = 15.0
    """seconds"""
    offline: bool = False
    cache_dir: Path | None = None
    """where the store and the resolvers keep what they fetched; None: nothing is kept"""


@dataclass(frozen=True)
class Request:
    """All that a bundle is made from."""

    requirements: Requirements
    targets: tuple[Target, ...]
    indexes: Indexes
    how: How = How()
    label: Label = Label()
    floor_follows_files: bool = False
    """the target is this machine's own: its libc floor is what the chosen files need, not what it has"""


@dataclass(frozen=True)
class Plan:
    """One target's part before anything is fetched: what was locked, which files were chosen."""

    target: Target
    pylock: Pylock
    selection: Selection
    tools: Selection

    @property
    def chosen(self) -> tuple[Chosen, ...]:
        """All files of this target, tools first."""
        return (*self.tools.chosen, *self.selection.chosen)


@dataclass(frozen=True)
class Built:
    """A bundle that was written."""

    archive: bundle.Archive
    manifest: manifest.Manifest
    plans: tuple[Plan, ...]
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """stage -> how long it took"""


def lock(request: Request, watch: Watch = unwatched) -> tuple[Plan, ...]:
    """Lock and select for every target, side by side; all conflicts or gaps of all targets at once."""
    how = request.how
    tools = _tools()

    def locked(target: Target, requirements: Requirements) -> Pylock:
        return lock_one(
            requirements,
            target,
            request.indexes,
            resolver=how.resolver,
            offline=how.offline,
            cache_dir=how.cache_dir,
            retries=how.retries,
            timeout=how.timeout,
        )

    jobs = [
        functools.partial(locked, target, requirements)
        for target in request.targets
        for requirements in (request.requirements, tools)
    ]
    what = text("resolving for {targets}", targets=[one.name for one in request.targets])
    with ThreadPoolExecutor(min(len(jobs), 4)) as pool:
        locks = _all(watch(what, pool.map(_caught, jobs), len(jobs)))
    plans = [
        functools.partial(_plan, target, request, locks[2 * at], locks[2 * at + 1], tools)
        for at, target in enumerate(request.targets)
    ]
    return tuple(_all(map(_caught, plans)))


def _tools() -> Requirements:
    """What installs the rest: the newest pip that the target's Python admits, found like any other requirement."""
    return dataclasses.replace(from_arguments(["pip"]), no_deps=True, only_binary=(":all:",), name=None)


def _plan(target: Target, request: Request, locked: Pylock, tools_lock: Pylock, tools: Requirements) -> Plan:
    chosen = select(locked, target, request.requirements)
    chosen_tools = select(tools_lock, target, tools)
    if request.floor_follows_files:
        target = target.lowered_to([one.filename for one in chosen.chosen if one.is_wheel])
    return Plan(target, locked, chosen, chosen_tools)


def _caught(job: Callable[[], T]) -> T | OfflinepackError:
    try:
        return job()
    except OfflinepackError as failure:
        return failure


def _all(results: Iterable[T | OfflinepackError]) -> list[T]:
    """Every result; where some failed, one error with the findings of all, under the code that comes first."""
    good: list[T] = []
    failures: list[OfflinepackError] = []
    for one in results:
        failures.append(one) if isinstance(one, OfflinepackError) else good.append(one)
    if failures:
        first = min(failures, key=lambda one: one.exit_code)
        findings = {one.say(): one for failure in failures for one in failure.findings}
        raise type(first)(*findings.values())
    return good


def lock_text(plan: Plan) -> str:
    """The target's pylock.toml (PEP 751); addresses without accounts and query strings."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: fetch.redacted(one) if key == "url" else clean(one) for key, one in value.items()}
        return [clean(one) for one in value] if isinstance(value, (list, tuple)) else value

    return tomli_w.dumps(clean(plan.pylock.to_dict()))


def write_whole(path: Path, data: bytes) -> None:
    """The file with these bytes, or the file that was there before."""
    beside = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sizes(plans: Sequence[Plan], request: Request) -> dict[str, int | None]:
    """File name -> bytes, of all that would be fetched; the index is asked where the lock does not say."""
    with Store.open(request.how.cache_dir) as store, _client(request) as client:
        return fetch.sizes(_wanted(plans), store, client)


def page(url: str, indexes: Indexes, how: How) -> bytes:
    """What stands at an address: a requirements file that another one names."""
    with fetch.open_client(indexes, retries=how.retries, timeout=how.timeout, offline=how.offline) as client:
        found = client.page(url)
    if found is None:
        raise SourceError(
            error(
                "no-such-page",
                fetch.redacted(url),
                "There is nothing at {subject}.",
                "Mend the address, or give a file.",
            )
        )
    return found.text.encode()


def _client(request: Request) -> fetch.Client:
    how = request.how
    return fetch.open_client(request.indexes, retries=how.retries, timeout=how.timeout, offline=how.offline)


def _wanted(plans: Iterable[Plan]) -> list[fetch.Wanted]:
    """Each file once, in the order of names."""
    chosen = {one.filename: one for plan in plans for one in plan.chosen}
    return [
        fetch.Wanted(one.url or Path(one.path or "").absolute().as_uri(), one.filename, one.sha256, one.size)
        for _, one in sorted(chosen.items())
    ]


def build(request: Request, output: Path, watch: Watch = unwatched) -> Built:
    """Pack one bundle for all targets of the request and put it at `output`; there is a whole one, or none."""
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def passed(stage: str) -> None:
        nonlocal clock
        now = time.monotonic()
        seconds[stage] = round(now - clock, 3)
        clock = now

    plans = lock(request, watch)
    passed("lock")
    with Store.open(request.how.cache_dir) as store:
        stored = _fetched(plans, request, store, watch)
        passed("fetch")
        read = _all_read(stored, store)
        targets, findings = _settled(plans, read, request)
        clashing = [one for plan in plans for one in _clashes(plan, read, store)]
        findings += raise_all(IntegrityError, clashing)
        findings += [one for each in read.values() for one in each.notes]
        passed("check")
        label = request.label
        listed, members = bundle.assemble(
            label.name,
            label.version,
            targets,
            stored.values(),
            sequence=label.sequence,
            install_to=label.install_to,
            urls=_public(plans),
        )
        path = Path(_named(str(output), request, plans))
        total = float(sum(one.size for one in listed.files))
        steps = watch(text("packing {path}", path=path), members, total, lambda one: one.file.size)
        archive = bundle.write(path, listed, steps)
        passed("pack")
    findings += [one for plan in plans for one in plan.selection.findings]
    return Built(archive, listed, plans, (*request.requirements.notes, *findings), seconds)


def _fetched(plans: Sequence[Plan], request: Request, store: Store, watch: Watch) -> dict[str, StoredFile]:
    """File name -> file in the store, for every file of every target."""
    wanted = _wanted(plans)
    known = [one.size for one in wanted if one.size is not None]
    total = float(sum(known)) if len(known) == len(wanted) else None
    with _client(request) as client:
        steps = fetch.files(wanted, store, client, jobs=request.how.jobs)
        what = text("fetching {count} files", count=len(wanted))
        return {one.name: one for one in watch(what, steps, total, lambda one: one.size)}


@dataclass(frozen=True)
class _Read:
    """What was read of one wheel."""

    file: StoredFile
    metadata: closure.Metadata
    notes: tuple[Finding, ...] = ()

    def wheel(self) -> wheels.Wheel:
        """The wheel as the strict reader sees it."""
        return wheels.read_wheel(self.file.path, filename=self.file.name)


_READER = 1
"""changes when the strict reader finds something else in the same bytes"""


def _read(file: StoredFile, store: Store) -> _Read:
    """The wheel as the strict reader sees it; IntegrityError with every reason where it is none.

    What was sound and unremarkable once is so for ever: the store remembers its metadata.
    """
    kept = store.fact(file.sha256, "metadata", _READER)
    if isinstance(kept, list) and kept[:1] == [file.name]:
        return _Read(file, closure.read_metadata(kept[1]))
    wheel = wheels.read_wheel(file.path, filename=file.name)
    metadata = wheel.metadata.decode("utf-8", "replace")
    if not wheel.notes:
        store.keep_fact(file.sha256, "metadata", [file.name, metadata], _READER)
    return _Read(file, closure.read_metadata(metadata), wheel.notes)


def _all_read(stored: Mapping[str, StoredFile], store: Store) -> dict[str, _Read]:
    """File name -> wheel, for all of them; the reasons of all that are unsound at once."""
    jobs = [functools.partial(_read, file, store) for name, file in sorted(stored.items()) if name.endswith(".whl")]
    return {one.file.name: one for one in _all(map(_caught, jobs))}


def _clashes(plan: Plan, read: Mapping[str, _Read], store: Store) -> list[Finding]:
    """Paths that two distributions of one target both write; the store remembers a set that has none."""
    names = sorted(one.filename for one in plan.selection.chosen)
    system = plan.target.facts.os
    key = hashlib.sha256(
        "\n".join([system, *(f"{name} {read[name].file.sha256}" for name in names)]).encode()
    ).hexdigest()
    if store.fact(key, "apart", _READER):
        return []
    found = wheels.clashes([read[name].wheel() for name in names], system)
    if not found:
        store.keep_fact(key, "apart", True, _READER)
    return found


def _settled(
    plans: Sequence[Plan], read: Mapping[str, _Read], request: Request
) -> tuple[tuple[manifest.Target, ...], list[Finding]]:
    """The install plan of each target, the most demanding first; every gap of every target at once."""
    targets: list[tuple[Target, manifest.Target]] = []
    findings: list[Finding] = []
    for plan in plans:
        closed = closure.close(
            [read[one.filename].metadata for one in plan.selection.chosen], request.requirements, plan.target
        )
        findings += closed.findings
        files = {one.name: one.filename for one in plan.selection.chosen}
        install = tuple(
            manifest.Distribution(one.name, str(one.version), files[one.name], one.requires, one.requested, None)
            for one in closed.order
        )
        if not install:
            findings.append(
                error(
                    "target-empty",
                    plan.target.name,
                    "Nothing of what was asked for is needed on {subject}: every requirement's marker excludes it.",
                    "Drop that target, or mend the markers.",
                )
            )
        tools = tuple(manifest.Tool(one.name, str(one.version), one.filename) for one in plan.tools.chosen)
        target = plan.target
        targets.append(
            (target, manifest.Target(target.name, target.tag, target.facts, closed.python_min, install, tools, ()))
        )
    raise_all(SelectionError, findings)
    targets.sort(key=lambda pair: pair[0].demands)
    return tuple(one for _, one in targets), findings


def _public(plans: Iterable[Plan]) -> dict[str, str]:
    """File name -> address, of files from the public index; others are known by name and hash alone."""
    return {one.filename: one.url for plan in plans for one in plan.chosen if one.url and is_public(one.url)}


def _named(output: str, request: Request, plans: Sequence[Plan]) -> str:
    """The output's name with {name}, {version} and {target} filled in."""
    label = request.label
    values = {"name": label.name, "version": label.version or "", "target": plans[0].target.tag}
    return re.sub(r"\{(name|version|target)\}", lambda one: values[one[1]], output)
