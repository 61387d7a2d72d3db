"""What the system's ssh-keygen signs, with every kind of key that it makes, is accepted; and nothing but that."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from offlinepack.ontarget.errors import IntegrityError, UsageError
from offlinepack.ontarget.signature import check_signatures, format_fingerprint, read_keys

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
    notes = check_signatures(data.read_bytes(), [("manifest.json.sig", raw)], [f"{key}.pub"])
    assert "Signed by release@example" in notes[0].render()
    assert format_fingerprint(read_keys(f"{key}.pub")[0].key) in keygen("-l", "-f", f"{key}.pub")
    with pytest.raises(IntegrityError) as caught:
        check_signatures(data.read_bytes() + b"x", [("manifest.json.sig", raw)], [f"{key}.pub"])
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
            check_signatures(b"{}", [("manifest.json.sig", raw)], [f"{key}.pub"])


def test_our_arithmetic_agrees_with_ssh_keygens(tmp_path: Path) -> None:
    """A signature with one bit flipped is refused by both, and the sound one accepted by both."""
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
            ours = bool(check_signatures(b"{}", [("one.sig", raw)], [f"{key}.pub"]))
        except IntegrityError:
            ours = False
        assert ours == (at is None) and (theirs or not ours), at


# ------------------------------------------------------- what ssh-keygen refuses is never accepted here

DATA = b'{"format": 1}\n'
OPTIONS = (
    """
namespaces="offlinepack"|namespaces=offlinepack|namespaces="file,offlinepack"|namespaces="off*"|namespaces="*,!offlinepack"|namespaces="!offlinepack,*"
namespaces="file"|namespaces="OfflinePack"|namespaces="file, offlinepack"|namespaces=""|namespaces="file",namespaces="offlinepack"|namespaces
namespaces="offline\\"pack"|namespaces="offlinepack,"|namespaces="offlinepac?"|namespaces="offlinepac[k]"|NAMESPACES="offlinepack"
namespaces='offlinepack'|namespaces = "offlinepack"|namespaces="offlinepack",|namespaces="file offlinepack"|foo|foo="bar"|namespaces="offlinepack",foo
no-touch-required|verify-required|cert-authority|CERT-AUTHORITY|cert-authority,namespaces="offlinepack"|namespaces="offlinepack",cert-authority
valid-after="20200101"|valid-after="20991231"|valid-before="20991231"|valid-before="20200101"|valid-before="20991231z"|valid-before="20991231ZZ"
valid-before="2099-12-31"|valid-before="209912310000"|valid-before="2099123100"|valid-before="20991331"|valid-before="209912312400"
valid-before="20991231000061"|valid-before=""|valid-after=" 20200101"|valid-after="20200101 "|valid-after="+2020101"|valid-after="19700101Z"
valid-after="19690101Z"|valid-after="00000101Z"|valid-before="99991231Z"|valid-after=20200101|valid-after="20991231",valid-after="20200101"
valid-before="20200101",valid-before="20991231"|valid-after="20210101",valid-before="20200101"|valid-after="always"|valid-before="forever"
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
LINES = """
a@b {key}|a@b {key} a comment|a@b {key}{cr}|{bom}a@b {key}|{tab}a@b {key}|* {key}|*@b {key}|!a@b,* {key}|!a@b {key}|"a@b,c d" {key}|"a@b {key}
ü@b {key}|a@b {other}|a@b {other}{lf}c@d {key}|a@b {other}{cr}c@d {key}|a@b namespaces="file" {key}{lf}a@b {key}|# {key}|  # a@b {key}|; a@b {key}
# {vt}a@b {key}|# {ff}a@b {key}|# {fs}a@b {key}|# {nel}a@b {key}|# {ls}a@b {key}|# {cr}a@b {key}|a@b {other} {ls}c@d {key}|a@b{nbsp}{key}|a@b{vt}{key}
{nul}a@b {key}|a@b {key}{nul}|a@b {key}==|a@b {kind}x {blob}|a@b ssh-rsa {blob}|a@b {upper} {blob}|ssh-admin@x {key}|sk-x {key}|namespaces="offlinepack" a@b {key}
namespaces="offlinepack" {key}|restrict {key}|a@b {cert}|a@b cert-authority {other}|nothing
""".replace("\n", "|").strip("|").split("|")  # fmt: skip
CHARACTERS = {"cr": "\r", "lf": "\n", "tab": "\t", "vt": "\v", "ff": "\f", "fs": "\x1c", "nel": "\x85", "ls": "\u2028"}
CHARACTERS |= {"nbsp": "\xa0", "nul": "\0", "bom": "\ufeff"}


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three keys, and what each of them has signed."""
    folder = tmp_path_factory.mktemp("signed")
    (folder / "data").write_bytes(DATA)
    for kind, more in (("ed25519", ()), ("rsa", ("-b", "2048")), ("ecdsa", ())):
        keygen("-q", "-t", kind, *more, "-N", "", "-C", "", "-f", folder / kind)
        keygen("-q", "-Y", "sign", "-f", folder / kind, "-n", "offlinepack", folder / "data")
        (folder / "data.sig").rename(folder / f"{kind}.sig")
    keygen("-q", "-s", folder / "ecdsa", "-I", "id", "-n", "a@b", folder / "ed25519.pub")
    return folder


def theirs(folder: Path, allowed: bytes, signature: bytes) -> bool:
    """Whether ssh-keygen takes it from anybody that the file names."""
    (folder / "allowed").write_bytes(allowed)
    (folder / "one.sig").write_bytes(signature)
    find = ["ssh-keygen", "-Y", "find-principals", "-s", folder / "one.sig", "-f", folder / "allowed"]
    named = subprocess.run(find, capture_output=True).stdout.decode("utf-8", "replace").splitlines()
    for who in {"a@b", *(one.replace("*", "x") for line in named for one in line.split(","))}:
        verify = ["ssh-keygen", "-Y", "verify", "-n", "offlinepack", "-I", who]
        verify += ["-s", str(folder / "one.sig"), "-f", str(folder / "allowed")]
        if subprocess.run(verify, input=DATA, capture_output=True).returncode == 0:
            return True
    return False


def ours(folder: Path, allowed: bytes, signature: bytes) -> bool:
    (folder / "allowed").write_bytes(allowed)
    try:
        return bool(check_signatures(DATA, [("one.sig", signature)], [str(folder / "allowed")]))
    except (IntegrityError, UsageError):
        return False


def test_allowed_signers_as_ssh_keygen_reads_them(signed: Path, tmp_path: Path) -> None:
    kind, blob = (signed / "ed25519.pub").read_text().split()[:2]
    other = " ".join((signed / "ecdsa.pub").read_text().split()[:2])
    cert = " ".join((signed / "ed25519-cert.pub").read_text().split()[:2])
    facts = {"key": f"{kind} {blob}", "kind": kind, "upper": kind.upper(), "blob": blob, "other": other, "cert": cert}
    files = [line.format(**facts, **CHARACTERS) for line in LINES]
    files += [f"a@b {option} {kind} {blob}" for option in OPTIONS]
    raw, taken = (signed / "ed25519.sig").read_bytes(), 0
    for one in files:
        mine = ours(tmp_path, one.encode() + b"\n", raw)
        assert not mine or theirs(tmp_path, one.encode() + b"\n", raw), one
        taken += mine
    assert taken > 25


def test_signatures_as_ssh_keygen_reads_them(signed: Path, tmp_path: Path) -> None:
    """Some are refused here that it takes: text after the end, the version 0, a NUL in the namespace, S beyond L."""
    kinds = ("ed25519", "rsa", "ecdsa")
    allowed = b"".join(b"a@b " + (signed / f"{one}.pub").read_bytes() for one in kinds)
    for kind in kinds:
        good = (signed / f"{kind}.sig").read_bytes()
        blob = base64.b64decode(b"".join(good.splitlines()[1:-1]))
        parts = sshsig_strings(blob[10:])
        how, value = sshsig_strings(parts[4])
        another = base64.b64decode(
            (signed / ("rsa" if kind != "rsa" else "ecdsa")).with_suffix(".pub").read_text().split()[1]
        )
        changes = {
            0: [another, parts[0] + b"x", b""],
            1: [b"file", b"offlinepack\0", b"", b"OFFLINEPACK"],
            2: [b"x"],
            3: [b"md5", b"SHA512", b"sha256", b"sha1", b""],
            4: [parts[4] + b"x", parts[4][:-1], b"", sshsig_joined(b"ssh-rsa", value), sshsig_joined(b"rsa-sha2-256", value),
                sshsig_joined(b"sk-ssh-ed25519@openssh.com", value), sshsig_joined(how, value + b"x"), sshsig_joined(how, b"\0" + value)],
        }  # fmt: skip
        made = [sshsig_armored(blob[:10] + sshsig_joined(*parts[:at], one, *parts[at + 1 :]))
                for at, each in changes.items() for one in each]  # fmt: skip
        made += [sshsig_armored(one + blob[10:]) for one in (b"SSHSIG\0\0\0\2", b"SSHSIG\0\0\0\0", b"SSHSIX\0\0\0\1")]
        made += [
            sshsig_armored(blob + b"\0"),
            sshsig_armored(blob[:-1]),
            sshsig_armored(blob, 76),
            sshsig_armored(blob, 7),
        ]
        made += [good + good, b"x\n" + good, good + b"x", b"\n" + good, b" " + good, good.rpartition(b"-----END")[0]]
        made += [
            good.replace(b"BEGIN SSH", b"BEGIN PGP"),
            good.replace(b"\nU1NI", b"\nU1N!"),
            good.replace(b"\nU1NI", b"\nU1=I"),
        ]
        for one in made:
            assert not ours(tmp_path, allowed, one) or theirs(tmp_path, allowed, one), one
        assert ours(tmp_path, allowed, good) and theirs(tmp_path, allowed, good)
        assert ours(tmp_path, allowed, good.replace(b"\n", b"\r\n")), "carried by mail, or through Windows"


def sshsig_strings(data: bytes) -> list[bytes]:
    """Strings, each after its length in four bytes."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found, data = [*found, data[4:end]], data[end:]
    return found


def sshsig_joined(*parts: bytes) -> bytes:
    return b"".join(len(one).to_bytes(4, "big") + one for one in parts)


def sshsig_armored(blob: bytes, width: int = 70) -> bytes:
    lines = base64.b64encode(blob)
    body = b"\n".join(lines[at : at + width] for at in range(0, len(lines), width))
    return b"-----BEGIN SSH SIGNATURE-----\n" + body + b"\n-----END SSH SIGNATURE-----\n"
