"""offlinepack: carry a Python application and all that it depends on to a machine without a network.

The public API is build, lock, install and verify; each is imported on first use (PEP 562). Other modules are internal.
"""

from typing import TYPE_CHECKING

from offlinepack._version import __version__ as __version__

__all__ = ["build", "install", "lock", "verify"]

if TYPE_CHECKING:
    from offlinepack.api import build, install, lock, verify


def __getattr__(name: str) -> object:
    if name in __all__:
        from offlinepack import api

        return getattr(api, name)
    raise AttributeError(f"module 'offlinepack' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
