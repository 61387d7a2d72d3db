"""List the distributions that are installed in a virtual environment or conda prefix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name


@dataclass(frozen=True)
class InstalledDistribution:
    """One distribution of the environment."""

    name: NormalizedName
    version: str
    requires: tuple[Requirement, ...]
    is_requested: bool
    """installed for itself (the file REQUESTED), as far as the installer said so"""
    direct_url: Mapping[str, Any]
    """direct_url.json, PEP 610; empty where it came from an index"""
    installer: str
    egg_link: Path | None = None
    """the project's folder, of `setup.py develop`"""
    provided_extras: tuple[str, ...] = ()
    """those that it offers; which ones were asked for is written nowhere"""


def find_environment_python(folder: Path) -> Path | None:
    """Return the interpreter of an environment; None if it has none for this system."""
    for name in ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe"):
        if (folder / name).is_file():
            return folder / name
    return None


def is_environment(folder: Path) -> bool:
    """Check whether a folder has site-packages and is marked as an environment."""
    return ((folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()) and any(find_site_packages(folder))


def find_site_packages(folder: Path) -> Iterator[Path]:
    """Yield the site-packages folders of a virtual environment."""
    visited: set[Path] = set()
    for pattern in (
        "lib/python*/site-packages",
        "lib64/python*/site-packages",
        "lib/pypy*/site-packages",
        "Lib/site-packages",
    ):
        for path in sorted(folder.glob(pattern)):
            if path.is_dir() and path.resolve() not in visited:
                visited.add(path.resolve())
                yield path


def is_conda_base(folder: Path) -> bool:
    """Check whether a folder is the prefix that conda itself is installed in."""
    return (folder / "conda-meta").is_dir() and any((folder / "conda-meta").glob("conda-[0-9]*.json"))


def list_distributions(place: Path) -> Iterator[InstalledDistribution]:
    """Yield the distributions that are installed in a folder."""
    for distribution in distributions(path=[str(place)]):
        installed = _read_distribution(distribution)
        if installed:
            yield installed
    for link in sorted(place.glob("*.egg-link")):
        project = Path(link.read_text("utf-8", "replace").splitlines()[0].strip())
        for distribution in distributions(path=[str(project)]) if project.is_dir() else ():
            installed = _read_distribution(distribution, project)
            if installed:
                yield installed


def _read_distribution(distribution: Distribution, egg_link: Path | None = None) -> InstalledDistribution | None:
    try:
        name, version = distribution.metadata["Name"], distribution.metadata["Version"]
    except Exception:  # a broken *.dist-info is not pip's either: it has no name
        return None
    if not name or not version:
        return None
    requires = []
    for line in distribution.requires or []:
        try:
            requires.append(Requirement(line))
        except InvalidRequirement:
            continue  # what is packed is checked by its own metadata later
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        origin = {}
    return InstalledDistribution(
        canonicalize_name(name),
        version,
        tuple(requires),
        distribution.read_text("REQUESTED") is not None,
        origin if isinstance(origin, dict) and isinstance(origin.get("url"), str) else {},
        (distribution.read_text("INSTALLER") or "").strip(),
        egg_link,
        tuple(canonicalize_name(extra) for extra in distribution.metadata.get_all("Provides-Extra") or ()),
    )
