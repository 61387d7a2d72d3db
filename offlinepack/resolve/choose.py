"""Choose a resolver and lock the requirements of one target."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.pylock import Package, Pylock
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from offlinepack.errors import OfflinepackError, ResolutionError, SelectionError, SourceError, error, raise_on_errors
from offlinepack.requirements.model import RequirementLine, Requirements, applies_to
from offlinepack.resolve.context import ResolverContext
from offlinepack.resolve.given_lock import merge_packages, select_given_packages, subtract_locked

if TYPE_CHECKING:
    from offlinepack.index.model import Indexes, Project
    from offlinepack.targets.model import Target


def resolve(
    requirements: Requirements, target: Target, indexes: Indexes, means: ResolverContext, resolver: str = "auto"
) -> Pylock:
    """Resolve one version of each project for the target, with its files.

    The pins of a given lock are kept; what it lacks is resolved. Raises ResolutionError, SelectionError, FetchError.
    """
    if not SpecifierSet(requirements.requires_python).contains(target.python_full_version, prereleases=True):
        raise SelectionError(
            error(
                "project-wrong-python",
                requirements.identity.name or "pyproject.toml",
                "The project {subject} requires Python {wanted}; {target} has {python}.",
                "Choose another target, or change requires-python of the project.",
                wanted=requirements.requires_python,
                target=target.name,
                python=target.python_full_version,
            )
        )
    given_packages = select_given_packages(requirements, target)
    if given_packages is not None:
        requirements = subtract_locked(requirements, given_packages, target)
        if not requirements.requirements:
            return normalize_lock(merge_packages(given_packages, ()), target)
    hash_error = _get_hash_error(requirements)
    if hash_error:
        _check_requirement_hashes(requirements, target, hash_error)
    pylock = _run_resolver(requirements, target, indexes, means, resolver)
    _check_unreadable_files(pylock, indexes, target)
    if not means.offline:
        pylock = _note_other_indexes(pylock, requirements, target, indexes, means)
    if hash_error:
        _check_dependency_hashes(pylock, requirements, target, hash_error)
    return normalize_lock(
        merge_packages(given_packages, pylock.packages) if given_packages is not None else pylock, target
    )


def _run_resolver(
    requirements: Requirements, target: Target, indexes: Indexes, means: ResolverContext, resolver: str
) -> Pylock:
    from offlinepack.resolve.pip.resolver import resolve_with_pip
    from offlinepack.resolve.uv.resolver import find_nearest_target, resolve_with_uv

    if resolver == "uv" or (resolver == "auto" and find_nearest_target(target) is not None):
        try:
            return resolve_with_uv(requirements, target, indexes, means)
        except ResolutionError as failure:
            # what uv cannot even read, pip may: it is older than the standards
            if resolver == "uv" or not {finding.code for finding in failure.findings} <= {
                "resolver-failed",
                "uv-does-not-know",
            }:
                raise
    return resolve_with_pip(requirements, target, indexes, means)


def _check_unreadable_files(pylock: Pylock, indexes: Indexes, target: Target) -> None:
    """Refuse projects from an index if a local folder has them under a name that no resolver can read."""
    from offlinepack.index.simple_api import find_unreadable_files

    unreadable = find_unreadable_files(indexes)
    raise_on_errors(
        SelectionError,
        [
            error(
                "local-file-unreadable",
                package.name,
                "{file} of {subject} has no valid version in its name; "
                "{target} would get {subject} {version} from an index.",
                "Rename the file to a valid version (PEP 440), or remove it.",
                file=unreadable[package.name],
                target=target.name,
                version=package.version or "?",
            )
            for package in pylock.packages
            if package.name in unreadable and not package.is_direct
        ],
    )


def _note_other_indexes(
    pylock: Pylock, requirements: Requirements, target: Target, indexes: Indexes, means: ResolverContext
) -> Pylock:
    """Record versions that later indexes have: the first index that has a project is used, and selection reports the
    others.
    """
    from offlinepack.index.simple_api import find_shadowed_projects
    from offlinepack.net.client import open_client

    if indexes.no_index or len([index for index in indexes.indexes if not index.is_explicit]) < 2:
        return pylock

    bounds = [line.requirement for line in (*requirements.requirements, *requirements.constraints) if line.requirement]

    def key(package: Package) -> tuple[str, ...]:
        return "elsewhere", package.name, *map(str, indexes.select_indexes(package.name))

    def looked_up(package: Package) -> Package:
        if package.is_direct or package.version is None:
            return package
        specifiers = [bound.specifier for bound in bounds if canonicalize_name(bound.name) == package.name]
        elsewhere: list[Project] = means.run_cache.get_or_compute(key(package), list)
        best = max(
            (
                (file.version, other.index.url)
                for other in elsewhere
                for file in other.files
                if other.index and file.version and not file.is_yanked and not file.version.is_prerelease
                if file.is_wheel
                and target.rank_wheel(file.filename) is not None
                and file.supports_python(target.python_full_version)
                if all(specifier.contains(file.version, prereleases=True) for specifier in specifiers)
            ),
            default=None,
        )
        if best is None or best[0] <= package.version:
            return package
        ours = {**((package.tool or {}).get("offlinepack") or {}), "other-index": [str(best[0]), best[1]]}
        return replace(package, tool={**(package.tool or {}), "offlinepack": ours})

    new = [
        package for package in pylock.packages if not (package.is_direct or means.run_cache.has_answer(key(package)))
    ]
    if new:
        opened = open_client(indexes, retries=means.retries, timeout=means.timeout)
        with opened as client, ThreadPoolExecutor(8) as pool:
            asks = [functools.partial(find_shadowed_projects, package.name, indexes, client) for package in new]
            list(pool.map(means.run_cache.get_or_compute, map(key, new), asks))
    return replace(pylock, packages=[looked_up(package) for package in pylock.packages])


def complete_names(requirements: Requirements, indexes: Indexes, means: ResolverContext) -> Requirements:
    """Complete the requirements that are addresses or folders with their names, which selection and closing need."""
    if all(line.requirement for line in requirements.requirements):
        return requirements
    from offlinepack.resolve.uv.resolver import resolve_names

    return resolve_names(requirements, indexes, means)


def _get_hash_error(requirements: Requirements) -> type[OfflinepackError] | None:
    """Return the error of incomplete hashes; None if they may be incomplete."""
    if requirements.policy.require_hashes is not None:
        return SourceError if requirements.policy.require_hashes else None
    return ResolutionError if any(line.has_hash_option for line in requirements.requirements) else None


def _check_requirement_hashes(requirements: Requirements, target: Target, kind: type[OfflinepackError]) -> None:
    """Check as pip does that every requirement is pinned, or an address, and has a hash."""
    lines = [line for line in requirements.requirements if not line.requirement or applies_to(line, target)]
    findings = [
        error(
            "no-hash",
            line.origin,
            "{subject}: {line} has no hash; every requirement needs one as soon as one has it.",
            "Write name==version --hash=sha256:… (pip-compile --generate-hashes), or use --no-require-hashes.",
            line=line.redacted_line,
        )
        for line in lines
        if not line.hashes
    ] + [
        error(
            "not-pinned",
            line.origin,
            "{subject}: {line} is not pinned with ==; every requirement needs that as soon as one has a hash.",
            "Write the version that the hash belongs to.",
            line=line.redacted_line,
        )
        for line in lines
        if line.hashes and not line.url and not _is_pinned(line)
    ]
    raise_on_errors(kind, findings)


def _is_pinned(line: RequirementLine) -> bool:
    specifiers = list(line.requirement.specifier) if line.requirement else []
    return len(specifiers) == 1 and specifiers[0].operator in ("==", "===") and "*" not in specifiers[0].version


def _check_dependency_hashes(
    pylock: Pylock, requirements: Requirements, target: Target, kind: type[OfflinepackError]
) -> None:
    """Check that all dependencies are among the requirements, with their hashes."""
    requested_names = {line.name for line in requirements.requirements}
    raise_on_errors(
        kind,
        [
            error(
                "dependency-without-hash",
                package.name,
                "{subject} {version} is needed on {target}, and no line gives its hash.",
                "Add {subject}=={version} with its hash; --no-require-hashes accepts it without one.",
                version=package.version,
                target=target.name,
            )
            for package in pylock.packages
            if package.name not in requested_names
        ],
    )


def normalize_lock(pylock: Pylock, target: Target) -> Pylock:
    """Normalize the lock of one target: sort packages and files, and state its environment."""
    packages = [
        _sort_files(package)
        for package in sorted(pylock.packages, key=lambda package: (package.name, str(package.version)))
    ]
    return Pylock(
        lock_version=Version("1.0"),
        created_by="offlinepack",
        packages=packages,
        environments=[_make_environment_marker(target)],
        requires_python=_make_requires_python(target),
        tool=pylock.tool,
    )


def _sort_files(package: Package) -> Package:
    wheels = sorted(package.wheels, key=lambda wheel: wheel.filename) if package.wheels else None
    return replace(package, wheels=wheels)


def _make_environment_marker(target: Target) -> Marker:
    """Return the marker of a target's machine, with the values that are known."""
    environment = target.environment
    names = ("implementation_name", "sys_platform", "platform_machine")
    return Marker(" and ".join(f'{name} == "{environment[name]}"' for name in names if name in environment))


def _make_requires_python(target: Target) -> SpecifierSet:
    """Return ==X.Y.* if any patch release fits, ==X.Y.Z if the target has that one."""
    python = target.facts.python
    return SpecifierSet(f"=={python}" if python.count(".") == 2 else f"=={python}.*")
