"""The live rehearsal on the build host: install.py, each module imported, all kinds of failures distinguished."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.cli.console import load_messages
from offlinepack.ontarget.manifest import Need
from offlinepack.rehearsal import live
from offlinepack.rehearsal.live import run_install
from offlinepack.rehearsal.verdict import Verdict
from offlinepack.sandbox import run_without_network, supports_network_isolation
from tests.support.extensions import EXTENSION, module
from tests.support.handmade import facts, make_bundle
from tests.support.making import make_wheel

from .conftest import Ran, pip_wheel

Bundle = Callable[..., Path]
REACH = "import socket\nsocket.create_connection(('192.0.2.1', 9), 3)\n"
NEAR = """
import asyncio, socket, threading
s = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=s.accept, daemon=True).start()
socket.create_connection(s.getsockname(), 5).close()
asyncio.new_event_loop().close()
"""


@pytest.fixture
def packed(tmp_path: Path) -> Bundle:
    """A bundle for this interpreter of projects: name -> the text of its module, that and what it needs, or its files."""

    def make(projects: dict[str, Any], **named: Any) -> Path:
        wheels = [
            make_wheel(
                tmp_path / "w",
                name,
                files=one if isinstance(one, dict) else {f"{name}.py": one if isinstance(one, str) else one[0]},
                requires=one[1] if isinstance(one, tuple) else (),
            )
            for name, one in projects.items()
        ]
        return make_bundle(tmp_path, wheels, pip=pip_wheel(), requested=list(projects), **named)

    return make


def said(done: Ran) -> dict[str, dict[str, str]]:
    return {one["subject"]: one for one in done.json["findings"]}


@pytest.fixture(params=["namespace", "guard"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways to take the network away."""
    if request.param == "guard":
        monkeypatch.setattr(live, "supports_network_isolation", lambda: False)
    elif not supports_network_isolation():
        pytest.skip("this computer allows no namespaces")
    yield request.param


def test_kinds_of_failures_are_distinguished(
    packed: Bundle, cut: str, offlinepack: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "IMPORT_TIMEOUT", 4.0)
    monkeypatch.setattr(live, "COMMAND_TIMEOUT", 4.0)
    bundle = packed(
        {
            "sound": NEAR,
            "library": "import ctypes\nctypes.CDLL('libnowhere.so.7')\n",
            "above": "import library\n",
            "lacking": "try:\n    import nowhere\nexcept ImportError as bad:\n    raise ImportError('needs nowhere') from bad\n",
            "effect": "open('/no/such/file')\n",
            "reach": REACH,
            "hang": "import time\ntime.sleep(999)\n",
            "leave": "import os\nos._exit(3)\n",
            "quit": "import sys\nsys.exit('not this way')\n",
            "crash": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
            "carried": {"carried.py": "", "tests/__init__.py": "import pytest\n"},
            "shared": {"common/works.py": "", "common/extra.py": "import nowhere2\n"},
            "pot": {"potapi.py": "import pot\n"},
            "noise": "print('{}' * 9)\nimport threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\n",
        }
    )
    reach = f'python -c "{"; ".join(REACH.splitlines())}"'
    smoke = ["echo no >&2; exit 3", "sleep 99", reach, "python -c 'import sound'"]
    done = offlinepack("rehearse", bundle, *(word for one in smoke for word in ("--smoke", one)), "--json")
    (verdict,) = done.json["targets"]
    assert (done.code, done.json["exit_code"], done.json["ok"]) == (11, 11, False)
    assert (verdict["verdict"], verdict["installs"], verdict["runs"]) == ("fails", True, False)
    assert ("namespace" if cut == "namespace" else "guard") in verdict["live"]["network"]
    found, here = said(done), "on this computer"
    assert {name: (one["level"], one["code"]) for name, one in found.items()} == {
        "above, library": ("error", "import-library"),
        "lacking": ("error", "import-module"),
        "effect": ("error", "import-side-effect"),
        "reach": ("error", "import-side-effect"),
        "hang": ("error", "import-hangs"),
        "leave": ("error", "import-side-effect"),
        "quit": ("error", "import-side-effect"),
        "crash": ("error", "import-side-effect"),
        "carried": ("warning", "import-module"),
        "shared": ("warning", "import-module"),
        "pot": ("warning", "import-module"),
        smoke[0]: ("error", "smoke-failed"),
        smoke[1]: ("error", "smoke-hangs"),
        smoke[2]: ("error", "smoke-failed"),
    }
    assert found["above, library"]["sentence"] == (
        f"above, library: above, library cannot be imported {here}, which lacks libnowhere.so.7."
    )
    assert found["lacking"]["sentence"] == f"lacking: lacking cannot be imported {here}: the module nowhere is missing."
    assert found["hang"]["sentence"] == f"hang: importing hang {here} had not ended after 4 s."
    assert "hang.py" in found["hang"]["log"], "where it stood"
    assert "No such file or directory: '/no/such/file'" in found["effect"]["sentence"]
    assert "Network is unreachable" in found["reach"]["sentence"]
    assert found["leave"]["sentence"].endswith("ended its Python: exit code 3.")
    assert found["crash"]["sentence"].endswith("ended its Python: SIGSEGV.")
    assert found[smoke[0]]["sentence"] == f"On this computer this ended with exit code 3: {smoke[0]}"
    assert found[smoke[0]]["log"] == "no"
    assert "Network is unreachable" in found[smoke[2]]["log"]


def test_a_sound_bundle_runs_and_the_words_do_not_overstate(
    packed: Bundle, offlinepack: Callable[..., Ran], tmp_path: Path
) -> None:
    part = "import sys\nif 'other' not in sys.modules: raise ImportError('import other first')\n"
    bundle, report = packed({"part": part, "sound": NEAR, "other": ("", ["part"])}), tmp_path / "report.json"
    before = sorted(str(one) for one in bundle.rglob("*"))
    done = offlinepack("rehearse", bundle, "--live", "--smoke", "python -m other", "--report", report)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("here: runs: installed on this computer with Python ")
    assert "and without a network" in lines[0] and lines[0].endswith(", 3 modules imported.")
    assert lines[1:] == [
        "  python -m other: exit code 0",
        "  not checked: any machine but this one, and what its system has installed",
    ]
    assert sorted(str(one) for one in bundle.rglob("*")) == before
    (target,) = json.loads(report.read_text())["targets"]
    for suffix in ("md", "xml"):
        assert offlinepack("rehearse", bundle, "--report", tmp_path / f"r.{suffix}").code == 0
    assert "here: installs: its plan is complete" in (tmp_path / "r.md").read_text()
    (case,) = ElementTree.parse(tmp_path / "r.xml").iter("testcase")
    assert case.get("name") == "here: installs" and not list(case)
    assert target["verdict"] == "runs" and not {"seconds", "time", "date"} & set(target["live"])


def test_what_preflight_finds_does_not_hide_what_imports_show(packed: Bundle, offlinepack: Callable[..., Ran]) -> None:
    need = Need("libnowhere.so.7", (), ("sound",), "apt install libnowhere7")
    loads = "import ctypes\nctypes.CDLL('libnowhere.so.7')\n"
    bundle = packed({"sound": loads, "other": "import sound\n", "broken": "import nowhere\n", "good": ""}, needs=[need])
    done = offlinepack("rehearse", bundle, "--live", "--smoke", "python -c 'import good'", "--json")
    (verdict,) = done.json["targets"]
    assert (done.code, verdict["verdict"], verdict["live"]["imported"]) == (11, "fails", 1)
    assert [one["sentence"] for one in done.json["findings"]] == [
        "sound needs libnowhere.so.7, which this computer lacks.",
        "broken: broken cannot be imported on this computer: the module nowhere is missing.",
    ]
    assert done.json["findings"][0]["advice"] == "Install it there: apt install libnowhere7"
    assert not [one for one in verdict["not_checked"] if "imported (--live)" in one]
    lines = offlinepack("rehearse", bundle, "--live").out.splitlines()
    assert lines[0].startswith("here: fails on this computer with Python ") and lines[0].endswith("; 1 modules imported.")


def test_what_install_py_says_is_said_in_the_language_of_this_side(packed: Bundle) -> None:
    bundle = packed({"sound": ("", ["nowhere"])})
    verdicts = [Verdict("here", tag := open_bundle(bundle).manifest.targets[0].tag, True, modules={"sound": ()})]
    (seen,) = run_install(open_bundle(bundle), verdicts)
    (found,) = seen.findings
    assert (seen.runs, seen.tag, found.code) == (False, tag, "pip-check")
    assert found.render(load_messages("zh")).startswith("pip check 报告已安装的内容互不相容。")
    assert [one.render() for one in seen.limitations] == [
        "whether its modules can be imported: it could not be installed"
    ]


def test_a_target_that_this_computer_cannot_run(
    packed: Bundle, offlinepack: Callable[..., Ran], tmp_path: Path
) -> None:
    bundle = packed({"sound": ""}, target={"python": "3.99"})
    done = offlinepack("rehearse", bundle, "--live", "--report", tmp_path / "r.json")
    assert done.code == 10
    assert "could be rehearsed live: this computer has no Python that fits here. --root DIR takes" in done.err
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["exit_code"], document["targets"][0]["runs"]) == (10, None)
    assert document["findings"][0]["code"] == "nothing-rehearsed"
    assert any(one.startswith("  not checked: whether it runs: ") for one in done.out.splitlines())
    assert offlinepack("rehearse", bundle).code == 0


def test_a_c_library_that_is_too_old_is_found_by_the_static_stage(
    tmp_path: Path, offlinepack: Callable[..., Ran]
) -> None:
    own = facts(libc="glibc", libc_version="2.17", os="linux", machine="x86_64", macos_version=None)
    name = f"_part.{EXTENSION}"
    files = {
        "stone/__init__.py": "from . import _part\n",
        f"stone/{name}": module("_part", "libc.so.6", versions={"libc.so.6": ["GLIBC_2.38"]}),
    }
    wheel = make_wheel(tmp_path / "w", "stone", files=files)
    bundle = make_bundle(tmp_path, [wheel], pip=pip_wheel(), requested=["stone"], target=own._asdict())
    done = offlinepack("rehearse", bundle, "--live")
    assert done.code == 10
    assert f"error: stone: stone/{name} needs GLIBC_2.38, and here has glibc 2.17." in done.err


def test_the_rehearsal_is_cut_off(tmp_path: Path) -> None:
    if not supports_network_isolation():
        pytest.skip("this computer allows no namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)"
        done = run_without_network([sys.executable, "-c", code], environment={}, folder=tmp_path)
    assert done.returncode == 1 and b"refused" in done.stdout
