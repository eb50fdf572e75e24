"""The page on the coverage of the intervals over seeds: tables, a plot, and what follows from them."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from bench.results.statistics import CONFIDENCE
from reports.seed_model import ALIKE, COLLAPSES, DIFFERENCES, DIFFICULTY, MEANS, Case
from reports.seed_simulation import METHODS, SEED, families, simulate

COUNTS = (2, 3, 5, 10)
MANY = (2, 3, 4, 5, 6, 7, 8, 9, 10, 20)
"""Numbers of seeds of the case in which trainings collapse."""
OURS = ("seeds x images", "paired by seed and image", "paired by image (Welch)")
EQUAL = Case("equal methods, independent seeds", sd=0.3)
BAND = (0.93, 0.97)
_GROUPS = ((MEANS, COUNTS, "mean"), ((COLLAPSES,), MANY, "mean, collapses"), (DIFFERENCES, COUNTS, "difference"))
"""Cases, numbers of seeds, and the quantity that is estimated."""
_FAMILIES = "all pairs"
_LARGE = 10_000
"""Number of images from which half as many studies are simulated."""


def publish(studies: int, out: Path) -> None:
    """Simulate, and write the coverage to seeds.md, .csv and .png in the folder `out`."""
    frame = pd.DataFrame(list(_simulated(studies)))
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "seeds.csv", index=False, float_format="%.5g")
    _plot(frame, out / "seeds.png")
    (out / "seeds.md").write_text(_page(frame, studies), encoding="utf-8")


def _simulated(studies: int) -> Iterator[dict]:
    blocks = [
        (quantity, case, seeds, key)
        for cases, counts, quantity in _GROUPS
        for (key, case), seeds in product(enumerate(cases), counts)
    ]
    for quantity, case, seeds, key in track(blocks, "Simulating seeds and images"):
        count = studies if case.images < _LARGE else max(studies // 2, 1)
        yield from ({"quantity": quantity} | row for row in simulate(case, seeds, count, key))
    for seeds in track(COUNTS, "Simulating pairs of methods"):
        yield from ({"quantity": _FAMILIES} | row for row in families(EQUAL, seeds, studies))


def _plot(frame: pd.DataFrame, file: Path) -> None:
    figure = Figure(figsize=(13, 6.5), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    for axis, quantity in zip(axes, ("mean", "difference"), strict=True):
        rows = frame[frame["quantity"] == quantity]
        names = list(rows["interval"].unique())
        cases = list(dict.fromkeys(zip(rows["case"], rows["images"], strict=True)))[::-1]
        axis.axvspan(*BAND, color="0.88")
        axis.axvline(CONFIDENCE, color="0.6", linewidth=0.8)
        for k, name in enumerate(names):
            own = rows[rows["interval"] == name]
            heights = [
                cases.index(each) + 0.8 * (k / len(names) - 0.4)
                for each in zip(own["case"], own["images"], strict=True)
            ]
            axis.scatter(own["coverage"], heights, s=2 + 1.5 * own["seeds"], label=name)
        axis.set_yticks(range(len(cases)), [f"{case}, {images:,} images" for case, images in cases], fontsize=8)
        axis.set_xlabel("coverage")
        axis.set_title(f"{quantity} (larger dots: more seeds)", fontsize=10)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.3, -0.08), ncols=2)
    figure.savefig(file, dpi=100)


def _table(frame: pd.DataFrame, counts: tuple[int, ...]) -> str:
    """A row for each case and interval, a column for each number of seeds."""
    heads = ["case", "images", "interval", *(f"{seeds} seeds" for seeds in counts)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for (case, images, name), rows in frame.groupby(["case", "images", "interval"], sort=False):
        lines.append(" | ".join([case, f"{images:,}", name, *map(_cell, rows.itertuples())]))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(row) -> str:
    coverage, low, high = (f"{100 * value:.1f}" for value in (row.coverage, row.coverage_low, row.coverage_high))
    marked = coverage if BAND[0] <= row.coverage <= BAND[1] else f"**{coverage}**"
    return f"{marked} [{low}, {high}]" + ("" if np.isnan(row.width) else f"; {100 * row.width:.1f}")


def _page(frame: pd.DataFrame, studies: int) -> str:
    part = dict(list(frame.groupby("quantity")))
    ours = frame[frame["interval"].isin(OURS)]
    fair = ours[~ours["case"].str.contains("collapse|skewed, large") & (ours["images"] >= 500)]
    fair = fair[fair["interval"] != OURS[-1]]
    means, differences = (part[key]["interval"].isin(OURS) for key in ("mean", "difference"))
    return _PAGE.format(
        studies=studies,
        half=studies // 2,
        seed=SEED,
        difficulty=DIFFICULTY,
        alike=ALIKE,
        methods=METHODS,
        pairs=METHODS * (METHODS - 1) // 2,
        low=100 * BAND[0],
        high=100 * BAND[1],
        least=100 * fair["coverage"].min(),
        most=100 * fair["coverage"].max(),
        mean=_table(part["mean"][means], COUNTS),
        others=_table(part["mean"][~means], COUNTS),
        collapses=_table(part["mean, collapses"], MANY),
        difference=_table(part["difference"][differences], COUNTS),
        other_differences=_table(part["difference"][~differences], COUNTS),
        families=_table(part[_FAMILIES], COUNTS),
    )


_PAGE = """# Does an interval over a few seeds contain the mean of the method?

This page applies the functions of `bench/results/seeds.py` to simulated accuracies whose true mean is known: the
expectation over all trainings (seeds) and all images. *Coverage* is the share of {studies:,} simulated studies
({half:,} with 10,000 images) whose interval contains the true value; a valid 95 % interval has a coverage near 95 %.

## The model

An image is right with a probability whose logit is the method's level, plus an effect of the seed, plus the difficulty
of the image (normal, sd {difficulty:g}; the same for all seeds, with a correlation of {alike:g} between two methods).

| effect of the seed | on the logit | accuracies of trainings at 50 % |
| --- | --- | --- |
| none | 0 | differ by chance alone |
| small, medium, large | normal, sd 0.1, 0.3, 1 (0.8 near 1) | sd of 1.5, 4.4 and 14 points |
| skewed | negative exponential, sd 0.3 or 1 | a tail of bad trainings |
| collapse | one in five at nearly 0 %, the others normal, sd 0.2 | bimodal |

Near 0 and near 1 the typical accuracy is 3 % or 97 %. Radii vary around 0.5 between seeds (sd 0.05), images (sd 0.4)
and cells (sd 0.1), and those below 0 are 0. Two methods have typical accuracies of 50 and 45 % (or 97 and 95 %). Their
seeds are independent, or have effects with a correlation of 0.8, as if a number of a seed meant one start for both.

## Results

Coverage in %, with its binomial (Wilson) 95 % interval, and the median width of the interval in points (of radii in
hundredths); bold outside {low:g} to {high:g} %. [seeds.csv](seeds.csv) has every number.

### Mean of a method

{mean}

### Mean of a method, by other ways

*Wilson, seeds pooled* takes seeds times images as so many images; *the wider of Wilson and t* is what this project
used before; *Satterthwaite* has the variance of *seeds x images*, with the usual degrees of freedom.

{others}

### Mean of a method, one in five trainings collapses

*Any distribution* is Gaffke's interval (2005), which assumes nothing but that accuracies lie between 0 and 1.

{collapses}

### Difference of two methods

{difference}

### Difference of two methods, by other ways

{other_differences}

### All pairs of {methods} equal methods

Share of studies, in %, that find no difference in any of the {pairs} pairs, as they should (independent seeds, medium).

{families}

![Coverage of each interval by case; the band is {low:g} to {high:g} %](seeds.png)

## Conclusions

- **The interval over seeds and images covers** with 2, 3, 5 and 10 seeds, near 0 and 1 too, as long as seeds vary
  without a long tail: {least:.1f} to {most:.1f} % with 500 images or more, and a little above 95 % where seeds vary
  little. With 64 images and an accuracy near 0 it is too wide for 2 and 3 seeds. Two seeds cost width: three give about
  half of it or less.
- **The images of one training say nothing of the next.** Wilson's interval of one seed, or of all seeds pooled, misses
  the mean of the method, and the more images there are the more often.
- **t over seeds alone misses the images,** which all seeds share: with more seeds it covers less, if seeds vary little.
- **The wider of the two** covers, but is up to twice as wide as it needs to be.
- **Where trainings collapse, no narrow interval covers** with fewer than about 20 seeds: three trainings show no
  collapse in half of all studies, and nothing in such results tells that one was possible. Only an interval for any
  distribution covers, which says next to nothing. A report of few seeds therefore names the coverage of this table. A
  long tail of bad trainings (skewed, large) leaves about 90 %.
- **Pairs of seeds are safe.** The interval that is paired by seed and image covers whether or not a number of a seed
  has the same effect on both methods. If it has not, pairs cost width at 2 and 3 seeds; if it has, intervals without
  pairs are too wide. Reports pair seeds where two methods have the same ones, else images alone.
- **Many pairs need a correction.** Without one, about every second study finds a difference between equal methods.
  Holm's correction mends that over several seeds. With one seed nearly every study finds a difference, and the
  correction helps little: what is wrong is that one training stands for its method, not the number of pairs.

The model is a simplification: real effects of seeds may differ between easy and hard images, and real collapses may be
rarer or partial.

## How to reproduce it

`python -m reports.coverage --replicates {studies}`, seed {seed}. It writes this page, the CSV and the plot.
"""
