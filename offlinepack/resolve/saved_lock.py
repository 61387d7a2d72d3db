"""Save the lock of a target, and find it again while its requirements are unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Pylock

from offlinepack.bundle.layout import make_pylock_name
from offlinepack.errors import SourceError
from offlinepack.net.urls import get_local_path, redact_url
from offlinepack.requirements.model import RequirementLine, Requirements
from offlinepack.requirements.read import read_lock

if TYPE_CHECKING:
    from offlinepack.index.model import Indexes
    from offlinepack.targets.model import Target


def _read_own_table(pylock: Pylock) -> Mapping[str, Any]:
    own = (pylock.tool or {}).get("offlinepack")
    return own if isinstance(own, Mapping) else {}


def read_target_tag(pylock: Pylock) -> str | None:
    """The tag of the target that it was made for; None where another tool made it."""
    return _read_own_table(pylock).get("target")


def read_tools_lock(pylock: Pylock) -> Pylock | None:
    """The lock of what installs the rest (pip), where it stands there."""
    packages = _read_own_table(pylock).get("tools")
    if not packages:
        return None
    return Pylock.from_dict({"lock-version": "1.0", "created-by": "offlinepack", "packages": packages})


def make_document(pylock: Pylock, target: Target, tools: Pylock, mark: str) -> dict[str, Any]:
    """The lock as it is written, with all that this file reads of it again."""
    own = {"target": target.tag, "tools": tools.to_dict()["packages"], **({"asked": mark} if mark else {})}
    made = dict(pylock.to_dict())
    return {**made, "tool": {**made.get("tool", {}), "offlinepack": own}}


def find_saved_lock(folder: Path, target: Target, mark: str) -> Pylock | None:
    """The lock of this target in a folder, where it was made for just what is asked now."""
    path = folder / make_pylock_name(target.tag)
    try:
        (found,) = read_lock(path).pylocks
    except SourceError:  # none is there, or none that can be read
        return None
    return found if _read_own_table(found).get("asked") == mark and read_target_tag(found) == target.tag else None


def compute_fingerprint(asked: Requirements, target: Target, indexes: Indexes, resolver: str) -> str:
    """A digest of all that decides on versions, but for what the indexes have; 64 hex digits. No secret goes in."""
    said = {
        "asked": [_list_line_facts(one) for one in asked.requirements],
        "constraints": [_list_line_facts(one) for one in asked.constraints],
        "policies": [
            *(asked.extras, asked.groups, asked.no_deps, asked.pre, asked.require_hashes),
            *(asked.only_binary, asked.no_binary, asked.uploaded_prior_to),
        ],
        "indexes": [[(one.url, one.is_explicit, one.name) for one in indexes.indexes], indexes.no_index],
        "sources": [sorted(indexes.sources.items()), sorted(indexes.conditional_sources.items())],
        "find-links": [(redact_url(one), _list_folder(one)) for one in indexes.find_links],
        "target": tuple(target.facts),
        "resolver": resolver,
    }
    return hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()


def _list_line_facts(one: RequirementLine) -> tuple[Any, ...]:
    return (one.redacted_line, one.hashes, one.config_settings, _hash_project_files(one.url))


def _list_folder(place: str) -> list[str]:
    folder = get_local_path(place)
    return sorted(one.name for one in folder.iterdir()) if folder and folder.is_dir() else []


def _hash_project_files(url: str | None) -> list[tuple[str, str]]:
    """What a project's own folder says of its dependencies: its project files, and their digests."""
    folder = get_local_path(url) if url else None
    if not folder or not folder.is_dir():
        return []
    names = ["pyproject.toml", "setup.cfg", "setup.py"]
    files = [*(folder / one for one in names), *sorted(folder.glob("*.txt")), *sorted(folder.glob("requirements/*"))]
    return [(one.name, hashlib.sha256(one.read_bytes()).hexdigest()) for one in files if one.is_file()]
