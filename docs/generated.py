# ruff: noqa: E501
"""A hook of mkdocs: the pages under reference/ are made from the code when the site is built; none of them is kept."""

from __future__ import annotations

import inspect
import re
from typing import Any

import click
from mkdocs.structure.files import File, Files

from offlinepack import api, errors
from offlinepack.bundle.layout import FILES, INSTALL_CMD, INSTALL_SH, PROVENANCE, README, README_ZH, REHEARSAL, SBOM
from offlinepack.cli.command import Option
from offlinepack.cli.config import PACKING_COMMANDS, list_setting_names
from offlinepack.cli.main import COMMANDS, root_command
from offlinepack.errors import OfflinepackError
from offlinepack.ontarget import manifest
from offlinepack.ontarget.command import INSTALL_OPTIONS, OTHER_OPTIONS
from offlinepack.ontarget.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_SUCCESS
from offlinepack.ontarget.manifest import (
    BYTECODE,
    FORMAT,
    INSTALL_PY,
    KINDS,
    MANIFEST,
    MAX_MANIFEST_SIZE,
    ONTARGET,
    SDISTS,
    SIGNATURES,
    SUMS,
    TOOLS,
    WHEELS,
    Distribution,
    Facts,
    Manifest,
    Need,
    TargetPlan,
    Tool,
)
from offlinepack.targets.catalogue import load_catalogue


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for name, page in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    return files


def pages() -> dict[str, str]:
    """Name -> Markdown."""
    return {
        "commands": commands(),
        "settings": variables(),
        "bundle": bundle(),
        "targets": catalogue(),
        "exit-codes": codes(),
        "api": functions(),
    }


def _commands() -> dict[str, click.Command]:
    found = {name: root_command.get_command(click.Context(root_command), name) for name in COMMANDS}
    return {name: one for name, one in found.items() if one}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _options(one: click.Command) -> str:
    rows = []
    for option in one.params:
        if isinstance(option, click.Option) and option.name not in ("help", "help_all"):
            names = ", ".join(f"`{each}`" for each in option.opts)
            value = "" if option.is_flag or option.count else f" `{option.make_metavar(click.Context(one))}`"
            rows.append(f"| {names}{value} | {_cell(option.help or '')} |")
    return "| option | |\n| --- | --- |\n" + "\n".join(rows)


def commands() -> str:
    """Every command with all its options."""
    parts = ["# Commands\n\nWhat `--help-all` of each command prints. Options that every command has stand in each table.\n"]
    for name, one in _commands().items():
        usage = one.get_usage(click.Context(one, info_name=f"offlinepack {name}")).removeprefix("Usage: ")
        parts.append(f"## {name}\n\n```text\n{usage}\n```\n\n{inspect.cleandoc(one.help or '')}\n\n{_options(one)}\n")
    rows = [f"| `{name}{' ' + value if value else ''}` | {_cell(str(meaning))} |" for name, value, meaning in
            (*INSTALL_OPTIONS, *OTHER_OPTIONS)]
    parts.append("## install.py in a bundle\n\n`python3 NAME/install.py`, Python 3.6 or newer.\n\n| option | |\n| --- | --- |\n"
                 + "\n".join(rows) + "\n")
    return "\n".join(parts)


def variables() -> str:
    """Settings files and variables."""
    rows = []
    seen = set()
    for name, one in _commands().items():
        for option in one.params:
            if isinstance(option, Option) and option.envvar not in seen:
                seen.add(option.envvar)
                keys = list_setting_names(option) if name in PACKING_COMMANDS else ()
                rows.append(f"| `{max(option.opts, key=len)}` | `{option.envvar}` | {', '.join(f'`{k}`' for k in keys)} |")
    head = inspect.cleandoc(
        """
        # Settings and variables

        The command line wins over variables, variables over the settings file. Settings stand in `[tool.offlinepack]` of
        `pyproject.toml`, or in `offlinepack.toml`; `offlinepack init` writes them after a look at the project. Paths are
        relative to that file. A key that is not known is refused with its line and the nearest one that is; so is a value
        that its option would not take. What is to be packed is said in one place: a requirement on the command line leaves
        the settings' sources out.

        `[[tool.offlinepack.index]]` (`name`, `url`) and `[tool.offlinepack.sources]` (`project = "index name"`) say which
        project comes from which index. What merely lies in the working directory (it may be a stick that came with the
        bundle) does not set `allow-downgrade`, `force`, `keep-going`, `live`, `python` or `smoke` of the commands that read bundles:
        there it is `--config FILE`.

        Also heard: `NO_COLOR`, `SOURCE_DATE_EPOCH` (the sequence), pip's settings (`pip.conf`, `PIP_*`), uv's
        (`UV_INDEX`, `UV_DEFAULT_INDEX`), `.netrc`, and the proxy variables.
        """
    )
    return f"{head}\n\n| option | variable | setting |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def bundle() -> str:
    """Bundle format 1, from the types that read it."""
    parts = [
        inspect.cleandoc(
            f"""
            # Bundle format {FORMAT}

            A tar.gz with one folder, `<name>-<version>/` (`<name>/` without a version). Its first member is
            `{MANIFEST}`, canonical JSON, at most {MAX_MANIFEST_SIZE >> 20} MiB; then come up to two signatures
            ({", ".join(f"`{one}`" for one in SIGNATURES)}; OpenSSH, namespace `offlinepack`), `{SUMS}` and the
            files, sorted. Owner 0:0, fixed times and modes: the same lock, store and options give the same bytes.

            | path | what |
            | --- | --- |
            | `{README}`, `{README_ZH}` | for the person who has nothing else |
            | `{INSTALL_PY}`, `{INSTALL_SH}`, `{INSTALL_CMD}`, `{ONTARGET}/` | the target side, plain files |
            | `pylock.<tag>.toml` | PEP 751 lock of a target; pip 26.1 and newer and uv install from it |
            | `requirements.<tag>.txt` | pins with hashes, for `pip install --no-index --find-links wheels -r` |
            | `{WHEELS}/`, `{SDISTS}/`, `{TOOLS}/`, `{BYTECODE}/` | distributions, what installs them, compiled code |
            | `{FILES}/` | what `--include` named |
            | `{PROVENANCE}/`, `{SBOM}`, `{REHEARSAL}` | evidence |

            Unknown keys are refused. A reader refuses a newer format with exit code 9 and opens every older one.
            """
        )
    ]
    source = inspect.getsource(manifest)
    for one in (Manifest, TargetPlan, Distribution, Tool, Need, manifest.File,
                Facts):
        parts.append(f"## {one.__name__}\n\n{inspect.cleandoc(one.__doc__ or '')}\n\n| key | type | |\n| --- | --- | --- |")
        body = source[source.index(f"class {one.__name__}(") :].split("\nclass ")[0]
        for field in one._fields:
            comment = re.search(rf"^    {field}: [^#\n]*#\s*(.*)$", body, re.M)
            kind = re.sub(r"typing\.|ForwardRef\(|\)|'", "", str(one.__annotations__[field]))
            kind = re.sub(r"<class (\w+)>?", r"\1", kind).replace("offlinepack.ontarget.manifest.", "").rstrip(">")
            parts.append(f"| `{field}` | {_cell(kind)} | {_cell(comment[1] if comment else '')} |")
        parts.append("")
    parts.append("`kind` of a file is one of: " + ", ".join(f"`{one}`" for one in KINDS) + ".\n")
    return "\n".join(parts)


def catalogue() -> str:
    """The catalogue of machines."""
    rows = []
    for one in load_catalogue():
        level = f"{one.libc} {one.libc_version}" if one.libc else f"macOS {one.macos_version}" if one.macos_version else ""
        pythons = " ".join(f"**{each}**" if each == one.default else each for each in one.pythons)
        rows.append(f"| {', '.join(f'`{n}`' for n in (one.name, *one.synonyms))} | {level} | {pythons} | {', '.join(one.machines)} |")
    head = inspect.cleandoc(
        """
        # Targets

        `--target NAME[-ARCH][:X.Y]`, for example `rhel8-aarch64:3.11`. The default Python is bold; where none is, name one.
        Also a tag (`cp311-manylinux_2_28_x86_64`), the file that `offlinepack probe` writes, or pex's complete platform.
        `offlinepack targets NAME` shows one target's facts, markers and tags.
        """
    )
    return f"{head}\n\n| name | level | Pythons | machines |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"


def codes() -> str:
    """The exit codes, from the tree of errors."""
    kinds = {one.exit_code: one for one in vars(errors).values() if isinstance(one, type)
             and issubclass(one, OfflinepackError) and one is not OfflinepackError}
    rows = {EXIT_SUCCESS: "done, or there was nothing to do", EXIT_BUG: "a bug: report what `--debug` prints", EXIT_INTERRUPTED: "interrupted"}
    rows.update({code: _cell(inspect.cleandoc(one.__doc__ or "").splitlines()[0]) for code, one in kinds.items()})
    table = "\n".join(f"| {code} | {kinds[code].__name__ if code in kinds else ''} | {rows[code]} |" for code in sorted(rows))
    return ("# Exit codes\n\nOne table for both sides; never 0 when a requirement was dropped or a target came out empty. "
            f"[When it fails](../how-to/when-it-fails.md) has a section for each.\n\n| code | error | |\n| ---: | --- | --- |\n{table}\n")


def functions() -> str:
    """The public API."""
    parts = ["# Python API\n\n`from offlinepack import build, lock, install, verify`. Everything else is ours to move.\n"]
    for name in ("build", "lock", "install", "verify"):
        one = getattr(api, name)
        signature = str(inspect.signature(one)).replace("'", "")
        parts.append(f"## {name}\n\n```python\n{name}{signature}\n```\n\n{inspect.cleandoc(one.__doc__ or '')}\n")
    fields = "\n".join(f"{name}: {kind.__forward_arg__}" for name, kind in inspect.get_annotations(api.RequestOptions).items())
    parts.append(f"## RequestOptions\n\n{inspect.cleandoc(api.RequestOptions.__doc__ or '')}\n\n```python\n{fields}\n```\n")
    return "\n".join(parts)
