"""The documentation: it builds strictly, every option that it names exists, the blocks of its how-tos run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from offlinepack.cli.main import COMMANDS, root_command
from offlinepack.ontarget.command import INSTALL_OPTIONS, OTHER_OPTIONS, SHORT_OPTIONS
from tests.support.making import ServedIndex, make_wheel
from tests.support.pages import FENCE, HERE, PAGES, Here, blocks, code

WRITTEN = sorted(PAGES.rglob("*.md"))


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Command -> its options; install.py's under that name."""
    found = {"": {one for option in root_command.params for one in option.opts}}
    for name in COMMANDS:
        made = root_command.get_command(click.Context(root_command), name)
        assert made
        found[name] = {one for option in made.params for one in option.opts} | {"-h", "--help"}
    found["install.py"] = {name for name, _, _ in (*INSTALL_OPTIONS, *OTHER_OPTIONS)}
    found["install.py"] |= set(SHORT_OPTIONS.values())
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
    foreign = {
        "--nothreading",
        "--processes",
        "--threads",
        "--platform",
        "--no-index",
        "--only-binary",
        "--require-hashes",
    }
    foreign |= {"--isolated", "--now", "--map-root-user", "--net", "--without-pip"}
    prose = re.findall(r"`(--[a-z][a-z-]*)[^`]*`", re.sub(FENCE, "", text))
    wrong += [one for one in prose if one not in everywhere | foreign]
    assert not wrong, wrong


def test_it_builds_strictly(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        HERE / "docs" / "mkdocs.yml",
        "-d",
        tmp_path,
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.html")}
    assert {"tutorial.html", "tutorial.zh.html", "reference/commands.html", "reference/bundle.html"} <= pages
    commands = (tmp_path / "reference" / "commands.html").read_text("utf-8")
    assert "--rehearse" in commands and "--python-version" in commands
    assert "manylinux_2_28" in (tmp_path / "reference" / "targets.html").read_text("utf-8")
    assert all("https://fonts." not in one.read_text("utf-8") for one in tmp_path.rglob("*.html"))


def test_both_tutorials_say_the_same_commands() -> None:
    assert blocks(PAGES / "tutorial.md") == blocks(PAGES / "tutorial.zh.md")


def test_when_it_fails_has_a_section_for_each_exit_code() -> None:
    from offlinepack import errors
    from offlinepack.errors import OfflinepackError

    text = (PAGES / "how-to" / "when-it-fails.md").read_text("utf-8")
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, OfflinepackError)]
    codes = {one.exit_code for one in kinds} | {1, 130}
    assert {int(one) for one in re.findall(r"^## (\d+):", text, re.M)} == codes


@pytest.mark.parametrize("page", ["ci", "windows"])
def test_the_blocks_of_a_how_to_run(page: str, index: ServedIndex, tmp_path: Path) -> None:
    """Run the blocks of a page unchanged in their order; pages with blocks for the target machine run in tests/lab."""
    here = Here(tmp_path, tmp_path / "cache")
    (here.folder / "requirements.txt").write_text("stone\n")
    index.pep658 = True
    here("\n".join(code for _, code in blocks(PAGES / "how-to" / f"{page}.md")))


def test_the_private_index_of_the_how_to(index: ServedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address stands in the place of the page's, with the same user and token; the settings are the page's too."""
    monkeypatch.delenv("OFFLINEPACK_INDEX_URL")
    index.auth, index.pep658 = ("reader", "TOKEN"), True
    index.add(make_wheel(tmp_path / "wheels", "our-library", "1.0"))
    here, page = Here(tmp_path, tmp_path / "cache", TOKEN="TOKEN"), PAGES / "how-to" / "private-index.md"
    (here.folder / "requirements.txt").write_text("stone\n")

    def ours(text: str) -> str:
        return re.sub(
            "https://([^ /]*@)?pypi.example.com/",
            lambda one: index.root.replace("://", f"://{one[1] or ''}") + "/",
            text,
        )

    here(ours("\n".join(code for _, code in blocks(page))))
    (here.folder / "pyproject.toml").write_text(ours(code(page, "toml")))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login reader password TOKEN\n")
    assert "our-library" in here(f"NETRC={netrc} PIP_INDEX_URL={index.url} offlinepack build our-library --json")
    assert all(b"TOKEN" not in one.read_bytes() for one in here.folder.glob("*.tar.gz"))


def test_every_block_of_the_how_tos_is_run_or_has_a_reason() -> None:
    """Shell that no test types: what it takes is not on this machine."""
    untested = {"arm64.md": 1, "fleet.md": 1}  # an arm64 root and a compiler in it (test_uwsgi); the fleet's own test
    found = {
        one.name: len([1 for kind, where, _ in FENCE.findall(one.read_text("utf-8")) if kind == "sh" and not where])
        for one in WRITTEN
    }
    assert {name: count for name, count in found.items() if count} == untested
    run = {
        "tutorial",
        "tutorial.zh",
        "approval",
        "arm64",
        "ci",
        "diode",
        "private-index",
        "rhel8",
        "upgrade",
        "windows",
    }
    assert {one.stem for one in WRITTEN if blocks(one)} == run


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_relative_link_resolves(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (HERE / page).read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (HERE / link).exists()] == []


def test_the_readme_is_short() -> None:
    lines = (HERE / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 110
