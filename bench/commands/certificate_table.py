"""Create, resume and summarize the table of a checkpoint's certificates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Column, Table
from scipy.stats import norm

from bench.command import warnings_as_notes
from bench.commands import image_table, smoothing_tsv, summary, summary_page
from bench.commands.checkpoint import Checkpoint
from bench.commands.image_table import percentage
from bench.commands.summary import EstimateAtRadius, Summary
from bench.results.accuracy import RADIUS_STEP, average_certified_radius, certified_accuracy, certified_radii, share
from crt import screen
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.base import Evaluation
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.text import printable
from crt.threat import Threat

GUARANTEE = (
    "Guarantee: with a probability of 1 - alpha = {probability:.12g} or more for each image, no perturbation smaller in"
    " L2 norm than its certified radius changes the class that the smoothed network gives it."
)
_DRAWN = 201
"""Points of the curve on a page."""


def report(
    checkpoint: Checkpoint,
    arguments: dict[str, Any],
    sigma: float,
    seed: int,
    out: Path | None,
    runs: Path,
    data: Path,
    json: Path | None,
    html: Path | None,
) -> None:
    """Certify the images that the table does not hold yet, print its summary, and write it to `json` and `html`.

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
    summary.check_files({"--json": json, "--html": html}, out, checkpoint.file)
    title = f"{printable(str(checkpoint.file))} ({checkpoint.arch}), {spec.label}, sigma {sigma:g}"
    with warnings_as_notes():
        rows = certify(model, evaluation, test, spec.indices(len(test)), settings, out, title)
    choice = image_table.choice([row.idx for row in rows], len(test))
    fields = summary.common(checkpoint, digest, spec, seed, choice, sum(row.time for row in rows), out)
    result = summarize(rows, sigma, fields)
    console.print(title, soft_wrap=True)
    console.print(_table(result))
    console.print(result.guarantee, soft_wrap=True)
    console.print(f"{printable(str(out))}: {len(rows)} images", soft_wrap=True)
    for file in summary_page.write(result, curve(rows, _largest(sigma, spec.args)), json, html):
        console.print(f"wrote {printable(str(file))}", soft_wrap=True)


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


def summarize(rows: Sequence[smoothing_tsv.Row], sigma: float, fields: dict[str, Any]) -> Summary:
    """Certified accuracy, ACR and abstentions of the rows; `fields` are the common ones of a summary."""
    radii, arguments = _radii(rows), fields["arguments"]
    skipped = sum(row.predict not in (row.label, -1) for row in rows)
    skip_wrong = arguments["skip_wrong"]
    return Summary(
        command="certify",
        guarantee=GUARANTEE.format(probability=1 - arguments["alpha"]),
        proof=True,
        threat={"norm": "l2", "sigma": sigma},
        clean_accuracy=summary.share(share(row.correct for row in rows)),
        certified_accuracy=tuple(
            summary.share_at(radius, certified_accuracy(radii, radius))
            for radius in np.arange(0, _largest(sigma, arguments), RADIUS_STEP)
        ),
        average_certified_radius=summary.mean(average_certified_radius(radii)),
        abstained=None if skip_wrong else summary.share(share(row.predict == -1 for row in rows)),
        images_skipped=skipped if skip_wrong else 0,
        **fields,
    )


def curve(rows: Sequence[smoothing_tsv.Row], largest: float) -> list[EstimateAtRadius]:
    """Certified accuracy at radii from 0 to the largest possible one, to be drawn; empty if it is 0 or constant."""
    radii = _radii(rows)
    if not (radii > 0).any():
        return []
    return [summary.share_at(r, certified_accuracy(radii, r)) for r in np.linspace(0, largest, _DRAWN)]


def _radii(rows: Sequence[smoothing_tsv.Row]) -> np.ndarray:
    return certified_radii((row.correct, row.radius) for row in rows)


def _largest(sigma: float, arguments: dict[str, Any]) -> float:
    """The radius of an image whose class does not change under any draw of noise."""
    return float(sigma * norm.ppf(arguments["alpha"] ** (1 / arguments["n"])))


def _table(result: Summary) -> Table:
    """Certified accuracy, ACR and speed, headed by the choice of images."""
    table = Table(
        Column("", no_wrap=True), Column(result.images.choice, no_wrap=True), Column("95 % interval", no_wrap=True)
    )
    for accuracy in result.certified_accuracy:
        table.add_row(f"% certified at {accuracy.radius:.2f}", *percentage(accuracy))
    acr = result.average_certified_radius
    assert acr is not None
    table.add_row("ACR", f"{acr.estimate:.4f}", "" if acr.low is None else f"[{acr.low:.4f}, {acr.high:.4f}]")
    table.add_row("% abstained", *(percentage(result.abstained) if result.abstained else ("–", "")))
    table.add_row("images skipped", str(result.images_skipped), "")
    table.add_row("images/s", f"{result.images_per_second:.3g}", "")
    return table
