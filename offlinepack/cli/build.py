"""build and lock: what stands on this side of the gap."""

from __future__ import annotations

import functools
import operator
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from offlinepack import bundle, cli, console, pack, sources, summary, targets
from offlinepack.cli import options, settings
from offlinepack.cli.options import FILE, What
from offlinepack.errors import Finding, ResolutionError, SourceError, Text, UsageError, error, text, warning
from offlinepack.evidence.policy import Rules
from offlinepack.indexes import Indexes
from offlinepack.ontarget import manifest
from offlinepack.rehearse import Verdict
from offlinepack.sources import Requirements, discover, freeze


def gather(what: What, indexes: Indexes, how: pack.How, speaker: console.Console) -> tuple[Requirements, Path | None]:
    """Everything that was asked, read, and the environment whose interpreter is the default target.

    The first line says what was taken. With nothing asked: the first of the places that `discover` knows.
    """
    asked = _Asked(what, indexes, how)
    parts = [sources.from_arguments(what.requirements)] if what.requirements else []
    parts += asked.files()
    if what.venv:
        parts.append(sources.read_environment(what.venv, exclude=what.exclude))
    if what.project:
        parts.append(asked.project(what.project))
    environment = what.venv
    if parts:
        found = functools.reduce(operator.add, parts)
        taken: list[object] = [
            sources.without_secrets(str(one)) for one in (*what.requirements, *what.files, *_given(what))
        ]
        speaker.say(_taken(what, taken, Path.cwd()))
    else:
        discovered = discover.discover(
            Path.cwd(),
            os.environ,
            extras=what.extras,
            groups=what.groups,
            exclude=what.exclude,
            locked=what.locked,
            own=asked.own,
        )
        speaker.say(discovered.said)
        found, environment = discovered.requirements, discovered.environment
    for path in what.constraints:
        found = found + asked.constraints(path)
    if what.exclude and not environment:
        unused = warning(
            "exclude-unused",
            "--exclude",
            "{subject} {names} leaves nothing out: it is for a frozen environment, and none is packed.",
            "Take it out of the requirements, or freeze an environment with --venv.",
            names=what.exclude,
        )
        found = replace(found, notes=(*found.notes, unused))
    if not found.asked and not found.pylocks:
        raise SourceError(
            error(
                "nothing-asked",
                "offlinepack",
                "What was taken asks for nothing: there is no requirement in it.",
                "Name requirements, a file with -r, --project or --venv.",
            )
        )
    if what.locked and not found.locked:
        raise ResolutionError(
            error(
                "no-lock",
                "--locked",
                "{subject} forbids to resolve, and no lock was given or found.",
                "Make one with `offlinepack lock` or `uv lock`, and give it with -r.",
            )
        )
    return _with_policies(found, what), environment


def _taken(what: What, taken: list[object], folder: Path) -> Text:
    if not what.by_settings:
        return text("packing {taken}", taken=taken)
    passed = [one for one in discover.places(folder, os.environ) if one not in map(str, taken)]
    if not passed:
        return text("packing {taken}, named by [tool.offlinepack]", taken=taken)
    return text("packing {taken}, named by [tool.offlinepack]; passed over: {passed}", taken=taken, passed=passed)


def _given(what: What) -> list[str]:
    lock = sources.lock_of(what.project, what.locked) if what.project else None
    project = f"{what.project} ({lock.name})" if lock else what.project
    return [f"{flag} {path}" for flag, path in (("--venv", what.venv), ("--project", project)) if path]


@dataclass(frozen=True)
class _Asked:
    """How files are read: with these extras, and pages through the one client of the run."""

    what: What
    indexes: Indexes
    how: pack.How

    @property
    def own(self) -> sources.OwnWheels:
        """Where wheels of a project that is packed may lie."""
        return pack.own_wheels(self.indexes, self.how)

    def page(self, url: str) -> bytes:
        """A requirements file that an address names."""
        return pack.page(url, self.indexes, self.how)

    def file(self, path: Path) -> Requirements:
        """The file behind -r."""
        what = self.what
        how: dict[str, Any] = {"locked": what.locked, "own": self.own, "page": self.page}
        return sources.read(path, extras=what.extras, groups=what.groups, **how)

    def files(self) -> list[Requirements]:
        """What stands behind each -r; what is wrong with any of them, all at once."""
        read: list[Requirements] = []
        wrong: list[Finding] = []
        for path in self.what.files:
            try:
                read.append(self.file(path))
            except SourceError as bad:
                wrong += bad.findings
        if wrong:
            raise SourceError(*wrong)
        return read

    def project(self, folder: Path) -> Requirements:
        """The folder behind --project."""
        what = self.what
        return sources.read_project(
            folder, extras=what.extras, groups=what.groups, locked=what.locked, own=self.own
        )

    def constraints(self, path: Path) -> Requirements:
        """The file behind -c."""
        return sources.read_constraints(path, page=self.page)


def _with_policies(found: Requirements, what: What) -> Requirements:
    return replace(
        found,
        pre=found.pre or what.pre,
        no_deps=found.no_deps or what.no_deps,
        require_hashes=found.require_hashes or what.require_hashes,
        only_binary=(*found.only_binary, *what.only_binary),
        no_binary=(*found.no_binary, *what.no_binary),
        uploaded_prior_to=what.uploaded_prior_to or found.uploaded_prior_to,
    )


def request(
    what: What,
    asked: options.For,
    indexes: Indexes,
    how: pack.How,
    label: pack.Label,
    speaker: console.Console,
) -> pack.Request:
    """The values of the command line as one request.

    Without a target it is for the interpreter of --venv, else of the active environment, else the running one.
    """
    misnamed = settings.misnamed(os.environ, build.params)
    speaker.findings([*misnamed, *asked.notes, *indexes.notes])
    requirements, environment = gather(what, indexes, how, speaker)
    return pack.Request(
        requirements,
        asked.targets or (_own(environment),),
        indexes.with_options(requirements.index_options),
        how,
        label.completed(requirements),
        floor_follows_files=not asked.targets,
    )


def _own(environment: Path | None) -> targets.Target:
    """The machine's own target; conda and virtualenv keep their interpreter in the environment."""
    place = environment or next(
        (Path(os.environ[one]) for one in ("VIRTUAL_ENV", "CONDA_PREFIX") if os.environ.get(one)), None
    )
    python = freeze.interpreter(place) if place else None
    return (targets.of_interpreter(python) if python else targets.running()).anywhere()


@click.command(cls=cli.Command)
@options.what
@options.for_
@options.from_
@options.how
@options.label
@options.with_
@options.rules
@options.one(
    "--report",
    type=FILE,
    metavar="FILE",
    rare=True,
    help="Write the summary there too, by suffix: .json, .md, .xml (JUnit); also where it failed.",
)
@options.one(
    "-o", "--output", metavar="FILE", help="Where the bundle goes; {name}, {version} and {target} are filled in."
)
@options.one(
    "--lock-dir",
    type=FILE,
    metavar="DIR",
    rare=True,
    help="Keep the locks there: the same input packs the same versions again, until it changes.",
)
@options.one("--dry-run", is_flag=True, help="Tell what would be packed, and its size; write nothing.")
@click.pass_context
def build(
    ctx: click.Context,
    what: What,
    asked: options.For,
    indexes: Indexes,
    how: pack.How,
    label: pack.Label,
    extra: options.With,
    rules: Rules | None,
    report: Path | None,
    output: str | None,
    lock_dir: Path | None,
    dry_run: bool,
) -> None:
    """Pack the requirements and all that they need, for each target, into one bundle."""
    speaker = cli.console(ctx)
    speaker.report = summary.check(report) if report else None
    wanted = replace(
        request(what, asked, indexes, how, label, speaker),
        includes=extra.includes,
        bytecode=extra.bytecode,
        sign=extra.sign,
        split=extra.split,
        rehearse=extra.rehearse,
        rules=rules,
        lock_dir=lock_dir,
    )
    if dry_run:
        plans = pack.lock_alone(wanted, speaker.track)
        speaker.findings([*wanted.requirements.notes, *(one for plan in plans for one in plan.selection.findings)])
        tell_plan(plans, pack.sizes(plans, wanted), speaker)
        return
    built = pack.build(wanted, Path(output or wanted.label.archive), speaker.track)
    speaker.findings([*built.findings, *(one for each in built.verdicts for one in each.findings)])
    tell_built(built, speaker)


@click.command(cls=cli.Command)
@options.what
@options.for_
@options.from_
@options.how
@options.one("-o", "--output", type=FILE, metavar="FILE", help="The lock of the one target: pylock.toml.")
@options.one("-d", "--directory", type=FILE, metavar="DIR", help="A folder for the locks, pylock.<target>.toml each.")
@options.one("--dry-run", is_flag=True, help="Tell what would be locked, and its size; write nothing.")
@click.pass_context
def lock(
    ctx: click.Context,
    what: What,
    asked: options.For,
    indexes: Indexes,
    how: pack.How,
    output: Path | None,
    directory: Path | None,
    dry_run: bool,
) -> None:
    """Write the lock of each target (pylock.toml, PEP 751), and pack nothing."""
    speaker = cli.console(ctx)
    wanted = request(what, asked, indexes, how, pack.Label(), speaker)
    if output and (directory or len(wanted.targets) > 1):
        raise UsageError(
            error(
                "one-lock-one-file",
                "-o",
                "{subject} takes one lock, and there are {count} targets.",
                "Give a folder with -d: each target gets its pylock.<target>.toml there.",
                count=len(wanted.targets),
            )
        )
    plans = pack.lock_alone(wanted, speaker.track)
    findings = [*wanted.requirements.notes, *(one for plan in plans for one in plan.selection.findings)]
    speaker.findings(findings)
    if dry_run:
        tell_plan(plans, pack.sizes(plans, wanted), speaker)
        return
    written = []
    for plan in plans:
        path = output or (directory / manifest.pylock_name(plan.target.tag) if directory else None)
        document = pack.lock_text(plan)
        if path is None:
            speaker.result(document)
        else:
            pack.write_whole(path, document.encode())
            written.append(path)
            speaker.say(text("wrote {path}", path=path))
    if speaker.wants_json:
        speaker.json(
            {
                "ok": True,
                "locks": [{"target": plan.target.tag, "packages": _packages(plan)} for plan in plans],
                "files": written,
                "findings": [one.to_json() for one in findings],
            }
        )


def _packages(plan: pack.Plan) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "version": one.version and str(one.version), "file": one.filename, "sha256": one.sha256}
        for one in plan.selection.chosen
    ]


def tell_plan(plans: tuple[pack.Plan, ...], sizes: dict[str, int | None], speaker: console.Console) -> None:
    """The result of a dry run: what would be in the bundle, and how large it would be."""
    total = sum(one or 0 for one in sizes.values())
    if speaker.wants_json:
        speaker.json(
            {
                "ok": True,
                "dry_run": True,
                "size": total,
                "files": [{"name": name, "size": size} for name, size in sorted(sizes.items())],
                "targets": [
                    {
                        "name": plan.target.name,
                        "tag": plan.target.tag,
                        "machines": str(plan.target.machines),
                        "packages": _packages(plan),
                    }
                    for plan in plans
                ],
            }
        )
        return
    for plan in plans:
        speaker.result(
            text("{target}: {count} distributions", target=plan.target.name, count=len(plan.selection.chosen))
        )
        for one in plan.selection.chosen:
            size = sizes.get(one.filename)
            speaker.result(
                f"  {one.name} {one.version or '?'}  {one.filename}  {console.size(size) if size is not None else '?'}"
            )
    speaker.result(text("{count} files, {size}; nothing was written", count=len(sizes), size=console.size(total)))


def tell_built(built: pack.Built, speaker: console.Console) -> None:
    """The summary: what, for which machines, size, sha256, seconds, and what to type on the other side."""
    machines = {one.tag: one.machines for one in built.targets}
    first = built.bundles[0]
    document = {
        "ok": True,
        **_archive(first.archive),
        "name": first.manifest.name,
        "version": first.manifest.version,
        "folder": first.manifest.folder,
        "bundles": [
            {**_archive(one.archive), "targets": [target.tag for target in one.manifest.targets]}
            for one in built.bundles
        ],
        "targets": [
            {
                "name": one.name,
                "tag": one.tag,
                "machines": str(machines[one.tag]),
                "packages": [
                    {
                        "name": each.name,
                        "version": each.version,
                        "file": _base(each.file),
                        "sha256": hashes[each.file],
                    }
                    for each in one.install
                ],
            }
            for packed in built.bundles
            for hashes in [{one.path: one.sha256 for one in packed.manifest.files}]
            for one in packed.manifest.targets
        ],
        **({"rehearsal": [one.to_json() for one in built.verdicts]} if built.verdicts else {}),
        "findings": [one.to_json() for one in built.findings],
        "seconds": {**built.seconds, "total": round(speaker.seconds, 3)},
    }
    speaker.conclude(document)
    if speaker.wants_json:
        return
    for packed in built.bundles:
        if speaker.loudness < 0:
            speaker.result(str(packed.archive.path))
        else:
            tags = {one.tag for one in packed.manifest.targets}
            _tell_packed(packed, machines, [one for one in built.verdicts if one.tag in tags], speaker)


def _archive(archive: bundle.Archive) -> dict[str, Any]:
    return {
        "bundle": str(archive.path),
        "size": archive.size,
        "sha256": archive.sha256,
        "parts": [str(one.path) for one in archive.parts],
    }


def _tell_packed(
    packed: pack.Packed, machines: dict[str, Text], verdicts: list[Verdict], speaker: console.Console
) -> None:
    archive, listed = packed.archive, packed.manifest
    lines: list[str | Text] = [
        text(
            "{path}: {count} distributions, {size}, {seconds} s",
            path=archive.path,
            count=len({(one.name, one.version) for target in listed.targets for one in target.install}),
            size=console.size(archive.size),
            seconds=round(speaker.seconds, 1),
        ),
        f"  sha256 {archive.sha256}",
    ]
    for target in listed.targets:
        lines.append(text("  for {machines}", machines=machines[target.tag]))
        if speaker.loudness > 0:
            lines += [f"    {one.name} {one.version}  {_base(one.file)}" for one in target.install]
    lines += versions_apart(listed)
    lines += [sentence for one in verdicts for sentence in one.sentences()]
    lines.append(text("on the other side:"))
    name, folder = archive.path.name, listed.folder
    unpack = f"tar -xzf {name}" if len(archive.parts) == 1 else f"cat {name}.[0-9]* | tar -xz"
    windows = dict.fromkeys(target.facts.os == "windows" for target in listed.targets)
    for one in windows:
        start = f"{folder}\\install.cmd" if one else f"python3 {folder}/install.py"
        lines.append(f"  {unpack} && {start}")
    speaker.result(*lines)


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def versions_apart(listed: manifest.Manifest) -> list[Text]:
    """The projects that have other versions on other targets: "numpy: 2.2.6 for rhel8, 2.5.5 elsewhere"."""
    lines = []
    names = sorted({one.name for target in listed.targets for one in target.install})
    for name in names:
        where: dict[str, list[str]] = {}
        for target in listed.targets:
            for one in target.install:
                if one.name == name:
                    where.setdefault(one.version, []).append(target.name)
        if len(where) > 1:
            # most of them are "elsewhere", where that is shorter
            most = max(where, key=lambda version: (len(where[version]), where[version]))
            rest = most if len(where[most]) > 1 else None
            apart = [
                text("{version} for {targets}", version=version, targets=for_)
                for version, for_ in sorted(where.items())
                if version != rest
            ]
            apart += [text("{version} elsewhere", version=rest)] if rest else []
            lines.append(text("  {name}: {apart}", name=name, apart=apart))
    return lines


@click.command(cls=cli.Command)
@click.pass_context
def init(ctx: click.Context) -> None:
    """Write the settings of the project in this folder ([tool.offlinepack]), with every usual option as a comment.

    They go to the end of pyproject.toml, or into offlinepack.toml where there is none.
    """
    speaker, folder = cli.console(ctx), Path.cwd()
    path = folder / ("pyproject.toml" if (folder / "pyproject.toml").is_file() else "offlinepack.toml")
    for one in (folder / "offlinepack.toml", path):
        if settings.there(one):
            raise UsageError(
                error(
                    "settings-there",
                    one.name,
                    "{subject} has settings of offlinepack already; nothing was changed.",
                    "Edit them there.",
                )
            )
    written = settings.template(folder, build.params, targets.running().anywhere().tag)
    before = path.read_bytes().decode("utf-8") if path.exists() else ""
    end = "\r\n" if "\r\n" in before else "\n"
    gap = "" if not before else end if before.endswith("\n") else end * 2
    pack.write_whole(path.resolve(), (before + gap + written.replace("\n", end)).encode())
    speaker.say(text("wrote {path}", path=path.name))
    speaker.result(written.rstrip())
    if speaker.wants_json:
        speaker.json({"ok": True, "file": path.name, "settings": settings.read(path)})
