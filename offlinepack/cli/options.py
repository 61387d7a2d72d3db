"""Groups of options; each group becomes one value, which the command's body receives instead of the flags."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from offlinepack import cli, included, targets
from offlinepack.errors import Finding, UsageError, error
from offlinepack.included import Included
from offlinepack.indexes import Indexes
from offlinepack.pack import How, Label
from offlinepack.store import Store
from offlinepack.targets import Target

if TYPE_CHECKING:
    from offlinepack.evidence.policy import Rules

Body = Callable[..., Any]
FILE = click.Path(path_type=Path)


def option(*declarations: str, rare: bool = False, **named: Any) -> cli.Option:
    """An option of a group."""
    if named.get("multiple") and named.get("type") is None:
        named["type"] = str
    return cli.Option(declarations, rare=rare, **named)


def group(name: str, build: Callable[..., Any], *parameters: click.Parameter) -> Callable[[Body], Body]:
    """A decorator: these parameters on the command line, the one value `name` in the body."""

    def decorate(body: Body) -> Body:
        own = [one.name or "" for one in parameters]

        @functools.wraps(body)
        def called(*args: Any, **values: Any) -> Any:
            value = build(**{key: values.pop(key) for key in own})
            return body(*args, **values, **{name: value})

        kept = list(getattr(body, "__click_params__", []))
        called.__click_params__ = kept + list(reversed(parameters))  # type: ignore[attr-defined]
        return called

    return decorate


def one(*declarations: str, **named: Any) -> Callable[[Body], Body]:
    """A decorator for an option that is no part of a group."""
    parameter = option(*declarations, **named)
    return group(parameter.name or "", lambda **value: value[parameter.name or ""], parameter)


@dataclass(frozen=True)
class What:
    """What was asked on the command line, not yet read."""

    requirements: tuple[str, ...]
    files: tuple[Path, ...]
    constraints: tuple[Path, ...]
    venv: Path | None
    project: Path | None
    extras: tuple[str, ...]
    groups: tuple[str, ...]
    exclude: tuple[str, ...]
    pre: bool
    no_deps: bool
    require_hashes: bool
    only_binary: tuple[str, ...]
    no_binary: tuple[str, ...]
    uploaded_prior_to: str | None
    locked: bool
    by_settings: bool
    """what is packed was named by [tool.offlinepack], not by who runs this"""


def _names(given: tuple[str, ...]) -> tuple[str, ...]:
    """Project names as pip reads them: repeated or with commas; :all: or :none: as they are."""
    from packaging.utils import canonicalize_name

    found: list[str] = []
    for one in ",".join(given).split(","):
        one = one.strip()
        if one == ":none:":
            found.clear()
        elif one:
            found.append(one if one.startswith(":") else canonicalize_name(one))
    return tuple(dict.fromkeys(found))


def _what(**values: Any) -> What:
    # what is packed is said in one place: by the command line, else by variables, else by the settings file
    named = ("requirements", "requirement", "venv", "project")
    ctx = click.get_current_context()
    said = {one: ctx.get_parameter_source(one) for one in named if values[one]}
    wins = min(said.values(), key=lambda one: list(ParameterSource).index(one or ParameterSource.DEFAULT), default=None)
    for one, source in said.items():
        if source != wins:
            values[one] = None if one in ("venv", "project") else ()
    return What(
        requirements=values["requirements"],
        files=values["requirement"],
        constraints=values["constraint"],
        venv=values["venv"],
        project=values["project"],
        extras=values["extra"],
        groups=values["group"],
        exclude=values["exclude"],
        pre=values["pre"],
        no_deps=values["no_deps"],
        require_hashes=values["require_hashes"],
        only_binary=_names(values["only_binary"]),
        no_binary=_names(values["no_binary"]),
        uploaded_prior_to=values["uploaded_prior_to"],
        locked=values["locked"],
        by_settings=wins is ParameterSource.DEFAULT_MAP,
    )


def _date(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A day or an instant of RFC 3339: what cannot be read must not pass as no limit."""
    try:
        if value and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise ValueError(value)
        datetime.fromisoformat((value or "2000-01-01").upper().replace("Z", "+00:00"))
    except ValueError:
        problem = f"{value} is no date; write 2026-01-31 or 2026-01-31T12:00:00Z."
        raise click.BadParameter(problem, ctx, option) from None
    return value


what = group(
    "what",
    _what,
    click.Argument(["requirements"], nargs=-1, metavar="[REQUIREMENT]..."),
    option(
        "-r",
        "--requirement",
        multiple=True,
        type=FILE,
        metavar="FILE",
        help="requirements.txt, .in, pylock.toml, uv.lock or pyproject.toml. May be repeated.",
    ),
    option(
        "-c",
        "--constraint",
        multiple=True,
        type=FILE,
        metavar="FILE",
        rare=True,
        help="Versions that may be used, if anything asks for the project.",
    ),
    option("--venv", type=FILE, metavar="DIR", help="Freeze this virtual environment."),
    option("--project", type=FILE, metavar="DIR", help="This project and what it needs, as its uv.lock has it."),
    option("--extra", multiple=True, metavar="NAME", help="An extra of the project."),
    option("--group", multiple=True, metavar="NAME", help="A dependency group of the project (PEP 735)."),
    option("--locked", is_flag=True, help="Use the lock as it is; exit 4 if it no longer fits what is asked."),
    option(
        "--exclude", multiple=True, metavar="NAME", rare=True, help="Leave this project out of a frozen environment."
    ),
    option("--pre", is_flag=True, rare=True, help="Take pre-releases too."),
    option("--no-deps", is_flag=True, rare=True, help="Only what is named, not what it needs."),
    option("--require-hashes", is_flag=True, rare=True, help="Every requirement must come with its hash."),
    option(
        "--only-binary",
        multiple=True,
        metavar="NAMES",
        rare=True,
        help="No source distributions for these projects, or :all:.",
    ),
    option(
        "--no-binary",
        multiple=True,
        metavar="NAMES",
        rare=True,
        help="No ready-made wheels for these projects, or :all:.",
    ),
    option(
        "--uploaded-prior-to",
        "--exclude-newer",
        metavar="DATE",
        rare=True,
        callback=_date,
        help="Only files that were uploaded before this date.",
    ),
)


@dataclass(frozen=True)
class For:
    """The targets that were asked for; none: the machine's own."""

    targets: tuple[Target, ...]
    notes: tuple[Finding, ...]


def catalogued(_ctx: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """The machines of the catalogue, for a shell that completes."""
    return [name for one in targets.catalogue() for name in (one.name, *one.synonyms) if name.startswith(begun)]


def _for(platform: Any, python_version: Any, implementation: Any, abi: Any, target: Any) -> For:
    found = targets.combine(
        platforms=platform, python_versions=python_version, implementations=implementation, abis=abi, names=target
    )
    return For(found, targets.abi_notes(abi))


for_ = group(
    "asked",
    _for,
    option(
        "--target",
        multiple=True,
        metavar="NAME|FILE",
        shell_complete=catalogued,
        help="A machine to pack for: debian12, rhel8:3.11, windows, a tag, or the file a probe wrote. May be repeated.",
    ),
    option(
        "--platform",
        multiple=True,
        metavar="TAG",
        help="Its platform tag, as for pip: manylinux_2_28_x86_64, win_amd64. Each one is a target.",
    ),
    option(
        "--python-version", multiple=True, metavar="X.Y", help="Its Python: 3.11, 3.11.4, 3.13t. Each one is a target."
    ),
    option("--implementation", multiple=True, metavar="cp|pp", rare=True, help="CPython or PyPy."),
    option("--abi", multiple=True, metavar="TAG", rare=True, help="Its ABI tag, cp313t for one."),
)


def _from(**values: Any) -> Indexes:
    ctx = click.get_current_context()
    settings = ctx.meta.get("offlinepack.indexes", {})
    return Indexes.from_settings(**values, **settings, folder=ctx.params.get("project"))


from_ = group(
    "indexes",
    _from,
    option("-i", "--index-url", metavar="URL", help="The index to take files from."),
    option(
        "--extra-index-url",
        multiple=True,
        metavar="URL",
        rare=True,
        help="A further index; the first that has a project wins.",
    ),
    option("-f", "--find-links", multiple=True, metavar="DIR|URL", help="A folder or page of wheels and sdists."),
    option("--no-index", is_flag=True, rare=True, help="No index: only what --find-links names."),
    option("--cert", metavar="FILE", rare=True, help="Certificates of the authorities to trust."),
    option("--client-cert", metavar="FILE", rare=True, help="Our certificate and key in one file."),
    option("--proxy", metavar="URL", rare=True, help="The proxy to go through."),
    option("--trusted-host", multiple=True, metavar="HOST", rare=True, help="A host whose certificate is not checked."),
    option(
        "--keyring-provider",
        type=click.Choice(["auto", "disabled", "import", "subprocess"]),
        rare=True,
        help="Where passwords are looked up.",
    ),
)


def _how(
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
) -> How:
    if no_cache and offline:
        raise UsageError(
            error(
                "offline-without-store",
                "--offline",
                "--offline takes everything from the store, and --no-cache has none.",
                "Leave one of them out.",
            )
        )
    folder = Store.default_folder() if cache_dir is None else cache_dir
    settings: dict[str, str | list[str]] = {}
    for one in config_settings:
        key, _, value = one.partition("=")
        said = settings.get(key)
        settings[key] = value if said is None else [*([said] if isinstance(said, str) else said), value]
    return How(
        resolver,
        sdist,
        jobs or How.jobs,
        retries,
        timeout,
        offline,
        None if no_cache else folder,
        build_pythons=build_python,
        build_root=root,
        build_constraints=build_constraint,
        config_settings=settings,
    )


how = group(
    "how",
    _how,
    option(
        "--resolver",
        type=click.Choice(["auto", "uv", "pip"]),
        default="auto",
        rare=True,
        help="Who decides on versions.",
    ),
    option(
        "--sdist",
        type=click.Choice(["build", "include"]),
        default="build",
        rare=True,
        help="What has no wheel: build it here, or include its source and all that its build takes there.",
    ),
    option("-j", "--jobs", type=click.IntRange(1, 64), rare=True, help="Downloads at a time (4 a core, at most 16)."),
    option(
        "--retries",
        type=click.IntRange(0, 100),
        rare=True,
        help="How often a failed request is tried again: 5 times.",
    ),
    option(
        "--timeout",
        type=click.FloatRange(min=0.1),
        metavar="SECONDS",
        rare=True,
        help="How long a server may keep silent: 15.",
    ),
    option("--cache-dir", type=FILE, metavar="DIR", rare=True, help="Where files are kept between runs."),
    option("--no-cache", is_flag=True, rare=True, help="Keep nothing between runs."),
    option("--offline", is_flag=True, help="No network: everything from the store."),
    option("--build-python", multiple=True, metavar="PY", rare=True, help="Build sources with this interpreter."),
    option("--root", type=FILE, metavar="DIR", rare=True, help="Build sources in this root file system of the target."),
    option("--build-constraint", multiple=True, type=FILE, metavar="FILE", rare=True, help="Versions for building."),
    option("--config-settings", multiple=True, metavar="KEY=VALUE", rare=True, help="For the build backend."),
)


def _size(ctx: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """3900M, 2G, or bytes; units of 1024."""
    found = re.fullmatch(r"([0-9]{1,12})([KMGT]?)(?:i?B)?", value or "", re.I)
    if value is None:
        return None
    if not found or not int(found[1]):
        raise click.BadParameter(f"{value} is no size; write 3900M or 2G.", ctx, option)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[found[2].upper()]


def _label(name: str | None, app_version: str | None, sequence: int | None, install_to: str | None) -> Label:
    if sequence is None and os.environ.get("SOURCE_DATE_EPOCH", "").isdigit():
        sequence = int(os.environ["SOURCE_DATE_EPOCH"])
    return Label(name=name or "", version=app_version, sequence=sequence, install_to=install_to)


label = group(
    "label",
    _label,
    option("--name", metavar="NAME", help="What the bundle is called."),
    option("--app-version", metavar="V", help="The version that the bundle carries in its name."),
    option(
        "--sequence",
        type=click.IntRange(min=0),
        metavar="N",
        rare=True,
        help="A number that grows with each release; a lower one is refused over there.",
    ),
    option("--install-to", metavar="DIR", rare=True, help="Where install puts the environment if it is not told."),
)


def _rules(policy: Path | None, vulnerabilities: Path | None) -> Rules | None:
    from offlinepack.evidence import policy as policies

    if policy:
        return policies.Rules(policies.read(policy), vulnerabilities)
    table = click.get_current_context().meta.get("offlinepack.policy")
    return policies.Rules(policies.of_table(*table), vulnerabilities) if table else None


POLICY = option(
    "--policy", type=FILE, metavar="FILE", rare=True, help="What may be in it, as rules in TOML; else exit 13."
)
SNAPSHOT = option(
    "--vulnerabilities",
    type=FILE,
    metavar="FILE",
    rare=True,
    help="What is known of vulnerabilities: pip-audit's JSON or OSV records; else pip-audit is asked.",
)
rules = group("rules", _rules, POLICY, SNAPSHOT)


@dataclass(frozen=True)
class With:
    """What goes with the bundle."""

    includes: tuple[Included, ...]
    bytecode: bool
    sign: Path | None
    split: int | None
    rehearse: bool


def _with(include: tuple[str, ...], bytecode: bool, sign: Path | None, split: int | None, rehearse: bool) -> With:
    return With(included.read(include), bytecode, sign, split, rehearse)


with_ = group(
    "extra",
    _with,
    option(
        "--include",
        multiple=True,
        metavar="PATH[=DEST]",
        help="A file or folder to carry along; DEST: also placed there.",
    ),
    option(
        "--bytecode",
        is_flag=True,
        rare=True,
        help="Carry compiled code where this host has the Python: installs faster.",
    ),
    option("--sign", type=FILE, metavar="KEY", help="Sign the bundle with this SSH key."),
    option("--rehearse", is_flag=True, help="Rehearse it first, for every target; the verdict goes in."),
    option("--split", metavar="SIZE", callback=_size, rare=True, help="Write it in parts of this size: 3900M, 2G."),
)
