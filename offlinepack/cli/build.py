"""The commands build and init: make a request from the options, build its bundles, print the summary."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from offlinepack.bundle.volumes import Archive
from offlinepack.cli.command import Command, get_console
from offlinepack.cli.config import find_misnamed_variables, has_config, read_config, render_template
from offlinepack.cli.console import Console
from offlinepack.cli.options.base import FILE, add_option
from offlinepack.cli.options.build_options import build_options
from offlinepack.cli.options.bundle_name import name_options
from offlinepack.cli.options.contents import BundleContents, contents_options
from offlinepack.cli.options.indexes import index_options
from offlinepack.cli.options.inputs import input_options
from offlinepack.cli.options.policy import policy_options
from offlinepack.cli.options.targets import TargetOptions, target_options
from offlinepack.cli.summary import check_summary_path
from offlinepack.errors import Text, UsageError, error, text
from offlinepack.index.model import Indexes
from offlinepack.ontarget.files import format_size, write_file_atomically
from offlinepack.pipeline.assemble import WrittenBundle
from offlinepack.pipeline.build import BuildResult, build_bundles
from offlinepack.pipeline.inputs import BuildInputs, make_request
from offlinepack.pipeline.lock import TargetLock, find_file_sizes, lock_and_close
from offlinepack.pipeline.request import BuildOptions, BuildRequest, BundleName
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.report.facts import describe_differing_versions
from offlinepack.report.policy import PolicyCheck
from offlinepack.targets.parse import get_running_target


def make_request_from_options(
    inputs: BuildInputs,
    target_options: TargetOptions,
    indexes: Indexes,
    options: BuildOptions,
    name: BundleName,
    console: Console,
) -> BuildRequest:
    """Make the request of a command line; print what was read and what the options leave unused."""
    misnamed = find_misnamed_variables(os.environ, build.params)
    console.print_findings([*misnamed, *target_options.notes, *indexes.notes])
    return make_request(
        inputs, target_options.targets, indexes, options, name, Path.cwd(), on_read=console.print_message
    )


@click.command(cls=Command)
@input_options
@target_options
@index_options
@build_options
@name_options
@contents_options
@policy_options
@add_option(
    "--report",
    type=FILE,
    metavar="FILE",
    rare=True,
    help="Write the summary there too, by suffix: .json, .md, .xml (JUnit); also where it failed.",
)
@add_option(
    "-o", "--output", metavar="FILE", help="Where the bundle goes; {name}, {version} and {target} are filled in."
)
@add_option(
    "--lock-dir",
    type=FILE,
    metavar="DIR",
    rare=True,
    help="Keep the locks there: the same input packs the same versions again, until it changes.",
)
@add_option("--dry-run", is_flag=True, help="Tell what would be packed, and its size; write nothing.")
@click.pass_context
def build(
    ctx: click.Context,
    inputs: BuildInputs,
    target_options: TargetOptions,
    indexes: Indexes,
    options: BuildOptions,
    name: BundleName,
    contents: BundleContents,
    policy: PolicyCheck | None,
    report: Path | None,
    output: str | None,
    lock_dir: Path | None,
    dry_run: bool,
) -> None:
    """Pack the requirements and all that they need, for each target, into one bundle."""
    console = get_console(ctx)
    console.report_path = check_summary_path(report) if report else None
    request = replace(
        make_request_from_options(inputs, target_options, indexes, options, name, console),
        includes=contents.includes,
        bytecode=contents.bytecode,
        signing_key=contents.signing_key,
        part_size=contents.part_size,
        rehearse=contents.rehearse,
        policy=policy,
        lock_dir=lock_dir,
    )
    if dry_run:
        plans = lock_and_close(request, console.track)
        console.print_findings(
            [*request.requirements.notes, *(finding for plan in plans for finding in plan.selection.findings)]
        )
        print_plan(plans, find_file_sizes(plans, request), console)
        return
    result = build_bundles(request, Path(output or request.bundle_name.archive_name), console.track)
    console.print_findings(
        [*result.findings, *(finding for verdict in result.verdicts for finding in verdict.findings)]
    )
    print_build_result(result, console)


def describe_packages(plan: TargetLock) -> list[dict[str, Any]]:
    """Describe the selected files of a target for --json."""
    return [
        {"name": file.name, "version": file.version and str(file.version), "file": file.filename, "sha256": file.sha256}
        for file in plan.selection.files
    ]


def print_plan(plans: tuple[TargetLock, ...], sizes: dict[str, int | None], console: Console) -> None:
    """Print the result of a dry run: the files that the bundle would contain, and their sizes."""
    total = sum(file_size or 0 for file_size in sizes.values())
    if console.wants_json:
        console.print_json(
            {
                "ok": True,
                "dry_run": True,
                "size": total,
                "files": [{"name": name, "size": size} for name, size in sorted(sizes.items())],
                "targets": [
                    {
                        "name": plan.target.name,
                        "tag": plan.target.tag,
                        "machines": str(plan.target.description),
                        "packages": describe_packages(plan),
                    }
                    for plan in plans
                ],
            }
        )
        return
    for plan in plans:
        console.print_result(
            text("{target}: {count} distributions", target=plan.target.name, count=len(plan.selection.files))
        )
        for file in plan.selection.files:
            count = sizes.get(file.filename)
            size = format_size(count) if count is not None else "?"
            console.print_result(f"  {file.name} {file.version or '?'}  {file.filename}  {size}")
    console.print_result(text("{count} files, {size}; nothing was written", count=len(sizes), size=format_size(total)))


def print_build_result(result: BuildResult, console: Console) -> None:
    """Print the summary: bundles, targets, sizes, hashes and durations, and the command for the target machine."""
    machines = {target.tag: target.description for target in result.targets}
    first = result.bundles[0]
    document = {
        "ok": True,
        **_describe_archive(first.archive),
        "name": first.manifest.name,
        "version": first.manifest.version,
        "folder": first.manifest.folder,
        "bundles": [
            {**_describe_archive(bundle.archive), "targets": [target.tag for target in bundle.manifest.targets]}
            for bundle in result.bundles
        ],
        "targets": [
            {
                "name": target.name,
                "tag": target.tag,
                "machines": str(machines[target.tag]),
                "packages": [
                    {
                        "name": step.name,
                        "version": step.version,
                        "file": _strip_folder(step.file),
                        "sha256": hashes[step.file],
                    }
                    for step in target.install
                ],
            }
            for packed in result.bundles
            for hashes in [{file.path: file.sha256 for file in packed.manifest.files}]
            for target in packed.manifest.targets
        ],
        **({"rehearsal": [verdict.to_json() for verdict in result.verdicts]} if result.verdicts else {}),
        "findings": [finding.to_json() for finding in result.findings],
        "seconds": {**result.seconds, "total": round(console.elapsed_seconds, 3)},
    }
    console.write_summary(document)
    if console.wants_json:
        return
    for bundle in result.bundles:
        if console.verbosity < 0:
            console.print_result(str(bundle.archive.path))
        else:
            tags = {target.tag for target in bundle.manifest.targets}
            _print_bundle(bundle, machines, [verdict for verdict in result.verdicts if verdict.tag in tags], console)


def _describe_archive(archive: Archive) -> dict[str, Any]:
    return {
        "bundle": str(archive.path),
        "size": archive.size,
        "sha256": archive.sha256,
        "parts": [str(part.path) for part in archive.parts],
    }


def _print_bundle(bundle: WrittenBundle, machines: dict[str, Text], verdicts: list[Verdict], console: Console) -> None:
    archive, listed = bundle.archive, bundle.manifest
    lines: list[str | Text] = [
        text(
            "{path}: {count} distributions, {size}, {seconds} s",
            path=archive.path,
            count=len({(step.name, step.version) for target in listed.targets for step in target.install}),
            size=format_size(archive.size),
            seconds=round(console.elapsed_seconds, 1),
        ),
        f"  sha256 {archive.sha256}",
    ]
    for target in listed.targets:
        lines.append(text("  for {machines}", machines=machines[target.tag]))
        if console.verbosity > 0:
            lines += [f"    {step.name} {step.version}  {_strip_folder(step.file)}" for step in target.install]
    lines += describe_differing_versions(listed)
    lines += [sentence for verdict in verdicts for sentence in verdict.format_lines()]
    lines.append(text("on the other side:"))
    name, folder = archive.path.name, listed.folder
    unpack = f"tar -xzf {name}" if len(archive.parts) == 1 else f"cat {name}.[0-9]* | tar -xz"
    windows = dict.fromkeys(target.facts.os == "windows" for target in listed.targets)
    for is_windows in windows:
        start = f"{folder}\\install.cmd" if is_windows else f"python3 {folder}/install.py"
        lines.append(f"  {unpack} && {start}")
    console.print_result(*lines)


def _strip_folder(path: str) -> str:
    return path.rpartition("/")[2]


@click.command(cls=Command)
@click.pass_context
def init(ctx: click.Context) -> None:
    """Write the settings of the project in this folder ([tool.offlinepack]), with every usual option as a comment.

    They go to the end of pyproject.toml, or into offlinepack.toml where there is none.
    """
    console, folder = get_console(ctx), Path.cwd()
    path = folder / ("pyproject.toml" if (folder / "pyproject.toml").is_file() else "offlinepack.toml")
    for config_file in (folder / "offlinepack.toml", path):
        if has_config(config_file):
            raise UsageError(
                error(
                    "settings-there",
                    config_file.name,
                    "{subject} has settings of offlinepack already; nothing was changed.",
                    "Edit them there.",
                )
            )
    written = render_template(folder, build.params, get_running_target().generic().tag)
    before = path.read_bytes().decode("utf-8") if path.exists() else ""
    end = "\r\n" if "\r\n" in before else "\n"
    gap = "" if not before else end if before.endswith("\n") else end * 2
    write_file_atomically(path.resolve(), (before + gap + written.replace("\n", end)).encode())
    console.print_message(text("wrote {path}", path=path.name))
    console.print_result(written.rstrip())
    if console.wants_json:
        console.print_json({"ok": True, "file": path.name, "settings": read_config(path)})
