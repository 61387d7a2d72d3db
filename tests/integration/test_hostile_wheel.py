"""Every hostile wheel is refused in one sentence that names the thing, in time and without a large memory."""

from __future__ import annotations

import re
import time
import tracemalloc
from pathlib import Path

import pytest

from offlinepack.ontarget.errors import Finding, IntegrityError
from offlinepack.ontarget.verify import check_folder, read_folder_manifest
from offlinepack.ontarget.wheel import check_contents, read_wheel

from ..corpora.hostile_wheel import ATTACKS, CONTENTS, FILENAME, Attack, end64, of
from ..support.bundles import write_folder


def refused(path: Path) -> tuple[Finding, ...]:
    try:
        return tuple(check_contents(read_wheel(path)))
    except IntegrityError as found:
        return found.findings


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) + len(CONTENTS) >= 120
    assert len({one.name for one in ATTACKS + CONTENTS}) == len(ATTACKS + CONTENTS)


@pytest.mark.parametrize("archive", [of(), end64()], ids=["plain", "zip64"])
def test_the_sound_ones_are_sound(tmp_path: Path, archive: object) -> None:
    path = tmp_path / FILENAME
    path.write_bytes(archive.bytes())  # type: ignore[attr-defined]
    assert refused(path) == ()


@pytest.mark.parametrize("attack", ATTACKS + CONTENTS, ids=lambda one: one.name)
def test_refused(attack: Attack, tmp_path: Path) -> None:
    filename, content = attack.make()
    path = tmp_path / filename
    path.write_bytes(content)
    tracemalloc.start()
    began = time.process_time()
    found = refused(path)
    seconds = time.process_time() - began
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found, "nobody saw it"
    fitting = [one for one in found if re.fullmatch(attack.code.replace("|", "|wheel-"), one.code)]
    assert fitting, found
    assert re.search(attack.sentence, fitting[0].render()), fitting[0].render()
    assert all(one.subject == filename and one.render().isprintable() for one in found)
    assert seconds < 2
    assert memory < 20_000_000


@pytest.mark.parametrize("attack", [one for one in ATTACKS if "file_name" not in one.name], ids=lambda one: one.name)
def test_a_trusted_but_hostile_signer(attack: Attack, tmp_path: Path) -> None:
    """The manifest has the right hash of the hostile wheel, and may be signed: the defect itself is found."""
    filename, content = attack.make()
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / filename).write_bytes(content)
    write_folder(tmp_path)
    found = [one for checked in check_folder(tmp_path, read_folder_manifest(tmp_path)) for one in checked.findings]
    assert "wheel-hash" not in {one.code for one in found}
    assert [one for one in found if re.fullmatch(attack.code.replace("|", "|wheel-"), one.code)], found
