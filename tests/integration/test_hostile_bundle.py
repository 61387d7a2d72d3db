"""Every hostile bundle, whole: refused in sentences, packed and unpacked, by the host's readers and by the target side's."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offlinepack.bundle.reader import open_bundle
from offlinepack.errors import BundleError, Finding, IntegrityError
from offlinepack.ontarget.report import Reporter
from offlinepack.ontarget.transaction import verify_bundle
from offlinepack.ontarget.verify import read_folder_manifest
from offlinepack.report.diff import diff_bundles

from ..corpora.hostile_bundle import Hostile, clashes, contents, documents, folders, manifests, tars, wheels
from ..corpora.hostile_others import evidence, forms, limits, more_wheels
from ..support.bundles import Parts, gz, make_bundle, taken_apart

Refused = (IntegrityError, BundleError)
SECONDS = 10
"""of processor time; most need none"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("sound"))[0]


@pytest.fixture(scope="module")
def base(packed: Path) -> Parts:
    return taken_apart(packed)


@pytest.fixture(scope="module")
def light(base: Parts) -> Parts:
    """Without what most attacks are not about: a bundle is written some thousand times here."""
    heavy = ("ontarget/", "README", "install.", "sbom", "provenance/")
    kept = {path: data for path, data in base.files.items() if not path.startswith(heavy)}
    return Parts(base.folder, dict(base.manifest), kept).rehashed()


class Options:
    def __init__(self, folder: Path) -> None:
        self.folder, self.verify_key, self.signature, self.require_signature = str(folder), None, None, False


def by_the_target_side(folder: Path) -> tuple[Finding, ...]:
    """What offlinepack.pyz verify would refuse it with; none: it would take it."""
    try:
        verify_bundle(Options(folder), read_folder_manifest(folder), Reporter(-2), contents=True)
    except Refused as refused:
        return refused.findings
    return ()


def by_the_host(path: Path) -> tuple[Finding, ...]:
    try:
        open_bundle(path).check()
    except Refused as refused:
        return refused.findings
    return ()


def looked_at(hostile: Hostile, place: Path, packed: Path) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    if hostile.pack:
        path = place / "notes.tar.gz"
        path.write_bytes(hostile.pack())
        yield "packed", by_the_host(path)
    if hostile.folder:
        path = place / "notes-1.2"
        path.mkdir()
        hostile.folder(path)
        if not hostile.host_only:
            yield "target side", by_the_target_side(path)
        # the command line looks at signatures: cli.bundle.who_signed; of wheels it sees what the target side sees
        if not re.search("signature|wheel_|two_|windows_|entry_|metadata_", hostile.name):
            yield "unpacked", by_the_host(path)


def test_the_sound_one_is_taken(base: Parts, packed: Path, tmp_path: Path) -> None:
    hostile = Hostile("sound", base.data, lambda: gz(base.rehashed().tar()), lambda folder: base.unpacked(folder))
    assert [found for _, found in looked_at(hostile, tmp_path, packed)] == [(), (), ()]


FAMILIES = [(tars, 150), (wheels, 280), (contents, 9), (clashes, 30), (manifests, 150), (documents, 60), (folders, 55)]
FAMILIES += [(evidence, 40), (forms, 30), (more_wheels, 65)]
SLOW = pytest.param(limits, 18, marks=pytest.mark.slow)


@pytest.mark.parametrize(("family", "least"), [*FAMILIES, SLOW], ids=lambda one: getattr(one, "__name__", str(one)))
def test_refused(
    family: Callable[[Parts], Iterator[Hostile]], least: int, base: Parts, light: Parts, packed: Path, tmp_path: Path
) -> None:
    missed, names = [], set()
    for number, hostile in enumerate(family(base if family in (tars, folders, forms) else light)):
        names.add(hostile.name)
        place = tmp_path / str(number)
        place.mkdir()
        began = time.process_time()
        for form, found in looked_at(hostile, place, packed):
            if not any(one.level == "error" and one.subject for one in found):
                missed.append(f"{hostile.name}, {form}")
            elif not all(one.render().isprintable() and re.search("[a-z]", one.render()) for one in found):
                missed.append(f"{hostile.name}, {form}: {found}")
        shutil.rmtree(place)
        if time.process_time() - began > SECONDS:
            missed.append(f"{hostile.name}: {time.process_time() - began} s")
    assert not missed, "\n".join(missed)
    assert len(names) >= least


def test_diff_refuses_it_too(base: Parts, packed: Path, tmp_path: Path) -> None:
    for number, hostile in enumerate([*list(documents(base))[:2], *list(clashes(base))[:2]]):
        path = tmp_path / f"{number}.tar.gz"
        assert hostile.pack
        path.write_bytes(hostile.pack())
        for pair in ((packed, path), (path, packed)):
            with pytest.raises(Refused):
                diff_bundles(*pair)
