"""Make the target plans: close the locks by the metadata of the files, and order the distributions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.pylock import PackageWheel
from packaging.version import Version

from offlinepack.errors import FetchError, Finding, IntegrityError, SelectionError, raise_on_errors, text
from offlinepack.native.needs import find_needs
from offlinepack.ontarget.manifest import Distribution, TargetPlan, Tool
from offlinepack.pipeline.concurrency import capture_error, collect_results, run_concurrently
from offlinepack.pipeline.lock import TargetLock, lock_target, lock_targets, report_empty_target
from offlinepack.pipeline.provider import DistributionProvider, PreparedFile, add_build_requirements, open_run_client
from offlinepack.pipeline.request import BuildRequest
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.requirements.model import Requirements
from offlinepack.resolve.dependencies import Closure, accepts_version, check_closure, next_requirements
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target
from offlinepack.wheels.inspect import find_file_clashes, inspect_wheel
from offlinepack.wheels.metadata import WheelMetadata, parse_metadata
from offlinepack.wheels.report import WheelReport

MAX_ROUNDS = 5
"""so often a target is locked again where its files want something else than their index said"""


def lock_and_close(request: BuildRequest, watch: ProgressCallback = no_progress) -> tuple[TargetLock, ...]:
    """The plans, closed as a build closes them: by what the chosen wheels say themselves, read without fetching them.

    SelectionError with what nothing chosen brings. What a source will need is for its build to tell.
    """
    from offlinepack.wheels.remote_metadata import read_all  # a build reads what it has fetched

    plans, folder = lock_targets(request, watch), request.options.make_context(request.indexes).get_cache_folder("read")
    if request.options.offline:
        return plans
    with open_run_client(request.indexes, request.options) as client:
        for _ in range(MAX_ROUNDS):
            wheels = [one.file for plan in plans for one in plan.selection.files if isinstance(one.file, PackageWheel)]
            told = read_all(wheels, client, folder)
            known = {at: _metadata_without_download(plan, told) for at, plan in enumerate(plans)}
            closed = {
                at: check_closure(each, plans[at].requirements, plans[at].target) for at, each in known.items() if each
            }
            again = {at: next_requirements(plans[at].requirements, one) for at, one in closed.items()}
            wanted = {at: one for at, one in again.items() if one is not None}
            if not wanted:
                break
            plans = relock_targets(plans, wanted, request, watch)
    raise_on_errors(SelectionError, [one for each in closed.values() for one in each.findings])
    return tuple(
        _drop_packages(closed[at].unneeded_names, plan)
        if all(one.filename in told for one in plan.selection.files)
        else plan
        for at, plan in enumerate(plans)
    )


def _drop_packages(names: Iterable[str], plan: TargetLock) -> TargetLock:
    packages = [one for one in plan.pylock.packages if one.name not in names]
    chosen = tuple(one for one in plan.selection.files if one.name not in names)
    return dataclasses.replace(
        plan,
        pylock=dataclasses.replace(plan.pylock, packages=packages),
        selection=dataclasses.replace(plan.selection, files=chosen),
    )


def _metadata_without_download(plan: TargetLock, told: Mapping[str, WheelMetadata]) -> list[WheelMetadata]:
    """Of what could not be read nobody knows what it needs; nothing at all, where not even its version is known."""
    if any(one.version is None for one in plan.selection.files):
        return []
    return [
        told.get(one.filename) or WheelMetadata(one.name, one.version)
        for one in plan.selection.files
        if one.version is not None
    ]


def relock_targets(
    plans: Sequence[TargetLock], again: Mapping[int, Requirements], request: BuildRequest, watch: ProgressCallback
) -> tuple[TargetLock, ...]:
    """The plans, with those locked and selected anew whose files want something else than their index said."""
    jobs = [functools.partial(lock_target, asked, plans[at].target, request) for at, asked in again.items()]
    what = text("resolving again for {targets}", targets=[plans[at].target.name for at in again])
    renewed = list(plans)
    for at, (made, selection) in zip(again, run_concurrently(jobs, what, watch), strict=True):
        renewed[at] = dataclasses.replace(plans[at], pylock=made, selection=selection, requirements=again[at])
    return tuple(renewed)


def prepare_files(
    plans: Sequence[TargetLock], source: DistributionProvider
) -> tuple[list[TargetFiles], dict[str, WheelReport]]:
    """The files of every plan, and what was read of each wheel."""
    try:
        files = source.prepare([each for plan in plans for each in (plan.selection, plan.tools)])
    except FetchError as failure:
        # what a kept lock names may be gone, and a new one may name what is there
        kept_locks = [one for plan in plans for one in plan.requirements.notes if one.code == "lock-kept"]
        raise FetchError(*failure.findings, *kept_locks) from failure
    parts = [
        TargetFiles(
            plan.target, plan.requirements, files[2 * at], add_build_requirements(files[2 * at + 1], files[2 * at])
        )
        for at, plan in enumerate(plans)
    ]
    wheels = {one.file.name: one.file for part in parts for one in part.all_files if one.metadata is None}
    return parts, _inspect_wheels(wheels, source.store)


def find_next_requirements(parts: Sequence[TargetFiles], read: Mapping[str, WheelReport]) -> dict[int, Requirements]:
    """For each target that does not close: what to lock instead, where that may help."""
    closed = {at: _close_target(part, read) for at, part in enumerate(parts)}
    found = {at: next_requirements(parts[at].requirements, one) for at, one in closed.items()}
    return {at: one for at, one in found.items() if one is not None}


def _close_target(part: TargetFiles, read: Mapping[str, WheelReport]) -> Closure:
    return check_closure([_get_metadata(one, read) for one in part.files], part.requirements, part.target)


def _get_metadata(one: PreparedFile, read: Mapping[str, WheelReport]) -> WheelMetadata:
    return read[one.file.name].metadata if one.metadata is None else parse_metadata(one.metadata)


def still_applies(one: Finding, part: TargetFiles, read: Mapping[str, WheelReport]) -> bool:
    """False of a version that merging the indexes would have taken, where the others do not admit that version."""
    if one.code != "other-index":
        return True
    chosen = [read[each.file.name].metadata for each in part.files]
    return accepts_version(
        chosen, part.requirements, part.target, one.subject, Version(str(one.sentence.facts["newer"]))
    )


@dataclass(frozen=True)
class TargetFiles:
    """One target's files, all of them here."""

    target: Target
    requirements: Requirements
    files: list[PreparedFile]
    tools: list[PreparedFile]

    @property
    def all_files(self) -> list[PreparedFile]:
        """Tools and distributions."""
        return [*self.tools, *self.files]

    @property
    def wheels(self) -> list[PreparedFile]:
        """The distributions without those that the target builds."""
        return [one for one in self.files if one.metadata is None]

    def with_minimum_libc(self) -> TargetFiles:
        """The same for the oldest system on which all of its files run."""
        return dataclasses.replace(self, target=self.target.with_minimum_libc([one.file.name for one in self.wheels]))


def _inspect_wheels(files: Mapping[str, StoredFile], store: Store) -> dict[str, WheelReport]:
    """File name -> wheel, for all of them; the reasons of all that are unsound at once."""
    jobs = [functools.partial(inspect_wheel, file, store) for _, file in sorted(files.items())]
    return {one.file.name: one for one in collect_results(map(capture_error, jobs))}


def make_install_plans(
    parts: Sequence[TargetFiles], read: Mapping[str, WheelReport], store: Store
) -> tuple[tuple[TargetPlan, ...], list[Finding]]:
    """The install plan of each target, the most demanding first; every gap of every target at once."""
    targets: list[tuple[Target, TargetPlan]] = []
    findings: list[Finding] = []
    clashing: list[Finding] = []
    for part in parts:
        target, here = part.target, {one.name: one for one in part.files}
        closed = _close_target(part, read)
        findings += closed.findings
        install = tuple(
            Distribution(
                one.name,
                str(one.version),
                here[one.name].file.name,
                one.requires,
                one.is_requested,
                _copy_origin(here[one.name]),
            )
            for one in closed.order
        )
        if not install:
            findings.append(report_empty_target(target))
        kept = {one.name for one in closed.order}
        needs = find_needs({one.name: one.file for one in part.wheels if one.name in kept}, target, store)
        findings += [one._replace(level="warning") if one.level == "error" else one for one in needs.findings]
        clashing += find_file_clashes([read[one.file.name] for one in part.wheels], target.facts.os, store)
        tools = tuple(Tool(one.name, str(_get_metadata(one, read).version), one.file.name) for one in part.tools)
        planned = TargetPlan(target.name, target.tag, target.facts, closed.python_min, install, tools, needs.needs)
        targets.append((target, planned))
    raise_on_errors(SelectionError, findings)
    raise_on_errors(IntegrityError, clashing)
    targets.sort(key=lambda pair: pair[0].sort_key)
    return tuple(one for _, one in targets), [*findings, *clashing]


def _copy_origin(one: PreparedFile) -> dict[str, str] | None:
    return dict(one.origin) if one.origin is not None else None
