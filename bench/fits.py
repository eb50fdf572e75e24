"""What the parts of a cell, and the cells of a timing study, must be to one another."""

from functools import cache

import torch

from bench.cells import Cell, Weights
from bench.networks import evaluation, method, network
from bench.tables import Manifest
from crt.data import DATASETS, PIPELINES
from crt.method import Method
from crt.plugins import find, plugins


def cell_fits(cell: Cell, kind: type[Method], where: str) -> None:
    """ValueError that names what of a cell, whose method is a `kind`, does not go with the rest of it."""
    name, recipe, share = cell.method.name, cell.recipe, cell.recipe.batch_size // cell.ranks
    if kind.needs_teacher and cell.teacher is None:
        raise ValueError(f"{where}.teacher: missing, and {name} learns from one")
    if cell.teacher is not None and not kind.needs_teacher:
        raise ValueError(f"{where}.teacher: given, but {name} has no use for one")
    if kind.needs_eps and cell.threat.eps == 0:
        raise ValueError(f"{where}.threat.eps: 0, and {name} attacks within it (allowed: above 0)")
    if recipe.batch_size % cell.ranks:
        raise ValueError(f"{where}.recipe.batch_size: {recipe.batch_size} does not divide by {cell.ranks} ranks")
    if recipe.milestones and (last := recipe.milestones[-1]) >= recipe.epochs:
        raise ValueError(f"{where}.recipe.milestones: {last} (allowed: below {recipe.epochs}, the epochs)")
    if cell.loop == "bare" and (name != "Standard" or cell.ranks > 1):
        raise ValueError(f"{where}.loop: 'bare' (allowed: for Standard on one rank)")
    if recipe.cuda_graph and (cell.ranks > 1 or cell.loop == "bare"):
        raise ValueError(f"{where}.recipe.cuda_graph: true (allowed: on one rank, not of a bare loop)")
    chunks = kind(threat=cell.threat, **cell.method.args).chunks
    if chunks > share:
        raise ValueError(f"{where}.method: splits a batch of {share} in {chunks} parts")
    _takes(cell, where)
    if isinstance(cell.teacher, Weights):
        _takes(cell.teacher, f"{where}.teacher")
    _network_fits(cell, kind, where)
    pipeline, there = PIPELINES[cell.pipeline], DATASETS[cell.dataset].train_images
    if cell.dataset not in pipeline.datasets:
        raise ValueError(f"{where}.pipeline: {cell.pipeline!r} (for {', '.join(pipeline.datasets)} alone)")
    if cell.images and cell.images > there:
        raise ValueError(f"{where}.images: {cell.images} (allowed: at most {there})")
    if recipe.batch_size > (images := cell.images or there):
        allowed = f"at most {images}, the training images"
        raise ValueError(f"{where}.recipe.batch_size: {recipe.batch_size} (allowed: {allowed})")
    if cell.ranks % cell.nodes:
        raise ValueError(f"{where}.ranks: {cell.ranks} do not spread evenly over {cell.nodes} nodes")


def _takes(cell: Cell | Weights, where: str) -> None:
    if not _can_take(cell.arch, cell.dataset):
        shape = "x".join(map(str, DATASETS[cell.dataset].shape))
        allowed = ", ".join(arch for arch in sorted(plugins("crt.archs")) if _can_take(arch, cell.dataset))
        raise ValueError(
            f"{where}.arch: {cell.arch!r} does not take images of {cell.dataset}, {shape} (allowed: {allowed})"
        )


@cache
def _can_take(arch: str, dataset: str) -> bool:
    """Whether images of the dataset's size can go through the network."""
    large = DATASETS[dataset].resize is not None
    if arch.startswith("imagenet_") == large:
        # Made for that size and tested on it; torch's first use of `meta` takes a second.
        return True
    with torch.device("meta"), torch.no_grad():
        body, width = find("crt.archs", arch)()
        try:
            return body.eval()(torch.empty(1, *DATASETS[dataset].shape)).shape == (1, width)
        except RuntimeError:
            return False


def _network_fits(cell: Cell, kind: type[Method], where: str) -> None:
    """Ask the method and the evaluations that choose among networks; none is built for those that take any."""
    watched = cell.monitor.evals if cell.monitor else ()
    asked = [evaluation(cell, spec) for spec in (*cell.evals, *watched)]
    judging = [one for one in asked if hasattr(one, "fits")]
    if not judging and kind.fits is Method.fits:
        return
    with torch.device("meta"):
        student, teacher = network(cell), network(cell.teacher) if cell.teacher else None
    try:
        for one in (method(cell, teacher), *judging):
            one.fits(student)
    except ValueError as error:
        raise ValueError(f"{where}.arch: {cell.arch}: {error}") from None


def study_fits(manifest: Manifest) -> None:
    """ValueError where a timing study has no whole step, or not one cell that others are compared with."""
    largest = max(cell.recipe.batch_size for cell in manifest.cells)
    if manifest.timing.images and manifest.timing.images < largest:
        raise ValueError(f"timing.images: {manifest.timing.images} (allowed: at least {largest}, the largest batch)")
    groups: dict[tuple, list[Cell]] = {}
    for cell in manifest.cells:
        groups.setdefault(cell.kin, []).append(cell)
    for cells in groups.values():
        there = [cell for cell in cells if manifest.is_baseline(cell)]
        kinds = {cell.footing for cell in there}
        if not there or len(kinds) < len(there):
            where = f"{cells[0].arch}, ranks {cells[0].ranks}, nodes {cells[0].nodes}"
            allowed = "one, or one a batch size and arithmetic"
            raise ValueError(f"baseline: {where}: {len(there)} cells of {manifest.baseline} (allowed: {allowed})")
