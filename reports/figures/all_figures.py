"""All figures of a report."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from bench.results.robustness import kind
from reports.figures import curves, outcomes, times
from reports.figures.draw import left_out


def draw(frames: dict[str, pd.DataFrame], plot: Path) -> Iterator[str]:
    """Write a file for each plot that has data; yield lines on the files and on what each plot leaves out.

    ValueError where no plot has data.
    """
    reasons, drawn = [], False
    certificates = frames["certificates"]
    for name, figure, frame, more in (
        ("slowdown", times.slowdown, frames["timing"], []),
        ("cumulative", partial(times.cumulative, teachers=frames["teachers"]), frames["timing"], []),
        ("scaling", times.scaling, frames["scaling"], []),
        ("certified", curves.certified, certificates, _not_evaluated(frames["robustness"])),
        ("likelihood", curves.likelihood, certificates, _not_evaluated(frames["robustness"])),
        ("tradeoff", outcomes.tradeoff, frames["timing"], []),
        ("stacked", outcomes.stacked, frames["timing"], []),
        ("sweep", outcomes.sweep, frames["sweeps"], []),
        ("complexity", outcomes.complexity, frames["timing"], []),
        ("curves", curves.training, frames["monitored"], []),
    ):
        file = plot.with_name(f"{plot.stem}-{name}{plot.suffix}")
        try:
            missing = [*figure(frame, file), *more]
        except ValueError as error:
            reasons.append(f"{name}: {error}")
        else:
            drawn = True
            yield f"wrote {file}"
            yield from (f"  without {line}" for line in missing)
    if not drawn:
        raise ValueError(f"--plot {plot}: {'; '.join(reasons)}")
    yield from (f"not drawn: {reason}" for reason in reasons)


def _not_evaluated(robustness: pd.DataFrame) -> list[str]:
    """Lines for the cells that await certification by smoothing."""
    if robustness.empty:
        return []
    rows = robustness[(robustness["judge"].map(kind).eq("smoothing")) & robustness["images"].isna()]
    return left_out(rows, ["not evaluated"] * len(rows))
