"""Choice and order of indexes, logins, settings for uv and pip, index pages."""

from __future__ import annotations

import json
import os
import sys
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker

from offlinepack.errors import FetchError, SourceError, UsageError
from offlinepack.index import pip_config
from offlinepack.index.export import make_pip_arguments, make_uv_arguments, make_uv_project
from offlinepack.index.model import PUBLIC_INDEX_URL, Index, Indexes, is_public_index_url
from offlinepack.index.pip_config import _find_config_files
from offlinepack.index.settings import read_settings
from offlinepack.index.simple_api import find_project, find_project_files, find_shadowed_projects
from offlinepack.net import auth
from offlinepack.net.client import open_client
from offlinepack.net.model import Page
from offlinepack.net.urls import get_local_path, redact_url, split_credentials

A, B, C = "https://a.example/simple/", "https://b.example/simple/", "https://c.example/simple/"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory of its own; no site's pip.conf."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no-prefix"))


def urls(indexes: Indexes) -> list[str]:
    return [one.url for one in indexes.indexes]


def pip_conf(home: Path, text: str) -> Path:
    path = home / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def own_settings(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's own places count (those of the machine are out of the way); the home is given back."""
    monkeypatch.delenv("PIP_CONFIG_FILE")
    real = _find_config_files
    monkeypatch.setattr(
        pip_config, "_find_config_files", lambda: [one for one in real() if one != Path("/etc/pip.conf")]
    )
    return clean_environment


# ------------------------------------------------------------------------------------------------ order


def test_without_settings_it_is_the_public_index() -> None:
    assert Indexes() == read_settings()
    assert urls(read_settings()) == [PUBLIC_INDEX_URL]


def test_flags_come_in_their_order() -> None:
    found = read_settings(A, [B, C])
    assert urls(found) == [A, B, C]
    assert [one.is_default for one in found.indexes] == [True, False, False]


def test_the_public_index_comes_last_wherever_it_was_named() -> None:
    assert urls(read_settings(None, [B, C])) == [B, C, PUBLIC_INDEX_URL]
    assert urls(read_settings(PUBLIC_INDEX_URL.rstrip("/"), [B])) == [B, PUBLIC_INDEX_URL]
    assert urls(read_settings(A, [PUBLIC_INDEX_URL, B])) == [A, B, PUBLIC_INDEX_URL]


def test_the_same_index_twice_is_one() -> None:
    assert urls(read_settings(A, [A.rstrip("/"), B, B])) == [A, B]


def test_no_index() -> None:
    found = read_settings(A, [B], no_index=True)
    assert (found.indexes, found.no_index) == ((), True)


def test_pip_conf_and_its_places(own_settings: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = own_settings / ".pip" / "pip.conf"
    old.parent.mkdir()
    old.write_text(f"[global]\nindex-url = {A}\ntimeout = 60\n")
    assert urls(read_settings()) == [A]
    path = pip_conf(
        own_settings,
        f"[global]\nindex_url = {B}\nextra-index-url =\n  {C}\n  {PUBLIC_INDEX_URL}\n[freeze]\ncert = no\n",
    )
    found = read_settings()
    assert urls(found) == [B, C, PUBLIC_INDEX_URL]
    assert (found.timeout, found.cert) == (60, None)
    assert {one.origin for one in found.indexes} == {str(path)}
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "pip.conf").write_text("[install]\nindex-url = https://site.example/simple\n")
    monkeypatch.setenv("VIRTUAL_ENV", str(venv))
    assert urls(read_settings())[0] == "https://site.example/simple/"
    given = tmp_path / "given.conf"
    given.write_text("[download]\nindex-url = https://given.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(given))
    # the user's file is not read then, the site's is
    assert urls(read_settings()) == ["https://given.example/simple/"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{C} {A}")
    assert urls(read_settings()) == ["https://variable.example/simple/", C, A]
    assert urls(read_settings(B)) == [B, C, A]
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_INDEX_URL")
    assert urls(read_settings()) == [C, A, PUBLIC_INDEX_URL]


def test_pips_system_wide_settings_are_the_weakest(own_settings: Path) -> None:
    shared = own_settings / "etc/xdg/pip/pip.conf"
    shared.parent.mkdir(parents=True)
    shared.write_text(f"[global]\nindex-url = {A}\ntrusted-host = a.example\n")
    assert urls(read_settings()) == [A]
    pip_conf(own_settings, f"[global]\nindex-url = {B}\n")
    found = read_settings()
    assert (urls(found), found.trusted_hosts) == ([B], ("a.example",))


def test_pip_conf_says_more_than_addresses(own_settings: Path) -> None:
    pip_conf(
        own_settings,
        "[global]\nno-index = true\nfind-links = /nowhere\n  https://links.example/\ncert = ~/ca.pem\n"
        "client-cert = /etc/client.pem\nproxy = proxy.example:3128\ntrusted-host = a.example b.example:8443\n"
        "keyring-provider = disabled\nretries = 9\n",
    )
    found = read_settings()
    assert found.no_index and not found.indexes
    assert found.find_links == ("https://links.example/",)
    assert found.cert == own_settings / "ca.pem"
    assert found.client_cert == Path("/etc/client.pem")
    assert found.find_proxy(A) == "http://proxy.example:3128"
    assert found.trusted_hosts == ("a.example", "b.example:8443")
    assert (found.keyring_provider, found.retries) == ("disabled", 9)
    (note,) = found.notes
    assert (note.code, note.subject) == ("find-links-not-there", "/nowhere")


def test_empty_settings_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "CERT", "NO_INDEX", "PROXY", "DEFAULT_TIMEOUT"):
        monkeypatch.setenv("PIP_" + name, "")
    assert read_settings() == Indexes()


def test_a_pip_conf_that_cannot_be_read_is_said(own_settings: Path) -> None:
    path = pip_conf(own_settings, "index-url = https://a.example\n")
    with pytest.raises(SourceError) as caught:
        read_settings()
    assert caught.value.findings[0].subject == str(path)
    assert "cannot be read" in caught.value.findings[0].render()


def test_uvs_variables_and_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", f"first={A} {B}")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"mine={C}")
    found = read_settings()
    assert urls(found) == [A, B, C]
    assert [one.name for one in found.indexes] == ["first", "", "mine"]
    assert urls(read_settings("https://flag.example/simple")) == ["https://flag.example/simple/", A, B]
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    assert urls(read_settings()) == [A, B, C]


def test_uvs_older_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", f"{A} {B}")
    monkeypatch.setenv("UV_INDEX_URL", C)
    monkeypatch.setenv("UV_FIND_LINKS", f"{tmp_path / 'wheels'},https://links.example/")
    monkeypatch.setenv("UV_INSECURE_HOST", "a.example b.example")
    monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
    found = read_settings()
    assert urls(found) == [A, B, C]
    assert found.find_links == (str(tmp_path / "wheels"), "https://links.example/")
    assert (found.trusted_hosts, found.keyring_provider) == (("a.example", "b.example"), "subprocess")


PYPROJECT = f"""
[project]
name = "notes"
[tool.uv]
find-links = ["wheels"]
allow-insecure-host = ["a.example"]
[[tool.uv.index]]
name = "inner"
url = "{A}"
[[tool.uv.index]]
name = "torch"
url = "{B}"
explicit = true
ignore-error-codes = [403]
[tool.uv.sources]
torch = {{ index = "torch" }}
Torch_Vision = [{{ index = "torch", marker = "sys_platform == 'linux'" }}, {{ index = "inner", marker = "sys_platform != 'linux'" }}]
notes-lib = {{ path = "../lib", editable = true }}
"""


def test_the_projects_uv_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    found = read_settings(folder=tmp_path / "deep" / "er")
    assert urls(found) == [A, B, PUBLIC_INDEX_URL]
    assert [one.is_explicit for one in found.indexes] == [False, True, False]
    assert found.indexes[1].missing_statuses == (403,)
    assert found.find_links == (str(tmp_path / "wheels"),)
    assert found.sources == {"torch": "torch"}
    assert found.conditional_sources == {
        "torch-vision": (("torch", 'sys_platform == "linux"'), ("inner", 'sys_platform != "linux"'))
    }
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert read_settings(folder=tmp_path) == Indexes()


def test_uv_toml_stands_before_pyproject_and_the_users_comes_after(
    tmp_path: Path, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "uv.toml").write_text(f'[[index]]\nurl = "{C}"\ndefault = true\n')
    user = clean_environment / ".config/uv/uv.toml"
    user.parent.mkdir(parents=True)
    user.write_text(f'[pip]\nindex-url = "{A}"\nextra-index-url = ["{B}"]\nkeyring-provider = "subprocess"\n')
    found = read_settings()
    assert urls(found) == [B, C]
    assert found.keyring_provider == "subprocess"
    monkeypatch.setenv("UV_CONFIG_FILE", str(user))
    assert urls(read_settings()) == [B, A]


def test_a_uv_toml_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text("[[index]\n")
    with pytest.raises(SourceError, match=r"uv\.toml is not TOML"):
        read_settings()
    (tmp_path / "uv.toml").write_text('[[index]]\nname = "x"\n')
    with pytest.raises(SourceError, match="an index has no url"):
        read_settings()


def test_a_folder_is_an_index_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "simple").mkdir()
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{(tmp_path / 'simple').as_uri()} file:///no/such/simple")
    found = read_settings(str(tmp_path / "simple"))
    assert urls(found) == [(tmp_path / "simple").as_uri() + "/"]
    # a folder that the machine's settings add serves what the others have not; one that was asked for comes first
    assert urls(read_settings()) == [PUBLIC_INDEX_URL, found.indexes[0].url]
    assert urls(read_settings(extra_index_url=[B, str(tmp_path / "simple")])) == [
        B,
        found.indexes[0].url,
        PUBLIC_INDEX_URL,
    ]
    (note,) = found.notes
    assert (note.level, note.code, note.subject) == ("warning", "index-not-there", "file:///no/such/simple/")
    assert "PIP_EXTRA_INDEX_URL" in note.render()


def test_find_links_of_a_flag_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    assert read_settings(find_links=["wheels"]).find_links == (str(tmp_path / "wheels"),)
    with pytest.raises(UsageError) as caught:
        read_settings(find_links=["wheels", "nix", "nothing"])
    assert [one.subject for one in caught.value.findings] == ["nix", "nothing"]


# ------------------------------------------------------------------------------------------------ a requirements file


@dataclass(frozen=True)
class Options:
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()


def test_options_of_a_requirements_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", A)
    found = read_settings(None, [C]).with_options(Options(B, ("https://d.example/simple",), (), False, ("b",)))
    assert urls(found) == [B, C, "https://d.example/simple/"]
    assert found.trusted_hosts == ("b",)


def test_the_command_lines_index_stands_before_the_files() -> None:
    found = read_settings(A).with_options(Options(B, (C,)))
    assert urls(found) == [A, C]


def test_a_requirements_file_may_forbid_indexes(tmp_path: Path) -> None:
    found = read_settings(A).with_options(Options(no_index=True, find_links=(str(tmp_path),)))
    assert (found.indexes, found.no_index, found.find_links) == ((), True, (str(tmp_path),))


# ------------------------------------------------------------------------------------------------ sources


def settings(**sources: Any) -> Indexes:
    tables = [{"name": "inner", "url": A}, {"name": "torch", "url": B, "explicit": True}]
    return read_settings(index=tables, sources=sources)


def test_a_source_is_the_only_index_of_its_project() -> None:
    found = settings(Torch="torch", stone={"index": "inner"}, mortar=C)
    assert [one.url for one in found.select_indexes("torch")] == [B]
    assert [one.url for one in found.select_indexes("Stone")] == [A]
    assert [one.url for one in found.select_indexes("mortar")] == [C]
    assert [one.url for one in found.select_indexes("brick")] == [A, PUBLIC_INDEX_URL]


def test_a_source_may_depend_on_the_target() -> None:
    linux = {"index": "torch", "marker": "sys_platform == 'linux'"}
    found = settings(torch=[linux, {"index": "inner", "marker": "sys_platform == 'win32'"}], stone="inner")
    for platform, expected in (("linux", "torch"), ("win32", "inner"), ("darwin", None)):
        environment = {"sys_platform": platform}
        settled = found.evaluate_sources(lambda marker, given=environment: marker.evaluate(given))  # type: ignore[misc]
        assert settled.sources.get("torch") == expected
        assert settled.sources["stone"] == "inner"
        assert not settled.conditional_sources


def test_one_marker_alone_depends_on_the_target_too() -> None:
    found = settings(torch={"index": "torch", "marker": "sys_platform == 'linux'"})
    assert found.evaluate_sources(lambda marker: False).sources == {}
    assert found.evaluate_sources(lambda marker: marker == Marker("sys_platform == 'linux'")).sources == {
        "torch": "torch"
    }


def test_a_source_without_its_index() -> None:
    with pytest.raises(UsageError, match="no index has that name"):
        settings(stone="outer")
    with pytest.raises(SourceError, match="marker that cannot be read"):
        settings(stone={"index": "inner", "marker": "linux"})


def test_our_own_sources_stand_before_uvs(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    assert read_settings(sources={"torch": "inner"}).sources["torch"] == "inner"


# ------------------------------------------------------------------------------------------------ login


def test_the_login_of_an_index_address_is_never_shown() -> None:
    found = read_settings("https://us%40er:s%2Fecret@a.example/simple/?token=s3cret#s3cret")
    assert urls(found) == [A]
    login = found.find_login("https://a.example/files/stone.whl")
    assert login is not None
    assert (login.user, login.password, str(login.origin)) == ("us@er", "s/ecret", "the index address")
    for shown in (repr(found), str(found), str(found.indexes[0]), repr(login), repr(make_uv_arguments(found)[0])):
        assert "ecret" not in shown and "3cret" not in shown and "us@er" not in shown


def test_a_login_goes_to_its_own_host_only() -> None:
    found = read_settings("https://u:p@a.example/simple", ["https://v:q@b.example:8443/simple"])
    assert found.find_login("https://a.example/x") == found.indexes[0].login
    assert found.find_login("https://b.example:8443/x") == found.indexes[1].login
    for other in ("https://b.example/x", "https://a.example.evil/x", "http://a.example/x", "https://files.example/x"):
        assert found.find_login(other) is None


def test_of_two_indexes_on_a_host_the_nearer_one_lends_its_login() -> None:
    found = read_settings("https://u:p@a.example/one/simple", ["https://v:q@a.example/two/simple"])
    for path, user in (("one/simple/stone/", "u"), ("two/simple/stone/", "v"), ("two/files/x.whl", "v")):
        login = found.find_login(f"https://a.example/{path}")
        assert login is not None and login.user == user


def test_the_login_of_a_named_index_may_be_in_uvs_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", f"in-ner.2={A}")
    monkeypatch.setenv("UV_INDEX_IN_NER_2_USERNAME", "u")
    monkeypatch.setenv("UV_INDEX_IN_NER_2_PASSWORD", "p")
    login = read_settings().find_login(A)
    assert login is not None
    assert (login.user, login.password, login.origin) == ("u", "p", "UV_INDEX_IN_NER_2_PASSWORD")


def test_netrc(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = clean_environment / ".netrc"
    path.write_text("machine a.example login u password p\n")
    login = read_settings(A).find_login("https://a.example:8443/x")
    assert login is not None
    assert (login.user, login.password, login.origin) == ("u", "p", str(path))
    assert read_settings(A).find_login(B) is None
    assert read_settings("https://v:q@a.example/simple").find_login(A).user == "v"  # type: ignore[union-attr]
    monkeypatch.setenv("NETRC", str(tmp_path / "other"))
    assert read_settings(A).find_login(A) is None
    (tmp_path / "other").write_text("machine a.example login w password r\n")
    assert read_settings(A).find_login(A).user == "w"  # type: ignore[union-attr]


def test_where_a_login_was_looked_for(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", f"inner={A}")
    monkeypatch.setattr(auth, "find_keyring", lambda provider: None)
    found = read_settings()
    path = clean_environment / ".netrc"

    def places() -> list[str]:
        return [str(one) for one in found.describe_login_sources(A + "stone/")]

    assert places() == [
        "the index address",
        "UV_INDEX_INNER_PASSWORD",
        f"{path} (no such file)",
        "no keyring (not installed)",
    ]
    path.write_text("machine b.example login u password p\n")
    assert places()[2] == f"{path} (nothing for a.example)"
    path.write_text("machine a.example nonsense\n")
    assert places()[2].startswith(f"{path} (cannot be read: ")
    assert found.find_login(A) is None
    disabled = read_settings(A, keyring_provider="disabled").describe_login_sources(A)
    assert str(disabled[-1]) == "no keyring (--keyring-provider disabled)"


class Keyring(types.ModuleType):
    """A keyring module that knows one login, and who asked."""

    asked: list[tuple[str, str | None]]

    def get_credential(self, service: str, user: str | None) -> Any:
        self.asked.append((service, user))
        if service == A:
            return types.SimpleNamespace(username=user or "u", password="p")
        return None


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    module = Keyring("keyring")
    module.asked = []
    monkeypatch.setitem(sys.modules, "keyring", module)
    return module


def test_the_keyring_is_asked_after_a_refusal_and_once(keyring: Keyring) -> None:
    found = read_settings(A)
    assert found.find_login(A) is None
    assert keyring.asked == []
    for _ in range(2):
        login = found.find_login(A + "stone/", refused=True)
        assert login is not None and (login.user, login.password, str(login.origin)) == ("u", "p", "the keyring")
    assert found.find_login("https://files.example/x", refused=True) is None
    assert keyring.asked == [(A, None), ("files.example", None)]


def test_the_keyring_gets_the_user_of_the_address(keyring: Keyring) -> None:
    found = read_settings("https://me@a.example/simple/")
    login = found.find_login(A, refused=True)
    assert login is not None and login.user == "me"
    assert keyring.asked == [(A, "me")]


def test_no_keyring_where_it_is_disabled(keyring: Keyring) -> None:
    assert read_settings(A, keyring_provider="disabled").find_login(A, refused=True) is None
    assert keyring.asked == []


def test_a_keyring_that_fails_is_none(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no D-Bus")

    monkeypatch.setattr(keyring, "get_credential", fail)
    assert read_settings(A, keyring_provider="import").find_login(A, refused=True) is None


# ------------------------------------------------------------------------------------------------ proxy, trust


def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().find_proxy(A) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://u:p@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inner.example,10.0.0.0/8,127.0.0.1")
    found = read_settings()
    assert found.find_proxy(A) == "http://u:p@proxy.example:3128"
    for direct in ("http://a.example/", "https://x.inner.example/", "https://10.1.2.3/", "https://127.0.0.1:8443/"):
        assert found.find_proxy(direct) is None
    assert read_settings(proxy="other.example:1").find_proxy("https://10.1.2.3/") == "http://other.example:1"
    assert read_settings(proxy="").find_proxy(A) is None
    assert "u:p" not in repr(found)


def test_which_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().cert is None
    for name, value in (("CURL_CA_BUNDLE", "/1.pem"), ("REQUESTS_CA_BUNDLE", "/2.pem"), ("PIP_CERT", "/3.pem")):
        monkeypatch.setenv(name, value)
        assert read_settings().cert == Path(value)
    assert read_settings(cert="/4.pem").cert == Path("/4.pem")


def test_a_certificate_file_that_is_none_is_said_at_once(tmp_path: Path) -> None:
    for option, flag in ((("cert"), "--cert"), ("client_cert", "--client-cert")):
        (tmp_path / "bad.pem").write_text("nothing")
        for path in (tmp_path / "no.pem", tmp_path / "bad.pem"):
            found = read_settings(**{option: path})  # type: ignore[arg-type]
            with pytest.raises(UsageError) as caught:
                open_client(found)
            assert caught.value.findings[0].subject == flag
            assert str(path) in caught.value.findings[0].render()
            open_client(found, offline=True)


def test_trusted_hosts() -> None:
    found = read_settings(trusted_host=["a.example", "b.example:8443"])
    assert found.trusts_host("a.example", 8080) and found.trusts_host("b.example", 8443)
    assert not found.trusts_host("b.example", 443) and not found.trusts_host("b.example", None)


# ------------------------------------------------------------------------------------------------ for uv and pip


def test_uv_gets_the_settings_of_the_indexes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keyring: Keyring) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", "/cache")
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2020-01-01")
    found = read_settings(
        "https://u:p@b.example/simple",
        [A],
        [str(tmp_path), "https://v:q@links.example/"],
        cert="/ca.pem",
        client_cert="/client.pem",
        proxy="http://x:y@proxy.example:1",
        trusted_host=["c.example"],
        index=[{"name": "torch", "url": "https://w:r@d.example/simple", "explicit": True}],
        sources={"torch": "torch"},
    )
    arguments, environment = make_uv_arguments(found)
    assert arguments == [
        *("--index-strategy", "first-index", "--keyring-provider", "disabled"),
        *("--index", "index1=https://b.example/simple/", "--default-index", f"index2={A}"),
        *("--find-links", str(tmp_path), "--allow-insecure-host", "c.example"),
    ]
    proxy = "http://x:y@proxy.example:1"
    assert (
        environment
        == {
            **{"UV_NO_CONFIG": "1", "UV_CACHE_DIR": "/cache", "UV_FIND_LINKS": "https://v:q@links.example/"},
            **{"UV_INDEX_INDEX1_USERNAME": "u", "UV_INDEX_INDEX1_PASSWORD": "p"},
            **{"UV_INDEX_INDEX2_USERNAME": "u", "UV_INDEX_INDEX2_PASSWORD": "p"},
            **{"UV_INDEX_INDEX3_USERNAME": "w", "UV_INDEX_INDEX3_PASSWORD": "r"},
            **{"SSL_CERT_FILE": "/ca.pem", "SSL_CLIENT_CERT": "/client.pem"},
            **dict.fromkeys(
                ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"], proxy
            ),
            **{"NO_PROXY": "", "no_proxy": ""},
        }
        | {}
    )
    assert keyring.asked == [(A, None)]


def test_uv_gets_no_index(tmp_path: Path) -> None:
    arguments, _ = make_uv_arguments(read_settings(no_index=True, find_links=[str(tmp_path)]))
    assert arguments[4:] == ["--no-index", "--find-links", str(tmp_path)]


def test_the_keyring_is_not_asked_about_the_public_index(keyring: Keyring) -> None:
    _, environment = make_uv_arguments(read_settings())
    assert keyring.asked == []
    assert environment == {"UV_NO_CONFIG": "1", "UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}


def test_uvs_project_for_sources() -> None:
    found = settings(torch="torch", stone="inner")
    assert make_uv_project(found, ["brick>=1"]) == ""
    made = tomllib.loads(make_uv_project(found, ['Torch[cuda]>=2; sys_platform == "linux"', "brick"]))
    assert made["project"]["dependencies"] == ['Torch[cuda]>=2; sys_platform == "linux"']
    assert made["tool"]["uv"]["sources"] == {"torch": {"index": "index2"}}
    assert made["tool"]["uv"]["index"] == [{"name": "index2", "url": B, "explicit": True}]


def test_pip_gets_the_settings_of_the_indexes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my wheels").mkdir()
    found = read_settings(
        "https://u%40:p%20@a.example/simple",
        [B],
        [str(tmp_path / "my wheels")],
        cert="/ca.pem",
        trusted_host=["c.example", "d.example"],
        proxy="proxy.example:1",
        keyring_provider="disabled",
    )
    arguments, environment = make_pip_arguments(found)
    proxy = "http://proxy.example:1"
    assert arguments == []
    assert environment == {
        **{"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        **{"PIP_INDEX_URL": "https://u%40:p%20@a.example/simple/", "PIP_EXTRA_INDEX_URL": B},
        **{"PIP_FIND_LINKS": (tmp_path / "my wheels").as_uri(), "PIP_TRUSTED_HOST": "c.example d.example"},
        **{"PIP_CERT": "/ca.pem", "REQUESTS_CA_BUNDLE": "/ca.pem", "PIP_PROXY": "proxy.example:1"},
        **{"PIP_KEYRING_PROVIDER": "disabled", "NO_PROXY": "", "no_proxy": ""},
        **dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"], proxy),
    }
    assert make_pip_arguments(read_settings(no_index=True))[1]["PIP_NO_INDEX"] == "1"


# ------------------------------------------------------------------------------------------------ pages


class Pages:
    """A client that has these pages."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    def fetch_page(self, url: str, accept: str = "") -> Page | None:
        self.asked.append(url)
        return self.pages.get(url)


def served(text: str, kind: str = "text/html", url: str = A + "stone/") -> Any:
    return Pages({url: Page(url, kind, text)})


HTML = """<!DOCTYPE html><html><head><base href="https://files.example/base/"></head><body>
<a href="#top">top</a>
<a href="stone-1.0-py3-none-any.whl#sha256=ABCDEF" data-requires-python="&gt;=3.8" data-yanked="broken"
   data-core-metadata="sha256=0123" data-upload-time="2024-01-02T03:04:05.123456Z">stone-1.0-py3-none-any.whl</a>
<a href="https://u:p@other.example/stone-2.0.tar.gz?sig=s3cret#md5=aa" data-yanked>stone-2.0.tar.gz</a>
<a href="/stone-2.0.exe">stone-2.0.exe</a> <a href="/mortar-1.0.tar.gz">mortar-1.0.tar.gz</a>
</body></html>"""


def test_a_html_page() -> None:
    wheel, sdist = find_project_files("Stone", read_settings(A), served(HTML))
    assert (wheel.filename, wheel.url) == (
        "stone-1.0-py3-none-any.whl",
        "https://files.example/base/stone-1.0-py3-none-any.whl",
    )
    assert (wheel.sha256, wheel.size, wheel.requires_python) == ("abcdef", None, ">=3.8")
    assert (wheel.is_yanked, wheel.yanked_reason) == (True, "broken")
    assert (wheel.has_metadata, wheel.metadata_sha256, str(wheel.version)) == (True, "0123", "1.0")
    assert wheel.upload_datetime is not None and wheel.upload_datetime.isoformat() == "2024-01-02T03:04:05.123456+00:00"
    assert (sdist.filename, sdist.url) == ("stone-2.0.tar.gz", "https://other.example/stone-2.0.tar.gz")
    assert (sdist.hashes, sdist.sha256, sdist.is_wheel) == ({"md5": "aa"}, None, False)
    assert (sdist.is_yanked, sdist.yanked_reason, sdist.upload_datetime) == (True, "", None)
    assert sdist.index == Index(A, is_default=True, origin="--index-url")


def simple_json(**more: Any) -> str:
    file = {
        "filename": "stone-1.0-py3-none-any.whl",
        "url": "../../files/stone-1.0-py3-none-any.whl",
        "hashes": {"sha256": "ab", "blake2b": "cd"},
        "size": 123,
        "requires-python": ">=3.8",
        "yanked": False,
        "upload-time": "2024-01-02T03:04:05Z",
        "dist-info-metadata": True,
        "core-metadata": {"sha256": "ef"},
    }
    return json.dumps({"meta": {"api-version": "1.4"}, "name": "stone", "files": [file], **more})


JSON = "application/vnd.pypi.simple.v1+json"


def test_a_json_page() -> None:
    status = {"project-status": {"status": "archived", "reason": "gone home"}}
    found = find_project("stone", read_settings(A), served(simple_json(**status), JSON))
    assert found is not None
    (wheel,) = found.files
    assert (found.status, found.status_reason) == ("archived", "gone home")
    assert wheel.url == "https://a.example/files/stone-1.0-py3-none-any.whl"
    assert (wheel.hashes, wheel.size, wheel.is_yanked) == ({"sha256": "ab", "blake2b": "cd"}, 123, False)
    assert (wheel.has_metadata, wheel.metadata_sha256) == (True, "ef")
    assert wheel.upload_datetime is not None and wheel.upload_datetime.year == 2024


def test_a_page_without_files_is_a_project_without_files() -> None:
    assert find_project_files("stone", read_settings(A), served("<!DOCTYPE html><html><body></body></html>")) == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("", "text/html"),
        ("it works!", "text/html"),
        ("\x00\x01\x02", "text/html"),
        ("<html><body><form action='/login'><input name='password'></form></body></html>", "text/html"),
        ("<html></html>", "text/plain"),
        ("{}", JSON),
        ("[1, 2]", JSON),
        ("not json", JSON),
        ('{"meta": {"api-version": "2.0"}, "name": "stone", "files": []}', JSON),
        ('{"meta": {"api-version": "1.0"}, "name": "stone", "files": [{"filename": 1, "url": 2}]}', JSON),
        ('{"meta": {"api-version": "1.0"}, "name": "stone", "files": {"a": 1}}', JSON),
        ('{"meta": {"api-version": "1.0"}, "files": []}', "application/vnd.pypi.simple.v2+json"),
        ('<html><meta name="pypi:repository-version" content="2.0"><a href="x-1.0.tar.gz">x</a></html>', "text/html"),
    ],
)
def test_what_is_no_page_of_an_index(content: str, kind: str) -> None:
    with pytest.raises(FetchError) as caught:
        find_project_files("stone", read_settings(A), served(content, kind))
    (finding,) = caught.value.findings
    assert (finding.code, finding.subject) == ("not-an-index", A + "stone/")
    assert kind in finding.render()


def test_the_first_index_that_has_the_name_wins() -> None:
    client: Any = Pages(
        {f"{index}stone/": Page(f"{index}stone/", JSON, simple_json()) for index in (B, C)}
        | {A + "mortar/": Page(A + "mortar/", "text/html", "<html>")}
    )
    found = read_settings(A, [B, C])
    project = find_project("stone", found, client)
    assert project is not None and project.index is not None and project.index.url == B
    assert client.asked == [A + "stone/", B + "stone/"]
    assert [str(one.index) for one in find_shadowed_projects("stone", found, client)] == [C]
    assert find_project("brick", found, client) is None
    with pytest.raises(FetchError) as caught:
        find_project_files("brick", found, client)
    assert caught.value.findings[0].code == "project-not-found"
    for index in (A, B, C):
        assert index in caught.value.findings[0].render()


def test_find_links_are_added_whichever_index_wins(tmp_path: Path) -> None:
    (tmp_path / "stone-3.0-py3-none-any.whl").write_bytes(b"123")
    (tmp_path / "readme.txt").write_text("")
    found = read_settings(A, find_links=[str(tmp_path)])
    files = find_project_files("stone", found, served(simple_json(), JSON))
    assert [(one.filename, one.size) for one in files] == [
        ("stone-1.0-py3-none-any.whl", 123),
        ("stone-3.0-py3-none-any.whl", 3),
    ]
    assert files[1].url == (tmp_path / "stone-3.0-py3-none-any.whl").as_uri()
    alone = find_project("stone", read_settings(no_index=True, find_links=[str(tmp_path)]), served(""))
    assert alone is not None and alone.index is None and len(alone.files) == 1


def test_a_folder_as_index(tmp_path: Path) -> None:
    page = tmp_path / "simple/stone/index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<html><a href="../../files/stone-1.0.tar.gz#sha256=ab">stone-1.0.tar.gz</a></html>')
    found = read_settings(str(tmp_path / "simple"))
    with open_client(found, offline=True) as client:
        (file,) = find_project_files("stone", found, client)
        assert file.url == (tmp_path / "files/stone-1.0.tar.gz").as_uri()
        assert find_project("mortar", found, client) is None


# ------------------------------------------------------------------------------------------------ addresses


def test_addresses_without_their_secrets() -> None:
    assert redact_url("https://u:p@a.example:8443/x/y.whl?sig=1#sha256=2") == "https://a.example:8443/x/y.whl"
    assert split_credentials("https://a.example/x?y#z") == ("https://a.example/x?y#z", None)
    bare, login = split_credentials("https://u%3A:p%40@a.example/x")
    assert (bare, login and login.user, login and login.password) == ("https://a.example/x", "u:", "p@")


def test_which_addresses_are_local() -> None:
    assert get_local_path("https://a.example/x") is None
    assert get_local_path("/a b/x.whl") == Path("/a b/x.whl")
    assert get_local_path("file:///a%20b/x.whl#sha256=1") == Path("/a b/x.whl")
    assert get_local_path("file://localhost/x.whl") == Path("/x.whl")


def test_which_addresses_are_public() -> None:
    assert is_public_index_url(PUBLIC_INDEX_URL) and is_public_index_url(
        PUBLIC_INDEX_URL.replace("/simple/", "/packages/stone.whl")
    )
    host = PUBLIC_INDEX_URL.partition("://")[2].partition("/")[0]
    for other in (A, f"http://{host}/simple", f"https://{host}.evil.example/", f"https://u@{host}/"):
        assert not is_public_index_url(other)


def test_a_signed_address_is_kept_apart() -> None:
    found = Indexes()
    assert found.hide_secrets("https://a.example/x.whl?sig=s3cret#sha256=1") == "https://a.example/x.whl"
    assert found.restore_secrets("https://a.example/x.whl") == "https://a.example/x.whl?sig=s3cret#sha256=1"
    assert found.hide_secrets("https://a.example/y.whl#sha256=1") == "https://a.example/y.whl"
    assert found.evaluate_sources(lambda marker: True).restore_secrets("https://a.example/x.whl").endswith("#sha256=1")
    assert "s3cret" not in repr(found)
