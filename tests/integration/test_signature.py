"""What the system's ssh-keygen signs, with every kind of key that it makes, is accepted; and nothing but that."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from offlinepack.ontarget.errors import IntegrityError
from offlinepack.ontarget.signature import check, fingerprint, read_keys

KEYGEN = shutil.which("ssh-keygen")
pytestmark = pytest.mark.skipif(not KEYGEN, reason="no ssh-keygen here (Debian: openssh-client)")


def keygen(*arguments: object) -> str:
    done = subprocess.run(["ssh-keygen", *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(("kind", "more"), [("ed25519", []), ("rsa", ["-b", "2048"]), ("ecdsa", [])])
@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
def test_signed_and_verified(tmp_path: Path, kind: str, more: list[str], hashed: str) -> None:
    key, data = tmp_path / "key", tmp_path / "manifest.json"
    data.write_bytes(b'{"format": 1}\n')
    keygen("-q", "-t", kind, *more, "-N", "", "-C", "release@example", "-f", key)
    keygen("-q", "-Y", "sign", "-O", f"hashalg={hashed}", "-f", key, "-n", "offlinepack", data)
    raw = (tmp_path / "manifest.json.sig").read_bytes()
    notes = check(data.read_bytes(), [("manifest.json.sig", raw)], [f"{key}.pub"])
    assert "Signed by release@example" in notes[0].say()
    assert fingerprint(read_keys(f"{key}.pub")[0].key) in keygen("-l", "-f", f"{key}.pub")
    with pytest.raises(IntegrityError) as caught:
        check(data.read_bytes() + b"x", [("manifest.json.sig", raw)], [f"{key}.pub"])
    assert caught.value.exit_code == 7


def test_without_ssh_keygen_other_kinds_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, data = tmp_path / "key", tmp_path / "manifest.json"
    data.write_bytes(b"{}")
    keygen("-q", "-t", "ecdsa", "-N", "", "-f", key)
    keygen("-q", "-Y", "sign", "-f", key, "-n", "offlinepack", data)
    raw = (tmp_path / "manifest.json.sig").read_bytes()
    for script in (None, "echo 'unknown option -- Y' >&2; exit 255"):
        monkeypatch.setenv("PATH", str(tmp_path))
        if script:
            (tmp_path / "ssh-keygen").write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "ssh-keygen").chmod(0o755)
        with pytest.raises(IntegrityError, match=r"ecdsa-sha2-nistp256 needs ssh-keygen of OpenSSH 8\.1"):
            check(b"{}", [("manifest.json.sig", raw)], [f"{key}.pub"])


def test_our_arithmetic_agrees_with_ssh_keygens(tmp_path: Path) -> None:
    """A signature with one bit flipped is refused by both, and the sound one accepted by both."""
    import base64

    key, data = tmp_path / "key", tmp_path / "manifest.json"
    data.write_bytes(b"{}")
    keygen("-q", "-t", "ed25519", "-N", "", "-f", key)
    keygen("-q", "-Y", "sign", "-f", key, "-n", "offlinepack", data)
    good = (tmp_path / "manifest.json.sig").read_bytes()
    blob = bytearray(base64.b64decode(b"".join(good.splitlines()[1:-1])))
    for at in [None, 5, 9, 20, 45, 60, 75, 90, len(blob) - 64, len(blob) - 33, len(blob) - 1]:
        changed = bytearray(blob)
        if at is not None:
            changed[at] ^= 1
        lines = base64.b64encode(bytes(changed))
        body = b"\n".join(lines[one : one + 70] for one in range(0, len(lines), 70))
        raw = b"-----BEGIN SSH SIGNATURE-----\n" + body + b"\n-----END SSH SIGNATURE-----\n"
        (tmp_path / "one.sig").write_bytes(raw)
        command = ["ssh-keygen", "-Y", "check-novalidate", "-n", "offlinepack", "-s", str(tmp_path / "one.sig")]
        theirs = subprocess.run(command, input=b"{}", capture_output=True).returncode == 0
        try:
            ours = bool(check(b"{}", [("one.sig", raw)], [f"{key}.pub"]))
        except IntegrityError:
            ours = False
        assert ours == (at is None) and (theirs or not ours), at
