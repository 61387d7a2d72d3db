"""--only-binary and --no-binary mean what they mean to pip; the most severe error type of a resolution is raised."""

from __future__ import annotations

import itertools

import pytest
from pip._internal.models.format_control import FormatControl as PipFormatControl

from offlinepack.errors import (
    BuildError,
    FetchError,
    IntegrityError,
    ResolutionError,
    SelectionError,
    SourceError,
    error,
)
from offlinepack.requirements.policy import FORMATS, Format, FormatControl, ResolutionPolicy
from offlinepack.resolve.backtracking import BacktrackState

VALUES = (
    "stone",
    "Stone,pebble",
    ":all:",
    ":none:",
    ":all:,stone",
    ":all:,:none:,stone",
    "stone,:all:",
    "stone,:none:",
)
OPTIONS = tuple((option, value) for option in FORMATS for value in VALUES)


def evaluate_with_pip(options: tuple[tuple[Format, str], ...]) -> dict[str, bool]:
    control = PipFormatControl()
    for option, value in options:
        no, only = control.no_binary, control.only_binary
        PipFormatControl.handle_mutual_excludes(value, *((only, no) if option == "only-binary" else (no, only)))
    formats = {name: control.get_allowed_formats(name) for name in ("stone", "pebble", "moss")}
    return {f"{name} {kind}": kind in formats[name] for name in formats for kind in ("binary", "source")}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_formats_are_allowed_as_by_pip(count: int) -> None:
    for options in itertools.product(OPTIONS, repeat=count):
        control = FormatControl(options[:1]) + FormatControl(options[1:])
        allowed = {}
        for name in ("stone", "pebble", "moss"):
            allowed[f"{name} binary"] = control.allows_wheel(name)
            allowed[f"{name} source"] = control.allows_source(name)
        assert allowed == evaluate_with_pip(options), options


def test_the_options_of_a_second_policy_come_last() -> None:
    first = ResolutionPolicy(format_control=FormatControl((("only-binary", "stone"),)), uploaded_prior_to="2026-01-31")
    both = first + ResolutionPolicy(format_control=FormatControl((("no-binary", "stone"),)), pre=True)
    assert both.format_control.no_binary == ("stone",) and both.format_control.only_binary == ()
    assert both.pre and both.uploaded_prior_to == "2026-01-31T00:00:00Z"


def test_the_most_severe_error_is_raised_with_all_findings() -> None:
    order = (SelectionError, ResolutionError, BuildError, FetchError, SourceError, IntegrityError)
    state = BacktrackState()
    for number, kind in enumerate(order):
        state.add_findings(kind, error("code", str(number), "{subject} is wrong.", ""))
        raised = state.make_error()
        assert type(raised) is kind and len(raised.findings) == number + 1
