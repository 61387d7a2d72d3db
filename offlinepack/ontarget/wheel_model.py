"""Define the values of a checked wheel, and compare project names and versions."""

import re
from typing import Any, NamedTuple, Tuple

from .errors import Finding

SCHEMES = ("purelib", "platlib", "headers", "scripts", "data")

_VERSION_PATTERN = re.compile(
    r"v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?"
    r"(?:[-_](\d+)|[-_.]?(post|rev|r)[-_.]?(\d*))?(?:[-_.]?(dev)[-_.]?(\d*))?(?:[+_]([a-z0-9]+(?:[-_.][a-z0-9]+)*))?\Z"
)


class WheelMember(NamedTuple):
    """One file of a wheel: its ZipEntry and its destination."""
    name: str  # as in the archive and in RECORD
    offset: int  # of its packed bytes in the archive
    packed_size: int  # bytes
    size: int  # bytes when unpacked
    crc: int
    is_deflated: bool  # else stored
    is_executable: bool
    scheme: str  # one of SCHEMES
    path: str  # relative to the folder of the scheme
    digest: str  # from RECORD: sha256=<urlsafe base64 without padding>; '' for RECORD and its signatures


class CheckedWheel(NamedTuple):
    """A wheel whose framing, names and RECORD were checked."""
    path: str  # of the file on disk
    filename: str
    name: str  # normalised
    version: str  # as in METADATA
    tags: Tuple[str, ...]  # of the file name, each interpreter-abi-platform
    dist_info: str  # the name of its .dist-info folder
    members: Tuple[WheelMember, ...]  # files only
    metadata: bytes
    record: bytes
    scripts: Tuple[Tuple[str, str, bool], ...]  # command, object reference, whether for a graphical interface
    notes: Tuple[Finding, ...]  # about legal files that run at every start of Python
    size: int  # bytes of all files when unpacked


def normalize_name(name):  # type: (str) -> str
    """Return a project's name in the normal form of PEP 503."""
    return re.sub("[-_.]+", "-", name).lower()


def is_same_version(first, other):  # type: (str, str) -> bool
    """Check whether two versions are equal by PEP 440, as 1.0.0-beta.1 and 1.0b1; others are compared as text."""
    return bool(_parse_version(first) == _parse_version(other))


def _parse_version(version):  # type: (str) -> Any
    match = _VERSION_PATTERN.match(version.strip().lower())
    if not match:
        return version.lower().replace("_", "-")
    epoch, release, pre, pre_number, post_alone, post, post_number, dev, dev_number, local = match.groups()
    numbers = re.sub(r"(\.0)+\Z", "", ".".join(str(int(part)) for part in release.split(".")))
    pre = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}.get(pre, pre)
    after = int(post_alone or post_number or 0) if post_alone or post else None
    local = [str(int(part)) if part.isdigit() else part for part in re.split("[-_.]", local)] if local else None
    return int(epoch or 0), numbers, pre, int(pre_number or 0), after, dev, int(dev_number or 0), local
