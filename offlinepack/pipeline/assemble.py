"""Assemble the manifest and members of a bundle in memory, and write the bundle."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinepack.bundle.layout import REHEARSAL, Member
from offlinepack.bundle.volumes import Archive
from offlinepack.bundle.writer import assemble_bundle, write_bundle
from offlinepack.errors import text
from offlinepack.index.model import is_public_index_url
from offlinepack.ontarget.manifest import Manifest, TargetPlan, make_bytecode_path, serialize_manifest
from offlinepack.pipeline.plan import TargetFiles
from offlinepack.pipeline.provenance_lookup import collect_draft_facts, make_evidence_documents
from offlinepack.pipeline.provider import PreparedFile
from offlinepack.pipeline.request import BuildRequest, BundleName
from offlinepack.progress import ProgressCallback
from offlinepack.rehearsal.static import check_targets
from offlinepack.rehearsal.verdict import Verdict, serialize_verdicts
from offlinepack.report.facts import BundleFacts
from offlinepack.report.provenance import ProvenanceRecord
from offlinepack.signing import sign_manifest
from offlinepack.store import Store


@dataclass(frozen=True)
class WrittenBundle:
    """A bundle that was written."""

    archive: Archive
    manifest: Manifest
    evidence: BundleFacts
    """what is known of the wheels, and where they are from"""


def list_planned_files(targets: Sequence[TargetPlan]) -> set[str]:
    """The names of all files that any target installs, or installs with."""
    return {one.file for each in targets for one in each.install} | {one.file for each in targets for one in each.tools}


@dataclass(frozen=True)
class Draft:
    """A bundle before it is written."""

    manifest: Manifest
    members: tuple[Member, ...]
    verdicts: tuple[Verdict, ...]
    evidence: BundleFacts


def assemble_draft(
    request: BuildRequest,
    parts: Sequence[TargetFiles],
    targets: Sequence[TargetPlan],
    codes: Mapping[str, Path],
    told: Mapping[str, ProvenanceRecord],
    store: Store,
    watch: ProgressCallback,
) -> Draft:
    label = request.bundle_name
    # conservation: what no target installs is not in the bundle
    planned = list_planned_files(targets)
    tags = {one.tag for one in targets}
    supplied = [one for part in parts if part.target.tag in tags for one in part.all_files if one.file.name in planned]
    compiled = {make_bytecode_path(tag, file) for tag in tags for file in planned} & set(codes)
    extra: dict[str, bytes | Path] = {one.path: one.file for one in request.includes}
    extra.update((path, codes[path]) for path in sorted(compiled))
    known: list[BundleFacts] = []

    def describe(draft: Manifest) -> dict[str, bytes]:
        known.append(collect_draft_facts(draft, [one.file for one in supplied], told, store))
        return make_evidence_documents(known[-1], told)

    assemble = functools.partial(
        assemble_bundle,
        label.name,
        label.version,
        targets,
        [one.file for one in supplied],
        sequence=label.sequence,
        install_to=label.install_to,
        urls=_find_public_urls(supplied),
        describe=describe,
    )
    listed, members = assemble(extra=extra)
    verdicts: tuple[Verdict, ...] = ()
    if request.rehearse:
        machines = {part.target.tag: part.target for part in parts}
        what = text("rehearsing {targets}", targets=[one.name for one in targets])
        verdicts = tuple(watch(what, check_targets(listed, members, machines, store), len(targets)))
        listed, members = assemble(extra={**extra, REHEARSAL: serialize_verdicts(verdicts)})
    return Draft(listed, members, verdicts, dataclasses.replace(known[-1], manifest=listed))


def write_draft(request: BuildRequest, output: Path, draft: Draft, watch: ProgressCallback) -> WrittenBundle:
    listed, members = draft.manifest, draft.members
    signatures = [sign_manifest(serialize_manifest(listed), request.signing_key)] if request.signing_key else []
    path = Path(_expand_output(str(output), request.bundle_name, listed.targets[0].tag))
    total = float(sum(one.size for one in listed.files))
    steps = watch(text("packing {path}", path=path), members, total, lambda one: one.file.size)
    return WrittenBundle(write_bundle(path, listed, steps, signatures, request.part_size), listed, draft.evidence)


def _find_public_urls(supplied: Iterable[PreparedFile]) -> dict[str, str]:
    """File name -> address, of files from the public index; others are known by name and hash alone."""
    return {
        one.file.name: one.selected_file.url
        for one in supplied
        if one.selected_file
        and one.selected_file.url
        and one.origin is None
        and is_public_index_url(one.selected_file.url)
    }


def _expand_output(output: str, label: BundleName, tag: str) -> str:
    """The output's name with {name}, {version} and {target} filled in; no version takes its hyphen with it."""
    values = {"name": label.name, "version": label.version or "", "target": tag}
    if not label.version:
        output = re.sub(r"[-_.]\{version\}|\{version\}[-_.]", "", output)
    return re.sub(r"\{(name|version|target)\}", lambda one: values[one[1]], output)
