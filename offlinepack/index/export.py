"""Write indexes as arguments, environment variables and settings of uv and pip."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from packaging.utils import canonicalize_name

from offlinepack.index.model import Index, Indexes
from offlinepack.net.urls import get_local_path, normalize_proxy_url, redact_url

_FORWARDED_UV_PREFIXES = ("UV_CACHE_DIR", "UV_CONCURRENT_", "UV_HTTP_", "UV_LINK_MODE", "UV_CREDENTIALS_DIR")


def make_uv_arguments(indexes: Indexes) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of uv, which reads no pip.conf, and the variables with the secrets.

    Explicit indexes are not among them: see `make_uv_project`. Run uv without the caller's UV_* variables.
    """
    arguments = ["--index-strategy", "first-index", "--keyring-provider", "disabled"]
    environment = {"UV_NO_CONFIG": "1"}
    shown = [] if indexes.no_index else [index for index in indexes.indexes if not index.is_explicit]
    for at, index in enumerate(shown):
        name = f"index{indexes.indexes.index(index) + 1}"
        arguments += ["--default-index" if at == len(shown) - 1 else "--index", f"{name}={index.url}"]
    environment.update(_iter_uv_logins(indexes))
    if not shown:
        arguments.append("--no-index")
    with_secret = []
    for link in indexes.find_links:
        if get_local_path(link) is None and redact_url(link) != link.partition("#")[0]:
            with_secret.append(link.replace(",", "%2C"))
        else:  # uv takes a comma for the end of one place
            arguments += ["--find-links", Path(link).as_uri() if "," in link and "://" not in link else link]
    if with_secret:
        environment["UV_FIND_LINKS"] = ",".join(with_secret)
    for host in indexes.trusted_hosts:
        arguments += ["--allow-insecure-host", host]
    environment.update({name: value for name, value in os.environ.items() if name.startswith(_FORWARDED_UV_PREFIXES)})
    if indexes.cert is None:
        # older versions know the one name, newer ones the other
        environment.update(UV_SYSTEM_CERTS="1", UV_NATIVE_TLS="1")
    elif indexes.cert.is_dir():
        environment.update(SSL_CERT_DIR=str(indexes.cert), SSL_CERT_FILE="")
    else:
        environment["SSL_CERT_FILE"] = str(indexes.cert)
    if indexes.client_cert is not None:
        environment["SSL_CLIENT_CERT"] = str(indexes.client_cert)
    environment.update(_make_proxy_variables(indexes))
    return arguments, environment


def make_uv_project(indexes: Indexes, requirements: Iterable[str]) -> str:
    """Return a pyproject.toml that makes uv take these requirements from their indexes; '' if none has one.

    uv applies a source only to the dependencies of the file itself, so resolve again when a further project with a
    source turns up.
    """
    project_of = {line: re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in requirements}
    project_of = {line: canonicalize_name(name) for line, name in project_of.items()}
    project_of = {line: name for line, name in project_of.items() if name in indexes.sources}
    if not project_of:
        return ""
    lines = [
        "[project]",
        'name = "offlinepack-sources"',
        'version = "0"',
        f"dependencies = {json.dumps([*project_of])}",
    ]
    used = {indexes.sources[name] for name in project_of.values()}
    for at, index in enumerate(indexes.indexes):
        if index.name in used:
            lines += ["[[tool.uv.index]]", f'name = "index{at + 1}"', f"url = {json.dumps(index.url)}"]
            lines.append("explicit = true")
            used.discard(index.name)
    names = {index.name: f"index{at + 1}" for at, index in reversed([*enumerate(indexes.indexes)])}
    lines.append("[tool.uv.sources]")
    lines += [
        f'{json.dumps(name)} = {{ index = "{names[indexes.sources[name]]}" }}' for name in set(project_of.values())
    ]
    return "\n".join([*lines, ""])


def _iter_uv_logins(indexes: Indexes) -> Iterator[tuple[str, str]]:
    for at, index in enumerate(indexes.indexes):
        login = indexes.find_initial_login(index)
        if login is not None:
            yield f"UV_INDEX_INDEX{at + 1}_USERNAME", login.user
            yield f"UV_INDEX_INDEX{at + 1}_PASSWORD", login.password


def make_pip_arguments(indexes: Indexes) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of pip and pip-compile, and the variables with the secrets for an environment without
    PIP_*.

    Explicit indexes are among them, since pip has no sources; the caller keeps projects to their index.
    """
    environment = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    addresses = [_add_login(indexes, index) for index in ([] if indexes.no_index else indexes.indexes)]
    if addresses:
        environment["PIP_INDEX_URL"] = addresses[0]
        environment["PIP_EXTRA_INDEX_URL"] = " ".join(addresses[1:])
    else:
        environment["PIP_NO_INDEX"] = "1"
    # pip splits these at spaces
    links = [Path(link).absolute().as_uri() if "://" not in link else link for link in indexes.find_links]
    environment["PIP_FIND_LINKS"] = " ".join(links)
    environment["PIP_TRUSTED_HOST"] = " ".join(indexes.trusted_hosts)
    environment["PIP_KEYRING_PROVIDER"] = "disabled"
    if indexes.cert is not None:
        # pip lets the variable win over its own option
        environment.update(PIP_CERT=str(indexes.cert), REQUESTS_CA_BUNDLE=str(indexes.cert))
    if indexes.client_cert is not None:
        environment["PIP_CLIENT_CERT"] = str(indexes.client_cert)
    if indexes.proxy:
        environment["PIP_PROXY"] = indexes.proxy
    if indexes.retries is not None:
        environment["PIP_RETRIES"] = str(indexes.retries)
    if indexes.timeout is not None:
        environment["PIP_DEFAULT_TIMEOUT"] = f"{indexes.timeout:g}"
    environment.update(_make_proxy_variables(indexes))
    return [], {name: value for name, value in environment.items() if value or not name.startswith("PIP_")}


def _add_login(indexes: Indexes, index: Index) -> str:
    login = indexes.find_initial_login(index)
    if login is None:
        return index.url
    userinfo = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}@"
    parts = urlsplit(index.url)
    return urlunsplit(parts._replace(netloc=userinfo + parts.netloc))


def _make_proxy_variables(indexes: Indexes) -> dict[str, str]:
    """Return --proxy as the variables that every program reads; '' unsets one."""
    if indexes.proxy is None:
        return {}
    proxy = normalize_proxy_url(indexes.proxy) or ""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy")
    return {**dict.fromkeys(names, proxy), "NO_PROXY": "", "no_proxy": ""}
