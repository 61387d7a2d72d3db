"""What a path in a bundle may be: relative, and legal on every file system that it may be carried on."""

import re
import unicodedata

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.I)


def bad_path(path):  # type: (str) -> str
    """Why this is no path for a bundle, '' where it is one: relative, below the folder, legal on FAT32 and NTFS too."""
    if not path or len(path) > 240 or len(path.encode("utf-8", "surrogatepass")) > 255:
        return "empty or longer than 240 characters"
    if unicodedata.normalize("NFC", path) != path or not path.isprintable():
        return "characters that cannot be printed, or not in normal form C"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "not a plain relative path"
        if re.search(r'[<>:"|?*\\]', part) or part[-1] in ". " or _RESERVED.match(part):
            return "a name that Windows does not allow"
    return ""


def folded(path):  # type: (str) -> str
    """The path as a file system compares it that ignores case and normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
