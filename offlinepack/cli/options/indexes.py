"""Options that name indexes and the way to reach them."""

from __future__ import annotations

from typing import Any

import click

from offlinepack.cli.options.base import group_options, make_option
from offlinepack.index.model import Indexes
from offlinepack.index.settings import read_settings


def _make_indexes(**values: Any) -> Indexes:
    ctx = click.get_current_context()
    settings = ctx.meta.get("offlinepack.index.model", {})
    return read_settings(**values, **settings, folder=ctx.params.get("project"))


index_options = group_options(
    "indexes",
    _make_indexes,
    make_option("-i", "--index-url", metavar="URL", help="The index to take files from."),
    make_option(
        "--extra-index-url",
        multiple=True,
        metavar="URL",
        rare=True,
        help="A further index; the first that has a project wins.",
    ),
    make_option("-f", "--find-links", multiple=True, metavar="DIR|URL", help="A folder or page of wheels and sdists."),
    make_option("--no-index", is_flag=True, rare=True, help="No index: only what --find-links names."),
    make_option("--cert", metavar="FILE", rare=True, help="Certificates of the authorities to trust."),
    make_option("--client-cert", metavar="FILE", rare=True, help="Our certificate and key in one file."),
    make_option("--proxy", metavar="URL", rare=True, help="The proxy to go through."),
    make_option(
        "--trusted-host", multiple=True, metavar="HOST", rare=True, help="A host whose certificate is not checked."
    ),
    make_option(
        "--keyring-provider",
        type=click.Choice(["auto", "disabled", "import", "subprocess"]),
        rare=True,
        help="Where passwords are looked up.",
    ),
)
