"""Run pip as if on a target: patch its markers, tags and Python version in its own process."""
