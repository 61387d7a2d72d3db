"""Requirements + Target + Indexes -> Pylock: made by uv where it knows the target, else by pip."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.pylock import Package, Pylock
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from offlinepack.errors import Finding, ResolutionError, SelectionError, SourceError, error, raise_all
from offlinepack.lockers import kept
from offlinepack.lockers.means import Means
from offlinepack.sources import Asked, Requirements

if TYPE_CHECKING:
    from offlinepack.indexes import Indexes, Project
    from offlinepack.targets import Target


def lock(
    requirements: Requirements,
    target: Target,
    indexes: Indexes,
    means: Means,
    resolver: str = "auto",
) -> Pylock:
    """One version of each project for the target, with its files; ResolutionError, SelectionError, FetchError.

    The pins of a lock that was given are kept; what it lacks is resolved in.
    """
    held = _held(requirements, target)
    if held is not None:
        requirements = _beyond(requirements, held, target)
        if not requirements.asked:
            return in_order(_with(held, ()), target)
    if requirements.require_hashes:
        _all_hashed(requirements, target)
    made = _made(requirements, target, indexes, means, resolver)
    if not means.offline:
        made = _with_other_indexes(made, requirements, target, indexes, means)
    if requirements.require_hashes:
        _nothing_else(made, requirements, target)
    return in_order(_with(held, made.packages) if held is not None else made, target)


def _made(requirements: Requirements, target: Target, indexes: Indexes, means: Means, resolver: str) -> Pylock:
    from offlinepack.lockers import pip_compile, uv

    if resolver == "uv" or (resolver == "auto" and uv.nearest(target) is not None):
        try:
            return uv.lock(requirements, target, indexes, means)
        except ResolutionError as failure:
            # what uv cannot even read, pip may: it is older than the standards
            if resolver == "uv" or not {one.code for one in failure.findings} <= {
                "resolver-failed",
                "uv-does-not-know",
            }:
                raise
    return pip_compile.lock(requirements, target, indexes, means)


def _with_other_indexes(
    made: Pylock, requirements: Requirements, target: Target, indexes: Indexes, means: Means
) -> Pylock:
    """The first index that has the name wins; what merging them would have chosen is left for selection to tell."""
    from offlinepack import fetch
    from offlinepack.indexes import projects_elsewhere

    if indexes.no_index or len([one for one in indexes.indexes if not one.explicit]) < 2:
        return made

    bounds = [one.requirement for one in (*requirements.asked, *requirements.constraints) if one.requirement]

    def key(package: Package) -> tuple[str, ...]:
        return "elsewhere", package.name, *map(str, indexes.of(package.name))

    def looked_up(package: Package) -> Package:
        if package.is_direct or package.version is None:
            return package
        its = [one.specifier for one in bounds if canonicalize_name(one.name) == package.name]
        elsewhere: list[Project] = means.pages.once(key(package), list)
        best = max(
            (
                (one.version, other.index.url)
                for other in elsewhere
                for one in other.files
                if other.index and one.version and not one.yanked and not one.version.is_prerelease
                if one.is_wheel and target.accepts(one.filename) is not None and one.admits(target.python_full)
                if all(each.contains(one.version, prereleases=True) for each in its)
            ),
            default=None,
        )
        if best is None or best[0] <= package.version:
            return package
        ours = {**((package.tool or {}).get("offlinepack") or {}), "other-index": [str(best[0]), best[1]]}
        return replace(package, tool={**(package.tool or {}), "offlinepack": ours})

    new = [one for one in made.packages if not (one.is_direct or means.pages.knows(key(one)))]
    if new:
        opened = fetch.open_client(indexes, retries=means.retries, timeout=means.timeout)
        with opened as client, ThreadPoolExecutor(8) as pool:
            asks = [functools.partial(projects_elsewhere, one.name, indexes, client) for one in new]
            list(pool.map(means.pages.once, map(key, new), asks))
    return replace(made, packages=[looked_up(one) for one in made.packages])


def _held(requirements: Requirements, target: Target) -> list[Package] | None:
    """The packages of the given lock that the target takes, their markers settled; None where no lock was given."""
    if not requirements.pylocks:
        return None
    pylock = _given(requirements.pylocks, target)
    groups = requirements.groups if requirements.groups is not None else tuple(pylock.default_groups or ())
    return [
        replace(one, marker=None)
        for one in pylock.packages
        if one.marker is None or target.evaluate(one.marker, extras=requirements.extras, groups=groups)
    ]


def _given(pylocks: Sequence[Pylock], target: Target) -> Pylock:
    """Of the given locks the one that was made for this very target, else the one that is for its machine."""
    own = [one for one in pylocks if kept.tag(one) == target.tag]
    wrong = {at: _other_machine(one, target) for at, one in enumerate(pylocks)}
    found = own if len(own) == 1 else [one for at, one in enumerate(pylocks) if not wrong[at]]
    if not found:
        raise SelectionError(*(one for each in wrong.values() for one in each))
    if len(found) > 1:
        raise SourceError(
            error(
                "two-locks",
                target.name,
                "{count} of the locks that were given are for {subject}, and one bundle follows one lock.",
                "Give one of them.",
                count=len(found),
            )
        )
    return found[0]


def _other_machine(pylock: Pylock, target: Target) -> list[Finding]:
    """PEP 751: an error where the lock's own requires-python or environments exclude the target."""
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
    if pylock.environments and not any(target.evaluate(one) for one in pylock.environments):
        return [
            error(
                "lock-for-other-environment",
                target.name,
                "None of the environments that the lock is for is {subject}: {environments}.",
                "Make the lock for that environment too, or drop the target.",
                environments=[str(one) for one in pylock.environments],
            )
        ]
    return []


def _beyond(requirements: Requirements, held: list[Package], target: Target) -> Requirements:
    """What the given lock does not have, bound to its pins; ResolutionError where they exclude each other."""
    versions = {one.name: one for one in held}
    here = [one for one in requirements.asked if not one.requirement or _holds(one, target)]
    otherwise = [
        error(
            "lock-has-another",
            one.origin,
            "{subject} asks for {line}, and the lock has {name} {version}.",
            "Make the lock again, or ask for what it has.",
            line=one.shown,
            name=one.name,
            version=versions[one.name].version,
        )
        for one in here
        if one.requirement
        and one.name in versions
        and versions[one.name].version is not None
        and not one.requirement.specifier.contains(str(versions[one.name].version), prereleases=True)
    ]
    missing = tuple(one for one in here if one.name not in versions)
    if requirements.locked:
        otherwise += [
            error(
                "not-in-the-lock",
                one.name or one.shown,
                "{subject} ({origin}) is not in the lock for {target}, and --locked forbids to add it.",
                "Make the lock again.",
                origin=one.origin,
                target=target.name,
            )
            for one in missing
        ]
    raise_all(ResolutionError, otherwise)
    pins = tuple(
        Asked(f"{one.name}=={one.version}", "the lock", Requirement(f"{one.name}=={one.version}"))
        for one in held
        if one.version is not None
    )
    return replace(requirements, pylocks=(), asked=missing, constraints=(*requirements.constraints, *pins))


def _with(held: list[Package], more: Sequence[Package]) -> Pylock:
    """The packages of the given lock, and of the others those that it has not."""
    names = {one.name for one in held}
    packages = [*held, *(one for one in more if one.name not in names)]
    return Pylock(lock_version=Version("1.0"), created_by="offlinepack", packages=packages)


def named(requirements: Requirements, indexes: Indexes, means: Means) -> Requirements:
    """The same, with a name for each address or folder that had none; selection and closure go by names."""
    if all(one.requirement for one in requirements.asked):
        return requirements
    from offlinepack.lockers import uv

    return uv.named(requirements, indexes, means)


def _all_hashed(requirements: Requirements, target: Target) -> None:
    """--require-hashes, as pip has it: every requirement is pinned, or an address, and has a hash."""
    here = [one for one in requirements.asked if not one.requirement or _holds(one, target)]
    findings = [
        error(
            "no-hash",
            one.origin,
            "{subject}: {line} has no hash, and --require-hashes wants one for every requirement.",
            "Write name==version --hash=sha256:…; pip-compile --generate-hashes does it for all.",
            line=one.shown,
        )
        for one in here
        if not one.hashes
    ] + [
        error(
            "not-pinned",
            one.origin,
            "{subject}: {line} is not pinned with ==, and --require-hashes wants that of every requirement.",
            "Write the version that the hash belongs to.",
            line=one.shown,
        )
        for one in here
        if one.hashes and not one.url and not _pinned(one)
    ]
    raise_all(SourceError, findings)


def _holds(one: Asked, target: Target) -> bool:
    marker = one.requirement.marker if one.requirement else None
    return marker is None or target.evaluate(marker)


def _pinned(one: Asked) -> bool:
    specifiers = list(one.requirement.specifier) if one.requirement else []
    return len(specifiers) == 1 and specifiers[0].operator in ("==", "===") and "*" not in specifiers[0].version


def _nothing_else(pylock: Pylock, requirements: Requirements, target: Target) -> None:
    """--require-hashes: what the requirements need is among them, with its own hash."""
    asked = {one.name for one in requirements.asked}
    raise_all(
        SourceError,
        [
            error(
                "dependency-without-hash",
                package.name,
                "{subject} {version} is needed on {target}, and no line gives its hash.",
                "Add {subject}=={version} with its hash; --require-hashes takes nothing on trust.",
                version=package.version,
                target=target.name,
            )
            for package in pylock.packages
            if package.name not in asked
        ],
    )


def in_order(pylock: Pylock, target: Target) -> Pylock:
    """The lock of one target: packages and files sorted; it says for which machine it is."""
    packages = [_sorted_files(one) for one in sorted(pylock.packages, key=lambda one: (one.name, str(one.version)))]
    return Pylock(
        lock_version=Version("1.0"),
        created_by="offlinepack",
        packages=packages,
        environments=[_environment(target)],
        requires_python=_requires_python(target),
        tool=pylock.tool,
    )


def _sorted_files(package: Package) -> Package:
    wheels = sorted(package.wheels, key=lambda one: one.filename) if package.wheels else None
    return replace(package, wheels=wheels)


def _environment(target: Target) -> Marker:
    """The machine in marker words; only values that are known."""
    known = target.environment
    names = ("implementation_name", "sys_platform", "platform_machine")
    return Marker(" and ".join(f'{name} == "{known[name]}"' for name in names if name in known))


def _requires_python(target: Target) -> SpecifierSet:
    """X.Y.* where any patch release will do, X.Y.Z where that one is meant."""
    python = target.facts.python
    return SpecifierSet(f"=={python}" if python.count(".") == 2 else f"=={python}.*")
