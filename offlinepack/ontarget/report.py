"""What this side says: lines for people on stderr, results on stdout, JSON for programs, and the report that is kept.

English, or Chinese where that is asked for, or the locale's, and the console can show it.
"""

import contextlib
import json
import locale
import os
import platform
import sys
import time
from typing import Any, Dict, Iterable, List, Optional

from .environment import remove, write_json
from .errors import ENGLISH, ComputerError, Finding, Text, Words, text, warning

WORDS = "messages.zh.json"
_KEPT = 20
"""reports that stay in <venv>.d/reports"""


def words(asked=None):  # type: (Optional[str]) -> Words
    """The table of sentences for a language: what was asked, OFFLINEPACK_LANG, else the locale's."""
    names = [os.environ.get(one) for one in ("OFFLINEPACK_LANG", "LC_ALL", "LC_MESSAGES", "LANG")]
    wanted = asked or next((one for one in names if one), "") or locale.getlocale()[0] or ""
    if not wanted.lower().startswith(("zh", "chinese")):
        return ENGLISH
    try:
        for stream in (sys.stdout, sys.stderr):
            "\u5b8c\u6574".encode(stream.encoding or "ascii")
        path = os.path.join(os.path.dirname(__file__), WORDS)
        table = json.loads(__loader__.get_data(path).decode("utf-8"))  # type: ignore[union-attr,name-defined,unused-ignore]
    except (UnicodeEncodeError, OSError, ValueError, AttributeError):
        return ENGLISH
    return dict(table)


class Voice:
    """One run's voice. `loudness` counts -v less -q; what it said is kept for the report."""

    def __init__(self, loudness=0, wants_json=False, lang=None):  # type: (int, bool, Optional[str]) -> None
        self.loudness, self.wants_json, self.words = loudness, wants_json, words(lang)
        self.heard = []  # type: List[Finding]
        self.facts = {}  # type: Dict[str, Any]  # what the report and --json say besides
        self.lost = False  # whether a line of the result could not be written
        self.reports = ""  # the folder where reports are kept, once this run may write there
        self._started = time.time()

    @property
    def seconds(self):  # type: () -> float
        """Since this run began to speak."""
        return round(time.time() - self._started, 2)

    def _write(self, stream, line):  # type: (Any, str) -> None
        coding = stream.encoding or "ascii"
        try:
            stream.write(line.encode(coding, "backslashreplace").decode(coding) + "\n")
            stream.flush()
        except OSError:  # nobody listens, or the disk is full; a result that is lost is told by close
            self.lost = self.lost or stream is sys.stdout
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nobody:
                os.dup2(nobody.fileno(), stream.fileno())

    def say(self, sentence, loud=0):  # type: (Text, int) -> None
        """One line on stderr, where this run is loud enough."""
        if self.loudness >= loud:
            self._write(sys.stderr, sentence.say(self.words))

    def findings(self, findings):  # type: (Iterable[Finding]) -> None
        """Each in its line, other programs' words indented below it."""
        labels = {"error": text("error"), "warning": text("warning"), "note": text("note")}
        for one in findings:
            self.heard.append(one)
            if self.loudness >= {"error": -9, "warning": -1, "note": 0}[one.level]:
                self._write(sys.stderr, "%s: %s" % (labels[one.level].say(self.words), one.say(self.words)))
                for line in one.log.splitlines():
                    self._write(sys.stderr, "    " + line)

    def count(self, done, total):  # type: (int, int) -> None
        """Progress, where somebody looks at a terminal."""
        if self.loudness >= 0 and sys.stderr.isatty():
            with contextlib.suppress(OSError):
                sys.stderr.write("\r%d/%d%s" % (done, total, "" if done < total else "\r\x1b[K"))
                sys.stderr.flush()

    def result(self, *lines):  # type: (Text) -> None
        """The result for a person, on stdout."""
        for line in lines if not self.wants_json else ():
            self._write(sys.stdout, line.say(self.words))

    def close(self, code, asked=None):  # type: (int, Optional[str]) -> int
        """Write the report where it is kept and where it was asked for, print it with --json; the exit code."""
        document = dict({"schema": 1, "ok": code == 0, "exit_code": code, "changed": False}, **self.facts)
        document.update(seconds=self.seconds, findings=[one.to_json() for one in self.heard])
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        document["time"] = stamp
        try:
            if self.reports:
                name = "%s-%s-%d.json" % (stamp, document.get("command"), os.getpid())
                write_json(os.path.join(self.reports, name), document)
                for old in sorted(os.listdir(self.reports))[:-_KEPT]:
                    remove(os.path.join(self.reports, old))
            if asked and (os.path.isdir(asked) or asked.endswith(("/", os.sep))):
                os.makedirs(asked, exist_ok=True)
                asked = os.path.join(asked, "%s-%s.json" % (platform.node(), document.get("bundle", "offlinepack")))
            if asked:
                write_json(asked, document)
        except OSError as refused:
            self.findings([warning(
                "no-report", refused.filename, "The report could not be written to {subject}: {reason}.",
                reason=refused.strerror)])
        if self.wants_json:
            self._write(sys.stdout, json.dumps(document, indent=1))
        return code or (ComputerError.exit_code if self.lost else code)


def machine(facts):  # type: (Dict[str, Any]) -> Dict[str, Any]
    """What the report tells of this machine: the audit asks for it."""
    user = os.environ.get("USER") or os.environ.get("USERNAME") or ""
    return {"host": platform.node(), "user": user, "python": facts}
