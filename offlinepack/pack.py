"""The story of one bundle: lock for each target, select, fetch, settle the closure, write. lock() is its first half."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from packaging.pylock import PackageWheel, Pylock
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack import bundle, fetch, included, native, origins, signing, supply
from offlinepack.errors import (
    BuildError,
    FetchError,
    Finding,
    IntegrityError,
    ResolutionError,
    SelectionError,
    SourceError,
    UsageError,
    error,
    note,
    raise_all,
    text,
    warning,
)
from offlinepack.evidence import Evidence
from offlinepack.evidence.policy import Rules
from offlinepack.evidence.provenance import Told
from offlinepack.examine import Examined, clashes, examined
from offlinepack.included import Included
from offlinepack.indexes import Indexes, is_public
from offlinepack.lockers import closure, kept
from offlinepack.ontarget import manifest
from offlinepack.rehearse import Verdict, document, static
from offlinepack.selection import Chosen, Selection, select
from offlinepack.sources import OwnWheels, Requirements, from_arguments
from offlinepack.store import Store, StoredFile
from offlinepack.supply import How, Supplied, Watch, all_of, caught, side_by_side, unwatched
from offlinepack.targets import Target

__all__ = ["Built", "How", "Label", "Packed", "Plan", "Request"]
__all__ += ["build", "lock", "lock_alone", "lock_text", "page", "sizes", "write_whole"]


MOST_ROUNDS = 5
"""so often a target is locked again where its files want something else than their index said"""


@dataclass(frozen=True)
class Label:
    """What a bundle is called, and what it says of itself."""

    name: str = "app"
    version: str | None = None
    sequence: int | None = None
    install_to: str | None = None

    @property
    def archive(self) -> str:
        """The bundle's file where nobody names one."""
        return f"{self.name}-{self.version}-offline.tar.gz" if self.version else f"{self.name}-offline.tar.gz"

    def completed(self, requirements: Requirements) -> Label:
        """With what the sources suggest where nothing was said; `app` where nobody knows better."""
        name = re.sub(r"[-_.\s]+", "-", self.name).strip("-").lower() if self.name else requirements.name or "app"
        if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
            raise UsageError(
                error(
                    "bad-name",
                    "--name",
                    "{subject} {name} is no name for a bundle.",
                    "Use letters, digits and hyphens.",
                    name=self.name,
                )
            )
        version = self.version or (requirements.version if name == requirements.name else None)
        if version and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.!+_-]{0,126}[A-Za-z0-9])?", version):
            raise UsageError(
                error(
                    "bad-version",
                    "--app-version",
                    "{subject} {version} cannot be part of a file name.",
                    "Use letters, digits, dots and hyphens.",
                    version=version,
                )
            )
        return dataclasses.replace(self, name=name, version=version)


@dataclass(frozen=True)
class Request:
    """All that a bundle is made from."""

    requirements: Requirements
    targets: tuple[Target, ...]
    indexes: Indexes
    how: How = field(default_factory=How)
    label: Label = field(default_factory=Label)
    includes: tuple[Included, ...] = ()
    bytecode: bool = False
    """compiled code goes with the bundle, for each target whose Python is here"""
    sign: Path | None = None
    """the key that signs the manifest"""
    split: int | None = None
    """bytes of a part"""
    rehearse: bool = False
    """the static rehearsal comes before the bundle has its name; its verdict goes in"""
    rules: Rules | None = None
    """what the bundle has to keep to; else there is none"""
    floor_follows_files: bool = False
    """the target is this machine's own: its libc floor is what the chosen files need, not what it has"""
    lock_dir: Path | None = None
    """where the lock of each target is kept, and taken from as long as the same is asked"""


@dataclass(frozen=True)
class Plan:
    """One target's part before anything is fetched: what was locked, which files were chosen."""

    target: Target
    pylock: Pylock
    selection: Selection
    tools: Selection
    requirements: Requirements
    """what was locked: the request's, with what earlier rounds found out"""
    tools_lock: Pylock
    mark: str = ""
    """of what was asked, where the lock is kept"""

    @property
    def chosen(self) -> tuple[Chosen, ...]:
        """All files of this target, tools first."""
        return (*self.tools.chosen, *self.selection.chosen)


@dataclass(frozen=True)
class Packed:
    """A bundle that was written."""

    archive: bundle.Archive
    manifest: manifest.Manifest
    evidence: Evidence
    """what is known of the wheels, and where they are from"""


@dataclass(frozen=True)
class Built:
    """What came of a request."""

    bundles: tuple[Packed, ...]
    """one; with {target} in the output's name one for each target"""
    targets: tuple[Target, ...]
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """stage -> how long it took"""
    verdicts: tuple[Verdict, ...] = ()
    """of the rehearsal, where one was asked for"""


def lock(
    request: Request, watch: Watch = unwatched, chosen: Callable[[Selection], None] = lambda _: None
) -> tuple[Plan, ...]:
    """Lock and select for every target, side by side; all conflicts and gaps of all targets at once.

    `chosen` is told of each target's selection as soon as there is one, in no order and in other threads.
    """
    tools, asked = _tools(), supply.named(request.requirements, request.indexes, request.how)
    marks = [_mark(asked, one, request) for one in request.targets]
    wanted = [(one, _with_kept(asked, one, mark, request)) for one, mark in zip(request.targets, marks, strict=True)]
    # pip is for every machine alike: one lock of it serves all targets of a Python
    pythons = {(one.facts.implementation, one.python_full): (one, tools) for one in request.targets}
    for one, each in wanted:
        held = [found for own in each.pylocks if kept.tag(own) == one.tag and (found := kept.tools(own))]
        if held:
            pythons[one.facts.implementation, one.python_full] = one, dataclasses.replace(tools, pylocks=(held[0],))
    jobs = [functools.partial(_solved, each, one, request, chosen) for one, each in wanted]
    jobs += [functools.partial(_tools_solved, each, one, request) for one, each in pythons.values()]
    solved = side_by_side(jobs, text("resolving for {targets}", targets=[one.name for one in request.targets]), watch)
    request.how.pages.forget()
    own = {python: made for python, (made, _) in zip(pythons, solved[len(request.targets) :], strict=True)}
    plans = []
    for at, (one, each) in enumerate(wanted):
        (made, selection), its = solved[at], own[one.facts.implementation, one.python_full]
        plans.append(Plan(one, made, selection, select(its, one, tools), each, its, marks[at]))
    return tuple(plans)


def lock_alone(request: Request, watch: Watch = unwatched) -> tuple[Plan, ...]:
    """The plans, closed as a build closes them: by what the chosen wheels say themselves, read without fetching them.

    SelectionError with what nothing chosen brings. What a source will need is for its build to tell.
    """
    from offlinepack.lockers import unfetched  # a build reads what it has fetched

    plans, folder = lock(request, watch), request.how.means(request.indexes).cache("read")
    if request.how.offline:
        return plans
    with supply.client(request.indexes, request.how) as client:
        for _ in range(MOST_ROUNDS):
            wheels = [one.file for plan in plans for one in plan.selection.chosen if isinstance(one.file, PackageWheel)]
            told = unfetched.metadata(wheels, client, folder)
            known = {at: _foretold(plan, told) for at, plan in enumerate(plans)}
            closed = {
                at: closure.close(each, plans[at].requirements, plans[at].target) for at, each in known.items() if each
            }
            again = {at: closure.again(plans[at].requirements, one) for at, one in closed.items()}
            wanted = {at: one for at, one in again.items() if one is not None}
            if not wanted:
                break
            plans = _locked_again(plans, wanted, request, watch)
    raise_all(SelectionError, [one for each in closed.values() for one in each.findings])
    return tuple(
        _without(closed[at].superfluous, plan) if all(one.filename in told for one in plan.selection.chosen) else plan
        for at, plan in enumerate(plans)
    )


def _without(names: Iterable[str], plan: Plan) -> Plan:
    packages = [one for one in plan.pylock.packages if one.name not in names]
    chosen = tuple(one for one in plan.selection.chosen if one.name not in names)
    return dataclasses.replace(
        plan,
        pylock=dataclasses.replace(plan.pylock, packages=packages),
        selection=dataclasses.replace(plan.selection, chosen=chosen),
    )


def _foretold(plan: Plan, told: Mapping[str, closure.Metadata]) -> list[closure.Metadata]:
    """Of what could not be read nobody knows what it needs; nothing at all, where not even its version is known."""
    if any(one.version is None for one in plan.selection.chosen):
        return []
    return [
        told.get(one.filename) or closure.Metadata(one.name, one.version)
        for one in plan.selection.chosen
        if one.version is not None
    ]


def _solved(
    asked: Requirements, target: Target, request: Request, chosen: Callable[[Selection], None] = lambda _: None
) -> tuple[Pylock, Selection]:
    """What was locked for a target, and the files of it that the target takes."""
    made = supply.locked(asked, target, request.indexes, request.how)
    selection = select(made, target, asked)
    if not selection.chosen:
        raise SelectionError(_empty(target))
    chosen(selection)
    return made, selection


def _locked_again(
    plans: Sequence[Plan], again: Mapping[int, Requirements], request: Request, watch: Watch
) -> tuple[Plan, ...]:
    """The plans, with those locked and selected anew whose files want something else than their index said."""
    jobs = [functools.partial(_solved, asked, plans[at].target, request) for at, asked in again.items()]
    what = text("resolving again for {targets}", targets=[plans[at].target.name for at in again])
    renewed = list(plans)
    for at, (made, selection) in zip(again, side_by_side(jobs, what, watch), strict=True):
        renewed[at] = dataclasses.replace(plans[at], pylock=made, selection=selection, requirements=again[at])
    return tuple(renewed)


def _tools() -> Requirements:
    """What installs the rest: the newest pip that the target's Python admits, found like any other requirement."""
    (pip,) = from_arguments(["pip"]).asked
    asked = (dataclasses.replace(pip, origin="the bundle itself"),)
    return Requirements(asked=asked, no_deps=True, only_binary=(":all:",), name=None)


def _tools_solved(tools: Requirements, target: Target, request: Request) -> tuple[Pylock, Selection]:
    """The same of the tools; that an index has none of them is told as that, since nobody asked for them."""
    try:
        return _solved(tools, target, request)
    except (ResolutionError, SelectionError) as failure:
        places = [fetch.redacted(str(one)) for one in (*request.indexes.of("pip"), *request.indexes.find_links)]
        raise type(failure)(
            error(
                "no-pip",
                target.name,
                "For {subject} a bundle carries a pip that Python {python} admits, and {places} has none.",
                "Put that wheel of pip there, or into a folder of yours: --find-links DIR.",
                log="\n".join(one.say() for one in failure.findings),
                python=target.facts.python,
                places=places or [text("no place at all (--no-index)")],
            )
        ) from failure


def _empty(target: Target) -> Finding:
    return error(
        "target-empty",
        target.name,
        "Nothing of what was asked for is needed on {subject}: every requirement's marker excludes it.",
        "Drop that target, or mend the markers.",
    )


def _mark(asked: Requirements, target: Target, request: Request) -> str:
    """What tells whether a kept lock still is of what is asked; '' where none is kept, or somebody gave one."""
    if request.lock_dir is None or asked.pylocks:
        return ""
    return kept.mark(asked, target, request.indexes, request.how.resolver)


def _with_kept(asked: Requirements, target: Target, mark: str, request: Request) -> Requirements:
    found = kept.find(request.lock_dir, target, mark) if request.lock_dir and mark else None
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


def lock_text(plan: Plan) -> str:
    """The target's pylock.toml (PEP 751); addresses without accounts and query strings."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: fetch.redacted(one) if key == "url" else clean(one) for key, one in value.items()}
        return [clean(one) for one in value] if isinstance(value, (list, tuple)) else value

    return tomli_w.dumps(clean(kept.document(plan.pylock, plan.target, plan.tools_lock, plan.mark)))


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
    with Store.open(request.how.cache_dir) as store, supply.client(request.indexes, request.how) as client:
        return fetch.sizes(supply.wanted(one for plan in plans for one in plan.chosen), store, client)


def page(url: str, indexes: Indexes, how: How) -> bytes:
    """What stands at an address: a requirements file that another one names."""
    with supply.client(indexes, how) as client:
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


def own_wheels(indexes: Indexes, how: How) -> OwnWheels:
    """Where wheels of a project that is packed may lie, and who tells a version that only its build knows."""

    def version_of(folder: Path) -> str | None:
        with Store.open(how.cache_dir) as store, supply.supplying(store, indexes, how) as source:
            return source.version_of(folder)

    return OwnWheels(indexes.find_links, version_of)


def build(request: Request, output: Path, watch: Watch = unwatched) -> Built:
    """Pack one bundle for all targets of the request and put it at `output`; there is a whole one, or none.

    {name} and {version} in the output's name are filled in; with {target} there is a bundle for each target.
    Where it fails because a file of the store is not what it was, that one is fetched again.
    """
    if "{" not in str(output.parent):
        bundle.check_place(output)
    with Store.open(request.how.cache_dir) as store:
        try:
            return _built(request, output, store, watch)
        except (IntegrityError, BuildError):
            damaged = store.mend()
            if not damaged:
                raise
            built = _built(request, output, store, watch)
    healed = warning(
        "store-healed",
        store.path,
        "{count} files in the store {subject} were damaged; they were fetched again.",
        "Look at that disk: it changes what is written on it.",
        count=len(damaged),
    )
    return dataclasses.replace(built, findings=(healed, *built.findings))


def _built(request: Request, output: Path, store: Store, watch: Watch) -> Built:
    clock = _Clock()
    with supply.supplying(store, request.indexes, request.how, watch) as source:
        plans = lock(request, watch, source.begin)
        clock.passed("lock")
        chosen = [one for plan in plans for one in plan.chosen]
        with origins.asking(chosen, request.indexes, source.client, store) as inquiry:
            parts, read = _supplied(plans, source)
            for _ in range(MOST_ROUNDS):
                again = _again(parts, read)
                if not again:
                    break
                plans = _locked_again(plans, again, request, watch)
                parts, read = _supplied(plans, source)
            told = inquiry.told(one for part in parts for one in part.all)
    clock.passed("fetch")
    if any(one.placed for one in request.includes):
        parts, read = _with_included(parts, read, request, store)
    if request.floor_follows_files:
        parts = [part.with_its_own_floor() for part in parts]
    targets, findings = _settled(parts, read, store)
    findings += [one for each in read.values() for one in each.notes]
    clock.passed("check")
    codes: dict[str, Path] = {}
    if request.bytecode:
        from offlinepack import bytecode

        planned = _planned(targets)
        wanted = [(part.target, [one.file for one in part.all if one.file.name in planned]) for part in parts]
        codes, notes = bytecode.compiled(wanted, store, request.how.build_pythons)
        findings += notes
        clock.passed("compile")
    each = [(one,) for one in targets] if "{target}" in str(output) else [targets]
    drafts = [_drafted(request, parts, some, codes, told, store, watch) for some in each]
    if request.rules:
        judged = all_of(caught(functools.partial(request.rules.judge, one.evidence)) for one in drafts)
        findings += itertools.chain.from_iterable(judged)
    packed = tuple(_written(request, output, one, watch) for one in drafts)
    for plan in plans:
        if request.lock_dir and plan.mark:
            write_whole(request.lock_dir / manifest.pylock_name(plan.target.tag), lock_text(plan).encode())
        findings += [one for one in plan.requirements.notes if one not in request.requirements.notes]
    clock.passed("pack")
    findings += [
        one for at, plan in enumerate(plans) for one in plan.selection.findings if _holds(one, parts[at], read)
    ]
    findings += [one for part in parts for each in part.files for one in each.findings]
    return Built(
        packed,
        tuple(part.target for part in parts),
        (*request.requirements.notes, *findings),
        clock.seconds,
        tuple(verdict for one in drafts for verdict in one.verdicts),
    )


def _supplied(plans: Sequence[Plan], source: supply.Supply) -> tuple[list[_Part], dict[str, Examined]]:
    """The files of every plan, and what was read of each wheel."""
    try:
        files = source.files([each for plan in plans for each in (plan.selection, plan.tools)])
    except FetchError as failure:
        # what a kept lock names may be gone, and a new one may name what is there
        kept_locks = [one for plan in plans for one in plan.requirements.notes if one.code == "lock-kept"]
        raise FetchError(*failure.findings, *kept_locks) from failure
    parts = [
        _Part(plan.target, plan.requirements, files[2 * at], supply.with_builders(files[2 * at + 1], files[2 * at]))
        for at, plan in enumerate(plans)
    ]
    wheels = {one.file.name: one.file for part in parts for one in part.all if one.metadata is None}
    return parts, _all_read(wheels, source.store)


def _again(parts: Sequence[_Part], read: Mapping[str, Examined]) -> dict[int, Requirements]:
    """For each target that does not close: what to lock instead, where that may help."""
    closed = {at: _closed(part, read) for at, part in enumerate(parts)}
    found = {at: closure.again(parts[at].requirements, one) for at, one in closed.items()}
    return {at: one for at, one in found.items() if one is not None}


def _closed(part: _Part, read: Mapping[str, Examined]) -> closure.Closure:
    return closure.close([_metadata(one, read) for one in part.files], part.requirements, part.target)


def _metadata(one: Supplied, read: Mapping[str, Examined]) -> closure.Metadata:
    return read[one.file.name].metadata if one.metadata is None else closure.read_metadata(one.metadata)


def _holds(one: Finding, part: _Part, read: Mapping[str, Examined]) -> bool:
    """False of a version that merging the indexes would have taken, where the others do not admit that version."""
    if one.code != "other-index":
        return True
    chosen = [read[each.file.name].metadata for each in part.files]
    return closure.admits(
        chosen, part.requirements, part.target, one.subject, Version(str(one.sentence.facts["newer"]))
    )


def _with_included(
    parts: Sequence[_Part], read: Mapping[str, Examined], request: Request, store: Store
) -> tuple[list[_Part], dict[str, Examined]]:
    """The files of --include that go below the environment, as one more distribution of every target."""
    taken = {one.name for part in parts for one in part.files}
    name = next(one for one in _names(f"{request.label.name}-files") if one not in taken)
    version = request.label.version if _is_version(request.label.version) else "0"
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as work:
        placed = [one for one in request.includes if one.placed]
        file = store.take(included.wheel(name, str(version), placed, Path(work)))
    made = Supplied(canonicalize_name(name), file, None, {"name": name, "sha256": file.sha256, "origin": "--include"})
    (asked,) = from_arguments([f"{name}=={version}"]).asked
    more = [
        dataclasses.replace(part, files=[*part.files, made], requirements=part.requirements.asking(asked))
        for part in parts
    ]
    return more, {**read, file.name: examined(file, store)}


def _names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _is_version(version: str | None) -> bool:
    try:
        return version is not None and str(Version(version)) == version
    except InvalidVersion:
        return False


def _planned(targets: Sequence[manifest.Target]) -> set[str]:
    """The names of all files that any target installs, or installs with."""
    return {one.file for each in targets for one in each.install} | {one.file for each in targets for one in each.tools}


@dataclass(frozen=True)
class _Draft:
    """A bundle before it is written."""

    manifest: manifest.Manifest
    members: tuple[bundle.Member, ...]
    verdicts: tuple[Verdict, ...]
    evidence: Evidence


def _drafted(
    request: Request,
    parts: Sequence[_Part],
    targets: Sequence[manifest.Target],
    codes: Mapping[str, Path],
    told: Mapping[str, Told],
    store: Store,
    watch: Watch,
) -> _Draft:
    label = request.label
    # conservation: what no target installs is not in the bundle
    planned = _planned(targets)
    tags = {one.tag for one in targets}
    supplied = [one for part in parts if part.target.tag in tags for one in part.all if one.file.name in planned]
    compiled = {manifest.bytecode_path(tag, file) for tag in tags for file in planned} & set(codes)
    extra: dict[str, bytes | Path] = {one.path: one.file for one in request.includes}
    extra.update((path, codes[path]) for path in sorted(compiled))
    known: list[Evidence] = []

    def describe(draft: manifest.Manifest) -> dict[str, bytes]:
        known.append(origins.evidence(draft, [one.file for one in supplied], told, store))
        return origins.documents(known[-1], told)

    assemble = functools.partial(
        bundle.assemble,
        label.name,
        label.version,
        targets,
        [one.file for one in supplied],
        sequence=label.sequence,
        install_to=label.install_to,
        urls=_public(supplied),
        describe=describe,
    )
    listed, members = assemble(extra=extra)
    verdicts: tuple[Verdict, ...] = ()
    if request.rehearse:
        machines = {part.target.tag: part.target for part in parts}
        what = text("rehearsing {targets}", targets=[one.name for one in targets])
        verdicts = tuple(watch(what, static.rehearse_unwritten(listed, members, machines, store), len(targets)))
        listed, members = assemble(extra={**extra, manifest.REHEARSAL: document(verdicts)})
    return _Draft(listed, members, verdicts, dataclasses.replace(known[-1], manifest=listed))


def _written(request: Request, output: Path, draft: _Draft, watch: Watch) -> Packed:
    listed, members = draft.manifest, draft.members
    signatures = [signing.sign(manifest.write(listed), request.sign)] if request.sign else []
    path = Path(_named(str(output), request.label, listed.targets[0].tag))
    total = float(sum(one.size for one in listed.files))
    steps = watch(text("packing {path}", path=path), members, total, lambda one: one.file.size)
    return Packed(bundle.write(path, listed, steps, signatures, request.split), listed, draft.evidence)


class _Clock:
    """How long each stage took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()

    def passed(self, stage: str) -> None:
        """This stage ended now."""
        now = time.monotonic()
        self.seconds[stage], self.last = round(now - self.last, 3), now


@dataclass(frozen=True)
class _Part:
    """One target's files, all of them here."""

    target: Target
    requirements: Requirements
    files: list[Supplied]
    tools: list[Supplied]

    @property
    def all(self) -> list[Supplied]:
        """Tools and distributions."""
        return [*self.tools, *self.files]

    @property
    def wheels(self) -> list[Supplied]:
        """The distributions without those that the target builds."""
        return [one for one in self.files if one.metadata is None]

    def with_its_own_floor(self) -> _Part:
        """The same for the oldest system on which all of its files run."""
        return dataclasses.replace(self, target=self.target.lowered_to([one.file.name for one in self.wheels]))


def _all_read(files: Mapping[str, StoredFile], store: Store) -> dict[str, Examined]:
    """File name -> wheel, for all of them; the reasons of all that are unsound at once."""
    jobs = [functools.partial(examined, file, store) for _, file in sorted(files.items())]
    return {one.file.name: one for one in all_of(map(caught, jobs))}


def _settled(
    parts: Sequence[_Part], read: Mapping[str, Examined], store: Store
) -> tuple[tuple[manifest.Target, ...], list[Finding]]:
    """The install plan of each target, the most demanding first; every gap of every target at once."""
    targets: list[tuple[Target, manifest.Target]] = []
    findings: list[Finding] = []
    clashing: list[Finding] = []
    for part in parts:
        target, here = part.target, {one.name: one for one in part.files}
        closed = _closed(part, read)
        findings += closed.findings
        install = tuple(
            manifest.Distribution(
                one.name,
                str(one.version),
                here[one.name].file.name,
                one.requires,
                one.requested,
                _origin(here[one.name]),
            )
            for one in closed.order
        )
        if not install:
            findings.append(_empty(target))
        kept = {one.name for one in closed.order}
        needs = native.needs({one.name: one.file for one in part.wheels if one.name in kept}, target, store)
        findings += [one._replace(level="warning") if one.level == "error" else one for one in needs.findings]
        clashing += clashes([read[one.file.name] for one in part.wheels], target.facts.os, store)
        tools = tuple(manifest.Tool(one.name, str(_metadata(one, read).version), one.file.name) for one in part.tools)
        planned = manifest.Target(target.name, target.tag, target.facts, closed.python_min, install, tools, needs.needs)
        targets.append((target, planned))
    raise_all(SelectionError, findings)
    raise_all(IntegrityError, clashing)
    targets.sort(key=lambda pair: pair[0].demands)
    return tuple(one for _, one in targets), [*findings, *clashing]


def _origin(one: Supplied) -> dict[str, str] | None:
    return dict(one.built_from) if one.built_from is not None else None


def _public(supplied: Iterable[Supplied]) -> dict[str, str]:
    """File name -> address, of files from the public index; others are known by name and hash alone."""
    return {
        one.file.name: one.chosen.url
        for one in supplied
        if one.chosen and one.chosen.url and one.built_from is None and is_public(one.chosen.url)
    }


def _named(output: str, label: Label, tag: str) -> str:
    """The output's name with {name}, {version} and {target} filled in; no version takes its hyphen with it."""
    values = {"name": label.name, "version": label.version or "", "target": tag}
    if not label.version:
        output = re.sub(r"[-_.]\{version\}|\{version\}[-_.]", "", output)
    return re.sub(r"\{(name|version|target)\}", lambda one: values[one[1]], output)
