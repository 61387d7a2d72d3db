"""Manners of the program as a process: Ctrl-C, a reader that leaves, colours, consoles of all kinds, carrying itself."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.making import ServedIndex, make_wheel

HERE = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "offlinepack"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFLINEPACK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def ran(*arguments: object, **named: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **{key: str(value) for key, value in named.items()}}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=environment, check=False
    )


def test_ctrl_c_while_a_server_is_slow(index: ServedIndex, here: Path, tmp_path: Path) -> None:
    index.fault("stone", hang=60)
    before = {one for one in tmp_path.rglob("*") if "cache" not in one.parts}
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    # one process alone gets the signal: the resolver is still at work when offlinepack ends
    with subprocess.Popen([*PROGRAM, "build", "stone"], stderr=subprocess.PIPE, text=True, env=environment) as run:
        deadline = time.monotonic() + 30
        while not index.count("stone") and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
    assert run.returncode == 130 and "Traceback" not in err, err
    assert {one for one in tmp_path.rglob("*") if "cache" not in one.parts} == before | {temporary}


def interrupted(command: list[str], begun: Callable[[], bool]) -> str | None:
    """What it said when it was interrupted as soon as it had begun; None where it was done before that."""
    # the group, as a terminal does
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and run.poll() is None and not begun():
            time.sleep(0.002)
        os.killpg(run.pid, signal.SIGINT)
        _, err = run.communicate(timeout=30)
    assert run.returncode in (0, 130) and "Traceback" not in err, err
    return err if run.returncode else None


def test_ctrl_c_while_fetching(index: ServedIndex, here: Path, tmp_path: Path) -> None:
    big = make_wheel(tmp_path / "wheels", "heavy", "1.0", size=5_000_000)
    index.pep658 = True
    index.add(big)
    index.fault(big.name, drip=0.05, piece=50_000)
    command = [*PROGRAM, "build", "heavy", "--target", "debian12"]
    assert interrupted(command, lambda: index.count(big.name) > 0) is not None
    assert os.listdir(here) == []
    index.faults.clear()
    assert ran(*command[3:]).returncode == 0, "and the same command goes on"


def test_ctrl_c_while_packing_and_while_installing(index: ServedIndex, here: Path, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "wheels", "heavy", "1.0", size=30_000_000))
    assert ran("build", "heavy").returncode == 0
    bundle = here / "heavy-offline.tar.gz"
    for _ in range(3):
        packing = [*PROGRAM, "build", "heavy", "-o", "again.tar.gz"]
        if interrupted(packing, lambda: any(one.suffix == ".part" for one in here.iterdir())) is not None:
            assert sorted(os.listdir(here)) == [bundle.name, bundle.name + ".sha256"]
            break
        for one in here.glob("again.*"):
            one.unlink()
    installing = [*PROGRAM, "install", bundle.name, "--venv", "there"]
    if interrupted(installing, lambda: (here / "there.d").exists()) is not None:
        assert not (here / "there").exists() and not list(here.glob(".offlinepack-*"))
        assert ran(*installing[3:]).returncode == 0


@pytest.mark.parametrize("arguments", [("targets",), ("build", "--help-all"), ("probe", "--script")])
def test_a_reader_that_leaves_is_no_news(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout and run.stderr
        run.stdout.close()
        err = run.stderr.read()
        run.wait(30)
    assert err == "" and run.returncode in (0, 141)


def test_the_list_of_machines_fits_a_narrow_terminal() -> None:
    run = [sys.executable, "-m", "offlinepack", "targets"]
    wide, narrow = (
        subprocess.run(run, env={**os.environ, "COLUMNS": columns}, capture_output=True, text=True, check=True).stdout
        for columns in ("200", "80")
    )
    assert max(map(len, narrow.splitlines())) <= 80 and wide.split() == narrow.split()
    assert [one for one in wide.splitlines() if one.startswith("debian12,") and "aarch64" in one]


def test_no_terminal_no_colours_no_movement(index: ServedIndex) -> None:
    done = ran("build", "stone", "no-such-thing", FORCE_COLOR="1", COLUMNS="40")
    assert done.returncode == 4 and "\x1b" not in done.stderr + done.stdout and "\r" not in done.stderr


def test_verbose_tells_the_packages_and_twice_what_programs_were_asked(index: ServedIndex) -> None:
    plain, more, most = (ran("build", "stone", *said, "-i", index.url) for said in ((), ("-v",), ("-vv",)))
    assert "    stone " not in plain.stdout and "    stone " in more.stdout and "$ " not in more.stderr
    command_lines = [line for line in most.stderr.splitlines() if line.startswith("$ ")]
    assert any("pip compile" in line for line in command_lines)


def test_exclude_without_an_environment_is_no_silent_thing(index: ServedIndex) -> None:
    done = ran("build", "stone", "--exclude", "pebble")
    assert done.returncode == 0 and "--exclude pebble leaves nothing out" in done.stderr


def test_the_json_of_the_probe_starts_as_every_other() -> None:
    assert ran("probe", "--json").stdout.startswith('{\n "schema": 1,')


def on_terminal(*arguments: str, **named: str) -> str:
    """What the program shows on a terminal of 80 columns."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ.update(named)
        os.execv(sys.executable, [*PROGRAM, *arguments])
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode("utf-8", "replace")


def test_colours_on_a_terminal_and_who_forbids_them(index: ServedIndex) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*m")
    assert colour.search(on_terminal("build", "no-such-thing", TERM="xterm"))
    for words, variables in (((), {"NO_COLOR": "1"}), (("--no-color",), {}), ((), {"TERM": "dumb"})):
        shown = on_terminal("build", "no-such-thing", *words, **{"TERM": "xterm", **variables})
        assert "no-such-thing" in shown and not colour.search(shown), shown


@pytest.mark.parametrize(
    ("named", "chinese"),
    [
        ({"LC_ALL": "zh_CN.UTF-8", "PYTHONIOENCODING": "utf-8"}, True),
        ({"LC_ALL": "zh_CN.GBK", "PYTHONIOENCODING": "gbk"}, True),
        ({"LC_ALL": "zh_CN.UTF-8", "PYTHONIOENCODING": "ascii"}, False),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, False),
        ({"LC_ALL": "C.UTF-8", "OFFLINEPACK_LANG": "zh"}, True),
    ],
)
def test_chinese_where_the_console_can_show_it(named: dict[str, str], chinese: bool) -> None:
    command = [*PROGRAM, "verify", "n\u00f6-bundle.tar.gz"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **named}, check=False)
    said = done.stderr.decode(named.get("PYTHONIOENCODING", "utf-8"))
    assert done.returncode == 9 and "Traceback" not in said
    assert bool(re.search("[\u4e00-\u9fff]", said)) is chinese, said
    if named.get("PYTHONIOENCODING") == "ascii":
        assert "\\xf6" in said


def test_debug_shows_where_and_nothing_else_does() -> None:
    assert "Traceback" not in ran("verify", "nothing.tar.gz").stderr
    assert "Traceback" in ran("verify", "nothing.tar.gz", "--debug").stderr


def test_help_loads_nothing_but_the_command_line() -> None:
    """Help and completion answer at once: what a command needs is imported in its body."""
    script = (
        "import runpy, sys\nsys.argv = ['offlinepack', '--help']\n"
        "try:\n    runpy.run_module('offlinepack', run_name='__main__')\nexcept SystemExit:\n    pass\n"
        "print('loaded', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("loaded ")[2].split())
    assert "offlinepack.cli.main" in loaded
    heavy = {"urllib3", "rich", "pip", "packaging", "uv", "virtualenv", "http.client", "zipfile", "concurrent.futures"}
    assert not loaded & heavy
    ours = {name for name in loaded if name.startswith("offlinepack.")}
    assert {name.split(".")[1] for name in ours} <= {"cli", "errors", "ontarget", "_version", "__main__"}
