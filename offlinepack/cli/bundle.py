"""verify and inspect: what has to do with a bundle that lies here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from offlinepack import bundle, cli, console
from offlinepack.cli.machine import run_ontarget
from offlinepack.cli.options import FILE
from offlinepack.errors import Finding, IntegrityError, MachineError, error, text
from offlinepack.ontarget import manifest


@click.command(cls=cli.Command)
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.pass_context
def verify(ctx: click.Context, bundle_path: Path) -> None:
    """Check that a bundle (the tar.gz or its unpacked folder) is complete and unaltered since it was packed."""
    speaker = cli.console(ctx)
    opened = bundle.open_bundle(bundle_path)
    findings: list[Finding] = []

    def files() -> Iterator[manifest.File]:
        for one in opened.verify():
            if isinstance(one, Finding):
                findings.append(one)
            else:
                yield one

    listed = opened.manifest
    total = float(sum(one.size for one in listed.files))
    checked = sum(
        1 for _ in speaker.track(text("checking {path}", path=bundle_path), files(), total, lambda one: one.size)
    )
    if any(one.level == "error" for one in findings):
        raise IntegrityError(*findings)
    speaker.findings(findings)
    sentence = text(
        "{path}: {count} files, complete and unaltered since packing; "
        "who packed it was not checked (--verify-key FILE).",
        path=bundle_path,
        count=checked,
    )
    speaker.result(sentence)
    if speaker.wants_json:
        speaker.json(
            {
                "ok": True,
                "bundle": str(bundle_path),
                "name": listed.name,
                "version": listed.version,
                "files": checked,
                "signed_by": [],
                "sentence": str(sentence),
                "findings": [one.to_json() for one in findings],
            }
        )


@click.command(cls=cli.Command)
@click.argument("path", metavar="BUNDLE|DIR", type=FILE)
@click.option("--target", metavar="NAME", help="Only this target.")
@click.pass_context
def inspect(ctx: click.Context, path: Path, target: str | None) -> None:
    """Tell what a bundle holds; of an environment: what runs there, from which bundle, and whether it was altered."""
    speaker = cli.console(ctx)
    if path.is_dir() and not (path / manifest.MANIFEST).exists():
        words = ["--inspect", "--venv", str(path)] + (["--json"] if speaker.wants_json else [])
        ctx.exit(run_ontarget(words))
    listed = bundle.open_bundle(path).manifest
    shown = listed.targets if target is None else (named(listed, target),)
    if speaker.wants_json:
        speaker.json({"ok": True, "bundle": str(path), **_described(listed, shown)})
        return
    sizes = {one.path: one.size for one in listed.files}
    speaker.result(
        text(
            "{folder}: {count} files, {size}, format {format}",
            folder=listed.folder,
            count=len(listed.files),
            size=console.size(sum(sizes.values())),
            format=listed.format,
        )
    )
    if listed.sequence is not None:
        speaker.result(text("sequence {sequence}", sequence=listed.sequence))
    if listed.install_to:
        speaker.result(text("goes to {place}", place=listed.install_to))
    for one in shown:
        speaker.result(
            text("{name} ({tag}): {count} distributions", name=one.name, tag=one.tag, count=len(one.install))
        )
        for tool in one.tools:
            speaker.result(f"  {tool.name} {tool.version}  {tool.file}  {console.size(sizes[tool.file])}")
        for each in one.install:
            mark = "*" if each.requested else " "
            speaker.result(f"{mark} {each.name} {each.version}  {each.file}  {console.size(sizes[each.file])}")
        for need in one.needs:
            speaker.result(text("  needs {soname} from the system: {help}", soname=need.soname, help=need.help or ""))


def named(listed: manifest.Manifest, name: str) -> manifest.Target:
    """The target of this name or tag, or MachineError with those there are."""
    for one in listed.targets:
        if name in (one.name, one.tag):
            return one
    raise MachineError(
        error(
            "no-such-target",
            name,
            "This bundle has no target {subject}.",
            "It has: {targets}.",
            targets=[f"{one.name} ({one.tag})" for one in listed.targets],
        )
    )


def _described(listed: manifest.Manifest, shown: tuple[manifest.Target, ...]) -> dict[str, Any]:
    files = {one.path: one for one in listed.files}
    return {
        "name": listed.name,
        "version": listed.version,
        "sequence": listed.sequence,
        "install_to": listed.install_to,
        "format": listed.format,
        "size": sum(one.size for one in listed.files),
        "files": [one._asdict() for one in listed.files],
        "targets": [
            {
                "name": one.name,
                "tag": one.tag,
                "python_min": one.python_min,
                "facts": one.facts._asdict(),
                "install": [
                    {**each._asdict(), "sha256": files[each.file].sha256, "size": files[each.file].size}
                    for each in one.install
                ],
                "tools": [{**each._asdict(), "sha256": files[each.file].sha256} for each in one.tools],
                "needs": [each._asdict() for each in one.needs],
            }
            for one in shown
        ],
    }
