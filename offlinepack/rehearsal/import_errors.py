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
    """A failed import and the kind of its cause."""

    name: str
    """name of the distribution"""
    module: str
    kind: str
    """library, symbol, module, side-effect, time-out"""
    cause: str
    """key of the cause: a soname, a module name, or an exception with its message"""
    level: str
    log: str = ""


# Messages of the loaders of glibc, musl, macOS and Windows; a group holds the missing name.
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
"""top-level modules that are included by mistake and whose dependencies are not declared"""

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


def classify_failure(name: str, module: str, outcome: Mapping[str, Any], verdict: Verdict) -> ImportFailure:
    """Classify the failed import of a module of the distribution `name`, as inside.py reported it."""
    level = "warning" if module in _UNINTENDED_MODULES else "error"
    chain, code = outcome.get("chain", ()), outcome["code"]
    if not outcome.get("ended"):
        if code is None:
            return ImportFailure(name, module, "time-out", "", level, get_log_end(outcome["said"]))
        cause = f"{signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return ImportFailure(name, module, "ended", cause, level, get_log_end(outcome["said"]))
    for exception in reversed(chain):  # the first cause is last in the chain
        if exception["type"] in ("ImportError", "OSError"):
            if missing := _MISSING_LIBRARY_PATTERN.search(exception["words"]):
                return ImportFailure(name, module, "library", next(filter(None, missing.groups())), level)
            if missing := _MISSING_SYMBOL_PATTERN.search(exception["words"]):
                return ImportFailure(
                    name, module, "symbol", next(filter(None, missing.groups())), level, exception["words"]
                )
            if _DLL_ERROR in exception["words"]:
                return ImportFailure(name, module, "library", "a DLL", level, exception["words"])
    first = chain[0]
    module_names = (error["lacks"] for error in chain if _is_import_error(first) and error["lacks"])
    missing_module = first["lacks"] or next(module_names, None)
    if missing_module:
        top = missing_module.partition(".")[0]
        is_incidental = top in _FOREIGN_SYSTEM_MODULES or (
            _is_same_name(top, name) and top not in _list_top_level_names(verdict)
        )
        return ImportFailure(
            name, module, "module", missing_module, "warning" if is_incidental else level, outcome["trace"]
        )
    cause = first["words"].strip().partition("\n")[0]  # further lines are in the trace
    return ImportFailure(name, module, "side-effect", f"{first['type']}: {cause}", level, get_log_end(outcome["trace"]))


def _is_import_error(exception: Mapping[str, Any]) -> bool:
    return bool(exception["type"] in ("ImportError", "ModuleNotFoundError"))


def _is_same_name(module: str, name: str) -> bool:
    """Return whether a module has the name of its distribution: uWSGI provides `uwsgi` only while it runs."""
    return re.sub(r"[-_.]+", "-", module).lower() == name


def _list_top_level_names(verdict: Verdict) -> set[str]:
    return {module.partition(".")[0] for names in verdict.modules.values() for module in names}


def report_failures(
    failures: Sequence[ImportFailure], target: TargetPlan, location: Text | str, limit: float
) -> list[Finding]:
    """Return one finding for each cause, with all imports that failed of it."""
    causes: dict[tuple[str, str, str], list[ImportFailure]] = {}
    for failure in failures:
        # a module that hangs or ends its process is a cause of its own
        key = failure.cause if failure.kind not in ("time-out", "ended") else f"{failure.cause} {failure.module}"
        causes.setdefault((failure.kind, key, failure.level), []).append(failure)
    machine = Target(target.name, target.facts)
    findings = []
    for (kind, _, level), group in sorted(causes.items()):
        first = group[0]
        subject = ", ".join(dict.fromkeys(member.name for member in group))
        facts: dict[str, Any] = {
            "modules": [member.module for member in group],
            "place": location,
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
    """Return the system package of a module of the standard library that systems ship separately."""
    top = module.partition(".")[0]
    if top == "distutils":
        return text("setuptools, or on older systems the package python3-distutils")
    if top in _PYTHON_PACKAGES:
        return text("the package {package}", package=_PYTHON_PACKAGES[top])
    return None


def get_log_end(output: str, lines: int = 15) -> str:
    """Return the last lines of the output of a program."""
    return "\n".join(output.rstrip().splitlines()[-lines:])
