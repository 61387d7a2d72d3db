"""Read find-links locations and the file names of distributions in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import Finding, UsageError, error, warning
from offlinepack.net.urls import get_local_path

_ARCHIVE_SUFFIXES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")


def parse_project_name(filename: str) -> str:
    """Return the normalized project name in the file name of a wheel or sdist; '' for another file."""
    if filename.endswith(".whl"):
        return canonicalize_name(filename.partition("-")[0]) if filename.count("-") in (4, 5) else ""
    if filename.endswith(_ARCHIVE_SUFFIXES):
        return canonicalize_name(filename.rpartition("-")[0])
    return ""


def parse_version(filename: str) -> Version | None:
    """Return the version in the file name of a wheel or sdist; None if it is invalid."""
    stem = next((filename.removesuffix(suffix) for suffix in _ARCHIVE_SUFFIXES if filename.endswith(suffix)), "")
    try:
        return Version(stem.split("-")[1] if filename.endswith(".whl") else stem.rpartition("-")[2])
    except (InvalidVersion, IndexError):
        return None


def list_distributions(links: Iterable[str]) -> list[tuple[str, Path]]:
    """List the files in local find-links folders that belong to a project: its normalized name and the path."""
    folders = [path for link in dict.fromkeys(links) if (path := get_local_path(link)) is not None and path.is_dir()]
    paths = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]
    return [(project, path) for path in paths if (project := parse_project_name(path.name))]


def resolve_find_links(given_links: Iterable[str], configured: Iterable[str], notes: list[Finding]) -> tuple[str, ...]:
    """Return the find-links locations; one of a flag must exist, a missing one of the settings gives a note.

    Files whose names have no valid version give a note too, because every resolver ignores them.
    """
    links, lacking = [], []
    for link in given_links:
        path = get_local_path(link)
        if path is not None and not path.exists():
            lacking.append(
                error("no-find-links", link, "{subject}, named by --find-links, is not there.", "Check the path.")
            )
        links.append(link if path is None or "://" in link else str(path.absolute()))
    if lacking:
        raise UsageError(*lacking)
    for link in configured:
        path = get_local_path(link)
        if path is not None and not path.exists():
            notes.append(
                warning(
                    "find-links-not-there",
                    link,
                    "{subject}, a find-links place of the settings, is not there and is left out.",
                    "Mend or remove it there.",
                )
            )
        else:
            links.append(link if path is None or "://" in link else str(path.absolute()))
    notes += [
        warning(
            "unreadable-name",
            path,
            "{subject} has no valid version in its name; it is ignored.",
            "Rename it to a valid version (PEP 440).",
        )
        for _, path in list_distributions(links)
        if not parse_version(path.name)
    ]
    return tuple(dict.fromkeys(links))
