"""Collect what policy, SBOM, HTML and diff say about the files of a bundle."""

from __future__ import annotations

from offlinepack.errors import Text, text
from offlinepack.ontarget.manifest import Manifest


def describe_differing_versions(listed: Manifest) -> list[Text]:
    """The projects that have other versions on other targets: "numpy: 2.2.6 for rhel8, 2.5.5 elsewhere"."""
    lines = []
    names = sorted({one.name for target in listed.targets for one in target.install})
    for name in names:
        where: dict[str, list[str]] = {}
        for target in listed.targets:
            for one in target.install:
                if one.name == name:
                    where.setdefault(one.version, []).append(target.name)
        if len(where) > 1:
            # most of them are "elsewhere", where that is shorter
            most = max(where, key=lambda version: (len(where[version]), where[version]))
            rest = most if len(where[most]) > 1 else None
            apart = [
                text("{version} for {targets}", version=version, targets=for_)
                for version, for_ in sorted(where.items())
                if version != rest
            ]
            apart += [text("{version} elsewhere", version=rest)] if rest else []
            lines.append(text("  {name}: {apart}", name=name, apart=apart))
    return lines
