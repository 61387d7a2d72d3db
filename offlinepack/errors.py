"""The host's errors; with those of the target side, the whole table of exit codes."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offlinepack.ontarget.errors import (
    BundleError,
    ComputerError,
    Finding,
    InstallError,
    IntegrityError,
    MachineError,
    OfflinepackError,
    PolicyError,
    Text,
    UsageError,
    error,
    explain_os_error,
    note,
    raise_on_errors,
    text,
    warning,
)

__all__ = [
    "BuildError",
    "BundleError",
    "ComputerError",
    "FetchError",
    "Finding",
    "InstallError",
    "IntegrityError",
    "MachineError",
    "OfflinepackError",
    "PolicyError",
    "ResolutionError",
    "SelectionError",
    "SourceError",
    "Text",
    "UsageError",
    "error",
    "note",
    "parse_finding",
    "raise_on_errors",
    "text",
    "warning",
]


class SourceError(OfflinepackError):
    """What was handed to us cannot be read: file, line, what was expected."""

    exit_code = 3


class ResolutionError(OfflinepackError):
    """No set of versions satisfies all that was asked."""

    exit_code = 4


class SelectionError(OfflinepackError):
    """Some locked packages have no file for a target."""

    exit_code = 5


class FetchError(OfflinepackError):
    """An index or a file could not be had."""

    exit_code = 6


class BuildError(OfflinepackError):
    """An sdist could not be made into a wheel."""

    exit_code = 8


def parse_finding(plain: Mapping[str, Any]) -> Finding:
    """Parse a finding that the target side wrote with Finding.to_json; it is rendered in any language again."""
    facts = {name: _parse_fact(value) for name, value in plain["facts"].items()}
    sentence, advice = (Text(plain["templates"][part], facts) for part in ("sentence", "advice"))
    return Finding(plain["level"], plain["code"], plain["subject"], sentence, advice, plain.get("log", ""))


def _parse_fact(value: Any) -> Any:
    if isinstance(value, dict):
        return Text(value["template"], {name: _parse_fact(fact) for name, fact in value["facts"].items()})
    return [_parse_fact(member) for member in value] if isinstance(value, list) else value


def make_read_error(path: Path, failed: OSError) -> OfflinepackError:
    """Build the error for a file that existed and can no longer be read."""
    kind = IntegrityError if isinstance(failed, FileNotFoundError) else ComputerError
    return kind(error("file-unreadable", path, "{subject} cannot be read: {reason}.", reason=explain_os_error(failed)))


def make_write_error(subject: Path, failed: OSError) -> ComputerError:
    """Build the error for a file that could not be written."""
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        finding = error(
            "disk-full",
            subject,
            "The disk is full: {subject} was not written.",
            "Free space there, or name another place.",
        )
    elif failed.errno == errno.EFBIG:
        finding = error(
            "file-system-limit",
            subject,
            "The file system takes no file as large as {subject}.",
            "Write it in parts: --split 3900M.",
        )
    elif failed.errno in (errno.ENOENT, errno.ENOTDIR):
        finding = error(
            "no-such-folder",
            subject,
            "{subject} cannot be written: there is no folder {folder}.",
            "Make it, or name another place.",
            folder=subject.parent,
        )
    else:
        finding = error(
            "not-writable",
            subject,
            "{subject} cannot be written: {reason}.",
            "Name another place.",
            reason=explain_os_error(failed),
        )
    return ComputerError(finding)
