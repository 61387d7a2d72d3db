"""Run a command in a root file system, or on this host, without a network.

Linux namespaces separate processes, mounts and network; they need root or user namespaces. Another architecture
needs qemu-user, registered in binfmt_misc with the flag F. Changes are discarded unless a folder for them is given.
This protects against accidents, not against attackers: the kernel is that of the host. The module is also the
script that runs inside the new namespaces.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

if __name__ != "__main__":
    from offlinepack.errors import ComputerError, UsageError, error

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_EXIT_REFUSED, _EXIT_NOT_STARTED = 125, 126
"""exit codes of the script itself: the namespaces could not be made; the command could not be started"""


_STEERING_VARIABLES = re.compile(
    r"_?(PYTHON|(PIP|UV|VIRTUALENV|CONDA|OFFLINEPACK|__PYVENV|PIPENV|POETRY|PDM|HATCH|TOX|NOX|PYENV)_|VIRTUAL_ENV)",
    re.I,
)


def clean_environment() -> dict[str, str]:
    """Return the variables of this process without those that steer Python, pip, uv or an active environment."""
    return {name: value for name, value in os.environ.items() if not _STEERING_VARIABLES.match(name)}


class BindMount(NamedTuple):
    """A file or folder of the host that is seen inside."""

    source: Path
    mount_point: str
    """absolute, inside"""
    is_writable: bool = False


def run_in_root(
    root: Path,
    command: Sequence[str | Path],
    *,
    binds: Sequence[BindMount] = (),
    environment: Mapping[str, str] | None = None,
    folder: str = "/",
    output: int | IO[Any] | None = subprocess.PIPE,
    changes: Path | None = None,
    uid: int | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run it with `root` as its /, as root or as `uid`; stdout and stderr go to `output`, together.

    `environment` is added to PATH, HOME=/root, LANG=C.UTF-8. What it changes below / goes to the folder `changes`
    (kept), else to memory (dropped). UsageError: no root file system; ComputerError: this host cannot do it;
    subprocess.TimeoutExpired after so many seconds, when all that ran inside is gone.
    """
    root = check_root(root)
    inside = {
        "root": str(root),
        "command": [str(word) for word in command],
        "binds": [[str(bind.source.absolute()), bind.mount_point, bind.is_writable] for bind in binds],
        "environment": {"PATH": DEFAULT_PATH, "HOME": "/root", "LANG": "C.UTF-8", **(environment or {})},
        "folder": folder,
        "changes": str(changes.absolute()) if changes else None,
        "uid": uid,
    }
    namespaces = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child=KILL"]
    namespaces += _make_user_options()
    with tempfile.TemporaryDirectory(prefix="offlinepack-root-") as base, tempfile.TemporaryFile() as talk:
        talk.write(json.dumps(inside).encode())
        talk.seek(0)
        script = [sys.executable, "-I", "-S", __file__, base, str(talk.fileno())]
        try:
            process = subprocess.run(
                [*namespaces, "--propagation", "private", "--", *script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[talk.fileno()],
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError:
            raise ComputerError(_make_refusal_finding("unshare: not found", root)) from None
        talk.seek(0)
        answer = talk.read().decode("utf-8", "replace")
        if answer or process.returncode == _EXIT_REFUSED:
            raise ComputerError(
                _make_refusal_finding(answer or (process.stdout or b"").decode("utf-8", "replace"), root)
            )
    return process


@functools.cache
def supports_network_isolation() -> bool:
    """Check whether this user can run a command without network on this host."""
    if sys.platform != "linux":
        return False
    command = [*_ISOLATION_COMMAND, *_make_user_options(), "--", "true"]
    try:
        process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0


def run_without_network(
    command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[bytes]:
    """Run it among this computer's own files, in processes of its own, with no network but 127.0.0.1.

    Only where `can_cut_off`. stdout and stderr come together; all that it started is gone when it ends.
    """
    script = [sys.executable, "-I", "-S", __file__, "--cut-off"]
    return subprocess.run(
        [*_ISOLATION_COMMAND, *_make_user_options(), "--", *script, *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=folder,
        check=False,
    )


_ISOLATION_COMMAND = ("unshare", "--mount", "--pid", "--mount-proc", "--net", "--fork", "--kill-child=KILL")


def _make_user_options() -> list[str]:
    return [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def check_root(root: Path) -> Path:
    """Return the absolute path of a root file system; raise UsageError if it is none, ComputerError outside Linux."""
    if not any(
        (root / name).exists() or (root / name).is_symlink() for name in ("usr/bin/env", "bin/sh", "usr/bin/sh")
    ):
        raise UsageError(
            error(
                "not-a-root",
                root,
                "{subject} is not a root file system: it has no /bin/sh.",
                "Make one of the target's own release, for example with mmdebstrap, or dnf --installroot.",
            )
        )
    if sys.platform != "linux":
        raise ComputerError(_make_refusal_finding("only Linux has the namespaces for it", root))
    return root.resolve()


def _make_refusal_finding(reason: str, root: Path) -> Any:
    if "Exec format error" in reason:
        return error(
            "root-foreign",
            root,
            "Programs of {subject} cannot be run here: they are for another architecture.",
            "Install qemu-user-static and register it in binfmt_misc with the flag F (package binfmt-support).",
        )
    if reason.startswith("no such command"):
        command = reason.partition(": ")[2]
        return error("root-lacks-command", root, "{subject} has no {command}.", "Install it there.", command=command)
    lines = [line for line in reason.strip().splitlines() if line.strip()]
    return error(
        "root-refused",
        root,
        "No command can be run in {subject}: this computer allows no namespaces of its own.",
        "Run this as root, or where user namespaces are allowed; install util-linux if unshare is missing.",
        log="\n".join(lines[-5:]),
    )


def _enter_root(base: Path, request: Mapping[str, Any]) -> int:
    """Build the tree, change to it and run the command, inside the new namespaces."""
    new, state = base / "new", base / "state"
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", base)
    for folder in (new, state):
        folder.mkdir()
    if request["changes"]:
        Path(request["changes"]).mkdir(parents=True, exist_ok=True)
        _mount("--bind", request["changes"], state)
    for name in ("up", "work"):
        (state / name).mkdir(exist_ok=True)
    layers = f"lowerdir={request['root']},upperdir={state / 'up'},workdir={state / 'work'}"
    try:
        _mount("-t", "overlay", "overlay", "-o", layers, new)
    except OSError:  # without rights over the host's extended attributes
        _mount("-t", "overlay", "overlay", "-o", f"{layers},userxattr", new)
    for name in ("tmp", "var/tmp", "run", "root", "dev", "proc", "sys"):
        (new / name).mkdir(parents=True, exist_ok=True)
    _create_devices(new / "dev")
    _mount("-t", "proc", "proc", new / "proc")
    with contextlib.suppress(OSError):  # refused in some containers; nothing of ours reads it
        _mount("-t", "sysfs", "-o", "ro", "sysfs", new / "sys")
    for source, place, writable in request["binds"]:
        _bind_mount(source, new / place.lstrip("/"), writable)
    os.umask(0o022)
    _enable_loopback()
    os.chroot(new)
    os.chdir(request["folder"])
    return _run_child(request)


def _create_devices(folder: Path) -> None:
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (folder / name).touch()
        _mount("--bind", f"/dev/{name}", folder / name)
    for link, goal in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (folder / link).symlink_to(goal)
    (folder / "shm").mkdir()
    (folder / "shm").chmod(0o1777)


def _mount(*arguments: str | Path) -> None:
    command = ["mount", *map(str, arguments)]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if process.returncode:
        raise OSError(process.stdout.decode("utf-8", "replace").strip())


def _bind_mount(source: str, place: Path, writable: bool) -> None:
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount("--bind", source, place)
    if not writable:
        _mount("-o", "remount,bind,ro", place)


def _enable_loopback() -> None:
    """Set `lo` up, which a new network namespace holds down: 127.0.0.1 is no network."""
    import fcntl
    import socket
    import struct

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # ioctl SIOCSIFFLAGS of netdevice(7): IFF_UP and IFF_RUNNING for lo
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))


def _run_child(request: Mapping[str, Any]) -> int:
    """Run the command as a child of this process, which is process 1 and reaps all orphans."""
    child = os.fork()
    if child == 0:
        try:
            if request["uid"] is not None:
                os.setgroups([])
                os.setgid(request["uid"])
                os.setuid(request["uid"])
            os.execvpe(request["command"][0], request["command"], request["environment"])
        except FileNotFoundError:
            _report_failure(f"no such command: {request['command'][0]}")
        except OSError as problem:
            _report_failure(str(problem))
        os._exit(_EXIT_NOT_STARTED)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    while True:
        try:
            ended, status = os.wait()
        except InterruptedError:
            continue
        if ended == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _report_failure(reason: str) -> None:
    """Write a failure of this script to the file descriptor of `run`, apart from the output of the command."""
    os.write(_CHANNEL, reason.encode("utf-8", "replace"))


if __name__ == "__main__" and sys.argv[1] == "--cut-off":
    _enable_loopback()
    os.execvp(sys.argv[2], sys.argv[2:])
elif __name__ == "__main__":
    _CHANNEL = int(sys.argv[2])
    os.set_inheritable(_CHANNEL, False)
    _JOB = json.loads(os.read(_CHANNEL, 1 << 24))
    os.ftruncate(_CHANNEL, 0)
    os.lseek(_CHANNEL, 0, os.SEEK_SET)
    try:
        _EXIT_CODE = _enter_root(Path(sys.argv[1]), _JOB)
    except OSError as refused:
        _report_failure(str(refused))
        _EXIT_CODE = _EXIT_REFUSED
    os._exit(_EXIT_CODE)
