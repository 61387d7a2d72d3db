"""Signatures are verified as ssh-keygen does it; the arithmetic by the vectors of RFC 8032 and Wycheproof."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offlinepack.ontarget.ed25519 import _L, _P, _add_points, _decode_point, verify_signature
from offlinepack.ontarget.errors import IntegrityError, UsageError
from offlinepack.ontarget.signature import check_signatures, format_fingerprint, read_keys, required_keys

VECTORS = Path(__file__).parents[2] / "fixtures" / "vectors"
MADE = VECTORS / "sshsig"
DATA = (MADE / "manifest.json").read_bytes()
PUB = (MADE / "ed25519.pub").read_text().split()
NAME = "manifest.json.sig"


def vectors(name: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((VECTORS / f"ed25519-{name}.json").read_text())["vectors"]
    return listed


@pytest.mark.parametrize("name", ["rfc8032", "wycheproof"])
def test_vectors(name: str) -> None:
    wrong = []
    for one in vectors(name):
        ok = verify_signature(*(bytes.fromhex(one[key]) for key in ("key", "message", "signature")))
        if one["result"] != "acceptable" and ok != (one["result"] == "valid"):
            wrong.append(one)
        if one.get("id") in range(152, 160):  # keys of small order
            assert not ok, "anybody could sign with that key"
    assert wrong == []


# ------------------------------------------------------------------------------- signatures, made here byte by byte


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


SECRET = hashlib.sha512(b"a key of the tests").digest()


def times(scalar: int) -> bytes:
    point, base = (0, 1, 1, 0), _decode_point(b"\x58" + b"\x66" * 31)
    for bit in range(255, -1, -1):
        point = _add_points(point, point)
        point = _add_points(point, base) if scalar >> bit & 1 else point
    x, y = (one * pow(point[2], _P - 2, _P) % _P for one in point[:2])
    return (y | (x & 1) << 255).to_bytes(32, "little")


SCALAR = int.from_bytes(SECRET[:32], "little") % _L
KEY = times(SCALAR)
BLOB = string(b"ssh-ed25519") + string(KEY)


def sign(message: bytes) -> bytes:
    r = int.from_bytes(hashlib.sha512(SECRET[32:] + message).digest(), "little") % _L
    point = times(r)
    k = int.from_bytes(hashlib.sha512(point + KEY + message).digest(), "little") % _L
    return point + ((r + k * SCALAR) % _L).to_bytes(32, "little")


def armored(blob: bytes) -> bytes:
    lines = base64.b64encode(blob)
    body = b"\n".join(lines[at : at + 70] for at in range(0, len(lines), 70))
    return b"-----BEGIN SSH SIGNATURE-----\n" + body + b"\n-----END SSH SIGNATURE-----\n"


def sshsig(
    data: bytes = DATA,
    *,
    key: bytes = BLOB,
    namespace: bytes = b"offlinepack",
    reserved: bytes = b"",
    hashed: str = "sha512",
    kind: bytes = b"ssh-ed25519",
    start: bytes = b"SSHSIG\0\0\0\1",
    end: bytes = b"",
    value_end: bytes = b"",
) -> bytes:
    digest = hashlib.new(hashed if hashed in hashlib.algorithms_available else "md5", data).digest()
    name = hashed.encode()
    message = b"SSHSIG" + string(namespace) + string(reserved) + string(name) + string(digest)
    value = string(kind) + string(sign(message)) + value_end
    return armored(start + string(key) + string(namespace) + string(reserved) + string(name) + string(value) + end)


def public(blob: bytes = BLOB) -> str:
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "release.pub"
    path.write_text(public() + " release@example\n")
    return path


def why(raw: bytes, *paths: Path, data: bytes = DATA, now: float | None = None) -> str:
    """'' where it is accepted."""
    try:
        check_signatures(data, [(NAME, raw)], [str(path) for path in paths], now)
    except (IntegrityError, UsageError) as refused:
        return " | ".join(one.sentence.render() for one in refused.findings)
    return ""


def test_what_ssh_keygen_made() -> None:
    found = check_signatures(DATA, [(NAME, (MADE / "ed25519.sig").read_bytes())], [str(MADE / "ed25519.pub")])
    assert [one.level for one in found] == ["note"]
    assert found[0].render().startswith("Signed by ed25519@example (SHA256:") and NAME in found[0].render()


@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
def test_good(keys: Path, hashed: str) -> None:
    assert why(sshsig(hashed=hashed), keys) == ""
    assert why(sshsig(hashed=hashed).replace(b"\n", b"\r\n"), keys) == ""


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (sshsig(DATA + b" "), "manifest.json is not what was signed"),
        (sshsig(namespace=b"file"), "made for another purpose: file"),
        (sshsig(namespace=b"offlinepack\0"), r"made for another purpose: offlinepack\x00"),
        (sshsig(hashed="md5"), "made for another purpose"),
        (sshsig(start=b"SSHSIG\0\0\0\2"), "no signature of ssh-keygen"),
        (sshsig(start=b"SSHSIX\0\0\0\1"), "no signature of ssh-keygen"),
        (sshsig(end=b"\0"), "longer than it should be"),
        (sshsig(value_end=b"\0"), "longer than it should be"),
        (sshsig(kind=b"ssh-ed25518"), "it does not fit"),
        (sshsig(key=BLOB + b"\0"), "another key"),
        (sshsig(key=string(b"ssh-ed25519-cert-v01@openssh.com") + string(KEY)), "another key"),
        (sshsig()[:-30], "no signature of ssh-keygen"),
        (b"", "no signature of ssh-keygen"),
        (b"x" + sshsig(), "no signature of ssh-keygen"),
        (sshsig() + b"x", "no signature of ssh-keygen"),
        (sshsig() * 2, "no signature of ssh-keygen"),
        (armored(b"SSHSIG\0\0\0\1" + b"\xff\xff\xff\xff"), "cut off"),
        (armored(b"SSHSIG\0\0\0\1" + string(BLOB)[:-1]), "cut off"),
        (armored(b"SSHSIG\0\0\0\1"), "cut off"),
        (b"-----BEGIN SSH SIGNATURE-----\nAAA\n-----END SSH SIGNATURE-----\n", "base64"),
        (armored(b"SSHSIG\0\0\0\1" + b"\0" * 100_000), "no signature of ssh-keygen"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad(keys: Path, raw: bytes, sentence: str) -> None:
    assert sentence in why(raw, keys)


def test_reserved_bytes_are_signed_too(keys: Path) -> None:
    assert why(sshsig(reserved=b"x"), keys) == ""


def test_any_of_the_signatures_will_do_and_all_files_of_keys_must_be_served(keys: Path) -> None:
    one, other = (NAME, sshsig()), ("manifest.json.2.sig", (MADE / "ed25519.sig").read_bytes())
    both = [str(keys), str(MADE / "ed25519.pub")]
    assert len(check_signatures(DATA, [one, other], both)) == len(check_signatures(DATA, [other, one], both)) == 2
    with pytest.raises(IntegrityError) as caught:
        check_signatures(DATA, [one], [*both, str(MADE / "rsa.pub")])
    assert [one.subject for one in caught.value.findings] == [*both[1:], str(MADE / "rsa.pub")]
    assert caught.value.exit_code == 7
    with pytest.raises(IntegrityError, match="there is no signature"):
        check_signatures(DATA, [], both)


ZONED = time.strftime("%Y%m%d%H%M%S", time.localtime(1_700_000_000))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("release@example {}", ""),
        ("*@example,other {} a comment", ""),
        ('"release manager" {}', ""),
        ('a@b namespaces="offlinepack" {}', ""),
        ('a@b namespaces="file,off*pack" {}', ""),
        ("a@b namespaces=offlinepack {}", "an option that is not known"),
        ('a@b namespaces="offline????" {}', ""),
        ('a@b namespaces="file",namespaces="offlinepack" {}', "an option that is not known"),
        ('a@b namespaces="offlinepack", {}', "an option that is not known"),
        ('a@b namespaces="" {}', "may not sign for the namespace"),
        ('a@b namespaces="file, offlinepack" {}', "may not sign for the namespace"),
        ("ssh-admin@example {}", ""),
        ("a@b {}\r", ""),
        ("\ufeff# a byte order mark\na@b {}", ""),
        ("\ta@b \t{}", ""),
        ('"a@b {}', "no public key"),
        ("!a@b,!c {}", "or nobody's"),
        ("!a@b,* {}", ""),
        ("# revoked\u2028a@b {}", "cannot be printed"),
        ("# revoked\ra@b {}", "cannot be printed"),
        ("# revoked\x0ba@b {}", "cannot be printed"),
        ("a@b\xa0{}", "an option that is not known"),
        ("a@b {}==", "base64"),
        ('a@b NAMESPACES="offlinepack" {}', ""),
        ('a@b namespaces="file" {}', "may not sign for the namespace"),
        ('a@b namespaces="*,!offlinepack" {}', "may not sign for the namespace"),
        ('a@b namespaces="offlinepac?k" {}', "may not sign for the namespace"),
        ('a@b namespaces="off.inepack" {}', "may not sign for the namespace"),
        ('a@b valid-after="20231114Z",valid-before="20231116Z" {}', ""),
        (f'a@b valid-after="{ZONED}" {{}}', ""),
        (f'a@b valid-before="{ZONED}" {{}}', ""),
        (f"a@b valid-before={ZONED} {{}}", "an option that is not known"),
        ('a@b valid-before="20231114221320utc" {}', ""),
        ('a@b valid-before="20231114221320ZZ" {}', "no moment in time"),
        ('a@b valid-after="19700101Z" {}', "no moment in time"),
        ('a@b valid-before="29990230" {}', "no moment in time"),
        ('a@b valid-before="" {}', "no moment in time"),
        ('a@b valid-after="20991231",valid-after="20200101" {}', "an option that is not known"),
        ('a@b valid-after="20231115Z" {}', "not valid today"),
        ('a@b valid-before="202311142213Z" {}', "not valid today"),
        ('a@b valid-before="20231114221319Z" {}', "not valid today"),
        ('a@b valid-before="20231114221320Z" {}', ""),
        ('a@b valid-before="20231399" {}', "no moment in time"),
        ('a@b valid-before="2023" {}', "no moment in time"),
        ("a@b cert-authority {}", "certificate authorities"),
        ('a@b namespaces="offlinepack",cert-authority {}', "certificate authorities"),
        ('a@b cert-authority,namespaces="offlinepack" {}', "certificate authorities"),
        ("a@b no-such-option {}", "an option that is not known"),
        ("a@b namespaces {}", "an option that is not known"),
        ("a@b ssh-ed25519 AAAA", "line 1"),
        ("a@b ssh-ed25519 " + base64.b64encode(string(b"ssh-rsa") + string(b"x")).decode(), "no public key"),
        ("a@b", "no public key"),
        ("# nothing but a comment\n\n", "holds no key"),
        ("ssh-ed25519 AAAA#$", "base64"),
    ],
)
def test_allowed_signers(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "allowed_signers"
    keys = "# keys\n" * ("line 1" not in sentence and "\ufeff" not in line) + line.format(public()) + "\n"
    path.write_text(keys, encoding="utf-8", newline="")
    message = why(sshsig(), path, now=1_700_000_000)
    assert (sentence in message) if sentence else message == ""


def test_one_key_with_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "allowed_signers"
    path.write_text(f'a@b namespaces="file" {public()}\nc@d {public()}\n')
    assert why(sshsig(), path) == ""
    assert [one.principal for one in read_keys(str(path))] == ["a@b", "c@d"]


def test_a_file_of_keys_that_is_none(tmp_path: Path) -> None:
    for content in (None, b"\xff\xfe", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"):
        path = tmp_path / "keys"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            read_keys(str(path))
        assert caught.value.exit_code == 2


def test_fingerprint_is_that_of_ssh_keygen() -> None:
    assert format_fingerprint(base64.b64decode(PUB[1])) == "SHA256:SPVbUYrOfOhiqJ05KZWVImawz273yRVkcfVKxJ8nrtY"


def test_what_this_machine_demands(tmp_path: Path) -> None:
    path = tmp_path / "trust.ini"
    assert required_keys(str(path)) == []
    path.write_text("[signature]\nverify-key =\n  /etc/offlinepack/release.pub\n  /etc/offlinepack/audit.pub\n")
    assert required_keys(str(path)) == ["/etc/offlinepack/release.pub", "/etc/offlinepack/audit.pub"]
    path.write_text("\ufeff# Windows\n[signature]\nverify-key = 50%%_release.pub\n    # and\n\n    keys/audit.pub\n")
    assert required_keys(str(path)) == [str(tmp_path / "50%%_release.pub"), str(tmp_path / "keys/audit.pub")]


@pytest.mark.parametrize(
    "broken",
    [
        "", "[signature]\n", "verify-key = x\n", "[signature]\nverify = x\n", "[signature]\nverify-key =\n", "[signature\n", "\0",
        "[DEFAULT]\nverify-key = x\n", "[DEFAULT]\nverify-key = x\n[signature]\n", "[signature]\nverify-key = x\nrequire = no\n",
        "[signature]\nverify-key = x\n[signature]\nverify-key = y\n", "[signature]\nverify-key = x\nverify-key = y\n",
        "[signature]\nverify-key = x\n[more]\n",
    ],
)  # fmt: skip
def test_what_this_machine_demands_is_understood_to_the_last_word(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "trust.ini"
    path.write_text(broken)
    with pytest.raises(UsageError):
        required_keys(str(path))


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_what_anybody_may_change_demands_nothing(tmp_path: Path) -> None:
    path, key = tmp_path / "trust.ini", tmp_path / "release.pub"
    path.write_text("[signature]\nverify-key = release.pub\n")
    key.write_text(public())
    assert required_keys(str(path)) == [str(key)]
    for one in (path, key):
        one.chmod(0o666)
        with pytest.raises(UsageError, match=f"anybody may write to {one}"):
            required_keys(str(path))
        one.chmod(0o644)
    path.unlink()
    path.symlink_to("nothing")
    with pytest.raises(UsageError):
        required_keys(str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError):
        required_keys(str(path))


def test_a_file_of_keys_that_is_too_large_is_not_read_in_part(tmp_path: Path) -> None:
    path = tmp_path / "allowed_signers"
    path.write_text(f"a@b {public()}\n" + "# x\n" * (1 << 18))
    with pytest.raises(UsageError, match="too large"):
        read_keys(str(path))


def test_a_comment_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "release.pub"
    path.write_bytes(public().encode() + " 发布".encode("gbk") + b"\n")
    assert why(sshsig(), path) == ""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_is_noticed(keys: Path, data: st.DataObject) -> None:
    good = bytearray(sshsig())
    blob = bytearray(base64.b64decode(b"".join(bytes(good).splitlines()[1:-1])))
    at, bit = data.draw(st.integers(0, len(blob) - 1)), data.draw(st.integers(0, 7))
    blob[at] ^= 1 << bit
    assert why(armored(bytes(blob)), keys)
    cut = data.draw(st.integers(0, len(blob) - 1))
    assert why(armored(bytes(blob[:cut])), keys)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300), line=st.text(max_size=200))
def test_nonsense_is_a_finding(keys: Path, tmp_path: Path, raw: bytes, line: str) -> None:
    assert why(raw, keys)
    assert why(armored(b"SSHSIG\0\0\0\1" + raw), keys)
    path = tmp_path / "nonsense"
    path.write_text(line, encoding="utf-8", errors="surrogatepass")
    assert why(sshsig(), path)
