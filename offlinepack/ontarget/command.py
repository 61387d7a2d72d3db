"""The target side's command line: options, what they ask for, and the one place where errors become exit codes."""

import argparse
import os
import signal
import traceback
from typing import Any, List, NoReturn, Optional, Sequence, Tuple

from . import environment, installation, interpreter, report, seed, verify
from .errors import BUG, DONE, INTERRUPTED, ComputerError, IntegrityError, OfflinepackError, UsageError, error, text
from .manifest import MANIFEST
from .program import PROGRAM

VERSION = "0.1.0"
Options = Sequence[Tuple[str, Optional[str], Any]]
# Option, its value's name (None: a switch), help. Those of install are OFFLINEPACK_<NAME> too; the command line wins.
INSTALL = (
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
)  # type: Options
OTHERS = (
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
)  # type: Options
SHORT = {"--jobs": "-j", "--quiet": "-q", "--verbose": "-v", "--version": "-V", "--help": "-h"}
WORDS = ("install", "verify", "rollback", "inspect", "probe")
"""offlinepack.pyz takes one of these first; install and verify then the folder of a bundle, inspect that or --venv"""


def main(argv, folder):  # type: (Sequence[str], Optional[str]) -> int
    """Run one command line against the bundle in `folder` (none: offlinepack.pyz); the exit code."""
    voice, options = report.Voice(), None  # type: report.Voice, Any
    try:
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _interrupted)
        options = options_of(argv, folder)
        voice = report.Voice(options.verbose - options.quiet, options.json, options.lang)
        return voice.close(_run(options, voice), options.report)
    except OfflinepackError as bad:
        code, findings = bad.exit_code, list(bad.findings)  # type: int, List[Any]
    except KeyboardInterrupt:
        left = installation.left(voice)
        code, findings = INTERRUPTED, [error("interrupted", "install", "Interrupted. {left}", left=left)]
    except OSError as refused:
        code, about = ComputerError.exit_code, refused.filename or "disk"
        reason = refused.strerror or str(refused)
        left = installation.left(voice)
        findings = [error(
            "computer", about, "This computer refused: {subject}: {reason}.", "{left}", reason=reason, left=left)]
    except Exception as bug:
        code, findings = BUG, [error(
            "bug", type(bug).__name__, "This is a bug in offlinepack: {subject}: {reason}.",
            "Report it with what --debug says.", reason=bug)]
        if "--debug" in argv:
            traceback.print_exc()
    voice.findings(findings)
    return voice.close(code, options.report if options else None)


def _interrupted(*_):  # type: (Any) -> NoReturn
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # type: (str) -> NoReturn
        raise UsageError(error(
            "usage", "options", "This cannot be meant: {reason}.", "--help lists the options.", reason=message))


def options_of(argv, folder):  # type: (Sequence[str], Optional[str]) -> Any
    """What a command line asks for, with OFFLINEPACK_* of this machine; UsageError."""
    argv, asked = list(argv), ""
    if argv and argv[0] in WORDS:
        asked = argv.pop(0)
    parser = _Parser(add_help=False)
    if folder is None and asked in ("install", "verify", "inspect"):
        parser.add_argument("folder", metavar="BUNDLE", nargs="?" if asked == "inspect" else None)
    for name, value, _ in (*INSTALL, *OTHERS):
        names, default = [name] + ([SHORT[name]] if name in SHORT else []), None  # type: List[str], Any
        if any(name == one for one, _, _ in INSTALL):
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
    options.shown = asked == "inspect" and named and not lived_in
    options.venv = named if asked == "inspect" and lived_in else options.venv
    if asked and asked != "install":
        setattr(options, asked, True)
    checks = (("--engine", options.engine, ("auto", "pip", "fast")), ("--lang", options.lang, ("en", "zh")))
    for name, given, allowed in checks:
        if given and given not in allowed:
            raise UsageError(error("usage", name, "{subject} is one of: {allowed}.", allowed=allowed))
    if options.jobs is not None and not options.jobs.isdigit():
        raise UsageError(error("usage", "--jobs", "{subject} takes a number."))
    return options


def _run(options, voice):  # type: (Any, report.Voice) -> int
    modes = ("help", "version", "probe", "rollback", "inspect", "verify")
    voice.facts["command"] = next((one for one in modes if getattr(options, one)), "install")
    if options.help:
        usage = text("python3 install.py [options]")
        if options.folder is None:
            usage = text("python3 offlinepack.pyz install|verify|inspect|rollback|probe [BUNDLE] [options]")
        voice.result(usage)
        for name, value, meaning in (*INSTALL, *OTHERS):
            option = "  %-2s %s %s" % (SHORT.get(name, ""), name, value or "")
            voice.result(text("{option} {help}", option=option.ljust(27), help=meaning))
    elif options.version:
        voice.result(text("offlinepack {version}", version=VERSION))
    elif options.probe:
        interpreter.main()
    elif options.rollback:
        return _rollback(options, voice)
    elif options.inspect and not options.shown:
        return _inspect(options, voice)
    elif options.folder is None:
        raise UsageError(error(
            "usage", "offlinepack.pyz", "{subject} holds no bundle.", "These work without one: {words}.",
            words=WORDS[2:]))
    elif options.verify or options.shown:
        manifest = verify.open_folder(options.folder)
        voice.facts.update(bundle=manifest.name, version=manifest.version, sequence=manifest.sequence)
        installation.check(options, manifest, voice, contents=True)
        for target in manifest.targets if options.shown else ():
            held = ["%s %s" % (one.name, one.version) for one in target.install]
            voice.result(text("{name} ({tag}): {held}", name=target.name, tag=target.tag, held=held))
        facts = {"what": manifest.folder, "count": len(manifest.files)}
        if voice.facts.get("signed"):
            voice.result(text("{what}: {count} files, complete and unaltered since packing, and signed.", **facts))
        else:
            voice.result(text(
                "{what}: {count} files, complete and unaltered since packing; who packed it was not checked "
                "(--verify-key FILE).", **facts))
    else:
        return installation.install(options, voice)
    return DONE


def _rollback(options, voice):  # type: (Any, report.Voice) -> int
    place = environment.locate(options.venv or _beside() or os.environ.get("VIRTUAL_ENV") or ".venv")
    state = environment.read_state(place)
    voice.facts.update(venv=place.venv, generation=state["current"], former=state["former"])
    if options.list:
        voice.facts["generations"] = state["generations"]
        marks = {state["current"]: text("current"), state["former"]: text("former")}
        for name, one in sorted(state["generations"].items(), key=lambda pair: str(pair[1]["installed"])):
            facts = {"bundle": one["bundle"], "version": one["version"] or "", "installed": one["installed"]}
            voice.result(text(
                "{id}  {bundle} {version}  {installed}  {mark}", id=name, mark=marks.get(name, ""), **facts))
        return DONE
    wanted = options.to or state["former"]
    if place.foreign or wanted not in state["generations"] or not os.path.isdir(place.root(wanted)):
        raise UsageError(error(
            "no-former", place.venv, "There is no such release to go back to in {subject}.",
            "--rollback --list shows what there is."))
    with environment.hold(place):
        voice.reports = place.path("reports")
        state = environment.read_state(place)
        known, before = state["generations"][wanted], state["generations"].get(state["current"])
        bad = seed.altered(place.root(wanted), known)
        if bad:
            raise IntegrityError(*[error(
                "altered", one, "{subject} is not as it was installed there: {files}.", "Install that bundle again.",
                files=bad[one][:5]) for one in sorted(bad)])
        used = environment.users(place)
        if wanted != state["current"]:
            environment.sync(place.beside)
            environment.switch(place, wanted)
            state.update(current=wanted, former=state["current"])
            voice.facts.update(changed=True, generation=wanted, former=state["former"])
            environment.write_json(place.path("state.json"), state)
        voice.result(text(
            "{venv}: back from {old} to {new}.", venv=place.venv, old=_release(before), new=_release(known)))
        installation.say_users(voice, used, state)
    return DONE


def _beside():  # type: () -> Optional[str]
    """The environment that this very program lies beside: <venv>.d/offlinepack.pyz."""
    folder, name = os.path.split(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    kept = name == PROGRAM and os.path.isfile(os.path.join(folder, "state.json"))
    return folder[:-2] if kept and folder.endswith(".d") else None


def _release(record):  # type: (Any) -> str
    return " ".join(one for one in (record["bundle"], record["version"]) if one) if record else "?"


def _inspect(options, voice):  # type: (Any, report.Voice) -> int
    place = environment.locate(options.venv or _beside() or os.environ.get("VIRTUAL_ENV") or ".venv")
    state = environment.read_state(place)
    known = state["generations"].get(state["current"])
    if not known:
        raise UsageError(error("not-installed-here", place.venv, "offlinepack has installed nothing in {subject}."))
    bad = seed.altered(place.root(state["current"]), known)
    voice.facts.update(known, venv=place.venv, generation=state["current"], former=state["former"], altered=bad)
    facts = {"installed": known["installed"], "generation": state["current"], "python": known["python"]}
    voice.result(text(
        "{venv}: {release}, since {installed}; generation {generation}, {python}.",
        venv=place.venv, release=_release(known), **facts))
    if not known["whole"]:
        voice.result(text("It was not whole when it was installed (--keep-going); the same command tries again."))
    voice.result(*installation.alterations(bad))
    if not bad:
        voice.result(text("{count} distributions, unaltered.", count=len(known["distributions"])))
    return DONE
