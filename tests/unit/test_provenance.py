"""Attestations: a real one, recorded as an index served it, verified without a network; and refused when it is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from offlinepack.errors import IntegrityError
from offlinepack.report.provenance import format_publisher, read_trusted_root, verify_attestations
from tests.support.attestations import NAME, RECORDED, SHA256


def changed(change: Any) -> str:
    document = json.loads(RECORDED.read_text("utf-8"))
    change(document["attestation_bundles"][0])
    return json.dumps(document)


def test_a_real_attestation_names_its_publisher() -> None:
    (found,) = verify_attestations(NAME, SHA256, RECORDED.read_text("utf-8"))
    assert found["publisher"] == {
        "kind": "GitHub",
        "repository": "trailofbits/pypi-attestations",
        "workflow": "release.yml",
    }
    assert found["predicate"] == "https://docs.pypi.org/attestations/publish/v1"
    assert format_publisher(found) == "GitHub trailofbits/pypi-attestations, release.yml"


def other_publisher(one: Any) -> None:
    one["publisher"]["repository"] = "somebody/else"


def other_statement(one: Any) -> None:
    envelope = one["attestations"][0]["envelope"]
    said = base64.b64decode(envelope["statement"]).replace(b"9bb1add0", b"00000000")
    envelope["statement"] = base64.b64encode(said).decode()


def other_signature(one: Any) -> None:
    envelope = one["attestations"][0]["envelope"]
    envelope["signature"] = "MEYCIQD" + envelope["signature"][7:]


def not_in_the_log(one: Any) -> None:
    one["attestations"][0]["verification_material"]["transparency_entries"][0]["logIndex"] = "1"


def none_at_all(one: Any) -> None:
    one["attestations"].clear()


@pytest.mark.parametrize("change", [other_publisher, other_statement, other_signature, not_in_the_log, none_at_all])
def test_whatever_is_changed_is_refused(change: Any) -> None:
    with pytest.raises(IntegrityError) as failed:
        verify_attestations(NAME, SHA256, changed(change))
    (finding,) = failed.value.findings
    assert (finding.code, finding.subject) == ("attestation-bad", NAME)


@pytest.mark.parametrize(("name", "sha256"), [(NAME, "0" * 64), ("other-1.0.tar.gz", SHA256)])
def test_it_speaks_of_one_file_only(name: str, sha256: str) -> None:
    with pytest.raises(IntegrityError):
        verify_attestations(name, sha256, RECORDED.read_text("utf-8"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2, "attestation_bundles": []}', "<html>"])
def test_what_is_no_such_object_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        verify_attestations(NAME, SHA256, text)


def test_the_root_of_trust_is_the_one_that_sigstore_carries() -> None:
    assert "certificateAuthorities" in json.loads(read_trusted_root())
