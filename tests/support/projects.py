"""The reference application of the lab: a Django project behind uWSGI and NGINX."""

from __future__ import annotations

from .pages import HERE

NOTES = HERE / "fixtures" / "projects" / "notes"


def packing(*arguments: object) -> tuple[object, ...]:
    return ("-r", NOTES / "requirements.txt", "--include", f"{NOTES}=notes", "--app-version", "1.2", *arguments)


DEBS = ("nginx", "nginx-common", "libpcre2-8-0", "libssl3", "zlib1g", "libcrypt1")


DEBS += ("libpython3.11", "libpython3.11-stdlib", "libpython3.11-minimal")
