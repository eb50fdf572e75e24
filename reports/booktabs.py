"""A table as LaTeX sets it: booktabs, siunitx."""

import math
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, zip_longest
from typing import NamedTuple

import pandas as pd

_WIDTH = 26
"""Characters of a name before it goes on in the next line."""
_LINES = 50
"""Lines of a table's body that a page holds, the gap between rows taken as half a line."""
_MANY = 10
"""Columns that stand apart as they should; more come closer."""
_DASH = "{--}"
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
    | {"--": "-{}-{}"}  # else LaTeX makes one dash of them
    | {"[": "{[}"}  # else an option, after \\
)
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))

Form = Callable[[float], str]


class Column(NamedTuple):
    """A column: the head it shares with its neighbours, its own, its format, and the lines of each cell."""

    group: str
    head: str
    format: str
    cells: list[list[str]]


def escape(text: str) -> str:
    """Text as LaTeX shows it; of a letter that its default fonts have not, the code point."""
    return re.sub("<-|--|.", lambda found: _sign(found[0]), unicodedata.normalize("NFC", " ".join(text.split())))


def _sign(char: str) -> str:
    if char in _SIGNS:
        return _SIGNS[char]
    if char.isascii() and char.isprintable():
        return char
    base, *marks = unicodedata.normalize("NFD", char)
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return f"\\{_ACCENTS[marks[0]]}{{{base}}}"
    return rf"\texttt{{U+{ord(char):04X}}}"


def text(head: str, values: pd.Series, width: int = _WIDTH) -> Column:
    return Column("", head, "l", [["--"] if pd.isna(value) else fold(str(value), width) for value in values])


def fold(text: str, width: int = _WIDTH) -> list[str]:
    return [escape(line) for line in textwrap.wrap(text, width)]


def number(frame: pd.DataFrame, name: str, head: str, form: Form, group: str = "", ends: Form | None = None) -> Column:
    """A column of numbers, each above its interval where it has one."""
    ends = ends or form
    texts = [form(value) if _there(value) else None for value in frame[name]]
    cells = [[_DASH if text is None else text] for text in texts]
    if f"{name}_low" in frame:
        for cell, low, high in zip(cells, frame[f"{name}_low"], frame[f"{name}_high"], strict=True):
            if cell[0] != _DASH and _there(low) and _there(high):
                cell.append(rf"{{\scriptsize[{ends(low)}, {ends(high)}]}}")
    parts = [text.split(".") for text in texts if text is not None]
    whole = max((len(part[0].removeprefix("-")) for part in parts), default=1)
    sign = "-" * any(part[0].startswith("-") for part in parts)
    decimals = max((len(part[1]) for part in parts if len(part) > 1), default=0)
    return Column(group, head, f"S[table-format={sign}{whole}.{decimals}]", cells)


def _there(value: float | None) -> bool:
    return not pd.isna(value) and math.isfinite(value)


def significant(value: float) -> str:
    """Four significant digits, and every digit before the point."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def fixed(digits: int) -> Form:
    return lambda value: f"{value:.{digits}f}"


def percent(digits: int) -> Form:
    return lambda value: f"{100 * value:.{digits}f}"


def pages(columns: list[Column]) -> Iterator[list[Column]]:
    """The table in pieces, none longer than a page."""
    heights = [max(map(len, row)) for row in zip(*(column.cells for column in columns), strict=True)]
    first = 0
    for row in range(1, len(heights) + 1):
        if row == len(heights) or sum(heights[first : row + 1]) + (row - first) / 2 > _LINES:
            yield [column._replace(cells=column.cells[first:row]) for column in columns]
            first = row


def environment(caption: str, columns: list[Column]) -> str:
    rows = [_lines(row) for row in zip(*(column.cells for column in columns), strict=True)]
    space = 3 if len(columns) <= _MANY else 1.5
    gap = "\\addlinespace\n" if max(map(len, rows)) > 1 else ""
    return "\n".join(
        [
            r"\begin{table*}[htbp]",
            rf"\centering\footnotesize\setlength{{\tabcolsep}}{{{space}pt}}"
            r"\setlength{\belowcaptionskip}{6pt}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{@{{}}{''.join(column.format for column in columns)}@{{}}}}",
            r"\toprule",
            *_groups(columns),
            _line([column.head if column.format == "l" else f"{{{column.head}}}" for column in columns]),
            r"\midrule",
            gap.join("".join(f"{line}\n" for line in row) for row in rows) + r"\bottomrule",
            r"\end{tabular}",
            "\\end{table*}\n",
        ]
    )


def _lines(cells: tuple[list[str], ...]) -> list[str]:
    return [_line(line) for line in zip_longest(*cells, fillvalue="")]


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _groups(columns: list[Column]) -> list[str]:
    """The head above the heads, with a rule below each name."""
    cells, rules, first = [], [], 1
    for name, members in groupby(columns, key=lambda column: column.group):
        size = len(list(members))
        cells += [rf"\multicolumn{{{size}}}{{c}}{{{name}}}"] if name else [""] * size
        rules += [rf"\cmidrule(lr){{{first}-{first + size - 1}}}"] if name else []
        first += size
    return [_line(cells), "".join(rules)] if rules else []
