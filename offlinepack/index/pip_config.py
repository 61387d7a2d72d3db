"""Read pip's configuration: its files and PIP_* variables, in pip's order."""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path

import platformdirs

from offlinepack.errors import SourceError, error
from offlinepack.net.urls import expand_home


class PipConfig:
    """pip's configuration, as `pip config` reads it: global, user, site, PIP_CONFIG_FILE, PIP_*; the last wins.

    Of a file, [global], then [install], then [download].
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, str]] = {}
        for path in _find_config_files():
            self._read_file(path)
        for name, value in os.environ.items():
            if name.startswith("PIP_"):
                self._set_value(name[4:], value, name)

    def _read_file(self, path: Path) -> None:
        parser = configparser.RawConfigParser()
        parser.optionxform = _normalize_option  # type: ignore[assignment, method-assign]
        try:
            content = path.read_bytes()
        except OSError:
            return
        try:
            try:
                parser.read_string(content.decode("utf-8-sig"))
            except UnicodeDecodeError:
                parser.read_string(content.decode())
        except (configparser.Error, UnicodeDecodeError) as problem:
            raise SourceError(
                error(
                    "bad-pip-conf",
                    path,
                    "pip's settings in {subject} cannot be read: {words}.",
                    "Mend the file, or set PIP_CONFIG_FILE={nothing} to go without.",
                    words=str(problem).partition("\n")[0],
                    nothing=os.devnull,
                )
            ) from problem
        for section in ("global", "install", "download"):
            if parser.has_section(section):
                for name, value in parser.items(section):
                    self._set_value(name, value, str(path))

    def _set_value(self, name: str, value: str, origin: str) -> None:
        if value.strip():  # pip passes over what is empty
            self._values[_normalize_option(name)] = (value.strip(), origin)

    def get(self, name: str) -> str | None:
        """Return the value of an option, or None."""
        return self._values.get(name, (None, ""))[0]

    def get_list(self, name: str) -> list[str]:
        """Return the values of an option that may be repeated; pip splits them at whitespace."""
        return (self.get(name) or "").split()

    def get_origin(self, name: str) -> str:
        """Return the file or variable that sets an option."""
        return self._values.get(name, ("", ""))[1]

    def get_bool(self, name: str) -> bool:
        """Check whether an option is switched on."""
        return (self.get(name) or "").lower() in ("y", "yes", "t", "true", "on", "1")

    def get_int(self, name: str) -> int | None:
        """Return a whole number, or None."""
        value = self.get(name) or ""
        return int(value) if value.isdigit() else None

    @property
    def find_links(self) -> list[str]:
        """Places, as they stand."""
        return self.get_list("find-links")


def _normalize_option(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _find_config_files() -> list[Path]:
    """Find the configuration files of pip, the weakest first; none if PIP_CONFIG_FILE is the null device."""
    config_file = os.environ.get("PIP_CONFIG_FILE")
    if config_file == os.devnull:
        return []
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    if sys.platform == "darwin":
        shared = platformdirs.site_data_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
        user_folder = Path(platformdirs.user_data_dir("pip", appauthor=False))
        user_folder = user_folder if user_folder.is_dir() else expand_home("~/.config/pip")
    else:
        shared = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
        user_folder = Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True))
    places = [Path(folder) / name for folder in shared]
    if sys.platform not in ("darwin", "win32"):
        places.append(Path("/etc") / name)
    if not (config_file and Path(config_file).exists()):
        places += [expand_home("~/pip" if sys.platform == "win32" else "~/.pip") / name, user_folder / name]
    places.append(Path(os.environ.get("VIRTUAL_ENV") or sys.prefix) / name)
    return [*places, *([Path(config_file)] if config_file else [])]
