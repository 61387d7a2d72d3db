"""Real failures on the target machine: a pip that fails, a file in the way; and an upgrade while the old release runs."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import pip_wheel
from tests.support.making import make_wheel

from .conftest import Machine, offlinepack, run

ROCKS = ["amber", "basalt", "chalk", "dolomite"]

# Takes the place of pip/__main__.py in a copy of pip's own wheel. The batch stumbles over what STUMBLE names, and amber and
# chalk once more by themselves; what WRECK names never gets in, because a file lies where its folder should be.
WRAPPER = """
import os, re, sys
here = os.path.dirname(os.path.abspath(__file__))

def wrap():
    if "install" not in sys.argv or not any("requirements" in one or one.endswith(".whl") or one == "-r" for one in sys.argv):
        return
    listed = [open(one).read() for before, one in zip(sys.argv, sys.argv[1:]) if before in ("-r", "--requirement")]
    words = " ".join(sys.argv[1:] + listed)
    if not re.search(r"amber|basalt|chalk|dolomite", words):
        return
    for name in WRECK:
        place = os.path.join(os.path.dirname(here), name)
        if name in words and not os.path.lexists(place):
            open(place, "w").close()
    notes = os.path.join(os.path.dirname(here), "stumbled")
    seen = open(notes).read().split() if os.path.exists(notes) else []
    batch = len(re.findall(r"(?:amber|basalt|chalk|dolomite)==", words)) > 1
    for name in STUMBLE:
        if name in words and seen.count(name) < 2 and (batch or (seen.count(name) == 1 and name in ("amber", "chalk"))):
            with open(notes, "a") as file:
                file.write("".join(one + "\\n" for one in (STUMBLE if batch else [name])))
            sys.exit("ERROR: stumbled over %s" % name)

if here.endswith(os.path.join("site-packages", "pip")):
    wrap()
sys.path.insert(0, os.path.dirname(here)) if not __package__ else None
from pip._internal.cli.main import main as _main
if __name__ == "__main__":
    sys.exit(_main())
"""


def wrapped_pip(folder: Path, stumble: list[str], wreck: list[str]) -> Path:
    """pip's own wheel under a later version, with a real pip that is called through the wrapper; RECORD is right."""
    source = pip_wheel()
    old = source.name.split("-")[1]
    new = f"{int(old.split('.')[0]) + 50}.0"
    target = folder / f"pip-{new}-py3-none-any.whl"
    wrapper = WRAPPER.replace("WRECK", repr(wreck)).replace("STUMBLE", repr(stumble)).encode()
    rows = []
    with zipfile.ZipFile(source) as theirs, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as ours:
        for name in theirs.namelist():
            data = theirs.read(name)
            name = name.replace(f"pip-{old}.dist-info", f"pip-{new}.dist-info")
            if name == "pip/__main__.py":
                data = wrapper
            if name.endswith(".dist-info/METADATA"):
                data = data.replace(f"\nVersion: {old}\n".encode(), f"\nVersion: {new}\n".encode())
            if name.endswith(".dist-info/RECORD") or name.endswith("/"):
                continue
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(data)}")
            ours.writestr(name, data)
        record = f"pip-{new}.dist-info/RECORD"
        ours.writestr(record, "\n".join([*rows, f"{record},,"]) + "\n")
    return target


def built(tmp_path: Path, pip: Path, *more: str) -> Path:
    """The unpacked folder of a bundle of four small distributions with this pip."""
    for name, needs in zip(ROCKS, ([], ["amber"], ["amber"], ["basalt", "chalk"]), strict=True):
        make_wheel(tmp_path / "wheels", name, "1.0", requires=needs)
    pip.rename(tmp_path / "wheels" / pip.name)
    offlinepack(
        *("build", *ROCKS, "--no-index", "-f", tmp_path / "wheels", "--target", "debian12", "--name", "rocks"),
        *("-o", tmp_path / "rocks.tar.gz", *more),
    )
    run(["tar", "-xzf", tmp_path / "rocks.tar.gz", "-C", tmp_path])
    return tmp_path / "rocks"


@pytest.mark.xdist_group("debian")
def test_rounds_finish_what_the_batch_did_not(
    tmp_path: Path, root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    bundle = built(tmp_path, wrapped_pip(tmp_path, ROCKS, []))
    target = machine("--root", root("bookworm"), "--user", kept=True)
    binds = {bundle: "/media/bundle:ro"}
    done = target(
        "python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", "--engine", "pip", "--json", binds=binds
    )
    report = json.loads(done.stdout)
    attempts = {one["name"]: one["attempts"] for one in report["distributions"]}
    assert set(ROCKS) <= set(attempts)
    assert {name: attempts[name] for name in ROCKS} == {"amber": 3, "basalt": 2, "chalk": 3, "dolomite": 2}
    target("/srv/app/venv/bin/python", "-c", "import amber, basalt, chalk, dolomite", binds=binds)


@pytest.mark.xdist_group("debian")
def test_one_that_never_gets_in(tmp_path: Path, root: Callable[..., Path], machine: Callable[..., Machine]) -> None:
    bundle = built(tmp_path, wrapped_pip(tmp_path, [], ["chalk"]))
    target = machine("--root", root("bookworm"), "--user", kept=True)
    binds = {bundle: "/media/bundle:ro"}
    install = ("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", "--engine", "pip")
    failed = target(*install, binds=binds, expect=11)
    assert "chalk" in failed.stderr
    assert "Not a directory" in failed.stderr or "File exists" in failed.stderr, "pip's own words are to be read"
    assert "Traceback" not in failed.stderr.replace("    Traceback", "")
    assert target("test", "-e", "/srv/app/venv", binds=binds, expect=None).returncode, "nothing changed"
    kept = target(*install, "--keep-going", "--report", "/srv/app/report.json", binds=binds, expect=11)
    assert "chalk" in kept.stderr
    target("/srv/app/venv/bin/python", "-c", "import amber, basalt", binds=binds)
    report = json.loads(target("cat", "/srv/app/report.json", binds=binds).stdout)
    states = {one["name"]: one["state"] for one in report["distributions"]}
    assert states["amber"] == states["basalt"] == "installed" and states["chalk"] != "installed"


SERVICE = """
import os, time

import quarry


def main():
    open("/srv/app/started", "w").close()
    while not os.path.exists("/srv/app/go"):
        time.sleep(0.05)
    from quarry import late

    with open("/srv/app/saying", "w") as said:
        said.write(quarry.VERSION + " " + late.VERSION)
    os.rename("/srv/app/saying", "/srv/app/said")
    while not os.path.exists("/srv/app/end"):
        time.sleep(0.05)
"""


@pytest.mark.xdist_group("debian")
def test_upgrade_and_rollback_under_a_running_process(
    tmp_path: Path, root: Callable[..., Path], machine: Callable[..., Machine]
) -> None:
    bundles = {}
    for version in ("1.0", "2.0"):
        place = tmp_path / version
        make_wheel(
            place / "wheels",
            "quarry",
            version,
            files={
                "quarry/__init__.py": f"VERSION = {version!r}\n",
                "quarry/service.py": SERVICE,
                "quarry/late.py": f"VERSION = {version!r}\n",
            },
            entry_points={"console_scripts": {"quarry": "quarry.service:main"}},
        )
        pip = place / "wheels" / pip_wheel().name
        pip.write_bytes(pip_wheel().read_bytes())
        offlinepack(
            *(
                "build",
                "quarry",
                "--no-index",
                "-f",
                place / "wheels",
                "--target",
                "debian12",
                "--sequence",
                version[0],
            ),
            *("--app-version", version, "-o", place / "b.tar.gz"),
        )
        run(["tar", "-xzf", place / "b.tar.gz", "-C", place])
        bundles[version] = place / f"quarry-{version}"
    target = machine("--root", root("bookworm"), kept=True)
    binds = {bundles["1.0"]: "/media/one:ro", bundles["2.0"]: "/media/two:ro"}
    story = """
    python3 /media/one/install.py --venv /srv/app/venv >/dev/null 2>&1
    /srv/app/venv/bin/quarry &
    pid=$!
    while [ ! -e /srv/app/started ]; do sleep 0.05; done
    python3 /media/two/install.py --venv /srv/app/venv 2>/srv/app/words
    cat /srv/app/words
    /srv/app/venv/bin/python -c 'import quarry; print("now", quarry.VERSION)'
    touch /srv/app/go
    while [ ! -s /srv/app/said ]; do sleep 0.05; done
    echo "running process: $(cat /srv/app/said)"
    python3 /media/two/install.py --rollback --venv /srv/app/venv
    /srv/app/venv/bin/python -c 'import quarry; print("back at", quarry.VERSION)'
    kill -0 $pid && echo "still running"
    touch /srv/app/end; wait $pid
    python3 /media/one/install.py --venv /srv/app/venv || echo "exit $?"
    """
    output = target.shell(story, binds=binds).stdout
    assert "now 2.0" in output
    assert "running process: 1.0 1.0" in output, "a running service stays with the release that it began with"
    assert "back at 1.0" in output and "still running" in output
