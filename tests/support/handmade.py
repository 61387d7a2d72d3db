"""Unpacked bundles made by hand from wheels, for the tests of the target side: no host code has a part in them."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from offlinepack.ontarget import manifest
from offlinepack.ontarget.interpreter import collect_facts
from offlinepack.ontarget.manifest import (
    FORMAT,
    MANIFEST,
    SUMS,
    Distribution,
    Facts,
    File,
    Manifest,
    Need,
    TargetPlan,
    Tool,
    format_sums,
    serialize_manifest,
)

from .bundles import hash_record

ONTARGET = Path(manifest.__file__).parent
FACTS = tuple(Facts._fields)


def facts(**changed: Any) -> Facts:
    """What a target for this very interpreter would say, with a low libc floor."""
    own = collect_facts()
    known = {name: own[name] for name in FACTS}
    known["python"] = "{}.{}".format(*sys.version_info[:2])
    if known["libc"]:
        known["libc_version"] = "2.17" if known["libc"] == "glibc" else "1.1"
    return Facts(**{**known, **changed})


def requires_of(wheel: Path) -> tuple[str, ...]:
    """The plain names that METADATA requires."""
    with zipfile.ZipFile(wheel) as archive:
        info = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        lines = archive.read(info).decode().split("\n\n")[0]
    found = re.findall(r"(?m)^Requires-Dist: ([A-Za-z0-9._-]+)", lines)
    return tuple(re.sub(r"[-_.]+", "-", one).lower() for one in found)


def make_bundle(
    folder: Path,
    wheels: Iterable[Path],
    *,
    pip: Path,
    name: str = "notes",
    version: str | None = "1.0",
    sequence: int | None = None,
    install_to: str | None = None,
    requested: Iterable[str] = (),
    needs: Iterable[Need] = (),
    python_min: str = "",
    target: Mapping[str, Any] | None = None,
    target_name: str = "here",
    other_targets: Iterable[TargetPlan] = (),
) -> Path:
    """`folder`/<name>-<version>, whole, as format 1 wants it; the wheels stand in install order."""
    top = folder / (f"{name}-{version}" if version else name)
    shutil.rmtree(top, ignore_errors=True)
    for one in ("wheels", "tools", "ontarget"):
        (top / one).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ONTARGET / "install.py", top / "install.py")
    for source in sorted(ONTARGET.iterdir()):
        if source.suffix in (".py", ".json") and source.name != "install.py":
            shutil.copyfile(source, top / "ontarget" / source.name)
    plan, asked = [], set(requested)
    for wheel in wheels:
        shutil.copyfile(wheel, top / "wheels" / wheel.name)
        project, release = wheel.name.split("-")[:2]
        project = re.sub(r"[-_.]+", "-", project).lower()
        plan.append((project, release, f"wheels/{wheel.name}", requires_of(wheel)))
    names = {one[0] for one in plan}
    install = tuple(
        Distribution(n, v, f, tuple(r for r in req if r in names), n in asked, None) for n, v, f, req in plan
    )
    if f"wheels/{pip.name}" not in {one.file for one in install}:
        shutil.copyfile(pip, top / "tools" / pip.name)
        tool = f"tools/{pip.name}"
    else:
        tool = f"wheels/{pip.name}"
    own = facts(**(target or {}))
    short = {"cpython": "cp", "pypy": "pp"}[own.implementation] + own.python.replace(".", "")
    platform = f"manylinux_2_17_{own.machine}" if own.libc == "glibc" else f"{own.os}_{own.machine}"
    plan_of = TargetPlan(
        name=target_name,
        tag=f"{short}-{platform}",
        facts=own,
        python_min=python_min or own.python,
        cpu=None,
        python=None,
        install=install,
        tools=(Tool("pip", pip.name.split("-")[1], tool),),
        needs=tuple(needs),
    )
    kinds = {"wheels": "wheel", "tools": "tool", "ontarget": "code", "install.py": "code"}

    def listed(path: Path) -> File:
        relative = path.relative_to(top).as_posix()
        data = path.read_bytes()
        kind = kinds.get(relative.split("/")[0], "document")
        record = hash_record(path) if kind in ("wheel", "tool") else None
        return File(relative, len(data), hashlib.sha256(data).hexdigest(), kind, record)

    files = sorted(listed(path) for path in top.rglob("*") if path.is_file())
    (top / SUMS).write_bytes(format_sums(files))
    files = sorted([*files, listed(top / SUMS)])
    manifest = Manifest(FORMAT, name, version, sequence, install_to, (plan_of, *other_targets), tuple(files))
    (top / MANIFEST).write_bytes(serialize_manifest(manifest))
    return top
