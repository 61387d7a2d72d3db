"""The live rehearsal in root file systems of targets; what the static stage says is confirmed, or disproved, there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.ontarget.manifest import MANIFEST, serialize_manifest
from offlinepack.rehearsal.live import run_install
from offlinepack.rehearsal.static import check_bundle_targets
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.targets.parse import make_target_from_facts

from .conftest import HERE, KEPT, LAB, Machine, alone, offlinepack, run

HELLO = HERE / "fixtures" / "projects" / "hello" / "requirements.txt"
PROBE = HERE / "offlinepack" / "ontarget" / "interpreter.py"
PACKAGES = re.compile(r"(?:apt|dnf) install ([\w.+-]+)")
SET = re.search(r'SET = """\\\n(.*?)"""', (HERE / "scripts" / "bench").read_text("utf-8"), re.S)
"""what is measured with: about 190 wheels"""


def rehearsed(bundle: Path, root: Path, *more: object, expect: int) -> dict[str, dict[str, Any]]:
    """Name of a target -> its verdict."""
    done = offlinepack("rehearse", bundle, "--root", root, "--json", *more, expect=expect)
    return {one["target"]: one for one in json.loads(done.stdout)["targets"]}


def helped(verdict: dict[str, Any]) -> str:
    """The packages that its findings name, for make-rootfs."""
    return ",".join(sorted({name for one in verdict["findings"] for name in PACKAGES.findall(one["advice"])}))


@pytest.mark.xdist_group("debian")
def test_a_bare_debian_runs_it(root: Callable[..., Path], packed: Callable[..., Path]) -> None:
    bundle = packed("hello-debian12", "-r", HELLO, "--target", "debian12")
    smoke = "python -c 'import flask, markupsafe._speedups'"
    verdict = rehearsed(bundle, root("bookworm"), "--smoke", smoke, expect=0)["debian12"]
    assert (verdict["verdict"], verdict["findings"], verdict["live"]["python"]) == ("runs", [], "3.11.2")
    assert verdict["live"]["network"] == "cut off by the kernel, in a namespace"
    assert verdict["live"]["smoke"] == [smoke] and verdict["live"]["imported"] > 5
    assert len(verdict["not_checked"]) == 1


@pytest.mark.slow
def test_what_opencv_wants_is_found_and_what_helps_is_right(
    root: Callable[..., Path], packed: Callable[..., Path]
) -> None:
    bundle = packed("cv", "opencv-python", "--target", "debian12")
    done = offlinepack("rehearse", bundle, "--json")
    (forecast,) = json.loads(done.stdout)["targets"]
    assert forecast["verdict"] == "forecast"
    assert "opencv-python needs libGL.so.1 of the target's own system." in [
        one["sentence"] for one in forecast["forecast"]
    ]
    bare = rehearsed(bundle, root("bookworm"), expect=11)["debian12"]
    assert f"opencv-python needs libGL.so.1, which {root('bookworm')} lacks." in [
        one["sentence"] for one in bare["findings"]
    ]
    helped_root = root("bookworm", include=helped(bare))
    assert rehearsed(bundle, helped_root, "--smoke", "python -c 'import cv2; cv2.imread'", expect=0)


@pytest.mark.slow
def test_one_bundle_on_foreign_roots(root: Callable[..., Path], packed: Callable[..., Path]) -> None:
    names = ["debian12", "debian12-aarch64", "debian11", "alpine3.22:3.13"]
    # the lab's Python for musl has no ssl, so nothing that wants it
    bundle = packed("foreign", "flask", "pyyaml", *(f"--target={one}" for one in names))
    with alone("musl"):
        musl = Path(run([LAB / "make-python-musl", "musl-amd64", KEPT / "roots"]).stdout.strip())
    places = {
        "debian12": root("bookworm"),
        "debian12-aarch64": root("bookworm", "arm64"),
        "debian11": root("bullseye"),
        "alpine3.22:3.13": musl,
    }
    for name, place in places.items():
        verdicts = rehearsed(bundle, place, expect=0)
        assert {one: each["verdict"] for one, each in verdicts.items() if each["runs"]} == {name: "runs"}, place
        assert not verdicts[name]["findings"]
        others = [each["not_checked"][-1] for one, each in verdicts.items() if one != name]
        assert all(one.startswith("whether it runs: ") for one in others), others


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "target"), [("bookworm", "debian12"), ("bullseye", "debian11")])
def test_no_static_finding_is_disproved_by_the_machine(
    suite: str,
    target: str,
    root: Callable[..., Path],
    packed: Callable[..., Path],
    machine: Callable[..., Machine],
    tmp_path: Path,
) -> None:
    """Some 190 real wheels: what the static stage misses on a probed root, preflight misses and imports lack there, and
    nothing else; with the packages installed that it names, everything is imported."""
    assert SET
    asked = tmp_path / "set.txt"
    asked.write_text(SET[1] + "opencv-python\npyodbc\nsoundfile\npymssql\n")
    folder = packed(f"many-{target}", "-r", asked, "--target", target)
    bundle = open_bundle(folder)
    (planned,) = bundle.manifest.targets
    assert len([one for one in planned.install if one.file.endswith(".whl")]) >= 150

    def judged(place: Path) -> tuple[dict[str, set[str]], dict[str, set[str]], Verdict]:
        """Libraries that the static stage, and the machine, find missing, each with those that want it."""
        probe_output = machine("--root", place, "--user")("python3", "/probe.py", binds={PROBE: "/probe.py:ro"}).stdout
        probed = replace(make_target_from_facts(json.loads(probe_output)), name=target)
        (verdict,) = check_bundle_targets(bundle, None, {planned.tag: probed})
        assert not [one.render() for one in verdict.findings if one.level == "error" and one.code != "library-missing"]
        (seen,) = run_install(bundle, [replace(verdict, installs=True, findings=())], place)
        return lacking(verdict, "library-missing"), lacking(seen, "library-missing"), seen

    bare = root(suite)
    expected, lacks, seen = judged(bare)
    assert expected == lacks and "libGL.so.1" in expected
    assert {one.code for one in seen.findings if one.level == "error"} == {"library-missing"}, "all else is imported"
    # without preflight: who wants such a library cannot be imported, and nobody fails for another one
    silent = tmp_path / "silent"
    shutil.copytree(folder, silent, ignore=shutil.ignore_patterns(MANIFEST))
    listed = bundle.manifest._replace(targets=(planned._replace(needs=()),))
    (silent / MANIFEST).write_bytes(serialize_manifest(listed))
    (verdict,) = check_bundle_targets(open_bundle(silent))
    (imported,) = run_install(open_bundle(silent), [replace(verdict, installs=True, findings=())], bare)
    shown = lacking(imported, "import-library")
    assert set().union(*shown.values()) >= set().union(*expected.values())
    assert set(shown) <= set(expected), "a loader names the first that it misses; who imports such a module fails too"
    include = helped({"findings": [one.to_json() for one in seen.findings]})
    expected, lacks, seen = judged(root(suite, include=include))
    assert (expected, lacks) == ({}, {})
    assert not [one.render() for one in seen.findings if one.level == "error"]
    assert seen.outcome == "runs"


def lacking(verdict: Verdict, code: str) -> dict[str, set[str]]:
    """soname -> distributions, of findings of this code."""
    return {
        one.sentence.facts["cause" if code == "import-library" else "soname"]: set(one.subject.split(", "))
        for one in verdict.findings
        if one.code == code and one.level == "error"
    }
