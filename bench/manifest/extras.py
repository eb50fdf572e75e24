"""Checks of what a cell may have beside method and schedule: smoothed labels, averages, initial weights, validation."""

from bench.cell import Cell
from crt.data import DATASETS, PIPELINES
from crt.plugins import declaration, declared


def extras_fit(cell: Cell, where: str) -> None:
    """Raise ValueError for one of them that does not fit the cell."""
    if cell.loop == "bare" and not cell.recipe.restatable:
        key = "label_smoothing" if cell.recipe.label_smoothing else "average"
        raise ValueError(f"{where}.recipe.{key}: given with loop: bare, whose loop has none (allowed: loop: train)")
    if cell.loop == "bare" and cell.candidates:
        raise ValueError(f"{where}.tune: given with loop: bare, which trains nothing to an end (allowed: loop: train)")
    _check_smoothing(cell, where)
    _check_init(cell, where)
    _check_split(cell, where)


def monitor_place(where: str) -> str:
    """The place of a cell's monitor in the manifest: that of a candidate is its block's `tune`."""
    return where if where.endswith(".tune") else f"{where}.monitor"


def _check_init(cell: Cell, where: str) -> None:
    """Raise ValueError for initial weights of another architecture, or for another normalization of the same images."""
    init = cell.init
    if init is None:
        return
    if init.arch != cell.arch:
        raise ValueError(f"{where}.init: of {init.arch!r} (allowed: {cell.arch!r}, the cell's own architecture)")
    own, theirs = (PIPELINES[each.pipeline].normalization(each.data) for each in (cell, init))
    if isinstance(init, Cell) and init.dataset == cell.dataset and own != theirs:
        raise ValueError(
            f"{where}.init: of pipeline {init.pipeline!r}, which normalizes pixels by other constants than"
            f" {cell.pipeline!r} (allowed: one with the cell's)"
        )


def _check_split(cell: Cell, where: str) -> None:
    """Raise ValueError where the images of a validation split cannot be held out."""
    monitor, dataset, place = cell.monitor, cell.data, monitor_place(where)
    if monitor is None or monitor.split == "test":
        return
    if dataset.resize is not None:
        fitting = ", ".join(name for name, each in DATASETS.items() if each.resize is None)
        held = f"{place}.images: held out" if place.endswith(".tune") else f"{place}.split: 'validation'"
        raise ValueError(f"{held} (allowed: for {fitting}, whose images have one size)")
    most = (cell.images or dataset.train_images) - cell.recipe.batch_size
    if monitor.images is None or monitor.images > most:
        allowed = f"at most {most}, which leave a batch of {cell.recipe.batch_size} to train on"
        words = "missing, and split: validation holds so many out" if monitor.images is None else monitor.images
        raise ValueError(f"{place}.images: {words} (allowed: {allowed})")


def _check_smoothing(cell: Cell, where: str) -> None:
    """Raise ValueError for smoothed labels of a method that has no cross-entropy on labels, or gives it no weight."""
    if cell.recipe.label_smoothing == 0 or cell.build_method().has_cross_entropy:
        return
    methods = ", ".join(name for name, kind in sorted(declared("crt.methods").items()) if kind.may_smooth())
    name, value = cell.method.name, f"{cell.recipe.label_smoothing:g}"
    why = " with these arguments" if declaration("crt.methods", name).may_smooth() else ""
    raise ValueError(
        f"{where}.recipe.label_smoothing: {value}, and {name} has no cross-entropy on labels{why}"
        f" (allowed: 0; or below 1 with {methods})"
    )
