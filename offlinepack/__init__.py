"""offlinepack: carry a Python application and all that it depends on to a machine without a network.

The public API: build, lock, install, verify, each imported when it is first asked for. Everything else is ours to move.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
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
