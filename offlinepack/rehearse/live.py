"""The live rehearsal: the bundle's own install.py in a throw-away place without a network, then every module imported.

On this computer where it has a Python that fits, or in a root file system of the target (another distribution, another
architecture by qemu-user). Whatever was made there is gone afterwards.
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
from offlinepack.rehearse import Verdict, failures
from offlinepack.rehearse.failures import end, of
from offlinepack.roots import Bind, can_cut_off, run, run_cut_off

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
                stage = _Stage(folder, bundle.manifest, Path(place), root, _foreign(target))
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


def _foreign(target: TargetPlan) -> bool:
    return target.facts.machine not in (platform.machine().lower(), "i686")


@dataclass(frozen=True)
class _Stage:
    """Where one target is rehearsed."""

    bundle: Path
    manifest: Manifest
    place: Path
    """the throw-away folder"""
    root: Path | None
    emulated: bool

    @property
    def network(self) -> Text:
        """How it is cut off, in words."""
        if self.root or can_cut_off():
            return text("cut off by the kernel, in a namespace")
        return text("refused by a guard in each Python that was tested; other programs were not held back")

    @property
    def where(self) -> Text | str:
        """What people call it."""
        return str(self.root) if self.root else text("this computer")

    def inside(self, path: Path) -> str:
        """A path below the throw-away folder as it is called there."""
        return f"{_OF_PLACE}/{path.relative_to(self.place)}" if self.root else str(path)

    def install(self, tag: str) -> _Outcome:
        """What the bundle's install.py came to."""
        report = self.place / "report.json"
        options = ["--target", tag, "--venv", self.inside(self.place / "venv"), "--report", self.inside(report)]
        if self.root:
            done = self.run(["sh", f"{_OF_BUNDLE}/{INSTALL_SH}", *options])
        else:
            done = self.run([sys.executable, "-I", "-B", str(self.bundle / INSTALL_PY), *options])
        told = json.loads(report.read_text("utf-8")) if report.is_file() else {}
        report.unlink(missing_ok=True)
        return _Outcome(done.returncode, told, done.stdout.decode("utf-8", "replace"))

    def undemanding(self) -> _Stage:
        """The same with a copy of the bundle that asks nothing of the system: imports show what is not there."""
        bare = self.place / "bundle"
        shutil.copytree(self.bundle, bare, ignore=shutil.ignore_patterns(MANIFEST, *SIGNATURES))
        targets = tuple(one._replace(needs=()) for one in self.manifest.targets)
        (bare / MANIFEST).write_bytes(serialize_manifest(self.manifest._replace(targets=targets)))
        return replace(self, bundle=bare)

    def try_out(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What inside.py found out there."""
        given, told, home = self.place / "given.json", self.place / "told.json", self.place / "home"
        home.mkdir()
        guard = not self.root and not can_cut_off()
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
                    log=end(done.stdout.decode("utf-8", "replace")),
                    status=done.returncode,
                )
            )
        found: Mapping[str, Any] = json.loads(told.read_text("utf-8"))
        return found

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        if self.root:
            binds = [
                Bind(self.bundle, _OF_BUNDLE),
                Bind(self.place, _OF_PLACE, True),
                Bind(Path(__file__).with_name("inside.py"), _OF_SCRIPT),
            ]
            return run(self.root, command, binds=binds, folder=_OF_PLACE)
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_STEERING)}
        if can_cut_off():
            return run_cut_off(command, environment=kept, folder=self.place)
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=kept,
            cwd=self.place,
            check=False,
        )


@dataclass(frozen=True)
class _Outcome:
    """How one run of install.py ended."""

    code: int
    report: Mapping[str, Any]
    """{} where it wrote none"""
    said: str

    @property
    def findings(self) -> list[Finding]:
        """Those that say something of the bundle; what it notes of the throw-away place is left out."""
        return [
            Finding(
                *(one["level"], one["code"], one["subject"]),
                sentence=_text(one["sentence"]),
                advice=_text(one["advice"]),
                log=one.get("log", ""),
            )
            for one in self.report.get("findings", ())
            if one["level"] != "note"
        ]

    @property
    def errors(self) -> list[Finding]:
        return [one for one in self.findings if one.level == "error"]


def _rehearsed(verdict: Verdict, target: TargetPlan, stage: _Stage, smoke: Sequence[str]) -> Verdict:
    done = stage.install(target.tag)
    found, lacking = done.findings, list[Finding]()
    codes = {one.code for one in done.errors}
    if done.code == MachineError.exit_code and codes <= {"does-not-fit", "nothing-fits"}:
        return replace(verdict, not_checked=(*verdict.not_checked, _not_run(target, done.report, stage)))
    if stage.root:  # now a system of the target was asked
        verdict = replace(verdict, forecast=(), not_checked=verdict.not_checked[:1])
    missed = set[str]()
    if done.code == MachineError.exit_code and codes and codes <= {"library-missing", "symbol-missing"}:
        lacking = _lacking(done.errors, target, stage)
        missed = {one.subject for one in done.errors}
        missed |= {symbol for need in target.needs if need.soname in missed for symbol in need.symbols}
        found = [one for one in found if one.level != "error"]
        done = stage.undemanding().install(target.tag)
    for kind in (ComputerError, IntegrityError, BundleError):
        if done.code == kind.exit_code:
            raise kind(*done.errors)
    if done.code:
        lacking += _lacking(done.errors, target, stage) or [
            error(
                "install-failed",
                target.name,
                "The bundle could not be installed on {place} (exit code {status}).",
                "Its last words are below.",
                log=end(done.said),
                place=stage.where,
                status=done.code,
            )
        ]
        return replace(
            verdict,
            runs=False,
            findings=(*verdict.findings, *lacking),
            not_checked=(
                text("whether its modules can be imported: it could not be installed"),
                *verdict.not_checked[1:],
            ),
            live=_how(done.report, stage, 0, smoke),
        )
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
    failed = [
        of(name, module, one, verdict)
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
        *failures.told(others, target, stage.where, limit),
        *_smoked(smoke, told["smoke"], stage, patience),
    ]
    imported = len(modules) - len(failed)
    return replace(
        verdict,
        runs=not any(one.level == "error" for one in findings),
        findings=(*verdict.findings, *found, *findings),
        not_checked=tuple(_left_open(target, stage, smoke)),
        live=_how(done.report, stage, imported, smoke),
    )


def _how(report: Mapping[str, Any], stage: _Stage, imported: int, smoke: Sequence[str]) -> dict[str, Any]:
    python = report.get("machine", {}).get("python", {}).get("python", "?")
    return {
        "place": stage.where,
        "network": stage.network,
        "python": python,
        "imported": imported,
        "smoke": list(smoke),
    }


def _not_run(target: TargetPlan, report: Mapping[str, Any], stage: _Stage) -> Text:
    minor = ".".join(target.facts.python.split(".")[:2])
    misfits = [one["sentence"] for one in report.get("findings", ()) if one["code"] == "does-not-fit"]
    nearest = next((one for one in misfits if f"(Python {minor}." in one), None)
    if nearest:
        return text("whether it runs: {words}", words=_text(nearest))
    if stage.root:
        return text("whether it runs: {root} has no Python that fits this target", root=stage.root)
    return text("whether it runs: this computer has no Python that fits; --root DIR takes a root file system that has")


def _left_open(target: TargetPlan, stage: _Stage, smoke: Sequence[str]) -> Iterator[Text]:
    """What even a live rehearsal cannot tell."""
    if not smoke:
        yield text("what the application does beyond being imported (--smoke CMD)")
    if stage.root:
        yield text("a machine that has other packages than {root}; another kernel than this one", root=stage.root)
    else:
        yield text("any machine but this one, and what its system has installed")
    if stage.emulated and stage.root:
        yield text("the target's own processor: {machine} was emulated", machine=target.facts.machine)


@cache
def _templates() -> list[tuple[int, str, re.Pattern[str]]]:
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


def _text(words: str) -> Text:
    """What install.py said, and its report gives in English, as the sentence that it was to say in any language."""
    for literal, template, pattern in _templates():
        if literal >= 8 and (match := pattern.fullmatch(words)):
            return Text(template, {name: _text(one) if " " in one else one for name, one in match.groupdict().items()})
    return Text("{words}" if words else "", {"words": words})


def _smoked(smoke: Sequence[str], told: Sequence[Mapping[str, Any]], stage: _Stage, limit: float) -> Iterator[Finding]:
    for command, one in zip(smoke, told, strict=True):
        if one["code"] is None:
            yield error(
                "smoke-hangs",
                command,
                "On {place} this had not ended after {limit} s: {subject}",
                "Its last words are below.",
                end(one["said"]),
                place=stage.where,
                limit=round(limit),
            )
        elif one["code"]:
            yield error(
                "smoke-failed",
                command,
                "On {place} this ended with exit code {status}: {subject}",
                "Its last words are below.",
                end(one["said"]),
                place=stage.where,
                status=one["code"],
            )


def _lacking(errors: Sequence[Finding], target: TargetPlan, stage: _Stage) -> list[Finding]:
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
