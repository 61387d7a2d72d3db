"""Fill a generation: create the environment, reuse unchanged distributions, install the rest with an engine.

Every step leaves a complete distribution with a RECORD, so that an interrupted run continues with the missing ones.
"""

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

AUTO_ENGINE = "fast"
"""the engine that --engine auto means"""


def populate_environment(work, programs, reusable, former):
    # type: (InstallPlan, ProgramRunner, Mapping[str, Any], Mapping[str, Any]) -> List[Finding]
    """Put all that is missing into the generation; what could not be installed, and what pip check says.

    `known`: its record, where it was whole once and may be in use. `former`: that of the release before. Else {}.
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
    for attempt in _install_missing(work, programs, [distribution for distribution in work.distributions if distribution.name in bad], former if base else {}):
        tries.setdefault(attempt.name, []).append(attempt)
        work.reporter.print_progress(len(tries), len(bad))
    rows = [_make_report_row(work, distribution, tries.get(distribution.name, [])) for distribution in work.distributions if distribution.name in tries or distribution.name not in bad]
    work.reporter.facts["distributions"] = rows
    if any(row["attempts"] > 1 for row in rows):
        _print_attempts(work.reporter, rows)
    mark_requested(root, {distribution.name: distribution.requested for distribution in work.distributions})
    failed = [all_ for all_ in tries.values() if not all_[-1].succeeded]
    if base and any(len(all_) > 1 for all_ in tries.values()):
        remove_unowned_files(root, base)
    if not options.keep_going and any(is_disk_full(failure[-1].log_tail) for failure in failed):
        raise InstallError(*[_make_failure_finding(work, failure) for failure in failed])
    return [_make_failure_finding(work, failure) for failure in failed] or _run_pip_check(work, programs)


def _prepare_environment(work, programs):  # type: (InstallPlan, ProgramRunner) -> List[str]
    """A virtual environment in its final place, new or of an interrupted run: the paths that it consists of."""
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
    """Each attempt at each distribution: linked from the release before, else placed, else by pip."""
    root, options, say = work.root, work.options, work.reporter.print_message
    python, installed = get_interpreter(root), set()  # type: str, Set[str]
    if former:
        files, hashes, before = former["files"], work.hashes, time.time()
        same = {distribution.name: distribution.version for distribution in distributions if files.get(distribution.name) == hashes[distribution.name]}
        for name, reason in reuse_distributions(work.location.get_root(former["generation"]), root, same, former["records"]):
            if reason:
                say(text("{name} is not taken from the release before: {why}", name=name, why=reason))
                continue
            installed.add(name)
            yield Attempt(name, True, round(time.time() - before, 2), "", "", "linked")
            before = time.time()
        if installed:
            say(text("{count} distributions are unchanged and come from the release before.", count=len(installed)))
    distributions = [distribution for distribution in distributions if distribution.name not in installed]
    wheels = [work.wheels[distribution.file] for distribution in distributions if distribution.file in work.wheels]
    tools = [tool for tool in work.tools if tool.file in work.wheels]
    # what is in use already, or was made by somebody else, has files in the way: pip replaces them
    engine = AUTO_ENGINE if options.engine in (None, "auto") else options.engine
    fast = (engine == "fast" or lacks_distutils(work.selection.facts)) and not work.location.is_foreign
    if fast and wheels and tools and not options.force:
        say(text("{count} distributions, by the fast engine.", count=len(wheels)))
        requested = [distribution.name for distribution in distributions if distribution.requested]
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
            yield Attempt(wheel.name, bad is None, round(time.time() - before, 2), "", bad.render() if bad else "", "fast")
            before = time.time()
    # pip believes what is in a wheel whose hash is right
    remaining = [work.wheels[distribution.file] for distribution in distributions if distribution.name not in installed and distribution.file in work.wheels]
    raise_on_errors(IntegrityError, [bad for wheel in remaining for bad in check_contents(wheel)])
    pip = PipEngine(python, root, options.folder, work.manifest, programs, not options.no_compile, False)
    pip = pip._replace(reinstalls=work.location.is_foreign or options.force)
    distributions = [distribution for distribution in distributions if distribution.name not in installed]
    for tool in work.tools:
        if tool.name in [distribution.name for distribution in distributions] or (work.location.is_foreign and lacks_current_tool(root, tool)):
            say(text("{name} {version} goes in first.", name=tool.name, version=tool.version))
            first = pip.install([tool], tool.name, [work.locate_file(tool.file) + "/pip"])
            if not first.succeeded:
                raise InstallError(_make_failure_finding(work, [first]))
            yield first
    distributions = [distribution for distribution in distributions if distribution.name not in [tool.name for tool in work.tools]]
    if distributions:
        say(text("{count} distributions, by pip.", count=len(distributions)))
    for attempt in install_in_rounds(pip, distributions):
        yield attempt


def _read_bytecode_wheels(work, distributions):  # type: (InstallPlan, Iterable[Distribution]) -> Iterator[Tuple[str, CheckedWheel]]
    """Of these the bytecode that came with the bundle; what is not sound is made here instead."""
    listed = {file.path: file.sha256 for file in work.manifest.files}
    for distribution in distributions:
        path = make_bytecode_path(work.target.tag, distribution.file)
        if path in listed:
            try:
                yield distribution.name, read_wheel(work.locate_file(path), sha256=listed[path])
            except IntegrityError as bad:
                work.reporter.print_findings(finding._replace(level="note") for finding in bad.findings)


def _run_pip_check(work, programs):  # type: (InstallPlan, ProgramRunner) -> List[Finding]
    """What pip check finds."""
    command = [get_interpreter(work.root), "-I", "-B", "-m", "pip", "check", "--disable-pip-version-check"]
    code, _, words = programs.run("check", command) if not lacks_distutils(work.selection.facts) else (0, "", "")
    if code == 0:
        return []
    return [error(
        "pip-check", work.title, "What is installed does not fit together, pip check says.",
        "Have the bundle made again; --keep-going takes it as it is.", log=words)]


def _make_report_row(work, distribution, tries):  # type: (InstallPlan, Distribution, Sequence[Attempt]) -> Dict[str, Any]
    """One distribution in the report; without tries it was in already."""
    last = tries[-1] if tries else Attempt(distribution.name, True, 0, "", "", "kept")
    seconds = round(sum(trie.seconds for trie in tries), 2)
    row = {"name": distribution.name, "version": distribution.version, "file": distribution.file, "sha256": work.hashes[distribution.name]}
    state = "installed" if last.succeeded else "failed"
    return dict(row, engine=last.engine, state=state, attempts=len(tries), seconds=seconds, reason=last.log_tail)


def _print_attempts(voice, rows):  # type: (Reporter, Sequence[Mapping[str, Any]]) -> None
    """What the rounds came to: distribution, state, attempts, seconds, reason."""
    states = {"installed": text("installed"), "failed": text("FAILED")}
    width = max(len(row["name"] + row["version"]) for row in rows) + 1
    for row in rows:
        facts = {"name": (row["name"] + " " + row["version"]).ljust(width), "seconds": "%.1f" % row["seconds"]}
        voice.print_result(text(
            "{name}  {state}, attempts: {attempts}, {seconds} s  {reason}", state=states[row["state"]],
            attempts=row["attempts"], reason=(row["reason"].splitlines() or [""])[-1][:100], **facts))


def _make_failure_finding(work, tries):  # type: (InstallPlan, Sequence[Attempt]) -> Finding
    outcome = text(
        "Nothing was changed; what is in is kept aside, and the same command goes on. --keep-going does without it.")
    if work.options.keep_going or work.location.is_foreign:
        outcome = text("The others are in; the same command tries it again.")
    return error(
        "not-installed", tries[-1].name, "{subject} could not be installed, attempts: {tries}. The whole log: {file}",
        "{left}", log=tries[-1].log_tail, tries=len(tries), file=tries[-1].log_path or "-", left=outcome)
