"""Read a policy, and check a bundle against its rules.

allowed-licenses = ["MIT", "BSD-*", "Apache-2.0", "PSF-2.0"]   # SPDX; nothing else
denied-licenses = ["AGPL-*"]
denied-projects = ["pycrypto", "requests<2.32"]
built-from-source = false          # no wheels that offlinepack built
yanked = false                     # no yanked releases
minimum-age = 7                    # days since the upload
maximum-age = 1825
attestations = true                # for every file; or a list of projects
vulnerabilities = "high"           # none of this level or above: low, medium, high, critical
[exceptions]
paramiko = "LGPL; approved by the legal department"      # a project that may break rules, with the reason
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import Finding, PolicyError, SourceError, Text, error, note, raise_on_errors, text
from offlinepack.ontarget.errors import explain_os_error
from offlinepack.report.facts import BundleFacts, compute_age, map_releases
from offlinepack.report.vulnerabilities import SEVERITY_LEVELS, VulnerabilityLookup, look_up_releases
from offlinepack.wheels.contents import WheelContents
from offlinepack.wheels.licenses import are_terms_allowed


@dataclass(frozen=True)
class Policy:
    """The rules; None and empty values are no rules."""

    allowed_licenses: tuple[str, ...] = ()
    denied_licenses: tuple[str, ...] = ()
    denied_projects: tuple[Requirement, ...] = ()
    built_from_source: bool = True
    yanked: bool = True
    minimum_age: int | None = None
    """days"""
    maximum_age: int | None = None
    attestations: tuple[str, ...] | bool = False
    """True: for every file; a list: for the files of these projects"""
    vulnerabilities: str = ""
    """lowest level that is not allowed"""
    exceptions: Mapping[str, str] = field(default_factory=dict)
    """normalized name -> reason"""


def read_policy(path: Path) -> Policy:
    """Read a policy file (at its top, [policy] or [tool.offlinepack.policy]); raise SourceError with all mistakes."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as problem:
        raise SourceError(
            error("no-policy", path, "The policy {subject} cannot be read: {words}.", words=explain_os_error(problem))
        ) from problem
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise SourceError(
            error("bad-toml", path, "{subject} is not TOML: {words}.", "Mend that line.", words=problem)
        ) from problem
    tool = document.get("tool")
    inner = tool.get("offlinepack", {}).get("policy") if isinstance(tool, dict) else document.get("policy")
    lines = path.read_text("utf-8-sig").splitlines()

    def where(key: str) -> str:
        at = (number for number, line in enumerate(lines, 1) if re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line))
        return f"{path}:{next(at, 1)}"

    return parse_policy(document if inner is None and tool is None else inner or {}, str(path), where)


def _is_string_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(member, str) for member in value)


_BOOL_FORM, _LIST_FORM = text("true or false"), text("a list of strings")

_RULE_FORMS: dict[str, tuple[Callable[[Any], bool], Text]] = {
    "allowed-licenses": (_is_string_list, _LIST_FORM),
    "denied-licenses": (_is_string_list, _LIST_FORM),
    "denied-projects": (_is_string_list, _LIST_FORM),
    "built-from-source": (lambda value: isinstance(value, bool), _BOOL_FORM),
    "yanked": (lambda value: isinstance(value, bool), _BOOL_FORM),
    "minimum-age": (lambda value: type(value) is int and value >= 0, text("a number of days")),
    "maximum-age": (lambda value: type(value) is int and value >= 0, text("a number of days")),
    "attestations": (
        lambda value: isinstance(value, bool) or _is_string_list(value),
        text("true, false or a list of projects"),
    ),
    "vulnerabilities": (lambda value: value in SEVERITY_LEVELS, text("low, medium, high or critical")),
    "exceptions": (
        lambda value: (
            isinstance(value, dict) and all(isinstance(reason, str) and reason.strip() for reason in value.values())
        ),
        text("a table: project = the reason"),
    ),
}


def parse_policy(table: Mapping[str, Any], origin: str, where: Callable[[str], str] | None = None) -> Policy:
    """Parse the policy of a TOML table; raise SourceError with every unknown key and invalid value.

    `where` returns file and line of a key.
    """
    where = where or (lambda _: origin)
    bad: list[Finding] = []
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _RULE_FORMS:
            near = ", ".join(difflib.get_close_matches(key, _RULE_FORMS, 1, 0.5))
            bad.append(
                error(
                    "unknown-rule",
                    where(key),
                    "{subject}: a policy has no rule '{key}'.",
                    "Did you mean '{near}'?" if near else _RULES_ADVICE,
                    key=key,
                    near=near,
                    rules=list(_RULE_FORMS),
                )
            )
        elif not _RULE_FORMS[key][0](value):
            bad.append(
                error(
                    "bad-rule",
                    where(key),
                    "{subject}: the rule '{key}' takes {expected}.",
                    key=key,
                    expected=_RULE_FORMS[key][1],
                )
            )
        else:
            values[key.replace("-", "_")] = tuple(value) if isinstance(value, list) else value
    projects = []
    for project in values.get("denied_projects", ()):
        try:
            projects.append(Requirement(project))
        except InvalidRequirement:
            expected = text("project names, with versions or without")
            bad.append(
                error(
                    "bad-rule", origin, "{subject}: the rule '{key}' takes {expected}.", key=project, expected=expected
                )
            )
    if bad:
        raise SourceError(*bad)
    values["denied_projects"] = tuple(projects)
    values["exceptions"] = {canonicalize_name(name): reason for name, reason in values.get("exceptions", {}).items()}
    if isinstance(values.get("attestations"), tuple):
        values["attestations"] = tuple(canonicalize_name(value) for value in values["attestations"])
    return Policy(**values)


_RULES_ADVICE = "Rules are: {rules}."


@dataclass(frozen=True)
class PolicyCheck:
    """A policy and its source of vulnerabilities."""

    policy: Policy
    vulnerability_snapshot: Path | None = None
    """None: pip-audit looks them up if the policy needs them"""

    def check(self, evidence: BundleFacts) -> list[Finding]:
        """Return the notes; raise PolicyError with every violation. Ages are computed for today."""
        today = date.today()
        known_rules = (
            look_up_vulnerabilities(evidence, self.vulnerability_snapshot, today)
            if self.policy.vulnerabilities
            else None
        )
        return raise_on_errors(PolicyError, check_rules(evidence, self.policy, today, known_rules))


def look_up_vulnerabilities(evidence: BundleFacts, snapshot: Path | None, today: date) -> VulnerabilityLookup:
    """Look up the known vulnerabilities of all releases in a bundle, except those from private indexes."""
    named = map_releases(evidence)
    public = {
        release
        for path, release in named.items()
        if any((story or {}).get("index") for story in _list_provenances(evidence.provenance.get(path)))
    }
    ours = {file for path, file in named.items() if (evidence.provenance.get(path) or {}).get("origin") == "included"}
    return look_up_releases(set(named.values()) - ours, public, snapshot, today)


def _list_provenances(story: Mapping[str, Any] | None) -> tuple[Mapping[str, Any] | None, ...]:
    return story, (story or {}).get("source")


@dataclass(frozen=True)
class _ReleaseFacts:
    """The facts about one file that the rules use."""

    name: str
    version: str
    file: str
    contents: WheelContents
    provenance: Mapping[str, Any]

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def upload_time(self) -> str | None:
        """The upload time of the file, or of the sdist that it was built from."""
        source = self.provenance.get("source") or {}
        moment = self.provenance.get("upload_time") or source.get("upload_time")
        return moment if isinstance(moment, str) else None

    def get_provenance_value(self, key: str) -> Any:
        """Return what the index states about a file, or about the sdist that it was built from."""
        return self.provenance.get(key) or (self.provenance.get("source") or {}).get(key)


def check_rules(
    evidence: BundleFacts, policy: Policy, today: date, vulnerabilities: VulnerabilityLookup | None
) -> list[Finding]:
    """Check the bundle: an error for each violation, a note with its reason for each exception.

    `known` is needed if the policy has a rule about vulnerabilities. A fact that is unknown (an upload time, a
    licence) violates a rule about it.
    """
    named = map_releases(evidence)
    findings_by_text: dict[str, Finding] = {}
    for path, (name, version) in sorted(named.items(), key=lambda pair: (pair[1], pair[0])):
        story = evidence.provenance.get(path) or {}
        if story.get("origin") == "included":  # wheels of included files
            continue
        facts = _ReleaseFacts(
            name, version, path.rpartition("/")[2], evidence.contents.get(path) or WheelContents(), story
        )
        for finding in _check_release(facts, policy, today):
            findings_by_text.setdefault(finding.render(), finding)
    for finding in _check_vulnerabilities(policy, vulnerabilities):
        findings_by_text.setdefault(finding.render(), finding)
    return [_apply_exception(finding, policy) for finding in findings_by_text.values()]


def _apply_exception(finding: Finding, policy: Policy) -> Finding:
    name = finding.subject.partition(" ")[0]
    if name not in policy.exceptions:
        return finding
    return note(
        "policy-exception",
        finding.subject,
        "Excepted from the policy ({reason}): {broken}",
        reason=policy.exceptions[name],
        broken=finding.sentence,
    )


def _check_release(release: _ReleaseFacts, policy: Policy, today: date) -> Iterator[Finding]:
    yield from _check_license(release, policy)
    for denied in policy.denied_projects:
        if canonicalize_name(denied.name) == release.name and _matches_version(denied, release.version):
            yield error(
                "policy-project",
                release.label,
                "{subject} is not allowed: the policy denies {rule}.",
                _REPLACE_ADVICE,
                rule=denied,
            )
    if not policy.built_from_source and release.provenance.get("origin") == "built":
        yield error(
            "policy-built",
            release.label,
            "{subject} was built from source here, which the policy does not allow.",
            "Take a version with a wheel, or have the wheel built and published by somebody who may.",
        )
    if not policy.yanked and release.get_provenance_value("yanked"):
        yield error(
            "policy-yanked",
            release.label,
            "{subject} was withdrawn by its maintainers (yanked): {reason}.",
            "Take another version.",
            reason=release.get_provenance_value("yanked_reason") or text("no reason given"),
        )
    yield from _check_age(release, policy, today)
    is_required = policy.attestations is True or (
        isinstance(policy.attestations, tuple) and release.name in policy.attestations
    )
    if is_required and not release.get_provenance_value("attestations"):
        yield error(
            "policy-attestation",
            release.label,
            "{subject} has no attestation that was verified ({file}).",
            "Pack with offlinepack[provenance] installed, or take a release that its publisher attests to.",
            file=release.file,
        )


_REPLACE_ADVICE = "Take another version or another project, or have the policy changed."


def _matches_version(rule: Requirement, version: str) -> bool:
    try:
        return rule.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def _check_license(release: _ReleaseFacts, policy: Policy) -> Iterator[Finding]:
    terms = release.contents.licenses

    def matches(rules: tuple[str, ...]) -> Callable[[str], bool]:
        return lambda word: any(fnmatch.fnmatchcase(word.lower(), rule.lower()) for rule in rules)

    if not terms and (policy.allowed_licenses or policy.denied_licenses):
        yield error(
            "policy-licence-unknown",
            release.label,
            "{subject} does not say under which licence it is.",
            "Look at its project, then make an exception with the reason.",
        )
    elif policy.allowed_licenses and not are_terms_allowed(terms, matches(policy.allowed_licenses)):
        yield error(
            "policy-licence",
            release.label,
            "{subject} is under {licences}, which the policy does not allow.",
            _REPLACE_ADVICE,
            licences=terms,
        )
    elif policy.denied_licenses:
        denied = matches(policy.denied_licenses)
        if not are_terms_allowed(terms, lambda word: not denied(word)):
            yield error(
                "policy-licence",
                release.label,
                "{subject} is under {licences}, which the policy denies.",
                _REPLACE_ADVICE,
                licences=terms,
            )


def _check_age(release: _ReleaseFacts, policy: Policy, today: date) -> Iterator[Finding]:
    if policy.minimum_age is None and policy.maximum_age is None:
        return
    days = compute_age(release.upload_time, today)
    if days is None:
        yield error(
            "policy-age-unknown",
            release.label,
            "Nobody says when {subject} was uploaded, and the policy has a rule about its age.",
            "Take it from an index that gives upload times, or make an exception with the reason.",
        )
    elif policy.minimum_age is not None and days < policy.minimum_age:
        yield error(
            "policy-too-young",
            release.label,
            "{subject} is {days} days old; the policy wants {least} at least.",
            "Wait, or take an older version: --uploaded-prior-to DATE.",
            days=days,
            least=policy.minimum_age,
        )
    elif policy.maximum_age is not None and days > policy.maximum_age:
        yield error(
            "policy-too-old",
            release.label,
            "{subject} is {days} days old; the policy wants {most} at most.",
            "Take a newer version, or one of another project.",
            days=days,
            most=policy.maximum_age,
        )


def _check_vulnerabilities(policy: Policy, vulnerabilities: VulnerabilityLookup | None) -> Iterator[Finding]:
    if not policy.vulnerabilities:
        return
    if vulnerabilities is None or not vulnerabilities.date:
        yield error(
            "policy-vulnerabilities-unknown",
            "vulnerabilities",
            "The policy has a rule about vulnerabilities, and nothing is known about them: {why}.",
            "Install offlinepack[audit] on a host with a network, or give a snapshot with --vulnerabilities FILE.",
            why=vulnerabilities.problem if vulnerabilities and vulnerabilities.problem else text("nobody was asked"),
        )
        return
    least = SEVERITY_LEVELS.index(policy.vulnerabilities)
    for vulnerability in vulnerabilities.vulnerabilities:
        # a vulnerability without a level may have any level
        if not vulnerability.level or SEVERITY_LEVELS.index(vulnerability.level) >= least:
            yield error(
                "policy-vulnerability",
                f"{vulnerability.name} {vulnerability.version}",
                "{subject} is known to be vulnerable: {id} ({level}, as of {date}).",
                "Take {fixed}." if vulnerability.fixed_versions else _REPLACE_ADVICE,
                id=[vulnerability.id, *vulnerability.aliases[:2]],
                level=vulnerability.level or text("level unknown"),
                date=vulnerabilities.date,
                fixed=list(vulnerability.fixed_versions),
            )
    for name, version in vulnerabilities.unchecked_releases:
        yield note(
            "vulnerabilities-not-looked-up",
            f"{name} {version}",
            "Whether {subject} is known to be vulnerable was not looked up.",
        )
