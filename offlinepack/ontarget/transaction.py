"""Run one installation in order: plan, verify, preflight, lock, populate, check, switch, report."""

import os
import shlex
import signal
import time
from typing import Any, Dict, Iterable, List, Mapping, Set, Tuple

from .by_pip import ProgramRunner, is_disk_full
from .distributions import find_dist_infos
from .errors import ComputerError, Finding, InstallError, IntegrityError, UsageError, error, raise_on_errors, text
from .files import hash_small_file, read_json, remove_path, sync_file_system, sync_in_background, write_json
from .generations import find_processes, lock_environment, prune_generations, switch_generation
from .manifest import INSTALL_PY, SIGNATURES, Manifest, serialize_manifest
from .plan import InstallPlan, check_machine, plan_install, read_state
from .populate import populate_environment
from .preflight import estimate_disk_usage
from .report import Reporter
from .signature import POLICY_PATH, check_embedded_signatures, check_signatures, required_keys
from .venv import describe_alterations, find_alterations
from .verify import MAX_SIGNATURE_SIZE, check_folder, read_folder_manifest, read_small_file
from .wheel_model import CheckedWheel
from .zipapp import ZIPAPP_NAME, save_zipapp

_NO_KEYS = "{subject} needs --verify-key: who must have signed?"
_NO_SIGNATURE = "The signature {subject} cannot be read: {why}."


def install_bundle(options, voice):  # type: (Any, Reporter) -> int
    """Install the bundle as the current generation of its environment and return the exit code."""
    _collect_keys(options)
    work = plan_install(options, read_folder_manifest(options.folder), voice)
    work = work._replace(wheels=verify_bundle(options, work.manifest, voice, contents=options.dry_run))
    files = work.manifest.list_files(work.selection.target)
    wheels = [work.wheels[file.path].members for file in files if file.path in work.wheels]
    sdists = sum(file.size for file in files if file.path not in work.wheels)
    contents = [[(member.path, member.size) for member in members] for members in wheels]
    voice.print_findings(check_machine(work, estimate_disk_usage(contents, sdists, not options.no_compile)))
    if options.dry_run:
        voice.print_result(text("Everything fits; nothing was written (--dry-run)."))
        return 0
    place = work.location
    with lock_environment(place) as lock:
        for name in ("work", "logs", "reports"):
            os.makedirs(place.get_path(name), exist_ok=True)
        voice.report_dir = place.get_path("reports")
        programs = ProgramRunner(place.get_path("work"), place.get_path("logs"), lock)
        try:
            return _install_locked(work, programs)
        finally:
            programs.clear_work_dir(options.folder)


def _collect_keys(options):  # type: (Any) -> List[str]
    """Return the key files of the options and of this machine; --require-signature without any is a UsageError."""
    keys = list(options.verify_key or []) + required_keys(POLICY_PATH)
    if options.require_signature and not keys:
        raise UsageError(error("usage", "--require-signature", _NO_KEYS))
    return keys


def verify_bundle(options, manifest, voice, contents):  # type: (Any, Manifest, Reporter, bool) -> Dict[str, CheckedWheel]
    """Verify signatures and every file of the bundle; return the wheels or raise IntegrityError with all findings.

    Without `contents` the members of wheels are compared with RECORD later, while they are written.
    """
    keys, paths = _collect_keys(options), [os.path.join(options.folder, name) for name in SIGNATURES]
    signed = [(path, read_small_file(path)) for path in paths if os.path.lexists(path)]
    check_embedded_signatures(serialize_manifest(manifest), signed)
    if options.signature:
        try:
            with open(options.signature, "rb") as source:
                signed.append((options.signature, source.read(MAX_SIGNATURE_SIZE)))
        except OSError as failure:
            raise UsageError(error("no-signature", options.signature, _NO_SIGNATURE, why=failure.strerror))
    if keys:
        voice.print_findings(check_signatures(serialize_manifest(manifest), signed, keys))
        voice.facts["signed"] = True
    findings, wheels = [], {}  # type: List[Finding], Dict[str, CheckedWheel]
    for checked in check_folder(options.folder, manifest, contents):
        findings += checked.findings
        if checked.wheel and checked.file:
            wheels[checked.file.path] = checked.wheel
    voice.print_findings(raise_on_errors(IntegrityError, findings))
    return wheels


def _install_locked(work, programs):  # type: (InstallPlan, ProgramRunner) -> int
    """Write the generation and switch to it. After an error, remove a generation that this run began."""
    state, place, voice, new = read_state(work), work.location, work.reporter, work.generation_id
    record, journal = state["generations"].get(new), place.get_path("journal.json")
    bad = find_alterations(work.root, record) if record else {}
    failed = []  # type: List[Finding]
    voice.facts.update({"altered": bad} if bad else {})
    for finding in describe_alterations(bad):
        voice.print_message(finding)
    if not record or bad or work.options.force or not record["whole"]:
        prune_generations(place, [state["current"], state["former"], new])
        remove_path(programs.log_dir)
        os.makedirs(programs.log_dir)
        try:
            with sync_in_background(place.generations_dir):
                failed = populate_environment(work, programs, record or {}, _find_former_record(work, state))
        except BaseException as ended:
            _ignore_signals()
            if not record and not place.is_foreign:
                remove_path(journal)
                remove_path(work.root)
            if isinstance(ended, InstallError) and any(is_disk_full(finding.log) for finding in ended.findings):
                raise ComputerError(*ended.findings)
            raise
    elif state["current"] == new:
        _record_release(work, state)  # a release with another name may have the same contents
        _clean_up(work, state)
        facts = {"what": work.title, "venv": place.venv}
        voice.print_result(text("{what} is already installed in {venv}: nothing to do.", **facts))
        return 0
    if failed and not work.options.keep_going:
        raise InstallError(*failed)
    voice.print_findings(failed)
    _ignore_signals()
    _switch_and_report(work, state, bool(failed))
    return InstallError.exit_code if failed else 0


def _ignore_signals():  # type: () -> None
    """Ignore signals, as the remaining steps are short and must be completed."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _find_former_record(work, state):  # type: (InstallPlan, Mapping[str, Any]) -> Mapping[str, Any]
    """Return the record of the generation whose unchanged distributions may be reused, or {}."""
    record = state["generations"].get(state["current"], {})
    if work.location.is_foreign or record.get("python") != work.selection.facts["executable"]:
        return {}
    same = record["compiled"] == (not work.options.no_compile) and state["current"] != work.generation_id
    return dict(record, generation=state["current"]) if same else {}


def _switch_and_report(work, state, partial):  # type: (InstallPlan, Dict[str, Any], bool) -> None
    """Record the generation, switch to it, and print the result."""
    place, new, voice = work.location, work.generation_id, work.reporter
    sync_file_system(work.root)
    infos, record = find_dist_infos(work.root), state["generations"].get(new, {})
    state["generations"][new] = {
        "target": work.selection.target.tag, "python": work.selection.facts["executable"],
        "installed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "compiled": not work.options.no_compile, "whole": not partial,
        "base": record.get("base") or read_json(place.get_path("journal.json")).get("base", {}),
        "distributions": work.versions, "files": work.hashes,
        "records": {name: hash_small_file(os.path.join(info[0], "RECORD")) for name, info in infos.items()},
    }
    _record_release(work, state)
    write_json(place.get_path("state.json"), state)
    used = find_processes(place)
    if not place.is_foreign:
        save_zipapp(place.get_path(ZIPAPP_NAME), work.locate_file(INSTALL_PY))
        switch_generation(place, new)
    voice.facts["changed"] = True
    if state["current"] != new:
        state.update(current=new, former=None if place.is_foreign else state["current"])
    _clean_up(work, state)
    voice.print_result(text(
        "{what} is current in {venv}: {count} distributions, {seconds} s.",
        what=work.title, venv=place.venv, count=len(work.versions), seconds="%.1f" % voice.elapsed_seconds))
    report_processes(voice, used, state)
    if state["former"]:
        words = [work.selection.facts["executable"], place.get_path(ZIPAPP_NAME), "rollback", "--venv", place.venv]
        voice.facts["rollback"] = " ".join(shlex.quote(word) for word in words)
        voice.print_result(text("Back to the release before: {command}", command=voice.facts["rollback"]))


def _record_release(work, state):  # type: (InstallPlan, Dict[str, Any]) -> None
    """Record the release in the record of the generation and in the sequences."""
    name, version, sequence = work.manifest.name, work.manifest.version, work.manifest.sequence
    state["generations"][work.generation_id].update(bundle=name, version=version, sequence=sequence)
    if sequence is not None:
        state["sequences"][name] = max(sequence, state["sequences"].get(name, 0))


def _clean_up(work, state):  # type: (InstallPlan, Dict[str, Any]) -> None
    """Remove old generations and the journal, and write the state."""
    place = work.location
    retained = [name for name in (state["current"], state["former"]) if name]
    work.reporter.print_findings(prune_generations(place, retained))
    present = {*retained, *os.listdir(place.generations_dir)}  # a generation that a live process uses is not removed
    state["generations"] = {name: record for name, record in state["generations"].items() if name in present}
    if read_json(place.get_path("state.json")) != state:
        write_json(place.get_path("state.json"), state)
    remove_path(place.get_path("journal.json"))
    work.reporter.facts["former"] = state["former"]


def report_processes(voice, used, state):
    # type: (Reporter, Iterable[Tuple[int, str, Set[str]]], Mapping[str, Any]) -> None
    """Print the processes that still run another release than the current one."""
    for pid, name, shown in used:
        if state["current"] not in shown:
            other = state["generations"].get(min(shown) if shown else state["former"], {})
            facts = {"pid": pid, "name": name, "release": format_release(other)}
            voice.print_result(text("Process {pid} ({name}) still runs {release}: restart it.", **facts))


def format_release(record):  # type: (Mapping[str, Any]) -> str
    """Return bundle and version of the record of a generation."""
    return " ".join(filter(None, (record.get("bundle"), record.get("version")))) or "?"
