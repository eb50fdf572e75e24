"""The best methods of each setting of the board within a time, and at an accuracy."""

from collections.abc import Iterator, Sequence

import pandas as pd

from bench.results.board import Ranked
from bench.results.columns import named
from bench.results.ranking import Best, Hours, fastest_at_least, most_robust_within, training_hours
from reports.render.latex_text import escape
from reports.render.phrases import listed
from reports.render.table_spec import BOTH, INTERVALS, Column, TableSpec, alike
from reports.tables.ranking import PLACE, place_of, titles

_LIMITS = (
    f"{PLACE},criterion,limit,methods,method,accuracy,accuracy_low,accuracy_high,hours,hours_low,hours_high,others"
)
_BETWEEN = "; "
_AT_MOST, _AT_LEAST = "hours at most", "accuracy at least"


def limits(ranked: Sequence[Ranked]) -> pd.DataFrame:
    """A row per measured time and accuracy at which the best method changes.

    `method` is the most robust of the `methods` that take `limit` hours at most, or the one of least hours among those
    with an accuracy of `limit` at least; `others` may be as good, which the measurements do not tell.
    """
    rows = []
    for title, each in zip(titles(ranked), ranked, strict=True):
        hours, place = training_hours(each.setting), place_of(title, each)
        for criterion, found in (
            (_AT_MOST, most_robust_within(each.setting, hours)),
            (_AT_LEAST, fastest_at_least(each.setting, hours)),
        ):
            rows += [place | {"criterion": criterion} | _best(best, hours) for best in found]
    return pd.DataFrame(rows, columns=_LIMITS.split(","))


def _best(found: Best, hours: Hours) -> dict[str, object]:
    return {
        "limit": found.limit,
        "methods": found.methods,
        "method": found.best.label,
        **named("accuracy", found.best.accuracy),
        **named("hours", hours[found.best]),
        "others": _BETWEEN.join(each.label for each in found.others) or None,
    }


def limit_tables(frame: pd.DataFrame) -> Iterator[TableSpec]:
    """Describe the best methods of each setting within a time, and at an accuracy."""
    shown = frame.assign(others=[_few(others) for others in frame["others"]])
    for setting, rows in shown.groupby("setting", sort=False):
        method, others = Column("method", "method", "name"), Column("others", "not told apart", "name", optional=BOTH)
        accuracy = Column("accuracy", "robust %", "percent", r"robust, \%")
        hours = Column("hours", "time with teachers", "span", "hours")
        within = rows[rows["criterion"] == _AT_MOST]
        columns = [
            Column("limit", "time at most", "span", "hours at most"),
            *alike("methods", "count", hide=1),
            *(method, accuracy, others),
        ]
        title = f"Most robust within a time: {setting}"
        yield TableSpec(title, f"most robust within a time, {escape(str(setting))}.", columns, within, [INTERVALS])
        reaching = rows[rows["criterion"] == _AT_LEAST]
        columns = [
            Column("limit", "robust % at least", "percent", r"at least, \%"),
            *alike("methods", "count", hide=1),
            *(method, hours, accuracy),
            Column("others", "faster, not told apart", "name", optional=BOTH),
        ]
        title = f"Fastest at an accuracy: {setting}"
        yield TableSpec(title, f"fastest at an accuracy, {escape(str(setting))}.", columns, reaching, [INTERVALS])


def _few(others: object) -> str | None:
    """The methods, or their number where there are many."""
    return listed(others.split(_BETWEEN), "methods") if isinstance(others, str) else None
