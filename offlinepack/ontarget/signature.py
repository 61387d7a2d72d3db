"""Who packed it: OpenSSH signatures of manifest.json (ssh-keygen -Y sign -n offlinepack), verified, never made.

Standards: OpenSSH's PROTOCOL.sshsig, the ALLOWED SIGNERS of ssh-keygen(1), RFC 8032. Ed25519 is checked here, with the
standard library alone, because the machines with an old Python have an OpenSSH without -Y; other kinds by ssh-keygen.
"""

import base64
import calendar
import errno
import hashlib
import os
import re
import struct
import subprocess
import tempfile
import time
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import ed25519
from .errors import Finding, IntegrityError, Text, UsageError, error, note, text

NAMESPACE = "offlinepack"
_ASK = "Ask whoever packed it for its signature, or for the right key."
_KEYS = "Give a .pub file or an allowed_signers file of ssh-keygen."
_ARMOR = re.compile(
    rb"-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END SSH SIGNATURE-----\r?\n?\Z"
)
_KIND = re.compile(r"(?:ssh|ecdsa|sk)-\S+[ \t]+AAAA")  # each blob begins with the length of its kind's name
_OPTION = re.compile(r'(namespaces|valid-after|valid-before)="([^"\\]*)"(?:,(?=.)|\Z)', re.I)
_MOMENT = re.compile(r"\A([0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?)(Z|UTC)?\Z", re.I)
_MOST_KEYS = 1 << 20  # bytes


class _Bad(Exception):
    """A signature or a line of keys that cannot be used: a Text says why."""


class _Unable(_Bad):
    """It may be good; this machine cannot tell."""


class Signature(NamedTuple):
    """PROTOCOL.sshsig, decoded."""

    raw: bytes  # the file
    key: bytes  # the public key's blob
    kind: str  # ssh-ed25519 ...
    namespace: bytes
    reserved: bytes
    hash: str  # sha256 or sha512
    value: bytes  # what the key's kind has for a signature


class Allowed(NamedTuple):
    """A key that may have signed."""

    who: str
    key: bytes
    namespaces: str  # a list of patterns, as in the file
    after: Optional[int]
    before: Optional[int]


def check(data, signatures, keys, now=None):
    # type: (bytes, Sequence[Tuple[str, bytes]], Iterable[str], Optional[float]) -> List[Finding]
    """A note for each file of keys: who of it signed. IntegrityError: each file of which nobody did.

    `signatures`: name and bytes of each that there is; `keys`: .pub or allowed_signers files, else UsageError.
    """
    notes, bad = [], []  # type: List[Finding], List[Finding]
    today = time.time() if now is None else now
    for path in keys:
        allowed, why = read_keys(path), text("there is no signature")
        for name, raw in signatures:
            try:
                found = read_signature(raw)
                who = _accepted(found, allowed, today)
                _verify(found, data)
                facts = {"who": who, "key": fingerprint(found.key), "file": name}
                notes.append(note("signed", path, "Signed by {who} ({key}), as {file} says.", **facts))
                break
            except _Bad as one:
                why = text("{file}: {why}", file=name, why=one.args[0])
        else:
            bad.append(error("not-signed", path, "No key of {subject} has signed this bundle: {why}.", _ASK, why=why))
    if bad:
        raise IntegrityError(*bad)
    return notes


def own(data, signatures):  # type: (bytes, Sequence[Tuple[str, bytes]]) -> None
    """IntegrityError: a signature in the bundle that its own key, whosever that is, did not make of this manifest."""
    bad = []  # type: List[Finding]
    for name, raw in signatures:
        try:
            _verify(read_signature(raw), data)
        except _Unable:
            pass  # for a key that is asked for, check() says so
        except _Bad as why:
            facts = {"why": why.args[0]}
            bad.append(error("bad-signature", name, "{subject} is no signature of this bundle: {why}.", _ASK, **facts))
    if bad:
        raise IntegrityError(*bad)


def fingerprint(key):  # type: (bytes) -> str
    """As ssh-keygen -l shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


def read_keys(path):  # type: (str) -> List[Allowed]
    """The keys of a .pub or allowed_signers file, or UsageError with each line that cannot be used."""
    found, bad = [], []  # type: List[Allowed], List[Finding]
    try:
        with open(path, "rb") as source:
            data = source.read(_MOST_KEYS + 1)
        if len(data) > _MOST_KEYS:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        lines = data.decode("utf-8-sig", "replace").split("\n")
    except OSError as why:
        raise UsageError(error("bad-key-file", path, "{subject} cannot be read: {why}.", _KEYS, why=why.strerror))
    for number, line in enumerate(lines, 1):
        try:
            line = line.strip(" \t\r")
            if line and not line.startswith("#"):
                found.append(_allowed(line))
            if re.search("[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", line):  # other eyes see two lines there
                raise _Bad(text("it holds characters that cannot be printed"))
        except _Bad as why:
            facts = {"line": str(number), "why": why.args[0]}
            bad.append(error("bad-key-file", path, "{subject}, line {line}: {why}.", _KEYS, **facts))
    if bad or not found:
        raise UsageError(*(bad or [error("bad-key-file", path, "{subject} holds no key.", _KEYS)]))
    return found


def _allowed(line):  # type: (str) -> Allowed
    """ALLOWED SIGNERS: principals, options, key type, base64; a .pub has neither of the first two.

    What ssh-keygen does not take is not taken; nor is what it would leave out in silence.
    """
    who, options = "", ""
    if not _KIND.match(line):
        match = re.match(r'(?:"([^"]+)"|([^" \t]+))[ \t]+(.*)\Z', line)
        who, line = (match.group(1) or match.group(2), match.group(3)) if match else (line, "")
    if not _KIND.match(line):
        match = re.match(r'((?:"[^"]*"|[^" \t])+)[ \t]+(.*)\Z', line)
        options, line = match.groups() if match else (line, "")
    kind, key, comment = (re.split("[ \t]+", line, maxsplit=2) + ["", ""])[:3]
    named = {}  # type: Dict[str, str]
    while options:
        match = _OPTION.match(options)
        if options.lower().startswith("cert-authority"):
            raise _Bad(text("certificate authorities are not supported; list the keys themselves"))
        if not match or match.group(1).lower() in named:
            raise _Bad(text("an option that is not known: {option}", option=options))
        named[match.group(1).lower()], options = match.group(2), options[match.end() :]
    blob = _base64(key.encode("utf-8")) if _KIND.match(line) and "-cert-" not in kind else b""
    if not blob or _strings(blob, 1)[0] != kind.encode("utf-8") or all(one[:1] == "!" for one in who.split(",")):
        raise _Bad(text("this is no public key, or nobody's"))
    after, before = _moment(named.get("valid-after")), _moment(named.get("valid-before"))
    return Allowed(who or comment or kind, blob, named.get("namespaces", "*"), after, before)


def _moment(stamp):  # type: (Optional[str]) -> Optional[int]
    """YYYYMMDD[HHMM[SS]][Z], in the machine's own zone without the Z."""
    if stamp is None:
        return None
    digits, zone = (_MOMENT.findall(stamp) or [("", "")])[0]
    try:
        parsed = time.strptime(digits, "%Y%m%d%H%M%S"[: len(digits) - 2])
        moment = calendar.timegm(parsed) if zone else int(time.mktime(parsed))
    except (ValueError, OverflowError):
        moment = 0
    if moment <= 0:  # to ssh-keygen that is none either
        raise _Bad(text("no moment in time: {stamp}", stamp=stamp))
    return moment


def _base64(data):  # type: (bytes) -> bytes
    try:
        found = base64.b64decode(data, validate=True)
    except ValueError:
        found = b""
    if not found or base64.b64encode(found) != data:
        raise _Bad(text("this is no base64"))
    return found


def _strings(blob, count, whole=False):  # type: (bytes, int, bool) -> List[bytes]
    """RFC 4251: strings, each after its length in four bytes; `whole`: and nothing else."""
    found, at = [], 0  # type: List[bytes], int
    while len(found) < count:
        length = int.from_bytes(blob[at : at + 4], "big")
        found.append(blob[at + 4 : at + 4 + length])
        at += 4 + length
        if at > len(blob) or at - length < 4:
            raise _Bad(text("it is cut off"))
    if whole and at != len(blob):
        raise _Bad(text("it is longer than it should be"))
    return found


def read_signature(raw):  # type: (bytes) -> Signature
    """PROTOCOL.sshsig: byte[6] SSHSIG, uint32 version, then key, namespace, reserved, hash, signature as strings."""
    armor = _ARMOR.match(raw) if len(raw) < 1 << 16 else None
    blob = _base64(b"".join(armor.group(1).split())) if armor else b""
    if blob[:10] != b"SSHSIG\0\0\0\1":
        raise _Bad(text("this is no signature of ssh-keygen"))
    key, namespace, reserved, hashed, value = _strings(blob[10:], 5, whole=True)
    kind = _strings(key, 1)[0].decode("ascii", "replace")
    return Signature(raw, key, kind, namespace, reserved, hashed.decode("ascii", "replace"), value)


def _accepted(found, allowed, now):  # type: (Signature, List[Allowed], float) -> str
    """Whose key made it, with the right to; whether it did is seen afterwards."""
    if found.namespace != NAMESPACE.encode("ascii") or found.hash not in ("sha256", "sha512"):
        raise _Bad(text("it was made for another purpose: {namespace}", namespace=repr(found.namespace)[2:-1]))
    why = text("it was made with another key, {key}", key=fingerprint(found.key))
    for one in allowed:
        if one.key == found.key:
            if not _matches(one.namespaces):
                why = text("that key may not sign for the namespace offlinepack")
            elif (one.after is not None and now < one.after) or (one.before is not None and now > one.before):
                why = text("that key is not valid today")
            else:
                return one.who
    raise _Bad(why)


def _matches(patterns):  # type: (str) -> bool
    """PATTERNS of ssh_config(5): * and ?, separated by commas; one with ! that matches decides against it."""
    matched = False
    for pattern in patterns.split(","):
        plain = re.escape(pattern.lstrip("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.match(plain + r"\Z", NAMESPACE):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _verify(found, data):  # type: (Signature, bytes) -> None
    if found.hash not in ("sha256", "sha512"):  # "no other hash algorithms are supported"
        raise _Bad(text("it was made for another purpose: {namespace}", namespace=repr(found.namespace)[2:-1]))
    digest = hashlib.new(found.hash, data).digest()
    parts = (found.namespace, found.reserved, found.hash.encode("ascii"), digest)
    signed = b"SSHSIG" + b"".join(struct.pack(">I", len(part)) + part for part in parts)
    if found.kind != "ssh-ed25519":
        return _ask_ssh_keygen(found, data)
    (kind, key), (how, value) = _strings(found.key, 2, whole=True), _strings(found.value, 2, whole=True)
    if (kind, how) != (b"ssh-ed25519", b"ssh-ed25519") or not ed25519.verify(key, signed, value):
        raise _Bad(text("it does not fit: manifest.json is not what was signed"))
    return None


def _ask_ssh_keygen(found, data):  # type: (Signature, bytes) -> None
    """The same bytes that were looked at, as a file: Windows hands no pipe on, a bare root has no /dev/fd."""
    try:
        with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
            path = os.path.join(folder, "manifest.json.sig")
            with open(path, "wb") as out:
                out.write(found.raw.replace(b"\r\n", b"\n"))
            command = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", path]
            done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError:
        raise _Unable(text("a key of kind {kind} needs ssh-keygen of OpenSSH 8.1 or newer here", kind=found.kind))
    words = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode and ("option" in words or "usage" in words):
        raise _Unable(text("a key of kind {kind} needs ssh-keygen of OpenSSH 8.1 or newer here", kind=found.kind))
    if done.returncode:
        raise _Bad(text("ssh-keygen does not accept it ({words})", words=words.partition("\n")[0]))
