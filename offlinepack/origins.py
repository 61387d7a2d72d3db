"""What the indexes say of the files of a build, asked for while these are fetched; and the evidence made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from packaging.pylock import PackageSdist, PackageWheel

from offlinepack.evidence import Evidence, provenance, sbom
from offlinepack.evidence import look as looks
from offlinepack.evidence.provenance import Origin, Story, Told
from offlinepack.fetch import Client
from offlinepack.indexes import Indexes
from offlinepack.ontarget import manifest as layout
from offlinepack.ontarget.manifest import Manifest
from offlinepack.selection import Chosen
from offlinepack.store import Store, StoredFile
from offlinepack.supply import Supplied


@dataclass(frozen=True)
class Inquiry:
    """A question that is under way."""

    indexes: Indexes
    client: Client
    store: Store
    answer: Future[dict[str, Told]]

    def told(self, supplied: Iterable[Supplied]) -> dict[str, Told]:
        """File name -> its story, of all these files; attestations verified where they can be."""
        supplied = {one.file.name: one for one in supplied}.values()
        chosen = [one.chosen for one in supplied if one.chosen and one.chosen.filename]
        found = self.answer.result()
        more = [_origin(one) for one in chosen if one.filename not in found]
        found = {**found, **provenance.ask(more, self.indexes, self.client, self.store)}
        sums = {one.filename: one.sha256 or "" for one in chosen}
        sums |= {one.file.name: one.file.sha256 for one in supplied}
        sums |= dict(source for one in supplied if (source := _source(one)))
        found = {name: one for name, one in found.items() if name in sums}
        found = provenance.attested(found, {name: one for name, one in sums.items() if one}, self.client, self.store)
        return {one.file.name: _of(one, found) for one in supplied}


@contextlib.contextmanager
def asking(chosen: Iterable[Chosen], indexes: Indexes, client: Client, store: Store) -> Iterator[Inquiry]:
    """Ask the indexes of these files in the background."""
    files = {one.filename: _origin(one) for one in chosen if one.filename}
    with ThreadPoolExecutor(1) as aside:
        yield Inquiry(indexes, client, store, aside.submit(provenance.ask, files.values(), indexes, client, store))


def _origin(one: Chosen) -> Origin:
    listed = isinstance(one.file, (PackageWheel, PackageSdist))
    uploaded = getattr(one.file, "upload_time", None)
    time = uploaded.isoformat().replace("+00:00", "Z") if uploaded else None
    yanked = ((one.package.tool or {}).get("offlinepack") or {}).get("yanked")
    return Origin(one.name, one.filename, one.sha256, time, one.url, listed, yanked)


def _source(one: Supplied) -> tuple[str, str] | None:
    """File name and sha256 of the sdist that a wheel was built from."""
    if one.chosen and one.chosen.filename and one.built_from and one.built_from.get("sha256"):
        return one.chosen.filename, one.built_from["sha256"]
    return None


def _of(one: Supplied, found: Mapping[str, Told]) -> Told:
    if one.built_from is None:
        return found.get(one.file.name) or Told(Story("address"))
    if one.chosen is None:
        return Told(Story("included"))
    source = found.get(one.chosen.filename)
    # the source's attestations are its own; the wheel was made here
    story = Story("built", built_from=dict(one.built_from), source=source.story.to_json() if source else None)
    return Told(story, None, source.attestation if source else None)


def evidence(draft: Manifest, files: Iterable[StoredFile], told: Mapping[str, Told], store: Store) -> Evidence:
    """What is known of a bundle that is about to be written; `draft` has no evidence among its files yet."""
    stored = {one.name: one for one in files}
    listed = {one.path: stored[one.path.rpartition("/")[2]] for one in draft.files if one.kind in _DISTRIBUTIONS}
    return Evidence(
        draft,
        {
            path: looks.look(one, store) if one.name.endswith(".whl") else looks.of_sdist(one.path)
            for path, one in listed.items()
        },
        {path: told[one.name].story.to_json() for path, one in listed.items() if one.name in told},
    )


_DISTRIBUTIONS = ("wheel", "sdist", "tool")


def documents(known: Evidence, told: Mapping[str, Told]) -> dict[str, bytes]:
    """Path in the bundle -> bytes: sbom.cdx.json and provenance/."""
    sums = {one.path.rpartition("/")[2]: one.sha256 for one in known.files()}
    held = {name: one for name, one in told.items() if name in sums}
    return {layout.SBOM: sbom.write(known), **provenance.documents(held, sums)}
