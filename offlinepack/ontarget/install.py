# -*- coding: utf-8 -*-
# mypy: ignore-errors
"""Install this bundle:  python3 install.py --help

Any Python can read this file; one that is too old says so. It restarts itself isolated (-I -B: no PYTHON* variables,
no user site, no modules from its folder), compares ontarget/* with SHA256SUMS, runs the bytes it compared:
no file beside it is imported, no __pycache__ is read. It cannot vouch for itself; README.txt says what can.
The same file starts offlinepack's own package (`install.py --bundle DIR`) and, as __main__.py, offlinepack.pyz.
"""

from __future__ import unicode_literals  # Python 2 reads this as well

import sys

if not getattr(sys.flags, "isolated", False):
    del sys.path[0]  # do not import modules from the folder of this file
import hashlib  # noqa: E402
import io  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402


def main(argv):
    """Restart isolated, load the checked code, run its command, and return the exit code."""
    if sys.version_info < (3, 6):
        _say("This is Python %d.%d; 3.6 or newer is needed. Try sh install.sh." % sys.version_info[:2])
        return _say("需要 Python 3.6 或更新版本。请改用 sh install.sh，它会自动查找。", 10)
    folder, bundle = os.path.dirname(os.path.abspath(__file__)), None
    if not (sys.flags.isolated and sys.flags.dont_write_bytecode):
        if argv[:1] == ["--restarted"] or not sys.executable:
            return _say("This Python cannot be started isolated (-I -B). 这个 Python 无法以 -I -B 隔离启动。", 10)
        start = folder if os.path.isfile(folder) else os.path.abspath(__file__)
        command = [sys.executable, "-I", "-B", start, "--restarted"] + argv
        if os.name != "nt":
            os.execv(sys.executable, command)
        import subprocess  # on Windows execv would return to the prompt at once
        return subprocess.call(command)
    argv = argv[argv[:1] == ["--restarted"] :]
    if os.path.basename(folder) == "ontarget" and argv[:1] == ["--bundle"]:
        listed = [(None, name) for name in os.listdir(folder) if name.endswith((".py", ".json"))]
        bundle, argv = os.path.abspath(argv[1]), argv[2:]
        sys.meta_path.insert(0, _Sources(folder, listed))
    elif not os.path.isfile(folder):  # else it is offlinepack.pyz, from which Python imports by itself
        bundle, sums = folder, os.path.join(folder, "SHA256SUMS")
        try:
            if not os.path.isfile(sums):
                raise ValueError("SHA256SUMS")  # reading a pipe of that name would block
            with io.open(sums, encoding="utf-8") as source:
                listed = re.findall(r"^([0-9a-f]{64})  ontarget/(\w[\w.]*)$", source.read(1 << 24), re.M)
            sys.meta_path.insert(0, _Sources(os.path.join(folder, "ontarget"), listed))
        except (EnvironmentError, ValueError) as failure:
            _say("The bundle is damaged or not complete (%s). Copy it again from where it was made." % failure)
            return _say("安装包已损坏或不完整（%s）。请从制作处重新拷贝。" % failure, 7 if os.path.isfile(sums) else 9)
    from ontarget.command import main as install

    return install(argv, bundle)


class _Sources:
    """Imports the package `ontarget` from bytes in memory, each file read once and compared with its hash."""

    def __init__(self, folder, listed):
        self.folder, self.files = folder, {}
        for digest, name in listed:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as source:
                    self.files[name] = source.read(1 << 20)
            if digest and hashlib.sha256(self.files.get(name, b"")).hexdigest() != digest:
                raise ValueError("ontarget/" + name)
        if "command.py" not in self.files:
            raise ValueError("ontarget/command.py")

    def find_spec(self, name, path=None, target=None):
        package, _, module = name.partition(".")
        origin = os.path.join(self.folder, (module or "__init__") + ".py")
        if package != "ontarget" or os.path.basename(origin) not in self.files:
            return None
        from importlib.util import spec_from_loader
        spec = spec_from_loader(name, self, origin=origin, is_package=not module)
        spec.has_location = True  # __file__ is set, for tracebacks and pkgutil.get_data
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self.get_data(module.__file__), module.__file__, "exec", 0, True), module.__dict__)

    def get_data(self, path):
        return self.files[os.path.basename(path)]


def _say(line, code=1):
    stream = getattr(sys.stderr, "buffer", sys.stderr)
    stream.write((line + "\n").encode(sys.stderr.encoding or "utf-8", "backslashreplace"))
    return code


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    except Exception as bug:
        if "--debug" in sys.argv:
            raise
        _say("This is a bug in offlinepack (%s: %s). Report what it says with --debug." % (type(bug).__name__, bug))
        code = _say("这是 offlinepack 的缺陷。请加上 --debug 再运行一次，并报告其输出。")
    sys.exit(code)
