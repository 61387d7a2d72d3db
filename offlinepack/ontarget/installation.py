"""One installation, in order: where, which Python, the bundle checked, preflight; then lock, environment, pip, batch,
rounds, check, switch, report. Nothing is written before the last check, and nobody is led to what is not whole."""

import os
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional

from . import by_pip, environment, installed, match, preflight, report, seed, verify
from .errors import DONE, ComputerError, Finding, InstallError, IntegrityError, MachineError, PolicyError, UsageError, error, raise_all, text
from .manifest import Manifest, Target
from .wheel import Wheel


class Work(NamedTuple):
    """What is installed, where, with which Python, as which generation."""

    options: Any
    folder: str
    manifest: Manifest
    place: environment.Place
    choice: match.Choice
    generation: str
    wheels: Mapping[str, Wheel]  # path in the bundle -> what was checked
    voice: report.Voice

    @property
    def root(self):  # type: () -> str
        """The folder that becomes the virtual environment."""
        return self.place.root(self.generation)

    @property
    def versions(self):  # type: () -> Dict[str, str]
        """Every distribution that must be in, with its version; a foreign environment may have a newer pip of its own."""
        tools = {} if self.place.foreign else {one.name: one.version for one in self.choice.target.tools}
        return dict(tools, **{one.name: one.version for one in self.choice.target.install})

    @property
    def what(self):  # type: () -> str
        """The release as people call it."""
        return " ".join(one for one in (self.manifest.name, self.manifest.version) if one)


def install(options, folder, voice):  # type: (Any, str, report.Voice) -> int
    """The bundle in `folder` becomes the current generation of its place; exit code."""
    manifest = verify.open_folder(folder)
    place, allowed = _where(options, manifest, folder), match.targets(manifest, options.target)
    line = "Installing {what} into {venv}."
    if place.foreign:
        line = "Installing {what} into {venv}, which offlinepack did not make: in place, no generations, no rollback."
    voice.say(text(line, what=manifest.folder, venv=place.venv))
    voice.facts.update(bundle=manifest.name, version=manifest.version, sequence=manifest.sequence, venv=place.venv, in_place=place.foreign)
    choice = match.choose(allowed, _pythons(options, place, allowed))
    python, compiled = choice.facts["executable"], not options.no_compile
    voice.say(text("For {target}, with Python {version}: {python}.", target=choice.target.tag, version=choice.facts["python"], python=python))
    wheels = check(options, folder, manifest, voice)
    generation = environment.identify(manifest, choice.target, python, {"compile": compiled})
    files = [one.path for one in manifest.files_of(choice.target)]
    mine = {path: wheels[path] for path in files if path in wheels}
    work = Work(options, folder, manifest, place, choice, generation, mine, voice)
    voice.facts.update(target=choice.target.tag, generation=generation, machine=report.machine(choice.facts))
    sdists = sum(one.size for one in manifest.files_of(choice.target) if one.path not in mine)
    whole = generation in _admitted(work)["generations"] and not options.force
    found = preflight.check(place, None if whole else preflight.room(mine.values(), sdists, compiled), choice.facts, choice.target.needs)
    broken = any(one.level == "error" and one.code in preflight.MACHINE for one in found)
    voice.findings(raise_all(MachineError if broken else ComputerError, found))
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
            _empty(place.path("work"), folder)


def check(options, folder, manifest, voice):  # type: (Any, str, Manifest, report.Voice) -> Dict[str, Wheel]
    """Every byte of the bundle is what was packed and nothing in it is hostile: the wheels, or all that is wrong."""
    if options.verify_key or options.signature:
        raise IntegrityError(error("no-verifier", folder, "This version cannot check signatures."))
    found, wheels = [], {}  # type: List[Finding], Dict[str, Wheel]
    for checked in verify.check_folder(folder, manifest, contents=options.verify):
        found += checked.findings
        if checked.wheel and checked.file:
            wheels[checked.file.path] = checked.wheel
    voice.findings(raise_all(IntegrityError, found))
    return wheels


def _where(options, manifest, folder):  # type: (Any, Manifest, str) -> environment.Place
    place = environment.locate(options.venv or manifest.install_to or os.environ.get("VIRTUAL_ENV") or ".venv")
    inside = os.path.join(os.path.realpath(os.path.dirname(place.venv)), "")
    if inside.startswith(os.path.join(os.path.realpath(folder), "")):
        raise UsageError(error("inside-bundle", place.venv, "{subject} lies inside the bundle.", "Choose another place with --venv."))
    return place


def _pythons(options, place, allowed):  # type: (Any, environment.Place, List[Target]) -> Iterator[Dict[str, Any]]
    """The Pythons to choose from: that of a foreign environment, the one that is named, or all that can be found."""
    named = seed.interpreter(place.venv) if place.foreign else options.python
    if not named:
        return match.pythons(allowed)
    facts = match.ask(named)
    if facts is None:
        said, advice = "{subject} is no Python 3.6 or newer that runs here.", "Name another one with --python."
        raise MachineError(error("no-python", named, said, advice))
    return iter([dict(facts, executable=named if place.foreign else match.base(facts))])


def _admitted(work):  # type: (Work) -> Dict[str, Any]
    """The state of the place; a bundle older than the newest that it has seen is refused."""
    state, own = environment.read_state(work.place), work.manifest.sequence
    seen = state["sequences"].get(work.manifest.name)
    if seen is not None and (own is None or own < seen) and not work.options.allow_downgrade:
        said = "{subject} has sequence {own}; this environment has seen {seen}."
        advice = "rollback goes back to the release before; --allow-downgrade installs this one all the same."
        raise PolicyError(error("downgrade", work.what, said, advice, own="-" if own is None else own, seen=seen))
    return state


def _empty(folder, bundle):  # type: (str, str) -> None
    """No temporary file stays; a bundle that was unpacked there does."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not (os.path.realpath(bundle) + os.sep).startswith(os.path.realpath(path) + os.sep):
            environment.remove(path)


def _locked(work, programs):  # type: (Work, by_pip.Programs) -> int
    """All that writes. Interrupted, or refused by this computer, it takes back what it began; the same command begins again."""
    state, place, options = _admitted(work), work.place, work.options
    known = state["generations"].get(work.generation)
    bad = installed.altered(work.root, work.versions, known["records"]) if known else {}
    failed = []  # type: List[Finding]
    if known and not bad and not options.force:
        if state["current"] == work.generation:
            work.voice.result(text("{what} is already installed in {venv}: nothing to do.", what=work.what, venv=place.venv))
            return DONE
    else:
        environment.prune(place, [state["current"], state["former"], work.generation])
        try:
            failed = _build(work, programs, bool(known))
        except (KeyboardInterrupt, OSError, ComputerError):
            if not known and not place.foreign:
                environment.remove(work.root)
                environment.remove(place.path("journal.json"))
            raise
    if failed and not options.keep_going:
        raise InstallError(*failed)
    work.voice.findings(failed)
    _lead(work, state, bool(failed))
    return InstallError.exit_code if failed else DONE


def _build(work, programs, known):  # type: (Work, by_pip.Programs, bool) -> List[Finding]
    """The environment and all distributions in it; what could not be installed, and what pip check says."""
    place, root, target, options = work.place, work.root, work.choice.target, work.options
    base = [] if known or place.foreign else _ground(work, programs)  # type: List[str]
    pip = by_pip.Pip(
        seed.interpreter(root), root, work.folder, work.manifest, programs, not options.no_compile, place.foreign or options.force
    )
    bad = work.versions if options.force else installed.altered(root, work.versions)  # type: Mapping[str, Any]
    if not place.foreign:
        installed.discard(root, bad)
    if base:
        installed.sweep(root, base)
    rows = work.voice.facts.setdefault("distributions", [])  # type: List[Dict[str, Any]]
    for tool in target.tools:
        if tool.name in bad or (place.foreign and by_pip.older(root, tool)):
            work.voice.say(text("{name} {version} goes in first.", name=tool.name, version=tool.version))
            first = pip.install([tool], tool.name, [os.path.join(work.folder, *(tool.file.split("/") + [tool.name]))])
            if not first.ok:
                raise InstallError(_finding(first, 1))
    wanted = [one for one in target.install if one.name in bad]
    work.voice.say(text("{count} distributions, by pip.", count=len(wanted)))
    tries = {}  # type: Dict[str, List[by_pip.Attempt]]
    for attempt in by_pip.install(pip, wanted):
        tries.setdefault(attempt.name, []).append(attempt)
    hashes = {one.path: one.sha256 for one in work.manifest.files}
    for one in wanted:
        last, count = tries[one.name][-1], len(tries[one.name])
        row = {"name": one.name, "version": one.version, "file": one.file, "sha256": hashes[one.file], "engine": "pip"}
        row.update(state="installed" if last.ok else "failed", attempts=count, seconds=sum(each.seconds for each in tries[one.name]))
        rows.append(dict(row, reason=last.words))
    failed = [_finding(all_[-1], len(all_)) for all_ in tries.values() if not all_[-1].ok]
    installed.mark(root, dict({one.name: False for one in target.tools}, **{one.name: one.requested for one in target.install}))
    if base and any(len(all_) > 1 for all_ in tries.values()):
        installed.sweep(root, base)
    whole, words = (True, "") if failed else pip.check()
    if not whole:
        said = "pip check finds that what is installed does not fit together."
        failed.append(error("pip-check", work.what, said, "Have the bundle made again; --keep-going takes it as it is.", log=words))
    return failed


def _ground(work, programs):  # type: (Work, by_pip.Programs) -> List[str]
    """A virtual environment in its final place, new or from a run that was interrupted; the paths of which it consists."""
    place, root = work.place, work.root
    journal = environment.read_json(place.path("journal.json"))
    if journal.get("generation") == work.generation and journal.get("base") and os.path.isdir(root):
        work.voice.say(text("Going on where the run before stopped."))
        return list(journal["base"])
    environment.remove(root)
    environment.write_json(place.path("journal.json"), {"schema": 1, "generation": work.generation, "base": []})
    seed.create(root, work.choice.facts, programs.run)
    base = installed.listing(root)
    environment.write_json(place.path("journal.json"), {"schema": 1, "generation": work.generation, "base": base})
    return base


def _finding(attempt, tries):  # type: (by_pip.Attempt, int) -> Finding
    said = "{subject} could not be installed in {tries} attempts; the whole log is {file}."
    advice = "Nothing was changed; what is in is kept aside, and the same command goes on from there. --keep-going does without it."
    return error("not-installed", attempt.name, said, advice, log=attempt.words, tries=tries, file=attempt.log)


def _lead(work, state, partial):  # type: (Work, Dict[str, Any], bool) -> None
    """Lead people to the new generation, write down what it is, remove what nobody needs, say what is left to do."""
    place, generation, voice, manifest = work.place, work.generation, work.voice, work.manifest
    former = state["former"] if state["current"] == generation else state["current"]
    environment.sync(place.beside)
    infos = installed.dist_infos(work.root)
    state["generations"][generation] = {
        "bundle": manifest.name,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "target": work.choice.target.tag,
        "python": work.choice.facts["executable"],
        "installed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "whole": not partial,
        "distributions": work.versions,
        "records": {name: installed.sha256(os.path.join(infos[name][0], "RECORD")) for name in work.versions if name in infos},
    }
    if manifest.sequence is not None:
        state["sequences"][manifest.name] = manifest.sequence
    environment.write_json(place.path("state.json"), state)
    used = environment.users(place)
    if not place.foreign:
        environment.switch(place, generation)
    state.update(current=generation, former=None if place.foreign else former)
    kept = [one for one in (generation, state["former"]) if one]
    state["generations"] = {one: state["generations"][one] for one in kept if one in state["generations"]}
    environment.write_json(place.path("state.json"), state)
    environment.remove(place.path("journal.json"))
    voice.findings(environment.prune(place, kept))
    voice.facts.update(changed=True, former=state["former"])
    line = "{what} is current in {venv}: {count} distributions, {seconds} s."
    voice.result(text(line, what=work.what, venv=place.venv, count=len(work.versions), seconds="%.1f" % voice.seconds))
    for pid, name, shown in used:
        if generation not in shown:
            voice.result(text("Process {pid} ({name}) still runs the release before: restart it.", pid=pid, name=name))
    if state["former"]:
        back = "python3 %s --rollback --venv %s" % (os.path.join(work.folder, "install.py"), place.venv)
        voice.result(text("Back to the release before: {command}", command=back))
