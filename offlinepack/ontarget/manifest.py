"""Define bundle format 1: read manifest.json strictly, check that it is consistent, and write it canonically."""

import hashlib
import json
import re
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .errors import BundleError, error
from .paths import find_path_problem, fold_path

FORMAT = 1
MANIFEST = "manifest.json"
SIGNATURES = ("manifest.json.sig", "manifest.json.2.sig")
SUMS = "SHA256SUMS"
INSTALL_PY = "install.py"
ONTARGET = "ontarget"
WHEELS, SDISTS, TOOLS, BYTECODE, PYTHON = "wheels", "sdists", "tools", "bytecode", "python"
KINDS = ("wheel", "sdist", "tool", "bytecode", "code", "document", "included", "python")
MAX_MANIFEST_SIZE = 16 << 20  # a larger manifest.json is not read


def make_bytecode_path(tag, wheel):  # type: (str, str) -> str
    """Return the path of a wheel's bytecode for one target: another wheel, with x.pyc in place of x.py."""
    return "%s/%s/%s" % (BYTECODE, tag.partition("-")[0], wheel.rpartition("/")[2])


class Facts(NamedTuple):
    """An interpreter and its system. A target machine compares these values and never computes them."""
    implementation: str  # cpython or pypy
    python: str  # X.Y for any patch release, X.Y.Z for exactly that one
    free_threaded: bool
    os: str  # linux, macos or windows
    machine: str  # as in wheel tags: x86_64, aarch64, i686 ...; macOS: arm64, x86_64; Windows: amd64, x86, arm64
    libc: Optional[str]  # glibc or musl on Linux
    libc_version: Optional[str]  # X.Y
    macos_version: Optional[str]  # X.Y


class File(NamedTuple):
    """One file of the bundle."""
    path: str  # relative, with slashes
    size: int  # bytes
    sha256: str  # 64 hex digits
    kind: str  # one of KINDS
    record_sha256: Optional[str] = None  # of the RECORD member of a wheel or tool; other files have none
    accepted_record: bool = False  # --accept-record named this wheel


class Distribution(NamedTuple):
    """One distribution that a target installs."""
    name: str  # normalised (PEP 503)
    version: str
    file: str  # path of its wheel or sdist in the bundle
    requires: Tuple[str, ...]  # normalised names of the distributions that it needs on this target
    requested: bool  # requested by name, not only a dependency
    built_from: Optional[Dict[str, str]]  # of a wheel that was built: name, sha256 and origin of its source


class Tool(NamedTuple):
    """A distribution that helps to install the others: pip, or a build requirement of an sdist."""
    name: str
    version: str
    file: str


class Need(NamedTuple):
    """A shared library that the target's system must provide."""
    soname: str
    symbols: Tuple[str, ...]  # required symbol versions: GLIBC_2.34
    wanted_by: Tuple[str, ...]  # distributions
    help: Optional[str]  # how to install it: apt install libgl1


class BundledPython(NamedTuple):
    """An interpreter that the bundle contains for a target."""
    file: str  # path of its archive in the bundle
    version: str  # X.Y.Z
    build: str  # release of the build: 20251120


class TargetPlan(NamedTuple):
    """The whole install plan for one kind of machine."""
    name: str  # as in --target: debian12
    tag: str  # cp311-manylinux_2_36_x86_64; distinct in a bundle
    facts: Facts
    python_min: str  # X.Y, or X.Y.Z if a file needs it
    cpu: Optional[str]  # required CPU level: x86-64-v1 to x86-64-v4
    python: Optional[BundledPython]
    install: Tuple[Distribution, ...]  # in install order: dependencies first
    tools: Tuple[Tool, ...]
    needs: Tuple[Need, ...]


class Manifest(NamedTuple):
    """manifest.json of format 1."""
    format: int
    name: str
    version: Optional[str]
    sequence: Optional[int]
    install_to: Optional[str]
    targets: Tuple[TargetPlan, ...]  # the most demanding first; a machine takes the first that fits
    files: Tuple[File, ...]  # sorted by path; every file but the manifest and its signatures

    @property
    def folder(self):  # type: () -> str
        """Return the name of the one folder at the top of the archive."""
        return "%s-%s" % (self.name, self.version) if self.version else self.name

    def list_files(self, target):  # type: (TargetPlan) -> List[File]
        """Return the tools, wheels and sdists of one target: tools first, then in install order."""
        listed = {file.path: file for file in self.files}
        return [listed[step.file] for step in target.tools + target.install]


def hash_file(path, buffer=1 << 20):  # type: (Any, int) -> Tuple[int, str]
    """Return size in bytes and sha256 of a file on disk."""
    digest, size, block = hashlib.sha256(), 0, memoryview(bytearray(buffer))
    with open(str(path), "rb", buffering=0) as source:
        while True:
            count = source.readinto(block)
            if not count:
                return size, digest.hexdigest()
            digest.update(block[:count])
            size += count


def serialize_manifest(manifest):  # type: (Manifest) -> bytes
    """Return the canonical bytes: keys sorted, ASCII, one space of indent, a line feed at the end."""
    return (json.dumps(_to_plain(manifest), sort_keys=True, indent=1) + "\n").encode("ascii")


def _to_plain(value):  # type: (Any) -> Any
    if hasattr(value, "_asdict"):
        no_record = isinstance(value, File) and value.record_sha256 is None
        keys = [key for key in value._fields if not (no_record and key in _RECORD_SHAPE)]
        return {key: _to_plain(getattr(value, key)) for key in keys}
    return [_to_plain(member) for member in value] if isinstance(value, tuple) else value


def format_sums(files):  # type: (Iterable[File]) -> bytes
    """Return SHA256SUMS as `sha256sum -c` reads it."""
    return "".join("%s  %s\n" % (file.sha256, file.path) for file in sorted(files) if file.path != SUMS).encode("utf-8")


class _InvalidValueError(Exception):
    """A value that format 1 does not allow: its position, the expected value."""


_COPY_AGAIN = "Copy the bundle again from where it was made."
_TOO_NEW = "This bundle has format {found}; this version of offlinepack reads formats up to {known}."
_USE_BUNDLED_INSTALLER = "Use the install.py that the bundle itself brings, or a newer offlinepack."
_INVALID = "manifest.json, {subject}: expected {expected}."
_NOT_CANONICAL = "{subject} is not in its one canonical form."


def read_manifest(path):  # type: (str) -> Manifest
    """Read a manifest.json from disk, or raise BundleError or OSError."""
    with open(path, "rb") as source:
        return parse_manifest(source.read(MAX_MANIFEST_SIZE + 1))


def parse_manifest(data):  # type: (bytes) -> Manifest
    """Parse the bytes of manifest.json, or raise BundleError: not a manifest, a newer format, a wrong value."""
    numbers = dict.fromkeys(("parse_float", "parse_constant", "parse_int"), _parse_whole_number)  # type: Dict[str, Any]
    try:
        if len(data) > MAX_MANIFEST_SIZE:
            raise _InvalidValueError(MANIFEST, "at most 16 MiB")
        plain = json.loads(data.decode("utf-8"), object_pairs_hook=_reject_duplicate_keys, **numbers)
        version = plain.get("format") if isinstance(plain, dict) else None
        if isinstance(version, int) and version > FORMAT:
            facts = {"found": version, "known": FORMAT}  # type: Dict[str, Any]
            raise BundleError(error("format-too-new", MANIFEST, _TOO_NEW, _USE_BUNDLED_INSTALLER, **facts))
        manifest = _check_consistency(_check_value(plain, MANIFEST, Manifest))
    except _InvalidValueError as bad:
        where, expected = bad.args
        raise BundleError(error("manifest-invalid", where, _INVALID, _COPY_AGAIN, expected=expected))
    except (ValueError, RecursionError):
        raise BundleError(error("manifest-unreadable", MANIFEST, "{subject} is not JSON.", _COPY_AGAIN))
    if serialize_manifest(manifest) != data:
        raise BundleError(error("manifest-not-canonical", MANIFEST, _NOT_CANONICAL, _COPY_AGAIN))
    return manifest


def _reject_duplicate_keys(pairs):  # type: (List[Tuple[str, Any]]) -> Dict[str, Any]
    if len(dict(pairs)) != len(pairs):
        raise _InvalidValueError(Counter(name for name, _ in pairs).most_common(1)[0][0], "each key once")
    return dict(pairs)


def _parse_whole_number(number):  # type: (str) -> int
    if not re.match(r"[0-9]{1,16}\Z", number):
        raise _InvalidValueError(number[:40], "whole numbers from 0 to 2**53 only")
    return int(number)


def _make_matcher(pattern):  # type: (str) -> Callable[[Any], bool]
    compiled = re.compile("(?:%s)\\Z" % pattern)
    return lambda value: isinstance(value, str) and bool(compiled.match(value))


_is_text = lambda value: isinstance(value, str) and 0 < len(value) <= 500 and value.isprintable()  # noqa: E731
_is_count = lambda value: isinstance(value, int) and not isinstance(value, bool) and value <= 1 << 53  # noqa: E731
_is_path = lambda value: isinstance(value, str) and not find_path_problem(value)  # noqa: E731
_is_bool = lambda value: isinstance(value, bool)  # noqa: E731
_is_mapping = lambda value: isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))  # noqa: E731
_is_name = _make_matcher("[a-z0-9]+(-[a-z0-9]+)*")
_is_version = _make_matcher("[A-Za-z0-9](?:[A-Za-z0-9.!+_-]{0,126}[A-Za-z0-9])?")
_is_python_version = _make_matcher(r"[0-9]\.[0-9]{1,2}(\.[0-9]{1,3})?")
_is_minor_version = _make_matcher(r"[0-9]{1,4}\.[0-9]{1,4}")
_is_sha256 = _make_matcher("[0-9a-f]{64}")

_TOOL_SHAPE = {"name": _is_name, "version": _is_version, "file": _is_path}  # type: Dict[str, Any]
_RECORD_SHAPE = {"record_sha256": _is_sha256, "accepted_record": _is_bool}  # further keys of a wheel or a tool

# The value of each key: a predicate or a type; [x]: a list of x; (x, None): x or null.
_SHAPES = {
    Manifest: {
        "format": lambda value: value == FORMAT and value is not True, "name": _is_name, "version": (_is_version, None),
        "sequence": (_is_count, None), "install_to": (_is_text, None), "targets": [TargetPlan], "files": [File]},
    File: {"path": _is_path, "size": _is_count, "sha256": _is_sha256, "kind": _make_matcher("|".join(KINDS))},
    TargetPlan: {
        "name": _make_matcher("[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}"), "facts": Facts, "python_min": _is_python_version,
        "tag": _make_matcher("[a-z]{2}[0-9]{2,4}t?-[a-z0-9_]{2,80}"), "cpu": (_make_matcher("x86-64-v[1-4]"), None),
        "python": (BundledPython, None), "install": [Distribution], "tools": [Tool], "needs": [Need]},
    BundledPython: {"file": _is_path, "version": _make_matcher(r"[0-9]\.[0-9]{1,2}\.[0-9]{1,3}"), "build": _is_text},
    Facts: {
        "implementation": _make_matcher("cpython|pypy"), "python": _is_python_version, "free_threaded": _is_bool,
        "os": _make_matcher("linux|macos|windows"), "machine": _make_matcher("[a-z0-9_]{2,20}"),
        "libc": (_make_matcher("glibc|musl"), None), "libc_version": (_is_minor_version, None),
        "macos_version": (_is_minor_version, None)},
    Distribution: dict(_TOOL_SHAPE, requires=[_is_name], requested=_is_bool, built_from=(_is_mapping, None)),
    Tool: _TOOL_SHAPE,
    Need: {"soname": _is_text, "symbols": [_is_text], "wanted_by": [_is_name], "help": (_is_text, None)},
}  # type: Dict[Any, Dict[str, Any]]


def _check_value(value, where, shape):  # type: (Any, str, Any) -> Any
    if isinstance(shape, tuple):
        return None if value is None else _check_value(value, where, shape[0])
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise _InvalidValueError(where, "a list")
        return tuple(_check_value(member, "%s[%d]" % (where, index), shape[0]) for index, member in enumerate(value))
    if shape in _SHAPES:
        keys = _SHAPES[shape]
        if shape is File and isinstance(value, dict) and value.get("kind") in ("wheel", "tool"):
            keys = dict(keys, **_RECORD_SHAPE)
        if not isinstance(value, dict) or set(value) != set(keys):
            raise _InvalidValueError(where, "exactly the keys " + ", ".join(sorted(keys)))
        return shape(**{key: _check_value(value[key], "%s.%s" % (where, key), keys[key]) for key in keys})
    if not shape(value):
        raise _InvalidValueError(where, "a value that the format allows, not %.60r" % (value,))
    return value


def _check_consistency(manifest):  # type: (Manifest) -> Manifest
    """Check the relations between values: paths are distinct, and every file that a target installs is listed."""
    paths = [file.path for file in manifest.files]
    names = [fold_path(path) for path in (MANIFEST, *SIGNATURES, *paths)]
    parents = set(names).intersection(name[:at] for name in names for at, sign in enumerate(name) if sign == "/")
    if len(set(names)) != len(names) or parents:
        twice = min(parents or [name for name, count in Counter(names).items() if count > 1])
        expected = "each path once, also where case is ignored, and not as a folder too"
        raise _InvalidValueError("files, " + twice, expected)
    if paths != sorted(paths):
        raise _InvalidValueError("files", "the paths in order")
    tags = [target.tag for target in manifest.targets]
    if not 0 < len(tags) < 1000 or len(set(tags)) != len(tags):
        raise _InvalidValueError("targets", "one to 999, and each tag once")
    kinds = {file.path: file.kind for file in manifest.files}
    for target in manifest.targets:
        where, facts = "targets, %s" % target.tag, target.facts
        if (facts.os == "linux") != bool(facts.libc and facts.libc_version):
            raise _InvalidValueError(where, "libc and its version on Linux, and there only")
        installed = {step.name for step in target.install}
        if len(installed) != len(target.install) or not installed:
            raise _InvalidValueError(where, "one distribution at least, and each once")
        for step in target.install:
            if kinds.get(step.file) not in ("wheel", "sdist"):
                raise _InvalidValueError("%s, %s" % (where, step.name), "a file that is listed as wheel or sdist")
            if not installed.issuperset(step.requires):
                raise _InvalidValueError("%s, %s" % (where, step.name), "in requires only what is installed too")
        for tool in target.tools:
            if kinds.get(tool.file) not in ("wheel", "tool", "sdist"):
                expected = "a file that is listed as tool or wheel or sdist"
                raise _InvalidValueError("%s, %s" % (where, tool.name), expected)
        if target.python and kinds.get(target.python.file) != "python":
            raise _InvalidValueError("%s, python" % where, "a file that is listed as python")
    planned = {step.file for target in manifest.targets for step in target.install + target.tools}
    planned.update(target.python.file for target in manifest.targets if target.python)
    idle = [path for path in paths if kinds[path] in ("wheel", "sdist", "tool", "python") and path not in planned]
    if idle:
        raise _InvalidValueError(idle[0], "a place in the plan of a target")
    return manifest
