"""The thread: a Flask application with compiled packages, packed here, served on machines without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import HERE, Machine, run

HELLO = HERE / "fixtures" / "projects" / "hello"
SERVE = """
cd /srv/app
cp /media/hello/hello.py .
venv/bin/gunicorn --bind 127.0.0.1:8000 --pid /srv/app/pid hello:app >log 2>&1 &
venv/bin/python - <<'END'
import time, urllib.request
for _ in range(150):
    try:
        answer = urllib.request.urlopen("http://127.0.0.1:8000/", timeout=5)
        print(answer.status, answer.read().decode())
        break
    except OSError:
        time.sleep(0.2)
else:
    print(open("log").read())
    raise SystemExit("no answer")
END
kill $(cat /srv/app/pid)
"""


def served(machine: Machine, binds: dict[Path, str]) -> None:
    page = machine.shell(SERVE, binds=binds).stdout
    assert page.startswith("200 "), page
    assert "It runs here, without a network." in page


@pytest.mark.xdist_group("debian")
@pytest.mark.parametrize("who", ["root", "user"])
def test_a_bare_debian_serves_the_page(
    who: str, root: Callable[..., Path], machine: Callable[..., Machine], packed: Callable[..., Path]
) -> None:
    bundle = packed("hello-debian12", "-r", HELLO / "requirements.txt", "--target", "debian12")
    options = ["--user"] if who == "user" else []
    target = machine("--root", root("bookworm"), *options, kept=True)
    binds = {bundle: "/media/bundle:ro", HELLO: "/media/hello:ro"}
    bare = target("python3", "-c", "import pip", binds=binds, expect=None)
    assert bare.returncode, "this root is to have no pip"
    done = target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    assert "/srv/app/venv" in done.stderr.splitlines()[0] + done.stdout.splitlines()[0]
    served(target, binds)
    again = target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", "--json", binds=binds)
    assert json.loads(again.stdout)["changed"] is False
    # nothing was written but the environment and what lies beside it
    listed = target("ls", "-A", "/srv/app", binds=binds).stdout.split()
    assert {"venv", "venv.d"} <= set(listed) <= {"venv", "venv.d", "hello.py", "log", "__pycache__", "pid"}


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_each_python_serves_the_page(
    version: str, machine: Callable[..., Machine], packed: Callable[..., Path], pythons: dict[str, str]
) -> None:
    if version not in pythons:
        pytest.fail(f"the lab has no Python {version}: install it as the lab's README says")
    bundle = packed(
        f"hello-{version.replace('.', '')}",
        *("-r", HELLO / "requirements.txt", "--platform", "manylinux_2_28_x86_64", "--python-version", version),
    )
    target = machine("--python", version, kept=True)
    binds = {bundle: "/media/bundle:ro", HELLO: "/media/hello:ro"}
    target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    served(target, binds)


@pytest.mark.xdist_group("debian")
def test_the_command_and_the_script_of_the_bundle_make_the_same(
    root: Callable[..., Path], machine: Callable[..., Machine], packed: Callable[..., Path]
) -> None:
    bundle = packed("hello-debian12", "-r", HELLO / "requirements.txt", "--target", "debian12")
    target = machine("--root", root("bookworm"), kept=True)
    binds = {bundle: "/media/bundle:ro"}
    target("sh", "/media/bundle/install.sh", "--venv", "/srv/app/venv", binds=binds)
    first = target("readlink", "/srv/app/venv", binds=binds).stdout
    again = target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", "--json", binds=binds)
    assert json.loads(again.stdout)["changed"] is False
    assert target("readlink", "/srv/app/venv", binds=binds).stdout == first


@pytest.mark.xdist_group("debian")
@pytest.mark.parametrize("tool", ["pip-requirements", "pip-pylock", "uv"])
def test_plain_tools_install_the_unpacked_bundle(
    tool: str, tmp_path: Path, packed: Callable[..., Path], pythons: dict[str, str]
) -> None:
    """No network: the tools run in a network namespace of their own."""
    bundle = packed("hello-debian12", "-r", HELLO / "requirements.txt", "--target", "debian12")
    (target,) = json.loads((bundle / "manifest.json").read_text())["targets"]
    tag = target["tag"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run([pythons["3.11"], "-m", "venv", tmp_path / "venv"], env=home)
    python = tmp_path / "venv" / "bin" / "python"
    cut = ["unshare", "--net", "--"]
    pip = [*cut, python, "-m", "pip", "--isolated", "install", "--no-index"]
    if tool == "pip-requirements":
        run([*pip, "--find-links", "wheels", "-r", f"requirements.{tag}.txt"], cwd=bundle, env=home)
    elif tool == "pip-pylock":
        wheel = next((bundle / "tools").glob("pip-*.whl"))
        run([*pip, "--upgrade", wheel], cwd=bundle, env=home)
        run([*pip, "-r", f"pylock.{tag}.toml"], cwd=bundle, env=home)
    else:
        import uv

        run(
            [*cut, uv.find_uv_bin(), "pip", "sync", "--offline", "--python", python, f"pylock.{tag}.toml"],
            cwd=bundle,
            env=home,
        )
    listed = run(
        [
            python,
            "-c",
            "import importlib.metadata as m; print(*{d.name.lower().replace('_', '-') for d in m.distributions()})",
        ]
    ).stdout.split()
    assert {one["name"] for one in target["install"]} <= set(listed)
    shutil.rmtree(tmp_path / "venv")
