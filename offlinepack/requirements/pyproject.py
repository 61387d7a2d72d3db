"""Read the dependencies of a project: [project], its extras and dependency groups (PEP 735)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.dependency_groups import DependencyGroupResolver
from packaging.errors import ExceptionGroup
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from offlinepack.errors import Finding, SourceError, UsageError, error, note
from offlinepack.requirements.model import (
    NO_PROJECT_WHEELS,
    ProjectIdentity,
    ProjectWheels,
    RequirementLine,
    Requirements,
)
from offlinepack.requirements.requirements_txt import parse_line
from offlinepack.requirements.uv_sources import LocalProject, UvSources, find_local_projects, read_uv_table
from offlinepack.targets.markers import combine_markers


def read_pyproject(
    folder: Path,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    project_wheels: ProjectWheels = NO_PROJECT_WHEELS,
) -> Requirements:
    """Read the project in a folder with these extras and dependency groups.

    The project itself is required as a folder to be built; if `project_wheels` has a wheel of its name and version,
    as that release. Of a project without [build-system] only the dependencies are required.
    """
    check_conflicts(folder, extras, groups)
    table = _read_table(folder)
    wrong = _report_unknown_extras(folder, table.get("project", {}), extras)
    lines: tuple[RequirementLine, ...] = ()
    notes: tuple[Finding, ...] = ()
    identity = read_identity(folder)
    try:
        if is_packaged(folder):
            identity, ready = find_release(folder, project_wheels)
            groups_lines = apply_sources(folder, _read_groups(table, groups))
            lines = (_make_project_line(folder, identity, extras, bool(ready)), *groups_lines)
        else:
            lines = read_dependencies(folder, extras, groups)
            notes = (
                note(
                    "not-packaged",
                    folder.name,
                    "The project {subject} has no [build-system]: what it depends on is packed, not its own files.",
                    "Give it a [build-system], or add its files with --include.",
                ),
            )
    except SourceError as bad:
        wrong += bad.findings
    if wrong:
        raise SourceError(*wrong)
    constraints, excluded, overrides = read_uv_settings(folder)
    local_projects = find_local_projects(folder)
    return Requirements(
        requirements=lines,
        constraints=(*constraints, *_constrain_local_projects(local_projects, lines)),
        identity=identity,
        excluded_projects=excluded | {local.name for local in local_projects if local.is_virtual},
        overrides=overrides,
        requires_python=read_requires_python(folder),
        notes=notes,
    )


def read_requires_python(folder: Path) -> str:
    """Return Requires-Python of a project; '' if it has none, SourceError if it is invalid."""
    written = _read_table(folder).get("project", {}).get("requires-python", "")
    try:
        return str(SpecifierSet(written))
    except (InvalidSpecifier, TypeError, AttributeError) as bad:
        raise SourceError(
            error(
                "bad-requires-python",
                folder.name,
                "The project {subject} has an invalid requires-python: {written}.",
                'Write a version specifier: ">=3.11".',
                written=written,
            )
        ) from bad


def check_conflicts(folder: Path, extras: Sequence[str], groups: Sequence[str]) -> None:
    """Raise UsageError for extras and groups that [tool.uv] conflicts declares as exclusive."""
    selected = {("extra", canonicalize_name(name)) for name in extras} | {("group", name) for name in groups}
    table = read_uv_table(folder)
    for conflict in table.get("conflicts", ()):
        members = [
            (kind, canonicalize_name(str(item[kind]))) for item in conflict for kind in item if kind != "package"
        ]
        selected_options = [f"--{kind} {name}" for kind, name in members if (kind, name) in selected]
        if len(selected_options) > 1:
            raise UsageError(
                error(
                    "conflicting-extras",
                    selected_options[0],
                    "{options} exclude each other: the project declares the conflict in [tool.uv] conflicts.",
                    "Name one of them.",
                    options=selected_options,
                )
            )


def _constrain_local_projects(
    local_projects: Sequence[LocalProject], lines: Sequence[RequirementLine]
) -> Iterator[RequirementLine]:
    """Yield constraints that keep every local project to its folder, also where only another project needs it."""
    direct = {line.name for line in lines}
    for local in local_projects:
        if not local.is_virtual and local.name not in direct:
            requirement = Requirement(f"{local.name} @ {local.folder.as_uri()}")
            yield RequirementLine(str(requirement), "pyproject.toml [tool.uv.sources]", requirement)


def read_uv_settings(folder: Path) -> tuple[tuple[RequirementLine, ...], frozenset[str], tuple[RequirementLine, ...]]:
    """Read constraint-dependencies, exclude-dependencies and override-dependencies of [tool.uv]."""
    table = read_uv_table(folder)
    lines: dict[str, tuple[RequirementLine, ...]] = {}
    findings: list[Finding] = []
    for key in ("constraint-dependencies", "exclude-dependencies", "override-dependencies"):
        read: list[RequirementLine] = []
        for value in table.get(key, ()):
            try:
                read.append(parse_line(str(value), f"pyproject.toml [tool.uv] {key}"))
            except SourceError as bad:
                findings += bad.findings
        lines[key] = tuple(read)
    if findings:
        raise SourceError(*findings)
    excluded = frozenset(str(line.name) for line in lines["exclude-dependencies"])
    return lines["constraint-dependencies"], excluded, lines["override-dependencies"]


def check_names(folder: Path, extras: Sequence[str], groups: Sequence[str]) -> None:
    """Raise SourceError with the extras and dependency groups that the project does not have."""
    check_conflicts(folder, extras, groups)
    table = _read_table(folder)
    wrong = _report_unknown_extras(folder, table.get("project", {}), extras)
    try:
        _read_groups(table, groups)
    except SourceError as bad:
        wrong += bad.findings
    if wrong:
        raise SourceError(*wrong)


def has_project(folder: Path) -> bool:
    """Check whether a folder has a pyproject.toml with [project]."""
    try:
        return (folder / "pyproject.toml").is_file() and "project" in _read_table(folder)
    except SourceError:
        return True  # it is there, and reading it says what is wrong


def read_identity(folder: Path) -> ProjectIdentity:
    """Read the name of [project], and its version if it is static."""
    project = _read_table(folder).get("project", {})
    name, version = project.get("name"), project.get("version")
    try:
        version = str(Version(version)) if isinstance(version, str) else None
    except InvalidVersion:
        version = None
    return ProjectIdentity(canonicalize_name(name) if isinstance(name, str) else None, version)


def is_packaged(folder: Path) -> bool:
    """Check whether a project is a package: [build-system] or setup.py, unless [tool.uv] package says otherwise."""
    table = _read_table(folder)
    package = table.get("tool", {}).get("uv", {}).get("package")
    if package is not None:
        return bool(package)
    return "build-system" in table or (folder / "setup.py").is_file() or (folder / "setup.cfg").is_file()


def read_dependencies(folder: Path, extras: Sequence[str], groups: Sequence[str]) -> tuple[RequirementLine, ...]:
    """Read the dependencies of [project], of the extras and groups, each with the table where it stands."""
    table = _read_table(folder)
    project = table.get("project", {})
    if project.get("dynamic") and "dependencies" in project["dynamic"]:
        raise SourceError(
            error(
                "dynamic-dependencies",
                folder.name,
                "The dependencies of {subject} are known only to its build (dynamic), and it has no [build-system].",
                "Give it a [build-system].",
            )
        )
    project_name = canonicalize_name(project.get("name", ""))
    optional = {canonicalize_name(key): lines for key, lines in project.get("optional-dependencies", {}).items()}
    tables = [("pyproject.toml [project] dependencies", project.get("dependencies", []))]
    wanted_extras = [canonicalize_name(extra) for extra in extras]
    for extra in wanted_extras:  # grows: stone[all] of stone itself names further extras
        tables.append((f"pyproject.toml [project.optional-dependencies] {extra}", optional.get(extra, [])))
        for line in optional.get(extra, []):
            if (inner := _parse_requirement(line)) and canonicalize_name(inner.name) == project_name:
                wanted_extras += sorted({canonicalize_name(extra) for extra in inner.extras} - set(wanted_extras))
    requirement_lines: list[RequirementLine] = []
    findings: list[Finding] = []
    for origin, lines in tables:
        for line in lines:
            try:
                requirement_line = parse_line(line, origin)
            except SourceError as bad:
                findings.extend(bad.findings)
                continue
            if requirement_line.name != project_name:
                requirement_lines.append(requirement_line)
    if findings:
        raise SourceError(*findings)
    return apply_sources(folder, (*requirement_lines, *_read_groups(table, groups)))


def apply_sources(folder: Path, lines: Sequence[RequirementLine]) -> tuple[RequirementLine, ...]:
    """Replace requirements by their sources in [tool.uv.sources]; of a virtual project take the dependencies."""
    sources = UvSources(folder)
    followed: list[RequirementLine] = []
    findings: list[Finding] = []
    for line in lines:
        try:
            for source in sources.apply(line):
                if isinstance(source, RequirementLine):
                    followed.append(source)
                    continue
                local, requirement = source
                inner = read_dependencies(local.folder, sorted(requirement.extras), ())
                followed += [_add_marker(dependency, requirement.marker) for dependency in inner]
        except SourceError as bad:
            findings += bad.findings
    if findings:
        raise SourceError(*findings)
    return tuple(dict.fromkeys(followed))


def _add_marker(line: RequirementLine, marker: Marker | None) -> RequirementLine:
    if marker is None or line.requirement is None:
        return line
    requirement = Requirement(str(line.requirement))
    requirement.marker = combine_markers(requirement.marker, marker)
    return replace(line, line=str(requirement), requirement=requirement)


def _parse_requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _make_project_line(folder: Path, identity: ProjectIdentity, extras: Sequence[str], ready: bool) -> RequirementLine:
    behind = f"[{','.join(sorted(map(canonicalize_name, extras)))}]" if extras else ""
    if ready:
        line = f"{identity.name}{behind}=={identity.version}"
        return RequirementLine(line, "pyproject.toml [project]", Requirement(line))
    address = folder.resolve().as_uri()
    line = f"{identity.name}{behind} @ {address}" if identity.name else f"{address}{behind}"
    return RequirementLine(line, "pyproject.toml [project]", Requirement(line) if identity.name else None)


def find_release(folder: Path, project_wheels: ProjectWheels) -> tuple[ProjectIdentity, list[Path]]:
    """Return the identity of a project and the wheels of this release.

    A version that only its build knows is computed if a wheel of the project exists.
    """
    identity = read_identity(folder)
    wheels = list(_find_wheels(identity, project_wheels.find_links))
    if wheels and not identity.version and project_wheels.find_version:
        version = project_wheels.find_version(folder)
        identity = identity._replace(version=str(Version(version)) if version else None)
    return identity, [path.absolute() for version, path in wheels if str(version) == identity.version]


def _find_wheels(identity: ProjectIdentity, find_links: Sequence[str]) -> Iterator[tuple[Version, Path]]:
    """Yield the wheels of a project in the local folders among `find_links`."""
    for place in find_links:
        folder = Path(url2pathname(urlsplit(place).path)) if place.startswith("file:") else Path(place)
        for path in sorted(folder.glob("*.whl")) if folder.is_dir() else ():
            try:
                name, version, _, _ = parse_wheel_filename(path.name)
            except InvalidWheelFilename:
                continue
            if name == identity.name:
                yield version, path


def _read_groups(table: dict[str, Any], groups: Sequence[str]) -> tuple[RequirementLine, ...]:
    lines: list[RequirementLine] = []
    findings: list[Finding] = []
    known_groups = table.get("dependency-groups", {})
    for group in groups:
        origin = f"pyproject.toml [dependency-groups] {group}"
        try:
            dependencies = DependencyGroupResolver(known_groups).resolve(group)
        except (ExceptionGroup, ValueError, LookupError, TypeError, InvalidRequirement) as bad:
            causes = getattr(bad, "exceptions", (bad,))
            if any(isinstance(cause, LookupError) for cause in causes):
                findings.append(
                    error(
                        "no-such-group",
                        group,
                        "There is no dependency group {subject}; there are: {known}.",
                        "Correct --group.",
                        known=sorted(known_groups) or "-",
                    )
                )
            else:
                findings.append(
                    error(
                        "bad-group",
                        origin,
                        "{subject} cannot be read.",
                        "See PEP 735 on what a dependency group may hold.",
                        log="\n".join(str(cause) for cause in causes),
                    )
                )
            continue
        lines += [RequirementLine(str(dependency), origin, Requirement(str(dependency))) for dependency in dependencies]
    if findings:
        raise SourceError(*findings)
    return tuple(lines)


def _report_unknown_extras(folder: Path, project: dict[str, Any], extras: Sequence[str]) -> list[Finding]:
    if "optional-dependencies" in project.get("dynamic", []) or not project:
        return []
    known_extras = {canonicalize_name(extra) for extra in project.get("optional-dependencies", {})}
    return [
        error(
            "no-such-extra",
            extra,
            "The project {folder} has no extra {subject}; it has: {known}.",
            "Correct --extra.",
            folder=folder.name,
            known=sorted(known_extras) or "-",
        )
        for extra in extras
        if canonicalize_name(extra) not in known_extras
    ]


def _read_table(folder: Path) -> dict[str, Any]:
    """Read pyproject.toml; empty for a project with setup.py or setup.cfg only; raise SourceError if there is no
    project.
    """
    path = folder / "pyproject.toml"
    try:
        table: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        return table
    except FileNotFoundError:
        if (folder / "setup.py").is_file() or (folder / "setup.cfg").is_file():
            return {}
        raise SourceError(
            error(
                "no-project",
                folder,
                "There is no project in {subject}: neither pyproject.toml nor setup.py.",
                "Name the folder that holds pyproject.toml.",
            )
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as bad:
        raise SourceError(
            error("bad-toml", path, "{subject} is not TOML: {words}.", "Mend that line.", words=str(bad))
        ) from bad
