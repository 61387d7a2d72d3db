"""What kind of interpreter on what kind of machine: which wheels it takes, what its environment markers say.

A Target is a name and facts; its tags (in pip's order) and marker values follow from them. It is written as
`cp311-manylinux_2_28_x86_64`, as a name of the catalogue (`debian12`, `rhel8-aarch64:3.11`), as pip's --platform and
--python-version, or as a JSON file that the probe (ontarget/interpreter.py) or pex made on the machine itself.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, generic_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from offlinepack.errors import Finding, SelectionError, SourceError, Text, UsageError, error, note, text
from offlinepack.ontarget import interpreter
from offlinepack.ontarget.interpreter import collect_facts
from offlinepack.ontarget.manifest import Facts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

_OLDEST_PYTHON = (3, 6)  # what the target side runs on

# The machines of each system, as its wheel tags name them, and the other names that people and tools have for them.
_MACHINES = {
    "linux": ("x86_64", "i686", "aarch64", "armv7l", "armv6l", "ppc64le", "ppc64", "s390x", "riscv64", "loongarch64"),
    "windows": ("amd64", "x86", "arm64"),
    "macos": ("arm64", "x86_64"),
}

_OTHER_NAMES = {
    "amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "i586": "i686", "x86": "i686",
    "armhf": "armv7l", "armv7": "armv7l", "ppc64el": "ppc64le", "powerpc64le": "ppc64le", "loong64": "loongarch64",
}  # fmt: skip

_OWN_NAMES = {
    ("windows", "x86_64"): "amd64", ("windows", "i686"): "x86", ("windows", "aarch64"): "arm64",
    ("macos", "aarch64"): "arm64",
}  # fmt: skip

# A plain `linux_ARCH` says no glibc. It stands for the oldest that the systems which are supported today have on that
# machine (RHEL 8, Debian 11 and their kin), as uv's ARCH-unknown-linux-gnu does; 2.28 where none is named here.
_FLOORS = {"armv7l": "2.31", "armv6l": "2.31", "loongarch64": "2.36", "riscv64": "2.39"}

# uv 0.13 has triples for these levels of x86_64 and aarch64.
_UV_LEVELS = ("2.17", "2.28", *(f"2.{minor}" for minor in range(31, 41)))

_SYSTEMS = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}

_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy"}

_SHORT = {"cp": "cpython", "pp": "pypy"}

_ABIS_OF_MANY = ("none", "abi3", "abi3t")

_LEVEL = re.compile(r"\d{1,4}\.\d{1,4}")

_MARKERS = (
    "implementation_name", "implementation_version", "os_name", "platform_machine", "platform_python_implementation",
    "platform_release", "platform_system", "platform_version", "python_full_version", "python_version", "sys_platform",
)  # fmt: skip

_OF_ONE_KERNEL = ("platform_release", "platform_version")


class UnknownMarker(SelectionError):
    """Whether a marker holds depends on a value that the target does not tell."""

    def __init__(self, marker: str, names: Sequence[str], target: str) -> None:
        super().__init__(
            error(
                "marker-unknown",
                target,
                "Whether `{marker}` holds depends on {names}, which is not known of {subject}.",
                "Run what `offlinepack probe --script` prints on that machine and give its output as --target FILE.",
                marker=marker,
                names=list(names),
            )
        )
        self.marker, self.names, self.target = marker, tuple(names), target


class Platform(NamedTuple):
    """The facts of a system without those of a Python."""

    os: str
    machine: str
    libc: str | None = None
    libc_version: str | None = None
    macos_version: str | None = None


class Python(NamedTuple):
    """The facts of a Python without those of its system."""

    implementation: str
    version: str
    free_threaded: bool

    @property
    def spelled(self) -> str:
        """As it stands after the colon of a name: 3.11, 3.13t, pp3.10."""
        return f"{'pp' * (self.implementation == 'pypy')}{self.version}{'t' * self.free_threaded}"


@dataclass(frozen=True)
class System:
    """An entry of the catalogue: a release of an operating system, as its vendor ships it."""

    name: str
    title: str
    os: str
    machines: tuple[str, ...]
    """the first is meant where none is named"""
    libc: str | None = None
    libc_version: str | None = None
    macos_version: str | None = None
    pythons: tuple[str, ...] = ()
    """X.Y that its vendor offers for it"""
    default: str | None = None
    """the X.Y that is meant where none is named"""
    own_python: str | None = None
    """X.Y.Z of the system's own interpreter, where that stays the same as long as the system is kept"""
    synonyms: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """for each fact, where it stands"""

    def platform(self, machine: str) -> Platform:
        """Its facts on this kind of machine."""
        return Platform(self.os, machine, self.libc, self.libc_version, self.macos_version)


@cache
def _data(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(Path(__file__).with_name(name).read_text("utf-8"))
    return loaded


@cache
def catalogue() -> tuple[System, ...]:
    """Every system that is known by name, in the order of the data file."""
    entries: list[dict[str, Any]] = _data("catalogue.toml")["system"]
    lists = ("machines", "pythons", "synonyms")
    return tuple(System(**{**one, **{key: tuple(one.get(key, ())) for key in lists}}) for one in entries)


def _newest_patch(python: str, implementation: str) -> str:
    """X.Y.Z for X.Y: the newest patch release that is known, or X.Y.0; X.Y.Z stays what it is."""
    known = [one for one in _data("pythons.toml")[implementation]["versions"] if one.rpartition(".")[0] == python]
    return known[0] if known else python if python.count(".") == 2 else python + ".0"


@cache
def _pypy() -> dict[str, str]:
    """The Python that each release of PyPy follows -> the version of PyPy itself."""
    known = _data("pythons.toml")["pypy"]
    return dict(zip(known["versions"], known["own"], strict=True))


@dataclass(frozen=True)
class Target:
    """An interpreter on a machine: the values that decide which wheels fit and which markers hold."""

    name: str
    """as it was asked for; several names of one target are joined by +"""
    facts: Facts
    given: tuple[tuple[str, str], ...] = ()
    """marker values that the machine itself told and that do not follow from the facts, sorted"""
    probe: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """all that a facts file told: sonames, disk_free ...; empty where there is none"""

    @property
    def tag(self) -> str:
        """cp311-manylinux_2_28_x86_64: the form in file names."""
        short = "pp" if self.facts.implementation == "pypy" else "cp"
        return f"{short}{self._nodot}{'t' * self.facts.free_threaded}-{self.platform_tag}"

    @property
    def platform_tag(self) -> str:
        """The newest platform tag that it takes: manylinux_2_28_x86_64, win_amd64, macosx_11_0_arm64."""
        facts = self.facts
        if facts.os == "windows":
            return "win32" if facts.machine == "x86" else f"win_{facts.machine}"
        kind = "macosx" if facts.os == "macos" else "musllinux" if facts.libc == "musl" else "manylinux"
        return f"{kind}_{self._level.replace('.', '_')}_{facts.machine}"

    @property
    def python_full(self) -> str:
        """X.Y.Z: the patch release that is meant or that the machine told, else the newest that is known."""
        told = dict(self.given).get("python_full_version")
        return told or _newest_patch(self.facts.python, self.facts.implementation)

    @property
    def _nodot(self) -> str:
        return "".join(self.facts.python.split(".")[:2])

    @property
    def _level(self) -> str:
        """The version of its C library, or of macOS; '0' for Windows."""
        return self.facts.libc_version or self.facts.macos_version or "0"

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags that it takes, in pip's order: its own level and each below it."""
        facts = self.facts
        if facts.os == "windows":
            return (self.platform_tag,)
        if facts.os == "macos":
            major, minor = _numbers(self._level)
            return tuple(mac_platforms((major, minor), facts.machine))
        return tuple(_linux_ladder(facts.machine, facts.libc, *_numbers(self._level)))

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """What it takes, best first, as pip on that machine says it."""
        version = _numbers(self.facts.python)[:2]
        if self.facts.implementation == "pypy":
            own = f"pp{self._nodot}"
            tags = generic_tags(own, [f"pypy{self._nodot}_{self._pypy_abi}"], self.platforms)
        else:
            own = f"cp{self._nodot}"
            # PEP 3149: the m of pymalloc was there until 3.7. PEP 703: t marks a free-threaded build.
            abi = own + ("t" if self.facts.free_threaded else "m" if version < (3, 8) else "")
            tags = cpython_tags(version, [abi], self.platforms)
        return (*tags, *compatible_tags(version, own, self.platforms))

    @property
    def _pypy_abi(self) -> str:
        """pp73 of PyPy 7.3: as it was told, else of the last known PyPy for that Python that is no newer."""
        full = _numbers(self.python_full)
        known = sorted((_numbers(one), own) for one, own in _pypy().items())
        same = [(release, own) for release, own in known if release[:2] == full[:2]] or known[-1:]
        version = ([own for release, own in same if release <= full] or [same[0][1]])[-1]
        return "pp" + "".join(dict(self.given).get("implementation_version", version).split(".")[:2])

    @cached_property
    def _ranks(self) -> dict[Tag, int]:
        return {tag: rank for rank, tag in reversed(tuple(enumerate(self.tags)))}

    @cached_property
    def _pythons(self) -> set[tuple[str, str]]:
        return {(tag.interpreter, tag.abi) for tag in self.tags}

    @cached_property
    def environment(self) -> dict[str, str]:
        """PEP 508's markers but those that cannot be known; platform_machine as a kernel of that machine says it."""
        facts, full = self.facts, self.python_full
        machines = {"amd64": "AMD64", "arm64": "ARM64"} if facts.os == "windows" else {}
        derived = {
            "implementation_name": facts.implementation,
            "implementation_version": _pypy().get(full) if facts.implementation == "pypy" else full,
            "os_name": "nt" if facts.os == "windows" else "posix",
            "platform_machine": machines.get(facts.machine, facts.machine),
            "platform_python_implementation": _IMPLEMENTATIONS[facts.implementation],
            "platform_system": {"macos": "Darwin"}.get(facts.os, _SYSTEMS[facts.os]),
            "python_full_version": full,
            "python_version": ".".join(full.split(".")[:2]),
            "sys_platform": {"linux": "linux", "windows": "win32", "macos": "darwin"}[facts.os],
        }
        return {**{key: value for key, value in derived.items() if value is not None}, **dict(self.given)}

    @cached_property
    def _unknown(self) -> tuple[str, ...]:
        return tuple(name for name in _MARKERS if name not in self.environment)

    def evaluate(self, marker: Marker | str, extras: Iterable[str] = (), groups: Iterable[str] = ()) -> bool:
        """Whether the marker holds, with these extras and groups; UnknownMarker where an unknown value decides it."""
        parsed, asked = Marker(marker) if isinstance(marker, str) else marker, frozenset(extras)
        written = str(parsed)
        unknown = [name for name in self._unknown if name in written]
        answers = []
        for extra in sorted(asked) or [""]:
            values: dict[str, Any] = {**self.environment, "extra": extra, "extras": asked}
            values["dependency_groups"] = frozenset(groups)
            known = not unknown and parsed.evaluate(values, context="requirement")
            answers.append(_three_valued(written, values, unknown) if unknown else known)
        if None in answers and True not in answers:
            raise UnknownMarker(written, unknown, self.name)
        return True in answers

    def accepts(self, filename: str) -> int | None:
        """The rank of a wheel here, 0 for the best tag; None where none of its tags fits."""
        try:
            tags = parse_wheel_filename(filename)[3]
        except InvalidWheelFilename:
            return None
        return min((self._ranks[tag] for tag in tags if tag in self._ranks), default=None)

    def tags_of(self, filenames: Iterable[str]) -> list[Tag]:
        """Of its tags those that any of these wheels has, best first; the others decide nothing between them."""
        found: set[Tag] = set()
        for one in filenames:
            with contextlib.suppress(InvalidWheelFilename):
                found |= parse_wheel_filename(one)[3]
        return sorted(found & self._ranks.keys(), key=self._ranks.__getitem__)

    def why_not(self, filename: str) -> Text | None:
        """Why the nearest of its tags does not fit, to follow the wheel's name in a sentence; None where one fits."""
        missed = self._miss(filename)
        return missed.why if missed else None

    def nearest(self, filenames: Iterable[str]) -> str | None:
        """Of wheels that do not fit, the one that misses by least; of several the first."""
        missed = [(found.by, name) for name in filenames if (found := self._miss(name))]
        return min(missed, key=lambda one: one[0])[1] if missed else None

    def _miss(self, filename: str) -> _Miss | None:
        if self.accepts(filename) is not None:
            return None
        try:
            tags = sorted(parse_wheel_filename(filename)[3], key=str)
        except InvalidWheelFilename:
            return _Miss((9,), text("is not the name of a wheel"))
        return min((self._tag_miss(tag) for tag in tags), key=lambda missed: missed.by)

    def _tag_miss(self, tag: Tag) -> _Miss:
        """How far and why one tag misses: of what does not fit, that which is hardest to change."""
        reasons = [one for one in (self._platform_miss(tag.platform), self._python_miss(tag)) if one]
        worst = max(reasons, key=lambda missed: missed.by, default=_Miss((8,), text("has tags that do not fit")))
        return _Miss((len(reasons), *worst.by), worst.why)

    def _platform_miss(self, tag: str) -> _Miss | None:
        if tag == "any" or tag in self.platforms:
            return None
        mine, other = self.facts, self._asked_by(tag)
        if other is None or other.os != mine.os:
            return _Miss((5,), text("is for {system}", system=_SYSTEMS[other.os] if other else tag))
        if other.machine != mine.machine:
            return _Miss((4,), text("is for {machine}, this target is {own}", machine=other.machine, own=mine.machine))
        if other.libc != mine.libc:
            return _Miss((3,), text("is for {libc}, this target has {own}", libc=other.libc, own=mine.libc))
        need = other.libc_version or other.macos_version or "0"
        what = mine.libc or "macOS"
        why = text("needs {what} {need}, this target has {have}", what=what, need=need, have=self._level)
        return _Miss((0, *_numbers(need)), why)

    def _python_miss(self, tag: Tag) -> _Miss | None:
        if (tag.interpreter, tag.abi) in self._pythons:
            return None
        kind = re.sub(r"\d.*\Z", "", tag.interpreter)
        digits = tag.interpreter[len(kind) :]
        named = {"cp": "CPython", "pp": "PyPy", "py": "Python"}.get(kind, kind)
        if kind != "py" and _SHORT.get(kind) != self.facts.implementation:
            return _Miss((2,), text("is for {python}", python=named))
        threads = bool(re.search(r"(\d|abi3)t\Z", tag.abi))
        if digits == self._nodot or (tag.abi == "abi3" and self.facts.free_threaded):
            if threads and not self.facts.free_threaded:
                return _Miss((1, 0), text("is for free-threaded Python"))
            if self.facts.free_threaded and not threads:
                return _Miss((1, 0), text("is not for free-threaded Python"))
            return _Miss((1, 1), text("is for the ABI {abi}", abi=tag.abi))
        version = (int(digits[0]), int(digits[1:])) if re.fullmatch(r"\d{2,3}", digits) else (0, 0)
        spelled = f"{named} {digits[:1]}.{digits[1:]}".rstrip(".") + "t" * threads
        if version > _numbers(self.facts.python)[:2] and (kind == "py" or tag.abi.startswith("abi3")):
            return _Miss((1, *version), text("needs {python} or newer", python=spelled))
        return _Miss((1, 99), text("is for {python}", python=spelled))

    def _asked_by(self, platform: str) -> Platform | None:
        """What a platform tag asks for; a universal one for this machine."""
        machine = self.facts.machine if self.facts.os == "macos" else "arm64"
        return _platform(re.sub(r"(universal2?|intel|fat\w*)\Z", machine, platform))

    def with_libc(self, version: str) -> Target:
        """The same target on another version of its C library, or of macOS; Windows has none."""
        if self.facts.os == "windows":
            return self
        on_macos = self.facts.os == "macos"
        facts = self.facts._replace(macos_version=version) if on_macos else self.facts._replace(libc_version=version)
        changed = replace(self, facts=facts)
        return replace(changed, name=changed.tag) if self.name == self.tag else changed

    def lowered_to(self, filenames: Iterable[str]) -> Target:
        """The same target with the lowest floor on which these wheels, which fit here, still fit.

        Never below glibc 2.17, musl 1.1, macOS 10.9 (arm64: 11.0): nothing older runs a Python that we install on.
        """
        facts = self.facts
        lowest = "10.9" if facts.machine == "x86_64" else "11.0"
        lowest = {"glibc": "2.17", "musl": "1.1"}.get(facts.libc or "", lowest)
        floor = min(lowest, self._level, key=_numbers)
        for name in filenames:
            tags = [tag for tag in parse_wheel_filename(name)[3] if tag in self._ranks]
            levels = [self._level_of(tag.platform, lowest) for tag in tags]
            floor = max(floor, min(levels, default=self._level, key=_numbers), key=_numbers)
        return self.with_libc(floor)

    def _level_of(self, platform: str, lowest: str) -> str:
        """What a platform tag asks for; `linux_ARCH` is of an unknown machine, taken to be as new as this one."""
        if platform == "any":
            return lowest
        found = None if platform.startswith("linux_") else self._asked_by(platform)
        level = found and (found.libc_version or found.macos_version)
        return level or self._level

    def anywhere(self) -> Target:
        """The same kind of machine elsewhere: any patch release of its Python, nothing that only one machine says."""
        python = ".".join(self.facts.python.split(".")[:2])
        return replace(self, facts=self.facts._replace(python=python), given=(), probe={})

    @property
    def demands(self) -> tuple[Any, ...]:
        """Sort key that puts the most demanding first: the newer libc or macOS, then a patch release that is meant."""
        patch = _numbers(self.facts.python)[2:] or (-1,)
        return tuple(-part for part in _numbers(self._level)), tuple(-part for part in patch), self.tag

    def pip_platform_args(self) -> list[str]:
        """pip's options for this target, with the whole ladder, which pip itself does not climb."""
        short = "pp" if self.facts.implementation == "pypy" else "cp"
        abis = dict.fromkeys((*(tag.abi for tag in self.tags if tag.abi != "none"), "none"))
        return [
            *(part for platform in self.platforms for part in ("--platform", platform)),
            *("--python-version", self.python_full, "--implementation", short),
            *(part for abi in abis for part in ("--abi", abi)),
        ]

    def uv_platform(self) -> str | None:
        """uv's --python-platform for exactly this target, or None; MACOSX_DEPLOYMENT_TARGET says which macOS."""
        facts, machine = self.facts, _OTHER_NAMES.get(self.facts.machine, self.facts.machine)
        if facts.implementation != "cpython" or facts.free_threaded:
            return None
        if facts.os != "linux":
            return machine + ("-pc-windows-msvc" if facts.os == "windows" else "-apple-darwin")
        if (machine, facts.libc, facts.libc_version) == ("riscv64", "glibc", "2.39"):
            return "riscv64-unknown-linux"
        if machine in ("x86_64", "aarch64") and (facts.libc, facts.libc_version) == ("musl", "1.2"):
            return f"{machine}-unknown-linux-musl"
        known = machine in ("x86_64", "aarch64") and facts.libc == "glibc" and facts.libc_version in _UV_LEVELS
        return f"{machine}-manylinux_{self._level.replace('.', '_')}" if known else None

    @property
    def machines(self) -> Text:
        """Which machines that is, for people; on Linux with the systems of the catalogue that are new enough."""
        facts = self.facts
        python = f"{_IMPLEMENTATIONS[facts.implementation]} {facts.python}{'t' * facts.free_threaded}"
        machine, libc, version = facts.machine, facts.libc, self._level
        if facts.os == "windows":
            return text("{python}, Windows {machine}", python=python, machine=machine)
        if facts.os == "macos":
            return text("{python}, macOS {level} or newer, {machine}", python=python, level=version, machine=machine)
        known: dict[str, str] = {}
        for system in sorted(catalogue(), key=lambda one: _numbers(one.libc_version or "0")):
            new_enough = _numbers(system.libc_version or "0") >= _numbers(version)
            if system.libc == libc and machine in system.machines and new_enough:
                known.setdefault(re.sub(r"[\d.]+\Z", "", system.name), system.title)
        values = {"python": python, "machine": machine, "libc": libc, "version": version}
        if not known:
            return text("{python}, Linux {machine}, {libc} {version} or newer", **values)
        systems = list(known.values())
        return text("{python}, Linux {machine}, {libc} {version} or newer: {systems}", systems=systems, **values)


class _Miss(NamedTuple):
    by: tuple[int, ...]  # the smaller, the nearer
    why: Text


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _linux_ladder(machine: str, libc: str | None, major: int, newest: int) -> Iterator[str]:
    """pip's order: the machine's own tag, then each level of its C library down to the oldest that has a tag."""
    yield f"linux_{machine}"
    if libc == "musl":
        # PEP 656: a wheel for musllinux_X_Y runs on musl X.Z with Z >= Y.
        yield from (f"musllinux_{major}_{minor}_{machine}" for minor in range(newest, -1, -1))
    elif machine != "armv6l":  # manylinux knows Arm from the hard-float ABI of armv7l on
        # PEP 600: the old names are those of 2_5, 2_12 (PEP 513, 571: x86 alone) and 2_17.
        old_names = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
        for minor in range(newest, 4 if machine in ("x86_64", "i686") else 16, -1):
            yield f"manylinux_{major}_{minor}_{machine}"
            if minor in old_names:
                yield f"{old_names[minor]}_{machine}"


def _three_valued(marker: str, environment: Mapping[str, Any], unknown: Sequence[str]) -> bool | None:
    """A marker by Kleene's logic: None where its value hangs on one of the unknown names."""
    tokens = re.findall(r"\"[^\"]*\"|'[^']*'|[()]|[^\s()\"']+", marker)

    def either() -> bool | None:
        answers = [both()]
        while tokens[:1] == ["or"]:
            del tokens[0]
            answers.append(both())
        return True if True in answers else None if None in answers else False

    def both() -> bool | None:
        answers = [one()]
        while tokens[:1] == ["and"]:
            del tokens[0]
            answers.append(one())
        return False if False in answers else None if None in answers else True

    def one() -> bool | None:
        if tokens[0] == "(":
            del tokens[0]
            answer = either()
            del tokens[0]
            return answer
        end = next((at for at, token in enumerate(tokens) if token in ("and", "or", ")")), len(tokens))
        words, tokens[:end] = tokens[:end], []
        bare = " ".join(word for word in words if word[0] not in "\"'")
        if any(re.search(rf"\b{name}\b", bare) for name in unknown):
            return None
        return Marker(" ".join(words)).evaluate(environment, context="requirement")

    return either()


class _Written(NamedTuple):
    """What a text says of a target whose Python may still be open."""

    platform: Platform
    python: Python | None = None
    default: Python | None = None
    offered: tuple[str, ...] = ()
    own: str | None = None
    """X.Y.Z of the system's own interpreter"""

    def target(self, python: Python, name: str) -> Target:
        """Its target with this Python; the system's own X.Y means the patch release that it comes with."""
        made = _make(self.platform, python, name)
        if self.own is None or python != _python(self.own.rpartition(".")[0]):
            return made
        return replace(made, given=(("implementation_version", self.own), ("python_full_version", self.own)))


def parse(asked: str, python_version: str = "") -> Target:
    """The target that is written so: tag form, NAME[-ARCH][:X.Y], a platform, a JSON file; UsageError or SourceError.

    `python_version` (X.Y[.Z][t]) holds where the text itself names no Python.
    """
    return _named(asked, [_python(python_version)] if python_version else [])[0]


def combine(
    platforms: Sequence[str] = (),
    python_versions: Sequence[str] = (),
    implementations: Sequence[str] = (),
    abis: Sequence[str] = (),
    names: Sequence[str] = (),
    default: Callable[[], Target] | None = None,
) -> tuple[Target, ...]:
    """A target for each combination that the options ask for, each once, in their order; none where nothing is asked.

    Python versions, implementations and ABIs belong to the platforms where there are any, else to each name without a
    Python of its own, else to the platform of `default` (the running interpreter), which also brings the Python where
    only platforms are named. UsageError with all that was not understood, and where two that differ would have one tag.
    """
    here = cache(default or running)
    pythons = _pythons(python_versions, implementations, abis, here)
    found: list[Target] = []
    problems: list[Finding] = []
    for name in platforms:
        try:
            found += [_make(_platform_named(name), one) for one in pythons or [_python_of(here())]]
        except UsageError as wrong:
            problems += wrong.findings
    for name in names:
        try:
            found += _named(name, [] if platforms else pythons)
        except UsageError as wrong:
            problems += wrong.findings
    if problems:
        raise UsageError(*problems)
    if not platforms and not names:
        found = [_make(Platform(*here().facts[3:]), one) for one in pythons]
    return _distinct(found)


def abi_notes(abis: Iterable[str]) -> tuple[Finding, ...]:
    """A note for each --abi that makes no target."""
    return tuple(
        note("abi-without-target", abi, "--abi {subject} makes no target: it says which wheels, not which Python.")
        for abi in abis
        if abi in _ABIS_OF_MANY
    )


def from_facts(told: Mapping[str, Any], name: str = "") -> Target:
    """The target that a probe's output, pex's complete platform or a mapping of Facts describes, or SourceError."""
    markers = told.get("marker_environment")
    markers = markers if isinstance(markers, dict) else {}
    try:
        named = bool(told.get("implementation"))
        facts = _facts_of_json(told) if named else _facts_of_tags(told["compatible_tags"], markers)
        level = facts.macos_version if facts.os == "macos" else facts.libc_version
        if facts.machine not in _MACHINES.get(facts.os, ()):
            raise ValueError(f"{facts.os} {facts.machine}")
        if facts.os == "linux" and facts.libc not in ("glibc", "musl"):
            raise ValueError(f"libc {facts.libc}")
        if facts.os != "windows" and not _LEVEL.fullmatch(level or ""):
            raise ValueError(f"{facts.os} {facts.libc or ''} {level}")
        python = _python(facts.python + "t" * bool(facts.free_threaded))._replace(implementation=facts.implementation)
        target = _make(Platform(*facts[3:]), python, name)
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
    given = {key: str(markers[key]) for key in _MARKERS if key in markers}
    differ = {key: value for key, value in given.items() if target.environment.get(key) != value}
    return replace(target, given=tuple(sorted(differ.items())), probe=told)


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """Facts as `--json` prints them, and as a probe names them."""
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


def _facts_of_json(told: Mapping[str, Any]) -> Facts:
    said: Callable[[str], Any] = told.get
    return Facts(
        implementation=said("implementation"),
        python=said("python"),
        free_threaded=said("free_threaded"),
        os=said("os"),
        machine=said("machine"),
        libc=said("libc"),
        libc_version=said("libc_version"),
        macos_version=said("macos_version"),
    )


def running() -> Target:
    """The interpreter that runs this, with its patch release; what its kernel says of itself is left out."""
    return _of_host(collect_facts())


def of_interpreter(path: str | Path) -> Target:
    """Another interpreter of this machine, likewise, asked by running it; UsageError where it does not answer."""
    command = [str(path), "-I", "-B", interpreter.__file__, "--facts"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL)
        return _of_host(json.loads(done.stdout))
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


def _of_host(told: Mapping[str, Any]) -> Target:
    markers = {key: value for key, value in told["marker_environment"].items() if key not in _OF_ONE_KERNEL}
    return from_facts({**told, "marker_environment": markers})


def _named(asked: str, pythons: Sequence[Python]) -> list[Target]:
    """The targets of one text: with its own Python, else with each of these, else with its default."""
    asked = asked.strip()
    written = _read_text(asked)
    if isinstance(written, Target):
        return [written]
    if written.python or not pythons:
        python = written.python or written.default
        if python is None:
            known = written.offered or [one.rpartition(".")[0] for one in _data("pythons.toml")["cpython"]["versions"]]
            raise UsageError(
                error(
                    "target-without-python",
                    asked,
                    "{subject} says no Python, and none comes with it by default.",
                    "Write {subject}:X.Y or add --python-version X.Y. Known are {known}.",
                    known=list(known),
                )
            )
        return [written.target(python, asked)]
    return [written.target(one, f"{asked}:{one.spelled}") for one in pythons]


def _read_text(asked: str) -> _Written | Target:
    if tag_form := re.fullmatch(r"((?:cp|pp)\d\d{1,2}t?)-(\w+)", asked, re.I):
        return _Written(_platform_named(tag_form[2]), _python(tag_form[1].lower()))
    if asked.endswith(".json") or "/" in asked or "\\" in asked:
        return _read_file(Path(asked))
    base, _, version = asked.partition(":")
    if entry := _in_catalogue(base):
        system, machine = entry
        default = _python(system.default) if system.default else None
        python = _python(version) if version else None
        return _Written(system.platform(machine), python, default, system.pythons, system.own_python)
    if platform := _platform(base):
        return _Written(platform, _python(version) if version else None)
    if Path(asked).is_file():
        return _read_file(Path(asked))
    raise _unknown(base, "target")


def _read_file(path: Path) -> Target:
    try:
        told = json.loads(path.read_bytes())  # also in UTF-16, which PowerShell's > writes
    except FileNotFoundError:
        raise UsageError(
            error("facts-missing", path, "There is no file {subject}.", "Check the path that was given as --target.")
        ) from None
    except (OSError, ValueError) as wrong:
        raise SourceError(
            error("facts-unreadable", path, "{subject} cannot be read as JSON: {reason}.", reason=str(wrong))
        ) from wrong
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem)[:99].lstrip("._-")
    return from_facts(told if isinstance(told, dict) else {}, name)


def _facts_of_tags(tags: Sequence[str], markers: Mapping[str, str]) -> Facts:
    """The facts behind pex's list of tags: its first tag says which Python, its highest level which system."""
    own, abi = tags[0].split("-")[:2]
    platforms = {platform for tag in tags if (platform := tag.split("-")[2]) != "any"}
    leveled = [one for one in platforms if not one.startswith("linux_")] or platforms
    systems = [found for one in leveled if (found := _platform(one))]
    system = max(systems, key=lambda one: _numbers(one.libc_version or one.macos_version or "0"))
    python = _python(own + "t" * bool(re.search(r"\dt\Z", abi)))
    full = re.match(r"\d+\.\d+\.\d+", markers.get("python_full_version", ""))
    return Facts(python.implementation, full[0] if full else python.version, python.free_threaded, *system)


def _make(platform: Platform, python: Python, name: str = "") -> Target:
    """A target of these, named by its tag where it has no name."""
    if python.implementation not in _IMPLEMENTATIONS:
        raise UsageError(_no_implementation(python.implementation))
    if python.free_threaded and (python.implementation != "cpython" or _numbers(python.version)[:2] < (3, 13)):
        raise UsageError(
            error(
                "python-not-free-threaded",
                python.spelled,
                "There is no free-threaded Python {subject}.",
                "CPython has it from 3.13 on; write 3.13t.",
            )
        )
    if platform.macos_version and _numbers(platform.macos_version)[0] >= 11:
        # since macOS 11 the tags know whole releases only
        platform = platform._replace(macos_version=platform.macos_version.split(".")[0] + ".0")
    target = Target(name, Facts(python.implementation, python.version, python.free_threaded, *platform))
    return target if name else replace(target, name=target.tag)


def _distinct(found: Sequence[Target]) -> tuple[Target, ...]:
    """Each once; what was asked for by several names bears them all."""
    distinct: dict[str, Target] = {}
    for target in found:
        same = distinct.setdefault(target.tag, target)
        if same.facts == target.facts and not (same.given and target.given):
            # any patch release, and the one that a system comes with: what suits that one suits a newer one too
            same = replace(same, given=same.given or target.given)
        elif (same.facts, same.given) != (target.facts, target.given):
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


def _python(written: str) -> Python:
    """A Python by its version: 3.11, 311, 3.11.4, 3.13t, pp3.10; UsageError for what is none or too old."""
    found = re.fullmatch(r"(cp|pp)?([23])\.?(\d{1,2})(\.\d{1,3})?(t?)", written.strip().lower())
    if not found:
        raise UsageError(
            error("python-version", written, "{subject} is no Python version.", "Write it as 3.11, 3.11.4 or 3.13t.")
        )
    if (int(found[2]), int(found[3])) < _OLDEST_PYTHON:
        raise UsageError(
            error("python-too-old", written, "Python {subject} is too old to install on.", "The oldest is 3.6.")
        )
    version = f"{found[2]}.{int(found[3])}{found[4] or ''}"
    return Python(_SHORT[found[1] or "cp"], version, bool(found[5]))


def _python_of(target: Target) -> Python:
    facts = target.anywhere().facts
    return Python(facts.implementation, facts.python, facts.free_threaded)


def _pythons(
    versions: Sequence[str], implementations: Sequence[str], abis: Sequence[str], here: Callable[[], Target]
) -> list[Python]:
    """Each version in each implementation. An ABI says which build of its version; alone, also which version."""
    wanted = {abi: _abi(abi) for abi in abis if abi not in _ABIS_OF_MANY}
    asked = [_python(version) for version in versions]
    kinds = [_SHORT.get(one, one) for one in implementations]
    if wrong := [_no_implementation(kind) for kind in kinds if kind not in _IMPLEMENTATIONS]:
        raise UsageError(*wrong)
    if not asked:
        asked = list(wanted.values()) or ([_python_of(here())] if kinds else [])
    found: list[Python] = []
    unused = dict(wanted)
    for python, kind in product(asked, kinds or [""]):
        one = python._replace(implementation=kind or python.implementation)
        builds = {abi: same for abi, build in wanted.items() if (same := _same_build(one, build))}
        found += builds.values() or [one]
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
    return list(dict.fromkeys(found))


def _same_build(asked: Python, build: Python) -> Python | None:
    """The Python that is both of this version and this build of an ABI; None where they exclude each other."""
    more, less = sorted((asked.version, build.version), key=len, reverse=True)
    alike = asked.implementation == build.implementation and (more == less or more.startswith(less + "."))
    return build._replace(version=more) if alike and asked.free_threaded <= build.free_threaded else None


def _abi(abi: str) -> Python:
    """The Python of an ABI; of PyPy the release that has it, where that is not the one that is meant anyway."""
    found = re.fullmatch(r"cp(\d{2,3}t?)m?|pypy(\d{2,3})_pp(\d+)", abi)
    if not found:
        raise UsageError(
            error("abi-unknown", abi, "{subject} is no ABI of a target.", "Write it as cp311, cp313t or pypy310_pp73.")
        )
    python = _python(found[1] or "pp" + found[2])
    releases = {one: own for one, own in _pypy().items() if one.rpartition(".")[0] == python.version}
    same = [one for one, own in releases.items() if "".join(own.split(".")[:2]) == found[3]]
    return python if found[1] or same[:1] == list(releases)[:1] or not same else python._replace(version=same[0])


def _no_implementation(name: str) -> Finding:
    return error("implementation-unknown", name, "offlinepack does not pack for {subject}.", "It knows cp and pp.")


def _in_catalogue(written: str) -> tuple[System, str] | None:
    """The system of this name and the machine that is meant; None where there is no such system."""
    found = re.fullmatch(r"([a-z]+)[-_]?([\d.]*)(?:-(\w+))?", written.strip().lower())
    if not found:
        return None
    family, version = _data("catalogue.toml")["families"].get(found[1], found[1]), found[2]
    names = {name: system for system in catalogue() for name in (system.name, *system.synonyms)}
    while family + version not in names and "." in version:  # rocky8.9 is rhel8
        version = version.rpartition(".")[0]
    system = names.get(family + version)
    if system is None:
        return None
    machine = _machine(system.os, found[3]) if found[3] else system.machines[0]
    if machine not in system.machines:
        raise UsageError(
            error(
                "unknown-machine",
                written,
                "{title} is not known on a machine called {machine}.",
                "Known are {machines}; for another one write the platform, as in cp311-manylinux_2_28_x86_64.",
                title=system.title,
                machine=found[3],
                machines=list(system.machines),
            )
        )
    return system, machine


def _machine(system: str, written: str) -> str | None:
    """The machine as wheel tags of that system name it; None for what no tag has."""
    machine = _OTHER_NAMES.get(written, written)
    machine = _OWN_NAMES.get((system, machine), machine)
    return machine if machine in _MACHINES[system] else None

# Other ways to write a platform, and its tag: old manylinux names, triples, short names.
_SPELLINGS = [
    (re.compile(pattern), tag)
    for pattern, tag in (
        (r"(\w+?)_((?:many|musl)linux_?\d\w*)", r"\2_\1"),
        (r"(\w+?)_unknown_linux(?:_gnu(?:eabihf)?)?", r"linux_\1"),
        (r"(\w+?)_unknown_linux_musl(?:eabihf)?", r"musllinux_1_2_\1"),
        (r"(\w+?)_pc_windows_msvc", r"win_\1"),
        (r"(\w+?)_apple_darwin", r"macosx_13_0_\1"),
        (r"macos_(\w+)", r"macosx_13_0_\1"),
        (r"macos", "macosx_13_0_arm64"),
        (r"windows_(\w+)", r"win_\1"),
        (r"windows", "win_amd64"),
        (r"win32", "win_x86"),
        (r"linux", "linux_x86_64"),
        (r"manylinux1_(\w+)", r"manylinux_2_5_\1"),
        (r"manylinux2010_(\w+)", r"manylinux_2_12_\1"),
        (r"manylinux2014_(\w+)", r"manylinux_2_17_\1"),
    )
]

_PLATFORM = re.compile(r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_(\w+)|(linux|win)_(\w+)")


@cache
def _platform(written: str) -> Platform | None:
    """A platform tag, a triple or a short name as facts; None where it is none.

    `linux_ARCH` stands for the floor of that machine; `macos` and its triples mean macOS 13, as they do for uv.
    """
    tag = re.sub(r"[-. ]", "_", written.strip().lower())
    for pattern, form in _SPELLINGS:
        if spelled := pattern.fullmatch(tag):
            tag = spelled.expand(form)
    found = _PLATFORM.fullmatch(tag)
    if not found:
        return None
    kind, level = found[1] or found[5], f"{found[2]}.{found[3]}"
    system = {"macosx": "macos", "win": "windows"}.get(kind, "linux")
    machine = _machine(system, found[4] or found[6])
    if machine is None:
        return None
    if system != "linux":
        return Platform(system, machine, macos_version=level if kind == "macosx" else None)
    libc = "musl" if kind == "musllinux" else "glibc"
    return Platform(system, machine, libc, _FLOORS.get(machine, "2.28") if kind == "linux" else level)


def _platform_named(written: str) -> Platform:
    """The platform of --platform; a name of the catalogue will do, too."""
    entry = _in_catalogue(written)
    found = entry[0].platform(entry[1]) if entry else _platform(written)
    if found is None:
        raise _unknown(written, "platform")
    return found


def _unknown(written: str, what: str) -> UsageError:
    """No such target or platform, with the nearest that there are."""
    names = [name for system in catalogue() for name in (system.name, *system.synonyms)]
    families: dict[str, str] = _data("catalogue.toml")["families"]
    names += [one + name[len(own) :] for one, own in families.items() for name in names if name.startswith(own)]
    levels = ("manylinux_2_17", "manylinux_2_28", "manylinux2014", "musllinux_1_2", "linux")
    names += [f"{level}_{machine}" for level in levels for machine in ("x86_64", "aarch64")]
    names += ["win_amd64", "win_arm64", "macosx_11_0_arm64", "macosx_13_0_x86_64"]
    near = difflib.get_close_matches(written.lower(), names, n=3)
    near = near or difflib.get_close_matches(written.lower().partition("-")[0], names, n=3)
    if near:
        code = f"unknown-{what}"
        problem = error(code, written, "No machine is known as {subject}.", "Did you mean {near}?", near=near)
    elif what == "platform":
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
