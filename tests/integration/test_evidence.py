"""What a bundle tells of itself: sbom.cdx.json, provenance/; and what is made of it: report, policy."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offlinepack import fetch
from offlinepack.evidence import provenance
from offlinepack.evidence.provenance import Origin
from offlinepack.indexes import Indexes
from offlinepack.store import Store
from tests.making import ServedIndex, make_sdist, make_wheel

from ..unit.test_provenance import NAME, RECORDED, SHA256
from .conftest import Ran

Run = Callable[..., Ran]
LINUX = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")
MIT = {"License-Expression": "MIT", "Summary": "A stone"}


def inside(bundle: str | Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(bundle) as tar:
        for one in tar:
            source = tar.extractfile(one)
            found[one.name.partition("/")[2]] = source.read() if source else b""
    return found


def told(bundle: str | Path, name: str) -> Any:
    return json.loads(inside(bundle)[f"provenance/{name}.json"])


def valid(data: bytes) -> Any:
    """The SBOM, held against the schema by the library that is made for it."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    return json.loads(data)


def test_provenance_is_what_the_index_says(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    stone, pebble = index.files["stone-1.0-py3-none-any.whl"], index.files["pebble-1.0-py3-none-any.whl"]
    stone.upload_time = "2024-05-06T07:08:09.123456Z"
    pebble.yanked = "a bad release"
    index.status["stone"] = ("archived", "nobody works on it")
    assert offlinepack("build", "stone", "pebble==1.0", *LINUX).code == 0
    found = told("app-offline.tar.gz", stone.path.name)
    assert found["origin"] == "index" and found["upload_time"] == "2024-05-06T07:08:09.123456Z"
    assert found["index"] is None and found["url"] is None, "the host of a private index stays here"
    assert found["hashes"] == {"sha256": stone.sha256} and found["sha256"] == stone.sha256
    assert (found["status"], found["status_reason"]) == ("archived", "nobody works on it")
    assert (found["yanked"], found["attested"]) == (False, False)
    found = told("app-offline.tar.gz", pebble.path.name)
    assert (found["yanked"], found["yanked_reason"], found["status"]) == (True, "a bad release", "active")
    names = [one for one in inside("app-offline.tar.gz") if one.startswith("provenance/pip-")]
    assert len(names) == 1, "tools have theirs too"
    assert not any(
        str(index.port).encode() in data for name, data in inside("app-offline.tar.gz").items() if "/wheel" not in name
    )


def test_an_html_index_says_the_same(index: ServedIndex, offlinepack: Run) -> None:
    index.json = False
    index.status["stone"] = ("deprecated", "use slate")
    index.files["stone-1.0-py3-none-any.whl"].upload_time = "2024-05-06T07:08:09Z"
    assert offlinepack("build", "stone", *LINUX).code == 0
    found = told("stone-offline.tar.gz", "stone-1.0-py3-none-any.whl")
    assert (found["status"], found["status_reason"]) == ("deprecated", "use slate")
    assert found["upload_time"] == "2024-05-06T07:08:09Z"


def test_what_the_index_said_first_is_kept_with_the_file(index: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "stone", *LINUX, "-o", "one.tar.gz").code == 0
    pages = index.count("stone")
    assert offlinepack("build", "stone", *LINUX, "-o", "two.tar.gz", "--offline").code == 0
    assert index.count("stone") == pages
    assert Path("one.tar.gz").read_bytes() == Path("two.tar.gz").read_bytes()


def test_a_folder_is_no_index(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    links = tmp_path / "links"
    make_wheel(links, "marble", "1.0")
    assert offlinepack("build", "marble", *LINUX, "--find-links", links).code == 0
    found = told("marble-offline.tar.gz", "marble-1.0-py3-none-any.whl")
    assert found["origin"] == "links" and str(tmp_path) not in json.dumps(found)


def test_a_built_wheel_names_its_source(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    source = index.add(make_sdist(tmp_path, "clay", "1.0"), upload_time="2020-01-02T03:04:05Z")
    done = offlinepack("build", "clay", "--json")
    assert done.code == 0, done.err
    found = told("clay-offline.tar.gz", "clay-1.0-py3-none-any.whl")
    assert found["origin"] == "built"
    assert found["built_from"]["sha256"] == source.sha256 and found["built_from"]["name"] == "clay-1.0.tar.gz"
    assert {"python", "platform", "requires"} <= set(found["built_from"])
    assert found["source"]["upload_time"] == "2020-01-02T03:04:05Z"
    sbom = valid(inside("clay-offline.tar.gz")["sbom.cdx.json"])
    (clay,) = (one for one in sbom["components"] if one["name"] == "clay")
    assert clay["pedigree"]["ancestors"][0]["hashes"] == [{"alg": "SHA-256", "content": source.sha256}]


# ------------------------------------------------------------------------------------------------ attestations


def test_a_recorded_attestation_is_fetched_verified_and_carried(index: ServedIndex, tmp_path: Path) -> None:
    place = tmp_path / NAME
    place.write_bytes(b"its bytes are not needed: an attestation is of a name and a hash")
    index.add(place, sha256=SHA256, provenance="/integrity/one")
    index.pages["/integrity/one"] = ("application/vnd.pypi.integrity.v1+json", RECORDED.read_bytes())
    indexes, store = Indexes.from_settings(index_url=index.url), Store(tmp_path / "store")
    origin = Origin("pypi-attestations", NAME, SHA256)
    with fetch.open_client(indexes) as client:
        stories = provenance.ask([origin], indexes, client, store)
        assert stories[NAME].story.attested and not stories[NAME].story.attestations
        stories = provenance.attested(stories, {NAME: SHA256}, client, store)
        (found,) = stories[NAME].story.attestations
        assert found["publisher"]["repository"] == "trailofbits/pypi-attestations"
        written = provenance.documents(stories, {NAME: SHA256})
        assert written[f"provenance/{NAME}.attestations.json"] == RECORDED.read_bytes()
        assert "provenance/trusted_root.json" in written
        assert str(index.port).encode() not in b"".join(written.values())
        asked = index.requests["/integrity/one"]
        provenance.attested(provenance.ask([origin], indexes, client, store), {NAME: SHA256}, client, store)
        assert index.requests["/integrity/one"] == asked == 1, "what was verified once is kept"


def test_an_attestation_of_another_file_stops_the_build(index: ServedIndex, offlinepack: Run) -> None:
    index.files["stone-1.0-py3-none-any.whl"].provenance = "/integrity/one"
    index.pages["/integrity/one"] = ("application/vnd.pypi.integrity.v1+json", RECORDED.read_bytes())
    done = offlinepack("build", "stone", *LINUX)
    assert done.code == 7 and "attestation of stone-1.0-py3-none-any.whl" in done.err
    assert not list(Path().glob("*.tar.gz"))


# ------------------------------------------------------------------------------------------------ SBOM

RUST = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "components": [
        {
            "type": "library",
            "name": "serde",
            "version": "1.0.2",
            "purl": "pkg:cargo/serde@1.0.2",
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "hashes": [{"alg": "SHA-256", "content": "a" * 64}],
        }
    ],
}
SPDX = {
    "spdxVersion": "SPDX-2.3",
    "packages": [
        {
            "name": "zlib",
            "versionInfo": "1.3",
            "licenseConcluded": "Zlib",
            "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:generic/zlib@1.3"}],
        }
    ],
}


def test_the_sbom_is_valid_and_whole(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    wheels = tmp_path / "more"
    boms = {"sboms/rust.cdx.json": json.dumps(RUST), "sboms/c.spdx.json": json.dumps(SPDX), "sboms/x.json": "{nonsense"}
    index.add(make_wheel(wheels, "ore", "1.0+cu12", requires=["pebble"], headers=MIT, dist_info=boms))
    index.add(make_wheel(wheels, "slag", "1.0", headers={"License": "Ours alone"}))
    (tmp_path / "notes.txt").write_text("carry me")
    targets = ("--target", "debian12", "--target", "windows:3.12")
    done = offlinepack("build", "ore", "slag", "granite", *targets, "--include", tmp_path / "notes.txt")
    assert done.code == 0, done.err
    sbom = valid(inside("app-offline.tar.gz")["sbom.cdx.json"])
    found = {one["name"]: one for one in sbom["components"]}
    assert set(found) == {"ore", "pebble", "slag", "granite", "gravel", "pip", "files/notes.txt"}
    ore = found["ore"]
    assert ore["purl"] == "pkg:pypi/ore@1.0%2Bcu12" and ore["licenses"][0]["license"]["id"] == "MIT"
    assert ore["hashes"][0]["content"] == index.files["ore-1.0+cu12-py3-none-any.whl"].sha256
    assert [(one["name"], one["purl"]) for one in ore["components"]] == [
        ("zlib", "pkg:generic/zlib@1.3"),
        ("serde", "pkg:cargo/serde@1.0.2"),
    ]
    assert found["slag"]["licenses"] == [{"license": {"name": "Ours alone", "acknowledgement": "declared"}}]
    assert "licenses" not in found["pebble"]
    targets_of = {
        name: [each["value"] for each in one.get("properties", []) if each["name"] == "offlinepack:target"]
        for name, one in found.items()
    }
    assert len(targets_of["ore"]) == 2 and [one[:9] for one in targets_of["gravel"]] == ["cp312-win"]
    graph = {one["ref"]: one.get("dependsOn", []) for one in sbom["dependencies"]}
    assert graph[ore["bom-ref"]] == [found["pebble"]["bom-ref"]]
    assert graph["bundle:app"] == sorted(found[name]["bom-ref"] for name in ("ore", "slag", "granite"))


def test_two_builds_give_the_same_sbom(index: ServedIndex, offlinepack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sboms = []
    for at, name in enumerate(("a.tar.gz", "b.tar.gz")):
        monkeypatch.setenv("OFFLINEPACK_CACHE_DIR", str(Path.cwd() / f"store-{at}"))
        assert offlinepack("build", "stone", *LINUX, "-o", name).code == 0
        sboms.append(inside(name)["sbom.cdx.json"])
    assert sboms[0] == sboms[1]
    assert offlinepack("build", "pebble", *LINUX, "-o", "c.tar.gz", "--name", "stone").code == 0
    assert json.loads(inside("c.tar.gz")["sbom.cdx.json"])["serialNumber"] != json.loads(sboms[0])["serialNumber"]


def test_an_index_that_cannot_tell_more_than_the_lock_is_not_asked_for_every_page(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    names = [f"stone{number:02}" for number in range(provenance._FIRST + 3)]
    for name in names:
        index.add(make_wheel(tmp_path / "more", name)).upload_time = "2024-05-06T07:08:09Z"
    assert offlinepack("build", *names, *LINUX).code == 0
    few = sum(index.count(name) for name in names)  # each once by the resolver
    assert few < 2 * len(names)
    last = told("app-offline.tar.gz", f"{names[-1]}-1.0-py3-none-any.whl")
    assert last["upload_time"] == "2024-05-06T07:08:09Z" and last["hashes"] == {"sha256": last["sha256"]}
    index.status[names[0]] = ("archived", "")
    assert offlinepack("build", *names, *LINUX, "--no-cache").code == 0
    assert sum(index.count(name) for name in names) - few == 2 * len(names)
