"""Draw certified accuracy against the radius as SVG for a page."""

from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bench.commands.summary import EstimateAtRadius

_COLOURS = {"#0a58a6": "var(--accent)", "#525c68": "var(--muted)", "#d5dae0": "var(--line)"}
"""Colours of the page by those that are drawn, so that the figure is light or dark as the page is."""
_ACCENT, _MUTED, _LINE = _COLOURS
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "curve",
    "font.size": 10,
    "text.color": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "grid.color": _LINE,
    "axes.labelpad": 7,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
}


def draw(curve: Sequence[EstimateAtRadius], norm: str) -> Figure:
    """Accuracies in percent against radii, with the band of their intervals."""
    radii = [at.radius for at in curve]
    middle, low, high = ([100 * (at.model_dump()[key] or 0.0) for at in curve] for key in ("estimate", "low", "high"))
    figure = Figure(figsize=(6.4, 3.1), layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.grid(axis="y", linewidth=0.8)
    axes.tick_params("y", length=0)
    axes.fill_between(radii, low, high, color=_ACCENT, alpha=0.2, linewidth=0)
    axes.plot(radii, middle, color=_ACCENT, linewidth=1.6)
    axes.set(xlim=(0, radii[-1]), ylim=(0, None), xlabel=f"{norm} radius", ylabel="certified accuracy (%)")
    return figure


def svg(curve: Sequence[EstimateAtRadius], norm: str, title: str) -> str:
    """The drawing as an `<svg>` element in the colours of the page, with a title that is read aloud."""
    text = StringIO()
    with matplotlib.rc_context(_STYLE):
        draw(curve, norm).savefig(text, format="svg", metadata=_NO_METADATA)
    element = text.getvalue()[text.getvalue().index("<svg") :]
    for drawn, shown in _COLOURS.items():
        element = element.replace(drawn, shown)
    element = element.replace("<svg", '<svg role="img" aria-labelledby="curve-title"', 1)
    return element.replace(">", f'><title id="curve-title">{escape(title)}</title>', 1)
