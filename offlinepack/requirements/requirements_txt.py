"""Read requirements.txt files with pip's own parser; report all invalid lines at once."""

from __future__ import annotations

import configparser
import contextlib
import io
import logging
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, canonicalize_name, parse_sdist_filename
from pip._internal.exceptions import InvalidEggFragment, PipError
from pip._internal.req import req_file
from pip._internal.req.constructors import RequirementParts, parse_req_from_editable, parse_req_from_line

from offlinepack.errors import Finding, SourceError, error, note, warning
from offlinepack.index.model import IndexOptions
from offlinepack.net.urls import redact_text
from offlinepack.ontarget.errors import explain_os_error
from offlinepack.requirements.listings import (
    find_ignored_words,
    find_listing,
    report_listing,
    report_missing_path,
    shorten_line,
)
from offlinepack.requirements.model import PageFetcher, RequirementLine, Requirements
from offlinepack.requirements.policy import FORMATS, Format, FormatControl, ResolutionPolicy

_FORMAT_ADVICE = "See pip's page on the requirements file format."


@dataclass
class _ParseState:
    """What has been read so far, over all nested files."""

    fetch_page: PageFetcher | None
    requirements: list[RequirementLine] = field(default_factory=list)
    constraints: list[RequirementLine] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    index_options: IndexOptions = field(default_factory=IndexOptions)
    policy: ResolutionPolicy = ResolutionPolicy()


def read_requirements_txt(
    path: Path | str, *, constraint: bool = False, page: PageFetcher | None = None
) -> Requirements:
    """Read a requirements or constraints file and all files that it includes; raise SourceError with every invalid
    line.
    """
    state = _ParseState(page)
    _read_file(str(path), str(path), constraint, (), state)
    if state.findings:
        raise SourceError(*state.findings)
    return Requirements(
        policy=state.policy,
        requirements=tuple(state.requirements),
        constraints=tuple(state.constraints),
        index_options=state.index_options,
        notes=tuple(state.notes),
    )


def _read_file(path: str, origin: str, constraint: bool, inside: tuple[str, ...], state: _ParseState) -> None:
    location = os.path.abspath(path) if not _is_address(path) else path  # noqa: PTH100 (pip compares them so)
    try:
        content = _read_content(path, origin, state.fetch_page)
    except SourceError as bad:
        state.findings.extend(bad.findings)
        return
    shown = _shorten_path(path)
    lines = req_file.ignore_comments(req_file.join_lines(enumerate(content.splitlines(), start=1)))
    parse = req_file.get_line_parser(None)
    lines = list(lines)
    if listing := find_listing([line for _, line in lines]):
        state.findings.append(report_listing(shown, *listing))
        return
    for number, line in lines:
        at = f"{shown}:{number}"
        try:
            [(_, expanded)] = req_file.expand_env_variables([(number, line)])
            with contextlib.redirect_stderr(io.StringIO()):  # its usage
                arguments, options = parse(expanded)
        except req_file.OptionParsingError as bad_option:
            state.findings.append(_report_bad_option(line, at, bad_option.msg.rpartition("error: ")[2].strip()))
            continue
        has_requirement = bool(arguments or options.editables)
        is_nested = bool(options.requirements or options.constraints)
        if (has_requirement or not is_nested) and (words := find_ignored_words(expanded, has_requirement)):
            state.findings.append(
                error(
                    "words-ignored",
                    at,
                    "{subject}: pip ignores {words} in this line.",
                    "Write each option in a line of its own, and no words besides.",
                    words=redact_text(" ".join(words)),
                )
            )
            continue
        nested = (options.requirements or options.constraints or [None])[0]
        if arguments or options.editables:
            try:
                requirement_line = parse_line(arguments or options.editables[0], at, editable=not arguments, shown=line)
            except SourceError as bad:
                state.findings.extend(bad.findings)
                continue
            if constraint and requirement_line.is_editable:
                state.findings.append(
                    error(
                        "editable-constraint",
                        at,
                        "{subject}: an editable cannot be a constraint.",
                        "Write it as a requirement, or as name==version.",
                    )
                )
                continue
            if constraint and requirement_line.requirement is None:
                state.findings.append(
                    error(
                        "unnamed-constraint",
                        at,
                        "{subject}: {line} is a constraint without a name.",
                        "Write name @ address.",
                        line=requirement_line.redacted_line,
                    )
                )
                continue
            if requirement_line.line == "pkg-resources==0.0.0":
                state.notes.append(
                    note(
                        "debian-artifact",
                        at,
                        "{subject}: {line} is left out: Debian's pip lists it, and it is no project.",
                        line=requirement_line.line,
                    )
                )
                continue
            hashes = (*requirement_line.hashes, *_list_hashes(options.hashes))
            requirement_line = replace(
                requirement_line,
                hashes=hashes,
                has_hash_option=bool(options.hashes),
                config_settings=_list_config_settings(options),
            )
            (state.constraints if constraint else state.requirements).append(requirement_line)
            if requirement_line.is_editable:
                state.notes.append(
                    note(
                        "editable-as-wheel",
                        at,
                        "{subject}: {line} is an editable; the bundle gets a wheel of what stands there now.",
                        line=shorten_line(line),
                    )
                )
        elif nested:
            if re.search(r"\s;", line):
                state.notes.append(
                    warning(
                        "marker-not-read",
                        at,
                        "{subject}: pip reads no marker after -r or -c: {line} takes the whole file.",
                        "Put the marker behind each requirement in that file.",
                        line=shorten_line(line),
                    )
                )
            # pip: a nested file is looked for beside the one that names it
            nested = urljoin(path, nested) if _is_address(path) else nested
            if not _is_address(nested):
                nested = os.path.normpath(os.path.join(os.path.dirname(path), nested))  # noqa: PTH118, PTH120
            absolute = nested if _is_address(nested) else os.path.abspath(nested)  # noqa: PTH100
            if absolute in (*inside, location):
                state.findings.append(
                    error("circle", at, "{subject}: {file} comes back to itself.", "Take this line out.", file=nested)
                )
                continue
            _read_file(nested, at, constraint if options.requirements else True, (*inside, location), state)
        else:
            state.index_options += _make_index_options(options, path)
            state.policy += _read_policy(options, expanded)


def parse_line(text: str, origin: str, *, editable: bool = False, shown: str | None = None) -> RequirementLine:
    """Parse a requirement as on pip's command line: a name with versions, an address or a path; raise SourceError."""
    shown = shorten_line(shown or text)
    try:
        parts = parse_req_from_editable(text) if editable else parse_req_from_line(text, None)
        line, requirement = _make_line(parts)
    except (PipError, InvalidRequirement, InvalidWheelFilename, ValueError) as bad:
        raise SourceError(_report_bad_line(text, shown, origin, bad)) from bad
    if requirement and requirement.url and requirement.url.startswith("file:"):
        path = Path(url2pathname(urlsplit(requirement.url).path))
        if not _path_exists(path):
            raise SourceError(report_missing_path(shown, origin, path))
    of_address = re.search(r"[#&](sha256|sha384|sha512|md5)=([0-9a-fA-F]+)", line)
    hashes = (f"{of_address[1]}:{of_address[2].lower()}",) if of_address else ()
    return RequirementLine(line=line, origin=origin, requirement=requirement, hashes=hashes, is_editable=editable)


def _make_line(parts: RequirementParts) -> tuple[str, Requirement | None]:
    """Make a line of PEP 508 if the name is known, otherwise the address with its extras."""
    named = Requirement(str(parts.requirement)) if parts.requirement else None
    marker = str(parts.markers or (named and named.marker) or "")
    extras = sorted({*parts.extras, *(named.extras if named else ())})
    url = parts.link.url if parts.link else named and named.url
    name = named.name if named else _find_name_in_url(url or "")
    behind = f"[{','.join(extras)}]" if extras else ""
    if url:
        line = f"{name}{behind} @ {url}" if name else f"{url}{behind}"
    elif named:
        line = f"{named.name}{behind}{named.specifier}"
    else:
        raise ValueError("neither a name nor an address")
    line += f" ; {marker}" if marker else ""
    return line, Requirement(line) if name else None


def _find_name_in_url(url: str) -> str | None:
    """Find the project name in a file name or in the static metadata of a folder."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if "+" in parts.scheme:
        return None
    try:
        return str(parse_sdist_filename(path.rsplit("/", 1)[-1])[0])
    except InvalidSdistFilename:
        pass
    return _read_project_name(Path(path)) if parts.scheme == "file" else None


def _read_project_name(folder: Path) -> str | None:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        name = project.get("project", {}).get("name") or project.get("tool", {}).get("poetry", {}).get("name")
        if isinstance(name, str):
            return canonicalize_name(name)
    except (OSError, ValueError, AttributeError):
        pass
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(folder / "setup.cfg", "utf-8")
        name = settings.get("metadata", "name", fallback=None)
    except (configparser.Error, ValueError):
        return None
    return canonicalize_name(name) if name and not name.startswith("attr:") else None


def _report_bad_option(line: str, origin: str, words: str) -> Finding:
    words, facts = redact_text(words), {"line": shorten_line(line)}
    if re.search("(for|to) --hash", words):
        return error(
            "bad-hash",
            origin,
            "{subject}: {line} has a hash that pip does not take.",
            "Write --hash=sha256:…; `pip hash FILE` prints it.",
            log=words,
            **facts,
        )
    return error(
        "bad-option",
        origin,
        "{subject}: {line} has an option that a requirements file cannot have.",
        _FORMAT_ADVICE,
        log=words,
        **facts,
    )


def _report_bad_line(text: str, shown: str, origin: str, bad: Exception) -> Finding:
    """Report an invalid line, with pip's message as log."""
    words = redact_text(str(bad))
    path = Path(re.sub(r"\[[^\]]*\]$", "", text.split(";")[0].strip()))
    facts = {"line": shown}
    if "not installable" in words:
        return error(
            "no-project",
            origin,
            "{subject}: {line} is a folder without a Python project: neither pyproject.toml nor setup.py is in it.",
            "Name the folder that holds pyproject.toml.",
            **facts,
        )
    if _path_exists(path) and path.is_file():
        return error(
            "file-as-requirement",
            origin,
            "{subject}: {line} is a file, not a requirement.",
            "If it lists requirements, say -r {line}.",
            **facts,
        )
    if ("/" in text or "\\" in text) and "://" not in text and not re.search(r"\s@\s", text):
        return error(
            "no-such-path", origin, "{subject}: there is no file or folder {line}.", "Correct the path.", **facts
        )
    if unset := req_file.ENV_VAR_RE.findall(text):
        return error(
            "variable-not-set",
            origin,
            "{subject}: {line} names {variables}, and no such environment variable is set.",
            "Set it for this command, or write its value there.",
            variables=[variable for variable, _ in unset],
            **facts,
        )
    if re.match(r"[\w.\[\],-]+\s*=\s*[\w.]", text):
        return error("single-equals", origin, "{subject}: {line} has one = sign.", "Write == for a version.", **facts)
    if isinstance(bad, InvalidEggFragment):
        return error(
            "bad-egg",
            origin,
            "{subject}: {line} has more behind #egg= than a name, which pip does not take any more.",
            "Write NAME[EXTRA] @ ADDRESS, without -e and #egg=.",
            **facts,
        )
    return error(
        "bad-requirement",
        origin,
        "{subject}: {line} is not a requirement that pip can read.",
        "Write a name with versions (flask>=3,<4), an address or a path.",
        log=words,
        **facts,
    )


def _path_exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _read_content(path: str, origin: str, page: PageFetcher | None) -> str:
    if _is_address(path) and not path.startswith("file:"):
        shown = redact_text(path)
        if page is None:
            raise SourceError(
                error("address", origin, "{subject}: {file} is on the network.", "Download it first.", file=shown)
            )
        return req_file._decode_req_file(page(path), shown)
    place = Path(unquote(urlsplit(path).path)) if path.startswith("file:") else Path(path)
    facts = {"file": _shorten_path(path)}
    if place.is_dir():
        raise SourceError(
            error(
                "is-a-folder",
                origin,
                "{file} is a folder, not a requirements file.",
                "--project takes a project's folder, --venv a virtual environment's.",
                **facts,
            )
        )
    try:
        raw = place.read_bytes()
    except FileNotFoundError:
        where = "There is no file {file}." if origin == path else "{subject}: there is no file {file}."
        raise SourceError(_report_missing_file(where == "There is no file {file}.", origin, facts["file"])) from None
    except OSError as bad:
        raise SourceError(
            error(
                "unreadable",
                origin,
                "{file} cannot be read: {reason}.",
                "Give your account the right to read it.",
                reason=explain_os_error(bad),
                **facts,
            )
        ) from bad
    if b"\0" in raw[:4096] and not any(raw.startswith(bom) for bom, _ in req_file.BOMS):
        raise SourceError(
            error(
                "binary-file",
                origin,
                "{file} is not a text file.",
                "A wheel or an archive is a requirement itself: give it without -r.",
                **facts,
            )
        )
    logging.disable(logging.WARNING)  # what pip would try next; the finding below says it
    try:
        return req_file._decode_req_file(raw, path)
    except (UnicodeError, LookupError) as bad:
        raise SourceError(
            error(
                "bad-encoding",
                origin,
                "{file} is neither UTF-8 nor in the encoding that it names.",
                "Save it as UTF-8, or begin it with a line like # -*- coding: gb18030 -*-.",
                **facts,
            )
        ) from bad
    finally:
        logging.disable(logging.NOTSET)


def _report_missing_file(top: bool, origin: str, file: str) -> Finding:
    if top:
        return error("no-such-file", origin, "There is no file {file}.", "Correct the path.", file=file)
    return error("no-such-file", origin, "{subject}: there is no file {file}.", "Correct the path.", file=file)


def _is_address(path: str) -> bool:
    return bool(req_file.SCHEME_RE.search(path))


def _shorten_path(path: str) -> str:
    """Shorten a path to one below the working directory."""
    if _is_address(path):
        return redact_text(path)
    try:
        return str(Path(path).resolve().relative_to(Path.cwd().resolve()))
    except (ValueError, OSError):
        return path


def _list_hashes(hashes: dict[str, list[str]] | None) -> tuple[str, ...]:
    return tuple(f"{algorithm}:{digest}" for algorithm, digests in (hashes or {}).items() for digest in digests)


def _list_config_settings(options: Any) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for key, value in (options.config_settings or {}).items():
        pairs.extend((key, member) for member in (value if isinstance(value, list) else [value]))
    return tuple(pairs)


def _make_index_options(options: Any, path: str) -> IndexOptions:
    links = []
    for link in options.find_links or []:
        # pip: relative to the requirements file where it is there, else as it stands
        local_path = Path(path).parent / link if not _is_address(path) and not _is_address(link) else None
        links.append(str(local_path.resolve()) if local_path and local_path.exists() else link)
    return IndexOptions(
        options.index_url,
        tuple(options.extra_index_urls or ()),
        tuple(links),
        bool(options.no_index),
        tuple(options.trusted_hosts or ()),
    )


def _read_policy(options: Any, line: str) -> ResolutionPolicy:
    releases = getattr(options, "release_control", None)
    return ResolutionPolicy(
        pre=bool(options.pre or (releases and ":all:" in releases.all_releases)),
        require_hashes=True if options.require_hashes else None,
        format_control=FormatControl(tuple(_list_format_options(line))),
    )


def _list_format_options(line: str) -> Iterator[tuple[Format, str]]:
    """Yield --only-binary and --no-binary of a line in their order, which the result of pip's parser does not keep."""
    words = iter(shlex.split(req_file.break_args_options(line)[1]))
    for word in words:
        option, equals, value = word.partition("=")
        for name in FORMATS:
            if len(option) > 4 and f"--{name}".startswith(option):  # optparse accepts unique prefixes
                yield name, value if equals else next(words)
