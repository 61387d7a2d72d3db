"""Why a module could not be imported over there, and what to do: a library, a symbol, a module, a side effect, time."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offlinepack.errors import Finding, Text, error, text
from offlinepack.native import help_for
from offlinepack.ontarget.manifest import TargetPlan
from offlinepack.rehearse import Verdict
from offlinepack.targets import Target


@dataclass(frozen=True)
class Failure:
    """One import that failed, and of which kind the cause is."""

    name: str
    """of the distribution"""
    module: str
    kind: str
    """library, symbol, module, side-effect, time-out"""
    cause: str
    """what is the same for all that failed of it: a soname, a module's name, an exception with its words"""
    level: str
    log: str = ""

# What the loaders of glibc, musl, macOS and Windows say; a group for what is missing.
_NO_LIBRARY = re.compile(
    r"([^\s/'\":]+): cannot open shared object file"
    r"|Error loading shared library ([^\s/'\":]+)"
    r"|Library not loaded: (\S+)"
    r"|cannot load library '([^']+)'"
    r"|[Ff]ailed to find (lib\w+)"
)

_NO_SYMBOL = re.compile(
    r"version [`']([\w.]+)' not found|undefined symbol: (\w+)|Error relocating \S+: (\w+): symbol not found"
    r"|[Ss]ymbol not found: (\w+)"
)

_NO_DLL = "DLL load failed"

_NOT_MEANT = {"test", "tests", "testing", "conftest", "example", "examples", "docs", "benchmark", "benchmarks"}
"""top-level modules that are carried by mistake: nobody imports them, and what they need is not declared"""

_OTHER_SYSTEMS = {
    "winreg",
    "_winreg",
    "msvcrt",
    "nt",
    "winsound",
    "_winapi",
    "_overlapped",
    "posix",
    "fcntl",
    "pwd",
    "grp",
}

_OTHER_SYSTEMS |= {"termios", "resource", "java"}


def of(name: str, module: str, one: Mapping[str, Any], verdict: Verdict) -> Failure:
    """What inside.py saw of a module that could not be imported, of which distribution."""
    level = "warning" if module in _NOT_MEANT else "error"
    chain, code = one.get("chain", ()), one["code"]
    if not one.get("ended"):
        if code is None:
            return Failure(name, module, "time-out", "", level, end(one["said"]))
        words = f"{signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Failure(name, module, "ended", words, level, end(one["said"]))
    for each in reversed(chain):  # the first cause stands last
        if each["type"] in ("ImportError", "OSError"):
            if missing := _NO_LIBRARY.search(each["words"]):
                return Failure(name, module, "library", next(filter(None, missing.groups())), level)
            if missing := _NO_SYMBOL.search(each["words"]):
                return Failure(name, module, "symbol", next(filter(None, missing.groups())), level, each["words"])
            if _NO_DLL in each["words"]:
                return Failure(name, module, "library", "a DLL", level, each["words"])
    first = chain[0]
    lacks = (each["lacks"] for each in chain if _is_import(first) and each["lacks"])
    lacking = first["lacks"] or next(lacks, None)
    if lacking:
        top = lacking.partition(".")[0]
        alone = top in _OTHER_SYSTEMS or (_same_name(top, name) and top not in _tops(verdict))
        return Failure(name, module, "module", lacking, "warning" if alone else level, one["trace"])
    words = first["words"].strip().partition("\n")[0]  # the rest stands in the trace
    return Failure(name, module, "side-effect", f"{first['type']}: {words}", level, end(one["trace"]))


def _is_import(one: Mapping[str, Any]) -> bool:
    return bool(one["type"] in ("ImportError", "ModuleNotFoundError"))


def _same_name(module: str, name: str) -> bool:
    """A module that a program of the distribution brings while it runs: uwsgi, inside uWSGI."""
    return re.sub(r"[-_.]+", "-", module).lower() == name


def _tops(verdict: Verdict) -> set[str]:
    return {one.partition(".")[0] for names in verdict.modules.values() for one in names}


def told(failures: Sequence[Failure], target: TargetPlan, place: Text | str, limit: float) -> list[Finding]:
    """A finding for each cause; all that failed of it in one."""
    causes: dict[tuple[str, str, str], list[Failure]] = {}
    for one in failures:
        # a module that hangs, or ends its process, does so for itself
        key = one.cause if one.kind not in ("time-out", "ended") else f"{one.cause} {one.module}"
        causes.setdefault((one.kind, key, one.level), []).append(one)
    machine = Target(target.name, target.facts)
    findings = []
    for (kind, _, level), alike in sorted(causes.items()):
        first = alike[0]
        subject = ", ".join(dict.fromkeys(one.name for one in alike))
        facts: dict[str, Any] = {
            "modules": [one.module for one in alike],
            "place": place,
            "cause": first.cause,
            "limit": round(limit),
        }
        help = help_for(first.cause, machine) if kind == "library" else _brings(first.cause)
        findings.append(_worded(kind, subject, first, help, facts)._replace(level=level))
    return findings


def _worded(kind: str, subject: str, first: Failure, help: str | Text | None, facts: dict[str, Any]) -> Finding:
    if kind == "library":
        return error(
            "import-library",
            subject,
            "{subject}: {modules} cannot be imported on {place}, which lacks {cause}.",
            "Install it there: {help}" if help else "Install the package of that system that brings it.",
            first.log,
            help=help,
            **facts,
        )
    if kind == "symbol":
        return error(
            "import-symbol",
            subject,
            "{subject}: {modules} cannot be imported on {place}: a library there lacks {cause}.",
            "Take an older version of {subject}, or a newer system.",
            first.log,
            **facts,
        )
    if kind == "module":
        return error(
            "import-module",
            subject,
            "{subject}: {modules} cannot be imported on {place}: the module {cause} is missing.",
            "Install it there: {help}" if help else "Add the project that brings it to what is packed.",
            end(first.log),
            help=help,
            **facts,
        )
    if kind == "time-out":
        return error(
            "import-hangs",
            subject,
            "{subject}: importing {modules} on {place} had not ended after {limit} s.",
            "Where it stood is below; a module should not wait for anything while it is imported.",
            first.log,
            **facts,
        )
    if kind == "ended":
        return error(
            "import-side-effect",
            subject,
            "{subject}: importing {modules} on {place} ended its Python: {cause}.",
            "Its last words are below.",
            first.log,
            **facts,
        )
    return error(
        "import-side-effect",
        subject,
        "{subject}: importing {modules} on {place} does something that fails there: {cause}.",
        "Its last words are below.",
        first.log,
        **facts,
    )

_PARTS_OF_PYTHON = {
    "tkinter": "python3-tk",
    "_tkinter": "python3-tk",
    "distutils": "python3-distutils",
    "venv": "python3-venv",
}

_PARTS_OF_PYTHON |= {"_curses": "python3-curses", "_gdbm": "python3-gdbm", "lib2to3": "python3-lib2to3"}


def _brings(module: str) -> Text | None:
    """Modules of Python itself that systems pack separately."""
    top = module.partition(".")[0]
    if top == "distutils":
        return text("setuptools, or on older systems the package python3-distutils")
    if top in _PARTS_OF_PYTHON:
        return text("the package {package}", package=_PARTS_OF_PYTHON[top])
    return None


def end(words: str, lines: int = 15) -> str:
    """The last lines of what a program said."""
    return "\n".join(words.rstrip().splitlines()[-lines:])
