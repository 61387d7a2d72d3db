"""The matrix as data: what an index holds, what is asked, for which targets, and what must come out.

Each file of fixtures/scenarios is one scenario; README.md beside them says how it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.scenarios import SCENARIOS, read, run_scenario


def cases() -> Iterator[Any]:
    for path in sorted(SCENARIOS.glob("*.toml")):
        scenario = read(path.stem)
        for at, target in enumerate(scenario["targets"]):
            # pip takes a second where uv takes a tenth: it answers for the first target
            for resolver in scenario.get("resolvers", ["uv", "pip"] if at == 0 else ["uv"]):
                yield pytest.param(path.stem, target, resolver, id=f"{path.stem}-{target}-{resolver}")


@pytest.mark.parametrize(("name", "target_name", "resolver"), list(cases()))
def test_scenario(name: str, target_name: str, resolver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_scenario(name, target_name, resolver, tmp_path, monkeypatch)
