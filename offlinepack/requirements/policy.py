"""Policies of a resolution: pre-releases, dependencies, hashes, formats and upload dates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from packaging.utils import canonicalize_name

Format = Literal["only-binary", "no-binary"]

FORMATS: tuple[Format, ...] = ("only-binary", "no-binary")


@dataclass(frozen=True)
class FormatControl:
    """The options --only-binary and --no-binary in the order in which they were given; the last of a project wins."""

    options: tuple[tuple[Format, str], ...] = ()
    """(option, its value): project names separated by commas, :all: or :none:"""

    def __add__(self, other: FormatControl) -> FormatControl:
        """Apply the options of `other` after these."""
        return FormatControl(self.options + other.options)

    @property
    def only_binary(self) -> tuple[str, ...]:
        """The projects that may come only as wheels: sorted normalized names, or :all:."""
        return self._names["only-binary"]

    @property
    def no_binary(self) -> tuple[str, ...]:
        """The projects that may come only as sdists: sorted normalized names, or :all:."""
        return self._names["no-binary"]

    @cached_property
    def _names(self) -> dict[Format, tuple[str, ...]]:
        # as FormatControl.handle_mutual_excludes of pip: :all: empties both sets, :none: empties its own
        names: dict[Format, set[str]] = {"only-binary": set(), "no-binary": set()}
        for option, value in self.options:
            opposite = names["no-binary" if option == "only-binary" else "only-binary"]
            *_, last = re.split(r"(?:^|,):all:(?=,|$)", value)
            if last != value:
                opposite.clear()
                names[option] = {":all:"}
                if ":none:" not in last.split(","):
                    continue
            for name in filter(None, last.split(",")):
                if name == ":none:":
                    names[option].clear()
                else:
                    opposite.discard(canonicalize_name(name))
                    names[option].add(canonicalize_name(name))
        return {option: tuple(sorted(projects)) for option, projects in names.items()}

    def allows_source(self, name: str) -> bool:
        """Check whether an sdist of a project may be used; its name takes precedence over :all:, as in pip."""
        if name in self.only_binary:
            return False
        return name in self.no_binary or ":all:" not in self.only_binary

    def allows_wheel(self, name: str) -> bool:
        """Check whether a wheel of a project may be used; its name takes precedence over :all:, as in pip."""
        if name in self.no_binary:
            return False
        return name in self.only_binary or ":all:" not in self.no_binary

    def format_options(self, sdists: Iterable[str]) -> list[str]:
        """Format options for pip and uv that allow wheels, and sdists only of `sdists` and of no_binary."""
        if ":all:" in self.no_binary:
            return ["--no-binary", ":all:", *(part for name in self.only_binary for part in ("--only-binary", name))]
        names = sorted({*self.no_binary, *sdists})
        return ["--only-binary", ":all:", *(part for name in names for part in ("--no-binary", name))]


@dataclass(frozen=True)
class ResolutionPolicy:
    """What decides, besides the requirements, which versions and files a resolver may choose."""

    no_deps: bool = False
    pre: bool = False
    require_hashes: bool | None = None
    """None: if a requirement has the option --hash, all of them must be complete, as with pip"""
    format_control: FormatControl = FormatControl()
    uploaded_prior_to: str | None = None
    """Only files uploaded before this time (RFC 3339); a bare date is the start of that day in UTC."""

    def __post_init__(self) -> None:
        # uv takes a bare date for the end of that day, pip for its start in the local time zone
        if self.uploaded_prior_to and re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.uploaded_prior_to):
            object.__setattr__(self, "uploaded_prior_to", f"{self.uploaded_prior_to}T00:00:00Z")

    def __add__(self, other: ResolutionPolicy) -> ResolutionPolicy:
        """Combine two policies: a switch that either sets is set, of single values the second one wins."""
        return ResolutionPolicy(
            self.no_deps or other.no_deps,
            self.pre or other.pre,
            self.require_hashes if other.require_hashes is None else other.require_hashes,
            self.format_control + other.format_control,
            self.uploaded_prior_to if other.uploaded_prior_to is None else other.uploaded_prior_to,
        )
