"""The scenarios resolved by pip without the optional patches of pip_shim/speedups.py: the results are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinepack.pip_shim import run
from offlinepack.targets.parse import get_running_target
from tests.support import scenarios

LIST_MODULES = 'import atexit, sys\natexit.register(lambda: print("speedups" in str([*sys.modules])))\n'


def list_scenarios() -> Iterator[Any]:
    """Yield the scenarios that pip resolves; those without a choice between releases are marked as slow."""
    for path in sorted(scenarios.SCENARIOS.glob("*.toml")):
        scenario = scenarios.read(path.stem)
        if "pip" in scenario.get("resolvers", ["pip"]):
            has_choice = any(len(releases) > 1 for releases in scenario.get("index", {}).values())
            yield pytest.param(path.stem, marks=[] if has_choice else [pytest.mark.slow])


@pytest.mark.parametrize("name", list(list_scenarios()))
def test_scenario_holds_without_speedups(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run.SPEEDUPS_VARIABLE, "0")
    target = scenarios.read(name)["targets"][0]
    scenarios.run_scenario(name, target, "pip", tmp_path, monkeypatch)


@pytest.mark.parametrize(("value", "is_loaded"), [("0", False), ("1", True), ("", True)])
def test_the_variable_switches_the_module_off(
    value: str, is_loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(run.SPEEDUPS_VARIABLE, value)
    monkeypatch.setattr(run, "START", LIST_MODULES + run.START)
    output = run.run_pip(get_running_target(), ["pip", "--version"], environment={}, cwd=tmp_path)
    assert output.stdout.splitlines()[-1] == str(is_loaded)
