"""`--quick`: one declared reduction, part of a cell's identity, that brings a manifest to minutes on two cores."""

from bench.cells import Cell, Manifest, Spec, Timing
from bench.networks import forward_flops, step_flops
from bench.specs import spec as resolve
from crt.data import DATASETS
from crt.threat import Threat

FLOPS = 40e9
"""Per second, of two ordinary cores: a constant, so that the same command names the same cells everywhere."""
TRAIN_SECONDS = 400.0
JUDGE_SECONDS = 200.0
EPOCHS = 2
ROUNDS = 3
JUDGED = (10, 100)
DRAWS = (100, 1000)
SELECTING = 10
BATCH = 32


def reduce(manifest: Manifest) -> Manifest:
    """The same cells on few images: as many as the counted operations let into the budget."""
    if manifest.timing:
        trained = [arm for study in manifest.studies for arm in study.arms]
        passes = 2 + ROUNDS
    else:
        trained = list({c.id: c for cell in manifest.cells for c in (*cell.lineage, cell)}.values())
        passes = EPOCHS
    images = TRAIN_SECONDS * FLOPS / (passes * sum(step_flops(cell) for cell in trained))
    most = min(DATASETS[cell.dataset].train_images for cell in trained)
    images = max(2 * BATCH, min(most, int(images) // BATCH * BATCH))
    draw = sum(forward_flops(cell) for cell in manifest.cells if cell.evals)
    draws = JUDGE_SECONDS * FLOPS / draw if draw else 0.0
    judged = _between(JUDGED, int(draws) // (DRAWS[0] + SELECTING))
    n = _between(DRAWS, (int(draws / judged) - SELECTING) // 100 * 100)
    return manifest.model_copy(
        update={
            "quick": True,
            "timing": Timing(runs=1, rounds=ROUNDS, images=images) if manifest.timing else None,
            "cells": tuple(_reduced(cell, images, judged, n) for cell in manifest.cells),
        }
    )


def _between(ends: tuple[int, int], value: int) -> int:
    return max(ends[0], min(ends[1], value))


def _reduced(cell: Cell, images: int, judged: int, n: int) -> Cell:
    recipe = cell.recipe
    batch = max(cell.ranks, min(recipe.batch_size, BATCH * max(1, round(recipe.batch_size / 128))))
    # Milestones past the last epoch keep the schedule's form and never take effect.
    # The step size goes with the batch: what is right for 256 images makes the loss of 32 rise.
    lr = recipe.lr * batch / recipe.batch_size
    short = recipe.model_copy(update={"epochs": min(EPOCHS, recipe.epochs), "batch_size": batch, "lr": lr})
    return cell.model_copy(
        update={
            "quick": True,
            "images": images,
            "recipe": short,
            "teacher": _reduced(cell.teacher, images, judged, n) if cell.lineage else cell.teacher,
            "evals": tuple(_judging(spec, cell.threat, judged, n) for spec in cell.evals),
        }
    )


def _judging(spec: Spec, threat: Threat, judged: int, n: int) -> Spec:
    args = {**spec.args, "images": min(judged, spec.images or judged), "every": spec.every}
    if "n" in args:
        args["n"] = min(n, args["n"])
        args["n0"] = min(SELECTING, args["n0"])
    return resolve("crt.evals", {spec.name: args}, threat, spec.name)[0]
