"""A record of a known vulnerability (OSV)."""

from __future__ import annotations

from typing import Any

JINJA = ("jinja2", "3.1.2")


def osv(**changed: Any) -> dict[str, Any]:
    return {
        "id": "GHSA-h5c8-rqwp-cp95",
        "modified": "2025-02-03T04:05:06Z",
        "aliases": ["CVE-2024-22195", "PYSEC-2024-1"],
        "summary": "Jinja vulnerable to HTML attribute injection",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "Jinja2"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.3"}]}],
            }
        ],
        **changed,
    }
