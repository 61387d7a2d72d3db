"""Where an environment lies: places, lock, state, the switch; what is installed, compared with RECORD."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
from pathlib import Path

import pytest

from offlinepack.ontarget import generations, reuse
from offlinepack.ontarget.by_pip import ProgramRunner
from offlinepack.ontarget.distributions import (
    discard_distributions,
    find_altered_distributions,
    find_dist_infos,
    mark_requested,
    remove_unowned_files,
)
from offlinepack.ontarget.errors import ComputerError
from offlinepack.ontarget.files import hash_small_file, list_tree, read_json, write_json
from offlinepack.ontarget.generations import (
    EnvironmentLocation,
    compute_generation_id,
    load_state,
    locate_environment,
    lock_environment,
    prune_generations,
    switch_generation,
)
from offlinepack.ontarget.manifest import Distribution, Facts, File, Manifest, TargetPlan, Tool
from offlinepack.ontarget.reuse import reuse_distributions

ONE, TWO, THREE = "0123456789ab", "ba9876543210", "aaaaaaaaaaaa"


def venv(root: Path) -> Path:
    """What python -m venv leaves, as far as it matters here."""
    (root / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / "python").symlink_to("/usr/bin/python3")
    (root / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return root


def distribution(root: Path, name: str, version: str = "1.0", finished: bool = True, script: str = "") -> Path:
    """An installed distribution with one module, as an installer leaves it."""
    site = root / "lib" / "python3.11" / "site-packages"
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    files = {f"{name}/__init__.py": b"x = 1\n", f"{info.name}/METADATA": b"Name: x\n"}
    if finished:
        files[f"{info.name}/INSTALLER"] = b"pip\n"
    if script:
        files[f"../../../bin/{script}"] = f"#!{root}/bin/python\nimport {name}\n".encode()
    rows = []
    for relative, data in files.items():
        path = Path(os.path.normpath(site / relative))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append([relative, f"sha256={digest}", str(len(data))])
    rows += [[f"{name}/__pycache__/__init__.cpython-311.pyc", "", ""], [f"{info.name}/RECORD", "", ""]]
    (site / name / "__pycache__").mkdir()
    (site / name / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"code")
    out = io.StringIO()
    csv.writer(out).writerows(sorted(rows))
    (info / "RECORD").write_text(out.getvalue(), newline="")
    return info


def generation(place: EnvironmentLocation, name: str) -> Path:
    os.makedirs(place.generations_dir, exist_ok=True)
    return venv(Path(place.get_path(name)))


def state(place: EnvironmentLocation, **values: object) -> None:
    write_json(place.get_path("state.json"), {"schema": 1, "generations": {}, "sequences": {}, **values})


# ------------------------------------------------------------------------------------------------------------ places


def test_nothing_there_is_a_place(tmp_path: Path) -> None:
    assert locate_environment(str(tmp_path / "app" / "venv")) == EnvironmentLocation(
        str(tmp_path / "app" / "venv"), False
    )


def test_an_empty_folder_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    assert not locate_environment(str(tmp_path / "venv")).is_foreign


def test_a_virtual_environment_of_somebody_else_is_foreign(tmp_path: Path) -> None:
    venv(tmp_path / "venv")
    place = locate_environment(str(tmp_path / "venv"))
    assert place.is_foreign and place.get_root(ONE) == str(tmp_path / "venv")


@pytest.mark.parametrize("kind", ["file", "folder", "dangling"])
def test_what_is_no_environment_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "venv"
    if kind == "file":
        path.write_text("x")
    elif kind == "folder":
        path.mkdir()
        (path / "precious").write_text("x")
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ComputerError) as caught:
        locate_environment(str(path))
    assert caught.value.exit_code == 12
    assert str(path) in caught.value.findings[0].render()


def test_the_link_and_all_that_leads_to_it_mean_the_same_place(tmp_path: Path) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    generation(place, ONE)
    state(place)
    switch_generation(place, ONE)
    (tmp_path / "short").symlink_to(tmp_path / "venv")
    for path in ("venv", "short", f"venv.d/{ONE}"):
        assert locate_environment(str(tmp_path / path)) == place, path
    assert place.current_generation == ONE


def test_a_link_whose_generation_is_gone_is_still_ours(tmp_path: Path) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    os.makedirs(place.generations_dir)
    switch_generation(place, ONE)
    assert locate_environment(place.venv) == place


def test_a_link_to_a_foreign_environment_is_foreign(tmp_path: Path) -> None:
    venv(tmp_path / "real")
    (tmp_path / "venv").symlink_to("real")
    assert locate_environment(str(tmp_path / "venv")).is_foreign


# ---------------------------------------------------------------------------------------------------------- identity


def manifest_of(wheel: str = "a" * 64, **changed: object) -> tuple[Manifest, TargetPlan]:
    facts = Facts("cpython", "3.11", False, "linux", "x86_64", "glibc", "2.17", None)
    install = (Distribution("stone", "1.0", "wheels/s.whl", (), bool(changed.get("requested", True)), None),)
    target = TargetPlan(
        "here", "cp311-x", facts, "3.11", None, None, install, (Tool("pip", "26.3", "tools/p.whl"),), ()
    )
    files = [File("tools/p.whl", 1, "b" * 64, "tool", "c" * 64), File("wheels/s.whl", 1, wheel, "wheel", "c" * 64)]
    if "included" in changed:
        files.append(File("files/x", 1, str(changed["included"]), "included"))
    return Manifest(1, "notes", "1.0", None, None, (target,), tuple(sorted(files))), target


def test_the_same_plan_has_the_same_name_and_any_other_another() -> None:
    def name(python: str = "/usr/bin/python3.11", compiled: bool = True, **changed: object) -> str:
        return compute_generation_id(*manifest_of(**changed), python, {"compile": compiled})  # type: ignore[arg-type]

    assert name() == name()
    assert len(name()) == 12 and int(name(), 16)
    assert name(included="d" * 64) == name(), "what only lies in the bundle is not installed"
    others = [name(wheel="c" * 64), name(requested=False), name("/opt/p"), name(compiled=False)]
    assert len({name(), *others}) == 5


# ------------------------------------------------------------------------------------------------------- lock, state


def test_the_second_run_learns_who_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "_LOCK_ATTEMPTS", 0)
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    with lock_environment(place), pytest.raises(ComputerError) as caught, lock_environment(place):
        pass
    assert caught.value.exit_code == 12
    assert f"process {os.getpid()}" in caught.value.findings[0].render()
    with lock_environment(place):
        pass


def test_json_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_json(str(path), {"a": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(str(path), {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_a_state_that_is_not_whole_is_said(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"schema": 1, ')
    with pytest.raises(ComputerError) as caught:
        read_json(str(tmp_path / "state.json"))
    assert "state.json" in caught.value.findings[0].render()


def test_the_link_is_believed_before_the_state(tmp_path: Path) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    generation(place, TWO)
    state(place, current=ONE, former=THREE)
    switch_generation(place, TWO)
    found = load_state(place)
    assert (found["current"], found["former"]) == (TWO, ONE)


# ------------------------------------------------------------------------------------------------------------ switch


def test_the_link_is_relative_and_replaced(tmp_path: Path) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    for name in (ONE, TWO):
        generation(place, name)
        switch_generation(place, name)
        assert os.readlink(place.venv) == f"venv.d/{name}"
        assert place.current_generation == name
    assert not os.path.lexists(place.get_path("link"))


def test_the_switch_takes_an_empty_folder_and_never_a_full_one(tmp_path: Path) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    generation(place, ONE)
    (tmp_path / "venv").mkdir()
    switch_generation(place, ONE)
    assert place.current_generation == ONE
    os.unlink(place.venv)
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "precious").write_text("x")
    with pytest.raises(OSError, match="not empty"):
        switch_generation(place, ONE)
    assert (tmp_path / "venv" / "precious").exists()


def test_prune_keeps_the_named_and_the_running_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    for name in (ONE, TWO, THREE):
        generation(place, name)
    (Path(place.generations_dir) / "reports").mkdir()
    monkeypatch.setattr(generations, "find_processes", lambda _: [(812, "uwsgi", {TWO})])
    assert prune_generations(place, [ONE, None]) == []
    assert sorted(os.listdir(place.generations_dir)) == sorted([ONE, TWO, "reports"])


def test_what_cannot_be_removed_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = EnvironmentLocation(str(tmp_path / "venv"), False)
    generation(place, ONE)

    def refuse(path: str) -> None:
        raise OSError(13, "Permission denied", path)

    monkeypatch.setattr(generations, "remove_path", refuse)
    (found,) = prune_generations(place, [])
    assert found.level == "note" and "Permission denied" in found.render()


# --------------------------------------------------------------------------------------------------------- installed


def test_whole_distributions_are_not_named(tmp_path: Path) -> None:
    root = venv(tmp_path / "g")
    distribution(root, "stone")
    distribution(root, "pebble", "2.0+local.1")
    assert find_altered_distributions(str(root), {"stone": "1.0", "pebble": "2.0+local.1"}) == {}


@pytest.mark.parametrize("fault", ["edited", "missing", "gone", "other", "twice", "unfinished", "record"])
def test_what_is_not_whole_is_found(tmp_path: Path, fault: str) -> None:
    root = venv(tmp_path / "g")
    info = distribution(root, "stone", "2.0" if fault == "other" else "1.0", finished=fault != "unfinished")
    module = info.parent / "stone" / "__init__.py"
    records = {"stone": hash_small_file(str(info / "RECORD"))}
    if fault == "edited":
        module.write_bytes(b"x = 2\n")
    elif fault == "missing":
        module.unlink()
    elif fault == "gone":
        discard_distributions(str(root), ["stone"])
    elif fault == "twice":
        (info.parent / "stone-0.9.dist-info").mkdir()
    elif fault == "record":  # a file and its row, altered together
        module.write_bytes(b"x = 2\n")
        digest = base64.urlsafe_b64encode(hashlib.sha256(b"x = 2\n").digest()).rstrip(b"=").decode()
        lines = (info / "RECORD").read_text().splitlines()
        lines = [
            f"stone/__init__.py,sha256={digest},6" if one.startswith("stone/__init__.py,") else one for one in lines
        ]
        (info / "RECORD").write_text("\n".join(lines) + "\n")
        assert find_altered_distributions(str(root), {"stone": "1.0"}) == {}
    assert set(find_altered_distributions(str(root), {"stone": "1.0"}, records)) == {"stone"}


def test_sweep_leaves_what_is_listed_and_nothing_else(tmp_path: Path) -> None:
    root = venv(tmp_path / "g")
    base = list_tree(str(root))
    info = distribution(root, "stone")
    (info / "RECORDabc.tmp").write_text("half")
    (info.parent / "half" / "deep").mkdir(parents=True)
    (info.parent / "half" / "deep" / "x.py").write_text("half")
    (root / "bin" / "left").symlink_to("nowhere")
    remove_unowned_files(str(root), base)
    assert find_altered_distributions(str(root), {"stone": "1.0"}) == {}
    left = {one for one in list_tree(str(root)) if one not in base}
    assert left == {
        os.path.relpath(one, root) for one in [*info.parent.rglob("stone*"), *info.parent.rglob("stone*/**/*")]
    }


@pytest.mark.parametrize("wanted", [True, False])
def test_requested_stands_where_it_was_asked_for(tmp_path: Path, wanted: bool) -> None:
    root = venv(tmp_path / "g")
    info = distribution(root, "stone")
    before = (info / "RECORD").read_text()
    for value in (not wanted, wanted, wanted):
        mark_requested(str(root), {"stone": value})
    assert (info / "REQUESTED").exists() is wanted
    assert ("REQUESTED" in (info / "RECORD").read_text()) is wanted
    assert find_altered_distributions(str(root), {"stone": "1.0"}) == {}
    if not wanted:
        assert (info / "RECORD").read_text() == before


# ------------------------------------------------------------------------------------------------------------ linked


def test_an_unchanged_distribution_is_shared_and_its_scripts_name_the_new_place(tmp_path: Path) -> None:
    old, new = venv(tmp_path / ONE), venv(tmp_path / TWO)
    info = distribution(old, "stone", script="stone")
    records = {"stone": hash_small_file(str(info / "RECORD"))}
    assert dict(reuse_distributions(str(old), str(new), {"stone": "1.0"}, records)) == {"stone": ""}
    assert find_altered_distributions(str(new), {"stone": "1.0"}) == {}
    assert (new / "bin" / "stone").read_text() == f"#!{new}/bin/python\nimport stone\n"
    site = new / "lib" / "python3.11" / "site-packages"
    assert (site / "stone" / "__pycache__" / "__init__.cpython-311.pyc").read_bytes() == b"code"
    assert find_altered_distributions(str(old), {"stone": "1.0"}, records) == {}, "the old release is as it was"


def test_an_edited_one_is_not_carried_over(tmp_path: Path) -> None:
    old, new = venv(tmp_path / ONE), venv(tmp_path / TWO)
    info = distribution(old, "stone")
    (info.parent / "stone" / "__init__.py").write_text("x = 'mine'\n")
    ((name, why),) = reuse_distributions(str(old), str(new), {"stone": "1.0"}, {})
    assert name == "stone" and why.endswith("__init__.py")
    assert find_dist_infos(str(new)) == {}


def test_what_cannot_be_shared_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = venv(tmp_path / ONE), venv(tmp_path / TWO)
    distribution(old, "stone")
    before = [one for one in list_tree(str(new)) if (new / one).is_file()]

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(reuse, "_FICLONE", 0)
    ((_, why),) = reuse_distributions(str(old), str(new), {"stone": "1.0"}, {})
    assert "not permitted" in why
    assert [one for one in list_tree(str(new)) if (new / one).is_file()] == before


@pytest.mark.skipif(os.name == "nt", reason="a lock of a folder")
def test_a_bundle_that_another_run_has_unpacked_stays_while_it_lives(tmp_path: Path) -> None:
    import fcntl

    for name in ("bundle-held", "bundle-left", "bundle-own", "pip-unpack"):
        (tmp_path / name / "bundle").mkdir(parents=True)
    handle = os.open(tmp_path / "bundle-held", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    programs = ProgramRunner(str(tmp_path), "", 0)
    programs.clear_work_dir(str(tmp_path / "bundle-own" / "bundle"))
    assert sorted(os.listdir(tmp_path)) == ["bundle-held", "bundle-own"]
    os.close(handle)
    programs.clear_work_dir("elsewhere")
    assert os.listdir(tmp_path) == []
