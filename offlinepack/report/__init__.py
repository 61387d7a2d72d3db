"""Report on bundles: facts, policy, SBOM, provenance, vulnerabilities and differences."""
