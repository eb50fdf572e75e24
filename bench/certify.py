"""Certify a checkpoint: `python -m bench.certify model.pt --arch resnet20 --sigma 0.25`."""

import json
import sys
import time
import warnings
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Column, Table
from scipy.stats import binomtest, norm

from bench import cells
from bench.attempt import Claim, write
from bench.cells import Spec
from bench.judge import image
from bench.progress import Progress
from bench.specs import spec as resolve
from crt import dist, tsv
from crt.classifier import Classifier
from crt.data import DATASETS, PIPELINES, Dataset, Pipeline
from crt.data.beton import Beton, ensure
from crt.evals.smoothing import Smoothing
from crt.judgement import judge_each
from crt.plugins import find, plugins
from crt.switches import able
from crt.threat import Threat
from crt.weights import load_weights

_STEP = 0.25
"""Between radii of the summary."""


class Precision(StrEnum):
    """Of the network that is certified."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


class Compile(StrEnum):
    """By a mode of torch.compile."""

    off = "off"
    default = "default"
    reduce_overhead = "reduce-overhead"


app = typer.Typer(add_completion=False)


@app.command()
def main(
    checkpoint: Annotated[Path, typer.Argument(help="The weights: a cell's model.pt, or what others trained.")],
    arch: Annotated[str, typer.Option(help="The architecture, by its name in manifests.")],
    sigma: Annotated[float, typer.Option(help="The noise, for pixels in [0, 1].")],
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = "cifar10",
    pipeline: Annotated[str, typer.Option(help="Whose constants the network normalizes with.")] = "crt",
    normalize: Annotated[
        bool | None, typer.Option(help="Whether the network takes normalized pixels, where the file does not tell.")
    ] = None,
    n: Annotated[int, typer.Option(help="Draws that estimate a class's probability.")] = 100_000,
    n0: Annotated[int, typer.Option(help="Draws that select the class.")] = 100,
    alpha: Annotated[float, typer.Option(help="How often a certificate may be wrong.")] = 0.001,
    skip_wrong: Annotated[bool, typer.Option(help="Estimate nothing where the selected class is wrong.")] = True,
    precision: Annotated[Precision, typer.Option(help="What the network computes in.")] = Precision.fp32,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Its weights' order in memory.")] = False,
    compile: Annotated[Compile, typer.Option(help="A mode of torch.compile; pays where images are many.")] = (
        Compile.off
    ),
    batch: Annotated[
        int | None, typer.Option(help="Draws in one forward pass (default: 1000 on a GPU, 100 without).")
    ] = None,
    every: Annotated[int, typer.Option(help="Certify test images 0, EVERY, 2 EVERY, …")] = 1,
    images: Annotated[int | None, typer.Option(help="… and at most this many of them.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The table to begin or go on with (default: in RUNS/certify).")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where tables are kept.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the .beton files are.")] = Path("data"),
) -> None:
    """Certify test images by randomized smoothing; those that the table holds are not certified again."""
    given = dict(n=n, n0=n0, alpha=alpha, skip_wrong=skip_wrong, precision=precision.value)
    given |= dict(channels_last=channels_last, compile=compile != Compile.off and compile.value)
    given |= dict(batch=batch, every=every, images=images)
    console = Console()
    try:
        spec, evaluation = _evaluation(given, sigma)
        able("--", evaluation.precision, evaluation.compile, dist.device(), "fp32, bf16")
        _known("--arch", arch, plugins("crt.archs"))
        _known("--dataset", dataset, DATASETS)
        _known("--pipeline", pipeline, PIPELINES)
        model = _network(arch, DATASETS[dataset], PIPELINES[pipeline])
        digest = load_weights(model, checkpoint, None, normalize=normalize)
        model.eval().to(dist.device())
        test = Beton(ensure(DATASETS[dataset], "test", data))
        settings = {
            "checkpoint": digest,
            "normalize": normalize,
            "arch": arch,
            "dataset": dataset,
            "pipeline": pipeline,
            "seed": seed,
            "sigma": sigma,
            **{key: value for key, value in spec.args.items() if key not in evaluation.execution},
        }
        out = out or runs / "certify" / f"{arch}-{dataset}-{cells.digest(settings)}.tsv"
        title = f"{checkpoint} ({arch}), {spec.label}, sigma {sigma:g}"
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: console.print(f"note: {message}", soft_wrap=True)
            rows = certify(model, evaluation, test, spec.indices(len(test)), settings, out, title)
    except (ValueError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        raise typer.Exit(2) from None
    console.print(title, soft_wrap=True)
    console.print(summary(rows, settings, len(test)))
    console.print(f"{out}: {len(rows)} images", soft_wrap=True)


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


def _known(option: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        raise ValueError(f"{option} {name}: unknown (allowed: {', '.join(sorted(allowed))})")


def _evaluation(given: dict, sigma: float) -> tuple[Spec, Smoothing]:
    if not 0 < sigma < float("inf"):
        raise ValueError(f"--sigma {sigma:g}: smoothing needs sigma > 0")
    threat = Threat(sigma=sigma)
    try:
        spec, kind = resolve("crt.evals", {"Smoothing": given}, threat, "certify")
    except ValueError as error:
        raise ValueError(str(error).replace("certify.Smoothing.", "--")) from None
    return spec, kind(threat=threat, **spec.args)


def _network(arch: str, dataset: Dataset, pipeline: Pipeline) -> Classifier:
    body, width = find("crt.archs", arch)()
    return Classifier(body, width, len(dataset.classes), *pipeline.normalization(dataset), clamp=pipeline.clamp)


def _resume(out: Path, settings: dict) -> dict[int, tsv.Row]:
    """The table's rows by image; ValueError where it was made with other settings, which are kept beside it."""
    beside = out.with_suffix(".json")
    if not out.exists():
        write(beside, json.dumps(settings, indent=1).encode())
    try:
        made = json.loads(beside.read_text())
    except (OSError, ValueError):
        raise ValueError(f"{out}: cannot be gone on with: {beside.name}, with its settings, is missing") from None
    differs = [key for key in settings | made if made.get(key) != settings.get(key)]
    other = [f"{key} {made.get(key)!r}, not {settings.get(key)!r}" for key in differs]
    if other:
        raise ValueError(f"{out}: made with {'; '.join(other)} (allowed: another --out)")
    return {row.idx: row for row in tsv.resume(out)}


if __name__ == "__main__":
    app()
