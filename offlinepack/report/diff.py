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
from offlinepack.ontarget.manifest import (
    INSTALL_PY,
    ONTARGET,
    SDISTS,
    TOOLS,
    WHEELS,
    Manifest,
    TargetPlan,
    serialize_manifest,
)
from offlinepack.wheels.contents import WheelTraits, collect_traits


class ReleaseFile(NamedTuple):
    """One project in one target of a bundle."""

    version: str
    filename: str
    """file name"""
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"version": self.version, "file": self.filename, "sha256": self.sha256}


class Change(NamedTuple):
    """One project of one target, before and after."""

    name: str
    old: ReleaseFile | None
    """None: it is new"""
    new: ReleaseFile | None
    """None: it was removed"""

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
    """What there is to tell."""

    old: Manifest
    new: Manifest
    targets: Mapping[str, tuple[Change, ...]]
    """tag -> each project, by name; of the targets that the new bundle has"""
    findings: tuple[Finding, ...]
    """what is odd: other bytes under the same name, new native code ..."""

    @property
    def counts(self) -> dict[str, int]:
        """Projects of all targets by what happened to them; `all` are those of the new bundle."""
        states: dict[str, set[str]] = {}
        for one in (change for changes in self.targets.values() for change in changes):
            states.setdefault(one.name, set()).add("changed" if one.state == "rebuilt" else one.state)
        summed = [found.pop() if len(found) == 1 else "changed" for found in states.values()]
        counted = {state: summed.count(state) for state in ("changed", "new", "removed", "same")}
        return {**counted, "all": len(summed) - counted["removed"]}

    @property
    def has_changes(self) -> bool:
        """Whether anything is to be told at all."""
        return serialize_manifest(self.old) != serialize_manifest(self.new)

    def format_lines(self) -> Iterator[Text]:
        """The difference for a person: one line that sums it up, then what changed, for each target."""
        yield text("{changed} of {all} changed, {new} new, {removed} removed; {same} byte-identical", **self.counts)
        if self.old.folder != self.new.folder:
            yield text("{old} is now {new}", old=self.old.folder, new=self.new.folder)
        if self.old.sequence != self.new.sequence:
            old, new = (text("none") if one.sequence is None else one.sequence for one in (self.old, self.new))
            yield text("sequence {old} is now {new}", old=old, new=new)
        for tag in sorted({one.tag for one in self.old.targets} - set(self.targets)):
            yield text("target {tag} is gone", tag=tag)
        known = {one.tag for one in self.old.targets}
        said: set[tuple[Change, ...]] = set()
        for target in self.new.targets:
            told = tuple(one for one in self.targets[target.tag] if one.state != "same")
            if target.tag not in known:
                yield text("target {tag} is new", tag=target.tag)
            elif told and len(self.new.targets) > 1:
                yield (
                    text("for {tag}: the same", tag=target.tag) if told in said else text("for {tag}:", tag=target.tag)
                )
            if told not in said and target.tag in known:
                yield from map(_format_change, told)
                said.add(told)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "old": _describe_manifest(self.old),
            "new": _describe_manifest(self.new),
            "counts": self.counts,
            "targets": {
                tag: [
                    {
                        "name": one.name,
                        "state": one.state,
                        "old": one.old.to_json() if one.old else None,
                        "new": one.new.to_json() if one.new else None,
                    }
                    for one in changes
                ]
                for tag, changes in self.targets.items()
            },
            "targets_removed": sorted({one.tag for one in self.old.targets} - set(self.targets)),
            "files": [
                {"path": path, "old": before, "new": after}
                for path, before, after in _pair_files(self.old, self.new)
                if before != after
            ],
            "findings": [one.to_json() for one in self.findings],
        }


def diff_bundles(old: Path, new: Path) -> Difference:
    """The difference of two bundles, each a tar.gz, its parts, its folder, or a manifest.json alone."""
    if any(one.suffix == ".json" and not one.is_dir() for one in (old, new)):
        for one in (old, new):
            if one.suffix != ".json" or one.is_dir():
                open_bundle(one).check()
        return compare_manifests(read_manifest(old), read_manifest(new))
    bundles = open_bundle(old), open_bundle(new)
    for bundle in bundles:
        bundle.check()
    return compare_manifests(bundles[0].manifest, bundles[1].manifest, bundles)


def compare_manifests(old: Manifest, new: Manifest, bundles: tuple[Bundle, Bundle] | None = None) -> Difference:
    """The difference of two manifests; with both bundles also what changed wheels bring inside."""
    targets = {}
    for target in new.targets:
        before, after = _find_previous_target(old, target), _list_releases(new, target)
        # a target without a forerunner is compared with all that the old bundle held
        known = {name: one for each in reversed(old.targets) for name, one in _list_releases(old, each).items()}
        held = _list_releases(old, before) if before else {name: one for name, one in known.items() if name in after}
        targets[target.tag] = tuple(Change(name, held.get(name), after.get(name)) for name in sorted({*held, *after}))
    findings = [*_report_changed_files(old, new), *_report_new_needs(old, new), *_report_installer_change(old, new)]
    changes = {change for each in targets.values() for change in each if change.state not in ("same", "removed")}
    if bundles:
        findings += _report_by_contents(bundles, changes)
    else:
        findings += _report_by_filename(changes)
    return Difference(old, new, targets, tuple(_remove_duplicates(findings)))


def _remove_duplicates(findings: Iterable[Finding]) -> Iterator[Finding]:
    said = set()
    for one in findings:
        if one.render() not in said:
            said.add(one.render())
            yield one


def _find_previous_target(manifest: Manifest, target: TargetPlan) -> TargetPlan | None:
    """The target of the old bundle that this one follows: of the same tag, else of the same name and Python."""
    for one in manifest.targets:
        if one.tag == target.tag:
            return one
    kin = [one for one in manifest.targets if one.name == target.name and one.facts.python == target.facts.python]
    return kin[0] if len(kin) == 1 else None


def _list_releases(manifest: Manifest, target: TargetPlan) -> dict[str, ReleaseFile]:
    sums = {one.path: one.sha256 for one in manifest.files}
    return {one.name: ReleaseFile(one.version, one.file.rpartition("/")[2], sums[one.file]) for one in target.install}


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
    """Each path with its sha256 before and after."""
    found = [{one.path: one.sha256 for one in each.files} for each in (old, new)]
    for path in sorted({*found[0], *found[1]}):
        yield path, found[0].get(path), found[1].get(path)


def _report_changed_files(old: Manifest, new: Manifest) -> Iterator[Finding]:
    """A distribution's file name names its bytes for ever: an index takes no second file under it."""
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
    """Shared libraries that the machine has to bring, and did not have to before."""
    for target in new.targets:
        before = _find_previous_target(old, target)
        known = {need.soname: set(need.symbols) for need in (before.needs if before else ())}
        for need in target.needs if before else ():
            if need.soname not in known:
                yield warning(
                    "needs-more",
                    need.soname,
                    "{tag} now needs {subject} from the system, for {wanted_by}.",
                    "{help}",
                    tag=target.tag,
                    wanted_by=need.wanted_by,
                    help=need.help or "",
                )
            elif more := sorted(set(need.symbols) - known[need.soname]):
                yield note(
                    "needs-newer",
                    need.soname,
                    "{tag} now needs {more} of {subject}, for {wanted_by}.",
                    tag=target.tag,
                    more=more,
                    wanted_by=need.wanted_by,
                )


def _report_installer_change(old: Manifest, new: Manifest) -> Iterator[Finding]:
    """The target side itself: it runs with the rights of who installs."""
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
    """What the file names alone tell: a project that was pure Python and is not any more."""
    for one in sorted(changes, key=repr):
        pure = [release.filename.endswith("-none-any.whl") if release else None for release in (one.old, one.new)]
        if one.new and pure[1] is False and pure[0] is not False and one.new.filename.endswith(".whl"):
            yield warning(
                "new-native-code",
                one.name,
                "{subject} {version} brings native code, which it did not before.",
                "Look at it more closely than at Python that can be read.",
                version=one.new.version,
            )


def _report_by_contents(bundles: tuple[Bundle, Bundle], changes: Collection[Change]) -> Iterator[Finding]:
    """What the wheels of these projects bring, and the wheels before did not."""
    wanted = [
        {release.sha256 for release in releases if release}
        for releases in ([one.old for one in changes], [one.new for one in changes])
    ]
    old, new = (_read_traits(bundle, sums) for bundle, sums in zip(bundles, wanted, strict=True))
    nothing = WheelTraits(frozenset(), frozenset(), frozenset())
    for one in sorted(changes, key=repr):
        before = old.get(one.old.sha256, nothing) if one.old else nothing
        after = new.get(one.new.sha256, nothing) if one.new else nothing
        version = one.new.version if one.new else ""
        if after.native_files and not before.native_files:
            yield warning(
                "new-native-code",
                one.name,
                "{subject} {version} brings native code, which it did not before.",
                "Look at it more closely than at Python that can be read.",
                version=version,
            )
        if more := sorted(after.commands - before.commands):
            yield note(
                "new-command", one.name, "{subject} {version} brings new commands: {more}.", version=version, more=more
            )
        if more := sorted(after.startup_files - before.startup_files):
            yield warning(
                "new-startup",
                one.name,
                "{subject} {version} brings {more}, which runs at every start of Python.",
                "Read it before you say yes.",
                version=version,
                more=more,
            )


def _read_traits(bundle: Bundle, sums: Collection[str]) -> dict[str, WheelTraits]:
    """sha256 -> what that wheel brings."""
    wanted = {one.path for one in bundle.manifest.files if one.sha256 in sums and one.path.endswith(".whl")}
    if not wanted:
        return {}
    return {file.sha256: collect_traits(wheel) for file, wheel in bundle.read_wheels(wanted)}
