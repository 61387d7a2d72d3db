"""Download files into the store, several at once; resume partial files and verify their hashes."""

from __future__ import annotations

import hashlib
import heapq
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from offlinepack.errors import ComputerError, FetchError, IntegrityError, OfflinepackError, UsageError, error
from offlinepack.net.client import Client, translate_network_errors
from offlinepack.net.errors import (
    ClientClosedError,
    TransientError,
    make_not_found_finding,
    make_offline_finding,
    make_range_finding,
    make_size_finding,
    make_truncation_finding,
)
from offlinepack.net.model import DEFAULT_JOBS, DownloadRequest
from offlinepack.net.urls import get_local_path, redact_url
from offlinepack.ontarget.errors import explain_os_error
from offlinepack.store import BLOCK_SIZE, PartialFile, Store, StoredFile

_CHUNK_SIZE = 1 << 16

_FAST_READ_SECONDS = 0.02
"""seconds in which a piece has come from a quick connection"""


class DownloadQueue:
    """Files on their way into the store: each begins as soon as somebody wants it, and comes once."""

    def __init__(
        self,
        store: Store,
        client: Client,
        jobs: int = DEFAULT_JOBS,
        arrived: Callable[[StoredFile], None] = lambda _: None,
    ) -> None:
        """Download with `jobs` threads; call `arrived` for each file, in the thread that fetched it."""
        self._store, self._client, self._jobs, self._on_stored = store, client, jobs, arrived
        self._condition = threading.Condition()
        self._pending: list[tuple[int, int, DownloadRequest]] = []
        """a heap, the largest first: at the end no single large file keeps all others waiting"""
        self._outcomes: dict[str, StoredFile | BaseException | None] = {}
        """None: it waits, or is under way"""
        self._threads: set[threading.Thread] = set()
        """those that take what waits; one that finds nothing leaves"""
        self._failure: BaseException | None = None
        """why nothing more is fetched"""

    def prefetch(self, requests: Iterable[DownloadRequest]) -> None:
        """Fetch what is not in the store; nobody waits for it here, and what fails is told by `files`."""
        self._enqueue([request for request in requests if self._get_stored(request) is None])

    def _get_stored(self, request: DownloadRequest) -> StoredFile | None:
        return self._store.get(request.sha256, request.name) if request.sha256 else None

    def _enqueue(self, missing: Iterable[DownloadRequest]) -> None:
        """Queue these requests; each gets an outcome, whatever another process brings into the store meanwhile."""
        with self._condition:
            for request in missing:
                if _make_key(request) not in self._outcomes:
                    self._outcomes[_make_key(request)] = None
                    heapq.heappush(self._pending, (-(request.size or 0), len(self._outcomes), request))
            for _ in range(min(self._jobs - len(self._threads), len(self._pending))):
                # daemons: an interrupted program does not wait until a silent server has run into its time-out
                thread = threading.Thread(target=self._run_worker, daemon=True)
                self._threads.add(thread)
                thread.start()

    def fetch_files(self, requests: Iterable[DownloadRequest]) -> Iterator[StoredFile]:
        """Yield each requested file from the store in no order, downloading those that it lacks.

        All are tried; then one error has a finding for each failure: IntegrityError for a wrong hash, otherwise
        FetchError. A full disk (ComputerError) ends the downloads at once.
        """
        if self._failure is not None:
            raise self._failure
        missing: dict[str, list[DownloadRequest]] = {}
        for request in requests:
            stored = self._get_stored(request)
            if stored is not None:
                yield stored
            else:
                missing.setdefault(_make_key(request), []).append(request)
        self._enqueue([same[0] for same in missing.values()])
        failures: list[OfflinepackError] = []
        try:
            while missing:
                with self._condition:
                    self._condition.wait_for(lambda: any(self._outcomes[key] is not None for key in missing))
                    came = [(outcome, missing.pop(key)) for key in [*missing] if (outcome := self._outcomes[key])]
                for outcome, same in came:
                    if isinstance(outcome, StoredFile):
                        yield from (replace(outcome, name=request.name) for request in same)
                    elif isinstance(outcome, OfflinepackError) and not isinstance(outcome, (ComputerError, UsageError)):
                        failures.append(outcome)
                    else:
                        raise outcome
        except BaseException as failure:
            self._abort(failure)
            raise
        if failures:
            kind = IntegrityError if any(isinstance(failure, IntegrityError) for failure in failures) else FetchError
            findings = [finding for failure in failures for finding in failure.findings]
            raise kind(*sorted(findings, key=lambda finding: finding.subject))

    def _run_worker(self) -> None:
        while True:
            with self._condition:
                if not self._pending:
                    self._threads.discard(threading.current_thread())
                    return
                _, _, request = heapq.heappop(self._pending)
            outcome: StoredFile | BaseException
            try:
                outcome = _download_file(request, self._store, self._client)
                self._on_stored(outcome)
            except BaseException as failure:
                outcome = failure
            with self._condition:
                self._outcomes[_make_key(request)] = outcome
                self._condition.notify_all()

    def _abort(self, reason: BaseException) -> None:
        """Cancel the remaining downloads."""
        with self._condition:
            self._failure, threads = reason, [*self._threads]
            self._pending.clear()
        self._client.close()
        patience = time.monotonic() + 1
        for thread in threads:
            thread.join(max(0, patience - time.monotonic()))


def _make_key(request: DownloadRequest) -> str:
    return request.sha256 or request.url


def query_sizes(
    requests: Iterable[DownloadRequest], store: Store, client: Client, jobs: int = DEFAULT_JOBS
) -> dict[str, int | None]:
    """Find the size of each file in bytes from the lock or store, otherwise from the server; None if it states none."""
    sizes: dict[str, int | None] = {}
    unknown: list[DownloadRequest] = []
    for request in requests:
        stored = store.get(request.sha256, request.name) if request.sha256 else None
        local = get_local_path(request.url)
        sizes[request.name] = stored.size if stored else request.size
        if local is not None and local.is_file():
            sizes[request.name] = local.stat().st_size
        elif sizes[request.name] is None and local is None and not client.is_offline:
            unknown.append(request)

    def ask(request: DownloadRequest) -> int | None:
        try:
            return client.query_size(request.url, request.name)
        except FetchError:
            return None

    if unknown:
        with ThreadPoolExecutor(min(jobs, len(unknown))) as pool:
            sizes.update(zip((request.name for request in unknown), pool.map(ask, unknown), strict=True))
    return sizes


def _download_file(request: DownloadRequest, store: Store, client: Client) -> StoredFile:
    """Download one file into the store, continuing the partial file of a former run."""
    local = get_local_path(request.url)
    if local is not None:
        return _copy_local_file(local, request, store)
    if client.is_offline:
        raise FetchError(make_offline_finding(request.name))
    key = request.sha256.lower() if request.sha256 else hashlib.sha256(request.url.encode()).hexdigest()
    with store.open_partial(
        request.name, request.sha256, resume_as=key, hashes=request.hashes, origin=redact_url(request.url)
    ) as incoming:
        # a run that was killed between the last byte and the rename
        if not (request.sha256 and incoming.size and incoming.is_valid):
            client.retry(
                request.url,
                request.name,
                lambda: _request_missing_bytes(request, incoming, client),
                lambda: incoming.size,
            )
            if incoming.is_resumed and not incoming.is_valid:
                # its pieces are not of the same file: once more from the first byte
                incoming.restart()
                client.retry(
                    request.url,
                    request.name,
                    lambda: _request_missing_bytes(request, incoming, client),
                    lambda: incoming.size,
                )
        if request.size is not None and not request.sha256 and incoming.size != request.size:
            incoming.drop()
            raise IntegrityError(make_size_finding(request, incoming))
        return incoming.finish()


def _request_missing_bytes(request: DownloadRequest, incoming: PartialFile, client: Client) -> None:
    """Request the missing bytes; raise TransientError if the connection ends before the file does."""
    headers = {"Accept-Encoding": "identity"}
    if incoming.size:
        etag = incoming.resume_info.get("etag", "")
        # A file whose hash we know may be put together from any answers. Else the server must vouch for the rest
        # being of the same file: RFC 9110, 13.1.5: a client must not generate If-Range with a weak entity tag.
        if request.sha256 is None and (not etag or etag.startswith("W/")):
            incoming.restart()
        else:
            headers["Range"] = f"bytes={incoming.size}-"
            if request.sha256 is None:
                headers["If-Range"] = etag
    with client.open_response(request.url, request.name, headers) as (response, _):
        if response.status in (404, 410):
            raise FetchError(make_not_found_finding(request.name, request.url, response.status))
        if response.status == 416:
            incoming.restart()
            raise TransientError(make_range_finding(request, "416"))
        whole = None
        if response.status == 206 and incoming.size:
            # RFC 9110, 14.4: Content-Range: bytes first-last/complete
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if match is None or int(match[1]) != incoming.size:
                incoming.restart()
                raise TransientError(make_range_finding(request, response.headers.get("Content-Range", "206")))
            whole = int(match[2]) if match[2] != "*" else None
            incoming.is_resumed = True
        elif incoming.size:
            incoming.restart()
        encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        # Some servers call a .tar.gz gzip-encoded, and mean the file.
        decode = encoded and not request.name.endswith((".gz", ".tgz"))
        if whole is None and not encoded and response.headers.get("Content-Length", "").isdigit():
            whole = incoming.size + int(response.headers["Content-Length"])
        if request.sha256 is None and response.headers.get("ETag"):
            incoming.save_resume_info({"etag": response.headers["ETag"]})
        whole = request.size if whole is None else whole
        try:
            with translate_network_errors(request.name, request.url, client):
                # what has come, not all that was asked for: a slow or broken connection leaves no byte behind; one that
                # is quick is asked for more at a time
                amount, start = 0, time.monotonic()
                while block := (
                    response.read(amount, decode_content=decode)
                    if amount > _CHUNK_SIZE
                    else response.read1(_CHUNK_SIZE, decode_content=decode)
                ):
                    now = time.monotonic()
                    amount, start = (
                        (min(amount + _CHUNK_SIZE, BLOCK_SIZE) if now - start < _FAST_READ_SECONDS else 0),
                        now,
                    )
                    incoming.write(block)
                    client.received_bytes += len(block)
                    if request.size is not None and incoming.size > request.size:
                        incoming.drop()
                        raise IntegrityError(make_size_finding(request, incoming))
                    if client.close_event.is_set():
                        raise ClientClosedError
        except BaseException:
            if decode:  # the bytes that were counted are not those that the server counts
                incoming.restart()
            raise
        if whole is not None and incoming.size < whole:
            raise TransientError(make_truncation_finding(request, incoming, whole))


def _copy_local_file(path: Path, request: DownloadRequest, store: Store) -> StoredFile:
    try:
        return store.add_file(path, request.name, request.sha256, request.hashes)
    except OSError as problem:
        raise FetchError(
            error(
                "file-unreadable",
                request.name,
                "{subject} cannot be read at {path}: {words}.",
                "Put the file there, or mend the address.",
                path=path,
                words=explain_os_error(problem),
            )
        ) from problem
