"""[tool.offlinepack] of pyproject.toml, or offlinepack.toml: the long options as keys, plural where they repeat."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from offlinepack.errors import Finding, SourceError, error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLES = {"sources", "policy", "index"}
"""keys of [tool.offlinepack] that are read by the stage that they are about, not as options"""


def find(folder: Path, given: str | None = None) -> Path | None:
    """The file with the settings for work in `folder`: the one given, offlinepack.toml, or pyproject.toml."""
    if given:
        if not Path(given).is_file():
            raise SourceError(
                error("no-settings", given, "There is no settings file {subject}.", "Mend --config, or leave it out.")
            )
        return Path(given)
    for name in ("offlinepack.toml", "pyproject.toml"):
        if (folder / name).is_file():
            return folder / name
    return None


def read(path: Path) -> dict[str, Any]:
    """The table of settings in this file; empty where it has none."""
    try:
        data = path.read_bytes()
        document: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SourceError(
            error("bad-toml", path, "{subject} is not TOML: {words}.", "Mend that line.", words=problem)
        ) from problem
    whole = path.name != "pyproject.toml" and "tool" not in document
    table = document if whole else document.get("tool", {}).get("offlinepack", {})
    if not isinstance(table, dict):
        raise SourceError(
            error("bad-settings", path, "{subject}: tool.offlinepack is not a table.", "Write [tool.offlinepack].")
        )
    return table


def indexes(path: Path) -> dict[str, Any]:
    """The tables `index` and `sources`, by the names that Indexes.from_settings gives them, and the file's folder."""
    table = read(path)
    found = {"index": table.get("index", []), "sources": table.get("sources", {})}
    expected = {
        "index": (list, "tables: [[tool.offlinepack.index]] with name and url"),
        "sources": (dict, 'a table: [tool.offlinepack.sources] with project = "index"'),
    }
    wrong = [
        error(
            "bad-setting",
            f"{path.name}:{_line(path, key)}",
            "{subject}: '{key}' takes {expected}.",
            "Write it so.",
            key=key,
            expected=expected[key][1],
        )
        for key, value in found.items()
        if not isinstance(value, expected[key][0])
    ]
    if wrong:
        raise SourceError(*wrong)
    return {**found, "beside": path.absolute().parent}


def defaults(path: Path, parameters: Mapping[str, Sequence[click.Parameter]], command: str) -> dict[str, Any]:
    """Click's default_map for one command, from the settings in `path`; every unknown or ill-typed key at once."""
    table = read(path)
    known = {key: one for name in parameters for one in parameters[name] for key in keys(one)}
    own = {key: one for one in parameters[command] for key in keys(one)}
    findings: list[Finding] = []
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key in TABLES:
            continue
        option = own.get(key) or known.get(key)
        if option is None:
            near = ", ".join(difflib.get_close_matches(key, known, 1))
            where = f"{path.name}:{_line(path, key)}"
            if near:
                findings.append(
                    error(
                        "unknown-setting",
                        where,
                        "{subject}: there is no setting '{key}'.",
                        "Did you mean '{near}'?",
                        key=key,
                        near=near,
                    )
                )
            else:
                findings.append(
                    error(
                        "unknown-setting",
                        where,
                        "{subject}: there is no setting '{key}'.",
                        "Settings have the names of the long options: offlinepack build --help-all.",
                        key=key,
                    )
                )
        elif not _fits(option, value):
            findings.append(
                error(
                    "bad-setting",
                    f"{path.name}:{_line(path, key)}",
                    "{subject}: '{key}' takes {expected}.",
                    "Write it so.",
                    key=key,
                    expected=_expected(option),
                )
            )
        elif key in own:
            found[option.name or ""] = _value(option, value)
    if findings:
        raise SourceError(*findings)
    return found


def keys(parameter: click.Parameter) -> tuple[str, ...]:
    """The names under which a parameter stands in a settings file: the long option; plural where it may be repeated."""
    if isinstance(parameter, click.Argument):
        return ("requirements",) if parameter.name == "requirements" else ()
    if not parameter.expose_value:
        return ()
    names = [one[2:] for one in parameter.opts if one.startswith("--")]
    return tuple(_plural(name) for name in names) if _many(parameter) else tuple(names)


def _plural(name: str) -> str:
    if name == "requirement":
        return "requirement-files"
    if re.search(r"[^aeiou]y$", name):
        return name[:-1] + "ies"
    if name.endswith("s"):
        return name
    return name + ("es" if name.endswith(("x", "ch")) else "s")


def _many(parameter: click.Parameter) -> bool:
    return parameter.multiple or parameter.nargs == -1


def _flag(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.is_flag


def _fits(parameter: click.Parameter, value: Any) -> bool:
    if _flag(parameter):
        return isinstance(value, bool)
    if _many(parameter):
        return isinstance(value, list) and all(isinstance(one, (str, int)) for one in value)
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _expected(parameter: click.Parameter) -> str:
    return "true or false" if _flag(parameter) else "a list of strings" if _many(parameter) else "a string or a number"


def _value(parameter: click.Parameter, value: Any) -> Any:
    if _many(parameter):
        return [str(one) for one in value]
    return value if _flag(parameter) else str(value)


def _line(path: Path, key: str) -> int:
    """The line on which a key stands, 1 where it cannot be told."""
    table = path.name != "pyproject.toml"
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if line.strip().startswith("["):
            table = line.strip().startswith("[tool.offlinepack") or path.name != "pyproject.toml"
        if table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return 1
