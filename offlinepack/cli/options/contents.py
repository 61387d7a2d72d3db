"""Options for what a bundle contains besides distributions, and how it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import click

from offlinepack.cli.options.base import FILE, group_options, make_option
from offlinepack.pipeline.includes import parse_includes
from offlinepack.pipeline.request import IncludedFile


def _parse_size(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Parse a size such as 3900M, 2G or a number of bytes, in units of 1024."""
    match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)(?:i?B)?", value or "", re.I)
    if value is None:
        return None
    if not match or not int(match[1]):
        raise click.BadParameter(f"{value} is no size; write 3900M or 2G.", ctx, option)
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[match[2].upper()]


@dataclass(frozen=True)
class BundleContents:
    """What the bundle contains besides distributions, and how it is written."""

    includes: tuple[IncludedFile, ...]
    bytecode: bool
    signing_key: Path | None
    part_size: int | None
    rehearse: bool


def _make_bundle_contents(
    include: tuple[str, ...], bytecode: bool, sign: Path | None, split: int | None, rehearse: bool
) -> BundleContents:
    return BundleContents(parse_includes(include), bytecode, sign, split, rehearse)


contents_options = group_options(
    "contents",
    _make_bundle_contents,
    make_option(
        "--include",
        multiple=True,
        metavar="PATH[=DEST]",
        help="A file or folder to carry along; DEST: also placed there.",
    ),
    make_option(
        "--bytecode",
        is_flag=True,
        rare=True,
        help="Carry compiled code where this host has the Python: installs faster.",
    ),
    make_option("--sign", type=FILE, metavar="KEY", help="Sign the bundle with this SSH key."),
    make_option("--rehearse", is_flag=True, help="Rehearse it first, for every target; the verdict goes in."),
    make_option(
        "--split", metavar="SIZE", callback=_parse_size, rare=True, help="Write it in parts of this size: 3900M, 2G."
    ),
)
