"""install.py, before anything of the bundle is trusted: which Python, which code, and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ONTARGET = Path(__file__).parents[2] / "offlinepack" / "ontarget"
COMMAND = """
import sys, pkgutil
from . import errors
def main(argv, bundle):
    if "bug" in argv:
        raise ZeroDivisionError("a bug")
    if "wait" in argv:
        import time
        print("waiting", flush=True)
        time.sleep(60)
    print(argv, bundle, sys.flags.isolated, sys.dont_write_bytecode, len(pkgutil.get_data(__package__, "errors.py")) > 100)
    return 3
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "app-1.0"
    (folder / "ontarget").mkdir(parents=True)
    for name in ("install.py", "install.sh"):
        shutil.copy(ONTARGET / name, folder)
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ONTARGET / name, folder / "ontarget")
    (folder / "ontarget/command.py").write_text(COMMAND)
    files = sorted((folder / "ontarget").iterdir())
    lines = (f"{hashlib.sha256(one.read_bytes()).hexdigest()}  ontarget/{one.name}\n" for one in files)
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(one) for one in command], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_it_restarts_isolated_and_passes_everything_on(bundle: Path) -> None:
    for planted in ("json.py", "io.py", "os.py", "hashlib.py", "re.py", "subprocess.py", "ontarget/re.py"):
        (bundle / planted).write_text("raise SystemExit('planted')")
    done = run(
        sys.executable, bundle / "install.py", "--venv", "x y", "--debug", PYTHONPATH="/nowhere", PYTHONSTARTUP="x"
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == f"['--venv', 'x y', '--debug'] {bundle} 1 True True\n"
    assert not list(bundle.rglob("__pycache__"))


def test_a_planted_pyc_is_not_read(bundle: Path) -> None:
    import py_compile

    evil = bundle.parent / "errors.py"
    evil.write_text("raise SystemExit('planted')")
    cache = bundle / "ontarget/__pycache__" / f"errors.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(evil), str(cache), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert run(sys.executable, bundle / "install.py").returncode == 3


@pytest.mark.parametrize("fault", ["altered", "missing", "not listed", "no sums", "fifo", "twice"])
def test_code_that_is_not_the_bundles(bundle: Path, fault: str) -> None:
    errors, sums = bundle / "ontarget/errors.py", bundle / "SHA256SUMS"
    if fault == "altered":
        errors.write_bytes(errors.read_bytes() + b"\n")
    elif fault == "missing":
        errors.unlink()
    elif fault == "fifo":
        errors.unlink()
        os.mkfifo(errors)
    elif fault == "twice":
        sums.write_text(sums.read_text() + f"{'0' * 64}  ontarget/errors.py\n")
    else:
        sums.write_text("")
    if fault == "no sums":
        sums.unlink()
    done = run(sys.executable, bundle / "install.py")
    assert done.returncode == (9 if fault == "no sums" else 7)
    assert "Copy it again from where it was made." in done.stderr and "重新拷贝" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_is_one_sentence(bundle: Path) -> None:
    done = run(sys.executable, bundle / "install.py", "bug")
    assert done.returncode == 1 and "ZeroDivisionError: a bug" in done.stderr and "Traceback" not in done.stderr
    done = run(sys.executable, bundle / "install.py", "bug", "--debug")
    assert done.returncode == 1 and 'raise ZeroDivisionError("a bug")' in done.stderr


def test_interrupted(bundle: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, bundle / "install.py", "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout and running.stdout.readline() == b"waiting\n"
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err) == (130, b"", b"")


def test_offlinepacks_own_package_serves_a_bundle(bundle: Path, tmp_path: Path) -> None:
    """`install.py --bundle DIR` is believed only from a folder that is called ontarget, which no bundle's top is by itself."""
    own = tmp_path / "package/ontarget"
    shutil.copytree(bundle / "ontarget", own)
    shutil.copy(ONTARGET / "install.py", own)
    done = run(sys.executable, own / "install.py", "--bundle", "some/where", "--json")
    assert done.stdout == f"['--json'] {Path.cwd() / 'some/where'} 1 True True\n"
    done = run(sys.executable, bundle / "install.py", "--bundle", "x")
    assert done.stdout.startswith("['--bundle', 'x'] " + str(bundle))


def test_one_file_for_all(bundle: Path, tmp_path: Path) -> None:
    import zipapp

    shutil.move(bundle / "install.py", bundle / "__main__.py")
    zipapp.create_archive(bundle, tmp_path / "offlinepack.pyz")
    done = run(sys.executable, tmp_path / "offlinepack.pyz", "verify", PYTHONPATH="/x")
    assert done.stdout == "['verify'] None 1 True True\n"


def test_the_shell_finds_a_python(bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "bin"
    there.mkdir()
    (there / "python3").write_text("#!/bin/sh\nexit 1\n")  # there, and too old
    (there / "python3.9").symlink_to(sys.executable)
    (there / "python3").chmod(0o755)
    done = run("/bin/sh", bundle / "install.sh", "a b", "", PATH=str(there))
    assert done.stdout.startswith(f"['a b', ''] {bundle}")
    shell = (bundle / "install.sh").read_text().replace("/usr/", "/nowhere/")
    (bundle / "install.sh").write_text(shell)
    done = run("/bin/sh", bundle / "install.sh", PATH="/nowhere")
    assert done.returncode == 10 and "No Python 3.6 or newer" in done.stderr and "未找到" in done.stderr


VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
OLD = [
    *VERSIONS.glob("2.*/bin/python2"),
    *(path for path in [shutil.which("python2.7")] if path and "shims" not in path),
]


@pytest.mark.skipif(not OLD, reason="no Python 2 here")
def test_an_old_python_is_reported(bundle: Path) -> None:
    done = run(OLD[0], bundle / "install.py")
    assert done.returncode == 10 and "3.6 or newer is needed" in done.stderr and "更新版本" in done.stderr
    assert "Traceback" not in done.stderr
