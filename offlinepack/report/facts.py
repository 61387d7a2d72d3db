"""Collect what policy, SBOM, HTML and diff say about the files of a bundle, and make report.json from it.

Ages and vulnerabilities depend on the date of the report. Therefore they are part of the report, not of the bundle.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from offlinepack.bundle.document_schema import MAX_DOCUMENT_SIZE
from offlinepack.bundle.layout import REHEARSAL
from offlinepack.bundle.reader import Bundle, open_bundle, read_manifest
from offlinepack.errors import BundleError, Text, error, text
from offlinepack.ontarget.manifest import File, Manifest, TargetPlan, parse_manifest, serialize_manifest
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.report.diff import Difference, compare_manifests
from offlinepack.report.provenance import format_publisher, get_provenance_path
from offlinepack.report.vulnerabilities import VulnerabilityLookup
from offlinepack.targets.model import Target
from offlinepack.wheels.contents import WheelContents, collect_contents, collect_sdist_contents


@dataclass(frozen=True)
class BundleFacts:
    """A bundle, and what is known of its wheels beside the plan; of one that is being packed, or of one on the disk."""

    manifest: Manifest
    contents: Mapping[str, WheelContents]
    """path of each wheel -> what it brings"""
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """the same -> where it is from (provenance.Story)"""
    rehearsal: Mapping[str, Any] | None = None
    signature_count: int = 0

    def list_files(self) -> Iterator[File]:
        """Every wheel, sdist and tool, in order."""
        return (one for one in self.manifest.files if one.kind in ("wheel", "sdist", "tool"))


def collect_bundle_facts(bundle: Bundle) -> Iterator[File | BundleFacts]:
    """Read a bundle once, from its beginning to its end: each file when it is done, then the evidence, last.

    IntegrityError where a file is not what the manifest says, or a wheel is not sound.
    """
    found: dict[str, WheelContents] = {}
    documents: dict[str, Any] = {}
    wanted = {
        get_provenance_path(one.path): one.path
        for one in bundle.manifest.files
        if one.kind in ("wheel", "sdist", "tool")
    }
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for member in bundle.read_members():
            file = member.file
            if file.kind in ("wheel", "tool") and file.path.endswith(".whl"):
                path = member.write_file(Path(folder))
                found[file.path] = collect_contents(read_wheel(path))
                path.unlink()
            elif file.kind == "sdist":
                path = member.write_file(Path(folder))
                found[file.path] = collect_sdist_contents(path)
                path.unlink()
            elif (file.path in wanted or file.path == REHEARSAL) and file.size <= MAX_DOCUMENT_SIZE:
                documents[file.path] = _parse_document(member.read())
            else:
                member.verify()
            yield file
    stories = {wanted[path]: one for path, one in documents.items() if path in wanted and one}
    yield BundleFacts(bundle.manifest, found, stories, documents.get(REHEARSAL), len(bundle.signatures))


def _parse_document(data: bytes) -> Any:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def compute_age(uploaded: str | None, today: date) -> int | None:
    """Days since an upload; None where that is not known."""
    try:
        return (today - datetime.fromisoformat(uploaded[:10]).date()).days if uploaded else None
    except ValueError:
        return None


def make_report(
    evidence: BundleFacts,
    data: bytes,
    today: date,
    known: VulnerabilityLookup | None,
    difference: Difference | None = None,
) -> dict[str, Any]:
    """The whole report; `data` is manifest.json as it is: its sha256 is what an approval is about.

    Sentences in it are Texts still; `plain` makes JSON of it.
    """
    manifest = evidence.manifest
    projects = list(_describe_projects(evidence, today, known))
    return {
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "folder": manifest.folder,
            "sequence": manifest.sequence,
            "install_to": manifest.install_to,
            "files": len(manifest.files),
            "size": sum(one.size for one in manifest.files),
            "manifest_sha256": hashlib.sha256(data).hexdigest(),
            "signatures": evidence.signature_count,
        },
        "date": today.isoformat(),
        "difference": _describe_difference(difference) if difference else None,
        "targets": [_describe_target(one, evidence) for one in manifest.targets],
        "projects": projects,
        "versions_apart": list(_list_differing_versions(manifest)),
        "licences": _group_by_license(projects),
        "needs": list(_group_needs(manifest)),
        "included": [
            {"path": one.path, "size": one.size, "sha256": one.sha256}
            for one in manifest.files
            if one.kind == "included"
        ],
        "vulnerabilities": {**known.to_json(), "problem": known.problem} if known else None,
        "manifest": json.loads(serialize_manifest(manifest)),
    }


def render_texts(value: Any) -> Any:
    """The same with its sentences in English, as JSON has it."""
    if isinstance(value, Text):
        return value.render()
    if isinstance(value, Mapping):
        return {key: render_texts(one) for key, one in value.items()}
    return [render_texts(one) for one in value] if isinstance(value, (list, tuple)) else value


def open_previous(path: Path) -> tuple[Manifest, Bundle | None]:
    """What was approved last time: a bundle, its folder, its manifest.json, or the .json of its report."""
    if path.is_dir() or path.suffix.lower() != ".json":
        opened = open_bundle(path)
        return opened.manifest, opened
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return read_manifest(path), None  # which says what is wrong with it
    if not isinstance(document, dict) or "manifest" not in document:
        return read_manifest(path), None
    try:
        text = json.dumps(document["manifest"], sort_keys=True, indent=1, ensure_ascii=True) + "\n"
        return parse_manifest(text.encode()), None
    except BundleError as failed:
        raise BundleError(
            error("bad-report", path, "{subject} is no report of a bundle.", "Name its .json, or the bundle itself."),
            *failed.findings,
        ) from failed


def compare_with_previous(old: Path, bundle: Bundle) -> Difference:
    """What changed since then; with both bundles at hand also what the wheels bring inside."""
    manifest, opened = open_previous(old)
    return compare_manifests(manifest, bundle.manifest, (opened, bundle) if opened else None)


def _describe_difference(found: Difference) -> dict[str, Any]:
    said = [{**one.to_json(), "sentence": one.sentence, "advice": one.advice} for one in found.findings]
    return {**found.to_json(), "findings": said, "lines": list(found.format_lines())}


def _describe_target(target: TargetPlan, evidence: BundleFacts) -> dict[str, Any]:
    listed = (evidence.rehearsal or {}).get("targets")
    verdicts = (
        [one for one in listed if isinstance(one, dict) and one.get("tag") == target.tag]
        if isinstance(listed, list)
        else []
    )
    sizes = {one.path: one.size for one in evidence.manifest.files}
    return {
        "name": target.name,
        "tag": target.tag,
        "machines": Target(target.name, target.facts).description,
        "python_min": target.python_min,
        "distributions": len(target.install),
        "size": sum(sizes[path] for path in {one.file for one in target.install}),
        "tools": [f"{one.name} {one.version}" for one in target.tools],
        "rehearsal": verdicts[0] if verdicts else None,
    }


def _list_differing_versions(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Projects with several versions: which targets have which, and which of them hold it below the newest."""
    from packaging.version import Version

    names = sorted({one.name for target in manifest.targets for one in target.install})
    for name in names:
        where: dict[str, list[str]] = {}
        for target in manifest.targets:
            for one in target.install:
                if one.name == name:
                    where.setdefault(one.version, []).append(target.name)
        if len(where) > 1:
            newest = max(where, key=Version)
            held = [target for version, names in where.items() if version != newest for target in names]
            yield {"name": name, "versions": where, "newest": newest, "held_down_by": sorted(held)}


def _group_by_license(projects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, set[str]] = {}
    for project in projects:
        for release in project["releases"]:
            found.setdefault(", ".join(release["licences"]), set()).add(project["name"])
    return [
        {"licence": licence, "projects": sorted(names)}
        for licence, names in sorted(found.items(), key=lambda one: (one[0] != "", -len(one[1]), one[0]))
    ]


def _group_needs(manifest: Manifest) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for target in manifest.targets:
        for need in target.needs:
            one = found.setdefault(
                (need.soname, need.help or ""),
                {"soname": need.soname, "symbols": [], "wanted_by": [], "help": need.help, "targets": []},
            )
            one["symbols"] = sorted({*one["symbols"], *need.symbols})
            one["wanted_by"] = sorted({*one["wanted_by"], *need.wanted_by})
            one["targets"].append(target.name)
    yield from found.values()


def _describe_projects(
    evidence: BundleFacts, today: date, known: VulnerabilityLookup | None
) -> Iterator[dict[str, Any]]:
    named = map_releases(evidence)
    files: dict[str, list[str]] = {}
    for path, (name, _) in named.items():
        files.setdefault(name, []).append(path)
    why = _find_dependency_paths(evidence.manifest)
    for name in sorted(files):
        targets = evidence.manifest.targets
        yield {
            "name": name,
            "requested": any(one.requested for target in targets for one in target.install if one.name == name),
            "tool": any(one.name == name for target in targets for one in target.tools),
            "because_of": why.get(name, []),
            "versions": {t.tag: one.version for t in targets for one in t.install if one.name == name},
            "releases": [_describe_release(path, *named[path], evidence, today, known) for path in sorted(files[name])],
        }


def _describe_release(
    path: str, name: str, version: str, evidence: BundleFacts, today: date, known: VulnerabilityLookup | None
) -> dict[str, Any]:
    targets = evidence.manifest.targets
    (file,) = (one for one in evidence.manifest.files if one.path == path)
    look, story = evidence.contents.get(path) or WheelContents(), evidence.provenance.get(path) or {}
    source = story.get("source") or {}
    uploaded = story.get("upload_time") or source.get("upload_time")
    uploaded = uploaded if isinstance(uploaded, str) else None
    attested = story.get("attestations") or source.get("attestations") or []
    return {
        "version": version,
        "path": path,
        "file": path.rpartition("/")[2],
        "size": file.size,
        "sha256": file.sha256,
        "targets": [one.tag for one in targets if file in evidence.manifest.list_files(one)],
        "summary": look.summary,
        "homepage": look.homepage,
        "licences": list(look.licenses),
        "licence_source": look.license_source,
        "origin": story.get("origin"),
        "index": story.get("index") or source.get("index"),
        "uploaded": uploaded,
        "age_days": compute_age(uploaded, today),
        "yanked": bool(story.get("yanked") or source.get("yanked")),
        "yanked_reason": story.get("yanked_reason") or source.get("yanked_reason") or "",
        "status": story.get("status") or source.get("status"),
        "status_reason": story.get("status_reason") or source.get("status_reason") or "",
        "attested_by": sorted({format_publisher(one) for one in attested if isinstance(one, dict)}),
        "built_from": story.get("built_from"),
        "native": look.native_count,
        "native_files": list(look.native_files),
        "commands": list(look.commands),
        "startup": list(look.startup_files),
        "executables": list(look.executables),
        "unusual": list(look.unusual_names),
        "components": len(look.components),
        "vulnerabilities": [
            one.to_json()
            for one in (known.vulnerabilities if known else ())
            if (one.name, one.version) == (name, version)
        ],
    }


def _find_dependency_paths(manifest: Manifest) -> dict[str, list[str]]:
    """For each project the shortest way from something that was asked for: [asked, ..., itself]."""
    found: dict[str, list[str]] = {}
    for target in manifest.targets:
        here = {one.name: one for one in target.install}
        waiting = deque([one.name] for one in sorted(target.install) if one.requested)
        seen: set[str] = set()
        while waiting:
            way = waiting.popleft()
            if way[-1] in seen:
                continue
            seen.add(way[-1])
            if way[-1] not in found or len(way) < len(found[way[-1]]):
                found[way[-1]] = way
            waiting += [[*way, needed] for needed in here[way[-1]].requires if needed not in seen]
    return found


def map_releases(evidence: BundleFacts) -> dict[str, tuple[str, str]]:
    """Path of each wheel, sdist and tool -> name and version, as the plan has them."""
    targets = evidence.manifest.targets
    tools = {one.file: (one.name, one.version) for target in targets for one in target.tools}
    return tools | {one.file: (one.name, one.version) for target in targets for one in target.install}


def describe_differing_versions(listed: Manifest) -> list[Text]:
    """The projects that have other versions on other targets: "numpy: 2.2.6 for rhel8, 2.5.5 elsewhere"."""
    lines = []
    names = sorted({one.name for target in listed.targets for one in target.install})
    for name in names:
        where: dict[str, list[str]] = {}
        for target in listed.targets:
            for one in target.install:
                if one.name == name:
                    where.setdefault(one.version, []).append(target.name)
        if len(where) > 1:
            # most of them are "elsewhere", where that is shorter
            most = max(where, key=lambda version: (len(where[version]), where[version]))
            rest = most if len(where[most]) > 1 else None
            apart = [
                text("{version} for {targets}", version=version, targets=for_)
                for version, for_ in sorted(where.items())
                if version != rest
            ]
            apart += [text("{version} elsewhere", version=rest)] if rest else []
            lines.append(text("  {name}: {apart}", name=name, apart=apart))
    return lines
