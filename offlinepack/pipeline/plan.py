"""Make the target plans: collect and inspect the files of each target, and order its distributions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from packaging.version import Version

from offlinepack.errors import FetchError, Finding, IntegrityError, SelectionError, raise_on_errors
from offlinepack.native.needs import find_needs
from offlinepack.ontarget.manifest import Distribution, TargetPlan, Tool
from offlinepack.pipeline.concurrency import collect_results, run_in_order
from offlinepack.pipeline.lock import TargetLock, report_empty_target
from offlinepack.pipeline.provider import DistributionProvider, PreparedFile, add_build_requirements
from offlinepack.requirements.model import Requirements
from offlinepack.resolve.dependencies import accepts_version, check_closure
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target
from offlinepack.wheels.inspect import find_file_clashes, inspect_wheel
from offlinepack.wheels.metadata import WheelMetadata, parse_metadata
from offlinepack.wheels.report import WheelReport


@dataclass(frozen=True)
class TargetFiles:
    """All files of one target, in the store, with the reports of the wheels among them."""

    target: Target
    requirements: Requirements
    files: list[PreparedFile]
    tools: list[PreparedFile]
    reports: Mapping[str, WheelReport]
    """file name -> report; may hold those of other targets too"""

    @property
    def all_files(self) -> list[PreparedFile]:
        """Tools and distributions."""
        return [*self.tools, *self.files]

    @property
    def wheels(self) -> list[PreparedFile]:
        """The distributions without the sdists that the target machine builds."""
        return [file for file in self.files if file.metadata is None]

    @cached_property
    def metadata(self) -> list[WheelMetadata]:
        """The metadata of the distributions."""
        return [self.read_metadata(file) for file in self.files]

    def read_metadata(self, file: PreparedFile) -> WheelMetadata:
        """Return the metadata of one of the files."""
        return self.reports[file.file.name].metadata if file.metadata is None else parse_metadata(file.metadata)

    def with_minimum_libc(self) -> TargetFiles:
        """Return the files for the oldest libc that all of them run with."""
        return dataclasses.replace(
            self, target=self.target.with_minimum_libc([wheel.file.name for wheel in self.wheels])
        )


def prepare_files(locks: Sequence[TargetLock], provider: DistributionProvider) -> list[TargetFiles]:
    """Download or build the files of every lock and inspect the wheels; raise one error with all problems."""
    try:
        files = provider.prepare([selection for lock in locks for selection in (lock.selection, lock.tools)])
    except FetchError as failure:
        # the files that a saved lock names may be gone; without it, a new lock names files that exist
        saved_lock_notes = [
            finding for lock in locks for finding in lock.requirements.notes if finding.code == "lock-kept"
        ]
        raise FetchError(*failure.findings, *saved_lock_notes) from failure
    distributions = files[::2]
    tools = [add_build_requirements(*pair) for pair in zip(files[1::2], distributions, strict=True)]
    wheels = {
        file.file.name: file.file
        for target_files in (*distributions, *tools)
        for file in target_files
        if file.metadata is None
    }
    reports = _inspect_wheels(wheels, provider.store)
    return [
        TargetFiles(lock.target, lock.requirements, target_files, target_tools, reports)
        for lock, target_files, target_tools in zip(locks, distributions, tools, strict=True)
    ]


def _inspect_wheels(wheels: Mapping[str, StoredFile], store: Store) -> dict[str, WheelReport]:
    """Inspect wheels, by file name; raise one error with the faults of all."""
    jobs = [functools.partial(inspect_wheel, wheel, store) for _, wheel in sorted(wheels.items())]
    return {report.filename: report for report in collect_results(run_in_order(jobs))}


def make_install_plans(
    target_files: Sequence[TargetFiles], store: Store
) -> tuple[tuple[TargetPlan, ...], list[Finding]]:
    """Make the plan of each target, the most demanding target first.

    Raises SelectionError with everything that is missing for any target, IntegrityError with the wheels that clash.
    """
    plans: list[tuple[Target, TargetPlan]] = []
    findings: list[Finding] = []
    clashes: list[Finding] = []
    for files in target_files:
        target, file_of = files.target, {file.name: file for file in files.files}
        closure = check_closure(files.metadata, files.requirements, target)
        findings += closure.findings
        install = tuple(
            Distribution(
                step.name,
                str(step.version),
                file_of[step.name].file.name,
                step.requires,
                step.is_requested,
                _copy_origin(file_of[step.name]),
            )
            for step in closure.order
        )
        if not install:
            findings.append(report_empty_target(target))
        names = {step.name for step in closure.order}
        needs = find_needs({wheel.name: wheel.file for wheel in files.wheels if wheel.name in names}, target, store)
        # a missing library does not prevent the installation
        findings += [
            finding._replace(level="warning") if finding.level == "error" else finding for finding in needs.findings
        ]
        reports = [files.reports[wheel.file.name] for wheel in files.wheels]
        clashes += find_file_clashes(reports, target.facts.os, store)
        tools = tuple(Tool(tool.name, str(files.read_metadata(tool).version), tool.file.name) for tool in files.tools)
        plan = TargetPlan(
            target.name, target.tag, target.facts, closure.python_min, None, None, install, tools, needs.needs
        )
        plans.append((target, plan))
    raise_on_errors(SelectionError, findings)
    raise_on_errors(IntegrityError, clashes)
    plans.sort(key=lambda pair: pair[0].sort_key)
    return tuple(plan for _, plan in plans), [*findings, *clashes]


def _copy_origin(file: PreparedFile) -> dict[str, str] | None:
    return dict(file.origin) if file.origin is not None else None


def list_planned_files(plans: Sequence[TargetPlan]) -> set[str]:
    """Return the names of all files that a plan installs or uses as tools."""
    install = {step.file for plan in plans for step in plan.install}
    return install | {tool.file for plan in plans for tool in plan.tools}


def still_applies(finding: Finding, files: TargetFiles) -> bool:
    """Return False for a newer version on another index that the selected distributions do not accept."""
    if finding.code != "other-index":
        return True
    version = Version(str(finding.sentence.facts["newer"]))
    metadata = [files.read_metadata(file) for file in files.files]
    return accepts_version(metadata, files.requirements, files.target, finding.subject, version)
