"""Real pip and pip-compile, seeing a target: the proof at the start, our rules, what they tell."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import Tag

from offlinepack.errors import ResolutionError
from offlinepack.pip_shim.run import PipOutput, PipRules, run_pip
from offlinepack.targets.parse import parse_target
from tests.support.making import ServedIndex, make_sdist, make_wheel, serve_index

WINDOWS, LINUX = "cp38-win_amd64", "cp311-manylinux_2_28_x86_64"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ServedIndex]:
    wheels = tmp_path / "wheels"
    files = [
        make_wheel(wheels, "stone", requires=['gravel; sys_platform == "win32"', 'sand; sys_platform == "linux"']),
        make_wheel(wheels, "gravel", "1.0"),
        make_wheel(wheels, "gravel", "2.0", requires_python=">=3.9"),
        make_wheel(wheels, "sand", "1.0"),
        make_wheel(wheels, "slab", "1.0", tag="cp38-cp38-win_amd64"),
        make_wheel(wheels, "slab", "2.0", tag="cp311-cp311-manylinux_2_17_x86_64"),
    ]
    with serve_index(tmp_path / "served", files) as served:
        yield served


def ask(
    index: ServedIndex | str | None,
    *lines: str,
    target: Any = WINDOWS,
    folder: Path,
    more: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    **rules: Any,
) -> PipOutput:
    """`pip-compile` of these lines."""
    folder.mkdir(exist_ok=True)
    (folder / "requirements.in").write_text("".join(f"{line}\n" for line in lines))
    (folder / "pins.txt").unlink(missing_ok=True)
    command = ["pip-compile", "--quiet", "--no-config", "--no-header", "--no-annotate", "--no-emit-options"]
    command += ["--strip-extras", "--allow-unsafe", "-o", "pins.txt", "--cache-dir", str(folder / "cache")]
    command += ["--pip-args", " ".join(["--only-binary :all: --prefer-binary", *more]), "requirements.in"]
    seen = parse_target(target) if isinstance(target, str) else target
    settings = {} if index is None else {"PIP_INDEX_URL": index if isinstance(index, str) else index.url}
    if isinstance(index, ServedIndex):
        rules.setdefault("indexes", (index.url,))
    return run_pip(seen, command, environment={**settings, **(environment or {})}, cwd=folder, rules=PipRules(**rules))


def pins(answer: PipOutput) -> list[str]:
    assert "pins" in answer.facts, answer.stderr + str(answer.facts)
    return sorted(f"{one['name']}=={one['version']}" for one in answer.facts["pins"])


def test_markers_tags_and_the_python_version_are_the_target_s(index: ServedIndex, tmp_path: Path) -> None:
    for_windows = ask(index, "stone", "slab", folder=tmp_path / "w")
    assert pins(for_windows) == ["gravel==1.0", "slab==1.0", "stone==1.0"]
    assert (tmp_path / "w" / "pins.txt").read_text().split() == ["gravel==1.0", "slab==1.0", "stone==1.0"]
    for_linux = ask(index, "stone", "slab", "gravel", target=LINUX, folder=tmp_path / "l")
    assert pins(for_linux) == ["gravel==2.0", "sand==1.0", "slab==2.0", "stone==1.0"]


def test_any_pip_command_sees_it(index: ServedIndex, tmp_path: Path) -> None:
    command = ["pip", "install", "--dry-run", "--ignore-installed", "--report", "report.json", "stone"]
    answer = run_pip(parse_target(WINDOWS), command, environment={"PIP_INDEX_URL": index.url}, cwd=tmp_path)
    assert answer.exit_code == 0, answer.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["environment"]["sys_platform"] == "win32"
    assert report["environment"]["python_version"] == "3.8"
    assert sorted(one["metadata"]["name"] for one in report["install"]) == ["gravel", "stone"]


def test_the_machine_s_own_pip_settings_do_not_leak_in(
    index: ServedIndex, tmp_path: Path, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clean_environment / ".config" / "pip"
    folder.mkdir(parents=True)
    (folder / "pip.conf").write_text("[global]\nindex-url = http://nowhere.invalid/\nno-index = true\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "nonsense")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    assert pins(ask(index, "sand", folder=tmp_path / "x")) == ["sand==1.0"]


@dataclass(frozen=True)
class Odd:
    """A target that pip cannot be shown."""

    name: str = "odd"
    environment: dict[str, str] = field(default_factory=lambda: dict(parse_target(LINUX).environment))
    tags: tuple[Tag, ...] = parse_target(LINUX).tags


@pytest.mark.parametrize(
    ("odd", "part"),
    [
        (Odd(environment={**Odd().environment, "no_such_variable": "1"}), "the marker environment"),
        (Odd(environment={**Odd().environment, "python_full_version": "3.11"}), "the Python version"),
        (Odd(tags=(Tag("cp311", "cp311", "not-one"),)), "the list of tags"),
        (Odd(tags=()), "the reader of pages"),
    ],
)
def test_what_does_not_take_effect_is_exit_4_with_pip_s_version(odd: Odd, part: str, tmp_path: Path) -> None:
    import pip

    with pytest.raises(ResolutionError) as caught:
        ask(None, "stone", target=odd, folder=tmp_path / "x")
    (finding,) = caught.value.findings
    assert finding.subject == f"pip {pip.__version__}" and finding.code == "pip-not-replaceable"
    assert part in finding.render() and ">=24.2" in finding.render()


def test_an_unknown_value_is_an_error_only_where_it_matters(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    made = [
        make_wheel(wheels, "stone", requires=['sand; platform_release >= "5" and sys_platform == "linux"']),
        make_wheel(wheels, "pebble", requires=['sand; platform_release >= "5" or sys_platform == "win32"']),
        make_wheel(wheels, "slate", requires=['sand; platform_version != "5" or os_name == "posix"']),
        make_wheel(wheels, "sand"),
    ]
    with serve_index(tmp_path / "served", made) as index:
        assert pins(ask(index, "stone", "pebble", folder=tmp_path / "a")) == ["pebble==1.0", "sand==1.0", "stone==1.0"]
        answer = ask(index, "slate", folder=tmp_path / "b")
        assert answer.facts["marker"] == 'platform_version != "5" or os_name == "posix"'
        assert "pins" not in answer.facts


# ------------------------------------------------------------------------------------------------- rules


def two(tmp_path: Path, first: list[Path], second: list[Path]) -> Any:
    from contextlib import ExitStack

    stack = ExitStack()
    one = stack.enter_context(serve_index(tmp_path / "one", first))
    other = stack.enter_context(serve_index(tmp_path / "other", second))
    return stack, one, other


def test_the_first_index_that_has_the_project_wins(tmp_path: Path) -> None:
    wheels, newer = tmp_path / "a", tmp_path / "b"
    mine = [make_wheel(wheels, "stone", "1.0", requires=["sand"])]
    public = [make_wheel(newer, "stone", "9.0"), make_wheel(newer, "sand", "1.0")]
    stack, one, other = two(tmp_path, mine, public)
    with stack:
        more = {"PIP_EXTRA_INDEX_URL": other.url}
        merged = ask(one, "stone", folder=tmp_path / "m", environment=more, indexes=None)
        assert pins(merged) == ["stone==9.0"]
        ours = ask(one, "stone", folder=tmp_path / "x", environment=more, indexes=(one.url, other.url))
        assert pins(ours) == ["sand==1.0", "stone==1.0"]
        sourced = ask(
            one,
            "stone",
            folder=tmp_path / "s",
            environment=more,
            indexes=(one.url, other.url),
            sources={"stone": other.url},
        )
        assert pins(sourced) == ["stone==9.0"]


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 403}, {"body": b"<html>login</html>", "headers": {"Content-Type": "text/plain"}}],
)
def test_an_index_that_fails_is_not_passed_over(fault: dict[str, Any], tmp_path: Path) -> None:
    public = [make_wheel(tmp_path / "b", "stone", "9.0")]
    stack, one, other = two(tmp_path, [make_wheel(tmp_path / "a", "stone", "1.0")], public)
    with stack:
        one.fault("stone", **{"status": 200, **fault})
        answer = ask(
            one,
            "stone",
            folder=tmp_path / "x",
            environment={"PIP_EXTRA_INDEX_URL": other.url, "PIP_RETRIES": "0"},
            indexes=(one.url, other.url),
        )
        assert answer.facts["index"]["url"] == f"{one.url}stone/"
        assert "pins" not in answer.facts
        if fault.get("status") == 403:
            there = {"missing_codes": {one.url: (403,)}, "indexes": (one.url, other.url)}
            more = {"PIP_EXTRA_INDEX_URL": other.url}
            assert pins(ask(one, "stone", folder=tmp_path / "y", environment=more, **there)) == ["stone==9.0"]


def test_sources_may_be_allowed_for_one_project(index: ServedIndex, tmp_path: Path) -> None:
    index.add(make_sdist(tmp_path / "s", "boulder", "1.0", requires=["sand"]))
    index.add(make_sdist(tmp_path / "s", "sand", "2.0"))
    assert ask(index, "boulder", folder=tmp_path / "x").facts["causes"][0]["project"] == "boulder"
    answer = ask(index, "boulder", folder=tmp_path / "x", allow_sdist=("boulder",))
    assert pins(answer) == ["boulder==1.0", "sand==1.0"]
    assert [one["name"] for pin in answer.facts["pins"] for one in pin["files"] if pin["name"] == "boulder"] == [
        "boulder-1.0.tar.gz"
    ]


def test_nobody_asks_for_what_is_excluded(index: ServedIndex, tmp_path: Path) -> None:
    assert pins(ask(index, "stone", folder=tmp_path / "x", excluded_projects=("gravel",))) == ["stone==1.0"]


@pytest.mark.parametrize("as_json", [True, False])
def test_only_what_was_uploaded_before(as_json: bool, tmp_path: Path) -> None:
    with serve_index(tmp_path / "served", json=as_json) as index:
        for version, time in (("1.0", "2024-01-01T00:00:00.5Z"), ("2.0", "2024-06-01T00:00:00Z"), ("3.0", None)):
            index.add(make_wheel(tmp_path / "w", "stone", version), upload_time=time)
        if not as_json:
            page = index.page("stone", False).decode()
            for version, time in (("1.0", "2024-01-01T00:00:00.5Z"), ("2.0", "2024-06-01T00:00:00Z")):
                page = page.replace(f">stone-{version}", f' data-upload-time="{time}">stone-{version}')
            index.pages["/simple/stone/"] = ("text/html", page.encode())
        assert pins(ask(index, "stone", folder=tmp_path / "x", uploaded_before="2024-03-01T00:00:00Z")) == [
            "stone==1.0"
        ]
        assert pins(ask(index, "stone", folder=tmp_path / "x", uploaded_before="2024-06-01T00:00:01Z")) == [
            "stone==2.0"
        ]
        assert "causes" in ask(index, "stone", folder=tmp_path / "x", uploaded_before="2023-01-01T00:00:00Z").facts


@pytest.mark.parametrize("as_json", [True, False])
def test_a_newer_version_without_a_fitting_file_is_reported(as_json: bool, tmp_path: Path) -> None:
    with serve_index(tmp_path / "served", json=as_json) as index:
        folder = tmp_path / "w"
        index.add(make_wheel(folder, "stone", "1.0"))
        index.add(make_wheel(folder, "stone", "2.0", tag="cp38-cp38-manylinux_2_17_x86_64"))
        index.add(make_wheel(folder, "stone", "3.0", tag="cp38-cp38-manylinux_2_17_x86_64"), yanked=True)
        index.add(make_sdist(folder, "stone", "2.1"))
        index.add(make_wheel(folder, "stone", "2.2", tag="cp312-cp312-win_amd64", requires_python=">=3.12"))
        index.add(make_wheel(folder, "stone", "4.0a1", tag="cp38-cp38-manylinux_2_17_x86_64"))
        assert ask(index, "stone", folder=tmp_path / "x").facts["pins"][0]["newer"] == "2.1"
        assert ask(index, "stone<2.1", folder=tmp_path / "x").facts["pins"][0]["newer"] == "2.0"
        assert ask(index, "stone<2", folder=tmp_path / "x").facts["pins"][0]["newer"] is None


def test_a_pin_tells_its_files(index: ServedIndex, tmp_path: Path) -> None:
    index.files["sand-1.0-py3-none-any.whl"].upload_time = "2024-01-01T00:00:00Z"
    index.files["sand-1.0-py3-none-any.whl"].yanked = "broken"
    (pin,) = ask(index, "sand==1.0", folder=tmp_path / "x").facts["pins"]
    served = index.files["sand-1.0-py3-none-any.whl"]
    assert pin["files"] == [
        {
            "name": "sand-1.0-py3-none-any.whl",
            "url": index.file_url("sand-1.0-py3-none-any.whl"),
            "path": None,
            "hashes": {"sha256": served.sha256},
            "size": served.path.stat().st_size if served.with_size else None,
            "uploaded": "2024-01-01T00:00:00Z",
            "yanked": "broken",
        }
    ]


def test_a_file_without_a_hash_gets_one(index: ServedIndex, tmp_path: Path) -> None:
    index.files["sand-1.0-py3-none-any.whl"].hashes = {}
    (pin,) = ask(index, "sand", folder=tmp_path / "x").facts["pins"]
    assert pin["files"][0]["hashes"] == {"sha256": index.files["sand-1.0-py3-none-any.whl"].sha256}
    local = tmp_path / "local"
    wheel = make_wheel(local, "silt")
    (pin,) = ask(index, "silt", folder=tmp_path / "y", environment={"PIP_FIND_LINKS": local.as_uri()}).facts["pins"]
    assert pin["files"][0]["path"] == str(wheel)


# ------------------------------------------------------------------------------------------------- reading


def whole(index: ServedIndex, name: str) -> int:
    """How often a file was asked for without a range."""
    return sum(path.endswith(name) and "range" not in headers for _, path, headers in index.log)


def test_of_a_wheel_only_its_metadata_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    big = make_wheel(folder, "boulder", requires=["sand"], size=200_000)
    first = tmp_path / "first" / big.name
    rewritten(big, first)
    for files, pep658 in (([big], False), ([first], False), ([big], True)):
        with serve_index(tmp_path / "served", [*files, make_wheel(folder, "sand")], pep658=pep658) as index:
            assert pins(ask(index, "boulder", folder=tmp_path / f"x{pep658}{files[0].parent.name}")) == [
                "boulder==1.0",
                "sand==1.0",
            ]
            assert whole(index, ".whl") == 0
            assert any(path.endswith(".metadata") for path in index.requests) == pep658


def rewritten(wheel: Path, other: Path) -> None:
    """The same wheel with its dist-info first, as some builders write it."""
    import zipfile

    other.parent.mkdir()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as sink:
        for one in sorted(source.infolist(), key=lambda one: ".dist-info/" not in one.filename):
            sink.writestr(one, source.read(one))


def test_a_server_without_ranges_gives_the_whole_wheel(index: ServedIndex, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "w", "sand", "2.0", size=200_000))
    index.fault("sand-2.0-py3-none-any.whl", no_range=True)
    assert pins(ask(index, "sand", folder=tmp_path / "x")) == ["sand==2.0"]


def test_what_was_read_serves_again_and_offline(index: ServedIndex, tmp_path: Path) -> None:
    kept = {"cache_folder": tmp_path / "kept"}
    first = ask(index, "stone", "slab", folder=tmp_path / "x", **kept)
    index.log.clear()
    again = ask(index, "stone", "slab", folder=tmp_path / "y", **kept)
    assert not [path for _, path, _ in index.log if path.startswith("/files/")]
    index.log.clear()
    offline = ask(index, "stone", "slab", folder=tmp_path / "z", offline=True, **kept)
    assert pins(first) == pins(again) == pins(offline)
    assert not index.log
    unknown = ask(index, "sand", folder=tmp_path / "z", offline=True, **kept)
    assert unknown.facts["causes"][0]["project"] == "sand" and unknown.facts["causes"][0]["files"] == 0
    other = ask(index, "slab", target=LINUX, folder=tmp_path / "z", offline=True, **kept)
    assert other.facts["unread_file"].endswith("slab-2.0-cp311-cp311-manylinux_2_17_x86_64.whl")


# ------------------------------------------------------------------------------------------------- secrets


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_login_stands_in_the_arguments_of_a_program(index: ServedIndex, tmp_path: Path) -> None:
    """pip starts itself for an sdist's build requirements, with its indexes in the arguments."""
    sdist = make_sdist(tmp_path / "s", "boulder", "1.0", build_requires=["sand"], unpacked=True)
    index.auth = ("user", "S3cret-w0rd")
    seen, done = set[str](), threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for one in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(one.read_text("utf-8", "replace").replace("\0", " "))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        answer = ask(
            index.with_credentials(*index.auth),
            f"boulder @ {sdist.as_uri()}",
            "stone",
            folder=tmp_path / "x",
            indexes=(index.url,),
        )
    finally:
        done.set()
        watcher.join()
    assert pins(answer) == ["boulder==1.0", "gravel==1.0", "stone==1.0"]
    assert any(f"-i {index.url}" in one for one in seen), "pip did start itself"
    for said in (*seen, answer.stdout, answer.stderr, json.dumps(answer.facts)):
        assert "S3cret-w0rd" not in said
