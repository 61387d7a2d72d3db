"""Look up the provenance of files on their indexes, and verify attestations.

Upload time, hashes, yanked state, project status (PEP 792) and attestations (PEP 740) are cached in the store when a
file is first fetched: the same store gives the same provenance on any day. pypi-attestations verifies attestations, if
it is installed (offlinepack[provenance]).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from offlinepack.bundle.layout import PROVENANCE
from offlinepack.errors import FetchError, Finding, IntegrityError, error
from offlinepack.index.model import Indexes, IndexFile, Project, is_public_index_url
from offlinepack.index.simple_api import find_project
from offlinepack.net.client import Client
from offlinepack.net.urls import get_local_path
from offlinepack.store import Store

_FACT_VERSION = 2

_MAX_THREADS = 3
"""pages at a time: they are large, and files are downloaded at the same time"""

_FIRST_BATCH_SIZE = 8
"""pages that are requested in any case"""

TRUSTED_ROOT_PATH = f"{PROVENANCE}/trusted_root.json"


@dataclass(frozen=True)
class ProvenanceRequest:
    """A file whose provenance is looked up."""

    project: str
    """normalized name"""
    filename: str
    sha256: str | None
    upload_time: str | None = None
    """upload time in the lock"""
    url: str | None = None
    """address of the file; recorded if it is public"""
    is_on_index: bool = True
    """False if the file was given by address or path"""
    yanked_reason: str | None = None
    """reason, if the file is yanked in the lock"""


@dataclass(frozen=True)
class Provenance:
    """The provenance of a file, with the texts of the index."""

    origin: str
    """index, links (a folder or page of --find-links), address (given itself), built (on the build host) or included"""
    index: str | None = None
    """address of the index if it is PyPI; others stay private"""
    url: str | None = None
    """address of the file, under the same condition"""
    upload_time: str | None = None
    """ISO 8601"""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """hashes from the index"""
    is_yanked: bool = False
    yanked_reason: str = ""
    status: str | None = None
    """project status (PEP 792): active, archived, deprecated or quarantined; None if no index was asked"""
    status_reason: str = ""
    has_attestations: bool = False
    """whether the index has attestations"""
    attestations: tuple[Mapping[str, Any], ...] = ()
    """verified attestations: publisher and predicate of each"""
    built_from: Mapping[str, str] | None = None
    """of a built wheel: name and sha256 of its sdist, build requirements, interpreter, platform"""
    source: Mapping[str, Any] | None = None
    """of a built wheel: the provenance of its sdist"""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of the document in the bundle."""
        return {
            "origin": self.origin,
            "index": self.index,
            "url": self.url,
            "upload_time": self.upload_time,
            "hashes": dict(self.hashes),
            "yanked": self.is_yanked,
            "yanked_reason": self.yanked_reason,
            "status": self.status,
            "status_reason": self.status_reason,
            "attested": self.has_attestations,
            "attestations": [dict(attestation) for attestation in self.attestations],
            "built_from": None if self.built_from is None else dict(self.built_from),
            "source": None if self.source is None else dict(self.source),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Provenance:
        """Read what `to_json` wrote."""
        return cls(
            origin=stored["origin"],
            index=stored["index"],
            url=stored["url"],
            upload_time=stored["upload_time"],
            hashes=stored["hashes"],
            is_yanked=stored["yanked"],
            yanked_reason=stored["yanked_reason"],
            status=stored["status"],
            status_reason=stored["status_reason"],
            has_attestations=stored["attested"],
            attestations=tuple(stored["attestations"]),
            built_from=stored["built_from"],
            source=stored["source"],
        )


@dataclass(frozen=True)
class ProvenanceRecord:
    """A provenance, with the address of the attestations and their text once it is fetched."""

    provenance: Provenance
    attestation_url: str | None = field(default=None, repr=False)
    attestation: str | None = field(default=None, repr=False)
    """provenance object (PEP 740) as the index returned it"""


def look_up_provenance(
    origins: Iterable[ProvenanceRequest], indexes: Indexes, client: Client, store: Store
) -> dict[str, ProvenanceRecord]:
    """Look up what its index states about each file, first in the store.

    An index that does not answer is not an error, because the files have been fetched.
    """
    records: dict[str, ProvenanceRecord] = {}
    waiting: dict[str, list[ProvenanceRequest]] = {}
    for origin in origins:
        cached = store.get_cached(origin.sha256, "story", _FACT_VERSION) if origin.sha256 else None
        if cached:
            records[origin.filename] = ProvenanceRecord(
                Provenance.from_json(cached["story"]), cached["attestation_url"]
            )
        elif origin.is_on_index and not client.is_offline:
            waiting.setdefault(origin.project, []).append(origin)
        else:
            records[origin.filename] = ProvenanceRecord(_derive_from_lock(origin))
    projects = list(waiting)
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        for batch in (projects[:_FIRST_BATCH_SIZE], projects[_FIRST_BATCH_SIZE:]):
            files = [{request.filename for request in waiting[name]} for name in batch]
            pages = list(pool.map(partial(_fetch_project, indexes=indexes, client=client), batch, files))
            for name, project in zip(batch, pages, strict=True):
                records.update(_record_page(waiting.pop(name), project, store))
            if waiting and _is_page_redundant(pages, waiting, records, indexes):
                break
    for origin in (request for same in waiting.values() for request in same):
        records[origin.filename] = ProvenanceRecord(_derive_from_lock(origin, indexes.indexes[0].url))
        _save_record(origin, records[origin.filename], store)
    return records


def _record_page(
    origins: Iterable[ProvenanceRequest], project: Project | None, store: Store
) -> Iterator[tuple[str, ProvenanceRecord]]:
    for origin in origins:
        record = _derive_from_page(origin, project)
        if project:
            _save_record(origin, record, store)
        yield origin.filename, record


def _save_record(request: ProvenanceRequest, record: ProvenanceRecord, store: Store) -> None:
    """Save the record, so that later builds state the same about this file."""
    if request.sha256:
        cached = {"story": record.provenance.to_json(), "attestation_url": record.attestation_url}
        store.set_cached(request.sha256, "story", cached, _FACT_VERSION)


def _is_page_redundant(
    pages: Iterable[Project | None],
    waiting: Mapping[str, Iterable[ProvenanceRequest]],
    records: Mapping[str, ProvenanceRecord],
    indexes: Indexes,
) -> bool:
    """Check whether further pages cannot add anything to the lock.

    That is so if the only index speaks no version with attestations (1.3, PEP 740) or project status (1.4, PEP 792)
    on its first pages.
    """
    folders = all(get_local_path(link) is not None for link in indexes.find_links)
    alone = len(indexes.indexes) == 1 and not indexes.sources and folders
    files = [origin for origins in waiting.values() for origin in origins]
    timed = all(file.upload_time and file.sha256 and get_local_path(file.url or "") is None for file in files)
    old = all(
        page is not None and page.api_version in ("1.0", "1.1", "1.2") and page.status == "active" for page in pages
    )
    return alone and timed and old and not any(record.provenance.has_attestations for record in records.values())


def _fetch_project(name: str, filenames: set[str], indexes: Indexes, client: Client) -> Project | None:
    try:
        return find_project(name, indexes, client, filenames)
    except FetchError:
        return None


def _derive_from_lock(request: ProvenanceRequest, index: str = "") -> Provenance:
    return Provenance(
        "index" if request.is_on_index else "address",
        index=index if index and is_public_index_url(index) else None,
        url=request.url if request.url and is_public_index_url(request.url) else None,
        upload_time=request.upload_time,
        hashes={"sha256": request.sha256} if index and request.sha256 else {},
        is_yanked=request.yanked_reason is not None,
        yanked_reason=request.yanked_reason or "",
        status="active" if index else None,
    )


def _derive_from_page(request: ProvenanceRequest, project: Project | None) -> ProvenanceRecord:
    files = [file for file in project.files if file.filename == request.filename] if project else []
    # an index and a folder may both have a file of this name
    same = [file for file in files if not (request.sha256 and file.sha256) or request.sha256 == file.sha256] or files
    if not project or not same:
        return ProvenanceRecord(_derive_from_lock(request))
    file: IndexFile = same[0]
    if file.index is None:
        return ProvenanceRecord(Provenance("links", hashes=dict(file.hashes)))
    public = is_public_index_url(file.index.url)
    return ProvenanceRecord(
        Provenance(
            "index",
            index=file.index.url if public else None,
            url=file.url if public and is_public_index_url(file.url) else None,
            upload_time=_truncate_to_second(file.upload_time) or request.upload_time,
            hashes=dict(sorted(file.hashes.items())),
            is_yanked=file.is_yanked,
            yanked_reason=file.yanked_reason,
            status=project.status,
            status_reason=project.status_reason,
            has_attestations=bool(file.provenance_url),
        ),
        file.provenance_url,
    )


def _truncate_to_second(time: str | None) -> str | None:
    """Truncate a time to whole seconds, as in locks (PEP 700 allows six more digits)."""
    return re.sub(r"\.\d+", "", time) if time else None


def can_verify_attestations() -> bool:
    """Check whether attestations can be verified."""
    return importlib.util.find_spec("pypi_attestations") is not None


def add_attestations(
    records: Mapping[str, ProvenanceRecord], sums: Mapping[str, str], client: Client, store: Store
) -> dict[str, ProvenanceRecord]:
    """Fetch and verify attestations (`sums`: file name -> SHA-256); raise IntegrityError with all invalid ones.

    Without pypi-attestations nothing is fetched: the records only state that attestations exist.
    """
    offering = [name for name, record in records.items() if record.attestation_url and name in sums]
    if not offering or not can_verify_attestations():
        return dict(records)
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        texts = dict(
            zip(
                offering,
                pool.map(lambda name: _fetch_attestation(records[name], sums[name], client, store), offering),
                strict=True,
            )
        )
    updated = dict(records)
    bad: list[Finding] = []
    for name, text in texts.items():
        if text is None:
            continue
        cached = store.get_cached(sums[name], "attested", _FACT_VERSION)
        if not cached or cached["text"] != text or cached["name"] != name:
            try:
                cached = {"name": name, "text": text, "attestations": verify_attestations(name, sums[name], text)}
            except IntegrityError as failed:
                bad += failed.findings
                continue
            store.set_cached(sums[name], "attested", cached, _FACT_VERSION)
        story = updated[name].provenance
        updated[name] = ProvenanceRecord(
            replace(story, attestations=tuple(cached["attestations"])), records[name].attestation_url, text
        )
    if bad:
        raise IntegrityError(*bad)
    return updated


def _fetch_attestation(record: ProvenanceRecord, sha256: str, client: Client, store: Store) -> str | None:
    cached = store.get_cached(sha256, "attested", _FACT_VERSION)
    if cached:
        return str(cached["text"])
    if client.is_offline or record.attestation_url is None:
        return None
    page = client.fetch_page(record.attestation_url, "application/vnd.pypi.integrity.v1+json, application/json;q=0.9")
    return page.text if page else None


def verify_attestations(filename: str, sha256: str, text: str) -> list[dict[str, Any]]:
    """Verify the provenance object of a file (PEP 740) and return its publishers; raise IntegrityError if one is
    invalid.

    No network is used: sigstore contains the roots of trust.
    """
    import pypi_attestations as library

    logging.getLogger("sigstore").setLevel(logging.ERROR)  # the warning that it works offline
    try:
        provenance = library.Provenance.model_validate_json(text)
        file = library.Distribution(name=filename, digest=sha256)
        attestations = []
        for bundle in provenance.attestation_bundles:
            for attestation in bundle.attestations:
                kind, _ = attestation.verify(bundle.publisher, file, offline=True)
                issuer = bundle.publisher.model_dump(mode="json")
                publisher = {key: value for key, value in sorted(issuer.items()) if isinstance(value, str)}
                attestations.append({"publisher": publisher, "predicate": str(kind)})
    except Exception as problem:  # of pydantic, sigstore or cryptography: any exception means that it is not verified
        raise IntegrityError(_report_bad_attestation(filename, problem)) from problem
    if not attestations:
        raise IntegrityError(_report_bad_attestation(filename, "it holds none"))
    return attestations


def _report_bad_attestation(filename: str, problem: object) -> Finding:
    return error(
        "attestation-bad",
        filename,
        "The index offers an attestation of {subject} that is not true of this file: {words}.",
        "Do not use the file. Somebody changed it, or its attestation, after it was published.",
        words=(str(problem).strip() or type(problem).__name__).splitlines()[0][:300],
    )


def read_trusted_root() -> bytes:
    """Read the roots of trust that attestations are verified with."""
    from importlib import resources
    from urllib.parse import quote

    folder = quote("https://tuf-repo-cdn.sigstore.dev", safe="")
    return (resources.files("sigstore._store") / folder / "trusted_root.json").read_bytes()


def format_publisher(publisher: Mapping[str, Any]) -> str:
    """Format a publisher: GitHub owner/project, release.yml."""
    named = publisher.get("publisher") or {}
    rest = [named[key] for key in ("repository", "project_id", "email") if key in named]
    rest += [named[key] for key in ("workflow", "workflow_filepath") if key in named]
    return " ".join(filter(None, [named.get("kind", ""), ", ".join(rest)]))


def get_provenance_path(file: str) -> str:
    """Return the path of a provenance document in the bundle."""
    return f"{PROVENANCE}/{file.rpartition('/')[2]}.json"


def make_provenance_documents(records: Mapping[str, ProvenanceRecord], sums: Mapping[str, str]) -> dict[str, bytes]:
    """Make the provenance documents: path in the bundle -> bytes, with attestations and the trusted root if there are
    any.
    """
    documents = {}
    for name, record in sorted(records.items()):
        story = {"schema": 1, "file": name, "sha256": sums[name], **record.provenance.to_json()}
        if record.attestation is not None:
            place = f"{PROVENANCE}/{name}.attestations.json"
            documents[place] = record.attestation.encode()
            story["attestation_file"] = place
        documents[get_provenance_path(name)] = (
            json.dumps(story, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        ).encode()
    if any(record.attestation is not None for record in records.values()):
        documents[TRUSTED_ROOT_PATH] = read_trusted_root()
    return documents
