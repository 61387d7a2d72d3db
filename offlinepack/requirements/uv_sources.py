"""Follow [tool.uv.sources] of a project: folders, workspace members, addresses and repositories.

A dependency with such a source never comes from an index. Sources that name an index are part of the index settings
(index.uv_config). Reference: the uv documentation, "Dependency sources".
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from offlinepack.errors import Finding, SourceError, error
from offlinepack.requirements.model import RequirementLine
from offlinepack.targets.markers import combine_markers


class LocalProject(NamedTuple):
    """A project in a folder that a source names."""

    name: NormalizedName
    folder: Path
    is_virtual: bool
    """not installed itself: only its dependencies are"""


class UvSources:
    """The sources that apply to the project in a folder: its own, and those of its workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.workspace = _find_workspace(self.folder)
        self._members = _list_members(self.workspace) if self.workspace else {}
        workspace_sources = _get_uv_table(self.workspace).get("sources", {}) if self.workspace else {}
        own_sources = _get_uv_table(self.folder).get("sources", {})
        origins = [(workspace_sources, self.workspace or self.folder), (own_sources, self.folder)]
        self._sources: dict[NormalizedName, tuple[list[Mapping[str, Any]], Path]] = {}
        for sources, place in origins:
            for name, value in sources.items() if isinstance(sources, Mapping) else ():
                alternatives = value if isinstance(value, list) else [value]
                self._sources[canonicalize_name(name)] = ([a for a in alternatives if isinstance(a, Mapping)], place)

    def apply(self, line: RequirementLine) -> list[RequirementLine | tuple[LocalProject, Requirement]]:
        """Replace a requirement by its sources; a virtual project is returned as it is, with the requirement.

        Raises SourceError for a source that cannot be followed.
        """
        requirement = line.requirement
        if requirement is None or requirement.url or line.name not in self._sources:
            return [line]
        alternatives, place = self._sources[line.name]
        chosen = [source for source in alternatives if _is_for(source, line.origin)]
        if not any(set(source) & {"path", "workspace", "url", "git"} for source in chosen):
            return [line]
        if all(source.get("marker") for source in chosen):
            raise SourceError(_report_source(line, "every source has a marker, so other machines have none"))
        return [self._follow(line, requirement, source, place) for source in chosen]

    def _follow(
        self, line: RequirementLine, requirement: Requirement, source: Mapping[str, Any], place: Path
    ) -> RequirementLine | tuple[LocalProject, Requirement]:
        followed = Requirement(str(requirement))
        followed.marker = _combine_markers(followed.marker, source.get("marker"), line)
        if local := self._find_local(requirement.name, source, place):
            if local.is_virtual:
                return local, followed
            return _make_direct_line(line, followed, local.folder.as_uri())
        if "path" in source:
            path = (place / str(source["path"])).resolve()
            if not path.is_file():
                raise SourceError(_report_source(line, f"there is nothing at {source['path']}"))
            return _make_direct_line(line, followed, path.as_uri())
        if "workspace" in source:
            raise SourceError(_report_source(line, "no member of the workspace has this name"))
        if "git" in source:
            revision = source.get("rev") or source.get("tag") or source.get("branch")
            address = f"git+{str(source['git']).removeprefix('git+')}" + (f"@{revision}" if revision else "")
        elif "url" in source:
            address = str(source["url"])
        else:
            return replace(line, line=str(followed), requirement=followed)
        fragment = f"#subdirectory={source['subdirectory']}" if source.get("subdirectory") else ""
        return _make_direct_line(line, followed, address + fragment)

    def _find_local(self, name: str, source: Mapping[str, Any], place: Path) -> LocalProject | None:
        folder = None
        if "path" in source:
            path = (place / str(source["path"])).resolve()
            folder = path if path.is_dir() else None
        elif source.get("workspace"):
            folder = self._members.get(canonicalize_name(name))
        if folder is None:
            return None
        # uv builds what a source names, also without [build-system], unless `package = false` says otherwise
        package = source.get("package", _get_uv_table(folder).get("package", True))
        return LocalProject(canonicalize_name(name), folder, not package)

    def list_local_projects(self) -> list[LocalProject]:
        """List the folders that the sources name, with the names of their keys."""
        listed = []
        for name, (alternatives, place) in sorted(self._sources.items()):
            listed += [local for source in alternatives if (local := self._find_local(name, source, place))]
        return listed


def find_local_projects(folder: Path) -> list[LocalProject]:
    """Find all local projects that sources name, from the project in `folder` on, each once."""
    projects: dict[NormalizedName, LocalProject] = {}
    waiting, visited = [folder.resolve()], set[Path]()
    while waiting:
        place = waiting.pop()
        if place in visited:
            continue
        visited.add(place)
        for local in UvSources(place).list_local_projects():
            projects.setdefault(local.name, local)
            waiting.append(local.folder)
    return [projects[name] for name in sorted(projects)]


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; empty if it is missing or invalid (its own reader reports that)."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}


def _get_uv_table(folder: Path) -> Mapping[str, Any]:
    table = read_toml(folder / "pyproject.toml").get("tool", {}).get("uv", {})
    return table if isinstance(table, Mapping) else {}


def read_uv_table(folder: Path) -> Mapping[str, Any]:
    """Read the [tool.uv] settings that apply to a project: those of its workspace, otherwise its own."""
    return _get_uv_table(_find_workspace(folder.resolve()) or folder)


def _find_workspace(folder: Path) -> Path | None:
    for place in (folder, *folder.parents):
        if "workspace" in _get_uv_table(place):
            return place if place == folder or folder in _list_members(place).values() else None
    return None


def _list_members(root: Path) -> dict[NormalizedName, Path]:
    workspace = _get_uv_table(root).get("workspace", {})
    excluded = {path.resolve() for pattern in workspace.get("exclude", ()) for path in root.glob(pattern)}
    folders = [root, *(path for pattern in workspace.get("members", ()) for path in sorted(root.glob(pattern)))]
    members: dict[NormalizedName, Path] = {}
    for folder in (path.resolve() for path in folders):
        name = read_toml(folder / "pyproject.toml").get("project", {}).get("name")
        if isinstance(name, str) and folder not in excluded:
            members.setdefault(canonicalize_name(name), folder)
    return members


def _is_for(source: Mapping[str, Any], origin: str) -> bool:
    """Check whether a source with `extra` or `group` applies to the table that a requirement stands in."""
    tables: Sequence[tuple[str, str]] = (("extra", "[project.optional-dependencies]"), ("group", "[dependency-groups]"))
    return all(key not in source or origin.endswith(f"{table} {source[key]}") for key, table in tables)


def _combine_markers(first: Marker | None, second: Any, line: RequirementLine) -> Marker | None:
    try:
        return combine_markers(first, str(second or ""))
    except InvalidMarker as bad:
        raise SourceError(_report_source(line, str(bad).splitlines()[0])) from bad


def _make_direct_line(line: RequirementLine, requirement: Requirement, address: str) -> RequirementLine:
    requirement.specifier, requirement.url = type(requirement.specifier)(), address
    return replace(line, line=str(requirement), requirement=requirement)


def _report_source(line: RequirementLine, reason: str) -> Finding:
    return error(
        "source-not-followed",
        line.name,
        "The source of {subject} in [tool.uv.sources], needed by {origin}, cannot be used: {reason}.",
        "Correct it, or run `uv lock` and pack with uv.lock.",
        origin=line.origin,
        reason=reason,
    )
