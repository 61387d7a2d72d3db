"""Select the target of the bundle and the interpreter for this machine by comparing facts."""

import json
import os
import re
import subprocess
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import interpreter
from .errors import MachineError, Text, UsageError, error, text
from .interpreter import collect_facts
from .manifest import Facts, Manifest, TargetPlan

_NO_PYTHON = "{subject} is no Python 3.6 or newer that runs here."
_NO_TARGET = "This bundle has no target {subject}."
_TOO_OLD = "it needs {what} {least} or newer, this is {here}"
_DISPLAY_NAMES = {"cpython": "CPython", "pypy": "PyPy", "linux": "Linux", "macos": "macOS", "windows": "Windows"}


class TargetSelection(NamedTuple):
    """The target of the bundle for this machine, and the Python to use."""
    target: TargetPlan
    facts: Dict[str, Any]  # interpreter.collect_facts() of that Python


def find_mismatches(target, facts):  # type: (TargetPlan, Mapping[str, Any]) -> List[Text]
    """Return why a Python does not fit a target; its patch release and its versions of libc and macOS are minimums."""
    expected, mismatches = target.facts, []
    threads = {True: text("free-threaded"), False: text("not free-threaded")}
    pairs = [
        (_DISPLAY_NAMES[expected.os], _DISPLAY_NAMES.get(facts["os"], facts["os"])),
        (expected.machine, facts["machine"]),
        (_DISPLAY_NAMES[expected.implementation], _DISPLAY_NAMES.get(facts["implementation"], facts["implementation"])),
        ("Python " + _get_minor_version(expected.python), "Python " + _get_minor_version(facts["python"])),
        (threads[expected.free_threaded], threads[bool(facts["free_threaded"])]),
        (expected.libc, facts["libc"] or "?"),
    ]  # type: List[Tuple[Any, Any]]
    for need, actual in pairs:
        if need != actual and need:
            mismatches.append(text("it needs {need}, this is {here}", need=need, here=actual))
    floors = [("Python", target.python_min, facts["python"]), ("macOS", expected.macos_version, facts["macos_version"])]
    if expected.libc == facts["libc"]:
        floors.append((expected.libc or "", expected.libc_version, facts["libc_version"]))
    for label, least, actual in floors:
        if least and not mismatches and _parse_version(actual) < _parse_version(least):
            mismatches.append(text(_TOO_OLD, what=label, least=least, here=actual or "?"))
    return mismatches


def _get_minor_version(version):  # type: (str) -> str
    return ".".join(version.split(".")[:2])


def _parse_version(version):  # type: (Optional[str]) -> Tuple[int, ...]
    return tuple(int(match) for match in re.findall(r"\d+", version or "")[:3])


def filter_targets(manifest, name):  # type: (Manifest, Optional[str]) -> List[TargetPlan]
    """Return the targets with the tag or name of --target, or all targets without it."""
    matches = [
        target for target in manifest.targets if name in (None, target.tag, target.name, *target.name.split("+"))]
    if name and re.search(r"[/\\]", name):
        raise UsageError(error("target-is-a-place", name, "--target {subject} is a path.", "The place is --venv."))
    if not matches:
        have = ["%s (%s)" % (target.name, target.tag) for target in manifest.targets]
        raise UsageError(error("no-such-target", name, _NO_TARGET, "It has: {have}.", have=have))
    return matches


def select_target(allowed, pythons):  # type: (Sequence[TargetPlan], Iterator[Dict[str, Any]]) -> TargetSelection
    """Return the first Python that fits a target and the first target that it fits, or raise MachineError."""
    findings = []
    for facts in pythons:
        for target in allowed:
            reason = find_mismatches(target, facts)
            if not reason:
                return TargetSelection(target, facts)
            findings.append(error(
                "does-not-fit", facts["executable"], "{subject} (Python {python}) does not fit {target}: {why}.",
                python=facts["python"], target=target.tag, why=reason))
    fits = sorted({"%s %s" % (_DISPLAY_NAMES[target.facts.implementation], target.python_min) for target in allowed})
    raise MachineError(error(
        "nothing-fits", "python", "No Python on this machine fits this bundle.",
        "It is for {targets}. Name one that fits with --python ({fits}), or have a bundle made for this machine.",
        targets=[target.tag for target in allowed], fits=fits), *findings)


def query_interpreter(python):  # type: (str) -> Optional[Dict[str, Any]]
    """Return the facts of another Python, or None if it does not run or is older than 3.6."""
    source = interpreter.__loader__.get_data(interpreter.__file__)  # type: ignore[union-attr]
    command = [python, "-I", "-B", "-", "--facts"]
    try:
        process = subprocess.run(command, input=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
        facts = json.loads(process.stdout.decode("utf-8")) if process.returncode == 0 else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return facts if isinstance(facts, dict) else None


def find_interpreters(allowed, named=None, in_place=False):
    # type: (Sequence[TargetPlan], Optional[str], bool) -> Iterator[Dict[str, Any]]
    """Yield the facts of the named Python or, without a name, of this Python and of others that may fit.

    The executable is never one inside a virtual environment, except with `in_place`.
    """
    if named:
        facts = query_interpreter(named)
        if facts is None:
            raise MachineError(error("no-python", named, _NO_PYTHON, "Name another one with --python."))
        yield dict(facts, executable=named if in_place else get_base_executable(facts))
        return
    own_facts = collect_facts()
    reported, examined = {get_base_executable(own_facts)}, {get_base_executable(own_facts)}
    yield dict(own_facts, executable=get_base_executable(own_facts))
    for path in _list_candidates([target.facts for target in allowed]):
        real = os.path.realpath(path)
        if real not in examined and os.access(path, os.X_OK) and os.path.isfile(path):
            examined.add(real)
            facts = query_interpreter(path)
            if facts and get_base_executable(facts) not in reported:
                reported.add(get_base_executable(facts))
                yield dict(facts, executable=get_base_executable(facts))


def get_base_executable(facts):  # type: (Mapping[str, Any]) -> str
    """Return the real path of the interpreter outside a virtual environment, without links that may move."""
    if facts["prefix"] != facts["base_prefix"]:
        name = "pypy" if facts["implementation"] == "pypy" else "python"
        name = os.path.join("bin", name + _get_minor_version(facts["python"]) + ("t" if facts["free_threaded"] else ""))
        path = os.path.join(facts["base_prefix"], "python.exe" if facts["os"] == "windows" else name)
        if os.path.exists(path):
            return os.path.realpath(path)
    return os.path.realpath(str(facts["executable"]))


def _list_candidates(facts_list):  # type: (Sequence[Facts]) -> Iterator[str]
    stems = {"pypy": "pypy", "cpython": "python"}
    names = [
        stems[facts.implementation] + _get_minor_version(facts.python) + "t" * facts.free_threaded
        for facts in facts_list] + ["python3", "python", "pypy3", "platform-python"]
    if os.name == "nt":
        names = ["python.exe"]
        try:
            output = subprocess.run(["py", "-0p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        except OSError:
            output = b""
        yield from re.findall(r"([A-Za-z]:\\.*\.exe)", output.decode("utf-8", "replace"))
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    folders += ["/usr/bin", "/usr/local/bin", "/usr/libexec", "/opt/homebrew/bin"]
    for parent in ("/opt", os.path.expanduser("~/.pyenv/versions"), "/Library/Frameworks/Python.framework/Versions"):
        if os.path.isdir(parent):
            folders += [os.path.join(parent, name, "bin") for name in sorted(os.listdir(parent))]
    for name in dict.fromkeys(names):
        for folder in folders:
            if os.path.isabs(folder):
                yield os.path.join(folder, name)
