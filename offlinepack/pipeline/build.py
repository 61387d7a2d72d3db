"""Build the bundles of a request: run all stages in order, and write nothing before the last one."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from offlinepack.bundle.layout import make_pylock_name
from offlinepack.bundle.volumes import check_output_path
from offlinepack.errors import BuildError, Finding, IntegrityError, warning
from offlinepack.ontarget.files import write_file_atomically
from offlinepack.pipeline.assemble import WrittenBundle, assemble_draft, list_planned_files, write_draft
from offlinepack.pipeline.concurrency import capture_error, collect_results
from offlinepack.pipeline.includes import add_included_files
from offlinepack.pipeline.lock import format_lock, lock_targets
from offlinepack.pipeline.plan import (
    MAX_ROUNDS,
    find_next_requirements,
    make_install_plans,
    prepare_files,
    relock_targets,
    still_applies,
)
from offlinepack.pipeline.provenance_lookup import start_lookup
from offlinepack.pipeline.provider import open_provider
from offlinepack.pipeline.request import BuildRequest
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.store import Store
from offlinepack.targets.model import Target


@dataclass(frozen=True)
class BuildResult:
    """What came of a request."""

    bundles: tuple[WrittenBundle, ...]
    """one; with {target} in the output's name one for each target"""
    targets: tuple[Target, ...]
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """stage -> how long it took"""
    verdicts: tuple[Verdict, ...] = ()
    """of the rehearsal, where one was asked for"""


def build_bundles(request: BuildRequest, output: Path, watch: ProgressCallback = no_progress) -> BuildResult:
    """Pack one bundle for all targets of the request and put it at `output`; there is a whole one, or none.

    {name} and {version} in the output's name are filled in; with {target} there is a bundle for each target.
    Where it fails because a file of the store is not what it was, that one is fetched again.
    """
    if "{" not in str(output.parent):
        check_output_path(output)
    with Store.open(request.options.cache_dir) as store:
        try:
            return run_stages(request, output, store, watch)
        except (IntegrityError, BuildError):
            damaged = store.revalidate()
            if not damaged:
                raise
            built = run_stages(request, output, store, watch)
    healed = warning(
        "store-healed",
        store.path,
        "{count} files in the store {subject} were damaged; they were fetched again.",
        "Look at that disk: it changes what is written on it.",
        count=len(damaged),
    )
    return dataclasses.replace(built, findings=(healed, *built.findings))


def run_stages(request: BuildRequest, output: Path, store: Store, watch: ProgressCallback) -> BuildResult:
    clock = _StageTimer()
    with open_provider(store, request.indexes, request.options, watch) as source:
        plans = lock_targets(request, watch, source.prefetch)
        clock.finish("lock")
        chosen = [one for plan in plans for one in plan.selected_files]
        with start_lookup(chosen, request.indexes, source.client, store) as inquiry:
            parts, read = prepare_files(plans, source)
            for _ in range(MAX_ROUNDS):
                again = find_next_requirements(parts, read)
                if not again:
                    break
                plans = relock_targets(plans, again, request, watch)
                parts, read = prepare_files(plans, source)
            told = inquiry.results(one for part in parts for one in part.all_files)
    clock.finish("fetch")
    if any(one.destination for one in request.includes):
        parts, read = add_included_files(parts, read, request, store)
    if request.lowers_minimum_libc:
        parts = [part.with_minimum_libc() for part in parts]
    targets, findings = make_install_plans(parts, read, store)
    findings += [one for each in read.values() for one in each.notes]
    clock.finish("check")
    codes: dict[str, Path] = {}
    if request.bytecode:
        from offlinepack.wheels.bytecode import compile_bytecode

        planned = list_planned_files(targets)
        wanted = [(part.target, [one.file for one in part.all_files if one.file.name in planned]) for part in parts]
        codes, notes = compile_bytecode(wanted, store, request.options.build_pythons)
        findings += notes
        clock.finish("compile")
    each = [(one,) for one in targets] if "{target}" in str(output) else [targets]
    drafts = [assemble_draft(request, parts, some, codes, told, store, watch) for some in each]
    if request.policy:
        judged = collect_results(capture_error(functools.partial(request.policy.check, one.evidence)) for one in drafts)
        findings += itertools.chain.from_iterable(judged)
    packed = tuple(write_draft(request, output, one, watch) for one in drafts)
    for plan in plans:
        if request.lock_dir and plan.fingerprint:
            write_file_atomically(request.lock_dir / make_pylock_name(plan.target.tag), format_lock(plan).encode())
        findings += [one for one in plan.requirements.notes if one not in request.requirements.notes]
    clock.finish("pack")
    findings += [
        one for at, plan in enumerate(plans) for one in plan.selection.findings if still_applies(one, parts[at], read)
    ]
    findings += [one for part in parts for each in part.files for one in each.findings]
    return BuildResult(
        packed,
        tuple(part.target for part in parts),
        (*request.requirements.notes, *findings),
        clock.seconds,
        tuple(verdict for one in drafts for verdict in one.verdicts),
    )


class _StageTimer:
    """How long each stage took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last_time = time.monotonic()

    def finish(self, stage: str) -> None:
        """This stage ended now."""
        now = time.monotonic()
        self.seconds[stage], self.last_time = round(now - self.last_time, 3), now
