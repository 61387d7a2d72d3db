"""uv and pip-tools end with the same exit code for the same failures, whichever of them a run meets first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import OfflinepackError
from offlinepack.index.settings import read_settings
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.read import parse_arguments
from offlinepack.resolve.choose import resolve
from offlinepack.resolve.context import ResolverContext
from offlinepack.targets.parse import parse_target
from tests.support.making import make_sdist, make_wheel, serve_index

TARGET = "cp311-manylinux_2_28_x86_64"
BROKEN_STONE = {"stone": {"status": 500}}
BROKEN_PEBBLE = {"pebble": {"status": 500}}

CASES: dict[str, tuple[Sequence[str], Sequence[str], dict[str, Any], bool, int]] = {
    "no-wheel": (["slate"], [], {}, False, 5),
    "no-wheel-and-unknown-project": (["slate", "stoone"], [], {}, False, 4),
    "wrong-python-and-unknown-project": (["old", "stoone"], [], {}, False, 4),
    "no-such-version-and-no-wheel": (["stone==9", "slate"], [], {}, False, 4),
    "broken-index-and-unknown-project": (["stone", "stoone"], [], BROKEN_STONE, False, 6),
    "broken-index-and-no-wheel": (["stone", "slate"], [], BROKEN_STONE, False, 6),
    "frozen-and-unknown-project": (["stoone"], ["gone==1.0"], {}, False, 3),
    "frozen-and-broken-index-of-a-dependency": (["stone"], ["gone==1.0"], BROKEN_PEBBLE, False, 3),
    "frozen-offline": ([], ["gone==1.0"], {}, True, 6),
    "broken-build-and-unknown-project": (["{sdist}", "stoone"], [], {}, False, 8),
}
"""requirements, lines of a frozen environment, faults of the index, whether offline, exit code"""


def make_requirements(lines: Sequence[str], frozen_lines: Sequence[str]) -> Requirements:
    frozen = parse_arguments(frozen_lines)
    frozen_requirements = tuple(replace(line, is_frozen=True, is_requested=False) for line in frozen.requirements)
    return parse_arguments(lines) + replace(frozen, requirements=frozen_requirements)


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("name", CASES)
def test_both_resolvers_exit_with_the_same_code(name: str, resolver: str, tmp_path: Path) -> None:
    lines, frozen_lines, faults, offline, exit_code = CASES[name]
    backend = '[build-system]\nrequires = []\nbuild-backend = "nothing"\nbackend-path = ["."]\n'
    make_sdist(tmp_path / "mud", "mud", "1.0", unpacked=True, files={"pyproject.toml": backend})
    files = [
        make_wheel(tmp_path / "w", "stone", "1.0", requires=["pebble"]),
        make_wheel(tmp_path / "w", "pebble", "1.0"),
        make_wheel(tmp_path / "w", "slate", "1.0", tag="cp311-cp311-win_amd64"),
        make_wheel(tmp_path / "w", "old", "1.0", requires_python="<3.8"),
    ]
    requirements = make_requirements([line.format(sdist=tmp_path / "mud") for line in lines], frozen_lines)
    with serve_index(tmp_path / "served", files) as index:
        for project, fault in faults.items():
            index.fault(project, **fault)
        context = ResolverContext(retries=0, offline=offline)
        with pytest.raises(OfflinepackError) as raised:
            resolve(requirements, parse_target(TARGET), read_settings(index_url=index.url), context, resolver)
    report = [f"{finding.code} {finding.subject}" for finding in raised.value.findings]
    assert raised.value.exit_code == exit_code, report
