"""The lock that uv makes: what goes in besides names, and how each failure reads."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock

from offlinepack.errors import BuildError, FetchError, OfflinepackError, ResolutionError
from offlinepack.index.settings import read_settings
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.choose import resolve
from offlinepack.resolve.context import ResolverContext
from offlinepack.selection import select_files
from offlinepack.targets.parse import parse_target
from tests.support import scenarios
from tests.support.making import ServedIndex, free_port, make_sdist, make_wheel, serve_index

LINUX = "cp311-manylinux_2_28_x86_64"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ServedIndex]:
    files = [
        make_wheel(tmp_path / "w", "stone", "1.0", requires=["pebble"]),
        make_wheel(tmp_path / "w", "pebble", "1.0"),
        make_sdist(tmp_path / "w", "gravel", "1.0", requires=["pebble"]),
    ]
    with serve_index(tmp_path / "served", files) as served:
        yield served


def locked(index: ServedIndex | str, *asked: str, target: str = LINUX, **how: Any) -> Pylock:
    settings = how.pop("settings", {"index_url": index if isinstance(index, str) else index.url})
    means = how.pop("means", None) or ResolverContext(**{"retries": 0, **how})
    asked_for = parse_arguments(asked)
    return resolve(asked_for, parse_target(target), read_settings(**settings), means, "uv")


def failure(kind: type[OfflinepackError], run: Callable[[], object]) -> OfflinepackError:
    with pytest.raises(kind) as caught:
        run()
    return caught.value


def names(pylock: Pylock) -> list[str]:
    return [f"{one.name}=={one.version}" for one in pylock.packages]


def test_a_lock_says_for_which_machine_it_is_and_validates(index: ServedIndex) -> None:
    made = locked(index, "stone")
    made.validate()
    assert names(made) == ["pebble==1.0", "stone==1.0"]
    assert str(made.requires_python) == "==3.11.*"
    assert [str(one) for one in made.environments or []] == [
        'implementation_name == "cpython" and sys_platform == "linux" and platform_machine == "x86_64"'
    ]
    assert made.created_by == "offlinepack"


def test_the_same_input_gives_the_same_lock(index: ServedIndex, tmp_path: Path) -> None:
    one, other = locked(index, "stone", "gravel"), locked(index, "gravel", "stone", cache_dir=tmp_path / "cache")
    assert one.to_dict() == other.to_dict()


def test_the_machine_s_own_uv_settings_do_not_leak_in(
    index: ServedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uv.toml").write_text('exclude-newer = "2001-01-01"\nresolution = "lowest"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n[tool.uv]\nprerelease = "allow"\n')
    for name, value in {
        "UV_EXCLUDE_NEWER": "2001-01-01",
        "UV_OFFLINE": "1",
        "UV_NO_BUILD": "1",
        "UV_RESOLUTION": "lowest",
        "UV_PRERELEASE": "allow",
        "UV_PYTHON": "2.7",
        "UV_CONSTRAINT": "/nowhere",
        "UV_PROJECT_ENVIRONMENT": "/nowhere",
        "VIRTUAL_ENV": "/nowhere",
        "PYTHONPATH": "/nowhere",
        "PYTHONHOME": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert names(locked(index, "stone")) == ["pebble==1.0", "stone==1.0"]


def test_a_wheel_a_source_and_a_project_by_path(index: ServedIndex, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "own", "sand", "2.0", requires=["pebble"])
    sdist = make_sdist(tmp_path / "own", "clay", "3.0")
    project = make_sdist(tmp_path / "project", "mud", "4.0", requires=["stone"], unpacked=True)
    made = locked(index, str(wheel), str(sdist), str(project))
    found = {one.name: one for one in made.packages}
    assert sorted(found) == ["clay", "mud", "pebble", "sand", "stone"]
    assert found["sand"].archive and found["sand"].archive.path == str(wheel)
    assert found["clay"].archive and found["clay"].archive.path == str(sdist)
    assert found["mud"].directory and found["mud"].directory.path == str(project)
    chosen = select_files(made, parse_target(LINUX), parse_arguments([str(wheel), str(sdist), str(project)]))
    assert [one.name for one in chosen.files if not one.is_wheel] == ["clay", "mud"]


def test_a_commit_is_recorded(index: ServedIndex, tmp_path: Path) -> None:
    project = make_sdist(tmp_path / "project", "mud", "4.0", unpacked=True)
    git = [
        "git",
        "-C",
        str(project),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "init.defaultBranch=m",
    ]
    for step in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v4"]):
        subprocess.run([*git, *step], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (package,) = locked(index, f"mud @ git+{project.as_uri()}@v4").packages
    assert package.vcs and (package.vcs.commit_id, package.vcs.requested_revision) == (commit, "v4")
    wrong = failure(BuildError, lambda: locked(index, f"mud @ git+{project.as_uri()}@nosuch"))
    assert wrong.findings[0].code == "no-checkout"


def test_an_archive_at_an_address(index: ServedIndex) -> None:
    made = locked(index, index.file_url("stone-1.0-py3-none-any.whl"), index.file_url("gravel-1.0.tar.gz"))
    found = {one.name: one.archive for one in made.packages}
    assert found["stone"] and found["stone"].hashes["sha256"]
    assert found["gravel"] and found["gravel"].url == index.file_url("gravel-1.0.tar.gz")


def test_links_instead_of_an_index(tmp_path: Path) -> None:
    make_wheel(tmp_path / "w", "stone", "1.0", requires=["pebble"])
    make_wheel(tmp_path / "w", "pebble", "1.0")
    made = locked("", "stone", settings={"no_index": True, "find_links": [str(tmp_path / "w")]})
    assert names(made) == ["pebble==1.0", "stone==1.0"]
    chosen = select_files(made, parse_target(LINUX), parse_arguments(["stone"]))
    assert chosen.files[0].url == (tmp_path / "w" / "pebble-1.0-py3-none-any.whl").as_uri()
    assert len(chosen.files[0].sha256 or "") == 64


def test_the_first_index_that_has_the_name_wins(index: ServedIndex, tmp_path: Path) -> None:
    newer = [make_wheel(tmp_path / "n", "pebble", "9.0"), make_wheel(tmp_path / "n", "other", "1.0")]
    with serve_index(tmp_path / "public", newer) as public:
        made = locked("", "stone", "other", settings={"index_url": index.url, "extra_index_url": [public.url]})
    assert names(made) == ["other==1.0", "pebble==1.0", "stone==1.0"]
    chosen = select_files(made, parse_target(LINUX), parse_arguments(["stone", "other"]))
    (warned,) = chosen.findings
    assert (warned.level, warned.code, warned.subject) == ("warning", "other-index", "pebble")
    assert "9.0" in warned.render() and public.url in warned.render()


def test_a_project_with_an_index_of_its_own(index: ServedIndex, tmp_path: Path) -> None:
    """Also where it only comes along: uv heeds a source for what is named, so it is named in another round."""
    own = [make_wheel(tmp_path / "n", "pebble", "0.5")]
    with serve_index(tmp_path / "own", own) as inner:
        settings = {
            "index_url": index.url,
            "index": [{"name": "inner", "url": inner.url, "explicit": True}],
            "sources": {"pebble": "inner"},
        }
        assert names(locked("", "stone", settings=settings)) == ["pebble==0.5", "stone==1.0"]


def test_an_address_with_a_secret(tmp_path: Path) -> None:
    with serve_index(tmp_path / "i", [make_wheel(tmp_path / "w", "stone", "1.0")], auth=("me", "s3cret")) as index:
        url = index.file_url("stone-1.0-py3-none-any.whl").replace("://", "://me:s3cret@") + "?token=s3cret"
        made = locked(index.with_credentials("me", "s3cret"), f"stone @ {url}")
    assert "s3cret" not in str(made.to_dict())


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ({"status": 401}, "login-missing", "login"),
        ({"status": 403}, "login-missing", "login"),
        ({"status": 500}, "server-error", "500"),
        ({"status": 503}, "server-error", "503"),
        ({"hang": 30}, "timed-out", "1"),
        ({"body": b"<html>please log in"}, "not-an-index", "index"),
        ({"drop_at": 5}, "connection-broken", ""),
    ],
)
def test_an_index_that_does_not_answer_as_one(index: ServedIndex, fault: dict[str, Any], code: str, says: str) -> None:
    index.fault("stone", **fault)
    found = failure(FetchError, lambda: locked(index, "stone", timeout=1))
    assert found.exit_code == 6
    (finding,) = found.findings
    assert (finding.code, index.root in finding.render()) == (code, True)
    assert says in finding.render()


def test_a_project_that_is_not_there(index: ServedIndex) -> None:
    found = failure(ResolutionError, lambda: locked(index, "stoone", "pebbel>=2", "stone"))
    assert [(one.code, one.subject) for one in found.findings] == [
        ("unknown-project", "pebbel"),
        ("unknown-project", "stoone"),
    ]
    assert "argument 2" in found.findings[0].render()


def test_nothing_answers(tmp_path: Path) -> None:
    found = failure(FetchError, lambda: locked(f"http://127.0.0.1:{free_port()}/simple/", "stone"))
    assert found.findings[0].code == "no-connection"


def test_a_host_that_is_not_known() -> None:
    found = failure(FetchError, lambda: locked("http://nosuchhost.invalid/simple/", "stone"))
    assert found.findings[0].code == "unknown-host"


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    pytest.importorskip("trustme")
    with serve_index(tmp_path / "served", [make_wheel(tmp_path / "w", "stone", "1.0")], tls=True) as index:
        found = failure(FetchError, lambda: locked(index, "stone"))
        assert found.findings[0].code == "unknown-authority"
        assert names(locked("", "stone", settings={"index_url": index.url, "cert": str(index.ca)})) == ["stone==1.0"]


def test_a_wrong_password_is_never_shown(tmp_path: Path) -> None:
    with serve_index(tmp_path / "i", [make_wheel(tmp_path / "w", "stone", "1.0")], auth=("me", "right")) as index:
        assert names(locked(index.with_credentials("me", "right"), "stone")) == ["stone==1.0"]
        found = failure(FetchError, lambda: locked(index.with_credentials("me", "s3cret"), "stone"))
    (finding,) = found.findings
    assert finding.code == "login-refused"
    assert "s3cret" not in finding.render() + finding.log and index.root in finding.render()


def test_links_that_are_not_there() -> None:
    found = failure(
        OfflinepackError, lambda: locked("", "stone", settings={"no_index": True, "find_links": ["/no/such/folder"]})
    )
    assert found.exit_code == 2
    assert "/no/such/folder" in found.findings[0].render()


def test_offline_finds_what_was_read_before(index: ServedIndex, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = locked(index, "stone", cache_dir=cache)
    assert locked(index, "stone", cache_dir=cache, offline=True).to_dict() == made.to_dict()
    found = failure(FetchError, lambda: locked(index, "gravel", cache_dir=cache, offline=True))
    assert [one.code for one in found.findings] == ["not-in-the-store"]


def test_a_source_whose_metadata_cannot_be_built(index: ServedIndex, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    make_sdist(
        bad,
        "mud",
        "1.0",
        unpacked=True,
        files={"pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "nothing"\nbackend-path = ["."]\n'},
    )
    found = failure(BuildError, lambda: locked(index, str(bad)))
    assert found.exit_code == 8
    assert found.findings[0].code == "metadata-build-failed"
    assert "nothing" in found.findings[0].log


def test_a_target_that_uv_does_not_know() -> None:
    found = failure(
        ResolutionError, lambda: locked("http://127.0.0.1:9/", "stone", target="cp311-manylinux_2_28_s390x")
    )
    assert found.findings[0].code == "uv-does-not-know"


def test_a_glibc_newer_than_uv_knows_is_no_reason_to_be_slow(index: ServedIndex) -> None:
    made = locked(index, "stone", target="cp311-manylinux_2_41_x86_64")
    assert names(made) == ["pebble==1.0", "stone==1.0"]


def test_a_lock_that_was_given_is_only_put_in_order(index: ServedIndex) -> None:
    from dataclasses import replace

    made = locked(index, "stone")
    backwards = replace(made, packages=list(reversed(made.packages)))
    asked = Requirements(pylocks=(backwards,))
    nowhere = read_settings(index_url="http://127.0.0.1:9/simple/")
    again = resolve(asked, parse_target(LINUX), nowhere, ResolverContext())
    assert again.to_dict() == made.to_dict()


def test_one_run_asks_an_index_once_whatever_its_targets_and_the_next_run_asks_anew(
    index: ServedIndex, tmp_path: Path
) -> None:
    one_run = ResolverContext(cache_dir=tmp_path / "cache")
    assert names(locked(index, "stone", means=one_run)) == ["pebble==1.0", "stone==1.0"]
    assert (index.count("stone"), index.count("pebble")) == (1, 1)
    index.add(make_wheel(tmp_path / "w", "pebble", "2.0"))
    for target in ("cp312-win_amd64", "cp313-musllinux_1_2_x86_64", LINUX):
        assert names(locked(index, "stone", means=one_run, target=target)) == ["pebble==1.0", "stone==1.0"]
    assert (index.count("stone"), index.count("pebble")) == (1, 1)
    next_run = ResolverContext(cache_dir=tmp_path / "cache")
    for target in ("cp312-win_amd64", LINUX):
        assert names(locked(index, "stone", means=next_run, target=target)) == ["pebble==2.0", "stone==1.0"]
    assert (index.count("stone"), index.count("pebble")) == (2, 2)
    offline = ResolverContext(cache_dir=tmp_path / "cache", offline=True)
    assert names(locked(index, "stone", means=offline, target="cp312-win_amd64")) == ["pebble==2.0", "stone==1.0"]


def test_targets_locked_at_a_time_wait_for_the_first_and_share_what_it_has_read(
    index: ServedIndex, tmp_path: Path
) -> None:
    means = ResolverContext(cache_dir=tmp_path / "cache")
    every = ["cp312-win_amd64", "cp313-musllinux_1_2_x86_64", LINUX, "cp310-macosx_11_0_arm64"]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda target: locked(index, "stone", means=means, target=target), every))
    assert [names(one) for one in made] == [["pebble==1.0", "stone==1.0"]] * 4
    assert (index.count("stone"), index.count("pebble")) == (1, 1)


def test_who_asks_for_other_projects_is_alone_too_wherever_the_small_lock_of_the_tools_came_first(
    index: ServedIndex, tmp_path: Path
) -> None:
    index.add(make_wheel(tmp_path / "w", "marble"))
    index.fault("pebble", hang=0.3)
    means = ResolverContext(cache_dir=tmp_path / "cache")
    assert names(locked(index, "marble", means=means)) == ["marble==1.0"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda target: locked(index, "stone", means=means, target=target), (LINUX, "cp312-win_amd64")))
    assert (index.count("stone"), index.count("pebble")) == (1, 1)


def test_where_nothing_is_kept_the_targets_of_a_run_share_what_was_read_and_it_goes(index: ServedIndex) -> None:
    means = ResolverContext()
    for target in (LINUX, "cp312-win_amd64"):
        assert names(locked(index, "stone", means=means, target=target)) == ["pebble==1.0", "stone==1.0"]
    assert index.count("stone") == 1
    folder = means.run_cache.get_temporary_folder()
    assert (folder / "uv").is_dir()
    del means
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("name", ["several-sources-needed", "source-only-where-there-is-no-wheel"])
def test_impatience_changes_nothing_but_the_time(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sources are read uv is ended and asked again with the sources that it looked for, or in peace."""
    monkeypatch.setattr("offlinepack.resolve.uv.resolver.SDIST_TIMEOUT", 0.05)
    target = scenarios.read(name)["targets"][0]
    scenarios.run_scenario(name, target, "uv", tmp_path, monkeypatch)
