"""Merge bundles of one application, built for different targets, into one bundle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from offlinepack.bundle.documents import read_public_urls
from offlinepack.bundle.layout import PROVENANCE, Member, make_member, make_pylock_name
from offlinepack.bundle.reader import Bundle
from offlinepack.bundle.writer import complete_bundle
from offlinepack.errors import Finding, IntegrityError, Text, UsageError, error, text
from offlinepack.ontarget.manifest import TOOLS, WHEELS, File, Manifest, TargetPlan
from offlinepack.targets.model import Target


def merge_bundles(
    bundles: Sequence[Bundle], describe: Callable[[Manifest], Mapping[str, bytes]] | None = None
) -> tuple[Manifest, Iterator[Member]]:
    """One bundle of several that are called the same: all their targets, each file once; for `write`.

    Signatures, SBOM and rehearsal are not taken over: what they speak of is another bundle; `describe` makes documents
    of the joined manifest. Where two tell a file's story otherwise, the first is kept. UsageError where bundles do not
    belong together: another name, version, place, sequence; two plans for a target; two contents for a path.
    """
    first = bundles[0].manifest
    bad: list[Finding] = []
    targets: dict[str, TargetPlan] = {}
    found: dict[str, tuple[File, Bundle]] = {}
    urls: dict[str, str] = {}
    in_wheels = {one.file.rpartition("/")[2] for each in bundles for t in each.manifest.targets for one in t.install}
    for each in bundles:
        for key in ("name", "version", "sequence", "install_to"):
            if getattr(each.manifest, key) != getattr(first, key):
                values = {"found": getattr(each.manifest, key), "expected": getattr(first, key)}
                bad.append(
                    _make_mismatch_finding(each.path, text("its {key} is {found}, not {expected}", key=key, **values))
                )
        for target in each.manifest.targets:
            tools = [one._replace(file=_resolve_tool_path(one.file, in_wheels)) for one in target.tools]
            target = target._replace(tools=tuple(tools))
            if targets.setdefault(target.tag, target) != target:
                bad.append(
                    _make_mismatch_finding(each.path, text("it has another plan for the target {tag}", tag=target.tag))
                )
        for file in each.manifest.files:
            if file.kind in ("code", "document") and not file.path.startswith(PROVENANCE):
                continue
            if _resolve_tool_path(file.path, in_wheels) != file.path:
                continue
            # bytecode of two patch releases of one Python may differ, and what an index says changes; either will do
            kept = found.setdefault(file.path, (file, each))[0]
            if kept != file and file.kind not in ("bytecode", "document"):
                bad.append(_make_mismatch_finding(each.path, text("it has another {file}", file=file.path)))
        urls.update(read_public_urls(dict(_read_locks(each)), each.manifest))
    if bad:
        raise UsageError(*bad)
    ordered = sorted(targets.values(), key=lambda one: Target(one.name, one.facts).sort_key)
    members = [Member(file, _BundleContent(each)) for file, each in found.values()]
    draft = first._replace(targets=tuple(ordered), files=())
    if describe:
        held = sorted((file for file, _ in found.values()), key=lambda one: one.path)
        members += [make_member(path, data) for path, data in describe(draft._replace(files=tuple(held))).items()]
    manifest, whole = complete_bundle(draft, members, urls)
    return manifest, _stream_members(whole)


def _make_mismatch_finding(path: Path, why: Text) -> Finding:
    return error("not-joined", path, "{subject} does not belong together with the first bundle: {why}.", why=why)


def _resolve_tool_path(path: str, in_wheels: Collection[str]) -> str:
    """Where a tool lies that is installed as well."""
    name = path.rpartition("/")[2]
    return f"{WHEELS}/{name}" if path.startswith(TOOLS) and name in in_wheels else path


def _read_locks(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    names = {make_pylock_name(target.tag) for target in bundle.manifest.targets}
    for member in bundle.read_members():
        if member.file.path in names:
            yield member.file.path, member.read()
            names.discard(member.file.path)
        if not names:
            return


class _BundleContent:
    """Content that another bundle has; it comes when that one is read."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("it has to be taken from its bundle")


def _stream_members(members: Iterable[Member]) -> Iterator[Member]:
    """The same members; each bundle that they come from is read once, from its beginning to its end."""
    streams: dict[int, Iterator[Member]] = {}
    for member in members:
        if isinstance(member.content, _BundleContent):
            bundle = member.content.bundle
            stream = streams.setdefault(id(bundle), bundle.read_members())
            found = next((one for one in stream if one.file == member.file), None)
            if not found:
                raise IntegrityError(
                    error(
                        "other-order",
                        bundle.path,
                        "{subject} cannot be joined as it is: its files are not in the usual order.",
                        "Unpack it and name its folder.",
                    )
                )
            member = Member(member.file, found.content)
        yield member
    for stream in streams.values():
        for _ in stream:
            pass
