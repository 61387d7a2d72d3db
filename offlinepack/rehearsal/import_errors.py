"""Classify why a module could not be imported: missing library, symbol or module, side effect or time-out."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offlinepack.errors import Finding, Text, error, text
from offlinepack.native.needs import find_install_command
from offlinepack.ontarget.manifest import TargetPlan
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.targets.model import Target


@dataclass(frozen=True)
class ImportFailure:
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
_MISSING_LIBRARY_PATTERN = re.compile(
    r"([^\s/'\":]+): cannot open shared object file"
    r"|Error loading shared library ([^\s/'\":]+)"
    r"|Library not loaded: (\S+)"
    r"|cannot load library '([^']+)'"
    r"|[Ff]ailed to find (lib\w+)"
)

_MISSING_SYMBOL_PATTERN = re.compile(
    r"version [`']([\w.]+)' not found|undefined symbol: (\w+)|Error relocating \S+: (\w+): symbol not found"
    r"|[Ss]ymbol not found: (\w+)"
)

_DLL_ERROR = "DLL load failed"

_UNINTENDED_MODULES = {"test", "tests", "testing", "conftest", "example", "examples", "docs", "benchmark", "benchmarks"}
"""top-level modules that are carried by mistake: nobody imports them, and what they need is not declared"""

_FOREIGN_SYSTEM_MODULES = {
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

_FOREIGN_SYSTEM_MODULES |= {"termios", "resource", "java"}


def classify_failure(name: str, module: str, one: Mapping[str, Any], verdict: Verdict) -> ImportFailure:
    """What inside.py saw of a module that could not be imported, of which distribution."""
    level = "warning" if module in _UNINTENDED_MODULES else "error"
    chain, code = one.get("chain", ()), one["code"]
    if not one.get("ended"):
        if code is None:
            return ImportFailure(name, module, "time-out", "", level, get_log_end(one["said"]))
        words = f"{signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return ImportFailure(name, module, "ended", words, level, get_log_end(one["said"]))
    for each in reversed(chain):  # the first cause stands last
        if each["type"] in ("ImportError", "OSError"):
            if missing := _MISSING_LIBRARY_PATTERN.search(each["words"]):
                return ImportFailure(name, module, "library", next(filter(None, missing.groups())), level)
            if missing := _MISSING_SYMBOL_PATTERN.search(each["words"]):
                return ImportFailure(name, module, "symbol", next(filter(None, missing.groups())), level, each["words"])
            if _DLL_ERROR in each["words"]:
                return ImportFailure(name, module, "library", "a DLL", level, each["words"])
    first = chain[0]
    lacks = (each["lacks"] for each in chain if _is_import_error(first) and each["lacks"])
    lacking = first["lacks"] or next(lacks, None)
    if lacking:
        top = lacking.partition(".")[0]
        alone = top in _FOREIGN_SYSTEM_MODULES or (
            _is_same_name(top, name) and top not in _list_top_level_names(verdict)
        )
        return ImportFailure(name, module, "module", lacking, "warning" if alone else level, one["trace"])
    words = first["words"].strip().partition("\n")[0]  # the rest stands in the trace
    return ImportFailure(name, module, "side-effect", f"{first['type']}: {words}", level, get_log_end(one["trace"]))


def _is_import_error(one: Mapping[str, Any]) -> bool:
    return bool(one["type"] in ("ImportError", "ModuleNotFoundError"))


def _is_same_name(module: str, name: str) -> bool:
    """A module that a program of the distribution brings while it runs: uwsgi, inside uWSGI."""
    return re.sub(r"[-_.]+", "-", module).lower() == name


def _list_top_level_names(verdict: Verdict) -> set[str]:
    return {one.partition(".")[0] for names in verdict.modules.values() for one in names}


def report_failures(
    failures: Sequence[ImportFailure], target: TargetPlan, place: Text | str, limit: float
) -> list[Finding]:
    """A finding for each cause; all that failed of it in one."""
    causes: dict[tuple[str, str, str], list[ImportFailure]] = {}
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
        help = find_install_command(first.cause, machine) if kind == "library" else _find_python_package(first.cause)
        findings.append(_make_finding(kind, subject, first, help, facts)._replace(level=level))
    return findings


def _make_finding(
    kind: str, subject: str, first: ImportFailure, help: str | Text | None, facts: dict[str, Any]
) -> Finding:
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
            get_log_end(first.log),
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


_PYTHON_PACKAGES = {
    "tkinter": "python3-tk",
    "_tkinter": "python3-tk",
    "distutils": "python3-distutils",
    "venv": "python3-venv",
}

_PYTHON_PACKAGES |= {"_curses": "python3-curses", "_gdbm": "python3-gdbm", "lib2to3": "python3-lib2to3"}


def _find_python_package(module: str) -> Text | None:
    """Modules of Python itself that systems pack separately."""
    top = module.partition(".")[0]
    if top == "distutils":
        return text("setuptools, or on older systems the package python3-distutils")
    if top in _PYTHON_PACKAGES:
        return text("the package {package}", package=_PYTHON_PACKAGES[top])
    return None


def get_log_end(words: str, lines: int = 15) -> str:
    """The last lines of what a program said."""
    return "\n".join(words.rstrip().splitlines()[-lines:])
