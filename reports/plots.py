"""Figures of a report with their data, for its page."""

from collections.abc import Callable, Collection, Iterator

import pandas as pd

from reports.figures.all_figures import NAMES, figures
from reports.render.html import Figure
from reports.render.html_table import data_table


def plots(
    frames: dict[str, pd.DataFrame], keep: Callable[[str, pd.DataFrame], str], names: Collection[str] = NAMES
) -> Iterator[Figure]:
    """Yield the figures of these names that have data.

    `keep` takes a name and a frame for a CSV file, and returns its name.
    """
    for figure in figures(frames, names):
        key = f"plot-{figure.name}"
        table = data_table(f"{key}-data", figure.data, keep(key, figure.data))
        yield Figure(key, figure.title, figure.caption, figure.svg, table, figure.left_out)
