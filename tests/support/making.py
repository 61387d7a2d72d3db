"""Things that tests need: wheels, sdists, an index that is served and can be made to misbehave, a proxy.

Everything is valid by default; a test changes only what it is about. The same call gives the same bytes.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import hashlib
import html
import io
import json
import re
import socket
import socketserver
import ssl
import tarfile
import threading
import time
import urllib.parse
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Content = str | bytes


def normalised(name: str) -> str:
    """The name of a project as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bytes(content: Content) -> bytes:
    return content.encode() if isinstance(content, str) else content


# ---------------------------------------------------------------------------------------------- distributions


def metadata_of(
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    extras: Mapping[str, Iterable[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    description: str = "",
) -> str:
    """The text of METADATA or PKG-INFO."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
    if requires_python:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {one}" for one in requires]
    for extra, wanted in (extras or {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for one in wanted:
            requirement, _, marker = (part.strip() for part in one.partition(";"))
            condition = f'({marker}) and extra == "{extra}"' if marker else f'extra == "{extra}"'
            lines.append(f"Requires-Dist: {requirement} ; {condition}")
    return "\n".join(lines) + "\n" + (f"\n{description}\n" if description else "")


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    extras: Mapping[str, Iterable[str]] | None = None,
    files: Mapping[str, Content] | None = None,
    data: Mapping[str, Content] | None = None,
    entry_points: Mapping[str, Mapping[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
    build: str = "",
    executable: Iterable[str] = (),
    dist_info: Mapping[str, Content] | None = None,
    record: Callable[[list[list[str]]], list[list[str]]] | None = None,
    size: int = 0,
) -> Path:
    """A wheel in `folder`: by default one module `<name>/__init__.py` with `__version__`.

    `files` replaces the module, `data` lands below `.data` (keys like "scripts/run"), `dist_info` adds or replaces
    files there, `record` gets RECORD's rows and gives back those that are written, `size` adds so many bytes
    that do not compress, `entry_points` is {"console_scripts": {"stone": "stone:main"}}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = re.sub(r"[-_.]+", "_", name).lower()
    stem = f"{module}-{version}"
    tags = [f"{python}-{abi}-{platform}" for python, abi, platform in _single_tags(tag)]
    if files is None:
        files = {
            f"{module}/__init__.py": f"__version__ = {version!r}\n\n\ndef main():\n    print({f'{name} {version}'!r})\n"
        }
    members: dict[str, bytes] = {path: _bytes(content) for path, content in files.items()}
    if size:
        members[f"{module}/noise.bin"] = _noise(f"{name} {version} {tag}", size)
    members.update({f"{stem}.data/{path}": _bytes(content) for path, content in (data or {}).items()})
    info = f"{stem}.dist-info"
    members[f"{info}/METADATA"] = metadata_of(
        name, version, requires=requires, requires_python=requires_python, extras=extras, headers=headers
    ).encode()
    purelib = "true" if tag.endswith("-none-any") else "false"
    wheel = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {purelib}\n"
    wheel += f"Build: {build}\n" if build else ""
    members[f"{info}/WHEEL"] = (wheel + "".join(f"Tag: {one}\n" for one in tags)).encode()
    if entry_points:
        sections = (
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
            for group, entries in entry_points.items()
        )
        members[f"{info}/entry_points.txt"] = "\n".join(sections).encode()
    members.update({f"{info}/{path}": _bytes(content) for path, content in (dist_info or {}).items()})
    rows = [[path, _record_hash(content), str(len(content))] for path, content in members.items()]
    rows.append([f"{info}/RECORD", "", ""])
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(record(rows) if record else rows)
    members[f"{info}/RECORD"] = written.getvalue().encode()
    parts = [stem, build, tag] if build else [stem, tag]
    path = folder / ("-".join(parts) + ".whl")
    modes = set(executable) | {f"{stem}.data/{one}" for one in data or {} if one.startswith("scripts/")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            entry = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if member in modes else 0o100644) << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


def _single_tags(tag: str) -> Iterator[tuple[str, str, str]]:
    pythons, abis, platforms = tag.split("-")
    for python in pythons.split("."):
        for abi in abis.split("."):
            for platform in platforms.split("."):
                yield python, abi, platform


def _record_hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _noise(seed: str, size: int) -> bytes:
    return hashlib.shake_256(seed.encode()).digest(size)


BACKEND = '''\
"""A PEP 517 backend in one file: it needs nothing that is not in the sdist."""

import base64, hashlib, os, sys, zipfile

NAME, VERSION, MODULE, REQUIRES = {name!r}, {version!r}, {module!r}, {requires!r}
FAILS = {fails!r}


def _files():
    for folder, folders, names in os.walk(MODULE):
        folders.sort()
        for name in sorted(names):
            if not name.endswith(".pyc"):
                yield os.path.join(folder, name).replace(os.sep, "/")


def get_requires_for_build_wheel(config_settings=None):
    return REQUIRES


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("building", NAME, VERSION, "with", config_settings)
    if FAILS:
        print(FAILS, file=sys.stderr)
        raise SystemExit(1)
    stem = MODULE + "-" + VERSION
    wheel = stem + "-py3-none-any.whl"
    members = {{path: open(path, "rb").read() for path in _files()}}
    members[stem + ".dist-info/METADATA"] = open("PKG-INFO", "rb").read()
    wheel_lines = ["Wheel-Version: 1.0", "Generator: in-tree", "Root-Is-Purelib: true", "Tag: py3-none-any", ""]
    members[stem + ".dist-info/WHEEL"] = "\\n".join(wheel_lines).encode()
    rows = []
    for path, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append("%s,sha256=%s,%d\\n" % (path, digest, len(content)))
    rows.append(stem + ".dist-info/RECORD,,\\n")
    members[stem + ".dist-info/RECORD"] = "".join(rows).encode()
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w") as archive:
        for path, content in members.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), content)
    return wheel


build_editable = build_wheel
get_requires_for_build_editable = get_requires_for_build_wheel
'''


def make_sdist(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    extras: Mapping[str, Iterable[str]] | None = None,
    files: Mapping[str, Content] | None = None,
    backend: str = "in-tree",
    build_requires: Iterable[str] = (),
    fails: str = "",
    setup: str = "",
    unpacked: bool = False,
) -> Path:
    """An sdist in `folder`; it builds to a py3-none-any wheel.

    `backend` is "in-tree" (a file inside the sdist, so that a build needs no network) or "setuptools" (`setup` are
    then further arguments of setup(), for extension modules for instance; what it needs must be on the index).
    `fails` is what the build says before it ends with an error. `unpacked` gives the project's folder instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = re.sub(r"[-_.]+", "_", name).lower()
    requires = list(requires)
    members: dict[str, bytes] = {
        "PKG-INFO": metadata_of(
            name, version, requires=requires, requires_python=requires_python, extras=extras
        ).encode()
    }
    if files is None:
        files = {f"{module}/__init__.py": f"__version__ = {version!r}\n"}
    members.update({path: _bytes(content) for path, content in files.items()})
    project = [f"[project]\nname = {name!r}\nversion = {version!r}\ndependencies = {json.dumps(requires)}"]
    if requires_python:
        project.append(f"requires-python = {requires_python!r}")
    if extras:
        project.append("[project.optional-dependencies]")
        project += [f"{extra} = {json.dumps(list(wanted))}" for extra, wanted in extras.items()]
    if backend == "in-tree":
        members["backend/in_tree.py"] = BACKEND.format(
            name=name, version=version, module=module, requires=list(build_requires), fails=fails
        ).encode()
        system = '[build-system]\nrequires = []\nbuild-backend = "in_tree"\nbackend-path = ["backend"]'
    elif backend == "setuptools":
        wanted = ["setuptools", *build_requires]
        system = f'[build-system]\nrequires = {json.dumps(wanted)}\nbuild-backend = "setuptools.build_meta"'
        stop = f"raise SystemExit({fails!r})\n" if fails else ""
        members.setdefault(
            "setup.py",
            f"from setuptools import Extension, setup\n\n{stop}setup(packages=[{module!r}], {setup})\n".encode(),
        )
    else:
        raise ValueError(backend)
    members.setdefault("pyproject.toml", "\n\n".join([system, "\n".join(project)]).encode() + b"\n")
    if unpacked:
        for path, content in members.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder
    stem = f"{module}-{version}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in sorted(members.items()):
            entry = tarfile.TarInfo(f"{stem}/{path}")
            entry.size, entry.mtime, entry.mode = len(content), 315532800, 0o644
            archive.addfile(entry, io.BytesIO(content))
    path = folder / f"{stem}.tar.gz"
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return path


# ---------------------------------------------------------------------------------------------- a served index


@dataclass
class Fault:
    """How the server misbehaves for one path; `times` < 0 is for ever."""

    status: int = 0
    """answer with this status"""
    times: int = -1
    """how many requests it spoils, then all is well"""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """answer with these bytes"""
    hang: float = 0
    """seconds of silence before anything is said (ended when the server closes)"""
    drip: float = 0
    """seconds between pieces of `piece` bytes"""
    piece: int = 1024
    drop_at: int = -1
    """close the connection after so many bytes of the answer's body"""
    no_range: bool = False
    """ignore Range: answer 200 and everything"""
    bad_range: bool = False
    """answer 206 with another range than was asked for"""
    corrupt: bool = False
    """flip the file's last byte"""
    gzipped: bool = False
    """Content-Encoding: gzip"""
    redirect: str = ""
    """answer 302 to this address"""
    no_length: bool = False
    """no Content-Length: the end of the connection is the end of the file"""


@dataclass
class Served:
    """One file of the index, and what its project page says of it."""

    path: Path
    project: str
    sha256: str
    metadata: bytes | None
    requires_python: str | None
    yanked: str | bool = False
    upload_time: str | None = None
    hashes: Mapping[str, str] | None = None
    with_size: bool = True
    url: str = ""
    provenance: str = ""


class ServedIndex:
    """A Simple index on 127.0.0.1: `.url` is its address, `.requests` counts paths, `.log` keeps headers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Served] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: Counter[str] = Counter()
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.auth: tuple[str, str] | None = None
        self.protect: tuple[str, ...] = ("/",)
        self.forbidden: int = 401
        self.json = True
        self.html = True
        self.pep658 = False
        self.etags = True
        self.status: dict[str, tuple[str, str]] = {}
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.closing = threading.Event()
        self.scheme = "http"
        self.port = 0
        self.ca: Path | None = None
        self.client_cert: Path | None = None
        self.open_connections = 0
        self.most_connections = 0
        self.lock = threading.Lock()

    @property
    def root(self) -> str:
        return f"{self.scheme}://{'localhost' if self.scheme == 'https' else '127.0.0.1'}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/simple/"

    @property
    def flat(self) -> str:
        """The address of a page for --find-links with all files."""
        return f"{self.root}/flat/"

    def with_credentials(self, user: str, password: str) -> str:
        """The index's address with user and password in it."""
        quoted = f"{urllib.parse.quote(user, safe='')}:{urllib.parse.quote(password, safe='')}"
        return self.url.replace("://", f"://{quoted}@")

    def add(self, path: Path, **fields: Any) -> Served:
        """Offer one more file; `fields` are those of Served (yanked, upload_time, hashes={} for none ...)."""
        name = path.name
        project = normalised(name.split("-")[0] if name.endswith(".whl") else name.rpartition("-")[0])
        metadata, requires_python = None, None
        if name.endswith(".whl") and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if re.fullmatch(r"[^/]+\.dist-info/METADATA", member):
                        metadata = archive.read(member)
                        found = re.search(rb"^Requires-Python: (.*)$", metadata, re.M)
                        requires_python = found.group(1).decode() if found else None
        elif name.endswith(".tar.gz") and tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                for entry in tar:
                    if entry.name.count("/") == 1 and entry.name.endswith("/PKG-INFO"):
                        info = tar.extractfile(entry)
                        found = re.search(rb"^Requires-Python: (.*)$", info.read() if info else b"", re.M)
                        requires_python = found.group(1).decode() if found else None
        served = Served(path, project, sha256_of(path), metadata, requires_python)
        for key, value in fields.items():
            setattr(served, key, value)
        self.files[name] = served
        return served

    def file_url(self, name: str) -> str:
        return f"{self.root}/files/{urllib.parse.quote(name)}"

    def fault(self, path: str, **what: Any) -> Fault:
        """Misbehave for a project's name, a file's name or a path: `index.fault("stone", status=500, times=2)`."""
        if not path.startswith("/"):
            files = (".whl", ".gz", ".zip", ".metadata")
            path = f"/files/{path}" if path.endswith(files) else f"/simple/{normalised(path)}/"
        self.faults[path] = Fault(**what)
        return self.faults[path]

    def count(self, name: str) -> int:
        """How often a project's page or a file was asked for."""
        return sum(n for path, n in self.requests.items() if path.rstrip("/").endswith("/" + name))

    def projects(self) -> list[str]:
        return sorted({served.project for served in self.files.values()} | set(self.status))

    def page(self, project: str, as_json: bool, base: str = "../../files/") -> bytes:
        files = [one for one in self.files.values() if one.project == project]
        if as_json:
            listed = []
            for one in files:
                entry: dict[str, Any] = {
                    "filename": one.path.name,
                    "url": one.url or base + urllib.parse.quote(one.path.name),
                    "hashes": dict({"sha256": one.sha256} if one.hashes is None else one.hashes),
                    "yanked": one.yanked,
                }
                if one.with_size:
                    entry["size"] = one.path.stat().st_size
                if one.requires_python:
                    entry["requires-python"] = one.requires_python
                if one.upload_time:
                    entry["upload-time"] = one.upload_time
                if one.provenance:
                    entry["provenance"] = f"{self.root}{one.provenance}"
                if self.pep658 and one.metadata is not None:
                    entry["core-metadata"] = {"sha256": hashlib.sha256(one.metadata).hexdigest()}
                listed.append(entry)
            page: dict[str, Any] = {"meta": {"api-version": "1.1"}, "name": project, "files": listed}
            page["versions"] = sorted({_version(one.path.name) for one in files})
            if project in self.status:
                state, reason = self.status[project]
                page["project-status"] = {"status": state, "reason": reason}
            return json.dumps(page).encode()
        lines = ["<!DOCTYPE html><html><head>", '<meta name="pypi:repository-version" content="1.0">']
        if project in self.status:
            state, reason = self.status[project]
            lines.append(f'<meta name="pypi:project-status" content="{html.escape(state)}">')
            lines.append(f'<meta name="pypi:project-status-reason" content="{html.escape(reason)}">')
        lines.append("</head><body>")
        for one in files:
            hashes = {"sha256": one.sha256} if one.hashes is None else one.hashes
            fragment = "".join(f"#{kind}={value}" for kind, value in list(hashes.items())[:1])
            attributes = ""
            if one.requires_python:
                attributes += f' data-requires-python="{html.escape(one.requires_python)}"'
            if one.yanked:
                attributes += f' data-yanked="{html.escape(one.yanked if isinstance(one.yanked, str) else "")}"'
            if one.provenance:
                attributes += f' data-provenance="{self.root}{one.provenance}"'
            if one.upload_time:
                attributes += f' data-upload-time="{one.upload_time}"'
            if self.pep658 and one.metadata is not None:
                digest = f"sha256={hashlib.sha256(one.metadata).hexdigest()}"
                attributes += f' data-core-metadata="{digest}" data-dist-info-metadata="{digest}"'
            address = html.escape((one.url or base + urllib.parse.quote(one.path.name)) + fragment)
            lines.append(f'<a href="{address}"{attributes}>{html.escape(one.path.name)}</a><br>')
        return "\n".join([*lines, "</body></html>"]).encode()


def _version(filename: str) -> str:
    return filename.split("-")[1] if filename.endswith(".whl") else filename.rpartition("-")[2].removesuffix(".tar.gz")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    index: ServedIndex

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that a test broke is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            try:
                self.request.do_handshake()
            except OSError:
                # the alert that says why must not be lost: closing with unread bytes would
                with contextlib.suppress(OSError):
                    self.request.settimeout(1)
                    while socket.socket.recv(self.request, 1 << 16):
                        pass
                raise
        super().setup()
        index = self.server.index
        with index.lock:
            index.open_connections += 1
            index.most_connections = max(index.most_connections, index.open_connections)

    def finish(self) -> None:
        index = self.server.index
        with index.lock:
            index.open_connections -= 1
        with contextlib.suppress(OSError):
            super().finish()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        index = self.server.index
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        with index.lock:
            index.requests[path] += 1
            index.log.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
            fault = index.faults.get(path)
            if fault is not None and fault.times == 0:
                fault = None
            elif fault is not None and fault.times > 0:
                fault.times -= 1
        fault = fault or Fault()
        if fault.hang:
            index.closing.wait(fault.hang)
        if index.auth and path.startswith(index.protect):
            expected = "Basic " + base64.b64encode(":".join(index.auth).encode()).decode()
            if self.headers.get("Authorization") != expected:
                headers = {"WWW-Authenticate": 'Basic realm="index"'} if index.forbidden == 401 else {}
                return self.answer(index.forbidden, b"who are you?", "text/plain", fault, headers)
        if fault.redirect:
            return self.answer(302, b"", "text/plain", fault, {"Location": fault.redirect})
        if fault.status:
            return self.answer(fault.status, fault.body or b"no", "text/html", fault, fault.headers)
        if fault.body is not None:
            return self.answer(200, fault.body, "application/octet-stream", fault, fault.headers)
        if path in index.pages:
            kind, body = index.pages[path]
            return self.answer(200, body, kind, fault)
        parts = [part for part in path.split("/") if part]
        if parts and parts[0] == "files" and len(parts) == 2:
            return self.file(parts[1], fault)
        if parts == ["flat"]:
            links = (
                f'<a href="../files/{urllib.parse.quote(name)}#sha256={one.sha256}">{name}</a>'
                for name, one in index.files.items()
            )
            return self.answer(200, f"<html><body>{''.join(links)}</body></html>".encode(), "text/html", fault)
        if parts and parts[0] == "simple" and len(parts) <= 2:
            as_json = index.json and ("json" in self.headers.get("Accept", "") or not index.html)
            kind = "application/vnd.pypi.simple.v1+json" if as_json else "text/html; charset=utf-8"
            if len(parts) == 1:
                names = index.projects()
                if as_json:
                    listed = [{"name": name} for name in names]
                    body = json.dumps({"meta": {"api-version": "1.1"}, "projects": listed}).encode()
                else:
                    body = "".join(f'<a href="{name}/">{name}</a>' for name in names).encode()
                return self.answer(200, body, kind, fault)
            if parts[1] in index.projects():
                body = index.page(parts[1], as_json)
                return self.answer(200, body, kind, fault, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
        return self.answer(404, b"not here", "text/plain", fault)

    def file(self, name: str, fault: Fault) -> None:
        index = self.server.index
        served = index.files.get(name)
        if served is not None:
            body = served.path.read_bytes()
        elif name.endswith(".metadata") and (owner := index.files.get(name.removesuffix(".metadata"))):
            if not index.pep658 or owner.metadata is None:
                return self.answer(404, b"", "text/plain", fault)
            body = owner.metadata
        else:
            return self.answer(404, b"not here", "text/plain", fault)
        if fault.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 0xFF])
        headers = {"Accept-Ranges": "bytes"}
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        if index.etags:
            headers["ETag"] = etag
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        status = 200
        if asked and not fault.no_range and (condition is None or condition == etag):
            first, last = int(asked.group(1)), int(asked.group(2) or len(body) - 1)
            if first >= len(body):
                headers["Content-Range"] = f"bytes */{len(body)}"
                return self.answer(416, b"", "text/plain", fault, headers)
            if fault.bad_range:
                first = max(0, first - 7)
            headers["Content-Range"] = f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}"
            status, body = 206, body[first : last + 1]
        self.answer(status, body, "application/octet-stream", fault, headers)

    def answer(
        self, status: int, body: bytes, kind: str, fault: Fault, headers: Mapping[str, str] | None = None
    ) -> None:
        if fault.gzipped:
            body = gzip.compress(body, mtime=0)
        self.send_response(status)
        for key, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(key, value)
        if fault.gzipped:
            self.send_header("Content-Encoding", "gzip")
        if fault.no_length:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.drop_at >= 0:
            self.wfile.write(body[: fault.drop_at])
            self.wfile.flush()
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.drip:
            for start in range(0, len(body), fault.piece):
                self.wfile.write(body[start : start + fault.piece])
                self.wfile.flush()
                if self.server.index.closing.wait(fault.drip):
                    return
        else:
            self.wfile.write(body)


@contextlib.contextmanager
def serve_index(
    tmp_path: Path,
    packages: Iterable[Path] | Path = (),
    *,
    auth: tuple[str, str] | None = None,
    tls: bool = False,
    client_certificate: bool = False,
    json: bool = True,
    html: bool = True,
    pep658: bool = False,
    tls_names: Iterable[str] = ("localhost", "127.0.0.1"),
) -> Iterator[ServedIndex]:
    """Serve these files (or a folder's) as a Simple index until the block ends.

    `tls` makes a CA of its own (`.ca`, PEM); with `client_certificate` the server wants one (`.client_cert`, PEM
    with key), `tls_names` stand in the server's own. `auth` is the user and password that every path then wants.
    """
    index = ServedIndex(tmp_path)
    index.auth, index.json, index.html, index.pep658 = auth, json, html, pep658
    for path in sorted(packages.iterdir()) if isinstance(packages, Path) else packages:
        index.add(path)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.index = index
    index.port = server.server_address[1]
    if tls or client_certificate:
        _secure(server, index, client_certificate, tls_names)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _secure(server: _Server, index: ServedIndex, client_certificate: bool, names: Iterable[str]) -> None:
    import trustme

    authority = trustme.CA()
    index.folder.mkdir(parents=True, exist_ok=True)
    index.ca = index.folder / "ca.pem"
    authority.cert_pem.write_to_path(index.ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    if client_certificate:
        index.client_cert = index.folder / "client.pem"
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(index.client_cert)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    index.scheme = "https"


# ---------------------------------------------------------------------------------------------- a proxy


class ServedProxy:
    """An HTTP proxy on 127.0.0.1: `.url`, and `.requests`: what was asked through it."""

    def __init__(self) -> None:
        self.port = 0
        self.auth: tuple[str, str] | None = None
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_with_credentials(self) -> str:
        assert self.auth
        return f"http://{self.auth[0]}:{self.auth[1]}@127.0.0.1:{self.port}"


class _ProxyHandler(socketserver.StreamRequestHandler):
    proxy: ServedProxy

    def handle(self) -> None:
        first = self.rfile.readline().decode("latin-1").split()
        if len(first) != 3:
            return
        headers: dict[str, str] = {}
        while (line := self.rfile.readline().decode("latin-1").strip()) != "":
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        method, target, _ = first
        self.proxy.requests.append(f"{method} {target}")
        if self.proxy.auth:
            expected = "Basic " + base64.b64encode(":".join(self.proxy.auth).encode()).decode()
            if headers.get("proxy-authorization") != expected:
                self.wfile.write(
                    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="proxy"\r\n'
                    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
        if method == "CONNECT":
            host, _, port = target.partition(":")
            upstream = socket.create_connection((host, int(port)))
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urllib.parse.urlsplit(target)
            upstream = socket.create_connection((parts.hostname or "", parts.port or 80))
            kept = {k: v for k, v in headers.items() if not k.startswith("proxy-") and k != "connection"}
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in kept.items()), "Connection: close", "", ""]
            upstream.sendall("\r\n".join(lines).encode("latin-1"))
        with upstream:
            back = threading.Thread(target=self.copy, args=(upstream, self.connection), daemon=True)
            back.start()
            if method == "CONNECT":
                self.copy(self.connection, upstream)
            back.join()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 16):
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class _ProxyServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that a test broke is no news."""


@contextlib.contextmanager
def serve_proxy(auth: tuple[str, str] | None = None) -> Iterator[ServedProxy]:
    """Run an HTTP proxy (CONNECT too) until the block ends; with `auth` it wants user and password."""
    proxy = ServedProxy()
    proxy.auth = auth
    server = _ProxyServer(("127.0.0.1", 0), type("Handler", (_ProxyHandler,), {"proxy": proxy}))
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def wait_until(fact: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that happens in another thread; AssertionError when it does not."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
