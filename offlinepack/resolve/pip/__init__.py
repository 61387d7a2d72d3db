"""Resolve with the program pip-compile, that is pip's resolver."""
