"""Options for the name, version, sequence number and location of a bundle."""

from __future__ import annotations

import os

import click

from offlinepack.cli.options.base import group_options, make_option
from offlinepack.pipeline.request import BundleName


def _make_bundle_name(
    name: str | None, app_version: str | None, sequence: int | None, install_to: str | None
) -> BundleName:
    if sequence is None and os.environ.get("SOURCE_DATE_EPOCH", "").isdigit():
        sequence = int(os.environ["SOURCE_DATE_EPOCH"])
    return BundleName(name=name or "", version=app_version, sequence=sequence, install_to=install_to)


name_options = group_options(
    "name",
    _make_bundle_name,
    make_option("--name", metavar="NAME", help="What the bundle is called."),
    make_option("--app-version", metavar="V", help="The version that the bundle carries in its name."),
    make_option(
        "--sequence",
        type=click.IntRange(min=0),
        metavar="N",
        rare=True,
        help="A number that grows with each release; a lower one is refused over there.",
    ),
    make_option("--install-to", metavar="DIR", rare=True, help="Where install puts the environment if it is not told."),
)
