"""The command lock: write the lock of each target without building a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from offlinepack.bundle.layout import make_pylock_name
from offlinepack.cli.build import describe_packages, make_request_from_options, print_plan
from offlinepack.cli.command import Command, get_console
from offlinepack.cli.options.base import FILE, add_option
from offlinepack.cli.options.build_options import build_options
from offlinepack.cli.options.indexes import index_options
from offlinepack.cli.options.inputs import input_options
from offlinepack.cli.options.targets import TargetOptions, target_options
from offlinepack.errors import UsageError, error, text
from offlinepack.index.model import Indexes
from offlinepack.ontarget.files import write_file_atomically
from offlinepack.pipeline.inputs import BuildInputs
from offlinepack.pipeline.lock import find_file_sizes, format_lock, lock_and_close
from offlinepack.pipeline.request import BuildOptions, BundleName


@click.command(cls=Command)
@input_options
@target_options
@index_options
@build_options
@add_option("-o", "--output", type=FILE, metavar="FILE", help="The lock of the one target: pylock.toml.")
@add_option("-d", "--directory", type=FILE, metavar="DIR", help="A folder for the locks, pylock.<target>.toml each.")
@add_option("--dry-run", is_flag=True, help="Tell what would be locked, and its size; write nothing.")
@click.pass_context
def lock(
    ctx: click.Context,
    inputs: BuildInputs,
    target_options: TargetOptions,
    indexes: Indexes,
    options: BuildOptions,
    output: Path | None,
    directory: Path | None,
    dry_run: bool,
) -> None:
    """Write the lock of each target (pylock.toml, PEP 751), and pack nothing."""
    console = get_console(ctx)
    request = make_request_from_options(inputs, target_options, indexes, options, BundleName(), console)
    if output and (directory or len(request.targets) > 1):
        raise UsageError(
            error(
                "one-lock-one-file",
                "-o",
                "{subject} takes one lock, and there are {count} targets.",
                "Give a folder with -d: each target gets its pylock.<target>.toml there.",
                count=len(request.targets),
            )
        )
    plans = lock_and_close(request, console.track)
    findings = [*request.requirements.notes, *(finding for plan in plans for finding in plan.selection.findings)]
    console.print_findings(findings)
    if dry_run:
        print_plan(plans, find_file_sizes(plans, request), console)
        return
    written = []
    for plan in plans:
        path = output or (directory / make_pylock_name(plan.target.tag) if directory else None)
        document = format_lock(plan)
        if path is None:
            console.print_result(document)
        else:
            write_file_atomically(path, document.encode())
            written.append(path)
            console.print_message(text("wrote {path}", path=path))
    if console.wants_json:
        console.print_json(
            {
                "ok": True,
                "locks": [{"target": plan.target.tag, "packages": describe_packages(plan)} for plan in plans],
                "files": written,
                "findings": [finding.to_json() for finding in findings],
            }
        )
