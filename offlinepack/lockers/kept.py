"""A lock that offlinepack wrote, read again: for which target, with which pip, and whether it still is what is asked.

What PEP 751 has no word for stands in its [tool.offlinepack].
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.pylock import Pylock

from offlinepack import fetch
from offlinepack.errors import SourceError
from offlinepack.ontarget.manifest import pylock_name
from offlinepack.sources import Asked, Requirements, locks

if TYPE_CHECKING:
    from offlinepack.indexes import Indexes
    from offlinepack.targets import Target


def _own(pylock: Pylock) -> Mapping[str, Any]:
    own = (pylock.tool or {}).get("offlinepack")
    return own if isinstance(own, Mapping) else {}


def tag(pylock: Pylock) -> str | None:
    """The tag of the target that it was made for; None where another tool made it."""
    return _own(pylock).get("target")


def tools(pylock: Pylock) -> Pylock | None:
    """The lock of what installs the rest (pip), where it stands there."""
    packages = _own(pylock).get("tools")
    if not packages:
        return None
    return Pylock.from_dict({"lock-version": "1.0", "created-by": "offlinepack", "packages": packages})


def document(pylock: Pylock, target: Target, tools: Pylock, mark: str) -> dict[str, Any]:
    """The lock as it is written, with all that this file reads of it again."""
    own = {"target": target.tag, "tools": tools.to_dict()["packages"], **({"asked": mark} if mark else {})}
    made = dict(pylock.to_dict())
    return {**made, "tool": {**made.get("tool", {}), "offlinepack": own}}


def find(folder: Path, target: Target, mark: str) -> Pylock | None:
    """The lock of this target in a folder, where it was made for just what is asked now."""
    path = folder / pylock_name(target.tag)
    try:
        (found,) = locks.read(path).pylocks
    except SourceError:  # none is there, or none that can be read
        return None
    return found if _own(found).get("asked") == mark and tag(found) == target.tag else None


def mark(asked: Requirements, target: Target, indexes: Indexes, resolver: str) -> str:
    """A digest of all that decides on versions, but for what the indexes have; 64 hex digits. No secret goes in."""
    said = {
        "asked": [_line(one) for one in asked.asked],
        "constraints": [_line(one) for one in asked.constraints],
        "policies": [
            *(asked.extras, asked.groups, asked.no_deps, asked.pre, asked.require_hashes),
            *(asked.only_binary, asked.no_binary, asked.uploaded_prior_to),
        ],
        "indexes": [[(one.url, one.explicit, one.name) for one in indexes.indexes], indexes.no_index],
        "sources": [sorted(indexes.sources.items()), sorted(indexes.conditional_sources.items())],
        "find-links": [(fetch.redacted(one), _names(one)) for one in indexes.find_links],
        "target": tuple(target.facts),
        "resolver": resolver,
    }
    return hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()


def _line(one: Asked) -> tuple[Any, ...]:
    return (one.shown, one.hashes, one.config_settings, _metadata(one.url))


def _names(place: str) -> list[str]:
    folder = fetch.local_path(place)
    return sorted(one.name for one in folder.iterdir()) if folder and folder.is_dir() else []


def _metadata(url: str | None) -> list[tuple[str, str]]:
    """What a project's own folder says of its dependencies: its project files, and their digests."""
    folder = fetch.local_path(url) if url else None
    if not folder or not folder.is_dir():
        return []
    names = ["pyproject.toml", "setup.cfg", "setup.py"]
    files = [*(folder / one for one in names), *sorted(folder.glob("*.txt")), *sorted(folder.glob("requirements/*"))]
    return [(one.name, hashlib.sha256(one.read_bytes()).hexdigest()) for one in files if one.is_file()]

