"""The lock that pip makes: the scenarios again, what goes in besides names, and how each failure reads."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Package, Pylock

from offlinepack.errors import BuildError, FetchError, OfflinepackError, ResolutionError, SelectionError
from offlinepack.index.settings import read_settings
from offlinepack.requirements.policy import ResolutionPolicy
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.choose import resolve
from offlinepack.resolve.context import ResolverContext
from offlinepack.selection import select_files
from offlinepack.targets.parse import parse_target
from tests.support.making import ServedIndex, free_port, make_sdist, make_wheel, serve_index
from tests.support.scenarios import SCENARIOS, read, run_scenario

POWER = "cp311-manylinux_2_28_ppc64le"
"""uv does not know it"""


def scenarios() -> list[str]:
    """Those that do not already name both lockers."""
    found = [path.stem for path in sorted(SCENARIOS.glob("*.toml"))]
    return [name for name in found if "pip" not in read(name).get("resolvers", [])]


@pytest.mark.parametrize("name", scenarios())
def test_the_scenarios_hold_for_pip_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = read(name)["targets"][0]
    run_scenario(name, target, "pip", tmp_path, monkeypatch)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ServedIndex]:
    files = [
        make_wheel(tmp_path / "w", "stone", "1.0", requires=["pebble"]),
        make_wheel(tmp_path / "w", "pebble", "1.0"),
        make_wheel(tmp_path / "w", "pebble", "2.0a1"),
        make_sdist(tmp_path / "w", "gravel", "1.0", requires=["pebble"]),
    ]
    with serve_index(tmp_path / "served", files) as served:
        yield served


def locked(index: ServedIndex | None, *asked: str, target: str = POWER, policy: Any = None, **how: Any) -> Pylock:
    settings = how.pop("settings", {"index_url": index.url if index else None})
    means = ResolverContext(**{"retries": 0, **how})
    policy = dict(policy or {})
    constraints = policy.pop("constraints", ())
    wanted = replace(parse_arguments(asked), constraints=constraints, policy=ResolutionPolicy(**policy))
    return resolve(wanted, parse_target(target), read_settings(**settings), means, "pip")


def failure(kind: type[OfflinepackError], run: Callable[[], object]) -> OfflinepackError:
    with pytest.raises(kind) as caught:
        run()
    return caught.value


def names(pylock: Pylock) -> list[str]:
    return [f"{one.name}=={one.version}" for one in pylock.packages]


def package(pylock: Pylock, name: str) -> Package:
    return next(one for one in pylock.packages if one.name == name)


def test_auto_takes_pip_where_uv_knows_no_such_machine(index: ServedIndex) -> None:
    seen = parse_target(POWER)
    assert seen.get_uv_platform() is None
    asked = parse_arguments(["stone"])
    made = resolve(asked, seen, read_settings(index_url=index.url), ResolverContext(retries=0))
    made.validate()
    assert names(made) == ["pebble==1.0", "stone==1.0"]
    assert made.created_by == "offlinepack"
    assert [one.filename for one in select_files(made, seen, asked).files] == [
        "pebble-1.0-py3-none-any.whl",
        "stone-1.0-py3-none-any.whl",
    ]


def test_both_lockers_write_the_same_lock(index: ServedIndex, tmp_path: Path) -> None:
    index.files["stone-1.0-py3-none-any.whl"].upload_time = "2024-01-01T00:00:00.123456Z"
    asked, seen = parse_arguments(["stone", "gravel"]), parse_target("cp311-manylinux_2_28_x86_64")
    settings = read_settings(index_url=index.url)
    by = {one: resolve(asked, seen, settings, ResolverContext(cache_dir=tmp_path / one), one) for one in ("uv", "pip")}
    for pylock in by.values():
        pylock.validate()
    ours, theirs = (
        {
            one.name: (one.version, [w.to_dict() if hasattr(w, "to_dict") else w for w in one.wheels or []])
            for one in pylock.packages
        }
        for pylock in by.values()
    )
    assert {name: version for name, (version, _) in ours.items()} == {name: v for name, (v, _) in theirs.items()}
    for name, (_, wheels) in ours.items():
        for mine, other in zip(wheels, theirs[name][1], strict=True):
            assert (mine.filename, mine.url, mine.hashes) == (other.filename, other.url, other.hashes)


def test_policies_reach_pip(index: ServedIndex) -> None:
    assert names(locked(index, "pebble", policy={"pre": True})) == ["pebble==2.0a1"]
    assert names(locked(index, "stone", policy={"no_deps": True})) == ["stone==1.0"]
    constraint = parse_arguments(["pebble<1.0"]).requirements
    index.add(make_wheel(index.folder / "more", "pebble", "0.9"))
    assert names(locked(index, "stone", policy={"constraints": constraint})) == ["pebble==0.9", "stone==1.0"]
    index.files["pebble-0.9-py3-none-any.whl"].upload_time = "2020-01-01T00:00:00Z"
    index.files["pebble-1.0-py3-none-any.whl"].upload_time = "2024-01-01T00:00:00Z"
    index.files["pebble-2.0a1-py3-none-any.whl"].upload_time = "2020-01-01T00:00:00Z"
    assert names(locked(index, "pebble", policy={"uploaded_prior_to": "2021-01-01"})) == ["pebble==0.9"]


def test_addresses_paths_and_repositories(index: ServedIndex, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "there", "slab", "3.0", requires=["pebble"])
    archive = make_sdist(tmp_path / "there", "shale", "2.0", requires=["pebble"])
    folder = make_sdist(tmp_path / "project", "slate", "0.1", unpacked=True)
    repository = make_sdist(tmp_path / "repository", "chalk", "0.2", unpacked=True)
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "."],
        ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "x"],
    ):
        subprocess.run(command, cwd=repository, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True
    ).stdout.strip()
    served = index.add(make_wheel(tmp_path / "there", "marl", "1.0"))
    made = locked(
        index,
        f"slab @ {wheel.as_uri()}",
        f"shale @ {archive.as_uri()}",
        f"slate @ {folder.as_uri()}",
        f"chalk @ git+{repository.as_uri()}",
        f"marl @ {index.file_url(served.path.name)}",
    )
    made.validate()
    assert names(made) == ["chalk==0.2", "marl==1.0", "pebble==1.0", "shale==2.0", "slab==3.0", "slate==0.1"]
    vcs = package(made, "chalk").vcs
    assert vcs and vcs.commit_id == commit and vcs.type == "git" and vcs.url == repository.as_uri()
    directory = package(made, "slate").directory
    assert directory and Path(directory.path) == folder
    for name, path in (("slab", wheel), ("shale", archive)):
        one = package(made, name).archive
        assert one and one.path == str(path) and set(one.hashes) == {"sha256"}
    address = package(made, "marl").archive
    assert address and address.url == index.file_url(served.path.name) and address.hashes["sha256"] == served.sha256


def test_find_links(index: ServedIndex, tmp_path: Path) -> None:
    local = make_wheel(tmp_path / "links", "slab", "1.0", requires=["pebble"])
    made = locked(None, "slab", settings={"index_url": index.url, "find_links": [str(local.parent)]})
    assert names(made) == ["pebble==1.0", "slab==1.0"]
    (wheel,) = package(made, "slab").wheels or []
    assert wheel.path == str(local) and wheel.size == local.stat().st_size
    only = locked(None, "stone", settings={"no_index": True, "find_links": [index.flat]})
    assert names(only) == ["pebble==1.0", "stone==1.0"]


def test_an_index_of_its_own(index: ServedIndex, tmp_path: Path) -> None:
    with serve_index(tmp_path / "other", [make_wheel(tmp_path / "o", "pebble", "7.0")]) as other:
        settings = {
            "index_url": index.url,
            "index": [{"name": "other", "url": other.url, "explicit": True}],
            "sources": {"pebble": {"index": "other"}},
        }
        assert names(locked(None, "stone", settings=settings)) == ["pebble==7.0", "stone==1.0"]


def test_wheels_first_and_what_that_passed_over(index: ServedIndex, tmp_path: Path) -> None:
    index.add(make_sdist(tmp_path / "s", "pebble", "3.0"))
    made = locked(index, "stone", "gravel")
    assert names(made) == ["gravel==1.0", "pebble==1.0", "stone==1.0"]
    assert package(made, "pebble").tool == {"offlinepack": {"newer-without-wheel": "3.0"}}
    sdist = package(made, "gravel").sdist
    assert sdist and sdist.filename == "gravel-1.0.tar.gz"


def test_of_several_sources_only_those_that_are_needed(index: ServedIndex, tmp_path: Path) -> None:
    """basalt 2 would do with marl from source; basalt 1 needs none."""
    index.add(make_sdist(tmp_path / "s", "marl", "1.0"))
    index.add(make_sdist(tmp_path / "s", "chert", "1.0"))
    made = locked(index, "marl", "chert", "stone")
    assert [one.name for one in made.packages if one.sdist] == ["chert", "marl"]


def test_offline_from_what_was_kept(index: ServedIndex, tmp_path: Path) -> None:
    first = locked(index, "stone", cache_dir=tmp_path / "cache")
    again = locked(index, "stone", cache_dir=tmp_path / "cache", offline=True)
    assert first.to_dict() == again.to_dict()
    bad = failure(FetchError, lambda: locked(index, "gravel", cache_dir=tmp_path / "cache", offline=True))
    assert [(one.code, one.subject) for one in bad.findings] == [("not-in-the-store", "gravel")]


# ------------------------------------------------------------------------------------------------- failures


def test_all_unknown_projects_and_gaps_at_once(index: ServedIndex, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "m", "boulder", "1.0", tag="cp311-cp311-win_amd64"))
    index.add(make_wheel(tmp_path / "m", "slab", "1.0", requires=["nowhere", "boulder"]))
    bad = failure(ResolutionError, lambda: locked(index, "slab", "missing"))
    assert [(one.code, one.subject) for one in bad.findings] == [
        ("no-wheel", "boulder"),
        ("unknown-project", "missing"),
        ("unknown-project", "nowhere"),
    ]
    said = "\n".join(one.render() for one in bad.findings)
    assert "nowhere, asked for by slab==1.0" in said and "missing, asked for by argument 2" in said
    assert "boulder-1.0-cp311-cp311-win_amd64.whl" in said


def test_who_asked_for_what_stands_in_a_conflict(index: ServedIndex, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "m", "slab", "1.0", requires=["pebble>=1.5"]))
    index.add(make_wheel(tmp_path / "m", "pebble", "2.0"))
    bad = failure(ResolutionError, lambda: locked(index, "slab", "pebble<2"))
    (finding,) = bad.findings
    assert finding.code == "conflict" and "pebble<2 (argument 2)" in finding.render()
    assert "slab needs pebble>=1.5" in finding.render()
    assert "Cannot install" in finding.log


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 500}, "server-error"),
        ({"status": 403}, "access-refused"),
        ({"body": b"<html><form></form></html>"}, "not-an-index"),
    ],
)
def test_an_index_that_fails_is_exit_6(fault: dict[str, Any], code: str, index: ServedIndex) -> None:
    index.fault("stone", **fault)
    bad = failure(FetchError, lambda: locked(index, "stone"))
    assert len(bad.findings) == 1 and "127.0.0.1" in bad.findings[0].render()


def test_a_missing_login_is_reported_with_the_places_searched(index: ServedIndex) -> None:
    index.auth = ("user", "secret-word")
    bad = failure(FetchError, lambda: locked(index, "stone"))
    assert "401" in bad.findings[0].render() or "password" in bad.findings[0].render()
    settings = {"index_url": index.with_credentials("user", "wrong-word")}
    wrong = failure(FetchError, lambda: locked(None, "stone", settings=settings))
    assert "wrong-word" not in wrong.findings[0].render() + wrong.findings[0].log
    settings = {"index_url": index.with_credentials("user", "secret-word")}
    assert names(locked(None, "stone", settings=settings)) == ["pebble==1.0", "stone==1.0"]


def test_nothing_answers() -> None:
    settings = {"index_url": f"http://127.0.0.1:{free_port()}/simple/"}
    bad = failure(FetchError, lambda: locked(None, "stone", settings=settings))
    assert "127.0.0.1" in bad.findings[0].render()


def test_sources_that_cannot_be_read(index: ServedIndex, tmp_path: Path) -> None:
    folder = make_sdist(tmp_path / "p", "slate", "1.0", unpacked=True)
    (folder / "backend" / "in_tree.py").write_text("raise SystemExit('this backend is broken')")
    cases = {
        f"slate @ {folder.as_uri()}": "metadata-build-failed",
        f"nothing @ {index.file_url('nothing-1.0.tar.gz')}": "nothing-there",
        f"nothing @ git+{(tmp_path / 'no-repository').as_uri()}": "no-checkout",
        f"other @ {make_wheel(tmp_path / 'w', 'pebble').as_uri()}": "other-name",
    }
    for line, code in cases.items():
        bad = failure(BuildError, lambda line=line: locked(index, line))
        assert [one.code for one in bad.findings] == [code], bad.findings[0].render() + bad.findings[0].log
        assert line.partition(" ")[0] in bad.findings[0].render()


def test_an_address_of_a_wheel_for_another_machine(index: ServedIndex, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "slab", "1.0", tag="cp311-cp311-win_amd64")
    bad = failure(SelectionError, lambda: locked(index, f"slab @ {wheel.as_uri()}"))
    assert [(one.code, one.subject) for one in bad.findings] == [("no-wheel", "slab")]
    assert "is for Windows" in bad.findings[0].render()


def _old_ways(tmp_path: Path, served: ServedIndex, way_out: bool) -> None:
    """kiln needs tar, which has no wheel for the target, by way of others of which there are many releases."""
    for one in range(1, 13):
        later = {"kiln": ["ash", "brick", "clay", "flue"], "flue": ["tar"], "ash": [], "brick": [], "clay": []}
        for name, needs in later.items():
            served.add(make_wheel(tmp_path / "k", name, f"{one}.0", requires=needs))
    served.add(make_wheel(tmp_path / "k", "tar", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64"))
    served.add(make_sdist(tmp_path / "k", "tar", "1.0"))
    if way_out:
        served.add(make_wheel(tmp_path / "k", "kiln", "0.1", requires=["ash"]))


def test_an_old_way_round_a_project_without_a_file_is_found(index: ServedIndex, tmp_path: Path) -> None:
    """pip alone tries all that can be combined: twelve releases of each, 12 x 12 x 12 x 12 x 12."""
    _old_ways(tmp_path, index, way_out=True)
    made = locked(index, "kiln", can_build=lambda _: False)
    assert names(made) == ["ash==12.0", "kiln==0.1"]
    assert package(made, "kiln").tool == {"offlinepack": {"newer-needs": ["12.0", ["tar"]]}}
    target = parse_target(POWER)
    (said,) = select_files(made, target, parse_arguments(["kiln"])).findings
    assert (
        said.level == "warning"
        and "kiln 0.1 was taken" in str(said.sentence)
        and "12.0 needs tar" in str(said.sentence)
    )


def test_a_missing_file_behind_many_old_releases_is_reported_as_missing(index: ServedIndex, tmp_path: Path) -> None:
    _old_ways(tmp_path, index, way_out=False)
    refusal = failure(SelectionError, lambda: locked(index, "kiln", "stone", can_build=lambda _: False))
    (gap,) = refusal.findings
    assert gap.code == "no-wheel" and gap.subject == "tar" and "asked for by flue" in str(gap.sentence)
