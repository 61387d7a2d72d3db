"""Sign the manifest of a bundle with ssh-keygen; read, write and verify signatures."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from offlinepack.bundle.reader import Bundle
from offlinepack.errors import ComputerError, Finding, UsageError, error
from offlinepack.ontarget.errors import explain_os_error
from offlinepack.ontarget.signature import POLICY_PATH, check_embedded_signatures, check_signatures, required_keys

NAMESPACE = "offlinepack"
"""what the signature is good for, as in `namespaces=` of an allowed_signers file"""

_MAX_SIGNATURE_SIZE = 64 << 10

_OPENSSH_ADVICE = "Install OpenSSH 8.1 or newer: apt install openssh-client, dnf install openssh-clients."


def sign_manifest(data: bytes, key: Path) -> bytes:
    """Sign bytes (of manifest.json) with OpenSSH; return the armored signature.

    `key`: the file of a private key, or of a public key whose private half is in the agent or on a security key.
    Raises UsageError if ssh-keygen rejects the key, ComputerError if ssh-keygen is missing or older than OpenSSH 8.1.
    """
    if not key.is_file():
        raise UsageError(
            error(
                "no-such-key",
                key,
                "There is no key {subject}.",
                "Name the file of a key; ssh-keygen -t ed25519 makes one.",
            )
        )
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key)]
    # a token's "touch me" is told on stderr: it has to be seen
    shown = sys.stderr.isatty() and _is_on_security_key(key)
    try:
        process = subprocess.run(
            command, input=data, stdout=subprocess.PIPE, stderr=None if shown else subprocess.PIPE, check=False
        )
    except OSError as failed:
        raise ComputerError(
            error("no-ssh-keygen", "ssh-keygen", "{subject} cannot be started.", _OPENSSH_ADVICE)
        ) from failed
    words = (process.stderr or b"").decode("utf-8", "replace").strip()
    if process.returncode or not process.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        if re.search(r"(illegal|unknown|invalid) option|usage:", words):
            raise ComputerError(
                error("old-ssh-keygen", "ssh-keygen", "This ssh-keygen cannot sign.", _OPENSSH_ADVICE, log=words)
            )
        raise UsageError(
            error(
                "not-signed",
                key,
                "ssh-keygen did not sign with {subject}.",
                "Is it a private key, or is its private half in the agent? Is the passphrase right?",
                log=words,
            )
        )
    return process.stdout.replace(b"\r\n", b"\n")


def _is_on_security_key(key: Path) -> bool:
    """Check for a key on a security token (sk-ssh-ed25519@openssh.com and others)."""
    public = key if key.suffix == ".pub" else key.with_name(key.name + ".pub")
    try:
        with public.open("rb") as file:
            return file.read(3) == b"sk-"
    except OSError:
        return False


def get_signature_path(bundle: Path) -> Path:
    """Return the path of a signature outside the bundle: `<bundle>.sig`, also for a bundle in parts."""
    name = re.sub(r"\.[0-9]{3}\Z", "", bundle.name)
    return bundle.absolute().with_name(name + ".sig")


def write_signature(bundle: Path, signature: bytes) -> Path:
    """Write the signature to `<bundle>.sig`, over a former one; the bundle stays as it is."""
    place = get_signature_path(bundle)
    part = place.with_name(place.name + ".part")
    try:
        part.write_bytes(signature)
        part.replace(place)
    except OSError as failed:
        part.unlink(missing_ok=True)
        raise ComputerError(
            error("not-writable", place, "{subject} cannot be written: {reason}.", reason=explain_os_error(failed))
        ) from failed
    return place


def read_signatures(bundle: Bundle, paths: Sequence[Path] = ()) -> list[tuple[str, bytes]]:
    """Name and bytes of each signature: those inside, `<bundle>.sig` beside it, and the files that were given."""
    signatures = list(bundle.signatures.items())
    lies = get_signature_path(bundle.path)
    for place in ([lies] if lies.is_file() else []) + list(paths):
        try:
            with place.open("rb") as file:
                signatures.append((str(place), file.read(_MAX_SIGNATURE_SIZE)))
        except OSError as failed:
            reason = explain_os_error(failed)
            raise UsageError(
                error("no-signature", place, "The signature {subject} cannot be read: {reason}.", reason=reason)
            ) from failed
    return signatures


def verify_signatures(opened: Bundle, keys: Sequence[str], signature: str | None) -> list[Finding]:
    """Verify a signature for each file of keys, also those of trust.ini; raise IntegrityError if one is missing."""
    required = [*keys, *required_keys(POLICY_PATH)]
    check_embedded_signatures(opened.manifest_bytes, list(opened.signatures.items()))
    if not required:
        return []
    paths = [Path(signature)] if signature else []
    return check_signatures(opened.manifest_bytes, read_signatures(opened, paths), required)
