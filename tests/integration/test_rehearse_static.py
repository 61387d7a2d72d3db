"""The static rehearsal over small bundles: each fault is found, with the sentence that names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.ontarget.manifest import Distribution, Facts, TargetPlan
from offlinepack.rehearsal.static import check_bundle_targets
from offlinepack.rehearsal.verdict import Verdict, serialize_verdicts
from tests.support.bundles import DEBIAN, WINDOWS, make_bundle, stored
from tests.support.making import make_sdist, make_wheel


def planned(
    files: Mapping[str, Path],
    requested: tuple[str, ...] = ("stone",),
    *,
    requires: Mapping[str, tuple[str, ...]] | None = None,
    facts: Facts = DEBIAN,
    versions: Mapping[str, str] | None = None,
) -> TargetPlan:
    """A plan of these files, in this order."""
    install = tuple(
        Distribution(
            name,
            (versions or {}).get(name, file.name.split("-")[1] if file.suffix == ".whl" else "1.0"),
            file.name,
            (requires or {}).get(name, ()),
            name in requested,
            None,
        )
        for name, file in files.items()
    )
    tag = "cp311-manylinux_2_36_x86_64" if facts.os == "linux" else "cp312-win_amd64"
    return TargetPlan(tag, tag, facts, facts.python, None, None, install, (), ())


def verdicts(folder: Path, targets: list[TargetPlan], files: list[Path], **named: Any) -> list[Verdict]:
    path, _ = make_bundle(folder, targets=targets, stored=[stored(one) for one in files], **named)
    return list(check_bundle_targets(open_bundle(path)))


def codes(verdict: Verdict) -> list[str]:
    return [f"{one.code} {one.subject}" for one in verdict.findings]


def one(tmp_path: Path, files: dict[str, Path], *requested: str, **how: Any) -> Verdict:
    named = {key: how.pop(key) for key in ("install_to",) if key in how}
    plan = planned(files, requested or ("stone",), **how)
    (verdict,) = verdicts(tmp_path, [plan], [*files.values()], **named)
    return verdict


def test_a_sound_bundle_installs(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)
    (verdict,) = check_bundle_targets(open_bundle(path))
    assert (verdict.outcome, verdict.installs, verdict.runs) == ("installs", True, None)
    assert verdict.findings == ()
    assert verdict.modules == {"moss": ("moss",), "stone": ("stone",)}
    assert [text.render() for text in verdict.limitations] == ["whether its modules can be imported (--live)"]


def test_the_unpacked_folder_serves_as_well(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)
    folder = tmp_path / "unpacked"
    assert list(open_bundle(path).unpack(folder))
    assert [one.outcome for one in check_bundle_targets(open_bundle(folder))] == ["installs"]
    assert not list(folder.rglob("__pycache__"))


def test_a_dropped_marker_dependency_is_found(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {"stone": make_wheel(wheels, "stone", requires=['gravel; sys_platform == "win32"'])}
    assert one(tmp_path / "linux", files).outcome == "installs"
    verdict = one(tmp_path / "windows", files, facts=WINDOWS)
    assert (verdict.outcome, codes(verdict)) == ("fails", ["not-brought stone"])
    assert "stone 1.0 needs gravel" in verdict.findings[0].render()


def test_versions_that_do_not_fit_one_another(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {"moss": make_wheel(wheels, "moss", "1.0"), "stone": make_wheel(wheels, "stone", requires=["moss>=2"])}
    verdict = one(tmp_path, files, requires={"stone": ("moss",)})
    assert "wrong-version stone" in codes(verdict)
    assert "stone 1.0 needs moss>=2, and the plan of" in " ".join(found.render() for found in verdict.findings)


def test_what_nothing_leads_to(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {"moss": make_wheel(wheels, "moss"), "stone": make_wheel(wheels, "stone")}
    verdict = one(tmp_path, files)
    assert (verdict.outcome, codes(verdict)) == ("installs", ["superfluous moss"])


def test_extras_that_were_asked_for_are_not_superfluous(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {
        "moss": make_wheel(wheels, "moss"),
        "fern": make_wheel(wheels, "fern"),
        "stone": make_wheel(
            wheels,
            "stone",
            extras={"soft": ["moss", "fern"], "hard": ["granite"], "wet": ["moss>=9"], "green": ["fern"]},
        ),
    }
    verdict = one(tmp_path, files, requires={"stone": ("fern", "moss")})
    assert (verdict.outcome, codes(verdict)) == ("installs", [])


def test_a_wheel_for_another_machine(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {"stone": make_wheel(wheels, "stone", tag="cp311-cp311-manylinux_2_39_x86_64")}
    verdict = one(tmp_path, files)
    assert verdict.outcome == "fails"
    assert f"wheel-unfit {files['stone'].name}" in codes(verdict)
    assert "needs glibc 2.39" in verdict.findings[-1].render()


def test_a_wheel_that_wants_another_python(tmp_path: Path) -> None:
    files = {"stone": make_wheel(tmp_path / "w", "stone", requires_python=">=3.13")}
    verdict = one(tmp_path, files)
    assert verdict.outcome == "fails" and "wrong-python stone" in codes(verdict)


def test_two_wheels_that_write_one_path(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {
        "moss": make_wheel(wheels, "moss", files={"moss/__init__.py": "", "shared/a.py": "1"}),
        "stone": make_wheel(wheels, "stone", requires=["moss"], files={"stone/__init__.py": "", "shared/A.py": "2"}),
    }
    how: Any = {"requires": {"stone": ("moss",)}}
    assert codes(one(tmp_path / "linux", files, **how)) == []
    verdict = one(tmp_path / "windows", files, facts=WINDOWS, **how)
    assert verdict.outcome == "fails" and codes(verdict) == [f"wheel-clash {files['stone'].name}"]


def test_paths_too_long_for_windows(tmp_path: Path) -> None:
    deep = "/".join(["stone", *(f"a_rather_long_folder_name_{depth}" for depth in range(6))]) + "/module.py"
    files = {"stone": make_wheel(tmp_path / "w", "stone", files={"stone/__init__.py": "", deep: ""})}
    assert codes(one(tmp_path / "linux", files)) == []
    warned = one(tmp_path / "anywhere", files, facts=WINDOWS)
    assert (warned.outcome, codes(warned)) == ("installs", [f"path-long {files['stone'].name}"])
    place = "C:\\Program Files\\A rather long name of a company\\" + "notes"
    refused = one(tmp_path / "there", files, facts=WINDOWS, install_to=place)
    assert (refused.outcome, codes(refused)) == ("fails", [f"path-too-long {files['stone'].name}"])


def test_entry_points_whose_module_is_not_there(tmp_path: Path) -> None:
    entries = {
        "console_scripts": {
            "good": "stone.cli:main",
            "bad": "stone.nowhere:main",
            "other": "moss:main",
            "lib": "pdb:main",
        },
        "stone.plugins": {
            "own": "stone.missing:x",
            "foreign": "unknown.plugin:x",
            "class": "stone.Class",
            "nowhere": "stone.no.Class",
        },
    }
    wheels = tmp_path / "w"
    files = {
        "moss": make_wheel(wheels, "moss"),
        "stone": make_wheel(
            wheels,
            "stone",
            requires=["moss"],
            files={"stone/__init__.py": "", "stone/cli.py": ""},
            entry_points=entries,
        ),
    }
    verdict = one(tmp_path, files, requires={"stone": ("moss",)})
    assert verdict.outcome == "installs"
    assert [(found.code, found.sentence.facts["module"]) for found in verdict.findings] == [
        ("entry-point-dangles", "stone.nowhere"),
        ("entry-point-dangles", "stone.missing"),
        ("entry-point-dangles", "stone.no.Class"),
    ]


def test_a_bundle_for_several_targets_holds_other_versions_too(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    stone = make_wheel(wheels, "stone", requires=["moss"])
    old, new = make_wheel(wheels, "moss", "1.0"), make_wheel(wheels, "moss", "2.0")
    plans = [
        planned({"moss": new, "stone": stone}, requires={"stone": ("moss",)}),
        planned({"moss": old, "stone": stone}, requires={"stone": ("moss",)}, facts=WINDOWS),
    ]
    found = verdicts(tmp_path, plans, [stone, old, new])
    assert [(one.tag, one.outcome, codes(one)) for one in found] == [
        ("cp311-manylinux_2_36_x86_64", "installs", []),
        ("cp312-win_amd64", "installs", []),
    ]


def test_a_source_is_not_judged(tmp_path: Path) -> None:
    files = {
        "moss": make_wheel(tmp_path / "w", "moss"),
        "stone": make_sdist(tmp_path / "w", "stone", requires=["moss"]),
    }
    verdict = one(tmp_path, files, requires={"stone": ("moss",)})
    assert (verdict.outcome, codes(verdict)) == ("installs", [])
    assert "what stone need and bring" in verdict.limitations[-1].render()


def test_a_marker_that_the_facts_do_not_settle(tmp_path: Path) -> None:
    files = {"stone": make_wheel(tmp_path / "w", "stone", requires=['moss; platform_release >= "5"'])}
    verdict = one(tmp_path, files)
    assert (verdict.outcome, verdict.installs, [found.code for found in verdict.findings]) == (
        "unknown",
        None,
        ["marker-unknown"],
    )


def test_namespaces_and_extension_modules_have_names(tmp_path: Path) -> None:
    files = {
        "stone": make_wheel(
            tmp_path / "w",
            "stone",
            tag="cp311-cp311-manylinux_2_17_x86_64",
            files={
                "google/stone/__init__.py": "",
                "google/stone/deep.py": "",
                "_stone.cpython-311-x86_64-linux-gnu.so": "",
                "_other.abi3.so": "",
                "stone_data/table.csv": "",
                "single.py": "",
                "not-a-name/x.py": "",
            },
        )
    }
    assert one(tmp_path, files).modules == {"stone": ("_other", "_stone", "google.stone", "single")}


def test_the_document_has_no_time_and_is_the_same_again(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)
    first, again = (serialize_verdicts(check_bundle_targets(open_bundle(path))) for _ in range(2))
    assert first == again
    found = json.loads(first)
    assert found["schema"] == 1
    assert found["targets"][0]["verdict"] == "installs" and found["targets"][0]["runs"] is None


@pytest.mark.parametrize(
    ("installs", "runs", "says"),
    [
        (None, None, "unknown"),
        (True, None, "installs"),
        (True, True, "runs"),
        (True, False, "fails"),
        (False, None, "fails"),
    ],
)
def test_a_verdict_says_no_more_than_was_seen(installs: bool | None, runs: bool | None, says: str) -> None:
    assert Verdict("debian12", "tag", installs, runs).outcome == says


def test_what_only_newer_patch_releases_take_is_a_forecast(tmp_path: Path) -> None:
    files = {"stone": make_wheel(tmp_path / "w", "stone", requires_python=">=3.11.5")}
    plan = planned(files)._replace(python_min="3.11.5")
    (verdict,) = verdicts(tmp_path, [plan], [*files.values()])
    assert verdict.outcome == "forecast"
    assert [one.render() for one in verdict.forecast] == [
        "stone: Python 3.11.5 or newer is wanted; an older 3.11 will be refused. "
        f"If {plan.name} has an older one, name it: --python-version 3.11.Z, or its probe's file."
    ]


def test_an_extra_of_a_dependency_is_not_superfluous(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {
        "fern": make_wheel(wheels, "fern"),
        "moss": make_wheel(wheels, "moss", extras={"wet": ["fern"]}),
        "stone": make_wheel(wheels, "stone", requires=["moss[wet]"], extras={"soft": ["moss[wet]"]}),
    }
    verdict = one(tmp_path, files, requires={"stone": ("moss",), "moss": ("fern",)})
    assert (verdict.outcome, codes(verdict)) == ("installs", [])


def test_all_that_is_not_brought_is_named_at_once(tmp_path: Path) -> None:
    wheels = tmp_path / "w"
    files = {
        "moss": make_wheel(wheels, "moss", requires=["clay>1", "stone"]),
        "stone": make_wheel(wheels, "stone", requires=["gravel>=2", "moss<1", 'sand; sys_platform == "win32"']),
    }
    verdict = one(tmp_path, files, requires={"stone": ("moss",)})
    assert verdict.outcome == "fails"
    assert sorted((found.code, found.subject, found.sentence.facts["wanted"]) for found in verdict.findings) == [
        ("not-brought", "moss", "clay>1"),
        ("not-brought", "stone", "gravel>=2"),
        ("wrong-version", "stone", "moss<1"),
    ]
