"""Recognize listings of other tools, and words that pip would ignore, in requirements files."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

from pip._internal.req import req_file

from offlinepack.errors import Finding, error
from offlinepack.net.urls import redact_text

_REQUIREMENT_OPTIONS = ("--hash", "--config-setting", "--global-option", "-C")
"""options that pip accepts behind a requirement; --config-settings too"""


def find_ignored_words(line: str, has_requirement: bool) -> list[str]:
    """Return the words of a line that pip's parser accepts and then ignores."""
    words = shlex.split(req_file.break_args_options(line)[1])
    with contextlib.redirect_stderr(io.StringIO()):
        ignored: list[str] = req_file.build_parser().parse_args(list(words))[1]
    if has_requirement and not line.lstrip().startswith(("-e", "--editable")):
        ignored += [word for word in words if word.startswith("-") and not word.startswith(_REQUIREMENT_OPTIONS)]
    return ignored


_LISTINGS = {
    r"Package\s+Version(\s.*)?": ("pip list", "pip list --format=freeze"),
    r"[\w.-]+=[\w.!+-]+=[\w.]+": ("conda list --export", "pip list --format=freeze"),
    r"[\s│├└─|`'+-]+.*\[required: .*": ("pipdeptree", "pip freeze"),
}
"""form of a line in the listing of a tool -> the command that writes it, and the one that writes requirements"""


def find_listing(lines: list[str]) -> tuple[str, str, str] | None:
    """Find a line in the form of another listing; return it with the command that wrote it and the right command."""
    for line in lines:
        for pattern, commands in _LISTINGS.items():
            if re.fullmatch(pattern, line):
                return line, *commands
    return None


def report_listing(file: str, line: str, written_by: str, command: str) -> Finding:
    """Report a file that lists packages in another form than requirements."""
    return error(
        "not-requirements",
        file,
        "{subject} has the form of `{written_by}`: {line}.",
        "Write the file with `{command}`, or pack the environment with --venv.",
        written_by=written_by,
        line=shorten_line(line),
        command=command,
    )


def report_missing_path(shown: str, origin: str, path: Path) -> Finding:
    """Report a requirement whose path does not exist."""
    if re.search(r"/(croot|feedstock_root|build_artifacts|home_conda|tmp/build)/", str(path)):
        return error(
            "conda-path",
            origin,
            "{subject}: {line} is a path on the machine where conda built this package.",
            "Freeze the environment with `pip list --format=freeze`, or pack it with --venv.",
            line=shown,
        )
    return error(
        "no-such-path", origin, "{subject}: there is no file or folder {line}.", "Correct the path.", line=shown
    )


def shorten_line(line: str) -> str:
    """Shorten a line for a message, without secrets."""
    line = redact_text(line.strip())
    return line if len(line) <= 120 else line[:119] + "…"
