"""Read trust.ini, the machine's policy that says which keys must have signed every bundle."""

import configparser
import os
from typing import List

from .errors import UsageError, error

POLICY_PATH = os.path.join(os.environ.get("PROGRAMDATA", "") if os.name == "nt" else "/etc", "offlinepack", "trust.ini")
_UNREADABLE = "{subject} demands signatures, but cannot be read: {why}."
_ASK_ADMINISTRATOR = "Ask whoever looks after this machine."


def required_keys(path):  # type: (str) -> List[str]
    """Return the required key files ([signature] verify-key), or raise UsageError if the file is unclear or
    unprotected.
    """
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with open(path, encoding="utf-8-sig") as source:
            parser.read_file(source)
        sections = {name: sorted(parser[name]) for name in parser.sections()}
        if sections != {"signature": ["verify-key"]}:
            raise ValueError("verify-key in [signature] is all that it may hold, not %s" % sections)
        lines = map(str.strip, parser["signature"]["verify-key"].splitlines())
        keys = [os.path.join(os.path.dirname(path), line) for line in lines if line]
        if not keys:
            raise ValueError("verify-key is empty")
        for key in filter(os.path.exists, [path, *keys] if os.name == "posix" else []):
            if os.stat(key).st_mode & 0o002:
                raise ValueError("anybody may write to %s" % key)
        return keys
    except (OSError, ValueError, configparser.Error) as failure:
        if isinstance(failure, FileNotFoundError) and not os.path.lexists(path):
            return []
        raise UsageError(error("trust-unreadable", path, _UNREADABLE, _ASK_ADMINISTRATOR, why=failure))
