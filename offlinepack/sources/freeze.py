"""An environment that exists, as requirements: what `pip freeze` would say, cleaned and explained.

The folders are read, nothing in them is run: an environment of another system can be frozen too. What was installed for
itself is asked for; what only came along is pinned by a constraint, so that a target's markers decide whether it is
needed there. Both keep the versions that are installed.
"""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from offlinepack import targets
from offlinepack.errors import Finding, OfflinepackError, SourceError, error, note, text, warning
from offlinepack.sources import Asked, Requirements, without_secrets
from offlinepack.targets import Target

OURS = "offlinepack"
_SEEDED = ("pip", "setuptools", "wheel", "distribute")
"""what a new environment has by itself; left out unless something needs it"""


_FOREIGN = re.compile(r"/croot/|/opt/conda/|/home/conda/|/(tmp/)?build/|.*/(feedstock_root|conda-bld)/")
"""where conda's and Debian's machines build; nothing of this machine"""


@dataclass(frozen=True)
class _Installed:
    """One distribution of the environment."""

    name: NormalizedName
    version: str
    requires: tuple[Requirement, ...]
    requested: bool
    """installed for itself (the file REQUESTED), as far as the installer said so"""
    origin: Mapping[str, Any]
    """direct_url.json, PEP 610; empty where it came from an index"""
    installer: str
    egg_link: Path | None = None
    """the project's folder, of `setup.py develop`"""
    extras: tuple[str, ...] = ()
    """those that it offers; which ones were asked for is written nowhere"""


def read(folder: Path, *, exclude: Sequence[str] = ()) -> Requirements:
    """The environment in this folder as requirements; SourceError where it is none."""
    places = list(_site_packages(folder))
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
    here = _target(folder)
    found = {one.name: one for place in places for one in _installed(place)}
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
    kept, dropped = _without_ours(kept, _Web(kept, here).needs())
    if dropped:
        notes.append(
            note(
                "ours-left-out",
                OURS,
                "{subject} itself, and what only it needs, is left out: {names}.",
                names=sorted(dropped),
            )
        )
    if all(one.requested for one in kept.values()):  # of a whole list of pins, which tells nothing
        kept = {name: replace(one, requested=False) for name, one in kept.items()}
    web = _Web(kept, here)
    extras = web.extras_that_explain()
    needs = web.needs(extras)
    roots = _roots(kept, needs)
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
        line, finding = _line(one)
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
                    names=sorted(needs[name] - web.needs()[name]),
                )
            )
        requirement = Requirement(line)
        entry = Asked(
            line,
            f"{folder.name}: {name}",
            requirement,
            editable=_is_editable(one),
            requested=name in roots and (one.requested or not _tells_requested(kept)),
            frozen=True,
        )
        if name in roots or name in extras or requirement.url:
            asked.append(entry)
        else:
            constraints.append(entry)
    if foreign := [f"{one.name}=={one.version}" for _, one in sorted(kept.items()) if _is_foreign(one)]:
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
    return Requirements(asked=tuple(asked), constraints=tuple(constraints), notes=tuple(notes))


def interpreter(folder: Path) -> Path | None:
    """The environment's own python; None where there is none (or it is one of another system)."""
    for name in ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe"):
        if (folder / name).is_file():
            return folder / name
    return None


def is_environment(folder: Path) -> bool:
    """Whether it has a place for installed distributions, and says that it is an environment."""
    return ((folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()) and any(_site_packages(folder))


# ------------------------------------------------------------------------------------------- what is installed


def _site_packages(folder: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for pattern in (
        "lib/python*/site-packages",
        "lib64/python*/site-packages",
        "lib/pypy*/site-packages",
        "Lib/site-packages",
    ):
        for path in sorted(folder.glob(pattern)):
            if path.is_dir() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def is_conda_base(folder: Path) -> bool:
    """Whether it is the prefix in which conda itself is installed."""
    return (folder / "conda-meta").is_dir() and any((folder / "conda-meta").glob("conda-[0-9]*.json"))


def _installed(place: Path) -> Iterator[_Installed]:
    for one in distributions(path=[str(place)]):
        made = _as_installed(one)
        if made:
            yield made
    for link in sorted(place.glob("*.egg-link")):
        project = Path(link.read_text("utf-8", "replace").splitlines()[0].strip())
        for one in distributions(path=[str(project)]) if project.is_dir() else ():
            made = _as_installed(one, project)
            if made:
                yield made


def _as_installed(one: Distribution, egg_link: Path | None = None) -> _Installed | None:
    try:
        name, version = one.metadata["Name"], one.metadata["Version"]
    except Exception:  # a broken *.dist-info is not pip's either: it has no name
        return None
    if not name or not version:
        return None
    requires = []
    for line in one.requires or []:
        try:
            requires.append(Requirement(line))
        except InvalidRequirement:
            continue  # what is packed is checked by its own metadata later
    try:
        origin = json.loads(one.read_text("direct_url.json") or "{}")
    except ValueError:
        origin = {}
    return _Installed(
        canonicalize_name(name),
        version,
        tuple(requires),
        one.read_text("REQUESTED") is not None,
        origin if isinstance(origin, dict) and isinstance(origin.get("url"), str) else {},
        (one.read_text("INSTALLER") or "").strip(),
        egg_link,
        tuple(canonicalize_name(extra) for extra in one.metadata.get_all("Provides-Extra") or ()),
    )


def _target(folder: Path) -> Target:
    """What its markers are: its own interpreter's where that runs here, else what its folders tell."""
    python = interpreter(folder)
    if python is not None and python.suffix != ".exe":
        try:
            return targets.of_interpreter(python)
        except OfflinepackError:
            pass
    version = _version(folder)
    if (folder / "Scripts").is_dir():
        return targets.parse(f"cp{version}-win_amd64")
    tags = {line for path in _site_packages(folder) for line in _tags(path)}
    if any("macosx" in tag for tag in tags):
        return targets.parse(f"cp{version}-macosx_11_0_{'arm64' if any('arm64' in tag for tag in tags) else 'x86_64'}")
    machine = "aarch64" if any("aarch64" in tag for tag in tags) else "x86_64"
    return targets.parse(f"cp{version}-manylinux_2_28_{machine}")


def _tags(place: Path) -> Iterator[str]:
    for path in place.glob("*.dist-info/WHEEL"):
        yield from re.findall(r"^Tag: (\S+)", path.read_text("utf-8", "replace"), re.M)


def _version(folder: Path) -> str:
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


# --------------------------------------------------------------------------------------------- what is wanted


class _Web:
    """What needs what among the installed, under the environment's own markers."""

    def __init__(self, kept: Mapping[NormalizedName, _Installed], here: Target) -> None:
        self.kept, self.here = kept, here
        self._known: dict[tuple[NormalizedName, str], tuple[Requirement, ...]] = {}

    def needs(
        self, extras: Mapping[NormalizedName, Iterable[str]] | None = None
    ) -> dict[NormalizedName, frozenset[NormalizedName]]:
        """Project -> the others that it needs, with the extras that others want of it, and with these."""
        wanted = {name: {"", *(extras or {}).get(name, ())} for name in self.kept}
        queue = [(name, extra) for name, some in wanted.items() for extra in some]
        found: dict[NormalizedName, set[NormalizedName]] = {name: set() for name in self.kept}
        for name, extra in queue:  # grows
            for requirement in self._wants(name, extra):
                to = canonicalize_name(requirement.name)
                if to not in self.kept:
                    continue
                new = {canonicalize_name(one) for one in requirement.extras} - wanted[to]
                wanted[to] |= new
                queue += [(to, one) for one in sorted(new)]
                if to != name:
                    found[name].add(to)
        return {name: frozenset(names) for name, names in found.items()}

    def extras_that_explain(self) -> dict[NormalizedName, set[str]]:
        """Project -> extras without which something would be here that nobody asked for and nothing needs.

        An installer writes down what was asked for, not with which extras. An extra is taken for asked for where all
        that it brings is installed, in versions that it admits.
        """
        found: dict[NormalizedName, set[str]] = {}
        whole = [
            (name, extra, brought - {name})
            for name, one in sorted(self.kept.items())
            for extra in one.extras
            if (brought := self._brought(name, extra, ()))
        ]
        while True:
            needed = {to for names in self.needs(found).values() for to in names}
            loose = {name for name, one in self.kept.items() if name not in needed and not one.requested}
            hits = [(len(brought & loose), -len(brought), name, extra) for name, extra, brought in whole]
            best = max(hits, default=(0, 0, "", ""))
            if not best[0]:
                return found
            found.setdefault(canonicalize_name(best[2]), set()).add(best[3])

    def _wants(self, name: NormalizedName, extra: str) -> tuple[Requirement, ...]:
        """What it requires here; with an extra what that adds."""
        if (name, extra) not in self._known:
            plain = self._wants(name, "") if extra else ()
            self._known[name, extra] = tuple(
                one for one in self.kept[name].requires if self._holds(one, extra) and one not in plain
            )
        return self._known[name, extra]

    def _holds(self, one: Requirement, extra: str) -> bool:
        try:
            return one.marker is None or self.here.evaluate(one.marker, extras=[extra])
        except OfflinepackError:
            return True

    def _brought(
        self, name: NormalizedName, extra: str, above: tuple[tuple[str, str], ...]
    ) -> set[NormalizedName] | None:
        """All that this extra brings, also by extras of others; None where something of it is not here."""
        if (name, extra) in above:
            return set()
        brought: set[NormalizedName] = set()
        for one in self._wants(name, extra):
            to = canonicalize_name(one.name)
            there = self.kept.get(to)
            if there is None or not one.specifier.contains(there.version, prereleases=True):
                return None
            further = [self._brought(to, canonicalize_name(its), (*above, (name, extra))) for its in one.extras]
            if None in further:
                return None
            brought |= {to}.union(*(some for some in further if some))
        return brought


def _reached(
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


def _tells_requested(kept: Mapping[NormalizedName, _Installed]) -> bool:
    return any(one.requested for one in kept.values())


def _without_ours(
    kept: Mapping[NormalizedName, _Installed], needs: Mapping[NormalizedName, frozenset[NormalizedName]]
) -> tuple[dict[NormalizedName, _Installed], set[NormalizedName]]:
    """Without offlinepack and what only it needs, and without what every environment has by itself."""
    ours = canonicalize_name(OURS)
    outside = {name for name in kept if name != ours and name not in _SEEDED}
    needed_by_ours = _reached([ours], needs) - {ours} if ours in kept else set()
    wanted = {name for name in outside if name not in needed_by_ours or kept[name].requested}
    wanted = _reached(wanted, needs) - {ours}
    dropped = set(kept) - wanted - set(_SEEDED)
    return {name: one for name, one in kept.items() if name in wanted}, dropped


def _roots(
    kept: Mapping[NormalizedName, _Installed], needs: Mapping[NormalizedName, frozenset[NormalizedName]]
) -> set[NormalizedName]:
    """What was installed for itself, what nothing else needs, and one of each circle that nothing else leads to."""
    needed = {to for name, names in needs.items() if name in kept for to in names}
    roots = {name for name, one in kept.items() if one.requested or name not in needed}
    for name in sorted(kept):
        if name not in _reached(roots, needs):
            roots.add(name)
    return roots


def _is_editable(one: _Installed) -> bool:
    return one.egg_link is not None or bool(one.origin.get("dir_info", {}).get("editable"))


def _is_foreign(one: _Installed) -> bool:
    """conda and Debian build in folders of their own: pkg @ file:///croot/…"""
    url = one.origin.get("url", "")
    if _is_editable(one) or not url.startswith("file:") or "vcs_info" in one.origin:
        return False
    gone = "dir_info" not in one.origin and not _path(url).is_file()
    return one.installer == "conda" or gone or bool(_FOREIGN.match(_path(url).as_posix()))


def _line(one: _Installed) -> tuple[str, Finding | None]:
    """The requirement for one distribution, and what has to be said about where it came from."""
    pin = f"{one.name}=={one.version}"
    url = one.origin.get("url", "")
    vcs = one.origin.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("commit_id"):
        below = f"#subdirectory={one.origin['subdirectory']}" if one.origin.get("subdirectory") else ""
        line = f"{one.name} @ {vcs.get('vcs', 'git')}+{url}@{vcs['commit_id']}{below}"
        return line, note(
            "from-commit",
            one.name,
            "{subject} was installed from a commit, and is built from it: {place}.",
            place=without_secrets(line),
        )
    project = one.egg_link or (_path(url) if url.startswith("file:") else None)
    if _is_foreign(one):
        return pin, None
    if one.egg_link or "dir_info" in one.origin:
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
        below = f"#subdirectory={one.origin['subdirectory']}" if one.origin.get("subdirectory") else ""
        return f"{one.name} @ {url}{below}", note(
            "from-address",
            one.name,
            "{subject} was installed from {place}, and is taken from there.",
            place=without_secrets(url),
        )
    return pin, None


def _is_version(text: str) -> bool:
    try:
        return bool(Version(text))
    except InvalidVersion:
        return False


def _path(url: str) -> Path:
    return Path(url2pathname(unquote(urlsplit(url).path)) if "\\" in url else unquote(urlsplit(url).path))
