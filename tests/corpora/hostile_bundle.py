"""Whole bundles that somebody made to do harm, as tar.gz and unpacked: all that tests/hostile_*.py and the lists beside the
unit tests hold, each put into a bundle whose manifest, sums and, where it is asked for, signature were made right for it.

No writer of the product has a part in them: a sound bundle is taken apart once, the rest is done here, byte by byte.
"""

from __future__ import annotations

import copy
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..support.bundles import END, Parts, file, gz
from .hostile_tar import ATTACKS as TARS
from .hostile_tar import Attack
from .hostile_wheel import ATTACKS as WHEELS
from .hostile_wheel import CONTENTS, FILENAME, INFO, STEM, Part, Zip, of, sound

STONE, MOSS = f"wheels/{FILENAME}", "wheels/moss-2.0-py3-none-any.whl"


@dataclass(frozen=True)
class Hostile:
    """One bundle; of `pack` and `folder` there is at least one."""

    name: str
    data: bytes
    """of its manifest.json"""
    pack: Callable[[], bytes] | None = None
    """makes the tar.gz"""
    folder: Callable[[Path], object] | None = None
    """writes it out below a folder that is there"""
    host_only: bool = False
    """the target side does not read what is wrong, by design: documents for other tools"""


def parts_of(base: Parts) -> Parts:
    return Parts(base.folder, copy.deepcopy(base.manifest), dict(base.files), base.signer)


def both(name: str, parts: Parts, host_only: bool = False) -> Hostile:
    """The same hostile parts packed and unpacked."""
    return Hostile(name, parts.data, lambda: gz(parts.tar(), 1), lambda folder: parts.unpacked(folder), host_only)


def with_wheels(base: Parts, **wheels: tuple[str, bytes]) -> Parts:
    """The bundle with other wheels for these distributions of every plan: name -> file name, bytes."""
    parts = parts_of(base)
    for name, (filename, data) in wheels.items():
        path = f"wheels/{filename}"
        for target in parts.manifest["targets"]:
            for one in target["install"]:
                if one["name"] == name:
                    parts.files.pop(one["file"], None)
                    one["file"] = path
        parts.files[path] = data
        parts.manifest["files"].append({"path": path, "kind": "wheel"})
    return replanned(parts)


def replanned(parts: Parts) -> Parts:
    """Documents and sums that agree with the files again."""
    sums = {path: __import__("hashlib").sha256(data).hexdigest() for path, data in parts.files.items()}
    for target in parts.manifest["targets"]:
        for path in (f"pylock.{target['tag']}.toml", f"requirements.{target['tag']}.txt"):
            parts.files.pop(path, None)
        assert all(one["file"] in sums for one in target["install"]), target["install"]
    return parts.rehashed()


def moss(**settings: Any) -> tuple[str, bytes]:
    """A sound wheel of moss 2.0, or one with these parts of hostile_wheel.sound changed."""
    files = {name.replace(STEM, "moss-2.0"): data for name, data in settings.pop("files", {}).items()}
    made = []
    for part in sound(
        metadata=b"Metadata-Version: 2.1\nName: moss\nVersion: 2.0\n",
        info="moss-2.0.dist-info",
        files=files,
        **settings,
    ):
        made.append(part)
    return "moss-2.0-py3-none-any.whl", renamed(Zip(tuple(made)))


TWO = (b"stone/__init__.py", b"mossy/__init__.py")


def renamed(archive: Zip) -> bytes:
    """hostile_wheel's module stone/ is moss/ here, of the same length, RECORD included."""
    parts = [
        Part(one.name.replace(*TWO), one.data.replace(*TWO) if b"RECORD" in one.name else one.data, flags=one.flags)
        for one in archive.parts
    ]
    return Zip(tuple(parts)).bytes()


# ------------------------------------------------------------------- wheels, beyond those of hostile_wheel

EVIL = {
    "bin_pyvenv_cfg": f"{STEM}.data/scripts/pyvenv.cfg",
    "data_bin_pyvenv_cfg": f"{STEM}.data/data/bin/pyvenv.cfg",
    "data_scripts_pyvenv_cfg": f"{STEM}.data/data/Scripts/PYVENV.cfg",
    "bin_pth": f"{STEM}.data/scripts/python311._pth",
    "bin_dll": f"{STEM}.data/scripts/python311.dll",
    "bin_pybuilddir": f"{STEM}.data/scripts/pybuilddir.txt",
    "lib_python_as_file": f"{STEM}.data/data/lib/python3.11",
    "site_packages_as_file": f"{STEM}.data/data/lib64/python3.11/site-packages",
    "windows_site_as_file": f"{STEM}.data/data/Lib/site-packages",
}
SECTIONS = {
    "spaces": b"[ console_scripts ]\n../../evil = stone:main\n",
    "brackets": b"[[console_scripts]]\n../../evil = stone:main\n",
    "upper": b"[Console_Scripts]\n../../evil = stone:main\n",
    "default": b"[DEFAULT]\n../../evil = stone:main\n[console_scripts]\nx = stone:main\n",
    "tab": b"[\tgui_scripts\t]\n../../evil = stone:main\n",
    "continued": b"[console_scripts]\nx = stone:main\n    ../../evil = stone:main\n",
    "colon": b"[console_scripts]\n../../evil: stone:main\n",
    "vertical_tab": b"[console_scripts]\nx = stone:main\x0b../../evil = stone:main\n",
    "line_separator": "[console_scripts]\nx = stone:main\u2028../../evil = stone:main\n".encode(),
    "nul": b"[console_scripts]\nx\0y = stone:main\n",
    "no_utf8": b"[console_scripts]\n\xff/../x = stone:main\n",
}
METADATA = {
    "name_after_a_carriage_return": b"Metadata-Version: 2.1\rName: evil\nName: stone\nVersion: 1.0\n",
    "version_after_a_carriage_return": b"Metadata-Version: 2.1\rVersion: 9\nName: stone\nVersion: 1.0\n",
    "name_folded": b"Metadata-Version: 2.1\nName:\n evil\nName: stone\nVersion: 1.0\n",
    "name_twice": b"Metadata-Version: 2.1\nName: stone\nNAME: evil\nVersion: 1.0\n",
    "no_name": b"Metadata-Version: 2.1\nVersion: 1.0\n",
    "nothing": b"",
    "in_the_body": b"Metadata-Version: 2.1\n\nName: stone\nVersion: 1.0\n",
    "nul": b"Metadata-Version: 2.1\nName: stone\0\nVersion: 1.0\n",
}


def wheels(base: Parts) -> Iterator[Hostile]:
    for attack in WHEELS:
        filename, data = attack.make()
        if len(filename.encode("utf-8", "surrogatepass")) < 200 and filename.isprintable() and "/" not in filename:
            yield both(f"wheel_{attack.name}", with_wheels(base, stone=(filename, data)))
    for label, path in EVIL.items():
        yield both(f"wheel_{label}", with_wheels(base, stone=(FILENAME, of(files={path: b"evil"}).bytes())))
    for label, text in SECTIONS.items():
        yield both(f"entry_points_{label}", with_wheels(base, stone=(FILENAME, of(entry_points=text).bytes())))
    for label, text in METADATA.items():
        yield both(f"metadata_{label}", with_wheels(base, stone=(FILENAME, of(metadata=text).bytes())))


def contents(base: Parts) -> Iterator[Hostile]:
    """What only shows when members are unpacked: while an engine places them, if nobody looked before."""
    for attack in CONTENTS:
        yield both(f"wheel_{attack.name}", with_wheels(base, stone=attack.make()))


PAIRS: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {
    "same_file": ({"shared/x.py": b"1"}, {"shared/x.py": b"2"}),
    "file_and_folder": ({"shared": b"1"}, {"shared/x.py": b"2"}),
    "folder_and_file": ({"shared/deep/x.py": b"1"}, {"shared/deep": b"2"}),
    "by_data": ({"shared/x.py": b"1"}, {f"{STEM}.data/data/lib/python3.11/site-packages/shared/x.py": b"2"}),
    "by_purelib": ({"shared/x.py": b"1"}, {f"{STEM}.data/platlib/shared/x.py": b"2"}),
    "scripts": ({f"{STEM}.data/scripts/run": b"1"}, {f"{STEM}.data/data/bin/run": b"2"}),
    "bytecode": ({"shared/x.py": b"1"}, {"shared/__pycache__/x.cpython-311.pyc": b"2"}),
    "bytecode_optimised": ({"shared/x.py": b"1"}, {"shared/__pycache__/x.cpython-36.opt-1.pyc": b"2"}),
    "headers": ({f"{STEM}.data/data/include/site/python3.11/moss/x.h": b"1"}, {f"{STEM}.data/headers/x.h": b"2"}),
    "the_others_folder": ({}, {"stone": b"evil"}),
    "the_others_record": ({}, {f"{INFO}/RECORD": b""}),
    "data_files": ({f"{STEM}.data/data/etc/x": b"1"}, {f"{STEM}.data/data/etc/x": b"2"}),
}
FOLDED: dict[str, tuple[dict[str, bytes], dict[str, bytes]]] = {
    "case": ({"shared/x.py": b"1"}, {"shared/X.py": b"2"}),
    "case_of_a_folder": ({"shared/x.py": b"1"}, {"Shared/x.py": b"2"}),
    "normal_form": ({"shared/\u00e9.py": b"1"}, {"shared/e\u0301.py": b"2"}),
    "sharp_s": ({"shared/\u00df.py": b"1"}, {"shared/ss.py": b"2"}),
    "file_and_folder_by_case": ({"Shared": b"1"}, {"shared/x.py": b"2"}),
}
"""on Windows and macOS"""
ON_WINDOWS = [
    "stone/con.py", "stone/AUX", "stone/nul.txt", "stone/x.py.", "stone/x.py ", "stone/x:evil", "pip./__init__.py", "stone/a?b",
    "stone/lpt1/x.py", "stone/a|b", "pip /x.py", "stone/<x>", 'stone/"x"', "stone/com\u00b9.py", "stone/CONIN$",
]  # fmt: skip


def clashes(base: Parts) -> Iterator[Hostile]:
    for label, (one, other) in PAIRS.items():
        pair = {"stone": (FILENAME, of(files=one).bytes()), "moss": moss(files=other)}
        yield both(f"two_write_{label}", with_wheels(base, **pair))
    elsewhere = elsewhere_too(base)
    for label, (one, other) in FOLDED.items():
        pair = {"stone": (FILENAME, of(files=one).bytes()), "moss": moss(files=other)}
        yield both(f"two_write_{label}", with_wheels(elsewhere, **pair))
    for number, path in enumerate(ON_WINDOWS):
        yield both(
            f"windows_name_{number}", with_wheels(elsewhere, stone=(FILENAME, of(files={path: b"evil"}).bytes()))
        )


def elsewhere_too(base: Parts) -> Parts:
    """The bundle with targets for Windows and macOS besides."""
    parts = parts_of(base)
    first = parts.manifest["targets"][0]
    for tag, os_name, machine in (
        ("cp311-win_amd64", "windows", "amd64"),
        ("cp311-macosx_11_0_arm64", "macos", "arm64"),
    ):
        facts = {
            **first["facts"],
            "os": os_name,
            "machine": machine,
            "libc": None,
            "libc_version": None,
            "python": "3.11",
        }
        facts["macos_version"] = "11.0" if os_name == "macos" else None
        parts.manifest["targets"].append(
            {**copy.deepcopy(first), "name": os_name, "tag": tag, "facts": facts, "python_min": "3.11"}
        )
    return parts


# --------------------------------------------------------------------------------------- manifests and documents


def raw(name: str, parts: Parts, data: bytes) -> Hostile:
    """These very bytes as manifest.json."""
    first = {"manifest.json": data, **({"manifest.json.sig": parts.signer(data)} if parts.signer else {})}
    members = [file(f"{parts.folder}/{path}", content) for path, content in {**first, **parts.files}.items()]

    def unpacked(folder: Path) -> None:
        parts.unpacked(folder)
        for path, content in first.items():
            (folder / path).write_bytes(content)

    return Hostile(name, data, lambda: gz(b"".join(members) + END, 1), unpacked)


def manifests(base: Parts) -> Iterator[Hostile]:
    from tests.unit.test_manifest import SOUND, WRONG
    from tests.unit.test_manifest import test_bytes_that_are_no_manifest as others

    for name, change, _ in WRONG:
        plain = copy.deepcopy(SOUND)
        found = change(plain)
        data = (json.dumps(plain if found is None else found, sort_keys=True, indent=1) + "\n").encode()
        yield raw(f"manifest_{name}", base, data)
    for number, (data, _) in enumerate(others.pytestmark[0].args[1]):
        yield raw(f"manifest_bytes_{number}", base, data[: 1 << 24])

    def changed(name: str, change: Callable[[dict[str, Any]], object], *, renew: bool = False) -> Hostile:
        parts = parts_of(base)
        change(parts.manifest)
        return both(f"manifest_{name}", parts.rehashed() if renew else parts)

    first = base.manifest["targets"][0]["install"]
    yield changed("plan_swaps_files", lambda m: swap(m["targets"], first), renew=True)
    yield changed("plan_other_version", lambda m: each(m, lambda one: one.update(version="9.9")), renew=True)
    yield changed(
        "plan_other_name", lambda m: each(m, lambda one: one.update(name=one["name"] + "x", requires=[])), renew=True
    )
    yield changed("pip_is_another", lambda m: [t["tools"][0].update(file=STONE) for t in m["targets"]], renew=True)
    yield changed("wrong_hash", lambda m: m["files"][0].update(sha256="0" * 64))
    yield changed("wrong_size", lambda m: m["files"][0].update(size=1 << 40))
    yield changed("less_files", lambda m: m["files"].pop(0))
    yield changed("more_files", lambda m: m["files"].append({**m["files"][-1], "path": "zzz.txt"}))
    yield changed("kind_of_code", lambda m: [one.update(kind="document") for one in m["files"] if one["path"] == STONE])
    yield changed("format_2", lambda m: m.update(format=2))
    for path, kind in (
        ("evil.py", "code"),
        ("json.py", "code"),
        ("etc/passwd", "document"),
        ("pip.conf", "document"),
        ("sitecustomize.py", "included"),
    ):
        parts = parts_of(base)
        parts.files[path] = b"print('boo')\n"
        parts.manifest["files"].append({"path": path, "kind": kind})
        yield both(f"manifest_lists_{path.replace('/', '_')}", parts.rehashed(), host_only=True)
    parts = parts_of(base)
    parts.files["SHA256SUMS"] = parts.files["SHA256SUMS"].replace(b"a", b"b")
    yield both("sums_disagree", parts)
    parts = parts_of(base).rehashed()
    edited = parts.files["SHA256SUMS"].splitlines(True)[1:]
    parts.files["SHA256SUMS"] = b"".join(edited)
    import hashlib

    for one in parts.manifest["files"]:
        if one["path"] == "SHA256SUMS":
            one.update(
                size=len(parts.files["SHA256SUMS"]), sha256=hashlib.sha256(parts.files["SHA256SUMS"]).hexdigest()
            )
    yield both("sums_lack_a_line", parts)


def each(manifest: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    for target in manifest["targets"]:
        for one in target["install"]:
            change(one)


def swap(targets: list[dict[str, Any]], first: list[dict[str, Any]]) -> None:
    for target in targets:
        one, other = target["install"][:2]
        one["file"], other["file"] = other["file"], one["file"]


def documents(base: Parts) -> Iterator[Hostile]:
    from tests.unit import test_documents as known

    for kind, test in (
        ("requirements", known.test_requirements_that_say_something_else),
        ("pylock", known.test_locks_that_say_something_else),
    ):
        path = next(one for one in base.files if one.startswith(f"{kind}."))
        for param in test.pytestmark[0].args[1]:
            parts = parts_of(base)
            said = parts.files[path].decode()
            changed = param.values[0](said)
            parts.files[path] = changed if isinstance(changed, bytes) else changed.encode("utf-8", "surrogatepass")
            if parts.files[path] != base.files[path]:
                yield both(f"{kind}_{param.id}", parts.rehashed(), host_only=True)
    parts = parts_of(base)
    parts.files["requirements.txt"] = b"evil==1.0\n"
    yield both("requirements_of_no_target", parts.rehashed(), host_only=True)


# ------------------------------------------------------------------------------------------------ unpacked folders


def write(name: str, data: bytes = b"boo") -> Callable[[Path], object]:
    def attack(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)

    return attack


def link(name: str, to: str) -> Callable[[Path], object]:
    def attack(folder: Path) -> None:
        if (folder / name).is_dir():
            (folder / name).rename(folder.parent / "moved")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return attack


def special(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return attack


def plug(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def twin(folder: Path) -> None:
    """Beside files/é, which is listed, the same name in normal form D."""
    (folder / "files").mkdir(exist_ok=True)
    (folder / "files" / "e\u0301.txt").write_bytes(b"evil")


FOLDERS: dict[str, Callable[[Path], object]] = {
    "added": write("evil.py"),
    "added_json": write("json.py"),
    "added_os": write("os.py"),
    "added_sitecustomize": write("sitecustomize.py"),
    "added_pip_conf": write("pip.conf"),
    "added_hidden": write(".hidden"),
    "added_wheel": write("wheels/evil-1.0-py3-none-any.whl"),
    "added_code": write("ontarget/evil.py"),
    "added_json_to_the_code": write("ontarget/json.py"),
    "added_pyc": write("ontarget/__pycache__/errors.cpython-311.pyc"),
    "added_package": write("ontarget/__init__/__init__.py"),
    "added_newline": write("wheels/new\nline"),
    "added_escape": write("\x1b[2Jx"),
    "added_signature": write("manifest.json.3.sig"),
    "added_pyvenv": write("pyvenv.cfg", b"home = /tmp\n"),
    "added_folder": lambda folder: (folder / "empty").mkdir(),
    "added_case": write("readme.TXT"),
    "added_not_utf8": lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_bytes(b"boo"),
    "added_normal_form": twin,
    "link": link("README.txt", "/etc/passwd"),
    "link_wheel": lambda folder: (
        (folder / STONE).rename(folder.parent / "x") and (folder / STONE).symlink_to(folder.parent / "x")
    ),
    "link_folder": link("wheels", "../moved"),
    "link_code": link("ontarget", "../moved"),
    "link_manifest": link("manifest.json", "/etc/passwd"),
    "link_sums": link("SHA256SUMS", "/dev/zero"),
    "link_signature": link("manifest.json.sig", "/dev/zero"),
    "link_added": link("evil", "/"),
    "link_to_itself": link("evil", "evil"),
    "pipe": special("README.txt", os.mkfifo),
    "pipe_manifest": special("manifest.json", os.mkfifo),
    "pipe_sums": special("SHA256SUMS", os.mkfifo),
    "pipe_signature": special("manifest.json.sig", os.mkfifo),
    "pipe_wheel": special(STONE, os.mkfifo),
    "pipe_code": special("ontarget/command.py", os.mkfifo),
    "pipe_added": special("evil", os.mkfifo),
    "socket": special("README.txt", plug),
    "folder_for_a_file": special("README.txt", Path.mkdir),
    "folder_for_the_manifest": special("manifest.json", Path.mkdir),
    "folder_for_a_signature": special("manifest.json.sig", Path.mkdir),
    "setuid": lambda folder: (folder / "install.sh").chmod(0o4755),
    "setgid": lambda folder: (folder / STONE).chmod(0o2755),
    "missing": lambda folder: (folder / "README.txt").unlink(),
    "missing_wheel": lambda folder: (folder / STONE).unlink(),
    "missing_sums": lambda folder: (folder / "SHA256SUMS").unlink(),
    "missing_manifest": lambda folder: (folder / "manifest.json").unlink(),
    "missing_code": lambda folder: (folder / "ontarget/verify.py").unlink(),
    "missing_documents": lambda folder: (folder / "README.zh.txt").unlink(),
    "cut": lambda folder: os.truncate(folder / "README.txt", 10),
    "cut_wheel": lambda folder: os.truncate(folder / STONE, 100),
    "endless": lambda folder: os.truncate(folder / "README.txt", 1 << 40),
    "endless_wheel": lambda folder: os.truncate(folder / STONE, 1 << 40),
    "endless_manifest": lambda folder: os.truncate(folder / "manifest.json", 1 << 40),
    "endless_sums": lambda folder: os.truncate(folder / "SHA256SUMS", 1 << 40),
    "endless_signature": lambda folder: (
        write("manifest.json.sig")(folder),
        os.truncate(folder / "manifest.json.sig", 1 << 40),
    ),
    "endless_code": lambda folder: os.truncate(folder / "ontarget/command.py", 1 << 40),
    "empty_manifest": write("manifest.json", b""),
    "empty_sums": write("SHA256SUMS", b""),
    "edited_code": write("ontarget/errors.py", b"print('boo')\n"),
    "edited_readme": write("README.txt", b"pip install evil\n"),
    "garbage_signature": write("manifest.json.sig", b"no signature"),
    "garbage_second_signature": write(
        "manifest.json.2.sig", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"
    ),
}


def folders(base: Parts) -> Iterator[Hostile]:
    parts = parts_of(base)
    parts.files["files/\u00e9.txt"] = b"included"
    parts.manifest["files"].append({"path": "files/\u00e9.txt", "kind": "included"})
    parts = parts.rehashed()
    for label, attack in FOLDERS.items():

        def made(folder: Path, attack: Callable[[Path], object] = attack) -> None:
            parts.unpacked(folder)
            attack(folder)

        yield Hostile(f"folder_{label}", parts.data, None, made)


def tars(base: Parts) -> Iterator[Hostile]:
    for attack in TARS:
        parts = parts_of(base)

        def made(attack: Attack = attack, parts: Parts = parts) -> bytes:
            return attack.make(parts)

        yield Hostile(f"tar_{attack.name}", parts.data, made)


Family = Callable[[Parts], Iterator[Hostile]]
FAMILIES: tuple[Family, ...] = (tars, wheels, contents, clashes, manifests, documents, folders)
"""of all of them; each is made when it is asked for"""
