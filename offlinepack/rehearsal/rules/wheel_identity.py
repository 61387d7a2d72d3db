"""Check that a wheel is the distribution that the target plan names, and that it fits the target."""

from __future__ import annotations

from offlinepack.errors import Finding, error
from offlinepack.rehearsal.resolve import is_equal_version
from offlinepack.targets.model import Target
from offlinepack.wheels.report import WheelReport


def check_wheel_identity(name: str, version: str, report: WheelReport, target: Target) -> list[Finding]:
    """Return errors if a wheel is not the distribution of the plan or does not fit the target."""
    wheel, python = report.checked_wheel, report.metadata.requires_python
    findings = []
    if wheel.name != name or not is_equal_version(wheel.version, version):
        findings.append(
            error(
                "other-distribution",
                wheel.filename,
                "{subject} is {name} {version} by its own metadata; the plan of {target} calls it {planned}.",
                "Build the bundle again.",
                name=wheel.name,
                version=wheel.version,
                planned=f"{name} {version}",
                target=target.name,
            )
        )
    if reason := target.explain_mismatch(wheel.filename):
        findings.append(
            error(
                "wheel-unfit",
                wheel.filename,
                "{subject} is not for {target}: it {why}.",
                "Lock again for this target.",
                target=target.name,
                why=reason,
            )
        )
    if python and not python.contains(target.environment["python_full_version"], prereleases=True):
        findings.append(
            error(
                "wrong-python",
                name,
                "{subject} {version} wants Python {wanted}; {target} has {python}.",
                "Lock again for this target.",
                version=version,
                wanted=python,
                target=target.name,
                python=target.environment["python_full_version"],
            )
        )
    return findings
