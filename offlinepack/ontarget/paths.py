"""Define which paths a bundle may contain: relative, and legal on every file system that may carry it."""

import re
import unicodedata

_FORBIDDEN_ON_WINDOWS = re.compile(
    r'[<>:"|?*\\]|[. ](?:/|\Z)|'
    r'(?:\A|/)(?:con|prn|aux|nul|con(?:in|out)\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\.[^/]*)?(?:/|\Z)', re.I)


def find_path_problem(path):  # type: (str) -> str
    """Return why a bundle cannot contain this path, or ''. It must be relative and legal on FAT32 and NTFS too."""
    if not path or len(path) > 240 or len(path.encode("utf-8", "surrogatepass")) > 255:
        return "empty or longer than 240 characters"
    if unicodedata.normalize("NFC", path) != path or not path.isprintable():
        return "characters that cannot be printed, or not in normal form C"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "not a plain relative path"
    return find_windows_problem(path)


def find_windows_problem(path):  # type: (str) -> str
    """Return why FAT32 and NTFS do not allow this path, or ''. The name must have passed the checks of an archive."""
    if _FORBIDDEN_ON_WINDOWS.search(path):
        return "a name that Windows does not allow"
    return ""


def fold_path(path):  # type: (str) -> str
    """Return the path as a file system compares it that ignores case and normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
