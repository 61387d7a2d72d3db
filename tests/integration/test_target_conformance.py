"""A Target against what real interpreters, pip and uv say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.tags import sys_tags

from offlinepack.errors import UsageError
from offlinepack.ontarget import interpreter
from offlinepack.targets.model import Target
from offlinepack.targets.parse import get_running_target, make_target_from_facts, parse_target, probe_interpreter
from tests.support.making import make_wheel
from tests.support.tags import same_tags

RECORDED = sorted((Path(__file__).parents[2] / "fixtures" / "interpreters").glob("*.json"))
HOME = Path(os.environ.get("HOME", "/root"))  # before conftest gives each test a home of its own
PYTHONS = sorted(
    path
    for path in chain(
        (HOME / ".pyenv" / "versions").glob("3.*/bin/python"),
        *(Path(folder).glob("python3.[0-9]*") for folder in ("/usr/bin", "/usr/local/bin")),
    )
    if path.name == "python" or path.name.replace(".", "").removeprefix("python").rstrip("t").isdigit()
)

ASK = """
import json, platform, sys
from pip._vendor.packaging import markers
try:
    from pip._internal.utils.compatibility_tags import get_supported
    tags = [str(one) for one in get_supported()]
except ImportError:
    tags = None
print(json.dumps([tags, markers.default_environment()]))
"""




@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_interpreter(path: Path) -> None:
    recorded_facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
    target = parse_target(str(path))
    same_tags([str(tag) for tag in target.tags], recorded_facts["compatible_tags"])
    assert target.environment == recorded_facts["marker_environment"]
    # and what follows from its name alone contradicts nothing
    spelled = f"{target.platform_tag}:{'pp' * (recorded_facts['implementation'] == 'pypy')}{recorded_facts['python']}"
    alike = parse_target(spelled + "t" * recorded_facts["free_threaded"])
    assert alike.tags == target.tags
    real = dict(recorded_facts["marker_environment"])
    if recorded_facts["implementation"] == "pypy":  # of an older Python, no PyPy's own version is known
        real.pop("implementation_version")
    if real["platform_machine"] != recorded_facts["machine"]:  # a 32-bit system on a 64-bit kernel: no target can know it
        assert recorded_facts["bits"] == 32
        real["platform_machine"] = recorded_facts["machine"]
    assert alike.environment.items() <= real.items()
    assert set(real) - set(alike.environment) == {"platform_release", "platform_version"}


def test_the_recorded_ones_are_of_many_kinds() -> None:
    recorded_facts = [json.loads(path.read_text("utf-8")) for path in RECORDED]
    assert {one["machine"] for one in recorded_facts} >= {"x86_64", "aarch64", "i686", "armv7l", "s390x", "ppc64le", "riscv64"}
    assert {one["libc"] for one in recorded_facts} == {"glibc", "musl"}
    assert {one["python"].rpartition(".")[0] for one in recorded_facts} >= {f"3.{minor}" for minor in range(6, 15)}
    assert {one["implementation"] for one in recorded_facts} == {"cpython", "pypy"}
    assert any(one["free_threaded"] for one in recorded_facts)


def test_the_interpreter_that_runs_this() -> None:
    here = get_running_target()
    same_tags([str(tag) for tag in here.tags], [str(tag) for tag in sys_tags()])
    real = dict(default_environment())
    assert here.environment.items() <= real.items()
    assert set(real) - set(here.environment) == {"platform_release", "platform_version"}


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_an_interpreter_of_this_machine(python: Path) -> None:
    there = probe_interpreter(python)
    assert there.name == there.tag and there.facts.python.startswith(f"3.{there.facts.python.split('.')[1]}.")
    asked = subprocess.run([python, "-I", "-B", "-c", ASK], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("it has no pip to compare with")
    tags, real = json.loads(asked.stdout)
    assert there.environment.items() <= real.items()
    if tags:
        same_tags([str(tag) for tag in there.tags], tags)


@pytest.mark.parametrize("python", [Path(sys.executable), *PYTHONS], ids=str)
def test_the_probe_is_one_file_that_writes_nothing(python: Path, tmp_path: Path) -> None:
    there = tmp_path / "elsewhere"
    there.mkdir()
    script = there / "probe.py"
    script.write_bytes(Path(interpreter.__file__).read_bytes())
    (there / "json.py").write_text("raise SystemExit('a file beside the probe was imported')", "utf-8")
    done = subprocess.run([python, script], capture_output=True, text=True, check=True, cwd=there)
    assert sorted(path.name for path in there.iterdir()) == ["json.py", "probe.py"]
    probe_output = json.loads(done.stdout)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ask for: --target ")
    spoken = parse_target(last.split()[-1])
    found = make_target_from_facts(probe_output)
    assert spoken.facts[2:5] == found.facts[2:5] and spoken.facts.python == found.generic().facts.python
    assert probe_output["schema"] == 1 and probe_output["disk_free"]["prefix"] > 0
    if probe_output["os"] == "linux":
        assert "libc.so.6" in probe_output["sonames"] or probe_output["libc"] == "musl"
    read_by_standard_input = subprocess.run(
        [python, "-I", "-B", "-", "--facts"], input=script.read_bytes(), capture_output=True, check=True
    )
    assert set(json.loads(read_by_standard_input.stdout)) < set(probe_output) and not read_by_standard_input.stderr


def test_what_is_no_python_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path("/bin/false")):
        with pytest.raises(UsageError) as caught:
            probe_interpreter(path)
        assert caught.value.findings[0].code == "python-silent"


def make_pip_options(target: Target) -> list[str]:
    """pip's options for a target, with every platform tag, because pip does not derive older ones."""
    short = "pp" if target.facts.implementation == "pypy" else "cp"
    abis = dict.fromkeys((*(tag.abi for tag in target.tags if tag.abi != "none"), "none"))
    return [
        *(part for platform in target.platform_tags for part in ("--platform", platform)),
        *("--python-version", target.python_full_version, "--implementation", short),
        *(part for abi in abis for part in ("--abi", abi)),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "cp37-manylinux_2_17_x86_64",
        "cp311-manylinux_2_28_aarch64",
        "cp313t-musllinux_1_2_x86_64",
        "cp312-win_arm64",
        "cp311-macosx_12_0_arm64",
        "cp311-macosx_10_13_x86_64",
        "pp310-manylinux_2_28_x86_64",
        "cp39-manylinux_2_28_s390x",
    ],
)
def test_pip_with_our_options_takes_the_same_tags(name: str) -> None:
    target = parse_target(name)
    command = [sys.executable, "-m", "pip", "debug", "--verbose", *make_pip_options(target)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed = said.partition("Compatible tags:")[2].split("\n", 1)[1].split()
    ours = [str(tag) for tag in target.tags]
    assert sorted(listed) == sorted(ours)
    # pip puts manylinux2010 and 1 beside manylinux2014 when that is asked for, wherever they are asked for themselves
    old = ("manylinux2010_", "manylinux1_")
    assert [tag for tag in listed if not any(one in tag for one in old)] == [
        tag for tag in ours if not any(one in tag for one in old)
    ]


def levels(target: Target) -> list[str]:
    """Wheels of ever higher levels for this machine: version 1.N is for level N."""
    facts, made = target.facts, []
    for minor in range(5, 50) if facts.libc == "glibc" else range(10, 27) if facts.os == "macos" else range(5):
        platform = {"glibc": f"manylinux_2_{minor}", "musl": f"musllinux_1_{minor}"}.get(facts.libc or "", "")
        platform = platform or (f"macosx_{minor}_0" if minor > 10 else f"macosx_10_{minor}")
        made.append(f"stone-1.{minor}-cp311-cp311-{platform}_{facts.machine}.whl")
    return made


@pytest.mark.parametrize(
    "name",
    [
        "cp311-manylinux_2_17_x86_64",
        "cp311-manylinux_2_28_x86_64",
        "cp311-manylinux_2_40_aarch64",
        "cp311-manylinux_2_39_riscv64",
        "cp311-musllinux_1_2_x86_64",
        "cp311-macosx_12_0_arm64",
        "cp311-macosx_10_15_x86_64",
    ],
)
def test_uv_with_our_triple_takes_the_same_levels(name: str, tmp_path: Path) -> None:
    target = parse_target(name)
    best = ""
    for filename in levels(target):
        version, tags = filename[:-4].split("-", 2)[1:]
        make_wheel(tmp_path, "stone", version, tag=tags)
        best = version if target.rank_wheel(filename) is not None else best
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_CACHE_DIR": str(tmp_path / "cache")}
    environment["MACOSX_DEPLOYMENT_TARGET"] = target.facts.macos_version or ""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "compile", "-", "--python", sys.executable, "--no-index", "--find-links", str(tmp_path)]
    command += [
        "--only-binary",
        ":all:",
        "--python-version",
        target.python_full_version,
        "--no-header",
        "--no-annotate",
    ]
    command += ["--python-platform", str(target.get_uv_platform())]
    done = subprocess.run(command, input="stone", capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == f"stone=={best}", done.stderr
