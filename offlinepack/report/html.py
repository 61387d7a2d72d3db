"""Render a report as one HTML file without scripts, in English or Chinese."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from offlinepack.errors import Text, text
from offlinepack.ontarget.errors import Messages
from offlinepack.report.page import Badge, Code, Link, Table
from offlinepack.report.sections import POINT_LABELS, format_lead, format_title, make_sections, make_tiles


def render_html(report: Mapping[str, Any], lang: str, words: Messages) -> str:
    """Render the report as one HTML file."""
    style = resources.files("offlinepack.report").joinpath("page.css").read_text("utf-8")
    parts = make_sections(report)
    title = html.escape(format_title(report))

    def say(value: Any) -> str:
        return html.escape(value.render(words) if isinstance(value, Text) else str(value))

    def cell(value: Any) -> str:
        if isinstance(value, Badge):
            return f'<span class="mark {value.kind}">{say(value.label)}</span>'
        if isinstance(value, Code):
            return f"<code>{say(value.content)}</code>"
        if isinstance(value, Link):
            return f'<a href="{html.escape(value.url)}">{say(value.label)}</a>'
        if isinstance(value, (list, tuple)) and not isinstance(value, Text):
            apart = " " if any(isinstance(member, Badge) for member in value) else ", "
            return apart.join(map(cell, value))
        return say(value)

    def table(section: Table) -> Iterator[str]:
        small = " class=small" if section.is_small else ""
        yield f'<div class="wide"><table{small}><caption>{say(section.caption)}</caption>'
        yield (
            "<thead><tr>"
            + "".join(
                f'<th scope="col"{" class=number" if at in section.number_columns else ""}>{say(head)}</th>'
                for at, head in enumerate(section.headings)
            )
            + "</tr></thead><tbody>"
        )
        for row in section.rows:
            yield (
                f'<tr><th scope="row">{cell(row[0])}</th>'
                + "".join(
                    f"<td{' class=number' if at in section.number_columns else ''}>{cell(value)}</td>"
                    for at, value in enumerate(row[1:], 1)
                )
                + "</tr>"
            )
        yield "</tbody></table></div>"

    def body() -> Iterator[str]:
        yield f'<a class="skip" href="#main">{say(text("To the contents"))}</a>'
        yield f'<header><p class="kind">{say(text("Report on an offline bundle"))}</p><h1>{title}</h1>'
        yield from (f"<p>{say(sentence)}</p>" for sentence in format_lead(report))
        yield "<ul class=tiles>"
        for label, count, kind in make_tiles(report):
            yield f'<li class="{kind}"><strong>{say(count)}</strong> {say(label)}</li>'
        yield f'</ul><nav aria-label="{say(text("On this page"))}"><ul>'
        yield (
            "".join(f'<li><a href="#{part.id}">{say(part.title)}</a></li>' for part in parts)
            + "</ul></nav></header><main id=main>"
        )
        for part in parts:
            yield f'<section aria-labelledby="{part.id}"><h2 id="{part.id}">{say(part.title)}</h2>'
            yield "".join(f"<p>{say(lead)}</p>" for lead in part.introduction)
            if part.points:
                yield "<ul class=points>"
                for level, sentence in part.points:
                    kind = {"error": "bad", "warning": "odd"}.get(level, "fine")
                    yield f'<li><span class="mark {kind}">{say(POINT_LABELS[level])}</span> {say(sentence)}</li>'
                yield "</ul>"
            for section in part.tables:
                yield from table(section)
            yield "</section>"
        footer = text("Made by offlinepack from the bundle itself; this page loads nothing from elsewhere.")
        yield f"</main><footer><p>{say(footer)}</p></footer>"

    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{title}</title>"
    language = "zh-CN" if lang == "zh" else "en"
    return (
        f'<!DOCTYPE html>\n<html lang="{language}"><head>{head}<style>{style}</style></head><body>'
        + "\n".join(body())
        + "</body></html>\n"
    )
