"""Model a target: a name and the facts of an interpreter.

Tags, in pip's order, and marker values are derived from the facts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, generic_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from offlinepack.errors import Text, text
from offlinepack.ontarget.manifest import Facts
from offlinepack.targets.catalogue import find_newest_patch, load_catalogue, load_pypy_releases
from offlinepack.targets.explain import Mismatch
from offlinepack.targets.markers import evaluate_marker
from offlinepack.targets.platforms import (
    IMPLEMENTATION_NAMES,
    IMPLEMENTATIONS_BY_TAG,
    MACHINE_ALIASES,
    SYSTEM_NAMES,
    Platform,
    list_linux_tags,
    parse_platform,
    parse_version_numbers,
)

# uv 0.13 has triples for these levels of x86_64 and aarch64.
_UV_GLIBC_VERSIONS = ("2.17", "2.28", *(f"2.{minor}" for minor in range(31, 41)))


@dataclass(frozen=True)
class Target:
    """Interpreter on a machine: the facts that decide which wheels fit and which markers hold."""

    name: str
    """name as the user wrote it; several names of one target are joined by +"""
    facts: Facts
    marker_overrides: tuple[tuple[str, str], ...] = ()
    """marker values reported by the machine that differ from those derived from the facts, sorted"""
    probe_output: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """contents of a facts file (sonames, disk_free ...); empty if there is none"""

    @property
    def tag(self) -> str:
        """Tag form of the target, as in file names: cp311-manylinux_2_28_x86_64."""
        short = "pp" if self.facts.implementation == "pypy" else "cp"
        return f"{short}{self._version_digits}{'t' * self.facts.free_threaded}-{self.platform_tag}"

    @property
    def platform_tag(self) -> str:
        """Newest platform tag that fits: manylinux_2_28_x86_64, win_amd64, macosx_11_0_arm64."""
        facts = self.facts
        if facts.os == "windows":
            return "win32" if facts.machine == "x86" else f"win_{facts.machine}"
        kind = "macosx" if facts.os == "macos" else "musllinux" if facts.libc == "musl" else "manylinux"
        return f"{kind}_{self._platform_version.replace('.', '_')}_{facts.machine}"

    @property
    def python_full_version(self) -> str:
        """Patch release X.Y.Z: stated in the facts, reported by the machine, or else the newest known one."""
        override = dict(self.marker_overrides).get("python_full_version")
        return override or find_newest_patch(self.facts.python, self.facts.implementation)

    @property
    def _version_digits(self) -> str:
        return "".join(self.facts.python.split(".")[:2])

    @property
    def _platform_version(self) -> str:
        """Version of the C library or of macOS; '0' for Windows."""
        return self.facts.libc_version or self.facts.macos_version or "0"

    @cached_property
    def platform_tags(self) -> tuple[str, ...]:
        """Platform tags that fit, in pip's order: that of the target's own level first."""
        facts = self.facts
        if facts.os == "windows":
            return (self.platform_tag,)
        if facts.os == "macos":
            major, minor = parse_version_numbers(self._platform_version)
            return tuple(mac_platforms((major, minor), facts.machine))
        return tuple(list_linux_tags(facts.machine, facts.libc, *parse_version_numbers(self._platform_version)))

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """Supported tags, best first, as pip lists them on the target machine."""
        version = parse_version_numbers(self.facts.python)[:2]
        if self.facts.implementation == "pypy":
            pypy_tag = f"pp{self._version_digits}"
            tags = generic_tags(pypy_tag, [f"pypy{self._version_digits}_{self._pypy_abi}"], self.platform_tags)
        else:
            pypy_tag = f"cp{self._version_digits}"
            # PEP 3149: ABI tags end in m (pymalloc) until 3.7. PEP 703: t marks a free-threaded build.
            abi = pypy_tag + ("t" if self.facts.free_threaded else "m" if version < (3, 8) else "")
            tags = cpython_tags(version, [abi], self.platform_tags)
        return (*tags, *compatible_tags(version, pypy_tag, self.platform_tags))

    @property
    def _pypy_abi(self) -> str:
        """ABI tag of PyPy: pp73 for the reported 7.3, or else that of the last known PyPy for this Python version."""
        full = parse_version_numbers(self.python_full_version)
        releases = sorted(
            (parse_version_numbers(version), pypy_version) for version, pypy_version in load_pypy_releases().items()
        )
        same = [(release, pypy_version) for release, pypy_version in releases if release[:2] == full[:2]] or releases[
            -1:
        ]
        version = ([pypy_version for release, pypy_version in same if release <= full] or [same[0][1]])[-1]
        return "pp" + "".join(dict(self.marker_overrides).get("implementation_version", version).split(".")[:2])

    @cached_property
    def _tag_ranks(self) -> dict[Tag, int]:
        return {tag: rank for rank, tag in reversed(tuple(enumerate(self.tags)))}

    @cached_property
    def _python_tags(self) -> set[tuple[str, str]]:
        return {(tag.interpreter, tag.abi) for tag in self.tags}

    @cached_property
    def environment(self) -> dict[str, str]:
        """Known marker variables (PEP 508); platform_machine as a kernel of that machine reports it."""
        facts, full = self.facts, self.python_full_version
        machines = {"amd64": "AMD64", "arm64": "ARM64"} if facts.os == "windows" else {}
        derived = {
            "implementation_name": facts.implementation,
            "implementation_version": load_pypy_releases().get(full) if facts.implementation == "pypy" else full,
            "os_name": "nt" if facts.os == "windows" else "posix",
            "platform_machine": machines.get(facts.machine, facts.machine),
            "platform_python_implementation": IMPLEMENTATION_NAMES[facts.implementation],
            "platform_system": {"macos": "Darwin"}.get(facts.os, SYSTEM_NAMES[facts.os]),
            "python_full_version": full,
            "python_version": ".".join(full.split(".")[:2]),
            "sys_platform": {"linux": "linux", "windows": "win32", "macos": "darwin"}[facts.os],
        }
        return {**{key: value for key, value in derived.items() if value is not None}, **dict(self.marker_overrides)}

    def evaluate(self, marker: Marker | str | None, extras: Iterable[str] = (), groups: Iterable[str] = ()) -> bool:
        """Evaluate a marker with these extras and groups; True without a marker.

        Raises UnknownMarkerError if the value depends on an unknown variable.
        """
        return evaluate_marker(marker, self.environment, self.name, extras, groups)

    def rank_wheel(self, filename: str) -> int | None:
        """Return the rank of a wheel on this target, 0 for the best tag; None if none of its tags fits."""
        try:
            tags = parse_wheel_filename(filename)[3]
        except InvalidWheelFilename:
            return None
        return min((self._tag_ranks[tag] for tag in tags if tag in self._tag_ranks), default=None)

    def filter_tags(self, filenames: Iterable[str]) -> list[Tag]:
        """Return the tags of the target that any of these wheels has, best first; only those decide between them."""
        tags: set[Tag] = set()
        for filename in filenames:
            with contextlib.suppress(InvalidWheelFilename):
                tags |= parse_wheel_filename(filename)[3]
        return sorted(tags & self._tag_ranks.keys(), key=self._tag_ranks.__getitem__)

    def explain_mismatch(self, filename: str) -> Text | None:
        """Return why the nearest tag of a wheel does not fit, as the predicate of a sentence; None if a tag fits."""
        missed = self._find_mismatch(filename)
        return missed.reason if missed else None

    def find_nearest(self, filenames: Iterable[str]) -> str | None:
        """Return the unfitting wheel that is nearest to fitting, and the first of several; None if all fit."""
        missed = [(mismatch.distance, name) for name in filenames if (mismatch := self._find_mismatch(name))]
        return min(missed, key=lambda pair: pair[0])[1] if missed else None

    def _find_mismatch(self, filename: str) -> Mismatch | None:
        if self.rank_wheel(filename) is not None:
            return None
        try:
            tags = sorted(parse_wheel_filename(filename)[3], key=str)
        except InvalidWheelFilename:
            return Mismatch((9,), text("is not the name of a wheel"))
        return min((self._compare_tag(tag) for tag in tags), key=lambda missed: missed.distance)

    def _compare_tag(self, tag: Tag) -> Mismatch:
        """Return the distance and the reason of one unfitting tag: of several reasons the one hardest to change."""
        reasons = [reason for reason in (self._compare_platform(tag.platform), self._compare_python(tag)) if reason]
        worst = max(
            reasons, key=lambda missed: missed.distance, default=Mismatch((8,), text("has tags that do not fit"))
        )
        return Mismatch((len(reasons), *worst.distance), worst.reason)

    def _compare_platform(self, tag: str) -> Mismatch | None:
        if tag == "any" or tag in self.platform_tags:
            return None
        facts, other = self.facts, self._parse_platform(tag)
        if other is None or other.os != facts.os:
            return Mismatch((5,), text("is for {system}", system=SYSTEM_NAMES[other.os] if other else tag))
        if other.machine != facts.machine:
            return Mismatch(
                (4,), text("is for {machine}, this target is {own}", machine=other.machine, own=facts.machine)
            )
        if other.libc != facts.libc:
            return Mismatch((3,), text("is for {libc}, this target has {own}", libc=other.libc, own=facts.libc))
        need = other.libc_version or other.macos_version or "0"
        label = facts.libc or "macOS"
        reason = text("needs {what} {need}, this target has {have}", what=label, need=need, have=self._platform_version)
        return Mismatch((0, *parse_version_numbers(need)), reason)

    def _compare_python(self, tag: Tag) -> Mismatch | None:
        if (tag.interpreter, tag.abi) in self._python_tags:
            return None
        kind = re.sub(r"\d.*\Z", "", tag.interpreter)
        digits = tag.interpreter[len(kind) :]
        named = {"cp": "CPython", "pp": "PyPy", "py": "Python"}.get(kind, kind)
        if kind != "py" and IMPLEMENTATIONS_BY_TAG.get(kind) != self.facts.implementation:
            return Mismatch((2,), text("is for {python}", python=named))
        threads = bool(re.search(r"(\d|abi3)t\Z", tag.abi))
        if digits == self._version_digits or (tag.abi == "abi3" and self.facts.free_threaded):
            if threads and not self.facts.free_threaded:
                return Mismatch((1, 0), text("is for free-threaded Python"))
            if self.facts.free_threaded and not threads:
                return Mismatch((1, 0), text("is not for free-threaded Python"))
            return Mismatch((1, 1), text("is for the ABI {abi}", abi=tag.abi))
        version = (int(digits[0]), int(digits[1:])) if re.fullmatch(r"\d{2,3}", digits) else (0, 0)
        spelled = f"{named} {digits[:1]}.{digits[1:]}".rstrip(".") + "t" * threads
        if version > parse_version_numbers(self.facts.python)[:2] and (kind == "py" or tag.abi.startswith("abi3")):
            return Mismatch((1, *version), text("needs {python} or newer", python=spelled))
        return Mismatch((1, 99), text("is for {python}", python=spelled))

    def _parse_platform(self, platform: str) -> Platform | None:
        """Parse the platform tag of a wheel; a universal one of macOS counts as one for this machine."""
        machine = self.facts.machine if self.facts.os == "macos" else "arm64"
        return parse_platform(re.sub(r"(universal2?|intel|fat\w*)\Z", machine, platform))

    def with_libc(self, version: str) -> Target:
        """Return the target with another version of its C library or of macOS; unchanged on Windows."""
        if self.facts.os == "windows":
            return self
        on_macos = self.facts.os == "macos"
        facts = self.facts._replace(macos_version=version) if on_macos else self.facts._replace(libc_version=version)
        changed = replace(self, facts=facts)
        return replace(changed, name=changed.tag) if self.name == self.tag else changed

    def with_minimum_libc(self, filenames: Iterable[str]) -> Target:
        """Return the target with the lowest version of the C library or of macOS on which these wheels still fit.

        The wheels must fit the target. The minimum is glibc 2.17, musl 1.1, macOS 10.9 (arm64: 11.0), because no
        older system runs a supported Python.
        """
        facts = self.facts
        lowest = "10.9" if facts.machine == "x86_64" else "11.0"
        lowest = {"glibc": "2.17", "musl": "1.1"}.get(facts.libc or "", lowest)
        floor = min(lowest, self._platform_version, key=parse_version_numbers)
        for name in filenames:
            tags = [tag for tag in parse_wheel_filename(name)[3] if tag in self._tag_ranks]
            levels = [self._get_platform_version(tag.platform, lowest) for tag in tags]
            floor = max(
                floor, min(levels, default=self._platform_version, key=parse_version_numbers), key=parse_version_numbers
            )
        return self.with_libc(floor)

    def _get_platform_version(self, platform: str, lowest: str) -> str:
        """Return the version that a platform tag requires; `linux_ARCH` states none and counts as the target's."""
        if platform == "any":
            return lowest
        other = None if platform.startswith("linux_") else self._parse_platform(platform)
        level = other and (other.libc_version or other.macos_version)
        return level or self._platform_version

    def generic(self) -> Target:
        """Return the target without its patch release and without the values reported by one machine."""
        python = ".".join(self.facts.python.split(".")[:2])
        return replace(self, facts=self.facts._replace(python=python), marker_overrides=(), probe_output={})

    @property
    def sort_key(self) -> tuple[Any, ...]:
        """Sort key with the most demanding target first: the newer libc or macOS, then a stated patch release."""
        patch = parse_version_numbers(self.facts.python)[2:] or (-1,)
        return (
            tuple(-part for part in parse_version_numbers(self._platform_version)),
            tuple(-part for part in patch),
            self.tag,
        )

    def get_uv_platform(self) -> str | None:
        """Return uv's --python-platform of exactly this target, or None; MACOSX_DEPLOYMENT_TARGET sets the macOS."""
        facts, machine = self.facts, MACHINE_ALIASES.get(self.facts.machine, self.facts.machine)
        if facts.implementation != "cpython" or facts.free_threaded:
            return None
        if facts.os != "linux":
            return machine + ("-pc-windows-msvc" if facts.os == "windows" else "-apple-darwin")
        if (machine, facts.libc, facts.libc_version) == ("riscv64", "glibc", "2.39"):
            return "riscv64-unknown-linux"
        if machine in ("x86_64", "aarch64") and (facts.libc, facts.libc_version) == ("musl", "1.2"):
            return f"{machine}-unknown-linux-musl"
        is_known = (
            machine in ("x86_64", "aarch64") and facts.libc == "glibc" and facts.libc_version in _UV_GLIBC_VERSIONS
        )
        return f"{machine}-manylinux_{self._platform_version.replace('.', '_')}" if is_known else None

    @property
    def description(self) -> Text:
        """Description of the fitting machines; on Linux with the systems of the catalogue that are new enough."""
        facts = self.facts
        python = f"{IMPLEMENTATION_NAMES[facts.implementation]} {facts.python}{'t' * facts.free_threaded}"
        machine, libc, version = facts.machine, facts.libc, self._platform_version
        if facts.os == "windows":
            return text("{python}, Windows {machine}", python=python, machine=machine)
        if facts.os == "macos":
            return text("{python}, macOS {level} or newer, {machine}", python=python, level=version, machine=machine)
        system_names: dict[str, str] = {}
        for system in sorted(load_catalogue(), key=lambda system: parse_version_numbers(system.libc_version or "0")):
            new_enough = parse_version_numbers(system.libc_version or "0") >= parse_version_numbers(version)
            if system.libc == libc and machine in system.machines and new_enough:
                system_names.setdefault(re.sub(r"[\d.]+\Z", "", system.name), system.title)
        values = {"python": python, "machine": machine, "libc": libc, "version": version}
        if not system_names:
            return text("{python}, Linux {machine}, {libc} {version} or newer", **values)
        systems = list(system_names.values())
        return text("{python}, Linux {machine}, {libc} {version} or newer: {systems}", systems=systems, **values)
