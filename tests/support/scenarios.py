"""Run the scenarios of fixtures/scenarios through the product's own closing loop."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import OfflinepackError, SelectionError, raise_on_errors
from offlinepack.index.settings import read_settings
from offlinepack.requirements.model import Requirements
from offlinepack.requirements.policy import FORMATS, FormatControl, ResolutionPolicy
from offlinepack.requirements.read import read_constraints, read_requirements_file
from offlinepack.resolve.choose import resolve
from offlinepack.resolve.context import ResolverContext
from offlinepack.resolve.dependencies import Closure, check_closure, next_requirements
from offlinepack.selection import Selection, select_files
from offlinepack.targets.model import Target
from offlinepack.targets.parse import parse_target
from offlinepack.wheels.metadata import WheelMetadata, parse_metadata

from .making import ServedIndex, make_sdist, make_wheel, serve_index

SCENARIOS = Path(__file__).parents[2] / "fixtures" / "scenarios"
KEYS = {"why", "requires", "constraints", "targets", "resolvers", "options", "builds", "index", "expect"}
RELEASE = {"wheels", "sdist", "requires", "requires_python", "extras", "yanked", "uploaded", "by_wheel"}
EXPECT = {"install", "files", "order", "requested", "python_min", "gaps", "code", "findings", "says", "remarks"}


def read(name: str) -> dict[str, Any]:
    scenario = tomllib.loads((SCENARIOS / f"{name}.toml").read_text("utf-8"))
    assert set(scenario) <= KEYS, set(scenario) - KEYS
    for releases in scenario.get("index", {}).values():
        for release in releases.values():
            assert set(release) <= RELEASE, set(release) - RELEASE
    for expected in scenario["expect"].values():
        assert set(expected) <= EXPECT, set(expected) - EXPECT
    assert set(scenario["expect"]) == set(scenario["targets"])
    return scenario


def fill(index: ServedIndex, folder: Path, projects: dict[str, Any]) -> None:
    """Offer the scenario's releases; a wheel is py3-none-any where nothing is said, "2!py3-none-any" is build 2."""
    for name, releases in projects.items():
        for version, release in releases.items():
            more = {key: release[key] for key in ("requires", "requires_python", "extras") if key in release}
            offered = {key: release[key] for key in ("yanked",) if key in release}
            if "uploaded" in release:
                offered["upload_time"] = release["uploaded"]
            for wheel in release.get("wheels", [] if release.get("sdist") else ["py3-none-any"]):
                build, _, tag = wheel.rpartition("!")
                its = {**more, **release.get("by_wheel", {}).get(wheel, {})}
                index.add(make_wheel(folder, name, version, tag=tag, build=build, **its), **offered)
            if release.get("sdist"):
                index.add(make_sdist(folder, name, version, **more), **offered)


def requirements(scenario: dict[str, Any], index: ServedIndex) -> Requirements:
    """What is asked, through files as a user has them; {sha256:FILE} stands for the hash of a file of the index."""
    for file, key in (("requirements.txt", "requires"), ("constraints.txt", "constraints")):
        text = "".join(f"{line}\n" for line in scenario.get(key, []))
        text = re.sub(r"\{sha256:([^}]+)\}", lambda found: f"sha256:{index.files[found[1]].sha256}", text)
        Path(file).write_text(text, "utf-8")
    asked = read_requirements_file(Path("requirements.txt")) + read_constraints(Path("constraints.txt"))
    options = dict(scenario.get("options", {}))
    formats = [(option, name) for option in FORMATS for name in options.pop(option.replace("-", "_"), ())]
    policy = ResolutionPolicy(**options, format_control=FormatControl(tuple(formats)))
    return replace(asked, policy=asked.policy + policy)


class Outcome:
    """What one scenario came to on one target."""

    def __init__(self, selection: Selection, closed: Closure, asked: Requirements) -> None:
        self.selection, self.closed, self.asked = selection, closed, asked


def run(asked: Requirements, target: Target, index: ServedIndex, folder: Path, resolver: str, builds: bool) -> Outcome:
    """lock -> select -> closure, with the rounds that pack makes when the files say more than the index."""
    indexes = read_settings(index_url=index.url)
    means = ResolverContext(cache_dir=folder / "cache", retries=0, can_build=lambda _: builds)
    while True:
        pylock = resolve(asked, target, indexes, means, resolver)
        selection = select_files(pylock, target, asked)
        metadata = [metadata_of(index, one.filename) for one in selection.files]
        closed = check_closure(metadata, asked, target)
        more = next_requirements(asked, closed)
        if more is None:
            raise_on_errors(SelectionError, closed.findings)
            return Outcome(selection, closed, asked)
        asked = more


def metadata_of(index: ServedIndex, filename: str) -> WheelMetadata:
    """METADATA of a wheel; an sdist's PKG-INFO stands for the wheel that it would become."""
    if filename.endswith(".whl"):
        return parse_metadata(index.files[filename].metadata or b"")
    import tarfile

    with tarfile.open(index.files[filename].path) as archive:
        member = archive.extractfile(f"{filename.removesuffix('.tar.gz')}/PKG-INFO")
        assert member
        return parse_metadata(member.read())


def run_scenario(name: str, target_name: str, resolver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = read(name)
    expected = scenario["expect"][target_name]
    monkeypatch.chdir(tmp_path)
    with serve_index(tmp_path / "served") as index:
        fill(index, tmp_path / "files", scenario.get("index", {}))
        failure: OfflinepackError | None = None
        try:
            asked = requirements(scenario, index)
            outcome = run(asked, parse_target(target_name), index, tmp_path, resolver, scenario.get("builds", True))
        except OfflinepackError as caught:
            failure = caught
    if failure is not None:
        said = "\n".join(f"{one.code}: {one.render()}\n{one.log}" for one in failure.findings)
        assert set(expected) & {"gaps", "code", "findings", "says"}, said
        assert failure.exit_code == expected.get("code", 5), said
        if "gaps" in expected:
            assert sorted(one.subject for one in failure.findings) == sorted(expected["gaps"]), said
        if "findings" in expected:
            assert sorted(f"{one.code} {one.subject}" for one in failure.findings) == sorted(expected["findings"]), said
        for part in expected.get("says", []):
            assert part in said
        return
    assert not set(expected) & {"gaps", "code"}, [str(one.name) for one in outcome.closed.order]
    order = outcome.closed.order
    installed = sorted(f"{one.name}=={one.version}" for one in order)
    if "install" in expected:
        assert installed == sorted(expected["install"])
    # conservation: what was chosen is what is installed, nothing more and nothing less
    assert sorted(one.name for one in outcome.selection.files) == sorted(
        [*(one.name for one in order), *outcome.closed.unneeded_names]
    )
    if "files" in expected:
        assert [one.filename for one in outcome.selection.files] == expected["files"]
    if "order" in expected:
        assert [one.name for one in order] == expected["order"]
    if "requested" in expected:
        assert sorted(one.name for one in order if one.is_requested) == sorted(expected["requested"])
    if "python_min" in expected:
        assert outcome.closed.python_min == expected["python_min"]
    remarks = [*outcome.selection.findings, *outcome.closed.findings]
    assert sorted(f"{one.code} {one.subject}" for one in remarks) == sorted(expected.get("remarks", []))
