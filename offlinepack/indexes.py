"""Indexes: which, in what order, with which login (flags, pip.conf, uv's settings, netrc, keyring); and what they have.

Of several indexes the first that has a project wins. The order is that in which they were named, but for the public
index, which comes last: a name that a private index has is never taken from the public one. After it come only the
folders (file:) that pip's settings of the machine add: mirrors of some files, which know no other platform's.
"""

from __future__ import annotations

import configparser
import contextlib
import functools
import html.parser
import ipaddress
import json
import netrc
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

import platformdirs
from mousebender import simple
from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import FetchError, Finding, SourceError, Text, UsageError, error, text, warning
from offlinepack.fetch import Client, Login, Page, local_path, parted, redacted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PUBLIC = "https://pypi.org/simple/"
"""the default index"""

_PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org"}

_FORBIDDEN_IS_MISSING = {"download.pytorch.org"}
"""hosts that answer 403 for every project that they do not have (uv knows them too)"""

_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")

_KEPT_OF_UV = ("UV_CACHE_DIR", "UV_CONCURRENT_", "UV_HTTP_", "UV_LINK_MODE", "UV_CREDENTIALS_DIR")


def is_public(url: str) -> bool:
    """The address belongs to the public index, or to the host of its files."""
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.netloc in _PUBLIC_HOSTS


class Options(Protocol):
    """What a requirements file says about indexes."""

    @property
    def index_url(self) -> str | None: ...  # noqa: D102
    @property
    def extra_index_urls(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def find_links(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def no_index(self) -> bool: ...  # noqa: D102
    @property
    def trusted_hosts(self) -> tuple[str, ...]: ...  # noqa: D102


@dataclass(frozen=True)
class Index:
    """One index."""

    url: str
    """without user, password, query; with a slash at the end"""
    name: str = ""
    """as the settings call it; '' where they do not"""
    explicit: bool = False
    """only for projects that name it as their source"""
    default: bool = False
    """it stands in the public index's place"""
    origin: str = ""
    """what named it: an option, a variable, a file"""
    user: str | None = field(default=None, repr=False)
    login: Login | None = field(default=None, repr=False)
    last: bool = False
    """a folder that pip's settings add: it serves what no other index has"""
    missing: tuple[int, ...] = ()
    """statuses that mean, beside 404 and 410: there is no such project here"""

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class IndexFile:
    """One file of a project, as an index or a find-links place lists it."""

    filename: str
    url: str = field(repr=False)
    """absolute, without fragment, user and query; where it had these, `Indexes.whole` knows them"""
    project: str
    """normalised"""
    index: Index | None
    """None: from --find-links"""
    hashes: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    requires_python: str | None = None
    yanked: bool = False
    yanked_reason: str = ""
    upload_time: str | None = None
    """ISO 8601, as the index gives it"""
    metadata: bool = False
    """PEP 658: its METADATA lies beside it, at `url` + '.metadata'"""
    metadata_sha256: str | None = None
    provenance: str | None = field(default=None, repr=False)
    """PEP 740: where its attestations are"""

    @property
    def sha256(self) -> str | None:
        """The hash, where the index gives this kind."""
        return self.hashes.get("sha256")

    @property
    def is_wheel(self) -> bool:
        """Else it is an sdist."""
        return self.filename.endswith(".whl")

    def is_compiled(self, system: str) -> bool:
        """A wheel with extension modules for this system (linux, windows, macos): its source has to be built there."""
        word = {"windows": "win", "macos": "macosx"}.get(system, system)
        return bool(re.search(rf"-(?!none-)[^-]+-[^-]*{word}[^-]*\.whl\Z", self.filename))

    @functools.cached_property
    def version(self) -> Version | None:
        """The version in its file name; None where that is not one."""
        return _version(self.filename)

    def admits(self, python: str) -> bool:
        """Whether its Requires-Python admits X.Y.Z; one that no tool can read does."""
        try:
            return SpecifierSet(self.requires_python or "").contains(python, prereleases=True)
        except InvalidSpecifier:
            return True

    @property
    def uploaded(self) -> datetime | None:
        """When it came to the index; None where that does not say."""
        if not self.upload_time:
            return None
        try:
            # Python 3.10 reads neither Z nor every number of digits
            plain = re.sub(r"\.(\d+)", lambda m: f".{m[1][:6]:0<6}", self.upload_time.replace("Z", "+00:00"))
            found = datetime.fromisoformat(plain)
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Project:
    """What one index (and the find-links places) have of a project."""

    name: str
    index: Index | None
    files: tuple[IndexFile, ...]
    status: str = "active"
    """PEP 792: active, archived, quarantined or deprecated"""
    status_reason: str = ""
    api: str = ""
    """the version of the repository API that the page speaks: 1.4"""


@dataclass(frozen=True)
class Indexes:
    """Index addresses in order, sources of single projects, and the way there; secrets are never printed."""

    indexes: tuple[Index, ...] = (Index(PUBLIC, default=True),)
    """in order; explicit ones too"""
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """folders and pages, as paths or addresses"""
    no_index: bool = False
    cert: Path | None = None
    client_cert: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    """None: what the environment says; '': none"""
    trusted_hosts: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """normalised name of a project -> name of the only index that it comes from"""
    conditional_sources: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """the same where it depends on a marker: (index, marker) each; `for_target` settles them"""
    keyring_provider: str = "auto"
    retries: int | None = None
    timeout: float | None = None
    notes: tuple[Finding, ...] = ()
    """places of the settings that are not there"""
    _found: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    # ------------------------------------------------------------------------------------------ which

    @classmethod
    def from_settings(
        cls,
        index_url: str | None = None,
        extra_index_url: Iterable[str] = (),
        find_links: Iterable[str] = (),
        no_index: bool = False,
        cert: str | Path | None = None,
        client_cert: str | Path | None = None,
        proxy: str | None = None,
        trusted_host: Iterable[str] = (),
        keyring_provider: str | None = None,
        *,
        index: Iterable[Mapping[str, Any]] = (),
        sources: Mapping[str, Any] | None = None,
        beside: Path | None = None,
        folder: Path | None = None,
    ) -> Indexes:
        """What the flags say, then [tool.offlinepack]'s `index` and `sources`, UV_*, uv's settings, PIP_*, pip.conf.

        `beside` is the folder of the file that holds these two, for paths in them; `folder` is the project's, for uv's
        settings. None: the working directory. SourceError: settings that cannot be read; UsageError: a source without
        its index, a folder of --find-links that is not there.
        """
        uv, pip = _UvSettings(folder or Path.cwd()), _PipSettings()
        found: list[Index] = []
        if index_url:
            found.append(_index(index_url, "--index-url", default=True))
        found += [_index(one, "--extra-index-url") for one in extra_index_url]
        found += _tables(index, "[[tool.offlinepack.index]]", beside)
        found += [*uv.indexes]
        if not any(one.default for one in (*found, *uv.default)) and (url := pip.value("index-url")):
            found.append(_index(url, pip.origin("index-url"), default=True))
        for one in pip.values("extra-index-url"):
            found.append(replace(_index(one, pip.origin("extra-index-url")), last=local_path(one) is not None))
        if not any(one.default for one in found):
            found += uv.default or [Index(PUBLIC, default=True)]
        notes: list[Finding] = []
        made = cls(
            find_links=_places(find_links, (*uv.find_links, *pip.find_links), notes),
            no_index=no_index or uv.no_index or pip.flag("no-index"),
            cert=_path(cert or pip.value("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or _env("CURL_CA_BUNDLE")),
            client_cert=_path(client_cert or pip.value("client-cert") or os.environ.get("SSL_CLIENT_CERT")),
            proxy=proxy if proxy is not None else pip.value("proxy"),
            trusted_hosts=_once([*trusted_host, *uv.trusted_hosts, *pip.values("trusted-host")]),
            keyring_provider=keyring_provider or pip.value("keyring-provider") or uv.keyring_provider or "auto",
            retries=pip.number("retries"),
            timeout=pip.number("timeout") or pip.number("default-timeout"),
            notes=(),
        )
        made = replace(made, indexes=_ordered(found, made.no_index, notes))
        return replace(made._with_sources({**uv.sources, **(sources or {})}), notes=tuple(notes))

    def with_options(self, options: Options) -> Indexes:
        """These, and what a requirements file says; --index-url of the command line stands before the file's."""
        found = list(self.indexes)
        if options.index_url and not any(one.origin == "--index-url" for one in found):
            found = [
                _index(options.index_url, "requirements", default=True),
                *(one for one in found if not one.default),
            ]
        found += [_index(one, "requirements") for one in options.extra_index_urls]
        notes = list(self.notes)
        no_index = self.no_index or options.no_index
        return replace(
            self,
            indexes=_ordered(found, no_index, notes),
            no_index=no_index,
            find_links=_once([*self.find_links, *_places(options.find_links, (), notes)]),
            trusted_hosts=_once([*self.trusted_hosts, *options.trusted_hosts]),
            notes=tuple(notes),
            _found={},
        )

    def for_target(self, evaluate: Callable[[Marker], bool]) -> Indexes:
        """These with the sources settled that depend on a marker; `evaluate` is the target's."""
        sources = dict(self.sources)
        for project, choices in self.conditional_sources.items():
            for name, marker in choices:
                if not marker or evaluate(Marker(marker)):
                    sources.setdefault(project, name)
        return replace(self, sources=sources, conditional_sources={})

    def of(self, project: str) -> tuple[Index, ...]:
        """The indexes that may have this project, in order: its source alone, or all that are not explicit."""
        source = self.sources.get(canonicalize_name(project))
        if source is not None:
            return tuple(one for one in self.indexes if one.name == source)
        return tuple(one for one in self.indexes if not one.explicit)

    def _with_sources(self, sources: Mapping[str, Any]) -> Indexes:
        """`sources` as the settings write them: an index's name or address, {index = name}, or a list with markers."""
        indexes = list(self.indexes)
        plain: dict[str, str] = {}
        conditional: dict[str, tuple[tuple[str, str], ...]] = {}
        for project, value in sources.items():
            choices: list[tuple[str, str]] = []
            for one in value if isinstance(value, list) else [value]:
                name = one.get("index") if isinstance(one, Mapping) else one
                marker = str(one.get("marker", "")) if isinstance(one, Mapping) else ""
                if name is None:  # a path, a repository: that is a requirement's part
                    continue
                if "://" in str(name):
                    indexes.append(_index(str(name), "sources", name=f"source-{len(indexes)}", explicit=True))
                    name = indexes[-1].name
                try:
                    choices.append((str(name), str(Marker(marker)) if marker else ""))
                except InvalidMarker as problem:
                    raise SourceError(_bad_source(project, problem)) from problem
                if not self.no_index and name not in {one.name for one in indexes}:
                    raise UsageError(
                        error(
                            "no-such-index",
                            project,
                            "{subject} shall come from the index '{name}', but no index has that name.",
                            'Add it: [[tool.offlinepack.index]] with name = "{name}" and url.',
                            name=name,
                        )
                    )
            if len({name for name, _ in choices}) == 1 and not all(marker for _, marker in choices):
                plain[canonicalize_name(project)] = choices[0][0]
            elif choices:
                conditional[canonicalize_name(project)] = tuple(choices)
        return replace(self, indexes=tuple(indexes), sources=plain, conditional_sources=conditional)

    # ------------------------------------------------------------------------------------------ the way there

    def trusts(self, host: str, port: int | None) -> bool:
        """--trusted-host names it, with or without its port."""
        return host in self.trusted_hosts or (port is not None and f"{host}:{port}" in self.trusted_hosts)

    def proxy_for(self, url: str) -> str | None:
        """--proxy for everything; else the environment's (or the system's) for this scheme, but for NO_PROXY."""
        if self.proxy is not None:
            return _proxy_address(self.proxy)
        if "proxies" not in self._found:
            self._found["proxies"] = urllib.request.getproxies()
        proxies: dict[str, str] = self._found["proxies"]
        parts = urlsplit(url)
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if not proxy or urllib.request.proxy_bypass(parts.netloc) or _in_networks(parts.hostname, proxies.get("no")):
            return None
        return _proxy_address(proxy)

    def login(self, url: str, *, refused: bool = False) -> Login | None:
        """What pip would send there: the index's own login, else .netrc's; after a refusal, the keyring's."""
        index = self._index_of(url)
        host = urlsplit(url).hostname or ""
        if refused:
            services = [index.url] if index else []
            return self._of_keyring([*services, urlsplit(url).netloc], index.user if index else None)
        if index and index.login:
            return index.login
        return self._of_netrc(host)[0]

    def looked_in(self, url: str) -> tuple[Text | str, ...]:
        """Where `login` looked, each with what was there."""
        index, host = self._index_of(url), urlsplit(url).hostname or ""
        places: list[Text | str] = [text("the index address") if index else text("the address")]
        if index and index.name:
            places.append(f"UV_INDEX_{_variable(index.name)}_PASSWORD")
        places.append(self._of_netrc(host)[1])
        if self.keyring_provider == "disabled":
            places.append(text("no keyring (--keyring-provider disabled)"))
        elif self._keyring() is None:
            places.append(text("no keyring (not installed)"))
        else:
            places.append(text("the keyring"))
        return tuple(places)

    def remember(self, url: str) -> str:
        """The address without secrets; who asks a client for that, gets what the whole one (a signed query) gives."""
        public = redacted(url)
        if public != url.partition("#")[0]:
            self._found["whole", public] = url
        return public

    def whole(self, url: str) -> str:
        """The address with the secrets that it was once seen with."""
        found: str = self._found.get(("whole", url), url)
        return found

    def _index_of(self, url: str) -> Index | None:
        """The index that this address belongs to: the same host, and the longest common path."""
        parts = urlsplit(url)
        same = [
            one
            for one in self.indexes
            if urlsplit(one.url).netloc == parts.netloc
            and not (one.url.startswith("https:") and parts.scheme == "http")
        ]
        return max(
            same,
            key=lambda one: len(os.path.commonpath([urlsplit(one.url).path or "/", parts.path or "/"])),
            default=None,
        )

    def _of_netrc(self, host: str) -> tuple[Login | None, Text | str]:
        """The login for a host, and what was found where."""
        path = Path(os.environ.get("NETRC") or _home("~/.netrc"))
        if not os.environ.get("NETRC") and not path.exists() and _home("~/_netrc").exists():
            path = _home("~/_netrc")
        try:
            found = netrc.netrc(path).authenticators(host)
        except FileNotFoundError:
            return None, text("{path} (no such file)", path=path)
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as problem:
            words = problem.strerror if isinstance(problem, OSError) else getattr(problem, "msg", "not text")
            return None, text("{path} (cannot be read: {words})", path=path, words=words)
        if not found:
            return None, text("{path} (nothing for {host})", path=path, host=host)
        return Login(found[0] or found[1] or "", found[2] or "", str(path)), str(path)

    def _keyring(self) -> Callable[[str, str | None], tuple[str, str] | None] | None:
        """Ask the keyring for (service, user); None where there is none. As pip: the module first, then the program."""
        if "keyring" not in self._found:
            self._found["keyring"] = _keyring(self.keyring_provider)
        found: Callable[[str, str | None], tuple[str, str] | None] | None = self._found["keyring"]
        return found

    def _of_keyring(self, services: Iterable[str], user: str | None) -> Login | None:
        ask = self._keyring()
        for service in services if ask else ():
            key = ("login", service, user)
            if key not in self._found:
                self._found[key] = ask(service, user) if ask else None
            if self._found[key]:
                return Login(self._found[key][0], self._found[key][1], text("the keyring"))
        return None

    def _known_login(self, index: Index) -> Login | None:
        """The login for an index before anybody was refused; the keyring is asked, but never about the public index."""
        if local_path(index.url) is not None:
            return None
        return self.login(index.url) or (None if is_public(index.url) else self.login(index.url, refused=True))

    # ------------------------------------------------------------------------------------------ for uv and pip

    def uv_arguments(self) -> tuple[list[str], dict[str, str]]:
        """Arguments for uv (which reads no pip.conf), and what to add to its environment: there go the secrets.

        Explicit indexes are not among them: see `uv_project`. uv is to be run without the caller's UV_* variables.
        """
        arguments = ["--index-strategy", "first-index", "--keyring-provider", "disabled"]
        environment = {"UV_NO_CONFIG": "1"}
        shown = [] if self.no_index else [one for one in self.indexes if not one.explicit]
        for at, index in enumerate(shown):
            name = f"index{self.indexes.index(index) + 1}"
            arguments += ["--default-index" if at == len(shown) - 1 else "--index", f"{name}={index.url}"]
        environment.update(self._uv_logins())
        if not shown:
            arguments.append("--no-index")
        with_secret = []
        for link in self.find_links:
            if local_path(link) is None and redacted(link) != link.partition("#")[0]:
                with_secret.append(link.replace(",", "%2C"))
            else:  # uv takes a comma for the end of one place
                arguments += ["--find-links", Path(link).as_uri() if "," in link and "://" not in link else link]
        if with_secret:
            environment["UV_FIND_LINKS"] = ",".join(with_secret)
        for host in self.trusted_hosts:
            arguments += ["--allow-insecure-host", host]
        environment.update({name: value for name, value in os.environ.items() if name.startswith(_KEPT_OF_UV)})
        if self.cert is None:
            # older versions know the one name, newer ones the other
            environment.update(UV_SYSTEM_CERTS="1", UV_NATIVE_TLS="1")
        elif self.cert.is_dir():
            environment.update(SSL_CERT_DIR=str(self.cert), SSL_CERT_FILE="")
        else:
            environment["SSL_CERT_FILE"] = str(self.cert)
        if self.client_cert is not None:
            environment["SSL_CLIENT_CERT"] = str(self.client_cert)
        environment.update(self._proxy_variables())
        return arguments, environment

    def uv_project(self, requirements: Iterable[str]) -> str:
        """A pyproject.toml for uv, which keeps the projects among these requirements to their sources.

        uv heeds a source only for what that file itself depends on: name there what has one, and lock again where one
        turns up that was not named. '' where none of the requirements has a source.
        """
        mine = {line: re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in requirements}
        mine = {line: canonicalize_name(name) for line, name in mine.items()}
        mine = {line: name for line, name in mine.items() if name in self.sources}
        if not mine:
            return ""
        lines = ["[project]", 'name = "offlinepack-sources"', 'version = "0"', f"dependencies = {json.dumps([*mine])}"]
        used = {self.sources[name] for name in mine.values()}
        for at, index in enumerate(self.indexes):
            if index.name in used:
                lines += ["[[tool.uv.index]]", f'name = "index{at + 1}"', f"url = {json.dumps(index.url)}"]
                lines.append("explicit = true")
                used.discard(index.name)
        names = {one.name: f"index{at + 1}" for at, one in reversed([*enumerate(self.indexes)])}
        lines.append("[tool.uv.sources]")
        lines += [f'{json.dumps(name)} = {{ index = "{names[self.sources[name]]}" }}' for name in set(mine.values())]
        return "\n".join([*lines, ""])

    def _uv_logins(self) -> Iterator[tuple[str, str]]:
        for at, index in enumerate(self.indexes):
            login = self._known_login(index)
            if login is not None:
                yield f"UV_INDEX_INDEX{at + 1}_USERNAME", login.user
                yield f"UV_INDEX_INDEX{at + 1}_PASSWORD", login.password

    def pip_arguments(self) -> tuple[list[str], dict[str, str]]:
        """Arguments for pip and pip-compile, and what to add to an environment without PIP_*: there go the secrets.

        Explicit indexes are among them, since pip knows no sources; who runs it keeps projects to their index.
        """
        environment = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        addresses = [self._with_login(one) for one in ([] if self.no_index else self.indexes)]
        if addresses:
            environment["PIP_INDEX_URL"] = addresses[0]
            environment["PIP_EXTRA_INDEX_URL"] = " ".join(addresses[1:])
        else:
            environment["PIP_NO_INDEX"] = "1"
        # pip splits these at spaces
        links = [Path(one).absolute().as_uri() if "://" not in one else one for one in self.find_links]
        environment["PIP_FIND_LINKS"] = " ".join(links)
        environment["PIP_TRUSTED_HOST"] = " ".join(self.trusted_hosts)
        environment["PIP_KEYRING_PROVIDER"] = "disabled"
        if self.cert is not None:
            # pip lets the variable win over its own option
            environment.update(PIP_CERT=str(self.cert), REQUESTS_CA_BUNDLE=str(self.cert))
        if self.client_cert is not None:
            environment["PIP_CLIENT_CERT"] = str(self.client_cert)
        if self.proxy:
            environment["PIP_PROXY"] = self.proxy
        if self.retries is not None:
            environment["PIP_RETRIES"] = str(self.retries)
        if self.timeout is not None:
            environment["PIP_DEFAULT_TIMEOUT"] = f"{self.timeout:g}"
        environment.update(self._proxy_variables())
        return [], {name: value for name, value in environment.items() if value or not name.startswith("PIP_")}

    def _with_login(self, index: Index) -> str:
        login = self._known_login(index)
        if login is None:
            return index.url
        userinfo = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}@"
        parts = urlsplit(index.url)
        return urlunsplit(parts._replace(netloc=userinfo + parts.netloc))

    def _proxy_variables(self) -> dict[str, str]:
        """--proxy as the variables that every program reads; '' unsets one."""
        if self.proxy is None:
            return {}
        proxy = _proxy_address(self.proxy) or ""
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy")
        return {**dict.fromkeys(names, proxy), "NO_PROXY": "", "no_proxy": ""}


def project_files(name: str, indexes: Indexes, client: Client) -> list[IndexFile]:
    """The files of a project, on the first index that has it and in the find-links places.

    FetchError where none has it, or one that comes before cannot be asked: then nobody knows who would have won.
    """
    found = find_project(name, indexes, client)
    if found is None:
        places = [*map(str, indexes.of(name)), *map(redacted, indexes.find_links)]
        raise FetchError(
            error(
                "project-not-found",
                name,
                "No index has a project {subject}; looked in {places}.",
                "Check the name, or name the index that has it: --extra-index-url.",
                places=places or [text("no place at all (--no-index)")],
            )
        )
    return list(found.files)


def find_project(name: str, indexes: Indexes, client: Client, only: Collection[str] = ()) -> Project | None:
    """As `project_files`, with the index that has it and its status; None where none has it.

    `only`: names of the files that are asked about; others may be left out, which is a good deal faster.
    """
    project = canonicalize_name(name)
    linked = tuple(one for one in linked_files(indexes, client) if one.project == project)
    for index in () if indexes.no_index else indexes.of(project):
        found = _project_of(project, index, indexes, client, only)
        if found is not None:
            return replace(found, files=(*found.files, *linked))
    return Project(project, None, linked) if linked else None


def projects_elsewhere(name: str, indexes: Indexes, client: Client) -> list[Project]:
    """The same name on the indexes after the one that wins: what merging them, as pip does, would have added."""
    project, found = canonicalize_name(name), []
    for index in () if indexes.no_index else indexes.of(project):
        try:
            one = _project_of(project, index, indexes, client)
        except FetchError:
            continue
        found += [one] if one else []
    known = {one.filename for one in (*found[0].files, *linked_files(indexes, client))} if found else set()
    return [
        replace(one, files=tuple(each for each in one.files if each.filename not in known)) for one in found[1:]
    ]


def check(names: Iterable[str], indexes: Indexes, client: Client) -> None:
    """FetchError with every index that cannot be asked about the first of these projects that it is asked for.

    After a resolver failed: is it the way to an index, rather than the versions? Projects that no index has are not
    this function's matter.
    """
    findings: dict[tuple[str, str], Finding] = {}
    for name in names:
        for index in () if indexes.no_index else indexes.of(name):
            if any(url == index.url for url, _ in findings):
                continue
            try:
                _project_of(canonicalize_name(name), index, indexes, client)
            except FetchError as failure:
                findings.update({(index.url, one.render()): one for one in failure.findings})
    if findings:
        raise FetchError(*findings.values())


def linked_files(indexes: Indexes, client: Client) -> tuple[IndexFile, ...]:
    """All distributions in the find-links places; read once."""
    if "linked" not in indexes._found:
        indexes._found["linked"] = tuple(one for link in indexes.find_links for one in _linked(link, indexes, client))
    found: tuple[IndexFile, ...] = indexes._found["linked"]
    return found


def _linked(link: str, indexes: Indexes, client: Client) -> Iterator[IndexFile]:
    path = local_path(link)
    if path is not None and path.is_dir():
        for one in sorted(path.iterdir()):
            if (owner := owner_of(one.name)) and one.is_file():
                yield IndexFile(one.name, one.absolute().as_uri(), owner, None, size=one.stat().st_size)
        return
    if path is not None and (owner := owner_of(path.name)):
        yield IndexFile(path.name, path.absolute().as_uri(), owner, None, size=path.stat().st_size)
        return
    page = client.page(link, simple.ACCEPT_SUPPORTED)
    if page is None:
        raise FetchError(
            error(
                "no-find-links",
                redacted(link),
                "{subject}, named by --find-links, is not there (404).",
                "Check the address.",
            )
        )
    yield from _read(page, "", None, redacted(link), indexes)[0]


def _project_of(
    project: str, index: Index, indexes: Indexes, client: Client, only: Collection[str] = ()
) -> Project | None:
    url = simple.create_project_url(index.url, project)
    try:
        page = client.page(url, simple.ACCEPT_SUPPORTED)
    except FetchError as failure:
        if any(one.sentence.facts.get("status") in index.missing for one in failure.findings):
            return None
        raise
    if page is None:
        return None
    files, details = _read(_with_only(page, only) if only else page, project, index, url, indexes)
    meta = details.get("meta", {})
    status = details.get("project-status") or {}  # PEP 792: a table of its own; early drafts had it in meta
    if not isinstance(status, Mapping):
        status = {"status": status}
    state = status.get("status") or meta.get("project-status") or "active"
    reason = status.get("reason") or meta.get("project-status-reason") or ""
    return Project(project, index, tuple(files), str(state), str(reason), str(meta.get("api-version", "")))


def _with_only(page: Page, names: Collection[str]) -> Page:
    """A page of PEP 691 with these files only; the page as it is where they are not found at once.

    Some pages tell of ten thousand files: parsing those would take more memory and time than fetching ours.
    """
    if "json" not in page.content_type:
        return page
    files = [_object_with(page.text, "filename", name) for name in names]
    rest = {key: _value_of(page.text, key) for key in ("meta", "project-status")}
    if None in files or not isinstance(rest["meta"], dict):
        return page
    known = {key: value for key, value in rest.items() if value is not None}
    return page._replace(text=json.dumps({**known, "name": "", "versions": [], "files": files}))

_JSON = json.JSONDecoder()


def _value_of(content: str, key: str) -> Any:
    found = re.search(rf'"{key}"\s*:\s*', content)
    try:
        return _JSON.raw_decode(content, found.end())[0] if found else None
    except ValueError:
        return None


def _object_with(content: str, key: str, value: str) -> dict[str, Any] | None:
    """The object of a JSON text that has this string under this key: of the braces before it the first that fits."""
    found = re.search(rf'"{key}"\s*:\s*{re.escape(json.dumps(value))}', content)
    start = found.start() if found else -1
    for _ in range(8):
        start = content.rfind("{", 0, start) if start > 0 else -1
        with contextlib.suppress(ValueError):
            one, _ = _JSON.raw_decode(content, start) if start >= 0 else (None, 0)
            if isinstance(one, dict) and one.get(key) == value:
                return one
    return None


def _read(
    page: Page, project: str, index: Index | None, shown: str, indexes: Indexes
) -> tuple[list[IndexFile], Mapping[str, Any]]:
    """A page's files (of `project`, or of all), and the page as PEP 691 would have it."""
    kind = simple.ACCEPT_JSON_V1 if page.content_type == "application/json" else page.content_type
    base, status = page.url, dict[str, str]()
    extras, attested = list[str | None](), list[str | None]()
    content = page.text
    if kind != simple.ACCEPT_JSON_V1:
        # what is no hash after the #, mousebender does not understand
        content = re.sub(r"""(href\s*=\s*["'][^"'#]*)#[^"'=]*(?=["'])""", r"\1", content)
        if _SAYS_MORE.search(content) or not _HAS_LINK.search(content):
            look = _Anchors()
            look.feed(content)
            base, extras, attested = urljoin(page.url, look.base), look.upload_times, look.provenances
            status = look.status
            if not (look.upload_times or look.versioned or (look.is_html and not look.asks)):
                raise FetchError(_not_an_index(shown, page.content_type))
    try:
        details: Mapping[str, Any] = simple.parse_project_details(content, kind, project or "any")
        major = str(details["meta"]["api-version"]).partition(".")[0]
        listed = details["files"]
        if major != "1" or not all(isinstance(one["filename"] + one["url"], str) for one in listed):
            raise ValueError(major)
    except (ValueError, KeyError, TypeError, AttributeError, simple.UnsupportedMIMEType, simple.UnsupportedAPIVersion):
        raise FetchError(_not_an_index(shown, page.content_type)) from None
    files = []
    for at, one in enumerate(listed):
        # thousands of files on some pages: no more is read of each than is needed to tell whose it is
        owner = owner_of(one["filename"])
        if not owner or (project and owner != project):
            continue
        url = one["url"] if one["url"].startswith(("https://", "http://")) else urljoin(base, one["url"])
        url = indexes.remember(url.partition("#")[0]) if "@" in url or "?" in url else url.partition("#")[0]
        beside = one.get("core-metadata", one.get("dist-info-metadata", False))
        hashes = one.get("hashes") or {}
        size, yanked, requires = one.get("size"), one.get("yanked", False), one.get("requires-python")
        uploaded = one.get("upload-time") or (extras[at] if at < len(extras) else None)
        files.append(
            IndexFile(
                one["filename"],
                url,
                owner,
                index,
                {kind: value.lower() for kind, value in hashes.items() if isinstance(value, str) and value.isalnum()},
                size if isinstance(size, int) else None,
                requires if isinstance(requires, str) else None,
                bool(yanked),
                yanked if isinstance(yanked, str) else "",
                uploaded if isinstance(uploaded, str) else None,
                bool(beside),
                beside.get("sha256") if isinstance(beside, Mapping) else None,
                _provenance(one.get("provenance") or (attested[at] if at < len(attested) else None), base, indexes),
            )
        )
    return files, {**details, "project-status": status} if status else details


def _provenance(url: Any, base: str, indexes: Indexes) -> str | None:
    if not isinstance(url, str) or not url:
        return None
    return indexes.remember(urljoin(base, url))

_SAYS_MORE = re.compile(r"<base\b|data-(upload-time|provenance)|pypi:project-status", re.I)

_HAS_LINK = re.compile(r"<a\s[^>]*href", re.I)


class _Anchors(html.parser.HTMLParser):
    """What mousebender leaves out of an HTML page: <base>, times, attestations, status; whether it is such a page."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.upload_times: list[str | None] = []
        """one for each link, in order"""
        self.provenances: list[str | None] = []
        self.status: dict[str, str] = {}
        """PEP 792: status and reason"""
        self.versioned = self.is_html = self.asks = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Each tag."""
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.upload_times.append(given.get("data-upload-time"))
            self.provenances.append(given.get("data-provenance"))
        elif tag == "base" and not self.base:
            self.base = given.get("href") or ""
        self.versioned |= tag == "meta" and given.get("name") == "pypi:repository-version"
        if tag == "meta" and (given.get("name") or "").startswith("pypi:project-status"):
            what = "reason" if (given["name"] or "").endswith("-reason") else "status"
            self.status[what] = given.get("content") or ""
        self.is_html |= tag in ("html", "body", "head")
        self.asks |= tag in ("form", "input", "script", "iframe")


def owner_of(filename: str) -> str:
    """The normalised name of the project that a file of this name belongs to; '' where it is no such name."""
    if filename.endswith(".whl"):
        return canonicalize_name(filename.partition("-")[0]) if filename.count("-") in (4, 5) else ""
    if filename.endswith(_ARCHIVES):
        return canonicalize_name(filename.rpartition("-")[0])
    return ""


def _version(filename: str) -> Version | None:
    """The version in the name of a wheel or sdist; None where that is not one."""
    stem = next((filename.removesuffix(one) for one in _ARCHIVES if filename.endswith(one)), "")
    try:
        return Version(stem.split("-")[1] if filename.endswith(".whl") else stem.rpartition("-")[2])
    except (InvalidVersion, IndexError):
        return None


def _not_an_index(shown: str, kind: str) -> Finding:
    return error(
        "not-an-index",
        redacted(shown),
        "{subject} is no page of a package index: {kind}.",
        "Check the index address: it usually ends in /simple/.",
        kind=kind or "no content type",
    )


class _PipSettings:
    """pip's configuration, as `pip config` reads it: global, user, site, PIP_CONFIG_FILE, PIP_*; the last wins.

    Of a file, [global], then [install], then [download].
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, str]] = {}
        for path in _pip_files():
            self._read(path)
        for name, value in os.environ.items():
            if name.startswith("PIP_"):
                self._keep(name[4:], value, name)

    def _read(self, path: Path) -> None:
        parser = configparser.RawConfigParser()
        parser.optionxform = _option  # type: ignore[assignment, method-assign]
        try:
            content = path.read_bytes()
        except OSError:
            return
        try:
            try:
                parser.read_string(content.decode("utf-8-sig"))
            except UnicodeDecodeError:
                parser.read_string(content.decode())
        except (configparser.Error, UnicodeDecodeError) as problem:
            raise SourceError(
                error(
                    "bad-pip-conf",
                    path,
                    "pip's settings in {subject} cannot be read: {words}.",
                    "Mend the file, or set PIP_CONFIG_FILE={nothing} to go without.",
                    words=str(problem).partition("\n")[0],
                    nothing=os.devnull,
                )
            ) from problem
        for section in ("global", "install", "download"):
            if parser.has_section(section):
                for name, value in parser.items(section):
                    self._keep(name, value, str(path))

    def _keep(self, name: str, value: str, origin: str) -> None:
        if value.strip():  # pip passes over what is empty
            self._values[_option(name)] = (value.strip(), origin)

    def value(self, name: str) -> str | None:
        """The value, or None."""
        return self._values.get(name, (None, ""))[0]

    def values(self, name: str) -> list[str]:
        """The values of an option that may be repeated: pip splits at any space."""
        return (self.value(name) or "").split()

    def origin(self, name: str) -> str:
        """The file or variable that says so."""
        return self._values.get(name, ("", ""))[1]

    def flag(self, name: str) -> bool:
        """It is switched on."""
        return (self.value(name) or "").lower() in ("y", "yes", "t", "true", "on", "1")

    def number(self, name: str) -> int | None:
        """A whole number, or None where it is none."""
        value = self.value(name) or ""
        return int(value) if value.isdigit() else None

    @property
    def find_links(self) -> list[str]:
        """Places, as they stand."""
        return self.values("find-links")


def _option(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _pip_files() -> list[Path]:
    """pip.conf's places, the weakest first; none where PIP_CONFIG_FILE is the null device."""
    given = os.environ.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        return []
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    if sys.platform == "darwin":
        shared = platformdirs.site_data_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
        own = Path(platformdirs.user_data_dir("pip", appauthor=False))
        own = own if own.is_dir() else _home("~/.config/pip")
    else:
        shared = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
        own = Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True))
    places = [Path(one) / name for one in shared]
    if sys.platform not in ("darwin", "win32"):
        places.append(Path("/etc") / name)
    if not (given and Path(given).exists()):
        places += [_home("~/pip" if sys.platform == "win32" else "~/.pip") / name, own / name]
    places.append(Path(os.environ.get("VIRTUAL_ENV") or sys.prefix) / name)
    return [*places, *([Path(given)] if given else [])]


class _UvSettings:
    """uv's: UV_* variables, then the project's [tool.uv] or uv.toml, the user's and the system's uv.toml."""

    def __init__(self, folder: Path) -> None:
        env = os.environ
        self.indexes: list[Index] = []
        self.default: list[Index] = []
        """the one in the public index's place; it comes last"""
        self.find_links = [one for one in env.get("UV_FIND_LINKS", "").split(",") if one]
        self.no_index = env.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on")
        self.trusted_hosts = env.get("UV_INSECURE_HOST", "").split()
        self.keyring_provider = env.get("UV_KEYRING_PROVIDER")
        self.sources: dict[str, Any] = {}
        self._add("UV_INDEX", env.get("UV_INDEX", "").split(), "")
        self._add("UV_EXTRA_INDEX_URL", env.get("UV_EXTRA_INDEX_URL", "").split(), "")
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
            self._add(name, (), env.get(name, ""))
        for path, table in _uv_tables(folder):
            self._take(path, table)

    def _add(self, origin: str, extra: Iterable[str], default: str) -> None:
        for one in extra:
            name, equals, url = one.partition("=")
            named = equals and re.fullmatch(r"[A-Za-z0-9._-]+", name)
            self.indexes.append(_index(url if named else one, origin, name=name if named else ""))
        if default and not self.default:
            name, equals, url = default.partition("=")
            named = equals and re.fullmatch(r"[A-Za-z0-9._-]+", name)
            self.default = [_index(url if named else default, origin, name=name if named else "", default=True)]

    def _take(self, path: Path, table: Mapping[str, Any]) -> None:
        tables = _tables(table.get("index") or [], str(path), path.parent)
        self.indexes += [one for one in tables if not one.default]
        self.default = self.default or [one for one in tables if one.default][:1]
        for source in (table.get("pip") or {}, table):
            self._add(str(path), source.get("extra-index-url") or (), source.get("index-url") or "")
            beside = [str(one) for one in source.get("find-links") or ()]
            self.find_links += [one if "://" in one else str(path.parent / one) for one in beside]
            self.no_index = self.no_index or bool(source.get("no-index"))
            self.keyring_provider = self.keyring_provider or source.get("keyring-provider")
        self.trusted_hosts += [str(one) for one in table.get("allow-insecure-host") or ()]
        self.sources = {**(table.get("sources") or {}), **self.sources}


def _uv_tables(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """uv's settings that hold for a project in `folder`, the strongest first."""
    if os.environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return
    if given := os.environ.get("UV_CONFIG_FILE"):
        yield Path(given), _toml(Path(given))
        return
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / "uv.toml").is_file():
            yield place / "uv.toml", _toml(place / "uv.toml")
            break
        table = _toml(place / "pyproject.toml").get("tool", {}) if (place / "pyproject.toml").is_file() else {}
        if isinstance(table, Mapping) and isinstance(table.get("uv"), Mapping):
            yield place / "pyproject.toml", table["uv"]
            break
    if sys.platform == "win32":
        roots = [os.environ.get("APPDATA"), os.environ.get("PROGRAMDATA")]
    else:
        shared = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        shared = [one for one in shared if Path(one, "uv/uv.toml").is_file()][:1] or ["/etc"]
        roots = [os.environ.get("XDG_CONFIG_HOME") or str(_home("~/.config")), *shared]
    for root in roots:
        if root and Path(root, "uv/uv.toml").is_file():
            yield Path(root, "uv/uv.toml"), _toml(Path(root, "uv/uv.toml"))


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text("utf-8-sig"))
        return found
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise SourceError(
            error("bad-toml", path, "{subject} is not TOML: {words}.", "Mend that line.", words=problem)
        ) from problem


def _index(
    url: str, origin: str, *, name: str = "", default: bool = False, explicit: bool = False, **more: Any
) -> Index:
    """An index from an address that may hold a login, or from the path of a folder."""
    path = local_path(url)
    if path is not None:
        return Index(path.absolute().as_uri().rstrip("/") + "/", name, explicit, default, origin)
    bare, login = parted(url)
    bare = redacted(bare).rstrip("/") + "/"
    variable = f"UV_INDEX_{_variable(name)}_"
    user = unquote(urlsplit(url).username or "") or (os.environ.get(variable + "USERNAME") if name else None)
    password = os.environ.get(variable + "PASSWORD") if name else None
    if login is not None:
        login = replace(login, origin=text("the index address"))
    elif password is not None:
        login = Login(user or "", password, variable + "PASSWORD")
    missing = (403,) if urlsplit(bare).hostname in _FORBIDDEN_IS_MISSING else ()
    return Index(bare, name, explicit, default, origin, user, login, missing=more.get("missing") or missing)


def _tables(tables: Iterable[Mapping[str, Any]], origin: str, folder: Path | None) -> list[Index]:
    """[[index]] tables, as uv defines them."""
    found = []
    for one in tables:
        if not isinstance(one, Mapping) or not isinstance(one.get("url"), str):
            raise SourceError(
                error(
                    "bad-index", origin, "{subject}: an index has no url.", 'Write name = "..." and url = "..." there.'
                )
            )
        url, statuses = one["url"], one.get("ignore-error-codes") or ()
        if folder is not None and local_path(url) is not None and "://" not in url:
            url = str(folder / url)
        found.append(
            _index(
                url,
                origin,
                name=str(one.get("name") or ""),
                default=bool(one.get("default")),
                explicit=bool(one.get("explicit")),
                missing=tuple(status for status in statuses if isinstance(status, int)),
            )
        )
    return found


def _ordered(found: Iterable[Index], no_index: bool, notes: list[Finding]) -> tuple[Index, ...]:
    """Each address once, the public index after the others; folders that are not there are left out, with a note."""
    if no_index:
        return ()
    kept: dict[str, Index] = {}
    for one in found:
        path = local_path(one.url)
        if path is not None and not path.is_dir():
            notes.append(
                warning(
                    "index-not-there",
                    one.url,
                    "The index {subject}, named by {origin}, is not there and is left out.",
                    "Mend or remove it there.",
                    origin=one.origin,
                )
            )
        elif one.url not in kept:
            kept[one.url] = one
        elif one.login and not kept[one.url].login:
            kept[one.url] = replace(kept[one.url], login=one.login, user=one.user)
    return tuple(sorted(kept.values(), key=lambda one: 2 if one.last else one.url == PUBLIC))


def _places(given: Iterable[str], configured: Iterable[str], notes: list[Finding]) -> tuple[str, ...]:
    """Find-links places; a folder that a flag names must be there, one of the settings is left out, with a note."""
    found, lacking = [], []
    for one in given:
        path = local_path(one)
        if path is not None and not path.exists():
            lacking.append(
                error("no-find-links", one, "{subject}, named by --find-links, is not there.", "Check the path.")
            )
        found.append(one if path is None or "://" in one else str(path.absolute()))
    if lacking:
        raise UsageError(*lacking)
    for one in configured:
        path = local_path(one)
        if path is not None and not path.exists():
            notes.append(
                warning(
                    "find-links-not-there",
                    one,
                    "{subject}, a find-links place of the settings, is not there and is left out.",
                    "Mend or remove it there.",
                )
            )
        else:
            found.append(one if path is None or "://" in one else str(path.absolute()))
    return _once(found)


def _bad_source(project: str, problem: Exception) -> Finding:
    return error(
        "bad-source",
        project,
        "The source of {subject} has a marker that cannot be read: {words}.",
        "Mend the marker.",
        words=str(problem).partition("\n")[0],
    )


def _keyring(provider: str) -> Callable[[str, str | None], tuple[str, str] | None] | None:
    """How to ask for (service, user) -> (user, password), as pip's --keyring-provider has it."""
    if provider in ("import", "auto"):
        try:
            import keyring  # type: ignore[import-not-found, unused-ignore]
        except Exception:
            keyring = None  # type: ignore[assignment,unused-ignore]
        if keyring is not None:

            def ask_module(service: str, user: str | None) -> tuple[str, str] | None:
                try:
                    found = keyring.get_credential(service, user)
                except Exception:  # a backend may fail in its own way
                    return None
                return (found.username or "", found.password or "") if found else None

            return ask_module
    program = _keyring_program() if provider in ("subprocess", "auto") else None
    if program is None:
        return None

    def ask_program(service: str, user: str | None) -> tuple[str, str] | None:
        command = [program, "--mode=creds", "--output=json", "get", service, *([user] if user else [])]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=60, check=False
            )
            if done.returncode == 0:
                found = json.loads(done.stdout)
                return str(found["username"]), str(found["password"])
            if user and done.returncode == 2:  # a keyring before 25.2.1 knows passwords only
                command = [program, "get", service, user]
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=60, check=False
                )
                if done.returncode == 0:
                    return user, done.stdout.decode("utf-8", "replace").rstrip("\r\n")
        except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
            pass
        return None

    return ask_program


def _keyring_program() -> str | None:
    """`keyring` on PATH, but not the one beside this interpreter: that one is there as a module."""
    own = Path(sysconfig.get_path("scripts"))
    folders = [one for one in os.environ.get("PATH", os.defpath).split(os.pathsep) if one and Path(one) != own]
    return shutil.which("keyring", path=os.pathsep.join(folders)) or shutil.which("keyring")


def _proxy_address(proxy: str) -> str | None:
    return proxy if "://" in proxy else f"http://{proxy}" if proxy else None


def _in_networks(host: str | None, no_proxy: str | None) -> bool:
    """NO_PROXY names a network (10.0.0.0/8) that this address is in."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    for one in (no_proxy or "").split(","):
        try:
            if "/" in one and address in ipaddress.ip_network(one.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def _variable(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper())


def _path(value: str | Path | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _env(name: str) -> str | None:
    return os.environ.get(name)


def _home(path: str) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111  (without a home it stays as it is)


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
