"""Look up known vulnerabilities of releases: with pip-audit, or in a snapshot.

A snapshot is the output of `pip-audit -f json` (a "date" may be added), or OSV records: one JSON file, a folder or the
zip that OSV publishes for PyPI. The result always states the date of the data.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import SourceError, Text, error, text

SEVERITY_LEVELS = ("low", "medium", "high", "critical")

ReleaseKey = tuple[str, str]
"""normalized name and version"""


@dataclass(frozen=True)
class Vulnerability:
    """A vulnerability of a release."""

    name: str
    version: str
    id: str
    aliases: tuple[str, ...] = ()
    level: str = ""
    """one of LEVELS; '' if unknown"""
    summary: str = ""
    fixed_versions: tuple[str, ...] = ()
    """versions in which it is fixed"""

    def to_json(self) -> dict[str, Any]:
        """Return the vulnerability as JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "aliases": list(self.aliases),
            "level": self.level,
            "summary": self.summary,
            "fixed": list(self.fixed_versions),
        }


@dataclass(frozen=True)
class VulnerabilityLookup:
    """The result of a look-up, with its source and date."""

    source: str
    """pip-audit, or the file name of the snapshot"""
    date: str
    """ISO date of the data; '' if nothing is known"""
    vulnerabilities: tuple[Vulnerability, ...] = ()
    unchecked_releases: tuple[ReleaseKey, ...] = ()
    """releases that were not looked up, or that the source does not know"""
    problem: Text | None = None
    """reason if nothing is known"""

    def to_json(self) -> dict[str, Any]:
        """Return the lookup as JSON."""
        return {
            "source": self.source,
            "date": self.date or None,
            "known": [vulnerability.to_json() for vulnerability in self.vulnerabilities],
            "not_looked_up": [f"{name} {version}" for name, version in self.unchecked_releases],
            "problem": self.problem.render() if self.problem else None,
        }


def look_up_releases(
    releases: Iterable[ReleaseKey], public: Collection[ReleaseKey], snapshot: Path | None, today: date
) -> VulnerabilityLookup:
    """Look up releases in a snapshot, otherwise with pip-audit, which receives only those in `public`.

    The names of private projects stay private. Raises SourceError if the snapshot cannot be read.
    """
    ordered = sorted(set(releases))
    return (
        read_snapshot(snapshot, ordered)
        if snapshot
        else run_pip_audit(ordered, [release for release in ordered if release in public], today)
    )


def run_pip_audit(releases: Sequence[ReleaseKey], public: Sequence[ReleaseKey], today: date) -> VulnerabilityLookup:
    """Run pip-audit, if it is installed."""
    program = shutil.which("pip-audit", path=str(Path(sys.executable).parent)) or shutil.which("pip-audit")
    reason = None
    if program is None:
        reason = text("pip-audit is not installed (offlinepack[audit]), and no snapshot was given")
    elif not public:
        reason = text("nothing here is from the public index, and no snapshot was given")
    if program is None or reason:
        return VulnerabilityLookup("pip-audit", "", unchecked_releases=tuple(releases), problem=reason)
    dependencies: list[dict[str, Any]] = []
    for part in _split_by_version(public):
        answer = _audit_releases(program, part)
        if isinstance(answer, Text):
            return VulnerabilityLookup("pip-audit", "", unchecked_releases=tuple(releases), problem=answer)
        dependencies += answer
    vulnerabilities, checked = _parse_audit({"dependencies": dependencies})
    unknown = tuple(release for release in releases if release not in checked)
    if not checked:
        return VulnerabilityLookup(
            "pip-audit",
            "",
            unchecked_releases=unknown,
            problem=text("the service behind pip-audit knows none of these releases"),
        )
    return VulnerabilityLookup("pip-audit", today.isoformat(), vulnerabilities, unknown)


def _split_by_version(releases: Iterable[ReleaseKey]) -> Iterator[list[ReleaseKey]]:
    """Split releases into lists with one version of each project, as pip-audit requires."""
    waiting = list(releases)
    while waiting:
        part = list({name: (name, version) for name, version in reversed(waiting)}.values())
        waiting = [release for release in waiting if release not in part]
        yield sorted(part)


def _audit_releases(program: str, releases: Iterable[ReleaseKey]) -> list[dict[str, Any]] | Text:
    with tempfile.TemporaryDirectory(prefix="offlinepack-") as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("".join(f"{name}=={version}\n" for name, version in releases), "utf-8")
        command = [program, "-r", str(listed), "--no-deps", "--disable-pip", "-f", "json", "--progress-spinner", "off"]
        command += ["--desc", "on", "--aliases", "on"]
        try:
            process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False)
        except subprocess.TimeoutExpired:
            return text("pip-audit did not answer within {seconds} s", seconds=300)
    try:
        # exit code 0: no vulnerability; 1: some, or pip-audit failed
        dependencies: list[dict[str, Any]] = json.loads(process.stdout)["dependencies"]
        return dependencies
    except (ValueError, KeyError, TypeError):
        words = process.stderr.decode("utf-8", "replace").strip().splitlines() or ["?"]
        return text("pip-audit failed: {words}", words=words[-1][:200])


def read_snapshot(path: Path, releases: Sequence[ReleaseKey]) -> VulnerabilityLookup:
    """Read the vulnerabilities of these releases from saved output of pip-audit or from OSV records."""
    try:
        if path.is_dir():
            records = [json.loads(path.read_bytes()) for path in sorted(path.rglob("*.json"))]
        elif zipfile.is_zipfile(path):
            records = list(_read_zip(path, {name for name, _ in releases}))
        else:
            document = json.loads(path.read_bytes())
            if isinstance(document, dict) and "dependencies" in document:
                vulnerabilities, checked = _parse_audit(document)
                vulnerabilities = tuple(
                    vulnerability
                    for vulnerability in vulnerabilities
                    if (vulnerability.name, vulnerability.version) in releases
                )
                day = str(document.get("date") or _get_modified_date(path))[:10]
                return VulnerabilityLookup(
                    path.name, day, vulnerabilities, tuple(release for release in releases if release not in checked)
                )
            records = document["vulns"] if isinstance(document, dict) and "vulns" in document else document
            records = [records] if isinstance(records, dict) else records
        day = max((str(record["modified"]) for record in records), default=_get_modified_date(path))[:10]
        return VulnerabilityLookup(path.name, day, tuple(_merge_aliases(_parse_osv(records, releases))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as problem:
        raise SourceError(
            error(
                "bad-snapshot",
                path,
                "{subject} is no snapshot of known vulnerabilities: {words}.",
                "Give what `pip-audit -f json` printed, or OSV records: a JSON file, a folder or the zip for PyPI.",
                words=str(problem) or type(problem).__name__,
            )
        ) from problem


def _get_modified_date(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def _read_zip(path: Path, names: Collection[str]) -> Iterator[dict[str, Any]]:
    """Read the records of an archive that can matter, and the date of the newest one."""
    newest: dict[str, Any] = {"modified": ""}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".json"):
                record = json.loads(archive.read(member))
                if str(record["modified"]) > newest["modified"]:
                    newest = {"modified": str(record["modified"])}
                if any(
                    canonicalize_name(affected["package"]["name"]) in names for affected in record.get("affected") or ()
                ):
                    yield record
    yield newest


def _parse_audit(document: Mapping[str, Any]) -> tuple[tuple[Vulnerability, ...], set[ReleaseKey]]:
    vulnerabilities: list[Vulnerability] = []
    visited: set[ReleaseKey] = set()
    for dependency in document["dependencies"]:
        if "version" not in dependency:  # pip-audit skipped it, and gives a reason
            continue
        release = (canonicalize_name(dependency["name"]), str(dependency["version"]))
        visited.add(release)
        for vulnerability in dependency.get("vulns") or ():
            summary = " ".join(str(vulnerability.get("description") or "").split())[:300]
            fixed, aliases = (
                tuple(map(str, vulnerability.get("fix_versions") or ())),
                tuple(vulnerability.get("aliases") or ()),
            )
            level = str(vulnerability.get("severity") or "").lower()
            vulnerabilities.append(
                Vulnerability(
                    *release,
                    str(vulnerability["id"]),
                    aliases,
                    level if level in SEVERITY_LEVELS else "",
                    summary,
                    fixed,
                )
            )
    return tuple(vulnerabilities), visited


def _parse_osv(records: Iterable[Mapping[str, Any]], releases: Sequence[ReleaseKey]) -> Iterator[Vulnerability]:
    versions: dict[str, list[str]] = {}
    for name, version in releases:
        versions.setdefault(name, []).append(version)
    for record in records:
        if record.get("withdrawn"):
            continue
        for affected in record.get("affected") or ():
            package = affected["package"]
            name = canonicalize_name(package["name"])
            if package.get("ecosystem") != "PyPI" or name not in versions:
                continue
            events = [
                event
                for version_range in affected.get("ranges") or ()
                if version_range.get("type") == "ECOSYSTEM"
                for event in version_range["events"]
            ]
            for version in versions[name]:
                if version in (affected.get("versions") or ()) or _is_affected(version, events):
                    fixed = tuple(event["fixed"] for event in events if "fixed" in event)
                    summary = record.get("summary") or record.get("details") or ""
                    yield Vulnerability(
                        name,
                        version,
                        record["id"],
                        tuple(record.get("aliases") or ()),
                        _find_severity(record, affected),
                        " ".join(str(summary).split())[:300],
                        fixed,
                    )


def _is_affected(version: str, events: Sequence[Mapping[str, str]]) -> bool:
    """Evaluate the events of an OSV range: the last one at or before a version decides (OSV schema)."""
    try:
        parsed, inside = Version(version), False
        ordered = sorted(
            (
                (Version("0") if value == "0" else Version(value), kind)
                for event in events
                for kind, value in event.items()
            ),
            key=lambda event: (event[0], event[1] != "fixed"),
        )
        for at, kind in ordered:
            if kind == "introduced" and at <= parsed:
                inside = True
            elif (kind == "fixed" and at <= parsed) or (kind == "last_affected" and at < parsed):
                inside = False
        return inside
    except InvalidVersion:
        return False


def _find_severity(record: Mapping[str, Any], affected: Mapping[str, Any]) -> str:
    severities = [(source.get("database_specific") or {}).get("severity") for source in (record, affected)]
    word = next((str(severity).lower() for severity in severities if isinstance(severity, str)), "")
    if word in ("moderate", *SEVERITY_LEVELS):
        return "medium" if word == "moderate" else word
    scores = [
        severity["score"]
        for severity in (*(record.get("severity") or ()), *(affected.get("severity") or ()))
        if "score" in severity
    ]
    levels = [level for level in map(_rate_vector, scores) if level]
    return max(levels, key=SEVERITY_LEVELS.index, default="")


def _rate_vector(vector: str) -> str:
    """Rate a CVSS vector of version 2, 3 or 4 by its base score; '' for an invalid vector and for score 0."""
    from cvss import CVSS2, CVSS3, CVSS4, CVSSError  # only records without a rating need it

    try:
        if vector.startswith("CVSS:4"):
            level = CVSS4(vector).severity
        elif vector.startswith("CVSS:3"):
            level = CVSS3(vector).severities()[0]
        else:
            level = CVSS2(vector).severities()[0]
    except CVSSError:
        return ""
    return level.lower() if level.lower() in SEVERITY_LEVELS else ""


def _merge_aliases(vulnerabilities: Iterable[Vulnerability]) -> Iterator[Vulnerability]:
    """Merge records of one vulnerability, which databases name differently and list as aliases."""
    groups: list[list[Vulnerability]] = []
    for vulnerability in sorted(
        set(vulnerabilities), key=lambda vulnerability: (vulnerability.name, vulnerability.version, vulnerability.id)
    ):
        names = {vulnerability.id, *vulnerability.aliases}
        for group in groups:
            if any(
                (member.name, member.version) == (vulnerability.name, vulnerability.version)
                and names & {member.id, *member.aliases}
                for member in group
            ):
                group.append(vulnerability)
                break
        else:
            groups.append([vulnerability])
    for group in groups:
        first = next((vulnerability for vulnerability in group if vulnerability.id.startswith("PYSEC")), group[0])
        ids = {name for vulnerability in group for name in (vulnerability.id, *vulnerability.aliases)} - {first.id}
        level = max(
            (vulnerability.level for vulnerability in group if vulnerability.level),
            key=SEVERITY_LEVELS.index,
            default="",
        )
        summary = next(
            (
                vulnerability.summary
                for vulnerability in group
                if vulnerability.summary and not vulnerability.id.startswith("PYSEC")
            ),
            first.summary,
        )
        fixed = tuple(dict.fromkeys(version for vulnerability in group for version in vulnerability.fixed_versions))
        yield Vulnerability(first.name, first.version, first.id, tuple(sorted(ids)), level, summary, fixed)
