"""Collect the facts about the files of a bundle that policy, SBOM and report use, and make report.json of them.

Ages and vulnerabilities depend on the date of the report. Therefore they are part of the report, not of the bundle.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from packaging.version import Version

from offlinepack.bundle.document_schema import MAX_DOCUMENT_SIZE
from offlinepack.bundle.layout import REHEARSAL
from offlinepack.bundle.reader import Bundle, open_bundle, read_manifest
from offlinepack.errors import BundleError, Text, error, text
from offlinepack.ontarget.manifest import File, Manifest, TargetPlan, parse_manifest, serialize_manifest
from offlinepack.report.diff import Difference, compare_manifests
from offlinepack.report.provenance import format_publisher, get_provenance_path
from offlinepack.report.vulnerabilities import VulnerabilityLookup
from offlinepack.targets.model import Target
from offlinepack.wheels.contents import WheelContents, collect_sdist_contents
from offlinepack.wheels.report import read_wheel_report


@dataclass(frozen=True)
class BundleFacts:
    """The facts about a bundle on disk, or about one that is not written yet."""

    manifest: Manifest
    contents: Mapping[str, WheelContents]
    """path of each wheel, sdist and tool -> its contents"""
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """path of each file -> its Provenance as JSON"""
    rehearsal: Mapping[str, Any] | None = None
    signature_count: int = 0

    def list_files(self) -> Iterator[File]:
        """Yield every wheel, sdist and tool in order."""
        return (file for file in self.manifest.files if file.kind in ("wheel", "sdist", "tool"))


def collect_bundle_facts(bundle: Bundle) -> Iterator[File | BundleFacts]:
    """Read a bundle once: yield each file after it was read, and at last the facts.

    Raises IntegrityError if a file differs from the manifest or a wheel is invalid.
    """
    contents: dict[str, WheelContents] = {}
    documents: dict[str, Any] = {}
    names = {
        get_provenance_path(file.path): file.path
        for file in bundle.manifest.files
        if file.kind in ("wheel", "sdist", "tool")
    }
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for member in bundle.read_members():
            file = member.file
            if file.kind in ("wheel", "tool") and file.path.endswith(".whl"):
                path = member.write_file(Path(folder))
                contents[file.path] = read_wheel_report(path).contents
                path.unlink()
            elif file.kind == "sdist":
                path = member.write_file(Path(folder))
                contents[file.path] = collect_sdist_contents(path)
                path.unlink()
            elif (file.path in names or file.path == REHEARSAL) and file.size <= MAX_DOCUMENT_SIZE:
                documents[file.path] = _parse_document(member.read())
            else:
                member.verify()
            yield file
    stories = {names[path]: document for path, document in documents.items() if path in names and document}
    yield BundleFacts(bundle.manifest, contents, stories, documents.get(REHEARSAL), len(bundle.signatures))


def _parse_document(data: bytes) -> Any:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def compute_age(uploaded: str | None, today: date) -> int | None:
    """Compute the days since an upload; None if its time is unknown."""
    try:
        return (today - datetime.fromisoformat(uploaded[:10]).date()).days if uploaded else None
    except ValueError:
        return None


def make_report(
    evidence: BundleFacts,
    data: bytes,
    today: date,
    vulnerabilities: VulnerabilityLookup | None,
    difference: Difference | None = None,
) -> dict[str, Any]:
    """Make the report; `data` is manifest.json, whose SHA-256 identifies the bundle in an approval.

    Its sentences are Texts; render_texts turns them into JSON.
    """
    manifest = evidence.manifest
    projects = list(_describe_projects(evidence, today, vulnerabilities))
    return {
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "folder": manifest.folder,
            "sequence": manifest.sequence,
            "install_to": manifest.install_to,
            "files": len(manifest.files),
            "size": sum(file.size for file in manifest.files),
            "manifest_sha256": hashlib.sha256(data).hexdigest(),
            "signatures": evidence.signature_count,
        },
        "date": today.isoformat(),
        "difference": _describe_difference(difference) if difference else None,
        "targets": [_describe_target(target, evidence) for target in manifest.targets],
        "projects": projects,
        "versions_apart": [_describe_versions(*project) for project in find_differing_versions(manifest).items()],
        "licences": _group_by_license(projects),
        "needs": list(_group_needs(manifest)),
        "included": [
            {"path": file.path, "size": file.size, "sha256": file.sha256}
            for file in manifest.files
            if file.kind == "included"
        ],
        "vulnerabilities": {**vulnerabilities.to_json(), "problem": vulnerabilities.problem}
        if vulnerabilities
        else None,
        "manifest": json.loads(serialize_manifest(manifest)),
    }


def render_texts(value: Any) -> Any:
    """Render all sentences in English, for JSON."""
    if isinstance(value, Text):
        return value.render()
    if isinstance(value, Mapping):
        return {key: render_texts(member) for key, member in value.items()}
    return [render_texts(member) for member in value] if isinstance(value, (list, tuple)) else value


def open_previous(path: Path) -> tuple[Manifest, Bundle | None]:
    """Open the bundle that was approved last: a bundle, its folder, its manifest.json, or the .json of its report."""
    if path.is_dir() or path.suffix.lower() != ".json":
        opened = open_bundle(path)
        return opened.manifest, opened
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return read_manifest(path), None  # raises the error about the file
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
    """Compare with the bundle that was approved last; if it is complete, also the contents of the wheels."""
    manifest, opened = open_previous(old)
    return compare_manifests(manifest, bundle.manifest, (opened, bundle) if opened else None)


def _describe_difference(difference: Difference) -> dict[str, Any]:
    findings = [
        {**finding.to_json(), "sentence": finding.sentence, "advice": finding.advice} for finding in difference.findings
    ]
    return {**difference.to_json(), "findings": findings, "lines": list(difference.format_lines())}


def _describe_target(target: TargetPlan, evidence: BundleFacts) -> dict[str, Any]:
    listed = (evidence.rehearsal or {}).get("targets")
    verdicts = (
        [entry for entry in listed if isinstance(entry, dict) and entry.get("tag") == target.tag]
        if isinstance(listed, list)
        else []
    )
    sizes = {file.path: file.size for file in evidence.manifest.files}
    return {
        "name": target.name,
        "tag": target.tag,
        "machines": Target(target.name, target.facts).description,
        "python_min": target.python_min,
        "distributions": len(target.install),
        "size": sum(sizes[path] for path in {distribution.file for distribution in target.install}),
        "tools": [f"{tool.name} {tool.version}" for tool in target.tools],
        "rehearsal": verdicts[0] if verdicts else None,
    }


def find_differing_versions(manifest: Manifest) -> dict[str, dict[str, list[str]]]:
    """Find projects with several versions: name -> version -> names of the targets that have it."""
    versions_by_name: dict[str, dict[str, list[str]]] = {}
    for target in manifest.targets:
        for distribution in target.install:
            versions = versions_by_name.setdefault(distribution.name, {})
            versions.setdefault(distribution.version, []).append(target.name)
    return {name: versions for name, versions in sorted(versions_by_name.items()) if len(versions) > 1}


def _describe_versions(name: str, versions: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Describe the versions of a project, and the targets that have an older one than others."""
    newest = max(versions, key=Version)
    older_targets = sorted(target for version in versions if version != newest for target in versions[version])
    return {"name": name, "versions": versions, "newest": newest, "held_down_by": older_targets}


def _group_by_license(projects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    packages_by_license: dict[str, set[str]] = {}
    for project in projects:
        for release in project["releases"]:
            packages_by_license.setdefault(", ".join(release["licences"]), set()).add(project["name"])
    return [
        {"licence": licence, "projects": sorted(names)}
        for licence, names in sorted(
            packages_by_license.items(), key=lambda pair: (pair[0] != "", -len(pair[1]), pair[0])
        )
    ]


def _group_needs(manifest: Manifest) -> Iterator[dict[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for target in manifest.targets:
        for need in target.needs:
            row = rows.setdefault(
                (need.soname, need.help or ""),
                {"soname": need.soname, "symbols": [], "wanted_by": [], "help": need.help, "targets": []},
            )
            row["symbols"] = sorted({*row["symbols"], *need.symbols})
            row["wanted_by"] = sorted({*row["wanted_by"], *need.wanted_by})
            row["targets"].append(target.name)
    yield from rows.values()


def _describe_projects(
    evidence: BundleFacts, today: date, vulnerabilities: VulnerabilityLookup | None
) -> Iterator[dict[str, Any]]:
    named = map_releases(evidence)
    files: dict[str, list[str]] = {}
    for path, (name, _) in named.items():
        files.setdefault(name, []).append(path)
    reason = _find_dependency_paths(evidence.manifest)
    for name in sorted(files):
        targets = evidence.manifest.targets
        yield {
            "name": name,
            "requested": any(
                distribution.requested
                for target in targets
                for distribution in target.install
                if distribution.name == name
            ),
            "tool": any(tool.name == name for target in targets for tool in target.tools),
            "because_of": reason.get(name, []),
            "versions": {
                t.tag: distribution.version for t in targets for distribution in t.install if distribution.name == name
            },
            "releases": [
                _describe_release(path, *named[path], evidence, today, vulnerabilities) for path in sorted(files[name])
            ],
        }


def _describe_release(
    path: str, name: str, version: str, evidence: BundleFacts, today: date, vulnerabilities: VulnerabilityLookup | None
) -> dict[str, Any]:
    targets = evidence.manifest.targets
    (file,) = (file for file in evidence.manifest.files if file.path == path)
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
        "targets": [target.tag for target in targets if file in evidence.manifest.list_files(target)],
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
        "attested_by": sorted(
            {format_publisher(attestation) for attestation in attested if isinstance(attestation, dict)}
        ),
        "built_from": story.get("built_from"),
        "native": look.native_count,
        "native_files": list(look.native_files),
        "commands": list(look.commands),
        "startup": list(look.startup_files),
        "executables": list(look.executables),
        "unusual": list(look.unusual_names),
        "components": len(look.components),
        "vulnerabilities": [
            vulnerability.to_json()
            for vulnerability in (vulnerabilities.vulnerabilities if vulnerabilities else ())
            if (vulnerability.name, vulnerability.version) == (name, version)
        ],
    }


def _find_dependency_paths(manifest: Manifest) -> dict[str, list[str]]:
    """Find for each project the shortest path from a requirement: [requirement, ..., project]."""
    versions: dict[str, list[str]] = {}
    for target in manifest.targets:
        installed = {distribution.name: distribution for distribution in target.install}
        waiting = deque([distribution.name] for distribution in sorted(target.install) if distribution.requested)
        visited: set[str] = set()
        while waiting:
            way = waiting.popleft()
            if way[-1] in visited:
                continue
            visited.add(way[-1])
            if way[-1] not in versions or len(way) < len(versions[way[-1]]):
                versions[way[-1]] = way
            waiting += [[*way, needed] for needed in installed[way[-1]].requires if needed not in visited]
    return versions


def map_releases(evidence: BundleFacts) -> dict[str, tuple[str, str]]:
    """Map the path of each wheel, sdist and tool to its name and version in the plans."""
    targets = evidence.manifest.targets
    tools = {tool.file: (tool.name, tool.version) for target in targets for tool in target.tools}
    return tools | {
        distribution.file: (distribution.name, distribution.version)
        for target in targets
        for distribution in target.install
    }


def describe_differing_versions(listed: Manifest) -> list[Text]:
    """Describe projects whose version differs between targets: "numpy: 2.2.6 for rhel8, 2.5.5 elsewhere"."""
    lines = []
    for name, versions in find_differing_versions(listed).items():
        # the version of most targets is "elsewhere", if that is shorter
        most = max(versions, key=lambda version: (len(versions[version]), version))
        rest = most if len(versions[most]) > 1 else None
        apart = [
            text("{version} for {targets}", version=version, targets=targets)
            for version, targets in sorted(versions.items())
            if version != rest
        ]
        apart += [text("{version} elsewhere", version=rest)] if rest else []
        lines.append(text("  {name}: {apart}", name=name, apart=apart))
    return lines
