"""Create, resume and summarize the table of a checkpoint's certificates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Column, Table
from scipy.stats import norm

from bench.command import warnings_as_notes
from bench.commands import image_table, smoothing_tsv
from bench.commands.checkpoint import Checkpoint
from bench.commands.image_table import percentage
from bench.results.accuracy import RADIUS_STEP, average_certified_radius, certified_accuracy, certified_radii, share
from crt import screen
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.base import Evaluation
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.text import printable
from crt.threat import Threat


def report(
    checkpoint: Checkpoint, arguments: dict[str, Any], sigma: float, seed: int, out: Path | None, runs: Path, data: Path
) -> None:
    """Certify the images that the table does not hold yet, and print its summary.

    `arguments` are those of the evaluation; errors name them by the command's options. `out` is the table's file, by
    default one in `runs` named by a digest of the settings. ValueError for a wrong argument or file.
    """
    console = screen.output()
    if not 0 < sigma < float("inf"):
        raise ValueError(f"--sigma {sigma:g}: smoothing needs sigma > 0")
    spec, evaluation = image_table.evaluation("Smoothing", arguments, Threat(sigma=sigma))
    model, digest = checkpoint.load()
    test = Beton(ensure(DATASETS[checkpoint.dataset], "test", data))
    settings = image_table.settings(checkpoint, digest, seed, spec, evaluation, {"sigma": sigma})
    out = out or image_table.table_path(runs, "certify", checkpoint, settings, ".tsv")
    title = f"{printable(str(checkpoint.file))} ({checkpoint.arch}), {spec.label}, sigma {sigma:g}"
    with warnings_as_notes():
        rows = certify(model, evaluation, test, spec.indices(len(test)), settings, out, title)
    console.print(title, soft_wrap=True)
    console.print(summary(rows, settings, len(test)))
    console.print(f"{printable(str(out))}: {len(rows)} images", soft_wrap=True)


def certify(
    model: Classifier,
    evaluation: Evaluation,
    test: Beton,
    indices: Sequence[int],
    settings: dict,
    out: Path,
    title: str,
) -> list[smoothing_tsv.Row]:
    """Rows of the images at `indices`; missing ones are certified and appended to the table `out` one by one."""
    lease = image_table.claimed(out, settings)
    rows = {row.idx: row for row in smoothing_tsv.resume(out)}

    def keep(index: int, label: int, judgement: Judgement, seconds: float) -> str:
        rows[index] = smoothing_tsv.Row(
            idx=index, label=label, predict=judgement.prediction, radius=judgement.radius, time=seconds
        )
        with lease.held():
            smoothing_tsv.append(out, rows[index])
        return "skipped" if judgement.skipped else f"radius {judgement.radius:.3f}"

    image_table.judge_rest(evaluation, model, test, indices, rows, settings["seed"], title, keep)
    return [rows[index] for index in indices]


def summary(rows: Sequence[smoothing_tsv.Row], settings: dict, available: int) -> Table:
    """Table of certified accuracy, ACR and speed of the rows, headed by the choice of images."""
    choice = image_table.choice([row.idx for row in rows], available)
    radii = certified_radii((row.correct, row.radius) for row in rows)
    largest = settings["sigma"] * norm.ppf(settings["alpha"] ** (1 / settings["n"]))
    table = Table(Column("", no_wrap=True), Column(choice, no_wrap=True), Column("95 % interval", no_wrap=True))
    for r in np.arange(0, largest, RADIUS_STEP):
        table.add_row(f"% certified at {r:.2f}", *percentage(certified_accuracy(radii, r)))
    table.add_row("ACR", f"{average_certified_radius(radii).mean:.4f}", "")
    skipped = sum(row.predict not in (row.label, -1) for row in rows)
    abstained = percentage(share(row.predict == -1 for row in rows))
    # It is unknown whether the estimate would have abstained on a skipped image.
    table.add_row("% abstained", *(("–", "") if settings["skip_wrong"] else abstained))
    table.add_row("images skipped", str(skipped if settings["skip_wrong"] else 0), "")
    table.add_row("images/s", f"{len(rows) / sum(row.time for row in rows):.3g}", "")
    return table
