"""Figure of the cost of a training's epochs, relative to a steady epoch of the baseline."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports.figures.draw import Plot, legend, logarithmic, looks, varies
from reports.figures.series import CONTEXT, OVER_SEEDS, in_series, joined, over_seeds, panels, with_cells

_CAPTION = (
    "Time of each epoch relative to a steady epoch of the baseline (the grey line): the area below a line is the cost "
    "of the whole training, in epochs of the baseline. The first epoch after each start is not timed. Methods without "
    "a timed training have the course of their counted operations, or all steps cost the same. Bands are over seeds. "
    f"{OVER_SEEDS}."
)


def epoch_costs(costs: pd.DataFrame, timing: pd.DataFrame) -> Plot:
    """Draw the relative cost of the epochs of each method, one line for all seeds.

    ValueError where no method has a time relative to the baseline, and where all epochs of each method cost the same.
    """
    if costs.empty:
        raise ValueError("no method has a time relative to the baseline")
    rows = with_cells(costs, timing)
    key = [name for name in ("id", "folder") if name in rows]
    labelled = in_series(rows.drop_duplicates(key))
    rows = rows.merge(labelled[[*key, "threat", "series"]], on=key)
    counted = rows["by"].eq("operations")
    rows["series"] = rows["series"].where(~counted, rows["series"] + ", counted")
    keys = [*(name for name in CONTEXT if name in rows), "series", "by", "epoch"]
    drawn = over_seeds(rows, keys, cost="positive")
    if drawn["by"].eq("constant").all() and not varies(drawn["epoch"]):
        raise ValueError("no training was timed, and all epochs of each method cost the same")
    title, parts = panels(drawn)
    figure = Plot(joined("Cost of epochs", title), _CAPTION, drawn)
    styles = looks(drawn["series"])
    for axes, (words, part) in zip(figure.panels(len(parts), 2.2), parts, strict=True):
        axes.axhline(1, color="grey", lw=0.6, zorder=0)
        for series, own in part.groupby("series", sort=False):
            _line(axes, own.sort_values("epoch"), styles[series])
            axes.plot([], [], **styles[series], label=series)
        axes.set_title(words)
        axes.set(xlabel="epoch", ylabel="relative cost", xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        logarithmic(axes, "y", part["cost"])
    legend(figure)
    return figure


def _line(axes: Axes, own: pd.DataFrame, look: dict) -> None:
    """Draw one series; the cost of an epoch holds from the end of the epoch before."""
    first = own["epoch"].iloc[0]
    # Epochs of a training that is not timed from its start begin with the second one.
    start = first - own["epoch"].diff().min() if own["by"].iloc[0] == "trainings" and len(own) > 1 else 0
    x = [max(start, 0), *own["epoch"]]
    values = {key: [own[key].iloc[0], *own[key]] for key in ("cost", "cost_low", "cost_high")}
    axes.step(x, values["cost"], where="pre", color=look["color"], ls=look["ls"])
    axes.fill_between(x, values["cost_low"], values["cost_high"], step="pre", color=look["color"], alpha=0.15, lw=0)
    marks = own.iloc[np.unique(np.linspace(0, len(own) - 1, 6).astype(int))]
    axes.plot(marks["epoch"], marks["cost"], **look | {"ls": ""})
