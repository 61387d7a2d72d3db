"""Define findings, errors and exit codes. A sentence is an English template, translated when it is rendered."""

import os
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Tuple

Messages = Mapping[str, str]
ENGLISH = {}  # type: Dict[str, str]
EXIT_SUCCESS, EXIT_BUG, EXIT_INTERRUPTED = 0, 1, 130  # the exit codes that belong to no error class


def explain_os_error(failed: OSError) -> str:
    """Return the system's description of an error."""
    return os.strerror(failed.errno) if failed.errno else str(failed)


class Text(NamedTuple):
    """A sentence: its English template and the facts that fill it."""
    template: str
    facts: Dict[str, Any]

    def render(self, words=ENGLISH):  # type: (Messages) -> str
        """Return the sentence in the language of `words`. A fact may itself be a Text or a list of them."""
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
    """Escape control characters, so that a hostile name cannot move the cursor or forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def text(template, **facts):  # type: (str, Any) -> Text
    """Make a sentence that is not a finding: progress, a closing line, a part of a finding."""
    return Text(template, facts)


class Finding(NamedTuple):
    """One problem or fact: its subject, a sentence about it, and advice."""
    level: str  # error, warning or note
    code: str  # stable, English, for programs: hash-mismatch
    subject: str  # the file, distribution, option or path
    sentence: Text
    advice: Text  # an empty template if nothing is to be done
    log: str = ""  # output of another program (the end of pip's log), shown indented

    def render(self, words=ENGLISH):  # type: (Messages) -> str
        """Return sentence and advice in one line."""
        return " ".join(part for part in (self.sentence.render(words), self.advice.render(words)) if part)

    def to_json(self):  # type: () -> Dict[str, Any]
        """Return the finding in English, with the templates and facts of its sentences."""
        templates = {"sentence": self.sentence.template, "advice": self.advice.template}
        names = re.findall(r"\{(\w+)\}", "%(sentence)s %(advice)s" % templates)
        facts = dict(self.advice.facts, **self.sentence.facts)
        plain = {name: _serialize_fact(facts[name]) for name in names if name in facts}
        document = {"templates": templates, "facts": plain, "level": self.level, "code": self.code}
        document.update(subject=self.subject, sentence=self.sentence.render(), advice=self.advice.render())
        return dict(document, log=self.log) if self.log else document


def error(code, subject, sentence, advice="", log="", **facts):  # type: (str, object, str, str, str, Any) -> Finding
    """Make a finding that stops the work. Templates may use every fact, and {subject}."""
    facts["subject"] = subject
    return Finding("error", code, str(subject), Text(sentence, facts), Text(advice, facts), log)


def warning(code, subject, sentence, advice="", log="", **facts):  # type: (str, object, str, str, str, Any) -> Finding
    """Make a finding that does not stop the work but should be read."""
    return error(code, subject, sentence, advice, log, **facts)._replace(level="warning")


def note(code, subject, sentence, advice="", log="", **facts):  # type: (str, object, str, str, str, Any) -> Finding
    """Make a finding that is merely worth knowing."""
    return error(code, subject, sentence, advice, log, **facts)._replace(level="note")


class OfflinepackError(Exception):
    """The base class: an exit code and every finding, not just the first."""
    exit_code = EXIT_BUG

    def __init__(self, *findings):  # type: (Finding) -> None
        super(OfflinepackError, self).__init__("; ".join(finding.render() for finding in findings))
        self.findings = findings  # type: Tuple[Finding, ...]


class UsageError(OfflinepackError):
    """The command line cannot be carried out."""
    exit_code = 2


class IntegrityError(OfflinepackError):
    """A file differs from the manifest, its hash or its signature."""
    exit_code = 7


class BundleError(OfflinepackError):
    """This is not a bundle, or its format is unknown to this version."""
    exit_code = 9


class MachineError(OfflinepackError):
    """No target of the bundle fits this machine, or preflight found a problem of the machine."""
    exit_code = 10


class InstallError(OfflinepackError):
    """Some distributions could not be installed."""
    exit_code = 11


class ComputerError(OfflinepackError):
    """The disk is full, a path is not writable, or another run holds the lock."""
    exit_code = 12


class PolicyError(OfflinepackError):
    """A rule forbids it, for example the rule against downgrades."""
    exit_code = 13


def raise_on_errors(kind, findings):  # type: (type, Iterable[Finding]) -> List[Finding]
    """Return the findings, or raise one exception of this kind with all of them if any is an error."""
    findings = list(findings)
    if any(finding.level == "error" for finding in findings):
        raise kind(*findings)
    return findings
