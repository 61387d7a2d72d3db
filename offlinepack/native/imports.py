"""Find the extension modules that importing the top-level modules of a wheel loads, from its import statements."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator

from offlinepack.native.binary import EXTENSION_PATTERN, SITE_PACKAGES, get_installed_path

# Statements that an `import` of a module certainly executes: at the top level, in the `else` of a condition, in a `try`
# whose exception is raised again. Those in a function or under a condition do not count.
_IMPORT_PATTERN = re.compile(
    rb"^(?:import[ \t]+([^\n;#]+)|from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n;#]+))", re.M
)

_BLOCK_PATTERN = re.compile(
    rb"^(if|elif|else|with|try|except|finally)\b([^\n]*:[^\n]*)\n((?:[ \t]+[^\n]*(?:\n|\Z)|\n)+)", re.M
)

_MAX_DEPTH = 6


def find_loaded_extensions(
    names: Iterable[str], read: Callable[[str], bytes], extensions: set[str]
) -> tuple[set[str], bool]:
    """Find the extension modules that an import of the top-level modules loads, and calls of dlopen.

    `names` are the members of the wheel; `read` returns the bytes of one.
    """
    modules: dict[str, str] = {}
    members: dict[str, str] = {}
    for member in names:
        path = get_installed_path(member)
        if path.startswith(SITE_PACKAGES + "/") and path.endswith((".py", ".so", ".pyd")):
            named = EXTENSION_PATTERN.sub(r"\1", path) if path in extensions else path[:-3]
            if path.endswith(".py") or path in extensions:
                dotted = named[len(SITE_PACKAGES) + 1 :].replace("/", ".")
                dotted = dotted[: -len(".__init__")] if dotted.endswith(".__init__") else dotted
                if dotted not in modules or path in extensions:
                    modules[dotted], members[path] = path, member
    packages = {name for name, path in modules.items() if path.endswith("/__init__.py")}
    waiting = [
        name
        for name, path in modules.items()
        if "." not in name or (name in packages and not _list_parents(name) & packages)
    ]
    reached: set[str] = set()
    dlopens = False
    while waiting:
        name = waiting.pop()
        if name in reached or name not in modules:
            continue
        reached.add(name)
        waiting += _list_parents(name)
        if modules[name].endswith(".py"):
            source = read(members[modules[name]])
            dlopens = dlopens or b"ctypes" in source or b".dlopen(" in source
            module_name = f"{name}.{name.rpartition('.')[2]}"
            if (
                modules.get(module_name) in extensions and b"importlib" in source
            ):  # cv2/__init__.py loads cv2/cv2.abi3.so so
                waiting.append(module_name)
            waiting += _list_imports(source, name if name in packages else name.rpartition(".")[0])
    return {modules[name] for name in reached} & extensions, dlopens


def _list_parents(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


_IMPORT_CACHE: dict[tuple[bytes, str], tuple[str, ...]] = {}
"""hash and package -> imports: the wheels of one release for several machines share most modules"""

_MAX_CACHED_MODULES = 20_000


def _list_imports(source: bytes, package: str) -> tuple[str, ...]:
    """List the dotted names that a module imports at once; of `from x import y` both x and x.y."""
    key = hashlib.sha256(source).digest(), package
    if key not in _IMPORT_CACHE:
        if len(_IMPORT_CACHE) >= _MAX_CACHED_MODULES:
            _IMPORT_CACHE.clear()
        _IMPORT_CACHE[key] = tuple(dict.fromkeys(_parse_imports(source, package)))
    return _IMPORT_CACHE[key]


def _parse_imports(source: bytes, package: str) -> Iterator[str]:
    for plain, dots, base, names in _find_statements(source.replace(b"\r\n", b"\n").replace(b"\\\n", b" ")):
        if plain:
            yield from (part.split()[0].decode("latin-1") for part in plain.split(b",") if part.split())
            continue
        parts = package.split(".") if package else []
        parent = parts[: len(parts) - len(dots) + 1] if dots else []
        origin = ".".join([*parent, *([base.decode("latin-1")] if base else [])])
        yield origin
        listed = re.sub(rb"#[^\n]*", b"", names).strip(b"() \t\n").split(b",")
        yield from (f"{origin}.{entry.split()[0].decode('latin-1')}" for entry in listed if entry.split())


def _find_statements(source: bytes, depth: int = 0) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Yield the import statements of a block, and of its inner blocks that are executed."""
    yield from _IMPORT_PATTERN.findall(source)
    attempted = b""
    for kind, test, body in _BLOCK_PATTERN.findall(source) if depth < _MAX_DEPTH else ():
        if kind == b"try":
            attempted = body
        elif kind == b"except":
            runs, attempted = attempted if re.search(rb"\braise\b", body) else b"", b""
            yield from _find_statements(_dedent(runs), depth + 1)
        elif kind in (b"else", b"finally") or b"version_info" in test or (kind == b"with" and b"suppress" not in test):
            yield from _find_statements(_dedent(body), depth + 1)


def _dedent(block: bytes) -> bytes:
    return textwrap.dedent(block.decode("latin-1")).encode("latin-1") if b"import" in block else b""
