"""Fill a generation: create the environment, reuse unchanged distributions, install the rest with an engine."""

import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from .by_pip import Attempt, PipEngine, ProgramRunner, install_in_rounds, is_disk_full, lacks_current_tool
from .distributions import discard_distributions, find_altered_distributions, mark_requested, remove_unowned_files
from .errors import Finding, InstallError, IntegrityError, error, raise_on_errors, text
from .fast_installer import install_wheels, query_install_paths
from .files import list_tree, read_json, remove_path, write_json
from .manifest import Distribution, make_bytecode_path
from .plan import InstallPlan
from .report import Reporter
from .reuse import reuse_distributions
from .venv import create_venv, get_interpreter, hash_contents, lacks_distutils, repair_venv
from .wheel import check_contents, read_wheel
from .wheel_model import CheckedWheel

_CHECK_FAILED = "What is installed does not fit together, pip check says."
_MAKE_AGAIN = "Have the bundle made again; --keep-going takes it as it is."
_NOT_INSTALLED = "{subject} could not be installed, attempts: {tries}. The whole log: {file}"
_NOTHING_CHANGED = (
    "Nothing was changed; what is in is kept aside, and the same command goes on. --keep-going does without it.")


def populate_environment(work, programs, reusable, former):
    # type: (InstallPlan, ProgramRunner, Mapping[str, Any], Mapping[str, Any]) -> List[Finding]
    """Install the missing distributions into the generation; return the failures and the result of pip check.

    `reusable`: the record of this generation if it was complete before; `former`: that of the current one; else {}.
    """
    root, options, foreign = work.root, work.options, work.location.is_foreign
    base = [] if reusable or foreign else _prepare_environment(work, programs)  # type: List[str]
    if reusable and not foreign:
        work.reporter.print_findings(repair_venv(root, reusable.get("base", {}), work.selection.facts, programs.run))
    bad = set(work.versions if options.force else find_altered_distributions(root, work.versions))
    if not foreign:
        discard_distributions(root, bad)
    if base:
        remove_unowned_files(root, base)
    work.reporter.facts["changed"] = foreign
    tries = {}  # type: Dict[str, List[Attempt]]
    missing = [step for step in work.distributions if step.name in bad]
    for attempt in _install_missing(work, programs, missing, former if base else {}):
        tries.setdefault(attempt.name, []).append(attempt)
        work.reporter.print_progress(len(tries), len(bad))
    present = [step for step in work.distributions if step.name in tries or step.name not in bad]
    rows = [_make_report_row(work, step, tries.get(step.name, [])) for step in present]
    work.reporter.facts["distributions"] = rows
    if any(row["attempts"] > 1 for row in rows):
        _print_attempts(work.reporter, rows)
    mark_requested(root, {step.name: step.requested for step in work.distributions})
    if base and any(len(attempts) > 1 for attempts in tries.values()):
        remove_unowned_files(root, base)
    last = [attempts[-1] for attempts in tries.values() if not attempts[-1].succeeded]
    failed = [_make_failure_finding(work, attempt, len(tries[attempt.name])) for attempt in last]
    if not options.keep_going and any(is_disk_full(attempt.log_tail) for attempt in last):
        raise InstallError(*failed)
    if failed or lacks_distutils(work.selection.facts):
        return failed
    command = [get_interpreter(root), "-I", "-B", "-m", "pip", "check", "--disable-pip-version-check"]
    code, _, words = programs.run("check", command)
    return [error("pip-check", work.title, _CHECK_FAILED, _MAKE_AGAIN, words)] if code else []


def _prepare_environment(work, programs):  # type: (InstallPlan, ProgramRunner) -> List[str]
    """Create the virtual environment, or keep that of an interrupted run, and return its relative paths."""
    journal, root = work.location.get_path("journal.json"), work.root
    journal_entries = read_json(journal)
    base = journal_entries.get("base", {})
    if journal_entries.get("generation") == work.generation_id and base and hash_contents(root, base) == base:
        work.reporter.print_message(text("Going on where the run before stopped."))
        return list(base)
    remove_path(root)
    write_json(journal, {"schema": 1, "generation": work.generation_id, "base": {}})
    work.reporter.print_findings(create_venv(root, work.selection.facts, programs.run))
    base = hash_contents(root, list_tree(root))
    write_json(journal, {"schema": 1, "generation": work.generation_id, "base": base})
    return list(base)


def _install_missing(work, programs, distributions, former):
    # type: (InstallPlan, ProgramRunner, List[Distribution], Mapping[str, Any]) -> Iterator[Attempt]
    """Yield each attempt: reused from the former generation, else by the fast engine, else by pip.

    Every step leaves complete distributions with a RECORD, so that an interrupted run continues with the missing ones.
    """
    root, options, say = work.root, work.options, work.reporter.print_message
    python, installed = get_interpreter(root), set()  # type: str, Set[str]
    if former:
        files, hashes, before = former["files"], work.hashes, time.time()
        same = {step.name: step.version for step in distributions if files.get(step.name) == hashes[step.name]}
        old = work.location.get_root(former["generation"])
        for name, reason in reuse_distributions(old, root, same, former["records"]):
            if reason:
                say(text("{name} is not taken from the release before: {why}", name=name, why=reason))
                continue
            installed.add(name)
            yield Attempt(name, True, round(time.time() - before, 2), "", "", "linked")
            before = time.time()
        if installed:
            say(text("{count} distributions are unchanged and come from the release before.", count=len(installed)))
    distributions = [step for step in distributions if step.name not in installed]
    wheels = [work.wheels[step.file] for step in distributions if step.file in work.wheels]
    tools = [tool for tool in work.tools if tool.file in work.wheels]
    # in a foreign environment, and with --force, files may exist already: pip replaces them
    fast = options.engine in (None, "auto", "fast") or lacks_distutils(work.selection.facts)
    if fast and wheels and tools and not work.location.is_foreign and not options.force:
        say(text("{count} distributions, by the fast engine.", count=len(wheels)))
        requested = [step.name for step in distributions if step.requested]
        before, compiling = time.time(), not options.no_compile
        ready = dict(_read_bytecode_wheels(work, distributions)) if compiling else {}
        where, jobs = query_install_paths(python), int(options.jobs or 0)
        for wheel, bad in install_wheels(wheels, where, work.wheels[tools[0].file], requested, compiling, jobs, ready):
            if bad is None:
                installed.add(wheel.name)
            elif bad.code == "wheel-contents":
                raise IntegrityError(bad)
            else:
                work.reporter.print_findings([bad._replace(level="note")])
                discard_distributions(root, [wheel.name])
            seconds, reason = round(time.time() - before, 2), bad.render() if bad else ""
            yield Attempt(wheel.name, bad is None, seconds, "", reason, "fast")
            before = time.time()
    distributions = [step for step in distributions if step.name not in installed]
    # pip does not compare the files of a wheel with RECORD
    wheels = [work.wheels[step.file] for step in distributions if step.file in work.wheels]
    raise_on_errors(IntegrityError, [bad for wheel in wheels for bad in check_contents(wheel)])
    reinstalls = work.location.is_foreign or options.force
    pip = PipEngine(python, root, options.folder, work.manifest, programs, not options.no_compile, reinstalls)
    names = [step.name for step in distributions]
    for tool in work.tools:
        if tool.name in names or (work.location.is_foreign and lacks_current_tool(root, tool)):
            say(text("{name} {version} goes in first.", name=tool.name, version=tool.version))
            first = pip.install([tool], tool.name, [work.locate_file(tool.file) + "/pip"])
            if not first.succeeded:
                raise InstallError(_make_failure_finding(work, first, 1))
            yield first
    distributions = [step for step in distributions if step.name != "pip"]
    if distributions:
        say(text("{count} distributions, by pip.", count=len(distributions)))
    yield from install_in_rounds(pip, distributions)


def _read_bytecode_wheels(work, distributions):
    # type: (InstallPlan, Iterable[Distribution]) -> Iterator[Tuple[str, CheckedWheel]]
    """Yield the bytecode wheels of the bundle for these distributions; a bad one is replaced by compiling."""
    listed = {file.path: file.sha256 for file in work.manifest.files}
    for distribution in distributions:
        path = make_bytecode_path(work.selection.target.tag, distribution.file)
        if path in listed:
            try:
                yield distribution.name, read_wheel(work.locate_file(path), sha256=listed[path])
            except IntegrityError as bad:
                work.reporter.print_findings(finding._replace(level="note") for finding in bad.findings)


def _make_report_row(work, distribution, tries):  # type: (InstallPlan, Distribution, Sequence[Attempt]) -> Dict[str, Any]
    """Return a distribution's row of the report; without tries it was installed before."""
    last = tries[-1] if tries else Attempt(distribution.name, True, 0, "", "", "kept")
    row = {"name": distribution.name, "version": distribution.version, "file": distribution.file}
    row.update(sha256=work.hashes[distribution.name], engine=last.engine, reason=last.log_tail)
    state, seconds = "installed" if last.succeeded else "failed", round(sum(attempt.seconds for attempt in tries), 2)
    return dict(row, state=state, attempts=len(tries), seconds=seconds)


def _print_attempts(voice, rows):  # type: (Reporter, Sequence[Mapping[str, Any]]) -> None
    """Print a table of distribution, state, attempts, seconds, reason."""
    states = {"installed": text("installed"), "failed": text("FAILED")}
    width = max(len(row["name"] + row["version"]) for row in rows) + 1
    for row in rows:
        facts = {"name": (row["name"] + " " + row["version"]).ljust(width), "seconds": "%.1f" % row["seconds"]}
        voice.print_result(text(
            "{name}  {state}, attempts: {attempts}, {seconds} s  {reason}", state=states[row["state"]],
            attempts=row["attempts"], reason=(row["reason"].splitlines() or [""])[-1][:100], **facts))


def _make_failure_finding(work, last, count):  # type: (InstallPlan, Attempt, int) -> Finding
    outcome = text(_NOTHING_CHANGED)
    if work.options.keep_going or work.location.is_foreign:
        outcome = text("The others are in; the same command tries it again.")
    facts = {"tries": count, "file": last.log_path or "-", "left": outcome}  # type: Dict[str, Any]
    return error("not-installed", last.name, _NOT_INSTALLED, "{left}", last.log_tail, **facts)
