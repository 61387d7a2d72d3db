"""Tables of messages: every English sentence of the sources has its Chinese one, with the same fields."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "offlinepack"
FILES = sorted(PACKAGE.rglob("*.py"))
ONTARGET = sorted((PACKAGE / "ontarget").glob("*.py"))


def sentences(path: Path) -> set[str]:
    """The templates of a file: what error, warning, note and text are given as literals or module constants."""
    tree = ast.parse(path.read_text("utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.id
            if isinstance(node.func, ast.Name)
            else node.func.attr
            if isinstance(node.func, ast.Attribute)
            else ""
        )
        where = {"text": [0], "Text": [0], "error": [2, 3], "warning": [2, 3], "note": [2, 3]}.get(name, [])
        named = {"sentence": 2, "advice": 3, "template": 0}
        given = [node.args[at] for at in where if at < len(node.args)]
        given += [one.value for one in node.keywords if one.arg in named and where]
        for one in given:
            for part in [one.body, one.orelse] if isinstance(one, ast.IfExp) else [one]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.add(part.value)
                elif isinstance(part, ast.Name) and part.id in constants:
                    found.add(constants[part.id])
    return found - {""}


@pytest.mark.parametrize("side", ["host", "ontarget"])
def test_every_sentence_has_its_chinese_twin(side: str) -> None:
    files = ONTARGET if side == "ontarget" else [one for one in FILES if one not in ONTARGET]
    table = json.loads(
        ((PACKAGE / "ontarget" if side == "ontarget" else PACKAGE) / "messages.zh.json").read_text("utf-8")
    )
    wanted = set().union(*(sentences(one) for one in files))
    wanted = {one for one in wanted if re.search(r"[A-Za-z]{2}", re.sub(r"\{\w+\}", "", one))}
    assert not wanted - set(table), "without a Chinese twin:\n" + "\n".join(sorted(wanted - set(table)))
    assert not set(table) - wanted, "nobody says any more:\n" + "\n".join(sorted(set(table) - wanted))
    for english, chinese in table.items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), english
