"""Write the summary of an evaluated checkpoint as JSON, and as one self-contained HTML page without scripts."""

import math
import time
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.commands.summary import Estimate, EstimateAtRadius, Summary
from crt.text import printable

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 680, 324, 68, 660, 16, 276
"""Size of the drawing and ends of its axes, in the units of its view box."""
_SHOWN = {"commit", "dirty", "python", "torch", "torchvision", "cuda", "device", "driver", "host", "cpu", "cpus"}
"""Facts of the machine that the page shows."""


class Tick(NamedTuple):
    """A mark of an axis: its place on the drawing and its words."""

    at: float
    text: str


class Drawing(NamedTuple):
    """A curve with its band as SVG paths, and the marks of its axes."""

    size: tuple[int, int]
    frame: tuple[int, int, int, int]
    """Left, right, top and bottom ends of the axes."""
    line: str
    band: str
    x: list[Tick]
    y: list[Tick]


def write(summary: Summary, curve: Sequence[EstimateAtRadius], json: Path | None, html: Path | None) -> list[Path]:
    """Write the summary as JSON and as a page; the files written."""
    if json:
        json.write_text(summary.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if html:
        html.write_text(page(summary, curve), encoding="utf-8", errors="backslashreplace")
    return [file for file in (json, html) if file]


def page(summary: Summary, curve: Sequence[EstimateAtRadius]) -> str:
    """The page: the guarantee or its absence first, then accuracies, the curve if there is one, and settings."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    template = environment.get_template("summary.html.j2")
    drawing = draw(curve) if curve else None
    tables = {"Evaluation": _evaluation(summary), "Network": _network(summary), "Machine": _machine(summary)}
    return template.render(summary=summary, rows=_rows(summary), drawing=drawing, tables=tables) + "\n"


def draw(curve: Sequence[EstimateAtRadius]) -> Drawing:
    """Accuracies in percent against radii, in two or more points."""
    shares = [tuple(100 * (value or 0.0) for value in (at.estimate, at.low, at.high)) for at in curve]
    widest, highest = curve[-1].radius, max(high for _, _, high in shares)
    x_step, y_step = _step(widest), _step(highest)
    top = y_step * math.ceil(highest / y_step)
    x = lambda radius: _LEFT + (_RIGHT - _LEFT) * radius / widest  # noqa: E731
    y = lambda percent: _BOTTOM - (_BOTTOM - _TOP) * percent / top  # noqa: E731
    columns = [
        [f"{x(at.radius):.1f} {y(percent):.1f}" for at, percent in zip(curve, column, strict=True)]
        for column in zip(*shares, strict=True)
    ]
    middle, low, high = columns
    return Drawing(
        (_WIDTH, _HEIGHT),
        (_LEFT, _RIGHT, _TOP, _BOTTOM),
        "M" + "L".join(middle),
        "M" + "L".join([*high, *reversed(low)]) + "Z",
        [Tick(x(k * x_step), f"{k * x_step:g}") for k in range(int(widest / x_step) + 1)],
        [Tick(y(k * y_step), f"{k * y_step:g}") for k in range(round(top / y_step) + 1)],
    )


def _step(length: float) -> float:
    """Distance between marks: 1, 2 or 5 times a power of ten, so that 3 to 7 steps fit into the length."""
    power = 10 ** math.floor(math.log10(length / 3))
    return next(factor * power for factor in (5, 2, 1) if length >= 3 * factor * power)


def _rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Figures in words: name, estimate, interval, and how the interval was made."""
    smoothed = summary.command == "certify"
    rows = [("Accuracy of the smoothed network (%)" if smoothed else "Clean accuracy (%)", summary.clean_accuracy, 100)]
    rows += [(f"Robust accuracy at radius {at.radius:.4g}, at most (%)", at, 100) for at in summary.robust_accuracy]
    rows += [(f"Certified accuracy at radius {at.radius:.2f} (%)", at, 100) for at in summary.certified_accuracy]
    if summary.average_certified_radius:
        rows.append(("Average certified radius (ACR)", summary.average_certified_radius, 1))
    if summary.abstained:
        rows.append(("Images on which it abstained (%)", summary.abstained, 100))
    return [_figure(name, estimate, unit) for name, estimate, unit in rows]


def _figure(name: str, figure: Estimate, unit: int) -> tuple[str, str, str, str]:
    words = lambda value: f"{unit * value:.{1 if unit == 100 else 4}f}"  # noqa: E731
    estimate = "–" if figure.estimate is None else words(figure.estimate)
    if figure.low is None or figure.high is None:
        return name, estimate, "–", ""
    return name, estimate, f"{words(figure.low)} to {words(figure.high)}", figure.interval


def _evaluation(summary: Summary) -> dict[str, str]:
    counts = {
        "images skipped, for their class is wrong": summary.images_skipped,
        "images broken": summary.images_broken,
    }
    figures = {
        "seed": summary.seed,
        "seconds": f"{summary.seconds:.4g}",
        "images/s": f"{summary.images_per_second:.3g}",
    }
    figures |= {name: count for name, count in counts.items() if count is not None}
    return _words({"name": summary.evaluation} | summary.arguments | figures | {"table of images": summary.table})


def _network(summary: Summary) -> dict[str, str]:
    names = {"sha256": "SHA-256", "arch": "architecture"}
    fields = summary.network.model_dump(exclude_none=True)
    return _words({names.get(name, name): value for name, value in fields.items()})


def _machine(summary: Summary) -> dict[str, str]:
    machine = summary.machine
    fields = machine.model_dump(include=_SHOWN)
    return _words({"time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(machine.time))} | fields)


def _words(fields: dict[str, Any]) -> dict[str, str]:
    """Values as text; those that are no text as JSON, without those that are None."""
    return {
        name: value if isinstance(value, str) else dumps(value) for name, value in fields.items() if value is not None
    }
