"""action.yml, the GitLab template and the recipe: their shell parts are run as their runners would run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from offlinepack.cli.main import root_command
from tests.support.making import ServedIndex, make_wheel

HERE = Path(__file__).parents[2]
ACTION = yaml.safe_load((HERE / "action.yml").read_text("utf-8"))
SHELL = [step for step in ACTION["runs"]["steps"] if "run" in step]


def test_the_inputs_are_options_of_build() -> None:
    import click

    build = root_command.get_command(click.Context(root_command), "build")
    assert build
    options = {one.removeprefix("--") for option in build.params for one in option.opts}
    own = {
        "requirements",
        "sign-key",
        "args",
        "previous",
        "working-directory",
        "cache",
        "keep-lock",
        "python",
        "package",
    }
    assert set(ACTION["inputs"]) - own <= options
    assert set(ACTION["outputs"]) == {"path", "sha256", "signature", "report", "lock"}
    for step in SHELL:
        assert step["shell"] == "bash" and "${{" not in step["run"], "inputs reach the shell as variables only"
        assert step["run"].startswith("set -euo pipefail")


def filled(text: str, inputs: dict[str, str], steps: dict[str, dict[str, str]], place: Path) -> str:
    """The expressions of a composite action, those that ours has."""

    def value(found: re.Match[str]) -> str:
        kind, *rest = found[1].split(".")
        if kind == "inputs":
            return inputs[rest[0]]
        if kind == "steps":
            return steps[rest[0]][rest[2]]
        assert found[1] == "github.action_path", found[1]
        return str(place)

    return re.sub(r"\$\{\{ ([\w.-]+) \}\}", value, text)


class Runner:
    """Enough of a runner to run a composite action's shell steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "temp").mkdir()

    def run(self, **given: str) -> tuple[int, dict[str, str], str, str]:
        inputs = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
        inputs.update({name.replace("_", "-"): value for name, value in given.items()})
        steps: dict[str, dict[str, str]] = {}
        summary, said = self.folder / "summary.md", ""
        summary.write_text("")
        for step in SHELL:
            output = self.folder / "output"
            output.write_text("")
            environment = {name: filled(str(one), inputs, steps, HERE) for name, one in step.get("env", {}).items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.folder / filled(step.get("working-directory", "."), inputs, steps, HERE),
                env={
                    **os.environ,
                    **environment,
                    "RUNNER_TEMP": str(self.folder / "temp"),
                    "GITHUB_OUTPUT": str(output),
                    "GITHUB_STEP_SUMMARY": str(summary),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            said += done.stdout + done.stderr
            found = dict(re.findall(r"^(\w+)<<(?:\w+)\n(.*?)\nEND_OF_\1$", output.read_text(), re.M | re.S))
            found |= dict(re.findall(r"^(\w+)=(.*)$", output.read_text(), re.M))
            steps[step.get("id", "")] = found
            if done.returncode:
                return done.returncode, steps.get("build", {}), summary.read_text(), said
        return 0, steps["build"], summary.read_text(), said


@pytest.fixture
def runner(tmp_path: Path, index: ServedIndex, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Where pip would install offlinepack, this checkout is put."""
    folder = tmp_path / "work"
    folder.mkdir()
    index.pep658 = True
    made = Runner(folder)
    fake = tmp_path / "python"
    # `python -m venv DIR` and `DIR/bin/python -m pip install` come to: the interpreter of the tests, with this checkout
    fake.write_text(
        f"""#!/bin/sh
for last; do :; done
mkdir -p "$last/bin"
printf '#!/bin/sh\\n[ "$2" = pip ] && exit 0\\nexec {sys.executable} "$@"\\n' >"$last/bin/python"
printf '#!/bin/sh\\nexec {sys.executable} -m offlinepack "$@"\\n' >"$last/bin/offlinepack"
chmod 755 "$last/bin/python" "$last/bin/offlinepack"
"""
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    made.python = str(fake)  # type: ignore[attr-defined]
    return made


def test_the_action(runner: Runner, index: ServedIndex, tmp_path: Path) -> None:
    python: Any = runner.python  # type: ignore[attr-defined]
    (runner.folder / "requirements.txt").write_text("stone\n")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    code, outputs, summary, said = runner.run(
        python=python,
        requirement="requirements.txt\n",
        requirements="gravel>=1; python_version > '3'\n\ngranite",
        target="debian12\nwindows:3.12\n",
        app_version="1.2",
        name="quarry",
        output="{name}-{version}-{target}.tar.gz",
        sign_key=(tmp_path / "key").read_text().strip(),
        rehearse="true",
    )
    assert code == 0, said
    paths = outputs["path"].splitlines()
    assert sorted(paths) == ["quarry-1.2-cp311-manylinux_2_36_x86_64.tar.gz", "quarry-1.2-cp312-win_amd64.tar.gz"]
    assert len(outputs["sha256"].splitlines()) == 2 and outputs["signature"] == "manifest.json.sig"
    assert json.loads(Path(outputs["report"]).read_text())["ok"] is True
    assert all(one in summary for one in (*paths, *outputs["sha256"].splitlines(), "cp312-win_amd64"))
    assert not list((runner.folder / "temp").rglob("key")), "the key is gone"
    assert "PRIVATE KEY" not in said + summary

    index.add(make_wheel(tmp_path / "wheels", "pebble", "1.1"))
    code, outputs, summary, said = runner.run(
        python=python,
        requirement="requirements.txt",
        target="debian12",
        name="quarry",
        app_version="1.3",
        previous=paths[0],
    )
    assert code == 0, said
    assert "Since the previous release" in summary and "pebble" in summary and "1.1" in summary
    assert outputs["path"] == "quarry-1.3-offline.tar.gz" and outputs["signature"] == ""


def test_the_action_keeps_the_lock(runner: Runner, index: ServedIndex, tmp_path: Path) -> None:
    """Both folders of its caches come back: the same input packs the same versions and bytes; another one is locked anew."""
    python: Any = runner.python  # type: ignore[attr-defined]
    caches = [step["with"] for step in ACTION["runs"]["steps"] if "uses" in step]
    assert [one["path"].rpartition(".")[2].removesuffix(" }}") for one in caches] == ["work }}/store", "lock"]
    assert (
        "steps.where.outputs.period" in caches[1]["key"] and "steps.where.outputs.period" in caches[1]["restore-keys"]
    )
    (runner.folder / "requirements.txt").write_text("stone\n")
    asked = {"python": python, "requirement": "requirements.txt", "target": "debian12\nwindows:3.12"}
    code, first, _, said = runner.run(**asked)
    assert code == 0, said
    index.add(make_wheel(tmp_path / "wheels", "pebble", "1.1"))
    code, second, _, said = runner.run(**asked)
    assert code == 0 and "lock" in said and second == first, said
    code, third, _, said = runner.run(**asked, keep_lock="never")
    assert code == 0 and third["sha256"] != first["sha256"], said
    (runner.folder / "requirements.txt").write_text("stone\ngranite\n")
    code, fourth, _, said = runner.run(**asked)
    assert code == 0 and fourth["sha256"] != third["sha256"], said
    locks = runner.folder / "temp" / "offlinepack" / "lock"
    assert len(list(locks.iterdir())) == 2 and 'version = "1.1"' in max(locks.iterdir()).read_text()
    assert runner.run(**asked, keep_lock="a while")[0] == 2


def test_the_action_fails_as_build_does(runner: Runner) -> None:
    python: Any = runner.python  # type: ignore[attr-defined]
    assert runner.run(python=python, requirements="no-such-thing")[0] == 4
    assert runner.run(python=python, requirements="boulder", target="windows:3.11")[0] == 5
    assert runner.run(python=python, requirements="stone; touch x", target="debian12")[0] == 3
    assert not (runner.folder / "x").exists()
    (runner.folder / "pylock.toml").write_text('lock-version = "1.0"\ncreated-by = "x"\npackages = []\n')
    code, _, _, said = runner.run(python=python, requirement="pylock.toml", requirements="stone", locked="true")
    assert code == 4, said


def test_gitlab(runner: Runner, tmp_path: Path) -> None:
    python: Any = runner.python  # type: ignore[attr-defined]
    job = yaml.safe_load((HERE / "docs" / "ci" / "gitlab.yml").read_text("utf-8"))[".offlinepack"]
    subprocess.run([python, "-m", "venv", runner.folder / ".offlinepack" / "venv"], check=True)
    place = {**os.environ, "CI_PROJECT_DIR": str(runner.folder)}
    variables = {
        key: re.sub(r"\$(\w+)", lambda one: place.get(one[1], ""), value) for key, value in job["variables"].items()
    }
    variables |= {"OFFLINEPACK_TARGET": "debian12 windows:3.12", "OFFLINEPACK_REQUIREMENT": "requirements.txt"}
    (runner.folder / "requirements.txt").write_text("stone\n")
    script = "set -eo pipefail\n" + "\n".join(
        one for one in [*job["before_script"], *job["script"]] if " -m venv " not in one
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=runner.folder,
        env={**place, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((runner.folder / "dist").glob("*.tar.gz"))) == 2
    assert len(list((runner.folder / ".offlinepack" / "lock").glob("*-W*/pylock.*.toml"))) == 2


def test_the_recipe(runner: Runner, index: ServedIndex, tmp_path: Path) -> None:
    python: Any = runner.python  # type: ignore[attr-defined]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(python)
    (runner.folder / "requirements.txt").write_text("stone\n")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "OFFLINEPACK_SPLIT": "1M"}
    recipe = ["sh", HERE / "docs" / "ci" / "recipe.sh"]
    for version, previous in (("1.0", ()), ("1.1", ("dist/stone-1.0-cp311-manylinux_2_36_x86_64.tar.gz",))):
        done = subprocess.run(
            [*recipe, version, *previous],
            cwd=runner.folder,
            env={**environment, "OFFLINEPACK_TARGET": "debian12"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        index.add(make_wheel(tmp_path / "wheels", "pebble", "1.1"))
    assert "pebble" not in done.stdout, "the lock of the week holds"
    (lock,) = (runner.folder / ".offlinepack" / "lock").iterdir()
    assert re.fullmatch(r"\d{4}-W\d\d", lock.name) and 'version = "1.0"' in next(lock.iterdir()).read_text()
