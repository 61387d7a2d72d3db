"""Many machines: one bundle on a read-only share, by the ssh loop and by Ansible, over real ssh in a fleet without a way out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pages import FENCE, PAGES, code

from .conftest import HERE, HOME, LAB, offlinepack, run

COUNT = 3
MACHINES = [f"10.77.0.{10 + number}" for number in range(1, COUNT + 1)]
SSHD = """
mkdir -p /run/sshd /root/.ssh
grep -q ^sshd: /etc/passwd || echo 'sshd:x:74:65534::/run/sshd:/usr/sbin/nologin' >>/etc/passwd
cp /media/keys/id.pub /root/.ssh/authorized_keys; cp /media/keys/host /root/host; chmod 600 /root/host
chmod 700 /root /root/.ssh; chmod 600 /root/.ssh/authorized_keys
exec /usr/sbin/sshd -D -e -o HostKey=/root/host -o PermitRootLogin=yes -o UsePAM=no -o StrictModes=no -f /dev/null
"""


@pytest.fixture
def fleet(root: Callable[..., Path], packed: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A function that runs a command on the depot, which reaches the machines by ssh; the last of them is broken."""
    bundle = packed("fleet", "idna", "--target", "debian12")
    keys, folder = tmp_path / "keys", tmp_path / "fleet"
    keys.mkdir()
    for name in ("id", "host"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name])
    system = root("bookworm", include="openssh-server")
    environment = {**os.environ, "HOME": HOME}
    binds = ("--bind", f"{bundle}:/mnt/depot:ro", "--bind", f"{keys}:/media/keys:ro")
    run([LAB / "fleet-up", COUNT, folder, "--root", system, *binds], env=environment)
    servers = []
    try:
        broken = "mkdir -p /srv/app/venv && echo mine >/srv/app/venv/keep"
        run([LAB / "fleet-exec", folder, COUNT, "--", "sh", "-c", broken], env=environment)
        for number in range(1, COUNT + 1):
            command = [LAB / "fleet-exec", folder, number, "--", "sh", "-euc", SSHD]
            servers.append(
                subprocess.Popen(
                    list(map(str, command)), stderr=subprocess.DEVNULL, env=environment, start_new_session=True
                )
            )
        options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        ssh = f"ssh {options} -i {keys / 'id'} -l root"

        def on_depot(*command: object, expect: int | None = 0, **variables: str) -> str:
            named = {**environment, "SSH": ssh, **variables}
            done = run([LAB / "fleet-exec", folder, 0, "--", *command], expect, env=named, cwd=tmp_path)
            return done.stdout

        for machine in MACHINES:
            for _ in range(100):
                with contextlib.suppress(AssertionError):
                    on_depot(*ssh.split(), machine, "true")
                    break
                time.sleep(0.2)
            else:
                pytest.fail(f"{machine} does not answer")
        on_depot.__dict__.update(keys=keys, options=options)
        yield on_depot
    finally:
        run([LAB / "fleet-down", folder], env=environment)
        for one in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, 9)
            one.wait()


@pytest.mark.xdist_group("fleet")
def test_the_ssh_loop(fleet: Callable[..., str], packed: Callable[..., Path], tmp_path: Path) -> None:
    """As the page has it, but for the names of its machines and the place of the bundle."""
    page = PAGES / "how-to" / "fleet.md"
    (script,) = [one for kind, _, one in FENCE.findall(page.read_text("utf-8")) if kind == "sh"]
    for placed, ours in {
        "docs/fleet/": f"{HERE}/docs/fleet/",
        "/mnt/depot/notes-1.3": "/mnt/depot",
        "machine1 machine2 machine3": " ".join(MACHINES),
    }.items():
        assert placed in script
        script = script.replace(placed, ours)
    command = ("sh", "-c", script)
    first = fleet(*command, expect=11).splitlines()
    assert [line.split(": ")[1] for line in first] == [
        "installed",
        "installed",
        "exit " + first[-1].split()[2].rstrip(":"),
    ]
    assert json.loads((tmp_path / "reports" / f"{MACHINES[0]}.json").read_text())["changed"] is True
    failed = json.loads((tmp_path / "reports" / f"{MACHINES[-1]}.json").read_text())
    assert failed["ok"] is False and failed["findings"]
    again = fleet(*command, expect=11).splitlines()
    assert again[:2] == [f"{one}: nothing to do" for one in MACHINES[:2]] and again[2] == first[2]
    # the same bundle sent to each, and fetched by each, where there is no share
    archive = packed("fleet", "idna", "--target", "debian12").with_name("bundle.tar.gz")
    bring = script.replace("/mnt/depot", "/srv/app/in/fleet")
    shutil.copy(archive, tmp_path / "sent.tar.gz")
    sent = fleet("sh", "-c", bring, expect=11, ARCHIVE=str(tmp_path / "sent.tar.gz")).splitlines()
    assert sent == again
    serve = f"python3 -m http.server -d {tmp_path} 8000 >/dev/null 2>&1 & trap 'kill $!' EXIT; sleep 1; "
    fetched = fleet(
        *("sh", "-c", serve + bring.replace("/in/", "/fetched/")),
        expect=11,
        ARCHIVE="http://10.77.0.10:8000/sent.tar.gz",
    )
    assert fetched.splitlines() == again


@pytest.mark.slow
@pytest.mark.xdist_group("fleet")
def test_the_ansible_role(fleet: Callable[..., str], packed: Callable[..., Path], tmp_path: Path) -> None:
    tool = tmp_path / "ansible"
    offlinepack("install", packed("ansible", "ansible-core"), "--venv", tool, "--python", sys.executable)
    play = code(PAGES / "how-to" / "fleet.md", "yaml")
    assert "hosts: fleet\n" in play and "/mnt/depot/notes-1.3 " in play
    play = play.replace("/mnt/depot/notes-1.3 ", "/mnt/depot ").replace(
        "offlinepack_reports: reports ", "offlinepack_reports: collected "
    )
    (tmp_path / "play.yml").write_text(play.replace("hosts: fleet\n", "hosts: fleet\n  gather_facts: false\n"))
    (tmp_path / "collected").mkdir()
    keys, options = fleet.__dict__["keys"], fleet.__dict__["options"]
    shared = f"ansible_user=root ansible_ssh_private_key_file={keys / 'id'} ansible_ssh_common_args='{options}'"
    python = "ansible_python_interpreter=/usr/bin/python3 ansible_pipelining=true"
    (tmp_path / "hosts").write_text(
        "[fleet]\n" + "".join(f"m{at} ansible_host={one} {shared} {python}\n" for at, one in enumerate(MACHINES, 1))
    )
    variables = {"ANSIBLE_ROLES_PATH": str(HERE / "docs" / "fleet"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    variables |= {"ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "ANSIBLE_HOME": str(tmp_path / "home")}
    command = (tool / "bin" / "ansible-playbook", "-i", tmp_path / "hosts", tmp_path / "play.yml")

    def recap(*more: str) -> list[str]:
        said = fleet(*command, *more, expect=2, **variables)
        return [" ".join(line.split()) for line in said.partition("PLAY RECAP")[2].splitlines()[1:] if line.strip()]

    dry = recap("--check")
    assert "changed=0" in dry[0] and not (tmp_path / "collected" / "m9.json").exists()
    first = recap()
    assert "changed=1" in first[0] and "failed=0" in first[0] and "changed=1" in first[1], first
    assert "failed=1" in first[2], first
    assert json.loads((tmp_path / "collected" / "m1.json").read_text())["changed"] is True
    assert json.loads((tmp_path / "collected" / "m3.json").read_text())["ok"] is False
    second = recap()
    assert "changed=0" in second[0] and "changed=0" in second[1] and "failed=1" in second[2], second
    shutil.copy(packed("fleet", "idna", "--target", "debian12").with_name("bundle.tar.gz"), tmp_path / "sent.tar.gz")
    third = recap("-e", f"offlinepack_archive={tmp_path / 'sent.tar.gz'} offlinepack_bundle=/srv/app/in/fleet")
    assert "changed=0" in third[0] and "failed=0" in third[0] and "failed=1" in third[2], third
