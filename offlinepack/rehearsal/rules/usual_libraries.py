"""Report needed libraries that servers usually have and bare containers may lack."""

from __future__ import annotations

from collections.abc import Sequence

from offlinepack.errors import Finding, note
from offlinepack.native.needs import is_usual_library
from offlinepack.ontarget.manifest import Need


def check_usual_libraries(needs: Sequence[Need]) -> list[Finding]:
    """Return a note on needed libraries that every server installation has."""
    usual_needs = [need for need in needs if is_usual_library(need.soname)]
    subject = ", ".join(sorted({name for need in usual_needs for name in need.wanted_by}))
    return (
        [
            note(
                "library-usual",
                subject,
                "{subject}: ordinary servers have {sonames}, which is wanted; bare containers may lack it.",
                "Where it is missing: {help}",
                sonames=[need.soname for need in usual_needs],
                help=", ".join(dict.fromkeys(need.help for need in usual_needs if need.help)),
            )
        ]
        if usual_needs
        else []
    )
