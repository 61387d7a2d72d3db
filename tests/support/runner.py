"""Runs command lines one after the other, each in a process of its own that was forked off; written for Python 3.6 too.

A line of stdin is a job in JSON: {"words": [...], "cwd": ..., "env": {...}}. The first word is `offlinepack` (the host's
command line) or the path of an install.py or offlinepack.pyz, which runs as its own interpreter would run it with -I -B.
A line of stdout is what came of it: exit code, what was said, processor seconds, seconds, peak memory in MB.
"""

import json
import os
import resource
import runpy
import signal
import sys
import tempfile
import time

MEMORY = 1 << 30  # bytes of addresses beyond what is taken already; threads reserve more than they use
SECONDS, ALARM = 60, 300  # of the processor; of the clock, which a busy machine stops


def work(job):
    os.chdir(job["cwd"])
    os.environ.update(job.get("env", {}))
    tempfile.tempdir = None
    signal.alarm(ALARM)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
    with open("/proc/self/statm") as source:
        taken = int(source.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    words = job["words"]
    if words[0] == "offlinepack":
        from offlinepack.cli.main import run_command_line

        return run_command_line(words[1:])
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as left:
        return left.code
    return 0


def forked(job):
    out, err = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
    began, code = time.time(), 99
    child = os.fork()
    if not child:
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = work(job) or 0
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    said = []
    for one in (out, err):
        one.seek(0)
        said.append(one.read().decode("utf-8", "backslashreplace"))
        one.close()
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    spent = used.ru_utime + used.ru_stime
    return {
        "code": code, "out": said[0], "err": said[1], "processor": spent, "seconds": time.time() - began,
        "memory": used.ru_maxrss >> 10,
    }  # fmt: skip


def main():
    if sys.argv[1:] == ["host"]:
        import offlinepack.bundle.documents
        import offlinepack.bundle.validate
        import offlinepack.cli.bundle
        import offlinepack.cli.machine
        import offlinepack.cli.report
        import offlinepack.rehearsal.static
        import offlinepack.report.diff
        import offlinepack.report.page  # noqa: F401
    for line in iter(sys.stdin.readline, ""):
        sys.stdout.write(json.dumps(forked(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
