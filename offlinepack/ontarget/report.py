"""Print messages to stderr and results to stdout, in English or Chinese, and write the JSON report."""

import contextlib
import json
import locale
import os
import platform
import sys
import time
from typing import Any, Dict, Iterable, List, Optional

from .errors import ENGLISH, ComputerError, Finding, Messages, Text, text, warning
from .files import remove_path, write_json

MESSAGES_FILE = "messages.zh.json"
_MAX_REPORTS = 20  # in <venv>.d/reports
_REPORT_LOST = "The report could not be written to {subject}: {reason}."


def load_messages(language=None):  # type: (Optional[str]) -> Messages
    """Return the table of messages for a language, by default that of OFFLINEPACK_LANG or the locale."""
    names = [os.environ.get(variable) for variable in ("OFFLINEPACK_LANG", "LC_ALL", "LC_MESSAGES", "LANG")]
    requested = language or next((name for name in names if name), "") or locale.getlocale()[0] or ""
    if not requested.lower().startswith(("zh", "chinese")):
        return ENGLISH
    try:
        for stream in (sys.stdout, sys.stderr):
            "\u5b8c\u6574".encode(stream.encoding or "ascii")
        path = os.path.join(os.path.dirname(__file__), MESSAGES_FILE)
        table = json.loads(__loader__.get_data(path).decode("utf-8"))  # type: ignore[union-attr,name-defined,unused-ignore]
    except (UnicodeEncodeError, OSError, ValueError, AttributeError):
        return ENGLISH
    return dict(table)


class Reporter:
    """The output of one run, which is also kept for the report. `verbosity` is the number of -v minus that of -q."""

    def __init__(self, verbosity=0, wants_json=False, lang=None):  # type: (int, bool, Optional[str]) -> None
        self.verbosity, self.wants_json, self.messages = verbosity, wants_json, load_messages(lang)
        self.recorded_messages = []  # type: List[Finding]
        self.facts = {}  # type: Dict[str, Any]  # further fields of the report and --json
        self.has_lost_output = False  # whether a line of the result could not be written
        self.report_dir = ""  # the folder of the reports; set when this run holds the lock
        self._start_time = time.time()

    @property
    def elapsed_seconds(self):  # type: () -> float
        """Return the seconds since this run began."""
        return round(time.time() - self._start_time, 2)

    def _write_line(self, stream, line):  # type: (Any, str) -> None
        coding = stream.encoding or "ascii"
        try:
            stream.write(line.encode(coding, "backslashreplace").decode(coding) + "\n")
            stream.flush()
        except OSError:  # a closed pipe or a full disk; close() returns an error code for a lost result
            self.has_lost_output = self.has_lost_output or stream is sys.stdout
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), stream.fileno())

    def print_message(self, sentence, loud=0):  # type: (Text, int) -> None
        """Print one line on stderr if the verbosity allows it."""
        if self.verbosity >= loud:
            self._write_line(sys.stderr, sentence.render(self.messages))

    def print_findings(self, findings):  # type: (Iterable[Finding]) -> None
        """Print each finding on a line, with the output of other programs indented below it."""
        labels = {"error": text("error"), "warning": text("warning"), "note": text("note")}
        for finding in findings:
            self.recorded_messages.append(finding)
            if self.verbosity >= {"error": -9, "warning": -1, "note": 0}[finding.level]:
                label = labels[finding.level].render(self.messages)
                self._write_line(sys.stderr, "%s: %s" % (label, finding.render(self.messages)))
                for line in finding.log.splitlines():
                    self._write_line(sys.stderr, "    " + line)

    def print_progress(self, count, total):  # type: (int, int) -> None
        """Print the progress if stderr is a terminal."""
        if self.verbosity >= 0 and sys.stderr.isatty():
            with contextlib.suppress(OSError):
                sys.stderr.write("\r%d/%d%s" % (count, total, "" if count < total else "\r\x1b[K"))
                sys.stderr.flush()

    def print_result(self, *lines):  # type: (Text) -> None
        """Print the result on stdout, unless --json prints it."""
        for line in lines if not self.wants_json else ():
            self._write_line(sys.stdout, line.render(self.messages))

    def describe_outcome(self):  # type: () -> Text
        """Return the state in which a run that ended early leaves the environment."""
        if self.facts.get("changed"):
            return text("The new release is current already.")
        if self.facts.get("in_place"):
            return text("What went in before that stays; the same command goes on.")
        return text("Nothing was changed; the same command begins again.")

    def close(self, code, path=None):  # type: (int, Optional[str]) -> int
        """Write the report to its folder and to `path`, print it with --json, and return the exit code."""
        document = dict({"schema": 1, "ok": code == 0, "exit_code": code, "changed": False}, **self.facts)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        findings = [message.to_json() for message in self.recorded_messages]
        document.update(seconds=self.elapsed_seconds, findings=findings, time=stamp)
        try:
            if self.report_dir:
                name = "%s-%s-%d.json" % (stamp, document.get("command"), os.getpid())
                write_json(os.path.join(self.report_dir, name), document)
                for old in sorted(os.listdir(self.report_dir))[:-_MAX_REPORTS]:
                    remove_path(os.path.join(self.report_dir, old))
            if path and (os.path.isdir(path) or path.endswith(("/", os.sep))):
                os.makedirs(path, exist_ok=True)
                path = os.path.join(path, "%s-%s.json" % (platform.node(), document.get("bundle", "offlinepack")))
            if path:
                write_json(path, document)
        except OSError as refused:
            self.print_findings([warning("no-report", refused.filename, _REPORT_LOST, reason=refused.strerror)])
        if self.wants_json:
            self._write_line(sys.stdout, json.dumps(document, indent=1))
        return code or (ComputerError.exit_code if self.has_lost_output else code)
