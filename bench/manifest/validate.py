"""Checks that the parts of a cell, and the cells of a timing study, fit each other."""

import json

from bench.build import cost
from bench.build.count_cache import Counts, kept
from bench.cell import Cell, Spec, Weights
from bench.manifest.extras import extras_fit, monitor_place
from bench.manifest.manifest import BARE, FIRST_RUNS, Manifest, Timing
from bench.manifest.messages import check_choice
from bench.manifest.plugin_spec import evaluation
from bench.plain_eager import restates
from crt.data import PIPELINES
from crt.models.image_size import only_side
from crt.plugins import declaration, declared, find, modules


def cell_fits(cell: Cell, where: str) -> None:
    """Raise ValueError if parts of a cell do not fit each other."""
    kind = declaration("crt.methods", cell.method.name)
    name, recipe, share = cell.method.name, cell.recipe, cell.recipe.batch_size // cell.ranks
    if kind.needs_teacher and cell.teacher is None:
        raise ValueError(f"{where}.teacher: missing, and {name} learns from one")
    if cell.teacher is not None and not kind.needs_teacher:
        raise ValueError(f"{where}.teacher: given, but {name} uses none")
    if kind.needs_eps and cell.threat.eps == 0:
        raise ValueError(f"{where}.threat.eps: 0, and {name} attacks within it (allowed: above 0)")
    if recipe.batch_size % cell.ranks:
        raise ValueError(f"{where}.recipe.batch_size: {recipe.batch_size} does not divide by {cell.ranks} ranks")
    if recipe.milestones and (last := recipe.milestones[-1]) >= recipe.epochs:
        raise ValueError(f"{where}.recipe.milestones: {last} (allowed: below {recipe.epochs}, the epochs)")
    if cell.loop == "bare" and (not restates(kind) or cell.ranks > 1):
        methods = ", ".join(key for key, method in sorted(declared("crt.methods").items()) if restates(method))
        raise ValueError(f"{where}.loop: 'bare' (allowed: for {methods} on one rank)")
    if recipe.cuda_graph and (cell.ranks > 1 or cell.loop == "bare"):
        raise ValueError(f"{where}.recipe.cuda_graph: true (allowed: on one rank, not with loop: bare)")
    if (chunks := cell.build_method().chunks) > share:
        raise ValueError(f"{where}.method: splits a batch of {share} in {chunks} parts")
    _teacher_fits_evaluations(cell, where)
    _check_side(cell, where)
    if isinstance(cell.teacher, Weights):
        _check_side(cell.teacher, f"{where}.teacher")
    pipeline, available = PIPELINES[cell.pipeline], cell.data.train_images
    if not pipeline.takes(cell.data):
        raise ValueError(f"{where}.pipeline: {cell.pipeline!r} (for {', '.join(pipeline.datasets or ())} alone)")
    if cell.images and cell.images > available:
        raise ValueError(f"{where}.images: {cell.images} (allowed: at most {available})")
    extras_fit(cell, where)
    if recipe.batch_size > (images := (cell.images or available) - cell.held_out):
        allowed = f"at most {images}, the training images"
        raise ValueError(f"{where}.recipe.batch_size: {recipe.batch_size} (allowed: {allowed})")
    if cell.ranks % cell.nodes:
        raise ValueError(f"{where}.ranks: {cell.ranks} do not spread evenly over {cell.nodes} nodes")


def _teacher_fits_evaluations(cell: Cell, where: str) -> None:
    """Raise ValueError for an evaluation that needs a teacher, in a cell without one or in a monitor."""
    for k, spec in enumerate(cell.evals):
        if cell.teacher is None and evaluation(spec, cell.threat).needs_teacher:
            raise ValueError(
                f"{where}.evals[{k}]: {spec.name} needs a teacher (allowed: with weights and arch of a file)"
            )
    for k, spec in enumerate(cell.monitor.evals if cell.monitor else ()):
        if evaluation(spec, cell.threat).needs_teacher:
            place = monitor_place(where) + (".by" if where.endswith(".tune") else f".evals[{k}]")
            raise ValueError(f"{place}: {spec.name} needs a teacher (allowed: with weights and arch)")


def comparisons_fit(manifest: Manifest) -> None:
    """Raise ValueError for a published comparison of cells that the manifest does not have."""
    for k, comparison in enumerate(manifest.published.comparisons):
        where, methods = f"published.comparisons[{k}]", {cell.method.name for cell in manifest.cells}
        check_choice(comparison.slower, methods, f"{where}.slower")
        check_choice(comparison.faster, methods, f"{where}.faster")
        if comparison.arch is not None:
            check_choice(comparison.arch, {cell.arch for cell in manifest.cells}, f"{where}.arch")


def _check_side(cell: Cell | Weights, where: str) -> None:
    """Raise ValueError if the architecture is marked for images of another size."""
    side = cell.data.shape[1]
    if not _takes(cell.arch, side):
        allowed = sorted(arch for arch in modules("crt.archs") if _takes(arch, side))
        raise ValueError(f"{_wrong_size(cell, where)} (allowed: {', '.join(allowed)})")


def _takes(arch: str, side: int) -> bool:
    """False if the architecture is marked for images of another size."""
    return only_side(declaration("crt.archs", arch)) in (None, side)


def _wrong_size(cell: Cell | Weights, where: str) -> str:
    shape = "x".join(map(str, cell.data.shape))
    return f"{where}.arch: {cell.arch!r} does not take images of {cell.dataset}, {shape}"


def networks_fit(cell: Cell, where: str) -> None:
    """Raise ValueError if a network does not take its images, or a method or evaluation does not take the network.

    Networks are built without storage. None is built, and torch not imported, for methods and evaluations that take
    every network.
    """
    _fits_images(cell, where)
    if isinstance(cell.teacher, Weights):
        _fits_images(cell.teacher, f"{where}.teacher")
    monitored = cell.monitor.evals if cell.monitor else ()
    specs = [spec for spec in (*cell.evals, *monitored) if declaration("crt.evals", spec.name).chooses_networks()]
    if not specs and not declaration("crt.methods", cell.method.name).chooses_networks():
        return
    questions = [[spec.name, spec.args] for spec in specs]
    # A network that fits is remembered, so that torch is not imported for it again; a misfit is found anew each time.
    kept(json.dumps(["fits", cost.plain(cell).model_dump(mode="json"), questions]), lambda: _fit(cell, specs, where))


def _fit(cell: Cell, specs: list[Spec], where: str) -> Counts:
    from bench.build.networks import evaluation as built
    from bench.build.networks import method, untrained

    student, teacher = untrained(cell), untrained(cell.teacher) if cell.teacher else None
    try:
        for user in (method(cell, teacher), *(built(cell, spec) for spec in specs)):
            user.fits(student)
    except ValueError as error:
        raise ValueError(f"{where}.arch: {cell.arch}: {error}") from None
    return {}


def _fits_images(cell: Cell | Weights, where: str) -> None:
    """Raise ValueError if a network fails on an image.

    Only networks that are not marked, and whose name suggests another image size, are tried.
    """
    dataset = cell.data
    marked = only_side(declaration("crt.archs", cell.arch)) is not None
    if marked or dataset.shape[1] == (224 if cell.arch.startswith("imagenet_") else 32):
        return
    import torch

    with torch.device("meta"), torch.no_grad():
        body, width = find("crt.archs", cell.arch)()
        try:
            fits = body.eval()(torch.empty(1, *dataset.shape)).shape == (1, width)
        except RuntimeError:
            fits = False
    if not fits:
        raise ValueError(_wrong_size(cell, where))


def _precision_fits(timing: Timing) -> None:
    """Raise ValueError for a precision without a limit, or with too few first runs to decide how many it needs."""
    if timing.until is None:
        if timing.at_most is not None:
            raise ValueError(f"timing.at_most: {timing.at_most} (allowed: with until, the precision to reach)")
        return
    if timing.at_most is None:
        raise ValueError("timing.at_most: missing, and until needs a limit to the number of runs")
    if timing.runs < FIRST_RUNS:
        allowed = f"with until at least {FIRST_RUNS}, whose spread decides how many follow"
        raise ValueError(f"timing.runs: {timing.runs} (allowed: {allowed})")
    if timing.at_most < timing.runs:
        raise ValueError(f"timing.at_most: {timing.at_most} (allowed: at least {timing.runs}, the first runs)")


def study_fits(manifest: Manifest) -> None:
    """Raise ValueError for a baseline or a timing study that the cells do not allow.

    A timing study needs images for a step, and exactly one baseline cell per group and step key.
    """
    bare = any(cell.loop == "bare" for cell in manifest.cells)
    if manifest.baseline is not None:
        names = {cell.method.name for cell in manifest.cells}
        check_choice(manifest.baseline, names | {BARE} if bare else names, "baseline")
    trained = {cell.id for cell in manifest.trained}
    if only_timed := next((cell for cell in manifest.cells if cell.candidates and cell.id not in trained), None):
        raise ValueError(f"tune: given for {only_timed.id}, which is only timed (allowed: with evals or a monitor)")
    if manifest.timing is None:
        if manifest.control:
            raise ValueError("control: true (allowed: with timing, for a control is timed beside its baseline)")
        if bare:
            raise ValueError("loop: 'bare' (allowed: in a timing study, for it trains nothing to an end)")
        return
    _precision_fits(manifest.timing)
    if manifest.baseline is None:
        raise ValueError("baseline: missing (a timing study needs the method that others are compared with)")
    largest = max(cell.recipe.batch_size for cell in manifest.cells)
    images = manifest.timing.images
    if images and images < largest:
        raise ValueError(f"timing.images: {images} (allowed: at least {largest}, the largest batch)")
    groups: dict[tuple, list[Cell]] = {}
    for cell in manifest.first_seeds:
        groups.setdefault(cell.comparison_group, []).append(cell)
    for cells in groups.values():
        baselines = [cell for cell in cells if manifest.is_baseline(cell)]
        if not baselines or len({cell.step_key for cell in baselines}) < len(baselines):
            where = f"{cells[0].arch}, ranks {cells[0].ranks}, nodes {cells[0].nodes}"
            allowed = "one, or one for each batch size and arithmetic; control: true times it against itself"
            raise ValueError(f"baseline: {where}: {len(baselines)} cells of {manifest.baseline} (allowed: {allowed})")
