"""What a bundle tells of itself: sbom.cdx.json, provenance/; and what is made of it: report, policy."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offlinepack.index.settings import read_settings
from offlinepack.net.client import open_client
from offlinepack.report.provenance import (
    _FIRST_BATCH_SIZE,
    ProvenanceRequest,
    add_attestations,
    look_up_provenance,
    make_provenance_documents,
)
from offlinepack.store import Store
from tests.support.attestations import NAME, RECORDED, SHA256
from tests.support.making import ServedIndex, make_sdist, make_wheel

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


def read_provenance(bundle: str | Path, name: str) -> Any:
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
    found = read_provenance("app-offline.tar.gz", stone.path.name)
    assert found["origin"] == "index" and found["upload_time"] == "2024-05-06T07:08:09Z"
    assert found["index"] is None and found["url"] is None, "the host of a private index stays here"
    assert found["hashes"] == {"sha256": stone.sha256} and found["sha256"] == stone.sha256
    assert (found["status"], found["status_reason"]) == ("archived", "nobody works on it")
    assert (found["yanked"], found["attested"]) == (False, False)
    found = read_provenance("app-offline.tar.gz", pebble.path.name)
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
    found = read_provenance("stone-offline.tar.gz", "stone-1.0-py3-none-any.whl")
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
    found = read_provenance("marble-offline.tar.gz", "marble-1.0-py3-none-any.whl")
    assert found["origin"] == "links" and str(tmp_path) not in json.dumps(found)


def test_a_built_wheel_names_its_source(index: ServedIndex, offlinepack: Run, tmp_path: Path) -> None:
    source = index.add(make_sdist(tmp_path, "clay", "1.0"), upload_time="2020-01-02T03:04:05Z")
    done = offlinepack("build", "clay", "--json")
    assert done.code == 0, done.err
    found = read_provenance("clay-offline.tar.gz", "clay-1.0-py3-none-any.whl")
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
    indexes, store = read_settings(index_url=index.url), Store(tmp_path / "store")
    origin = ProvenanceRequest("pypi-attestations", NAME, SHA256)
    with open_client(indexes) as client:
        stories = look_up_provenance([origin], indexes, client, store)
        assert stories[NAME].provenance.has_attestations and not stories[NAME].provenance.attestations
        stories = add_attestations(stories, {NAME: SHA256}, client, store)
        (found,) = stories[NAME].provenance.attestations
        assert found["publisher"]["repository"] == "trailofbits/pypi-attestations"
        written = make_provenance_documents(stories, {NAME: SHA256})
        assert written[f"provenance/{NAME}.attestations.json"] == RECORDED.read_bytes()
        assert "provenance/trusted_root.json" in written
        assert str(index.port).encode() not in b"".join(written.values())
        asked = index.requests["/integrity/one"]
        add_attestations(look_up_provenance([origin], indexes, client, store), {NAME: SHA256}, client, store)
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
    names = [f"stone{number:02}" for number in range(_FIRST_BATCH_SIZE + 3)]
    for name in names:
        index.add(make_wheel(tmp_path / "more", name)).upload_time = "2024-05-06T07:08:09.123456Z"
    assert offlinepack("build", *names, *LINUX).code == 0
    few = sum(index.count(name) for name in names)  # each once by the resolver
    assert few < 2 * len(names)
    last = read_provenance("app-offline.tar.gz", f"{names[-1]}-1.0-py3-none-any.whl")
    assert last["upload_time"] == "2024-05-06T07:08:09Z" and last["hashes"] == {"sha256": last["sha256"]}
    first = Path("app-offline.tar.gz").read_bytes()
    assert offlinepack("build", *names, *LINUX).code == 0
    assert Path("app-offline.tar.gz").read_bytes() == first, (
        "what was not asked the first time is not asked the second time either"
    )
    few = sum(index.count(name) for name in names)
    index.status[names[0]] = ("archived", "")
    assert offlinepack("build", *names, *LINUX, "--no-cache").code == 0
    assert sum(index.count(name) for name in names) - few == 2 * len(names)


def test_a_joined_bundle_has_an_sbom_of_its_own(index: ServedIndex, offlinepack: Run) -> None:
    for target in ("debian12", "windows:3.12"):
        assert offlinepack("build", "granite", "--target", target, "-o", f"{target[:6]}.tar.gz").code == 0
    # what the index says changes; the bundles still belong together
    done = offlinepack("merge", "debian.tar.gz", "window.tar.gz", "-o", "all.tar.gz")
    assert done.code == 0, done.err
    sbom = valid(inside("all.tar.gz")["sbom.cdx.json"])
    assert {one["name"] for one in sbom["components"]} == {"granite", "gravel", "pip"}
    assert len(sbom["metadata"]["properties"]) == 2
    assert read_provenance("all.tar.gz", "granite-2.0-py3-none-any.whl")["origin"] == "index"
    assert offlinepack("verify", "all.tar.gz").code == 0


def test_a_source_that_the_target_builds_has_its_licence_too(
    index: ServedIndex, offlinepack: Run, tmp_path: Path
) -> None:
    index.add(make_sdist(tmp_path, "clay", "1.0"))
    done = offlinepack("build", "clay", "--sdist", "include")
    assert done.code == 0, done.err
    sbom = valid(inside("clay-offline.tar.gz")["sbom.cdx.json"])
    assert "clay" in {one["name"] for one in sbom["components"]}
    assert offlinepack("report", "clay-offline.tar.gz", "-o", "r.html").code == 0


# ------------------------------------------------------------------------------------------------ policy


@pytest.fixture
def quarry(index: ServedIndex, tmp_path: Path) -> ServedIndex:
    """ore (MIT, with native code's look-alike, a .pth and tests/) needs pebble, which says nothing of its licence."""
    files = {
        "ore/__init__.py": "",
        "ore.pth": "import ore\n",
        "tests/__init__.py": "",
        "ore/fast.so": b"\x7fELF" + bytes(80),
    }
    headers = {"License-Expression": "MIT", "Summary": "Ore & <more>", "Home-page": "https://example.org/ore"}
    ore = make_wheel(tmp_path / "more", "ore", "2.0", requires=["pebble"], headers=headers, files=files)
    index.add(ore, upload_time="2021-01-01T00:00:00Z", yanked="it <b>leaks</b>")
    index.add(
        make_wheel(tmp_path / "more", "ore", "1.0", requires=["pebble"], headers=headers, files={"ore/__init__.py": ""})
    )
    index.status["ore"] = ("deprecated", "use slag")
    return index


def test_a_policy_stops_the_build_with_the_whole_list(quarry: ServedIndex, offlinepack: Run) -> None:
    Path("policy.toml").write_text('allowed-licenses = ["Apache-2.0"]\nyanked = false\ndenied-projects = ["pebble"]\n')
    done = offlinepack("build", "ore==2.0", *LINUX, "--policy", "policy.toml", "--report", "r.json", "--json")
    assert done.code == 13 and not list(Path().glob("*.tar.gz*"))
    found = {(one["code"], one["subject"]) for one in done.json["findings"] if one["level"] == "error"}
    assert {
        ("policy-licence", "ore 2.0"),
        ("policy-yanked", "ore 2.0"),
        ("policy-project", "pebble 1.0"),
        ("policy-licence-unknown", "pebble 1.0"),
    } <= found
    assert json.loads(Path("r.json").read_text()) == done.json, "the report is written where it failed, too"
    assert offlinepack("build", "ore==2.0", *LINUX, "--policy", "policy.toml", "--report", "r.xml").code == 13
    assert f'failures="{len(found)}"' in Path("r.xml").read_text()


def test_the_same_policy_speaks_when_a_bundle_is_verified(quarry: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "ore==2.0", *LINUX).code == 0
    Path("policy.toml").write_text('[policy]\ndenied-projects = ["ore<3"]\n')
    done = offlinepack("verify", "ore-offline.tar.gz", "--policy", "policy.toml")
    assert done.code == 13 and "ore 2.0 is not allowed" in done.err
    Path("policy.toml").write_text('denied-projects = ["ore<3"]\n[exceptions]\nore = "we know"\n')
    done = offlinepack("verify", "ore-offline.tar.gz", "--policy", "policy.toml")
    assert done.code == 0 and "we know" in done.err
    Path("policy.toml").write_text('denied-project = ["ore"]\nyanked = 3\n')
    done = offlinepack("verify", "ore-offline.tar.gz", "--policy", "policy.toml")
    assert done.code == 3 and "denied-project" in done.err and "yanked" in done.err


def test_the_projects_own_policy(quarry: ServedIndex, offlinepack: Run) -> None:
    Path("pyproject.toml").write_text('[tool.offlinepack]\n[tool.offlinepack.policy]\ndenied-projects = ["ore"]\n')
    assert offlinepack("build", "ore==2.0", *LINUX).code == 13
    assert offlinepack("build", "stone", *LINUX).code == 0


def test_vulnerabilities_of_a_snapshot(quarry: ServedIndex, offlinepack: Run) -> None:
    vulns = [{"id": "CVE-2026-1", "fix_versions": ["3.0"], "aliases": [], "description": "It breaks."}]
    snapshot = {"date": "2026-02-03", "dependencies": [{"name": "ore", "version": "2.0", "vulns": vulns}]}
    Path("snapshot.json").write_text(json.dumps(snapshot))
    Path("policy.toml").write_text('vulnerabilities = "high"\n')
    rules = ("--policy", "policy.toml", "--vulnerabilities", "snapshot.json")
    done = offlinepack("build", "ore==2.0", *LINUX, *rules)
    assert done.code == 13 and "CVE-2026-1" in done.err and "2026-02-03" in done.err
    assert offlinepack("build", "ore==1.0", *LINUX, *rules).code == 0


def test_the_summary_of_a_build_that_went_well(index: ServedIndex, offlinepack: Run) -> None:
    for suffix in ("json", "md", "xml"):
        assert offlinepack("build", "stone", *LINUX, "--report", f"out/r.{suffix}").code == 0
    assert json.loads(Path("out/r.json").read_text())["ok"] is True
    assert "| stone | 1.0 |" in Path("out/r.md").read_text()
    assert 'tests="2" failures="0"' in Path("out/r.xml").read_text()
    assert offlinepack("build", "stone", *LINUX, "--report", "r.txt").code == 2


# ------------------------------------------------------------------------------------------------ report


def page(words: str) -> Any:
    """The page as a tree; html5lib's strict parser raises where anything is not as the standard has it."""
    import html5lib

    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(words)


def words_of(tree: Any) -> str:
    return " ".join(" ".join(tree.find("body").itertext()).split())


def test_a_page_that_tells_what_deserves_a_look(quarry: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "ore==2.0", *LINUX, "--app-version", "7").code == 0
    done = offlinepack("report", "ore-7-offline.tar.gz", "-o", "report.html")
    assert done.code == 0, done.err
    source = Path("report.html").read_text("utf-8")
    tree = page(source)
    words = words_of(tree)
    assert tree.get("lang") == "en" and "ore 7" in words
    assert "ore 2.0 was withdrawn by its maintainers (yanked): it <b>leaks</b>." in words
    assert "The project of ore 2.0 is deprecated on its index: use slag." in words
    assert "ore 2.0 brings ore.pth, which runs at every start of Python." in words
    assert "top-level names that are not its own: tests" in words
    assert "Nothing says under which licence these are: pebble 1.0" in words
    assert "Ore & <more>" in words and "2021-01-01" in words
    assert "index of your own" in words and str(quarry.port) not in source
    # for keyboards, screen readers and machines without a network
    assert not tree.findall(".//script") and "http" not in source.partition("</style>")[0]
    assert [one.tag for one in tree.iter() if one.tag in ("h1", "h2")].count("h1") == 1
    for table in tree.iter("table"):
        assert table.find("caption") is not None
        assert all(one.get("scope") in ("col", "row") for one in table.iter("th"))
    ids = [one.get("id") for one in tree.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    assert {one.get("href")[1:] for one in tree.iter("a") if one.get("href", "").startswith("#")} <= set(ids)


def test_the_page_in_chinese(quarry: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "ore==2.0", *LINUX).code == 0
    assert offlinepack("report", "ore-offline.tar.gz", "-o", "r.html", "--lang", "zh").code == 0
    tree = page(Path("r.html").read_text("utf-8"))
    assert tree.get("lang") == "zh-CN" and "许可证" in words_of(tree) and "已被维护者撤回" in words_of(tree)
    assert "Everything in it" not in words_of(tree)


def test_the_report_as_json_and_markdown(quarry: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "ore==2.0", *LINUX).code == 0
    assert offlinepack("report", "ore-offline.tar.gz", "-o", "r.json").code == 0
    found = json.loads(Path("r.json").read_text("utf-8"))
    assert (found["schema"], found["bundle"]["name"]) == (1, "ore")
    projects = {one["name"]: one for one in found["projects"]}
    assert projects["pebble"]["because_of"] == ["ore", "pebble"]
    (release,) = projects["ore"]["releases"]
    assert release["licences"] == ["MIT"] and release["native"] == 1 and release["age_days"] > 1800
    done = offlinepack("report", "ore-offline.tar.gz")
    assert done.code == 0 and done.out.startswith("# ore") and "| ore | 2.0 |" not in done.out
    assert "[ore](https://example.org/ore) | 2.0 |" in done.out
    done = offlinepack("report", "ore-offline.tar.gz", "--json")
    assert {**found, "ok": True} == done.json
    assert offlinepack("report", "ore-offline.tar.gz", "-o", "r.pdf").code == 2


def test_what_was_approved_last_may_be_a_bundle_a_manifest_or_a_report(quarry: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "ore==1.0", *LINUX, "--app-version", "1").code == 0
    assert offlinepack("build", "ore==2.0", *LINUX, "--app-version", "2").code == 0
    old = "ore-1-offline.tar.gz"
    assert offlinepack("report", old, "-o", "old.json").code == 0
    Path("manifest.json").write_bytes(inside(old)["manifest.json"])
    for against in (old, "manifest.json", "old.json"):
        done = offlinepack("report", "ore-2-offline.tar.gz", "--against", against, "-o", "new.html")
        assert done.code == 0, done.err
        tree = page(Path("new.html").read_text("utf-8"))
        assert tree.find(".//section/h2").text == "What changed since ore 1", "it comes first"
        assert "1 of 2 changed" in words_of(tree)
    Path("other.json").write_text('{"manifest": {}}')
    assert offlinepack("report", "ore-2-offline.tar.gz", "--against", "other.json").code == 9


def test_inspect_knows_the_same(quarry: ServedIndex, offlinepack: Run) -> None:
    assert offlinepack("build", "ore==2.0", *LINUX).code == 0
    (target,) = offlinepack("inspect", "ore-offline.tar.gz", "--json").json["targets"]
    ore = target["install"][1]
    assert ore["licences"] == ["MIT"] and ore["provenance"]["yanked_reason"] == "it <b>leaks</b>"
    assert "MIT" in offlinepack("inspect", "ore-offline.tar.gz").out
