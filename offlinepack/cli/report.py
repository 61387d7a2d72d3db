"""The command report: write what an approver reads before a bundle is transferred."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import click

from offlinepack.bundle.reader import open_bundle
from offlinepack.cli.bundle import check_bundle, read_bundle_facts
from offlinepack.cli.command import Command, get_console
from offlinepack.cli.options.base import FILE
from offlinepack.cli.options.policy import VULNERABILITIES_OPTION
from offlinepack.errors import UsageError, error, text
from offlinepack.ontarget.files import write_file_atomically

_REPORT_SUFFIXES = (".html", ".htm", ".md", ".json")


@click.command(cls=Command, params=[VULNERABILITIES_OPTION])
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
    from offlinepack.report.facts import compare_with_previous, make_report, render_texts
    from offlinepack.report.html import render_html
    from offlinepack.report.markdown import render_markdown
    from offlinepack.report.policy import look_up_vulnerabilities

    if output and output.suffix.lower() not in _REPORT_SUFFIXES:
        raise UsageError(
            error(
                "report-form", output, "A report is .html, .md or .json, and {subject} is none of these.", "Name it so."
            )
        )
    console = get_console(ctx)
    opened = open_bundle(bundle_path)
    check_bundle(console, opened)
    difference = compare_with_previous(against, opened) if against else None
    evidence, today = read_bundle_facts(console, opened), date.today()
    looked_up = console.run_with_spinner(
        text("looking up known vulnerabilities"), lambda: look_up_vulnerabilities(evidence, vulnerabilities, today)
    )
    facts = make_report(evidence, opened.manifest_bytes, today, looked_up, difference)
    form = output.suffix.lower() if output else ""
    if form == ".json":
        page = (
            json.dumps({"schema": 1, "command": "report", **render_texts(facts)}, indent=1, ensure_ascii=False) + "\n"
        )
    elif form in (".html", ".htm"):
        page = render_html(facts, console.lang, console.messages)
    else:
        page = render_markdown(facts, console.messages)
    if output:
        write_file_atomically(output, page.encode())
        console.print_message(text("wrote {path}", path=output))
    else:
        console.print_result(page.rstrip("\n"))
    if console.wants_json:
        console.print_json({"ok": True, **render_texts(facts)})
