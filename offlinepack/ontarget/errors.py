"""Define findings, errors and exit codes. A finding is one problem or fact; an error has an exit code and findings.

A sentence is an English template and the facts that fill it. A table of messages (English
template to translated template) is applied when the sentence is rendered.
"""

import os
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Tuple


def explain_os_error(failed: OSError) -> str:
    """The system's word for what went wrong."""
    return os.strerror(failed.errno) if failed.errno else str(failed)

Messages = Mapping[str, str]
ENGLISH = {}  # type: Dict[str, str]

# Exit codes of both sides that are no error class here: 0 done, 1 a bug, 130 interrupted.
EXIT_SUCCESS, EXIT_BUG, EXIT_INTERRUPTED = 0, 1, 130


class Text(NamedTuple):
    """A sentence: its English template and the facts that fill it."""

    template: str
    facts: Dict[str, Any]

    def render(self, words=ENGLISH):  # type: (Messages) -> str
        """The sentence in the language of `words`; a fact may be a Text itself, or a list of them."""
        facts = {name: _render_fact(value, words) for name, value in self.facts.items()}
        template = words.get(self.template) or self.template
        # one pass, so that braces inside a fact stay what they are
        return re.sub(r"\{(\w+)\}", lambda m: facts.get(m.group(1), m.group(0)), template)

    def __str__(self):  # type: () -> str
        return self.render()


def _render_fact(value, words):  # type: (Any, Messages) -> str
    if isinstance(value, Text):
        return escape_unprintable(value.render(words))
    if isinstance(value, (list, tuple)):
        return ", ".join(_render_fact(member, words) for member in value)
    return escape_unprintable(str(value))


def _serialize_fact(value):  # type: (Any) -> Any
    if isinstance(value, Text):
        return {"template": value.template, "facts": {name: _serialize_fact(value.facts[name]) for name in value.facts}}
    if isinstance(value, (list, tuple)):
        return [_serialize_fact(member) for member in value]
    return value if isinstance(value, (bool, int, float)) else str(value)


def escape_unprintable(text):  # type: (str) -> str
    """`text` on one line, without control characters: a hostile name must not move the cursor or forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def text(template, **facts):  # type: (str, Any) -> Text
    """A sentence that is no finding: progress, a closing line, a part of a finding."""
    return Text(template, facts)


class Finding(NamedTuple):
    """One thing: what it is about, a sentence that names it, what to do."""

    level: str
    """error, warning or note"""
    code: str
    """stable, English, for programs: hash-mismatch"""
    subject: str
    """the file, distribution, option or place that it is about"""
    sentence: Text
    advice: Text
    """what to do; an empty template where nothing is to be done"""
    log: str = ""
    """words of another program (the end of pip's log), shown indented"""

    def render(self, words=ENGLISH):  # type: (Messages) -> str
        """Sentence and advice, in one line."""
        return " ".join(part for part in (self.sentence.render(words), self.advice.render(words)) if part)

    def to_json(self):  # type: () -> Dict[str, Any]
        """Return the finding in English, with the templates and facts that its sentences are made of."""
        templates = {"sentence": self.sentence.template, "advice": self.advice.template}
        names = re.findall(r"\{(\w+)\}", "%(sentence)s %(advice)s" % templates)
        facts = dict(self.advice.facts, **self.sentence.facts)
        plain = {
            "templates": templates,
            "facts": {name: _serialize_fact(facts[name]) for name in names if name in facts},
            "level": self.level,
            "code": self.code,
            "subject": self.subject,
            "sentence": self.sentence.render(),
            "advice": self.advice.render(),
        }
        if self.log:
            plain["log"] = self.log
        return plain


def error(code, subject, sentence, advice="", log="", **facts):
    # type: (str, object, str, str, str, Any) -> Finding
    """A finding that stops the work. Templates may use every fact, and {subject}."""
    return _make_finding("error", code, subject, sentence, advice, log, facts)


def warning(code, subject, sentence, advice="", log="", **facts):
    # type: (str, object, str, str, str, Any) -> Finding
    """A finding that does not stop the work but should be read."""
    return _make_finding("warning", code, subject, sentence, advice, log, facts)


def note(code, subject, sentence, advice="", log="", **facts):
    # type: (str, object, str, str, str, Any) -> Finding
    """A finding that is merely worth knowing."""
    return _make_finding("note", code, subject, sentence, advice, log, facts)


def _make_finding(level, code, subject, sentence, advice, log, facts):
    # type: (str, str, object, str, str, str, Dict[str, Any]) -> Finding
    facts = dict(facts, subject=subject)
    return Finding(level, code, str(subject), Text(sentence, facts), Text(advice, facts), log)


class OfflinepackError(Exception):
    """The root: an exit code, and all that was found wrong, not just the first."""

    exit_code = EXIT_BUG

    def __init__(self, *findings):  # type: (Finding) -> None
        super(OfflinepackError, self).__init__("; ".join(finding.render() for finding in findings))
        self.findings = findings  # type: Tuple[Finding, ...]


class UsageError(OfflinepackError):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class IntegrityError(OfflinepackError):
    """A file is not what the manifest, its hash or its signature promise."""

    exit_code = 7


class BundleError(OfflinepackError):
    """This is no bundle, or one of a format that this version does not know."""

    exit_code = 9


class MachineError(OfflinepackError):
    """No target of the bundle fits this machine, or preflight found what would stop it."""

    exit_code = 10


class InstallError(OfflinepackError):
    """Some distributions could not be installed."""

    exit_code = 11


class ComputerError(OfflinepackError):
    """The disk is full, a place cannot be written, another run holds the lock."""

    exit_code = 12


class PolicyError(OfflinepackError):
    """A rule forbids it; among them: a bundle older than the one that this environment has seen."""

    exit_code = 13


def raise_on_errors(kind, findings):  # type: (type, Iterable[Finding]) -> List[Finding]
    """Raise one error of this kind with all findings where any of them is an error; else give them back."""
    findings = list(findings)
    if any(finding.level == "error" for finding in findings):
        raise kind(*findings)
    return findings
