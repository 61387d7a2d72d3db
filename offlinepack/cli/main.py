"""Find a command by its name, run it, and turn errors into sentences and exit codes.

The module of a command is imported when the command is called.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import click

from offlinepack.cli.command import COMPLETION_VARIABLE, Command, get_console, make_global_options, make_help_all_option
from offlinepack.errors import ComputerError, Finding, OfflinepackError, error, text
from offlinepack.ontarget.errors import explain_os_error

if TYPE_CHECKING:
    from collections.abc import Sequence


COMMANDS = {
    "build": ("build", "Pack requirements and all that they need into one bundle"),
    "lock": ("lock", "Write the lock of each target and pack nothing"),
    "install": ("machine", "Install a bundle on this machine, without a network"),
    "rollback": ("machine", "Go back to the release that ran before"),
    "verify": ("bundle", "Check that a bundle is complete and unaltered"),
    "inspect": ("bundle", "Tell what a bundle holds, or what runs in an environment"),
    "diff": ("bundle", "Tell what changed between two bundles"),
    "report": ("report", "Write the page for the person who has to say yes"),
    "rehearse": ("bundle", "Know before the crossing that each target will take the bundle"),
    "sign": ("bundle", "Sign a bundle with an SSH key"),
    "merge": ("bundle", "Join bundles that were made for different targets"),
    "targets": ("machine", "List the machines that can be packed for; show one's facts"),
    "standalone": ("machine", "Write the target side as one file, for machines that keep trusted code"),
    "probe": ("machine", "Tell the facts of this machine, or write the script that does"),
    "init": ("build", "Write a project's settings, after a look at it"),
}
"""name -> (file below cli/, one line of help), in the order of the help page"""

COMMAND_SYNONYMS = {
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


def _load_default_map(command: str, args: list[str], parent: click.Context) -> dict[str, Any]:
    values: dict[str, Any] = parent.find_root().meta.get("offlinepack.global", {})
    config_name = values.get("config") or _find_option_value(args, "--config") or os.environ.get("OFFLINEPACK_CONFIG")
    folder = _find_option_value(args, "--project") or "."
    if not config_name and not any(
        os.path.isfile(os.path.join(folder, name)) for name in ("offlinepack.toml", "pyproject.toml")
    ):
        return {}
    from pathlib import Path

    from offlinepack.cli.config import (
        find_config_file,
        make_default_map,
        read_config,
        read_index_tables,
        read_policy_table,
    )

    path = find_config_file(Path(folder), config_name)
    if path is None or not read_config(path):
        return {}
    parent.meta["offlinepack.index.model"] = read_index_tables(path)
    parent.meta["offlinepack.policy"] = read_policy_table(path)
    root = click.Context(root_command)
    commands = {name: root_command.get_command(root, name) for name in COMMANDS}
    return make_default_map(
        path,
        {name: command_object for name, command_object in commands.items() if command_object},
        command,
        named=bool(config_name),
    )


def _find_option_value(args: Sequence[str], option: str) -> str | None:
    """Return the value of an option on a command line that click has not parsed yet."""
    for at, argument in enumerate(args):
        if argument.startswith(option + "="):
            return argument[len(option) + 1 :]
        if argument == option and at + 1 < len(args):
            return args[at + 1]
    return None


class CommandGroup(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the module of a command and return the command."""
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"offlinepack.cli.{COMMANDS[name][0]}"), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line for each command without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the name of a command; suggest the nearest one if it is unknown."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = COMMAND_SYNONYMS.get(name) or next(iter(difflib.get_close_matches(name, COMMANDS, 1)), "")
            raise click.UsageError(
                f"There is no command '{name}'." + (f" Did you mean 'offlinepack {near}'?" if near else ""), ctx
            )
        resolved = super().resolve_command(ctx, args)
        chosen, command, arguments = resolved
        if command and chosen and not ctx.resilient_parsing and not {"-h", "--help", "--help-all"} & set(arguments):
            # the settings file gives what the command line does not
            ctx.default_map = {chosen: _load_default_map(chosen, arguments, ctx)}
        return resolved


def _print_version(ctx: click.Context, _option: click.Parameter, is_requested: bool) -> None:
    if is_requested:
        from offlinepack._version import __version__

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
    cls=CommandGroup,
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
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def root_command(ctx: click.Context) -> None:
    """Show the most important commands if none is given."""
    if ctx.invoked_subcommand is None:
        get_console(ctx).print_result(text(WELCOME))


root_command.params += [*make_global_options(), make_help_all_option()]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    if completion := os.environ.get(COMPLETION_VARIABLE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(root_command, {}, "offlinepack", COMPLETION_VARIABLE, completion))
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help", "--help-all", "-V", "--version"} & set(words):
        sys.exit(run_command_line(words))
    from offlinepack.cli.signals import guard_signals

    with guard_signals() as guard:
        Command.start_hook = guard.use_temporary_folder
        code = run_command_line(words)
    if threading.active_count() > 1 and code == 130:
        sys.stderr.flush()
        os._exit(code)  # threads that still wait for a server are not waited for
    sys.exit(code)


def run_command_line(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return _invoke_command(arguments)
    except BrokenPipeError:
        # whoever read our output has left; that is no news
        null_device = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(null_device, stream.fileno())
        os.close(null_device)
        return 141


def _invoke_command(arguments: list[str]) -> int:
    """Invoke the command and turn errors into findings and an exit code."""
    debug = "--debug" in arguments or os.environ.get("OFFLINEPACK_DEBUG", "") not in ("", "0")
    ctx: click.Context | None = None
    try:
        with root_command.make_context("offlinepack", arguments) as ctx:
            root_command.invoke(ctx)
            sys.stdout.flush()
            return 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.UsageError as wrong:
        where = wrong.ctx or ctx
        if ctx := ctx or where:
            # what stands behind the mistake was not read any more
            values = ctx.find_root().meta.setdefault("offlinepack.global", {})
            values.update({"json": True} if "--json" in arguments else {})
            values.setdefault("lang", _find_option_value(arguments, "--lang"))
        hint = f"Try '{where.command_path} --help'." if where else ""
        return _report_failure(
            ctx, 2, [error("usage", "offlinepack", "{problem}", "{hint}", problem=wrong.format_message(), hint=hint)]
        )
    except (KeyboardInterrupt, click.Abort):
        click.echo("", err=True)
        return 130
    except BrokenPipeError:
        raise
    except OfflinepackError as failure:
        if debug:
            _print_traceback()
        return _report_failure(ctx, failure.exit_code, failure.findings)
    except OSError as failure:
        if debug:
            _print_traceback()
        return _report_failure(ctx, ComputerError.exit_code, [describe_os_error(failure)])
    except Exception as bug:
        if debug:
            _print_traceback()
        sentence = "offlinepack itself failed: {kind}: {words}."
        advice = "This is a bug. Run the same command with --debug and report what it prints."
        return _report_failure(
            ctx, 1, [error("bug", "offlinepack", sentence, advice, kind=type(bug).__name__, words=str(bug))]
        )


def describe_os_error(failure: OSError) -> Finding:
    """Turn an OSError into a finding: full disk, missing permission, or another reason."""
    import errno

    place = failure.filename or failure.filename2 or "offlinepack"
    if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error(
            "disk-full", place, "There is no room left to write {subject}.", "Free some space, or choose another place."
        )
    if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return error(
            "no-permission",
            place,
            "{subject} may not be read or written: {words}.",
            _PATH_ADVICE,
            words=explain_os_error(failure),
        )
    return error("computer", place, "{subject}: {words}.", _PATH_ADVICE, words=explain_os_error(failure))


_PATH_ADVICE = "Choose another place, or ask for the right to use this one."


def _report_failure(ctx: click.Context | None, code: int, findings: Sequence[Finding]) -> int:
    from offlinepack.cli.console import Console

    console = get_console(ctx) if ctx is not None else Console()
    console.print_failure(code, findings)
    return code


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()
