"""The recipe of a cell with candidates: that of the candidate with the best accuracy on held-out images."""

from pathlib import Path

from bench.cell import Cell
from bench.manifest.labels import settings_in_words, settings_of
from bench.records import MonitorPoint, Settings, read
from crt import distributed
from crt.text import printable


def tuned(cell: Cell, runs: Path) -> Settings | None:
    """The settings of the best candidate, the same on every rank; None for a cell without candidates.

    Every rank must call this; rank 0 decides. Of equal candidates, the first is the best. ValueError for a candidate
    that was not evaluated.
    """
    if not cell.candidates:
        return None
    return distributed.gather(_decide(cell, runs) if distributed.rank() == 0 else None)[0]


def _decide(cell: Cell, runs: Path) -> Settings:
    standing = {each.id: _standing(each, runs) for each in cell.candidates}
    best = max(cell.candidates, key=lambda each: standing[each.id])
    chosen = settings_of(best, cell)
    shares = ", ".join(f"{100 * share:.1f}" for share in standing.values())
    words = f"tuned: {settings_in_words(chosen)} (accuracy at eps of the candidates: {shares} %)"
    print(printable(f"{cell.id}: {words}"), flush=True)
    return chosen


def _standing(candidate: Cell, runs: Path) -> float:
    """Accuracy of a trained candidate at eps on its held-out images."""
    file = runs / candidate.id / "train.jsonl"
    points = [record for record in read(file) if isinstance(record, MonitorPoint)]
    last = [point for point in points if point.epoch == candidate.recipe.epochs - 1]
    if not last:
        raise ValueError(
            f"{file}: holds no accuracy after the last epoch (restore it from a copy, or remove its folder and submit"
            " again, and it is trained again)"
        )
    return last[-1].standing
