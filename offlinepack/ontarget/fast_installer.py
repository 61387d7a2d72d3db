"""Install checked wheels in parallel processes: the fast engine, whose trees equal those of pip."""

import ast
import csv
import hashlib
import io
import json
import os
import pickle
import pkgutil
import queue
import re
import subprocess
import sys
import textwrap
import threading
import zipfile
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from .archive import unpack_entry
from .destinations import is_replaced_script
from .distributions import count_cores
from .errors import Finding, InstallError, Text, error, text
from .unpack import create_file, format_record_hash
from .wheel import make_contents_finding
from .wheel_model import CheckedWheel

_TASK_SECONDS = 0.25  # estimated duration of one task
_FAILED_SENTENCE = "{subject} was not placed: {why}."
_ADVICE = "pip is tried next. If it fails as well, look at the disk and the rights of that place."

_WORKER_SCRIPT = """\
import pickle, sys, types
package = sys.modules["ontarget"] = types.ModuleType("ontarget")
package.__path__ = []
sources, alone = pickle.load(sys.stdin.buffer)
for name, source in sources:
    module = sys.modules["ontarget." + name] = types.ModuleType("ontarget." + name)
    module.__package__ = "ontarget"
    exec(compile(source, name, "exec", 0, True), module.__dict__)
module.run_worker(alone)
"""

_PATHS_SCRIPT = """\
import json, struct, sys, sysconfig
paths, bits = sysconfig.get_paths(), str(8 * struct.calcsize("P"))
bits += "-arm" if sysconfig.get_platform() == "win-arm64" else ""
print(json.dumps(["%d.%d" % sys.version_info[:2], sys.implementation.cache_tag, bits, sys.prefix, paths]))
"""


class InstallPaths(NamedTuple):
    """The folders of an environment, as reported by its interpreter."""
    python: str  # the environment's interpreter
    version: str  # X.Y
    cache_tag: str  # cpython-311
    launcher_suffix: str  # of pip's launcher for Windows: 64, 32, 64-arm
    schemes: Dict[str, str]  # a folder for each of SCHEMES; that of headers has a folder for each distribution


def query_install_paths(python):  # type: (str) -> InstallPaths
    """Ask an environment's interpreter for its folders."""
    output = subprocess.check_output([python, "-I", "-B", "-c", _PATHS_SCRIPT], stdin=subprocess.DEVNULL)
    version, tag, launchers, prefix, paths = json.loads(output.decode("ascii"))
    paths["headers"] = os.path.join(prefix, "include", "site", "python" + version)  # as pip's get_scheme
    return InstallPaths(python, version, tag, launchers, paths)


def install_wheels(wheels, where, pip, requested=(), compiling=True, jobs=0, bytecode=None):
    # type: (Sequence[CheckedWheel], InstallPaths, CheckedWheel, Iterable[str], bool, int, Any) -> Iterator[Any]
    """Yield each wheel as soon as it is installed, with None or the Finding that explains its failure.

    `pip`: the wheel that defines the form of scripts; `requested`: names that get REQUESTED; `jobs`: number of
    processes, 0 for one a core; `bytecode`: name -> a wheel with x.pyc in place of x.py.
    """
    template, alone = _read_script_template(pip)
    names, ready = set(requested), dict(bytecode or {}) if compiling else {}  # type: Set[str], Dict[str, CheckedWheel]
    placings = [
        _WheelInstallation(wheel, where, wheel.name in names, compiling, ready.get(wheel.name)) for wheel in wheels]
    # The largest wheels are taken first, from the end of the list, so that all processes end together.
    placings.sort(key=lambda placing: placing.cost)
    tasks = [(placing, task) for placing in placings for task in reversed(placing.tasks)]
    answers, waiting = queue.Queue(), len(tasks)  # type: queue.Queue[Tuple[_WheelInstallation, Any]], int
    workers = [_Worker(where.python, alone, tasks, answers) for _ in range(min(jobs or count_cores(), waiting))]
    try:
        for _ in range(waiting):
            placing, answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if placing.add_answer(*answer):
                yield placing.wheel, placing.finish(template, pip)
    finally:
        for worker in workers:
            worker.stop()


class _WheelInstallation:
    """The installation of one wheel: its tasks, their results, and the files that pip adds."""

    def __init__(self, wheel, where, requested, compiling, ready):
        # type: (CheckedWheel, InstallPaths, bool, bool, Optional[CheckedWheel]) -> None
        self.wheel, self.paths, self.is_requested = wheel, where, requested
        self.bytecode_path = ready.path if ready else None
        codes = {member.name[:-1]: (member[:7], member.digest) for member in ready.members} if ready else {}
        self.failure = None  # type: Optional[Tuple[str, Dict[str, Any]]]
        folders = dict(where.schemes, headers=os.path.join(where.schemes["headers"], wheel.name))
        record = wheel.dist_info + "/RECORD"
        self.site_packages = folders[next(member.scheme for member in wheel.members if member.name == record)]
        self.record_names = {}  # type: Dict[str, str]  # name in the wheel -> in RECORD
        self.rewritten_rows = {}  # type: Dict[str, Tuple[str, int]]
        self.bytecode_names = {}  # type: Dict[str, str]  # name in the wheel -> of its bytecode in RECORD
        self.cost, self.tasks, self.pending_tasks = 0.0, [], 0  # type: float, List[Any], int
        shebang = ("#!%s%s" % (where.python, os.linesep)).encode("utf-8", "surrogateescape")
        room = 0.0
        for member in wheel.members:
            script = member.scheme == "scripts"
            if script and is_replaced_script(wheel, member):
                continue
            path = os.path.join(folders[member.scheme], *member.path.split("/"))
            row = member.path if folders[member.scheme] == self.site_packages else self._make_record_name(path)
            self.record_names[member.name] = row
            code = compiling and path.endswith(".py")
            if code:
                slash = row.rfind("/") + 1
                cached = "__pycache__/%s.%s.pyc" % (row[slash:-3], where.cache_tag)
                self.bytecode_names[member.name] = row[:slash] + cached
            code_of = codes.get(member.name) if code else None
            cost = 1e-4 + member.size / (4e6 if code and not code_of else 2e8)
            if cost > room:
                self.tasks.append([])
                room = _TASK_SECONDS
            first = shebang if script else b""
            source = os.path.join(self.site_packages, row) if code else ""  # the name in the bytecode, as pip writes it
            self.tasks[-1].append((path, member[:7], member.digest, first, source, code_of, member.name))
            self.cost, room = self.cost + cost, room - cost
        self.pending_tasks = len(self.tasks)

    def _make_record_name(self, path):  # type: (str) -> str
        same_disk = os.path.splitdrive(path)[0].lower() == os.path.splitdrive(self.site_packages)[0].lower()
        return (os.path.relpath(path, self.site_packages) if same_disk else path).replace(os.sep, "/")

    def add_answer(self, reason, changed, uncompiled):
        # type: (Optional[Tuple[str, Dict[str, Any]]], Dict[str, Tuple[str, int]], List[str]) -> bool
        """Record the answer to one task and return whether it was the last."""
        self.failure, self.pending_tasks = self.failure or reason, self.pending_tasks - 1
        self.rewritten_rows.update(changed)
        for name in uncompiled:
            self.bytecode_names.pop(name, None)
        return self.pending_tasks == 0

    def finish(self, template, pip):  # type: (str, CheckedWheel) -> Optional[Finding]
        """Write scripts, INSTALLER, REQUESTED and, last, RECORD; return why the wheel could not be installed."""
        path = self.wheel.filename
        if self.failure is not None and "unsound" in self.failure[1]:
            return make_contents_finding(self.wheel, Text(*self.failure))
        if self.failure is not None:
            return error("not-placed", self.wheel.name, _FAILED_SENTENCE, _ADVICE, why=Text(*self.failure))
        rows = []  # type: List[Tuple[str, ...]]
        try:
            for path, content, script in self._generate_files(template, pip):
                _write_file(path, content, script)
                digest = format_record_hash(hashlib.sha256(content))
                rows.append((self._make_record_name(path), digest, str(len(content))))
            for row in csv.reader(self.wheel.record.decode("utf-8").splitlines()):
                if row:
                    new = self.record_names.pop(row[0], row[0])
                    rows.append((new, *map(str, self.rewritten_rows.get(row[0], row[1:]))))
            rows += [(path, "", "") for path in (*self.record_names.values(), *self.bytecode_names.values())]
            out = io.StringIO()
            csv.writer(out).writerows(sorted(rows))
            path = os.path.join(self.site_packages, self.wheel.dist_info, "RECORD")
            _write_file(path, out.getvalue().encode("utf-8"))
        except OSError as failure:
            reason = text("{file}: {why}", file=path, why=failure.strerror or failure)
            return error("not-placed", self.wheel.name, _FAILED_SENTENCE, _ADVICE, why=reason)
        return None

    def _generate_files(self, template, pip):  # type: (str, CheckedWheel) -> Iterator[Tuple[str, bytes, bool]]
        for graphical in (False, True):
            commands = {command: reference for command, reference, gui in self.wheel.scripts if gui is graphical}
            for project, form in (("pip", "pip%s"), ("easy_install", "easy_install-%s")) if not graphical else ():
                reference = commands.get(project)  # pip names these after its own Python, not as in the wheel
                if reference:
                    pattern, version = re.compile(r"%s(-?\d+(\.\d+)?)?\Z" % project), self.paths.version
                    commands = {command: commands[command] for command in commands if not pattern.match(command)}
                    commands.update({project: reference, form % version: reference})
                    if project == "pip":
                        commands["pip" + version.partition(".")[0]] = reference
            for command, reference in commands.items():
                yield self._generate_script(command, reference, graphical, template, pip)
        info = os.path.join(self.site_packages, self.wheel.dist_info)
        yield os.path.join(info, "INSTALLER"), b"pip\n", False
        if self.is_requested:
            yield os.path.join(info, "REQUESTED"), b"", False

    def _generate_script(self, command, reference, graphical, template, pip):
        # type: (str, str, bool, str, CheckedWheel) -> Tuple[str, bytes, bool]
        module, _, function = (part.strip() for part in reference.partition("[")[0].partition(":"))
        facts = {"module": module, "import_name": function.partition(".")[0], "func": function}
        content, python = (template % facts).encode("utf-8"), self.paths.python
        path = os.path.join(self.paths.schemes["scripts"], command)
        if os.name == "nt" and graphical:
            python = os.path.join(os.path.dirname(python), os.path.basename(python).replace("python", "pythonw"))
        python = '"%s"' % python if " " in python else python
        first = ("#!%s\n" % python).encode("utf-8", "surrogateescape")
        if os.name == "nt":
            zipped = io.BytesIO()
            with zipfile.ZipFile(zipped, "w") as archive:
                archive.writestr(zipfile.ZipInfo("__main__.py"), content)
            launcher = "pip/_vendor/distlib/%s%s.exe" % ("w" if graphical else "t", self.paths.launcher_suffix)
            path = re.sub(r"\.pyw?\Z", "", path) + ".exe"
            return path, _read_member(pip, launcher) + first + zipped.getvalue(), True
        if " " in python or len(first) > (512 if sys.platform == "darwin" else 127):
            first = b"#!/bin/sh\n'''exec' " + first[2:-1] + b' "$0" "$@"\n' + b"' '''\n"
        return path, first + content, True


def _write_file(path, content, script=False):  # type: (str, bytes, bool) -> None
    with os.fdopen(create_file(path), "wb") as out:
        out.write(content)
        if script and os.name != "nt":
            os.fchmod(out.fileno(), os.fstat(out.fileno()).st_mode & 0o7777 | 0o555)


def _read_member(wheel, name):  # type: (CheckedWheel, str) -> bytes
    members = [member for member in wheel.members if member.name == name]
    with open(wheel.path, "rb", buffering=0) as source:
        return b"".join(block for member in members for block in unpack_entry(source, member, member.digest))


def _read_script_template(pip):  # type: (CheckedWheel) -> Tuple[str, bool]
    """Return the text of pip's scripts (its own, else its distlib's), and whether it compiles without imports."""
    alone = False
    for name in ("pip/_internal/operations/install/wheel.py", "pip/_vendor/distlib/scripts.py"):
        source = _read_member(pip, name).decode("utf-8").replace("\r\n", "\n")
        alone = alone or "BlockedImportError" in source
        match = re.search(r"(?is)\bscript_template = (?:textwrap\.dedent\()?(r?(\"\"\"|\'\'\').*?\2)", source)
        if match:
            return textwrap.dedent(str(ast.literal_eval(match.group(1)))), alone
    raise InstallError(error("unknown-pip", pip.filename, "{subject} has no text for scripts that is known here."))


class _Worker:
    """A process that unpacks, and the thread that sends tasks to it."""

    def __init__(self, python, alone, tasks, answers):  # type: (str, bool, List[Any], Any) -> None
        self.python, self.compiles_without_imports, self.tasks, self.answers = python, alone, tasks, answers
        self.is_stopped = False
        self.process = None  # type: Any
        threading.Thread(target=self._run_tasks, daemon=True).start()

    def _run_tasks(self):  # type: () -> None
        while self.tasks:
            try:
                placing, members = self.tasks.pop()
            except IndexError:
                return
            try:
                answer = self._run_task(placing, members)
            except BaseException as bug:  # install_wheels raises it
                answer = bug
            self.answers.put((placing, answer))

    def _run_task(self, placing, members):  # type: (_WheelInstallation, Any) -> Any
        names = [member[-1] for member in members]
        try:
            task = placing.wheel.path, placing.bytecode_path, [member[:-1] for member in members]
            reason, changed, uncompiled = self._send_task(task)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            self._kill_process()  # the next task starts another one
            return tuple(text("a process ended before its work was done")), {}, []
        return reason, {names[at]: path for at, path in changed.items()}, [names[at] for at in uncompiled]

    def _send_task(self, task):  # type: (Any) -> Any
        if self.process is None:
            command, pipe = [self.python, "-I", "-S", "-B", "-c", _WORKER_SCRIPT], subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
            modules = ("errors", "paths", "archive", "unpack")
            sources = [(name, pkgutil.get_data(str(__package__), name + ".py")) for name in modules]
            pickle.dump((sources, self.compiles_without_imports), self.process.stdin, 4)
        if self.is_stopped:
            raise EOFError
        pickle.dump(task, self.process.stdin, 4)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def _kill_process(self):  # type: () -> None
        process, self.process = self.process, None
        if process:
            process.kill()
            process.wait()

    def stop(self):  # type: () -> None
        """End the process, so that nothing more is written."""
        self.is_stopped = True
        del self.tasks[:]
        self._kill_process()
