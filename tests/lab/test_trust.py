"""/etc/offlinepack/trust.ini, for real: in a mount namespace of its own, for offlinepack and for offlinepack.pyz."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import pip_wheel
from tests.support.handmade import make_bundle
from tests.support.making import make_wheel


@pytest.mark.skipif(sys.platform != "linux", reason="needs unshare")
def test_it_binds_offlinepack_and_the_trusted_program(tmp_path: Path) -> None:
    def run(*words: object, trust: bool = True) -> tuple[int, str]:
        ini = tmp_path / "trust.ini"
        ini.write_text(f"[signature]\nverify-key =\n    {tmp_path / 'key.pub'}\n")
        script = f'mount -t tmpfs none /etc/offlinepack && cp {ini} /etc/offlinepack/trust.ini && exec "$@"'
        place = Path("/etc/offlinepack")
        made = not place.exists()
        place.mkdir(exist_ok=True)
        try:
            inside = ["unshare", "-m", "sh", "-c", script, "sh"] if trust else []
            done = subprocess.run([*inside, *map(str, words)], capture_output=True, text=True)
        finally:
            if made:
                place.rmdir()
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    if run("true")[0]:
        pytest.skip("mount namespaces are not to be had here")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    app = make_wheel(tmp_path / "wheels", "app", "1.0")
    bundle = make_bundle(tmp_path / "media", [app], pip=pip_wheel(), requested=["app"])
    offlinepack = (sys.executable, "-m", "offlinepack")
    program = tmp_path / "offlinepack.pyz"
    assert run(*offlinepack, "standalone", "-o", program, trust=False)[0] == 0
    venv = ("--venv", tmp_path / "venv")
    for command in (
        (*offlinepack, "install"),
        (*offlinepack, "verify"),
        (sys.executable, program, "install"),
        (sys.executable, program, "verify"),
    ):
        code, said = run(*command, bundle, *(venv if "install" in command else ()))
        assert code == 7 and "key.pub" in said, said
    assert not (tmp_path / "venv").exists()
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-n", "offlinepack", "-f", tmp_path / "key", bundle / "manifest.json"]
    subprocess.run(sign, check=True, capture_output=True)
    for command in (
        (*offlinepack, "verify"),
        (sys.executable, program, "verify"),
        (sys.executable, program, "install", *venv),
    ):
        code, said = run(*command, bundle)
        assert code == 0 and "SHA256:" in said, said
    (bundle / "manifest.json.sig").write_text("none")
    code, said = run(*offlinepack, "verify", bundle, trust=False)
    assert code == 7 and "manifest.json.sig" in said
