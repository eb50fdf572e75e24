"""The same cells on a terminal, in Markdown and as CSV."""

import math
from collections.abc import Callable

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

DASH = "–"
WIDTH = 160
"""Columns of a terminal that a table may take before names fold."""
Grid = tuple[str, list[str], list[list[str]]]


def grids(frames: dict[str, pd.DataFrame]) -> list[Grid]:
    """Title, heads and cells of each table to show."""
    timing, robustness = frames["timing"], frames["robustness"]
    if "folder" in timing:
        return [
            (f"{caption}, {folder}", heads, rows)
            for folder in timing["folder"].unique()
            for caption, heads, rows in grids({key: _of(frame, folder) for key, frame in frames.items()})
        ]
    shown = [_grid("Time", timing, _time(timing))]
    for caption, key, form in (
        ("Time of an epoch, over architectures", "means", _MEANS),
        ("Factors of the whole time: total = epochs x passes x batch x precision x host", "factors", _FACTORS),
        ("Speedup by ranks", "scaling", _SCALING),
    ):
        if not frames[key].empty:
            shown.append(_grid(caption, frames[key], form))
    if timing.filter(regex="^paper_").notna().any(axis=None):
        shown.append(_grid("Time, as measured and as published", timing, _PAPER))
    if not robustness.empty:
        plain = _ROBUST | ({"noisy": _spread("noisy", _percent)} if "noisy" in robustness else {})
        shown.append(_grid("Judged (accuracy in %)", robustness, plain))
        radii = [c for c in robustness if c.startswith("certified_at_") and c[-1].isdigit()]
        whom = _WHOM | ({"sigma": _value("sigma", "{:g}".format)} if robustness["sigma"].nunique() > 1 else {})
        if radii:
            columns = whom | {"ACR": _spread("acr", _decimal(3))}
            columns |= {c.replace("certified_at_", "r = "): _spread(c, _percent) for c in radii}
            shown.append(_grid("Robustness (certified accuracy in %, at l2 radius r)", robustness, columns))
        papers = [c for c in robustness if c.startswith("paper_")]
        if robustness[papers].notna().any(axis=None) if papers else False:
            published = whom | {"ACR": _value("paper_acr", _decimal(3))}
            published |= {f"r = {c[-4:]}": _value(c, _printed) for c in papers if c != "paper_acr"}
            shown.append(_grid("As published", robustness, published))
    if not frames["comparisons"].empty:
        shown.append(_grid("Differences, image by image", frames["comparisons"], _COMPARED))
    return shown


def _of(frame: pd.DataFrame, folder: str) -> pd.DataFrame:
    """One runs folder's rows: tables of two folders stand apart, for nothing is divided across them."""
    return frame if "folder" not in frame else frame[frame["folder"] == folder].drop(columns="folder")


def show(console: Console, title: str, lines: list[str], tables: list[Grid]) -> None:
    """On a terminal."""
    console.print(f"[bold]{title}[/bold]", highlight=False)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for caption, heads, rows in tables:
        table = Table(*heads, title=caption, title_justify="left", padding=(0, 0, 0, 1))
        for number, column in enumerate(table.columns):
            # Names may fold; a number that is cut or broken would be another number.
            column.overflow, column.no_wrap = "fold", number != 1
            column.justify = "right" if number > 1 else "left"
            column.min_width = 16 if number == 1 else None
        for row in rows:
            table.add_row(*row)
        need = Measurement.get(console, console.options.update_width(1000), table)
        # Wider than a narrow terminal rather than cut; its own wrapping loses nothing.
        console.print(table, width=max(need.minimum, min(need.maximum, max(console.width, WIDTH))), crop=False)


def markdown(title: str, lines: list[str], tables: list[Grid]) -> str:
    """The report as Markdown."""
    parts = [f"# {title}", "\n".join(f"- {line}" for line in lines)]
    for caption, heads, rows in tables:
        body = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)]
        parts += [f"## {caption}", "\n".join(body)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _grid(caption: str, frame: pd.DataFrame, columns: dict[str, Callable[[pd.Series], str]]) -> Grid:
    rows = [[cell(row) for cell in columns.values()] for _, row in frame.iterrows()]
    return caption, list(columns), rows


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _significant(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _three(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _printed(value: float) -> str:
    """A published percentage, in its own digits."""
    return f"{100 * value:.2f}"


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f}"


def _decimal(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}f}"


def _text(column: str) -> Callable[[pd.Series], str]:
    return lambda row: DASH if _missing(row[column]) else str(row[column])


def _method(row: pd.Series) -> str:
    """The method, and whom it learned from."""
    teacher = row.get("teacher")
    return row["method"] + ("" if _missing(teacher) else f" from {teacher}")


def _value(column: str, form: Callable[[float], str]) -> Callable[[pd.Series], str]:
    return lambda row: DASH if _missing(row[column]) else form(row[column])


def _spread(column: str, form: Callable[[float], str]) -> Callable[[pd.Series], str]:
    """An estimate with its interval: `mean [low, high]`."""
    ends = _whole_percent if form is _percent else form

    def cell(row: pd.Series) -> str:
        mean, low, high = (row[column + end] for end in ("", "_low", "_high"))
        if _missing(mean):
            return DASH
        return form(mean) + ("" if _missing(low) else f" [{ends(low)}, {ends(high)}]")

    return cell


_WHO = {"arch": _text("arch"), "method": _text("method")}


def _slowdown(row: pd.Series) -> str:
    """Marked where unlike things were divided."""
    return _spread("slowdown", _decimal(2))(row) + ("" if _missing(row["unlike"]) else " *")


def _time(timing: pd.DataFrame) -> dict[str, Callable[[pd.Series], str]]:
    """The columns of the time table: beside the time, what it bought where that was measured."""
    apart = timing["as_published"].notna() & (timing["as_published"] != timing["slowdown"])
    twice = timing.duplicated(["dataset", "arch", "method", "batch", "ranks", "nodes", "sigma"]).any()
    columns = {"arch": _text("arch"), "method": _method if twice else _text("method")}
    columns |= {key: _value(key, "{:g}".format) for key in ("sigma", "ranks", "nodes") if timing[key].nunique() > 1}
    columns |= {
        "batch": _value("batch", str),
        "s/epoch": _spread("s_per_epoch", _three),
        "images/s": _value("images_per_s", _three),
        "slowdown": _slowdown,
    }
    if apart.any():
        columns["as published"] = _spread("as_published", _decimal(2))
    columns |= {"ideal": _value("ideal", _decimal(2)), "efficiency": _spread("efficiency", _decimal(2))}
    if timing["loader_share"].notna().any():
        columns["loader %"] = _value("loader_share", _percent)
    columns |= {
        "hours": _value("hours", _three),
        "with teacher": _value("hours_with_teacher", _three),
    }
    if timing["acr"].notna().any():
        columns["ACR"] = _value("acr", _decimal(3))
    return columns


_MEANS = {
    "slower / faster": lambda row: f"{row['slower']} / {row['faster']}",
    "architectures": _value("architectures", str),
    "geometric mean": _spread("geometric", _decimal(2)),
    "arithmetic mean": _spread("arithmetic", _decimal(2)),
    "ideal": _value("ideal", _decimal(2)),
}
_FACTORS = {
    "arch": _text("arch"),
    "slower / faster": lambda row: f"{row['slower']} / {row['faster']}",
    "total": _spread("total", _decimal(2)),
    **{key: _value(key, _decimal(2)) for key in ("epochs", "passes", "batch", "precision", "host")},
    "paper total": _value("paper_total", _decimal(2)),
}
_SCALING = _WHO | {
    "kind": _text("kind"),
    "ranks": _value("ranks", str),
    "nodes": _value("nodes", str),
    "batch": _value("batch", str),
    "speedup": _spread("speedup", _decimal(2)),
    "efficiency": _spread("efficiency", _decimal(2)),
}
_PAPER = _WHO | {
    "s/epoch": _value("s_per_epoch", _significant),
    "paper s/epoch": _value("paper_s_per_epoch", _significant),
    "slowdown": _value("slowdown", _decimal(2)),
    "paper slowdown": _value("paper_slowdown", _decimal(2)),
    "hours": _value("hours", _significant),
    "paper hours": _value("paper_hours", _significant),
}
_WHOM = {"arch": _text("arch"), "method": _method}
_ROBUST = _WHOM | {
    "evaluation": _text("eval"),
    "epochs": _text("epochs"),
    "images": _value("images", _decimal(0)),
    "skipped": _value("skipped", _decimal(0)),
    "abstained": _value("abstained", _percent),
    "judged in s": _value("judge_seconds", _three),
    "clean": _spread("clean", _percent),
}
_COMPARED = {
    "one": _text("one"),
    "other": _text("other"),
    "images": _value("images", str),
    "ACR, one - other": _spread("acr_difference", _decimal(3)),
    "right at radius 0: McNemar's p": _value("mcnemar_p", _decimal(3)),
}
