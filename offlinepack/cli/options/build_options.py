"""Options for the resolver, downloads and sdists, which become a BuildOptions value."""

from __future__ import annotations

from pathlib import Path

import click

from offlinepack.cli.options.base import FILE, group_options, make_option
from offlinepack.errors import UsageError, error
from offlinepack.pipeline.request import BuildOptions
from offlinepack.store import Store


def _make_build_options(
    resolver: str,
    sdist: str,
    jobs: int | None,
    retries: int | None,
    timeout: float | None,
    cache_dir: Path | None,
    no_cache: bool,
    offline: bool,
    build_python: tuple[str, ...],
    root: Path | None,
    build_constraint: tuple[Path, ...],
    config_settings: tuple[str, ...],
) -> BuildOptions:
    if no_cache and offline:
        raise UsageError(
            error(
                "offline-without-store",
                "--offline",
                "--offline takes everything from the store, and --no-cache has none.",
                "Leave one of them out.",
            )
        )
    folder = Store.get_default_folder() if cache_dir is None else cache_dir
    settings: dict[str, str | list[str]] = {}
    for setting in config_settings:
        key, _, value = setting.partition("=")
        former = settings.get(key)
        settings[key] = value if former is None else [*([former] if isinstance(former, str) else former), value]
    return BuildOptions(
        resolver,
        sdist,
        jobs or BuildOptions.jobs,
        retries,
        timeout,
        offline,
        None if no_cache else folder,
        build_pythons=build_python,
        build_root=root,
        build_constraints=build_constraint,
        config_settings=settings,
    )


build_options = group_options(
    "options",
    _make_build_options,
    make_option(
        "--resolver",
        type=click.Choice(["auto", "uv", "pip"]),
        default="auto",
        rare=True,
        help="Who decides on versions.",
    ),
    make_option(
        "--sdist",
        type=click.Choice(["build", "include"]),
        default="build",
        rare=True,
        help="What has no wheel: build it here, or include its source and all that its build takes there.",
    ),
    make_option(
        "-j", "--jobs", type=click.IntRange(1, 64), rare=True, help="Downloads at a time (4 a core, at most 16)."
    ),
    make_option(
        "--retries", type=click.IntRange(0, 100), rare=True, help="How often a failed request is tried again: 5 times."
    ),
    make_option(
        "--timeout",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        rare=True,
        help="How long a server may keep silent: 15.",
    ),
    make_option("--cache-dir", type=FILE, metavar="DIR", rare=True, help="Where files are kept between runs."),
    make_option("--no-cache", is_flag=True, rare=True, help="Keep nothing between runs."),
    make_option("--offline", is_flag=True, help="No network: everything from the store."),
    make_option("--build-python", multiple=True, metavar="PY", rare=True, help="Build sources with this interpreter."),
    make_option(
        "--root", type=FILE, metavar="DIR", rare=True, help="Build sources in this root file system of the target."
    ),
    make_option(
        "--build-constraint", multiple=True, type=FILE, metavar="FILE", rare=True, help="Versions for building."
    ),
    make_option("--config-settings", multiple=True, metavar="KEY=VALUE", rare=True, help="For the build backend."),
)
