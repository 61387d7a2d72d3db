"""Format the summary of a run as JSON, Markdown or JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from offlinepack.errors import UsageError, error

SUMMARY_SUFFIXES = (".json", ".md", ".xml")


def check_summary_path(path: Path) -> Path:
    """Return the path. Raises UsageError if its suffix is not a known format."""
    if path.suffix.lower() not in SUMMARY_SUFFIXES:
        raise UsageError(
            error(
                "report-suffix",
                path,
                "A report is .json, .md or .xml (JUnit), and {subject} is none of these.",
                "Name it so.",
            )
        )
    return path


def format_summary(path: Path, document: Mapping[str, Any]) -> bytes:
    """Format the summary by the suffix of the file; `document` is what --json prints."""
    form = {".md": _format_markdown, ".xml": _format_junit}.get(path.suffix.lower(), _format_json)
    return form(document).encode()


def _format_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def _make_title(document: Mapping[str, Any]) -> str:
    named = " ".join(str(document[key]) for key in ("name", "version") if document.get(key))
    return f"offlinepack {document.get('command', '')}: {named or ('done' if document.get('ok') else 'failed')}"


def _format_markdown(document: Mapping[str, Any]) -> str:
    lines = [f"## {_make_title(document)}", ""]
    if document.get("bundle"):
        size = f", {document['size']:,} bytes" if "size" in document else ""
        lines += [f"- `{document['bundle']}`{size}"]
        lines += [f"- sha256 `{document['sha256']}`"] if "sha256" in document else []
    if document.get("exit_code"):
        lines.append(f"- exit code {document['exit_code']}")
    findings = document.get("findings") or []
    if findings:
        lines += ["", f"### Findings ({len(findings)})", ""]
        lines += [
            f"- **{finding['level']}**: {_escape_markdown(finding['sentence'] + ' ' + finding['advice'])}".rstrip()
            for finding in findings
        ]
    for target in document.get("targets") or []:
        if "verdict" in target:
            lines += [
                "",
                f"### {target['target']}",
                "",
                *(f"- {_escape_markdown(sentence.strip())}" for sentence in target["sentences"]),
            ]
            continue
        lines += ["", f"### {target['name']}", "", f"{target.get('machines', target['tag'])}", ""]
        lines += ["| project | version | file |", "| --- | --- | --- |"]
        lines += [
            f"| {package['name']} | {package['version']} | {_escape_markdown(package['file'])} |"
            for package in target.get("packages") or []
        ]
    return "\n".join(lines) + "\n"


def _escape_markdown(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _format_junit(document: Mapping[str, Any]) -> str:
    """Format JUnit XML: distributions and verdicts are passed tests, errors are failed tests."""
    cases: list[ElementTree.Element] = []

    def add_case(classname: str, name: str) -> ElementTree.Element:
        attributes = {"classname": classname, "name": _remove_control_characters(name)}
        cases.append(ElementTree.Element("testcase", attributes))
        return cases[-1]

    for target in document.get("targets") or []:
        if target.get("verdict", "fails") != "fails":
            add_case(target["tag"], f"{target['target']}: {target['verdict']}")
        for package in target.get("packages") or []:
            add_case(target["tag"], f"{package['name']} {package['version']}")
    findings = document.get("findings") or []
    failures = [finding for finding in findings if finding["level"] == "error"]
    for finding in failures:
        words = "\n".join(filter(None, (finding["sentence"], finding["advice"], finding.get("log", ""))))
        attributes = {"message": _remove_control_characters(finding["sentence"]), "type": finding["code"]}
        failure = ElementTree.SubElement(add_case(finding["code"], finding["subject"]), "failure", attributes)
        failure.text = _remove_control_characters(words)
    if not cases:
        add_case("offlinepack", str(document.get("command", "")))
    seconds = (document.get("seconds") or {}).get("total", 0)
    counts = {"tests": len(cases), "failures": len(failures), "errors": 0, "skipped": 0, "time": seconds}
    attributes = {key: str(value) for key, value in counts.items()}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _make_title(document), **attributes})
    suite.extend(cases)
    notes = [f"{note['level']}: {note['sentence']} {note['advice']}" for note in findings if note["level"] != "error"]
    if notes:
        ElementTree.SubElement(suite, "system-out").text = _remove_control_characters("\n".join(notes))
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def _remove_control_characters(words: str) -> str:
    # XML 1.0 has no control characters, not even escaped
    return "".join(c for c in words if c in "\n\t" or c.isprintable())
