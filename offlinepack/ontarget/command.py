"""Run the command line of the target side: parse options, run one command, turn errors into exit codes."""

import argparse
import os
import signal
import traceback
from typing import Any, List, NoReturn, Optional, Sequence, Tuple

from . import interpreter
from .errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    ComputerError,
    IntegrityError,
    OfflinepackError,
    UsageError,
    error,
    text,
)
from .files import sync_file_system, write_json
from .generations import find_processes, load_state, locate_environment, lock_environment, switch_generation
from .manifest import MANIFEST
from .report import Reporter
from .transaction import describe_alterations, describe_outcome, install_bundle, report_processes, verify_bundle
from .venv import find_alterations
from .verify import read_folder_manifest
from .zipapp import ZIPAPP_NAME

VERSION = "0.1.0"
OptionTable = Sequence[Tuple[str, Optional[str], Any]]

# Option, its value's name (None: a switch), help. Those of install are OFFLINEPACK_<NAME> too; the command line wins.
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
SUBCOMMANDS = ("install", "verify", "rollback", "inspect", "probe")
"""offlinepack.pyz takes one of these first; install and verify then the folder of a bundle, inspect that or --venv"""


def main(argv, folder):  # type: (Sequence[str], Optional[str]) -> int
    """Run one command line against the bundle in `folder` (none: offlinepack.pyz); the exit code."""
    voice, options = Reporter(), None  # type: Reporter, Any
    try:
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _raise_interrupt)
        options = parse_options(argv, folder)
        voice = Reporter(options.verbose - options.quiet, options.json, options.lang)
        return voice.close(_run_command(options, voice), options.report)
    except OfflinepackError as bad:
        code, findings = bad.exit_code, list(bad.findings)  # type: int, List[Any]
    except KeyboardInterrupt:
        outcome = describe_outcome(voice)
        code, findings = EXIT_INTERRUPTED, [error("interrupted", "install", "Interrupted. {left}", left=outcome)]
    except OSError as refused:
        code, about = ComputerError.exit_code, refused.filename or "disk"
        reason = refused.strerror or str(refused)
        outcome = describe_outcome(voice)
        findings = [error(
            "computer", about, "This computer refused: {subject}: {reason}.", "{left}", reason=reason, left=outcome)]
    except Exception as bug:
        code, findings = EXIT_BUG, [error(
            "bug", type(bug).__name__, "This is a bug in offlinepack: {subject}: {reason}.",
            "Report it with what --debug says.", reason=bug)]
        if "--debug" in argv:
            traceback.print_exc()
    voice.print_findings(findings)
    return voice.close(code, options.report if options else None)


def _raise_interrupt(*_):  # type: (Any) -> NoReturn
    raise KeyboardInterrupt


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message):  # type: (str) -> NoReturn
        raise UsageError(error(
            "usage", "options", "This cannot be meant: {reason}.", "--help lists the options.", reason=message))


def parse_options(argv, folder):  # type: (Sequence[str], Optional[str]) -> Any
    """What a command line asks for, with OFFLINEPACK_* of this machine; UsageError."""
    argv, command = list(argv), ""
    if argv and argv[0] in SUBCOMMANDS:
        command = argv.pop(0)
    parser = _ArgumentParser(add_help=False)
    if folder is None and command in ("install", "verify", "inspect"):
        parser.add_argument("folder", metavar="BUNDLE", nargs="?" if command == "inspect" else None)
    for name, value, _ in (*INSTALL_OPTIONS, *OTHER_OPTIONS):
        names, default = [name] + ([SHORT_OPTIONS[name]] if name in SHORT_OPTIONS else []), None  # type: List[str], Any
        if any(name == option for option, _, _ in INSTALL_OPTIONS):
            default = os.environ.get("OFFLINEPACK_" + name[2:].replace("-", "_").upper()) or None
        if name in ("--quiet", "--verbose"):
            parser.add_argument(*names, action="count", default=0)
        elif name == "--verify-key":
            parser.add_argument(*names, action="append", default=default.split() if default else None)
        elif value:
            parser.add_argument(*names, default=default)
        else:
            on = (default or "").lower() in ("1", "true", "yes", "on")
            parser.add_argument(*names, action="store_true", default=on)
    options = parser.parse_args(argv)
    named = getattr(options, "folder", None)
    options.folder = folder or (os.path.abspath(named) if named else None)
    lived_in = named and (os.path.isfile(os.path.join(named, "pyvenv.cfg")) or os.path.isdir(named + ".d"))
    if named and os.path.lexists(os.path.join(named, MANIFEST)):  # whatever else was planted in a bundle
        lived_in = False
    options.shown = command == "inspect" and named and not lived_in
    options.venv = named if command == "inspect" and lived_in else options.venv
    if command and command != "install":
        setattr(options, command, True)
    checks = (("--engine", options.engine, ("auto", "pip", "fast")), ("--lang", options.lang, ("en", "zh")))
    for name, argument, allowed in checks:
        if argument and argument not in allowed:
            raise UsageError(error("usage", name, "{subject} is one of: {allowed}.", allowed=allowed))
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
            releases = ["%s %s" % (distribution.name, distribution.version) for distribution in target.install]
            voice.print_result(text("{name} ({tag}): {held}", name=target.name, tag=target.tag, held=releases))
        facts = {"what": manifest.folder, "count": len(manifest.files)}
        if voice.facts.get("signed"):
            voice.print_result(text("{what}: {count} files, complete and unaltered since packing, and signed.", **facts))
        else:
            voice.print_result(text(
                "{what}: {count} files, complete and unaltered since packing; who packed it was not checked "
                "(--verify-key FILE).", **facts))
    else:
        return install_bundle(options, voice)
    return EXIT_SUCCESS


def _roll_back(options, voice):  # type: (Any, Reporter) -> int
    place = locate_environment(options.venv or _find_own_environment() or os.environ.get("VIRTUAL_ENV") or ".venv")
    state = load_state(place)
    voice.facts.update(venv=place.venv, generation=state["current"], former=state["former"])
    if options.list:
        voice.facts["generations"] = state["generations"]
        marks = {state["current"]: text("current"), state["former"]: text("former")}
        for name, record in sorted(state["generations"].items(), key=lambda pair: str(pair[1]["installed"])):
            facts = {"bundle": record["bundle"], "version": record["version"] or "", "installed": record["installed"]}
            voice.print_result(text(
                "{id}  {bundle} {version}  {installed}  {mark}", id=name, mark=marks.get(name, ""), **facts))
        return EXIT_SUCCESS
    chosen = options.to or state["former"]
    if place.is_foreign or chosen not in state["generations"] or not os.path.isdir(place.get_root(chosen)):
        raise UsageError(error(
            "no-former", place.venv, "There is no such release to go back to in {subject}.",
            "--rollback --list shows what there is."))
    with lock_environment(place):
        voice.report_dir = place.get_path("reports")
        state = load_state(place)
        generation, before = state["generations"][chosen], state["generations"].get(state["current"])
        bad = find_alterations(place.get_root(chosen), generation)
        if bad:
            raise IntegrityError(*[error(
                "altered", finding, "{subject} is not as it was installed there: {files}.", "Install that bundle again.",
                files=bad[finding][:5]) for finding in sorted(bad)])
        used = find_processes(place)
        if chosen != state["current"]:
            sync_file_system(place.generations_dir)
            switch_generation(place, chosen)
            state.update(current=chosen, former=state["current"])
            voice.facts.update(changed=True, generation=chosen, former=state["former"])
            write_json(place.get_path("state.json"), state)
        voice.print_result(text(
            "{venv}: back from {old} to {new}.", venv=place.venv, old=_format_release(before), new=_format_release(generation)))
        report_processes(voice, used, state)
    return EXIT_SUCCESS


def _find_own_environment():  # type: () -> Optional[str]
    """The environment that this very program lies beside: <venv>.d/offlinepack.pyz."""
    folder, name = os.path.split(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    is_kept = name == ZIPAPP_NAME and os.path.isfile(os.path.join(folder, "state.json"))
    return folder[:-2] if is_kept and folder.endswith(".d") else None


def _format_release(record):  # type: (Any) -> str
    return " ".join(part for part in (record["bundle"], record["version"]) if part) if record else "?"


def _inspect(options, voice):  # type: (Any, Reporter) -> int
    place = locate_environment(options.venv or _find_own_environment() or os.environ.get("VIRTUAL_ENV") or ".venv")
    state = load_state(place)
    generation = state["generations"].get(state["current"])
    if not generation:
        raise UsageError(error("not-installed-here", place.venv, "offlinepack has installed nothing in {subject}."))
    bad = find_alterations(place.get_root(state["current"]), generation)
    voice.facts.update(generation, venv=place.venv, generation=state["current"], former=state["former"], altered=bad)
    facts = {"installed": generation["installed"], "generation": state["current"], "python": generation["python"]}
    voice.print_result(text(
        "{venv}: {release}, since {installed}; generation {generation}, {python}.",
        venv=place.venv, release=_format_release(generation), **facts))
    if not generation["whole"]:
        voice.print_result(text("It was not whole when it was installed (--keep-going); the same command tries again."))
    voice.print_result(*describe_alterations(bad))
    if not bad:
        voice.print_result(text("{count} distributions, unaltered.", count=len(generation["distributions"])))
    return EXIT_SUCCESS
