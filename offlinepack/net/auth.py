"""Find logins in a netrc file and in the keyring."""

from __future__ import annotations

import json
import netrc
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

from offlinepack.errors import Text, text
from offlinepack.net.model import Login
from offlinepack.net.urls import expand_home


def find_keyring(provider: str) -> Callable[[str, str | None], tuple[str, str] | None] | None:
    """Return a function (service, user) -> (user, password) for pip's --keyring-provider, or None."""
    if provider in ("import", "auto"):
        try:
            import keyring  # type: ignore[import-not-found, unused-ignore]
        except Exception:
            keyring = None  # type: ignore[assignment,unused-ignore]
        if keyring is not None:

            def ask_module(service: str, user: str | None) -> tuple[str, str] | None:
                try:
                    credential = keyring.get_credential(service, user)
                except Exception:  # a backend may fail in its own way
                    return None
                return (credential.username or "", credential.password or "") if credential else None

            return ask_module
    program = _find_keyring_program() if provider in ("subprocess", "auto") else None
    if program is None:
        return None

    def ask_program(service: str, user: str | None) -> tuple[str, str] | None:
        command = [program, "--mode=creds", "--output=json", "get", service, *([user] if user else [])]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        try:
            process = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=60, check=False
            )
            if process.returncode == 0:
                answer = json.loads(process.stdout)
                return str(answer["username"]), str(answer["password"])
            if user and process.returncode == 2:  # a keyring before 25.2.1 knows passwords only
                command = [program, "get", service, user]
                process = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=60, check=False
                )
                if process.returncode == 0:
                    return user, process.stdout.decode("utf-8", "replace").rstrip("\r\n")
        except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
            pass
        return None

    return ask_program


def _find_keyring_program() -> str | None:
    """Find `keyring` on PATH, except the one of this interpreter, which is used as a module."""
    scripts = Path(sysconfig.get_path("scripts"))
    folders = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part and Path(part) != scripts]
    return shutil.which("keyring", path=os.pathsep.join(folders)) or shutil.which("keyring")


def read_netrc_login(host: str) -> tuple[Login | None, Text | str]:
    """Return the login of a host in netrc, and a description of what was read."""
    path = Path(os.environ.get("NETRC") or expand_home("~/.netrc"))
    if not os.environ.get("NETRC") and not path.exists() and expand_home("~/_netrc").exists():
        path = expand_home("~/_netrc")
    try:
        login = netrc.netrc(path).authenticators(host)
    except FileNotFoundError:
        return None, text("{path} (no such file)", path=path)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as problem:
        words = problem.strerror if isinstance(problem, OSError) else getattr(problem, "msg", "not text")
        return None, text("{path} (cannot be read: {words})", path=path, words=words)
    if not login:
        return None, text("{path} (nothing for {host})", path=path, host=host)
    return Login(login[0] or login[1] or "", login[2] or "", str(path)), str(path)
