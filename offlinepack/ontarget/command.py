"""Run the command line of the target side: parse options, run one command, turn errors into exit codes."""

import argparse
import os
import signal
import traceback
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple

from . import interpreter
from .errors import EXIT_INTERRUPTED, ComputerError, IntegrityError, OfflinepackError, UsageError, error, text
from .files import sync_file_system, write_json
from .generations import find_processes, load_state, locate_environment, lock_environment, switch_generation
from .manifest import MANIFEST
from .report import Reporter
from .transaction import format_release, install_bundle, report_processes, verify_bundle
from .venv import describe_alterations, find_alterations
from .verify import read_folder_manifest
from .zipapp import ZIPAPP_NAME

VERSION = "0.1.0"
OptionTable = Sequence[Tuple[str, Optional[str], Any]]

# Option, name of its value (None: a switch), help. OFFLINEPACK_<NAME> gives the default of an option of install.
INSTALL_OPTIONS = (
    ("--venv", "DIR", text("the virtual environment; default: the bundle's own place, the active one, ./.venv")),
    ("--python", "PY", text("the Python to use; default: this one where it fits, else one that is found")),
    ("--target", "NAME", text("the target of the bundle to take; default: the first that fits")),
    ("--engine", "ENGINE", text("what installs: auto, pip or fast")),
    ("--no-compile", None, text("make no bytecode")),
    ("--keep-going", None, text("let the environment become current even where something is missing (exit 11)")),
    ("--force", None, text("install again what is installed")),
    ("--allow-downgrade", None, text("take a bundle that is older than the one that was installed")),
    ("--dry-run", None, text("check everything, write nothing")),
    ("--report", "PATH", text("write the report to this file or folder too")),
    ("--verify-key", "FILE", text("who must have signed: a public key, or allowed signers; may be repeated")),
    ("--require-signature", None, text("refuse a bundle without a good signature")),
    ("--signature", "FILE", text("a signature that lies elsewhere")),
    ("--jobs", "N", text("processes at once")),
)  # type: OptionTable

OTHER_OPTIONS = (
    ("--verify", None, text("instead of installing: check the bundle")),
    ("--rollback", None, text("instead: go back to the release before (needs no bundle)")),
    ("--to", "ID", text("with --rollback: to this generation")),
    ("--list", None, text("with --rollback: list the generations")),
    ("--inspect", None, text("instead: tell what is installed and whether it was altered")),
    ("--probe", None, text("instead: tell the facts of this machine as JSON")),
    ("--json", None, text("print the result as JSON on stdout")),
    ("--quiet", None, text("say less")),
    ("--verbose", None, text("say more")),
    ("--no-color", None, text("there are no colours here")),
    ("--debug", None, text("show the traceback of an error")),
    ("--lang", "LANG", text("language of messages: en or zh")),
    ("--version", None, text("show the version")),
    ("--help", None, text("show this")),
)  # type: OptionTable

SHORT_OPTIONS = {"--jobs": "-j", "--quiet": "-q", "--verbose": "-v", "--version": "-V", "--help": "-h"}
SUBCOMMANDS = ("install", "verify", "rollback", "inspect", "probe")  # the first argument of offlinepack.pyz
_REFUSED = "This computer refused: {subject}: {reason}."
_BUG = "This is a bug in offlinepack: {subject}: {reason}."
_ALTERED = "{subject} is not as it was installed there: {files}."
_SIGNED = "{what}: {count} files, complete and unaltered since packing, and signed."
_UNSIGNED = (
    "{what}: {count} files, complete and unaltered since packing; who packed it was not checked (--verify-key FILE).")


def main(argv, folder):  # type: (Sequence[str], Optional[str]) -> int
    """Run one command line for the bundle in `folder` (None: offlinepack.pyz) and return the exit code."""
    voice, options = Reporter(), None  # type: Reporter, Any
    try:
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.default_int_handler)
        options = parse_options(argv, folder)
        voice = Reporter(options.verbose - options.quiet, options.json, options.lang)
        return voice.close(_run_command(options, voice), options.report)
    except OfflinepackError as bad:
        code, findings = bad.exit_code, list(bad.findings)  # type: int, List[Any]
    except KeyboardInterrupt:
        facts = {"left": voice.describe_outcome()}  # type: Dict[str, Any]
        code, findings = EXIT_INTERRUPTED, [error("interrupted", "install", "Interrupted. {left}", **facts)]
    except OSError as refused:
        facts = {"reason": refused.strerror or refused, "left": voice.describe_outcome()}
        code = ComputerError.exit_code
        findings = [error("computer", refused.filename or "disk", _REFUSED, "{left}", **facts)]
    except Exception as bug:
        code = OfflinepackError.exit_code
        findings = [error("bug", type(bug).__name__, _BUG, "Report it with what --debug says.", reason=bug)]
        if "--debug" in argv:
            traceback.print_exc()
    voice.print_findings(findings)
    return voice.close(code, options.report if options else None)


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message):  # type: (str) -> NoReturn
        raise UsageError(error(
            "usage", "options", "This cannot be meant: {reason}.", "--help lists the options.", reason=message))


def parse_options(argv, folder):  # type: (Sequence[str], Optional[str]) -> Any
    """Parse a command line, with the defaults from OFFLINEPACK_*, or raise UsageError."""
    argv, command = list(argv), ""
    if argv and argv[0] in SUBCOMMANDS:
        command = argv.pop(0)
    parser = _ArgumentParser(add_help=False)
    if folder is None and command in ("install", "verify", "inspect"):
        parser.add_argument("folder", metavar="BUNDLE", nargs="?" if command == "inspect" else None)
    for option in (*INSTALL_OPTIONS, *OTHER_OPTIONS):
        name, variable = option[0], "OFFLINEPACK_" + option[0][2:].replace("-", "_").upper()
        default = os.environ.get(variable, "") if option in INSTALL_OPTIONS else ""
        facts = {"default": default or None}  # type: Dict[str, Any]
        if name in ("--quiet", "--verbose"):
            facts = {"action": "count", "default": 0}
        elif name == "--verify-key":
            facts = {"action": "append", "default": default.split() or None}
        elif not option[1]:
            facts = {"action": "store_true", "default": default.lower() in ("1", "true", "yes", "on")}
        parser.add_argument(*filter(None, (name, SHORT_OPTIONS.get(name))), **facts)
    options = parser.parse_args(argv)
    named = getattr(options, "folder", None)
    options.folder = folder or (os.path.abspath(named) if named else None)
    is_venv = named and (os.path.isfile(os.path.join(named, "pyvenv.cfg")) or os.path.isdir(named + ".d"))
    if named and os.path.lexists(os.path.join(named, MANIFEST)):  # a bundle may contain a pyvenv.cfg too
        is_venv = False
    options.shown = command == "inspect" and named and not is_venv
    options.venv = named if command == "inspect" and is_venv else options.venv
    if command and command != "install":
        setattr(options, command, True)
    for name, allowed in (("engine", ("auto", "pip", "fast")), ("lang", ("en", "zh"))):
        if getattr(options, name) and getattr(options, name) not in allowed:
            raise UsageError(error("usage", "--" + name, "{subject} is one of: {allowed}.", allowed=allowed))
    if options.jobs is not None and not options.jobs.isdigit():
        raise UsageError(error("usage", "--jobs", "{subject} takes a number."))
    return options


def _run_command(options, voice):  # type: (Any, Reporter) -> int
    modes = ("help", "version", "probe", "rollback", "inspect", "verify")
    voice.facts["command"] = next((mode for mode in modes if getattr(options, mode)), "install")
    if options.help:
        usage = text("python3 install.py [options]")
        if options.folder is None:
            usage = text("python3 offlinepack.pyz install|verify|inspect|rollback|probe [BUNDLE] [options]")
        voice.print_result(usage)
        for name, value, meaning in (*INSTALL_OPTIONS, *OTHER_OPTIONS):
            option = "  %-2s %s %s" % (SHORT_OPTIONS.get(name, ""), name, value or "")
            voice.print_result(text("{option} {help}", option=option.ljust(27), help=meaning))
    elif options.version:
        voice.print_result(text("offlinepack {version}", version=VERSION))
    elif options.probe:
        interpreter.main()
    elif options.rollback:
        return _roll_back(options, voice)
    elif options.inspect and not options.shown:
        return _inspect(options, voice)
    elif options.folder is None:
        raise UsageError(error(
            "usage", "offlinepack.pyz", "{subject} holds no bundle.", "These work without one: {words}.",
            words=SUBCOMMANDS[2:]))
    elif options.verify or options.shown:
        manifest = read_folder_manifest(options.folder)
        voice.facts.update(bundle=manifest.name, version=manifest.version, sequence=manifest.sequence)
        verify_bundle(options, manifest, voice, contents=True)
        for target in manifest.targets if options.shown else ():
            releases = ["%s %s" % (step.name, step.version) for step in target.install]
            voice.print_result(text("{name} ({tag}): {held}", name=target.name, tag=target.tag, held=releases))
        facts = {"what": manifest.folder, "count": len(manifest.files)}
        voice.print_result(text(_SIGNED if voice.facts.get("signed") else _UNSIGNED, **facts))
    else:
        return install_bundle(options, voice)
    return 0


def _load_environment(options):  # type: (Any) -> Tuple[Any, Dict[str, Any]]
    place = locate_environment(options.venv or _find_own_environment() or os.environ.get("VIRTUAL_ENV") or ".venv")
    return place, load_state(place)


def _roll_back(options, voice):  # type: (Any, Reporter) -> int
    place, state = _load_environment(options)
    voice.facts.update(venv=place.venv, generation=state["current"], former=state["former"])
    if options.list:
        voice.facts["generations"] = state["generations"]
        marks = {state["current"]: text("current"), state["former"]: text("former")}
        for name, record in sorted(state["generations"].items(), key=lambda pair: str(pair[1]["installed"])):
            facts = {"bundle": record["bundle"], "version": record["version"] or "", "installed": record["installed"]}
            voice.print_result(text(
                "{id}  {bundle} {version}  {installed}  {mark}", id=name, mark=marks.get(name, ""), **facts))
        return 0
    chosen = options.to or state["former"]
    if place.is_foreign or chosen not in state["generations"] or not os.path.isdir(place.get_root(chosen)):
        raise UsageError(error(
            "no-former", place.venv, "There is no such release to go back to in {subject}.",
            "--rollback --list shows what there is."))
    with lock_environment(place):
        voice.report_dir = place.get_path("reports")
        state = load_state(place)
        generation, before = state["generations"][chosen], state["generations"].get(state["current"], {})
        bad = find_alterations(place.get_root(chosen), generation)
        if bad:
            raise IntegrityError(*[
                error("altered", name, _ALTERED, "Install that bundle again.", files=bad[name][:5])
                for name in sorted(bad)])
        used = find_processes(place)
        if chosen != state["current"]:
            sync_file_system(place.generations_dir)
            switch_generation(place, chosen)
            state.update(current=chosen, former=state["current"])
            voice.facts.update(changed=True, generation=chosen, former=state["former"])
            write_json(place.get_path("state.json"), state)
        facts = {"venv": place.venv, "old": format_release(before), "new": format_release(generation)}
        voice.print_result(text("{venv}: back from {old} to {new}.", **facts))
        report_processes(voice, used, state)
    return 0


def _find_own_environment():  # type: () -> Optional[str]
    """Return the environment that this program belongs to, if it is <venv>.d/offlinepack.pyz."""
    folder, name = os.path.split(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    is_kept = name == ZIPAPP_NAME and os.path.isfile(os.path.join(folder, "state.json"))
    return folder[:-2] if is_kept and folder.endswith(".d") else None


def _inspect(options, voice):  # type: (Any, Reporter) -> int
    place, state = _load_environment(options)
    generation = state["generations"].get(state["current"])
    if not generation:
        raise UsageError(error("not-installed-here", place.venv, "offlinepack has installed nothing in {subject}."))
    bad = find_alterations(place.get_root(state["current"]), generation)
    voice.facts.update(generation, venv=place.venv, generation=state["current"], former=state["former"], altered=bad)
    facts = {key: generation[key] for key in ("installed", "python")}
    voice.print_result(text(
        "{venv}: {release}, since {installed}; generation {generation}, {python}.", venv=place.venv,
        release=format_release(generation), generation=state["current"], **facts))
    if not generation["whole"]:
        voice.print_result(text("It was not whole when it was installed (--keep-going); the same command tries again."))
    voice.print_result(*describe_alterations(bad))
    if not bad:
        voice.print_result(text("{count} distributions, unaltered.", count=len(generation["distributions"])))
    return 0
