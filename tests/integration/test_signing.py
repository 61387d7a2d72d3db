"""Signatures made by the system's ssh-keygen, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import ComputerError, UsageError
from offlinepack.ontarget.signature import check_signatures
from offlinepack.signing import get_signature_path, read_signatures, sign_manifest, write_signature

from ..support.bundles import make_bundle

WHO = "packer@example.org"


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", WHO, "-f", str(path)], check=True, capture_output=True
    )
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for kind in ("ed25519", "ecdsa", "rsa"):
        keygen(folder / kind, kind)
    return folder


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_in_a_file(kind: str, keys: Path) -> None:
    made = sign_manifest(b"hello", keys / kind)
    assert made.startswith(b"-----BEGIN SSH SIGNATURE-----\n")
    assert b"\r" not in made
    (found,) = check_signatures(b"hello", [("x.sig", made)], [str(keys / f"{kind}.pub")])
    assert found.level == "note"


def test_the_same_bytes_are_signed_the_same(keys: Path) -> None:
    assert sign_manifest(b"hello", keys / "ed25519") == sign_manifest(b"hello", keys / "ed25519")


@pytest.fixture
def agent(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    started = subprocess.run(
        ["ssh-agent", "-s", "-a", str(tmp_path / "socket")], check=True, capture_output=True, text=True
    )
    process = int(re.search(r"SSH_AGENT_PID=(\d+)", started.stdout)[1])  # type: ignore[index]
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "socket"))
    yield lambda key: subprocess.run(["ssh-add", "-q", str(key)], check=True, capture_output=True) and None  # type: ignore[func-returns-value]
    os.kill(process, 15)


def test_a_key_in_the_agent(agent: Callable[[Path], None], tmp_path: Path) -> None:
    key = keygen(tmp_path / "key")
    agent(key)
    key.unlink()
    made = sign_manifest(b"hello", tmp_path / "key.pub")
    assert check_signatures(b"hello", [("x.sig", made)], [str(tmp_path / "key.pub")])


def test_there_is_no_such_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no key"):
        sign_manifest(b"hello", tmp_path / "nothing")


def test_what_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hello")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(UsageError, match="did not sign") as raised:
        sign_manifest(b"hello", tmp_path / "key")
    assert raised.value.findings[0].log


def test_a_wrong_passphrase_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = keygen(tmp_path / "key", passphrase="secret words")
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    with pytest.raises(UsageError, match="passphrase"):
        sign_manifest(b"hello", key)


def test_there_is_no_ssh_keygen(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ComputerError, match="OpenSSH"):
        sign_manifest(b"hello", keys / "ed25519")


def test_an_ssh_keygen_that_is_too_old(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ssh-keygen").write_text("#!/bin/sh\necho 'unknown option -- Y' >&2\nexit 1\n")
    (tmp_path / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ComputerError, match="cannot sign"):
        sign_manifest(b"hello", keys / "ed25519")


def test_a_bundle_with_a_signature_inside_and_one_beside(keys: Path, tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)
    opened = open_bundle(path)
    before = path.read_bytes()
    place = write_signature(path, sign_manifest(opened.manifest_bytes, keys / "ed25519"))
    assert place == path.with_name(path.name + ".sig")
    assert path.read_bytes() == before, "the approved bytes are left alone"
    open_bundle(path).embed_signature(sign_manifest(opened.manifest_bytes, keys / "rsa"))
    opened = open_bundle(path)
    found = read_signatures(opened)
    assert [name for name, _ in found] == ["manifest.json.2.sig", str(place)]
    notes = check_signatures(opened.manifest_bytes, found, [str(keys / "ed25519.pub"), str(keys / "rsa.pub")])
    assert [one.level for one in notes] == ["note", "note"]


def test_a_signature_that_lies_elsewhere(keys: Path, tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)
    folder = tmp_path / "there"
    list(open_bundle(path).unpack(folder))
    opened = open_bundle(folder)
    (tmp_path / "approved.sig").write_bytes(sign_manifest(opened.manifest_bytes, keys / "ed25519"))
    found = read_signatures(opened, [tmp_path / "approved.sig"])
    assert check_signatures(opened.manifest_bytes, found, [str(keys / "ed25519.pub")])
    with pytest.raises(UsageError, match="cannot be read"):
        read_signatures(opened, [tmp_path / "nothing.sig"])


@pytest.mark.parametrize("name", ["b.tar.gz", "b.tar.gz.001", "b.tar.gz.002"])
def test_parts_have_one_signature(name: str) -> None:
    assert get_signature_path(Path("/x") / name) == Path("/x/b.tar.gz.sig")
