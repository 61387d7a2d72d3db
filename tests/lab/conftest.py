"""Real machines without a network, from ../shared/lab: Debian roots, other Pythons; and bundles of real projects for them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[2]
LAB = Path(os.environ.get("OFFLINEPACK_LAB", HERE.parent / "shared" / "lab"))
KEPT = Path(os.environ.get("OFFLINEPACK_LAB_ROOTS", HERE / ".lab"))
"""roots and bundles that are kept between runs"""
HOME = os.environ.get("HOME", "/root")


def missing() -> str:
    """Why the lab cannot run here, or ''."""
    if not (LAB / "in-target").exists():
        return f"no lab at {LAB}: set OFFLINEPACK_LAB"
    if os.geteuid() != 0:
        return "the lab's machines are made by root (unshare, overlay, chroot)"
    if not shutil.which("tini-static"):
        return f"the lab's tools are missing: run {LAB}/binfmt-up"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if Path(str(item.fspath)).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.lab)
            if reason and not os.environ.get("OFFLINEPACK_NO_SKIPS"):
                item.add_marker(pytest.mark.skip(reason=reason))


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time makes the thing of this name."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[object], expect: int | None = 0, **named: Any) -> subprocess.CompletedProcess[str]:
    """Run it; what it printed is in the failure's words."""
    named.setdefault("timeout", 900)
    done = subprocess.run(
        [str(one) for one in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        **named,
    )
    if expect is not None:
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done


def offlinepack(*arguments: object, expect: int | None = 0, **named: Any) -> subprocess.CompletedProcess[str]:
    """The command line of this checkout; its store is kept between runs."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "OFFLINEPACK_CACHE_DIR": str(KEPT / "cache"),
        **named.pop("env", {}),
    }
    return run([sys.executable, "-m", "offlinepack", *arguments], expect, env=environment, **named)


@pytest.fixture(scope="session")
def root() -> Callable[..., Path]:
    """root("bookworm", "amd64", include="...") makes, or finds again, a Debian without pip, ensurepip and compiler."""

    def make(suite: str, arch: str = "amd64", include: str = "") -> Path:
        name = f"{suite}-{arch}" + (f"-{hashlib.sha256(include.encode()).hexdigest()[:8]}" if include else "")
        extra = ["--include", include] if include else []
        # make-rootfs locks by itself; Debian's mirror is asked once
        with alone("apt"):
            return Path(run([LAB / "make-rootfs", *extra, name, arch, suite, KEPT / "roots"]).stdout.strip())

    return make


@pytest.fixture(scope="session")
def pythons() -> dict[str, str]:
    """X.Y -> interpreter, of those that in-target can offer."""
    found = {}
    environment = {**os.environ, "HOME": HOME}
    for line in run([LAB / "pythons"], env=environment).stdout.splitlines():
        version, path = line.split(" ", 1)
        found[".".join(version.split(".")[:2])] = path
    return found


class Machine:
    """A machine without a network; with `upper` it is the same machine at each call."""

    def __init__(self, *options: object, upper: Path | None = None) -> None:
        self.options = [str(one) for one in options]
        if upper:
            self.options += ["--upper", str(upper)]

    def __call__(
        self, *command: object, binds: dict[Path, str] | None = None, expect: int | None = 0, **named: Any
    ) -> subprocess.CompletedProcess[str]:
        seen = [part for source, there in (binds or {}).items() for part in ("--bind", f"{source}:{there}")]
        environment = {**os.environ, "HOME": HOME}
        return run([LAB / "in-target", *self.options, *seen, "--", *command], expect, env=environment, **named)

    def shell(self, script: str, **named: Any) -> subprocess.CompletedProcess[str]:
        """A script, stopped at its first failing line."""
        return self("sh", "-euc", script, **named)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Machine]:
    """machine("--root", DIR, "--user", kept=True) -> Machine."""
    count = iter(range(100))

    def make(*options: object, kept: bool = False) -> Machine:
        upper = tmp_path / f"machine-{next(count)}" if kept else None
        return Machine(*options, upper=upper)

    return make


@pytest.fixture(scope="session")
def packed() -> Callable[..., Path]:
    """packed("name", *arguments of build) -> the bundle's unpacked folder, made once for all tests of a run."""

    def make(name: str, *arguments: object, cwd: Path = HERE, timeout: float = 900) -> Path:
        folder = KEPT / "bundles" / name
        code = hashlib.sha256(
            b"".join(one.read_bytes() for one in sorted((HERE / "offlinepack").rglob("*")) if one.is_file())
        )
        code.update(repr(arguments).encode())
        with alone(f"bundle-{name}"):
            stamp = folder / ".made-from"
            if not stamp.exists() or stamp.read_text() != code.hexdigest():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                offlinepack(
                    "build", *arguments, "--name", name, "-o", folder / "bundle.tar.gz", cwd=cwd, timeout=timeout
                )
                run(["tar", "-xzf", folder / "bundle.tar.gz", "-C", folder])
                stamp.write_text(code.hexdigest())
        return folder / name

    return make
