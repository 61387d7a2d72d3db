"""What surrounds the script: environment, secrets, and the small readers that it uses. No pip here."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from offlinepack.net.remote_zip import read_wheel_metadata
from offlinepack.net.urls import redact_text, strip_credentials
from offlinepack.pip_shim.index_patches import _normalize_time, _parse_file_version, _read_entry, belongs_to_index
from offlinepack.pip_shim.run import (
    SUPPORTED_PIP_VERSIONS,
    PipOutput,
    PipRules,
    _move_logins_to_netrc,
    make_pip_environment,
)
from offlinepack.pip_shim.static_metadata import ReadCache, _read_sdist_metadata, is_metadata_static
from tests.support.making import make_sdist, make_wheel

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_bound_is_that_of_pyproject() -> None:
    bound = re.search(r'"pip([^"]+)"', PYPROJECT.read_text("utf-8"))
    assert bound and bound[1] == SUPPORTED_PIP_VERSIONS


def test_nothing_that_speaks_to_pip_or_python_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PIP_REQUIRE_VIRTUALENV", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV", "pip_pre"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    made = make_pip_environment()
    assert made["HTTPS_PROXY"] == "http://proxy.invalid"
    assert made["PIP_CONFIG_FILE"] == os.devnull
    assert {name for name in made if name.upper().startswith(("PIP_", "PYTHON", "VIRTUAL"))} == {
        *("PIP_CONFIG_FILE", "PIP_NO_INPUT", "PIP_DISABLE_PIP_VERSION_CHECK")
    }


def test_logins_go_into_a_private_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.write_text("machine files.invalid login f password g\n")
    environment = {
        "PIP_INDEX_URL": "https://u%40x:p%3Aw@one.invalid/simple/",
        "PIP_EXTRA_INDEX_URL": "https://u%40x:p%3Aw@one.invalid/more/ https://two.invalid/simple/",
        "NETRC": str(own),
    }
    made = _move_logins_to_netrc(environment, tmp_path / "netrc")
    assert made["PIP_INDEX_URL"] == "https://one.invalid/simple/"
    assert made["PIP_EXTRA_INDEX_URL"] == "https://one.invalid/more/ https://two.invalid/simple/"
    written = Path(made["NETRC"])
    assert written.read_text().splitlines() == [
        "machine one.invalid login u@x password p:w",
        "machine files.invalid login f password g",
    ]
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "urls",
    [
        "https://a:b@one.invalid/x/ https://c:d@one.invalid/y/",  # .netrc knows one account for a host
        "https://a:b%20c@one.invalid/x/",  # and no password with a space
        "https://token@one.invalid/x/",
    ],
)
def test_what_netrc_cannot_say_stays_in_the_address(urls: str, tmp_path: Path) -> None:
    made = _move_logins_to_netrc({"PIP_EXTRA_INDEX_URL": urls}, tmp_path / "netrc")
    assert made == {"PIP_EXTRA_INDEX_URL": urls}
    assert not (tmp_path / "netrc").exists()


def test_words_are_without_secrets() -> None:
    assert redact_text("at https://u:p@x.invalid/a?token=1 no") == "at https://x.invalid/a no"
    assert redact_text("git+ssh://git@x.invalid/a") == "git+ssh://x.invalid/a"
    assert strip_credentials("https://u:p@x.invalid/a/#sha256=1") == "https://x.invalid/a/"


def test_an_answer_shows_the_end_of_what_was_said() -> None:
    said = PipOutput(1, "one\n\n", "two \nthree\n", {})
    assert said.get_last_lines(2) == "two\nthree"


def test_rules_are_plain_values() -> None:
    json.dumps(PipRules(cache_folder=Path("x")).__dict__, default=str)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("stone-1.0-py3-none-any.whl", "1.0"),
        ("stone-1.0%2Bcpu-1-py3-none-any.whl", "1.0+cpu"),
        ("stone-1.0.tar.gz", "1.0"),
        ("big-stone-1.0.zip", "1.0"),
    ],
)
def test_the_version_in_a_file_name(name: str, version: str) -> None:
    assert _parse_file_version(name) == version


def test_moments_compare() -> None:
    times = [
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.000001Z",
        "2024-01-01T00:00:00.5+00:00",
        "2024-01-01t00:00:01z",
    ]
    assert sorted(times, key=_normalize_time) == times


def test_an_entry_tells_python_and_yanked() -> None:
    assert _read_entry({"requires-python": ">=3.8", "yanked": "bad"}) == (">=3.8", True)
    assert _read_entry(b'<a href="x" data-requires-python="&gt;=3.8">x</a>') == (">=3.8", False)
    assert _read_entry(b"<a href='x' data-yanked=''>x</a>") == ("", True)


def test_a_page_belongs_to_an_index() -> None:
    assert belongs_to_index("https://u:p@x.invalid/simple/stone/", "https://x.invalid/simple")
    assert not belongs_to_index("https://x.invalid/simple-two/stone/", "https://x.invalid/simple/")


def test_kept_things_are_found_again(tmp_path: Path) -> None:
    kept = ReadCache(str(tmp_path / "cache"))
    assert kept.get("pages", "a") is None
    kept.put("pages", "a", b"1")
    kept.put("pages", "a", b"2")
    assert kept.get("pages", "a") == b"2"
    nowhere = ReadCache(None)
    nowhere.put("pages", "a", b"1")
    assert nowhere.get("pages", "a") is None


def test_metadata_of_a_wheel_and_of_an_sdist_that_vouches_for_it(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "stone", requires=["pebble"])
    assert b"Requires-Dist: pebble" in read_wheel_metadata(wheel.open("rb"))
    assert _read_sdist_metadata(sdist("Metadata-Version: 2.1\nName: stone\nVersion: 1\n")) is None, (
        "metadata 2.1 vouches not"
    )
    settled = make_sdist(tmp_path, "stone", requires=["pebble"])
    assert b"pebble" in (_read_sdist_metadata(settled.read_bytes()) or b""), "its pyproject.toml does"
    metadata = b"Metadata-Version: 2.1\nName: stone\nVersion: 1\n"
    assert is_metadata_static(metadata, b"[project]\nname = 'stone'\ndynamic = ['version']\n")
    assert not is_metadata_static(metadata, b"[project]\nname = 'stone'\ndynamic = ['dependencies']\n")
    assert not is_metadata_static(metadata, b"[build-system]\nrequires = ['setuptools']\n")
    assert b"pebble" in (
        _read_sdist_metadata(sdist("Metadata-Version: 2.2\nName: stone\nVersion: 1\nRequires-Dist: pebble\n")) or b""
    )
    dynamic = "Metadata-Version: 2.4\nName: stone\nVersion: 1\nDynamic: Requires-Dist\n"
    assert _read_sdist_metadata(sdist(dynamic)) is None


def test_two_metadata_are_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr("a.dist-info/METADATA", "")
        wheel.writestr("b.dist-info/METADATA", "")
    with pytest.raises(ValueError, match="unpack"):
        read_wheel_metadata((tmp_path / "x.whl").open("rb"))


def sdist(metadata: str) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in (("stone-1/PKG-INFO", metadata), ("stone-1/src/stone.egg-info/PKG-INFO", "other")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return written.getvalue()
