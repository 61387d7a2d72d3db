"""One bundle of one application for every machine of the lab, installed on each of them without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import KEPT as LAB_KEPT
from .conftest import LAB, Machine, alone, run

pytestmark = pytest.mark.slow

APPLICATION = [
    "requests",
    "click",
    "tqdm",
    "attrs",
    "python-dateutil",
    "bottle",
    "itsdangerous",
    "tabulate",
    "packaging",
    "pyparsing",
    "pytz",
    "charset-normalizer",
]
MODULES = "requests click tqdm attr dateutil bottle itsdangerous tabulate packaging pyparsing pytz charset_normalizer"
PYTHONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
ROOTS = {
    ("bookworm", "amd64"): "debian12",
    ("bookworm", "arm64"): "debian12-aarch64",
    ("bullseye", "armhf"): "debian11-armv7l",
}
MUSL = "cp313-musllinux_1_2_x86_64"
TARGETS = (*ROOTS.values(), MUSL, *(f"cp{one.replace('.', '')}-manylinux_2_17_x86_64" for one in PYTHONS))


@pytest.fixture(scope="module")
def bundle(packed: Callable[..., Path]) -> Path:
    return packed("one-for-all", *APPLICATION, *(part for one in TARGETS for part in ("--target", one)))


def installed(there: Machine, bundle: Path, tag: str) -> None:
    binds = {bundle: "/media/bundle:ro"}
    done = there("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", "--json", binds=binds)
    assert json.loads(done.stdout)["target"] == tag
    python = "/srv/app/venv/bin/python"
    assert "No broken requirements" in there(python, "-m", "pip", "check", binds=binds).stdout
    there(python, "-c", f"import {MODULES.replace(' ', ', ')}", binds=binds)
    plan = next(one for one in json.loads((bundle / "manifest.json").read_text())["targets"] if one["tag"] == tag)
    listed = json.loads(there(python, "-m", "pip", "list", "--format=json", binds=binds).stdout)
    assert {one["name"].lower().replace("_", "-").replace(".", "-") for one in listed} == {
        "pip",
        *(one["name"] for one in plan["install"]),
    }


def test_every_file_is_there_once(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert len(manifest["targets"]) == len(TARGETS)
    used = {one["file"] for target in manifest["targets"] for one in (*target["install"], *target["tools"])}
    there = {one["path"] for one in manifest["files"] if one["kind"] in ("wheel", "tool", "sdist")}
    assert used == there
    pips = {target["tag"][:5].rstrip("-"): target["tools"][0]["version"] for target in manifest["targets"]}
    assert (pips["cp36"], pips["cp37"], pips["cp38"]) == ("21.3.1", "24.0", "25.0.1")


@pytest.mark.parametrize(("suite", "arch"), list(ROOTS))
def test_a_debian(
    suite: str, arch: str, bundle: Path, root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    tags = {"amd64": "cp311-manylinux_2_36_x86_64", "arm64": "cp311-manylinux_2_36_aarch64"}
    there = machine("--root", root(suite, arch), kept=True)
    installed(there, bundle, tags.get(arch, "cp39-manylinux_2_31_armv7l"))


def test_a_machine_with_musl(bundle: Path, machine: Callable[..., Machine]) -> None:
    with alone("musl"):
        made = Path(run([LAB / "make-python-musl", "musl-amd64", LAB_KEPT / "roots"], timeout=3000).stdout.split()[-1])
    installed(machine("--root", made, kept=True), bundle, MUSL)


@pytest.mark.parametrize("version", PYTHONS)
def test_a_python(version: str, bundle: Path, pythons: dict[str, str], machine: Callable[..., Machine]) -> None:
    if version not in pythons:
        pytest.fail(f"the lab has no Python {version}: install it as the lab's README says")
    there = machine("--python", version, kept=True)
    tag = f"cp{version.replace('.', '')}-manylinux_2_17_x86_64"
    # this host's glibc is that of Debian 12, whose own target is the more demanding one
    installed(there, bundle, "cp311-manylinux_2_36_x86_64" if version == "3.11" else tag)
