"""Install a bundle in a temporary folder without a network, and import every module.

The rehearsal runs on the build host if it has a matching Python, or in a root file system of the target (another
system, or another architecture with qemu-user). All files are removed afterwards.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offlinepack.bundle.layout import INSTALL_SH
from offlinepack.bundle.reader import Bundle
from offlinepack.errors import (
    BundleError,
    ComputerError,
    Finding,
    IntegrityError,
    MachineError,
    Text,
    error,
    parse_finding,
    text,
)
from offlinepack.ontarget.manifest import (
    INSTALL_PY,
    MANIFEST,
    SIGNATURES,
    Manifest,
    Need,
    TargetPlan,
    serialize_manifest,
)
from offlinepack.rehearsal.import_errors import classify_failure, get_log_end, report_failures
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.sandbox import (
    BindMount,
    clean_environment,
    run_in_root,
    run_without_network,
    supports_network_isolation,
)

IMPORT_TIMEOUT, COMMAND_TIMEOUT = 60.0, 600.0
"""seconds for one import, and for one command of --smoke"""

EMULATION_FACTOR = 4
"""factor of the time limits on an emulated processor"""

_BUNDLE_PATH, _WORK_PATH, _SCRIPT_PATH = "/media/bundle", "/srv/rehearsal", "/run/offlinepack/inside.py"
"""paths of the bundle, the temporary folder and the script in a root file system"""


def run_install(
    bundle: Bundle, verdicts: Sequence[Verdict], root: Path | None = None, smoke: Sequence[str] = ()
) -> Iterator[Verdict]:
    """Yield each verdict of the static stage with the result of the live rehearsal; a failed one is yielded unchanged.

    `smoke`: commands that the shell runs in the finished environment. Raises ComputerError if the build host lacks
    space or permissions, IntegrityError or BundleError if the bundle is damaged.
    """
    plan_by_tag = {plan.tag: plan for plan in bundle.manifest.targets}
    with _unpack_bundle(bundle) as folder:
        for verdict in verdicts:
            if verdict.installs is False:
                yield verdict
                continue
            target = plan_by_tag[verdict.tag]
            with tempfile.TemporaryDirectory(prefix="offlinepack-live-", ignore_cleanup_errors=True) as work_dir:
                stage = _RehearsalStage(folder, bundle.manifest, Path(work_dir), root, _is_emulated(target))
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
    """The location in which one target is rehearsed."""

    bundle_dir: Path
    manifest: Manifest
    work_dir: Path
    """a temporary folder"""
    root: Path | None
    is_emulated: bool

    @property
    def network_isolation(self) -> Text:
        """The description of the network isolation."""
        if self.root or supports_network_isolation():
            return text("cut off by the kernel, in a namespace")
        return text("refused by a guard in each Python that was tested; other programs were not held back")

    @property
    def location(self) -> Text | str:
        """The name of the location for messages."""
        return str(self.root) if self.root else text("this computer")

    def map_path(self, path: Path) -> str:
        """Return a path below the temporary folder as the rehearsed system sees it."""
        return f"{_WORK_PATH}/{path.relative_to(self.work_dir)}" if self.root else str(path)

    def install(self, tag: str) -> _InstallRun:
        """Run install.py of the bundle."""
        report = self.work_dir / "report.json"
        options = ["--target", tag, "--venv", self.map_path(self.work_dir / "venv"), "--report", self.map_path(report)]
        if self.root:
            process = self.run_command(["sh", f"{_BUNDLE_PATH}/{INSTALL_SH}", *options])
        else:
            process = self.run_command([sys.executable, "-I", "-B", str(self.bundle_dir / INSTALL_PY), *options])
        document = json.loads(report.read_text("utf-8")) if report.is_file() else {}
        report.unlink(missing_ok=True)
        return _InstallRun(process.returncode, document, process.stdout.decode("utf-8", "replace"))

    def drop_needs(self) -> _RehearsalStage:
        """Return a stage whose bundle declares no native dependencies, so that imports show what is missing."""
        bundle_dir = self.work_dir / "bundle"
        shutil.copytree(self.bundle_dir, bundle_dir, ignore=shutil.ignore_patterns(MANIFEST, *SIGNATURES))
        targets = tuple(plan._replace(needs=()) for plan in self.manifest.targets)
        (bundle_dir / MANIFEST).write_bytes(serialize_manifest(self.manifest._replace(targets=targets)))
        return replace(self, bundle_dir=bundle_dir)

    def run_imports(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run inside.py and return its result."""
        job_path, result_path, home_dir = (
            self.work_dir / "given.json",
            self.work_dir / "told.json",
            self.work_dir / "home",
        )
        home_dir.mkdir()
        needs_guard = not self.root and not supports_network_isolation()
        job_path.write_text(json.dumps({**job, "guard": needs_guard, "home": self.map_path(home_dir)}), "utf-8")
        script = Path(__file__).with_name("inside.py")
        venv = self.work_dir / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        command = [self.map_path(venv), "-I", "-B", _SCRIPT_PATH if self.root else str(script)]
        process = self.run_command([*command, self.map_path(job_path), self.map_path(result_path)])
        if not result_path.is_file():
            raise ComputerError(
                error(
                    "rehearsal-ended",
                    self.location,
                    "The rehearsal on {subject} ended before its end (exit code {status}).",
                    "Its last words are below.",
                    log=get_log_end(process.stdout.decode("utf-8", "replace")),
                    status=process.returncode,
                )
            )
        outcome: Mapping[str, Any] = json.loads(result_path.read_text("utf-8"))
        return outcome

    def run_command(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        if self.root:
            binds = [
                BindMount(self.bundle_dir, _BUNDLE_PATH),
                BindMount(self.work_dir, _WORK_PATH, True),
                BindMount(Path(__file__).with_name("inside.py"), _SCRIPT_PATH),
            ]
            return run_in_root(self.root, command, binds=binds, folder=_WORK_PATH)
        environment = clean_environment()
        if supports_network_isolation():
            return run_without_network(command, environment=environment, folder=self.work_dir)
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=self.work_dir,
            check=False,
        )


@dataclass(frozen=True)
class _InstallRun:
    """The result of one run of install.py."""

    exit_code: int
    report: Mapping[str, Any]
    """{} if none was written"""
    output: str

    @property
    def findings(self) -> list[Finding]:
        """The findings about the bundle, without notes about the temporary location."""
        findings = (parse_finding(finding) for finding in self.report.get("findings", ()))
        return [finding for finding in findings if finding.level != "note"]

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]


def _run_target(verdict: Verdict, target: TargetPlan, stage: _RehearsalStage, smoke: Sequence[str]) -> Verdict:
    run = stage.install(target.tag)
    findings, errors = run.findings, list[Finding]()
    codes = {finding.code for finding in run.errors}
    if run.exit_code == MachineError.exit_code and codes <= {"does-not-fit", "nothing-fits"}:
        return replace(verdict, limitations=(*verdict.limitations, _explain_not_run(target, run.report, stage)))
    if stage.root:  # a system of the target was checked, so the forecast is obsolete
        verdict = replace(verdict, forecast=(), limitations=verdict.limitations[:1])
    missing_names = set[str]()
    if run.exit_code == MachineError.exit_code and codes and codes <= {"library-missing", "symbol-missing"}:
        errors = _convert_errors(run.errors, target, stage)
        missing_names = {finding.subject for finding in run.errors}
        missing_names |= {symbol for need in target.needs if need.soname in missing_names for symbol in need.symbols}
        findings = [finding for finding in findings if finding.level != "error"]
        run = stage.drop_needs().install(target.tag)
    for error_class in (ComputerError, IntegrityError, BundleError):
        if run.exit_code == error_class.exit_code:
            raise error_class(*run.errors)
    if run.exit_code:
        errors += _convert_errors(run.errors, target, stage) or [
            error(
                "install-failed",
                target.name,
                "The bundle could not be installed on {place} (exit code {status}).",
                "Its last words are below.",
                log=get_log_end(run.output),
                place=stage.location,
                status=run.exit_code,
            )
        ]
        return replace(
            verdict,
            runs=False,
            findings=(*verdict.findings, *errors),
            limitations=(
                text("whether its modules can be imported: it could not be installed"),
                *verdict.limitations[1:],
            ),
            live_run=_describe_run(run.report, stage, 0, smoke),
        )
    factor = EMULATION_FACTOR if stage.is_emulated else 1
    import_timeout, command_timeout = IMPORT_TIMEOUT * factor, COMMAND_TIMEOUT * factor
    modules = [(name, module) for name, names in sorted(verdict.modules.items()) for module in names]
    dependents: dict[str, list[str]] = {}
    for distribution in target.install:
        for name in distribution.requires:
            dependents.setdefault(name, []).extend(verdict.modules.get(distribution.name, ()))
    outcome = stage.run_imports(
        {
            "modules": [(module, dependents.get(name, [])) for name, module in modules],
            "smoke": list(smoke),
            "limit": import_timeout,
            "patience": command_timeout,
            "jobs": os.cpu_count() or 1,
        }
    )
    failures = [
        classify_failure(name, module, result, verdict)
        for (name, module), result in zip(modules, outcome["modules"], strict=True)
        if not result.get("ended") or result.get("chain")
    ]
    failed_modules = {(failure.name, failure.module) for failure in failures}
    working_names = {name for name, module in modules if (name, module) not in failed_modules}
    # in a shared namespace (google) whose other modules work: a part for an extra that was not requested
    failures = [
        replace(failure, level="warning")
        if failure.kind == "module" and "." in failure.module and failure.name in working_names
        else failure
        for failure in failures
    ]
    reportable = [
        failure
        for failure in failures
        if failure.cause not in missing_names or failure.kind not in ("library", "symbol")
    ]
    test_findings = [
        *errors,
        *report_failures(reportable, target, stage.location, import_timeout),
        *_report_commands(smoke, outcome["smoke"], stage, command_timeout),
    ]
    imported_count = len(modules) - len(failures)
    return replace(
        verdict,
        runs=not any(finding.level == "error" for finding in test_findings),
        findings=(*verdict.findings, *findings, *test_findings),
        limitations=tuple(_list_limitations(target, stage, smoke)),
        live_run=_describe_run(run.report, stage, imported_count, smoke),
    )


def _describe_run(
    report: Mapping[str, Any], stage: _RehearsalStage, imported_count: int, smoke: Sequence[str]
) -> dict[str, Any]:
    python = report.get("machine", {}).get("python", {}).get("python", "?")
    return {
        "place": stage.location,
        "network": stage.network_isolation,
        "python": python,
        "imported": imported_count,
        "smoke": list(smoke),
    }


def _explain_not_run(target: TargetPlan, report: Mapping[str, Any], stage: _RehearsalStage) -> Text:
    minor = ".".join(target.facts.python.split(".")[:2])
    for finding in map(parse_finding, report.get("findings", ())):
        if finding.code == "does-not-fit" and finding.sentence.facts["python"].startswith(f"{minor}."):
            return text("whether it runs: {words}", words=finding.sentence)
    if stage.root:
        return text("whether it runs: {root} has no Python that fits this target", root=stage.root)
    return text("whether it runs: this computer has no Python that fits; --root DIR takes a root file system that has")


def _list_limitations(target: TargetPlan, stage: _RehearsalStage, smoke: Sequence[str]) -> Iterator[Text]:
    """Yield what even a live rehearsal does not check."""
    if not smoke:
        yield text("what the application does beyond being imported (--smoke CMD)")
    if stage.root:
        yield text("a machine that has other packages than {root}; another kernel than this one", root=stage.root)
    else:
        yield text("any machine but this one, and what its system has installed")
    if stage.is_emulated and stage.root:
        yield text("the target's own processor: {machine} was emulated", machine=target.facts.machine)


def _report_commands(
    smoke: Sequence[str], results: Sequence[Mapping[str, Any]], stage: _RehearsalStage, limit: float
) -> Iterator[Finding]:
    for command, result in zip(smoke, results, strict=True):
        if result["code"] is None:
            yield error(
                "smoke-hangs",
                command,
                "On {place} this had not ended after {limit} s: {subject}",
                "Its last words are below.",
                get_log_end(result["said"]),
                place=stage.location,
                limit=round(limit),
            )
        elif result["code"]:
            yield error(
                "smoke-failed",
                command,
                "On {place} this ended with exit code {status}: {subject}",
                "Its last words are below.",
                get_log_end(result["said"]),
                place=stage.location,
                status=result["code"],
            )


def _convert_errors(errors: Sequence[Finding], target: TargetPlan, stage: _RehearsalStage) -> list[Finding]:
    """Return the errors of preflight or installation; missing libraries in the wording of the static stage."""
    needs: dict[str, Need] = {entry.soname: entry for entry in target.needs}
    findings = []
    for finding in errors:
        need = needs.get(finding.subject) if finding.code == "library-missing" else None
        if need:
            finding = error(
                "library-missing",
                ", ".join(need.wanted_by),
                "{subject} needs {soname}, which {target} lacks.",
                "Install it there: {help}" if need.help else "Install the package of that system that brings it.",
                soname=need.soname,
                target=stage.location,
                help=need.help,
            )
        findings.append(finding)
    return findings
