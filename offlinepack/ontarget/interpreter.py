"""Collect facts about the running interpreter and its machine. Run as a script, this file is the probe.

`python3 interpreter.py > FILE` prints the facts as JSON for `offlinepack build --target FILE`, and on stderr a short
name of the target. It writes nothing and uses no network. `--facts` prints only the facts of the interpreter.
"""

import sys

if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path[:] = sys.path if sys.flags.isolated else sys.path[1:]  # do not import modules from the folder of this file

import importlib.util
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sysconfig
from typing import Any, Dict, List, Optional, Tuple

# The systems of the catalogue (ID and VERSION_ID), and the minor version of their libc in the catalogue.
_MINIMUM_LIBC = {
    "debian11": 31, "debian12": 36, "debian13": 41, "rhel7": 17, "rhel8": 28, "rhel9": 34, "rhel10": 39, "kylin10": 28,
    "ubuntu20.04": 31, "ubuntu22.04": 35, "ubuntu24.04": 39, "ubuntu26.04": 43, "al2": 26, "al2023": 34, "sles15": 31,
    "openeuler20.03": 28, "openeuler22.03": 34, "openeuler24.03": 38, "uos20": 28, "alpine3.17": 2, "alpine3.18": 2,
    "alpine3.19": 2, "alpine3.20": 2, "alpine3.21": 2, "alpine3.22": 2, "alpine3.23": 2,
}  # fmt: skip

_OS_IDS = {"centos": "rhel", "rocky": "rhel", "almalinux": "rhel", "ol": "rhel", "amzn": "al", "opensuse-leap": "sles"}


def collect_facts():  # type: () -> Dict[str, Any]
    """Return the fields of a manifest's Facts, further facts for the installer, and the PEP 508 markers."""
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, re.sub(r"\d+\Z", "", sys.platform))
    libc, libc_version = _detect_libc() if system == "linux" else (None, None)
    library = os.path.dirname(os.path.abspath(os.__file__))
    # Debian has separate packages for distutils and ensurepip; without them an empty folder may exist
    files = {"venv": "__init__.py", "ensurepip": "__init__.py", "distutils": "core.py"}
    has = {name: os.path.isfile(os.path.join(library, name, files[name])) for name in sorted(files)}
    version, fields = sys.implementation.version, ("machine", "python_implementation", "release", "system", "version")
    serial = "" if version.releaselevel == "final" else "%.1s%d" % (version.releaselevel, version.serial)
    return {
        "implementation": sys.implementation.name, "python": "%d.%d.%d" % sys.version_info[:3],
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "os": system, "machine": _detect_machine(system), "libc": libc, "libc_version": libc_version,
        "macos_version": _detect_macos_version() if system == "macos" else None,
        "bits": struct.calcsize("P") * 8,
        "executable": sys.executable, "prefix": sys.prefix, "base_prefix": sys.base_prefix,
        "has": dict(has, pip=importlib.util.find_spec("pip") is not None),
        "externally_managed": os.path.isfile(os.path.join(library, "EXTERNALLY-MANAGED")),
        "marker_environment": {
            "implementation_name": sys.implementation.name,
            "implementation_version": "%d.%d.%d" % version[:3] + serial,
            "os_name": os.name,
            "python_full_version": platform.python_version(),
            "python_version": "%d.%d" % sys.version_info[:2],
            "sys_platform": sys.platform,
            **{"platform_" + field: getattr(platform, field)() for field in fields},
        },
    }


def _detect_machine(system):  # type: (str) -> str
    """Return the machine of this process in the form of wheel tags; the kernel may be of a wider machine."""
    if system == "macos":
        return platform.machine()  # sysconfig may say universal2
    machine = re.sub(r"[-.]", "_", sysconfig.get_platform()).split("_", 1)[-1]
    narrow = {"x86_64": "i686", "i386": "i686", "i586": "i686", "aarch64": "armv7l", "armv8l": "armv7l", "win32": "x86"}
    return narrow.get(machine, machine) if struct.calcsize("P") == 4 else machine


def _detect_macos_version():  # type: () -> str
    version = platform.mac_ver()[0]
    if version.startswith("10.16"):  # macOS reports this to a Python that was built with an older SDK
        command = [sys.executable, "-c", "import platform; print(platform.mac_ver()[0])"]
        version = _run_program(command, SYSTEM_VERSION_COMPAT="0")
    return ".".join((version.strip().split(".") + ["0"])[:2])


def _detect_libc():  # type: () -> Tuple[Optional[str], Optional[str]]
    """Return the C library of this process and its version."""
    try:
        named = os.confstr("CS_GNU_LIBC_VERSION") or ""  # "glibc 2.17"
    except (AttributeError, ValueError, OSError):
        named = ""
    try:
        if not named:  # a program for musl contains the path of its loader, which prints its version
            with open(sys.executable, "rb") as program:
                loader = re.search(rb"/[\w/.-]*ld-musl-[\w.-]+", program.read())
            if loader:
                return "musl", _find_first(r"Version (\d+\.\d+)", _run_program([loader.group().decode(), "--version"]))
            ctypes = importlib.import_module("ctypes")
            get_version = ctypes.CDLL(None).gnu_get_libc_version
            get_version.restype = ctypes.c_char_p
            named = get_version().decode("ascii")
    except (ImportError, OSError, AttributeError):
        return None, None
    return "glibc", _find_first(r"(\d+\.\d+)", named)


def _find_first(pattern, words):  # type: (str, str) -> Optional[str]
    match = re.search(pattern, words)
    return match.group(1) if match else None


def _run_program(command, **environment):  # type: (List[str], str) -> str
    """Return the output of a program on both streams, or '' if it cannot be run."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # type: Any
    try:
        output = subprocess.run(command, env=dict(os.environ, **environment), timeout=10, **streams).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return str(output, "utf-8", "replace")


def probe_machine(facts):  # type: (Dict[str, Any]) -> Dict[str, Any]
    """Return the facts with those of the machine: system, libraries, free bytes on disk, and pip's list of tags."""
    libraries, answer = find_libraries(facts), dict({"schema": 1}, **facts)
    answer.update(sonames=sorted(libraries), symbols=_find_symbol_versions(libraries), spoken=suggest_target(facts))
    answer["system"] = _read_os_release().get("PRETTY_NAME") or platform.platform()
    places = {"prefix": sys.prefix, "home": os.path.expanduser("~"), "here": os.curdir}
    answer["disk_free"] = {name: shutil.disk_usage(path).free for name, path in places.items() if os.path.isdir(path)}
    try:
        place, inside = importlib.util.find_spec("pip"), "_internal/utils/compatibility_tags.py"
        # a pip before 20.1 has no such module, and the import takes a second
        if place and os.path.isfile(os.path.join(os.path.dirname(place.origin or ""), inside)):
            tags = importlib.import_module("pip._internal.utils.compatibility_tags").get_supported()
            answer["compatible_tags"] = [str(tag) for tag in tags]
    except Exception:  # another internal structure of pip: the tags are computed from the facts
        pass
    return answer


def find_libraries(facts):  # type: (Dict[str, Any]) -> Dict[str, str]
    """Return soname -> path for the machine of this process; on Windows, the runtimes of C and C++."""
    libraries = {}  # type: Dict[str, str]
    machine_label = {"x86_64": "x86-64", "aarch64": "AArch64", "armv7l": "hard-float"}.get(facts["machine"], "")
    for ldconfig in ("/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig") if facts["libc"] == "glibc" else ():
        for name, flags, path in re.findall(r"\t(\S+) \((libc6[^)]*)\) => (\S+)", _run_program([ldconfig, "-p"])):
            if machine_label in flags and (facts["bits"] == 64 or not re.search("64|x32", flags)):
                libraries.setdefault(name, path)
        if libraries:
            return libraries
    pattern, folders = r"[^/]+\.so(\.[\d.]+)?\Z", ["/lib", "/usr/local/lib", "/usr/lib", "/lib64", "/usr/lib64"]
    folders.append("/usr/lib/%s" % (sysconfig.get_config_var("MULTIARCH") or ""))
    if facts["os"] == "windows":
        pattern = r"(?i)(vcruntime|msvcp|concrt|vcomp|ucrtbase).*\.dll\Z"
        folders = [os.path.expandvars(r"%SystemRoot%\System32")]
    for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") + folders:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if re.match(pattern, name):
                libraries.setdefault(name, os.path.join(folder, name))
    return libraries


def _find_symbol_versions(libraries):  # type: (Dict[str, str]) -> Dict[str, str]
    """Return the newest symbol versions of the runtimes of C++ and of the compiler: GLIBCXX, CXXABI, GCC."""
    newest = {}  # type: Dict[str, List[int]]
    for path in (libraries.get("libstdc++.so.6", ""), libraries.get("libgcc_s.so.1", "")):
        with open(path if os.path.isfile(path) else os.devnull, "rb") as source:
            for kind, version in re.findall(rb"(GLIBCXX|CXXABI|GCC)_(\d+(?:\.\d+)+)\0", source.read()):
                number = [int(part) for part in version.split(b".")]
                newest[kind.decode()] = max(number, newest.get(kind.decode(), []))
    return {kind: ".".join(map(str, number)) for kind, number in newest.items()}


def _read_os_release():  # type: () -> Dict[str, str]
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as source:
            return dict(re.findall(r"(?m)^(\w+)=[\"']?([^\"'\n]*)", source.read()))
    except OSError:
        return {}


def suggest_target(facts):  # type: (Dict[str, Any]) -> str
    """Return the shortest --target for this machine: rhel8:3.11, else cp311-manylinux_2_28_x86_64."""
    short = {"cpython": "", "pypy": "pp"}.get(facts["implementation"], facts["implementation"])
    xy = short + ".".join(facts["python"].split(".")[:2]) + ("t" if facts["free_threaded"] else "")
    level = [int(part) for part in (facts["libc_version"] or facts["macos_version"] or "0.0").split(".")]
    kind, release = _read_os_release().get("ID", "").lower(), _read_os_release().get("VERSION_ID", "")
    name = _OS_IDS.get(kind, kind) + (_find_first(r"([\d.]+)", release) or "")
    while name not in _MINIMUM_LIBC and "." in name:  # rhel8.9 means rhel8
        name = name.rpartition(".")[0]
    if facts["os"] != "linux":
        name = facts["os"] + (str(level[0]) if level[0] else "")
    if level[0] == 10 or (facts["os"] == "linux" and level[1] < _MINIMUM_LIBC.get(name, 1000)):
        kind = {"glibc": "manylinux", "musl": "musllinux"}.get(facts["libc"], "macosx")
        nodot = (short or "cp") + xy[len(short) :].replace(".", "")
        return "%s-%s_%d_%d_%s" % (nodot, kind, level[0], level[1], facts["machine"])
    usual = {"macos": "arm64", "windows": "amd64"}.get(facts["os"], "x86_64")
    return "%s%s:%s" % (name, "" if facts["machine"] == usual else "-" + facts["machine"], xy)


def main():  # type: () -> None
    """Print the facts as JSON on stdout and the short name of the target on stderr."""
    facts = collect_facts()
    if "--facts" in sys.argv[1:]:
        print(json.dumps(facts, sort_keys=True))
    else:
        answer = probe_machine(facts)
        print(json.dumps(answer, indent=1), flush=True)
        print("ask for: --target " + answer["spoken"], file=sys.stderr)


if __name__ == "__main__":
    main()
