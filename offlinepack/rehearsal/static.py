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
from offlinepack.wheels.report import WheelModules, read_wheel_modules


def check_bundle_targets(
    bundle: Bundle,
    targets: Sequence[TargetPlan] | None = None,
    machines: Mapping[str, Target] | None = None,
    store: Store | None = None,
) -> Iterator[Verdict]:
    """A verdict for each of these targets of the bundle (all of them), side by side, in the manifest's order.

    `machines`: tag -> what is known of that target beyond the manifest, the libraries that its probe found. `store`
    knows the native code of wheels that it has. IntegrityError where the bundle or one of its wheels is not sound.
    """
    wanted = tuple(targets if targets is not None else bundle.manifest.targets)
    files = set(_list_wheels(wanted))
    with _open_folder(bundle) as folder, ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        read = {
            one: pool.submit(read_wheel_modules, folder / one)
            for one in _write_files(bundle, wanted, folder)
            if one in files
        }
        wheels = {one: read[one].result() for one in sorted(read)}
        answers = [pool.submit(resolve_from_bundle, one, folder, wheels) for one in wanted]
        bundled = _BundleContents(
            bundle.manifest,
            wheels,
            {one.path: StoredFile(one.path, folder / one.path, one.size, one.sha256) for one in bundle.manifest.files},
            store,
        )
        for planned, answer in zip(wanted, answers, strict=True):
            target = (machines or {}).get(planned.tag) or Target(planned.name, planned.facts)
            yield _make_verdict(planned, target, answer.result(), bundled)


def check_targets(
    manifest: Manifest, members: Iterable[Member], machines: Mapping[str, Target], store: Store | None
) -> Iterator[Verdict]:
    """The same of a bundle that is not written yet, from the files that it will hold; MachineError where one fails."""
    failed: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for member in members:
            if isinstance(member.content, Path):
                place = Path(folder, member.file.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    place.symlink_to(member.content.absolute())
                except OSError:  # Windows, without the right to
                    shutil.copyfile(member.content, place)
        for verdict in check_bundle_targets(Bundle(Path(folder), manifest, b"", {}), None, machines, store):
            failed += verdict.findings if verdict.installs is False else ()
            yield verdict
    raise_on_errors(MachineError, failed)


@contextmanager
def _open_folder(bundle: Bundle) -> Iterator[Path]:
    """The bundle's own where it is one, else one that is empty."""
    if bundle.path.is_dir():
        yield bundle.path
    else:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            yield Path(folder)


def _write_files(bundle: Bundle, targets: Sequence[TargetPlan], folder: Path) -> Iterator[str]:
    """Each file of these targets, as soon as it lies in the folder."""
    wanted = {one.path for target in targets for one in bundle.manifest.list_files(target)}
    if bundle.path.is_dir():
        yield from sorted(wanted)
        return
    for member in bundle.read_members():
        if member.file.path in wanted:
            member.write_file(folder)
            yield member.file.path
        else:
            member.verify()


def _list_wheels(targets: Iterable[TargetPlan]) -> list[str]:
    return sorted({file for target in targets for _, _, file in _list_files(target) if file.endswith(".whl")})


def _list_files(planned: TargetPlan) -> list[tuple[str, str, str]]:
    """Name, version and file of all that a target takes, tools last."""
    install = [(one.name, one.version, one.file) for one in planned.install]
    return install + [(one.name, one.version, one.file) for one in planned.tools]


@dataclass(frozen=True)
class _BundleContents:
    """The bundle's files, by their paths."""

    manifest: Manifest
    wheels: Mapping[str, WheelModules]
    files: Mapping[str, StoredFile]
    store: Store | None


def _make_verdict(planned: TargetPlan, target: Target, answer: PipOutput, bundled: _BundleContents) -> Verdict:
    mine = {one.name: bundled.wheels[one.file] for one in planned.install if one.file in bundled.wheels}
    findings = [
        *compare_with_plan(planned, target, answer, bundled.wheels),
        *find_clashes([one.wheel for one in mine.values()], planned.facts.os),
    ]
    findings += check_path_length(planned, bundled.manifest, mine.values())
    for name, version, file in _list_files(planned):
        if file in bundled.wheels:
            findings += check_wheel_identity(name, version, bundled.wheels[file], target)
    findings += check_entry_points(mine.values())
    files = {one.name: bundled.files[one.file] for one in planned.install if one.name in mine}
    needs = find_needs(files, target, bundled.store)
    asked = "sonames" in target.probe_output
    rests_on_rule = [one for one in needs.findings if one.code == "library-needed"]
    rests_on_rule += [] if asked else check_usual_libraries(needs.needs)
    findings += [one for one in needs.findings if one not in rests_on_rule]
    rests_on_rule += check_python_patch(planned, mine)
    not_checked = [text("whether its modules can be imported (--live)")]
    if not asked and (needs.needs or planned.facts.os != "linux"):
        not_checked.append(text("which shared libraries that very machine has: its probe would tell"))
    if sources := list_sdists(planned):
        not_checked.append(text("what {names} need and bring, which are built on the target", names=sources))
    failed = any(one.level == "error" for one in findings)
    return Verdict(
        planned.name,
        planned.tag,
        installs=None if "marker" in answer.facts and not failed else not failed,
        findings=tuple(findings),
        forecast=tuple(rests_on_rule),
        modules={name: wheel.top_level_modules for name, wheel in mine.items()},
        limitations=tuple(not_checked),
    )
