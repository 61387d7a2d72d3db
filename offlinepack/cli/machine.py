"""The commands install, rollback, probe, targets and standalone, which concern a target machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import click

from offlinepack.cli.command import Command, get_console
from offlinepack.cli.options.base import FILE, make_option
from offlinepack.cli.options.targets import complete_target_name
from offlinepack.errors import text
from offlinepack.launcher import run_install_script, run_installer
from offlinepack.ontarget.zipapp import build_zipapp, is_code_file
from offlinepack.targets.catalogue import System, load_catalogue
from offlinepack.targets.parse import parse_target, serialize_facts


class ForwardedOptions:
    """A command whose options are passed to the target side unchanged."""

    def __init__(self, *parameters: click.Parameter) -> None:
        self.parameters = parameters

    def format_arguments(self, ctx: click.Context) -> list[str]:
        """Return the given options as arguments of a command line."""
        words: list[str] = []
        for parameter in self.parameters:
            value = ctx.params.get(parameter.name or "")
            long = max(parameter.opts, key=len)
            if isinstance(parameter, click.Option) and parameter.is_flag:
                words += [long] if value else []
            elif parameter.multiple:
                words += [part for entry in value or () for part in (long, str(entry))]
            elif value is not None:
                words += [long, str(value)]
        values: dict[str, Any] = ctx.find_root().meta.get("offlinepack.global", {})
        words += ["-q"] * values.get("quiet", 0) + ["-v"] * values.get("verbose", 0)
        words += [f"--{name}".replace("_", "-") for name in ("json", "no_color", "debug") if values.get(name)]
        return words + (["--lang", values["lang"]] if values.get("lang") else [])


VENV_OPTION = make_option(
    "--venv", metavar="DIR", help="The place; else what the bundle says, else the active venv, else ./.venv."
)

INSTALL_OPTIONS = ForwardedOptions(
    VENV_OPTION,
    make_option("--python", metavar="PY", help="The interpreter that is to run it; else one that fits is looked for."),
    make_option("--target", metavar="NAME", help="This target of the bundle, where several fit."),
    make_option("--engine", type=click.Choice(["auto", "pip", "fast"]), help="Who places the files."),
    make_option("--no-compile", is_flag=True, help="No bytecode."),
    make_option("--keep-going", is_flag=True, help="Switch even where something could not be installed (exit 11)."),
    make_option("--force", is_flag=True, help="Install again what is installed."),
    make_option(
        "--allow-downgrade", is_flag=True, help="Take a bundle with a lower sequence than this environment has seen."
    ),
    make_option("--dry-run", is_flag=True, help="Check everything and tell what would be done; write nothing."),
    make_option("--report", metavar="FILE|DIR", help="Write the report there too."),
    make_option(
        "--verify-key", multiple=True, metavar="FILE", help="Who must have signed: a .pub, or allowed signers."
    ),
    make_option("--require-signature", is_flag=True, help="Refuse a bundle without a good signature."),
    make_option(
        "--signature", metavar="FILE", help="The signature, where it lies neither in the bundle nor beside it."
    ),
    make_option("-j", "--jobs", type=click.IntRange(1, 256), metavar="N", help="Processes at a time."),
)

ROLLBACK_OPTIONS = ForwardedOptions(
    VENV_OPTION,
    make_option("--to", metavar="ID", help="The generation to go to; else the former one."),
    make_option("--list", is_flag=True, help="List the generations."),
)

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def _add_options(passed: ForwardedOptions) -> Callable[[CommandT], CommandT]:
    def decorate(body: CommandT) -> CommandT:
        body.__dict__.setdefault("__click_params__", []).extend(reversed(passed.parameters))
        return body

    return decorate


@click.command(cls=Command)
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@_add_options(INSTALL_OPTIONS)
@click.pass_context
def install(ctx: click.Context, /, bundle_path: Path, python: str | None, **_passed: Any) -> None:
    """Install a bundle (the tar.gz or its unpacked folder) on this machine, without a network."""
    parameters = ctx.params
    process = run_installer(
        bundle_path,
        INSTALL_OPTIONS.format_arguments(ctx),
        python=python,
        keys=parameters["verify_key"],
        signature=parameters["signature"],
        watch=get_console(ctx).track,
    )
    ctx.exit(process.returncode)


@click.command(cls=Command)
@click.option("-o", "--output", type=FILE, default="offlinepack.pyz", metavar="FILE", help="Where it goes.")
@click.pass_context
def standalone(ctx: click.Context, output: Path) -> None:
    """Write the target side as one file, for machines that keep trusted code of their own: carried and checked once."""
    from offlinepack.ontarget.files import write_file_atomically

    code = {
        file.name: file.read_bytes()
        for file in resources.files("offlinepack.ontarget").iterdir()
        if is_code_file(file.name)
    }
    data = build_zipapp(code)
    write_file_atomically(output, data)
    output.chmod(0o777 & ~_read_umask())
    console, sha256 = get_console(ctx), hashlib.sha256(data).hexdigest()
    console.print_result(
        text("{path}: install, verify, inspect, rollback and probe, for Python 3.6 and newer", path=output),
        f"  sha256 {sha256}",
    )
    if console.wants_json:
        console.print_json({"ok": True, "program": str(output), "sha256": sha256, "size": len(data)})


def _read_umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


@click.command(cls=Command)
@_add_options(ROLLBACK_OPTIONS)
@click.pass_context
def rollback(ctx: click.Context, /, **_passed: Any) -> None:
    """Go back to the release that ran in an environment before."""
    ctx.exit(run_install_script(["--rollback", *ROLLBACK_OPTIONS.format_arguments(ctx)]).returncode)


@click.command(cls=Command)
@click.option(
    "--script",
    is_flag=True,
    help="Print the one file that does this on another machine: python3 probe.py > machine.json",
)
@click.pass_context
def probe(ctx: click.Context, script: bool) -> None:
    """Tell the facts of this machine, for `build --target FILE` on another."""
    file = resources.files("offlinepack.ontarget") / "interpreter.py"
    if script:
        click.echo(file.read_text("utf-8"), nl=False)
        return
    with resources.as_file(file) as path:
        ctx.exit(subprocess.run([sys.executable, "-I", "-B", str(path)], check=False).returncode)


@click.command(cls=Command)
@click.argument("name", metavar="[NAME|FILE]", required=False, shell_complete=complete_target_name)
@click.pass_context
def targets(ctx: click.Context, name: str | None) -> None:
    """List the machines of the catalogue; or one target's facts, environment markers and tags."""
    console = get_console(ctx)
    if name is None:
        systems = load_catalogue()
        if console.wants_json:
            console.print_json({"ok": True, "targets": [_describe_system(system) for system in systems]})
        rows = [_format_row(system) for system in systems]
        widths = [max(len(row[at]) for row in rows) for at in range(3)]
        for *three, machines in rows:
            line = "  ".join(word.ljust(width) for word, width in zip(three, widths, strict=True))
            # on a narrow terminal the machines have a line of their own
            far = len(line) + 2 + len(machines) > shutil.get_terminal_size((200, 24)).columns
            console.print_result(f"{line.rstrip()}\n    {machines}" if far else f"{line}  {machines}")
        console.print_result(text("NAME[-ARCH][:X.Y], as in rhel8-aarch64:3.11; in brackets: the default Python"))
        return
    target = parse_target(name)
    document = {
        "name": target.name,
        "tag": target.tag,
        "machines": str(target.description),
        "facts": serialize_facts(target.facts),
        "marker_environment": target.environment,
        "compatible_tags": [str(tag) for tag in target.tags],
    }
    if console.wants_json:
        console.print_json({"ok": True, **document})
        return
    console.print_result(target.description)
    console.print_result(f"  {target.tag}")
    for key, value in target.environment.items():
        console.print_result(f"  {key} = {json.dumps(value)}")
    shown = target.tags if console.verbosity > 0 else target.tags[:12]
    console.print_result(*(f"  {tag}" for tag in shown))
    if len(shown) < len(target.tags):
        console.print_result(text("  and {count} more tags (-v)", count=len(target.tags) - len(shown)))


def _format_row(system: System) -> tuple[str, str, str, str]:
    level = f"{system.libc} {system.libc_version}" if system.libc else system.macos_version or ""
    pythons = " ".join(f"[{python}]" if python == system.default else python for python in system.pythons)
    return ", ".join((system.name, *system.synonyms)), level, pythons, ", ".join(system.machines)


def _describe_system(system: System) -> dict[str, Any]:
    return {
        "name": system.name,
        "title": system.title,
        "synonyms": system.synonyms,
        "os": system.os,
        "machines": system.machines,
        "libc": system.libc,
        "libc_version": system.libc_version,
        "macos_version": system.macos_version,
        "pythons": system.pythons,
        "default": system.default,
        "sources": system.sources,
    }
