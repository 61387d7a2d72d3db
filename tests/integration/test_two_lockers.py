"""uv and pip, asked the same for the same target, give the same pins; real projects, the real index.

fixtures/locks/differences.toml lists what differs and why. It may only shrink: a difference that it does not list fails
the test, and so does one that it lists and that is no more.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock

from offlinepack.index.settings import read_settings
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.choose import resolve
from offlinepack.resolve.context import ResolverContext
from offlinepack.selection import select_files
from offlinepack.targets.model import Target
from offlinepack.targets.parse import parse_target

DIFFERENCES = Path(__file__).parents[2] / "fixtures" / "locks" / "differences.toml"
SETS = {
    "notes": ["django==5.2.*", "psycopg[binary]", "pillow", "celery[redis]", "gunicorn"],
    "flask": ["flask", "flask-login", "flask-sqlalchemy", "gunicorn", "python-dotenv"],
    "fastapi": ["fastapi", "uvicorn[standard]", "pydantic-settings", "sqlalchemy[asyncio]", "alembic", "httpx"],
    "science": ["numpy", "pandas", "scikit-learn", "matplotlib", "openpyxl"],
    "jupyter": ["jupyterlab", "ipywidgets", "pandas"],
    "cloud": ["boto3", "requests[socks]", "azure-identity", "google-cloud-storage"],
    "network": ["netmiko", "napalm", "paramiko", "scrapy"],
    "docs": ["sphinx", "furo", "myst-parser", "mkdocs-material"],
    "tools": ["black", "mypy", "pytest", "tox", "pre-commit", "twine"],
    "plots": ["streamlit", "dash", "bokeh"],
    "data": ["pyarrow", "polars", "duckdb", "lxml", "beautifulsoup4"],
    "ops": ["ansible-core", "uwsgi", "jinja2", "cryptography"],
}
TARGETS = {
    "notes": ["debian12", "kylin10:3.11", "windows:3.12", "alpine3.20"],
    "flask": ["cp38-manylinux_2_17_x86_64", "cp313-manylinux_2_28_aarch64", "macos14:3.12"],
    "fastapi": ["rhel8:3.11", "windows:3.11", "macos13-x86_64:3.12"],
    "science": ["cp310-manylinux_2_17_x86_64", "cp312-musllinux_1_2_x86_64", "cp311-win_amd64", "macos14:3.13"],
    "jupyter": ["cp312-win_amd64", "cp310-manylinux_2_28_x86_64"],
    "cloud": ["cp39-manylinux_2_28_x86_64", "cp313-win_amd64"],
    "network": ["debian11", "windows:3.12"],
    "docs": ["ubuntu22.04", "macos14:3.11", "windows:3.10"],
    "tools": ["cp39-manylinux_2_17_x86_64", "cp313-win_amd64", "cp311-manylinux_2_28_aarch64"],
    "plots": ["rhel9:3.11", "windows:3.12"],
    "data": ["cp311-manylinux_2_28_x86_64", "cp312-manylinux_2_28_aarch64", "cp312-win_amd64"],
    "ops": ["debian12", "ubuntu24.04"],
}
ALONE = ["cp311-manylinux_2_28_ppc64le", "cp311-manylinux_2_31_armv7l", "cp312-manylinux_2_28_s390x"]
"""targets that only pip can lock for"""

pytestmark = pytest.mark.network


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def locked(asked: Requirements, target: Target, resolver: str, cache: Path) -> Pylock:
    return resolve(asked, target, read_settings(), ResolverContext(cache_dir=cache), resolver)


def pins(pylock: Pylock, target: Target) -> dict[str, str]:
    """uv leaves markers on packages that this target does not need."""
    here = [one for one in pylock.packages if one.marker is None or target.evaluate(one.marker)]
    return {one.name: str(one.version) for one in here}


def files(pylock: Pylock, target: Target, asked: Requirements) -> list[str]:
    return sorted(one.filename for one in select_files(pylock, target, asked).files)


def listed(name: str, target: str) -> dict[str, Any]:
    found = tomllib.loads(DIFFERENCES.read_text("utf-8")).get("difference", [])
    return {one["project"]: one for one in found if (one["set"], one["target"]) == (name, target)}


@pytest.mark.parametrize(("name", "target"), [(name, one) for name, all_ in TARGETS.items() for one in all_])
def test_the_two_lockers_agree(name: str, target: str, cache: Path) -> None:
    asked, seen = parse_arguments(SETS[name]), parse_target(target)
    by_uv, by_pip = (locked(asked, seen, resolver, cache) for resolver in ("uv", "pip"))
    ours, theirs = pins(by_uv, seen), pins(by_pip, seen)
    differ = {
        one: [ours.get(one, ""), theirs.get(one, "")] for one in {*ours, *theirs} if ours.get(one) != theirs.get(one)
    }
    known = listed(name, target)
    assert differ == {one: [known[one]["uv"], known[one]["pip"]] for one in known}
    if not differ:
        assert files(by_uv, seen, asked) == files(by_pip, seen, asked)


@pytest.mark.parametrize("target", ALONE)
def test_pip_locks_where_uv_cannot(target: str, cache: Path) -> None:
    seen, asked = parse_target(target), parse_arguments(["flask", "pyyaml", "cffi"])
    assert seen.get_uv_platform() is None
    made = locked(asked, seen, "auto", cache)
    assert {"flask", "pyyaml", "cffi", "jinja2"} <= {one.name for one in made.packages}
    assert all(seen.rank_wheel(one) is not None for one in files(made, seen, asked) if one.endswith(".whl"))


def test_every_difference_has_a_reason_and_a_place() -> None:
    for one in tomllib.loads(DIFFERENCES.read_text("utf-8")).get("difference", []):
        assert set(one) == {"set", "target", "project", "uv", "pip", "why"}
        assert one["target"] in TARGETS[one["set"]]
