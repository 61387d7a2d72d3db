"""Compare the tags of a target with those of pip."""

from __future__ import annotations


def same_tags(ours: list[str], theirs: list[str]) -> None:
    """pip's tags in pip's order; linux_ARCH comes first since packaging 26.3 and came last before."""
    if "-linux_" in theirs[0]:
        assert ours == theirs
    assert sorted(ours) == sorted(theirs)
    assert [tag for tag in ours if "-linux_" not in tag] == [tag for tag in theirs if "-linux_" not in tag]
