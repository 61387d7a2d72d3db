"""Merge options, pip.conf, uv.toml and environment variables into the indexes of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from offlinepack.errors import Finding
from offlinepack.index.find_links import resolve_find_links
from offlinepack.index.model import PUBLIC_INDEX_URL, Index, Indexes, make_index, order_indexes, remove_duplicates
from offlinepack.index.pip_config import PipConfig
from offlinepack.index.uv_config import UvConfig, parse_index_tables
from offlinepack.net.urls import get_local_path


def _expand_path(value: str | Path | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _read_variable(name: str) -> str | None:
    return os.environ.get(name)


def read_settings(
    index_url: str | None = None,
    extra_index_url: Iterable[str] = (),
    find_links: Iterable[str] = (),
    no_index: bool = False,
    cert: str | Path | None = None,
    client_cert: str | Path | None = None,
    proxy: str | None = None,
    trusted_host: Iterable[str] = (),
    keyring_provider: str | None = None,
    *,
    index: Iterable[Mapping[str, Any]] = (),
    sources: Mapping[str, Any] | None = None,
    project_folder: Path | None = None,
    folder: Path | None = None,
) -> Indexes:
    """Combine the index settings: flags, [tool.offlinepack] `index` and `sources`, UV_*, uv's files, PIP_*, pip.conf.

    Paths in these two tables are relative to `project_folder`; `folder` is the project for uv's settings (None: the
    working directory). Raises SourceError for settings that cannot be read, UsageError for a source without its index
    and a missing folder of --find-links.
    """
    uv, pip = UvConfig(folder or Path.cwd()), PipConfig()
    listed: list[Index] = []
    if index_url:
        listed.append(make_index(index_url, "--index-url", default=True))
    listed += [make_index(url, "--extra-index-url") for url in extra_index_url]
    listed += parse_index_tables(index, "[[tool.offlinepack.index]]", project_folder)
    listed += [*uv.indexes]
    if not any(index.is_default for index in (*listed, *uv.default_indexes)) and (url := pip.get("index-url")):
        listed.append(make_index(url, pip.get_origin("index-url"), default=True))
    for extra_url in pip.get_list("extra-index-url"):
        listed.append(
            replace(
                make_index(extra_url, pip.get_origin("extra-index-url")),
                is_fallback=get_local_path(extra_url) is not None,
            )
        )
    if not any(index.is_default for index in listed):
        listed += uv.default_indexes or [Index(PUBLIC_INDEX_URL, is_default=True)]
    notes: list[Finding] = []
    indexes = Indexes(
        find_links=resolve_find_links(find_links, (*uv.find_links, *pip.find_links), notes),
        no_index=no_index or uv.no_index or pip.get_bool("no-index"),
        cert=_expand_path(
            cert or pip.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or _read_variable("CURL_CA_BUNDLE")
        ),
        client_cert=_expand_path(client_cert or pip.get("client-cert") or os.environ.get("SSL_CLIENT_CERT")),
        proxy=proxy if proxy is not None else pip.get("proxy"),
        trusted_hosts=remove_duplicates([*trusted_host, *uv.trusted_hosts, *pip.get_list("trusted-host")]),
        keyring_provider=keyring_provider or pip.get("keyring-provider") or uv.keyring_provider or "auto",
        retries=pip.get_int("retries"),
        timeout=pip.get_int("timeout") or pip.get_int("default-timeout"),
        notes=(),
    )
    indexes = replace(indexes, indexes=order_indexes(listed, indexes.no_index, notes))
    return replace(indexes.with_sources({**uv.sources, **(sources or {})}), notes=tuple(notes))
