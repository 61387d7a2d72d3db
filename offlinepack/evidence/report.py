"""The report on a bundle as facts: what `offlinepack report -o FILE.json` writes, and what the pages are made from.

Here, and not in the bundle, stands what depends on today: ages, and what is known of vulnerabilities.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from offlinepack.bundle.reader import Bundle, open_bundle, read_manifest
from offlinepack.errors import BundleError, Text, error
from offlinepack.evidence import Evidence
from offlinepack.evidence.diff import Difference, compare
from offlinepack.evidence.look import Look
from offlinepack.evidence.policy import age
from offlinepack.evidence.provenance import publisher
from offlinepack.evidence.sbom import releases
from offlinepack.evidence.vulnerabilities import Lookup
from offlinepack.ontarget.manifest import Manifest, TargetPlan, parse_manifest, serialize_manifest
from offlinepack.targets import Target


def facts(
    evidence: Evidence, data: bytes, today: date, known: Lookup | None, difference: Difference | None = None
) -> dict[str, Any]:
    """The whole report; `data` is manifest.json as it is: its sha256 is what an approval is about.

    Sentences in it are Texts still; `plain` makes JSON of it.
    """
    manifest = evidence.manifest
    projects = list(_projects(evidence, today, known))
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
            "signatures": evidence.signatures,
        },
        "date": today.isoformat(),
        "difference": _difference(difference) if difference else None,
        "targets": [_target(one, evidence) for one in manifest.targets],
        "projects": projects,
        "versions_apart": list(_apart(manifest)),
        "licences": _licences(projects),
        "needs": list(_needs(manifest)),
        "included": [
            {"path": one.path, "size": one.size, "sha256": one.sha256}
            for one in manifest.files
            if one.kind == "included"
        ],
        "vulnerabilities": {**known.to_json(), "problem": known.problem} if known else None,
        "manifest": json.loads(serialize_manifest(manifest)),
    }


def plain(value: Any) -> Any:
    """The same with its sentences in English, as JSON has it."""
    if isinstance(value, Text):
        return value.render()
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def before(path: Path) -> tuple[Manifest, Bundle | None]:
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


def differing(old: Path, bundle: Bundle) -> Difference:
    """What changed since then; with both bundles at hand also what the wheels bring inside."""
    manifest, opened = before(old)
    return compare(manifest, bundle.manifest, (opened, bundle) if opened else None)


def _difference(found: Difference) -> dict[str, Any]:
    said = [{**one.to_json(), "sentence": one.sentence, "advice": one.advice} for one in found.findings]
    return {**found.to_json(), "findings": said, "lines": list(found.lines())}


def _target(target: TargetPlan, evidence: Evidence) -> dict[str, Any]:
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
        "machines": Target(target.name, target.facts).machines,
        "python_min": target.python_min,
        "distributions": len(target.install),
        "size": sum(sizes[path] for path in {one.file for one in target.install}),
        "tools": [f"{one.name} {one.version}" for one in target.tools],
        "rehearsal": verdicts[0] if verdicts else None,
    }


def _apart(manifest: Manifest) -> Iterator[dict[str, Any]]:
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


def _licences(projects: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, set[str]] = {}
    for project in projects:
        for release in project["releases"]:
            found.setdefault(", ".join(release["licences"]), set()).add(project["name"])
    return [
        {"licence": licence, "projects": sorted(names)}
        for licence, names in sorted(found.items(), key=lambda one: (one[0] != "", -len(one[1]), one[0]))
    ]


def _needs(manifest: Manifest) -> Iterator[dict[str, Any]]:
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


def _projects(evidence: Evidence, today: date, known: Lookup | None) -> Iterator[dict[str, Any]]:
    named = releases(evidence)
    files: dict[str, list[str]] = {}
    for path, (name, _) in named.items():
        files.setdefault(name, []).append(path)
    why = _reasons(evidence.manifest)
    for name in sorted(files):
        targets = evidence.manifest.targets
        yield {
            "name": name,
            "requested": any(one.requested for target in targets for one in target.install if one.name == name),
            "tool": any(one.name == name for target in targets for one in target.tools),
            "because_of": why.get(name, []),
            "versions": {t.tag: one.version for t in targets for one in t.install if one.name == name},
            "releases": [_release(path, *named[path], evidence, today, known) for path in sorted(files[name])],
        }


def _release(
    path: str, name: str, version: str, evidence: Evidence, today: date, known: Lookup | None
) -> dict[str, Any]:
    targets = evidence.manifest.targets
    (file,) = (one for one in evidence.manifest.files if one.path == path)
    look, story = evidence.looks.get(path) or Look(), evidence.stories.get(path) or {}
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
        "licences": list(look.licences),
        "licence_source": look.licence_source,
        "origin": story.get("origin"),
        "index": story.get("index") or source.get("index"),
        "uploaded": uploaded,
        "age_days": age(uploaded, today),
        "yanked": bool(story.get("yanked") or source.get("yanked")),
        "yanked_reason": story.get("yanked_reason") or source.get("yanked_reason") or "",
        "status": story.get("status") or source.get("status"),
        "status_reason": story.get("status_reason") or source.get("status_reason") or "",
        "attested_by": sorted({publisher(one) for one in attested if isinstance(one, dict)}),
        "built_from": story.get("built_from"),
        "native": look.native,
        "native_files": list(look.native_files),
        "commands": list(look.commands),
        "startup": list(look.startup),
        "executables": list(look.executables),
        "unusual": list(look.unusual),
        "components": len(look.components),
        "vulnerabilities": [
            one.to_json() for one in (known.known if known else ()) if (one.name, one.version) == (name, version)
        ],
    }


def _reasons(manifest: Manifest) -> dict[str, list[str]]:
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
