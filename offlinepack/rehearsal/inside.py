"""Import each module in a process of its own, and run commands: the script of the live rehearsal.

`python inside.py JOB RESULT`: the paths of two JSON files. JOB has the keys `modules` (each with its dependents),
`smoke` (shell commands), `limit` and `patience` (seconds for an import and for a command), `jobs`, `guard` (refuse
sockets in each Python) and `home` (a writable folder). RESULT receives the results of both lists, in order.
The script needs the standard library of Python 3.6 or newer only.
"""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional

# Refuses every connection to another machine. Local sockets and 127.0.0.1 stay usable.
NETWORK_GUARD = r"""
def _guard():
    import errno, socket
    local_hosts = ("localhost", "::1", "", "0.0.0.0", "::", None)
    def is_remote(address):
        host = address[0] if isinstance(address, tuple) and address else None
        host = host.decode("latin-1") if isinstance(host, bytes) else host
        return host not in local_hosts and not str(host).startswith("127.")
    def is_address(host):
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                return bool(socket.inet_pton(family, host))
            except (OSError, TypeError):
                pass
    def refuse():
        raise OSError(errno.ENETUNREACH, "Network is unreachable: this is a rehearsal without a network")
    def guard_method(name, index):
        real = getattr(socket.socket, name, None)
        if real:
            def call(self, *args, **options):
                if self.family in (socket.AF_INET, socket.AF_INET6) and len(args) > index and is_remote(args[index]):
                    refuse()
                return real(self, *args, **options)
            setattr(socket.socket, name, call)
    for name, index in (("connect", 0), ("connect_ex", 0), ("sendto", -1), ("sendmsg", 3)):
        guard_method(name, index)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        def look_up(host, *args, _real=getattr(socket, name), **options):
            if is_remote((host,)) and not is_address(host):
                raise socket.gaierror(socket.EAI_AGAIN, "no name is known: this is a rehearsal without a network")
            return _real(host, *args, **options)
        setattr(socket, name, look_up)
_guard()
"""

# Imports one module and writes the outcome to a file. Output of the module and its exit handlers do not matter.
_IMPORT_SCRIPT = r"""
import faulthandler, importlib, json, os, sys, traceback
name, result_path, limit, dependents = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]
sys.argv[1:] = []
faulthandler.dump_traceback_later(limit * 0.9)
for dependent in dependents:
    try:
        importlib.import_module(dependent)
    except Exception:
        pass
try:
    importlib.import_module(name)
    outcome = {"chain": []}
except BaseException as error:
    files, trace = ("<string>", "<frozen importlib._bootstrap>", importlib.__file__), error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename.startswith(files):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    chain, cause = [], error
    while cause is not None and len(chain) < 20:
        lacks = cause.name if isinstance(cause, ModuleNotFoundError) else None
        chain.append({"type": type(cause).__name__, "words": str(cause), "lacks": lacks})
        cause = cause.__cause__ or cause.__context__
    outcome = {"chain": chain, "trace": "".join(lines)[-4000:]}
with open(result_path, "w") as file:
    json.dump(outcome, file)
    file.flush()
os._exit(0)
"""


def main(job_path, result_path):  # type: (str, str) -> None
    """Run the job in the JSON file `job_path` and write the results to `result_path`."""
    with open(job_path, encoding="utf-8") as source:
        job = json.load(source)
    home = job["home"]
    guard_dir = os.path.join(home, "guard")
    os.makedirs(guard_dir)
    with open(os.path.join(guard_dir, "sitecustomize.py"), "w") as file:
        file.write(NETWORK_GUARD if job["guard"] else "")

    def import_at(index):  # type: (int) -> Dict[str, Any]
        module, dependents = job["modules"][index]
        outcome = import_alone("%d" % index, module, [])
        if dependents and outcome.get("chain"):  # some modules need a dependent to be imported first: psycopg_binary
            second_outcome = import_alone("%d.2" % index, module, dependents)
            outcome = second_outcome if second_outcome.get("chain") == [] else outcome
        return outcome

    def import_alone(name, module, dependents):  # type: (str, str, List[str]) -> Dict[str, Any]
        file, work_dir = os.path.join(home, name + ".json"), os.path.join(home, name)
        os.makedirs(work_dir)
        code = (NETWORK_GUARD if job["guard"] else "") + _IMPORT_SCRIPT
        command = [sys.executable, "-I", "-c", code, module, file, str(job["limit"])]
        outcome = run_command(command + dependents, job["limit"], work_dir, {})
        if os.path.isfile(file) and os.path.getsize(file):
            with open(file) as source:
                outcome.update(json.load(source))
            outcome["ended"] = True
        return outcome

    def run_smoke_command(command):  # type: (str) -> Dict[str, Any]
        work_dir = os.path.join(home, "smoke")
        os.makedirs(work_dir, exist_ok=True)
        variables = {"PYTHONPATH": guard_dir} if job["guard"] else {}
        return run_command(command, job["patience"], work_dir, variables)

    with ThreadPoolExecutor(job["jobs"]) as pool:
        outcome = {"modules": list(pool.map(import_at, range(len(job["modules"]))))}  # type: Dict[str, Any]
    outcome["smoke"] = [run_smoke_command(command) for command in job["smoke"]]
    with open(result_path, "w") as file:
        json.dump(outcome, file)


def run_command(command, limit, work_dir, variables):  # type: (Any, float, str, Dict[str, str]) -> Dict[str, Any]
    """Run a command; return `code` (None: time-out; negative: ended by that signal) and the end of its output."""
    folders = [os.path.dirname(sys.executable)] + os.environ.get("PATH", os.defpath).split(os.pathsep)
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(("PYTHON", "PIP_"))}
    environment.update(variables, PATH=os.pathsep.join(folders), HOME=work_dir, TMPDIR=work_dir, VIRTUAL_ENV=sys.prefix)
    path = work_dir + ".log"
    with open(path, "wb") as output:
        options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}  # type: Dict[str, Any]
        if os.name != "nt":
            options["start_new_session"] = True
        child = subprocess.Popen(command, shell=isinstance(command, str), cwd=work_dir, env=environment, **options)
        try:
            code = child.wait(limit)  # type: Optional[int]
        except subprocess.TimeoutExpired:
            code = None
        _stop_process(child)
    with open(path, "rb") as log:
        log.seek(max(0, os.path.getsize(path) - 4000))
        return {"code": code, "said": log.read().decode("utf-8", "replace")}


def _stop_process(child):  # type: (Any) -> None
    """Kill a process and its children."""
    try:
        if os.name == "nt":
            if child.poll() is None:
                subprocess.call(["taskkill", "/T", "/F", "/PID", str(child.pid)])
        else:
            os.killpg(child.pid, signal.SIGKILL)
    except OSError:
        pass
    child.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
