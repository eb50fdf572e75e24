"""The table of a checkpoint's certificates: made, gone on with, summed up."""

import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Column, Table
from scipy.stats import binomtest, norm

from bench import cells
from bench.attempt import Claim, write
from bench.cells import Spec
from bench.checkpoint import Checkpoint
from bench.judge import image
from bench.progress import Progress
from bench.specs import spec as resolve
from crt import dist, screen, tsv
from crt.classifier import Classifier
from crt.data import DATASETS
from crt.data.beton_file import Beton, ensure
from crt.evals.smoothing import Smoothing
from crt.judgement import judge_each
from crt.switches import able
from crt.text import printable
from crt.threat import Threat

_STEP = 0.25
"""Between radii of the summary."""


def report(
    checkpoint: Checkpoint, asked: dict, sigma: float, seed: int, out: Path | None, runs: Path, data: Path
) -> None:
    """Certify the images that the table does not hold yet, and print its summary.

    `asked` are the arguments of the evaluation, which errors call by the command's options; `out` is the table, by
    default one in `runs` that its settings name. ValueError for what cannot be certified so.
    """
    console = screen.output()
    spec, evaluation = _evaluation(asked, sigma)
    able("--", evaluation.precision, evaluation.compile, dist.device(), "fp32, bf16")
    model, digest = checkpoint.load()
    test = Beton(ensure(DATASETS[checkpoint.dataset], "test", data))
    bearing = {key: value for key, value in spec.args.items() if key not in evaluation.execution}
    settings = checkpoint.settings(digest) | {"seed": seed, "sigma": sigma} | bearing
    out = out or runs / "certify" / f"{checkpoint.arch}-{checkpoint.dataset}-{cells.digest(settings)}.tsv"
    title = f"{printable(str(checkpoint.file))} ({checkpoint.arch}), {spec.label}, sigma {sigma:g}"
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: console.print(f"note: {printable(str(message))}", soft_wrap=True)
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
) -> list[tsv.Row]:
    """The rows of the images asked for, each appended to the table `out` as it is found if it is not there."""
    claim = Claim(out)
    rows = _resume(out, settings)
    left = [index for index in asked if index not in rows]
    questions = ((image(test, index), int(test.labels[index]), (settings["seed"], index)) for index in left)
    with Progress(title, len(asked), len(asked) - len(left), "image") as progress:
        began = time.perf_counter()
        for index, found in zip(left, judge_each(evaluation, model, questions), strict=True):
            rows[index] = tsv.Row(
                idx=index,
                label=int(test.labels[index]),
                predict=found.prediction,
                radius=found.radius,
                time=time.perf_counter() - began,
            )
            with claim.held():
                tsv.append(out, rows[index])
            progress.step("skipped" if found.skipped else f"radius {found.radius:.3f}")
            began = time.perf_counter()
    return [rows[index] for index in asked]


def summary(rows: Sequence[tsv.Row], settings: dict, available: int) -> Table:
    """Certified accuracy, ACR and cost of the rows, with the choice of images they are."""
    indices = [row.idx for row in rows]
    few = f"{', '.join(map(str, indices[:2]))}, …, {indices[-1]}" if len(indices) > 3 else ", ".join(map(str, indices))
    choice = f"{len(rows):,} of {available:,} images: {few}"
    radii = np.array([row.radius if row.correct else -1.0 for row in rows])
    largest = settings["sigma"] * norm.ppf(settings["alpha"] ** (1 / settings["n"]))
    table = Table(Column("", no_wrap=True), Column(choice, no_wrap=True), Column("95 % interval", no_wrap=True))
    for r in np.arange(0, largest, _STEP):
        table.add_row(f"% certified at {r:.2f}", *_share(int((radii >= r).sum()), len(rows)))
    table.add_row("ACR", f"{radii.clip(0).mean():.4f}", "")
    skipped = sum(row.predict not in (row.label, -1) for row in rows)
    abstained = _share(sum(row.predict == -1 for row in rows), len(rows))
    # Of an image that is skipped it is not known whether the estimate would have abstained.
    table.add_row("% abstained", *(("–", "") if settings["skip_wrong"] else abstained))
    table.add_row("images skipped", str(skipped if settings["skip_wrong"] else 0), "")
    table.add_row("images/s", f"{len(rows) / sum(row.time for row in rows):.3g}", "")
    return table


def _share(count: int, total: int) -> tuple[str, str]:
    ends = binomtest(count, total).proportion_ci(method="wilson")
    return f"{100 * count / total:.1f}", f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}]"


def _evaluation(given: dict, sigma: float) -> tuple[Spec, Smoothing]:
    if not 0 < sigma < float("inf"):
        raise ValueError(f"--sigma {sigma:g}: smoothing needs sigma > 0")
    threat = Threat(sigma=sigma)
    try:
        spec, _ = resolve("crt.evals", {"Smoothing": given}, threat, "certify")
    except ValueError as error:
        raise ValueError(str(error).replace("certify.Smoothing.", "--")) from None
    return spec, Smoothing(threat=threat, **spec.args)


def _resume(out: Path, settings: dict) -> dict[int, tsv.Row]:
    """The table's rows by image; ValueError where it was made with other settings, which are kept beside it."""
    beside = out.with_suffix(".json")
    if not out.exists():
        write(beside, json.dumps(settings, indent=1).encode())
    try:
        made = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{out}: cannot be gone on with: {beside.name}, with its settings, is missing") from None
    differs = [key for key in settings | made if made.get(key) != settings.get(key)]
    other = [f"{key} {made.get(key)!r}, not {settings.get(key)!r}" for key in differs]
    if other:
        raise ValueError(f"{out}: made with {'; '.join(other)} (allowed: another --out)")
    return {row.idx: row for row in tsv.resume(out)}
