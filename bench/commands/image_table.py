"""Evaluate a checkpoint image by image into a table, which later calls resume."""

import json
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bench import cell
from bench.cell import Spec
from bench.commands.checkpoint import Checkpoint
from bench.commands.summary import Estimate, Images
from bench.jobs.evaluate import image
from bench.jobs.lease import RecordLease, write
from bench.jobs.progress import Progress
from bench.manifest.plugin_spec import spec as resolve
from crt import distributed
from crt.data.beton_file import Beton
from crt.evals.base import Evaluation, judge_each
from crt.judgement import Judgement
from crt.models.classifier import Classifier
from crt.plugins import find
from crt.threat import Threat

Keep = Callable[[int, int, Judgement, float], str]
"""Appends an image's index, label, judgement and seconds to the table; returns a word on the result."""


def evaluation(name: str, given: dict, threat: Threat) -> tuple[Spec, Evaluation]:
    """Spec and evaluation with the arguments of a command; ValueError, which names the options, for a wrong one."""
    try:
        spec = resolve("crt.evals", {name: given}, threat, "command")
    except ValueError as error:
        raise ValueError(str(error).replace(f"command.{name}.", "--").replace(f"command.{name}: ", "")) from None
    built = find("crt.evals", name)(threat=threat, **spec.args)
    built.check_device("--", distributed.device())
    return spec, built


def settings(checkpoint: Checkpoint, digest: str, seed: int, spec: Spec, built: Evaluation, threat: dict) -> dict:
    """Everything that a table's rows depend on: the network with SHA-256 `digest`, seed, arguments and threat."""
    relevant = {key: value for key, value in spec.args.items() if key not in built.execution}
    return checkpoint.settings(digest) | {"seed": seed} | relevant | threat


def table_path(runs: Path, command: str, checkpoint: Checkpoint, settings: dict, suffix: str) -> Path:
    """Default path of a table, with a digest of its settings."""
    return runs / command / f"{checkpoint.arch}-{checkpoint.dataset}-{cell.digest(settings)}{suffix}"


def claimed(out: Path, settings: dict) -> RecordLease:
    """Lease to write the table; ValueError if its settings, which are kept in a JSON file next to it, are different."""
    settings_file = out.with_suffix(".json")
    if out.suffix in (".json", ".claim"):
        raise ValueError(f"--out {out}: .json and .claim are files next to a table (allowed: another suffix)")
    lease = RecordLease(out)
    if not out.exists():
        write(settings_file, json.dumps(settings, indent=1).encode())
    try:
        stored = {**json.loads(settings_file.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        raise ValueError(
            f"{out}: cannot be resumed: {settings_file.name}, which holds its settings, is missing"
        ) from None
    changed = [key for key in settings | stored if stored.get(key) != settings.get(key)]
    differences = [f"{key} {stored.get(key)!r}, not {settings.get(key)!r}" for key in changed]
    if differences:
        raise ValueError(f"{out}: made with {'; '.join(differences)} (allowed: another --out)")
    return lease


def judge_rest(
    built: Evaluation,
    model: Classifier,
    test: Beton,
    indices: Sequence[int],
    done: Collection[int],
    seed: int,
    title: str,
    keep: Keep,
) -> None:
    """Judge the images at `indices` that are not done, and keep each result at once, with a progress bar."""
    remaining = [index for index in indices if index not in done]
    questions = ((image(test, index), int(test.labels[index]), (seed, index)) for index in remaining)
    with Progress(title, len(indices), len(indices) - len(remaining), "image") as progress:
        began = time.perf_counter()
        for index, judgement in zip(remaining, judge_each(built, model, questions), strict=True):
            progress.step(keep(index, int(test.labels[index]), judgement, time.perf_counter() - began))
            began = time.perf_counter()


def choice(indices: Sequence[int], available: int) -> Images:
    """The judged images, out of those available."""
    few = f"{', '.join(map(str, indices[:2]))}, …, {indices[-1]}" if len(indices) > 3 else ", ".join(map(str, indices))
    words = f"{len(indices):,} of {available:,} images: {few}"
    return Images(evaluated=len(indices), available=available, choice=words)


def percentage(share: Estimate) -> tuple[str, str]:
    """A share in percent, and its interval; a dash and nothing where there is none."""
    if share.estimate is None or share.low is None or share.high is None:
        return "–", ""
    return f"{100 * share.estimate:.1f}", f"[{100 * share.low:.1f}, {100 * share.high:.1f}]"
