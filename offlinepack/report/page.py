"""Model the page of a report: sections, tables, badges and links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from offlinepack.errors import Text


@dataclass(frozen=True)
class Table:
    """Rows under a heading each; the first cell of a row names it."""

    caption: Text
    headings: tuple[Text | str, ...]
    rows: tuple[tuple[Any, ...], ...]
    number_columns: tuple[int, ...] = ()
    """columns of numbers"""
    is_small: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    title: Text
    introduction: tuple[Text, ...] = ()
    points: tuple[tuple[str, Text], ...] = ()
    """(level, sentence): error, warning or note"""
    tables: tuple[Table, ...] = field(default=())


@dataclass(frozen=True)
class Badge:
    """A short word on a coloured ground: bad, odd or fine."""

    kind: str
    label: Text


@dataclass(frozen=True)
class Code:
    """What is set in a fixed width: a hash, a file name, a command."""

    content: str


@dataclass(frozen=True)
class Link:
    """Words that lead to an address."""

    label: str
    url: str
