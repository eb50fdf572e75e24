"""LaTeX tables for a paper, with booktabs and siunitx."""

import math
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest

import pandas as pd

from reports.render.latex_text import escape
from reports.render.table_spec import FORMATS, LATEX, RADII, Column, TableSpec, Words, ends

_RADII = 8
"""Number of radii that a page holds side by side."""
_LINES = 50
"""Number of lines of a table's body that a page holds; a gap between rows counts as half a line."""
_MANY = 10
"""Number of columns at the usual distance; more columns are set closer."""
_DASH = "{--}"
_DOCUMENT = r"""% Compiles as it stands. In a paper that loads booktabs and siunitx, \input it for the tables alone.
\ifdefined\maketitle % a class is loaded: this is a paper
  \let\closetables\relax
\else
  \documentclass[a4paper]{article}
  \usepackage[margin=15mm]{geometry}
  \usepackage{booktabs}
  \usepackage{siunitx}
  \def\closetables{\end{document}}
  \begin{document}
  \section*{TITLE}
NOTES\fi
"""


@dataclass(frozen=True)
class _Set:
    """A column in LaTeX markup, with the lines of each cell."""

    group: str
    heading: str
    format: str
    cells: list[list[str]]


def latex(title: str, lines: list[str], tables: Iterable[TableSpec]) -> str:
    """A document of tables, whose captions begin with the title; `lines` are printed above them.

    It needs booktabs, geometry and siunitx. Tables that exceed a page are split.
    """
    words = {"TITLE": escape(title), "NOTES": "".join(f"  \\noindent {escape(line)}\\par\n" for line in lines)}
    head = re.sub("|".join(words), lambda match: words[match[0]], _DOCUMENT)
    parts = [
        _environment(f"{escape(title)}: {_caption(spec)}", page)
        for spec in tables
        for columns in _narrow(spec)
        for page in _pages([_set(spec.rows, column) for column in columns])
    ]
    return "\n".join([head, *parts, "\\closetables\n"])


def _caption(spec: TableSpec) -> str:
    folder = [] if spec.folder is None else [f"Folder: {escape(spec.folder)}."]
    return " ".join([spec.caption, *spec.notes, *folder])


def _narrow(spec: TableSpec) -> Iterator[list[Column]]:
    """Yield the columns of each table: all, or as many radii as a page holds, beside the other columns."""
    columns = spec.shown(LATEX)
    radii = [column for column in columns if column.group == RADII]
    for first in range(0, len(radii) or 1, _RADII):
        yield [column for column in columns if column not in radii or column in radii[first : first + _RADII]]


def _set(rows: pd.DataFrame, column: Column) -> _Set:
    """Set a column: numbers align at the decimal point, each above its interval."""
    heading = column.heading if column.latex is None else column.latex
    form = FORMATS[column.format]
    if isinstance(form, Words):
        return _Set(column.group, heading, "l", [_fold(value, column.width) for value in rows[column.key]])
    texts, cells = [], []
    for value, (low, high) in zip(rows[column.key], ends(rows, column.key), strict=True):
        given = form.given(low, high)
        end = given.latex_ends or given.latex
        texts += [given.latex(value)] if _is_number(value) else []
        cells.append([texts[-1] if _is_number(value) else _DASH])
        if _is_number(value) and _is_number(low) and _is_number(high):
            cells[-1].append(rf"{{\scriptsize[{end(low)}, {end(high)}]}}")
    for cell, warnings in zip(cells, rows[column.warnings] if column.warnings else (), strict=False):
        cell += [rf"{{\scriptsize {escape(warning)}}}" for warning in warnings]
    parts = [text.split(".") for text in texts]
    whole = max((len(part[0].removeprefix("-")) for part in parts), default=1)
    sign = "-" * any(part[0].startswith("-") for part in parts)
    decimals = max((len(part[1]) for part in parts if len(part) > 1), default=0)
    return _Set(column.group, f"{{{heading}}}", f"S[table-format={sign}{whole}.{decimals}]", cells)


def _fold(value: object, width: int) -> list[str]:
    """Lines of words; each item of a tuple begins a new line."""
    if not isinstance(value, tuple):
        return ["--"] if pd.isna(value) else _fold((str(value),), width)
    return [escape(line) for words in value for line in textwrap.wrap(words, width)]


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _pages(columns: list[_Set]) -> Iterator[list[_Set]]:
    """Yield the table in pieces that fit a page."""
    heights = [max(map(len, row)) for row in zip(*(column.cells for column in columns), strict=True)]
    first = 0
    for row in range(1, len(heights) + 1):
        if row == len(heights) or sum(heights[first : row + 1]) + (row - first) / 2 > _LINES:
            yield [_Set(each.group, each.heading, each.format, each.cells[first:row]) for each in columns]
            first = row


def _environment(caption: str, columns: list[_Set]) -> str:
    rows = [
        [_line(line) for line in zip_longest(*row, fillvalue="")]
        for row in zip(*(column.cells for column in columns), strict=True)
    ]
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
            _line(column.heading for column in columns),
            r"\midrule",
            gap.join("".join(f"{line}\n" for line in row) for row in rows) + r"\bottomrule",
            r"\end{tabular}",
            "\\end{table*}\n",
        ]
    )


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _groups(columns: list[_Set]) -> list[str]:
    """The line of group headings, and the line of rules below them."""
    cells, rules, first = [], [], 1
    for name, members in groupby(columns, key=lambda column: column.group):
        size = len(list(members))
        cells += [rf"\multicolumn{{{size}}}{{c}}{{{name}}}"] if name else [""] * size
        rules += [rf"\cmidrule(lr){{{first}-{first + size - 1}}}"] if name else []
        first += size
    return [_line(cells), "".join(rules)] if rules else []
