"""Describe the interpreters and machines that a bundle is built for."""
