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
from offlinepack.errors import Finding, text
from offlinepack.index.model import is_public_index_url
from offlinepack.ontarget.manifest import Manifest, TargetPlan, make_bytecode_path, serialize_manifest
from offlinepack.pipeline.plan import TargetFiles, list_planned_files
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


@dataclass(frozen=True)
class Draft:
    """A bundle before it is written."""

    manifest: Manifest
    members: tuple[Member, ...]
    verdicts: tuple[Verdict, ...]
    evidence: BundleFacts


def compile_bytecode(
    plans: Sequence[TargetPlan], target_files: Sequence[TargetFiles], request: BuildRequest, store: Store
) -> tuple[Mapping[str, Path], list[Finding]]:
    """Compile the planned wheels if the request asks for it: path in the bundle -> file, and notes."""
    if not request.bytecode:
        return {}, []
    from offlinepack.wheels import bytecode  # start-up time: few builds compile

    planned = list_planned_files(plans)
    wheels = [
        (files.target, [file.file for file in files.all_files if file.file.name in planned]) for files in target_files
    ]
    return bytecode.compile_bytecode(wheels, store, request.options.build_pythons)


def assemble_draft(
    request: BuildRequest,
    plans: Sequence[TargetPlan],
    target_files: Sequence[TargetFiles],
    bytecode: Mapping[str, Path],
    provenance: Mapping[str, ProvenanceRecord],
    store: Store,
    progress: ProgressCallback,
) -> Draft:
    """Assemble one bundle for these plans, with its documents and, if requested, the verdicts of the rehearsal."""
    # files that no plan installs are not part of the bundle
    planned = list_planned_files(plans)
    tags = {plan.tag for plan in plans}
    prepared_files = [
        file
        for files in target_files
        if files.target.tag in tags
        for file in files.all_files
        if file.file.name in planned
    ]
    stored_files = [file.file for file in prepared_files]
    extra_files: dict[str, bytes | Path] = {included.path: included.file for included in request.includes}
    bytecode_paths = {make_bytecode_path(tag, name) for tag in tags for name in planned} & set(bytecode)
    extra_files.update((path, bytecode[path]) for path in sorted(bytecode_paths))
    facts: list[BundleFacts] = []

    def describe(manifest: Manifest) -> dict[str, bytes]:
        facts.append(collect_draft_facts(manifest, stored_files, provenance, store))
        return make_evidence_documents(facts[-1], provenance)

    assemble = functools.partial(
        assemble_bundle,
        request.bundle_name.name,
        request.bundle_name.version,
        plans,
        stored_files,
        sequence=request.bundle_name.sequence,
        install_to=request.bundle_name.install_to,
        urls=_find_public_urls(prepared_files),
        describe=describe,
    )
    manifest, members = assemble(extra=extra_files)
    verdicts: tuple[Verdict, ...] = ()
    if request.rehearse:
        targets = {files.target.tag: files.target for files in target_files}
        label = text("rehearsing {targets}", targets=[plan.name for plan in plans])
        verdicts = tuple(progress(label, check_targets(manifest, members, targets, store), len(plans)))
        manifest, members = assemble(extra={**extra_files, REHEARSAL: serialize_verdicts(verdicts)})
    return Draft(manifest, members, verdicts, dataclasses.replace(facts[-1], manifest=manifest))


def write_draft(request: BuildRequest, output: Path, draft: Draft, progress: ProgressCallback) -> WrittenBundle:
    """Sign the manifest if requested, and write the bundle."""
    manifest = draft.manifest
    signatures = [sign_manifest(serialize_manifest(manifest), request.signing_key)] if request.signing_key else []
    path = Path(_expand_output(str(output), request.bundle_name, manifest.targets[0].tag))
    total = float(sum(file.size for file in manifest.files))
    members = progress(text("packing {path}", path=path), draft.members, total, lambda member: member.file.size)
    archive = write_bundle(path, manifest, members, signatures, request.part_size)
    return WrittenBundle(archive, manifest, draft.evidence)


def _find_public_urls(files: Iterable[PreparedFile]) -> dict[str, str]:
    """Return the URL of each file from the public index, by name; others are known by name and hash alone."""
    return {
        file.file.name: file.selected_file.url
        for file in files
        if file.selected_file
        and file.selected_file.url
        and file.origin is None
        and is_public_index_url(file.selected_file.url)
    }


def _expand_output(output: str, name: BundleName, tag: str) -> str:
    """Replace {name}, {version} and {target} in an output name; an empty version takes its hyphen with it."""
    values = {"name": name.name, "version": name.version or "", "target": tag}
    if not name.version:
        output = re.sub(r"[-_.]\{version\}|\{version\}[-_.]", "", output)
    return re.sub(r"\{(name|version|target)\}", lambda match: values[match[1]], output)
