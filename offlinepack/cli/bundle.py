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
from offlinepack.cli.console import Console
from offlinepack.cli.options.base import FILE, make_option
from offlinepack.cli.options.policy import POLICY_OPTION, VULNERABILITIES_OPTION
from offlinepack.cli.summary import check_summary_path
from offlinepack.errors import Finding, InstallError, IntegrityError, MachineError, error, raise_on_errors, text
from offlinepack.launcher import run_install_script
from offlinepack.ontarget.files import format_size
from offlinepack.ontarget.manifest import MANIFEST, BundledPython, File, Manifest, TargetPlan
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


def check_bundle(console: Console, opened: Bundle) -> tuple[int, list[Finding]]:
    """Verify a bundle; return the number of its files, and findings. Raises IntegrityError with all errors."""
    findings: list[Finding] = []

    def files() -> Iterator[File]:
        for result in opened.verify():
            if isinstance(result, Finding):
                findings.append(result)
            else:
                yield result

    total = float(sum(file.size for file in opened.manifest.files))
    label = text("checking {path}", path=opened.path)
    count = sum(1 for _ in console.track(label, files(), total, lambda file: file.size))
    return count, raise_on_errors(IntegrityError, findings)


def read_bundle_facts(console: Console, opened: Bundle) -> BundleFacts:
    """Collect the facts about a bundle, reading it once."""
    from offlinepack.report.facts import BundleFacts, collect_bundle_facts

    facts: list[BundleFacts] = []

    def files() -> Iterator[File]:
        for progress in collect_bundle_facts(opened):
            if isinstance(progress, BundleFacts):
                facts.append(progress)
            else:
                yield progress

    total = float(sum(file.size for file in opened.manifest.files))
    for _ in console.track(text("looking into {path}", path=opened.path), files(), total, lambda file: file.size):
        pass
    return facts[0]


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
    console = get_console(ctx)
    opened = open_bundle(bundle_path)
    signed = verify_signatures(opened, verify_key, signature)
    count, findings = check_bundle(console, opened)
    if policy:
        from offlinepack.report.policy import PolicyCheck, read_policy

        findings += PolicyCheck(read_policy(policy), vulnerabilities).check(read_bundle_facts(console, opened))
    console.print_findings([*findings, *signed])
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
    console.print_result(sentence)
    if console.wants_json:
        console.print_json(
            {
                "ok": True,
                "bundle": str(bundle_path),
                "name": opened.manifest.name,
                "version": opened.manifest.version,
                "files": count,
                "signed_by": [signature_note.sentence.facts["who"] for signature_note in signed],
                "sentence": str(sentence),
                "findings": [finding.to_json() for finding in (*findings, *signed)],
            }
        )


@click.command(cls=Command)
@click.argument("path", metavar="BUNDLE|DIR", type=FILE)
@click.option("--target", metavar="NAME", help="Only this target.")
@click.pass_context
def inspect(ctx: click.Context, path: Path, target: str | None) -> None:
    """Tell what a bundle holds; of an environment: what runs there, from which bundle, and whether it was altered."""
    console = get_console(ctx)
    bundled = os.path.lexists(path / MANIFEST)  # whatever else was planted in it
    if not bundled and ((path / "pyvenv.cfg").is_file() or Path(f"{path.absolute()}.d").is_dir()):
        words = ["--inspect", "--venv", str(path)] + (["--json"] if console.wants_json else [])
        ctx.exit(run_install_script(words).returncode)
    opened = open_bundle(path)
    console.print_findings(check_bundle(console, opened)[1])
    listed = opened.manifest
    shown = tuple(filter_targets(listed, target))
    rehearsed, evidence = _read_verdicts(opened), read_bundle_facts(console, opened)
    if console.wants_json:
        extra_json = {
            "rehearsal": [
                entry for entry in rehearsed.values() if entry["tag"] in {shown_plan.tag for shown_plan in shown}
            ]
        }
        console.print_json(
            {"ok": True, "bundle": str(path), **_describe_bundle(evidence, shown), **(extra_json if rehearsed else {})}
        )
        return
    sizes = {file.path: file.size for file in listed.files}
    console.print_result(
        text(
            "{folder}: {count} files, {size}, format {format}",
            folder=listed.folder,
            count=len(listed.files),
            size=format_size(sum(sizes.values())),
            format=listed.format,
        )
    )
    if listed.sequence is not None:
        console.print_result(text("sequence {sequence}", sequence=listed.sequence))
    if listed.install_to:
        console.print_result(text("goes to {place}", place=listed.install_to))
    for plan in shown:
        console.print_result(
            text("{name} ({tag}): {count} distributions", name=plan.name, tag=plan.tag, count=len(plan.install))
        )
        if verdict := rehearsed.get(plan.tag):
            console.print_result(text("  rehearsed before it was packed: {verdict}", verdict=verdict["verdict"]))
            console.print_result(
                *(f"    {finding['sentence']} {finding['advice']}".rstrip() for finding in verdict["forecast"])
            )
        for tool in plan.tools:
            console.print_result(f"  {tool.name} {tool.version}  {tool.file}  {format_size(sizes[tool.file])}")
        for step in plan.install:
            mark = "*" if step.requested else " "
            look = evidence.contents.get(step.file)
            licence = f"  {', '.join(look.licenses)}" if look and look.licenses else ""
            console.print_result(
                f"{mark} {step.name} {step.version}  {step.file}  {format_size(sizes[step.file])}{licence}"
            )
        for need in plan.needs:
            console.print_result(
                text("  needs {soname} from the system: {help}", soname=need.soname, help=need.help or "")
            )


def _read_verdicts(opened: Bundle) -> dict[str, Any]:
    """Return the verdict of the rehearsal that the bundle contains, by tag."""
    file = next((member for member in opened.manifest.files if member.path == REHEARSAL), None)
    if file is None:
        return {}
    return {verdict["tag"]: verdict for verdict in json.loads(opened.read_file(file))["targets"]}


def _describe_file(evidence: BundleFacts, path: str) -> dict[str, Any]:
    """Return what is known about a file besides its plan, as the report shows it, for --json."""
    look, story = evidence.contents.get(path), evidence.provenance.get(path)
    return {"licences": list(look.licenses) if look else [], "provenance": story}


def _describe_record(file: File) -> dict[str, Any]:
    if file.record_sha256 is None:
        return {}
    return {"record_sha256": file.record_sha256, "accepted_record": file.accepted_record}


def _describe_python(python: BundledPython | None) -> dict[str, Any] | None:
    return {"file": python.file, "version": python.version, "build": python.build} if python else None


def _describe_bundle(evidence: BundleFacts, shown: tuple[TargetPlan, ...]) -> dict[str, Any]:
    listed = evidence.manifest
    files = {file.path: file for file in listed.files}
    return {
        "name": listed.name,
        "version": listed.version,
        "sequence": listed.sequence,
        "install_to": listed.install_to,
        "format": listed.format,
        "size": sum(file.size for file in listed.files),
        "files": [
            {"path": file.path, "size": file.size, "sha256": file.sha256, "kind": file.kind, **_describe_record(file)}
            for file in listed.files
        ],
        "targets": [
            {
                "name": plan.name,
                "tag": plan.tag,
                "python_min": plan.python_min,
                "cpu": plan.cpu,
                "python": _describe_python(plan.python),
                "facts": serialize_facts(plan.facts),
                "install": [
                    {
                        "name": step.name,
                        "version": step.version,
                        "file": step.file,
                        "requires": step.requires,
                        "requested": step.requested,
                        "built_from": step.built_from,
                        "sha256": files[step.file].sha256,
                        "size": files[step.file].size,
                        **_describe_file(evidence, step.file),
                    }
                    for step in plan.install
                ],
                "tools": [
                    {
                        "name": tool.name,
                        "version": tool.version,
                        "file": tool.file,
                        "sha256": files[tool.file].sha256,
                        **_describe_file(evidence, tool.file),
                    }
                    for tool in plan.tools
                ],
                "needs": [
                    {"soname": need.soname, "symbols": need.symbols, "wanted_by": need.wanted_by, "help": need.help}
                    for need in plan.needs
                ],
            }
            for plan in shown
        ],
    }


@click.command(cls=Command)
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.pass_context
def diff(ctx: click.Context, old: Path, new: Path) -> None:
    """Tell what changed between two bundles; each the tar.gz, its folder, or a manifest.json alone."""
    from offlinepack.report.diff import diff_bundles

    console = get_console(ctx)
    difference = diff_bundles(old, new)
    console.print_findings(difference.findings)
    console.print_result(*difference.format_lines())
    if console.wants_json:
        console.print_json({"ok": True, **difference.to_json()})


@click.command(cls=Command)
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.option(
    "--key", type=FILE, required=True, metavar="KEY", help="The private key, or the .pub of one in the agent."
)
@click.option("--embed", is_flag=True, help="Put the signature into the bundle, as the second one.")
@click.pass_context
def sign(ctx: click.Context, bundle_path: Path, key: Path, embed: bool) -> None:
    """Check a bundle and sign it as it is: the signature goes beside it (<bundle>.sig), or with --embed into it."""
    console = get_console(ctx)
    opened = open_bundle(bundle_path)
    findings = check_bundle(console, opened)[1]
    signature = sign_manifest(opened.manifest_bytes, key)
    if embed:
        opened.embed_signature(signature)
        place = bundle_path
    else:
        place = write_signature(bundle_path, signature)
    console.print_findings(findings)
    console.print_result(text("signed: {place}", place=place))
    if console.wants_json:
        findings_json = [finding.to_json() for finding in findings]
        facts = {"bundle": str(bundle_path), "signature": str(place), "embedded": embed, "findings": findings_json}
        console.print_json({"ok": True, **facts})


@click.command(cls=Command)
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="Where the joined bundle goes.")
@click.pass_context
def merge(ctx: click.Context, bundles: tuple[Path, ...], output: Path) -> None:
    """Join bundles of one name that were made for different targets, on different machines for example."""
    console = get_console(ctx)
    from offlinepack.report.facts import BundleFacts
    from offlinepack.report.sbom import make_sbom

    opened = [open_bundle(path) for path in bundles]
    for bundle in opened:
        check_bundle(console, bundle)
    parts = [read_bundle_facts(console, merged_bundle) for merged_bundle in opened]

    def describe(draft: Manifest) -> dict[str, bytes]:
        # a tool that another bundle installs lies in wheels/
        looks = {path.rpartition("/")[2]: look for facts in parts for path, look in facts.contents.items()}
        stories = {path.rpartition("/")[2]: story for facts in parts[::-1] for path, story in facts.provenance.items()}
        named = {file.path: file.path.rpartition("/")[2] for file in draft.files}
        whole = BundleFacts(
            draft,
            {path: looks[name] for path, name in named.items() if name in looks},
            {path: stories[name] for path, name in named.items() if name in stories},
        )
        return {SBOM: make_sbom(whole)}

    listed, members = merge_bundles(opened, describe)
    total = float(sum(file.size for file in listed.files))
    steps = console.track(text("packing {path}", path=output), members, total, lambda member: member.file.size)
    written = write_bundle(output, listed, steps)
    console.print_result(
        text(
            "{path}: {targets}, {size}",
            path=output,
            targets=[plan.name for plan in listed.targets],
            size=format_size(written.size),
        ),
        f"  sha256 {written.sha256}",
    )
    if console.wants_json:
        console.print_json(
            {
                "ok": True,
                "bundle": str(output),
                "sha256": written.sha256,
                "size": written.size,
                "targets": [plan.tag for plan in listed.targets],
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
    """Check before the transfer that each target can install the bundle: pip resolves from the bundle alone, as the
    target.

    With --live (implied by --root and --smoke) the bundle's own install.py runs as well, and every module is
    imported.
    """
    from offlinepack.rehearsal.live import run_install
    from offlinepack.rehearsal.static import check_bundle_targets
    from offlinepack.store import Store

    console = get_console(ctx)
    console.report_path = check_summary_path(report) if report else None
    if root:
        check_root(root)
    opened = open_bundle(bundle_path)
    shown = tuple(filter_targets(opened.manifest, target))
    check_bundle(console, opened)  # pip believes what is in a wheel
    label = text("rehearsing {targets}", targets=[plan.name for plan in shown])
    with Store.open(cache_dir or Store.get_default_folder()) as store:
        verdicts = list(console.track(label, check_bundle_targets(opened, shown, store=store), len(shown)))
    live = live or bool(root or smoke)
    if live:
        label = text("rehearsing live {targets}", targets=[plan.name for plan in shown])
        verdicts = list(console.track(label, run_install(opened, verdicts, root, smoke), len(shown)))
    findings, code = (
        [finding for target_verdict in verdicts for finding in target_verdict.findings],
        _choose_exit_code(verdicts),
    )
    if not code and live and not any(target_verdict.runs for target_verdict in verdicts):
        code = MachineError.exit_code
        findings.append(
            error(
                "nothing-rehearsed",
                bundle_path,
                "No target of {subject} could be rehearsed live: {place} has no Python that fits {targets}.",
                "--root DIR takes a root file system of the target.",
                place=root or text("this computer"),
                targets=[plan.name for plan in shown],
            )
        )
    console.print_findings(findings)
    for verdict in verdicts:
        console.print_result(*verdict.format_lines())
    console.write_summary(
        {
            "ok": not code,
            **({"exit_code": code} if code else {}),
            "bundle": str(bundle_path),
            "targets": [
                {
                    **target_verdict.to_json(),
                    "sentences": [sentence.render() for sentence in target_verdict.format_lines()],
                }
                for target_verdict in verdicts
            ],
            "findings": [finding.to_json() for finding in findings],
        }
    )
    ctx.exit(code)


def _choose_exit_code(verdicts: Sequence[Verdict]) -> int:
    if any(verdict.installs is False for verdict in verdicts):
        return MachineError.exit_code
    return InstallError.exit_code if any(verdict.runs is False for verdict in verdicts) else 0
