"""Options that name the targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from offlinepack.cli.options.base import group_options, make_option
from offlinepack.errors import Finding
from offlinepack.targets.catalogue import load_catalogue
from offlinepack.targets.model import Target
from offlinepack.targets.parse import combine_targets, report_unused_abis


@dataclass(frozen=True)
class TargetOptions:
    """Requested targets; empty means the target of this machine."""

    targets: tuple[Target, ...]
    notes: tuple[Finding, ...]


def complete_target_name(_ctx: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """Complete names of the catalogue for a shell."""
    return [name for system in load_catalogue() for name in (system.name, *system.synonyms) if name.startswith(begun)]


def _make_target_options(
    platform: Any, python_version: Any, implementation: Any, abi: Any, target: Any
) -> TargetOptions:
    parsed = combine_targets(
        platforms=platform, python_versions=python_version, implementations=implementation, abis=abi, names=target
    )
    return TargetOptions(parsed, report_unused_abis(abi))


target_options = group_options(
    "target_options",
    _make_target_options,
    make_option(
        "--target",
        multiple=True,
        metavar="NAME|FILE",
        shell_complete=complete_target_name,
        help="A machine to pack for: debian12, rhel8:3.11, windows, a tag, or the file a probe wrote. May be repeated.",
    ),
    make_option(
        "--platform",
        multiple=True,
        metavar="TAG",
        help="Its platform tag, as for pip: manylinux_2_28_x86_64, win_amd64. Each one is a target.",
    ),
    make_option(
        "--python-version", multiple=True, metavar="X.Y", help="Its Python: 3.11, 3.11.4, 3.13t. Each one is a target."
    ),
    make_option("--implementation", multiple=True, metavar="cp|pp", rare=True, help="CPython or PyPy."),
    make_option("--abi", multiple=True, metavar="TAG", rare=True, help="Its ABI tag, cp313t for one."),
)
