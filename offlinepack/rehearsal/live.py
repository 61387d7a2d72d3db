"""Install a bundle in a temporary folder without a network, and import every module.

The rehearsal runs on the build host if it has a matching Python, or in a root file system of the target (another
system, or another architecture with qemu-user). All files are removed afterwards.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from offlinepack import ontarget
from offlinepack.bundle.layout import INSTALL_SH
from offlinepack.bundle.reader import Bundle
from offlinepack.errors import BundleError, ComputerError, Finding, IntegrityError, MachineError, Text, error, text
from offlinepack.ontarget.manifest import (
    INSTALL_PY,
    MANIFEST,
    SIGNATURES,
    Manifest,
    Need,
    TargetPlan,
    serialize_manifest,
)
from offlinepack.ontarget.report import MESSAGES_FILE
from offlinepack.rehearsal.import_errors import classify_failure, get_log_end, report_failures
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.sandbox import BindMount, run_in_root, run_without_network, supports_network_isolation

IMPORT_TIMEOUT, COMMAND_TIMEOUT = 60.0, 600.0
"""seconds for one import, and for one command of --smoke"""

EMULATION_FACTOR = 4
"""so much more time is given on an emulated processor"""

_BUNDLE_PATH, _WORK_PATH, _SCRIPT_PATH = "/media/bundle", "/srv/rehearsal", "/run/offlinepack/inside.py"
"""where a root file system sees the bundle, the throw-away place, the script"""

PYTHON_ENV_PREFIXES = ("PYTHON", "PIP_", "UV_", "VIRTUAL_ENV", "CONDA_", "OFFLINEPACK_", "__PYVENV")


def run_install(
    bundle: Bundle, verdicts: Sequence[Verdict], root: Path | None = None, smoke: Sequence[str] = ()
) -> Iterator[Verdict]:
    """Each verdict of the static stage with what was seen live; one that failed there is not tried again.

    `smoke`: commands that the shell runs in the finished environment. ComputerError: this computer has no room, or no
    rights; IntegrityError, BundleError: the bundle is not sound.
    """
    planned = {one.tag: one for one in bundle.manifest.targets}
    with _unpack_bundle(bundle) as folder:
        for verdict in verdicts:
            if verdict.installs is False:
                yield verdict
                continue
            target = planned[verdict.tag]
            with tempfile.TemporaryDirectory(prefix="offlinepack-live-", ignore_cleanup_errors=True) as place:
                stage = _RehearsalStage(folder, bundle.manifest, Path(place), root, _is_emulated(target))
                yield _run_target(verdict, target, stage, smoke)


@contextmanager
def _unpack_bundle(bundle: Bundle) -> Iterator[Path]:
    if bundle.path.is_dir():
        yield bundle.path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        for _ in bundle.unpack(Path(folder, "bundle")):
            pass
        yield Path(folder, "bundle")


def _is_emulated(target: TargetPlan) -> bool:
    return target.facts.machine not in (platform.machine().lower(), "i686")


@dataclass(frozen=True)
class _RehearsalStage:
    """Where one target is rehearsed."""

    bundle_dir: Path
    manifest: Manifest
    work_dir: Path
    """the throw-away folder"""
    root: Path | None
    is_emulated: bool

    @property
    def network_isolation(self) -> Text:
        """How it is cut off, in words."""
        if self.root or supports_network_isolation():
            return text("cut off by the kernel, in a namespace")
        return text("refused by a guard in each Python that was tested; other programs were not held back")

    @property
    def location(self) -> Text | str:
        """What people call it."""
        return str(self.root) if self.root else text("this computer")

    def map_path(self, path: Path) -> str:
        """A path below the throw-away folder as it is called there."""
        return f"{_WORK_PATH}/{path.relative_to(self.work_dir)}" if self.root else str(path)

    def install(self, tag: str) -> _InstallRun:
        """What the bundle's install.py came to."""
        report = self.work_dir / "report.json"
        options = ["--target", tag, "--venv", self.map_path(self.work_dir / "venv"), "--report", self.map_path(report)]
        if self.root:
            done = self.run_command(["sh", f"{_BUNDLE_PATH}/{INSTALL_SH}", *options])
        else:
            done = self.run_command([sys.executable, "-I", "-B", str(self.bundle_dir / INSTALL_PY), *options])
        told = json.loads(report.read_text("utf-8")) if report.is_file() else {}
        report.unlink(missing_ok=True)
        return _InstallRun(done.returncode, told, done.stdout.decode("utf-8", "replace"))

    def drop_needs(self) -> _RehearsalStage:
        """The same with a copy of the bundle that asks nothing of the system: imports show what is not there."""
        bare = self.work_dir / "bundle"
        shutil.copytree(self.bundle_dir, bare, ignore=shutil.ignore_patterns(MANIFEST, *SIGNATURES))
        targets = tuple(one._replace(needs=()) for one in self.manifest.targets)
        (bare / MANIFEST).write_bytes(serialize_manifest(self.manifest._replace(targets=targets)))
        return replace(self, bundle_dir=bare)

    def run_imports(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What inside.py found out there."""
        given, told, home = self.work_dir / "given.json", self.work_dir / "told.json", self.work_dir / "home"
        home.mkdir()
        guard = not self.root and not supports_network_isolation()
        given.write_text(json.dumps({**asked, "guard": guard, "home": self.map_path(home)}), "utf-8")
        script = Path(__file__).with_name("inside.py")
        venv = self.work_dir / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        command = [self.map_path(venv), "-I", "-B", _SCRIPT_PATH if self.root else str(script)]
        done = self.run_command([*command, self.map_path(given), self.map_path(told)])
        if not told.is_file():
            raise ComputerError(
                error(
                    "rehearsal-ended",
                    self.location,
                    "The rehearsal on {subject} ended before its end (exit code {status}).",
                    "Its last words are below.",
                    log=get_log_end(done.stdout.decode("utf-8", "replace")),
                    status=done.returncode,
                )
            )
        found: Mapping[str, Any] = json.loads(told.read_text("utf-8"))
        return found

    def run_command(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        if self.root:
            binds = [
                BindMount(self.bundle_dir, _BUNDLE_PATH),
                BindMount(self.work_dir, _WORK_PATH, True),
                BindMount(Path(__file__).with_name("inside.py"), _SCRIPT_PATH),
            ]
            return run_in_root(self.root, command, binds=binds, folder=_WORK_PATH)
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PYTHON_ENV_PREFIXES)}
        if supports_network_isolation():
            return run_without_network(command, environment=kept, folder=self.work_dir)
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=kept,
            cwd=self.work_dir,
            check=False,
        )


@dataclass(frozen=True)
class _InstallRun:
    """How one run of install.py ended."""

    exit_code: int
    report: Mapping[str, Any]
    """{} where it wrote none"""
    output: str

    @property
    def findings(self) -> list[Finding]:
        """Those that say something of the bundle; what it notes of the throw-away place is left out."""
        return [
            Finding(
                *(one["level"], one["code"], one["subject"]),
                sentence=_restore_text(one["sentence"]),
                advice=_restore_text(one["advice"]),
                log=one.get("log", ""),
            )
            for one in self.report.get("findings", ())
            if one["level"] != "note"
        ]

    @property
    def errors(self) -> list[Finding]:
        return [one for one in self.findings if one.level == "error"]


def _run_target(verdict: Verdict, target: TargetPlan, stage: _RehearsalStage, smoke: Sequence[str]) -> Verdict:
    done = stage.install(target.tag)
    found, lacking = done.findings, list[Finding]()
    codes = {one.code for one in done.errors}
    if done.exit_code == MachineError.exit_code and codes <= {"does-not-fit", "nothing-fits"}:
        return replace(verdict, limitations=(*verdict.limitations, _explain_not_run(target, done.report, stage)))
    if stage.root:  # now a system of the target was asked
        verdict = replace(verdict, forecast=(), limitations=verdict.limitations[:1])
    missed = set[str]()
    if done.exit_code == MachineError.exit_code and codes and codes <= {"library-missing", "symbol-missing"}:
        lacking = _convert_errors(done.errors, target, stage)
        missed = {one.subject for one in done.errors}
        missed |= {symbol for need in target.needs if need.soname in missed for symbol in need.symbols}
        found = [one for one in found if one.level != "error"]
        done = stage.drop_needs().install(target.tag)
    for kind in (ComputerError, IntegrityError, BundleError):
        if done.exit_code == kind.exit_code:
            raise kind(*done.errors)
    if done.exit_code:
        lacking += _convert_errors(done.errors, target, stage) or [
            error(
                "install-failed",
                target.name,
                "The bundle could not be installed on {place} (exit code {status}).",
                "Its last words are below.",
                log=get_log_end(done.output),
                place=stage.location,
                status=done.exit_code,
            )
        ]
        return replace(
            verdict,
            runs=False,
            findings=(*verdict.findings, *lacking),
            limitations=(
                text("whether its modules can be imported: it could not be installed"),
                *verdict.limitations[1:],
            ),
            live_run=_describe_run(done.report, stage, 0, smoke),
        )
    slower = EMULATION_FACTOR if stage.is_emulated else 1
    limit, patience = IMPORT_TIMEOUT * slower, COMMAND_TIMEOUT * slower
    modules = [(name, one) for name, names in sorted(verdict.modules.items()) for one in names]
    wanting: dict[str, list[str]] = {}
    for one in target.install:
        for needed in one.requires:
            wanting.setdefault(needed, []).extend(verdict.modules.get(one.name, ()))
    told = stage.run_imports(
        {
            "modules": [(one, wanting.get(name, [])) for name, one in modules],
            "smoke": list(smoke),
            "limit": limit,
            "patience": patience,
            "jobs": os.cpu_count() or 1,
        }
    )
    failed = [
        classify_failure(name, module, one, verdict)
        for (name, module), one in zip(modules, told["modules"], strict=True)
        if not one.get("ended") or one.get("chain")
    ]
    broken = {(one.name, one.module) for one in failed}
    works = {name for name, module in modules if (name, module) not in broken}
    # in a folder that many share (google), beside modules that work: a part for an extra that was not asked for
    failed = [
        replace(one, level="warning") if one.kind == "module" and "." in one.module and one.name in works else one
        for one in failed
    ]
    others = [one for one in failed if one.cause not in missed or one.kind not in ("library", "symbol")]
    findings = [
        *lacking,
        *report_failures(others, target, stage.location, limit),
        *_report_commands(smoke, told["smoke"], stage, patience),
    ]
    imported = len(modules) - len(failed)
    return replace(
        verdict,
        runs=not any(one.level == "error" for one in findings),
        findings=(*verdict.findings, *found, *findings),
        limitations=tuple(_list_limitations(target, stage, smoke)),
        live_run=_describe_run(done.report, stage, imported, smoke),
    )


def _describe_run(
    report: Mapping[str, Any], stage: _RehearsalStage, imported: int, smoke: Sequence[str]
) -> dict[str, Any]:
    python = report.get("machine", {}).get("python", {}).get("python", "?")
    return {
        "place": stage.location,
        "network": stage.network_isolation,
        "python": python,
        "imported": imported,
        "smoke": list(smoke),
    }


def _explain_not_run(target: TargetPlan, report: Mapping[str, Any], stage: _RehearsalStage) -> Text:
    minor = ".".join(target.facts.python.split(".")[:2])
    misfits = [one["sentence"] for one in report.get("findings", ()) if one["code"] == "does-not-fit"]
    nearest = next((one for one in misfits if f"(Python {minor}." in one), None)
    if nearest:
        return text("whether it runs: {words}", words=_restore_text(nearest))
    if stage.root:
        return text("whether it runs: {root} has no Python that fits this target", root=stage.root)
    return text("whether it runs: this computer has no Python that fits; --root DIR takes a root file system that has")


def _list_limitations(target: TargetPlan, stage: _RehearsalStage, smoke: Sequence[str]) -> Iterator[Text]:
    """What even a live rehearsal cannot tell."""
    if not smoke:
        yield text("what the application does beyond being imported (--smoke CMD)")
    if stage.root:
        yield text("a machine that has other packages than {root}; another kernel than this one", root=stage.root)
    else:
        yield text("any machine but this one, and what its system has installed")
    if stage.is_emulated and stage.root:
        yield text("the target's own processor: {machine} was emulated", machine=target.facts.machine)


@cache
def _load_templates() -> list[tuple[int, str, re.Pattern[str]]]:
    """The sentences of the target side, with what each looks like when it is filled; the most telling first."""
    found = []
    for template in json.loads(Path(ontarget.__file__).with_name(MESSAGES_FILE).read_text("utf-8")):
        parts, seen = re.split(r"\{(\w+)\}", template), set[str]()
        pattern = ""
        for at, part in enumerate(parts):
            pattern += re.escape(part) if at % 2 == 0 else f"(?P={part})" if part in seen else f"(?P<{part}>.*?)"
            seen |= {part} if at % 2 else set()
        found.append((sum(map(len, parts[::2])), template, re.compile(pattern, re.S)))
    return sorted(found, key=lambda one: (-one[0], one[1]))


def _restore_text(words: str) -> Text:
    """What install.py said, and its report gives in English, as the sentence that it was to say in any language."""
    for literal, template, pattern in _load_templates():
        if literal >= 8 and (match := pattern.fullmatch(words)):
            return Text(
                template, {name: _restore_text(one) if " " in one else one for name, one in match.groupdict().items()}
            )
    return Text("{words}" if words else "", {"words": words})


def _report_commands(
    smoke: Sequence[str], told: Sequence[Mapping[str, Any]], stage: _RehearsalStage, limit: float
) -> Iterator[Finding]:
    for command, one in zip(smoke, told, strict=True):
        if one["code"] is None:
            yield error(
                "smoke-hangs",
                command,
                "On {place} this had not ended after {limit} s: {subject}",
                "Its last words are below.",
                get_log_end(one["said"]),
                place=stage.location,
                limit=round(limit),
            )
        elif one["code"]:
            yield error(
                "smoke-failed",
                command,
                "On {place} this ended with exit code {status}: {subject}",
                "Its last words are below.",
                get_log_end(one["said"]),
                place=stage.location,
                status=one["code"],
            )


def _convert_errors(errors: Sequence[Finding], target: TargetPlan, stage: _RehearsalStage) -> list[Finding]:
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
                target=stage.location,
                help=need.help,
            )
        found.append(one)
    return found
