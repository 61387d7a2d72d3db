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
from offlinepack.wheels.inspect import inspect_contents


@dataclass(frozen=True)
class ProvenanceLookup:
    """A question that is under way."""

    indexes: Indexes
    client: Client
    store: Store
    future: Future[dict[str, ProvenanceRecord]]

    def results(self, supplied: Iterable[PreparedFile]) -> dict[str, ProvenanceRecord]:
        """File name -> its story, of all these files; attestations verified where they can be."""
        supplied = {one.file.name: one for one in supplied}.values()
        chosen = [one.selected_file for one in supplied if one.selected_file and one.selected_file.filename]
        found = self.future.result()
        more = [_make_origin(one) for one in chosen if one.filename not in found]
        found = {**found, **look_up_provenance(more, self.indexes, self.client, self.store)}
        sums = {one.filename: one.sha256 or "" for one in chosen}
        sums |= {one.file.name: one.file.sha256 for one in supplied}
        sums |= dict(source for one in supplied if (source := _find_source(one)))
        found = {name: one for name, one in found.items() if name in sums}
        found = add_attestations(found, {name: one for name, one in sums.items() if one}, self.client, self.store)
        return {one.file.name: _make_record(one, found) for one in supplied}


@contextlib.contextmanager
def start_lookup(
    chosen: Iterable[SelectedFile], indexes: Indexes, client: Client, store: Store
) -> Iterator[ProvenanceLookup]:
    """Ask the indexes of these files in the background."""
    files = {one.filename: _make_origin(one) for one in chosen if one.filename}
    with ThreadPoolExecutor(1) as aside:
        yield ProvenanceLookup(
            indexes, client, store, aside.submit(look_up_provenance, files.values(), indexes, client, store)
        )


def _make_origin(one: SelectedFile) -> ProvenanceRequest:
    listed = isinstance(one.file, (PackageWheel, PackageSdist))
    uploaded = getattr(one.file, "upload_time", None)
    time = uploaded.isoformat().replace("+00:00", "Z") if uploaded else None
    yanked = ((one.package.tool or {}).get("offlinepack") or {}).get("yanked")
    return ProvenanceRequest(one.name, one.filename, one.sha256, time, one.url, listed, yanked)


def _find_source(one: PreparedFile) -> tuple[str, str] | None:
    """File name and sha256 of the sdist that a wheel was built from."""
    if one.selected_file and one.selected_file.filename and one.origin and one.origin.get("sha256"):
        return one.selected_file.filename, one.origin["sha256"]
    return None


def _make_record(one: PreparedFile, found: Mapping[str, ProvenanceRecord]) -> ProvenanceRecord:
    if one.origin is None:
        return found.get(one.file.name) or ProvenanceRecord(Provenance("address"))
    if one.selected_file is None:
        return ProvenanceRecord(Provenance("included"))
    source = found.get(one.selected_file.filename)
    # the source's attestations are its own; the wheel was made here
    story = Provenance("built", built_from=dict(one.origin), source=source.provenance.to_json() if source else None)
    return ProvenanceRecord(story, None, source.attestation if source else None)


def collect_draft_facts(
    draft: Manifest, files: Iterable[StoredFile], told: Mapping[str, ProvenanceRecord], store: Store
) -> BundleFacts:
    """What is known of a bundle that is about to be written; `draft` has no evidence among its files yet."""
    stored = {one.name: one for one in files}
    listed = {one.path: stored[one.path.rpartition("/")[2]] for one in draft.files if one.kind in _DISTRIBUTION_KINDS}
    return BundleFacts(
        draft,
        {
            path: inspect_contents(one, store) if one.name.endswith(".whl") else collect_sdist_contents(one.path)
            for path, one in listed.items()
        },
        {path: told[one.name].provenance.to_json() for path, one in listed.items() if one.name in told},
    )


_DISTRIBUTION_KINDS = ("wheel", "sdist", "tool")


def make_evidence_documents(known: BundleFacts, told: Mapping[str, ProvenanceRecord]) -> dict[str, bytes]:
    """Path in the bundle -> bytes: sbom.cdx.json and provenance/."""
    sums = {one.path.rpartition("/")[2]: one.sha256 for one in known.list_files()}
    held = {name: one for name, one in told.items() if name in sums}
    return {SBOM: make_sbom(known), **make_provenance_documents(held, sums)}
