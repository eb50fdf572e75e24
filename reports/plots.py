"""Figures of a report with their data, for its page."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from reports.figures import all_figures
from reports.render.html import Figure
from reports.render.html_table import data_table

_NAMES = ["dataset", "arch", "method", "teacher"]
_OUTCOMES = [f"{key}{end}" for key in ("clean", "at_eps", "acr") for end in ("", "_low", "_high")]
_DRAWN = {
    "slowdown": ["slowdown", "slowdown_low", "slowdown_high", "as_published", "ideal"],
    "cumulative": ["hours", "hours_with_teacher"],
    "tradeoff": ["hours", "hours_with_teacher", *_OUTCOMES],
    "stacked": ["hours", "hours_with_teacher"],
    "complexity": _OUTCOMES,
}
"""Columns that the figures of times draw, besides the names; others draw all columns of their frame."""
_TITLES = {
    "slowdown": ("Slowdown, measured and ideal", "timing"),
    "cumulative": ("Hours to train several networks", "timing"),
    "scaling": ("Speedup by ranks", "scaling"),
    "certified": ("Certified accuracy by radius", "certificates"),
    "likelihood": ("Lower bounds of the probability of the right class", "certificates"),
    "tradeoff": ("Accuracy against training time", "timing"),
    "stacked": ("Hours with teachers", "timing"),
    "sweep": ("Results by one argument of a method", "sweeps"),
    "complexity": ("Students by architecture", "timing"),
    "curves": ("Accuracy during training", "monitored"),
}


def plots(frames: dict[str, pd.DataFrame], keep: Callable[[str, pd.DataFrame], str]) -> Iterator[Figure]:
    """Yield the figures that have data; `keep` takes a name and a frame for a CSV file, and returns its name."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            lines = list(all_figures.draw(frames, Path(folder) / "p.svg"))
        except ValueError:  # nothing to draw
            return
        missing: dict[str, list[str]] = {}
        for line in lines:
            if line.startswith("wrote "):
                missing[Path(line.removeprefix("wrote ")).stem.removeprefix("p-")] = reasons = []
            elif line.startswith("  without "):
                reasons.append(line.removeprefix("  without "))
        for name, left_out in missing.items():
            title, part = _TITLES[name]
            svg = (Path(folder) / f"p-{name}.svg").read_text(encoding="utf-8")
            key, frame = f"plot-{name}", frames[part]
            drawn = frame[[*_NAMES, *_DRAWN[name]]] if name in _DRAWN else frame
            yield Figure(key, title, svg, data_table(f"{key}-data", drawn, keep(key, drawn)), left_out)
