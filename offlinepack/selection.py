"""Select for each locked package the file to install on a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockSelectError,
)
from packaging.utils import NormalizedName, parse_wheel_filename
from packaging.version import Version

from offlinepack.errors import Finding, IntegrityError, SelectionError, error, note, text, warning
from offlinepack.net.urls import redact_text
from offlinepack.requirements.model import RequirementLine, Requirements

if TYPE_CHECKING:
    from offlinepack.targets.model import Target


LockedFile: TypeAlias = "PackageWheel | PackageSdist | PackageArchive | PackageDirectory | PackageVcs"


@dataclass(frozen=True)
class SelectedFile:
    """One locked package with the file that the target takes."""

    name: NormalizedName
    version: Version | None
    """None where only a build tells it: a folder, a commit"""
    package: Package
    file: LockedFile

    @property
    def is_wheel(self) -> bool:
        """A wheel that is ready to be fetched; everything else has to be built."""
        return self.filename.endswith(".whl")

    @property
    def filename(self) -> str:
        """The file's own name; '' for a folder or a commit."""
        if isinstance(self.file, (PackageWheel, PackageSdist)):
            return self.file.filename
        if isinstance(self.file, PackageArchive):
            return PackageSdist(url=self.file.url, path=self.file.path, hashes=self.file.hashes).filename
        return ""

    @property
    def url(self) -> str | None:
        """Where it is fetched from, as the lock has it; it may hold a secret."""
        return None if isinstance(self.file, PackageDirectory) else self.file.url

    @property
    def path(self) -> str | None:
        """Where it lies on this machine, for a lock that names files."""
        return self.file.path

    @property
    def hashes(self) -> dict[str, str]:
        """Algorithm -> hex digits; empty for a folder or a commit."""
        return {} if isinstance(self.file, (PackageDirectory, PackageVcs)) else dict(self.file.hashes)

    @property
    def sha256(self) -> str | None:
        """64 hex digits, where the lock has them."""
        return self.hashes.get("sha256")

    @property
    def size(self) -> int | None:
        """Bytes, where the lock says."""
        return None if isinstance(self.file, (PackageDirectory, PackageVcs)) else self.file.size


@dataclass(frozen=True)
class Selection:
    """For one target: each package that holds there, with its file; sorted by name."""

    target: Target
    files: tuple[SelectedFile, ...]
    findings: tuple[Finding, ...] = ()
    """warnings and notes: yanked releases, older versions taken because they have a wheel"""


def select_files(pylock: Pylock, target: Target, requirements: Requirements) -> Selection:
    """Choose each package's file as pip would on the target; SelectionError with all gaps, IntegrityError with all
    packages of which no file has a hash that was asked for."""
    chosen: list[SelectedFile] = []
    gaps: list[Finding] = []
    altered: list[Finding] = []
    findings: list[Finding] = []
    by_filename: dict[str, Package] = {}
    for package in sorted(
        pylock.packages, key=lambda package: (package.name, str(package.version), str(package.marker))
    ):
        if package.marker and not target.evaluate(
            package.marker, extras=requirements.extras, groups=_get_groups(pylock, requirements)
        ):
            continue
        if package.name in by_filename:
            gaps.append(_report_duplicate(package, by_filename[package.name], target))
            continue
        by_filename[package.name] = package
        offered, differing = _filter_by_hash(package, requirements)
        if differing:
            altered.append(differing)
            continue
        offered = _filter_by_format(offered, requirements)
        file = _select_file(offered, target, requirements)
        if isinstance(file, Finding):
            gaps.append(file)
            continue
        chosen.append(SelectedFile(package.name, package.version or _parse_version(file), package, file))
        findings += _report_remarks(package, target)
    if gaps:
        raise SelectionError(*gaps, *altered)
    if altered:
        raise IntegrityError(*altered)
    return Selection(target, tuple(chosen), tuple(findings))


def _get_groups(pylock: Pylock, requirements: Requirements) -> Sequence[str]:
    return requirements.groups if requirements.groups is not None else tuple(pylock.default_groups or ())


def _report_duplicate(package: Package, other: Package, target: Target) -> Finding:
    return error(
        "locked-twice",
        package.name,
        "The lock has {subject} {one} and {other} for {target}, and only one can be installed.",
        "Make the lock again; the two entries need markers that exclude each other.",
        one=other.version,
        other=package.version,
        target=target.name,
    )


def _filter_by_hash(package: Package, requirements: Requirements) -> tuple[Package, Finding | None]:
    """Keep the files with a required hash; if there are none, return what was required and what exists."""
    hashed_lines = [line for line in requirements.requirements if line.name == package.name and line.hashes]
    if not hashed_lines or package.is_direct:
        return package, _check_archive_hash(package, hashed_lines)
    accepted = {value.lower() for line in hashed_lines for value in line.hashes}

    def is_asked(file: PackageWheel | PackageSdist) -> bool:
        # a hash of an algorithm that the index does not name is compared when the file is here
        common = set(file.hashes) & {value.split(":")[0] for value in accepted}
        return not common or any(f"{name}:{digest}".lower() in accepted for name, digest in file.hashes.items())

    wheels = [wheel for wheel in package.wheels or () if is_asked(wheel)]
    sdist = package.sdist if package.sdist and is_asked(package.sdist) else None
    if not wheels and not sdist:
        files: list[PackageWheel | PackageSdist] = [*(package.wheels or ()), *filter(None, [package.sdist])]
        return package, error(
            "hash-not-asked",
            package.name,
            "{subject} {version}: no file of the index has a hash that {origins} asks for; it has {files}.",
            "If the index is right, correct the hashes; if the file was changed on its way, find out by whom.",
            version=package.version,
            origins=[line.origin for line in hashed_lines],
            files=[f"{file.filename} sha256:{file.hashes.get('sha256', '?')}" for file in files[:4]],
        )
    return dataclasses.replace(package, wheels=wheels or None, sdist=sdist), None


def _check_archive_hash(package: Package, lines: Iterable[RequirementLine]) -> Finding | None:
    if not package.archive:
        return None
    for line in lines:
        accepted = {value.lower() for value in line.hashes}
        has = {f"{name}:{digest}".lower() for name, digest in package.archive.hashes.items()}
        if {value.split(":")[0] for value in accepted} & {value.split(":")[0] for value in has} and not accepted & has:
            return error(
                "hash-not-asked-of-address",
                package.name,
                "{subject}: the file at {url} has {has}, and {origin} asks for {wanted}.",
                "If the file is right, correct the hash; if it was changed on its way, find out by whom.",
                url=redact_text(package.archive.url or package.archive.path or ""),
                has=sorted(has),
                origin=line.origin,
                wanted=sorted(accepted),
            )
    return None


def _filter_by_format(package: Package, requirements: Requirements) -> Package:
    """Remove what --only-binary and --no-binary exclude; sort wheels in pip's order: the first of a rank wins."""
    if package.is_direct:
        return package
    # pip: of wheels with the same tags the one with the highest build tag
    wheels = sorted(package.wheels or (), key=lambda wheel: _parse_build_tag(wheel.filename), reverse=True)
    return dataclasses.replace(
        package,
        wheels=wheels if requirements.policy.format_control.allows_wheel(package.name) else None,
        sdist=package.sdist if requirements.policy.format_control.allows_source(package.name) else None,
    )


def _parse_build_tag(filename: str) -> tuple[tuple[()] | tuple[int, str], str]:
    return parse_wheel_filename(filename)[2], filename


def _select_file(package: Package, target: Target, requirements: Requirements) -> LockedFile | Finding:
    """Select the file of one package with packaging's own selection, or report that it has none."""
    archive = package.archive
    if archive:
        name = SelectedFile(package.name, package.version, package, archive).filename
        if name.endswith(".whl") and target.rank_wheel(name) is None:
            return _report_missing_file(package, [name], target, requirements)
        return archive
    if direct := package.vcs or package.directory:
        return direct
    if not package.wheels and not package.sdist:
        return _report_missing_file(package, [], target, requirements)
    alone = Pylock(
        lock_version=Version("1.0"),
        created_by="offlinepack",
        packages=[dataclasses.replace(package, marker=None, requires_python=None)],
    )
    if package.requires_python and not package.requires_python.contains(
        target.environment["python_full_version"], prereleases=True
    ):
        return error(
            "locked-for-other-python",
            package.name,
            "{subject} {version} wants Python {wanted}; {target} has {python}.",
            "Lock a version of {subject} that admits this Python, or drop the target.",
            version=package.version,
            wanted=package.requires_python,
            target=target.name,
            python=target.environment["python_full_version"],
        )
    tags = target.filter_tags(wheel.filename for wheel in package.wheels or ())
    try:
        [(_, file)] = alone.select(environment=target.environment, tags=tags)  # type: ignore[arg-type]
    except PylockSelectError:
        return _report_missing_file(package, [wheel.filename for wheel in package.wheels or ()], target, requirements)
    return file


def _report_missing_file(
    package: Package, filenames: Sequence[str], target: Target, requirements: Requirements
) -> Finding:
    """Report a package without a file for the target: the reason, and what helps."""
    facts: dict[str, Any] = {"version": package.version or "", "target": target.name}
    if not filenames:
        if not (
            requirements.policy.format_control.allows_wheel(package.name)
            and requirements.policy.format_control.allows_source(package.name)
        ):
            return error(
                "only-excluded-files",
                package.name,
                "{subject} {version} has for {target} only files that --only-binary or --no-binary exclude.",
                "Ask for another version, or take {subject} out of --only-binary and --no-binary.",
                **facts,
            )
        return error(
            "no-file",
            package.name,
            "{subject} {version} has no file at all for {target}.",
            "Ask for another version.",
            **facts,
        )
    nearest = target.find_nearest(filenames) or filenames[0]
    return error(
        "no-wheel",
        package.name,
        "{subject} {version} has no wheel for {target}; the nearest is {nearest}, which {why}.",
        "Ask for a version with such a wheel, choose a target that {nearest} fits, or let its source be built.",
        nearest=nearest,
        why=target.explain_mismatch(nearest) or "",
        **facts,
    )


def _parse_version(file: LockedFile) -> Version | None:
    if isinstance(file, PackageWheel):
        return parse_wheel_filename(file.filename)[1]
    if isinstance(file, PackageArchive):
        name = (file.url or file.path or "").rsplit("/", 1)[-1]
        return parse_wheel_filename(name)[1] if name.endswith(".whl") else None
    return None


def _report_remarks(package: Package, target: Target) -> list[Finding]:
    """Report what the resolver recorded about a release in the lock."""
    ours = (package.tool or {}).get("offlinepack", {})
    findings = []
    if "yanked" in ours:
        findings.append(
            warning(
                "yanked",
                package.name,
                "{subject} {version} was withdrawn by its maintainers (yanked): {reason}.",
                "Move to another version when you can.",
                version=package.version,
                reason=ours["yanked"].rstrip(".") or text("no reason given"),
            )
        )
    if "other-index" in ours:
        findings.append(
            warning(
                "other-index",
                package.name,
                "{subject} {version} is from the first index that has it; pip, which merges all, would take {newer} "
                "from {index}.",
                "If that one is meant, name the index of {subject} in [tool.offlinepack.sources].",
                version=package.version,
                newer=ours["other-index"][0],
                index=ours["other-index"][1],
            )
        )
    if "newer-needs" in ours:
        findings.append(
            warning(
                "older-for-want-of",
                package.name,
                "{subject} {version} was taken for {target}; {newer} needs {needs}, of which no file fits there.",
                "If that is too old, have the source of {needs} built: there, by --sdist include, or here, by the "
                "target's own Python (--build-python PY, --root DIR).",
                version=package.version,
                newer=ours["newer-needs"][0],
                needs=ours["newer-needs"][1],
                target=target.name,
            )
        )
    if "newer-without-wheel" in ours:
        findings.append(
            note(
                "older-with-wheel",
                package.name,
                "{subject} {version} was taken for {target}; {newer} has no wheel that fits there.",
                version=package.version,
                newer=ours["newer-without-wheel"],
                target=target.name,
            )
        )
    return findings
