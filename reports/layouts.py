"""The columns of each table that a terminal and Markdown show: head by head, how a row's cell is written."""

import pandas as pd

from bench.names import written
from reports.forms import (
    DASH,
    Cell,
    ball,
    decimal,
    hours,
    method,
    missing,
    percent,
    points,
    probability,
    significant,
    span,
    spread,
    text,
    three,
    value,
)

ACR = spread("acr", decimal(3))


def trained_for(frame: pd.DataFrame) -> dict[str, Cell]:
    """The ball that networks were trained for, where they differ in it."""
    if (frame[["norm", "trained_eps"]].nunique() == 1).all():
        return {}
    return {"trained for": lambda row: f"{row['norm']} {written(row['trained_eps'])}"}


def _slowdown(row: pd.Series) -> str:
    """Marked where unlike things were divided."""
    return spread("slowdown", decimal(2))(row) + ("" if missing(row["unlike"]) else " *")


def times(timing: pd.DataFrame) -> dict[str, Cell]:
    """The columns of the time table: beside the time, what it bought where that was measured."""
    apart = timing["as_published"].notna() & (timing["as_published"] != timing["slowdown"])
    twice = timing.duplicated(["dataset", "arch", "method", "batch", "ranks", "nodes", "sigma", "epochs"]).any()
    columns = {"arch": text("arch"), "method": method if twice else text("method")} | trained_for(timing)
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
        "training": value("hours", span),
        "with teacher": value("hours_with_teacher", span),
    }
    if timing["acr"].notna().any():
        columns["ACR"] = value("acr", decimal(3))
    if timing["at_eps"].notna().any():
        columns |= {"clean": value("clean", percent), "accuracy at eps": value("at_eps", percent)}
    return columns


WHO = {"arch": text("arch"), "method": text("method")}
WHOM = {"arch": text("arch"), "method": method}
MEMORY = WHOM | {
    "batch": value("batch", str),
    "GPU": value("memory_mb", three),
    "host": value("host_memory_mb", three),
}
MEANS = {
    "slower / faster": lambda row: f"{row['slower']} / {row['faster']}",
    "architectures": value("architectures", str),
    "geometric mean": spread("geometric", decimal(2)),
    "arithmetic mean": spread("arithmetic", decimal(2)),
    "ideal": value("ideal", decimal(2)),
}
FACTORS = {
    "arch": text("arch"),
    "slower / faster": lambda row: f"{row['slower']} / {row['faster']}",
    "total": spread("total", decimal(2)),
    **{key: value(key, decimal(2)) for key in ("epochs", "passes", "batch", "precision", "host")},
    "paper total": value("paper_total", decimal(2)),
}
SPEED = WHO | {
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
CERTIFYING = {
    "arch": text("arch"),
    "way": text("way"),
    "images/s": value("images_per_s", three),
    "draws/s": value("draws_per_s", three),
    "speedup": spread("speedup", decimal(2)),
}
SCALING = WHO | {
    "kind": text("kind"),
    "ranks": value("ranks", str),
    "nodes": value("nodes", str),
    "batch": value("batch", str),
    "speedup": spread("speedup", decimal(2)),
    "efficiency": spread("efficiency", decimal(2)),
}
PAPER = WHOM | {
    "s/epoch": value("s_per_epoch", significant),
    "paper s/epoch": value("paper_s_per_epoch", significant),
    "slowdown": value("slowdown", decimal(2)),
    "paper slowdown": value("paper_slowdown", decimal(2)),
    "training": value("hours", hours),
    "paper training": value("paper_hours", hours),
    "with teacher": value("hours_with_teacher", hours),
    "paper with teacher": value("paper_hours_with_teacher", hours),
}
JUDGED = {
    "evaluation": text("eval"),
    "epochs": text("epochs"),
    "images": value("images", decimal(0)),
    "skipped": value("skipped", decimal(0)),
    "abstained": value("abstained", percent),
    "judged in s": value("judge_seconds", three),
    "clean": spread("clean", percent),
    "of images": lambda row: DASH if row["clean_images"] == row["images"] else value("clean_images", decimal(0))(row),
}
MASKING = WHOM | {
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
COMPARED = {
    "one": text("one"),
    "other": text("other"),
    "images": value("images", str),
    "ACR difference": spread("acr_difference", decimal(3)),
    "accuracy at": lambda row: row["at"] + (f", {row['eval']}" if row["at"] != "radius 0" else ""),
    "accuracy difference": spread("accuracy_difference", points),
    "McNemar's p": value("mcnemar_p", probability),
}
