"""The summary of a run as Markdown and JUnit, of a run that went well and of one that did not."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from offlinepack.cli.summary import check_summary_path, format_summary
from offlinepack.errors import UsageError

WELL: dict[str, Any] = {
    "schema": 1,
    "command": "build",
    "ok": True,
    "name": "notes",
    "version": "1.2",
    "bundle": "notes.tar.gz",
    "size": 12345,
    "sha256": "ab" * 32,
    "targets": [{"name": "debian12", "tag": "cp311-x", "packages": [{"name": "a", "version": "1", "file": "a|b.whl"}]}],
    "findings": [{"level": "note", "code": "n", "subject": "a", "sentence": "Some <b>.", "advice": ""}],
    "seconds": {"total": 1.5},
}
BADLY = {
    "command": "build",
    "ok": False,
    "exit_code": 13,
    "findings": [
        {
            "level": "error",
            "code": "policy-project",
            "subject": 'x "1" & <2>',
            "sentence": "No \x1b[31m.",
            "advice": "Go.",
            "log": "l\n",
        }
    ],
}


def test_junit_counts_what_went_well_and_what_did_not() -> None:
    root = ElementTree.fromstring(format_summary(Path("r.xml"), WELL))
    assert (root.get("tests"), root.get("failures")) == ("1", "0")
    assert [one.get("name") for one in root.iter("testcase")] == ["a 1"]
    root = ElementTree.fromstring(format_summary(Path("r.xml"), BADLY))
    assert (root.get("tests"), root.get("failures")) == ("1", "1")
    (failure,) = root.iter("failure")
    assert failure.get("type") == "policy-project" and "Go." in (failure.text or "")


def test_markdown() -> None:
    text = format_summary(Path("r.md"), WELL).decode()
    assert "notes 1.2" in text and "| a | 1 | a|b.whl |" not in text and "Some &lt;b>." in text
    assert "exit code 13" in format_summary(Path("r.md"), BADLY).decode()


def test_other_suffixes_are_refused() -> None:
    assert check_summary_path(Path("x.XML"))
    with pytest.raises(UsageError):
        check_summary_path(Path("x.pdf"))
