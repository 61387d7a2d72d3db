"""Read uv's index settings: UV_* variables, uv.toml and [tool.uv] in pyproject.toml."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from offlinepack.errors import SourceError, error
from offlinepack.index.model import Index, make_index
from offlinepack.net.urls import expand_home, get_local_path


class UvConfig:
    """uv's: UV_* variables, then the project's [tool.uv] or uv.toml, the user's and the system's uv.toml."""

    def __init__(self, folder: Path) -> None:
        env = os.environ
        self.indexes: list[Index] = []
        self.default_indexes: list[Index] = []
        """the one in the public index's place; it comes last"""
        self.find_links = [part for part in env.get("UV_FIND_LINKS", "").split(",") if part]
        self.no_index = env.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on")
        self.trusted_hosts = env.get("UV_INSECURE_HOST", "").split()
        self.keyring_provider = env.get("UV_KEYRING_PROVIDER")
        self.sources: dict[str, Any] = {}
        self._add_urls("UV_INDEX", env.get("UV_INDEX", "").split(), "")
        self._add_urls("UV_EXTRA_INDEX_URL", env.get("UV_EXTRA_INDEX_URL", "").split(), "")
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
            self._add_urls(name, (), env.get(name, ""))
        for path, table in _iter_tables(folder):
            self._add_table(path, table)

    def _add_urls(self, origin: str, extra: Iterable[str], default: str) -> None:
        for index in extra:
            name, equals, url = index.partition("=")
            named = equals and re.fullmatch(r"[A-Za-z0-9._-]+", name)
            self.indexes.append(make_index(url if named else index, origin, name=name if named else ""))
        if default and not self.default_indexes:
            name, equals, url = default.partition("=")
            named = equals and re.fullmatch(r"[A-Za-z0-9._-]+", name)
            self.default_indexes = [
                make_index(url if named else default, origin, name=name if named else "", default=True)
            ]

    def _add_table(self, path: Path, table: Mapping[str, Any]) -> None:
        tables = parse_index_tables(table.get("index") or [], str(path), path.parent)
        self.indexes += [table for table in tables if not table.is_default]
        self.default_indexes = self.default_indexes or [table for table in tables if table.is_default][:1]
        for source in (table.get("pip") or {}, table):
            self._add_urls(str(path), source.get("extra-index-url") or (), source.get("index-url") or "")
            links = [str(link) for link in source.get("find-links") or ()]
            self.find_links += [link if "://" in link else str(path.parent / link) for link in links]
            self.no_index = self.no_index or bool(source.get("no-index"))
            self.keyring_provider = self.keyring_provider or source.get("keyring-provider")
        self.trusted_hosts += [str(host) for host in table.get("allow-insecure-host") or ()]
        self.sources = {**(table.get("sources") or {}), **self.sources}


def _iter_tables(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the settings of uv that apply to a project in `folder`, the strongest first."""
    if os.environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return
    if config_file := os.environ.get("UV_CONFIG_FILE"):
        yield Path(config_file), _read_toml(Path(config_file))
        return
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / "uv.toml").is_file():
            yield place / "uv.toml", _read_toml(place / "uv.toml")
            break
        table = _read_toml(place / "pyproject.toml").get("tool", {}) if (place / "pyproject.toml").is_file() else {}
        if isinstance(table, Mapping) and isinstance(table.get("uv"), Mapping):
            yield place / "pyproject.toml", table["uv"]
            break
    if sys.platform == "win32":
        roots = [os.environ.get("APPDATA"), os.environ.get("PROGRAMDATA")]
    else:
        shared = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        shared = [folder for folder in shared if Path(folder, "uv/uv.toml").is_file()][:1] or ["/etc"]
        roots = [os.environ.get("XDG_CONFIG_HOME") or str(expand_home("~/.config")), *shared]
    for root in roots:
        if root and Path(root, "uv/uv.toml").is_file():
            yield Path(root, "uv/uv.toml"), _read_toml(Path(root, "uv/uv.toml"))


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        settings: dict[str, Any] = tomllib.loads(path.read_text("utf-8-sig"))
        return settings
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise SourceError(
            error("bad-toml", path, "{subject} is not TOML: {words}.", "Mend that line.", words=problem)
        ) from problem


def parse_index_tables(tables: Iterable[Mapping[str, Any]], origin: str, folder: Path | None) -> list[Index]:
    """Parse [[index]] tables of uv."""
    index_tables = []
    for table in tables:
        if not isinstance(table, Mapping) or not isinstance(table.get("url"), str):
            raise SourceError(
                error(
                    "bad-index", origin, "{subject}: an index has no url.", 'Write name = "..." and url = "..." there.'
                )
            )
        url, statuses = table["url"], table.get("ignore-error-codes") or ()
        if folder is not None and get_local_path(url) is not None and "://" not in url:
            url = str(folder / url)
        index_tables.append(
            make_index(
                url,
                origin,
                name=str(table.get("name") or ""),
                default=bool(table.get("default")),
                explicit=bool(table.get("explicit")),
                missing=tuple(status for status in statuses if isinstance(status, int)),
            )
        )
    return index_tables
