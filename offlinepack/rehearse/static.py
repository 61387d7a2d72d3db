"""The static rehearsal: pip, seeing the target, resolves from the bundle's files alone; wheels are placed in memory.

What pip comes to must be the manifest's plan (resolved.py). Then each wheel (wheels.py) is laid where it would lie on
the target, and nothing is written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offlinepack import native
from offlinepack.bundle.layout import Member
from offlinepack.bundle.reader import Bundle
from offlinepack.errors import Finding, MachineError, error, note, raise_on_errors, text, warning
from offlinepack.native import is_usual
from offlinepack.ontarget.destinations import find_clashes
from offlinepack.ontarget.manifest import Manifest, Need, TargetPlan
from offlinepack.pip_shim.run import PipOutput
from offlinepack.rehearse import Verdict
from offlinepack.rehearse.resolved import compared, resolved, same, sources_of
from offlinepack.rehearse.wheels import Known, know
from offlinepack.store import Store, StoredFile
from offlinepack.targets import Target

MAX_PATH = 259
"""Windows, without its long paths: characters of a path"""

ROOM = 60
"""characters that the folder of an environment may well have; where less is left, a warning says so"""


def rehearse(
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
    files = set(_wheels(wanted))
    with _folder(bundle) as folder, ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        read = {one: pool.submit(know, folder / one) for one in _placed(bundle, wanted, folder) if one in files}
        wheels = {one: read[one].result() for one in sorted(read)}
        answers = [pool.submit(resolved, one, folder, wheels) for one in wanted]
        bundled = _Bundled(
            bundle.manifest,
            wheels,
            {one.path: StoredFile(one.path, folder / one.path, one.size, one.sha256) for one in bundle.manifest.files},
            store,
        )
        for planned, answer in zip(wanted, answers, strict=True):
            target = (machines or {}).get(planned.tag) or Target(planned.name, planned.facts)
            yield _verdict(planned, target, answer.result(), bundled)


def rehearse_unwritten(
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
        for verdict in rehearse(Bundle(Path(folder), manifest, b"", {}), None, machines, store):
            failed += verdict.findings if verdict.installs is False else ()
            yield verdict
    raise_on_errors(MachineError, failed)


@contextmanager
def _folder(bundle: Bundle) -> Iterator[Path]:
    """The bundle's own where it is one, else one that is empty."""
    if bundle.path.is_dir():
        yield bundle.path
    else:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            yield Path(folder)


def _placed(bundle: Bundle, targets: Sequence[TargetPlan], folder: Path) -> Iterator[str]:
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


def _wheels(targets: Iterable[TargetPlan]) -> list[str]:
    return sorted({file for target in targets for _, _, file in _listed(target) if file.endswith(".whl")})


def _listed(planned: TargetPlan) -> list[tuple[str, str, str]]:
    """Name, version and file of all that a target takes, tools last."""
    install = [(one.name, one.version, one.file) for one in planned.install]
    return install + [(one.name, one.version, one.file) for one in planned.tools]


@dataclass(frozen=True)
class _Bundled:
    """The bundle's files, by their paths."""

    manifest: Manifest
    wheels: Mapping[str, Known]
    files: Mapping[str, StoredFile]
    store: Store | None


def _verdict(planned: TargetPlan, target: Target, answer: PipOutput, bundled: _Bundled) -> Verdict:
    mine = {one.name: bundled.wheels[one.file] for one in planned.install if one.file in bundled.wheels}
    findings = [
        *compared(planned, target, answer, bundled.wheels),
        *find_clashes([one.wheel for one in mine.values()], planned.facts.os),
    ]
    findings += _too_long(planned, bundled.manifest, mine.values())
    for name, version, file in _listed(planned):
        if file in bundled.wheels:
            findings += _consistent(name, version, bundled.wheels[file], target)
    findings += _dangling(mine.values())
    files = {one.name: bundled.files[one.file] for one in planned.install if one.name in mine}
    needs = native.needs(files, target, bundled.store)
    asked = "sonames" in target.probe
    rests_on_rule = [one for one in needs.findings if one.code == "library-needed"]
    rests_on_rule += [] if asked else _taken_for_granted(needs.needs)
    findings += [one for one in needs.findings if one not in rests_on_rule]
    rests_on_rule += _of_a_patch_release(planned, mine)
    not_checked = [text("whether its modules can be imported (--live)")]
    if not asked and (needs.needs or planned.facts.os != "linux"):
        not_checked.append(text("which shared libraries that very machine has: its probe would tell"))
    if sources := sources_of(planned):
        not_checked.append(text("what {names} need and bring, which are built on the target", names=sources))
    failed = any(one.level == "error" for one in findings)
    return Verdict(
        planned.name,
        planned.tag,
        installs=None if "marker" in answer.facts and not failed else not failed,
        findings=tuple(findings),
        forecast=tuple(rests_on_rule),
        modules={name: wheel.top for name, wheel in mine.items()},
        not_checked=tuple(not_checked),
    )


def _of_a_patch_release(planned: TargetPlan, wheels: Mapping[str, Known]) -> list[Finding]:
    """Where only the newer patch releases of the target's Python will do, and any was asked for."""
    if planned.facts.python.count(".") > 1 or planned.python_min.count(".") < 2:
        return []
    first = f"{planned.facts.python}.0"
    names = [name for name, wheel in wheels.items() if not wheel.python.contains(first)]
    return [
        note(
            "python-patch",
            ", ".join(names) or planned.name,
            "{subject}: Python {wanted} or newer is wanted; an older {minor} will be refused.",
            "If {target} has an older one, name it: --python-version {minor}.Z, or its probe's file.",
            wanted=planned.python_min,
            minor=planned.facts.python,
            target=planned.name,
        )
    ]


def _taken_for_granted(needs: Sequence[Need]) -> list[Finding]:
    """Libraries that every server installation has."""
    found = [one for one in needs if is_usual(one.soname)]
    subject = ", ".join(sorted({name for one in found for name in one.wanted_by}))
    return (
        [
            note(
                "library-usual",
                subject,
                "{subject}: ordinary servers have {sonames}, which is wanted; bare containers may lack it.",
                "Where it is missing: {help}",
                sonames=[one.soname for one in found],
                help=", ".join(dict.fromkeys(one.help for one in found if one.help)),
            )
        ]
        if found
        else []
    )


def _too_long(planned: TargetPlan, manifest: Manifest, wheels: Iterable[Known]) -> list[Finding]:
    """Paths that Windows cannot hold, below the place that the bundle names, or anywhere."""
    if planned.facts.os != "windows":
        return []
    # as preflight counts: <place>.d\<12 digits>\Lib\site-packages\<path>; bytecode adds 25 characters
    lengths = [
        (len(place) + (25 if place.endswith(".py") else 0), one.wheel, place) for one in wheels for place in one.places
    ]
    if not lengths:
        return []
    longest, wheel, place = max(lengths, key=lambda one: (one[0], one[2]))
    left = MAX_PATH - longest - len(r".d\0123456789ab\Lib\site-packages\\") + 1
    facts: dict[str, Any] = {"file": place, "target": planned.name, "most": left}
    if manifest.install_to and len(manifest.install_to) > left:
        return [
            error(
                "path-too-long",
                wheel.filename,
                "{subject}: {file} lies too deep for {place} on {target}; at most {most} characters are left for that.",
                "Pack it for a shorter place (--install-to), or enable long paths in Windows.",
                place=manifest.install_to,
                **facts,
            )
        ]
    if left >= ROOM:
        return []
    return [
        warning(
            "path-long",
            wheel.filename,
            "{subject}: {file} lies so deep that on {target} an environment's path may have only {most} characters.",
            "Install it near the root of a drive, or enable long paths in Windows.",
            **facts,
        )
    ]


def _consistent(name: str, version: str, known: Known, target: Target) -> list[Finding]:
    """The wheel is what the plan says, and is for this target."""
    wheel, python = known.wheel, known.python
    found = []
    if wheel.name != name or not same(wheel.version, version):
        found.append(
            error(
                "other-distribution",
                wheel.filename,
                "{subject} is {name} {version} by its own metadata; the plan of {target} calls it {planned}.",
                "Build the bundle again.",
                name=wheel.name,
                version=wheel.version,
                planned=f"{name} {version}",
                target=target.name,
            )
        )
    if why := target.why_not(wheel.filename):
        found.append(
            error(
                "wheel-unfit",
                wheel.filename,
                "{subject} is not for {target}: it {why}.",
                "Lock again for this target.",
                target=target.name,
                why=why,
            )
        )
    if not python.contains(target.environment["python_full_version"], prereleases=True):
        found.append(
            error(
                "wrong-python",
                name,
                "{subject} {version} wants Python {wanted}; {target} has {python}.",
                "Lock again for this target.",
                version=version,
                wanted=python,
                target=target.name,
                python=target.environment["python_full_version"],
            )
        )
    return found


def _dangling(wheels: Collection[Known]) -> list[Finding]:
    """Commands, and other entry points into the distribution itself, whose module is not there."""
    every = frozenset().union(*(one.modules for one in wheels))
    return [
        warning(
            "entry-point-dangles",
            one.wheel.filename,
            "{subject}: its entry point {name} names the module {module}, which is not there.",
            "It will not work; the rest may. Ask its makers.",
            name=name,
            module=module,
        )
        for one in wheels
        for name, module, bare in one.entry_points
        if module not in every and not (bare and module.rpartition(".")[0] in every)
    ]
