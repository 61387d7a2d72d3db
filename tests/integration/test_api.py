"""The public API: `from offlinepack import build, lock, install, verify`, on real files."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import offlinepack
from offlinepack import __all__
from offlinepack.errors import IntegrityError, OfflinepackError, ResolutionError, UsageError
from tests.support.making import ServedIndex


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFLINEPACK_CACHE_DIR", str(tmp_path / "cache"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_the_names_are_functions_whatever_was_imported_before() -> None:
    importlib.import_module("offlinepack.resolve.choose")
    importlib.import_module("offlinepack.pipeline.build")
    from offlinepack import build, install, lock, verify

    for one in (build, install, lock, verify):
        assert inspect.isfunction(one) and one.__doc__ and "Raises" in one.__doc__
        assert all(name in dir(offlinepack) for name in __all__)
    with pytest.raises(AttributeError):
        _ = offlinepack.nothing  # type: ignore[attr-defined]


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, offlinepack; print([one for one in sys.modules if one.startswith(('offlinepack.', 'click', 'rich')) and one != 'offlinepack._version'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_build_verify_install(index: ServedIndex, here: Path) -> None:
    from offlinepack import build, install, verify

    made = build(["stone"], version="1.2", index_url=index.url, cache_dir=here.parent / "cache")
    (packed,) = made.bundles
    assert packed.archive.path == Path("stone-1.2-offline.tar.gz") and packed.archive.path.exists()
    assert verify(packed.archive.path) == packed.manifest
    report = install(packed.archive.path, venv=here / "venv", python=sys.executable)
    assert report["changed"] is True and report["schema"] == 1
    said = subprocess.run([here / "venv" / "bin" / "stone"], capture_output=True, text=True, check=True).stdout
    assert said == "stone 1.0\n"
    assert install(packed.archive.path, venv=here / "venv")["changed"] is False


def test_a_lock_for_each_target(index: ServedIndex, here: Path) -> None:
    from offlinepack import lock

    made = lock(["granite"], targets=["debian12", "windows:3.11"], output=here / "locks", index_url=index.url)
    assert {tag: [one.name for one in each.packages] for tag, each in made.items()} == {
        "cp311-manylinux_2_36_x86_64": ["granite"],
        "cp311-win_amd64": ["granite", "gravel"],
    }
    assert len(list((here / "locks").glob("pylock.*.toml"))) == 2


def test_errors_have_their_codes_and_findings(index: ServedIndex, here: Path) -> None:
    from offlinepack import build, install, verify

    with pytest.raises(UsageError):
        build()
    with pytest.raises(ResolutionError) as unknown:
        build(["no-such-thing"], index_url=index.url)
    assert unknown.value.exit_code == 4 and unknown.value.findings
    (packed,) = build(["stone"], index_url=index.url, targets=["windows:3.12"]).bundles
    with pytest.raises(OfflinepackError) as elsewhere:
        install(packed.archive.path, venv=here / "venv")
    assert elsewhere.value.exit_code == 10 and "win_amd64" in str(elsewhere.value)
    assert not (here / "venv").exists()
    data = bytearray(packed.archive.path.read_bytes())
    data[len(data) // 2] ^= 1
    packed.archive.path.write_bytes(data)
    with pytest.raises(IntegrityError):
        verify(packed.archive.path)


def test_one_bundle_for_each_target_from_one_lock(index: ServedIndex) -> None:
    from offlinepack import build, verify

    index.pep658 = True
    asked = ["debian12", "windows:3.12"]
    made = build(["stone"], targets=asked, output="{name}-{version}-{target}.tar.gz", index_url=index.url)
    assert sorted(str(one.archive.path) for one in made.bundles) == [
        "stone-cp311-manylinux_2_36_x86_64.tar.gz",
        "stone-cp312-win_amd64.tar.gz",
    ]
    assert index.count("stone-1.0-py3-none-any.whl") == 1, "fetched once for both"
    for one in made.bundles:
        (target,) = verify(one.archive.path).targets
        assert f"-{target.tag}.tar.gz" in one.archive.path.name
