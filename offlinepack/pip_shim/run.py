"""Run pip or pip-compile in a subprocess that sees the tags and markers of a target."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from offlinepack.errors import ResolutionError, error
from offlinepack.net.urls import redact_text, strip_credentials
from offlinepack.sandbox import clean_environment

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


SUPPORTED_PIP_VERSIONS = ">=24.2,<27"
"""the versions of pip that were tried; as in pyproject.toml"""

PATCHING_FAILED = 97
"""the script's exit code where pip cannot be shown the target"""


@dataclass(frozen=True)
class PipRules:
    """What pip's own options cannot say; addresses are without secrets."""

    indexes: tuple[str, ...] | None = None
    """in order, the first that has a project wins, and one that fails stops pip; None: pip's own way (it merges)"""
    sources: Mapping[str, str] = field(default_factory=dict)
    """normalised name of a project -> the one index that it comes from"""
    missing_codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """index -> statuses that mean, beside 404 and 410: there is no such project here"""
    allow_sdist: tuple[str, ...] = ()
    """normalised names of projects that may come as wheel or sdist, whatever --only-binary says"""
    sdist_fallback: bool = False
    """so may every project that has no wheel at all for the target, but for those of `wheels`"""
    can_build: bool = True
    """else not those that have wheels for other platforms: their sources cannot be built"""
    search_seconds: float = 60.0
    """seconds that pip looks for older releases that do without a project of which nothing can be taken"""
    only_wheels: tuple[str, ...] = ()
    excluded_projects: tuple[str, ...] = ()
    """normalised names of projects that nobody is to ask for"""
    uploaded_before: str | None = None
    """only files uploaded before this time (RFC 3339, UTC), on any index that tells; files in folders always"""
    offline: bool = False
    """only what earlier runs kept in `cache`"""
    compute_hashes: bool = True
    """a file of the solution whose hash nobody gives is hashed"""
    cache_folder: Path | None = None
    """where pages and the metadata of wheels are kept"""

    def to_json(self) -> dict[str, Any]:
        """As script.py and reading.py read them."""
        return {
            "indexes": None if self.indexes is None else list(self.indexes),
            "sources": dict(self.sources),
            "missing": {index: list(statuses) for index, statuses in self.missing_codes.items()},
            "either": list(self.allow_sdist),
            "eager": self.sdist_fallback,
            "builds": self.can_build,
            "patience": self.search_seconds,
            "wheels": list(self.only_wheels),
            "excluded": list(self.excluded_projects),
            "before": self.uploaded_before,
            "offline": self.offline,
            "hashes": self.compute_hashes,
            "cache": None if self.cache_folder is None else str(self.cache_folder),
        }


@dataclass(frozen=True)
class PipOutput:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str
    facts: Mapping[str, Any]
    """what was seen inside pip: `pins` of a solution; `causes` of a conflict; `index` that failed, `marker` that
    cannot be settled, `unread` file while offline; `either`: what was allowed to be a source; `lacks`: project, version
    and the extra that newer releases have; `barren`: projects of which nothing can be taken -> who needs them, and
    `after`, the seconds that ended the search, where it was ended; `raised`: the classes of an exception that ended the
    command"""

    def get_last_lines(self, lines: int = 20) -> str:
        """The last lines that were said, for a finding's log."""
        output_lines = [line.rstrip() for line in (self.stdout + self.stderr).splitlines() if line.strip()]
        return "\n".join(output_lines[-lines:])


START = """
import json, sys
with open(sys.argv[1], encoding="utf-8") as source:
    job = json.load(source)
sys.path += [folder for folder in job["path"] if folder not in sys.path]
from offlinepack.pip_shim.script import Script
Script(job).main()
"""
"""what the process of pip runs: `python -I -c START given.json`"""


def run_pip(
    target: Target,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    rules: PipRules | None = None,
    timeout: float | None = None,
) -> PipOutput:
    """Run `pip …` or `pip-compile …` (the first of `arguments`) as if on the target.

    `environment` is added to this process's own, of which nothing that speaks to pip or Python is kept; logins in its
    index addresses reach pip by a file that only this user may read. After `timeout` seconds it is ended, and has told
    nothing. ResolutionError: pip cannot be shown the target.
    """
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        job_path, answer_path = Path(folder, "given.json"), Path(folder, "told.json")
        facts = {
            "arguments": list(arguments),
            "environment": dict(target.environment),
            "tags": [str(tag) for tag in target.tags],
            "path": [str(Path(folder).absolute()) for folder in sys.path if folder],
            "rules": (rules or PipRules()).to_json(),
            "told": str(answer_path),
        }
        job_path.write_text(json.dumps(facts), "utf-8")
        try:
            process = subprocess.run(
                [sys.executable, "-I", "-X", "utf8", "-c", START, str(job_path)],
                env=_move_logins_to_netrc({**make_pip_environment(), **environment}, Path(folder, "netrc")),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="backslashreplace",
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return PipOutput(1, "", "", {})
        pip_facts = json.loads(answer_path.read_text("utf-8")) if answer_path.exists() else {}
    if process.returncode == PATCHING_FAILED:
        raise ResolutionError(
            error(
                "pip-not-replaceable",
                "pip " + pip_facts["pip"],
                "{subject} cannot be made to see {target}: {part} is not as in the versions that were tried.",
                "Install pip {bound} beside offlinepack.",
                log=pip_facts["why"],
                target=target.name,
                part=pip_facts["part"],
                bound=SUPPORTED_PIP_VERSIONS,
            )
        )
    return PipOutput(process.returncode, redact_text(process.stdout), redact_text(process.stderr), pip_facts)


def make_pip_environment() -> dict[str, str]:
    """Return the environment of pip: without variables that steer pip or Python and without configuration files."""
    fixed = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"}
    # one reader of metadata, whatever Python the host has: that of Python 3.11 and newer
    return {**clean_environment(), **fixed, "_PIP_USE_IMPORTLIB_METADATA": "1"}


def _move_logins_to_netrc(environment: dict[str, str], netrc: Path) -> dict[str, str]:
    """Logins leave the index addresses for a .netrc: pip names its indexes in the arguments of those that it starts."""
    logins: dict[str, set[tuple[str, str]]] = {}
    for name in (names := ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")):
        for url in environment.get(name, "").split():
            parts = urlsplit(url)
            if parts.hostname:
                logins.setdefault(parts.hostname, set()).add((parts.username or "", parts.password or ""))
    lines = []
    for host, host_logins in logins.items():
        user, password = (unquote(part) for part in min(host_logins))
        if len(host_logins) != 1 or not (user and password) or re.search(r"[\s\"'#\\]", user + password):
            continue  # of two accounts on one host .netrc can tell but one
        lines.append(f"machine {host} login {user} password {password}\n")
        for name in names:
            urls = environment.get(name, "").split()
            environment[name] = " ".join(
                strip_credentials(url) if urlsplit(url).hostname == host else url for url in urls
            )
    if lines:
        netrc_path = Path(environment.get("NETRC") or Path("~/.netrc").expanduser())
        with contextlib.suppress(OSError):
            lines.append(netrc_path.read_text("utf-8"))
        netrc.touch(0o600)
        netrc.write_text("".join(lines), "utf-8")
        environment["NETRC"] = str(netrc)
    return {name: value for name, value in environment.items() if value or name not in names}
