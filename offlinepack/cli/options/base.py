"""Declare options and groups of options for the body of a command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from offlinepack.cli.command import Option

CommandBody = Callable[..., Any]

FILE = click.Path(path_type=Path)


def make_option(*declarations: str, rare: bool = False, **named: Any) -> Option:
    """Make an option of a group."""
    if named.get("multiple") and named.get("type") is None:
        named["type"] = str
    return Option(declarations, rare=rare, **named)


def group_options(
    name: str, build: Callable[..., Any], *parameters: click.Parameter
) -> Callable[[CommandBody], CommandBody]:
    """Return a decorator that turns parameters of the command line into one value `name` of the body."""

    def decorate(body: CommandBody) -> CommandBody:
        names = [parameter.name or "" for parameter in parameters]

        @functools.wraps(body)
        def called(*args: Any, **values: Any) -> Any:
            value = build(**{key: values.pop(key) for key in names})
            return body(*args, **values, **{name: value})

        body_parameters = list(getattr(body, "__click_params__", []))
        called.__click_params__ = body_parameters + list(reversed(parameters))  # type: ignore[attr-defined]
        return called

    return decorate


def add_option(*declarations: str, **named: Any) -> Callable[[CommandBody], CommandBody]:
    """Return a decorator for an option that belongs to no group."""
    parameter = make_option(*declarations, **named)
    return group_options(parameter.name or "", lambda **value: value[parameter.name or ""], parameter)
