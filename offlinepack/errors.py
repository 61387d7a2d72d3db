"""The host's errors; with those of the target side, the whole table of exit codes."""

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
    note,
    raise_all,
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
    "raise_all",
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
