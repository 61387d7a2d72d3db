"""Archives that somebody made to do harm: each is written byte by byte here, not by the product's own writer.

An attack gets a sound bundle taken apart and gives the bytes of a tar.gz. Beside each stands what it must be refused with:
the code of the finding and a part of its sentence. All of them leave the manifest consistent where they can, so that it is
the one fault that is found.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from ..support.bundles import END, Parts, file, gz, gz_of_blocks, header, pax, record

INNOCENT = b"print('boo')\n"


class Attack(NamedTuple):
    name: str
    make: Callable[[Parts], bytes]
    code: str
    sentence: str


ATTACKS: list[Attack] = []


def attack(code: str, sentence: str) -> Callable[[Callable[[Parts], bytes]], Callable[[Parts], bytes]]:
    def keep(make: Callable[[Parts], bytes]) -> Callable[[Parts], bytes]:
        ATTACKS.append(Attack(make.__name__, make, code, sentence))
        return make

    return keep


def each(code: str, sentence: str, name: str, make: Callable[[Parts], bytes]) -> None:
    ATTACKS.append(Attack(name, make, code, sentence))


# ------------------------------------------------------------------------------------------------------- names

for label, path, sentence in [
    ("absolute", b"/etc/cron.d/evil", "leads out"),
    ("parent", b"../evil", "leads out"),
    ("parent_inside", b"notes-1.2/../../evil", "leads out"),
    ("parent_at_the_end", b"notes-1.2/files/..", "leads out"),
    ("backslash_parent", b"..\\evil", "leads out"),
    ("drive", b"C:/evil", "does not know"),
    ("unc", b"//server/share/evil", "leads out"),
    ("dot_inside", b"notes-1.2/./evil", "does not know"),
    ("two_slashes", b"notes-1.2//wheels/evil", "does not know"),
    ("trailing_slash", b"notes-1.2/evil/", "does not know"),
    ("other_top", b"notes/evil", "does not know"),
    ("no_top", b"evil", "does not know"),
    ("empty", b"", "no name"),
    ("control_characters", b"notes-1.2/\x1b[2Jevil", "does not know"),
    ("newline", b"notes-1.2/evil\nnotes-1.2/fine", "does not know"),
    ("not_ascii", "notes-1.2/bös".encode(), "does not know"),
    ("not_utf8", b"notes-1.2/\xff\xfe", "not UTF-8"),
    ("alternate_stream", b"notes-1.2/README.txt:evil", "does not know"),
    ("device_name", b"notes-1.2/CON", "does not know"),
    ("pycache", b"notes-1.2/ontarget/__pycache__/errors.cpython-311.pyc", "does not know"),
    ("json_beside", b"notes-1.2/json.py", "does not know"),
    ("case", b"notes-1.2/readme.TXT", "does not know"),
]:
    found = "not-listed" if sentence == "does not know" else "archive-unsound"
    each(found, sentence, f"name_{label}", lambda good, path=path: gz(good.tar(file(path, INNOCENT))))  # type: ignore[misc]


@attack("not-listed", "does not know")
def name_other_normal_form(good: Parts) -> bytes:
    return gz(good.tar(pax(record("path", f"{good.folder}/e\u0301vil")), file("x", INNOCENT)))


@attack("file-twice", "second time")
def file_twice(good: Parts) -> bytes:
    return gz(good.tar(file(f"{good.folder}/README.txt", good.files["README.txt"])))


@attack("file-twice", "second time")
def file_twice_other_bytes(good: Parts) -> bytes:
    return gz(good.tar(file(f"{good.folder}/install.py", INNOCENT)))


@attack("file-twice", "second time")
def manifest_twice(good: Parts) -> bytes:
    return gz(good.tar(good.first()))


@attack("not-listed", "does not know")
def signature_at_the_end(good: Parts) -> bytes:
    return gz(good.tar(file(f"{good.folder}/manifest.json.sig", b"x")))


@attack("archive-unsound", "folder at the top")
def other_folder_at_the_top(good: Parts) -> bytes:
    good.folder = "notes-9.9"
    return gz(good.tar())


@attack("not-listed", "does not know")
def two_folders_at_the_top(good: Parts) -> bytes:
    members = good.members()
    path, data = next(iter(good.files.items()))
    members[1] = file(f"other/{path}", data)
    return gz(b"".join(members) + END)


# ------------------------------------------------------------------------------------------------ kinds of members

for label, kind, sentence in [
    ("hard_link", b"1", "hard link"),
    ("symbolic_link", b"2", "symbolic link"),
    ("character_device", b"3", "device"),
    ("block_device", b"4", "device"),
    ("folder", b"5", "folder"),
    ("pipe", b"6", "pipe"),
    ("contiguous", b"7", "no regular file"),
    ("old_regular", b"\0", "no regular file"),
    ("volume_label", b"V", "no regular file"),
    ("continued", b"M", "no regular file"),
    ("dump_folder", b"D", "no regular file"),
    ("sparse", b"S", "no regular file"),
    ("gnu_long_name", b"L", "no regular file"),
    ("gnu_long_link", b"K", "no regular file"),
    ("pax_for_all", b"g", "no regular file"),
    ("solaris_pax", b"X", "no regular file"),
    ("unknown", b"?", "no regular file"),
]:
    each(
        "archive-unsound",
        sentence,
        f"kind_{label}",
        lambda good, kind=kind: gz(  # type: ignore[misc]
            good.tar(header(f"{good.folder}/files/x", 0, kind=kind, link=b"/etc/passwd" if kind in b"12" else b""))
        ),
    )


@attack("archive-unsound", "symbolic link")
def link_in_the_place_of_a_file(good: Parts) -> bytes:
    return gz(good.replaced("README.txt", header(f"{good.folder}/README.txt", 0, kind=b"2", link=b"/etc/shadow")))


@attack("archive-unsound", "hard link")
def link_to_a_sound_file(good: Parts) -> bytes:
    target = f"{good.folder}/README.txt".encode()
    return gz(good.replaced("README.zh.txt", header(f"{good.folder}/README.zh.txt", 0, kind=b"1", link=target)))


@attack("archive-unsound", "symbolic link")
def folder_that_is_a_link(good: Parts) -> bytes:
    members = good.members()
    members.insert(1, header(f"{good.folder}/wheels", 0, kind=b"2", link=b"/tmp"))
    return gz(b"".join(members) + END)


@attack("archive-unsound", "more than a name and a size")
def regular_file_with_a_link_name(good: Parts) -> bytes:
    data = good.files["README.txt"]
    return gz(good.replaced("README.txt", file(f"{good.folder}/README.txt", data, link=b"/etc/passwd")))


# ------------------------------------------------------------------------------------------------------ headers

for label, fields, sentence in [
    ("setuid", {"mode": b"0004755\0"}, "another user"),
    ("setgid", {"mode": b"0002755\0"}, "another user"),
    ("sticky", {"mode": b"0001644\0"}, "another user"),
    ("mode_no_number", {"mode": b"rwxr-xr\0"}, "number"),
    ("mode_empty", {"mode": b"\0" * 8}, "number"),
    ("owner_base256", {"owner": b"\x80\0\0\0\0\0\0\1"}, "number"),
    ("owner_negative", {"owner": b"\xff\xff\xff\xff\xff\xff\xff\xff"}, "number"),
    ("time_base256", {"time": b"\x80" + b"\0" * 11}, "number"),
    ("size_base256", {"length": b"\x80" + b"\0" * 10 + b"\x40"}, "number"),
    ("size_negative", {"length": b"-0000000001\0"}, "number"),
    ("size_hex", {"length": b"0x000000010\0"}, "number"),
    ("size_with_text_behind", {"length": b"00000000\0abc"}, "number"),
    ("owner_names", {"names": b"root" + b"\0" * 28 + b"root"}, "more than a name"),
    ("device_numbers", {"device": b"0000010\0"}, "more than a name"),
    ("hidden_at_the_end", {"rest": b"hidden"}, "more than a name"),
    ("wrong_checksum", {"checksum": b"0000001\0"}, "checksum"),
    ("checksum_without_zeros", {"checksum": b"     1\0 "}, "checksum"),
    ("gnu_magic", {"magic": b"ustar  \0"}, "ustar"),
    ("no_magic", {"magic": b""}, "ustar"),
    ("name_after_a_zero", {"prefix": b"notes-1.2\0/etc"}, "more than a name"),
    ("prefix_that_leads_out", {"prefix": b"../.."}, "leads out"),
    ("prefix_absolute", {"prefix": b"/etc"}, "leads out"),
]:
    each(
        "archive-unsound",
        sentence,
        f"header_{label}",
        lambda good, fields=fields: gz(  # type: ignore[misc]
            good.replaced("README.txt", file(f"{good.folder}/README.txt", good.files["README.txt"], **fields))
        ),
    )


@attack("archive-unsound", "other bytes than zeros")
def data_in_the_padding(good: Parts) -> bytes:
    path = next(one for one, data in good.files.items() if len(data) % 512)
    return gz(good.replaced(path, file(f"{good.folder}/{path}", good.files[path], filling=b"!")))


@attack("archive-unsound", "more than a name and a size")
def second_name_behind_a_zero(good: Parts) -> bytes:
    name = f"{good.folder}/README.txt".encode() + b"\0../../evil"
    return gz(good.replaced("README.txt", file(name, good.files["README.txt"])))


@attack("wrong-size", "the manifest says")
def size_larger_than_the_manifest_says(good: Parts) -> bytes:
    data = good.files["README.txt"] + b"more"
    return gz(good.replaced("README.txt", file(f"{good.folder}/README.txt", data)))


@attack("wrong-size", "the manifest says")
def size_of_8_gib(good: Parts) -> bytes:
    block = header(f"{good.folder}/README.txt", 0, length=b"77777777777\0")
    return gz(good.first() + block + bytes(1 << 16))


@attack("wrong-size", "the manifest says")
def empty_in_the_place_of_a_file(good: Parts) -> bytes:
    return gz(good.replaced("README.txt", file(f"{good.folder}/README.txt", b"")))


@attack("hash-mismatch", "sha256")
def other_bytes_of_the_same_size(good: Parts) -> bytes:
    data = good.files["README.txt"].swapcase()
    return gz(good.replaced("README.txt", file(f"{good.folder}/README.txt", data)))


@attack("file-missing", "missing")
def file_left_out(good: Parts) -> bytes:
    del good.files["README.txt"]
    return gz(good.tar())


@attack("file-missing", "missing")
def everything_left_out(good: Parts) -> bytes:
    return gz(good.first() + END)


# ---------------------------------------------------------------------------------------------- extended headers


def with_pax(good: Parts, *records: bytes, short: str = "x", name: str = "pax/header") -> bytes:
    """README.txt behind such an extended header."""
    data = good.files["README.txt"]
    return gz(good.replaced("README.txt", pax(*records, name=name) + file(short, data)))


each(
    "archive-unsound",
    "something else than one path",
    "pax_size",
    lambda good: with_pax(good, record("path", f"{good.folder}/README.txt"), record("size", "1")),
)
for key, value in [
    ("linkpath", "/etc/passwd"),
    ("size", "99999999999"),
    ("mode", "0004755"),
    ("uname", "root"),
    ("uid", "0"),
    ("mtime", "0.5"),
    ("GNU.sparse.map", "0,1"),
    ("GNU.sparse.name", "../evil"),
    ("SCHILY.xattr.security.capability", "x"),
    ("hdrcharset", "BINARY"),
    ("LIBARCHIVE.xattr.user.x", "x"),
    ("comment", "hello"),
]:
    each(
        "archive-unsound",
        "something else than one path",
        f"pax_{key.replace('.', '_').lower()}_alone",
        lambda good, key=key, value=value: with_pax(good, record(key, value)),  # type: ignore[misc]
    )
    each(
        "archive-unsound",
        "something else than one path",
        f"pax_{key.replace('.', '_').lower()}_before_a_path",
        lambda good, key=key, value=value: with_pax(  # type: ignore[misc]
            good, record(key, value), record("path", f"{good.folder}/README.txt")
        ),
    )
for label, records in [
    ("two_paths", [record("path", "notes-1.2/README.txt"), record("path", "../evil")]),
    ("length_too_small", [b"5 path=notes-1.2/README.txt\n"]),
    ("length_too_large", [b"99999 path=x\n"]),
    ("length_negative", [b"-1 path=x\n"]),
    ("length_with_zeros", [b"0000000027 path=notes-1.2/x\n"]),
    ("length_huge", [b"9" * 3000 + b" path=x\n"]),
    ("no_end", [b"21 path=notes-1.2/x \0"]),
    ("empty", [b""]),
    ("no_number", [b"path=notes-1.2/README.txt\n"]),
]:
    each(
        "archive-unsound",
        "something else than one path",
        f"pax_{label}",
        lambda good, records=records: with_pax(good, *records),  # type: ignore[misc]
    )
for label, path, code, sentence in [
    ("leads_out", "../../evil", "not-listed", "does not know"),
    ("absolute", "/etc/evil", "not-listed", "does not know"),
    ("empty_path", "", "archive-unsound", "no name"),
    ("newline", "notes-1.2/README.txt\n12 path=evil", "not-listed", "does not know"),
    ("zero", "notes-1.2/README.txt\0evil", "not-listed", "does not know"),
]:
    each(code, sentence, f"pax_path_{label}", lambda good, path=path: with_pax(good, record("path", path)))  # type: ignore[misc]
each(
    "archive-unsound", "not UTF-8", "pax_path_not_utf8", lambda good: with_pax(good, record("path", b"notes-1.2/\xff"))
)
each(
    "archive-unsound",
    "leads out",
    "pax_second_name_leads_out",
    lambda good: with_pax(good, record("path", f"{good.folder}/README.txt"), short="../../../etc/cron.d/evil"),
)
each(
    "archive-unsound",
    "leads out",
    "pax_header_itself_leads_out",
    lambda good: with_pax(good, record("path", f"{good.folder}/README.txt"), name="/etc/cron.d/evil"),
)


@attack("archive-unsound", "longer than any")
def pax_of_a_gibibyte(good: Parts) -> bytes:
    return gz(good.first() + header("pax/header", 1 << 30, kind=b"x") + bytes(1 << 20))


@attack("archive-unsound", "no regular file")
def pax_before_a_pax(good: Parts) -> bytes:
    long = pax(record("path", f"{good.folder}/README.txt"))
    return gz(good.replaced("README.txt", long + long + file("x", good.files["README.txt"])))


@attack("archive-unsound", "symbolic link")
def pax_before_a_link(good: Parts) -> bytes:
    long = pax(record("path", f"{good.folder}/README.txt"))
    return gz(good.replaced("README.txt", long + header("x", 0, kind=b"2", link=b"/etc/shadow")))


@attack("archive-unsound", "ustar")
def pax_before_the_end(good: Parts) -> bytes:
    return gz(good.tar(pax(record("path", f"{good.folder}/README.txt"))))


# ------------------------------------------------------------------------------------------------- beginning and end


@attack("not-a-bundle", "no bundle")
def manifest_second(good: Parts) -> bytes:
    members = good.members()
    return gz(b"".join([members[1], members[0], *members[2:]]) + END)


@attack("not-a-bundle", "no bundle")
def folder_first(good: Parts) -> bytes:
    return gz(file(f"{good.folder}/sub/manifest.json", good.data) + END)


@attack("not-a-bundle", "no bundle")
def nothing_but_the_end(good: Parts) -> bytes:
    return gz(END)


@attack("not-a-bundle", "no bundle")
def gzip_of_text(good: Parts) -> bytes:
    return gz(b"hello\n" * 200)


@attack("truncated", "cut short")
def gzip_of_a_few_bytes(good: Parts) -> bytes:
    return gz(b"hello")


@attack("not-a-bundle", "no bundle")
def not_gzip(good: Parts) -> bytes:
    return good.tar()


@attack("not-a-bundle", "no bundle")
def zip_archive(good: Parts) -> bytes:
    return b"PK\3\4" + bytes(100)


@attack("empty-file", "empty")
def nothing_at_all(good: Parts) -> bytes:
    return b""


@attack("truncated", "cut short")
def no_end(good: Parts) -> bytes:
    return gz(good.tar(end=b""))


@attack("truncated", "cut short")
def half_an_end(good: Parts) -> bytes:
    return gz(good.tar(end=bytes(512)))


@attack("archive-unsound", "middle")
def zeros_in_the_middle(good: Parts) -> bytes:
    members = good.members()
    return gz(b"".join([*members[:2], bytes(512), *members[2:]]) + END)


@attack("archive-unsound", "behind the end")
def members_behind_the_end(good: Parts) -> bytes:
    return gz(good.tar() + file(f"{good.folder}/evil", INNOCENT) + END)


@attack("archive-unsound", "behind the end")
def members_behind_the_end_in_another_gzip(good: Parts) -> bytes:
    return gz(good.tar()) + gz(file(f"{good.folder}/evil", INNOCENT) + END)


@attack("archive-unsound", "behind the end")
def too_many_zeros_behind_the_end(good: Parts) -> bytes:
    return gz(good.tar() + bytes(20_000))


@attack("archive-unsound", "behind the end")
def one_byte_behind_the_end(good: Parts) -> bytes:
    return gz(good.tar() + b"\1")


@attack("archive-damaged", "damaged")
def text_behind_the_gzip(good: Parts) -> bytes:
    return gz(good.tar()) + b"hello"


@attack("archive-damaged", "damaged")
def zeros_behind_the_gzip(good: Parts) -> bytes:
    return gz(good.tar()) + bytes(4096)


@attack("truncated", "cut short")
def beginning_of_a_gzip_behind_the_gzip(good: Parts) -> bytes:
    return gz(good.tar()) + b"\x1f\x8b\x08\0"


@attack("archive-unsound", "behind the end")
def the_whole_twice(good: Parts) -> bytes:
    return gz(good.tar()) * 2


# --------------------------------------------------------------------------------------------------------- gzip


def of_blocks(good: Parts, **named: int) -> bytes:
    tar = good.tar()
    return gz_of_blocks([tar[at : at + 60_000] for at in range(0, len(tar), 60_000)], **named)


each("archive-damaged", "damaged", "gzip_wrong_crc", lambda good: of_blocks(good, crc=1))
each("archive-damaged", "damaged", "gzip_wrong_length", lambda good: of_blocks(good, size=1))
each(
    "archive-damaged",
    "damaged",
    "gzip_block_with_a_wrong_length",
    lambda good: of_blocks(good).replace(struct.pack("<H", 60_000 ^ 0xFFFF), b"\0\0", 1),
)
each("archive-damaged", "damaged", "gzip_reserved_flags", lambda good: b"\x1f\x8b\x08\xe0" + gz(good.tar())[4:])
each(
    "archive-damaged",
    "damaged",
    "gzip_wrong_header_crc",
    lambda good: b"\x1f\x8b\x08\x02" + gz(good.tar())[4:10] + b"!!" + gz(good.tar())[10:],
)
each("not-a-bundle", "no bundle", "gzip_other_method", lambda good: b"\x1f\x8b\x07" + gz(good.tar())[3:])
each("truncated", "cut short", "gzip_name_without_end", lambda good: b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 3_000_000)
each(
    "archive-damaged",
    "damaged",
    "gzip_second_member_is_zlib",
    lambda good: gz(good.first()) + zlib.compress(good.tar()),
)


@attack("archive-unsound", "too many gzip members")
def gzip_of_a_million_empty_members(good: Parts) -> bytes:
    return gz(b"") * 200_000 + gz(good.tar())


@attack("archive-unsound", "too many gzip members")
def gzip_member_for_each_byte(good: Parts) -> bytes:
    tar = good.tar()
    return b"".join(gz_of_blocks([tar[at : at + 1]]) for at in range(20_000))


# -------------------------------------------------------------------------------------------------------- bombs


@functools.cache
def zeros(megabytes: int) -> bytes:
    """So many zeros in one gzip member, a thousand times smaller."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([deflate.compress(bytes(1 << 20)) for _ in range(megabytes)]) + deflate.flush()


def bomb(start: bytes) -> bytes:
    """`start`, then a gibibyte of zeros."""
    return gz(start) + zeros(64) * 16


each(
    "archive-unsound",
    "larger than such a file",
    "bomb_manifest",
    lambda good: bomb(header("notes-1.2/manifest.json", 1 << 30)),
)
each(
    "wrong-size",
    "the manifest says",
    "bomb_file",
    lambda good: bomb(good.first() + header(f"{good.folder}/README.txt", 1 << 30)),
)
each("archive-unsound", "behind the end", "bomb_behind_the_end", lambda good: bomb(good.tar()))
each(
    "archive-unsound",
    "longer than any",
    "bomb_pax",
    lambda good: bomb(good.first() + header("pax", 1 << 30, kind=b"x")),
)
each("not-a-bundle", "no bundle", "bomb_of_zeros", lambda good: zeros(64) * 16)
each(
    "archive-unsound",
    "larger than such a file",
    "bomb_signature",
    lambda good: bomb(good.first() + header(f"{good.folder}/manifest.json.sig", 1 << 30)),
)
