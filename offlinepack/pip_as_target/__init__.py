"""Any pip command, seen from a target: run() starts a subprocess in which script.py is the script.

In there pip (and pip-tools' pip-compile, which is pip's resolver) asks about markers, tags and the Python version as it
always does, and is told the target's. Before the command begins the script proves that everything it replaces is there
and took effect. What it replaces beyond that makes pip keep rules that its options cannot say, tell what it found as
facts instead of words, and read pages and metadata ahead (reading.py).
"""

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

if TYPE_CHECKING:
    from offlinepack.targets import Target

BOUND = ">=24.2,<27"
"""the versions of pip that were tried; as in pyproject.toml"""
BLIND = 97
"""the script's exit code where pip cannot be shown the target"""


@dataclass(frozen=True)
class Rules:
    """What pip's own options cannot say; addresses are without secrets."""

    indexes: tuple[str, ...] | None = None
    """in order, the first that has a project wins, and one that fails stops pip; None: pip's own way (it merges)"""
    sources: Mapping[str, str] = field(default_factory=dict)
    """normalised name of a project -> the one index that it comes from"""
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """index -> statuses that mean, beside 404 and 410: there is no such project here"""
    either: tuple[str, ...] = ()
    """normalised names of projects that may come as wheel or sdist, whatever --only-binary says"""
    eager: bool = False
    """so may every project that has no wheel at all for the target, but for those of `wheels`"""
    builds: bool = True
    """else not those that have wheels for other platforms: their sources cannot be built"""
    patience: float = 60.0
    """seconds that pip looks for older releases that do without a project of which nothing can be taken"""
    wheels: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    """normalised names of projects that nobody is to ask for"""
    before: str | None = None
    """only files uploaded before this time (RFC 3339, UTC), on any index that tells; files in folders always"""
    offline: bool = False
    """only what earlier runs kept in `cache`"""
    hashes: bool = True
    """a file of the solution whose hash nobody gives is hashed"""
    cache: Path | None = None
    """where pages and the metadata of wheels are kept"""

    def to_json(self) -> dict[str, Any]:
        """As script.py and reading.py read them."""
        return {
            "indexes": None if self.indexes is None else list(self.indexes),
            "sources": dict(self.sources),
            "missing": {index: list(statuses) for index, statuses in self.missing.items()},
            "either": list(self.either),
            "eager": self.eager,
            "builds": self.builds,
            "patience": self.patience,
            "wheels": list(self.wheels),
            "excluded": list(self.excluded),
            "before": self.before,
            "offline": self.offline,
            "hashes": self.hashes,
            "cache": None if self.cache is None else str(self.cache),
        }


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str
    told: Mapping[str, Any]
    """what was seen inside pip: `pins` of a solution; `causes` of a conflict; `index` that failed, `marker` that
    cannot be settled, `unread` file while offline; `either`: what was allowed to be a source; `lacks`: project, version
    and the extra that newer releases have; `barren`: projects of which nothing can be taken -> who needs them, and
    `after`, the seconds that ended the search, where it was ended; `raised`: the classes of an exception that ended the
    command"""

    def end(self, lines: int = 20) -> str:
        """The last lines that were said, for a finding's log."""
        said = [line.rstrip() for line in (self.stdout + self.stderr).splitlines() if line.strip()]
        return "\n".join(said[-lines:])


START = """
import json, sys
with open(sys.argv[1], encoding="utf-8") as source:
    job = json.load(source)
sys.path += [folder for folder in job["path"] if folder not in sys.path]
from offlinepack.pip_as_target.script import Script
Script(job).main()
"""
"""what the process of pip runs: `python -I -c START given.json`"""


def run(
    target: Target,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    rules: Rules | None = None,
    timeout: float | None = None,
) -> Answer:
    """Run `pip …` or `pip-compile …` (the first of `arguments`) as if on the target.

    `environment` is added to this process's own, of which nothing that speaks to pip or Python is kept; logins in its
    index addresses reach pip by a file that only this user may read. After `timeout` seconds it is ended, and has told
    nothing. ResolutionError: pip cannot be shown the target.
    """
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        given, told = Path(folder, "given.json"), Path(folder, "told.json")
        facts = {
            "arguments": list(arguments),
            "environment": dict(target.environment),
            "tags": [str(tag) for tag in target.tags],
            "path": [str(Path(one).absolute()) for one in sys.path if one],
            "rules": (rules or Rules()).to_json(),
            "told": str(told),
        }
        given.write_text(json.dumps(facts), "utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-X", "utf8", "-c", START, str(given)],
                env=_without_secrets({**clean_environment(), **environment}, Path(folder, "netrc")),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="backslashreplace",
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return Answer(1, "", "", {})
        seen = json.loads(told.read_text("utf-8")) if told.exists() else {}
    if done.returncode == BLIND:
        raise ResolutionError(
            error(
                "pip-not-replaceable",
                "pip " + seen["pip"],
                "{subject} cannot be made to see {target}: {part} is not as in the versions that were tried.",
                "Install pip {bound} beside offlinepack.",
                log=seen["why"],
                target=target.name,
                part=seen["part"],
                bound=BOUND,
            )
        )
    return Answer(done.returncode, redacted(done.stdout), redacted(done.stderr), seen)


def clean_environment() -> dict[str, str]:
    """This process's environment without what speaks to pip or Python; pip's own configuration files are off."""
    foreign = ("PIP_", "PYTHON", "_PIP_", "VIRTUAL_ENV", "__PYVENV_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    fixed = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"}
    # one reader of metadata, whatever Python the host has: that of Python 3.11 and newer
    return {**kept, **fixed, "_PIP_USE_IMPORTLIB_METADATA": "1"}


def _without_secrets(environment: dict[str, str], netrc: Path) -> dict[str, str]:
    """Logins leave the index addresses for a .netrc: pip names its indexes in the arguments of those that it starts."""
    logins: dict[str, set[tuple[str, str]]] = {}
    for name in (names := ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")):
        for url in environment.get(name, "").split():
            parts = urlsplit(url)
            if parts.hostname:
                logins.setdefault(parts.hostname, set()).add((parts.username or "", parts.password or ""))
    lines = []
    for host, known in logins.items():
        user, password = (unquote(one) for one in min(known))
        if len(known) != 1 or not (user and password) or re.search(r"[\s\"'#\\]", user + password):
            continue  # of two accounts on one host .netrc can tell but one
        lines.append(f"machine {host} login {user} password {password}\n")
        for name in names:
            urls = environment.get(name, "").split()
            environment[name] = " ".join(bare(url) if urlsplit(url).hostname == host else url for url in urls)
    if lines:
        own = Path(environment.get("NETRC") or Path("~/.netrc").expanduser())
        with contextlib.suppress(OSError):
            lines.append(own.read_text("utf-8"))
        netrc.touch(0o600)
        netrc.write_text("".join(lines), "utf-8")
        environment["NETRC"] = str(netrc)
    return {name: value for name, value in environment.items() if value or name not in names}


def bare(url: str) -> str:
    """The address without user, password and fragment."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", url.partition("#")[0])


def redacted(said: str) -> str:
    """Words without the user, password and query of addresses in them."""
    said = re.sub(r"(?<=://)[^/@\s]*@(?=[^/\s])", "", said)
    return re.sub(r"(://[^\s?#]*)\?[^\s#]*", r"\1", said)
