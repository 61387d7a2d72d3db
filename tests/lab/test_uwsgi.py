"""The notes' stack: Django under uWSGI, built here from its sdist, served on machines without a compiler and a network."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.projects import packing

from .conftest import Machine

SERVE = """
export NOTES_DATA=/srv/app/data NOTES_STATIC=/srv/app/static
mkdir -p $NOTES_DATA
cd /srv/app/venv/notes
/srv/app/venv/bin/python manage.py migrate -v0
/srv/app/venv/bin/python manage.py collectstatic --no-input -v0
/srv/app/venv/bin/uwsgi --http-socket 127.0.0.1:8000 --module notes.wsgi --processes 4 --threads 2 --master \\
    --static-map /static=/srv/app/static --safe-pidfile /srv/app/pid >/srv/app/log 2>&1 &
/srv/app/venv/bin/python - <<'END'
import concurrent.futures, json, time, urllib.request

def get(path):
    with urllib.request.urlopen("http://127.0.0.1:8000" + path, timeout=30) as answer:
        return answer.status, answer.read().decode()

for _ in range(300):
    try:
        print(*get("/"))
        break
    except OSError:
        time.sleep(0.2)
else:
    print(open("/srv/app/log").read())
    raise SystemExit("no answer")
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    slept = [json.loads(body) for _, body in pool.map(get, ["/sleep/?seconds=1"] * 8)]
print("PROCESSES", len({one["process"] for one in slept}))
print("STATIC", get("/static/notes/notes.css")[1].split()[1])
END
/srv/app/venv/bin/uwsgi --stop /srv/app/pid
"""

pytestmark = pytest.mark.slow


def served(machine: Machine, binds: dict[Path, str]) -> None:
    said = machine.shell(SERVE, binds=binds).stdout
    assert said.startswith("200 <!doctype html>"), said
    assert "The notes are here, without a network." in said
    for name in ("Django 5.2", "uWSGI 2.0", "psycopg 3.", "pillow ", "celery 5.", "redis "):
        assert f"<li>{name}" in said
    assert int(re.findall(r"PROCESSES (\d)", said)[0]) > 1
    assert "STATIC notes.css" in said




@pytest.fixture
def debian(packed: Callable[..., Path]) -> Path:
    """The bundle for Debian's own Python, built with the same Python of this Debian."""
    if not Path("/usr/include/python3.11/Python.h").exists():
        pytest.skip("needs Debian 12's python3-dev")
    # the patch release that Debian 12 has: redis asks for one more distribution before 3.11.3
    folder = packed("notes-debian12", *packing("--target", "debian12:3.11.2", "--build-python", "/usr/bin/python3"))
    return folder.with_name("notes-debian12-1.2")


@pytest.mark.xdist_group("debian-uwsgi")
@pytest.mark.parametrize("who", ["root", "user"])
def test_a_debian_with_libpython_serves_the_notes(
    who: str, root: Callable[..., Path], machine: Callable[..., Machine], debian: Path
) -> None:
    options = ["--user"] if who == "user" else []
    target = machine("--root", root("bookworm", include="libpython3.11"), *options, kept=True)
    binds = {debian: "/media/bundle:ro"}
    target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    served(target, binds)


@pytest.mark.xdist_group("debian-uwsgi")
def test_a_debian_without_libpython_is_reported(
    root: Callable[..., Path], machine: Callable[..., Machine], debian: Path
) -> None:
    [needed] = json.loads((debian / "manifest.json").read_text())["targets"][0]["needs"]
    assert (needed["soname"], needed["wanted_by"]) == ("libpython3.11.so.1.0", ["uwsgi"])
    target = machine("--root", root("bookworm"))
    binds = {debian: "/media/bundle:ro"}
    done = target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds, expect=10)
    assert "libpython3.11.so.1.0" in done.stderr and "apt install libpython3.11" in done.stderr
    assert target("ls", "-A", "/srv/app", binds=binds).stdout.split() == []


@pytest.mark.parametrize(
    "version",
    ["3.10", pytest.param("3.11", marks=pytest.mark.slow), pytest.param("3.12", marks=pytest.mark.slow), "3.13"],
)
def test_each_python_serves_the_notes(
    version: str, machine: Callable[..., Machine], packed: Callable[..., Path], pythons: dict[str, str]
) -> None:
    if version not in pythons:
        pytest.fail(f"the lab has no Python {version}: install it as the lab's README says")
    name = f"notes-{version.replace('.', '')}"
    folder = packed(name, *packing("--python-version", version, "--build-python", pythons[version]))
    binds = {folder.with_name(f"{name}-1.2"): "/media/bundle:ro"}
    target = machine("--python", version, kept=True)
    target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    served(target, binds)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs the lab")
def test_arm64_is_built_inside_its_own_system(
    root: Callable[..., Path], machine: Callable[..., Machine], packed: Callable[..., Path]
) -> None:
    """uWSGI for arm64: compiled by the target's own Debian, under qemu."""
    inside = root("bookworm", "arm64", include="python3-dev,gcc,libc6-dev")
    # with an empty store a compiler under qemu compiles for many minutes
    folder = packed("uwsgi-arm64", "uwsgi", "--target", "debian12-aarch64", "--root", inside, timeout=3600)
    target = machine("--root", root("bookworm", "arm64", include="libpython3.11"), kept=True)
    binds = {folder: "/media/bundle:ro"}
    target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    said = target("/srv/app/venv/bin/uwsgi", "--version", binds=binds).stdout
    assert said.startswith("2.0.")
