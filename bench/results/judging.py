"""The figure that methods are judged by: one evaluation of robustness for each cell."""

from bench.cell import Cell, Spec
from bench.manifest.labels import written
from bench.results.accuracy import certified_accuracy
from bench.results.measured import Measured
from bench.results.robustness import eps_of, grid, kind, of, principal, question, radii
from bench.results.statistics import NOTHING, Interval


def judging(cell: Cell) -> Spec | None:
    """The evaluation that a cell is judged by: the first by smoothing, else the principal bound, else attack."""
    for wanted in ("smoothing", "bound", "attack"):
        specs = [spec for spec in cell.evals if kind(spec.name) == wanted]
        if specs:
            return specs[0] if wanted == "smoothing" else principal(cell, specs)
    return None


def judged_alike(cell: Cell) -> tuple | None:
    """Key that is equal for cells that are judged by the same figure.

    Bounds are proofs: the share of images that is proved robust at a radius may be compared whichever bound proves it.
    """
    spec = judging(cell)
    if spec and kind(spec.name) == "bound":
        return "bound", cell.threat.norm, eps_of(cell, spec)
    return question(cell, spec) if spec else None


def figure(cells: list[Cell]) -> str | None:
    """The figure that cells which are judged alike are judged by, in words."""
    judged = [(cell, spec) for cell in cells if (spec := judging(cell))]
    if not judged:
        return None
    specs, (cell, spec) = [spec for _, spec in judged], judged[0]
    radius = judged_radius(cell, spec)
    if kind(spec.name) == "smoothing":
        decided = "" if grid(spec) is None else ", by grid certificates"
        return f"certified accuracy at l2 radius {radius:g} (sigma {cell.threat.sigma:g}){decided}"
    place = f"at {cell.threat.norm} {written(radius)}"
    if kind(spec.name) == "attack":
        return f"accuracy under {spec.label} {place}"
    own = len({each.label for each in specs}) > 1
    return (
        f"certified accuracy {place}, each by its own bound" if own else f"certified accuracy by {spec.label} {place}"
    )


def judged_radius(cell: Cell, spec: Spec) -> float:
    """Radius of the accuracy that a cell is judged by."""
    if kind(spec.name) != "smoothing":
        return eps_of(cell, spec)
    # Papers on smoothing compare methods at about two standard deviations of the noise.
    usual = 2 * cell.threat.sigma
    # A grid always has the radius 0.
    return max(radius for radius in grid(spec) or (usual,) if radius <= usual)


def certified(m: Measured) -> Interval:
    """Certified accuracy by the cell's first evaluation by smoothing, at two standard deviations of the noise.

    NOTHING by a grid that does not decide at this radius.
    """
    spec = next((spec for spec in m.cell.evals if kind(spec.name) == "smoothing"), None)
    radius, decided = 2 * m.cell.threat.sigma, grid(spec) if spec else None
    return NOTHING if decided and radius not in decided else certified_accuracy(radii(of(m, "smoothing")), radius)
