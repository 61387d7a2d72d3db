"""Write the SBOM of a bundle as CycloneDX 1.6 (sbom.cdx.json).

The JSON is written without a library, which would take half a second; a test checks it against the schema with
cyclonedx-python-lib. The serial number is derived from the files, so that the same bundle gives the same SBOM.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from offlinepack._version import __version__
from offlinepack.ontarget.manifest import File, TargetPlan
from offlinepack.report.facts import BundleFacts, map_releases
from offlinepack.wheels.contents import WheelContents
from offlinepack.wheels.licenses import normalize_expression

_SCHEMA_URL = "http://cyclonedx.org/schema/bom-1.6.schema.json"

_COMPONENT_TYPES = {
    *("application", "framework", "library", "container", "platform", "operating-system", "device", "device-driver"),
    *("firmware", "file", "machine-learning-model", "data", "cryptographic-asset"),
}


def make_sbom(evidence: BundleFacts) -> bytes:
    """Make the SBOM of a bundle: a component for each file with its targets, dependencies and nested components."""
    manifest = evidence.manifest
    refs = dict(_make_references(evidence))
    root = f"bundle:{manifest.folder}"
    components = [_make_component(file, refs[file.path], evidence) for file in evidence.list_files()]
    components += [_make_file_component(file) for file in manifest.files if file.kind == "included"]
    return _format_document(
        {
            "$schema": _SCHEMA_URL,
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{_make_serial_number(evidence)}",
            "version": 1,
            "metadata": {
                "tools": {"components": [{"type": "application", "name": "offlinepack", "version": __version__}]},
                "component": {
                    "type": "application",
                    "bom-ref": root,
                    "name": manifest.name,
                    **({"version": manifest.version} if manifest.version else {}),
                },
                "properties": _format_properties(
                    ("target", f"{target.tag} ({target.name})") for target in manifest.targets
                ),
            },
            "components": components,
            "dependencies": _list_dependencies(root, evidence, refs),
        }
    )


def _format_document(document: Mapping[str, Any]) -> bytes:
    """Format the document with one line for each component, so that two SBOMs can be compared by line."""

    def plain(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n  " + ",\n  ".join(json.dumps(member, ensure_ascii=False) for member in value) + "\n ]"
        return json.dumps(value, ensure_ascii=False)

    keys = [f" {json.dumps(key)}: {plain(value)}" for key, value in document.items()]
    return ("{\n" + ",\n".join(keys) + "\n}\n").encode()


def make_purl(name: str, version: str) -> str:
    """Make the package URL (purl) of a release on an index."""
    return f"pkg:pypi/{quote(name, safe='')}@{quote(version, safe='')}"


def _make_serial_number(evidence: BundleFacts) -> uuid.UUID:
    manifest = evidence.manifest
    sums = [(file.path, file.sha256) for file in evidence.list_files()]
    identity = [manifest.name, manifest.version, [target.tag for target in manifest.targets], sums]
    return uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(json.dumps(identity).encode()).hexdigest())


def _make_references(evidence: BundleFacts) -> Iterator[tuple[str, str]]:
    """Make the bom-ref of each path: the package URL, with the file name if a release has several files."""
    named = map_releases(evidence)
    count: dict[tuple[str, str], int] = {}
    for release in named.values():
        count[release] = count.get(release, 0) + 1
    for path, release in named.items():
        ref = make_purl(*release)
        yield path, ref if count[release] == 1 else f"{ref}?file_name={quote(path.rpartition('/')[2], safe='')}"


def _make_component(file: File, ref: str, evidence: BundleFacts) -> dict[str, Any]:
    name, version = map_releases(evidence)[file.path]
    look = evidence.contents.get(file.path) or WheelContents()
    story = evidence.provenance.get(file.path) or {}
    component: dict[str, Any] = {"type": "library", "bom-ref": ref, "name": name, "version": version}
    if look.summary:
        component["description"] = look.summary
    component["scope"] = "required"
    component["hashes"] = [{"alg": "SHA-256", "content": file.sha256}]
    if licenses := _format_licenses(look.licenses):
        component["licenses"] = licenses
    component["purl"] = make_purl(name, version)
    references = []
    if story.get("url"):
        hashes = [{"alg": "SHA-256", "content": file.sha256}]
        references.append({"type": "distribution", "url": story["url"], "hashes": hashes})
    if look.homepage:
        references.append({"type": "website", "url": look.homepage})
    if references:
        component["externalReferences"] = references
    if story.get("built_from"):
        component["pedigree"] = {"ancestors": [_make_source_component(story)]}
    if inside := [_make_nested_component(component, f"{ref}#{at}") for at, component in enumerate(look.components, 1)]:
        component["components"] = inside
    component["properties"] = _format_properties(_list_properties(file, name, story, evidence.manifest.targets))
    return component


def _list_properties(
    file: File, name: str, story: Mapping[str, Any], targets: Iterable[TargetPlan]
) -> Iterator[tuple[str, str | None]]:
    yield "file", file.path
    for target in targets:
        for distribution in target.install:
            if distribution.file == file.path:
                yield "target", target.tag
                if distribution.requested:
                    yield "requested", target.tag
        if any(tool.file == file.path for tool in target.tools):
            yield "tool", target.tag
        for need in target.needs:
            if name in need.wanted_by:
                yield "needs", need.soname
    yield "origin", story.get("origin")
    yield "upload-time", story.get("upload_time")
    if story.get("yanked"):
        yield "yanked", story.get("yanked_reason") or "true"
    if story.get("status") not in (None, "active"):
        yield "project-status", story["status"]
    for key in ("python", "platform", "requires"):
        yield f"built-{key}", (story.get("built_from") or {}).get(key)


def _format_properties(facts: Iterable[tuple[str, str | None]]) -> list[dict[str, str]]:
    return [{"name": f"offlinepack:{name}", "value": value} for name, value in dict.fromkeys(facts) if value]


def _format_licenses(terms: Iterable[str]) -> list[dict[str, Any]]:
    """Format licenses: one identifier by id, one expression alone; several, and names that SPDX does not know, by
    name.
    """
    terms = list(terms)
    if len(terms) == 1 and (" " in normalize_expression(terms[0]) or terms[0].startswith("LicenseRef-")):
        return [{"expression": terms[0], "acknowledgement": "declared"}]
    plain = [("id" if term == normalize_expression(term) and " " not in term else "name", term) for term in terms]
    return [{"license": {kind: name, "acknowledgement": "declared"}} for kind, name in plain]


def _make_source_component(story: Mapping[str, Any]) -> dict[str, Any]:
    built, source = story["built_from"], story.get("source") or {}
    component: dict[str, Any] = {"type": "file", "name": built.get("name") or "?"}
    if built.get("sha256"):
        component["hashes"] = [{"alg": "SHA-256", "content": built["sha256"]}]
    if built.get("commit"):
        component["version"] = built["commit"]
    if source.get("url"):
        component["externalReferences"] = [{"type": "distribution", "url": source["url"]}]
    return component


def _make_nested_component(entry: Mapping[str, str], ref: str) -> dict[str, Any]:
    """Make the component of an SBOM inside a wheel (PEP 770)."""
    kind = entry.get("type", "library")
    component: dict[str, Any] = {
        "type": kind if kind in _COMPONENT_TYPES else "library",
        "bom-ref": ref,
        "name": entry["name"],
    }
    if entry.get("version"):
        component["version"] = entry["version"]
    if len(entry.get("sha256", "")) == 64:
        component["hashes"] = [{"alg": "SHA-256", "content": entry["sha256"]}]
    if entry.get("licence"):
        component["licenses"] = _format_licenses([normalize_expression(entry["licence"]) or entry["licence"]])
    if entry.get("purl"):
        component["purl"] = entry["purl"]
    component["properties"] = _format_properties([("sbom", entry.get("sbom"))])
    return component


def _make_file_component(file: File) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{quote(file.path)}",
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
    }


def _list_dependencies(root: str, evidence: BundleFacts, refs: Mapping[str, str]) -> list[dict[str, Any]]:
    needed: dict[str, set[str]] = {root: set()}
    for target in evidence.manifest.targets:
        ref_of = {distribution.name: refs[distribution.file] for distribution in target.install}
        needed[root] |= {ref_of[distribution.name] for distribution in target.install if distribution.requested}
        for tool in target.tools:
            needed.setdefault(refs[tool.file], set())
        for distribution in target.install:
            needed.setdefault(ref_of[distribution.name], set()).update(ref_of[name] for name in distribution.requires)
    return [
        {"ref": ref, **({"dependsOn": sorted(names)} if names else {})}
        for ref, names in sorted(needed.items(), key=lambda pair: (pair[0] != root, pair[0]))
    ]
