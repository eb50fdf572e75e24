"""LaTeX markup of plain text."""

import re
import unicodedata

_SIGNS = (
    {char: f"\\{char}" for char in "_%&#${}"}
    | {char: f"${char}$" for char in "<>|"}
    | {char: rf"\text{name}{{}}" for char, name in zip("\\~^", "backslash asciitilde asciicircum".split(), strict=True)}
    | {
        char: rf"\ensuremath{{\{name}}}"
        for char, name in zip(
            "αβγδεζηθκλμνξπρστφχψω±×≤≥∞←→",
            "alpha beta gamma delta varepsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau varphi chi psi"
            " omega pm times leq geq infty leftarrow rightarrow".split(),
            strict=True,
        )
    }
    | {"–": "--", "—": "---", "<-": r"\ensuremath{\leftarrow}"}
    | {"--": "-{}-{}"}  # otherwise LaTeX joins them to one dash
    | {"[": "{[}"}  # otherwise an option, after \\
)
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))


def escape(text: str) -> str:
    """Escape text; a letter that LaTeX's default fonts lack is replaced by its code point."""
    return re.sub("<-|--|.", lambda match: _sign(match[0]), unicodedata.normalize("NFC", " ".join(text.split())))


def _sign(char: str) -> str:
    if char in _SIGNS:
        return _SIGNS[char]
    if char.isascii() and char.isprintable():
        return char
    base, *marks = list(unicodedata.normalize("NFD", char))
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return f"\\{_ACCENTS[marks[0]]}{{{base}}}"
    return rf"\texttt{{U+{ord(char):04X}}}"
