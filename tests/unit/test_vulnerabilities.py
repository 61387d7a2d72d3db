"""What snapshots say: pip-audit's own JSON, OSV's records in their three forms; levels and dates."""

from __future__ import annotations

import json
import os
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import SourceError
from offlinepack.report.vulnerabilities import Vulnerability, _is_affected, _rate_vector, read_snapshot, run_pip_audit
from tests.support.advisories import JINJA, osv

WANTED = [JINJA, ("stone", "1.0")]
AUDIT = {
    "dependencies": [
        {
            "name": "Jinja2",
            "version": "3.1.2",
            "vulns": [
                {
                    "id": "PYSEC-2024-1",
                    "fix_versions": ["3.1.3"],
                    "aliases": ["CVE-2024-22195"],
                    "description": "xmlattr\nlets keys with spaces through",
                }
            ],
        },
        {"name": "other", "version": "9", "vulns": [{"id": "X-1", "fix_versions": [], "aliases": []}]},
        {"name": "stone", "skip_reason": "Dependency not found on PyPI and could not be audited: stone (1.0)"},
    ],
    "fixes": [],
}




def written(folder: Path, document: Any) -> Path:
    path = folder / "snapshot.json"
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_pip_audits_own_json(tmp_path: Path) -> None:
    path = written(tmp_path, {**AUDIT, "date": "2026-01-02"})
    found = read_snapshot(path, WANTED)
    assert found.date == "2026-01-02"
    assert found.vulnerabilities == (
        Vulnerability(
            *JINJA, "PYSEC-2024-1", ("CVE-2024-22195",), "", "xmlattr lets keys with spaces through", ("3.1.3",)
        ),
    )
    assert found.unchecked_releases == (("stone", "1.0"),), "what was skipped is not known to be well"


def test_without_a_date_the_files_counts(tmp_path: Path) -> None:
    path = written(tmp_path, AUDIT)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert read_snapshot(path, WANTED).date == "2023-11-14"


@pytest.mark.parametrize("form", ["one", "list", "vulns", "folder", "zip"])
def test_osv_records(form: str, tmp_path: Path) -> None:
    other = osv(id="GHSA-other", modified="2025-12-31T00:00:00Z", affected=[], aliases=[])
    path = tmp_path / "all"
    if form == "one":
        path = written(tmp_path, osv())
    elif form in ("list", "vulns"):
        path = written(tmp_path, [osv(), other] if form == "list" else {"vulns": [osv(), other]})
    elif form == "folder":
        path.mkdir()
        for one in (osv(), other):
            (path / f"{one['id']}.json").write_text(json.dumps(one), "utf-8")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for one in (osv(), other):
                archive.writestr(f"{one['id']}.json", json.dumps(one))
    found = read_snapshot(path, WANTED)
    assert found.date == ("2025-02-03" if form == "one" else "2025-12-31")
    (known,) = found.vulnerabilities
    assert (known.name, known.version, known.level, known.fixed_versions) == (*JINJA, "medium", ("3.1.3",))


def test_one_vulnerability_under_two_names_is_reported_once(tmp_path: Path) -> None:
    other = osv(id="PYSEC-2024-1", aliases=["CVE-2024-22195"], summary="", severity=[])
    (known,) = read_snapshot(written(tmp_path, [osv(), other]), WANTED).vulnerabilities
    assert known.id == "PYSEC-2024-1" and known.level == "medium"
    assert known.aliases == ("CVE-2024-22195", "GHSA-h5c8-rqwp-cp95")
    assert known.summary.startswith("Jinja vulnerable")


def test_what_was_withdrawn_or_is_elsewhere_does_not_count(tmp_path: Path) -> None:
    npm = osv(affected=[{"package": {"ecosystem": "npm", "name": "jinja2"}, "versions": ["3.1.2"]}])
    gone = osv(withdrawn="2025-01-01T00:00:00Z")
    assert not read_snapshot(written(tmp_path, [npm, gone]), WANTED).vulnerabilities


@pytest.mark.parametrize(
    ("events", "version", "inside"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], "1.9", True),
        ([{"introduced": "0"}, {"fixed": "2.0"}], "2.0", False),
        ([{"introduced": "1.5"}, {"last_affected": "1.9"}], "1.9", True),
        ([{"introduced": "1.5"}, {"last_affected": "1.9"}], "1.9.1", False),
        ([{"introduced": "1.5"}], "1.4", False),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "2.5"}], "2.1", True),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "2.5"}], "1.5", False),
        ([{"introduced": "0"}], "not a version", False),
    ],
)
def test_ranges(events: list[dict[str, str]], version: str, inside: bool) -> None:
    assert _is_affected(version, events) is inside


@pytest.mark.parametrize(
    ("vector", "level"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "critical"),  # 9.8
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", "high"),  # 7.5
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", "medium"),  # 6.1
        ("CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", "low"),  # 1.8
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", ""),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", "critical"),  # 9.3
        ("CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", "medium"),  # 4.8
        ("AV:N/AC:L/Au:N/C:P/I:P/A:P", "high"),  # CVSS 2: 7.5
        ("CVSS:4.0/AV:N/AC:L", ""),
        ("nonsense", ""),
    ],
)
def test_levels_of_vectors(vector: str, level: str) -> None:
    assert _rate_vector(vector) == level


@pytest.mark.parametrize("words", ["", "[1]", "null", '{"dependencies": 3}', '{"vulns": [{}]}'])
def test_what_is_no_snapshot(words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(words, "utf-8")
    with pytest.raises(SourceError) as failed:
        read_snapshot(path, WANTED)
    assert failed.value.findings[0].code == "bad-snapshot"


def test_nobody_is_asked_about_private_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    """(A unit test cannot start a program: had it tried, it would have failed.)"""
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/bin/pip-audit")
    found = run_pip_audit(WANTED, [], date(2026, 1, 1))
    assert not found.date and found.problem and found.unchecked_releases == tuple(WANTED)
