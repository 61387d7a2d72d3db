"""One installation, in order: where, which Python, the bundle checked, preflight; then lock, environment, pip, batch,
rounds, check, switch, report. Nothing is written before the last check, and nobody is led to what is not whole."""

import os
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from . import by_pip, environment, errors, installed, match, preflight, report, seed, verify
from .errors import DONE, Finding, Text, error, raise_all, text
from .manifest import Distribution, Manifest, Target
from .wheel import Wheel


class Work(NamedTuple):
    """What is installed, where, with which Python, as which generation."""

    options: Any
    manifest: Manifest
    place: environment.Place
    choice: match.Choice
    generation: str
    wheels: Mapping[str, Wheel]  # path in the bundle -> what was checked
    voice: report.Voice

    @property
    def root(self):  # type: () -> str
        """The folder that is, or becomes, the virtual environment."""
        return self.place.root(self.generation)

    @property
    def target(self):  # type: () -> Target
        """The plan."""
        return self.choice.target

    @property
    def versions(self):  # type: () -> Dict[str, str]
        """Every distribution that must be in; a foreign environment may have a newer pip of its own."""
        tools = {} if self.place.foreign else {one.name: one.version for one in self.target.tools}
        return dict(tools, **{one.name: one.version for one in self.target.install})

    @property
    def what(self):  # type: () -> str
        """The release as people call it."""
        return " ".join(one for one in (self.manifest.name, self.manifest.version) if one)

    def path(self, file):  # type: (str) -> str
        """Of a file of the bundle."""
        return os.path.join(self.options.folder, *file.split("/"))


def install(options, voice):  # type: (Any, report.Voice) -> int
    """The bundle becomes the current generation of its place; exit code."""
    manifest = verify.open_folder(options.folder)
    place, allowed = _where(options, manifest), match.targets(manifest, options.target)
    if place.foreign:
        voice.say(text(
            "Installing {what} into {venv}, which offlinepack did not make: in place, no generations, no rollback.",
            what=manifest.folder, venv=place.venv))
    else:
        voice.say(text("Installing {what} into {venv}.", what=manifest.folder, venv=place.venv))
    voice.facts.update(bundle=manifest.name, version=manifest.version, sequence=manifest.sequence)
    voice.facts.update(venv=place.venv, in_place=place.foreign)
    choice = match.choose(allowed, _pythons(options, place, allowed))
    target, python, compiled = choice.target, choice.facts["executable"], not options.no_compile
    voice.say(text(
        "For {target}, with Python {version}: {python}.",
        target=target.tag, version=choice.facts["python"], python=python))
    generation = environment.identify(manifest, target, python, {"compile": compiled})
    voice.facts.update(target=target.tag, generation=generation, machine=report.machine(choice.facts))
    wheels = check(options, manifest, voice)
    files = manifest.files_of(target)
    mine = {one.path: wheels[one.path] for one in files if one.path in wheels}
    work = Work(options, manifest, place, choice, generation, mine, voice)
    whole = generation in _admitted(work)["generations"] and not options.force
    sdists = sum(one.size for one in files if one.path not in mine)
    room = None if whole else preflight.room(mine.values(), sdists, compiled)
    found = preflight.check(place, room, choice.facts, target.needs)
    broken = any(one.level == "error" and one.code in preflight.MACHINE for one in found)
    voice.findings(raise_all(errors.MachineError if broken else errors.ComputerError, found))
    if options.dry_run:
        voice.result(text("Everything fits; nothing was written (--dry-run)."))
        return DONE
    with environment.hold(place) as lock:
        for name in ("work", "logs", "reports"):
            os.makedirs(place.path(name), exist_ok=True)
        voice.reports = place.path("reports")
        try:
            return _locked(work, by_pip.Programs(place.path("work"), place.path("logs"), lock))
        finally:
            _empty(place.path("work"), options.folder)


def check(options, manifest, voice):  # type: (Any, Manifest, report.Voice) -> Dict[str, Wheel]
    """Every byte of the bundle is what was packed and nothing in it is hostile: the wheels, or all that is wrong."""
    if options.verify_key or options.signature:
        raise errors.IntegrityError(error("no-verifier", manifest.name, "This version cannot check signatures."))
    found, wheels = [], {}  # type: List[Finding], Dict[str, Wheel]
    for checked in verify.check_folder(options.folder, manifest, contents=options.verify):
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


def _where(options, manifest):  # type: (Any, Manifest) -> environment.Place
    place = environment.locate(options.venv or manifest.install_to or os.environ.get("VIRTUAL_ENV") or ".venv")
    above = os.path.join(os.path.realpath(os.path.dirname(place.venv)), "")
    if above.startswith(os.path.join(os.path.realpath(options.folder), "")):
        raise errors.UsageError(error(
            "inside-bundle", place.venv, "{subject} lies inside the bundle.", "Choose another place with --venv."))
    return place


def _pythons(options, place, allowed):
    # type: (Any, environment.Place, List[Target]) -> Iterator[Dict[str, Any]]
    """The Pythons to choose from: that of a foreign environment, the one that is named, or all that can be found."""
    named = seed.interpreter(place.venv) if place.foreign else options.python
    if not named:
        return match.pythons(allowed)
    facts = match.ask(named)
    if facts is None:
        raise errors.MachineError(error(
            "no-python", named, "{subject} is no Python 3.6 or newer that runs here.",
            "Name another one with --python."))
    return iter([dict(facts, executable=named if place.foreign else match.base(facts))])


def _admitted(work):  # type: (Work) -> Dict[str, Any]
    """The state of the place; a bundle older than the newest that it has seen is refused."""
    state, own = environment.read_state(work.place), work.manifest.sequence
    seen = state["sequences"].get(work.manifest.name)
    if seen is not None and (own is None or own < seen) and not work.options.allow_downgrade:
        raise errors.PolicyError(error(
            "downgrade", work.what, "{subject} has sequence {own}; this environment has seen {seen}.",
            "rollback goes back to the release before; --allow-downgrade installs this one all the same.",
            own="-" if own is None else own, seen=seen))
    return state


def _empty(folder, bundle):  # type: (str, str) -> None
    """No temporary file stays; a bundle that was unpacked there does."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not os.path.join(os.path.realpath(bundle), "").startswith(os.path.join(os.path.realpath(path), "")):
            environment.remove(path)


def _locked(work, programs):  # type: (Work, by_pip.Programs) -> int
    """All that writes. Interrupted, or refused by this computer, it takes back what it began."""
    state, place, voice = _admitted(work), work.place, work.voice
    known = state["generations"].get(work.generation)
    bad = installed.altered(work.root, work.versions, known["records"]) if known else {}
    failed = []  # type: List[Finding]
    if known and not bad and not work.options.force:
        if state["current"] == work.generation:
            voice.result(text("{what} is already installed in {venv}: nothing to do.", what=work.what, venv=place.venv))
            return DONE
    else:
        environment.prune(place, [state["current"], state["former"], work.generation])
        try:
            failed = _build(work, programs, bool(known))
        except (KeyboardInterrupt, OSError, errors.ComputerError):
            if not known and not place.foreign:
                environment.remove(work.root)
                environment.remove(place.path("journal.json"))
            raise
    if failed and not work.options.keep_going:
        raise errors.InstallError(*failed)
    voice.findings(failed)
    _lead(work, state, bool(failed))
    return errors.InstallError.exit_code if failed else DONE


def _build(work, programs, known):  # type: (Work, by_pip.Programs, bool) -> List[Finding]
    """The environment and all distributions in it; what could not be installed, and what pip check says."""
    root, target, force, voice = work.root, work.target, work.place.foreign or work.options.force, work.voice
    base = [] if known or work.place.foreign else _ground(work, programs)  # type: List[str]
    compiled = not work.options.no_compile
    pip = by_pip.Pip(seed.interpreter(root), root, work.options.folder, work.manifest, programs, compiled, force)
    bad = set(work.versions if work.options.force else installed.altered(root, work.versions))
    if not work.place.foreign:
        installed.discard(root, bad)
    if base:
        installed.sweep(root, base)
    for tool in target.tools:
        if tool.name in bad or (work.place.foreign and by_pip.older(root, tool)):
            voice.say(text("{name} {version} goes in first.", name=tool.name, version=tool.version))
            first = pip.install([tool], tool.name, [work.path(tool.file) + "/pip"])
            if not first.ok:
                raise errors.InstallError(_failure(first, 1))
    wanted = [one for one in target.install if one.name in bad]
    voice.say(text("{count} distributions, by pip.", count=len(wanted)))
    voice.facts["changed"] = work.place.foreign
    tries = {}  # type: Dict[str, List[by_pip.Attempt]]
    for attempt in by_pip.install(pip, wanted):
        tries.setdefault(attempt.name, []).append(attempt)
    voice.facts["distributions"] = [_row(work, one, tries[one.name]) for one in wanted if one.name in tries]
    failed = [_failure(all_[-1], len(all_)) for all_ in tries.values() if not all_[-1].ok]
    tools = {one.name: False for one in target.tools}
    installed.mark(root, dict(tools, **{one.name: one.requested for one in target.install}))
    if base and any(len(all_) > 1 for all_ in tries.values()):
        installed.sweep(root, base)
    whole, words = (True, "") if failed else pip.check()
    if not whole:
        failed.append(error(
            "pip-check", work.what, "What is installed does not fit together, pip check says.",
            "Have the bundle made again; --keep-going takes it as it is.", log=words))
    return failed


def _ground(work, programs):  # type: (Work, by_pip.Programs) -> List[str]
    """A virtual environment in its final place, new or of an interrupted run: the paths that it consists of."""
    journal, root = work.place.path("journal.json"), work.root
    found = environment.read_json(journal)
    if found.get("generation") == work.generation and found.get("base") and os.path.isdir(root):
        work.voice.say(text("Going on where the run before stopped."))
        return list(found["base"])
    environment.remove(root)
    environment.write_json(journal, {"schema": 1, "generation": work.generation, "base": []})
    work.voice.findings(seed.create(root, work.choice.facts, programs.run))
    base = installed.listing(root)
    environment.write_json(journal, {"schema": 1, "generation": work.generation, "base": base})
    return base


def _row(work, one, tries):  # type: (Work, Distribution, Sequence[by_pip.Attempt]) -> Dict[str, Any]
    """One distribution in the report."""
    hashes = {file.path: file.sha256 for file in work.manifest.files}
    row = {"name": one.name, "version": one.version, "file": one.file, "sha256": hashes[one.file], "engine": "pip"}
    seconds, state = sum(each.seconds for each in tries), "installed" if tries[-1].ok else "failed"
    return dict(row, state=state, attempts=len(tries), seconds=round(seconds, 2), reason=tries[-1].words)


def _failure(attempt, tries):  # type: (by_pip.Attempt, int) -> Finding
    return error(
        "not-installed", attempt.name, "{subject} could not be installed ({tries} attempts); the whole log: {file}",
        "What is in is kept aside and the same command goes on from there; --keep-going does without the rest.",
        log=attempt.words, tries=tries, file=attempt.log)


def _lead(work, state, partial):  # type: (Work, Dict[str, Any], bool) -> None
    """Lead people to the generation, write down what it is, remove what nobody needs, say what is left to do."""
    place, generation, voice, manifest = work.place, work.generation, work.voice, work.manifest
    former = state["former"] if state["current"] == generation else state["current"]
    environment.sync(place.beside)
    infos = installed.dist_infos(work.root)
    state["generations"][generation] = {
        "bundle": manifest.name,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "target": work.target.tag,
        "python": work.choice.facts["executable"],
        "installed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "whole": not partial,
        "distributions": work.versions,
        "records": {name: installed.sha256(os.path.join(info[0], "RECORD")) for name, info in infos.items()},
    }
    if manifest.sequence is not None:
        state["sequences"][manifest.name] = manifest.sequence
    environment.write_json(place.path("state.json"), state)
    used = environment.users(place)
    if not place.foreign:
        environment.switch(place, generation)
    voice.facts["changed"] = True
    state.update(current=generation, former=None if place.foreign else former)
    kept = [one for one in (generation, state["former"]) if one]
    state["generations"] = {one: state["generations"][one] for one in kept if one in state["generations"]}
    environment.write_json(place.path("state.json"), state)
    environment.remove(place.path("journal.json"))
    voice.findings(environment.prune(place, kept))
    voice.facts["former"] = state["former"]
    voice.result(text(
        "{what} is current in {venv}: {count} distributions, {seconds} s.",
        what=work.what, venv=place.venv, count=len(work.versions), seconds="%.1f" % voice.seconds))
    say_users(voice, used, generation)
    if state["former"]:
        back = "python3 %s --rollback --venv %s" % (work.path("install.py"), place.venv)
        voice.result(text("Back to the release before: {command}", command=back))


def say_users(voice, used, generation):  # type: (report.Voice, Iterable[Tuple[int, str, Set[str]]], str) -> None
    """The processes that still run another generation than this one."""
    for pid, name, shown in used:
        if generation not in shown:
            voice.result(text("Process {pid} ({name}) still runs the other release: restart it.", pid=pid, name=name))
