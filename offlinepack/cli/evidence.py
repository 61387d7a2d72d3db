"""report: the page for the person at the gate."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import click

from offlinepack import bundle, cli, pack
from offlinepack.cli.bundle import checked, known
from offlinepack.cli.options import FILE, SNAPSHOT
from offlinepack.errors import UsageError, error, text

_FORMS = (".html", ".htm", ".md", ".json")


@click.command(cls=cli.Command, params=[SNAPSHOT])
@click.argument("bundle_path", metavar="BUNDLE", type=FILE)
@click.option(
    "--against", type=FILE, metavar="OLD", help="What was approved last: a bundle, its manifest or its report (.json)."
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Where it goes, by suffix: .html, .md or .json.")
@click.pass_context
def report(
    ctx: click.Context, bundle_path: Path, against: Path | None, output: Path | None, vulnerabilities: Path | None
) -> None:
    """Tell what is in a bundle, where it is from, what changed and what is known of it; nothing is changed."""
    from offlinepack.evidence import page, policy
    from offlinepack.evidence import report as reports

    if output and output.suffix.lower() not in _FORMS:
        raise UsageError(
            error(
                "report-form",
                output,
                "A report is .html, .md or .json, and {subject} is none of these.",
                "Name it so.",
            )
        )
    speaker = cli.console(ctx)
    opened = bundle.open_bundle(bundle_path)
    checked(speaker, opened)
    difference = reports.differing(against, opened) if against else None
    evidence, today = known(speaker, opened), date.today()
    looked_up = speaker.during(
        text("looking up known vulnerabilities"), lambda: policy.vulnerabilities(evidence, vulnerabilities, today)
    )
    facts = reports.facts(evidence, opened.data, today, looked_up, difference)
    form = output.suffix.lower() if output else ""
    if form == ".json":
        made = (
            json.dumps({"schema": 1, "command": "report", **reports.plain(facts)}, indent=1, ensure_ascii=False) + "\n"
        )
    elif form in (".html", ".htm"):
        made = page.to_html(facts, speaker.lang, speaker.words)
    else:
        made = page.to_markdown(facts, speaker.words)
    if output:
        pack.write_whole(output, made.encode())
        speaker.say(text("wrote {path}", path=output))
    else:
        speaker.result(made.rstrip("\n"))
    if speaker.wants_json:
        speaker.json({"ok": True, **reports.plain(facts)})
