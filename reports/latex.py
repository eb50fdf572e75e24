"""The tables in LaTeX, for a paper: booktabs and siunitx."""

import math
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, zip_longest
from typing import NamedTuple

import pandas as pd

_HEAD = r"""% Compiles as it stands. In a paper that loads booktabs and siunitx, \input it for the tables alone.
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
_WIDTH = 26
"""Characters of a name before it goes on in the next line."""
_LINES = 50
"""Lines of a table's body that a page holds, the gap between rows taken as half a line."""
_RADII = 8
"""Radii side by side that a page holds."""
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


class _Column(NamedTuple):
    """A column: the head it shares with its neighbours, its own, its format, and the lines of each cell."""

    group: str
    head: str
    format: str
    cells: list[list[str]]


def latex(title: str, lines: list[str], timing: pd.DataFrame, robustness: pd.DataFrame) -> str:
    """A document of the tables of `reports.tables`; `lines` is what must be known before the numbers are read.

    Its packages are booktabs, geometry and siunitx. What a page cannot hold is split.
    """
    head = _HEAD.replace("NOTES", "".join(f"  \\noindent {escape(line)}\\par\n" for line in lines))
    tables = [
        _environment(f"{escape(title)}: {caption}", part)
        for caption, columns in _tables(timing, robustness)
        for part in _pages(columns)
    ]
    return "\n".join([head.replace("TITLE", escape(title)), *tables, "\\closetables\n"])


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


def _tables(timing: pd.DataFrame, robustness: pd.DataFrame) -> Iterator[tuple[str, list[_Column]]]:
    """Caption and columns; tables of two runs folders stand apart, for nothing is divided across them."""
    if "folder" in timing:
        for folder in timing["folder"].unique():
            own = (
                f[f["folder"] == folder].drop(columns="folder") if "folder" in f else f for f in (timing, robustness)
            )
            yield from ((f"{caption} Folder: {escape(folder)}.", columns) for caption, columns in _tables(*own))
        return
    interval = r"In brackets, 95\,\% intervals."
    yield f"time. {interval}", _time(timing, robustness)
    if timing.filter(regex="^paper_").notna().any(axis=None):
        yield "time, as measured and as published.", _time_and_paper(timing)
    if robustness.empty:
        return
    yield f"judged. Shares in \\%. {interval}", _judged(robustness)
    certified = r"certified accuracy in \% at $\ell_2$ radius $r$"
    for caption, prefix, acr, form in (
        (f"{certified}. {interval}", "", _fixed(3), _percent(1)),
        (f"{certified}, as published.", "paper_", _fixed(3), _percent(2)),
    ):
        names = [c for c in robustness if re.fullmatch(rf"{prefix}certified_at_[\d.]+", c)]
        if names and (not prefix or robustness[names].notna().any(axis=None)):
            for first in range(0, len(names), _RADII):
                yield (
                    caption,
                    [
                        *_who(robustness),
                        _number(robustness, f"{prefix}acr", "ACR", acr),
                        *(
                            _number(robustness, name, name.split("_")[-1], form, "$r$", _percent(0))
                            for name in names[first : first + _RADII]
                        ),
                    ],
                )


def _time(frame: pd.DataFrame, robustness: pd.DataFrame) -> list[_Column]:
    """Beside the time, what it bought where that was measured; below a ratio, in what its two sides are unlike."""
    slowdown = _number(frame, "slowdown", "measured", _fixed(2), "slowdown")
    for cell, unlike in zip(slowdown.cells, frame["unlike"], strict=True):
        cell += [rf"{{\scriptsize unlike {escape(field)}}}" for field in ("" if pd.isna(unlike) else unlike).split()]
    published = frame["as_published"].notna() & (frame["as_published"] != frame["slowdown"])
    who = ["dataset", "arch", "method"]
    bought = robustness.dropna(subset="acr").drop_duplicates(who)[[*who, "acr"]] if "acr" in robustness else None
    return [
        *_who(frame),
        _number(frame, "batch", "batch", _fixed(0)),
        _number(frame, "s_per_epoch", "s/epoch", _significant),
        slowdown,
        *([_number(frame, "as_published", "as published", _fixed(2), "slowdown")] if published.any() else []),
        _number(frame, "ideal", "ideal", _fixed(2), "slowdown"),
        _number(frame, "efficiency", "efficiency", _fixed(2)),
        _number(frame, "hours", "own", _significant, "hours"),
        _number(frame, "hours_with_teacher", "+ teacher", _significant, "hours"),
        *([_number(frame[who].merge(bought, "left", who), "acr", "ACR", _fixed(3))] if bought is not None else []),
    ]


def _time_and_paper(frame: pd.DataFrame) -> list[_Column]:
    names = {"s_per_epoch": "s/epoch", "slowdown": "slowdown", "hours": "hours"}
    return _who(frame) + [
        _number(frame, prefix + name, head, _fixed(2) if name == "slowdown" else _significant, group)
        for name, group in names.items()
        for prefix, head in (("", "measured"), ("paper_", "published"))
    ]


def _judged(frame: pd.DataFrame) -> list[_Column]:
    return [
        *_who(frame),
        _text("evaluation", frame["eval"]),
        _text("epochs", frame["epochs"]),
        _number(frame, "images", "images", _fixed(0)),
        _number(frame, "abstained", "abstained", _percent(1)),
        *(_number(frame, name, name, _percent(1), "accuracy") for name in ("clean", "noisy") if name in frame),
    ]


def _who(frame: pd.DataFrame) -> list[_Column]:
    """What tells the rows apart; noise and ranks only where they differ."""
    methods = _text("method", frame["method"])
    if "teacher" in frame:
        for cell, teacher in zip(methods.cells, frame["teacher"], strict=True):
            cell += _fold(f"from {teacher}") if isinstance(teacher, str) else []
    return [
        _text("architecture", frame["arch"]),
        methods,
        *(
            _number(frame, name, head, "{:g}".format)
            for name, head in (("sigma", r"$\sigma$"), ("ranks", "ranks"), ("nodes", "nodes"))
            if name in frame and frame[name].nunique() > 1
        ),
    ]


def _text(head: str, values: pd.Series) -> _Column:
    return _Column("", head, "l", [["--"] if pd.isna(value) else _fold(str(value)) for value in values])


def _fold(text: str) -> list[str]:
    return [escape(line) for line in textwrap.wrap(text, _WIDTH)]


def _number(
    frame: pd.DataFrame, name: str, head: str, form: Form, group: str = "", ends: Form | None = None
) -> _Column:
    """A column of numbers, each above its interval where it has one."""
    ends = ends or form
    texts = [form(value) if _there(value) else None for value in frame[name]]
    cells = [[_DASH if text is None else text] for text in texts]
    if f"{name}_low" in frame:
        for cell, low, high in zip(cells, frame[f"{name}_low"], frame[f"{name}_high"], strict=True):
            if cell[0] != _DASH and _there(low) and _there(high):
                cell.append(rf"{{\scriptsize[{ends(low)}, {ends(high)}]}}")
    parts = [text.split(".") for text in texts if text is not None]
    whole = max((len(part[0]) for part in parts), default=1)
    decimals = max((len(part[1]) for part in parts if len(part) > 1), default=0)
    return _Column(group, head, f"S[table-format={whole}.{decimals}]", cells)


def _there(value: float | None) -> bool:
    return not pd.isna(value) and math.isfinite(value)


def _significant(value: float) -> str:
    """Four significant digits, and every digit before the point."""
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def _fixed(digits: int) -> Form:
    return lambda value: f"{value:.{digits}f}"


def _percent(digits: int) -> Form:
    return lambda value: f"{100 * value:.{digits}f}"


def _pages(columns: list[_Column]) -> Iterator[list[_Column]]:
    """The table in pieces, none longer than a page."""
    heights = [max(map(len, row)) for row in zip(*(column.cells for column in columns), strict=True)]
    first = 0
    for row in range(1, len(heights) + 1):
        if row == len(heights) or sum(heights[first : row + 1]) + (row - first) / 2 > _LINES:
            yield [column._replace(cells=column.cells[first:row]) for column in columns]
            first = row


def _environment(caption: str, columns: list[_Column]) -> str:
    rows = [_lines(row) for row in zip(*(column.cells for column in columns), strict=True)]
    gap = "\\addlinespace\n" if max(map(len, rows)) > 1 else ""
    return "\n".join(
        [
            r"\begin{table*}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{6pt}",
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


def _groups(columns: list[_Column]) -> list[str]:
    """The head above the heads, with a rule below each name."""
    cells, rules, first = [], [], 1
    for name, members in groupby(columns, key=lambda column: column.group):
        size = len(list(members))
        cells += [rf"\multicolumn{{{size}}}{{c}}{{{name}}}"] if name else [""] * size
        rules += [rf"\cmidrule(lr){{{first}-{first + size - 1}}}"] if name else []
        first += size
    return [_line(cells), "".join(rules)] if rules else []
