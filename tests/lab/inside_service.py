# ruff: noqa: UP031, SIM115
"""Runs under systemd on the machine without a network: the blocks of the page on upgrades, while requests run. Prints JSON.

python3 inside_service.py BLOCKS.json
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request

BASE = "http://127.0.0.1:8080"


def get(path="/"):
    with urllib.request.urlopen(BASE + path, timeout=30) as answer:
        return answer.read().decode()


def version():
    return get().split("Version ")[1].split(",")[0]


def unit(number, what):
    said = subprocess.check_output(["systemctl", "show", "notes@%d" % number, "--property", what, "--value"])
    return said.decode().strip()


def started(number):
    """Wait until systemd has it running again."""
    time.sleep(1)
    for _ in range(300):
        if unit(number, "ActiveState") == "active":
            return
        time.sleep(0.1)


def run(code):
    subprocess.run(["sh", "-euxc", code], check=True, stdout=sys.stderr)


def main(path):
    first, upgrade, back = json.load(open(path))
    for code in first:
        run(code)
    found = {"first": version(), "static": "notes.css" in get("/static/notes/notes.css")}
    failures, seen, ended = [], [], threading.Event()

    def ask():
        while not ended.is_set():
            try:
                seen.append(version())
            except Exception as failed:
                failures.append(repr(failed))
            time.sleep(0.02)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for one in clients:
        one.start()
    time.sleep(1)
    os.kill(int(unit(1, "MainPID")), 9)
    started(1)
    found["after a kill"] = unit(1, "ActiveState"), int(unit(1, "NRestarts"))
    main = unit(1, "MainPID")
    run("systemctl reload notes@1")
    started(1)
    found["reloaded"] = unit(1, "ActiveState"), unit(1, "MainPID") == main
    run(upgrade)
    time.sleep(1)
    found["upgraded"] = version()
    run(back)
    time.sleep(1)
    found["rolled back"] = version()
    ended.set()
    for one in clients:
        one.join()
    run("systemctl stop notes@1 notes@2")
    found["stopped"] = [unit(number, "Result") for number in (1, 2)]
    print(json.dumps(dict(found, asked=len(seen), versions=sorted(set(seen)), failures=failures[:10])))


if __name__ == "__main__":
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    main(sys.argv[1])
