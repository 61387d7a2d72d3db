"""The release: what `python -m build` makes, what is in it, and that the version stands in one place."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from offlinepack import __version__
from offlinepack.ontarget.command import VERSION

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", place, HERE]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PIP_CONFIG_FILE": os.devnull}, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return place


def test_wheel_and_sdist(dist: Path) -> None:
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [path] = [one for one in names if one.endswith(".dist-info/METADATA")]
        metadata = email.message_from_string(archive.read(path).decode())
    source = {str(one.relative_to(HERE)) for one in (HERE / "offlinepack").rglob("*") if one.is_file()}
    source = {one for one in source if "__pycache__" not in one}
    assert source <= names and "offlinepack/py.typed" in names and "offlinepack/ontarget/install.py" in names
    assert not {one for one in names if one.startswith(("tests", "docs"))}
    assert metadata["Version"] == __version__ and metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["License-Expression"] == "Apache-2.0" and "packs a Python application" in metadata.get_payload()
    with tarfile.open(sdist) as archive:
        inside = {one.name.partition("/")[2] for one in archive}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/support/making.py"} <= inside


def test_one_version_and_a_changelog() -> None:
    assert __version__ == VERSION
    assert 'path = "offlinepack/_version.py"' in (HERE / "pyproject.toml").read_text("utf-8")
    text = (HERE / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.+)\]", text, re.M)
    assert headings[0] == "Unreleased" or headings[0].startswith(__version__)
    unreleased = text.partition("## [Unreleased]")[2].partition("\n## ")[0]
    assert len(re.findall(r"^- ", unreleased, re.M)) <= 25
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert all(len(line) <= 160 for line in text.splitlines())
