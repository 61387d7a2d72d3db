"""Parse platform tags, triples and short names; list the machines and platform tags of each operating system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

# The machines of each system in the spelling of its wheel tags, and other names in use for them.
MACHINES = {
    "linux": ("x86_64", "i686", "aarch64", "armv7l", "armv6l", "ppc64le", "ppc64", "s390x", "riscv64", "loongarch64"),
    "windows": ("amd64", "x86", "arm64"),
    "macos": ("arm64", "x86_64"),
}

MACHINE_ALIASES = {
    "amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "i586": "i686", "x86": "i686",
    "armhf": "armv7l", "armv7": "armv7l", "ppc64el": "ppc64le", "powerpc64le": "ppc64le", "loong64": "loongarch64",
}  # fmt: skip

_SYSTEM_MACHINE_NAMES = {
    ("windows", "x86_64"): "amd64", ("windows", "i686"): "x86", ("windows", "aarch64"): "arm64",
    ("macos", "aarch64"): "arm64",
}  # fmt: skip

# A plain `linux_ARCH` states no glibc version. It stands for the oldest one of currently supported systems on that
# machine (RHEL 8, Debian 11 and similar), as uv's ARCH-unknown-linux-gnu does; 2.28 for machines not listed.
_DEFAULT_GLIBC_VERSIONS = {"armv7l": "2.31", "armv6l": "2.31", "loongarch64": "2.36", "riscv64": "2.39"}

SYSTEM_NAMES = {"linux": "Linux", "windows": "Windows", "macos": "macOS"}

IMPLEMENTATION_NAMES = {"cpython": "CPython", "pypy": "PyPy"}

IMPLEMENTATIONS_BY_TAG = {"cp": "cpython", "pp": "pypy"}


class Platform(NamedTuple):
    """Facts of a system without those of a Python."""

    os: str
    machine: str
    libc: str | None = None
    libc_version: str | None = None
    macos_version: str | None = None


class Python(NamedTuple):
    """Facts of a Python without those of its system."""

    implementation: str
    version: str
    free_threaded: bool

    @property
    def short_name(self) -> str:
        """Form after the colon of a target's name: 3.11, 3.13t, pp3.10."""
        return f"{'pp' * (self.implementation == 'pypy')}{self.version}{'t' * self.free_threaded}"


def parse_version_numbers(version: str) -> tuple[int, ...]:
    """Split a version of dots and digits into numbers."""
    return tuple(int(part) for part in version.split("."))


def list_linux_tags(machine: str, libc: str | None, major: int, newest: int) -> Iterator[str]:
    """Yield the platform tags of Linux in pip's order: linux_ARCH, then each version of the C library in descent."""
    yield f"linux_{machine}"
    if libc == "musl":
        # PEP 656: a wheel for musllinux_X_Y runs on musl X.Z with Z >= Y.
        yield from (f"musllinux_{major}_{minor}_{machine}" for minor in range(newest, -1, -1))
    elif machine != "armv6l":  # manylinux supports 32-bit Arm only with the hard-float ABI of armv7l
        # PEP 600: the old names stand for 2_5, 2_12 (PEP 513, 571: x86 only) and 2_17.
        old_names = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
        for minor in range(newest, 4 if machine in ("x86_64", "i686") else 16, -1):
            yield f"manylinux_{major}_{minor}_{machine}"
            if minor in old_names:
                yield f"{old_names[minor]}_{machine}"


def normalize_machine(system: str, written: str) -> str | None:
    """Return a machine in the spelling of the system's wheel tags; None if no tag has it."""
    machine = MACHINE_ALIASES.get(written, written)
    machine = _SYSTEM_MACHINE_NAMES.get((system, machine), machine)
    return machine if machine in MACHINES[system] else None


# Other spellings of platform tags: old manylinux names, triples, short names.
_PLATFORM_SPELLINGS = [
    (re.compile(pattern), tag)
    for pattern, tag in (
        (r"(\w+?)_((?:many|musl)linux_?\d\w*)", r"\2_\1"),
        (r"(\w+?)_unknown_linux(?:_gnu(?:eabihf)?)?", r"linux_\1"),
        (r"(\w+?)_unknown_linux_musl(?:eabihf)?", r"musllinux_1_2_\1"),
        (r"(\w+?)_pc_windows_msvc", r"win_\1"),
        (r"(\w+?)_apple_darwin", r"macosx_13_0_\1"),
        (r"macos_(\w+)", r"macosx_13_0_\1"),
        (r"macos", "macosx_13_0_arm64"),
        (r"windows_(\w+)", r"win_\1"),
        (r"windows", "win_amd64"),
        (r"win32", "win_x86"),
        (r"linux", "linux_x86_64"),
        (r"manylinux1_(\w+)", r"manylinux_2_5_\1"),
        (r"manylinux2010_(\w+)", r"manylinux_2_12_\1"),
        (r"manylinux2014_(\w+)", r"manylinux_2_17_\1"),
    )
]

_PLATFORM_PATTERN = re.compile(r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_(\w+)|(linux|win)_(\w+)")


@cache
def parse_platform(written: str) -> Platform | None:
    """Parse a platform tag, a triple or a short name; None if it is none of them.

    `linux_ARCH` gets the default glibc version of that machine; `macos` and its triples mean macOS 13, as in uv.
    """
    tag = re.sub(r"[-. ]", "_", written.strip().lower())
    for pattern, form in _PLATFORM_SPELLINGS:
        if spelled := pattern.fullmatch(tag):
            tag = spelled.expand(form)
    match = _PLATFORM_PATTERN.fullmatch(tag)
    if not match:
        return None
    kind, level = match[1] or match[5], f"{match[2]}.{match[3]}"
    system = {"macosx": "macos", "win": "windows"}.get(kind, "linux")
    machine = normalize_machine(system, match[4] or match[6])
    if machine is None:
        return None
    if system != "linux":
        return Platform(system, machine, macos_version=level if kind == "macosx" else None)
    libc = "musl" if kind == "musllinux" else "glibc"
    return Platform(system, machine, libc, _DEFAULT_GLIBC_VERSIONS.get(machine, "2.28") if kind == "linux" else level)
