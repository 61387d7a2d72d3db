"""What kind of interpreter on what kind of machine: which wheels it takes, what its environment markers say.

A Target is a name and facts; its tags (in pip's order) and marker values follow from them. It is written as
`cp311-manylinux_2_28_x86_64`, as a name of the catalogue (`debian12`, `rhel8-aarch64:3.11`), as pip's --platform and
--python-version, or as a JSON file that the probe (ontarget/interpreter.py) or pex made on the machine itself.
"""

from __future__ import annotations

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
from offlinepack.ontarget.manifest import Facts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

OLDEST_PYTHON = (3, 6)
"""what the target side runs on"""

# The floor that a plain `linux_ARCH` stands for: the oldest glibc that the supported distributions of that machine have,
# and that uv's `ARCH-unknown-linux-gnu` means; RHEL 8, Debian 11 and their kin. All other machines: 2.28.
_FLOORS = {"armv7l": "2.31", "armv6l": "2.31", "loongarch64": "2.36", "riscv64": "2.39"}
_MACHINES = {
    "linux": ("x86_64", "i686", "aarch64", "armv7l", "armv6l", "ppc64le", "ppc64", "s390x", "riscv64", "loongarch64"),
    "windows": ("amd64", "x86", "arm64"),
    "macos": ("arm64", "x86_64"),
}
_OTHER_NAMES = {
    "amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "i586": "i686", "x86": "i686", "armhf": "armv7l",
    "armv7": "armv7l", "ppc64el": "ppc64le", "powerpc64le": "ppc64le", "riscv64gc": "riscv64", "loong64": "loongarch64",
}  # fmt: skip
_OWN_NAMES: dict[str, dict[str, str]] = {
    "linux": {},
    "windows": {"x86_64": "amd64", "i686": "x86", "aarch64": "arm64"},
    "macos": {"aarch64": "arm64"},
}
_SYSTEMS = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}
_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy"}
_SHORT = {"cp": "cpython", "pp": "pypy"}
_UNKNOWABLE = ("platform_release", "platform_version")


class UnknownMarker(SelectionError):
    """Whether a marker holds depends on a value that the target does not tell."""

    def __init__(self, marker: str, names: Sequence[str], target: str) -> None:
        super().__init__(
            error(
                "marker-unknown",
                target,
                "Whether `{marker}` holds depends on {names}, which is not known of {subject}.",
                "Run `offlinepack probe --script` on that machine and give its output as --target FILE.",
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


def newest_patch(python: str, implementation: str = "cpython") -> str:
    """X.Y.Z for X.Y: the newest patch release that is known, or X.Y.0; X.Y.Z stays what it is."""
    known = [one for one in _data("pythons.toml")[implementation]["versions"] if one.rpartition(".")[0] == python]
    return known[0] if known else python if python.count(".") == 2 else python + ".0"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@dataclass(frozen=True)
class Target:
    """An interpreter on a machine: the values that decide which wheels fit and which markers hold."""

    name: str
    """as it was asked for"""
    facts: Facts
    given: tuple[tuple[str, str], ...] = ()
    """marker values that the machine itself told, sorted; the others follow from the facts"""
    probe: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """all that a facts file told: sonames, disk ...; empty where there is none"""

    @property
    def tag(self) -> str:
        """cp311-manylinux_2_28_x86_64: the form in file names."""
        short = {long: short for short, long in _SHORT.items()}[self.facts.implementation]
        threads = "t" if self.facts.free_threaded else ""
        return f"{short}{self._nodot}{threads}-{self.platform_tag}"

    @property
    def platform_tag(self) -> str:
        """The newest platform tag that it takes: manylinux_2_28_x86_64, win_amd64, macosx_11_0_arm64."""
        facts = self.facts
        if facts.os == "windows":
            return "win32" if facts.machine == "x86" else f"win_{facts.machine}"
        if facts.os == "macos":
            return f"macosx_{_underscored(facts.macos_version)}_{facts.machine}"
        kind = "musllinux" if facts.libc == "musl" else "manylinux"
        return f"{kind}_{_underscored(facts.libc_version)}_{facts.machine}"

    @property
    def python_full(self) -> str:
        """X.Y.Z: the patch release that is meant, else the newest that is known."""
        return newest_patch(self.facts.python, self.facts.implementation)

    @property
    def _nodot(self) -> str:
        return "".join(self.facts.python.split(".")[:2])

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags that it takes, in pip's order: each level of the ladder below its own."""
        facts = self.facts
        if facts.os == "windows":
            return (self.platform_tag,)
        if facts.os == "macos":
            major, minor = _numbers(facts.macos_version or "")[:2]
            return tuple(mac_platforms((major, minor), facts.machine))
        return tuple(_linux_ladder(facts.machine, facts.libc, facts.libc_version or ""))

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """What it takes, best first, as pip on that machine says it."""
        version = _numbers(self.facts.python)[:2]
        if self.facts.implementation == "pypy":
            own = f"pp{self._nodot}"
            tags = generic_tags(own, [f"pypy{self._nodot}_pp73"], self.platforms)
        else:
            own = f"cp{self._nodot}"
            # PEP 3149: the m of pymalloc went away with 3.8. PEP 703: t is for free-threaded builds.
            flags = "t" if self.facts.free_threaded else "m" if version < (3, 8) else ""
            tags = cpython_tags(version, [own + flags], self.platforms)
        return (*tags, *compatible_tags(version, own, self.platforms))

    @cached_property
    def _ranks(self) -> dict[Tag, int]:
        return {tag: rank for rank, tag in reversed(tuple(enumerate(self.tags)))}

    @cached_property
    def environment(self) -> dict[str, str]:
        """PEP 508's markers; a value that cannot be known from the facts is absent."""
        facts, full = self.facts, self.python_full
        derived = {
            "implementation_name": facts.implementation,
            "os_name": "nt" if facts.os == "windows" else "posix",
            "platform_machine": facts.machine.upper() if facts.machine in ("amd64", "arm64") else facts.machine,
            "platform_python_implementation": _IMPLEMENTATIONS[facts.implementation],
            "platform_system": "Darwin" if facts.os == "macos" else _SYSTEMS[facts.os],
            "python_full_version": full,
            "python_version": ".".join(full.split(".")[:2]),
            "sys_platform": {"linux": "linux", "windows": "win32", "macos": "darwin"}[facts.os],
        }
        if facts.os == "macos":
            derived["platform_machine"] = facts.machine
        if facts.implementation == "cpython":
            derived["implementation_version"] = full
        else:
            known = _data("pythons.toml")["pypy"]
            if full in known["versions"]:
                derived["implementation_version"] = known["own"][known["versions"].index(full)]
        return {**derived, **dict(self.given)}

    def evaluate(self, marker: Marker | str, extras: Iterable[str] = (), groups: Iterable[str] = ()) -> bool:
        """Whether the marker holds here, with these extras; UnknownMarker where that depends on an unknown value."""
        asked = tuple(extras)
        sets = {"extras": frozenset(asked), "dependency_groups": frozenset(groups)}
        answers = [self._holds(str(marker), {**sets, "extra": extra}) for extra in asked or ("",)]
        if True in answers:
            return True
        if None in answers:
            names = [name for name in (*_UNKNOWABLE, "implementation_version") if name not in self.environment]
            raise UnknownMarker(str(marker), [name for name in names if name in str(marker)], self.name)
        return False

    def _holds(self, marker: str, sets: Mapping[str, Any]) -> bool | None:
        """Three-valued: None where it depends on a value that is not known."""
        environment = {**self.environment, **sets}
        absent = [name for name in (*_UNKNOWABLE, "implementation_version") if name not in environment]

        def atom(expression: str) -> bool | None:
            if any(re.search(rf"\b{name}\b", re.sub(r"\"[^\"]*\"|'[^']*'", "", expression)) for name in absent):
                return None
            return Marker(expression).evaluate(environment, context="requirement")

        if not any(name in marker for name in absent):
            return Marker(marker).evaluate(environment, context="requirement")
        tokens = re.findall(r"\"[^\"]*\"|'[^']*'|[()]|[^\s()\"']+", marker)
        return _either(tokens, atom)

    def accepts(self, filename: str) -> int | None:
        """The rank of a wheel here, 0 for the best tag; None where none of its tags fits."""
        try:
            tags = parse_wheel_filename(filename)[3]
        except InvalidWheelFilename:
            return None
        return min((self._ranks[tag] for tag in tags if tag in self._ranks), default=None)

    def why_not(self, filename: str) -> Text | None:
        """Why the nearest of the wheel's tags does not fit, as the end of a sentence that begins with the file; None where one fits."""
        found = self._miss(filename)
        return found[1] if found else None

    def nearest(self, filenames: Iterable[str]) -> str | None:
        """Of wheels that do not fit, the one that misses by least."""
        missed = [(found[0], name) for name in filenames if (found := self._miss(name))]
        return min(missed)[1] if missed else None

    def _miss(self, filename: str) -> tuple[tuple[int, ...], Text] | None:
        if self.accepts(filename) is not None:
            return None
        try:
            tags = parse_wheel_filename(filename)[3]
        except InvalidWheelFilename:
            return (9,), text("is not the name of a wheel")
        misses = []
        for tag in tags:
            reasons = [one for one in (self._platform_miss(tag.platform), self._python_miss(tag)) if one]
            worst = max(reasons, key=lambda one: one[0], default=((8,), text("has tags that do not fit")))
            misses.append(((len(reasons), *worst[0]), worst[1]))
        return min(misses, key=lambda one: (one[0], str(one[1])))

    def _platform_miss(self, tag: str) -> tuple[tuple[int, ...], Text] | None:
        if tag == "any" or tag in self.platforms:
            return None
        mine, other = self.facts, _platform(tag)
        universal = re.fullmatch(r"macosx_(\d+)_(\d+)_(universal2|intel|fat\d*|universal)", tag)
        if universal and mine.os == "macos":
            other = Platform("macos", mine.machine, macos_version=f"{universal[1]}.{universal[2]}")
        if other is None:
            system = "macOS" if tag.startswith("macosx") else "Windows" if tag.startswith("win") else tag
            return (5,), text("is for {system}", system=system)
        if other.os != mine.os:
            return (5,), text("is for {system}", system=_SYSTEMS[other.os])
        if other.machine != mine.machine:
            return (4,), text("is for {machine}, this target is {own}", machine=other.machine, own=mine.machine)
        if other.libc != mine.libc:
            return (3,), text("is for {libc}, this target has {own}", libc=other.libc, own=mine.libc)
        what, need, have = mine.libc, other.libc_version, mine.libc_version
        if mine.os == "macos":
            what, need, have = "macOS", other.macos_version, mine.macos_version
        order = (0, *_numbers(need or "0"))
        return order, text("needs {what} {need}, this target has {have}", what=what, need=need, have=have)

    def _python_miss(self, tag: Tag) -> tuple[tuple[int, ...], Text] | None:
        own, python = self.facts, _version(self._nodot)
        if any(tag.interpreter == mine.interpreter and tag.abi == mine.abi for mine in self.tags):
            return None
        kind, version = re.sub(r"\d+\Z", "", tag.interpreter), _version(re.sub(r"\D+", "", tag.interpreter))
        named = {"cp": "CPython", "pp": "PyPy", "py": "Python"}.get(kind, kind)
        if kind not in ("py", "cp" if own.implementation == "cpython" else "pp"):
            return (2, 1), text("is for {python}", python=named)
        newer = _numbers(version) > _numbers(python) if "." in version else False
        if own.free_threaded and not newer and (tag.abi == "abi3" or (version == python and not tag.abi.endswith("t"))):
            return (1, 0), text("is not for free-threaded Python")
        if not own.free_threaded and re.search(r"\dt\Z|abi3t", tag.abi):
            return (1, 0), text("is for free-threaded Python")
        if newer and (kind == "py" or tag.abi == "abi3"):
            return (1, *_numbers(version)), text("needs {python} or newer", python=f"{named} {version}")
        return (1, 99), text("is for {python}", python=f"{named} {version}")

    def with_libc(self, version: str) -> Target:
        """The same target on another level of its C library (on macOS: of the system); Windows has none."""
        if self.facts.os == "macos":
            lowered = replace(self, facts=self.facts._replace(macos_version=version))
        elif self.facts.os == "linux":
            lowered = replace(self, facts=self.facts._replace(libc_version=version))
        else:
            return self
        return replace(lowered, name=lowered.tag) if self.name == self.tag else lowered

    def lowered_to(self, filenames: Iterable[str]) -> Target:
        """The same target with the lowest floor on which all of these wheels, which fit here, still fit."""
        mac = self.facts.os == "macos"
        own = self.facts.macos_version if mac else self.facts.libc_version
        if own is None:
            return self
        lowest = (
            ("11.0" if self.facts.machine == "arm64" else "10.9")
            if mac
            else "1.1"
            if self.facts.libc == "musl"
            else "2.17"
        )
        floor = lowest
        for name in filenames:
            levels = [
                self._level(tag.platform, lowest, own) for tag in parse_wheel_filename(name)[3] if tag in self._ranks
            ]
            floor = max(floor, min(levels, default=own, key=_numbers), key=_numbers)
        return self.with_libc(floor)

    def _level(self, platform: str, lowest: str, own: str) -> str:
        if platform == "any":
            return lowest
        if platform.startswith("linux_"):  # says nothing of the C library: as new as where it was found
            return own
        numbers = re.match(r"(?:many|musl)linux_(\d+)_(\d+)_|macosx_(\d+)_(\d+)_", platform)
        if not numbers:
            return {"manylinux2014": "2.17", "manylinux2010": "2.12", "manylinux1": "2.5"}[platform.split("_")[0]]
        return ".".join(part for part in numbers.groups() if part is not None)

    def anywhere(self) -> Target:
        """The same kind of machine elsewhere: any patch release of its Python, nothing of this one's kernel."""
        python = ".".join(self.facts.python.split(".")[:2])
        known = {name: value for name, value in self.given if name == "platform_machine"}
        return replace(self, facts=self.facts._replace(python=python), given=tuple(sorted(known.items())), probe={})

    @property
    def demands(self) -> tuple[Any, ...]:
        """Sort key that puts the most demanding first: the newer libc or macOS, then the exact patch release."""
        facts = self.facts
        level = _numbers(facts.libc_version or facts.macos_version or "0")
        patch = _numbers(facts.python)[2:] or (-1,)
        return (tuple(-part for part in level), tuple(-part for part in patch), self.tag)

    def pip_platform_args(self) -> list[str]:
        """pip's options for this target with the whole ladder, which pip itself does not climb."""
        short = {long: short for short, long in _SHORT.items()}[self.facts.implementation]
        abis = dict.fromkeys(tag.abi for tag in self.tags if tag.abi != "none")
        return [
            *(part for platform in self.platforms for part in ("--platform", platform)),
            *("--python-version", self.python_full, "--implementation", short),
            *(part for abi in (*abis, "none") for part in ("--abi", abi)),
        ]

    def uv_platform(self) -> str | None:
        """uv's --python-platform for exactly this target; None where uv has none (macOS needs MACOSX_DEPLOYMENT_TARGET too)."""
        facts = self.facts
        if facts.implementation != "cpython" or facts.free_threaded:
            return None
        machine = _OTHER_NAMES.get(facts.machine, facts.machine)
        if facts.os == "windows":
            return f"{machine}-pc-windows-msvc"
        if facts.os == "macos":
            return f"{machine}-apple-darwin"
        if machine not in ("x86_64", "aarch64"):
            return None
        if facts.libc == "musl":
            return f"{machine}-unknown-linux-musl" if facts.libc_version == "1.2" else None
        level = facts.libc_version or ""
        return f"{machine}-manylinux_{_underscored(level)}" if level in _UV_LEVELS else None

    @property
    def machines(self) -> Text:
        """Which machines that is, for people, with the systems of the catalogue that it fits."""
        facts = self.facts
        python = f"{_IMPLEMENTATIONS[facts.implementation]} {facts.python}{'t' if facts.free_threaded else ''}"
        if facts.os == "windows":
            return text("{python}, Windows {machine}", python=python, machine=facts.machine)
        if facts.os == "macos":
            version = facts.macos_version
            return text(
                "{python}, macOS {version} or newer, {machine}", python=python, version=version, machine=facts.machine
            )
        known: dict[str, str] = {}
        for system in sorted(catalogue(), key=lambda one: _numbers(one.libc_version or "0")):
            family = re.sub(r"[\d.]+\Z", "", system.name)
            new_enough = _numbers(system.libc_version or "0") >= _numbers(facts.libc_version or "0")
            if (system.os, system.libc) == (facts.os, facts.libc) and facts.machine in system.machines and new_enough:
                known.setdefault(family, system.title)
        values = {"python": python, "machine": facts.machine, "libc": facts.libc, "version": facts.libc_version}
        if not known:
            return text("{python}, Linux {machine}, {libc} {version} or newer", **values)
        return text(
            "{python}, Linux {machine}, {libc} {version} or newer: {known}", known=list(known.values()), **values
        )


_UV_LEVELS = ("2.17", "2.28", *(f"2.{minor}" for minor in range(31, 41)))
"""the glibc levels that uv 0.13 has a triple for"""


def _underscored(version: str | None) -> str:
    return (version or "").replace(".", "_")


def _version(nodot: str) -> str:
    return f"{nodot[0]}.{nodot[1:]}" if len(nodot) > 1 else nodot


def _linux_ladder(machine: str, libc: str | None, version: str) -> Iterator[str]:
    """pip's order: the machine's own tag, then each level of its C library down to the oldest that the tags know."""
    yield f"linux_{machine}"
    major, newest = _numbers(version)[:2]
    if libc == "musl":
        # PEP 656: musllinux_X_Y works on any musl X.Z with Z >= Y.
        yield from (f"musllinux_{major}_{minor}_{machine}" for minor in range(newest, -1, -1))
    elif machine != "armv6l":  # PEP 600 takes up what has a hard-float ABI and a name of its own
        for minor in range(newest, 4 if machine in ("x86_64", "i686") else 16, -1):
            yield f"manylinux_{major}_{minor}_{machine}"
            # PEP 600: manylinux1, 2010 and 2014 are other names of 2_5, 2_12 and 2_17.
            if minor in (5, 12, 17):
                yield f"manylinux{ {5: '1', 12: '2010', 17: '2014'}[minor] }_{machine}"


def _either(tokens: list[str], atom: Callable[[str], bool | None]) -> bool | None:
    """Kleene's or over the `and` groups of a marker; takes its tokens away."""
    answers = [_both(tokens, atom)]
    while tokens and tokens[0] == "or":
        tokens.pop(0)
        answers.append(_both(tokens, atom))
    return True if True in answers else None if None in answers else False


def _both(tokens: list[str], atom: Callable[[str], bool | None]) -> bool | None:
    answers = [_one(tokens, atom)]
    while tokens and tokens[0] == "and":
        tokens.pop(0)
        answers.append(_one(tokens, atom))
    return False if False in answers else None if None in answers else True


def _one(tokens: list[str], atom: Callable[[str], bool | None]) -> bool | None:
    if tokens[0] == "(":
        tokens.pop(0)
        answer = _either(tokens, atom)
        tokens.pop(0)
        return answer
    words = []
    while tokens and tokens[0] not in ("and", "or", ")"):
        words.append(tokens.pop(0))
    return atom(" ".join(words))


class Python(NamedTuple):
    """The facts of a Python without those of its system."""

    implementation: str
    version: str
    free_threaded: bool


class _Written(NamedTuple):
    """What a text says of a target whose Python may still be open."""

    platform: Platform
    python: Python | None
    default: Python | None
    offered: tuple[str, ...]


def parse(asked: str, python_version: str = "") -> Target:
    """The target that is written so: tag form, NAME[-ARCH][:X.Y], a platform, or a JSON file; UsageError or SourceError.

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
    asked_default = cache(default or running)
    pythons = _pythons(python_versions, implementations, abis, asked_default)
    found: list[Target] = []
    problems: list[Finding] = []
    for name in platforms:
        try:
            found += [_make(_platform_named(name), one) for one in pythons or [_python_of(asked_default())]]
        except UsageError as wrong:
            problems += wrong.findings
    for name in names:
        try:
            found += _named(name, [] if platforms else pythons)
        except UsageError as wrong:
            problems += wrong.findings
    if not platforms and not names and pythons:
        found = [_make(Platform(*asked_default().facts[3:]), one) for one in pythons]
    if problems:
        raise UsageError(*problems)
    return _distinct(found)


def abi_notes(abis: Iterable[str]) -> tuple[Finding, ...]:
    """A note for each --abi that makes no target."""
    return tuple(
        note(
            "abi-without-target",
            abi,
            "--abi {subject} makes no target: each target takes such wheels where it can anyway.",
        )
        for abi in abis
        if abi in _SHARED_ABIS
    )


def from_facts(told: Mapping[str, Any], name: str = "") -> Target:
    """The target that a probe's output, pex's complete platform or a plain mapping of Facts describes, else SourceError."""
    markers = told.get("marker_environment") or {}
    try:
        if "implementation" in told:
            fields: dict[str, Any] = {key: told.get(key) for key in Facts._fields}
            facts = Facts(**fields)
        else:
            facts = _facts_of_tags([str(tag) for tag in told["compatible_tags"]], markers)
        return _checked(name, facts, {str(key): str(value) for key, value in markers.items()}, told)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as wrong:
        raise SourceError(
            error(
                "facts-invalid",
                name or "-",
                "{subject} does not describe an interpreter that offlinepack knows: {reason}.",
                "It takes the output of `offlinepack probe` and of `pex3 interpreter inspect --markers --tags`.",
                reason=wrong.findings[0].sentence if isinstance(wrong, UsageError) else str(wrong),
            )
        ) from wrong


def running() -> Target:
    """The interpreter that runs this, as a kind of machine: the values of its kernel are left out."""
    return _of_host(interpreter.facts())


def of_interpreter(path: str | Path) -> Target:
    """Another interpreter of this machine, asked by running it, likewise; UsageError where it does not answer."""
    command = [str(path), "-I", "-B", interpreter.__file__, "--facts"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL)
        return _of_host(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as wrong:
        raise UsageError(
            error(
                "python-silent",
                path,
                "{subject} cannot be run as a Python of version 3.6 or newer.",
                "Name the interpreter itself, for example /usr/bin/python3.11.",
                log=str(getattr(wrong, "stderr", None) or wrong)[-2000:],
            )
        ) from wrong


def complete_platform(target: Target) -> dict[str, Any]:
    """What pex calls a complete platform: the marker environment and the tags."""
    return {"marker_environment": target.environment, "compatible_tags": [str(tag) for tag in target.tags]}


def _of_host(told: Mapping[str, Any]) -> Target:
    markers = {key: value for key, value in told["marker_environment"].items() if key not in _UNKNOWABLE}
    return from_facts({**told, "marker_environment": markers})


def _named(asked: str, pythons: Sequence[Python]) -> list[Target]:
    """The targets of one text: with its own Python, else with each of these, else with its default."""
    asked = asked.strip()
    written = _read_text(asked)
    if isinstance(written, Target):
        return [written]
    if written.python:
        return [_make(written.platform, written.python, asked)]
    if pythons:
        return [_make(written.platform, one, f"{asked}:{one.version}{'t' * one.free_threaded}") for one in pythons]
    if written.default is None:
        known = written.offered or tuple(
            ".".join(one.split(".")[:2]) for one in _data("pythons.toml")["cpython"]["versions"]
        )
        raise UsageError(
            error(
                "target-without-python",
                asked,
                "{subject} names no Python, and none comes with it by default.",
                "Write {subject}:X.Y or add --python-version X.Y; known are {known}.",
                known=list(known),
            )
        )
    return [_make(written.platform, written.default, asked)]


def _read_text(asked: str) -> _Written | Target:
    tag_form = re.fullmatch(r"(cp|pp)(\d\d{1,2}t?)-(\w+)", asked, re.I)
    if tag_form:
        python = _python(tag_form[2].lower())._replace(implementation=_SHORT[tag_form[1].lower()])
        return _Written(_platform_named(tag_form[3]), python, None, ())
    if asked.endswith(".json") or "/" in asked or "\\" in asked:
        return _read_file(Path(asked))
    base, _, version = asked.partition(":")
    fixed = _python(version) if version else None
    entry = _in_catalogue(base)
    if entry:
        system, machine = entry
        default = _python(system.default) if system.default else None
        return _Written(system.platform(machine), fixed, default, system.pythons)
    platform = _platform(base)
    if platform:
        return _Written(platform, fixed, None, ())
    if Path(asked).is_file():
        return _read_file(Path(asked))
    raise _unknown("target", base)


def _read_file(path: Path) -> Target:
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(
            error("facts-missing", path, "There is no file {subject}.", "Check the path after --target.")
        ) from None
    except (OSError, ValueError) as wrong:
        raise SourceError(
            error("facts-unreadable", path, "{subject} cannot be read as JSON: {reason}.", reason=str(wrong))
        ) from wrong
    name = path.stem if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", path.stem) else ""
    return from_facts(told if isinstance(told, dict) else {}, name)


def _facts_of_tags(tags: Sequence[str], markers: Mapping[str, str]) -> Facts:
    """The facts behind pex's list of tags: the first says which Python, the highest level which system."""
    own, abi = tags[0].split("-")[:2]
    systems = [
        one for one in (_platform(tag.split("-")[2]) for tag in tags if "linux_" not in tag.split("-")[2][:6]) if one
    ]
    newest = max(systems, key=lambda one: _numbers(one.libc_version or one.macos_version or "0"))
    python = _python(own[2:] + ("t" if re.search(r"\dt\Z", abi) else ""))
    version = re.match(r"\d+\.\d+\.\d+", markers.get("python_full_version", ""))
    return Facts(_SHORT[own[:2]], version[0] if version else python.version, python.free_threaded, *newest)


def _checked(name: str, facts: Facts, markers: Mapping[str, str], told: Mapping[str, Any]) -> Target:
    python = _python(facts.python + ("t" if facts.free_threaded else ""))._replace(implementation=facts.implementation)
    if facts.os not in _MACHINES or facts.machine not in _MACHINES[facts.os]:
        raise ValueError(f"{facts.os} on {facts.machine}")
    if facts.os == "linux" and (facts.libc not in ("glibc", "musl") or not _LEVEL.fullmatch(facts.libc_version or "")):
        raise ValueError(f"libc {facts.libc} {facts.libc_version}")
    if facts.os == "macos" and not _LEVEL.fullmatch(facts.macos_version or ""):
        raise ValueError(f"macOS {facts.macos_version}")
    target = _make(Platform(*facts[3:]), python, name)
    derived = target.environment
    given = {key: value for key, value in markers.items() if key in _MARKERS and derived.get(key) != value}
    return replace(target, given=tuple(sorted(given.items())), probe=told)


def _make(platform: Platform, python: Python, name: str = "") -> Target:
    """A target of these, named by its tag where it has no name."""
    subject = f"{python.version}{'t' * python.free_threaded}"
    if python.implementation not in _IMPLEMENTATIONS:
        raise UsageError(_wrong_implementation(python.implementation))
    if python.free_threaded and (python.implementation != "cpython" or _numbers(python.version)[:2] < (3, 13)):
        raise UsageError(
            error(
                "python-not-free-threaded",
                subject,
                "There is no free-threaded Python {subject}.",
                "CPython has it from 3.13 on.",
            )
        )
    if platform.macos_version and _numbers(platform.macos_version)[0] >= 11:
        # since macOS 11 the tags know whole releases only
        platform = platform._replace(macos_version=platform.macos_version.split(".")[0] + ".0")
    facts = Facts(python.implementation, python.version, python.free_threaded, *platform)
    target = Target(name, facts)
    return target if name else replace(target, name=target.tag)


def _distinct(found: Sequence[Target]) -> tuple[Target, ...]:
    """Each once; what was asked for by several names bears them all."""
    distinct: dict[str, Target] = {}
    for target in found:
        same = distinct.setdefault(target.tag, target)
        if (same.facts, same.given) != (target.facts, target.given):
            raise UsageError(
                error(
                    "targets-alike",
                    target.name,
                    "{subject} and {other} would both be {tag}, but they differ.",
                    "Leave one of them out.",
                    other=same.name,
                    tag=target.tag,
                )
            )
        names = [name for name in dict.fromkeys((*same.name.split("+"), target.name)) if name != target.tag]
        joined = "+".join(names) if names else target.tag
        if len(joined) <= 100:
            distinct[target.tag] = replace(same, name=joined)
    return tuple(distinct.values())


def _python(written: str) -> Python:
    """CPython in this version: 3.11, 311, 3.11.4, 3.13t; UsageError for what is none or too old."""
    found = re.fullmatch(r"(\d)\.?(\d{1,2})(\.\d{1,3})?(t?)", written.strip())
    if not found:
        raise UsageError(
            error("python-version", written, "{subject} is no Python version.", "Write it as 3.11, 3.11.4 or 3.13t.")
        )
    if (int(found[1]), int(found[2])) < OLDEST_PYTHON:
        raise UsageError(
            error(
                "python-too-old",
                written,
                "Python {subject} is older than what offlinepack installs on.",
                "3.6 is the oldest.",
            )
        )
    return Python("cpython", f"{found[1]}.{found[2]}{found[3] or ''}", bool(found[4]))


def _python_of(target: Target) -> Python:
    python = ".".join(target.facts.python.split(".")[:2])
    return Python(target.facts.implementation, python, target.facts.free_threaded)


def _pythons(
    versions: Sequence[str], implementations: Sequence[str], abis: Sequence[str], default: Callable[[], Target]
) -> list[Python]:
    """Each version in each implementation; an ABI stands beside the versions that it is of, or is one where none is given."""
    wanted = [_abi(abi) for abi in abis if abi not in _SHARED_ABIS]
    kinds = [_SHORT.get(one, one) for one in implementations]
    for kind in kinds:
        if kind not in _IMPLEMENTATIONS:
            raise UsageError(_wrong_implementation(kind))
    asked = [_python(version) for version in versions]
    if not asked:
        asked = wanted or ([_python_of(default())] if kinds else [])
        wanted = []
    found: list[Python] = []
    used: list[Python] = []
    for python, kind in product(asked, kinds or [""]):
        own = python._replace(implementation=kind or python.implementation)
        xy = own.version.split(".")[:2]
        fitting = [one for one in wanted if (one.implementation, one.version.split(".")) == (own.implementation, xy)]
        if own.free_threaded:
            fitting = [one for one in fitting if one.free_threaded]
        used += fitting
        found += [own._replace(free_threaded=one.free_threaded) for one in fitting] or [own]
    for abi, one in zip((abi for abi in abis if abi not in _SHARED_ABIS), wanted, strict=False):
        if one not in used:
            raise UsageError(
                error(
                    "abi-without-python", abi, "--abi {subject} is of none of the Python versions that are asked for."
                )
            )
    return list(dict.fromkeys(found))


def _abi(abi: str) -> Python:
    found = re.fullmatch(r"(cp|pypy)(\d{2,3})(t?)(m?|_pp\d+)", abi)
    if not found:
        raise UsageError(
            error(
                "abi-unknown",
                abi,
                "{subject} is no ABI that a target can have.",
                "Write it as cp311, cp313t or pypy310_pp73.",
            )
        )
    return _python(found[2] + found[3])._replace(implementation="cpython" if found[1] == "cp" else "pypy")


def _wrong_implementation(name: str) -> Finding:
    return error(
        "implementation-unknown", name, "{subject} is no implementation that offlinepack knows.", "Take cp or pp."
    )


def _in_catalogue(written: str) -> tuple[System, str] | None:
    """The system of this name and the machine that is meant; None where there is no such system."""
    found = re.fullmatch(r"([a-z]+)[-_ ]?([\d.]*)(?:-(\w+))?", written.strip().lower())
    if not found:
        return None
    family = _data("catalogue.toml")["families"].get(found[1], found[1])
    names = {name: system for system in catalogue() for name in (system.name, *system.synonyms)}
    version = found[2]
    while family + version not in names and "." in version:  # rocky8.9 is rhel8
        version = version.rpartition(".")[0]
    system = names.get(family + version)
    machine = _machine(system.os, found[3]) if system and found[3] else system.machines[0] if system else None
    return (system, machine) if system and machine else None


def _machine(system: str, written: str) -> str | None:
    """The machine as wheel tags of that system name it."""
    machine = _OTHER_NAMES.get(written, written)
    machine = _OWN_NAMES[system].get(machine, machine)
    return machine if machine in _MACHINES[system] else None


# Other ways to write a platform, and the form of wheel tags: uv's triples and short names, sysconfig's names.
_SPELLINGS = (
    (r"(\w+?)_((?:many|musl)linux_?\d\w*)", r"\2_\1"),
    (r"(\w+?)_unknown_linux(_gnu(eabihf)?)?", r"linux_\1"),
    (r"(\w+?)_unknown_linux_musl", r"musllinux_1_2_\1"),
    (r"(\w+?)_pc_windows_msvc", r"win_\1"),
    (r"(?:(\w+?)_apple_darwin|macos(?:_(\w+))?)", r"macosx_13_0_\1\2"),
    (r"win32", "win_x86"),
    (r"windows(?:_(\w+))?", r"win_\1"),
    (r"linux", "linux_x86_64"),
    (r"manylinux1_(\w+)", r"manylinux_2_5_\1"),
    (r"manylinux2010_(\w+)", r"manylinux_2_12_\1"),
    (r"manylinux2014_(\w+)", r"manylinux_2_17_\1"),
)


def _platform(written: str) -> Platform | None:
    """A platform tag, a triple or a short name as facts; None where it is none.

    `linux_ARCH` says no level: it stands for the floor of that machine. `macos` and triples of it mean macOS 13, as in uv.
    """
    tag = re.sub(r"[-. ]", "_", written.strip().lower())
    for pattern, form in _SPELLINGS:
        found = re.fullmatch(pattern, tag)
        tag = found.expand(form) if found else tag
    tag = {"macosx_13_0_": "macosx_13_0_arm64", "win_": "win_amd64"}.get(tag, tag)
    if found := re.fullmatch(r"(many|musl)linux_(\d+)_(\d+)_(\w+)", tag):
        machine = _machine("linux", found[4])
        libc = "glibc" if found[1] == "many" else "musl"
        return Platform("linux", machine, libc, f"{found[2]}.{found[3]}") if machine else None
    if found := re.fullmatch(r"linux_(\w+)", tag):
        machine = _machine("linux", found[1])
        return Platform("linux", machine, "glibc", _FLOORS.get(machine, "2.28")) if machine else None
    if found := re.fullmatch(r"win_(\w+)", tag):
        machine = _machine("windows", found[1])
        return Platform("windows", machine) if machine else None
    if found := re.fullmatch(r"macosx_(\d+)_(\d+)_(\w+)", tag):
        machine = _machine("macos", found[3])
        return Platform("macos", machine, macos_version=f"{found[1]}.{found[2]}") if machine else None
    return None


def _platform_named(written: str) -> Platform:
    """The platform of --platform; a name of the catalogue will do, too."""
    found = _platform(written)
    entry = None if found else _in_catalogue(written)
    if entry:
        return entry[0].platform(entry[1])
    if not found:
        raise _unknown("platform", written)
    return found


def _unknown(what: str, written: str) -> UsageError:
    """No such target or platform, with the nearest that there is."""
    names = [name for system in catalogue() for name in (system.name, *system.synonyms)]
    names += [
        other + name[len(own) :]
        for other, own in _data("catalogue.toml")["families"].items()
        for name in names
        if name.startswith(own)
    ]
    names += ["manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "manylinux2014_x86_64"]
    names += [
        "musllinux_1_2_x86_64",
        "win_amd64",
        "win_arm64",
        "macosx_11_0_arm64",
        "macosx_13_0_x86_64",
        "linux_x86_64",
    ]
    near = difflib.get_close_matches(written.lower(), names, n=3)
    if what == "platform":
        advice = "Platforms are written as manylinux_2_28_x86_64, musllinux_1_2_x86_64, win_amd64 or macosx_11_0_arm64."
    else:
        advice = "`offlinepack targets` lists the names; a file made by the probe on the machine itself will do, too."
    if near:
        return UsageError(
            error("unknown-" + what, written, "Nothing is known as {subject}.", "Did you mean {near}?", near=near)
        )
    return UsageError(error("unknown-" + what, written, "Nothing is known as {subject}.", advice))


_SHARED_ABIS = ("none", "abi3", "abi3t")
_LEVEL = re.compile(r"\d{1,4}\.\d{1,4}")
_MARKERS = (
    *("implementation_name", "implementation_version", "os_name", "platform_machine", "platform_python_implementation"),
    *(
        "platform_release",
        "platform_system",
        "platform_version",
        "python_full_version",
        "python_version",
        "sys_platform",
    ),
)
