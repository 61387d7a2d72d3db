"""Unit tests reach neither the network nor another program, and never sleep."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a unit test that connects, looks up a name, starts a program or sleeps."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a unit test used the network, a program or time.sleep: that belongs to tests/integration")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(os, "system", refuse)
    monkeypatch.setattr(time, "sleep", refuse)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write bundles without waiting for the disk, which would take seconds of these tests."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
