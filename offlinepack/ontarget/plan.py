"""Plan an installation: location, interpreter and target plan, from the manifest alone. Nothing is written."""

import os
import sys
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple

from .errors import ComputerError, Finding, MachineError, PolicyError, UsageError, error, raise_on_errors, text
from .generations import EnvironmentLocation, compute_generation_id, load_state, locate_environment
from .interpreter import collect_facts
from .manifest import Distribution, Manifest, TargetPlan, Tool
from .preflight import MACHINE_CODES, SPARE_BYTES, DiskUsage, run_preflight
from .report import Reporter, describe_machine
from .target_selection import (
    TargetSelection,
    filter_targets,
    find_interpreters,
    get_base_executable,
    query_interpreter,
    select_target,
)
from .venv import get_interpreter
from .wheel_model import CheckedWheel


def plan_install(options, manifest, voice):  # type: (Any, Manifest, Reporter) -> InstallPlan
    """Where it goes, as what, with which Python: from the manifest alone. Its wheels are not checked yet."""
    place, allowed = _choose_location(options, manifest), filter_targets(manifest, options.target)
    if place.is_foreign:
        voice.print_message(text(
            "Installing {what} into {venv}, which offlinepack did not make: in place, no generations, no rollback.",
            what=manifest.folder, venv=place.venv))
    else:
        voice.print_message(text("Installing {what} into {venv}.", what=manifest.folder, venv=place.venv))
    voice.facts.update(bundle=manifest.name, version=manifest.version, sequence=manifest.sequence)
    voice.facts.update(venv=place.venv, in_place=place.is_foreign)
    choice = select_target(allowed, _find_candidates(options, place, allowed))
    target, python = choice.target, choice.facts["executable"]
    if not (options.python or place.is_foreign or python == get_base_executable(collect_facts())):
        voice.print_message(text("This Python, {python}, fits no target of the bundle; another one does.", python=sys.executable))
    voice.print_message(text(
        "For {target}, with Python {version}: {python}.",
        target=target.tag, version=choice.facts["python"], python=python))
    identity = compute_generation_id(manifest, target, python, {"compile": not options.no_compile})
    voice.facts.update(target=target.tag, generation=identity, machine=describe_machine(choice.facts))
    return InstallPlan(options, manifest, place, choice, identity, {}, voice)


def check_machine(work, room):  # type: (InstallPlan, DiskUsage) -> List[Finding]
    """What this machine should be told; an error where it, or this environment, cannot take so much, or this bundle."""
    if work.generation_id in read_state(work)["generations"] and not work.options.force:  # what it takes it has taken
        room = DiskUsage(0, 0, 0, 0, room.spare_bytes - SPARE_BYTES)
    findings = run_preflight(work.location, room, work.selection.facts, work.target.needs, work.options.engine or "auto")
    broken = any(finding.level == "error" and finding.code in MACHINE_CODES for finding in findings)
    return raise_on_errors(MachineError if broken else ComputerError, findings)


def _choose_location(options, manifest):  # type: (Any, Manifest) -> EnvironmentLocation
    place = locate_environment(options.venv or manifest.install_to or os.environ.get("VIRTUAL_ENV") or ".venv")
    parent = os.path.join(os.path.realpath(os.path.dirname(place.venv)), "")
    if parent.startswith(os.path.join(os.path.realpath(options.folder), "")):
        raise UsageError(error(
            "inside-bundle", place.venv, "{subject} lies inside the bundle.", "Choose another place with --venv."))
    return place


def _find_candidates(options, place, allowed):
    # type: (Any, EnvironmentLocation, List[TargetPlan]) -> Iterator[Dict[str, Any]]
    """The Pythons to choose from: that of a foreign environment, the one that is named, or all that can be found."""
    named = get_interpreter(place.venv) if place.is_foreign else options.python
    if not named:
        return find_interpreters(allowed)
    facts = query_interpreter(named)
    if facts is None:
        raise MachineError(error(
            "no-python", named, "{subject} is no Python 3.6 or newer that runs here.",
            "Name another one with --python."))
    return iter([dict(facts, executable=named if place.is_foreign else get_base_executable(facts))])


def read_state(work):  # type: (InstallPlan) -> Dict[str, Any]
    """The state of the place; a bundle older than the newest that it has seen is refused."""
    state, sequence = load_state(work.location), work.manifest.sequence
    highest = state["sequences"].get(work.manifest.name)
    older = highest is not None and (sequence is None or sequence < highest)
    if older and state["current"] != work.generation_id and not work.options.allow_downgrade:
        raise PolicyError(error(
            "downgrade", work.title, "{subject} has sequence {own}; this environment has seen {seen}.",
            "rollback goes back to the release before; --allow-downgrade installs this one all the same.",
            own="-" if sequence is None else sequence, seen=highest))
    return state


class InstallPlan(NamedTuple):
    """What is installed, where, with which Python, as which generation."""

    options: Any
    manifest: Manifest
    location: EnvironmentLocation
    selection: TargetSelection
    generation_id: str
    wheels: Mapping[str, CheckedWheel]  # path in the bundle -> what was checked; all of the bundle's
    reporter: Reporter

    @property
    def root(self):  # type: () -> str
        """The folder that is, or becomes, the virtual environment."""
        return self.location.get_root(self.generation_id)

    @property
    def target(self):  # type: () -> TargetPlan
        """The plan."""
        return self.selection.target

    @property
    def tools(self):  # type: () -> List[Tool]
        """pip; the other tools are what sources are built with, which pip does in environments of their own."""
        return [tool for tool in self.target.tools if tool.name == "pip"]

    @property
    def distributions(self):  # type: () -> List[Distribution]
        """Every distribution that must be in, pip first; a foreign environment may keep a newer pip of its own."""
        install = {distribution.name for distribution in self.target.install}
        tools = [Distribution(tool.name, tool.version, tool.file, (), False, None) for tool in self.tools]
        return [tool for tool in tools if tool.name not in install and not self.location.is_foreign] + list(self.target.install)

    @property
    def versions(self):  # type: () -> Dict[str, str]
        """Name -> version of the plan."""
        return {distribution.name: distribution.version for distribution in self.distributions}

    @property
    def hashes(self):  # type: () -> Dict[str, str]
        """Name -> sha256 of its file."""
        files = {file.path: file.sha256 for file in self.manifest.files}
        return {distribution.name: files[distribution.file] for distribution in self.distributions}

    @property
    def title(self):  # type: () -> str
        """The release as people call it."""
        return " ".join(part for part in (self.manifest.name, self.manifest.version) if part)

    def locate_file(self, file):  # type: (str) -> str
        """Of a file of the bundle."""
        return os.path.join(self.options.folder, *file.split("/"))
