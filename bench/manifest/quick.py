"""`--quick`: one declared reduction, part of a cell's identity, that brings a manifest to minutes on two cores."""

from typing import get_type_hints

from bench.build import cost
from bench.build.cost import forward_flops, forwards, step_flops
from bench.cell import Cell, Monitor, Spec
from bench.manifest.manifest import Manifest
from bench.manifest.plugin_spec import spec as resolve
from crt.data import DATASETS
from crt.plugins import declaration
from crt.threat import Threat

FLOPS = 40e9
"""Per second, of two ordinary cores: a constant, so that the same command names the same cells everywhere."""
TRAIN_SECONDS = 400.0
JUDGE_SECONDS = 200.0
EPOCHS = 5
"""Of few images many epochs: the loss is to be seen falling, and an epoch of them has few steps."""
ROUNDS = 3
JUDGED = (10, 100)
DRAWS = (100, 1000)
TIMED_BATCH = 32
TRAINED_BATCH = 16
LEAST = 64
"""Images, at least."""


def reduce(manifest: Manifest) -> Manifest:
    """The same cells on few images: as many as the counted operations let into the budget."""
    timed = [arm for study in manifest.studies for arm in study.arms] if manifest.timing else []
    trained = list({c.id: c for cell in manifest.trained for c in (*cell.lineage, cell)}.values())
    asked = [(cell, spec) for cell in manifest.cells for spec in cell.evals]
    watched = [(cell, spec) for cell in manifest.cells if cell.monitor for spec in cell.monitor.evals]
    cost.prepare([*map(cost.step, (*timed, *trained)), *(cost.forward(cell) for cell, _ in asked + watched)])
    operations = (2 + ROUNDS) * sum(map(step_flops, timed)) + EPOCHS * sum(map(step_flops, trained))
    images = TRAIN_SECONDS * FLOPS / operations
    most = min(DATASETS[cell.dataset].train_images for cell in (*timed, *trained))
    images = max(LEAST, min(most, int(images) // TIMED_BATCH * TIMED_BATCH))
    batch = TIMED_BATCH if manifest.timing else TRAINED_BATCH
    judged, n = _judged(asked + EPOCHS * watched)
    return manifest.model_copy(
        update={
            "quick": True,
            "timing": manifest.timing and manifest.timing.model_copy(update=dict(runs=1, rounds=ROUNDS, images=images)),
            "cells": tuple(_reduced(cell, images, batch, judged, n) for cell in manifest.cells),
        }
    )


def _judged(asked: list[tuple[Cell, Spec]]) -> tuple[int, int]:
    """Images to judge, and draws of each where an evaluation draws."""
    drawn = sum(forward_flops(cell) for cell, spec in asked if declaration("crt.evals", spec.name).draws)
    least = sum(forwards(cell, _judging(spec, cell.threat, 1, DRAWS[0])) * forward_flops(cell) for cell, spec in asked)
    judged = _between(JUDGED, int(JUDGE_SECONDS * FLOPS / least)) if asked else JUDGED[0]
    more = (JUDGE_SECONDS * FLOPS / judged - least) / drawn if drawn else 0.0
    return judged, _between(DRAWS, (DRAWS[0] + int(more)) // 100 * 100)


def _between(ends: tuple[int, int], value: int) -> int:
    return max(ends[0], min(ends[1], value))


def _reduced(cell: Cell, images: int, batch: int, judged: int, n: int) -> Cell:
    recipe = cell.recipe
    batch = max(cell.ranks, min(recipe.batch_size, images, batch * max(1, round(recipe.batch_size / 128))))
    # Milestones past the last epoch keep the schedule's form and never take effect.
    # The step size goes with the batch: what is right for 256 images makes the loss of 32 rise.
    lr = recipe.lr * batch / recipe.batch_size
    epochs = min(EPOCHS, recipe.epochs)
    short = recipe.model_copy(
        update={"epochs": epochs, "batch_size": batch, "lr": lr, "lr_min": recipe.lr_min * lr / recipe.lr}
    )
    if recipe.decay_from:
        short = short.model_copy(update={"decay_from": max(1, round(recipe.decay_from * epochs / recipe.epochs))})
    return cell.model_copy(
        update={
            "quick": True,
            "images": images,
            "recipe": short,
            "method": _shortened(cell, epochs / recipe.epochs),
            "monitor": cell.monitor and _monitor(cell, judged, n),
            "teacher": _reduced(cell.teacher, images, batch, judged, n) if cell.lineage else cell.teacher,
            "evals": tuple(_judging(spec, cell.threat, judged, n) for spec in cell.evals),
        }
    )


def _shortened(cell: Cell, share: float) -> Spec:
    """The method with those of its arguments that count epochs as much shorter as the recipe."""
    kind, args = cell.build_method(), dict(cell.method.args)
    args |= {key: min(args[key], most) for key, most in kind.quick.items()}
    types = get_type_hints(type(kind))
    for key in kind.epochs_of:
        short = args[key] * share
        args[key] = max(1, round(short)) if types[key] is int else short
    found = resolve("crt.methods", {cell.method.name: args}, cell.threat, cell.method.name)[0]
    return found.model_copy(update={"label": cell.method.label})


def _monitor(cell: Cell, judged: int, n: int) -> Monitor:
    evals = tuple(_judging(spec, cell.threat, judged, n) for spec in cell.monitor.evals)
    return Monitor(every=1, images=judged, evals=evals)


def _judging(spec: Spec, threat: Threat, judged: int, n: int) -> Spec:
    kind = declaration("crt.evals", spec.name)
    args = spec.args | {key: min(spec.args[key], most) for key, most in kind.quick.items()}
    args |= {"images": min(judged, spec.images or judged), "every": spec.every}
    if kind.draws:
        args[kind.draws] = min(n, args[kind.draws])
    return resolve("crt.evals", {spec.name: args}, threat, spec.name)[0]
