"""What is remembered of a wheel, and which wheels can clash."""

from pathlib import Path

import pytest

from offlinepack.errors import IntegrityError
from offlinepack.ontarget.destinations import find_clashes
from offlinepack.store import Store, StoredFile
from offlinepack.wheels import inspect, report
from offlinepack.wheels.inspect import find_file_clashes, inspect_wheel

from ..support.making import make_wheel


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def kept(store: Store, path: Path) -> StoredFile:
    return store.add_file(path)


def test_a_wheel_is_read_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept(store, make_wheel(tmp_path, "stone", requires=["lichen>=1"]))
    first = inspect_wheel(file, store)
    for module in (inspect, report):
        monkeypatch.setattr(module, "read_wheel", lambda *_, **__: pytest.fail("read again"))
    again = inspect_wheel(file, store)
    assert (again.metadata_header, again.path_roots) == (first.metadata_header, first.path_roots)
    assert [str(one) for one in again.metadata.requires] == ["lichen>=1"]


def test_what_runs_at_every_start_is_said_each_time(store: Store, tmp_path: Path) -> None:
    file = kept(store, make_wheel(tmp_path, "stone", files={"stone.pth": "import stone\n", "stone.py": ""}))
    for _ in range(2):
        assert [one.code for one in inspect_wheel(file, store).notes] == ["wheel-startup"]


def test_an_unsound_wheel_is_unsound_each_time(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "stone")
    path.write_bytes(path.read_bytes()[:-30])
    file = kept(store, path)
    for _ in range(2):
        with pytest.raises(IntegrityError):
            inspect_wheel(file, store)


@pytest.mark.parametrize(
    ("one", "other", "system", "levels"),
    [
        ({"stone/a.py": "1"}, {"lichen/a.py": "2"}, "linux", []),
        ({"shared/a.py": "1"}, {"shared/b.py": "2"}, "linux", []),
        ({"shared/a.py": "1"}, {"shared/a.py": "2"}, "linux", ["error"]),
        ({"shared/a.py": "1"}, {"shared/a.py": "1"}, "linux", ["note"]),
        ({"Shared/a.py": "1"}, {"shared/a.py": "2"}, "linux", []),
        ({"Shared/a.py": "1"}, {"shared/a.py": "2"}, "windows", ["error"]),
        ({"shared": "1"}, {"shared/a.py": "2"}, "linux", ["error"]),
        ({"shared.py": "1"}, {"__pycache__/shared.cpython-311.pyc": "2"}, "linux", ["error"]),
        ({"stone/con.py": "1"}, {"lichen/a.py": "2"}, "windows", ["error"]),
        ({"stone/con.py": "1"}, {"lichen/a.py": "2"}, "linux", []),
    ],
)
def test_only_wheels_with_a_root_in_common_are_compared(
    store: Store, tmp_path: Path, one: dict[str, str], other: dict[str, str], system: str, levels: list[str]
) -> None:
    files = [kept(store, make_wheel(tmp_path, name, files=each)) for name, each in (("stone", one), ("lichen", other))]
    both = [inspect_wheel(file, store) for file in files]
    for _ in range(2):
        found = find_file_clashes(both, system, store)
        assert [each.level for each in found] == levels
        assert found == find_clashes([each.checked_wheel for each in reversed(both)], system)


def test_scripts_of_two_wheels(store: Store, tmp_path: Path) -> None:
    for name, entries in (("stone", {"run": "stone:main"}), ("lichen", {"run": "lichen:main"})):
        make_wheel(tmp_path, name, entry_points={"console_scripts": entries})
    both = [inspect_wheel(kept(store, path), store) for path in sorted(tmp_path.glob("*.whl"))]
    assert [one.level for one in find_file_clashes(both, "windows", store)] == ["error"]
