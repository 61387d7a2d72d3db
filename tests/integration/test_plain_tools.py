"""Plain tools take an unpacked bundle without our help: pip and uv install it, tar, gzip and sha256sum read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import uv

from offlinepack.ontarget.manifest import Distribution, TargetPlan
from offlinepack.targets.parse import get_running_target

from ..support.bundles import make_bundle, some_wheels, stored, target_of
from ..support.making import make_wheel


def run(*command: object, cwd: Path, ok: bool = True) -> str:
    done = subprocess.run([str(one) for one in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is ok, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TargetPlan]:
    """Unpacked by tar, for the Python that runs this test."""
    place = tmp_path_factory.mktemp("plain")
    here = get_running_target()
    wheels = some_wheels(place / "w")
    # a wheel for this machine alone, with a long name, and an address that must not be asked for
    name = "extension_with_a_name_that_is_longer_than_the_hundred_characters_that_one_field_of_a_tar_header_can_hold"
    wheels["long"] = make_wheel(place / "w", name, "3.0", tag=f"py3-none-{here.platform_tag}")
    python = ".".join(here.facts.python.split(".")[:2])
    target = target_of(wheels, here.facts._replace(python=python), tag=here.tag, name="this-machine")
    long = Distribution(name.replace("_", "-"), "3.0", wheels["long"].name, ("stone",), True, None)
    target = target._replace(install=(*target.install, long), python_min=python)
    urls = {one.name: f"https://nowhere.invalid/{one.name}" for one in wheels.values()}
    path, manifest = make_bundle(place, targets=[target], stored=map(stored, wheels.values()), urls=urls)
    run("tar", "-xzf", path, cwd=place)
    return place / manifest.folder, manifest.targets[0]


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a fresh virtual environment without pip."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    return tmp_path / "venv" / "bin" / "python"


def installed(python: Path) -> dict[str, str]:
    code = "import importlib.metadata as m; print(*(d.name.lower().replace('_', '-') + '==' + d.version for d in m.distributions()))"
    return dict(one.split("==") for one in run(python, "-c", code, cwd=python.parent).split())


def planned(target: TargetPlan) -> dict[str, str]:
    return {one.name: one.version for one in target.install}


def test_pip_with_the_requirements(bundle: tuple[Path, TargetPlan], python: Path) -> None:
    folder, target = bundle
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-index")
    run(*pip, "--find-links", "wheels", "-r", f"requirements.{target.tag}.txt", cwd=folder)
    assert installed(python) == planned(target)


def test_pip_with_the_lock(bundle: tuple[Path, TargetPlan], python: Path) -> None:
    folder, target = bundle
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-index",
        "-r",
        f"pylock.{target.tag}.toml",
        cwd=folder,
    )
    assert installed(python) == planned(target)


def test_uv_with_the_lock(bundle: tuple[Path, TargetPlan], python: Path, tmp_path: Path) -> None:
    folder, target = bundle
    sync = (uv.find_uv_bin(), "pip", "sync", "--offline", "--cache-dir", tmp_path / "cache", "--python", python)
    run(*sync, f"pylock.{target.tag}.toml", cwd=folder)
    assert installed(python) == planned(target)


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_they_notice_another_file(tool: str, bundle: tuple[Path, TargetPlan], python: Path, tmp_path: Path) -> None:
    """The hashes in the lock are looked at."""
    folder, target = bundle
    lock = (folder / f"pylock.{target.tag}.toml").read_text()
    (tmp_path / "pylock.toml").write_text(lock.replace('path = "', f'path = "{folder}/'))
    wheel = folder / target.install[0].file
    good = wheel.read_bytes()
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "-r")
    sync = (uv.find_uv_bin(), "pip", "sync", "--offline", "--cache-dir", tmp_path / "cache", "--python", python)
    try:
        wheel.write_bytes(make_wheel(tmp_path, "moss", "2.0", files={"moss/__init__.py": "boo"}).read_bytes())
        words = run(*(pip if tool == "pip" else sync), "pylock.toml", cwd=tmp_path, ok=False).lower()
        assert "hash" in words or "has size" in words
    finally:
        wheel.write_bytes(good)


def test_sha256sum(bundle: tuple[Path, TargetPlan]) -> None:
    folder, _ = bundle
    run("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS", cwd=folder)
    run("sha256sum", "--check", "--strict", "--quiet", "notes-1.2-offline.tar.gz.sha256", cwd=folder.parent)


def test_gzip_and_tar(bundle: tuple[Path, TargetPlan]) -> None:
    folder, _ = bundle
    run("gzip", "--test", "notes-1.2-offline.tar.gz", cwd=folder.parent)
    listed = run("tar", "-tzvf", "notes-1.2-offline.tar.gz", cwd=folder.parent)
    assert "implausib" not in listed
    assert all(line.startswith(("-rw-r--r-- 0/0", "-rwxr-xr-x 0/0")) for line in listed.splitlines())


def test_parts_are_joined_by_cat(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path, split=20_000)
    run("sha256sum", "--check", "--strict", "--quiet", path.name + ".sha256", cwd=tmp_path)
    run("sh", "-euc", f"cat {path.name}.0* | tar -xzf -", cwd=tmp_path)
    run("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS", cwd=tmp_path / "notes-1.2")
