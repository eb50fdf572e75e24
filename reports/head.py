"""What stands over a report: what must be known before its numbers are read."""

import pandas as pd

from bench.cells import Manifest
from crt.data import DATASETS
from reports.load import Measured
from reports.remarks import remarks
from reports.stats import RUNS


def head(manifest: Manifest, measured: list[Measured], timing: pd.DataFrame) -> list[str]:
    """Its lines: the machine, the kinds of interval and ratio, and what is odd."""
    starts = [start for m in measured for start in m.starts]
    lines = []
    if manifest.quick:
        lines.append(
            "--quick: a declared reduction of images, epochs, batch, runs and draws; not the paper's experiment."
        )
    for line in dict.fromkeys(
        f"{s.device} ({s.cpu}, {s.threads} of {s.cpus} threads, ranks: {s.world_size}), torch {s.torch},"
        f" loader {s.loader},"
        f" {'fresh processes' if s.process == 'fresh' else 'runs share a process'}"
        for s in starts
    ):
        lines.append(line)
    commits = sorted({f"{s.commit[:10]}{' with changes' if s.dirty else ''}" for s in starts if s.commit})
    if commits:
        lines.append(f"commit {', '.join(commits)}")
    if starts:
        runs = max(len(m.runs) for m in measured)
        few = f"within run, for there are fewer than {RUNS} (about the clock, not about the cluster)"
        lines.append(
            f"Intervals: 95 %, of times {f'over {runs} runs' if runs >= RUNS else few}, of accuracies Wilson's."
        )
        lines.append(
            f"Seconds are of a whole epoch of the dataset{_scaled(measured)}, warm-up left out;"
            " hours = s/epoch x epochs (computed)."
        )
        kinds = " and ".join(sorted(timing["pair"].dropna().unique()))
        if kinds and manifest.timing:
            lines.append(f"Slowdown: of {manifest.baseline}, paired by round ({kinds}: images to a step).")
        elif kinds:
            lines.append(
                f"Slowdown: of {manifest.baseline}, unpaired ({kinds});"
                " a single run tells nothing of how runs differ, so it has no interval."
            )
        if manifest.timing:
            lines.append("Networks were not trained to the end; teachers untrained.")
        if timing["unlike"].notna().any():
            lines.append("*: a ratio of unlike things, let pass by --allow.")
    lines += remarks(measured)
    return lines


def _scaled(measured: list[Measured]) -> str:
    """From how many images an epoch's seconds were brought to the whole set, where not all were timed."""
    timed = {(epoch.images, m.cell.dataset) for m in measured for run in m.runs.values() for epoch in run.values()}
    parts = sorted({images for images, dataset in timed if images < DATASETS[dataset].train_images})
    return f", scaled from {', '.join(f'{images:,}' for images in parts)} images" if parts else ""
