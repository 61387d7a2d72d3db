"""Identifiers of the package are nouns, verbs and predicates: no pronoun, adverb, preposition or bare participle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import offlinepack

PACKAGE = Path(offlinepack.__file__).parent
FORBIDDEN = frozenset(
    [
        "one",
        "each",
        "its",
        "mine",
        "it",
        "they",
        "them",
        "he",
        "she",
        "we",
        "us",
        "what",
        "how",
        "why",
        "who",
        "which",
        "here",
        "there",
        "of",
        "told",
        "said",
        "asked",
        "found",
        "kept",
        "made",
        "seen",
        "left",
        "known",
        "given",
        "taken",
        "own",
        "both",
        "another",
        "others",
        "either",
        "neither",
        "beside",
        "above",
        "below",
        "again",
        "gone",
        "done",
        "held",
        "wanted",
        "wished",
        "meant",
        "nobody",
        "somebody",
        "whatever",
    ]
)
LIMIT = 0
"""The number of such names in offlinepack/. It may only fall."""


def list_bindings(tree: ast.Module) -> Iterator[str]:
    """Yield every name that is bound: assignments, parameters, functions, classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or (
            isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name
        ):
            yield node.name


def test_names_say_what_they_hold() -> None:
    modules = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    names = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path, tree in modules.items()
        for name in list_bindings(tree)
        if name.strip("_") in FORBIDDEN
    ]
    assert len(names) <= LIMIT, names
