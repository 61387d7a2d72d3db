"""Read project pages of the Simple API and find-links locations."""

from __future__ import annotations

import contextlib
import html.parser
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

from mousebender import simple
from packaging.utils import canonicalize_name

from offlinepack.errors import FetchError, Finding, error, text
from offlinepack.index.model import Index, Indexes, IndexFile, Project, parse_project_name
from offlinepack.net.client import Client
from offlinepack.net.model import Page
from offlinepack.net.urls import get_local_path, redact_url


def find_project_files(name: str, indexes: Indexes, client: Client) -> list[IndexFile]:
    """The files of a project, on the first index that has it and in the find-links places.

    FetchError where none has it, or one that comes before cannot be asked: then nobody knows who would have won.
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
    """As `project_files`, with the index that has it and its status; None where none has it.

    `only`: names of the files that are asked about; others may be left out, which is a good deal faster.
    """
    project = canonicalize_name(name)
    linked = tuple(file for file in list_linked_files(indexes, client) if file.project == project)
    for index in () if indexes.no_index else indexes.select_indexes(project):
        page = _read_project(project, index, indexes, client, only)
        if page is not None:
            return replace(page, files=(*page.files, *linked))
    return Project(project, None, linked) if linked else None


def find_shadowed_projects(name: str, indexes: Indexes, client: Client) -> list[Project]:
    """The same name on the indexes after the one that wins: what merging them, as pip does, would have added."""
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
    """FetchError with every index that cannot be asked about the first of these projects that it is asked for.

    After a resolver failed: is it the way to an index, rather than the versions? Projects that no index has are not
    this function's matter.
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
    """All distributions in the find-links places; read once."""
    if "linked" not in indexes.cache:
        indexes.cache["linked"] = tuple(
            file for link in indexes.find_links for file in _read_link(link, indexes, client)
        )
    linked_files: tuple[IndexFile, ...] = indexes.cache["linked"]
    return linked_files


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
    page = client.fetch_page(link, simple.ACCEPT_SUPPORTED)
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
    url = simple.create_project_url(index.url, project)
    try:
        page = client.fetch_page(url, simple.ACCEPT_SUPPORTED)
    except FetchError as failure:
        if any(finding.sentence.facts.get("status") in index.missing_statuses for finding in failure.findings):
            return None
        raise
    if page is None:
        return None
    files, details = _parse_page(_filter_page(page, only) if only else page, project, index, url, indexes)
    meta = details.get("meta", {})
    status = details.get("project-status") or {}  # PEP 792: a table of its own; early drafts had it in meta
    if not isinstance(status, Mapping):
        status = {"status": status}
    state = status.get("status") or meta.get("project-status") or "active"
    reason = status.get("reason") or meta.get("project-status-reason") or ""
    return Project(project, index, tuple(files), str(state), str(reason), str(meta.get("api-version", "")))


def _filter_page(page: Page, names: Collection[str]) -> Page:
    """A page of PEP 691 with these files only; the page as it is where they are not found at once.

    Some pages tell of ten thousand files: parsing those would take more memory and time than fetching ours.
    """
    if "json" not in page.content_type:
        return page
    files = [_find_json_object(page.text, "filename", name) for name in names]
    rest = {key: _find_json_value(page.text, key) for key in ("meta", "project-status")}
    if None in files or not isinstance(rest["meta"], dict):
        return page
    known_fields = {key: value for key, value in rest.items() if value is not None}
    return page._replace(text=json.dumps({**known_fields, "name": "", "versions": [], "files": files}))


_JSON_DECODER = json.JSONDecoder()


def _find_json_value(content: str, key: str) -> Any:
    match = re.search(rf'"{key}"\s*:\s*', content)
    try:
        return _JSON_DECODER.raw_decode(content, match.end())[0] if match else None
    except ValueError:
        return None


def _find_json_object(content: str, key: str, value: str) -> dict[str, Any] | None:
    """The object of a JSON text that has this string under this key: of the braces before it the first that fits."""
    match = re.search(rf'"{key}"\s*:\s*{re.escape(json.dumps(value))}', content)
    start = match.start() if match else -1
    for _ in range(8):
        start = content.rfind("{", 0, start) if start > 0 else -1
        with contextlib.suppress(ValueError):
            decoded, _ = _JSON_DECODER.raw_decode(content, start) if start >= 0 else (None, 0)
            if isinstance(decoded, dict) and decoded.get(key) == value:
                return decoded
    return None


def _parse_page(
    page: Page, project: str, index: Index | None, shown: str, indexes: Indexes
) -> tuple[list[IndexFile], Mapping[str, Any]]:
    """A page's files (of `project`, or of all), and the page as PEP 691 would have it."""
    kind = simple.ACCEPT_JSON_V1 if page.content_type == "application/json" else page.content_type
    base, status = page.url, dict[str, str]()
    extras, attested = list[str | None](), list[str | None]()
    content = page.text
    if kind != simple.ACCEPT_JSON_V1:
        # what is no hash after the #, mousebender does not understand
        content = re.sub(r"""(href\s*=\s*["'][^"'#]*)#[^"'=]*(?=["'])""", r"\1", content)
        if _EXTRA_DATA_PATTERN.search(content) or not _LINK_PATTERN.search(content):
            look = _PageParser()
            look.feed(content)
            base, extras, attested = urljoin(page.url, look.base), look.upload_times, look.provenances
            status = look.status
            if not (look.upload_times or look.has_version or (look.is_html and not look.has_form)):
                raise FetchError(_make_not_an_index_finding(shown, page.content_type))
    try:
        details: Mapping[str, Any] = simple.parse_project_details(content, kind, project or "any")
        major = str(details["meta"]["api-version"]).partition(".")[0]
        listed = details["files"]
        if major != "1" or not all(isinstance(entry["filename"] + entry["url"], str) for entry in listed):
            raise ValueError(major)
    except (ValueError, KeyError, TypeError, AttributeError, simple.UnsupportedMIMEType, simple.UnsupportedAPIVersion):
        raise FetchError(_make_not_an_index_finding(shown, page.content_type)) from None
    files = []
    for at, entry in enumerate(listed):
        # thousands of files on some pages: no more is read of each than is needed to tell whose it is
        owner = parse_project_name(entry["filename"])
        if not owner or (project and owner != project):
            continue
        url = entry["url"] if entry["url"].startswith(("https://", "http://")) else urljoin(base, entry["url"])
        url = indexes.hide_secrets(url.partition("#")[0]) if "@" in url or "?" in url else url.partition("#")[0]
        core_metadata = entry.get("core-metadata", entry.get("dist-info-metadata", False))
        hashes = entry.get("hashes") or {}
        size, yanked, requires = entry.get("size"), entry.get("yanked", False), entry.get("requires-python")
        uploaded = entry.get("upload-time") or (extras[at] if at < len(extras) else None)
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
                _make_provenance_url(
                    entry.get("provenance") or (attested[at] if at < len(attested) else None), base, indexes
                ),
            )
        )
    return files, {**details, "project-status": status} if status else details


def _make_provenance_url(url: Any, base: str, indexes: Indexes) -> str | None:
    if not isinstance(url, str) or not url:
        return None
    return indexes.hide_secrets(urljoin(base, url))


_EXTRA_DATA_PATTERN = re.compile(r"<base\b|data-(upload-time|provenance)|pypi:project-status", re.I)

_LINK_PATTERN = re.compile(r"<a\s[^>]*href", re.I)


class _PageParser(html.parser.HTMLParser):
    """What mousebender leaves out of an HTML page: <base>, times, attestations, status; whether it is such a page."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.upload_times: list[str | None] = []
        """one for each link, in order"""
        self.provenances: list[str | None] = []
        self.status: dict[str, str] = {}
        """PEP 792: status and reason"""
        self.has_version = self.is_html = self.has_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Each tag."""
        attributes = dict(attrs)
        if tag == "a" and attributes.get("href"):
            self.upload_times.append(attributes.get("data-upload-time"))
            self.provenances.append(attributes.get("data-provenance"))
        elif tag == "base" and not self.base:
            self.base = attributes.get("href") or ""
        self.has_version |= tag == "meta" and attributes.get("name") == "pypi:repository-version"
        if tag == "meta" and (attributes.get("name") or "").startswith("pypi:project-status"):
            field = "reason" if (attributes["name"] or "").endswith("-reason") else "status"
            self.status[field] = attributes.get("content") or ""
        self.is_html |= tag in ("html", "body", "head")
        self.has_form |= tag in ("form", "input", "script", "iframe")


def _make_not_an_index_finding(shown: str, kind: str) -> Finding:
    return error(
        "not-an-index",
        redact_url(shown),
        "{subject} is no page of a package index: {kind}.",
        "Check the index address: it usually ends in /simple/.",
        kind=kind or "no content type",
    )
