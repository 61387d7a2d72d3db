"""Model the page of a report: sections, tables, badges and links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from offlinepack.errors import Text


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading."""

    caption: Text
    headings: tuple[Text | str, ...]
    rows: tuple[tuple[Any, ...], ...]
    number_columns: tuple[int, ...] = ()
    """indexes of the columns that hold numbers"""
    is_small: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    id: str
    title: Text
    introduction: tuple[Text, ...] = ()
    points: tuple[tuple[str, Text], ...] = ()
    """(level, sentence): error, warning or note"""
    tables: tuple[Table, ...] = field(default=())


@dataclass(frozen=True)
class Badge:
    """A short word on a coloured background: bad, odd or fine."""

    kind: str
    label: Text


@dataclass(frozen=True)
class Code:
    """Text in a monospaced font: a hash, a file name, a command."""

    content: str


@dataclass(frozen=True)
class Link:
    """Text with a link to an address."""

    label: str
    url: str
