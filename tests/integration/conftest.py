"""An index served from files made for the test, with a real pip in it; the command line as a function."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from offlinepack.cli.main import run_command_line
from tests.support.making import ServedIndex, make_wheel, serve_index


def pip_wheel() -> Path:
    """A real pip as a wheel, without a network: the one that virtualenv carries."""
    spec = importlib.util.find_spec("virtualenv")
    assert spec and spec.origin
    return max((Path(spec.origin).parent / "seed" / "wheels" / "embed").glob("pip-*.whl"))


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def offlinepack(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """offlinepack("build", "stone") -> exit code, stdout, stderr; in a folder of its own, with a store of its own."""
    monkeypatch.setenv("OFFLINEPACK_CACHE_DIR", str(tmp_path / "cache"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run_command_line([str(one) for one in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err.replace("    Traceback", ""), "but among the indented words of other programs"
        return Ran(code, out, err)

    return run


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedIndex]:
    """stone 1.0 needs pebble 1.0; boulder has no wheel for Windows; pip is real. Found by OFFLINEPACK_INDEX_URL."""
    wheels = tmp_path / "wheels"
    files = [
        make_wheel(
            wheels, "stone", "1.0", requires=["pebble>=1"], entry_points={"console_scripts": {"stone": "stone:main"}}
        ),
        make_wheel(wheels, "pebble", "1.0"),
        make_wheel(wheels, "boulder", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64"),
        make_wheel(wheels, "slate", "1.0", requires=["pebble<1"]),
        make_wheel(wheels, "granite", "2.0", requires=['gravel; sys_platform == "win32"']),
        make_wheel(wheels, "gravel", "3.0"),
        pip_wheel(),
    ]
    with serve_index(tmp_path, files) as served:
        monkeypatch.setenv("OFFLINEPACK_INDEX_URL", served.url)
        yield served
