"""Structure of the package (STYLE, sections 1 to 4): who may import whom, sizes, names of identifiers."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "offlinepack"
FILES = sorted(PACKAGE.rglob("*.py"))
ONTARGET = sorted((PACKAGE / "ontarget").glob("*.py"))

# Imports go from left to right only; packages of one row do not import each other.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"launcher", "pipeline"},
    {"rehearsal", "report", "resolve", "sdist", "selection", "signing"},
    {"requirements", "wheels"},
    {"bundle", "index", "interpreters", "native", "pip_shim"},
    {"net", "sandbox"},
    {"store"},
    {"targets"},
    {"errors", "progress"},
    {"ontarget"},
    {"_version"},
]
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}

# Outside libraries and the only packages that import them.
LIBRARIES = {
    "click": {"cli"},
    "rich": {"cli"},
    "urllib3": {"net"},
    "truststore": {"net"},
    "keyring": {"net"},
    "requests": set(),
    "httpx": set(),
    "uv": {"resolve", "requirements"},
    "piptools": {"resolve"},
    "elftools": {"native"},
    "virtualenv": {"sdist", "rehearsal", "interpreters"},
    "auditwheel": {"sdist"},
    "isal": {"bundle", "native"},
    "cvss": {"report"},
    "cyclonedx": set(),
    "pypi_attestations": {"report"},
    "sigstore": {"report"},
}
# Of the standard library, what only the build host uses.
HOST_ONLY = {"asyncio", "ftplib", "gettext", "html", "http", "shelve", "smtplib", "socket", "socketserver", "sqlite3"}
HOST_ONLY |= {"ssl", "tarfile", "tkinter", "tomllib", "turtle", "urllib", "webbrowser", "xml", "xmlrpc"}

VERIFICATION = {"install", "errors", "paths", "manifest", "archive", "wheel", "wheel_model", "destinations", "verify"}
VERIFICATION |= {"signature", "ed25519"}


def module_name(path: Path) -> str:
    parts = ("offlinepack", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def list_imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere: offlinepack's by full name, others by their top-level name."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full in MODULES else source


GRAPH = {name: {target for target in list_imports(path) if target in MODULES} for name, path in MODULES.items()}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_from_left_to_right(module: str) -> None:
    package = package_of(module)
    if not package:
        return  # the public API, imported on first use
    assert package in LAYER_OF, f"{package} is not in LAYERS"
    for target in GRAPH[module]:
        other = package_of(target)
        if other and other != package:
            assert LAYER_OF[other] > LAYER_OF[package], f"{module} imports {target}"


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: targets - {"offlinepack"} for name, targets in GRAPH.items() if name != "offlinepack"}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in finished:
            for target in sorted(graph[module]):
                visit(target, (*trail, module))
            finished.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_libraries_are_known_to_their_package_alone(path: Path) -> None:
    for name in list_imports(path):
        users = LIBRARIES.get(name.partition(".")[0])
        assert users is None or package_of(module_name(path)) in users, f"{path} imports {name}"


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=module_name)
def test_packages_hold_a_docstring_alone(path: Path) -> None:
    if path.parent != PACKAGE:
        assert len(ast.parse(path.read_text("utf-8")).body) == 1


def test_the_command_line_imports_little_before_a_command_is_chosen() -> None:
    allowed = {"offlinepack.errors", "offlinepack.ontarget.errors", "offlinepack.cli.command"}
    for name in ("offlinepack.cli.main", "offlinepack.cli.command"):
        tree = ast.parse(MODULES[name].read_text("utf-8"))
        imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
        imported |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert {module for module in imported if module.startswith("offlinepack")} <= allowed
        assert not imported & {"rich", "packaging", "urllib3"}


@pytest.mark.parametrize("path", ONTARGET, ids=module_name)
def test_the_target_side_uses_old_python_and_the_standard_library(path: Path) -> None:
    ast.parse(path.read_text("utf-8"), feature_version=(3, 6))
    for name in list_imports(path):
        top = name.partition(".")[0]
        if top == "offlinepack":
            assert name.startswith("offlinepack.ontarget"), f"{path.name} imports {name}"
            assert path.name != "interpreter.py", "the probe is one file"
        else:
            assert top in sys.stdlib_module_names or (path.name, top) == ("install.py", "ontarget"), name
            assert top not in HOST_ONLY, f"{path.name} imports {top}"


def test_verification_imports_nothing_but_verification() -> None:
    for name in VERIFICATION - {"install"}:
        assert {target.rpartition(".")[2] for target in GRAPH[f"offlinepack.ontarget.{name}"]} <= VERIFICATION, name


def count_lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def test_the_target_side_is_small_enough_to_be_read() -> None:
    lines = {path.stem: count_lines(path) for path in ONTARGET}
    assert sum(lines.values()) <= 4500, lines
    assert sum(lines[name] for name in VERIFICATION) <= 1760, lines


@pytest.mark.parametrize("path", [path for path in FILES if path not in ONTARGET], ids=module_name)
def test_no_module_of_the_host_is_long(path: Path) -> None:
    assert count_lines(path) <= 500


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    for path in FILES:
        assert "/root/" not in path.read_text("utf-8"), path


def test_no_test_module_imports_another_one() -> None:
    tests = Path(__file__).parents[1]
    pattern = re.compile(r"^\s*(?:from|import) .*\btest_\w+", re.M)
    assert [str(path) for path in tests.rglob("test_*.py") if pattern.search(path.read_text("utf-8"))] == []
