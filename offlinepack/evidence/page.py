"""The report as a page: one HTML file without scripts, and as Markdown; in English or Chinese.

Each section is a title and tables; both forms are made from the same sections, so that they tell the same.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from offlinepack.errors import Text, text
from offlinepack.ontarget.errors import Messages


@dataclass(frozen=True)
class Table:
    """Rows under a heading each; the first cell of a row names it."""

    caption: Text
    heads: tuple[Text | str, ...]
    rows: tuple[tuple[Any, ...], ...]
    right: tuple[int, ...] = ()
    """columns of numbers"""
    small: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    title: Text
    lead: tuple[Text, ...] = ()
    points: tuple[tuple[str, Text], ...] = ()
    """(level, sentence): error, warning or note"""
    tables: tuple[Table, ...] = field(default=())


@dataclass(frozen=True)
class Mark:
    """A short word on a coloured ground: bad, odd or fine."""

    kind: str
    word: Text


@dataclass(frozen=True)
class Fixed:
    """What is set in a fixed width: a hash, a file name, a command."""

    words: str


@dataclass(frozen=True)
class Link:
    """Words that lead to an address."""

    words: str
    url: str


def sections(report: Mapping[str, Any]) -> list[Section]:
    """The page's parts in order: what changed first, then what deserves a look, then everything."""
    parts = [
        _changed(report),
        _attention(report),
        _machines(report),
        _apart(report),
        _vulnerabilities(report),
        _licences(report),
        _projects(report),
        _built(report),
        _files(report),
    ]
    return [one for one in parts if one]


def tiles(report: Mapping[str, Any]) -> list[tuple[Text, str, str]]:
    """The figures at the top: what, how many, and bad, odd or fine."""
    every = [release for project in report["projects"] for release in project["releases"]]
    known = report["vulnerabilities"] or {}
    vulnerable = len({(one["name"], one["version"]) for one in known.get("known", ())})
    looked = bool(known.get("date"))
    yanked = sum(one["yanked"] for one in every)
    built = sum(one["origin"] == "built" for one in every)
    nameless = sum(not one["licences"] for one in every if one["origin"] != "included")
    native = sum(bool(one["native"]) for one in every)
    return [
        (text("projects"), str(len(report["projects"])), "fine"),
        (text("kinds of machines"), str(len(report["targets"])), "fine"),
        (text("in all"), _size(report["bundle"]["size"]), "fine"),
        (
            text("releases known to be vulnerable"),
            str(vulnerable) if looked else "?",
            "bad" if vulnerable else "fine" if looked else "odd",
        ),
        (text("withdrawn releases"), str(yanked), "bad" if yanked else "fine"),
        (text("built from source here"), str(built), "odd" if built else "fine"),
        (text("without a licence"), str(nameless), "odd" if nameless else "fine"),
        (text("with native code"), str(native), "fine"),
    ]


def _changed(report: Mapping[str, Any]) -> Section | None:
    found = report["difference"]
    if not found:
        return None
    old = " ".join(str(found["old"][key]) for key in ("name", "version") if found["old"][key])
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    names = {one["tag"]: one["name"] for one in report["targets"]}
    for tag, changes in found["targets"].items():
        for one in changes:
            if one["state"] != "same":
                versions = tuple((one[key] or {}).get("version", "-") for key in ("old", "new"))
                rows.setdefault((one["name"], one["state"], *versions), []).append(names.get(tag, tag))
    table = Table(
        text("Projects that changed"),
        (text("Project"), text("What"), text("Before"), text("Now"), text("Where")),
        tuple(
            (
                name,
                Mark("bad" if state == "rebuilt" else "odd" if state == "new" else "fine", _STATES[state]),
                old_,
                new,
                targets,
            )
            for (name, state, old_, new), targets in sorted(rows.items())
        ),
    )
    counts = text("{changed} of {all} changed, {new} new, {removed} removed; {same} byte-identical", **found["counts"])
    same = [text("Nothing changed since.")] if not rows and not found["findings"] else []
    return Section(
        "changed",
        text("What changed since {old}", old=old),
        (counts, *same),
        tuple((one["level"], _said(one)) for one in found["findings"]),
        (table,) if rows else (),
    )

_STATES = {
    "changed": text("another version"),
    "rebuilt": text("the same version, other bytes"),
    "new": text("new"),
    "removed": text("removed"),
}


def _said(finding: Mapping[str, Any]) -> Text:
    return text("{sentence} {advice}", sentence=finding["sentence"], advice=finding["advice"])


def _releases(report: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    for project in report["projects"]:
        for release in project["releases"]:
            yield project, release, f"{project['name']} {release['version']}"


def _attention(report: Mapping[str, Any]) -> Section:
    """Vulnerable, withdrawn, abandoned; what runs by itself; what nobody can tell."""
    points: list[tuple[str, Text]] = []
    for target in report["targets"]:
        verdict = (target["rehearsal"] or {}).get("verdict")
        if verdict == "fails":
            points.append(("error", text("The rehearsal for {target} failed.", target=target["name"])))
    grouped: dict[str, list[str]] = {}
    for _, one, called in _releases(report):
        if one["vulnerabilities"]:
            ids = [each["id"] for each in one["vulnerabilities"]]
            points.append(("error", text("{name} is known to be vulnerable: {ids}.", name=called, ids=ids)))
        if one["yanked"]:
            reason = one["yanked_reason"] or text("no reason given")
            points.append(
                (
                    "error",
                    text("{name} was withdrawn by its maintainers (yanked): {reason}.", name=called, reason=reason),
                )
            )
        if one["status"] not in (None, "active"):
            status = text(
                "The project of {name} is {status} on its index: {reason}.",
                name=called,
                status=one["status"],
                reason=one["status_reason"] or text("no reason given"),
            )
            points.append(("error" if one["status"] == "quarantined" else "warning", status))
        if one["startup"]:
            points.append(
                (
                    "warning",
                    text(
                        "{name} brings {files}, which runs at every start of Python.", name=called, files=one["startup"]
                    ),
                )
            )
        if one["unusual"]:
            points.append(
                (
                    "warning",
                    text(
                        "{name} brings top-level names that are not its own: {names}.",
                        name=called,
                        names=one["unusual"],
                    ),
                )
            )
        if one["executables"]:
            points.append(
                ("note", text("{name} brings programs of its own: {names}.", name=called, names=one["executables"][:6]))
            )
        if not one["licences"] and one["origin"] != "included":
            grouped.setdefault("licence", []).append(called)
        if one["origin"] == "built":
            grouped.setdefault("built", []).append(called)
        if one["origin"] in ("links", "address"):
            grouped.setdefault("links", []).append(called)
    for key, level, sentence in _GROUPS:
        if key in grouped:
            points.append((level, sentence._replace(facts={"names": grouped[key]})))
    order = {"error": 0, "warning": 1, "note": 2}
    points.sort(key=lambda one: order[one[0]])
    lead = () if points else (text("Nothing in this bundle asks for a second look."),)
    return Section("attention", text("What deserves a look"), lead, tuple(points))

_GROUPS = (
    ("licence", "warning", text("Nothing says under which licence these are: {names}.")),
    ("built", "note", text("Built from source on the packing host: {names}.")),
    ("links", "note", text("From a folder or an address, not from an index: {names}.")),
)


def _machines(report: Mapping[str, Any]) -> Section:
    rows = []
    for one in report["targets"]:
        verdict = (one["rehearsal"] or {}).get("verdict")
        mark = (
            Mark("bad" if verdict == "fails" else "fine", _VERDICTS.get(verdict, _VERDICTS["unknown"]))
            if verdict
            else text("not rehearsed")
        )
        rows.append(
            (
                one["name"],
                one["machines"],
                f"{one['python_min']}+",
                str(one["distributions"]),
                _size(one["size"]),
                one["tools"],
                mark,
            )
        )
    needs = tuple(
        (one["soname"], one["wanted_by"], one["targets"], Fixed(one["help"]) if one["help"] else "-")
        for one in report["needs"]
    )
    tables = [
        Table(
            text("Machines that this bundle is for"),
            (
                text("Target"),
                text("Machines"),
                "Python",
                text("Projects"),
                text("Size"),
                text("Tools"),
                text("Rehearsal"),
            ),
            tuple(rows),
            (3, 4),
        )
    ]
    if needs:
        heads = (text("Library"), text("Wanted by"), text("On"), text("What brings it"))
        tables.append(Table(text("Libraries that the system itself has to bring"), heads, needs))
    return Section("machines", text("Where it runs"), (), (), tuple(tables))

_VERDICTS = {
    "installs": text("installs"),
    "runs": text("runs"),
    "fails": text("fails"),
    "unknown": text("unknown"),
}


def _apart(report: Mapping[str, Any]) -> Section | None:
    rows = tuple(
        (
            one["name"],
            [
                text("{version} for {targets}", version=version, targets=names)
                for version, names in one["versions"].items()
            ],
            one["held_down_by"],
        )
        for one in report["versions_apart"]
    )
    if not rows:
        return None
    heads = (text("Project"), text("Versions"), text("Held below the newest by"))
    return Section(
        "apart",
        text("Not the same everywhere"),
        (),
        (),
        (Table(text("Projects with other versions on other machines"), heads, rows),),
    )


def _vulnerabilities(report: Mapping[str, Any]) -> Section:
    found = report["vulnerabilities"]
    title = text("Known vulnerabilities")
    if not found or not found["date"]:
        why = (found or {}).get("problem") or text("nobody was asked")
        return Section("vulnerabilities", title, (text("They were not looked up: {why}.", why=why),))
    lead = [text("As of {date}, by {source}.", date=found["date"], source=found["source"])]
    if not found["known"]:
        lead.append(text("None is known of the releases that were looked up."))
    lacking = found["not_looked_up"]
    if lacking:
        names = lacking if len(lacking) <= 20 else [*lacking[:20], "…"]
        lead.append(text("{count} releases were not looked up: {names}.", count=len(lacking), names=names))
    rows = tuple(
        (
            f"{one['name']} {one['version']}",
            [one["id"], *one["aliases"][:2]],
            Mark("bad" if one["level"] in ("", "high", "critical") else "odd", _LEVELS[one["level"]]),
            one["summary"],
            one["fixed"] or "-",
        )
        for one in found["known"]
    )
    heads = (text("Release"), text("Known as"), text("Level"), text("What it is"), text("Mended in"))
    return Section(
        "vulnerabilities",
        title,
        tuple(lead),
        (),
        (Table(text("Releases that are known to be vulnerable"), heads, rows),) if rows else (),
    )

_LEVELS = {
    "": text("level unknown"),
    "low": text("low"),
    "medium": text("medium"),
    "high": text("high"),
    "critical": text("critical"),
}


def _licences(report: Mapping[str, Any]) -> Section:
    rows = tuple(
        (one["licence"] or text("none is named"), str(len(one["projects"])), one["projects"])
        for one in report["licences"]
    )
    table = Table(text("Projects by licence"), (text("Licence"), text("Count"), text("Projects")), rows, (1,))
    return Section("licences", text("Licences"), (), (), (table,))


def _projects(report: Mapping[str, Any]) -> Section:
    rows = []
    for project, one, _ in _releases(report):
        way = project["because_of"]
        if project["tool"] and not way:
            why: Any = text("installs the others")
        elif project["requested"]:
            why = text("asked for")
        else:
            why = " → ".join(way[:-1]) or "-"
        marks: list[Any] = []
        if one["vulnerabilities"]:
            marks.append(Mark("bad", text("vulnerable")))
        if one["yanked"]:
            marks.append(Mark("bad", text("withdrawn")))
        if one["status"] not in (None, "active"):
            marks.append(Mark("odd", Text(one["status"], {})))
        if one["origin"] == "built":
            marks.append(Mark("odd", text("built here")))
        if one["startup"]:
            marks.append(Mark("odd", text("at every start")))
        if one["native"]:
            marks.append(Mark("fine", text("native")))
        if one["attested_by"]:
            marks.append(Mark("fine", text("attested")))
        name = Link(project["name"], one["homepage"]) if one["homepage"] else project["name"]
        origin = _ORIGINS.get(one["origin"] or "", text("unknown"))
        if one["origin"] == "index" and not one["index"]:
            origin = text("index of your own")
        rows.append(
            (
                name,
                one["version"],
                one["summary"],
                why,
                one["licences"] or "-",
                _released(one),
                _size(one["size"]),
                origin,
                marks,
            )
        )
    heads = (
        *(text("Project"), text("Version"), text("What it is"), text("Why it is here"), text("Licence")),
        *(text("Released"), text("Size"), text("From"), text("Remarks")),
    )
    return Section(
        "projects", text("Everything in it"), (), (), (Table(text("All projects, by name"), heads, tuple(rows), (6,)),)
    )

_ORIGINS = {
    "index": text("public index"),
    "links": text("a folder or page"),
    "address": text("an address"),
    "built": text("built from source"),
    "included": text("files of your own"),
}


def _released(one: Mapping[str, Any]) -> Any:
    if not one["uploaded"]:
        return "-"
    days = one["age_days"]
    if days is None:
        return one["uploaded"][:10]
    if days < 90:
        return text("{date}, {days} days ago", date=one["uploaded"][:10], days=days)
    if days < 730:
        return text("{date}, {months} months ago", date=one["uploaded"][:10], months=round(days / 30.44))
    return text("{date}, {years} years ago", date=one["uploaded"][:10], years=round(days / 365.25))


def _built(report: Mapping[str, Any]) -> Section | None:
    rows = []
    for _, one, called in _releases(report):
        if one["origin"] == "built":
            built = one["built_from"] or {}
            rows.append(
                (
                    called,
                    built.get("name") or built.get("commit") or "-",
                    Fixed(built.get("sha256", "-")),
                    [built[key] for key in ("python", "platform") if built.get(key)],
                    built.get("requires", "-"),
                )
            )
    if not rows:
        return None
    heads = (text("Release"), text("Source"), "sha256", text("Built with"), text("Build requirements"))
    return Section(
        "built",
        text("Built from source"),
        (),
        (),
        (Table(text("Wheels that were built on the packing host"), heads, tuple(rows)),),
    )


def _files(report: Mapping[str, Any]) -> Section:
    listed = [(one["file"], one["size"], one["sha256"]) for _, one, _ in _releases(report)]
    listed += [(one["path"], one["size"], one["sha256"]) for one in report["included"]]
    rows = tuple((Fixed(name), _size(size), Fixed(sum_)) for name, size, sum_ in listed)
    lead = (
        text(
            "The bundle's manifest.json has the sha256 {sum}; it holds the hash of every file.",
            sum=report["bundle"]["manifest_sha256"],
        ),
        text(
            "`offlinepack verify BUNDLE`, or `python3 install.py --verify` in the unpacked folder, compares them all."
        ),
    )
    table = Table(text("Files"), (text("File"), text("Size"), "sha256"), rows, (1,), small=True)
    return Section("files", text("Files and their hashes"), lead, (), (table,))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _title(report: Mapping[str, Any]) -> str:
    return " ".join(str(report["bundle"][key]) for key in ("name", "version") if report["bundle"][key])


def _lead(report: Mapping[str, Any]) -> list[Text]:
    bundle = report["bundle"]
    found = [text("Report of {date} on a bundle of {files} files.", date=report["date"], files=bundle["files"])]
    if bundle["sequence"] is not None:
        found.append(text("Sequence {sequence}.", sequence=bundle["sequence"]))
    if bundle["install_to"]:
        found.append(text("It installs itself to {place}.", place=bundle["install_to"]))
    signed = text("It carries {count} signatures; this page does not say whose.", count=bundle["signatures"])
    found.append(signed if bundle["signatures"] else text("It carries no signature."))
    return found


def to_html(report: Mapping[str, Any], lang: str, words: Messages) -> str:
    """The report as one HTML file."""
    style = resources.files("offlinepack.evidence").joinpath("page.css").read_text("utf-8")
    parts = sections(report)
    title = html.escape(_title(report))

    def say(value: Any) -> str:
        return html.escape(value.render(words) if isinstance(value, Text) else str(value))

    def cell(value: Any) -> str:
        if isinstance(value, Mark):
            return f'<span class="mark {value.kind}">{say(value.word)}</span>'
        if isinstance(value, Fixed):
            return f"<code>{say(value.words)}</code>"
        if isinstance(value, Link):
            return f'<a href="{html.escape(value.url)}">{say(value.words)}</a>'
        if isinstance(value, (list, tuple)) and not isinstance(value, Text):
            apart = " " if any(isinstance(one, Mark) for one in value) else ", "
            return apart.join(map(cell, value))
        return say(value)

    def table(one: Table) -> Iterator[str]:
        yield f'<div class="wide"><table{" class=small" if one.small else ""}><caption>{say(one.caption)}</caption>'
        yield (
            "<thead><tr>"
            + "".join(
                f'<th scope="col"{" class=number" if at in one.right else ""}>{say(head)}</th>'
                for at, head in enumerate(one.heads)
            )
            + "</tr></thead><tbody>"
        )
        for row in one.rows:
            yield (
                f'<tr><th scope="row">{cell(row[0])}</th>'
                + "".join(
                    f"<td{' class=number' if at in one.right else ''}>{cell(value)}</td>"
                    for at, value in enumerate(row[1:], 1)
                )
                + "</tr>"
            )
        yield "</tbody></table></div>"

    def body() -> Iterator[str]:
        yield f'<a class="skip" href="#main">{say(text("To the contents"))}</a>'
        yield f'<header><p class="kind">{say(text("Report on an offline bundle"))}</p><h1>{title}</h1>'
        yield from (f"<p>{say(one)}</p>" for one in _lead(report))
        yield "<ul class=tiles>"
        for what, count, kind in tiles(report):
            yield f'<li class="{kind}"><strong>{say(count)}</strong> {say(what)}</li>'
        yield f'</ul><nav aria-label="{say(text("On this page"))}"><ul>'
        yield (
            "".join(f'<li><a href="#{one.id}">{say(one.title)}</a></li>' for one in parts)
            + "</ul></nav></header><main id=main>"
        )
        for one in parts:
            yield f'<section aria-labelledby="{one.id}"><h2 id="{one.id}">{say(one.title)}</h2>'
            yield "".join(f"<p>{say(lead)}</p>" for lead in one.lead)
            if one.points:
                yield "<ul class=points>"
                for level, sentence in one.points:
                    kind = {"error": "bad", "warning": "odd"}.get(level, "fine")
                    yield f'<li><span class="mark {kind}">{say(_POINTS[level])}</span> {say(sentence)}</li>'
                yield "</ul>"
            for each in one.tables:
                yield from table(each)
            yield "</section>"
        made = text("Made by offlinepack from the bundle itself; this page loads nothing from elsewhere.")
        yield f"</main><footer><p>{say(made)}</p></footer>"

    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{title}</title>"
    language = "zh-CN" if lang == "zh" else "en"
    return (
        f'<!DOCTYPE html>\n<html lang="{language}"><head>{head}<style>{style}</style></head><body>'
        + "\n".join(body())
        + "</body></html>\n"
    )

_POINTS = {"error": text("look"), "warning": text("odd"), "note": text("note")}


def to_markdown(report: Mapping[str, Any], words: Messages) -> str:
    """The same as Markdown."""

    def say(value: Any) -> str:
        found = value.render(words) if isinstance(value, Text) else str(value)
        return re.sub(r"([\\|<>*_])", r"\\\1", found)

    def cell(value: Any) -> str:
        if isinstance(value, Mark):
            return f"**{say(value.word)}**" if value.kind == "bad" else say(value.word)
        if isinstance(value, Fixed):
            return f"`{value.words}`"
        if isinstance(value, Link):
            return f"[{say(value.words)}]({value.url})"
        if isinstance(value, (list, tuple)) and not isinstance(value, Text):
            return ", ".join(map(cell, value))
        return say(value)

    def lines() -> Iterable[str]:
        yield from (f"# {say(_title(report))}", "")
        for lead in _lead(report):
            yield say(lead)
        yield ""
        for what, count, _ in tiles(report):
            yield f"- {say(what)}: **{say(count)}**"
        for one in sections(report):
            yield from ("", f"## {say(one.title)}", "")
            for lead in one.lead:
                yield from (say(lead), "")
            for level, sentence in one.points:
                yield f"- **{say(_POINTS[level])}** {say(sentence)}"
            for table in one.tables:
                yield from ("", f"{say(table.caption)}:", "", "| " + " | ".join(map(say, table.heads)) + " |")
                yield "| " + " | ".join("---:" if at in table.right else "---" for at in range(len(table.heads))) + " |"
                yield from ("| " + " | ".join(map(cell, row)) + " |" for row in table.rows)

    return "\n".join(lines()) + "\n"
