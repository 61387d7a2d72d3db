"""Report the solution or the conflict of pip's resolver as facts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from offlinepack.pip_shim.patching import import_pip_module

_UNSATISFIABLE_CLASS = "UnsatisfiableRequirement"


def describe_cause(cause: Any, factory: Any, constraints: Any) -> dict[str, Any]:
    """One of the requirements that cannot stand together, and who has it."""
    requirement, parent = cause
    asked = requirement.get_candidate_lookup()[1]
    name = requirement.project_name
    constraint = constraints.get(name)
    specifier: Any = getattr(asked or requirement, "specifier", "")
    offered = factory._finder.find_all_candidates(name) if asked is not None else ()
    return {
        "project": name,
        "files": sum(not specifier or specifier.contains(one.version, prereleases=True) for one in offered),
        "wanted": requirement.format_for_error(),
        "specifier": str(specifier),
        "by": f"{parent.name} {parent.version}" if parent else "",
        "constraint": str(constraint.specifier) if constraint else "",
        # an address whose metadata cannot be had
        "why": str([*factory._build_failures.values(), ""][0])
        if type(requirement).__name__ == _UNSATISFIABLE_CLASS
        else "",
    }


def skip_downloads(preparer: Any, requirements: Iterable[Any], *_: Any, **__: Any) -> None:
    """Older versions fetch every file at the end of a dry run too, although nothing is done with it."""
    describe = import_pip_module("_internal.utils.direct_url_helpers").direct_url_from_link
    for one in requirements:
        if one.download_info is None and one.link is not None:
            one.download_info = describe(one.link, one.source_dir)


def list_pins(resolver: Any, reading: Any) -> Iterable[dict[str, Any]]:
    """Each project of the solution, with its files that fit."""
    specifiers: dict[str, list[Any]] = {}
    for criterion in resolver._result.criteria.values():
        for information in criterion.information:
            asked = information.requirement.get_candidate_lookup()[1]
            if asked is not None:
                specifiers.setdefault(information.requirement.project_name, []).append(asked.specifier)
    for candidate in resolver._result.mapping.values():
        asked = candidate.get_install_requirement()
        if asked is None:  # an extra of another candidate, or Python
            continue
        name, version = candidate.project_name, candidate.version
        pin = {"name": name, "version": str(version), "python": str(candidate.dist.requires_python)}
        session = resolver.factory.preparer._session
        if asked.is_direct:
            direct = asked.download_info.to_dict()
            if "archive_info" in direct:  # its metadata may have been read without the rest of it
                direct["archive_info"] = {"hashes": reading.describe_file(candidate.source_link, session)["hashes"]}
            yield {**pin, "direct": direct, "files": [], "newer": None, "held": None}
            continue
        offered = resolver.factory._finder.find_all_candidates(name)
        files = [reading.describe_file(one.link, session) for one in offered if one.version == version]
        newer = reading.find_newer_version(
            name, version, {str(one.version) for one in offered}, specifiers.get(name, [])
        )
        held, why = reading.dead_ends.find_held_back(name, version, specifiers.get(name, [])) or (None, [])
        lacking = sorted({one.project_name for one, _ in reading.dead_ends.filter_unsatisfiable(resolver.factory, why)})
        yield {**pin, "direct": None, "files": files, "newer": newer, "held": [held, lacking] if lacking else None}
