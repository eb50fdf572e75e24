"""`--quick`: a declared reduction of a manifest to a few minutes on two cores. It is part of a cell's id."""

from typing import get_type_hints

from bench.build import cost
from bench.build.cost import forward_flops, forwards, step_flops
from bench.cell import Cell, Monitor, Spec
from bench.manifest.manifest import Manifest
from bench.manifest.plugin_spec import spec as resolve
from crt.plugins import declaration
from crt.threat import Threat

FLOPS = 40e9
"""Operations per second of two ordinary cores: a constant, so that a command yields the same cell ids everywhere."""
TRAIN_SECONDS = 400.0
JUDGE_SECONDS = 200.0
EPOCHS = 5
"""Few images need several epochs before the loss visibly drops."""
ROUNDS = 3
_FEW = {"runs": 1, "rounds": ROUNDS, "until": None, "at_most": None}
JUDGED = (10, 100)
DRAWS = (100, 1000)
TIMED_BATCH = 32
TRAINED_BATCH = 16
LEAST = 64
"""Smallest number of training images."""


def reduce(manifest: Manifest) -> Manifest:
    """The same cells on as many images as fit the time budget by the counted operations."""
    timed = [arm for study in manifest.studies for arm in study.arms] if manifest.timing else []
    trained = list({c.id: c for cell in manifest.trained for c in (*cell.ancestors, cell)}.values())
    evaluated = [(cell, spec) for cell in manifest.cells for spec in cell.evals]
    monitored = [(cell, spec) for cell in manifest.cells if cell.monitor for spec in cell.monitor.evals]
    cost.prepare([*map(cost.step, (*timed, *trained)), *(cost.forward(cell) for cell, _ in evaluated + monitored)])
    operations = (2 + ROUNDS) * sum(map(step_flops, timed)) + EPOCHS * sum(map(step_flops, trained))
    images = TRAIN_SECONDS * FLOPS / operations
    most = min(cell.data.train_images for cell in (*timed, *trained))
    images = min(most, max(LEAST, int(images) // TIMED_BATCH * TIMED_BATCH))
    batch = TIMED_BATCH if manifest.timing else TRAINED_BATCH
    judged, n = _judged(evaluated + EPOCHS * monitored)
    return manifest.model_copy(
        update={
            "quick": True,
            "timing": manifest.timing and manifest.timing.model_copy(update=_FEW | {"images": images}),
            "cells": tuple(_reduced(cell, images, batch, judged, n) for cell in manifest.cells),
        }
    )


def _judged(evaluations: list[tuple[Cell, Spec]]) -> tuple[int, int]:
    """Number of images to judge, and of noise samples per image for evaluations that draw noise."""
    per_draw = sum(forward_flops(cell) for cell, spec in evaluations if declaration("crt.evals", spec.name).draws)
    per_image = sum(
        forwards(cell, _judging(spec, cell.threat, 1, DRAWS[0])) * forward_flops(cell) for cell, spec in evaluations
    )
    judged = _between(JUDGED, int(JUDGE_SECONDS * FLOPS / per_image)) if evaluations else JUDGED[0]
    extra = (JUDGE_SECONDS * FLOPS / judged - per_image) / per_draw if per_draw else 0.0
    return judged, _between(DRAWS, (DRAWS[0] + int(extra)) // 100 * 100)


def _between(ends: tuple[int, int], value: int) -> int:
    return max(ends[0], min(ends[1], value))


def _reduced(cell: Cell, images: int, batch: int, judged: int, n: int) -> Cell:
    recipe, monitor = cell.recipe, cell.monitor and _monitor(cell.monitor, cell.threat, images, judged, n)
    left = images - (monitor.images or 0) if cell.held_out and monitor else images
    batch = max(cell.ranks, min(recipe.batch_size, left, batch * max(1, round(recipe.batch_size / 128))))
    # Milestones past the last epoch are kept and never take effect.
    # The learning rate scales with the batch size: the rate for 256 images makes the loss rise with 32.
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
            "monitor": monitor,
            "candidates": tuple(_reduced(each, images, batch, judged, n) for each in cell.candidates),
            **{
                key: _reduced(network, images, batch, judged, n) if isinstance(network, Cell) else network
                for key, network in (("teacher", cell.teacher), ("init", cell.init))
            },
            "evals": tuple(_judging(spec, cell.threat, judged, n) for spec in cell.evals),
        }
    )


def _shortened(cell: Cell, share: float) -> Spec:
    """The method with its arguments in epochs shortened by `share`, as the recipe is."""
    kind, args = cell.build_method(), dict(cell.method.args)
    args |= {key: min(args[key], most) for key, most in kind.quick.items()}
    types = get_type_hints(type(kind))
    for key in kind.epochs_of:
        short = args[key] * share
        args[key] = max(1, round(short)) if types[key] is int else short
    spec = resolve("crt.methods", {cell.method.name: args}, cell.threat, cell.method.name)
    return spec.model_copy(update={"label": cell.method.label})


def _monitor(monitor: Monitor, threat: Threat, images: int, judged: int, n: int) -> Monitor:
    """The monitor with few images to judge; a quarter of the training images, at most, is held out."""
    evals = tuple(_judging(spec, threat, judged, n) for spec in monitor.evals)
    most = min(judged, images // 4, monitor.images or judged) if monitor.split == "validation" else judged
    return monitor.model_copy(update={"every": 1, "images": most, "evals": evals})


def _judging(spec: Spec, threat: Threat, judged: int, n: int) -> Spec:
    kind = declaration("crt.evals", spec.name)
    args = spec.args | {key: min(spec.args[key], most) for key, most in kind.quick.items()}
    args |= {"images": min(judged, spec.images or judged), "every": spec.every}
    if kind.draws:
        args[kind.draws] = min(n, args[kind.draws])
    return resolve("crt.evals", {spec.name: args}, threat, spec.name)
