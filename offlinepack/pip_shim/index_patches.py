"""Replace how pip reads indexes: upload times, index order, sdists, cache."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import html
import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from offlinepack.net.remote_zip import IDENTITY_HEADERS
from offlinepack.net.urls import strip_credentials
from offlinepack.pip_shim.dead_ends import DeadEnds
from offlinepack.pip_shim.patching import expect, import_pip_module
from offlinepack.pip_shim.static_metadata import ReadCache, read_static_metadata

_ARCHIVE_SUFFIXES = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".egg", ".exe")

_ANCHOR_PATTERN = re.compile(rb"""<a\s[^>]*?\bhref\s*=\s*["']([^"']*)["'].*?</a\s*>(?:\s*<br\s*/?>)?""", re.I | re.S)

_UPLOAD_TIME_PATTERN = re.compile(rb"""\bdata-upload-time\s*=\s*["']([^"']+)""")

_BUILT_METADATA_KIND = f"built-{sys.version_info[0]}.{sys.version_info[1]}"
"""kind of cache entry for metadata that a build backend returned under this Python version"""

StopCallback = Callable[..., Any]

PageEntry = dict[str, Any] | bytes
"""entry of an index page for one file: a JSON object (PEP 691) or an HTML anchor (PEP 503)"""


class IndexPatches:
    """Index reading of one pip process: its rules and what it has read so far."""

    def __init__(
        self, rules: dict[str, Any], tags: Sequence[str], version: tuple[int, ...], stop: StopCallback
    ) -> None:
        self.rules, self.tags, self.version, self.stop = rules, tags, version, stop
        self.cache = ReadCache(rules["cache_folder"])
        self.dead_ends = DeadEnds(rules["excluded_projects"])
        self.allow_sdist: set[str] = set(rules["allow_sdist"])
        """projects whose sdists are allowed beside their wheels"""
        self.known_extras: dict[str, set[str]] = {}
        """project -> extras that the releases examined so far provide"""
        self.rejected_files: dict[str, dict[str, PageEntry]] = {}
        """project -> version as written -> page entry of an unfitting file"""
        self.drops_unfitting_files = False
        """whether unfitting files are removed from pages, instead of by pip (set by Speedups)"""
        self.compiled_projects: set[str] = set()
        """projects that have wheels for platforms other than the target's"""
        self.dependents: dict[str, set[str]] = {}
        self.unsatisfiable: set[str] = set()
        """projects without any usable file"""
        self.unsatisfiable_since = 0.0
        self.listed_files: dict[str, tuple[int | None, str | None]] = {}
        """file name -> size in bytes and upload time, which pages state and pip does not keep"""

    # -------------------------------------------------------------------------------------- pages

    def replace_pages(self) -> None:
        """Remove files that were uploaded too late from pages, and record the files that do not fit."""
        collector = import_pip_module("_internal.index.collector")
        finder_class = import_pip_module("_internal.index.package_finder").PackageFinder
        parse, process = collector.parse_links, finder_class.process_project_url
        now, rank_of, tags = threading.local(), dict[str, bool](), set(self.tags)
        system = re.match(r"[^-]+-[^-]+-(?:many|musl)?([a-z]+)", self.tags[0])
        compiled = re.compile(rf"-(?!none-)[^-]+-[^-]*{system[1] if system else 'linux'}[^-]*\.whl\Z")

        def process_project_url(finder: Any, project_url: Any, link_evaluator: Any) -> Any:
            now.name, now.formats = link_evaluator._canonical_name, link_evaluator._formats
            now.rejected_files = self.rejected_files.setdefault(now.name, {})
            return process(finder, project_url, link_evaluator)

        def fits(name: str) -> bool:
            if name.endswith(_ARCHIVE_SUFFIXES):
                return "source" in now.formats
            end = "-".join(name[:-4].rsplit("-", 3)[-3:])
            if not name.endswith(".whl") or "%" in end:
                return True
            if end not in rank_of:
                parts = [part.lower().split(".") for part in end.split("-")]
                rank_of[end] = len(parts) != 3 or not tags.isdisjoint(map("-".join, itertools.product(*parts)))
            return "binary" in now.formats and rank_of[end]

        def is_accepted(address: str, uploaded: str, entry: PageEntry) -> bool:
            before = self.rules["uploaded_before"]
            if before and not (uploaded and _normalize_time(uploaded) < _normalize_time(before)):
                return False
            name = re.split("[?#]", address, maxsplit=1)[0].rpartition("/")[2]
            if not fits(name):
                now.rejected_files[_parse_file_version(name)] = entry
                if compiled.search(name):
                    self.compiled_projects.add(now.name)
                return not self.drops_unfitting_files
            size = entry.get("size") if isinstance(entry, dict) else None
            self.listed_files[unquote(name)] = (size if isinstance(size, int) else None, uploaded or None)
            return True

        def anchor(match: re.Match[bytes]) -> bytes:
            address = match[1].decode("utf-8", "replace")
            time = _UPLOAD_TIME_PATTERN.search(match[0])
            uploaded = time[1].decode("ascii", "replace") if time else ""
            return match[0] if is_accepted(address, uploaded, match[0]) else b""

        def parse_fitting(page: Any) -> Any:
            if page.url.startswith("file:") or not hasattr(now, "rejected_files"):
                return parse(page)
            if "json" not in page.content_type.lower():
                return parse(dataclasses.replace(page, content=_ANCHOR_PATTERN.sub(anchor, page.content)))
            data = json.loads(page.content)
            entries = [
                file
                for file in data.get("files", ())
                if is_accepted(file.get("url", ""), file.get("upload-time") or "", file)
            ]
            return parse(dataclasses.replace(page, content=json.dumps({**data, "files": entries}).encode()))

        for holder in (collector, import_pip_module("_internal.index.package_finder")):
            expect(holder.parse_links, parse, holder.__name__)
            holder.parse_links = parse_fitting
        finder_class.process_project_url = process_project_url

    def prove_pages(self) -> None:
        """Check that a page with a fitting and an unfitting file is reduced to the fitting one."""
        collector, finders = (
            import_pip_module("_internal.index.collector"),
            import_pip_module("_internal.index.package_finder"),
        )
        names = [f"stone-1-{self.tags[0]}.whl", "stone-2-xx1-none-any.whl"]
        entries = [
            {"filename": name, "url": name, "hashes": {}, "upload-time": "0001-01-01T00:00:00Z"} for name in names
        ]
        content = json.dumps({"files": entries, "meta": {"api-version": "1.0"}}).encode()
        kind, url = "application/vnd.pypi.simple.v1+json", "https://index.invalid/stone/"
        page = collector.IndexContent(content, kind, None, url, cache_link_parsing=False)
        links = type("Links", (), {"fetch_response": lambda *_, **__: page})()
        python = import_pip_module("_internal.models.target_python").TargetPython()
        finder = finders.PackageFinder(links, python, allow_yanked=True)
        link = import_pip_module("_internal.models.link").Link(url)
        candidates = finder.process_project_url(link, finder.make_link_evaluator("stone"))
        expect([candidate.link.filename for candidate in candidates], names[:1], "process_project_url")
        expect(set(self.rejected_files.pop("stone")), {"2"}, "process_project_url")

    # -------------------------------------------------------------------------------------- index order, sdists

    def replace_search(self) -> None:
        """Read each project from the first index that has it, allow sdists by the rules, and cache metadata."""
        collector = import_pip_module("_internal.index.collector")
        finder_class = import_pip_module("_internal.index.package_finder").PackageFinder
        preparer_class = import_pip_module("_internal.operations.prepare").RequirementPreparer
        provider_class = import_pip_module("_internal.resolution.resolvelib.provider").PipProvider
        find, prepare = finder_class.find_all_candidates, preparer_class._fetch_metadata_only
        depend = provider_class.get_dependencies

        def find_all_candidates(finder: Any, name: str) -> Any:
            candidates = find(finder, name)
            if (
                candidates
                or not self.rules["sdist_fallback"]
                or name in self.allow_sdist
                or name in self.rules["only_wheels"]
            ):
                return candidates
            if not self.rules["can_build"] and name in self.compiled_projects:
                self.unsatisfiable_since = self.unsatisfiable_since if self.unsatisfiable else time.monotonic()
                self.unsatisfiable.add(name)
                return candidates
            # the project has no wheel for the target: clear pip's caches of it, then search with sdists allowed
            self.allow_sdist.add(name)
            getattr(finder, "_all_candidates", {}).pop(name, None)
            getattr(find, "cache_clear", bool)()
            return find(finder, name)

        def fetch_metadata_only(preparer: Any, requirement: Any) -> Any:
            return self.read_metadata(prepare, preparer, requirement)

        def get_dependencies(provider: Any, candidate: Any) -> Any:
            excluded = self.rules["excluded_projects"]
            self._check_extras(candidate)
            needed = [
                requirement for requirement in depend(provider, candidate) if requirement.project_name not in excluded
            ]
            self._stop_after_timeout(f"{candidate.name} {candidate.version}", needed)
            return needed

        finder_class.find_all_candidates = find_all_candidates
        self._cache_built_metadata()
        preparer_class._fetch_metadata_only = fetch_metadata_only
        provider_class.get_dependencies = get_dependencies
        self._replace_fetching(collector)

    def _stop_after_timeout(self, by: str, needed: Iterable[Any]) -> None:
        """Stop pip when it has searched too long for releases that do not need an unsatisfiable project.

        Without a limit, pip examines all releases of each project that depends on one without a file for the target.
        """
        for library in needed:
            self.dependents.setdefault(library.project_name, set()).add(by)
        if self.unsatisfiable and time.monotonic() - self.unsatisfiable_since > self.rules["search_seconds"]:
            self.stop(unsatisfiable=self.list_unsatisfiable(), search_seconds=self.rules["search_seconds"])

    def list_unsatisfiable(self) -> dict[str, list[str]]:
        """Map each project without a usable file to the releases that depend on it."""
        return {name: sorted(self.dependents.get(name, ())) for name in sorted(self.unsatisfiable)}

    def _check_extras(self, candidate: Any) -> None:
        """Stop pip at an older release that lacks an extra of a newer one: it would silently install less."""
        if extras := getattr(candidate, "extras", None):
            provided = set(candidate.base.dist.iter_provided_extras())
            known_extras = self.known_extras.setdefault(candidate.project_name, set())
            if lacking := (extras - provided) & known_extras:
                self.stop(missing_extra=[candidate.project_name, str(candidate.version), min(lacking)])
            known_extras |= provided

    def _replace_fetching(self, collector: Any) -> None:
        links_class, session_class = collector.LinkCollector, import_pip_module("_internal.network.session").PipSession
        fetch, collect, failed = (
            links_class.fetch_response,
            links_class.collect_sources,
            collector._handle_get_simple_fail,
        )
        request, now, ready, rules = session_class.request, threading.local(), dict[str, Any](), self.rules
        normalised = import_pip_module("_vendor.packaging.utils").canonicalize_name

        def handle_get_simple_fail(link: Any, reason: Any, *rest: Any, **named: Any) -> None:
            status = getattr(getattr(reason, "response", None), "status_code", None)
            absent = [
                404,
                410,
                *itertools.chain(
                    *(codes for at, codes in rules["missing_codes"].items() if belongs_to_index(link.url, at))
                ),
            ]
            if rules["indexes"] is not None and status not in absent:
                self.stop(index={"url": strip_credentials(link.url), "reason": str(reason)})
            now.is_missing = True
            failed(link, reason, *rest, **named)

        def fetch_response(links: Any, location: Any, *rest: Any, **named: Any) -> Any:
            url = strip_credentials(location.url)
            if url in ready:
                return ready.pop(url)
            if url.startswith("file:"):
                return fetch(links, location, *rest, **named)
            if rules["offline"]:
                if (content := self.cache.get("pages", url)) is None:
                    return None
                head, _, body = content.partition(b"\n")
                return collector.IndexContent(body, *json.loads(head), location.cache_link_parsing)
            now.is_missing = False
            page = fetch(links, location, *rest, **named)
            if page is not None:
                head = json.dumps([page.content_type, page.encoding, page.url]).encode()
                self.cache.put("pages", url, head + b"\n" + page.content)
            elif not now.is_missing and rules["indexes"] is not None:
                self.stop(index={"url": url, "reason": "not a page of a package index"})
            return page

        def collect_sources(links: Any, project_name: str, *rest: Any, **named: Any) -> Any:
            sources = collect(links, project_name, *rest, **named)
            if rules["indexes"] is None:
                return sources
            only = rules["sources"].get(normalised(project_name))
            selected = [only] if only else rules["indexes"]
            for at, index in enumerate(selected):
                for source in sources.index_urls:
                    if source is None or not belongs_to_index(source.link.url, index):
                        continue
                    if at < len(selected) - 1:
                        page = links.fetch_response(source.link)
                        if page is None:
                            continue
                        ready[strip_credentials(source.link.url)] = page
                    return sources._replace(index_urls=[source])
            return sources._replace(index_urls=[])

        def refuse(session: Any, method: str, url: str, *rest: Any, **named: Any) -> Any:
            if not url.startswith("file:"):
                self.stop(unread_file=strip_credentials(url).partition("?")[0])
            return request(session, method, url, *rest, **named)

        collector._handle_get_simple_fail = handle_get_simple_fail
        links_class.fetch_response, links_class.collect_sources = fetch_response, collect_sources
        if rules["offline"]:
            session_class.request = refuse

    def prove_search(self) -> None:
        """Check that a project is searched on the first index, and a project with an assigned index on that one."""
        if self.rules["indexes"] is None:
            return
        sources = {name: [index] for name, index in self.rules["sources"].items()}
        addresses = list(dict.fromkeys([*self.rules["indexes"], *itertools.chain(*sources.values())]))
        scope = import_pip_module("_internal.models.search_scope").SearchScope
        session = type("Session", (), {"is_secure_origin": True})()
        links = import_pip_module("_internal.index.collector").LinkCollector(
            session, scope.create(find_links=[], index_urls=addresses, no_index=False)
        )
        links.__dict__["fetch_response"] = lambda *_, **__: True
        for name, expected in [("no-such-project", self.rules["indexes"][:1]), *sources.items()]:
            urls = links.collect_sources(name, lambda _: []).index_urls
            places = [index for index in expected if urls and belongs_to_index(urls[0].link.url, index)]
            expect((len(urls), places), (len(expected), list(expected)), f"collect_sources({name})")

    # -------------------------------------------------------------------------------------- metadata

    def read_metadata(self, prepare: Callable[..., Any], preparer: Any, requirement: Any) -> Any:
        """Return metadata from the cache, a PEP 658 file, range requests or a static PKG-INFO.

        None means that pip has to download the file. Metadata of files with a SHA-256 is cached.
        """
        link = requirement.link
        if link.is_vcs or link.is_existing_dir():
            return prepare(preparer, requirement)
        key = link.hash if link.hash_name == "sha256" else ""
        content = self.cache.get("metadata", key)
        if content is None and not link.is_wheel:
            content = self.cache.get(_BUILT_METADATA_KIND, key)
        if content is None:
            distribution = prepare(preparer, requirement) if link.is_wheel and not link.is_file else None
            if distribution is not None:
                content = (distribution.read_text("METADATA") or "").encode("utf-8", "surrogateescape")
                self.cache.put("metadata", key, content)
                return distribution
            content = read_static_metadata(preparer._session, link)
            if content is None:
                return None
            self.cache.put("metadata", key, content)
        name = requirement.req.name if requirement.req else link.filename.partition("-")[0]
        # pip parses the metadata three times, and the description is long
        headers = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[0] + b"\n\n"
        return import_pip_module("_internal.metadata").get_metadata_distribution(headers, link.filename, name)

    def _cache_built_metadata(self) -> None:
        """Cache the metadata that build backends return: each call of a backend needs a build environment."""
        prepare = import_pip_module("_internal.operations.prepare")
        build = prepare._get_prepared_distribution

        def get_prepared_distribution(requirement: Any, *rest: Any, **named: Any) -> Any:
            built, link = build(requirement, *rest, **named), requirement.link
            if link is not None and not link.is_wheel and not requirement.is_direct and link.hash_name == "sha256":
                content = (built.read_text("METADATA") or "").encode("utf-8", "surrogateescape")
                self.cache.put(_BUILT_METADATA_KIND, link.hash if content else "", content)
            return built

        prepare._get_prepared_distribution = get_prepared_distribution

    # -------------------------------------------------------------------------------------- facts about files

    def describe_file(self, link: Any, session: Any) -> dict[str, Any]:
        """Describe a file as its index or folder lists it; compute a missing hash if the rules ask for hashes."""
        hashes = dict(getattr(link, "_hashes", None) or {}) or ({link.hash_name: link.hash} if link.hash_name else {})
        if not hashes and self.rules["compute_hashes"]:
            digest = hashlib.sha256()
            for block in _read_blocks(link, session):
                digest.update(block)
            hashes = {"sha256": digest.hexdigest()}
        size, uploaded = self.listed_files.get(link.filename, (None, None))
        return {
            "name": link.filename,
            "url": strip_credentials(link.url),
            "path": link.file_path if link.is_file else None,
            "hashes": hashes,
            "size": Path(link.file_path).stat().st_size if link.is_file else size,
            "uploaded": uploaded,
            "yanked": link.yanked_reason,
        }

    def find_newer_version(self, name: str, version: Any, offered: set[str], specifiers: Iterable[Any]) -> str | None:
        """Return the newest version above `version` that is excluded only because it has no fitting file, or None."""
        versions, specifier_sets = (
            import_pip_module("_vendor.packaging.version"),
            import_pip_module("_vendor.packaging.specifiers"),
        )
        newest, specifiers = version, list(specifiers)
        for written, entry in self.rejected_files.get(name, {}).items():
            with contextlib.suppress(versions.InvalidVersion, specifier_sets.InvalidSpecifier):
                if written in offered or str(other := versions.Version(written)) in offered or other <= newest:
                    continue
                python, yanked = _read_entry(entry)
                if yanked or (other.is_prerelease and not version.is_prerelease):
                    continue
                admitted = specifier_sets.SpecifierSet(python).contains(".".join(map(str, self.version)))
                if admitted and all(specifier.contains(other, prereleases=True) for specifier in specifiers):
                    newest = other
        return str(newest) if newest != version else None


def belongs_to_index(url: str, index: str) -> bool:
    """Tell whether the address is a page of this index."""
    return strip_credentials(url).startswith(index.rstrip("/") + "/")


def _parse_file_version(filename: str) -> str:
    """Return the version as it is written in the file name."""
    if filename.endswith(".whl"):
        return unquote(filename.split("-", 2)[1]) if "-" in filename else ""
    stem = next((filename.removesuffix(end) for end in _ARCHIVE_SUFFIXES if filename.endswith(end)), filename)
    return unquote(stem.rpartition("-")[2])


def _read_entry(entry: PageEntry) -> tuple[str, bool]:
    """Return Requires-Python of a page entry and whether the file is yanked."""
    if isinstance(entry, dict):
        return str(entry.get("requires-python") or ""), bool(entry.get("yanked"))
    python = re.search(rb"""\bdata-requires-python\s*=\s*(?:"([^"]*)"|'([^']*)')""", entry)
    written = (python[1] or python[2] or b"").decode("utf-8", "replace") if python else ""
    return html.unescape(written), b"data-yanked" in entry


def _normalize_time(time: str) -> tuple[str, str]:
    """Split an RFC 3339 time in UTC into a comparable pair: the time to the second, and the fraction."""
    seconds, _, fraction = time.rstrip("Zz").removesuffix("+00:00").partition(".")
    return seconds.upper().replace(" ", "T"), fraction.rstrip("0")


def _read_blocks(link: Any, session: Any) -> Iterator[bytes]:
    if link.is_file:
        with Path(link.file_path).open("rb") as file:
            while block := file.read(1 << 20):
                yield block
        return
    with contextlib.closing(session.get(link.url_without_fragment, headers=IDENTITY_HEADERS, stream=True)) as answer:
        answer.raise_for_status()
        yield from answer.iter_content(1 << 20)
