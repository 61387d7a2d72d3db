"""Format the summary of a run as JSON, Markdown or JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

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
            f"- **{finding['level']}**: {_escape_markdown(finding['sentence'])} {_escape_markdown(finding['advice'])}".rstrip()
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
    verdicts = [target for target in document.get("targets") or [] if target.get("verdict", "fails") != "fails"]
    cases = [
        f"  <testcase classname={quoteattr(verdict['tag'])} name={quoteattr(verdict['target'] + ': ' + verdict['verdict'])}/>"
        for verdict in verdicts
    ]
    cases += [
        f"  <testcase classname={quoteattr(target['tag'])} name={quoteattr(package['name'] + ' ' + package['version'])}/>"
        for target in document.get("targets") or []
        for package in target.get("packages") or []
    ]
    failures = [finding for finding in document.get("findings") or [] if finding["level"] == "error"]
    remarks = [finding for finding in document.get("findings") or [] if finding["level"] != "error"]
    for failure in failures:
        words = "\n".join(filter(None, (failure["sentence"], failure["advice"], failure.get("log", ""))))
        cases += [
            f"  <testcase classname={quoteattr(failure['code'])} name={quoteattr(_remove_control_characters(failure['subject']))}>",
            f"    <failure message={quoteattr(_remove_control_characters(failure['sentence']))} type={quoteattr(failure['code'])}>",
            f"{_escape_xml(words)}</failure>",
            "  </testcase>",
        ]
    if not any("<testcase" in case for case in cases):
        cases.append(f'  <testcase classname="offlinepack" name={quoteattr(str(document.get("command", "")))}/>')
    count = sum("<testcase" in case for case in cases)
    output = "\n".join(f"{finding['level']}: {finding['sentence']} {finding['advice']}" for finding in remarks)
    seconds = (document.get("seconds") or {}).get("total", 0)
    head = f'tests="{count}" failures="{len(failures)}" errors="0" skipped="0" time="{seconds}"'
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f"<testsuites {head}>",
            f" <testsuite name={quoteattr(_make_title(document))} {head}>",
            *cases,
            *([f"  <system-out>{_escape_xml(output)}</system-out>"] if output else []),
            " </testsuite>",
            "</testsuites>",
            "",
        ]
    )


def _remove_control_characters(words: str) -> str:
    # XML 1.0 has no control characters, not even escaped
    return "".join(c for c in words if c in "\n\t" or c.isprintable())


def _escape_xml(words: str) -> str:
    return escape(_remove_control_characters(words))
