"""Types of HTTP access: the settings that reach a server, logins, download requests and pages."""

from __future__ import annotations

import os
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
        """Check whether the certificate of this host is not verified."""

    def find_proxy(self, url: str) -> str | None:
        """Return the proxy for an address, or None."""

    def find_login(self, url: str, *, refused: bool = False) -> Login | None:
        """Return the login for an address without userinfo; after a refusal, ask the keyring."""

    def describe_login_sources(self, url: str) -> tuple[Text | str, ...]:
        """Describe the places where find_login looks."""

    def restore_secrets(self, url: str) -> str:
        """Return the address with the secrets that it had when it was read: a signed query, a user."""


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
