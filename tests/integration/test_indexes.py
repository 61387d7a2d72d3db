"""Indexes against a real small server: ours, uv and pip see the same files by the same settings."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import FetchError
from offlinepack.index.export import make_pip_arguments, make_uv_arguments, make_uv_project
from offlinepack.index.model import Indexes
from offlinepack.index.settings import read_settings
from offlinepack.index.simple_api import check_indexes, find_project, find_project_files, find_shadowed_projects
from offlinepack.net.client import open_client
from tests.support.making import ServedIndex, free_port, make_sdist, make_wheel, serve_index, serve_proxy

LOGIN = ("us er", "p@ss:/%w")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "stone", "1.0", requires=["mortar"])
    make_wheel(folder, "mortar", "1.0")
    make_wheel(folder, "mortar", "2.0", requires_python=">=3.7")
    make_sdist(folder, "mortar", "0.5")
    return folder


@pytest.fixture
def index(tmp_path: Path, wheels: Path) -> Iterator[ServedIndex]:
    with serve_index(tmp_path, wheels) as served:
        yield served


def filenames(indexes: Indexes, project: str = "stone", **more: Any) -> list[str]:
    with open_client(indexes, **{"retries": 0, "timeout": 5.0, **more}) as client:
        return sorted(one.filename for one in find_project_files(project, indexes, client))


def finding(indexes: Indexes, project: str = "stone", **more: Any) -> str:
    with pytest.raises(FetchError) as caught:
        filenames(indexes, project, **more)
    assert caught.value.exit_code == 6
    (one,) = caught.value.findings
    return one.render()


def clean(more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return {**kept, **more}


def by_uv(indexes: Indexes, folder: Path, *asked: str) -> list[str]:
    """What uv locks for these requirements by our translation."""
    arguments, environment = make_uv_arguments(indexes)
    folder.mkdir(exist_ok=True)
    (folder / "requirements.in").write_text("\n".join(asked))
    command = [
        "uv",
        "pip",
        "compile",
        "-q",
        "--no-header",
        "--no-annotate",
        "--no-cache",
        *arguments,
        "requirements.in",
    ]
    if project := make_uv_project(indexes, asked):
        (folder / "pyproject.toml").write_text(project)
        command.append("pyproject.toml")
    given = {**environment, "UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, "-m", *command, "--python", sys.executable],
        cwd=folder,
        env=clean(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert all(secret not in " ".join(command) for secret in LOGIN)
    return done.stdout.split() if done.returncode == 0 else [done.stderr]


def by_pip(indexes: Indexes, folder: Path, *asked: str) -> list[str]:
    """What pip downloads for these requirements by our translation."""
    arguments, environment = make_pip_arguments(indexes)
    command = [
        "pip",
        "download",
        "-q",
        "--retries",
        "0",
        "--only-binary",
        ":all:",
        "-d",
        str(folder),
        *arguments,
        *asked,
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command], env=clean(environment), capture_output=True, text=True, check=False
    )
    assert all(secret not in " ".join(command) for secret in LOGIN)
    if done.returncode:
        return [done.stderr]
    return sorted("==".join(one.name.split("-")[:2]) for one in folder.iterdir())


BOTH = ["mortar==2.0", "stone==1.0"]


def all_three(indexes: Indexes, tmp_path: Path) -> None:
    """We, uv and pip find the same."""
    assert filenames(indexes) == ["stone-1.0-py3-none-any.whl"]
    assert by_uv(indexes, tmp_path / "uv", "stone") == BOTH
    assert by_pip(indexes, tmp_path / "pip", "stone") == BOTH


# ------------------------------------------------------------------------------------------------ kinds of index


@pytest.mark.parametrize("kind", ["json", "html"])
@pytest.mark.parametrize("pep658", [False, True])
def test_html_and_json_with_and_without_metadata(tmp_path: Path, wheels: Path, kind: str, pep658: bool) -> None:
    with serve_index(tmp_path, wheels, json=kind == "json", pep658=pep658) as index:
        indexes = read_settings(index.url)
        with open_client(indexes) as client:
            files = {one.filename: one for one in find_project_files("mortar", indexes, client)}
        assert set(files) == {"mortar-0.5.tar.gz", "mortar-1.0-py3-none-any.whl", "mortar-2.0-py3-none-any.whl"}
        newest = files["mortar-2.0-py3-none-any.whl"]
        assert newest.sha256 == index.files[newest.filename].sha256
        assert newest.requires_python == ">=3.7"
        assert (newest.has_metadata, bool(newest.metadata_sha256)) == (pep658, pep658)
        assert newest.url == index.file_url(newest.filename)
        assert (newest.size is not None) == (kind == "json")
        all_three(indexes, tmp_path)


def test_yanked_files_and_a_projects_status(index: ServedIndex) -> None:
    index.files["mortar-2.0-py3-none-any.whl"].yanked = "crumbles"
    index.status["mortar"] = ("archived", "use cement")
    indexes = read_settings(index.url)
    for index.json in (True, False):
        with open_client(indexes) as client:
            found = find_project("mortar", indexes, client)
        assert found is not None
        yanked = {one.filename: one.yanked_reason for one in found.files if one.is_yanked}
        assert yanked == {"mortar-2.0-py3-none-any.whl": "crumbles"}
        if index.json:
            assert (found.status, found.status_reason) == ("archived", "use cement")


def test_a_flat_page_and_a_folder_as_find_links(index: ServedIndex, tmp_path: Path, wheels: Path) -> None:
    for number, place in enumerate((index.flat, str(wheels), wheels.as_uri())):
        indexes = read_settings(no_index=True, find_links=[place])
        (tmp_path / str(number)).mkdir()
        all_three(indexes, tmp_path / str(number))


def test_a_folder_with_spaces(tmp_path: Path, wheels: Path) -> None:
    wheels.rename(tmp_path / "my wheels, all")
    all_three(read_settings(no_index=True, find_links=[str(tmp_path / "my wheels, all")]), tmp_path)


def test_a_find_links_page_that_is_not_there(index: ServedIndex) -> None:
    indexes = read_settings(no_index=True, find_links=[index.root + "/nothing"])
    assert "named by --find-links, is not there (404)" in finding(indexes)


def test_a_folder_of_pages_as_index(tmp_path: Path, wheels: Path, index: ServedIndex) -> None:
    for project in ("stone", "mortar"):
        (tmp_path / "simple" / project).mkdir(parents=True)
        page = index.page(project, as_json=False, base="../../wheels/")
        (tmp_path / "simple" / project / "index.html").write_bytes(page)
    all_three(read_settings((tmp_path / "simple").as_uri()), tmp_path)


# ------------------------------------------------------------------------------------------------ several


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ServedIndex]:
    """An index that anybody may write to: it has a higher mortar."""
    make_wheel(tmp_path / "other", "mortar", "9.0")
    with serve_index(tmp_path / "o", tmp_path / "other") as served:
        yield served


def test_the_first_index_that_has_the_name_wins(index: ServedIndex, other: ServedIndex, tmp_path: Path) -> None:
    indexes = read_settings(index.url, [other.url])
    assert "mortar-2.0-py3-none-any.whl" in filenames(indexes, "mortar")
    assert by_uv(indexes, tmp_path / "uv", "stone") == BOTH
    assert not other.count("mortar")
    turned = read_settings(other.url, [index.url])
    assert filenames(turned, "mortar") == ["mortar-9.0-py3-none-any.whl"]
    assert by_uv(turned, tmp_path / "uv", "stone") == ["mortar==9.0", "stone==1.0"]


def test_what_merging_would_have_added(index: ServedIndex, other: ServedIndex) -> None:
    indexes = read_settings(index.url, [other.url])
    with open_client(indexes) as client:
        (lost,) = find_shadowed_projects("mortar", indexes, client)
        assert [one.filename for one in lost.files] == ["mortar-9.0-py3-none-any.whl"]
        assert find_shadowed_projects("stone", indexes, client) == []


def test_an_index_that_fails_is_not_passed_over(index: ServedIndex, other: ServedIndex) -> None:
    """Nobody knows whether it would have won."""
    index.fault("mortar", status=500)
    assert "answered 500" in finding(read_settings(index.url, [other.url]), "mortar")


def test_a_status_that_means_missing(index: ServedIndex, other: ServedIndex, tmp_path: Path) -> None:
    other.fault("stone", status=403)
    table = [{"url": other.url, "ignore-error-codes": [403]}]
    assert filenames(read_settings(index=[*table, {"url": index.url, "default": True}])) == [
        "stone-1.0-py3-none-any.whl"
    ]
    assert "wants a login (403)" in finding(read_settings(other.url, [index.url]))


def test_a_project_keeps_to_its_source(index: ServedIndex, other: ServedIndex, tmp_path: Path) -> None:
    tables = [{"name": "theirs", "url": other.url, "explicit": True}]
    indexes = read_settings(index.url, index=tables, sources={"Mortar": "theirs"})
    assert filenames(indexes, "mortar") == ["mortar-9.0-py3-none-any.whl"]
    assert filenames(indexes) == ["stone-1.0-py3-none-any.whl"]
    assert by_uv(indexes, tmp_path / "uv", "stone", "mortar") == ["mortar==9.0", "stone==1.0"]
    # what is explicit serves nobody else
    assert by_uv(read_settings(index.url, index=tables), tmp_path / "uv2", "mortar") == ["mortar==2.0"]


# ------------------------------------------------------------------------------------------------ logins


@pytest.fixture
def locked(tmp_path: Path, wheels: Path) -> Iterator[ServedIndex]:
    with serve_index(tmp_path, wheels, auth=LOGIN) as served:
        yield served


def test_a_login_in_the_address(locked: ServedIndex, tmp_path: Path) -> None:
    all_three(read_settings(locked.with_credentials(*LOGIN)), tmp_path)


def test_a_login_in_pip_conf_serves_uv_too(
    locked: ServedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {locked.with_credentials(*LOGIN)}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    all_three(read_settings(), tmp_path)


def test_a_login_in_netrc(locked: ServedIndex, tmp_path: Path, clean_environment: Path) -> None:
    locked.auth = ("user", "word")
    (clean_environment / ".netrc").write_text("machine 127.0.0.1 login user password word\n")
    all_three(read_settings(locked.url), tmp_path)


def test_a_login_in_uvs_variables_serves_pip_too(
    locked: ServedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"in-ner={locked.url}")
    monkeypatch.setenv("UV_INDEX_IN_NER_USERNAME", LOGIN[0])
    monkeypatch.setenv("UV_INDEX_IN_NER_PASSWORD", LOGIN[1])
    all_three(read_settings(), tmp_path)


KEYRING = """#!{python}
import json, sys
open({log!r}, "a").write(" ".join(sys.argv[1:]) + chr(10))
if {old} and "--mode=creds" in sys.argv:
    sys.exit("error: unrecognized arguments: --mode=creds") if False else sys.exit(2)
if {url!r} not in sys.argv:
    sys.exit(1)
print(json.dumps(dict(username={user!r}, password={password!r})) if "--mode=creds" in sys.argv else {password!r})
"""


def keyring_program(folder: Path, url: str, old: bool = False) -> Path:
    folder.mkdir()
    log = folder / "log"
    program = folder / "keyring"
    program.write_text(
        KEYRING.format(python=sys.executable, log=str(log), url=url, user=LOGIN[0], password=LOGIN[1], old=old)
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return log


@pytest.mark.skipif(sys.platform == "win32", reason="a script as a program")
@pytest.mark.parametrize("provider", ["auto", "subprocess"])
def test_a_login_in_the_keyring(
    locked: ServedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    log = keyring_program(tmp_path / "bin", locked.url)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setitem(sys.modules, "keyring", None)
    indexes = read_settings(locked.url, keyring_provider=provider)
    all_three(indexes, tmp_path)
    assert log.read_text().splitlines() == [f"--mode=creds --output=json get {locked.url}"]
    # files on the same server come with the same login
    with open_client(indexes) as client:
        (file,) = find_project_files("stone", indexes, client)
        assert client.query_size(file.url, file.filename)


@pytest.mark.skipif(sys.platform == "win32", reason="a script as a program")
def test_an_older_keyring_knows_passwords_of_a_user(
    locked: ServedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = keyring_program(tmp_path / "bin", locked.url, old=True)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setitem(sys.modules, "keyring", None)
    url = locked.url.replace("://", "://us%20er@")
    assert filenames(read_settings(url, keyring_provider="subprocess")) == ["stone-1.0-py3-none-any.whl"]
    assert log.read_text().splitlines()[-1] == f"get {locked.url} us er"


@pytest.mark.parametrize("status", [401, 403])
def test_no_login_and_a_wrong_one(locked: ServedIndex, clean_environment: Path, status: int) -> None:
    locked.forbidden = status
    words = finding(read_settings(locked.url, keyring_provider="disabled"))
    assert words.startswith(f"{locked.url}stone/: 127.0.0.1:{locked.port} wants a login ({status}), and no credentials")
    assert f"looked in: the index address, {clean_environment / '.netrc'} (no such file), no keyring" in words
    words = finding(read_settings(locked.with_credentials("user", "s3cret")))
    assert f"refused the login from the index address ({status})" in words
    assert "s3cret" not in words and "user:" not in words


# ------------------------------------------------------------------------------------------------ the way there


def test_a_firms_own_authority(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index:
        assert "authority that this machine does not know" in finding(read_settings(index.url))
        all_three(read_settings(index.url, cert=index.ca), tmp_path)
        # an older variable for another authority does not get in the way
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", os.devnull)
        assert by_pip(read_settings(index.url, cert=index.ca), tmp_path / "again", "stone") == BOTH


def test_an_authority_by_variable(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index:
        for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            with monkeypatch.context() as patch:
                patch.setenv(name, str(index.ca))
                assert filenames(read_settings(index.url)) == ["stone-1.0-py3-none-any.whl"]
                assert by_uv(read_settings(index.url), tmp_path / "uv", "stone") == BOTH


def test_a_client_certificate(tmp_path: Path, wheels: Path) -> None:
    with serve_index(tmp_path, wheels, client_certificate=True) as index:
        assert "wants a client certificate" in finding(read_settings(index.url, cert=index.ca))
        all_three(read_settings(index.url, cert=index.ca, client_cert=index.client_cert), tmp_path)


def test_a_trusted_host(tmp_path: Path, wheels: Path) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index:
        all_three(read_settings(index.url, trusted_host=["localhost"]), tmp_path)


def test_a_proxy_with_a_login(tmp_path: Path, wheels: Path, index: ServedIndex) -> None:
    with serve_proxy(("user", "word")) as proxy:
        all_three(read_settings(index.url, proxy=proxy.url_with_credentials), tmp_path)
        asked = len(proxy.requests)
        assert asked >= 3 and len(index.log) == asked
        words = finding(read_settings(index.url, proxy=proxy.url))
        assert f"the proxy {proxy.url} wants a login" in words


def test_no_proxy_by_flag(index: ServedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert "gave no connection" in finding(read_settings(index.url))
    all_three(read_settings(index.url, proxy=""), tmp_path)


# ------------------------------------------------------------------------------------------------ what is said


def test_an_unknown_project(index: ServedIndex, other: ServedIndex) -> None:
    words = finding(read_settings(index.url, [other.url]), "no-such-thing")
    assert words.startswith(f"No index has a project no-such-thing; looked in {index.url}, {other.url}.")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"body": b"it works!", "headers": {}}, "is no page of a package index: application/octet-stream"),
        ({"status": 500}, "answered 500"),
        ({"status": 418}, "answered 418"),
        ({"hang": 30.0}, "kept silent for 0.3 seconds"),
        ({"drop_at": 10}, "broke off"),
        ({"redirect": "ftp://a.example/"}, "an address that begins with 'ftp:'"),
        (
            {"gzipped": True, "body": b"\x00", "headers": {"Content-Type": "text/plain"}},
            "is no page of a package index",
        ),
    ],
)
def test_an_index_that_misbehaves(index: ServedIndex, fault: dict[str, Any], words: str) -> None:
    index.fault("stone", **fault)
    said = finding(read_settings(index.url), timeout=0.3)
    assert words in said
    assert said.startswith((f"{index.url}stone/: ", f"{index.url}stone/ is "))


def test_garbage_with_the_right_content_type(index: ServedIndex) -> None:
    for kind, body in (
        ("application/vnd.pypi.simple.v1+json", b"\xff\xfe{"),
        ("text/html", b"it works!"),
        ("application/vnd.pypi.simple.v1+json", b'{"meta": {"api-version": "2.0"}, "files": []}'),
    ):
        index.pages["/simple/stone/"] = (kind, body)
        assert f"is no page of a package index: {kind}" in finding(read_settings(index.url))


def test_no_index_at_all(tmp_path: Path) -> None:
    port = free_port()
    assert f"no connection to 127.0.0.1:{port}" in finding(read_settings(f"http://127.0.0.1:{port}/simple"))
    assert "cannot be resolved" in finding(read_settings("http://no-such-host.invalid/simple"))
    assert "no place at all (--no-index)" in finding(read_settings(no_index=True))


def test_is_it_the_way_to_an_index(index: ServedIndex, other: ServedIndex) -> None:
    indexes = read_settings(index.url, [other.url])
    with open_client(indexes, retries=0) as client:
        check_indexes(["stone", "no-such-thing"], indexes, client)
        index.fault("stone", status=500)
        other.fault("stone", status=403)
        with pytest.raises(FetchError) as caught:
            check_indexes(["stone", "mortar"], indexes, client)
    assert sorted(one.code for one in caught.value.findings) == ["login-missing", "server-error"]
