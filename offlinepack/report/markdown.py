"""Render a report as Markdown, in English or Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from offlinepack.errors import Text
from offlinepack.ontarget.errors import Messages
from offlinepack.report.page import Badge, Code, Link
from offlinepack.report.sections import POINT_LABELS, format_lead, format_title, make_sections, make_tiles


def render_markdown(report: Mapping[str, Any], words: Messages) -> str:
    """Render the report as Markdown."""

    def say(value: Any) -> str:
        rendered = value.render(words) if isinstance(value, Text) else str(value)
        return re.sub(r"([\\|<>*_])", r"\\\1", rendered)

    def cell(value: Any) -> str:
        if isinstance(value, Badge):
            return f"**{say(value.label)}**" if value.kind == "bad" else say(value.label)
        if isinstance(value, Code):
            return f"`{value.content}`"
        if isinstance(value, Link):
            return f"[{say(value.label)}]({value.url})"
        if isinstance(value, (list, tuple)) and not isinstance(value, Text):
            return ", ".join(map(cell, value))
        return say(value)

    def lines() -> Iterable[str]:
        yield from (f"# {say(format_title(report))}", "")
        for lead in format_lead(report):
            yield say(lead)
        yield ""
        for label, count, _ in make_tiles(report):
            yield f"- {say(label)}: **{say(count)}**"
        for section in make_sections(report):
            yield from ("", f"## {say(section.title)}", "")
            for lead in section.introduction:
                yield from (say(lead), "")
            for level, sentence in section.points:
                yield f"- **{say(POINT_LABELS[level])}** {say(sentence)}"
            for table in section.tables:
                yield from ("", f"{say(table.caption)}:", "", "| " + " | ".join(map(say, table.headings)) + " |")
                yield (
                    "| "
                    + " | ".join("---:" if at in table.number_columns else "---" for at in range(len(table.headings)))
                    + " |"
                )
                yield from ("| " + " | ".join(map(cell, row)) + " |" for row in table.rows)

    return "\n".join(lines()) + "\n"
