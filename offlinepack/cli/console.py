"""Print sentences, findings and progress to stderr, and results and JSON to stdout."""

from __future__ import annotations

import json as _json
import locale
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from offlinepack.cli.summary import format_summary
from offlinepack.errors import Finding, Text, text
from offlinepack.ontarget.errors import ENGLISH, Messages


class _CommandLog:
    """Whether started programs are logged; an audit hook cannot be removed from a process."""

    is_installed = is_enabled = False


def log_commands(enabled: bool) -> None:
    """Log the command line of each started program to stderr, without secrets, or stop doing so."""
    _CommandLog.is_enabled = enabled
    if _CommandLog.is_installed or not enabled:
        return
    import shlex

    from offlinepack.net.urls import redact_text

    def heard(event: str, facts: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and _CommandLog.is_enabled:
            arguments = [facts[1]] if isinstance(facts[1], str | bytes | os.PathLike) else facts[1]
            # in one piece: programs are started from several threads
            sys.stderr.write(f"$ {redact_text(shlex.join(map(os.fsdecode, arguments)))}\n")
            sys.stderr.flush()

    sys.addaudithook(heard)
    _CommandLog.is_installed = True


T = TypeVar("T")

_COLORS = {"error": "31;1", "warning": "33", "note": "36", "done": "32;1", "dim": "2"}


@cache
def load_messages(lang: str) -> Messages:
    """Load the messages of build host and target side in a language; none for English."""
    if lang != "zh":
        return ENGLISH
    messages: dict[str, str] = {}
    for package in ("offlinepack.ontarget", "offlinepack"):
        table = resources.files(package) / "messages.zh.json"
        if table.is_file():
            messages.update(_json.loads(table.read_text("utf-8")))
    return messages


def choose_language(requested: str | None, stream: Any) -> str:
    """Choose en or zh: the requested language, otherwise that of the locale if the stream can encode it."""
    language = requested or os.environ.get("OFFLINEPACK_LANG", "")
    if not language:
        names = [os.environ.get(variable, "") for variable in ("LC_ALL", "LC_MESSAGES", "LANG")]
        language = next((name for name in names if name), "") or (locale.getlocale()[0] or "")
    if not language.lower().startswith(("zh", "chinese")):
        return "en"
    try:
        "完整".encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return "en"
    return "zh"


class Console:
    """Output of one run; `verbosity` is the number of -v minus the number of -q."""

    def __init__(
        self, verbosity: int = 0, json: bool = False, color: bool = True, lang: str | None = None, command: str = ""
    ) -> None:
        self.verbosity, self.wants_json, self.command = verbosity, json, command
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        self.lang = choose_language(lang, sys.stderr)
        self.messages = load_messages(self.lang)
        self.is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"
        self.use_color = color and self.is_terminal and not os.environ.get("NO_COLOR")
        self.start_time = time.monotonic()
        self.report_path: Path | None = None
        """file of --report"""

    def _paint(self, kind: str, words: str) -> str:
        return f"\x1b[{_COLORS[kind]}m{words}\x1b[0m" if self.use_color else words

    def print_message(self, sentence: Text, loud: int = 0) -> None:
        """Print a line to stderr if the verbosity is at least `level`."""
        if self.verbosity >= loud:
            print(sentence.render(self.messages), file=sys.stderr, flush=True)

    def print_findings(self, findings: Iterable[Finding]) -> None:
        """Print each distinct finding on a line of its own, with the output of other programs indented below it."""
        labels = {"error": text("error"), "warning": text("warning"), "note": text("note")}
        least = {"error": -9, "warning": -1, "note": 0}
        for finding in dict.fromkeys((f.level, f.render(self.messages), f.log) for f in findings):
            level, sentence, log = finding
            if self.verbosity < least[level]:
                continue
            print(f"{self._paint(level, labels[level].render(self.messages))}: {sentence}", file=sys.stderr)
            for line in log.splitlines():
                print("    " + line, file=sys.stderr)
        sys.stderr.flush()

    def print_failure(self, code: int, findings: Sequence[Finding]) -> None:
        """Print the findings of an error to stderr and, with --json, to stdout."""
        self.print_findings(findings)
        self.write_summary({"ok": False, "exit_code": code, "findings": [finding.to_json() for finding in findings]})

    def write_summary(self, document: dict[str, Any]) -> None:
        """Write the summary of the run to stdout with --json, and to the file of --report."""
        if self.report_path:
            self.report_path.parent.mkdir(parents=True, exist_ok=True)
            whole = {"schema": 1, "command": self.command, **document}
            self.report_path.write_bytes(format_summary(self.report_path, whole))
        if self.wants_json:
            self.print_json(document)

    def print_result(self, *lines: str | Text) -> None:
        """Print the result as text to stdout."""
        if not self.wants_json:
            for line in lines:
                print(line.render(self.messages) if isinstance(line, Text) else line)
            sys.stdout.flush()

    def print_json(self, document: dict[str, Any]) -> None:
        """Print the result as JSON to stdout."""
        print(
            _json.dumps({"schema": 1, "command": self.command, **document}, indent=2, ensure_ascii=False, default=str)
        )
        sys.stdout.flush()

    def track(
        self, label: Text, steps: Iterable[T], total: float | None = None, size_of: Callable[[T], float] | None = None
    ) -> Iterator[T]:
        """Yield `steps` unchanged while a bar shows their number or, with `size_of`, their bytes per second."""
        if self.verbosity < 0:
            yield from steps
        elif not self.is_terminal:
            self.print_message(label)
            yield from steps
        else:
            yield from self._show_bar(label, steps, total, size_of)

    def _show_bar(
        self, label: Text, steps: Iterable[T], total: float | None, size_of: Callable[[T], float] | None
    ) -> Iterator[T]:
        from rich.console import Console as Terminal
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )

        columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}")]
        if size_of:
            columns += [BarColumn(), DownloadColumn(), TransferSpeedColumn()]
        elif total:
            columns += [BarColumn(), MofNCompleteColumn()]
        columns.append(TimeElapsedColumn())
        terminal = Terminal(stderr=True, no_color=not self.use_color)
        with Progress(*columns, console=terminal, transient=True) as progress:
            task = progress.add_task(label.render(self.messages), total=total)
            for step in steps:
                progress.advance(task, size_of(step) if size_of else 1)
                yield step

    def run_with_spinner(self, label: Text, work: Callable[[], T]) -> T:
        """Run one long step while a spinner is shown, and return its result."""

        def once() -> Iterator[T]:
            yield work()

        for step in self.track(label, once()):
            result = step
        return result

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self.start_time
