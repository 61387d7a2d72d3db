"""The notes' stack on machines without a network: Django, uWSGI, NGINX; who waits for whom; an upgrade under load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import DEBS, NOTES, packing

from .conftest import HERE, KEPT, Machine, alone, run


@pytest.fixture(scope="session")
def debs() -> Path:
    """NGINX and libpython as Debian's packages, which travel with --include."""
    folder = KEPT / "debs"
    with alone("debs"):
        if len(list(folder.glob("*.deb"))) < len(DEBS):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            run(["apt-get", "-q", "download", *DEBS], cwd=folder)
    return folder


def bundle(packed: Callable[..., Path], tmp_path: Path, debs: Path, version: str) -> Path:
    """The notes of this version: application, configuration and Debian's packages in one bundle."""
    if not Path("/usr/include/python3.11/Python.h").exists():
        pytest.fail("needs Debian 12's python3-dev") if not HERE else pytest.skip("needs Debian 12's python3-dev")
    project = tmp_path / f"notes-{version}"
    shutil.copytree(NOTES, project, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "notes" / "__init__.py").write_text(f'"""The notes."""\n\n__version__ = "{version}"\n')
    made = packing("--target", "debian12:3.11.2", "--build-python", "/usr/bin/python3")
    arguments = [f"{project}=notes" if one == f"{NOTES}=notes" else one for one in made]
    arguments = [version if one == "1.2" else one for one in arguments]
    name = f"notes-stack-{version.replace('.', '')}"
    return packed(name, *arguments, "--include", debs).with_name(f"{name}-{version}")


def inside(target: Machine, what: str, binds: dict[Path, str]) -> dict[str, Any]:
    here = {Path(__file__).with_name("inside_notes.py"): "/media/inside_notes.py:ro"}
    said = target("python3", "/media/inside_notes.py", what, binds={**binds, **here})
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


@pytest.mark.xdist_group("notes")
def test_the_development_server_answers_while_a_request_sleeps(
    machine: Callable[..., Machine], packed: Callable[..., Path]
) -> None:
    """The fast one of this file: Django alone, the experiments with its development server."""
    asked = ("Django~=5.2.0", "--python-version", "3.11", "--include", f"{NOTES}=notes")
    folder = packed("notes-django", *asked)
    target = machine("--python", "3.11", kept=True)
    binds = {folder: "/media/bundle:ro"}
    target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    found = inside(target, "development", binds)
    assert found["development"] < 1 < 1.2 < found["nothreading"], found
    # one process: one counter for all threads, and they overwrite one another's counts
    [highest] = found["threads"]["highest"]
    assert found["threads"]["threads"] > 1 and highest < found["threads"]["calls"] + 1, found


@pytest.mark.slow
@pytest.mark.xdist_group("notes")
def test_nginx_uwsgi_django_and_a_rolling_upgrade(
    root: Callable[..., Path], packed: Callable[..., Path], machine: Callable[..., Machine], tmp_path: Path, debs: Path
) -> None:
    old, new = (bundle(packed, tmp_path, debs, version) for version in ("1.2", "1.3"))
    binds = {old: "/media/old:ro", new: "/media/new:ro"}
    target = machine("--root", root("bookworm"), kept=True)
    # the lab's Debian has no package database: its packages are unpacked, where a real one says dpkg -i
    unpack = "dpkg-deb --fsys-tarfile $one | tar -xf - -C / --keep-directory-symlink"
    target.shell(f"for one in /media/old/files/debs/*.deb; do {unpack}; done; ldconfig", binds=binds)
    target("python3", "/media/old/install.py", "--venv", "/srv/app/venv", binds=binds)

    seconds = inside(target, "uwsgi", binds)
    assert seconds["4x2"] < 1 < 1.2 < seconds["1x1"], seconds
    [highest] = seconds["threads"]["highest"]
    assert seconds["threads"]["threads"] > 1 and highest < seconds["threads"]["calls"] + 1, "threads race"
    each = seconds["processes"]
    assert len(each["highest"]) > 1 and sum(each["highest"]) in (each["calls"], each["calls"] + 1), (
        "processes do not share"
    )

    found = inside(target, "stack", binds)
    assert "The notes are here, without a network." in found["page"] and "notes.css" in found["static"]
    assert found["failures"] == [] and found["asked"] > 100, found
    assert found["after a kill"] == 0 and found["upgrade"] == 0 and found["rollback"] == 0, found
    assert found["before restart"] == "1.2" and found["upgraded"] == "1.3" and found["rolled back"] == "1.2", found
    assert found["versions"] == ["1.2", "1.3"] and found["static alone"] == 200
