"""Verify the folder of a bundle against its manifest, file by file; follow no link and write nothing."""

import hashlib
import os
import stat
import unicodedata
from array import array
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from .destinations import compute_path_keys, find_clashes
from .errors import BundleError, Finding, IntegrityError, error, warning
from .manifest import MANIFEST, SIGNATURES, SUMS, TOOLS, WHEELS, File, Manifest, format_sums, hash_file, read_manifest
from .wheel import check_contents, read_wheel
from .wheel_model import CheckedWheel, is_same_version, normalize_name

_COPY_AGAIN = "Copy the bundle again from where it was made."
_NO_MANIFEST = "{subject} is no bundle: it has no manifest.json."
_WRONG_SIZE = "{subject} has {found} bytes instead of {expected}: cut off, or altered."
_ALTERED = "{subject} is not as it was packed: altered."
_OTHER_WHEEL = "{subject} holds {found}; the manifest plans it as {planned}."
_BUNDLE_TOO_LARGE = "{subject}: with it the bundle would unpack to more than an honest one of its size does."
_NOT_SMALL_FILE = "{subject} is a link or another special file, or far too large."
_OTHER_RECORD = "{subject}: the RECORD of the wheel differs from the manifest."
MAX_SIGNATURE_SIZE = 64 << 10  # bytes
_MAX_PATH_KEYS = 20000000  # of all plans together that are compared
_PLANS_TOO_LARGE = "{subject}: with it the plans of this bundle are larger than honest ones are."
_MAX_FINDINGS = 50  # findings about names: a wrong folder would give thousands
PathKeys = Tuple[Sequence[int], Sequence[int], bool]  # the result of compute_path_keys


class CheckedFile(NamedTuple):
    """The result for one file of the bundle or, at the end, for the whole bundle."""
    file: Optional[File]  # None: the whole bundle
    wheel: Optional[CheckedWheel]  # None: not a wheel, or refused
    findings: Tuple[Finding, ...]


class UnpackBudget:
    """The size to which all wheels of a bundle together may unpack; each wheel has its own limit too."""

    def __init__(self, manifest):  # type: (Manifest) -> None
        self.remaining_bytes = (1 << 30) + 100 * sum(file.size for file in manifest.files)

    def admit(self, wheel):  # type: (CheckedWheel) -> List[Finding]
        """Count a wheel; return a finding if the limit is exceeded."""
        self.remaining_bytes -= wheel.size
        too_large = self.remaining_bytes < 0
        return [error("wheel-bomb", wheel.filename, _BUNDLE_TOO_LARGE, _COPY_AGAIN)] if too_large else []


def read_folder_manifest(folder):  # type: (Any) -> Manifest
    """Read the manifest of an unpacked bundle, or raise BundleError."""
    path = os.path.join(str(folder), MANIFEST)
    if os.path.isfile(str(folder)):
        raise BundleError(error(
            "not-unpacked", folder, "{subject} is a file; here an unpacked bundle is read.", "tar xzf {subject}"))
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(path)
        return read_manifest(path)
    except OSError:
        raise BundleError(error("not-a-bundle", folder, _NO_MANIFEST, _COPY_AGAIN))


def must_be_wheel(file):  # type: (File) -> bool
    """Check whether a file must be a wheel: to install, a tool, or compiled code."""
    return file.kind in ("wheel", "tool", "bytecode") or file.path.startswith((WHEELS + "/", TOOLS + "/"))


def check_record(file, wheel):  # type: (File, CheckedWheel) -> List[Finding]
    """Compare the RECORD of a wheel with the manifest."""
    if file.record_sha256 in (None, hashlib.sha256(wheel.record).hexdigest()):
        return []
    return [error("record-differs", file.path, _OTHER_RECORD, _COPY_AGAIN)]


def read_small_file(path, most=MAX_SIGNATURE_SIZE):  # type: (str, int) -> bytes
    """Read a signature in the bundle, or raise IntegrityError if it is not a regular file of at most this size."""
    facts = os.lstat(path)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
        raise IntegrityError(error("not-a-file", path, _NOT_SMALL_FILE, _COPY_AGAIN))
    with open(path, "rb") as source:
        return source.read(most)


def pack_path_keys(wheel):  # type: (CheckedWheel) -> PathKeys
    """Return the path keys of a wheel in 8 bytes each, because every target uses them."""
    files, parents, strange = compute_path_keys(wheel)
    return array("q", files), array("q", parents), strange


def check_plans(manifest, identities, places, wheel_at):
    # type: (Manifest, Mapping[str, Tuple[str, str]], Mapping[str, PathKeys], Callable[[str], CheckedWheel]) -> List[Finding]
    """Return the findings about the targets' plans: other wheels than planned, and wheels that write the same file."""
    findings, visited, remaining_keys = [], set(), _MAX_PATH_KEYS  # type: List[Finding], Set[Any], int
    for target in manifest.targets:
        first, folders, suspects = {}, {}, set()  # type: Dict[int, str], Dict[int, str], Set[str]
        # the tools that build sdists are never in the same environment as the rest
        apart = {tool.file for tool in target.tools if tool.name != "pip"} - {step.file for step in target.install}
        plan = frozenset((step.file, step.name, step.version) for step in target.tools + target.install)
        if (plan, target.facts.os) in visited:
            continue
        visited.add((plan, target.facts.os))
        for step in sorted(plan):
            identity = name, version = identities.get(step[0], step[1:])
            if normalize_name(step[1]) != name or not is_same_version(step[2], version):
                findings.append(error(
                    "wheel-other", step[0], _OTHER_WHEEL, _COPY_AGAIN, found=identity, planned=step[1:]))
            files, parents, strange = places.get(step[0] if step[0] not in apart else "", ((), (), False))
            remaining_keys -= len(files) + len(parents)
            if remaining_keys < 0:
                return findings[:_MAX_FINDINGS] + [error("plan-bomb", target.tag, _PLANS_TOO_LARGE, _COPY_AGAIN)]
            suspects.update([step[0]] if strange and target.facts.os == "windows" else ())
            pairs = ((files, first), (files, folders), (parents, first))
            met = [owners[key] for these, owners in pairs for key in these if key in owners]
            suspects.update(met, step[:1] if met else ())
            first.update((key, step[0]) for key in files)
            folders.update((key, step[0]) for key in parents)
        clashes = find_clashes(map(wheel_at, sorted(suspects)), target.facts.os)
        findings += [clash for clash in clashes if clash not in findings]
    return findings


def check_folder(folder, manifest, contents=False):  # type: (Any, Manifest, bool) -> Iterator[CheckedFile]
    """Yield the result for each file, the largest first, then for the bundle. `contents`: unpack wheels in memory."""
    root, identities, places = str(folder), {}, {}  # type: str, Dict[str, Tuple[str, str]], Dict[str, PathKeys]
    findings = list(islice(check_names(root, manifest), _MAX_FINDINGS))
    files = sorted(manifest.files, key=lambda file: -file.size)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        bound = UnpackBudget(manifest)
        for checked in pool.map(lambda file: _check_file(root, file, contents, bound), files):
            if checked.wheel and checked.file:
                identities[checked.file.path] = checked.wheel.name, checked.wheel.version
                places[checked.file.path] = pack_path_keys(checked.wheel)
            yield checked
    findings += check_plans(manifest, identities, places, lambda path: read_wheel(os.path.join(root, path)))
    yield CheckedFile(None, None, tuple(findings))


def check_names(root, manifest):  # type: (str, Manifest) -> Iterator[Finding]
    """Yield the files that are not listed, missing or not regular; compare SHA256SUMS with the manifest."""
    files = {file.path: file for file in manifest.files}
    expected, ordered = set(files).union((MANIFEST,)), sorted(files)
    inodes = {}  # type: Dict[Tuple[int, int], Tuple[int, List[str]]]
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        for entry in os.scandir(os.path.join(root, parent)):
            path = "/".join([parent, entry.name] if parent else [entry.name])
            facts = entry.stat(follow_symlinks=False)
            if path not in files and not is_parent_folder(ordered, path):
                path = get_listed_path(root, path)
            special = getattr(facts, "st_file_attributes", 0) & 0x400  # Windows: a junction or its like
            if stat.S_ISDIR(facts.st_mode) and not special and is_parent_folder(ordered, path):
                waiting.append(path)
            elif path not in expected and path not in SIGNATURES:
                yield error("not-listed", path, "{subject} is not part of this bundle.", "Remove it, or copy again.")
            elif not stat.S_ISREG(facts.st_mode) or special or facts.st_mode & 0o6000:
                yield error("not-a-file", path, "{subject} is a link or another special file.", _COPY_AGAIN)
            else:
                expected.discard(path)
                if facts.st_nlink > 1:
                    inodes.setdefault((facts.st_dev, facts.st_ino), (facts.st_nlink, []))[1].append(path)
    for path in sorted(expected):
        yield error("file-missing", path, "{subject} is missing.", _COPY_AGAIN)
    for links, paths in inodes.values():
        if links > len(paths):
            yield warning("hard-link", paths[0], "{subject} has another name outside: who changes that changes it too.")
    sums = format_sums(manifest.files)
    if SUMS not in files or hashlib.sha256(sums).hexdigest() != files[SUMS].sha256:
        yield error("sums-differ", SUMS, "{subject} does not list what the manifest lists.", _COPY_AGAIN)


def is_parent_folder(ordered, path):  # type: (Sequence[str], str) -> bool
    """Check whether this is a folder of one of the paths, which are sorted."""
    at = bisect_left(ordered, path + "/")
    return at < len(ordered) and ordered[at].startswith(path + "/")


def get_listed_path(root, path):  # type: (str, str) -> str
    """Return the path in normal form C if it leads to the same file: some file systems change the form."""
    normal = unicodedata.normalize("NFC", path)
    try:
        same = os.path.samestat(os.lstat(os.path.join(root, path)), os.lstat(os.path.join(root, normal)))
    except (OSError, ValueError):
        same = False
    return normal if same else path


def _check_file(root, file, contents, bound):  # type: (str, File, bool, UnpackBudget) -> CheckedFile
    path, wheel, findings = os.path.join(root, file.path), None, []  # type: str, Optional[CheckedWheel], List[Finding]
    try:
        facts = os.lstat(path)
        if not stat.S_ISREG(facts.st_mode):
            return CheckedFile(file, None, ())  # check_names reports it
        if facts.st_size != file.size:
            sizes = {"found": facts.st_size, "expected": file.size}  # type: Dict[str, Any]
            findings.append(error("wrong-size", file.path, _WRONG_SIZE, _COPY_AGAIN, **sizes))
        elif must_be_wheel(file) and (contents or file.kind != "bytecode"):
            wheel = read_wheel(path, sha256=file.sha256)
            findings += [*wheel.notes, *check_record(file, wheel)]
            too_large = bound.admit(wheel)
            findings += too_large or (check_contents(wheel) if contents else [])
        elif hash_file(path)[1] != file.sha256:
            findings.append(error("hash-mismatch", file.path, _ALTERED, _COPY_AGAIN))
    except IntegrityError as bad:
        findings += bad.findings
    except FileNotFoundError:
        pass  # check_names reports it
    except OSError as failure:
        reason = failure.strerror
        findings.append(error("unreadable", file.path, "{subject} cannot be read: {why}.", _COPY_AGAIN, why=reason))
    return CheckedFile(file, wheel, tuple(findings))
