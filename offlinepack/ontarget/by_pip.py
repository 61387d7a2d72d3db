"""Install distributions with pip, the reference engine: first as one batch, then one by one in rounds.

No setting of the machine reaches pip: no pip.conf, PIP_* or PYTHON* variable, user site or index.
"""

import errno
import locale
import os
import re
import signal
import subprocess
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .distributions import discard_distributions, find_altered_distributions, find_dist_infos
from .files import remove_path
from .generations import is_in_use
from .manifest import SDISTS, TOOLS, WHEELS, Distribution, Manifest

UNPACKED_PREFIX = "bundle-"
"""what the folders in work/ begin with that hold a bundle, of this run or of one that waits"""

_LOG_TAIL_SIZE = 3000
"""characters of a log's end that are shown"""


class ProgramRunner(NamedTuple):
    """Starts programs for one environment: clean variables, everything that they say kept in a log."""

    work_dir: str  # TMPDIR: all their temporary files lie here
    log_dir: str
    lock_fd: int  # the open lock file, which they inherit

    def run(self, log, command):  # type: (str, Sequence[str]) -> Tuple[int, str, str]
        """Exit code, the path of the log, its end. A program does not outlive the run that started it."""
        path = os.path.join(self.log_dir, log + ".log")
        posix = {} if os.name == "nt" else {"pass_fds": (self.lock_fd,), "preexec_fn": _bind_to_parent()}  # type: Dict[str, Any]
        with open(path, "wb") as out:
            more = dict(posix, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            child = subprocess.Popen(command, env=clean_environment(self.work_dir), cwd=self.work_dir, **more)
            try:
                code = child.wait()
            except BaseException:
                child.kill()
                child.wait()
                raise
        with open(path, "rb") as log_file:
            log_file.seek(max(0, os.path.getsize(path) - _LOG_TAIL_SIZE))
            words = log_file.read().decode("utf-8", "replace")
        return code, path, words.partition("\n")[2] if len(words) >= _LOG_TAIL_SIZE else words

    def clear_work_dir(self, bundle):  # type: (str) -> None
        """No temporary file stays; bundles that were unpacked there and are in use do."""
        for name in os.listdir(self.work_dir):
            path = os.path.join(self.work_dir, name)
            is_own = os.path.join(os.path.realpath(bundle), "").startswith(os.path.join(os.path.realpath(path), ""))
            if not is_own and not (name.startswith(UNPACKED_PREFIX) and is_in_use(path)):
                remove_path(path)


def _bind_to_parent():  # type: () -> Optional[Callable[[], None]]
    """Linux: the kernel kills the child when we die; elsewhere an orphan keeps the lock until it has ended."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError, TypeError):
        return None


    def bind():  # type: () -> None
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    return bind


def clean_environment(work):  # type: (str) -> Dict[str, str]
    """This process's variables but those that steer Python and pip; a locale in which any file name can be written."""
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
    log_path: str  # path; '' where nothing was tried
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
    reinstalls: bool  # a foreign environment: what has that name and version already is replaced

    def install(self, distributions, log, pip=("-m", "pip")):  # type: (Sequence[Any], str, Sequence[str]) -> Attempt
        """All of them in one run of pip."""
        hashes = {file.path: file.sha256 for file in self.manifest.files}
        lines = ["%s==%s --hash=sha256:%s\n" % (distribution.name, distribution.version, hashes[distribution.file]) for distribution in distributions]
        listed = os.path.join(self.runner.work_dir, "requirements.txt")
        with open(listed, "w") as out:
            out.writelines(lines)
        command = [self.python, "-I", "-B"] + list(pip) + ["install", "--no-index"]
        for folder in (WHEELS, SDISTS, TOOLS):
            if os.path.isdir(os.path.join(self.folder, folder)):
                command += ["--find-links", os.path.join(self.folder, folder)]
        command += ["--no-deps", "--require-hashes", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
        command += ["--no-warn-script-location", "--progress-bar", "off"]
        # else an old pip runs setup.py in the environment itself
        command += ["--use-pep517"] * any(distribution.file.startswith(SDISTS) for distribution in distributions)
        command += ([] if self.compiles_bytecode else ["--no-compile"]) + (["--force-reinstall"] if self.reinstalls else [])
        started = time.time()
        code, path, words = self.runner.run(log, command + ["-r", listed])
        words = words if code else ""
        return Attempt(distributions[0].name, code == 0, round(time.time() - started, 2), path, words, "pip")


def install_in_rounds(pip, distributions):  # type: (PipEngine, Sequence[Distribution]) -> Iterator[Attempt]
    """Each attempt at each distribution: all in one batch; if that fails, one by one in the manifest's order (what is
    needed before what needs it), in rounds, until all are in or a round brings nothing new."""
    if not distributions:
        return
    batch = pip.install(distributions, "batch")
    missing = find_missing(pip, distributions, hashes=not batch.succeeded)
    share = round(batch.seconds / len(distributions), 2)
    for distribution in distributions:
        ok = distribution not in missing
        yield batch._replace(name=distribution.name, succeeded=ok, seconds=share, log_tail="" if ok else batch.log_tail)
    count, before = 0, len(missing) + 1
    while missing and (len(missing) < before or count < 2):  # what failed for a moment gets a second round
        count, before, remaining = count + 1, len(missing), []
        for distribution in missing:
            attempt = pip.install([distribution], "%s.%d" % (distribution.name, count))
            attempt = attempt._replace(succeeded=attempt.succeeded and not find_missing(pip, [distribution], hashes=False))
            yield attempt
            if not attempt.succeeded:
                remaining.append(distribution)
            if is_disk_full(attempt.log_tail):
                return
        missing = remaining


def find_missing(pip, distributions, hashes):  # type: (PipEngine, Sequence[Distribution], bool) -> List[Distribution]
    """Those that are not in, whole; what is left of them is forgotten, but where it may be what was there before."""
    bad = find_altered_distributions(pip.root, {distribution.name: distribution.version for distribution in distributions}, hashes=hashes)
    if not pip.reinstalls:
        discard_distributions(pip.root, bad)
    return [distribution for distribution in distributions if distribution.name in bad]


def is_disk_full(words):  # type: (str) -> bool
    """Whether an engine was refused room: no space left, or a quota."""
    return any(os.strerror(number) in words for number in (errno.ENOSPC, errno.EDQUOT))


def lacks_current_tool(root, tool):  # type: (str, Any) -> bool
    """Whether an environment that somebody else made has none of this tool, or an older one."""
    infos = find_dist_infos(root).get(tool.name, [])
    numbers = [[int(part) for part in re.findall(r"\d+", os.path.basename(info))] for info in infos]
    return not numbers or max(numbers) < [int(part) for part in re.findall(r"\d+", tool.version)]
