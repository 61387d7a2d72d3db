"""The commands verify, inspect, diff, sign, merge and rehearse, which read a bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offlinepack.bundle.layout import REHEARSAL, SBOM
from offlinepack.bundle.merge import merge_bundles
from offlinepack.bundle.reader import Bundle, open_bundle
from offlinepack.bundle.writer import write_bundle
from offlinepack.cli.command import Command, Option, get_console
from offlinepack.cli.console import Console, format_size
from offlinepack.cli.options.base import FILE, make_option
from offlinepack.cli.options.policy import POLICY_OPTION, VULNERABILITIES_OPTION
from offlinepack.cli.summary import check_summary_path
from offlinepack.errors import Finding, InstallError, IntegrityError, MachineError, error, raise_on_errors, text
from offlinepack.launcher import run_install_script
from offlinepack.ontarget.manifest import MANIFEST, File, Manifest, TargetPlan
from offlinepack.ontarget.target_selection import filter_targets
from offlinepack.sandbox import check_root
from offlinepack.signing import sign_manifest, verify_signatures, write_signature
from offlinepack.targets.parse import serialize_facts

if TYPE_CHECKING:
    from offlinepack.rehearsal.verdict import Verdict
    from offlinepack.report.facts import BundleFacts


SIGNATURE_OPTIONS = (
    make_option(
        "--verify-key", multiple=True, metavar="FILE", help="Who must have signed: a .pub, or allowed signers."
    ),
    make_option(
        "--signature", metavar="FILE", help="The signature, where it lies neither in the bundle nor beside it."
    ),
)


def check_bundle(speaker: Console, opened: Bundle) -> tuple[int, list[Finding]]:
    """How many files the bundle has, and what is odd about it; IntegrityError: all that is wrong."""
    findings: list[Finding] = []

    def files() -> Iterator[File]:
        for one in opened.verify():
            if isinstance(one, Finding):
                findings.append(one)
            else:
                yield one

    total = float(sum(one.size for one in opened.manifest.files))
    what = text("checking {path}", path=opened.path)
    count = sum(1 for _ in speaker.track(what, files(), total, lambda one: one.size))
    return count, raise_on_errors(IntegrityError, findings)


def read_bundle_facts(speaker: Console, opened: Bundle) -> BundleFacts:
    """What a bundle tells of itself; it is read once, to its end."""
    from offlinepack.report.facts import BundleFacts, collect_bundle_facts

    found: list[BundleFacts] = []

    def files() -> Iterator[File]:
        for one in collect_bundle_facts(opened):
            if isinstance(one, BundleFacts):
                found.append(one)
            else:
                yield one

    total = float(sum(one.size for one in opened.manifest.files))
    for _ in speaker.track(text("looking into {path}", path=opened.path), files(), total, lambda one: one.size):
        pass
    return found[0]


@click.command(cls=Command, params=[*SIGNATURE_OPTIONS, POLICY_OPTION, VULNERABILITIES_OPTION])
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
    speaker = get_console(ctx)
    opened = open_bundle(bundle_path)
    signed = verify_signatures(opened, verify_key, signature)
    count, findings = check_bundle(speaker, opened)
    if policy:
        from offlinepack.report.policy import PolicyCheck, read_policy

        findings += PolicyCheck(read_policy(policy), vulnerabilities).check(read_bundle_facts(speaker, opened))
    speaker.print_findings([*findings, *signed])
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
    speaker.print_result(sentence)
    if speaker.wants_json:
        speaker.print_json(
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


@click.command(cls=Command)
@click.argument("path", metavar="BUNDLE|DIR", type=FILE)
@click.option("--target", metavar="NAME", help="Only this target.")
@click.pass_context
def inspect(ctx: click.Context, path: Path, target: str | None) -> None:
    """Tell what a bundle holds; of an environment: what runs there, from which bundle, and whether it was altered."""
    speaker = get_console(ctx)
    bundled = os.path.lexists(path / MANIFEST)  # whatever else was planted in it
    if not bundled and ((path / "pyvenv.cfg").is_file() or Path(f"{path.absolute()}.d").is_dir()):
        words = ["--inspect", "--venv", str(path)] + (["--json"] if speaker.wants_json else [])
        ctx.exit(run_install_script(words).returncode)
    opened = open_bundle(path)
    speaker.print_findings(check_bundle(speaker, opened)[1])
    listed = opened.manifest
    shown = tuple(filter_targets(listed, target))
    rehearsed, evidence = _read_verdicts(opened), read_bundle_facts(speaker, opened)
    if speaker.wants_json:
        told = {"rehearsal": [one for one in rehearsed.values() if one["tag"] in {each.tag for each in shown}]}
        speaker.print_json(
            {"ok": True, "bundle": str(path), **_describe_bundle(evidence, shown), **(told if rehearsed else {})}
        )
        return
    sizes = {one.path: one.size for one in listed.files}
    speaker.print_result(
        text(
            "{folder}: {count} files, {size}, format {format}",
            folder=listed.folder,
            count=len(listed.files),
            size=format_size(sum(sizes.values())),
            format=listed.format,
        )
    )
    if listed.sequence is not None:
        speaker.print_result(text("sequence {sequence}", sequence=listed.sequence))
    if listed.install_to:
        speaker.print_result(text("goes to {place}", place=listed.install_to))
    for one in shown:
        speaker.print_result(
            text("{name} ({tag}): {count} distributions", name=one.name, tag=one.tag, count=len(one.install))
        )
        if verdict := rehearsed.get(one.tag):
            speaker.print_result(text("  rehearsed before it was packed: {verdict}", verdict=verdict["verdict"]))
            speaker.print_result(*(f"    {each['sentence']} {each['advice']}".rstrip() for each in verdict["forecast"]))
        for tool in one.tools:
            speaker.print_result(f"  {tool.name} {tool.version}  {tool.file}  {format_size(sizes[tool.file])}")
        for each in one.install:
            mark = "*" if each.requested else " "
            look = evidence.contents.get(each.file)
            licence = f"  {', '.join(look.licenses)}" if look and look.licenses else ""
            speaker.print_result(
                f"{mark} {each.name} {each.version}  {each.file}  {format_size(sizes[each.file])}{licence}"
            )
        for need in one.needs:
            speaker.print_result(
                text("  needs {soname} from the system: {help}", soname=need.soname, help=need.help or "")
            )


def _read_verdicts(opened: Bundle) -> dict[str, Any]:
    """Tag -> the verdict that the bundle brings of itself."""
    file = next((one for one in opened.manifest.files if one.path == REHEARSAL and one.carried), None)
    if file is None:
        return {}
    return {one["tag"]: one for one in json.loads(opened.read_file(file))["targets"]}


def _describe_file(evidence: BundleFacts, path: str) -> dict[str, Any]:
    """What is known of a file beside the plan: for programs, as in the report."""
    look, story = evidence.contents.get(path), evidence.provenance.get(path)
    return {"licences": list(look.licenses) if look else [], "provenance": story}


def _describe_bundle(evidence: BundleFacts, shown: tuple[TargetPlan, ...]) -> dict[str, Any]:
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
                "facts": serialize_facts(one.facts),
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
                        **_describe_file(evidence, each.file),
                    }
                    for each in one.install
                ],
                "tools": [
                    {
                        "name": each.name,
                        "version": each.version,
                        "file": each.file,
                        "sha256": files[each.file].sha256,
                        **_describe_file(evidence, each.file),
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


@click.command(cls=Command)
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.pass_context
def diff(ctx: click.Context, old: Path, new: Path) -> None:
    """Tell what changed between two bundles; each the tar.gz, its folder, or a manifest.json alone."""
    from offlinepack.report.diff import diff_bundles

    speaker = get_console(ctx)
    found = diff_bundles(old, new)
    speaker.print_findings(found.findings)
    speaker.print_result(*found.format_lines())
    if speaker.wants_json:
        speaker.print_json({"ok": True, **found.to_json()})


@click.command(cls=Command)
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.option(
    "--key", type=FILE, required=True, metavar="KEY", help="The private key, or the .pub of one in the agent."
)
@click.option("--embed", is_flag=True, help="Put the signature into the bundle, as the second one.")
@click.pass_context
def sign(ctx: click.Context, bundle_path: Path, key: Path, embed: bool) -> None:
    """Check a bundle and sign it as it is: the signature goes beside it (<bundle>.sig), or with --embed into it."""
    speaker = get_console(ctx)
    opened = open_bundle(bundle_path)
    findings = check_bundle(speaker, opened)[1]
    made = sign_manifest(opened.manifest_bytes, key)
    if embed:
        opened.embed_signature(made)
        place = bundle_path
    else:
        place = write_signature(bundle_path, made)
    speaker.print_findings(findings)
    speaker.print_result(text("signed: {place}", place=place))
    if speaker.wants_json:
        told = [one.to_json() for one in findings]
        facts = {"bundle": str(bundle_path), "signature": str(place), "embedded": embed, "findings": told}
        speaker.print_json({"ok": True, **facts})


@click.command(cls=Command)
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="Where the joined bundle goes.")
@click.pass_context
def merge(ctx: click.Context, bundles: tuple[Path, ...], output: Path) -> None:
    """Join bundles of one name that were made for different targets, on different machines for example."""
    speaker = get_console(ctx)
    from offlinepack.report.facts import BundleFacts
    from offlinepack.report.sbom import make_sbom

    opened = [open_bundle(one) for one in bundles]
    for one in opened:
        check_bundle(speaker, one)
    parts = [read_bundle_facts(speaker, one) for one in opened]

    def describe(draft: Manifest) -> dict[str, bytes]:
        # a tool that another bundle installs lies in wheels/
        looks = {path.rpartition("/")[2]: look for one in parts for path, look in one.contents.items()}
        stories = {path.rpartition("/")[2]: story for one in parts[::-1] for path, story in one.provenance.items()}
        named = {one.path: one.path.rpartition("/")[2] for one in draft.files}
        whole = BundleFacts(
            draft,
            {path: looks[name] for path, name in named.items() if name in looks},
            {path: stories[name] for path, name in named.items() if name in stories},
        )
        return {SBOM: make_sbom(whole)}

    listed, members = merge_bundles(opened, describe)
    total = float(sum(one.size for one in listed.files))
    steps = speaker.track(text("packing {path}", path=output), members, total, lambda one: one.file.size)
    written = write_bundle(output, listed, steps)
    speaker.print_result(
        text(
            "{path}: {targets}, {size}",
            path=output,
            targets=[one.name for one in listed.targets],
            size=format_size(written.size),
        ),
        f"  sha256 {written.sha256}",
    )
    if speaker.wants_json:
        speaker.print_json(
            {
                "ok": True,
                "bundle": str(output),
                "sha256": written.sha256,
                "size": written.size,
                "targets": [one.tag for one in listed.targets],
            }
        )


@click.command(cls=Command)
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.option("--target", metavar="NAME", help="Only this target.")
@click.option("--live", is_flag=True, help="Also install it in a throw-away place, no network; import every module.")
@click.option("--root", type=FILE, metavar="DIR", help="Live in this root file system of the target, instead of here.")
@click.option("--smoke", multiple=True, metavar="CMD", help="Live, then run this there: 'python -m myapp check'.")
@click.option(
    "--report", type=FILE, metavar="FILE", help="Write the verdicts there too, by suffix: .json, .md, .xml (JUnit)."
)
@click.option(
    "--cache-dir", cls=Option, type=FILE, metavar="DIR", rare=True, help="Where it stands what is known of wheels."
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
    from offlinepack.rehearsal.live import run_install
    from offlinepack.rehearsal.static import check_bundle_targets
    from offlinepack.store import Store

    speaker = get_console(ctx)
    speaker.report_path = check_summary_path(report) if report else None
    if root:
        check_root(root)
    opened = open_bundle(bundle_path)
    shown = tuple(filter_targets(opened.manifest, target))
    check_bundle(speaker, opened)  # pip believes what is in a wheel
    what = text("rehearsing {targets}", targets=[one.name for one in shown])
    with Store.open(cache_dir or Store.get_default_folder()) as store:
        verdicts = list(speaker.track(what, check_bundle_targets(opened, shown, store=store), len(shown)))
    live = live or bool(root or smoke)
    if live:
        what = text("rehearsing live {targets}", targets=[one.name for one in shown])
        verdicts = list(speaker.track(what, run_install(opened, verdicts, root, smoke), len(shown)))
    findings, code = [one for each in verdicts for one in each.findings], _choose_exit_code(verdicts)
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
    speaker.print_findings(findings)
    for each in verdicts:
        speaker.print_result(*each.format_lines())
    speaker.write_summary(
        {
            "ok": not code,
            **({"exit_code": code} if code else {}),
            "bundle": str(bundle_path),
            "targets": [
                {**one.to_json(), "sentences": [each.render() for each in one.format_lines()]} for one in verdicts
            ],
            "findings": [one.to_json() for one in findings],
        }
    )
    ctx.exit(code)


def _choose_exit_code(verdicts: Sequence[Verdict]) -> int:
    if any(one.installs is False for one in verdicts):
        return MachineError.exit_code
    return InstallError.exit_code if any(one.runs is False for one in verdicts) else 0
