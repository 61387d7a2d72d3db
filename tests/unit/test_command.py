"""The target side's command line: options, variables, what is refused, help, JSON, language."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from offlinepack import __version__
from offlinepack.ontarget import command
from offlinepack.ontarget.command import INSTALL_OPTIONS, OTHER_OPTIONS, main
from offlinepack.ontarget.files import write_json
from offlinepack.ontarget.generations import EnvironmentLocation, switch_generation
from offlinepack.ontarget.report import Reporter, load_messages


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own process keeps its handlers."""
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that an installation is asked for."""
    seen: list[Any] = []

    def install(options: Any, voice: Reporter) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr(command, "install_bundle", install)
    return seen


def run(capsys: pytest.CaptureFixture[str], *words: str, folder: str | None = "/bundle") -> tuple[int, str, str]:
    code = main(list(words), folder)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_every_option_of_install(asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (
        "--venv v --python p --target t --engine fast --no-compile --keep-going --force --allow-downgrade --dry-run "
        "--report r --verify-key a --verify-key b --require-signature --signature s -j 3 -qq -v --json --no-color --lang zh"
    )
    assert main(words.split(), "/bundle") == 0
    (options,) = asked
    assert (options.venv, options.python, options.target, options.engine) == ("v", "p", "t", "fast")
    assert options.no_compile and options.keep_going and options.force and options.allow_downgrade and options.dry_run
    assert (options.report, options.verify_key, options.signature, options.jobs) == ("r", ["a", "b"], "s", "3")
    assert options.require_signature and options.folder == "/bundle" and (options.quiet, options.verbose) == (2, 1)


def test_variables_speak_where_the_command_line_does_not(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("VENV", "v"), ("KEEP_GOING", "1"), ("FORCE", "no"), ("VERIFY_KEY", "a b"), ("ENGINE", "pip")):
        monkeypatch.setenv("OFFLINEPACK_" + name, value)
    assert main(["--engine", "fast"], "/bundle") == 0
    (options,) = asked
    assert (options.venv, options.verify_key, options.engine) == ("v", ["a", "b"], "fast")
    assert options.keep_going and not options.force


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fast"], "--fast"),
        (["--engine", "slow"], "--engine is one of: auto, pip, fast"),
        (["--lang", "de"], "--lang is one of: en, zh"),
        (["-j", "many"], "--jobs takes a number"),
        (["--venv"], "--venv"),
        (["stone"], "stone"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_cannot_be_meant(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, out, err = run(capsys, *words)
    assert code == 2 and said in err and out == ""


def test_errors_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "--json", "--verify", folder=str(tmp_path))
    document = json.loads(out)
    assert code == document["exit_code"] == 9 and document["schema"] == 1
    assert document["ok"] is False and document["changed"] is False and document["command"] == "verify"
    assert document["findings"][0]["code"] == "not-a-bundle" and "manifest.json" in err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name, _, _ in (*INSTALL_OPTIONS, *OTHER_OPTIONS))
    assert max(map(len, out.splitlines())) <= 120
    assert run(capsys, "-V")[1].strip() == f"offlinepack {__version__}"


def test_help_in_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help", "--lang", "zh")
    assert code == 0 and "虚拟环境" in out


@pytest.mark.parametrize(
    ("variables", "chinese"),
    [
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, False),
        ({"LC_MESSAGES": "zh_TW", "LC_ALL": ""}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": ""}, False),
        ({"LANG": "zh_CN.UTF-8", "OFFLINEPACK_LANG": "en"}, False),
        ({"LC_ALL": "C", "OFFLINEPACK_LANG": "zh"}, True),
    ],
)
def test_language(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], chinese: bool) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert bool(load_messages()) is chinese
    assert load_messages("en") == {}


def test_a_bug_is_said_without_a_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def install(*_: Any) -> int:
        raise KeyError("stone")

    monkeypatch.setattr(command, "install_bundle", install)
    code, _, err = run(capsys)
    assert code == 1 and "bug" in err and "stone" in err
    assert main(["--debug"], "/bundle") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (OSError(28, "No space left on device", "/srv/x"), 12, "/srv/x: No space left on device"),
        (KeyboardInterrupt(), 130, "Interrupted. Nothing was changed"),
    ],
)
def test_the_computer_and_the_person(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, said: str
) -> None:
    def install(*_: Any) -> int:
        raise fault

    monkeypatch.setattr(command, "install_bundle", install)
    found, _, err = run(capsys)
    assert found == code and said in err


def test_the_program_alone_takes_words(capsys: pytest.CaptureFixture[str], asked: list[Any], tmp_path: Path) -> None:
    assert run(capsys, folder=None)[0] == 2
    assert run(capsys, "install", folder=None)[0] == 2
    assert run(capsys, "install", "b", "--venv", "v", folder=None)[0] == 0
    assert asked[0].folder == os.path.abspath("b") and asked[0].venv == "v"
    code, _, err = run(capsys, "rollback", "--venv", str(tmp_path / "venv"), folder=None)
    assert code == 2 and "no such release" in err
    code, _, err = run(capsys, "inspect", "--venv", str(tmp_path / "venv"), folder=None)
    assert code == 2 and "nothing" in err


def test_the_report_goes_to_a_file_or_into_a_folder(asked: list[Any], tmp_path: Path) -> None:
    assert main(["--report", str(tmp_path / "r.json")], "/bundle") == 0
    assert json.loads((tmp_path / "r.json").read_text())["exit_code"] == 0
    assert main(["--report", str(tmp_path / "all") + "/"], "/bundle") == 0
    assert len(list((tmp_path / "all").iterdir())) == 1


def test_a_report_that_cannot_be_written_is_a_warning(
    capsys: pytest.CaptureFixture[str], asked: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "no").write_text("a file, not a folder")
    code, _, err = run(capsys, "--report", str(tmp_path / "no" / "r.json"))
    assert code == 0 and "warning" in err and str(tmp_path / "no") in err


def test_lists_of_generations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    record = {"bundle": "notes", "version": "1.0", "installed": "2026-01-01T00:00:00Z"}
    (tmp_path / "venv.d" / "0123456789ab").mkdir(parents=True)
    switch_generation(place, "0123456789ab")
    write_json(place.get_path("state.json"), {"current": "0123456789ab", "generations": {"0123456789ab": record}})
    code, out, _ = run(capsys, "--rollback", "--list", "--venv", place.venv)
    assert code == 0 and "0123456789ab  notes 1.0  2026-01-01T00:00:00Z  current" in out
