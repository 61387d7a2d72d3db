"""Lock requirements for a target with uv or pip."""
