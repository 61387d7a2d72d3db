"""Check the form of the documents that offlinepack reads back: provenance/*.json and rehearsal.json.

The content is a claim of the packer. A reader gets values of the expected types and bounded size. Unknown keys are
allowed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from offlinepack.bundle.layout import PROVENANCE, REHEARSAL
from offlinepack.errors import Finding, Text, error, text
from offlinepack.ontarget.manifest import File, Manifest

MAX_DOCUMENT_SIZE = 4 << 20
"""The largest size in bytes of a document that is checked."""


def optional_str(value: Any) -> bool:
    """Check for a string or null."""
    return value is None or isinstance(value, str)


def str_mapping(value: Any) -> bool:
    """Check for an object whose values are strings."""
    return isinstance(value, dict) and all(isinstance(member, str) for member in value.values())


def list_of(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check for a list whose members are valid."""
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


def object_of(**shape: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check for an object whose known keys have valid values."""
    return lambda value: isinstance(value, dict) and all(ok(value[key]) for key, ok in shape.items() if key in value)


def optional_bool(value: Any) -> bool:
    """Check for a boolean or null."""
    return value is None or isinstance(value, bool)


_TEXT_KEYS = ("origin", "index", "url", "upload_time", "yanked_reason", "status", "status_reason", "file", "sha256")

_PROVENANCE: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys((*_TEXT_KEYS, "attestation_file"), optional_str),
    **dict.fromkeys(("yanked", "attested"), optional_bool),
    "hashes": str_mapping,
    "built_from": lambda value: value is None or str_mapping(value),
    "attestations": list_of(
        object_of(publisher=lambda value: value is None or str_mapping(value), predicate=optional_str)
    ),
    "source": lambda value: value is None or object_of(**_PROVENANCE)(value),
}

_FINDINGS = list_of(object_of(**dict.fromkeys(("level", "code", "subject", "sentence", "advice", "log"), optional_str)))

_VERDICT = object_of(
    target=optional_str,
    tag=optional_str,
    verdict=optional_str,
    installs=optional_bool,
    runs=optional_bool,
    findings=_FINDINGS,
    forecast=_FINDINGS,
    live=lambda value: isinstance(value, dict),
    modules=lambda value: isinstance(value, dict) and all(list_of(optional_str)(names) for names in value.values()),
    not_checked=list_of(optional_str),
)


def has_schema(path: str, manifest: Manifest) -> bool:
    """Check whether the file at this path has a schema; provenance/ also holds attestations, which have none."""
    return path == REHEARSAL or bool(_find_described_files(path, manifest))


def _find_described_files(path: str, manifest: Manifest) -> list[File]:
    folder, _, name = path.partition("/")
    name = name.removesuffix(".json")
    if folder != PROVENANCE or not name:
        return []
    return [
        file for file in manifest.files if file.kind in ("wheel", "sdist", "tool") and file.path.endswith("/" + name)
    ]


def check_schema(file: File, read: Callable[[], bytes], manifest: Manifest) -> Iterator[Finding]:
    """Yield the findings about the form of a document."""
    if file.size > MAX_DOCUMENT_SIZE:
        yield _make_schema_finding(file.path, text("it is far too long"))
        return
    try:
        document = json.loads(
            read(), object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_number, parse_float=_reject_number
        )
    except (ValueError, RecursionError):
        yield _make_schema_finding(file.path, text("it is not JSON"))
        return
    if (
        _is_too_deep(document)
        or not isinstance(document, dict)
        or document.get("schema") != 1
        or isinstance(document["schema"], bool)
    ):
        yield _make_schema_finding(file.path, text("it has not the form of such a document"))
    elif file.path == REHEARSAL:
        tags = {target.tag for target in manifest.targets}
        listed: Any = document.get("targets")
        if not list_of(_VERDICT)(listed) or not all(isinstance(verdict.get("tag"), str) for verdict in listed):
            yield _make_schema_finding(file.path, text("it has not the form of such a document"))
        elif not {verdict["tag"] for verdict in listed} <= tags or len({verdict["tag"] for verdict in listed}) < len(
            listed
        ):
            yield _make_schema_finding(file.path, text("no target of this bundle has such a file"))
    else:
        (described, *_) = _find_described_files(file.path, manifest)
        if not object_of(**_PROVENANCE)(document):
            yield _make_schema_finding(file.path, text("it has not the form of such a document"))
        elif document.get("sha256", described.sha256) != described.sha256:
            yield _make_schema_finding(file.path, text("it tells of another file than {file}", file=described.path))


def _is_too_deep(value: Any, depth: int = 20) -> bool:
    """Check whether values are nested deeper than in any document that offlinepack writes."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth == 0 or any(_is_too_deep(member, depth - 1) for member in inner)


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _reject_number(number: str) -> Any:
    raise ValueError(number)


def _make_schema_finding(path: str, reason: Text) -> Finding:
    return error(
        "document-odd",
        path,
        "{subject} is not what a bundle holds there: {what}.",
        "Do not install from this bundle; ask who made it.",
        what=reason,
    )
