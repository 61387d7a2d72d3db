"""One generation: the virtual environment and what goes into it, from the release before, by the fast engine or pip.

Each of them leaves what is whole with a RECORD, so an interrupted run goes on with what is missing.
"""

import os
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from . import by_pip, environment, installed, linked, match, place, report, seed
from .by_pip import Attempt
from .errors import Finding, InstallError, IntegrityError, error, raise_all, text
from .manifest import Distribution, Manifest, Target, Tool, bytecode_path
from .wheel import Wheel, check_contents, read_wheel

AUTO = "fast"
"""the engine that --engine auto means"""


class Work(NamedTuple):
    """What is installed, where, with which Python, as which generation."""

    options: Any
    manifest: Manifest
    place: environment.Place
    choice: match.Choice
    generation: str
    wheels: Mapping[str, Wheel]  # path in the bundle -> what was checked; all of the bundle's
    voice: report.Voice

    @property
    def root(self):  # type: () -> str
        """The folder that is, or becomes, the virtual environment."""
        return self.place.root(self.generation)

    @property
    def target(self):  # type: () -> Target
        """The plan."""
        return self.choice.target

    @property
    def tools(self):  # type: () -> List[Tool]
        """pip; the other tools are what sources are built with, which pip does in environments of their own."""
        return [one for one in self.target.tools if one.name == "pip"]

    @property
    def plan(self):  # type: () -> List[Distribution]
        """Every distribution that must be in, pip first; a foreign environment may keep a newer pip of its own."""
        install = {one.name for one in self.target.install}
        tools = [Distribution(one.name, one.version, one.file, (), False, None) for one in self.tools]
        return [one for one in tools if one.name not in install and not self.place.foreign] + list(self.target.install)

    @property
    def versions(self):  # type: () -> Dict[str, str]
        """Name -> version of the plan."""
        return {one.name: one.version for one in self.plan}

    @property
    def hashes(self):  # type: () -> Dict[str, str]
        """Name -> sha256 of its file."""
        files = {one.path: one.sha256 for one in self.manifest.files}
        return {one.name: files[one.file] for one in self.plan}

    @property
    def what(self):  # type: () -> str
        """The release as people call it."""
        return " ".join(one for one in (self.manifest.name, self.manifest.version) if one)

    def path(self, file):  # type: (str) -> str
        """Of a file of the bundle."""
        return os.path.join(self.options.folder, *file.split("/"))


def build(work, programs, known, former):
    # type: (Work, by_pip.Programs, Mapping[str, Any], Mapping[str, Any]) -> List[Finding]
    """Put all that is missing into the generation; what could not be installed, and what pip check says.

    `known`: its record, where it was whole once and may be in use. `former`: that of the release before. Else {}.
    """
    root, options, foreign = work.root, work.options, work.place.foreign
    base = [] if known or foreign else _ground(work, programs)  # type: List[str]
    if known and not foreign:
        work.voice.findings(seed.mend(root, known.get("base", {}), work.choice.facts, programs.run))
    bad = set(work.versions if options.force else installed.altered(root, work.versions))
    if not foreign:
        installed.discard(root, bad)
    if base:
        installed.sweep(root, base)
    work.voice.facts["changed"] = foreign
    tries = {}  # type: Dict[str, List[Attempt]]
    for attempt in _fill(work, programs, [one for one in work.plan if one.name in bad], former if base else {}):
        tries.setdefault(attempt.name, []).append(attempt)
        work.voice.count(len(tries), len(bad))
    rows = [_row(work, one, tries.get(one.name, [])) for one in work.plan if one.name in tries or one.name not in bad]
    work.voice.facts["distributions"] = rows
    if any(row["attempts"] > 1 for row in rows):
        _table(work.voice, rows)
    installed.mark(root, {one.name: one.requested for one in work.plan})
    failed = [all_ for all_ in tries.values() if not all_[-1].ok]
    if base and any(len(all_) > 1 for all_ in tries.values()):
        installed.sweep(root, base)
    if not options.keep_going and any(by_pip.disk_full(one[-1].words) for one in failed):
        raise InstallError(*[_failure(work, one) for one in failed])
    return [_failure(work, one) for one in failed] or _judge(work, programs)


def _ground(work, programs):  # type: (Work, by_pip.Programs) -> List[str]
    """A virtual environment in its final place, new or of an interrupted run: the paths that it consists of."""
    journal, root = work.place.path("journal.json"), work.root
    found = environment.read_json(journal)
    base = found.get("base", {})
    if found.get("generation") == work.generation and base and seed.contents(root, base) == base:
        work.voice.say(text("Going on where the run before stopped."))
        return list(base)
    environment.remove(root)
    environment.write_json(journal, {"schema": 1, "generation": work.generation, "base": {}})
    work.voice.findings(seed.create(root, work.choice.facts, programs.run))
    base = seed.contents(root, installed.listing(root))
    environment.write_json(journal, {"schema": 1, "generation": work.generation, "base": base})
    return list(base)


def _fill(work, programs, wanted, former):
    # type: (Work, by_pip.Programs, List[Distribution], Mapping[str, Any]) -> Iterator[Attempt]
    """Each attempt at each distribution: linked from the release before, else placed, else by pip."""
    root, options, say = work.root, work.options, work.voice.say
    python, done = seed.interpreter(root), set()  # type: str, Set[str]
    if former:
        files, hashes, before = former["files"], work.hashes, time.time()
        same = {one.name: one.version for one in wanted if files.get(one.name) == hashes[one.name]}
        for name, why in linked.adopt(work.place.root(former["generation"]), root, same, former["records"]):
            if why:
                say(text("{name} is not taken from the release before: {why}", name=name, why=why))
                continue
            done.add(name)
            yield Attempt(name, True, round(time.time() - before, 2), "", "", "linked")
            before = time.time()
        if done:
            say(text("{count} distributions are unchanged and come from the release before.", count=len(done)))
    wanted = [one for one in wanted if one.name not in done]
    wheels = [work.wheels[one.file] for one in wanted if one.file in work.wheels]
    tools = [one for one in work.tools if one.file in work.wheels]
    # what is in use already, or was made by somebody else, has files in the way: pip replaces them
    engine = AUTO if options.engine in (None, "auto") else options.engine
    fast = (engine == "fast" or seed.lacks_distutils(work.choice.facts)) and not work.place.foreign
    if fast and wheels and tools and not options.force:
        say(text("{count} distributions, by the fast engine.", count=len(wheels)))
        requested = [one.name for one in wanted if one.requested]
        before, compiling = time.time(), not options.no_compile
        ready = dict(_carried(work, wanted)) if compiling else {}
        where, jobs = place.layout(python), int(options.jobs or 0)
        for wheel, bad in place.place(wheels, where, work.wheels[tools[0].file], requested, compiling, jobs, ready):
            if bad is None:
                done.add(wheel.name)
            elif bad.code == "wheel-contents":
                raise IntegrityError(bad)
            else:
                work.voice.findings([bad._replace(level="note")])
                installed.discard(root, [wheel.name])
            yield Attempt(wheel.name, bad is None, round(time.time() - before, 2), "", bad.say() if bad else "", "fast")
            before = time.time()
    # pip believes what is in a wheel whose hash is right
    left = [work.wheels[one.file] for one in wanted if one.name not in done and one.file in work.wheels]
    raise_all(IntegrityError, [bad for wheel in left for bad in check_contents(wheel)])
    pip = by_pip.Pip(python, root, options.folder, work.manifest, programs, not options.no_compile, False)
    pip = pip._replace(force=work.place.foreign or options.force)
    wanted = [one for one in wanted if one.name not in done]
    for tool in work.tools:
        if tool.name in [one.name for one in wanted] or (work.place.foreign and by_pip.older(root, tool)):
            say(text("{name} {version} goes in first.", name=tool.name, version=tool.version))
            first = pip.install([tool], tool.name, [work.path(tool.file) + "/pip"])
            if not first.ok:
                raise InstallError(_failure(work, [first]))
            yield first
    wanted = [one for one in wanted if one.name not in [tool.name for tool in work.tools]]
    if wanted:
        say(text("{count} distributions, by pip.", count=len(wanted)))
    for attempt in by_pip.install(pip, wanted):
        yield attempt


def _carried(work, wanted):  # type: (Work, Iterable[Distribution]) -> Iterator[Tuple[str, Wheel]]
    """Of these the bytecode that came with the bundle; what is not sound is made here instead."""
    listed = {one.path: one.sha256 for one in work.manifest.files}
    for one in wanted:
        path = bytecode_path(work.target.tag, one.file)
        if path in listed:
            try:
                yield one.name, read_wheel(work.path(path), sha256=listed[path])
            except IntegrityError as bad:
                work.voice.findings(each._replace(level="note") for each in bad.findings)


def _judge(work, programs):  # type: (Work, by_pip.Programs) -> List[Finding]
    """What pip check finds."""
    command = [seed.interpreter(work.root), "-I", "-B", "-m", "pip", "check", "--disable-pip-version-check"]
    code, _, words = programs.run("check", command) if not seed.lacks_distutils(work.choice.facts) else (0, "", "")
    if code == 0:
        return []
    return [error(
        "pip-check", work.what, "What is installed does not fit together, pip check says.",
        "Have the bundle made again; --keep-going takes it as it is.", log=words)]


def _row(work, one, tries):  # type: (Work, Distribution, Sequence[Attempt]) -> Dict[str, Any]
    """One distribution in the report; without tries it was in already."""
    last = tries[-1] if tries else Attempt(one.name, True, 0, "", "", "kept")
    seconds = round(sum(each.seconds for each in tries), 2)
    row = {"name": one.name, "version": one.version, "file": one.file, "sha256": work.hashes[one.name]}
    state = "installed" if last.ok else "failed"
    return dict(row, engine=last.engine, state=state, attempts=len(tries), seconds=seconds, reason=last.words)


def _table(voice, rows):  # type: (report.Voice, Sequence[Mapping[str, Any]]) -> None
    """What the rounds came to: distribution, state, attempts, seconds, reason."""
    states = {"installed": text("installed"), "failed": text("FAILED")}
    width = max(len(row["name"] + row["version"]) for row in rows) + 1
    for row in rows:
        facts = {"name": (row["name"] + " " + row["version"]).ljust(width), "seconds": "%.1f" % row["seconds"]}
        voice.result(text(
            "{name}  {state}, attempts: {attempts}, {seconds} s  {reason}", state=states[row["state"]],
            attempts=row["attempts"], reason=(row["reason"].splitlines() or [""])[-1][:100], **facts))


def _failure(work, tries):  # type: (Work, Sequence[Attempt]) -> Finding
    left = text(
        "Nothing was changed; what is in is kept aside, and the same command goes on. --keep-going does without it.")
    if work.options.keep_going or work.place.foreign:
        left = text("The others are in; the same command tries it again.")
    return error(
        "not-installed", tries[-1].name, "{subject} could not be installed, attempts: {tries}. The whole log: {file}",
        "{left}", log=tries[-1].words, tries=len(tries), file=tries[-1].log or "-", left=left)
