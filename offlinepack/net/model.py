"""Types of HTTP access: the settings that reach a server, logins, download requests and pages."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from offlinepack.errors import Text

DEFAULT_RETRIES, DEFAULT_TIMEOUT = 5, 15.0

DEFAULT_JOBS = min(16, 4 * (os.cpu_count() or 4))
"""downloads at a time: more than a core can decrypt and hash only stand in each other's way"""

MAX_PAGE_SIZE = 128 << 20
"""bytes: what is larger is no page of an index"""


@dataclass(frozen=True)
class Login:
    """A user and a password; neither is ever shown, only where they came from."""

    user: str = field(repr=False)
    password: str = field(repr=False)
    origin: Text | str
    """where it was found: a netrc file, keyring, the index address"""


class Access(Protocol):
    """The way to the servers: `Indexes` is one."""

    @property
    def cert(self) -> Path | None:
        """The authorities to trust instead of the system's, PEM file or folder."""

    @property
    def client_cert(self) -> Path | None:
        """Our certificate and key, PEM."""

    @property
    def retries(self) -> int | None:
        """How often to try again, where the settings say so."""

    @property
    def timeout(self) -> float | None:
        """Seconds of silence to bear, where the settings say so."""

    def trusts_host(self, host: str, port: int | None) -> bool:
        """This host's certificate is not checked."""

    def find_proxy(self, url: str) -> str | None:
        """The proxy for this address."""

    def find_login(self, url: str, *, refused: bool = False) -> Login | None:
        """The login for an address without userinfo. `refused`: the server did not take the first; ask the keyring."""

    def describe_login_sources(self, url: str) -> tuple[Text | str, ...]:
        """Where `login` looks, for a person."""

    def restore_secrets(self, url: str) -> str:
        """The address with the secrets that it was once seen with: a signed query, a user."""


@dataclass(frozen=True)
class DownloadRequest:
    """A file to have: its address (http, https, file; or a local path), its name, and what is promised of it."""

    url: str = field(repr=False)
    name: str
    sha256: str | None = None
    size: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    """further hashes: md5, sha512 ..."""


class Page(NamedTuple):
    """A page as it was served."""

    url: str
    """where it was in the end; relative links start from here"""
    content_type: str
    text: str


class CachedPage:
    """A page of a former run, and how to ask whether it still is that one."""

    def __init__(self, folder: Path | None, url: str, accept: str) -> None:
        self._path = folder / f"{hashlib.sha256(f'{accept} {url}'.encode()).hexdigest()}.json" if folder else None
        self.page: Page | None = None
        self.conditions: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(self._path.read_bytes()) if self._path else {}
            self.page = Page(stored["url"], stored["content_type"], stored["text"])
            self.conditions = dict(stored["conditions"])

    def save(self, page: Page, headers: Mapping[str, str]) -> None:
        """For the next run, with what the server gave to tell it apart from a newer one."""
        if self._path is None:
            return
        conditions = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
        stored = {
            "url": page.url,
            "content_type": page.content_type,
            "text": page.text,
            "conditions": {name: value for name, value in conditions.items() if value},
        }
        temporary = self._path.with_name(f"{self._path.stem}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_text(json.dumps(stored), "utf-8")
            temporary.replace(self._path)

    def remove(self) -> None:
        """It is no longer there."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
