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
"""versions of pip that were tested; the same bounds as in pyproject.toml"""

PATCHING_FAILED = 97
"""exit code of the script if pip cannot be patched"""


SPEEDUPS_VARIABLE = "OFFLINEPACK_PIP_SPEEDUPS"
"""environment variable of the host process: 0 switches pip_shim/speedups.py off"""


@dataclass(frozen=True)
class PipRules:
    """Settings that pip's own options cannot express; addresses contain no credentials."""

    indexes: tuple[str, ...] | None = None
    """indexes in order: the first that has a project is used, a failing one stops pip; None: pip merges its indexes"""
    sources: Mapping[str, str] = field(default_factory=dict)
    """normalized name of a project -> the only index to read it from"""
    missing_codes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """index -> HTTP status codes that mean, besides 404 and 410, that the index does not have the project"""
    allow_sdist: tuple[str, ...] = ()
    """normalized names of projects whose sdists are allowed whatever --only-binary says"""
    sdist_fallback: bool = False
    """whether sdists are also allowed for projects without any wheel for the target, except those of `only_wheels`"""
    can_build: bool = True
    """whether sdists can be built; if not, `sdist_fallback` skips projects that have wheels for other platforms"""
    search_seconds: float = 60.0
    """seconds that pip searches for older releases that do not depend on a project without a usable file"""
    only_wheels: tuple[str, ...] = ()
    """normalized names of projects whose sdists are never allowed"""
    excluded_projects: tuple[str, ...] = ()
    """normalized names of projects that are removed from all dependencies"""
    uploaded_before: str | None = None
    """limit for the upload time of files on indexes (RFC 3339, UTC); files in folders have none"""
    offline: bool = False
    """whether only pages and metadata in `cache_folder` are read"""
    compute_hashes: bool = True
    """whether missing hashes of the selected files are computed"""
    cache_folder: Path | None = None
    """folder of the cache of pages and metadata"""

    def to_json(self) -> dict[str, Any]:
        """Return the settings as pip's process reads them."""
        return {
            "indexes": None if self.indexes is None else list(self.indexes),
            "sources": dict(self.sources),
            "missing_codes": {index: list(statuses) for index, statuses in self.missing_codes.items()},
            "allow_sdist": list(self.allow_sdist),
            "sdist_fallback": self.sdist_fallback,
            "can_build": self.can_build,
            "search_seconds": self.search_seconds,
            "only_wheels": list(self.only_wheels),
            "excluded_projects": list(self.excluded_projects),
            "uploaded_before": self.uploaded_before,
            "offline": self.offline,
            "compute_hashes": self.compute_hashes,
            "cache_folder": None if self.cache_folder is None else str(self.cache_folder),
        }


@dataclass(frozen=True)
class PipOutput:
    """Result of a pip command."""

    exit_code: int
    stdout: str
    stderr: str
    facts: Mapping[str, Any]
    """facts from inside pip: `pins` of a solution; `causes` of a conflict; the `index` that failed; a `marker` whose
    value depends on an unknown variable; an `unread_file` while offline; `allow_sdist`: projects whose sdists were
    allowed; `missing_extra`: project, version and the extra that newer releases have; `unsatisfiable`: projects without
    a usable file -> their dependents, and `search_seconds`, after which the search was stopped; `exception_classes` and
    `message` of an exception that ended the command"""

    def get_last_lines(self, lines: int = 20) -> str:
        """Return the last lines of the output, for the log of a finding."""
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
"""program of pip's process: `python -I -c START JOB.json`"""


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

    `environment` is added to that of this process without the variables of pip and Python. Logins in its index
    addresses are passed in a netrc file that only this user can read. After `timeout` seconds the process is killed
    and the result has no facts. Raises ResolutionError if pip cannot be patched.
    """
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        job_path, facts_path = Path(folder, "job.json"), Path(folder, "facts.json")
        job = {
            "arguments": list(arguments),
            "environment": dict(target.environment),
            "tags": [str(tag) for tag in target.tags],
            "path": [str(Path(folder).absolute()) for folder in sys.path if folder],
            "rules": (rules or PipRules()).to_json(),
            "speedups": os.environ.get(SPEEDUPS_VARIABLE) != "0",
            "facts_path": str(facts_path),
        }
        job_path.write_text(json.dumps(job), "utf-8")
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
        pip_facts = json.loads(facts_path.read_text("utf-8")) if facts_path.exists() else {}
    if process.returncode == PATCHING_FAILED:
        raise ResolutionError(
            error(
                "pip-not-replaceable",
                "pip " + pip_facts["pip"],
                "{subject} cannot be made to see {target}: {part} is not as in the versions that were tried.",
                "Install pip {bound} beside offlinepack.",
                log=pip_facts["reason"],
                target=target.name,
                part=pip_facts["part"],
                bound=SUPPORTED_PIP_VERSIONS,
            )
        )
    return PipOutput(process.returncode, redact_text(process.stdout), redact_text(process.stderr), pip_facts)


def make_pip_environment() -> dict[str, str]:
    """Return the environment of pip: without variables that steer pip or Python and without configuration files."""
    fixed = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"}
    # the same metadata reader on every Python of the host: the default of Python 3.11 and newer
    return {**clean_environment(), **fixed, "_PIP_USE_IMPORTLIB_METADATA": "1"}


def _move_logins_to_netrc(environment: dict[str, str], netrc: Path) -> dict[str, str]:
    """Move logins from the index addresses to a netrc file: pip passes its indexes to subprocesses as arguments."""
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
            continue  # a netrc file has one account per host
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
