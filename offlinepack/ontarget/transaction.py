"""Run one installation in order: plan, verify, preflight, lock, populate, check, switch, report."""

import os
import shlex
import signal
import time
from typing import Any, Dict, Iterable, List, Mapping, Set, Tuple

from .by_pip import ProgramRunner, is_disk_full
from .distributions import find_dist_infos
from .errors import (
    EXIT_SUCCESS,
    ComputerError,
    Finding,
    InstallError,
    IntegrityError,
    OfflinepackError,
    Text,
    UsageError,
    error,
    raise_on_errors,
    text,
)
from .files import hash_small_file, read_bytes, read_json, remove_path, sync_file_system, sync_in_background, write_json
from .generations import find_processes, lock_environment, prune_generations, switch_generation
from .manifest import INSTALL_PY, SIGNATURES, Manifest, serialize_manifest
from .plan import InstallPlan, check_machine, plan_install, read_state
from .populate import populate_environment
from .preflight import estimate_disk_usage
from .report import Reporter
from .signature import check_embedded_signatures, check_signatures
from .trust_policy import POLICY_PATH, required_keys
from .venv import find_alterations
from .verify import MAX_SIGNATURE_SIZE, check_folder, read_folder_manifest, read_small_file
from .wheel_model import CheckedWheel
from .zipapp import ZIPAPP_NAME, build_zipapp, is_code_file


def install_bundle(options, voice):  # type: (Any, Reporter) -> int
    """The bundle becomes the current generation of its place; exit code."""
    collect_keys(options)
    work = plan_install(options, read_folder_manifest(options.folder), voice)
    work = work._replace(wheels=verify_bundle(options, work.manifest, voice, contents=options.dry_run))
    files, wheels = work.manifest.list_files(work.target), work.wheels
    inside = [[(member.path, member.size) for member in wheels[file.path].members] for file in files if file.path in wheels]
    sdists = sum(file.size for file in files if file.path not in wheels)
    voice.print_findings(check_machine(work, estimate_disk_usage(inside, sdists, not options.no_compile)))
    if options.dry_run:
        voice.print_result(text("Everything fits; nothing was written (--dry-run)."))
        return EXIT_SUCCESS
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


def collect_keys(options):  # type: (Any) -> List[str]
    """The files of keys that are given, or demanded on this machine; UsageError: there have to be some."""
    keys = list(options.verify_key or []) + required_keys(POLICY_PATH)
    if options.require_signature and not keys:
        raise UsageError(error("usage", "--require-signature", "{subject} needs --verify-key: who must have signed?"))
    return keys


def verify_bundle(options, manifest, voice, contents):  # type: (Any, Manifest, Reporter, bool) -> Dict[str, CheckedWheel]
    """Every byte of the bundle is what was packed and nothing in it is hostile: the wheels, or all that is wrong.

    Where keys are given, or demanded on this machine, each of them must have signed. Without `contents` the members of
    wheels are not unpacked: whoever places them compares them with RECORD while they are written.
    """
    keys, paths = collect_keys(options), [os.path.join(options.folder, name) for name in SIGNATURES]
    signed = [(path, read_small_file(path)) for path in paths if os.path.lexists(path)]
    check_embedded_signatures(serialize_manifest(manifest), signed)
    if options.signature:
        try:
            with open(options.signature, "rb") as source:
                signed.append((options.signature, source.read(MAX_SIGNATURE_SIZE)))
        except OSError as failure:
            raise UsageError(error(
                "no-signature", options.signature, "The signature {subject} cannot be read: {why}.", why=failure.strerror))
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


def describe_outcome(voice):  # type: (Reporter) -> Text
    """In which state a run that ended early leaves things."""
    if voice.facts.get("changed"):
        return text("The new release is current already.")
    if voice.facts.get("in_place"):
        return text("What went in before that stays; the same command goes on.")
    return text("Nothing was changed; the same command begins again.")


def _install_locked(work, programs):  # type: (InstallPlan, ProgramRunner) -> int
    """All that writes. Interrupted, or refused by this computer, it takes back what it began."""
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
        except (KeyboardInterrupt, OSError, OfflinepackError) as ended:
            _ignore_signals()
            if not record and not place.is_foreign:
                remove_path(journal)
                remove_path(work.root)
            if isinstance(ended, InstallError) and any(is_disk_full(finding.log) for finding in ended.findings):
                raise ComputerError(*ended.findings)
            raise
    elif state["current"] == new:
        _record_release(work, state)  # a release with another name may hold just the same
        _clean_up(work, state)
        voice.print_result(text("{what} is already installed in {venv}: nothing to do.", what=work.title, venv=place.venv))
        return EXIT_SUCCESS
    if failed and not work.options.keep_going:
        raise InstallError(*failed)
    voice.print_findings(failed)
    _ignore_signals()
    _switch_and_report(work, state, bool(failed))
    return InstallError.exit_code if failed else EXIT_SUCCESS


def describe_alterations(bad):  # type: (Mapping[str, List[str]]) -> List[Text]
    """What is no longer as it was installed, a line for each distribution."""
    return [text("Altered since: {name}: {files}", name=name, files=bad[name][:5]) for name in sorted(bad)]


def _ignore_signals():  # type: () -> None
    """The rest is short and is carried through."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _find_former_record(work, state):  # type: (InstallPlan, Mapping[str, Any]) -> Mapping[str, Any]
    """The record of the generation that unchanged distributions may be taken from; {} where there is none."""
    record = state["generations"].get(state["current"], {})
    if work.location.is_foreign or record.get("python") != work.selection.facts["executable"]:
        return {}
    same = record["compiled"] == (not work.options.no_compile) and state["current"] != work.generation_id
    return dict(record, generation=state["current"]) if same else {}


def _switch_and_report(work, state, partial):  # type: (InstallPlan, Dict[str, Any], bool) -> None
    """Write down what the generation is, lead people to it, say what is left to do."""
    place, new, voice = work.location, work.generation_id, work.reporter
    sync_file_system(work.root)
    infos, record = find_dist_infos(work.root), state["generations"].get(new, {})
    state["generations"][new] = {
        "target": work.target.tag,
        "python": work.selection.facts["executable"],
        "installed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "compiled": not work.options.no_compile,
        "whole": not partial,
        "base": record.get("base") or read_json(place.get_path("journal.json")).get("base", {}),
        "distributions": work.versions,
        "files": work.hashes,
        "records": {name: hash_small_file(os.path.join(info[0], "RECORD")) for name, info in infos.items()},
    }
    _record_release(work, state)
    write_json(place.get_path("state.json"), state)
    used = find_processes(place)
    if not place.is_foreign:
        _save_zipapp(work)
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
    """The record of the generation, and the sequences that were seen, say which release it is."""
    name, version, sequence = work.manifest.name, work.manifest.version, work.manifest.sequence
    state["generations"][work.generation_id].update(bundle=name, version=version, sequence=sequence)
    if sequence is not None:
        state["sequences"][name] = max(sequence, state["sequences"].get(name, 0))


def _clean_up(work, state):  # type: (InstallPlan, Dict[str, Any]) -> None
    """The state is written, the journal closed; what nobody needs is gone."""
    place = work.location
    retained = [name for name in (state["current"], state["former"]) if name]
    work.reporter.print_findings(prune_generations(place, retained))
    present = {*retained, *os.listdir(place.generations_dir)}  # what a live process uses stays
    state["generations"] = {name: record for name, record in state["generations"].items() if name in present}
    if read_json(place.get_path("state.json")) != state:
        write_json(place.get_path("state.json"), state)
    remove_path(place.get_path("journal.json"))
    work.reporter.facts["former"] = state["former"]


def _save_zipapp(work):  # type: (InstallPlan) -> None
    """This very code as one file beside the environment: a rollback needs no bundle."""
    folder, loader, path = os.path.dirname(__file__), __loader__, work.location.get_path(ZIPAPP_NAME)  # type: ignore[name-defined]
    if os.path.isfile(os.path.dirname(folder)):  # it runs from such a file
        data = read_bytes(os.path.dirname(folder))
    else:
        names = filter(is_code_file, getattr(loader, "files", None) or os.listdir(folder))
        code = {name: loader.get_data(os.path.join(folder, name)) for name in names}
        if INSTALL_PY not in code:
            code[INSTALL_PY] = read_bytes(work.locate_file(INSTALL_PY))
        data = build_zipapp(code)
    try:
        with open(path + ".new", "wb") as out:
            out.write(data)
        os.replace(path + ".new", path)
    finally:
        remove_path(path + ".new")


def report_processes(voice, used, state):
    # type: (Reporter, Iterable[Tuple[int, str, Set[str]]], Mapping[str, Any]) -> None
    """The processes that still run another release than the current one."""
    for pid, name, shown in used:
        if state["current"] not in shown:
            other = state["generations"].get(min(shown) if shown else state["former"], {})
            release = " ".join(part for part in (other.get("bundle"), other.get("version")) if part) or "?"
            voice.print_result(text(
                "Process {pid} ({name}) still runs {release}: restart it.", pid=pid, name=name, release=release))
