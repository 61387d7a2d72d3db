"""Whether it may go in: where, with which Python, and what this environment and this machine say to it. From the
manifest alone, so that it can be asked before a bundle is unpacked; nothing is written.
"""

import os
import sys
from typing import Any, Dict, Iterator, List

from . import environment, errors, interpreter, match, preflight, report, seed
from .errors import Finding, error, raise_all, text
from .generation import Work
from .manifest import Manifest, Target


def intended(options, manifest, voice):  # type: (Any, Manifest, report.Voice) -> Work
    """Where it goes, as what, with which Python: from the manifest alone. Its wheels are not checked yet."""
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
    target, python = choice.target, choice.facts["executable"]
    if not (options.python or place.foreign or python == match.base(interpreter.facts())):
        voice.say(text("This Python, {python}, fits no target of the bundle; another one does.", python=sys.executable))
    voice.say(text(
        "For {target}, with Python {version}: {python}.",
        target=target.tag, version=choice.facts["python"], python=python))
    identity = environment.identify(manifest, target, python, {"compile": not options.no_compile})
    voice.facts.update(target=target.tag, generation=identity, machine=report.machine(choice.facts))
    return Work(options, manifest, place, choice, identity, {}, voice)


def admitted(work, room):  # type: (Work, preflight.Room) -> List[Finding]
    """What this machine should be told; an error where it, or this environment, cannot take so much, or this bundle."""
    if work.generation in seen(work)["generations"] and not work.options.force:  # what it takes it has taken
        room = preflight.Room(0, 0, 0, 0, room.spare - preflight.SPARE)
    found = preflight.check(work.place, room, work.choice.facts, work.target.needs, work.options.engine or "auto")
    broken = any(one.level == "error" and one.code in preflight.MACHINE for one in found)
    return raise_all(errors.MachineError if broken else errors.ComputerError, found)


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


def seen(work):  # type: (Work) -> Dict[str, Any]
    """The state of the place; a bundle older than the newest that it has seen is refused."""
    state, own = environment.read_state(work.place), work.manifest.sequence
    seen = state["sequences"].get(work.manifest.name)
    older = seen is not None and (own is None or own < seen)
    if older and state["current"] != work.generation and not work.options.allow_downgrade:
        raise errors.PolicyError(error(
            "downgrade", work.what, "{subject} has sequence {own}; this environment has seen {seen}.",
            "rollback goes back to the release before; --allow-downgrade installs this one all the same.",
            own="-" if own is None else own, seen=seen))
    return state
