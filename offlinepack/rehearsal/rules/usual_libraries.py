"""Report needed libraries that servers usually have and bare containers may lack."""

from __future__ import annotations

from collections.abc import Sequence

from offlinepack.errors import Finding, note
from offlinepack.native.needs import is_usual_library
from offlinepack.ontarget.manifest import Need


def check_usual_libraries(needs: Sequence[Need]) -> list[Finding]:
    """Libraries that every server installation has."""
    found = [one for one in needs if is_usual_library(one.soname)]
    subject = ", ".join(sorted({name for one in found for name in one.wanted_by}))
    return (
        [
            note(
                "library-usual",
                subject,
                "{subject}: ordinary servers have {sonames}, which is wanted; bare containers may lack it.",
                "Where it is missing: {help}",
                sonames=[one.soname for one in found],
                help=", ".join(dict.fromkeys(one.help for one in found if one.help)),
            )
        ]
        if found
        else []
    )
