"""Requirements + Target + Indexes -> Pylock: made by uv where it knows the target, else by pip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from packaging.markers import Marker
from packaging.pylock import Package, Pylock
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from offlinepack.sources import Requirements

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
    from offlinepack.lock import pip_compile, uv

    by_uv = resolver == "uv" or (resolver == "auto" and target.uv_platform() is not None)
    made = (uv if by_uv else pip_compile).lock(
        requirements,
        target,
        indexes,
        offline=offline,
        cache_dir=cache_dir,
        retries=retries,
        timeout=timeout,
        python=python,
    )
    return in_order(made, target)


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
