"""Look up the provenance of files at the indexes while these files are downloaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from packaging.pylock import PackageSdist, PackageWheel

from offlinepack.bundle.layout import SBOM
from offlinepack.index.model import Indexes
from offlinepack.net.client import Client
from offlinepack.ontarget.manifest import Manifest
from offlinepack.pipeline.provider import PreparedFile
from offlinepack.report.facts import BundleFacts
from offlinepack.report.provenance import (
    Provenance,
    ProvenanceRecord,
    ProvenanceRequest,
    add_attestations,
    look_up_provenance,
    make_provenance_documents,
)
from offlinepack.report.sbom import make_sbom
from offlinepack.selection import SelectedFile
from offlinepack.store import Store, StoredFile
from offlinepack.wheels.contents import collect_sdist_contents
from offlinepack.wheels.inspect import inspect_wheel


@dataclass(frozen=True)
class ProvenanceLookup:
    """A lookup that runs in the background."""

    indexes: Indexes
    client: Client
    store: Store
    future: Future[dict[str, ProvenanceRecord]]

    def results(self, files: Iterable[PreparedFile]) -> dict[str, ProvenanceRecord]:
        """Return the provenance of each file, by name, with the attestations that could be verified."""
        distinct_files = {file.file.name: file for file in files}.values()
        selected_files = [
            file.selected_file for file in distinct_files if file.selected_file and file.selected_file.filename
        ]
        records = self.future.result()
        missing = [_make_lookup_request(file) for file in selected_files if file.filename not in records]
        records = {**records, **look_up_provenance(missing, self.indexes, self.client, self.store)}
        digests = {file.filename: file.sha256 or "" for file in selected_files}
        digests |= {file.file.name: file.file.sha256 for file in distinct_files}
        digests |= dict(source for file in distinct_files if (source := _find_source(file)))
        records = {name: record for name, record in records.items() if name in digests}
        known_digests = {name: digest for name, digest in digests.items() if digest}
        records = add_attestations(records, known_digests, self.client, self.store)
        return {file.file.name: _make_record(file, records) for file in distinct_files}


@contextlib.contextmanager
def start_lookup(
    files: Iterable[SelectedFile], indexes: Indexes, client: Client, store: Store
) -> Iterator[ProvenanceLookup]:
    """Ask the indexes of these files in the background."""
    requests = {file.filename: _make_lookup_request(file) for file in files if file.filename}
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(look_up_provenance, requests.values(), indexes, client, store)
        yield ProvenanceLookup(indexes, client, store, future)


def _make_lookup_request(file: SelectedFile) -> ProvenanceRequest:
    is_listed = isinstance(file.file, (PackageWheel, PackageSdist))
    upload_time = getattr(file.file, "upload_time", None)
    time = upload_time.isoformat().replace("+00:00", "Z") if upload_time else None
    yanked = ((file.package.tool or {}).get("offlinepack") or {}).get("yanked")
    return ProvenanceRequest(file.name, file.filename, file.sha256, time, file.url, is_listed, yanked)


def _find_source(file: PreparedFile) -> tuple[str, str] | None:
    """Return file name and SHA-256 of the sdist that a wheel was built from."""
    if file.selected_file and file.selected_file.filename and file.origin and file.origin.get("sha256"):
        return file.selected_file.filename, file.origin["sha256"]
    return None


def _make_record(file: PreparedFile, records: Mapping[str, ProvenanceRecord]) -> ProvenanceRecord:
    if file.origin is None:
        return records.get(file.file.name) or ProvenanceRecord(Provenance("address"))
    if file.selected_file is None:
        return ProvenanceRecord(Provenance("included"))
    source = records.get(file.selected_file.filename)
    # the attestations are those of the sdist: the wheel was built on the build host
    provenance = Provenance(
        "built", built_from=dict(file.origin), source=source.provenance.to_json() if source else None
    )
    return ProvenanceRecord(provenance, None, source.attestation if source else None)


def collect_draft_facts(
    manifest: Manifest, files: Iterable[StoredFile], provenance: Mapping[str, ProvenanceRecord], store: Store
) -> BundleFacts:
    """Collect the facts about a bundle before it is written; its manifest lists no documents about provenance yet."""
    file_of = {file.name: file for file in files}
    distributions = {
        file.path: file_of[file.path.rpartition("/")[2]]
        for file in manifest.files
        if file.kind in ("wheel", "sdist", "tool")
    }
    return BundleFacts(
        manifest,
        {
            path: inspect_wheel(file, store).contents
            if file.name.endswith(".whl")
            else collect_sdist_contents(file.path)
            for path, file in distributions.items()
        },
        {
            path: provenance[file.name].provenance.to_json()
            for path, file in distributions.items()
            if file.name in provenance
        },
    )


def make_evidence_documents(facts: BundleFacts, provenance: Mapping[str, ProvenanceRecord]) -> dict[str, bytes]:
    """Return sbom.cdx.json and the documents below provenance/: path in the bundle -> bytes."""
    digests = {file.path.rpartition("/")[2]: file.sha256 for file in facts.list_files()}
    records = {name: record for name, record in provenance.items() if name in digests}
    return {SBOM: make_sbom(facts), **make_provenance_documents(records, digests)}
