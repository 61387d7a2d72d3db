"""Parse and combine targets.

A target is written in tag form (`cp311-manylinux_2_28_x86_64`), as a name of the catalogue (`debian12`,
`rhel8-aarch64:3.11`), as pip's --platform and --python-version, or as a JSON file that the probe or pex printed.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from offlinepack.errors import Finding, SourceError, UsageError, error, note
from offlinepack.ontarget import interpreter
from offlinepack.ontarget.interpreter import collect_facts
from offlinepack.ontarget.manifest import Facts
from offlinepack.targets.catalogue import find_system, load_catalogue, load_data_file, load_pypy_releases
from offlinepack.targets.markers import MARKER_NAMES
from offlinepack.targets.model import Target
from offlinepack.targets.platforms import (
    IMPLEMENTATION_NAMES,
    IMPLEMENTATIONS_BY_TAG,
    MACHINES,
    Platform,
    Python,
    parse_platform,
    parse_version_numbers,
)

_MIN_PYTHON_VERSION = (3, 6)  # oldest Python that the target side supports

_SHARED_ABIS = ("none", "abi3", "abi3t")

_PLATFORM_VERSION_PATTERN = re.compile(r"\d{1,4}\.\d{1,4}")

_KERNEL_MARKERS = ("platform_release", "platform_version")


class _TargetSpec(NamedTuple):
    """Parsed text of a target, whose Python may be undecided."""

    platform: Platform
    python: Python | None = None
    default_python: Python | None = None
    offered_pythons: tuple[str, ...] = ()
    system_python: str | None = None
    """version X.Y.Z of the system's own interpreter"""

    def make_target(self, python: Python, name: str) -> Target:
        """Make the target with this Python; the system's own X.Y stands for the patch release that the system ships."""
        target = _make_target(self.platform, python, name)
        if self.system_python is None or python != _parse_python(self.system_python.rpartition(".")[0]):
            return target
        return replace(
            target,
            marker_overrides=(
                ("implementation_version", self.system_python),
                ("python_full_version", self.system_python),
            ),
        )


def parse_target(spec: str, python_version: str = "") -> Target:
    """Parse a target: tag form, NAME[-ARCH][:X.Y], a platform or the path of a JSON file.

    `python_version` (X.Y[.Z][t]) is used if the text names no Python. Raises UsageError or SourceError.
    """
    return _parse_targets(spec, [_parse_python(python_version)] if python_version else [])[0]


def combine_targets(
    platforms: Sequence[str] = (),
    python_versions: Sequence[str] = (),
    implementations: Sequence[str] = (),
    abis: Sequence[str] = (),
    names: Sequence[str] = (),
    default: Callable[[], Target] | None = None,
) -> tuple[Target, ...]:
    """Make a target for each combination of the options, without duplicates and in their order; none without options.

    Python versions, implementations and ABIs are combined with the platforms; without platforms, with each name that
    has no Python; without names, with the platform of `default` (the running interpreter). `default` also supplies the
    Python if only platforms are given. Raises UsageError with all texts that cannot be parsed, or if two different
    targets have the same tag.
    """
    get_default = cache(default or get_running_target)
    pythons = _combine_pythons(python_versions, implementations, abis, get_default)
    targets: list[Target] = []
    problems: list[Finding] = []
    for name in platforms:
        try:
            targets += [
                _make_target(_find_platform(name), python) for python in pythons or [_get_python(get_default())]
            ]
        except UsageError as wrong:
            problems += wrong.findings
    for name in names:
        try:
            targets += _parse_targets(name, [] if platforms else pythons)
        except UsageError as wrong:
            problems += wrong.findings
    if problems:
        raise UsageError(*problems)
    if not platforms and not names:
        targets = [_make_target(Platform(*get_default().facts[3:]), python) for python in pythons]
    return _merge_duplicates(targets)


def report_unused_abis(abis: Iterable[str]) -> tuple[Finding, ...]:
    """Return a note for each --abi that selects no target."""
    return tuple(
        note("abi-without-target", abi, "--abi {subject} makes no target: it says which wheels, not which Python.")
        for abi in abis
        if abi in _SHARED_ABIS
    )


def make_target_from_facts(answer: Mapping[str, Any], name: str = "") -> Target:
    """Make a target from the output of the probe, from pex's complete platform or from a mapping of Facts.

    Raises SourceError if the mapping is invalid or describes an unsupported interpreter.
    """
    markers = answer.get("marker_environment")
    markers = markers if isinstance(markers, dict) else {}
    try:
        named = bool(answer.get("implementation"))
        facts = _parse_facts(answer) if named else _derive_facts(answer["compatible_tags"], markers)
        level = facts.macos_version if facts.os == "macos" else facts.libc_version
        if facts.machine not in MACHINES.get(facts.os, ()):
            raise ValueError(f"{facts.os} {facts.machine}")
        if facts.os == "linux" and facts.libc not in ("glibc", "musl"):
            raise ValueError(f"libc {facts.libc}")
        if facts.os != "windows" and not _PLATFORM_VERSION_PATTERN.fullmatch(level or ""):
            raise ValueError(f"{facts.os} {facts.libc or ''} {level}")
        python = _parse_python(facts.python + "t" * bool(facts.free_threaded))._replace(
            implementation=facts.implementation
        )
        target = _make_target(Platform(*facts[3:]), python, name)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, UsageError) as wrong:
        raise SourceError(
            error(
                "facts-invalid",
                name or "JSON",
                "{subject} does not describe an interpreter that offlinepack packs for: {reason}.",
                "It takes the output of `offlinepack probe` and of `pex3 interpreter inspect --markers --tags`.",
                reason=wrong.findings[0].sentence if isinstance(wrong, UsageError) else f"{wrong}",
            )
        ) from wrong
    markers_given = {key: str(markers[key]) for key in MARKER_NAMES if key in markers}
    differ = {key: value for key, value in markers_given.items() if target.environment.get(key) != value}
    return replace(target, marker_overrides=tuple(sorted(differ.items())), probe_output=answer)


def serialize_facts(facts: Facts) -> dict[str, Any]:
    """Return facts with the keys of `--json` output, which are also those of the probe."""
    return {
        "implementation": facts.implementation,
        "python": facts.python,
        "free_threaded": facts.free_threaded,
        "os": facts.os,
        "machine": facts.machine,
        "libc": facts.libc,
        "libc_version": facts.libc_version,
        "macos_version": facts.macos_version,
    }


def _parse_facts(answer: Mapping[str, Any]) -> Facts:
    get: Callable[[str], Any] = answer.get
    return Facts(
        implementation=get("implementation"),
        python=get("python"),
        free_threaded=get("free_threaded"),
        os=get("os"),
        machine=get("machine"),
        libc=get("libc"),
        libc_version=get("libc_version"),
        macos_version=get("macos_version"),
    )


def get_running_target() -> Target:
    """Return the running interpreter as a target, with its patch release and without the markers of its kernel."""
    return _make_host_target(collect_facts())


def probe_interpreter(path: str | Path) -> Target:
    """Return another interpreter of the build host as a target, as `get_running_target` does, by running it.

    Raises UsageError if it does not run.
    """
    command = [str(path), "-I", "-B", interpreter.__file__, "--facts"]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
        )
        return _make_host_target(json.loads(process.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as wrong:
        raise UsageError(
            error(
                "python-silent",
                path,
                "{subject} does not run as a Python of version 3.6 or newer.",
                "Name the interpreter itself, for example /usr/bin/python3.11.",
                log=str(getattr(wrong, "stderr", None) or wrong)[-2000:],
            )
        ) from wrong


def _make_host_target(answer: Mapping[str, Any]) -> Target:
    markers = {key: value for key, value in answer["marker_environment"].items() if key not in _KERNEL_MARKERS}
    return make_target_from_facts({**answer, "marker_environment": markers})


def _parse_targets(spec: str, pythons: Sequence[Python]) -> list[Target]:
    """Parse a text into targets: with the Python it names, else with each of `pythons`, else with its default."""
    spec = spec.strip()
    written = _parse_spec(spec)
    if isinstance(written, Target):
        return [written]
    if written.python or not pythons:
        python = written.python or written.default_python
        if python is None:
            versions = written.offered_pythons or [
                version.rpartition(".")[0] for version in load_data_file("pythons.toml")["cpython"]["versions"]
            ]
            raise UsageError(
                error(
                    "target-without-python",
                    spec,
                    "{subject} says no Python, and none comes with it by default.",
                    "Write {subject}:X.Y or add --python-version X.Y. Known are {known}.",
                    known=list(versions),
                )
            )
        return [written.make_target(python, spec)]
    return [written.make_target(python, f"{spec}:{python.short_name}") for python in pythons]


def _parse_spec(spec: str) -> _TargetSpec | Target:
    if tag_form := re.fullmatch(r"((?:cp|pp)\d\d{1,2}t?)-(\w+)", spec, re.I):
        return _TargetSpec(_find_platform(tag_form[2]), _parse_python(tag_form[1].lower()))
    if spec.endswith(".json") or "/" in spec or "\\" in spec:
        return _read_probe_file(Path(spec))
    base, _, version = spec.partition(":")
    if entry := find_system(base):
        system, machine = entry
        default = _parse_python(system.default) if system.default else None
        python = _parse_python(version) if version else None
        return _TargetSpec(system.make_platform(machine), python, default, system.pythons, system.own_python)
    if platform := parse_platform(base):
        return _TargetSpec(platform, _parse_python(version) if version else None)
    if Path(spec).is_file():
        return _read_probe_file(Path(spec))
    raise _make_unknown_error(base, "target")


def _read_probe_file(path: Path) -> Target:
    try:
        document = json.loads(path.read_bytes())  # also in UTF-16, which PowerShell's > writes
    except FileNotFoundError:
        raise UsageError(
            error("facts-missing", path, "There is no file {subject}.", "Check the path that was given as --target.")
        ) from None
    except (OSError, ValueError) as wrong:
        raise SourceError(
            error("facts-unreadable", path, "{subject} cannot be read as JSON: {reason}.", reason=str(wrong))
        ) from wrong
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem)[:99].lstrip("._-")
    return make_target_from_facts(document if isinstance(document, dict) else {}, name)


def _derive_facts(tags: Sequence[str], markers: Mapping[str, str]) -> Facts:
    """Derive facts from pex's list of tags: the Python from the first tag, the system from the highest version."""
    python_tag, abi = tags[0].split("-")[:2]
    platforms = {platform for tag in tags if (platform := tag.split("-")[2]) != "any"}
    leveled = [platform for platform in platforms if not platform.startswith("linux_")] or platforms
    systems = [parsed for tag in leveled if (parsed := parse_platform(tag))]
    system = max(systems, key=lambda system: parse_version_numbers(system.libc_version or system.macos_version or "0"))
    python = _parse_python(python_tag + "t" * bool(re.search(r"\dt\Z", abi)))
    full = re.match(r"\d+\.\d+\.\d+", markers.get("python_full_version", ""))
    return Facts(python.implementation, full[0] if full else python.version, python.free_threaded, *system)


def _make_target(platform: Platform, python: Python, name: str = "") -> Target:
    """Make a target, named by its tag if `name` is empty; raise UsageError for an unsupported Python."""
    if python.implementation not in IMPLEMENTATION_NAMES:
        raise UsageError(_report_unknown_implementation(python.implementation))
    if python.free_threaded and (
        python.implementation != "cpython" or parse_version_numbers(python.version)[:2] < (3, 13)
    ):
        raise UsageError(
            error(
                "python-not-free-threaded",
                python.short_name,
                "There is no free-threaded Python {subject}.",
                "CPython has it from 3.13 on; write 3.13t.",
            )
        )
    if platform.macos_version and parse_version_numbers(platform.macos_version)[0] >= 11:
        # since macOS 11 the tags know whole releases only
        platform = platform._replace(macos_version=platform.macos_version.split(".")[0] + ".0")
    target = Target(name, Facts(python.implementation, python.version, python.free_threaded, *platform))
    return target if name else replace(target, name=target.tag)


def _merge_duplicates(targets: Sequence[Target]) -> tuple[Target, ...]:
    """Merge equal targets and join their names; raise UsageError if different targets have the same tag."""
    distinct: dict[str, Target] = {}
    for target in targets:
        same = distinct.setdefault(target.tag, target)
        if same.facts == target.facts and not (same.marker_overrides and target.marker_overrides):
            # any patch release, and the one that a system ships: files that fit that one fit newer ones too
            same = replace(same, marker_overrides=same.marker_overrides or target.marker_overrides)
        elif (same.facts, same.marker_overrides) != (target.facts, target.marker_overrides):
            raise UsageError(
                error(
                    "targets-alike",
                    target.name,
                    "{subject} and {other} differ, but both would be {tag} in the bundle.",
                    "Leave one of them out, or make a bundle for each.",
                    other=same.name,
                    tag=target.tag,
                )
            )
        names = dict.fromkeys((*same.name.split("+"), target.name))
        joined = "+".join(name for name in names if name != target.tag) or target.tag
        distinct[target.tag] = replace(same, name=joined) if len(joined) <= 100 else same
    return tuple(distinct.values())


def _parse_python(written: str) -> Python:
    """Parse a Python version: 3.11, 311, 3.11.4, 3.13t, pp3.10; raise UsageError if it is invalid or too old."""
    match = re.fullmatch(r"(cp|pp)?([23])\.?(\d{1,2})(\.\d{1,3})?(t?)", written.strip().lower())
    if not match:
        raise UsageError(
            error("python-version", written, "{subject} is no Python version.", "Write it as 3.11, 3.11.4 or 3.13t.")
        )
    if (int(match[2]), int(match[3])) < _MIN_PYTHON_VERSION:
        raise UsageError(
            error("python-too-old", written, "Python {subject} is too old to install on.", "The oldest is 3.6.")
        )
    version = f"{match[2]}.{int(match[3])}{match[4] or ''}"
    return Python(IMPLEMENTATIONS_BY_TAG[match[1] or "cp"], version, bool(match[5]))


def _get_python(target: Target) -> Python:
    facts = target.generic().facts
    return Python(facts.implementation, facts.python, facts.free_threaded)


def _combine_pythons(
    versions: Sequence[str], implementations: Sequence[str], abis: Sequence[str], get_default: Callable[[], Target]
) -> list[Python]:
    """Combine versions, implementations and ABIs; an ABI selects a build of its version, and alone also the version."""
    abi_facts = {abi: _parse_abi(abi) for abi in abis if abi not in _SHARED_ABIS}
    requested = [_parse_python(version) for version in versions]
    kinds = [IMPLEMENTATIONS_BY_TAG.get(implementation, implementation) for implementation in implementations]
    if wrong := [_report_unknown_implementation(kind) for kind in kinds if kind not in IMPLEMENTATION_NAMES]:
        raise UsageError(*wrong)
    if not requested:
        requested = list(abi_facts.values()) or ([_get_python(get_default())] if kinds else [])
    pythons: list[Python] = []
    unused = dict(abi_facts)
    for python, kind in product(requested, kinds or [""]):
        variant = python._replace(implementation=kind or python.implementation)
        builds = {abi: same for abi, build in abi_facts.items() if (same := _match_build(variant, build))}
        pythons += builds.values() or [variant]
        unused = {abi: build for abi, build in unused.items() if abi not in builds}
    if unused:
        raise UsageError(
            *(
                error(
                    "abi-without-python",
                    abi,
                    "--abi {subject} is of none of the Python versions that are asked for.",
                    "Leave it out, or add its --python-version.",
                )
                for abi in unused
            )
        )
    return list(dict.fromkeys(pythons))


def _match_build(requested: Python, build: Python) -> Python | None:
    """Return the Python with both the requested version and the build of an ABI; None if they exclude each other."""
    more, less = sorted((requested.version, build.version), key=len, reverse=True)
    alike = requested.implementation == build.implementation and (more == less or more.startswith(less + "."))
    return build._replace(version=more) if alike and requested.free_threaded <= build.free_threaded else None


def _parse_abi(abi: str) -> Python:
    """Parse an ABI into a Python; for PyPy into the newest release with that ABI, unless that is the default anyway."""
    match = re.fullmatch(r"cp(\d{2,3}t?)m?|pypy(\d{2,3})_pp(\d+)", abi)
    if not match:
        raise UsageError(
            error("abi-unknown", abi, "{subject} is no ABI of a target.", "Write it as cp311, cp313t or pypy310_pp73.")
        )
    python = _parse_python(match[1] or "pp" + match[2])
    releases = {
        release: pypy_version
        for release, pypy_version in load_pypy_releases().items()
        if release.rpartition(".")[0] == python.version
    }
    same = [release for release, pypy_version in releases.items() if "".join(pypy_version.split(".")[:2]) == match[3]]
    return python if match[1] or same[:1] == list(releases)[:1] or not same else python._replace(version=same[0])


def _report_unknown_implementation(name: str) -> Finding:
    return error("implementation-unknown", name, "offlinepack does not pack for {subject}.", "It knows cp and pp.")


def _find_platform(written: str) -> Platform:
    """Parse a value of --platform: a platform tag, a triple or a name of the catalogue."""
    entry = find_system(written)
    platform = entry[0].make_platform(entry[1]) if entry else parse_platform(written)
    if platform is None:
        raise _make_unknown_error(written, "platform")
    return platform


def _make_unknown_error(written: str, label: str) -> UsageError:
    """Make the error for an unknown target or platform, with similar names."""
    names = [name for system in load_catalogue() for name in (system.name, *system.synonyms)]
    families: dict[str, str] = load_data_file("catalogue.toml")["families"]
    names += [
        family + name[len(prefix) :] for family, prefix in families.items() for name in names if name.startswith(prefix)
    ]
    levels = ("manylinux_2_17", "manylinux_2_28", "manylinux2014", "musllinux_1_2", "linux")
    names += [f"{level}_{machine}" for level in levels for machine in ("x86_64", "aarch64")]
    names += ["win_amd64", "win_arm64", "macosx_11_0_arm64", "macosx_13_0_x86_64"]
    near = difflib.get_close_matches(written.lower(), names, n=3)
    near = near or difflib.get_close_matches(written.lower().partition("-")[0], names, n=3)
    if near:
        code = f"unknown-{label}"
        problem = error(code, written, "No machine is known as {subject}.", "Did you mean {near}?", near=near)
    elif label == "platform":
        problem = error(
            "unknown-platform",
            written,
            "No platform is known as {subject}.",
            "They are written as manylinux_2_28_x86_64, musllinux_1_2_x86_64, win_amd64 or macosx_11_0_arm64.",
        )
    else:
        problem = error(
            "unknown-target",
            written,
            "No machine is known as {subject}.",
            "`offlinepack targets` lists the names; a file that the probe wrote on the machine itself will do, too.",
        )
    return UsageError(problem)
