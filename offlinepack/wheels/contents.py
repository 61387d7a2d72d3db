"""Collect the contents of a wheel: license, names, commands, native files, start-up files and SBOMs."""

from __future__ import annotations

import json
import re
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.metadata import RawMetadata

from offlinepack.ontarget.archive import ArchiveError, unpack_entry
from offlinepack.ontarget.wheel_model import CheckedWheel, WheelMember, normalize_name
from offlinepack.wheels.licenses import detect_license
from offlinepack.wheels.metadata import parse_metadata

_NATIVE_SUFFIXES = (".so", ".pyd", ".dll", ".dylib", ".exe", ".a", ".lib", ".o")

_MAX_NAMES = 12

_MAX_TEXT_SIZE, _MAX_SBOM_SIZE = 1 << 18, 4 << 20

_GENERAL_NAMES = {
    *(
        "bin",
        "build",
        "common",
        "config",
        "conf",
        "data",
        "demo",
        "demos",
        "dist",
        "doc",
        "docs",
        "example",
        "examples",
    ),
    *("helpers", "include", "lib", "libs", "scripts", "setup", "share", "source", "src", "static", "templates", "test"),
    *("tests", "testing", "tools", "util", "utils"),
}
"""general top-level names, which two projects may both contain"""


@dataclass(frozen=True)
class WheelContents:
    """The contents of a distribution that a reviewer should see."""

    name: str = ""
    version: str = ""
    summary: str = ""
    homepage: str = ""
    licenses: tuple[str, ...] = ()
    """SPDX expressions or names; all of them apply"""
    license_source: str = ""
    """expression, classifier, field or text; '' if no license is declared"""
    top_level_names: tuple[str, ...] = ()
    """top-level names below site-packages"""
    unusual_names: tuple[str, ...] = ()
    """those of the standard library, and general ones such as `tests`"""
    commands: tuple[str, ...] = ()
    startup_files: tuple[str, ...] = ()
    """files that run at every start of Python: .pth files, sitecustomize.py"""
    executables: tuple[str, ...] = ()
    """programs that are not entry points: scripts, and files marked executable"""
    native_count: int = 0
    """number of files with compiled code"""
    native_files: tuple[str, ...] = ()
    """the first of these files"""
    file_count: int = 0
    unpacked_size: int = 0
    """bytes"""
    components: tuple[Mapping[str, Any], ...] = ()
    """components of the SBOMs in the wheel (PEP 770), as CycloneDX names their fields"""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that the store caches."""
        return {
            "name": self.name,
            "version": self.version,
            "summary": self.summary,
            "homepage": self.homepage,
            "licences": list(self.licenses),
            "licence_source": self.license_source,
            "tops": list(self.top_level_names),
            "unusual": list(self.unusual_names),
            "commands": list(self.commands),
            "startup": list(self.startup_files),
            "executables": list(self.executables),
            "native": self.native_count,
            "native_files": list(self.native_files),
            "files": self.file_count,
            "unpacked": self.unpacked_size,
            "components": [dict(component) for component in self.components],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> WheelContents:
        """Read what `to_json` wrote."""
        return cls(
            name=stored["name"],
            version=stored["version"],
            summary=stored["summary"],
            homepage=stored["homepage"],
            licenses=tuple(stored["licences"]),
            license_source=stored["licence_source"],
            top_level_names=tuple(stored["tops"]),
            unusual_names=tuple(stored["unusual"]),
            commands=tuple(stored["commands"]),
            startup_files=tuple(stored["startup"]),
            executables=tuple(stored["executables"]),
            native_count=stored["native"],
            native_files=tuple(stored["native_files"]),
            file_count=stored["files"],
            unpacked_size=stored["unpacked"],
            components=tuple(stored["components"]),
        )


def collect_sdist_contents(path: Path) -> WheelContents:
    """Collect the contents of an sdist that its PKG-INFO states; the others are known after its build."""
    try:
        with tarfile.open(path) as tar:
            for entry in tar:
                if entry.isreg() and re.fullmatch(r"[^/]+/PKG-INFO", entry.name) and entry.size < _MAX_TEXT_SIZE:
                    source = tar.extractfile(entry)
                    raw = parse_metadata(source.read() if source else b"").raw
                    licence = detect_license(raw, lambda: [])
                    return WheelContents(
                        normalize_name(raw.get("name", "")),
                        raw.get("version", ""),
                        " ".join(raw.get("summary", "").split())[:300],
                        _find_homepage(raw),
                        licence.terms,
                        licence.source,
                    )
    except (OSError, tarfile.TarError, EOFError, zlib.error):
        pass
    return WheelContents()


def collect_contents(wheel: CheckedWheel) -> WheelContents:
    """Collect the contents of a wheel."""
    raw = parse_metadata(wheel.metadata).raw
    licence = detect_license(raw, lambda: _read_license_texts(wheel))
    names = [member.name for member in wheel.members]
    native = [name for name in names if name.lower().endswith(_NATIVE_SUFFIXES) or ".so." in name.lower()]
    libraries = [member for member in wheel.members if member.scheme.endswith("lib")]
    tops = sorted({library.path.partition("/")[0] for library in libraries} - {wheel.dist_info})
    startup = sorted(
        library.path
        for library in libraries
        if "/" not in library.path
        and (library.path.lower().endswith(".pth") or library.path.lower() in ("sitecustomize.py", "usercustomize.py"))
    )
    scripts = {member.path for member in wheel.members if member.scheme == "scripts"}
    marked = {member.name for member in wheel.members if member.is_executable and member.name not in native}
    marked -= {
        path for path in marked if path.endswith((".py", ".txt", ".md", ".rst", ".pyi", ".json", ".toml", ".typed"))
    }
    return WheelContents(
        name=wheel.name,
        version=wheel.version,
        summary=" ".join(raw.get("summary", "").split())[:300],
        homepage=_find_homepage(raw),
        licenses=licence.terms,
        license_source=licence.source,
        top_level_names=tuple(tops[:_MAX_NAMES]),
        unusual_names=tuple(top for top in tops if _is_unusual(top, wheel.name)),
        commands=tuple(sorted({*scripts, *(script[0] for script in wheel.scripts)})),
        startup_files=tuple(startup),
        executables=tuple(
            sorted({*scripts, *({path for path in marked if ".dist-info/" not in path and ".data/" not in path})})
        )[:_MAX_NAMES],
        native_count=len(native),
        native_files=tuple(sorted(native)[:5]),
        file_count=len(names),
        unpacked_size=wheel.size,
        components=tuple(_list_components(wheel)),
    )


def _is_unusual(top: str, name: str) -> bool:
    stem = top.partition(".")[0]
    if normalize_name(stem) == name:
        return False
    return stem.lower() in _GENERAL_NAMES or stem in sys.stdlib_module_names or stem.startswith("-")


def _find_homepage(raw: RawMetadata) -> str:
    urls = {re.sub("[^a-z]", "", key.lower()): value for key, value in raw.get("project_urls", {}).items()}
    addresses = [
        raw.get("home_page", ""),
        *(urls.get(key, "") for key in ("homepage", "source", "sourcecode", "repository")),
    ]
    return next((address for address in addresses if re.fullmatch(r"https?://[^\s<>\"@?]+", address)), "")


def _read_member(wheel: CheckedWheel, member: WheelMember, most: int) -> bytes:
    if max(member.size, member.packed_size) > most:
        return b""
    try:
        with Path(wheel.path).open("rb", buffering=0) as source:
            return b"".join(unpack_entry(source, member))
    except ArchiveError:
        return b""


def _read_license_texts(wheel: CheckedWheel) -> Iterator[str]:
    """Read the license texts of a wheel, without those of vendored projects in deeper folders."""
    for member in wheel.members:
        folder, _, name = member.name.rpartition("/")
        if folder in (wheel.dist_info, f"{wheel.dist_info}/licenses") and re.match("(licen[cs]e|copying)", name, re.I):
            yield _read_member(wheel, member, _MAX_TEXT_SIZE).decode("utf-8", "replace")


def _list_components(wheel: CheckedWheel) -> Iterator[dict[str, Any]]:
    """List the components of SBOMs in .dist-info/sboms/ (PEP 770), CycloneDX and SPDX JSON in one form."""
    for member in sorted(wheel.members, key=lambda member: member.name):
        if member.name.startswith(f"{wheel.dist_info}/sboms/"):
            try:
                document = json.loads(_read_member(wheel, member, _MAX_SBOM_SIZE))
                listed = list(_parse_cyclonedx(document) if "bomFormat" in document else _parse_spdx(document))
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
                continue
            inside = member.name.partition("/")[2]
            for entry in listed:
                plain = {
                    key: entry[key]
                    for key in ("name", "version", "purl", "type", "licence", "sha256")
                    if entry.get(key)
                }
                if plain.get("name") and all(isinstance(value, str) and len(value) < 500 for value in plain.values()):
                    yield {**plain, "sbom": inside}


def _parse_cyclonedx(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = list(document.get("components") or [])
    while waiting:
        component = waiting.pop(0)
        waiting += component.get("components") or []
        expressions = [
            license.get("expression") or license.get("license", {}).get("id")
            for license in component.get("licenses") or []
        ]
        sums = {entry["alg"]: entry["content"] for entry in component.get("hashes") or []}
        yield {
            **{key: component.get(key) for key in ("name", "version", "purl", "type")},
            "licence": expressions[0] if len(expressions) == 1 else None,
            "sha256": sums.get("SHA-256"),
        }


def _parse_spdx(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for package in document["packages"]:
        purls = [
            reference["referenceLocator"]
            for reference in package.get("externalRefs") or []
            if reference.get("referenceType") == "purl"
        ]
        expression = package.get("licenseConcluded") or package.get("licenseDeclared")
        sums = {entry["algorithm"]: entry["checksumValue"] for entry in package.get("checksums") or []}
        yield {
            "name": package.get("name"),
            "version": package.get("versionInfo"),
            "purl": next(iter(purls), None),
            "licence": None if expression in ("NOASSERTION", "NONE") else expression,
            "sha256": sums.get("SHA256"),
        }
