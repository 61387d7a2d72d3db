"""manifest.json: what was written is read again; everything else is refused in one sentence, quickly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offlinepack.ontarget.errors import BundleError
from offlinepack.ontarget.manifest import parse_manifest, serialize_manifest

DOCUMENT = {"path": "SHA256SUMS", "size": 5, "sha256": "0" * 64, "kind": "document"}
FILE = {
    **DOCUMENT,
    "path": "wheels/stone-1.0-py3-none-any.whl",
    "kind": "wheel",
    "record_sha256": "1" * 64,
    "accepted_record": False,
}
PYTHON = {"file": "python/cpython-3.11.14.tar.gz", "version": "3.11.14", "build": "20251120"}
SOUND: dict[str, Any] = {
    "format": 1,
    "name": "notes",
    "version": "1.2",
    "sequence": 7,
    "install_to": "/srv/notes/venv",
    "targets": [
        {
            "name": "debian12",
            "tag": "cp311-manylinux_2_36_x86_64",
            "facts": {
                "implementation": "cpython",
                "python": "3.11",
                "free_threaded": False,
                "os": "linux",
                "machine": "x86_64",
                "libc": "glibc",
                "libc_version": "2.36",
                "macos_version": None,
            },
            "python_min": "3.11",
            "cpu": "x86-64-v3",
            "python": PYTHON,
            "install": [
                {
                    "name": "stone",
                    "version": "1.0",
                    "file": FILE["path"],
                    "requires": [],
                    "requested": True,
                    "built_from": None,
                }
            ],
            "tools": [{"name": "pip", "version": "26.3", "file": "tools/pip-26.3-py3-none-any.whl"}],
            "needs": [{"soname": "libGL.so.1", "symbols": [], "wanted_by": ["stone"], "help": "apt install libgl1"}],
        }
    ],
    "files": [
        DOCUMENT,
        {**DOCUMENT, "path": PYTHON["file"], "kind": "python"},
        {**FILE, "path": "tools/pip-26.3-py3-none-any.whl", "kind": "tool"},
        FILE,
    ],
}
Change = Callable[[dict[str, Any]], Any]


def canonical(plain: Any) -> bytes:
    return (json.dumps(plain, sort_keys=True, indent=1) + "\n").encode()


def changed(change: Change) -> bytes:
    plain = json.loads(json.dumps(SOUND))
    back = change(plain)
    return canonical(plain if back is None else back)


def refused(data: bytes) -> str:
    began = time.process_time()
    with pytest.raises(BundleError) as caught:
        parse_manifest(data)
    assert time.process_time() - began < 3
    assert caught.value.exit_code == 9 and len(caught.value.findings) == 1
    said = caught.value.findings[0].render()
    assert said.isprintable() and len(said) < 700
    return said


def test_what_was_written_is_read() -> None:
    data = canonical(SOUND)
    manifest = parse_manifest(data)
    assert serialize_manifest(manifest) == data
    assert manifest.folder == "notes-1.2" and manifest.targets[0].facts.libc_version == "2.36"
    assert [one.path for one in manifest.list_files(manifest.targets[0])] == [
        "tools/pip-26.3-py3-none-any.whl",
        FILE["path"],
    ]


def put(*keys: Any) -> Change:
    """The last of `keys` is the value, the others lead to its place."""
    *way, last, value = keys

    def change(plain: Any) -> None:
        for key in way:
            plain = plain[key]
        plain[last] = value

    return change


def drop(*keys: Any) -> Change:
    *way, last = keys

    def change(plain: Any) -> None:
        for key in way:
            plain = plain[key]
        del plain[last]

    return change


T, D, F, W = ("targets", 0), ("targets", 0, "install", 0), ("files", 0), ("files", 3)
WRONG: list[tuple[str, Change, str]] = [
    ("no_object", lambda plain: [plain], "exactly the keys"),
    ("null", lambda plain: "null", "exactly the keys"),
    ("empty", lambda plain: {}, "exactly the keys"),
    ("unknown_key", put("more", 1), "exactly the keys"),
    ("missing_key", drop("sequence"), "exactly the keys"),
    ("unknown_key_of_a_target", put(*T, "run", "x"), "exactly the keys"),
    ("missing_key_of_a_target", drop(*T, "needs"), "exactly the keys"),
    ("unknown_key_of_a_file", put(*F, "mode", 1), "exactly the keys"),
    ("unknown_key_of_a_distribution", put(*D, "post_install", "rm"), "exactly the keys"),
    ("unknown_key_of_facts", put(*T, "facts", "x", 1), "exactly the keys"),
    ("format_0", put("format", 0), "format"),
    ("format_true", put("format", True), "format"),
    ("format_text", put("format", "1"), "format"),
    ("format_list", put("format", [1]), "format"),
    ("name_upper", put("name", "Notes"), "name"),
    ("name_parent", put("name", "../x"), "name"),
    ("name_empty", put("name", ""), "name"),
    ("name_newline", put("name", "notes\n"), "name"),
    ("name_null", put("name", None), "name"),
    ("version_parent", put("version", "../../x"), "version"),
    ("version_slash", put("version", "1/2"), "version"),
    ("version_option", put("version", "--evil"), "version"),
    ("version_newline", put("version", "1.0\nevil==1"), "version"),
    ("version_space", put("version", "1.0 --hash=x"), "version"),
    ("version_dot_at_the_end", put("version", "1.0."), "version"),
    ("sequence_negative", put("sequence", -1), "whole numbers"),
    ("sequence_text", put("sequence", "1"), "sequence"),
    ("sequence_true", put("sequence", True), "sequence"),
    ("sequence_huge", put("sequence", 1 << 60), "whole numbers"),
    ("install_to_control", put("install_to", "/srv/\x1b[2J"), "install_to"),
    ("install_to_surrogate", put("install_to", "/srv/\ud800"), "install_to"),
    ("install_to_long", put("install_to", "/" + "a" * 600), "install_to"),
    ("install_to_list", put("install_to", ["/srv"]), "install_to"),
    ("no_targets", put("targets", []), "one to 999"),
    ("targets_object", put("targets", {}), "a list"),
    ("targets_null", put("targets", None), "a list"),
    ("target_twice", lambda plain: plain["targets"].append(plain["targets"][0]), "each tag once"),
    ("target_text", put("targets", ["debian12"]), "exactly the keys"),
    ("tag_path", put(*T, "tag", "cp311-../../x"), "tag"),
    ("tag_dot", put(*T, "tag", "cp311-manylinux_2.36"), "tag"),
    ("tag_newline", put(*T, "tag", "cp311-linux_x86_64\n"), "tag"),
    ("target_name_control", put(*T, "name", "debian\n12"), "name"),
    ("python_word", put(*T, "facts", "python", "three"), "python"),
    ("python_long", put(*T, "facts", "python", "3.11.99999"), "python"),
    ("python_min", put(*T, "python_min", ">=3.8"), "python_min"),
    ("free_threaded_number", put(*T, "facts", "free_threaded", 0), "free_threaded"),
    ("os", put(*T, "facts", "os", "Linux"), "os"),
    ("machine", put(*T, "facts", "machine", "x86-64"), "machine"),
    ("libc_missing", put(*T, "facts", "libc", None), "libc and its version"),
    ("libc_elsewhere", put(*T, "facts", "os", "windows"), "libc and its version"),
    ("libc_version", put(*T, "facts", "libc_version", "2.36.1"), "libc_version"),
    ("distribution_name", put(*D, "name", "Stone_Age"), "name"),
    ("distribution_name_option", put(*D, "name", "-r"), "name"),
    ("distribution_version_injection", put(*D, "version", "1.0\n--index-url http://evil"), "version"),
    ("distribution_version_hash", put(*D, "version", "1.0;x"), "version"),
    ("distribution_twice", lambda plain: plain["targets"][0]["install"].append(plain["targets"][0]["install"][0]), "once"),
    ("distribution_not_listed", put(*D, "file", "wheels/moss-1.0-py3-none-any.whl"), "listed as wheel or sdist"),
    ("distribution_a_document", put(*D, "file", "SHA256SUMS"), "listed as wheel or sdist"),
    ("distribution_a_tool", put(*D, "file", "tools/pip-26.3-py3-none-any.whl"), "listed as wheel or sdist"),
    ("distribution_outside", put(*D, "file", "../../etc/passwd"), "file"),
    ("distribution_needs_what_is_not_there", put(*D, "requires", ["moss"]), "only what is installed"),
    ("requires_text", put(*D, "requires", "stone"), "a list"),
    ("requested_null", put(*D, "requested", None), "requested"),
    ("built_from_list", put(*D, "built_from", []), "built_from"),
    ("built_from_nested", put(*D, "built_from", {"name": {"x": "y"}}), "built_from"),
    ("tool_not_listed", put(*T, "tools", 0, "file", "tools/x.whl"), "listed as tool or wheel"),
    ("tool_a_document", put(*T, "tools", 0, "file", "SHA256SUMS"), "listed as tool or wheel"),
    ("need_control", put(*T, "needs", 0, "help", "apt install\x1b[31m"), "help"),
    ("need_soname_empty", put(*T, "needs", 0, "soname", ""), "soname"),
    ("files_object", put("files", {}), "a list"),
    ("files_empty", put("files", []), "listed as"),
    ("carried", put(*F, "carried", True), "exactly the keys"),
    ("document_with_record", put(*F, "record_sha256", "0" * 64), "exactly the keys"),
    ("wheel_without_record", drop(*W, "record_sha256"), "exactly the keys"),
    ("wheel_without_accepted_record", drop(*W, "accepted_record"), "exactly the keys"),
    ("tool_without_record", drop("files", 2, "record_sha256"), "exactly the keys"),
    ("record_null", put(*W, "record_sha256", None), "record_sha256"),
    ("record_short", put(*W, "record_sha256", "1" * 63), "record_sha256"),
    ("accepted_record_text", put(*W, "accepted_record", "no"), "accepted_record"),
    ("cpu_unknown", put(*T, "cpu", "x86-64-v5"), "cpu"),
    ("cpu_empty", put(*T, "cpu", ""), "cpu"),
    ("cpu_missing", drop(*T, "cpu"), "exactly the keys"),
    ("python_text", put(*T, "python", "3.11.14"), "exactly the keys"),
    ("python_not_listed", put(*T, "python", "file", "python/other.tar.gz"), "listed as python"),
    ("python_a_wheel", put(*T, "python", "file", FILE["path"]), "listed as python"),
    ("python_without_patch", put(*T, "python", "version", "3.11"), "version"),
    ("python_build_empty", put(*T, "python", "build", ""), "build"),
    ("python_in_no_plan", put(*T, "python", None), "in the plan"),
    ("file_in_no_plan", lambda plain: plain["files"].append({**FILE, "path": "wheels/tuff-1.0-py3-none-any.whl"}), "in the plan"),
    ("tool_in_no_plan", lambda plain: plain["targets"][0].update(tools=[]), "in the plan"),
    ("target_installs_nothing", lambda plain: plain["targets"][0].update(install=[]), "one distribution at least"),
    ("file_twice", lambda plain: plain["files"].append(plain["files"][3]), "each path once"),
    ("file_case", lambda plain: plain["files"].insert(0, {**FILE, "path": "SHA256sums"}), "each path once"),
    ("file_manifest", lambda plain: plain["files"].insert(1, {**FILE, "path": "manifest.json"}), "each path once"),
    ("file_signature", lambda plain: plain["files"].insert(1, {**FILE, "path": "manifest.json.sig"}), "each path once"),
    ("file_manifest_case", lambda plain: plain["files"].insert(0, {**FILE, "path": "MANIFEST.JSON"}), "each path once"),
    ("file_and_folder", lambda plain: plain["files"].append({**FILE, "path": "tools"}), "not as a folder"),
    ("file_and_folder_case", lambda plain: plain["files"].insert(1, {**FILE, "path": "Wheels"}), "not as a folder"),
    ("files_not_in_order", lambda plain: plain["files"].reverse(), "in order"),
    *(
        (f"path_{label}", put(*F, "path", path), "path")
        for label, path in [
            ("parent", "../evil"), ("parent_inside", "wheels/../../evil"), ("absolute", "/etc/passwd"),
            ("empty", ""), ("dot", "."), ("dots", ".."), ("two_slashes", "wheels//x"), ("slash_at_the_end", "wheels/"),
            ("backslash", "wheels\\x"), ("drive", "C:/x"), ("stream", "README.txt:evil"), ("device", "files/CON"),
            ("device_with_suffix", "files/aux.txt"), ("dot_at_the_end", "files/x."), ("space_at_the_end", "files/x "),
            ("newline", "files/a\nb"), ("escape", "files/\x1b[2J"), ("nul", "files/a\0b"), ("bidi", "files/\u202ex"),
            ("surrogate", "files/\ud800"), ("not_normal", "files/e\u0301"), ("star", "files/*"), ("quote", 'files/"'),
            ("long", "files/" + "a" * 250), ("number", 5), ("null", None), ("list", ["x"]),
        ]
    ),
    ("size_negative", put(*F, "size", -5), "whole numbers"),
    ("size_huge", put(*F, "size", 10**17), "whole numbers"),
    ("size_text", put(*F, "size", "5"), "size"),
    ("size_null", put(*F, "size", None), "size"),
    ("sha256_upper", put(*F, "sha256", "A" * 64), "sha256"),
    ("sha256_short", put(*F, "sha256", "0" * 63), "sha256"),
    ("sha256_md5", put(*F, "sha256", "md5:" + "0" * 32), "sha256"),
    ("sha256_newline", put(*F, "sha256", "0" * 64 + "\n"), "sha256"),
    ("kind", put(*F, "kind", "script"), "kind"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "sentence"), WRONG, ids=[one[0] for one in WRONG])
def test_refused(name: str, change: Change, sentence: str) -> None:
    assert sentence in refused(changed(change))


GOOD = canonical(SOUND)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"{", "is not JSON"),
        (GOOD[:-30], "is not JSON"),
        (GOOD + b"{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "JSON|expected"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "JSON|expected"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": 7.0'), "whole numbers"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": 7e0'), "whole numbers"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": NaN'), "whole numbers"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": Infinity'), "whole numbers"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": -Infinity'), "whole numbers"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": ' + b"9" * 5000), "whole numbers"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": 07'), "is not JSON"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": 7, "sequence": 8'), "each key once"),
        (GOOD.replace(b'"name": "notes"', b'"name": "notes", "na\\u006de": "evil"'), "each key once"),
        (GOOD.replace(b'"requested": true', b'"requested": true, "requested": false'), "each key once"),
        (b"\xef\xbb\xbf" + GOOD, "JSON"),
        (GOOD[:-1], "canonical"),
        (GOOD + b"\n", "canonical"),
        (GOOD + b" ", "canonical"),
        (GOOD.replace(b"\n", b"\r\n"), "canonical"),
        (json.dumps(SOUND).encode(), "canonical"),
        (GOOD.replace(b'"notes"', b'"n\\u006ftes"'), "canonical"),
        (GOOD.replace(b'"sequence": 7', b'"sequence":  7'), "canonical"),
        (GOOD.replace(b'"sequence": 7', b'"sequence": /* 8 */ 7'), "JSON"),
        (canonical({**SOUND, "format": 2}), "This bundle has format 2"),
        (canonical({"format": 99, "everything": "else"}), "This bundle has format 99"),
        (b"{" + b",".join(b'"%d":1,"%d":1' % (one, one) for one in range(50_000)) + b"}", "each key once"),
        (b"[" + b"{}," * 200_000 + b"{}]", "exactly the keys"),
        (b" " * (17 << 20), "16 MiB"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_manifest(data: bytes, sentence: str) -> None:
    assert any(one in refused(data) for one in sentence.split("|"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject) -> None:
    """Or it is another manifest, whose signature does not fit; never anything but a BundleError."""
    flipped = bytearray(GOOD)
    flipped[data.draw(st.integers(0, len(GOOD) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        again = parse_manifest(bytes(flipped))
    except BundleError:
        return
    assert serialize_manifest(again) == bytes(flipped) != GOOD


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*SOUND, *FILE, "x"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(value=JSON, key=st.sampled_from([*SOUND]))
def test_nonsense_is_a_finding(value: Any, key: str) -> None:
    for plain in (value, {**SOUND, key: value}):
        try:
            data = (json.dumps(plain, sort_keys=True, indent=1) + "\n").encode("utf-8", "surrogatepass")
            parse_manifest(data)
        except BundleError:
            pass
