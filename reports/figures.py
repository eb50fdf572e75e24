"""All figures of a report."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from reports import curves, outcomes, plots


def draw(frames: dict[str, pd.DataFrame], plot: Path) -> Iterator[Path]:
    """A file for each plot that there are numbers for; ValueError where there are none for any."""
    whys, drawn = [], False
    for name, figure, frame in (
        ("slowdown", plots.slowdown, frames["timing"]),
        ("cumulative", plots.cumulative, frames["timing"]),
        ("scaling", plots.scaling, frames["scaling"]),
        ("certified", curves.certified, frames["certificates"]),
        ("likelihood", curves.likelihood, frames["certificates"]),
        ("tradeoff", outcomes.tradeoff, frames["timing"]),
        ("stacked", outcomes.stacked, frames["timing"]),
        ("sweep", outcomes.sweep, frames["sweeps"]),
        ("complexity", outcomes.complexity, frames["timing"]),
        ("curves", curves.training, frames["monitored"]),
    ):
        file = plot.with_name(f"{plot.stem}-{name}{plot.suffix}")
        try:
            figure(frame, file)
        except ValueError as why:
            whys.append(f"{name}: {why}")
        else:
            drawn = True
            yield file
    if not drawn:
        raise ValueError(f"--plot {plot}: {'; '.join(whys)}")
