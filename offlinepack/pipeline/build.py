"""Build the bundles of a request: run all stages in order, and write nothing before the last one."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from offlinepack.bundle.layout import make_pylock_name
from offlinepack.bundle.volumes import check_output_path
from offlinepack.errors import BuildError, Finding, IntegrityError, warning
from offlinepack.ontarget.files import write_file_atomically
from offlinepack.pipeline.assemble import Draft, WrittenBundle, assemble_draft, compile_bytecode, write_draft
from offlinepack.pipeline.concurrency import collect_results, run_in_order
from offlinepack.pipeline.includes import add_included_files
from offlinepack.pipeline.lock import TargetLock, close_locks, format_lock, lock_targets
from offlinepack.pipeline.plan import TargetFiles, make_install_plans, prepare_files, still_applies
from offlinepack.pipeline.provenance_lookup import start_lookup
from offlinepack.pipeline.provider import open_provider
from offlinepack.pipeline.request import BuildRequest
from offlinepack.progress import ProgressCallback, no_progress
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.report.policy import PolicyCheck
from offlinepack.store import Store
from offlinepack.targets.model import Target


@dataclass(frozen=True)
class BuildResult:
    """The bundles that were written, and what is worth knowing about them."""

    bundles: tuple[WrittenBundle, ...]
    """one; one for each target if the output name contains {target}"""
    targets: tuple[Target, ...]
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """duration of each stage in seconds"""
    verdicts: tuple[Verdict, ...] = ()
    """of the rehearsal, if it was requested"""


def build_bundles(request: BuildRequest, output: Path, progress: ProgressCallback = no_progress) -> BuildResult:
    """Build the bundles of a request; write each completely or not at all. Retry once after damage in the store.

    {name} and {version} in the name of the output are replaced; {target} writes one bundle for each target.
    """
    if "{" not in str(output.parent):
        check_output_path(output)
    with Store.open(request.options.cache_dir) as store:
        try:
            return run_stages(request, output, store, progress)
        except (IntegrityError, BuildError):
            damaged_files = store.revalidate()  # removes the damaged files; they are downloaded again
            if not damaged_files:
                raise
            result = run_stages(request, output, store, progress)
    repaired = warning(
        "store-healed",
        store.path,
        "{count} files in the store {subject} were damaged; they were fetched again.",
        "Look at that disk: it changes what is written on it.",
        count=len(damaged_files),
    )
    return dataclasses.replace(result, findings=(repaired, *result.findings))


def run_stages(request: BuildRequest, output: Path, store: Store, progress: ProgressCallback) -> BuildResult:
    """Run all stages in order. Nothing is written to `output` before the last one."""
    timer = StageTimer()
    with open_provider(store, request.indexes, request.options, progress) as provider:
        # Resolve and select: one lock for each target. Raises with the problems of all targets.
        locks = lock_targets(request, progress, provider.prefetch)
        timer.finish("lock")

        # Fetch or build each file, inspect it, and lock again where its metadata contradicts the index.
        selected_files = [file for lock in locks for file in lock.selected_files]
        with start_lookup(selected_files, request.indexes, provider.client, store) as provenance_lookup:
            prepare = functools.partial(prepare_files, provider=provider)
            locks, target_files = close_locks(locks, prepare, request, progress)
            provenance = provenance_lookup.results(file for files in target_files for file in files.all_files)
        timer.finish("fetch")

    # Plan: what each target installs, in order. Raises with everything that is missing or clashes.
    target_files = add_included_files(target_files, request, store)
    target_files = apply_minimum_libc(target_files, request)
    plans, plan_findings = make_install_plans(target_files, store)
    timer.finish("check")
    bytecode, bytecode_notes = compile_bytecode(plans, target_files, request, store)
    if bytecode:
        timer.finish("compile")

    # Assemble in memory, rehearse, judge. A draft is a manifest and its members.
    groups = [(plan,) for plan in plans] if "{target}" in str(output) else [plans]
    drafts = [assemble_draft(request, group, target_files, bytecode, provenance, store, progress) for group in groups]
    policy_findings = check_policy(request.policy, drafts)

    # Write: the only stage with an effect outside the store.
    bundles = tuple(write_draft(request, output, draft, progress) for draft in drafts)
    save_locks(locks, request.lock_dir)
    timer.finish("pack")
    findings = [
        *request.requirements.notes,
        *plan_findings,
        *list_wheel_notes(target_files),
        *bytecode_notes,
        *policy_findings,
        *list_lock_findings(locks, target_files, request),
    ]
    verdicts = tuple(verdict for draft in drafts for verdict in draft.verdicts)
    return BuildResult(bundles, tuple(files.target for files in target_files), tuple(findings), timer.seconds, verdicts)


def apply_minimum_libc(target_files: Sequence[TargetFiles], request: BuildRequest) -> Sequence[TargetFiles]:
    """Lower the libc of a target that stands for this machine to what its files require."""
    return [files.with_minimum_libc() for files in target_files] if request.lowers_minimum_libc else target_files


def check_policy(policy: PolicyCheck | None, drafts: Iterable[Draft]) -> list[Finding]:
    """Judge every draft by the policy. Raises PolicyError with the rules that any of them violates."""
    if policy is None:
        return []
    jobs = [functools.partial(policy.check, draft.evidence) for draft in drafts]
    return [finding for findings in collect_results(run_in_order(jobs)) for finding in findings]


def save_locks(locks: Iterable[TargetLock], folder: Path | None) -> None:
    """Save the lock of each target that has a fingerprint, for later builds of the same input."""
    for lock in locks:
        if folder and lock.fingerprint:
            write_file_atomically(folder / make_pylock_name(lock.target.tag), format_lock(lock).encode())


def list_wheel_notes(target_files: Iterable[TargetFiles]) -> list[Finding]:
    """Return the notes of all wheels, each wheel once."""
    reports = {name: report for files in target_files for name, report in files.reports.items()}
    return [finding for report in reports.values() for finding in report.notes]


def list_lock_findings(
    locks: Sequence[TargetLock], target_files: Sequence[TargetFiles], request: BuildRequest
) -> list[Finding]:
    """Return what was found while locking, selecting and building."""
    findings = [note for lock in locks for note in lock.requirements.notes if note not in request.requirements.notes]
    for lock, files in zip(locks, target_files, strict=True):
        findings += [finding for finding in lock.selection.findings if still_applies(finding, files)]
    return findings + [finding for files in target_files for file in files.files for finding in file.findings]


class StageTimer:
    """Measures the stages of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """name of a stage -> seconds"""
        self._last_time = time.monotonic()

    def finish(self, stage: str) -> None:
        """Record that a stage ends now."""
        now = time.monotonic()
        self.seconds[stage], self._last_time = round(now - self._last_time, 3), now
