"""verify and inspect: what has to do with a bundle that lies here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offlinepack import bundle, cli, console, handover, roots, signing, summary
from offlinepack.cli.options import FILE, POLICY, SNAPSHOT, option
from offlinepack.errors import Finding, InstallError, IntegrityError, MachineError, error, raise_all, text
from offlinepack.ontarget import manifest, match
from offlinepack.targets import facts_to_json

if TYPE_CHECKING:
    from offlinepack.evidence import Evidence
    from offlinepack.rehearse import Verdict

KEYS = (
    option("--verify-key", multiple=True, metavar="FILE", help="Who must have signed: a .pub, or allowed signers."),
    option("--signature", metavar="FILE", help="The signature, where it lies neither in the bundle nor beside it."),
)


def checked(speaker: console.Console, opened: bundle.Bundle) -> tuple[int, list[Finding]]:
    """How many files the bundle has, and what is odd about it; IntegrityError: all that is wrong."""
    findings: list[Finding] = []

    def files() -> Iterator[manifest.File]:
        for one in opened.verify():
            if isinstance(one, Finding):
                findings.append(one)
            else:
                yield one

    total = float(sum(one.size for one in opened.manifest.files))
    what = text("checking {path}", path=opened.path)
    count = sum(1 for _ in speaker.track(what, files(), total, lambda one: one.size))
    return count, raise_all(IntegrityError, findings)


def known(speaker: console.Console, opened: bundle.Bundle) -> Evidence:
    """What a bundle tells of itself; it is read once, to its end."""
    from offlinepack.evidence import Evidence, of_bundle

    found: list[Evidence] = []

    def files() -> Iterator[manifest.File]:
        for one in of_bundle(opened):
            if isinstance(one, Evidence):
                found.append(one)
            else:
                yield one

    total = float(sum(one.size for one in opened.manifest.files))
    for _ in speaker.track(text("looking into {path}", path=opened.path), files(), total, lambda one: one.size):
        pass
    return found[0]


@click.command(cls=cli.Command, params=[*KEYS, POLICY, SNAPSHOT])
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    bundle_path: Path,
    verify_key: tuple[str, ...],
    signature: str | None,
    policy: Path | None,
    vulnerabilities: Path | None,
) -> None:
    """Check that a bundle (the tar.gz or its unpacked folder) is complete and unaltered since it was packed."""
    speaker = cli.console(ctx)
    opened = bundle.open_bundle(bundle_path)
    signed = signing.who_signed(opened, verify_key, signature)
    count, findings = checked(speaker, opened)
    if policy:
        from offlinepack.evidence.policy import Rules, read

        findings += Rules(read(policy), vulnerabilities).judge(known(speaker, opened))
    speaker.findings([*findings, *signed])
    if signed:
        sentence = text(
            "{path}: {count} files, complete and unaltered since it was signed.", path=bundle_path, count=count
        )
    else:
        sentence = text(
            "{path}: {count} files, complete and unaltered since packing; "
            "who packed it was not checked (--verify-key FILE).",
            path=bundle_path,
            count=count,
        )
    speaker.result(sentence)
    if speaker.wants_json:
        speaker.json(
            {
                "ok": True,
                "bundle": str(bundle_path),
                "name": opened.manifest.name,
                "version": opened.manifest.version,
                "files": count,
                "signed_by": [one.sentence.facts["who"] for one in signed],
                "sentence": str(sentence),
                "findings": [one.to_json() for one in (*findings, *signed)],
            }
        )


@click.command(cls=cli.Command)
@click.argument("path", metavar="BUNDLE|DIR", type=FILE)
@click.option("--target", metavar="NAME", help="Only this target.")
@click.pass_context
def inspect(ctx: click.Context, path: Path, target: str | None) -> None:
    """Tell what a bundle holds; of an environment: what runs there, from which bundle, and whether it was altered."""
    speaker = cli.console(ctx)
    bundled = os.path.lexists(path / manifest.MANIFEST)  # whatever else was planted in it
    if not bundled and ((path / "pyvenv.cfg").is_file() or Path(f"{path.absolute()}.d").is_dir()):
        words = ["--inspect", "--venv", str(path)] + (["--json"] if speaker.wants_json else [])
        ctx.exit(handover.run(words).returncode)
    opened = bundle.open_bundle(path)
    speaker.findings(checked(speaker, opened)[1])
    listed = opened.manifest
    shown = tuple(match.targets(listed, target))
    rehearsed, evidence = _rehearsed(opened), known(speaker, opened)
    if speaker.wants_json:
        told = {"rehearsal": [one for one in rehearsed.values() if one["tag"] in {each.tag for each in shown}]}
        speaker.json({"ok": True, "bundle": str(path), **_described(evidence, shown), **(told if rehearsed else {})})
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
        if verdict := rehearsed.get(one.tag):
            speaker.result(text("  rehearsed before it was packed: {verdict}", verdict=verdict["verdict"]))
            speaker.result(*(f"    {each['sentence']} {each['advice']}".rstrip() for each in verdict["forecast"]))
        for tool in one.tools:
            speaker.result(f"  {tool.name} {tool.version}  {tool.file}  {console.size(sizes[tool.file])}")
        for each in one.install:
            mark = "*" if each.requested else " "
            look = evidence.looks.get(each.file)
            licence = f"  {', '.join(look.licences)}" if look and look.licences else ""
            speaker.result(f"{mark} {each.name} {each.version}  {each.file}  {console.size(sizes[each.file])}{licence}")
        for need in one.needs:
            speaker.result(text("  needs {soname} from the system: {help}", soname=need.soname, help=need.help or ""))


def _rehearsed(opened: bundle.Bundle) -> dict[str, Any]:
    """Tag -> the verdict that the bundle brings of itself."""
    file = next((one for one in opened.manifest.files if one.path == manifest.REHEARSAL and one.carried), None)
    if file is None:
        return {}
    return {one["tag"]: one for one in json.loads(opened.read(file))["targets"]}


def _told(evidence: Evidence, path: str) -> dict[str, Any]:
    """What is known of a file beside the plan: for programs, as in the report."""
    look, story = evidence.looks.get(path), evidence.stories.get(path)
    return {"licences": list(look.licences) if look else [], "provenance": story}


def _described(evidence: Evidence, shown: tuple[manifest.Target, ...]) -> dict[str, Any]:
    listed = evidence.manifest
    files = {one.path: one for one in listed.files}
    return {
        "name": listed.name,
        "version": listed.version,
        "sequence": listed.sequence,
        "install_to": listed.install_to,
        "format": listed.format,
        "size": sum(one.size for one in listed.files),
        "files": [
            {"path": one.path, "size": one.size, "sha256": one.sha256, "kind": one.kind, "carried": one.carried}
            for one in listed.files
        ],
        "targets": [
            {
                "name": one.name,
                "tag": one.tag,
                "python_min": one.python_min,
                "facts": facts_to_json(one.facts),
                "install": [
                    {
                        "name": each.name,
                        "version": each.version,
                        "file": each.file,
                        "requires": each.requires,
                        "requested": each.requested,
                        "built_from": each.built_from,
                        "sha256": files[each.file].sha256,
                        "size": files[each.file].size,
                        **_told(evidence, each.file),
                    }
                    for each in one.install
                ],
                "tools": [
                    {
                        "name": each.name,
                        "version": each.version,
                        "file": each.file,
                        "sha256": files[each.file].sha256,
                        **_told(evidence, each.file),
                    }
                    for each in one.tools
                ],
                "needs": [
                    {"soname": each.soname, "symbols": each.symbols, "wanted_by": each.wanted_by, "help": each.help}
                    for each in one.needs
                ],
            }
            for one in shown
        ],
    }


@click.command(cls=cli.Command)
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.pass_context
def diff(ctx: click.Context, old: Path, new: Path) -> None:
    """Tell what changed between two bundles; each the tar.gz, its folder, or a manifest.json alone."""
    from offlinepack.evidence.diff import diff as compared

    speaker = cli.console(ctx)
    found = compared(old, new)
    speaker.findings(found.findings)
    speaker.result(*found.lines())
    if speaker.wants_json:
        speaker.json({"ok": True, **found.to_json()})


@click.command(cls=cli.Command)
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.option(
    "--key", type=FILE, required=True, metavar="KEY", help="The private key, or the .pub of one in the agent."
)
@click.option("--embed", is_flag=True, help="Put the signature into the bundle, as the second one.")
@click.pass_context
def sign(ctx: click.Context, bundle_path: Path, key: Path, embed: bool) -> None:
    """Check a bundle and sign it as it is: the signature goes beside it (<bundle>.sig), or with --embed into it."""
    speaker = cli.console(ctx)
    opened = bundle.open_bundle(bundle_path)
    findings = checked(speaker, opened)[1]
    made = signing.sign(opened.data, key)
    if embed:
        opened.embed(made)
        place = bundle_path
    else:
        place = signing.put_beside(bundle_path, made)
    speaker.findings(findings)
    speaker.result(text("signed: {place}", place=place))
    if speaker.wants_json:
        told = [one.to_json() for one in findings]
        facts = {"bundle": str(bundle_path), "signature": str(place), "embedded": embed, "findings": told}
        speaker.json({"ok": True, **facts})


@click.command(cls=cli.Command)
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="Where the joined bundle goes.")
@click.pass_context
def merge(ctx: click.Context, bundles: tuple[Path, ...], output: Path) -> None:
    """Join bundles of one name that were made for different targets, on different machines for example."""
    speaker = cli.console(ctx)
    from offlinepack.evidence import Evidence, sbom

    opened = [bundle.open_bundle(one) for one in bundles]
    for one in opened:
        checked(speaker, one)
    parts = [known(speaker, one) for one in opened]

    def describe(draft: manifest.Manifest) -> dict[str, bytes]:
        # a tool that another bundle installs lies in wheels/
        looks = {path.rpartition("/")[2]: look for one in parts for path, look in one.looks.items()}
        stories = {path.rpartition("/")[2]: story for one in parts[::-1] for path, story in one.stories.items()}
        named = {one.path: one.path.rpartition("/")[2] for one in draft.files}
        whole = Evidence(
            draft,
            {path: looks[name] for path, name in named.items() if name in looks},
            {path: stories[name] for path, name in named.items() if name in stories},
        )
        return {manifest.SBOM: sbom.write(whole)}

    listed, members = bundle.join(opened, describe)
    total = float(sum(one.size for one in listed.files))
    steps = speaker.track(text("packing {path}", path=output), members, total, lambda one: one.file.size)
    written = bundle.write(output, listed, steps)
    speaker.result(
        text(
            "{path}: {targets}, {size}",
            path=output,
            targets=[one.name for one in listed.targets],
            size=console.size(written.size),
        ),
        f"  sha256 {written.sha256}",
    )
    if speaker.wants_json:
        speaker.json(
            {
                "ok": True,
                "bundle": str(output),
                "sha256": written.sha256,
                "size": written.size,
                "targets": [one.tag for one in listed.targets],
            }
        )


@click.command(cls=cli.Command)
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.option("--target", metavar="NAME", help="Only this target.")
@click.option("--live", is_flag=True, help="Also install it in a throw-away place, no network; import every module.")
@click.option("--root", type=FILE, metavar="DIR", help="Live in this root file system of the target, instead of here.")
@click.option("--smoke", multiple=True, metavar="CMD", help="Live, then run this there: 'python -m myapp check'.")
@click.option(
    "--report", type=FILE, metavar="FILE", help="Write the verdicts there too, by suffix: .json, .md, .xml (JUnit)."
)
@click.option(
    "--cache-dir", cls=cli.Option, type=FILE, metavar="DIR", rare=True, help="Where it stands what is known of wheels."
)
@click.pass_context
def rehearse(
    ctx: click.Context,
    bundle_path: Path,
    target: str | None,
    live: bool,
    root: Path | None,
    smoke: tuple[str, ...],
    report: Path | None,
    cache_dir: Path | None,
) -> None:
    """Know before the crossing: pip, seeing each target, installs from the bundle alone; wheels are placed in memory.

    With --live (--root and --smoke mean it too) the bundle's own install.py runs as well; every module is imported.
    """
    from offlinepack.rehearse import live as stage
    from offlinepack.rehearse import static
    from offlinepack.store import Store

    speaker = cli.console(ctx)
    speaker.report = summary.check(report) if report else None
    if root:
        roots.check(root)
    opened = bundle.open_bundle(bundle_path)
    shown = tuple(match.targets(opened.manifest, target))
    checked(speaker, opened)  # pip believes what is in a wheel
    what = text("rehearsing {targets}", targets=[one.name for one in shown])
    with Store.open(cache_dir or Store.default_folder()) as store:
        verdicts = list(speaker.track(what, static.rehearse(opened, shown, store=store), len(shown)))
    live = live or bool(root or smoke)
    if live:
        what = text("rehearsing live {targets}", targets=[one.name for one in shown])
        verdicts = list(speaker.track(what, stage.rehearse(opened, verdicts, root, smoke), len(shown)))
    findings, code = [one for each in verdicts for one in each.findings], _code(verdicts)
    if not code and live and not any(each.runs for each in verdicts):
        code = MachineError.exit_code
        findings.append(
            error(
                "nothing-rehearsed",
                bundle_path,
                "No target of {subject} could be rehearsed live: {place} has no Python that fits {targets}.",
                "--root DIR takes a root file system of the target.",
                place=root or text("this computer"),
                targets=[one.name for one in shown],
            )
        )
    speaker.findings(findings)
    for each in verdicts:
        speaker.result(*each.sentences())
    speaker.conclude(
        {
            "ok": not code,
            **({"exit_code": code} if code else {}),
            "bundle": str(bundle_path),
            "targets": [{**one.to_json(), "sentences": [each.say() for each in one.sentences()]} for one in verdicts],
            "findings": [one.to_json() for one in findings],
        }
    )
    ctx.exit(code)


def _code(verdicts: Sequence[Verdict]) -> int:
    if any(one.installs is False for one in verdicts):
        return MachineError.exit_code
    return InstallError.exit_code if any(one.runs is False for one in verdicts) else 0
