"""Read project pages of the Simple API and find-links locations."""

from __future__ import annotations

import html.parser
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from packaging.utils import canonicalize_name

from offlinepack.errors import FetchError, Finding, error, text
from offlinepack.index.find_links import list_distributions, parse_project_name, parse_version
from offlinepack.index.model import Index, Indexes, IndexFile, Project
from offlinepack.net.client import Client
from offlinepack.net.model import Page
from offlinepack.net.urls import get_local_path, redact_url

_JSON_TYPES = ("application/vnd.pypi.simple.v1+json", "application/json")

_HTML_TYPES = ("application/vnd.pypi.simple.v1+html", "text/html", "application/xhtml+xml")

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
"""PEP 691"""


def find_project_files(name: str, indexes: Indexes, client: Client) -> list[IndexFile]:
    """Return the files of a project on the first index that has it, and in the find-links locations.

    Raises FetchError if no index has it, or if an earlier index cannot be asked.
    """
    project = find_project(name, indexes, client)
    if project is None:
        places = [*map(str, indexes.select_indexes(name)), *map(redact_url, indexes.find_links)]
        raise FetchError(
            error(
                "project-not-found",
                name,
                "No index has a project {subject}; looked in {places}.",
                "Check the name, or name the index that has it: --extra-index-url.",
                places=places or [text("no place at all (--no-index)")],
            )
        )
    return list(project.files)


def find_project(name: str, indexes: Indexes, client: Client, only: Collection[str] = ()) -> Project | None:
    """Return a project with the index that has it and its status; None if no index has it.

    `only`: names of the files that are needed; others are left out.
    """
    project = canonicalize_name(name)
    linked = tuple(file for file in list_linked_files(indexes, client) if file.project == project)
    for index in () if indexes.no_index else indexes.select_indexes(project):
        page = _read_project(project, index, indexes, client, only)
        if page is not None:
            return replace(page, files=(*page.files, *linked))
    return Project(project, None, linked) if linked else None


def find_shadowed_projects(name: str, indexes: Indexes, client: Client) -> list[Project]:
    """Find the project on the indexes after the first one that has it; merging them, as pip does, would add these
    files.
    """
    project, pages = canonicalize_name(name), []
    for index in () if indexes.no_index else indexes.select_indexes(project):
        try:
            page = _read_project(project, index, indexes, client)
        except FetchError:
            continue
        pages += [page] if page else []
    known_names = {file.filename for file in (*pages[0].files, *list_linked_files(indexes, client))} if pages else set()
    return [
        replace(page, files=tuple(file for file in page.files if file.filename not in known_names))
        for page in pages[1:]
    ]


def check_indexes(names: Iterable[str], indexes: Indexes, client: Client) -> None:
    """Raise FetchError with every index that cannot be asked about the first of these projects.

    Called after a resolver failed, to tell an unreachable index from missing versions.
    """
    findings: dict[tuple[str, str], Finding] = {}
    for name in names:
        for index in () if indexes.no_index else indexes.select_indexes(name):
            if any(url == index.url for url, _ in findings):
                continue
            try:
                _read_project(canonicalize_name(name), index, indexes, client)
            except FetchError as failure:
                findings.update({(index.url, finding.render()): finding for finding in failure.findings})
    if findings:
        raise FetchError(*findings.values())


def list_linked_files(indexes: Indexes, client: Client) -> tuple[IndexFile, ...]:
    """List all distributions in the find-links locations; they are read once."""
    if "linked" not in indexes.cache:
        indexes.cache["linked"] = tuple(
            file for link in indexes.find_links for file in _read_link(link, indexes, client)
        )
    linked_files: tuple[IndexFile, ...] = indexes.cache["linked"]
    return linked_files


def find_unreadable_files(indexes: Indexes) -> dict[str, str]:
    """Find the projects whose only files in local find-links folders have names without a valid version.

    Returns project -> path of such a file. Resolvers skip these files, and would take the project from an index.
    """
    if "unreadable" not in indexes.cache:
        named = list_distributions(indexes.find_links)
        readable = {owner for owner, path in named if parse_version(path.name)}
        indexes.cache["unreadable"] = {owner: str(path) for owner, path in named if owner not in readable}
    unreadable: dict[str, str] = indexes.cache["unreadable"]
    return unreadable


def _read_link(link: str, indexes: Indexes, client: Client) -> Iterator[IndexFile]:
    path = get_local_path(link)
    if path is not None and path.is_dir():
        for file_path in sorted(path.iterdir()):
            if (owner := parse_project_name(file_path.name)) and file_path.is_file():
                yield IndexFile(
                    file_path.name, file_path.absolute().as_uri(), owner, None, size=file_path.stat().st_size
                )
        return
    if path is not None and (owner := parse_project_name(path.name)):
        yield IndexFile(path.name, path.absolute().as_uri(), owner, None, size=path.stat().st_size)
        return
    page = client.fetch_page(link, ACCEPT)
    if page is None:
        raise FetchError(
            error(
                "no-find-links",
                redact_url(link),
                "{subject}, named by --find-links, is not there (404).",
                "Check the address.",
            )
        )
    yield from _parse_page(page, "", None, redact_url(link), indexes)[0]


def _read_project(
    project: str, index: Index, indexes: Indexes, client: Client, only: Collection[str] = ()
) -> Project | None:
    url = f"{index.url}{project}/"
    try:
        page = client.fetch_page(url, ACCEPT)
    except FetchError as failure:
        if any(finding.sentence.facts.get("status") in index.missing_statuses for finding in failure.findings):
            return None
        raise
    if page is None:
        return None
    files, details = _parse_page(page, project, index, url, indexes, only)
    meta = details.get("meta", {})
    status = details.get("project-status") or {}  # PEP 792: a table of its own; early drafts had it in meta
    if not isinstance(status, Mapping):
        status = {"status": status}
    state = status.get("status") or meta.get("project-status") or "active"
    reason = status.get("reason") or meta.get("project-status-reason") or ""
    return Project(project, index, tuple(files), str(state), str(reason), str(meta.get("api-version", "")))


def _parse_page(
    page: Page, project: str, index: Index | None, shown: str, indexes: Indexes, only: Collection[str] = ()
) -> tuple[list[IndexFile], Mapping[str, Any]]:
    """Parse a page of the Simple API (PEP 503, PEP 691) into the files of `project`, or all files, and its details."""
    parse = _parse_json if page.content_type in _JSON_TYPES else _parse_html
    try:
        details, base = parse(page)
        listed = details["files"]
        major = str(details["meta"]["api-version"]).partition(".")[0]
        if major != "1" or not all(isinstance(entry["filename"] + entry["url"], str) for entry in listed):
            raise ValueError(major)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FetchError(_make_not_an_index_finding(shown, page.content_type)) from None
    files = []
    for entry in listed:
        # some pages list thousands of files: read no more of each than is needed to tell whose it is
        owner = parse_project_name(entry["filename"])
        if not owner or (project and owner != project) or (only and entry["filename"] not in only):
            continue
        url = entry["url"] if entry["url"].startswith(("https://", "http://")) else urljoin(base, entry["url"])
        url = indexes.hide_secrets(url.partition("#")[0]) if "@" in url or "?" in url else url.partition("#")[0]
        core_metadata = entry.get("core-metadata", entry.get("dist-info-metadata", False))
        hashes = entry.get("hashes") or {}
        size, yanked, requires = entry.get("size"), entry.get("yanked", False), entry.get("requires-python")
        uploaded = entry.get("upload-time")
        files.append(
            IndexFile(
                entry["filename"],
                url,
                owner,
                index,
                {kind: value.lower() for kind, value in hashes.items() if isinstance(value, str) and value.isalnum()},
                size if isinstance(size, int) else None,
                requires if isinstance(requires, str) else None,
                bool(yanked),
                yanked if isinstance(yanked, str) else "",
                uploaded if isinstance(uploaded, str) else None,
                bool(core_metadata),
                core_metadata.get("sha256") if isinstance(core_metadata, Mapping) else None,
                _make_provenance_url(entry.get("provenance"), base, indexes),
            )
        )
    return files, details


def _parse_json(page: Page) -> tuple[Mapping[str, Any], str]:
    return json.loads(page.text), page.url


def _parse_html(page: Page) -> tuple[Mapping[str, Any], str]:
    """Return an HTML page as the details of PEP 691, and the address that its relative links start from."""
    if page.content_type not in _HTML_TYPES:
        raise ValueError(page.content_type)
    parser = _PageParser()
    parser.feed(page.text)
    if not (parser.files or parser.version or (parser.is_html and not parser.has_form)):
        raise ValueError("no page of an index")
    details = {"meta": {"api-version": parser.version or "1.0"}, "files": parser.files}
    if parser.status:
        details["project-status"] = parser.status
    return details, urljoin(page.url, parser.base)


def _make_provenance_url(url: Any, base: str, indexes: Indexes) -> str | None:
    if not isinstance(url, str) or not url:
        return None
    return indexes.hide_secrets(urljoin(base, url))


class _PageParser(html.parser.HTMLParser):
    """Read the anchors of a project page (PEP 503, 592, 658, 700, 714, 740, 792) and see whether it is such a page."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.version = ""
        self.files: list[dict[str, Any]] = []
        self.status: dict[str, str] = {}
        """PEP 792: status and reason"""
        self.is_html = self.has_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read one tag."""
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a" and attributes.get("href"):
            self.files.append(_parse_anchor(attributes))
        elif tag == "base" and not self.base:
            self.base = attributes.get("href", "")
        elif tag == "meta":
            name, content = attributes.get("name", ""), attributes.get("content", "")
            if name == "pypi:repository-version":
                self.version = content
            elif name.startswith("pypi:project-status"):
                self.status["reason" if name.endswith("-reason") else "status"] = content
        self.is_html |= tag in ("html", "body", "head")
        self.has_form |= tag in ("form", "input", "script", "iframe")


def _parse_anchor(attributes: Mapping[str, str]) -> dict[str, Any]:
    """Return an anchor as a file of PEP 691."""
    url, _, fragment = attributes["href"].strip().partition("#")
    entry: dict[str, Any] = {"url": url, "filename": unquote(urlsplit(url).path.rpartition("/")[2])}
    algorithm, _, digest = fragment.partition("=")
    entry["hashes"] = {algorithm.lower(): digest} if digest else {}
    for key in ("requires-python", "upload-time", "provenance"):
        if f"data-{key}" in attributes:
            entry[key] = attributes[f"data-{key}"]
    if "data-yanked" in attributes:
        entry["yanked"] = attributes["data-yanked"] or True
    for key in ("core-metadata", "dist-info-metadata"):
        if f"data-{key}" in attributes:
            algorithm, _, digest = attributes[f"data-{key}"].partition("=")
            entry[key] = {algorithm: digest} if digest else algorithm.lower() != "false"
    return entry


def _make_not_an_index_finding(shown: str, kind: str) -> Finding:
    return error(
        "not-an-index",
        redact_url(shown),
        "{subject} is no page of a package index: {kind}.",
        "Check the index address: it usually ends in /simple/.",
        kind=kind or "no content type",
    )
