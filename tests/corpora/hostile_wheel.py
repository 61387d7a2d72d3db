"""Hostile wheels, which are written byte by byte without a library.

`Zip` is an archive of which every field can have a false value. An attack gets the parts of a valid wheel and returns the
name and the bytes of a file, with the code of the expected finding and a part of its sentence. RECORD matches the files of
the attack, so that the attack is the only fault.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

STEM, INFO = "stone-1.0", "stone-1.0.dist-info"
FILENAME = "stone-1.0-py3-none-any.whl"
FULL = 0xFFFFFFFF


@dataclass(frozen=True)
class Part:
    """One member; `central` and `local` replace fields of its two headers after they were filled in rightly."""

    name: bytes
    data: bytes = b""
    method: int = 8
    flags: int = 0
    mode: int = 0o100644
    central: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    packed: bytes | None = None
    descriptor: bytes = b""
    before: bytes = b""


CENTRAL = [
    "made",
    "need",
    "flags",
    "method",
    "time",
    "date",
    "crc",
    "packed",
    "size",
    "n",
    "e",
    "c",
    "disk",
    "inner",
    "outer",
    "offset",
]
LOCAL = ["need", "flags", "method", "time", "date", "crc", "packed", "size", "n", "e"]


@dataclass(frozen=True)
class Zip:
    """The parts in order, and what stands around them."""

    parts: tuple[Part, ...]
    start: bytes = b""
    middle: bytes = b""
    trailing: bytes = b""
    end: dict[str, int] = field(default_factory=dict)
    comment: bytes = b""
    order: tuple[int, ...] | None = None
    only_local: tuple[int, ...] = ()
    end64: bytes | None = None

    def bytes(self) -> bytes:
        body, directory, entries = bytearray(self.start), bytearray(), []
        for part in self.parts:
            squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = part.packed
            if packed is None:
                packed = squeeze.compress(part.data) + squeeze.flush() if part.method == 8 else part.data
            body += part.before
            facts: dict[str, Any] = {
                "made": 0x31E, "need": 20, "flags": part.flags, "method": part.method, "time": 0, "date": 0x21,
                "crc": zlib.crc32(part.data), "packed": len(packed), "size": len(part.data), "disk": 0, "inner": 0,
                "outer": part.mode << 16, "offset": len(body), "name": part.name, "extra": b"", "comment": b"",
            }  # fmt: skip
            here = {**facts, **({"crc": 0, "packed": 0, "size": 0} if part.flags & 8 else {}), **part.local}
            here = {"n": len(here["name"]), "e": len(here["extra"]), **here}
            body += struct.pack("<4s5H3I2H", here.get("sign", b"PK\3\4"), *(here[one] for one in LOCAL))
            body += here["name"] + here["extra"] + packed + part.descriptor
            there = {**facts, **part.central}
            there = {"n": len(there["name"]), "e": len(there["extra"]), "c": len(there["comment"]), **there}
            sign = there.get("sign", b"PK\1\2")
            entry = struct.pack("<4s6H3I5H2I", sign, *(there[one] for one in CENTRAL))
            entries.append(entry + there["name"] + there["extra"] + there["comment"])
        body += self.middle
        chosen = range(len(entries)) if self.order is None else self.order
        listed = [entries[one] for one in chosen if one not in self.only_local]
        for entry in listed:
            directory += entry
        start = len(body)
        end = {
            "disk": 0,
            "first": 0,
            "here": len(listed),
            "count": len(listed),
            "length": len(directory),
            "start": start,
        }
        end = {**end, "comment": len(self.comment), **self.end}
        body += directory + (self.end64 or b"")
        body += struct.pack("<4s4H2IH", b"PK\5\6", *end.values()) + self.comment + self.trailing
        return bytes(body)


def hashed(data: bytes, kind: str = "sha256") -> str:
    return f"{kind}=" + base64.urlsafe_b64encode(hashlib.new(kind, data).digest()).rstrip(b"=").decode()


def sound(
    *,
    files: dict[str, bytes] | None = None,
    metadata: bytes = b"Metadata-Version: 2.1\nName: stone\nVersion: 1.0\n",
    wheel: bytes = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    entry_points: bytes = b"",
    info: str = INFO,
    record: Callable[[list[str]], list[str]] = lambda rows: rows,
    record_bytes: bytes | None = None,
) -> tuple[Part, ...]:
    """The parts of a wheel with RECORD right for them; `record` changes its lines."""
    members = {"stone/__init__.py": b"x = 1\n", **(files or {}), f"{info}/METADATA": metadata, f"{info}/WHEEL": wheel}
    if entry_points:
        members[f"{info}/entry_points.txt"] = entry_points
    rows = [f"{quoted(name)},{hashed(data)},{len(data)}" for name, data in members.items() if not name.endswith("/")]
    lines = "\n".join(record([*rows, f"{info}/RECORD,,"])) + "\n"
    members[f"{info}/RECORD"] = lines.encode("utf-8", "surrogatepass") if record_bytes is None else record_bytes
    return tuple(Part(name.encode(), data, flags=0 if name.isascii() else 0x800) for name, data in members.items())


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if '"' in name or "," in name else name


class Attack(NamedTuple):
    name: str
    make: Callable[[], tuple[str, bytes]]
    code: str
    sentence: str


ATTACKS: list[Attack] = []


def attack(name: str, code: str, sentence: str, make: Callable[[], Zip | bytes], filename: str = FILENAME) -> None:
    def made() -> tuple[str, bytes]:
        archive = make()
        return filename, archive.bytes() if isinstance(archive, Zip) else archive

    ATTACKS.append(Attack(name, made, "wheel-" + code, sentence))


def of(**settings: Any) -> Zip:
    return Zip(sound(**settings))


def lying(at: int = 0, **fields: Any) -> Callable[[], Zip]:
    """A sound wheel in which one part says something else."""

    def make() -> Zip:
        parts = list(sound())
        parts[at] = replace(parts[at], **fields)
        return Zip(tuple(parts))

    return make


# ------------------------------------------------------------------------------------- names: zip slip and its kin

for label, path in [
    ("parent", "../evil.py"),
    ("parent_inside", "stone/../../evil.py"),
    ("parent_at_the_end", "stone/.."),
    ("absolute", "/etc/cron.d/evil"),
    ("two_slashes", "//server/share/evil"),
    ("empty_part", "stone//evil.py"),
    ("dot", "./evil.py"),
    ("dot_inside", "stone/./evil.py"),
    ("backslash", "..\\evil.py"),
    ("backslash_inside", "stone\\evil.py"),
    ("drive", "C:/evil.py"),
    ("drive_relative", "C:evil.py"),
    ("drive_lower", "c:\\evil.py"),
    ("newline", "stone/evil\n.py"),
    ("carriage_return", "stone/evil\r.py"),
    ("escape", "stone/\x1b[2Jevil.py"),
    ("nul", "stone/evil.py\0.txt"),
    ("delete", "stone/\x7f.py"),
    ("right_to_left", "stone/\u202eyp.exe"),
    ("line_separator", "stone/a\u2028b.py"),
    ("long_part", "stone/" + "a" * 256 + ".py"),
    ("long_path", "stone/" + "/".join(["abcdefghij"] * 120) + ".py"),
]:  # fmt: skip
    attack(f"name_{label}", "name", "not a plain relative name", lambda path=path: of(files={path: b"boo"}))  # type: ignore[misc]

attack("name_data_parent", "name", "not a plain relative name", lambda: of(files={f"{STEM}.data/data/../../evil": b""}))
attack("name_data_purelib_parent", "name", "not a plain", lambda: of(files={f"{STEM}.data/purelib/../x.py": b""}))
attack(
    "name_not_utf8", "name", "not a plain relative name",
    lambda: Zip((Part(b"stone/\xff\xfe.py", flags=0x800), *sound())),
)  # fmt: skip
attack("name_cp437", "name", "not a plain relative name", lambda: Zip((Part(b"stone/\x81.py"), *sound())))
attack(
    "name_overlong_utf8", "name", "not a plain", lambda: Zip((Part(b"stone/\xc0\xae\xc0\xae/x", flags=0x800), *sound()))
)
attack(
    "name_surrogates", "name", "not a plain",
    lambda: Zip((Part(b"stone/\xed\xa0\x80.py", flags=0x800), *sound())),
)  # fmt: skip
attack("name_empty", "framing", "directory is damaged", lambda: Zip((Part(b""), *sound())))
attack("link", "name", "link or another special file", lying(mode=0o120777, data=b"/etc/passwd"))
attack("device", "name", "link or another special file", lying(mode=0o020666))
attack("fifo", "name", "link or another special file", lying(mode=0o010666))
attack("socket", "name", "link or another special file", lying(mode=0o140666))
attack("folder_as_file", "name", "link or another special file", lying(mode=0o040755))
attack("setuid", "name", "link or another special file", lying(mode=0o104755))
attack("setgid", "name", "link or another special file", lying(mode=0o102755))
attack(
    "link_as_folder", "name", "link or another special file",
    lambda: Zip((Part(b"stone/", mode=0o120777, method=0), *sound())),
)  # fmt: skip
attack(
    "folder_with_bytes", "name", "link or another special file",
    lambda: Zip((Part(b"stone/", b"hidden", mode=0o040755), *sound())),
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ twice, and at once

attack("twice", "name", "is there twice", lambda: Zip((*sound(), Part(b"stone/__init__.py", b"evil = 1\n"))))
attack("twice_same_bytes", "name", "is there twice", lambda: Zip((*sound(), Part(b"stone/__init__.py", b"x = 1\n"))))
attack("twice_record", "name", "is there twice", lambda: Zip((*sound(), Part(f"{INFO}/RECORD".encode(), b""))))
attack("twice_metadata", "name", "is there twice", lambda: Zip((Part(f"{INFO}/METADATA".encode(), b""), *sound())))
attack("case", "name", "is there twice, or as", lambda: of(files={"stone/__INIT__.py": b""}))
attack("case_folder", "name", "is there twice, or as", lambda: of(files={"Stone/__init__.py": b""}))
attack("case_sharp_s", "name", "is there twice", lambda: of(files={"stone/ß.py": b"", "stone/ss.py": b""}))
attack("normal_form", "name", "is there twice", lambda: of(files={"stone/é.py": b"", "stone/e\u0301.py": b""}))
attack("kelvin", "name", "is there twice", lambda: of(files={"stone/k.py": b"", "stone/\u212a.py": b""}))
attack("file_and_folder", "name", "a file and a folder", lambda: of(files={"stone/a": b"", "stone/a/b.py": b""}))
attack("file_and_folder_case", "name", "a file and a folder", lambda: of(files={"stone/A": b"", "stone/a/b.py": b""}))
attack(
    "file_and_empty_folder", "name", "a file and a folder",
    lambda: Zip((Part(b"stone/__init__.py/", mode=0o040755, method=0), *sound())),
)  # fmt: skip

# ------------------------------------------------------------------------- the directory against the members' headers

for label, fields in [
    ("local_name", {"name": b"stone/__inet__.py"}),
    ("local_name_shorter", {"name": b"stone/__init__.p"}),
    ("local_name_case", {"name": b"stone/__INIT__.py"}),
    ("local_size", {"size": 7}),
    ("local_packed", {"packed": 5}),
    ("local_crc", {"crc": 1}),
    ("local_method", {"method": 0}),
    ("local_flags", {"flags": 0x800}),
    ("local_encrypted", {"flags": 1}),
    ("local_descriptor_flag", {"flags": 8}),
    ("local_signature", {"sign": b"PK\3\5"}),
    ("local_is_central", {"sign": b"PK\1\2"}),
    ("local_sizes_missing", {"size": 0, "packed": 0, "crc": 0}),
]:
    attack(label, "framing", "member's header disagree", lying(local=fields))
attack("central_size", "framing", "header disagree", lying(central={"size": 7}))
attack("central_crc", "framing", "header disagree", lying(central={"crc": 7}))
attack("central_packed_less", "framing", "header disagree", lying(central={"packed": 7}, local={"packed": 7}))
attack("central_packed_more", "framing", "ends too early|of no member|header disagree", lying(central={"packed": 70}))
attack("central_offset", "framing", "of no member, or of two", lying(central={"offset": 1}))
attack("central_offset_same", "framing", "of no member, or of two", lying(1, central={"offset": 0}))
attack("central_offset_beyond", "framing", "of no member, or of two", lying(central={"offset": 1 << 30}))
attack("central_offset_in_directory", "framing", "of no member|disagree", lambda: lying(-1, central={"offset": 600})())
attack("central_disk", "framing", "directory is damaged", lying(central={"disk": 1}))
attack("central_signature", "framing", "directory is damaged", lying(central={"sign": b"PK\1\3"}))
attack("central_name_length", "framing", "directory is damaged", lying(-1, central={"n": 60000}))
attack("central_extra_length", "framing", "directory is damaged", lying(-1, central={"e": 60000}))
attack("central_comment_length", "framing", "directory is damaged", lying(-1, central={"c": 60000}))
attack("extra_cut_off", "framing", "extra fields", lying(central={"extra": b"\1\0\xff\xff"}))
attack("extra_three_bytes", "framing", "extra fields", lying(central={"extra": b"\1\0\0"}))
attack("extra_64_missing", "framing", "extra fields", lying(central={"extra": b"\1\0\0\0", "size": FULL}))
attack(
    "extra_64_twice", "framing", "extra fields",
    lying(central={"extra": (b"\1\0\x08\0" + struct.pack("<Q", 6)) * 2, "size": FULL}),
)  # fmt: skip
attack(
    "extra_64_lies", "framing", "disagree", lying(central={"extra": b"\1\0\x08\0" + struct.pack("<Q", 7), "size": FULL})
)
attack(
    "extra_64_local_lies", "framing", "disagree",
    lying(local={"extra": b"\1\0\x10\0" + struct.pack("<QQ", 7, 8), "size": FULL, "packed": FULL}),
)  # fmt: skip
attack(
    "extra_64_offset", "framing", "of no member, or of two",
    lying(central={"extra": b"\1\0\x08\0" + struct.pack("<Q", 1 << 62), "offset": FULL}),
)  # fmt: skip
attack(
    "extra_other_name", "framing", "second name",
    lying(central={"extra": struct.pack("<HHBI", 0x7075, 9, 1, zlib.crc32(b"stone/__init__.py")) + b"evil"}),
)  # fmt: skip
attack("encrypted", "framing", "encrypted", lying(flags=1))
attack("encrypted_strong", "framing", "encrypted", lying(flags=0x41))
attack("masked", "framing", "encrypted", lying(flags=0x2000))
attack("patched", "framing", "packed in a way", lying(flags=0x20))
for label, method in [("bzip2", 12), ("lzma", 14), ("deflate64", 9), ("zstd", 93), ("aes", 99), ("shrunk", 1)]:
    attack(f"method_{label}", "framing", "packed in a way", lying(method=method))
attack("stored_other_size", "framing", "packed in a way", lying(method=0, packed=b"x = 1\nhidden"))
attack("descriptor_missing", "framing", "disagree", lying(flags=8))
attack("descriptor_lies", "framing", "disagree", lying(flags=8, descriptor=b"PK\7\x08" + struct.pack("<3I", 1, 8, 6)))
attack("descriptor_cut", "framing", "disagree", lying(flags=8, descriptor=b"PK\7\x08" + struct.pack("<2I", 1, 8)))
attack("descriptor_unasked", "framing", "disagree", lying(descriptor=b"PK\7\x08" + struct.pack("<3I", 1, 8, 6)))

# ------------------------------------------------------------------------------------- bytes of nobody, bytes of two

attack("prefix", "framing", "of no member|no zip archive", lambda: replace(of(), start=b"#!/bin/sh\nexit\n"))
attack("gap", "framing", "disagree|of no member", lambda: lying(1, before=b"hidden bytes")())
attack("gap_long", "framing", "disagree|of no member", lambda: lying(1, before=b"PK\3\4" + bytes(200))())
attack("before_the_directory", "framing", "disagree", lambda: replace(of(), middle=b"hidden"))
attack("behind_the_end", "framing", "no zip archive", lambda: replace(of(), trailing=b"x"))
attack("comment", "framing", "no zip archive", lambda: replace(of(), comment=b"hello"))
attack("comment_with_an_end", "framing", "no zip archive|directory", lambda: replace(of(), comment=of().bytes()[-22:]))
attack("two_archives", "framing", "no zip archive|of no member", lambda: of().bytes() * 2)
attack(
    "two_archives_one_inside", "framing", "no zip archive|of no member",
    lambda: replace(of(files={"stone/evil.py": b""}), trailing=of().bytes()),
)  # fmt: skip
attack("not_in_the_directory", "framing", "disagree|of no member", lambda: replace(of(), only_local=(0,)))
attack("not_in_the_directory_last", "framing", "disagree", lambda: replace(of(), only_local=(3,)))
attack(
    "overlapping", "framing", "of no member, or of two",
    lambda: Zip((*sound(), Part(b"stone/again.py", central={"offset": 0}))),
)  # fmt: skip
attack(
    "quine_of_overlaps", "framing", "of no member, or of two",
    lambda: Zip(tuple(Part(b"a%d" % one, b"x" * 100, central={"offset": 0}) for one in range(500))),
)  # fmt: skip
for label, fields in [
    ("count_less", {"here": 3, "count": 3}),
    ("count_more", {"here": 9, "count": 9}),
    ("count_here", {"here": 1}),
    ("disk", {"disk": 1}),
    ("first_disk", {"first": 1}),
    ("length_less", {"length": 60}),
    ("length_more", {"length": 6000}),
    ("start_less", {"start": 60}),
    ("start_more", {"start": 1 << 30}),
    ("comment_length", {"comment": 5}),
]:  # fmt: skip
    attack(
        f"end_{label}",
        "framing",
        "no zip archive|directory is damaged",
        lambda fields=fields: replace(of(), end=fields),
    )  # type: ignore[misc]


def end64(**lies: int) -> Zip:
    """A sound archive with the records of zip64, in which something is not so."""
    plain = of().bytes()
    here, length, start = (
        struct.unpack_from("<H", plain, len(plain) - 12)[0],
        *struct.unpack_from("<2I", plain, len(plain) - 10),
    )
    facts = {"rest": 44, "made": 0x31E, "need": 45, "disk": 0, "first": 0, "here": here, "count": here}
    facts = {
        **facts,
        "length": length,
        "start": start,
        **{key: value for key, value in lies.items() if key in facts or key in ("length", "start")},
    }
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", *facts.values())
    locator = struct.pack(
        "<4sIQI", b"PK\6\7", lies.get("locator_disk", 0), lies.get("where", start + length), lies.get("disks", 1)
    )
    fields = {"here": 0xFFFF, "count": 0xFFFF, "length": FULL, "start": FULL}
    return replace(of(), end64=record + locator, end=fields)


for label, lies in [
    ("start", {"start": 3}),
    ("length", {"length": 3}),
    ("count", {"count": 77}),
    ("here", {"here": 1}),
    ("disk", {"disk": 1}),
    ("rest", {"rest": 45}),
    ("huge", {"length": 1 << 63}),
    ("where", {"where": 0}),
    ("disks", {"disks": 2}),
    ("locator_disk", {"locator_disk": 1}),
]:
    attack(f"zip64_{label}", "framing", "no zip archive|directory is damaged", lambda lies=lies: end64(**lies))  # type: ignore[misc]
attack(
    "zip64_says_else", "framing", "no zip archive",
    lambda: replace(end64(), end={"here": 0xFFFF, "count": 0xFFFF, "length": 5, "start": FULL}),
)  # fmt: skip
attack("empty", "framing", "too early", lambda: b"")
attack("nothing_but_an_end", "metadata", "one .dist-info folder", lambda: Zip(()))
attack("text", "framing", "no zip archive", lambda: b"this is no archive at all, but long enough to be one")
attack("tar", "framing", "no zip archive", lambda: bytes(10240))
attack("cut_in_half", "framing", "no zip archive", lambda: of().bytes()[: len(of().bytes()) // 2])
attack("first_byte_missing", "framing", "no zip archive|of no member", lambda: of().bytes()[1:])

# ------------------------------------------------------------------------------------------------------------- bombs


def zeros(size: int) -> bytes:
    """So many zeros, deflated; quickly, because each MiB of them is the same bytes."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)) * (size >> 20) + squeeze.flush()


def bomb(size: int, claimed_size: int, name: bytes = b"stone/bomb.bin") -> Zip:
    fields = {"size": claimed_size, "crc": 0}
    return Zip((*sound(), Part(name, packed=zeros(size), central=fields, local=fields)))


attack("bomb", "bomb", "no honest file", lambda: bomb(1 << 30, 1 << 30))
attack("bomb_in_metadata", "contents", "bytes are damaged", lambda: Zip(tuple(
    replace(part, packed=zeros(1 << 28)) if part.name.endswith(b"METADATA") else part for part in sound()
)))  # fmt: skip
attack("bomb_of_many", "bomb", "no honest file", lambda: Zip((*sound(), *(
    Part(b"stone/%d" % one, packed=zeros(8 << 20), central={"size": 8 << 20, "crc": 0}, local={"size": 8 << 20, "crc": 0})
    for one in range(40)
))))  # fmt: skip
attack("bomb_64", "bomb|framing", "no honest file|disagree|extra", lambda: Zip((*sound(), Part(b"stone/bomb", b"x", central={
    "extra": b"\1\0\x08\0" + struct.pack("<Q", 1 << 60), "size": FULL}, local={
    "extra": b"\1\0\x10\0" + struct.pack("<QQ", 1 << 60, 3), "size": FULL, "packed": FULL}))))  # fmt: skip

attack("packed_64_of_metadata", "framing", "ends too early|disagree|no member", lambda: Zip(tuple(
    replace(part, central={"extra": b"\1\0\x08\0" + struct.pack("<Q", 1 << 60), "packed": FULL})
    if part.name.endswith(b"METADATA") else part for part in sound()
)))  # fmt: skip

# ------------------------------------------------------------------------------------------------------------ RECORD


def without(name: str) -> Callable[[list[str]], list[str]]:
    return lambda rows: [row for row in rows if not row.startswith(name)]


def instead(name: str, row: str) -> Callable[[list[str]], list[str]]:
    return lambda rows: [row if one.startswith(name) else one for one in rows]


X = "stone/__init__.py"
attack("record_lacks", "record", "does not list stone/__init__.py", lambda: of(record=without(X)))
attack("record_lacks_metadata", "record", "does not list", lambda: of(record=without(f"{INFO}/METADATA")))
attack(
    "record_more",
    "record",
    "which is not there",
    lambda: of(record=lambda rows: [*rows, f"stone/x.py,{hashed(b'')},0"]),
)
attack("record_outside", "record", "not there", lambda: of(record=lambda rows: [*rows, "../../../bin/python,,"]))
attack(
    "record_absolute", "record", "not there", lambda: of(record=lambda rows: [*rows, f"/etc/passwd,{hashed(b'')},0"])
)
attack("record_no_hash", "record", "no hash", lambda: of(record=instead(X, f"{X},,6")))
attack("record_md5", "record", "too weak", lambda: of(record=instead(X, f"{X},{hashed(b'x = 1', 'md5')},6")))
attack("record_sha1", "record", "too weak", lambda: of(record=instead(X, f"{X},{hashed(b'x = 1', 'sha1')},6")))
attack("record_sha224", "record", "too weak", lambda: of(record=instead(X, f"{X},{hashed(b'x = 1', 'sha224')},6")))
attack("record_unknown_hash", "record", "too weak", lambda: of(record=instead(X, f"{X},none={'A' * 43},6")))
attack("record_short_hash", "record", "too weak", lambda: of(record=instead(X, f"{X},sha256=AAAA,6")))
attack("record_hex_hash", "record", "too weak", lambda: of(record=instead(X, f"{X},sha256={'a' * 64},6")))
attack("record_size", "record", "another size", lambda: of(record=instead(X, f"{X},{hashed(b'x = 1')},7")))
attack("record_size_word", "record", "another size", lambda: of(record=instead(X, f"{X},{hashed(b'x = 1')},six")))
attack("record_two_fields", "record", "not three fields", lambda: of(record=instead(X, f"{X},{hashed(b'x = 1')}")))
attack("record_four_fields", "record", "not three fields", lambda: of(record=instead(X, f"{X},{hashed(b'')},6,x")))
attack("record_twice", "record", "two things", lambda: of(record=lambda rows: [*rows, f"{X},{hashed(b'evil')},6"]))
attack("record_not_utf8", "record", "cannot be read", lambda: of(record_bytes=b"\xff\xfe,,\n"))
attack("record_nul", "record", "cannot be read|does not list|not there", lambda: of(record_bytes=b"a\0b,,\n"))
attack("record_empty", "record", "does not list", lambda: of(record_bytes=b""))
attack(
    "record_quote", "record", "cannot be read|does not list|not three", lambda: of(record_bytes=b'"' + b"a" * 40_000)
)
attack(
    "record_case", "record", "which is not there", lambda: of(record=instead(X, f"{X.upper()},{hashed(b'x = 1')},6"))
)

# --------------------------------------------------------------------------------- who it is, and what it says it is

attack("no_info", "metadata", "one .dist-info folder", lambda: Zip(sound()[:1]))
attack("two_infos", "metadata", "one .dist-info folder", lambda: of(files={"moss-1.0.dist-info/METADATA": b""}))
attack("two_infos_case", "metadata", "one .dist-info folder", lambda: of(files={"moss-1.0.DIST-INFO/METADATA": b""}))
attack("info_of_another", "metadata", "it says it is", lambda: of(info="moss-1.0.dist-info"))
attack("info_of_another_version", "metadata", "it says it is", lambda: of(info="stone-2.0.dist-info"))
attack("info_without_version", "metadata", "it says it is", lambda: of(info="stone.dist-info"))
attack(
    "no_metadata",
    "metadata",
    "METADATA is missing",
    lambda: Zip(tuple(one for one in sound() if b"METADATA" not in one.name)),
)
attack(
    "no_wheel", "metadata", "WHEEL is missing", lambda: Zip(tuple(one for one in sound() if b"/WHEEL" not in one.name))
)
attack(
    "no_record",
    "metadata",
    "RECORD is missing",
    lambda: Zip(tuple(one for one in sound() if b"RECORD" not in one.name)),
)
attack(
    "other_name",
    "metadata",
    "it says it is moss",
    lambda: of(metadata=b"Metadata-Version: 2.1\nName: moss\nVersion: 1.0\n"),
)
attack(
    "other_version",
    "metadata",
    "it says it is",
    lambda: of(metadata=b"Metadata-Version: 2.1\nName: stone\nVersion: 1.0.1\n"),
)
attack(
    "two_names",
    "metadata",
    "Name has to be given once",
    lambda: of(metadata=b"Name: stone\nName: moss\nVersion: 1.0\n"),
)
attack(
    "two_versions",
    "metadata",
    "Version has to be given",
    lambda: of(metadata=b"Name: stone\nVersion: 1.0\nversion: 2\n"),
)
attack("no_name", "metadata", "Name has to be given once", lambda: of(metadata=b"Version: 1.0\n"))
attack(
    "name_in_the_body", "metadata", "Name has to be given once", lambda: of(metadata=b"Version: 1.0\n\nName: stone\n")
)
attack(
    "wheel_version_2", "metadata", "only 1.x is known", lambda: of(wheel=b"Wheel-Version: 2.0\nRoot-Is-Purelib: true\n")
)
attack("wheel_version_none", "metadata", "Wheel-Version has to be given", lambda: of(wheel=b"Root-Is-Purelib: true\n"))
attack(
    "wheel_version_word",
    "metadata",
    "only 1.x is known",
    lambda: of(wheel=b"Wheel-Version: 1.x\nRoot-Is-Purelib: true\n"),
)
attack(
    "two_roots", "metadata", "Root-Is-Purelib has to be given once",
    lambda: of(wheel=b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nRoot-Is-Purelib: false\n"),
)  # fmt: skip
for label, filename in [
    ("none", "stone.whl"),
    ("two_parts", "stone-1.0.whl"),
    ("seven_parts", "stone-1.0-1-py3-none-any-x.whl"),
    ("build_without_number", "stone-1.0-x1-py3-none-any.whl"),
    ("zip", "stone-1.0-py3-none-any.zip"),
]:
    attack(f"file_name_{label}", "metadata", "file name is not that of a wheel", of, filename)
attack("file_name_of_another", "metadata", "it says it is", of, "moss-1.0-py3-none-any.whl")
attack("file_name_of_another_version", "metadata", "it says it is", of, "stone-1.1-py3-none-any.whl")

# ------------------------------------------------------------------------- writing over the interpreter, pip, others

for label, path in [
    ("scripts_python", "scripts/python"),
    ("scripts_python3", "scripts/python3"),
    ("scripts_python311", "scripts/python3.11"),
    ("scripts_python_exe", "scripts/Python.EXE"),
    ("scripts_pythonw", "scripts/pythonw.exe"),
    ("scripts_pypy", "scripts/pypy3"),
    ("scripts_activate", "scripts/activate"),
    ("scripts_activate_fish", "scripts/activate.fish"),
    ("scripts_activate_ps1", "scripts/Activate.ps1"),
    ("scripts_activate_this", "scripts/activate_this.py"),
    ("scripts_deactivate", "scripts/deactivate.bat"),
    ("scripts_pip", "scripts/pip"),
    ("scripts_pip3", "scripts/pip3.11"),
    ("data_python", "data/bin/python"),
    ("data_python_windows", "data/Scripts/python.exe"),
    ("data_pip", "data/bin/pip"),
    ("data_pyvenv_cfg", "data/pyvenv.cfg"),
    ("data_pyvenv_cfg_case", "data/PyVenv.cfg"),
    ("data_bin", "data/bin"),
    ("data_lib", "data/lib"),
    ("data_lib64", "data/lib64"),
    ("data_site_pip", "data/lib/python3.11/site-packages/pip/__init__.py"),
    ("data_site_pip_64", "data/lib64/python3.6/site-packages/pip/_internal/x.py"),
    ("data_site_pip_windows", "data/Lib/site-packages/pip/__init__.py"),
    ("data_site_info", "data/lib/python3.11/site-packages/moss-1.0.dist-info/RECORD"),
    ("purelib_pip", "purelib/pip/__init__.py"),
    ("platlib_pip", "platlib/pip/__main__.py"),
    ("purelib_pip_case", "purelib/PIP/__init__.py"),
    ("purelib_pip_module", "purelib/pip.py"),
    ("purelib_pip_info", "purelib/pip-26.3.dist-info/RECORD"),
    ("platlib_info_of_another", "platlib/moss-1.0.dist-info/METADATA"),
    ("purelib_egg_info_of_another", "purelib/moss.egg-info/PKG-INFO"),
]:
    attack(
        f"over_{label}",
        "overwrites",
        "part of the environment itself",
        lambda path=path: of(files={f"{STEM}.data/{path}": b"evil"}),
    )  # type: ignore[misc]
attack("over_pip", "overwrites", "part of the environment itself", lambda: of(files={"pip/__init__.py": b""}))
attack(
    "over_pip_deep", "overwrites", "part of the environment", lambda: of(files={"pip/_vendor/certifi/cacert.pem": b""})
)
attack("over_pip_module", "overwrites", "part of the environment itself", lambda: of(files={"pip.py": b""}))
attack(
    "over_pip_egg_info", "overwrites", "part of the environment", lambda: of(files={"pip-26.egg-info/PKG-INFO": b""})
)
attack("data_other_scheme", "name", "none of the places", lambda: of(files={f"{STEM}.data/etc/passwd": b""}))
attack("data_stdlib_scheme", "name", "none of the places", lambda: of(files={f"{STEM}.data/stdlib/os.py": b""}))
attack("data_no_scheme", "name", "none of the places", lambda: of(files={f"{STEM}.data/x": b""}))
attack("data_of_another", "name", "none of the places", lambda: of(files={"moss-1.0.data/purelib/x.py": b""}))
attack(
    "data_over_itself",
    "overwrites",
    "another file of the same wheel",
    lambda: of(files={f"{STEM}.data/purelib/{X}": b""}),
)
attack(
    "data_over_itself_by_site", "overwrites", "another file of the same wheel",
    lambda: of(files={f"{STEM}.data/data/lib/python3.12/site-packages/{X}": b""}),
)  # fmt: skip

for label, line in [
    ("parent", "../../../etc/cron.d/x = stone:main"),
    ("slash", "sub/x = stone:main"),
    ("absolute", "/bin/sh = stone:main"),
    ("backslash", "..\\x = stone:main"),
    ("drive", "C:x = stone:main"),
    ("dots", ".. = stone:main"),
    ("dot", ". = stone:main"),
    ("space", "a b = stone:main"),
    ("control", "a\x1bb = stone:main"),
    ("bidi", "a\u202eb = stone:main"),
    ("no_reference", "x ="),
    ("no_object", "x = stone"),
    ("no_equals", "x"),
    ("code", "x = stone:main();import os"),
    ("newline_in_code", "x = stone:main#"),
    ("import", "x = os; import evil:main"),
    ("number", "x = 1stone:main"),
    ("bracket", "x = stone:main [a] b"),
    ("quote", 'x" = stone:main'),
]:
    attack(
        f"entry_{label}",
        "entry-point",
        "no command with its object",
        lambda line=line: of(entry_points=f"[console_scripts]\n{line}\n".encode()),
    )  # type: ignore[misc]
attack("entry_gui", "entry-point", "no command", lambda: of(entry_points=b"[gui_scripts]\n../x = stone:main\n"))
for label, command in [
    ("python", "python"),
    ("python3", "python3.11"),
    ("pip", "pip"),
    ("pip3", "pip3"),
    ("activate", "activate"),
    ("python_exe", "Python.exe"),
]:
    attack(
        f"entry_over_{label}",
        "overwrites",
        "part of the environment itself",
        lambda command=command: of(entry_points=f"[console_scripts]\n{command} = stone:main\n".encode()),
    )  # type: ignore[misc]
attack("entry_over_own_script", "overwrites", "another file of the same wheel", lambda: of(
    entry_points=b"[console_scripts]\nx = stone:main\n", files={f"{STEM}.data/data/bin/x": b"evil"}))  # fmt: skip

# ------------------------------------------------------- what only shows when the members themselves are looked at

CONTENTS: list[Attack] = []


def hidden(name: str, sentence: str, make: Callable[[], Zip]) -> None:
    CONTENTS.append(Attack(name, lambda: (FILENAME, make().bytes()), "wheel-contents", sentence))


hidden("other_bytes", "not those of RECORD", lambda: of(record=instead(X, f"{X},{hashed(b'other!')},6")))
hidden("hash_of_no_base64", "not those of RECORD", lambda: of(record=instead(X, f"{X},sha256={'*' * 43},6")))
hidden("wrong_crc", "not those of RECORD", lying(central={"crc": 1}, local={"crc": 1}))
hidden("more_than_declared", "not those of RECORD", lying(packed=zeros(1 << 28)))
hidden("less_than_declared", "not those of RECORD", lying(packed=b"\3\0"))
hidden("no_deflate", "not those of RECORD", lying(packed=b"\xff\xff\xff\xff"))
hidden("deflate_without_an_end", "not those of RECORD", lying(packed=b"\x00\x06\x00\xf9\xffx = 1\n"))
hidden(
    "bytes_behind_deflate",
    "not those of RECORD",
    lambda: lying(packed=zlib.compress(b"x = 1\n", 9)[2:-4] + b"hidden")(),
)
hidden("empty_deflate", "not those of RECORD", lying(packed=b""))
