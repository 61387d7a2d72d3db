"""Real builds: PEP 517 in isolation with interpreters of this machine, a compiler, auditwheel; no network."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from offlinepack.errors import BuildError, SelectionError, SourceError
from offlinepack.interpreters.host import has_matching_interpreter
from offlinepack.native.needs import find_needs
from offlinepack.sdist.build import build_wheel
from offlinepack.sdist.environment import BuildConfig
from offlinepack.sdist.source import clone_repository
from offlinepack.store import Store, StoredFile
from offlinepack.targets.model import Target
from offlinepack.targets.parse import combine_targets, get_running_target, parse_target
from tests.support.compiled import MODULE, compiles, extension
from tests.support.making import make_sdist, make_wheel


class Yard:
    """A store with pip and setuptools, and the workshop that builds from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self.asked: list[Sequence[str]] = []
        spec = importlib.util.find_spec("virtualenv")
        assert spec and spec.origin
        embedded = Path(spec.origin).parent / "seed" / "wheels" / "embed"
        self.wheels = {name: self.store.add_file(max(embedded.glob(f"{name}-*.whl"))) for name in ("pip", "setuptools")}
        self.workshop = BuildConfig(self.store, self.provide, folder / "logs", pythons=(sys.executable,))

    def provide(self, requirements: Sequence[str], target: Target) -> list[StoredFile]:
        self.asked.append(requirements)
        return [self.wheels[one.split()[0].split(">")[0].split("=")[0]] for one in requirements]

    def take(self, path: Path) -> StoredFile:
        return self.store.add_file(path)


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return Yard(tmp_path / "yard")


@pytest.fixture
def here() -> Target:
    return get_running_target()




def left(folder: Path) -> list[str]:
    return sorted(one.name for one in (folder / "tmp").iterdir())


def test_a_pure_wheel_serves_every_target_and_is_built_once(yard: Yard, here: Target, tmp_path: Path) -> None:
    source = yard.take(make_sdist(tmp_path, "pebble", files={"pebble/__init__.py": "x = 1\n"}))
    built = build_wheel(source, here, yard.workshop)
    assert built.wheel.name == "pebble-1.0-py3-none-any.whl"
    assert built.built_from["name"] == "pebble-1.0.tar.gz" and built.built_from["sha256"] == source.sha256
    assert set(built.built_from) == {"name", "sha256", "python", "platform", "requires"}
    assert "building pebble 1.0" in built.log.read_text()
    asked = len(yard.asked)
    for name in ("windows:3.9", "alpine3.20:3.12", "macos14:3.13", "debian12-aarch64"):
        again = build_wheel(source, combine_targets(names=[name])[0], yard.workshop)
        assert (again.wheel, again.built_from) == (built.wheel, built.built_from)
    assert len(yard.asked) == asked
    assert left(tmp_path) == []


def test_a_pure_wheel_is_built_for_a_machine_that_is_not_here(yard: Yard, tmp_path: Path) -> None:
    source = yard.take(make_sdist(tmp_path, "pebble", files={"pebble/__init__.py": ""}))
    target = combine_targets(names=["windows:3.13"])[0]
    assert build_wheel(source, target, yard.workshop).wheel.name == "pebble-1.0-py3-none-any.whl"


@compiles
def test_an_extension_for_this_machine(yard: Yard, here: Target, tmp_path: Path) -> None:
    source = yard.take(extension(tmp_path))
    built = build_wheel(source, here, yard.workshop)
    assert "-manylinux" in built.wheel.name and here.rank_wheel(built.wheel.name) is not None
    assert built.grafted_libraries == () and built.findings == ()
    assert "setuptools-" in built.built_from["requires"] and "pip" not in built.built_from["requires"]
    with zipfile.ZipFile(built.wheel.path) as archive:
        archive.extractall(tmp_path / "site")
    subprocess.run([sys.executable, "-c", "import stone"], env={"PYTHONPATH": str(tmp_path / "site")}, check=True)
    assert left(tmp_path) == []
    again = build_wheel(source, here, yard.workshop)
    assert again.wheel == built.wheel


@compiles
def test_the_same_sdist_gives_the_same_bytes(here: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    made = []
    for number, mask in ((1, 0o022), (2, 0o077)):
        before = os.umask(mask)
        monkeypatch.setenv("TZ", f"Etc/GMT-{number}")
        yard = Yard(tmp_path / str(number))
        made.append(build_wheel(yard.take(extension(tmp_path / "sdist")), here, yard.workshop).wheel.sha256)
        os.umask(before)
    assert made[0] == made[1]


@compiles
@pytest.mark.parametrize("name", ["windows:3.11", "debian12-aarch64", "alpine3.20:3.12"])
def test_an_extension_for_a_machine_that_is_not_here(yard: Yard, tmp_path: Path, name: str) -> None:
    target = combine_targets(names=[name])[0]
    with pytest.raises(SelectionError) as caught:
        build_wheel(yard.take(extension(tmp_path)), target, yard.workshop)
    [finding] = caught.value.findings
    assert caught.value.exit_code == 5
    python = target.facts.python
    assert str(finding.sentence) == (
        f"stone-1.0.tar.gz has no wheel for {name}, and to build one takes Python {python} on {target.platform_tag}, which was not found here."
    )
    assert "--root DIR" in str(finding.advice)
    assert left(tmp_path) == []


@compiles
def test_an_extension_for_a_python_that_is_not_here(yard: Yard, here: Target, tmp_path: Path) -> None:
    other = replace(here, name="later", facts=here.facts._replace(python="3.99"))
    with pytest.raises(SelectionError):
        build_wheel(yard.take(extension(tmp_path)), other, yard.workshop)


@compiles
def test_an_abi3_wheel_of_another_python_fits(yard: Yard, here: Target, tmp_path: Path) -> None:
    options = ", py_limited_api=True, define_macros=[('Py_LIMITED_API', '0x03070000')]"
    setup = f"from setuptools import Extension, setup\nsetup(ext_modules=[Extension('stone', ['stone.c']{options})],"
    setup += "options={'bdist_wheel': {'py_limited_api': 'cp37'}})\n"
    files = {"stone.c": MODULE % ("#include <stdio.h>", 'puts("here");'), "setup.py": setup}
    later = replace(here, name="later", facts=here.facts._replace(python="3.99"))
    source = make_sdist(tmp_path, "stone", backend="setuptools", files=files)
    assert "-cp37-abi3-manylinux" in build_wheel(yard.take(source), later, yard.workshop).wheel.name


@compiles
@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") < "glibc 2.34", reason="needs a glibc that has joined libpthread")
def test_a_wheel_that_needs_a_newer_c_library_is_refused_with_the_symbol(
    yard: Yard, here: Target, tmp_path: Path
) -> None:
    before = "#include <pthread.h>\nstatic void *run(void *x) { return x; }"
    source = yard.take(
        extension(tmp_path, before, "pthread_t t; pthread_create(&t, NULL, run, NULL); pthread_join(t, NULL);")
    )
    old = here.with_libc("2.17")
    with pytest.raises(BuildError) as caught:
        build_wheel(source, old, yard.workshop)
    said = caught.value.findings[0].render()
    assert "pthread_create@GLIBC_2.34 in stone.cpython" in said and "(glibc 2.17)" in said and "--root DIR" in said
    assert caught.value.exit_code == 8
    assert here.rank_wheel(build_wheel(source, here, yard.workshop).wheel.name) is not None


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A library that this machine has in a folder of its own, and its header."""
    folder = tmp_path / "opt"
    folder.mkdir()
    (folder / "pebble.c").write_text("int pebble(void) { return 42; }\n")
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-Wl,-soname,libpebble.so.1",
        "-o",
        str(folder / "libpebble.so.1"),
        str(folder / "pebble.c"),
    ]

    def make() -> None:
        subprocess.run(command, check=True)
        (folder / "libpebble.so").symlink_to("libpebble.so.1")
        monkeypatch.setenv("LDFLAGS", f"-L{folder}")
        monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))

    return make


@compiles
def test_libraries_of_this_machine_are_grafted(
    yard: Yard, here: Target, tmp_path: Path, foreign: Callable[[], None]
) -> None:
    foreign()
    source = yard.take(
        extension(tmp_path, "int pebble(void);", "if (pebble() != 42) return NULL;", ", libraries=['pebble']")
    )
    built = build_wheel(source, here, yard.workshop)
    [library] = built.grafted_libraries
    assert library.startswith("libpebble-") and library.endswith(".so.1")
    assert find_needs({"stone": built.wheel}, here).needs == ()
    with zipfile.ZipFile(built.wheel.path) as archive:
        archive.extractall(tmp_path / "site")
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", "import stone"], env=environment, check=True)


PROGRAM = """
import base64, hashlib, os, subprocess, sys, sysconfig, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    version = sysconfig.get_config_var("LDVERSION")
    command = ["gcc", "main.c", "-o", "tool", "-I" + sysconfig.get_path("include"), "-L" + sysconfig.get_config_var("LIBDIR")]
    subprocess.check_call(command + os.environ["LDFLAGS"].split() + ["-lpython" + version, "-lpebble"])
    tag = "cp%d%d-cp%d%d-linux_%s" % (*sys.version_info[:2], *sys.version_info[:2], os.uname().machine)
    members = {
        "tool-1.0.data/scripts/tool": open("tool", "rb").read(),
        "tool-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\\nName: tool\\nVersion: 1.0\\n",
        "tool-1.0.dist-info/WHEEL": ("Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: %s\\n" % tag).encode(),
    }
    rows = [name + ",," for name in members] + ["tool-1.0.dist-info/RECORD,,"]
    members["tool-1.0.dist-info/RECORD"] = "\\n".join(rows).encode()
    name = "tool-1.0-%s.whl" % tag
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for path, content in members.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            archive.writestr(entry, content)
    return name
"""
MAIN = """
#include <Python.h>
int pebble(void);
int main(int argc, char **argv) { return pebble() == 42 ? Py_BytesMain(argc, argv) : 1; }
"""


@compiles
@pytest.mark.skipif(not sysconfig.get_config_var("Py_ENABLE_SHARED"), reason="needs a Python with a libpython")
def test_a_program_keeps_its_environment_and_its_libpython(
    yard: Yard, here: Target, tmp_path: Path, foreign: Callable[[], None]
) -> None:
    foreign()
    system = '[build-system]\nrequires = []\nbuild-backend = "program"\nbackend-path = ["."]\n'
    files = {"program.py": PROGRAM, "main.c": MAIN, "pyproject.toml": system}
    source = yard.take(make_sdist(tmp_path, "tool", files=files))
    built = build_wheel(source, here, yard.workshop)
    libpython = sysconfig.get_config_var("INSTSONAME")
    assert [one.soname for one in find_needs({"tool": built.wheel}, here).needs] == [libpython]
    venv = tmp_path / "there" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = yard.wheels["pip"].link_into(tmp_path)
    install = [venv / "bin/python", pip / "pip", "install", "--no-index", "--no-deps", built.wheel.link_into(tmp_path)]
    subprocess.run(list(map(str, install)), check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tmp_path / "opt")
    ask = "import sys, json; print(json.dumps([sys.prefix, sys.argv]))"
    done = subprocess.run(
        [venv / "bin/tool", "-c", ask, "x"], env={"PATH": "/nowhere"}, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [str(venv), ["-c", "x"]]


def test_a_build_that_fails(yard: Yard, here: Target, tmp_path: Path) -> None:
    source = yard.take(make_sdist(tmp_path, "pebble", fails="the machine is on fire"))
    with pytest.raises(BuildError) as caught:
        build_wheel(source, here, yard.workshop, name="pebble 1.0")
    [finding] = caught.value.findings
    log = tmp_path / "yard" / "logs" / f"pebble_1.0-{here.tag}.log"
    assert caught.value.exit_code == 8
    assert finding.render() == (
        f"pebble 1.0 could not be built for {here.name}. "
        f"--only-binary pebble looks for releases that do without this build. The whole log is {log}."
    )
    assert "the machine is on fire" in finding.log and "the machine is on fire" in log.read_text()
    assert "Traceback" not in finding.log
    assert left(tmp_path) == []


@compiles
def test_what_a_failed_build_lacked_is_named(
    yard: Yard, here: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = yard.take(extension(tmp_path, "#include <surely_not_here/sql.h>"))
    with pytest.raises(BuildError) as caught:
        build_wheel(source, here, yard.workshop)
    assert "the header file surely_not_here/sql.h is missing" in caught.value.findings[0].render()
    assert "surely_not_here/sql.h: No such file" in caught.value.findings[0].log
    monkeypatch.setenv("CC", "no-such-gcc")
    with pytest.raises(BuildError) as caught:
        build_wheel(source, here, yard.workshop)
    assert "the C compiler is missing" in caught.value.findings[0].render()


@pytest.mark.parametrize(
    "files, said",
    [
        ({"pyproject.toml": "[build-system\n"}, "Failed to parse"),
        ({"pyproject.toml": '[build-system]\nrequires = "x"\n'}, "must be an array"),
        ({"pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "nowhere"\n'}, "nowhere"),
    ],
)
def test_a_project_that_says_nothing_sensible(
    yard: Yard, here: Target, tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(BuildError) as caught:
        build_wheel(yard.take(make_sdist(tmp_path, "pebble", files=files)), here, yard.workshop)
    assert said in caught.value.findings[0].log
    assert left(tmp_path) == []


def test_no_archive(yard: Yard, here: Target, tmp_path: Path) -> None:
    path = tmp_path / "pebble-1.0.tar.gz"
    path.write_bytes(b"<html>")
    with pytest.raises(SourceError):
        build_wheel(yard.take(path), here, yard.workshop)
    assert left(tmp_path) == []


BACKEND = """
import json, os
from in_tree_own import *
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    print("ENVIRONMENT", json.dumps(dict(os.environ)))
    print("SETTINGS", json.dumps(config_settings))
    return own(wheel_directory, config_settings)
"""


def test_a_build_is_isolated(yard: Yard, here: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PYTHONPATH", "PYTHONSTARTUP", "UV_INDEX", "VIRTUAL_ENV", "OFFLINEPACK_SECRET"):
        monkeypatch.setenv(name, "leak")
    path = make_sdist(tmp_path / "p", "pebble", unpacked=True, files={"pebble/__init__.py": ""})
    own = path / "backend" / "in_tree.py"
    own.rename(path / "backend" / "in_tree_own.py")
    text = (path / "backend" / "in_tree_own.py").read_text() + "\nown = build_wheel\n"
    (path / "backend" / "in_tree_own.py").write_text(text)
    own.write_text(BACKEND)
    workshop = replace(yard.workshop, config_settings={"colour": "green"})
    built = build_wheel(path, here, workshop, name="pebble")
    log = built.log.read_text()
    said = json.loads(log.split("ENVIRONMENT ")[1].splitlines()[0])
    assert "leak" not in said.values()
    assert said["SOURCE_DATE_EPOCH"] == "315532800" and said["PATH"].startswith(said["TMPDIR"].rpartition("/")[0])
    assert 'SETTINGS {"colour": "green"}' in log
    assert "sha256" not in built.built_from  # a folder has none
    assert not (path / "build").exists() and not list(path.glob("*.egg-info"))


def test_options_make_other_wheels(yard: Yard, here: Target, tmp_path: Path) -> None:
    source = yard.take(make_sdist(tmp_path, "pebble"))
    build_wheel(source, here, yard.workshop)
    asked = len(yard.asked)
    build_wheel(source, here, replace(yard.workshop, config_settings={"a": "b"}))
    build_wheel(source, here, replace(yard.workshop, build_constraints=("setuptools<80",)))
    assert len(yard.asked) == asked + 2


def test_what_a_build_requires_besides(yard: Yard, here: Target, tmp_path: Path) -> None:
    yard.wheels["gravel"] = yard.take(make_wheel(tmp_path, "gravel", "2.0"))
    source = make_sdist(tmp_path, "pebble", build_requires=["gravel"])
    built = build_wheel(yard.take(source), here, yard.workshop)
    assert list(map(list, yard.asked)) == [["pip"], ["pip", "gravel"]]
    assert built.built_from["requires"] == "gravel-2.0"


def test_a_circle(yard: Yard, here: Target, tmp_path: Path) -> None:
    source = yard.take(make_sdist(tmp_path, "pebble"))

    def provide(requirements: Sequence[str], target: Target) -> list[StoredFile]:
        return [build_wheel(source, target, workshop).wheel]

    workshop = replace(yard.workshop, provide=provide)
    with pytest.raises(BuildError) as caught:
        build_wheel(source, here, workshop)
    assert caught.value.findings[0].code == "build-circle"
    assert left(tmp_path) == []


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_checkout_is_built_and_its_commit_known(yard: Yard, here: Target, tmp_path: Path) -> None:
    origin = make_sdist(tmp_path / "origin", "pebble", unpacked=True)
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "x"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", "-C", str(origin), *command], check=True)
    commit = clone_repository(origin.as_uri(), "v1", tmp_path / "clone")
    assert len(commit) == 40
    built = build_wheel(tmp_path / "clone", here, yard.workshop, name="pebble", origin={"commit": commit})
    assert built.built_from["commit"] == commit
    with pytest.raises(SourceError) as caught:
        clone_repository("https://user:secret@127.0.0.1:9/x.git", "v1", tmp_path / "other")
    assert "secret" not in caught.value.findings[0].render() + caught.value.findings[0].log


def test_what_can_be_built_here_is_known_before_anything_is_built() -> None:
    here = get_running_target()
    assert has_matching_interpreter(here, (), None)
    assert not has_matching_interpreter(parse_target("cp311-manylinux_2_28_s390x"), (), None)
    assert not has_matching_interpreter(parse_target("cp311-win_amd64"), (sys.executable,), None)
    assert has_matching_interpreter(here, (sys.executable,), None)
