"""Figures of training: accuracy and losses over the epochs, and accuracy over the hours."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bench.results.robustness import has_eps
from bench.results.warnings import several
from reports.figures.draw import Plot, left_out, legend, logarithmic, looks, varies
from reports.figures.series import CONTEXT, OVER_SEEDS, in_series, joined, over_seeds, panels, short_names, with_cells

_LOSSES = {"loss": "training loss", "mean_loss": "test loss", "mean_worst_loss": "worst test loss at eps"}
_DASHES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
_BANDS = f"Bands are over seeds. {OVER_SEEDS}."


def epochs(monitored: pd.DataFrame, timing: pd.DataFrame) -> Plot:
    """Draw accuracy (solid) and accuracy at eps (dashed) over the epochs, and losses below: a column for each panel.

    ValueError where no network was monitored after two epochs with different results.
    """
    drawn, missing = _monitored(monitored, timing)
    has_losses = bool(drawn["measure"].isin(["mean_loss", "mean_worst_loss"]).any())
    title, parts = panels(drawn)
    caption = f"Accuracy on clean images (solid), at eps (broken), and losses, after each epoch. {_BANDS}"
    figure = Plot(joined("Training", title), caption, drawn, missing)
    styles, dashes = looks(drawn["series"]), _dashes(drawn)
    rows = 3 if has_losses else 2
    grid = np.array(figure.panels(rows * len(parts), 1.6, len(parts), sharex="col")).reshape(rows, len(parts))
    for (accuracy, *middle, loss), (words, panel) in zip(grid.T, parts, strict=True):
        shares = panel[panel["measure"].isin(["clean", "standing"])]
        _lines(accuracy, shares, "epoch", styles, dashes, "standing")
        _lines(loss, panel[panel["measure"] == "loss"], "epoch", styles, dashes)
        for axes in middle:
            _lines(axes, panel[panel["measure"].str.startswith("mean_")], "epoch", styles, dashes, "mean_worst_loss")
            logarithmic(axes, "y", panel["estimate"][panel["measure"].str.startswith("mean_")])
        accuracy.set_title(words)
        loss.set_xlabel("epoch")
        loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, label in zip(grid[:, 0], ("accuracy (%)", *(["test loss"] * has_losses), "training loss"), strict=True):
        axes.set_ylabel(label)
    _entries(grid[0, 0], styles, dashes)
    legend(figure)
    return figure


def hours(monitored: pd.DataFrame, timing: pd.DataFrame) -> Plot:
    """Draw accuracy (solid) and accuracy at eps (dashed) over a network's own hours; the legend has its teachers'.

    ValueError where no timed network was monitored after two epochs with different results.
    """
    known, missing = _monitored(monitored, timing)
    known = known[known["measure"].isin(["clean", "standing"])]
    drawn = known.dropna(subset="hours")
    if drawn.empty or not varies(drawn["estimate"]):
        raise ValueError("; ".join(["no monitored network was timed", *missing]))
    untimed = with_cells(monitored, timing).drop_duplicates("id").query("hours.isna()")
    missing += left_out(untimed, ["not timed"] * len(untimed))
    title, parts = panels(drawn)
    caption = (
        f"Accuracy on clean images (solid) and at eps (broken) over the hours of a network's own training. {_BANDS}"
    )
    figure = Plot(joined("Accuracy over hours", title), caption, drawn, missing)
    styles, dashes = looks(drawn["series"]), _dashes(drawn)
    scale, unit = next(each for least, *each in _UNITS if drawn["hours"].max() >= least)
    drawn = drawn.assign(time=drawn["hours"] * scale)
    unit_hours = drawn.groupby("series")["teacher_hours"].mean() * scale
    names = {name: f"{name} (+ {value:.3g} {unit} of teachers)" for name, value in unit_hours.dropna().items()}
    for axes, (words, panel) in zip(figure.panels(len(parts), 2.2), panels(drawn)[1], strict=True):
        _lines(axes, panel, "time", styles, dashes, "standing")
        if (last := panel.groupby("series")["time"].max()).max() >= 5 * last.min():
            logarithmic(axes, "x", panel["time"])
        axes.set_title(words)
        axes.set(xlabel=f"own training ({unit})", ylabel="accuracy (%)")
    _entries(figure.axes[0], {names.get(name, name): look for name, look in styles.items()}, dashes)
    legend(figure)
    return figure


_UNITS = ((0.1, 1.0, "hours"), (1 / 600, 60.0, "minutes"), (0.0, 3600.0, "seconds"))
"""Least number of hours that are drawn in a unit, how many there are in an hour, and the unit."""


def _monitored(monitored: pd.DataFrame, timing: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Results over seeds by series, evaluation, measure and epoch, with their hours; lines on what has none.

    Accuracies are in percent.
    """
    evaluated = monitored.dropna(subset="clean")
    if evaluated.empty:
        raise ValueError("no network was monitored during training")
    waiting = [name for name in monitored["name"].unique() if name not in set(evaluated["name"])]
    missing = [f"{several(waiting)}: not evaluated yet, only the loss is known"] if waiting else []
    # Results of the whole training are other columns of the same names.
    rows = with_cells(monitored, timing.drop(columns=timing.filter(regex="^clean").columns))
    labelled = in_series(rows.drop_duplicates([key for key in ("id", "folder") if key in rows]))
    key = [key for key in ("id", "folder") if key in rows]
    rows = rows.drop(columns=["threat", "series"], errors="ignore").merge(labelled[[*key, "threat", "series"]], on=key)
    rows["teacher_hours"] = rows["hours_with_teacher"] - rows["hours"]
    rows["hours"] *= rows["epoch"] / rows["epochs"]
    measures = ["clean", "standing", *(key for key in _LOSSES if key in rows)]
    judged = rows["eval"].map(lambda label: isinstance(label, str) and has_eps(label.split("(")[0]))
    rows["eval"] = rows["eval"].map(short_names(rows["eval"].dropna()), na_action="ignore")
    data = []
    for measure in measures:
        own = rows[judged] if measure == "standing" else rows.dropna(subset=measure)
        own = own.drop_duplicates([*key, "epoch"]) if measure in ("clean", "loss") else own
        own = own.assign(eval=None) if measure in ("clean", "loss", "mean_loss") else own
        own = own.drop_duplicates([*key, "epoch", "eval"])
        scale = 100 if measure in ("clean", "standing") else 1
        keys = [*(each for each in CONTEXT if each in own), "series", "eval", "epoch"]
        scales = {"hours": "real", "teacher_hours": "real", measure: "share" if scale > 1 else "real"}
        found = over_seeds(own, keys, **scales)
        found = found.drop(columns=found.filter(regex="hours_(low|high)$").columns)
        names = {f"{measure}{end}": new for end, new in (("", "estimate"), ("_low", "low"), ("_high", "high"))}
        found = found.rename(columns=names)
        found[["estimate", "low", "high"]] *= scale
        data.append(found.assign(measure=measure))
    drawn = pd.concat(data, ignore_index=True)
    if drawn["epoch"].nunique() < 2 or not varies(*(rows["estimate"] for _, rows in drawn.groupby("measure"))):
        raise ValueError("; ".join(["no network was monitored after two epochs with different results", *missing]))
    return drawn, missing


def _dashes(drawn: pd.DataFrame) -> dict:
    """A dash for each evaluation at eps."""
    evaluations = drawn["eval"][drawn["measure"].isin(["standing", "mean_worst_loss"])].unique()
    return dict(zip(evaluations, cycle(_DASHES)))


def _lines(axes: Axes, rows: pd.DataFrame, x: str, styles: dict, dashes: dict, dashed: str = "") -> None:
    """Draw a line with a band for each series, measure and evaluation."""
    for (series, measure, evaluation), own in rows.groupby(["series", "measure", "eval"], sort=False, dropna=False):
        look = styles[series] | {"ls": dashes[evaluation] if measure == dashed else "-"}
        every = max(1, len(own) // 6)
        axes.plot(own[x], own["estimate"], **look, mfc="white" if measure == dashed else None, markevery=every)
        axes.fill_between(own[x], own["low"], own["high"], color=look["color"], alpha=0.15, lw=0)


def _entries(axes: Axes, styles: dict, dashes: dict) -> None:
    """Add the entries of the legend: series by colour and marker, evaluations by dash."""
    for series, look in styles.items():
        axes.plot([], [], **look | {"ls": "-"}, label=series)
    for evaluation, dash in dashes.items():
        axes.plot([], [], color="grey", ls=dash, label=f"at eps, {evaluation}")
