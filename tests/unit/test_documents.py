"""The texts of a bundle: what a person reads, and what other tools take orders from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.pylock import Pylock, is_valid_pylock_path
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from offlinepack.bundle.documents import check_document, make_pylock
from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import Finding, IntegrityError
from offlinepack.ontarget.manifest import Facts, File, Manifest

from ..support.bundles import WINDOWS, Parts, make_bundle, some_wheels, stored, taken_apart, target_of

TAG = "cp311-manylinux_2_36_x86_64"
PYLOCK, REQUIREMENTS = f"pylock.{TAG}.toml", f"requirements.{TAG}.txt"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Parts]:
    urls = {"stone-1.0-py3-none-any.whl": "https://files.example/packages/ab/cd/stone-1.0-py3-none-any.whl"}
    path, manifest = make_bundle(tmp_path_factory.mktemp("b"), urls=urls)
    return manifest, taken_apart(path)


def said(packed: tuple[Manifest, Parts], path: str) -> str:
    return packed[1].files[path].decode("utf-8-sig")


# ------------------------------------------------------------------------------------------------------ for people


@pytest.mark.parametrize("name", ["README.txt", "README.zh.txt"])
def test_each_line_ends_as_windows_wants_it(name: str, packed: tuple[Manifest, Parts]) -> None:
    data = packed[1].files[name]
    assert data.count(b"\n") == data.count(b"\r\n") > 50
    assert data.startswith(b"\xef\xbb\xbf") is (name == "README.zh.txt")


def test_the_english_one_is_ascii(packed: tuple[Manifest, Parts]) -> None:
    assert packed[1].files["README.txt"].isascii()


@pytest.mark.parametrize("name", ["README.txt", "README.zh.txt"])
def test_nothing_was_left_unfilled(name: str, packed: tuple[Manifest, Parts]) -> None:
    text = said(packed, name)
    assert not re.search(r"\$\w|\$\{|\{\w+\}", text.replace("$(", ""))
    assert "notes 1.2" in text
    assert "debian12" in text


@pytest.mark.parametrize("name", ["README.txt", "README.zh.txt"])
def test_each_exit_code_has_its_line(name: str, packed: tuple[Manifest, Parts]) -> None:
    codes = re.findall(r"^ {3,5}(\d+)  \S", said(packed, name), re.M)
    assert [int(one) for one in codes] == [*range(14), 130]


@pytest.mark.parametrize("name", ["README.txt", "README.zh.txt"])
def test_every_option_it_names_exists(name: str, packed: tuple[Manifest, Parts]) -> None:
    command = packed[1].files["ontarget/command.py"].decode()
    text = re.sub(r"^(ssh-keygen|\s+(uv|pip)) .*$", "", said(packed, name), flags=re.M)
    for option in set(re.findall(r"--[a-z-]+", text)):
        assert f'"{option}"' in command, option


@pytest.mark.parametrize("name", ["README.txt", "README.zh.txt"])
def test_the_hand_check_is_one_line_and_the_same(name: str, packed: tuple[Manifest, Parts]) -> None:
    (line,) = (one for one in said(packed, name).splitlines() if one.startswith("ssh-keygen"))
    assert line in said(packed, "README.txt").splitlines()
    assert "$(" in line
    assert "$$" not in line


def test_commands_are_those_of_the_targets_system(tmp_path: Path) -> None:
    wheels = some_wheels(tmp_path / "w")
    windows = target_of(wheels, WINDOWS, name="windows")
    both = make_bundle(tmp_path / "both", targets=[target_of(wheels), windows], stored=map(stored, wheels.values()))
    only = make_bundle(tmp_path / "only", targets=[windows], stored=map(stored, wheels.values()))
    text = [taken_apart(path).files["README.txt"].decode() for path, _ in (both, only)]
    assert "sh install.sh" in text[0]
    assert "install.cmd" in text[0]
    assert "sh install.sh" not in text[1]
    assert "DIR\\Scripts" in text[1]
    assert text[0].count("   - ") == 2


def test_the_default_place_is_named(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, install_to="/srv/notes/venv")
    assert "Without --venv it goes to /srv/notes/venv." in taken_apart(path).files["README.txt"].decode()


# ---------------------------------------------------------------------------------------------- for other tools


def test_requirements_are_pins_with_hashes(packed: tuple[Manifest, Parts]) -> None:
    manifest, parts = packed
    lines = said(packed, REQUIREMENTS).splitlines()
    assert lines[0].startswith("#")
    hashes = {one.path: one.sha256 for one in manifest.files}
    assert lines[1:] == [
        f"moss==2.0 --hash=sha256:{hashes['wheels/moss-2.0-py3-none-any.whl']}",
        f"stone==1.0 --hash=sha256:{hashes['wheels/stone-1.0-py3-none-any.whl']}",
    ]
    assert [Requirement(line.split(" --")[0]).name for line in lines[1:]] == ["moss", "stone"]
    assert parts.files[REQUIREMENTS].endswith(b"\n")


def test_the_lock_is_a_lock(packed: tuple[Manifest, Parts]) -> None:
    assert is_valid_pylock_path(Path(PYLOCK))
    lock = Pylock.from_dict(tomllib.loads(said(packed, PYLOCK)))
    lock.validate()
    assert [(one.name, str(one.version)) for one in lock.packages] == [("moss", "2.0"), ("stone", "1.0")]
    moss, stone = (one.wheels[0] for one in lock.packages if one.wheels)
    assert (moss.path, moss.url) == ("wheels/moss-2.0-py3-none-any.whl", None)
    assert (stone.path, stone.url) == (
        "wheels/stone-1.0-py3-none-any.whl",
        "https://files.example/packages/ab/cd/stone-1.0-py3-none-any.whl",
    )
    assert stone.size == len(packed[1].files[stone.path])
    assert lock.packages[1].dependencies == [{"name": "moss"}]
    assert lock.requires_python == SpecifierSet(">=3.11,<3.12")


@pytest.mark.parametrize(
    ("facts", "environment", "fits"),
    [
        (("linux", "x86_64"), ("linux", "x86_64"), True),
        (("linux", "x86_64"), ("linux", "aarch64"), False),
        (("linux", "x86_64"), ("darwin", "x86_64"), False),
        (("linux", "i686"), ("linux", "x86_64"), True),
        (("linux", "armv7l"), ("linux", "aarch64"), True),
        (("windows", "amd64"), ("win32", "AMD64"), True),
        (("windows", "amd64"), ("win32", "x86"), False),
        (("windows", "arm64"), ("win32", "ARM64"), True),
        (("windows", "x86"), ("win32", "AMD64"), True),
        (("macos", "arm64"), ("darwin", "arm64"), True),
        (("macos", "arm64"), ("darwin", "x86_64"), False),
    ],
)
def test_the_lock_says_for_which_machines_it_is(
    facts: tuple[str, str], environment: tuple[str, str], fits: bool, tmp_path: Path
) -> None:
    libc = ("glibc", "2.28") if facts[0] == "linux" else (None, None)
    known = Facts("cpython", "3.11", False, *facts, *libc, "11.0" if facts[0] == "macos" else None)
    target = target_of(some_wheels(tmp_path), known)
    files = {one.file: File(one.file, 1, "0" * 64, "wheel", "1" * 64) for one in target.install}
    (marker,) = make_pylock(target, files, {})["environments"]
    values = {"sys_platform": environment[0], "platform_machine": environment[1], "implementation_name": "cpython"}
    assert Marker(marker).evaluate(values) is fits
    assert not Marker(marker).evaluate({**values, "implementation_name": "pypy"})


def test_the_newest_patch_that_a_file_needs_is_asked_for(tmp_path: Path) -> None:
    target = target_of(some_wheels(tmp_path))._replace(python_min="3.11.4")
    files = {one.file: File(one.file, 1, "0" * 64, "wheel", "1" * 64) for one in target.install}
    assert make_pylock(target, files, {})["requires-python"] == ">=3.11.4,<3.12"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://files.example/stone-1.0-py3-none-any.whl",
        "https://user:secret@files.example/stone-1.0-py3-none-any.whl",
        "https://files.example:8443/stone-1.0-py3-none-any.whl",
        "https://files.example/stone-1.0-py3-none-any.whl?token=secret",
        "https://files.example/stone-1.0-py3-none-any.whl#sha256=0",
        "https://files.example/other-1.0-py3-none-any.whl",
        "file:///home/me/stone-1.0-py3-none-any.whl",
        "https://files.example/a b/stone-1.0-py3-none-any.whl",
    ],
)
def test_no_other_address_gets_into_a_bundle(url: str, tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, urls={"stone-1.0-py3-none-any.whl": url})
    text = taken_apart(path).files[PYLOCK].decode()
    assert "url" not in text
    assert "secret" not in text


# ------------------------------------------------------------------------------- they say what the manifest says


def findings(manifest: Manifest, path: str, data: str | bytes) -> list[Finding]:
    return check_document(path, data.encode() if isinstance(data, str) else data, manifest)


def test_what_we_write_is_what_we_accept(packed: tuple[Manifest, Parts]) -> None:
    manifest, parts = packed
    for path in (PYLOCK, REQUIREMENTS):
        assert findings(manifest, path, parts.files[path]) == []


H = "0" * 64


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text + f"evil==1.0 --hash=sha256:{H}\n", id="more"),
        pytest.param(lambda text: text.replace("stone==1.0", "st0ne==1.0"), id="other-name"),
        pytest.param(lambda text: text.replace("stone==1.0", "stone==1.1"), id="other-version"),
        pytest.param(lambda text: text.replace("stone==1.0", "stone>=1.0"), id="no-pin"),
        pytest.param(lambda text: re.sub("sha256:.{64}", f"sha256:{H}", text), id="other-hash"),
        pytest.param(lambda text: re.sub(" --hash=sha256:.{64}", "", text), id="no-hash"),
        pytest.param(lambda text: re.sub("--hash=sha256:.{64}", "--hash=md5:" + "0" * 32, text), id="weaker-hash"),
        pytest.param(lambda text: text.replace("\n", f" --hash=sha256:{H}\n"), id="second-hash"),
        pytest.param(lambda text: text.splitlines(True)[0], id="less"),
        pytest.param(lambda text: "", id="nothing"),
        pytest.param(lambda text: "--extra-index-url https://evil.example\n" + text, id="index"),
        pytest.param(lambda text: text + "-r other.txt\n", id="another-file"),
        pytest.param(lambda text: text + "-e .\n", id="editable"),
        pytest.param(lambda text: text + "./wheels/evil.whl\n", id="path"),
        pytest.param(lambda text: text + "stone @ https://evil.example/stone-1.0-py3-none-any.whl\n", id="url"),
        pytest.param(lambda text: text + text.splitlines(True)[1], id="twice"),
        pytest.param(lambda text: "".join(reversed(text.splitlines(True))), id="other-order"),
        pytest.param(lambda text: text.replace("stone==", "stone==1.0; python_version < '3'\nstone=="), id="marker"),
        pytest.param(lambda text: "# -*- coding: utf-7 -*-\n" + text, id="coding"),
        pytest.param(lambda text: "# vim: set fileencoding=utf-7 :\n" + text, id="fileencoding"),
        pytest.param(lambda text: "# comment \\\n" + text, id="comment-goes-on"),
        pytest.param(lambda text: text.replace("\n", "\r"), id="carriage-returns"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="windows-lines"),
        pytest.param(lambda text: text.replace("\n", "\x0c\n", 1), id="form-feed"),
        pytest.param(lambda text: text.replace("\n", "\u2028evil\n", 1), id="line-separator"),
        pytest.param(lambda text: "\ufeff" + text, id="byte-order-mark"),
        pytest.param(lambda text: text.encode("utf-16").decode("latin-1"), id="utf-16"),
        pytest.param(lambda text: text.replace("moss", "moss\0"), id="zero"),
        pytest.param(lambda text: text + "${HOME}\n", id="variable"),
        pytest.param(lambda text: text.rstrip("\n"), id="no-last-line-feed"),
        pytest.param(lambda text: text.replace(" --hash", " \\\n    --hash"), id="continued"),
    ],
)
def test_requirements_that_say_something_else(change: Any, packed: tuple[Manifest, Parts]) -> None:
    manifest, _ = packed
    found = findings(manifest, REQUIREMENTS, change(said(packed, REQUIREMENTS)))
    assert {one.code for one in found} == {"plan-differs"}
    assert {one.subject for one in found} == {REQUIREMENTS}
    assert all(one.render().isprintable() for one in found)


def test_another_comment_is_no_harm(packed: tuple[Manifest, Parts]) -> None:
    text = said(packed, REQUIREMENTS)
    assert findings(packed[0], REQUIREMENTS, "# hello\n" + text.split("\n", 1)[1]) == []


PACKAGE = '\n[[packages]]\nname = "evil"\nversion = "1.0"\nwheels = [{path = "wheels/evil.whl", hashes = {sha256 = "0000000000000000000000000000000000000000000000000000000000000000"}}]\n'


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text + PACKAGE, id="more"),
        pytest.param(lambda text: text[: text.rindex("[[packages]]")], id="less"),
        pytest.param(lambda text: text[: text.index("[[packages]]")], id="no-packages"),
        pytest.param(lambda text: text[: text.index("[[packages]]")] + "packages = 5\n", id="packages-no-list"),
        pytest.param(lambda text: text[: text.index("[[packages]]")] + "packages = [5]\n", id="packages-no-tables"),
        pytest.param(lambda text: text.replace('name = "stone"', 'name = "st0ne"'), id="other-name"),
        pytest.param(lambda text: text.replace('version = "1.0"\n', 'version = "1.1"\n', 1), id="other-version"),
        pytest.param(lambda text: re.sub('sha256 = "[0-9a-f]{64}"', f'sha256 = "{H}"', text), id="other-hash"),
        pytest.param(lambda text: re.sub('sha256 = "[0-9a-f]{64}"', 'md5 = "0"', text), id="weaker-hash"),
        pytest.param(lambda text: text.replace("hashes = {", 'hashes = {md5 = "0", '), id="second-hash"),
        pytest.param(lambda text: text.replace("size = ", "size = 1"), id="other-size"),
        pytest.param(lambda text: text.replace('path = "wheels/stone', 'path = "../stone'), id="other-path"),
        pytest.param(lambda text: text.replace('path = "wheels/stone', 'path = "wheels/../wheels/stone'), id="roundabout-path"),
        pytest.param(lambda text: text.replace("https://files.example", "http://files.example"), id="url-in-clear"),
        pytest.param(lambda text: text.replace("https://files.example", "https://a:b@files.example"), id="url-with-account"),
        pytest.param(lambda text: text.replace("any.whl\", path", "any.whl?x=1\", path"), id="url-with-query"),
        pytest.param(lambda text: text.replace("cd/stone-1.0", "cd/evil-1.0"), id="url-of-another-file"),
        pytest.param(lambda text: text.replace("wheels = [", 'wheels = [{path = "wheels/other.whl", hashes = {sha256 = "0"}}, '), id="second-wheel"),
        pytest.param(lambda text: text.replace('version = "1.0"\n', 'version = "1.0"\nmarker = "python_version < \'3\'"\n'), id="marker"),
        pytest.param(lambda text: text.replace('version = "1.0"\n', 'version = "1.0"\nindex = "https://evil.example"\n'), id="index"),
        pytest.param(lambda text: text.replace('version = "1.0"\n', 'version = "1.0"\nsdist = {url = "https://e.example/a.tar.gz", hashes = {sha256 = "0"}}\n', 1), id="sdist"),
        pytest.param(lambda text: text.replace('dependencies = [{name = "moss"}]', 'dependencies = [{name = "evil"}]'), id="dependency"),
        pytest.param(lambda text: text.replace("sys_platform == 'linux'", "sys_platform == 'win32'"), id="other-machines"),
        pytest.param(lambda text: re.sub("environments = .*\n", "", text), id="any-machine"),
        pytest.param(lambda text: text.replace(">=3.11,<3.12", ">=2.7"), id="other-python"),
        pytest.param(lambda text: text.replace("1.0\"\nenv", "9.0\"\nenv"), id="other-form"),
        pytest.param(lambda text: text.replace("[[packages]]", "[tool.evil]\nx = 1\n\n[[packages]]", 1), id="tool-table"),
        pytest.param(lambda text: 'extras = ["a"]\n' + text, id="extras"),
        pytest.param(lambda text: "x = 1\n" + text, id="unknown-key"),
        pytest.param(lambda text: text.replace('created-by = "offlinepack"', 'created-by = "offlinepack"\ncreated-by = "x"'), id="twice"),
        pytest.param(lambda text: text.replace("size = ", "size = true #"), id="true-for-one"),
        pytest.param(lambda text: re.sub(r"size = (\d+)", r"size = \1.0", text), id="fraction"),
        pytest.param(lambda text: "x = " + "[" * 5000 + "]" * 5000 + "\n" + text, id="deep"),
        pytest.param(lambda text: text + "#" * 100_000, id="long"),
        pytest.param(lambda text: "", id="nothing"),
        pytest.param(lambda text: "\0" * 1000, id="zeros"),
        pytest.param(lambda text: text.encode("utf-16"), id="utf-16"),
        pytest.param(lambda text: "\ufeff" + text, id="byte-order-mark"),
    ],
)  # fmt: skip
def test_locks_that_say_something_else(change: Any, packed: tuple[Manifest, Parts]) -> None:
    manifest, _ = packed
    changed = change(said(packed, PYLOCK))
    assert changed != said(packed, PYLOCK)
    found = findings(manifest, PYLOCK, changed)
    assert {one.code for one in found} == {"plan-differs"}
    assert all(one.render().isprintable() for one in found)


def test_the_same_lock_written_otherwise_is_taken(packed: tuple[Manifest, Parts]) -> None:
    text = said(packed, PYLOCK)
    assert findings(packed[0], PYLOCK, "# a comment\n" + text.replace("\n\n", "\n\n\n")) == []
    assert findings(packed[0], PYLOCK, re.sub(r', url = "[^"]*"|url = "[^"]*", ', "", text)) == []


def test_a_lock_of_no_target(packed: tuple[Manifest, Parts]) -> None:
    assert [one.code for one in findings(packed[0], "pylock.other.toml", "")] == ["plan-differs"]


def test_a_bundle_with_such_a_lock_is_refused(packed: tuple[Manifest, Parts], tmp_path: Path) -> None:
    parts = packed[1]
    bad = Parts(parts.folder, dict(parts.manifest), dict(parts.files))
    bad.files[PYLOCK] += PACKAGE.encode()
    opened = open_bundle(bad.rehashed().unpacked(tmp_path / "b"))
    found = [one for one in opened.verify() if isinstance(one, Finding)]
    assert [(one.code, one.subject) for one in found] == [("plan-differs", PYLOCK)]
    assert "evil" in found[0].render()


def test_integrity_is_the_word_for_it() -> None:
    assert IntegrityError.exit_code == 7
