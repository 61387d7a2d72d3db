"""Under which licences a distribution says it stands, in SPDX's words; and whether a list allows them.

The License-Expression (PEP 639) comes first, then the classifiers, then the License field. Where a classifier leaves
the version open ("BSD License"), the field or the licence's own text settles it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.metadata import RawMetadata

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LONGEST_NAME = 80
"""a License field that is longer is the licence's text"""


class Licence(NamedTuple):
    """What a distribution says of its licence."""

    terms: tuple[str, ...]
    """SPDX expressions; or names, where SPDX has no word for what it says; all of them hold"""
    source: str
    """expression, classifier, field or text; '' where it says nothing"""


def of(raw: RawMetadata, texts: Callable[[], Iterable[str]]) -> Licence:
    """The licence of METADATA as `packaging.metadata.parse_email` reads it; `texts` are the licence files' contents."""
    expression = raw.get("license_expression", "").strip()
    if expression:
        return Licence((spdx(expression) or expression,), "expression")
    field = " ".join(raw.get("license", "").split())
    named = [one.rpartition(" :: ")[2] for one in raw.get("classifiers", []) if one.startswith("License :: ")]
    named = [one for one in named if one != "OSI Approved"]
    if named:
        return Licence(tuple(dict.fromkeys(_classified(named, spdx(field), texts))), "classifier")
    if field.lower() not in ("", "unknown", "none", "license", "see license", "license.txt", "license file"):
        written = spdx(field) or _recognised(field)
        if not written and (family := _table()["shortly"].get(field.lower(), field)) in _table()["family"]:
            written = _of_family(_table()["family"][family], texts)
        written = written or (field if len(field) <= _LONGEST_NAME else "")
        if written:
            return Licence((written,), "field")
    found = dict.fromkeys(filter(None, map(_recognised, texts())))
    return Licence((next(iter(found)),), "text") if len(found) == 1 else Licence((), "")


@lru_cache(4096)
def spdx(words: str) -> str:
    """These words as an SPDX expression in its canonical form; '' where they are none."""
    if not words or len(words) > 300:
        return ""
    plain = _table()["written"].get(words.lower().removesuffix(".").strip())
    try:
        return str(canonicalize_license_expression(plain or words))
    except InvalidLicenseExpression:
        return ""


def _classified(named: Collection[str], field: str, texts: Callable[[], Iterable[str]]) -> Iterable[str]:
    """What the classifiers say; the field where it says the same more exactly, or how several belong together."""
    exact, family = _table()["exact"], _table()["family"]
    said = set(re.split(r"[\s()]+", field)) - {"AND", "OR", "WITH", ""}
    begins = [exact.get(one) or (family.get(one) or {"begins": "\0"})["begins"] for one in named]
    if said and all(any(one.startswith(each) for one in said) for each in begins):
        return [field]
    return [exact.get(one) or (_of_family(family[one], texts) if one in family else one) for one in named]


def _of_family(family: dict[str, str], texts: Callable[[], Iterable[str]]) -> str:
    begins = family["begins"]
    # a text may hold two licences of two families, but the most exact of one family comes first
    said = [[one for one in _kinds(text) if one.startswith(begins)][:1] for text in texts()]
    found = {one for each in said for one in each}
    return found.pop() if len(found) == 1 else family["default"]

_TEXTS = (
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


def _recognised(text: str) -> str:
    """The licence that has this text; '' where it is none of the usual ones, or more than one."""
    found = _kinds(text)
    kinds = {name.split("-")[0] for name in found}
    return found[0] if len(kinds) == 1 else ""


def _kinds(text: str) -> list[str]:
    plain = " ".join(text.split())
    return [name for name, pattern in _TEXTS if re.search(pattern, plain, re.I)]


def allowed(terms: Collection[str], is_allowed: Callable[[str], bool]) -> bool:
    """Whether each of these terms may be used where single identifiers may: of A OR B one has to, of A AND B both."""
    return all(_allowed(_words(spdx(one)), is_allowed) if spdx(one) else is_allowed(one) for one in terms)


def _words(expression: str) -> list[str]:
    return re.findall(r"[()]|[^\s()]+", expression)


def _allowed(words: list[str], is_allowed: Callable[[str], bool]) -> bool:
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
def _table() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(Path(__file__).with_name("licences.toml").read_text("utf-8"))
    return found
