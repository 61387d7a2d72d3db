"""One installation, in order: where, which Python, the bundle checked, preflight; then lock, environment, pip, batch,
rounds, check, switch, report. Nothing is written before the last check, and nobody is led to what is not whole."""

import os
import shlex
import signal
import time
from typing import Any, Dict, Iterable, List, Mapping, Set, Tuple

from . import (
    admission,
    by_pip,
    environment,
    errors,
    generation,
    installed,
    preflight,
    program,
    report,
    seed,
    signature,
    trust,
    verify,
)
from .errors import DONE, Finding, Text, error, raise_all, text
from .generation import Work
from .manifest import INSTALL_PY, SIGNATURES, Manifest, write
from .program import PROGRAM
from .wheel import Wheel


def install(options, voice):  # type: (Any, report.Voice) -> int
    """The bundle becomes the current generation of its place; exit code."""
    keys_of(options)
    work = admission.intended(options, verify.open_folder(options.folder), voice)
    work = work._replace(wheels=check(options, work.manifest, voice, contents=options.dry_run))
    files, held = work.manifest.files_of(work.target), work.wheels
    inside = [[(each.path, each.size) for each in held[one.path].members] for one in files if one.path in held]
    sdists = sum(one.size for one in files if one.path not in held)
    voice.findings(admission.admitted(work, preflight.room(inside, sdists, not options.no_compile)))
    if options.dry_run:
        voice.result(text("Everything fits; nothing was written (--dry-run)."))
        return DONE
    place = work.place
    with environment.hold(place) as lock:
        for name in ("work", "logs", "reports"):
            os.makedirs(place.path(name), exist_ok=True)
        voice.reports = place.path("reports")
        programs = by_pip.Programs(place.path("work"), place.path("logs"), lock)
        try:
            return _locked(work, programs)
        finally:
            programs.clear(options.folder)


def keys_of(options):  # type: (Any) -> List[str]
    """The files of keys that are given, or demanded on this machine; UsageError: there have to be some."""
    keys = list(options.verify_key or []) + trust.demanded(trust.PLACE)
    if options.require_signature and not keys:
        raise errors.UsageError(error(
            "usage", "--require-signature", "{subject} needs --verify-key: who must have signed?"))
    return keys


def check(options, manifest, voice, contents):  # type: (Any, Manifest, report.Voice, bool) -> Dict[str, Wheel]
    """Every byte of the bundle is what was packed and nothing in it is hostile: the wheels, or all that is wrong.

    Where keys are given, or demanded on this machine, each of them must have signed. Without `contents` the members of
    wheels are not unpacked: whoever places them compares them with RECORD while they are written.
    """
    keys, paths = keys_of(options), [os.path.join(options.folder, one) for one in SIGNATURES]
    signed = [(one, verify.small(one)) for one in paths if os.path.lexists(one)]
    signature.own(write(manifest), signed)
    if options.signature:
        try:
            with open(options.signature, "rb") as source:
                signed.append((options.signature, source.read(verify.MOST_SIGNATURE)))
        except OSError as why:
            raise errors.UsageError(error(
                "no-signature", options.signature, "The signature {subject} cannot be read: {why}.", why=why.strerror))
    if keys:
        voice.findings(signature.check(write(manifest), signed, keys))
        voice.facts["signed"] = True
    found, wheels = [], {}  # type: List[Finding], Dict[str, Wheel]
    for checked in verify.check_folder(options.folder, manifest, contents):
        found += checked.findings
        if checked.wheel and checked.file:
            wheels[checked.file.path] = checked.wheel
    voice.findings(raise_all(errors.IntegrityError, found))
    return wheels


def left(voice):  # type: (report.Voice) -> Text
    """In which state a run that ended early leaves things."""
    if voice.facts.get("changed"):
        return text("The new release is current already.")
    if voice.facts.get("in_place"):
        return text("What went in before that stays; the same command goes on.")
    return text("Nothing was changed; the same command begins again.")


def _locked(work, programs):  # type: (Work, by_pip.Programs) -> int
    """All that writes. Interrupted, or refused by this computer, it takes back what it began."""
    state, place, voice, new = admission.seen(work), work.place, work.voice, work.generation
    known, journal = state["generations"].get(new), place.path("journal.json")
    bad = seed.altered(work.root, known) if known else {}
    failed = []  # type: List[Finding]
    voice.facts.update({"altered": bad} if bad else {})
    for each in alterations(bad):
        voice.say(each)
    if not known or bad or work.options.force or not known["whole"]:
        environment.prune(place, [state["current"], state["former"], new])
        environment.remove(programs.logs)
        os.makedirs(programs.logs)
        try:
            with environment.writing_back(place.beside):
                failed = generation.build(work, programs, known or {}, _former(work, state))
        except (KeyboardInterrupt, OSError, errors.OfflinepackError) as ended:
            _undisturbed()
            if not known and not place.foreign:
                environment.remove(journal)
                environment.remove(work.root)
            if isinstance(ended, errors.InstallError) and any(by_pip.disk_full(one.log) for one in ended.findings):
                raise errors.ComputerError(*ended.findings)
            raise
    elif state["current"] == new:
        _called(work, state)  # a release with another name may hold just the same
        _settle(work, state)
        voice.result(text("{what} is already installed in {venv}: nothing to do.", what=work.what, venv=place.venv))
        return DONE
    if failed and not work.options.keep_going:
        raise errors.InstallError(*failed)
    voice.findings(failed)
    _undisturbed()
    _lead(work, state, bool(failed))
    return errors.InstallError.exit_code if failed else DONE


def alterations(bad):  # type: (Mapping[str, List[str]]) -> List[Text]
    """What is no longer as it was installed, a line for each distribution."""
    return [text("Altered since: {name}: {files}", name=name, files=bad[name][:5]) for name in sorted(bad)]


def _undisturbed():  # type: () -> None
    """The rest is short and is carried through."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _former(work, state):  # type: (Work, Mapping[str, Any]) -> Mapping[str, Any]
    """The record of the generation that unchanged distributions may be taken from; {} where there is none."""
    found = state["generations"].get(state["current"], {})
    if work.place.foreign or found.get("python") != work.choice.facts["executable"]:
        return {}
    same = found["compiled"] == (not work.options.no_compile) and state["current"] != work.generation
    return dict(found, generation=state["current"]) if same else {}


def _lead(work, state, partial):  # type: (Work, Dict[str, Any], bool) -> None
    """Write down what the generation is, lead people to it, say what is left to do."""
    place, new, voice = work.place, work.generation, work.voice
    environment.sync(work.root)
    infos, known = installed.dist_infos(work.root), state["generations"].get(new, {})
    state["generations"][new] = {
        "target": work.target.tag,
        "python": work.choice.facts["executable"],
        "installed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "compiled": not work.options.no_compile,
        "whole": not partial,
        "base": known.get("base") or environment.read_json(place.path("journal.json")).get("base", {}),
        "distributions": work.versions,
        "files": work.hashes,
        "records": {name: installed.sha256(os.path.join(info[0], "RECORD")) for name, info in infos.items()},
    }
    _called(work, state)
    environment.write_json(place.path("state.json"), state)
    used = environment.users(place)
    if not place.foreign:
        _keep_program(work)
        environment.switch(place, new)
    voice.facts["changed"] = True
    if state["current"] != new:
        state.update(current=new, former=None if place.foreign else state["current"])
    _settle(work, state)
    voice.result(text(
        "{what} is current in {venv}: {count} distributions, {seconds} s.",
        what=work.what, venv=place.venv, count=len(work.versions), seconds="%.1f" % voice.seconds))
    say_users(voice, used, state)
    if state["former"]:
        words = [work.choice.facts["executable"], place.path(PROGRAM), "rollback", "--venv", place.venv]
        voice.facts["rollback"] = " ".join(shlex.quote(one) for one in words)
        voice.result(text("Back to the release before: {command}", command=voice.facts["rollback"]))


def _called(work, state):  # type: (Work, Dict[str, Any]) -> None
    """The record of the generation, and the sequences that were seen, say which release it is."""
    name, version, sequence = work.manifest.name, work.manifest.version, work.manifest.sequence
    state["generations"][work.generation].update(bundle=name, version=version, sequence=sequence)
    if sequence is not None:
        state["sequences"][name] = max(sequence, state["sequences"].get(name, 0))


def _settle(work, state):  # type: (Work, Dict[str, Any]) -> None
    """The state is written, the journal closed; what nobody needs is gone."""
    place = work.place
    kept = [one for one in (state["current"], state["former"]) if one]
    work.voice.findings(environment.prune(place, kept))
    there = {*kept, *os.listdir(place.beside)}  # what a live process uses stays
    state["generations"] = {one: record for one, record in state["generations"].items() if one in there}
    if environment.read_json(place.path("state.json")) != state:
        environment.write_json(place.path("state.json"), state)
    environment.remove(place.path("journal.json"))
    work.voice.facts["former"] = state["former"]


def _keep_program(work):  # type: (Work) -> None
    """This very code as one file beside the environment: a rollback needs no bundle."""
    folder, loader, path = os.path.dirname(__file__), __loader__, work.place.path(PROGRAM)  # type: ignore[name-defined]
    if os.path.isfile(os.path.dirname(folder)):  # it runs from such a file
        data = environment.read_bytes(os.path.dirname(folder))
    else:
        names = filter(program.is_code, getattr(loader, "files", None) or os.listdir(folder))
        code = {one: loader.get_data(os.path.join(folder, one)) for one in names}
        if INSTALL_PY not in code:
            code[INSTALL_PY] = environment.read_bytes(work.path(INSTALL_PY))
        data = program.pack(code)
    try:
        with open(path + ".new", "wb") as out:
            out.write(data)
        os.replace(path + ".new", path)
    finally:
        environment.remove(path + ".new")


def say_users(voice, used, state):
    # type: (report.Voice, Iterable[Tuple[int, str, Set[str]]], Mapping[str, Any]) -> None
    """The processes that still run another release than the current one."""
    for pid, name, shown in used:
        if state["current"] not in shown:
            other = state["generations"].get(min(shown) if shown else state["former"], {})
            release = " ".join(one for one in (other.get("bundle"), other.get("version")) if one) or "?"
            voice.result(text(
                "Process {pid} ({name}) still runs {release}: restart it.", pid=pid, name=name, release=release))
