"""The rules of a policy: their meaning, what they refuse, how mistakes in them are reported."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import Finding, SourceError
from offlinepack.report.facts import BundleFacts
from offlinepack.report.policy import check_rules, parse_policy, read_policy
from offlinepack.report.vulnerabilities import Vulnerability, VulnerabilityLookup
from offlinepack.wheels.contents import WheelContents

from ..support.bundles import make_bundle

TODAY = date(2026, 3, 1)


@pytest.fixture
def evidence(tmp_path: Path) -> BundleFacts:
    """stone (MIT, old, attested), moss (GPL or MIT, young), pip (nothing known)."""
    _, manifest = make_bundle(tmp_path)
    looks = {
        "wheels/stone-1.0-py3-none-any.whl": WheelContents("stone", "1.0", licenses=("MIT",)),
        "wheels/moss-2.0-py3-none-any.whl": WheelContents("moss", "2.0", licenses=("GPL-3.0-only",)),
    }
    stories: dict[str, dict[str, Any]] = {
        "wheels/stone-1.0-py3-none-any.whl": {
            "origin": "index",
            "upload_time": "2019-01-01T00:00:00Z",
            "attestations": [{"publisher": {"kind": "GitHub"}}],
        },
        "wheels/moss-2.0-py3-none-any.whl": {
            "origin": "built",
            "yanked": False,
            "source": {"upload_time": "2026-02-27T00:00:00Z", "yanked": True, "yanked_reason": "it leaks"},
        },
    }
    return BundleFacts(manifest, looks, stories)


def codes(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.code, one.subject) for one in found]


def judged(evidence: BundleFacts, known: VulnerabilityLookup | None = None, **table: Any) -> list[tuple[str, str]]:
    rules = parse_policy({key.replace("_", "-"): value for key, value in table.items()}, "test")
    return codes(check_rules(evidence, rules, TODAY, known))


def test_no_rules_no_findings(evidence: BundleFacts) -> None:
    assert judged(evidence) == []


def test_licences(evidence: BundleFacts) -> None:
    unknown = ("policy-licence-unknown", "pip 26.0")
    assert judged(evidence, allowed_licenses=["MIT", "GPL-*"]) == [unknown]
    assert judged(evidence, allowed_licenses=["MIT"]) == [("policy-licence", "moss 2.0"), unknown]
    assert judged(evidence, denied_licenses=["gpl-*"]) == [("policy-licence", "moss 2.0"), unknown]


def test_projects(evidence: BundleFacts) -> None:
    assert judged(evidence, denied_projects=["Stone", "moss<2"]) == [("policy-project", "stone 1.0")]
    assert judged(evidence, denied_projects=["moss>=2"]) == [("policy-project", "moss 2.0")]


def test_built_and_withdrawn(evidence: BundleFacts) -> None:
    assert judged(evidence, built_from_source=False) == [("policy-built", "moss 2.0")]
    assert judged(evidence, yanked=False) == [("policy-yanked", "moss 2.0")]


def test_ages(evidence: BundleFacts) -> None:
    unknown = ("policy-age-unknown", "pip 26.0")
    assert judged(evidence, minimum_age=7) == [("policy-too-young", "moss 2.0"), unknown]
    assert judged(evidence, minimum_age=2) == [unknown]
    assert judged(evidence, maximum_age=365) == [unknown, ("policy-too-old", "stone 1.0")]


def test_attestations(evidence: BundleFacts) -> None:
    assert judged(evidence, attestations=True) == [
        ("policy-attestation", "moss 2.0"),
        ("policy-attestation", "pip 26.0"),
    ]
    assert judged(evidence, attestations=["Stone"]) == []


def test_vulnerabilities(evidence: BundleFacts) -> None:
    known = VulnerabilityLookup(
        "x.json",
        "2026-02-01",
        (
            Vulnerability("stone", "1.0", "A", level="medium"),
            Vulnerability("moss", "2.0", "B"),
            Vulnerability("moss", "2.0", "C", level="high"),
        ),
    )
    assert judged(evidence, known, vulnerabilities="low") == [
        ("policy-vulnerability", name) for name in ("stone 1.0", "moss 2.0", "moss 2.0")
    ]
    high = judged(evidence, known, vulnerabilities="high")
    assert high == [("policy-vulnerability", "moss 2.0")] * 2, "of unknown level may be of any"
    assert judged(evidence, None, vulnerabilities="high") == [("policy-vulnerabilities-unknown", "vulnerabilities")]
    assert judged(evidence, VulnerabilityLookup("pip-audit", ""), vulnerabilities="high") == [
        ("policy-vulnerabilities-unknown", "vulnerabilities")
    ]


def test_an_exception_is_reported_with_its_reason(evidence: BundleFacts) -> None:
    rules = parse_policy({"denied-projects": ["moss"], "exceptions": {"Moss": "it is ours"}}, "test")
    (found,) = check_rules(evidence, rules, TODAY, None)
    assert found.level == "note" and "it is ours" in found.render() and "moss" in found.render()


def test_all_mistakes_at_once() -> None:
    table = {
        "licences": ["MIT"],
        "allowed-licenses": "MIT",
        "minimum-age": "7 days",
        "vulnerabilities": "severe",
        "yanked": 0,
        "exceptions": {"x": ""},
        "denied-projects": ["no such<<2"],
    }
    with pytest.raises(SourceError) as failed:
        parse_policy(table, "policy.toml")
    assert len(failed.value.findings) == 7
    assert {one.code for one in failed.value.findings} == {"unknown-rule", "bad-rule"}


@pytest.mark.parametrize("head", ["", "[policy]\n", "[tool.offlinepack.policy]\n"])
def test_where_the_rules_may_stand(head: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(head + "minimum-age = 7\n", "utf-8")
    assert read_policy(path).minimum_age == 7


@pytest.mark.parametrize("data", [b"minimum-age = ", b"\xff\xfe\x00"])
def test_what_is_no_toml(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(data)
    with pytest.raises(SourceError):
        read_policy(path)
    with pytest.raises(SourceError):
        read_policy(tmp_path / "none.toml")
