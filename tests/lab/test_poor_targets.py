"""Machines as they are met: nothing to spare, strict, old, in another language. The bundle folder is read-only, as on a share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import pip_wheel
from tests.support.handmade import make_bundle
from tests.support.making import make_wheel

from .conftest import KEPT, Machine, alone, run

pytestmark = [pytest.mark.xdist_group("debian"), pytest.mark.slow]
OLD = {"3.6": "21.3.1", "3.7": "24.0", "3.8": "25.0.1", "3.9": "26.0.1"}
INSTALL = ("python3", "/media/install.py", "--venv", "/srv/app/venv")


def pip_for(version: str) -> Path:
    """The newest pip that this Python admits."""
    if version not in OLD:
        return pip_wheel()
    name = f"pip-{OLD[version]}-py3-none-any.whl"
    with alone("pips"):
        if not (KEPT / "pips" / name).exists():
            run(["python3", "-m", "pip", "download", "-q", "--no-deps", f"pip=={OLD[version]}", "-d", KEPT / "pips"])
    return KEPT / "pips" / name


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """For a Python: app, stone that it needs, and slate with names outside ASCII."""

    def make(version: str = "3.11", size: int = 0) -> Path:
        files = {"slate/__init__.py": "", "slate/\u77f3\u677f.txt": "x", "slate/b\u00fcro.py": "x = 1\n"}
        wheels = [
            make_wheel(tmp_path / "w", "stone", "1.0", size=size),
            make_wheel(tmp_path / "w", "slate", "1.0", files=files),
            make_wheel(
                tmp_path / "w", "app", requires=["stone"], entry_points={"console_scripts": {"app": "app:main"}}
            ),
        ]
        return make_bundle(
            tmp_path / "media", wheels, pip=pip_for(version), target={"python": version}, requested=["app"]
        )

    return make


def installed(target: Machine, bundle: Path, *more: str, engine: str = "auto") -> str:
    """Install, run, install again: what was said."""
    binds = {bundle: "/media:ro"}
    output = target(*INSTALL, "--engine", engine, *more, binds=binds).stderr
    assert target("/srv/app/venv/bin/app", binds=binds).stdout == "app 1.0\n"
    again = target(*INSTALL, "--engine", engine, "--json", *more, binds=binds)
    assert json.loads(again.stdout)["changed"] is False
    return output


@pytest.mark.parametrize("engine", ["pip", "fast"])
@pytest.mark.parametrize("user", [(), ("--user",)], ids=["root", "user"])
@pytest.mark.parametrize(("suite", "version"), [("bullseye", "3.9"), ("bookworm", "3.11"), ("trixie", "3.13")])
def test_a_bare_debian(
    bundle: Callable[..., Path], root: Callable[..., Path], machine: Callable[..., Machine], suite: str, version: str,
    user: tuple[str, ...], engine: str,
) -> None:  # fmt: skip
    target = machine("--root", root(suite), *user, kept=True)
    output = installed(target, bundle(version), engine=engine)
    assert ("distutils" in output) is (suite == "bullseye")


@pytest.mark.parametrize("engine", ["pip", "fast"])
@pytest.mark.parametrize("version", ["3.6", "3.8", "3.13"])
def test_pythons_from_the_oldest_to_the_newest(
    bundle: Callable[..., Path], machine: Callable[..., Machine], pythons: dict[str, str], version: str, engine: str
) -> None:
    if version not in pythons:
        pytest.skip(f"this machine has no Python {version}")
    installed(machine("--python", version, kept=True), bundle(version), engine=engine)


@pytest.mark.parametrize(
    "options",
    [
        ("--tmp-noexec",),
        ("--tmp-size", "16k"),
        ("--ro-root", "--user"),
        ("--umask", "077"),
        ("--umask", "027", "--user"),
        ("--locale", "C"),
        ("--locale", "POSIX", "--user"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("engine", ["pip", "fast"])
def test_strict_machines(
    bundle: Callable[..., Path], root: Callable[..., Path], machine: Callable[..., Machine], options: tuple[str, ...],
    engine: str,
) -> None:  # fmt: skip
    target = machine("--root", root("bookworm"), *options, kept=True)
    installed(target, bundle(), engine=engine)
    found = target("sh", "-c", "find /srv/app/venv.d/*/lib -name '*.txt' -path '*slate/*' | od -c", binds={})
    assert r"347 237 263" in found.stdout, "the name's own bytes, whatever the locale"
    assert target("ls", "-A", "/tmp", "/srv/app/venv.d/work").stdout.split() == ["/srv/app/venv.d/work:", "/tmp:"]


def test_python_3_6_in_the_c_locale(
    bundle: Callable[..., Path], machine: Callable[..., Machine], pythons: dict[str, str]
) -> None:
    if "3.6" not in pythons:
        pytest.skip("this machine has no Python 3.6")
    for engine in ("pip", "fast"):
        installed(machine("--python", "3.6", "--locale", "C", kept=True), bundle("3.6"), engine=engine)


def test_a_disk_that_is_too_small_is_reported_before_anything_is_written(
    bundle: Callable[..., Path], root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    target = machine("--root", root("bookworm"), "--user", "--disk-size", "20m")
    done = target("sh", "-c", " ".join(INSTALL) + "; echo $? $(ls -A /srv/app)", binds={bundle(): "/media:ro"})
    assert done.stdout.split() == ["12"]
    assert "/srv/app has" in done.stderr and "needed" in done.stderr


def test_a_home_and_a_place_that_cannot_be_written(
    bundle: Callable[..., Path], root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    target = machine("--root", root("bookworm"), "--user", "--env", "HOME=/usr", kept=True)
    one = bundle()
    refused = target("python3", "/media/install.py", "--venv", "/opt/venv", binds={one: "/media:ro"}, expect=12)
    assert "/opt cannot be written" in refused.stderr and "--venv /home/app/venv" in refused.stderr
    installed(target, one)


def test_a_python_without_venv_or_with_parts_missing(
    bundle: Callable[..., Path], root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    one = bundle()
    target = machine("--root", root("bookworm"), kept=True)
    target("rm", "-r", "/usr/lib/python3.11/sqlite3", "/usr/lib/python3.11/ssl.py", "/usr/lib/python3.11/lzma.py")
    target("sh", "-c", "rm /usr/lib/python3.11/lib-dynload/_ssl*")
    installed(target, one)
    target("rm", "-r", "/usr/lib/python3.11/venv")
    refused = target("python3", "/media/install.py", "--venv", "/srv/app/other", binds={one: "/media:ro"}, expect=10)
    assert "no module venv" in refused.stderr and "python3.11-venv" in refused.stderr
