"""Evaluate a checkpoint image by image into a table, which later calls go on with."""

import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench import cell
from bench.cell import Spec
from bench.commands.checkpoint import Checkpoint
from bench.jobs.evaluate import image
from bench.jobs.lease import RecordLease, write
from bench.jobs.progress import Progress
from bench.manifest.plugin_spec import spec as resolve
from bench.results.statistics import Interval
from crt import distributed
from crt.data.beton_file import Beton
from crt.evals.base import Evaluation, judge_each
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.threat import Threat

Keep = Callable[[int, int, Judgement, float], str]
"""Keeps an image's index, label, judgement and seconds in the table, and says in a word how it went."""


def evaluation(name: str, given: dict, threat: Threat) -> tuple[Spec, Evaluation]:
    """An evaluation by the options of a command; ValueError, which calls arguments by options, for what it is not."""
    try:
        spec, kind = resolve("crt.evals", {name: given}, threat, "command")
    except ValueError as error:
        raise ValueError(str(error).replace(f"command.{name}.", "--").replace(f"command.{name}: ", "")) from None
    built = kind(threat=threat, **spec.args)
    built.check_device("--", distributed.device())
    return spec, built


def settings(checkpoint: Checkpoint, digest: str, seed: int, spec: Spec, built: Evaluation, threat: dict) -> dict:
    """All that a table's rows depend on: the network of SHA-256 `digest`, the seed, the arguments, the threat."""
    bearing = {key: value for key, value in spec.args.items() if key not in built.execution}
    return checkpoint.settings(digest) | {"seed": seed} | bearing | threat


def table_path(runs: Path, command: str, checkpoint: Checkpoint, settings: dict, suffix: str) -> Path:
    """Default path of a table: its settings name it."""
    return runs / command / f"{checkpoint.arch}-{checkpoint.dataset}-{cell.digest(settings)}{suffix}"


def claimed(out: Path, settings: dict) -> RecordLease:
    """The right to write the table; ValueError where it was made with other settings, which are kept beside it."""
    beside = out.with_suffix(".json")
    if out.suffix in (".json", ".claim"):
        raise ValueError(f"--out {out}: beside a table are its .json and its .claim (allowed: another suffix)")
    claim = RecordLease(out)
    if not out.exists():
        write(beside, json.dumps(settings, indent=1).encode())
    try:
        made = {**json.loads(beside.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        raise ValueError(f"{out}: cannot be gone on with: {beside.name}, with its settings, is missing") from None
    differs = [key for key in settings | made if made.get(key) != settings.get(key)]
    other = [f"{key} {made.get(key)!r}, not {settings.get(key)!r}" for key in differs]
    if other:
        raise ValueError(f"{out}: made with {'; '.join(other)} (allowed: another --out)")
    return claim


def judge_rest(
    built: Evaluation,
    model: Classifier,
    test: Beton,
    asked: Sequence[int],
    done: Collection[int],
    seed: int,
    title: str,
    keep: Keep,
) -> None:
    """Judge the images asked for that are not done, and keep each as it is found, with a bar of progress."""
    left = [index for index in asked if index not in done]
    questions = ((image(test, index), int(test.labels[index]), (seed, index)) for index in left)
    with Progress(title, len(asked), len(asked) - len(left), "image") as progress:
        began = time.perf_counter()
        for index, found in zip(left, judge_each(built, model, questions), strict=True):
            progress.step(keep(index, int(test.labels[index]), found, time.perf_counter() - began))
            began = time.perf_counter()


def choice(indices: Sequence[int], available: int) -> str:
    """How many images of those available, and which."""
    few = f"{', '.join(map(str, indices[:2]))}, …, {indices[-1]}" if len(indices) > 3 else ", ".join(map(str, indices))
    return f"{len(indices):,} of {available:,} images: {few}"


def percentage(share: Interval) -> tuple[str, str]:
    """A share in percent, and its 95 % interval."""
    return f"{100 * share.mean:.1f}", f"[{100 * share.low:.1f}, {100 * share.high:.1f}]"
