"""Secrets planted in every input of a build: none is in anything that is written or said, unpacked and decoded too."""

from __future__ import annotations

import base64
import gzip
import io
import os
import tarfile
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.making import ServedIndex, make_wheel, serve_index

Run = Callable[..., Any]
LINUX = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")
SECRETS = {
    one: f"Zq-{one}-7f3a91c2+e"
    for one in ("address", "netrc", "pip-conf", "query", "proxy", "environment", "vcs", "settings")
}


def spellings(secret: str) -> set[bytes]:
    found = {secret, urllib.parse.quote(secret, safe=""), secret.encode().hex()}
    plain = {one.encode() for one in found} | {secret.encode("utf-16-le")}
    for before in ("", "x", "xy"):  # base64 at each alignment, without the characters that its neighbours decide
        coded = base64.b64encode((before + secret).encode())
        plain.add(coded[4 if before else 0 : len(coded) // 4 * 4 - 4])
    return plain


def opened(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The bytes, and those of all that is packed in them."""
    yield name, data
    if data[:2] == b"\x1f\x8b":
        yield from opened(f"{name}|", gzip.decompress(data))
    elif data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for one in archive.namelist():
                yield from opened(f"{name}/{one}", archive.read(one))
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for one in archive:
                source = archive.extractfile(one)
                if source:
                    yield from opened(f"{name}/{one.name}", source.read())


def test_eight_planted_secrets_go_nowhere(
    index: ServedIndex, offlinepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = tmp_path / "inputs-with-secrets"
    inputs.mkdir()
    with serve_index(inputs, [make_wheel(inputs / "w", "marble", "1.0")]) as second:
        index.auth, second.auth = ("reader", SECRETS["address"]), ("reader", SECRETS["pip-conf"])
        (inputs / "netrc").write_text(f"machine files.example login me password {SECRETS['netrc']}\n")
        (inputs / "netrc").chmod(0o600)
        (inputs / "pip.conf").write_text(
            f"[global]\nextra-index-url = {second.with_credentials('reader', SECRETS['pip-conf'])}\n"
        )
        monkeypatch.setenv("NETRC", str(inputs / "netrc"))
        monkeypatch.setenv("PIP_CONFIG_FILE", str(inputs / "pip.conf"))
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{urllib.parse.quote(SECRETS['proxy'])}@127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("CI_JOB_TOKEN", SECRETS["environment"])
        monkeypatch.delenv("OFFLINEPACK_INDEX_URL")
        address = index.with_credentials("reader", SECRETS["address"])
        (inputs / "offlinepack.toml").write_text(
            f'[tool.offlinepack]\nfind-links = ["{index.flat}?signature={urllib.parse.quote(SECRETS["query"])}"]\n'
            f'cache-dir = "{tmp_path}/cache"\nproxy = "http://me:{urllib.parse.quote(SECRETS["settings"])}@127.0.0.1:9"\n'
        )
        said = []
        first = ("-i", address, "-vv", *LINUX)
        for words in (
            ("build", "stone", *first, "--json"),
            ("build", "marble", *first, "-o", "marble.tar.gz"),
            ("lock", "stone", *first, "-o", "pylock.toml"),
            (
                "build",
                "stone",
                *first,
                "-f",
                f"{index.flat}?signature={urllib.parse.quote(SECRETS['query'])}",
                "-o",
                "f.tar.gz",
            ),
            (
                "build",
                f"x @ git+https://me:{urllib.parse.quote(SECRETS['vcs'])}@127.0.0.1:9/x.git",
                *first,
                "-o",
                "v.tar.gz",
            ),
            ("build", "nowhere", *first, "--config", str(inputs / "offlinepack.toml"), "-o", "n.tar.gz"),
        ):
            done = offlinepack(*words)
            said.append((words[1], done.code, done.out + done.err))
    assert [code for _, code, _ in said][:4] == [0, 0, 0, 0], said
    assert all(code for _, code, _ in said[4:]), said
    everything = [(f"what {name} said", text.encode()) for name, _, text in said]
    for path in tmp_path.rglob("*"):
        # uv's cache is uv's own, in the user's folder: it keeps the addresses of --find-links as they were given
        if path.is_file() and inputs not in path.parents and tmp_path / "cache" / "uv" not in path.parents:
            everything += opened(str(path), path.read_bytes())
    assert len(everything) > 100
    for kind, secret in SECRETS.items():
        for spelling in spellings(secret):
            assert [name for name, data in everything if spelling in data] == [], kind
    packed = [(name, data) for name, data in everything if ".tar.gz" in name]
    # a port alone is five digits, which some certificate has too
    for private in (str(tmp_path), os.path.expanduser("~/"), f":{index.port}", f":{second.port}"):
        assert [name for name, data in packed if private.encode() in data] == [], private
