"""Plan an installation: location, interpreter and target plan, from the manifest alone. Nothing is written."""

import os
import platform
import sys
from typing import Any, Dict, List, Mapping, NamedTuple

from .errors import ComputerError, Finding, MachineError, PolicyError, UsageError, error, raise_on_errors, text
from .generations import EnvironmentLocation, compute_generation_id, load_state, locate_environment
from .interpreter import collect_facts
from .manifest import Distribution, Manifest, Tool
from .preflight import MACHINE_CODES, SPARE_BYTES, DiskUsage, run_preflight
from .report import Reporter
from .target_selection import TargetSelection, filter_targets, find_interpreters, get_base_executable, select_target
from .venv import get_interpreter
from .wheel_model import CheckedWheel

_INSTALLING = "Installing {what} into {venv}."
_IN_PLACE = "Installing {what} into {venv}, which offlinepack did not make: in place, no generations, no rollback."
_OTHER_PYTHON = "This Python, {python}, fits no target of the bundle; another one does."
_TOO_OLD = "{subject} has sequence {own}; this environment has seen {seen}."


def plan_install(options, manifest, voice):  # type: (Any, Manifest, Reporter) -> InstallPlan
    """Choose location, target and Python from the manifest alone; the wheels are checked later."""
    place, allowed = _choose_location(options, manifest), filter_targets(manifest, options.target)
    facts = {"what": manifest.folder, "venv": place.venv}
    voice.print_message(text(_IN_PLACE if place.is_foreign else _INSTALLING, **facts))
    voice.facts.update(bundle=manifest.name, version=manifest.version, sequence=manifest.sequence)
    voice.facts.update(venv=place.venv, in_place=place.is_foreign)
    named = get_interpreter(place.venv) if place.is_foreign else options.python
    choice = select_target(allowed, find_interpreters(allowed, named, place.is_foreign))
    target, python = choice.target, choice.facts["executable"]
    if not (named or python == get_base_executable(collect_facts())):
        voice.print_message(text(_OTHER_PYTHON, python=sys.executable))
    voice.print_message(text(
        "For {target}, with Python {version}: {python}.",
        target=target.tag, version=choice.facts["python"], python=python))
    identity = compute_generation_id(manifest, target, python, {"compile": not options.no_compile})
    user = os.environ.get("USER") or os.environ.get("USERNAME") or ""
    voice.facts["machine"] = {"host": platform.node(), "user": user, "python": choice.facts}
    voice.facts.update(target=target.tag, generation=identity)
    return InstallPlan(options, manifest, place, choice, identity, {}, voice)


def check_machine(work, room):  # type: (InstallPlan, DiskUsage) -> List[Finding]
    """Return the findings about this machine, or raise the errors among them, also for a downgrade."""
    if work.generation_id in read_state(work)["generations"] and not work.options.force:  # it needs no more room
        room = DiskUsage(0, 0, 0, 0, room.spare_bytes - SPARE_BYTES)
    engine = work.options.engine or "auto"
    findings = run_preflight(work.location, room, work.selection.facts, work.selection.target.needs, engine)
    broken = any(finding.level == "error" and finding.code in MACHINE_CODES for finding in findings)
    return raise_on_errors(MachineError if broken else ComputerError, findings)


def _choose_location(options, manifest):  # type: (Any, Manifest) -> EnvironmentLocation
    place = locate_environment(options.venv or manifest.install_to or os.environ.get("VIRTUAL_ENV") or ".venv")
    parent = os.path.join(os.path.realpath(os.path.dirname(place.venv)), "")
    if parent.startswith(os.path.join(os.path.realpath(options.folder), "")):
        raise UsageError(error(
            "inside-bundle", place.venv, "{subject} lies inside the bundle.", "Choose another place with --venv."))
    return place


def read_state(work):  # type: (InstallPlan) -> Dict[str, Any]
    """Return the state of the environment, or raise PolicyError for a bundle older than its newest one."""
    state, sequence = load_state(work.location), work.manifest.sequence
    highest = state["sequences"].get(work.manifest.name)
    older = highest is not None and (sequence is None or sequence < highest)
    if older and state["current"] != work.generation_id and not work.options.allow_downgrade:
        raise PolicyError(error(
            "downgrade", work.title, _TOO_OLD,
            "rollback goes back to the release before; --allow-downgrade installs this one all the same.",
            own="-" if sequence is None else sequence, seen=highest))
    return state


class InstallPlan(NamedTuple):
    """The contents, location, Python and generation of an installation."""
    options: Any
    manifest: Manifest
    location: EnvironmentLocation
    selection: TargetSelection
    generation_id: str
    wheels: Mapping[str, CheckedWheel]  # path in the bundle -> wheel; every wheel of the bundle
    reporter: Reporter

    @property
    def root(self):  # type: () -> str
        """Return the folder of the virtual environment."""
        return self.location.get_root(self.generation_id)

    @property
    def tools(self):  # type: () -> List[Tool]
        """Return pip; the other tools are build requirements, which pip installs in separate environments."""
        return [tool for tool in self.selection.target.tools if tool.name == "pip"]

    @property
    def distributions(self):  # type: () -> List[Distribution]
        """Return every distribution to install, pip first; a foreign environment may keep a newer pip of its own."""
        names = {step.name for step in self.selection.target.install}
        tools = [tool for tool in self.tools if tool.name not in names and not self.location.is_foreign]
        return [Distribution(*tool, requires=(), requested=False, built_from=None) for tool in tools] + [
            *self.selection.target.install]

    @property
    def versions(self):  # type: () -> Dict[str, str]
        """Return name -> version of each distribution."""
        return {step.name: step.version for step in self.distributions}

    @property
    def hashes(self):  # type: () -> Dict[str, str]
        """Return name -> sha256 of the file of each distribution."""
        files = {file.path: file.sha256 for file in self.manifest.files}
        return {step.name: files[step.file] for step in self.distributions}

    @property
    def title(self):  # type: () -> str
        """Return name and version of the release."""
        return " ".join(filter(None, (self.manifest.name, self.manifest.version)))

    def locate_file(self, file):  # type: (str) -> str
        """Return the path of a file of the bundle on disk."""
        return os.path.join(self.options.folder, *file.split("/"))
