"""offlinepack for programs: build, lock, install, verify, as `from offlinepack import build` gives them.

Paths may be strings. Nothing is printed; progress is not drawn. Each error is an `offlinepack.errors.OfflinepackError`
with an `exit_code` (the command line's) and `findings`, all that was wrong at once.
"""

from __future__ import annotations

import functools
import json
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.pylock import Pylock

from offlinepack import bundle as bundles
from offlinepack import errors, handover, included, pack, signing, sources
from offlinepack import targets as machines
from offlinepack.errors import Finding, IntegrityError, OfflinepackError, UsageError, error
from offlinepack.indexes import Indexes
from offlinepack.ontarget.errors import BUG, INTERRUPTED
from offlinepack.ontarget.manifest import File, Manifest, pylock_name
from offlinepack.sources import freeze
from offlinepack.store import Store

StrPath = str | os.PathLike[str]


def build(
    requirements: Iterable[str] = (),
    *,
    output: StrPath | None = None,
    requirement_files: Iterable[StrPath] = (),
    constraints: Iterable[StrPath] = (),
    venv: StrPath | None = None,
    project: StrPath | None = None,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    targets: Iterable[str] = (),
    name: str | None = None,
    version: str | None = None,
    sequence: int | None = None,
    install_to: str | None = None,
    includes: Sequence[str] = (),
    sign: StrPath | None = None,
    split: int | None = None,
    index_url: str | None = None,
    extra_index_urls: Sequence[str] = (),
    find_links: Sequence[str] = (),
    no_index: bool = False,
    resolver: str = "auto",
    offline: bool = False,
    cache_dir: StrPath | None = None,
) -> pack.Built:
    """Pack requirements and all that they need, for each target, into one bundle.

    At least one of `requirements` ("flask>=3"), `requirement_files` (requirements.txt, pylock.toml, uv.lock,
    pyproject.toml), `venv` and `project` (folders) is given. `targets` are names of the catalogue ("debian12",
    "rhel8:3.11"), tags, or files that a probe wrote; without one it is the interpreter of `venv`, else the running one.
    `output` (default ./<name>-<version>-offline.tar.gz) may hold {name}, {version} and {target}; with {target} there is
    one bundle for each target. `includes` are PATH or PATH=DEST, `split` is in bytes, `sequence` a number that grows
    with each release, `sign` the file of an SSH key. pip's settings are honoured as on the command line.

    The result tells the `bundles` that were written (each with `archive.path`, `archive.size` in bytes,
    `archive.sha256` and its `manifest`), the `findings` worth knowing, and `seconds` for each stage.

    Raises UsageError (2), SourceError (3), ResolutionError (4), SelectionError (5), FetchError (6), IntegrityError (7),
    BuildError (8), ComputerError (12); nothing is left at `output` then.
    """
    request = _request(
        requirements,
        requirement_files,
        constraints,
        venv,
        project,
        extras,
        groups,
        targets,
        Indexes.from_settings(index_url, extra_index_urls, find_links, no_index),
        resolver,
        offline,
        cache_dir,
        pack.Label(name or "", version, sequence, install_to),
        includes=included.read(includes),
        sign=Path(sign) if sign is not None else None,
        split=split,
    )
    return pack.build(request, Path(output) if output is not None else Path(request.label.archive))


def lock(
    requirements: Iterable[str] = (),
    *,
    output: StrPath | None = None,
    requirement_files: Iterable[StrPath] = (),
    constraints: Iterable[StrPath] = (),
    venv: StrPath | None = None,
    project: StrPath | None = None,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    targets: Iterable[str] = (),
    index_url: str | None = None,
    extra_index_urls: Sequence[str] = (),
    find_links: Sequence[str] = (),
    no_index: bool = False,
    resolver: str = "auto",
    offline: bool = False,
    cache_dir: StrPath | None = None,
) -> dict[str, Pylock]:
    """Lock the requirements for each target: target's tag -> `packaging.pylock.Pylock` (PEP 751). Nothing is packed.

    Parameters as for `build`. With `output`, a folder, each lock is also written there as pylock.<tag>.toml.

    Raises UsageError (2), SourceError (3), ResolutionError (4), SelectionError (5: a package has no file for a target),
    FetchError (6), ComputerError (12).
    """
    request = _request(
        requirements,
        requirement_files,
        constraints,
        venv,
        project,
        extras,
        groups,
        targets,
        Indexes.from_settings(index_url, extra_index_urls, find_links, no_index),
        resolver,
        offline,
        cache_dir,
        pack.Label(),
    )
    plans = pack.lock_alone(request)
    if output is not None:
        for plan in plans:
            pack.write_whole(Path(output) / pylock_name(plan.target.tag), pack.lock_text(plan).encode())
    return {plan.target.tag: plan.pylock for plan in plans}


def install(
    bundle: StrPath,
    *,
    venv: StrPath | None = None,
    python: StrPath | None = None,
    target: str | None = None,
    engine: str = "auto",
    compile: bool = True,
    keep_going: bool = False,
    force: bool = False,
    allow_downgrade: bool = False,
    dry_run: bool = False,
    verify_keys: Sequence[StrPath] = (),
    require_signature: bool = False,
    signature: StrPath | None = None,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Install a bundle (tar.gz, first part, or unpacked folder) on this machine, without a network.

    `venv` is the place (default: the bundle's own, the active environment, ./.venv), `python` the interpreter that is
    to run it, `jobs` the number of processes. Everything is verified and the machine is checked before anything is
    written; what ran before stays until the new environment is whole.

    The result is the run's report, as `--json` prints it: `changed` (bool), `venv`, `generation`, `seconds`,
    `findings` and more.

    Raises UsageError (2), IntegrityError (7), BundleError (9), MachineError (10: no target fits, or a check of this
    machine failed), InstallError (11), ComputerError (12), PolicyError (13: an older bundle than was seen here).
    """
    switches = {
        "--no-compile": not compile,
        "--keep-going": keep_going,
        "--force": force,
        "--allow-downgrade": allow_downgrade,
        "--dry-run": dry_run,
        "--require-signature": require_signature,
    }
    values = {"--venv": venv, "--target": target, "--engine": engine, "--signature": signature, "--jobs": jobs}
    words = ["--json", *(one for one, on in switches.items() if on)]
    words += [part for one, value in values.items() if value is not None for part in (one, str(value))]
    keys = [str(one) for one in verify_keys]
    words += [part for one in keys for part in ("--verify-key", one)]
    done = handover.install(
        Path(bundle),
        words,
        python=str(python) if python is not None else None,
        keys=keys,
        signature=str(signature) if signature is not None else None,
        capture=True,
    )
    report: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    if done.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if done.returncode or not report:
        raise _error(done.returncode or BUG, report, done.stderr)
    return report


def verify(
    bundle: StrPath, *, verify_keys: Sequence[StrPath] = (), signature: StrPath | None = None
) -> Manifest:
    """Check that a bundle (tar.gz, first part, or unpacked folder) is complete and unaltered; its manifest.

    Every file is hashed and every wheel is read to its end; nothing is installed. With `verify_keys` (files: a .pub, or
    allowed signers) each of them must have signed.

    Raises IntegrityError (7) with everything that is damaged, missing or added, or whose signature lacks; BundleError
    (9) where it is no bundle; ComputerError (12) where it cannot be read.
    """
    opened = bundles.open_bundle(Path(bundle))
    signing.who_signed(opened, [str(one) for one in verify_keys], str(signature) if signature is not None else None)
    bad = [one for one in opened.verify() if not isinstance(one, File) and one.level == "error"]
    if bad:
        raise IntegrityError(*bad)
    return opened.manifest


def _request(
    requirements: Iterable[str],
    files: Iterable[StrPath],
    constraints: Iterable[StrPath],
    venv: StrPath | None,
    project: StrPath | None,
    extras: Sequence[str],
    groups: Sequence[str],
    names: Iterable[str],
    indexes: Indexes,
    resolver: str,
    offline: bool,
    cache_dir: StrPath | None,
    label: pack.Label,
    **more: Any,
) -> pack.Request:
    how = pack.How(resolver, offline=offline, cache_dir=Path(cache_dir) if cache_dir else Store.default_folder())
    page = functools.partial(pack.page, indexes=indexes, how=how)
    asked = [sources.from_arguments(list(requirements))]
    wheels = pack.own_wheels(indexes, how)
    asked += [sources.read(Path(one), extras=extras, groups=groups, own=wheels, page=page) for one in files]
    if venv is not None:
        asked.append(sources.read_environment(Path(venv)))
    if project is not None:
        asked.append(sources.read_project(Path(project), extras=extras, groups=groups, own=wheels))
    if not asked[0].asked:
        del asked[0]
    if not asked:
        raise UsageError(
            error(
                "nothing-asked",
                "offlinepack",
                "Nothing was asked for.",
                "Give requirements, requirement_files, venv or project.",
            )
        )
    asked += [sources.read_constraints(Path(one), page=page) for one in constraints]
    wanted = functools.reduce(operator.add, asked)
    asked_for = machines.combine(names=list(names))
    python = freeze.interpreter(Path(venv)) if venv is not None else None
    own = None if asked_for else (machines.of_interpreter(python) if python else machines.running()).anywhere()
    return pack.Request(
        wanted,
        (own,) if own else asked_for,
        indexes.with_options(wanted.index_options),
        how,
        label.completed(wanted),
        floor_follows_files=own is not None,
        **more,
    )


_KINDS: dict[int, type[OfflinepackError]] = {
    2: errors.UsageError,
    3: errors.SourceError,
    4: errors.ResolutionError,
    5: errors.SelectionError,
    6: errors.FetchError,
    7: errors.IntegrityError,
    8: errors.BuildError,
    9: errors.BundleError,
    10: errors.MachineError,
    11: errors.InstallError,
    12: errors.ComputerError,
    13: errors.PolicyError,
}
"""the table of exit codes"""


def _error(code: int, report: dict[str, Any], log: str) -> OfflinepackError:
    """The error that the target side told, with its findings."""
    told = report.get("findings", [])
    found = [
        Finding(one["level"], one["code"], one["subject"], errors.text(one["sentence"]), errors.text(one["advice"]))
        for one in told
    ]
    return _KINDS.get(code, OfflinepackError)(*found or [error("bug", "install", "{log}", log=log.strip())])
