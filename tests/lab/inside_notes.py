# ruff: noqa: UP031, SIM115, RUF005
"""Runs on the machine without a network: the notes' stack, its two experiments, a rolling upgrade. Prints JSON.

python3 inside_notes.py development|uwsgi|stack
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request

VENV, RUN = "/srv/app/venv", "/srv/app/run"
os.environ.update(NOTES_DATA="/srv/app/data", NOTES_STATIC="/srv/app/static")


def home():
    return os.path.realpath(VENV)


def get(address, timeout=60):
    with urllib.request.urlopen(address, timeout=timeout) as answer:
        return answer.status, answer.read().decode()


def answers(address):
    for _ in range(300):
        try:
            return get(address)
        except OSError:
            time.sleep(0.1)
    raise SystemExit("no answer from " + address)


def manage(*words):
    subprocess.run([VENV + "/bin/python", "manage.py", *words], cwd=VENV + "/notes", check=True)


class Running:
    """A server for as long as the block lasts."""

    def __init__(self, *command):
        self.command = command

    def __enter__(self):
        self.log = open("/srv/app/log", "ab")
        self.process = subprocess.Popen(
            self.command, cwd=home() + "/notes", stdout=self.log, stderr=self.log, start_new_session=True
        )
        return self.process

    def __exit__(self, *_):
        self.process.send_signal(2)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def waits(base):
    """Seconds until a page comes while another request sleeps for 2 seconds."""
    answers(base + "/counter/")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asleep = pool.submit(get, base + "/sleep/?seconds=2")
        time.sleep(0.4)
        begun = time.monotonic()
        get(base + "/counter/")
        seconds = time.monotonic() - begun
        asleep.result()
    return round(seconds, 2)


def counted(base, calls=300):
    """What the counter says after so many calls at once: process -> highest count; and how many threads answered."""
    answers(base + "/counter/")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        bodies = [json.loads(body) for _, body in pool.map(get, [base + "/counter/"] * calls)]
    highest = {}
    for one in bodies:
        highest[one["process"]] = max(highest.get(one["process"], 0), one["count"])
    return {"calls": calls, "highest": list(highest.values()), "threads": len({one["thread"] for one in bodies})}


def development():
    server = (VENV + "/bin/python", "manage.py", "runserver", "--noreload")
    found = {}
    with Running(*server, "127.0.0.1:8001"):
        found["development"] = waits("http://127.0.0.1:8001")
        found["threads"] = counted("http://127.0.0.1:8001")
    with Running(*server, "--nothreading", "127.0.0.1:8002"):
        found["nothreading"] = waits("http://127.0.0.1:8002")
    return found


def uwsgi():
    def serve(port, processes, threads):
        return Running(
            *(home() + "/bin/uwsgi", "--home", home(), "--module", "notes.wsgi", "--master", "--need-app"),
            *("--http-socket", "127.0.0.1:%d" % port, "--processes", str(processes), "--threads", str(threads)),
        )

    found = {}
    with serve(8003, 1, 1):
        found["1x1"] = waits("http://127.0.0.1:8003")
    with serve(8004, 4, 2):
        found["4x2"] = waits("http://127.0.0.1:8004")
    with serve(8005, 1, 8):
        found["threads"] = counted("http://127.0.0.1:8005")
    with serve(8006, 4, 1):
        found["processes"] = counted("http://127.0.0.1:8006")
    return found


def start(instance):
    subprocess.Popen(
        [home() + "/bin/uwsgi", "--home", home(), "--ini", home() + "/notes/deploy/uwsgi.ini"]
        + ["--set-placeholder", "instance=%d" % instance],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: os.setgid(33),  # www-data's, as the unit has it: NGINX's workers reach the sockets
    )
    for _ in range(300):
        if os.path.exists("%s/notes-%d.sock" % (RUN, instance)):
            return
        time.sleep(0.1)
    raise SystemExit("uWSGI does not start: " + open("%s/notes-%d.log" % (RUN, instance)).read()[-2000:])


def stop(instance):
    with open("%s/notes-%d.pid" % (RUN, instance)) as source:
        master = int(source.read())
    with open("%s/notes-%d.fifo" % (RUN, instance), "w") as fifo:
        fifo.write("q")
    for _ in range(600):
        try:
            os.kill(master, 0)
            os.waitpid(master, os.WNOHANG)
        except (OSError, ChildProcessError):
            break
        time.sleep(0.05)
    else:
        raise SystemExit("instance %d does not end" % instance)


def restart_both():
    for instance in (1, 2):
        stop(instance)
        start(instance)
        time.sleep(0.5)


def stack():
    shutil.rmtree(RUN, ignore_errors=True)
    os.makedirs(RUN)
    start(1)
    start(2)
    subprocess.run(["nginx", "-c", VENV + "/notes/deploy/nginx.conf"], check=True)
    base, found, failures, seen = "http://127.0.0.1:8080", {}, [], []
    found["page"] = answers(base + "/")[1]
    found["static"] = get(base + "/static/notes/notes.css")[1]
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            try:
                seen.append(get(base + "/")[1].split("Version ")[1].split(",")[0])
            except Exception as failed:
                failures.append("%.1f %r" % (time.monotonic() - begun, failed))
            time.sleep(0.02)

    begun = time.monotonic()
    clients = [threading.Thread(target=ask) for _ in range(3)]
    for one in clients:
        one.start()
    time.sleep(1)
    with open(RUN + "/notes-1.pid") as source:
        os.killpg(int(source.read()), 9)
    time.sleep(1)
    found["after a kill"] = len(failures)
    start(1)
    done = subprocess.run([sys.executable, "/media/new/install.py", "--venv", VENV, "--json"], stdout=subprocess.PIPE)
    found["upgrade"] = done.returncode
    found["before restart"] = get(base + "/")[1].split("Version ")[1].split(",")[0]
    restart_both()
    found["upgraded"] = get(base + "/")[1].split("Version ")[1].split(",")[0]
    found["rollback"] = subprocess.run(
        [sys.executable, "/media/new/install.py", "--rollback", "--venv", VENV, "--json"], stdout=subprocess.PIPE
    ).returncode
    restart_both()
    found["rolled back"] = get(base + "/")[1].split("Version ")[1].split(",")[0]
    ended.set()
    for one in clients:
        one.join()
    found["asked"], found["failures"] = len(seen), failures[:10]
    found["versions"] = sorted(set(seen))
    stop(1)
    stop(2)
    found["static alone"] = get(base + "/static/notes/notes.css")[0]
    subprocess.run(["nginx", "-c", VENV + "/notes/deploy/nginx.conf", "-s", "stop"], check=True)
    return found


if __name__ == "__main__":
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    os.makedirs("/srv/app/data", exist_ok=True)
    manage("migrate", "-v0")
    manage("collectstatic", "--no-input", "-v0")
    print(json.dumps({"development": development, "uwsgi": uwsgi, "stack": stack}[sys.argv[1]]()))
