"""Import each module in a process of its own, and run commands: the script of the live rehearsal.

`python inside.py GIVEN TOLD`: the paths of two JSON files. GIVEN has the keys `modules` (each with its dependents),
`smoke` (shell commands), `limit` and `patience` (seconds for an import and for a command), `jobs`, `guard` (refuse
sockets in each Python) and `home` (a writable folder). TOLD receives the results of both lists, in order.
The script needs the standard library of Python 3.6 or newer only.
"""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional

# Refuses every connection beyond this machine. Sockets between its own processes, and 127.0.0.1, are no network.
NETWORK_GUARD = r"""
def _guard():
    import errno, socket
    near = ("localhost", "::1", "", "0.0.0.0", "::", None)
    def beyond(address):
        host = address[0] if isinstance(address, tuple) and address else None
        host = host.decode("latin-1") if isinstance(host, bytes) else host
        return host not in near and not str(host).startswith("127.")
    def number(host):
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                return bool(socket.inet_pton(family, host))
            except (OSError, TypeError):
                pass
    def refused(*_):
        raise OSError(errno.ENETUNREACH, "Network is unreachable: this is a rehearsal without a network")
    def guarded(name, at):
        real = getattr(socket.socket, name, None)
        if real:
            def use(self, *given, **named):
                if self.family in (socket.AF_INET, socket.AF_INET6) and len(given) > at and beyond(given[at]):
                    refused()
                return real(self, *given, **named)
            setattr(socket.socket, name, use)
    for name, at in (("connect", 0), ("connect_ex", 0), ("sendto", -1), ("sendmsg", 3)):
        guarded(name, at)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
        def ask(host, *given, _real=getattr(socket, name), **named):
            if beyond((host,)) and not number(host):
                raise socket.gaierror(socket.EAI_AGAIN, "no name is known: this is a rehearsal without a network")
            return _real(host, *given, **named)
        setattr(socket, name, ask)
_guard()
"""

# What imports one module and writes down how that went. What the module prints, or does at its end, does not matter.
_IMPORT_SCRIPT = r"""
import faulthandler, importlib, json, os, sys, traceback
name, told, limit, after = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]
sys.argv[1:] = []
faulthandler.dump_traceback_later(limit * 0.9)
for one in after:
    try:
        importlib.import_module(one)
    except Exception:
        pass
try:
    importlib.import_module(name)
    found = {"chain": []}
except BaseException as bad:
    own, at = ("<string>", "<frozen importlib._bootstrap>", importlib.__file__), bad.__traceback__
    while at and at.tb_frame.f_code.co_filename.startswith(own):
        at = at.tb_next
    lines = traceback.format_exception(type(bad), bad, at)
    chain, one = [], bad
    while one is not None and len(chain) < 20:
        lacks = one.name if isinstance(one, ModuleNotFoundError) else None
        chain.append({"type": type(one).__name__, "words": str(one), "lacks": lacks})
        one = one.__cause__ or one.__context__
    found = {"chain": chain, "trace": "".join(lines)[-4000:]}
with open(told, "w") as out:
    json.dump(found, out)
    out.flush()
os._exit(0)
"""


def main(given, told):  # type: (str, str) -> None
    """Do what is asked in `given`; write what became of it to `told`."""
    with open(given, encoding="utf-8") as source:
        asked = json.load(source)
    home = asked["home"]
    guard = os.path.join(home, "guard")
    os.makedirs(guard)
    with open(os.path.join(guard, "sitecustomize.py"), "w") as out:
        out.write(NETWORK_GUARD if asked["guard"] else "")

    def imported(at):  # type: (int) -> Dict[str, Any]
        module, after = asked["modules"][at]
        found = alone("%d" % at, module, [])
        if after and found.get("chain"):  # a part of what needs it may not be imported before that: psycopg_binary
            again = alone("%d.2" % at, module, after)
            found = again if again.get("chain") == [] else found
        return found

    def alone(name, module, after):  # type: (str, str, List[str]) -> Dict[str, Any]
        file, work = os.path.join(home, name + ".json"), os.path.join(home, name)
        os.makedirs(work)
        code = (NETWORK_GUARD if asked["guard"] else "") + _IMPORT_SCRIPT
        command = [sys.executable, "-I", "-c", code, module, file, str(asked["limit"])]
        found = run_command(command + after, asked["limit"], work, {})
        if os.path.isfile(file) and os.path.getsize(file):
            with open(file) as source:
                found.update(json.load(source))
            found["ended"] = True
        return found

    def smoked(command):  # type: (str) -> Dict[str, Any]
        work = os.path.join(home, "smoke")
        os.makedirs(work, exist_ok=True)
        more = {"PYTHONPATH": guard} if asked["guard"] else {}
        return run_command(command, asked["patience"], work, more)

    with ThreadPoolExecutor(asked["jobs"]) as pool:
        found = {"modules": list(pool.map(imported, range(len(asked["modules"]))))}  # type: Dict[str, Any]
    found["smoke"] = [smoked(one) for one in asked["smoke"]]
    with open(told, "w") as out:
        json.dump(found, out)


def run_command(command, limit, work, more):  # type: (Any, float, str, Dict[str, str]) -> Dict[str, Any]
    """`code` (None: it was stopped at its limit; negative: by that signal) and the end of what it said."""
    folders = [os.path.dirname(sys.executable)] + os.environ.get("PATH", os.defpath).split(os.pathsep)
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("PYTHON", "PIP_"))}
    kept.update(more, PATH=os.pathsep.join(folders), HOME=work, TMPDIR=work, VIRTUAL_ENV=sys.prefix)
    path = work + ".log"
    with open(path, "wb") as out:
        how = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}  # type: Dict[str, Any]
        if os.name != "nt":
            how["start_new_session"] = True
        child = subprocess.Popen(command, shell=isinstance(command, str), cwd=work, env=kept, **how)
        try:
            code = child.wait(limit)  # type: Optional[int]
        except subprocess.TimeoutExpired:
            code = None
        _stop_process(child)
    with open(path, "rb") as told:
        told.seek(max(0, os.path.getsize(path) - 4000))
        return {"code": code, "said": told.read().decode("utf-8", "replace")}


def _stop_process(child):  # type: (Any) -> None
    """The process and all that it started."""
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
