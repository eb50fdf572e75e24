"""Text as data: its form on a terminal and in a shell, and names of folders."""

import codecs
import io
import re
import shlex
import sys
import unicodedata
from pathlib import Path

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that control a terminal instead of being shown: control codes, line ends, changes of direction.

Surrogates are bytes of a path that are not UTF-8.
"""
_ALIKE = {"–": "-", "—": "-", "…": "...", "±": "+/-", "×": "x", "≤": "<=", "≥": ">=", "∞": "inf", "→": "->", "←": "<-"}
_ALIKE |= {"°": "deg ", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " "}
_SUBCOMMANDS = {"bench.submit": "submit", "bench.status": "status", "reports": "report", "crt.data.beton": "data"}
"""Names in `robust-bench` of the modules that hints refer to."""
_BYTES = 255
"""Length in bytes of the longest file name on Linux."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with escapes such as `\n` and `\x1b` for control characters, except those to `keep`."""
    return CONTROL.sub(lambda match: match[0] if match[0] in keep else _escaped(match[0]), text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # Python's form of a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def one_line(text: str) -> str:
    """The text; ValueError for one with a line break, a tab or another control character."""
    if CONTROL.search(text):
        raise ValueError("one line of text without tabs is needed")
    return text


def shorten(text: str, most: int = 200) -> str:
    """The text, or its beginning and an ellipsis where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def command(*words: str | Path) -> str:
    """A line that a shell parses as these words; a path that begins with a dash is not taken for an option."""
    return " ".join(map(_quoted, words))


def invocation(module: str, *words: str | Path) -> str:
    """A line that runs one of this project's commands in the same way as the running one was called."""
    installed = Path(sys.argv[0]).name == "robust-bench"
    return command(*(("robust-bench", _SUBCOMMANDS[module]) if installed else ("python", "-m", module)), *words)


def _quoted(word: str | Path) -> str:
    text = f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
    if all(map(_can_be_copied, text)):
        return shlex.quote(text)
    # bash and zsh parse $'...', which stays one line and needs only ASCII.
    inside = (char if _can_be_copied(char) and char not in "\\'" else _bytes(char) for char in text)
    return f"$'{''.join(inside)}'"


def _can_be_copied(char: str) -> bool:
    """True if standard output can show the character."""
    try:
        char.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return not CONTROL.match(char)


def _bytes(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def check_folder_name(name: str, suffix: int) -> None:
    """Raise ValueError where `name` with `suffix` more bytes cannot name a folder."""
    most, size = _BYTES - suffix, len(name.encode("utf-8", "surrogateescape"))
    if name.startswith((".", "-")):
        wrong = "begins with a dot or a dash"
    elif CONTROL.search(name):
        wrong = "holds a character that cannot be shown"
    elif size > most:
        wrong = f"has {size} bytes"
    else:
        return
    allowed = f"letters, digits, spaces and signs, not a dot or a dash first, at most {most} bytes"
    raise ValueError(f"its name {name!r} {wrong}, and folders and jobs are named by it (allowed: {allowed})")


def replace_missing_characters() -> None:
    """Make standard output and error write similar characters for those that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="look-alike")


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_similar, error.object[error.start : error.end])), error.end


def _similar(char: str) -> str:
    if char in _ALIKE:
        return _ALIKE[char]
    if unicodedata.combining(char):
        return ""
    base = unicodedata.normalize("NFD", char)[0]
    return base if base.isascii() else _escaped(char) if CONTROL.match(char) else "?"


codecs.register_error("look-alike", _look_alike)
