from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from offlinepack.errors import SourceError, UsageError
from offlinepack.ontarget import interpreter
from offlinepack.ontarget.interpreter import _MINIMUM_LIBC, collect_facts, suggest_target
from offlinepack.ontarget.manifest import Facts
from offlinepack.targets import parse
from offlinepack.targets.catalogue import load_catalogue
from offlinepack.targets.markers import UnknownMarkerError
from offlinepack.targets.model import Target
from offlinepack.targets.parse import combine_targets, make_target_from_facts, parse_target, report_unused_abis

LINUX = "cp311-manylinux_2_28_x86_64"
INTERPRETERS = Path(__file__).parents[2] / "fixtures" / "interpreters"


def facts(python: str, system: str, machine: str, libc: str | None = None, level: str | None = None) -> Facts:
    mac = system == "macos"
    return Facts("cpython", python, False, system, machine, libc, None if mac else level, level if mac else None)


@pytest.fixture(autouse=True)
def a_host_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests must not matter."""
    host = make_target_from_facts(json.loads((INTERPRETERS / "debian12-amd64.json").read_text("utf-8")))
    monkeypatch.setattr(
        parse, "get_running_target", lambda: replace(host, name=host.tag, marker_overrides=(), probe_output={})
    )


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        (LINUX, LINUX),
        ("CP311-manylinux_2_28_x86_64", LINUX),
        ("cp36-manylinux2014_i686", "cp36-manylinux_2_17_i686"),
        ("cp313t-musllinux_1_2_aarch64", "cp313t-musllinux_1_2_aarch64"),
        ("pp310-manylinux2014_x86_64", "pp310-manylinux_2_17_x86_64"),
        ("cp312-win_amd64", "cp312-win_amd64"),
        ("cp310-win32", "cp310-win32"),
        ("cp311-macosx_11_0_arm64", "cp311-macosx_11_0_arm64"),
        ("cp311-macosx_14_5_arm64", "cp311-macosx_14_0_arm64"),  # since 11 the tags know whole releases only
        ("cp38-macosx_10_13_x86_64", "cp38-macosx_10_13_x86_64"),
        ("debian12", "cp311-manylinux_2_36_x86_64"),
        ("Debian-12", "cp311-manylinux_2_36_x86_64"),
        ("bookworm", "cp311-manylinux_2_36_x86_64"),
        ("debian12-arm64:3.12", "cp312-manylinux_2_36_aarch64"),
        ("debian12-armhf", "cp311-manylinux_2_36_armv7l"),
        ("debian12:pp3.9", "pp39-manylinux_2_36_x86_64"),
        ("rhel8", "cp36-manylinux_2_28_x86_64"),
        ("rocky8.9:3.11", LINUX),
        ("almalinux8:3.11", LINUX),
        ("centos7", "cp36-manylinux_2_17_x86_64"),
        ("oracle9", "cp39-manylinux_2_34_x86_64"),
        ("redhat10", "cp312-manylinux_2_39_x86_64"),
        ("alpine3.20.1", "cp312-musllinux_1_2_x86_64"),
        ("amazonlinux2", "cp37-manylinux_2_26_x86_64"),
        ("windows:3.13t", "cp313t-win_amd64"),
        ("windows-arm64:3.12", "cp312-win_arm64"),
        ("macos14:3.12", "cp312-macosx_14_0_arm64"),
        ("macos14.6-x86_64:3.12", "cp312-macosx_14_0_x86_64"),
        ("linux_ppc64le:3.9", "cp39-manylinux_2_28_ppc64le"),  # the floors that a plain linux_ARCH stands for
        ("linux_x86_64:3.11", LINUX),
        ("linux_armv7l:3.11", "cp311-manylinux_2_31_armv7l"),
        ("linux_riscv64:3.13", "cp313-manylinux_2_39_riscv64"),
        ("linux:3.11", LINUX),
        ("macos:3.11", "cp311-macosx_13_0_arm64"),
        ("x86_64-manylinux_2_28:3.11", LINUX),
        ("aarch64-manylinux2014:3.9", "cp39-manylinux_2_17_aarch64"),
        ("x86_64-unknown-linux-gnu:3.11", LINUX),
        ("aarch64-unknown-linux-musl:3.11", "cp311-musllinux_1_2_aarch64"),
        ("armv7-unknown-linux-gnueabihf:3.11", "cp311-manylinux_2_31_armv7l"),
        ("i686-pc-windows-msvc:3.9", "cp39-win32"),
        ("aarch64-pc-windows-msvc:3.12", "cp312-win_arm64"),
        ("x86_64-apple-darwin:3.11", "cp311-macosx_13_0_x86_64"),
        ("macosx-11.0-arm64:3.11", "cp311-macosx_11_0_arm64"),  # as sysconfig says it
        ("win-amd64:3.11", "cp311-win_amd64"),
    ],
)
def test_a_target_is_written_in_many_ways(written: str, tag: str) -> None:
    assert parse_target(written).tag == tag
    assert parse_target(tag).tag == tag
    assert parse_target(tag).name == tag


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("debain12", "Did you mean debian12"),
        ("debain12-arm64:3.11", "Did you mean debian12"),
        ("ubuntu22:3.10", "Did you mean ubuntu22.04"),
        ("rokcy9", "Did you mean rocky9"),
        ("cp311-manylinux_2_28_x86_65", "Did you mean manylinux_2_28_x86_64"),
        ("win_amd46:3.12", "Did you mean win_amd64"),
        ("plan9", "`offlinepack targets` lists the names"),
        ("cp311-macosx_11_0_universal2", "Did you mean"),
        ("debian12-sparc", "not known on a machine called sparc"),
        ("macos14", "says no Python"),
        ("windows", "Known are 3.6, 3.7"),
        ("x86_64-manylinux_2_28", "says no Python"),
        ("debian12:2.7", "too old"),
        ("cp27-win_amd64", "too old"),
        ("debian12:3", "is no Python version"),
        ("debian12:latest", "is no Python version"),
        ("cp312t-win_amd64", "no free-threaded Python 3.12t"),
        ("debian12:pp3.13t", "no free-threaded Python"),
        ("nowhere/facts.json", "There is no file nowhere/facts.json"),
        ("", "No machine is known"),
    ],
)
def test_what_is_no_target_is_a_usage_error_that_helps(written: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(written)
    assert says in str(caught.value)


def test_every_name_of_the_catalogue_is_a_target() -> None:
    for system in load_catalogue():
        for name in (system.name, *system.synonyms):
            for machine in system.machines:
                for python in system.pythons or ("3.12",):
                    target = parse_target(f"{name}-{machine}:{python}")
                    assert (target.facts.machine, target.facts.python) == (machine, python)
                    assert re.fullmatch(r"[a-z]{2}[0-9]{2,4}t?-[a-z0-9_]{2,80}", target.tag)
        assert system.default is None or system.default in system.pythons
        assert system.default is None or parse_target(system.name).facts.python == system.default
        known = {"libc_version", "macos_version", "machines"} if not system.pythons else {"libc_version", "pythons"}
        assert system.sources and set(system.sources) <= known
        if system.os == "linux":
            assert set(system.sources) == known, system.name


def test_the_probe_speaks_names_of_the_catalogue() -> None:
    names = {name: system for system in load_catalogue() for name in (system.name, *system.synonyms)}
    for name, minor in _MINIMUM_LIBC.items():
        assert (names[name].libc_version or "").split(".")[1] == str(minor), name
    spoken = {names[name].name for name in _MINIMUM_LIBC}
    assert spoken == {system.name for system in load_catalogue() if system.os == "linux"}


@pytest.mark.parametrize(
    ("release", "known", "says"),
    [
        ({"ID": "debian", "VERSION_ID": "12"}, facts("3.11.2", "linux", "x86_64", "glibc", "2.36"), "debian12:3.11"),
        (
            {"ID": "rocky", "VERSION_ID": "8.9"},
            facts("3.11.2", "linux", "aarch64", "glibc", "2.28"),
            "rhel8-aarch64:3.11",
        ),
        ({"ID": "amzn", "VERSION_ID": "2"}, facts("3.7.16", "linux", "x86_64", "glibc", "2.26"), "al2:3.7"),
        (
            {"ID": "kylin", "VERSION_ID": "V10"},
            facts("3.7.9", "linux", "aarch64", "glibc", "2.28"),
            "kylin10-aarch64:3.7",
        ),
        (
            {"ID": "openEuler", "VERSION_ID": "22.03"},
            facts("3.9.9", "linux", "x86_64", "glibc", "2.34"),
            "openeuler22.03:3.9",
        ),
        (
            {"ID": "alpine", "VERSION_ID": "3.20.1"},
            facts("3.12.3", "linux", "x86_64", "musl", "1.2"),
            "alpine3.20:3.12",
        ),
        (
            {"ID": "sles", "VERSION_ID": "15.1"},
            facts("3.6.5", "linux", "x86_64", "glibc", "2.26"),
            "cp36-manylinux_2_26_x86_64",
        ),
        ({"ID": "gentoo"}, facts("3.11.2", "linux", "x86_64", "glibc", "2.39"), "cp311-manylinux_2_39_x86_64"),
        ({}, facts("3.12.1", "windows", "amd64"), "windows:3.12"),
        ({}, facts("3.12.1", "windows", "x86"), "windows-x86:3.12"),
        ({}, facts("3.12.1", "macos", "arm64", None, "14.5"), "macos14:3.12"),
        ({}, facts("3.9.1", "macos", "x86_64", None, "10.15"), "cp39-macosx_10_15_x86_64"),
    ],
)
def test_what_the_probe_says_over_the_phone(
    release: dict[str, str], known: Facts, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "_read_os_release", lambda: release)
    spoken = suggest_target(known._asdict())
    assert spoken == says
    fits = parse_target(spoken).facts
    assert fits[3:6] == known[3:6] and known.python.startswith(fits.python)


def test_the_ladder_of_glibc_goes_down_with_the_old_names() -> None:
    ladder = parse_target("cp311-manylinux_2_18_x86_64").platform_tags
    assert ladder[:5] == (
        "linux_x86_64",
        "manylinux_2_18_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
        "manylinux_2_16_x86_64",
    )
    assert ladder[-2:] == ("manylinux_2_5_x86_64", "manylinux1_x86_64")
    arm = parse_target("cp311-manylinux_2_28_aarch64").platform_tags
    assert arm[-2:] == ("manylinux_2_17_aarch64", "manylinux2014_aarch64")
    assert not [tag for tag in arm if tag.startswith(("manylinux1_", "manylinux2010_"))]
    assert parse_target("cp311-manylinux_2_28_i686").platform_tags[-1] == "manylinux1_i686"
    assert not [tag for tag in parse_target("cp311-manylinux_2_28_x86_64").platform_tags if "i686" in tag]
    assert parse_target("cp312-musllinux_1_2_x86_64").platform_tags == (
        "linux_x86_64",
        "musllinux_1_2_x86_64",
        "musllinux_1_1_x86_64",
        "musllinux_1_0_x86_64",
    )
    assert parse_target("cp312-win_amd64").platform_tags == ("win_amd64",)


def wheel(tags: str) -> str:
    return f"stone-1.0-{tags}.whl"


@pytest.mark.parametrize(
    ("target", "tags", "why"),
    [
        (LINUX, "py3-none-any", None),
        (LINUX, "py2.py3-none-any", None),
        (LINUX, "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", None),
        (LINUX, "cp311-cp311-manylinux1_x86_64", None),
        (LINUX, "cp38-abi3-manylinux_2_28_x86_64", None),
        (LINUX, "cp311-none-any", None),
        (LINUX, "py3-none-manylinux2014_x86_64", None),
        (LINUX, "cp311-cp311-linux_x86_64", None),
        (LINUX, "cp311-cp311-manylinux_2_34_x86_64", "needs glibc 2.34, this target has 2.28"),
        (LINUX, "cp311-cp311-manylinux_2_31_x86_64.manylinux_2_34_x86_64", "needs glibc 2.31, this target has 2.28"),
        (LINUX, "cp312-cp312-manylinux_2_17_x86_64", "is for CPython 3.12"),
        (LINUX, "cp312-abi3-manylinux_2_17_x86_64", "needs CPython 3.12 or newer"),
        (LINUX, "py312-none-any", "needs Python 3.12 or newer"),
        (LINUX, "py2-none-any", "is for Python 2"),
        (LINUX, "cp311-cp311-win_amd64", "is for Windows"),
        (LINUX, "cp311-cp311-macosx_10_9_universal2", "is for macOS"),
        (LINUX, "cp311-cp311-musllinux_1_2_x86_64", "is for musl, this target has glibc"),
        (LINUX, "cp311-cp311-manylinux_2_17_aarch64", "is for aarch64, this target is x86_64"),
        (LINUX, "pp310-pypy310_pp73-manylinux_2_17_x86_64", "is for PyPy"),
        (LINUX, "cp311-cp311-manylinux_2_17_i686", "is for i686, this target is x86_64"),
        (LINUX, "cp313-cp313t-manylinux_2_17_x86_64", "is for CPython 3.13t"),
        ("cp313-manylinux_2_28_x86_64", "cp313-cp313t-manylinux_2_17_x86_64", "is for free-threaded Python"),
        ("cp313t-manylinux_2_28_x86_64", "cp313-cp313t-manylinux_2_17_x86_64", None),
        ("cp313t-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_17_x86_64", "is not for free-threaded Python"),
        ("cp313t-manylinux_2_28_x86_64", "cp38-abi3-manylinux_2_17_x86_64", "is not for free-threaded Python"),
        ("cp313t-manylinux_2_28_x86_64", "py3-none-any", None),
        ("cp37-manylinux_2_17_x86_64", "cp37-cp37m-manylinux1_x86_64", None),
        ("cp37-manylinux_2_17_x86_64", "cp37-cp37-manylinux1_x86_64", "is for the ABI cp37"),
        ("cp311-musllinux_1_1_x86_64", "cp311-cp311-musllinux_1_2_x86_64", "needs musl 1.2, this target has 1.1"),
        ("cp311-musllinux_1_2_x86_64", "cp311-cp311-musllinux_1_1_x86_64", None),
        ("cp311-musllinux_1_2_x86_64", "cp311-cp311-manylinux_2_17_x86_64", "is for glibc, this target has musl"),
        ("cp311-macosx_13_0_arm64", "cp311-cp311-macosx_10_9_universal2", None),
        ("cp311-macosx_13_0_arm64", "cp311-cp311-macosx_11_0_arm64", None),
        ("cp311-macosx_13_0_arm64", "cp311-cp311-macosx_14_0_arm64", "needs macOS 14.0, this target has 13.0"),
        ("cp311-macosx_13_0_arm64", "cp311-cp311-macosx_14_0_universal2", "needs macOS 14.0, this target has 13.0"),
        ("cp311-macosx_13_0_arm64", "cp311-cp311-macosx_10_9_x86_64", "is for x86_64, this target is arm64"),
        ("cp311-macosx_13_0_x86_64", "cp311-cp311-macosx_10_9_x86_64", None),
        ("cp311-macosx_10_9_x86_64", "cp311-cp311-macosx_11_0_x86_64", "needs macOS 11.0, this target has 10.9"),
        ("cp312-win_amd64", "cp312-cp312-win32", "is for x86, this target is amd64"),
        ("cp312-win_amd64", "cp39-abi3-win_amd64", None),
        ("pp310-manylinux_2_28_x86_64", "pp310-pypy310_pp73-manylinux_2_17_x86_64", None),
        ("pp310-manylinux_2_28_x86_64", "pp39-pypy39_pp73-manylinux_2_17_x86_64", "is for PyPy 3.9"),
        ("pp311-manylinux_2_28_x86_64", "pp311-pypy311_pp73-manylinux_2_17_x86_64", None),
        ("pp311-manylinux_2_28_x86_64", "pp311-pypy311_pp80-manylinux_2_17_x86_64", "is for the ABI pypy311_pp80"),
        ("debian12:pp3.11.17", "pp311-pypy311_pp80-manylinux_2_17_x86_64", None),
        ("debian12:pp3.11.9", "pp311-pypy311_pp73-manylinux_2_17_x86_64", None),
        ("pp312-manylinux_2_28_x86_64", "pp312-pypy312_pp80-manylinux_2_17_x86_64", None),
        ("pp310-manylinux_2_28_x86_64", "cp310-cp310-manylinux_2_17_x86_64", "is for CPython"),
        ("cp39-manylinux_2_28_s390x", "cp39-cp39-manylinux2014_s390x", None),
        ("cp39-manylinux_2_28_s390x", "cp39-cp39-manylinux2014_ppc64le", "is for ppc64le, this target is s390x"),
    ],
)
def test_which_wheel_fits_and_why_not(target: str, tags: str, why: str | None) -> None:
    here = parse_target(target)
    assert (here.rank_wheel(wheel(tags)) is None) == (why is not None)
    found = here.explain_mismatch(wheel(tags))
    assert (str(found) if found else None) == why


def test_a_name_that_is_no_wheel_does_not_fit() -> None:
    assert parse_target(LINUX).rank_wheel("stone-1.0.tar.gz") is None
    assert str(parse_target(LINUX).explain_mismatch("stone-1.0.tar.gz")) == "is not the name of a wheel"


def test_the_best_tag_has_the_lowest_rank() -> None:
    order = [
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-abi3-manylinux_2_28_x86_64",
        "cp38-abi3-manylinux_2_28_x86_64",
        "py3-none-manylinux_2_28_x86_64",
        "py3-none-any",
    ]
    ranks = [parse_target(LINUX).rank_wheel(wheel(tags)) for tags in order]
    assert ranks == sorted(ranks, key=lambda rank: -1 if rank is None else rank) and None not in ranks


def test_the_nearest_of_those_that_do_not_fit() -> None:
    there = [
        wheel("cp311-cp311-win_amd64"),
        wheel("cp312-cp312-manylinux_2_34_x86_64"),
        wheel("cp311-cp311-manylinux_2_34_x86_64"),
        wheel("cp311-cp311-manylinux_2_31_x86_64"),
        wheel("cp311-cp311-musllinux_1_2_x86_64"),
    ]
    assert parse_target(LINUX).find_nearest(there) == wheel("cp311-cp311-manylinux_2_31_x86_64")
    assert parse_target(LINUX).find_nearest([wheel("py3-none-any")]) is None


def test_a_system_whose_python_stays_means_that_patch_release() -> None:
    debian, any_patch = parse_target("debian12"), parse_target("cp311-manylinux_2_36_x86_64")
    assert debian.facts == any_patch.facts and debian.facts.python == "3.11"
    assert (debian.python_full_version, any_patch.python_full_version) == ("3.11.2", "3.11.18")
    assert parse_target("debian12:3.11") == replace(debian, name="debian12:3.11")
    assert parse_target("debian12:3.12").python_full_version == "3.12.16"
    assert parse_target("debian12:pp3.11").python_full_version != "3.11.2"
    assert parse_target("debian12:3.11.9").python_full_version == "3.11.9"
    for names in (["debian12", any_patch.name], [any_patch.name, "debian12"]):
        (both,) = combine_targets(names=names)
        assert both.python_full_version == "3.11.2"


def test_markers_are_those_of_the_target() -> None:
    assert parse_target("debian12-arm64").environment == {
        "implementation_name": "cpython",
        "implementation_version": "3.11.2",
        "os_name": "posix",
        "platform_machine": "aarch64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": "3.11.2",
        "python_version": "3.11",
        "sys_platform": "linux",
    }
    windows, mac = parse_target("cp312-win_arm64").environment, parse_target("cp312-macosx_11_0_arm64").environment
    names = ("os_name", "sys_platform", "platform_system", "platform_machine")
    assert [windows[name] for name in names] == ["nt", "win32", "Windows", "ARM64"]
    assert [mac[name] for name in names] == ["posix", "darwin", "Darwin", "arm64"]
    assert parse_target("cp312-win_amd64").environment["platform_machine"] == "AMD64"
    assert parse_target("cp312-win32").environment["platform_machine"] == "x86"
    pypy = parse_target("pp310-win_amd64").environment
    assert pypy["implementation_name"] == "pypy" and pypy["platform_python_implementation"] == "PyPy"
    assert (pypy["python_full_version"], pypy["implementation_version"]) == ("3.10.16", "7.3.19")


def test_a_python_without_a_patch_release_is_the_newest_that_is_known() -> None:
    assert parse_target("debian12:3.9").python_full_version == "3.9.25"
    assert parse_target("debian12:3.9.0").python_full_version == "3.9.0"
    assert parse_target("debian12:3.9").evaluate('python_full_version >= "3.9.2"')
    assert not parse_target("debian12:3.9.0").evaluate('python_full_version >= "3.9.2"')
    assert parse_target("debian12:3.19").python_full_version == "3.19.0"
    assert parse_target("debian12:3.9").facts.python == "3.9"


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ('sys_platform == "linux"', True),
        ('sys_platform == "win32"', False),
        ('platform_release > "5" and sys_platform == "win32"', False),
        ('sys_platform == "win32" and platform_release > "5"', False),
        ('platform_release > "5" or sys_platform == "linux"', True),
        ('(platform_release > "5" or sys_platform == "linux") and python_version >= "3.8"', True),
        ('os_name == "nt" and (platform_release > "5" or platform_version in "1")', False),
        ("platform_release == platform_version", None),
        ('platform_release > "5"', None),
        ('"x" in platform_version', None),
        ('platform_release > "5" or sys_platform == "win32"', None),
        ('platform_release > "5" and (sys_platform == "linux" or os_name == "nt")', None),
        ('platform.version > "5"', None),  # the name that setuptools had for it
        ('"platform_release" == sys_platform', False),
        ('python_version not in "3.6 3.7" and platform_machine == "x86_64"', True),
    ],
)
def test_an_unknown_value_matters_only_where_it_decides(marker: str, holds: bool | None) -> None:
    if holds is None:
        with pytest.raises(UnknownMarkerError) as caught:
            parse_target("debian12").evaluate(marker)
        assert caught.value.exit_code == 5 and "platform_" in str(caught.value)
    else:
        assert parse_target("debian12").evaluate(marker) is holds


def test_extras_and_groups() -> None:
    here = parse_target(LINUX)
    assert not here.evaluate('extra == "fast"')
    assert here.evaluate('extra == "fast"', ["Fast"]) and here.evaluate('extra == "fast"', ["slow", "fast"])
    assert here.evaluate('extra == "fast" and platform_release > "1"') is False
    assert here.evaluate('"fast" in extras', ["fast"]) and not here.evaluate('"fast" in extras')
    assert here.evaluate('"dev" in dependency_groups', groups=["dev"])


def test_each_combination_is_a_target() -> None:
    assert [one.tag for one in combine_targets(["manylinux_2_28_x86_64", "win_amd64"], ["3.11", "3.13"])] == [
        "cp311-manylinux_2_28_x86_64",
        "cp313-manylinux_2_28_x86_64",
        "cp311-win_amd64",
        "cp313-win_amd64",
    ]
    assert [one.tag for one in combine_targets(["win_amd64"], ["3.10"], ["cp", "pp"])] == [
        "cp310-win_amd64",
        "pp310-win_amd64",
    ]
    assert combine_targets() == ()


def test_the_same_target_twice_is_one() -> None:
    assert [one.tag for one in combine_targets(["manylinux2014_x86_64", "manylinux_2_17_x86_64"], ["3.11", "311"])] == [
        "cp311-manylinux_2_17_x86_64"
    ]
    both = combine_targets(names=["rhel8:3.11", "kylin10:3.11", LINUX])
    assert [(one.name, one.tag) for one in both] == [("rhel8:3.11+kylin10:3.11", LINUX)]
    with pytest.raises(UsageError, match=r"both would be cp39-manylinux_2_36_x86_64"):
        combine_targets(names=["debian12:3.9", "debian12:3.9.0"])


def test_python_versions_belong_to_platforms_else_to_names_without_one() -> None:
    assert [one.tag for one in combine_targets(["win_amd64"], ["3.12"], names=["debian12"])] == [
        "cp312-win_amd64",
        "cp311-manylinux_2_36_x86_64",
    ]
    named = combine_targets(python_versions=["3.12", "3.13t"], names=["debian12", "rhel9:3.9", "windows"])
    assert [one.name for one in named] == [
        "debian12:3.12",
        "debian12:3.13t",
        "rhel9:3.9",
        "windows:3.12",
        "windows:3.13t",
    ]
    assert [one.tag for one in combine_targets(python_versions=["3.9"])] == ["cp39-manylinux_2_36_x86_64"]
    assert [one.tag for one in combine_targets(["win_amd64"])] == ["cp311-win_amd64"]
    assert [one.tag for one in combine_targets(implementations=["pp"], names=["debian12"])] == [
        "pp311-manylinux_2_36_x86_64"
    ]


def test_an_abi_says_which_build_of_its_version() -> None:
    def tags(versions: list[str], abis: list[str]) -> list[str]:
        return [one.tag.partition("-")[0] for one in combine_targets(["win_amd64"], versions, abis=abis)]

    assert tags(["3.13"], ["cp313t"]) == ["cp313t"]
    assert tags(["3.13"], ["cp313", "cp313t"]) == ["cp313", "cp313t"]
    assert tags(["3.12", "3.13"], ["cp312", "cp313t"]) == ["cp312", "cp313t"]
    assert tags(["3.12", "3.13"], ["cp313t"]) == ["cp312", "cp313t"]
    assert tags([], ["cp310", "cp37m"]) == ["cp310", "cp37"]
    assert tags(["3.11"], ["none", "abi3", "cp311"]) == ["cp311"]
    (pypy,) = combine_targets(["win_amd64"], ["3.11"], ["pp"], ["pypy311_pp80"])
    assert (pypy.facts.python, str(pypy.tags[0])) == ("3.11.17", "pp311-pypy311_pp80-win_amd64")
    assert combine_targets(["win_amd64"], abis=["pypy311_pp73"])[0].facts.python == "3.11"
    assert [note.code for note in report_unused_abis(["abi3", "cp311", "none"])] == ["abi-without-target"] * 2
    for versions, abis in ((["3.12"], ["cp311"]), (["3.12"], ["x86"]), (["3.13t"], ["cp313"])):
        with pytest.raises(UsageError):
            tags(versions, abis)


def test_all_texts_that_cannot_be_parsed_are_reported_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        combine_targets(["manilinux_2_28_x86_64", "win_amd64"], names=["debain12", "macos14", "debian12"])
    assert [one.code for one in caught.value.findings] == [
        "unknown-platform",
        "unknown-target",
        "target-without-python",
    ]
    with pytest.raises(UsageError, match="does not pack for jy"):
        combine_targets(["win_amd64"], ["3.12"], ["jy"])


def test_another_level_of_the_c_library() -> None:
    assert parse_target(LINUX).with_libc("2.17").name == "cp311-manylinux_2_17_x86_64"
    assert parse_target("debian12").with_libc("2.17").name == "debian12"
    assert parse_target("cp311-macosx_14_0_arm64").with_libc("11.0").tag == "cp311-macosx_11_0_arm64"
    assert parse_target("cp311-win_amd64").with_libc("2.17") == parse_target("cp311-win_amd64")


@pytest.mark.parametrize(
    ("target", "wheels", "tag"),
    [
        ("debian12", ["py3-none-any"], "cp311-manylinux_2_17_x86_64"),
        ("debian12", ["cp311-cp311-manylinux_2_17_x86_64.manylinux_2_28_x86_64"], "cp311-manylinux_2_17_x86_64"),
        ("debian12", ["py3-none-any", "cp311-cp311-manylinux_2_28_x86_64", "cp311-abi3-manylinux1_x86_64"], LINUX),
        ("debian12", ["cp311-cp311-linux_x86_64"], "cp311-manylinux_2_36_x86_64"),
        ("alpine3.20", ["cp312-cp312-musllinux_1_1_x86_64"], "cp312-musllinux_1_1_x86_64"),
        ("macos14:3.12", ["cp312-cp312-macosx_10_13_universal2"], "cp312-macosx_11_0_arm64"),
        ("macos14-x86_64:3.12", ["cp312-cp312-macosx_10_13_universal2"], "cp312-macosx_10_13_x86_64"),
        ("macos14-x86_64:3.12", ["py3-none-any"], "cp312-macosx_10_9_x86_64"),
        ("windows:3.12", ["cp312-cp312-win_amd64"], "cp312-win_amd64"),
    ],
)
def test_the_floor_is_what_the_wheels_ask_for(target: str, wheels: list[str], tag: str) -> None:
    lowered = parse_target(target).with_minimum_libc(wheel(tags) for tags in wheels)
    assert lowered.tag == tag
    assert all(lowered.rank_wheel(wheel(tags)) is not None for tags in wheels)


def test_the_most_demanding_comes_first() -> None:
    names = ["cp311-manylinux_2_17_x86_64", "cp311-manylinux_2_36_x86_64", "cp311-manylinux_2_9_x86_64"]
    assert [one.facts.libc_version for one in sorted(map(parse_target, names), key=lambda one: one.sort_key)] == [
        "2.36",
        "2.17",
        "2.9",
    ]
    assert parse_target("debian12:3.9.2").sort_key < parse_target("debian12:3.9").sort_key


@pytest.mark.parametrize(
    ("target", "triple"),
    [
        (LINUX, "x86_64-manylinux_2_28"),
        ("cp311-manylinux_2_17_aarch64", "aarch64-manylinux_2_17"),
        ("cp311-manylinux_2_40_aarch64", "aarch64-manylinux_2_40"),
        ("cp311-manylinux_2_26_x86_64", None),
        ("cp311-manylinux_2_30_x86_64", None),
        ("cp311-manylinux_2_41_x86_64", None),
        ("cp311-manylinux_2_28_s390x", None),
        ("cp311-manylinux_2_28_ppc64le", None),
        ("cp311-manylinux_2_31_armv7l", None),
        ("cp311-manylinux_2_28_i686", None),
        ("cp313-manylinux_2_39_riscv64", "riscv64-unknown-linux"),
        ("cp311-musllinux_1_2_x86_64", "x86_64-unknown-linux-musl"),
        ("cp311-musllinux_1_1_x86_64", None),
        ("cp311-win_amd64", "x86_64-pc-windows-msvc"),
        ("cp311-win32", "i686-pc-windows-msvc"),
        ("cp311-win_arm64", "aarch64-pc-windows-msvc"),
        ("cp311-macosx_11_0_arm64", "aarch64-apple-darwin"),
        ("cp311-macosx_10_13_x86_64", "x86_64-apple-darwin"),
        ("cp313t-manylinux_2_28_x86_64", None),
        ("pp310-manylinux_2_28_x86_64", None),
    ],
)
def test_uv_platform(target: str, triple: str | None) -> None:
    assert parse_target(target).get_uv_platform() == triple


def test_which_machines_that_is_for_people() -> None:
    said = str(parse_target(LINUX).description)
    assert said.startswith("CPython 3.11, Linux x86_64, glibc 2.28 or newer: RHEL 8, ")
    assert "Kylin V10" in said and "Debian 11" in said and "RHEL 9" not in said
    assert str(parse_target("cp313t-win_amd64").description) == "CPython 3.13t, Windows amd64"
    assert str(parse_target("cp312-macosx_13_0_arm64").description) == "CPython 3.12, macOS 13.0 or newer, arm64"
    assert (
        str(parse_target("cp312-manylinux_2_99_x86_64").description)
        == "CPython 3.12, Linux x86_64, glibc 2.99 or newer"
    )


def test_a_file_of_the_probe_is_a_target(tmp_path: Path) -> None:
    file = INTERPRETERS / "debian11-i386.json"
    found = parse_target(str(file))
    assert (found.name, found.tag) == ("debian11-i386", "cp39-manylinux_2_31_i686")
    assert found.environment["platform_machine"] == "x86_64"  # reported by the kernel
    assert found.environment["platform_release"] == "6.1.0" and found.evaluate('platform_release > "5"')
    assert "libc.so.6" in found.probe_output["sonames"]
    elsewhere = found.generic()
    assert (elsewhere.facts.python, elsewhere.marker_overrides, elsewhere.probe_output) == ("3.9", (), {})

    written_by_powershell = tmp_path / "My Machine.json"
    written_by_powershell.write_bytes(file.read_text("utf-8").encode("utf-16"))
    assert parse_target(str(written_by_powershell)).name == "My-Machine"
    assert combine_targets(names=[str(file)], python_versions=["3.12"])[0].facts.python == "3.9.2"


def test_a_complete_platform_of_pex_is_a_target(tmp_path: Path) -> None:
    recorded_facts = json.loads((INTERPRETERS / "debian12-arm64.json").read_text("utf-8"))
    file = tmp_path / "there.json"
    keys = ("marker_environment", "compatible_tags")
    file.write_text(json.dumps({"path": "/usr/bin/python3.11", **{key: recorded_facts[key] for key in keys}}), "utf-8")
    found = parse_target(str(file))
    assert found.facts == Facts("cpython", "3.11.2", False, "linux", "aarch64", "glibc", "2.36", None)
    assert [str(tag) for tag in found.tags] == recorded_facts["compatible_tags"]
    assert found.environment == recorded_facts["marker_environment"]
    tags = ["cp313-cp313t-macosx_14_0_arm64", "cp313-cp313t-macosx_14_0_universal2", "py3-none-any"]
    assert make_target_from_facts({"compatible_tags": tags}).tag == "cp313t-macosx_14_0_arm64"
    assert make_target_from_facts({"compatible_tags": ["cp312-cp312-win_amd64"]}).tag == "cp312-win_amd64"


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        "{}",
        '{"compatible_tags": []}',
        '{"compatible_tags": ["cp27-cp27mu-linux_x86_64"]}',
        '{"implementation": "cpython", "python": "3.11.2", "os": "freebsd", "machine": "amd64"}',
        '{"implementation": "cpython", "python": "3.11.2", "os": "linux", "machine": "x86_64", "libc": null}',
        '{"implementation": "graalpy", "python": "3.11.2", "os": "windows", "machine": "amd64", "free_threaded": false}',
        '{"implementation": "cpython", "python": 3.11, "os": "windows", "machine": "amd64"}',
    ],
)
def test_a_file_that_describes_no_interpreter_is_a_source_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text(text, "utf-8")
    with pytest.raises(SourceError, match="machine"):
        parse_target(str(file))


def test_a_name_is_not_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "debian12").write_text("not a facts file", "utf-8")
    assert parse_target("debian12").tag == "cp311-manylinux_2_36_x86_64"
    (tmp_path / "there").write_text((INTERPRETERS / "cp313.json").read_text("utf-8"), "utf-8")
    assert parse_target("there").facts.python == "3.13.0"


def test_the_facts_are_those_of_a_manifest() -> None:
    facts = collect_facts()
    assert set(Facts._fields) <= set(facts)
    assert {"bits", "executable", "prefix", "has", "externally_managed", "marker_environment"} <= set(facts)
    assert isinstance(make_target_from_facts(facts), Target)
