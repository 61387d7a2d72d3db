"""Read the distributions of a virtual environment or conda prefix as requirements."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack.errors import Finding, OfflinepackError, SourceError, error, note, text, warning
from offlinepack.net.urls import redact_text
from offlinepack.requirements.installed import (
    InstalledDistribution,
    find_environment_python,
    find_site_packages,
    is_conda_base,
    list_distributions,
)
from offlinepack.requirements.model import RequirementLine, Requirements
from offlinepack.targets.model import Target
from offlinepack.targets.parse import parse_target, probe_interpreter

OWN_PROJECT = "offlinepack"

_SEED_PROJECTS = ("pip", "setuptools", "wheel", "distribute")
"""what a new environment has by itself; left out unless something needs it"""

_BUILD_FOLDER_PATTERN = re.compile(r"/croot/|/opt/conda/|/home/conda/|/(tmp/)?build/|.*/(feedstock_root|conda-bld)/")
"""where conda's and Debian's machines build; nothing of this machine"""


def freeze_environment(folder: Path, *, exclude: Sequence[str] = ()) -> Requirements:
    """The environment in this folder as requirements; SourceError where it is none."""
    places = list(find_site_packages(folder))
    if not places:
        raise SourceError(
            error(
                "no-environment",
                folder,
                "There is no virtual environment in {subject}.",
                "--venv takes the folder that holds pyvenv.cfg, or a conda prefix.",
            )
        )
    if is_conda_base(folder):
        raise SourceError(
            error(
                "conda-base",
                folder,
                "{subject} is conda's base environment, which is conda itself.",
                "Make an environment for the application: conda create -n app, and give its folder to --venv.",
            )
        )
    here = _determine_target(folder)
    found = {one.name: one for place in places for one in list_distributions(place)}
    notes: list[Finding] = []
    left_out = {canonicalize_name(one) for one in exclude}
    if unknown := sorted(left_out - set(found)):
        notes.append(
            warning(
                "exclude-unknown",
                str(folder),
                "--exclude names {names}, and {subject} has no such thing.",
                "Correct the name.",
                names=unknown,
            )
        )
    kept = {name: one for name, one in found.items() if name not in left_out}
    kept, dropped = _remove_own_distributions(kept, _DependencyGraph(kept, here).map_dependencies())
    if dropped:
        notes.append(
            note(
                "ours-left-out",
                OWN_PROJECT,
                "{subject} itself, and what only it needs, is left out: {names}.",
                names=sorted(dropped),
            )
        )
    if all(one.is_requested for one in kept.values()):  # of a whole list of pins, which tells nothing
        kept = {name: replace(one, is_requested=False) for name, one in kept.items()}
    web = _DependencyGraph(kept, here)
    extras = web.infer_extras()
    needs = web.map_dependencies(extras)
    roots = _find_roots(kept, needs)
    if odd := [one for _, one in sorted(kept.items()) if not _is_version(one.version)]:
        raise SourceError(
            *(
                error(
                    "odd-version",
                    one.name,
                    "{subject} {version} has a version that is none (PEP 440); no index lists it so.",
                    "Install a newer release of it there, or leave it out: --exclude {subject}.",
                    version=one.version,
                )
                for one in odd
            )
        )
    asked, constraints = [], []
    for name, one in sorted(kept.items()):
        line, finding = _make_line(one)
        if finding:
            notes.append(finding)
        if name in extras:
            line = f"{name}[{','.join(sorted(extras[name]))}]{line.removeprefix(name)}"
            notes.append(
                note(
                    "extra-recognised",
                    name,
                    "{subject} was installed with its extra {extras}, as can be told from {names}; "
                    "each target gets what that means there.",
                    extras=sorted(extras[name]),
                    names=sorted(needs[name] - web.map_dependencies()[name]),
                )
            )
        requirement = Requirement(line)
        entry = RequirementLine(
            line,
            f"{folder.name}: {name}",
            requirement,
            is_editable=_is_editable(one),
            is_requested=name in roots and (one.is_requested or not _records_requested(kept)),
            is_frozen=True,
        )
        if name in roots or name in extras or requirement.url:
            asked.append(entry)
        else:
            constraints.append(entry)
    if foreign := [f"{one.name}=={one.version}" for _, one in sorted(kept.items()) if _is_foreign_build(one)]:
        notes.append(
            note(
                "foreign-build",
                folder.name,
                "What conda or the system put into {subject} from folders of its own is taken from the index, "
                "in the same versions: {pins}.",
                "If no index has one of them, leave it out: --exclude NAME.",
                pins=foreign,
            )
        )
    if not asked:
        raise SourceError(
            error(
                "environment-empty",
                folder,
                "Nothing is installed in {subject} that could be packed.",
                "Install the application there first.",
            )
        )
    return Requirements(requirements=tuple(asked), constraints=tuple(constraints), notes=tuple(notes))


def _determine_target(folder: Path) -> Target:
    """What its markers are: its own interpreter's where that runs here, else what its folders tell."""
    python = find_environment_python(folder)
    if python is not None and python.suffix != ".exe":
        try:
            return probe_interpreter(python)
        except OfflinepackError:
            pass
    version = _read_python_version(folder)
    if (folder / "Scripts").is_dir():
        return parse_target(f"cp{version}-win_amd64")
    tags = {line for path in find_site_packages(folder) for line in _read_tags(path)}
    if any("macosx" in tag for tag in tags):
        return parse_target(f"cp{version}-macosx_11_0_{'arm64' if any('arm64' in tag for tag in tags) else 'x86_64'}")
    machine = "aarch64" if any("aarch64" in tag for tag in tags) else "x86_64"
    return parse_target(f"cp{version}-manylinux_2_28_{machine}")


def _read_tags(place: Path) -> Iterator[str]:
    for path in place.glob("*.dist-info/WHEEL"):
        yield from re.findall(r"^Tag: (\S+)", path.read_text("utf-8", "replace"), re.M)


def _read_python_version(folder: Path) -> str:
    """311 for Python 3.11."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        settings.read_string("[venv]\n" + (folder / "pyvenv.cfg").read_text("utf-8", "replace"))
        told = settings.get("venv", "version", fallback=settings.get("venv", "version_info", fallback=""))
    except (OSError, configparser.Error):
        told = ""
    told = told or next((path.parent.name for path in folder.glob("lib/python*/site-packages")), "")
    if not told:
        told = next((path.name for path in (folder / "conda-meta").glob("python-[0-9]*.json")), "")
    found = re.search(r"(\d)\.(\d+)", told)
    return f"{found[1]}{found[2]}" if found else "311"


class _DependencyGraph:
    """What needs what among the installed, under the environment's own markers."""

    def __init__(self, kept: Mapping[NormalizedName, InstalledDistribution], here: Target) -> None:
        self.distributions, self.target = kept, here
        self._requirements: dict[tuple[NormalizedName, str], tuple[Requirement, ...]] = {}

    def map_dependencies(
        self, extras: Mapping[NormalizedName, Iterable[str]] | None = None
    ) -> dict[NormalizedName, frozenset[NormalizedName]]:
        """Project -> the others that it needs, with the extras that others want of it, and with these."""
        wanted = {name: {"", *(extras or {}).get(name, ())} for name in self.distributions}
        queue = [(name, extra) for name, some in wanted.items() for extra in some]
        found: dict[NormalizedName, set[NormalizedName]] = {name: set() for name in self.distributions}
        for name, extra in queue:  # grows
            for requirement in self._list_requirements(name, extra):
                to = canonicalize_name(requirement.name)
                if to not in self.distributions:
                    continue
                new = {canonicalize_name(one) for one in requirement.extras} - wanted[to]
                wanted[to] |= new
                queue += [(to, one) for one in sorted(new)]
                if to != name:
                    found[name].add(to)
        return {name: frozenset(names) for name, names in found.items()}

    def infer_extras(self) -> dict[NormalizedName, set[str]]:
        """Project -> extras without which something would be here that nobody asked for and nothing needs.

        An installer writes down what was asked for, not with which extras. An extra is taken for asked for where all
        that it brings is installed, in versions that it admits.
        """
        found: dict[NormalizedName, set[str]] = {}
        whole = [
            (name, extra, brought - {name})
            for name, one in sorted(self.distributions.items())
            for extra in one.provided_extras
            if (brought := self._find_additions(name, extra, ()))
        ]
        while True:
            needed = {to for names in self.map_dependencies(found).values() for to in names}
            loose = {name for name, one in self.distributions.items() if name not in needed and not one.is_requested}
            hits = [(len(brought & loose), -len(brought), name, extra) for name, extra, brought in whole]
            best = max(hits, default=(0, 0, "", ""))
            if not best[0]:
                return found
            found.setdefault(canonicalize_name(best[2]), set()).add(best[3])

    def _list_requirements(self, name: NormalizedName, extra: str) -> tuple[Requirement, ...]:
        """What it requires here; with an extra what that adds."""
        if (name, extra) not in self._requirements:
            plain = self._list_requirements(name, "") if extra else ()
            self._requirements[name, extra] = tuple(
                one for one in self.distributions[name].requires if self._applies_to(one, extra) and one not in plain
            )
        return self._requirements[name, extra]

    def _applies_to(self, one: Requirement, extra: str) -> bool:
        try:
            return one.marker is None or self.target.evaluate(one.marker, extras=[extra])
        except OfflinepackError:
            return True

    def _find_additions(
        self, name: NormalizedName, extra: str, above: tuple[tuple[str, str], ...]
    ) -> set[NormalizedName] | None:
        """All that this extra brings, also by extras of others; None where something of it is not here."""
        if (name, extra) in above:
            return set()
        brought: set[NormalizedName] = set()
        for one in self._list_requirements(name, extra):
            to = canonicalize_name(one.name)
            there = self.distributions.get(to)
            if there is None or not one.specifier.contains(there.version, prereleases=True):
                return None
            further = [self._find_additions(to, canonicalize_name(its), (*above, (name, extra))) for its in one.extras]
            if None in further:
                return None
            brought |= {to}.union(*(some for some in further if some))
        return brought


def _find_reachable(
    roots: Iterable[NormalizedName], needs: Mapping[NormalizedName, frozenset[NormalizedName]]
) -> set[NormalizedName]:
    seen: set[NormalizedName] = set()
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += needs.get(name, ())
    return seen


def _records_requested(kept: Mapping[NormalizedName, InstalledDistribution]) -> bool:
    return any(one.is_requested for one in kept.values())


def _remove_own_distributions(
    kept: Mapping[NormalizedName, InstalledDistribution], needs: Mapping[NormalizedName, frozenset[NormalizedName]]
) -> tuple[dict[NormalizedName, InstalledDistribution], set[NormalizedName]]:
    """Without offlinepack and what only it needs, and without what every environment has by itself."""
    ours = canonicalize_name(OWN_PROJECT)
    outside = {name for name in kept if name != ours and name not in _SEED_PROJECTS}
    needed_by_ours = _find_reachable([ours], needs) - {ours} if ours in kept else set()
    wanted = {name for name in outside if name not in needed_by_ours or kept[name].is_requested}
    wanted = _find_reachable(wanted, needs) - {ours}
    dropped = set(kept) - wanted - set(_SEED_PROJECTS)
    return {name: one for name, one in kept.items() if name in wanted}, dropped


def _find_roots(
    kept: Mapping[NormalizedName, InstalledDistribution], needs: Mapping[NormalizedName, frozenset[NormalizedName]]
) -> set[NormalizedName]:
    """What was installed for itself, what nothing else needs, and one of each circle that nothing else leads to."""
    needed = {to for name, names in needs.items() if name in kept for to in names}
    roots = {name for name, one in kept.items() if one.is_requested or name not in needed}
    for name in sorted(kept):
        if name not in _find_reachable(roots, needs):
            roots.add(name)
    return roots


def _is_editable(one: InstalledDistribution) -> bool:
    return one.egg_link is not None or bool(one.direct_url.get("dir_info", {}).get("editable"))


def _is_foreign_build(one: InstalledDistribution) -> bool:
    """conda and Debian build in folders of their own: pkg @ file:///croot/…"""
    url = one.direct_url.get("url", "")
    if _is_editable(one) or not url.startswith("file:") or "vcs_info" in one.direct_url:
        return False
    gone = "dir_info" not in one.direct_url and not _convert_file_url(url).is_file()
    return one.installer == "conda" or gone or bool(_BUILD_FOLDER_PATTERN.match(_convert_file_url(url).as_posix()))


def _make_line(one: InstalledDistribution) -> tuple[str, Finding | None]:
    """The requirement for one distribution, and what has to be said about where it came from."""
    pin = f"{one.name}=={one.version}"
    url = one.direct_url.get("url", "")
    vcs = one.direct_url.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("commit_id"):
        below = f"#subdirectory={one.direct_url['subdirectory']}" if one.direct_url.get("subdirectory") else ""
        line = f"{one.name} @ {vcs.get('vcs', 'git')}+{url}@{vcs['commit_id']}{below}"
        return line, note(
            "from-commit",
            one.name,
            "{subject} was installed from a commit, and is built from it: {place}.",
            place=redact_text(line),
        )
    project = one.egg_link or (_convert_file_url(url) if url.startswith("file:") else None)
    if _is_foreign_build(one):
        return pin, None
    if one.egg_link or "dir_info" in one.direct_url:
        if project and ((project / "pyproject.toml").is_file() or (project / "setup.py").is_file()):
            return f"{one.name} @ {project.as_uri()}", note(
                "local-project",
                one.name,
                "{subject} is a project on this machine ({kind}): a wheel is built from {place}.",
                kind=text("editable") if _is_editable(one) else text("a folder"),
                place=project,
            )
        return pin, note(
            "local-project-gone",
            one.name,
            "{subject} was installed from {place}, which is not there any more; {pin} is looked for on the index.",
            "If no index has it, leave it out with --exclude {subject}.",
            place=project or url,
            pin=pin,
        )
    if project is not None:
        return f"{one.name} @ {project.as_uri()}", note(
            "local-file",
            one.name,
            "{subject} was installed from the file {place}, and that file is packed.",
            place=project,
        )
    if url.startswith(("http://", "https://")):
        below = f"#subdirectory={one.direct_url['subdirectory']}" if one.direct_url.get("subdirectory") else ""
        return f"{one.name} @ {url}{below}", note(
            "from-address",
            one.name,
            "{subject} was installed from {place}, and is taken from there.",
            place=redact_text(url),
        )
    return pin, None


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except InvalidVersion:
        return False


def _convert_file_url(url: str) -> Path:
    return Path(url2pathname(unquote(urlsplit(url).path)) if "\\" in url else unquote(urlsplit(url).path))
