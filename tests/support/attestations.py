"""A recorded attestation (PEP 740)."""

from __future__ import annotations

from pathlib import Path

NAME = "pypi_attestations-0.0.19.tar.gz"


SHA256 = "9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3"


RECORDED = Path(__file__).parents[2] / "fixtures" / "attestations" / f"{NAME}.provenance"
