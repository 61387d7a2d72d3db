"""Which file of each locked package a target takes, and every gap."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.pylock import Pylock

from offlinepack.errors import IntegrityError, SelectionError
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.policy import Format, FormatControl, ResolutionPolicy
from offlinepack.requirements.read import parse_arguments
from offlinepack.selection import Selection, select_files
from offlinepack.targets.parse import combine_targets, parse_target

LINUX = "cp311-manylinux_2_28_x86_64"


def wheel(name: str, digest: str = "0") -> dict[str, Any]:
    return {"url": f"https://index.example/{name}", "hashes": {"sha256": digest * 64}, "size": 7}


def package(name: str, version: str, *tags: str, sdist: bool = False, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "version": version, **more}
    if tags:
        made["wheels"] = [wheel(f"{name}-{version}-{tag}.whl") for tag in tags]
    if sdist:
        made["sdist"] = wheel(f"{name}-{version}.tar.gz")
    return made


def lock(*packages: dict[str, Any], **more: Any) -> Pylock:
    return Pylock.from_dict({"lock-version": "1.0", "created-by": "test", "packages": list(packages), **more})


def make_format_requirements(*options: tuple[Format, str]) -> Requirements:
    return Requirements(policy=ResolutionPolicy(format_control=FormatControl(options)))


def chosen(pylock: Pylock, target: str = LINUX, requirements: Requirements | None = None) -> list[str]:
    found: Selection = select_files(pylock, parse_target(target), requirements or Requirements())
    return [one.filename for one in found.files]


def gaps(pylock: Pylock, target: str = LINUX, requirements: Requirements | None = None) -> list[tuple[str, str]]:
    with pytest.raises(SelectionError) as caught:
        select_files(pylock, parse_target(target), requirements or Requirements())
    assert caught.value.exit_code == 5
    return [(one.code, one.subject) for one in caught.value.findings]


def test_the_best_tag_wins() -> None:
    one = package(
        "stone",
        "1.0",
        "py3-none-any",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_34_x86_64",
        "cp311-cp311-win_amd64",
    )
    assert chosen(lock(one)) == ["stone-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"]
    assert chosen(lock(one), "cp311-manylinux_2_17_x86_64") == ["stone-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"]
    assert chosen(lock(one), "cp311-win_amd64") == ["stone-1.0-cp311-cp311-win_amd64.whl"]
    assert chosen(lock(one), "cp312-win_amd64") == ["stone-1.0-py3-none-any.whl"]


def test_the_highest_build_tag_wins_among_the_same_tags() -> None:
    one = package("stone", "1.0", "py3-none-any", "2-py3-none-any", "10-py3-none-any", "10a-py3-none-any")
    assert chosen(lock(one)) == ["stone-1.0-10a-py3-none-any.whl"]


def test_the_tag_comes_before_the_build_tag() -> None:
    one = package("stone", "1.0", "9-py3-none-any", "cp311-cp311-manylinux_2_17_x86_64")
    assert chosen(lock(one)) == ["stone-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"]


def test_abi3_of_an_older_python_fits_and_the_own_abi_is_better() -> None:
    one = package("stone", "1.0", "cp38-abi3-manylinux_2_17_x86_64", "cp312-abi3-manylinux_2_17_x86_64")
    assert chosen(lock(one)) == ["stone-1.0-cp38-abi3-manylinux_2_17_x86_64.whl"]
    assert gaps(lock(one), "cp313t-manylinux_2_28_x86_64") == [("no-wheel", "stone")]


def test_all_gaps_at_once_with_the_nearest_file() -> None:
    made = lock(
        package("gravel", "1.0", "cp311-cp311-manylinux_2_34_x86_64", "cp311-cp311-win_amd64"),
        package("pebble", "1.0", "py3-none-any"),
        package("stone", "1.0", "cp310-cp310-manylinux_2_17_x86_64"),
    )
    assert gaps(made) == [("no-wheel", "gravel"), ("no-wheel", "stone")]
    with pytest.raises(SelectionError) as caught:
        select_files(made, parse_target(LINUX), Requirements())
    sentence = caught.value.findings[0].render()
    assert "gravel-1.0-cp311-cp311-manylinux_2_34_x86_64.whl" in sentence
    assert "2.34" in sentence and LINUX in sentence


def test_an_sdist_is_taken_only_where_no_wheel_fits() -> None:
    made = lock(
        package("pebble", "1.0", "py3-none-any", sdist=True),
        package("stone", "1.0", "cp311-cp311-win_amd64", sdist=True),
    )
    assert chosen(made) == ["pebble-1.0-py3-none-any.whl", "stone-1.0.tar.gz"]
    found = select_files(made, parse_target(LINUX), Requirements())
    assert [one.name for one in found.files if not one.is_wheel] == ["stone"]


def test_only_binary_makes_a_gap_of_it() -> None:
    made = lock(package("pebble", "1.0", sdist=True), package("stone", "1.0", "cp311-cp311-win_amd64", sdist=True))
    wanted = make_format_requirements(("only-binary", ":all:"))
    assert gaps(made, requirements=wanted) == [("only-excluded-files", "pebble"), ("no-wheel", "stone")]


def test_no_binary_takes_the_sdist_and_a_project_wins_over_all() -> None:
    made = lock(
        package("pebble", "1.0", "py3-none-any", sdist=True), package("stone", "1.0", "py3-none-any", sdist=True)
    )
    assert chosen(made, requirements=make_format_requirements(("no-binary", "stone"))) == [
        "pebble-1.0-py3-none-any.whl",
        "stone-1.0.tar.gz",
    ]
    both = make_format_requirements(("no-binary", ":all:"), ("only-binary", "pebble"))
    assert chosen(made, requirements=both) == ["pebble-1.0-py3-none-any.whl", "stone-1.0.tar.gz"]


def test_markers_decide_for_the_target() -> None:
    made = lock(
        package("colorama", "0.4", "py3-none-any", marker="sys_platform == 'win32'"),
        package("stone", "1.0", "py3-none-any", marker="python_full_version < '3.11'"),
        package("uvloop", "1.0", "py3-none-any", marker="sys_platform != 'win32' and platform_machine == 'x86_64'"),
    )
    assert chosen(made) == ["uvloop-1.0-py3-none-any.whl"]
    assert chosen(made, "cp310-win_amd64") == ["colorama-0.4-py3-none-any.whl", "stone-1.0-py3-none-any.whl"]


def test_a_marker_of_an_unknown_value_is_never_a_guess() -> None:
    made = lock(package("stone", "1.0", "py3-none-any", marker="platform_release >= '5'"))
    with pytest.raises(SelectionError) as caught:
        select_files(made, parse_target(LINUX), Requirements())
    assert caught.value.findings[0].code == "marker-unknown"


def test_extras_and_groups_of_a_lock() -> None:
    made = lock(
        package("stone", "1.0", "py3-none-any"),
        package("fire", "1.0", "py3-none-any", marker="'fire' in extras"),
        package("lint", "1.0", "py3-none-any", marker="'dev' in dependency_groups"),
        package("docs", "1.0", "py3-none-any", marker="'docs' in dependency_groups"),
        extras=["fire"],
        **{"dependency-groups": ["dev", "docs"], "default-groups": ["docs"]},
    )
    assert chosen(made) == ["docs-1.0-py3-none-any.whl", "stone-1.0-py3-none-any.whl"]
    wanted = Requirements(extras=("fire",), groups=("dev",))
    assert chosen(made, requirements=wanted) == [
        "fire-1.0-py3-none-any.whl",
        "lint-1.0-py3-none-any.whl",
        "stone-1.0-py3-none-any.whl",
    ]


def test_forks_of_a_universal_lock() -> None:
    made = lock(
        package("numpy", "2.2.6", "cp310-cp310-manylinux_2_17_x86_64", marker="python_full_version < '3.11'"),
        package("numpy", "2.5.5", "cp311-cp311-manylinux_2_28_x86_64", marker="python_full_version >= '3.11'"),
    )
    assert chosen(made) == ["numpy-2.5.5-cp311-cp311-manylinux_2_28_x86_64.whl"]
    assert chosen(made, "cp310-manylinux_2_28_x86_64") == ["numpy-2.2.6-cp310-cp310-manylinux_2_17_x86_64.whl"]


def test_forks_that_both_hold() -> None:
    made = lock(package("stone", "1.0", "py3-none-any"), package("stone", "2.0", "py3-none-any"))
    assert gaps(made) == [("locked-twice", "stone")]


def test_a_patch_release_counts() -> None:
    made = lock(package("stone", "1.0", "py3-none-any", **{"requires-python": ">=3.9.2"}))
    assert chosen(made, "cp39-manylinux_2_28_x86_64") == ["stone-1.0-py3-none-any.whl"]
    exactly = combine_targets(platforms=["manylinux_2_28_x86_64"], python_versions=["3.9.0"])[0]
    with pytest.raises(SelectionError) as caught:
        select_files(made, exactly, Requirements())
    assert [one.code for one in caught.value.findings] == ["locked-for-other-python"]


def test_hashes_that_were_asked_for_choose_among_the_files() -> None:
    made = lock(
        {
            "name": "stone",
            "version": "1.0",
            "wheels": [
                wheel("stone-1.0-py3-none-any.whl", "a"),
                wheel("stone-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "b"),
            ],
        }
    )
    assert chosen(made, requirements=hashed("a")) == ["stone-1.0-py3-none-any.whl"]
    with pytest.raises(IntegrityError) as caught:
        select_files(made, parse_target(LINUX), hashed("c"))
    assert caught.value.exit_code == 7
    assert "r.txt:1" in caught.value.findings[0].render()


def test_a_hash_of_another_algorithm_is_left_to_the_store() -> None:
    from dataclasses import replace

    made = lock(package("stone", "1.0", "py3-none-any"))
    (asked,) = parse_arguments(["stone==1.0"]).requirements
    wanted = Requirements(requirements=(replace(asked, hashes=("sha512:" + "0" * 128,)),))
    assert chosen(made, requirements=wanted) == ["stone-1.0-py3-none-any.whl"]


def hashed(digest: str) -> Requirements:
    from dataclasses import replace

    (asked,) = parse_arguments(["stone==1.0"]).requirements
    return Requirements(requirements=(replace(asked, origin="r.txt:1", hashes=("sha256:" + digest * 64,)),))


def test_folders_commits_and_addresses() -> None:
    made = lock(
        {"name": "folder", "directory": {"path": "/srv/folder"}},
        {"name": "commit", "vcs": {"type": "git", "url": "https://host.example/x.git", "commit-id": "c" * 40}},
        {"name": "address", "archive": wheel("address-2.0-py3-none-any.whl")},
        {"name": "source", "archive": wheel("source-1.0.tar.gz")},
    )
    found = select_files(made, parse_target(LINUX), Requirements())
    assert [(one.name, one.filename, str(one.version), one.is_wheel) for one in found.files] == [
        ("address", "address-2.0-py3-none-any.whl", "2.0", True),
        ("commit", "", "None", False),
        ("folder", "", "None", False),
        ("source", "source-1.0.tar.gz", "None", False),
    ]


def test_a_wheel_at_an_address_that_does_not_fit_is_a_gap() -> None:
    made = lock({"name": "address", "archive": wheel("address-2.0-cp311-cp311-win_amd64.whl")})
    assert gaps(made) == [("no-wheel", "address")]


def test_what_the_lock_says_of_a_release_is_passed_on() -> None:
    made = lock(package("stone", "1.0", "py3-none-any", tool={"offlinepack": {"yanked": "broken"}}))
    found = select_files(made, parse_target(LINUX), Requirements())
    (finding,) = found.findings
    assert (finding.level, finding.code) == ("warning", "yanked")
    assert "broken" in finding.render()


def test_the_order_of_a_lock_makes_no_difference() -> None:
    stone = package("stone", "1.0", "py3-none-any", "cp311-cp311-manylinux_2_17_x86_64")
    pebble = package("pebble", "1.0", "py3-none-any")
    backwards = {**stone, "wheels": list(reversed(stone["wheels"]))}
    assert chosen(lock(stone, pebble)) == chosen(lock(pebble, backwards))
