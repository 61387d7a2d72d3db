"""The documents of a bundle that offlinepack reads back, provenance/*.json and rehearsal.json: their form, checked.

What they say is their packer's word; but whoever reads them finds values of the kinds that it expects, and no more
than fit into memory. Keys that are not known here may stand there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from offlinepack.errors import Finding, Text, error, text
from offlinepack.ontarget import manifest as layout
from offlinepack.ontarget.manifest import File, Manifest

LARGEST = 4 << 20
"""bytes of one of them"""


def _maybe(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _words(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _list(each: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(each, value))


def _like(**shape: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(ok(value[key]) for key, ok in shape.items() if key in value)


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


_TEXTS = ("origin", "index", "url", "upload_time", "yanked_reason", "status", "status_reason", "file", "sha256")
_STORY: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys((*_TEXTS, "attestation_file"), _maybe),
    **dict.fromkeys(("yanked", "attested"), _flag),
    "hashes": _words,
    "built_from": lambda value: value is None or _words(value),
    "attestations": _list(_like(publisher=lambda value: value is None or _words(value), predicate=_maybe)),
    "source": lambda value: value is None or _like(**_STORY)(value),
}
_FINDINGS = _list(_like(**dict.fromkeys(("level", "code", "subject", "sentence", "advice", "log"), _maybe)))
_VERDICT = _like(
    target=_maybe,
    tag=_maybe,
    verdict=_maybe,
    installs=_flag,
    runs=_flag,
    findings=_FINDINGS,
    forecast=_FINDINGS,
    live=lambda value: isinstance(value, dict),
    modules=lambda value: isinstance(value, dict) and all(_list(_maybe)(one) for one in value.values()),
    not_checked=_list(_maybe),
)


def is_read(path: str, manifest: Manifest) -> bool:
    """Whether this path is one of them; attestations are carried for others."""
    return path == layout.REHEARSAL or bool(_told_of(path, manifest))


def _told_of(path: str, manifest: Manifest) -> list[File]:
    folder, _, name = path.partition("/")
    name = name.removesuffix(".json")
    if folder != layout.PROVENANCE or not name:
        return []
    return [one for one in manifest.files if one.kind in ("wheel", "sdist", "tool") and one.path.endswith("/" + name)]


def check(file: File, read: Callable[[], bytes], manifest: Manifest) -> Iterator[Finding]:
    """What is odd about its form."""
    if file.size > LARGEST:
        yield _odd(file.path, text("it is far too long"))
        return
    try:
        said = json.loads(read(), object_pairs_hook=_once, parse_constant=_refused, parse_float=_refused)
    except (ValueError, RecursionError):
        yield _odd(file.path, text("it is not JSON"))
        return
    if _deep(said) or not isinstance(said, dict) or said.get("schema") != 1 or isinstance(said["schema"], bool):
        yield _odd(file.path, text("it has not the form of such a document"))
    elif file.path == layout.REHEARSAL:
        tags = {one.tag for one in manifest.targets}
        listed: Any = said.get("targets")
        if not _list(_VERDICT)(listed) or not all(isinstance(one.get("tag"), str) for one in listed):
            yield _odd(file.path, text("it has not the form of such a document"))
        elif not {one["tag"] for one in listed} <= tags or len({one["tag"] for one in listed}) < len(listed):
            yield _odd(file.path, text("no target of this bundle has such a file"))
    else:
        (told, *_) = _told_of(file.path, manifest)
        if not _like(**_STORY)(said):
            yield _odd(file.path, text("it has not the form of such a document"))
        elif said.get("sha256", told.sha256) != told.sha256:
            yield _odd(file.path, text("it tells of another file than {file}", file=told.path))


def _deep(value: Any, left: int = 20) -> bool:
    """Whether its values stand in one another deeper than ours do."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_deep(one, left - 1) for one in inner)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _refused(number: str) -> Any:
    raise ValueError(number)


def _odd(path: str, what: Text) -> Finding:
    return error(
        "document-odd",
        path,
        "{subject} is not what a bundle holds there: {what}.",
        "Do not install from this bundle; ask who made it.",
        what=what,
    )
