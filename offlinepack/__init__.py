"""offlinepack: carry a Python application and all that it depends on to a machine without a network."""

__version__ = "0.1.0"
