"""Licences: what 34 real releases say, each looked at by hand; and expressions against a list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.metadata import parse_email

from offlinepack.wheels.licenses import License, are_terms_allowed, detect_license

RELEASES = {
    one["project"]: one
    for one in json.loads((Path(__file__).parents[2] / "fixtures" / "licences" / "projects.json").read_text("utf-8"))
}
"""recorded from the wheels: the lines of METADATA that speak of licences, and the licence files where these decide"""

# project: what it is under; where METADATA says so; what a person found who opened the wheel's licence file
LOOKED_AT = {
    "ansible-core": ("GPL-3.0-or-later", "classifier", "COPYING is the GPL 3; the sources say: or any later version"),
    "asgiref": ("BSD-3-Clause", "field", "LICENSE has three conditions"),
    "bleach": ("Apache-2.0", "field", "the field says Apache Software License, LICENSE says version 2.0"),
    "boto3": ("Apache-2.0", "field", "LICENSE is the Apache License 2.0"),
    "celery": ("BSD-3-Clause", "field", "LICENSE has three conditions"),
    "certifi": ("MPL-2.0", "classifier", "LICENSE names the MPL 2.0"),
    "cryptography": ("Apache-2.0 OR BSD-3-Clause", "expression", "LICENSE: either of the two"),
    "defusedxml": ("PSF-2.0", "classifier", "LICENSE is version 2 of the Python licence"),
    "django": ("BSD-3-Clause", "expression", "LICENSE has three conditions"),
    "dnspython": ("ISC", "expression", "LICENSE begins: ISC License"),
    "email-validator": ("Unlicense", "classifier", "LICENSE: released into the public domain"),
    "flask": ("BSD-3-Clause", "expression", "LICENSE.txt has three conditions"),
    "jupyterlab": ("BSD-3-Clause", "classifier", "the classifier says BSD; LICENSE has three conditions"),
    "lxml": ("BSD-3-Clause", "field", "LICENSE.txt begins: BSD 3-Clause License"),
    "numpy": (
        "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
        "expression",
        "LICENSE.txt has three conditions; what is bundled has its own",
    ),
    "openpyxl": ("MIT", "classifier", "LICENCE.rst: under the MIT Licence"),
    "overrides": ("Apache-2.0", "field", "LICENSE is the Apache License 2.0"),
    "pandas": ("BSD-3-Clause", "expression", "LICENSE begins: BSD 3-Clause License"),
    "paramiko": (
        "LGPL-2.1-only",
        "expression",
        "LICENSE is the LGPL 2.1; the older identifier LGPL-2.1 means the same",
    ),
    "pillow": ("MIT-CMU", "expression", "LICENSE: HPND in the wording of MIT-CMU"),
    "polars": ("MIT", "classifier", "LICENSE: permission free of charge, the field holds the whole text"),
    "protobuf": ("BSD-3-Clause", "field", "LICENSE has three conditions"),
    "psycopg": ("LGPL-3.0-only", "expression", "LICENSE.txt is the LGPL 3"),
    "ptyprocess": ("ISC", "classifier", "LICENSE: under the ISC license; the field says UNKNOWN"),
    "pyarrow": ("Apache-2.0", "expression", "LICENSE.txt is the Apache License 2.0"),
    "pyyaml": ("MIT", "classifier", "LICENSE: permission free of charge"),
    "redis": ("MIT", "expression", "LICENSE begins: MIT License; a classifier says so too"),
    "requests": ("Apache-2.0", "classifier", "the classifier leaves the version open, field and LICENSE say 2.0"),
    "resolvelib": ("ISC", "classifier", "LICENSE has the ISC's text"),
    "scipy": ("BSD-3-Clause", "classifier", "the classifier says BSD; LICENSE.txt has three conditions"),
    "tornado": ("Apache-2.0", "classifier", "the classifier leaves the version open, field and LICENSE say 2.0"),
    "typing-extensions": ("PSF-2.0", "expression", "LICENSE is version 2 of the Python licence"),
}
BOTH = {
    "python-dateutil": (("BSD-3-Clause", "Apache-2.0"), "LICENSE holds the Apache notice, then three conditions"),
    "uvloop": (("Apache-2.0", "MIT"), "LICENSE-APACHE and LICENSE-MIT"),
}


def said(project: str) -> License:
    one = RELEASES[project]
    raw, _ = parse_email("\n".join(one["metadata"]) + "\n")
    return detect_license(raw, lambda: one["texts"])


@pytest.mark.parametrize("project", sorted(LOOKED_AT))
def test_real_projects(project: str) -> None:
    expected, source, _ = LOOKED_AT[project]
    assert said(project) == ((expected,), source)


@pytest.mark.parametrize("project", sorted(BOTH))
def test_several_classifiers_all_hold(project: str) -> None:
    assert set(said(project).terms) == set(BOTH[project][0])


def test_the_table_is_whole() -> None:
    assert set(LOOKED_AT) | set(BOTH) == set(RELEASES)
    assert len(RELEASES) >= 30


def licence(*lines: str, text: str = "") -> License:
    raw, _ = parse_email("\n".join(lines) + "\n")
    return detect_license(raw, lambda: [text] if text else [])


MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and ..."


def test_the_expression_comes_before_classifiers_and_field() -> None:
    found = licence(
        "License-Expression: mit or apache-2.0", "License: GPL", "Classifier: License :: OSI Approved :: BSD License"
    )
    assert found == (("MIT OR Apache-2.0",), "expression")


def test_classifiers_come_before_the_field() -> None:
    found = licence("License: GPL-3.0-only", "Classifier: License :: OSI Approved :: MIT License")
    assert found == (("MIT",), "classifier")


def test_the_field_tells_how_classifiers_belong_together() -> None:
    found = licence(
        "License: Apache-2.0 OR BSD-3-Clause",
        "Classifier: License :: OSI Approved :: Apache Software License",
        "Classifier: License :: OSI Approved :: BSD License",
    )
    assert found.terms == ("Apache-2.0 OR BSD-3-Clause",)


def test_what_nothing_settles_stays_a_name() -> None:
    assert licence("Classifier: License :: OSI Approved :: BSD License") == (("BSD License",), "classifier")
    assert licence("Classifier: License :: Other/Proprietary License").terms == ("Other/Proprietary License",)
    assert licence("License: Commercial, see our site") == (("Commercial, see our site",), "field")


def test_nothing_is_invented() -> None:
    assert licence("License: UNKNOWN") == ((), "")
    assert licence("Summary: nothing") == ((), "")
    assert licence("Summary: its text alone", text=MIT) == (("MIT",), "text")
    assert licence("License: " + "words " * 100) == ((), "")


@pytest.mark.parametrize(
    ("terms", "among", "expected"),
    [
        (["MIT"], {"MIT"}, True),
        (["MIT"], {"Apache-2.0"}, False),
        (["MIT OR GPL-3.0-only"], {"MIT"}, True),
        (["MIT AND GPL-3.0-only"], {"MIT"}, False),
        (["(MIT OR GPL-3.0-only) AND Zlib"], {"MIT", "Zlib"}, True),
        (["MIT OR GPL-3.0-only AND Zlib"], {"Zlib", "GPL-3.0-only"}, True),
        (["GPL-2.0-only WITH Classpath-exception-2.0"], {"GPL-2.0-only WITH Classpath-exception-2.0"}, True),
        (["GPL-2.0-only WITH Classpath-exception-2.0"], {"MIT"}, False),
        (["MIT", "Apache-2.0"], {"MIT"}, False),
        (["Some licence of ours"], {"Some licence of ours"}, True),
    ],
)
def test_allowed(terms: list[str], among: set[str], expected: bool) -> None:
    assert are_terms_allowed(terms, lambda one: one in among) is expected
