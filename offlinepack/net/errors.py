"""Describe failures of HTTP requests and downloads as findings and errors."""

from __future__ import annotations

import email.utils
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from urllib3 import exceptions as http

from offlinepack.errors import FetchError, Finding, error
from offlinepack.net.model import MAX_PAGE_SIZE, DownloadRequest
from offlinepack.net.urls import get_host, redact_url
from offlinepack.store import PartialFile


class TransientError(Exception):
    """A failure that another try may mend."""

    def __init__(self, finding: Finding, after: float | None = None, host_is_down: bool = False) -> None:
        self.finding = finding
        self.retry_after = after
        """seconds that the server asked us to wait"""
        self.is_host_down = host_is_down
        """nothing at all came from that host: other files need not try as long"""
        super().__init__(finding.code)


class ClientClosedError(Exception):
    """Nobody waits for this file any more."""


def parse_retry_after(value: str | None) -> float | None:
    """Parse Retry-After into seconds (RFC 9110, 10.2.3: HTTP-date or delay-seconds)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def make_network_error(problem: BaseException, subject: str, host: str, timeout: float) -> Exception:
    """Turn a network exception into an error, transient if another attempt can help."""
    facts = {"host": host, "words": _describe_exception(problem)}
    causes = list(_iter_causes(problem))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FetchError(_make_certificate_finding(cause, subject, host))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            reason = str(cause.reason or cause)
            if "CERTIFICATE_REQUIRED" in reason or "ALERT_HANDSHAKE_FAILURE" in reason:
                return FetchError(make_client_certificate_finding(subject, host))
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
    if any(isinstance(cause, (http.NameResolutionError, socket.gaierror)) for cause in causes):
        finding = error(
            "unknown-host",
            subject,
            "{subject}: the name {host} cannot be resolved.",
            "Check the address, and this machine's DNS and proxy settings.",
            **facts,
        )
        return TransientError(finding, host_is_down=True)
    if any(isinstance(cause, http.NewConnectionError) for cause in causes):
        finding = error(
            "no-connection",
            subject,
            "{subject}: no connection to {host}: {words}.",
            "Is the server running, and the address right? Does this machine need a proxy: --proxy?",
            **facts,
        )
        return TransientError(finding, host_is_down=True)
    if any(isinstance(cause, (http.TimeoutError, TimeoutError)) for cause in causes):
        finding = error(
            "timed-out",
            subject,
            "{subject}: {host} kept silent for {seconds} seconds.",
            "Try again, or be more patient: --timeout SECONDS.",
            seconds=f"{timeout:g}",
            **facts,
        )
        return TransientError(finding, host_is_down=True)
    return TransientError(
        error(
            "connection-broken",
            subject,
            "{subject}: the connection to {host} broke off: {words}.",
            "Run the same command again: it goes on where it ended.",
            **facts,
        )
    )


def make_client_certificate_finding(subject: str, host: str) -> Finding:
    """Report a server that requires a client certificate."""
    return error(
        "client-certificate",
        subject,
        "{subject}: {host} wants a client certificate, and did not take ours or got none.",
        "Name a PEM file with certificate and key: --client-cert FILE.",
        host=host,
    )


def _make_certificate_finding(problem: ssl.SSLCertVerificationError, subject: str, host: str) -> Finding:
    words = str(getattr(problem, "verify_message", "") or _describe_exception(problem))
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


def make_proxy_error(problem: http.ProxyError, subject: str, proxy: str) -> Exception:
    """Turn an exception about the proxy into an error."""
    if "407" in _describe_exception(problem) or "407" in str(problem.original_error):
        return FetchError(make_proxy_login_finding(subject, proxy))
    for cause in _iter_causes(problem):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FetchError(_make_certificate_finding(cause, subject, get_host(proxy)))
    finding = error(
        "proxy-failed",
        subject,
        "{subject}: the proxy {proxy} gave no connection: {words}.",
        "Check --proxy, HTTPS_PROXY and NO_PROXY.",
        proxy=redact_url(proxy),
        words=_describe_exception(problem.original_error),
    )
    return TransientError(finding, host_is_down=True)


def make_proxy_login_finding(subject: str, proxy: str | None) -> Finding:
    """Report a proxy that requires a login."""
    return error(
        "proxy-login",
        subject,
        "{subject}: the proxy {proxy} wants a login, and did not take ours or got none (407).",
        "Give it in the proxy's address: --proxy http://USER:PASSWORD@HOST:PORT.",
        proxy=redact_url(proxy or ""),
    )


def _iter_causes(problem: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and all exceptions that urllib3 wraps in it."""
    visited: list[BaseException] = []
    waiting: list[object] = [problem]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in visited:
            visited.append(cause)
            yield cause
            waiting += [
                *cause.args,
                getattr(cause, "reason", None),
                getattr(cause, "original_error", None),
                cause.__cause__,
            ]
            waiting.append(cause.__context__)


def _describe_exception(problem: BaseException) -> str:
    """Describe the innermost cause of an exception without addresses of connections and memory."""
    for cause in reversed(list(_iter_causes(problem))):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    message = str(problem.args[-1] if problem.args else problem)
    return re.sub(r"<[^>]*>:? ?|\(_ssl\.c:\d+\)|https?://\S+", "", message).strip(" .'\"()") or type(problem).__name__


def make_offline_finding(subject: str) -> Finding:
    """Report a file that was never read and must not be requested (--offline)."""
    return error(
        "not-in-store",
        subject,
        "{subject} is not in the store, and --offline forbids to fetch it.",
        "Run the same command once without --offline.",
    )


def make_not_found_finding(name: str, url: str, status: int) -> Finding:
    """Report a file that its address does not have."""
    return error(
        "file-not-found",
        name,
        "{subject}: {host} has no such file ({status}).",
        "Lock again: the index may have removed it.",
        host=get_host(url),
        status=status,
    )


def make_truncation_finding(request: DownloadRequest, incoming: PartialFile, expected: int) -> Finding:
    """Report a download that ended early."""
    return error(
        "cut-off",
        request.name,
        "{subject}: {host} ended after {size} bytes ({expected} were announced).",
        "Run the same command again: it goes on where it ended.",
        host=get_host(request.url),
        size=incoming.size,
        expected=expected,
    )


def make_range_finding(request: DownloadRequest, words: str) -> Finding:
    """Report a server that answered with another range than requested."""
    return error(
        "bad-range",
        request.name,
        "{subject}: asked for the rest of the file, {host} answered with something else: {words}.",
        "Run the same command again: it begins anew.",
        host=get_host(request.url),
        words=words,
    )


def make_size_finding(request: DownloadRequest, incoming: PartialFile) -> Finding:
    """Report a file with another size than its index states."""
    return error(
        "size-mismatch",
        request.name,
        "{subject} from {origin} is not {expected} bytes long, as was promised: {actual} came.",
        "Do not use it. The index or a proxy on the way gave another file than the one that was locked.",
        origin=redact_url(request.url),
        expected=request.size,
        actual=incoming.size,
    )


def make_page_size_finding(subject: str) -> Finding:
    """Report a page that is too large for a page of an index."""
    return error(
        "page-too-large",
        subject,
        "{subject} is larger than any page of a package index: more than {size} MiB.",
        "Check the index address.",
        size=MAX_PAGE_SIZE >> 20,
    )


def make_scheme_finding(subject: str, scheme: str) -> Finding:
    """Report an address with a scheme that is not supported."""
    return error(
        "bad-address",
        subject,
        "{subject}: nothing can be fetched from an address that begins with '{scheme}:'.",
        "Use http, https or file.",
        scheme=scheme,
    )


def make_certificate_file_finding(path: Path | None, option: str, problem: Exception) -> Finding:
    """Report a file of certificates that cannot be used."""
    return error(
        "bad-certificate-file",
        option,
        "{path}, named by {subject} or the settings, holds no usable certificate: {words}.",
        "Name a PEM file.",
        path=path,
        words=_describe_exception(problem),
    )
