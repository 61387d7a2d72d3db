"""The only HTTP: one Client (login, proxy, TLS, retries, Range, redaction); pages, and files into the store."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import hashlib
import heapq
import json
import logging
import os
import random
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname

import truststore
import urllib3
from urllib3 import exceptions as http
from urllib3.connection import HTTPConnection, HTTPSConnection

from offlinepack._version import __version__
from offlinepack.errors import (
    ComputerError,
    FetchError,
    Finding,
    IntegrityError,
    OfflinepackError,
    Text,
    UsageError,
    error,
    text,
)
from offlinepack.store import BLOCK, Incoming, Store, StoredFile

T = TypeVar("T")

RETRIES, TIMEOUT = 5, 15.0

JOBS = min(16, 4 * (os.cpu_count() or 4))
"""downloads at a time: more than a core can decrypt and hash only stand in each other's way"""

LONGEST_PAUSE = 120.0
"""seconds: a server that asks for a longer pause than this is taken to have failed"""

PIECE = 1 << 16

_QUICK = 0.02
"""seconds in which a piece has come from a quick connection"""

LARGEST_PAGE = 128 << 20
"""bytes: what is larger is no page of an index"""

_REDIRECTS = {301, 302, 303, 307, 308}

_PASSING = {408, 425, 429}

# urllib3 writes whole addresses, with their query, at level DEBUG.
logging.getLogger("urllib3").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Login:
    """A user and a password; neither is ever shown, only where they came from."""

    user: str = field(repr=False)
    password: str = field(repr=False)
    origin: Text | str
    """where it was found: a netrc file, keyring, the index address"""


class Access(Protocol):
    """The way to the servers: `Indexes` is one."""

    @property
    def cert(self) -> Path | None:
        """The authorities to trust instead of the system's, PEM file or folder."""

    @property
    def client_cert(self) -> Path | None:
        """Our certificate and key, PEM."""

    @property
    def retries(self) -> int | None:
        """How often to try again, where the settings say so."""

    @property
    def timeout(self) -> float | None:
        """Seconds of silence to bear, where the settings say so."""

    def trusts(self, host: str, port: int | None) -> bool:
        """This host's certificate is not checked."""

    def proxy_for(self, url: str) -> str | None:
        """The proxy for this address."""

    def login(self, url: str, *, refused: bool = False) -> Login | None:
        """The login for an address without userinfo. `refused`: the server did not take the first; ask the keyring."""

    def looked_in(self, url: str) -> tuple[Text | str, ...]:
        """Where `login` looks, for a person."""

    def whole(self, url: str) -> str:
        """The address with the secrets that it was once seen with: a signed query, a user."""


@dataclass(frozen=True)
class Wanted:
    """A file to have: its address (http, https, file; or a local path), its name, and what is promised of it."""

    url: str = field(repr=False)
    name: str
    sha256: str | None = None
    size: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    """further hashes: md5, sha512 ..."""


class Page(NamedTuple):
    """A page as it was served."""

    url: str
    """where it was in the end; relative links start from here"""
    content_type: str
    text: str


def redacted(url: str) -> str:
    """The address without user, password, query and fragment: fit for eyes, logs and locks."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def open_client(
    access: Access,
    retries: int | None = None,
    timeout: float | None = None,
    offline: bool = False,
    *,
    pause: float = 0.3,
    pages: Path | None = None,
) -> Client:
    """A client for all requests of a run; close it, or use it as a context.

    Where `retries` and `timeout` (seconds of silence) are None, the settings' count, else 5 and 15 seconds. `pause` is
    the first wait between two tries, in seconds; each further one is about twice as long. `pages` is a folder in which
    pages are kept between runs.
    """
    return Client(
        access,
        retries if retries is not None else access.retries if access.retries is not None else RETRIES,
        timeout or access.timeout or TIMEOUT,
        offline,
        pause,
        pages,
    )


class _Passing(Exception):
    """A failure that another try may mend."""

    def __init__(self, finding: Finding, after: float | None = None, host_is_down: bool = False) -> None:
        self.finding = finding
        self.after = after
        """seconds that the server asked us to wait"""
        self.host_is_down = host_is_down
        """nothing at all came from that host: other files need not try as long"""
        super().__init__(finding.code)


class _Stopped(Exception):
    """Nobody waits for this file any more."""


class _Names:
    """Each host's name is looked up once for all connections: many a resolver drops what comes in a burst.

    Then the whole run stands for the 5 s until it is asked again.
    """

    LASTING, FAILED = 60.0, 1.0
    """seconds that an answer counts, and that none does: those who waited for it need not ask too"""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}

    def addresses(self, name: str, port: int) -> tuple[str, ...]:
        """In the system's order; none where the name cannot be looked up."""
        with self._lock:
            until, found = self._known.get(name, (0.0, ()))
            if time.monotonic() >= until:
                try:
                    told = socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)
                    found = tuple(dict.fromkeys(str(one[4][0]) for one in told))
                except (OSError, UnicodeError):
                    found = ()
                self._known[name] = (time.monotonic() + (self.LASTING if found else self.FAILED), found)
            return found

_NAMES = _Names()


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        unknown = socket.gaierror(socket.EAI_NONAME, "the name cannot be looked up")
        failure: http.HTTPError = http.NameResolutionError(name, self, unknown)
        for address in _NAMES.addresses(name, self.port):
            self._dns_host = address
            try:
                return super()._new_conn()
            except (http.NewConnectionError, http.ConnectTimeoutError) as problem:
                failure = problem
            finally:
                self._dns_host = name
        raise failure


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Plain(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _Secure(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Client:
    """Asks servers, as politely as they want it; made by `open_client`."""

    def __init__(
        self, access: Access, retries: int, timeout: float, offline: bool, pause: float, pages: Path | None
    ) -> None:
        self.offline = offline
        self.received = 0
        """bytes of files that came so far; for who draws progress inside a large file"""
        self._access, self._retries, self._timeout, self._pause = access, retries, timeout, pause
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}
        self._logins: dict[str, Login] = {}
        self._pages = pages
        self._rest_until: dict[str, float] = {}
        self._down: set[str] = set()
        self._lock = threading.RLock()
        self._asking = threading.Lock()
        self._stopped = threading.Event()
        self._running: set[urllib3.BaseHTTPResponse] = set()
        if not offline and (access.cert or access.client_cert):
            _ = self._context  # a certificate file that is none is said at once

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; what is under way ends soon."""
        self._stopped.set()
        with self._lock:
            for response in self._running:
                with contextlib.suppress(Exception):
                    response.shutdown()
            for pool in self._pools.values():
                pool.clear()

    def page(self, url: str, accept: str = "*/*") -> Page | None:
        """The page at this address (http, https or file), None where there is none (404); else FetchError.

        It is kept in the folder `pages`, where there is one: the server is then asked whether it changed; offline, it
        is taken as it was.
        """
        local = local_path(url)
        if local is not None:
            return _local_page(local, url)
        subject, kept = redacted(url), _KeptPage(self._pages, url, accept)
        if self.offline:
            if kept.page is None:
                raise FetchError(_offline(subject))
            return kept.page
        headers = {"Accept": accept, "Accept-Encoding": "gzip, deflate", **kept.conditions}

        def ask() -> Page | None:
            with self.open(url, subject, headers) as (response, final):
                if response.status == 304 and kept.page is not None:
                    return kept.page
                if response.status in (404, 410):
                    kept.drop()
                    return None
                kind, blocks, size = response.headers.get("Content-Type", ""), [], 0
                with _told(subject, url, self):
                    while block := response.read(BLOCK, decode_content=True):
                        blocks.append(block)
                        size += len(block)
                        if size > LARGEST_PAGE:
                            raise FetchError(_too_large(subject))
                charset = re.search(r"charset=[\"']?([\w.-]+)", kind, re.I)
                try:
                    decoded = b"".join(blocks).decode(charset[1] if charset else "utf-8", "replace")
                except LookupError:
                    decoded = b"".join(blocks).decode("utf-8", "replace")
                page = Page(final, kind.partition(";")[0].strip().lower(), decoded)
                kept.keep(page, response.headers)
                return page

        return self.again(url, subject, ask)

    def size(self, url: str, name: str) -> int | None:
        """How many bytes the server says a file has; None where it does not say."""

        def ask() -> int | None:
            with self.open(url, name, {"Accept-Encoding": "identity"}, "HEAD") as (response, _):
                length = response.headers.get("Content-Length", "")
                return int(length) if response.status == 200 and length.isdigit() else None

        return self.again(url, name, ask)

    def again(self, url: str, subject: str, act: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """What `act` gives; a passing failure is tried again, with growing pauses, or those that the server asks for.

        Tries are counted since `progress` last grew. FetchError with the last failure.
        """
        host, tries, reached = urlsplit(url).netloc.rpartition("@")[2], 0, progress()
        while True:
            self._rest(host)
            try:
                return act()
            except _Passing as trouble:
                if progress() > reached:
                    tries, reached = 0, progress()
                tries += 1
                # another file has waited long enough for this host: do not wait as long again for each one
                if tries > (min(1, self._retries) if host in self._down else self._retries):
                    if trouble.host_is_down:
                        self._down.add(host)
                    raise FetchError(trouble.finding) from trouble
                pause = self._pause * 2 ** (tries - 1) * random.uniform(0.75, 1.25)
                if trouble.after is not None:
                    if trouble.after > LONGEST_PAUSE:
                        raise FetchError(trouble.finding) from trouble
                    pause = max(trouble.after, pause)
                    self._rest_until[host] = max(self._rest_until.get(host, 0), time.monotonic() + trouble.after)
                if self._stopped.wait(min(pause, LONGEST_PAUSE)):
                    raise _Stopped from None

    def _rest(self, host: str) -> None:
        """Wait as long as this host asked everybody to; not all wake at the same instant."""
        rest = self._rest_until.get(host, 0) - time.monotonic()
        if rest > 0 and self._stopped.wait(rest * random.uniform(1, 1.2)):
            raise _Stopped
        if self._stopped.is_set():
            raise _Stopped

    @contextlib.contextmanager
    def open(
        self, url: str, subject: str, headers: Mapping[str, str], method: str = "GET"
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, str]]:
        """One request, followed through redirects and logged in: an answer (2xx, 404, 410, 416), and whose it is.

        `subject` is what a finding is about. Anything else is FetchError, or _Passing where a further try may help.
        """
        if self.offline:
            raise FetchError(_offline(subject))
        url = self._access.whole(url)
        response = None
        try:
            for _ in range(10):
                response = self._logged_in(method, url, subject, headers)
                if response.status not in _REDIRECTS or not response.headers.get("Location"):
                    break
                _leave(response)
                url = self._redirected(url, response.headers["Location"], subject)
            else:
                raise FetchError(
                    error(
                        "redirects",
                        subject,
                        "{subject}: {host} sends us from one address to the next without end.",
                        "Check the index address.",
                        host=_host(url),
                    )
                )
            with self._lock:
                self._running.add(response)
            yield response, parted(url)[0]
        finally:
            if response is not None:
                self._running.discard(response)
                _leave(response)

    def _redirected(self, url: str, location: str, subject: str) -> str:
        new = urljoin(url, location)
        old, to = urlsplit(url), urlsplit(new)
        if to.scheme not in ("http", "https"):
            raise FetchError(_bad_scheme(subject, to.scheme))
        if old.scheme == "https" and to.scheme == "http" and not self._access.trusts(to.hostname or "", to.port):
            raise FetchError(
                error(
                    "redirect-to-http",
                    subject,
                    "{subject}: {host} sends us to {to}, which is not encrypted.",
                    "Use that address itself with --trusted-host, if it is meant.",
                    host=_host(url),
                    to=redacted(new),
                )
            )
        return new

    def _logged_in(self, method: str, url: str, subject: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """One answer; where the server wants a login (or another), the keyring is asked, once."""
        bare, login = parted(url)
        netloc = urlsplit(bare).netloc
        login = login or self._access.login(bare) or self._logins.get(netloc)
        response = self._once(method, bare, subject, headers, login)
        if response.status in (401, 403):
            with self._asking:
                second = self._logins.get(netloc)
                if second in (None, login):
                    second = self._access.login(bare, refused=True)
            if second is not None and second != login:
                _leave(response)
                login = second
                response = self._once(method, bare, subject, headers, login)
                if response.status not in (401, 403):
                    self._logins[netloc] = second
        self._judge(response, bare, subject, login)
        return response

    def _once(
        self, method: str, url: str, subject: str, headers: Mapping[str, str], login: Login | None
    ) -> urllib3.BaseHTTPResponse:
        if self._stopped.is_set():
            raise _Stopped
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchError(_bad_scheme(subject, parts.scheme))
        sent = {"User-Agent": f"offlinepack/{__version__}", **headers}
        if login is not None:
            sent.update(urllib3.make_headers(basic_auth=f"{login.user}:{login.password}"))
        with _told(subject, url, self):
            return self._pool(url).request(
                method,
                urlunsplit((parts.scheme, parts.netloc, quote(parts.path, safe="/%:@!$&'()*+,;=~"), parts.query, "")),
                headers=sent,
                timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout),
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._access.proxy_for(url)
        key = (proxy, self._access.trusts(parts.hostname or "", parts.port))
        with self._lock:
            if key not in self._pools:
                context = _unchecked() if key[1] else self._context
                if proxy is None:
                    pools = urllib3.PoolManager(32, maxsize=64, ssl_context=context)
                else:
                    address, login = parted(proxy)
                    headers = urllib3.make_headers(proxy_basic_auth=f"{login.user}:{login.password}") if login else None
                    pools = urllib3.ProxyManager(
                        address, 32, proxy_headers=headers, maxsize=64, ssl_context=context, proxy_ssl_context=context
                    )
                pools.pool_classes_by_scheme = {"http": _Plain, "https": _Secure}
                self._pools[key] = pools
            return self._pools[key]

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        cert, client_cert = self._access.cert, self._access.client_cert
        context: ssl.SSLContext
        try:
            if cert is None:
                context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            else:  # without the strictness of create_default_context, which many a firm's own authority does not stand
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_verify_locations(*((None, str(cert)) if cert.is_dir() else (str(cert),)))
        except (OSError, ssl.SSLError) as problem:
            raise UsageError(_bad_pem(cert, "--cert", problem)) from problem
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if client_cert is not None:
            try:
                context.load_cert_chain(str(client_cert))
            except (OSError, ssl.SSLError) as problem:
                raise UsageError(_bad_pem(client_cert, "--client-cert", problem)) from problem
        return context

    def _judge(self, response: urllib3.BaseHTTPResponse, url: str, subject: str, login: Login | None) -> None:
        """Raise what a status means; 2xx, 3xx, 404, 410 and 416 are the caller's."""
        status, host = response.status, _host(url)
        if status < 400 or status in (404, 410, 416):
            return
        certificate = status in (400, 403) and url.startswith("https:") and self._access.client_cert is None
        # nginx says it in words: No required SSL certificate was sent
        with _told(subject, url, self):
            words = response.read(1 << 12, decode_content=True) if certificate else b""
        _leave(response)
        if b"SSL certificate" in words:
            raise FetchError(_client_certificate(subject, host))
        if status == 407:
            raise FetchError(_proxy_login(subject, self._access.proxy_for(url)))
        if status in (401, 403):
            raise FetchError(self._not_admitted(status, url, subject, login))
        found = error(
            "server-error",
            subject,
            "{subject}: {host} answered {status} {reason}.",
            "Try again later, or ask who runs that server.",
            host=host,
            status=status,
            reason=response.reason or "",
        )
        if status in _PASSING or status >= 500:
            raise _Passing(found, _retry_after(response.headers.get("Retry-After")))
        raise FetchError(found)

    def _not_admitted(self, status: int, url: str, subject: str, login: Login | None) -> Finding:
        host = _host(url)
        if login is not None:
            return error(
                "login-refused",
                subject,
                "{subject}: {host} refused the login from {origin} ({status}).",
                "Mend user and password there, or ask who runs that server whether they give access to this.",
                host=host,
                origin=login.origin,
                status=status,
            )
        return error(
            "login-missing",
            subject,
            "{subject}: {host} wants a login ({status}), and no credentials were found; looked in: {places}.",
            "Write them into .netrc as 'machine {machine} login USER password PASSWORD', or into the index address.",
            host=host,
            machine=urlsplit(url).hostname,
            status=status,
            places=self._access.looked_in(url),
        )


class Downloads:
    """Files on their way into the store: each begins as soon as somebody wants it, and comes once."""

    def __init__(
        self,
        store: Store,
        client: Client,
        jobs: int = JOBS,
        arrived: Callable[[StoredFile], None] = lambda _: None,
    ) -> None:
        """`jobs` at a time; `arrived` is told of each file that came, in the thread that fetched it."""
        self._store, self._client, self._jobs, self._arrived = store, client, jobs, arrived
        self._change = threading.Condition()
        self._waiting: list[tuple[int, int, Wanted]] = []
        """a heap, the largest first: at the end no single large file keeps all others waiting"""
        self._outcomes: dict[str, StoredFile | BaseException | None] = {}
        """None: it waits, or is under way"""
        self._threads: set[threading.Thread] = set()
        """those that take what waits; one that finds nothing leaves"""
        self._ended: BaseException | None = None
        """why nothing more is fetched"""

    def begin(self, wanted: Iterable[Wanted]) -> None:
        """Fetch what is not in the store; nobody waits for it here, and what fails is told by `files`."""
        self._fetch([one for one in wanted if self._stored(one) is None])

    def _stored(self, one: Wanted) -> StoredFile | None:
        return self._store.get(one.sha256, one.name) if one.sha256 else None

    def _fetch(self, missing: Iterable[Wanted]) -> None:
        """Each of these gets an outcome, whatever another process brings into the store meanwhile."""
        with self._change:
            for one in missing:
                if _key(one) not in self._outcomes:
                    self._outcomes[_key(one)] = None
                    heapq.heappush(self._waiting, (-(one.size or 0), len(self._outcomes), one))
            for _ in range(min(self._jobs - len(self._threads), len(self._waiting))):
                # daemons: an interrupted program does not wait until a silent server has run into its time-out
                thread = threading.Thread(target=self._run, daemon=True)
                self._threads.add(thread)
                thread.start()

    def files(self, wanted: Iterable[Wanted]) -> Iterator[StoredFile]:
        """Each wanted file from the store, fetched into it first where it is not there; as they come, in no order.

        All are tried; then one error holds a finding for each that failed: IntegrityError where a hash was wrong, else
        FetchError. A full disk (ComputerError) ends it at once.
        """
        if self._ended is not None:
            raise self._ended
        missing: dict[str, list[Wanted]] = {}
        for one in wanted:
            stored = self._stored(one)
            if stored is not None:
                yield stored
            else:
                missing.setdefault(_key(one), []).append(one)
        self._fetch([same[0] for same in missing.values()])
        failures: list[OfflinepackError] = []
        try:
            while missing:
                with self._change:
                    self._change.wait_for(lambda: any(self._outcomes[key] is not None for key in missing))
                    came = [(outcome, missing.pop(key)) for key in [*missing] if (outcome := self._outcomes[key])]
                for outcome, same in came:
                    if isinstance(outcome, StoredFile):
                        yield from (replace(outcome, name=one.name) for one in same)
                    elif isinstance(outcome, OfflinepackError) and not isinstance(outcome, (ComputerError, UsageError)):
                        failures.append(outcome)
                    else:
                        raise outcome
        except BaseException as failure:
            self._stop(failure)
            raise
        if failures:
            kind = IntegrityError if any(isinstance(one, IntegrityError) for one in failures) else FetchError
            findings = [found for failure in failures for found in failure.findings]
            raise kind(*sorted(findings, key=lambda found: found.subject))

    def _run(self) -> None:
        while True:
            with self._change:
                if not self._waiting:
                    self._threads.discard(threading.current_thread())
                    return
                _, _, one = heapq.heappop(self._waiting)
            outcome: StoredFile | BaseException
            try:
                outcome = _one(one, self._store, self._client)
                self._arrived(outcome)
            except BaseException as failure:
                outcome = failure
            with self._change:
                self._outcomes[_key(one)] = outcome
                self._change.notify_all()

    def _stop(self, why: BaseException) -> None:
        """Nobody wants the rest."""
        with self._change:
            self._ended, threads = why, [*self._threads]
            self._waiting.clear()
        self._client.close()
        patience = time.monotonic() + 1
        for thread in threads:
            thread.join(max(0, patience - time.monotonic()))


def _key(wanted: Wanted) -> str:
    return wanted.sha256 or wanted.url


def sizes(wanted: Iterable[Wanted], store: Store, client: Client, jobs: int = JOBS) -> dict[str, int | None]:
    """File name -> bytes; where neither the lock nor the store knows, the server is asked. None: it does not say."""
    found: dict[str, int | None] = {}
    unknown: list[Wanted] = []
    for one in wanted:
        stored = store.get(one.sha256, one.name) if one.sha256 else None
        local = local_path(one.url)
        found[one.name] = stored.size if stored else one.size
        if local is not None and local.is_file():
            found[one.name] = local.stat().st_size
        elif found[one.name] is None and local is None and not client.offline:
            unknown.append(one)

    def ask(one: Wanted) -> int | None:
        try:
            return client.size(one.url, one.name)
        except FetchError:
            return None

    if unknown:
        with ThreadPoolExecutor(min(jobs, len(unknown))) as pool:
            found.update(zip((one.name for one in unknown), pool.map(ask, unknown), strict=True))
    return found


def _one(wanted: Wanted, store: Store, client: Client) -> StoredFile:
    """One file into the store; what a former run got of it is taken up."""
    local = local_path(wanted.url)
    if local is not None:
        return _copied(local, wanted, store)
    if client.offline:
        raise FetchError(_offline(wanted.name))
    key = wanted.sha256.lower() if wanted.sha256 else hashlib.sha256(wanted.url.encode()).hexdigest()
    with store.receive(
        wanted.name, wanted.sha256, resume_as=key, hashes=wanted.hashes, origin=redacted(wanted.url)
    ) as incoming:
        # a run that was killed between the last byte and the rename
        if not (wanted.sha256 and incoming.size and incoming.sound):
            client.again(wanted.url, wanted.name, lambda: _transfer(wanted, incoming, client), lambda: incoming.size)
            if incoming.pieced and not incoming.sound:
                # its pieces are not of the same file: once more from the first byte
                incoming.restart()
                client.again(
                    wanted.url, wanted.name, lambda: _transfer(wanted, incoming, client), lambda: incoming.size
                )
        if wanted.size is not None and not wanted.sha256 and incoming.size != wanted.size:
            incoming.drop()
            raise IntegrityError(_wrong_size(wanted, incoming))
        return incoming.finish()


def _transfer(wanted: Wanted, incoming: Incoming, client: Client) -> None:
    """One request for what is still missing; _Passing where the connection ends before the file does."""
    headers = {"Accept-Encoding": "identity"}
    if incoming.size:
        etag = incoming.note.get("etag", "")
        # A file whose hash we know may be put together from any answers. Else the server must vouch for the rest
        # being of the same file: RFC 9110, 13.1.5: a client must not generate If-Range with a weak entity tag.
        if wanted.sha256 is None and (not etag or etag.startswith("W/")):
            incoming.restart()
        else:
            headers["Range"] = f"bytes={incoming.size}-"
            if wanted.sha256 is None:
                headers["If-Range"] = etag
    with client.open(wanted.url, wanted.name, headers) as (response, _):
        if response.status in (404, 410):
            raise FetchError(_not_there(wanted.name, wanted.url, response.status))
        if response.status == 416:
            incoming.restart()
            raise _Passing(_bad_range(wanted, "416"))
        whole = None
        if response.status == 206 and incoming.size:
            # RFC 9110, 14.4: Content-Range: bytes first-last/complete
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if found is None or int(found[1]) != incoming.size:
                incoming.restart()
                raise _Passing(_bad_range(wanted, response.headers.get("Content-Range", "206")))
            whole = int(found[2]) if found[2] != "*" else None
            incoming.pieced = True
        elif incoming.size:
            incoming.restart()
        encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        # Some servers call a .tar.gz gzip-encoded, and mean the file.
        decode = encoded and not wanted.name.endswith((".gz", ".tgz"))
        if whole is None and not encoded and response.headers.get("Content-Length", "").isdigit():
            whole = incoming.size + int(response.headers["Content-Length"])
        if wanted.sha256 is None and response.headers.get("ETag"):
            incoming.keep_note({"etag": response.headers["ETag"]})
        whole = wanted.size if whole is None else whole
        try:
            with _told(wanted.name, wanted.url, client):
                # what has come, not all that was asked for: a slow or broken connection leaves no byte behind; one that
                # is quick is asked for more at a time
                amount, asked = 0, time.monotonic()
                while block := (
                    response.read(amount, decode_content=decode)
                    if amount > PIECE
                    else response.read1(PIECE, decode_content=decode)
                ):
                    now = time.monotonic()
                    amount, asked = (min(amount + PIECE, BLOCK) if now - asked < _QUICK else 0), now
                    incoming.write(block)
                    client.received += len(block)
                    if wanted.size is not None and incoming.size > wanted.size:
                        incoming.drop()
                        raise IntegrityError(_wrong_size(wanted, incoming))
                    if client._stopped.is_set():
                        raise _Stopped
        except BaseException:
            if decode:  # the bytes that were counted are not those that the server counts
                incoming.restart()
            raise
        if whole is not None and incoming.size < whole:
            raise _Passing(_cut_off(wanted, incoming, whole))


def _copied(path: Path, wanted: Wanted, store: Store) -> StoredFile:
    try:
        return store.take(path, wanted.name, wanted.sha256, wanted.hashes)
    except OSError as problem:
        raise FetchError(
            error(
                "file-unreadable",
                wanted.name,
                "{subject} cannot be read at {path}: {words}.",
                "Put the file there, or mend the address.",
                path=path,
                words=problem.strerror or problem,
            )
        ) from problem


def parted(url: str) -> tuple[str, Login | None]:
    """The address without userinfo, and the login that stood in it (percent-encoding undone)."""
    parts = urlsplit(url)
    userinfo, at, netloc = parts.netloc.rpartition("@")
    bare = urlunsplit(parts._replace(netloc=netloc)) if at else url
    user, colon, password = userinfo.partition(":")
    return bare, Login(unquote(user), unquote(password), text("the address")) if at and colon else None


def local_path(url: str) -> Path | None:
    """The path of a file: address, or of a plain path; None for an address on a server."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
        return Path(url2pathname(host + parts.path))
    # C:\folder has a scheme of one letter
    return Path(url) if len(parts.scheme) <= 1 else None


class _KeptPage:
    """A page of a former run, and how to ask whether it still is that one."""

    def __init__(self, folder: Path | None, url: str, accept: str) -> None:
        self._path = folder / f"{hashlib.sha256(f'{accept} {url}'.encode()).hexdigest()}.json" if folder else None
        self.page: Page | None = None
        self.conditions: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._path.read_bytes()) if self._path else {}
            self.page = Page(kept["url"], kept["content_type"], kept["text"])
            self.conditions = dict(kept["conditions"])

    def keep(self, page: Page, headers: Mapping[str, str]) -> None:
        """For the next run, with what the server gave to tell it apart from a newer one."""
        if self._path is None:
            return
        conditions = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
        kept = {
            "url": page.url,
            "content_type": page.content_type,
            "text": page.text,
            "conditions": {name: value for name, value in conditions.items() if value},
        }
        beside = self._path.with_name(f"{self._path.stem}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.write_text(json.dumps(kept), "utf-8")
            beside.replace(self._path)

    def drop(self) -> None:
        """It is no longer there."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _local_page(path: Path, url: str) -> Page | None:
    page = path / "index.html" if path.is_dir() else path
    try:
        return Page(page.absolute().as_uri(), "text/html", page.read_text("utf-8", "replace"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise FetchError(
            error(
                "file-unreadable",
                redacted(url),
                "{subject} cannot be read at {path}: {words}.",
                "Put the file there, or mend the address.",
                path=page,
                words=problem.strerror or problem,
            )
        ) from problem


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _unchecked() -> ssl.SSLContext:
    urllib3.disable_warnings(http.InsecureRequestWarning)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _leave(response: urllib3.BaseHTTPResponse) -> None:
    """A connection whose answer was read to its end serves again; a short rest is worth reading for that."""
    rest = getattr(response, "length_remaining", None)
    if rest is None or rest > 1 << 16:
        response.close()
    else:
        response.drain_conn()
        response.release_conn()


def _retry_after(value: str | None) -> float | None:
    """RFC 9110, 10.2.3: Retry-After = HTTP-date / delay-seconds."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


@contextlib.contextmanager
def _told(subject: str, url: str, client: Client) -> Iterator[None]:
    """What the network refuses becomes _Passing, or FetchError where no further try can help."""
    try:
        yield
    except (http.HTTPError, ssl.SSLError, TimeoutError, ConnectionError) as problem:
        if client._stopped.is_set():
            raise _Stopped from None
        proxy = client._access.proxy_for(url)
        if isinstance(problem, http.ProxyError) and proxy:
            raise _proxy_trouble(problem, subject, proxy) from problem
        raise _trouble(problem, subject, _host(url), client._timeout) from problem


def _trouble(problem: BaseException, subject: str, host: str, timeout: float) -> Exception:
    facts = {"host": host, "words": _words(problem)}
    causes = list(_causes(problem))
    for one in causes:
        if isinstance(one, ssl.SSLCertVerificationError):
            return FetchError(_bad_certificate(one, subject, host))
    for one in causes:
        if isinstance(one, ssl.SSLError):
            reason = str(one.reason or one)
            if "CERTIFICATE_REQUIRED" in reason or "ALERT_HANDSHAKE_FAILURE" in reason:
                return FetchError(_client_certificate(subject, host))
            if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason or "RECORD_LAYER" in reason:
                return FetchError(
                    error(
                        "no-tls",
                        subject,
                        "{subject}: {host} does not speak TLS.",
                        "Is its address http:// rather than https://, or is the port another one?",
                        **facts,
                    )
                )
    if any(isinstance(one, (http.NameResolutionError, socket.gaierror)) for one in causes):
        found = error(
            "unknown-host",
            subject,
            "{subject}: the name {host} cannot be resolved.",
            "Check the address, and this machine's DNS and proxy settings.",
            **facts,
        )
        return _Passing(found, host_is_down=True)
    if any(isinstance(one, http.NewConnectionError) for one in causes):
        found = error(
            "no-connection",
            subject,
            "{subject}: no connection to {host}: {words}.",
            "Is the server running, and the address right? Does this machine need a proxy: --proxy?",
            **facts,
        )
        return _Passing(found, host_is_down=True)
    if any(isinstance(one, (http.TimeoutError, TimeoutError)) for one in causes):
        found = error(
            "timed-out",
            subject,
            "{subject}: {host} kept silent for {seconds} seconds.",
            "Try again, or be more patient: --timeout SECONDS.",
            seconds=f"{timeout:g}",
            **facts,
        )
        return _Passing(found, host_is_down=True)
    return _Passing(
        error(
            "connection-broken",
            subject,
            "{subject}: the connection to {host} broke off: {words}.",
            "Run the same command again: it goes on where it ended.",
            **facts,
        )
    )


def _client_certificate(subject: str, host: str) -> Finding:
    return error(
        "client-certificate",
        subject,
        "{subject}: {host} wants a client certificate, and did not take ours or got none.",
        "Name a PEM file with certificate and key: --client-cert FILE.",
        host=host,
    )


def _bad_certificate(problem: ssl.SSLCertVerificationError, subject: str, host: str) -> Finding:
    words = str(getattr(problem, "verify_message", "") or _words(problem))
    # X509_V_ERR_*: 18 self-signed, 19 self-signed in the chain, 20 and 21 no issuer found
    if getattr(problem, "verify_code", 0) in (18, 19, 20, 21):
        return error(
            "unknown-authority",
            subject,
            "{subject}: the certificate of {host} comes from an authority that this machine does not know: {words}.",
            "Name that authority's certificate (PEM): --cert FILE.",
            host=host,
            words=words,
        )
    return error(
        "bad-certificate",
        subject,
        "{subject}: the certificate of {host} is not valid: {words}.",
        "Ask who runs that server. --trusted-host {host} goes there unchecked.",
        host=host,
        words=words,
    )


def _proxy_trouble(problem: http.ProxyError, subject: str, proxy: str) -> Exception:
    if "407" in _words(problem) or "407" in str(problem.original_error):
        return FetchError(_proxy_login(subject, proxy))
    for one in _causes(problem):
        if isinstance(one, ssl.SSLCertVerificationError):
            return FetchError(_bad_certificate(one, subject, _host(proxy)))
    found = error(
        "proxy-failed",
        subject,
        "{subject}: the proxy {proxy} gave no connection: {words}.",
        "Check --proxy, HTTPS_PROXY and NO_PROXY.",
        proxy=redacted(proxy),
        words=_words(problem.original_error),
    )
    return _Passing(found, host_is_down=True)


def _proxy_login(subject: str, proxy: str | None) -> Finding:
    return error(
        "proxy-login",
        subject,
        "{subject}: the proxy {proxy} wants a login, and did not take ours or got none (407).",
        "Give it in the proxy's address: --proxy http://USER:PASSWORD@HOST:PORT.",
        proxy=redacted(proxy or ""),
    )


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    """The failure, and all that urllib3 packed into it."""
    seen: list[BaseException] = []
    waiting: list[object] = [problem]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            yield one
            waiting += [*one.args, getattr(one, "reason", None), getattr(one, "original_error", None), one.__cause__]
            waiting.append(one.__context__)


def _words(problem: BaseException) -> str:
    """The innermost words of a failure, without addresses of connections and memory."""
    for one in reversed(list(_causes(problem))):
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    said = str(problem.args[-1] if problem.args else problem)
    return re.sub(r"<[^>]*>:? ?|\(_ssl\.c:\d+\)|https?://\S+", "", said).strip(" .'\"()") or type(problem).__name__


def _offline(subject: str) -> Finding:
    return error(
        "not-in-store",
        subject,
        "{subject} is not in the store, and --offline forbids to fetch it.",
        "Run the same command once without --offline.",
    )


def _not_there(name: str, url: str, status: int) -> Finding:
    return error(
        "file-not-found",
        name,
        "{subject}: {host} has no such file ({status}).",
        "Lock again: the index may have removed it.",
        host=_host(url),
        status=status,
    )


def _cut_off(wanted: Wanted, incoming: Incoming, expected: int) -> Finding:
    return error(
        "cut-off",
        wanted.name,
        "{subject}: {host} ended after {size} bytes ({expected} were announced).",
        "Run the same command again: it goes on where it ended.",
        host=_host(wanted.url),
        size=incoming.size,
        expected=expected,
    )


def _bad_range(wanted: Wanted, words: str) -> Finding:
    return error(
        "bad-range",
        wanted.name,
        "{subject}: asked for the rest of the file, {host} answered with something else: {words}.",
        "Run the same command again: it begins anew.",
        host=_host(wanted.url),
        words=words,
    )


def _wrong_size(wanted: Wanted, incoming: Incoming) -> Finding:
    return error(
        "size-mismatch",
        wanted.name,
        "{subject} from {origin} is not {expected} bytes long, as was promised: {actual} came.",
        "Do not use it. The index or a proxy on the way gave another file than the one that was locked.",
        origin=redacted(wanted.url),
        expected=wanted.size,
        actual=incoming.size,
    )


def _too_large(subject: str) -> Finding:
    return error(
        "page-too-large",
        subject,
        "{subject} is larger than any page of a package index: more than {size} MiB.",
        "Check the index address.",
        size=LARGEST_PAGE >> 20,
    )


def _bad_scheme(subject: str, scheme: str) -> Finding:
    return error(
        "bad-address",
        subject,
        "{subject}: nothing can be fetched from an address that begins with '{scheme}:'.",
        "Use http, https or file.",
        scheme=scheme,
    )


def _bad_pem(path: Path | None, option: str, problem: Exception) -> Finding:
    return error(
        "bad-certificate-file",
        option,
        "{path}, named by {subject} or the settings, holds no usable certificate: {words}.",
        "Name a PEM file.",
        path=path,
        words=_words(problem),
    )
