"""What the binaries of wheels want of the machine: sonames and symbol versions that nothing in the set brings.

A need is certain: a library that is loaded when a top-level module of the set is imported, or a program of it is
started. What only a part wants that may never be used (a database driver of Qt, a thread pool) is a note.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from offlinepack.errors import Finding, IntegrityError, error, note, text, warning
from offlinepack.native.binary import SITE, Binary
from offlinepack.native.files import NO_BINARY, Packed, Unpacked, read_member
from offlinepack.native.imports import imported
from offlinepack.ontarget.archive import ArchiveError, ZipArchive
from offlinepack.ontarget.manifest import Need
from offlinepack.store import Store, StoredFile
from offlinepack.targets import Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

SCAN = 3
"""grows when what `scan` finds out changes, so that facts in the store are found out again"""


@dataclass(frozen=True)
class Scan:
    """The native code of one wheel."""

    binaries: tuple[Binary, ...]
    dlopens: bool
    """its Python code, as far as an import runs it, opens libraries by itself (ctypes, cffi)"""

    def to_json(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {"binaries": [one.to_json() for one in self.binaries], "dlopens": self.dlopens}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Scan:
        """Read what `to_json` wrote."""
        return cls(tuple(map(Binary.from_json, kept["binaries"])), kept["dlopens"])


@dataclass(frozen=True)
class Needs:
    """What a set of wheels wants of a target's own system."""

    needs: tuple[Need, ...]
    findings: tuple[Finding, ...]
    libc: str
    """the newest level of glibc that is wanted for certain, 2.34; '' where none is"""


def needs(wheels: Mapping[str, StoredFile], target: Target, store: Store | None = None) -> Needs:
    """What these wheels (by distribution, normalised) want that neither they nor every such system bring.

    Findings: an error where a library or symbol is lacking that the target, by its facts or its probe, does not have;
    a warning where that holds for a part only; a note for what cannot be known here.
    """
    with ThreadPoolExecutor(4) as pool:
        scans = dict(zip(wheels, pool.map(lambda file: scan(file, store), wheels.values()), strict=True))
    return _judge(scans, target)


def scan(wheel: StoredFile, store: Store | None = None, members: Mapping[str, Packed] | None = None) -> Scan:
    """The native code of a wheel, from the store's facts where it was looked at before.

    `members`: its files by name, where somebody has read them already.
    """
    known = store.fact(wheel.sha256, "native", SCAN) if store else None
    if known is None:
        found = read(wheel.path, members)
        if store:
            store.keep_fact(wheel.sha256, "native", found.to_json(), SCAN)
        return found
    return Scan.from_json(known)


def read(wheel: Path, members: Mapping[str, Packed] | None = None) -> Scan:
    """Look at every binary of a wheel; a damaged one is passed over. IntegrityError where it is no zip archive."""
    with wheel.open("rb", buffering=0) as source:
        try:
            entries: Mapping[str, Packed] = members or ZipArchive(source).read_entries(lambda *_: None)
        except ArchiveError as why:
            raise IntegrityError(error("no-archive", wheel.name, "{subject}: {why}.", why=why.args[1])) from why
        found = [
            binary
            for entry in entries.values()
            if entry.size >= 64 and not NO_BINARY.search(entry.name)
            for binary in read_member(source, entry)
        ]
        modules = {one.path for one in found if one.module}

        def text_of(name: str) -> bytes:
            try:
                return Unpacked(source, entries[name])[0:]
            except ValueError:  # damaged: the strict reader says so where it matters
                return b""

        at_once, dlopens = imported(entries, text_of, modules) if found else (set(), False)
    return Scan(tuple(replace(one, starts=one.starts or one.path in at_once) for one in found), dlopens)

# The C library's own files: what the target's facts promise.
_LIBC = re.compile(
    r"(libc|libm|libpthread|libdl|librt|libutil|libresolv|libanl|libmvec|libBrokenLocale|libthread_db|ld-linux[\w-]*|ld64)"
    r"\.so\.\d+\Z|libc\.(musl-\w+\.)?so(\.1)?\Z|ld-musl-\w+\.so\.1\Z|linux-(vdso|gate)\.so\.1\Z"
)

_PYTHON = re.compile(r"/(Python|libpython3[\d.]+t?\.dylib)\Z")


def _judge(scans: Mapping[str, Scan], target: Target) -> Needs:
    here = {  # the tree as it will be installed; files for other machines and systems are data
        binary.path: (name, binary)
        for name, found in scans.items()
        for binary in found.binaries
        if (binary.system, binary.machine) == (target.facts.os, target.facts.machine)
    }
    named: dict[str, list[str]] = {}
    for path, (_, binary) in here.items():
        for called in {_called(path, target), binary.soname} - {""}:
            named.setdefault(called, []).append(path)
    for paths in named.values():  # of two of one name, the one that has what it wants itself: it is loaded first
        if len(paths) > 1:
            paths.sort(key=lambda path: sum(_lacks(one, named, target) for one in here[path][1].needed))
    certain = _closure([path for path, (_, binary) in here.items() if binary.starts], here, named)
    for found in scans.values():  # libraries without a module, opened by the distribution's own Python code
        own = [one.path for one in found.binaries if one.path in here]
        if found.dlopens and not certain.intersection(own) and not any(one.module for one in found.binaries):
            certain |= _closure([path for path in own if not here[path][1].program], here, named)
    wanted: dict[str, dict[str, set[str]]] = {}
    partly: dict[str, set[str]] = {}
    findings: list[Finding] = []
    too_new: dict[tuple[str, bool], list[tuple[tuple[int, ...], str, Binary]]] = {}
    libc, floor = "", _numbers(target.facts.libc_version or target.facts.macos_version or "999")
    for path, (name, binary) in sorted(here.items()):
        versions = dict(binary.versions)
        newest = _newest(version for soname in versions for version in versions[soname])
        if path in certain:
            libc = max(libc, newest.get("GLIBC", ""), key=_numbers)
        level = newest.get("GLIBC" if target.facts.libc == "glibc" else "MACOS", "")
        # what a built program carries as a spare is loaded only where the system has none of its own
        if _numbers(level) > floor and ".libs/spare/" not in path:
            too_new.setdefault((name, path in certain), []).append((_numbers(level), level, binary))
        for soname in binary.needed:
            if _of_the_system(soname, target) or _inside(binary, soname, here, named):
                continue
            if path in certain:
                asked = wanted.setdefault(soname, {}).setdefault(name, set())
                asked |= {f"{kind}_{number}" for kind, number in _newest(versions.get(soname, ())).items()}
            else:
                partly.setdefault(name, set()).add(soname)
    for (name, sure), files in sorted(too_new.items()):
        _, level, binary = max(files, key=lambda one: one[0])
        kind = _libc_too_old if target.facts.libc else _macos_too_old
        findings.append(kind(name, binary, level, target, sure))
    found_needs = []
    for soname, askers in sorted(wanted.items()):
        symbols = _newest(symbol for asked in askers.values() for symbol in asked)
        need = Need(
            soname=soname,
            symbols=tuple(f"{kind}_{number}" for kind, number in sorted(symbols.items())),
            wanted_by=tuple(sorted(askers)),
            help=help_for(soname, target),
        )
        found_needs.append(need)
        findings += _lacking(need, target)
    for name, sonames in sorted(partly.items()):
        rest = sorted(
            {posixpath.basename(one) for one in sonames}
            - set(map(posixpath.basename, wanted))
            - set(target.probe.get("sonames", _usual()))
        )
        if rest:
            findings.append(
                note(
                    "library-optional",
                    name,
                    "Parts of {subject} also want {sonames} of the target's system, when they are used.",
                    sonames=rest if len(rest) < 8 else [*rest[:7], "…"],
                )
            )
    return Needs(tuple(found_needs), tuple(findings), libc)


def _lacks(soname: str, named: Mapping[str, list[str]], target: Target) -> bool:
    return posixpath.basename(soname) not in named and not _of_the_system(soname, target)


def _called(path: str, target: Target) -> str:
    name = posixpath.basename(path)
    return name.lower() if target.facts.os == "windows" else name


def _of_the_system(soname: str, target: Target) -> bool:
    """Whether the target's facts alone promise this library."""
    if target.facts.os == "windows":
        return bool(re.fullmatch(_libraries()["windows"]["own"], soname))
    if target.facts.os == "macos":
        return soname.startswith(("/usr/lib/", "/System/Library/")) or bool(_PYTHON.search(soname))
    return bool(_LIBC.match(soname))


def _closure(starts: Sequence[str], here: Mapping[str, tuple[str, Binary]], named: Mapping[str, list[str]]) -> set[str]:
    """These files and all in the set that the loader brings in with them."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            binary = here[path][1]
            waiting += [found for soname in binary.needed if (found := _inside(binary, soname, here, named))]
    return reached


def _inside(
    binary: Binary, soname: str, here: Mapping[str, tuple[str, Binary]], named: Mapping[str, list[str]]
) -> str | None:
    """The file of the set that serves this soname: on its search path, else the one of that name (loaded before)."""
    origin = posixpath.dirname(binary.path)
    for place in binary.search:
        path = posixpath.normpath(posixpath.join(re.sub(r"\$ORIGIN|\$\{ORIGIN\}", origin, place), soname))
        path = re.sub(r"\Alib(64)?/(python|pypy)[\d.]+t?/(site|dist)-packages", SITE, path)
        if path in here:
            return path
    return next(iter(named.get(posixpath.basename(soname), ())), None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _newest(versions: Iterable[str]) -> dict[str, str]:
    """GLIBCXX_3.4.5, GLIBCXX_3.4.21 -> {"GLIBCXX": "3.4.21"}: who has the newest of a kind has the others."""
    found: dict[str, str] = {}
    for version in versions:
        kind, _, number = version.rpartition("_")
        if kind and re.fullmatch(r"\d+(\.\d+)*", number):
            found[kind] = max(found.get(kind, ""), number, key=_numbers)
    return found


def _libc_too_old(name: str, binary: Binary, wanted: str, target: Target, certain: bool) -> Finding:
    found = error(
        "libc-too-old",
        name,
        "{subject}: {file} needs GLIBC_{wanted}, and {target} has glibc {version}.",
        "Take an older version of {subject}, one that was made for older systems.",
        file=binary.path.replace(SITE + "/", ""),
        wanted=wanted,
        target=target.name,
        version=target.facts.libc_version,
    )
    return found if certain else found._replace(level="warning")


def _macos_too_old(name: str, binary: Binary, wanted: str, target: Target, certain: bool) -> Finding:
    found = warning(
        "macos-too-old",
        name,
        "{subject}: {file} was made for macOS {wanted} or newer, and {target} has {version}.",
        "Take an older version of {subject}, one that was made for older systems.",
        file=binary.path.replace(SITE + "/", ""),
        wanted=wanted,
        target=target.name,
        version=target.facts.macos_version,
    )
    return found if certain else found._replace(level="note")

_INSTALL = "Install it there: {help}"

_FIND = "Install the package of that system that brings it."


def _lacking(need: Need, target: Target) -> list[Finding]:
    """What the target's probe says of a need; without a probe, a note where the library is not on every server."""
    subject = ", ".join(need.wanted_by)
    facts: dict[str, Any] = {"soname": need.soname, "target": target.name, "help": need.help}
    if "sonames" not in target.probe:
        if need.soname in _usual():
            return []
        found = note(
            "library-needed", subject, "{subject} needs {soname} of the target's own system.", _INSTALL, **facts
        )
    elif need.soname not in target.probe["sonames"]:
        found = error("library-missing", subject, "{subject} needs {soname}, which {target} lacks.", _INSTALL, **facts)
    else:
        has: Mapping[str, str] = target.probe.get("symbols", {})
        wanted = _newest(need.symbols).items()
        newer = [f"{kind}_{number}" for kind, number in wanted if _numbers(number) > _numbers(has.get(kind, "999"))]
        if not newer:
            return []
        found = error(
            "symbol-missing",
            subject,
            "{subject} needs {symbols} of {soname}, and the one of {target} is older.",
            _INSTALL,
            symbols=newer,
            **facts,
        )
    return [found if need.help else found._replace(advice=text(_FIND))]


@cache
def _libraries() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(Path(__file__).with_name("libraries.toml").read_text("utf-8"))
    return loaded


def is_usual(soname: str) -> bool:
    """Whether every server installation has it."""
    return soname in _usual()


def _usual() -> set[str]:
    return set(_libraries()["usual"]["sonames"])


def help_for(soname: str, target: Target) -> str | None:
    """The command that brings this library on the target's system: `apt install libgl1`; None where none is known."""
    if target.facts.os != "linux":
        found = (help for pattern, help in _libraries()[target.facts.os]["help"].items() if re.search(pattern, soname))
        return next(found, None)
    managers: dict[str, dict[str, Any]] = _libraries()["managers"]
    system = str(target.probe.get("spoken") or target.name)
    own = [name for name, manager in managers.items() if re.match(manager["systems"], system)][:1]
    if not own:
        own = ["apk"] if target.facts.libc == "musl" else ["apt", "dnf"]
    packages = _packages(soname)
    mark = "()(64bit)" if target.facts.machine not in ("i686", "armv7l", "armv6l") else ""
    commands = []
    for name in own:
        manager = managers[name]
        package = next((packages[kind] for kind in manager["packages"] if kind in packages), "")
        if not package and "capability" in manager:
            package = manager["capability"].format(soname=soname, mark=mark)
        if package:
            commands.append(manager["install"].format(package))
    return ", or ".join(commands) or None


def _packages(soname: str) -> dict[str, str]:
    """Package names by kind of package; an entry with * stands for every version, {0} in its names for what * was."""
    for pattern, packages in _libraries()["library"].items():
        match = re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), soname)
        if match:
            return {kind: name.format(*match.groups()) for kind, name in packages.items()}
    return {}
