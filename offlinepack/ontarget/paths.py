"""Define which paths a bundle may contain: relative, and legal on every file system that may carry it."""

import re
import unicodedata

_FORBIDDEN_ON_WINDOWS = re.compile(
    r'[<>:"|?*\\]|[. ](?:/|\Z)|'
    r'(?:\A|/)(?:con|prn|aux|nul|con(?:in|out)\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\.[^/]*)?(?:/|\Z)',
    re.I,
)


def find_path_problem(path):  # type: (str) -> str
    """Why this is no path for a bundle, '' where it is one: relative, below the folder, legal on FAT32 and NTFS too."""
    if not path or len(path) > 240 or len(path.encode("utf-8", "surrogatepass")) > 255:
        return "empty or longer than 240 characters"
    if unicodedata.normalize("NFC", path) != path or not path.isprintable():
        return "characters that cannot be printed, or not in normal form C"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "not a plain relative path"
    return find_windows_problem(path)


def find_windows_problem(path):  # type: (str) -> str
    """Why FAT32 and NTFS have no such relative path, '' where they do; an archive's own checks are taken as made."""
    if _FORBIDDEN_ON_WINDOWS.search(path):
        return "a name that Windows does not allow"
    return ""


def fold_path(path):  # type: (str) -> str
    """The path as a file system compares it that ignores case and normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
