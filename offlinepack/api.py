"""Build, lock, install and verify from a program: the functions behind `from offlinepack import build`.

Paths may be strings. Nothing is printed, and no progress is shown. Each error is an OfflinepackError with an
`exit_code` (as on the command line) and all `findings`.
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

from offlinepack.bundle.layout import make_pylock_name
from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import (
    BuildError,
    BundleError,
    ComputerError,
    FetchError,
    Finding,
    InstallError,
    IntegrityError,
    MachineError,
    OfflinepackError,
    PolicyError,
    ResolutionError,
    SelectionError,
    SourceError,
    UsageError,
    error,
    text,
)
from offlinepack.index.model import Indexes
from offlinepack.index.settings import read_settings
from offlinepack.launcher import run_installer
from offlinepack.ontarget.errors import EXIT_BUG, EXIT_INTERRUPTED
from offlinepack.ontarget.files import write_file_atomically
from offlinepack.ontarget.manifest import File, Manifest
from offlinepack.pipeline.build import BuildResult, build_bundles
from offlinepack.pipeline.includes import parse_includes
from offlinepack.pipeline.lock import format_lock, lock_and_close
from offlinepack.pipeline.provider import fetch_page, make_own_wheels
from offlinepack.pipeline.request import BuildOptions, BuildRequest, BundleName
from offlinepack.requirements.installed import find_environment_python
from offlinepack.requirements.read import (
    parse_arguments,
    read_constraints,
    read_environment,
    read_project,
    read_requirements_file,
)
from offlinepack.signing import verify_signatures
from offlinepack.store import Store
from offlinepack.targets.parse import combine_targets, get_running_target, probe_interpreter

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
) -> BuildResult:
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
    request = _make_request(
        requirements,
        requirement_files,
        constraints,
        venv,
        project,
        extras,
        groups,
        targets,
        read_settings(index_url, extra_index_urls, find_links, no_index),
        resolver,
        offline,
        cache_dir,
        BundleName(name or "", version, sequence, install_to),
        includes=parse_includes(includes),
        signing_key=Path(sign) if sign is not None else None,
        part_size=split,
    )
    return build_bundles(request, Path(output) if output is not None else Path(request.bundle_name.archive_name))


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
    request = _make_request(
        requirements,
        requirement_files,
        constraints,
        venv,
        project,
        extras,
        groups,
        targets,
        read_settings(index_url, extra_index_urls, find_links, no_index),
        resolver,
        offline,
        cache_dir,
        BundleName(),
    )
    plans = lock_and_close(request)
    if output is not None:
        for plan in plans:
            write_file_atomically(Path(output) / make_pylock_name(plan.target.tag), format_lock(plan).encode())
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
    words = ["--json", *(switch for switch, on in switches.items() if on)]
    words += [part for option, value in values.items() if value is not None for part in (option, str(value))]
    keys = [str(key) for key in verify_keys]
    words += [part for key in keys for part in ("--verify-key", key)]
    process = run_installer(
        Path(bundle),
        words,
        python=str(python) if python is not None else None,
        keys=keys,
        signature=str(signature) if signature is not None else None,
        capture=True,
    )
    report: dict[str, Any] = json.loads(process.stdout) if process.stdout.startswith("{") else {}
    if process.returncode == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode or not report:
        raise _make_error(process.returncode or EXIT_BUG, report, process.stderr)
    return report


def verify(bundle: StrPath, *, verify_keys: Sequence[StrPath] = (), signature: StrPath | None = None) -> Manifest:
    """Check that a bundle (tar.gz, first part, or unpacked folder) is complete and unaltered; its manifest.

    Every file is hashed and every wheel is read to its end; nothing is installed. With `verify_keys` (files: a .pub, or
    allowed signers) each of them must have signed.

    Raises IntegrityError (7) with everything that is damaged, missing or added, or whose signature lacks; BundleError
    (9) where it is no bundle; ComputerError (12) where it cannot be read.
    """
    opened = open_bundle(Path(bundle))
    verify_signatures(opened, [str(key) for key in verify_keys], str(signature) if signature is not None else None)
    bad = [result for result in opened.verify() if not isinstance(result, File) and result.level == "error"]
    if bad:
        raise IntegrityError(*bad)
    return opened.manifest


def _make_request(
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
    label: BundleName,
    **more: Any,
) -> BuildRequest:
    how = BuildOptions(
        resolver, offline=offline, cache_dir=Path(cache_dir) if cache_dir else Store.get_default_folder()
    )
    page = functools.partial(fetch_page, indexes=indexes, options=how)
    asked = [parse_arguments(list(requirements))]
    wheels = make_own_wheels(indexes, how)
    asked += [read_requirements_file(Path(one), extras=extras, groups=groups, own=wheels, page=page) for one in files]
    if venv is not None:
        asked.append(read_environment(Path(venv)))
    if project is not None:
        asked.append(read_project(Path(project), extras=extras, groups=groups, own=wheels))
    if not asked[0].requirements:
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
    asked += [read_constraints(Path(one), page=page) for one in constraints]
    wanted = functools.reduce(operator.add, asked)
    asked_for = combine_targets(names=list(names))
    python = find_environment_python(Path(venv)) if venv is not None else None
    own = None if asked_for else (probe_interpreter(python) if python else get_running_target()).generic()
    return BuildRequest(
        wanted,
        (own,) if own else asked_for,
        indexes.with_options(wanted.index_options),
        how,
        label.complete(wanted),
        lowers_minimum_libc=own is not None,
        **more,
    )


_KINDS: dict[int, type[OfflinepackError]] = {
    2: UsageError,
    3: SourceError,
    4: ResolutionError,
    5: SelectionError,
    6: FetchError,
    7: IntegrityError,
    8: BuildError,
    9: BundleError,
    10: MachineError,
    11: InstallError,
    12: ComputerError,
    13: PolicyError,
}
"""the table of exit codes"""


def _make_error(code: int, report: dict[str, Any], log: str) -> OfflinepackError:
    """The error that the target side told, with its findings."""
    findings_json = report.get("findings", [])
    findings = [
        Finding(entry["level"], entry["code"], entry["subject"], text(entry["sentence"]), text(entry["advice"]))
        for entry in findings_json
    ]
    return _KINDS.get(code, OfflinepackError)(*findings or [error("bug", "install", "{log}", log=log.strip())])
