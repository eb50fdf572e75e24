"""Header of a report: facts that a reader needs before the numbers."""

import math
from collections.abc import Iterator

import pandas as pd

from bench.manifest.labels import Names, name, settings_in_words, switches_in_words
from bench.manifest.manifest import Manifest
from bench.records import Start
from bench.results.columns import folders
from bench.results.intervals import RUNS
from bench.results.measured import Measured
from bench.results.noise import control_ratio, noise_floor
from bench.results.pairs import RULE, shown
from bench.results.precision import precision
from bench.results.unlike import unlike
from bench.results.warnings import remarks
from reports.render.phrases import factor, from_to, listed
from reports.tables.probabilities import without_counts
from reports.tables.speed import not_reached
from reports.tables.teachers import notes, outside

_BASELINES = {
    "as published": "in its own recipe (as published)",
    "like for like": "at the same global batch size and precision (like for like)",
}
"""Settings of the baseline by the value of the column `pair`."""


def header(manifest: Manifest, measured: list[Measured], frames: dict[str, pd.DataFrame]) -> list[str]:
    """Lines of the header: machines, kinds of interval and ratio, training, and warnings."""
    lines = []
    if manifest.quick:
        lines.append("--quick reduces images, epochs, batch sizes, runs and draws: this is not the paper's experiment.")
    timed = [start for m in measured for start in m.starts]
    trained = [start for m in measured for start in m.trainings]
    lines += dict.fromkeys(map(_machine, timed))
    lines += [f"Trained on: {line}" for line in dict.fromkeys(map(_machine, trained)) if line not in lines]
    taught = [start for m in outside(measured) for start in m.starts]
    lines += [f"Teachers trained on: {line}" for line in dict.fromkeys(map(_machine, taught)) if line not in lines]
    lines += _hosts(measured)
    starts = (*timed, *trained, *taught)
    commits = sorted({f"{s.commit[:10]}{' with uncommitted changes' if s.dirty else ''}" for s in starts if s.commit})
    if commits:
        lines.append(f"Commit: {', '.join(commits)}")
    if timed:
        lines += [*_chosen_notes(measured), *_time_notes(manifest, measured, frames)]
    lines += _training_notes(manifest, measured, frames["timing"])
    lines += _seed_notes(frames) + without_counts(frames["probabilities"])
    pairs = [frames[key] for key in ("means", "factors", "comparisons", "seed_differences")]
    if any(len(shown(frame)) < len(frame) for frame in pairs):
        lines.append(RULE)
    # A study of switches shows no hours.
    hours = notes(measured) if frames["speed"].empty else []
    return [
        *lines,
        *not_reached(manifest, measured),
        *hours,
        *unlike(measured),
        *remarks([*measured, *outside(measured)]),
    ]


def _machine(start: Start) -> str:
    driver = f", driver {start.driver}" if start.driver else ""
    ffcv = f" {start.ffcv}" if start.loader == "ffcv" else ""
    return (
        f"{start.device} ({start.cpu}, {start.threads} of {start.cpus} threads, ranks: {start.world_size}){driver},"
        f" Python {start.python}, torch {start.torch}, loader {start.loader}{ffcv},"
        f" {'fresh processes' if start.process == 'fresh' else 'runs share a process'}"
    )


def _hosts(measured: list[Measured]) -> Iterator[str]:
    """Yield the hosts of each runs folder, where there are several folders, whose records may be someone else's."""
    hosts: dict[str, set[str]] = {}
    for m in measured:
        for start in (*m.starts, *m.trainings, *m.evaluations.values()):
            hosts.setdefault(str(m.folder), set()).update(machine.host for machine in start.machines)
    for folder, names in hosts.items() if len(folders(measured)) > 1 else ():
        yield f"Records in {folder} were measured on {listed(sorted(names), 'hosts')}."


def _chosen_notes(measured: list[Measured]) -> Iterator[str]:
    """Yield the switches that trials chose for cells with `compute: fastest`, in one line."""
    names = Names(m.cell for m in measured)
    cells: dict[str, dict[str, None]] = {}
    for m in measured:
        for choice in m.chosen:
            cells.setdefault(switches_in_words(choice), {})[f"{m.cell.arch} {names.label(m.cell)}"] = None
    if cells:
        choices = "; ".join(f"{words}: {', '.join(labels)}" for words, labels in cells.items())
        yield f"Switches that trials chose (compute: fastest): {choices}."


def _time_notes(manifest: Manifest, measured: list[Measured], frames: dict[str, pd.DataFrame]) -> list[str]:
    timing = frames["timing"]
    runs = max(len(m.runs) for m in measured)
    within = f"variation within one run ({RUNS} or more runs are needed for run-to-run)"
    lines = [
        f"95 % intervals. Times: {f'variation over {runs} runs' if runs >= RUNS else within}. Accuracies: Wilson.",
        f"s/epoch is the time of one pass over the whole dataset{_scaled(measured)}, without warm-up;"
        " training = s/epoch x epochs (computed).",
    ]
    replays = dict.fromkeys(f"{name(m.cell.seedless)} {m.cell.replays} times" for m in measured if m.cell.replays > 1)
    if replays:
        lines.append(
            f"An epoch is one replay of the training set. Replays of each loaded batch: {', '.join(replays)}."
            " s/epoch, images/s, slowdown and ideal count one replay; epochs and hours count all."
        )
    lines += _slowdown_notes(manifest, timing, runs)
    factors = frames["factors"]
    if not factors.empty and frames["speed"].empty:
        lines.append(
            "Factors: passes is the ratio of counted operations per epoch; batch and precision are the baseline's"
            " measured gains from them; host is the rest, which these do not explain."
        )
    if shown(factors)[["batch", "precision"]].isna().any(axis=None):
        lines.append(f"–: {manifest.baseline} was not timed at this batch size or precision, so host is unknown, too.")
    if not frames["speed"].empty:
        lines.append(
            "% of product, % of copy: counted operations and bytes per second, relative to a large matrix product and"
            " a large copy in the same process."
        )
    if timing["unlike"].notna().any():
        lines.append("*: ratio of times that differ in a field, allowed by --allow.")
    return [*lines, *_precision_notes(manifest, measured), *_noise_notes(manifest, measured)]


def _precision_notes(manifest: Manifest, measured: list[Measured]) -> Iterator[str]:
    """Yield the precision that each study of a manifest with `timing.until` has reached."""
    timing = manifest.timing
    if timing is None or timing.until is None:
        return
    asked = f"Precision: ±{100 * timing.until:g} % of every ratio, in at most {timing.most_runs} runs"
    yield f"{asked}; their number follows from the spread of the first {timing.runs} (Stein's two stages)."
    for folder, study in dict.fromkeys((m.folder, m.study) for m in measured):
        arms = [m for m in measured if (m.folder, m.study) == (folder, study)]
        found = precision(next(each for each in manifest.studies if each.id == study), folder)
        place = f"{arms[0].cell.arch}, study {study}"
        if not found.known:
            yield f"{place}: {found.runs} of the first {timing.runs} runs are complete."
        elif found.reached <= timing.until:
            yield f"{place}: ±{100 * found.reached:.2g} % after {found.runs} runs."
        else:
            more = "Raise at_most" if found.runs >= timing.most_runs else "Submit the manifest again"
            yield f"{place}: ±{100 * found.reached:.2g} % after {found.runs} runs, which is not reached. {more}."


def _noise_notes(manifest: Manifest, measured: list[Measured]) -> Iterator[str]:
    """Yield the noise floor of each study with a control."""
    if not manifest.control:
        return
    controls = [(m, ratio) for m in measured if not math.isnan((ratio := control_ratio(m)).low)]
    if not controls:
        yield "Noise floor: unknown, for no control has a ratio with an interval; differences count by intervals alone."
        return
    floors = [f"{100 * noise_floor(m):.1f} % on {m.cell.arch} (its ratio is {factor(r)})" for m, r in controls]
    yield (
        f"Noise floor, the most by which {manifest.baseline} seems to differ from its own control:"
        f" {listed(floors, 'studies')}. *: ratio within the noise floor, which is not called a difference."
    )


def _slowdown_notes(manifest: Manifest, timing: pd.DataFrame, runs: int) -> list[str]:
    settings = " or ".join(_BASELINES[kind] for kind in sorted(timing["pair"].dropna().unique()))
    if not settings:
        return []
    slowdown = f"Slowdown is relative to {manifest.baseline} {settings}"
    if manifest.timing:
        return [f"{slowdown}, paired by round."]
    interval = "No interval: only one run." if runs == 1 else "A cell with only one run has no interval."
    return [f"{slowdown}, unpaired. {interval}"]


def _training_notes(manifest: Manifest, measured: list[Measured], timing: pd.DataFrame) -> list[str]:
    """Notes on the networks that were trained, the choice of their weights, and the evaluation of accuracy at eps."""
    lines = []
    if manifest.timing and any(m.runs for m in measured):
        apart = "; evaluated networks are trained separately" if manifest.trained else ""
        lines.append(f"Timing studies do not train networks to the end, and use untrained teachers{apart}.")
    evaluations = timing["at_eps_by"].dropna().unique()
    if len(evaluations):
        lines.append(f"Accuracy at eps in the table of times: by {', '.join(evaluations)}.")
    for cell in (m.cell for m in measured):
        if cell.select == "best" and cell.monitor:
            images = f"{cell.monitor.images:,}" if cell.monitor.images else "all"
            chosen = (
                f"{name(cell)}: weights of the epoch with the best accuracy at eps by {cell.monitor.evals[0].label} on"
            )
            if cell.held_out:
                lines.append(
                    f"{chosen} {images} training images that were held out; the time of these evaluations is in the"
                    " hours with teacher."
                )
            else:
                lines.append(f"{chosen} {images} test images; this choice raises the accuracies.")
    return [*dict.fromkeys(lines), *_tuning_notes(measured)]


def _tuning_notes(measured: list[Measured]) -> Iterator[str]:
    """Yield the choice of each tuned recipe: a line for each method, with its seeds where they differ."""
    methods: dict[str, list[Measured]] = {}
    for m in measured:
        if m.tuned is not None:
            methods.setdefault(m.cell.seedless.id, []).append(m)
    for trained in methods.values():
        choices: dict[str, list[str]] = {}
        for m in trained:
            choices.setdefault(settings_in_words(m.tuned or {}), []).append(str(m.cell.seed))
        several = len(choices) > 1
        words = [f"{own} (seed {', '.join(seeds)})" if several else own for own, seeds in choices.items()]
        candidate = trained[0].cell.candidates[0]
        judge = candidate.monitor.evals[0].label if candidate.monitor else ""
        yield (
            f"{name(trained[0].cell.seedless)}: {'; '.join(words)}, by the accuracy at eps by {judge} on"
            f" {candidate.held_out:,} training images that were held out. Hours with teacher include these trainings."
        )


def _seed_notes(frames: dict[str, pd.DataFrame]) -> list[str]:
    """Notes on the tables over seeds."""
    if frames["seeds"].empty:
        return []
    tested = frames["seed_differences"]["comparisons"]
    lines = [
        "Over seeds: intervals contain the mean of all trainings and images in 95 % of studies; those of one seed"
        " (Wilson, Newcombe) say nothing of the next training. sd is of the seeds' estimates."
    ]
    if len(tested):
        lines.append(
            f"p (Holm): adjusted for the {from_to(set(tested))} pairs of methods of a setting, collapsed ones too."
            " seeds alone: seeds whose images alone show a difference (McNemar, p < 0.05)."
        )
    return lines


def _scaled(measured: list[Measured]) -> str:
    """The numbers of timed images, where epochs cover a part of the dataset and are scaled to the whole."""
    timed = {
        (epoch.images, m.cell.data.train_images) for m in measured for run in m.runs.values() for epoch in run.values()
    }
    parts = sorted({images for images, whole in timed if images < whole})
    return f", scaled from {', '.join(f'{images:,}' for images in parts)} images" if parts else ""
