"""Read the inputs of a build, and make its request: for the command line and for the Python API."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from offlinepack.errors import Finding, ResolutionError, SourceError, Text, UsageError, error, text, warning
from offlinepack.index.model import Indexes
from offlinepack.net.urls import redact_text
from offlinepack.pipeline.provider import fetch_page, make_own_wheels
from offlinepack.pipeline.request import BuildOptions, BuildRequest, BundleName, find_default_target
from offlinepack.requirements.discover import find_inputs, list_inputs
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.policy import ResolutionPolicy
from offlinepack.requirements.read import (
    find_project_lock,
    parse_arguments,
    read_constraints,
    read_environment,
    read_project,
    read_requirements_file,
)
from offlinepack.targets.model import Target


@dataclass(frozen=True)
class BuildInputs:
    """Named inputs, before they are read."""

    requirements: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    constraints: tuple[Path, ...] = ()
    venv: Path | None = None
    project: Path | None = None
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    policy: ResolutionPolicy = ResolutionPolicy()
    """added to the policies that the files set"""
    locked: bool = False
    is_from_settings: bool = False
    """whether [tool.offlinepack] names the inputs"""


def make_request(
    inputs: BuildInputs,
    targets: tuple[Target, ...],
    indexes: Indexes,
    options: BuildOptions,
    name: BundleName,
    folder: Path | None = None,
    on_read: Callable[[Text], None] = lambda _: None,
) -> BuildRequest:
    """Read the inputs and make a request of them; `on_read` is called with a sentence that says what was read.

    If nothing is named, `folder` is searched; without it, UsageError is raised. If there are no targets, the request is
    for the interpreter of `venv`, otherwise of the active environment, otherwise for the running one.
    """
    requirements, environment, summary = _read_inputs(inputs, indexes, options, folder)
    on_read(summary)
    _check_requirements(requirements, inputs)
    requirements = replace(requirements, policy=requirements.policy + inputs.policy)
    return BuildRequest(
        requirements,
        targets or (find_default_target(environment),),
        indexes.with_options(requirements.index_options),
        options,
        name.complete(requirements),
        lowers_minimum_libc=not targets,
    )


def _read_inputs(
    inputs: BuildInputs, indexes: Indexes, options: BuildOptions, folder: Path | None
) -> tuple[Requirements, Path | None, Text]:
    """Read all inputs into one value; return it with the frozen environment and a sentence about the inputs."""
    own_wheels = make_own_wheels(indexes, options)
    fetch = functools.partial(fetch_page, indexes=indexes, options=options)
    parts = [parse_arguments(inputs.requirements)] if inputs.requirements else []
    parts += _read_files(
        inputs.files,
        lambda path: read_requirements_file(
            path,
            extras=inputs.extras,
            groups=inputs.groups,
            locked=inputs.locked,
            project_wheels=own_wheels,
            page=fetch,
        ),
    )
    if inputs.venv:
        parts.append(read_environment(inputs.venv, exclude=inputs.exclude))
    if inputs.project:
        parts.append(
            read_project(
                inputs.project,
                extras=inputs.extras,
                groups=inputs.groups,
                locked=inputs.locked,
                project_wheels=own_wheels,
            )
        )
    environment = inputs.venv
    if parts:
        requirements = functools.reduce(operator.add, parts)
        summary = _describe_inputs(inputs, folder)
    elif folder is not None:
        discovered = find_inputs(
            folder,
            os.environ,
            extras=inputs.extras,
            groups=inputs.groups,
            exclude=inputs.exclude,
            locked=inputs.locked,
            project_wheels=own_wheels,
        )
        requirements, environment, summary = discovered.requirements, discovered.environment, discovered.summary
    else:
        raise UsageError(
            error(
                "nothing-asked",
                "offlinepack",
                "Nothing was asked for.",
                "Give requirements, requirement_files, venv or project.",
            )
        )
    for path in inputs.constraints:
        requirements = requirements + read_constraints(path, page=fetch)
    if inputs.exclude and not environment:
        unused = warning(
            "exclude-unused",
            "--exclude",
            "{subject} {names} leaves nothing out: it is for a frozen environment, and none is packed.",
            "Take it out of the requirements, or freeze an environment with --venv.",
            names=inputs.exclude,
        )
        requirements = replace(requirements, notes=(*requirements.notes, unused))
    return requirements, environment, summary


def _read_files(paths: Iterable[Path], read: Callable[[Path], Requirements]) -> list[Requirements]:
    """Read files; raise one error with the problems of all."""
    parts: list[Requirements] = []
    findings: list[Finding] = []
    for path in paths:
        try:
            parts.append(read(path))
        except SourceError as failure:
            findings += failure.findings
    if findings:
        raise SourceError(*findings)
    return parts


def _check_requirements(requirements: Requirements, inputs: BuildInputs) -> None:
    if not requirements.requirements and not requirements.pylocks:
        raise SourceError(
            error(
                "nothing-asked",
                "offlinepack",
                "What was taken asks for nothing: there is no requirement in it.",
                "Name requirements, a file with -r, --project or --venv.",
            )
        )
    if inputs.locked and not requirements.is_locked:
        raise ResolutionError(
            error(
                "no-lock",
                "--locked",
                "{subject} forbids to resolve, and no lock was given or found.",
                "Make one with `offlinepack lock` or `uv lock`, and give it with -r.",
            )
        )


def _describe_inputs(inputs: BuildInputs, folder: Path | None) -> Text:
    """Say which inputs were read and, if the settings name them, which others the folder has."""
    lock = find_project_lock(inputs.project, inputs.locked) if inputs.project else None
    project = f"{inputs.project} ({lock.name})" if lock else inputs.project
    folders = [f"{flag} {path}" for flag, path in (("--venv", inputs.venv), ("--project", project)) if path]
    names: list[object] = [redact_text(str(name)) for name in (*inputs.requirements, *inputs.files, *folders)]
    if not inputs.is_from_settings:
        return text("packing {taken}", taken=names)
    skipped = [name for name in list_inputs(folder or Path.cwd(), os.environ) if name not in map(str, names)]
    if not skipped:
        return text("packing {taken}, named by [tool.offlinepack]", taken=names)
    return text("packing {taken}, named by [tool.offlinepack]; passed over: {passed}", taken=names, passed=skipped)
