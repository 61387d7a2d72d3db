"""The one line of README.txt binds signature, manifest, SHA256SUMS and every file, without any of our code."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.bundle.writer import write_bundle

from ..support.bundles import make_bundle

WHO = "packer@example.org"


def run(*command: object, **named: object) -> None:
    subprocess.run([str(one) for one in command], check=True, capture_output=True, **named)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key, its allowed signers, and a signed bundle, unpacked."""
    place = tmp_path_factory.mktemp("signed")
    for name in ("key", "other"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", WHO, "-f", place / name)
    (place / "KEYS").write_text(f'{WHO} namespaces="offlinepack" {(place / "key.pub").read_text()}')
    path, manifest = make_bundle(place, extra={"files/a file with blanks.txt": b"hello", "files/配置.txt": b"x"})
    members = open_bundle(path).read_members()
    (place / "manifest.json").write_bytes(open_bundle(path).manifest_bytes)
    run("ssh-keygen", "-q", "-Y", "sign", "-n", "offlinepack", "-f", place / "key", place / "manifest.json")
    signature = (place / "manifest.json.sig").read_bytes()
    write_bundle(place / "signed.tar.gz", manifest, members, [signature])
    run("tar", "-xzf", place / "signed.tar.gz", "-C", place)
    return place


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    run("cp", "-a", f"{made}/.", tmp_path)
    return tmp_path / "notes-1.2"


@pytest.fixture(params=["sh", "bash"])
def check(request: pytest.FixtureRequest, folder: Path) -> Callable[[], bool]:
    """Types the line, as README.txt has it."""
    readme = (folder / "README.txt").read_bytes().decode()
    (line,) = (one for one in readme.splitlines() if one.startswith("ssh-keygen"))
    line = line.replace("KEYS", "../KEYS").replace("WHO", WHO)

    def typed() -> bool:
        done = subprocess.run([request.param, "-c", line], cwd=folder, capture_output=True, text=True, check=False)
        assert ("all good" in done.stdout.splitlines()) is (done.returncode == 0)
        return done.returncode == 0

    return typed


def change_a_wheel_and_its_sum(folder: Path) -> None:
    (wheel,) = (folder / "wheels").glob("stone*")
    before = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wheel.write_bytes(wheel.read_bytes().replace(b"stone", b"stonE", 1))
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(wheel.read_bytes()).hexdigest()))


def change_a_wheel(folder: Path) -> None:
    (wheel,) = (folder / "wheels").glob("stone*")
    wheel.write_bytes(wheel.read_bytes() + b" ")


def change_everything_but_the_signature(folder: Path) -> None:
    before = hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()
    change_a_wheel_and_its_sum(folder)
    after = hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(before, after))


def sign_by_another(folder: Path) -> None:
    change_everything_but_the_signature(folder)
    (folder / "manifest.json.sig").unlink()
    run("ssh-keygen", "-q", "-Y", "sign", "-n", "offlinepack", "-f", folder.parent / "other", folder / "manifest.json")


def sign_for_another_purpose(folder: Path) -> None:
    (folder / "manifest.json.sig").unlink()
    run("ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", folder.parent / "key", folder / "manifest.json")


def write(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"boo")

    return attack


def replace_by_link(folder: Path) -> None:
    (wheel,) = (folder / "wheels").glob("stone*")
    wheel.rename(folder.parent / "elsewhere.whl")
    wheel.symlink_to(folder.parent / "elsewhere.whl")


def swap_the_sums_for_a_listed_file(folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes((folder / "files" / "a file with blanks.txt").read_bytes())


def empty_the_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes(b"")


def test_it_passes(check: Callable[[], bool]) -> None:
    assert check()


def test_it_passes_with_a_second_signature(folder: Path, check: Callable[[], bool]) -> None:
    run(
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-n",
        "offlinepack",
        "-f",
        folder.parent / "other",
        folder.parent / "manifest.json",
    )
    (folder / "manifest.json.2.sig").write_bytes((folder.parent / "manifest.json.sig").read_bytes())
    assert check()


@pytest.mark.parametrize(
    "attack",
    [
        change_a_wheel,
        change_a_wheel_and_its_sum,
        change_everything_but_the_signature,
        sign_by_another,
        sign_for_another_purpose,
        swap_the_sums_for_a_listed_file,
        empty_the_sums,
        replace_by_link,
        pytest.param(lambda folder: (folder / "SHA256SUMS").unlink(), id="no_sums"),
        pytest.param(lambda folder: (folder / "manifest.json").unlink(), id="no_manifest"),
        pytest.param(lambda folder: (folder / "manifest.json.sig").unlink(), id="no_signature"),
        pytest.param(lambda folder: (folder / "README.zh.txt").unlink(), id="a_file_is_missing"),
        pytest.param(lambda folder: (folder / "evil").symlink_to("/etc"), id="a_link"),
        pytest.param(
            lambda folder: (folder / "manifest.json.2.sig").symlink_to("manifest.json.sig"), id="a_linked_signature"
        ),
        pytest.param(write("evil.py"), id="a_file"),
        pytest.param(write("json.py"), id="a_module"),
        pytest.param(write("ontarget/__pycache__/x.pyc"), id="a_pyc"),
        pytest.param(write(".hidden"), id="a_hidden_file"),
        pytest.param(write("manifest.json.evil.sig"), id="nearly_a_signature"),
        pytest.param(write("wheels/SHA256SUMS"), id="sums_elsewhere"),
        pytest.param(write("wheels/new\nline"), id="a_line_feed"),
    ],
)
def test_it_fails(attack: Callable[[Path], None], folder: Path, check: Callable[[], bool]) -> None:
    attack(folder)
    assert not check()
