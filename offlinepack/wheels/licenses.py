"""Detect the licenses of a distribution as SPDX expressions, and compare them with a list.

License-Expression (PEP 639) comes first, then the classifiers, then the License field. If a classifier leaves the
version open ("BSD License"), the field or the license text decides.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.metadata import RawMetadata

_MAX_NAME_LENGTH = 80
"""a longer License field is the text of a license"""


class License(NamedTuple):
    """The license that a distribution declares."""

    terms: tuple[str, ...]
    """SPDX expressions, or names that SPDX does not know; all of them apply"""
    source: str
    """expression, classifier, field or text; '' if none is declared"""


def detect_license(raw: RawMetadata, texts: Callable[[], Iterable[str]]) -> License:
    """Return the license from parsed METADATA; `texts` reads the contents of the license files."""
    expression = raw.get("license_expression", "").strip()
    if expression:
        return License((normalize_expression(expression) or expression,), "expression")
    field = " ".join(raw.get("license", "").split())
    licenses = [
        classifier.rpartition(" :: ")[2]
        for classifier in raw.get("classifiers", [])
        if classifier.startswith("License :: ")
    ]
    licenses = [name for name in licenses if name != "OSI Approved"]
    if licenses:
        return License(
            tuple(dict.fromkeys(_combine_classifiers(licenses, normalize_expression(field), texts))), "classifier"
        )
    if field.lower() not in ("", "unknown", "none", "license", "see license", "license.txt", "license file"):
        term = normalize_expression(field) or _recognize_text(field)
        if not term and (family := _load_table()["shortly"].get(field.lower(), field)) in _load_table()["family"]:
            term = _select_in_family(_load_table()["family"][family], texts)
        term = term or (field if len(field) <= _MAX_NAME_LENGTH else "")
        if term:
            return License((term,), "field")
    terms = dict.fromkeys(filter(None, map(_recognize_text, texts())))
    return License((next(iter(terms)),), "text") if len(terms) == 1 else License((), "")


@lru_cache(4096)
def normalize_expression(text: str) -> str:
    """Return the canonical form of an SPDX expression; '' if the text is none."""
    if not text or len(text) > 300:
        return ""
    plain = _load_table()["written"].get(text.lower().removesuffix(".").strip())
    try:
        return str(canonicalize_license_expression(plain or text))
    except InvalidLicenseExpression:
        return ""


def _combine_classifiers(licenses: Collection[str], field: str, texts: Callable[[], Iterable[str]]) -> Iterable[str]:
    """Return the licenses of the classifiers, or the field if it is more exact or combines them."""
    exact, family = _load_table()["exact"], _load_table()["family"]
    identifiers = set(re.split(r"[\s()]+", field)) - {"AND", "OR", "WITH", ""}
    prefixes = [exact.get(name) or (family.get(name) or {"begins": "\0"})["begins"] for name in licenses]
    if identifiers and all(any(identifier.startswith(prefix) for identifier in identifiers) for prefix in prefixes):
        return [field]
    return [
        exact.get(name) or (_select_in_family(family[name], texts) if name in family else name) for name in licenses
    ]


def _select_in_family(family: dict[str, str], texts: Callable[[], Iterable[str]]) -> str:
    prefix = family["begins"]
    # a text may hold licenses of two families; the most exact of a family comes first
    matches = [[name for name in _match_texts(text) if name.startswith(prefix)][:1] for text in texts()]
    names = {name for first_matches in matches for name in first_matches}
    return names.pop() if len(names) == 1 else family["default"]


_TEXT_PATTERNS = (
    ("Apache-2.0", r"Apache License,? Version 2\.0"),
    ("MPL-2.0", r"Mozilla Public License,? (Version|v\.) 2\.0"),
    ("Unlicense", r"This is free and unencumbered software released into the public domain"),
    ("BSD-4-Clause", r"Redistribution and use in source and binary forms.*All advertising materials mentioning"),
    (
        "BSD-3-Clause",
        r"Redistribution and use in source and binary forms.*(Neither the name|names? of .{1,80} may not)",
    ),
    ("BSD-2-Clause", r"Redistribution and use in source and binary forms"),
    ("ISC", r"Permission to use, copy, modify, and(/or)? distribute this software for any purpose with or without fee"),
    ("MIT", r"Permission is hereby granted, free of charge, to any person obtaining a copy of this software"),
)


def _recognize_text(text: str) -> str:
    """Return the license of a text; '' if it is unknown, or if the text holds several."""
    names = _match_texts(text)
    kinds = {name.split("-")[0] for name in names}
    return names[0] if len(kinds) == 1 else ""


def _match_texts(text: str) -> list[str]:
    plain = " ".join(text.split())
    return [name for name, pattern in _TEXT_PATTERNS if re.search(pattern, plain, re.I)]


def are_terms_allowed(terms: Collection[str], is_allowed: Callable[[str], bool]) -> bool:
    """Return whether all terms are allowed: of A OR B one operand must be allowed, of A AND B both."""
    return all(
        _evaluate_expression(_split_expression(normalize_expression(term)), is_allowed)
        if normalize_expression(term)
        else is_allowed(term)
        for term in terms
    )


def _split_expression(expression: str) -> list[str]:
    return re.findall(r"[()]|[^\s()]+", expression)


def _evaluate_expression(tokens: list[str], is_allowed: Callable[[str], bool]) -> bool:
    # SPDX: WITH binds more closely than AND, AND more closely than OR; `tokens` is consumed
    def parse_term() -> bool:
        identifier = tokens.pop(0)
        if identifier == "(":
            is_true = parse_or()
            tokens.pop(0)
            return is_true
        is_identifier_allowed = is_allowed(identifier)
        if tokens[:1] == ["WITH"]:
            tokens.pop(0)
            return is_allowed(f"{identifier} WITH {tokens.pop(0)}") or is_identifier_allowed
        return is_identifier_allowed

    def parse_and() -> bool:
        is_true = parse_term()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            is_true = parse_term() and is_true
        return is_true

    def parse_or() -> bool:
        is_true = parse_and()
        while tokens[:1] == ["OR"]:
            tokens.pop(0)
            is_true = parse_and() or is_true
        return is_true

    return parse_or()


@cache
def _load_table() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(Path(__file__).with_name("licenses.toml").read_text("utf-8"))
    return table
