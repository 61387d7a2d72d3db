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
"""a License field that is longer is the licence's text"""


class License(NamedTuple):
    """What a distribution says of its licence."""

    terms: tuple[str, ...]
    """SPDX expressions; or names, where SPDX has no word for what it says; all of them hold"""
    source: str
    """expression, classifier, field or text; '' where it says nothing"""


def detect_license(raw: RawMetadata, texts: Callable[[], Iterable[str]]) -> License:
    """The licence of METADATA as `packaging.metadata.parse_email` reads it; `texts` are the licence files' contents."""
    expression = raw.get("license_expression", "").strip()
    if expression:
        return License((normalize_expression(expression) or expression,), "expression")
    field = " ".join(raw.get("license", "").split())
    named = [one.rpartition(" :: ")[2] for one in raw.get("classifiers", []) if one.startswith("License :: ")]
    named = [one for one in named if one != "OSI Approved"]
    if named:
        return License(
            tuple(dict.fromkeys(_combine_classifiers(named, normalize_expression(field), texts))), "classifier"
        )
    if field.lower() not in ("", "unknown", "none", "license", "see license", "license.txt", "license file"):
        written = normalize_expression(field) or _recognize_text(field)
        if not written and (family := _load_table()["shortly"].get(field.lower(), field)) in _load_table()["family"]:
            written = _select_in_family(_load_table()["family"][family], texts)
        written = written or (field if len(field) <= _MAX_NAME_LENGTH else "")
        if written:
            return License((written,), "field")
    found = dict.fromkeys(filter(None, map(_recognize_text, texts())))
    return License((next(iter(found)),), "text") if len(found) == 1 else License((), "")


@lru_cache(4096)
def normalize_expression(words: str) -> str:
    """These words as an SPDX expression in its canonical form; '' where they are none."""
    if not words or len(words) > 300:
        return ""
    plain = _load_table()["written"].get(words.lower().removesuffix(".").strip())
    try:
        return str(canonicalize_license_expression(plain or words))
    except InvalidLicenseExpression:
        return ""


def _combine_classifiers(named: Collection[str], field: str, texts: Callable[[], Iterable[str]]) -> Iterable[str]:
    """What the classifiers say; the field where it says the same more exactly, or how several belong together."""
    exact, family = _load_table()["exact"], _load_table()["family"]
    said = set(re.split(r"[\s()]+", field)) - {"AND", "OR", "WITH", ""}
    begins = [exact.get(one) or (family.get(one) or {"begins": "\0"})["begins"] for one in named]
    if said and all(any(one.startswith(each) for one in said) for each in begins):
        return [field]
    return [exact.get(one) or (_select_in_family(family[one], texts) if one in family else one) for one in named]


def _select_in_family(family: dict[str, str], texts: Callable[[], Iterable[str]]) -> str:
    begins = family["begins"]
    # a text may hold two licences of two families, but the most exact of one family comes first
    said = [[one for one in _match_texts(text) if one.startswith(begins)][:1] for text in texts()]
    found = {one for each in said for one in each}
    return found.pop() if len(found) == 1 else family["default"]


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
    """The licence that has this text; '' where it is none of the usual ones, or more than one."""
    found = _match_texts(text)
    kinds = {name.split("-")[0] for name in found}
    return found[0] if len(kinds) == 1 else ""


def _match_texts(text: str) -> list[str]:
    plain = " ".join(text.split())
    return [name for name, pattern in _TEXT_PATTERNS if re.search(pattern, plain, re.I)]


def are_terms_allowed(terms: Collection[str], is_allowed: Callable[[str], bool]) -> bool:
    """Whether each of these terms may be used where single identifiers may: of A OR B one has to, of A AND B both."""
    return all(
        _evaluate_expression(_split_expression(normalize_expression(one)), is_allowed)
        if normalize_expression(one)
        else is_allowed(one)
        for one in terms
    )


def _split_expression(expression: str) -> list[str]:
    return re.findall(r"[()]|[^\s()]+", expression)


def _evaluate_expression(words: list[str], is_allowed: Callable[[str], bool]) -> bool:
    # SPDX: WITH binds more closely than AND, AND more closely than OR; `words` is used up
    def one() -> bool:
        word = words.pop(0)
        if word == "(":
            value = any_of()
            words.pop(0)
            return value
        plain = is_allowed(word)
        if words[:1] == ["WITH"]:
            words.pop(0)
            return is_allowed(f"{word} WITH {words.pop(0)}") or plain
        return plain

    def all_of() -> bool:
        value = one()
        while words[:1] == ["AND"]:
            words.pop(0)
            value = one() and value
        return value

    def any_of() -> bool:
        value = all_of()
        while words[:1] == ["OR"]:
            words.pop(0)
            value = all_of() or value
        return value

    return any_of()


@cache
def _load_table() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(Path(__file__).with_name("licenses.toml").read_text("utf-8"))
    return found
