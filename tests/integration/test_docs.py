"""The documentation: it builds strictly, every option that it names exists, the blocks of its how-tos run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from offlinepack import cli
from offlinepack.ontarget import command
from tests.making import ServedIndex

HERE = Path(__file__).parents[2]
PAGES = HERE / "docs" / "pages"
WRITTEN = sorted(PAGES.rglob("*.md"))
FENCE = re.compile(r"^```(\w+)(?: title=\"(\w+)\")?\n(.*?)^```$", re.M | re.S)


def blocks(page: Path, title: str) -> list[str]:
    return [code for kind, where, code in FENCE.findall(page.read_text("utf-8")) if kind == "sh" and where == title]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Command -> its options; install.py's under that name."""
    found = {"": {one for option in cli.cli.params for one in option.opts}}
    for name in cli.COMMANDS:
        made = cli.cli.get_command(click.Context(cli.cli), name)
        assert made
        found[name] = {one for option in made.params for one in option.opts} | {"-h", "--help"}
    found["install.py"] = {name for name, _, _ in (*command.INSTALL, *command.OTHERS)}
    found["install.py"] |= set(command.SHORT.values())
    return found


@pytest.mark.parametrize("page", [*WRITTEN, HERE / "README.md", HERE / "README.zh-CN.md"], ids=lambda p: p.name)
def test_every_option_that_is_named_exists(page: Path, known: dict[str, set[str]]) -> None:
    text = page.read_text("utf-8")
    wrong = []
    for line in text.replace("\\\n", " ").splitlines():
        for name, words in re.findall(r"\bofflinepack ([a-z]+)((?: [^`;|&#\n]*)?)", line):
            if name in known:
                given = re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", words)
                wrong += [f"offlinepack {name} {one}" for one in given if one not in known[name]]
        for words in re.findall(r"install\.(?:py|cmd|sh)((?: [^`;|&#\n]*)?)", line):
            given = re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", words)
            wrong += [f"install.py {one}" for one in given if one not in known["install.py"]]
    everywhere = set().union(*known.values())
    foreign = {"--nothreading", "--processes", "--threads", "--platform", "--no-index", "--only-binary", "--require-hashes"}
    foreign |= {"--isolated", "--now", "--map-root-user", "--net", "--without-pip"}
    prose = re.findall(r"`(--[a-z][a-z-]*)[^`]*`", re.sub(FENCE, "", text))
    wrong += [one for one in prose if one not in everywhere | foreign]
    assert not wrong, wrong


def test_it_builds_strictly(tmp_path: Path) -> None:
    told = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", HERE / "docs" / "mkdocs.yml", "-d", tmp_path]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(told, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.html")}
    assert {"tutorial.html", "tutorial.zh.html", "reference/commands.html", "reference/bundle.html"} <= pages
    commands = (tmp_path / "reference" / "commands.html").read_text("utf-8")
    assert "--rehearse" in commands and "--python-version" in commands
    assert "manylinux_2_28" in (tmp_path / "reference" / "targets.html").read_text("utf-8")
    assert all("https://fonts." not in one.read_text("utf-8") for one in tmp_path.rglob("*.html"))


def test_both_tutorials_say_the_same_commands() -> None:
    for title in ("here", "there"):
        assert blocks(PAGES / "tutorial.md", title) == blocks(PAGES / "tutorial.zh.md", title)


def test_when_it_fails_has_a_section_for_each_exit_code() -> None:
    from offlinepack import errors

    text = (PAGES / "how-to" / "when-it-fails.md").read_text("utf-8")
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.OfflinepackError)]
    codes = {one.exit_code for one in kinds} | {1, 130}
    assert {int(one) for one in re.findall(r"^## (\d+):", text, re.M)} == codes


HOW_TO = [one for one in sorted((PAGES / "how-to").glob("*.md")) if blocks(one, "here") and one.name != "rhel8.md"]


@pytest.mark.parametrize("page", HOW_TO, ids=lambda p: p.stem)
def test_the_blocks_of_the_how_tos_run(page: Path, index: ServedIndex, tmp_path: Path) -> None:
    """As they stand, one after the other, in a folder with a requirements.txt; /srv/app is a folder of the test."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "requirements.txt").write_text("stone\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "offlinepack").write_text(f'#!/bin/sh\nexec {sys.executable} -m offlinepack "$@"\n')
    (tmp_path / "bin" / "offlinepack").chmod(0o755)
    (tmp_path / "bin" / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    index.pep658 = True
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(HERE),
        "OFFLINEPACK_CACHE_DIR": str(tmp_path / "cache"),
    }
    script = "set -eu\n" + "\n".join(blocks(page, "here")).replace("/srv/app", str(tmp_path / "srv"))
    (tmp_path / "srv").mkdir()
    done = subprocess.run(["bash", "-c", script], cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
