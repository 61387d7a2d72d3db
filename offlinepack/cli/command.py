"""Base classes of commands and options: global options, --help-all, and the console of a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from offlinepack.cli.console import Console


COMPLETION_VARIABLE = "_OFFLINEPACK_COMPLETE"
"""the variable with which a shell asks for completion, as click has it: bash_source, zsh_source, fish_source"""


ARGUMENTS = "offlinepack.arguments"
"""the key of ctx.meta for the arguments of the command as they were given"""


class Command(click.Command):
    """A command that accepts the global options after its name too, and hides its rarer options from --help."""

    start_hook: Callable[[], None] = staticmethod(lambda: None)
    """called before the body of a command runs"""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; keep them in their order for options that depend on it."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the body of the command."""
        self.start_hook()
        return super().invoke(ctx)

    def __init__(self, *args: Any, **named: Any) -> None:
        named.setdefault("context_settings", {}).setdefault("help_option_names", ["-h", "--help"])
        super().__init__(*args, **named)
        self.params += [*make_global_options(), make_help_all_option()]


class Option(click.Option):
    """An option that also reads OFFLINEPACK_<LONG_OPTION>; --help-all alone lists `rare` ones."""

    def __init__(self, declarations: Sequence[str], *, rare: bool = False, **named: Any) -> None:
        super().__init__(declarations, **named)
        self.rare = rare
        self.hidden = rare and COMPLETION_VARIABLE not in os.environ
        if not self.envvar:
            longest = max((name for name in self.opts if name.startswith("--")), key=len, default="")
            self.envvar = "OFFLINEPACK_" + longest.lstrip("-").replace("-", "_").upper()


def make_help_all_option() -> click.Option:
    """Make --help-all, which also lists the hidden options."""

    def show(ctx: click.Context, _option: click.Parameter, is_requested: bool) -> None:
        if is_requested:
            rare = [parameter for parameter in ctx.command.params if isinstance(parameter, Option) and parameter.hidden]
            for option in rare:
                option.hidden = False
            page = ctx.get_help()
            for option in rare:  # commands share their groups of options
                option.hidden = True
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


def make_global_options() -> list[click.Parameter]:
    """Make the options that are accepted before and after the name of a command; both override the settings."""

    def keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
        values: dict[str, Any] = ctx.find_root().meta.setdefault("offlinepack.global", {})
        name = option.name or ""
        typed = ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if isinstance(value, int) and not isinstance(value, bool) and typed:
            values[name] = values.get(name, 0) + value
        elif value and (typed or name not in values):
            values[name] = value

    def make(*declarations: str, **named: Any) -> Option:
        return Option(declarations, expose_value=False, is_eager=True, callback=keep, **named)

    return [
        make("-q", "--quiet", count=True, help="Say less; twice: errors only."),
        make("-v", "--verbose", count=True, help="Say more; twice: what every program was asked."),
        make("--json", is_flag=True, help="Print the result as JSON on stdout."),
        make("--no-color", is_flag=True, rare=True, help="No colours (NO_COLOR does the same)."),
        make("--debug", is_flag=True, rare=True, help="Show the traceback of an error."),
        make(
            "--config",
            metavar="FILE",
            rare=True,
            help="Read settings from FILE instead of pyproject.toml or offlinepack.toml.",
        ),
        make("--lang", type=click.Choice(["en", "zh"]), rare=True, help="Language of messages."),
    ]


def get_console(ctx: click.Context) -> Console:
    """Return the console of this run, made once from the global options."""
    from offlinepack.cli.console import Console, log_commands

    root = ctx.find_root()
    if "offlinepack.cli.console" not in root.meta:
        values: dict[str, Any] = root.meta.get("offlinepack.global", {})
        root.meta["offlinepack.cli.console"] = Console(
            verbosity=values.get("verbose", 0) - values.get("quiet", 0),
            json=bool(values.get("json")),
            color=not values.get("no_color"),
            lang=values.get("lang"),
            command=ctx.info_name or "",
        )
        log_commands(root.meta["offlinepack.cli.console"].verbosity > 1)
    console: Console = root.meta["offlinepack.cli.console"]
    return console
