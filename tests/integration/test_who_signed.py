"""Who signed, and how new it is: asked by every command that installs or checks, on both sides, before anything is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.bundle.writer import write_bundle
from offlinepack.cli.main import run_command_line
from tests.support.handmade import make_bundle
from tests.support.making import make_wheel

from .conftest import Ran, pip_wheel

Run = Callable[..., Ran]
MAIN = {"console_scripts": {"app": "app:main"}}


def keygen(*words: object) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, kind in (("packer", "ed25519"), ("approver", "ed25519"), ("other", "ecdsa")):
        keygen("-t", kind, "-N", "", "-C", name, "-f", folder / name)
    return folder


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trusted") / "offlinepack.pyz"
    assert run_command_line(["standalone", "-o", str(path)]) == 0
    return path


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    return release(tmp_path, "1.0")


def release(folder: Path, version: str, **changed: Any) -> Path:
    app = make_wheel(folder / "wheels", "app", version, entry_points=MAIN)
    return make_bundle(folder / "media", [app], pip=pip_wheel(), version=version, requested=["app"], **changed)


def packed(folder: Path) -> Path:
    """The same bundle as a tar.gz, with the signatures that lie in it."""
    path = folder.with_name(f"{folder.name}-offline.tar.gz")
    opened = open_bundle(folder)
    write_bundle(path, opened.manifest, opened.read_members(), opened.signatures)
    return path


def signature(key: Path, folder: Path, namespace: str = "offlinepack", change: bytes = b"") -> bytes:
    data = (folder / "manifest.json").read_bytes() + change
    command = ["ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(key)]
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout


def targets(program: Path, folder: Path, *words: object) -> Iterator[tuple[str, int, str]]:
    """What the target side's programs say to the folder."""
    for command in (
        [folder / "install.py", "--verify"],
        [folder / "install.py"],
        [program, "verify", folder],
        [program, "install", folder],
    ):
        place = [] if "verify" in str(command[1:2]) else ["--venv", folder.parent / "venv", "--dry-run"]
        done = subprocess.run([sys.executable, *map(str, [*command, *place, *words])], capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        yield f"{command[0].name} {command[1:2]}", done.returncode, done.stdout + done.stderr


def hosts(offlinepack: Run, path: Path, *words: object) -> Iterator[tuple[str, int, str]]:
    for command in (["verify", path], ["install", path, "--venv", path.parent / "venv", "--dry-run"]):
        done = offlinepack(*command, *words)
        yield f"offlinepack {command[0]}", done.code, done.out + done.err


# name: what stands in the bundle as .sig and as .2.sig, what is asked, whether it is good
CASES: dict[str, tuple[list[tuple[str, str, bytes]], list[str], bool]] = {
    "unsigned": ([], ["packer"], False),
    "by another": ([("approver", "offlinepack", b"")], ["packer"], False),
    "for another purpose": ([("packer", "file", b"")], ["packer"], False),
    "one of two": ([("packer", "offlinepack", b"")], ["packer", "approver"], False),
    "one twice": ([("packer", "offlinepack", b""), ("packer", "offlinepack", b"")], ["packer", "approver"], False),
    "both": ([("packer", "offlinepack", b""), ("approver", "offlinepack", b"")], ["approver", "packer"], True),
    "all three kinds of files": (
        [("other", "offlinepack", b""), ("packer", "offlinepack", b"")],
        ["packer", "other"],
        True,
    ),
}


def some(cases: Iterable[str], *fast: str) -> list[Any]:
    return [one if one in fast else pytest.param(one, marks=pytest.mark.slow) for one in cases]


@pytest.mark.parametrize("case", some(CASES, "one of two", "both"))
def test_all_must_have_signed(
    case: str, keys: Path, program: Path, unpacked: Path, offlinepack: Run, tmp_path: Path
) -> None:
    made, asked, good = CASES[case]
    for name, (key, namespace, change) in zip(("manifest.json.sig", "manifest.json.2.sig"), made, strict=False):
        (unpacked / name).write_bytes(signature(keys / key, unpacked, namespace, change))
    words = [word for one in asked for word in ("--verify-key", keys / f"{one}.pub")]
    outcomes = [*hosts(offlinepack, packed(unpacked), *words), *hosts(offlinepack, unpacked, *words)]
    outcomes += targets(program, unpacked, *words)
    for command, code, said in outcomes:
        assert code == (0 if good else 7), (command, said)
        assert good or "has signed this bundle" in said, (command, said)
    assert not list((tmp_path / "media").glob("venv*"))


BROKEN: dict[str, Callable[[Path, Path], bytes]] = {
    "of other bytes": lambda keys, folder: signature(keys / "packer", folder, change=b" "),
    "of other bytes, by ecdsa": lambda keys, folder: signature(keys / "other", folder, change=b" "),
    "not one": lambda keys, folder: b"hello\n",
    "empty": lambda keys, folder: b"",
    "too long": lambda keys, folder: signature(keys / "packer", folder) + b"\n" * (1 << 17),
    "two in one": lambda keys, folder: signature(keys / "packer", folder) + signature(keys / "approver", folder),
}


@pytest.mark.parametrize("case", some(BROKEN, "of other bytes, by ecdsa", "two in one"))
def test_a_signature_that_is_none_is_damage(
    case: str, keys: Path, program: Path, unpacked: Path, offlinepack: Run, tmp_path: Path
) -> None:
    """For every command, whoever is asked for; and nobody signs beside it, or joins it to another."""
    sound = packed(unpacked)
    sound.rename(tmp_path / "sound.tar.gz")
    (unpacked / "manifest.json.sig").write_bytes(BROKEN[case](keys, unpacked))
    paths = [unpacked] if case == "too long" else [unpacked, packed(unpacked)]
    outcomes = [one for path in paths for one in hosts(offlinepack, path)]
    outcomes += [one for path in paths for one in hosts(offlinepack, path, "--verify-key", keys / "packer.pub")]
    outcomes += targets(program, unpacked)
    for path in paths:
        for words in (["inspect", path], ["diff", tmp_path / "sound.tar.gz", path], ["diff", path, tmp_path / "sound.tar.gz"],
                      ["report", path, "-o", tmp_path / "report.html"], ["rehearse", path],
                      ["sign", path, "--key", keys / "packer"], ["merge", path, tmp_path / "sound.tar.gz", "-o", tmp_path / "merged"]):  # fmt: skip
            done = offlinepack(*words)
            outcomes.append((str(words[0]), done.code, done.out + done.err))
    for command, code, said in outcomes:
        assert code == 7 and "manifest.json.sig" in said, (command, said)
    assert {one.name for one in (tmp_path / "media").iterdir()} == {
        "notes-1.0", "notes-1.0-offline.tar.gz.sha256", *(one.name for one in paths)}  # fmt: skip
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "merged").exists()


def test_a_signature_beside_it_or_elsewhere(keys: Path, program: Path, unpacked: Path, offlinepack: Run) -> None:
    path, key = packed(unpacked), ("--verify-key", keys / "packer.pub")
    beside = path.with_name(path.name + ".sig")
    for content, good in (
        (b"none", False),
        (signature(keys / "approver", unpacked), False),
        (signature(keys / "packer", unpacked), True),
    ):
        beside.write_bytes(content)
        assert {code for _, code, _ in hosts(offlinepack, path, *key)} == {0 if good else 7}
        assert {code for _, code, _ in targets(program, unpacked, *key)} == {7}, "it lies beside another file"
        outcomes = [
            *targets(program, unpacked, *key, "--signature", beside),
            *hosts(offlinepack, unpacked, *key, "--signature", beside),
        ]
        assert {code for _, code, _ in outcomes} == {0 if good else 7}, outcomes
    assert all(code == 0 for _, code, _ in hosts(offlinepack, path)), "nobody is asked for"
    beside.write_bytes(b"none")
    assert all(code == 0 for _, code, _ in hosts(offlinepack, path)), "what lies beside it is no part of it"
    for _, code, said in [*targets(program, unpacked, *key, "--signature", "nothing.sig"), *hosts(offlinepack, path, *key, "--signature", "nothing.sig")]:  # fmt: skip
        assert code == 2 and "nothing.sig" in said


def test_to_require_a_signature_one_says_whose(program: Path, unpacked: Path, offlinepack: Run) -> None:
    path = packed(unpacked)
    for words in (["install", path], ["install", unpacked]):
        done = offlinepack(*words, "--venv", unpacked.parent / "venv", "--require-signature")
        assert done.code == 2 and "--verify-key" in done.err
    for _, code, said in targets(program, unpacked, "--require-signature"):
        assert code == 2 and "--verify-key" in said
    assert not list(unpacked.parent.glob("venv*"))


def test_what_is_damaged_is_not_signed(keys: Path, unpacked: Path, offlinepack: Run) -> None:
    path, key = packed(unpacked), ("--key", keys / "packer")
    done = offlinepack("sign", path, *key, "--json")
    assert done.code == 0 and done.json["signature"] == f"{path}.sig" and done.json["findings"] == []
    os.unlink(f"{path}.sig")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
    (unpacked / "README.txt").write_text("another\n")
    (unpacked / "more").mkdir()
    for one, words in ((path, ()), (unpacked, ()), (path, ("--embed",)), (unpacked, ("--embed",))):
        before = sorted(unpacked.parent.rglob("*"))
        done = offlinepack("sign", one, *key, *words)
        assert done.code == 7 and done.err.count("\n") >= (2 if one == unpacked else 1), done.err
        assert sorted(unpacked.parent.rglob("*")) == before


# ------------------------------------------------------------------------------------------------- how new it is


def test_older_than_what_was_seen(tmp_path: Path, offlinepack: Run, program: Path) -> None:
    """TUF's rollback: by the name of the bundle, whatever its version; rollback itself is never refused."""
    venv = tmp_path / "venv"
    made = {
        name: release(tmp_path, name, sequence=at)
        for name, at in (("1.0", 5), ("2.0", 7), ("0.9", 7), ("3.0", None), ("4.0", 6))
    }
    other = release(tmp_path, "1.1", name="journal", sequence=1)

    asked = ["--venv", str(venv), "--no-compile"]

    def taken(folder: Path, *words: str) -> bool:
        command = [sys.executable, str(folder / "install.py"), *asked, *words]
        return subprocess.run(command, capture_output=True).returncode == 0

    def refused(folder: Path, *words: str) -> bool:
        """By the bundle's own program, by the trusted one, by offlinepack from the folder and from the archive."""
        codes = [subprocess.run([sys.executable, *map(str, one), *asked, *words], capture_output=True).returncode
                 for one in ([folder / "install.py"], [program, "install", folder])]  # fmt: skip
        codes += [offlinepack("install", one, *asked, *words).code for one in (folder, packed(folder))]
        return codes == [13] * 4

    assert taken(made["1.0"])
    assert refused(made["3.0"]), "it has none, and this environment has seen one"
    assert taken(made["2.0"])
    assert refused(made["1.0"])
    assert refused(made["1.0"], "--dry-run")
    assert refused(made["4.0"], "--force"), "--force means something else"
    assert taken(made["0.9"]), "as new, whatever its version"
    assert offlinepack("rollback", "--venv", venv).code == 0
    assert taken(made["2.0"])
    assert taken(made["4.0"], "--allow-downgrade") and taken(made["4.0"]), "it is current"
    assert refused(made["1.0"]), "what was seen stays seen"
    state = json.loads((tmp_path / "venv.d" / "state.json").read_text())
    assert state["sequences"] == {"notes": 7}
    done = offlinepack("install", made["1.0"], "--venv", venv, "--json")
    (found,) = [one for one in done.json["findings"] if one["level"] == "error"]
    assert found["code"] == "downgrade" and "sequence 5" in found["sentence"] and "seen 7" in found["sentence"]
    assert taken(other), "another name, another row of numbers"


def test_a_file_that_lies_beside_the_bundle_allows_nothing(tmp_path: Path, offlinepack: Run) -> None:
    """A stick may bring an offlinepack.toml along."""
    venv = tmp_path / "venv"
    old, new = release(tmp_path, "1.0", sequence=5), release(tmp_path, "2.0", sequence=7)
    settings, words = Path("offlinepack.toml"), ("--venv", venv, "--no-compile")
    settings.write_text("[tool.offlinepack]\nname = 'notes'\nlang = 'en'\n")
    assert offlinepack("install", new, *words).code == 0
    settings.write_text("[tool.offlinepack]\nallow-downgrade = true\n")
    done = offlinepack("install", old, *words)
    assert done.code == 3 and "'allow-downgrade' is not taken by install" in done.err
    assert offlinepack("verify", old).code == 0
    assert offlinepack("install", old, *words, "--config", settings.absolute()).code == 0, "somebody said so"
    settings.write_text("[tool.offlinepack]\nrequire-signature = true\n")
    assert offlinepack("install", new, *words).code == 2, "what asks for more may lie there"
