"""What the chosen files say themselves: a target is locked again where they want something else than their index said."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.support.making import ServedIndex, make_sdist, make_wheel

from .conftest import Ran

Run = Callable[..., Ran]
LINUX = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")


def installed(bundle: Path) -> dict[str, tuple[str, bool]]:
    """name -> version, requested, of the one target; the wheels in the bundle are exactly its plan's."""
    with tarfile.open(bundle) as tar:
        members = tar.getnames()
        source = tar.extractfile(members[0])
        assert source is not None
        target = json.load(source)["targets"][0]
    wheels = sorted(name.rpartition("/")[2] for name in members if "/wheels/" in name and name.endswith(".whl"))
    assert wheels == sorted(one["file"].rpartition("/")[2] for one in target["install"])
    return {one["name"]: (one["version"], one["requested"]) for one in target["install"]}


def test_the_upper_bound_of_requires_python(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "more", "sand", "1.0"))
    index.add(make_wheel(tmp_path / "more", "sand", "1.1", requires_python=">=3.8,<3.11"))
    index.add(make_wheel(tmp_path / "more", "sand", "1.2", requires_python=">=3.8,<3.11"))
    done = offlinepack("build", "sand", *LINUX, "-o", "b.tar.gz")
    assert done.code == 0, done.err
    assert installed(Path("b.tar.gz")) == {"sand": ("1.0", True)}


def test_many_releases_for_other_patch_releases(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    index.add(make_wheel(tmp_path / "more", "sand", "1.0"))
    for minor in range(1, 12):
        index.add(make_wheel(tmp_path / "more", "sand", f"1.{minor}", requires_python="!=3.11.0,!=3.11.1,>=3.8"))
    exact = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11.1")
    done = offlinepack("build", "sand", *exact, "-o", "b.tar.gz")
    assert done.code == 0, done.err
    assert installed(Path("b.tar.gz")) == {"sand": ("1.0", True)}


def test_wheels_of_one_release_that_say_different_things(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    for tag, requires in (("cp311-cp311-win_amd64", []), ("cp311-cp311-manylinux_2_17_x86_64", ["cuda>=12"])):
        index.add(make_wheel(tmp_path / "more", "torch", "2.0", tag=tag, requires=requires))
    index.add(make_wheel(tmp_path / "more", "cuda", "12.4"))
    done = offlinepack("build", "torch", *LINUX, "-o", "b.tar.gz")
    assert done.code == 0, done.err
    assert installed(Path("b.tar.gz")) == {"cuda": ("12.4", False), "torch": ("2.0", True)}


def test_what_is_locked_and_not_needed_is_not_in_the_bundle(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    for tag, requires in (("cp311-cp311-manylinux_2_17_x86_64", []), ("cp311-cp311-manylinux_2_5_x86_64", ["cuda"])):
        index.add(make_wheel(tmp_path / "more", "torch", "2.0", tag=tag, requires=requires))
    index.add(make_wheel(tmp_path / "more", "cuda", "12.4"))
    done = offlinepack("build", "torch", *LINUX, "-o", "b.tar.gz")
    assert done.code == 0, done.err
    assert installed(Path("b.tar.gz")) == {"torch": ("2.0", True)}


def test_a_lock_closes_without_a_build(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    """All three at once, and nothing is fetched for it."""
    more = tmp_path / "more"
    index.add(make_wheel(more, "sand", "1.0"))
    index.add(make_wheel(more, "sand", "1.1", requires_python=">=3.8,<3.11"))
    for name, windows, old in (("torch", [], ["cuda>=12"]), ("flame", [], [])):
        index.add(make_wheel(more, name, "2.0", tag="cp311-cp311-win_amd64", requires=windows))
        index.add(make_wheel(more, name, "2.0", tag="cp311-cp311-manylinux_2_17_x86_64", requires=old))
    index.add(make_wheel(more, "flame", "2.0", tag="cp311-cp311-manylinux_2_5_x86_64", requires=["soot"]))
    index.add(make_wheel(more, "cuda", "12.4"))
    index.add(make_wheel(more, "soot", "1.0"))
    for resolver in ("uv", "pip"):
        done = offlinepack("lock", "sand", "torch", "flame", *LINUX, "--resolver", resolver, "--json", "-d", resolver)
        assert done.code == 0, done.err
        (lock,) = json.loads(done.out)["locks"]
        found = {one["name"]: one["version"] for one in lock["packages"]}
        assert found == {"cuda": "12.4", "flame": "2.0", "sand": "1.0", "torch": "2.0"}
        (written,) = Path(resolver).glob("pylock.*.toml")
        assert 'name = "soot"' not in written.read_text("utf-8")


def test_a_project_whose_name_only_its_build_tells(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    project = make_sdist(tmp_path / "old", "my-app", "4.0", requires=["stone"], unpacked=True)
    text = (project / "pyproject.toml").read_text("utf-8")
    (project / "pyproject.toml").write_text(text.partition("[project]")[0])
    (project / "setup.py").write_text("")
    done = offlinepack("build", "--project", project, "-o", "b.tar.gz")
    assert done.code == 0, done.err
    found = installed(Path("b.tar.gz"))
    assert found["my-app"] == ("4.0", True) and found["stone"] == ("1.0", False)
