"""The house of STYLE: who may import whom, how large the target side is, every sentence with its Chinese twin."""

import ast
import io
import json
import re
import sys
import tokenize
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "offlinepack"
FILES = sorted(HOUSE.rglob("*.py"))
ONTARGET = sorted((HOUSE / "ontarget").glob("*.py"))

# From the top floor down. A room may import from floors below its own, and from its own folder.
FLOORS = [
    {"cli", "__main__"},
    {"console", "api"},
    {"summary"},
    {"pack", "handover"},
    {"origins"},
    {"supply"},
    {"examine"},
    {"sources", "lockers", "selection", "sdist", "rehearse", "evidence", "signing", "included", "bytecode"},
    {"bundle", "native", "roots", "pip_as_target", "indexes"},
    {"fetch"},
    {"store"},
    {"targets"},
    {"errors"},
    {"ontarget"},
]
# Peers that may know one another's values, each with its reason.
PEERS = {
    ("lockers", "sources"): "Requirements is what is locked",
    ("selection", "sources"): "Requirements says where sources are allowed",
    ("sdist", "lockers"): "build requirements are requirements",
    ("bytecode", "sdist"): "which interpreters this host has",
}
# Outside libraries and the only rooms that may know them.
KEPT = {
    "click": {"cli"},
    "rich": {"console"},
    "urllib3": {"fetch"},
    "requests": set(),
    "httpx": set(),
    "mousebender": {"indexes"},
    "uv": {"lockers", "sources"},
    "piptools": {"lockers"},
    "elftools": {"native"},
    "virtualenv": {"sdist", "rehearse"},
    "cyclonedx": set(),
    "pypi_attestations": {"evidence"},
    "sigstore": {"evidence"},
}
# Of the standard library, what the target side leaves to the host: archives, the network, TOML, a second unpacker.
HOSTS = {"asyncio", "ftplib", "gettext", "html", "http", "shelve", "smtplib", "socket", "socketserver", "sqlite3", "ssl"}
HOSTS |= {"tarfile", "tkinter", "tomllib", "turtle", "urllib", "webbrowser", "xml", "xmlrpc"}


def room(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """Full dotted names that a file imports anywhere, relative ones made absolute."""
    found: set[str] = set()
    package = ("offlinepack", *path.relative_to(HOUSE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            name = ".".join(base)
            found |= {name} | ({f"{name}.{one.name}" for one in node.names} if name == "offlinepack" else set())
    return found


def floor_of(name: str) -> int:
    return next((at for at, rooms in enumerate(FLOORS) if name in rooms), -1)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_run_downwards(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "__main__", "ontarget"):
        return
    assert floor_of(here) >= 0, f"{here} stands on no floor: put it into FLOORS, or into a room that exists"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "offlinepack":
            rooms = KEPT.get(parts[0])
            assert rooms is None or here in rooms, (
                f"{path.name} imports {parts[0]}, which belongs to {sorted(rooms or ())}"
            )
        elif len(parts) > 1 and parts[1] not in (here, "__version__") and floor_of(parts[1]) >= 0:
            there = parts[1]
            assert floor_of(there) > floor_of(here) or (here, there) in PEERS, (
                f"{here} imports {there}, which is not below it"
            )


def test_the_command_line_imports_little_before_a_command_is_chosen() -> None:
    tree = ast.parse((HOUSE / "cli" / "__init__.py").read_text("utf-8"))
    top = {
        name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert {one for one in top if one.startswith("offlinepack")} == {"offlinepack.errors"}
    assert top & {"click"} and not top & {"rich", "packaging", "urllib3"}


@pytest.mark.parametrize("path", ONTARGET, ids=lambda p: p.name)
def test_the_target_side_is_old_python_and_the_standard_library(path: Path) -> None:
    source = path.read_text("utf-8")
    ast.parse(source, feature_version=(3, 6))
    for name in imports(path):
        top = name.split(".")[0]
        if top == "offlinepack":
            assert name.startswith("offlinepack.ontarget"), f"{path.name} imports {name}: the target side stands alone"
        else:
            assert top in sys.stdlib_module_names or (path.name, top) == ("install.py", "ontarget"), f"{path.name}: {top}"
            assert top not in HOSTS, f"{path.name} imports {top}: that is the host's part"
    if path.name == "interpreter.py":
        assert not any(name.startswith("offlinepack") for name in imports(path)), "the probe is one file"


def code_lines(source: str) -> int:
    """Lines that hold code: not blank, no comment, no docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            first = node.body[0]
            documented |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def test_the_target_side_is_small_enough_to_be_read() -> None:
    """docs/decisions/size-of-the-target-side.md tells how the numbers came about, and what may raise them."""
    lines = {path.name: len(path.read_text("utf-8").splitlines()) for path in ONTARGET}
    assert max(lines.values()) <= 300, {name: count for name, count in lines.items() if count > 300}
    code = {path.name: code_lines(path.read_text("utf-8")) for path in ONTARGET}
    before_the_verdict = {"install.py", "errors.py", "paths.py", "manifest.py", "archive.py", "wheel.py", "landing.py"}
    before_the_verdict |= {"verify.py", "signature.py", "ed25519.py", "trust.py"}
    assert sum(code[name] for name in before_the_verdict) <= 1310, code
    assert sum(code.values()) <= 3500, code


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
    table = json.loads(((HOUSE / "ontarget" if side == "ontarget" else HOUSE) / "messages.zh.json").read_text("utf-8"))
    wanted = set().union(*(sentences(one) for one in files))
    wanted = {one for one in wanted if re.search(r"[A-Za-z]{2}", re.sub(r"\{\w+\}", "", one))}
    assert not wanted - set(table), "without a Chinese twin:\n" + "\n".join(sorted(wanted - set(table)))
    assert not set(table) - wanted, "nobody says any more:\n" + "\n".join(sorted(set(table) - wanted))
    for english, chinese in table.items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), english


def test_no_file_speaks_of_the_machine_it_was_written_on() -> None:
    for path in FILES:
        assert "/root/" not in path.read_text("utf-8"), path


if __name__ == "__main__":
    for one in sys.argv[1:]:
        print("\n".join(sorted(sentences(Path(one)))))
