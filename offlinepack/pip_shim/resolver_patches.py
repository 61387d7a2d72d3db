"""Report the solution or the conflict of pip's resolver as facts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from offlinepack.pip_shim.patching import import_pip_module

_UNSATISFIABLE_CLASS = "UnsatisfiableRequirement"


def describe_cause(cause: Any, factory: Any, constraints: Any) -> dict[str, Any]:
    """Describe one of the conflicting requirements and the release that has it."""
    requirement, parent = cause
    install_requirement = requirement.get_candidate_lookup()[1]
    name = requirement.project_name
    constraint = constraints.get(name)
    specifier: Any = getattr(install_requirement or requirement, "specifier", "")
    offered = factory._finder.find_all_candidates(name) if install_requirement is not None else ()
    return {
        "project": name,
        "files": sum(not specifier or specifier.contains(candidate.version, prereleases=True) for candidate in offered),
        "requirement": requirement.format_for_error(),
        "specifier": str(specifier),
        "dependent": f"{parent.name} {parent.version}" if parent else "",
        "constraint": str(constraint.specifier) if constraint else "",
        # set for a direct URL whose metadata cannot be read
        "reason": str([*factory._build_failures.values(), ""][0])
        if type(requirement).__name__ == _UNSATISFIABLE_CLASS
        else "",
    }


def skip_downloads(preparer: Any, requirements: Iterable[Any], *_: Any, **__: Any) -> None:
    """Complete the requirements of a dry run without downloads: older versions of pip fetch every file at its end."""
    describe = import_pip_module("_internal.utils.direct_url_helpers").direct_url_from_link
    for line in requirements:
        if line.download_info is None and line.link is not None:
            line.download_info = describe(line.link, line.source_dir)


def list_pins(resolver: Any, reading: Any) -> Iterable[dict[str, Any]]:
    """Yield each project of the solution with its fitting files."""
    specifiers: dict[str, list[Any]] = {}
    for criterion in resolver._result.criteria.values():
        for information in criterion.information:
            install_requirement = information.requirement.get_candidate_lookup()[1]
            if install_requirement is not None:
                specifiers.setdefault(information.requirement.project_name, []).append(install_requirement.specifier)
    for candidate in resolver._result.mapping.values():
        install_requirement = candidate.get_install_requirement()
        if install_requirement is None:  # an extra of another candidate, or the Python version
            continue
        name, version = candidate.project_name, candidate.version
        pin = {"name": name, "version": str(version), "python": str(candidate.dist.requires_python)}
        session = resolver.factory.preparer._session
        if install_requirement.is_direct:
            direct = install_requirement.download_info.to_dict()
            if "archive_info" in direct:  # pip has no hash yet if only the metadata of the file was read
                direct["archive_info"] = {"hashes": reading.describe_file(candidate.source_link, session)["hashes"]}
            yield {**pin, "direct": direct, "files": [], "newer": None, "held_back": None}
            continue
        offered = resolver.factory._finder.find_all_candidates(name)
        files = [
            reading.describe_file(candidate.link, session) for candidate in offered if candidate.version == version
        ]
        newer = reading.find_newer_version(
            name, version, {str(candidate.version) for candidate in offered}, specifiers.get(name, [])
        )
        held_back, reason = reading.dead_ends.find_held_back(name, version, specifiers.get(name, [])) or (None, [])
        lacking = sorted(
            {
                requirement.project_name
                for requirement, _ in reading.dead_ends.filter_unsatisfiable(resolver.factory, reason)
            }
        )
        yield {
            **pin,
            "direct": None,
            "files": files,
            "newer": newer,
            "held_back": [held_back, lacking] if lacking else None,
        }
