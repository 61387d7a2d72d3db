"""The tutorial and the how-tos as they are printed: their blocks run here and on a machine without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import index
from tests.support.pages import PAGES, Here, blocks
from tests.support.projects import DEBS, NOTES

from .conftest import KEPT, Machine

__all__ = ["index"]


def follow(page: str, here: Here, target: Machine, media: dict[Path, str]) -> None:
    """Every block in its order, each on its side."""
    found = blocks(PAGES / page)
    assert {where for where, _ in found} == {"here", "there"}
    for where, code in found:
        if where == "there":
            target.shell(code, binds=media)
        else:
            here(code)


@pytest.mark.parametrize("page", ["diode", pytest.param("approval", marks=pytest.mark.slow)])
def test_a_how_to(
    page: str, index: Callable[..., Path], root: Callable[..., Path], machine: Callable[..., Machine], tmp_path: Path
) -> None:
    index.pep658 = True  # type: ignore[attr-defined]
    here = Here(tmp_path, tmp_path / "cache")
    (here.folder / "requirements.txt").write_text("stone\n")
    target = machine("--root", root("bookworm"), kept=True)
    another_way = tmp_path / "keys"
    another_way.symlink_to(here.folder)
    follow(f"how-to/{page}.md", here, target, {here.folder: "/media/usb:ro", another_way: "/media/keys:ro"})
    assert "stone" in target("/srv/app/venv/bin/python", "-m", "pip", "list").stdout


@pytest.mark.slow
def test_the_arm64_board(
    index: Callable[..., Path], root: Callable[..., Path], machine: Callable[..., Machine], tmp_path: Path
) -> None:
    index.pep658 = True  # type: ignore[attr-defined]
    here = Here(tmp_path, tmp_path / "cache")
    (here.folder / "requirements.txt").write_text("stone\n")
    target = machine("--root", root("bookworm", "arm64"), kept=True)
    follow("how-to/arm64.md", here, target, {here.folder: "/media/usb"})
    assert json.loads((here.folder / "machine.json").read_text())["machine"] == "aarch64"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tutorial.md", "how-to/rhel8.md"])
def test_with_the_real_index(
    page: str, root: Callable[..., Path], machine: Callable[..., Machine], pythons: dict[str, str], tmp_path: Path
) -> None:
    here = Here(tmp_path, KEPT / "cache")
    (here.folder / "requirements.txt").write_text("click\ndataclasses; python_version < '3.7'\n")
    if page == "tutorial.md":
        target = machine("--root", root("bookworm"), kept=True)
    else:  # Red Hat's Python 3.6 in Red Hat's place; the system around it is Debian's
        if "3.6" not in pythons:
            pytest.skip("this machine has no Python 3.6")
        target = machine("--root", root("bookworm"), "--python", "3.6", kept=True)
        target.shell("mkdir -p /usr/libexec && ln -s $(command -v python3) /usr/libexec/platform-python")
    follow(page, here, target, {here.folder: "/media/usb:ro"})


# The lab's Debian has no database of packages: what dpkg -i says there is done by hand.
DPKG = """
cat >/usr/local/bin/dpkg <<'END'
#!/bin/sh
[ "$1" = -i ] && shift || exit 2
for one; do dpkg-deb --fsys-tarfile "$one" | tar -xf - -C / --keep-directory-symlink; done
ldconfig
END
chmod 755 /usr/local/bin/dpkg
"""


@pytest.mark.slow
@pytest.mark.xdist_group("notes")
def test_a_service_under_systemd(root: Callable[..., Path], machine: Callable[..., Machine], tmp_path: Path) -> None:
    """The page on upgrades: systemd is process 1, the unit is the page's, and no request fails from the first to the last."""
    if not Path("/usr/include/python3.11/Python.h").exists():
        pytest.skip("needs Debian 12's python3-dev")
    here = Here(tmp_path, KEPT / "cache", OFFLINEPACK_BUILD_PYTHON="/usr/bin/python3")
    shutil.copytree(NOTES, here.folder / "notes", ignore=shutil.ignore_patterns("__pycache__"))
    (here.folder / "notes" / "notes" / "__init__.py").write_text('__version__ = "1.3"\n')
    found = blocks(PAGES / "how-to" / "upgrade.md")
    for where, code in found:
        if where == "here":
            here(code.replace("nginx-common", " ".join(DEBS[1:])))
    there = [code for where, code in found if where == "there"]
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in ("boot.sh", "inside_service.py"):
        shutil.copy(Path(__file__).with_name(name), inside)
    (inside / "blocks.json").write_text(json.dumps([there[:-2], there[-2], there[-1]]))
    target = machine("--root", root("bookworm", include="systemd,dbus,util-linux,passwd"), kept=True)
    target.shell(DPKG)
    media = {here.folder: "/media/usb:ro", inside: "/media/inside:ro"}
    command = (
        "/media/inside/boot.sh",
        "/usr/bin/python3",
        "/media/inside/inside_service.py",
        "/media/inside/blocks.json",
    )
    said = json.loads(target("sh", *command, binds=media).stdout.splitlines()[-1])
    assert said.pop("asked") > 100 and said == {
        "first": "1.3",
        "static": True,
        "after a kill": ["active", 1],
        "reloaded": ["active", True],
        "upgraded": "1.4",
        "rolled back": "1.3",
        "stopped": ["success", "success"],
        "versions": ["1.3", "1.4"],
        "failures": [],
    }
