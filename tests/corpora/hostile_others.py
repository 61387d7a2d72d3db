"""More whole bundles that somebody made to do harm: tables larger than any honest one's, documents that offlinepack reads back,
signatures, forms of tar, gzip and zip that readers take differently. Families like those of hostile_bundle.
"""

from __future__ import annotations

import base64
import copy
import csv
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from ..support.bundles import END, Parts, file, gz, header, pax, record
from .hostile_bundle import Hostile, both, parts_of, raw, replanned, with_wheels
from .hostile_wheel import FILENAME, INFO, STEM, Part, Zip, hashed, of, sound

# ------------------------------------------------------------------------- what offlinepack reads back: its own documents

NESTED = b"[" * 100_000
REHEARSALS: dict[str, bytes] = {
    "list": b"[]",
    "number": b"1",
    "no_json": b"{",
    "nested": NESTED,
    "nested_a_little": b'{"schema": 1, "targets": [], "x": ' + b"[" * 500 + b"]" * 500 + b"}",
    "no_schema": b'{"targets": []}',
    "no_targets": b'{"schema": 1}',
    "targets_number": b'{"schema": 1, "targets": 5}',
    "targets_strings": b'{"schema": 1, "targets": ["a"]}',
    "targets_null": b'{"schema": 1, "targets": [null]}',
    "no_tag": b'{"schema": 1, "targets": [{"verdict": "runs"}]}',
    "other_tag": b'{"schema": 1, "targets": [{"tag": "cp27-win32", "verdict": "runs", "forecast": []}]}',
    "not_utf8": b'{"schema": 1, "targets": ["\xff"]}',
    "keys_twice": b'{"schema": 1, "targets": [], "targets": []}',
    "not_a_number": b'{"schema": 1, "targets": [], "x": NaN}',
    "too_long": b'{"schema": 1, "targets": [], "x": "' + b"x" * (5 << 20) + b'"}',
}
VERDICTS: dict[str, dict[str, Any]] = {
    "verdict_list": {"verdict": ["fails"], "forecast": []},
    "forecast_number": {"verdict": "runs", "forecast": 5},
    "forecast_string": {"verdict": "runs", "forecast": ["x"]},
    "sentence_number": {"verdict": "runs", "forecast": [{"sentence": 5, "advice": ""}]},
    "modules_list": {"verdict": "runs", "forecast": [], "modules": []},
    "twice": {"verdict": "runs", "forecast": []},
}
STORIES: dict[str, bytes] = {
    "list": b"[]",
    "no_json": b"hello",
    "nested": NESTED,
    "nested_source": (b'{"schema": 1, "source": ' * 300) + b"null" + b"}" * 300,
    "other_schema": b'{"schema": 2}',
    "schema_true": b'{"schema": true}',
    "origin_list": b'{"schema": 1, "origin": ["index"]}',
    "upload_time_number": b'{"schema": 1, "upload_time": 1e999}',
    "upload_time_object": b'{"schema": 1, "upload_time": {}}',
    "built_from_string": b'{"schema": 1, "built_from": "x"}',
    "built_from_numbers": b'{"schema": 1, "built_from": {"name": 5}}',
    "source_string": b'{"schema": 1, "source": "x"}',
    "source_wrong_inside": b'{"schema": 1, "source": {"yanked_reason": 7}}',
    "hashes_list": b'{"schema": 1, "hashes": []}',
    "attestations_object": b'{"schema": 1, "attestations": {"a": 1}}',
    "attestations_publisher": b'{"schema": 1, "attestations": [{"publisher": "x"}]}',
    "attestations_kind": b'{"schema": 1, "attestations": [{"publisher": {"kind": 5}}]}',
    "status_number": b'{"schema": 1, "status": 5}',
    "other_sha256": b'{"schema": 1, "sha256": "' + b"0" * 64 + b'"}',
    "too_long": b'{"schema": 1, "x": "' + b"x" * (5 << 20) + b'"}',
}


def added(base: Parts, path: str, data: bytes, kind: str = "document") -> Parts:
    parts = parts_of(base)
    parts.files[path] = data
    parts.manifest["files"] = [one for one in parts.manifest["files"] if one["path"] != path] + [
        {"path": path, "kind": kind}
    ]
    return parts.rehashed()


def evidence(base: Parts) -> Iterator[Hostile]:
    for label, data in REHEARSALS.items():
        yield both(f"rehearsal_{label}", added(base, "rehearsal.json", data), host_only=True)
    tag = base.manifest["targets"][0]["tag"]
    for label, said in VERDICTS.items():
        listed = [{"tag": tag, **said}] * (2 if label == "twice" else 1)
        data = json.dumps({"schema": 1, "targets": listed}).encode()
        yield both(f"rehearsal_{label}", added(base, "rehearsal.json", data), host_only=True)
    for label, data in STORIES.items():
        yield both(f"provenance_{label}", added(base, f"provenance/{FILENAME}.json", data), host_only=True)


# ------------------------------------------------------------------------------------------- larger than honest ones


def listing(base: Parts, count: int, name: Callable[[int], str]) -> bytes:
    """A manifest that lists so many empty files besides."""
    manifest = copy.deepcopy(base.manifest)
    empty = {"kind": "included", "sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    manifest["files"] += [{**empty, "path": name(one)} for one in range(count)]
    manifest["files"].sort(key=lambda one: one["path"])
    return (json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode()


def claiming(base: Parts, path: str, size: int) -> bytes:
    """A manifest that says that these files are so large, as if zeros were behind them."""
    manifest = copy.deepcopy(base.manifest)
    for one in manifest["files"]:
        one["size"] = size if one["path"].startswith(path) else one["size"]
    return (json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode()


def many(count: int) -> bytes:
    """A wheel with so many empty files besides, as zip64."""
    parts = (*sound(), *(Part(b"%x" % one, method=0) for one in range(count)))
    data = Zip(parts, end={"here": 0xFFFF, "count": 0xFFFF}).bytes()
    length, start = struct.unpack("<2I", data[-10:-2])
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(parts), len(parts), length, start)
    return data[:-22] + end64 + struct.pack("<4sIQI", b"PK\6\7", 0, len(data) - 22, 1) + data[-22:]


def limits(base: Parts) -> Iterator[Hostile]:
    deep = listing(base, 28_000, lambda one: f"files/{one:05}/" + "/".join("abcdefghijklmnopqrstuvwxyz" * 4))
    yield raw("limits_deep_paths", base, deep)
    yield raw("limits_many_files", base, listing(base, 50_000, lambda one: f"files/{one:06}"))
    yield raw("limits_gibibyte_of_sums", base, claiming(base, "SHA256SUMS", 1 << 30))
    yield raw("limits_gibibytes_of_many", base, claiming(base, "", 256 << 20))
    yield raw("limits_same_file_often", base, listing(base, 50_000, lambda one: "files/x"))

    def targets(count: int, parts: Parts) -> Parts:
        first = parts.manifest["targets"][0]
        parts.manifest["targets"] += [
            {**copy.deepcopy(first), "tag": f"{first['tag']}_{one}", "name": f"n{one}"} for one in range(count)
        ]
        return parts

    yield both("limits_1000_targets", replanned(targets(1000, parts_of(base))))
    yield both("limits_members", with_wheels(base, stone=(FILENAME, many(200_001))))
    rows = "\n" * (40 << 20)
    yield both("limits_record_lines", with_wheels(base, stone=(FILENAME, of(record_bytes=rows.encode()).bytes())))
    rows = "a\n" * (3 << 20)
    yield both("limits_record_rows", with_wheels(base, stone=(FILENAME, of(record_bytes=rows.encode()).bytes())))
    rows = "".join(f"{one:x},,\n" for one in range(500_000))
    yield both("limits_record_strange", with_wheels(base, stone=(FILENAME, of(record_bytes=rows.encode()).bytes())))
    text = b"Metadata-Version: 2.1\nName: stone\nVersion: 1.0\n"
    large = text + b"X: y\n" * (8 << 20)
    yield both("limits_metadata", with_wheels(base, stone=(FILENAME, of(metadata=large).bytes())))
    names = text + b"Name: x\n" * 500_000
    yield both("limits_metadata_names", with_wheels(base, stone=(FILENAME, of(metadata=names).bytes())))
    points = b"[console_scripts]\n" * 400_000
    yield both("limits_entry_point_sections", with_wheels(base, stone=(FILENAME, of(entry_points=points).bytes())))
    points = b"[console_scripts]\n" + b"../x = stone:main\n" * 200_000
    yield both("limits_entry_points", with_wheels(base, stone=(FILENAME, of(entry_points=points).bytes())))
    points = b"[console_scripts]\n" + b"".join(b"x%d = stone:main\n" % (one % 7) for one in range(200_000))
    yield both("limits_entry_points_same", with_wheels(base, stone=(FILENAME, of(entry_points=points).bytes())))
    reference = b"[console_scripts]\nx = " + b"a." * 200_000 + b":\n"
    yield both("limits_entry_point_long", with_wheels(base, stone=(FILENAME, of(entry_points=reference).bytes())))
    lock = next(path for path in base.files if path.startswith("pylock."))
    for label, line in (
        ("dots", "a." * 3000 + "a = 1\n"),
        ("nested", "a = " + "[" * 3000 + "]" * 3000 + "\n"),
        ("tables", "".join(f"[a{'.b' * one}]\n" for one in range(90))),
        ("inline", "a = " + "{a=" * 2000 + "1" + "}" * 2000 + "\n"),
        ("string", 'a = "' + "\\u0041" * 1500 + '"\n'),
    ):
        parts = parts_of(base)
        parts.files[lock] = line.encode() + parts.files[lock]
        yield both(f"limits_pylock_{label}", parts.rehashed(), host_only=True)


# ------------------------------------------------------------------------------------------------------- signatures


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def armored(blob: bytes, width: int = 70) -> bytes:
    lines = base64.b64encode(blob)
    body = b"".join(lines[at : at + width] + b"\n" for at in range(0, len(lines), width))
    return b"-----BEGIN SSH SIGNATURE-----\n" + body + b"-----END SSH SIGNATURE-----\n"


def blob(
    kind: bytes = b"ssh-ed25519",
    *,
    key: bytes | None = None,
    namespace: bytes = b"offlinepack",
    reserved: bytes = b"",
    algorithm: bytes = b"sha512",
    value: bytes | None = None,
) -> bytes:
    key = string(kind) + string(b"\1" * 32) if key is None else key
    value = string(kind) + string(b"\2" * 64) if value is None else value
    parts = (key, namespace, reserved, algorithm, value)
    return b"SSHSIG\0\0\0\1" + b"".join(map(string, parts))


SIGNATURES: dict[str, bytes] = {
    "empty": b"",
    "too_long": armored(bytes(60_000)),
    "endless": b"-----BEGIN SSH SIGNATURE-----\n" + b"\n" * 60_000 + b"-----END SSH SIGNATURE-----\n",
    "hash_md5": armored(blob(algorithm=b"md5")),
    "hash_unknown": armored(blob(algorithm=b"nonsense")),
    "hash_shake": armored(blob(algorithm=b"shake_128")),
    "hash_empty": armored(blob(algorithm=b"")),
    "hash_not_ascii": armored(blob(algorithm=b"\xff\xfe")),
    "key_of_small_order": armored(blob(key=string(b"ssh-ed25519") + string(b"\1" + bytes(31)), value=string(b"ssh-ed25519") + string(bytes(64)))),
    "key_short": armored(blob(key=string(b"ssh-ed25519") + string(b"\1"))),
    "key_empty": armored(blob(key=b"")),
    "key_large": armored(blob(key=string(b"ssh-ed25519") + string(b"\xff" * 32))),
    "value_short": armored(blob(value=string(b"ssh-ed25519") + string(b"\2"))),
    "value_empty": armored(blob(value=b"")),
    "value_of_another_kind": armored(blob(value=string(b"ssh-rsa") + string(b"\2" * 64))),
    "kind_unknown": armored(blob(b"ssh-dss")),
    "kind_empty": armored(blob(b"")),
    "kind_rsa_garbage": armored(blob(b"ssh-rsa")),
    "kind_ecdsa_garbage": armored(blob(b"ecdsa-sha2-nistp256")),
    "kind_token": armored(blob(b"sk-ssh-ed25519@openssh.com")),
    "kind_certificate": armored(blob(b"ssh-ed25519-cert-v01@openssh.com")),
    "kind_controls": armored(blob(b"ssh-\x1b[2J")),
    "lengths_huge": armored(b"SSHSIG\0\0\0\1" + b"\xff\xff\xff\xff" * 5),
    "namespace_empty": armored(blob(namespace=b"")),
    "namespace_long": armored(blob(namespace=b"x" * 30_000)),
    "armor_other": armored(blob()).replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
    "armor_text_before": b"hello\n" + armored(blob()),
    "armor_lines_of_one": armored(blob(), 1),
}  # fmt: skip


def signatures(base: Parts) -> Iterator[Hostile]:
    for label, data in SIGNATURES.items():
        for name in ("manifest.json.sig", "manifest.json.2.sig"):
            if name.endswith(".2.sig") and label not in ("hash_unknown", "kind_token", "empty"):
                continue
            parts = parts_of(base)
            members = parts.members()
            given = parts.signatures if name != "manifest.json.sig" else {}
            first = {"manifest.json": parts.data, **given, name: data}
            start = b"".join(file(f"{parts.folder}/{path}", content) for path, content in first.items())
            tar = start + b"".join(members[1:]) + END

            def made(folder: Any, name: str = name, data: bytes = data, parts: Parts = parts) -> None:
                parts.unpacked(folder)
                (folder / name).write_bytes(data)

            yield Hostile(f"signature_{label}_{name}", parts.data, lambda tar=tar: gz(tar, 1), made)  # type: ignore[misc]


# ---------------------------------------------------------------------------------------- forms of tar, gzip and zip


def of_tar(name: str, base: Parts, change: Callable[[Parts], bytes]) -> Hostile:
    parts = parts_of(base)
    return Hostile(f"form_{name}", parts.data, lambda: change(parts))


def replaced(parts: Parts, **fields: Any) -> bytes:
    return gz(parts.replaced("README.txt", file(f"{parts.folder}/README.txt", parts.files["README.txt"], **fields)), 1)


def signed_sum(block: bytes) -> bytes:
    """The checksum as some old tars summed it: bytes as signed numbers."""
    blank = block[:148] + b" " * 8 + block[156:]
    return b"%06o\0 " % (sum(one - 256 if one > 127 else one for one in blank) & 0o777777)


def forms(base: Parts) -> Iterator[Hostile]:
    def readme(parts: Parts) -> bytes:
        return parts.files["README.txt"]

    yield of_tar("global_header_first", base, lambda p: gz(pax(record("path", "evil"), kind=b"g") + p.tar()))
    yield of_tar(
        "global_comment",
        base,
        lambda p: gz(p.first() + pax(record("comment", "x"), kind=b"g") + p.tar()[len(p.first()) :]),
    )
    yield of_tar("size_with_spaces", base, lambda p: replaced(p, length=b" " * 12))
    yield of_tar("size_signed", base, lambda p: replaced(p, length=b"+0000000010\0"))
    yield of_tar("size_eights", base, lambda p: replaced(p, length=b"00000000089\0"))
    yield of_tar("size_base256_negative", base, lambda p: replaced(p, length=b"\xff" * 12))
    yield of_tar("time_negative", base, lambda p: replaced(p, time=b"-0000000001\0"))
    yield of_tar("version_other", base, lambda p: replaced(p, magic=b"ustar\0  "))
    yield of_tar("star_magic", base, lambda p: replaced(p, rest=b"\0" * 8 + b"tar\0"))
    yield of_tar("gnu_times", base, lambda p: replaced(p, prefix=b"\0" + b"14571234567\0"))
    yield of_tar("link_to_the_manifest", base, lambda p: gz(p.replaced(
        "README.txt", header(f"{p.folder}/README.txt", 0, kind=b"1", link=f"{p.folder}/manifest.json".encode()))))  # fmt: skip
    yield of_tar("checksum_signed", base, lambda p: gz(p.replaced(
        "README.txt", (lambda b: b[:148] + signed_sum(b) + b[156:])(header("n\u00e9", len(readme(p)))) + b"")))  # fmt: skip
    yield of_tar("long_name_then_file", base, lambda p: gz(p.replaced(
        "README.txt", file("././@LongLink", f"{p.folder}/README.txt\0".encode(), kind=b"L") + file("x", readme(p)))))  # fmt: skip
    yield of_tar("sparse_1_0", base, lambda p: gz(p.replaced(
        "README.txt", pax(record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0"),
                          record("GNU.sparse.realsize", "99999999")) + file("x", readme(p)))))  # fmt: skip
    yield of_tar("pax_charset", base, lambda p: gz(p.replaced(
        "README.txt", pax(record("hdrcharset", "ISO-IR 10646 2000 UTF-8"), record("path", f"{p.folder}/README.txt"))
        + file("x", readme(p)))))  # fmt: skip
    yield of_tar("pax_path_with_equals", base, lambda p: gz(p.replaced(
        "README.txt", pax(record("path", f"{p.folder}/README.txt=x")) + file("x", readme(p)))))  # fmt: skip
    yield of_tar(
        "pax_bidi",
        base,
        lambda p: gz(p.tar(pax(record("path", f"{p.folder}/files/\u202etxt.exe")) + file("x", b"boo"))),
    )
    yield of_tar("signature_after_a_file", base, lambda p: gz(b"".join(
        [p.members()[0], p.members()[1], file(f"{p.folder}/manifest.json.2.sig", b"x"), *p.members()[2:]]) + END))  # fmt: skip
    yield of_tar("signature_twice", base, lambda p: gz(
        p.first() + file(f"{p.folder}/manifest.json.2.sig", b"x") * 2 + b"".join(p.members()[1:]) + END))  # fmt: skip
    yield of_tar("signature_of_8_gib", base, lambda p: gz(
        p.first() + header(f"{p.folder}/manifest.json.2.sig", 0, length=b"77777777777\0") + bytes(4096)))  # fmt: skip
    yield of_tar(
        "manifest_of_8_gib",
        base,
        lambda p: gz(header(f"{p.folder}/manifest.json", 0, length=b"77777777777\0") + bytes(4096)),
    )
    yield of_tar("manifest_is_a_link", base, lambda p: gz(
        header(f"{p.folder}/manifest.json", 0, kind=b"2", link=b"/etc/passwd") + p.tar()))  # fmt: skip
    yield of_tar("manifest_with_pax_path", base, lambda p: gz(
        pax(record("path", "../../x/manifest.json")) + p.tar()))  # fmt: skip
    yield of_tar("bzip2", base, lambda p: __import__("bz2").compress(p.tar()))
    yield of_tar("xz", base, lambda p: __import__("lzma").compress(p.tar()))
    yield of_tar("gzip_in_gzip", base, lambda p: gz(gz(p.tar())))
    yield of_tar("deflate_dictionary", base, lambda p: gz(p.tar())[:10] + zlib.compress(p.tar())[2:-4] + bytes(8))
    yield of_tar("trailer_cut", base, lambda p: gz(p.tar())[:-1])
    yield of_tar("trailer_of_another", base, lambda p: gz(p.tar())[:-8] + gz(p.first())[-8:])
    yield of_tar("endless_flush", base, lambda p: endless(p.tar()))


def endless(data: bytes) -> bytes:
    """Twenty million bytes that say nothing: empty blocks of deflate, one after the other."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\0\0\0\xff\xff" * (4 << 20) + data


# ------------------------------------------------------------------------------------------------------------ wheels


def rewritten(rows: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([row.split(",") for row in rows])
    return out.getvalue()


PLACES = {
    "egg_link_of_moss": "moss.egg-link",
    "data_bin_python_deep": f"{STEM}.data/data/bin/python3.11/x",
    "scripts_dot_path": f"{STEM}.data/scripts/./python",
    "scripts_pip_exe_upper": f"{STEM}.data/scripts/PIP3.EXE",
    "scripts_python_w": f"{STEM}.data/scripts/Pythonw.exe",
    "data_lib64_as_file": f"{STEM}.data/data/lib64",
    "data_include_as_file": f"{STEM}.data/data/include",
    "scheme_upper": f"{STEM}.data/SCRIPTS/python",
    "scheme_platstdlib": f"{STEM}.data/platstdlib/os.py",
    "data_of_other_version": "stone-2.0.data/purelib/../x.py",
    "nested_data": f"{STEM}.data/data/{STEM}.data/../../x",
    "dist_info_of_pip": "pip-26.0.dist-info/RECORD",
    "info_upper": f"{INFO.upper()}/RECORD",
    "pyvenv_cfg_deep": f"{STEM}.data/data/pyvenv.cfg/x",
    "tilde_parent": "stone/..\\..\\x.py",
    "unc": "\\\\server\\share\\x",
    "bidi_override": "stone/\u2066evil\u2069.py",
    "zero_width": "stone/\u200bx.py",
    "private_use": "stone/\ue000.py",
    "tag_characters": "stone/\U000e0041.py",
    "nbsp": "stone/\u00a0",
    "no_character": "stone/\ufffe.py",
}
LIES: dict[str, dict[str, Any]] = {
    "wheel_version_space": {"wheel": b"Wheel-Version: 1.0 \x0b2.0\nRoot-Is-Purelib: true\n"},
    "wheel_version_negative": {"wheel": b"Wheel-Version: -1.0\nRoot-Is-Purelib: true\n"},
    "wheel_version_twice": {"wheel": b"Wheel-Version: 1.0\nWheel-Version: 2.0\nRoot-Is-Purelib: true\n"},
    "wheel_empty": {"wheel": b""},
    "metadata_name_of_two": {"metadata": b"Metadata-Version: 2.1\nName: stone, moss\nVersion: 1.0\n"},
    "metadata_version_of_two": {"metadata": b"Metadata-Version: 2.1\nName: stone\nVersion: 1.0 2.0\n"},
    "metadata_version_folded": {"metadata": b"Metadata-Version: 2.1\nName: stone\nVersion: 1.0\n .1\nVersion: 1.0\n"},
    "metadata_utf16": {"metadata": "Metadata-Version: 2.1\nName: stone\nVersion: 1.0\n".encode("utf-16")},
    "metadata_bom": {"metadata": b"\xef\xbb\xbfName: stone\nVersion: 1.0\n"},
    "metadata_after_a_blank_line": {"metadata": b"\nMetadata-Version: 2.1\nName: stone\nVersion: 1.0\n"},
    "metadata_after_no_header": {"metadata": b"Metadata-Version: 2.1\nhello\nName: stone\nVersion: 1.0\n"},
    "metadata_name_folded": {"metadata": b"Metadata-Version: 2.1\nName: stone\n evil\nVersion: 1.0\n"},
    "wheel_after_a_blank_line": {"wheel": b"\nWheel-Version: 1.0\nRoot-Is-Purelib: true\n"},
    "wheel_version_folded": {"wheel": b"Wheel-Version: 1.0\n\t2.0\nRoot-Is-Purelib: true\n"},
    "entry_points_section_twice": {"entry_points": b"[console_scripts]\na = stone:main\n[console_scripts]\nb = stone:main\n"},
    "entry_points_no_utf8": {"entry_points": b"[console_scripts]\nx\xff = stone:main\n"},
    "entry_points_very_long": {"entry_points": b"[console_scripts]\n" + b"x" * 300 + b" = stone:main\n"},
    "record_quoted_newline": {"record_bytes": b'"stone/__init__\n.py",,\n'},
    "record_quoted_quote": {"record_bytes": b'"stone/__init__"".py",,\n'},
    "record_tabs": {"record": lambda rows: [row.replace(",", "\t") for row in rows]},
    "record_semicolons": {"record": lambda rows: [row.replace(",", ";") for row in rows]},
    "record_utf16": {"record_bytes": "stone/__init__.py,,\n".encode("utf-16")},
    "record_size_negative": {"record": lambda rows: [row[:-1] + "-6" if row.startswith("stone/") else row for row in rows]},
    "record_size_float": {"record": lambda rows: [row + ".0" if row.startswith("stone/") else row for row in rows]},
    "record_size_zeros": {"record": lambda rows: [row[:-1] + "06" if row.startswith("stone/") else row for row in rows]},
    "record_backslashes": {"record": lambda rows: [row.replace("stone/", "stone\\") for row in rows]},
    "record_dot_slash": {"record": lambda rows: ["./" + row for row in rows]},
    "record_absolute": {"record": lambda rows: ["/" + row for row in rows]},
    "record_upper_hash": {"record": lambda rows: [row.replace("sha256=", "SHA256=") for row in rows]},
    "record_md5_of_metadata": {"record": lambda rows: [
        f"{INFO}/METADATA,{hashed(b'', 'md5')}," if "METADATA" in row else row for row in rows]},
    "entry_points_extra_reference": {"entry_points": b"[console_scripts]\nx = stone:main [a\n"},
    "entry_points_unicode_slash": {"entry_points": "[console_scripts]\na\u2028b = stone:main\n".encode()},
    "entry_points_call": {"entry_points": b"[console_scripts]\nx = stone:main()\n"},
    "entry_points_lambda": {"entry_points": b"[console_scripts]\nx = stone:(lambda: 1)\n"},
    "entry_points_newline_by_return": {"entry_points": b"[console_scripts]\rx = os\rimport evil:main\n"},
    "entry_points_nul": {"entry_points": b"[console_scripts]\nx = stone:ma\0in\n"},
    "entry_points_activate": {"entry_points": b"[gui_scripts]\nactivate = stone:main\n"},
    "entry_points_pip_exe": {"entry_points": b"[console_scripts]\npip.exe = stone:main\n"},
    "entry_points_python_dot": {"entry_points": b"[console_scripts]\npython3.99 = stone:main\n"},
    "entry_points_same_twice": {"entry_points": b"[console_scripts]\nx = stone:main\nX = stone:other\n"},
}  # fmt: skip


def more_wheels(base: Parts) -> Iterator[Hostile]:
    for label, path in PLACES.items():
        yield both(f"wheel_place_{label}", with_wheels(base, stone=(FILENAME, of(files={path: b"evil"}).bytes())))
    for label, settings in LIES.items():
        yield both(f"wheel_says_{label}", with_wheels(base, stone=(FILENAME, of(**settings).bytes())))
    good = of().bytes()
    end = good[-22:]
    for label, data in (
        ("comment_with_an_end", Zip(sound(), comment=end).bytes()),
        ("two_archives", good + good),
        ("shell_before", b"#!/bin/sh\nexit 1\n" + good),
        ("exe_before", b"MZ" + bytes(62) + good),
        ("end_of_another", good[:-22] + of(files={"x": b""}).bytes()[-22:]),
        ("comment_length_beyond", good[:-2] + b"\xff\xff"),
        ("spanned", b"PK\x07\x08" + good),
    ):
        yield both(f"wheel_form_{label}", with_wheels(base, stone=(FILENAME, data)))
    cases: dict[str, Any] = {
        "time_local": {"local": {"name": b"stone/__init__.py\0"}},
        "flag_utf8_only_local": {"local": {"flags": 0x800}},
        "version_needed_none": {"central": {"flags": 0x0001}},
        "extra_name_local": {"local": {"extra": struct.pack("<HHBI", 0x7075, 9, 1, 0) + b"evil"}},
        "method_local": {"central": {"method": 12}},
        "size_all_ones": {"central": {"size": 0xFFFFFFFF}},
        "offset_all_ones": {"central": {"offset": 0xFFFFFFFF}},
    }
    for label, fields in cases.items():
        parts = list(sound())
        parts[0] = Part(parts[0].name, parts[0].data, **fields)
        yield both(f"wheel_header_{label}", with_wheels(base, stone=(FILENAME, Zip(tuple(parts)).bytes())))


FAMILIES = (evidence, limits, signatures, forms, more_wheels)
