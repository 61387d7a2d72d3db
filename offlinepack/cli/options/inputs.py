"""Options that name the input: requirements, files, a virtual environment or a project."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import click
from click.core import ParameterSource

from offlinepack.cli.command import ARGUMENTS
from offlinepack.cli.options.base import FILE, group_options, make_option
from offlinepack.pipeline.inputs import BuildInputs
from offlinepack.requirements.policy import FORMATS, Format, FormatControl, ResolutionPolicy


def _make_format_control(ctx: click.Context, values: dict[str, Any]) -> FormatControl:
    """Return the values of --only-binary and --no-binary: variables and settings first, then the command line."""
    options: list[tuple[Format, str]] = []
    for option in FORMATS:
        name = option.replace("-", "_")
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            options += [(option, value) for value in values[name]]
    arguments = iter(ctx.meta[ARGUMENTS])  # click keeps the order of values within one option only
    for argument in arguments:
        option, equals, value = argument.removeprefix("--").partition("=")
        if argument == "--":
            break
        if argument.startswith("--") and option in FORMATS:
            options.append((option, value if equals else next(arguments)))
    return FormatControl(tuple(options))


def _make_input_options(**values: Any) -> BuildInputs:
    # what is packed is said in one place: by the command line, else by variables, else by the settings file
    named = ("requirements", "requirement", "venv", "project")
    ctx = click.get_current_context()
    sources = {key: ctx.get_parameter_source(key) for key in named if values[key]}
    wins = min(
        sources.values(),
        key=lambda source: list(ParameterSource).index(source or ParameterSource.DEFAULT),
        default=None,
    )
    for name, source in sources.items():
        if source != wins:
            values[name] = None if name in ("venv", "project") else ()
    return BuildInputs(
        requirements=values["requirements"],
        files=values["requirement"],
        constraints=values["constraint"],
        venv=values["venv"],
        project=values["project"],
        extras=values["extra"],
        groups=values["group"],
        exclude=values["exclude"],
        policy=ResolutionPolicy(
            no_deps=values["no_deps"],
            pre=values["pre"],
            require_hashes=values["require_hashes"],
            format_control=_make_format_control(ctx, values),
            uploaded_prior_to=values["uploaded_prior_to"],
        ),
        locked=values["locked"],
        is_from_settings=wins is ParameterSource.DEFAULT_MAP,
    )


def _check_date(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Check a date or time (RFC 3339); an unreadable one must not count as no limit."""
    try:
        if value and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise ValueError(value)
        datetime.fromisoformat((value or "2000-01-01").upper().replace("Z", "+00:00"))
    except ValueError:
        problem = f"{value} is no date; write 2026-01-31 or 2026-01-31T12:00:00Z."
        raise click.BadParameter(problem, ctx, option) from None
    return value


input_options = group_options(
    "inputs",
    _make_input_options,
    click.Argument(["requirements"], nargs=-1, metavar="[REQUIREMENT]..."),
    make_option(
        "-r",
        "--requirement",
        multiple=True,
        type=FILE,
        metavar="FILE",
        help="requirements.txt, .in, pylock.toml, uv.lock or pyproject.toml. May be repeated.",
    ),
    make_option(
        "-c",
        "--constraint",
        multiple=True,
        type=FILE,
        metavar="FILE",
        rare=True,
        help="Versions that may be used, if anything asks for the project.",
    ),
    make_option("--venv", type=FILE, metavar="DIR", help="Freeze this virtual environment."),
    make_option("--project", type=FILE, metavar="DIR", help="This project and what it needs, as its uv.lock has it."),
    make_option("--extra", multiple=True, metavar="NAME", help="An extra of the project."),
    make_option("--group", multiple=True, metavar="NAME", help="A dependency group of the project (PEP 735)."),
    make_option("--locked", is_flag=True, help="Use the lock as it is; exit 4 if it no longer fits what is asked."),
    make_option(
        "--exclude", multiple=True, metavar="NAME", rare=True, help="Leave this project out of a frozen environment."
    ),
    make_option("--pre", is_flag=True, rare=True, help="Take pre-releases too."),
    make_option("--no-deps", is_flag=True, rare=True, help="Only what is named, not what it needs."),
    make_option(
        "--require-hashes/--no-require-hashes",
        default=None,
        rare=True,
        help="Require a hash for every requirement. The default requires it as soon as one requirement has --hash.",
    ),
    make_option(
        "--only-binary",
        multiple=True,
        metavar="NAMES",
        rare=True,
        help="No source distributions for these projects, or :all:.",
    ),
    make_option(
        "--no-binary",
        multiple=True,
        metavar="NAMES",
        rare=True,
        help="No ready-made wheels for these projects, or :all:.",
    ),
    make_option(
        "--uploaded-prior-to",
        "--exclude-newer",
        metavar="DATE",
        rare=True,
        callback=_check_date,
        help="Only files that were uploaded before this date.",
    ),
)
