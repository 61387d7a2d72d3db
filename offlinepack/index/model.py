"""Types of package indexes: index, file, project, and the ordered indexes of a run with their access.

The first index that has a project wins. Indexes stand in the order of the settings, with the public index last: a
project of a private index is never taken from the public one. Folders (file:) of pip's settings come after it,
since they mirror only some files.
"""

from __future__ import annotations

import functools
import os
import re
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from offlinepack.errors import Finding, SourceError, Text, UsageError, error, text, warning
from offlinepack.index.find_links import parse_version, resolve_find_links
from offlinepack.net.auth import find_keyring, read_netrc_login
from offlinepack.net.model import Login
from offlinepack.net.urls import (
    get_local_path,
    is_in_no_proxy_network,
    normalize_proxy_url,
    redact_url,
    split_credentials,
)


@dataclass(frozen=True)
class IndexOptions:
    """Options about indexes that stood in a requirements file; addresses may hold secrets."""

    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()

    def __add__(self, other: IndexOptions) -> IndexOptions:
        return IndexOptions(
            other.index_url or self.index_url,
            merge_unique(self.extra_index_urls, other.extra_index_urls),
            merge_unique(self.find_links, other.find_links),
            self.no_index or other.no_index,
            merge_unique(self.trusted_hosts, other.trusted_hosts),
        )


def merge_unique(first: tuple, second: tuple) -> tuple:  # type: ignore[type-arg]
    """Join two tuples without the members that the first one has."""
    return first + tuple(member for member in second if member not in first)


PUBLIC_INDEX_URL = "https://pypi.org/simple/"
"""the default index"""

_PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org"}

_HOSTS_WITH_403_FOR_MISSING = {"download.pytorch.org"}
"""hosts that answer 403 for every project that they do not have (uv knows them too)"""


def is_public_index_url(url: str) -> bool:
    """Check whether an address belongs to the public index or to the host of its files."""
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.netloc in _PUBLIC_HOSTS


@dataclass(frozen=True)
class Index:
    """One index."""

    url: str
    """without user, password, query; with a slash at the end"""
    name: str = ""
    """as the settings call it; '' where they do not"""
    is_explicit: bool = False
    """only for projects that name it as their source"""
    is_default: bool = False
    """it stands in the public index's place"""
    origin: str = ""
    """what named it: an option, a variable, a file"""
    user: str | None = field(default=None, repr=False)
    login: Login | None = field(default=None, repr=False)
    is_fallback: bool = False
    """a folder that pip's settings add: it serves what no other index has"""
    missing_statuses: tuple[int, ...] = ()
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
    is_yanked: bool = False
    yanked_reason: str = ""
    upload_time: str | None = None
    """ISO 8601, as the index gives it"""
    has_metadata: bool = False
    """PEP 658: its METADATA lies beside it, at `url` + '.metadata'"""
    metadata_sha256: str | None = None
    provenance_url: str | None = field(default=None, repr=False)
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
        """Check for a wheel with extension modules for a system (linux, windows, macos), whose sdist has to be
        compiled.
        """
        word = {"windows": "win", "macos": "macosx"}.get(system, system)
        return bool(re.search(rf"-(?!none-)[^-]+-[^-]*{word}[^-]*\.whl\Z", self.filename))

    @functools.cached_property
    def version(self) -> Version | None:
        """The version in its file name; None where that is not one."""
        return parse_version(self.filename)

    def supports_python(self, python: str) -> bool:
        """Check whether Requires-Python admits X.Y.Z; an invalid one admits every version."""
        try:
            return SpecifierSet(self.requires_python or "").contains(python, prereleases=True)
        except InvalidSpecifier:
            return True

    @property
    def upload_datetime(self) -> datetime | None:
        """When it came to the index; None where that does not say."""
        if not self.upload_time:
            return None
        try:
            # Python 3.10 reads neither Z nor every number of digits
            plain = re.sub(r"\.(\d+)", lambda m: f".{m[1][:6]:0<6}", self.upload_time.replace("Z", "+00:00"))
            moment = datetime.fromisoformat(plain)
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Project:
    """What one index (and the find-links places) have of a project."""

    name: str
    index: Index | None
    files: tuple[IndexFile, ...]
    status: str = "active"
    """PEP 792: active, archived, quarantined or deprecated"""
    status_reason: str = ""
    api_version: str = ""
    """the version of the repository API that the page speaks: 1.4"""


@dataclass(frozen=True)
class Indexes:
    """Index addresses in order, sources of single projects, and the way there; secrets are never printed."""

    indexes: tuple[Index, ...] = (Index(PUBLIC_INDEX_URL, is_default=True),)
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
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def with_options(self, options: IndexOptions) -> Indexes:
        """Add the options of a requirements file; --index-url of the command line precedes the one of the file."""
        indexes = list(self.indexes)
        if options.index_url and not any(index.origin == "--index-url" for index in indexes):
            indexes = [
                make_index(options.index_url, "requirements", default=True),
                *(index for index in indexes if not index.is_default),
            ]
        indexes += [make_index(url, "requirements") for url in options.extra_index_urls]
        notes = list(self.notes)
        no_index = self.no_index or options.no_index
        return replace(
            self,
            indexes=order_indexes(indexes, no_index, notes),
            no_index=no_index,
            find_links=remove_duplicates([*self.find_links, *resolve_find_links(options.find_links, (), notes)]),
            trusted_hosts=remove_duplicates([*self.trusted_hosts, *options.trusted_hosts]),
            notes=tuple(notes),
            cache={},
        )

    def evaluate_sources(self, evaluate: Callable[[Marker], bool]) -> Indexes:
        """Evaluate the markers of conditional sources with the markers of a target."""
        sources = dict(self.sources)
        for project, choices in self.conditional_sources.items():
            for name, marker in choices:
                if not marker or evaluate(Marker(marker)):
                    sources.setdefault(project, name)
        return replace(self, sources=sources, conditional_sources={})

    def select_indexes(self, project: str) -> tuple[Index, ...]:
        """Return the indexes that may have a project, in order: its source, or all indexes that are not explicit."""
        source = self.sources.get(canonicalize_name(project))
        if source is not None:
            return tuple(index for index in self.indexes if index.name == source)
        return tuple(index for index in self.indexes if not index.is_explicit)

    def with_sources(self, sources: Mapping[str, Any]) -> Indexes:
        """Add `sources` of the settings: the name or address of an index, {index = name}, or a list of these with
        markers.
        """
        indexes = list(self.indexes)
        plain: dict[str, str] = {}
        conditional: dict[str, tuple[tuple[str, str], ...]] = {}
        for project, value in sources.items():
            choices: list[tuple[str, str]] = []
            for member in value if isinstance(value, list) else [value]:
                name = member.get("index") if isinstance(member, Mapping) else member
                marker = str(member.get("marker", "")) if isinstance(member, Mapping) else ""
                if name is None:  # a path, a repository: that is a requirement's part
                    continue
                if "://" in str(name):
                    indexes.append(make_index(str(name), "sources", name=f"source-{len(indexes)}", explicit=True))
                    name = indexes[-1].name
                try:
                    choices.append((str(name), str(Marker(marker)) if marker else ""))
                except InvalidMarker as problem:
                    raise SourceError(_make_source_finding(project, problem)) from problem
                if not self.no_index and name not in {index.name for index in indexes}:
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

    def trusts_host(self, host: str, port: int | None) -> bool:
        """Check whether --trusted-host names a host, with or without its port."""
        return host in self.trusted_hosts or (port is not None and f"{host}:{port}" in self.trusted_hosts)

    def find_proxy(self, url: str) -> str | None:
        """Return --proxy, otherwise the proxy of the environment or system for this scheme, except for hosts in
        NO_PROXY.
        """
        if self.proxy is not None:
            return normalize_proxy_url(self.proxy)
        if "proxies" not in self.cache:
            self.cache["proxies"] = urllib.request.getproxies()
        proxies: dict[str, str] = self.cache["proxies"]
        parts = urlsplit(url)
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if (
            not proxy
            or urllib.request.proxy_bypass(parts.netloc)
            or is_in_no_proxy_network(parts.hostname, proxies.get("no"))
        ):
            return None
        return normalize_proxy_url(proxy)

    def find_login(self, url: str, *, refused: bool = False) -> Login | None:
        """Return the login that pip would use: that of the index, otherwise netrc; after a refusal, the keyring."""
        index = self._find_index(url)
        host = urlsplit(url).hostname or ""
        if refused:
            services = [index.url] if index else []
            return self._find_keyring_login([*services, urlsplit(url).netloc], index.user if index else None)
        if index and index.login:
            return index.login
        return read_netrc_login(host)[0]

    def describe_login_sources(self, url: str) -> tuple[Text | str, ...]:
        """Describe the places where find_login looked, each with what it found."""
        index, host = self._find_index(url), urlsplit(url).hostname or ""
        places: list[Text | str] = [text("the index address") if index else text("the address")]
        if index and index.name:
            places.append(f"UV_INDEX_{_make_variable_part(index.name)}_PASSWORD")
        places.append(read_netrc_login(host)[1])
        if self.keyring_provider == "disabled":
            places.append(text("no keyring (--keyring-provider disabled)"))
        elif self._get_keyring() is None:
            places.append(text("no keyring (not installed)"))
        else:
            places.append(text("the keyring"))
        return tuple(places)

    def hide_secrets(self, url: str) -> str:
        """Return the address without secrets, and keep the whole address (a signed query) for the client."""
        public = redact_url(url)
        if public != url.partition("#")[0]:
            self.cache["whole", public] = url
        return public

    def restore_secrets(self, url: str) -> str:
        """Return the address with the secrets that hide_secrets removed from it."""
        public_url: str = self.cache.get(("whole", url), url)
        return public_url

    def _find_index(self, url: str) -> Index | None:
        """Find the index that an address belongs to: the same host and the longest common path."""
        parts = urlsplit(url)
        same = [
            index
            for index in self.indexes
            if urlsplit(index.url).netloc == parts.netloc
            and not (index.url.startswith("https:") and parts.scheme == "http")
        ]
        return max(
            same,
            key=lambda index: len(os.path.commonpath([urlsplit(index.url).path or "/", parts.path or "/"])),
            default=None,
        )

    def _get_keyring(self) -> Callable[[str, str | None], tuple[str, str] | None] | None:
        """Ask the keyring for (service, user); None where there is none. As pip: the module first, then the program."""
        if "keyring" not in self.cache:
            self.cache["keyring"] = find_keyring(self.keyring_provider)
        ask_keyring: Callable[[str, str | None], tuple[str, str] | None] | None = self.cache["keyring"]
        return ask_keyring

    def _find_keyring_login(self, services: Iterable[str], user: str | None) -> Login | None:
        ask = self._get_keyring()
        for service in services if ask else ():
            key = ("login", service, user)
            if key not in self.cache:
                self.cache[key] = ask(service, user) if ask else None
            if self.cache[key]:
                return Login(self.cache[key][0], self.cache[key][1], text("the keyring"))
        return None

    def find_initial_login(self, index: Index) -> Login | None:
        """Return the login for the first request to an index; the keyring is never asked about the public index."""
        if get_local_path(index.url) is not None:
            return None
        return self.find_login(index.url) or (
            None if is_public_index_url(index.url) else self.find_login(index.url, refused=True)
        )


def make_index(
    url: str, origin: str, *, name: str = "", default: bool = False, explicit: bool = False, **more: Any
) -> Index:
    """Make an index from an address, which may contain a login, or from the path of a folder."""
    path = get_local_path(url)
    if path is not None:
        return Index(path.absolute().as_uri().rstrip("/") + "/", name, explicit, default, origin)
    bare, login = split_credentials(url)
    bare = redact_url(bare).rstrip("/") + "/"
    variable = f"UV_INDEX_{_make_variable_part(name)}_"
    user = unquote(urlsplit(url).username or "") or (os.environ.get(variable + "USERNAME") if name else None)
    password = os.environ.get(variable + "PASSWORD") if name else None
    if login is not None:
        login = replace(login, origin=text("the index address"))
    elif password is not None:
        login = Login(user or "", password, variable + "PASSWORD")
    missing = (403,) if urlsplit(bare).hostname in _HOSTS_WITH_403_FOR_MISSING else ()
    return Index(bare, name, explicit, default, origin, user, login, missing_statuses=more.get("missing") or missing)


def order_indexes(indexes: Iterable[Index], no_index: bool, notes: list[Finding]) -> tuple[Index, ...]:
    """Return each index once, the public index after the others; leave missing folders out, with a note."""
    if no_index:
        return ()
    by_url: dict[str, Index] = {}
    for index in indexes:
        path = get_local_path(index.url)
        if path is not None and not path.is_dir():
            notes.append(
                warning(
                    "index-not-there",
                    index.url,
                    "The index {subject}, named by {origin}, is not there and is left out.",
                    "Mend or remove it there.",
                    origin=index.origin,
                )
            )
        elif index.url not in by_url:
            by_url[index.url] = index
        elif index.login and not by_url[index.url].login:
            by_url[index.url] = replace(by_url[index.url], login=index.login, user=index.user)
    return tuple(sorted(by_url.values(), key=lambda index: 2 if index.is_fallback else index.url == PUBLIC_INDEX_URL))


def _make_source_finding(project: str, problem: Exception) -> Finding:
    return error(
        "bad-source",
        project,
        "The source of {subject} has a marker that cannot be read: {words}.",
        "Mend the marker.",
        words=str(problem).partition("\n")[0],
    )


def _make_variable_part(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper())


def remove_duplicates(values: Iterable[str]) -> tuple[str, ...]:
    """Return each value once, in the order of its first occurrence."""
    return tuple(dict.fromkeys(values))
