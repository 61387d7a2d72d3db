"""Compare two bundles: projects, files, native dependencies and the contents of wheels.

The manifests show which projects and files changed. The contents of wheels (native code, commands, start-up files) are
compared only if both bundles are available.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from offlinepack.bundle.layout import FILES, INSTALL_CMD, INSTALL_SH
from offlinepack.bundle.reader import Bundle, open_bundle, read_manifest
from offlinepack.errors import Finding, Text, note, text, warning
from offlinepack.ontarget.manifest import INSTALL_PY, ONTARGET, SDISTS, TOOLS, WHEELS, Manifest, TargetPlan
from offlinepack.wheels.contents import WheelContents
from offlinepack.wheels.report import WheelReport


class ReleaseFile(NamedTuple):
    """A project in a target of a bundle."""

    version: str
    filename: str
    """file name"""
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON."""
        return {"version": self.version, "file": self.filename, "sha256": self.sha256}


class Change(NamedTuple):
    """A project of a target in the old and in the new bundle."""

    name: str
    old: ReleaseFile | None
    """None if the project is new"""
    new: ReleaseFile | None
    """None if the project was removed"""

    @property
    def state(self) -> str:
        """same, changed, rebuilt (the same version, other bytes), new or removed."""
        if not self.old or not self.new:
            return "removed" if self.old else "new"
        if self.old.sha256 == self.new.sha256:
            return "same"
        return "rebuilt" if self.old.version == self.new.version else "changed"


@dataclass(frozen=True)
class Difference:
    """The differences between two bundles."""

    old: Manifest
    new: Manifest
    targets: Mapping[str, tuple[Change, ...]]
    """tag of each target of the new bundle -> its projects, by name"""
    findings: tuple[Finding, ...]
    """suspicious changes: other bytes under the same name, new native code ..."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of projects of all targets by state; `all` counts those of the new bundle."""
        states: dict[str, set[str]] = {}
        for change in (change for changes in self.targets.values() for change in changes):
            states.setdefault(change.name, set()).add("changed" if change.state == "rebuilt" else change.state)
        summed = [states_found.pop() if len(states_found) == 1 else "changed" for states_found in states.values()]
        counted = {state: summed.count(state) for state in ("changed", "new", "removed", "same")}
        return {**counted, "all": len(summed) - counted["removed"]}

    def format_lines(self) -> Iterator[Text]:
        """Yield the lines of the difference: a summary, then the changes of each target."""
        yield text("{changed} of {all} changed, {new} new, {removed} removed; {same} byte-identical", **self.counts)
        if self.old.folder != self.new.folder:
            yield text("{old} is now {new}", old=self.old.folder, new=self.new.folder)
        if self.old.sequence != self.new.sequence:
            old, new = (
                text("none") if manifest.sequence is None else manifest.sequence for manifest in (self.old, self.new)
            )
            yield text("sequence {old} is now {new}", old=old, new=new)
        for tag in sorted({target.tag for target in self.old.targets} - set(self.targets)):
            yield text("target {tag} is gone", tag=tag)
        old_tags = {target.tag for target in self.old.targets}
        visited: set[tuple[Change, ...]] = set()
        for target in self.new.targets:
            changes = tuple(target for target in self.targets[target.tag] if target.state != "same")
            if target.tag not in old_tags:
                yield text("target {tag} is new", tag=target.tag)
            elif changes and len(self.new.targets) > 1:
                yield (
                    text("for {tag}: the same", tag=target.tag)
                    if changes in visited
                    else text("for {tag}:", tag=target.tag)
                )
            if changes not in visited and target.tag in old_tags:
                yield from map(_format_change, changes)
                visited.add(changes)

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON."""
        return {
            "old": _describe_manifest(self.old),
            "new": _describe_manifest(self.new),
            "counts": self.counts,
            "targets": {
                tag: [
                    {
                        "name": change.name,
                        "state": change.state,
                        "old": change.old.to_json() if change.old else None,
                        "new": change.new.to_json() if change.new else None,
                    }
                    for change in changes
                ]
                for tag, changes in self.targets.items()
            },
            "targets_removed": sorted({target.tag for target in self.old.targets} - set(self.targets)),
            "files": [
                {"path": path, "old": before, "new": after}
                for path, before, after in _pair_files(self.old, self.new)
                if before != after
            ],
            "findings": [finding.to_json() for finding in self.findings],
        }


def diff_bundles(old: Path, new: Path) -> Difference:
    """Compare two bundles, each a tar.gz, its parts, its folder or a single manifest.json."""
    if any(path.suffix == ".json" and not path.is_dir() for path in (old, new)):
        for path in (old, new):
            if path.suffix != ".json" or path.is_dir():
                open_bundle(path).check()
        return compare_manifests(read_manifest(old), read_manifest(new))
    bundles = open_bundle(old), open_bundle(new)
    for bundle in bundles:
        bundle.check()
    return compare_manifests(bundles[0].manifest, bundles[1].manifest, bundles)


def compare_manifests(old: Manifest, new: Manifest, bundles: tuple[Bundle, Bundle] | None = None) -> Difference:
    """Compare two manifests; with both bundles also the content of changed wheels."""
    targets = {}
    for target in new.targets:
        before, after = _find_previous_target(old, target), _list_releases(new, target)
        # a target without a predecessor is compared with all targets of the old bundle
        old_releases = {
            name: release for target in reversed(old.targets) for name, release in _list_releases(old, target).items()
        }
        held_releases = (
            _list_releases(old, before)
            if before
            else {name: release for name, release in old_releases.items() if name in after}
        )
        targets[target.tag] = tuple(
            Change(name, held_releases.get(name), after.get(name)) for name in sorted({*held_releases, *after})
        )
    findings = [*_report_changed_files(old, new), *_report_new_needs(old, new), *_report_installer_change(old, new)]
    changes = {
        change
        for target_changes in targets.values()
        for change in target_changes
        if change.state not in ("same", "removed")
    }
    if bundles:
        findings += _report_by_contents(bundles, changes)
    else:
        findings += _report_by_filename(changes)
    return Difference(old, new, targets, tuple(_remove_duplicates(findings)))


def _remove_duplicates(findings: Iterable[Finding]) -> Iterator[Finding]:
    visited = set()
    for finding in findings:
        if finding.render() not in visited:
            visited.add(finding.render())
            yield finding


def _find_previous_target(manifest: Manifest, target: TargetPlan) -> TargetPlan | None:
    """Find the target of the old bundle that precedes this one: of the same tag, otherwise of the same name and
    Python.
    """
    for plan in manifest.targets:
        if plan.tag == target.tag:
            return plan
    kin = [plan for plan in manifest.targets if plan.name == target.name and plan.facts.python == target.facts.python]
    return kin[0] if len(kin) == 1 else None


def _list_releases(manifest: Manifest, target: TargetPlan) -> dict[str, ReleaseFile]:
    sums = {file.path: file.sha256 for file in manifest.files}
    return {
        distribution.name: ReleaseFile(
            distribution.version, distribution.file.rpartition("/")[2], sums[distribution.file]
        )
        for distribution in target.install
    }


def _format_change(change: Change) -> Text:
    if change.old and change.new:
        facts = {"name": change.name, "old": change.old.version, "new": change.new.version}
        if change.state == "rebuilt":
            return text(
                "  ! {name} {new}: other bytes under the same version", name=change.name, new=change.new.version
            )
        return text("  ~ {name} {old} -> {new}", **facts)
    if change.new:
        return text("  + {name} {new}", name=change.name, new=change.new.version)
    return text("  - {name} {old}", name=change.name, old=change.old.version if change.old else "")


def _describe_manifest(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "version": manifest.version, "sequence": manifest.sequence}


def _pair_files(old: Manifest, new: Manifest) -> Iterator[tuple[str, str | None, str | None]]:
    """Return each path with its old and new SHA-256."""
    digests = [{file.path: file.sha256 for file in manifest.files} for manifest in (old, new)]
    for path in sorted({*digests[0], *digests[1]}):
        yield path, digests[0].get(path), digests[1].get(path)


def _report_changed_files(old: Manifest, new: Manifest) -> Iterator[Finding]:
    """Report files with the same name and other bytes: an index never accepts a second file under one name."""
    for path, before, after in _pair_files(old, new):
        folder = path.partition("/")[0]
        if before and after and before != after:
            if folder in (WHEELS, SDISTS, TOOLS):
                yield warning(
                    "same-name-other-bytes",
                    path,
                    "{subject} has the same name as before and other bytes: {old} then, {new} now.",
                    "Ask why: it was built again, it comes from another index, or somebody changed it.",
                    old=before,
                    new=after,
                )
            elif folder == FILES:
                yield note("included-changed", path, "{subject} was changed.")
        elif folder == FILES and before != after:
            if after:
                yield note("included-new", path, "{subject} is new.")
            else:
                yield note("included-removed", path, "{subject} was removed.")


def _report_new_needs(old: Manifest, new: Manifest) -> Iterator[Finding]:
    """Report shared libraries that the machine must provide and did not need before."""
    for target in new.targets:
        before = _find_previous_target(old, target)
        old_needs = {need.soname: set(need.symbols) for need in (before.needs if before else ())}
        for need in target.needs if before else ():
            if need.soname not in old_needs:
                yield warning(
                    "needs-more",
                    need.soname,
                    "{tag} now needs {subject} from the system, for {wanted_by}.",
                    "{help}",
                    tag=target.tag,
                    wanted_by=need.wanted_by,
                    help=need.help or "",
                )
            elif more := sorted(set(need.symbols) - old_needs[need.soname]):
                yield note(
                    "needs-newer",
                    need.soname,
                    "{tag} now needs {more} of {subject}, for {wanted_by}.",
                    tag=target.tag,
                    more=more,
                    wanted_by=need.wanted_by,
                )


def _report_installer_change(old: Manifest, new: Manifest) -> Iterator[Finding]:
    """Report a changed target side, which runs with the rights of the operator."""
    starters = (INSTALL_PY, INSTALL_SH, INSTALL_CMD)
    changed = [
        path
        for path, before, after in _pair_files(old, new)
        if before != after and (path in starters or path.startswith(ONTARGET + "/"))
    ]
    if changed:
        yield note(
            "installer-changed",
            ONTARGET,
            "The installer itself changed ({count} files): it was packed by another version of offlinepack.",
            count=len(changed),
        )


def _report_by_filename(changes: Collection[Change]) -> Iterator[Finding]:
    """Report changes that the file names show: a project that is no longer pure Python."""
    for change in sorted(changes, key=repr):
        pure = [release.filename.endswith("-none-any.whl") if release else None for release in (change.old, change.new)]
        if change.new and pure[1] is False and pure[0] is not False and change.new.filename.endswith(".whl"):
            yield warning(
                "new-native-code",
                change.name,
                "{subject} {version} brings native code, which it did not before.",
                "Look at it more closely than at Python that can be read.",
                version=change.new.version,
            )


def _report_by_contents(bundles: tuple[Bundle, Bundle], changes: Collection[Change]) -> Iterator[Finding]:
    """Report contents of the new wheels of these projects that the old wheels lack."""
    changed_files = [
        {release.sha256 for release in releases if release}
        for releases in ([change.old for change in changes], [change.new for change in changes])
    ]
    old, new = (_read_contents(bundle, sums) for bundle, sums in zip(bundles, changed_files, strict=True))
    nothing = WheelContents()
    for change in sorted(changes, key=repr):
        before = old.get(change.old.sha256, nothing) if change.old else nothing
        after = new.get(change.new.sha256, nothing) if change.new else nothing
        version = change.new.version if change.new else ""
        if after.native_count and not before.native_count:
            yield warning(
                "new-native-code",
                change.name,
                "{subject} {version} brings native code, which it did not before.",
                "Look at it more closely than at Python that can be read.",
                version=version,
            )
        if more := sorted({*after.commands} - {*before.commands}):
            yield note(
                "new-command",
                change.name,
                "{subject} {version} brings new commands: {more}.",
                version=version,
                more=more,
            )
        if more := sorted({*after.startup_files} - {*before.startup_files}):
            yield warning(
                "new-startup",
                change.name,
                "{subject} {version} brings {more}, which runs at every start of Python.",
                "Read it before you say yes.",
                version=version,
                more=more,
            )


def _read_contents(bundle: Bundle, sums: Collection[str]) -> dict[str, WheelContents]:
    """Read the contents of the wheels with these SHA-256."""
    paths = {file.path for file in bundle.manifest.files if file.sha256 in sums and file.path.endswith(".whl")}
    if not paths:
        return {}
    return {file.sha256: WheelReport.from_wheel(wheel).contents for file, wheel in bundle.read_wheels(paths)}
