"""The tables that a terminal and Markdown show."""

import pandas as pd

from reports import layouts
from reports.couples import shown
from reports.forms import DASH, Cell, ball, decimal, percent, printed, spread, text, value
from reports.layouts import ACR
from reports.verdicts import has_eps, kind

Grid = tuple[str, list[str], list[list[str]]]
"""Title, heads and cells."""


def grids(frames: dict[str, pd.DataFrame]) -> list[Grid]:
    """Each table to show; those of two runs folders stand apart, for nothing is divided across them."""
    timing, robustness = frames["timing"], frames["robustness"]
    if "folder" in timing:
        return [
            (f"{caption}, {folder}", heads, rows)
            for folder in timing["folder"].unique()
            for caption, heads, rows in grids({key: _of(frame, folder) for key, frame in frames.items()})
        ]
    if not frames["speed"].empty:
        named = zip(_SPEEDS, ("speed", "certification"), (layouts.SPEED, layouts.CERTIFYING), strict=True)
        return [_grid(caption, frames[key], form) for caption, key, form in named if not frames[key].empty]
    found = [_grid("Time", timing, layouts.times(timing))]
    for caption, key, form in (
        ("Time of an epoch, over architectures", "means", layouts.MEANS),
        ("Factors of the whole time: total = epochs x passes x batch x precision x host", "factors", layouts.FACTORS),
    ):
        if not frames[key].empty:
            found.append(_grid(caption, shown(frames[key]), form))
    if not frames["scaling"].empty:
        found.append(_grid("Speedup by ranks", frames["scaling"], layouts.SCALING))
    if timing[["memory_mb", "host_memory_mb"]].notna().any(axis=None):
        found.append(
            _grid("Peak memory in MB: the GPU's in an epoch, the host's of a whole training", timing, layouts.MEMORY)
        )
    if timing.filter(regex="^paper_").notna().any(axis=None):
        found.append(_grid("Time, as measured and as published", timing, layouts.PAPER))
    if not robustness.empty:
        found += _robustness(robustness)
    if not frames["masking"].empty:
        found.append(_grid("Do the attacks work? (accuracy at eps in %)", frames["masking"], layouts.MASKING))
    if not frames["comparisons"].empty:
        found.append(
            _grid(
                "Differences, one - other, image by image (accuracy in %)",
                shown(frames["comparisons"]),
                layouts.COMPARED,
            )
        )
    return found


def _of(frame: pd.DataFrame, folder: str) -> pd.DataFrame:
    return frame if "folder" not in frame else frame[frame["folder"] == folder].drop(columns="folder")


def _robustness(frame: pd.DataFrame) -> list[Grid]:
    judged = layouts.WHOM | layouts.trained_for(frame) | layouts.JUDGED
    judged |= {"noisy": spread("noisy", percent)} if "noisy" in frame else {}
    if "at_eps" in frame:
        judged |= {"eps": lambda row: ball(row) if has_eps(row["judge"]) else DASH}
        judged |= {"accuracy at eps": spread("at_eps", percent)}
        # A certificate by smoothing has a table of its own.
        if "acr" in frame and frame["acr"].where(frame["judge"].map(kind).ne("smoothing")).notna().any():
            judged["ACR"] = lambda row: DASH if kind(row["judge"]) == "smoothing" else ACR(row)
        judged |= {"paper clean": value("paper_clean", printed), "paper at eps": value("paper_at_eps", printed)}
    found = [_grid("Judged (accuracy in %)", frame, judged)]
    smoothing = frame[frame["judge"].map(kind).eq("smoothing")]
    whom = layouts.WHOM | ({"sigma": value("sigma", "{:g}".format)} if smoothing["sigma"].nunique() > 1 else {})
    radii = [c for c in frame if c.startswith("certified_at_") and c[-1].isdigit()]
    if radii:
        columns = whom | {"ACR": ACR} | {c.replace("certified_at_", "r = "): spread(c, percent) for c in radii}
        found.append(_grid("Robustness (certified accuracy in %, at l2 radius r)", smoothing, columns))
    papers = [c for c in frame if c == "paper_acr" or c.startswith("paper_certified_at_")]
    if papers and smoothing[papers].notna().any(axis=None):
        published = whom | {"ACR": value("paper_acr", decimal(3))}
        published |= {f"r = {c[-4:]}": value(c, printed) for c in papers if c != "paper_acr"}
        found.append(_grid("As published", smoothing, published))
    return found


def _grid(caption: str, frame: pd.DataFrame, columns: dict[str, Cell]) -> Grid:
    columns = {key: text(key) for key in _TOLD if key in frame and frame[key].nunique() > 1} | columns
    rows = [[cell(row) for cell in columns.values()] for _, row in frame.iterrows()]
    kept = [k for k, head in enumerate(columns) if head not in _OPTIONAL or any(row[k] != DASH for row in rows)]
    heads = list(columns)
    return caption, [heads[k] for k in kept], [[row[k] for k in kept] for row in rows]


_OPTIONAL = frozenset(
    "as published,loader %,with teacher,clean,paper total,batch,precision,paper s/epoch,"
    "paper slowdown,paper training,paper with teacher,skipped,abstained,of images,noisy,eps,paper clean,paper at eps,"
    "ACR difference,weakest,at weakest,strongest,at strongest,largest eps,at largest".split(",")
)
"""Columns that are left out where they have nothing but dashes; the others show what is still to come."""
_TOLD = ("dataset", "loader")
"""What a table tells of each row where its rows differ in it."""
_SPEEDS = (
    "What switches bring (speedup: against the plain path; slowdown: against the baseline under the same switches)",
    "Certification, against the plain procedure on the same images and noise",
)
