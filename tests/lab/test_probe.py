"""The probe on real machines of other architectures: what it says makes a Target that pip there agrees with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from offlinepack.ontarget import interpreter
from offlinepack.targets.parse import make_target_from_facts, parse_target
from tests.lab.conftest import Machine
from tests.support.tags import same_tags

pytestmark = pytest.mark.slow

PROBE = Path(interpreter.__file__)
PIP = next(path for entry in sys.path if (path := Path(entry) / "pip").is_dir())
"""of this environment; it runs from its folder on the Pythons that it supports"""


@pytest.mark.parametrize(
    ("suite", "arch", "spoken"),
    [
        ("bookworm", "amd64", "debian12:3.11"),
        ("bookworm", "arm64", "debian12-aarch64:3.11"),
        ("bookworm", "s390x", "debian12-s390x:3.11"),
        ("bullseye", "armhf", "debian11-armv7l:3.9"),
        ("bullseye", "i386", "debian11-i686:3.9"),
        ("trixie", "amd64", "debian13:3.13"),
    ],
)
def test_the_probe_of_a_root(
    suite: str, arch: str, spoken: str, root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    there = machine("--root", root(suite, arch), "--user", "--ro-root")
    done = there("python3", "/probe.py", binds={PROBE: "/probe.py:ro"})
    assert done.stderr.splitlines()[-1] == f"ask for: --target {spoken}"
    probe_output = json.loads(done.stdout)
    target = make_target_from_facts(probe_output)
    assert target.platform_tag == parse_target(spoken).platform_tag
    assert (probe_output["has"]["venv"], probe_output["has"]["ensurepip"], probe_output["has"]["pip"]) == (True, False, False)
    assert "libc.so.6" in probe_output["sonames"] and "compatible_tags" not in probe_output
    assert target.environment == probe_output["marker_environment"]
    if tuple(int(part) for part in probe_output["python"].split(".")[:2]) >= (3, 10):
        asked = there(
            *("env", "PYTHONPATH=/with", "python3", "/probe.py"), binds={PROBE: "/probe.py:ro", PIP: "/with/pip:ro"}
        )
        same_tags([str(tag) for tag in target.tags], json.loads(asked.stdout)["compatible_tags"])


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.13"])
def test_the_probe_of_another_python(version: str, pythons: dict[str, str], machine: Callable[..., Machine]) -> None:
    if version not in pythons:
        pytest.skip(f"no Python {version} here")
    done = machine("--python", version)("python3", "/probe.py", binds={PROBE: "/probe.py:ro"})
    assert make_target_from_facts(json.loads(done.stdout)).facts.python.startswith(version + ".")
    assert done.stderr.splitlines()[-1].endswith(":" + version)
