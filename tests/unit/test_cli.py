"""The command line before any work: help pages, names that were meant, settings, init, completion, language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from offlinepack.cli.command import COMPLETION_VARIABLE, Option
from offlinepack.cli.config import list_setting_names, make_default_map, read_config
from offlinepack.cli.main import COMMANDS, main, root_command, run_command_line
from offlinepack.errors import SourceError

HERE = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def said(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command_line(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return said


def command(name: str) -> click.Command:
    found = root_command.get_command(click.Context(root_command), name)
    assert found is not None
    return found


def rows(page: str) -> list[str]:
    return re.findall(r"^  (-\S+.*)$", page, re.M)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_first_page_shows_at_most_25_options_and_the_second_all(name: str, run: Run) -> None:
    words = [name] if name else []
    code, page, _ = run(*words, "--help")
    assert code == 0 and 2 < len(rows(page)) <= 25
    assert max(map(len, page.splitlines())) <= 80 and page.isascii()
    code, whole, _ = run(*words, "--help-all")
    assert code == 0
    for one in (command(name) if name else root_command).params:
        for option in one.opts if isinstance(one, click.Option) else ():
            assert re.search(rf"{option}\b", whole), f"{name} --help-all does not list {option}"
            assert not getattr(one, "rare", False) or isinstance(one, Option)
        assert not isinstance(one, click.Option) or one.help, f"{name} {one.opts}: no help"


def test_every_command_stands_in_both_readmes() -> None:
    for readme in ("README.md", "README.zh-CN.md"):
        text = (HERE / readme).read_text("utf-8")
        for name in COMMANDS:
            assert re.search(rf"^\| `{name}` \|", text, re.M), f"{readme} has no row for {name}"


def test_alone_it_prints_five_commands(run: Run) -> None:
    code, out, err = run()
    assert code == 0 and err == ""
    assert re.findall(r"^  offlinepack (\S+)", out, re.M) == ["build", "verify", "install", "inspect", "rollback"]
    code, out, _ = run("--lang", "zh")
    assert code == 0 and "没有网络" in out


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("pack", "build"), ("download", "build"), ("unpack", "install"), ("buidl", "build"), ("verfy", "verify")],
)
def test_what_was_meant(typed: str, meant: str, run: Run) -> None:
    code, out, err = run(typed, "x")
    assert code == 2 and out == "" and f"offlinepack {meant}" in err


def test_usage_errors_as_json_and_global_options_on_both_sides(run: Run) -> None:
    code, out, err = run("build", "--frobnicate", "--json")
    assert code == 2 and json.loads(out)["exit_code"] == 2 and "--frobnicate" in err
    assert json.loads(run("--json", "targets")[1]) == json.loads(run("targets", "--json")[1])


def test_settings_of_every_option_are_known_and_checked(run: Run, tmp_path: Path) -> None:
    lines = ["[tool.offlinepack]"]
    wrong = {}
    for one in command("build").params:
        for key in list_setting_names(one):
            flag, many = getattr(one, "is_flag", False), one.nargs == -1 or getattr(one, "multiple", False)
            wrong[key] = len(lines) + 1
            lines.append(f"{key} = " + ('"yes"' if flag else '"one"' if many else "[3]"))
    assert len(wrong) > 50
    (tmp_path / "pyproject.toml").write_text("\n".join(lines))
    code, _, err = run("build")
    assert code == 3
    for key, line in wrong.items():
        assert re.search(rf"pyproject.toml:{line}: '{key}' takes (true or false|a list|a string)", err), key


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('naem = "x"', 2, "Did you mean 'name'?"),
        ('\n\ntarget = ["debian12"]', 4, "Did you mean 'targets'?"),
        ('requirements-files = ["x"]', 2, "Did you mean 'requirement-files'?"),
        ('resolver = "best"', 2, "'best'"),
        ('split = "much"', 2, "3900M"),
        ("retries = 1000", 2, "1000"),
        ("[tool.offlinepack.sorces]\na = 1", 2, "Did you mean 'sources'?"),
        ('zzzzzz = "x"', 2, "--help-all"),
        ("[tool.offlinepack.policy]\nyankd = true", 3, "Did you mean 'yanked'?"),
        ('[[tool.offlinepack.index]]\nurl = "https://x/"\nexplict = true', 4, "Did you mean 'explicit'?"),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_its_line(
    text: str, line: int, words: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.offlinepack]\n" + text + "\n")
    code, _, err = run("build", "stone")
    assert code == 3 and f"pyproject.toml:{line}:" in err and words in err, err
    assert run("build", "stone", "--lang", "zh")[0] == 3


def defaults(path: Path, name: str, named: bool = True) -> dict[str, object]:
    return make_default_map(path, {one: command(one) for one in COMMANDS}, name, named=named)


def test_settings_are_for_packing_and_the_lone_keys_of_others_for_those(tmp_path: Path) -> None:
    path = tmp_path / "offlinepack.toml"
    path.write_text(
        'venv = ".venv"\nengine = "fast"\nlang = "zh"\nrequirement-files = ["a.txt"]\nincludes = ["conf=etc"]\n'
    )
    (tmp_path / "conf").mkdir()
    packing = defaults(path, "build")
    assert packing["venv"] == str(tmp_path / ".venv"), "beside the settings, not where we stand"
    assert packing["requirement"] == [str(tmp_path / "a.txt")] and packing["include"] == [f"{tmp_path}/conf=etc"]
    assert packing["lang"] == "zh" and "engine" not in packing
    assert defaults(path, "install") == {"engine": "fast", "lang": "zh"}
    assert defaults(path, "install", named=False) == {"engine": "fast", "lang": "zh"}
    assert defaults(path, "verify", named=False) == {"lang": "zh"}
    assert defaults(path, "build", named=False) == packing


@pytest.mark.parametrize("line", ["python = './evil'", "allow-downgrade = true", "smoke = ['./evil']", "live = true"])
def test_what_lies_beside_a_bundle_takes_no_guard_away(tmp_path: Path, line: str) -> None:
    path = tmp_path / "offlinepack.toml"
    path.write_text(f"[tool.offlinepack]\n{line}\n")
    refused = 0
    for name in ("install", "verify", "rollback", "inspect", "rehearse"):
        try:
            assert defaults(path, name, named=False) == {}
        except SourceError:
            refused += 1
    assert refused


def test_init_looks_at_the_project_and_what_it_writes_is_read(run: Run, tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "Stone_Works"\nversion = "1"\n[project.optional-dependencies]\nweb = []')
    (tmp_path / "manage.py").write_text("")
    code, out, err = run("init")
    assert code == 0 and "pyproject.toml" in err, err
    assert project.read_text().endswith(out) and project.read_text().startswith("[project]\n")
    assert '# extras = ["web"]' in out and "manage.py=app/manage.py" in out and "# targets" in out
    assert read_config(project) == {"project": "."}
    before = project.read_bytes()
    assert run("init")[0] == 2 and project.read_bytes() == before
    # every line that is a comment becomes a setting that is known
    names = [one for name in ("build",) for each in command(name).params for one in list_setting_names(each)]
    for key in re.findall(r"^# ([a-z-]+) = ", out, re.M):
        assert key in names


def test_init_without_pyproject(run: Run, tmp_path: Path) -> None:
    assert run("init")[0] == 0
    assert "[tool.offlinepack]" in (tmp_path / "offlinepack.toml").read_text()
    assert run("init")[0] == 2
    (tmp_path / "offlinepack.toml").unlink()
    (tmp_path / "requirements.txt").write_text("stone\n")
    code, out, _ = run("init", "--json")
    assert code == 0 and json.loads(out)["settings"] == {"requirement-files": ["requirements.txt"]}


def test_a_variable_that_nearly_names_an_option_is_reported() -> None:
    from offlinepack.cli.build import build
    from offlinepack.cli.config import find_misnamed_variables

    seen = {
        "OFFLINEPACK_TARGETS": "debian12",
        "OFFLINEPACK_TARGET": "x",
        "OFFLINEPACK_LAB": "y",
        "OFFLINEPACK_VERIFY_KEY": "",
    }
    (found,) = find_misnamed_variables(seen, build.params)
    assert (
        found.render()
        == "The variable OFFLINEPACK_TARGETS means nothing to offlinepack. Did you mean 'OFFLINEPACK_TARGET'?"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("not = [toml")

    def offered(words: str, begun: str) -> str:
        monkeypatch.setenv(COMPLETION_VARIABLE, f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", begun if shell == "fish" else str(len(words.split()) - 1))
        with pytest.raises(SystemExit) as left:
            main([])
        assert left.value.code == 0
        return capsys.readouterr().out

    assert "verify" in offered("offlinepack ver", "ver")
    assert "--target" in offered("offlinepack build --tar", "--tar")
    assert "debian12" in offered("offlinepack build --target deb", "deb")


def test_command_line_sources_win_over_settings(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from offlinepack.cli import build

    asked = []

    def stop(what: object, *_: object, **__: object) -> None:
        asked.append(what)
        raise click.UsageError("enough")

    monkeypatch.setattr(build, "make_request", stop)
    (tmp_path / "pyproject.toml").write_text('[tool.offlinepack]\nrequirement-files = ["a.txt"]\nextras = ["x"]\n')
    run("build", "stone")
    run("build")
    assert [(one.requirements, [str(f) for f in one.files], one.extras) for one in asked] == [  # type: ignore[attr-defined]
        (("stone",), [], ("x",)),
        ((), ["a.txt"], ("x",)),
    ]
