"""Facts of the running interpreter and its machine. As a script this file is the probe: `python3 interpreter.py`
prints them as JSON, for `offlinepack build --target FILE` on another machine. It writes nothing and asks no network.

Standard library alone, Python 3.6 and newer, Linux, macOS, Windows. `--facts` prints what the interpreter itself knows,
without a look at the machine's libraries. The last line on stderr can be read over the phone.
"""

import sys

if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path[:] = sys.path if sys.flags.isolated else sys.path[1:]

import json
import os
import platform
import re
import struct
import subprocess
import sysconfig
from typing import Any, Dict, List, Optional, Tuple  # noqa: F401 (type comments)

# Releases that offlinepack's catalogue knows by name; for any other system the probe says the tag form.
KNOWN = (
    "debian11 debian12 debian13 ubuntu20.04 ubuntu22.04 ubuntu24.04 rhel7 rhel8 rhel9 rhel10 amazonlinux2 al2023 sles15 "
    "openeuler20.03 openeuler22.03 openeuler24.03 kylin10 uos20 alpine3.17 alpine3.18 alpine3.19 alpine3.20 alpine3.21 "
    "alpine3.22"
).split()
_NAMES = {
    "centos": "rhel", "rocky": "rhel", "almalinux": "rhel", "ol": "rhel", "redhat": "rhel", "amzn": "amazonlinux",
    "openEuler": "openeuler", "uos": "uos", "uniontech": "uos", "kylin": "kylin",
}  # fmt: skip


def facts():  # type: () -> Dict[str, Any]
    """The interpreter: the fields of a manifest's Facts, and what an installer has to know of it."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, re.sub(r"\d+\Z", "", sys.platform))
    libc, libc_version = _libc() if system == "linux" else (None, None)
    library = os.path.dirname(os.path.abspath(os.__file__))

    def has(name):  # type: (str) -> bool
        return os.path.isfile(os.path.join(library, *name.split("/")))

    return {
        "implementation": sys.implementation.name,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "free_threaded": free_threaded,
        "os": system,
        "machine": _machine(system),
        "libc": libc,
        "libc_version": libc_version,
        "macos_version": _macos_version() if system == "macos" else None,
        "bits": struct.calcsize("P") * 8,
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "has": {
            "venv": has("venv/__init__.py"),
            "ensurepip": has("ensurepip/__init__.py"),
            "distutils": has("distutils/core.py"),
            "pip": _has_pip(),
        },
        "externally_managed": has("EXTERNALLY-MANAGED"),
        "marker_environment": marker_environment(),
    }


def _has_pip():  # type: () -> bool
    import importlib.util

    return importlib.util.find_spec("pip") is not None


def _machine(system):  # type: (str) -> str
    """What this process is built for, as wheel tags say it; the kernel may be of a wider machine."""
    named = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    if system == "windows":
        return {"win_amd64": "amd64", "win32": "x86"}.get(named, named[len("win_") :])
    if system == "macos":
        return platform.machine()  # the platform's own name says universal2
    machine = named.split("_", 1)[-1]
    if struct.calcsize("P") == 4:
        # a 32-bit userland on a 64-bit kernel
        machine = {"x86_64": "i686", "i586": "i686", "i386": "i686"}.get(machine, machine)
        machine = {"aarch64": "armv7l", "armv8l": "armv7l"}.get(machine, machine)
    return machine


def _macos_version():  # type: () -> str
    version = platform.mac_ver()[0]
    if version.startswith("10.16"):
        # Built against an older SDK, Python is told 10.16; the real version is had this way.
        asked = [sys.executable, "-sS", "-c", "import platform; print(platform.mac_ver()[0])"]
        version = _output(asked, dict(os.environ, SYSTEM_VERSION_COMPAT="0")).strip()
    return ".".join((version.split(".") + ["0"])[:2])


def _libc():  # type: () -> Tuple[Optional[str], Optional[str]]
    """Which C library this process runs on, and its version."""
    try:
        named = os.confstr("CS_GNU_LIBC_VERSION") or ""  # "glibc 2.17"
    except (AttributeError, ValueError, OSError):
        named = ""
    loader = "" if named else _elf_interpreter(sys.executable)
    if "musl" in loader:
        # the loader prints "musl libc (x86_64)", "Version 1.2.2" and how it is used
        found = re.search(r"Version (\d+\.\d+)", _output([loader, "--version"]))
        return "musl", found.group(1) if found else None
    if not named:
        try:
            import ctypes

            version = ctypes.CDLL(None).gnu_get_libc_version
            version.restype = ctypes.c_char_p
            named = version().decode("ascii")
        except (ImportError, OSError, AttributeError):
            return None, None
    found = re.search(r"(\d+\.\d+)", named)
    return "glibc", found.group(1) if found else None


def _elf_interpreter(path):  # type: (str) -> str
    """The dynamic loader that an ELF file names, or ''."""
    try:
        with open(path, "rb") as source:
            head = source.read(64)
            order = "<" if head[5:6] == b"\x01" else ">"
            wide = head[4:5] == b"\x02"
            table = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
            size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
            for index in range(count):
                source.seek(table + index * size)
                entry = source.read(size)
                if struct.unpack_from(order + "I", entry)[0] == 3:  # PT_INTERP
                    start = struct.unpack_from(order + ("Q" if wide else "I"), entry, 8 if wide else 4)[0]
                    length = struct.unpack_from(order + ("Q" if wide else "I"), entry, 32 if wide else 16)[0]
                    source.seek(start)
                    return source.read(length).rstrip(b"\0").decode("utf-8", "replace")
    except (OSError, struct.error, TypeError):
        pass
    return ""


def _output(command, environment=None):  # type: (List[str], Optional[Dict[str, str]]) -> str
    """What a program says on either stream; '' where it cannot be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def marker_environment():  # type: () -> Dict[str, str]
    """PEP 508: the values of the environment markers here."""
    own = sys.implementation.version
    version = "%d.%d.%d" % (own.major, own.minor, own.micro)
    if own.releaselevel != "final":
        version += own.releaselevel[0] + str(own.serial)
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": version,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def main():  # type: () -> int
    """Print what is known here as JSON."""
    print(json.dumps(dict(facts(), schema=1), sort_keys=True, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
