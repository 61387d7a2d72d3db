"""The commands by name; each one's file is imported when it is called. Here errors become sentences and exit codes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import click

from offlinepack.errors import ComputerError, Finding, OfflinepackError, error, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offlinepack.console import Console

COMMANDS = {
    "build": ("build", "Pack requirements and all that they need into one bundle"),
    "lock": ("build", "Write the lock of each target and pack nothing"),
    "install": ("machine", "Install a bundle on this machine, without a network"),
    "rollback": ("machine", "Go back to the release that ran before"),
    "verify": ("bundle", "Check that a bundle is complete and unaltered"),
    "inspect": ("bundle", "Tell what a bundle holds, or what runs in an environment"),
    "diff": ("bundle", "Tell what changed between two bundles"),
    "report": ("evidence", "Write the page for the person who has to say yes"),
    "rehearse": ("bundle", "Know before the crossing that each target will take the bundle"),
    "sign": ("bundle", "Sign a bundle with an SSH key"),
    "merge": ("bundle", "Join bundles that were made for different targets"),
    "targets": ("machine", "List the machines that can be packed for; show one's facts"),
    "standalone": ("machine", "Write the target side as one file, for machines that keep trusted code"),
    "probe": ("machine", "Tell the facts of this machine, or write the script that does"),
    "init": ("build", "Write a project's settings, after a look at it"),
}
"""name -> (file below cli/, one line of help), in the order of the help page"""

MEANT = {
    "pack": "build",
    "download": "build",
    "create": "build",
    "wheel": "build",
    "freeze": "lock",
    "compile": "lock",
    "unpack": "install",
    "deploy": "install",
    "check": "verify",
    "show": "inspect",
    "split": "build",
    "join": "merge",
}
"""what people type -> what they mean"""

COMPLETE = "_OFFLINEPACK_COMPLETE"
"""the variable with which a shell asks for completion, as click has it: bash_source, zsh_source, fish_source"""


class Command(click.Command):
    """A command that takes the global options behind its name too, and keeps its rarer options off the first page."""

    begun: Callable[[], None] = staticmethod(lambda: None)
    """called when a command's work begins"""

    def invoke(self, ctx: click.Context) -> Any:
        """Its work."""
        self.begun()
        return super().invoke(ctx)

    def __init__(self, *args: Any, **named: Any) -> None:
        named.setdefault("context_settings", {}).setdefault("help_option_names", ["-h", "--help"])
        super().__init__(*args, **named)
        self.params += [*_global_options(), _help_all()]


def _settings(command: str, args: list[str], parent: click.Context) -> dict[str, Any]:
    said: dict[str, Any] = parent.find_root().meta.get("offlinepack.global", {})
    given = said.get("config") or _value(args, "--config") or os.environ.get("OFFLINEPACK_CONFIG")
    folder = _value(args, "--project") or "."
    if not given and not any(
        os.path.isfile(os.path.join(folder, one)) for one in ("offlinepack.toml", "pyproject.toml")
    ):
        return {}
    from pathlib import Path

    from offlinepack.cli import settings

    path = settings.find(Path(folder), given)
    if path is None or not settings.read(path):
        return {}
    parent.meta["offlinepack.indexes"] = settings.indexes(path)
    parent.meta["offlinepack.policy"] = settings.policy(path)
    root = click.Context(cli)
    commands = {name: cli.get_command(root, name) for name in COMMANDS}
    return settings.defaults(path, {name: one for name, one in commands.items() if one}, command, named=bool(given))


def _value(args: Sequence[str], option: str) -> str | None:
    """What an option is given on this command line, before click has read it."""
    for at, one in enumerate(args):
        if one.startswith(option + "="):
            return one[len(option) + 1 :]
        if one == option and at + 1 < len(args):
            return args[at + 1]
    return None


class Option(click.Option):
    """An option; `rare` ones are listed by --help-all only. Each reads OFFLINEPACK_<LONG_OPTION>."""

    def __init__(self, declarations: Sequence[str], *, rare: bool = False, **named: Any) -> None:
        super().__init__(declarations, **named)
        self.rare = rare
        self.hidden = rare and COMPLETE not in os.environ
        if not self.envvar:
            longest = max((one for one in self.opts if one.startswith("--")), key=len, default="")
            self.envvar = "OFFLINEPACK_" + longest.lstrip("-").replace("-", "_").upper()


def _help_all() -> click.Option:
    def show(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted:
            rare = [one for one in ctx.command.params if isinstance(one, Option) and one.hidden]
            for one in rare:
                one.hidden = False
            page = ctx.get_help()
            for one in rare:  # commands share their groups of options
                one.hidden = True
            click.echo(page)
            ctx.exit()

    return click.Option(
        ["--help-all"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show every option and exit.",
    )


def _global_options() -> list[click.Parameter]:
    """The options that stand before or behind the command's name; what was said there counts, then settings."""

    def keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
        said: dict[str, Any] = ctx.find_root().meta.setdefault("offlinepack.global", {})
        name = option.name or ""
        typed = ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if isinstance(value, int) and not isinstance(value, bool) and typed:
            said[name] = said.get(name, 0) + value
        elif value and (typed or name not in said):
            said[name] = value

    def one(*declarations: str, **named: Any) -> Option:
        return Option(declarations, expose_value=False, is_eager=True, callback=keep, **named)

    return [
        one("-q", "--quiet", count=True, help="Say less; twice: errors only."),
        one("-v", "--verbose", count=True, help="Say more; twice: what every program was asked."),
        one("--json", is_flag=True, help="Print the result as JSON on stdout."),
        one("--no-color", is_flag=True, rare=True, help="No colours (NO_COLOR does the same)."),
        one("--debug", is_flag=True, rare=True, help="Show the traceback of an error."),
        one(
            "--config",
            metavar="FILE",
            rare=True,
            help="Read settings from FILE instead of pyproject.toml or offlinepack.toml.",
        ),
        one("--lang", type=click.Choice(["en", "zh"]), rare=True, help="Language of messages."),
    ]


class Commands(click.Group):
    """offlinepack itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command's file is imported only now."""
        if name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(f"offlinepack.cli.{COMMANDS[name][0]}"), name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line for each command, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown name is answered with the one that was meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = MEANT.get(name) or next(iter(difflib.get_close_matches(name, COMMANDS, 1)), "")
            raise click.UsageError(
                f"There is no command '{name}'." + (f" Did you mean 'offlinepack {near}'?" if near else ""), ctx
            )
        resolved = super().resolve_command(ctx, args)
        chosen, command, arguments = resolved
        if command and chosen and not ctx.resilient_parsing and not {"-h", "--help", "--help-all"} & set(arguments):
            # the settings file gives what the command line does not
            ctx.default_map = {chosen: _settings(chosen, arguments, ctx)}
        return resolved


def _version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from offlinepack import __version__

        click.echo(f"offlinepack {__version__}")
        ctx.exit()


WELCOME = """offlinepack carries a Python application and all that it depends on to a machine without a network.

  offlinepack build                 in a project or a venv: one file with all of it
                                    elsewhere: -r requirements.txt --target debian12
  offlinepack verify BUNDLE         is it complete and unaltered?
  offlinepack install BUNDLE        over there; without offlinepack: tar xzf BUNDLE,
                                    then python3 <folder>/install.py
  offlinepack inspect BUNDLE|DIR    what it holds; what runs in an environment
  offlinepack rollback --venv DIR   back to the release before

offlinepack --help lists every command."""


@click.command(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Carry a Python application and everything it depends on to a machine without a network.",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Show the commands that matter where none is given."""
    if ctx.invoked_subcommand is None:
        console(ctx).result(text(WELCOME))


cli.params += [*_global_options(), _help_all()]


def console(ctx: click.Context) -> Console:
    """How this run speaks: made once, from the global options said before or behind the command's name."""
    from offlinepack.console import Console

    root = ctx.find_root()
    if "offlinepack.console" not in root.meta:
        said: dict[str, Any] = root.meta.get("offlinepack.global", {})
        root.meta["offlinepack.console"] = Console(
            loudness=said.get("verbose", 0) - said.get("quiet", 0),
            json=bool(said.get("json")),
            color=not said.get("no_color"),
            lang=said.get("lang"),
            command=ctx.info_name or "",
        )
        _tell_programs(root.meta["offlinepack.console"].loudness > 1)
    made: Console = root.meta["offlinepack.console"]
    return made


class _Programs:
    """Whether the programs that are started are told; a hook, once it is set, stays as long as the process."""

    hooked = told = False


def _tell_programs(told: bool) -> None:
    """From now on, or no longer, a line on stderr for each program that is started: what it was asked, no secrets."""
    _Programs.told = told
    if _Programs.hooked or not told:
        return
    import shlex

    from offlinepack.sources import without_secrets

    def heard(event: str, facts: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and _Programs.told:
            asked = [facts[1]] if isinstance(facts[1], str | bytes | os.PathLike) else facts[1]
            # in one piece: programs are started from several threads
            sys.stderr.write(f"$ {without_secrets(shlex.join(map(os.fsdecode, asked)))}\n")
            sys.stderr.flush()

    sys.addaudithook(heard)
    _Programs.hooked = True


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; leave with the exit code of DESIGN's one table."""
    if asked := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {}, "offlinepack", COMPLETE, asked))
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help", "--help-all", "-V", "--version"} & set(words):
        sys.exit(run(words))
    from offlinepack.cli import interrupt

    with interrupt.orderly() as here:
        Command.begun = here.workplace
        code = run(words)
    if threading.active_count() > 1 and code == 130:
        sys.stderr.flush()
        os._exit(code)  # threads that still wait for a server are not waited for
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one command line."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        # whoever read our output has left; that is no news
        nobody = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nobody, stream.fileno())
        os.close(nobody)
        return 141


def _run(arguments: list[str]) -> int:
    """The one place where errors are caught."""
    debug = "--debug" in arguments or os.environ.get("OFFLINEPACK_DEBUG", "") not in ("", "0")
    ctx: click.Context | None = None
    try:
        with cli.make_context("offlinepack", arguments) as ctx:
            cli.invoke(ctx)
            sys.stdout.flush()
            return 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.UsageError as wrong:
        where = wrong.ctx or ctx
        if ctx := ctx or where:
            # what stands behind the mistake was not read any more
            said = ctx.find_root().meta.setdefault("offlinepack.global", {})
            said.update({"json": True} if "--json" in arguments else {})
            said.setdefault("lang", _value(arguments, "--lang"))
        hint = f"Try '{where.command_path} --help'." if where else ""
        return _tell(
            ctx, 2, [error("usage", "offlinepack", "{problem}", "{hint}", problem=wrong.format_message(), hint=hint)]
        )
    except (KeyboardInterrupt, click.Abort):
        click.echo("", err=True)
        return 130
    except BrokenPipeError:
        raise
    except OfflinepackError as failure:
        if debug:
            _traceback()
        return _tell(ctx, failure.exit_code, failure.findings)
    except OSError as failure:
        if debug:
            _traceback()
        return _tell(ctx, ComputerError.exit_code, [of_computer(failure)])
    except Exception as bug:
        if debug:
            _traceback()
        sentence = "offlinepack itself failed: {kind}: {words}."
        advice = "This is a bug. Run the same command with --debug and report what it prints."
        return _tell(ctx, 1, [error("bug", "offlinepack", sentence, advice, kind=type(bug).__name__, words=str(bug))])


def of_computer(failure: OSError) -> Finding:
    """A system call's refusal as a sentence: the disk, a right, a path."""
    import errno

    place = failure.filename or failure.filename2 or "offlinepack"
    if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error(
            "disk-full", place, "There is no room left to write {subject}.", "Free some space, or choose another place."
        )
    if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return error(
            "no-permission", place, "{subject} may not be read or written: {words}.", _PLACE, words=failure.strerror
        )
    return error("computer", place, "{subject}: {words}.", _PLACE, words=failure.strerror or str(failure))


_PLACE = "Choose another place, or ask for the right to use this one."


def _tell(ctx: click.Context | None, code: int, findings: Sequence[Finding]) -> int:
    from offlinepack.console import Console

    speaker = console(ctx) if ctx is not None else Console()
    speaker.failure(code, findings)
    return code


def _traceback() -> None:
    import traceback

    traceback.print_exc()
