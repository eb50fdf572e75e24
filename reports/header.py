"""What stands over a report: what must be known before its numbers are read."""

import pandas as pd

from bench.manifest.labels import name
from bench.manifest.manifest import Manifest
from bench.records import Start
from bench.results.intervals import RUNS
from bench.results.measured import Measured
from bench.results.pairs import RULE, shown
from bench.results.warnings import remarks
from crt.data import DATASETS
from reports.tables.speed import not_reached
from reports.tables.teachers import notes, outside


def head(manifest: Manifest, measured: list[Measured], frames: dict[str, pd.DataFrame]) -> list[str]:
    """Its lines: the machine, the kinds of interval and ratio, what was trained and judged, and what is odd."""
    lines = []
    if manifest.quick:
        lines.append(
            "--quick: a declared reduction of images, epochs, batch, runs and draws; not the paper's experiment."
        )
    timed = [start for m in measured for start in m.starts]
    trained = [start for m in measured for start in m.trainings]
    lines += dict.fromkeys(map(_machine, timed))
    lines += [f"trained on: {line}" for line in dict.fromkeys(map(_machine, trained)) if line not in lines]
    taught = [start for m in outside(measured) for start in m.starts]
    lines += [f"teachers trained on: {line}" for line in dict.fromkeys(map(_machine, taught)) if line not in lines]
    starts = (*timed, *trained, *taught)
    commits = sorted({f"{s.commit[:10]}{' with changes' if s.dirty else ''}" for s in starts if s.commit})
    if commits:
        lines.append(f"commit {', '.join(commits)}")
    if timed:
        lines += _of_times(manifest, measured, frames)
    lines += _of_training(manifest, measured, frames["timing"])
    hidden = [frames[key] for key in ("means", "factors", "comparisons")]
    if any(len(shown(frame)) < len(frame) for frame in hidden):
        lines.append(RULE)
    # What switches bring is shown without hours.
    hours = notes(measured) if frames["speed"].empty else []
    return [*lines, *not_reached(manifest, measured), *hours, *remarks([*measured, *outside(measured)])]


def _machine(start: Start) -> str:
    driver = f", driver {start.driver}" if start.driver else ""
    ffcv = f" {start.ffcv}" if start.loader == "ffcv" else ""
    return (
        f"{start.device} ({start.cpu}, {start.threads} of {start.cpus} threads, ranks: {start.world_size}){driver},"
        f" Python {start.python}, torch {start.torch}, loader {start.loader}{ffcv},"
        f" {'fresh processes' if start.process == 'fresh' else 'runs share a process'}"
    )


def _of_times(manifest: Manifest, measured: list[Measured], frames: dict[str, pd.DataFrame]) -> list[str]:
    timing = frames["timing"]
    runs = max(len(m.runs) for m in measured)
    few = f"within run, for there are fewer than {RUNS} (about the clock, not about the cluster)"
    lines = [
        f"Intervals: 95 %, of times {f'over {runs} runs' if runs >= RUNS else few}, of accuracies Wilson's.",
        f"Seconds are of a whole epoch of the dataset{_scaled(measured)}, warm-up left out;"
        " training = s/epoch x epochs (computed).",
    ]
    replayed = dict.fromkeys(f"{name(m.cell)} takes {m.cell.replays}" for m in measured if m.cell.replays > 1)
    if replayed:
        lines.append(
            f"An epoch is one replay of the training set: of each loaded batch {', '.join(replayed)};"
            " its s/epoch, images/s, slowdown and ideal are of one of them, its epochs and hours of all."
        )
    kinds = " and ".join(sorted(timing["pair"].dropna().unique()))
    if kinds and manifest.timing:
        lines.append(f"Slowdown: of {manifest.baseline}, paired by round ({kinds}: images to a step).")
    elif kinds:
        lines.append(
            f"Slowdown: of {manifest.baseline}, unpaired ({kinds});"
            " a single run tells nothing of how runs differ, so it has no interval."
        )
    if frames["factors"][["batch", "precision"]].isna().any(axis=None):
        lines.append(f"A dash under batch or precision, and so under host: {manifest.baseline} was not timed so.")
    if not frames["speed"].empty:
        lines.append(
            "% of product, % of copy: operations and bytes a second, as counted, of what a large matrix product and a"
            " large copy did in the same process."
        )
    if timing["unlike"].notna().any():
        lines.append("*: a ratio of unlike things, let pass by --allow.")
    return lines


def _of_training(manifest: Manifest, measured: list[Measured], timing: pd.DataFrame) -> list[str]:
    """What was trained, how weights were chosen, and by what accuracy at eps is told."""
    lines = []
    if manifest.timing and any(m.runs for m in measured):
        apart = ", apart from those that were judged" if manifest.trained else ""
        lines.append(f"Times are of networks that were not trained to the end, with untrained teachers{apart}.")
    by = timing["at_eps_by"].dropna().unique()
    if len(by):
        lines.append(f"Accuracy at eps beside a time is by {', '.join(by)}.")
    for cell in (m.cell for m in measured):
        if cell.select == "best":
            images = f"{cell.monitor.images:,}" if cell.monitor.images else "all"
            lines.append(
                f"{name(cell)}: the weights are of the epoch whose accuracy at eps by {cell.monitor.evals[0].label} was"
                f" best on {images} test images; its accuracies are the better for it."
            )
    return list(dict.fromkeys(lines))


def _scaled(measured: list[Measured]) -> str:
    """From how many images an epoch's seconds were brought to the whole set, where not all were timed."""
    timed = {(epoch.images, m.cell.dataset) for m in measured for run in m.runs.values() for epoch in run.values()}
    parts = sorted({images for images, dataset in timed if images < DATASETS[dataset].train_images})
    return f", scaled from {', '.join(f'{images:,}' for images in parts)} images" if parts else ""
