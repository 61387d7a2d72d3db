"""TODO."""

from __future__ import annotations

import re


def strip_credentials(url: str) -> str:
    """The address without user, password and fragment."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", url.partition("#")[0])


def redact_output(said: str) -> str:
    """Words without the user, password and query of addresses in them."""
    said = re.sub(r"(?<=://)[^/@\s]*@(?=[^/\s])", "", said)
    return re.sub(r"(://[^\s?#]*)\?[^\s#]*", r"\1", said)


def redact_text(text: str) -> str:
    """The text with the user, password and query string of each address in it left out."""
    text = re.sub(r"(?<=://)[^/@\s]*@(?=[^/\s])", "", text)
    return re.sub(r"(://[^\s?#]*)\?[^\s#]*", r"\1", text)
