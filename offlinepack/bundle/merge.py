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
    """Merge bundles with the same name into one: all targets, each file once.

    Signatures, SBOM and rehearsal are left out, because they describe another bundle; `describe` makes documents of
    the merged manifest. The first provenance document of a file is kept. Raises UsageError for bundles with another
    name, version, install location or sequence, for two plans of one target and for two contents of one path.
    """
    first = bundles[0].manifest
    bad: list[Finding] = []
    targets: dict[str, TargetPlan] = {}
    contents: dict[str, tuple[File, Bundle]] = {}
    urls: dict[str, str] = {}
    in_wheels = {
        distribution.file.rpartition("/")[2]
        for bundle in bundles
        for t in bundle.manifest.targets
        for distribution in t.install
    }
    for bundle in bundles:
        for key in ("name", "version", "sequence", "install_to"):
            if getattr(bundle.manifest, key) != getattr(first, key):
                values = {"found": getattr(bundle.manifest, key), "expected": getattr(first, key)}
                bad.append(
                    _make_mismatch_finding(bundle.path, text("its {key} is {found}, not {expected}", key=key, **values))
                )
        for target in bundle.manifest.targets:
            tools = [tool._replace(file=_resolve_tool_path(tool.file, in_wheels)) for tool in target.tools]
            target = target._replace(tools=tuple(tools))
            if targets.setdefault(target.tag, target) != target:
                bad.append(
                    _make_mismatch_finding(
                        bundle.path, text("it has another plan for the target {tag}", tag=target.tag)
                    )
                )
        for file in bundle.manifest.files:
            if file.kind in ("code", "document") and not file.path.startswith(PROVENANCE):
                continue
            if _resolve_tool_path(file.path, in_wheels) != file.path:
                continue
            # bytecode of two patch releases of one Python may differ, and so may the answers of an index
            first_file = contents.setdefault(file.path, (file, bundle))[0]
            if first_file != file and file.kind not in ("bytecode", "document"):
                bad.append(_make_mismatch_finding(bundle.path, text("it has another {file}", file=file.path)))
        urls.update(read_public_urls(dict(_read_locks(bundle)), bundle.manifest))
    if bad:
        raise UsageError(*bad)
    ordered = sorted(targets.values(), key=lambda target: Target(target.name, target.facts).sort_key)
    members = [Member(file, _BundleContent(bundle)) for file, bundle in contents.values()]
    draft = first._replace(targets=tuple(ordered), files=())
    if describe:
        files = sorted((file for file, _ in contents.values()), key=lambda file: file.path)
        members += [make_member(path, data) for path, data in describe(draft._replace(files=tuple(files))).items()]
    manifest, whole = complete_bundle(draft, members, urls)
    return manifest, _stream_members(whole)


def _make_mismatch_finding(path: Path, reason: Text) -> Finding:
    return error("not-joined", path, "{subject} does not belong together with the first bundle: {why}.", why=reason)


def _resolve_tool_path(path: str, in_wheels: Collection[str]) -> str:
    """Return the path of a tool, which is in wheels/ if a target installs it as well."""
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
    """Stand for content that is read from another bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("it has to be taken from its bundle")


def _stream_members(members: Iterable[Member]) -> Iterator[Member]:
    """Yield the members; read each source bundle once, from its beginning to its end."""
    streams: dict[int, Iterator[Member]] = {}
    for member in members:
        if isinstance(member.content, _BundleContent):
            bundle = member.content.bundle
            stream = streams.setdefault(id(bundle), bundle.read_members())
            source = next((candidate for candidate in stream if candidate.file == member.file), None)
            if not source:
                raise IntegrityError(
                    error(
                        "other-order",
                        bundle.path,
                        "{subject} cannot be joined as it is: its files are not in the usual order.",
                        "Unpack it and name its folder.",
                    )
                )
            member = Member(member.file, source.content)
        yield member
    for stream in streams.values():
        for _ in stream:
            pass
