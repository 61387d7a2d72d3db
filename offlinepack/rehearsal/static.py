"""Check statically whether each target can install a bundle.

pip resolves for the target from the files of the bundle alone; its result must equal the target plan. The rules of
`rehearsal/rules/` then check each wheel in memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from offlinepack.bundle.layout import Member
from offlinepack.bundle.reader import Bundle
from offlinepack.errors import Finding, MachineError, raise_on_errors, text
from offlinepack.native.needs import find_needs
from offlinepack.ontarget.destinations import find_clashes
from offlinepack.ontarget.manifest import Manifest, TargetPlan
from offlinepack.pip_shim.run import PipOutput
from offlinepack.rehearsal.resolve import compare_with_plan, list_sdists, resolve_from_bundle
from offlinepack.rehearsal.rules.entry_points import check_entry_points
from offlinepack.rehearsal.rules.path_length import check_path_length
from offlinepack.rehearsal.rules.python_patch import check_python_patch
from offlinepack.rehearsal.rules.usual_libraries import check_usual_libraries
from offlinepack.rehearsal.rules.wheel_identity import check_wheel_identity
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target
from offlinepack.wheels.report import WheelReport, read_wheel_report


def check_bundle_targets(
    bundle: Bundle,
    targets: Sequence[TargetPlan] | None = None,
    machines: Mapping[str, Target] | None = None,
    store: Store | None = None,
) -> Iterator[Verdict]:
    """Yield a verdict for each of these targets (default: all targets) in the order of the manifest.

    `machines`: tag -> target with more facts than the manifest has (the libraries that its probe found). `store` caches
    the native code of its wheels. Raises IntegrityError if the bundle or a wheel is damaged.
    """
    plans = tuple(targets if targets is not None else bundle.manifest.targets)
    files = set(_list_wheels(plans))
    with _open_folder(bundle) as folder, ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        reports = {
            path: pool.submit(read_wheel_report, folder / path)
            for path in _write_files(bundle, plans, folder)
            if path in files
        }
        wheels = {path: reports[path].result() for path in sorted(reports)}
        outputs = [pool.submit(resolve_from_bundle, target_plan, folder, wheels) for target_plan in plans]
        contents = _BundleContents(
            bundle.manifest,
            wheels,
            {
                file.path: StoredFile(file.path, folder / file.path, file.size, file.sha256)
                for file in bundle.manifest.files
            },
            store,
        )
        for plan, output in zip(plans, outputs, strict=True):
            target = (machines or {}).get(plan.tag) or Target(plan.name, plan.facts)
            yield _make_verdict(plan, target, output.result(), contents)


def check_targets(
    manifest: Manifest, members: Iterable[Member], machines: Mapping[str, Target], store: Store | None
) -> Iterator[Verdict]:
    """Yield the verdicts of a bundle that is not written yet; raise MachineError after the last if one fails."""
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for member in members:
            if isinstance(member.content, Path):
                link = Path(folder, member.file.path)
                link.parent.mkdir(parents=True, exist_ok=True)
                try:
                    link.symlink_to(member.content.absolute())
                except OSError:  # Windows without the privilege to create links
                    shutil.copyfile(member.content, link)
        for verdict in check_bundle_targets(Bundle(Path(folder), manifest, b"", {}), None, machines, store):
            findings += verdict.findings if verdict.installs is False else ()
            yield verdict
    raise_on_errors(MachineError, findings)


@contextmanager
def _open_folder(bundle: Bundle) -> Iterator[Path]:
    """Open the folder of an unpacked bundle, otherwise an empty temporary folder."""
    if bundle.path.is_dir():
        yield bundle.path
    else:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            yield Path(folder)


def _write_files(bundle: Bundle, targets: Sequence[TargetPlan], folder: Path) -> Iterator[str]:
    """Yield the path of each file of these targets as soon as it is in the folder."""
    paths = {file.path for target in targets for file in bundle.manifest.list_files(target)}
    if bundle.path.is_dir():
        yield from sorted(paths)
        return
    for member in bundle.read_members():
        if member.file.path in paths:
            member.write_file(folder)
            yield member.file.path
        else:
            member.verify()


def _list_wheels(targets: Iterable[TargetPlan]) -> list[str]:
    return sorted({file for target in targets for _, _, file in _list_files(target) if file.endswith(".whl")})


def _list_files(plan: TargetPlan) -> list[tuple[str, str, str]]:
    """Return name, version and file of the distributions of a target plan, tools last."""
    install = [(distribution.name, distribution.version, distribution.file) for distribution in plan.install]
    return install + [(tool.name, tool.version, tool.file) for tool in plan.tools]


@dataclass(frozen=True)
class _BundleContents:
    """The files of a bundle by their paths."""

    manifest: Manifest
    wheels: Mapping[str, WheelReport]
    files: Mapping[str, StoredFile]
    store: Store | None


def _make_verdict(plan: TargetPlan, target: Target, output: PipOutput, contents: _BundleContents) -> Verdict:
    wheels = {
        distribution.name: contents.wheels[distribution.file]
        for distribution in plan.install
        if distribution.file in contents.wheels
    }
    findings = [
        *compare_with_plan(plan, target, output, contents.wheels),
        *find_clashes([wheel.checked_wheel for wheel in wheels.values()], plan.facts.os),
    ]
    findings += check_path_length(plan, contents.manifest, wheels.values())
    for name, version, file in _list_files(plan):
        if file in contents.wheels:
            findings += check_wheel_identity(name, version, contents.wheels[file], target)
    findings += check_entry_points(wheels.values())
    files = {
        distribution.name: contents.files[distribution.file]
        for distribution in plan.install
        if distribution.name in wheels
    }
    needs = find_needs(files, target, contents.store)
    is_probed = "sonames" in target.probe_output
    forecast = [finding for finding in needs.findings if finding.code == "library-needed"]
    forecast += [] if is_probed else check_usual_libraries(needs.needs)
    findings += [finding for finding in needs.findings if finding not in forecast]
    forecast += check_python_patch(plan, wheels)
    limitations = [text("whether its modules can be imported (--live)")]
    if not is_probed and (needs.needs or plan.facts.os != "linux"):
        limitations.append(text("which shared libraries that very machine has: its probe would tell"))
    if sdists := list_sdists(plan):
        limitations.append(text("what {names} need and bring, which are built on the target", names=sdists))
    has_errors = any(finding.level == "error" for finding in findings)
    return Verdict(
        plan.name,
        plan.tag,
        installs=None if "marker" in output.facts and not has_errors else not has_errors,
        findings=tuple(findings),
        forecast=tuple(forecast),
        modules={name: wheel.top_level_modules for name, wheel in wheels.items()},
        limitations=tuple(limitations),
    )
