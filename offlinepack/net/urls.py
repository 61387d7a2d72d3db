"""Split, redact and normalize URLs; map them to local paths and read local pages."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from offlinepack.errors import FetchError, error, text
from offlinepack.net.model import Login, Page
from offlinepack.ontarget.errors import explain_os_error


def redact_url(url: str) -> str:
    """Remove user, password, query and fragment, so that an address may be printed and stored."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def split_credentials(url: str) -> tuple[str, Login | None]:
    """Split an address into the address without userinfo and the login in it (percent-encoding decoded)."""
    parts = urlsplit(url)
    userinfo, at, netloc = parts.netloc.rpartition("@")
    bare = urlunsplit(parts._replace(netloc=netloc)) if at else url
    user, colon, password = userinfo.partition(":")
    return bare, Login(unquote(user), unquote(password), text("the address")) if at and colon else None


def get_local_path(url: str) -> Path | None:
    """Return the path of a file: address or of a plain path; None for an address on a server."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"
        return Path(url2pathname(host + parts.path))
    # C:\folder has a scheme of one letter
    return Path(url) if len(parts.scheme) <= 1 else None


def read_local_page(path: Path, url: str) -> Page | None:
    """Read a page from a file, or index.html of a folder; None if it does not exist."""
    page = path / "index.html" if path.is_dir() else path
    try:
        return Page(page.absolute().as_uri(), "text/html", page.read_text("utf-8", "replace"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise FetchError(
            error(
                "file-unreadable",
                redact_url(url),
                "{subject} cannot be read at {path}: {words}.",
                "Put the file there, or mend the address.",
                path=page,
                words=explain_os_error(problem),
            )
        ) from problem


def get_host(url: str) -> str:
    """Return host and port of an address without userinfo."""
    return urlsplit(url).netloc.rpartition("@")[2]


def normalize_proxy_url(proxy: str) -> str | None:
    """Return the address of a proxy with its scheme; None for an empty one."""
    return proxy if "://" in proxy else f"http://{proxy}" if proxy else None


def is_in_no_proxy_network(host: str | None, no_proxy: str | None) -> bool:
    """Check whether NO_PROXY names a network (10.0.0.0/8) that an address is in."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    for part in (no_proxy or "").split(","):
        try:
            if "/" in part and address in ipaddress.ip_network(part.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def expand_home(path: str) -> Path:
    """Expand ~ in a path."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (without a home it stays as it is)


def strip_credentials(url: str) -> str:
    """Remove user, password and fragment of an address."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", url.partition("#")[0])


def redact_text(text: str) -> str:
    """Remove user, password and query of every address in a text."""
    text = re.sub(r"(?<=://)[^/@\s]*@(?=[^/\s])", "", text)
    return re.sub(r"(://[^\s?#]*)\?[^\s#]*", r"\1", text)
