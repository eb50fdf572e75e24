"""All figures of a report: as files, and as SVG for a page."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from bench.results.robustness import kind
from crt.disk import naming
from reports.figures import arguments, certificates, hours, schedule, times, training
from reports.figures.draw import Plot, left_out, style
from reports.figures.svg import svg
from reports.figures.tradeoff import tradeoff

Frames = dict[str, pd.DataFrame]
_KINDS: tuple[tuple[str, Callable[[Frames], Plot]], ...] = (
    ("tradeoff", lambda f: tradeoff(f["timing"], f["robustness"])),
    ("certified", lambda f: certificates.certified(f["certificates"], f["timing"], _waiting(f["robustness"]))),
    ("probability", lambda f: certificates.probability(f["certificates"], f["timing"])),
    ("slowdown", lambda f: times.slowdown(f["timing"])),
    ("schedule", lambda f: schedule.epoch_costs(f["epoch_costs"], f["timing"])),
    ("progress", lambda f: training.hours(f["monitored"], f["timing"])),
    ("curves", lambda f: training.epochs(f["monitored"], f["timing"])),
    ("sweep", lambda f: arguments.sweep(f["sweeps"])),
    ("complexity", lambda f: arguments.complexity(f["timing"])),
    ("stacked", lambda f: hours.stacked(f["timing"])),
    ("cumulative", lambda f: hours.cumulative(f["timing"], f["teachers"])),
    ("scaling", lambda f: times.scaling(f["scaling"])),
)
NAMES = tuple(name for name, _ in _KINDS)


@dataclass(frozen=True)
class Entry:
    """A figure that has data."""

    name: str
    plot: Plot

    @property
    def title(self) -> str:
        """Dataset, architecture and threat that all panels share, after the kind of figure."""
        return self.plot.title

    @property
    def caption(self) -> str:
        """Sentences on the marks and their intervals."""
        return self.plot.caption

    @property
    def data(self) -> pd.DataFrame:
        """The numbers that are drawn."""
        return self.plot.data

    @property
    def left_out(self) -> list[str]:
        """A line for each reason, with the cells that it leaves out."""
        return self.plot.left_out

    @cached_property
    def svg(self) -> str:
        """An `<svg>` element for inline use; see `reports.figures.svg`."""
        with style():
            return svg(self.plot, f"figure-{self.name}", self.title, self.caption)


@dataclass(frozen=True)
class Refusal:
    """A figure that is not drawn."""

    name: str
    reason: str


def attempts(frames: Frames, names: Collection[str] = NAMES) -> Iterator[Entry | Refusal]:
    """Yield each kind of figure, or the reason why it is not drawn: it is empty, or shows one value only."""
    for name, make in _KINDS:
        if name not in names:
            continue
        try:
            with style():
                plot = make(frames)
        except ValueError as error:
            yield Refusal(name, str(error))
        else:
            yield Entry(name, plot)


def figures(frames: Frames, names: Collection[str] = NAMES) -> Iterator[Entry]:
    """Yield the figures of these names that have data."""
    return (attempt for attempt in attempts(frames, names) if isinstance(attempt, Entry))


def draw(frames: Frames, plot: Path) -> Iterator[str]:
    """Write a file for each figure that has data; yield lines on the files and on what each leaves out.

    ValueError where no figure has data.
    """
    refused, drawn = [], False
    for attempt in attempts(frames):
        if isinstance(attempt, Refusal):
            refused.append(f"{attempt.name}: {attempt.reason}")
            continue
        file = plot.with_name(f"{plot.stem}-{attempt.name}{plot.suffix}")
        with style(), naming(file):
            attempt.plot.savefig(file, dpi=300, facecolor="white")
        drawn = True
        yield f"wrote {file}"
        yield from (f"  without {line}" for line in attempt.left_out)
    if not drawn:
        raise ValueError(f"--plot {plot}: {'; '.join(refused)}")
    yield from (f"not drawn: {reason}" for reason in refused)


def _waiting(robustness: pd.DataFrame) -> list[str]:
    """Lines for the cells that await certification by smoothing."""
    if robustness.empty:
        return []
    rows = robustness[(robustness["judge"].map(kind).eq("smoothing")) & robustness["images"].isna()]
    return left_out(rows, ["not evaluated"] * len(rows))
