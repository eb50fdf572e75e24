"""The tables that a terminal and Markdown show: which, of which columns."""

import pandas as pd

from reports.couples import shown
from reports.forms import (
    DASH,
    Cell,
    ball,
    decimal,
    method,
    missing,
    percent,
    points,
    printed,
    probability,
    significant,
    spread,
    text,
    three,
    value,
)
from reports.verdicts import has_eps, written

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
    if "speed" in frames and not frames["speed"].empty:
        named = zip(_SPEEDS, ("speed", "certification"), (_SPEED, _CERTIFYING), strict=True)
        return [_grid(caption, frames[key], form) for caption, key, form in named if not frames[key].empty]
    found = [_grid("Time", timing, _time(timing))]
    for caption, key, form in (
        ("Time of an epoch, over architectures", "means", _MEANS),
        ("Factors of the whole time: total = epochs x passes x batch x precision x host", "factors", _FACTORS),
    ):
        if not frames[key].empty:
            found.append(_grid(caption, shown(frames[key]), form))
    if not frames["scaling"].empty:
        found.append(_grid("Speedup by ranks", frames["scaling"], _SCALING))
    if timing[["memory_mb", "host_memory_mb"]].notna().any(axis=None):
        found.append(_grid("Peak memory in MB: the GPU's in an epoch, the host's of a whole training", timing, _MEMORY))
    if timing.filter(regex="^paper_").notna().any(axis=None):
        found.append(_grid("Time, as measured and as published", timing, _PAPER))
    if not robustness.empty:
        found += _robustness(robustness)
    if not frames["masking"].empty:
        found.append(_grid("Do the attacks work? (accuracy at eps in %)", frames["masking"], _MASKING))
    if not frames["comparisons"].empty:
        found.append(
            _grid("Differences, one - other, image by image (accuracy in %)", shown(frames["comparisons"]), _COMPARED)
        )
    return found


def _of(frame: pd.DataFrame, folder: str) -> pd.DataFrame:
    return frame if "folder" not in frame else frame[frame["folder"] == folder].drop(columns="folder")


def _robustness(frame: pd.DataFrame) -> list[Grid]:
    judged = _WHOM | _trained_for(frame) | _JUDGED
    judged |= {"noisy": spread("noisy", percent)} if "noisy" in frame else {}
    if "at_eps" in frame:
        judged |= {"eps": lambda row: ball(row) if has_eps(row["judge"]) else DASH}
        judged |= {"accuracy at eps": spread("at_eps", percent)}
        # A certificate by smoothing has a table of its own.
        if "acr" in frame and frame["acr"].where(frame["judge"] != "Smoothing").notna().any():
            judged["ACR"] = lambda row: DASH if row["judge"] == "Smoothing" else _ACR(row)
        judged |= {"paper clean": value("paper_clean", printed), "paper at eps": value("paper_at_eps", printed)}
    found = [_grid("Judged (accuracy in %)", frame, judged)]
    smoothing = frame[frame["judge"] == "Smoothing"]
    whom = _WHOM | ({"sigma": value("sigma", "{:g}".format)} if smoothing["sigma"].nunique() > 1 else {})
    radii = [c for c in frame if c.startswith("certified_at_") and c[-1].isdigit()]
    if radii:
        columns = whom | {"ACR": _ACR} | {c.replace("certified_at_", "r = "): spread(c, percent) for c in radii}
        found.append(_grid("Robustness (certified accuracy in %, at l2 radius r)", smoothing, columns))
    papers = [c for c in frame if c == "paper_acr" or c.startswith("paper_certified_at_")]
    if papers and smoothing[papers].notna().any(axis=None):
        published = whom | {"ACR": value("paper_acr", decimal(3))}
        published |= {f"r = {c[-4:]}": value(c, printed) for c in papers if c != "paper_acr"}
        found.append(_grid("As published", smoothing, published))
    return found


def _trained_for(frame: pd.DataFrame) -> dict[str, Cell]:
    """The ball that networks were trained for, where they differ in it."""
    if (frame[["norm", "trained_eps"]].nunique() == 1).all():
        return {}
    return {"trained for": lambda row: f"{row['norm']} {written(row['trained_eps'])}"}


def _grid(caption: str, frame: pd.DataFrame, columns: dict[str, Cell]) -> Grid:
    columns = {key: text(key) for key in _TOLD if key in frame and frame[key].nunique() > 1} | columns
    rows = [[cell(row) for cell in columns.values()] for _, row in frame.iterrows()]
    kept = [k for k, head in enumerate(columns) if head not in _OPTIONAL or any(row[k] != DASH for row in rows)]
    heads = list(columns)
    return caption, [heads[k] for k in kept], [[row[k] for k in kept] for row in rows]


_OPTIONAL = frozenset(
    "as published,loader %,with teacher,clean,paper total,batch,precision,paper s/epoch,"
    "paper slowdown,paper hours,paper with teacher,skipped,abstained,noisy,eps,paper clean,paper at eps,"
    "ACR difference,weakest,at weakest,strongest,at strongest,largest eps,at largest".split(",")
)
"""Columns that are left out where they have nothing but dashes; the others show what is still to come."""
_TOLD = ("dataset", "loader")
"""What a table tells of each row where its rows differ in it."""
_ACR = spread("acr", decimal(3))


def _slowdown(row: pd.Series) -> str:
    """Marked where unlike things were divided."""
    return spread("slowdown", decimal(2))(row) + ("" if missing(row["unlike"]) else " *")


def _time(timing: pd.DataFrame) -> dict[str, Cell]:
    """The columns of the time table: beside the time, what it bought where that was measured."""
    apart = timing["as_published"].notna() & (timing["as_published"] != timing["slowdown"])
    twice = timing.duplicated(["dataset", "arch", "method", "batch", "ranks", "nodes", "sigma", "epochs"]).any()
    columns = {"arch": text("arch"), "method": method if twice else text("method")} | _trained_for(timing)
    columns |= {
        key: value(key, "{:g}".format) for key in ("sigma", "ranks", "nodes", "epochs") if timing[key].nunique() > 1
    }
    columns |= {"precision": text("precision")} if timing["precision"].nunique() > 1 else {}
    columns |= {
        "batch": value("batch", str),
        "s/epoch": spread("s_per_epoch", three),
        "images/s": value("images_per_s", three),
        "slowdown": _slowdown,
    }
    if apart.any():
        columns["as published"] = spread("as_published", decimal(2))
    columns |= {
        "ideal": value("ideal", decimal(2)),
        "efficiency": spread("efficiency", decimal(2)),
        "loader %": value("loader_share", percent),
        "hours": value("hours", three),
        "with teacher": value("hours_with_teacher", three),
    }
    if timing["acr"].notna().any():
        columns["ACR"] = value("acr", decimal(3))
    if timing["at_eps"].notna().any():
        columns |= {"clean": value("clean", percent), "accuracy at eps": value("at_eps", percent)}
    return columns


_WHO = {"arch": text("arch"), "method": text("method")}
_WHOM = {"arch": text("arch"), "method": method}
_MEMORY = _WHOM | {
    "batch": value("batch", str),
    "GPU": value("memory_mb", three),
    "host": value("host_memory_mb", three),
}
_MEANS = {
    "slower / faster": lambda row: f"{row['slower']} / {row['faster']}",
    "architectures": value("architectures", str),
    "geometric mean": spread("geometric", decimal(2)),
    "arithmetic mean": spread("arithmetic", decimal(2)),
    "ideal": value("ideal", decimal(2)),
}
_FACTORS = {
    "arch": text("arch"),
    "slower / faster": lambda row: f"{row['slower']} / {row['faster']}",
    "total": spread("total", decimal(2)),
    **{key: value(key, decimal(2)) for key in ("epochs", "passes", "batch", "precision", "host")},
    "paper total": value("paper_total", decimal(2)),
}
_SPEEDS = (
    "What switches bring (speedup: against the plain path; slowdown: against the baseline under the same switches)",
    "Certification, against the plain procedure on the same images and noise",
)
_SPEED = _WHO | {
    "batch": value("batch", str),
    "switches": text("switches"),
    "s/epoch": spread("s_per_epoch", three),
    "speedup": spread("speedup", decimal(2)),
    "slowdown": spread("slowdown", decimal(2)),
    "ideal": value("ideal", decimal(2)),
    "efficiency": value("efficiency", decimal(2)),
    "% of product": value("of_product", percent),
    "% of copy": value("of_copy", percent),
    "loader %": value("loader_share", percent),
}
_CERTIFYING = {
    "arch": text("arch"),
    "way": text("way"),
    "images/s": value("images_per_s", three),
    "draws/s": value("draws_per_s", three),
    "speedup": spread("speedup", decimal(2)),
}
_SCALING = _WHO | {
    "kind": text("kind"),
    "ranks": value("ranks", str),
    "nodes": value("nodes", str),
    "batch": value("batch", str),
    "speedup": spread("speedup", decimal(2)),
    "efficiency": spread("efficiency", decimal(2)),
}
_PAPER = _WHOM | {
    "s/epoch": value("s_per_epoch", significant),
    "paper s/epoch": value("paper_s_per_epoch", significant),
    "slowdown": value("slowdown", decimal(2)),
    "paper slowdown": value("paper_slowdown", decimal(2)),
    "hours": value("hours", significant),
    "paper hours": value("paper_hours", significant),
    "with teacher": value("hours_with_teacher", significant),
    "paper with teacher": value("paper_hours_with_teacher", significant),
}
_JUDGED = {
    "evaluation": text("eval"),
    "epochs": text("epochs"),
    "images": value("images", decimal(0)),
    "skipped": value("skipped", decimal(0)),
    "abstained": value("abstained", percent),
    "judged in s": value("judge_seconds", three),
    "clean": spread("clean", percent),
}
_MASKING = _WHOM | {
    "eps": ball,
    "weakest": text("weakest"),
    "at weakest": spread("at_weakest", percent),
    "strongest": text("strongest"),
    "at strongest": spread("at_strongest", percent),
    "largest eps": value("largest_eps", written),
    "at largest": spread("at_largest", percent),
    "broken by a weaker one alone": value("only_weaker", str),
    "verdict": text("verdict"),
}
_COMPARED = {
    "one": text("one"),
    "other": text("other"),
    "images": value("images", str),
    "ACR difference": spread("acr_difference", decimal(3)),
    "accuracy at": lambda row: row["at"] + (f", {row['eval']}" if row["at"] != "radius 0" else ""),
    "accuracy difference": spread("accuracy_difference", points),
    "McNemar's p": value("mcnemar_p", probability),
}
