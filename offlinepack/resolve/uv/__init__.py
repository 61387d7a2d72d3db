"""Resolve with the program uv."""
