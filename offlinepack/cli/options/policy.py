"""Options that name a policy and a list of vulnerabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from offlinepack.cli.options.base import FILE, group_options, make_option

if TYPE_CHECKING:
    from offlinepack.report.policy import PolicyCheck


def _make_policy_rules(policy: Path | None, vulnerabilities: Path | None) -> PolicyCheck | None:
    from offlinepack.report.policy import PolicyCheck, parse_policy, read_policy

    if policy:
        return PolicyCheck(read_policy(policy), vulnerabilities)
    table = click.get_current_context().meta.get("offlinepack.policy")
    return PolicyCheck(parse_policy(*table), vulnerabilities) if table else None


POLICY_OPTION = make_option(
    "--policy", type=FILE, metavar="FILE", rare=True, help="What may be in it, as rules in TOML; else exit 13."
)

VULNERABILITIES_OPTION = make_option(
    "--vulnerabilities",
    type=FILE,
    metavar="FILE",
    rare=True,
    help="What is known of vulnerabilities: pip-audit's JSON or OSV records; else pip-audit is asked.",
)

policy_options = group_options("policy", _make_policy_rules, POLICY_OPTION, VULNERABILITIES_OPTION)
