"""The live rehearsal: the bundle's own install.py in a throw-away place without a network, then every module imported.

On this computer where it has a Python that fits, or in a root file system of the target (another distribution, another
architecture by qemu-user). Whatever was made there is gone afterwards.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offlinepack import native, roots
from offlinepack.bundle import Bundle
from offlinepack.errors import BundleError, ComputerError, Finding, IntegrityError, Text, error, text
from offlinepack.ontarget.manifest import INSTALL_PY, INSTALL_SH, Need
from offlinepack.ontarget.manifest import Target as Planned
from offlinepack.rehearse import Verdict
from offlinepack.targets import Target

LIMIT, PATIENCE = 60.0, 600.0
"""seconds for one import, and for one command of --smoke"""
EMULATED = 4
"""so much more time is given on an emulated processor"""
_OF_BUNDLE, _OF_PLACE, _OF_SCRIPT = "/media/bundle", "/srv/rehearsal", "/run/offlinepack/inside.py"
"""where a root file system sees the bundle, the throw-away place, the script"""
_STEERING = ("PYTHON", "PIP_", "UV_", "VIRTUAL_ENV", "CONDA_", "OFFLINEPACK_", "__PYVENV")


def rehearse(
    bundle: Bundle,
    verdicts: Sequence[Verdict],
    root: Path | None = None,
    smoke: Sequence[str] = (),
) -> Iterator[Verdict]:
    """Each verdict of the static stage with what was seen live; one that failed there is not tried again.

    `smoke`: commands that the shell runs in the finished environment. ComputerError: this computer has no room, or no
    rights; IntegrityError, BundleError: the bundle is not sound.
    """
    planned = {one.tag: one for one in bundle.manifest.targets}
    with _unpacked(bundle) as folder:
        for verdict in verdicts:
            if verdict.installs is False:
                yield verdict
                continue
            target = planned[verdict.tag]
            with tempfile.TemporaryDirectory(prefix="offlinepack-live-", ignore_cleanup_errors=True) as place:
                stage = _Stage(folder, Path(place), root, _foreign(target))
                yield _rehearsed(verdict, target, stage, smoke)


@contextmanager
def _unpacked(bundle: Bundle) -> Iterator[Path]:
    if bundle.path.is_dir():
        yield bundle.path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for _ in bundle.unpack(Path(folder, "bundle")):
            pass
        yield Path(folder, "bundle")


def _foreign(target: Planned) -> bool:
    return target.facts.machine not in (platform.machine().lower(), "i686")


@dataclass(frozen=True)
class _Stage:
    """Where one target is rehearsed."""

    bundle: Path
    place: Path
    """the throw-away folder"""
    root: Path | None
    emulated: bool

    @property
    def network(self) -> Text:
        """How it is cut off, in words."""
        if self.root or roots.can_cut_off():
            return text("cut off by the kernel, in a namespace")
        return text("refused by a guard in each Python that was tested; other programs were not held back")

    @property
    def where(self) -> Text | str:
        """What people call it."""
        return str(self.root) if self.root else text("this computer")

    def inside(self, path: Path) -> str:
        """A path below the throw-away folder as it is called there."""
        return f"{_OF_PLACE}/{path.relative_to(self.place)}" if self.root else str(path)

    def install(self, tag: str) -> tuple[int, Mapping[str, Any], str]:
        """Exit code of the bundle's install.py, its report ({} where it wrote none), what it said."""
        report = self.place / "report.json"
        options = ["--target", tag, "--venv", self.inside(self.place / "venv"), "--report", self.inside(report)]
        if self.root:
            done = self.run(["sh", f"{_OF_BUNDLE}/{INSTALL_SH}", *options])
        else:
            done = self.run([sys.executable, "-I", "-B", str(self.bundle / INSTALL_PY), *options])
        told = json.loads(report.read_text("utf-8")) if report.is_file() else {}
        return done.returncode, told, done.stdout.decode("utf-8", "replace")

    def try_out(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What inside.py found out there."""
        given, told, home = self.place / "given.json", self.place / "told.json", self.place / "home"
        home.mkdir()
        guard = not self.root and not roots.can_cut_off()
        given.write_text(json.dumps({**asked, "guard": guard, "home": self.inside(home)}), "utf-8")
        script = Path(__file__).with_name("inside.py")
        venv = self.place / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        command = [self.inside(venv), "-I", "-B", _OF_SCRIPT if self.root else str(script)]
        done = self.run([*command, self.inside(given), self.inside(told)])
        if not told.is_file():
            raise ComputerError(
                error(
                    "rehearsal-ended",
                    self.where,
                    "The rehearsal on {subject} ended before its end (exit code {status}).",
                    "Its last words are below.",
                    log=_end(done.stdout.decode("utf-8", "replace")),
                    status=done.returncode,
                )
            )
        found: Mapping[str, Any] = json.loads(told.read_text("utf-8"))
        return found

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        if self.root:
            binds = [
                roots.Bind(self.bundle, _OF_BUNDLE),
                roots.Bind(self.place, _OF_PLACE, True),
                roots.Bind(Path(__file__).with_name("inside.py"), _OF_SCRIPT),
            ]
            return roots.run(self.root, command, binds=binds, folder=_OF_PLACE)
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_STEERING)}
        if roots.can_cut_off():
            return roots.run_cut_off(command, environment=kept, folder=self.place)
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=kept,
            cwd=self.place,
            check=False,
        )


def _rehearsed(verdict: Verdict, target: Planned, stage: _Stage, smoke: Sequence[str]) -> Verdict:
    code, report, said = stage.install(target.tag)
    found = [
        Finding(one["level"], one["code"], one["subject"], _said(one), _do(one), one.get("log", ""))
        for one in _heard(report)
    ]
    errors = [one for one in found if one.level == "error"]
    if code == 10 and all(one.code in ("does-not-fit", "nothing-fits") for one in errors):
        return replace(verdict, not_checked=(*verdict.not_checked, _not_run(target, report, stage)))
    if stage.root:  # now a system of the target was asked
        verdict = replace(verdict, forecast=(), not_checked=verdict.not_checked[:1])
    for kind in (ComputerError, IntegrityError, BundleError):
        if code == kind.exit_code:
            raise kind(*errors)
    if code:
        found = _lacking(errors, target, stage) or [
            error(
                "install-failed",
                target.name,
                "The bundle could not be installed on {place} (exit code {status}).",
                "Its last words are below.",
                log=_end(said),
                place=stage.where,
                status=code,
            )
        ]
        return replace(verdict, runs=False, findings=(*verdict.findings, *found), live=_how(report, stage, 0, smoke))
    slower = EMULATED if stage.emulated else 1
    limit, patience = LIMIT * slower, PATIENCE * slower
    modules = [(name, one) for name, names in sorted(verdict.modules.items()) for one in names]
    wanting: dict[str, list[str]] = {}
    for one in target.install:
        for needed in one.requires:
            wanting.setdefault(needed, []).extend(verdict.modules.get(one.name, ()))
    told = stage.try_out(
        {
            "modules": [(one, wanting.get(name, [])) for name, one in modules],
            "smoke": list(smoke),
            "limit": limit,
            "patience": patience,
            "jobs": os.cpu_count() or 1,
        }
    )
    failures = [
        _failure(name, module, one, verdict, target)
        for (name, module), one in zip(modules, told["modules"], strict=True)
        if not one.get("ended") or one.get("chain")
    ]
    broken = {(one.name, one.module) for one in failures}
    works = {name for name, module in modules if (name, module) not in broken}
    # in a folder that many share (google), beside modules that work: a part for an extra that was not asked for
    failures = [
        replace(one, level="warning") if one.kind == "module" and "." in one.module and one.name in works else one
        for one in failures
    ]
    findings = [
        *_told(failures, target, stage, limit),
        *_smoked(smoke, told["smoke"], stage, patience),
    ]
    imported = len(modules) - len(failures)
    return replace(
        verdict,
        runs=not any(one.level == "error" for one in findings),
        findings=(*verdict.findings, *found, *findings),
        not_checked=tuple(_left_open(target, stage, smoke)),
        live=_how(report, stage, imported, smoke),
    )


def _heard(report: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """install.py's findings that say something of the bundle; what it notes of the throw-away place is left out."""
    return [one for one in report.get("findings", ()) if one["level"] != "note"]


def _said(one: Mapping[str, str]) -> Text:
    return Text("{words}", {"words": one["sentence"]})


def _do(one: Mapping[str, str]) -> Text:
    return Text("{words}" if one["advice"] else "", {"words": one["advice"]})


def _how(report: Mapping[str, Any], stage: _Stage, imported: int, smoke: Sequence[str]) -> dict[str, Any]:
    python = report.get("machine", {}).get("python", {}).get("python", "?")
    return {
        "place": stage.where,
        "network": stage.network,
        "python": python,
        "imported": imported,
        "smoke": list(smoke),
    }


def _not_run(target: Planned, report: Mapping[str, Any], stage: _Stage) -> Text:
    minor = ".".join(target.facts.python.split(".")[:2])
    misfits = [one["sentence"] for one in report.get("findings", ()) if one["code"] == "does-not-fit"]
    nearest = next((one for one in misfits if f"(Python {minor}." in one), None)
    if nearest:
        return text("whether it runs: {words}", words=nearest)
    if stage.root:
        return text("whether it runs: {root} has no Python that fits this target", root=stage.root)
    return text("whether it runs: this computer has no Python that fits; --root DIR takes a root file system that has")


def _left_open(target: Planned, stage: _Stage, smoke: Sequence[str]) -> Iterator[Text]:
    """What even a live rehearsal cannot tell."""
    if not smoke:
        yield text("what the application does beyond being imported (--smoke CMD)")
    if stage.root:
        yield text("a machine that has other packages than {root}; another kernel than this one", root=stage.root)
    else:
        yield text("any machine but this one, and what its system has installed")
    if stage.emulated and stage.root:
        yield text("the target's own processor: {machine} was emulated", machine=target.facts.machine)


# ------------------------------------------------------------------------------------------- what went wrong, in words


@dataclass(frozen=True)
class _Failure:
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


def _failure(name: str, module: str, one: Mapping[str, Any], verdict: Verdict, target: Planned) -> _Failure:
    level = "warning" if module in _NOT_MEANT else "error"
    chain, code = one.get("chain", ()), one["code"]
    if not one.get("ended"):
        if code is None:
            return _Failure(name, module, "time-out", "", level, _end(one["said"]))
        words = f"{signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return _Failure(name, module, "ended", words, level, _end(one["said"]))
    for each in reversed(chain):  # the first cause stands last
        if each["type"] in ("ImportError", "OSError"):
            if missing := _NO_LIBRARY.search(each["words"]):
                return _Failure(name, module, "library", next(filter(None, missing.groups())), level)
            if missing := _NO_SYMBOL.search(each["words"]):
                return _Failure(name, module, "symbol", next(filter(None, missing.groups())), level, each["words"])
            if _NO_DLL in each["words"]:
                return _Failure(name, module, "library", "a DLL", level, each["words"])
    first = chain[0]
    lacks = (each["lacks"] for each in chain if _is_import(first) and each["lacks"])
    lacking = first["lacks"] or next(lacks, None)
    if lacking:
        top = lacking.partition(".")[0]
        alone = top in _OTHER_SYSTEMS or (_same_name(top, name) and top not in _tops(verdict))
        return _Failure(name, module, "module", lacking, "warning" if alone else level, one["trace"])
    return _Failure(name, module, "side-effect", f"{first['type']}: {first['words']}", level, _end(one["trace"]))


def _is_import(one: Mapping[str, Any]) -> bool:
    return bool(one["type"] in ("ImportError", "ModuleNotFoundError"))


def _same_name(module: str, name: str) -> bool:
    """A module that a program of the distribution brings while it runs: uwsgi, inside uWSGI."""
    return re.sub(r"[-_.]+", "-", module).lower() == name


def _tops(verdict: Verdict) -> set[str]:
    return {one.partition(".")[0] for names in verdict.modules.values() for one in names}


def _told(failures: Sequence[_Failure], target: Planned, stage: _Stage, limit: float) -> list[Finding]:
    """A finding for each cause; all that failed of it in one."""
    causes: dict[tuple[str, str, str], list[_Failure]] = {}
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
            "place": stage.where,
            "cause": first.cause,
            "limit": round(limit),
        }
        help = native.help_for(first.cause, machine) if kind == "library" else _brings(first.cause)
        findings.append(_worded(kind, subject, first, help, facts)._replace(level=level))
    return findings


def _worded(kind: str, subject: str, first: _Failure, help: str | None, facts: dict[str, Any]) -> Finding:
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
            _end(first.log),
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


def _brings(module: str) -> str | None:
    """Modules of Python itself that systems pack separately."""
    top = module.partition(".")[0]
    if top == "distutils":
        return text("setuptools, or on older systems the package python3-distutils").say()
    if top in _PARTS_OF_PYTHON:
        return text("the package {package}", package=_PARTS_OF_PYTHON[top]).say()
    return None


def _smoked(smoke: Sequence[str], told: Sequence[Mapping[str, Any]], stage: _Stage, limit: float) -> Iterator[Finding]:
    for command, one in zip(smoke, told, strict=True):
        if one["code"] is None:
            yield error(
                "smoke-hangs",
                command,
                "On {place} this had not ended after {limit} s: {subject}",
                "Its last words are below.",
                _end(one["said"]),
                place=stage.where,
                limit=round(limit),
            )
        elif one["code"]:
            yield error(
                "smoke-failed",
                command,
                "On {place} this ended with exit code {status}: {subject}",
                "Its last words are below.",
                _end(one["said"]),
                place=stage.where,
                status=one["code"],
            )


def _lacking(errors: Sequence[Finding], target: Planned, stage: _Stage) -> list[Finding]:
    """What preflight or the installation found wrong; a library in the words of the static stage."""
    needs: dict[str, Need] = {one.soname: one for one in target.needs}
    found = []
    for one in errors:
        need = needs.get(one.subject) if one.code == "library-missing" else None
        if need:
            one = error(
                "library-missing",
                ", ".join(need.wanted_by),
                "{subject} needs {soname}, which {target} lacks.",
                "Install it there: {help}" if need.help else "Install the package of that system that brings it.",
                soname=need.soname,
                target=stage.where,
                help=need.help,
            )
        found.append(one)
    return found


def _end(words: str, lines: int = 15) -> str:
    return "\n".join(words.rstrip().splitlines()[-lines:])
