"""Open the HTTP client of a run: retries, proxies, certificates and logins."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import truststore
import urllib3
from urllib3 import exceptions as http

from offlinepack._version import __version__
from offlinepack.errors import FetchError, Finding, UsageError, error
from offlinepack.net.errors import (
    ClientClosedError,
    TransientError,
    make_certificate_file_finding,
    make_client_certificate_finding,
    make_network_error,
    make_offline_finding,
    make_page_size_finding,
    make_proxy_error,
    make_proxy_login_finding,
    make_scheme_finding,
    parse_retry_after,
)
from offlinepack.net.model import DEFAULT_RETRIES, DEFAULT_TIMEOUT, MAX_PAGE_SIZE, Access, Login, Page
from offlinepack.net.urls import get_host, get_local_path, read_local_page, redact_url, split_credentials
from offlinepack.store import BLOCK_SIZE

T = TypeVar("T")

MAX_RETRY_DELAY = 120.0
"""seconds: a server that asks for a longer pause than this is taken to have failed"""

_REDIRECT_STATUSES = {301, 302, 303, 307, 308}

_TRANSIENT_STATUSES = {408, 425, 429}

# urllib3 writes whole addresses, with their query, at level DEBUG.
logging.getLogger("urllib3").setLevel(logging.ERROR)


def open_client(
    access: Access,
    retries: int | None = None,
    timeout: float | None = None,
    offline: bool = False,
    *,
    pause: float = 0.3,
) -> Client:
    """Open the client for all requests of a run; use it as a context manager, or close it.

    `retries` and `timeout` (seconds without data) default to the settings, then to 5 and 15. `pause` is the first
    delay between two attempts in seconds; each further delay is about twice as long.
    """
    return Client(
        access,
        retries if retries is not None else access.retries if access.retries is not None else DEFAULT_RETRIES,
        timeout or access.timeout or DEFAULT_TIMEOUT,
        offline,
        pause,
    )


class Client:
    """Asks servers, as politely as they want it; made by `open_client`."""

    def __init__(self, access: Access, retries: int, timeout: float, offline: bool, pause: float) -> None:
        self.is_offline = offline
        self.received_bytes = 0
        """bytes of files that came so far; for who draws progress inside a large file"""
        self._access, self._retries, self._timeout, self._retry_delay = access, retries, timeout, pause
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}
        self._logins: dict[str, Login] = {}
        self._resume_times: dict[str, float] = {}
        self._unreachable_hosts: set[str] = set()
        self._lock = threading.RLock()
        self._keyring_lock = threading.Lock()
        self.close_event = threading.Event()
        self._open_responses: set[urllib3.BaseHTTPResponse] = set()
        if not offline and (access.cert or access.client_cert):
            _ = self._tls_context  # a certificate file that is none is said at once

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; what is under way ends soon."""
        self.close_event.set()
        with self._lock:
            for response in self._open_responses:
                with contextlib.suppress(Exception):
                    response.shutdown()
            for pool in self._pools.values():
                pool.clear()

    def fetch_page(self, url: str, accept: str = "*/*") -> Page | None:
        """Return the page at this address (http, https or file), or None if there is none (404).

        Raises FetchError if the server cannot be asked.
        """
        local = get_local_path(url)
        if local is not None:
            return read_local_page(local, url)
        subject = redact_url(url)
        headers = {"Accept": accept, "Accept-Encoding": "gzip, deflate"}

        def ask() -> Page | None:
            with self.open_response(url, subject, headers) as (response, final):
                if response.status in (404, 410):
                    return None
                kind, blocks, size = response.headers.get("Content-Type", ""), [], 0
                with translate_network_errors(subject, url, self):
                    while block := response.read(BLOCK_SIZE, decode_content=True):
                        blocks.append(block)
                        size += len(block)
                        if size > MAX_PAGE_SIZE:
                            raise FetchError(make_page_size_finding(subject))
                charset = re.search(r"charset=[\"']?([\w.-]+)", kind, re.I)
                try:
                    decoded = b"".join(blocks).decode(charset[1] if charset else "utf-8", "replace")
                except LookupError:
                    decoded = b"".join(blocks).decode("utf-8", "replace")
                return Page(final, kind.partition(";")[0].strip().lower(), decoded)

        return self.retry(url, subject, ask)

    def query_size(self, url: str, name: str) -> int | None:
        """Ask the server for the size of a file in bytes; None if it does not state one."""

        def ask() -> int | None:
            with self.open_response(url, name, {"Accept-Encoding": "identity"}, "HEAD") as (response, _):
                length = response.headers.get("Content-Length", "")
                return int(length) if response.status == 200 and length.isdigit() else None

        return self.retry(url, name, ask)

    def retry(self, url: str, subject: str, act: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Call `act`, and again after a transient failure, with growing delays or those that the server requests.

        Attempts are counted since `progress` last grew. Raises FetchError with the last failure.
        """
        host, tries, reached = urlsplit(url).netloc.rpartition("@")[2], 0, progress()
        while True:
            self._wait_for_rate_limit(host)
            try:
                return act()
            except TransientError as trouble:
                if progress() > reached:
                    tries, reached = 0, progress()
                tries += 1
                # another file has waited long enough for this host: do not wait as long again for each one
                if tries > (min(1, self._retries) if host in self._unreachable_hosts else self._retries):
                    if trouble.is_host_down:
                        self._unreachable_hosts.add(host)
                    raise FetchError(trouble.finding) from trouble
                pause = self._retry_delay * 2 ** (tries - 1) * random.uniform(0.75, 1.25)
                if trouble.retry_after is not None:
                    if trouble.retry_after > MAX_RETRY_DELAY:
                        raise FetchError(trouble.finding) from trouble
                    pause = max(trouble.retry_after, pause)
                    self._resume_times[host] = max(
                        self._resume_times.get(host, 0), time.monotonic() + trouble.retry_after
                    )
                if self.close_event.wait(min(pause, MAX_RETRY_DELAY)):
                    raise ClientClosedError from None

    def _wait_for_rate_limit(self, host: str) -> None:
        """Wait as long as this host asked everybody to; not all wake at the same instant."""
        rest = self._resume_times.get(host, 0) - time.monotonic()
        if rest > 0 and self.close_event.wait(rest * random.uniform(1, 1.2)):
            raise ClientClosedError
        if self.close_event.is_set():
            raise ClientClosedError

    @contextlib.contextmanager
    def open_response(
        self, url: str, subject: str, headers: Mapping[str, str], method: str = "GET"
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, str]]:
        """Send a request, follow redirects and log in; return the response (2xx, 404, 410, 416) and its address.

        `subject` is the subject of a finding. Raises FetchError, or TransientError if another attempt can help.
        """
        if self.is_offline:
            raise FetchError(make_offline_finding(subject))
        url = self._access.restore_secrets(url)
        response = None
        try:
            for _ in range(10):
                response = self._send_with_login(method, url, subject, headers)
                if response.status not in _REDIRECT_STATUSES or not response.headers.get("Location"):
                    break
                _release(response)
                url = self._resolve_redirect(url, response.headers["Location"], subject)
            else:
                raise FetchError(
                    error(
                        "redirects",
                        subject,
                        "{subject}: {host} sends us from one address to the next without end.",
                        "Check the index address.",
                        host=get_host(url),
                    )
                )
            with self._lock:
                self._open_responses.add(response)
            yield response, split_credentials(url)[0]
        finally:
            if response is not None:
                self._open_responses.discard(response)
                _release(response)

    def _resolve_redirect(self, url: str, location: str, subject: str) -> str:
        new = urljoin(url, location)
        old, to = urlsplit(url), urlsplit(new)
        if to.scheme not in ("http", "https"):
            raise FetchError(make_scheme_finding(subject, to.scheme))
        if old.scheme == "https" and to.scheme == "http" and not self._access.trusts_host(to.hostname or "", to.port):
            raise FetchError(
                error(
                    "redirect-to-http",
                    subject,
                    "{subject}: {host} sends us to {to}, which is not encrypted.",
                    "Use that address itself with --trusted-host, if it is meant.",
                    host=get_host(url),
                    to=redact_url(new),
                )
            )
        return new

    def _send_with_login(
        self, method: str, url: str, subject: str, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; if the server requires a login or another one, ask the keyring once."""
        bare, login = split_credentials(url)
        netloc = urlsplit(bare).netloc
        login = login or self._access.find_login(bare) or self._logins.get(netloc)
        response = self._send(method, bare, subject, headers, login)
        if response.status in (401, 403):
            with self._keyring_lock:
                second = self._logins.get(netloc)
                if second in (None, login):
                    second = self._access.find_login(bare, refused=True)
            if second is not None and second != login:
                _release(response)
                login = second
                response = self._send(method, bare, subject, headers, login)
                if response.status not in (401, 403):
                    self._logins[netloc] = second
        self._raise_for_status(response, bare, subject, login)
        return response

    def _send(
        self, method: str, url: str, subject: str, headers: Mapping[str, str], login: Login | None
    ) -> urllib3.BaseHTTPResponse:
        if self.close_event.is_set():
            raise ClientClosedError
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchError(make_scheme_finding(subject, parts.scheme))
        sent = {"User-Agent": f"offlinepack/{__version__}", **headers}
        if login is not None:
            sent.update(urllib3.make_headers(basic_auth=f"{login.user}:{login.password}"))
        with translate_network_errors(subject, url, self):
            return self._get_pool(url).request(
                method,
                urlunsplit((parts.scheme, parts.netloc, quote(parts.path, safe="/%:@!$&'()*+,;=~"), parts.query, "")),
                headers=sent,
                timeout=urllib3.Timeout(connect=self._timeout, read=self._timeout),
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )

    def _get_pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._access.find_proxy(url)
        key = (proxy, self._access.trusts_host(parts.hostname or "", parts.port))
        with self._lock:
            if key not in self._pools:
                context = _make_unverified_context() if key[1] else self._tls_context
                if proxy is None:
                    pools = urllib3.PoolManager(32, maxsize=64, ssl_context=context)
                else:
                    address, login = split_credentials(proxy)
                    headers = urllib3.make_headers(proxy_basic_auth=f"{login.user}:{login.password}") if login else None
                    pools = urllib3.ProxyManager(
                        address, 32, proxy_headers=headers, maxsize=64, ssl_context=context, proxy_ssl_context=context
                    )
                self._pools[key] = pools
            return self._pools[key]

    @functools.cached_property
    def _tls_context(self) -> ssl.SSLContext:
        cert, client_cert = self._access.cert, self._access.client_cert
        context: ssl.SSLContext
        try:
            if cert is None:
                context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            else:  # without the strictness of create_default_context, which many a firm's own authority does not stand
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_verify_locations(*((None, str(cert)) if cert.is_dir() else (str(cert),)))
        except (OSError, ssl.SSLError) as problem:
            raise UsageError(make_certificate_file_finding(cert, "--cert", problem)) from problem
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if client_cert is not None:
            try:
                context.load_cert_chain(str(client_cert))
            except (OSError, ssl.SSLError) as problem:
                raise UsageError(make_certificate_file_finding(client_cert, "--client-cert", problem)) from problem
        return context

    def _raise_for_status(
        self, response: urllib3.BaseHTTPResponse, url: str, subject: str, login: Login | None
    ) -> None:
        """Raise what a status means; 2xx, 3xx, 404, 410 and 416 are the caller's."""
        status, host = response.status, get_host(url)
        if status < 400 or status in (404, 410, 416):
            return
        certificate = status in (400, 403) and url.startswith("https:") and self._access.client_cert is None
        # nginx says it in words: No required SSL certificate was sent
        with translate_network_errors(subject, url, self):
            words = response.read(1 << 12, decode_content=True) if certificate else b""
        _release(response)
        if b"SSL certificate" in words:
            raise FetchError(make_client_certificate_finding(subject, host))
        if status == 407:
            raise FetchError(make_proxy_login_finding(subject, self._access.find_proxy(url)))
        if status in (401, 403):
            raise FetchError(self._make_login_finding(status, url, subject, login))
        finding = error(
            "server-error",
            subject,
            "{subject}: {host} answered {status} {reason}.",
            "Try again later, or ask who runs that server.",
            host=host,
            status=status,
            reason=response.reason or "",
        )
        if status in _TRANSIENT_STATUSES or status >= 500:
            raise TransientError(finding, parse_retry_after(response.headers.get("Retry-After")))
        raise FetchError(finding)

    def _make_login_finding(self, status: int, url: str, subject: str, login: Login | None) -> Finding:
        host = get_host(url)
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
            places=self._access.describe_login_sources(url),
        )


def _make_unverified_context() -> ssl.SSLContext:
    urllib3.disable_warnings(http.InsecureRequestWarning)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _release(response: urllib3.BaseHTTPResponse) -> None:
    """Return the connection to the pool after reading a short rest of the response; close it otherwise."""
    rest = getattr(response, "length_remaining", None)
    if rest is None or rest > 1 << 16:
        response.close()
    else:
        response.drain_conn()
        response.release_conn()


@contextlib.contextmanager
def translate_network_errors(subject: str, url: str, client: Client) -> Iterator[None]:
    """Translate network exceptions to TransientError, or to FetchError if another attempt cannot help."""
    try:
        yield
    except (http.HTTPError, ssl.SSLError, TimeoutError, ConnectionError) as problem:
        if client.close_event.is_set():
            raise ClientClosedError from None
        proxy = client._access.find_proxy(url)
        if isinstance(problem, http.ProxyError) and proxy:
            raise make_proxy_error(problem, subject, proxy) from problem
        raise make_network_error(problem, subject, get_host(url), client._timeout) from problem
