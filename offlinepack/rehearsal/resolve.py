"""Let pip resolve for a target from the files of a bundle, and compare its result with the target plan.

pip is limited to the versions of the plan, because a bundle for several targets contains other versions too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import Finding, error, text, warning
from offlinepack.ontarget.manifest import WHEELS, Distribution, TargetPlan
from offlinepack.pip_shim.run import PipOutput, PipRules, run_pip
from offlinepack.targets.markers import UnknownMarkerError
from offlinepack.targets.model import Target
from offlinepack.wheels.report import WheelModules


def list_sdists(planned: TargetPlan) -> list[str]:
    """Distributions that go over as sdists."""
    return [one.name for one in planned.install if not one.file.endswith(".whl")]


def resolve_from_bundle(planned: TargetPlan, folder: Path, wheels: Mapping[str, WheelModules]) -> PipOutput:
    """pip's answer to what was asked for, with nothing but the files in `folder` and the plan's versions."""
    target, sources = Target(planned.name, planned.facts), list_sdists(planned)
    asked = [one for one in planned.install if one.requested and one.name not in sources]
    lines = [_format_requirement(one, wheels[one.file], target) for one in asked]
    # what an extra of a dependency, or a source, brings: the plan says that it does, pip would not know
    beside = {
        name for one in planned.install for name in set(one.requires) - _list_dependencies(wheels.get(one.file), target)
    }
    versions = {one.name: one.version for one in planned.install}
    lines += [f"{name}=={versions[name]}" for name in sorted(beside - set(sources) - {one.name for one in asked})]
    command = ["pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--no-index", "--no-cache-dir"]
    command += ["--find-links", str((folder / WHEELS).absolute()), "--only-binary", ":all:", "--pre"]
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as here:
        pins = "".join(f"{name}=={version}\n" for name, version in versions.items())
        Path(here, "constraints.txt").write_text(pins, "utf-8")
        Path(here, "requirements.txt").write_text("".join(f"{one}\n" for one in lines), "utf-8")
        command += ["--constraint", "constraints.txt", "-r", "requirements.txt", "--report", "report.json"]
        rules = PipRules(excluded_projects=tuple(sources), compute_hashes=False)
        return run_pip(target, command, environment={}, cwd=Path(here), rules=rules)


def _list_dependencies(wheel: WheelModules | None, target: Target) -> set[str]:
    """What its metadata wants without an extra."""
    return _list_required_names(wheel, "", target) if wheel else set()


def _list_required_names(wheel: WheelModules, extra: str, target: Target) -> set[str]:
    return {canonicalize_name(each.name) for each in wheel.requirements if _applies_to(each, extra, target)}


def _format_requirement(one: Distribution, wheel: WheelModules, target: Target) -> str:
    """name[extras]==version; the extras are those that account for what the plan says it needs."""
    needed = {extra: _list_required_names(wheel, extra, target) for extra in ("", *wheel.extras)}
    extras, open_ = [], set(one.requires) - needed[""]
    for extra in sorted(wheel.extras, key=lambda each: -len(needed[each] & open_)):
        if needed[extra] & open_ and needed[extra] <= {*one.requires, one.name}:
            extras.append(extra)
            open_ -= needed[extra]
    return f"{one.name}{'[' + ','.join(sorted(extras)) + ']' if extras else ''}=={one.version}"


def _applies_to(one: Requirement, extra: str, target: Target) -> bool:
    """Where that is not known, pip will stumble over it."""
    try:
        return one.marker is None or target.evaluate(one.marker, [extra])
    except UnknownMarkerError:
        return False


def compare_with_plan(
    planned: TargetPlan, target: Target, answer: PipOutput, wheels: Mapping[str, WheelModules]
) -> list[Finding]:
    """What pip came to, beside the plan."""
    told, plan = answer.facts, {one.name: one for one in planned.install}
    facts: dict[str, Any] = {"target": planned.name}
    if "marker" in told:
        unknown = {"platform_release", "platform_version", "implementation_version"} - set(target.environment)
        found = UnknownMarkerError(
            told["marker"], sorted(one for one in unknown if one in told["marker"]), planned.name
        )
        return [one._replace(level="warning") for one in found.findings]
    if "pins" not in told:
        return _explain_failure(planned, target, answer, wheels)
    pins = {canonicalize_name(one["name"]): one["version"] for one in told["pins"]}
    findings = [
        error(
            "not-in-the-plan",
            name,
            "{subject} {version} is needed on {target}, and its plan has {planned}.",
            "Build the bundle again.",
            version=pins[name],
            planned=plan[name].version if name in plan else text("none"),
            **facts,
        )
        for name in sorted(pins)
        if name not in plan or not is_equal_version(plan[name].version, pins[name])
    ]
    findings += [
        warning(
            "superfluous",
            name,
            "Nothing that was asked for needs {subject} {version} on {target}.",
            "It does no harm; ask for it by name if it is wanted.",
            version=plan[name].version,
            **facts,
        )
        for name in sorted(set(plan) - set(pins) - set(list_sdists(planned)))
    ]
    return findings


def _explain_failure(
    planned: TargetPlan, target: Target, answer: PipOutput, wheels: Mapping[str, WheelModules]
) -> list[Finding]:
    """Why pip cannot install the plan from the bundle: where it stopped, and what it had not come to."""
    plan = {one.name: one.version for one in planned.install}
    causes, found = [*answer.facts.get("causes", ())], []
    causes += _find_unmet(planned, target, wheels) if causes else ()
    first: dict[tuple[str, str], Any] = {}
    for cause in causes:
        first.setdefault((cause["by"], canonicalize_name(cause["project"])), cause)
    for cause in first.values():
        by, _, version = cause["by"].partition(" ")
        name = canonicalize_name(cause["project"])
        facts = {"target": planned.name, "version": version, "wanted": cause["wanted"]}
        if name not in plan and cause["project"].startswith("<Python"):
            finding = error(
                "wrong-python",
                by,
                "{subject} {version} wants Python {wanted}; {target} has {python}.",
                "Lock again for this target.",
                **{**facts, "wanted": cause["specifier"], "python": target.environment["python_full_version"]},
            )
        elif not by:
            finding = error(
                "no-file-that-fits",
                name,
                "The bundle has no file of {wanted} that {target} can install.",
                "Lock again for this target.",
                **facts,
            )
        elif name in plan:
            finding = error(
                "wrong-version",
                by,
                "{subject} {version} needs {wanted}, and the plan of {target} has {planned}.",
                "Lock again; take neither with --no-deps.",
                planned=f"{name} {plan[name]}",
                **facts,
            )
        else:
            finding = error(
                "not-brought",
                by,
                "{subject} {version} needs {wanted} on {target}, and the bundle does not bring it.",
                "Add it to what is packed; --no-deps leaves such out.",
                **facts,
            )
        found.append(finding)
    return found or [
        error(
            "resolver-failed",
            planned.name,
            "pip cannot install the plan of {subject} from the bundle, for a reason that offlinepack does not know.",
            "The words below are pip's.",
            log=answer.get_last_lines(),
        )
    ]


def _find_unmet(planned: TargetPlan, target: Target, wheels: Mapping[str, WheelModules]) -> Iterator[dict[str, str]]:
    """What the plan's wheels need and its versions do not give, as pip tells a cause; extras are left to pip."""
    versions = {one.name: one.version for one in planned.install}
    for one in planned.install:
        for each in wheels[one.file].requirements if one.file in wheels else ():
            has = versions.get(canonicalize_name(each.name))
            if (has is None or not each.specifier.contains(has, prereleases=True)) and _applies_to(each, "", target):
                yield {
                    "by": f"{one.name} {one.version}",
                    "project": each.name,
                    "wanted": f"{each.name}{each.specifier}",
                }


def is_equal_version(one: str, other: str) -> bool:
    """Whether two ways to write a version mean the same one."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
