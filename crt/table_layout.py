"""Choice of a table's columns, and their widths, for the width of a terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.cells import cell_len

_WORD = 48
"""Longest word, in columns of the terminal, that a folding column keeps in one line."""


@dataclass(frozen=True)
class Column:
    """A column of texts, one for each row; a line end in a text begins another line of its cell."""

    heading: str
    texts: Sequence[str]
    left: bool = False
    fold: bool = False
    """True if texts may break between words. Other texts never break: part of a number would read as a number."""
    hide: int = 0
    """Place among the columns that a narrow terminal hides first, from 1; 0 for the others."""
    fixed: bool = False
    """True where the column stays although all rows have the same text."""
    styles: Sequence[str] = ()
    """Style of each text."""


class Layout(NamedTuple):
    """Shown, shared and hidden columns of a table at one width."""

    columns: list[Column]
    widths: list[int]
    shared: list[Column]
    """Columns with the same text in all rows, which a line above the table gives."""
    hidden: list[Column]


def fit(columns: Sequence[Column], width: int | None) -> Layout:
    """Choose the columns that fit a width; None shows all of them.

    1. Columns with the same text in all rows move to a line above the table.
    2. Columns with `hide` are hidden in its order, until the others fit.
    3. If that does not suffice, each interval stands below its estimate, and step 2 is repeated.
    4. If that does not suffice either, the other columns are hidden from the right; the first one stays.
    5. Hidden columns that still fit return, the last hidden first.
    """
    if width is None:
        return Layout(list(columns), [_natural(column) for column in columns], [], [])
    rest = [column for column in columns if not _is_shared(column)] or list(columns[:1])
    shared = [column for column in columns if _is_shared(column) and column is not rest[0]]
    minor = sorted((k for k, column in enumerate(rest) if column.hide), key=lambda k: rest[k].hide)
    major = [k for k in reversed(range(1, len(rest))) if not rest[k].hide]
    shown, (hidden, fits) = rest, _hide(rest, minor, width)
    if not fits:
        shown = [replace(column, texts=_stacked(column.texts)) for column in rest]
        hidden, _ = _hide(shown, minor + major, width)
    final = [column for k, column in enumerate(shown) if k not in hidden]
    return Layout(final, _widths(final, width), shared, [rest[k] for k in sorted(hidden)])


def _hide(columns: Sequence[Column], order: Sequence[int], width: int) -> tuple[list[int], bool]:
    """Indices of the columns to hide, in `order` until the others fit, and True if they fit."""
    least = [_least(column) for column in columns]
    fits = lambda hidden: total(w for k, w in enumerate(least) if k not in hidden) <= width  # noqa: E731
    hidden: list[int] = []
    for k in order:
        if not fits(hidden):
            hidden.append(k)
    enough = fits(hidden)
    for k in reversed(hidden[:-1]):
        if fits(others := [each for each in hidden if each != k]):
            hidden = others
    return hidden, enough


def _is_shared(column: Column) -> bool:
    return not column.fixed and len(column.texts) > 1 and len(set(column.texts)) == 1


def _stacked(texts: Iterable[str]) -> list[str]:
    """Texts with each interval on a line below its estimate."""
    return [text.replace(" [", "\n[", 1) for text in texts]


def _longest(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def _natural(column: Column) -> int:
    return max(cell_len(column.heading), _longest(column.texts))


def _least(column: Column) -> int:
    """Least width of a column, whose heading may break between words."""
    body = min(_WORD, _longest(" ".join(column.texts).split())) if column.fold else _longest(column.texts)
    return max(body, _longest(column.heading.split()))


def total(widths: Iterable[int]) -> int:
    """Width of a table, with a border and a space before each column."""
    widths = list(widths)
    return sum(widths) + 2 * len(widths) + 1


def _widths(columns: list[Column], width: int) -> list[int]:
    """Widths of the columns, of which those that break get what is left: texts first, then headings."""
    widths = [_least(column) for column in columns]
    for wanted in (
        [max(least, _longest(column.texts)) for column, least in zip(columns, widths, strict=True)],
        [_natural(column) for column in columns],
    ):
        room = width - total(widths)
        # The smallest need comes first, so that what it leaves goes to the others.
        for rest, k in enumerate(sorted(range(len(columns)), key=lambda k: wanted[k] - widths[k]), 1 - len(columns)):
            more = min(wanted[k] - widths[k], max(0, room) // (1 - rest))
            widths[k] += more
            room -= more
    return widths
