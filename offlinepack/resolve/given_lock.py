"""Use the lock that the user gave: select its packages for a target and find what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.pylock import Package, Pylock
from packaging.requirements import Requirement
from packaging.version import Version

from offlinepack.errors import Finding, ResolutionError, SelectionError, SourceError, error, raise_on_errors
from offlinepack.requirements.model import RequirementLine, Requirements, applies_to
from offlinepack.resolve.saved_lock import read_target_tag

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


def select_given_packages(requirements: Requirements, target: Target) -> list[Package] | None:
    """Select the packages of the given lock whose markers hold for the target; None if no lock was given."""
    if not requirements.pylocks:
        return None
    pylock = _select_lock(requirements.pylocks, target)
    groups = requirements.groups if requirements.groups is not None else tuple(pylock.default_groups or ())
    return [
        replace(package, marker=None)
        for package in pylock.packages
        if target.evaluate(package.marker, extras=requirements.extras, groups=groups)
    ]


def _select_lock(pylocks: Sequence[Pylock], target: Target) -> Pylock:
    """Select the lock that was made for this target, otherwise the one whose environments include it."""
    tagged = [pylock for pylock in pylocks if read_target_tag(pylock) == target.tag]
    wrong = {at: _check_environment(pylock, target) for at, pylock in enumerate(pylocks)}
    matches = tagged if len(tagged) == 1 else [pylock for at, pylock in enumerate(pylocks) if not wrong[at]]
    if not matches:
        raise SelectionError(*(finding for findings in wrong.values() for finding in findings))
    if len(matches) > 1:
        raise SourceError(
            error(
                "two-locks",
                target.name,
                "{count} of the locks that were given are for {subject}, and one bundle follows one lock.",
                "Give one of them.",
                count=len(matches),
            )
        )
    return matches[0]


def _check_environment(pylock: Pylock, target: Target) -> list[Finding]:
    """Return an error if requires-python or environments of the lock exclude the target (PEP 751)."""
    full = target.environment["python_full_version"]
    if pylock.requires_python and not pylock.requires_python.contains(full, prereleases=True):
        return [
            error(
                "lock-for-other-python",
                target.name,
                "The lock is for Python {wanted}; {subject} has {python}.",
                "Make the lock for that Python too, or drop the target.",
                wanted=pylock.requires_python,
                python=full,
            )
        ]
    if pylock.environments and not any(target.evaluate(environment) for environment in pylock.environments):
        return [
            error(
                "lock-for-other-environment",
                target.name,
                "None of the environments that the lock is for is {subject}: {environments}.",
                "Make the lock for that environment too, or drop the target.",
                environments=[str(environment) for environment in pylock.environments],
            )
        ]
    return []


def subtract_locked(requirements: Requirements, locked_packages: list[Package], target: Target) -> Requirements:
    """Return the requirements that the given lock does not have, constrained to its pins; raise ResolutionError if
    they conflict.
    """
    versions = {package.name: package for package in locked_packages}
    lines = [line for line in requirements.requirements if not line.requirement or applies_to(line, target)]
    otherwise = [
        error(
            "lock-has-another",
            line.origin,
            "{subject} asks for {line}, and the lock has {name} {version}.",
            "Make the lock again, or ask for what it has.",
            line=line.redacted_line,
            name=line.name,
            version=versions[line.name].version,
        )
        for line in lines
        if line.requirement
        and line.name in versions
        and versions[line.name].version is not None
        and not line.requirement.specifier.contains(str(versions[line.name].version), prereleases=True)
    ]
    missing = tuple(line for line in lines if line.name not in versions)
    if requirements.is_locked:
        otherwise += [
            error(
                "not-in-the-lock",
                line.name or line.redacted_line,
                "{subject} ({origin}) is not in the lock for {target}, and --locked forbids to add it.",
                "Make the lock again.",
                origin=line.origin,
                target=target.name,
            )
            for line in missing
        ]
    raise_on_errors(ResolutionError, otherwise)
    pins = tuple(
        RequirementLine(
            f"{package.name}=={package.version}", "the lock", Requirement(f"{package.name}=={package.version}")
        )
        for package in locked_packages
        if package.version is not None
    )
    return replace(requirements, pylocks=(), requirements=missing, constraints=(*requirements.constraints, *pins))


def merge_packages(locked_packages: list[Package], more: Sequence[Package]) -> Pylock:
    """Merge the packages of the given lock with further packages that it does not have."""
    names = {package.name for package in locked_packages}
    packages = [*locked_packages, *(package for package in more if package.name not in names)]
    return Pylock(lock_version=Version("1.0"), created_by="offlinepack", packages=packages)
