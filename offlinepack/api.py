"""Build, lock, install and verify from a program: the functions behind `from offlinepack import build`.

Paths may be strings. Nothing is printed, and no progress is shown. Each error is an OfflinepackError with an
`exit_code` (as on the command line) and all `findings`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from packaging.pylock import Pylock

from offlinepack.bundle.layout import make_pylock_name
from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import (
    BuildError,
    BundleError,
    ComputerError,
    FetchError,
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
    parse_finding,
)
from offlinepack.index.settings import read_settings
from offlinepack.launcher import run_installer
from offlinepack.ontarget.errors import EXIT_BUG, EXIT_INTERRUPTED
from offlinepack.ontarget.files import write_file_atomically
from offlinepack.ontarget.manifest import File, Manifest
from offlinepack.pipeline.build import BuildResult, build_bundles
from offlinepack.pipeline.includes import parse_includes
from offlinepack.pipeline.inputs import BuildInputs, make_request
from offlinepack.pipeline.lock import format_lock, lock_and_close
from offlinepack.pipeline.request import BuildOptions, BuildRequest, BundleName
from offlinepack.report.policy import PolicyCheck, read_policy
from offlinepack.requirements.policy import FormatControl, ResolutionPolicy
from offlinepack.signing import verify_signatures
from offlinepack.store import Store
from offlinepack.targets.parse import combine_targets

StrPath = str | os.PathLike[str]


class RequestOptions(TypedDict, total=False):
    """Keyword parameters that `build` and `lock` share; each means what the option of the same name means."""

    requirement_files: Iterable[StrPath]
    constraints: Iterable[StrPath]
    venv: StrPath | None
    project: StrPath | None
    extras: Sequence[str]
    groups: Sequence[str]
    exclude: Sequence[str]
    pre: bool
    no_deps: bool
    require_hashes: bool | None
    only_binary: Sequence[str]
    no_binary: Sequence[str]
    uploaded_prior_to: str | None
    locked: bool
    targets: Iterable[str]
    platforms: Sequence[str]
    python_versions: Sequence[str]
    implementations: Sequence[str]
    abis: Sequence[str]
    index_url: str | None
    extra_index_urls: Sequence[str]
    find_links: Sequence[str]
    no_index: bool
    cert: StrPath | None
    client_cert: StrPath | None
    proxy: str | None
    trusted_hosts: Sequence[str]
    keyring_provider: str | None
    resolver: str
    sdist: str
    jobs: int | None
    retries: int | None
    timeout: float | None
    offline: bool
    cache_dir: StrPath | None
    build_pythons: Sequence[str]
    build_root: StrPath | None
    build_constraints: Sequence[StrPath]
    config_settings: Mapping[str, str | list[str]]


def build(
    requirements: Iterable[str] = (),
    *,
    output: StrPath | None = None,
    name: str | None = None,
    version: str | None = None,
    sequence: int | None = None,
    install_to: str | None = None,
    includes: Sequence[str] = (),
    bytecode: bool = False,
    sign: StrPath | None = None,
    split: int | None = None,
    rehearse: bool = False,
    policy: StrPath | None = None,
    vulnerabilities: StrPath | None = None,
    lock_dir: StrPath | None = None,
    **options: Unpack[RequestOptions],
) -> BuildResult:
    """Pack requirements and all that they need, for each target, into one bundle.

    At least one of `requirements` ("flask>=3"), `requirement_files` (requirements.txt, pylock.toml, uv.lock,
    pyproject.toml), `venv` and `project` (folders) is given. `targets` are names of the catalogue ("debian12",
    "rhel8:3.11"), tags, or files that a probe wrote; without one it is the interpreter of `venv`, else of the active
    environment, else the running one. `output` (default ./<name>-<version>-offline.tar.gz) may hold {name}, {version}
    and {target}; with {target} there is one bundle for each target. `includes` are PATH or PATH=DEST, `split` is in
    bytes, `sequence` a number that grows with each release, `sign` the file of an SSH key, `policy` a file of rules.
    pip's settings are honoured as on the command line. `options` are the fields of RequestOptions.

    The result tells the `bundles` that were written (each with `archive.path`, `archive.size` in bytes,
    `archive.sha256` and its `manifest`), the `findings` worth knowing, and `seconds` for each stage.

    Raises UsageError (2), SourceError (3), ResolutionError (4), SelectionError (5), FetchError (6), IntegrityError (7),
    BuildError (8), ComputerError (12), PolicyError (13); nothing is left at `output` then.
    """
    bundle_name = BundleName(name or "", version, sequence, install_to)
    request = replace(
        _make_request(requirements, bundle_name, options),
        includes=parse_includes(includes),
        bytecode=bytecode,
        signing_key=Path(sign) if sign is not None else None,
        part_size=split,
        rehearse=rehearse,
        policy=_make_policy_check(policy, vulnerabilities),
        lock_dir=Path(lock_dir) if lock_dir is not None else None,
    )
    return build_bundles(request, Path(output) if output is not None else Path(request.bundle_name.archive_name))


def lock(
    requirements: Iterable[str] = (), *, output: StrPath | None = None, **options: Unpack[RequestOptions]
) -> dict[str, Pylock]:
    """Lock the requirements for each target: target's tag -> `packaging.pylock.Pylock` (PEP 751). Nothing is packed.

    Parameters as for `build`. With `output`, a folder, each lock is also written there as pylock.<tag>.toml.

    Raises UsageError (2), SourceError (3), ResolutionError (4), SelectionError (5: a package has no file for a target),
    FetchError (6), ComputerError (12).
    """
    locks = lock_and_close(_make_request(requirements, BundleName(), options))
    if output is not None:
        for target_lock in locks:
            path = Path(output) / make_pylock_name(target_lock.target.tag)
            write_file_atomically(path, format_lock(target_lock).encode())
    return {target_lock.target.tag: target_lock.pylock for target_lock in locks}


def _make_request(requirements: Iterable[str], name: BundleName, options: RequestOptions) -> BuildRequest:
    def get_path(value: StrPath | None) -> Path | None:
        return Path(value) if value is not None else None

    def get_paths(values: Iterable[StrPath]) -> tuple[Path, ...]:
        return tuple(Path(value) for value in values)

    inputs = BuildInputs(
        requirements=tuple(requirements),
        files=get_paths(options.get("requirement_files", ())),
        constraints=get_paths(options.get("constraints", ())),
        venv=get_path(options.get("venv")),
        project=get_path(options.get("project")),
        extras=tuple(options.get("extras", ())),
        groups=tuple(options.get("groups", ())),
        exclude=tuple(options.get("exclude", ())),
        policy=ResolutionPolicy(
            no_deps=options.get("no_deps", False),
            pre=options.get("pre", False),
            require_hashes=options.get("require_hashes"),
            format_control=FormatControl(
                (
                    *(("only-binary", name) for name in options.get("only_binary", ())),
                    *(("no-binary", name) for name in options.get("no_binary", ())),
                )
            ),
            uploaded_prior_to=options.get("uploaded_prior_to"),
        ),
        locked=options.get("locked", False),
    )
    targets = combine_targets(
        options.get("platforms", ()),
        options.get("python_versions", ()),
        options.get("implementations", ()),
        options.get("abis", ()),
        list(options.get("targets", ())),
    )
    indexes = read_settings(
        options.get("index_url"),
        options.get("extra_index_urls", ()),
        options.get("find_links", ()),
        options.get("no_index", False),
        get_path(options.get("cert")),
        get_path(options.get("client_cert")),
        options.get("proxy"),
        options.get("trusted_hosts", ()),
        options.get("keyring_provider"),
        folder=inputs.project,
    )
    build_options = BuildOptions(
        options.get("resolver", "auto"),
        options.get("sdist", "build"),
        options.get("jobs") or BuildOptions.jobs,
        options.get("retries"),
        options.get("timeout"),
        options.get("offline", False),
        get_path(options.get("cache_dir")) or Store.get_default_folder(),
        build_pythons=tuple(options.get("build_pythons", ())),
        build_root=get_path(options.get("build_root")),
        build_constraints=get_paths(options.get("build_constraints", ())),
        config_settings=options.get("config_settings", {}),
    )
    return make_request(inputs, targets, indexes, build_options, name)


def _make_policy_check(policy: StrPath | None, vulnerabilities: StrPath | None) -> PolicyCheck | None:
    if policy is None:
        return None
    return PolicyCheck(read_policy(Path(policy)), Path(vulnerabilities) if vulnerabilities is not None else None)


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
    """Return the error that the target side reported, with its findings."""
    findings = [parse_finding(entry) for entry in report.get("findings", [])]
    return _KINDS.get(code, OfflinepackError)(*findings or [error("bug", "install", "{log}", log=log.strip())])
