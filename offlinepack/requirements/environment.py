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
    """Freeze the virtual environment in a folder; raise SourceError if it is none."""
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
    host = _determine_target(folder)
    installed = {distribution.name: distribution for place in places for distribution in list_distributions(place)}
    notes: list[Finding] = []
    left_out = {canonicalize_name(name) for name in exclude}
    if unknown := sorted(left_out - set(installed)):
        notes.append(
            warning(
                "exclude-unknown",
                str(folder),
                "--exclude names {names}, and {subject} has no such thing.",
                "Correct the name.",
                names=unknown,
            )
        )
    distributions = {name: distribution for name, distribution in installed.items() if name not in left_out}
    distributions, dropped = _remove_own_distributions(
        distributions, _DependencyGraph(distributions, host).map_dependencies()
    )
    if dropped:
        notes.append(
            note(
                "ours-left-out",
                OWN_PROJECT,
                "{subject} itself, and what only it needs, is left out: {names}.",
                names=sorted(dropped),
            )
        )
    if all(
        distribution.is_requested for distribution in distributions.values()
    ):  # of a whole list of pins, which tells nothing
        distributions = {
            name: replace(distribution, is_requested=False) for name, distribution in distributions.items()
        }
    web = _DependencyGraph(distributions, host)
    extras = web.infer_extras()
    needs = web.map_dependencies(extras)
    roots = _find_roots(distributions, needs)
    if odd := [
        distribution for _, distribution in sorted(distributions.items()) if not _is_version(distribution.version)
    ]:
        raise SourceError(
            *(
                error(
                    "odd-version",
                    distribution.name,
                    "{subject} {version} has a version that is none (PEP 440); no index lists it so.",
                    "Install a newer release of it there, or leave it out: --exclude {subject}.",
                    version=distribution.version,
                )
                for distribution in odd
            )
        )
    lines, constraints = [], []
    for name, distribution in sorted(distributions.items()):
        line, finding = _make_line(distribution)
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
            is_editable=_is_editable(distribution),
            is_requested=name in roots and (distribution.is_requested or not _records_requested(distributions)),
            is_frozen=True,
        )
        if name in roots or name in extras or requirement.url:
            lines.append(entry)
        else:
            constraints.append(entry)
    if foreign := [
        f"{distribution.name}=={distribution.version}"
        for _, distribution in sorted(distributions.items())
        if _is_foreign_build(distribution)
    ]:
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
    if not lines:
        raise SourceError(
            error(
                "environment-empty",
                folder,
                "Nothing is installed in {subject} that could be packed.",
                "Install the application there first.",
            )
        )
    return Requirements(requirements=tuple(lines), constraints=tuple(constraints), notes=tuple(notes))


def _determine_target(folder: Path) -> Target:
    """Determine the target of an environment: from its own interpreter if it runs, otherwise from its folders."""
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
    """Read the Python version of folder names: 311 for Python 3.11."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        settings.read_string("[venv]\n" + (folder / "pyvenv.cfg").read_text("utf-8", "replace"))
        version = settings.get("venv", "version", fallback=settings.get("venv", "version_info", fallback=""))
    except (OSError, configparser.Error):
        version = ""
    version = version or next((path.parent.name for path in folder.glob("lib/python*/site-packages")), "")
    if not version:
        version = next((path.name for path in (folder / "conda-meta").glob("python-[0-9]*.json")), "")
    match = re.search(r"(\d)\.(\d+)", version)
    return f"{match[1]}{match[2]}" if match else "311"


class _DependencyGraph:
    """What needs what among the installed, under the environment's own markers."""

    def __init__(self, distributions: Mapping[NormalizedName, InstalledDistribution], host: Target) -> None:
        self.distributions, self.target = distributions, host
        self._requirements: dict[tuple[NormalizedName, str], tuple[Requirement, ...]] = {}

    def map_dependencies(
        self, extras: Mapping[NormalizedName, Iterable[str]] | None = None
    ) -> dict[NormalizedName, frozenset[NormalizedName]]:
        """Map each project to its dependencies, with the extras that others require of it and with `extras`."""
        extras_by_name = {name: {"", *(extras or {}).get(name, ())} for name in self.distributions}
        queue = [(name, extra) for name, some in extras_by_name.items() for extra in some]
        needs: dict[NormalizedName, set[NormalizedName]] = {name: set() for name in self.distributions}
        for name, extra in queue:  # grows
            for requirement in self._list_requirements(name, extra):
                to = canonicalize_name(requirement.name)
                if to not in self.distributions:
                    continue
                new = {canonicalize_name(extra) for extra in requirement.extras} - extras_by_name[to]
                extras_by_name[to] |= new
                queue += [(to, extra) for extra in sorted(new)]
                if to != name:
                    needs[name].add(to)
        return {name: frozenset(names) for name, names in needs.items()}

    def infer_extras(self) -> dict[NormalizedName, set[str]]:
        """Infer the extras of each project without which a distribution would be in the environment for no reason.

        An installer does not record extras. An extra counts as requested if everything that it adds is installed in
        versions that it admits.
        """
        needs: dict[NormalizedName, set[str]] = {}
        whole = [
            (name, extra, brought - {name})
            for name, distribution in sorted(self.distributions.items())
            for extra in distribution.provided_extras
            if (brought := self._find_additions(name, extra, ()))
        ]
        while True:
            needed = {to for names in self.map_dependencies(needs).values() for to in names}
            loose = {
                name
                for name, distribution in self.distributions.items()
                if name not in needed and not distribution.is_requested
            }
            hits = [(len(brought & loose), -len(brought), name, extra) for name, extra, brought in whole]
            best = max(hits, default=(0, 0, "", ""))
            if not best[0]:
                return needs
            needs.setdefault(canonicalize_name(best[2]), set()).add(best[3])

    def _list_requirements(self, name: NormalizedName, extra: str) -> tuple[Requirement, ...]:
        """Yield the dependencies of a distribution in this environment; with an extra, those that it adds."""
        if (name, extra) not in self._requirements:
            plain = self._list_requirements(name, "") if extra else ()
            self._requirements[name, extra] = tuple(
                requirement
                for requirement in self.distributions[name].requires
                if self._applies_to(requirement, extra) and requirement not in plain
            )
        return self._requirements[name, extra]

    def _applies_to(self, requirement: Requirement, extra: str) -> bool:
        try:
            return self.target.evaluate(requirement.marker, extras=[extra])
        except OfflinepackError:
            return True

    def _find_additions(
        self, name: NormalizedName, extra: str, parents: tuple[tuple[str, str], ...]
    ) -> set[NormalizedName] | None:
        """Find everything that an extra adds, also by extras of others; None if a part of it is not installed."""
        if (name, extra) in parents:
            return set()
        brought: set[NormalizedName] = set()
        for line in self._list_requirements(name, extra):
            to = canonicalize_name(line.name)
            dependency = self.distributions.get(to)
            if dependency is None or not line.specifier.contains(dependency.version, prereleases=True):
                return None
            further = [
                self._find_additions(to, canonicalize_name(dependency), (*parents, (name, extra)))
                for dependency in line.extras
            ]
            if None in further:
                return None
            brought |= {to}.union(*(some for some in further if some))
        return brought


def _find_reachable(
    roots: Iterable[NormalizedName], needs: Mapping[NormalizedName, frozenset[NormalizedName]]
) -> set[NormalizedName]:
    visited: set[NormalizedName] = set()
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name not in visited:
            visited.add(name)
            queue += needs.get(name, ())
    return visited


def _records_requested(distributions: Mapping[NormalizedName, InstalledDistribution]) -> bool:
    return any(distribution.is_requested for distribution in distributions.values())


def _remove_own_distributions(
    distributions: Mapping[NormalizedName, InstalledDistribution],
    needs: Mapping[NormalizedName, frozenset[NormalizedName]],
) -> tuple[dict[NormalizedName, InstalledDistribution], set[NormalizedName]]:
    """Remove offlinepack with what only it needs, and what every environment contains."""
    ours = canonicalize_name(OWN_PROJECT)
    outside = {name for name in distributions if name != ours and name not in _SEED_PROJECTS}
    needed_by_ours = _find_reachable([ours], needs) - {ours} if ours in distributions else set()
    wanted_names = {name for name in outside if name not in needed_by_ours or distributions[name].is_requested}
    wanted_names = _find_reachable(wanted_names, needs) - {ours}
    dropped = set(distributions) - wanted_names - set(_SEED_PROJECTS)
    return {name: distribution for name, distribution in distributions.items() if name in wanted_names}, dropped


def _find_roots(
    distributions: Mapping[NormalizedName, InstalledDistribution],
    needs: Mapping[NormalizedName, frozenset[NormalizedName]],
) -> set[NormalizedName]:
    """Find the distributions that were installed for themselves, that nothing needs, and one of each circle."""
    needed = {to for name, names in needs.items() if name in distributions for to in names}
    roots = {name for name, distribution in distributions.items() if distribution.is_requested or name not in needed}
    for name in sorted(distributions):
        if name not in _find_reachable(roots, needs):
            roots.add(name)
    return roots


def _is_editable(distribution: InstalledDistribution) -> bool:
    return distribution.egg_link is not None or bool(distribution.direct_url.get("dir_info", {}).get("editable"))


def _is_foreign_build(distribution: InstalledDistribution) -> bool:
    """Check for a build of conda or Debian, which records a folder of its own: pkg @ file:///croot/…"""
    url = distribution.direct_url.get("url", "")
    if _is_editable(distribution) or not url.startswith("file:") or "vcs_info" in distribution.direct_url:
        return False
    is_missing = "dir_info" not in distribution.direct_url and not _convert_file_url(url).is_file()
    return (
        distribution.installer == "conda"
        or is_missing
        or bool(_BUILD_FOLDER_PATTERN.match(_convert_file_url(url).as_posix()))
    )


def _make_line(distribution: InstalledDistribution) -> tuple[str, Finding | None]:
    """Return the requirement line of a distribution, and a finding about where it came from."""
    pin = f"{distribution.name}=={distribution.version}"
    url = distribution.direct_url.get("url", "")
    vcs = distribution.direct_url.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("commit_id"):
        subdirectory = (
            f"#subdirectory={distribution.direct_url['subdirectory']}"
            if distribution.direct_url.get("subdirectory")
            else ""
        )
        line = f"{distribution.name} @ {vcs.get('vcs', 'git')}+{url}@{vcs['commit_id']}{subdirectory}"
        return line, note(
            "from-commit",
            distribution.name,
            "{subject} was installed from a commit, and is built from it: {place}.",
            place=redact_text(line),
        )
    project = distribution.egg_link or (_convert_file_url(url) if url.startswith("file:") else None)
    if _is_foreign_build(distribution):
        return pin, None
    if distribution.egg_link or "dir_info" in distribution.direct_url:
        if project and ((project / "pyproject.toml").is_file() or (project / "setup.py").is_file()):
            return f"{distribution.name} @ {project.as_uri()}", note(
                "local-project",
                distribution.name,
                "{subject} is a project on this machine ({kind}): a wheel is built from {place}.",
                kind=text("editable") if _is_editable(distribution) else text("a folder"),
                place=project,
            )
        return pin, note(
            "local-project-gone",
            distribution.name,
            "{subject} was installed from {place}, which is not there any more; {pin} is looked for on the index.",
            "If no index has it, leave it out with --exclude {subject}.",
            place=project or url,
            pin=pin,
        )
    if project is not None:
        return f"{distribution.name} @ {project.as_uri()}", note(
            "local-file",
            distribution.name,
            "{subject} was installed from the file {place}, and that file is packed.",
            place=project,
        )
    if url.startswith(("http://", "https://")):
        subdirectory = (
            f"#subdirectory={distribution.direct_url['subdirectory']}"
            if distribution.direct_url.get("subdirectory")
            else ""
        )
        return f"{distribution.name} @ {url}{subdirectory}", note(
            "from-address",
            distribution.name,
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
