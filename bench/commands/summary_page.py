"""Write the summary of an evaluated checkpoint as JSON, and as one self-contained HTML page without scripts."""

import time
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.commands.summary import Estimate, EstimateAtRadius, Summary
from bench.results.accuracy import radius_text
from crt.disk import write_text
from crt.text import printable

_SHOWN = {"commit", "dirty", "python", "torch", "torchvision", "cuda", "device", "driver", "host", "cpu", "cpus"}
"""Facts of the machine that the page shows."""


def write(summary: Summary, curve: Sequence[EstimateAtRadius], json: Path | None, html: Path | None) -> list[Path]:
    """Write the summary as JSON and as a page; the files written."""
    if json:
        write_text(json, summary.model_dump_json(indent=1) + "\n")
    if html:
        write_text(html, page(summary, curve))
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
    drawing = _drawing(summary, curve) if curve else ""
    tables = {"Evaluation": _evaluation(summary), "Network": _network(summary), "Machine": _machine(summary)}
    return template.render(summary=summary, rows=_rows(summary), drawing=drawing, tables=tables) + "\n"


def _drawing(summary: Summary, curve: Sequence[EstimateAtRadius]) -> Markup:
    # Matplotlib takes longer to import than a page takes to make.
    from bench.commands.curve import svg

    norm = str(summary.threat["norm"]).upper()
    title = f"Certified accuracy in percent against the {norm} radius, with its interval"
    return Markup(svg(curve, norm, f"{title}; the table of accuracies holds its values"))


def _rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Figures in words: name, estimate, interval, and how the interval was made."""
    smoothed = summary.command == "certify"
    rows = [("Accuracy of the smoothed network (%)" if smoothed else "Clean accuracy (%)", summary.clean_accuracy, 100)]
    rows += [(f"Robust accuracy at radius {at.radius:.4g}, at most (%)", at, 100) for at in summary.robust_accuracy]
    rows += [
        (f"Certified accuracy at radius {radius_text(at.radius)} (%)", at, 100) for at in summary.certified_accuracy
    ]
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
        "draws per image": summary.draws_per_image,
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
