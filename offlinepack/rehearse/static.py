"""The static rehearsal: pip, seeing the target, resolves from the bundle's files alone; wheels are placed in memory.

What pip comes to must be the manifest's plan: nothing missing, nothing superfluous. It may take only the plan's
versions (a bundle for several targets holds others too), so that what it says is about this plan. Then each wheel is
laid where it would lie on the target, and nothing is written.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack import native, pip_as_target
from offlinepack.bundle import Bundle, Member
from offlinepack.errors import Finding, MachineError, error, note, raise_all, text, warning
from offlinepack.ontarget.manifest import WHEELS, Distribution, Manifest, Need
from offlinepack.ontarget.manifest import Target as Planned
from offlinepack.ontarget.wheel import Wheel, clashes, landings, read_wheel
from offlinepack.pip_as_target import Answer, Rules
from offlinepack.rehearse import Verdict
from offlinepack.store import Store, StoredFile
from offlinepack.targets import Target, UnknownMarker

MAX_PATH = 259
"""Windows, without its long paths: characters of a path"""
ROOM = 60
"""characters that the folder of an environment may well have; where less is left, a warning says so"""
_MODULE = re.compile(r"(.+?)(?:\.(?:cpython-[\w-]+|pypy[\w-]+|cp\d+t?-\w+|abi3t?))?\.(?:py|pyc|so|pyd)\Z")


def rehearse(
    bundle: Bundle,
    targets: Sequence[Planned] | None = None,
    machines: Mapping[str, Target] | None = None,
    store: Store | None = None,
) -> Iterator[Verdict]:
    """A verdict for each of these targets of the bundle (all of them), side by side, in the manifest's order.

    `machines`: tag -> what is known of that target beyond the manifest, the libraries that its probe found. `store`
    knows the native code of wheels that it has. IntegrityError where the bundle or one of its wheels is not sound.
    """
    wanted = tuple(targets if targets is not None else bundle.manifest.targets)
    with _files(bundle, wanted) as folder, ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        wheels = dict(zip(files := _wheels(wanted), pool.map(lambda one: read_wheel(folder / one), files), strict=True))
        answers = [pool.submit(_resolved, one, folder, wheels) for one in wanted]
        known = _Known(
            bundle.manifest,
            wheels,
            {file: _names_in(wheel) for file, wheel in wheels.items()},
            {one.path: StoredFile(one.path, folder / one.path, one.size, one.sha256) for one in bundle.manifest.files},
            store,
        )
        for planned, answer in zip(wanted, answers, strict=True):
            target = (machines or {}).get(planned.tag) or Target(planned.name, planned.facts)
            yield _verdict(planned, target, answer.result(), known)


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
    raise_all(MachineError, failed)


@contextmanager
def _files(bundle: Bundle, targets: Sequence[Planned]) -> Iterator[Path]:
    """A folder with `wheels/` of these targets; the bundle's own where it is one."""
    if bundle.path.is_dir():
        yield bundle.path
        return
    wanted = {one.path for target in targets for one in bundle.manifest.files_of(target)}
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for member in bundle.members():
            if member.file.path in wanted:
                member.place(Path(folder))
            else:
                member.exhaust()
        yield Path(folder)


def _wheels(targets: Iterable[Planned]) -> list[str]:
    return sorted({file for target in targets for _, _, file in _listed(target) if file.endswith(".whl")})


def _listed(planned: Planned) -> list[tuple[str, str, str]]:
    """Name, version and file of all that a target takes, tools last."""
    install = [(one.name, one.version, one.file) for one in planned.install]
    return install + [(one.name, one.version, one.file) for one in planned.tools]


@dataclass(frozen=True)
class _Names:
    """What can be imported from a wheel."""

    modules: frozenset[str]
    """dotted, with the packages that they lie in"""
    top: tuple[str, ...]
    """the outermost that are no mere folders: google.protobuf, not google"""


@dataclass(frozen=True)
class _Known:
    """What was read of the bundle's files, by their paths."""

    manifest: Manifest
    wheels: Mapping[str, Wheel]
    names: Mapping[str, _Names]
    files: Mapping[str, StoredFile]
    store: Store | None


def _verdict(planned: Planned, target: Target, answer: Answer, known: _Known) -> Verdict:
    wheels, names = known.wheels, known.names
    mine = [wheels[one.file] for one in planned.install if one.file in wheels]
    findings = [*_compared(planned, target, answer), *clashes(mine, planned.facts.os)]
    findings += _too_long(planned, known.manifest, mine)
    for name, version, file in _listed(planned):
        if file in wheels:
            findings += _consistent(name, version, wheels[file], target)
    every = frozenset().union(*(names[one.file].modules for one in planned.install if one.file in names))
    for wheel in mine:
        findings += _entry_points(wheel, every)
    files = {one.name: known.files[one.file] for one in planned.install if one.file in wheels}
    needs = native.needs(files, target, known.store)
    asked = "sonames" in target.probe
    rests_on_rule = [one for one in needs.findings if one.code == "library-needed"]
    rests_on_rule += [] if asked else _taken_for_granted(needs.needs)
    findings += [one for one in needs.findings if one not in rests_on_rule]
    rests_on_rule += _of_a_patch_release(planned, wheels)
    not_checked = [text("whether its modules can be imported (--live)")]
    if not asked and (needs.needs or planned.facts.os != "linux"):
        not_checked.append(text("which shared libraries that very machine has: its probe would tell"))
    if sources := _sources(planned):
        not_checked.append(text("what {names} need and bring, which are built on the target", names=sources))
    failed = any(one.level == "error" for one in findings)
    return Verdict(
        planned.name,
        planned.tag,
        installs=None if "marker" in answer.told and not failed else not failed,
        findings=tuple(findings),
        forecast=tuple(rests_on_rule),
        modules={one.name: names[one.file].top for one in planned.install if one.file in names},
        not_checked=tuple(not_checked),
    )


def _of_a_patch_release(planned: Planned, wheels: Mapping[str, Wheel]) -> list[Finding]:
    """Where only the newer patch releases of the target's Python will do, and any was asked for."""
    if planned.facts.python.count(".") > 1 or planned.python_min.count(".") < 2:
        return []
    first = f"{planned.facts.python}.0"
    names = [
        one.name for one in planned.install if one.file in wheels and not _python_of(wheels[one.file]).contains(first)
    ]
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


def _python_of(wheel: Wheel) -> SpecifierSet:
    raw, _ = parse_email(wheel.metadata)
    try:
        return SpecifierSet(raw.get("requires_python", ""))
    except InvalidSpecifier:
        return SpecifierSet()


def _taken_for_granted(needs: Sequence[Need]) -> list[Finding]:
    """Libraries that every server installation has."""
    found = [one for one in needs if native.is_usual(one.soname)]
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


def _sources(planned: Planned) -> list[str]:
    """Distributions that go over as sdists."""
    return [one.name for one in planned.install if not one.file.endswith(".whl")]


# ------------------------------------------------------------------------------------------------- what pip comes to


def _resolved(planned: Planned, folder: Path, wheels: Mapping[str, Wheel]) -> Answer:
    """pip's answer to what was asked for, with nothing but the bundle's files and the plan's versions."""
    target, sources = Target(planned.name, planned.facts), _sources(planned)
    asked = [one for one in planned.install if one.requested and one.name not in sources]
    lines = [_line(one, wheels[one.file], target) for one in asked]
    # what an extra of a dependency, or a source, brings: the plan says that it does, pip would not know
    beside = {name for one in planned.install for name in set(one.requires) - _brought(one, wheels, target)}
    versions = {one.name: one.version for one in planned.install}
    lines += [f"{name}=={versions[name]}" for name in sorted(beside - set(sources) - {one.name for one in asked})]
    command = ["pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--no-index", "--no-cache-dir"]
    command += ["--find-links", str((folder / WHEELS).absolute()), "--only-binary", ":all:", "--pre"]
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as here:
        pins = "".join(f"{name}=={version}\n" for name, version in versions.items())
        Path(here, "constraints.txt").write_text(pins, "utf-8")
        Path(here, "requirements.txt").write_text("".join(f"{one}\n" for one in lines), "utf-8")
        command += ["--constraint", "constraints.txt", "-r", "requirements.txt", "--report", "report.json"]
        rules = Rules(excluded=tuple(sources))
        return pip_as_target.run(target, command, environment={}, cwd=Path(here), rules=rules)


def _brought(one: Distribution, wheels: Mapping[str, Wheel], target: Target) -> set[str]:
    """What its metadata wants without an extra."""
    raw, _ = parse_email(wheels[one.file].metadata) if one.file in wheels else ({}, {})
    needs = [each for each in map(_requirement, raw.get("requires_dist", [])) if each]
    return {canonicalize_name(each.name) for each in needs if _holds(each, "", target)}


def _line(one: Distribution, wheel: Wheel, target: Target) -> str:
    """name[extras]==version; the extras are those that account for what the plan says it needs."""
    raw, _ = parse_email(wheel.metadata)
    needs = [each for each in map(_requirement, raw.get("requires_dist", [])) if each]

    def needed(extra: str) -> set[str]:
        return {canonicalize_name(each.name) for each in needs if _holds(each, extra, target)}

    extras, open_ = [], set(one.requires) - needed("")
    for extra in sorted(raw.get("provides_extra", []), key=lambda each: -len(needed(each) & open_)):
        if needed(extra) & open_ and needed(extra) <= {*one.requires, one.name}:
            extras.append(extra)
            open_ -= needed(extra)
    return f"{one.name}{'[' + ','.join(sorted(extras)) + ']' if extras else ''}=={one.version}"


def _holds(one: Requirement, extra: str, target: Target) -> bool:
    """Where that is not known, pip will stumble over it."""
    try:
        return one.marker is None or target.evaluate(one.marker, [extra])
    except UnknownMarker:
        return False


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _compared(planned: Planned, target: Target, answer: Answer) -> list[Finding]:
    """What pip came to, beside the plan."""
    told, plan = answer.told, {one.name: one for one in planned.install}
    facts: dict[str, Any] = {"target": planned.name}
    if "marker" in told:
        unknown = {"platform_release", "platform_version", "implementation_version"} - set(target.environment)
        found = UnknownMarker(told["marker"], sorted(one for one in unknown if one in told["marker"]), planned.name)
        return [one._replace(level="warning") for one in found.findings]
    if "pins" not in told:
        return _failed(planned, target, answer)
    pins = {canonicalize_name(one["name"]): one["version"] for one in told["pins"]}
    findings = [
        error(
            "not-in-the-plan",
            name,
            "{subject} {version} is needed on {target}, and its plan has {planned}.",
            "Build the bundle again.",
            version=pins[name],
            planned=plan[name].version if name in plan else text("none"),
            **facts,
        )
        for name in sorted(pins)
        if name not in plan or not _same(plan[name].version, pins[name])
    ]
    findings += [
        warning(
            "superfluous",
            name,
            "Nothing that was asked for needs {subject} {version} on {target}.",
            "It does no harm; ask for it by name if it is wanted.",
            version=plan[name].version,
            **facts,
        )
        for name in sorted(set(plan) - set(pins) - set(_sources(planned)))
    ]
    return findings


def _failed(planned: Planned, target: Target, answer: Answer) -> list[Finding]:
    """Why pip cannot install the plan from the bundle."""
    plan = {one.name: one.version for one in planned.install}
    found = []
    for cause in answer.told.get("causes", ()):
        by, _, version = cause["by"].partition(" ")
        name = canonicalize_name(cause["project"])
        facts = {"target": planned.name, "version": version, "wanted": cause["wanted"]}
        if name not in plan and cause["project"].startswith("<Python"):
            finding = error(
                "wrong-python",
                by,
                "{subject} {version} wants Python {wanted}; {target} has {python}.",
                "Lock again for this target.",
                **{**facts, "wanted": cause["specifier"], "python": target.environment["python_full_version"]},
            )
        elif not by:
            finding = error(
                "no-file-that-fits",
                name,
                "The bundle has no file of {wanted} that {target} can install.",
                "Lock again for this target.",
                **facts,
            )
        elif name in plan:
            finding = error(
                "wrong-version",
                by,
                "{subject} {version} needs {wanted}, and the plan of {target} has {planned}.",
                "Lock again; take neither with --no-deps.",
                planned=f"{name} {plan[name]}",
                **facts,
            )
        else:
            finding = error(
                "not-brought",
                by,
                "{subject} {version} needs {wanted} on {target}, and the bundle does not bring it.",
                "Add it to what is packed; --no-deps leaves such out.",
                **facts,
            )
        found.append(finding)
    return found or [
        error(
            "resolver-failed",
            planned.name,
            "pip cannot install the plan of {subject} from the bundle, for a reason that offlinepack does not know.",
            "The words below are pip's.",
            log=answer.end(),
        )
    ]


def _same(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


# ------------------------------------------------------------------------------------------------- placed in memory


def _too_long(planned: Planned, manifest: Manifest, wheels: Iterable[Wheel]) -> list[Finding]:
    """Paths that Windows cannot hold, below the place that the bundle names, or anywhere."""
    if planned.facts.os != "windows":
        return []
    # as preflight counts: <place>.d\<12 digits>\Lib\site-packages\<path>; bytecode adds 25 characters
    lengths = [
        (len(place) - 5 + (25 if place.endswith(".py") else 0), wheel, place)
        for wheel in wheels
        for place, _, _ in landings(wheel)
        if place.startswith("site/")
    ]
    if not lengths:
        return []
    longest, wheel, place = max(lengths, key=lambda one: (one[0], one[2]))
    left = MAX_PATH - longest - len(r".d\0123456789ab\Lib\site-packages\\") + 1
    facts: dict[str, Any] = {"file": place[5:], "target": planned.name, "most": left}
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


def _consistent(name: str, version: str, wheel: Wheel, target: Target) -> list[Finding]:
    """The wheel is what the plan says, and is for this target."""
    found = []
    if wheel.name != name or not _same(wheel.version, version):
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
    python = _python_of(wheel)
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


def _names_in(wheel: Wheel) -> _Names:
    """Modules and packages, from where the files would lie."""
    modules, packages, folders = set[str](), set[str](), set[str]()
    for place, _, _ in landings(wheel):
        parts = place[5:].split("/")
        if not place.startswith("site/") or "__pycache__" in parts:
            continue
        if all(part.isidentifier() for part in parts[:-1]):
            # a folder without __init__.py is a package too
            folders |= {".".join(parts[:depth]) for depth in range(1, len(parts))}
            if (found := _MODULE.match(parts[-1])) and found[1].isidentifier():
                packages |= {".".join(parts[:-1])} if found[1] == "__init__" else set()
                modules.add(".".join(parts[:-1] if found[1] == "__init__" else [*parts[:-1], found[1]]))
    top = {one for one in modules if packages.isdisjoint(_folders(one))} - {""}
    return _Names(frozenset(modules | folders) - {""}, tuple(sorted(top)))


def _folders(module: str) -> list[str]:
    """a, a.b of a.b.c."""
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _entry_points(wheel: Wheel, every: frozenset[str]) -> list[Finding]:
    """Commands, and other entry points into the distribution itself, whose module is not there."""
    wanted = [(command, reference.partition(":")[0].strip(), True) for command, reference, _ in wheel.scripts]
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with zipfile.ZipFile(wheel.path) as archive:
        member = f"{wheel.info}/entry_points.txt"
        if member in archive.namelist():
            parser.read_string(archive.read(member).decode("utf-8", "replace"))
    own = {place[5:].partition("/")[0] for place, _, _ in landings(wheel) if place.startswith("site/")}
    for group in parser.sections():
        if group not in ("console_scripts", "gui_scripts"):
            for name, reference in parser.items(group):
                module = re.split(r"[:\[]", reference)[0].strip()
                wanted.append((f"{group}: {name}", module, False))
    return [
        warning(
            "entry-point-dangles",
            wheel.filename,
            "{subject}: its entry point {name} names the module {module}, which is not there.",
            "It will not work; the rest may. Ask its makers.",
            name=name,
            module=module,
        )
        for name, module, command in wanted
        if module not in every
        and (command or module.partition(".")[0] in own)
        and module.partition(".")[0] not in sys.stdlib_module_names
    ]
