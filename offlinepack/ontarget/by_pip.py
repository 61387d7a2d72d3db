"""Install distributions with pip, the reference engine, isolated from all settings of the machine."""

import errno
import locale
import os
import re
import signal
import subprocess
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .distributions import discard_distributions, find_altered_distributions, find_dist_infos
from .files import read_bytes, remove_path
from .generations import is_in_use
from .manifest import SDISTS, TOOLS, WHEELS, Distribution, Manifest

UNPACKED_PREFIX = "bundle-"  # of the folders in work/ that contain an unpacked bundle
_LOG_TAIL_SIZE = 3000  # characters that are shown


class ProgramRunner(NamedTuple):
    """Starts programs for one environment, with clean variables, and keeps their output in a log."""
    work_dir: str  # TMPDIR
    log_dir: str
    lock_fd: int  # the open lock file, which the programs inherit

    def run(self, log, command):  # type: (str, Sequence[str]) -> Tuple[int, str, str]
        """Run a program, which does not outlive this run; return exit code, path of the log, end of the log."""
        path = os.path.join(self.log_dir, log + ".log")
        facts = {"cwd": self.work_dir, "env": clean_environment(self.work_dir)}  # type: Dict[str, Any]
        if os.name != "nt":
            facts.update(pass_fds=(self.lock_fd,), preexec_fn=_bind_to_parent())
        with open(path, "wb") as out:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **facts)
            try:
                code = child.wait()
            except BaseException:
                child.kill()
                child.wait()
                raise
        words = read_bytes(path)[-_LOG_TAIL_SIZE:].decode("utf-8", "replace")
        return code, path, words.partition("\n")[2] if len(words) >= _LOG_TAIL_SIZE else words

    def clear_work_dir(self, bundle):  # type: (str) -> None
        """Remove temporary files, but not unpacked bundles that are in use."""
        for name in os.listdir(self.work_dir):
            path = os.path.join(self.work_dir, name)
            is_own = os.path.join(os.path.realpath(bundle), "").startswith(os.path.join(os.path.realpath(path), ""))
            if not is_own and not (name.startswith(UNPACKED_PREFIX) and is_in_use(path)):
                remove_path(path)


def _bind_to_parent():  # type: () -> Optional[Callable[[], None]]
    """Return what makes Linux kill the child when this process ends; elsewhere an orphan keeps the lock."""
    try:
        import ctypes
        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    return lambda: prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def clean_environment(work):  # type: (str) -> Dict[str, str]
    """Return this process's variables without those of Python and pip, with a locale that allows any file name."""
    steering = ("PIP_", "PYTHON", "VIRTUAL_ENV", "__PYVENV", "CONDA_", "UV_", "DISTUTILS")
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(steering)}
    environment.update(PIP_CONFIG_FILE=os.devnull, TMPDIR=work, TEMP=work, TMP=work)
    if os.name != "nt" and locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX"):
        for name in ("C.UTF-8", "C.utf8", "en_US.UTF-8"):
            try:
                locale.setlocale(locale.LC_CTYPE, name)
            except locale.Error:
                continue
            locale.setlocale(locale.LC_CTYPE, "C")
            environment["LC_ALL"] = name
            break
    return environment


class Attempt(NamedTuple):
    """One try at one distribution."""
    name: str
    succeeded: bool
    seconds: float
    log_path: str  # '' without a log
    log_tail: str  # the end of the log of a failure
    engine: str  # pip, fast or linked


class PipEngine(NamedTuple):
    """pip for one environment and one bundle."""
    python: str  # the environment's interpreter
    root: str
    folder: str  # of the bundle
    manifest: Manifest
    runner: ProgramRunner
    compiles_bytecode: bool
    reinstalls: bool  # replace an installed distribution of the same version

    def install(self, distributions, log, pip=("-m", "pip")):  # type: (Sequence[Any], str, Sequence[str]) -> Attempt
        """Install distributions in one run of pip."""
        hashes = {file.path: file.sha256 for file in self.manifest.files}
        lines = ["%s==%s --hash=sha256:%s\n" % (step.name, step.version, hashes[step.file]) for step in distributions]
        listed = os.path.join(self.runner.work_dir, "requirements.txt")
        with open(listed, "w") as out:
            out.writelines(lines)
        command = [self.python, "-I", "-B"] + list(pip) + ["install", "--no-index"]
        for folder in (WHEELS, SDISTS, TOOLS):
            if os.path.isdir(os.path.join(self.folder, folder)):
                command += ["--find-links", os.path.join(self.folder, folder)]
        command += ["--no-deps", "--require-hashes", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
        command += ["--no-warn-script-location", "--progress-bar", "off"]
        # without it an old pip runs setup.py in the environment itself
        command += ["--use-pep517"] * any(step.file.startswith(SDISTS) for step in distributions)
        command += ["--no-compile"] * (not self.compiles_bytecode) + ["--force-reinstall"] * bool(self.reinstalls)
        started = time.time()
        code, path, words = self.runner.run(log, command + ["-r", listed])
        words = words if code else ""
        return Attempt(distributions[0].name, code == 0, round(time.time() - started, 2), path, words, "pip")


def install_in_rounds(pip, distributions):  # type: (PipEngine, Sequence[Distribution]) -> Iterator[Attempt]
    """Yield each attempt at each distribution: first all in one batch, then each in rounds, dependencies first."""
    if not distributions:
        return
    batch = pip.install(distributions, "batch")
    missing = find_missing(pip, distributions, hashes=not batch.succeeded)
    share = round(batch.seconds / len(distributions), 2)
    for distribution in distributions:
        ok = distribution not in missing
        yield batch._replace(name=distribution.name, succeeded=ok, seconds=share, log_tail="" if ok else batch.log_tail)
    count, before = 0, len(missing) + 1
    while missing and (len(missing) < before or count < 2):  # at least two rounds, as an error may be temporary
        count, before, remaining = count + 1, len(missing), []
        for distribution in missing:
            attempt = pip.install([distribution], "%s.%d" % (distribution.name, count))
            succeeded = attempt.succeeded and not find_missing(pip, [distribution], hashes=False)
            yield attempt._replace(succeeded=succeeded)
            if not succeeded:
                remaining.append(distribution)
            if is_disk_full(attempt.log_tail):
                return
        missing = remaining


def find_missing(pip, distributions, hashes):  # type: (PipEngine, Sequence[Distribution], bool) -> List[Distribution]
    """Return the distributions that are not completely installed, and discard their remains in an own environment."""
    bad = find_altered_distributions(pip.root, {step.name: step.version for step in distributions}, hashes=hashes)
    if not pip.reinstalls:
        discard_distributions(pip.root, bad)
    return [step for step in distributions if step.name in bad]


def is_disk_full(words):  # type: (str) -> bool
    """Check whether the log of an engine reports a full disk or an exceeded quota."""
    return any(os.strerror(number) in words for number in (errno.ENOSPC, errno.EDQUOT))


def lacks_current_tool(root, tool):  # type: (str, Any) -> bool
    """Check whether a foreign environment lacks this tool or has an older one."""
    infos = find_dist_infos(root).get(tool.name, [])
    numbers = [[int(part) for part in re.findall(r"\d+", os.path.basename(info))] for info in infos]
    return not numbers or max(numbers) < [int(part) for part in re.findall(r"\d+", tool.version)]
