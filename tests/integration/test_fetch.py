"""Files and pages from a server that misbehaves: what is mended by itself, and what each failure reads like."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinepack.errors import ComputerError, FetchError, IntegrityError, OfflinepackError
from offlinepack.index.settings import read_settings
from offlinepack.index.simple_api import find_project_files
from offlinepack.net.client import Client, open_client
from offlinepack.net.download import DownloadQueue, query_sizes
from offlinepack.net.model import DownloadRequest
from offlinepack.store import Store, StoredFile, _open_exclusively
from tests.support.making import (
    ServedIndex,
    free_port,
    make_sdist,
    make_wheel,
    serve_index,
    serve_proxy,
    sha256_of,
    wait_until,
)

SIZE = 200_000


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    for name in ("stone", "mortar", "brick"):
        make_wheel(tmp_path / "wheels", name, "1.0", size=SIZE)
    return tmp_path / "wheels"


@pytest.fixture
def index(tmp_path: Path, wheels: Path) -> Iterator[ServedIndex]:
    with serve_index(tmp_path, wheels) as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def name(project: str) -> str:
    return f"{project}-1.0-py3-none-any.whl"


def wanted(index: ServedIndex, project: str = "stone", **more: Any) -> DownloadRequest:
    served = index.files[name(project)]
    return DownloadRequest(index.file_url(name(project)), name(project), more.pop("sha256", served.sha256), **more)


def client_for(index: ServedIndex, **more: Any) -> Client:
    settings = {key: more.pop(key) for key in list(more) if key not in ("retries", "timeout", "offline")}
    return open_client(read_settings(index.url, **settings), **{"retries": 3, "timeout": 5.0, **more}, pause=0.01)


def get(index: ServedIndex, store: Store, *files: DownloadRequest, **more: Any) -> list[StoredFile]:
    with client_for(index, **more) as client:
        return sorted(DownloadQueue(store, client).fetch_files(files), key=lambda one: one.name)


def failure(act: Callable[[], Any]) -> OfflinepackError:
    with pytest.raises(OfflinepackError) as caught:
        act()
    return caught.value


def said(act: Callable[[], Any]) -> str:
    """The one finding's sentence and advice; it is an error of exit code 6."""
    error = failure(act)
    assert error.exit_code == 6, error
    (finding,) = error.findings
    return finding.render()


def left(store: Store) -> list[str]:
    return sorted(one.parent.name + "/" + one.name for one in store.path.rglob("*") if one.is_file())


# ------------------------------------------------------------------------------------------------ the good way


def test_files_come_into_the_store_and_the_second_time_from_it(index: ServedIndex, store: Store, wheels: Path) -> None:
    all_three = [wanted(index, one) for one in ("stone", "mortar", "brick")]
    first = get(index, store, *all_three)
    assert [one.name for one in first] == [name(one) for one in ("brick", "mortar", "stone")]
    for one in first:
        assert one.path.read_bytes() == (wheels / one.name).read_bytes()
    index.requests.clear()
    assert get(index, store, *all_three) == first
    assert not index.requests


def test_one_file_under_two_names_is_fetched_once(index: ServedIndex, store: Store) -> None:
    one = wanted(index)
    found = get(index, store, one, DownloadRequest(one.url, "other-1.0-py3-none-any.whl", one.sha256), one)
    assert [file.name for file in found] == ["other-1.0-py3-none-any.whl", name("stone"), name("stone")]
    assert index.count(name("stone")) == 1


def test_what_was_begun_comes_once_and_what_nobody_wants_any_more_may_fail(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), hang=0.3)
    gone = DownloadRequest(f"{index.root}/files/no-such.whl", "no-such.whl", "0" * 64)
    came: list[str] = []
    with client_for(index) as client:
        downloads = DownloadQueue(store, client, arrived=lambda one: came.append(one.name))
        downloads.prefetch([wanted(index), gone])
        downloads.prefetch([wanted(index)])
        (found,) = downloads.fetch_files([wanted(index)])
        assert found.sha256 == wanted(index).sha256
        assert failure(lambda: list(downloads.fetch_files([gone]))).findings[0].subject == "no-such.whl"
    assert index.count(name("stone")) == 1
    assert came == [name("stone")]


def test_another_process_may_bring_a_file_just_after_it_was_looked_for(
    index: ServedIndex, store: Store, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truly = store.get

    def get_and_then_it_comes(sha256: str, name: str) -> StoredFile | None:
        found = truly(sha256, name)
        if found is None:
            store.add_file(wheels / name)
        return found

    monkeypatch.setattr(store, "get", get_and_then_it_comes)
    (found,) = get(index, store, wanted(index))
    assert found.sha256 == wanted(index).sha256


def test_connections_are_used_again(index: ServedIndex, store: Store, tmp_path: Path) -> None:
    made = [make_wheel(tmp_path / "many", f"tile{number}", "1.0") for number in range(40)]
    many = []
    for path in made:
        served = index.add(path)
        many.append(DownloadRequest(index.file_url(path.name), path.name, served.sha256))
    with client_for(index) as client:
        assert len(list(DownloadQueue(store, client, 4).fetch_files(many))) == 40
    assert index.most_connections <= 4


def test_each_address_of_a_host_is_tried(
    index: ServedIndex, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [make_wheel(tmp_path / "more", f"grain{n}", "1.0") for n in range(12)]
    truly = socket.getaddrinfo

    def looked_up(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host != "quarry.example":
            return truly(host, port, *rest, **more)
        # nothing listens at the first
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    for one in made:
        index.add(one)
    files = [
        DownloadRequest(f"http://quarry.example:{index.port}/files/{one.name}", one.name, sha256_of(one))
        for one in made
    ]
    assert len(get(index, store, *files)) == 12
    assert index.most_connections > 1


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as asked:
        asked.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
def test_an_address_of_ipv6_stands_in_brackets(store: Store, wheels: Path) -> None:
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6

    folder = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(wheels))
    with Server(("::1", 0), folder) as server, open_client(read_settings(no_index=True), retries=0) as client:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://[::1]:{server.server_address[1]}/{name('stone')}"
        (file,) = DownloadQueue(store, client).fetch_files([DownloadRequest(url, name("stone"))])
        server.shutdown()
    assert file.sha256 == sha256_of(wheels / name("stone"))


def test_without_a_hash_the_file_gets_its_own(index: ServedIndex, store: Store) -> None:
    (found,) = get(index, store, wanted(index, sha256=None))
    assert found.sha256 == index.files[name("stone")].sha256
    assert left(store) == [f"{found.sha256[:2]}/{found.sha256}"]


def test_other_hashes_are_checked_too(index: ServedIndex, store: Store) -> None:
    content = index.files[name("stone")].path.read_bytes()
    get(index, store, wanted(index, sha256=None, hashes={"md5": hashlib.md5(content).hexdigest()}))
    error = failure(lambda: get(index, store, wanted(index, sha256=None, hashes={"sha512": "0" * 128})))
    assert (type(error), error.exit_code) == (IntegrityError, 7)


def test_local_files_and_addresses_of_files(index: ServedIndex, store: Store, wheels: Path) -> None:
    path = wheels / name("stone")
    for url in (str(path), path.as_uri(), path.as_uri() + "#sha256=0"):
        with Store.open(None) as fresh:
            (found,) = get(index, fresh, DownloadRequest(url, path.name, sha256_of(path)), offline=True)
            assert found.path.read_bytes() == path.read_bytes()
    assert failure(lambda: get(index, store, DownloadRequest(str(path), path.name, "0" * 64))).exit_code == 7
    assert "cannot be read at" in said(lambda: get(index, store, DownloadRequest(str(wheels / "x.whl"), "x.whl")))


def test_a_redirect_is_followed(index: ServedIndex, store: Store) -> None:
    index.fault("/moved/stone.whl", redirect=index.file_url(name("stone")))
    index.fault("/further/stone.whl", redirect="/moved/stone.whl")
    sha256 = index.files[name("stone")].sha256
    assert get(index, store, DownloadRequest(index.root + "/further/stone.whl", name("stone"), sha256))
    index.fault("/moved/stone.whl", redirect="/further/stone.whl")
    round_ = DownloadRequest(index.root + "/moved/stone.whl", name("brick"), "0" * 64)
    assert "from one address to the next without end" in said(lambda: get(index, store, round_))


def test_a_compressed_answer_is_unpacked_but_an_archive_is_left_alone(
    index: ServedIndex, store: Store, tmp_path: Path
) -> None:
    index.fault(name("stone"), gzipped=True)
    assert get(index, store, wanted(index))
    # a server that calls a .tar.gz gzip-encoded, and means the file
    sdist = make_sdist(tmp_path / "sdists", "slate", "1.0")
    index.fault("/slate-1.0.tar.gz", body=sdist.read_bytes(), headers={"Content-Encoding": "gzip"})
    assert get(index, store, DownloadRequest(index.root + "/slate-1.0.tar.gz", sdist.name, sha256_of(sdist)))


def test_sizes_without_fetching(index: ServedIndex, store: Store, wheels: Path) -> None:
    get(index, store, wanted(index, "brick"))
    asked = [
        wanted(index),
        wanted(index, "mortar", size=5),
        wanted(index, "brick"),
        DownloadRequest(str(wheels / name("stone")), "s"),
    ]
    gone = DownloadRequest(index.file_url("gone-1.0.whl"), "gone-1.0.whl", "0" * 64)
    real = {path.name: path.stat().st_size for path in wheels.iterdir()}
    index.requests.clear()
    with client_for(index) as client:
        found = query_sizes([*asked, gone], store, client)
    assert found == {
        name("stone"): real[name("stone")],
        name("mortar"): 5,
        name("brick"): real[name("brick")],
        "s": real[name("stone")],
        "gone-1.0.whl": None,
    }
    assert [method for method, *_ in index.log][-2:] == ["HEAD", "HEAD"]


# ------------------------------------------------------------------------------------------------ mended by itself


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_passing_trouble_passes(index: ServedIndex, store: Store, status: int) -> None:
    index.fault(name("stone"), status=status, times=2)
    assert get(index, store, wanted(index))
    assert index.count(name("stone")) == 3


def test_the_servers_wish_for_a_pause_holds_for_all(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), status=429, times=1, headers={"Retry-After": "1"})
    began = time.monotonic()
    get(index, store, wanted(index))
    assert 1 <= time.monotonic() - began < 10


def test_too_long_a_pause_is_a_failure(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), status=503, headers={"Retry-After": "3600"})
    began = time.monotonic()
    assert "answered 503" in said(lambda: get(index, store, wanted(index)))
    assert time.monotonic() - began < 5 and index.count(name("stone")) == 1


def test_a_connection_that_breaks_off_again_and_again_is_resumed(index: ServedIndex, store: Store) -> None:
    """More often than --retries: each time some bytes came."""
    index.fault(name("stone"), drop_at=20_000)
    assert get(index, store, wanted(index), retries=1)
    ranges = [headers.get("range") for _, path, headers in index.log if path.endswith(name("stone"))]
    assert ranges[:3] == [None, "bytes=20000-", "bytes=40000-"]
    assert len(ranges) > 10


def test_a_partial_file_is_resumed_by_the_next_run(index: ServedIndex, store: Store) -> None:
    fault = index.fault(name("stone"), drop_at=50_000, times=1)
    said(lambda: get(index, store, wanted(index), retries=0))
    sha256 = index.files[name("stone")].sha256
    assert left(store) == [f"partial/{sha256}"]
    assert fault.times == 0
    get(index, store, wanted(index), retries=0)
    assert index.log[-1][2]["range"] == "bytes=50000-"
    assert left(store) == [f"{sha256[:2]}/{sha256}"]


def test_without_a_known_hash_only_the_same_file_is_resumed(index: ServedIndex, store: Store, tmp_path: Path) -> None:
    one = wanted(index, sha256=None)
    index.fault(name("stone"), drop_at=50_000, times=1)
    said(lambda: get(index, store, one, retries=0))
    changed = make_wheel(tmp_path / "changed", "stone", "1.0", size=SIZE, headers={"Summary": "another"})
    index.add(changed)
    (found,) = get(index, store, one, retries=0)
    assert index.log[-1][2]["if-range"].startswith('"')
    assert found.sha256 == sha256_of(changed)


def test_without_a_hash_and_an_etag_it_begins_anew(index: ServedIndex, store: Store) -> None:
    index.etags = False
    index.fault(name("stone"), drop_at=50_000, times=1)
    assert get(index, store, wanted(index, sha256=None))
    assert "range" not in index.log[-1][2]


def test_a_server_without_range(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), drop_at=50_000, times=1)
    said(lambda: get(index, store, wanted(index), retries=0))
    index.fault(name("stone"), no_range=True)
    assert get(index, store, wanted(index))


def test_a_server_that_answers_with_another_range(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), drop_at=50_000, times=1)
    said(lambda: get(index, store, wanted(index), retries=0))
    index.fault(name("stone"), bad_range=True, times=1)
    assert get(index, store, wanted(index))


@pytest.mark.parametrize("rubbish", [b"rubbish", b"rubbish" * 100_000])
def test_a_part_that_is_not_of_this_file_is_thrown_away(index: ServedIndex, store: Store, rubbish: bytes) -> None:
    sha256 = index.files[name("stone")].sha256
    (store.path / "partial").mkdir(parents=True)
    (store.path / "partial" / sha256).write_bytes(rubbish)
    assert get(index, store, wanted(index))
    assert left(store) == [f"{sha256[:2]}/{sha256}"]


def test_a_whole_part_needs_no_request(index: ServedIndex, store: Store) -> None:
    served = index.files[name("stone")]
    (store.path / "partial").mkdir(parents=True)
    (store.path / "partial" / served.sha256).write_bytes(served.path.read_bytes())
    assert get(index, store, wanted(index))
    assert not index.requests


def test_a_slow_server_is_borne(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), drip=0.05, piece=20_000)
    assert get(index, store, wanted(index), timeout=0.5)
    assert index.count(name("stone")) == 1


def test_a_silent_server_is_tried_again(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), hang=30, times=1)
    assert get(index, store, wanted(index), timeout=0.3)


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_store_heals_itself(index: ServedIndex, store: Store, how: str) -> None:
    (found,) = get(index, store, wanted(index))
    content = found.path.read_bytes()
    found.path.write_bytes(content[:1000] if how == "cut" else content[:-1] + b"?")
    assert get(index, store, wanted(index)) == [found]
    assert found.path.read_bytes() == content


def test_two_threads_and_one_store(index: ServedIndex, store: Store) -> None:
    """As two builds at once: both get whole files, nothing is left over."""
    for one in index.files:
        index.fault(one, drip=0.01, piece=20_000)
    results: list[list[StoredFile]] = []

    def build() -> None:
        all_three = [wanted(index, one) for one in ("stone", "mortar", "brick")]
        results.append(get(index, Store(store.path), *all_three))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and results[0] == results[1] == results[2]
    assert len(left(store)) == 3


PROGRAM = """
import sys
from pathlib import Path
from offlinepack.index.settings import read_settings
from offlinepack.net.client import open_client
from offlinepack.net.download import DownloadQueue
from offlinepack.net.model import DownloadRequest
from offlinepack.store import Store
indexes = read_settings(sys.argv[1])
with open_client(indexes) as client:
    for one in DownloadQueue(Store(Path(sys.argv[2])), client).fetch_files([DownloadRequest(*sys.argv[3:6])]):
        print(one.size)
"""


def program(index: ServedIndex, store: Store) -> subprocess.Popen[str]:
    one = wanted(index)
    command = [sys.executable, "-c", PROGRAM, index.url, str(store.path), one.url, one.name, str(one.sha256)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_is_taken_up_where_it_ended(index: ServedIndex, store: Store) -> None:
    sha256 = index.files[name("stone")].sha256
    index.fault(name("stone"), drip=0.05, piece=5_000)
    running = program(index, store)
    partial = store.path / "partial" / sha256
    wait_until(lambda: partial.exists() and partial.stat().st_size > 10_000, 30)
    running.kill()
    running.communicate()
    index.faults.clear()
    size = partial.stat().st_size
    assert get(index, store, wanted(index))
    assert index.log[-1][2]["range"] == f"bytes={size}-"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupted_run_ends_soon(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), hang=60)
    running = program(index, store)
    wait_until(lambda: index.count(name("stone")) > 0, 30)
    time.sleep(0.3)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert time.monotonic() - began < 25  # at most one time-out
    assert running.returncode != 0


def test_two_processes_and_one_file(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), drip=0.02, piece=5_000)
    running = [program(index, store) for _ in range(2)]
    assert [one.communicate(timeout=60)[0] for one in running] == [
        f"{index.files[name('stone')].path.stat().st_size}\n"
    ] * 2
    assert len(left(store)) == 1


# ------------------------------------------------------------------------------------------------ what is said


def test_every_failure_is_reported_each_in_a_sentence(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), status=404)
    index.fault(name("mortar"), status=500)
    error = failure(lambda: get(index, store, *(wanted(index, one) for one in ("stone", "brick", "mortar")), retries=1))
    assert isinstance(error, FetchError) and error.exit_code == 6
    assert [(one.code, one.subject) for one in error.findings] == [
        ("server-error", name("mortar")),
        ("file-not-found", name("stone")),
    ]
    host = index.root.partition("://")[2]
    assert error.findings[0].sentence.render() == f"{name('mortar')}: {host} answered 500 Internal Server Error."
    assert error.findings[1].sentence.render() == f"{name('stone')}: {host} has no such file (404)."
    assert index.count(name("mortar")) == 2
    # what could be had is kept
    assert store.get(str(wanted(index, "brick").sha256)) is not None


def test_a_wrong_hash_names_file_expected_and_actual(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), corrupt=True)
    index.fault(name("brick"), status=404)
    error = failure(lambda: get(index, store, wanted(index), wanted(index, "brick")))
    assert (type(error), error.exit_code) == (IntegrityError, 7)
    found = {one.code: one for one in error.findings}
    assert set(found) == {"hash-mismatch", "file-not-found"}
    content = index.files[name("stone")].path.read_bytes()
    actual = hashlib.sha256(content[:-1] + bytes([content[-1] ^ 0xFF])).hexdigest()
    sentence = found["hash-mismatch"].sentence.render()
    for part in (name("stone"), index.file_url(name("stone")), str(wanted(index).sha256), actual):
        assert part in sentence
    assert index.count(name("stone")) == 1
    assert left(store) == []


def test_another_size_than_promised(index: ServedIndex, store: Store) -> None:
    error = failure(lambda: get(index, store, wanted(index, size=1000)))
    assert (error.exit_code, error.findings[0].code) == (7, "size-mismatch")
    error = failure(lambda: get(index, store, wanted(index, sha256=None, size=10**6), retries=0))
    assert (error.exit_code, error.findings[0].code) == (7, "size-mismatch")
    assert left(store) == []


def test_a_file_that_ends_too_early(index: ServedIndex, store: Store) -> None:
    size = index.files[name("stone")].path.stat().st_size
    index.fault(name("stone"), no_length=True, drop_at=1000, no_range=True)
    words = said(lambda: get(index, store, wanted(index, size=size), retries=1))
    assert f"ended after 1000 bytes ({size} were announced)" in words
    assert "it goes on where it ended" in words


def test_a_login_that_is_missing(index: ServedIndex, store: Store, clean_environment: Path) -> None:
    index.auth = ("user", "pass")
    words = said(lambda: get(index, store, wanted(index)))
    assert "wants a login (401), and no credentials were found; looked in: the index address, " in words
    assert f"{clean_environment / '.netrc'} (no such file)" in words
    assert "'machine 127.0.0.1 login USER" in words
    assert index.count(name("stone")) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_is_refused(index: ServedIndex, store: Store, clean_environment: Path, status: int) -> None:
    index.auth, index.forbidden = ("user", "pass"), status
    netrc = clean_environment / ".netrc"
    netrc.write_text("machine 127.0.0.1 login user password s3cret\n")
    words = said(lambda: get(index, store, wanted(index)))
    assert f"refused the login from {netrc} ({status})" in words
    assert "s3cret" not in words
    netrc.write_text("machine 127.0.0.1 login user password pass\n")
    assert get(index, store, wanted(index))


def test_an_unknown_host(index: ServedIndex, store: Store) -> None:
    nowhere = DownloadRequest("http://no-such-host.invalid/stone.whl", name("stone"), "0" * 64)
    words = said(lambda: get(index, store, nowhere, retries=1))
    assert words.startswith(f"{name('stone')}: the name no-such-host.invalid cannot be resolved.")


def test_nobody_listens(index: ServedIndex, store: Store) -> None:
    port = free_port()
    nowhere = DownloadRequest(f"http://127.0.0.1:{port}/stone.whl", name("stone"), "0" * 64)
    words = said(lambda: get(index, store, nowhere, retries=1))
    assert words.startswith(f"{name('stone')}: no connection to 127.0.0.1:{port}: Connection refused.")


def test_a_host_that_is_down_is_not_waited_for_again_and_again(index: ServedIndex, store: Store) -> None:
    port = free_port()
    many = [DownloadRequest(f"http://127.0.0.1:{port}/{n}.whl", f"{n}.whl", f"{n:064x}") for n in range(100)]
    began = time.monotonic()
    with open_client(read_settings(index.url), retries=4, pause=0.1) as client:
        error = failure(lambda: list(DownloadQueue(store, client).fetch_files(many)))
    assert len(error.findings) == 100
    assert time.monotonic() - began < 10


def test_a_server_that_keeps_silent(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), hang=30)
    words = said(lambda: get(index, store, wanted(index), timeout=0.2, retries=1))
    assert "kept silent for 0.2 seconds" in words and "--timeout" in words
    assert index.count(name("stone")) == 2


def test_a_server_that_falls_silent_within_a_file(index: ServedIndex, store: Store) -> None:
    index.fault(name("stone"), drip=30, piece=50_000)
    words = said(lambda: get(index, store, wanted(index), timeout=0.3, retries=0))
    assert "kept silent" in words
    assert (store.path / "partial" / str(wanted(index).sha256)).stat().st_size == 50_000


def test_an_address_of_another_kind(index: ServedIndex, store: Store) -> None:
    words = said(lambda: get(index, store, DownloadRequest("ftp://a.example/stone.whl", name("stone"))))
    assert "an address that begins with 'ftp:'" in words


def test_offline_takes_only_what_is_there_and_lists_the_rest(index: ServedIndex, store: Store) -> None:
    get(index, store, wanted(index))
    index.requests.clear()
    assert len(get(index, store, wanted(index), offline=True)) == 1
    error = failure(
        lambda: get(index, store, *(wanted(index, one) for one in ("stone", "brick", "mortar")), offline=True)
    )
    assert error.exit_code == 6
    assert [(one.code, one.subject) for one in error.findings] == [
        ("not-in-store", name("brick")),
        ("not-in-store", name("mortar")),
    ]
    assert not index.requests


def test_a_full_disk_ends_it_at_once(index: ServedIndex, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, block: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    real = _open_exclusively
    monkeypatch.setattr("offlinepack.store._open_exclusively", lambda path: Full(real(path)))
    index.fault(name("mortar"), hang=30)
    began = time.monotonic()
    error = failure(lambda: get(index, store, wanted(index), wanted(index, "mortar"), timeout=20))
    assert (type(error), error.exit_code, error.findings[0].code) == (ComputerError, 12, "disk-full")
    assert time.monotonic() - began < 10
    # but for what a thread that still listens to a silent server may hold
    assert all((store.path / one).stat().st_size == 0 for one in left(store))


# ------------------------------------------------------------------------------------------------ TLS


def test_an_authority_that_nobody_knows(tmp_path: Path, wheels: Path, store: Store) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index:
        words = said(lambda: get(index, store, wanted(index)))
        assert "comes from an authority that this machine does not know" in words
        assert "--cert FILE" in words
        assert get(index, store, wanted(index), cert=index.ca)


def test_a_trusted_host_is_not_checked(tmp_path: Path, wheels: Path, store: Store) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index:
        assert get(index, store, wanted(index), trusted_host=["localhost"])


def test_the_systems_variable_for_authorities(
    tmp_path: Path, wheels: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index:
        monkeypatch.setenv("SSL_CERT_FILE", str(index.ca))
        assert get(index, store, wanted(index))


def test_a_client_certificate(tmp_path: Path, wheels: Path, store: Store) -> None:
    with serve_index(tmp_path, wheels, client_certificate=True) as index:
        words = said(lambda: get(index, store, wanted(index), cert=index.ca))
        assert "wants a client certificate" in words and "--client-cert FILE" in words
        assert get(index, store, wanted(index), cert=index.ca, client_cert=index.client_cert)


def test_a_server_that_asks_for_a_client_certificate_in_words(tmp_path: Path, wheels: Path, store: Store) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index:
        index.fault(name("stone"), status=400, body=b"<html>400 No required SSL certificate was sent</html>")
        assert "wants a client certificate" in said(lambda: get(index, store, wanted(index), cert=index.ca))


def test_the_wrong_name(tmp_path: Path, wheels: Path, store: Store) -> None:
    with serve_index(tmp_path, wheels, tls=True, tls_names=["other.example"]) as index:
        words = said(lambda: get(index, store, wanted(index), cert=index.ca))
        assert f"the certificate of localhost:{index.port} is not valid: " in words


def test_https_where_only_http_is_spoken(index: ServedIndex, store: Store) -> None:
    one = wanted(index)
    assert "does not speak TLS" in said(
        lambda: get(index, store, DownloadRequest(one.url.replace("http:", "https:"), one.name, one.sha256))
    )


def test_no_redirect_from_https_to_http(tmp_path: Path, wheels: Path, store: Store, index: ServedIndex) -> None:
    with serve_index(tmp_path / "tls", wheels, tls=True) as secure:
        secure.fault(name("stone"), redirect=index.file_url(name("stone")))
        words = said(lambda: get(secure, store, wanted(secure), cert=secure.ca))
        assert "which is not encrypted" in words
        assert not index.requests


# ------------------------------------------------------------------------------------------------ proxy


def test_through_a_proxy(index: ServedIndex, store: Store) -> None:
    with serve_proxy() as proxy:
        assert get(index, store, wanted(index), proxy=proxy.url)
        assert proxy.requests == [f"GET {index.file_url(name('stone'))}"]


def test_through_a_proxy_to_tls(tmp_path: Path, wheels: Path, store: Store) -> None:
    with serve_index(tmp_path, wheels, tls=True) as index, serve_proxy(("u", "p")) as proxy:
        assert get(index, store, wanted(index), proxy=proxy.url_with_credentials, cert=index.ca)
        assert proxy.requests == [f"CONNECT localhost:{index.port}"]


def test_a_proxy_that_wants_a_login(tmp_path: Path, wheels: Path, index: ServedIndex, store: Store) -> None:
    with serve_proxy(("u", "p")) as proxy, serve_index(tmp_path / "tls", wheels, tls=True) as secure:
        for one in (index, secure):
            wrong = proxy.url.replace("://", "://u:s3cret@")
            for address in (proxy.url, wrong):
                words = said(lambda one=one, address=address: get(one, store, wanted(one), proxy=address, cert=one.ca))  # type: ignore[misc]
                assert f"the proxy {proxy.url} wants a login" in words
                assert "s3cret" not in words
        assert get(index, store, wanted(index), proxy=proxy.url_with_credentials)


def test_a_proxy_that_is_not_there(tmp_path: Path, wheels: Path, index: ServedIndex, store: Store) -> None:
    address = f"http://u:s3cret@127.0.0.1:{free_port()}"
    with serve_index(tmp_path / "tls", wheels, tls=True) as secure:
        for one in (index, secure):
            words = said(lambda one=one: get(one, store, wanted(one), proxy=address, cert=one.ca, retries=0))  # type: ignore[misc]
            assert "the proxy http://127.0.0.1:" in words and "s3cret" not in words


def test_the_environments_proxy_and_its_exceptions(
    index: ServedIndex, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        get(index, store, wanted(index))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        get(index, store, wanted(index, "brick"))
        assert len(proxy.requests) == 1


# ------------------------------------------------------------------------------------------------ secrets


def test_a_login_is_not_sent_to_another_host(tmp_path: Path, wheels: Path, index: ServedIndex, store: Store) -> None:
    index.auth = ("user", "s3cret")
    with serve_index(tmp_path / "other", wheels) as other:
        index.fault(name("stone"), redirect=other.file_url(name("stone")))
        found = open_client(read_settings(index.with_credentials("user", "s3cret")), retries=0)
        with found as client:
            assert list(DownloadQueue(store, client).fetch_files([wanted(index)]))
        assert "authorization" in index.log[-1][2]
        assert all("authorization" not in headers for *_, headers in other.log)


def test_a_login_within_the_address_of_a_redirect_is_used(
    tmp_path: Path, wheels: Path, index: ServedIndex, store: Store
) -> None:
    with serve_index(tmp_path / "other", wheels, auth=("a", "b")) as other:
        index.fault(name("stone"), redirect=other.file_url(name("stone")).replace("://", "://a:b@"))
        assert get(index, store, wanted(index))


def test_no_secret_is_ever_said(index: ServedIndex, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = index.file_url(name("stone")).replace("://", "://user:s3cret@") + "?sig=s3cret#s3cret"
    for what in (
        {"status": 403},
        {"status": 500},
        {"status": 404},
        {"drop_at": 10},
        {"corrupt": True},
        {"status": 400},
    ):
        index.fault(name("stone"), **what)
        error = failure(
            lambda: get(index, store, DownloadRequest(url, name("stone"), str(wanted(index).sha256)), retries=0)
        )
        assert "s3cret" not in repr(error) + str(error) + str([one.to_json() for one in error.findings])
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(DownloadRequest(url, name("stone")))
    assert all("s3cret" not in one for one in left(store))


def test_a_signed_address_works_although_the_lock_has_none(index: ServedIndex, store: Store) -> None:
    served = index.files[name("stone")]
    served.url = "../../files/" + name("stone") + "?sig=s3cret"
    indexes = read_settings(index.url)
    with open_client(indexes) as client:
        (file,) = find_project_files("stone", indexes, client)
    assert "s3cret" not in file.url
    with open_client(indexes) as client:
        assert list(DownloadQueue(store, client).fetch_files([DownloadRequest(file.url, file.filename, file.sha256)]))
    assert index.log[-1][1].endswith("?sig=s3cret")


# ------------------------------------------------------------------------------------------------ size and number


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_memory_stays_small_whatever_the_size(tmp_path: Path) -> None:
    """A file of 200 MB, by a process of its own."""
    large = tmp_path / "large-1.0-py3-none-any.whl"
    with large.open("wb") as file:
        file.truncate(200 << 20)
    code = PROGRAM + "\nprint(*[one.split()[1] for one in open('/proc/self/status') if one.startswith('VmHWM')])"
    with serve_index(tmp_path / "empty") as index:
        served = index.add(large)
        given = [index.url, str(tmp_path / "store"), index.file_url(large.name), large.name, served.sha256]
        done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=True)
    size, peak = map(int, done.stdout.split())
    assert size == 200 << 20
    assert peak < 80 << 10


def test_ten_thousand_files_do_not_slow_it_down(store: Store) -> None:
    def some(first: int, count: int) -> Iterator[str]:
        for number in range(first, first + count):
            yield store.add_bytes(str(number), None, [b"%d" % number]).sha256

    def seconds(hashes: list[str]) -> float:
        best = []
        for _ in range(3):
            began = time.perf_counter()
            for one in hashes:
                assert store.get(one) is not None
            best.append(time.perf_counter() - began)
        return min(best)

    few = list(some(0, 100))
    before = seconds(few)
    # the files themselves are not needed for that: as many entries in as many folders
    for number in range(10_000):
        digest = hashlib.sha256(b"x%d" % number).hexdigest()
        folder = store.path / "files" / digest[:2]
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(folder / digest, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert max(len(list(one.iterdir())) for one in (store.path / "files").iterdir()) < 150
    assert seconds(few) < 4 * before + 0.1
