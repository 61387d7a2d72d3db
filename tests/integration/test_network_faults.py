"""A lock whose files cannot be fetched ends every command with exit code 6 and names the file."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.making import free_port

from .conftest import Ran

LOCK = """
lock-version = "1.0"
created-by = "test"
[[packages]]
name = "stone"
version = "1.0"
wheels = [{{ name = "stone-1.0-py3-none-any.whl", url = "{url}/stone-1.0-py3-none-any.whl", hashes = {{ sha256 = "{digest}" }} }}]
"""
COMMANDS = (("build", "--dry-run"), ("build",), ("lock", "-o", "out.toml"))


@contextmanager
def serve_status(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("fault", ["refused", "unknown host", "429", "500", "503"])
def test_every_command_ends_with_exit_6(fault: str, command: tuple[str, ...], offlinepack: Callable[..., Ran]) -> None:
    addresses = {"refused": f"http://127.0.0.1:{free_port()}", "unknown host": "http://files.invalid"}
    with serve_status(int(fault) if fault.isdigit() else 500) as served:
        Path("pylock.toml").write_text(LOCK.format(url=addresses.get(fault, served), digest="1" * 64))
        target = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")
        done = offlinepack(command[0], "-r", "pylock.toml", *target, "--retries", "0", *command[1:])
    assert done.code == 6, done.err
    assert "stone-1.0-py3-none-any.whl" in done.err
    assert not Path("out.toml").exists() and not list(Path().glob("*.tar.gz"))
