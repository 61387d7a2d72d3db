"""Requirements + Target + Indexes -> Pylock: made by uv where it knows the target, else by pip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.markers import Marker
from packaging.pylock import Package, Pylock
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from offlinepack.errors import SourceError, error, raise_all
from offlinepack.sources import Asked, Requirements

if TYPE_CHECKING:
    from offlinepack.indexes import Indexes
    from offlinepack.targets import Target


def lock(
    requirements: Requirements,
    target: Target,
    indexes: Indexes,
    *,
    resolver: str = "auto",
    offline: bool = False,
    cache_dir: Path | None = None,
    retries: int = 5,
    timeout: float = 15.0,
    python: Path | None = None,
) -> Pylock:
    """One version of each project for the target, with its files; ResolutionError, SelectionError, FetchError.

    `cache_dir` is where the resolvers keep what they have read (None: nothing is kept). `python` is the interpreter
    that reads the metadata of sources. A lock that was given is only put in order: its pins are kept.
    """
    if requirements.pylock and not requirements.asked:
        return in_order(requirements.pylock)
    how: dict[str, Any] = {"offline": offline, "cache_dir": cache_dir, "retries": retries, "timeout": timeout}
    how["python"] = python
    if requirements.require_hashes:
        _all_hashed(requirements, target)
    if resolver == "uv" or (resolver == "auto" and target.uv_platform() is not None):
        from offlinepack.lock import uv

        made = uv.lock(requirements, target, indexes, **how)
    else:
        from offlinepack.lock import pip_compile

        made = pip_compile.lock(requirements, target, indexes, **how)
    if requirements.require_hashes:
        _nothing_else(made, requirements, target)
    return in_order(made, target)


def named(
    requirements: Requirements,
    indexes: Indexes,
    *,
    offline: bool = False,
    cache_dir: Path | None = None,
    retries: int = 5,
    timeout: float = 15.0,
    python: Path | None = None,
) -> Requirements:
    """The same, with a name for each address or folder that had none; selection and closure go by names."""
    if all(one.requirement for one in requirements.asked):
        return requirements
    from offlinepack.lock import uv

    how: dict[str, Any] = {"offline": offline, "cache_dir": cache_dir, "retries": retries, "timeout": timeout}
    return uv.named(requirements, indexes, python=python, **how)


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


def in_order(pylock: Pylock, target: Target | None = None) -> Pylock:
    """The same lock with its packages and files sorted; for one target it also says for which machine it is."""
    packages = [_sorted_files(one) for one in sorted(pylock.packages, key=lambda one: (one.name, str(one.version)))]
    return Pylock(
        lock_version=Version("1.0"),
        created_by="offlinepack" if target else pylock.created_by,
        packages=packages,
        environments=[_environment(target)] if target else pylock.environments,
        requires_python=_requires_python(target) if target else pylock.requires_python,
        extras=pylock.extras,
        dependency_groups=pylock.dependency_groups,
        default_groups=pylock.default_groups,
        tool=pylock.tool,
    )


def _sorted_files(package: Package) -> Package:
    return Package(
        **{
            **{name: getattr(package, name) for name in package.__dataclass_fields__},
            "wheels": sorted(package.wheels, key=lambda one: one.filename) if package.wheels else None,
        }
    )


def _environment(target: Target) -> Marker:
    """The machine in marker words; only values that are known."""
    known = target.environment
    names = ("implementation_name", "sys_platform", "platform_machine")
    return Marker(" and ".join(f'{name} == "{known[name]}"' for name in names if name in known))


def _requires_python(target: Target) -> SpecifierSet:
    """X.Y.* where any patch release will do, X.Y.Z where that one is meant."""
    python = target.facts.python
    return SpecifierSet(f"=={python}" if python.count(".") == 2 else f"=={python}.*")
