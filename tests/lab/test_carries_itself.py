"""offlinepack carries itself: packed from its source, installed where there is no network, at work there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from offlinepack import __version__

from .conftest import HERE, Machine

MAKE = """
cd /srv/app
export LC_ALL=C.UTF-8 OFFLINEPACK_CACHE_DIR=/srv/app/store
/srv/app/venv/bin/offlinepack --version
/srv/app/venv/bin/offlinepack verify /media/bundle
/srv/app/venv/bin/offlinepack inspect /srv/app/venv | tail -1
# the wheels that came along make a bundle again, there, for another machine
/srv/app/venv/bin/offlinepack build click packaging --no-index -f /media/bundle/wheels \\
    --target debian12 --name again
/srv/app/venv/bin/offlinepack install again-offline.tar.gz --venv /srv/app/other --python python3
/srv/app/other/bin/python -c 'import click, packaging; print("and it runs")'
/srv/app/venv/bin/offlinepack standalone -o there.pyz
python3 there.pyz verify /media/bundle
"""


@pytest.mark.slow
def test_it_installs_and_works_without_a_network(
    machine: Callable[..., Machine], packed: Callable[..., Path], pythons: dict[str, str]
) -> None:
    asked = ("--project", HERE, "--python-version", "3.11", "--build-python", pythons["3.11"])
    folder = packed("offlinepack", *asked)
    target = machine("--python", "3.11", kept=True)
    binds = {folder: "/media/bundle:ro"}
    target("python3", "/media/bundle/install.py", "--venv", "/srv/app/venv", binds=binds)
    said = target.shell(MAKE, binds=binds).stdout
    assert f"offlinepack {__version__}" in said and "unaltered" in said
    assert "and it runs" in said and said.count("complete and unaltered") == 2, said
