"""The bundle: written as a reproducible tar.gz, read strictly from a tar.gz or its unpacked folder, joined.

What its files are called and what the manifest says is ontarget/manifest.py's part.
"""

from .joined import join
from .parts import Archive, Part, check_place
from .reading import Bundle, manifest_of, open_bundle
from .writing import Content, Member, StoredFileDamaged, assemble, write

__all__ = [
    "Archive",
    "Bundle",
    "Content",
    "Member",
    "Part",
    "StoredFileDamaged",
    "assemble",
    "check_place",
    "join",
    "manifest_of",
    "open_bundle",
    "write",
]
