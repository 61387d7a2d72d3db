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
from offlinepack.wheels.report import WheelReport


def list_sdists(plan: TargetPlan) -> list[str]:
    """Return the names of the distributions that are installed from sdists."""
    return [distribution.name for distribution in plan.install if not distribution.file.endswith(".whl")]


def resolve_from_bundle(plan: TargetPlan, folder: Path, wheels: Mapping[str, WheelReport]) -> PipOutput:
    """Let pip resolve the requested distributions of a plan from the files in `folder`, limited to its versions."""
    target, sources = Target(plan.name, plan.facts), list_sdists(plan)
    requested = [
        distribution for distribution in plan.install if distribution.requested and distribution.name not in sources
    ]
    lines = [_format_requirement(distribution, wheels[distribution.file], target) for distribution in requested]
    # dependencies through an extra of a dependency, or of an sdist: only the plan knows them
    additional = {
        name
        for distribution in plan.install
        for name in set(distribution.requires) - _list_dependencies(wheels.get(distribution.file), target)
    }
    versions = {distribution.name: distribution.version for distribution in plan.install}
    lines += [
        f"{name}=={versions[name]}"
        for name in sorted(additional - set(sources) - {distribution.name for distribution in requested})
    ]
    command = ["pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--no-index", "--no-cache-dir"]
    command += ["--find-links", str((folder / WHEELS).absolute()), "--only-binary", ":all:", "--pre"]
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as work_dir:
        pins = "".join(f"{name}=={version}\n" for name, version in versions.items())
        Path(work_dir, "constraints.txt").write_text(pins, "utf-8")
        Path(work_dir, "requirements.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        command += ["--constraint", "constraints.txt", "-r", "requirements.txt", "--report", "report.json"]
        rules = PipRules(excluded_projects=tuple(sources), compute_hashes=False)
        return run_pip(target, command, environment={}, cwd=Path(work_dir), rules=rules)


def _list_dependencies(wheel: WheelReport | None, target: Target) -> set[str]:
    """Return the names of the dependencies that apply without an extra."""
    return _list_required_names(wheel, "", target) if wheel else set()


def _list_required_names(wheel: WheelReport, extra: str, target: Target) -> set[str]:
    return {
        canonicalize_name(requirement.name)
        for requirement in wheel.metadata.requires
        if _applies_to(requirement, extra, target)
    }


def _format_requirement(distribution: Distribution, wheel: WheelReport, target: Target) -> str:
    """Format name[extras]==version with the extras that explain the dependencies in the plan."""
    extra_names = wheel.metadata.raw.get("provides_extra", [])
    names_by_extra = {extra: _list_required_names(wheel, extra, target) for extra in ("", *extra_names)}
    extras, unexplained = [], set(distribution.requires) - names_by_extra[""]
    for extra in sorted(extra_names, key=lambda name: -len(names_by_extra[name] & unexplained)):
        if names_by_extra[extra] & unexplained and names_by_extra[extra] <= {*distribution.requires, distribution.name}:
            extras.append(extra)
            unexplained -= names_by_extra[extra]
    return f"{distribution.name}{'[' + ','.join(sorted(extras)) + ']' if extras else ''}=={distribution.version}"


def _applies_to(requirement: Requirement, extra: str, target: Target) -> bool:
    """Return whether a requirement applies; False if the marker cannot be evaluated (pip reports that)."""
    try:
        return target.evaluate(requirement.marker, [extra])
    except UnknownMarkerError:
        return False


def compare_with_plan(
    plan: TargetPlan, target: Target, output: PipOutput, wheels: Mapping[str, WheelReport]
) -> list[Finding]:
    """Return findings for the differences between the result of pip and the plan."""
    pip_facts, distributions = output.facts, {distribution.name: distribution for distribution in plan.install}
    facts: dict[str, Any] = {"target": plan.name}
    if "marker" in pip_facts:
        unknown = {"platform_release", "platform_version", "implementation_version"} - set(target.environment)
        marker_error = UnknownMarkerError(
            pip_facts["marker"], sorted(name for name in unknown if name in pip_facts["marker"]), plan.name
        )
        return [finding._replace(level="warning") for finding in marker_error.findings]
    if "pins" not in pip_facts:
        return _explain_failure(plan, target, output, wheels)
    pins = {canonicalize_name(pin["name"]): pin["version"] for pin in pip_facts["pins"]}
    findings = [
        error(
            "not-in-the-plan",
            name,
            "{subject} {version} is needed on {target}, and its plan has {planned}.",
            "Build the bundle again.",
            version=pins[name],
            planned=distributions[name].version if name in distributions else text("none"),
            **facts,
        )
        for name in sorted(pins)
        if name not in distributions or not is_equal_version(distributions[name].version, pins[name])
    ]
    findings += [
        warning(
            "superfluous",
            name,
            "Nothing that was asked for needs {subject} {version} on {target}.",
            "It does no harm; ask for it by name if it is wanted.",
            version=distributions[name].version,
            **facts,
        )
        for name in sorted(set(distributions) - set(pins) - set(list_sdists(plan)))
    ]
    return findings


def _explain_failure(
    plan: TargetPlan, target: Target, output: PipOutput, wheels: Mapping[str, WheelReport]
) -> list[Finding]:
    """Return findings that explain why pip cannot install the plan: its causes, and the other unmet requirements."""
    versions = {distribution.name: distribution.version for distribution in plan.install}
    causes, findings = [*output.facts.get("causes", ())], []
    causes += _find_unmet(plan, target, wheels) if causes else ()
    cause_by_project: dict[tuple[str, str], Any] = {}
    for cause in causes:
        cause_by_project.setdefault((cause["dependent"], canonicalize_name(cause["project"])), cause)
    for cause in cause_by_project.values():
        dependent, _, version = cause["dependent"].partition(" ")
        name = canonicalize_name(cause["project"])
        facts = {"target": plan.name, "version": version, "wanted": cause["requirement"]}
        if name not in versions and cause["project"].startswith("<Python"):
            finding = error(
                "wrong-python",
                dependent,
                "{subject} {version} wants Python {wanted}; {target} has {python}.",
                "Lock again for this target.",
                **{**facts, "wanted": cause["specifier"], "python": target.environment["python_full_version"]},
            )
        elif not dependent:
            finding = error(
                "no-file-that-fits",
                name,
                "The bundle has no file of {wanted} that {target} can install.",
                "Lock again for this target.",
                **facts,
            )
        elif name in versions:
            finding = error(
                "wrong-version",
                dependent,
                "{subject} {version} needs {wanted}, and the plan of {target} has {planned}.",
                "Lock again; take neither with --no-deps.",
                planned=f"{name} {versions[name]}",
                **facts,
            )
        else:
            finding = error(
                "not-brought",
                dependent,
                "{subject} {version} needs {wanted} on {target}, and the bundle does not bring it.",
                "Add it to what is packed; --no-deps leaves such out.",
                **facts,
            )
        findings.append(finding)
    return findings or [
        error(
            "resolver-failed",
            plan.name,
            "pip cannot install the plan of {subject} from the bundle, for a reason that offlinepack does not know.",
            "The words below are pip's.",
            log=output.get_last_lines(),
        )
    ]


def _find_unmet(plan: TargetPlan, target: Target, wheels: Mapping[str, WheelReport]) -> Iterator[dict[str, str]]:
    """Yield the requirements without extras that the plan does not satisfy, in the form of pip's causes."""
    versions = {planned.name: planned.version for planned in plan.install}
    for distribution in plan.install:
        for requirement in wheels[distribution.file].metadata.requires if distribution.file in wheels else ():
            version = versions.get(canonicalize_name(requirement.name))
            if (version is None or not requirement.specifier.contains(version, prereleases=True)) and _applies_to(
                requirement, "", target
            ):
                yield {
                    "dependent": f"{distribution.name} {distribution.version}",
                    "project": requirement.name,
                    "requirement": f"{requirement.name}{requirement.specifier}",
                }


def is_equal_version(version: str, other_version: str) -> bool:
    """Return whether two version strings denote the same version."""
    try:
        return Version(version) == Version(other_version)
    except InvalidVersion:
        return version == other_version
