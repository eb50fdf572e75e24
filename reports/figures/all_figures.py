"""All figures of a report."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from bench.results.robustness import kind
from reports.figures import curves, outcomes, times
from reports.figures.draw import left_out


def draw(frames: dict[str, pd.DataFrame], plot: Path) -> Iterator[str]:
    """A file for each plot that there are numbers for; lines that say what was written and what is not in it.

    ValueError where there are no numbers for any.
    """
    whys, drawn = [], False
    certificates = frames["certificates"]
    for name, figure, frame, unseen in (
        ("slowdown", times.slowdown, frames["timing"], []),
        ("cumulative", partial(times.cumulative, teachers=frames["teachers"]), frames["timing"], []),
        ("scaling", times.scaling, frames["scaling"], []),
        ("certified", curves.certified, certificates, _unjudged(frames["robustness"])),
        ("likelihood", curves.likelihood, certificates, _unjudged(frames["robustness"])),
        ("tradeoff", outcomes.tradeoff, frames["timing"], []),
        ("stacked", outcomes.stacked, frames["timing"], []),
        ("sweep", outcomes.sweep, frames["sweeps"], []),
        ("complexity", outcomes.complexity, frames["timing"], []),
        ("curves", curves.training, frames["monitored"], []),
    ):
        file = plot.with_name(f"{plot.stem}-{name}{plot.suffix}")
        try:
            missing = [*figure(frame, file), *unseen]
        except ValueError as why:
            whys.append(f"{name}: {why}")
        else:
            drawn = True
            yield f"wrote {file}"
            yield from (f"  without {line}" for line in missing)
    if not drawn:
        raise ValueError(f"--plot {plot}: {'; '.join(whys)}")
    yield from (f"not drawn: {why}" for why in whys)


def _unjudged(robustness: pd.DataFrame) -> list[str]:
    """The cells that smoothing is to certify, and has not."""
    if robustness.empty:
        return []
    rows = robustness[(robustness["judge"].map(kind).eq("smoothing")) & robustness["images"].isna()]
    return left_out(rows, ["not judged"] * len(rows))
