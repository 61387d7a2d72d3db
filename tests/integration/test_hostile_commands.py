"""Every hostile bundle through the real commands, plain and signed by somebody who is trusted: refused, in time, without a trace.

On the host verify, inspect, diff, install, report and rehearse; unpacked also by install.py and offlinepack.pyz, in the
oldest, a middle and the newest Python that is here. In CI a sample of the corpus; all of it is slow.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from offlinepack.cli.main import run_command_line
from offlinepack.ontarget.manifest import Facts, Tool

from ..corpora import hostile_bundle, hostile_others
from ..corpora.hostile_bundle import Family, Hostile, contents, parts_of
from ..support import bundles, handmade
from ..support.bundles import Parts, gz, make_bundle, taken_apart
from .conftest import pip_wheel

RUNNER = Path(__file__).parents[1] / "support" / "runner.py"
VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
FAMILIES = hostile_bundle.FAMILIES + hostile_others.FAMILIES
REFUSED = (7, 9)
SECONDS, MEMORY = 10, 200
"""of the processor; MB, with the interpreter and all that was imported"""


def pythons() -> list[Path]:
    """The oldest, a middle and the newest that this machine has; the one that runs the tests at least."""
    found = {tuple(map(int, one.name.split("."))): one / "bin" / "python3" for one in VERSIONS.glob("3.*.*")}
    ordered = [found[one] for one in sorted(found) if found[one].exists()]
    chosen = [*ordered[:1], *(one for one in ordered if "/3.9." in str(one)), *ordered[-1:]] or [Path(sys.executable)]
    return list(dict.fromkeys(chosen))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle whose pip is a mere name: small."""
    return packed_with(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound bundle with a real pip, which can be installed."""
    return packed_with(tmp_path_factory.mktemp("complete"), pip=pip_wheel())


def packed_with(folder: Path, **others: Path) -> Path:
    """One with a target for each Python here, so that it is not the machine that refuses it."""
    wheels = {**bundles.some_wheels(folder / "wheels"), **others}
    asked = {"{}.{}".format(*sys.version_info[:2])}
    asked |= {".".join(one.parts[-3].split(".")[:2]) for one in pythons() if VERSIONS in one.parents}
    targets = []
    for version in sorted(asked, key=lambda one: -int(one[2:])):
        facts: Facts = handmade.facts(python=version, free_threaded=False)
        tag = f"cp{version.replace('.', '')}-manylinux_2_17_{facts.machine}"
        tool = Tool("pip", wheels["pip"].name.split("-")[1], wheels["pip"].name)
        targets.append(bundles.target_of(wheels, facts, tag, f"here{version}")._replace(tools=(tool,)))
    return make_bundle(folder, targets=targets, stored=map(bundles.stored, wheels.values()))[0]


@dataclass(frozen=True)
class Signer:
    """Somebody who is trusted, with an unencrypted key."""

    key: Path
    made: dict[str, bytes]

    def __call__(self, data: bytes) -> bytes:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.made:
            command = ["ssh-keygen", "-Y", "sign", "-q", "-n", "offlinepack", "-f", str(self.key)]
            done = subprocess.run(command, input=data, capture_output=True, check=True)
            self.made[digest] = done.stdout
        return self.made[digest]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    key = tmp_path_factory.mktemp("keys") / "hostile"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, capture_output=True)
    return Signer(key, {})


class Runner:
    """A process that runs commands, each forked off."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    def __call__(self, words: Iterable[object], place: Path) -> dict[str, Any]:
        temporary = str(place / "tmp")
        env = {"TMPDIR": temporary, "HOME": temporary, "XDG_CACHE_HOME": temporary}
        job = {"words": [str(one) for one in words], "cwd": str(place / "cwd"), "env": env}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def host() -> Iterator[Runner]:
    one = Runner([sys.executable, "-m", "tests.support.runner", "host"])
    yield one
    one.close()


@pytest.fixture(scope="module")
def there() -> Iterator[list[Runner]]:
    made = [Runner([str(one), "-I", "-B", str(RUNNER)]) for one in pythons()]
    yield made
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trusted") / "offlinepack.pyz"
    assert run_command_line(["standalone", "-o", str(path)]) == 0
    return path


def signed(base: Parts, signer: Callable[[bytes], bytes]) -> Parts:
    parts = parts_of(base)
    parts.signer = signer
    return parts


def names(place: Path) -> list[str]:
    """All that lies below it, links and empty folders too."""
    return sorted(str(one.relative_to(place)) for one in place.rglob("*"))


@dataclass
class Trial:
    """One hostile bundle in a place of its own."""

    hostile: Hostile
    place: Path
    packed: Path
    key: Path | None

    def run(self, host: Runner, there: list[Runner], program: Path) -> Iterator[str]:
        """What went wrong, if anything did."""
        for name in ("cwd", "tmp", "in/most", "media"):
            (self.place / name).mkdir(parents=True)
        keys = ["--verify-key", self.key] if self.key else []
        venv = ["--venv", self.place / "in/most/venv"]
        page = ["-o", self.place / "in/most/report.html"]
        if self.hostile.pack:
            path = self.place / "media/notes.tar.gz"
            path.write_bytes(self.hostile.pack())
            yield from self.host(host, path, keys, venv, page)
            path.unlink()
        if self.hostile.folder:
            folder = self.place / "media/notes-1.2"
            folder.mkdir()
            self.hostile.folder(folder)
            yield from self.host(host, folder, keys, venv, page)
            if not self.hostile.host_only:
                code = [folder / "install.py"] if (folder / "install.py").is_file() else []
                for one in there:
                    for start in code:
                        yield from self.one(one, [start, "--verify", *keys])
                        yield from self.one(one, [start, *venv, *keys])
                    yield from self.one(one, [program, "verify", folder, *keys])
                    yield from self.one(one, [program, "install", folder, *venv, *keys])

    def host(self, host: Runner, path: Path, keys: list[Any], venv: list[Any], page: list[Any]) -> Iterator[str]:
        yield from self.one(host, ["offlinepack", "verify", path, *keys])
        yield from self.one(host, ["offlinepack", "inspect", path])
        yield from self.one(host, ["offlinepack", "diff", self.packed, path])
        yield from self.one(host, ["offlinepack", "install", path, *venv, *keys])
        yield from self.one(host, ["offlinepack", "report", path, *page])
        yield from self.one(host, ["offlinepack", "rehearse", path, "--cache-dir", self.place / "in/most/cache"])

    def one(self, runner: Runner, words: list[Any]) -> Iterator[str]:
        before = names(self.place)
        found = runner([*words, "--json"], self.place)
        what = f"{self.hostile.name}{', signed' if self.key else ''}: {' '.join(map(str, words[:2]))}: "
        # install.py reports problems that precede its arguments without JSON
        early = "damaged or not complete" in found["err"]
        try:
            findings = json.loads(found["out"])["findings"]
        except (ValueError, KeyError, TypeError):
            findings = []
        bad = [one for one in findings if one["level"] == "error"]
        if found["code"] not in REFUSED:
            yield what + f"exit code {found['code']}\n{found['err'][-1500:]}"
        elif not early and not bad:
            yield what + f"nothing is named: {found['out'][-300:]} {found['err'][-300:]}"
        elif not all(one["subject"] and one["sentence"].isprintable() for one in bad):
            yield what + f"no sentence that names the thing: {bad[:2]}"
        elif (
            self.key
            and {one["code"] for one in bad} & {"not-signed", "bad-signature"}
            and "ignature" not in self.hostile.name
        ):
            yield what + f"the signature was found instead of the defect: {bad[:2]}"
        if "Traceback" in found["err"] or not all(one.isprintable() for one in found["err"].splitlines()):
            yield what + found["err"][-1500:]
        if found["processor"] > SECONDS or found["seconds"] > 20 * SECONDS or found["memory"] > MEMORY:
            yield what + f"{found['processor']:.1f} s of the processor, {found['seconds']:.1f} s, {found['memory']} MB"
        left = set(names(self.place)).symmetric_difference(before)
        if {one["code"] for one in bad} == {"wheel-contents"} and "install" in what:
            # what a member holds is compared while it is placed, in a generation that nobody is led to
            left = {one for one in left if one != "in/most/venv.d" and not one.startswith("in/most/venv.d/")}
            shutil.rmtree(self.place / "in/most/venv.d", ignore_errors=True)
        if left:
            yield what + f"left behind: {sorted(left)[:5]}"


def tried(
    chosen: Iterable[tuple[Hostile, Path | None]],
    packed: Path,
    tmp_path: Path,
    host: Runner,
    there: list[Runner],
    program: Path,
) -> tuple[int, list[str]]:
    count, wrong = 0, []
    for count, (hostile, key) in enumerate(chosen, 1):
        place = tmp_path / str(count)
        wrong += Trial(hostile, place, packed, key).run(host, there, program)
        shutil.rmtree(place)
    return count, wrong


def test_the_sound_one_is_taken(
    complete: Path, signer: Signer, tmp_path: Path, host: Runner, there: list[Runner], program: Path
) -> None:
    """And so what refuses the others is what is wrong with them."""
    base = taken_apart(complete)
    for parts, keys in ((base, []), (signed(base, signer), ["--verify-key", f"{signer.key}.pub"])):
        place = tmp_path / str(len(keys))
        for name in ("cwd", "tmp", "media"):
            (place / name).mkdir(parents=True)
        path, folder = place / "notes.tar.gz", place / "media/notes-1.2"
        path.write_bytes(gz(parts.tar(), 1))
        parts.unpacked(folder)
        trial = ["--venv", place / "venv", "--dry-run", *keys]
        for words in (["verify", path, *keys], ["inspect", path], ["diff", complete, path], ["install", path, *trial],
                      ["report", path, "-o", place / "r.html"], ["rehearse", path, "--target", f"here{sys.version_info[0]}.{sys.version_info[1]}"],
                      ["verify", folder, *keys]):  # fmt: skip
            found = host(["offlinepack", *words], place)
            assert found["code"] == 0, (words, found)
        for one in there:
            for words in ([folder / "install.py", "--verify", *keys], [folder / "install.py", *trial],
                          [program, "verify", folder, *keys], [program, "install", folder, *trial]):  # fmt: skip
                found = one(words, place)
                assert found["code"] == 0, (words, found)
        assert not (place / "venv").exists() and not (place / "venv.d").exists()


def both_ways(
    packed: Path, complete: Path, signer: Signer, families: Iterable[Family] = FAMILIES
) -> Iterator[tuple[Hostile, Path | None]]:
    """Each of them plain, then signed by somebody who is trusted."""
    light, whole, public = taken_apart(packed), taken_apart(complete), Path(f"{signer.key}.pub")
    for family in families:
        base = whole if family is contents else light
        for one, other in zip(family(base), family(signed(base, signer)), strict=True):
            yield one, None
            yield other, public


def test_a_sample(
    packed: Path, complete: Path, signer: Signer, tmp_path: Path, host: Runner, there: list[Runner], program: Path
) -> None:
    # the limits take long to be made; test_hostile_bundle.py has them all
    families = [one for one in FAMILIES if one is not hostile_others.limits]
    sample = [one for at, one in enumerate(both_ways(packed, complete, signer, families)) if at % 197 == 0]
    count, wrong = tried(sample, packed, tmp_path, host, there[:1], program)
    assert not wrong, "\n".join(wrong)
    assert count >= 8


def test_signatures_that_are_none(
    packed: Path, tmp_path: Path, host: Runner, there: list[Runner], program: Path
) -> None:
    wrong = []
    for number, hostile in enumerate(list(hostile_others.signatures(taken_apart(packed)))[::3]):
        trial = Trial(hostile, tmp_path / str(number), packed, None)
        for name in ("cwd", "tmp", "media/notes-1.2"):
            (trial.place / name).mkdir(parents=True)
        assert hostile.pack and hostile.folder
        (trial.place / "media/notes.tar.gz").write_bytes(hostile.pack())
        hostile.folder(trial.place / "media/notes-1.2")
        wrong += trial.one(host, ["offlinepack", "verify", trial.place / "media/notes.tar.gz"])
        wrong += trial.one(there[0], [program, "verify", trial.place / "media/notes-1.2"])
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.__name__)
def test_all_of_them(
    family: Family,
    packed: Path,
    complete: Path,
    signer: Signer,
    tmp_path: Path,
    host: Runner,
    there: list[Runner],
    program: Path,
) -> None:
    chosen = both_ways(packed, complete, signer, (family,))
    count, wrong = tried(chosen, packed, tmp_path, host, there, program)
    assert not wrong, "\n".join(wrong)
    assert count > 10
