"""The table of a checkpoint's certificates: made, gone on with, summed up."""

from collections.abc import Sequence
from pathlib import Path

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
from crt.evals.smoothing import Smoothing
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.text import printable
from crt.threat import Threat


def report(
    checkpoint: Checkpoint, asked: dict, sigma: float, seed: int, out: Path | None, runs: Path, data: Path
) -> None:
    """Certify the images that the table does not hold yet, and print its summary.

    `asked` are the arguments of the evaluation, which errors call by the command's options; `out` is the table, by
    default one in `runs` that its settings name. ValueError for what cannot be certified so.
    """
    console = screen.output()
    if not 0 < sigma < float("inf"):
        raise ValueError(f"--sigma {sigma:g}: smoothing needs sigma > 0")
    spec, evaluation = image_table.evaluation("Smoothing", asked, Threat(sigma=sigma))
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
    evaluation: Smoothing,
    test: Beton,
    asked: Sequence[int],
    settings: dict,
    out: Path,
    title: str,
) -> list[smoothing_tsv.Row]:
    """The rows of the images asked for, each appended to the table `out` as it is found if it is not there."""
    claim = image_table.claimed(out, settings)
    rows = {row.idx: row for row in smoothing_tsv.resume(out)}

    def keep(index: int, label: int, found: Judgement, seconds: float) -> str:
        rows[index] = smoothing_tsv.Row(
            idx=index, label=label, predict=found.prediction, radius=found.radius, time=seconds
        )
        with claim.held():
            smoothing_tsv.append(out, rows[index])
        return "skipped" if found.skipped else f"radius {found.radius:.3f}"

    image_table.judge_rest(evaluation, model, test, asked, rows, settings["seed"], title, keep)
    return [rows[index] for index in asked]


def summary(rows: Sequence[smoothing_tsv.Row], settings: dict, available: int) -> Table:
    """Certified accuracy, ACR and cost of the rows, with the choice of images they are."""
    choice = image_table.choice([row.idx for row in rows], available)
    radii = certified_radii((row.correct, row.radius) for row in rows)
    largest = settings["sigma"] * norm.ppf(settings["alpha"] ** (1 / settings["n"]))
    table = Table(Column("", no_wrap=True), Column(choice, no_wrap=True), Column("95 % interval", no_wrap=True))
    for r in np.arange(0, largest, RADIUS_STEP):
        table.add_row(f"% certified at {r:.2f}", *percentage(certified_accuracy(radii, r)))
    table.add_row("ACR", f"{average_certified_radius(radii).mean:.4f}", "")
    skipped = sum(row.predict not in (row.label, -1) for row in rows)
    abstained = percentage(share(row.predict == -1 for row in rows))
    # Of an image that is skipped it is not known whether the estimate would have abstained.
    table.add_row("% abstained", *(("–", "") if settings["skip_wrong"] else abstained))
    table.add_row("images skipped", str(skipped if settings["skip_wrong"] else 0), "")
    table.add_row("images/s", f"{len(rows) / sum(row.time for row in rows):.3g}", "")
    return table
