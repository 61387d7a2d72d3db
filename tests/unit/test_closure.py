"""The closure of what was asked, under a target's markers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offlinepack.errors import SelectionError
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.policy import ResolutionPolicy
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.dependencies import Closure, check_closure, next_requirements
from offlinepack.targets.parse import parse_target
from offlinepack.wheels.metadata import WheelMetadata, parse_metadata

LINUX, WINDOWS = "cp311-manylinux_2_28_x86_64", "cp311-win_amd64"


def made(
    name: str, version: str = "1.0", *requires: str, python: str = "", extras: tuple[str, ...] = ()
) -> WheelMetadata:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires] + [f"Provides-Extra: {one}" for one in extras]
    lines += [f"Requires-Python: {python}"] if python else []
    return parse_metadata("\n".join(lines) + "\n\nText.\n")


def closed(*chosen: WheelMetadata, asked: list[str], target: str = LINUX, **more: bool) -> Closure:

    return check_closure(chosen, replace(parse_arguments(asked), policy=ResolutionPolicy(**more)), parse_target(target))


def names(found: Closure) -> list[str]:
    return [one.name for one in found.order]


def codes(found: Closure) -> list[tuple[str, str, str]]:
    return [(one.level, one.code, one.subject) for one in found.findings]


def test_what_is_needed_comes_first() -> None:
    found = closed(
        made("flask", "3.0", "werkzeug>=3", "click"), made("werkzeug", "3.1"), made("click", "8.1"), asked=["Flask"]
    )
    assert names(found) == ["click", "werkzeug", "flask"]
    assert [one.is_requested for one in found.order] == [False, False, True]
    assert found.order[-1].requires == ("click", "werkzeug")
    assert not found.findings and not found.missing_dependencies


def test_circles_are_cut_at_the_first_name() -> None:
    chosen = (made("a", "1", "b"), made("b", "1", "c"), made("c", "1", "a"), made("top", "1", "c"))
    assert names(closed(*chosen, asked=["top"])) == ["c", "b", "a", "top"]
    assert names(closed(*reversed(chosen), asked=["top"])) == ["c", "b", "a", "top"]


def test_markers_are_those_of_the_target() -> None:
    chosen = (made("click", "8", "colorama; sys_platform == 'win32'"), made("colorama", "0.4"))
    assert names(closed(*chosen, asked=["click"], target=WINDOWS)) == ["colorama", "click"]
    on_linux = closed(*chosen, asked=["click"])
    assert names(on_linux) == ["click"]
    assert on_linux.unneeded_names == ("colorama",)
    assert codes(on_linux) == [("note", "superfluous", "colorama")]


def test_missing_on_the_target_is_an_error() -> None:
    found = closed(made("click", "8", "colorama>=0.4; sys_platform == 'win32'"), asked=["click"], target=WINDOWS)
    assert codes(found) == [("error", "missing-dependency", "colorama")]
    assert "click needs colorama>=0.4 on cp311-win_amd64" in found.findings[0].render()


def test_without_dependencies_each_missing_one_is_a_warning() -> None:
    found = closed(made("click", "8", "colorama", "rich"), asked=["click"], no_deps=True)
    assert names(found) == ["click"]
    assert codes(found) == [("warning", "missing-dependency", "colorama"), ("warning", "missing-dependency", "rich")]


def test_extras_lead_on() -> None:
    chosen = (
        made("celery", "5", "kombu", "redis>=4; extra == 'redis'", "sphinx; extra == 'docs'", extras=("redis", "docs")),
        made("kombu", "5"),
        made("redis", "5"),
    )
    assert names(closed(*chosen, asked=["celery[redis]"])) == ["kombu", "redis", "celery"]
    without = closed(*chosen, asked=["celery"])
    assert names(without) == ["kombu", "celery"] and without.unneeded_names == ("redis",)


def test_extras_of_itself_and_of_what_is_needed() -> None:
    chosen = (
        made(
            "stone",
            "1",
            "stone[fire,flint]; extra == 'all'",
            "match; extra == 'fire'",
            "pebble[small]; extra == 'flint'",
            extras=("all", "fire", "flint"),
        ),
        made("match"),
        made("pebble", "1", "sand; extra == 'small'", extras=("small",)),
        made("sand"),
    )
    found = closed(*chosen, asked=["stone[all]"])
    assert names(found) == ["match", "sand", "pebble", "stone"]
    assert found.order[-1].requires == ("match", "pebble")
    assert not found.findings


def test_an_extra_that_comes_late_is_followed_too() -> None:
    chosen = (
        made("a", "1", "b", "c"),
        made("b", "1", "d; extra == 'x'", extras=("x",)),
        made("c", "1", "b[x]"),
        made("d"),
    )
    assert names(closed(*chosen, asked=["a"])) == ["d", "b", "c", "a"]


def test_an_unknown_extra_of_the_user_is_a_warning() -> None:
    found = closed(made("stone", "1", extras=("fire",)), asked=["stone[fyre]"])
    assert codes(found) == [("warning", "unknown-extra", "stone")]


def test_names_of_extras_are_normalised() -> None:
    chosen = (made("stone", "1", "match; extra == 'big-fire'", extras=("Big_Fire",)), made("match"))
    assert names(closed(*chosen, asked=["stone[big.fire]"])) == ["match", "stone"]


def test_versions_are_checked() -> None:
    found = closed(made("stone", "1.0", "pebble>=2"), made("pebble", "1.5"), asked=["stone==1.1"])
    assert codes(found) == [("error", "locked-otherwise", "stone"), ("error", "wrong-version", "pebble")]
    assert "stone needs pebble>=2" in found.findings[1].render()


def test_pre_releases_satisfy() -> None:
    found = closed(made("stone", "1.0", "pebble>=2"), made("pebble", "2.1rc1"), asked=["stone"])
    assert not found.findings


def test_asked_for_but_not_locked() -> None:
    found = closed(made("stone"), asked=["stone", "pebble", "sand; sys_platform == 'win32'"])
    assert codes(found) == [("error", "not-locked", "pebble")]


def test_a_patch_release_goes_into_the_plan() -> None:
    found = check_closure(
        [made("stone", "1", python=">=3.9.2"), made("pebble", "1", python="!=3.9.3,>=3.7")],
        parse_arguments(["stone", "pebble"]),
        parse_target("cp39-manylinux_2_28_x86_64"),
    )
    assert found.python_min == "3.9.2"
    assert not found.findings
    assert closed(made("stone"), asked=["stone"]).python_min == "3.11"


def test_a_python_that_is_not_admitted() -> None:
    found = closed(made("stone", "1", python="<3.11"), asked=["stone"])
    assert codes(found) == [("error", "wrong-python", "stone")]
    assert found.python_min.startswith("3.11")


def test_a_given_lock_is_installed_whole() -> None:
    from packaging.pylock import Pylock

    given = Requirements(pylocks=(Pylock.from_dict({"lock-version": "1.0", "created-by": "x", "packages": []}),))
    chosen = [made("stone", "1", "pebble"), made("pebble"), made("sand")]
    found = check_closure(chosen, given, parse_target(LINUX))
    assert [(one.name, one.is_requested) for one in found.order] == [("pebble", False), ("sand", True), ("stone", True)]
    assert not found.unneeded_names


def test_unreadable_metadata_is_reported() -> None:
    found = closed(made("stone", "1", "pebble (>=banana)", python="three"), asked=["stone"])
    assert [one.code for one in found.findings] == ["metadata-unreadable", "metadata-unreadable"]
    assert names(found) == ["stone"]


def test_an_unknown_marker_is_never_a_guess() -> None:
    with pytest.raises(SelectionError) as caught:
        closed(made("stone", "1", "pebble; platform_version > '5'"), asked=["stone"])
    assert caught.value.findings[0].code == "marker-unknown"


def test_a_thousand_in_a_chain() -> None:
    chosen = [made(f"s{n}", "1", f"s{n + 1}") for n in range(1500)] + [made("s1500")]
    found = closed(*chosen, asked=["s0"])
    assert names(found)[0] == "s1500" and names(found)[-1] == "s0"


def test_an_excluded_project_is_never_added() -> None:
    """A virtual member of a uv workspace stays in the METADATA of the wheels that need it."""
    requirements = replace(parse_arguments(["app"]), excluded_projects=frozenset({"tools"}))
    closed = check_closure([made("app", "1.0", "tools")], requirements, parse_target(LINUX))
    assert not closed.missing_dependencies and next_requirements(requirements, closed) is None
    assert closed.order[0].requires == ()


def test_an_override_replaces_every_requirement_on_a_project() -> None:
    override = parse_arguments(["urllib3==1.26"]).requirements
    requirements = replace(parse_arguments(["requests"]), overrides=override)
    chosen = [made("requests", "2.31", "urllib3>=2"), made("urllib3", "1.26")]
    closed = check_closure(chosen, requirements, parse_target(LINUX))
    assert not closed.missing_dependencies and names(closed) == ["urllib3", "requests"]
