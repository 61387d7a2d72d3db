"""Read a wheel strictly (binary distribution format): return its contents, or every reason why it is refused."""

import csv
import os
import re
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from .archive import ArchiveError, RefuseCallback, ZipArchive, ZipEntry, unpack_entry
from .destinations import iter_destinations, overwrites_environment
from .errors import Finding, IntegrityError, Text, error, note, text
from .paths import fold_path
from .wheel_model import SCHEMES, CheckedWheel, WheelMember, is_same_version, normalize_name

_HASH_LENGTHS = {"sha256": 43, "sha384": 64, "sha512": 86}  # and the length of each in base64 without padding
_MAX_REASONS = 20  # reasons for one wheel
_MAX_INFO_SIZE = 8 << 20  # bytes of a file in .dist-info that is read into memory
_MAX_ROW_SIZE = 2400  # bytes of RECORD for each file
_ADVICE = "Do not install it. Ask where it comes from, or take another file or version of this project."
_BUILD_ADVICE = (
    "Do not install it. Take another version of this project, or have it built from its source (--no-binary).")
_OBJECT_REFERENCE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*\s*:\s*[^\W\d]\w*(?:\.[^\W\d]\w*)*\s*(?:\[[^\]]*\])?\Z")
_COMMAND_NAME = re.compile(r'[^\s\[/\\:*?"<>|=\ufffd][^\s/\\:*?"<>|=\ufffd]{,200}\Z')


def read_wheel(path, filename=None, sha256=None):  # type: (Any, Optional[str], Optional[str]) -> CheckedWheel
    """Return the checked wheel of a file with this hash, or raise IntegrityError with every reason."""
    bad, wheel = [], None  # type: List[Tuple[str, Text]], Optional[CheckedWheel]
    filename = filename or os.path.basename(str(path))
    with open(str(path), "rb", buffering=0) as source:
        archive = ZipArchive(source)

        def refuse(code, reason):  # type: (str, Text) -> None
            bad.append((code, reason))
            if len(bad) == _MAX_REASONS:
                raise ArchiveError(code, reason)

        try:
            wheel = _parse_wheel(archive, str(path), filename, refuse)
        except ArchiveError as failure:
            bad.append((failure.args[0], failure.args[1]))
        if sha256 and archive.compute_sha256() != sha256:
            bad = [("hash", text("its bytes are not those that were packed"))]
    if bad or wheel is None:
        raise IntegrityError(*[error(
            "wheel-" + code, filename, "{subject}: {why}.", _BUILD_ADVICE if code == "record" else _ADVICE, why=reason)
            for code, reason in bad])
    return wheel


def check_contents(wheel):  # type: (CheckedWheel) -> List[Finding]
    """Unpack every member in memory and return those that differ from RECORD."""
    findings = []  # type: List[Finding]
    with open(wheel.path, "rb", buffering=0) as source:
        for member in wheel.members:
            try:
                for _ in unpack_entry(source, member, member.digest):
                    pass
            except ArchiveError as failure:
                findings.append(make_contents_finding(wheel, failure.args[1]))
    return findings[:_MAX_REASONS]


def make_contents_finding(wheel, reason):  # type: (CheckedWheel, Text) -> Finding
    """Make the finding about a member that differs from RECORD."""
    return error("wheel-contents", wheel.filename, "{subject}: {why}.", _ADVICE, why=reason)


def _parse_wheel(archive, path, filename, refuse):  # type: (ZipArchive, str, str, RefuseCallback) -> CheckedWheel
    # {distribution}-{version}(-{build tag})?-{python tag}-{abi tag}-{platform tag}.whl
    parts = filename[:-4].split("-")
    if not filename.endswith(".whl") or len(parts) not in (5, 6) or (len(parts) == 6 and not parts[2][:1].isdigit()):
        raise ArchiveError("metadata", text("its file name is not that of a wheel"))
    files = archive.read_entries(refuse)
    tops = {name.partition("/")[0] for name in files if "/" in name}
    infos = sorted(top for top in tops if top.lower().endswith(".dist-info"))
    if [info[-10:] for info in infos] != [".dist-info"]:
        reason = text("it has to have one .dist-info folder, and has: {found}", found=infos or "-")
        raise ArchiveError("metadata", reason)
    info, content = infos[0], {}  # type: str, Dict[str, bytes]
    for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt"):
        entry = files.get("%s/%s" % (info, name))
        most = _MAX_ROW_SIZE * (len(files) + 20) if name == "RECORD" else _MAX_INFO_SIZE
        if entry is not None and max(entry.size, entry.packed_size) <= most:
            archive.read_exactly(entry.offset, entry.packed_size)  # compared with the hashed bytes at the end
            content[name] = b"".join(unpack_entry(archive.source, entry))
        elif entry is not None or name != "entry_points.txt":
            raise ArchiveError("metadata", text("{member} is missing, or too large", member="%s/%s" % (info, name)))
    distribution, version = (_read_field(content["METADATA"], key, refuse) for key in ("Name", "Version"))
    for identity in (info[:-10].rpartition("-")[::2], (distribution, version)):
        if normalize_name(identity[0]) != normalize_name(parts[0]) or not is_same_version(identity[1], parts[1]):
            refuse("metadata", text("it says it is {found}, its file name {wanted}", found=identity, wanted=parts[:2]))
    # A wheel installer should warn if Wheel-Version is greater than the version it supports, and must fail if
    # Wheel-Version has a greater major version than the version it supports.
    form = _read_field(content["WHEEL"], "Wheel-Version", refuse)
    if not re.match(r"1\.[0-9]+\Z", form):
        refuse("metadata", text("its Wheel-Version is {found}; only 1.x is known", found=form))
    root = "purelib" if _read_field(content["WHEEL"], "Root-Is-Purelib", refuse).lower() == "true" else "platlib"
    windows, members = parts[-1].startswith("win"), []
    digests = _check_record(content["RECORD"], info, files, archive.folders, windows, refuse)
    for entry in files.values():
        scheme, relative, top = root, entry.name, entry.name.partition("/")[0]
        if top.endswith(".data") and top in tops:
            scheme, _, relative = relative[len(top) + 1 :].partition("/")
            if scheme not in SCHEMES or not relative or normalize_name(top[:-5]) != normalize_name(info[:-10]):
                refuse("name", text("{member} belongs to none of the places of a wheel", member=entry.name))
        members.append(WheelMember(*entry, scheme=scheme, path=relative, digest=digests.get(entry.name, "")))
    three = [part.split(".") for part in parts[-3:]]
    wheel = CheckedWheel(
        path=path, filename=filename, name=normalize_name(distribution), version=version, dist_info=info,
        tags=tuple("-".join((a, b, c)) for a in three[0] for b in three[1] for c in three[2]), members=tuple(members),
        size=sum(member.size for member in members), metadata=content["METADATA"], record=content["RECORD"],
        scripts=tuple(_parse_scripts(content.get("entry_points.txt", b""), refuse)),
        notes=tuple(_find_startup_files(members, filename)))
    # In site-packages the top folder decides. Other places are checked file by file, also for duplicates.
    for top in tops.union(name for name in files if "/" not in name):
        if overwrites_environment("site/%s/" % top, wheel):
            refuse("overwrites", text("{member} would write over a part of the environment itself", member=top))
    if wheel.scripts or any(top.endswith(".data") for top in tops):
        places = set()  # type: Set[str]
        for place, member, _ in iter_destinations(wheel):
            if overwrites_environment(place, wheel):
                refuse("overwrites", text("{member} would write over a part of the environment itself", member=member))
            if fold_path(place) in places:
                refuse("overwrites", text("{member} would write over another file of the same wheel", member=member))
            places.add(fold_path(place))
    return wheel


def _read_field(data, key, refuse):  # type: (bytes, str, RefuseCallback) -> str
    # a mail parser ends the headers at the first line that is not a header, and ends lines at a carriage return too
    header = re.findall(rb"\A(?:(?:[!-9;-~]*:|[ \t])[^\n]*\n?)*", data)[0]
    field = r"(?:^|\r)%s[ \t]*:[ \t]*(.*?)[ \t\r]*$(\n[ \t])?" % key
    values = re.findall(field.encode("ascii"), header, re.I | re.M)
    if len(values) > 1 or any(more for _, more in values) or (not values and key != "Root-Is-Purelib"):
        refuse("metadata", text("{key} has to be given once", key=key))
    return values[0][0].decode("utf-8", "replace") if values else ""


def _check_record(data, info, files, folders, windows, refuse):
    # type: (bytes, str, Dict[str, ZipEntry], Set[str], bool, RefuseCallback) -> Dict[str, str]
    """Check that RECORD lists every file and nothing else; return name -> hash."""
    unsigned = ["%s/RECORD%s" % (info, end) for end in ("", ".jws", ".p7s")]
    listed = {}  # type: Dict[str, List[str]]
    try:
        for row in filter(None, csv.reader(data.decode("utf-8").splitlines())):
            # some builders on Windows write the paths in RECORD with backslashes
            name = row[0].replace("\\", "/") if windows and row[0] not in files else row[0]
            if len(row) != 3 or listed.setdefault(name, row) != row:
                refuse("record", text("RECORD says of {member} two things, or not three fields", member=row[0]))
            # some builders list the folders too; pip accepts that
            if name not in files and (name[-1:] != "/" or name[:-1].lower() not in folders):
                refuse("record", text("RECORD lists {member}, which is not there", member=row[0]))
    except (ValueError, csv.Error):
        raise ArchiveError("record", text("RECORD cannot be read"))
    digests = {}  # type: Dict[str, str]
    for name, row in listed.items():
        kind, _, value = row[1].partition("=") if len(row) == 3 else ("", "", "")
        value = value.rstrip("=")
        if name not in files or name in unsigned or len(row) != 3:
            continue
        # RECORD is a list of (almost) all the files in the wheel and their secure hashes; sha256 or better.
        elif _HASH_LENGTHS.get(kind) != len(value):
            refuse("record", text("RECORD gives no hash of {member}, or one that is too weak", member=name))
        elif row[2] and row[2] != str(files[name].size):
            refuse("record", text("RECORD gives another size for {member}", member=name))
        else:
            digests[name] = "%s=%s" % (kind, value)
    for name in files:
        if name not in listed and name not in unsigned:
            refuse("record", text("RECORD does not list {member}", member=name))
    return digests


def _parse_scripts(data, refuse):  # type: (bytes, RefuseCallback) -> Iterator[Tuple[str, str, bool]]
    """Yield command, object, graphical for each line `name = module:object [extras]` of the two sections of scripts."""
    section, visited = "", set()  # type: str, Set[str]
    for line in data.decode("utf-8", "replace").splitlines():
        line = line.strip()
        if line.startswith("["):
            section, letters = line, re.sub("[^a-z_]", "", line.lower())
            # parsers disagree about other spellings, repeated sections, and DEFAULT, which applies to all sections
            is_script = letters in ("console_scripts", "gui_scripts", "default")
            if is_script and (line != "[%s]" % letters or line in visited):
                refuse("entry-point", text("its section {line} is read in more than one way", line=line[:200]))
            visited.add(line)
        elif line and line[0] not in "#;" and section in ("[console_scripts]", "[gui_scripts]"):
            command, _, reference = (part.strip() for part in line.partition("="))
            plain = _COMMAND_NAME.match(command) and command.isprintable() and command not in (".", "..")
            if not plain or not _OBJECT_REFERENCE.match(reference):
                refuse("entry-point", text("its entry point {line} is no command with its object", line=line[:200]))
            yield command, reference, section == "[gui_scripts]"


def _find_startup_files(members, filename):  # type: (Iterable[WheelMember], str) -> Iterator[Finding]
    for member in members:
        path, top = member.path.lower(), member.scheme.endswith("lib") and "/" not in member.path
        if top and (path.endswith(".pth") or path in ("sitecustomize.py", "usercustomize.py")):
            yield note("wheel-startup", filename, "{subject}: {file} runs at every start of Python.", file=member.path)
