"""Verify OpenSSH signatures of manifest.json (ssh-keygen -Y sign -n offlinepack).

Standards: OpenSSH's PROTOCOL.sshsig, ALLOWED SIGNERS of ssh-keygen(1), RFC 8032. Ed25519 is verified in Python, because
an old OpenSSH has no -Y. Other key types need ssh-keygen. trust.ini is the policy of a machine: the keys
that must have signed every bundle.
"""

import base64
import calendar
import configparser
import errno
import hashlib
import math
import os
import re
import struct
import subprocess
import tempfile
import time
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .ed25519 import verify_signature
from .errors import Finding, IntegrityError, UsageError, error, note, text

NAMESPACE = "offlinepack"
POLICY_PATH = os.path.join(os.environ.get("PROGRAMDATA", "") if os.name == "nt" else "/etc", "offlinepack", "trust.ini")
_NOT_SIGNED = "No key of {subject} has signed this bundle: {why}."
_BAD_SIGNATURE = "{subject} is no signature of this bundle: {why}."
_ASK_FOR_SIGNATURE = "Ask whoever packed it for its signature, or for the right key."
_KEY_FILE_ADVICE = "Give a .pub file or an allowed_signers file of ssh-keygen."
_UNREADABLE_POLICY = "{subject} demands signatures, but cannot be read: {why}."
_ASK_ADMINISTRATOR = "Ask whoever looks after this machine."

_ARMOR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END SSH SIGNATURE-----\r?\n?\Z")

_KEY_START = re.compile(r"(?:ssh|ecdsa|sk)-\S+[ \t]+AAAA")  # each blob begins with the length of its kind's name
_OPTION = re.compile(r'(namespaces|valid-after|valid-before)="([^"\\]*)"(?:,(?=.)|\Z)', re.I)
_TIMESTAMP = re.compile(r"\A([0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?)(Z|UTC)?\Z", re.I)
_MAX_KEY_FILE_SIZE = 1 << 20  # bytes


class _UnusableError(Exception):
    """A signature or a line of a key file cannot be used: a Text says why."""


class _UnsupportedKeyError(_UnusableError):
    """This machine cannot verify a signature of this kind."""


class Signature(NamedTuple):
    """A decoded signature (PROTOCOL.sshsig)."""
    raw: bytes  # the file
    key: bytes  # the public key's blob
    kind: str  # ssh-ed25519 ...
    namespace: bytes
    reserved: bytes
    hash_name: str  # sha256 or sha512
    value: bytes  # the signature itself, in the format of the key's kind


class AllowedSigner(NamedTuple):
    """A key that may have signed."""
    principal: str
    key: bytes
    namespaces: str  # a list of patterns, as in the file
    valid_after: float  # seconds since 1970
    valid_before: float


def check_signatures(data, signatures, keys, now=None):
    # type: (bytes, Sequence[Tuple[str, bytes]], Iterable[str], Optional[float]) -> List[Finding]
    """Return a note with the signer for each key file, or raise IntegrityError with each file that has no signer."""
    notes, bad = [], []  # type: List[Finding], List[Finding]
    today = time.time() if now is None else now
    for path in keys:
        allowed, reason = read_keys(path), text("there is no signature")
        for name, raw in signatures:
            try:
                signature = parse_signature(raw)
                signer = _find_signer(signature, allowed, today)
                _verify_signature(signature, data)
                facts = {"who": signer, "key": format_fingerprint(signature.key), "file": name}
                notes.append(note("signed", path, "Signed by {who} ({key}), as {file} says.", **facts))
                break
            except _UnusableError as failure:
                reason = text("{file}: {why}", file=name, why=failure.args[0])
        else:
            bad.append(error("not-signed", path, _NOT_SIGNED, _ASK_FOR_SIGNATURE, why=reason))
    if bad:
        raise IntegrityError(*bad)
    return notes


def check_embedded_signatures(data, signatures):  # type: (bytes, Sequence[Tuple[str, bytes]]) -> None
    """Check that each signature in the bundle was made of this manifest, with the key that it contains."""
    bad = []  # type: List[Finding]
    for name, raw in signatures:
        try:
            _verify_signature(parse_signature(raw), data)
        except _UnsupportedKeyError:
            pass  # check_signatures reports it if the key is required
        except _UnusableError as failure:
            bad.append(error("bad-signature", name, _BAD_SIGNATURE, _ASK_FOR_SIGNATURE, why=failure.args[0]))
    if bad:
        raise IntegrityError(*bad)


def format_fingerprint(key):  # type: (bytes) -> str
    """Return the fingerprint of a key as ssh-keygen -l shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


def read_keys(path):  # type: (str) -> List[AllowedSigner]
    """Read the keys of a .pub or allowed_signers file, or raise UsageError with each line that cannot be used."""
    signers, bad = [], []  # type: List[AllowedSigner], List[Finding]
    try:
        with open(path, "rb") as source:
            data = source.read(_MAX_KEY_FILE_SIZE + 1)
        if len(data) > _MAX_KEY_FILE_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        lines = data.decode("utf-8-sig", "replace").split("\n")
    except OSError as failure:
        reason = failure.strerror
        raise UsageError(error("bad-key-file", path, "{subject} cannot be read: {why}.", _KEY_FILE_ADVICE, why=reason))
    for number, line in enumerate(lines, 1):
        try:
            line = line.strip(" \t\r")
            if line and not line.startswith("#"):
                signers.append(_parse_allowed_signer(line))
            if re.search("[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", line):  # an editor may show two lines
                raise _UnusableError(text("it holds characters that cannot be printed"))
        except _UnusableError as failure:
            facts = {"line": str(number), "why": failure.args[0]}
            bad.append(error("bad-key-file", path, "{subject}, line {line}: {why}.", _KEY_FILE_ADVICE, **facts))
    if bad or not signers:
        raise UsageError(*(bad or [error("bad-key-file", path, "{subject} holds no key.", _KEY_FILE_ADVICE)]))
    return signers


def required_keys(path):  # type: (str) -> List[str]
    """Return the key files that trust.ini requires: [signature] verify-key, one path a line, relative to trust.ini.

    A missing file requires none; a file that is not fully understood, or that anybody may change, is a UsageError.
    """
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with open(path, encoding="utf-8-sig") as source:
            parser.read_file(source)
        sections = {name: sorted(parser[name]) for name in parser.sections()}
        if sections != {"signature": ["verify-key"]}:
            raise ValueError("verify-key in [signature] is all that it may hold, not %s" % sections)
        lines = map(str.strip, parser["signature"]["verify-key"].splitlines())
        keys = [os.path.join(os.path.dirname(path), line) for line in lines if line]
        if not keys:
            raise ValueError("verify-key is empty")
        for key in filter(os.path.exists, [path, *keys] if os.name == "posix" else []):
            if os.stat(key).st_mode & 0o002:
                raise ValueError("anybody may write to %s" % key)
        return keys
    except (OSError, ValueError, configparser.Error) as failure:
        if isinstance(failure, FileNotFoundError) and not os.path.lexists(path):
            return []
        raise UsageError(error("trust-unreadable", path, _UNREADABLE_POLICY, _ASK_ADMINISTRATOR, why=failure))


def _parse_allowed_signer(line):  # type: (str) -> AllowedSigner
    """Parse principals, options, key type, base64 (ALLOWED SIGNERS; a .pub file has the last two) as ssh-keygen does.
    """
    principals, options = "", ""
    if not _KEY_START.match(line):
        match = re.match(r'(?:"([^"]+)"|([^" \t]+))[ \t]+(.*)\Z', line)
        principals, line = (match.group(1) or match.group(2), match.group(3)) if match else (line, "")
    if not _KEY_START.match(line):
        match = re.match(r'((?:"[^"]*"|[^" \t])+)[ \t]+(.*)\Z', line)
        options, line = match.groups() if match else (line, "")
    kind, key, comment = (re.split("[ \t]+", line, maxsplit=2) + ["", ""])[:3]
    named = {}  # type: Dict[str, str]
    while options:
        match = _OPTION.match(options)
        if options.lower().startswith("cert-authority"):
            raise _UnusableError(text("certificate authorities are not supported; list the keys themselves"))
        if not match or match.group(1).lower() in named:
            raise _UnusableError(text("an option that is not known: {option}", option=options))
        named[match.group(1).lower()], options = match.group(2), options[match.end() :]
    blob = _decode_base64(key.encode("utf-8")) if _KEY_START.match(line) and "-cert-" not in kind else b""
    is_nobody = all(part.startswith("!") for part in principals.split(","))
    if not blob or _read_strings(blob, 1)[0] != kind.encode("utf-8") or is_nobody:
        raise _UnusableError(text("this is no public key, or nobody's"))
    after = _parse_timestamp(named["valid-after"]) if "valid-after" in named else -math.inf
    before = _parse_timestamp(named["valid-before"]) if "valid-before" in named else math.inf
    return AllowedSigner(principals or comment or kind, blob, named.get("namespaces", "*"), after, before)


def _parse_timestamp(stamp):  # type: (str) -> int
    """Parse YYYYMMDD[HHMM[SS]][Z]; without Z it is in the machine's time zone."""
    digits, zone = (_TIMESTAMP.findall(stamp) or [("", "")])[0]
    try:
        parsed = time.strptime(digits, "%Y%m%d%H%M%S"[: len(digits) - 2])
        moment = calendar.timegm(parsed) if zone else int(time.mktime(parsed))
    except (ValueError, OverflowError):
        moment = 0
    if moment <= 0:  # ssh-keygen refuses it too
        raise _UnusableError(text("no moment in time: {stamp}", stamp=stamp))
    return moment


def _decode_base64(data):  # type: (bytes) -> bytes
    try:
        decoded = base64.b64decode(data, validate=True)
    except ValueError:
        decoded = b""
    if not decoded or base64.b64encode(decoded) != data:
        raise _UnusableError(text("this is no base64"))
    return decoded


def _read_strings(blob, count, whole=False):  # type: (bytes, int, bool) -> List[bytes]
    """Read strings, each after its length in four bytes (RFC 4251); with `whole` nothing may follow."""
    strings, at = [], 0  # type: List[bytes], int
    while len(strings) < count:
        length = int.from_bytes(blob[at : at + 4], "big")
        strings.append(blob[at + 4 : at + 4 + length])
        at += 4 + length
        if at > len(blob) or at - length < 4:
            raise _UnusableError(text("it is cut off"))
    if whole and at != len(blob):
        raise _UnusableError(text("it is longer than it should be"))
    return strings


def parse_signature(raw):  # type: (bytes) -> Signature
    """Decode SSHSIG, a version, and five strings: key, namespace, reserved, hash, signature (PROTOCOL.sshsig)."""
    armor = _ARMOR.match(raw) if len(raw) < 1 << 16 else None
    blob = _decode_base64(b"".join(armor.group(1).split())) if armor else b""
    if blob[:10] != b"SSHSIG\0\0\0\1":
        raise _UnusableError(text("this is no signature of ssh-keygen"))
    key, namespace, reserved, hashed, value = _read_strings(blob[10:], 5, whole=True)
    kind = _read_strings(key, 1)[0].decode("ascii", "replace")
    return Signature(raw, key, kind, namespace, reserved, hashed.decode("ascii", "replace"), value)


def _find_signer(signature, allowed, now):  # type: (Signature, List[AllowedSigner], float) -> str
    """Return whose key is named, if it may sign; the signature itself is verified afterwards."""
    if signature.namespace != NAMESPACE.encode("ascii"):
        raise _make_purpose_error(signature)
    reason = text("it was made with another key, {key}", key=format_fingerprint(signature.key))
    for signer in allowed:
        if signer.key == signature.key:
            if not _matches_namespace(signer.namespaces):
                reason = text("that key may not sign for the namespace offlinepack")
            elif not signer.valid_after <= now <= signer.valid_before:
                reason = text("that key is not valid today")
            else:
                return signer.principal
    raise _UnusableError(reason)


def _matches_namespace(patterns):  # type: (str) -> bool
    """Match patterns with * and ?, separated by commas; a pattern with ! excludes (PATTERNS of ssh_config(5))."""
    escaped = [(pattern, re.escape(pattern.lstrip("!"))) for pattern in patterns.split(",")]
    forms = [(pattern, form.replace(r"\*", ".*").replace(r"\?", ".") + r"\Z") for pattern, form in escaped]
    matched = [pattern for pattern, form in forms if re.match(form, NAMESPACE)]
    return bool(matched) and not any(pattern.startswith("!") for pattern in matched)


def _verify_signature(signature, data):  # type: (Signature, bytes) -> None
    if signature.hash_name not in ("sha256", "sha512"):  # "no other hash algorithms are supported"
        raise _make_purpose_error(signature)
    digest = hashlib.new(signature.hash_name, data).digest()
    parts = (signature.namespace, signature.reserved, signature.hash_name.encode("ascii"), digest)
    signed = b"SSHSIG" + b"".join(struct.pack(">I", len(part)) + part for part in parts)
    if signature.kind != "ssh-ed25519":
        return _verify_with_ssh_keygen(signature, data)
    kind, key = _read_strings(signature.key, 2, whole=True)
    algorithm, value = _read_strings(signature.value, 2, whole=True)
    if (kind, algorithm) != (b"ssh-ed25519", b"ssh-ed25519") or not verify_signature(key, signed, value):
        raise _UnusableError(text("it does not fit: manifest.json is not what was signed"))
    return None


def _verify_with_ssh_keygen(signature, data):  # type: (Signature, bytes) -> None
    """Run ssh-keygen on a file with the same bytes: Windows passes no pipes on, and /dev/fd may be missing."""
    try:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            path = os.path.join(folder, "manifest.json.sig")
            with open(path, "wb") as out:
                out.write(signature.raw.replace(b"\r\n", b"\n"))
            command = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", path]
            process = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        failed, words = process.returncode != 0, process.stdout.decode("utf-8", "replace").strip()
    except OSError:
        failed, words = True, "usage"
    if failed and ("option" in words or "usage" in words):
        reason = text("a key of kind {kind} needs ssh-keygen of OpenSSH 8.1 or newer here", kind=signature.kind)
        raise _UnsupportedKeyError(reason)
    if failed:
        raise _UnusableError(text("ssh-keygen does not accept it ({words})", words=words.partition("\n")[0]))


def _make_purpose_error(signature):  # type: (Signature) -> _UnusableError
    shown = repr(signature.namespace)[2:-1]
    return _UnusableError(text("it was made for another purpose: {namespace}", namespace=shown))
