"""The target side's command line: options, what they ask for, and the one place where errors become exit codes."""

import argparse
import os
import signal
import traceback
from typing import Any, List, NoReturn, Optional, Sequence, Tuple

from . import environment, installation, installed, interpreter, report, verify
from .errors import BUG, DONE, INTERRUPTED, ComputerError, IntegrityError, OfflinepackError, UsageError
from .errors import Text, error, text  # isort: skip

VERSION = "0.1.0"
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
)  # type: Sequence[Tuple[str, Optional[str], Text]]
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
)  # type: Sequence[Tuple[str, Optional[str], Text]]
SHORT = {"--jobs": "-j", "--quiet": "-q", "--verbose": "-v", "--version": "-V", "--help": "-h"}


def main(argv, folder):  # type: (Sequence[str], Optional[str]) -> int
    """Run one command line against the bundle in `folder` (none: offlinepack.pyz); the exit code."""
    voice, options = report.Voice(), None  # type: report.Voice, Any
    try:
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _interrupted)
        options = _options(argv)
        voice = report.Voice(options.verbose - options.quiet, options.json, options.lang)
        return voice.close(_mode(options, folder, voice), options.report)
    except OfflinepackError as bad:
        code, findings = bad.exit_code, list(bad.findings)
    except KeyboardInterrupt:
        code, findings = INTERRUPTED, [error("interrupted", "install", "Interrupted; nothing was changed.")]
    except OSError as refused:
        said = "{subject}: {reason}. Nothing was changed."
        advice = "This computer refused it. Put that right and run the same command again."
        code, about = ComputerError.exit_code, refused.filename or "disk"
        findings = [error("computer", about, said, advice, reason=refused.strerror or str(refused))]
    except Exception as bug:
        said = "This is a bug in offlinepack: {subject}: {reason}."
        advice = "Run it again with --debug and report what it says."
        code, findings = BUG, [error("bug", type(bug).__name__, said, advice, reason=bug)]
    if "--debug" in argv:
        traceback.print_exc()
    voice.findings(findings)
    return voice.close(code, options.report if options else None)


def _interrupted(*_):  # type: (Any) -> NoReturn
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # type: (str) -> NoReturn
        raise UsageError(error("usage", "options", "These options cannot be used: {reason}.", "--help lists them.", reason=message))


def _options(argv):  # type: (Sequence[str]) -> Any
    parser = _Parser(add_help=False)
    for name, value, _ in (*INSTALL, *OTHERS):
        names, default = [name] + ([SHORT[name]] if name in SHORT else []), None  # type: List[str], Any
        if (name, value, _) in INSTALL:
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
    options = parser.parse_args(list(argv))
    for name, given, allowed in (("--engine", options.engine, ("auto", "pip", "fast")), ("--lang", options.lang, ("en", "zh"))):
        if given and given not in allowed:
            raise UsageError(error("usage", name, "{subject} is one of: {allowed}.", allowed=allowed))
    if options.require_signature and not options.verify_key:
        raise UsageError(error("usage", "--require-signature", "{subject} needs --verify-key: who must have signed?"))
    return options


def _mode(options, folder, voice):  # type: (Any, Optional[str], report.Voice) -> int
    if options.help:
        voice.result(text("install.py [options]"))
        rows = [((SHORT.get(n, "  ") + " " + n + (" " + v if v else "")).ljust(26), t.say(voice.words)) for n, v, t in (*INSTALL, *OTHERS)]
        voice.result(*report.table(rows))
    elif options.version:
        voice.result(text("offlinepack {version}", version=VERSION))
    elif options.probe:
        return interpreter.main()
    elif options.rollback:
        return _rollback(options, voice)
    elif options.inspect:
        return _inspect(options, voice)
    elif folder is None:
        raise UsageError(error("usage", "offlinepack.pyz", "{subject} alone holds no bundle: --rollback, --inspect and --probe work."))
    elif options.verify:
        return _verify(options, folder, voice)
    else:
        return installation.install(options, folder, voice)
    return DONE


def _verify(options, folder, voice):  # type: (Any, str, report.Voice) -> int
    manifest = verify.open_folder(folder)
    installation.check(options, folder, manifest, voice)
    said = "{what}: {count} files, complete and unaltered since packing; who packed it was not checked (--verify-key FILE)."
    voice.result(text(said, what=manifest.folder, count=len(manifest.files)))
    return DONE


def _rollback(options, voice):  # type: (Any, report.Voice) -> int
    place = environment.locate(options.venv or os.environ.get("VIRTUAL_ENV") or ".venv")
    state = environment.read_state(place)
    if options.list:
        marks = {state["current"]: "current", state["former"]: "former"}
        for name, one in sorted(state["generations"].items(), key=lambda pair: str(pair[1]["installed"])):
            line = [name, one["bundle"], one["version"] or "-", one["installed"], marks.get(name, "")]
            voice.result(*report.table([line]))
        voice.facts.update(venv=place.venv, **state)
        return DONE
    wanted = options.to or state["former"]
    if place.foreign or wanted not in state["generations"] or not os.path.isdir(place.root(wanted)):
        said, advice = "There is no release to go back to in {subject}.", "--rollback --list shows those that are there."
        raise UsageError(error("no-former", place.venv, said, advice))
    with environment.hold(place):
        state = environment.read_state(place)
        known, before = state["generations"][wanted], state["generations"].get(state["current"], {})
        bad = installed.altered(place.root(wanted), known["distributions"], known["records"])
        if bad:
            said, advice = "{subject} in the release before is not as it was installed: {files}.", "Install its bundle again."
            raise IntegrityError(*[error("altered", name, said, advice, files=files[:5]) for name, files in bad.items()])
        if wanted != state["current"]:
            environment.sync(place.beside)
            environment.switch(place, wanted)
            state.update(current=wanted, former=state["current"])
            environment.write_json(place.path("state.json"), state)
            voice.facts.update(changed=True)
        voice.facts.update(venv=place.venv, generation=wanted, former=state["former"])
        names = {"new": "%s %s" % (known["bundle"], known["version"] or ""), "old": "%s %s" % (before.get("bundle"), before.get("version") or "")}
        voice.result(text("{venv}: back from {old} to {new}.", venv=place.venv, **names))
        for pid, name, shown in environment.users(place):
            if wanted not in shown:
                voice.result(text("Process {pid} ({name}) still runs the release before: restart it.", pid=pid, name=name))
    return DONE


def _inspect(options, voice):  # type: (Any, report.Voice) -> int
    place = environment.locate(options.venv or os.environ.get("VIRTUAL_ENV") or ".venv")
    state = environment.read_state(place)
    known = state["generations"].get(state["current"])
    if not known:
        raise UsageError(error("not-installed-here", place.venv, "Nothing was installed in {subject} by offlinepack."))
    bad = installed.altered(place.root(state["current"]), known["distributions"], known["records"])
    voice.facts.update(venv=place.venv, generation=state["current"], former=state["former"], altered=bad, **known)
    line = "{venv}: {bundle} {version}, since {installed}, generation {generation}, Python {python}."
    facts = dict(known, venv=place.venv, generation=state["current"], version=known["version"] or "")
    voice.result(text(line, **{name: facts[name] for name in ("venv", "bundle", "version", "installed", "generation", "python")}))
    voice.result(*[text("Altered since: {name}: {files}", name=name, files=files[:5]) for name, files in bad.items()])
    if not bad:
        voice.result(text("{count} distributions, unaltered.", count=len(known["distributions"])))
    return DONE
