"""The fast engine writes what pip writes, for wheels that hold every oddity; and says what it could not do."""

from __future__ import annotations

import importlib.util
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from offlinepack.ontarget.fast_installer import _Worker, install_wheels, query_install_paths
from offlinepack.ontarget.wheel import read_wheel
from offlinepack.wheels.bytecode import compile_wheel

from ..support.making import make_wheel
from ..support.trees import compared, make_environment, placed, tree
from .conftest import pip_wheel

ODD: dict[str, Any] = {
    "files": {
        "stone/__init__.py": "def main():\n    print('stone')\n",
        "stone/syntax.py": "def (:\n",
        "stone/latin.py": "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"),
        "stone/big5.py": "# -*- coding: big5 -*-\nx = '石'\n".encode("big5"),
        "stone/badly_encoded.py": b"x = '\xff'\n",
        "stone/nul.py": b"x = 1\0\n",
        "stone/empty.py": "",
        "stone/tool.py": "#!/usr/bin/env python\n",
        "stone/data.bin": bytes(range(256)) * 9000,
        "stone/数据/é ü.txt": "石",
        'stone/a,b "c".txt': "quotes",
        "stone/no_module/deep/er/x.py": "x = 1\n",
        "single.py": "y = 2\n",
        "stone.pth": "# nothing\n",
    },
    "data": {
        "scripts/shell": "#!/bin/sh\necho hi\n",
        "scripts/old": "#!python\nprint(1)\n",
        "scripts/oldw": "#!pythonw -E\nprint(1)",
        "scripts/one_line": "#!python",
        "scripts/tool.py": "#!python\nx = 1\n",
        "scripts/stone": "#!python\nthe entry point takes its place",
        "scripts/stone-script.py": "this as well",
        "scripts/binary": b"\x7fELF\x00\x01" * 1000,
        "headers/stone.h": "#define STONE 1\n",
        "headers/sub/x.h": "",
        "data/etc/stone/stone.conf": "a = 1\n",
        "data/share/doc/stone/x.py": "z = 3\n",
        "purelib/stone_pure.py": "p = 1\n",
        "platlib/stone_plat.py": "q = 1\n",
    },
    "entry_points": {
        "console_scripts": {"stone": "stone:main", "stone-x": "stone.no_module:a.b.c [fast]", "St.one_2": "stone:main"},
        "gui_scripts": {"gstone": "stone:main"},
        "other.group": {"whatever": "x y z"},
    },
    "executable": ["stone/tool.py"],
    "dist_info": {"RECORD.jws": "{}", "licenses/LICENSE.txt": "free", "top_level.txt": "stone\n"},
}


def odd(folder: Path, tag: str = "py3-none-any") -> list[Path]:
    return [
        make_wheel(folder, "stone", tag=tag, **ODD, record=lambda rows: [one for one in rows if "jws" not in one[0]]),
        make_wheel(folder, "Moss.Green", files={"ns/moss/__init__.py": "m = 1\n"}),
        make_wheel(folder, "fern", files={"ns/fern/__init__.py": "f = 1\n"}),
    ]


@pytest.mark.parametrize(
    ("name", "umask", "more"),
    [
        ("env", 0o022, []),
        ("env", 0o077, []),
        ("env", 0o002, ["--no-compile"]),
        ("an environment with spaces", 0o027, []),
        ("long/" + "d" * 60 + "/" + "e" * 60 + "/env", 0o022, []),
        ("环境", 0o022, []),
    ],
)
def test_the_tree_is_pips(tmp_path: Path, name: str, umask: int, more: list[str]) -> None:
    root = tmp_path / name
    root.parent.mkdir(parents=True, exist_ok=True)
    assert compared(root, sys.executable, pip_wheel(), odd(tmp_path / "wheels"), *more, umask=umask) == []
    run = subprocess.run([root / "bin" / "stone"], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("stone\n", "")


def test_a_wheel_for_one_platform(tmp_path: Path) -> None:
    """Root-Is-Purelib: false."""
    wheel = odd(tmp_path / "wheels", f"py3-none-linux_{os.uname().machine}")
    assert compared(tmp_path / "env", sys.executable, pip_wheel(), wheel) == []


def test_pip_itself(tmp_path: Path) -> None:
    """pip and pip3.X for the Python that there is, whatever the wheel says."""
    assert compared(tmp_path / "env", sys.executable, pip_wheel(), [pip_wheel()]) == []
    run = subprocess.run([tmp_path / "env/bin/pip", "--version"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_bytecode_is_accepted(tmp_path: Path) -> None:
    python = make_environment(sys.executable, tmp_path / "env")
    assert placed(python, pip_wheel(), odd(tmp_path / "wheels")) == []
    done = subprocess.run([python, "-v", "-c", "import stone, ns.fern"], capture_output=True, text=True)
    assert "stone/__pycache__/__init__.cpython" in done.stderr and "matches" in done.stderr
    assert "wrote" not in done.stderr


def test_over_what_an_interrupted_run_left(tmp_path: Path) -> None:
    root, wheels = tmp_path / "env", odd(tmp_path / "wheels")
    python = make_environment(sys.executable, root)
    assert placed(python, pip_wheel(), wheels) == []
    whole = tree(root)
    for path in [*root.rglob("stone/*.py"), *root.glob("bin/stone*"), *root.rglob("RECORD")]:
        path.write_bytes(b"half")
        path.chmod(0o600)
    assert placed(python, pip_wheel(), wheels) == []
    assert tree(root) == whole


def outcome(root: Path, wheels: list[Path], jobs: int = 2) -> dict[str, str]:
    where = query_install_paths(str(root / "bin/python"))
    done = install_wheels([read_wheel(one) for one in wheels], where, read_wheel(pip_wheel()), jobs=jobs)
    return {wheel.name: bad.render() if bad else "" for wheel, bad in done}


def test_what_went_wrong_is_said_and_the_others_go_in(tmp_path: Path) -> None:
    root, wheels = tmp_path / "env", odd(tmp_path / "wheels")
    make_environment(sys.executable, root)
    site = next(root.glob("lib/python3*/site-packages"))
    (site / "stone").write_text("a file where a folder has to be")
    (site / "moss_green-1.0.dist-info/INSTALLER").mkdir(parents=True)
    errors_by_name = outcome(root, wheels)
    assert errors_by_name["fern"] == ""
    assert "stone was not placed" in errors_by_name["stone"] and "/stone/" in errors_by_name["stone"]
    assert "moss-green was not placed" in errors_by_name["moss-green"] and "INSTALLER" in errors_by_name["moss-green"]
    assert not (site / "stone-1.0.dist-info/RECORD").exists()


def test_bytes_that_changed_since_they_were_checked(tmp_path: Path) -> None:
    root, wheels = tmp_path / "env", odd(tmp_path / "wheels")
    make_environment(sys.executable, root)
    read = [read_wheel(one) for one in wheels]
    member = next(one for one in read[0].members if one.name == "stone/data.bin")
    with wheels[0].open("r+b") as out:
        out.seek(member.offset + member.packed_size // 2)
        out.write(b"\0\1\2\3\4\5\6\7")
    done = list(install_wheels(read, query_install_paths(str(root / "bin/python")), read_wheel(pip_wheel())))
    errors_by_name = {wheel.name: bad.render() if bad else "" for wheel, bad in done}
    assert "stone/data.bin: its bytes are damaged, or not those of RECORD" in errors_by_name["stone"]
    assert errors_by_name["fern"] == errors_by_name["moss-green"] == ""
    assert not list(root.rglob("stone-1.0.dist-info/RECORD"))


def test_a_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, wheels = tmp_path / "env", odd(tmp_path / "wheels")
    make_environment(sys.executable, root)
    killed: list[int] = []
    ask = _Worker._send_task

    def kill_once(self: Any, task: Any) -> Any:
        if "stone-1.0" in task[0] and not killed:
            killed.append(self.process.pid if self.process else 0)
            if self.process:
                self.process.kill()
            else:
                raise EOFError
        return ask(self, task)

    monkeypatch.setattr(_Worker, "_send_task", kill_once)
    errors_by_name = outcome(root, wheels, jobs=1)
    assert killed and "a process ended before its work was done" in errors_by_name["stone"]
    assert errors_by_name["fern"] == errors_by_name["moss-green"] == ""


def test_an_unexpected_error_of_a_worker_ends_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, wheels = tmp_path / "env", odd(tmp_path / "wheels")
    make_environment(sys.executable, root)
    errors: list[BaseException] = []

    def fail(self: Any, task: Any) -> Any:
        raise KeyError("unexpected")

    def install() -> None:
        try:
            outcome(root, wheels, jobs=1)
        except BaseException as error:
            errors.append(error)

    monkeypatch.setattr(_Worker, "_send_task", fail)
    thread = threading.Thread(target=install, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "the installation waits for an answer that never comes"
    assert [repr(error) for error in errors] == ["KeyError('unexpected')"]


def test_who_stops_listening_stops_the_work(tmp_path: Path) -> None:
    root = tmp_path / "env"
    make_environment(sys.executable, root)
    wheels = [make_wheel(tmp_path / "wheels", f"stone{one}", size=200_000) for one in range(60)]
    done = install_wheels(
        [read_wheel(one) for one in wheels], query_install_paths(str(root / "bin/python")), read_wheel(pip_wheel())
    )
    next(done)
    done.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    before = len(list(root.rglob("*")))
    time.sleep(0.3)
    assert len(list(root.rglob("*"))) == before
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    assert not children.exists() or not children.read_text().strip()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_killed_parents_leave_no_workers(tmp_path: Path) -> None:
    root = tmp_path / "env"
    make_environment(sys.executable, root)
    wheels = [make_wheel(tmp_path / "wheels", f"stone{one}", size=300_000) for one in range(200)]
    program = (
        "import sys; from offlinepack.ontarget.fast_installer import *; from offlinepack.ontarget.wheel import read_wheel\n"
        "done = install_wheels([read_wheel(one) for one in sys.argv[3:]], query_install_paths(sys.argv[1]), read_wheel(sys.argv[2]), jobs=2)\n"
        "next(done); print('placing', flush=True); list(done)"
    )
    command = [sys.executable, "-c", program, str(root / "bin/python"), str(pip_wheel()), *map(str, wheels)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert running.stdout and running.stdout.readline() == b"placing\n"
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and workers_in(root):
        time.sleep(0.05)
    assert not workers_in(root)
    before = len(list(root.rglob("*")))
    time.sleep(0.3)
    assert len(list(root.rglob("*"))) == before


def workers_in(root: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [process.parent.name] if str(root).encode() in process.read_bytes() else []
        except OSError:
            continue
    return found


def test_bytecode_that_was_packed(tmp_path: Path) -> None:
    """It is placed with the time and size of the source, so that Python takes it; an edited source is noticed."""
    root, wheels = tmp_path / "env", [read_wheel(one) for one in odd(tmp_path / "wheels")]
    ready = {
        one.name: read_wheel(compile_wheel(Path(one.path), sys.executable, tmp_path / "bytecode" / one.filename))
        for one in wheels
    }
    again = compile_wheel(Path(wheels[0].path), sys.executable, tmp_path / "again" / wheels[0].filename)
    assert again and again.read_bytes() == (tmp_path / "bytecode" / wheels[0].filename).read_bytes()
    make_environment(sys.executable, root)
    where = query_install_paths(str(root / "bin/python"))
    assert [bad for _, bad in install_wheels(wheels, where, read_wheel(pip_wheel()), bytecode=ready) if bad] == []
    packed = tree(root)
    compiled = tmp_path / "compiled"
    make_environment(sys.executable, compiled)
    assert placed(compiled / "bin/python", pip_wheel(), odd(tmp_path / "more")) == []
    names = {one for one in packed if one.endswith(".pyc")} ^ {one for one in tree(compiled) if one.endswith(".pyc")}
    assert all("big5" in one for one in names)  # pip 26.3 and newer leave it out, because they would import a codec
    source = next(root.rglob("stone/__init__.py"))
    cached = Path(importlib.util.cache_from_source(str(source)))
    head = cached.read_bytes()[:16]
    assert head[8:] == struct.pack("<2I", int(source.stat().st_mtime), source.stat().st_size)
    run = [root / "bin/python", "-v", "-c", "import stone, ns.fern; print(stone.main.__code__.co_filename)"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert "wrote" not in done.stderr and f"{cached} matches {source}" in done.stderr
    assert done.stdout == f"{source}\n"
    source.write_text("def main():\n    print('edited')\n")
    done = subprocess.run([root / "bin/stone"], capture_output=True, text=True)
    assert done.stdout == "edited\n"


def test_bytecode_of_another_python_is_not_taken(tmp_path: Path) -> None:
    root, wheels = tmp_path / "env", [read_wheel(one) for one in odd(tmp_path / "wheels")[:1]]
    ready = make_wheel(
        tmp_path / "bytecode", "stone", files={"stone/__init__.pyc": b"\0\0\r\n" + bytes(12) + b"nonsense"}
    )
    make_environment(sys.executable, root)
    where, codes = query_install_paths(str(root / "bin/python")), {"stone": read_wheel(ready)}
    assert [bad for _, bad in install_wheels(wheels, where, read_wheel(pip_wheel()), bytecode=codes) if bad] == []
    done = subprocess.run([root / "bin/python", "-v", "-c", "import stone"], capture_output=True, text=True)
    assert "wrote" not in done.stderr and "stone/__pycache__/__init__.cpython" in done.stderr
