"""Hostile inputs, and the fuzzer that makes more of them."""
