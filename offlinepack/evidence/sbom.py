"""sbom.cdx.json: the bundle as CycloneDX 1.6. Written plainly, since it has to cost nothing; the tests hold it against
the schema with cyclonedx-python-lib, which takes half a second for the same.

Nothing of today is in it: its serial number is made from what the bundle holds.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from offlinepack._version import __version__
from offlinepack.evidence import Evidence
from offlinepack.evidence.licences import spdx
from offlinepack.evidence.look import Look
from offlinepack.ontarget.manifest import File, TargetPlan

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"

_TYPES = {
    *("application", "framework", "library", "container", "platform", "operating-system", "device", "device-driver"),
    *("firmware", "file", "machine-learning-model", "data", "cryptographic-asset"),
}


def write(evidence: Evidence) -> bytes:
    """The SBOM of a bundle: each file a component with its targets, what needs what, and what wheels bring inside."""
    manifest = evidence.manifest
    refs = dict(_refs(evidence))
    root = f"bundle:{manifest.folder}"
    components = [_component(file, refs[file.path], evidence) for file in evidence.files()]
    components += [_included(file) for file in manifest.files if file.kind == "included"]
    return _text(
        {
            "$schema": _SCHEMA,
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{_serial(evidence)}",
            "version": 1,
            "metadata": {
                "tools": {"components": [{"type": "application", "name": "offlinepack", "version": __version__}]},
                "component": {
                    "type": "application",
                    "bom-ref": root,
                    "name": manifest.name,
                    **({"version": manifest.version} if manifest.version else {}),
                },
                "properties": _properties(("target", f"{one.tag} ({one.name})") for one in manifest.targets),
            },
            "components": components,
            "dependencies": _dependencies(root, evidence, refs),
        }
    )


def _text(document: Mapping[str, Any]) -> bytes:
    """A line for each component: two SBOMs can be compared line by line (and json.dumps is slow where it indents)."""

    def plain(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n  " + ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in value) + "\n ]"
        return json.dumps(value, ensure_ascii=False)

    keys = [f" {json.dumps(key)}: {plain(value)}" for key, value in document.items()]
    return ("{\n" + ",\n".join(keys) + "\n}\n").encode()


def purl(name: str, version: str) -> str:
    """The package URL of a release on the index."""
    return f"pkg:pypi/{quote(name, safe='')}@{quote(version, safe='')}"


def _serial(evidence: Evidence) -> uuid.UUID:
    manifest = evidence.manifest
    sums = [(one.path, one.sha256) for one in evidence.files()]
    held = [manifest.name, manifest.version, [one.tag for one in manifest.targets], sums]
    return uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(json.dumps(held).encode()).hexdigest())


def releases(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Path of each wheel, sdist and tool -> name and version, as the plan has them."""
    targets = evidence.manifest.targets
    tools = {one.file: (one.name, one.version) for target in targets for one in target.tools}
    return tools | {one.file: (one.name, one.version) for target in targets for one in target.install}


def _refs(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Path -> bom-ref: the package URL, with the file's name where a release has several files here."""
    named = releases(evidence)
    count: dict[tuple[str, str], int] = {}
    for release in named.values():
        count[release] = count.get(release, 0) + 1
    for path, release in named.items():
        ref = purl(*release)
        yield path, ref if count[release] == 1 else f"{ref}?file_name={quote(path.rpartition('/')[2], safe='')}"


def _component(file: File, ref: str, evidence: Evidence) -> dict[str, Any]:
    name, version = releases(evidence)[file.path]
    look = evidence.looks.get(file.path) or Look()
    story = evidence.stories.get(file.path) or {}
    found: dict[str, Any] = {"type": "library", "bom-ref": ref, "name": name, "version": version}
    if look.summary:
        found["description"] = look.summary
    found["scope"] = "required"
    found["hashes"] = [{"alg": "SHA-256", "content": file.sha256}]
    if said := _licences(look.licences):
        found["licenses"] = said
    found["purl"] = purl(name, version)
    references = []
    if story.get("url"):
        hashes = [{"alg": "SHA-256", "content": file.sha256}]
        references.append({"type": "distribution", "url": story["url"], "hashes": hashes})
    if look.homepage:
        references.append({"type": "website", "url": look.homepage})
    if references:
        found["externalReferences"] = references
    if story.get("built_from"):
        found["pedigree"] = {"ancestors": [_source(story)]}
    if inside := [_inside(one, f"{ref}#{at}") for at, one in enumerate(look.components, 1)]:
        found["components"] = inside
    found["properties"] = _properties(_facts(file, name, story, evidence.manifest.targets))
    return found


def _facts(
    file: File, name: str, story: Mapping[str, Any], targets: Iterable[TargetPlan]
) -> Iterator[tuple[str, str | None]]:
    yield "file", file.path
    for target in targets:
        for one in target.install:
            if one.file == file.path:
                yield "target", target.tag
                if one.requested:
                    yield "requested", target.tag
        if any(one.file == file.path for one in target.tools):
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


def _properties(facts: Iterable[tuple[str, str | None]]) -> list[dict[str, str]]:
    return [{"name": f"offlinepack:{name}", "value": value} for name, value in dict.fromkeys(facts) if value]


def _licences(terms: Iterable[str]) -> list[dict[str, Any]]:
    """A single identifier by its id, an expression alone as such; several, and what SPDX has no word for, by name."""
    terms = list(terms)
    if len(terms) == 1 and (" " in spdx(terms[0]) or terms[0].startswith("LicenseRef-")):
        return [{"expression": terms[0], "acknowledgement": "declared"}]
    plain = [("id" if one == spdx(one) and " " not in one else "name", one) for one in terms]
    return [{"license": {kind: one, "acknowledgement": "declared"}} for kind, one in plain]


def _source(story: Mapping[str, Any]) -> dict[str, Any]:
    built, source = story["built_from"], story.get("source") or {}
    found: dict[str, Any] = {"type": "file", "name": built.get("name") or "?"}
    if built.get("sha256"):
        found["hashes"] = [{"alg": "SHA-256", "content": built["sha256"]}]
    if built.get("commit"):
        found["version"] = built["commit"]
    if source.get("url"):
        found["externalReferences"] = [{"type": "distribution", "url": source["url"]}]
    return found


def _inside(one: Mapping[str, str], ref: str) -> dict[str, Any]:
    """A component of an SBOM that the wheel brings (PEP 770)."""
    kind = one.get("type", "library")
    found: dict[str, Any] = {"type": kind if kind in _TYPES else "library", "bom-ref": ref, "name": one["name"]}
    if one.get("version"):
        found["version"] = one["version"]
    if len(one.get("sha256", "")) == 64:
        found["hashes"] = [{"alg": "SHA-256", "content": one["sha256"]}]
    if one.get("licence"):
        found["licenses"] = _licences([spdx(one["licence"]) or one["licence"]])
    if one.get("purl"):
        found["purl"] = one["purl"]
    found["properties"] = _properties([("sbom", one.get("sbom"))])
    return found


def _included(file: File) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{quote(file.path)}",
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
    }


def _dependencies(root: str, evidence: Evidence, refs: Mapping[str, str]) -> list[dict[str, Any]]:
    needed: dict[str, set[str]] = {root: set()}
    for target in evidence.manifest.targets:
        here = {one.name: refs[one.file] for one in target.install}
        needed[root] |= {here[one.name] for one in target.install if one.requested}
        for tool in target.tools:
            needed.setdefault(refs[tool.file], set())
        for one in target.install:
            needed.setdefault(here[one.name], set()).update(here[name] for name in one.requires)
    return [
        {"ref": ref, **({"dependsOn": sorted(names)} if names else {})}
        for ref, names in sorted(needed.items(), key=lambda one: (one[0] != root, one[0]))
    ]
