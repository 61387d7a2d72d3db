"""Scan the native binaries of wheels for shared libraries and symbol versions that the wheels do not contain.

A need is certain if a library is loaded when a top-level module is imported or a program is started. Libraries of a
part that may never be used (a database driver of Qt) give a note.
"""

from __future__ import annotations

import posixpath
import re
import tomllib  # type: ignore[import-not-found,unused-ignore]
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from offlinepack.errors import Finding, IntegrityError, error, note, text, warning
from offlinepack.native.binary import SITE_PACKAGES, Binary
from offlinepack.native.files import NON_BINARY_PATTERN, EntryReader, PackedEntry, read_entry_binaries
from offlinepack.native.imports import find_loaded_extensions
from offlinepack.ontarget.archive import ArchiveError, ZipArchive
from offlinepack.ontarget.manifest import Need
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target

SCAN_VERSION = 3
"""number to increase when the result of `scan_wheel` changes, so that cached scans are not used"""


@dataclass(frozen=True)
class NativeScan:
    """The native code of one wheel."""

    binaries: tuple[Binary, ...]
    uses_dlopen: bool
    """Python code that an import executes opens libraries (ctypes, cffi)"""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the store caches."""
        return {"binaries": [binary.to_json() for binary in self.binaries], "dlopens": self.uses_dlopen}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> NativeScan:
        """Read what `to_json` wrote."""
        return cls(tuple(map(Binary.from_json, stored["binaries"])), stored["dlopens"])


@dataclass(frozen=True)
class Needs:
    """The libraries and versions that a set of wheels needs from the system of a target."""

    needs: tuple[Need, ...]
    findings: tuple[Finding, ...]
    glibc_version: str
    """newest glibc version that is certainly needed, as 2.34; '' if none is"""


def find_needs(wheels: Mapping[str, StoredFile], target: Target, store: Store | None = None) -> Needs:
    """Find the shared libraries that these wheels (by distribution) load and that neither they nor the base system
    contain.

    The findings: an error for a library or symbol that the target lacks by its facts or probe, a warning if only a
    part of a distribution needs it, a note for what is not known.
    """
    with ThreadPoolExecutor(4) as pool:
        scans = dict(zip(wheels, pool.map(lambda file: scan_wheel(file, store), wheels.values()), strict=True))
    return _compare_with_target(scans, target)


def scan_wheel(
    wheel: StoredFile, store: Store | None = None, members: Mapping[str, PackedEntry] | None = None
) -> NativeScan:
    """Scan the native code of a wheel; use the cached result of the store.

    `members`: the files of the wheel by name, if they were read already.
    """
    cached = store.get_cached(wheel.sha256, "native", SCAN_VERSION) if store else None
    if cached is None:
        binaries = read_wheel_binaries(wheel.path, members)
        if store:
            store.set_cached(wheel.sha256, "native", binaries.to_json(), SCAN_VERSION)
        return binaries
    return NativeScan.from_json(cached)


def read_wheel_binaries(wheel: Path, members: Mapping[str, PackedEntry] | None = None) -> NativeScan:
    """Look at every binary of a wheel; a damaged one is passed over. IntegrityError where it is no zip archive."""
    with wheel.open("rb", buffering=0) as source:
        try:
            entries: Mapping[str, PackedEntry] = members or ZipArchive(source).read_entries(lambda *_: None)
        except ArchiveError as failure:
            raise IntegrityError(error("no-archive", wheel.name, "{subject}: {why}.", why=failure.args[1])) from failure
        listed = [
            binary
            for entry in entries.values()
            if entry.size >= 64 and not NON_BINARY_PATTERN.search(entry.name)
            for binary in read_entry_binaries(source, entry)
        ]
        modules = {entry.path for entry in listed if entry.is_extension}

        def text_of(name: str) -> bytes:
            try:
                return EntryReader(source, entries[name])[0:]
            except ValueError:  # damaged: the strict reader reports it if it matters
                return b""

        at_once, dlopens = find_loaded_extensions(entries, text_of, modules) if listed else (set(), False)
    return NativeScan(
        tuple(replace(binary, is_always_loaded=binary.is_always_loaded or binary.path in at_once) for binary in listed),
        dlopens,
    )


# Files of the C library, which the facts of the target guarantee.
_LIBC_PATTERN = re.compile(
    r"(libc|libm|libpthread|libdl|librt|libutil|libresolv|libanl|libmvec|libBrokenLocale|libthread_db|ld-linux[\w-]*|ld64)"
    r"\.so\.\d+\Z|libc\.(musl-\w+\.)?so(\.1)?\Z|ld-musl-\w+\.so\.1\Z|linux-(vdso|gate)\.so\.1\Z"
)

_PYTHON_LIBRARY_PATTERN = re.compile(r"/(Python|libpython3[\d.]+t?\.dylib)\Z")


def _compare_with_target(scans: Mapping[str, NativeScan], target: Target) -> Needs:
    installed = {  # the tree as it is installed; binaries for other machines and systems are data
        binary.path: (name, binary)
        for name, scan in scans.items()
        for binary in scan.binaries
        if (binary.system, binary.machine) == (target.facts.os, target.facts.machine)
    }
    named: dict[str, list[str]] = {}
    for path, (_, binary) in installed.items():
        for called in {_get_loader_name(path, target), binary.soname} - {""}:
            named.setdefault(called, []).append(path)
    for paths in named.values():  # of files with one name, the one with the fewest missing libraries is loaded first
        if len(paths) > 1:
            paths.sort(
                key=lambda path: sum(
                    _is_missing(library, named, target) for library in installed[path][1].needed_libraries
                )
            )
    certain = _collect_loaded(
        [path for path, (_, binary) in installed.items() if binary.is_always_loaded], installed, named
    )
    for scan in scans.values():  # libraries without a module, which Python code of the distribution opens
        own_paths = [binary.path for binary in scan.binaries if binary.path in installed]
        if (
            scan.uses_dlopen
            and not certain.intersection(own_paths)
            and not any(binary.is_extension for binary in scan.binaries)
        ):
            certain |= _collect_loaded(
                [path for path in own_paths if not installed[path][1].is_program], installed, named
            )
    symbols_by_library: dict[str, dict[str, set[str]]] = {}
    partly: dict[str, set[str]] = {}
    findings: list[Finding] = []
    too_new: dict[tuple[str, bool], list[tuple[tuple[int, ...], str, Binary]]] = {}
    libc, floor = "", _parse_version(target.facts.libc_version or target.facts.macos_version or "999")
    for path, (name, binary) in sorted(installed.items()):
        versions = dict(binary.symbol_versions)
        newest = _collect_newest(version for soname in versions for version in versions[soname])
        if path in certain:
            libc = max(libc, newest.get("GLIBC", ""), key=_parse_version)
        level = newest.get("GLIBC" if target.facts.libc == "glibc" else "MACOS", "")
        # spare libraries of a built program are loaded only if the system lacks them
        if _parse_version(level) > floor and ".libs/spare/" not in path:
            too_new.setdefault((name, path in certain), []).append((_parse_version(level), level, binary))
        for soname in binary.needed_libraries:
            if _is_system_library(soname, target) or _find_in_wheels(binary, soname, installed, named):
                continue
            if path in certain:
                asked_symbols = symbols_by_library.setdefault(soname, {}).setdefault(name, set())
                asked_symbols |= {
                    f"{kind}_{number}" for kind, number in _collect_newest(versions.get(soname, ())).items()
                }
            else:
                partly.setdefault(name, set()).add(soname)
    for (name, sure), files in sorted(too_new.items()):
        _, level, binary = max(files, key=lambda file: file[0])
        kind = _report_libc_too_old if target.facts.libc else _report_macos_too_old
        findings.append(kind(name, binary, level, target, sure))
    found_needs = []
    for soname, askers in sorted(symbols_by_library.items()):
        symbols = _collect_newest(symbol for symbols_of in askers.values() for symbol in symbols_of)
        need = Need(
            soname=soname,
            symbols=tuple(f"{kind}_{number}" for kind, number in sorted(symbols.items())),
            wanted_by=tuple(sorted(askers)),
            help=find_install_command(soname, target),
        )
        found_needs.append(need)
        findings += _check_need(need, target)
    for name, sonames in sorted(partly.items()):
        rest = sorted(
            {posixpath.basename(soname) for soname in sonames}
            - set(map(posixpath.basename, symbols_by_library))
            - set(target.probe_output.get("sonames", _list_usual_libraries()))
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


def _is_missing(soname: str, named: Mapping[str, list[str]], target: Target) -> bool:
    return posixpath.basename(soname) not in named and not _is_system_library(soname, target)


def _get_loader_name(path: str, target: Target) -> str:
    name = posixpath.basename(path)
    return name.lower() if target.facts.os == "windows" else name


def _is_system_library(soname: str, target: Target) -> bool:
    """Check whether the facts of the target guarantee a library."""
    if target.facts.os == "windows":
        return bool(re.fullmatch(_load_libraries()["windows"]["own"], soname))
    if target.facts.os == "macos":
        return soname.startswith(("/usr/lib/", "/System/Library/")) or bool(_PYTHON_LIBRARY_PATTERN.search(soname))
    return bool(_LIBC_PATTERN.match(soname))


def _collect_loaded(
    starts: Sequence[str], installed: Mapping[str, tuple[str, Binary]], named: Mapping[str, list[str]]
) -> set[str]:
    """Return these files and all files of the set that the loader loads with them."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            binary = installed[path][1]
            waiting += [
                origin
                for soname in binary.needed_libraries
                if (origin := _find_in_wheels(binary, soname, installed, named))
            ]
    return reached


def _find_in_wheels(
    binary: Binary, soname: str, installed: Mapping[str, tuple[str, Binary]], named: Mapping[str, list[str]]
) -> str | None:
    """Find the file of the set that provides a soname: on its search path, otherwise the one of this name loaded
    before.
    """
    origin = posixpath.dirname(binary.path)
    for place in binary.search_paths:
        path = posixpath.normpath(posixpath.join(re.sub(r"\$ORIGIN|\$\{ORIGIN\}", origin, place), soname))
        path = re.sub(r"\Alib(64)?/(python|pypy)[\d.]+t?/(site|dist)-packages", SITE_PACKAGES, path)
        if path in installed:
            return path
    return next(iter(named.get(posixpath.basename(soname), ())), None)


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _collect_newest(versions: Iterable[str]) -> dict[str, str]:
    """Collect the newest version of each kind: GLIBCXX_3.4.5, GLIBCXX_3.4.21 -> {"GLIBCXX": "3.4.21"}."""
    providers: dict[str, str] = {}
    for version in versions:
        kind, _, number = version.rpartition("_")
        if kind and re.fullmatch(r"\d+(\.\d+)*", number):
            providers[kind] = max(providers.get(kind, ""), number, key=_parse_version)
    return providers


def _report_libc_too_old(name: str, binary: Binary, version: str, target: Target, certain: bool) -> Finding:
    finding = error(
        "libc-too-old",
        name,
        "{subject}: {file} needs GLIBC_{wanted}, and {target} has glibc {version}.",
        "Take an older version of {subject}, one that was made for older systems.",
        file=binary.path.replace(SITE_PACKAGES + "/", ""),
        wanted=version,
        target=target.name,
        version=target.facts.libc_version,
    )
    return finding if certain else finding._replace(level="warning")


def _report_macos_too_old(name: str, binary: Binary, version: str, target: Target, certain: bool) -> Finding:
    finding = warning(
        "macos-too-old",
        name,
        "{subject}: {file} was made for macOS {wanted} or newer, and {target} has {version}.",
        "Take an older version of {subject}, one that was made for older systems.",
        file=binary.path.replace(SITE_PACKAGES + "/", ""),
        wanted=version,
        target=target.name,
        version=target.facts.macos_version,
    )
    return finding if certain else finding._replace(level="note")


_INSTALL_ADVICE = "Install it there: {help}"

_FIND_ADVICE = "Install the package of that system that brings it."


def _check_need(need: Need, target: Target) -> list[Finding]:
    """Check a library against the probe of the target; without a probe, note libraries that not every server has."""
    subject = ", ".join(need.wanted_by)
    facts: dict[str, Any] = {"soname": need.soname, "target": target.name, "help": need.help}
    if "sonames" not in target.probe_output:
        if need.soname in _list_usual_libraries():
            return []
        finding = note(
            "library-needed", subject, "{subject} needs {soname} of the target's own system.", _INSTALL_ADVICE, **facts
        )
    elif need.soname not in target.probe_output["sonames"]:
        finding = error(
            "library-missing", subject, "{subject} needs {soname}, which {target} lacks.", _INSTALL_ADVICE, **facts
        )
    else:
        has: Mapping[str, str] = target.probe_output.get("symbols", {})
        required = _collect_newest(need.symbols).items()
        newer = [
            f"{kind}_{number}"
            for kind, number in required
            if _parse_version(number) > _parse_version(has.get(kind, "999"))
        ]
        if not newer:
            return []
        finding = error(
            "symbol-missing",
            subject,
            "{subject} needs {symbols} of {soname}, and the one of {target} is older.",
            _INSTALL_ADVICE,
            symbols=newer,
            **facts,
        )
    return [finding if need.help else finding._replace(advice=text(_FIND_ADVICE))]


@cache
def _load_libraries() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(Path(__file__).with_name("libraries.toml").read_text("utf-8"))
    return loaded


def is_usual_library(soname: str) -> bool:
    """Check whether every server installation has a library."""
    return soname in _list_usual_libraries()


def _list_usual_libraries() -> set[str]:
    return set(_load_libraries()["usual"]["sonames"])


def find_install_command(soname: str, target: Target) -> str | None:
    """Return the command that installs a library on the target's system (`apt install libgl1`), or None."""
    if target.facts.os != "linux":
        candidates = (
            help for pattern, help in _load_libraries()[target.facts.os]["help"].items() if re.search(pattern, soname)
        )
        return next(candidates, None)
    managers: dict[str, dict[str, Any]] = _load_libraries()["managers"]
    system = str(target.probe_output.get("spoken") or target.name)
    own_manager = [name for name, manager in managers.items() if re.match(manager["systems"], system)][:1]
    if not own_manager:
        own_manager = ["apk"] if target.facts.libc == "musl" else ["apt", "dnf"]
    packages = _find_packages(soname)
    mark = "()(64bit)" if target.facts.machine not in ("i686", "armv7l", "armv6l") else ""
    commands = []
    for name in own_manager:
        manager = managers[name]
        package = next((packages[kind] for kind in manager["packages"] if kind in packages), "")
        if not package and "capability" in manager:
            package = manager["capability"].format(soname=soname, mark=mark)
        if package:
            commands.append(manager["install"].format(package))
    return ", or ".join(commands) or None


def _find_packages(soname: str) -> dict[str, str]:
    """Find package names by kind of package; * in an entry stands for every version, {0} in its names for what *
    matched.
    """
    for pattern, packages in _load_libraries()["library"].items():
        match = re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), soname)
        if match:
            return {kind: name.format(*match.groups()) for kind, name in packages.items()}
    return {}
