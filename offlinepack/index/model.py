"""TODO."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class IndexOptions:
    """Options about indexes that stood in a requirements file; addresses may hold secrets."""

    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()

    def __add__(self, other: IndexOptions) -> IndexOptions:
        return IndexOptions(
            other.index_url or self.index_url,
            merge_unique(self.extra_index_urls, other.extra_index_urls),
            merge_unique(self.find_links, other.find_links),
            self.no_index or other.no_index,
            merge_unique(self.trusted_hosts, other.trusted_hosts),
        )


def merge_unique(first: tuple, second: tuple) -> tuple:  # type: ignore[type-arg]
    return first + tuple(one for one in second if one not in first)
