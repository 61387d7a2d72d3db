"""pip-audit as a program: really started, against a service that answers as recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from offlinepack.report.vulnerabilities import run_pip_audit
from tests.support.advisories import JINJA, osv


@pytest.fixture
def service() -> Iterator[str]:
    """Knows one thing of jinja2 and nothing of anything else."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            record = osv(id="PYSEC-2024-1", aliases=["CVE-2024-22195"], details="It leaks.")
            body = json.dumps({"vulns": [record]} if asked["package"]["name"] == "jinja2" else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.mark.network
def test_the_program_is_asked_about_public_releases(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "audit"], check=True)
    programs = tmp_path / "audit" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python"]
    subprocess.run([*pip, "install", "-q", "pip-audit"], check=True)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", service)
    wanted = [JINJA, ("stone", "1.0"), ("private", "1.0"), ("stone", "2.0")]
    found = run_pip_audit(wanted, [one for one in wanted if one[0] != "private"], date(2026, 2, 3))
    assert found.problem is None and found.date == "2026-02-03"
    (known,) = found.vulnerabilities
    assert (known.name, known.version, known.id) == (*JINJA, "PYSEC-2024-1")
    assert found.unchecked_releases == (("private", "1.0"),)
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:1/none")
    found = run_pip_audit(wanted, wanted, date(2026, 2, 3))
    assert found.problem is not None and not found.date
