"""Arrange a report in sections and tables, which HTML and Markdown both render."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from offlinepack.errors import Text, text
from offlinepack.ontarget.files import format_size
from offlinepack.report.page import Badge, Code, Link, Section, Table


def make_sections(report: Mapping[str, Any]) -> list[Section]:
    """Make the sections of the page in order: changes, findings, then all facts."""
    parts = [
        _make_changes_section(report),
        _make_attention_section(report),
        _make_targets_section(report),
        _make_versions_section(report),
        _make_vulnerabilities_section(report),
        _make_licenses_section(report),
        _make_projects_section(report),
        _make_builds_section(report),
        _make_files_section(report),
    ]
    return [part for part in parts if part]


def make_tiles(report: Mapping[str, Any]) -> list[tuple[Text, str, str]]:
    """Make the figures at the top of the page: label, count and rating."""
    every = [release for project in report["projects"] for release in project["releases"]]
    vulnerabilities = report["vulnerabilities"] or {}
    vulnerable = len({(release["name"], release["version"]) for release in vulnerabilities.get("known", ())})
    looked = bool(vulnerabilities.get("date"))
    yanked = sum(release["yanked"] for release in every)
    built = sum(release["origin"] == "built" for release in every)
    nameless = sum(not release["licences"] for release in every if release["origin"] != "included")
    native = sum(bool(release["native"]) for release in every)
    return [
        (text("projects"), str(len(report["projects"])), "fine"),
        (text("kinds of machines"), str(len(report["targets"])), "fine"),
        (text("in all"), format_size(report["bundle"]["size"]), "fine"),
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


def _make_changes_section(report: Mapping[str, Any]) -> Section | None:
    difference = report["difference"]
    if not difference:
        return None
    old = " ".join(str(difference["old"][key]) for key in ("name", "version") if difference["old"][key])
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    names = {target["tag"]: target["name"] for target in report["targets"]}
    for tag, changes in difference["targets"].items():
        for change in changes:
            if change["state"] != "same":
                versions = tuple((change[key] or {}).get("version", "-") for key in ("old", "new"))
                rows.setdefault((change["name"], change["state"], *versions), []).append(names.get(tag, tag))
    table = Table(
        text("Projects that changed"),
        (text("Project"), text("What"), text("Before"), text("Now"), text("Where")),
        tuple(
            (
                name,
                Badge("bad" if state == "rebuilt" else "odd" if state == "new" else "fine", _STATE_LABELS[state]),
                old_,
                new,
                targets,
            )
            for (name, state, old_, new), targets in sorted(rows.items())
        ),
    )
    counts = text(
        "{changed} of {all} changed, {new} new, {removed} removed; {same} byte-identical", **difference["counts"]
    )
    same = [text("Nothing changed since.")] if not rows and not difference["findings"] else []
    return Section(
        "changed",
        text("What changed since {old}", old=old),
        (counts, *same),
        tuple((finding["level"], _join_advice(finding)) for finding in difference["findings"]),
        (table,) if rows else (),
    )


_STATE_LABELS = {
    "changed": text("another version"),
    "rebuilt": text("the same version, other bytes"),
    "new": text("new"),
    "removed": text("removed"),
}


def _join_advice(finding: Mapping[str, Any]) -> Text:
    return text("{sentence} {advice}", sentence=finding["sentence"], advice=finding["advice"])


def _list_releases(report: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    for project in report["projects"]:
        for release in project["releases"]:
            yield project, release, f"{project['name']} {release['version']}"


def _make_attention_section(report: Mapping[str, Any]) -> Section:
    """Make the section of files that need attention: vulnerable, yanked, archived, run at start-up, unknown."""
    points: list[tuple[str, Text]] = []
    for target in report["targets"]:
        verdict = (target["rehearsal"] or {}).get("verdict")
        if verdict == "fails":
            points.append(("error", text("The rehearsal for {target} failed.", target=target["name"])))
    grouped: dict[str, list[str]] = {}
    for _, release, called in _list_releases(report):
        if release["vulnerabilities"]:
            ids = [vulnerability["id"] for vulnerability in release["vulnerabilities"]]
            points.append(("error", text("{name} is known to be vulnerable: {ids}.", name=called, ids=ids)))
        if release["yanked"]:
            reason = release["yanked_reason"] or text("no reason given")
            points.append(
                (
                    "error",
                    text("{name} was withdrawn by its maintainers (yanked): {reason}.", name=called, reason=reason),
                )
            )
        if release["status"] not in (None, "active"):
            status = text(
                "The project of {name} is {status} on its index: {reason}.",
                name=called,
                status=release["status"],
                reason=release["status_reason"] or text("no reason given"),
            )
            points.append(("error" if release["status"] == "quarantined" else "warning", status))
        if release["startup"]:
            points.append(
                (
                    "warning",
                    text(
                        "{name} brings {files}, which runs at every start of Python.",
                        name=called,
                        files=release["startup"],
                    ),
                )
            )
        if release["unusual"]:
            points.append(
                (
                    "warning",
                    text(
                        "{name} brings top-level names that are not its own: {names}.",
                        name=called,
                        names=release["unusual"],
                    ),
                )
            )
        if release["executables"]:
            points.append(
                (
                    "note",
                    text("{name} brings programs of its own: {names}.", name=called, names=release["executables"][:6]),
                )
            )
        if not release["licences"] and release["origin"] != "included":
            grouped.setdefault("licence", []).append(called)
        if release["origin"] == "built":
            grouped.setdefault("built", []).append(called)
        if release["origin"] in ("links", "address"):
            grouped.setdefault("links", []).append(called)
    for key, level, sentence in _ATTENTION_GROUPS:
        if key in grouped:
            points.append((level, sentence._replace(facts={"names": grouped[key]})))
    order = {"error": 0, "warning": 1, "note": 2}
    points.sort(key=lambda point: order[point[0]])
    lead = () if points else (text("Nothing in this bundle asks for a second look."),)
    return Section("attention", text("What deserves a look"), lead, tuple(points))


_ATTENTION_GROUPS = (
    ("licence", "warning", text("Nothing says under which licence these are: {names}.")),
    ("built", "note", text("Built from source on the packing host: {names}.")),
    ("links", "note", text("From a folder or an address, not from an index: {names}.")),
)


def _make_targets_section(report: Mapping[str, Any]) -> Section:
    rows = []
    for target in report["targets"]:
        verdict = (target["rehearsal"] or {}).get("verdict")
        mark = (
            Badge("bad" if verdict == "fails" else "fine", _VERDICT_LABELS.get(verdict, _VERDICT_LABELS["unknown"]))
            if verdict
            else text("not rehearsed")
        )
        rows.append(
            (
                target["name"],
                target["machines"],
                f"{target['python_min']}+",
                str(target["distributions"]),
                format_size(target["size"]),
                target["tools"],
                mark,
            )
        )
    needs = tuple(
        (need["soname"], need["wanted_by"], need["targets"], Code(need["help"]) if need["help"] else "-")
        for need in report["needs"]
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


_VERDICT_LABELS = {
    "installs": text("installs"),
    "runs": text("runs"),
    "fails": text("fails"),
    "unknown": text("unknown"),
}


def _make_versions_section(report: Mapping[str, Any]) -> Section | None:
    rows = tuple(
        (
            package["name"],
            [
                text("{version} for {targets}", version=version, targets=names)
                for version, names in package["versions"].items()
            ],
            package["held_down_by"],
        )
        for package in report["versions_apart"]
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


def _make_vulnerabilities_section(report: Mapping[str, Any]) -> Section:
    vulnerabilities = report["vulnerabilities"]
    title = text("Known vulnerabilities")
    if not vulnerabilities or not vulnerabilities["date"]:
        reason = (vulnerabilities or {}).get("problem") or text("nobody was asked")
        return Section("vulnerabilities", title, (text("They were not looked up: {why}.", why=reason),))
    lead = [text("As of {date}, by {source}.", date=vulnerabilities["date"], source=vulnerabilities["source"])]
    if not vulnerabilities["known"]:
        lead.append(text("None is known of the releases that were looked up."))
    lacking = vulnerabilities["not_looked_up"]
    if lacking:
        names = lacking if len(lacking) <= 20 else [*lacking[:20], "…"]
        lead.append(text("{count} releases were not looked up: {names}.", count=len(lacking), names=names))
    rows = tuple(
        (
            f"{vulnerability['name']} {vulnerability['version']}",
            [vulnerability["id"], *vulnerability["aliases"][:2]],
            Badge(
                "bad" if vulnerability["level"] in ("", "high", "critical") else "odd",
                _LEVEL_LABELS[vulnerability["level"]],
            ),
            vulnerability["summary"],
            vulnerability["fixed"] or "-",
        )
        for vulnerability in vulnerabilities["known"]
    )
    heads = (text("Release"), text("Known as"), text("Level"), text("What it is"), text("Mended in"))
    return Section(
        "vulnerabilities",
        title,
        tuple(lead),
        (),
        (Table(text("Releases that are known to be vulnerable"), heads, rows),) if rows else (),
    )


_LEVEL_LABELS = {
    "": text("level unknown"),
    "low": text("low"),
    "medium": text("medium"),
    "high": text("high"),
    "critical": text("critical"),
}


def _make_licenses_section(report: Mapping[str, Any]) -> Section:
    rows = tuple(
        (group["licence"] or text("none is named"), str(len(group["projects"])), group["projects"])
        for group in report["licences"]
    )
    table = Table(text("Projects by licence"), (text("Licence"), text("Count"), text("Projects")), rows, (1,))
    return Section("licences", text("Licences"), (), (), (table,))


def _make_projects_section(report: Mapping[str, Any]) -> Section:
    rows = []
    for project, release, _ in _list_releases(report):
        way = project["because_of"]
        if project["tool"] and not way:
            reason: Any = text("installs the others")
        elif project["requested"]:
            reason = text("asked for")
        else:
            reason = " → ".join(way[:-1]) or "-"
        marks: list[Any] = []
        if release["vulnerabilities"]:
            marks.append(Badge("bad", text("vulnerable")))
        if release["yanked"]:
            marks.append(Badge("bad", text("withdrawn")))
        if release["status"] not in (None, "active"):
            marks.append(Badge("odd", Text(release["status"], {})))
        if release["origin"] == "built":
            marks.append(Badge("odd", text("built here")))
        if release["startup"]:
            marks.append(Badge("odd", text("at every start")))
        if release["native"]:
            marks.append(Badge("fine", text("native")))
        if release["attested_by"]:
            marks.append(Badge("fine", text("attested")))
        name = Link(project["name"], release["homepage"]) if release["homepage"] else project["name"]
        origin = _ORIGIN_LABELS.get(release["origin"] or "", text("unknown"))
        if release["origin"] == "index" and not release["index"]:
            origin = text("index of your own")
        rows.append(
            (
                name,
                release["version"],
                release["summary"],
                reason,
                release["licences"] or "-",
                _format_upload_date(release),
                format_size(release["size"]),
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


_ORIGIN_LABELS = {
    "index": text("public index"),
    "links": text("a folder or page"),
    "address": text("an address"),
    "built": text("built from source"),
    "included": text("files of your own"),
}


def _format_upload_date(file: Mapping[str, Any]) -> Any:
    if not file["uploaded"]:
        return "-"
    days = file["age_days"]
    if days is None:
        return file["uploaded"][:10]
    if days < 90:
        return text("{date}, {days} days ago", date=file["uploaded"][:10], days=days)
    if days < 730:
        return text("{date}, {months} months ago", date=file["uploaded"][:10], months=round(days / 30.44))
    return text("{date}, {years} years ago", date=file["uploaded"][:10], years=round(days / 365.25))


def _make_builds_section(report: Mapping[str, Any]) -> Section | None:
    rows = []
    for _, release, called in _list_releases(report):
        if release["origin"] == "built":
            built = release["built_from"] or {}
            rows.append(
                (
                    called,
                    built.get("name") or built.get("commit") or "-",
                    Code(built.get("sha256", "-")),
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


def _make_files_section(report: Mapping[str, Any]) -> Section:
    listed = [(release["file"], release["size"], release["sha256"]) for _, release, _ in _list_releases(report)]
    listed += [(file["path"], file["size"], file["sha256"]) for file in report["included"]]
    rows = tuple((Code(name), format_size(size), Code(sum_)) for name, size, sum_ in listed)
    lead = (
        text(
            "The bundle's manifest.json has the sha256 {sum}; it holds the hash of every file.",
            sum=report["bundle"]["manifest_sha256"],
        ),
        text(
            "`offlinepack verify BUNDLE`, or `python3 install.py --verify` in the unpacked folder, compares them all."
        ),
    )
    table = Table(text("Files"), (text("File"), text("Size"), "sha256"), rows, (1,), is_small=True)
    return Section("files", text("Files and their hashes"), lead, (), (table,))


def format_title(report: Mapping[str, Any]) -> str:
    """Format name and version of the bundle."""
    return " ".join(str(report["bundle"][key]) for key in ("name", "version") if report["bundle"][key])


def format_lead(report: Mapping[str, Any]) -> list[Text]:
    """Format the sentences at the top of the report."""
    bundle = report["bundle"]
    lines = [text("Report of {date} on a bundle of {files} files.", date=report["date"], files=bundle["files"])]
    if bundle["sequence"] is not None:
        lines.append(text("Sequence {sequence}.", sequence=bundle["sequence"]))
    if bundle["install_to"]:
        lines.append(text("It installs itself to {place}.", place=bundle["install_to"]))
    signed = text("It carries {count} signatures; this page does not say whose.", count=bundle["signatures"])
    lines.append(signed if bundle["signatures"] else text("It carries no signature."))
    return lines


POINT_LABELS = {"error": text("look"), "warning": text("odd"), "note": text("note")}
