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
    table = (pylock.tool or {}).get("offlinepack")
    return table if isinstance(table, Mapping) else {}


def read_target_tag(pylock: Pylock) -> str | None:
    """Return the tag of the target that a lock was made for; None for a lock of another tool."""
    return _read_own_table(pylock).get("target")


def read_tools_lock(pylock: Pylock) -> Pylock | None:
    """Return the lock of the tools (pip) that a lock contains, or None."""
    packages = _read_own_table(pylock).get("tools")
    if not packages:
        return None
    return Pylock.from_dict({"lock-version": "1.0", "created-by": "offlinepack", "packages": packages})


def make_document(pylock: Pylock, target: Target, tools: Pylock, mark: str) -> dict[str, Any]:
    """Make the document of a lock with all that this module reads again."""
    table = {"target": target.tag, "tools": tools.to_dict()["packages"], **({"asked": mark} if mark else {})}
    document = dict(pylock.to_dict())
    return {**document, "tool": {**document.get("tool", {}), "offlinepack": table}}


def find_saved_lock(folder: Path, target: Target, mark: str) -> Pylock | None:
    """Find the saved lock of a target in a folder, if it was made for the same requirements."""
    path = folder / make_pylock_name(target.tag)
    try:
        (pylock,) = read_lock(path).pylocks
    except SourceError:  # none is there, or none that can be read
        return None
    return pylock if _read_own_table(pylock).get("asked") == mark and read_target_tag(pylock) == target.tag else None


def compute_fingerprint(requirements: Requirements, target: Target, indexes: Indexes, resolver: str) -> str:
    """Compute a digest (64 hex digits) of all that determines versions, except the content of the indexes; it has no
    secret.
    """
    policy = requirements.policy
    facts = {
        "asked": [_list_line_facts(line) for line in requirements.requirements],
        "constraints": [_list_line_facts(line) for line in requirements.constraints],
        "uv": [sorted(requirements.excluded_projects), [_list_line_facts(line) for line in requirements.overrides]],
        "policies": [
            *(requirements.extras, requirements.groups, policy.no_deps, policy.pre, policy.require_hashes),
            *(policy.format_control.only_binary, policy.format_control.no_binary, policy.uploaded_prior_to),
        ],
        "indexes": [[(index.url, index.is_explicit, index.name) for index in indexes.indexes], indexes.no_index],
        "sources": [sorted(indexes.sources.items()), sorted(indexes.conditional_sources.items())],
        "find-links": [(redact_url(link), _list_folder(link)) for link in indexes.find_links],
        "target": tuple(target.facts),
        "resolver": resolver,
    }
    return hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()


def _list_line_facts(line: RequirementLine) -> tuple[Any, ...]:
    return (line.redacted_line, line.hashes, line.config_settings, _hash_project_files(line.url))


def _list_folder(place: str) -> list[str]:
    folder = get_local_path(place)
    return sorted(path.name for path in folder.iterdir()) if folder and folder.is_dir() else []


def _hash_project_files(url: str | None) -> list[tuple[str, str]]:
    """List the project files of a folder with their digests."""
    folder = get_local_path(url) if url else None
    if not folder or not folder.is_dir():
        return []
    names = ["pyproject.toml", "setup.cfg", "setup.py"]
    files = [*(folder / name for name in names), *sorted(folder.glob("*.txt")), *sorted(folder.glob("requirements/*"))]
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files if path.is_file()]
