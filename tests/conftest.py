"""Every test runs in an environment of its own, whatever the machine's pip.conf, variables and home hold."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # started in the background of a script: what is started here would be deaf to Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)

FOREIGN = ("PIP_", "UV_", "OFFLINEPACK_", "VIRTUALENV_", "SSL_CERT_", "CONDA_", "GIT_")
"""variables with these beginnings are unset"""

NAMES = (
    *("NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "VIRTUAL_ENV", "SOURCE_DATE_EPOCH", "PYTHONHOME", "NO_COLOR"),
    *(
        "FORCE_COLOR",
        "LANGUAGE",
        "LC_MESSAGES",
        "LANG",
        "COLUMNS",
        "PYTHON_KEYRING_BACKEND",
        "DISPLAY",
        "WAYLAND_DISPLAY",
    ),
    *("MACOSX_DEPLOYMENT_TARGET", "CFLAGS", "LDFLAGS", "CPPFLAGS", "CC", "LD_LIBRARY_PATH", "LD_PRELOAD"),
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ftp_proxy")


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give new home folders, all in one folder: tmp_path_factory.mktemp reads all its folders for each new one."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def clean_environment(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, no pip.conf, no PIP_*, UV_*, no proxy, no netrc; the home is given back."""
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name in NAMES or name.lower() in PROXIES:
            monkeypatch.delenv(name)
    home = next(homes)
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name, folder in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CONFIG_DIRS", "etc/xdg"),
        ("APPDATA", "AppData/Roaming"),
        ("LOCALAPPDATA", "AppData/Local"),
    ):
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return home
