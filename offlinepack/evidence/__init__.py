"""What the person at the gate wants to see: views of a bundle, each a pure function."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offlinepack.bundle.document_schema import MAX_DOCUMENT_SIZE
from offlinepack.bundle.layout import REHEARSAL
from offlinepack.bundle.reader import Bundle
from offlinepack.evidence.look import Look, of, of_sdist
from offlinepack.evidence.provenance import path_of
from offlinepack.ontarget.manifest import File, Manifest
from offlinepack.ontarget.wheel import read_wheel


@dataclass(frozen=True)
class Evidence:
    """A bundle, and what is known of its wheels beside the plan; of one that is being packed, or of one on the disk."""

    manifest: Manifest
    looks: Mapping[str, Look]
    """path of each wheel -> what it brings"""
    stories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """the same -> where it is from (provenance.Story)"""
    rehearsal: Mapping[str, Any] | None = None
    signatures: int = 0

    def files(self) -> Iterator[File]:
        """Every wheel, sdist and tool, in order."""
        return (one for one in self.manifest.files if one.kind in ("wheel", "sdist", "tool"))


def of_bundle(bundle: Bundle) -> Iterator[File | Evidence]:
    """Read a bundle once, from its beginning to its end: each file when it is done, then the evidence, last.

    IntegrityError where a file is not what the manifest says, or a wheel is not sound.
    """
    found: dict[str, Look] = {}
    documents: dict[str, Any] = {}
    wanted = {path_of(one.path): one.path for one in bundle.manifest.files if one.kind in ("wheel", "sdist", "tool")}
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for member in bundle.read_members():
            file = member.file
            if file.kind in ("wheel", "tool") and file.path.endswith(".whl"):
                path = member.write_file(Path(folder))
                found[file.path] = of(read_wheel(path))
                path.unlink()
            elif file.kind == "sdist":
                path = member.write_file(Path(folder))
                found[file.path] = of_sdist(path)
                path.unlink()
            elif (file.path in wanted or file.path == REHEARSAL) and file.size <= MAX_DOCUMENT_SIZE:
                documents[file.path] = _document(member.read())
            else:
                member.verify()
            yield file
    stories = {wanted[path]: one for path, one in documents.items() if path in wanted and one}
    yield Evidence(bundle.manifest, found, stories, documents.get(REHEARSAL), len(bundle.signatures))


def _document(data: bytes) -> Any:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
