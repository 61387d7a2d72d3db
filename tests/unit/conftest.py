"""Unit tests reach neither the network nor another program."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects, looks up a name or starts a program in a unit test is told so."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a unit test reached for the network or another program; that is tests/integration's part")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(os, "system", refuse)
