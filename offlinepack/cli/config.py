"""Read, check and write the settings of a project: [tool.offlinepack] in pyproject.toml, or offlinepack.toml.

A key is the name of a long option, in the plural if the option may be repeated.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from offlinepack.cli.command import Option
from offlinepack.errors import Finding, SourceError, error, warning

TABLE_KEYS = {"sources", "index"}
"""keys of [tool.offlinepack] that are read by the stage that they are about, not as options"""

_INDEX_KEYS = {"name", "url", "default", "explicit", "ignore-error-codes"}

_INDEX_KEYS |= {"authenticate", "cache-control", "format", "publish-url"}  # uv's, which say nothing to us


def find_config_file(folder: Path, path_name: str | None = None) -> Path | None:
    """Return the settings file of a folder: the given one, offlinepack.toml or pyproject.toml."""
    if path_name:
        if not Path(path_name).is_file():
            raise SourceError(
                error(
                    "no-settings", path_name, "There is no settings file {subject}.", "Mend --config, or leave it out."
                )
            )
        return Path(path_name)
    for name in ("offlinepack.toml", "pyproject.toml"):
        if (folder / name).is_file():
            return folder / name
    return None


def read_config(path: Path) -> dict[str, Any]:
    """Read the table of settings in a file; empty if it has none."""
    return _read_table(path) or {}


def has_config(path: Path) -> bool:
    """Return whether the file has a table of settings, even an empty one."""
    return path.is_file() and _read_table(path) is not None


def _read_table(path: Path) -> dict[str, Any] | None:
    try:
        data = path.read_bytes()
        document: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SourceError(
            error("bad-toml", path, "{subject} is not TOML: {words}.", "Mend that line.", words=problem)
        ) from problem
    whole = path.name != "pyproject.toml" and "tool" not in document
    table = document if whole else document.get("tool", {}).get("offlinepack")
    if not isinstance(table, dict | None):
        raise SourceError(
            error("bad-settings", path, "{subject}: tool.offlinepack is not a table.", "Write [tool.offlinepack].")
        )
    return table


def read_index_tables(path: Path) -> dict[str, Any]:
    """Read the tables `index` and `sources` as arguments of index.settings.read_settings."""
    table = read_config(path)
    index_tables = {"index": table.get("index", []), "sources": table.get("sources", {})}
    expected = {
        "index": (list, "tables: [[tool.offlinepack.index]] with name and url"),
        "sources": (dict, 'a table: [tool.offlinepack.sources] with project = "index"'),
    }
    wrong = [
        error(
            "bad-setting",
            f"{path.name}:{_find_line(path, key)}",
            "{subject}: '{key}' takes {expected}.",
            "Write it so.",
            key=key,
            expected=expected[key][1],
        )
        for key, value in index_tables.items()
        if not isinstance(value, expected[key][0])
    ]
    tables = index_tables["index"] if isinstance(index_tables["index"], list) else []
    unknown = {key for index in tables if isinstance(index, dict) for key in index} - _INDEX_KEYS
    wrong += [
        _report_unknown_setting(f"{path.name}:{_find_line(path, key)}", key, _INDEX_KEYS) for key in sorted(unknown)
    ]
    if wrong:
        raise SourceError(*wrong)
    return {**index_tables, "project_folder": path.absolute().parent}


def read_policy_table(path: Path) -> tuple[dict[str, Any], str, Callable[[str], str]] | None:
    """Read the table `policy`, with names for messages; None if there is none (a string belongs to --policy)."""
    table = read_config(path).get("policy")
    if not isinstance(table, dict):
        return None
    return table, f"{path.name}, [tool.offlinepack.policy]", lambda key: f"{path.name}:{_find_line(path, key)}"


PACKING_COMMANDS = ("build", "lock")
"""the commands that settings are about: a key of theirs (venv, the environment to freeze) means nothing elsewhere"""

BUNDLE_COMMANDS = ("install", "verify", "rollback", "inspect", "rehearse")
"""those that are run where a bundle came to"""

_UNSAFE_OPTIONS = {"allow_downgrade", "force", "keep_going", "live", "python", "smoke"}
"""options of theirs that take a guard away, or run a program"""


def make_default_map(path: Path, commands: Mapping[str, click.Command], command: str, *, named: bool) -> dict[str, Any]:
    """Make click's default_map of one command from a settings file; report all unknown keys and bad values at once.

    `named`: somebody said --config. What merely lies in the working directory, which may be a stick that came with the
    bundle, takes no guard away from the commands that look at bundles.
    """
    table = read_config(path)
    settings = {
        key: (name, parameter)
        for name in list(commands)[::-1]
        for parameter in commands[name].params
        for key in list_setting_names(parameter)
    }
    # `target` of install would be taken for what build calls targets
    settings = {
        key: setting
        for key, setting in settings.items()
        if setting[0] in PACKING_COMMANDS or _pluralize(key) not in settings
    }
    own_parameters = {key: parameter for parameter in commands[command].params for key in list_setting_names(parameter)}
    findings: list[Finding] = []
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        if key in TABLE_KEYS or (key == "policy" and isinstance(value, dict)):
            continue
        where = f"{path.name}:{_find_line(path, key)}"
        if key not in settings:
            findings.append(_report_unknown_setting(where, key, {*settings, *TABLE_KEYS}))
            continue
        home, option = settings[key]
        if (
            not named
            and command in BUNDLE_COMMANDS
            and home not in PACKING_COMMANDS
            and key in own_parameters
            and own_parameters[key].name in _UNSAFE_OPTIONS
        ):
            findings.append(
                error(
                    "setting-not-named",
                    where,
                    "{subject}: '{key}' is not taken by {command} from a file that merely lies here.",
                    "Say it on the command line, or name the file: --config {file}.",
                    key=key,
                    command=command,
                    file=path.name,
                )
            )
            continue
        option = (
            own_parameters.get(key, option) if home not in PACKING_COMMANDS or command in PACKING_COMMANDS else option
        )
        if not _accepts_value(option, value):
            expected = _describe_expected_value(option)
            findings.append(
                error(
                    "bad-setting",
                    where,
                    "{subject}: '{key}' takes {expected}.",
                    "Write it so.",
                    key=key,
                    expected=expected,
                )
            )
            continue
        value = _resolve_paths(option, _convert_value(option, value), path.parent)
        try:
            option.process_value(click.Context(commands[command], resilient_parsing=False), value)
        except click.BadParameter as bad:
            findings.append(
                error(
                    "bad-setting",
                    where,
                    "{subject}: '{key}' cannot be {value}: {words}",
                    "Mend it.",
                    key=key,
                    value=value,
                    words=bad.message,
                )
            )
        if key in own_parameters and (
            key in _GLOBAL_SETTINGS or command in PACKING_COMMANDS or home not in PACKING_COMMANDS
        ):
            defaults[option.name or ""] = value
    if findings:
        raise SourceError(*findings)
    return defaults


def _report_unknown_setting(where: str, key: str, known_keys: Collection[str]) -> Finding:
    """Report an unknown setting, with the nearest known one."""
    if near := ", ".join(difflib.get_close_matches(key, known_keys, 1, 0.5)):
        return error(
            "unknown-setting",
            where,
            "{subject}: there is no setting '{key}'.",
            "Did you mean '{near}'?",
            key=key,
            near=near,
        )
    return error(
        "unknown-setting",
        where,
        "{subject}: there is no setting '{key}'.",
        "Settings have the names of the long options: offlinepack build --help-all.",
        key=key,
    )


_PATH_OPTIONS = ("include", "find_links", "cert", "client_cert", "target")
"""options besides those of files whose value may name one, which then lies beside the settings"""


def _resolve_paths(parameter: click.Parameter, value: Any, folder: Path) -> Any:
    """Make paths in a value relative to the folder of the settings file."""
    if isinstance(value, list):
        return [_resolve_paths(parameter, entry, folder) for entry in value]
    if folder.resolve() == Path.cwd() or not isinstance(value, str):
        return value
    if isinstance(parameter.type, click.Path):
        return str(folder / value)
    source = value.partition("=")[0]
    resolved = (
        parameter.name in _PATH_OPTIONS
        and "://" not in value
        and not Path(source).exists()
        and (folder / source).exists()
    )
    return str(folder / source) + value[len(source) :] if resolved else value


def list_setting_names(parameter: click.Parameter) -> tuple[str, ...]:
    """Return the names of a parameter in a settings file: its long option, in the plural if it is repeatable."""
    if isinstance(parameter, click.Argument):
        return ("requirements",) if parameter.name == "requirements" else ()
    names = [option[2:] for option in parameter.opts if option.startswith("--")]
    if not parameter.expose_value:
        return tuple(name for name in names if name in _GLOBAL_SETTINGS)
    return tuple(_pluralize(name) for name in names) if _is_repeatable(parameter) else tuple(names)


_GLOBAL_SETTINGS = ("quiet", "verbose", "json", "no-color", "lang")


def _pluralize(name: str) -> str:
    if name == "requirement":
        return "requirement-files"
    if name.endswith(("s", "-binary")):
        return name
    return name + ("es" if name.endswith(("x", "ch")) else "s")


def _is_repeatable(parameter: click.Parameter) -> bool:
    return parameter.nargs == -1 or (isinstance(parameter, click.Option) and parameter.multiple)


def _is_flag(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.is_flag


def _accepts_value(parameter: click.Parameter, value: Any) -> bool:
    if _is_flag(parameter):
        return isinstance(value, bool)
    if _is_repeatable(parameter):
        return isinstance(value, list) and all(isinstance(entry, (str, int)) for entry in value)
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _describe_expected_value(parameter: click.Parameter) -> str:
    return (
        "true or false"
        if _is_flag(parameter)
        else "a list of strings"
        if _is_repeatable(parameter)
        else "a string or a number"
    )


def _convert_value(parameter: click.Parameter, value: Any) -> Any:
    if _is_repeatable(parameter):
        return [str(entry) for entry in value]
    return value if _is_flag(parameter) else str(value)


def _find_line(path: Path, key: str) -> int:
    """Return the line number of a key, 1 if it is unknown."""
    table = path.name != "pyproject.toml"
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if line.strip().startswith("["):
            table = bool(re.match(r"\s*\[+\s*tool\.offlinepack", line)) or path.name != "pyproject.toml"
        word = re.escape(key)
        if table and re.match(rf"\s*(\[+\s*)?(tool\.offlinepack\.)?[\"']?{word}[\"']?\s*[.=\]]", line):
            return number
    return 1


def find_misnamed_variables(variables: Mapping[str, str], parameters: Sequence[click.Parameter]) -> list[Finding]:
    """Return a warning for each OFFLINEPACK_ variable that nearly names an option, such as OFFLINEPACK_TARGETS."""
    known_variables = {str(parameter.envvar) for parameter in parameters if parameter.envvar}
    names = [variable.removeprefix(_VARIABLE_PREFIX) for variable in known_variables]
    near = {
        variable: difflib.get_close_matches(variable.removeprefix(_VARIABLE_PREFIX), names, 1, 0.85)
        for variable in variables
        if variable.startswith(_VARIABLE_PREFIX) and variable not in known_variables
    }
    return [
        warning(
            "unknown-variable",
            variable,
            "The variable {subject} means nothing to offlinepack.",
            "Did you mean '{near}'?",
            near=_VARIABLE_PREFIX + matches[0],
        )
        for variable, matches in sorted(near.items())
        if matches
    ]


_VARIABLE_PREFIX = "OFFLINEPACK_"


def render_template(folder: Path, parameters: Sequence[click.Parameter], tag: str) -> str:
    """Write [tool.offlinepack] for the project in a folder: detected settings, and other usual options as comments.

    `parameters` are build's; `here` is the tag of the running machine.
    """
    suggestions, remarks = _suggest_settings(folder)
    lines = ["[tool.offlinepack]", *(f"# {remark}" for remark in remarks)]
    lines += [f"{key} = {_format_toml(value)}" for key, value in suggestions.items()]
    lines.append("# what else there is; offlinepack build --help-all lists every option")
    examples = {
        "targets": ["debian12", "rhel8:3.11", tag],
        "extras": _list_names(folder, "extras"),
        "groups": _list_names(folder, "groups"),
        "includes": _suggest_includes(folder),
        "app-version": "1.0",
        "output": "{name}-{version}-{target}.tar.gz",
    }
    for parameter in parameters:
        for key in list_setting_names(parameter) if isinstance(parameter, Option) and not parameter.rare else ():
            if key in suggestions or key in _GLOBAL_SETTINGS or key == "dry-run":
                continue
            lines += textwrap.wrap(parameter.help or "", 100, initial_indent="# ", subsequent_indent="# ")
            example = examples.get(key) or (
                False if _is_flag(parameter) else ["..."] if _is_repeatable(parameter) else "..."
            )
            lines.append(f"# {key} = {_format_toml(example)}")
    return "\n".join(lines) + "\n"


def _suggest_settings(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Suggest settings for a folder; return them with remarks."""
    input_files = [name for name in ("pylock.toml", "uv.lock", "requirements.txt") if (folder / name).is_file()]
    project = _read_pyproject(folder).get("project", {})
    if input_files:
        suggestions: dict[str, Any] = {"requirement-files": input_files[:1]}
        if project.get("name"):
            suggestions = {"name": re.sub(r"[-_.]+", "-", str(project["name"])).strip("-").lower(), **suggestions}
        rest = [*input_files[1:], *(["[project]"] if project else [])]
        return suggestions, [f"passed over: {', '.join(rest)}"] if rest else []
    if project or any((folder / name).is_file() for name in ("setup.py", "setup.cfg")):
        return {"project": "."}, []
    return {}, ["no requirements.txt, pylock.toml, uv.lock or [project] was found: name what is to be packed"]


def _read_pyproject(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    return tomllib.loads(path.read_text("utf-8-sig")) if path.is_file() else {}


def _list_names(folder: Path, kind: str) -> list[str]:
    """Return the names of the extras or dependency groups of a project."""
    document = _read_pyproject(folder)
    table = document.get("dependency-groups") if kind == "groups" else None
    if kind == "extras":
        table = document.get("project", {}).get("optional-dependencies")
    return list(table) if isinstance(table, dict) else []


def _suggest_includes(folder: Path) -> list[str]:
    """Return files of the folder that a server usually needs besides packages."""
    usual = ("manage.py", "wsgi.py", "static", "templates", "conf", "config", "deploy", "uwsgi.ini", "nginx.conf")
    return [f"{name}=app/{name}" for name in usual if (folder / name).exists()] or ["conf=app/conf"]


def _format_toml(value: Any) -> str:
    import json

    # of such values (strings, lists of them, true and false) JSON is TOML
    return json.dumps(value, ensure_ascii=False)
